//! Pipelines that compete: each reads a log where the cursor is that the other log
//! keeps, and appends there what it makes of it, with the cursor moved along.
//!
//! Any of them may be stopped by a fault or by another one at any moment. In the end
//! the appends that landed have to make a chain: each begins where the one before
//! it ended, and none under a lower generation.

use std::collections::BTreeMap;
use std::time::Duration;

use quipu_sdk::{AppendError, Cursor, From, LogId, LogName, Offset, OnTrimmed, ProducerConfig, ReaderConfig};

use super::{Context, append, record};
use crate::environment::clock::now;
use crate::history::{Call, Outcome, Terms};
use crate::violation::Violation;

/// The log that pipelines append to.
pub(crate) const OUTPUT: &str = "carried-over";
/// The cursor that has their position.
const CURSOR: &str = "pipeline";
/// After this time an append's outcome is unknown.
const DELIVERY_TIMEOUT: Duration = Duration::from_millis(900);
/// Up to so many records are carried over by one append.
const MOST_RECORDS: u64 = 4;
/// Up to so many appends by one pipeline.
const MOST_APPENDS: u64 = 12;

/// What an append of a pipeline stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// Where the cursor was expected to be.
    expected: Option<u64>,
    /// Where it is then.
    next: u64,
    generation: u64,
}

/// The appends of all pipelines, by their first values.
pub(crate) type Steps = BTreeMap<u64, Step>;

pub(super) async fn run(context: Context, from: usize, log: usize, pause_ms: u64) {
    let (input, output) = (context.log(from), context.log(log));
    let cursor = context.client.cursor(&output, &CURSOR.parse().expect("a good name"));
    while context.goes_on() {
        context.pause(pause_ms * 4).await;
        let Ok(described) = context.client.describe_log(&input).await else { continue };
        let Some((position, generation)) = begin(&context, &cursor).await else { continue };
        let pipeline =
            Pipeline { context: &context, output: &output, cursor: &cursor, of: described.log.id, generation };
        pipeline.carry(&input, position, pause_ms).await;
    }
}

/// Where the cursor is, and under which generation it is moved: its own, or the next
/// one, so that all others are fenced.
async fn begin(context: &Context, cursor: &Cursor) -> Option<(Option<Offset>, u64)> {
    let found = cursor.get().await.ok()?;
    let generation = found.as_ref().map_or(0, |found| found.generation);
    if context.below(3) == 0 {
        let claimed = cursor.claim(generation + 1).await.ok()?;
        return Some((claimed, generation + 1));
    }
    Some((found.and_then(|found| found.position), generation))
}

struct Pipeline<'a> {
    context: &'a Context,
    output: &'a LogName,
    cursor: &'a Cursor,
    of: LogId,
    generation: u64,
}

impl Pipeline<'_> {
    async fn carry(&self, input: &LogName, mut position: Option<Offset>, pause_ms: u64) {
        let config = ProducerConfig { delivery_timeout: DELIVERY_TIMEOUT, ..ProducerConfig::default() };
        let producer = self.context.client.producer(self.output, config).expect("a good configuration");
        let number = self.context.shared.counters.producer();
        for _ in 0..MOST_APPENDS {
            self.context.pause(pause_ms).await;
            let count = 1 + self.context.below(MOST_RECORDS);
            let Some(next) = self.read(input, position, count).await else { return };
            if !self.context.goes_on() {
                return;
            }
            let values = self.context.shared.counters.values(count);
            let records = values.iter().map(|value| record(*value, 0)).collect();
            let step = Step { expected: position.map(Offset::get), next: next.get(), generation: self.generation };
            self.context.steps(|steps| steps.insert(values[0], step));
            let call = Call::Append { producer: number, values, terms: Terms::default() };
            let operation = self.context.invoke(self.output.as_str(), call);
            let moved = self.cursor.at(next).of(self.of).under(self.generation).expecting(position);
            let outcome = match producer.append_with(records, [moved]).await {
                Err(error @ AppendError::CursorRefused { .. }) => {
                    self.context.shared.recorder.mark(now(), "a-pipeline-gave-way");
                    Outcome::Failed { why: error.to_string() }
                }
                answer => append::outcome(answer),
            };
            let landed = matches!(outcome, Outcome::Appended { .. });
            self.context.complete(operation, outcome);
            if !landed {
                return;
            }
            position = Some(next);
        }
    }

    /// Where the next `count` records of the input end, from `position` on.
    async fn read(&self, input: &LogName, position: Option<Offset>, count: u64) -> Option<Offset> {
        let config = ReaderConfig {
            from: position.map_or(From::Start, From::Offset),
            max_records: Some(count),
            on_trimmed: OnTrimmed::Start,
            ..ReaderConfig::default()
        };
        let mut reader = self.context.client.reader(input, config).expect("a good configuration");
        let mut next = None;
        while let Ok(Some(record)) = reader.next().await {
            next = Some(record.offset.next());
        }
        next
    }
}

