//! What can go wrong with a group, by operation.

use std::io;
use std::sync::Arc;

use quipu_protocol::{NodeId, ReplicaId};
use quipu_storage::KvError;
use quipu_storage::journal::{Damage, EntryId, JournalError};

use super::OptionsError;
use crate::machine::MachineError;

/// A replica could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its journal is damaged below what it had made durable. It must be
    /// replaced by a new replica id.
    #[error("the replica's entries are damaged: {0}")]
    Damaged(Damage),
    /// Kv reflects entries that the journal does not have, and does not have
    /// them by a snapshot: one of the two came from elsewhere, or the journal
    /// lost what it had made durable.
    #[error("the metadata is at {applied}, which the journal does not have (its last is {last:?})")]
    MetadataAhead {
        /// What Kv reflects.
        applied: EntryId,
        /// What the journal ends with.
        last: Option<EntryId>,
    },
    /// The options contradict one another.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// What Kv keeps of the machine cannot be read.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// Kv failed.
    #[error(transparent)]
    Kv(#[from] KvError),
    /// The journal failed.
    #[error("the journal cannot be read")]
    Journal(#[from] JournalError),
    /// The journal did not take the first entry of a group that is founded.
    #[error("the group's first entry cannot be written")]
    Founding(#[source] io::Error),
    /// The state image in the journal cannot be read.
    #[error("the replica's state image cannot be read")]
    Image(#[source] Arc<io::Error>),
    /// openraft refused what it found.
    #[error("starting: {0}")]
    Raft(String),
}

/// A command was not applied, or perhaps was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Another replica has to be asked. Nothing was changed.
    #[error("another replica leads: {leader:?}")]
    NotLeader {
        /// Which, as far as this one knows.
        leader: Option<(ReplicaId, NodeId)>,
    },
    /// It was proposed, and leadership was lost before it was known to be
    /// committed: it may or may not land, now or later.
    #[error("whether it landed is not known")]
    OutcomeUnknown,
    /// The replica has stopped. Nothing was changed.
    #[error("the replica stopped: {0}")]
    Stopped(StopReason),
}

/// What a linearizable read has to wait for could not be settled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BarrierError {
    /// Another replica has to be asked.
    #[error("another replica leads: {leader:?}")]
    NotLeader {
        /// Which, as far as this one knows.
        leader: Option<(ReplicaId, NodeId)>,
    },
    /// No majority answered.
    #[error("no majority answered")]
    Unavailable,
    /// The replica has stopped.
    #[error("the replica stopped: {0}")]
    Stopped(StopReason),
}

/// Why a replica runs no more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StopReason {
    /// It was asked to.
    #[error("shut down")]
    Shutdown,
    /// Its journal, Kv or machine failed.
    #[error("storage failed: {0}")]
    Storage(String),
    /// A defect.
    #[error("a task panicked")]
    Panicked,
}
