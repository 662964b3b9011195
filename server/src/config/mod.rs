//! A node's configuration.

use std::collections::BTreeMap;

use quipu_protocol::NodeId;

/// A node's configuration, known to be valid.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    node: NodeId,
    listen: String,
    peers: BTreeMap<NodeId, String>,
}

impl ServerConfig {
    /// The node's number.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Where it listens.
    pub fn listen(&self) -> &str {
        &self.listen
    }

    /// Every node of the cluster, this one too, and where it is reached.
    pub fn peers(&self) -> &BTreeMap<NodeId, String> {
        &self.peers
    }
}
