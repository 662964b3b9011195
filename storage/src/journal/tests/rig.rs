//! What the tests open a journal with, and how they speak to it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use quipu_protocol::environment::Random;
use quipu_protocol::{ClusterId, Incarnation, Index, LogId, NodeId, ReplicaId, Term};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::disk::{Disk, MemoryDisk};
use crate::journal::{
    Done, Entry, EntryId, Journal, JournalConfig, JournalError, OpenError, Owner, ReadError, RecoveryReport,
    ReplicaKey, Vote,
};
use crate::kv::{Kv, MemoryKv};

/// Whose the tests' journals are.
pub(super) const OWNER: Owner =
    Owner { cluster: ClusterId::new(0xC1), node: NodeId::new(3), incarnation: Incarnation::new(0x0D15_C000) };

/// Numbers that follow from a seed.
pub(super) struct Seeded(Mutex<StdRng>);

impl Seeded {
    pub(super) fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self(Mutex::new(StdRng::seed_from_u64(seed))))
    }
}

impl Random for Seeded {
    fn next(&self) -> u64 {
        self.0.lock().unwrap().random()
    }
}

/// Segments of `segment_bytes`, however few, and a cache that holds nothing
/// durable, so that reads go to the disk.
pub(super) fn tiny(segment_bytes: u64) -> JournalConfig {
    JournalConfig { segment_bytes, tail_cache_bytes: 0, rewrite_bytes: 8 * 1024, ..JournalConfig::default() }
}

/// What [`low`] keeps.
pub(super) const LOW_SPACE_BYTES: u64 = 1 << 30;

/// As [`tiny`], with a low-space mark that disks of little room are below of, and
/// portions that fit a segment.
pub(super) fn low(segment_bytes: u64) -> JournalConfig {
    JournalConfig { low_space_bytes: LOW_SPACE_BYTES, rewrite_bytes: segment_bytes, ..tiny(segment_bytes) }
}

pub(super) fn key(group: u64) -> ReplicaKey {
    ReplicaKey { group: LogId::new(group), replica: ReplicaId::new(group * 10 + 1) }
}

pub(super) fn id(term: u64, index: u64) -> EntryId {
    EntryId { term: Term::new(term), index: Index::new(index) }
}

/// An entry whose payload tells it apart from every other one.
pub(super) fn entry(term: u64, index: u64, bytes: usize) -> Entry {
    let mark = format!("{term}/{index} ");
    let payload: Vec<u8> = mark.bytes().cycle().take(bytes).collect();
    Entry { id: id(term, index), payload: Bytes::from(payload) }
}

pub(super) fn entries(term: u64, indexes: std::ops::Range<u64>, bytes: usize) -> Vec<Entry> {
    indexes.map(|index| entry(term, index, bytes)).collect()
}

pub(super) fn vote(term: u64, for_replica: u64) -> Vote {
    Vote { term: Term::new(term), voted_for: Some(ReplicaId::new(for_replica)), committed: false }
}

/// A promise of the journal, to be waited for.
pub(super) struct Promise<T>(Receiver<T>);

impl<T> Promise<T> {
    /// Waits until it is kept or broken.
    pub(super) fn wait(&self) -> T {
        self.0.recv_timeout(Duration::from_secs(60)).expect("the journal answers")
    }

    /// What has become of it, if anything.
    pub(super) fn now(&self) -> Option<T> {
        self.0.try_recv().ok()
    }
}

pub(super) fn promise() -> (Done, Promise<Result<(), JournalError>>) {
    let (send, receive) = sync_channel(1);
    (Box::new(move |result| send.send(result).unwrap_or(())), Promise(receive))
}

/// A journal that is spoken to in whole sentences.
pub(super) struct Talk(pub(super) Journal);

impl Talk {
    pub(super) fn open(
        disk: Arc<dyn Disk>,
        kv: Arc<dyn Kv>,
        config: JournalConfig,
    ) -> Result<(Self, RecoveryReport), OpenError> {
        // Another one each time: a nonce is never used twice.
        static OPENED: AtomicU64 = AtomicU64::new(0);
        let seed = Seeded::new(config.segment_bytes + OPENED.fetch_add(1, Ordering::Relaxed));
        Journal::open_checked(disk, kv, seed, config, OWNER, 0).map(|(journal, report)| (Self(journal), report))
    }

    pub(super) fn append(&self, key: ReplicaKey, entries: Vec<Entry>) -> Promise<Result<(), JournalError>> {
        let (done, promise) = promise();
        self.0.append(key, entries, done);
        promise
    }

