//! The command line: parses, picks the command, and turns its end into an
//! exit code.

mod serve;
mod signals;
mod up;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The request, the input or the configuration was refused; nothing changed.
const REFUSED: u8 = 1;
/// The command line is wrong.
const USAGE: u8 = 2;

/// A replicated commit log.
#[derive(Debug, Parser)]
#[command(name = "quipu", version, about, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::ServeArguments),
    Up(up::UpArguments),
}

/// Runs the command that the process was started with.
pub(crate) fn run() -> ExitCode {
    // A usage error ends the process here, with exit code 2.
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&format!("cannot start: {error}"));
            return ExitCode::from(REFUSED);
        }
    };
    runtime.block_on(async {
        match arguments.command {
            Command::Serve(arguments) => serve::run(arguments).await,
            Command::Up(arguments) => up::run(arguments).await,
        }
    })
}

/// Tells a person what went wrong, on standard error.
#[expect(clippy::print_stderr, reason = "this is where a command speaks to its user")]
fn complain(message: &str) {
    eprintln!("quipu: {message}");
}
