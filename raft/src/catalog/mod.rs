//! The cluster's own group: nodes, logs, replica ids, producer ids, and which
//! replicas every log should have.
//!
//! ```text
//!   Found ──▶ nodes ◀── RegisterNode      a new disk: new replica ids
//!               │                          everywhere, the old disk retired
//!               ▼
//!   CreateLog ──▶ logs: founders, wanted   AllocateProducers ──▶ ids
//!   AlterLog ───▶  │  configuration
//!   DeleteLog ──▶  └ gone; its id stays taken
//!   CreateRegistrars ──▶ groups that keep reader groups, with the logs
//! ```
//!
//! It says what should be. What is, each group knows of itself; the reconciler
//! walks from one to the other. A change that nodes have to act upon raises
//! the catalog's version.
//!
//! Apply is pure. Every command may be repeated: one whose answer got lost is
//! simply sent again.

mod apply;
mod commands;
mod placement;
mod state;

pub(crate) use apply::founding_nodes;
pub use commands::{
    allocate_producers, alter_log, create_log, create_registrars, delete_log, encode, found, register, replace_replica,
};
pub(crate) use state::logs_matching;
pub use state::{Catalog, CatalogLog, CatalogNode, Keeps, Place};

use crate::machine::Floor;

/// Replica ids below this one are the founders' replicas of the catalog, which
/// have their nodes' numbers. A node's number is below it, too.
pub const FIRST_ALLOTTED_REPLICA: u64 = 1 << 20;

/// The most logs that a cluster has.
pub const MAX_LOGS: u64 = 100_000;

/// The most nodes that a cluster has.
pub const MAX_NODES: u64 = 1_000;

/// The most voters that the catalog has.
pub const MAX_CATALOG_VOTERS: usize = 5;

/// A log's `max_batch_bytes` lies between these, in bytes.
pub const MIN_BATCH_BYTES: u32 = 1 << 10;
/// See [`MIN_BATCH_BYTES`].
pub const MAX_BATCH_BYTES: u32 = 64 << 20;

/// How many replicas a log gets when it is created without saying so, as far
/// as there are nodes.
pub const DEFAULT_REPLICAS: u32 = 3;

/// The most producer ids that one command allots.
pub const MAX_PRODUCER_BLOCK: u32 = 1_000;

/// The catalog keeps nothing but its state, so its log may be dropped behind it.
pub(crate) const FLOOR: Floor = Floor::Applied;

/// How many of `nodes` nodes vote in the catalog: up to five, but three as long
/// as there are fewer than five.
pub(crate) fn catalog_voters(nodes: usize) -> usize {
    if nodes >= MAX_CATALOG_VOTERS { MAX_CATALOG_VOTERS } else { nodes.min(3) }
}

#[cfg(test)]
mod tests;
