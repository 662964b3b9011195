//! Looks at the nodes of a run: what holds, who leads, what is missing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;

use quipu_raft::Role;

use super::Run;
use crate::checkers::always::{Dropped, Look, Replica, Tasks, tasks_end};
use crate::cluster::Node;
use crate::event::{self, What};
use crate::faults::Custody;
use crate::violation::Violation;

impl Run<'_> {
    /// Looks at all nodes.
    pub(super) fn look(&mut self) {
        let now = self.now();
        self.always.forget(self.brief.lock().unwrap_or_else(PoisonError::into_inner).gone());
        for node in self.cluster.nodes.values() {
            let Some(server) = node.server() else { continue };
            let raft = server.node();
            let look = Look {
                node: node.number,
                boot: node.boots(),
                in_doubt: self.custody.node() == Some(node.number),
                replicas: raft.replicas(),
                failed: raft.failed_replicas(),
                footprint: server.footprint(),
                tasks: self.tasks_of(node),
                recoveries: &|key| raft.recoveries(key),
                entries: &|key, index| raft.journal().entry_id(key, index),
                dropped: &|key| {
                    let state = raft.journal().replica(key);
                    state.map(|state| Dropped { purged: state.purged, image: state.image }).unwrap_or_default()
                },
                followed: &|key| {
                    let vote = raft.journal().replica(key).and_then(|state| state.vote);
                    vote.filter(|vote| vote.committed).map(|vote| vote.term)
                },
            };
            let (violations, changes) = self.always.observe(&look);
            for violation in violations {
                self.recorder.violated(now, violation, Some(node.number));
            }
            for change in changes {
                self.recorder.event(
                    now,
                    What::Role {
                        node: node.number,
                        group: change.group.get(),
                        replica: change.replica.get(),
                        role: role(change.role),
                        term: change.term.get(),
                    },
                );
            }
        }
        if let Custody::Resyncing { node, boot, targets } = &self.custody
            && self.always.is_resynced(*node, *boot, targets)
        {
            self.recorder.mark(now, "a-replaced-disk-was-resynced");
            self.custody = Custody::Good;
        }
    }

    fn tasks_of(&self, node: &Node) -> Tasks {
        let forgetting = self.scenario.logs.iter().filter(|log| log.forgets()).count();
        node.tasks(self.cluster.nodes.len() as u64 - 1, forgetting as u64)
    }

    /// The nodes that lead a group.
    pub(crate) fn leaders(&self) -> Vec<u64> {
        let mut leaders = BTreeSet::new();
        for (_, replicas) in self.always.groups() {
            let leads = |it: &&Replica| it.status.role == Role::Leader;
            leaders.extend(replicas.values().filter(leads).map(|it| it.node));
        }
        leaders.into_iter().filter(|node| self.cluster.nodes[node].is_up()).collect()
    }

    /// Whether every replica of every group runs, votes and has everything.
    pub(crate) fn is_whole(&mut self) -> bool {
        self.missing().is_none()
    }

    pub(super) fn what_is_missing(&mut self) -> String {
        self.missing().unwrap_or_else(|| "nothing any more".to_owned())
    }

    /// The first thing that is missing for every replica to have everything.
    fn missing(&self) -> Option<String> {
        let mut groups: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for node in self.cluster.nodes.values() {
            let Some(server) = node.server().filter(|_| node.serves()) else {
                return Some(format!("node {} does not serve: {:?}", node.number, node.process()));
            };
            if let Some(failed) = server.node().failed_replicas().first() {
                return Some(format!("node {}: {failed:?}", node.number));
            }
            for (group, replica, status) in server.node().replicas() {
                groups.entry(group).or_default().push((replica, status));
            }
        }
        for (group, replicas) in &groups {
            if self.always.is_gone(*group) {
                return Some(format!("group {group} runs, and its log was deleted"));
            }
            let leader = replicas.iter().filter(|(_, status)| status.role == Role::Leader);
            let Some((_, leader)) = leader.max_by_key(|(_, status)| status.term) else {
                return Some(format!("group {group} has no leader"));
            };
            if leader.membership.is_joint() || !leader.membership_committed {
                return Some(format!("group {group} changes its membership"));
            }
            for replica in leader.membership.replicas.keys() {
                let Some((_, status)) = replicas.iter().find(|(id, _)| id == replica) else {
                    return Some(format!("group {group}: replica {replica} does not run"));
                };
                let behind = status.durable < leader.last || status.applied < leader.last;
                if behind || leader.committed < leader.last {
                    let (durable, applied, last) = (status.durable, status.applied, leader.last);
                    return Some(format!(
                        "group {group}: replica {replica} has fsynced {durable:?}, applied {applied:?} of {last:?}"
                    ));
                }
            }
            // A replica that was replaced is not a member, and goes.
            if let Some((gone, _)) = replicas.iter().find(|(id, _)| !leader.membership.replicas.contains_key(id)) {
                return Some(format!("group {group}: replica {gone} is no member (yet)"));
            }
            let everybody_votes =
                group.get() == 0 || leader.membership.replicas.keys().all(|id| leader.membership.is_voter(*id));
            if !everybody_votes {
                return Some(format!("group {group} has learners"));
            }
        }
        None
    }

    pub(super) fn leftover_tasks(&self) -> Option<Violation> {
        self.cluster
            .nodes
            .values()
            .find_map(|node| tasks_end(node.number, self.tasks_of(node), &node.server()?.node().replicas()))
    }

    /// Where two replicas have applied the same, their states are the same.
    pub(super) fn settled(&mut self) {
        let mut states = BTreeMap::new();
        for node in self.cluster.nodes.values() {
            let Some(server) = node.server() else { continue };
            for (group, applied, image) in server.node().states() {
                states.entry((group, applied)).or_insert_with(Vec::new).push((node.number, image));
            }
        }
        for ((group, applied), images) in states {
            let (first, image) = &images[0];
            for (node, other) in &images[1..] {
                if other != image {
                    let details = format!("group {group} as of {applied}: nodes {first} and {node} differ");
                    self.violated("equal-states", details);
                }
            }
        }
    }
}

fn role(role: Role) -> event::Role {
    match role {
        Role::Leader => event::Role::Leader,
        Role::Follower => event::Role::Follower,
        Role::Learner => event::Role::Learner,
    }
}
