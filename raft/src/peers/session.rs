//! The other end of a stream: requests come in, local replicas answer.
//!
//! ```text
//!   introduction ─▶ admitted? ─▶ pieces ─▶ request ─┬▶ append: its session's lane,
//!        │ no                                       │  in order, pipelined
//!        ▼                                          └▶ anything else: by itself
//!     refusal, end                                       │
//!                 replies, in pieces ◀───────────────────┘
//! ```
//!
//! Reads no further while too much is being worked on: the sender then waits.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, FuturesUnordered, SelectAll};
use futures_util::{FutureExt, Stream, StreamExt};
use openraft::raft::AppendEntriesRequest;
use prost::Message;
use quipu_protocol::peer::{self, Frame, Piece, Refusal, Reply, Request, frame, refusal as refused, reply, request};
use quipu_protocol::{LogId, NodeId, ReplicaId};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Status, Streaming};

use super::bounds::{MAX_HANDLED, MAX_HANDLED_BYTES, MAX_LANES, OPEN_DEADLINE, PIECE_BYTES};
use super::link::Lane as Which;
use super::load::{Load, Served};
use super::pieces::{Arrived, Flow, Incoming, Outgoing};
use super::readings::Readings;
use super::registry::Endpoint;
use super::{Peers, convert, refusal};
use crate::types::TypeConfig;

/// Serves one stream until it ends, or until this node parts from its peers.
pub(super) async fn serve(
    peers: Arc<Peers>,
    which: Which,
    inbound: Streaming<Frame>,
    outbound: mpsc::Sender<Result<Frame, Status>>,
) {
    let mut parted = peers.parted.subscribe();
    tokio::select! {
        biased;
        _ = parted.wait_for(|parted| *parted) => {}
        () = converse(peers, which, inbound, outbound) => {}
    }
}

async fn converse(
    peers: Arc<Peers>,
    which: Which,
    mut inbound: Streaming<Frame>,
    outbound: mpsc::Sender<Result<Frame, Status>>,
) {
    let admitted = match peers.environment().clock.timeout(OPEN_DEADLINE, inbound.message()).await {
        Ok(Ok(Some(Frame { kind: Some(frame::Kind::Introduction(from)) }))) => peers.admit(&from).map(|()| from.node),
        // It never said who it is; nobody waits for an answer.
        Ok(Err(_) | Ok(None)) | Err(_) => return,
        Ok(Ok(Some(_))) => Err(refusal(refused::Reason::Malformed, "a stream begins with an introduction")),
    };
    let first = match &admitted {
        Ok(_) => frame::Kind::Introduction(peers.me()),
        Err(refusal) => frame::Kind::Refusal(refusal.clone()),
    };
    if outbound.send(Ok(Frame { kind: Some(first) })).await.is_err() {
        return;
    }
    match admitted {
        Ok(node) => {
            let mut served = Served::begin(&peers.served, NodeId::new(node), which);
            let session = Session::new(Arc::clone(&peers), NodeId::new(node), which, &served, inbound, outbound);
            let why = tokio::select! {
                biased;
                () = served.replaced() => "the peer has opened another".to_owned(),
                why = session.run() => why,
            };
            tracing::debug!(node, %why, "stream of peer ended");
        }
        Err(refusal) => tracing::warn!(reason = %refusal.message, "peer refused"),
    }
}

/// One admitted stream.
struct Session {
    peers: Arc<Peers>,
    node: NodeId,
    which: Which,
    load: Arc<Load>,
    inbound: Streaming<Frame>,
    outbound: mpsc::Sender<Result<Frame, Status>>,
    readings: Readings,
    incoming: Incoming,
    outgoing: Outgoing,
    /// Receipts to be sent, by request.
    receipts: Vec<u64>,
    handled: Handled,
    handlers: FuturesUnordered<BoxFuture<'static, Answered>>,
    lanes: BTreeMap<u64, Lane>,
    /// The newest lane of each.
    current_lanes: BTreeMap<LaneKey, u64>,
    last_lane: u64,
    lane_events: SelectAll<BoxStream<'static, LaneEvent>>,
}

/// What is being worked on.
#[derive(Default)]
struct Handled {
    sizes: BTreeMap<u64, usize>,
    bytes: usize,
}

/// The appends of one group, from one replica to another.
type LaneKey = (LogId, ReplicaId, ReplicaId);

