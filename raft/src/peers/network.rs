//! openraft's network over the links: one group's way to each of its replicas.
//!
//! Heartbeats and votes go by control. Everything on a group's replication
//! stream goes by data, in its order, several under way at a time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::stream::{self, FuturesOrdered};
use futures_util::{FutureExt, Stream, StreamExt};
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable};
use openraft::network::{Backoff, RPCOption, RPCTypes, RaftNetworkFactory, RaftNetworkV2, stream_append_sequential};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderError,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{EntryPayload, RaftTypeConfig};
use prost::Message;
use quipu_protocol::peer::{self, Reply, Request, reply, request};
use quipu_protocol::{LogId, NodeId, ReplicaId};

use super::Peers;
use super::bounds::{FIRST_BACKOFF, LONGEST_BACKOFF, MAX_APPEND_BYTES_IN_FLIGHT, MAX_APPENDS_IN_FLIGHT};
use super::convert::{self, RaftSnapshot};
use super::link::{CallError, Lane};
use super::matched::Matched;
use super::pieces::Flow;
use crate::types::{Member, TypeConfig, Vote};

type RpcError = RPCError<TypeConfig>;

const POISONED: &str = "a holder of this lock panicked";

/// One local replica's way to the others of its group.
#[derive(Clone)]
pub(crate) struct GroupNetwork {
    peers: Arc<Peers>,
    group: LogId,
    from: ReplicaId,
    sessions: Arc<AtomicU64>,
}

impl GroupNetwork {
    pub(crate) fn new(peers: Arc<Peers>, group: LogId, from: ReplicaId) -> Self {
        Self { peers, group, from, sessions: Arc::new(AtomicU64::new(1)) }
    }

    fn to(&self, target: u64, member: &Member, lane: Lane) -> ReplicaLink {
        ReplicaLink {
            peers: Arc::clone(&self.peers),
            group: self.group,
            from: self.from,
            to: ReplicaId::new(target),
            node: member.node,
            lane,
            sessions: Arc::clone(&self.sessions),
            matched: Mutex::default(),
            echo: Arc::default(),
        }
    }
}

impl RaftNetworkFactory<TypeConfig> for GroupNetwork {
    type Network = ReplicaLink;

    async fn new_client(&mut self, target: u64, node: &Member) -> ReplicaLink {
        self.to(target, node, Lane::Data)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &Member) -> ReplicaLink {
        self.to(target, node, Lane::Control)
    }
}

/// The way from one replica to another.
pub(crate) struct ReplicaLink {
    peers: Arc<Peers>,
    group: LogId,
    from: ReplicaId,
    to: ReplicaId,
    node: NodeId,
    /// Where its appends go.
    lane: Lane,
    sessions: Arc<AtomicU64>,
    matched: Mutex<Matched>,
    /// The stamp of the last answer to a heartbeat; 0 before.
    echo: Arc<AtomicU64>,
}

/// Requests whose order is kept on a lane.
#[derive(Clone, Copy)]
enum Kind {
    Append = 0,
    Snapshot = 1,
    Ballot = 2,
}

impl ReplicaLink {
    /// Queues a request now and returns its reply to be waited for.
    fn send(
        &self,
        lane: Lane,
        flow: Kind,
        kind: request::Kind,
    ) -> impl Future<Output = Result<reply::Kind, CallError>> + Send + use<> {
        let request = Request {
            group: self.group.get(),
            from: self.from.get(),
            to: self.to.get(),
            recovery_generation: 0,
            catalog_version: self.peers.registry().settled(),
            kind: Some(kind),
        };
        let body: Bytes = request.encode_to_vec().into();
        // Replica ids are the cluster's, not the group's: this names the flow.
        let flow = Flow(self.to.get() << 2 | flow as u64);
        let reply = self.peers.link(self.node, lane).call(flow, body, lane);
        let node = self.node;
        async move {
            let unreadable = |why: String| CallError::Unreachable(format!("node {node}'s reply: {why}"));
            let reply = Reply::decode(reply.await?).map_err(|error| unreadable(error.to_string()))?;
            match reply.kind {
                Some(reply::Kind::Refusal(refusal)) => Err(CallError::Unreachable(refusal.message)),
                Some(kind) => Ok(kind),
                None => Err(unreadable("it is empty".to_owned())),
            }
        }
    }

