//! What a cluster says of its logs.

use std::fmt;

use quipu_protocol::batch::Codecs;
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
    /// The codecs that batches may have. The default takes any. A producer sends
    /// a batch that does not get smaller uncompressed, so that
    /// [`Compression::None`](crate::Compression::None) belongs beside a codec.
    pub codecs: Codecs,
    /// How far a record's timestamp may lie before the leader's clock, in
    /// milliseconds. `None` takes any.
    pub max_timestamp_before_ms: Option<u64>,
    /// How far it may lie after it.
    pub max_timestamp_after_ms: Option<u64>,
    /// How many bytes of batches, from its offset to the log's end, a
    /// [lease](crate::Client::hold_lease) may keep from retention beyond
    /// `retention_bytes`. Over that it is let go of. `None` is no bound.
    pub max_lease_bytes: Option<u64>,
    /// The longest that a lease is granted or renewed for, in milliseconds. `None`
    /// is no bound.
    pub max_lease_ms: Option<u64>,
    /// Who may append. Stays as the log was created.
    pub writers: Writers,
    /// How long after its last commit a cursor is kept, in milliseconds by the log's
    /// time; 0 keeps it for ever, `None` on create takes 7 days.
    pub cursor_expiry_ms: Option<u64>,
}

/// Who may append to a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Writers {
    /// Anybody; whoever claims a writer epoch is held to it.
    #[default]
    Shared,
    /// Only who claims the writer epoch that the log has now.
    Exclusive,
}

/// A change of a log's configuration: what is `None` stays as it is. Where a
/// setting may be absent, `Some(None)` takes it away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogAlteration {
    /// See [`LogConfig::max_batch_bytes`]. What is in the log already stays.
    pub max_batch_bytes: Option<u32>,
    /// See [`LogConfig::retention_bytes`].
    pub retention_bytes: Option<Option<u64>>,
    /// See [`LogConfig::retention_ms`].
    pub retention_ms: Option<Option<u64>>,
    /// See [`LogConfig::codecs`].
    pub codecs: Option<Codecs>,
    /// See [`LogConfig::max_timestamp_before_ms`].
    pub max_timestamp_before_ms: Option<Option<u64>>,
    /// See [`LogConfig::max_timestamp_after_ms`].
    pub max_timestamp_after_ms: Option<Option<u64>>,
    /// See [`LogConfig::cursor_expiry_ms`].
    pub cursor_expiry_ms: Option<u64>,
    /// See [`LogConfig::max_lease_bytes`].
    pub max_lease_bytes: Option<Option<u64>>,
    /// See [`LogConfig::max_lease_ms`].
    pub max_lease_ms: Option<Option<u64>>,
}

/// The answer to an alteration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlteredLog {
    /// The log as it is now.
    pub log: LogSummary,
    /// False when it was so already.
    pub changed: bool,
}

impl fmt::Display for LogConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_default = |value: Option<u32>| value.map_or_else(|| "default".to_owned(), |value| value.to_string());
        let (replicas, bytes) = (or_default(self.replicas), or_default(self.max_batch_bytes));
        write!(f, "replicas {replicas}, max_batch_bytes {bytes}")?;
        if !self.codecs.is_any() {
            write!(f, ", codecs {}", self.codecs)?;
        }
        let bounds = [
            ("retention_bytes", self.retention_bytes),
            ("retention_ms", self.retention_ms),
            ("max_timestamp_before_ms", self.max_timestamp_before_ms),
            ("max_timestamp_after_ms", self.max_timestamp_after_ms),
            ("cursor_expiry_ms", self.cursor_expiry_ms),
            ("max_lease_bytes", self.max_lease_bytes),
            ("max_lease_ms", self.max_lease_ms),
        ];
        for (name, bound) in bounds {
            if let Some(bound) = bound {
                write!(f, ", {name} {bound}")?;
            }
        }
        if self.writers == Writers::Exclusive {
            write!(f, ", writers exclusive")?;
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

/// The first record at or after a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetAt {
    /// Its offset; the log's end when there is none yet.
    pub offset: Offset,
    /// Its timestamp; `None` when there is none yet.
    pub timestamp: Option<Timestamp>,
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
    /// Bytes of the batches that can be read, as they are stored, once and not
    /// once for each replica. What is trimmed inside of a batch counts.
    pub bytes: u64,
    /// How many Raft entries there are from the first readable record's on.
    pub entries: u64,
    /// Whether it is to be trimmed by age and is not, since its leader's clock is
    /// too far from that node's peers': see
    /// [`NodeStatus::age_retention_held`](crate::NodeStatus::age_retention_held).
    pub age_retention_held: bool,
    /// How many cursors it has.
    pub cursors: u64,
    /// Bytes that they take in its state, on each replica.
    pub cursor_bytes: u64,
    /// Bytes that commits and other commands to them took in all entries so far.
    pub cursor_entry_bytes: u64,
    /// How many leases it has.
    pub leases: u64,
    /// Bytes that grants, renewals and releases of them took in all entries so far.
    pub lease_entry_bytes: u64,
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
