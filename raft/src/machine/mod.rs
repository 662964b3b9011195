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
//! What is in Kv is a cache: losing it costs applying the journal again.

mod saved;
mod store;

use bytes::Bytes;
use quipu_storage::Space;
use quipu_storage::journal::EntryId;

use crate::types::Reply;

pub(crate) use saved::{read_saved, row_key};
pub(crate) use store::Shared;
pub use store::{MachineStore, SnapshotBuilder};

/// The state of a group, as a function of its committed commands.
///
/// # Invariant
/// `apply` reads no clock, no randomness and no hash order: two replicas that
/// applied the same commands have equal images.
pub trait Machine: Send + Sync + 'static {
    /// Where this machine's snapshots stand.
    const FLOOR: Floor;

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
}

/// Where a group's snapshots stand, which is where its log may be purged to.
///
/// Installing a snapshot makes the receiver drop every entry up to it: a
/// snapshot above the entries that hold retained records would lose them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Floor {
    /// Before the first entry: nothing is ever purged. A log's, until it can
    /// be trimmed.
    Origin,
    /// At the last applied entry: the state is all there is to keep.
    Applied,
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
