//! What holds at every moment of a run, on every node: looked at from outside,
//! again and again.
//!
//! ```text
//!   a node's replicas ─▶ observe ─▶ what was seen of the group before ─▶ violations
//! ```
//!
//! Only what was seen counts, so whatever happens between two looks and leaves
//! no trace is not judged here: that is what the clients' histories are for.
//! Pure: a look is data, wherever it comes from.

mod bounds;
mod seen;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use quipu_protocol::{Index, LogId, ReplicaId, Term};
use quipu_raft::node::{FailedReplica, Gauge};
use quipu_raft::{GroupStatus, Role};
use quipu_storage::journal::{EntryId, JournalError, ReplicaKey};

use crate::violation::Violation;

pub(crate) use bounds::{Tasks, tasks_end};

/// What was seen of all groups.
#[derive(Debug, Default)]
pub(crate) struct Always {
    groups: BTreeMap<LogId, Seen>,
    /// Those whose logs were deleted. They end at a different moment on each node,
    /// and nothing is promised of them any more.
    gone: BTreeSet<LogId>,
}

/// What was seen of one group.
#[derive(Debug, Default)]
struct Seen {
    /// Who led in which term.
    leaders: BTreeMap<Term, ReplicaId>,
    /// The newest election that was seen to be won.
    election: Option<Election>,
    /// The terms of the entries that are committed, by index.
    committed: BTreeMap<u64, Term>,
    replicas: BTreeMap<ReplicaId, Replica>,
}

/// A term's leader was elected, and whoever voted for it keeps that in mind.
#[derive(Debug)]
struct Election {
    term: Term,
    voters: BTreeSet<ReplicaId>,
    /// Those who were in an older term since: they have not voted.
    without: BTreeSet<ReplicaId>,
}

/// What was last seen of one replica.
#[derive(Debug)]
pub(crate) struct Replica {
    pub(crate) node: u64,
    pub(crate) boot: u64,
    /// How often it had started anew in that process.
    recoveries: u64,
    pub(crate) status: GroupStatus,
    /// Up to where its committed entries were compared.
    compared: u64,
    /// Its process ended without a last look: it may have fsynced more.
    unsure: bool,
}

/// What changed for a replica, for those who draw or count it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RoleChange {
    pub(crate) group: LogId,
    pub(crate) replica: ReplicaId,
    pub(crate) role: Role,
    pub(crate) term: Term,
}

/// How a node stands when it is looked at.
pub(crate) struct Look<'a> {
    pub(crate) node: u64,
    /// How many times it has been started.
    pub(crate) boot: u64,
    /// Whether its copy was spoiled, so that it may lack what it had.
    pub(crate) in_doubt: bool,
    /// The replicas that run.
    pub(crate) replicas: Vec<(LogId, ReplicaId, GroupStatus)>,
    /// The replicas that should run and do not.
    pub(crate) failed: Vec<FailedReplica>,
    /// What it holds of everything that is bounded.
    pub(crate) footprint: Vec<Gauge>,
    pub(crate) tasks: Tasks,
    /// What its journal holds.
    pub(crate) entries: Entries<'a>,
    /// How often a replica was damaged and started anew, in this process.
    pub(crate) recoveries: &'a dyn Fn(ReplicaKey) -> u64,
    /// What its journal has dropped.
    pub(crate) dropped: &'a dyn Fn(ReplicaKey) -> Dropped,
    /// Of which term the newest leader is that it has followed, by its journal: this
    /// one may be replacing what follows in its log.
    pub(crate) followed: &'a dyn Fn(ReplicaKey) -> Option<Term>,
}

/// What a replica does not hold any more.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Dropped {
    /// The last entry that is gone.
    pub(crate) purged: Option<EntryId>,
    /// The last entry that its state image reflects.
    pub(crate) image: Option<EntryId>,
}

/// The id of a replica's entry at an index, if there is one.
pub(crate) type Entries<'a> = &'a dyn Fn(ReplicaKey, Index) -> Result<Option<EntryId>, JournalError>;

