//! `quipu-simulation run`: a sweep over many seeds.

use std::fs;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use owo_colors::OwoColorize as _;
use quipu_simulation::bundle;

use super::one::load;
use super::outcome::Outcome;
use super::output::{counted, for_people, seconds};
use super::place;
use super::pool::{self, Done, Pool, PoolArguments, Task};
use super::sweep::Sweep;

/// So many seeds, unless something else ends the sweep.
const SEEDS: u64 = 100;
/// Seeds and scenarios that failed once, relative to the repository.
const REGRESSIONS: &str = "simulation/regressions.txt";

/// Run many seeds, each in a process of its own, and sum up.
///
/// A seed that breaks a promise leaves a bundle: a timeline to look at, the
/// trace, the history, and the command that repeats it. The sums are printed
/// and appended to simulation/sweeps.jsonl in the build's target directory.
/// Fails when a promise was not kept, and when a sweep of 500 seeds or more
/// never reached one of the rare states that it is there to reach.
#[derive(Debug, Args)]
pub(crate) struct RunArguments {
    /// Run so many seeds [default: 100, or as many as `--minutes` gives time for].
    #[arg(long, value_name = "N")]
    seeds: Option<u64>,
    /// Begin with this seed.
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    from: u64,
    /// Begin with a seed that nobody has run: the clock's.
    #[arg(long, conflicts_with = "from")]
    fresh: bool,
    /// Begin no run after so many minutes.
    #[arg(long, value_name = "M")]
    minutes: Option<f64>,
    /// Go on after a failure, to see how many there are and of what kind.
    #[arg(long)]
    keep_going: bool,
    /// Run what failed once: the seeds and scenarios of simulation/regressions.txt.
    #[arg(long, conflicts_with_all = ["seeds", "from", "fresh"])]
    regressions: bool,
    #[command(flatten)]
    pool: PoolArguments,
}

pub(crate) fn run(arguments: &RunArguments) -> anyhow::Result<ExitCode> {
    let mut pool = Pool::new(&arguments.pool)?;
    let mut output = for_people();
    let limit = arguments.minutes.map(minutes).transpose()?;
    let mut sweep = Sweep { commit: pool.commit().map(ToOwned::to_owned), ..Sweep::default() };
    let (tasks, count): (Box<dyn Iterator<Item = Task>>, Option<u64>) = if arguments.regressions {
        let tasks = regressions()?;
        let count = tasks.len() as u64;
        (Box::new(tasks.into_iter()), Some(count))
    } else {
        let from = if arguments.fresh { fresh() } else { arguments.from };
        let count = arguments.seeds.or_else(|| limit.is_none().then_some(SEEDS));
        let last = count.map_or(u64::MAX, |count| from.saturating_add(count));
        sweep.from = Some(from);
        writeln!(output, "from seed {from}, {} at a time", pool.jobs())?;
        (Box::new((from..last).map(Task::of_seed)), count)
    };
    let ends = Ends { at: limit.map(|limit| pool::now() + limit), at_failure: !arguments.keep_going };
    let progress = Progress::new(count);
    carry_out(&mut pool, tasks, &ends, &mut sweep, &progress)?;
    progress.bar.finish_and_clear();
    if sweep.seeds > 0 {
        sweep.keep()?;
    }
    sweep.print(&mut output)?;
    Ok(if sweep.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Minutes of a command line.
pub(crate) fn minutes(minutes: f64) -> anyhow::Result<Duration> {
    Duration::try_from_secs_f64(minutes * 60.0).context("--minutes takes a time")
}

/// What ends a sweep early. What runs by then is waited for.
struct Ends {
    at: Option<Instant>,
    at_failure: bool,
}

fn carry_out(
    pool: &mut Pool,
    mut tasks: impl Iterator<Item = Task>,
    ends: &Ends,
    sweep: &mut Sweep,
    progress: &Progress,
) -> anyhow::Result<()> {
    loop {
        let over = ends.at.is_some_and(|at| pool::now() >= at) || (ends.at_failure && !sweep.failures.is_empty());
        if !over
            && !pool.is_full()
            && let Some(task) = tasks.next()
        {
            pool.start(task)?;
            continue;
        }
        let Some(done) = pool.wait(|| progress.bar.tick())? else { return Ok(()) };
        sweep.add(&done.outcome);
        progress.show(sweep);
        if done.outcome.broken().is_some() {
            progress.bar.suspend(|| tell(&done))?;
        }
    }
}

/// Tells of a failure the moment it is known.
fn tell(done: &Done) -> anyhow::Result<()> {
    let Outcome { seed, violations, bundle, .. } = &done.outcome;
    let mut output = for_people();
    writeln!(output, "{} seed {seed}", "✗".red().bold())?;
    // One defect may show in many ways; the first explains most.
    for violation in violations.iter().take(3) {
        writeln!(output, "  {violation}")?;
    }
    if violations.len() > 3 {
        writeln!(output, "  and {} more", violations.len() - 3)?;
    }
    if let Some(directory) = bundle {
        writeln!(output, "  bundle: {}", directory.display())?;
        let scenario = load(Some(*seed), done.task.scenario.as_deref())?;
        writeln!(output, "  replay: {}", bundle::replay_command(&scenario, directory))?;
    }
    Ok(())
}

/// A line that is there while a sweep runs, on a terminal only.
struct Progress {
    bar: ProgressBar,
}

impl Progress {
    fn new(count: Option<u64>) -> Self {
        let (bar, template) = match count {
            Some(count) => (ProgressBar::new(count), "{bar:30} {human_pos}/{human_len} seeds{msg}"),
            None => (ProgressBar::no_length(), "{spinner} {human_pos} seeds in {elapsed}{msg}"),
        };
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        Self { bar: bar.with_style(style) }
    }

    fn show(&self, sweep: &Sweep) {
        let faults = counted(sweep.fired(), "fault", "faults");
        let failures = counted(sweep.failures.len() as u64, "failure", "failures");
        self.bar.set_message(format!(", {} simulated, {faults}, {failures}", seconds(sweep.simulated_ms)));
        self.bar.set_position(sweep.seeds);
    }
}

/// A seed that nobody has run.
#[expect(clippy::disallowed_methods, reason = "what a sweep begins with is chosen outside of every simulation")]
fn fresh() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    // Seconds alone would let sweeps that begin one after the other overlap.
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// What failed once.
fn regressions() -> anyhow::Result<Vec<Task>> {
    let file = place::repository().join(REGRESSIONS);
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    parse_regressions(&text).map(|what| as_task(what, file.parent().expect("a file lies somewhere"))).collect()
}

/// The first word of each line that is neither empty nor a comment.
fn parse_regressions(text: &str) -> impl Iterator<Item = &str> {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_whitespace().next())
}

/// A seed or, relative to `directory`, a scenario's file.
fn as_task(what: &str, directory: &std::path::Path) -> anyhow::Result<Task> {
    if let Ok(seed) = what.parse() {
        return Ok(Task::of_seed(seed));
    }
    let file = directory.join(what);
    let seed = load(None, Some(&file))?.seed;
    Ok(Task { scenario: Some(file), ..Task::of_seed(seed) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regressions_are_seeds_and_files_with_comments() {
        let text = "# kept for ever\n\n17 a vote was lost\n  regressions/torn.json  a torn tail\n";
        assert_eq!(parse_regressions(text).collect::<Vec<_>>(), ["17", "regressions/torn.json"]);
    }

    #[test]
    fn every_regression_of_the_project_can_be_run() {
        regressions().expect("simulation/regressions.txt names seeds and scenarios that are there");
    }
}
