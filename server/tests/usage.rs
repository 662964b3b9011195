//! What `quipu` does with its arguments alone, without a cluster.
//!
//! (Cargo builds a package's binaries for its integration tests. This being
//! one, `cargo test --workspace` also builds the `quipu` that the tests over
//! real processes run.)
#![forbid(unsafe_code)]

use std::process::{Command, Output};

fn quipu(arguments: &[&str]) -> Output {
    quipu_with(&[], arguments)
}

/// With these variables, and no others that `quipu` would look at.
fn quipu_with(variables: &[(&str, &str)], arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quipu"));
    let ours = std::env::vars_os().map(|(name, _)| name).filter(|name| name.to_string_lossy().starts_with("QUIPU_"));
    for name in ours {
        command.env_remove(name);
    }
    command.args(arguments).envs(variables.iter().copied()).output().expect("the binary runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn help_names_every_command_and_says_something_of_each() {
    let help = quipu(&["--help"]);
    assert!(help.status.success(), "{help:?}");
    let text = String::from_utf8(help.stdout).expect("text");
    for command in [
        "serve",
        "up",
        "config",
        "log",
        "append",
        "read",
        "tail",
        "status",
        "top",
        "log-level",
        "bench",
        "demo",
        "completions",
        "man",
    ] {
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
    for command in [
        &["serve"][..],
        &["up"],
        &["demo"],
        &["completions"],
        &["man"],
        &["config"],
        &["config", "check"],
        &["config", "show"],
        &["bench", "disk"],
    ] {
        let text = help(&[command, &["--help"]].concat());
        assert!(!text.contains("--bootstrap") && !text.contains("--timeout"), "{text}");
    }
    for command in [&["append"][..], &["log", "describe"], &["bench", "append"], &["status"], &["top"]] {
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
fn top_wants_a_terminal_and_says_what_to_do_without_one() {
    let refused = quipu(&["top", "--bootstrap", "127.0.0.1:1"]);
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    assert!(text(&refused.stderr).contains("--once") && refused.stdout.is_empty(), "{refused:?}");
    let nobody = quipu(&["top", "--once", "--bootstrap", "127.0.0.1:1", "--timeout", "1"]);
    assert_eq!(nobody.status.code(), Some(4), "{nobody:?}");
}

#[test]
fn nothing_is_coloured_where_no_terminal_is() {
    for arguments in [&["--help"][..], &["fly"]] {
        let output = quipu(arguments);
        assert!(!output.stdout.contains(&0x1b) && !output.stderr.contains(&0x1b), "{arguments:?}: {output:?}");
    }
}

#[test]
fn config_show_tells_what_holds_and_where_it_comes_from() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/quipu.example.toml");
    let variables = [("QUIPU_RAFT_HEARTBEAT_MS", "60"), ("QUIPU_CONFIG", example)];
    let shown = quipu_with(&variables, &["config", "show", "--node-id", "2", "--set", "server.metrics_logs=7"]);
    assert!(shown.status.success(), "{shown:?}");
    let table = text(&shown.stdout);
    let row = |key: &str| {
        let row = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).find(|row| row[0] == key);
        row.unwrap_or_else(|| panic!("{key} is missing:\n{table}"))
    };
    assert_eq!(row("node_id"), ["node_id", "2", "flag"]);
    assert_eq!(row("raft.heartbeat_ms"), ["raft.heartbeat_ms", "60", "QUIPU_RAFT_HEARTBEAT_MS"]);
    assert_eq!(row("server.metrics_logs"), ["server.metrics_logs", "7", "flag"]);
    assert_eq!(row("log.check_records"), ["log.check_records", "true", example]);

    let json = quipu_with(&[("QUIPU_LISTEN", "a:1")], &["config", "show", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    let entry =
        |key: &str| json.as_array().and_then(|all| all.iter().find(|entry| entry["key"] == key)).expect("there");
    assert_eq!(entry("listen")["from"], serde_json::json!({"environment": "QUIPU_LISTEN"}));
    assert_eq!(entry("listen")["value"], "a:1");
    assert_eq!(entry("node_id"), &serde_json::json!({"key": "node_id", "value": null, "from": "default"}));
}

#[test]
fn config_show_and_serve_refuse_an_unknown_variable_alike() {
    for arguments in [&["config", "show"][..], &["serve", "--log", "error"]] {
        let refused = quipu_with(&[("QUIPU_DATADIR", "/data")], arguments);
        assert_eq!(refused.status.code(), Some(1), "{arguments:?}: {refused:?}");
        let complaint = text(&refused.stderr);
        assert!(complaint.contains("unknown variable QUIPU_DATADIR; did you mean QUIPU_DATA_DIR?"), "{complaint}");
    }
}

#[test]
fn config_check_says_of_each_file_whether_it_would_do() {
    let directory = std::env::temp_dir().join(format!("quipu-config-check-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory");
    let file = |name: &str, content: &str| {
        let path = directory.join(name);
        std::fs::write(&path, content).expect("is written");
        path.to_str().expect("a path in UTF-8").to_owned()
    };
    let whole = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/quipu.example.toml");
    let part = file("part.toml", "[raft]\nheartbeat_ms = 100\n");
    let wrong = file("wrong.toml", "[raft]\nheartbeat_ms = 400\n");

    // The environment does not matter.
    let good = quipu_with(&[("QUIPU_WHATEVER", "1")], &["config", "check", whole, &part]);
    assert!(good.status.success(), "{good:?}");
    assert_eq!(text(&good.stdout), format!("{whole}: valid\n{part}: valid; it leaves node_id, peers, data_dir open\n"));

    let bad = quipu(&["config", "check", &wrong, &part]);
    assert_eq!(bad.status.code(), Some(1), "{bad:?}");
    let complaint = text(&bad.stderr);
    assert!(complaint.contains(&wrong) && complaint.contains("raft.election_timeout_min_ms = 500"), "{complaint}");
    assert!(text(&bad.stdout).contains("part.toml: valid"), "the other one is checked, too: {bad:?}");
    std::fs::remove_dir_all(&directory).expect("is removed");
}

#[test]
fn completions_are_printed_for_each_shell_and_know_the_commands() {
    for (shell, mark) in [("bash", "complete -F"), ("zsh", "#compdef quipu"), ("fish", "complete -c quipu")] {
        let printed = quipu(&["completions", shell]);
        assert!(printed.status.success() && printed.stderr.is_empty(), "{shell}: {printed:?}");
        let script = text(&printed.stdout);
        for known in [mark, "describe", "node-id", "bootstrap"] {
            assert!(script.contains(known), "{shell}: {known} is missing:\n{script}");
        }
    }
    assert_eq!(quipu(&["completions", "abacus"]).status.code(), Some(2));
}

#[test]
fn the_manual_has_a_page_for_every_command() {
    let page = quipu(&["man", "log", "create"]);
    assert!(page.status.success() && page.stderr.is_empty(), "{page:?}");
    let roff = text(&page.stdout);
    for known in [".TH quipu-log-create 1", "replicas", "bootstrap"] {
        assert!(roff.contains(known), "{known} is missing:\n{roff}");
    }
    assert!(text(&quipu(&["man"]).stdout).contains(".TH quipu 1"));
    assert_eq!(quipu(&["man", "fly"]).status.code(), Some(2));

    let directory = std::env::temp_dir().join(format!("quipu-man-{}", std::process::id()));
    let written = quipu(&["man", "--dir", directory.to_str().expect("a path in UTF-8")]);
    assert!(written.status.success(), "{written:?}");
    for name in ["quipu.1", "quipu-serve.1", "quipu-log-create.1", "quipu-config-show.1"] {
        assert!(directory.join(name).is_file(), "{name} is missing");
    }
    std::fs::remove_dir_all(&directory).expect("is removed");
}
