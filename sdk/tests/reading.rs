//! What a reader promises, over the wire and against a cluster that fails in
//! every way that a script can say.

mod fake;
mod frozen;

use std::time::Duration;

use fake::{FakeCluster, OnRead, log, text};
use futures_util::{FutureExt, TryStreamExt};
use quipu_protocol::v1;
use quipu_sdk::{
    Client, ClientConfig, Consistency, From, NodeId, Offset, OffsetAt, OnTrimmed, ReadError, Reader, ReaderConfig,
    RequestError, Timestamp, system,
};

#[tokio::test]
async fn a_chosen_replica_that_is_behind_a_barrier_or_too_old_is_told_of_with_both_figures() {
    let cluster = filled(3).await;
    let client = cluster.client();
    let barrier = client.barrier(&log()).await.expect("a barrier");
    assert_eq!(barrier.end, Offset::new(10));
    let config = ReaderConfig {
        node: Some(NodeId::new(2)),
        after: Some(barrier),
        max_age: Some(Duration::from_millis(50)),
        ..ReaderConfig::default()
    };
    let mut chosen = reader(&client, config);
    cluster.on_read([OnRead::Refuse(v1::Error::not_yet_applied(NodeId::new(2), Offset::new(10), Offset::new(7)))]);
    let error = chosen.next().await.expect_err("it is behind");
    assert!(matches!(error, ReadError::NotYetApplied { at_least, end, .. } if (at_least.get(), end.get()) == (10, 7)));
    assert!(error.is_retryable());
    let stale = v1::TooStale { node: 2, max_age_ms: 50, age_ms: Some(700), end: 7, leader_end: 10 };
    cluster.on_read([OnRead::Refuse(v1::Error::too_stale(stale))]);
    let error = chosen.next().await.expect_err("it is too old");
    let figures = (Duration::from_millis(50), Some(Duration::from_millis(700)), Offset::new(7), Offset::new(10));
    assert!(matches!(
        error,
        ReadError::TooStale { max_age, age, end, leader_end, .. } if (max_age, age, end, leader_end) == figures
    ));
    // It catches up.
    assert_eq!(read_all(chosen).await.expect("readable"), ALL);
}

#[tokio::test]
async fn any_replica_that_is_behind_a_barrier_or_too_old_is_left_for_another_one() {
    let cluster = filled(3).await;
    let client = cluster.client();
    let after = Some(client.barrier(&log()).await.expect("a barrier"));
    cluster.on_read([OnRead::Refuse(v1::Error::not_yet_applied(NodeId::new(2), Offset::new(10), Offset::new(7)))]);
    cluster.on_read([OnRead::Refuse(v1::Error::too_stale(v1::TooStale::default()))]);
    let config = ReaderConfig { consistency: Consistency::Local, after, ..ReaderConfig::default() };
    assert_eq!(read_all(reader(&client, config)).await.expect("readable"), ALL);
}

#[tokio::test]
async fn bounds_that_make_no_sense_are_refused_before_anything_is_asked() {
    let cluster = filled(1).await;
    let client = cluster.client();
    let refused = |config| client.reader(&log(), config).err().expect("it is refused").to_string();
    let age = ReaderConfig { max_age: Some(Duration::from_secs(1)), ..ReaderConfig::default() };
    assert!(refused(age).starts_with("max_age is for local reads"));
    let wait = ReaderConfig { after_wait: Duration::from_secs(61), ..ReaderConfig::default() };
    assert_eq!(refused(wait), "after_wait is 61s; it has to be at most 60s");
}

fn reader(client: &Client, config: ReaderConfig) -> Reader {
    client.reader(&log(), config).expect("a good configuration")
}

async fn read_all(reader: Reader) -> Result<Vec<String>, ReadError> {
    reader.into_stream().map_ok(|record| text(record.value)).try_collect().await
}

async fn next(reader: &mut Reader) -> (u64, String) {
    let record = reader.next().await.expect("readable").expect("a record");
    (record.offset.get(), text(record.value))
}

async fn filled(nodes: usize) -> FakeCluster {
    let cluster = FakeCluster::start(nodes).await;
    for batch in [&["a", "b", "c"][..], &["d"], &["e", "f"], &["g", "h", "i", "j"]] {
        cluster.fill(batch);
    }
    cluster
}

const ALL: [&str; 10] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];

