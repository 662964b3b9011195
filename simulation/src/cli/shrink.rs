//! `quipu-simulation shrink`: the smallest scenario that still fails.
//!
//! ```text
//!   fails ─▶ faults (ddmin) ─▶ clients ─▶ jobs ─▶ logs ─▶ chaos ─▶ nodes ─▶ settings ─┐
//!              ▲                                                                      │
//!              └──────────────────── as long as anything got smaller ─────────────────┘
//! ```
//!
//! A smaller scenario is a run of its own: leaving a fault out moves all that
//! follows. So what counts is that the same promise breaks, not how.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context as _;
use clap::Args;
use owo_colors::OwoColorize as _;
use quipu_simulation::bundle;
use quipu_simulation::scenario::Scenario;
use quipu_simulation::shrink::{Part, with_faults};
use quipu_simulation::violation::Violation;

use super::one::load;
use super::outcome::Outcome;
use super::output::{counted, for_people};
use super::place;
use super::pool::{self, Pool, PoolArguments, Task};
use super::run::minutes;

/// Make a failure smaller: fewest faults, clients, logs and nodes that still fail.
///
/// Runs ever smaller scenarios and keeps those that break the same promise. The
/// smallest one is kept like any failure, beside the larger ones.
#[derive(Debug, Args)]
pub(crate) struct ShrinkArguments {
    /// The seed.
    #[arg(required_unless_present = "scenario")]
    seed: Option<u64>,
    /// Begin with this scenario instead of the seed's own: scenario.json of a bundle.
    #[arg(long, value_name = "FILE")]
    scenario: Option<PathBuf>,
    /// Stop after so many minutes with what there is.
    #[arg(long, value_name = "M", default_value_t = 15.0)]
    minutes: f64,
    #[command(flatten)]
    pool: PoolArguments,
}

pub(crate) fn run(arguments: ShrinkArguments) -> anyhow::Result<ExitCode> {
    let scenario = load(arguments.seed, arguments.scenario.as_deref())?;
    let pool = Pool::new(&arguments.pool)?.keeps_in(place::failures()?.join("smallest"));
    let ends_at = pool::now() + minutes(arguments.minutes)?;
    let mut output = for_people();
    let mut shrinking = Shrinking { pool, best: scenario.clone(), broken: None, ends_at, runs: 0 };
    let first = shrinking.run(vec![scenario], false)?.pop().context("a run has an outcome")?;
    let Some(violation) = first.violations.into_iter().next() else {
        writeln!(output, "{} every promise was kept: there is nothing to make smaller", "✓".green().bold())?;
        return Ok(ExitCode::SUCCESS);
    };
    writeln!(output, "{violation}\n  {}", size(&shrinking.best))?;
    shrinking.broken = Some(violation);
    shrinking.shrink()?;

    let smallest = shrinking.best.clone();
    let kept = shrinking.run(vec![smallest.clone()], true)?.pop().context("a run has an outcome")?;
    writeln!(output, "\n{}", format!("the smallest after {} runs", shrinking.runs).bold())?;
    for (name, value) in smallest.summary() {
        writeln!(output, "  {name:<32}{value}")?;
    }
    for fault in &smallest.faults {
        writeln!(output, "  {:>6} ms  {} for {} ms", fault.at_ms, fault.kind, fault.lasts_ms)?;
    }
    for violation in &kept.violations {
        writeln!(output, "  {} {violation}", "✗".red().bold())?;
    }
    if let Some(directory) = &kept.bundle {
        writeln!(output, "bundle: {}", directory.display())?;
        writeln!(output, "replay: {}", bundle::replay_command(&smallest, directory))?;
    }
    Ok(ExitCode::FAILURE)
}

struct Shrinking {
    pool: Pool,
    best: Scenario,
    /// What has to break.
    broken: Option<Violation>,
    ends_at: Instant,
    runs: u64,
}

impl Shrinking {
    fn shrink(&mut self) -> anyhow::Result<()> {
        loop {
            let before = self.best.clone();
            self.shrink_faults()?;
            for part in Part::ALL {
                while self.take_first_that_fails(part.lessened(&self.best), part.name())? {}
            }
            if self.best == before || self.is_over() {
                return Ok(());
            }
        }
    }

