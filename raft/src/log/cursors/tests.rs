use super::*;

const NOW: Timestamp = Timestamp::new(1_700_000_000_000);
const END: Offset = Offset::new(100);

fn to(position: u64) -> stored::CommitCursor {
    stored::CommitCursor { position, ..stored::CommitCursor::default() }
}

fn under(generation: u64, position: u64) -> stored::CommitCursor {
    stored::CommitCursor { generation, ..to(position) }
}

fn from(expected: Option<u64>, position: u64) -> stored::CommitCursor {
    let expected = expected.map_or(Expected::NoPosition(stored::Blank {}), Expected::PositionIs);
    stored::CommitCursor { expected: Some(expected), ..to(position) }
}

fn run(cursors: &mut Cursors, name: &str, action: Action, now: Timestamp) -> Result<CursorAnswer, CursorRefusal> {
    cursors.run(name.to_owned(), action, END, now)
}

fn commit(cursors: &mut Cursors, name: &str, commit: stored::CommitCursor) -> Result<CursorAnswer, CursorRefusal> {
    run(cursors, name, Action::Commit(commit), NOW)
}

fn claim(cursors: &mut Cursors, name: &str, generation: u64) -> Result<CursorAnswer, CursorRefusal> {
    run(cursors, name, Action::Claim(stored::ClaimCursor { generation }), NOW)
}

fn position(cursors: &Cursors, name: &str) -> Option<u64> {
    cursors.get(name)?.position.map(Offset::get)
}

fn carried(commits: &[(&str, stored::CommitCursor)]) -> Vec<stored::CarriedCommit> {
    let one = |(name, commit): &(&str, stored::CommitCursor)| stored::CarriedCommit {
        cursor: (*name).to_owned(),
        commit: Some(commit.clone()),
    };
    commits.iter().map(one).collect()
}

#[test]
fn cursor_is_where_it_was_committed_and_may_go_back() {
    let mut cursors = Cursors::default();
    assert_eq!(position(&cursors, "a"), None);
    for at in [7, 100, 3] {
        assert_eq!(commit(&mut cursors, "a", to(at)), Ok(CursorAnswer::Committed));
        assert_eq!(position(&cursors, "a"), Some(at));
    }
    assert_eq!(position(&cursors, "b"), None);
}

#[test]
fn position_beyond_the_end_is_refused_but_for_another_logs() {
    let mut cursors = Cursors::default();
    assert_eq!(commit(&mut cursors, "a", to(101)), Err(CursorRefusal::BeyondEnd { end: END }));
    assert_eq!(cursors, Cursors::default());
    let elsewhere = stored::CommitCursor { of: 9, ..to(101) };
    assert_eq!(commit(&mut cursors, "a", elsewhere), Ok(CursorAnswer::Committed));
    assert_eq!(cursors.get("a").unwrap().of, Some(LogId::new(9)));
}

#[test]
fn compared_commit_takes_the_cursor_from_where_it_is_alone() {
    let mut cursors = Cursors::default();
    let mismatch = |position: Option<u64>| CursorRefusal::Mismatch { position: position.map(Offset::new), of: None };
    assert_eq!(commit(&mut cursors, "a", from(Some(0), 1)), Err(mismatch(None)));
    assert_eq!(commit(&mut cursors, "a", from(None, 1)), Ok(CursorAnswer::Committed));
    assert_eq!(commit(&mut cursors, "a", from(None, 2)), Err(mismatch(Some(1))));
    assert_eq!(commit(&mut cursors, "a", from(Some(1), 2)), Ok(CursorAnswer::Committed));
    assert_eq!(commit(&mut cursors, "a", from(Some(1), 3)), Err(mismatch(Some(2))));
    // The same number in another log is another position.
    let elsewhere = stored::CommitCursor { of: 9, ..from(Some(2), 3) };
    assert_eq!(commit(&mut cursors, "a", elsewhere), Err(mismatch(Some(2))));
    assert_eq!(position(&cursors, "a"), Some(2));
}

