//! Histories of cursors and leases that have an order, and that have none.

use super::story::{Story, failed, unknown};
use crate::history::{Call, CursorAnswer, CursorCall, LeaseAnswer, LeaseCall, Outcome};

fn cursor(call: CursorCall) -> Call {
    Call::Cursor { cursor: "c".to_owned(), call }
}

fn commit(position: u64, generation: u64) -> Call {
    cursor(CursorCall::Commit { position, generation, expected: None })
}

fn compare(expected: Option<u64>, position: u64) -> Call {
    cursor(CursorCall::Commit { position, generation: 0, expected: Some(expected) })
}

fn claim(generation: u64) -> Call {
    cursor(CursorCall::Claim { generation })
}

fn get() -> Call {
    cursor(CursorCall::Get)
}

const COMMITTED: Outcome = Outcome::Cursor(CursorAnswer::Committed);
const MISSING: Outcome = Outcome::Cursor(CursorAnswer::Missing);

fn is(position: u64, generation: u64) -> Outcome {
    Outcome::Cursor(CursorAnswer::Is { position: Some(position), generation })
}

fn nowhere(generation: u64) -> Outcome {
    Outcome::Cursor(CursorAnswer::Is { position: None, generation })
}

fn fenced(generation: u64) -> Outcome {
    Outcome::Cursor(CursorAnswer::Fenced { generation })
}

fn mismatch(position: Option<u64>) -> Outcome {
    Outcome::Cursor(CursorAnswer::Mismatch { position })
}

fn deleted(existed: bool) -> Outcome {
    Outcome::Cursor(CursorAnswer::Deleted { existed })
}

fn lease(holder: &str, call: LeaseCall) -> Call {
    Call::Lease { holder: holder.to_owned(), call }
}

fn hold(offset: u64) -> Call {
    lease("h", LeaseCall::Hold { offset, grant: 0, ends: false })
}

fn hold_shortly(offset: u64) -> Call {
    lease("h", LeaseCall::Hold { offset, grant: 0, ends: true })
}

fn renew(offset: u64) -> Call {
    lease("h", LeaseCall::Hold { offset, grant: 1, ends: false })
}

fn release() -> Call {
    lease("h", LeaseCall::Release { grant: 1 })
}

fn look() -> Call {
    lease("h", LeaseCall::Get)
}

fn held(offset: u64) -> Outcome {
    held_by(1, offset)
}

fn held_by(grant: u64, offset: u64) -> Outcome {
    Outcome::Lease(LeaseAnswer::Held { grant, offset })
}

fn held_now_by(grant: u64) -> Outcome {
    Outcome::Lease(LeaseAnswer::NotHeld { now: Some(grant) })
}

const NOT_HELD: Outcome = Outcome::Lease(LeaseAnswer::NotHeld { now: None });

fn released(existed: bool) -> Outcome {
    Outcome::Lease(LeaseAnswer::Released { existed })
}

fn strands(holder: &str, offset: u64) -> Outcome {
    Outcome::Strands { leases: vec![(holder.to_owned(), offset)] }
}

/// Plays calls one after the other.
fn played(calls: Vec<(Call, Outcome)>) -> Story {
    let mut story = Story::default();
    for (call, outcome) in calls {
        story.does(call, outcome);
    }
    story
}

fn has_an_order(calls: Vec<(Call, Outcome)>) {
    assert_eq!(played(calls).found(), Vec::<String>::new());
}

#[track_caller]
fn has_none(promise: &str, calls: Vec<(Call, Outcome)>) {
    let found = played(calls).found();
    assert!(matches!(&found[..], [one] if one.starts_with(promise)), "{found:#?}");
}

#[track_caller]
fn no_cursor_does(calls: Vec<(Call, Outcome)>) {
    has_none("cursors-linearizable: log a, cursor c: ", calls);
}

#[track_caller]
fn no_lease_does(calls: Vec<(Call, Outcome)>) {
    has_none("leases-linearizable: log a, lease of h: ", calls);
}

#[test]
fn cursor_is_where_the_last_commit_left_it_and_nowhere_else() {
    has_an_order(vec![(get(), MISSING), (commit(5, 0), COMMITTED), (get(), is(5, 0))]);
    no_cursor_does(vec![(commit(5, 0), COMMITTED), (get(), MISSING)]);
    no_cursor_does(vec![(commit(5, 0), COMMITTED), (commit(6, 0), COMMITTED), (get(), is(5, 0))]);
    no_cursor_does(vec![(get(), is(5, 0)), (commit(5, 0), COMMITTED)]);
    no_cursor_does(vec![(commit(5, 0), failed()), (get(), is(5, 0))]);
}

