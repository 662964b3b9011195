//! `quipu-simulation bugs`: proof that the net holds.
//!
//! ```text
//!   bugs/*.patch ─▶ scratch copy of the source ─▶ built ─▶ seeds until one fails
//!                                                            │ and does not fail
//!                                                            ▼ without the bug
//!                                                          caught
//! ```
//!
//! No production code knows of these defects: they are patches, and what they
//! patch is a copy.

mod patch;
mod scratch;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use owo_colors::OwoColorize as _;

use self::patch::Patch;
use self::scratch::Scratch;
use super::outcome::Outcome;
use super::output::{Table, counted, for_people, grouped, seconds};
use super::place;
use super::pool::{self, Pool, PoolArguments, Task};
use super::run::minutes;

/// Where the table is published.
const DOCUMENT: &str = "docs/simulation.md";
const BEGIN: &str = "<!-- bugs -->";
const END: &str = "<!-- /bugs -->";

/// Put known defects into a copy of the source, one at a time, and see whether
/// they are found.
///
/// Each file of simulation/bugs is a patch with lines above it that say what it
/// breaks. A seed counts only if it keeps every promise without the defect, and
/// breaks one that no seed breaks without any: a defect moves all that follows,
/// so that a failure which is there anyway may show with another seed.
#[derive(Debug, Args)]
pub(crate) struct BugsArguments {
    /// Only bugs whose names begin so [default: all].
    names: Vec<String>,
    /// Run at most so many seeds for each.
    #[arg(long, value_name = "N", default_value_t = 500)]
    seeds: u64,
    /// Begin no run after so many minutes for each.
    #[arg(long, value_name = "M", default_value_t = 10.0)]
    minutes: f64,
    /// Run so many seeds without a defect first, to know what breaks anyway.
    #[arg(long, value_name = "N", default_value_t = 100)]
    sound_seeds: u64,
    /// Only check that every patch applies that needs nothing.
    #[arg(long, conflicts_with_all = ["write", "list"])]
    check: bool,
    /// Only list them.
    #[arg(long, conflicts_with = "write")]
    list: bool,
    /// Write the table into docs/simulation.md.
    #[arg(long)]
    write: bool,
    #[command(flatten)]
    pool: PoolArguments,
}

