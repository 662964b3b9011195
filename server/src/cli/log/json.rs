//! Logs as lines of JSON.

use quipu_sdk::{Codecs, LogConfig, LogSummary, Writers};
use serde::Serialize;

/// A log; in the answer to a change also whether it changed anything.
#[derive(Serialize)]
pub(super) struct JsonLog<'a> {
    name: &'a str,
    id: u64,
    #[serde(flatten)]
    config: JsonConfig,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    changed: Option<bool>,
}

impl<'a> JsonLog<'a> {
    pub(super) fn new(log: &'a LogSummary) -> Self {
        let (name, id) = (log.name.as_str(), log.id.get());
        Self { name, id, config: JsonConfig::from(log.config), created: None, changed: None }
    }

    pub(super) fn created(log: &'a LogSummary, created: bool) -> Self {
        Self { created: Some(created), ..Self::new(log) }
    }

    pub(super) fn changed(log: &'a LogSummary, changed: bool) -> Self {
        Self { changed: Some(changed), ..Self::new(log) }
    }
}

/// A log's configuration: what is not set is not there.
#[derive(Serialize)]
pub(super) struct JsonConfig {
    replicas: Option<u32>,
    max_batch_bytes: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retention_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retention_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    codecs: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_timestamp_before_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_timestamp_after_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_lease_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_lease_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    writers: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor_expiry_ms: Option<u64>,
}

impl From<LogConfig> for JsonConfig {
    fn from(config: LogConfig) -> Self {
        Self {
            replicas: config.replicas,
            max_batch_bytes: config.max_batch_bytes,
            retention_bytes: config.retention_bytes,
            retention_ms: config.retention_ms,
            codecs: Some(config.codecs).filter(|codecs| !codecs.is_any()).as_ref().map(Codecs::to_string),
            max_timestamp_before_ms: config.max_timestamp_before_ms,
            max_timestamp_after_ms: config.max_timestamp_after_ms,
            max_lease_bytes: config.max_lease_bytes,
            max_lease_ms: config.max_lease_ms,
            writers: (config.writers == Writers::Exclusive).then_some("exclusive"),
            cursor_expiry_ms: config.cursor_expiry_ms,
        }
    }
}
