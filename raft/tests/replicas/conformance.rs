//! openraft's own suite over our log store and machine store.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use openraft::entry::RaftEntry;
use openraft::storage::{
    EntryResponder, IOFlushed, LeaderBoundedStreamError, LogState, RaftLogStorage, RaftStateMachine,
};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::type_config::alias::{SnapshotMetaOf, SnapshotOf};
use openraft::{EntryPayload, OptionalSend, RaftLogReader, StorageError};
use quipu_protocol::{ClusterId, Incarnation, NodeId, ReplicaId};
use quipu_raft::machine::SnapshotBuilder;
use quipu_raft::runtime::scope;
use quipu_raft::types::{Entry, LogId, StoredMembership, Vote};
use quipu_raft::{Floor, LogStore, Machine, MachineError, MachineStore, Reply, TypeConfig};
use quipu_storage::journal::{EntryId, Journal, JournalConfig, Owner, ReplicaKey};
use quipu_storage::{Disk, Kv, MemoryDisk, MemoryKv, RocksKv, SystemDisk};

use crate::environment::{Seeded, environment};

const GROUP: quipu_protocol::LogId = quipu_protocol::LogId::new(3);

type LeaderId = openraft::type_config::alias::LeaderIdOf<TypeConfig>;

/// A machine whose snapshots stand where it has applied to, as the suite
/// expects.
#[derive(Default)]
pub(crate) struct Concatenation(Vec<u8>);

impl Machine for Concatenation {
    const FLOOR: Floor = Floor::Applied;

    fn blank(&self) -> Self {
        Self::default()
    }

    fn apply(&mut self, _id: EntryId, command: &Bytes) -> Result<Reply, MachineError> {
        self.0.extend_from_slice(command);
        Ok(Reply::None)
    }

    fn image(&self) -> Bytes {
        self.0.clone().into()
    }

    fn install(&mut self, image: &Bytes) -> Result<(), MachineError> {
        self.0 = image.to_vec();
        Ok(())
    }
}

/// The suite begins logs at index 1 with nothing purged before it. Ours begin
/// at 0, and an entry that is missing there is an error; so this remembers
/// where the suite began and asks for nothing before.
#[derive(Clone)]
struct BegunLate {
    log: LogStore,
    first: Arc<AtomicU64>,
}

impl BegunLate {
    fn clip(&self, range: &impl RangeBounds<u64>) -> (Bound<u64>, Bound<u64>) {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(before) => before + 1,
            Bound::Unbounded => 0,
        };
        let first = self.first.load(Ordering::Relaxed);
        let first = if first == u64::MAX { 0 } else { first };
        (Bound::Included(start.max(first)), range.end_bound().cloned())
    }
}

impl RaftLogReader<TypeConfig> for BegunLate {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        self.log.try_get_log_entries(self.clip(&range)).await
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        self.log.limited_get_log_entries(start, end).await
    }

    async fn entries_stream<RB>(&mut self, range: RB) -> impl Stream<Item = Result<Entry, io::Error>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        self.log.entries_stream(self.clip(&range)).await
    }

    async fn leader_bounded_stream<RB>(
        &mut self,
        leader: LeaderId,
        range: RB,
    ) -> impl Stream<Item = Result<Entry, LeaderBoundedStreamError<TypeConfig>>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        self.log.leader_bounded_stream(leader, self.clip(&range)).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        self.log.read_vote().await
    }
}

impl RaftLogStorage<TypeConfig> for BegunLate {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        self.log.get_log_state().await
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.log.save_vote(vote).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.log.save_committed(committed).await
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        self.log.read_committed().await
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        if let Some(first) = entries.first() {
            self.first.fetch_min(first.log_id.index, Ordering::Relaxed);
        }
        self.log.append(entries, callback).await
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        self.log.truncate_after(last).await
    }

    async fn purge(&mut self, through: LogId) -> Result<(), io::Error> {
        self.log.purge(through).await
    }
}

