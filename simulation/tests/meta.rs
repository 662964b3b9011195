//! The simulator itself: whether its runs repeat, on which all else rests.

use std::collections::BTreeSet;
use std::process::Command;

/// What `twice` says of these seeds, a line each.
fn twice(seeds: &[&str]) -> Vec<String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quipu-simulation"));
    let output = command.arg("twice").args(seeds).output().expect("the binary can be run");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{said}\n{complained}", output.status);
    said.lines().map(ToOwned::to_owned).collect()
}

#[test]
fn same_seed_gives_the_same_trace_in_two_processes() {
    let said = twice(&["1", "2", "3"]);
    assert_eq!(said.len(), 3, "{said:?}");
}

#[test]
fn different_seeds_give_different_traces() {
    let said = twice(&["4", "5"]);
    let digests: BTreeSet<&str> = said.iter().filter_map(|line| line.rsplit(' ').next()).collect();
    assert_eq!(digests.len(), 2, "{said:?}");
}

#[test]
fn every_seeded_bug_still_applies() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quipu-simulation"));
    let output = command.args(["bugs", "--check"]).output().expect("the binary can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
