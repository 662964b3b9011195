//! Each promise of this checker is broken by a test, and by that promise alone.

use std::collections::{BTreeMap, BTreeSet};

use quipu_protocol::{Index, LogId, NodeId, ReplicaId, Term};
use quipu_raft::group::Membership;
use quipu_raft::node::{FailedReplica, Gauge};
use quipu_raft::{GroupStatus, Role};
use quipu_storage::journal::EntryId;

use super::{Always, Look, Tasks, tasks_end};

const GROUP: LogId = LogId::new(7);

/// Entries by their replica and index: their terms.
type Logs = BTreeMap<(u64, u64), u64>;

/// A group of three, replica N on node N, and what has been found wrong.
#[derive(Default)]
struct Group {
    always: Always,
    logs: Logs,
    image: Option<EntryId>,
    footprint: Vec<Gauge>,
    tasks: Tasks,
    followed: Option<Term>,
    broken: Vec<String>,
}

impl Group {
    /// Replica `replica` holds entries 1 up to as many as `terms`.
    fn holds(&mut self, replica: u64, terms: &[u64]) -> &mut Self {
        self.logs.retain(|(of, _), _| *of != replica);
        self.logs.extend((1..).zip(terms).map(|(index, term)| ((replica, index), *term)));
        self
    }

    fn sees(&mut self, node: u64, boot: u64, status: GroupStatus) -> &mut Self {
        self.looks(node, boot, Some(status), false, Vec::new())
    }

    fn looks(
        &mut self,
        node: u64,
        boot: u64,
        status: Option<GroupStatus>,
        in_doubt: bool,
        failed: Vec<FailedReplica>,
    ) -> &mut Self {
        let (logs, image, followed) = (self.logs.clone(), self.image, self.followed);
        let look = Look {
            node,
            boot,
            in_doubt,
            replicas: status.into_iter().map(|status| (GROUP, ReplicaId::new(node), status)).collect(),
            failed,
            footprint: self.footprint.clone(),
            tasks: self.tasks,
            entries: &move |key, index| {
                let term = logs.get(&(key.replica.get(), index.get()));
                Ok(term.map(|term| EntryId { term: Term::new(*term), index }))
            },
            recoveries: &|_| 0,
            dropped: &|_| super::Dropped { purged: None, image },
            followed: &|_| followed,
        };
        let (violations, _) = self.always.observe(&look);
        self.broken.extend(violations.into_iter().map(|violation| violation.promise));
        self
    }

    fn is_judged_durable(&mut self, lost: Option<u64>) -> &mut Self {
        let violations = self.always.committed_is_durable(lost);
        self.broken.extend(violations.into_iter().map(|violation| violation.promise));
        self
    }

    #[track_caller]
    fn breaks(&self, promise: &str) {
        assert_eq!(self.broken, [promise]);
    }

    #[track_caller]
    fn keeps_all(&self) {
        assert_eq!(self.broken, Vec::<String>::new());
    }
}

#[test]
fn group_whose_log_was_deleted_is_not_judged_any_more() {
    let mut group = Group::default();
    group.sees(1, 1, follower(3, at(3, 5)));
    group.always.forget(&BTreeSet::from([GROUP]));
    group.sees(1, 1, follower(2, at(1, 1))).keeps_all();
    assert!(group.always.is_gone(GROUP) && group.always.groups().next().is_none());
}

#[test]
fn terms_go_up() {
    let mut group = Group { image: at(3, 2), ..Group::default() };
    group.holds(1, &[1, 3, 3, 3]).sees(1, 1, follower(3, at(3, 4))).keeps_all();
    // Entry 2 was another one here, and what followed it is still there.
    group.holds(2, &[1, 3, 2, 2]).sees(2, 1, follower(3, at(3, 2))).breaks("terms-go-up");
}

fn at(term: u64, index: u64) -> Option<EntryId> {
    Some(EntryId { term: Term::new(term), index: Index::new(index) })
}

/// A replica in `term` that has `last`, all of it fsynced, committed, applied.
fn follower(term: u64, last: Option<EntryId>) -> GroupStatus {
    let ids: BTreeSet<ReplicaId> = (1..=3).map(ReplicaId::new).collect();
    GroupStatus {
        role: Role::Follower,
        term: Term::new(term),
        leader: None,
        last,
        durable: last,
        committed: last,
        applied: last,
        membership: Membership {
            set_at: at(0, 0),
            replicas: ids.iter().map(|id| (*id, NodeId::new(id.get()))).collect(),
            voters: vec![ids],
        },
        membership_committed: true,
        matched: BTreeMap::new(),
    }
}

