//! What `quipu` does with its arguments alone, without a cluster.
//!
//! (Cargo builds a package's binaries for its integration tests. This being
//! one, `cargo test --workspace` also builds the `quipu` that the tests over
//! real processes run.)
#![forbid(unsafe_code)]

use std::process::{Command, Output};

fn quipu(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_quipu"))
        .args(arguments)
        .env_remove("QUIPU_BOOTSTRAP")
        .output()
        .expect("the binary runs")
}

#[test]
fn help_names_every_command_and_says_something_of_each() {
    let help = quipu(&["--help"]);
    assert!(help.status.success(), "{help:?}");
    let text = String::from_utf8(help.stdout).expect("text");
    for command in ["serve", "up", "log", "append", "read", "tail", "status", "bench", "demo"] {
        let line = text.lines().find(|line| line.split_whitespace().next() == Some(command));
        let words = line.unwrap_or_else(|| panic!("{command} is missing:\n{text}")).split_whitespace().count();
        assert!(words > 2, "{command} is not explained:\n{text}");

        let help = quipu(&[command, "--help"]);
        assert!(help.status.success() && !help.stdout.is_empty(), "{command}: {help:?}");
    }
}

#[test]
fn help_tells_of_the_cluster_to_reach_only_where_there_is_one() {
    let help = |arguments: &[&str]| String::from_utf8(quipu(arguments).stdout).expect("text");
    for command in [&["serve"][..], &["up"], &["demo"], &["bench", "disk"]] {
        let text = help(&[command, &["--help"]].concat());
        assert!(!text.contains("--bootstrap") && !text.contains("--timeout"), "{text}");
    }
    for command in [&["append"][..], &["log", "describe"], &["bench", "append"], &["status"]] {
        let text = help(&[command, &["--help"]].concat());
        assert!(text.contains("--bootstrap") && text.contains("--timeout"), "{text}");
    }
}

#[test]
fn a_wrong_use_exits_with_2_and_prints_nothing() {
    let uses: [&[&str]; 9] = [
        &[],
        &["fly"],
        &["append"],
        &["append", "x", "--compression", "snappy"],
        &["append", "x", "--batch-records", "0"],
        &["read", "x", "--from", "middle"],
        &["read", "x", "--from", "-1"],
        &["read", "x", "--from", "0", "--format", "xml"],
        &["log", "create", "x", "--replicas", "many"],
    ];
    for arguments in uses {
        let refused = quipu(arguments);
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}: {refused:?}");
        assert!(refused.stdout.is_empty() && !refused.stderr.is_empty(), "{arguments:?}: {refused:?}");
    }
}

#[test]
fn a_client_that_is_told_of_no_cluster_says_how_to_tell_it() {
    let refused = quipu(&["status"]);
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    let complaint = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(complaint.contains("--bootstrap") && complaint.contains("QUIPU_BOOTSTRAP"), "{complaint}");
}

#[test]
fn nothing_is_coloured_where_no_terminal_is() {
    for arguments in [&["--help"][..], &["fly"]] {
        let output = quipu(arguments);
        assert!(!output.stdout.contains(&0x1b) && !output.stderr.contains(&0x1b), "{arguments:?}: {output:?}");
    }
}
