//! What can happen to any request.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

/// A request brought no answer that can be used.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RequestError {
    /// No node gave an answer in time, after as many attempts as fitted in.
    #[error("no node could do it within {waited:.1?} ({attempts} attempts)")]
    Unavailable {
        /// How long it was tried.
        waited: Duration,
        /// How often it was tried.
        attempts: u32,
        /// Whether an attempt may have been carried out all the same.
        maybe_done: bool,
        /// How the last attempt failed.
        #[source]
        last: Option<FailedAttempt>,
    },
    /// A node refused for good.
    #[error(
        "{address} refused: {message}{}",
        .maybe_done.then_some(" (an earlier attempt may have been carried out all the same)").unwrap_or_default()
    )]
    Refused {
        /// The node's address.
        address: String,
        /// What it said.
        message: String,
        /// Whether an earlier attempt of the same call may have been carried
        /// out all the same.
        maybe_done: bool,
    },
    /// A node answered what it must never answer.
    #[error("{address} broke the protocol: {violation}")]
    Protocol {
        /// The node's address.
        address: String,
        /// What is wrong with its answer.
        violation: String,
    },
}

impl RequestError {
    /// Whether the same call may succeed later.
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    /// Whether it is certain that nothing was changed.
    pub const fn has_no_side_effects(&self) -> bool {
        match self {
            Self::Unavailable { maybe_done, .. } | Self::Refused { maybe_done, .. } => !*maybe_done,
            Self::Protocol { .. } => false,
        }
    }
}

/// How one attempt of a request failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FailedAttempt {
    /// No connection, or it broke.
    #[error("{address} could not be reached")]
    Unreachable {
        /// The node's address.
        address: String,
        /// What the transport says.
        #[source]
        source: Arc<dyn Error + Send + Sync>,
    },
    /// The attempt's deadline passed.
    #[error("{address} did not answer within {limit:?}")]
    TimedOut {
        /// The node's address.
        address: String,
        /// The deadline.
        limit: Duration,
    },
    /// The node answered that it cannot now.
    #[error("{address} answered: {message}")]
    Declined {
        /// The node's address.
        address: String,
        /// What it said.
        message: String,
    },
}
