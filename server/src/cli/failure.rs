//! How a command ends other than well, and the exit code that says so to a
//! script.

use std::error::Error;
use std::fmt::Display;
use std::io;

use quipu_sdk::{
    AlterLogError, AppendError, ConfigError, CreateLogError, CursorError, DeleteLogError, GroupError, LeaseError,
    LogError, LogNameError, ReadError, RequestError, SendError, TrimError, WriterError,
};

/// The exit codes beside 0, done. Scripts rely on them.
pub(crate) mod code {
    /// The request, the input or the configuration was refused.
    pub(crate) const REFUSED: u8 = 1;
    /// The command line is wrong.
    pub(crate) const USAGE: u8 = 2;
    /// A change may or may not have been made.
    pub(crate) const OUTCOME_UNKNOWN: u8 = 3;
    /// Nobody could answer in time; nothing was changed.
    pub(crate) const UNAVAILABLE: u8 = 4;
}

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    Refused(String),
    Usage(String),
    OutcomeUnknown(String),
    Unavailable(String),
    /// Whoever read our output has seen enough, as `head` has: no failure.
    OutputClosed,
}

impl Failure {
    pub(crate) const fn exit_code(&self) -> u8 {
        match self {
            Self::OutputClosed => 0,
            Self::Refused(_) => code::REFUSED,
            Self::Usage(_) => code::USAGE,
            Self::OutcomeUnknown(_) => code::OUTCOME_UNKNOWN,
            Self::Unavailable(_) => code::UNAVAILABLE,
        }
    }

    pub(crate) fn message(&self) -> Option<&str> {
        match self {
            Self::OutputClosed => None,
            Self::Refused(message)
            | Self::Usage(message)
            | Self::OutcomeUnknown(message)
            | Self::Unavailable(message) => Some(message),
        }
    }

    /// The same failure with something said in front of it.
    pub(crate) fn after(self, what: impl Display) -> Self {
        let longer = |message: String| format!("{what}: {message}");
        match self {
            Self::Refused(message) => Self::Refused(longer(message)),
            Self::Usage(message) => Self::Usage(longer(message)),
            Self::OutcomeUnknown(message) => Self::OutcomeUnknown(longer(message)),
            Self::Unavailable(message) => Self::Unavailable(longer(message)),
            Self::OutputClosed => Self::OutputClosed,
        }
    }

    /// Something about this machine: a file, a port, a process.
    pub(crate) fn system(what: impl Display, error: &(dyn Error + 'static)) -> Self {
        Self::Refused(format!("cannot {what}: {}", with_causes(error)))
    }

    /// By what the SDK says of an error that may have changed something.
    fn of_change(error: &(dyn Error + 'static), retryable: bool, no_side_effects: bool) -> Self {
        let message = with_causes(error);
        match (no_side_effects, retryable) {
            (false, _) => Self::OutcomeUnknown(message),
            (true, true) => Self::Unavailable(message),
            (true, false) => Self::Refused(message),
        }
    }

    fn of_question(error: &(dyn Error + 'static), retryable: bool) -> Self {
        Self::of_change(error, retryable, true)
    }
}

/// An error and what it came from, in one line, saying nothing twice.
pub(crate) fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        // A status prints itself with all its causes and in Debug's terms.
        let text = cause.downcast_ref::<tonic::Status>().map_or_else(|| cause.to_string(), |s| s.message().to_owned());
        if !message.contains(&text) {
            message = format!("{message}: {text}");
        }
        source = cause.source();
    }
    message
}

/// Writing to standard output is the only I/O whose errors come this way.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::OutputClosed,
            _ => Self::system("write to standard output", &error),
        }
    }
}

impl From<LogNameError> for Failure {
    fn from(error: LogNameError) -> Self {
        Self::Refused(error.to_string())
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Usage(with_causes(&error))
    }
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        Self::of_question(&error, error.is_retryable())
    }
}

impl From<LogError> for Failure {
    fn from(error: LogError) -> Self {
        Self::of_question(&error, error.is_retryable())
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        Self::of_question(&error, error.is_retryable())
    }
}

impl From<CreateLogError> for Failure {
    fn from(error: CreateLogError) -> Self {
        Self::of_change(&error, error.is_retryable(), error.has_no_side_effects())
    }
}

impl From<AlterLogError> for Failure {
    fn from(error: AlterLogError) -> Self {
        Self::of_change(&error, error.is_retryable(), error.has_no_side_effects())
    }
}

impl From<DeleteLogError> for Failure {
    fn from(error: DeleteLogError) -> Self {
        Self::of_change(&error, error.is_retryable(), error.has_no_side_effects())
    }
}

impl From<TrimError> for Failure {
    fn from(error: TrimError) -> Self {
        Self::of_change(&error, error.is_retryable(), error.has_no_side_effects())
    }
}

impl From<LeaseError> for Failure {
    fn from(error: LeaseError) -> Self {
        Self::of_change(&error, error.is_retryable(), error.has_no_side_effects())
    }
}

impl From<WriterError> for Failure {
    fn from(error: WriterError) -> Self {
        Self::of_change(&error, error.is_retryable(), error.has_no_side_effects())
    }
}

impl From<GroupError> for Failure {
    fn from(error: GroupError) -> Self {
        Self::of_change(&error, error.is_retryable(), error.has_no_side_effects())
    }
}

impl From<CursorError> for Failure {
    fn from(error: CursorError) -> Self {
        Self::of_change(&error, error.is_retryable(), error.has_no_side_effects())
    }
}

impl From<SendError> for Failure {
    fn from(error: SendError) -> Self {
        Self::of_change(&error, error.is_retryable(), error.has_no_side_effects())
    }
}

impl From<AppendError> for Failure {
    fn from(error: AppendError) -> Self {
        Self::of_change(&error, error.is_retryable(), error.has_no_side_effects())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn scripts_can_tell_refused_from_unknown_from_unavailable() {
        let waited = Duration::from_secs(1);
        let code = |failure: Failure| failure.exit_code();
        let unavailable = |maybe_done| RequestError::Unavailable { waited, attempts: 3, maybe_done, last: None };
        let refused =
            |maybe_done| RequestError::Refused { address: "a:1".to_owned(), message: "no".to_owned(), maybe_done };

        assert_eq!(code(unavailable(false).into()), 4);
        // A question changes nothing, whatever became of it.
        assert_eq!(code(unavailable(true).into()), 4);
        assert_eq!(code(CreateLogError::from(unavailable(true)).into()), 3);
        assert_eq!(code(CreateLogError::from(unavailable(false)).into()), 4);
        assert_eq!(code(CreateLogError::from(refused(false)).into()), 1);
        assert_eq!(code(CreateLogError::from(refused(true)).into()), 3);
        assert_eq!(code(AppendError::OutcomeUnknown { append: None, waited, last: None }.into()), 3);
        assert_eq!(code(AppendError::Unavailable { waited, last: None }.into()), 4);
        assert_eq!(code(ConfigError::NoBootstrap.into()), 2);
        assert_eq!(code(io::Error::from(io::ErrorKind::BrokenPipe).into()), 0);
        assert_eq!(code(io::Error::from(io::ErrorKind::StorageFull).into()), 1);
    }
}
