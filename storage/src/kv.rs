//! The seam between our storage code and an ordered key-value engine.
//!
//! What is in it is a cache of the journal: all of it can be found again by
//! scanning, so nothing here is logged ahead. In return a crash may take back
//! every write since the last [`flush`](Kv::flush), but only from the end: what
//! is left is the state after some prefix of the batches, across all spaces.
//!
//! ```text
//!   write 1   write 2   flush   write 3   write 4      (crash)
//!   └───── survives for sure ─┘ └ 3 may, 4 only with 3 ┘
//! ```

pub mod conformance;
mod memory;
mod rocks;

use std::error::Error;
use std::sync::Arc;

use bytes::Bytes;

pub use memory::MemoryKv;
pub use rocks::RocksKv;

/// A set of keys of its own. The number of spaces is fixed: an engine pays
/// for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Space {
    /// Where the entries of sealed segments lie.
    Index,
    /// Which entry gave a log's records their offsets.
    Offsets,
    /// State machines as last persisted.
    State,
}

impl Space {
    /// All spaces.
    pub const ALL: [Self; 3] = [Self::Index, Self::Offsets, Self::State];

    /// Its name in the engine; never changes.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Index => "index",
            Self::Offsets => "offsets",
            Self::State => "state",
        }
    }
}

/// Ordered keys and values in a few [`Space`]s. Keys compare as bytes.
pub trait Kv: Send + Sync + 'static {
    /// The value at `key`.
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, KvError>;

    /// The first `limit` pairs with keys in `start..end`, in order.
    fn scan(&self, space: Space, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>, KvError>;

    /// The pair with the greatest key in `lower..=key`.
    fn last_before(&self, space: Space, lower: &[u8], key: &[u8]) -> Result<Option<(Bytes, Bytes)>, KvError>;

    /// Applies all of `batch` or nothing; seen by the next read, durable after
    /// the next [`flush`](Self::flush).
    fn write(&self, batch: Batch) -> Result<(), KvError>;

    /// Makes everything written so far durable. Blocks: call it from
    /// [`Lane::Background`](crate::Lane::Background).
    fn flush(&self) -> Result<(), KvError>;

    /// How many bytes the engine has written to the disk since it was opened.
    fn bytes_written(&self) -> u64;

    /// Flushes and lets go of the files; every later call fails with
    /// [`KvError::Closed`].
    fn close(&self) -> Result<(), KvError>;
}

/// Why the engine did not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum KvError {
    /// [`Kv::close`] was called before.
    #[error("the key-value store was closed")]
    Closed,
    /// The engine failed; what it holds can be rebuilt from the journal.
    #[error("the key-value store could not {operation}")]
    Engine {
        /// What was asked of it.
        operation: &'static str,
        /// What the engine said.
        source: Arc<dyn Error + Send + Sync>,
    },
    /// A row passed the engine's checks and is nothing that is ever written
    /// there. What the store holds can be rebuilt from the journal.
    #[error("the key-value store holds a row that is not legible, at key {}", key.escape_ascii())]
    Illegible {
        /// Where it lies.
        key: Bytes,
    },
}

/// Changes that take effect together.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    changes: Vec<Change>,
}

/// One change of a [`Batch`]; later ones of a batch win over earlier ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Sets the value at a key.
    Put {
        /// Where.
        space: Space,
        /// Which key.
        key: Bytes,
        /// What it holds from now on.
        value: Bytes,
    },
    /// Removes a key, if it is there.
    Delete {
        /// Where.
        space: Space,
        /// Which key.
        key: Bytes,
    },
    /// Removes all keys in `start..end`.
    DeleteRange {
        /// Where.
        space: Space,
        /// The first key to go.
        start: Bytes,
        /// The first key after them that stays.
        end: Bytes,
    },
}

impl Batch {
    /// No changes yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `key` to `value`.
    pub fn put(&mut self, space: Space, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.changes.push(Change::Put { space, key: key.into(), value: value.into() });
    }

    /// Removes `key`, if it is there.
    pub fn delete(&mut self, space: Space, key: impl Into<Bytes>) {
        self.changes.push(Change::Delete { space, key: key.into() });
    }

    /// Removes all keys in `start..end`; an empty or reversed range has none.
    pub fn delete_range(&mut self, space: Space, start: impl Into<Bytes>, end: impl Into<Bytes>) {
        let (start, end) = (start.into(), end.into());
        if start < end {
            self.changes.push(Change::DeleteRange { space, start, end });
        }
    }

    /// How many changes there are.
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// The changes in order; for implementations of [`Kv`].
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }
}
