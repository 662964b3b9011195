use std::collections::{BTreeMap, BTreeSet};

use quipu_protocol::{Index, NodeId, ReplicaId, Term};
use quipu_storage::journal::EntryId;

use super::{Step, Wanted, next_step};
use crate::group::{GroupStatus, Membership, Role};

const LAST: u64 = 10_000;

fn id(replica: u64) -> ReplicaId {
    ReplicaId::new(replica)
}

/// Replica r lives on node r mod 10.
fn places(replicas: &[u64]) -> BTreeMap<ReplicaId, NodeId> {
    replicas.iter().map(|it| (id(*it), NodeId::new(it % 10))).collect()
}

fn set(replicas: &[u64]) -> BTreeSet<ReplicaId> {
    replicas.iter().copied().map(ReplicaId::new).collect()
}

fn entry(index: u64) -> EntryId {
    EntryId { term: Term::new(1), index: Index::new(index) }
}

struct Group {
    status: GroupStatus,
    wanted: Wanted,
}

impl Group {
    fn new(voters: &[u64], wanted: &[u64]) -> Self {
        let status = GroupStatus {
            role: Role::Leader,
            term: Term::new(1),
            leader: None,
            last: Some(entry(LAST)),
            durable: Some(entry(LAST)),
            committed: Some(entry(LAST)),
            applied: Some(entry(LAST)),
            membership: Membership { set_at: Some(entry(0)), voters: vec![set(voters)], replicas: places(voters) },
            membership_committed: true,
            matched: voters.iter().map(|it| (id(*it), Some(entry(LAST)))).collect(),
        };
        Self { status, wanted: Wanted { voters: places(wanted), learners: BTreeMap::new() } }
    }

    fn learner(mut self, replica: u64, matched: Option<u64>) -> Self {
        self.status.membership.replicas.extend(places(&[replica]));
        self.status.matched.insert(id(replica), matched.map(entry));
        self
    }

    fn step(&self) -> Option<Step> {
        next_step(&self.wanted, &self.status)
    }

    /// Takes the step as a group would.
    fn take(&mut self, step: Step) {
        let membership = &mut self.status.membership;
        match step {
            Step::Learn { replica, node } => {
                membership.replicas.insert(replica, node);
                self.status.matched.insert(replica, Some(entry(LAST)));
            }
            Step::Vote { voters } => {
                let before = membership.voters.concat_all();
                membership.replicas.retain(|id, _| voters.contains(id) || !before.contains(id));
                membership.voters = vec![voters];
            }
            Step::Forget { learners } => membership.replicas.retain(|id, _| !learners.contains(id)),
        }
    }
}

trait ConcatAll {
    fn concat_all(&self) -> BTreeSet<ReplicaId>;
}

impl ConcatAll for Vec<BTreeSet<ReplicaId>> {
    fn concat_all(&self) -> BTreeSet<ReplicaId> {
        self.iter().flatten().copied().collect()
    }
}

#[test]
fn nothing_is_done_when_all_is_as_wanted() {
    assert_eq!(Group::new(&[1, 2, 3], &[1, 2, 3]).step(), None);
}

#[test]
fn replacement_learns_first() {
    let group = Group::new(&[1, 2, 3], &[1, 2, 13]);
    assert_eq!(group.step(), Some(Step::Learn { replica: id(13), node: NodeId::new(3) }));
}

#[test]
fn learner_that_lags_is_not_promoted() {
    for matched in [None, Some(LAST / 2)] {
        assert_eq!(Group::new(&[1, 2, 3], &[1, 2, 13]).learner(13, matched).step(), None);
    }
}

#[test]
fn replacement_votes_in_the_change_that_removes_what_it_replaces() {
    let group = Group::new(&[1, 2, 3], &[1, 2, 13]).learner(13, Some(LAST - 5));
    assert_eq!(group.step(), Some(Step::Vote { voters: set(&[1, 2, 13]) }));
}

#[test]
fn two_replacements_are_made_one_after_the_other() {
    let group = Group::new(&[1, 2, 3, 4, 5], &[1, 2, 3, 14, 15]).learner(14, Some(LAST)).learner(15, Some(LAST));
    assert_eq!(group.step(), Some(Step::Vote { voters: set(&[1, 2, 3, 5, 14]) }));
}

#[test]
fn unfinished_change_is_finished_first() {
    let mut group = Group::new(&[1, 2, 3], &[1, 2, 13]).learner(13, Some(LAST));
    group.status.membership.voters.push(set(&[1, 2, 13]));
    assert_eq!(group.step(), Some(Step::Vote { voters: set(&[1, 2, 13]) }));
}

#[test]
fn change_that_is_under_way_is_waited_for() {
    let mut group = Group::new(&[1, 2, 3], &[1, 2, 13]);
    group.status.membership_committed = false;
    assert_eq!(group.step(), None);
}

#[test]
fn voter_of_a_node_that_is_not_wanted_goes_last() {
    let group = Group::new(&[1, 2, 3], &[1, 2, 4]).learner(4, Some(LAST / 2));
    assert_eq!(group.step(), None, "node 4's replica is not ready: node 3's stays");
    let group = Group::new(&[1, 2, 3, 4], &[1, 2, 4]);
    assert_eq!(group.step(), Some(Step::Vote { voters: set(&[1, 2, 4]) }));
}

#[test]
fn forgotten_learner_leaves() {
    let group = Group::new(&[1, 2, 3], &[1, 2, 3]).learner(13, Some(LAST));
    assert_eq!(group.step(), Some(Step::Forget { learners: set(&[13]) }));
}

#[test]
fn every_walk_ends_at_what_is_wanted() {
    let cases: [(&[u64], &[u64]); 6] = [
        (&[1, 2, 3], &[11, 12, 13]),
        (&[1], &[1, 2, 3]),
        (&[1, 2, 3, 4, 5], &[3, 14, 15]),
        (&[1, 2, 3], &[4, 5, 6]),
        (&[1, 2], &[11, 2]),
        (&[1, 2, 3], &[1]),
    ];
    for (voters, wanted) in cases {
        let mut group = Group::new(voters, wanted);
        let mut steps = 0;
        while let Some(step) = group.step() {
            group.take(step);
            steps += 1;
            assert!(steps < 50, "{voters:?} never becomes {wanted:?}");
        }
        assert_eq!(group.status.membership.voters, [set(wanted)], "from {voters:?}");
        assert_eq!(group.status.membership.replicas, places(wanted), "from {voters:?}");
    }
}
