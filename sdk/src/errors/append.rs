//! Errors of appending.

use std::time::Duration;

use quipu_protocol::batch::BatchError;
use quipu_protocol::{LogName, Offset, WriterEpoch};

use super::FailedAttempt;
use crate::{AppendId, CursorRefusal};

/// Why records were not taken. Nothing was sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// There is no record.
    #[error("there is nothing to append: a batch has at least one record")]
    Empty,
    /// The records cannot fit, however long one waits.
    #[error("the batch has {actual} bytes where {bound} allows {limit}")]
    TooLarge {
        /// The bound's name.
        bound: &'static str,
        /// The bound, in bytes.
        limit: usize,
        /// What it would take, in bytes.
        actual: usize,
    },
    /// The records cannot be encoded.
    #[error("the records make no batch")]
    Unfit {
        /// Why not.
        #[source]
        reason: BatchError,
    },
    /// The producer was closed.
    #[error("the producer is closed")]
    Closed,
    /// Somebody else took the producer's id over; make a new producer.
    #[error("the producer is fenced: its id is in use under epoch {current_epoch}")]
    Fenced {
        /// The epoch that the log knows.
        current_epoch: i32,
    },
}

/// Why an append was not acknowledged.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppendError {
    /// The records were not taken.
    #[error(transparent)]
    NotTaken(#[from] SendError),
    /// There is no log of that name.
    #[error("there is no log {log}")]
    UnknownLog {
        /// The name.
        log: LogName,
    },
    /// The batch is over a bound of the log's.
    #[error("the batch takes {actual} where {bound} allows {limit}")]
    TooLarge {
        /// The bound's name.
        bound: String,
        /// The bound, in bytes.
        limit: u64,
        /// What the batch takes, in bytes.
        actual: u64,
    },
    /// The log is configured not to take such a batch.
    #[error("the log does not take the batch ({setting}): {message}")]
    NotAccepted {
        /// The setting that does not let it in, such as `codecs`.
        setting: String,
        /// What the log said.
        message: String,
    },
    /// The log refused the batch for good.
    #[error("the log refused the batch: {message}")]
    Refused {
        /// What it said.
        message: String,
    },
    /// Somebody else took the producer's id over.
    #[error("the producer is fenced: its id is in use under epoch {current_epoch}")]
    Fenced {
        /// The epoch that the log knows.
        current_epoch: i32,
    },
    /// Somebody else has acquired the log's writer epoch: nothing under the older
    /// one lands any more. Whoever wants to write has to acquire it anew, and
    /// then knows what came in between.
    #[error("the writer is fenced: {holder:?} holds epoch {current}")]
    WriterFenced {
        /// The epoch now.
        current: WriterEpoch,
        /// Who holds it.
        holder: String,
    },
    /// The producer's writer epoch has never been acquired of this log.
    #[error("the writer epoch lies ahead of the log's, which is {current}")]
    EpochAhead {
        /// The epoch now; 0 when there is none.
        current: WriterEpoch,
    },
    /// The log's writers are exclusive, and the producer has no writer epoch.
    #[error("the log takes appends under a writer epoch alone")]
    WriterRequired,
    /// The log does not end where it was expected to.
    #[error("the log ends at {end}, and not at {expected}")]
    OffsetMismatch {
        /// Where it was expected to end.
        expected: Offset,
        /// Where it ended when the append's turn came.
        end: Offset,
    },
    /// A cursor does not take the commit that the append carries.
    #[error("cursor {cursor}: {refusal}")]
    CursorRefused {
        /// The cursor's name.
        cursor: String,
        /// Why not.
        refusal: CursorRefusal,
    },
    /// No node could be given the batch in time. It was not sent.
    #[error("no node took the batch within {waited:.1?}; nothing was appended")]
    Unavailable {
        /// How long it was tried.
        waited: Duration,
        /// How the last attempt failed.
        #[source]
        last: Option<FailedAttempt>,
    },
    /// The batch was sent and its fate is not known: it may have landed, or
    /// may yet land until the producer's next batch has.
    #[error("the append may or may not have landed: no node told within {waited:.1?}")]
    OutcomeUnknown {
        /// By what [`resolve`](crate::Client::resolve) finds out; `None` without
        /// idempotence.
        append: Option<AppendId>,
        /// How long it was tried.
        waited: Duration,
        /// How the last attempt failed.
        #[source]
        last: Option<FailedAttempt>,
    },
}

impl SendError {
    /// Always false: the same records will not be taken later.
    pub const fn is_retryable(&self) -> bool {
        false
    }

    /// Always true: nothing was sent.
    pub const fn has_no_side_effects(&self) -> bool {
        true
    }
}

impl AppendError {
    /// Whether the same append may succeed later. False after an unknown
    /// outcome: appending again could land the records twice.
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    /// Whether it is certain that nothing was appended.
    pub const fn has_no_side_effects(&self) -> bool {
        !matches!(self, Self::OutcomeUnknown { .. })
    }
}
