//! Where the members of a reader group have come to in each log.

use std::error::Error;
use std::sync::Arc;

use quipu_protocol::environment::BoxFuture;
use quipu_protocol::{Generation, LogId, LogName, Offset};

/// Keeps a reader group's positions, one for each log, whoever its reader is.
///
/// # Contract
/// - Once `claim` was answered, no `commit` under a lower generation takes effect,
///   wherever its member is: this is what fences a member that has lost a log
///   without knowing. The position that it returns is the last one that was
///   committed.
/// - Both may be repeated.
pub trait Positions: Send + Sync + 'static {
    /// Takes a log's position over under `generation`, and returns it; none if
    /// nothing was ever committed.
    fn claim(
        &self,
        log: &LogName,
        id: LogId,
        generation: Generation,
    ) -> BoxFuture<'static, Result<Option<Offset>, PositionError>>;

    /// Everything before `position` is done with.
    fn commit(
        &self,
        log: &LogName,
        id: LogId,
        generation: Generation,
        position: Offset,
    ) -> BoxFuture<'static, Result<(), PositionError>>;
}

/// A position was not claimed or committed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PositionError {
    /// It was claimed under a higher generation: the log is another member's.
    #[error("it was claimed under a higher generation")]
    Fenced,
    /// There is no such log any more.
    #[error("there is no such log any more")]
    LogGone,
    /// It may go better the next time.
    #[error("it cannot be done now")]
    Unavailable(#[source] Arc<dyn Error + Send + Sync>),
    /// It will not go better the next time.
    #[error("it cannot be done")]
    Failed(#[source] Arc<dyn Error + Send + Sync>),
}
