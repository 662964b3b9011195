//! The shared journal: one node's durable entries, of all its replicas.
//!
//! ```text
//!   append, votes, …          one write + one fdatasync for all of them
//!   of all groups  ──stage──► committer ──► Lane::Commit ──► Done, in order
//!                                │ segment full
//!                                ▼
//!                             seal ──► Lane::Background: index rows ─► Kv, next spare
//! ```
//!
//! What is staged is readable at once and durable when its [`Done`] says so.
//! After a failed write or sync the journal stops for ever.

mod config;
mod entry;
mod error;

use std::ops::Range;
use std::sync::Arc;

use quipu_protocol::Index;
use quipu_protocol::environment::Random;

pub use config::{
    ConfigError, JournalConfig, MAX_COMMIT_BYTES, MAX_ENTRY_BYTES, MAX_FRAME_BYTES, MAX_SEGMENT_BYTES,
    MIN_SEGMENT_BYTES, Owner,
};
pub use entry::{Entry, EntryId, ReplicaKey, ReplicaState, Vote};
pub use error::{Damage, DamagedPart, JournalError, OpenError, ReadError};

use crate::disk::Disk;
use crate::kv::Kv;

/// Called once, when what was staged is on stable storage or never will be;
/// from any thread, in staging order, and free to call the journal. It must
/// not block.
pub type Done = Box<dyn FnOnce(Result<(), JournalError>) + Send>;

/// Called once with the entries read.
pub type ReadDone = Box<dyn FnOnce(Result<Vec<Entry>, ReadError>) + Send>;

/// A call into the node that the journal makes again and again.
pub type Hook = Box<dyn Fn() + Send + Sync>;

/// Called with the reason when the journal stops.
pub type FailedHook = Box<dyn Fn(&str) + Send + Sync>;

/// A node's journal; clones share it.
#[derive(Clone)]
pub struct Journal {}

/// What start-up found.
#[derive(Clone, Debug, Default)]
pub struct RecoveryReport {
    /// Segments whose bytes were scanned, and how many bytes that was.
    pub scanned_segments: u64,
    /// Bytes read by the scan.
    pub scanned_bytes: u64,
    /// Bytes of a last commit that was never synced and is dropped.
    pub torn_bytes: u64,
    /// Whether the index had to be rebuilt from nothing.
    pub index_rebuilt: bool,
    /// Damage below the durable mark, and whose it is; `None` is everybody's.
    pub damage: Vec<(Option<ReplicaKey>, Damage)>,
}

/// What the journal did since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Group commits, marks included.
    pub commits: u64,
    /// fdatasyncs that appends waited for.
    pub fsyncs: u64,
    /// Entries written.
    pub entries: u64,
    /// Their payloads.
    pub payload_bytes: u64,
    /// Bytes written by commits: payloads, headers, padding.
    pub written_bytes: u64,
    /// Bytes written to prepare segments, ahead of use.
    pub prepared_bytes: u64,
}

impl Journal {
    /// Opens the journal on `disk`, or makes one; reads what is not in `kv`
    /// yet from the segments.
    ///
    /// # Errors
    /// See [`OpenError`]. Damage that can be held against single replicas is no
    /// error: see [`damage`](Self::damage).
    pub fn open(
        _disk: Arc<dyn Disk>,
        _kv: Arc<dyn Kv>,
        _random: Arc<dyn Random>,
        _config: JournalConfig,
        _owner: Owner,
    ) -> Result<(Self, RecoveryReport), OpenError> {
        todo!()
    }

    /// Appends contiguous entries after the replica's last; readable on
    /// return.
    pub fn append(&self, _key: ReplicaKey, _entries: Vec<Entry>, _done: Done) {
        todo!()
    }

    /// Saves the replica's vote.
    pub fn save_vote(&self, _key: ReplicaKey, _vote: Vote, _done: Done) {
        todo!()
    }

    /// Drops the entries from `from` on; gone for reads on return.
    pub fn truncate(&self, _key: ReplicaKey, _from: Index, _done: Done) {
        todo!()
    }

    /// Drops the entries through `through` for good; gone for reads on return.
    pub fn purge(&self, _key: ReplicaKey, _through: EntryId, _done: Done) {
        todo!()
    }

    /// Remembers how far the group has committed. Rides with the next commit
    /// and causes none, so that it may be lost.
    pub fn save_committed(&self, _key: ReplicaKey, _committed: EntryId) {
        todo!()
    }

    /// Forgets the replica for good; its key is never used again.
    pub fn retire(&self, _key: ReplicaKey, _done: Done) {
        todo!()
    }

    /// What is held of the replica; `None` if nothing ever was. Ask
    /// [`damage`](Self::damage) before starting it.
    pub fn replica(&self, _key: ReplicaKey) -> Option<ReplicaState> {
        todo!()
    }

    /// Damage below the replica's durable mark: it must not start.
    pub fn damage(&self, _key: ReplicaKey) -> Option<Damage> {
        todo!()
    }

    /// All replicas that are not retired.
    pub fn replicas(&self) -> Vec<ReplicaKey> {
        todo!()
    }

    /// The id of the entry at `index`; also of the last purged one. `None` if
    /// there is no such entry.
    ///
    /// # Errors
    /// [`JournalError::Index`] when the entry's segment is sealed and the index
    /// cannot be read.
    pub fn entry_id(&self, _key: ReplicaKey, _index: Index) -> Result<Option<EntryId>, JournalError> {
        todo!()
    }

    /// Reads the entries of `range`, as many as there are and as fit into
    /// `max_bytes` of payload, at least one if there is any: inline when all
    /// are in memory, else on the disk's read lane.
    pub fn read(&self, _key: ReplicaKey, _range: Range<Index>, _max_bytes: u64, _done: ReadDone) {
        todo!()
    }

    /// The last entry that is on stable storage with all before it.
    pub fn durable(&self, _key: ReplicaKey) -> Option<EntryId> {
        todo!()
    }

    /// How much is staged and not yet durable, in bytes of the journal: the
    /// callers' measure for back-pressure.
    pub fn staged_bytes(&self) -> u64 {
        todo!()
    }

    /// Writes a mark if the last commit has none, so that damage to it cannot
    /// be taken for a torn write. The node calls this 10 ms after the last
    /// activity.
    pub fn mark_idle(&self) {
        todo!()
    }

    /// Sets what is called after each commit that still wants a mark.
    pub fn set_activity_hook(&self, _hook: Hook) {
        todo!()
    }

    /// Sets what is called once if the journal stops.
    pub fn set_failed_hook(&self, _hook: FailedHook) {
        todo!()
    }

    /// Sets what is called on the background lane after a segment was sealed
    /// and before the index is flushed.
    pub fn on_seal(&self, _hook: Hook) {
        todo!()
    }

    /// What was done so far.
    pub fn counters(&self) -> Counters {
        todo!()
    }

    /// Writes what is staged and a final mark, and flushes the index. Later
    /// calls that write are refused.
    pub fn close(&self, _done: Done) {
        todo!()
    }
}
