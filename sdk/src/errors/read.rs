//! Errors of reading.

use std::time::Duration;

use quipu_protocol::batch::BatchError;
use quipu_protocol::{LogName, NodeId, Offset};

use super::RequestError;

/// Why a reader stopped.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    /// There is no log of that name.
    #[error("there is no log {log}")]
    UnknownLog {
        /// The name.
        log: LogName,
    },
    /// The records up to `start` are gone.
    #[error("offset {offset} is below the log's start, {start}")]
    BelowStart {
        /// What was asked for.
        offset: Offset,
        /// The first offset that can be read.
        start: Offset,
    },
    /// The log does not reach that far.
    #[error("offset {offset} is above the log's end, {end}")]
    AboveEnd {
        /// What was asked for.
        offset: Offset,
        /// The offset that the next record will get.
        end: Offset,
    },
    /// The cluster has no node of that number.
    #[error("the cluster has no node {node}")]
    UnknownNode {
        /// The number.
        node: NodeId,
    },
    /// The chosen node holds no copy of the log.
    #[error("node {node} has no replica of the log; nodes {replicas:?} have")]
    NoSuchReplica {
        /// The node.
        node: NodeId,
        /// The nodes that do.
        replicas: Vec<NodeId>,
    },
    /// The copy that was asked is damaged.
    #[error("the copy on node {node} is damaged: {message}")]
    Damaged {
        /// The node.
        node: NodeId,
        /// What it said.
        message: String,
    },
    /// The chosen replica's answer may be older than what is taken.
    #[error(
        "what node {node} has may be {}, and {max_age:?} is taken: it ends at {end}, and its leader has told of {leader_end}",
        .age.map_or("of any age".to_owned(), |age| format!("{age:?} old"))
    )]
    TooStale {
        /// The node.
        node: NodeId,
        /// The oldest that is taken.
        max_age: Duration,
        /// How old it may be; `None` when the replica cannot tell.
        age: Option<Duration>,
        /// Where the replica's copy ends.
        end: Offset,
        /// The furthest end that the leader has told it.
        leader_end: Offset,
    },
    /// The chosen replica has not applied what has to be there, within the time that
    /// it was given.
    #[error("node {node} has applied up to {end}, and not yet up to {at_least}")]
    NotYetApplied {
        /// The node.
        node: NodeId,
        /// What has to be applied.
        at_least: Offset,
        /// Where its copy ends.
        end: Offset,
    },
    /// What arrived for this offset is no sound batch.
    #[error("what {address} sent for offset {offset} is damaged")]
    Corrupt {
        /// The node's address.
        address: String,
        /// Where the reader stands.
        offset: Offset,
        /// What is wrong with it.
        #[source]
        source: BatchError,
    },
    /// Records are missing from what arrived, or come again.
    #[error("{address} sent offset {found} where {expected} is next")]
    NotContiguous {
        /// The node's address.
        address: String,
        /// The offset that is next.
        expected: Offset,
        /// The offset that arrived.
        found: Offset,
    },
    /// The request failed.
    #[error(transparent)]
    Request(#[from] RequestError),
}

impl ReadError {
    /// Whether calling `next` again may succeed: the reader goes on where it
    /// stands.
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Request(error) => error.is_retryable(),
            Self::TooStale { .. } | Self::NotYetApplied { .. } => true,
            _ => false,
        }
    }

    /// Always true: reading changes nothing.
    pub const fn has_no_side_effects(&self) -> bool {
        true
    }
}
