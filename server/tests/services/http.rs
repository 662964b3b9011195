//! What a node answers over HTTP: metrics and health.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use quipu_protocol::environment::Environment;
use quipu_protocol::v1;
use quipu_protocol::v1::read_request::{From, Start};
use quipu_server::Server;
use quipu_server::config::Draft;
use quipu_storage::MemoryDisk;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::batches::batch;
use crate::node::{LOG, Node, config_with, environment, outside, within};

/// What is answered to `request` at node 1's HTTP address.
async fn answer(environment: &Environment, request: &str) -> String {
    let mut connection = within(environment.network.connect("http:1")).await.expect("it is listened on");
    // A server that refuses what it has seen so far reads no further.
    let _ = connection.write_all(request.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = within(connection.read_to_end(&mut answer)).await;
    String::from_utf8(answer).expect("text")
}

/// The status and the body that `path` is answered with.
async fn get(environment: &Environment, path: &str) -> (u16, String) {
    let answer = answer(environment, &format!("GET {path} HTTP/1.1\r\nhost: node\r\n\r\n")).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer to {path}: {answer:?}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, body.to_owned())
}

/// Every sample of /metrics: its name with its labels, and its value.
pub(crate) async fn metrics(environment: &Environment) -> BTreeMap<String, f64> {
    let (status, text) = get(environment, "/metrics").await;
    assert_eq!(status, 200, "{text}");
    assert!(text.ends_with("# EOF\n"), "the text is whole: {text}");
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let samples = samples.map(|line| line.rsplit_once(' ').unwrap_or_else(|| panic!("{line:?} is no sample")));
    samples.map(|(name, value)| (name.to_owned(), value.parse().expect("a number"))).collect()
}

#[tokio::test]
async fn metrics_tell_what_was_appended_refused_and_read() {
    let node = Node::with_log().await;
    let before = metrics(&node.environment).await;
    assert_eq!(before["quipu_appends_total"], 0.0);

    let first = batch(&["a", "b"]);
    node.append(LOG, first.clone()).await.expect("is appended");
    node.append(LOG, batch(&["c"])).await.expect("is appended");
    node.append(LOG, Bytes::from_static(b"no batch")).await.expect_err("is refused");
    node.append("nowhere", batch(&["a"])).await.expect_err("is refused");
    let request =
        v1::ReadRequest { log: LOG.to_owned(), from: Some(From::Start(Start {})), ..v1::ReadRequest::default() };
    let mut read = within(node.records().read(request)).await.expect("is taken").into_inner();
    while within(read.message()).await.expect("no error").is_some() {}

    let after = metrics(&node.environment).await;
    let check = |name: &str, expect: f64| assert_eq!(after[name], expect, "{name}: {after:#?}");
    check("quipu_appends_total", 2.0);
    check("quipu_append_duplicates_total", 0.0);
    check("quipu_appended_records_total", 3.0);
    check("quipu_append_errors_total{reason=\"bad_batch\"}", 1.0);
    check("quipu_append_errors_total{reason=\"unknown_log\"}", 1.0);
    check("quipu_append_errors_total{reason=\"overloaded\"}", 0.0);
    check("quipu_reads_total", 1.0);
    check("quipu_read_batches_total", 2.0);
    assert!(after["quipu_appended_bytes_total"] > first.len() as f64);
    assert_eq!(after["quipu_read_bytes_total"], after["quipu_appended_bytes_total"], "what was appended was read");
    assert!(after["quipu_journal_fsyncs_total"] > before["quipu_journal_fsyncs_total"]);

    let status = within(node.cluster().status(v1::StatusRequest {})).await.expect("the status").into_inner();
    let told = status.nodes[0].services.expect("the node is up");
    assert_eq!((told.appends, told.appended_records, told.append_errors), (2, 3, 2), "the cluster is told the same");
    assert_eq!((told.reads, told.read_batches), (1, 2));
    assert_eq!((told.appended_bytes as f64, told.read_bytes as f64), {
        (after["quipu_appended_bytes_total"], after["quipu_read_bytes_total"])
    });

    check("quipu_ready", 1.0);
    check("quipu_failed", 0.0);
    check("quipu_replicas", 1.0);
    check("quipu_replicas_led", 1.0);
    check("quipu_replicas_leaderless", 0.0);
    check("quipu_replicas_failed", 0.0);
    check("quipu_catalog_led", 1.0);
    check("quipu_logs_not_shown", 0.0);
    check("quipu_log_start_offset{log=\"orders\"}", 0.0);
    check("quipu_log_end_offset{log=\"orders\"}", 3.0);
    check("quipu_log_leader{log=\"orders\"}", 1.0);
    check("quipu_log_replication_lag_entries{log=\"orders\"}", 0.0);
    // The catalog's and the log's.
    assert!(after["quipu_leader_changes_total"] >= 2.0);
    check("quipu_resource_used{resource=\"http_connections\"}", 1.0);
    check("quipu_resource_limit{resource=\"http_connections\"}", 64.0);
    check("quipu_resource_limit{resource=\"connections\"}", 4096.0);
}

#[tokio::test]
async fn every_metric_is_in_the_operators_table_and_no_other() {
    let node = Node::with_log().await;
    let text = get(&node.environment, "/metrics").await.1;
    let kind = |line: &str| {
        let (name, kind) = line.strip_prefix("# TYPE ")?.split_once(' ')?;
        Some(if kind == "counter" { format!("{name}_total") } else { name.to_owned() })
    };
    let told: BTreeSet<String> = text.lines().filter_map(kind).collect();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operations.md");
    let page = std::fs::read_to_string(&path).expect("docs/operations.md is there");
    let row = |line: &str| Some(line.strip_prefix("| `")?.split(['`', '{']).next()?.to_owned());
    let table = page.split("## What to alert on").next().expect("the text before it");
    let names = table.lines().filter_map(row).filter(|name| name.starts_with("quipu_") || name.starts_with("process_"));
    let documented: BTreeSet<String> = names.collect();
    assert_eq!(told, documented);
}

