//! The `quipu` command: nodes, and a client for people and scripts.
//!
//! Exit codes: 0 done, 1 refused, 2 usage, 3 outcome unknown, 4 unavailable.
#![forbid(unsafe_code)]

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