#[test]
fn commits_beside_each_other_may_come_in_any_order_and_all_see_the_same() {
    let mut story = Story::default();
    let (first, second) = (story.ask(commit(1, 0)), story.ask(commit(2, 0)));
    story.answer(first, COMMITTED).answer(second, COMMITTED).does(get(), is(1, 0));
    assert_eq!(story.found(), Vec::<String>::new());
    story.does(get(), is(2, 0));
    assert_eq!(story.found().len(), 1, "it has gone from one to the other, and nobody moved it");
}

#[test]
fn commit_of_unknown_outcome_lands_at_any_time_and_once() {
    let late = vec![(commit(5, 0), unknown()), (commit(6, 0), COMMITTED), (get(), is(6, 0)), (get(), is(5, 0))];
    has_an_order(late.clone());
    has_an_order(vec![(commit(5, 0), unknown()), (get(), MISSING)]);
    let again = [(commit(7, 0), COMMITTED), (get(), is(5, 0))];
    no_cursor_does(late.into_iter().chain(again).collect());
}

#[test]
fn comparison_commits_where_it_expects_to_alone() {
    has_an_order(vec![
        (compare(None, 3), COMMITTED),
        (compare(None, 4), mismatch(Some(3))),
        (compare(Some(3), 5), COMMITTED),
    ]);
    no_cursor_does(vec![(compare(None, 3), COMMITTED), (compare(None, 4), COMMITTED)]);
    no_cursor_does(vec![(compare(None, 3), COMMITTED), (compare(Some(3), 4), mismatch(Some(3)))]);
    no_cursor_does(vec![(compare(None, 3), COMMITTED), (compare(Some(9), 4), mismatch(Some(8)))]);
}

#[test]
fn of_two_comparisons_one_is_taken() {
    let mut story = Story::default();
    let (first, second) = (story.ask(compare(None, 1)), story.ask(compare(None, 2)));
    story.answer(first, COMMITTED).answer(second, COMMITTED);
    assert_eq!(story.found().len(), 1, "both expected the same");
}

#[test]
fn claim_fences_what_comes_under_a_lower_generation() {
    has_an_order(vec![
        (commit(5, 0), COMMITTED),
        (claim(2), is(5, 2)),
        (commit(6, 1), fenced(2)),
        (claim(1), fenced(2)),
        (commit(7, 3), COMMITTED),
        (get(), is(7, 3)),
    ]);
    has_an_order(vec![(claim(1), nowhere(1)), (get(), nowhere(1))]);
    no_cursor_does(vec![(claim(2), nowhere(2)), (commit(6, 1), COMMITTED)]);
    no_cursor_does(vec![(claim(2), nowhere(2)), (commit(6, 1), fenced(3))]);
    no_cursor_does(vec![(commit(5, 0), COMMITTED), (claim(1), nowhere(1))]);
    no_cursor_does(vec![(claim(2), nowhere(2)), (commit(6, 2), fenced(2))]);
    // A claim that was not answered may have fenced it, or not yet.
    has_an_order(vec![(claim(2), unknown()), (commit(6, 1), COMMITTED), (commit(7, 1), fenced(2))]);
}

#[test]
fn deleted_cursor_is_gone_with_its_generation() {
    let delete = || cursor(CursorCall::Delete);
    has_an_order(vec![
        (claim(7), nowhere(7)),
        (delete(), deleted(true)),
        (delete(), deleted(false)),
        (commit(1, 0), COMMITTED),
    ]);
    no_cursor_does(vec![(delete(), deleted(true))]);
    no_cursor_does(vec![(commit(1, 0), COMMITTED), (delete(), deleted(false))]);
    no_cursor_does(vec![(commit(1, 0), COMMITTED), (delete(), deleted(true)), (get(), is(1, 0))]);
}

#[test]
fn cursor_expires_once_it_may_and_not_before() {
    let expire = || (cursor(CursorCall::Expire), unknown());
    has_an_order(vec![(commit(1, 4), COMMITTED), expire(), (get(), is(1, 4)), (get(), MISSING)]);
    has_an_order(vec![(commit(1, 4), COMMITTED), expire(), (commit(2, 0), COMMITTED), (get(), is(2, 0))]);
    no_cursor_does(vec![(commit(1, 4), COMMITTED), (get(), MISSING), expire()]);
    no_cursor_does(vec![(commit(1, 4), COMMITTED), expire(), (get(), MISSING), (get(), is(1, 4))]);
}

#[test]
fn lease_is_held_until_it_is_released() {
    has_an_order(vec![
        (look(), NOT_HELD),
        (hold(5), held(5)),
        (look(), held(5)),
        (renew(7), held(7)),
        (release(), released(true)),
        (renew(9), NOT_HELD),
        (release(), released(false)),
    ]);
    no_lease_does(vec![(hold(5), held(5)), (look(), NOT_HELD)]);
    no_lease_does(vec![(hold(5), held(5)), (hold(7), held_by(2, 7)), (look(), held(5))]);
    no_lease_does(vec![(hold(5), held(5)), (renew(6), NOT_HELD)]);
    no_lease_does(vec![(hold(5), held(5)), (release(), released(true)), (look(), held(5))]);
    no_lease_does(vec![(hold(5), held(5)), (release(), released(false))]);
    no_lease_does(vec![(renew(5), held(5))]);
}

