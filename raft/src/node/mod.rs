//! A node: its journal, its replicas, its peers, and its part in the cluster.
//!
//! ```text
//!   start ─▶ identity ─▶ journal ─▶ bootstrap ─▶ catalog's replica ─▶ ready
//!               │                    (new only)        │
//!               └ peers service                        └▶ reconcile ─▶ logs'
//!                 answers from here on                                 replicas
//! ```
//!
//! [`RaftNode::start`] returns before the node has a cluster: its peers have to
//! reach its service for that. [`RaftNode::ready`] tells when it takes part.
//!
//! The server uses this and nothing below it.

mod config;
mod errors;

use std::sync::Arc;

use quipu_protocol::environment::Environment;
use quipu_protocol::peer::peers_server::PeersServer;
use quipu_protocol::{LogName, NodeId, ProducerId, Timestamp, v1};
use quipu_storage::{Disk, Kv};

use crate::log::LogReplica;
use crate::peers::PeersService;

pub use config::{ConfigError, NodeConfig};
pub use errors::{AllocateProducerError, CatalogError, CreateLogError, Fatal, LogLookupError, NodeStartError};

/// A running node. Clones are handles to the same one.
#[derive(Clone)]
pub struct RaftNode {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    peers: Arc<crate::peers::Peers>,
}

impl Inner {
    pub(crate) fn peers(&self) -> &Arc<crate::peers::Peers> {
        &self.peers
    }
    pub(crate) fn heard_hello(&self, _from: &quipu_protocol::peer::Introduction) {}
    pub(crate) async fn take_in(
        &self,
        _from: quipu_protocol::peer::Introduction,
    ) -> Result<quipu_protocol::peer::Joined, quipu_protocol::peer::Refusal> {
        todo!()
    }
    pub(crate) async fn propose_for_peer(
        &self,
        _command: bytes::Bytes,
    ) -> quipu_protocol::peer::propose_reply::Outcome {
        todo!()
    }
    pub(crate) fn report(&self, _groups: &[u64]) -> quipu_protocol::peer::NodeReport {
        todo!()
    }
}

/// A log that exists now.
#[derive(Clone, Debug, PartialEq)]
pub struct CreatedLog {
    /// The log, nothing left to a default.
    pub log: v1::LogSummary,
    /// False when it existed already with an equal configuration.
    pub created: bool,
}

/// A producer id that nobody has had before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllocatedProducer {
    /// The id.
    pub id: ProducerId,
    /// When it was allotted.
    pub allotted_at: Timestamp,
}

impl RaftNode {
    /// Starts a node on `disk`, whose lock the caller holds. Returns as soon as
    /// [`peers_service`](Self::peers_service) can be served; the rest goes on
    /// by itself.
    pub async fn start(
        config: NodeConfig,
        environment: Environment,
        disk: Arc<dyn Disk>,
        kv: Arc<dyn Kv>,
    ) -> Result<Self, NodeStartError> {
        let _ = (config, environment, disk, kv);
        todo!()
    }

    /// The service that the node's peers call; to be served on its address.
    pub fn peers_service(&self) -> PeersServer<PeersService> {
        todo!()
    }

    /// Waits until the node takes part in its cluster: its replica of the
    /// catalog knows the cluster, and the replicas that it had are started.
    pub async fn ready(&self) -> Result<(), Fatal> {
        todo!()
    }

    /// Waits until the node cannot go on.
    pub async fn failed(&self) -> Fatal {
        todo!()
    }

    /// This node's replica of the log of that name. Asks the catalog's leader
    /// when the name is new here, and waits a moment for a replica that is
    /// being started.
    pub async fn log(&self, name: &LogName) -> Result<LogReplica, LogLookupError> {
        let _ = name;
        todo!()
    }

    /// The nodes that have a replica of the log, as far as this node knows.
    pub fn replicas_of(&self, name: &LogName) -> Vec<v1::Peer> {
        let _ = name;
        todo!()
    }

    /// Where `node` is reached.
    pub fn peer(&self, node: NodeId) -> Option<v1::Peer> {
        let _ = node;
        todo!()
    }

    /// Creates a log. A field of `config` that is 0 takes its default.
    pub async fn create_log(&self, name: &LogName, config: v1::LogConfig) -> Result<CreatedLog, CreateLogError> {
        let _ = (name, config);
        todo!()
    }

    /// At most `limit` logs whose names come after `after`, by name, as far as
    /// the catalog's leader knows; and whether there are more.
    pub async fn list_logs(&self, after: &str, limit: usize) -> Result<v1::ListLogsResponse, CatalogError> {
        let _ = (after, limit);
        todo!()
    }

    /// A log, with what each of its replicas says of itself.
    pub async fn describe_log(&self, name: &LogName) -> Result<v1::DescribeLogResponse, LogLookupError> {
        let _ = name;
        todo!()
    }

    /// The cluster as this node sees it, with what each node says of itself.
    pub async fn status(&self) -> v1::StatusResponse {
        todo!()
    }

    /// A new producer id.
    pub async fn allocate_producer(&self) -> Result<AllocatedProducer, AllocateProducerError> {
        todo!()
    }

    /// Hands the leadership of every group it leads to another replica that is
    /// up to date, as far as there is one; done before a shutdown.
    pub async fn hand_over(&self) {
        todo!()
    }

    /// Stops every replica and closes the journal.
    pub async fn shutdown(&self) {
        todo!()
    }
}