/// The appends of one session.
struct Lane {
    session: u64,
    /// Where they go in; none once the session has ended.
    entrance: Option<mpsc::UnboundedSender<AppendEntriesRequest<TypeConfig>>>,
    /// Their requests, in order.
    unanswered: VecDeque<u64>,
}

/// The answer to a lane's next append, or its end.
struct LaneEvent {
    lane: u64,
    answer: Option<reply::Kind>,
}

struct Answered {
    request: u64,
    kind: reply::Kind,
}

impl Session {
    fn new(
        peers: Arc<Peers>,
        node: NodeId,
        which: Which,
        served: &Served,
        inbound: Streaming<Frame>,
        outbound: mpsc::Sender<Result<Frame, Status>>,
    ) -> Self {
        Self {
            peers,
            node,
            which,
            load: Arc::clone(&served.load),
            inbound,
            outbound,
            readings: Readings::default(),
            incoming: Incoming::default(),
            outgoing: Outgoing::default(),
            receipts: Vec::new(),
            handled: Handled::default(),
            handlers: FuturesUnordered::new(),
            lanes: BTreeMap::new(),
            current_lanes: BTreeMap::new(),
            last_lane: 0,
            lane_events: SelectAll::new(),
        }
    }

    /// Serves until the stream ends, and says why it did.
    async fn run(mut self) -> String {
        loop {
            if let Err(why) = self.step().await {
                return why;
            }
            self.tell_load();
        }
    }

    async fn step(&mut self) -> Result<(), String> {
        let sending = !self.outgoing.is_empty() || !self.receipts.is_empty();
        tokio::select! {
            biased;
            permit = self.outbound.clone().reserve_owned(), if sending => {
                let permit = permit.map_err(|_| "the peer is gone".to_owned())?;
                if let Some(mut piece) = next_piece(&mut self.receipts, &mut self.outgoing) {
                    if self.which == Which::Control {
                        let clock = &self.peers.environment().clock;
                        let now = clock.monotonic();
                        piece.clock = self.readings.next(now, clock.wall(), || self.peers.clock().known(now));
                    }
                    permit.send(Ok(Frame { kind: Some(frame::Kind::Piece(piece)) }));
                }
            }
            Some(answered) = self.handlers.next() => self.answer(answered),
            Some(event) = self.lane_events.next() => self.lane_event(event),
            frame = self.inbound.message(), if self.has_room() => {
                let frame = frame.map_err(|status| status.message().to_owned())?;
                self.receive(frame.ok_or("the peer ended the stream")?)?;
            }
        }
        Ok(())
    }

    fn tell_load(&self) {
        let (unfinished, unfinished_bytes) = self.incoming.unfinished();
        self.load.handled.set(self.handled.sizes.len());
        self.load.handled_bytes.set(self.handled.bytes);
        self.load.unfinished.set(unfinished);
        self.load.unfinished_bytes.set(unfinished_bytes);
        self.load.replies.set(self.outgoing.len());
        self.load.receipts.set(self.receipts.len());
        self.load.lanes.set(self.lanes.len());
    }

    /// Whether to read on: a peer that does not read its answers is not asked
    /// for more, either.
    fn has_room(&self) -> bool {
        self.handled.has_room() && self.outgoing.len() < MAX_HANDLED && self.receipts.len() < MAX_HANDLED
    }

    fn receive(&mut self, frame: Frame) -> Result<(), String> {
        let Some(frame::Kind::Piece(piece)) = frame.kind else {
            return Err("the peer sent what is no request".to_owned());
        };
        if piece.body.len() > PIECE_BYTES {
            return Err(format!("a piece of {} bytes is over the bound of {PIECE_BYTES}", piece.body.len()));
        }
        if let Some(clock) = &piece.clock {
            let now = self.peers.environment().clock.monotonic();
            if let Some(seen) = self.readings.take(clock, now) {
                self.peers.clocks_seen(self.node, seen);
            }
        }
        match self.incoming.take(piece).map_err(|error| error.to_string())? {
            Arrived::Part { request } => self.receipts.push(request),
            Arrived::Abandoned { .. } => {}
            Arrived::Whole { request, body } => self.handle(request, body),
        }
        if self.lanes.len() >= MAX_LANES {
            return Err(format!("max_lanes is {MAX_LANES}"));
        }
        Ok(())
    }

