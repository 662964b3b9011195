//! Histories with an order, and without.

use std::time::Duration;

use super::story::{LOG, Story, append, append_by, at, failed, is, read, saw, unknown};
use crate::checkers::linearizable;
use crate::history::{Call, Copies, History, Outcome, Terms, UNSEEN};

#[test]
fn calls_beside_each_other_may_have_happened_in_any_order() {
    let mut story = Story::default();
    let (first, second) = (story.ask(append_by(1, &[1])), story.ask(append_by(2, &[2])));
    let look = story.ask(read(0, 10));
    story.answer(first, at(1, 2)).answer(look, saw(0, &[2])).answer(second, at(0, 1));
    story.holds(&[2, 1]).is_well();
}

#[test]
fn what_nobody_saw_may_have_come_at_any_time_between_those_around_it() {
    let mut story = Story::default();
    story.does(append(&[1]), at(0, 1)).does(Call::End, is(3)).does(append(&[2]), at(3, 4)).does(Call::End, is(5));
    story.does(read(3, 1), saw(3, &[2])).does(read(3, 10), saw(3, &[2])).does(read(9, 10), saw(9, &[]));
    story.holds(&[1, UNSEEN, UNSEEN, 2, UNSEEN]).is_well();
    story.does(Call::End, is(3)).breaks(&["end-never-goes-back", "end-covers-acknowledged"]);
    assert!(story.unordered().is_some(), "it was longer before");
}

#[test]
fn what_nobody_saw_is_no_excuse_for_a_stale_read() {
    let mut story = Story::default();
    story.does(append(&[1]), at(1, 2)).does(read(1, 10), saw(1, &[])).holds(&[UNSEEN, 1]);
    assert!(story.unordered().is_some());
}

#[test]
fn stale_read_has_no_place() {
    let mut story = Story::default();
    story.does(append(&[1]), at(0, 1)).does(read(0, 10), saw(0, &[])).holds(&[1]);
    assert_eq!(
        story.unordered().unwrap(),
        "log a: after 1 of 2 calls, the last of them #0 by client 1 (1ms to 2ms): append [1] at 0..1, it has 1 records, \
         and none of these can be next: #1 by client 1 (3ms to 4ms): read from 0, at most 10, saw nothing"
    );
}

#[test]
fn what_one_read_saw_a_later_one_sees() {
    // Nothing was acknowledged, so the oracle has nothing to hold against it.
    let mut story = Story::default();
    story.ask(append(&[1]));
    story.does(read(0, 10), saw(0, &[1])).holds(&[1]).is_well();
    story.does(read(0, 10), saw(0, &[])).breaks(&[]);
    assert!(story.unordered().is_some());
}

#[test]
fn append_that_was_answered_first_comes_first() {
    let mut story = Story::default();
    story.does(append_by(1, &[1]), at(1, 2)).does(append_by(2, &[2]), at(0, 1)).holds(&[2, 1]).breaks(&[]);
    assert!(story.unordered().is_some(), "the later append lies before the earlier one");
}

#[test]
fn append_of_unknown_outcome_may_land_long_after_its_caller_gave_up() {
    let mut story = Story::default();
    story.does(append_by(1, &[1]), unknown()).does(Call::End, is(0)).does(append_by(2, &[2]), at(0, 1));
    story.does(Call::End, is(1)).does(Call::End, is(2)).holds(&[2, 1]).is_well();
}

#[test]
fn append_never_lands_before_it_was_made() {
    let mut story = Story::default();
    story.does(Call::End, is(1)).does(append(&[1]), unknown()).holds(&[1]).breaks(&[]);
    assert!(story.unordered().is_some());
}

#[test]
fn what_left_nothing_behind_needs_no_place() {
    let mut story = Story::default();
    story.does(append(&[1]), failed()).does(append(&[2]), unknown()).does(append(&[3]), at(0, 1));
    story.ask(read(0, 10));
    story.holds(&[3]).is_well();
}

