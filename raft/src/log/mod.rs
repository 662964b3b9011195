//! A log's replica: appended to through a queue, read from the journal.
//!
//! ```text
//!   append ─▶ AppendQueue ─▶ one entry for all that waits ─▶ Group
//!                                                             │ applied
//!   read  ◀── journal's tail cache ◀── rows (offset → entry) ◀┘
//! ```
//!
//! Offsets are given where entries are applied, nowhere else; a read serves
//! what this replica has applied.

mod cursors;
mod errors;
mod leases;
mod machine;
mod offsets;
mod producers;
mod queue;
mod read;
mod retained;
mod retention;
mod seek;
mod settings;
mod times;
mod waiting;
mod writer;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use openraft::RaftNetworkFactory;
use openraft::network::NetSnapshot;
use quipu_protocol::batch::Producer;
use quipu_protocol::environment::{Environment, Task};
use quipu_protocol::stored::waiting_command::Command;
use quipu_protocol::trace::TraceContext;
use quipu_protocol::{Offset, OffsetRange, Timestamp, stored};
use quipu_storage::Kv;
use quipu_storage::journal::{Journal, LowSpace, ReplicaKey};

use crate::clocks::NodeClock;
use crate::group::{BarrierError, Freshness, Group, GroupOptions, ProposeError, Role, StartError, StopReason};
use crate::traces::Traces;
use crate::types::{Acquired, CommandOutcome, CursorAnswer, Reply, Resolution, Trimmed, TypeConfig};

pub use cursors::{
    Cursor, CursorTotals, MAX_CARRIED_BYTES, MAX_CARRIED_COMMITS, MAX_CURSOR_METADATA_BYTES, MAX_CURSORS,
    REMEMBERED_COMMITS,
};
pub use errors::{AppendError, CommandError, CursorError, LeaseError, ReadError, TrimError};
pub use leases::{
    Lease, LeaseRefused, LeaseTotals, MAX_LEASE_HOLDER_BYTES, MAX_LEASES, REMEMBERED_GRANTS, REMEMBERED_RENEWALS,
};
pub use machine::LogMachine;
pub(crate) use offsets::read_offset_row;
pub use producers::{MAX_PRODUCERS, PRODUCER_EXPIRY_MS, REMEMBERED_APPENDS, allotted_at, next_producer_id};
pub(crate) use queue::QueueFootprint;
pub use queue::{LogOptions, Terms};
pub use read::ReadChunk;
pub use retained::{Pinned, Retained};
pub use retention::Retention;
pub use seek::Sought;
pub use settings::{CURSOR_EXPIRY_MS, LogSettings, NotTaken};
pub use writer::{MAX_HOLDER_BYTES, REMEMBERED_ACQUISITIONS, REQUEST_ID_BYTES, WriterStatus};

/// What an acknowledged append got. A majority of the replicas has it on
/// stable storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Its records' offsets.
    pub range: OffsetRange,
    /// Whether it repeats an append that had landed before.
    pub duplicate: bool,
}

/// What is asked of a cursor.
pub type CursorAction = stored::cursor_command::Action;

/// A log's cursors, to be looked at.
pub struct CursorView<'a>(&'a cursors::Cursors);

impl<'a> CursorView<'a> {
    /// The cursor of that name.
    pub fn get(&self, name: &str) -> Option<&'a Cursor> {
        self.0.get(name)
    }

    /// Those whose names begin with `prefix`, after `after`, in their order.
    pub fn named(&self, prefix: &str, after: &str) -> impl Iterator<Item = (&'a str, &'a Cursor)> + use<'a> {
        self.0.named(prefix, after)
    }

    /// How much there is of them.
    pub fn totals(&self) -> CursorTotals {
        self.0.totals()
    }
}

/// What becomes of a trim that would strand the holders of leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnLeases {
    /// It is refused, and names them.
    Refuse,
    /// It is done, and they are gone.
    Drop,
}

/// A running replica of a log; clones are handles to the same one.
#[derive(Clone)]
pub struct LogReplica {
    inner: Arc<Inner>,
}

struct Inner {
    group: Group<LogMachine>,
    queue: Arc<queue::AppendQueue>,
    journal: Journal,
    kv: Arc<dyn Kv>,
    environment: Environment,
    clock: NodeClock,
    _proposer: Task,
    /// Runs once there is something that goes.
    retention: Mutex<Option<Task>>,
}

