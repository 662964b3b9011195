//! What holds at every moment of a run, on every node: looked at from outside,
//! again and again.
//!
//! ```text
//!   a node's replicas ─▶ observe ─▶ what was seen of the group before ─▶ violations
//! ```
//!
//! Only what was seen counts, so whatever happens between two looks and leaves
//! no trace is not judged here: that is what the clients' histories are for.

use std::collections::BTreeMap;

use quipu_protocol::{Index, LogId, ReplicaId, Term};
use quipu_raft::node::RaftNode;
use quipu_raft::{GroupStatus, Role};
use quipu_storage::journal::{EntryId, Journal, ReplicaKey};

use crate::violation::Violation;

/// What was seen of all groups.
#[derive(Debug, Default)]
pub(crate) struct Always {
    groups: BTreeMap<LogId, Seen>,
}

/// What was seen of one group.
#[derive(Debug, Default)]
struct Seen {
    /// Who led in which term.
    leaders: BTreeMap<Term, ReplicaId>,
    /// The terms of the entries that are committed, by index.
    committed: BTreeMap<u64, Term>,
    replicas: BTreeMap<ReplicaId, Replica>,
}

/// What was last seen of one replica.
#[derive(Debug)]
pub(crate) struct Replica {
    pub(crate) node: u64,
    boot: u64,
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
    pub(crate) raft: &'a RaftNode,
}

impl Always {
    /// Looks at a node; what is wrong, and what changed.
    pub(crate) fn observe(&mut self, look: &Look<'_>) -> (Vec<Violation>, Vec<RoleChange>) {
        let (mut violations, mut changes) = (Vec::new(), Vec::new());
        let running = look.raft.replicas();
        // One that is being stopped is not seen any more and may still work.
        for (group, seen) in &mut self.groups {
            let runs = |id: &ReplicaId| running.iter().any(|(of, replica, _)| of == group && replica == id);
            let gone = seen.replicas.iter_mut().filter(|(id, it)| it.node == look.node && !runs(id));
            gone.for_each(|(_, replica)| replica.unsure = true);
        }
        for (group, replica, status) in running {
            let seen = self.groups.entry(group).or_default();
            let key = ReplicaKey { group, replica };
            let mut group_violations = Vec::new();
            let change = seen.observe(key, status, look, &mut group_violations);
            changes.extend(change);
            violations.extend(group_violations);
        }
        (violations, changes)
    }