pub(crate) fn run(arguments: &BugsArguments) -> anyhow::Result<ExitCode> {
    let mut patches = patch::all(&place::repository().join("simulation/bugs"))?;
    if !arguments.names.is_empty() {
        for name in &arguments.names {
            let known = patches.iter().any(|patch| patch.name.starts_with(name.as_str()));
            anyhow::ensure!(known, "no bug's name begins with {name}; --list has them all");
        }
        patches.retain(|patch| arguments.names.iter().any(|name| patch.name.starts_with(name.as_str())));
    }
    let mut output = for_people();
    if arguments.list {
        let mut table = Table::new(["bug", "what it breaks", "needs"]);
        for Patch { name, about, needs, .. } in patches {
            table.row([&name, &about, &needs.unwrap_or_default()]);
        }
        table.write(&mut output, "")?;
        return Ok(ExitCode::SUCCESS);
    }
    if arguments.check {
        return check(&Scratch::to_check()?, &patches);
    }
    let scratch = Scratch::new()?;
    let mut table = Table::new(["bug", "what it breaks", "caught by seed", "promise", " seeds", " CPU"]);
    let mut all_caught = true;
    scratch.seed_target()?;
    let anyway = broken_anyway(arguments)?;
    for promise in &anyway {
        writeln!(output, "does not count, as it breaks without a defect: {promise}")?;
    }
    for patch in &patches {
        let verdict = match &patch.needs {
            Some(feature) => Verdict::Skipped(feature.clone()),
            None => hunt(arguments, &scratch, patch, &anyway)?,
        };
        all_caught &= !matches!(verdict, Verdict::Missed { .. } | Verdict::Broken(_));
        verdict.tell(patch)?;
        let [seed, promise, seeds, cpu] = verdict.cells();
        table.row([&patch.name, &patch.about, &seed, &promise, &seeds, &cpu]);
    }
    writeln!(output)?;
    table.write(&mut output, "")?;
    if arguments.write {
        publish(&table.to_markdown())?;
    }
    Ok(if all_caught { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn check(scratch: &Scratch, patches: &[Patch]) -> anyhow::Result<ExitCode> {
    let mut output = for_people();
    let mut all_apply = true;
    // What it breaks may not be there yet.
    let patches: Vec<&Patch> = patches.iter().filter(|patch| patch.needs.is_none()).collect();
    for patch in &patches {
        scratch.restore(patch.vendor.as_deref())?;
        match scratch.applies(patch) {
            Ok(()) => writeln!(output, "{} {}", "✓".green().bold(), patch.name)?,
            Err(why) => {
                all_apply = false;
                writeln!(output, "{} {}: {why}", "✗".red().bold(), patch.name)?;
            }
        }
    }
    writeln!(output, "{}", counted(patches.len() as u64, "patch was tried", "patches were tried"))?;
    Ok(if all_apply { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What became of a bug.
enum Verdict {
    Caught {
        seed: u64,
        promise: String,
        seeds: u64,
        cpu_ms: u64,
    },
    Missed {
        seeds: u64,
        cpu_ms: u64,
    },
    /// It cannot be built.
    Broken(String),
    /// What it breaks is not there yet.
    Skipped(String),
}

impl Verdict {
    fn cells(&self) -> [String; 4] {
        let none = String::new;
        match self {
            Self::Caught { seed, promise, seeds, cpu_ms } => {
                [seed.to_string(), promise.clone(), grouped(*seeds), seconds(*cpu_ms)]
            }
            Self::Missed { seeds, cpu_ms } => ["not caught".to_owned(), none(), grouped(*seeds), seconds(*cpu_ms)],
            Self::Broken(_) => ["cannot be built".to_owned(), none(), none(), none()],
            Self::Skipped(feature) => [format!("needs {feature}"), none(), none(), none()],
        }
    }

    fn tell(&self, patch: &Patch) -> anyhow::Result<()> {
        let mut output = for_people();
        let name = &patch.name;
        match self {
            Self::Caught { seed, promise, seeds, cpu_ms } => {
                let spent = format!("after {seeds} seeds and {} of processor time", seconds(*cpu_ms));
                writeln!(output, "{} {name}: seed {seed} breaks {promise}, {spent}", "✓".green().bold())?;
            }
            Self::Missed { seeds, .. } => {
                writeln!(output, "{} {name}: not caught by {seeds} seeds", "✗".red().bold())?;
            }
            Self::Broken(why) => writeln!(output, "{} {name}: {why}", "✗".red().bold())?,
            Self::Skipped(feature) => writeln!(output, "- {name}: needs {feature}")?,
        }
        Ok(())
    }
}

/// The promises that break without any defect.
fn broken_anyway(arguments: &BugsArguments) -> anyhow::Result<BTreeSet<String>> {
    let seeds = (1..=arguments.sound_seeds).map(|seed| Task { seed, ..Task::default() });
    let done = Pool::new(&arguments.pool)?.all(seeds)?;
    let violations = done.into_iter().flat_map(|done| done.outcome.violations);
    Ok(violations.map(|violation| violation.promise).collect())
}

fn hunt(
    arguments: &BugsArguments,
    scratch: &Scratch,
    patch: &Patch,
    anyway: &BTreeSet<String>,
) -> anyhow::Result<Verdict> {
    scratch.restore(patch.vendor.as_deref())?;
    let built = scratch.apply(patch).and_then(|()| scratch.build());
    let binary = match built {
        Ok(binary) => binary,
        Err(why) => return Ok(Verdict::Broken(format!("{why:#}"))),
    };
    let failures = place::failures()?.join("bugs").join(&patch.name);
    let mut pool = Pool::new(&arguments.pool)?.of_program(binary).keeps_in(failures);
    let mut sound = Pool::new(&arguments.pool)?;
    let ends_at = pool::now() + minutes(arguments.minutes)?;
    let (mut seeds, mut cpu_ms) = (0, 0);
    let mut next = 1..=arguments.seeds;
    loop {
        if !pool.is_full()
            && pool::now() < ends_at
            && let Some(seed) = next.next()
        {
            pool.start(Task::of_seed(seed))?;
            continue;
        }
        let Some(done) = pool.wait(|| {})? else { return Ok(Verdict::Missed { seeds, cpu_ms }) };
        seeds += 1;
        cpu_ms += done.outcome.cpu_ms;
        let Outcome { seed, .. } = done.outcome;
        let Some(promise) = done.outcome.broken().filter(|promise| !anyway.contains(*promise)) else { continue };
        // What fails without the bug as well says nothing about it.
        let without = sound.all([Task { seed, ..Task::default() }])?;
        if without.iter().all(|done| done.outcome.broken().is_none()) {
            pool.end_all();
            return Ok(Verdict::Caught { seed, promise: promise.to_owned(), seeds, cpu_ms });
        }
    }
}

/// Puts the table between its markers.
fn publish(table: &str) -> anyhow::Result<()> {
    let file: PathBuf = place::repository().join(DOCUMENT);
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {DOCUMENT}"))?;
    let text = with_table(&text, table).with_context(|| format!("{DOCUMENT} lacks {BEGIN} or {END}"))?;
    fs::write(&file, text).with_context(|| format!("cannot write {DOCUMENT}"))
}

fn with_table(text: &str, table: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{table}{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_replaces_the_one_before() {
        let once = with_table("a\n<!-- bugs -->\n<!-- /bugs -->\nb\n", "| x |\n").expect("it has its markers");
        assert_eq!(once, "a\n<!-- bugs -->\n| x |\n<!-- /bugs -->\nb\n");
        assert_eq!(with_table(&once, "| x |\n").as_ref(), Some(&once));
        assert_eq!(with_table("nothing", ""), None);
    }

    #[test]
    fn the_document_has_a_place_for_the_table() {
        let text = fs::read_to_string(place::repository().join(DOCUMENT)).expect("it is there");
        assert!(with_table(&text, "").is_some(), "{DOCUMENT} lacks {BEGIN} or {END}");
    }
}
