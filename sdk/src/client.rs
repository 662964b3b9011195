//! The cluster as one thing: whatever is asked finds a node that answers.

use quipu_protocol::environment::Environment;
use quipu_protocol::{LogName, OffsetRange};

use crate::{
    ClientConfig, ClusterStatus, ConfigError, Consistency, CreateLogError, CreatedLog, LogConfig, LogDescription,
    LogError, LogSummary, Producer, ProducerConfig, Reader, ReaderConfig, RequestError,
};

/// A cluster, reached through any of its nodes. Cheap to clone; clones share
/// connections and what is known of leaders.
#[derive(Clone)]
pub struct Client {
    _environment: Environment,
}

impl Client {
    /// A client of the cluster that `config` names. Connects when it is first
    /// used.
    pub fn new(config: ClientConfig, environment: Environment) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self { _environment: environment })
    }

    /// Creates a log. Succeeds again for a log that exists with an equal
    /// configuration.
    pub async fn create_log(&self, log: &LogName, config: LogConfig) -> Result<CreatedLog, CreateLogError> {
        let _ = (log, config);
        todo!()
    }

    /// All logs, by name.
    pub async fn list_logs(&self) -> Result<Vec<LogSummary>, RequestError> {
        todo!()
    }

    /// A log, with what each of its replicas says of itself.
    pub async fn describe_log(&self, log: &LogName) -> Result<LogDescription, LogError> {
        let _ = log;
        todo!()
    }

    /// The nodes and how many logs there are.
    pub async fn status(&self) -> Result<ClusterStatus, RequestError> {
        todo!()
    }

    /// What can be read of a log.
    pub async fn offsets(&self, log: &LogName, consistency: Consistency) -> Result<OffsetRange, LogError> {
        let _ = (log, consistency);
        todo!()
    }

    /// A producer for a log. Whether the log exists shows at the first append.
    pub fn producer(&self, log: &LogName, config: ProducerConfig) -> Result<Producer, ConfigError> {
        config.validate()?;
        let _ = log;
        todo!()
    }

    /// A reader of a log. Whether the log exists shows at the first record.
    pub fn reader(&self, log: &LogName, config: ReaderConfig) -> Result<Reader, ConfigError> {
        let _ = (log, config);
        todo!()
    }
}
