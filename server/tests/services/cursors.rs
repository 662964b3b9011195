//! Cursors: what is committed, claimed and refused, what an append carries, and how
//! few entries it takes.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use quipu_protocol::batch::{Producer, with_producer};
use quipu_protocol::v1::cursor_commit::{Expected, NoPosition};
use quipu_protocol::v1::cursor_refused::Reason;
use quipu_protocol::v1::cursors_client::CursorsClient;
use quipu_protocol::v1::error::Kind;
use quipu_protocol::{ProducerEpoch, ProducerId, Sequence, v1};
use tonic::Status;
use tonic::transport::Channel;

use crate::batches::batch;
use crate::clock::MovedClock;
use crate::http::metrics;
use crate::node::{LOG, Node, config_with, kind, within};

fn to(cursor: &str, position: u64) -> v1::CursorCommit {
    v1::CursorCommit { cursor: cursor.to_owned(), position, ..v1::CursorCommit::default() }
}

fn commit(commit: v1::CursorCommit) -> v1::CommitCursorRequest {
    v1::CommitCursorRequest { log: LOG.to_owned(), commit: Some(commit), request_id: 0, log_id: 0 }
}

fn refused(cursor: &str, reason: Reason) -> Kind {
    Kind::CursorRefused(v1::CursorRefused { cursor: cursor.to_owned(), reason: Some(reason) })
}

/// A node that lets no cursor wait.
async fn prompt() -> Node {
    Node::with_log_as(config_with(1, &[("log.cursor_commit_interval_ms", 0)])).await
}

impl Node {
    fn cursors(&self) -> CursorsClient<Channel> {
        CursorsClient::new(self.channel())
    }

    async fn commits(&self, asked: v1::CursorCommit) -> Result<(), Status> {
        within(self.cursors().commit_cursor(commit(asked))).await.map(|_| ())
    }

    async fn claims(&self, cursor: &str, generation: u64) -> Result<Option<u64>, Status> {
        let (log, cursor) = (LOG.to_owned(), cursor.to_owned());
        let request = v1::ClaimCursorRequest { log, cursor, generation, log_id: 0 };
        let claimed = within(self.cursors().claim_cursor(request)).await?.into_inner().cursor.expect("a cursor");
        assert_eq!(claimed.generation, generation);
        Ok(claimed.position)
    }

    async fn cursor(&self, cursor: &str) -> Option<v1::Cursor> {
        let request = v1::GetCursorRequest { log: LOG.to_owned(), cursor: cursor.to_owned(), log_id: 0 };
        within(self.cursors().get_cursor(request)).await.expect("is told").into_inner().cursor
    }

    async fn position(&self, cursor: &str) -> Option<u64> {
        self.cursor(cursor).await?.position
    }

    async fn deletes(&self, cursor: &str) -> bool {
        let request = v1::DeleteCursorRequest { log: LOG.to_owned(), cursor: cursor.to_owned(), log_id: 0 };
        within(self.cursors().delete_cursor(request)).await.expect("is deleted").into_inner().deleted
    }

    async fn lists(&self, prefix: &str, after: &str, limit: u32) -> (Vec<String>, bool) {
        let (log, prefix, after) = (LOG.to_owned(), prefix.to_owned(), after.to_owned());
        let request = v1::ListCursorsRequest { log, after, limit, prefix, log_id: 0 };
        let listed = within(self.cursors().list_cursors(request)).await.expect("is listed").into_inner();
        (listed.cursors.into_iter().map(|cursor| cursor.name).collect(), listed.more)
    }
}

fn carrying(batch: Bytes, cursors: Vec<v1::CursorCommit>) -> v1::AppendRequest {
    let cursors = v1::CarriedCommits::encoded(cursors);
    v1::AppendRequest { log: LOG.to_owned(), batch, cursors, ..v1::AppendRequest::default() }
}

