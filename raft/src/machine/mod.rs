//! A group's state machine, and how it is kept.
//!
//! ```text
//!   committed entries ──▶ Machine::apply ──▶ state in memory
//!                                              │ once the journal holds the
//!                                              ▼ entries on stable storage
//!                                   Kv: image + rows + applied id, one batch
//! ```
//!
//! [`Machine`] is the pure part, [`MachineStore`] the part openraft drives.
//! What is in Kv is a cache: losing it costs applying the journal again, from
//! the state image on that the journal keeps at the replica's floor.

mod floor;
mod saved;
mod store;

use std::ops::Range;

use bytes::Bytes;
use quipu_protocol::Index;
use quipu_storage::journal::{EntryId, ReplicaKey};
use quipu_storage::{Kv, Space};

use crate::types::Reply;

pub(crate) use saved::{keys, read_saved, remove, row_key};
pub(crate) use store::Shared;
pub use store::{MachineStore, SnapshotBuilder};

/// The state of a group, as a function of its committed commands.
///
/// # Invariant
/// `apply` reads no clock, no randomness and no hash order: two replicas that
/// applied the same commands have equal images.
pub trait Machine: Sized + Send + Sync + 'static {
    /// Where this machine's snapshots stand.
    const FLOOR: Floor;

    /// A machine that has applied nothing, of a group like this one's: what the
    /// group was created with, and no image holds, is the same.
    fn blank(&self) -> Self;

    /// Applies a committed command and answers its proposer.
    ///
    /// # Errors
    /// Stops the replica: a command that cannot be understood was written by
    /// a newer version, and skipping it would make replicas differ.
    fn apply(&mut self, id: EntryId, command: &Bytes) -> Result<Reply, MachineError>;

    /// The whole state but for [rows](Self::rows), encoded.
    fn image(&self) -> Bytes;

    /// Replaces the whole state by an image.
    ///
    /// # Errors
    /// When `image` is not one that this version can read.
    fn install(&mut self, image: &Bytes) -> Result<(), MachineError>;

    /// Rows that came since the last [`saved`](Self::saved), to be kept
    /// beside the image: what grows with the group and is looked up by key.
    fn rows(&self) -> Vec<Row> {
        Vec::new()
    }

    /// The image and the rows as of `applied` have reached Kv.
    fn saved(&mut self, applied: EntryId) {
        let _ = applied;
    }

    /// How far the state has come, for those who want to know whether it has what
    /// another replica told of: never goes back. A log's end.
    fn reach(&self) -> u64 {
        0
    }

    /// Changes whenever more entries may have become dispensable.
    fn trimmed(&self) -> (u64, u64) {
        (0, 0)
    }

    /// What the replica `key` may let go of, of what was applied; `None` for
    /// nothing new. Asked only where the floor is [`Floor::Trimmed`].
    ///
    /// # Errors
    /// When the rows in `kv` cannot be read.
    fn dispensable(&self, kv: &dyn Kv, key: ReplicaKey) -> Result<Option<Dispensable>, MachineError> {
        let _ = (kv, key);
        Ok(None)
    }

    /// The replica's floor has risen to where `image` is from: it holds no
    /// entry up to there any more. Not part of the state, which is the same on
    /// all replicas. Returns which of its rows are of no use any more.
    ///
    /// # Errors
    /// When `image` is not one that this version can read.
    fn rise(&mut self, image: &Bytes) -> Result<Option<Range<[u8; 8]>>, MachineError> {
        let _ = image;
        Ok(None)
    }
}

/// Where a group's snapshots stand, which is where its log may be purged to.
///
/// Installing a snapshot makes the receiver drop every entry up to it: a
/// snapshot above the entries that hold retained records would lose them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Floor {
    /// Before the first entry that holds something retained. A log's: it rises
    /// when the log is trimmed, to where a state image is in the journal.
    Trimmed,
    /// At the last applied entry: the state is all there is to keep.
    Applied,
}

/// Entries that nobody needs any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dispensable {
    /// The first entry that has to stay; all that were applied may go if there
    /// is none.
    pub needed: Option<Index>,
    /// Bytes of what would go.
    pub bytes: u64,
}

/// A row to be kept beside an image. Its key is private to the replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Where it belongs.
    pub space: Space,
    /// Its key within this replica's rows.
    pub key: [u8; 8],
    /// What it says.
    pub value: Bytes,
}

/// A committed command, an image or a row that cannot be understood.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{what} cannot be read: {reason}")]
pub struct MachineError {
    /// What was read.
    pub what: &'static str,
    /// Why it was refused.
    pub reason: String,
}

impl MachineError {
    /// `what` cannot be read, for `reason`.
    pub fn new(what: &'static str, reason: impl ToString) -> Self {
        Self { what, reason: reason.to_string() }
    }
}
