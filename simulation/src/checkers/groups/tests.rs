//! What is held against reader groups, each broken once.

use super::*;

const LATER: Duration = Duration::from_secs(100);

fn commit(generation: u64, member: u64, position: u64, began: u64) -> Commit<'static> {
    let began = Duration::from_secs(began);
    Commit { group: "billing", log: "shared-0", generation, member, position, began }
}

fn claim(generation: u64, member: u64, found: Option<u64>, began: u64) -> Claim<'static> {
    let (began, ended) = (Duration::from_secs(began), Duration::from_secs(began));
    Claim { group: "billing", log: "shared-0", generation, member, found, began, ended }
}

fn delivered(groups: &mut Groups, member: u64, offset: u64) -> Option<String> {
    promise(groups.delivered("billing", "shared-0", member, offset, 100 + offset))
}

/// Somebody was delivered these, whoever it was.
fn having(offsets: impl IntoIterator<Item = u64>) -> Groups {
    let mut groups = Groups::default();
    for (member, offset) in (100..).zip(offsets) {
        groups.shelf("billing", "shared-0").expected.insert(member, offset);
        assert_eq!(delivered(&mut groups, member, offset), None);
    }
    groups
}

fn promise(violation: Option<Violation>) -> Option<String> {
    violation.map(|violation| violation.promise)
}

#[test]
fn a_commit_beyond_what_all_members_were_delivered_skips_a_record() {
    let mut groups = having([0, 1, 3]);
    assert_eq!(promise(groups.commits(commit(1, 1, 2, 0))), None);
    assert_eq!(promise(groups.commits(commit(1, 1, 3, 0))).as_deref(), Some("no-group-skips-a-record"));
    assert_eq!(promise(having([0, 1, 3, 2]).commits(commit(1, 1, 4, 0))), None, "in whatever order");
}

#[test]
fn two_members_never_commit_under_one_generation() {
    let mut groups = having(0..5);
    assert_eq!(promise(groups.committed(commit(3, 1, 2, 0), LATER)), None);
    assert_eq!(promise(groups.committed(commit(3, 1, 3, 0), LATER)), None);
    assert_eq!(promise(groups.committed(commit(4, 2, 3, 0), LATER)), None);
    assert_eq!(promise(groups.committed(commit(3, 2, 3, 0), LATER)).as_deref(), Some("one-member-a-generation"));
}

#[test]
fn nothing_is_committed_after_a_higher_generation_has_claimed() {
    let mut groups = having(0..5);
    assert_eq!(promise(groups.claimed(claim(7, 2, None, 5))), None);
    assert_eq!(promise(groups.committed(commit(3, 1, 2, 4), LATER)), None, "it was under way then");
    assert_eq!(promise(groups.committed(commit(7, 2, 2, 6), LATER)), None);
    let broken = promise(groups.committed(commit(3, 1, 3, 5), LATER));
    assert_eq!(broken.as_deref(), Some("a-fenced-member-commits-nothing"));
}

#[test]
fn who_takes_a_log_over_finds_what_was_committed_and_nothing_that_nobody_asked_for() {
    let broken = Some("a-group-goes-on-where-it-committed");
    let mut groups = having(0..5);
    assert_eq!(promise(groups.claimed(claim(1, 1, Some(1), 0))).as_deref(), broken, "nobody has committed");
    for position in [2, 3] {
        assert_eq!(promise(groups.commits(commit(1, 1, position, 1))), None);
        assert_eq!(promise(groups.committed(commit(1, 1, position, 1), Duration::from_secs(2))), None);
    }
    assert_eq!(promise(groups.claimed(claim(2, 2, Some(2), 1))), None, "the commit had not been acknowledged");
    assert_eq!(promise(groups.claimed(claim(2, 2, Some(2), 2))).as_deref(), broken);
    assert_eq!(promise(groups.claimed(claim(2, 2, None, 2))).as_deref(), broken);
    assert_eq!(promise(groups.claimed(claim(2, 2, Some(4), 2))).as_deref(), broken);
    assert_eq!(promise(groups.claimed(claim(2, 2, Some(3), 2))), None);
    // Whether one more landed, nobody knows.
    assert_eq!(promise(groups.commits(commit(2, 2, 5, 3))), None);
    assert_eq!(promise(groups.claimed(claim(3, 3, Some(5), 4))), None);
    assert_eq!(promise(groups.claimed(claim(3, 3, Some(3), 4))), None);
}

#[test]
fn a_commit_of_unknown_outcome_may_land_late_under_its_generation() {
    let mut groups = having(0..5);
    assert_eq!(promise(groups.commits(commit(1, 1, 2, 1))), None);
    assert_eq!(promise(groups.commits(commit(1, 1, 4, 1))), None);
    assert_eq!(promise(groups.committed(commit(1, 1, 4, 1), Duration::from_secs(2))), None);
    assert_eq!(promise(groups.claimed(claim(2, 2, Some(2), 3))), None);
    assert!(groups.claimed(claim(2, 2, Some(3), 3)).is_some());
    // A higher generation's commit comes after all under a lower one.
    assert_eq!(promise(groups.commits(commit(2, 2, 3, 4))), None);
    assert_eq!(promise(groups.committed(commit(2, 2, 3, 4), Duration::from_secs(5))), None);
    assert!(groups.claimed(claim(3, 3, Some(2), 6)).is_some());
    assert_eq!(promise(groups.claimed(claim(3, 3, Some(3), 6))), None);
}

#[test]
fn a_member_is_delivered_one_record_after_the_other_from_its_claim_on() {
    let broken = Some("members-read-on-from-their-claims");
    let mut groups = Groups::default();
    assert_eq!(delivered(&mut groups, 1, 0).as_deref(), broken, "it has claimed nothing");
    groups.claimed(claim(1, 1, None, 0));
    assert_eq!(delivered(&mut groups, 1, 0), None);
    assert_eq!(delivered(&mut groups, 1, 1), None);
    assert_eq!(delivered(&mut groups, 1, 3).as_deref(), broken, "it skips one");
    assert_eq!(delivered(&mut groups, 1, 4), None);
    assert_eq!(delivered(&mut groups, 1, 4).as_deref(), broken, "it is given one again");
    groups.commits(commit(1, 1, 2, 0));
    groups.claimed(claim(2, 2, Some(2), 0));
    assert_eq!(delivered(&mut groups, 2, 3).as_deref(), broken, "it skips what the other had not committed");
    groups.claimed(claim(3, 2, Some(2), 0));
    assert_eq!(delivered(&mut groups, 2, 2), None);
}

#[test]
fn what_is_delivered_is_what_the_log_holds() {
    let mut groups = having(0..2);
    let copy =
        |records: &[(u64, u64)]| BTreeMap::from([("shared-0".to_owned(), BTreeMap::from([(1, records.to_vec())]))]);
    assert!(groups.judge(&copy(&[(0, 100), (1, 101)])).is_empty());
    assert_eq!(groups.judge(&copy(&[(0, 100), (1, 9)])).len(), 1);
    assert_eq!(groups.judge(&copy(&[(0, 100)])).len(), 1);
    groups.shelf("billing", "shared-0").expected.insert(1, 1);
    let other = promise(groups.delivered("billing", "shared-0", 1, 1, 9));
    assert_eq!(other.as_deref(), Some("members-read-what-the-log-holds"));
}
