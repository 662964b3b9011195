//! Cursors as scripts see them, and a pipeline that is stopped at any moment while
//! nodes are killed.

use std::time::Duration;

use quipu_sdk::{Client, LogName, ProducerConfig, ReaderConfig};
use quipu_tests::Cluster;

#[path = "../../../sdk/examples/exactly_once_pipeline.rs"]
#[allow(dead_code, reason = "its own `main` is not called")]
mod exactly_once_pipeline;

/// How many records go through the pipeline.
const RECORDS: u64 = 600;

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_is_committed_shown_listed_and_deleted() {
    let cluster = Cluster::start(3).await;
    cluster.quipu(["log", "create", "orders"]).succeeds().await;
    cluster.quipu(["append", "orders"]).input("a\nb\nc\n").succeeds().await;
    let get = || cluster.quipu(["cursor", "get", "orders", "billing"]);
    get().is_refused().await.complains_of("orders has no cursor billing");
    let commit = |position| cluster.quipu(["cursor", "commit", "orders", "billing", position]);
    commit("2").succeeds().await.prints("billing of orders is at 2\n");
    get().succeeds().await.prints("billing of orders is at 2, 1 record behind\n");
    commit("4").is_refused().await.complains_of("the position lies beyond the log's end, which is 3");

    let expect = |at, position| cluster.quipu(["cursor", "commit", "orders", "billing", position, "--expect", at]);
    expect("1", "3").is_refused().await.complains_of("it is at 2, and not where it was expected to be");
    expect("none", "3").is_refused().await.complains_of("it is at 2");
    expect("2", "3").succeeds().await;
    expect("nowhere", "3").run().await.exits_with(2).complains_of("an offset, or none");
    let under = |generation| {
        cluster.quipu(["cursor", "commit", "orders", "billing", "1", "--generation", generation, "--metadata", "me"])
    };
    under("5").succeeds().await;
    under("4").is_refused().await.complains_of("it was claimed under generation 5, which is higher");

    // Every node has it on its disk.
    cluster.kill_all();
    cluster.start_all().await;
    get().succeeds().await.prints("billing of orders is at 1, 2 records behind, generation 5\n");
    let shown = cluster.quipu(["cursor", "get", "orders", "billing", "--json"]).succeeds().await.json();
    assert_eq!((&shown["cursor"], &shown["position"], &shown["lag"]), (&"billing".into(), &1.into(), &2.into()));
    assert_eq!((&shown["generation"], &shown["metadata"], &shown["end"]), (&5.into(), &"me".into(), &3.into()));
    cluster.quipu(["cursor", "commit", "orders", "audit/1", "9", "--of", "77"]).succeeds().await;
    let listed = cluster.quipu(["cursor", "list", "orders", "--json"]).succeeds().await;
    let lines: Vec<&str> = listed.text().lines().collect();
    let begins = |line: &str, name| line.starts_with(&format!("{{\"cursor\":\"{name}\""));
    assert!(lines.len() == 2 && begins(lines[0], "audit/1") && begins(lines[1], "billing"), "{listed}");
    let audits = cluster.quipu(["cursor", "list", "orders", "--prefix", "audit/", "--json"]).succeeds().await.json();
    assert_eq!((&audits["of"], &audits["lag"]), (&77.into(), &serde_json::Value::Null));

    let delete = || cluster.quipu(["cursor", "delete", "orders", "billing"]);
    delete().succeeds().await.prints("deleted billing of orders\n");
    delete().succeeds().await.prints("there is no cursor billing of orders\n");
    cluster.quipu(["cursor", "commit", "orders", "", "1"]).is_refused().await.complains_of("1 to 255 bytes");
    cluster.quipu(["cursor", "get", "nowhere", "billing"]).is_refused().await.complains_of("there is no log nowhere");
    let described = cluster.quipu(["log", "describe", "orders"]).succeeds().await;
    assert!(described.text().contains("1 cursor, "), "{described}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_that_is_stopped_at_any_moment_carries_each_record_over_once() {
    let cluster = Cluster::start(3).await;
    let (input, output) = (cluster.create("words").await, cluster.create("capitals").await);
    let producer = cluster.client().producer(&input, ProducerConfig::default()).expect("a producer");
    let records = (0..RECORDS).map(|n| producer.record(format!("word {n}"))).collect();
    producer.append(records).await.expect("is appended");

    let (mut runs, mut kills) = (0, 0);
    while values(cluster.client(), &output).await.len() < usize::try_from(RECORDS).expect("few") {
        // Stopped wherever it is: an append may be under way, and land later.
        let pipeline = exactly_once_pipeline::run(cluster.client(), &input, &output);
        let _ = tokio::time::timeout(Duration::from_millis(150 + 37 * (runs % 9)), pipeline).await;
        runs += 1;
        if runs % 3 == 1 && kills < 3 {
            let killed = cluster.leader_of(output.as_str()).await.kill();
            kills += 1;
            cluster.leader_of(output.as_str()).await;
            killed.start().serves().await;
        }
    }
    assert!(runs > 1 && kills > 0, "nothing stopped it: {runs} runs, {kills} kills");
    exactly_once_pipeline::run(cluster.client(), &input, &output).await.expect("there is nothing left to do");
    let expected: Vec<String> = (0..RECORDS).map(|n| format!("WORD {n}")).collect();
    assert_eq!(values(cluster.client(), &output).await, expected);
}

/// All that a log holds.
async fn values(client: &Client, log: &LogName) -> Vec<String> {
    let mut reader = client.reader(log, ReaderConfig::default()).expect("a reader");
    let mut values = Vec::new();
    while let Some(record) = reader.next().await.expect("can be read") {
        values.push(String::from_utf8(record.value.unwrap_or_default().to_vec()).expect("text"));
    }
    values
}
