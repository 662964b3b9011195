//! From messages to what they mean. Whatever an answer may lack or get wrong
//! is found here, and nowhere later.

use std::time::Duration;

use quipu_protocol::v1::node_status::State as WireNodeState;
use quipu_protocol::v1::replica_description::{Role, State as WireReplicaState};
use quipu_protocol::{
    ClusterId, CursorNameError, LogId, LogNameError, NodeId, Offset, OffsetRange, ReplicaId, Term, Timestamp, v1,
};

use crate::{
    AlteredLog, ClusterStatus, Codecs, CreatedLog, JournalCounters, LogAlteration, LogConfig, LogDescription,
    LogSummary, NodeState, NodeStatus, ReplicaDescription, ReplicaRole, ReplicaState, ServiceCounters, Writers,
};

/// What a message means, if it means anything. (A trait of our own: messages
/// are no part of this crate's interface, and `TryFrom` would make them one.)
pub(crate) trait Meaning<M>: Sized {
    fn of(message: M) -> Result<Self, Malformed>;
}

/// What a message means that cannot be malformed.
pub(crate) trait Plain<M> {
    fn of(message: M) -> Self;
}

/// An answer makes no sense.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("the answer names no log")]
    NoLog,
    #[error("the answer has no outcome")]
    NoOutcome,
    #[error("the answer names a log whose name is none: {0}")]
    LogName(#[from] LogNameError),
    #[error("the answer names a cursor whose name is none: {0}")]
    CursorName(#[from] CursorNameError),
    #[error("the log starts at {start} and ends at {end}")]
    Range { start: u64, end: u64 },
}

impl LogConfig {
    pub(crate) fn on_wire(self) -> v1::LogConfig {
        v1::LogConfig {
            replicas: self.replicas.unwrap_or(0),
            max_batch_bytes: self.max_batch_bytes.unwrap_or(0),
            retention_bytes: self.retention_bytes.unwrap_or(0),
            retention_ms: self.retention_ms.unwrap_or(0),
            codecs: self.codecs.bits(),
            max_timestamp_before_ms: self.max_timestamp_before_ms.unwrap_or(0),
            max_timestamp_after_ms: self.max_timestamp_after_ms.unwrap_or(0),
            cursor_expiry_ms: self.cursor_expiry_ms,
            max_lease_bytes: self.max_lease_bytes.unwrap_or(0),
            max_lease_ms: self.max_lease_ms.unwrap_or(0),
            writers: match self.writers {
                Writers::Shared => v1::Writers::Shared,
                Writers::Exclusive => v1::Writers::Exclusive,
            }
            .into(),
        }
    }
}

impl LogAlteration {
    pub(crate) fn on_wire(self) -> v1::LogAlteration {
        let absent_as_zero = |value: Option<Option<u64>>| value.map(|value| value.unwrap_or(0));
        v1::LogAlteration {
            max_batch_bytes: self.max_batch_bytes,
            retention_bytes: absent_as_zero(self.retention_bytes),
            retention_ms: absent_as_zero(self.retention_ms),
            codecs: self.codecs.map(Codecs::bits),
            max_timestamp_before_ms: absent_as_zero(self.max_timestamp_before_ms),
            max_timestamp_after_ms: absent_as_zero(self.max_timestamp_after_ms),
            cursor_expiry_ms: self.cursor_expiry_ms,
            max_lease_bytes: absent_as_zero(self.max_lease_bytes),
            max_lease_ms: absent_as_zero(self.max_lease_ms),
        }
    }
}

impl Meaning<v1::AlterLogResponse> for AlteredLog {
    fn of(answer: v1::AlterLogResponse) -> Result<Self, Malformed> {
        Ok(Self { log: Meaning::of(answer.log.ok_or(Malformed::NoLog)?)?, changed: answer.changed })
    }
}

impl Plain<v1::LogConfig> for LogConfig {
    fn of(config: v1::LogConfig) -> Self {
        let set = |value| Some(value).filter(|value| *value != 0);
        let long = |value| Some(value).filter(|value| *value != 0);
        Self {
            replicas: set(config.replicas),
            max_batch_bytes: set(config.max_batch_bytes),
            retention_bytes: long(config.retention_bytes),
            retention_ms: long(config.retention_ms),
            // A codec that this client does not know cannot be named.
            codecs: Codecs::from_bits(config.codecs).unwrap_or_default(),
            max_timestamp_before_ms: long(config.max_timestamp_before_ms),
            max_timestamp_after_ms: long(config.max_timestamp_after_ms),
            cursor_expiry_ms: config.cursor_expiry_ms,
            max_lease_bytes: long(config.max_lease_bytes),
            max_lease_ms: long(config.max_lease_ms),
            writers: match config.writers() {
                v1::Writers::Shared => Writers::Shared,
                v1::Writers::Exclusive => Writers::Exclusive,
            },
        }
    }
}

impl Meaning<v1::LogSummary> for LogSummary {
    fn of(log: v1::LogSummary) -> Result<Self, Malformed> {
        Ok(Self { name: log.name.parse()?, id: LogId::new(log.id), config: Plain::of(log.config.unwrap_or_default()) })
    }
}

impl Meaning<v1::CreateLogResponse> for CreatedLog {
    fn of(answer: v1::CreateLogResponse) -> Result<Self, Malformed> {
        Ok(Self { log: Meaning::of(answer.log.ok_or(Malformed::NoLog)?)?, created: answer.created })
    }
}

impl Meaning<v1::DescribeLogResponse> for LogDescription {
    fn of(answer: v1::DescribeLogResponse) -> Result<Self, Malformed> {
        let (start, end) = (answer.start, answer.end);
        if start > end {
            return Err(Malformed::Range { start, end });
        }
        let mut replicas: Vec<ReplicaDescription> = answer.replicas.into_iter().map(Plain::of).collect();
        replicas.sort_by_key(|replica| (replica.node, replica.replica));
        Ok(Self {
            log: Meaning::of(answer.log.ok_or(Malformed::NoLog)?)?,
            range: OffsetRange::new(Offset::new(start), Offset::new(end)),
            leader: node(answer.leader),
            term: Term::new(answer.term),
            bytes: answer.bytes,
            entries: answer.entries,
            cursors: answer.cursors,
            cursor_bytes: answer.cursor_bytes,
            cursor_entry_bytes: answer.cursor_entry_bytes,
            leases: answer.leases,
            lease_entry_bytes: answer.lease_entry_bytes,
            age_retention_held: answer.age_retention_held,
            replicas,
        })
    }
}

impl Plain<v1::ReplicaDescription> for ReplicaDescription {
    fn of(replica: v1::ReplicaDescription) -> Self {
        let role = match replica.role() {
            Role::Leader => Some(ReplicaRole::Leader),
            Role::Follower => Some(ReplicaRole::Follower),
            Role::Learner => Some(ReplicaRole::Learner),
            Role::Unspecified => None,
        };
        let state = match replica.state() {
            WireReplicaState::Running => ReplicaState::Running,
            WireReplicaState::Unreachable => ReplicaState::Unreachable,
            WireReplicaState::Failed => ReplicaState::Failed,
            WireReplicaState::Starting => ReplicaState::Starting,
            WireReplicaState::Damaged => ReplicaState::Damaged,
            WireReplicaState::Unspecified => ReplicaState::Unknown,
        };
        Self {
            node: NodeId::new(replica.node),
            address: replica.address,
            replica: ReplicaId::new(replica.replica),
            role,
            state,
            durable_index: replica.durable_index,
            applied_index: replica.applied_index,
            lag: replica.lag,
            end: Offset::new(replica.end),
            damaged_since: (replica.damaged_since != 0).then_some(Timestamp::new(replica.damaged_since)),
            refetched_entries: replica.refetched_entries,
        }
    }
}

/// One page of a listing.
pub(crate) struct LogPage(pub(crate) Vec<LogSummary>);

impl Meaning<v1::ListLogsResponse> for LogPage {
    fn of(answer: v1::ListLogsResponse) -> Result<Self, Malformed> {
        answer.logs.into_iter().map(Meaning::of).collect::<Result<_, _>>().map(Self)
    }
}

impl Plain<v1::StatusResponse> for ClusterStatus {
    fn of(answer: v1::StatusResponse) -> Self {
        let mut nodes: Vec<NodeStatus> = answer.nodes.into_iter().map(Plain::of).collect();
        nodes.sort_by_key(|node| node.id);
        Self {
            cluster: ClusterId::new(answer.cluster_id),
            nodes,
            logs: answer.logs,
            catalog_leader: node(answer.catalog_leader),
        }
    }
}

impl Plain<v1::NodeStatus> for NodeStatus {
    fn of(node: v1::NodeStatus) -> Self {
        let state = match node.state() {
            WireNodeState::Up => NodeState::Up,
            WireNodeState::Down => NodeState::Down,
            WireNodeState::Resyncing => NodeState::Resyncing,
            WireNodeState::Unspecified => NodeState::Unknown,
        };
        Self {
            id: NodeId::new(node.id),
            address: node.address,
            state,
            version: node.version,
            journal: node.journal.map(Plain::of),
            cpu: Duration::from_micros(node.cpu_micros),
            services: node.services.map(Plain::of),
            damaged_replicas: node.damaged_replicas,
            refetched_entries: node.refetched_entries,
            clock_ahead_ms: node.clock_ahead_ms,
            age_retention_held: node.age_retention_held,
        }
    }
}

impl Plain<v1::ServiceCounters> for ServiceCounters {
    fn of(counters: v1::ServiceCounters) -> Self {
        Self {
            appends: counters.appends,
            appended_records: counters.appended_records,
            appended_bytes: counters.appended_bytes,
            append_errors: counters.append_errors,
            reads: counters.reads,
            read_batches: counters.read_batches,
            read_bytes: counters.read_bytes,
        }
    }
}

impl Plain<v1::JournalCounters> for JournalCounters {
    fn of(counters: v1::JournalCounters) -> Self {
        Self {
            commits: counters.commits,
            fsyncs: counters.fsyncs,
            payload_bytes: counters.payload_bytes,
            written_bytes: counters.written_bytes,
            prepared_bytes: counters.prepared_bytes,
            metadata_bytes: counters.metadata_bytes,
        }
    }
}

/// Nodes are numbered from 1: 0 is no node.
fn node(id: u64) -> Option<NodeId> {
    Some(id).filter(|id| *id != 0).map(NodeId::new)
}