impl LogReplica {
    /// Starts the replica `key` from what its journal and Kv hold.
    ///
    /// # Errors
    /// See [`Group::start`].
    pub async fn start<N>(
        key: ReplicaKey,
        journal: Journal,
        kv: Arc<dyn Kv>,
        environment: &Environment,
        network: N,
        group: GroupOptions,
        log: LogOptions,
    ) -> Result<Self, StartError>
    where
        N: RaftNetworkFactory<TypeConfig>,
        N::Network: NetSnapshot<TypeConfig, SnapshotData = Bytes>,
    {
        let clock = log.clock.clone().unwrap_or_else(|| NodeClock::alone(Arc::clone(&environment.clock)));
        let machine = LogMachine::written_by(log.exclusive);
        let group = Group::start(key, machine, journal.clone(), Arc::clone(&kv), environment, network, group).await?;
        let queue = Arc::new(queue::AppendQueue::new(log));
        let traces = Traces::of(key, environment);
        let clocks = (Arc::clone(&environment.clock), clock.clone());
        let proposer = queue::propose(Arc::clone(&queue), group.clone(), journal.clone(), clocks, traces);
        let proposer = environment.tasks.spawn("append-queue", Box::pin(proposer));
        let (environment, retention) = (environment.clone(), Mutex::default());
        let inner = Inner { group, queue, journal, kv, environment, clock, _proposer: proposer, retention };
        let log = Self { inner: Arc::new(inner) };
        log.keep();
        Ok(log)
    }

    /// Sees to it that the log keeps no more than it is to.
    fn keep(&self) {
        let Inner { group, queue, kv, environment, clock, retention, .. } = &*self.inner;
        // Whoever holds it changes it in one step.
        let mut retention = retention.lock().unwrap_or_else(PoisonError::into_inner);
        if retention.is_none() && queue.settings().borrow().retention.is_some() {
            let clocks = (Arc::clone(&environment.clock), clock.clone());
            let kept = retention::enforce(queue.settings().subscribe(), group.clone(), Arc::clone(kv), clocks);
            *retention = Some(environment.tasks.spawn("log-retention", Box::pin(kept)));
        }
    }

    /// Its group: leader, members, shutting down.
    pub fn group(&self) -> &Group<LogMachine> {
        &self.inner.group
    }

    /// Appends a validated batch. Proposed in the order of the calls, not of
    /// the polls; several may wait at once.
    ///
    /// Has no deadline: whoever gives up waiting must take the outcome for
    /// unknown.
    pub fn append(&self, batch: Bytes) -> impl Future<Output = Result<Appended, AppendError>> + Send + use<> {
        self.append_for(batch, Terms::default(), None)
    }

    /// The same under `terms`, for the span that asks for it, if it is followed: what is done
    /// for it is told to the environment's [`Spans`](quipu_protocol::environment::Spans).
    pub fn append_for(
        &self,
        batch: Bytes,
        terms: Terms,
        trace: Option<TraceContext>,
    ) -> impl Future<Output = Result<Appended, AppendError>> + Send + use<> {
        let pushed = match self.no_space() {
            None => Ok(self.inner.queue.push(batch, terms, trace, &*self.inner.environment.clock)),
            Some(low) => Err(CommandError::from(low)),
        };
        async move { pushed?.await }
    }

    /// Why nothing is appended here, if it is for want of room. Whoever does not
    /// lead says so first.
    fn no_space(&self) -> Option<LowSpace> {
        let low = self.inner.journal.low_space()?;
        (self.inner.group.status().role == Role::Leader).then(|| {
            quipu_protocol::point!("low-space-refused");
            low
        })
    }

    /// What its appends hold, and by which options that is bounded.
    pub(crate) fn footprint(&self) -> (QueueFootprint, &LogOptions) {
        (self.inner.queue.footprint(), self.inner.queue.options())
    }

    /// Moves the log's start to `to`, or to its end if that is less, and never
    /// back.
    ///
    /// # Errors
    /// Trimming again is harmless, whatever became of the first attempt.
    pub async fn trim(&self, to: Offset, leases: OnLeases) -> Result<Trimmed, TrimError> {
        let leases = match leases {
            OnLeases::Refuse => stored::StrandedLeases::Refuse,
            OnLeases::Drop => stored::StrandedLeases::Drop,
        };
        let trim = stored::Trim { to: to.get(), leases: leases.into(), past_before: 0 };
        match self.inner.group.propose(queue::trim(self.inner.clock.stamp(), trim)).await? {
            Reply::Trim(trimmed) => Ok(trimmed),
            Reply::Strands(leases) => Err(TrimError::Strands(leases)),
            reply => unreachable!("a trim was answered by {reply:?}"),
        }
    }

    /// Grants a lease of the log's start to `lease.holder`, or renews the grant that it
    /// names. A holder who has a lease that keeps as much waits for others, as cursors
    /// do, but no longer than half of what is left of it; any other grant is made at once.
    ///
    /// # Errors
    /// The same request id gets the same grant, whatever became of the first attempt.
    pub async fn hold_lease(&self, lease: stored::HoldLease) -> Result<Lease, LeaseError> {
        let (limit, actual) = (self.settings().max_lease_ms, lease.ms);
        if let Some(limit) = limit.filter(|limit| actual > *limit) {
            return Err(LeaseError::TooLong { limit, actual });
        }
        let wait = self.lease_wait(&lease);
        match self.go_along(Command::Lease(lease), wait).await? {
            CommandOutcome::Lease(lease) => Ok(lease?),
            outcome => unreachable!("a lease was answered by {outcome:?}"),
        }
    }