fn leader(term: u64, last: Option<EntryId>) -> GroupStatus {
    GroupStatus { role: Role::Leader, ..follower(term, last) }
}

fn damaged() -> Vec<FailedReplica> {
    vec![FailedReplica { log: GROUP, replica: ReplicaId::new(1), reason: "a checksum".to_owned(), damaged: true }]
}

/// An election, appends, a crash and another leader, as they should be.
#[test]
fn a_history_without_a_fault_breaks_nothing() {
    let mut group = Group::default();
    group.holds(1, &[1, 1]).holds(2, &[1, 1]).holds(3, &[1]);
    group.sees(1, 1, leader(1, at(1, 2))).sees(2, 1, follower(1, at(1, 2))).sees(3, 1, follower(1, at(1, 1)));
    group.is_judged_durable(None);
    // Node 1 goes down; what it did not fsync is gone, and node 2 leads.
    group.always.ended_unseen(1);
    group.holds(2, &[1, 1, 2]).sees(2, 1, leader(2, at(2, 3)));
    group.holds(3, &[1, 1, 2]).sees(3, 1, follower(2, at(2, 3)));
    group.sees(1, 2, follower(1, at(1, 2))).is_judged_durable(None);
    group.holds(1, &[1, 1, 2]).sees(1, 2, follower(2, at(2, 3))).is_judged_durable(None);
    group.keeps_all();
}

#[test]
fn two_leaders_of_one_term_are_found() {
    let mut group = Group::default();
    group.sees(1, 1, leader(4, None)).sees(2, 1, leader(4, None));
    group.breaks("one-leader-a-term");
}

#[test]
fn leaders_of_different_terms_may_both_think_that_they_lead() {
    let mut group = Group::default();
    group.sees(1, 1, leader(4, None)).sees(2, 1, leader(5, None)).sees(1, 1, leader(4, None));
    group.keeps_all();
}

#[test]
fn a_vote_that_a_crash_took_is_found() {
    let mut group = Group::default();
    group.sees(2, 1, follower(1, at(1, 1))).sees(1, 1, leader(2, at(2, 2)));
    // One of three may not have voted; two may not.
    group.sees(3, 1, follower(1, at(1, 1))).keeps_all();
    group.sees(2, 2, follower(1, at(1, 1))).breaks("votes-are-kept");
}

#[test]
fn a_vote_on_a_spoiled_disk_may_be_gone() {
    let mut group = Group::default();
    group.sees(1, 1, leader(2, at(2, 2))).sees(3, 1, follower(1, at(1, 1)));
    group.looks(2, 2, Some(follower(1, at(1, 1))), true, Vec::new()).keeps_all();
}

#[test]
fn a_term_that_goes_back_is_found() {
    let mut group = Group::default();
    group.sees(1, 1, follower(4, None)).sees(1, 1, follower(3, None));
    group.breaks("term-never-goes-back");
}

#[test]
fn a_commit_that_goes_back_is_found() {
    let mut group = Group::default();
    let forgetful = GroupStatus { committed: at(1, 1), ..follower(1, at(1, 2)) };
    group.holds(1, &[1, 1]).sees(1, 1, follower(1, at(1, 2))).sees(1, 1, forgetful);
    group.breaks("commit-never-goes-back");
}

#[test]
fn an_applied_that_goes_back_is_found() {
    let mut group = Group::default();
    let forgetful = GroupStatus { applied: at(1, 1), ..follower(1, at(1, 2)) };
    group.holds(1, &[1, 1]).sees(1, 1, follower(1, at(1, 2))).sees(1, 1, forgetful);
    group.breaks("applied-never-goes-back");
}

/// None of the three is kept on stable storage at once.
#[test]
fn a_process_that_starts_again_may_know_less_than_before() {
    let mut group = Group::default();
    let started = GroupStatus { committed: None, applied: None, ..follower(3, at(1, 2)) };
    group.holds(1, &[1, 1]).sees(1, 1, follower(4, at(1, 2))).sees(1, 2, started);
    group.keeps_all();
}

