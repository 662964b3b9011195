//! The simulator's command line: runs seeds, repeats failures, makes them
//! smaller.
//!
//! Exit codes: 0 all promises were kept, 1 one was not, 2 wrong usage or the
//! command could not do its work.
#![deny(unsafe_code)]

mod cli;
mod outside;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