    fn handle(&mut self, id: u64, body: Bytes) {
        self.handled.begin(id, body.len());
        let refuse = |reason, why: String| Answered { request: id, kind: reply::Kind::Refusal(refusal(reason, why)) };
        let malformed = |why: String| refuse(refused::Reason::Malformed, why);
        let request = match Request::decode(body) {
            Ok(request) if request.recovery_generation == 0 => request,
            Ok(request) => {
                return self.answer(malformed(format!("recovery generation {} is not 0", request.recovery_generation)));
            }
            Err(error) => return self.answer(malformed(error.to_string())),
        };
        let to = Address::of(&request);
        match request.kind {
            None => self.answer(malformed("a request of an unknown kind".to_owned())),
            Some(request::Kind::Append(append)) if append.session != 0 => {
                let session = append.session;
                match convert::receive_append(append) {
                    Ok(append) => self.enter_lane(id, to, session, append),
                    Err(error) => self.answer(malformed(error.to_string())),
                }
            }
            Some(kind) => {
                let peers = Arc::clone(&self.peers);
                let handler = async move {
                    let kind = match to.find(&peers).await {
                        Ok(endpoint) => answer_one(&*endpoint, kind).await,
                        Err(refusal) => reply::Kind::Refusal(refusal),
                    };
                    Answered { request: id, kind }
                };
                self.handlers.push(handler.boxed());
            }
        }
    }

    /// Appends of one session are handed to the replica in the order of their
    /// arrival, without waiting for each other's answers.
    fn enter_lane(&mut self, id: u64, to: Address, session: u64, append: AppendEntriesRequest<TypeConfig>) {
        let current = self.current_lanes.get(&to.key()).copied();
        let current = current.filter(|number| self.lanes.get(number).is_some_and(|lane| lane.session == session));
        let number = current.unwrap_or_else(|| self.open_lane(to, session));
        let Some(lane) = self.lanes.get_mut(&number) else { return };
        match &lane.entrance {
            Some(entrance) => {
                lane.unanswered.push_back(id);
                // Should the other end be gone, the lane's end answers for it.
                let _ = entrance.send(append);
            }
            None => self.answer(Answered { request: id, kind: reply::Kind::Refusal(session_ended()) }),
        }
    }

    /// Opens a lane for a session, in place of the one for the session before.
    fn open_lane(&mut self, to: Address, session: u64) -> u64 {
        self.last_lane += 1;
        let number = self.last_lane;
        // Unbounded by itself: what is in it counts as handled.
        let (entrance, entered) = mpsc::unbounded_channel();
        self.lanes.insert(number, Lane { session, entrance: Some(entrance), unanswered: VecDeque::new() });
        self.lane_events.push(lane(Arc::clone(&self.peers), number, to, entered).boxed());
        if let Some(before) = self.current_lanes.insert(to.key(), number) {
            match self.lanes.get_mut(&before) {
                Some(lane) if lane.entrance.is_some() => lane.entrance = None,
                _ => drop(self.lanes.remove(&before)),
            }
        }
        number
    }

    fn lane_event(&mut self, event: LaneEvent) {
        let Some(lane) = self.lanes.get_mut(&event.lane) else { return };
        match event.answer {
            Some(kind) => {
                if let Some(request) = lane.unanswered.pop_front() {
                    self.answer(Answered { request, kind });
                }
            }
            None => {
                // The current lane stays, shut, to refuse what still comes of
                // its session.
                lane.entrance = None;
                let unanswered = std::mem::take(&mut lane.unanswered);
                if !self.current_lanes.values().any(|number| *number == event.lane) {
                    self.lanes.remove(&event.lane);
                }
                for request in unanswered {
                    self.answer(Answered { request, kind: reply::Kind::Refusal(session_ended()) });
                }
            }
        }
    }

    fn answer(&mut self, answered: Answered) {
        self.handled.end(answered.request);
        let body = Reply { kind: Some(answered.kind) }.encode_to_vec();
        self.outgoing.push(Flow(answered.request), answered.request, body.into());
    }
}

fn next_piece(receipts: &mut Vec<u64>, outgoing: &mut Outgoing) -> Option<Piece> {
    match receipts.pop() {
        Some(request) => Some(Piece { request, ..Piece::default() }),
        None => outgoing.next(|_| true),
    }
}

impl Handled {
    fn begin(&mut self, request: u64, bytes: usize) {
        self.bytes += bytes;
        // A request id that is used again counts for both.
        *self.sizes.entry(request).or_default() += bytes;
    }

    fn end(&mut self, request: u64) {
        self.bytes -= self.sizes.remove(&request).unwrap_or_default();
    }

