//! What the journal keeps, in the words of its callers.
//!
//! Terms and indexes are numbers here; who leads and what is agreed upon is
//! decided above.

use std::fmt;

use bytes::Bytes;
use quipu_protocol::{Index, LogId, ReplicaId, Term};

/// Whose bytes: one replica of one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplicaKey {
    /// The log, and the group that replicates it.
    pub group: LogId,
    /// Its member on this node; a new disk means a new one.
    pub replica: ReplicaId,
}

impl fmt::Display for ReplicaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "replica {} of group {}", self.replica, self.group)
    }
}

/// Which entry: its index, and the term of the leader that wrote it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId {
    /// The leader's term.
    pub term: Term,
    /// The position in the group's Raft log.
    pub index: Index,
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "entry {} of term {}", self.index, self.term)
    }
}

/// One item of a group's Raft log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Which one.
    pub id: EntryId,
    /// An encoded `quipu.stored.v1.Entry`; opaque to the journal.
    pub payload: Bytes,
}

/// What a replica has promised to an election.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vote {
    /// The term it is in.
    pub term: Term,
    /// Whom it votes for in that term.
    pub voted_for: Option<ReplicaId>,
    /// Whether a quorum voted the same way.
    pub committed: bool,
}

/// What the journal holds of one replica.
///
/// ```text
///   purged │ readable entries          │ next append
///   … 41   │ 42 … 90 (durable) 91 … 97 │ 98
///          └ never below purged + 1    └ last + 1
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplicaState {
    /// The newest saved vote.
    pub vote: Option<Vote>,
    /// The last entry that is gone for good from the front.
    pub purged: Option<EntryId>,
    /// The last entry there is, staged ones included; the purged one when none
    /// is left after it.
    pub last: Option<EntryId>,
    /// The last entry that is on stable storage with all before it.
    pub durable: Option<EntryId>,
    /// How far the group had committed, as last saved: a hint, may be older.
    pub committed: Option<EntryId>,
    /// As of which entry the newest state image on stable storage is.
    pub image: Option<EntryId>,
}