#[test]
fn what_is_meant_for_a_grant_does_nothing_to_the_next() {
    let again = || vec![(hold(5), held(5)), (hold(7), held_by(2, 7))];
    let then = |calls: Vec<(Call, Outcome)>| again().into_iter().chain(calls).collect();
    has_an_order(then(vec![(renew(8), held_now_by(2)), (release(), held_now_by(2)), (look(), held_by(2, 7))]));
    has_an_order(then(vec![(release(), unknown()), (look(), held_by(2, 7))]));
    no_lease_does(then(vec![(renew(8), held(8))]));
    no_lease_does(then(vec![(release(), released(true))]));
    no_lease_does(then(vec![(release(), unknown()), (look(), NOT_HELD)]));
    no_lease_does(then(vec![(renew(8), held_now_by(3))]));
    // No number is given twice.
    no_lease_does(vec![(hold(5), held(5)), (hold(7), held(7))]);
    no_lease_does(vec![(hold(5), held_by(2, 5)), (hold(7), held(7))]);
    no_lease_does(vec![(hold(5), held_by(2, 5)), (hold(7), unknown()), (look(), held(7))]);
    has_an_order(vec![(hold(5), held_by(2, 5)), (hold(7), unknown()), (look(), held_by(4, 7))]);
}

#[test]
fn what_was_not_answered_of_a_lease_lands_at_any_time_or_never() {
    has_an_order(vec![(hold(5), unknown()), (look(), NOT_HELD), (look(), held(5))]);
    has_an_order(vec![(hold(5), held(5)), (release(), unknown()), (look(), held(5)), (renew(6), NOT_HELD)]);
    // A renewal makes no lease, whenever it lands.
    no_lease_does(vec![(renew(5), unknown()), (look(), held(5))]);
    no_lease_does(vec![(hold(5), unknown()), (look(), held(5)), (look(), NOT_HELD)]);
}

#[test]
fn lease_for_a_short_time_ends_by_itself_and_for_good() {
    has_an_order(vec![(hold_shortly(5), held(5)), (look(), held(5)), (look(), NOT_HELD), (release(), released(false))]);
    has_an_order(vec![(hold_shortly(5), held(5)), (renew(6), held(6)), (look(), held(6))]);
    has_an_order(vec![(hold_shortly(5), held(5)), (renew(6), NOT_HELD), (look(), NOT_HELD)]);
    no_lease_does(vec![(hold_shortly(5), held(5)), (look(), NOT_HELD), (look(), held(5))]);
    // Renewed for long, it ends no more by itself.
    no_lease_does(vec![(hold_shortly(5), held(5)), (renew(6), held(6)), (look(), NOT_HELD)]);
}

#[test]
fn no_trim_passes_a_lease_and_a_refused_one_names_it() {
    let trim = |to| Call::Trim { to };
    let trimmed = |start| Outcome::Trimmed { start };
    has_an_order(vec![
        (trim(2), trimmed(2)),
        (hold(5), held(5)),
        (trim(5), trimmed(5)),
        (trim(6), strands("h", 5)),
        (trim(6), strands("somebody else", 5)),
        (release(), released(true)),
        (trim(6), trimmed(6)),
    ]);
    has_an_order(vec![(hold_shortly(5), held(5)), (trim(6), trimmed(6)), (look(), NOT_HELD)]);
    no_lease_does(vec![(hold(5), held(5)), (trim(6), trimmed(6))]);
    no_lease_does(vec![(look(), NOT_HELD), (trim(6), strands("h", 5))]);
    no_lease_does(vec![(hold(5), held(5)), (trim(6), strands("h", 4))]);
    no_lease_does(vec![(hold_shortly(5), held(5)), (trim(6), trimmed(6)), (look(), held(5))]);
}

#[test]
fn each_cursor_and_each_lease_is_judged_by_itself() {
    let other = |call| Call::Cursor { cursor: "d".to_owned(), call };
    has_an_order(vec![(commit(5, 0), COMMITTED), (other(CursorCall::Get), MISSING)]);
    has_an_order(vec![(hold(5), held(5)), (lease("i", LeaseCall::Get), NOT_HELD)]);
    let mut story = played(vec![(commit(5, 0), COMMITTED), (get(), MISSING), (hold(5), held(5)), (look(), NOT_HELD)]);
    assert_eq!(story.found().len(), 2);
    // The log's own order says nothing of them.
    story.holds(&[]).breaks(&[]);
}
