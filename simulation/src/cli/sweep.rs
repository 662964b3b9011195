//! What a sweep over many seeds came to: sums, kept as one line of JSON.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};

use anyhow::Context as _;
use owo_colors::OwoColorize as _;
use quipu_simulation::faults::Kind;
use quipu_simulation::marks;
use quipu_simulation::recorder::Struck;
use serde::{Deserialize, Serialize};

use super::outcome::Outcome;
use super::output::{Table, counted, grouped, per, seconds};
use super::place;

/// A sweep of so many seeds has to reach every mark.
const SEEDS_FOR_ALL_MARKS: u64 = 500;

/// What a sweep came to. Kinds and marks are text here, so that lines of other
/// versions can be read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sweep {
    /// What was run; none outside of a repository.
    pub(crate) commit: Option<String>,
    /// The first seed; none when seeds were chosen one by one.
    pub(crate) from: Option<u64>,
    pub(crate) seeds: u64,
    pub(crate) failures: Vec<Failed>,
    pub(crate) simulated_ms: u64,
    pub(crate) cpu_ms: u64,
    pub(crate) operations: u64,
    pub(crate) faults: BTreeMap<String, Struck>,
    /// How many seeds reached each.
    pub(crate) marks: BTreeMap<String, u64>,
    /// What runs of so many nodes took: how fast a run is depends on that.
    #[serde(default)]
    pub(crate) by_nodes: BTreeMap<u64, Spent>,
}

/// Time of some runs, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Spent {
    pub(crate) simulated_ms: u64,
    pub(crate) cpu_ms: u64,
}

impl Spent {
    fn add(&mut self, other: Self) {
        self.simulated_ms += other.simulated_ms;
        self.cpu_ms += other.cpu_ms;
    }
}

/// A seed that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failed {
    pub(crate) seed: u64,
    /// What broke first.
    pub(crate) promise: String,
}

impl Sweep {
    pub(crate) fn add(&mut self, outcome: &Outcome) {
        self.seeds += 1;
        self.simulated_ms += outcome.simulated_ms;
        self.cpu_ms += outcome.cpu_ms;
        self.operations += outcome.operations;
        for (kind, struck) in &outcome.faults {
            self.strike(kind.name(), *struck);
        }
        for mark in &outcome.marks {
            *self.marks.entry(mark.clone()).or_default() += 1;
        }
        let spent = Spent { simulated_ms: outcome.simulated_ms, cpu_ms: outcome.cpu_ms };
        self.by_nodes.entry(outcome.nodes).or_default().add(spent);
        if let Some(promise) = outcome.broken() {
            self.failures.push(Failed { seed: outcome.seed, promise: promise.to_owned() });
        }
    }

