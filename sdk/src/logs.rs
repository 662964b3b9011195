//! What a cluster says of its logs.

use std::fmt;

use quipu_protocol::{LogId, LogName, NodeId, Offset, OffsetRange, ReplicaId, Term, Timestamp};

/// How a log is set up. Equal configurations make a repeated create succeed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogConfig {
    /// How many replicas; `None` on create takes the smaller of 3 and the
    /// number of nodes. Always `Some` in an answer.
    pub replicas: Option<u32>,
    /// The largest batch that an append may carry, in bytes, from 1 KiB to
    /// 64 MiB; `None` on create takes the cluster's default (1 MiB). Always
    /// `Some` in an answer.
    pub max_batch_bytes: Option<u32>,
    /// How many bytes of batches are kept, compressed as they are: what is
    /// older is trimmed, but never the newest entry. `None` keeps all.
    pub retention_bytes: Option<u64>,
    /// How long records are kept, in milliseconds by the log's time, which is
    /// its leaders'. `None` keeps them for ever.
    pub retention_ms: Option<u64>,
}

impl fmt::Display for LogConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_default = |value: Option<u32>| value.map_or_else(|| "default".to_owned(), |value| value.to_string());
        let (replicas, bytes) = (or_default(self.replicas), or_default(self.max_batch_bytes));
        write!(f, "replicas {replicas}, max_batch_bytes {bytes}")?;
        for (name, bound) in [("retention_bytes", self.retention_bytes), ("retention_ms", self.retention_ms)] {
            if let Some(bound) = bound {
                write!(f, ", {name} {bound}")?;
            }
        }
        Ok(())
    }
}

/// A log by name, number and configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSummary {
    /// Its name.
    pub name: LogName,
    /// Its id, never reused.
    pub id: LogId,
    /// How it is set up.
    pub config: LogConfig,
}

/// The answer to a create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedLog {
    /// The log.
    pub log: LogSummary,
    /// False when it existed already with an equal configuration.
    pub created: bool,
}

/// A log with what each of its replicas says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogDescription {
    /// The log.
    pub log: LogSummary,
    /// What can be read.
    pub range: OffsetRange,
    /// The node that leads it, if any does now.
    pub leader: Option<NodeId>,
    /// The newest term that was heard of.
    pub term: Term,
    /// Its replicas, by node.
    pub replicas: Vec<ReplicaDescription>,
}

/// What a replica says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaDescription {
    /// The node it is on.
    pub node: NodeId,
    /// That node's address.
    pub address: String,
    /// Its id, never reused.
    pub replica: ReplicaId,
    /// Its part in the group; `None` when it did not say.
    pub role: Option<ReplicaRole>,
    /// How it is.
    pub state: ReplicaState,
    /// The last Raft index that its own disk has fsynced.
    pub durable_index: u64,
    /// The last Raft index that it has applied.
    pub applied_index: u64,
    /// How many Raft entries it lacks of the leader's last one.
    pub lag: u64,
    /// The end of its own committed copy.
    pub end: Offset,
    /// Since when it has been damaged, if it is.
    pub damaged_since: Option<Timestamp>,
    /// Entries that it has fetched from the others in place of damaged ones,
    /// since its node started.
    pub refetched_entries: u64,
}

/// A replica's part in its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicaRole {
    /// Takes appends.
    Leader,
    /// Votes and follows.
    Follower,
    /// Follows, and has no vote (yet).
    Learner,
}

/// How a replica is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicaState {
    /// Answered and takes part.
    Running,
    /// Its node did not answer.
    Unreachable,
    /// Stopped by damage or a storage error on its node.
    Failed,
    /// Wanted by the catalog, not yet started on its node.
    Starting,
    /// Entries of it rotted: it is fetching them from the others, or about to be
    /// replaced.
    Damaged,
    /// Something that this client does not know yet.
    Unknown,
}
