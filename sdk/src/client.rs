//! The cluster as one thing: whatever is asked finds a node that answers.

use std::sync::Arc;

use quipu_protocol::environment::Environment;
use quipu_protocol::v1::cluster_client::ClusterClient;
use quipu_protocol::v1::error::Kind;
use quipu_protocol::v1::operator_client::OperatorClient;
use quipu_protocol::v1::records_client::RecordsClient;
use quipu_protocol::{
    CursorName, LogId, LogName, LogPattern, NodeId, Offset, OffsetRange, ReaderGroupName, Timestamp, v1,
};

use crate::cluster::{Answer, Cluster, PursuitError, Refusal, Target};
use crate::cursors;
use crate::reader::read_error;
use crate::wire::{Meaning, Plain};
use crate::{
    AlterLogError, AlteredLog, Barrier, ClientConfig, ClusterStatus, ConfigError, Consistency, CreateLogError,
    CreatedLog, Cursor, CursorDescription, CursorError, DeleteLogError, Freshness, LocalOffsets, LogAlteration,
    LogConfig, LogDescription, LogError, LogFilterChange, LogRef, LogSummary, Logs, OffsetAt, Producer, ProducerConfig,
    ReadError, Reader, ReaderConfig, RequestError,
};
use crate::{GroupDescription, GroupError, GroupSummary, Positions, ReaderGroup, groups};

/// A cluster, reached through any of its nodes. Cheap to clone; clones share
/// connections and what is known of leaders.
#[derive(Clone)]
pub struct Client {
    cluster: Arc<Cluster>,
}

impl Client {
    /// A client of the cluster that `config` names. Connects when it is first
    /// used.
    pub fn new(config: ClientConfig, environment: Environment) -> Result<Self, ConfigError> {
        Ok(Self { cluster: Cluster::new(config, environment)? })
    }

    pub(crate) const fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    /// Creates a log. Succeeds again for a log that exists with an equal
    /// configuration.
    pub async fn create_log(&self, log: &LogName, config: LogConfig) -> Result<CreatedLog, CreateLogError> {
        let request = || v1::CreateLogRequest { name: log.to_string(), config: Some(config.on_wire()) };
        let call = |channel| async { ClusterClient::new(channel).create_log(request()).await };
        let answer = self.cluster.call(Target::Any, call).await.map_err(|error| create_log_error(log, error))?;
        Ok(understand(answer)?)
    }

    /// Changes a log's configuration. Every replica follows within moments of
    /// the answer. May be repeated. A log that is created under the same name
    /// meanwhile is left as it is.
    pub async fn alter_log(
        &self,
        log: impl Into<LogRef<'_>>,
        change: LogAlteration,
    ) -> Result<AlteredLog, AlterLogError> {
        let log: LogRef<'_> = log.into();
        let name = log.name();
        let unknown = || AlterLogError::UnknownLog { log: name.clone(), maybe_done: false };
        let id = match log.id() {
            Some(id) => id,
            None => self.found(log).await?.ok_or_else(unknown)?.id,
        };
        let request = || v1::AlterLogRequest { name: name.to_string(), change: Some(change.on_wire()), id: id.get() };
        let call = |channel| async { ClusterClient::new(channel).alter_log(request()).await };
        let answer = self.cluster.call(Target::Any, call).await.map_err(|error| alter_log_error(name, error))?;
        Ok(understand(answer)?)
    }

    /// Deletes a log with all its records, on every node; returns what it was.
    /// The name is free at once: a new log of that name has another id, and no
    /// producer or reader of the deleted one ever comes to it. May be repeated;
    /// whoever does so names the log [by its id](LogRef::new) if another one may have
    /// its name by then.
    pub async fn delete_log(&self, log: impl Into<LogRef<'_>>) -> Result<LogSummary, DeleteLogError> {
        let log: LogRef<'_> = log.into();
        let name = log.name();
        let found = self.found(log).await?;
        let found = found.ok_or_else(|| DeleteLogError::UnknownLog { log: name.clone() })?;
        let request = || v1::DeleteLogRequest { name: name.to_string(), id: found.id.get() };
        let call = |channel| async { ClusterClient::new(channel).delete_log(request()).await };
        // By its id, so that an attempt whose answer was lost does not meet
        // another log.
        self.cluster.call(Target::Any, call).await.map_err(|error| delete_log_error(name, error))?;
        Ok(found)
    }

