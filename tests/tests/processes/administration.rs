//! What is done to whole logs while they are in use.

use std::time::Duration;

use quipu_sdk::{AppendError, Compression, LogName, ProducerConfig, ReadError, ReaderConfig, Record, Timestamp};
use quipu_tests::{Cluster, Command, Node, eventually};

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
    let zstd = || cluster.quipu(["append", "orders", "--compression", "zstd"]).input("compressed ".repeat(100));
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
    cluster.quipu(["append", "orders", "--compression", "lz4"]).input("small ".repeat(100)).succeeds().await;

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
    let now = quipu_sdk::system::environment().clock.wall().get();
    let at = |apart: i64| Record::new(Timestamp::new(now + apart), "value".into());
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

/// Lines of a kilobyte each.
fn kilobytes(count: usize) -> String {
    format!("{}\n", "x".repeat(1_023)).repeat(count)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_log_is_gone_for_its_producers_and_readers_though_its_name_is_in_use_again() {
    let cluster = Cluster::start(3).await;
    let name = cluster.create("orders").await;
    let producer = cluster.client().producer(&name, ProducerConfig::default()).expect("a sound configuration");
    producer.append(vec![producer.record("old")]).await.expect("appended");
    let follow = ReaderConfig { follow: true, ..ReaderConfig::default() };
    let mut reader = cluster.client().reader(&name, follow).expect("a sound configuration");
    assert_eq!(reader.next().await.expect("a record").expect("one").offset.get(), 0);

    let refused = cluster.quipu(["log", "delete", "orders"]).run().await.exits_with(2);
    refused.complains_of("--yes");
    let id = cluster.describe("orders").await.log.id;
    let deleted = cluster.quipu(["log", "delete", "orders", "--yes"]).succeeds().await;
    deleted.prints(format!("deleted orders (id {id})\n"));
    cluster.quipu(["log", "list"]).succeeds().await.prints("");
    cluster.quipu(["read", "orders"]).is_refused().await.complains_of("there is no log orders");
    cluster.quipu(["log", "delete", "orders", "--yes"]).is_refused().await.complains_of("there is no log orders");

    cluster.create("orders").await;
    cluster.quipu(["append", "orders"]).input("new\n").succeeds().await.prints("appended 1 records at 0..1\n");
    assert!(cluster.describe("orders").await.log.id > id, "an id is not given twice");
    let clock = quipu_sdk::system::environment().clock;
    let asked = clock.monotonic();
    match producer.append(vec![producer.record("late")]).await {
        Err(AppendError::UnknownLog { log }) => assert_eq!(log, name),
        other => panic!("{other:?}"),
    }
    match reader.next().await {
        Err(ReadError::UnknownLog { log }) => assert_eq!(log, name),
        other => panic!("{other:?}"),
    }
    let waited = clock.monotonic() - asked;
    assert!(waited < Duration::from_secs(20), "that is no timeout: {waited:?}");
    for node in ["1", "2", "3"] {
        eventually("every replica has the new log", async || {
            let read = cluster.quipu(["read", "orders", "--replica", node]).run().await;
            if read.bytes() == b"new\n" { Ok(()) } else { Err(read.to_string()) }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_space_of_a_deleted_log_is_free_on_every_node_even_one_that_was_down() {
    let shape = Cluster::of(3)
        .setting("log.max_batch_bytes", 1 << 20)
        .setting("log.largest_max_batch_bytes", 1 << 20)
        .setting("journal.segment_bytes", 2 << 20)
        .setting("log.floor_step_bytes", 1);
    let cluster = shape.start().await;
    cluster.quipu(["log", "create", "orders"]).succeeds().await;
    cluster.quipu(["log", "create", "others", "--retention-bytes", "1"]).succeeds().await;
    for _ in 0..20 {
        cluster.quipu(["append", "orders"]).input(kilobytes(1_000)).succeeds().await;
    }
    let files = |node: &Node| std::fs::read_dir(node.data_directory().join("journal")).expect("a journal").count();
    assert!(cluster.nodes().iter().all(|node| files(node) >= 10), "it fills ten segments");
    cluster.node(3).kill();
    cluster.quipu(["log", "delete", "orders", "--yes"]).succeeds().await;
    cluster.node(3).start().serves().await;
    eventually("the disk follows", async || {
        cluster.quipu(["append", "others"]).input(kilobytes(2_000)).succeeds().await;
        let files: Vec<usize> = cluster.nodes().iter().map(files).collect();
        if files.iter().all(|files| *files <= 6) { Ok(()) } else { Err(format!("{files:?} files for nothing")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_listed_by_pattern() {
    let cluster = Cluster::start(1).await;
    for name in ["orders", "orders/eu", "orders/us", "payments/eu"] {
        cluster.quipu(["log", "create", name]).succeeds().await;
    }
    cluster.quipu(["log", "list"]).succeeds().await.prints("orders\norders/eu\norders/us\npayments/eu\n");
    cluster.quipu(["log", "list", "orders/*"]).succeeds().await.prints("orders/eu\norders/us\n");
    cluster.quipu(["log", "list", "*/e?"]).succeeds().await.prints("orders/eu\npayments/eu\n");
    cluster.quipu(["log", "list", "nothing*"]).succeeds().await.prints("");
    cluster.quipu(["log", "list", "[ab]"]).is_refused().await.complains_of("'['");
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_read_from_a_time_on_to_the_record() {
    let cluster = Cluster::start(3).await;
    let name = cluster.create("orders").await;
    let producer = cluster.client().producer(&name, ProducerConfig::default()).expect("a sound configuration");
    // 2026-01-01T00:00:00Z, and so many minutes after it.
    let minute = |minutes: i64, value: &'static str| {
        Record::new(Timestamp::new(1_767_225_600_000 + minutes * 60_000), value.into())
    };
    producer.append(vec![minute(0, "a"), minute(1, "b"), minute(2, "c")]).await.expect("appended");
    producer.append(vec![minute(5, "d"), minute(4, "e")]).await.expect("appended");
    let read = async |arguments: &[&str]| {
        let arguments = ["read", "orders"].iter().chain(arguments).copied().collect::<Vec<_>>();
        let bootstrap = cluster.nodes()[0].address().to_owned();
        let read = Command::new(arguments).variable("QUIPU_BOOTSTRAP", &bootstrap).succeeds().await;
        read.text().to_owned()
    };
    assert_eq!(
        read(&["--since", "2026-01-01T00:01:00Z"]).await,
        "b
c
d
e
"
    );
    assert_eq!(
        read(&["--since", "2026-01-01T00:01:00.001Z", "--max-records", "2"]).await,
        "c
d
"
    );
    assert_eq!(
        read(&["--since", "2026-01-01T00:04:30Z"]).await,
        "d
e
"
    );
    assert_eq!(read(&["--since", "2026-01-01T00:05:01Z"]).await, "");
    assert_eq!(read(&["--since", "-5m"]).await, "", "all of them are older");
    producer.append(vec![producer.record("now")]).await.expect("appended");
    assert_eq!(
        read(&["--since", "-5m"]).await,
        "now
"
    );
    assert_eq!(
        read(&["--max-bytes", "3"]).await,
        "a
b
c
"
    );
    assert_eq!(
        read(&["--from", "5", "--max-bytes", "1"]).await,
        "now
",
        "one record always is printed"
    );
    for node in ["1", "2", "3"] {
        eventually("every replica finds it in its own copy", async || {
            let read = cluster.quipu(["read", "orders", "--since", "2026-01-01T00:03:00Z", "--replica", node]);
            let read = read.run().await;
            if read.bytes()
                == b"d
e
now
"
            {
                Ok(())
            } else {
                Err(read.to_string())
            }
        })
        .await;
    }

    cluster.quipu(["log", "trim", "orders", "--to", "3"]).succeeds().await;
    cluster.quipu(["read", "orders", "--from", "1"]).is_refused().await.complains_of("below the log's start, 3");
    let skipped = cluster.quipu(["read", "orders", "--from", "1", "--on-trimmed", "start"]).succeeds().await;
    skipped.mentions("2 records that had been trimmed were left out").prints(
        "d
e
now
",
    );
    assert_eq!(
        read(&["--since", "2026-01-01T00:00:00Z", "--max-records", "1"]).await,
        "d
"
    );
    let _ = cluster.quipu(["read", "orders", "--since", "noon"]).run().await.exits_with(2);
}
