//! The appends of one log on their way to its Raft log.
//!
//! ```text
//!   callers ─▶ waiting (bounded) ─▶ one entry of all that waits, up to
//!                                   entry_bytes ─▶ in flight (bounded)
//! ```
//!
//! A busy log pays one round of consensus for many callers; an idle one
//! pays no waiting. Entries are proposed in the order of the calls, several
//! before the first is committed.
//!
//! Commands to cursors and leases wait beside the appends (`waiting`): the next entry of
//! appends takes them along, and without any they are proposed about once in
//! `cursor_commit_interval`, all that wait as one entry.
//!
//! # Invariant
//! An append is told that it did not land only if it was never handed to
//! openraft, or openraft refused it before appending.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use prost::Message as _;
use quipu_protocol::batch::Producer;
use quipu_protocol::environment::Clock;
use quipu_protocol::stored::log_command::Command;
use quipu_protocol::trace::TraceContext;
use quipu_protocol::{Offset, Timestamp, WriterEpoch, stored};
use quipu_storage::journal::Journal;
use tokio::sync::{Notify, oneshot, watch};

use super::settings::LogSettings;
use super::waiting::{self, CommandAnswer, WaitingCommand};
use super::{AppendError, Appended, CommandError, LogMachine};
use crate::clocks::NodeClock;
use crate::group::{Group, ProposeError, StopReason};
use crate::traces::{Proposal, Traces};
use crate::types::{self, BatchOutcome, Reply};

/// An entry of more batches than this grows as they are taken.
const TAKEN_AT_HAND: usize = 64;

/// How a log's appends are bounded and batched.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// The most bytes of batches that may wait; one batch always may.
    pub append_queue_bytes: u64,
    /// The most batches that may wait.
    pub append_queue_batches: usize,
    /// The most bytes of batches in one entry, unless one batch alone has
    /// more.
    pub entry_bytes: u64,
    /// The most bytes one batch may have: what fits into an entry of the
    /// journal.
    pub max_batch_bytes: u64,
    /// The most entries proposed and not yet answered.
    pub entries_in_flight: usize,
    /// While so many bytes wait for this node's disk, nothing is proposed. A
    /// majority elsewhere commits and answers what this disk has not taken in
    /// yet, so that the entries in flight do not bound it.
    pub staged_bytes: u64,
    /// How often an entry is proposed for the sake of cursors and leases alone.
    pub cursor_commit_interval: Duration,
    /// The most commands to cursors and leases that may wait.
    pub waiting_commands: usize,
    /// How long an append waits to be proposed while earlier ones get no
    /// answer.
    pub patience: Duration,
    /// What the log takes and keeps at first.
    pub settings: LogSettings,
    /// Whether it takes nothing without a writer epoch; as it was created.
    pub exclusive: bool,
    /// What is led is stamped and kept by this clock; `None` for that of a node
    /// without peers.
    pub clock: Option<NodeClock>,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            append_queue_bytes: 32 << 20,
            append_queue_batches: 8192,
            entry_bytes: 1 << 20,
            max_batch_bytes: 64 << 20,
            entries_in_flight: 4,
            staged_bytes: 256 << 20,
            cursor_commit_interval: Duration::from_secs(1),
            waiting_commands: 4096,
            patience: Duration::from_secs(2),
            settings: LogSettings::default(),
            exclusive: false,
            clock: None,
        }
    }
}

/// What has to hold for an append, besides its producer's sequence.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Terms {
    /// The log's writer epoch is this one.
    pub writer_epoch: Option<WriterEpoch>,
    /// The log ends here.
    pub expected_end: Option<Offset>,
    /// Each of these can be made, and is made with it: at most
    /// [`MAX_CARRIED_COMMITS`](super::MAX_CARRIED_COMMITS), of different cursors.
    pub cursors: Vec<stored::CarriedCommit>,
}

/// Answers one append.
type Answer = oneshot::Sender<Result<Appended, AppendError>>;

struct Waiting {
    batch: Bytes,
    terms: Terms,
    since: Duration,
    trace: Option<TraceContext>,
    answer: Answer,
}

impl Waiting {
    /// What it takes in an entry.
    fn bytes(&self) -> u64 {
        self.batch.len() as u64 + carried_bytes(&self.terms)
    }
}

/// What the commits take that an append carries.
fn carried_bytes(terms: &Terms) -> u64 {
    terms.cursors.iter().map(|one| one.encoded_len() as u64).sum()
}

#[derive(Default)]
pub(super) struct Queue {
    waiting: VecDeque<Waiting>,
    bytes: u64,
    pub(super) commands: VecDeque<WaitingCommand>,
    /// When the first of them that cannot wait for its turn is to go.
    pub(super) commands_due: Option<Duration>,
    pub(super) closed: Option<StopReason>,
}

