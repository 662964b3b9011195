//! On which nodes a new log goes.
//!
//! Decided from the catalog alone, so that every replica decides alike; who
//! answered the proposer just now is part of the command.

use std::collections::{BTreeMap, BTreeSet};

use quipu_protocol::NodeId;

use super::Catalog;

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
        let loads = self.loads();
        let load = |node: &NodeId| loads.get(node).copied().unwrap_or_default();
        let silent = |node: &NodeId| !reachable.contains(node);

        let mut nodes: Vec<NodeId> = self.nodes.keys().copied().collect();
        nodes.sort_by_key(|node| (silent(node), load(node).replicas, *node));
        nodes.truncate(replicas);
        nodes.sort_by_key(|node| (silent(node), load(node).leads, *node));
        nodes
    }

    fn loads(&self) -> BTreeMap<NodeId, Load> {
        let mut loads: BTreeMap<NodeId, Load> = BTreeMap::new();
        for log in self.logs.values() {
            for place in &log.wanted {
                loads.entry(place.node).or_default().replicas += 1;
            }
            if let Some(first) = log.founders.first() {
                loads.entry(first.node).or_default().leads += 1;
            }
        }
        loads
    }
}
