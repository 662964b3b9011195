//! What a cluster says of its nodes.

use std::time::Duration;

use quipu_protocol::{ClusterId, NodeId};

/// The cluster as the asked node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterStatus {
    /// Which cluster it is.
    pub cluster: ClusterId,
    /// Its nodes, by id.
    pub nodes: Vec<NodeStatus>,
    /// How many logs there are.
    pub logs: u64,
    /// The node that leads the catalog, if any does now.
    pub catalog_leader: Option<NodeId>,
}

/// One node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeStatus {
    /// Its number.
    pub id: NodeId,
    /// Its address, `host:port`.
    pub address: String,
    /// How it is.
    pub state: NodeState,
    /// Its software's version; empty when it is down.
    pub version: String,
    /// What its journal has done since it started; `None` when it is down.
    pub journal: Option<JournalCounters>,
    /// CPU time that its process has used since it started.
    pub cpu: Duration,
    /// What its services have done since it started; `None` when it is down.
    pub services: Option<ServiceCounters>,
    /// How many logs' replicas are damaged on it.
    pub damaged_replicas: u64,
    /// Entries that it has fetched from others in place of damaged ones, since
    /// its process started.
    pub refetched_entries: u64,
    /// How far its wall clock is ahead of the median of its peers', milliseconds;
    /// less than 0 when it is behind. `None` while that is not known, as of a
    /// node without peers or one that is down.
    pub clock_ahead_ms: Option<i64>,
    /// Whether it trims none of the logs that it leads by age, since its clock is
    /// too far from its peers' or nothing is known of theirs.
    pub age_retention_held: bool,
}

/// How a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeState {
    /// Answers its peers.
    Up,
    /// Does not answer.
    Down,
    /// Has lost its data and is being brought up to date.
    Resyncing,
    /// Something that this client does not know yet.
    Unknown,
}

/// What a node's journal has done since the node's process started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JournalCounters {
    /// Group commits.
    pub commits: u64,
    /// Calls of fdatasync.
    pub fsyncs: u64,
    /// Bytes of entries that users and the cluster wanted stored.
    pub payload_bytes: u64,
    /// All bytes that commits wrote.
    pub written_bytes: u64,
    /// Bytes written ahead of use to prepare segments.
    pub prepared_bytes: u64,
    /// Bytes that RocksDB wrote (flushes and compactions).
    pub metadata_bytes: u64,
}

/// What a node's services have done since the node's process started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServiceCounters {
    /// Appends acknowledged, duplicates included.
    pub appends: u64,
    /// Their records.
    pub appended_records: u64,
    /// The bytes of their batches, as they came.
    pub appended_bytes: u64,
    /// Appends that were not acknowledged, for whatever reason.
    pub append_errors: u64,
    /// Read streams begun.
    pub reads: u64,
    /// Batches sent to readers.
    pub read_batches: u64,
    /// Their bytes.
    pub read_bytes: u64,
}

/// What a node logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFilterChange {
    /// What held before the call.
    pub before: String,
    /// What holds now.
    pub now: String,
}
