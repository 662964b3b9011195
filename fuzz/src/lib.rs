//! Fuzz targets: one for everything that reads bytes which came over a wire,
//! from a disk or from a person.
//!
//! ```text
//!   NAME::seeds ──▶ corpus ──▶ libFuzzer ──▶ fuzz_targets/NAME.rs ──▶ NAME::run(input)
//! ```
//!
//! A target is a module with two functions. `run` takes any bytes and panics
//! where a promise is broken: no panic in the code under test, and whatever
//! else the module says. `seeds` makes the inputs to begin with, with our own
//! encoders, so that they follow every change of a format.
//!
//! Checksums would stop a fuzzer at the first byte that it changes. Inputs
//! therefore say whether they are sealed, which makes their checksums right
//! before they are read; the code under test is the one that is shipped.
#![forbid(unsafe_code)]

pub mod batch;
pub mod config;
pub mod files;
pub mod frames;
mod image;
pub mod machines;
mod node;
pub mod peers;
pub mod recovery;
pub mod requests;
mod seal;

use std::path::PathBuf;
use std::{env, fs, process};

/// A target by its name.
pub struct Target {
    /// As in `fuzz_targets/`.
    pub name: &'static str,
    /// Puts an input to the code under test.
    pub run: fn(&[u8]),
    /// Inputs to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// Every target.
pub const TARGETS: [Target; 8] = [
    Target { name: "batch", run: batch::run, seeds: batch::seeds },
    Target { name: "config", run: config::run, seeds: config::seeds },
    Target { name: "files", run: files::run, seeds: files::seeds },
    Target { name: "frames", run: frames::run, seeds: frames::seeds },
    Target { name: "machines", run: machines::run, seeds: machines::seeds },
    Target { name: "peers", run: peers::run, seeds: peers::seeds },
    Target { name: "recovery", run: recovery::run, seeds: recovery::seeds },
    Target { name: "requests", run: requests::run, seeds: requests::seeds },
];

/// Called once before a target runs. With `FUZZ_SEEDS` it writes the target's
/// seeds into that directory, and the process ends.
pub fn begin(seeds: fn() -> Vec<Vec<u8>>) {
    let Some(directory) = env::var_os("FUZZ_SEEDS").map(PathBuf::from) else { return };
    fs::create_dir_all(&directory).expect("a directory for the seeds");
    for (number, seed) in seeds().into_iter().enumerate() {
        fs::write(directory.join(format!("seed-{number:03}")), seed).expect("a seed is written");
    }
    process::exit(0);
}

/// Splits the first byte off, which selects; 0 where there is none.
fn choice(input: &[u8]) -> (u8, &[u8]) {
    input.split_first().map_or((0, input), |(first, rest)| (*first, rest))
}

#[cfg(test)]
mod tests {
    use super::TARGETS;

    #[test]
    fn every_seed_passes_whole_cut_and_changed() {
        for target in TARGETS {
            let seeds = (target.seeds)();
            assert!(!seeds.is_empty(), "{} has no seeds", target.name);
            for seed in seeds {
                (target.run)(&seed);
                (target.run)(&seed[..seed.len() / 2]);
                let mut changed = seed;
                if let Some(byte) = changed.last_mut() {
                    *byte ^= 0x11;
                }
                (target.run)(&changed);
            }
        }
    }
}