impl Always {
    /// Looks at a node; what is wrong, and what changed.
    pub(crate) fn observe(&mut self, look: &Look<'_>) -> (Vec<Violation>, Vec<RoleChange>) {
        let (mut violations, mut changes) = (Vec::new(), Vec::new());
        // One that is being stopped is not seen any more and may still work.
        for (group, seen) in &mut self.groups {
            let runs = |id: &ReplicaId| look.replicas.iter().any(|(of, replica, _)| of == group && replica == id);
            let gone = seen.replicas.iter_mut().filter(|(id, it)| it.node == look.node && !runs(id));
            gone.for_each(|(_, replica)| replica.unsure = true);
        }
        for (group, replica, status) in look.replicas.iter().filter(|(group, ..)| !self.gone.contains(group)) {
            let seen = self.groups.entry(*group).or_default();
            let key = ReplicaKey { group: *group, replica: *replica };
            changes.extend(seen.observe(key, status.clone(), look, &mut violations));
        }
        bounds::bounds_hold(look, &mut violations);
        bounds::tasks_are_bounded(look, &mut violations);
        for failed in look.failed.iter().filter(|failed| failed.damaged && !look.in_doubt) {
            let details = format!("replica {} of log {}: {}", failed.replica, failed.log, failed.reason);
            violations.push(Violation::new("no-damage-without-a-cause", details));
        }
        (violations, changes)
    }

    /// The logs of these groups were deleted.
    pub(crate) fn forget(&mut self, gone: &BTreeSet<LogId>) {
        if gone.len() > self.gone.len() {
            self.gone.clone_from(gone);
            self.groups.retain(|group, _| !gone.contains(group));
        }
    }

    /// Whether a group's log was deleted.
    pub(crate) fn is_gone(&self, group: LogId) -> bool {
        self.gone.contains(&group)
    }

    /// Every group with what was last seen of its replicas.
    pub(crate) fn groups(&self) -> impl Iterator<Item = (LogId, &BTreeMap<ReplicaId, Replica>)> {
        self.groups.iter().map(|(group, seen)| (*group, &seen.replicas))
    }

    /// The newest leader of each group that has one.
    pub(crate) fn leaders(&self) -> BTreeMap<LogId, (Term, ReplicaId)> {
        let newest = |seen: &Seen| seen.leaders.last_key_value().map(|(term, replica)| (*term, *replica));
        self.groups.iter().filter_map(|(group, seen)| Some((*group, newest(seen)?))).collect()
    }

    /// The last entry of each group that is known to be committed.
    pub(crate) fn committed(&self) -> BTreeMap<LogId, u64> {
        let last = |seen: &Seen| seen.committed.last_key_value().map_or(0, |(index, _)| *index);
        self.groups.iter().map(|(group, seen)| (*group, last(seen))).collect()
    }

    /// Whether every group has all its voters on disks of now, the new one of
    /// `node` (first started as `boot`) among them, and each of them has
    /// everything up to `targets`.
    pub(crate) fn is_resynced(&self, node: u64, boot: u64, targets: &BTreeMap<LogId, u64>) -> bool {
        self.groups.iter().all(|(group, seen)| {
            let leaders = seen.replicas.values().filter(|it| it.status.role == Role::Leader && !it.unsure);
            let Some(leader) = leaders.max_by_key(|it| it.status.term) else { return false };
            let membership = &leader.status.membership;
            let settled = leader.status.membership_committed && !membership.is_joint();
            let target = targets.get(group).copied().unwrap_or(0);
            settled
                && membership.replicas.iter().all(|(id, lives_on)| {
                    let Some(replica) = seen.replicas.get(id) else { return false };
                    let new = lives_on.get() != node || replica.boot >= boot;
                    new && index(replica.status.durable).is_some_and(|durable| durable >= target)
                })
        })
    }

    /// A node's process ended in the middle of its work: what it had fsynced by
    /// then is more than what was seen.
    pub(crate) fn ended_unseen(&mut self, node: u64) {
        let replicas = self.groups.values_mut().flat_map(|seen| seen.replicas.values_mut());
        replicas.filter(|replica| replica.node == node).for_each(|replica| replica.unsure = true);
    }

    /// Checks of each group that what is committed is durable on a majority.
    /// `lost` are the nodes whose copies were spoiled: they held it.
    pub(crate) fn committed_is_durable(&self, lost: Option<u64>) -> Vec<Violation> {
        let check = |(group, seen): (&LogId, &Seen)| seen.committed_is_durable(*group, lost);
        self.groups.iter().filter_map(check).collect()
    }
}

fn index(id: Option<EntryId>) -> Option<u64> {
    id.map(|id| id.index.get())
}
