//! The pipelined Append stream.
//!
//! ```text
//!   requests ──▶ check ──▶ propose ──▶ lane of its log ──▶ answers
//!                  │       (in order)   head is awaited
//!                  └ refused: answered at once
//! ```
//!
//! One log's appends complete in the order in which they were proposed, so
//! only the oldest of each log is waited for: an append costs no task and no
//! wake-up of its own. What bounds a stream is that no further request is
//! taken from it while `append_stream_appends` or `append_stream_bytes` are in
//! flight; HTTP/2 flow control then holds the client back.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::{FutureExt as _, Stream};
use quipu_protocol::batch::{self, BatchHeader, BatchLimits};
use quipu_protocol::environment::BoxFuture;
use quipu_protocol::trace::TraceContext;
use quipu_protocol::{CursorName, LogId, LogName, Offset, WriterEpoch, v1};
use quipu_raft::group::BarrierError;
use quipu_raft::{Appended, CommandError, CursorAction, CursorAnswer, LogReplica, Terms};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tonic::{Code, Request, Status, Streaming};

use super::follow::{self, Followed};
use super::windows::Window;
use super::{MAX_MESSAGE_BYTES, SharedNode, cursors, ending, log_id, log_name, refusals};

/// A stream keeps so many logs at hand; an idle one makes room.
const LOGS_AT_HAND: usize = 64;

/// What becomes of a proposed append.
type Pending = BoxFuture<'static, Result<Appended, v1::Error>>;

/// A log that can be appended to through this node.
#[derive(Clone)]
pub(super) struct Log {
    name: LogName,
    replica: LogReplica,
    shared: SharedNode,
}

impl Log {
    /// The log of that name, and of no other id than this, unless that is 0.
    pub(super) async fn find(shared: &SharedNode, name: &str, id: u64) -> Result<Self, v1::Error> {
        let name = log_name(name)?;
        let found = shared.node.log_as(&name, log_id(id)).await;
        let replica = found.map_err(|error| refusals::of_lookup_for_leader(&name, error))?;
        Ok(Self { name, replica, shared: Arc::clone(shared) })
    }

    /// Makes sure that `batch` is sound and one that the log takes, as it is
    /// configured now.
    fn check(&self, batch: &[u8]) -> Result<BatchHeader, v1::Error> {
        let (settings, log) = (&self.shared.settings, self.replica.settings());
        let limits = BatchLimits {
            max_batch_bytes: in_memory(self.replica.max_batch_bytes()),
            max_decompressed_bytes: in_memory(settings.max_decompressed_bytes),
            check_records: settings.check_records == 1 || log.bounds_timestamps(),
        };
        let found = batch::inspect(batch, &limits)?;
        let taken = log.take(&found.header, found.oldest, self.shared.environment.clock.wall());
        taken.map_err(|refused| v1::Error::not_taken(refused.setting(), refused))?;
        Ok(found.header)
    }

    /// The log's id.
    pub(super) fn id(&self) -> LogId {
        self.replica.group().key().group
    }

    /// Whether a request for the log `id` means this one.
    fn is_meant_by(&self, id: u64) -> bool {
        log_id(id).is_none_or(|id| id == self.id())
    }

    /// Its replica here, unless the node is ending.
    pub(super) fn replica(&self) -> Result<&LogReplica, v1::Error> {
        if self.shared.ending.is_cancelled() { Err(ending()) } else { Ok(&self.replica) }
    }

    /// How a command to it failed.
    pub(super) fn refused(&self, error: impl Into<CommandError>) -> v1::Error {
        refusals::of_command(&self.shared.node, &self.name, error.into())
    }

    /// How a question to its leader failed.
    pub(super) fn unanswered(&self, error: BarrierError) -> v1::Error {
        refusals::of_range(&self.shared.node, &self.name, error)
    }

    /// Carries a command to a cursor out.
    pub(super) async fn run_cursor(
        &self,
        cursor: &CursorName,
        action: CursorAction,
    ) -> Result<CursorAnswer, v1::Error> {
        let ran = self.replica()?.run_cursor(cursor.to_string(), action).await;
        ran.map_err(|error| refusals::of_cursor(&self.shared.node, &self.name, cursor, error))
    }

    /// Proposes `batch` after every batch proposed before, or refuses it.
    /// `asked_for` is the client's span.
    pub(super) fn append(
        &self,
        batch: Bytes,
        mut terms: Terms,
        asked_for: Option<TraceContext>,
    ) -> Result<Pending, v1::Error> {
        if self.shared.ending.is_cancelled() {
            return Err(ending());
        }
        let producer = self.check(&batch)?.producer;
        let (followed, bytes) = (Followed::choose(&self.shared, asked_for), batch.len());
        for carried in &mut terms.cursors {
            carried.commit = carried.commit.take().map(|commit| cursors::of_other_log(commit, self.id()));
        }
        let outcome = self.replica.append_for(batch, terms, followed.as_ref().map(Followed::context));
        // Two counts; the name is copied only for a refusal.
        let log = self.clone();
        Ok(async move {
            let refused = |error| refusals::of_append(&log.shared.node, &log.name, producer, error);
            let outcome = outcome.await.map_err(refused);
            if let Some(followed) = followed {
                followed.answered(&log.shared, &log.name, bytes, &outcome);
            }
            outcome
        }
        .boxed())
    }
}

