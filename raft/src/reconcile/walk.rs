//! From the membership that a group has to the one that it should have, one
//! small step at a time.
//!
//! ```text
//!   wanted and unknown ──▶ learner ──▶ caught up ──▶ voter, in place of what
//!                                                     its node had before
//! ```
//!
//! Pure. Each step is safe to repeat, and what comes next is found anew from
//! what is, so that it does not matter who took the last one. A voter is given
//! up only in the change that brings its replacement, or when every wanted
//! voter votes already: so a group never has fewer voters that work than
//! before.

use std::collections::{BTreeMap, BTreeSet};

use quipu_protocol::{NodeId, ReplicaId};

use crate::group::GroupStatus;

/// A learner that lacks no more entries than this is caught up.
const CAUGHT_UP_ENTRIES: u64 = 64;

/// Who should be in a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Who should vote, and where they live.
    pub(crate) voters: BTreeMap<ReplicaId, NodeId>,
    /// Who should learn.
    pub(crate) learners: BTreeMap<ReplicaId, NodeId>,
}

/// A change of a group's membership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Adds a learner.
    Learn {
        /// The learner.
        replica: ReplicaId,
        /// Its node.
        node: NodeId,
    },
    /// Makes these the voters, by joint consensus; who voted before and does
    /// not any more leaves.
    Vote {
        /// The voters.
        voters: BTreeSet<ReplicaId>,
    },
    /// Lets learners go.
    Forget {
        /// The learners.
        learners: BTreeSet<ReplicaId>,
    },
}

/// The next step that the leader whose `status` this is should take; none when
/// there is nothing to do, or nothing to do yet.
pub(crate) fn next_step(wanted: &Wanted, status: &GroupStatus) -> Option<Step> {
    let membership = &status.membership;
    let voters = membership.voters.last()?;
    if !status.membership_committed {
        return None;
    }
    if membership.is_joint() {
        // Whoever began the change did not finish it.
        return Some(Step::Vote { voters: voters.clone() });
    }
    let missing = wanted.voters.iter().chain(&wanted.learners).find(|(id, _)| !membership.replicas.contains_key(id));
    if let Some((replica, node)) = missing {
        return Some(Step::Learn { replica: *replica, node: *node });
    }
    let ready = wanted.voters.iter().find(|(id, _)| !voters.contains(id) && caught_up(status, **id));
    if let Some((replica, node)) = ready {
        let replaced = |id: &ReplicaId| !wanted.voters.contains_key(id) && membership.replicas.get(id) == Some(node);
        let mut voters: BTreeSet<ReplicaId> = voters.iter().copied().filter(|id| !replaced(id)).collect();
        voters.insert(*replica);
        return Some(Step::Vote { voters });
    }
    let unwanted_voter = voters.iter().any(|id| !wanted.voters.contains_key(id));
    if unwanted_voter && !wanted.voters.is_empty() && wanted.voters.keys().all(|id| voters.contains(id)) {
        return Some(Step::Vote { voters: wanted.voters.keys().copied().collect() });
    }
    let unwanted =
        |id: &&ReplicaId| !voters.contains(id) && !wanted.voters.contains_key(id) && !wanted.learners.contains_key(id);
    let learners: BTreeSet<ReplicaId> = membership.replicas.keys().filter(unwanted).copied().collect();
    (!learners.is_empty()).then_some(Step::Forget { learners })
}

fn caught_up(status: &GroupStatus, replica: ReplicaId) -> bool {
    let last = status.last.map_or(0, |id| id.index.get());
    match status.matched.get(&replica) {
        Some(Some(matched)) => last.saturating_sub(matched.index.get()) <= CAUGHT_UP_ENTRIES,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
