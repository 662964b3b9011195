//! Reads: where a reader starts, and the stream of batches from there on.
//!
//! ```text
//!   settle the range ──▶ from ──▶ answer ──▶ answer ──▶ … ──▶ wait at the end
//!   (majority asked,      │      (a client that does not take an answer       │
//!    or local)            │       keeps the next one from being read)         │
//!                         └ a first answer always: it tells where             ▼
//!                           the reader is                      done, or follow
//! ```
//!
//! Nothing is read ahead: an answer is made when the connection has room for
//! it, so a slow reader costs one answer's memory. The batches of an answer are those
//! of the journal's cache, whoever else reads them.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::{self, Either};
use futures_util::stream::BoxStream;
use quipu_protocol::batch::PlacedBatch;
use quipu_protocol::v1::{self, Consistency, read_request::From};
use quipu_protocol::{LogId, LogName, Offset, OffsetRange, Timestamp};
use quipu_raft::{LogReplica, ReadChunk, ReadError, StopReason};
use tokio_util::task::task_tracker::TaskTrackerToken;
use tonic::Status;

use super::fresh::{self, Wanted};
use super::{SharedNode, ending, log_id, log_name, records, refusals, status};

/// A follower of a linearizable read that waits at the end makes sure so often
/// that it waits at the log's leader: a leader that was cut off would let it
/// wait for ever.
const MAKE_SURE_EVERY: Duration = Duration::from_secs(5);

/// The replica here of the log of that name, and of this `id` if one is given,
/// and its readable range, as fresh as asked for.
pub(super) async fn settled_range(
    shared: &SharedNode,
    name: &LogName,
    id: Option<LogId>,
    consistency: Consistency,
) -> Result<(LogReplica, OffsetRange), v1::Error> {
    let found = shared.node.log_as(name, id).await;
    if consistency == Consistency::Local {
        let replica = found.map_err(|error| refusals::of_lookup_for_replica(shared, name, error))?;
        let range = replica.range();
        return Ok((replica, range));
    }
    let replica = found.map_err(|error| refusals::of_lookup_for_leader(name, error))?;
    let range = replica.linearizable_range().await.map_err(|error| refusals::of_range(&shared.node, name, error))?;
    Ok((replica, range))
}

/// The first record at or after `at`, as fresh as asked for.
pub(super) async fn offset_at(
    shared: &SharedNode,
    name: &LogName,
    id: Option<LogId>,
    at: Timestamp,
    consistency: Consistency,
) -> Result<v1::OffsetAtResponse, v1::Error> {
    let (replica, _) = settled_range(shared, name, id, consistency).await?;
    let most = usize::try_from(shared.settings.max_decompressed_bytes).unwrap_or(usize::MAX);
    let found = replica.seek(at, most).await.map_err(|error| refusal(shared, name, &replica, Offset::ZERO, error))?;
    Ok(v1::OffsetAtResponse {
        offset: found.record.map_or(found.range.end(), |(offset, _)| offset).get(),
        timestamp: found.record.map(|(_, timestamp)| timestamp.get()),
        start: found.range.start().get(),
        end: found.range.end().get(),
        log_id: replica.group().key().group.get(),
    })
}

/// Why there is nothing to read. What a replica that has stopped does not find,
/// it may have been told to forget.
fn refusal(shared: &SharedNode, name: &LogName, replica: &LogReplica, at: Offset, error: ReadError) -> v1::Error {
    match error {
        ReadError::Storage(reason) if replica.group().is_stopped() => {
            tracing::debug!(log = %name, %reason, "a replica that was read from has stopped");
            refusals::of_stopped(&shared.node, name, &StopReason::Shutdown)
        }
        error => refusals::of_read(shared.node_id, at, error),
    }
}

/// Checks a request, and settles where it begins.
pub(super) async fn start(
    shared: &SharedNode,
    request: v1::ReadRequest,
) -> Result<BoxStream<'static, Result<v1::ReadResponse, Status>>, v1::Error> {
    let name = log_name(&request.log)?;
    let consistency = records::consistency(request.consistency)?;
    let Some(from) = request.from else {
        return Err(v1::Error::invalid_argument("from", "an offset, the start or the end has to be given"));
    };
    let wanted = Wanted::by(&request, consistency)?;
    let (replica, _) = settled_range(shared, &name, log_id(request.log_id), consistency).await?;
    wanted.reached(shared, &name, &replica).await?;
    wanted.judge(shared, &replica, replica.freshness())?;
    let range = replica.range();
    let next = match from {
        From::Offset(offset) => Offset::new(offset),
        From::Start(_) => range.start(),
        From::End(_) => range.end(),
    };
    if next < range.start() || next > range.end() {
        return Err(v1::Error::out_of_range(next, range));
    }
    let bound = shared.settings.read_response_bytes;
    let max_bytes = if request.max_bytes == 0 { bound } else { u64::from(request.max_bytes).min(bound) };
    let reader = Reader {
        shared: Arc::clone(shared),
        name,
        replica,
        next,
        stop: Stop::of(&request, next, range.end()),
        max_bytes,
        consistency,
        wanted,
        state: State::First,
        _busy: shared.busy.token(),
    };
    Ok(futures_util::stream::unfold(reader, Reader::answer).boxed())
}