#[tokio::test]
async fn a_cursor_is_where_it_was_committed_with_all_that_was_said() {
    let node = prompt().await;
    node.append(LOG, batch(&["a", "b", "c"])).await.expect("is appended");
    assert_eq!(node.cursor("c").await, None);
    let metadata = Bytes::from_static(b"mine");
    let full = v1::CursorCommit { metadata: metadata.clone(), generation: 3, ..to("c", 2) };
    node.commits(full).await.expect("is committed");
    let cursor = node.cursor("c").await.expect("it is there");
    assert_eq!((cursor.position, cursor.generation, cursor.of), (Some(2), 3, 0));
    assert!(cursor.metadata == metadata && cursor.committed_at > 1_700_000_000_000, "{cursor:?}");
    node.commits(v1::CursorCommit { generation: 3, ..to("c", 0) }).await.expect("it may go back");
    assert_eq!(node.position("c").await, Some(0));
    assert!(node.deletes("c").await);
    assert!(!node.deletes("c").await);
    assert_eq!(node.cursor("c").await, None);
}

#[tokio::test]
async fn each_refusal_says_what_the_caller_can_do_and_changes_nothing() {
    let node = prompt().await;
    node.append(LOG, batch(&["a", "b"])).await.expect("is appended");
    node.commits(v1::CursorCommit { generation: 2, ..to("c", 1) }).await.expect("is committed");
    let id = node.described().await.log.expect("a log").id;

    let why = async |asked| kind(&node.commits(asked).await.expect_err("is refused"));
    let fenced = refused("c", Reason::Fenced(v1::CursorFenced { generation: 2 }));
    assert_eq!(why(v1::CursorCommit { generation: 1, ..to("c", 2) }).await, fenced);
    assert_eq!(kind(&node.claims("c", 1).await.expect_err("is refused")), fenced);
    let beyond = |cursor| refused(cursor, Reason::BeyondEnd(v1::CursorBeyondEnd { end: 2 }));
    assert_eq!(why(v1::CursorCommit { generation: 2, ..to("c", 3) }).await, beyond("c"));
    assert_eq!(why(to("other", u64::MAX)).await, beyond("other"));
    // The log's own id says nothing else.
    assert_eq!(why(v1::CursorCommit { of: id, ..to("other", 3) }).await, beyond("other"));
    let mismatch = refused("c", Reason::Mismatch(v1::CursorMismatch { position: Some(1), of: 0 }));
    let expected = Some(Expected::PositionIs(0));
    assert_eq!(why(v1::CursorCommit { generation: 2, expected, ..to("c", 2) }).await, mismatch);
    let expected = Some(Expected::NoPosition(NoPosition {}));
    assert_eq!(why(v1::CursorCommit { generation: 2, expected, ..to("c", 2) }).await, mismatch);

    let field = |kind: Kind| match kind {
        Kind::InvalidArgument(invalid) => invalid.field,
        Kind::TooLarge(large) => large.bound,
        other => panic!("{other:?}"),
    };
    assert_eq!(field(why(to("", 0)).await), "cursor");
    assert_eq!(field(why(to(&"x".repeat(256), 0)).await), "cursor");
    assert_eq!(field(why(to("a\n", 0)).await), "cursor");
    let metadata = Bytes::from(vec![0; 1_025]);
    assert_eq!(field(why(v1::CursorCommit { metadata, ..to("c", 0) }).await), "max_cursor_metadata_bytes");
    assert_eq!((node.position("c").await, node.lists("", "", 0).await.0.len()), (Some(1), 1));
}

#[tokio::test]
async fn a_claim_fences_whoever_had_the_cursor() {
    let node = prompt().await;
    assert_eq!(node.claims("c", 1).await.expect("is claimed"), None);
    node.commits(v1::CursorCommit { generation: 1, ..to("c", 0) }).await.expect("is committed");
    assert_eq!(node.claims("c", 2).await.expect("is claimed"), Some(0));
    assert_eq!(node.claims("c", 2).await.expect("may be repeated"), Some(0));
    node.commits(v1::CursorCommit { generation: 1, ..to("c", 0) }).await.expect_err("is fenced");
}

