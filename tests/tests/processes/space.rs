//! A disk that is nearly full.

use quipu_tests::{Cluster, Forgetful, not_tested};

const DISK_BYTES: u64 = 64 << 20;
const LOW_SPACE_BYTES: u64 = 20 << 20;
const LARGEST_BATCH_BYTES: u64 = 1 << 20;

/// A megabyte of lines.
fn portion(number: u64) -> String {
    (0..1_000).map(|line| format!("{number:04}/{line:04} {}\n", "x".repeat(1_000))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nearly_full_disk_refuses_appends_and_serves_reads_and_trims() {
    if !Forgetful::can_be_mounted() {
        not_tested("no file system can be mounted here (that takes root and /dev/fuse)");
        return;
    }
    let shape = Cluster::of(1)
        .on_forgetful_disk(DISK_BYTES)
        .setting("storage.low_space_bytes", LOW_SPACE_BYTES)
        .setting("log.max_batch_bytes", LARGEST_BATCH_BYTES)
        .setting("log.largest_max_batch_bytes", LARGEST_BATCH_BYTES)
        .setting("journal.segment_bytes", 2 << 20)
        .setting("log.floor_step_bytes", 1);
    let cluster = shape.start().await;
    cluster.quipu(["log", "create", "orders", "--replicas", "1"]).succeeds().await;
    let mut portions = 0;
    let refused = loop {
        let append = cluster.quipu(["append", "orders", "--timeout", "3"]).input(portion(portions)).run().await;
        if append.code() != Some(0) {
            break append;
        }
        portions += 1;
        assert!(portions < DISK_BYTES >> 20, "more was taken than the disk has room for");
    };
    refused.complains_of("storage.low_space_bytes");
    assert!(portions > 10, "only {portions} MB were taken");
    let read = cluster.quipu(["read", "orders", "--from", "0", "--max-records", "1000"]).succeeds().await;
    assert!(read.bytes() == portion(0).as_bytes(), "what was acknowledged is read");
    let end = cluster.describe("orders").await.range.end();
    cluster.quipu(["log", "trim", "orders", "--to", &end.to_string()]).succeeds().await;
}
