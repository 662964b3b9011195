//! Each promise, kept and broken.

use super::story::{Story, append, append_by, at, failed, is, local_read, read, saw, unknown};
use crate::checkers::oracle;
use crate::history::{Call, Copies, Outcome, Terms, UNSEEN};

#[test]
fn what_was_acknowledged_is_there_and_is_seen() {
    let mut story = Story::default();
    story.does(Call::Create { replicas: 3 }, Outcome::Created);
    story.does(append(&[1, 2]), at(0, 2)).does(read(0, 10), saw(0, &[1, 2]));
    story.does(append(&[3]), at(2, 3)).does(read(1, 1), saw(1, &[2])).does(Call::End, is(3));
    story.does(read(3, 10), saw(3, &[])).does(read(9, 10), saw(9, &[])).does(local_read(0, 10), saw(0, &[1]));
    story.holds(&[1, 2, 3]).is_well();
}

#[test]
fn what_was_gone_before_anybody_saw_it_may_have_been_any_record() {
    let mut story = Story::default();
    story.does(append_by(1, &[1, 2]), unknown()).does(append_by(2, &[3]), at(3, 4)).does(append_by(3, &[4]), unknown());
    // All of one batch and the beginning of another one are not known.
    story.holds(&[UNSEEN, 1, 2, 3]).is_well();
    story.holds(&[UNSEEN, UNSEEN, 2, 3]).is_well();
    story.holds(&[UNSEEN, UNSEEN, UNSEEN, 3]).is_well();
    // The known part of a batch still says where the rest has to be.
    story.holds(&[UNSEEN, 2, UNSEEN, 3]).is_well();
    story.holds(&[1, UNSEEN, UNSEEN, 3]).is_well();
    story.holds(&[2, UNSEEN, UNSEEN, 3]).breaks(&["batch-is-atomic"]);
    story.holds(&[UNSEEN, UNSEEN, 1, 3]).breaks(&["batch-is-atomic"]);
    story.does(append_by(4, &[5]), failed()).holds(&[UNSEEN, UNSEEN, UNSEEN, 3]).is_well();
    story.does(append_by(5, &[6]), at(4, 5)).breaks(&["no-lost-record"]);
}

#[test]
fn nothing_happened_and_nothing_is_wrong() {
    Story::default().is_well();
    Story::default().holds(&[]).is_well();
}

#[test]
fn created_log_that_no_node_holds_is_found() {
    Story::default().does(Call::Create { replicas: 3 }, Outcome::Created).breaks(&["created-log-exists"]);
    Story::default().does(Call::Create { replicas: 3 }, unknown()).is_well();
}

#[test]
fn copy_that_skips_an_offset_or_starts_late_is_found() {
    let mut story = Story::default();
    story.does(append(&[1]), at(0, 1)).does(append(&[2]), at(1, 2));
    story.node_holds(1, vec![(0, 1), (2, 2)]).breaks(&["contiguous-offsets"]);
    story.node_holds(1, vec![(1, 1), (2, 2)]).breaks(&["contiguous-offsets"]);
    story.node_holds(1, vec![(0, 1), (1, 2)]).is_well();
}

#[test]
fn replica_that_holds_something_else_is_found_and_the_others_are_believed() {
    let mut story = Story::default();
    story.does(append(&[1]), at(0, 1)).does(append(&[2]), unknown()).holds(&[1]).is_well();
    story.node_holds(1, vec![(0, 1), (1, 2)]).breaks(&["replicas-agree"]);
    story.node_holds(1, vec![]).breaks(&["replicas-agree"]);
    story.node_holds(1, vec![(0, 2)]).breaks(&["replicas-agree"]);
}

#[test]
fn acknowledged_record_that_is_gone_is_found() {
    let mut story = Story::default();
    story.does(append(&[1]), at(0, 1)).does(append(&[2]), at(1, 2));
    story.holds(&[1]).breaks(&["no-lost-record"]);
    // A log that is gone altogether has lost all of it.
    let mut story = Story::default();
    story.does(append(&[1]), at(0, 1)).breaks(&["no-lost-record"]);
}