#[tokio::test]
async fn a_commit_that_comes_again_changes_nothing_more() {
    let node = prompt().await;
    node.append(LOG, batch(&["a", "b"])).await.expect("is appended");
    let expected = Some(Expected::NoPosition(NoPosition {}));
    let first = v1::CommitCursorRequest { request_id: 77, ..commit(v1::CursorCommit { expected, ..to("c", 1) }) };
    for _ in 0..2 {
        within(node.cursors().commit_cursor(first.clone())).await.expect("it is done");
    }
    node.commits(to("c", 2)).await.expect("is committed");
    within(node.cursors().commit_cursor(first)).await.expect("it was done");
    assert_eq!(node.position("c").await, Some(2));
}

#[tokio::test]
async fn cursors_are_listed_by_name_in_pages() {
    let node = prompt().await;
    for name in ["b", "a/1", "a/3", "a/2"] {
        node.commits(to(name, 0)).await.expect("is committed");
    }
    let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(node.lists("", "", 0).await, (names(&["a/1", "a/2", "a/3", "b"]), false));
    assert_eq!(node.lists("a/", "", 2).await, (names(&["a/1", "a/2"]), true));
    assert_eq!(node.lists("a/", "a/2", 2).await, (names(&["a/3"]), false));
}

#[tokio::test]
async fn an_append_and_its_commits_land_together_or_not_at_all_and_once() {
    let node = Node::with_log().await;
    let producer = |sequence| {
        let (epoch, sequence) = (ProducerEpoch::new(0), Sequence::new(sequence));
        Some(Producer { id: ProducerId::new(1 << 62), epoch, sequence })
    };
    let stamped = |sequence| with_producer(batch(&["a"]), producer(sequence));
    let from = |expected| v1::CursorCommit { expected: Some(expected), of: 99, ..to("in", 10) };
    let first = carrying(stamped(0), vec![from(Expected::NoPosition(NoPosition {}))]);
    node.append_as(first.clone()).await.expect("lands");
    assert_eq!(node.position("in").await, Some(10));
    let second = v1::CursorCommit { position: 20, ..from(Expected::PositionIs(10)) };
    node.append_as(carrying(stamped(1), vec![second.clone()])).await.expect("lands");
    let again = node.append_as(first).await.expect("had landed");
    assert!(again.duplicate && again.end == 1, "{again:?}");
    assert_eq!(node.position("in").await, Some(20), "a repeat commits nothing again");

    let error = node.append_as(carrying(stamped(2), vec![to("other", 0), second])).await.expect_err("is refused");
    let mismatch = Reason::Mismatch(v1::CursorMismatch { position: Some(20), of: 99 });
    assert_eq!(kind(&error), refused("in", mismatch));
    assert_eq!((node.end().await, node.position("other").await), (2, None));
    node.append_as(carrying(stamped(2), vec![to("other", 3)])).await.expect("the sequence is free, and 3 its end");
    assert_eq!(node.position("other").await, Some(3));

    let twice = node.append_as(carrying(batch(&["a"]), vec![to("x", 0), to("x", 1)])).await.expect_err("is refused");
    assert!(matches!(kind(&twice), Kind::InvalidArgument(invalid) if invalid.field == "cursors"));
    let many = (0..17).map(|n| to(&n.to_string(), 0)).collect();
    let many = node.append_as(carrying(batch(&["a"]), many)).await.expect_err("is refused");
    assert!(matches!(kind(&many), Kind::TooLarge(large) if large.bound == "max_carried_commits"));
    // So many bytes are not even looked at.
    let much = v1::AppendRequest { cursors: vec![0; 1 << 20].into(), ..carrying(batch(&["a"]), Vec::new()) };
    let much = node.append_as(much).await.expect_err("is refused");
    assert!(matches!(kind(&much), Kind::TooLarge(large) if large.bound == "max_carried_bytes"));
    let senseless = v1::AppendRequest { cursors: vec![0xff; 9].into(), ..carrying(batch(&["a"]), Vec::new()) };
    let senseless = node.append_as(senseless).await.expect_err("is refused");
    assert!(matches!(kind(&senseless), Kind::InvalidArgument(invalid) if invalid.field == "cursors"));
    assert_eq!(node.end().await, 3);
}