    fn has_room(&self) -> bool {
        self.sizes.len() < MAX_HANDLED && (self.bytes < MAX_HANDLED_BYTES || self.sizes.is_empty())
    }
}

/// What a request is meant for.
#[derive(Clone, Copy)]
struct Address {
    group: LogId,
    from: ReplicaId,
    to: ReplicaId,
    catalog_version: u64,
}

impl Address {
    fn of(request: &Request) -> Self {
        Self {
            group: LogId::new(request.group),
            from: ReplicaId::new(request.from),
            to: ReplicaId::new(request.to),
            catalog_version: request.catalog_version,
        }
    }

    fn key(&self) -> LaneKey {
        (self.group, self.from, self.to)
    }

    async fn find(&self, peers: &Peers) -> Result<Arc<dyn Endpoint>, Refusal> {
        peers.registry().find(self.group, self.to, self.catalog_version).await
    }
}

/// What comes of a lane: an answer to each append in their order, until one
/// fails or no more can come.
fn lane(
    peers: Arc<Peers>,
    number: u64,
    to: Address,
    entered: mpsc::UnboundedReceiver<AppendEntriesRequest<TypeConfig>>,
) -> impl Stream<Item = LaneEvent> + Send {
    let entered = UnboundedReceiverStream::new(entered);
    let answers = async move {
        match to.find(&peers).await {
            Ok(endpoint) => {
                let kind = |answer| match answer {
                    Ok(answer) => reply::Kind::Appended(convert::send_appended(answer)),
                    Err(why) => reply::Kind::Refusal(stopped(why)),
                };
                endpoint.append_all(entered.boxed()).map(kind).boxed()
            }
            Err(refusal) => entered.map(move |_| reply::Kind::Refusal(refusal.clone())).boxed(),
        }
    };
    let ended = futures_util::stream::iter([LaneEvent { lane: number, answer: None }]);
    let answered = move |answer| LaneEvent { lane: number, answer: Some(answer) };
    answers.into_stream().flatten().map(answered).chain(ended)
}

async fn answer_one(endpoint: &dyn Endpoint, kind: request::Kind) -> reply::Kind {
    match try_answer(endpoint, kind).await {
        Ok(kind) => kind,
        Err(refusal) => reply::Kind::Refusal(refusal),
    }
}

async fn try_answer(endpoint: &dyn Endpoint, kind: request::Kind) -> Result<reply::Kind, Refusal> {
    let malformed = |error: convert::Unreadable| refusal(refused::Reason::Malformed, error.to_string());
    Ok(match kind {
        request::Kind::Append(append) => {
            let pulse = append.pulse;
            let answer = endpoint.append(convert::receive_append(append).map_err(malformed)?).await.map_err(stopped)?;
            if let Some(pulse) = pulse {
                endpoint.hear(pulse);
            }
            reply::Kind::Appended(peer::Appended { stamp: endpoint.stamp(), ..convert::send_appended(answer) })
        }
        request::Kind::Vote(vote) => {
            let answer = endpoint.vote(convert::receive_vote(vote).map_err(malformed)?).await.map_err(stopped)?;
            reply::Kind::Vote(convert::send_vote_reply(&answer))
        }
        request::Kind::PreVote(vote) => {
            let answer = endpoint.pre_vote(convert::receive_vote(vote).map_err(malformed)?).await.map_err(stopped)?;
            reply::Kind::PreVote(convert::send_vote_reply(&answer))
        }
        request::Kind::Snapshot(snapshot) => {
            let (vote, snapshot) = convert::receive_snapshot(snapshot).map_err(malformed)?;
            let answer = endpoint.install(vote, snapshot).await.map_err(stopped)?;
            reply::Kind::Snapshot(peer::SnapshotReply { ballot: Some(convert::ballot(&answer.vote)) })
        }
        request::Kind::TransferLeader(transfer) => {
            let transfer = convert::receive_transfer(transfer).map_err(malformed)?;
            let refused = endpoint.transfer(transfer).await.map_err(stopped)?.unwrap_or_default();
            reply::Kind::TransferLeader(peer::TransferLeaderReply { refused })
        }
    })
}

fn session_ended() -> Refusal {
    refusal(refused::Reason::Stopped, "an earlier append of the session failed, or a newer session has begun")
}

fn stopped(why: String) -> Refusal {
    refusal(refused::Reason::Stopped, why)
}