#[tokio::test]
async fn every_position_and_bound_yields_exactly_what_lies_between() {
    let cluster = filled(1).await;
    let client = cluster.client();
    for from in 0..=10_usize {
        for count in 0..=11 {
            let config = ReaderConfig {
                from: From::Offset(Offset::new(from as u64)),
                max_records: Some(count as u64),
                ..ReaderConfig::default()
            };
            let read = read_all(reader(&client, config)).await.expect("readable");
            assert_eq!(read, ALL[from..ALL.len().min(from + count)], "{count} from {from}");
        }
    }
    assert_eq!(read_all(reader(&client, ReaderConfig::default())).await.expect("readable"), ALL);
}

#[tokio::test]
async fn reader_resumes_at_next_offset_after_any_failure() {
    let cluster = filled(3).await;
    cluster.on_read([
        OnRead::BreakAfter(0),
        OnRead::BreakAfter(1),
        OnRead::EndAfter(1),
        OnRead::Refuse(v1::Error::not_leader(None, Vec::new())),
        OnRead::StallAfter(1),
        OnRead::Refuse(v1::Error::unavailable("an election")),
    ]);
    assert_eq!(read_all(reader(&cluster.client(), ReaderConfig::default())).await.expect("readable"), ALL);
    let offsets: Vec<_> = cluster.reads().into_iter().map(|(_, request)| request.from).collect();
    let at = |offset| Some(v1::read_request::From::Offset(offset));
    assert_eq!(offsets.last(), Some(&at(6)), "{offsets:?}");
}

#[tokio::test]
async fn a_follower_of_the_log_sees_what_is_appended_later() {
    let cluster = filled(1).await;
    let config = ReaderConfig { from: From::End, follow: true, ..ReaderConfig::default() };
    let mut reader = reader(&cluster.client(), config);
    assert!(reader.next().now_or_never().is_none());
    {
        // The first call settles where the end is; then it waits.
        let mut waiting = Box::pin(reader.next());
        let opened = cluster.until(|cluster| !cluster.reads().is_empty());
        tokio::select! {
            biased;
            () = opened => {}
            record = &mut waiting => panic!("there is nothing yet: {record:?}"),
        }
    }
    cluster.fill(&["k", "l"]);
    assert_eq!(next(&mut reader).await, (10, "k".to_owned()));
    assert_eq!(next(&mut reader).await, (11, "l".to_owned()));
}

#[tokio::test]
async fn the_end_does_not_move_when_the_first_stream_is_lost() {
    let cluster = filled(1).await;
    let config = ReaderConfig { from: From::End, follow: true, ..ReaderConfig::default() };
    let mut reader = reader(&cluster.client(), config);
    cluster.on_read([OnRead::BreakAfter(0)]);
    {
        let mut waiting = Box::pin(reader.next());
        let reopened = cluster.until(|cluster| cluster.reads().len() == 2);
        tokio::select! {
            biased;
            () = reopened => {}
            record = &mut waiting => panic!("there is nothing yet: {record:?}"),
        }
    }
    cluster.fill(&["k"]);
    assert_eq!(next(&mut reader).await, (10, "k".to_owned()));
}

