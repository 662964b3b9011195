//! The search beside every order tried in turn.

use std::cell::Cell;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::checkers::linearizable::{Attempt, Bound, LogModel, Model, Outcome, Stuck, search};
use crate::history;
use crate::history::{Call, Terms};

/// A cell that is written, read, and changed if it is as expected.
struct Cell8;

#[derive(Clone, Copy, Debug)]
enum Ask {
    Write(u8),
    Read,
    Swap { expected: u8, new: u8 },
}

impl Model for Cell8 {
    type Call = Ask;
    /// What was read, or whether it was swapped: 0 or 1.
    type Answer = u8;
    type State = u8;

    fn initial(&self) -> u8 {
        0
    }

    fn step(&self, &state: &u8, call: &Ask, answer: Option<&u8>) -> Option<u8> {
        let (answered, after) = match *call {
            Ask::Write(new) => (answer.copied().unwrap_or_default(), new),
            Ask::Read => (state, state),
            Ask::Swap { expected, new } if expected == state => (1, new),
            Ask::Swap { .. } => (0, state),
        };
        answer.is_none_or(|&answer| answer == answered).then_some(after)
    }

    fn only_looks(&self, call: &Ask, answer: Option<&u8>) -> bool {
        matches!((call, answer), (Ask::Read, _) | (Ask::Swap { .. }, Some(0)))
    }
}

/// Whether any order explains `attempts`, by trying them all.
fn brute_force<M: Model>(model: &M, attempts: &[Attempt<M::Call, M::Answer>]) -> bool {
    fn go<M: Model>(model: &M, all: &[Attempt<M::Call, M::Answer>], left: &[usize], state: &M::State) -> bool {
        if left.iter().all(|&index| all[index].answer.is_none()) {
            return true;
        }
        left.iter().any(|&index| {
            let rest: Vec<usize> = left.iter().copied().filter(|&other| other != index).collect();
            let precedes = |other: &usize| all[*other].answer.as_ref().is_some_and(|(at, _)| *at < all[index].asked);
            let after = model.step(state, &all[index].call, all[index].answer.as_ref().map(|(_, answer)| answer));
            !rest.iter().any(precedes) && after.is_some_and(|after| go(model, all, &rest, &after))
        })
    }
    go(model, attempts, &(0..attempts.len()).collect::<Vec<_>>(), &model.initial())
}

/// The search finds what is so, and what it shows for it is true.
fn agrees<M>(model: &M, attempts: &[Attempt<M::Call, M::Answer>]) -> bool
where
    M: Model<State: std::fmt::Debug>,
{
    let step = |state: &M::State, index: usize| {
        model.step(state, &attempts[index].call, attempts[index].answer.as_ref().map(|(_, answer)| answer))
    };
    let replay = |order: &[usize]| {
        let mut state = model.initial();
        for (position, &index) in order.iter().enumerate() {
            state = step(&state, index).expect("a possible call");
            for &earlier in &order[..position] {
                assert!(attempts[index].answer.as_ref().is_none_or(|&(at, _)| at > attempts[earlier].asked));
            }
        }
        state
    };
    let found = search(model, attempts, Bound::default());
    match &found {
        Outcome::Linearizable { order } => {
            replay(order);
            let missing = (0..attempts.len()).filter(|index| !order.contains(index));
            assert!(missing.map(|index| &attempts[index].answer).all(Option::is_none), "an answer without its place");
        }
        Outcome::Not(Stuck { order, state, candidates }) => {
            assert_eq!(replay(order), *state);
            assert!(!candidates.is_empty() && candidates.iter().all(|index| !order.contains(index)));
        }
        Outcome::TooHard => panic!("six calls are not too hard"),
    }
    let is_linearizable = matches!(found, Outcome::Linearizable { .. });
    assert_eq!(is_linearizable, brute_force(model, attempts), "{found:?}");
    is_linearizable
}

const MAX_CALLS: usize = 6;

