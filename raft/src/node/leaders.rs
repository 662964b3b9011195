//! Who leads what, told to the operator: one line for each change of a group's
//! leader, as this node learns of it.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use openraft::async_runtime::watch::WatchReceiver;
use quipu_protocol::{LogId, NodeId};
use quipu_storage::journal::ReplicaKey;

use super::inner::{Inner, LogState};
use crate::group::Group;
use crate::machine::Machine;

impl Inner {
    /// Tells of the leaders of every log that has a replica here, for as long
    /// as the node lives.
    pub(super) async fn tell_leaders(self: Arc<Self>) {
        let mut logs = self.logs.subscribe();
        let mut watched: BTreeSet<ReplicaKey> = BTreeSet::new();
        let node = Arc::downgrade(&self);
        drop(self);
        loop {
            let here: Vec<LogState> = logs.borrow_and_update().values().map(|log| log.state.clone()).collect();
            let Some(node) = node.upgrade() else { return };
            watched = here
                .iter()
                .filter_map(|state| match state {
                    LogState::Running(replica) => Some(node.watched(replica.group(), &watched)),
                    LogState::Registrar(replica) => Some(node.watched(replica.group(), &watched)),
                    LogState::Failed { .. } => None,
                })
                .collect();
            drop((here, node));
            if logs.changed().await.is_err() {
                return;
            }
        }
    }

    /// Tells of a group's leaders, unless it is `watched` already.
    fn watched<M: Machine>(self: &Arc<Self>, group: &Group<M>, watched: &BTreeSet<ReplicaKey>) -> ReplicaKey {
        if !watched.contains(&group.key()) {
            self.tell_leaders_of(group);
        }
        group.key()
    }

    /// Tells of the leaders of one group, until its replica here stops.
    pub(super) fn tell_leaders_of<M: Machine>(self: &Arc<Self>, group: &Group<M>) {
        // The handle would keep the replica going.
        let mut metrics = group.raft().server_metrics();
        let (id, node) = (group.key().group, Arc::downgrade(self));
        self.spawn("leader-watch", async move {
            let mut told = None;
            loop {
                let found = {
                    let metrics = metrics.borrow_watched();
                    let member = |leader| metrics.membership_config.membership().get_node(leader);
                    let leader = metrics.current_leader.as_ref().and_then(member);
                    leader.map(|member| (metrics.vote.leader_id.term, member.node))
                };
                if let Some((term, leader)) = found.filter(|found| told != Some(*found)) {
                    told = found;
                    tell(&node, id, leader, term);
                }
                if metrics.changed().await.is_err() {
                    return;
                }
            }
        });
    }
}

fn tell(node: &Weak<Inner>, group: LogId, leader: NodeId, term: u64) {
    let node = node.upgrade();
    if let Some(node) = &node {
        node.leader_changes.fetch_add(1, Ordering::Relaxed);
    }
    let name = |node: Arc<Inner>| node.view(|catalog| catalog.logs().get(&group).map(|log| log.name.to_string()));
    let log = match group {
        LogId::CATALOG => "(catalog)".to_owned(),
        _ => node.and_then(name).flatten().unwrap_or_else(|| group.to_string()),
    };
    tracing::info!(log, leader = leader.get(), term, "leader changed");
}
