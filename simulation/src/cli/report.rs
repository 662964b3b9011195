//! `quipu-simulation report`: all sweeps so far.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;

use super::output::{Table, for_people, grouped, per, seconds};
use super::place;
use super::sweep::Sweep;

/// Sum up all sweeps that were kept, by commit and in all.
///
/// A commit with a `+` is one that had changes on top of it.
#[derive(Debug, Args)]
pub(crate) struct ReportArguments {
    /// Only this commit.
    #[arg(long)]
    commit: Option<String>,
}

pub(crate) fn run(arguments: &ReportArguments) -> anyhow::Result<ExitCode> {
    let file = place::sweeps()?;
    let text = fs::read_to_string(&file).with_context(|| format!("no sweep was kept in {}", file.display()))?;
    let mut commits: Vec<(String, u64, Sweep)> = Vec::new();
    let mut positions = BTreeMap::new();
    let mut all = Sweep::default();
    for (number, line) in (1..).zip(text.lines()) {
        let sweep: Sweep = serde_json::from_str(line).with_context(|| format!("{}, line {number}", file.display()))?;
        let commit = sweep.commit.clone().unwrap_or_else(|| "unknown".to_owned());
        if arguments.commit.as_ref().is_some_and(|only| *only != commit) {
            continue;
        }
        // In the order in which they were first run.
        let position = *positions.entry(commit.clone()).or_insert(commits.len());
        if position == commits.len() {
            commits.push((commit, 0, Sweep::default()));
        }
        let (_, sweeps, sum) = &mut commits[position];
        *sweeps += 1;
        sum.merge(&sweep);
        all.merge(&sweep);
    }
    let heading = ["commit", " sweeps", " seeds", " failures", " simulated", " CPU", " s a CPU second", " faults"];
    let mut table = Table::new(heading);
    for (commit, sweeps, sum) in commits {
        table.row([
            &commit,
            &grouped(sweeps),
            &grouped(sum.seeds),
            &grouped(sum.failures.len() as u64),
            &seconds(sum.simulated_ms),
            &seconds(sum.cpu_ms),
            &format!("{:.1}", per(sum.simulated_ms, sum.cpu_ms)),
            &grouped(sum.fired()),
        ]);
    }
    let mut output = for_people();
    table.write(&mut output, "")?;
    all.print(&mut output)?;
    writeln!(output)?;
    Ok(ExitCode::SUCCESS)
}
