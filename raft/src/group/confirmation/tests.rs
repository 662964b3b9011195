use super::*;

const MS: fn(u64) -> Duration = Duration::from_millis;

/// A clock that is set by hand.
#[derive(Default)]
struct Hand(std::sync::atomic::AtomicU64);

impl Hand {
    fn set(&self, ms: u64) {
        self.0.store(ms, std::sync::atomic::Ordering::Relaxed);
    }
}

impl Clock for Hand {
    fn monotonic(&self) -> Duration {
        MS(self.0.load(std::sync::atomic::Ordering::Relaxed))
    }

    fn wall(&self) -> quipu_protocol::Timestamp {
        unreachable!("nothing here goes by the wall clock")
    }

    fn sleep(&self, _duration: Duration) -> quipu_protocol::environment::BoxFuture<'static, ()> {
        unreachable!("nothing here waits for time to pass")
    }
}

/// The answers to leader 1, whose clock is set by hand.
fn leader() -> (Arc<Hand>, Confirmations) {
    let clock = Arc::new(Hand::default());
    (Arc::clone(&clock), Confirmations::new(clock))
}

fn voters<const N: usize>(sets: [&[u64]; N]) -> Vec<BTreeSet<u64>> {
    sets.into_iter().map(|set| set.iter().copied().collect()).collect()
}

fn in_term(term: u64, voters: &[BTreeSet<u64>]) -> Electorate<'_> {
    Electorate { leader: 1, term: Term::new(term), voters }
}

/// What `replica` has answered, in term 5, to something that is sent now.
fn answers(confirmations: &Confirmations, replicas: &[u64]) {
    for replica in replicas {
        let request = confirmations.send();
        confirmations.answer(Term::new(5), *replica, request);
    }
}

#[test]
fn a_majority_has_followed_once_it_answered_what_was_sent_after_the_mark() {
    let (_, confirmations) = leader();
    let five = voters([&[1, 2, 3, 4, 5]]);
    answers(&confirmations, &[2, 3, 4, 5]);
    let mark = confirmations.mark();
    assert!(!confirmations.since(mark, in_term(5, &five)), "all of that was sent before");
    answers(&confirmations, &[4]);
    assert!(!confirmations.since(mark, in_term(5, &five)), "two of five");
    answers(&confirmations, &[4, 4]);
    assert!(!confirmations.since(mark, in_term(5, &five)), "two of five, one of them thrice");
    answers(&confirmations, &[2]);
    assert!(confirmations.since(mark, in_term(5, &five)), "three of five");
}

#[test]
fn half_is_no_majority() {
    let (_, confirmations) = leader();
    let four = voters([&[1, 2, 3, 4]]);
    let mark = confirmations.mark();
    answers(&confirmations, &[2]);
    assert!(!confirmations.since(mark, in_term(5, &four)));
    answers(&confirmations, &[3]);
    assert!(confirmations.since(mark, in_term(5, &four)));
}

#[test]
fn an_answer_counts_for_what_it_answers_and_not_for_what_was_sent_later() {
    let (clock, confirmations) = leader();
    let two = voters([&[1, 2]]);
    clock.set(100);
    let before = confirmations.send();
    // The leader is paused, goes on, and is asked for a barrier.
    clock.set(9_000);
    let mark = confirmations.mark();
    let after = confirmations.send();
    confirmations.answer(Term::new(5), 2, before);
    assert!(!confirmations.since(mark, in_term(5, &two)));
    assert_eq!(confirmations.as_of(MS(9_000), in_term(5, &two)), Some(MS(100)));
    confirmations.answer(Term::new(5), 2, after);
    assert!(confirmations.since(mark, in_term(5, &two)));
    assert_eq!(confirmations.as_of(MS(9_000), in_term(5, &two)), Some(MS(9_000)));
}

#[test]
fn what_was_sent_before_a_mark_stays_before_it_though_the_clock_stands_still() {
    let (_, confirmations) = leader();
    let two = voters([&[1, 2]]);
    let before = confirmations.send();
    let mark = confirmations.mark();
    confirmations.answer(Term::new(5), 2, before);
    assert!(!confirmations.since(mark, in_term(5, &two)));
}

