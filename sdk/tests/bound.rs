//! Whatever changes a log keeps to the one that it is meant for, whatever has its name now.

mod fake;

use std::time::Duration;

use fake::{FakeCluster, log};
use quipu_protocol::v1;
use quipu_sdk::{
    AlterLogError, AppendId, Cursor, CursorError, DeleteLogError, LeaseError, LogAlteration, LogRef, Offset,
    ProducerConfig, ProducerEpoch, ProducerId, Sequence, TrimError, WriterEpoch, WriterError,
};

const MINUTE: Duration = Duration::from_secs(60);

fn cursor(cluster: &FakeCluster) -> Cursor {
    cluster.client().cursor(&log(), &"mine".parse().expect("a name"))
}

/// Lets `call`, which is tried again since nobody knows what became of it, meet a log
/// that was created in the place of its own.
async fn meets_another_log<T>(cluster: &FakeCluster, call: impl Future<Output = T>) -> T {
    cluster.on_change(std::iter::repeat_n(v1::Error::outcome_unknown("the leader was lost"), 1_000));
    let before = cluster.changes();
    let replaced = async {
        cluster.until(|cluster| cluster.changes() > before).await;
        cluster.replace_log();
        cluster.on_change_clear();
    };
    let (outcome, ()) = tokio::join!(call, replaced);
    assert_eq!(cluster.marks(), 0, "the new log has nothing of it");
    outcome
}

#[tokio::test]
async fn a_cursor_that_is_tried_again_never_comes_to_a_new_log_of_its_name() {
    let cluster = FakeCluster::start(3).await;
    let gone = |error: CursorError| {
        assert!(matches!(&error, CursorError::UnknownLog { log: gone, maybe_done: true } if *gone == log()), "{error}");
        assert!(!error.has_no_side_effects() && !error.is_retryable());
    };
    let mine = cursor(&cluster);
    gone(meets_another_log(&cluster, mine.commit(Offset::new(0))).await.expect_err("its log is gone"));
    gone(meets_another_log(&cluster, cursor(&cluster).claim(1)).await.expect_err("its log is gone"));
    gone(meets_another_log(&cluster, cursor(&cluster).delete()).await.expect_err("its log is gone"));

    let late = mine.commit(Offset::new(0)).await.expect_err("it keeps to its log");
    assert!(matches!(&late, CursorError::UnknownLog { maybe_done: false, .. }), "{late}");
    assert!(mine.get().await.is_err() && late.has_no_side_effects());
    cursor(&cluster).commit(Offset::new(0)).await.expect("another one is the new log's");
    assert_eq!(cluster.marks(), 1);
}

#[tokio::test]
async fn a_lease_that_is_tried_again_never_comes_to_a_new_log_of_its_name() {
    let cluster = FakeCluster::start(3).await;
    let client = cluster.client();
    let gone = |error: LeaseError| {
        assert!(matches!(&error, LeaseError::UnknownLog { maybe_done: true, log: gone } if *gone == log()), "{error}");
        assert!(!error.has_no_side_effects() && !error.is_retryable());
    };
    let log = log();
    let hold = || client.hold_lease(&log, "replica-7", None, MINUTE);
    gone(meets_another_log(&cluster, hold()).await.expect_err("its log is gone"));
    let held = hold().await.expect("the new log grants one");
    gone(meets_another_log(&cluster, client.renew_lease(&log, &held, None, MINUTE)).await.expect_err("it is gone"));
    gone(meets_another_log(&cluster, client.release_lease(&log, &held)).await.expect_err("it is gone"));
    let late = client.renew_lease(&log, &held, None, MINUTE).await.expect_err("it keeps to its log");
    assert!(matches!(&late, LeaseError::UnknownLog { maybe_done: false, .. }), "{late}");
}

#[tokio::test]
async fn a_trim_that_is_tried_again_never_comes_to_a_new_log_of_its_name() {
    let cluster = FakeCluster::start(3).await;
    let (client, log) = (cluster.client(), log());
    cluster.fill(&["a", "b"]);
    let error = meets_another_log(&cluster, client.trim(&log, Offset::new(1))).await.expect_err("its log is gone");
    assert!(matches!(&error, TrimError::UnknownLog { log: gone, maybe_done: true } if *gone == log), "{error}");
    assert!(!error.has_no_side_effects() && !error.is_retryable());

    let id = client.describe_log(&log).await.expect("there").log.id;
    cluster.replace_log();
    cluster.fill(&["c", "d"]);
    let error = client.trim_past_leases(LogRef::new(&log, id), Offset::new(1)).await.expect_err("another log's");
    assert!(matches!(&error, TrimError::UnknownLog { maybe_done: false, .. }) && error.has_no_side_effects());
    assert_eq!(cluster.marks(), 0, "the new log is as it was");
    client.trim(&log, Offset::new(1)).await.expect("it is the one that has the name");
    assert_eq!(cluster.marks(), 1);
}