    /// Fewer faults, by delta debugging (ddmin, by Zeller and Hildebrandt).
    fn shrink_faults(&mut self) -> anyhow::Result<()> {
        if self.take_first_that_fails(self.with_faults(&[Vec::new()]), "faults")? {
            return Ok(());
        }
        let mut granularity = 2;
        while self.best.faults.len() >= 2 && !self.is_over() {
            let count = self.best.faults.len();
            granularity = granularity.min(count);
            let chunks = chunks(count, granularity);
            let rests: Vec<Vec<usize>> = chunks.iter().map(|chunk| complement(count, chunk)).collect();
            if self.take_first_that_fails(self.with_faults(&chunks), "faults")? {
                granularity = 2;
            } else if self.take_first_that_fails(self.with_faults(&rests), "faults")? {
                granularity = (granularity - 1).max(2);
            } else if granularity >= count {
                return Ok(());
            } else {
                granularity *= 2;
            }
        }
        Ok(())
    }

    fn with_faults(&self, kept: &[Vec<usize>]) -> Vec<Scenario> {
        let proposed = kept.iter().map(|kept| with_faults(&self.best, kept));
        proposed.filter(|smaller| *smaller != self.best).collect()
    }

    /// Runs these, as many at a time as may be, until one fails as it should;
    /// it is the best from now on. The first of them counts, however many run
    /// at a time.
    fn take_first_that_fails(&mut self, proposed: Vec<Scenario>, what: &str) -> anyhow::Result<bool> {
        for some in proposed.chunks(self.pool.jobs()) {
            if self.is_over() {
                return Ok(false);
            }
            let outcomes = self.run(some.to_vec(), false)?;
            let Some(position) = outcomes.iter().position(|outcome| self.fails(outcome)) else { continue };
            self.best = some[position].clone();
            writeln!(for_people(), "  {} after {}: {what}", size(&self.best), counted(self.runs, "run", "runs"))?;
            return Ok(true);
        }
        Ok(false)
    }

    fn run(&mut self, scenarios: Vec<Scenario>, keep: bool) -> anyhow::Result<Vec<Outcome>> {
        let mut tasks = Vec::new();
        for scenario in scenarios {
            let file = self.pool.work().join(format!("{}.json", tasks.len()));
            fs::write(&file, serde_json::to_string(&scenario)?)?;
            tasks.push(Task { seed: scenario.seed, scenario: Some(file), trace: false, keep });
        }
        self.runs += tasks.len() as u64;
        Ok(self.pool.all(tasks)?.into_iter().map(|done| done.outcome).collect())
    }

    fn fails(&self, outcome: &Outcome) -> bool {
        let Some(broken) = &self.broken else { return false };
        outcome.violations.iter().any(|violation| is_the_same(violation, broken))
    }

    fn is_over(&self) -> bool {
        pool::now() >= self.ends_at
    }
}

/// Whether two violations are likely to have one cause.
fn is_the_same(one: &Violation, other: &Violation) -> bool {
    // A panic's details begin with its place, and one place is one assertion.
    let place = |violation: &Violation| violation.details.split(": ").next().map(ToOwned::to_owned);
    one.promise == other.promise && (one.promise != "no-panic" || place(one) == place(other))
}

fn size(scenario: &Scenario) -> String {
    let jobs: usize = scenario.clients.iter().map(|client| client.jobs.len()).sum();
    let (nodes, logs) = (counted(scenario.nodes, "node", "nodes"), scenario.logs.len() as u64);
    let faults = counted(scenario.faults.len() as u64, "fault", "faults");
    let (jobs, logs) = (counted(jobs as u64, "job", "jobs"), counted(logs, "log", "logs"));
    format!("{faults}, {jobs}, {logs}, {nodes}, {} ms", scenario.timing.chaos_ms)
}

/// The positions `0..count` in so many runs of about the same length.
fn chunks(count: usize, granularity: usize) -> Vec<Vec<usize>> {
    let bound = |chunk: usize| chunk * count / granularity;
    (0..granularity).map(|chunk| (bound(chunk)..bound(chunk + 1)).collect()).collect()
}

fn complement(count: usize, chunk: &[usize]) -> Vec<usize> {
    (0..count).filter(|position| !chunk.contains(position)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_cover_everything_once() {
        assert_eq!(chunks(5, 2), [vec![0, 1], vec![2, 3, 4]]);
        assert_eq!(chunks(3, 3), [vec![0], vec![1], vec![2]]);
        assert_eq!(complement(5, &[2, 3]), [0, 1, 4]);
    }

    #[test]
    fn panics_are_told_apart_by_their_place() {
        let at = |line: u32| Violation::new("no-panic", format!("raft/src/group.rs:{line}:5: applied 7 passed 6"));
        assert!(is_the_same(&at(1), &at(1)));
        assert!(!is_the_same(&at(1), &at(2)));
        assert!(is_the_same(&Violation::new("no-lost-record", "a"), &Violation::new("no-lost-record", "b")));
    }
}
