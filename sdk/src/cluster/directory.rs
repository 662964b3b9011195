//! What is known of the cluster: where its nodes are and who leads which log.
//!
//! All of it is hearsay that may be outdated; being wrong costs an attempt,
//! never a wrong answer, since the node that is asked decides.

use std::collections::BTreeMap;

use quipu_protocol::{LogName, NodeId, ReaderGroupName, v1};

/// The most logs and reader groups whose leader is remembered.
const MAX_LEADERS: usize = 10_000;
/// The most nodes that are remembered.
const MAX_NODES: usize = 1_024;

/// Whom an operation needs.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    /// Any node; one that cannot answer names others.
    Any,
    /// The leader of this log.
    Leader(LogName),
    /// The leader of what keeps this reader group.
    Keeper(ReaderGroupName),
    /// This node.
    Node(NodeId),
}

/// What has a leader.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Led {
    Log(LogName),
    ReaderGroup(ReaderGroupName),
}

impl Target {
    /// Whose leader is needed, if any is.
    fn led(&self) -> Option<Led> {
        match self {
            Self::Leader(log) => Some(Led::Log(log.clone())),
            Self::Keeper(group) => Some(Led::ReaderGroup(group.clone())),
            Self::Any | Self::Node(_) => None,
        }
    }

    /// Whether no other node may stand in.
    pub(super) const fn is_chosen(&self) -> bool {
        matches!(self, Self::Node(_))
    }
}

pub(super) struct Directory {
    bootstrap: Vec<String>,
    nodes: BTreeMap<NodeId, String>,
    leaders: BTreeMap<Led, String>,
}

impl Directory {
    pub(super) fn new(bootstrap: Vec<String>) -> Self {
        Self { bootstrap, nodes: BTreeMap::new(), leaders: BTreeMap::new() }
    }

    /// The addresses to ask, best first. Where nothing speaks for one rather
    /// than another, `turn` says where to begin.
    pub(super) fn candidates(&self, target: &Target, turn: u64) -> Vec<String> {
        if let Target::Node(node) = target {
            return self.nodes.get(node).cloned().into_iter().collect();
        }
        let mut known: Vec<&String> = self.nodes.values().collect();
        let not_yet_named: Vec<&String> = self.bootstrap.iter().filter(|address| !known.contains(address)).collect();
        known.extend(not_yet_named);
        let count = known.len().max(1) as u64;
        known.rotate_left(usize::try_from(turn % count).unwrap_or(0));
        let leader = target.led().and_then(|led| self.leaders.get(&led));
        leader.into_iter().chain(known.into_iter().filter(|address| Some(*address) != leader)).cloned().collect()
    }

    pub(super) fn learn(&mut self, status: &v1::StatusResponse) {
        if status.nodes.is_empty() {
            return;
        }
        let nodes = status.nodes.iter().take(MAX_NODES).filter(|node| !node.address.is_empty());
        self.nodes = nodes.map(|node| (NodeId::new(node.id), node.address.clone())).collect();
    }

    pub(super) fn knows_nodes(&self) -> bool {
        !self.nodes.is_empty()
    }

    pub(super) fn address_of(&self, node: NodeId) -> Option<String> {
        self.nodes.get(&node).cloned()
    }

    /// `address` leads what `target` needs the leader of, if it does.
    pub(super) fn set_leader(&mut self, target: &Target, address: &str) {
        let Some(led) = target.led() else { return };
        if self.leaders.get(&led).is_some_and(|known| known == address) {
            return;
        }
        if self.leaders.len() >= MAX_LEADERS {
            self.leaders.pop_first();
        }
        self.leaders.insert(led, address.to_owned());
    }

    /// `address` turned out not to lead it.
    pub(super) fn forget_leader(&mut self, target: &Target, address: &str) {
        let Some(led) = target.led() else { return };
        if self.leaders.get(&led).is_some_and(|known| known == address) {
            self.leaders.remove(&led);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Directory, LogName, NodeId, Target, v1};

    fn directory() -> (Directory, LogName) {
        let mut directory = Directory::new(vec!["b:1".into(), "n:2".into()]);
        let node = |id, address: &str| v1::NodeStatus { id, address: address.into(), ..Default::default() };
        let nodes = vec![node(1, "n:1"), node(2, "n:2"), node(3, "n:3")];
        directory.learn(&v1::StatusResponse { nodes, ..Default::default() });
        (directory, "orders".parse().expect("a name"))
    }

    #[test]
    fn the_leader_comes_first_and_every_address_once() {
        let (mut directory, log) = directory();
        assert_eq!(directory.candidates(&Target::Any, 0), ["n:1", "n:2", "n:3", "b:1"]);
        assert_eq!(directory.candidates(&Target::Any, 6), ["n:3", "b:1", "n:1", "n:2"]);
        directory.set_leader(&Target::Leader(log.clone()), "n:3");
        assert_eq!(directory.candidates(&Target::Leader(log.clone()), 0), ["n:3", "n:1", "n:2", "b:1"]);
        directory.forget_leader(&Target::Leader(log.clone()), "n:1");
        assert_eq!(directory.candidates(&Target::Leader(log.clone()), 0)[0], "n:3", "another one was meant");
        directory.forget_leader(&Target::Leader(log.clone()), "n:3");
        assert_eq!(directory.candidates(&Target::Leader(log), 0)[0], "n:1");
    }

    #[test]
    fn a_chosen_node_is_the_only_candidate() {
        let (directory, _) = directory();
        assert_eq!(directory.candidates(&Target::Node(NodeId::new(2)), 1), ["n:2"]);
        assert!(directory.candidates(&Target::Node(NodeId::new(9)), 1).is_empty());
    }
}
