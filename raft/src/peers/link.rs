//! This node's end of one stream to one peer: calls go in, replies come out.
//!
//! ```text
//!        ┌──────── the first call ◀───────────┐
//!        ▼                                     │
//!   opening ── introductions ──▶ open ── breaks: what is under way fails
//!        └──── fails ──▶ paused, refusing calls ──▶ idle
//! ```
//!
//! A control call has a deadline. A data call has one that starts anew with
//! every piece that arrives, so that a large append over a slow link lives and
//! a dead link is noticed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{self, Either};
use quipu_protocol::NodeId;
use quipu_protocol::environment::{Clock, Task};
use quipu_protocol::peer::peers_client::PeersClient;
use quipu_protocol::peer::{Frame, frame};
use quipu_protocol::transport::{self, ChannelOptions};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::Peers;
use super::bounds::{
    FIRST_BACKOFF, LONGEST_BACKOFF, MAX_CALLS, MAX_MESSAGE_BYTES, MAX_QUEUED_BYTES, OPEN_DEADLINE, STREAM_QUEUE,
};
use super::pieces::{Arrived, Flow, Incoming, Outgoing};

/// Which of the two streams to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lane {
    /// What must never wait.
    Control,
    /// What may be large.
    Data,
}

/// A call that got no reply. Whether the peer acted on it is not known, unless
/// the error says that it was never sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallError {
    /// There is no stream to the peer, or it broke.
    #[error("{0}")]
    Unreachable(String),
    /// The peer did not answer, or took in no more, for this long.
    #[error("no reply and no progress for {0:?}")]
    Timeout(Duration),
    /// Too much waits for this peer. Never sent.
    #[error("{bound} is {limit}")]
    Overloaded {
        /// The bound's name.
        bound: &'static str,
        /// The bound.
        limit: u64,
    },
}

/// A stream to a peer, opened when it is used. Clones use the same one; it ends
/// with the last.
#[derive(Clone)]
pub(crate) struct Link {
    calls: mpsc::Sender<Call>,
    clock: Arc<dyn Clock>,
    deadline: Duration,
    queued_bytes: Arc<AtomicU64>,
    progress: Arc<Stamp>,
    _task: Arc<Task>,
}

struct Call {
    flow: Flow,
    body: Bytes,
    reply: oneshot::Sender<Result<Bytes, CallError>>,
    state: Arc<CallState>,
    _room: Room,
}

/// What the caller sees of its call while it waits.
struct CallState {
    /// When the peer last took in a piece of it, or the link one of ours.
    progress: Stamp,
    /// Whether all of it has left.
    sent: AtomicBool,
}

/// A moment of the monotonic clock, in microseconds.
#[derive(Default)]
struct Stamp(AtomicU64);

impl Stamp {
    fn set(&self, now: Duration) {
        self.0.store(u64::try_from(now.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn get(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::Relaxed))
    }
}

/// A share of the link's queue; given back when dropped.
struct Room {
    bytes: u64,
    queued: Arc<AtomicU64>,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.queued.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Link {
    pub(super) fn start(peers: &Arc<Peers>, node: NodeId, lane: Lane) -> Self {
        let (calls, receiver) = mpsc::channel(MAX_CALLS);
        let clock = Arc::clone(&peers.environment.clock);
        let deadline = match lane {
            Lane::Control => peers.deadlines.control,
            Lane::Data => peers.deadlines.data,
        };
        let progress = Arc::new(Stamp::default());
        let end = End {
            peers: Arc::downgrade(peers),
            node,
            lane,
            clock: Arc::clone(&clock),
            deadline,
            calls: receiver,
            progress: Arc::clone(&progress),
        };
        let task = peers.environment.tasks.spawn("peer-link", Box::pin(end.run()));
        Self { calls, clock, deadline, queued_bytes: Arc::default(), progress, _task: Arc::new(task) }
    }

    /// Queues a call, after those that were queued on the same flow before, and
    /// returns its reply to be waited for. Dropping that gives the call up.
    pub(super) fn call(
        &self,
        flow: Flow,
        body: Bytes,
        lane: Lane,
    ) -> impl Future<Output = Result<Bytes, CallError>> + Send + use<> {
        let state = Arc::new(CallState { progress: Stamp::default(), sent: AtomicBool::new(false) });
        let started = self.clock.monotonic();
        state.progress.set(started);
        let (reply, answer) = oneshot::channel();
        let queued = self.enqueue(flow, body, reply, Arc::clone(&state));
        let (clock, deadline, link) = (Arc::clone(&self.clock), self.deadline, Arc::clone(&self.progress));
        async move {
            queued?;
            let mut answer = answer;
            loop {
                let since = match lane {
                    Lane::Control => started,
                    // While it waits for its turn, the link's progress counts.
                    Lane::Data if !state.sent.load(Ordering::Relaxed) => state.progress.get().max(link.get()),
                    Lane::Data => state.progress.get(),
                };
                let left = (since + deadline).saturating_sub(clock.monotonic());
                if left.is_zero() {
                    return Err(CallError::Timeout(deadline));
                }
                match future::select(&mut answer, clock.sleep(left)).await {
                    Either::Left((Ok(reply), _)) => return reply,
                    Either::Left((Err(_), _)) => return Err(CallError::Unreachable("the link ended".to_owned())),
                    Either::Right(_) => {}
                }
            }
        }
    }

    fn enqueue(
        &self,
        flow: Flow,
        body: Bytes,
        reply: oneshot::Sender<Result<Bytes, CallError>>,
        state: Arc<CallState>,
    ) -> Result<(), CallError> {
        let over = |bound, limit| Err(CallError::Overloaded { bound, limit });
        if body.len() > MAX_MESSAGE_BYTES {
            return over("max_message_bytes", MAX_MESSAGE_BYTES as u64);
        }
        let bytes = body.len() as u64;
        let before = self.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        let room = Room { bytes, queued: Arc::clone(&self.queued_bytes) };
        if before > 0 && before + bytes > MAX_QUEUED_BYTES {
            return over("max_queued_bytes", MAX_QUEUED_BYTES);
        }
        match self.calls.try_send(Call { flow, body, reply, state, _room: room }) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => over("max_calls", MAX_CALLS as u64),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(CallError::Unreachable("the link ended".to_owned())),
        }
    }
}

/// The task behind a link.
struct End {
    peers: Weak<Peers>,
    node: NodeId,
    lane: Lane,
    clock: Arc<dyn Clock>,
    deadline: Duration,
    calls: mpsc::Receiver<Call>,
    progress: Arc<Stamp>,
}

impl End {
    async fn run(mut self) {
        let mut failures: u32 = 0;
        while let Some(first) = self.calls.recv().await {
            let (why, served) = match self.open().await {
                Ok((outbound, inbound)) => {
                    let stream = Stream::new(&mut self, outbound, inbound);
                    stream.serve(first).await
                }
                Err(why) => {
                    let _ = first.reply.send(Err(CallError::Unreachable(why.clone())));
                    (why, false)
                }
            };
            failures = if served { 0 } else { failures + 1 };
            tracing::debug!(node = self.node.get(), lane = ?self.lane, %why, failures, "link to peer down");
            if self.peers.strong_count() == 0 || !self.pause(failures, &why).await {
                return;
            }
        }
    }

