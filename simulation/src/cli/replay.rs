//! `quipu-simulation replay`: a run again, in this process, to look at it.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use owo_colors::OwoColorize as _;
use quipu_simulation::recorder::Recorder;
use quipu_simulation::{points, promises};

use super::one::{carry_out, load};
use super::output::{counted, for_people, seconds};
use super::place;

/// Run a seed again, in this process, and say what it came to.
///
/// A seed gives the same run on the same commit, byte for byte. On another
/// commit it may give another scenario: the file in a failure's bundle still
/// gives the one that failed.
#[derive(Debug, Args)]
pub(crate) struct ReplayArguments {
    /// The seed.
    #[arg(required_unless_present = "scenario")]
    seed: Option<u64>,
    /// Run this scenario instead of the seed's own: scenario.json of a bundle.
    #[arg(long, value_name = "FILE")]
    scenario: Option<PathBuf>,
    /// Print everything that happens, a line each, when it happens: of a run
    /// that hangs or dies, everything until then.
    #[arg(long)]
    trace: bool,
    /// Print what the nodes log, on standard error: `debug`, `quipu_raft=trace`.
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
    /// Write a bundle here, with a timeline to look at, whether it fails or not.
    #[arg(long, value_name = "DIR")]
    bundle: Option<PathBuf>,
}

pub(crate) fn run(arguments: ReplayArguments) -> anyhow::Result<ExitCode> {
    let scenario = load(arguments.seed, arguments.scenario.as_deref())?;
    points::install(arguments.log.as_deref());
    let recorder = Recorder::default();
    if arguments.trace {
        // Flushed with each line, for whoever ends a run that hangs.
        recorder.tell(io::stdout());
    }
    let carried = carry_out(&scenario, &recorder, None);
    let outcome = &carried.outcome;
    let mut output = for_people();
    for (name, value) in scenario.summary() {
        writeln!(output, "{name:<32}{value}")?;
    }
    let spent = format!("simulated in {} of processor time", seconds(outcome.cpu_ms));
    let calls = counted(outcome.operations, "call", "calls");
    let faults = counted(outcome.fired(), "fault", "faults");
    writeln!(output, "{} {spent}: {calls}, {faults}; trace {}", seconds(outcome.simulated_ms), outcome.digest)?;
    for violation in &outcome.violations {
        writeln!(output, "{} {}: {}", "✗".red().bold(), violation.promise.bold(), violation.details)?;
        if let Some(meaning) = promises::meaning(&violation.promise) {
            writeln!(output, "  promised: {meaning}")?;
        }
    }
    if outcome.violations.is_empty() {
        writeln!(output, "{} every promise was kept", "✓".green().bold())?;
    }
    if let Some(directory) = arguments.bundle {
        carried.write_bundle(&scenario, place::commit().as_deref(), &directory)?;
        writeln!(output, "timeline: {}", directory.join("timeline.html").display())?;
    }
    Ok(if outcome.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
