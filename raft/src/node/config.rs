//! What a node is started with.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use quipu_protocol::{NodeId, v1};
use quipu_storage::journal::JournalConfig;

use crate::catalog::FIRST_ALLOTTED_REPLICA;
use crate::group::{GroupOptions, OptionsError};
use crate::log::LogOptions;

/// What a node is started with.
#[derive(Clone)]
pub struct NodeConfig {
    /// Its number.
    pub node: NodeId,
    /// Where its peers and clients reach it, `host:port`.
    pub address: String,
    /// The other nodes it is to found a cluster with, or to join one through.
    /// May name the node itself. Without any, a new node founds a cluster of
    /// one.
    pub peers: BTreeMap<NodeId, String>,
    /// How its groups are timed and bounded.
    pub group: GroupOptions,
    /// How its logs are bounded.
    pub log: LogOptions,
    /// How its journal is laid out.
    pub journal: JournalConfig,
    /// How many bytes of what is sealed are read a second to find rot; 0 for
    /// none.
    pub scrub_bytes_per_second: u64,
    /// All of it is read no more often than that.
    pub scrub_interval: Duration,
    /// While this node's clock may be further than this from the median of its
    /// peers', it trims nothing by age and stamps what it leads with their time.
    pub max_clock_skew: Duration,
    /// The `max_batch_bytes` of a log that is created without one, bytes.
    pub default_batch_bytes: u32,
    /// How long a change of the catalog may take before the caller is told that
    /// it is unavailable.
    pub catalog_deadline: Duration,
    /// The software's version, for [`status`](super::RaftNode::status).
    pub version: String,
    /// The CPU time that this process has used so far, microseconds.
    pub cpu_micros: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// What the services above the node have done so far.
    pub services: Arc<dyn Fn() -> v1::ServiceCounters + Send + Sync>,
}

impl NodeConfig {
    /// The configuration of `node` at `address`, everything else by default.
    pub fn new(node: NodeId, address: impl Into<String>) -> Self {
        Self {
            node,
            address: address.into(),
            peers: BTreeMap::new(),
            group: GroupOptions::default(),
            log: LogOptions::default(),
            journal: JournalConfig::default(),
            scrub_bytes_per_second: 8 << 20,
            scrub_interval: Duration::from_secs(24 * 3600),
            max_clock_skew: Duration::from_secs(10),
            default_batch_bytes: 1 << 20,
            catalog_deadline: Duration::from_secs(10),
            version: String::new(),
            cpu_micros: Arc::new(|| 0),
            services: Arc::new(v1::ServiceCounters::default),
        }
    }

    /// Every node it is to found a cluster with, itself included.
    pub(crate) fn members(&self) -> BTreeMap<NodeId, String> {
        let mut members = self.peers.clone();
        members.insert(self.node, self.address.clone());
        members
    }

    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        for node in self.members().into_keys() {
            if node.get() == 0 || node.get() >= FIRST_ALLOTTED_REPLICA {
                return Err(ConfigError::NodeNumber { node });
            }
        }
        if self.peers.get(&self.node).is_some_and(|listed| *listed != self.address) {
            return Err(ConfigError::OtherAddress { node: self.node });
        }
        Ok(self.group.config().map(drop)?)
    }
}

/// A configuration that no node can be started with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A node's number is out of bounds.
    #[error("a node is numbered from 1 to {}; {node} is not", FIRST_ALLOTTED_REPLICA - 1)]
    NodeNumber {
        /// The number.
        node: NodeId,
    },
    /// The peers list this very node under another address.
    #[error("the peers give node {node} another address than its own")]
    OtherAddress {
        /// The node.
        node: NodeId,
    },
    /// The timings contradict one another.
    #[error(transparent)]
    Group(#[from] OptionsError),
}

impl fmt::Debug for NodeConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeConfig")
            .field("node", &self.node)
            .field("address", &self.address)
            .field("peers", &self.peers)
            .finish_non_exhaustive()
    }
}