/// Appends that wait to be proposed.
pub(super) struct AppendQueue {
    options: LogOptions,
    /// What the log takes and keeps now.
    settings: watch::Sender<LogSettings>,
    queue: Mutex<Queue>,
    pub(super) arrived: Notify,
    /// How many entries are proposed and not yet answered.
    in_flight: AtomicUsize,
}

/// What a log's appends hold of each of its [`LogOptions`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct QueueFootprint {
    pub(crate) commands: u64,
    pub(crate) batches: u64,
    pub(crate) bytes: u64,
    pub(crate) entries_in_flight: u64,
}

impl AppendQueue {
    pub(super) fn new(options: LogOptions) -> Self {
        let settings = watch::channel(options.settings).0;
        Self { options, settings, queue: Mutex::default(), arrived: Notify::new(), in_flight: AtomicUsize::new(0) }
    }

    pub(super) fn settings(&self) -> &watch::Sender<LogSettings> {
        &self.settings
    }

    /// The most bytes that a batch may have.
    pub(super) fn max_batch_bytes(&self) -> u64 {
        self.options.max_batch_bytes.min(self.settings.borrow().max_batch_bytes)
    }

    pub(super) fn options(&self) -> &LogOptions {
        &self.options
    }

    pub(super) fn footprint(&self) -> QueueFootprint {
        let queue = self.lock();
        QueueFootprint {
            commands: queue.commands.len() as u64,
            batches: queue.waiting.len() as u64,
            bytes: queue.bytes,
            entries_in_flight: self.in_flight.load(Ordering::Relaxed) as u64,
        }
    }

    /// Adds a batch at the end, now, and returns a future of its outcome. `trace`
    /// is the span that asks for it, if it is followed.
    pub(super) fn push(
        &self,
        batch: Bytes,
        terms: Terms,
        trace: Option<TraceContext>,
        clock: &dyn Clock,
    ) -> impl Future<Output = Result<Appended, AppendError>> + Send + use<> {
        let outcome = self.try_push(batch, terms, trace, clock.monotonic());
        async move {
            match outcome?.await {
                Ok(outcome) => outcome,
                // The proposer ended with the append in its hands.
                Err(_) => Err(CommandError::OutcomeUnknown.into()),
            }
        }
    }

    fn try_push(
        &self,
        batch: Bytes,
        terms: Terms,
        trace: Option<TraceContext>,
        now: Duration,
    ) -> Result<oneshot::Receiver<Result<Appended, AppendError>>, AppendError> {
        let options = &self.options;
        let bytes = batch.len() as u64;
        let limit = self.max_batch_bytes();
        if bytes > limit {
            return Err(AppendError::TooLarge { bound: "max_batch_bytes", limit, actual: bytes });
        }
        let bytes = bytes + carried_bytes(&terms);
        let (answer, outcome) = oneshot::channel();
        {
            let mut queue = self.lock();
            if let Some(reason) = &queue.closed {
                return Err(CommandError::Stopped(reason.clone()).into());
            }
            if queue.waiting.len() >= options.append_queue_batches {
                let limit = options.append_queue_batches as u64;
                return Err(CommandError::Overloaded { bound: "append_queue_batches", limit }.into());
            }
            if !queue.waiting.is_empty() && queue.bytes + bytes > options.append_queue_bytes {
                let limit = options.append_queue_bytes;
                return Err(CommandError::Overloaded { bound: "append_queue_bytes", limit }.into());
            }
            queue.bytes += bytes;
            queue.waiting.push_back(Waiting { batch, terms, since: now, trace, answer });
        }
        self.arrived.notify_one();
        Ok(outcome)
    }

    /// Waits until there is something to take: a batch, or commands that are due.
    /// Their turn comes at `turn`.
    async fn arrival(&self, clock: &dyn Clock, turn: Duration) {
        loop {
            let (batches, commands_at) = {
                let queue = self.lock();
                (!queue.waiting.is_empty(), queue.commands_at(turn))
            };
            let left = commands_at.map(|at| at.saturating_sub(clock.monotonic()));
            if batches || left.is_some_and(|left| left.is_zero()) {
                return;
            }
            match left {
                Some(left) => drop(clock.timeout(left, self.arrived.notified()).await),
                None => self.arrived.notified().await,
            }
        }
    }