/// Under which terms a request appends.
pub(super) fn terms(request: &v1::AppendRequest) -> Result<Terms, v1::Error> {
    Ok(Terms {
        writer_epoch: request.writer_epoch.map(WriterEpoch::new),
        expected_end: request.expected_end.map(Offset::new),
        cursors: cursors::carried(&request.cursors)?,
    })
}

/// A bound in bytes, on a machine that may not address as many.
fn in_memory(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// An append's answer, by the log `log`.
pub(super) fn response(request: u64, log: LogId, outcome: Result<Appended, v1::Error>) -> v1::AppendResponse {
    use v1::append_response::Outcome;
    let outcome = match outcome {
        Ok(appended) => Outcome::Appended(v1::Appended {
            start: appended.range.start().get(),
            end: appended.range.end().get(),
            durability: v1::Durability::QuorumFsync.into(),
            duplicate: appended.duplicate,
            log_id: log.get(),
        }),
        Err(error) => Outcome::Error(error),
    };
    v1::AppendResponse { request, outcome: Some(outcome) }
}

/// One Append stream: takes requests, yields answers.
pub(crate) struct Pipeline {
    shared: SharedNode,
    /// The client's span, of which every append on the stream is a part.
    asked_for: Option<TraceContext>,
    requests: Requests,
    lanes: BTreeMap<String, Lane>,
    /// Answers that are ready to leave.
    answers: VecDeque<v1::AppendResponse>,
    /// Invariant: the sums over all lanes, each kept under its bound (but a
    /// single batch always fits).
    in_flight: Window,
    ending: Pin<Box<WaitForCancellationFutureOwned>>,
    _busy: TaskTrackerToken,
}

/// What still comes in.
enum Requests {
    Open(Streaming<v1::AppendRequest>),
    /// One whose log is being looked up; the ones after it wait, so that their
    /// order holds.
    Finding(Streaming<v1::AppendRequest>, v1::AppendRequest, BoxFuture<'static, Result<Log, v1::Error>>),
    /// The client has no more, or the stream broke.
    Closed(Option<Status>),
}

/// One log's appends on this stream, oldest first.
struct Lane {
    log: Log,
    pending: VecDeque<InFlight>,
}

struct InFlight {
    request: u64,
    bytes: usize,
    outcome: Pending,
}

impl Pipeline {
    pub(super) fn new(shared: SharedNode, request: Request<Streaming<v1::AppendRequest>>) -> Self {
        Self {
            asked_for: follow::asked_for(request.metadata()),
            requests: Requests::Open(request.into_inner()),
            lanes: BTreeMap::new(),
            answers: VecDeque::new(),
            in_flight: Window::open(&shared.windows),
            ending: Box::pin(shared.ending.clone().cancelled_owned()),
            _busy: shared.busy.token(),
            shared,
        }
    }

    fn has_room(&self) -> bool {
        let settings = &self.shared.settings;
        (self.in_flight.appends as u64) < settings.append_stream_appends
            && (self.in_flight.bytes as u64) < settings.append_stream_bytes
            // Answers that the client does not take hold it back as well.
            && (self.answers.len() as u64) < settings.append_stream_appends
    }

    /// Takes requests until there are none, or no room.
    fn poll_requests(&mut self, cx: &mut Context<'_>) {
        // Asked to end, the node takes no more; what is in flight is answered.
        while self.has_room() && !self.shared.ending.is_cancelled() {
            match std::mem::replace(&mut self.requests, Requests::Closed(None)) {
                Requests::Open(mut stream) => match Pin::new(&mut stream).poll_next(cx) {
                    Poll::Pending => {
                        self.requests = Requests::Open(stream);
                        return;
                    }
                    Poll::Ready(None) => return,
                    Poll::Ready(Some(Err(broken))) => self.requests = Requests::Closed(Some(broken_stream(broken))),
                    Poll::Ready(Some(Ok(request))) => self.requests = self.route(stream, request),
                },
                Requests::Finding(stream, request, mut finding) => match finding.poll_unpin(cx) {
                    Poll::Pending => {
                        self.requests = Requests::Finding(stream, request, finding);
                        return;
                    }
                    Poll::Ready(Ok(log)) => {
                        self.make_room_for_lane();
                        self.lanes.insert(request.log.clone(), Lane { log, pending: VecDeque::new() });
                        self.requests = self.route(stream, request);
                    }
                    Poll::Ready(Err(refusal)) => {
                        self.answer(request.request, 0, Err(refusal));
                        self.requests = Requests::Open(stream);
                    }
                },
                closed @ Requests::Closed(_) => {
                    self.requests = closed;
                    return;
                }
            }
        }
    }

    /// Proposes `request` on its lane, or finds its log first.
    fn route(&mut self, stream: Streaming<v1::AppendRequest>, request: v1::AppendRequest) -> Requests {
        // One that is meant by nobody any more makes room for the one that is.
        let stale = |lane: &Lane| lane.pending.is_empty() && !lane.log.is_meant_by(request.log_id);
        if self.lanes.get(&request.log).is_some_and(stale) {
            self.lanes.remove(&request.log);
        }
        let Some(lane) = self.lanes.get_mut(&request.log) else {
            let (shared, name, id) = (Arc::clone(&self.shared), request.log.clone(), request.log_id);
            let finding = async move { Log::find(&shared, &name, id).await }.boxed();
            return Requests::Finding(stream, request, finding);
        };
        if !lane.log.is_meant_by(request.log_id) {
            // What waits is answered soon.
            let refusal = v1::Error::unavailable("appends to another log of that name are in flight on this stream");
            self.answer(request.request, 0, Err(refusal));
            return Requests::Open(stream);
        }
        let (bytes, terms) = (request.batch.len(), terms(&request));
        match terms.and_then(|terms| lane.log.append(request.batch, terms, self.asked_for)) {
            Ok(outcome) => {
                lane.pending.push_back(InFlight { request: request.request, bytes, outcome });
                self.in_flight.add(bytes);
            }
            Err(refusal) => self.answer(request.request, bytes, Err(refusal)),
        }
        Requests::Open(stream)
    }

    /// Answers what was not proposed.
    fn answer(&mut self, request: u64, bytes: usize, outcome: Result<Appended, v1::Error>) {
        self.shared.tallies.append(bytes, &outcome);
        self.answers.push_back(response(request, LogId::default(), outcome));
    }

    fn make_room_for_lane(&mut self) {
        if self.lanes.len() >= LOGS_AT_HAND {
            self.lanes.retain(|_, lane| !lane.pending.is_empty());
        }
    }

    /// Moves what has completed to the answers.
    fn poll_lanes(&mut self, cx: &mut Context<'_>) {
        let mut stale = Vec::new();
        for (name, lane) in &mut self.lanes {
            while let Some(oldest) = lane.pending.front_mut() {
                let Poll::Ready(outcome) = oldest.outcome.poll_unpin(cx) else { break };
                if outcome.is_err() {
                    stale.push(name.clone());
                }
                self.in_flight.remove(oldest.bytes);
                self.shared.tallies.append(oldest.bytes, &outcome);
                self.answers.push_back(response(oldest.request, lane.log.id(), outcome));
                lane.pending.pop_front();
            }
        }
        for name in stale {
            // The replica may have been replaced: it is looked up anew.
            if self.lanes.get(&name).is_some_and(|lane| lane.pending.is_empty()) {
                self.lanes.remove(&name);
            }
        }
    }

    /// How the stream ends, once nothing is in flight.
    fn end(&mut self, cx: &mut Context<'_>) -> Poll<Option<Status>> {
        match &mut self.requests {
            Requests::Closed(broken) => Poll::Ready(broken.take()),
            Requests::Open(_) | Requests::Finding(..) => {
                ready!(self.ending.as_mut().poll(cx));
                self.requests = Requests::Closed(None);
                Poll::Ready(Some(super::status(ending())))
            }
        }
    }
}

impl Stream for Pipeline {
    type Item = Result<v1::AppendResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let pipeline = &mut *self;
        if pipeline.answers.is_empty() {
            // Completions first: they make room for requests.
            pipeline.poll_lanes(cx);
            pipeline.poll_requests(cx);
            // What was just proposed has to wake this stream.
            pipeline.poll_lanes(cx);
        }
        if let Some(answer) = pipeline.answers.pop_front() {
            return Poll::Ready(Some(Ok(answer)));
        }
        if pipeline.in_flight.appends > 0 {
            return Poll::Pending;
        }
        pipeline.end(cx).map(|broken| broken.map(Err))
    }
}

/// Why a stream broke, in the terms of `quipu.v1` where that is known.
fn broken_stream(status: Status) -> Status {
    match status.code() {
        // tonic's word for a message over the bound; it tells no size.
        Code::OutOfRange => {
            let limit = MAX_MESSAGE_BYTES as u64;
            super::status(v1::Error::too_large("max_message_bytes", limit, limit + 1))
        }
        _ => status,
    }
}
