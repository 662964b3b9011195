//! Errors on the wire.

use tonic::Status;

use crate::batch::BatchError;
use crate::{LogNameError, v1};

impl From<v1::Error> for Status {
    fn from(error: v1::Error) -> Self {
        let _ = error;
        todo!()
    }
}

impl From<BatchError> for v1::Error {
    fn from(error: BatchError) -> Self {
        let _ = error;
        todo!()
    }
}

impl From<LogNameError> for v1::Error {
    fn from(error: LogNameError) -> Self {
        let _ = error;
        todo!()
    }
}

impl v1::Error {
    /// The error that `status` carries, if it carries one.
    pub fn from_status(status: &Status) -> Option<Self> {
        let _ = status;
        todo!()
    }

    /// Another node has to be asked: `leader`, or one of `replicas`.
    pub fn not_leader(leader: Option<v1::Peer>, replicas: Vec<v1::Peer>) -> Self {
        let _ = (leader, replicas);
        todo!()
    }

    /// There is no log of that name.
    pub fn unknown_log(name: &str) -> Self {
        let _ = name;
        todo!()
    }

    /// A log of that name exists with another configuration.
    pub fn log_exists(name: &str, config: v1::LogConfig) -> Self {
        let _ = (name, config);
        todo!()
    }

    /// A field is not acceptable.
    pub fn invalid_argument(field: &str, reason: impl ToString) -> Self {
        let _ = (field, reason.to_string());
        todo!()
    }

    /// Over the bound `bound`.
    pub fn too_large(bound: &str, limit: u64, actual: u64) -> Self {
        let _ = (bound, limit, actual);
        todo!()
    }

    /// The queue bounded by `bound` is full.
    pub fn overloaded(bound: &str, limit: u64) -> Self {
        let _ = (bound, limit);
        todo!()
    }

    /// `offset` lies outside of `range`.
    pub fn out_of_range(offset: crate::Offset, range: crate::OffsetRange) -> Self {
        let _ = (offset, range);
        todo!()
    }

    /// More replicas than nodes.
    pub fn too_few_nodes(replicas: u32, nodes: u32) -> Self {
        let _ = (replicas, nodes);
        todo!()
    }

    /// The log does not know the producer.
    pub fn unknown_producer(id: crate::ProducerId) -> Self {
        let _ = id;
        todo!()
    }

    /// The producer id is in use under a newer epoch.
    pub fn producer_fenced(id: crate::ProducerId, current: crate::ProducerEpoch) -> Self {
        let _ = (id, current);
        todo!()
    }

    /// The batch does not follow the producer's last one.
    pub fn out_of_sequence(id: crate::ProducerId, expected: crate::Sequence, actual: crate::Sequence) -> Self {
        let _ = (id, expected, actual);
        todo!()
    }

    /// The append may or may not have landed; `why` says what happened to it.
    pub fn outcome_unknown(why: impl ToString) -> Self {
        let _ = why.to_string();
        todo!()
    }

    /// No answer is possible now; `why` says what is missing.
    pub fn unavailable(why: impl ToString) -> Self {
        let _ = why.to_string();
        todo!()
    }

    /// The copy on `node` is damaged.
    pub fn damaged(node: crate::NodeId, why: impl ToString) -> Self {
        let _ = (node, why.to_string());
        todo!()
    }

    /// `node` has no replica of the log.
    pub fn no_such_replica(node: crate::NodeId, replicas: Vec<v1::Peer>) -> Self {
        let _ = (node, replicas);
        todo!()
    }
}
