//! Errors of cursors.

use quipu_protocol::{CursorName, LogName};

use super::{LogError, RequestError};
use crate::CursorRefusal;

/// Why a cursor was not changed, or not told of.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CursorError {
    /// There is no log of that name, or not the one any more that it had: that one was
    /// deleted.
    #[error("there is no log {log}")]
    UnknownLog {
        /// The name.
        log: LogName,
        /// Whether an earlier attempt of the same call may have been carried out, in the
        /// log that is gone.
        maybe_done: bool,
    },
    /// The cursor does not take what was asked of it.
    #[error("cursor {cursor}: {refusal}")]
    Refused {
        /// The cursor.
        cursor: CursorName,
        /// Why not.
        refusal: CursorRefusal,
    },
    /// The request failed.
    #[error(transparent)]
    Request(#[from] RequestError),
}

impl CursorError {
    /// Whether the same call may succeed later. After an unknown outcome ask where
    /// the cursor is.
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Request(error) if error.is_retryable())
    }

    /// Whether it is certain that nothing was changed.
    pub const fn has_no_side_effects(&self) -> bool {
        match self {
            Self::Request(error) => error.has_no_side_effects(),
            Self::UnknownLog { maybe_done, .. } => !*maybe_done,
            Self::Refused { .. } => true,
        }
    }
}

impl From<LogError> for CursorError {
    fn from(error: LogError) -> Self {
        match error {
            LogError::UnknownLog { log } => Self::UnknownLog { log, maybe_done: false },
            LogError::Request(error) => Self::Request(error),
        }
    }
}