#[tokio::test]
async fn many_commits_take_few_entries_and_an_append_takes_what_waits_along() {
    let node = Node::with_log_as(config_with(1, &[("log.cursor_commit_interval_ms", 60_000)])).await;
    let before = node.applied().await;
    node.commits(to("first", 0)).await.expect("it goes at once");
    assert_eq!(node.applied().await, before + 1);

    // The others wait for a minute, or for an append.
    let waiting = async {
        let names: Vec<String> = (0..50).map(|n| n.to_string()).collect();
        join_all(names.iter().map(|name| node.commits(to(name, 0)))).await
    };
    let appending = async {
        node.waiting_commands(50).await;
        assert_eq!(node.applied().await, before + 1, "they wait");
        node.append(LOG, batch(&["a"])).await.expect("is appended")
    };
    let (committed, _) = tokio::join!(waiting, appending);
    assert!(committed.iter().all(Result::is_ok), "{committed:?}");
    assert_eq!(node.applied().await, before + 2, "one entry has them all");
    let described = node.described().await;
    assert_eq!(described.cursors, 51);
    assert!(described.cursor_bytes > 51 * 64 && described.cursor_entry_bytes > 0, "{described:?}");
}

#[tokio::test]
async fn metrics_tell_how_far_cursors_are_behind_for_so_many_of_them() {
    let settings = [("log.cursor_commit_interval_ms", 0), ("server.metrics_cursors", 2)];
    let node = Node::with_log_as(config_with(1, &settings)).await;
    node.append(LOG, batch(&["a", "b", "c"])).await.expect("is appended");
    // One of a log that has no replica here, and one more than is shown.
    for commit in [to("a", 1), v1::CursorCommit { of: 99, ..to("b", 1) }, to("c", 3), to("d", 0)] {
        node.commits(commit).await.expect("is committed");
    }
    let metrics = metrics(&node.environment).await;
    let lag = |cursor| metrics.get(&format!("quipu_cursor_lag_records{{log=\"{LOG}\",cursor=\"{cursor}\"}}")).copied();
    assert_eq!([lag("a"), lag("b"), lag("c"), lag("d")], [Some(2.0), None, Some(0.0), None], "{metrics:?}");
    assert_eq!(metrics["quipu_cursors_not_shown"], 1.0);
}

#[tokio::test]
async fn a_log_has_so_many_cursors_and_no_more() {
    let node = prompt().await;
    let most = 1_000;
    for n in 0..most / 16 + 1 {
        let commits = (n * 16..(most).min(n * 16 + 16)).map(|n| to(&n.to_string(), 0)).collect();
        node.append_as(carrying(batch(&["a"]), commits)).await.expect("lands");
    }
    let full = kind(&node.commits(to("one more", 0)).await.expect_err("is refused"));
    assert_eq!(full, refused("one more", Reason::TooMany(v1::TooManyCursors { limit: most })));
    let carried = node.append_as(carrying(batch(&["a"]), vec![to("one more", 0)])).await.expect_err("is refused");
    assert_eq!(kind(&carried), full);
    node.commits(to("7", 1)).await.expect("those that are there move on");
}

#[tokio::test]
async fn a_cursor_expires_that_nobody_commits() {
    let settings = [("log.cursor_commit_interval_ms", 0)];
    let (clock, environment) = MovedClock::environment();
    let node = Node::start_in(environment, config_with(1, &settings)).await;
    let config = v1::LogConfig { cursor_expiry_ms: Some(200), ..v1::LogConfig::default() };
    let node = node.having(config).await;
    node.commits(to("old", 0)).await.expect("is committed");
    clock.pass(Duration::from_millis(300));
    node.append(LOG, batch(&["a"])).await.expect("is appended");
    assert_eq!(node.cursor("old").await, None);
    // Altered, it is kept for ever.
    let change = v1::LogAlteration { cursor_expiry_ms: Some(0), ..v1::LogAlteration::default() };
    let request = v1::AlterLogRequest { name: LOG.to_owned(), change: Some(change), id: 0 };
    within(node.cluster().alter_log(request)).await.expect("is altered");
    node.commits(to("old", 0)).await.expect("is committed");
    clock.pass(Duration::from_millis(300));
    node.append(LOG, batch(&["a"])).await.expect("is appended");
    assert_eq!(node.position("old").await, Some(0));
}
