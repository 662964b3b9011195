//! What a process tells its operator, on standard error: pretty on a
//! terminal, one JSON object a line otherwise.
//!
//! The levels mean: `error` a person has to act, `warn` something is wrong
//! that the node deals with, `info` what an operator wants to have seen (a
//! handful of lines for a start, one for a change of leader), `debug` and
//! `trace` for developers.

use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::reload::Error as ReloadError;
use tracing_subscriber::util::SubscriberInitExt;

/// The longest filter, bytes.
pub const MAX_FILTER_BYTES: usize = 1024;
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// The filter is not understood, or logging has been started before.
#[derive(Debug, thiserror::Error)]
#[error("cannot log at {filter:?}: {reason}")]
pub struct TelemetryError {
    /// What was given.
    pub filter: String,
    /// Why it was refused.
    pub reason: String,
}

/// What this process logs, which may be changed while it runs. Clones are
/// handles to the same.
#[derive(Clone)]
pub struct LogFilter {
    inner: Arc<Inner>,
}

/// Puts a filter in the place of the one that holds.
type Replace = Box<dyn Fn(EnvFilter) -> Result<(), ReloadError> + Send + Sync>;

struct Inner {
    /// As it was given last.
    current: Mutex<String>,
    replace: Replace,
}

impl LogFilter {
    /// What holds now, as it was given.
    pub fn current(&self) -> String {
        self.inner.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Logs by `filter` from now on; returns what held before.
    ///
    /// # Errors
    /// When it is no filter. Nothing was changed then.
    pub fn change(&self, filter: &str) -> Result<String, TelemetryError> {
        let directives = parse(filter)?;
        // Held while the filter is replaced: of two changes the later one holds
        // and is the one that is told.
        let mut current = self.inner.current.lock().unwrap_or_else(PoisonError::into_inner);
        (self.inner.replace)(directives).map_err(|error| refused(filter, error.to_string()))?;
        let before = std::mem::replace(&mut *current, filter.to_owned());
        drop(current);
        tracing::info!(before, now = filter, "the log filter was changed");
        Ok(before)
    }
}

/// Starts logging for this process. `filter` is a level (`info`) or
/// directives (`info,quipu_raft=debug`). Panics are logged too.
///
/// # Errors
/// When it is no filter, or logging has been started before.
pub fn start(filter: &str) -> Result<LogFilter, TelemetryError> {
    let directives = parse(filter)?;
    let writer = std::io::stderr;
    let lines = tracing_subscriber::fmt().with_env_filter(directives).with_writer(writer);
    let (started, replace): (_, Replace) = if writer().is_terminal() {
        let lines = lines.with_target(false).with_filter_reloading();
        let handle = lines.reload_handle();
        (lines.finish().try_init(), Box::new(move |filter| handle.reload(filter)))
    } else {
        let lines = lines.json().flatten_event(true).with_current_span(false).with_span_list(false);
        let lines = lines.with_filter_reloading();
        let handle = lines.reload_handle();
        (lines.finish().try_init(), Box::new(move |filter| handle.reload(filter)))
    };
    started.map_err(|error| refused(filter, error.to_string()))?;
    log_panics();
    Ok(LogFilter { inner: Arc::new(Inner { current: Mutex::new(filter.to_owned()), replace }) })
}

/// `filter`, if it is one. It may come from a wire: it is bounded, and values of
/// fields are compared literally, not by regular expressions.
fn parse(filter: &str) -> Result<EnvFilter, TelemetryError> {
    if filter.len() > MAX_FILTER_BYTES {
        let shown: String = filter.chars().take(32).collect();
        let reason = format!("it has {} bytes, and {MAX_FILTER_BYTES} are allowed", filter.len());
        return Err(refused(&format!("{shown}…"), reason));
    }
    // Blanks around a directive would be taken for a part of it.
    let directives: Vec<&str> = filter.split(',').map(str::trim).collect();
    // A word alone would be taken for the name of a module, and everything else
    // be silenced.
    let word = |directive: &&str| !directive.contains(['=', '[']);
    let is_level = |word: &str| LEVELS.contains(&word.to_ascii_lowercase().as_str());
    if let Some(word) = directives.iter().copied().filter(word).find(|word| !is_level(word)) {
        let reason = format!("{word:?} is no level: {} are; for a module, module=level", LEVELS.join(", "));
        return Err(refused(filter, reason));
    }
    let directives: Vec<String> = directives.into_iter().map(quiet_libraries).collect();
    let parsed = EnvFilter::builder().with_regex(false).parse(directives.join(","));
    parsed.map_err(|error| refused(filter, error.to_string()))
}

fn refused(filter: &str, reason: String) -> TelemetryError {
    TelemetryError { filter: filter.to_owned(), reason }
}

/// A plain level is about Quipu, alone or beside modules' own ones. The libraries
/// under it speak up for errors only: they warn of what is normal in a cluster (a
/// peer that is down), which Quipu reports in its own words.
fn quiet_libraries(directive: &str) -> String {
    match directive.to_ascii_lowercase().as_str() {
        level @ ("warn" | "info" | "debug" | "trace") => format!("error,quipu={level}"),
        _ => directive.to_owned(),
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
    use super::{MAX_FILTER_BYTES, parse, quiet_libraries};

    #[test]
    fn what_is_no_filter_is_refused_with_the_reason() {
        for good in ["info", "WARN", "off", "info,quipu_raft=debug", "error,quipu=trace", "quipu_server[x{y=1}]=debug"]
        {
            assert!(parse(good).is_ok(), "{good}");
        }
        // Blanks of any kind are around directives, and no part of them.
        for blank in [" info", "info ", "info, quipu_raft=debug", "\u{3000}a=debug", "a=debug\u{a0}, \u{2003}warn"] {
            let parsed = parse(blank).unwrap_or_else(|error| panic!("{blank:?}: {error}")).to_string();
            assert!(!parsed.contains(char::is_whitespace), "{blank:?} became {parsed:?}");
            assert!(!parsed.contains("info="), "{blank:?} became {parsed:?}, a module of that name");
        }
        let refusal = |filter: &str| parse(filter).err().unwrap_or_else(|| panic!("{filter} was taken")).to_string();
        assert!(refusal("inf").contains("\"inf\" is no level: off, error, warn"), "{}", refusal("inf"));
        assert!(refusal("").contains("is no level"));
        assert!(refusal("info,quipu_raft").contains("module=level"));
        assert!(refusal("quipu=loud").contains("cannot log at \"quipu=loud\""));
        let long = "quipu=info,".repeat(200);
        assert!(refusal(&long).contains(&format!("2200 bytes, and {MAX_FILTER_BYTES} are allowed")));
    }

    #[test]
    fn a_plain_level_is_about_quipu_and_other_directives_are_taken_as_they_are() {
        assert_eq!(quiet_libraries("DEBUG"), "error,quipu=debug");
        assert_eq!(quiet_libraries("error"), "error");
        assert_eq!(quiet_libraries("openraft=info"), "openraft=info");
        let parsed = |filter: &str| parse(filter).expect("a filter").to_string();
        assert_eq!(parsed("info,quipu_raft=trace"), parsed("quipu_raft=trace,quipu=info,error"));
        assert_eq!(parsed("info"), parsed("error,quipu=info"));
    }
}