#[tokio::test]
async fn logs_beyond_the_bound_have_no_series_and_are_counted() {
    let node = Node::with_log_as(config_with(1, &[("server.metrics_logs", 1)])).await;
    node.create("returns", v1::LogConfig::default()).await.expect("the log is created");
    let told = within(async {
        loop {
            let told = metrics(&node.environment).await;
            if told["quipu_replicas"] == 2.0 {
                break told;
            }
            tokio::task::yield_now().await;
        }
    });
    let told = told.await;
    assert_eq!(told["quipu_logs_not_shown"], 1.0);
    assert!(told.contains_key("quipu_log_end_offset{log=\"orders\"}"), "the first one has its series");
    assert!(!told.keys().any(|name| name.contains("returns")), "{told:#?}");
}

#[tokio::test]
async fn a_node_without_a_majority_is_well_and_not_ready() {
    let environment = environment();
    let draft = Draft::new().node(1).peers_text("1=node:1,2=node:2,3=node:3").expect("peers").http("http:1");
    let small =
        draft.set("journal.segment_bytes", 4 << 20).and_then(|it| it.set("log.largest_max_batch_bytes", 1 << 20));
    let config = small.and_then(Draft::validate).expect("is valid");
    let _server = Server::start(config, outside(&environment, Arc::new(MemoryDisk::new(1)))).await.expect("starts");
    assert_eq!(get(&environment, "/healthz").await, (200, "ok\n".to_owned()));
    let (status, why) = get(&environment, "/readyz").await;
    assert_eq!(status, 503);
    assert!(why.contains("does not take part"), "{why}");
    assert_eq!(metrics(&environment).await["quipu_ready"], 0.0);
}

#[tokio::test]
async fn a_node_that_takes_part_is_ready_until_its_disk_fails() {
    let node = Node::with_log().await;
    assert_eq!(get(&node.environment, "/readyz").await, (200, "ok\n".to_owned()));
    assert_eq!(get(&node.environment, "/healthz").await, (200, "ok\n".to_owned()));
    node.disk.fail_next_sync();
    node.append(LOG, batch(&["b"])).await.expect_err("was not made durable");
    within(node.server.failed()).await;
    let (status, why) = get(&node.environment, "/healthz").await;
    assert_eq!(status, 503);
    assert!(why.contains("journal") || why.contains("disk"), "{why}");
    assert_eq!(metrics(&node.environment).await["quipu_failed"], 1.0);
}

#[tokio::test]
async fn a_node_that_has_ended_answers_no_more_and_frees_its_address() {
    let node = Node::start().await;
    within(node.server.shutdown()).await;
    let listened = node.environment.network.listen("http:1").await;
    assert!(listened.is_ok(), "{:?}", listened.err());
}

#[tokio::test]
async fn what_is_not_there_or_not_allowed_is_refused() {
    let node = Node::start().await;
    assert_eq!(get(&node.environment, "/").await.0, 404);
    let posted = answer(&node.environment, "POST /metrics HTTP/1.1\r\nhost: node\r\ncontent-length: 0\r\n\r\n").await;
    assert!(posted.starts_with("HTTP/1.1 405 ") && posted.contains("GET, HEAD"), "{posted}");
    let head = answer(&node.environment, "HEAD /metrics HTTP/1.1\r\nhost: node\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"), "no body: {head}");
    assert!(head.contains("application/openmetrics-text"), "{head}");
}

#[tokio::test]
async fn requests_over_the_bounds_are_refused_or_cut() {
    let node = Node::start_as(config_with(1, &[("server.http_connection_ms", 100)])).await;
    let long = answer(&node.environment, &format!("GET /{} HTTP/1.1\r\nhost: node\r\n\r\n", "x".repeat(20_000))).await;
    assert!(long.starts_with("HTTP/1.1 4"), "{long:?}");
    let many = "a: b\r\n".repeat(100);
    let many = answer(&node.environment, &format!("GET /metrics HTTP/1.1\r\nhost: node\r\n{many}\r\n")).await;
    assert!(many.starts_with("HTTP/1.1 431 "), "{many:?}");
    // Never finished: cut by the limit on time.
    assert_eq!(answer(&node.environment, "GET /metrics HTTP/1.1\r\nho").await, "");
}

#[tokio::test]
async fn connections_over_the_bound_are_closed_at_once() {
    let settings = [("server.http_connections", 1), ("server.http_connection_ms", 60_000)];
    let node = Node::start_as(config_with(1, &settings)).await;
    let mut first = within(node.environment.network.connect("http:1")).await.expect("is accepted");
    within(async {
        // Until the first one has been seen, there is room.
        while !answer(&node.environment, "GET /healthz HTTP/1.1\r\nhost: node\r\n\r\n").await.is_empty() {}
    })
    .await;
    within(first.write_all(b"GET /healthz HTTP/1.1\r\nhost: node\r\n\r\n")).await.expect("is open");
    let mut answered = String::new();
    within(first.read_to_string(&mut answered)).await.expect("is answered");
    assert!(answered.starts_with("HTTP/1.1 200 "), "{answered}");
    // And then there is room again.
    within(async { while get_or_nothing(&node.environment).await.is_empty() {} }).await;
}

async fn get_or_nothing(environment: &Environment) -> String {
    answer(environment, "GET /readyz HTTP/1.1\r\nhost: node\r\n\r\n").await
}
