//! A machine as openraft drives it, kept in Kv.
//!
//! # Invariants
//! - What reaches Kv reflects only entries that this replica's own disk has
//!   fsynced. Applying may run ahead of the local disk (a majority elsewhere
//!   is enough to commit); were Kv ahead of the journal after a crash,
//!   start-up would take the journal's tail for purged.
//! - A snapshot stands at the machine's [`Floor`].
//! - Once entries are purged, the journal holds a state image that is at least
//!   as new; Kv may lose what it holds at any time.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use openraft::entry::RaftEntry;
use openraft::storage::{EntryResponder, RaftStateMachine, Snapshot, SnapshotMeta};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder, StoredMembership as RaftStoredMembership};
use quipu_storage::journal::{EntryId, Journal, ReplicaKey};
use quipu_storage::{Batch, Kv, KvError};
use tokio::sync::watch;

use super::saved::{self, Saved};
use super::{Floor, Machine, floor};
use crate::group::StartError;
use crate::log_store;
use crate::log_store::{Durable, LogStore};
use crate::traces::Traces;
use crate::types::{self, LogId, Reply, StoredMembership, TypeConfig};

/// What an entry costs to apply again, on top of its bytes: bounds how many
/// small entries, and rows in memory, lie between two checkpoints.
const ENTRY_COST: u64 = 512;

/// A replica's machine, shared by openraft's worker and those who look at it.
pub(crate) struct Shared<M> {
    pub(super) key: ReplicaKey,
    pub(super) journal: Journal,
    pub(super) kv: Arc<dyn Kv>,
    checkpoint_bytes: u64,
    pub(super) state: RwLock<State<M>>,
    /// What was applied since the last state image.
    pub(super) above_floor: AtomicU64,
    applied: watch::Sender<Option<EntryId>>,
    durable: watch::Receiver<Durable>,
    /// Tells of entries that are followed, from the first one on that came
    /// after this start.
    traces: Option<Traces>,
    traced_after: u64,
    /// Written by one at a time, so that Kv sees states in their order.
    saving: Mutex<Saving>,
}

pub(super) struct State<M> {
    pub(super) machine: M,
    pub(super) applied: Option<LogId>,
    pub(super) membership: StoredMembership,
    /// What was applied since the last state was taken for saving.
    unsaved: u64,
}

#[derive(Default)]
struct Saving {
    /// As of when Kv is.
    saved: Option<EntryId>,
    /// A state that waits for its entries to be on stable storage.
    pending: Option<(EntryId, Batch)>,
}

/// What is told to whoever finds a lock poisoned: there is no state to trust.
pub(super) const POISONED: &str = "the machine panicked while it was applied";

impl<M: Machine> Shared<M> {
    pub(crate) fn view<T>(&self, look: impl FnOnce(&M) -> T) -> T {
        look(&self.state.read().expect(POISONED).machine)
    }

    pub(crate) fn key(&self) -> ReplicaKey {
        self.key
    }

    /// Where the state image is, if entries below it are still there.
    pub(crate) fn unpurged(&self) -> Option<EntryId> {
        let held = self.journal.replica(self.key)?;
        held.image.filter(|image| held.purged.is_none_or(|purged| purged.index < image.index))
    }

    pub(crate) fn applied(&self) -> watch::Receiver<Option<EntryId>> {
        self.applied.subscribe()
    }

    /// Writes the state to Kv as far as stable storage allows. A state that
    /// has to wait is written by a later call.
    pub(crate) fn checkpoint(&self) -> Result<(), KvError> {
        let mut saving = self.saving.lock().expect(POISONED);
        // Twice: a state that had waited first, then what came since.
        for _ in 0..2 {
            if saving.pending.is_none() {
                saving.pending = self.take(saving.saved);
            }
            let Some((applied, _)) = saving.pending else { return Ok(()) };
            if !self.is_durable(applied) {
                return Ok(());
            }
            let (_, batch) = saving.pending.take().expect("a state is pending");
            self.kv.write(batch)?;
            quipu_protocol::point!("state-saved");
            assert!(saving.saved < Some(applied), "saved {:?} went back to {applied:?}", saving.saved);
            saving.saved = Some(applied);
            self.state.write().expect(POISONED).machine.saved(applied);
        }
        Ok(())
    }

    /// The state to save, unless it is what was saved.
    fn take(&self, saved: Option<EntryId>) -> Option<(EntryId, Batch)> {
        let mut state = self.state.write().expect(POISONED);
        let applied = state.applied.as_ref().map(types::entry_id)?;
        if saved == Some(applied) {
            return None;
        }
        state.unsaved = 0;
        let image = state.machine.image();
        let rows = state.machine.rows();
        let mut batch = Batch::new();
        Saved { applied, membership: state.membership.clone(), image }.write(self.key, rows, &mut batch);
        Some((applied, batch))
    }