#[test]
fn a_late_answer_takes_nothing_back() {
    let (clock, confirmations) = leader();
    let two = voters([&[1, 2]]);
    let early = confirmations.send();
    let mark = confirmations.mark();
    clock.set(70);
    answers(&confirmations, &[2]);
    confirmations.answer(Term::new(5), 2, early);
    assert!(confirmations.since(mark, in_term(5, &two)));
    assert_eq!(confirmations.as_of(MS(80), in_term(5, &two)), Some(MS(70)));
}

#[test]
fn answers_of_another_term_count_for_nothing() {
    let (clock, confirmations) = leader();
    let two = voters([&[1, 2]]);
    let mark = confirmations.mark();
    clock.set(10);
    let (old, new) = (confirmations.send(), confirmations.send());
    confirmations.answer(Term::new(5), 2, old);
    assert!(confirmations.since(mark, in_term(5, &two)));
    for other in [4, 6] {
        assert!(!confirmations.since(mark, in_term(other, &two)), "term {other}");
        assert_eq!(confirmations.as_of(MS(10), in_term(other, &two)), None, "term {other}");
    }
    // Elected again: what the last term was answered is forgotten, and stays so.
    confirmations.answer(Term::new(7), 3, new);
    confirmations.answer(Term::new(5), 2, old);
    assert!(!confirmations.since(mark, in_term(5, &two)) && !confirmations.since(mark, in_term(7, &two)));
    assert!(confirmations.since(mark, in_term(7, &voters([&[1, 3]]))));
}

#[test]
fn while_one_set_of_voters_replaces_another_both_have_to_follow() {
    let (clock, confirmations) = leader();
    let joint = voters([&[1, 2, 3], &[4, 5, 6]]);
    let mark = confirmations.mark();
    clock.set(20);
    answers(&confirmations, &[2, 3]);
    assert!(!confirmations.since(mark, in_term(5, &joint)));
    assert_eq!(confirmations.as_of(MS(50), in_term(5, &joint)), None);
    clock.set(30);
    answers(&confirmations, &[4, 5]);
    assert!(confirmations.since(mark, in_term(5, &joint)));
    // The old ones as of now, by the leader, and as of 20; the new ones as of 30.
    assert_eq!(confirmations.as_of(MS(50), in_term(5, &joint)), Some(MS(20)));
}

#[test]
fn learners_do_not_count_and_neither_does_a_leader_without_a_vote() {
    let (_, confirmations) = leader();
    let mark = confirmations.mark();
    answers(&confirmations, &[7, 8, 9, 2]);
    assert!(!confirmations.since(mark, in_term(5, &voters([&[1, 3, 4]]))), "learners");
    assert!(!confirmations.since(mark, in_term(5, &voters([&[2, 3, 4]]))), "the leader votes no more");
    answers(&confirmations, &[3]);
    assert!(confirmations.since(mark, in_term(5, &voters([&[2, 3, 4]]))));
}

#[test]
fn a_leader_alone_has_its_majority_and_nobody_has_none() {
    let (_, confirmations) = leader();
    let alone = voters([&[1]]);
    assert!(confirmations.since(confirmations.mark(), in_term(5, &alone)));
    assert_eq!(confirmations.as_of(MS(3), in_term(5, &alone)), Some(MS(3)));
    let empty: [&[BTreeSet<u64>]; 2] = [&[], &[BTreeSet::new()]];
    for nobody in empty {
        assert!(!confirmations.since(confirmations.mark(), in_term(5, nobody)));
        assert_eq!(confirmations.as_of(MS(3), in_term(5, nobody)), None);
    }
}

#[test]
fn nothing_is_as_of_later_than_now() {
    let (clock, confirmations) = leader();
    clock.set(40);
    answers(&confirmations, &[2, 3]);
    assert_eq!(confirmations.as_of(MS(39), in_term(5, &voters([&[1, 2, 3]]))), Some(MS(39)));
}

#[test]
fn those_who_wait_are_told_of_answers_and_not_of_what_is_sent() {
    let (_, confirmations) = leader();
    let mut changes = confirmations.changes();
    changes.mark_unchanged();
    let request = confirmations.send();
    assert!(!changes.has_changed().expect("the answers are there"));
    confirmations.answer(Term::new(5), 2, request);
    assert!(changes.has_changed().expect("the answers are there"));
    changes.mark_unchanged();
    confirmations.answer(Term::new(5), 2, request);
    assert!(!changes.has_changed().expect("the answers are there"), "the same again");
}
