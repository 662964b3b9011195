//! What a draft accepts and refuses, and in which words.

use super::super::ConfigError;
use super::Draft;

fn three_nodes() -> Draft {
    Draft::new().node(1).peers_text("1=a:7001,2=b:7001,3=c:7001").expect("three peers")
}

/// The message that `draft` is refused with.
fn refusal(draft: Result<Draft, ConfigError>) -> String {
    draft.and_then(Draft::validate).expect_err("is refused").to_string()
}

#[test]
fn flags_override_the_file_and_the_file_overrides_defaults() {
    let file = "node_id = 1\nlisten = \"0.0.0.0:1\"\n[peers]\n1 = \"a:7001\"\n[raft]\nheartbeat_ms = 50\n[journal]\ntail_cache_bytes = 2_000_000\n";
    let config = Draft::new()
        .toml(file)
        .and_then(|draft| draft.set_text("raft.heartbeat_ms=70"))
        .map(|draft| draft.listen("0.0.0.0:2"))
        .and_then(Draft::validate)
        .expect("is valid");
    assert_eq!(config.settings().heartbeat_ms, 70, "the flag");
    assert_eq!(config.settings().tail_cache_bytes, 2_000_000, "the file");
    assert_eq!(config.settings().election_timeout_min_ms, 500, "the default");
    assert_eq!(config.listen(), "0.0.0.0:2");
    assert_eq!(config.advertised(), "a:7001");
}

#[test]
fn a_node_listens_at_its_own_entry_unless_told_otherwise() {
    assert_eq!(three_nodes().validate().expect("is valid").listen(), "a:7001");
}

#[test]
fn unknown_keys_are_refused_with_the_nearest_known_one() {
    let check = |text: &str, expect: &str| assert_eq!(refusal(three_nodes().toml(text)), expect, "{text}");
    check("[raft]\nheartbeet_ms = 1", "unknown key \"raft.heartbeet_ms\"; did you mean \"raft.heartbeat_ms\"?");
    check("lisen = \"a:1\"", "unknown key \"lisen\"; did you mean \"listen\"?");
    check("[jurnal]\nsegment_bytes = 1", "unknown key \"jurnal\"; did you mean \"journal\"?");
    check("[colours]\nred = 1", "unknown key \"colours\"");
    check("raft = 3", "raft = 3: a table of settings is expected");
}

#[test]
fn values_of_the_wrong_kind_or_range_are_refused_by_name() {
    let check = |text: &str, expect: &str| assert_eq!(refusal(three_nodes().toml(text)), expect, "{text}");
    check("[raft]\nheartbeat_ms = \"soon\"", "raft.heartbeat_ms = \"soon\": a number that is not negative is expected");
    check("[raft]\nheartbeat_ms = -1", "raft.heartbeat_ms = -1: a number that is not negative is expected");
    check("[raft]\nheartbeat_ms = 5", "raft.heartbeat_ms = 5: 10 to 10000 ms is allowed");
    check(
        "[journal]\nsegment_bytes = 268435457",
        "journal.segment_bytes = 268435457: a multiple of 1 MiB (1048576) is expected",
    );
    check("node_id = 0", "node_id = 0: a number from 1 on is expected");
    check("listen = 7001", "listen = 7001: a text is expected");
    check("listen = \"7001\"", "listen = \"7001\": host:port, such as 127.0.0.1:7001, is expected");
    check("http = \"metrics\"", "http = \"metrics\": host:port, such as 127.0.0.1:7001, is expected");
    check("listen = \"a:99999\"", "listen = \"a:99999\": host:port, such as 127.0.0.1:7001, is expected");
    check("peers = 3", "peers = 3: a table of node numbers and addresses is expected");
    assert!(refusal(three_nodes().toml("[raft")).starts_with("the configuration is not TOML"));
}

#[test]
fn contradictions_are_refused_with_both_names() {
    let check = |draft: Result<Draft, ConfigError>, first: &str, second: &str| {
        let message = refusal(draft);
        assert!(message.contains(first) && message.contains(second), "{message}");
    };
    let set = |text: &str| three_nodes().set_text(text);
    check(set("raft.heartbeat_ms=500"), "raft.heartbeat_ms = 500", "raft.election_timeout_min_ms = 500");
    check(set("raft.election_timeout_min_ms=1000"), "election_timeout_min_ms = 1000", "election_timeout_max_ms = 1000");
    check(set("journal.segment_bytes=1048576"), "largest_max_batch_bytes = 67108864", "segment_bytes = 1048576");
    check(set("log.largest_max_batch_bytes=4096"), "log.max_batch_bytes = 1048576", "largest_max_batch_bytes = 4096");
    check(set("log.append_queue_bytes=1048576"), "largest_max_batch_bytes = 67108864", "append_queue_bytes = 1048576");
    check(Ok(three_nodes().http("a:7001")), "listen = a:7001", "http = a:7001");
    check(Ok(three_nodes().node(4)), "node_id = 4", "peers = 1, 2, 3");
    check(three_nodes().peers_text("1=a:1,2=a:1"), "peers.1 = a:1", "peers.2 = a:1");
    check(three_nodes().peers_text("1=a:1,1=b:1"), "peers.1 = a:1", "peers.1 = b:1");
}

#[test]
fn what_is_missing_is_named_with_its_flag() {
    assert_eq!(
        refusal(Draft::new().peers_text("1=a:1")),
        "node_id is missing: give --node-id, set QUIPU_NODE_ID, or write it into the configuration file"
    );
    assert!(refusal(Ok(Draft::new().node(1))).starts_with("peers is missing: give --peers"));
}

#[test]
fn small_segments_are_taken_with_small_batches() {
    let config = three_nodes()
        .toml("[log]\nmax_batch_bytes = 65536\nlargest_max_batch_bytes = 65536\n[journal]\nsegment_bytes = 2_097_152")
        .and_then(Draft::validate)
        .expect("is valid");
    assert_eq!(config.settings().segment_bytes, 2 << 20);
}