    /// The log that is meant, as the catalog knows it.
    async fn found(&self, log: LogRef<'_>) -> Result<Option<LogSummary>, RequestError> {
        let found = self.logs(Some(log.name().into())).next().await?;
        Ok(found.filter(|found| log.id().is_none_or(|id| id == found.id)))
    }

    /// All logs, by name.
    pub async fn list_logs(&self) -> Result<Vec<LogSummary>, RequestError> {
        let mut logs = self.logs(None);
        let mut all = Vec::new();
        while let Some(log) = logs.next().await? {
            all.push(log);
        }
        Ok(all)
    }

    /// The logs whose names match `pattern`, all of them without one, by name.
    /// Asked for in pages, as they are taken.
    pub fn logs(&self, pattern: Option<LogPattern>) -> Logs {
        Logs::new(Arc::clone(&self.cluster), pattern)
    }

    /// A log, with what each of its replicas says of itself.
    pub async fn describe_log(&self, log: &LogName) -> Result<LogDescription, LogError> {
        let request = || v1::DescribeLogRequest { name: log.to_string() };
        let call = |channel| async { ClusterClient::new(channel).describe_log(request()).await };
        let answer = self.cluster.call(Target::Any, call).await.map_err(|error| log_error(log, error))?;
        Ok(understand(answer)?)
    }

    /// The nodes and how many logs there are.
    pub async fn status(&self) -> Result<ClusterStatus, RequestError> {
        let answer = status(&self.cluster).await.map_err(PursuitError::into_request_error)?;
        Ok(Plain::of(answer))
    }

    /// What `node` logs, after a change to `filter` if there is one: a level
    /// (`debug`) or directives (`info,quipu_raft=debug`). May be repeated.
    /// Asks no other node than this one.
    pub async fn log_filter(&self, node: NodeId, filter: Option<&str>) -> Result<LogFilterChange, RequestError> {
        let request = || v1::ChangeLogFilterRequest { filter: filter.unwrap_or_default().to_owned() };
        let call = |channel| async { OperatorClient::new(channel).change_log_filter(request()).await };
        let answer = self.cluster.call(Target::Node(node), call).await.map_err(PursuitError::into_request_error)?;
        let v1::ChangeLogFilterResponse { before, now } = answer.value;
        Ok(LogFilterChange { before, now })
    }

    /// What can be read of a log.
    pub async fn offsets(&self, log: &LogName, consistency: Consistency) -> Result<OffsetRange, LogError> {
        let target = match consistency {
            Consistency::Linearizable => Target::Leader(log.clone()),
            Consistency::Local => Target::Any,
        };
        let offsets = offsets(&self.cluster, target, log, 0, consistency).await;
        offsets.map(|offsets| offsets.range).map_err(|error| log_error(log, error))
    }

    /// The first record of a log at or after `at`, by records' own timestamps:
    /// exact to the record. Records after it may be older, since producers give
    /// timestamps in any order.
    pub async fn offset_at(
        &self,
        log: &LogName,
        at: Timestamp,
        consistency: Consistency,
    ) -> Result<OffsetAt, LogError> {
        let target = match consistency {
            Consistency::Linearizable => Target::Leader(log.clone()),
            Consistency::Local => Target::Any,
        };
        let found = offset_at(&self.cluster, target, log, 0, at, consistency).await;
        found.map(|(_, found)| found).map_err(|error| log_error(log, error))
    }

    /// A moment in a log that is now or later: everything that was acknowledged
    /// before the call lies before its end. The leader answers, having made sure of
    /// a majority; a [reader](ReaderConfig::after) of any replica can be held to it.
    pub async fn barrier(&self, log: &LogName) -> Result<Barrier, LogError> {
        let settled = offsets(&self.cluster, Target::Leader(log.clone()), log, 0, Consistency::Linearizable).await;
        let Offsets { log_id, range, .. } = settled.map_err(|error| log_error(log, error))?;
        Ok(Barrier { log: LogId::new(log_id), end: range.end() })
    }