    fn append(
        &self,
        request: &AppendEntriesRequest<TypeConfig>,
        session: u64,
    ) -> impl Future<Output = Result<AppendEntriesResponse<TypeConfig>, RpcError>> + Send + use<> {
        let pulse = self.pulse();
        let append = peer::Append { pulse, ..convert::send_append(request, session) };
        let echo = Arc::clone(&self.echo);
        let reply = self.send(self.lane, Kind::Append, request::Kind::Append(append));
        let failed = self.failed(RPCTypes::AppendEntries);
        async move {
            match reply.await {
                Ok(reply::Kind::Appended(appended)) => {
                    if appended.stamp != 0 {
                        echo.store(appended.stamp, Ordering::Release);
                    }
                    convert::receive_appended(appended).map_err(|error| unreachable(&error))
                }
                Ok(_) => Err(unreachable(&WrongReply)),
                Err(error) => Err(failed(error)),
            }
        }
    }

    /// What a heartbeat tells beside what openraft says.
    fn pulse(&self) -> Option<peer::Pulse> {
        // The echo before the state that is told of.
        let echo = self.echo.load(Ordering::Acquire);
        if self.lane != Lane::Control || echo == 0 {
            return None;
        }
        let local = self.peers.registry().get(self.group).filter(|local| local.replica == self.from)?;
        local.endpoint.pulse(echo)
    }

    async fn ballot(&self, kind: request::Kind, option: &RPCOption) -> Result<VoteResponse<TypeConfig>, RpcError> {
        let reply = self.send(Lane::Control, Kind::Ballot, kind);
        // openraft's own bound for a vote may be tighter than the link's.
        let reply = self.peers.environment().clock.timeout(option.hard_ttl(), reply);
        match reply.await.unwrap_or(Err(CallError::Timeout(option.hard_ttl()))) {
            Ok(reply::Kind::Vote(vote) | reply::Kind::PreVote(vote)) => {
                convert::receive_vote_reply(vote).map_err(|error| unreachable(&error))
            }
            Ok(_) => Err(unreachable(&WrongReply)),
            Err(error) => Err(self.failed(RPCTypes::Vote)(error)),
        }
    }

    /// How a failed call looks to openraft: all but a timeout wants a pause.
    fn failed(&self, action: RPCTypes) -> impl Fn(CallError) -> RpcError + Send + use<> {
        let (id, target) = (self.from.get(), self.to.get());
        move |error| match error {
            CallError::Timeout(timeout) => RPCError::Timeout(Timeout { action, id, target, timeout }),
            error => unreachable(&error),
        }
    }
}

fn unreachable<E: std::error::Error + 'static>(error: &E) -> RpcError {
    RPCError::Unreachable(Unreachable::new(error))
}

/// The peer answered something else than what was asked.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the reply does not fit the request")]
struct WrongReply;

