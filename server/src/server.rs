//! The assembly of a node, and its life from start to shutdown.

use std::net::SocketAddr;
use std::sync::Arc;

use quipu_protocol::environment::Environment;
use quipu_storage::{Disk, Kv, KvError};

use crate::config::ServerConfig;

/// Opens the node's metadata store. Called once, after the data directory was
/// found to belong to this node.
pub type KvFactory = Arc<dyn Fn() -> Result<Arc<dyn Kv>, KvError> + Send + Sync>;

/// Everything a node takes from outside: `quipu serve` passes the operating
/// system's, the simulator its own.
#[derive(Clone)]
pub struct NodeEnvironment {
    /// Time, chance, tasks and network.
    pub environment: Environment,
    /// The data directory.
    pub disk: Arc<dyn Disk>,
    /// Opens the metadata store inside the data directory.
    pub kv: KvFactory,
}

/// A running node.
pub struct Server {}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The listen address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// What was configured.
        address: String,
        /// What the network said.
        source: std::io::Error,
    },
}

/// Why a node that had started cannot go on.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{reason}")]
pub struct Failure {
    /// What happened and what to do, for the operator.
    pub reason: String,
}

impl Server {
    /// Assembles and starts a node. Returns once it listens; [`Server::ready`]
    /// resolves once it takes part.
    pub async fn start(_config: ServerConfig, _environment: NodeEnvironment) -> Result<Self, StartError> {
        todo!()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        todo!()
    }

    /// Resolves once the node takes part in its cluster (health is SERVING).
    pub async fn ready(&self) {
        todo!()
    }

    /// Resolves when the node cannot go on: a failed fsync, say. The caller
    /// ends the process.
    pub async fn failed(&self) -> Failure {
        todo!()
    }

    /// Hands leadership over, stops accepting, lets requests finish until the
    /// configured grace has passed, and closes the storage.
    pub async fn shutdown(&self) {
        todo!()
    }
}