    /// What one replica's own copy holds, `node`'s or any one's, and how old that may
    /// be.
    pub async fn local_offsets(&self, log: &LogName, node: Option<NodeId>) -> Result<LocalOffsets, ReadError> {
        if let Some(node) = node.filter(|node| self.cluster.address_of(*node).is_none()) {
            status(&self.cluster).await.map_err(|error| read_error(log, error, None))?;
            if self.cluster.address_of(node).is_none() {
                return Err(ReadError::UnknownNode { node });
            }
        }
        let target = node.map_or(Target::Any, Target::Node);
        let local = offsets(&self.cluster, target, log, 0, Consistency::Local).await;
        let Offsets { range, freshness, .. } = local.map_err(|error| read_error(log, error, None))?;
        // A node that does not say cannot tell.
        let freshness = freshness.unwrap_or(Freshness { leader_end: range.end(), age: None });
        Ok(LocalOffsets { range, freshness })
    }

    /// A cursor of a log: a named position that the log keeps. It is bound to the log
    /// that has the name when it is first used.
    pub fn cursor(&self, log: &LogName, name: &CursorName) -> Cursor {
        Cursor::new(Arc::clone(&self.cluster), log.clone(), name.clone())
    }

    /// The cursors of a log whose names begin with `prefix` (all of them if that is
    /// empty), by name: at least what was acknowledged before.
    pub async fn cursors(&self, log: &LogName, prefix: &str) -> Result<Vec<CursorDescription>, CursorError> {
        cursors::list(&self.cluster, log, prefix).await
    }

    /// A producer for a log. Whether the log exists shows at the first append. Unless
    /// the log is named [by its id](LogRef::new), the producer keeps to the one that has
    /// the name when it first appends.
    /// Starts a task, so that it needs the environment's runtime around it.
    pub fn producer<'a>(&self, log: impl Into<LogRef<'a>>, config: ProducerConfig) -> Result<Producer, ConfigError> {
        config.validate()?;
        Ok(Producer::start(Arc::clone(&self.cluster), log.into(), config))
    }

    /// A reader of a log. Whether the log exists shows at the first record.
    pub fn reader(&self, log: &LogName, config: ReaderConfig) -> Result<Reader, ConfigError> {
        config.validate()?;
        Ok(Reader::new(Arc::clone(&self.cluster), log.clone(), config))
    }

    /// A reader group, to be joined: its members share the logs whose names match
    /// `pattern`, those that are created later as well.
    pub fn reader_group(&self, group: &ReaderGroupName, pattern: &LogPattern) -> ReaderGroup {
        ReaderGroup::new(Arc::clone(&self.cluster), group.clone(), pattern.clone())
    }

    /// Where a reader group's positions are unless it is told otherwise: in a cursor of
    /// each log. For those who wrap them.
    pub fn group_positions(&self, group: &ReaderGroupName) -> Arc<dyn Positions> {
        Arc::new(groups::CursorPositions::new(Arc::clone(&self.cluster), group))
    }

    /// A reader group, its members and what each of them has.
    pub async fn describe_reader_group(&self, group: &ReaderGroupName) -> Result<GroupDescription, GroupError> {
        groups::describe(&self.cluster, group).await
    }

    /// All reader groups, by name.
    pub async fn reader_groups(&self) -> Result<Vec<GroupSummary>, GroupError> {
        groups::list(&self.cluster).await
    }
}

/// What a node says of all nodes, which is taken in.
pub(crate) async fn status(cluster: &Arc<Cluster>) -> Result<v1::StatusResponse, PursuitError> {
    let call = |channel| async { ClusterClient::new(channel).status(v1::StatusRequest {}).await };
    let answer = cluster.call(Target::Any, call).await?;
    cluster.learn(&answer.value);
    Ok(answer.value)
}

/// What can be read of a log.
pub(crate) struct Offsets {
    /// The log's id.
    pub(crate) log_id: u64,
    pub(crate) range: OffsetRange,
    /// Of a local answer.
    pub(crate) freshness: Option<Freshness>,
}

/// What `target` says can be read of `log`, and of no other id than `log_id`,
/// unless that is 0.
pub(crate) async fn offsets(
    cluster: &Arc<Cluster>,
    target: Target,
    log: &LogName,
    log_id: u64,
    consistency: Consistency,
) -> Result<Offsets, PursuitError> {
    let request = || v1::OffsetsRequest { log: log.to_string(), consistency: consistency.on_wire().into(), log_id };
    let call = |channel| async { RecordsClient::new(channel).offsets(request()).await };
    let Answer { address, value } = cluster.call(target, call).await?;
    if value.start > value.end {
        let violation = format!("the log starts at {} and ends at {}", value.start, value.end);
        return Err(PursuitError::GivenUp(RequestError::Protocol { address, violation }));
    }
    let range = OffsetRange::new(Offset::new(value.start), Offset::new(value.end));
    Ok(Offsets { log_id: value.log_id, range, freshness: value.freshness.map(Plain::of) })
}

