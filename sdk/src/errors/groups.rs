//! Errors of reader groups.

use quipu_protocol::v1::error::Kind;
use quipu_protocol::{LogName, ReaderGroupName, v1};

use super::{ReadError, RequestError};
use crate::cluster::{PursuitError, Refusal};
use crate::{ConfigError, PositionError};

/// Why a reader group does not do what was asked, or its logs cannot be read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum GroupError {
    /// There is no such group.
    #[error("there is no reader group {group}: joining creates it")]
    UnknownGroup {
        /// The name.
        group: ReaderGroupName,
    },
    /// The group has members and shares the logs of another pattern.
    #[error(
        "reader group {group} shares the logs of {pattern:?}: join with that pattern, or with another one once it has \
         no members"
    )]
    OtherPattern {
        /// The group.
        group: ReaderGroupName,
        /// Its pattern.
        pattern: String,
    },
    /// No log matches the pattern.
    #[error("no log matches {pattern:?}: create one, or join and wait for logs")]
    NoMatchingLogs {
        /// The pattern.
        pattern: String,
    },
    /// There would be too many of something.
    #[error("{bound} is {limit}, and there would be {actual}")]
    TooMany {
        /// Which bound.
        bound: String,
        /// What it is.
        limit: u64,
        /// How many there would be.
        actual: u64,
    },
    /// The configuration contradicts a bound.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A log cannot be read.
    #[error("reading {log}")]
    Read {
        /// The log.
        log: LogName,
        /// Why.
        #[source]
        error: ReadError,
    },
    /// The group's position in a log could not be claimed or committed.
    #[error("the group's position in {log}")]
    Position {
        /// The log.
        log: LogName,
        /// Why.
        #[source]
        error: PositionError,
    },
    /// The request failed.
    #[error(transparent)]
    Request(#[from] RequestError),
}

impl GroupError {
    /// Whether the same call may succeed later.
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Read { error, .. } => error.is_retryable(),
            Self::Position { error, .. } => matches!(error, PositionError::Unavailable(_)),
            Self::Request(error) => error.is_retryable(),
            Self::UnknownGroup { .. }
            | Self::OtherPattern { .. }
            | Self::NoMatchingLogs { .. }
            | Self::TooMany { .. }
            | Self::Config(_) => false,
        }
    }

    /// Whether it is certain that nothing was changed. A membership that was begun
    /// and is not kept up ends by itself.
    pub const fn has_no_side_effects(&self) -> bool {
        match self {
            Self::Position { .. } => false,
            Self::Request(error) => error.has_no_side_effects(),
            Self::Read { .. }
            | Self::UnknownGroup { .. }
            | Self::OtherPattern { .. }
            | Self::NoMatchingLogs { .. }
            | Self::TooMany { .. }
            | Self::Config(_) => true,
        }
    }

    /// How something that was asked of `group` failed.
    pub(crate) fn of(group: &ReaderGroupName, error: PursuitError) -> Self {
        let group = group.clone();
        match error {
            PursuitError::Refused { refusal: Refusal { address, error }, maybe_done } => match error.kind {
                Some(Kind::UnknownReaderGroup(_)) => Self::UnknownGroup { group },
                Some(Kind::OtherPattern(v1::OtherPattern { pattern })) => Self::OtherPattern { group, pattern },
                Some(Kind::NoMatchingLogs(v1::NoMatchingLogs { pattern })) => Self::NoMatchingLogs { pattern },
                Some(Kind::TooLarge(v1::TooLarge { bound, limit, actual })) => Self::TooMany { bound, limit, actual },
                _ => RequestError::Refused { address, message: error.message, maybe_done }.into(),
            },
            PursuitError::GivenUp(error) => error.into(),
        }
    }
}