    /// How long `wanted` can wait, as far as its holder's lease is known here; `None` for
    /// what cannot be done, which has time.
    fn lease_wait(&self, wanted: &stored::HoldLease) -> Option<Duration> {
        let held = self.inner.group.view(|log| log.lease_of(&wanted.holder));
        let held = if wanted.grant == 0 {
            // Held again, it is kept meanwhile by what is there.
            let keeps = |held: &Lease| wanted.offset.is_none_or(|offset| held.offset.get() <= offset);
            let Some(held) = held.filter(keeps) else { return Some(Duration::ZERO) };
            held
        } else {
            held.filter(|held| held.grant == wanted.grant)?
        };
        let left = held.until.get().saturating_sub(self.inner.clock.stamp().get());
        Some(Duration::from_millis(u64::try_from(left).unwrap_or_default()) / 2)
    }

    /// Lets go of a lease, if it is that grant; whether there was one.
    ///
    /// # Errors
    /// Releasing again is harmless, whatever became of the first attempt.
    pub async fn release_lease(&self, holder: String, grant: u64) -> Result<bool, LeaseError> {
        let command = queue::release_lease(self.inner.clock.stamp(), holder, grant);
        match self.inner.group.propose(command).await.map_err(CommandError::from)? {
            Reply::Released(released) => Ok(released?),
            reply => unreachable!("a lease's release was answered by {reply:?}"),
        }
    }

    /// The leases of the log, the number of the last grant, and what the log holds: at
    /// least as of the call. Only the leader can say.
    pub async fn leases(&self) -> Result<(Vec<Lease>, u64, OffsetRange), BarrierError> {
        self.inner.group.barrier().await?;
        Ok(self.inner.group.view(|log| (log.leases(), log.lease_grants(), log.range())))
    }

    /// How much there is of the log's leases, as far as this replica has applied.
    pub fn local_lease_totals(&self) -> LeaseTotals {
        self.inner.group.view(LogMachine::lease_totals)
    }

    /// Raises the log's writer epoch for `holder`: whoever wrote under an older one
    /// is fenced. The same `request_id` gets the same answer, as long as it is one
    /// of the last [`REMEMBERED_ACQUISITIONS`].
    ///
    /// # Errors
    /// After an unknown outcome, ask again with the same request id.
    pub async fn acquire_writer(&self, holder: String, request_id: Bytes) -> Result<Acquired, ProposeError> {
        let command = queue::acquire_writer(self.inner.clock.stamp(), holder, request_id);
        match self.inner.group.propose(command).await? {
            Reply::Acquired(acquired) => Ok(acquired),
            reply => unreachable!("an acquisition was answered by {reply:?}"),
        }
    }

    /// Settles what becomes of the append that begins with `append`'s sequence: if
    /// it has not landed, it never will.
    ///
    /// # Errors
    /// Resolving again is harmless, whatever became of the first attempt.
    pub async fn resolve(&self, append: Producer) -> Result<Resolution, ProposeError> {
        let command = queue::resolve(self.inner.clock.stamp(), append);
        match self.inner.group.propose(command).await? {
            Reply::Resolved(resolution) => Ok(resolution),
            reply => unreachable!("a resolution was answered by {reply:?}"),
        }
    }

    /// Who writes the log, and where it ends: at least what was acknowledged
    /// before the call. Only the leader can say.
    pub async fn writer(&self) -> Result<(WriterStatus, OffsetRange), BarrierError> {
        self.inner.group.barrier().await?;
        Ok(self.inner.group.view(|log| (log.writer(), log.range())))
    }

    /// Carries a command to a cursor out, with others that wait: without an append to
    /// go with, a log gets one entry a second for them all.
    ///
    /// # Errors
    /// What the cursor does not take changes nothing. A commit with a request id, a
    /// claim and a deletion may be repeated, whatever became of the first attempt.
    pub async fn run_cursor(&self, name: String, action: CursorAction) -> Result<CursorAnswer, CursorError> {
        let command = stored::CursorCommand { cursor: name, action: Some(action) };
        match self.go_along(Command::Cursor(command), None).await? {
            CommandOutcome::Cursor(outcome) => Ok(outcome?),
            outcome => unreachable!("a command to a cursor was answered by {outcome:?}"),
        }
    }