#[test]
fn what_is_asked_at_the_moment_of_an_answer_comes_after_it() {
    let moment = Duration::from_millis(5);
    let history = History::default();
    let first = history.invoke(Duration::ZERO, 1, LOG, append(&[1]));
    history.complete(moment, first, at(0, 1));
    let second = history.invoke(moment, 1, LOG, read(0, 10));
    history.complete(moment * 2, second, saw(0, &[]));
    let copies = Copies::from([(LOG.to_owned(), [(1, vec![(0, 1)])].into())]);
    assert_eq!(linearizable::check(&history.snapshot(), &copies).len(), 1);
}

#[test]
fn calls_that_take_no_time_are_beside_each_other() {
    let history = History::default();
    for (call, outcome) in [(Call::End, is(1)), (append(&[1]), at(0, 1)), (Call::End, is(0))] {
        let id = history.invoke(Duration::ZERO, 1, LOG, call);
        history.complete(Duration::ZERO, id, outcome);
    }
    let copies = Copies::from([(LOG.to_owned(), [(1, vec![(0, 1)])].into())]);
    assert_eq!(linearizable::check(&history.snapshot(), &copies), []);
}

#[test]
fn each_log_is_judged_by_itself() {
    let history = History::default();
    for (log, outcome) in [("a", saw(0, &[])), ("b", saw(0, &[7]))] {
        let id = history.invoke(Duration::ZERO, 1, log, read(0, 10));
        history.complete(Duration::from_millis(1), id, outcome);
    }
    let found = linearizable::check(&history.snapshot(), &Copies::new());
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].details.starts_with("log b: at the beginning, it has 0 records"), "{}", found[0]);
}

fn conditional(epoch: Option<u64>, expected_end: u64, values: &[u64]) -> Call {
    let terms = Terms { epoch, expected_end: Some(expected_end) };
    Call::Append { producer: 1, values: values.to_vec(), terms }
}

#[test]
fn conditional_append_lands_where_it_expects_to_alone() {
    let mut story = Story::default();
    story.does(conditional(None, 0, &[1]), at(0, 1)).does(conditional(None, 0, &[2]), Outcome::Mismatch { end: 1 });
    story.holds(&[1]).is_well();
    story.does(conditional(None, 0, &[3]), at(1, 2)).holds(&[1, 3]).breaks(&[]);
    assert!(story.unordered().is_some(), "it expected another end");
}

#[test]
fn refusal_has_to_name_the_end_that_there_was() {
    let mut story = Story::default();
    story.does(append(&[1]), at(0, 1)).does(conditional(None, 0, &[2]), Outcome::Mismatch { end: 5 }).holds(&[1]);
    assert!(story.unordered().is_some());
    let mut story = Story::default();
    story.does(append(&[1]), at(0, 1)).does(conditional(None, 1, &[2]), Outcome::Mismatch { end: 1 }).holds(&[1]);
    assert!(story.unordered().is_some(), "it ended where it was expected to");
}

#[test]
fn acquisition_tells_the_end_that_older_writers_left() {
    let acquired = |epoch, end| Outcome::Acquired { epoch, end };
    let mut story = Story::default();
    story.does(Call::Acquire, acquired(1, 0)).does(conditional(Some(1), 0, &[1]), at(0, 1));
    story.does(Call::Acquire, acquired(2, 1)).holds(&[1]).is_well();
    let mut story = Story::default();
    story.does(Call::Acquire, acquired(1, 0)).does(conditional(Some(1), 0, &[1]), at(0, 1));
    story.does(Call::Acquire, acquired(2, 0)).holds(&[1]);
    assert!(story.unordered().is_some(), "a record came before it");
}

#[test]
fn acquisition_of_unknown_outcome_may_have_fenced_and_may_not() {
    let mut story = Story::default();
    story.does(Call::Acquire, Outcome::Acquired { epoch: 1, end: 0 }).does(Call::Acquire, unknown());
    story.does(conditional(Some(1), 0, &[1]), at(0, 1)).holds(&[1]).is_well();
    story.does(conditional(Some(1), 1, &[2]), Outcome::Fenced { current: 2 }).is_well();
    story.does(conditional(Some(1), 1, &[3]), at(1, 2)).holds(&[1, 3]).breaks(&[]);
    assert!(story.unordered().is_some(), "it was fenced before");
}