    /// Whether what this replica's journal holds through `applied` is on
    /// stable storage.
    ///
    /// A log that is durable through an entry of that term or a newer one, at
    /// that index or a later one, is durable through `applied`: that is
    /// committed, so no newer log lacks it. Of what came by a snapshot the
    /// journal holds nothing.
    fn is_durable(&self, applied: EntryId) -> bool {
        let Some(held) = self.journal.replica(self.key).and_then(|state| state.last) else { return true };
        let through = held.min(applied);
        let durable = self.journal.durable(self.key);
        durable.is_some_and(|durable| durable.term >= through.term && durable.index >= through.index)
    }

    /// Checkpoints, waiting for stable storage to allow it.
    pub(crate) async fn settle(&self) -> io::Result<()> {
        let mut durable = self.durable.clone();
        loop {
            if let Err(error) = &*durable.borrow_and_update() {
                return Err(io::Error::other(error.clone()));
            }
            self.checkpoint().map_err(io::Error::other)?;
            if self.saving.lock().expect(POISONED).pending.is_none() {
                return Ok(());
            }
            if durable.changed().await.is_err() {
                return Err(io::Error::new(io::ErrorKind::BrokenPipe, "the log store is gone"));
            }
        }
    }

    /// Checkpoints if enough was applied since, or a state waits.
    fn checkpoint_if_due(&self) -> Result<(), KvError> {
        let due = self.state.read().expect(POISONED).unsaved >= self.checkpoint_bytes;
        if due || self.saving.lock().expect(POISONED).pending.is_some() { self.checkpoint() } else { Ok(()) }
    }

    fn apply(&self, entry: types::Entry) -> io::Result<Reply> {
        let mut state = self.state.write().expect(POISONED);
        let log_id = entry.log_id();
        let (found, next) = (log_id.index, state.applied.map_or(0, |applied| applied.index + 1));
        assert!(found == next, "entry {found} was applied where entry {next} is next");
        let cost = ENTRY_COST + command_bytes(&entry.payload);
        let reply = match entry.payload {
            EntryPayload::Blank => Reply::None,
            EntryPayload::Membership(membership) => {
                state.membership = RaftStoredMembership::new(Some(log_id), membership);
                Reply::None
            }
            EntryPayload::Normal(command) => {
                let body = command.body();
                let traces = self.traces.as_ref().filter(|_| log_id.index > self.traced_after);
                let followed = traces.and_then(|traces| Some((traces, Traces::proposed_by(&body)?, traces.now())));
                let reply = state.machine.apply(types::entry_id(&log_id), &body).map_err(io::Error::other)?;
                if let Some((traces, proposed_by, start)) = followed {
                    traces.done_for(types::entry_id(&log_id), proposed_by, "apply", start);
                }
                reply
            }
        };
        state.unsaved += cost;
        self.above_floor.fetch_add(cost, Ordering::Relaxed);
        state.applied = Some(log_id);
        quipu_protocol::point!("entry-applied");
        Ok(reply)
    }

    /// Replaces the state by a snapshot: in the journal first, which openraft
    /// purges up to there next, then in Kv and in memory.
    async fn install(&self, meta: &SnapshotMetaOf, image: &Bytes) -> io::Result<()> {
        if let Some(at) = meta.last_log_id.as_ref().map(types::entry_id) {
            let saved = Saved { applied: at, membership: meta.last_membership.clone(), image: image.clone() };
            log_store::save_image(&self.journal, self.key, at, saved.encode().into()).await?;
            quipu_protocol::point!("snapshot-kept");
        }
        self.replace(meta, image)
    }

    fn replace(&self, meta: &SnapshotMetaOf, image: &Bytes) -> io::Result<()> {
        let mut saving = self.saving.lock().expect(POISONED);
        let mut state = self.state.write().expect(POISONED);
        state.machine.install(image).map_err(io::Error::other)?;
        // Whoever installs a snapshot holds nothing below it.
        state.machine.rise(image).map_err(io::Error::other)?;
        self.above_floor.store(0, Ordering::Relaxed);
        state.applied = meta.last_log_id;
        state.membership = meta.last_membership.clone();
        state.unsaved = 0;
        let applied = meta.last_log_id.as_ref().map(types::entry_id);
        let mut batch = Batch::new();
        saved::forget(self.key, &mut batch);
        if let Some(applied) = applied {
            let saved = Saved { applied, membership: state.membership.clone(), image: image.clone() };
            saved.write(self.key, Vec::new(), &mut batch);
        }
        self.kv.write(batch).map_err(io::Error::other)?;
        quipu_protocol::point!("snapshot-installed");
        *saving = Saving { saved: applied, pending: None };
        self.applied.send_replace(applied);
        Ok(())
    }

    /// The snapshot at the machine's floor; `None` before the first entry,
    /// where there is nothing that it could spare a receiver.
    async fn snapshot(&self) -> io::Result<Option<SnapshotOf>> {
        let (last_log_id, last_membership, snapshot) = match M::FLOOR {
            Floor::Trimmed => {
                let Some(saved) = floor::load(&self.journal, self.key).await? else { return Ok(None) };
                (Some(types::log_id(saved.applied)), saved.membership, saved.image)
            }
            Floor::Applied => {
                let state = self.state.read().expect(POISONED);
                (state.applied, state.membership.clone(), state.machine.image())
            }
        };
        let meta = SnapshotMeta { last_log_id, last_membership };
        Ok(last_log_id.is_some().then_some(Snapshot { meta, snapshot }))
    }
}

