//! The command line: parses, picks the command, and turns its end into an
//! exit code.
//!
//! Wall clocks, processes and files are this module's alone; a simulated run
//! knows none of them.

mod bugs;
mod one;
mod outcome;
mod output;
mod place;
mod pool;
mod replay;
mod report;
mod run;
mod shrink;
mod sweep;
mod twice;

use std::io;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The exit code when a command could not do its work, as for wrong usage.
const COULD_NOT: u8 = 2;

/// Runs whole clusters from a seed, in simulated time, with everything going
/// wrong that can, and checks what clients were promised.
#[derive(Debug, Parser)]
#[command(name = "quipu-simulation", max_term_width = 100, after_help = AFTER_HELP)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Exit codes: 0 every promise was kept, 1 one was not, 2 wrong usage or the command could not do its work.

Try it:
  quipu-simulation run --seeds 100 --keep-going     a sweep; failures leave a bundle each
  quipu-simulation run --fresh --minutes 60         seeds that nobody has run, for an hour
  quipu-simulation replay 17 --trace                one of them again, to look at it
  quipu-simulation replay 17 --bundle /tmp/17       the same as a timeline for the browser
  quipu-simulation shrink 17                        the fewest faults and nodes that still fail
  quipu-simulation bugs                             whether defects made on purpose are found";

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::RunArguments),
    Replay(replay::ReplayArguments),
    Shrink(shrink::ShrinkArguments),
    Twice(twice::TwiceArguments),
    Report(report::ReportArguments),
    Bugs(bugs::BugsArguments),
    #[command(hide = true)]
    One(one::OneArguments),
}

/// Runs the command that the process was started with.
pub(crate) fn run() -> ExitCode {
    // A usage error ends the process here, with exit code 2.
    let done = match Arguments::parse().command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Replay(arguments) => replay::run(arguments),
        Command::Shrink(arguments) => shrink::run(arguments),
        Command::Twice(arguments) => twice::run(&arguments),
        Command::Report(arguments) => report::run(&arguments),
        Command::Bugs(arguments) => bugs::run(&arguments),
        Command::One(arguments) => one::run(arguments),
    };
    done.unwrap_or_else(|error| {
        // Whoever read our output has seen enough, as `head` has: no failure.
        let closed = error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe);
        if closed {
            return ExitCode::SUCCESS;
        }
        output::complain(&format!("{error:#}"));
        ExitCode::from(COULD_NOT)
    })
}
