//! One run in this process, whatever becomes of it.
//!
//! `one` is what parents start; people use `replay`. A panic anywhere, in a
//! task too, where nobody else would hear of it, breaks a promise like any
//! other. It is noted in a file the moment it happens: should the process not
//! survive it, the parent still knows.

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use quipu_simulation::bundle::{self, Bundle};
use quipu_simulation::history::{History, Operation};
use quipu_simulation::points;
use quipu_simulation::recorder::{Record, Recorder};
use quipu_simulation::run::run_into;
use quipu_simulation::scenario::Scenario;
use quipu_simulation::violation::Violation;
use rustix::process::{Resource, Rlimit, Signal};
use rustix::time::{ClockId, clock_gettime};
use twox_hash::XxHash3_64;

use super::outcome::Outcome;

/// Run one seed and write down what it came to, for the process that asked.
#[derive(Debug, Args)]
pub(crate) struct OneArguments {
    seed: u64,
    /// Run this scenario instead of the seed's own.
    #[arg(long, value_name = "FILE")]
    scenario: Option<PathBuf>,
    /// Write what it came to here, as JSON.
    #[arg(long, value_name = "FILE")]
    outcome: PathBuf,
    /// Write the first panic here, the moment it happens.
    #[arg(long, value_name = "FILE")]
    panic: PathBuf,
    /// Write the trace here, and after it every call with its answer.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Keep a failure in this directory, under its own name.
    #[arg(long, value_name = "DIR")]
    failures: Option<PathBuf>,
    /// Say that this commit was run.
    #[arg(long)]
    commit: Option<String>,
    /// Be ended after so much processor time.
    #[arg(long, value_name = "SECONDS")]
    cpu_seconds: u64,
}

pub(crate) fn run(arguments: OneArguments) -> anyhow::Result<ExitCode> {
    // Nobody waits for the outcome of a child whose parent is gone.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let limit = Some(arguments.cpu_seconds);
    rustix::process::setrlimit(Resource::Cpu, Rlimit { current: limit, maximum: None })?;
    let scenario = load(Some(arguments.seed), arguments.scenario.as_deref())?;
    points::install(None);
    let mut carried = carry_out(&scenario, &Recorder::default(), Some(arguments.panic));
    if let Some(file) = arguments.trace {
        fs::write(file, carried.evidence())?;
    }
    if let Some(failures) = arguments.failures.filter(|_| !carried.outcome.violations.is_empty()) {
        let directory = failures.join(bundle::name(scenario.seed, &carried.outcome.violations));
        carried.write_bundle(&scenario, arguments.commit.as_deref(), &directory)?;
        carried.outcome.bundle = Some(directory);
    }
    // Renamed, so that a parent sees all of it or nothing.
    let partial = arguments.outcome.with_extension("partial");
    fs::write(&partial, serde_json::to_string(&carried.outcome)?)?;
    fs::rename(partial, arguments.outcome)?;
    Ok(ExitCode::SUCCESS)
}

/// The scenario of `file` or, without one, of the seed.
pub(crate) fn load(seed: Option<u64>, file: Option<&Path>) -> anyhow::Result<Scenario> {
    let Some(file) = file else {
        return Ok(Scenario::draw(seed.context("a seed or a scenario is needed")?));
    };
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let scenario: Scenario =
        serde_json::from_str(&text).with_context(|| format!("{} holds no scenario", file.display()))?;
    if let Some(seed) = seed.filter(|seed| *seed != scenario.seed) {
        anyhow::bail!("{} was made from seed {}, not {seed}", file.display(), scenario.seed);
    }
    Ok(scenario)
}

/// A run that was carried out.
pub(crate) struct Carried {
    pub(crate) outcome: Outcome,
    pub(crate) record: Record,
    operations: Vec<Operation>,
    groups: BTreeMap<u64, String>,
}

impl Carried {
    /// All that two runs of one scenario have in common: what happened and what
    /// clients were told, a line each.
    fn evidence(&self) -> String {
        let calls = self.operations.iter().map(|operation| format!("{operation:?}\n"));
        self.record.trace() + &calls.collect::<String>()
    }

    pub(crate) fn write_bundle(&self, scenario: &Scenario, commit: Option<&str>, to: &Path) -> anyhow::Result<()> {
        let bundle = Bundle {
            scenario,
            commit,
            events: &self.record.events,
            operations: &self.operations,
            groups: &self.groups,
            violations: &self.outcome.violations,
        };
        bundle.write(to).with_context(|| format!("cannot write {}", to.display()))
    }
}

/// Runs a scenario in this process, once a process, and records it in
/// `recorder`. The first panic is written to `note` when it happens.
pub(crate) fn carry_out(scenario: &Scenario, recorder: &Recorder, note: Option<PathBuf>) -> Carried {
    listen_for_panics(note);
    let history = History::default();
    let stopped = crate::outside::stop_clocks();
    let finished = catch_unwind(AssertUnwindSafe(|| run_into(scenario, recorder, &history)));
    drop(stopped);
    let record = recorder.record();
    let mut violations = record.violations.clone();
    if let Some(panic) = FIRST_PANIC.get() {
        // What follows from a panic explains nothing.
        violations.insert(0, panicked(panic));
    }
    let trace = record.trace();
    let operations = history.snapshot();
    let last = record.events.last().map(|event| event.at).unwrap_or_default();
    let (groups, simulated, most_tasks) = match finished {
        Ok(finished) => (finished.groups, finished.simulated, finished.most_tasks),
        Err(_) => (BTreeMap::new(), last, 0),
    };
    let outcome = Outcome {
        seed: scenario.seed,
        nodes: scenario.nodes,
        violations,
        marks: record.marks.clone(),
        faults: record.faults.clone(),
        simulated_ms: milliseconds(simulated),
        cpu_ms: cpu_ms(),
        operations: operations.len() as u64,
        digest: format!("{:016x}", XxHash3_64::oneshot(trace.as_bytes())),
        most_tasks,
        bundle: None,
    };
    Carried { outcome, record, operations, groups }
}

/// The promise that a panic breaks.
pub(crate) fn panicked(first: &str) -> Violation {
    Violation::new("no-panic", first)
}

static FIRST_PANIC: OnceLock<String> = OnceLock::new();

fn listen_for_panics(note: Option<PathBuf>) {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if FIRST_PANIC.set(described(info)).is_ok()
            && let (Some(note), Some(panic)) = (&note, FIRST_PANIC.get())
        {
            // There is nobody to tell that it cannot be noted.
            let _ = fs::write(note, panic);
        }
        print(info);
    }));
}

/// Where it happened, and what it said.
fn described(info: &PanicHookInfo<'_>) -> String {
    let payload = info.payload();
    let message = payload.downcast_ref::<String>().map(String::as_str);
    let message = message.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("no message");
    let place = info.location().map_or_else(|| "somewhere".to_owned(), ToString::to_string);
    format!("{place}: {message}")
}

/// What this process has spent.
fn cpu_ms() -> u64 {
    let spent = Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default();
    milliseconds(spent)
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
