//! Why a configuration is refused.

use std::path::PathBuf;

use super::settings::Unit;

/// Why a configuration is refused. Names the key, and what would be right.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {}: {source}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The file is no TOML.
    #[error("the configuration is not TOML: {0}")]
    Syntax(#[from] toml::de::Error),
    /// A key is not known.
    #[error("unknown key {key:?}{}", nearest.map(|known| format!("; did you mean {known:?}?")).unwrap_or_default())]
    UnknownKey {
        /// What was written.
        key: String,
        /// The nearest known key, if one is near.
        nearest: Option<&'static str>,
    },
    /// An environment variable is not known.
    #[error("unknown variable {variable}{}", nearest.as_ref().map(|known| format!("; did you mean {known}?")).unwrap_or_default())]
    UnknownVariable {
        /// What is set.
        variable: String,
        /// The nearest known variable, if one is near.
        nearest: Option<String>,
    },
    /// A value is of another kind.
    #[error("{key} = {found}: {expected} is expected")]
    BadValue {
        /// Which key.
        key: String,
        /// What was written.
        found: String,
        /// What is expected.
        expected: &'static str,
    },
    /// A number is out of its range.
    #[error("{key} = {value}: {least} to {most} {} is allowed", unit.name())]
    OutOfRange {
        /// Which key.
        key: &'static str,
        /// What was written.
        value: u64,
        /// What the number counts.
        unit: Unit,
        /// The smallest allowed value.
        least: u64,
        /// The largest allowed value.
        most: u64,
    },
    /// Something necessary is not said.
    #[error("{key} is missing: give {flag}, set {}, or write it into the configuration file", super::variable_of(key))]
    Missing {
        /// Which key.
        key: &'static str,
        /// The flag that sets it.
        flag: &'static str,
    },
    /// Two values contradict each other.
    #[error("{first} contradicts {second}: {relation}")]
    Contradiction {
        /// The first key and its value.
        first: String,
        /// The second key and its value.
        second: String,
        /// What has to hold between them.
        relation: &'static str,
    },
}