#[test]
fn claim_fences_those_of_a_lower_generation_and_tells_the_position() {
    let mut cursors = Cursors::default();
    commit(&mut cursors, "a", under(1, 5)).unwrap();
    let Ok(CursorAnswer::Claimed(claimed)) = claim(&mut cursors, "a", 2) else { panic!("it is claimed") };
    assert_eq!((claimed.position, claimed.generation), (Some(Offset::new(5)), 2));
    let fenced = Err(CursorRefusal::Fenced { generation: 2 });
    assert_eq!(commit(&mut cursors, "a", under(1, 6)), fenced);
    // Whoever is fenced is told so first, wherever it took the cursor to be.
    assert_eq!(commit(&mut cursors, "a", stored::CommitCursor { generation: 1, ..from(Some(99), 999) }), fenced);
    assert_eq!(claim(&mut cursors, "a", 1), fenced);
    assert_eq!(commit(&mut cursors, "a", under(2, 6)), Ok(CursorAnswer::Committed));
    // A higher one is taken, and kept.
    assert_eq!(commit(&mut cursors, "a", under(4, 7)), Ok(CursorAnswer::Committed));
    assert_eq!(commit(&mut cursors, "a", under(3, 8)), Err(CursorRefusal::Fenced { generation: 4 }));
    assert_eq!(position(&cursors, "a"), Some(7));
}

#[test]
fn claim_of_no_cursor_makes_one_without_a_position() {
    let mut cursors = Cursors::default();
    let Ok(CursorAnswer::Claimed(claimed)) = claim(&mut cursors, "a", 3) else { panic!("it is claimed") };
    assert_eq!((claimed.position, claimed.generation), (None, 3));
    assert_eq!(commit(&mut cursors, "a", under(2, 0)), Err(CursorRefusal::Fenced { generation: 3 }));
    let first = stored::CommitCursor { generation: 3, ..from(None, 4) };
    assert_eq!(commit(&mut cursors, "a", first), Ok(CursorAnswer::Committed));
}

#[test]
fn repeated_commit_changes_nothing_even_when_it_comes_late() {
    let mut cursors = Cursors::default();
    let first = stored::CommitCursor { request_id: 11, ..from(None, 1) };
    assert_eq!(commit(&mut cursors, "a", first.clone()), Ok(CursorAnswer::Committed));
    assert_eq!(commit(&mut cursors, "a", first.clone()), Ok(CursorAnswer::Committed), "it is told that it was done");
    for later in 0..REMEMBERED_COMMITS as u64 - 1 {
        commit(&mut cursors, "a", stored::CommitCursor { request_id: 12 + later, ..to(50 + later) }).unwrap();
    }
    assert_eq!(commit(&mut cursors, "a", first.clone()), Ok(CursorAnswer::Committed));
    assert_eq!(position(&cursors, "a"), Some(56));
    // One more, and it is not known any more: what it expects is looked at.
    commit(&mut cursors, "a", stored::CommitCursor { request_id: 99, ..to(60) }).unwrap();
    assert!(matches!(commit(&mut cursors, "a", first), Err(CursorRefusal::Mismatch { .. })));
}

#[test]
fn carried_commits_are_refused_together_and_change_nothing_before_the_append_lands() {
    let mut cursors = Cursors::default();
    commit(&mut cursors, "a", under(2, 5)).unwrap();
    let before = cursors.totals();
    let refused = cursors.refuses_carried(&carried(&[("b", to(1)), ("a", under(1, 6))]), END);
    assert_eq!(refused, Some(("a".to_owned(), CursorRefusal::Fenced { generation: 2 })));
    let both = carried(&[("b", to(1)), ("a", under(2, 6))]);
    assert_eq!(cursors.refuses_carried(&both, END), None);
    assert_eq!((position(&cursors, "a"), position(&cursors, "b"), cursors.totals()), (Some(5), None, before));
    cursors.commit_carried(both, NOW);
    assert_eq!((position(&cursors, "a"), position(&cursors, "b")), (Some(6), Some(1)));
}

