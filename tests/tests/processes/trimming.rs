//! Logs that are trimmed, by command or by what they are to keep.

use quipu_tests::{Cluster, Node, eventually};

const LARGEST_BATCH_BYTES: u64 = 1 << 20;

/// Nodes whose journal has small segments and that drop what they can at once.
async fn small() -> Cluster {
    let shape = Cluster::of(3)
        .setting("log.max_batch_bytes", LARGEST_BATCH_BYTES)
        .setting("log.largest_max_batch_bytes", LARGEST_BATCH_BYTES)
        .setting("journal.segment_bytes", 2 << 20)
        .setting("log.floor_step_bytes", 1);
    shape.start().await
}

/// Lines of a kilobyte each, numbered.
fn lines(range: std::ops::Range<u64>) -> String {
    range.map(|number| format!("{number:08} {}\n", "x".repeat(1_000))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trimmed_log_starts_where_it_was_trimmed_to_on_every_node_and_after_every_kill() {
    let cluster = small().await;
    cluster.quipu(["log", "create", "orders"]).succeeds().await;
    cluster.quipu(["append", "orders"]).input("0\n1\n2\n3\n4\n").succeeds().await;
    cluster.quipu(["log", "trim", "orders", "--to", "3"]).succeeds().await.prints("orders has 3..5 (2 records)\n");
    // Never back, and never beyond the end.
    cluster.quipu(["log", "trim", "orders", "--to", "1"]).succeeds().await.prints("orders has 3..5 (2 records)\n");
    let below = cluster.quipu(["read", "orders", "--from", "2"]).is_refused().await;
    below.complains_of("offset 2 is below the log's start, 3");
    cluster.quipu(["read", "orders", "--from", "start"]).succeeds().await.prints("3\n4\n");

    cluster.kill_all();
    cluster.start_all().await;
    cluster.quipu(["append", "orders"]).input("5\n").succeeds().await.prints("appended 1 records at 5..6\n");
    let described = cluster.quipu(["log", "describe", "orders", "--json"]).succeeds().await.json();
    assert_eq!((&described["start"], &described["end"]), (&3.into(), &6.into()));
    for node in ["1", "2", "3"] {
        eventually("every replica serves its own copy", async || {
            let read = cluster.quipu(["read", "orders", "--from", "start", "--replica", node]).run().await;
            if read.bytes() == b"3\n4\n5\n" { Ok(()) } else { Err(read.to_string()) }
        })
        .await;
    }
    assert_eq!(described["records"], 3);
    assert!(described["bytes"].as_u64() > Some(0) && described["entries"].as_u64() > Some(0), "{described}");
    assert_eq!(described["config"]["replicas"], 3);
    let trimmed = cluster.quipu(["log", "trim", "orders", "--to", "99", "--json"]).succeeds().await.json();
    assert_eq!((&trimmed["start"], &trimmed["end"]), (&6.into(), &6.into()));
    cluster.quipu(["log", "trim", "nobody", "--to", "1"]).is_refused().await.complains_of("there is no log nobody");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_keeps_as_many_bytes_as_it_is_to_and_the_disk_follows() {
    let cluster = small().await;
    let keep = ["log", "create", "orders", "--retention-bytes", "1000000"];
    cluster.quipu(keep).succeeds().await;
    // Some tens of segments' worth.
    for portion in 0..40_u64 {
        cluster.quipu(["append", "orders"]).input(lines(portion * 1_000..(portion + 1) * 1_000)).succeeds().await;
    }
    eventually("the log keeps a megabyte", async || {
        let described = cluster.quipu(["log", "describe", "orders", "--json"]).succeeds().await.json();
        let (start, end) = (described["start"].as_u64(), described["end"].as_u64());
        assert_eq!(end, Some(40_000));
        if start.is_some_and(|start| (38_000..40_000).contains(&start)) { Ok(()) } else { Err(described.to_string()) }
    })
    .await;
    let read = cluster.quipu(["read", "orders", "--from", "start"]).succeeds().await;
    assert!(read.text().ends_with(&lines(39_990..40_000)), "the newest records are there");
    // What frees a segment is that another one is full.
    eventually("the disk follows", async || {
        cluster.quipu(["append", "orders"]).input(lines(40_000..42_000)).succeeds().await;
        let files = |node: &Node| std::fs::read_dir(node.data_directory().join("journal")).expect("a journal").count();
        let files: Vec<usize> = cluster.nodes().iter().map(files).collect();
        if files.iter().all(|files| *files <= 8) { Ok(()) } else { Err(format!("{files:?} files for a megabyte")) }
    })
    .await;
}
