//! What is done to whole logs while they are in use.

use std::time::{Duration, SystemTime};

use quipu_sdk::{AppendError, Compression, LogName, ProducerConfig, Record, Timestamp};
use quipu_tests::{Cluster, Command, eventually};

/// Runs `command` until it is refused with this in the error: a change of a
/// log is followed within moments.
async fn comes_to_be_refused(part: &str, command: impl Fn() -> Command) {
    eventually("the change is followed", async || {
        let finished = command().run().await;
        if finished.code() == Some(1) {
            finished.complains_of(part);
            return Ok(());
        }
        Err(finished.to_string())
    })
    .await;
}

/// Runs `command` until it is not refused any more.
async fn comes_to_succeed(command: impl Fn() -> Command) {
    eventually("the change is followed", async || {
        let finished = command().run().await;
        if finished.code() == Some(0) { Ok(()) } else { Err(finished.to_string()) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_takes_what_it_is_altered_to_take_on_every_leader_and_after_every_kill() {
    let cluster = Cluster::start(3).await;
    cluster.quipu(["log", "create", "orders"]).succeeds().await;
    let line = "x".repeat(5_000);
    let large = || cluster.quipu(["append", "orders"]).input(line.as_str());
    let zstd = || cluster.quipu(["append", "orders", "--compression", "zstd"]).input("compressed\n");
    large().succeeds().await;
    zstd().succeeds().await;

    let alter = ["log", "alter", "orders", "--max-batch-bytes", "4096", "--compression", "none,lz4"];
    let altered = "orders: replicas 3, max_batch_bytes 4096, codecs none,lz4\n";
    cluster.quipu(alter).succeeds().await.prints(format!("changed {altered}"));
    cluster.quipu(alter).succeeds().await.prints(format!("no change to {altered}"));
    comes_to_be_refused("max_batch_bytes", large).await;
    comes_to_be_refused("the log takes none,lz4", zstd).await;
    cluster.kill_all();
    cluster.start_all().await;
    large().is_refused().await.complains_of("max_batch_bytes allows 4096");
    zstd().is_refused().await.complains_of("the batch's codec is zstd, and the log takes none,lz4");
    cluster.quipu(["append", "orders", "--compression", "lz4"]).input("small\n").succeeds().await;

    cluster.quipu(["log", "alter", "orders", "--compression", "any"]).succeeds().await;
    comes_to_succeed(zstd).await;
    let read = cluster.quipu(["read", "orders"]).succeeds().await;
    assert!(read.text().starts_with(&line), "what it had taken before stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_too_far_from_the_leaders_clock_is_refused_by_the_setting() {
    let cluster = Cluster::start(1).await;
    let bounds = ["log", "create", "orders", "--max-timestamp-before-ms", "60000", "--max-timestamp-after-ms", "60000"];
    cluster.quipu(bounds).succeeds().await;
    let name: LogName = "orders".parse().expect("a name");
    let config = ProducerConfig { compression: Compression::Lz4, ..ProducerConfig::default() };
    let producer = cluster.client().producer(&name, config).expect("a sound configuration");
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    let at = |apart: i64| {
        let now = i64::try_from(now.as_millis()).expect("in this age");
        Record::new(Timestamp::new(now + apart), "value".into())
    };
    let hour = i64::try_from(Duration::from_secs(3_600).as_millis()).expect("small");
    producer.append(vec![at(0), at(-10_000), at(10_000)]).await.expect("within the bounds");
    for (far, expected) in [(-hour, "max_timestamp_before_ms"), (hour, "max_timestamp_after_ms")] {
        match producer.append(vec![at(0), at(far)]).await {
            Err(AppendError::NotAccepted { setting, message }) => {
                assert_eq!(setting, expected);
                assert!(message.contains("60000 ms"), "the error names the bound: {message}");
            }
            other => panic!("{other:?}"),
        }
    }
    let range = producer.append(vec![at(0)]).await.expect("the producer goes on");
    assert_eq!(range.start().get(), 3, "what was refused has changed nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_altered_to_keep_less_lets_go_of_the_rest() {
    let cluster = Cluster::start(3).await;
    cluster.quipu(["log", "create", "orders"]).succeeds().await;
    for number in 0..5 {
        cluster.quipu(["append", "orders"]).input(format!("{number}\n")).succeeds().await;
    }
    cluster.quipu(["log", "alter", "orders", "--retention-bytes", "1"]).succeeds().await;
    eventually("all but the newest entry goes", async || {
        let read = cluster.quipu(["read", "orders"]).succeeds().await;
        if read.bytes() == b"4\n" { Ok(()) } else { Err(read.to_string()) }
    })
    .await;
    let unset = cluster.quipu(["log", "alter", "orders", "--retention-bytes", "none", "--json"]).succeeds().await;
    let unset = unset.json();
    assert_eq!((&unset["changed"], unset.get("retention_bytes")), (&true.into(), None), "{unset}");
    let _ = cluster.quipu(["log", "alter", "orders"]).run().await.exits_with(2);
    let nobody = cluster.quipu(["log", "alter", "nobody", "--retention-ms", "1"]).is_refused().await;
    nobody.complains_of("there is no log nobody");
    let bounds = cluster.quipu(["log", "alter", "orders", "--max-batch-bytes", "1023"]).is_refused().await;
    bounds.complains_of("less than the least, 1024");
}