#[test]
fn there_are_no_more_cursors_than_the_bound_and_those_that_are_there_move_on() {
    let mut cursors = Cursors::default();
    for n in 0..MAX_CURSORS - 1 {
        commit(&mut cursors, &n.to_string(), to(1)).unwrap();
    }
    let limit = MAX_CURSORS as u64;
    let two = carried(&[("x", to(1)), ("y", to(1))]);
    let refused = cursors.refuses_carried(&two, END);
    assert_eq!(refused, Some(("y".to_owned(), CursorRefusal::TooMany { limit })), "both have to have room");
    commit(&mut cursors, "x", to(1)).unwrap();
    assert_eq!(commit(&mut cursors, "y", to(1)), Err(CursorRefusal::TooMany { limit }));
    assert_eq!(claim(&mut cursors, "y", 1), Err(CursorRefusal::TooMany { limit }));
    assert_eq!(commit(&mut cursors, "7", to(2)), Ok(CursorAnswer::Committed));
    let deleted = run(&mut cursors, "7", Action::Delete(stored::DeleteCursor {}), NOW);
    assert_eq!(deleted, Ok(CursorAnswer::Deleted { existed: true }));
    assert_eq!(commit(&mut cursors, "y", to(1)), Ok(CursorAnswer::Committed));
}

#[test]
fn cursors_expire_by_log_time_the_oldest_first_and_not_at_all_without_a_time() {
    let mut cursors = Cursors::default();
    commit(&mut cursors, "old", to(1)).unwrap();
    let later = Timestamp::new(NOW.get() + 500);
    run(&mut cursors, "young", Action::Claim(stored::ClaimCursor { generation: 0 }), later).unwrap();
    let at = |ms| Timestamp::new(NOW.get() + ms);
    let none = BTreeSet::new();
    cursors.expire(at(1_000_000), 0, &none);
    cursors.expire(at(1_000), 1_000, &none);
    assert_eq!(cursors.totals().count, 2);
    assert!(cursors.is_due(at(1_001), 1_000));
    cursors.expire(at(1_001), 1_000, &none);
    assert_eq!((position(&cursors, "old"), cursors.totals().count), (None, 1));
    cursors.expire(at(-9_000), 1_000, &none);
    assert_eq!(cursors.totals().count, 1, "a clock that went back lets none go");
    cursors.expire(at(1_501), 1_000, &BTreeSet::from(["young"]));
    assert_eq!(cursors.totals().count, 1, "it is named");
    cursors.expire(at(1_501), 1_000, &none);
    assert_eq!((cursors.totals().count, cursors.totals().bytes), (0, 0));
}

#[test]
fn names_are_listed_in_their_order_by_their_beginning_and_after_one() {
    let mut cursors = Cursors::default();
    for name in ["b", "a/2", "a/1", "a/3", "c"] {
        commit(&mut cursors, name, to(1)).unwrap();
    }
    let names = |prefix, after| cursors.named(prefix, after).map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(names("", ""), ["a/1", "a/2", "a/3", "b", "c"]);
    assert_eq!(names("a/", ""), ["a/1", "a/2", "a/3"]);
    assert_eq!(names("a/", "a/1"), ["a/2", "a/3"]);
    assert_eq!(names("a/", "a/3"), [""; 0]);
    assert_eq!(names("", "a/3"), ["b", "c"]);
    assert_eq!(names("b", "a/3"), ["b"]);
}

#[test]
fn image_holds_everything_and_a_wrong_one_is_refused() {
    let mut cursors = Cursors::default();
    let metadata = Bytes::from_static(b"mine");
    let full = stored::CommitCursor { of: 9, metadata, request_id: 5, ..under(3, 7) };
    commit(&mut cursors, "a", full.clone()).unwrap();
    claim(&mut cursors, "b", 4).unwrap();
    let image = cursors.image();
    let mut copy = Cursors::from_image(image.clone(), cursors.written).unwrap();
    assert_eq!(copy, cursors);
    assert_eq!(commit(&mut copy, "a", full), Ok(CursorAnswer::Committed), "the copy knows the request");

    Cursors::from_image(image.iter().rev().cloned().collect(), 0).unwrap_err();
    Cursors::from_image(vec![image[0].clone(), image[0].clone()], 0).unwrap_err();
    Cursors::from_image(image.clone(), u64::MAX).unwrap_err();
    let mut many = image;
    many[0].recent = vec![1; REMEMBERED_COMMITS + 1];
    Cursors::from_image(many, 0).unwrap_err();
    let named = |n: usize| stored::Cursor { name: format!("{n:06}"), ..stored::Cursor::default() };
    Cursors::from_image((0..=MAX_CURSORS).map(named).collect(), 0).unwrap_err();
}
