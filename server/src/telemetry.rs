//! What a process tells its operator, on standard error: pretty on a
//! terminal, one JSON object a line otherwise.
//!
//! The levels mean: `error` a person has to act, `warn` something is wrong
//! that the node deals with, `info` what an operator wants to have seen (a
//! handful of lines for a start, one for a change of leader), `debug` and
//! `trace` for developers.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

/// The filter is not understood, or logging has been started before.
#[derive(Debug, thiserror::Error)]
#[error("cannot log at {filter:?}: {reason}")]
pub struct TelemetryError {
    /// What was given.
    pub filter: String,
    /// Why it was refused.
    pub reason: String,
}

/// Starts logging for this process. `filter` is a level (`info`) or
/// directives (`info,quipu_raft=debug`). Panics are logged too.
pub fn start(filter: &str) -> Result<(), TelemetryError> {
    let refused = |reason: String| TelemetryError { filter: filter.to_owned(), reason };
    let directives = EnvFilter::builder().parse(quiet_libraries(filter)).map_err(|error| refused(error.to_string()))?;
    let writer = std::io::stderr;
    let lines = tracing_subscriber::fmt().with_env_filter(directives).with_writer(writer);
    let started = if writer().is_terminal() {
        lines.with_target(false).finish().try_init()
    } else {
        lines.json().flatten_event(true).with_current_span(false).with_span_list(false).finish().try_init()
    };
    started.map_err(|error| refused(error.to_string()))?;
    log_panics();
    Ok(())
}

/// A plain level is about Quipu. The libraries under it speak up for errors
/// only: they warn of what is normal in a cluster (a peer that is down), which
/// Quipu reports in its own words.
fn quiet_libraries(filter: &str) -> String {
    if filter.contains(['=', ',']) {
        return filter.to_owned();
    }
    match filter.to_ascii_lowercase().as_str() {
        level @ ("warn" | "info" | "debug" | "trace") => format!("error,quipu={level}"),
        _ => filter.to_owned(),
    }
}

/// A panic becomes one line in the log, with its place, like everything else.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let payload = panic.payload();
        let message = payload
            .downcast_ref::<&str>()
            .map(ToString::to_string)
            .or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "no message".to_owned());
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let backtrace = std::backtrace::Backtrace::capture();
        let backtrace = match backtrace.status() {
            std::backtrace::BacktraceStatus::Captured => backtrace.to_string(),
            _ => String::new(),
        };
        tracing::error!(place, backtrace, "panicked: {message}");
    }));
}

#[cfg(test)]
mod tests {
    use super::quiet_libraries;

    #[test]
    fn a_plain_level_is_about_quipu_and_directives_are_taken_as_they_are() {
        assert_eq!(quiet_libraries("info"), "error,quipu=info");
        assert_eq!(quiet_libraries("DEBUG"), "error,quipu=debug");
        assert_eq!(quiet_libraries("error"), "error");
        assert_eq!(quiet_libraries("info,quipu_raft=trace"), "info,quipu_raft=trace");
    }
}
