//! On which nodes a new log goes.
//!
//! Decided from the catalog alone, so that every replica decides alike; who
//! answered the proposer just now is part of the command.

use std::collections::{BTreeMap, BTreeSet};

use quipu_protocol::NodeId;

use super::{Catalog, CatalogLog};

/// How much each node has to do already. Kept up with every log that comes and
/// goes, so that ten thousand of them are created as fast as ten.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Loads(BTreeMap<NodeId, Load>);

/// How much a node has to do already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Load {
    replicas: u64,
    leads: u64,
}

impl Catalog {
    /// The `replicas` nodes that are to have a new log: those that answer
    /// before those that do not, then those with the fewest replicas, then by
    /// node. The first one returned leads: of those that answer, the one that
    /// leads the fewest.
    ///
    /// The caller made sure that there are so many nodes.
    pub(super) fn place(&self, replicas: usize, reachable: &BTreeSet<NodeId>) -> Vec<NodeId> {
        assert!(replicas <= self.nodes.len(), "{replicas} replicas on {} nodes", self.nodes.len());
        let load = |node: &NodeId| self.loads.of(*node);
        let silent = |node: &NodeId| !reachable.contains(node);

        let mut nodes: Vec<NodeId> = self.nodes.keys().copied().collect();
        nodes.sort_by_key(|node| (silent(node), load(node).replicas, *node));
        nodes.truncate(replicas);
        nodes.sort_by_key(|node| (silent(node), load(node).leads, *node));
        nodes
    }
}

impl Loads {
    /// A log came.
    pub(super) fn add(&mut self, log: &CatalogLog) {
        for place in &log.wanted {
            self.add_replica(place.node);
        }
        if let Some(first) = log.founders.first() {
            self.0.entry(first.node).or_default().leads += 1;
        }
    }

    /// A replica came to `node`.
    pub(super) fn add_replica(&mut self, node: NodeId) {
        self.0.entry(node).or_default().replicas += 1;
    }

    /// A log went. Only one that had come.
    pub(super) fn remove(&mut self, log: &CatalogLog) {
        for place in &log.wanted {
            self.0.entry(place.node).or_default().replicas -= 1;
        }
        if let Some(first) = log.founders.first() {
            self.0.entry(first.node).or_default().leads -= 1;
        }
        self.0.retain(|_, load| *load != Load::default());
    }

    fn of(&self, node: NodeId) -> Load {
        self.0.get(&node).copied().unwrap_or_default()
    }
}
