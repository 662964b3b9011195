//! `quipu-simulation twice`: whether runs repeat at all.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use owo_colors::OwoColorize as _;

use super::output::{for_people, grouped};
use super::pool::{Done, Pool, PoolArguments, Task};

/// Run seeds in two processes each and compare their traces, byte for byte.
///
/// Everything else rests on this: what does not repeat cannot be replayed, nor
/// made smaller. Whether promises are kept does not matter here.
#[derive(Debug, Args)]
pub(crate) struct TwiceArguments {
    /// The seeds.
    #[arg(required_unless_present = "count", value_name = "SEED")]
    seeds: Vec<u64>,
    /// So many seeds, from `--from` on, as well.
    #[arg(long = "seeds", value_name = "N", id = "count")]
    count: Option<u64>,
    /// The first of them.
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    from: u64,
    #[command(flatten)]
    pool: PoolArguments,
}

pub(crate) fn run(arguments: &TwiceArguments) -> anyhow::Result<ExitCode> {
    let mut pool = Pool::new(&arguments.pool)?;
    let mut output = for_people();
    let counted = arguments.from..arguments.from.saturating_add(arguments.count.unwrap_or_default());
    let seeds = arguments.seeds.iter().copied().chain(counted);
    let mut all_same = true;
    for seed in seeds {
        let task = Task { seed, trace: true, ..Task::default() };
        let done = pool.all([task.clone(), task])?;
        let [one, other] = done.try_into().ok().context("two tasks end twice")?;
        match difference(&one, &other) {
            None => {
                let lines = one.trace.iter().flatten().filter(|byte| **byte == b'\n').count() as u64;
                let what = format!("the same {} lines twice, {}", grouped(lines), one.outcome.digest);
                writeln!(output, "{} seed {seed}: {what}", "✓".green().bold())?;
            }
            Some(difference) => {
                all_same = false;
                writeln!(output, "{} seed {seed}: {difference}", "✗".red().bold())?;
            }
        }
    }
    Ok(if all_same { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What tells two runs of one scenario apart, if anything does.
fn difference(one: &Done, other: &Done) -> Option<String> {
    let (Some(first), Some(second)) = (&one.trace, &other.trace) else {
        let broken = [one, other].map(|done| done.outcome.broken().unwrap_or("kept").to_owned());
        return Some(format!("a process left no trace: {} and {}", broken[0], broken[1]));
    };
    if let Some(difference) = first_difference(&String::from_utf8_lossy(first), &String::from_utf8_lossy(second)) {
        return Some(difference);
    }
    // What is found after the run has no line of its own.
    (one.outcome.violations != other.outcome.violations).then(|| {
        format!("the same trace is judged twice: {:?} and {:?}", one.outcome.violations, other.outcome.violations)
    })
}

fn first_difference(one: &str, other: &str) -> Option<String> {
    if one == other {
        return None;
    }
    let (mut first, mut second) = (one.lines(), other.lines());
    for number in 1_u64.. {
        let (left, right) = (first.next(), second.next());
        if left != right {
            let told = |line: Option<&str>| line.map_or_else(|| "(ended)".to_owned(), ToOwned::to_owned);
            return Some(format!("the traces differ in line {number}:\n  {}\n  {}", told(left), told(right)));
        }
        if left.is_none() {
            break;
        }
    }
    Some("the traces differ in how their lines end".to_owned())
}

#[cfg(test)]
mod tests {
    use super::first_difference;

    #[test]
    fn the_first_line_that_differs_is_named() {
        assert_eq!(first_difference("a\nb\n", "a\nb\n"), None);
        let found = first_difference("a\nb\nc\n", "a\nx\ny\n").expect("they differ");
        assert_eq!(found, "the traces differ in line 2:\n  b\n  x");
        let found = first_difference("a\n", "a\nb\n").expect("they differ");
        assert_eq!(found, "the traces differ in line 2:\n  (ended)\n  b");
        assert!(first_difference("a\n", "a").is_some());
    }
}
