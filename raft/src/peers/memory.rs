//! Which starts of which disks have been heard of.
//!
//! A disk restored from an old image speaks in the name of a replica that has
//! voted and acknowledged since. So whoever remembers a later start of a disk,
//! or a later disk of a node, refuses the older one.
//!
//! Pure. What is in here is lost with the process; the catalog remembers for
//! good what it was told.

use std::collections::{BTreeMap, BTreeSet};

use quipu_protocol::peer::{Introduction, Refusal, refusal};
use quipu_protocol::{BootCount, ClusterId, Incarnation, NodeId};

use super::bounds::MAX_REMEMBERED_NODES;

/// What is remembered of the nodes.
#[derive(Default)]
pub(crate) struct Memory {
    nodes: BTreeMap<NodeId, Remembered>,
}

#[derive(Default)]
struct Remembered {
    /// The last start of each disk that this node may still use.
    starts: BTreeMap<Incarnation, Start>,
    /// Disks that the catalog says were replaced.
    retired: BTreeSet<Incarnation>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Start {
    count: BootCount,
    boot: u64,
}

/// A node has one disk at a time; one more may be on its way to be registered.
const MAX_DISKS: usize = 8;

impl Memory {
    /// Whether the node that introduces itself may take part in `cluster`.
    /// Remembers its start if so.
    pub(crate) fn admit(&mut self, from: &Introduction, cluster: ClusterId) -> Result<(), Refusal> {
        if from.node == 0 || from.incarnation == 0 {
            return Err(refusal(refusal::Reason::Malformed, "an introduction names a node and an incarnation"));
        }
        let theirs = ClusterId::new(from.cluster_id);
        if theirs != cluster {
            let message = format!("node {} is of cluster {theirs}, this is {cluster}", from.node);
            return Err(refusal(refusal::Reason::OtherCluster, message));
        }
        self.remember(from)
    }

    /// Whether this start is the newest one of its disk, which is then
    /// remembered.
    pub(crate) fn remember(&mut self, from: &Introduction) -> Result<(), Refusal> {
        let node = NodeId::new(from.node);
        if !self.nodes.contains_key(&node) && self.nodes.len() >= MAX_REMEMBERED_NODES {
            return Err(refusal(refusal::Reason::NotNow, format!("max_remembered_nodes is {MAX_REMEMBERED_NODES}")));
        }
        let remembered = self.nodes.entry(node).or_default();
        let incarnation = Incarnation::new(from.incarnation);
        if remembered.retired.contains(&incarnation) {
            return Err(refusal(refusal::Reason::OlderDisk, format!("node {node} has another disk now")));
        }
        let start = Start { count: BootCount::new(from.boot_count), boot: from.boot };
        match remembered.starts.get_mut(&incarnation) {
            Some(known) if known.count > start.count || (known.count == start.count && known.boot != start.boot) => {
                let message = format!(
                    "node {node}'s disk was started {} times, and this is start {}: an old copy",
                    known.count, start.count
                );
                return Err(refusal(refusal::Reason::OlderDisk, message));
            }
            Some(known) => *known = start,
            None => {
                if remembered.starts.len() >= MAX_DISKS {
                    remembered.starts.pop_first();
                }
                remembered.starts.insert(incarnation, start);
            }
        }
        Ok(())
    }

    /// Takes over what the catalog remembers of a node.
    pub(crate) fn learn(
        &mut self,
        node: NodeId,
        incarnation: Incarnation,
        count: BootCount,
        boot: u64,
        retired: &BTreeSet<Incarnation>,
    ) {
        let remembered = self.nodes.entry(node).or_default();
        remembered.retired.extend(retired);
        remembered.starts.retain(|disk, _| !remembered.retired.contains(disk));
        let known = remembered.starts.entry(incarnation).or_insert(Start { count, boot });
        if known.count < count {
            *known = Start { count, boot };
        }
    }
}

/// A refusal in one's own words.
pub(crate) fn refusal(reason: refusal::Reason, message: impl Into<String>) -> Refusal {
    Refusal { reason: reason.into(), message: message.into(), leader: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: ClusterId = ClusterId::new(7);

    fn introduction(incarnation: u64, boot_count: u64, boot: u64) -> Introduction {
        Introduction { node: 1, incarnation, boot_count, boot, cluster_id: CLUSTER.get(), ..Introduction::default() }
    }

    fn refused(result: Result<(), Refusal>) -> refusal::Reason {
        result.expect_err("refused").reason()
    }

    #[test]
    fn disk_restored_from_an_old_image_is_refused() {
        let mut memory = Memory::default();
        memory.admit(&introduction(10, 5, 1), CLUSTER).expect("first seen");
        memory.admit(&introduction(10, 5, 1), CLUSTER).expect("the same start again");
        memory.admit(&introduction(10, 6, 2), CLUSTER).expect("the next start");
        assert_eq!(refused(memory.admit(&introduction(10, 5, 1), CLUSTER)), refusal::Reason::OlderDisk);
        assert_eq!(refused(memory.admit(&introduction(10, 6, 3), CLUSTER)), refusal::Reason::OlderDisk);
    }

    #[test]
    fn replaced_disk_is_refused() {
        let mut memory = Memory::default();
        memory.admit(&introduction(10, 5, 1), CLUSTER).expect("first seen");
        memory.learn(NodeId::new(1), Incarnation::new(11), BootCount::new(1), 9, &[Incarnation::new(10)].into());
        assert_eq!(refused(memory.admit(&introduction(10, 6, 2), CLUSTER)), refusal::Reason::OlderDisk);
        memory.admit(&introduction(11, 1, 9), CLUSTER).expect("the new disk");
    }

    #[test]
    fn what_the_catalog_remembers_counts() {
        let mut memory = Memory::default();
        memory.learn(NodeId::new(1), Incarnation::new(10), BootCount::new(5), 1, &BTreeSet::new());
        assert_eq!(refused(memory.admit(&introduction(10, 4, 8), CLUSTER)), refusal::Reason::OlderDisk);
        memory.admit(&introduction(10, 6, 2), CLUSTER).expect("a later start");
    }

    #[test]
    fn node_of_another_cluster_is_refused() {
        let mut memory = Memory::default();
        let refusal = memory.admit(&introduction(10, 1, 1), ClusterId::new(8));
        assert_eq!(refused(refusal), refusal::Reason::OtherCluster);
    }
}