    /// Every group with what was last seen of its replicas.
    pub(crate) fn groups(&self) -> impl Iterator<Item = (LogId, &BTreeMap<ReplicaId, Replica>)> {
        self.groups.iter().map(|(group, seen)| (*group, &seen.replicas))
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

fn describe(key: ReplicaKey, look: &Look<'_>) -> String {
    format!("group {}, replica {} on node {} (boot {})", key.group, key.replica, look.node, look.boot)
}

fn index(id: Option<EntryId>) -> Option<u64> {
    id.map(|id| id.index.get())
}

impl Seen {
    fn observe(
        &mut self,
        key: ReplicaKey,
        status: GroupStatus,
        look: &Look<'_>,
        violations: &mut Vec<Violation>,
    ) -> Option<RoleChange> {
        let mut violated = |promise: &str, details: String| {
            violations.push(Violation::new(promise, format!("{}: {details}", describe(key, look))));
        };
        // A replica that takes a snapshot over has its state image on the disk
        // first, and drops the entries below it next.
        let image = look.raft.journal().replica(key).and_then(|state| state.image);
        let before = self.replicas.remove(&key.replica);
        let before = before.as_ref();
        let same_boot = before.filter(|before| before.boot == look.boot);
        if let Some(before) = same_boot {
            let old = &before.status;
            if status.term < old.term {
                violated("term-never-goes-back", format!("term {} after {}", status.term, old.term));
            }
            if index(status.committed) < index(old.committed) {
                let (now, then) = (status.committed, old.committed);
                violated("commit-never-goes-back", format!("committed {now:?} after {then:?}"));
            }
            if index(status.applied) < index(old.applied) {
                let (now, then) = (status.applied, old.applied);
                violated("applied-never-goes-back", format!("applied {now:?} after {then:?}"));
            }
        } else if let Some(before) = before.filter(|_| !look.in_doubt) {
            // What it had fsynced before its process ended is there again. A
            // newer leader may have replaced it by entries of a newer term.
            let rank = |id: Option<EntryId>| id.map(|id| (id.term, id.index));
            if rank(status.last.max(image)) < rank(before.status.durable) {
                let (now, then) = (status.last, before.status.durable);
                violated("fsynced-survives", format!("its last entry is {now:?}, and it had fsynced {then:?}"));
            }
        }
        if index(status.applied) > index(status.last).max(index(image)) {
            let (applied, last) = (status.applied, status.last);
            violated("applied-lies-within-the-log", format!("applied {applied:?}, last {last:?}"));
        }
        let compared = before.map_or(0, |before| if before.boot == look.boot { before.compared } else { 0 });
        let compared = self.compare(key, &status, look.raft.journal(), compared, &mut violated);
        let leads = status.role == Role::Leader;
        let changed = same_boot.is_none_or(|b| b.status.role != status.role || b.status.term != status.term);
        if leads {
            let leader = *self.leaders.entry(status.term).or_insert(key.replica);
            if leader != key.replica {
                let term = status.term;
                violated("one-leader-a-term", format!("leads in term {term}, in which replica {leader} led"));
            }
            if changed {
                self.is_complete(key, &status, look.raft.journal(), &mut violated);
            }
        }
        let change = RoleChange { group: key.group, replica: key.replica, role: status.role, term: status.term };
        let replica = Replica { node: look.node, boot: look.boot, status, compared, unsure: false };
        self.replicas.insert(key.replica, replica);
        changed.then_some(change)
    }

    /// Compares the replica's committed entries with those of others.
    fn compare(
        &mut self,
        key: ReplicaKey,
        status: &GroupStatus,
        journal: &Journal,
        from: u64,
        violated: &mut impl FnMut(&str, String),
    ) -> u64 {
        // As far as this replica's own log reaches.
        let through = index(status.committed.min(status.last)).map_or(0, |index| index + 1);
        for at in from..through {
            let Ok(Some(id)) = journal.entry_id(key, Index::new(at)) else { continue };
            let term = *self.committed.entry(at).or_insert(id.term);
            if term != id.term {
                let details = format!("its committed entry {at} is of term {}, another's of term {term}", id.term);
                violated("committed-never-changes", details);
            }
        }
        through.max(from)
    }

    /// A leader has every entry that was committed before it led.
    fn is_complete(
        &self,
        key: ReplicaKey,
        status: &GroupStatus,
        journal: &Journal,
        violated: &mut impl FnMut(&str, String),
    ) {
        let Some((at, term)) = self.committed.last_key_value() else { return };
        // Committed since by a newer leader, of whom this one has not heard.
        if *term > status.term {
            return;
        }
        if journal.replica(key).is_some_and(|state| index(state.purged) > Some(*at)) {
            return;
        }
        if let Ok(found) = journal.entry_id(key, Index::new(*at))
            && found.is_none_or(|found| found.term != *term)
        {
            let details = format!("leads in term {} and has {found:?} where {term}/{at} is committed", status.term);
            violated("leader-has-all-that-is-committed", details);
        }
    }

    fn committed_is_durable(&self, group: LogId, lost: Option<u64>) -> Option<Violation> {
        let committed = |replica: &&Replica| index(replica.status.committed);
        let foremost = self.replicas.values().max_by_key(committed)?;
        let at = foremost.status.committed?;
        let membership = &foremost.status.membership;
        let settled = foremost.status.membership_committed && !membership.is_joint();
        // Committed by this membership or a later one, not by one before it.
        let counts = membership.set_at.is_some_and(|set_at| set_at.index <= at.index);
        let voters = membership.voters.first().filter(|_| settled && counts)?;
        let holds = |voter: &ReplicaId| match self.replicas.get(voter) {
            // Never seen: on a node that is down since before it was looked at.
            None => true,
            Some(replica) if replica.unsure || Some(replica.node) == lost => true,
            Some(replica) => replica.status.durable.is_some_and(|durable| durable.index >= at.index),
        };
        let durable = voters.iter().filter(|voter| holds(voter)).count();
        if durable * 2 > voters.len() {
            return None;
        }
        let each: Vec<String> = voters
            .iter()
            .map(|voter| {
                let durable = self.replicas.get(voter).map(|replica| replica.status.durable);
                format!("{voter}: {durable:?}")
            })
            .collect();
        let details = format!("group {group}: {at} is committed; fsynced is {}", each.join(", "));
        Some(Violation::new("committed-is-durable-on-a-majority", details))
    }
}