#[tokio::test]
async fn a_dropped_call_loses_nothing() {
    let cluster = filled(1).await;
    let mut reader = reader(&cluster.client(), ReaderConfig::default());
    let mut read = Vec::new();
    while read.len() < ALL.len() {
        // Each call is given up after its first poll, again and again.
        if let Some(record) = reader.next().now_or_never() {
            read.push(text(record.expect("readable").expect("a record").value));
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(read, ALL);
}

#[tokio::test]
async fn outside_of_the_log_is_an_error_that_names_its_bound() {
    let cluster = filled(1).await;
    cluster.trim(4);
    let read = async |offset| {
        let config = ReaderConfig { from: From::Offset(Offset::new(offset)), ..ReaderConfig::default() };
        reader(&cluster.client(), config).next().await
    };
    let (four, ten) = (Offset::new(4), Offset::new(10));
    let below = read(3).await.expect_err("trimmed");
    assert!(matches!(below, ReadError::BelowStart { start, .. } if start == four), "{below}");
    let above = read(11).await.expect_err("not there");
    assert!(matches!(above, ReadError::AboveEnd { end, .. } if end == ten), "{above}");
    assert_eq!(read(10).await.expect("the end is a place to read from"), None);
    let first = read(4).await.expect("readable").expect("a record");
    assert_eq!(first.offset, four);
    let from_start = reader(&cluster.client(), ReaderConfig::default()).next().await;
    assert_eq!(from_start.expect("readable"), Some(first));
}

#[tokio::test]
async fn a_gap_is_an_error_and_never_silence() {
    let cluster = filled(1).await;
    cluster.on_read([OnRead::SkipAfter(1)]);
    let error = read_all(reader(&cluster.client(), ReaderConfig::default())).await.expect_err("a batch is missing");
    let (three, four) = (Offset::new(3), Offset::new(4));
    assert!(
        matches!(error, ReadError::NotContiguous { expected, found, .. } if (expected, found) == (three, four)),
        "{error}"
    );
}

#[tokio::test]
async fn damage_on_the_way_is_an_error() {
    let cluster = filled(1).await;
    cluster.on_read([OnRead::CorruptAfter(2)]);
    let error = read_all(reader(&cluster.client(), ReaderConfig::default())).await.expect_err("a bit is flipped");
    assert!(matches!(error, ReadError::Corrupt { offset, .. } if offset == Offset::new(4)), "{error}");
}

#[tokio::test]
async fn a_chosen_node_is_asked_and_no_other() {
    let cluster = filled(3).await;
    let config = |node| ReaderConfig { node: Some(NodeId::new(node)), ..ReaderConfig::default() };
    assert_eq!(read_all(reader(&cluster.client(), config(3))).await.expect("readable"), ALL);
    for (node, request) in cluster.reads() {
        assert_eq!((node, request.consistency()), (2, v1::Consistency::Local));
    }
    let error = reader(&cluster.client(), config(9)).next().await.expect_err("there are three");
    assert!(matches!(error, ReadError::UnknownNode { node } if node == NodeId::new(9)), "{error}");

    let peers = vec![v1::Peer { node: 1, address: cluster.addresses[0].clone() }];
    cluster.on_read([OnRead::Refuse(v1::Error::no_such_replica(NodeId::new(2), peers))]);
    let error = reader(&cluster.client(), config(2)).next().await.expect_err("it has no copy");
    assert!(matches!(&error, ReadError::NoSuchReplica { replicas, .. } if *replicas == [NodeId::new(1)]), "{error}");
}

#[tokio::test]
async fn a_linearizable_read_goes_to_the_leader_and_a_local_one_need_not() {
    let cluster = filled(3).await;
    cluster.lead(1);
    let client = cluster.client();
    assert_eq!(read_all(reader(&client, ReaderConfig::default())).await.expect("readable"), ALL);
    assert_eq!(cluster.reads().last().map(|(node, _)| *node), Some(1));
    let config = ReaderConfig { consistency: Consistency::Local, ..ReaderConfig::default() };
    assert_eq!(read_all(reader(&client, config)).await.expect("readable"), ALL);
}

#[tokio::test]
async fn a_replica_that_is_behind_is_waited_for_once_reading_has_begun() {
    let cluster = filled(1).await;
    let range = |end| quipu_sdk::OffsetRange::new(Offset::ZERO, Offset::new(end));
    let behind = v1::Error::out_of_range(Offset::new(4), range(2));
    cluster.on_read([OnRead::BreakAfter(2), OnRead::Refuse(behind)]);
    assert_eq!(read_all(reader(&cluster.client(), ReaderConfig::default())).await.expect("readable"), ALL);
}

#[tokio::test]
async fn a_reader_that_gave_up_goes_on_when_it_is_asked_again() {
    let cluster = filled(1).await;
    cluster.on_read(std::iter::once(OnRead::BreakAfter(1)).chain(unavailable().take(200)));
    let config = ClientConfig { retry_timeout: Duration::from_millis(20), ..cluster.client_config() };
    let client = Client::new(config, system::environment()).expect("a good configuration");
    let mut reader = reader(&client, ReaderConfig::default());
    let mut read = Vec::new();
    let mut failures = 0;
    while read.len() < ALL.len() {
        match reader.next().await {
            Ok(record) => read.push(text(record.expect("a record").value)),
            Err(error) => {
                assert!(error.is_retryable(), "{error}");
                assert!(
                    matches!(error, ReadError::Request(RequestError::Unavailable { last: Some(_), .. })),
                    "{error}"
                );
                failures += 1;
            }
        }
    }
    assert_eq!(read, ALL);
    assert!(failures > 0);
}

fn unavailable() -> impl Iterator<Item = OnRead> {
    std::iter::repeat_with(|| OnRead::Refuse(v1::Error::unavailable("an election")))
}

#[tokio::test]
async fn an_unknown_log_is_an_error_that_names_it() {
    let cluster = FakeCluster::start(2).await;
    cluster.drop_log();
    let error = reader(&cluster.client(), ReaderConfig::default()).next().await.expect_err("it is gone");
    assert!(matches!(&error, ReadError::UnknownLog { log } if *log == fake::log()), "{error}");
}

#[tokio::test]
async fn a_follower_notices_that_its_connection_is_dead() {
    let cluster = filled(1).await;
    let freezer = frozen::Freezer::before(&cluster.addresses[0]).await;
    let config = ClientConfig {
        bootstrap: vec![freezer.address.clone()],
        keep_alive: Duration::from_millis(50),
        ..cluster.client_config()
    };
    let client = Client::new(config, system::environment()).expect("a good configuration");
    let config = ReaderConfig { follow: true, consistency: Consistency::Local, ..ReaderConfig::default() };
    let mut reader = reader(&client, config);
    for value in ALL {
        assert_eq!(next(&mut reader).await.1, value);
    }
    // What is there already gets no byte through any more; a new connection
    // works.
    freezer.freeze();
    cluster.fill(&["k"]);
    assert_eq!(next(&mut reader).await, (10, "k".to_owned()));
}

#[tokio::test]
async fn a_reader_of_a_deleted_log_never_comes_to_a_new_log_of_its_name() {
    for from in [From::Start, From::End, From::Offset(Offset::new(1))] {
        let cluster = FakeCluster::start(3).await;
        cluster.fill(&["a"]);
        cluster.fill(&["b"]);
        let config = ReaderConfig { from, follow: true, ..ReaderConfig::default() };
        let mut reader = cluster.client().reader(&log(), config).expect("a good configuration");
        if from == From::End {
            // Its place is known with the first answer.
            let next = reader.next();
            let more = async {
                cluster.until(|cluster| !cluster.reads().is_empty()).await;
                cluster.fill(&["c"]);
            };
            futures_util::future::join(next, more).await.0.expect("a record").expect("one");
        } else {
            reader.next().await.expect("a record").expect("one");
        }
        cluster.replace_log();
        for value in ["x", "y", "z", "w"] {
            cluster.fill(&[value]);
        }
        let mut after = Vec::new();
        let error = loop {
            match reader.next().await {
                Ok(record) => after.push(text(record.expect("it follows").value)),
                Err(error) => break error,
            }
        };
        assert!(matches!(&error, ReadError::UnknownLog { log: gone } if *gone == log()), "{error}");
        assert!(after.iter().all(|value| ["a", "b", "c"].contains(&value.as_str())), "{after:?} after {from:?}");
    }
}

#[tokio::test]
async fn a_reader_begins_at_the_first_record_of_a_time() {
    let cluster = FakeCluster::start(3).await;
    for (timestamp, value) in [(10, "a"), (30, "b"), (20, "c"), (40, "d")] {
        cluster.fill_at(timestamp, &[value]);
    }
    for (at, offset, timestamp) in [(5, 0, Some(10)), (20, 1, Some(30)), (31, 3, Some(40)), (41, 4, None)] {
        let found = cluster.client().offset_at(&log(), Timestamp::new(at), Consistency::Linearizable).await;
        let expected = OffsetAt { offset: Offset::new(offset), timestamp: timestamp.map(Timestamp::new) };
        assert_eq!(found.expect("found"), expected);
        let config = ReaderConfig { from: From::Time(Timestamp::new(at)), ..ReaderConfig::default() };
        // The first stream is lost: the place stays.
        cluster.on_read([OnRead::BreakAfter(0)]);
        let mut reader = cluster.client().reader(&log(), config).expect("a good configuration");
        let mut values = Vec::new();
        while let Some(record) = reader.next().await.expect("readable") {
            values.push(text(record.value));
        }
        assert_eq!(values, ["a", "b", "c", "d"][usize::try_from(offset).expect("small")..]);
    }
}

#[tokio::test]
async fn a_reader_that_comes_to_what_was_trimmed_does_as_it_was_told() {
    let cluster = FakeCluster::start(3).await;
    for value in ["a", "b", "c", "d", "e"] {
        cluster.fill(&[value]);
    }
    cluster.trim(3);
    let read = async |on_trimmed| {
        let from = From::Offset(Offset::new(1));
        let config = ReaderConfig { from, on_trimmed, max_records: Some(2), ..ReaderConfig::default() };
        let mut reader = cluster.client().reader(&log(), config).expect("a good configuration");
        let mut values = Vec::new();
        loop {
            match reader.next().await {
                Ok(Some(record)) => values.push(text(record.value)),
                Ok(None) => return Ok((values, reader.skipped())),
                Err(error) => return Err(error),
            }
        }
    };
    let error = read(OnTrimmed::Fail).await.expect_err("it is gone");
    assert!(
        matches!(error, ReadError::BelowStart { offset, start } if (offset.get(), start.get()) == (1, 3)),
        "{error}"
    );
    assert_eq!(read(OnTrimmed::Start).await.expect("readable"), (vec!["d".to_owned(), "e".to_owned()], 2));
    assert_eq!(read(OnTrimmed::End).await.expect("readable"), (Vec::new(), 4));
}