    /// Takes the batches of the next entry; none if nobody waits for one any
    /// more.
    fn take(&self) -> Vec<Waiting> {
        let mut queue = self.lock();
        let mut bytes = 0;
        let mut taken = Vec::with_capacity(queue.waiting.len().min(TAKEN_AT_HAND));
        while let Some(next) = queue.waiting.front() {
            let size = next.bytes();
            if !taken.is_empty() && bytes + size > self.options.entry_bytes {
                break;
            }
            let waiting = queue.pop();
            // Not proposed and nobody waits: as good as never called.
            if !waiting.answer.is_closed() {
                bytes += size;
                taken.push(waiting);
            }
        }
        taken
    }

    /// Gives up on those who came before `since`.
    fn expire(&self, since: Duration) {
        let mut queue = self.lock();
        while queue.waiting.front().is_some_and(|waiting| waiting.since < since) {
            let _ = queue.pop().answer.send(Err(CommandError::Unavailable.into()));
        }
        waiting::expire(&mut queue.commands, since);
    }

    /// Refuses who waits and whoever comes.
    fn close(&self, reason: StopReason) {
        let mut queue = self.lock();
        while !queue.waiting.is_empty() {
            let _ = queue.pop().answer.send(Err(CommandError::Stopped(reason.clone()).into()));
        }
        waiting::close(&mut queue.commands, &reason);
        queue.closed = Some(reason);
    }

    pub(super) fn lock(&self) -> std::sync::MutexGuard<'_, Queue> {
        // Every change under the lock is whole before anything can panic.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn pop(&mut self) -> Waiting {
        let waiting = self.waiting.pop_front().expect("somebody waits");
        self.bytes -= waiting.bytes();
        waiting
    }
}

/// Proposes what waits in `queue` until the group stops.
pub(super) async fn propose(
    queue: Arc<AppendQueue>,
    group: Group<LogMachine>,
    journal: Journal,
    (clock, stamps): (Arc<dyn Clock>, NodeClock),
    traces: Option<Traces>,
) {
    let AppendQueue { options, .. } = &*queue;
    let mut in_flight = FuturesUnordered::new();
    let mut stopped = std::pin::pin!(group.stopped());
    let mut patience = clock.sleep(options.patience);
    // When an entry may be proposed for commands alone.
    let mut turn = clock.monotonic();
    loop {
        queue.in_flight.store(in_flight.len(), Ordering::Relaxed);
        let full = in_flight.len() >= options.entries_in_flight;
        tokio::select! {
            biased;
            Some(()) = in_flight.next() => {}
            reason = &mut stopped => {
                queue.close(reason);
                break;
            }
            () = queue.arrival(&*clock, turn), if !full => {
                let taken = queue.take();
                let asked = || taken.iter().filter_map(|waiting| Some((waiting.trace?, waiting.since)));
                let followed = traces.as_ref().and_then(|traces| traces.proposed(asked()));
                let terms = terms_of(&taken);
                let (batches, answers): (Vec<_>, Vec<_>) =
                    taken.into_iter().map(|waiting| (waiting.batch, waiting.answer)).unzip();
                // Whoever had the last batch may have gone.
                let has_batches = !batches.is_empty();
                if let Some(error) = refused_for(&journal, options) {
                    refuse(answers, &error);
                    refuse(queue.take_commands().into_iter().map(|waiting| waiting.answer), &error);
                    continue;
                }
                let now = clock.monotonic();
                let are_due = queue.lock().commands_at(turn).is_some_and(|at| at <= now);
                let waiting = if has_batches || are_due { queue.take_commands() } else { Vec::new() };
                let (commands, command_answers): (Vec<_>, Vec<_>) =
                    waiting.into_iter().map(|waiting| (waiting.command, waiting.answer)).unzip();
                if !has_batches && commands.is_empty() {
                    continue;
                }
                if !commands.is_empty() {
                    turn = now + options.cursor_commit_interval;
                }
                let (stamp, expiry) = queue.cursor_expiry(&group, &stamps);
                let append = stored::AppendBatches { batches, terms, commands, cursor_expiry_ms: expiry };
                let trace = followed.as_ref().map(Proposal::carried).unwrap_or_default();
                match group.submit(encode(stamp, Command::Append(append), trace)).await {
                    Ok(reply) => in_flight.push(async move {
                        let reply = reply.await;
                        if let Some(followed) = followed {
                            followed.answered(reply.as_ref().err().map(ToString::to_string));
                        }
                        answer(answers, command_answers, reply);
                    }),
                    Err(error) => answer(answers, command_answers, Err(error)),
                }
            }
            () = &mut patience, if full => {
                queue.expire(clock.monotonic().saturating_sub(options.patience));
                patience = clock.sleep(options.patience);
            }
        }
    }
    // Each was proposed: its answer is known, or known to be unknown.
    while in_flight.next().await.is_some() {}
}

