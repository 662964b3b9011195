//! Correct runs with one thing broken: it is found, under its name.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::Index;

use super::generated::{self, Run};
use crate::checkers::{linearizable, oracle};
use crate::history::{Call, Operation, Outcome};

/// A copy's records: offsets and values.
type Records = Vec<(u64, u64)>;

impl Run {
    fn values(&self, log: &str) -> Vec<u64> {
        self.copies.get(log).map_or_else(Vec::new, |copies| copies[&1].iter().map(|&(_, value)| value).collect())
    }

    /// All replicas of `log` hold `values` and no other.
    fn hold(&mut self, log: &str, values: &[u64]) {
        let records: Records = (0..).zip(values.iter().copied()).collect();
        self.copies.insert(log.to_owned(), (1..=3).map(|node| (node, records.clone())).collect());
    }

    /// One of the operations that are so, by `chance`.
    fn pick(&self, chance: Index, is_so: impl Fn(&Operation) -> bool) -> Option<usize> {
        let all: Vec<usize> = (0..self.operations.len()).filter(|&index| is_so(&self.operations[index])).collect();
        (!all.is_empty()).then(|| all[chance.index(all.len())])
    }

    /// One of the acknowledged appends, its log and its values.
    fn acknowledged(&self, chance: Index) -> Option<(usize, String, Vec<u64>)> {
        let index = self.pick(chance, |it| matches!(it.outcome, Outcome::Appended { .. }))?;
        Some((index, self.operations[index].log.clone(), appended(&self.operations[index]).to_vec()))
    }

    fn broken(&self) -> BTreeSet<String> {
        let found = oracle::check(&self.operations, &self.copies);
        let unordered = linearizable::check(&self.operations, &self.copies);
        found.into_iter().chain(unordered).map(|violation| violation.promise).collect()
    }
}

fn appended(operation: &Operation) -> &[u64] {
    match &operation.call {
        Call::Append { values, .. } => values,
        _ => &[],
    }
}

fn is_before(a: &Operation, b: &Operation) -> bool {
    a.log == b.log && a.completed.is_some_and(|at| at < b.invoked)
}

/// Breaks one thing, and names the promises that this breaks for certain; none
/// if the run has nothing to break in this way.
type Break = fn(&mut Run, Index) -> Option<&'static [&'static str]>;

fn drop_a_record(run: &mut Run, chance: Index) -> Option<&'static [&'static str]> {
    let (_, log, values) = run.acknowledged(chance)?;
    let mut held = run.values(&log);
    held.retain(|&value| value != values[0]);
    run.hold(&log, &held);
    Some(&["no-lost-record", "linearizable"])
}

fn double_a_batch(run: &mut Run, chance: Index) -> Option<&'static [&'static str]> {
    let (_, log, values) = run.acknowledged(chance)?;
    let mut held = run.values(&log);
    held.extend(values);
    run.hold(&log, &held);
    Some(&["no-doubled-record"])
}

fn swap_two_records(run: &mut Run, chance: Index) -> Option<&'static [&'static str]> {
    let (_, log, values) = run.acknowledged(chance)?;
    let mut held = run.values(&log);
    let at = held.iter().position(|&value| value == values[0])?;
    let other = (at + 1) % held.len();
    held.swap(at, other);
    run.hold(&log, &held);
    (at != other).then_some(&["offset-never-changes-meaning", "linearizable"])
}

fn swap_two_batches(run: &mut Run, chance: Index) -> Option<&'static [&'static str]> {
    let (index, log, values) = run.acknowledged(chance)?;
    let Operation { client, .. } = run.operations[index];
    let is_like = |it: &Operation| {
        let acknowledged = matches!(it.outcome, Outcome::Appended { .. });
        acknowledged && it.client == client && it.log == log && appended(it).len() == values.len()
    };
    let mut held = run.values(&log);
    let other = run.pick(chance, |it| is_like(it) && *appended(it) != values && held.contains(&appended(it)[0]))?;
    for (&a, &b) in values.iter().zip(appended(&run.operations[other])) {
        let (a, b) = (held.iter().position(|&it| it == a)?, held.iter().position(|&it| it == b)?);
        held.swap(a, b);
    }
    run.hold(&log, &held);
    Some(&["offset-never-changes-meaning", "producer-order", "linearizable"])
}

fn split_a_batch(run: &mut Run, chance: Index) -> Option<&'static [&'static str]> {
    let landed = |it: &Operation| run.values(&it.log).contains(&appended(it)[0]);
    let index = run.pick(chance, |it| appended(it).len() > 1 && landed(it))?;
    let Operation { log, .. } = run.operations[index].clone();
    let first = appended(&run.operations[index])[0];
    let mut held = run.values(&log);
    held.retain(|&value| value != first);
    held.push(first);
    run.hold(&log, &held);
    Some(&["batch-is-atomic"])
}

fn tear_a_batch(run: &mut Run, chance: Index) -> Option<&'static [&'static str]> {
    let landed = |it: &Operation| run.values(&it.log).contains(&appended(it)[0]);
    let index = run.pick(chance, |it| appended(it).len() > 1 && landed(it))?;
    let Operation { log, .. } = run.operations[index].clone();
    let last = *appended(&run.operations[index]).last()?;
    let mut held = run.values(&log);
    held.retain(|&value| value != last);
    run.hold(&log, &held);
    Some(&["batch-is-atomic"])
}