    pub(super) fn save_vote(&self, key: ReplicaKey, vote: Vote) -> Promise<Result<(), JournalError>> {
        let (done, promise) = promise();
        self.0.save_vote(key, vote, done);
        promise
    }

    pub(super) fn truncate(&self, key: ReplicaKey, from: u64) -> Promise<Result<(), JournalError>> {
        let (done, promise) = promise();
        self.0.truncate(key, Index::new(from), done);
        promise
    }

    pub(super) fn purge(&self, key: ReplicaKey, through: EntryId) -> Promise<Result<(), JournalError>> {
        let (done, promise) = promise();
        self.0.purge(key, through, done);
        promise
    }

    pub(super) fn save_image(&self, key: ReplicaKey, at: EntryId, image: Bytes) -> Promise<Result<(), JournalError>> {
        let (done, promise) = promise();
        self.0.save_image(key, at, image, done);
        promise
    }

    pub(super) fn read_image(&self, key: ReplicaKey) -> Result<Option<(EntryId, Bytes)>, ReadError> {
        let (send, receive) = sync_channel(1);
        self.0.read_image(key, Box::new(move |result| send.send(result).unwrap_or(())));
        Promise(receive).wait()
    }

    pub(super) fn retire(&self, key: ReplicaKey) -> Promise<Result<(), JournalError>> {
        let (done, promise) = promise();
        self.0.retire(key, done);
        promise
    }

    pub(super) fn close(&self) -> Result<(), JournalError> {
        let (done, promise) = promise();
        self.0.close(done);
        promise.wait()
    }

    /// One read.
    pub(super) fn read(&self, key: ReplicaKey, from: u64, to: u64, max: u64) -> Result<Vec<Entry>, ReadError> {
        let (send, receive) = sync_channel(1);
        let range = Index::new(from)..Index::new(to);
        self.0.read(key, range, max, Box::new(move |result| send.send(result).unwrap_or(())));
        Promise(receive).wait()
    }

    /// A read, to be waited for.
    pub(super) fn begin_read(&self, key: ReplicaKey, from: u64, to: u64) -> Promise<Result<Vec<Entry>, ReadError>> {
        let (send, receive) = sync_channel(1);
        let range = Index::new(from)..Index::new(to);
        self.0.read(key, range, u64::MAX, Box::new(move |result| send.send(result).unwrap_or(())));
        Promise(receive)
    }

    /// Everything that the journal holds of a replica, read in pieces.
    pub(super) fn read_all(&self, key: ReplicaKey) -> Result<Vec<Entry>, ReadError> {
        let Some(state) = self.0.replica(key) else { return Ok(Vec::new()) };
        let Some(last) = state.last else { return Ok(Vec::new()) };
        let mut all: Vec<Entry> = Vec::new();
        // An empty replica's first index is its callers' choice.
        let mut next = match state.purged {
            Some(purged) => purged.index.next(),
            None => (0..=last.index.get())
                .map(Index::new)
                .find(|it| matches!(self.0.entry_id(key, *it), Ok(Some(_))))
                .unwrap_or(last.index.next()),
        };
        while next <= last.index {
            let more = self.read(key, next.get(), last.index.get() + 1, 5000)?;
            assert!(!more.is_empty(), "a read of what is there returns something");
            next = more.last().unwrap().id.index.next();
            all.extend(more);
        }
        Ok(all)
    }
}

/// A disk and a store in memory.
#[derive(Clone)]
pub(super) struct Memory {
    pub(super) disk: Arc<MemoryDisk>,
    pub(super) kv: Arc<MemoryKv>,
}

impl Memory {
    pub(super) fn new(seed: u64) -> Self {
        Self { disk: Arc::new(MemoryDisk::new(seed)), kv: Arc::new(MemoryKv::new()) }
    }

    pub(super) fn open(&self, config: JournalConfig) -> (Talk, RecoveryReport) {
        Talk::open(self.disk.clone(), self.kv.clone(), config).unwrap_or_else(|error| panic!("{error}: {error:?}"))
    }

    /// After the process was killed.
    pub(super) fn kill(&self, seed: u64) -> Self {
        let (disk, kv) = (self.disk.kill(seed), self.kv.lose_unflushed(seed));
        Self { disk: Arc::new(disk), kv: Arc::new(kv) }
    }

    /// After a power cut.
    pub(super) fn restore(&self, seed: u64) -> Self {
        let (disk, kv) = (self.disk.restore(seed), self.kv.lose_unflushed(seed));
        Self { disk: Arc::new(disk), kv: Arc::new(kv) }
    }

    /// With the store gone.
    pub(super) fn without_kv(&self) -> Self {
        Self { disk: self.disk.clone(), kv: Arc::new(MemoryKv::new()) }
    }
}