#[test]
fn record_that_landed_twice_is_found() {
    let mut story = Story::default();
    story.does(append(&[1, 2]), at(0, 2)).does(append(&[3]), unknown());
    story.holds(&[1, 2, 1, 2]).breaks(&["no-doubled-record"]);
    story.holds(&[1, 2, 3, 3]).breaks(&["no-doubled-record"]);
}

#[test]
fn acknowledged_record_elsewhere_than_said_is_found() {
    let mut story = Story::default();
    story.does(append_by(1, &[1]), at(0, 1)).does(append_by(2, &[2]), at(1, 2));
    story.holds(&[2, 1]).breaks(&["offset-never-changes-meaning"]);
}

#[test]
fn acknowledgement_of_more_or_fewer_offsets_than_records_is_found() {
    Story::default().does(append(&[1, 2]), at(0, 1)).holds(&[1, 2]).breaks(&["range-fits-batch"]);
    Story::default()
        .does(append(&[1]), at(1, 0))
        .holds(&[1])
        .breaks(&["offset-never-changes-meaning", "range-fits-batch"]);
}

#[test]
fn batch_of_unknown_outcome_is_there_whole_or_not_at_all() {
    let mut story = Story::default();
    story.does(append_by(1, &[1, 2, 3]), unknown());
    story.ask(append_by(2, &[4, 5]));
    for well in [&[][..], &[1, 2, 3], &[4, 5], &[1, 2, 3, 4, 5], &[4, 5, 1, 2, 3]] {
        story.holds(well).is_well();
    }
    for torn in [&[1, 2][..], &[3], &[1, 3, 2], &[1, 4, 5, 2, 3], &[5], &[5, 4]] {
        story.holds(torn).breaks(&["batch-is-atomic"]);
    }
}

#[test]
fn failed_append_that_landed_is_found() {
    let mut story = Story::default();
    story.does(append(&[1, 2]), failed()).holds(&[]).is_well();
    story.holds(&[1, 2]).breaks(&["failed-never-lands"]);
    story.holds(&[2]).breaks(&["failed-never-lands"]);
}

#[test]
fn record_that_nobody_appended_is_found() {
    Story::default().does(append(&[1]), at(0, 1)).holds(&[1, 99]).breaks(&["no-invented-record"]);
    Story::default().holds(&[99]).breaks(&["no-invented-record"]);
}

#[test]
fn record_of_another_log_is_found() {
    let history = crate::history::History::default();
    let id = history.invoke(std::time::Duration::ZERO, 1, "a", append(&[1]));
    history.complete(std::time::Duration::from_millis(1), id, at(0, 1));
    let holding = |log: &str| (log.to_owned(), [(1, vec![(0, 1)])].into());
    let copies = Copies::from([holding("a"), holding("b")]);
    let found = oracle::check(&history.snapshot(), &copies);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(found[0].promise, "no-invented-record");
    assert!(found[0].details.starts_with("log b: value 1 at [0] was appended to log a: #0"), "{}", found[0]);
}

#[test]
fn producers_later_append_before_its_earlier_one_is_found() {
    let mut story = Story::default();
    let (first, second) = (story.ask(append(&[1])), story.ask(append(&[2])));
    story.answer(first, at(0, 1)).answer(second, at(1, 2));
    story.holds(&[1, 2]).is_well();
    story.holds(&[2, 1]).breaks(&["offset-never-changes-meaning", "producer-order"]);
}

#[test]
fn append_that_was_given_up_may_land_after_later_ones() {
    let mut story = Story::default();
    let (first, second) = (story.ask(append(&[1])), story.ask(append(&[2])));
    story.answer(first, unknown()).answer(second, unknown());
    for well in [&[][..], &[1], &[2], &[1, 2], &[2, 1]] {
        story.holds(well).is_well();
    }
}

