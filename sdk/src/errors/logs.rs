//! Errors of the operations on whole logs.

use quipu_protocol::LogName;

use super::RequestError;
use crate::{Lease, LogConfig};

/// Why a log was not created.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CreateLogError {
    /// It exists with another configuration.
    #[error("log {log} exists already with another configuration: {config}")]
    Exists {
        /// The log.
        log: LogName,
        /// How it is set up.
        config: LogConfig,
    },
    /// There are fewer nodes than replicas were asked for.
    #[error("{replicas} replicas were asked for, and there are {nodes} nodes")]
    TooFewNodes {
        /// What was asked for.
        replicas: u32,
        /// How many nodes there are.
        nodes: u32,
    },
    /// A field of the configuration is not acceptable.
    #[error("{field} is not acceptable: {reason}")]
    BadConfig {
        /// The field.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The request failed.
    #[error(transparent)]
    Request(#[from] RequestError),
}

impl CreateLogError {
    /// Whether the same call may succeed later.
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Request(error) if error.is_retryable())
    }

    /// Whether it is certain that nothing was changed.
    pub const fn has_no_side_effects(&self) -> bool {
        match self {
            Self::Request(error) => error.has_no_side_effects(),
            Self::Exists { .. } | Self::TooFewNodes { .. } | Self::BadConfig { .. } => true,
        }
    }
}

/// Why a log's configuration was not changed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AlterLogError {
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
    /// A field of the change is not acceptable.
    #[error("{field} is not acceptable: {reason}")]
    BadConfig {
        /// The field.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The request failed.
    #[error(transparent)]
    Request(#[from] RequestError),
}

impl AlterLogError {
    /// Whether the same call may succeed later. Changing again does no harm.
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Request(error) if error.is_retryable())
    }

    /// Whether it is certain that nothing was changed.
    pub const fn has_no_side_effects(&self) -> bool {
        match self {
            Self::Request(error) => error.has_no_side_effects(),
            Self::UnknownLog { maybe_done, .. } => !*maybe_done,
            Self::BadConfig { .. } => true,
        }
    }
}

/// Why a log was not deleted.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DeleteLogError {
    /// There is no log of that name.
    #[error("there is no log {log}")]
    UnknownLog {
        /// The name.
        log: LogName,
    },
    /// The request failed.
    #[error(transparent)]
    Request(#[from] RequestError),
}

impl DeleteLogError {
    /// Whether the same call may succeed later. Deleting again does no harm, as
    /// long as nobody creates a log of that name meanwhile, or the log is named by its
    /// id.
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Request(error) if error.is_retryable())
    }

    /// Whether it is certain that nothing was changed.
    pub const fn has_no_side_effects(&self) -> bool {
        match self {
            Self::Request(error) => error.has_no_side_effects(),
            Self::UnknownLog { .. } => true,
        }
    }
}

/// Why a log was not trimmed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TrimError {
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
    /// It would take away what leases keep.
    #[error("it would strand who holds a lease: {}", named(.leases, *.more))]
    StrandsLeases {
        /// Those leases, by holder, as far as the node names them.
        leases: Vec<Lease>,
        /// How many others there are.
        more: u64,
    },
    /// The request failed.
    #[error(transparent)]
    Request(#[from] RequestError),
}

impl TrimError {
    /// Whether the same call may succeed later. Trimming again does no harm.
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Request(error) if error.is_retryable())
    }

    /// Whether it is certain that nothing was changed.
    pub const fn has_no_side_effects(&self) -> bool {
        match self {
            Self::Request(error) => error.has_no_side_effects(),
            Self::UnknownLog { maybe_done, .. } => !*maybe_done,
            Self::StrandsLeases { .. } => true,
        }
    }
}

fn named(leases: &[Lease], more: u64) -> String {
    let named: Vec<String> =
        leases.iter().map(|lease| format!("{} (from {} on)", lease.holder, lease.offset)).collect();
    let others = if more > 0 { format!(" and {more} more") } else { String::new() };
    named.join(", ") + &others
}

/// Why a log's writer epoch was not acquired, or an append not resolved.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WriterError {
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
    /// The request failed.
    #[error(transparent)]
    Request(#[from] RequestError),
}

impl WriterError {
    /// Whether the same call may succeed later. Asking again does no harm.
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Request(error) if error.is_retryable())
    }

    /// Whether it is certain that nothing was changed.
    pub const fn has_no_side_effects(&self) -> bool {
        match self {
            Self::Request(error) => error.has_no_side_effects(),
            Self::UnknownLog { maybe_done, .. } => !*maybe_done,
        }
    }
}

/// Why a question about a log has no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LogError {
    /// There is no log of that name.
    #[error("there is no log {log}")]
    UnknownLog {
        /// The name.
        log: LogName,
    },
    /// The request failed.
    #[error(transparent)]
    Request(#[from] RequestError),
}

impl LogError {
    /// Whether the same call may succeed later.
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Request(error) if error.is_retryable())
    }

    /// Always true: a question changes nothing.
    pub const fn has_no_side_effects(&self) -> bool {
        true
    }
}