/// The suite applies entries far from one another, as openraft itself never
/// does. Ours are applied one after the other; so this puts blanks between.
struct WithoutGaps(MachineStore<Concatenation>);

impl RaftStateMachine<TypeConfig> for WithoutGaps {
    type SnapshotData = Bytes;
    type SnapshotBuilder = SnapshotBuilder<Concatenation>;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        self.0.applied_state().await
    }

    async fn apply<S>(&mut self, entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        let (applied, _) = self.0.applied_state().await?;
        let mut next = applied.map_or(0, |applied| applied.index + 1);
        let entries = entries.flat_map(move |item| {
            let mut filled = Vec::new();
            if let Ok((entry, _)) = &item {
                let LogId { leader_id, index } = entry.log_id();
                let blank = |index| Entry { log_id: LogId { leader_id, index }, payload: EntryPayload::Blank };
                filled.extend((next..index).map(|index| Ok((blank(index), None))));
                next = index + 1;
            }
            filled.push(item);
            stream::iter(filled)
        });
        self.0.apply(entries).await
    }

    async fn get_snapshot_builder(&mut self) -> Self::SnapshotBuilder {
        self.0.get_snapshot_builder().await
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMetaOf<TypeConfig>, snapshot: Bytes) -> Result<(), io::Error> {
        self.0.install_snapshot(meta, snapshot).await
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<SnapshotOf<TypeConfig, Bytes>>, io::Error> {
        self.0.get_current_snapshot().await
    }
}

async fn stores(disk: Arc<dyn Disk>, kv: Arc<dyn Kv>) -> (BegunLate, WithoutGaps) {
    let owner = Owner { cluster: ClusterId::new(1), node: NodeId::new(1), incarnation: Incarnation::new(1) };
    let config = JournalConfig { segment_bytes: 1 << 20, tail_cache_bytes: 1 << 20, ..JournalConfig::default() };
    let (journal, _) = Journal::open(disk, Arc::clone(&kv), Arc::new(Seeded::new(1)), config, owner).unwrap();
    let key = ReplicaKey { group: GROUP, replica: ReplicaId::new(1) };
    let log = LogStore::new(key, journal, 1 << 20);
    let machine = MachineStore::open(&log, Concatenation::default(), kv, 1 << 20).await.unwrap();
    (BegunLate { log, first: Arc::new(AtomicU64::new(u64::MAX)) }, WithoutGaps(machine))
}

struct InMemory;

impl StoreBuilder<TypeConfig, BegunLate, WithoutGaps> for InMemory {
    async fn build(&self) -> Result<((), BegunLate, WithoutGaps), StorageError<TypeConfig>> {
        let (log, machine) = stores(Arc::new(MemoryDisk::new(1)), Arc::new(MemoryKv::new())).await;
        Ok(((), log, machine))
    }
}

struct OnDisk;

/// What is closed with a test: the last owner of the store may be a thread of
/// the disk, and RocksDB does not outlive the process's end.
struct Opened {
    kv: Arc<RocksKv>,
    _directory: tempfile::TempDir,
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.kv.close().expect("it was open");
    }
}

impl StoreBuilder<TypeConfig, BegunLate, WithoutGaps, Opened> for OnDisk {
    async fn build(&self) -> Result<(Opened, BegunLate, WithoutGaps), StorageError<TypeConfig>> {
        let directory = tempfile::tempdir().unwrap();
        let disk = SystemDisk::open(directory.path()).unwrap();
        let kv = Arc::new(RocksKv::open(&directory.path().join("metadata")).unwrap());
        let (log, machine) = stores(Arc::new(disk), Arc::clone(&kv) as Arc<dyn Kv>).await;
        Ok((Opened { kv, _directory: directory }, log, machine))
    }
}

#[tokio::test]
async fn openraft_accepts_the_stores_in_memory() {
    scope(&environment(1), Suite::test_all(InMemory)).await.unwrap();
}

#[tokio::test]
async fn openraft_accepts_the_stores_on_disk() {
    scope(&environment(1), Suite::test_all(OnDisk)).await.unwrap();
}
