//! What a process tells its operator, on standard error: pretty on a
//! terminal, one JSON object a line otherwise.

/// The level filter is not understood.
#[derive(Debug, thiserror::Error)]
#[error("{filter:?} is no log filter: {reason}")]
pub struct FilterError {
    /// What was given.
    pub filter: String,
    /// Why it was refused.
    pub reason: String,
}

/// Starts logging for this process. `filter` is a level (`info`) or
/// directives (`info,quipu_raft=debug`). Panics are logged too.
pub fn start(_filter: &str) -> Result<(), FilterError> {
    todo!()
}
