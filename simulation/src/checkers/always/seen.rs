//! What is checked of one group, by what was seen of it before.

use std::collections::BTreeSet;

use quipu_protocol::{Index, LogId, ReplicaId};
use quipu_raft::{GroupStatus, Role};
use quipu_storage::journal::{EntryId, ReplicaKey};

use super::{Election, Entries, Look, Replica, RoleChange, Seen, index};
use crate::violation::Violation;

impl Seen {
    pub(super) fn observe(
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
        let image = (look.dropped)(key).image;
        if let Some(image) = image {
            terms_go_up(key, image, look, &mut violated);
        }
        let before = self.replicas.remove(&key.replica);
        let before = before.as_ref();
        let recoveries = (look.recoveries)(key);
        let is_same = |before: &&Replica| before.boot == look.boot && before.recoveries == recoveries;
        let same_boot = before.filter(is_same);
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
            // newer leader may have replaced it by entries of a newer term, or be
            // about to: what was not committed goes first.
            let rank = |id: Option<EntryId>| id.map(|id| (id.term, id.index));
            let fsynced = before.status.durable;
            let is_replaced = (look.followed)(key) > fsynced.map(|id| id.term);
            let kept = if is_replaced { before.status.committed.min(fsynced) } else { fsynced };
            if rank(status.last.max(image)) < rank(kept) {
                let (now, then) = (status.last, kept);
                violated("fsynced-survives", format!("its last entry is {now:?}, and it had fsynced {then:?}"));
            }
        }
        if index(status.applied) > index(status.last).max(index(image)) {
            let (applied, last) = (status.applied, status.last);
            violated("applied-lies-within-the-log", format!("applied {applied:?}, last {last:?}"));
        }
        let compared = same_boot.map_or(0, |before| before.compared);
        let compared = self.compare(key, &status, look.entries, compared, &mut violated);
        let leads = status.role == Role::Leader;
        let changed = same_boot.is_none_or(|b| b.status.role != status.role || b.status.term != status.term);
        if leads {
            let leader = *self.leaders.entry(status.term).or_insert(key.replica);
            if leader != key.replica {
                let term = status.term;
                violated("one-leader-a-term", format!("leads in term {term}, in which replica {leader} led"));
            }
            if changed {
                self.elected(&status);
                self.is_complete(key, &status, look, &mut violated);
            }
        }
        if !look.in_doubt {
            self.votes_are_kept(key, &status, &mut violated);
        }
        let change = RoleChange { group: key.group, replica: key.replica, role: status.role, term: status.term };
        let replica = Replica { node: look.node, boot: look.boot, recoveries, status, compared, unsure: false };
        self.replicas.insert(key.replica, replica);
        changed.then_some(change)
    }

    /// Compares the replica's committed entries with those of others.
    fn compare(
        &mut self,
        key: ReplicaKey,
        status: &GroupStatus,
        entries: Entries<'_>,
        from: u64,
        violated: &mut impl FnMut(&str, String),
    ) -> u64 {
        // One that takes a snapshot over knows its end to be committed before it
        // has dropped its own entries below, which may be of another branch.
        let takes_over = index(status.last) < index(status.committed);
        let committed = if takes_over { status.applied } else { status.committed };
        let through = index(committed).map_or(0, |index| index + 1);
        for at in from..through {
            let Ok(Some(id)) = entries(key, Index::new(at)) else { continue };
            let term = *self.committed.entry(at).or_insert(id.term);
            if term != id.term {
                let details = format!("its committed entry {at} is of term {}, another's of term {term}", id.term);
                violated("committed-never-changes", details);
            }
        }
        through.max(from)
    }

    /// Notes that an election was won.
    fn elected(&mut self, status: &GroupStatus) {
        let newer = self.election.as_ref().is_none_or(|election| election.term < status.term);
        // The membership that elected it, and not one that it has appended since.
        let is_older = status.membership.set_at.is_some_and(|set_at| set_at.term < status.term);
        if newer && let [voters] = &status.membership.voters[..] {
            let voters = if is_older { voters.clone() } else { BTreeSet::new() };
            self.election = Some(Election { term: status.term, voters, without: BTreeSet::new() });
        }
    }

    /// A majority of the voters has voted for a leader, and whoever has is never
    /// again in an older term, wherever it crashes.
    fn votes_are_kept(&mut self, key: ReplicaKey, status: &GroupStatus, violated: &mut impl FnMut(&str, String)) {
        let Some(election) = &mut self.election else { return };
        // One that was only just started may not have looked at its own vote yet.
        if status.term.get() == 0 || status.term >= election.term || !election.voters.contains(&key.replica) {
            return;
        }
        let (voters, term) = (election.voters.len(), election.term);
        if election.without.insert(key.replica) && (voters - election.without.len()) * 2 <= voters {
            let details = format!(
                "term {} after a leader was elected in term {term}: {} of {voters} voters have not voted for it",
                status.term,
                election.without.len()
            );
            violated("votes-are-kept", details);
        }
    }

    /// A leader has every entry that was committed before it led.
    fn is_complete(
        &self,
        key: ReplicaKey,
        status: &GroupStatus,
        look: &Look<'_>,
        violated: &mut impl FnMut(&str, String),
    ) {
        let Some((at, term)) = self.committed.last_key_value() else { return };
        // Committed since by a newer leader, of whom this one has not heard.
        if *term > status.term {
            return;
        }
        if index((look.dropped)(key).purged) > Some(*at) {
            return;
        }
        if let Ok(found) = (look.entries)(key, Index::new(*at))
            && found.is_none_or(|found| found.term != *term)
        {
            let details = format!("leads in term {} and has {found:?} where {term}/{at} is committed", status.term);
            violated("leader-has-all-that-is-committed", details);
        }
    }

    pub(super) fn committed_is_durable(&self, group: LogId, lost: Option<u64>) -> Option<Violation> {
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

/// What a replica holds behind its state image came after what that reflects.
fn terms_go_up(key: ReplicaKey, image: EntryId, look: &Look<'_>, violated: &mut impl FnMut(&str, String)) {
    if let Ok(Some(next)) = (look.entries)(key, image.index.next())
        && next.term < image.term
    {
        violated("terms-go-up", format!("its entry {next} lies behind its state image, which is of {image}"));
    }
}

fn describe(key: ReplicaKey, look: &Look<'_>) -> String {
    format!("group {}, replica {} on node {} (boot {})", key.group, key.replica, look.node, look.boot)
}