/// What `target` says is the first record of `log` at or after `at`, and the
/// log's id; of no other id than `log_id`, unless that is 0.
pub(crate) async fn offset_at(
    cluster: &Arc<Cluster>,
    target: Target,
    log: &LogName,
    log_id: u64,
    at: Timestamp,
    consistency: Consistency,
) -> Result<(u64, OffsetAt), PursuitError> {
    let request = || v1::OffsetAtRequest {
        log: log.to_string(),
        timestamp: at.get(),
        consistency: consistency.on_wire().into(),
        log_id,
    };
    let call = |channel| async { RecordsClient::new(channel).offset_at(request()).await };
    let Answer { address, value } = cluster.call(target, call).await?;
    if value.offset > value.end || value.timestamp.is_some_and(|timestamp| timestamp < at.get()) {
        let violation = format!("offset {} of {} was named for {}", value.offset, value.end, at.get());
        return Err(PursuitError::GivenUp(RequestError::Protocol { address, violation }));
    }
    let found = OffsetAt { offset: Offset::new(value.offset), timestamp: value.timestamp.map(Timestamp::new) };
    Ok((value.log_id, found))
}

/// Turns an answer into what it means, if it means anything.
pub(crate) fn understand<M, T: Meaning<M>>(answer: Answer<M>) -> Result<T, RequestError> {
    let address = answer.address;
    T::of(answer.value).map_err(|malformed| RequestError::Protocol { address, violation: malformed.to_string() })
}

fn create_log_error(log: &LogName, error: PursuitError) -> CreateLogError {
    match error {
        PursuitError::Refused { refusal: Refusal { address, error }, maybe_done: false } => match error.kind {
            Some(Kind::LogExists(exists)) => {
                CreateLogError::Exists { log: log.clone(), config: Plain::of(exists.config.unwrap_or_default()) }
            }
            Some(Kind::TooFewNodes(v1::TooFewNodes { replicas, nodes })) => {
                CreateLogError::TooFewNodes { replicas, nodes }
            }
            Some(Kind::InvalidArgument(v1::InvalidArgument { field, reason })) => {
                CreateLogError::BadConfig { field, reason }
            }
            _ => RequestError::Refused { address, message: error.message, maybe_done: false }.into(),
        },
        unclear => unclear.into_request_error().into(),
    }
}

fn alter_log_error(log: &LogName, error: PursuitError) -> AlterLogError {
    if let PursuitError::Refused { refusal: Refusal { error: refused, .. }, maybe_done } = &error {
        match &refused.kind {
            Some(Kind::UnknownLog(_)) => {
                return AlterLogError::UnknownLog { log: log.clone(), maybe_done: *maybe_done };
            }
            // A refusal says nothing of an attempt before it that may have been carried out.
            Some(Kind::InvalidArgument(v1::InvalidArgument { field, reason })) if !maybe_done => {
                return AlterLogError::BadConfig { field: field.clone(), reason: reason.clone() };
            }
            _ => {}
        }
    }
    error.into_request_error().into()
}

fn delete_log_error(log: &LogName, error: PursuitError) -> DeleteLogError {
    match change_error(log, error) {
        LogError::UnknownLog { log } => DeleteLogError::UnknownLog { log },
        LogError::Request(error) => DeleteLogError::Request(error),
    }
}

/// As [`log_error`], of what changes something: a refusal says nothing of an
/// attempt before it that may have been carried out.
pub(crate) fn change_error(log: &LogName, error: PursuitError) -> LogError {
    match error {
        unclear @ PursuitError::Refused { maybe_done: true, .. } => unclear.into_request_error().into(),
        clear => log_error(log, clear),
    }
}

pub(crate) fn log_error(log: &LogName, error: PursuitError) -> LogError {
    match error {
        PursuitError::Refused {
            refusal: Refusal { error: v1::Error { kind: Some(Kind::UnknownLog(_)), .. }, .. },
            ..
        } => LogError::UnknownLog { log: log.clone() },
        other => other.into_request_error().into(),
    }
}
