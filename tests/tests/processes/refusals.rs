//! Bad input: a typed error that names the bound or the reason, and nothing changed.

use std::time::Duration;

use bytes::Bytes;
use quipu_protocol::batch::{BatchBuilder, Compression, Record};
use quipu_protocol::transport::{ChannelOptions, channel};
use quipu_protocol::v1::error::Kind;
use quipu_protocol::v1::records_client::RecordsClient;
use quipu_protocol::v1::{self, bad_batch::Reason};
use quipu_sdk::{Consistency, CreateLogError, LogConfig, LogName, Offset, ReadError, ReaderConfig, system};
use quipu_tests::Cluster;
use tonic::transport::Channel;

/// Where the fields of a batch begin that these tests spoil.
const CRC: usize = 17;
const ATTRIBUTES: usize = 21;
const LAST_OFFSET_DELTA: usize = 23;
const COUNT: usize = 57;

#[tokio::test(flavor = "multi_thread")]
async fn a_spoiled_batch_is_refused_by_its_fault_and_changes_nothing() {
    let cluster = Cluster::start(3).await;
    cluster.create("orders").await;
    let good = batch(&["one", "two"]);
    assert_eq!(append(&cluster, "orders", good.clone()).await.expect("a good batch"), (0, 2));

    let spoil = |change: fn(&mut Vec<u8>)| {
        let mut bytes = good.to_vec();
        change(&mut bytes);
        Bytes::from(bytes)
    };
    let cases: [(&str, Bytes, Reason); 8] = [
        ("no bytes at all", Bytes::new(), Reason::Truncated),
        ("half a header", good.slice(..30), Reason::Truncated),
        ("bytes that are missing", good.slice(..good.len() - 1), Reason::Length),
        ("a wrong CRC", spoil(|b| b[CRC] ^= 1), Reason::Crc),
        ("a changed byte", spoil(|b| *b.last_mut().expect("bytes") ^= 1), Reason::Crc),
        ("no record", spoil(|b| recount(b, 0)), Reason::Empty),
        ("a count that lies", spoil(|b| recount(b, 3)), Reason::Count),
        ("an unknown codec", spoil(|b| reseal(b, |b| b[ATTRIBUTES + 1] = 7)), Reason::Codec),
    ];
    for (what, bytes, reason) in cases {
        let error = append(&cluster, "orders", bytes).await.expect_err(what);
        assert!(!error.message.is_empty(), "{what}: the error says why");
        match error.kind {
            Some(Kind::BadBatch(bad)) => assert_eq!(bad.reason(), reason, "{what}: {}", error.message),
            other => panic!("{what}: {other:?}"),
        }
        assert_end(&cluster, "orders", 2).await;
    }
    assert_eq!(append(&cluster, "orders", good).await.expect("a good batch"), (2, 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_over_the_bound_is_refused_by_the_bounds_name() {
    let cluster = Cluster::start(3).await;
    cluster.create("default").await;
    cluster.create_with("small", LogConfig { max_batch_bytes: Some(1 << 10), ..LogConfig::default() }).await;

    for (log, limit) in [("default", 1 << 20), ("small", 1 << 10)] {
        // The header takes some of it.
        let error = append(&cluster, log, batch(&[&"x".repeat(limit)])).await.expect_err("too large");
        match error.kind {
            Some(Kind::TooLarge(large)) => {
                assert_eq!((large.bound.as_str(), large.limit), ("max_batch_bytes", limit as u64));
                assert!(large.actual > limit as u64, "{large:?}");
            }
            other => panic!("{log}: {other:?}"),
        }
        assert_end(&cluster, log, 0).await;
        let fits = batch(&[&"x".repeat(limit - 200)]);
        assert_eq!(append(&cluster, log, fits).await.expect("it fits"), (0, 1));
    }

    let line = "x".repeat(2 << 20);
    cluster.quipu(["append", "default"]).input(line).is_refused().await.complains_of("max_batch_bytes");
    assert_end(&cluster, "default", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_batch_goes_through() {
    let large = Cluster::of(3).setting("log.largest_max_batch_bytes", 64 << 20);
    let cluster = large.setting("journal.segment_bytes", 80 << 20).start().await;
    let config = LogConfig { max_batch_bytes: Some(64 << 20), ..LogConfig::default() };
    cluster.create_with("large", config).await;
    let value = "x".repeat((64 << 20) - 200);
    assert_eq!(append(&cluster, "large", batch(&[&value])).await.expect("it fits"), (0, 1));
    cluster.each_replica_reads("large").await.equals([&value]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_log_is_named() {
    let cluster = Cluster::start(3).await;
    let error = append(&cluster, "nowhere", batch(&["one"])).await.expect_err("no such log");
    assert!(matches!(&error.kind, Some(Kind::UnknownLog(log)) if log.name == "nowhere"), "{error:?}");

    cluster.quipu(["append", "nowhere"]).input("one\n").is_refused().await.complains_of("nowhere");
    cluster.quipu(["read", "nowhere", "--from", "start"]).is_refused().await.complains_of("nowhere");
    cluster.quipu(["tail", "nowhere"]).is_refused().await.complains_of("nowhere");
    cluster.quipu(["log", "describe", "nowhere", "--json"]).is_refused().await.complains_of("nowhere");
    cluster.quipu(["log", "list"]).succeeds().await.prints("");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_name_is_refused_by_its_fault() {
    let cluster = Cluster::start(3).await;
    let long = "x".repeat(256);
    for (name, reason) in [("or ders", "' '"), ("örders", "'ö'"), (long.as_str(), "255"), ("", "empty")] {
        let _ = cluster.quipu(["log", "create", name]).run().await.exits_with(1).complains_of(reason);
        // The server does not rely on the client's check.
        let error = create(&cluster, name, v1::LogConfig::default()).await.expect_err(reason);
        match error.kind {
            Some(Kind::InvalidArgument(invalid)) => assert_eq!(invalid.field, "name", "{name:?}"),
            other => panic!("{name:?}: {other:?}"),
        }
    }
    let longest = "x".repeat(255);
    cluster.quipu(["log", "create", &longest]).succeeds().await;
    cluster.quipu(["log", "list"]).succeeds().await.prints(longest + "\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_exists_otherwise_is_left_as_it_is() {
    let cluster = Cluster::start(3).await;
    cluster.quipu(["log", "create", "orders", "--replicas", "3"]).succeeds().await;
    let before = cluster.describe("orders").await.log;

    cluster.quipu(["log", "create", "orders", "--replicas", "1"]).is_refused().await.complains_of("orders");
    let name: LogName = "orders".parse().expect("a name");
    let other = LogConfig { max_batch_bytes: Some(2 << 20), ..LogConfig::default() };
    match cluster.client().create_log(&name, other).await {
        Err(CreateLogError::Exists { config, .. }) => {
            assert_eq!(config, before.config, "the error carries the configuration");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(cluster.describe("orders").await.log, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_config_out_of_bounds_is_refused_by_its_field() {
    let cluster = Cluster::start(3).await;
    let config = |replicas, max_batch_bytes| v1::LogConfig { replicas, max_batch_bytes, ..v1::LogConfig::default() };
    match create(&cluster, "orders", config(3, 1023)).await.expect_err("too small a bound").kind {
        Some(Kind::InvalidArgument(invalid)) => assert_eq!(invalid.field, "config.max_batch_bytes"),
        other => panic!("{other:?}"),
    }
    match create(&cluster, "orders", config(3, (2 << 20) + 1)).await.expect_err("too large a bound").kind {
        Some(Kind::TooLarge(large)) => assert_eq!((&*large.bound, large.limit), ("largest_max_batch_bytes", 2 << 20)),
        other => panic!("{other:?}"),
    }
    match create(&cluster, "orders", config(4, 0)).await.expect_err("more replicas than nodes").kind {
        Some(Kind::TooFewNodes(few)) => assert_eq!((few.replicas, few.nodes), (4, 3)),
        other => panic!("{other:?}"),
    }
    cluster.quipu(["log", "create", "orders", "--replicas", "4"]).is_refused().await.complains_of("3 nodes");
    let _ = cluster.quipu(["log", "create", "orders", "--replicas", "0"]).run().await.exits_with(2);
    cluster.quipu(["log", "list"]).succeeds().await.prints("");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offset_out_of_range_gets_the_range() {
    let cluster = Cluster::start(3).await;
    cluster.quipu(["log", "create", "orders"]).succeeds().await;
    cluster.quipu(["append", "orders"]).input("one\ntwo\n").succeeds().await;

    cluster.quipu(["read", "orders", "--from", "3"]).is_refused().await.complains_of("2");
    let name: LogName = "orders".parse().expect("a name");
    let config = ReaderConfig { from: quipu_sdk::From::Offset(Offset::new(3)), ..ReaderConfig::default() };
    let mut reader = cluster.client().reader(&name, config).expect("a reader");
    match reader.next().await {
        Err(ReadError::AboveEnd { offset, end }) => assert_eq!((offset.get(), end.get()), (3, 2)),
        other => panic!("{other:?}"),
    }

    let mut records = RecordsClient::new(leader(&cluster, "orders").await);
    let request = v1::ReadRequest {
        log: "orders".to_owned(),
        from: Some(v1::read_request::From::Offset(u64::MAX)),
        ..v1::ReadRequest::default()
    };
    let status = match records.read(request).await {
        Err(status) => status,
        Ok(answer) => answer.into_inner().message().await.expect_err("there is nothing at that offset"),
    };
    match v1::Error::from_status(&status).expect("a typed error").kind {
        Some(Kind::OutOfRange(range)) => assert_eq!((range.start, range.end), (0, 2)),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_not_there_is_said_not_to_be() {
    let cluster = Cluster::start(3).await;
    cluster.quipu(["log", "create", "orders", "--replicas", "1"]).succeeds().await;
    let home = cluster.describe("orders").await.replicas[0].node.get();
    let elsewhere = (1..=3).find(|&node| node != home).expect("another node").to_string();
    let read = |node: String| async {
        cluster.quipu(["read", "orders", "--from", "start", "--replica", &{ node }]).run().await
    };
    let _ = read(elsewhere).await.exits_with(1).complains_of("replica");
    let _ = read("9".to_owned()).await.exits_with(1).complains_of("9");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sequence_out_of_order_is_refused_and_a_repeated_one_lands_once() {
    let cluster = Cluster::start(3).await;
    cluster.create("orders").await;
    let id = allocate_producer(&cluster).await;
    let numbered = |sequence| {
        let mut builder = BatchBuilder::new(Compression::None);
        builder.push(&record("one")).expect("room");
        let producer = quipu_protocol::batch::Producer {
            id: quipu_protocol::ProducerId::new(id),
            epoch: quipu_protocol::ProducerEpoch::new(0),
            sequence: quipu_protocol::Sequence::new(sequence),
        };
        builder.finish(Some(producer)).expect("a batch")
    };
    let error = append(&cluster, "orders", numbered(5)).await.expect_err("an unknown producer starts at 0");
    assert!(matches!(error.kind, Some(Kind::UnknownProducer(_))), "{error:?}");
    assert_eq!(append(&cluster, "orders", numbered(0)).await.expect("the first"), (0, 1));
    assert_eq!(append(&cluster, "orders", numbered(0)).await.expect("a retry"), (0, 1));
    let error = append(&cluster, "orders", numbered(2)).await.expect_err("1 is missing");
    assert!(matches!(&error.kind, Some(Kind::OutOfSequence(o)) if (o.expected, o.actual) == (1, 2)), "{error:?}");
    assert_end(&cluster, "orders", 1).await;

    // A new leader remembers.
    cluster.leader_of("orders").await.kill();
    cluster.leader_of("orders").await;
    assert_eq!(append(&cluster, "orders", numbered(0)).await.expect("a retry"), (0, 1));
    assert_eq!(append(&cluster, "orders", numbered(1)).await.expect("the second"), (1, 2));
}

fn record(value: &str) -> Record {
    Record {
        timestamp: quipu_protocol::Timestamp::new(1_790_000_000_000),
        key: None,
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
        headers: Vec::new(),
    }
}

fn batch(values: &[&str]) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    for value in values {
        builder.push(&record(value)).expect("room");
    }
    builder.finish(None).expect("a batch")
}

/// Changes bytes and makes the CRC right again.
fn reseal(batch: &mut [u8], change: impl FnOnce(&mut [u8])) {
    change(batch);
    let crc = crc32c::crc32c(&batch[ATTRIBUTES..]);
    batch[CRC..CRC + 4].copy_from_slice(&crc.to_be_bytes());
}

fn recount(batch: &mut [u8], count: i32) {
    reseal(batch, |batch| {
        batch[COUNT..COUNT + 4].copy_from_slice(&count.to_be_bytes());
        batch[LAST_OFFSET_DELTA..LAST_OFFSET_DELTA + 4].copy_from_slice(&(count - 1).to_be_bytes());
    });
}

/// A connection to the log's leader, or to any node when there is no such log.
async fn leader(cluster: &Cluster, log: &str) -> Channel {
    let name: LogName = log.parse().expect("a name");
    let address = match cluster.client().describe_log(&name).await {
        Ok(_) => cluster.leader_of(log).await.address(),
        Err(_) => cluster.node(1).address(),
    };
    channel(&system::environment(), address, ChannelOptions::default()).expect("an address")
}

/// Appends by the bare protocol, over elections; the range or the typed error.
async fn append(cluster: &Cluster, log: &str, batch: Bytes) -> Result<(u64, u64), v1::Error> {
    for _ in 0..100 {
        let mut records = RecordsClient::new(leader(cluster, log).await).max_encoding_message_size(usize::MAX);
        let request =
            v1::AppendRequest { request: 1, log: log.to_owned(), batch: batch.clone(), ..v1::AppendRequest::default() };
        let status = match records.append_one(request).await {
            Ok(answer) => match answer.into_inner().outcome.expect("an outcome") {
                v1::append_response::Outcome::Appended(appended) => return Ok((appended.start, appended.end)),
                v1::append_response::Outcome::Error(error) => return Err(error),
            },
            Err(status) => status,
        };
        let error = v1::Error::from_status(&status).unwrap_or_else(|| panic!("an untyped error: {status:?}"));
        match error.kind {
            // Just after an election.
            Some(Kind::NotLeader(_) | Kind::Unavailable(_)) => tokio::time::sleep(BETWEEN_ATTEMPTS).await,
            _ => return Err(error),
        }
    }
    panic!("{log} found no leader");
}

const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(100);

async fn create(cluster: &Cluster, name: &str, config: v1::LogConfig) -> Result<(), v1::Error> {
    let any =
        channel(&system::environment(), cluster.node(1).address(), ChannelOptions::default()).expect("an address");
    let request = v1::CreateLogRequest { name: name.to_owned(), config: Some(config) };
    match v1::cluster_client::ClusterClient::new(any).create_log(request).await {
        Ok(_) => Ok(()),
        Err(status) => Err(v1::Error::from_status(&status).unwrap_or_else(|| panic!("an untyped error: {status:?}"))),
    }
}

async fn allocate_producer(cluster: &Cluster) -> i64 {
    let any =
        channel(&system::environment(), cluster.node(1).address(), ChannelOptions::default()).expect("an address");
    let request = v1::AllocateProducerRequest::default();
    let answer = v1::cluster_client::ClusterClient::new(any).allocate_producer(request).await.expect("a producer id");
    answer.into_inner().producer_id
}

async fn assert_end(cluster: &Cluster, log: &str, end: u64) {
    let name: LogName = log.parse().expect("a name");
    let range = cluster.client().offsets(&name, Consistency::Linearizable).await.expect("the offsets");
    assert_eq!(range.end().get(), end, "{log} is as it was");
}
