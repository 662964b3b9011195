//! What a run came to, as a child tells its parent.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use quipu_simulation::faults::Kind;
use quipu_simulation::recorder::Struck;
use quipu_simulation::violation::Violation;
use serde::{Deserialize, Serialize};

/// What a run came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) seed: u64,
    /// How many nodes there were; 0 when nobody knows.
    pub(crate) nodes: u64,
    /// Empty when every promise was kept.
    pub(crate) violations: Vec<Violation>,
    pub(crate) marks: BTreeSet<String>,
    pub(crate) faults: BTreeMap<Kind, Struck>,
    pub(crate) simulated_ms: u64,
    /// By the process's own clock, its start included.
    pub(crate) cpu_ms: u64,
    /// How many calls clients made.
    pub(crate) operations: u64,
    /// Of the trace: XXH3, 64 bits.
    pub(crate) digest: String,
    /// The most tasks that a node had at a time.
    pub(crate) most_tasks: usize,
    /// Where the failure is kept, if it is one.
    pub(crate) bundle: Option<PathBuf>,
}

impl Outcome {
    /// Of a process that left nothing but this.
    pub(crate) fn lost(seed: u64, violation: Violation, cpu_ms: u64) -> Self {
        Self { seed, violations: vec![violation], cpu_ms, ..Self::default() }
    }

    /// The promise that broke first, if any did.
    pub(crate) fn broken(&self) -> Option<&str> {
        self.violations.first().map(|violation| violation.promise.as_str())
    }

    /// How many faults began.
    pub(crate) fn fired(&self) -> u64 {
        self.faults.values().map(|struck| struck.fired).sum()
    }
}
