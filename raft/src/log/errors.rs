//! What can go wrong with a log, by operation.

use std::sync::Arc;

use quipu_protocol::{NodeId, Offset, OffsetRange, ProducerEpoch, ReplicaId, Sequence, WriterEpoch};
use quipu_storage::journal::LowSpace;

use super::leases::{Lease, LeaseRefused};
use crate::group::{ProposeError, StopReason};
use crate::types::CursorRefusal;

/// A command to a log came to nothing, or perhaps not, whatever it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// Another replica has to be asked. Nothing was changed.
    #[error("another replica leads: {leader:?}")]
    NotLeader {
        /// Which, as far as this one knows.
        leader: Option<(ReplicaId, NodeId)>,
    },
    /// As much waits or is proposed as may be. Nothing was changed.
    #[error("too much waits: {bound} is {limit}")]
    Overloaded {
        /// Which bound.
        bound: &'static str,
        /// What it is, in its unit.
        limit: u64,
    },
    /// This replica, which leads, is on a disk that is nearly full. Nothing was
    /// changed; trims and releases of leases go on.
    #[error(
        "the disk is nearly full: {free} bytes are free, and {bound} have to be (low_space_bytes and a file of the journal)"
    )]
    NoSpace {
        /// Bytes that are left.
        free: u64,
        /// How many have to be.
        bound: u64,
    },
    /// It waited in vain for a majority, and was never proposed. Nothing was
    /// changed.
    #[error("no majority answers")]
    Unavailable,
    /// It was proposed, and it is not known whether it was applied or will be.
    #[error("whether it took effect is not known")]
    OutcomeUnknown,
    /// The replica has stopped. Nothing was changed.
    #[error("the replica stopped: {0}")]
    Stopped(StopReason),
}

impl CommandError {
    /// Whether nothing was changed and nothing will be by this call.
    pub fn has_no_side_effects(&self) -> bool {
        !matches!(self, Self::OutcomeUnknown)
    }
}

impl From<ProposeError> for CommandError {
    fn from(error: ProposeError) -> Self {
        match error {
            ProposeError::NotLeader { leader } => Self::NotLeader { leader },
            ProposeError::OutcomeUnknown => Self::OutcomeUnknown,
            ProposeError::Stopped(reason) => Self::Stopped(reason),
        }
    }
}

impl From<LowSpace> for CommandError {
    fn from(LowSpace { free, bound }: LowSpace) -> Self {
        Self::NoSpace { free, bound }
    }
}

/// A batch was not appended, or perhaps was. Nothing was changed unless a
/// [`CommandError`] leaves that open.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// It was not proposed, or what became of it is not known.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The batch is larger than any entry may be.
    #[error("the batch has {actual} bytes: {bound} is {limit}")]
    TooLarge {
        /// Which bound.
        bound: &'static str,
        /// What it is, in bytes.
        limit: u64,
        /// How large the batch is, in bytes.
        actual: u64,
    },
    /// Another holder has acquired the log's writer epoch.
    #[error("the writer is fenced: {holder:?} holds epoch {current}")]
    Fenced {
        /// The epoch now.
        current: WriterEpoch,
        /// Who holds it.
        holder: String,
    },
    /// The writer epoch has never been acquired.
    #[error("the writer epoch lies ahead of the log's, which is {current}")]
    EpochAhead {
        /// The epoch now; 0 when there is none.
        current: WriterEpoch,
    },
    /// The log takes nothing without a writer epoch.
    #[error("the log takes appends under a writer epoch alone")]
    WriterRequired,
    /// The log ends elsewhere than it was to.
    #[error("the log ends at {end}")]
    OffsetMismatch {
        /// Where.
        end: Offset,
    },
    /// A cursor does not take the commit that the append carries.
    #[error("cursor {cursor:?}: {refusal}")]
    CursorRefused {
        /// The cursor's name.
        cursor: String,
        /// Why not.
        refusal: CursorRefusal,
    },
    /// Its producer id is in use under a newer epoch.
    #[error("the producer is fenced by epoch {current}")]
    ProducerFenced {
        /// That epoch.
        current: ProducerEpoch,
    },
    /// It neither follows its producer's last append nor repeats a
    /// remembered one.
    #[error("the batch is out of sequence: {expected} would follow")]
    OutOfSequence {
        /// What would follow.
        expected: Sequence,
    },
    /// The log does not know the producer.
    #[error("the log does not know the producer")]
    UnknownProducer,
    /// Its header cannot be read: it was not validated.
    #[error("the batch's header cannot be read")]
    Malformed,
}

impl AppendError {
    /// Whether the batch has not landed and never will by this call.
    pub fn has_no_side_effects(&self) -> bool {
        match self {
            Self::Command(error) => error.has_no_side_effects(),
            _ => true,
        }
    }
}

/// A cursor was not changed, or perhaps was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CursorError {
    /// It does not take what was asked of it. Nothing was changed.
    #[error(transparent)]
    Refused(#[from] CursorRefusal),
    /// It was not proposed, or what became of it is not known.
    #[error(transparent)]
    Command(#[from] CommandError),
}

/// A log was not trimmed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrimError {
    /// Leases keep what would go. Nothing was changed.
    #[error("leases keep what would go")]
    Strands(Vec<Lease>),
    /// It was not proposed, or what became of it is not known.
    #[error(transparent)]
    Propose(#[from] ProposeError),
}

/// A lease was not granted or renewed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// The log does not grant it. Nothing was changed.
    #[error(transparent)]
    Refused(#[from] LeaseRefused),
    /// It is to last longer than the log lets leases last. Nothing was changed.
    #[error("{actual} ms are more than a lease may last, which is {limit} ms")]
    TooLong {
        /// The log's max_lease_ms.
        limit: u64,
        /// What was asked for.
        actual: u64,
    },
    /// It was not proposed, or what became of it is not known.
    #[error(transparent)]
    Command(#[from] CommandError),
}

/// Records were not read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    /// The offset is not from start to end inclusive.
    #[error("the log has {range} here")]
    OutOfRange {
        /// What this replica has.
        range: OffsetRange,
    },
    /// The replica's storage failed or is not what was written.
    #[error("the log cannot be read: {0}")]
    Storage(#[source] Arc<dyn std::error::Error + Send + Sync>),
}

impl ReadError {
    pub(super) fn storage(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Storage(Arc::new(error))
    }
}