    /// Opens the stream and exchanges introductions.
    async fn open(&self) -> Result<(mpsc::Sender<Frame>, Streaming<Frame>), String> {
        let peers = self.peers.upgrade().ok_or("this node is shutting down")?;
        let address = peers.address(self.node).ok_or_else(|| format!("node {}'s address is not known", self.node))?;
        let channel = transport::channel(&peers.environment, &address, ChannelOptions::default())
            .map_err(|error| error.to_string())?;
        let mut client = PeersClient::new(channel);
        let (outbound, frames) = mpsc::channel(STREAM_QUEUE);
        let introduction = Frame { kind: Some(frame::Kind::Introduction(peers.me())) };
        outbound.try_send(introduction).map_err(|error| error.to_string())?;
        let opening = async {
            let frames = ReceiverStream::new(frames);
            let reply = match self.lane {
                Lane::Control => client.control(frames).await,
                Lane::Data => client.data(frames).await,
            };
            let mut inbound = reply.map_err(|status| format!("{address}: {}", status.message()))?.into_inner();
            let first = inbound.message().await.map_err(|status| format!("{address}: {}", status.message()))?;
            match first.and_then(|frame| frame.kind) {
                Some(frame::Kind::Introduction(from)) if NodeId::new(from.node) == self.node => {
                    peers.admit(&from).map_err(|refusal| refusal.message)?;
                    Ok(inbound)
                }
                Some(frame::Kind::Introduction(from)) => {
                    Err(format!("{address} is node {}, not node {}", from.node, self.node))
                }
                Some(frame::Kind::Refusal(refusal)) => Err(format!("{address} refuses: {}", refusal.message)),
                _ => Err(format!("{address} did not introduce itself")),
            }
        };
        let opened: Result<Result<_, String>, _> = self.clock.timeout(OPEN_DEADLINE, opening).await;
        let inbound = opened.map_err(|_| format!("{address} did not answer within {OPEN_DEADLINE:?}"))??;
        Ok((outbound, inbound))
    }

    /// Waits before the stream is opened again; calls fail meanwhile. False
    /// when the link is given up.
    async fn pause(&mut self, failures: u32, why: &str) -> bool {
        let longest = LONGEST_BACKOFF.min(FIRST_BACKOFF * 2u32.saturating_pow(failures.min(8)));
        let Some(peers) = self.peers.upgrade() else { return false };
        let wait = peers.environment.random.jittered(longest);
        drop(peers);
        let mut wait = self.clock.sleep(wait);
        loop {
            let call = std::pin::pin!(self.calls.recv());
            match future::select(&mut wait, call).await {
                Either::Left(_) => return true,
                Either::Right((Some(call), _)) => {
                    let _ = call.reply.send(Err(CallError::Unreachable(why.to_owned())));
                }
                Either::Right((None, _)) => return false,
            }
        }
    }
}

/// An open stream.
struct Stream<'a> {
    end: &'a mut End,
    outbound: mpsc::Sender<Frame>,
    inbound: Streaming<Frame>,
    outgoing: Outgoing,
    incoming: Incoming,
    pending: BTreeMap<u64, Pending>,
    next_request: u64,
    /// When the peer was last heard of, or something was first asked of it.
    heard: Duration,
    answered: bool,
}