#[test]
fn applying_what_the_log_does_not_hold_is_found() {
    let mut group = Group::default();
    group.holds(1, &[1]).sees(1, 1, GroupStatus { applied: at(1, 2), ..follower(1, at(1, 1)) });
    group.breaks("applied-lies-within-the-log");
}

#[test]
fn an_fsynced_entry_that_a_crash_took_is_found() {
    let mut group = Group::default();
    group.holds(1, &[1, 1]).sees(1, 1, follower(1, at(1, 2)));
    let started = GroupStatus { committed: None, applied: None, ..follower(1, at(1, 1)) };
    group.holds(1, &[1]).sees(1, 2, started);
    group.breaks("fsynced-survives");
}

#[test]
fn newer_leader_drops_what_was_not_committed_and_no_more() {
    for (left, breaks) in [(2, false), (1, true)] {
        let uncommitted = GroupStatus { committed: at(1, 2), applied: at(1, 2), ..follower(1, at(1, 3)) };
        let started = GroupStatus { committed: None, applied: None, ..follower(1, at(1, left)) };
        for term in [None, Some(Term::new(1)), Some(Term::new(2))] {
            let mut group = Group { followed: term, ..Group::default() };
            group.holds(1, &[1, 1, 1]).sees(1, 1, uncommitted.clone());
            group.holds(1, &[1, 1][..usize::try_from(left).unwrap()]).sees(1, 2, started.clone());
            if breaks || term < Some(Term::new(2)) {
                group.breaks("fsynced-survives");
            } else {
                group.keeps_all();
            }
        }
    }
}

#[test]
fn what_was_not_fsynced_may_be_gone_after_a_crash() {
    let mut group = Group::default();
    let unsynced = GroupStatus { durable: at(1, 1), committed: at(1, 1), applied: at(1, 1), ..follower(1, at(1, 2)) };
    group.holds(1, &[1, 1]).sees(1, 1, unsynced);
    group.holds(1, &[1]).sees(1, 2, follower(1, at(1, 1)));
    group.keeps_all();
}

#[test]
fn a_newer_leaders_shorter_log_may_replace_what_was_fsynced() {
    let mut group = Group::default();
    let before = GroupStatus { committed: at(1, 1), applied: at(1, 1), ..follower(1, at(1, 3)) };
    group.holds(1, &[1, 1, 1]).sees(1, 1, before);
    group.holds(1, &[1, 2]).sees(1, 2, follower(2, at(2, 2)));
    group.keeps_all();
}

#[test]
fn a_spoiled_disk_may_lack_what_it_had_fsynced() {
    let mut group = Group::default();
    group.holds(1, &[1, 1]).sees(1, 1, follower(1, at(1, 2)));
    group.holds(1, &[]).looks(1, 2, Some(follower(1, None)), true, Vec::new());
    group.keeps_all();
}

#[test]
fn a_committed_entry_that_differs_between_replicas_is_found() {
    let mut group = Group::default();
    group.holds(1, &[1, 1]).sees(1, 1, follower(2, at(1, 2)));
    group.holds(2, &[1, 2]).sees(2, 1, follower(2, at(2, 2)));
    group.breaks("committed-never-changes");
}

#[test]
fn what_a_snapshot_is_about_to_replace_may_differ() {
    let mut group = Group::default();
    group.holds(1, &[1, 2, 2]).sees(1, 1, GroupStatus { committed: at(2, 3), ..follower(2, at(2, 3)) });
    let taking_over = GroupStatus { committed: at(2, 3), applied: at(1, 1), ..follower(2, at(1, 2)) };
    group.holds(2, &[1, 1]).sees(2, 1, taking_over.clone()).keeps_all();
    let applied = GroupStatus { applied: at(1, 2), ..taking_over };
    group.sees(2, 1, applied).breaks("committed-never-changes");
}

#[test]
fn entries_that_are_not_committed_may_differ() {
    let mut group = Group::default();
    let ahead = GroupStatus { committed: at(1, 1), applied: at(1, 1), ..follower(2, at(1, 2)) };
    group.holds(1, &[1, 1]).sees(1, 1, ahead);
    group.holds(2, &[1, 2]).sees(2, 1, follower(2, at(2, 2)));
    group.keeps_all();
}

