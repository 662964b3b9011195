//! Cursors and leases keep to the log that they are of, whatever has its name now.

mod fake;

use std::time::Duration;

use fake::{FakeCluster, log};
use quipu_protocol::v1;
use quipu_sdk::{Cursor, CursorError, LeaseError, Offset};

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