#[test]
fn read_of_what_the_log_does_not_hold_is_found() {
    let mut story = Story::default();
    story.does(append(&[1]), at(0, 1)).does(append(&[2]), unknown());
    // It was seen before it was committed, and then it was not.
    story.does(local_read(0, 10), saw(0, &[1, 2]));
    story.holds(&[1, 2]).is_well();
    story.holds(&[1]).breaks(&["reads-agree"]);
}

#[test]
fn read_that_skips_or_exceeds_what_was_asked_is_found() {
    let told = |call: Call, records: &[(u64, u64)]| {
        let mut story = Story::default();
        story.does(append(&[1, 2, 3]), at(0, 3)).does(call, Outcome::Read { records: records.to_vec() });
        story.holds(&[1, 2, 3]);
        story
    };
    told(local_read(0, 3), &[(0, 1), (1, 2)]).is_well();
    told(local_read(0, 3), &[(0, 1), (2, 3)]).breaks(&["reads-agree"]);
    told(local_read(0, 3), &[(1, 2), (2, 3)]).breaks(&["reads-agree"]);
    told(local_read(0, 3), &[(0, 1), (1, 3)]).breaks(&["reads-agree"]);
    told(local_read(0, 1), &[(0, 1), (1, 2)]).breaks(&["reads-agree"]);
}

#[test]
fn read_that_misses_what_was_acknowledged_before_is_found() {
    let mut story = Story::default();
    story.does(append(&[1, 2, 3]), at(0, 3)).holds(&[1, 2, 3]);
    story.does(read(0, 2), saw(0, &[1, 2])).does(local_read(0, 10), saw(0, &[1])).is_well();
    story.does(read(1, 10), saw(1, &[2])).breaks(&["reads-miss-nothing"]);
}

#[test]
fn read_may_miss_what_was_acknowledged_while_it_was_under_way() {
    let mut story = Story::default();
    let slow = story.ask(read(0, 10));
    story.does(append(&[1]), at(0, 1)).answer(slow, saw(0, &[]));
    story.holds(&[1]).is_well();
}

#[test]
fn end_below_what_was_acknowledged_before_is_found() {
    let mut story = Story::default();
    let slow = story.ask(Call::End);
    story.does(append(&[1]), at(0, 1)).answer(slow, is(0)).holds(&[1]).is_well();
    story.does(Call::End, is(0)).breaks(&["end-covers-acknowledged"]);
}

#[test]
fn end_beyond_the_log_is_found() {
    Story::default().does(append(&[1]), at(0, 1)).does(Call::End, is(2)).holds(&[1]).breaks(&["end-within-log"]);
}

#[test]
fn a_read_after_a_barrier_that_misses_what_lies_before_it_is_found() {
    let after = |from, max, barrier| Call::ReadAfter { from, max, barrier };
    let mut story = Story::default();
    story.does(append(&[1, 2, 3]), at(0, 3)).holds(&[1, 2, 3]);
    // What lies behind the barrier may be missed.
    story.does(after(0, 2, 3), saw(0, &[1, 2])).does(after(1, 10, 2), saw(1, &[2])).is_well();
    story.does(after(1, 10, 3), saw(1, &[2])).breaks(&["barrier-sees-all"]);
}

#[test]
fn a_replica_that_seems_younger_than_it_is_is_found() {
    let local = |end, age_ms| Outcome::LocalEnd { end, leader_end: 2, age_ms };
    let mut story = Story::default();
    // Acknowledged after 2 ms and after 4 ms; asked for after 5, 7, 9 and 11 ms.
    story.does(append(&[1]), at(0, 1)).does(append(&[2]), at(1, 2)).holds(&[1, 2]);
    let here = Call::LocalEnd { node: 1 };
    story.does(here.clone(), local(1, Some(2))).does(here.clone(), local(0, None));
    story.does(here.clone(), local(1, Some(6))).is_well();
    story.does(here, local(1, Some(7))).breaks(&["freshness-is-true"]);
}