#[tokio::test]
async fn an_acquisition_that_is_tried_again_never_comes_to_a_new_log_of_its_name() {
    let cluster = FakeCluster::start(3).await;
    let (client, log) = (cluster.client(), log());
    let error = meets_another_log(&cluster, client.acquire_writer(&log, "db-1")).await.expect_err("its log is gone");
    assert!(matches!(&error, WriterError::UnknownLog { log: gone, maybe_done: true } if *gone == log), "{error}");
    assert!(!error.has_no_side_effects() && !error.is_retryable());

    let acquired = client.acquire_writer_as(&log, "db-1", &[7; 16]).await.expect("acquired");
    cluster.replace_log();
    let meant = LogRef::new(&log, acquired.log);
    let error = client.acquire_writer_as(meant, "db-1", &[7; 16]).await.expect_err("another log's");
    assert!(matches!(&error, WriterError::UnknownLog { maybe_done: false, .. }) && error.has_no_side_effects());
    assert!(matches!(client.describe_writer(meant).await, Err(WriterError::UnknownLog { maybe_done: false, .. })));
    assert_eq!(cluster.marks(), 0, "the new log is as it was");
}

#[tokio::test]
async fn a_writer_never_comes_to_a_new_log_that_has_an_epoch_of_the_same_number() {
    let cluster = FakeCluster::start(1).await;
    let (client, log) = (cluster.client(), log());
    let acquired = client.acquire_writer(&log, "db-1").await.expect("acquired");
    cluster.replace_log();
    assert_eq!(cluster.acquire_writer("db-2"), acquired.epoch.get());
    let under = |epoch| ProducerConfig { writer_epoch: Some(epoch), ..ProducerConfig::default() };
    let late = client.producer(LogRef::new(&log, acquired.log), under(acquired.epoch)).expect("a good configuration");
    late.append(vec![late.record("late")]).await.expect_err("its log is gone");
    assert!(cluster.values().is_empty(), "{:?}", cluster.values());
    let now = client.producer(&log, under(WriterEpoch::new(1))).expect("a good configuration");
    now.append(vec![now.record("of the new log")]).await.expect("acknowledged");
}

#[tokio::test]
async fn a_resolution_is_of_the_log_that_the_append_was_sent_to() {
    let cluster = FakeCluster::start(3).await;
    let (client, log) = (cluster.client(), log());
    let id = client.describe_log(&log).await.expect("there").log.id;
    let (producer, epoch, sequence) = (ProducerId::new(7), ProducerEpoch::new(0), Sequence::new(0));
    let append = AppendId { log: Some(id), producer, epoch, sequence };
    let error = meets_another_log(&cluster, client.resolve(&log, append)).await.expect_err("its log is gone");
    assert!(matches!(&error, WriterError::UnknownLog { maybe_done: true, .. }), "{error}");
    let error = client.resolve(&log, append).await.expect_err("the new log is none of its");
    assert!(matches!(&error, WriterError::UnknownLog { maybe_done: false, .. }), "{error}");
    let unbound = AppendId { log: None, ..append };
    let error = meets_another_log(&cluster, client.resolve(&log, unbound)).await.expect_err("its log is gone");
    assert!(matches!(&error, WriterError::UnknownLog { maybe_done: true, .. }), "{error}");
}

#[tokio::test]
async fn an_alteration_that_is_tried_again_never_comes_to_a_new_log_of_its_name() {
    let cluster = FakeCluster::start(3).await;
    let (client, log) = (cluster.client(), log());
    let change = LogAlteration { retention_ms: Some(Some(9)), ..LogAlteration::default() };
    let error = meets_another_log(&cluster, client.alter_log(&log, change)).await.expect_err("its log is gone");
    assert!(matches!(&error, AlterLogError::UnknownLog { log: gone, maybe_done: true } if *gone == log), "{error}");
    assert!(!error.has_no_side_effects() && !error.is_retryable());

    let id = client.describe_log(&log).await.expect("there").log.id;
    cluster.replace_log();
    let error = client.alter_log(LogRef::new(&log, id), change).await.expect_err("another log's");
    assert!(matches!(&error, AlterLogError::UnknownLog { maybe_done: false, .. }) && error.has_no_side_effects());
    assert_eq!(cluster.marks(), 0, "the new log is as it was");
}

#[tokio::test]
async fn a_deletion_that_is_tried_again_never_comes_to_a_new_log_of_its_name() {
    let cluster = FakeCluster::start(3).await;
    let (client, log) = (cluster.client(), log());
    let first = client.describe_log(&log).await.expect("there").log;
    let gone = meets_another_log(&cluster, client.delete_log(&log)).await.expect("it is gone");
    assert_eq!(gone, first);
    let second = client.describe_log(&log).await.expect("the new log is there").log;
    // So it is when the caller does it.
    let error = client.delete_log(LogRef::new(&log, first.id)).await.expect_err("it is gone");
    assert!(matches!(&error, DeleteLogError::UnknownLog { .. }), "{error}");
    assert_eq!(client.describe_log(&log).await.expect("the new log is there").log, second);
    assert_eq!(client.delete_log(LogRef::new(&log, second.id)).await.expect("deleted"), second);
}