#[test]
fn a_leader_that_lacks_what_is_committed_is_found() {
    let mut group = Group::default();
    group.holds(1, &[1, 1]).sees(1, 1, follower(1, at(1, 2)));
    group.holds(2, &[1]).sees(2, 1, leader(2, at(1, 1)));
    group.breaks("leader-has-all-that-is-committed");
}

#[test]
fn a_leader_of_an_older_term_may_lack_what_a_newer_one_has_committed() {
    let mut group = Group::default();
    group.holds(1, &[1, 3]).sees(1, 1, leader(3, at(3, 2)));
    group.holds(2, &[1]).sees(2, 1, leader(2, at(1, 1)));
    group.keeps_all();
}

#[test]
fn a_commit_that_only_a_minority_has_fsynced_is_found() {
    let mut group = Group::default();
    group.holds(1, &[1, 1]).holds(2, &[1]).holds(3, &[1]);
    group.sees(1, 1, leader(1, at(1, 2))).sees(2, 1, follower(1, at(1, 1))).sees(3, 1, follower(1, at(1, 1)));
    group.is_judged_durable(None);
    group.breaks("committed-is-durable-on-a-majority");
}

#[test]
fn a_disk_that_was_spoiled_counts_as_one_that_held_what_was_committed() {
    let mut group = Group::default();
    group.holds(1, &[1, 1]).holds(2, &[1]).holds(3, &[1]);
    group.sees(1, 1, leader(1, at(1, 2))).sees(2, 1, follower(1, at(1, 1))).sees(3, 1, follower(1, at(1, 1)));
    group.is_judged_durable(Some(2)).keeps_all();
}

#[test]
fn a_process_that_ended_unseen_may_have_fsynced_more() {
    let mut group = Group::default();
    group.holds(1, &[1, 1]).holds(2, &[1]).holds(3, &[1]);
    group.sees(1, 1, leader(1, at(1, 2))).sees(2, 1, follower(1, at(1, 1))).sees(3, 1, follower(1, at(1, 1)));
    group.always.ended_unseen(3);
    group.is_judged_durable(None).keeps_all();
}

#[test]
fn damage_without_a_cause_is_found() {
    let mut group = Group::default();
    group.looks(1, 1, None, false, damaged());
    group.breaks("no-damage-without-a-cause");
}

#[test]
fn damage_to_a_disk_that_was_tampered_with_is_none_of_the_nodes_doing() {
    let mut group = Group::default();
    group.looks(1, 1, None, true, damaged());
    group.keeps_all();
}

fn gauge(name: &'static str, value: u64, bound: u64) -> Gauge {
    Gauge { name, value, bound }
}

#[test]
fn a_queue_over_its_bound_is_found() {
    let footprint = vec![gauge("link-calls", 3, 8), gauge("link-bytes", 101, 100)];
    let mut group = Group { footprint, ..Group::default() };
    group.sees(1, 1, follower(1, None));
    group.breaks("bounds-hold");
}

#[test]
fn a_queue_may_be_full() {
    let mut group = Group { footprint: vec![gauge("link-bytes", 100, 100)], ..Group::default() };
    group.sees(1, 1, follower(1, None)).keeps_all();
}

#[test]
fn tasks_that_nothing_needs_are_found() {
    let mut group = Group { tasks: Tasks { alive: 1_000, peers: 2, forgetting: 0 }, ..Group::default() };
    group.sees(1, 1, follower(1, None));
    group.breaks("tasks-are-bounded");
}

#[test]
fn as_many_tasks_as_there_are_requests_are_no_leak() {
    let footprint = vec![gauge("requests", 1_000, 4_096), gauge("connections", 10, 4_096)];
    let mut group = Group { tasks: Tasks { alive: 1_000, peers: 2, forgetting: 0 }, footprint, ..Group::default() };
    group.sees(1, 1, follower(1, None)).keeps_all();
}

#[test]
fn tasks_that_stay_once_all_is_calm_are_found() {
    let replicas = [(GROUP, ReplicaId::new(1), follower(1, None))];
    let judge =
        |alive| tasks_end(1, Tasks { alive, peers: 2, forgetting: 0 }, &replicas).map(|violation| violation.promise);
    assert_eq!(judge(500).as_deref(), Some("tasks-end"));
    assert_eq!(judge(50), None);
}