    /// Lets `command` wait for others and go with them, `wait` from now at the latest.
    async fn go_along(&self, command: Command, wait: Option<Duration>) -> Result<CommandOutcome, CommandError> {
        let status = self.inner.group.status();
        if status.role != Role::Leader {
            // Not only once its turn has come.
            return Err(CommandError::NotLeader { leader: status.leader });
        }
        let now = self.inner.environment.clock.monotonic();
        self.inner.queue.push_command(command, now, wait.map(|wait| now.saturating_add(wait))).await
    }

    /// What `look` makes of the log's cursors, and what the log holds: at least what
    /// was acknowledged before the call. Only the leader can say.
    pub async fn cursors<T>(&self, look: impl FnOnce(CursorView<'_>) -> T) -> Result<(T, OffsetRange), BarrierError> {
        self.inner.group.barrier().await?;
        Ok(self.inner.group.view(|log| (look(CursorView(log.cursors())), log.range())))
    }

    /// What `look` makes of the log's cursors, as far as this replica has applied.
    pub fn local_cursors<T>(&self, look: impl FnOnce(CursorView<'_>) -> T) -> T {
        self.inner.group.view(|log| look(CursorView(log.cursors())))
    }

    /// The most bytes that a batch may have here.
    pub fn max_batch_bytes(&self) -> u64 {
        self.inner.queue.max_batch_bytes()
    }

    /// What the log takes and keeps, as far as it is known here.
    pub fn settings(&self) -> LogSettings {
        *self.inner.queue.settings().borrow()
    }

    /// Takes and keeps what `settings` say from now on.
    pub fn follow(&self, settings: LogSettings) {
        if self.inner.queue.settings().send_if_modified(|held| std::mem::replace(held, settings) != settings) {
            self.keep();
        }
    }

    /// What can be read here, as far as this replica has applied.
    pub fn range(&self) -> OffsetRange {
        self.inner.group.view(LogMachine::range)
    }

    /// How fresh the ranges and records are that this replica shows from now on; its
    /// reach is the log's end.
    pub fn freshness(&self) -> Freshness {
        self.inner.group.freshness()
    }

    /// How much that is, as far as this replica has applied. Looks at rows, at
    /// no record.
    ///
    /// # Errors
    /// When the rows cannot be read.
    pub fn retained(&self) -> Result<Retained, ReadError> {
        let Inner { group, kv, .. } = &*self.inner;
        let applied = *group.applied().borrow();
        group.view(|log| log.retained(applied, &**kv, group.key())).map_err(ReadError::storage)
    }

    /// What the log's leases keep, as far as this replica has applied. Looks at rows,
    /// at no record.
    ///
    /// # Errors
    /// When the rows cannot be read.
    pub fn pinned(&self) -> Result<Pinned, ReadError> {
        let Inner { group, kv, clock, .. } = &*self.inner;
        let now = clock.stamp();
        group.view(|log| log.pinned(log.time().max(now), &**kv, group.key())).map_err(ReadError::storage)
    }

    /// What can be read anywhere: at least everything that was acknowledged
    /// before the call. Only the leader can say.
    pub async fn linearizable_range(&self) -> Result<OffsetRange, BarrierError> {
        self.inner.group.barrier().await?;
        Ok(self.range())
    }

    /// Batches from the one that holds `from` on, about `max_bytes` of them
    /// and at least one; none at the end. What this replica has applied.
    pub async fn read(&self, from: Offset, max_bytes: u64) -> Result<ReadChunk, ReadError> {
        let Inner { group, journal, kv, .. } = &*self.inner;
        read::read(group, journal, &**kv, from, max_bytes).await
    }

    /// The first record at or after `at`. A batch's records are decompressed to
    /// at most `max_decompressed_bytes`.
    ///
    /// # Errors
    /// When what is stored cannot be read.
    pub async fn seek(&self, at: Timestamp, max_decompressed_bytes: usize) -> Result<Sought, ReadError> {
        let Inner { group, journal, kv, .. } = &*self.inner;
        seek::seek(group, journal, &**kv, at, max_decompressed_bytes).await
    }

    /// Resolves once the record at `offset` can be read here; an error once
    /// this replica will apply nothing more.
    pub async fn wait_past(&self, offset: Offset) -> Result<(), StopReason> {
        let mut applied = self.inner.group.applied();
        let stopped = self.inner.group.stopped();
        let mut stopped = std::pin::pin!(stopped);
        loop {
            applied.mark_unchanged();
            if self.range().end() > offset {
                return Ok(());
            }
            tokio::select! {
                biased;
                reason = &mut stopped => return Err(reason),
                changed = applied.changed() => changed.map_err(|_| StopReason::Panicked)?,
            }
        }
    }

    /// Refuses further appends, stops the replica and saves its state.
    pub async fn shutdown(&self) {
        self.inner.group.shutdown().await;
    }
}