#[test]
fn a_replica_that_knows_of_more_than_there_is_is_found() {
    let told = Outcome::LocalEnd { end: 1, leader_end: 2, age_ms: None };
    let mut story = Story::default();
    story.does(append(&[1]), at(0, 1)).does(Call::LocalEnd { node: 1 }, told).holds(&[1]);
    story.breaks(&["end-within-log"]);
}

#[test]
fn end_that_goes_back_is_found() {
    let mut story = Story::default();
    story.does(append(&[1]), unknown()).holds(&[1]);
    let (first, second) = (story.ask(Call::End), story.ask(Call::End));
    // Two that are under way together may come in either order.
    story.answer(first, is(1)).answer(second, is(0)).is_well();
    story.does(Call::End, is(0)).breaks(&["end-never-goes-back"]);
}

#[test]
fn one_defect_is_told_a_few_times_and_counted() {
    let mut story = Story::default();
    for value in 0..100 {
        story.does(append(&[value]), at(value, value + 1));
    }
    story.breaks(&["no-lost-record"]);
    let copies = Copies::from([("a".to_owned(), [(1, (0..100).map(|at| (at, 500 + at)).collect())].into())]);
    let found = oracle::check(&[], &copies);
    assert_eq!(found.len(), 8);
    assert!(found[7].details.ends_with("(and 92 more like it)"), "{}", found[7]);
}

fn under(epoch: u64, values: &[u64]) -> Call {
    let terms = Terms { epoch: Some(epoch), expected_end: None };
    Call::Append { producer: epoch, values: values.to_vec(), terms }
}

fn acquired(epoch: u64, end: u64) -> Outcome {
    Outcome::Acquired { epoch, end }
}

#[test]
fn writers_that_take_turns_are_well() {
    let mut story = Story::default();
    story.does(Call::Acquire, acquired(1, 0)).does(under(1, &[1]), at(0, 1)).does(Call::Acquire, acquired(2, 1));
    story.does(under(1, &[2]), Outcome::Fenced { current: 2 }).does(under(2, &[3]), at(1, 2));
    story.does(Call::Resolve { values: vec![2] }, Outcome::Resolved { landed: None });
    story.does(Call::Resolve { values: vec![3] }, Outcome::Resolved { landed: Some((1, 2)) });
    story.holds(&[1, 3]).is_well();
}

#[test]
fn epoch_that_was_given_twice_is_found() {
    let mut story = Story::default();
    story.does(Call::Acquire, acquired(1, 0)).does(Call::Acquire, acquired(1, 0)).holds(&[]);
    story.breaks(&["epoch-is-given-once"]);
}

#[test]
fn append_that_landed_under_an_older_epoch_is_found() {
    let mut story = Story::default();
    story.does(Call::Acquire, acquired(1, 0)).does(Call::Acquire, acquired(2, 0)).does(under(1, &[1]), at(0, 1));
    story.holds(&[1]).breaks(&["fenced-never-lands"]);
}

#[test]
fn fenced_append_that_landed_all_the_same_is_found() {
    let mut story = Story::default();
    story.does(Call::Acquire, acquired(1, 0)).does(Call::Acquire, acquired(2, 0));
    story.does(under(1, &[1]), Outcome::Fenced { current: 2 }).holds(&[1]).breaks(&["failed-never-lands"]);
}

#[test]
fn resolution_that_lies_is_found() {
    let mut story = Story::default();
    story.does(append(&[1]), unknown()).does(Call::Resolve { values: vec![1] }, Outcome::Resolved { landed: None });
    story.holds(&[]).is_well();
    story.holds(&[1]).breaks(&["resolve-never-lies"]);
    let mut story = Story::default();
    let landed = Outcome::Resolved { landed: Some((1, 2)) };
    story.does(append(&[1]), unknown()).does(Call::Resolve { values: vec![1] }, landed);
    story.holds(&[1]).breaks(&["resolve-never-lies"]);
    story.holds(&[]).breaks(&["resolve-never-lies"]);
}