struct Pending {
    reply: oneshot::Sender<Result<Bytes, CallError>>,
    state: Arc<CallState>,
    _room: Room,
}

impl<'a> Stream<'a> {
    fn new(end: &'a mut End, outbound: mpsc::Sender<Frame>, inbound: Streaming<Frame>) -> Self {
        let heard = end.clock.monotonic();
        Self {
            end,
            outbound,
            inbound,
            outgoing: Outgoing::default(),
            incoming: Incoming::default(),
            pending: BTreeMap::new(),
            next_request: 1,
            heard,
            answered: false,
        }
    }

    /// Serves calls until the stream breaks; tells why it did, and whether any
    /// call was answered.
    async fn serve(mut self, first: Call) -> (String, bool) {
        self.take(first);
        let why = loop {
            if let Err(why) = self.step().await {
                break why;
            }
        };
        for pending in std::mem::take(&mut self.pending).into_values() {
            let _ = pending.reply.send(Err(CallError::Unreachable(why.clone())));
        }
        (why, self.answered)
    }

    async fn step(&mut self) -> Result<(), String> {
        // Half the deadline, so that a silent peer is noticed soon after it.
        let check = self.end.clock.sleep(self.end.deadline / 2);
        let sending = !self.outgoing.is_empty();
        tokio::select! {
            biased;
            frame = self.inbound.next() => self.receive(frame),
            room = self.outbound.clone().reserve_owned(), if sending => {
                self.send(room.map_err(|_| "the stream was closed".to_owned())?);
                Ok(())
            }
            call = self.end.calls.recv(), if self.pending.len() < MAX_CALLS => match call {
                Some(call) => {
                    self.take(call);
                    Ok(())
                }
                None => Err("the link ended".to_owned()),
            },
            () = check, if !self.pending.is_empty() => self.check(),
        }
    }

    /// Sends the next piece.
    fn send(&mut self, room: mpsc::OwnedPermit<Frame>) {
        let pending = &self.pending;
        let wanted = |request| pending.get(&request).is_some_and(|it: &Pending| !it.reply.is_closed());
        let Some(piece) = self.outgoing.next(wanted) else { return };
        let now = self.end.clock.monotonic();
        if let Some(pending) = self.pending.get(&piece.request) {
            pending.state.progress.set(now);
            pending.state.sent.store(piece.last, Ordering::Relaxed);
        }
        self.end.progress.set(now);
        room.send(Frame { kind: Some(frame::Kind::Piece(piece)) });
    }

    fn take(&mut self, call: Call) {
        if call.reply.is_closed() {
            return;
        }
        let now = self.end.clock.monotonic();
        if self.pending.is_empty() {
            self.heard = now;
        }
        let request = self.next_request;
        self.next_request += 1;
        self.outgoing.push(call.flow, request, call.body);
        self.pending.insert(request, Pending { reply: call.reply, state: call.state, _room: call._room });
    }

    fn receive(&mut self, frame: Option<Result<Frame, tonic::Status>>) -> Result<(), String> {
        let frame = match frame {
            Some(Ok(frame)) => frame,
            Some(Err(status)) => return Err(status.message().to_owned()),
            None => return Err("the peer ended the stream".to_owned()),
        };
        self.heard = self.end.clock.monotonic();
        self.end.progress.set(self.heard);
        let piece = match frame.kind {
            Some(frame::Kind::Piece(piece)) => piece,
            Some(frame::Kind::Refusal(refusal)) => return Err(refusal.message),
            _ => return Err("the peer sent what is no reply".to_owned()),
        };
        if let Some(pending) = self.pending.get(&piece.request) {
            pending.state.progress.set(self.heard);
        }
        if piece.body.is_empty() && !piece.last {
            // A receipt for a piece of a request.
            return Ok(());
        }
        if let Arrived::Whole { request, body } = self.incoming.take(piece).map_err(|error| error.to_string())? {
            self.answered = true;
            if let Some(pending) = self.pending.remove(&request) {
                let _ = pending.reply.send(Ok(body));
            }
        }
        Ok(())
    }

    /// Forgets calls that nobody waits for, and gives the stream up when the
    /// peer has been silent for too long while something was asked of it.
    fn check(&mut self) -> Result<(), String> {
        let silent = self.end.clock.monotonic().saturating_sub(self.heard);
        if !self.pending.is_empty() && silent >= self.end.deadline * 2 {
            return Err(format!("node {} has been silent for {silent:?}", self.end.node));
        }
        self.pending.retain(|_, pending| !pending.reply.is_closed());
        Ok(())
    }
}
