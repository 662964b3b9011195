//! A node's configuration: drafted in layers, then validated into a type
//! whose existence proves that it is valid.
//!
//! ```text
//!   defaults ◀─ file (TOML) ◀─ environment ◀─ flags    each layer overrides the
//!        └────────────── Draft ───────────────┘       one before
//!                  │ validate: ranges, addresses, contradictions
//!                  ▼
//!             ServerConfig
//! ```
//!
//! Unknown keys are refused, with the nearest known one; contradictory values
//! are refused, with the names of both.

mod checks;
mod draft;
mod environment;
mod error;
mod example;
mod nearest;
mod origin;
mod settings;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use quipu_protocol::NodeId;

pub use draft::Draft;
pub use environment::variable_of;
pub use error::ConfigError;
pub use example::example;
pub use origin::{Entry, Origin};
pub use settings::{SETTINGS, Setting, Settings, Unit};

/// The most nodes that a cluster's configuration lists.
pub const MAX_NODES: usize = 128;

/// A node's configuration. Invariants: the node is one of the peers, no two
/// peers share an address, every setting lies in its range, and no two
/// settings contradict each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerConfig {
    node: NodeId,
    listen: String,
    http: Option<String>,
    otlp_endpoint: Option<String>,
    peers: BTreeMap<NodeId, String>,
    data_directory: Option<PathBuf>,
    settings: Settings,
}

impl ServerConfig {
    /// The node's number.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Where it listens, `host:port`.
    pub fn listen(&self) -> &str {
        &self.listen
    }

    /// Where it answers HTTP (metrics, health), `host:port`; nowhere if none.
    pub fn http(&self) -> Option<&str> {
        self.http.as_deref()
    }

    /// Where spans are sent by OTLP over gRPC, `host:port`; nowhere if none.
    pub fn otlp_endpoint(&self) -> Option<&str> {
        self.otlp_endpoint.as_deref()
    }

    /// Where other nodes and clients reach it: its own entry of the peers.
    pub fn advertised(&self) -> &str {
        &self.peers[&self.node]
    }

    /// Every node of the cluster, this one too, and where it is reached.
    pub fn peers(&self) -> &BTreeMap<NodeId, String> {
        &self.peers
    }

    /// Where the node keeps everything; none in a simulation.
    pub fn data_directory(&self) -> Option<&Path> {
        self.data_directory.as_deref()
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }
}