    /// Adds another sweep's sums.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.seeds += other.seeds;
        self.simulated_ms += other.simulated_ms;
        self.cpu_ms += other.cpu_ms;
        self.operations += other.operations;
        for (kind, struck) in &other.faults {
            self.strike(kind, *struck);
        }
        for (mark, seeds) in &other.marks {
            *self.marks.entry(mark.clone()).or_default() += seeds;
        }
        for (nodes, spent) in &other.by_nodes {
            self.by_nodes.entry(*nodes).or_default().add(*spent);
        }
        self.failures.extend(other.failures.iter().cloned());
    }

    fn strike(&mut self, kind: &str, more: Struck) {
        let struck = self.faults.entry(kind.to_owned()).or_default();
        struck.scheduled += more.scheduled;
        struck.fired += more.fired;
        struck.hit += more.hit;
    }

    /// How many faults began.
    pub(crate) fn fired(&self) -> u64 {
        self.faults.values().map(|struck| struck.fired).sum()
    }

    /// Marks that no seed reached.
    pub(crate) fn never_reached(&self) -> Vec<&'static str> {
        marks::ALL.iter().map(|(mark, _)| *mark).filter(|mark| !self.marks.contains_key(*mark)).collect()
    }

    /// Whether every promise was kept and, over enough seeds, every mark reached.
    pub(crate) fn is_good(&self) -> bool {
        self.failures.is_empty() && (self.seeds < SEEDS_FOR_ALL_MARKS || self.never_reached().is_empty())
    }

    /// Appends it to the sweeps that were kept.
    pub(crate) fn keep(&self) -> anyhow::Result<()> {
        let file = place::sweeps()?;
        let line = serde_json::to_string(self)? + "\n";
        fs::create_dir_all(place::simulation()?)?;
        let mut sweeps = OpenOptions::new().create(true).append(true).open(&file)?;
        // In one write: several sweeps may end at a time.
        sweeps.write_all(line.as_bytes()).with_context(|| format!("cannot write {}", file.display()))
    }

    pub(crate) fn print(&self, output: &mut impl Write) -> io::Result<()> {
        self.print_faults(output)?;
        self.print_marks(output)?;
        let simulated = format!("{} simulated in {}", seconds(self.simulated_ms), seconds(self.cpu_ms));
        let speed = format!("{:.1} s a CPU second", per(self.simulated_ms, self.cpu_ms));
        let calls = counted(self.operations, "call", "calls");
        let faults = counted(self.fired(), "fault", "faults");
        writeln!(output, "\n{}", counted(self.seeds, "seed", "seeds").bold())?;
        writeln!(output, "  {simulated} of processor time: {speed}")?;
        if self.by_nodes.len() > 1 {
            let each = self
                .by_nodes
                .iter()
                .map(|(nodes, spent)| format!("{nodes}: {:.1}", per(spent.simulated_ms, spent.cpu_ms)));
            writeln!(output, "  by the number of nodes: {}", each.collect::<Vec<_>>().join(", "))?;
        }
        writeln!(output, "  {calls}, {faults}")?;
        let failures = counted(self.failures.len() as u64, "failure", "failures");
        if self.failures.is_empty() {
            return writeln!(output, "  {} every promise was kept", "✓".green().bold());
        }
        writeln!(output, "  {} {failures}", "✗".red().bold())?;
        let mut by_promise: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for failed in &self.failures {
            by_promise.entry(&failed.promise).or_default().push(failed.seed.to_string());
        }
        for (promise, seeds) in by_promise {
            writeln!(output, "    {promise}: {}", seeds.join(" "))?;
        }
        Ok(())
    }

    fn print_faults(&self, output: &mut impl Write) -> io::Result<()> {
        let mut table = Table::new(["fault", " scheduled", " fired", " hit"]);
        for kind in Kind::ALL {
            let struck = self.faults.get(kind.name()).copied().unwrap_or_default();
            let counts = [struck.scheduled, struck.fired, struck.hit].map(grouped);
            let [scheduled, fired, hit] = counts;
            table.row([&kind.name(), &scheduled, &fired, &hit]);
        }
        writeln!(output)?;
        table.write(output, "")
    }

    fn print_marks(&self, output: &mut impl Write) -> io::Result<()> {
        let mut table = Table::new(["mark", " seeds", ""]);
        for (mark, about) in marks::ALL {
            let Some(seeds) = self.marks.get(*mark) else { continue };
            table.row([mark, &grouped(*seeds), about]);
        }
        writeln!(output)?;
        table.write(output, "")?;
        let missing = self.never_reached();
        if missing.is_empty() {
            return Ok(());
        }
        let verdict = if self.seeds < SEEDS_FOR_ALL_MARKS {
            format!("no failure in a sweep of fewer than {SEEDS_FOR_ALL_MARKS} seeds")
        } else {
            format!("{} in a sweep of {SEEDS_FOR_ALL_MARKS} seeds or more", "a failure".red())
        };
        writeln!(output, "never reached ({verdict}): {}", missing.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use quipu_simulation::violation::Violation;

    use super::*;

    #[test]
    fn a_large_sweep_that_misses_a_mark_has_failed() {
        let all: BTreeSet<String> = marks::ALL.iter().map(|(mark, _)| (*mark).to_owned()).collect();
        let mut sweep = Sweep::default();
        for seed in 1..SEEDS_FOR_ALL_MARKS {
            sweep.add(&Outcome { seed, marks: all.iter().skip(1).cloned().collect(), ..Outcome::default() });
        }
        assert!(sweep.is_good(), "{} seeds need not reach everything", sweep.seeds);
        sweep.add(&Outcome::default());
        assert!(!sweep.is_good(), "{} seeds have to", sweep.seeds);
        assert_eq!(sweep.never_reached(), [marks::ALL[0].0]);
        sweep.add(&Outcome { marks: all, ..Outcome::default() });
        assert!(sweep.is_good());
        sweep.add(&Outcome::lost(7, Violation::new("no-crash", "it is gone"), 0));
        assert!(!sweep.is_good());
    }
}