/// Calls with their answers, at random times; some without an answer.
fn attempts<C, A>(calls: impl Strategy<Value = (C, A)>) -> impl Strategy<Value = Vec<Attempt<C, A>>>
where
    C: Clone + std::fmt::Debug,
    A: Clone + std::fmt::Debug,
{
    let times = Just((0..2 * MAX_CALLS as u64).collect::<Vec<_>>()).prop_shuffle();
    (vec((calls, prop::bool::weighted(0.8)), 0..=MAX_CALLS), times).prop_map(|(calls, times)| {
        let spans = times.chunks_exact(2).map(|pair| (pair[0].min(pair[1]), pair[0].max(pair[1])));
        let timed = calls.into_iter().zip(spans);
        timed
            .map(|(((call, answer), answered), (asked, at))| Attempt {
                call,
                asked,
                answer: answered.then_some((at, answer)),
            })
            .collect()
    })
}

/// Runs `agrees` over many draws, of which some have an order and some do not.
fn compare<T: std::fmt::Debug>(draws: &impl Strategy<Value = T>, agrees: impl Fn(T) -> bool) {
    let config = Config { cases: 3000, failure_persistence: None, ..Config::default() };
    let (well, broken) = (Cell::new(0), Cell::new(0));
    let judge = |draw| {
        let count = if agrees(draw) { &well } else { &broken };
        count.set(count.get() + 1);
        Ok(())
    };
    TestRunner::new(config).run(draws, judge).unwrap();
    assert!(well.get() > 200 && broken.get() > 200, "{} with an order, {} without", well.get(), broken.get());
}

#[test]
fn search_agrees_with_every_order_tried_on_a_cell() {
    let call = prop_oneof![
        (0..3_u8).prop_map(|value| (Ask::Write(value), 0)),
        (0..3_u8).prop_map(|value| (Ask::Read, value)),
        (0..3_u8, 0..3_u8, 0..2_u8).prop_map(|(expected, new, done)| (Ask::Swap { expected, new }, done)),
    ];
    compare(&attempts(call), |draw| agrees(&Cell8, &draw));
}

#[test]
fn search_agrees_with_every_order_tried_on_a_log() {
    // Values that repeat leave an append more than one place to be.
    const HELD: [u64; 5] = [0, 1, 0, 0, 1];
    let append = (0..3_u64, 1..3_usize).prop_map(|(start, count)| {
        let from = usize::try_from(start).unwrap();
        let values = HELD[from..from + count].to_vec();
        (
            Call::Append { producer: 0, values, terms: Terms::default() },
            history::Outcome::Appended { start, end: start + count as u64 },
        )
    });
    let read = (0..3_usize, 0..4_usize, 0..4_usize).prop_map(|(from, max, length)| {
        let seen = (from..length.min(from + max)).map(|at| (at as u64, HELD[at])).collect();
        let call = Call::Read { from: from as u64, max: max as u64, local: false };
        (call, history::Outcome::Read { records: seen })
    });
    let end = (0..4_u64).prop_map(|end| (Call::End, history::Outcome::End { end }));
    let draws = attempts(prop_oneof![3 => append, 1 => read, 1 => end]);
    compare(&draws, |draw| agrees(&LogModel::new(&HELD), &draw));
}

#[test]
fn search_that_costs_too_much_is_given_up() {
    // Twenty writes beside each other, and then a value that none of them wrote:
    // no order will do, and there are many to try.
    let write = |value: u8| Attempt { call: Ask::Write(value), asked: u64::from(value), answer: Some((100, 0)) };
    let mut attempts: Vec<Attempt<Ask, u8>> = (1..=20).map(write).collect();
    attempts.push(Attempt { call: Ask::Read, asked: 101, answer: Some((102, 99)) });
    let few_steps = Bound { steps: 10_000, ..Bound::default() };
    assert_eq!(search(&Cell8, &attempts, few_steps), Outcome::TooHard);
    let little_memory = Bound { memory_bytes: 10_000, ..Bound::default() };
    assert_eq!(search(&Cell8, &attempts, little_memory), Outcome::TooHard);
    // With ten of them memory makes it easy.
    let _ = attempts.drain(10..20);
    assert!(matches!(search(&Cell8, &attempts, Bound::default()), Outcome::Not(_)));
}