/// What a command has to be applied again for.
fn command_bytes(payload: &EntryPayload<types::Command, u64, types::Member>) -> u64 {
    if let EntryPayload::Normal(command) = payload { command.length() as u64 } else { 0 }
}

type SnapshotMetaOf = openraft::type_config::alias::SnapshotMetaOf<TypeConfig>;
type SnapshotOf = openraft::type_config::alias::SnapshotOf<TypeConfig, Bytes>;

/// A [`Machine`] as openraft drives it.
pub struct MachineStore<M> {
    shared: Arc<Shared<M>>,
}

impl<M: Machine> MachineStore<M> {
    /// Brings `machine`, which has applied nothing, to what `kv` keeps of the
    /// replica whose entries are in `log`.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn open(
        log: &LogStore,
        mut machine: M,
        kv: Arc<dyn Kv>,
        checkpoint_bytes: u64,
    ) -> Result<Self, StartError> {
        let (key, journal) = (log.key(), log.journal().clone());
        let floor = floor::load(&journal, key).await.map_err(|error| StartError::Image(Arc::new(error)))?;
        let floor_at = floor.as_ref().map(|floor| floor.applied);
        // Kv may have lost what it held; the image is the least there is.
        let saved = Saved::load(&*kv, key)??.filter(|saved| floor_at.is_none_or(|at| at.index <= saved.applied.index));
        let in_kv = saved.as_ref().map(|saved| saved.applied);
        let floor_image = floor.as_ref().map(|floor| floor.image.clone());
        let saved = saved.or(floor);
        let mut membership = StoredMembership::default();
        let applied = saved.as_ref().map(|saved| saved.applied);
        if let Some(saved) = saved {
            let there = journal.entry_id(key, saved.applied.index)?;
            // What came by a snapshot is in the journal before the purge that
            // follows it. Should a crash have come between, openraft finds the
            // hole as it starts and purges then.
            if there != Some(saved.applied) && floor_at != Some(saved.applied) {
                let last = journal.replica(key).and_then(|state| state.last);
                return Err(StartError::MetadataAhead { applied: saved.applied, last });
            }
            machine.install(&saved.image)?;
            machine.saved(saved.applied);
            membership = saved.membership;
        }
        if let Some(image) = &floor_image {
            machine.rise(image)?;
        }
        let state = State { machine, applied: applied.map(types::log_id), membership, unsaved: 0 };
        let last = journal.replica(key).and_then(|state| state.last);
        let shared = Shared {
            key,
            journal,
            kv,
            checkpoint_bytes,
            state: RwLock::new(state),
            above_floor: AtomicU64::new(0),
            applied: watch::channel(applied).0,
            durable: log.durable(),
            // What the journal holds already is applied again, not anew.
            traces: log.traces().cloned(),
            traced_after: last.map_or(0, |last| last.index.get()),
            saving: Mutex::new(Saving { saved: in_kv, pending: None }),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    pub(crate) fn shared(&self) -> Arc<Shared<M>> {
        Arc::clone(&self.shared)
    }
}

impl<M: Machine> RaftStateMachine<TypeConfig> for MachineStore<M> {
    type SnapshotData = Bytes;
    type SnapshotBuilder = SnapshotBuilder<M>;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let state = self.shared.state.read().expect(POISONED);
        Ok((state.applied, state.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        let mut applied = None;
        while let Some(item) = entries.next().await {
            let (entry, responder) = item?;
            applied = Some(types::entry_id(&entry.log_id()));
            let reply = self.shared.apply(entry)?;
            if let Some(responder) = responder {
                responder.send(reply);
            }
        }
        if applied.is_some() {
            self.shared.applied.send_replace(applied);
        }
        self.shared.checkpoint_if_due().map_err(io::Error::other)
    }

    async fn get_snapshot_builder(&mut self) -> Self::SnapshotBuilder {
        SnapshotBuilder { shared: Arc::clone(&self.shared) }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMetaOf, snapshot: Bytes) -> Result<(), io::Error> {
        self.shared.install(meta, &snapshot).await
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<SnapshotOf>, io::Error> {
        self.shared.snapshot().await
    }
}

/// Builds a snapshot at the machine's floor.
pub struct SnapshotBuilder<M> {
    shared: Arc<Shared<M>>,
}

impl<M: Machine> RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder<M> {
    type SnapshotData = Bytes;

    async fn build_snapshot(&mut self) -> Result<SnapshotOf, io::Error> {
        let snapshot = self.shared.snapshot().await?;
        if let (Floor::Applied, Some(snapshot)) = (M::FLOOR, &snapshot)
            && let Some(at) = &snapshot.meta.last_log_id
        {
            // The log may be purged up to here next.
            self.shared.raise(types::entry_id(at)).await?;
        }
        let nothing = || self.shared.state.read().expect(POISONED).machine.blank().image();
        Ok(snapshot.unwrap_or_else(|| Snapshot { meta: SnapshotMeta::default(), snapshot: nothing() }))
    }
}