/// One Read stream.
struct Reader {
    shared: SharedNode,
    name: LogName,
    replica: LogReplica,
    /// The offset of the next record to be sent.
    next: Offset,
    stop: Stop,
    max_bytes: u64,
    consistency: Consistency,
    wanted: Wanted,
    state: State,
    _busy: TaskTrackerToken,
}

/// Where a read ends.
#[derive(Clone, Copy)]
struct Stop {
    /// No record at or after this offset is wanted.
    before: Option<Offset>,
}

impl Stop {
    fn of(request: &v1::ReadRequest, from: Offset, end: Offset) -> Self {
        // A count that runs over the last offset is no bound.
        let counted = match request.max_records {
            0 => None,
            count => from.get().checked_add(count).map(Offset::new),
        };
        let before = if request.follow { counted } else { Some(counted.map_or(end, |counted| counted.min(end))) };
        Self { before }
    }

    fn reached(self, next: Offset) -> bool {
        self.before.is_some_and(|before| next >= before)
    }
}

#[derive(PartialEq)]
enum State {
    /// Nothing has been answered yet.
    First,
    Going,
    Failed,
}

impl Reader {
    /// The next answer; none when the read is done or has failed.
    async fn answer(mut self) -> Option<(Result<v1::ReadResponse, Status>, Self)> {
        if self.state == State::Failed || (self.state == State::Going && self.stop.reached(self.next)) {
            return None;
        }
        let answer = self.read().await;
        self.shared.tallies.read_answer(&answer);
        self.state = if answer.is_ok() { State::Going } else { State::Failed };
        Some((answer.map_err(status), self))
    }

    async fn read(&mut self) -> Result<v1::ReadResponse, v1::Error> {
        loop {
            if self.shared.ending.is_cancelled() {
                return Err(ending());
            }
            // Before what it is about is looked at: that may be newer then.
            let fresh = self.replica.freshness();
            self.wanted.judge(&self.shared, &self.replica, fresh)?;
            let read = self.replica.read(self.next, self.max_bytes).await;
            let chunk = read.map_err(|error| refusal(&self.shared, &self.name, &self.replica, self.next, error))?;
            // The first answer says where the reader is, even at the end.
            if !chunk.batches.is_empty() || self.state == State::First || self.stop.reached(self.next) {
                let local = self.consistency == Consistency::Local;
                let freshness = local.then(|| fresh::told(&self.shared, fresh));
                return Ok(v1::ReadResponse { freshness, ..self.take(chunk) });
            }
            self.wait_for_more().await?;
        }
    }

    /// Makes an answer of `chunk` and moves on behind it.
    fn take(&mut self, chunk: ReadChunk) -> v1::ReadResponse {
        let ReadChunk { mut batches, mut next, range } = chunk;
        assert!(next >= self.next, "a read went back: from {} to {next}", self.next);
        if let Some(before) = self.stop.before
            && next > before
        {
            batches.retain(|batch| starts_before(batch, before));
            next = before;
        }
        self.next = next;
        v1::ReadResponse {
            batches,
            start: range.start().get(),
            end: range.end().get(),
            next: next.get(),
            log_id: self.replica.group().key().group.get(),
            freshness: None,
        }
    }

    /// Waits until the log has grown past the reader's place.
    async fn wait_for_more(&self) -> Result<(), v1::Error> {
        let grown = std::pin::pin!(self.replica.wait_past(self.next));
        let ends = std::pin::pin!(self.shared.ending.cancelled());
        let either = future::select(grown, ends);
        match self.shared.environment.clock.timeout(MAKE_SURE_EVERY, either).await {
            Ok(Either::Left((grown, _))) => {
                grown.map_err(|reason| refusals::of_stopped(&self.shared.node, &self.name, &reason))
            }
            Ok(Either::Right(_)) => Err(ending()),
            Err(_) if self.consistency == Consistency::Local => Ok(()),
            Err(_) => {
                let range = self.replica.linearizable_range().await;
                range.map(drop).map_err(|error| refusals::of_range(&self.shared.node, &self.name, error))
            }
        }
    }
}

fn starts_before(batch: &PlacedBatch, before: Offset) -> bool {
    // What the log holds was validated; a batch that cannot be parsed is for
    // the client to complain about, not to be kept from it.
    batch.base_offset().map_or(true, |base| base < before)
}
