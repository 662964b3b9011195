//! The `quipu` command as scripts see it: exact output, exit codes, JSON keys.

use std::collections::BTreeSet;

use quipu_tests::{Cluster, Command, eventually};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};

#[tokio::test(flavor = "multi_thread")]
async fn lines_become_records_and_come_back_byte_for_byte() {
    let cluster = Cluster::start(3).await;
    cluster.quipu(["log", "create", "lines"]).succeeds().await;

    let append = |input: &'static [u8]| cluster.quipu(["append", "lines"]).input(input).succeeds();
    append(b"one\ntwo\n").await.prints("appended 2 records at 0..2\n");
    // A carriage return is kept, an empty line is an empty value.
    append(b"three\r\n\n").await.prints("appended 2 records at 2..4\n");
    // An unterminated last line is a record.
    append(b"five").await.prints("appended 1 records at 4..5\n");
    // Any byte but the line feed is a value's.
    append(b"\0\xff\xfe\n\xf0\x28\n").await.prints("appended 2 records at 5..7\n");

    let read = |from| cluster.quipu(["read", "lines", "--from", from]).succeeds();
    let everything = b"one\ntwo\nthree\r\n\nfive\n\0\xff\xfe\n\xf0\x28\n";
    read("start").await.prints(everything);
    read("0").await.prints(everything);
    read("4").await.prints(b"five\n\0\xff\xfe\n\xf0\x28\n");
    read("7").await.prints("");
    read("end").await.prints("");
    cluster.quipu(["read", "lines", "--from", "1", "--max", "2"]).succeeds().await.prints("two\nthree\r\n");
    for node in ["1", "2", "3"] {
        // A follower's own copy may be behind; it has everything before long.
        eventually("every replica serves its own copy", async || {
            let read = cluster.quipu(["read", "lines", "--from", "start", "--replica", node]).succeeds().await;
            if read.bytes() == everything { Ok(()) } else { Err(read.to_string()) }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_of_batching_and_compressing_lands_every_line() {
    let cluster = Cluster::start(3).await;
    let lines: Vec<String> = (0..1_000).map(|i| format!("line {i} {}", "x".repeat(i % 90))).collect();
    let input = lines.join("\n") + "\n";
    let file = cluster.directory().join("input");
    std::fs::write(&file, &input).expect("the input");
    let file = file.to_str().expect("a path in UTF-8");

    for compression in ["none", "gzip", "snappy", "lz4", "zstd"] {
        for records in ["1", "7", "100000"] {
            let log = format!("by-{compression}-{records}");
            cluster.quipu(["log", "create", &log]).succeeds().await;
            let options = ["--file", file, "--batch-records", records, "--compression", compression];
            let [a, b, c, d, e, f] = options;
            cluster
                .quipu(["append", &log, a, b, c, d, e, f])
                .succeeds()
                .await
                .prints("appended 1000 records at 0..1000\n");
            cluster.each_replica_reads(&log).await.equals(&lines);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_input_appends_nothing() {
    let cluster = Cluster::start(1).await;
    cluster.quipu(["log", "create", "lines"]).succeeds().await;
    cluster.quipu(["append", "lines"]).input("").succeeds().await.prints("appended 0 records at 0..0\n");
    cluster.quipu(["read", "lines", "--from", "start"]).succeeds().await.prints("");
}

#[tokio::test(flavor = "multi_thread")]
async fn json_records_name_offset_timestamp_key_value_and_headers() {
    let cluster = Cluster::start(3).await;
    cluster.quipu(["log", "create", "lines"]).succeeds().await;
    cluster.quipu(["append", "lines"]).input(b"one\n\xff\n\n").succeeds().await;

    let read = cluster.quipu(["read", "lines", "--from", "0", "--format", "json"]).succeeds().await;
    let records: Vec<Value> =
        read.text().lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect();
    let values: Vec<&Value> = records.iter().map(|record| &record["value"]).collect();
    assert_eq!(values, ["b25l", "/w==", ""], "values in base64");
    for (offset, record) in records.iter().enumerate() {
        assert_eq!(keys(record), BTreeSet::from(["offset", "timestamp", "key", "value", "headers"]));
        assert_eq!(record["offset"], offset);
        assert!(record["timestamp"].as_i64().is_some_and(|at| at > 1_700_000_000_000), "milliseconds: {record}");
        assert_eq!((&record["key"], &record["headers"]), (&Value::Null, &serde_json::json!([])));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn describe_and_status_have_the_promised_keys() {
    let cluster = Cluster::start(3).await;
    cluster.quipu(["log", "create", "orders"]).succeeds().await;
    cluster.quipu(["append", "orders"]).input("one\ntwo\n").succeeds().await;
    cluster.is_whole("orders", 3, &BTreeSet::new()).await;

    let described = cluster.quipu(["log", "describe", "orders", "--json"]).succeeds().await.json();
    let mut promised = BTreeSet::from(["name", "id", "config", "start", "end", "records", "bytes", "entries"]);
    promised.extend(["leader", "term", "replicas", "age_retention_held"]);
    promised.extend(["cursors", "cursor_bytes", "cursor_entry_bytes", "leases", "lease_entry_bytes"]);
    assert_eq!(keys(&described), promised);
    assert_eq!(keys(&described["config"]), BTreeSet::from(["replicas", "max_batch_bytes"]), "what is set");
    assert_eq!((&described["name"], &described["start"], &described["end"]), (&"orders".into(), &0.into(), &2.into()));
    let leader = described["leader"].as_u64().expect("a leader's number");
    let replicas = described["replicas"].as_array().expect("replicas");
    let nodes: BTreeSet<u64> = replicas.iter().filter_map(|replica| replica["node"].as_u64()).collect();
    assert_eq!(nodes, BTreeSet::from([1, 2, 3]));
    let expected = ["node", "replica", "role", "durable_index", "applied_index", "lag"];
    for replica in replicas {
        for key in expected {
            assert!(replica.get(key).is_some(), "a replica lacks {key}: {replica}");
        }
        let role = if replica["node"] == leader { "leader" } else { "follower" };
        assert_eq!(replica["role"], role, "{described}");
    }

    let status = cluster.quipu(["status", "--json"]).succeeds().await.json();
    assert_eq!(status["logs"], 1, "{status}");
    let nodes = status["nodes"].as_array().expect("nodes");
    assert_eq!(nodes.iter().map(|node| node["id"].as_u64()).collect::<Vec<_>>(), [Some(1), Some(2), Some(3)]);
    for (node, expected) in nodes.iter().zip(cluster.nodes()) {
        assert_eq!(node["address"], expected.address());
        assert_eq!(node["state"], "up", "{status}");
    }

    // A dead node shows, and so does the want of a leader.
    let survivor = cluster.follower_of("orders").await;
    let dead: Vec<_> = cluster.nodes().iter().filter(|node| node.id() != survivor.id()).collect();
    dead[0].kill();
    dead[1].kill();
    eventually("describe tells that there is no leader", async || {
        let described = cluster.quipu(["log", "describe", "orders", "--json"]).run().await;
        let found = described.json();
        if found["leader"].is_null() { Ok(()) } else { Err(described.to_string()) }
    })
    .await;
    eventually("status tells that two nodes are down", async || {
        let status = cluster.quipu(["status", "--json"]).run().await.json();
        let down = status["nodes"].as_array().is_some_and(|n| n.iter().filter(|n| n["state"] == "down").count() == 2);
        if down { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_can_be_created_twice_and_is_listed_once() {
    let cluster = Cluster::start(3).await;
    for _ in 0..2 {
        cluster.quipu(["log", "create", "orders"]).succeeds().await;
        cluster.quipu(["log", "create", "a/b_c.D-1", "--replicas", "1"]).succeeds().await;
    }
    cluster.quipu(["log", "list"]).succeeds().await.prints("a/b_c.D-1\norders\n");
    let one = cluster.quipu(["log", "describe", "a/b_c.D-1", "--json"]).succeeds().await.json();
    assert_eq!(one["replicas"].as_array().map(Vec::len), Some(1), "{one}");
}

#[tokio::test(flavor = "multi_thread")]
async fn appending_goes_on_when_the_leader_is_killed() {
    let cluster = Cluster::start(3).await;
    cluster.quipu(["log", "create", "lines"]).succeeds().await;
    let lines: Vec<String> = (0..20_000).map(|i| format!("line {i}")).collect();
    let appending = cluster.quipu(["append", "lines", "--batch-records", "10"]).input(lines.join("\n")).succeeds();
    let killing = async {
        let end = async || cluster.describe("lines").await.range.end().get();
        eventually("some lines have landed", async || if end().await > 100 { Ok(()) } else { Err(String::new()) })
            .await;
        cluster.leader_of("lines").await.kill();
    };
    let (appended, ()) = tokio::join!(appending, killing);
    appended.prints("appended 20000 records at 0..20000\n");
    cluster.start_all().await;
    cluster.each_replica_reads("lines").await.equals(&lines);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_prints_what_is_appended_from_now_on() {
    let cluster = Cluster::start(3).await;
    cluster.quipu(["log", "create", "lines"]).succeeds().await;
    cluster.quipu(["append", "lines"]).input("before\n").succeeds().await;

    let mut tail = cluster.quipu(["tail", "lines"]).spawn();
    let mut printed = BufReader::new(tail.stdout.take().expect("a pipe")).lines();
    // Nothing tells from outside when the tail stands at the end, so records
    // are appended until it shows one.
    let first = async {
        for i in 0.. {
            cluster.quipu(["append", "lines"]).input(format!("line {i}\n")).succeeds().await;
        }
    };
    let line = tokio::select! {
        biased;
        line = printed.next_line() => line.expect("a pipe").expect("a line"),
        () = first => unreachable!("it goes on for ever"),
    };
    let shown: u64 = line.strip_prefix("line ").and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("{line:?}"));

    cluster.leader_of("lines").await.kill();
    cluster.quipu(["append", "lines"]).input("after\n").succeeds().await;
    let mut expected = shown + 1;
    loop {
        let next = tokio::time::timeout(quipu_tests::PATIENCE, printed.next_line()).await.expect("the tail goes on");
        match next.expect("a pipe").expect("a line").as_str() {
            "after" => break,
            line => assert_eq!(line, format!("line {expected}"), "a tail skips and repeats nothing"),
        }
        expected += 1;
    }
    tail.kill().await.expect("the tail can be killed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_does_not_answer_is_unavailable() {
    let cluster = Cluster::of(1).prepare();
    let address = cluster.node(1).address().to_owned();
    let _ = Command::new(["--bootstrap", &address, "status"]).run().await.exits_with(4).complains_of(&address);
}

fn keys(object: &Value) -> BTreeSet<&str> {
    object.as_object().expect("an object").keys().map(String::as_str).collect()
}