fn read_what_was_before(run: &mut Run, chance: Index) -> Option<&'static [&'static str]> {
    let owes = |read: &Operation| {
        let (&Call::Read { from, local: false, .. }, Outcome::Read { records }) = (&read.call, &read.outcome) else {
            return false;
        };
        let knows_one = |it: &Operation| matches!(it.outcome, Outcome::Appended { end, .. } if end > from);
        !records.is_empty() && run.operations.iter().any(|it| is_before(it, read) && knows_one(it))
    };
    let index = run.pick(chance, owes)?;
    run.operations[index].outcome = Outcome::Read { records: Vec::new() };
    Some(&["reads-miss-nothing", "linearizable"])
}

fn read_what_is_not_committed(run: &mut Run, chance: Index) -> Option<&'static [&'static str]> {
    let index = run.pick(chance, |it| matches!(&it.outcome, Outcome::Read { .. }))?;
    let Operation { log, call, outcome, .. } = &mut run.operations[index];
    let end = run.copies.get(log).map_or(0, |copies| copies[&1].len() as u64);
    let (Call::Read { from, max, .. }, Outcome::Read { records }) = (call, outcome) else { return None };
    (*from, *max, *records) = (end, 1, vec![(end, u64::MAX)]);
    Some(&["reads-agree"])
}

fn acknowledge_the_wrong_offset(run: &mut Run, chance: Index) -> Option<&'static [&'static str]> {
    let (index, ..) = run.acknowledged(chance)?;
    let Outcome::Appended { start, end } = &mut run.operations[index].outcome else { return None };
    (*start, *end) = (*start + 1, *end + 1);
    Some(&["offset-never-changes-meaning", "linearizable"])
}

fn end_goes_back(run: &mut Run, chance: Index) -> Option<&'static [&'static str]> {
    let end_of = |it: &Operation| if let Outcome::End { end } = it.outcome { Some(end) } else { None };
    let first = run.pick(chance, |it| end_of(it).is_some_and(|end| end > 0))?;
    let second = run.pick(chance, |it| end_of(it).is_some() && is_before(&run.operations[first], it))?;
    run.operations[second].outcome = Outcome::End { end: end_of(&run.operations[first])? - 1 };
    Some(&["end-never-goes-back", "linearizable"])
}

fn call_what_landed_failed(run: &mut Run, chance: Index) -> Option<&'static [&'static str]> {
    let (index, ..) = run.acknowledged(chance)?;
    run.operations[index].outcome = Outcome::Failed { why: "refused".to_owned() };
    Some(&["failed-never-lands"])
}

fn invent_a_record(run: &mut Run, chance: Index) -> Option<&'static [&'static str]> {
    let (_, log, _) = run.acknowledged(chance)?;
    let mut held = run.values(&log);
    held.push(u64::MAX);
    run.hold(&log, &held);
    Some(&["no-invented-record"])
}

fn let_a_replica_diverge(run: &mut Run, chance: Index) -> Option<&'static [&'static str]> {
    let (_, log, values) = run.acknowledged(chance)?;
    let copy = run.copies.get_mut(&log)?.get_mut(&(1 + chance.index(3) as u64))?;
    copy.iter_mut().filter(|record| record.1 == values[0]).for_each(|record| record.1 = u64::MAX);
    Some(&["replicas-agree"])
}

const BREAKS: &[(&str, Break)] = &[
    ("a record is dropped", drop_a_record),
    ("a batch is doubled", double_a_batch),
    ("two records are swapped", swap_two_records),
    ("two batches are swapped", swap_two_batches),
    ("a batch is split", split_a_batch),
    ("a batch is torn", tear_a_batch),
    ("a read is stale", read_what_was_before),
    ("a read is too early", read_what_is_not_committed),
    ("an acknowledgement is wrong", acknowledge_the_wrong_offset),
    ("an end goes back", end_goes_back),
    ("a failure landed", call_what_landed_failed),
    ("a record is invented", invent_a_record),
    ("a replica diverges", let_a_replica_diverge),
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_broken_is_found(run in generated::run(40..80, 3, 1, false), chance: Index) {
        for (what, break_it) in BREAKS {
            let mut run = run.clone();
            let Some(promises) = break_it(&mut run, chance) else { continue };
            let found = run.broken();
            for &promise in promises {
                prop_assert!(found.contains(promise), "{}: {} is not among {:?}", what, promise, found);
            }
        }
    }
}

/// A break that never applies would prove nothing.
#[test]
fn every_break_has_runs_to_break() {
    use proptest::strategy::ValueTree as _;

    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let draws = (generated::run(40..80, 3, 1, false), any::<Index>());
    for (what, break_it) in BREAKS {
        let applies = |_: &u32| {
            let (mut run, chance) = draws.new_tree(&mut runner).unwrap().current();
            break_it(&mut run, chance).is_some()
        };
        let applied = (0..50).filter(applies).count();
        assert!(applied >= 20, "{what}: in {applied} of 50 runs");
    }
}