impl RaftNetworkV2<TypeConfig> for ReplicaLink {
    type SnapshotData = Bytes;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RpcError> {
        self.append(&rpc, 0).await
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<StreamAppendResult<TypeConfig>, RpcError>>, RpcError>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + openraft::OptionalSend + Unpin + 'static,
    {
        match self.lane {
            Lane::Control => stream_append_sequential(self, input, option),
            Lane::Data => {
                let appends = Appends::new(self, input);
                let answers: BoxStream<'s, _> = Box::pin(stream::unfold(Some(appends), Appends::next));
                Box::pin(async move { Ok(answers) })
            }
        }
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        self.ballot(request::Kind::Vote(convert::send_vote(&rpc)), &option).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        self.ballot(request::Kind::PreVote(convert::send_vote(&rpc)), &option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: RaftSnapshot,
        cancel: impl Future<Output = ReplicationClosed> + openraft::OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let sent = convert::send_snapshot(&vote, &snapshot);
        let reply = std::pin::pin!(self.send(Lane::Data, Kind::Snapshot, request::Kind::Snapshot(sent)));
        let cancel = std::pin::pin!(cancel);
        match futures_util::future::select(cancel, reply).await {
            futures_util::future::Either::Left((closed, _)) => Err(StreamingError::Closed(closed)),
            futures_util::future::Either::Right((reply, _)) => match reply {
                Ok(reply::Kind::Snapshot(reply)) => {
                    convert::receive_snapshot_reply(reply).map_err(|error| unreachable(&error).into())
                }
                Ok(_) => Err(unreachable(&WrongReply).into()),
                Err(error) => Err(self.failed(RPCTypes::InstallSnapshot)(error).into()),
            },
        }
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RpcError> {
        let kind = request::Kind::TransferLeader(convert::send_transfer(&req));
        match self.send(Lane::Control, Kind::Ballot, kind).await {
            Ok(reply::Kind::TransferLeader(peer::TransferLeaderReply { refused })) if refused.is_empty() => Ok(Ok(())),
            Ok(reply::Kind::TransferLeader(peer::TransferLeaderReply { refused })) => {
                tracing::info!(group = self.group.get(), to = self.to.get(), refused, "leadership was not taken");
                // openraft only logs which of its reasons it was.
                Ok(Err(TransferLeaderError::LogNotFlushed { expected: req.last_log_id().copied(), actual: None }))
            }
            Ok(_) => Err(unreachable(&WrongReply)),
            Err(error) => Err(self.failed(RPCTypes::TransferLeader)(error)),
        }
    }

    fn backoff(&self) -> Option<Backoff> {
        let random = Arc::clone(&self.peers.environment().random);
        let mut longest = FIRST_BACKOFF;
        Some(Backoff::new(std::iter::from_fn(move || {
            let wait = random.jittered(longest);
            longest = LONGEST_BACKOFF.min(longest * 2);
            Some(wait)
        })))
    }
}

/// Appends to one replica, several on their way, answered in their order.
struct Appends<'s, S> {
    link: &'s ReplicaLink,
    session: u64,
    /// None once it has ended.
    input: Option<S>,
    under_way: FuturesOrdered<futures_util::future::BoxFuture<'static, Sent>>,
    bytes: usize,
}

/// An append and its answer.
struct Sent {
    previous: Option<crate::types::LogId>,
    last: Option<crate::types::LogId>,
    bytes: usize,
    answer: Result<AppendEntriesResponse<TypeConfig>, RpcError>,
}

impl<'s, S> Appends<'s, S>
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Unpin,
{
    fn new(link: &'s ReplicaLink, input: S) -> Self {
        let session = link.sessions.fetch_add(1, Ordering::Relaxed);
        Self { link, session, input: Some(input), under_way: FuturesOrdered::new(), bytes: 0 }
    }

    /// The next answer; the last one when it is a failure.
    async fn next(state: Option<Self>) -> Option<(Result<StreamAppendResult<TypeConfig>, RpcError>, Option<Self>)> {
        let mut state = state?;
        loop {
            let room = state.under_way.is_empty()
                || (state.under_way.len() < MAX_APPENDS_IN_FLIGHT && state.bytes < MAX_APPEND_BYTES_IN_FLIGHT);
            tokio::select! {
                biased;
                Some(sent) = state.under_way.next() => {
                    state.bytes -= sent.bytes;
                    return Some(state.answer(sent));
                }
                request = next_of(&mut state.input), if room && state.input.is_some() => match request {
                    Some(request) => state.send(&request),
                    None => state.input = None,
                },
                else => return None,
            }
        }
    }

    fn send(&mut self, request: &AppendEntriesRequest<TypeConfig>) {
        let bytes = request.entries.iter().map(payload_bytes).sum();
        let previous = request.prev_log_id;
        let last = request.entries.last().map(|entry| entry.log_id).or(previous);
        self.bytes += bytes;
        let answer = self.link.append(request, self.session);
        self.under_way.push_back(answer.map(move |answer| Sent { previous, last, bytes, answer }).boxed());
    }

    fn answer(self, sent: Sent) -> (Result<StreamAppendResult<TypeConfig>, RpcError>, Option<Self>) {
        let matched = || self.link.matched.lock().expect(POISONED);
        let answer = sent.answer.and_then(|response| {
            matched().hear(sent.previous, sent.last, response).map_err(|error| unreachable(&error))
        });
        match answer {
            Ok(response) => {
                // Whatever is behind a partial success or a failure was
                // refused with it.
                let goes_on = response.is_success();
                (Ok(response.into_stream_result(sent.previous, sent.last)), goes_on.then_some(self))
            }
            Err(error) => (Err(error), None),
        }
    }
}

async fn next_of<S: Stream + Unpin>(input: &mut Option<S>) -> Option<S::Item> {
    match input {
        Some(input) => input.next().await,
        None => None,
    }
}

fn payload_bytes(entry: &<TypeConfig as RaftTypeConfig>::Entry) -> usize {
    match &entry.payload {
        EntryPayload::Normal(command) => command.length(),
        EntryPayload::Blank | EntryPayload::Membership(_) => 0,
    }
}