fn encode(now: Timestamp, command: Command, trace: Bytes) -> types::Command {
    types::Command::encode(&stored::LogCommand { stamp: now.get(), command: Some(command), trace })
}

/// The terms of those batches that have any.
fn terms_of(taken: &[Waiting]) -> Vec<stored::Terms> {
    let numbered = (0..).zip(taken).filter(|(_, waiting)| waiting.terms != Terms::default());
    let terms = |(ordinal, waiting): (u32, &Waiting)| stored::Terms {
        ordinal,
        writer_epoch: waiting.terms.writer_epoch.map(WriterEpoch::get),
        expected_end: waiting.terms.expected_end.map(Offset::get),
        cursors: waiting.terms.cursors.clone(),
    };
    numbered.map(terms).collect()
}

/// Why nothing is proposed now, if so.
fn refused_for(journal: &Journal, options: &LogOptions) -> Option<CommandError> {
    if let Some(low) = journal.low_space() {
        return Some(low.into());
    }
    let limit = options.staged_bytes;
    (journal.staged_bytes() >= limit).then_some(CommandError::Overloaded { bound: "staged_bytes", limit })
}

/// Tells each command of an entry that was not proposed why.
fn refuse<T, E: From<CommandError>>(
    answers: impl IntoIterator<Item = oneshot::Sender<Result<T, E>>>,
    error: &CommandError,
) {
    for answer in answers {
        let _ = answer.send(Err(error.clone().into()));
    }
}

/// The command that moves a log's start.
pub(super) fn trim(now: Timestamp, trim: stored::Trim) -> types::Command {
    encode(now, Command::Trim(trim), Bytes::new())
}

/// The command that lets go of a lease.
pub(super) fn release_lease(now: Timestamp, holder: String, grant: u64) -> types::Command {
    encode(now, Command::ReleaseLease(stored::ReleaseLease { holder, grant }), Bytes::new())
}

/// The command that raises a log's writer epoch.
pub(super) fn acquire_writer(now: Timestamp, holder: String, request_id: Bytes) -> types::Command {
    encode(now, Command::AcquireWriter(stored::AcquireWriter { holder, request_id }), Bytes::new())
}

/// The command that settles what becomes of an append.
pub(super) fn resolve(now: Timestamp, append: Producer) -> types::Command {
    let resolve = stored::Resolve {
        producer_id: append.id.get(),
        producer_epoch: append.epoch.get().into(),
        sequence: append.sequence.get(),
    };
    encode(now, Command::Resolve(resolve), Bytes::new())
}

/// Tells each append of an entry, and each command, what became of it.
fn answer(answers: Vec<Answer>, commands: Vec<CommandAnswer>, reply: Result<Reply, ProposeError>) {
    let reply = waiting::answer(commands, reply);
    let outcomes = match reply {
        Ok(Reply::Append(outcomes)) => {
            assert_eq!(outcomes.len(), answers.len(), "every batch of an entry has an outcome");
            outcomes.into_iter().map(outcome).collect()
        }
        Ok(reply) => unreachable!("an append was answered by {reply:?}"),
        Err(error) => vec![Err(CommandError::from(error).into()); answers.len()],
    };
    for (answer, outcome) in answers.into_iter().zip(outcomes) {
        // Whoever does not wait any more takes the outcome for unknown.
        let _ = answer.send(outcome);
    }
}

fn outcome(outcome: BatchOutcome) -> Result<Appended, AppendError> {
    match outcome {
        BatchOutcome::Appended(range) => Ok(Appended { range, duplicate: false }),
        BatchOutcome::Duplicate(range) => Ok(Appended { range, duplicate: true }),
        BatchOutcome::Fenced { current, holder } => Err(AppendError::Fenced { current, holder }),
        BatchOutcome::EpochAhead { current } => Err(AppendError::EpochAhead { current }),
        BatchOutcome::WriterRequired => Err(AppendError::WriterRequired),
        BatchOutcome::OffsetMismatch { end } => Err(AppendError::OffsetMismatch { end }),
        BatchOutcome::CursorRefused { cursor, refusal } => Err(AppendError::CursorRefused { cursor, refusal }),
        BatchOutcome::ProducerFenced { current } => Err(AppendError::ProducerFenced { current }),
        BatchOutcome::OutOfSequence { expected } => Err(AppendError::OutOfSequence { expected }),
        BatchOutcome::UnknownProducer => Err(AppendError::UnknownProducer),
        BatchOutcome::Malformed => Err(AppendError::Malformed),
    }
}

#[cfg(test)]
mod tests;
