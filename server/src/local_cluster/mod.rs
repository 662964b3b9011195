//! A cluster of real node processes on this machine.
//!
//! Starts, kills, awaits and stops `quipu serve` processes; `quipu up` and
//! `quipu demo` are written over it. Holds no policy: whether a node that
//! ended is started again is its caller's choice.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use quipu_protocol::NodeId;
use quipu_protocol::environment::Environment;

/// What the cluster is made of.
#[derive(Clone, Debug)]
pub struct LocalClusterConfig {
    /// The `quipu` binary; `std::env::current_exe()` inside the binary itself.
    pub program: PathBuf,
    /// How many nodes, numbered from 1.
    pub nodes: u16,
    /// Node i keeps its data in `node-i` and its log in `node-i.log` of this.
    pub data_directory: PathBuf,
    /// Node i listens on 127.0.0.1, this port + i − 1.
    pub base_port: u16,
    /// More arguments for every `quipu serve`, such as `--set KEY=VALUE`.
    pub arguments: Vec<String>,
}

/// The node processes of a local cluster. Dropping it kills those that run.
pub struct LocalCluster {}

/// Why a local cluster could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum LocalClusterError {
    /// The shape makes no sense.
    #[error("{reason}")]
    Config {
        /// Which bound or relation is broken.
        reason: String,
    },
    /// The operating system refused.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The node ended before it served.
    #[error("node {node} ended before it served ({status}); the end of {}:\n{log_tail}", log.display())]
    Ended {
        /// Which node.
        node: NodeId,
        /// How it ended.
        status: ExitStatus,
        /// Its log file.
        log: PathBuf,
        /// The last lines of it.
        log_tail: String,
    },
    /// The node runs but does not serve yet.
    #[error("node {node} does not serve after {waited:?}; see {}", log.display())]
    NotServing {
        /// Which node.
        node: NodeId,
        /// How long it was waited for.
        waited: Duration,
        /// Its log file.
        log: PathBuf,
    },
}

impl LocalCluster {
    /// Prepares the directory; starts nothing.
    pub fn new(_config: LocalClusterConfig, _environment: Environment) -> Result<Self, LocalClusterError> {
        todo!()
    }

    /// The nodes' numbers.
    pub fn nodes(&self) -> Vec<NodeId> {
        todo!()
    }

    /// Where a node serves, `127.0.0.1:port`.
    pub fn address(&self, _node: NodeId) -> String {
        todo!()
    }

    /// Every node's address: a client's bootstrap list.
    pub fn addresses(&self) -> Vec<String> {
        todo!()
    }

    /// A node's data directory.
    pub fn data_directory(&self, _node: NodeId) -> PathBuf {
        todo!()
    }

    /// A node's process id, while it runs.
    pub fn pid(&self, _node: NodeId) -> Option<u32> {
        todo!()
    }

    /// Starts a node's process and returns its process id at once.
    pub fn start(&mut self, _node: NodeId) -> Result<u32, LocalClusterError> {
        todo!()
    }

    /// Waits until a node's health is SERVING, at most for `limit`.
    pub async fn wait_until_serving(&mut self, _node: NodeId, _limit: Duration) -> Result<(), LocalClusterError> {
        todo!()
    }

    /// Ends a node with SIGKILL, as a crash of its process does, and reaps it.
    pub async fn kill(&mut self, _node: NodeId) -> Result<(), LocalClusterError> {
        todo!()
    }

    /// Waits until some node's process has ended by itself.
    pub async fn ended(&mut self) -> (NodeId, ExitStatus) {
        todo!()
    }

    /// Asks every node to end (SIGTERM), waits for `grace`, kills those left.
    pub async fn stop(&mut self, _grace: Duration) -> Result<(), LocalClusterError> {
        todo!()
    }
}