/// Judges what a replica of [`OUTPUT`] holds, and where the cursor is.
pub(crate) async fn judge(context: &Context, copies: &BTreeMap<u64, Vec<(u64, u64)>>) {
    let cursor = context.client.cursor(&OUTPUT.parse().expect("a good name"), &CURSOR.parse().expect("a good name"));
    let steps = context.steps(|steps| steps.clone());
    for (node, copy) in copies {
        let end = match chain(copy, &steps) {
            Ok(end) => end,
            Err(why) => {
                let violation = Violation::new("pipeline-once", format!("log {OUTPUT} on node {node}: {why}"));
                context.shared.recorder.violated(now(), violation, None);
                return;
            }
        };
        let held = copy.last().map_or(0, |(last, _)| last + 1);
        // What landed since is in no copy.
        if let Ok(found) = cursor.get().await
            && found.as_ref().is_none_or(|found| found.range.end().get() == held)
        {
            let position = found.and_then(|found| found.position).map(Offset::get);
            if position != end {
                let why = format!("the cursor is at {position:?}, and its last append moved it to {end:?}");
                let violation = Violation::new("pipeline-once", format!("log {OUTPUT} on node {node}: {why}"));
                context.shared.recorder.violated(now(), violation, None);
                return;
            }
        }
    }
}

/// Where the cursor is after the appends of a copy, if they make a chain.
fn chain(copy: &[(u64, u64)], steps: &Steps) -> Result<Option<u64>, String> {
    let (mut at, mut generation) = (None, 0);
    for (offset, step) in copy.iter().filter_map(|(offset, value)| Some((offset, steps.get(value)?))) {
        if step.expected != at {
            return Err(format!("{step:?} landed at {offset}, where the cursor was at {at:?}"));
        }
        if step.generation < generation {
            return Err(format!("{step:?} landed at {offset}, after generation {generation}"));
        }
        (at, generation) = (Some(step.next), step.generation);
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(chosen: &[(u64, Option<u64>, u64, u64)]) -> Steps {
        let step = |&(value, expected, next, generation)| (value, Step { expected, next, generation });
        chosen.iter().map(step).collect()
    }

    #[test]
    fn appends_that_follow_each_other_are_a_chain_whatever_lies_between() {
        let steps = steps(&[(10, None, 3, 0), (20, Some(3), 5, 0), (30, Some(5), 9, 2), (99, Some(3), 7, 0)]);
        let copy = [(0, 10), (1, 11), (2, 20), (3, 77), (4, 30)];
        assert_eq!(chain(&copy, &steps), Ok(Some(9)));
        assert_eq!(chain(&[], &steps), Ok(None));
    }

    #[test]
    fn doubled_missing_and_fenced_appends_are_found() {
        let all = steps(&[(10, None, 3, 1), (20, Some(3), 5, 1), (30, Some(5), 9, 0), (99, Some(3), 7, 1)]);
        chain(&[(0, 10), (1, 20), (2, 99)], &all).expect_err("two carried the same records over");
        chain(&[(0, 20)], &all).expect_err("the first records are missing");
        chain(&[(0, 10), (1, 20), (2, 30)], &all).expect_err("the last one was fenced");
    }
}
