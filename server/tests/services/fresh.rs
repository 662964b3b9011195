//! How new what is read is: barriers, ages, and what a slow reader costs.

use quipu_protocol::v1::error::Kind;
use quipu_protocol::v1::read_request::{From, Start};
use quipu_protocol::v1::{self, Consistency};
use quipu_sdk::{Client, ClientConfig, ReaderConfig};
use tonic::{Code, Streaming};

use crate::batches::{batch, batch_of, values};
use crate::http::metrics;
use crate::node::{LOG, Node, kind, within};

fn local(from: u64) -> v1::ReadRequest {
    let consistency = Consistency::Local.into();
    v1::ReadRequest { log: LOG.to_owned(), from: Some(From::Offset(from)), consistency, ..v1::ReadRequest::default() }
}

async fn start(node: &Node, request: v1::ReadRequest) -> Result<Streaming<v1::ReadResponse>, tonic::Status> {
    within(node.records().read(request)).await.map(tonic::Response::into_inner)
}

async fn refused(node: &Node, request: v1::ReadRequest) -> tonic::Status {
    start(node, request).await.expect_err("it is refused")
}

#[tokio::test]
async fn a_read_waits_until_what_has_to_be_there_is_applied() {
    let node = Node::with_log().await;
    node.append(LOG, batch(&["a"])).await.expect("is appended");
    let waiting = start(&node, v1::ReadRequest { at_least: 3, wait_ms: 60_000, ..local(0) });
    let later = async {
        node.append(LOG, batch(&["b", "c"])).await.expect("is appended");
    };
    let (stream, ()) = tokio::join!(waiting, later);
    let answer = within(stream.expect("it is there").message()).await.expect("no error").expect("an answer");
    assert_eq!((values(&answer.batches).len(), answer.end), (3, 3));
}

#[tokio::test]
async fn what_does_not_get_there_in_time_is_told_with_where_the_copy_ends() {
    let node = Node::with_log().await;
    node.append(LOG, batch(&["a"])).await.expect("is appended");
    let status = refused(&node, v1::ReadRequest { at_least: 2, wait_ms: 1, ..local(0) }).await;
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert_eq!(kind(&status), Kind::NotYetApplied(v1::NotYetApplied { node: 1, at_least: 2, end: 1 }));
    let status = refused(&node, v1::ReadRequest { at_least: 2, wait_ms: 60_001, ..local(0) }).await;
    let too_long = v1::TooLarge { bound: "wait_ms".to_owned(), limit: 60_000, actual: 60_001 };
    assert_eq!(kind(&status), Kind::TooLarge(too_long));
}

#[tokio::test]
async fn a_local_answer_says_how_old_it_may_be_and_a_linearizable_one_has_no_age() {
    let node = Node::with_log().await;
    node.append(LOG, batch(&["a", "b"])).await.expect("is appended");
    let mut stream = start(&node, v1::ReadRequest { max_age_ms: Some(1_000), ..local(0) }).await.expect("it is fresh");
    let answer = within(stream.message()).await.expect("no error").expect("an answer");
    let freshness = answer.freshness.expect("a local answer has one");
    // The only replica of a log knows that nobody else leads it.
    assert!(freshness.leader_end == 2 && freshness.age_ms.is_some_and(|age| age <= 1_000), "{freshness:?}");
    let offsets = node.offsets_of(LOG, Consistency::Local).await.expect("the offsets");
    assert!(offsets.freshness.is_some_and(|freshness| freshness.leader_end == 2 && freshness.age_ms.is_some()));

    let settled = v1::ReadRequest { consistency: Consistency::Linearizable.into(), ..local(0) };
    let mut stream = start(&node, settled.clone()).await.expect("it is read");
    assert_eq!(within(stream.message()).await.expect("no error").expect("an answer").freshness, None);
    let status = refused(&node, v1::ReadRequest { max_age_ms: Some(1_000), ..settled }).await;
    assert!(matches!(kind(&status), Kind::InvalidArgument(argument) if argument.field == "max_age_ms"));
}

#[tokio::test]
async fn a_thousand_followers_of_one_log_all_get_what_is_appended() {
    const FOLLOWERS: usize = 1_000;
    let node = Node::with_log().await;
    // So many streams as one connection carries.
    let mut records = node.records();
    let mut followers = Vec::new();
    for _ in 0..FOLLOWERS {
        let request = v1::ReadRequest { follow: true, ..local(0) };
        let mut stream = within(records.read(request)).await.expect("the read is taken").into_inner();
        within(stream.message()).await.expect("no error").expect("an answer");
        followers.push(stream);
    }
    node.append(LOG, batch(&["a", "b"])).await.expect("is appended");
    for stream in &mut followers {
        let answer = within(stream.message()).await.expect("no error").expect("an answer");
        assert_eq!(values(&answer.batches), [(0, "a".to_owned()), (1, "b".to_owned())]);
    }
}

/// Batches of this size, so many that they are far more than what a connection
/// lets in.
const BATCH: usize = 256 << 10;
const BATCHES: u64 = 64;
/// What the client's side of a stream takes before somebody reads, bytes.
const WINDOW: usize = 4 << 20;
/// An answer of one batch that is being sent, one that is made, and a part of one.
const ON_THE_WAY: u64 = 3;

#[tokio::test]
async fn a_reader_that_does_not_read_is_sent_no_more_than_its_connection_lets_in() {
    let node = Node::with_log().await;
    let from_start = From::Start(Start {});
    let follow = v1::ReadRequest { follow: true, max_bytes: 1, from: Some(from_start), ..local(0) };
    let mut slow = start(&node, follow.clone()).await.expect("it is taken");
    for _ in 0..BATCHES {
        node.append(LOG, batch_of(BATCH)).await.expect("is appended");
    }
    // Another one reads all of it meanwhile, on a connection of its own.
    let mut fast = start(&node, v1::ReadRequest { max_records: BATCHES, ..follow }).await.expect("it is taken");
    let mut read = 0;
    while let Some(answer) = within(fast.message()).await.expect("no error") {
        read += answer.batches.len() as u64;
    }
    assert_eq!(read, BATCHES);
    let status = within(node.cluster().status(v1::StatusRequest {})).await.expect("the status").into_inner();
    let sent = status.nodes[0].services.as_ref().expect("counters").read_batches - BATCHES;
    assert!(
        sent <= (WINDOW / BATCH) as u64 + ON_THE_WAY,
        "{sent} of {BATCHES} batches were made for a reader that takes none"
    );
    // It lost nothing by that.
    let mut taken = 0;
    while taken < BATCHES {
        let answer = within(slow.message()).await.expect("no error").expect("an answer");
        taken += answer.batches.len() as u64;
    }
}

#[tokio::test]
async fn a_reader_that_is_not_read_from_holds_up_no_other_of_its_client_though_they_share_a_connection() {
    let node = Node::with_log().await;
    for _ in 0..BATCHES {
        node.append(LOG, batch_of(BATCH)).await.expect("is appended");
    }
    let client = Client::new(ClientConfig::new(["node:1"]), node.environment.clone()).expect("a good configuration");
    let reader =
        || client.reader(&LOG.parse().expect("a name"), ReaderConfig::default()).expect("a good configuration");
    let open = async || metrics(&node.environment).await["quipu_resource_used{resource=\"connections\"}"];
    let before = open().await;
    // What these let in is more than what a connection lets in by itself.
    let mut idle: Vec<_> = std::iter::repeat_with(reader).take(8).collect();
    for reader in &mut idle {
        within(reader.next()).await.expect("readable").expect("a record");
    }
    let (mut busy, mut read) = (reader(), 0);
    while within(busy.next()).await.expect("readable").is_some() {
        read += 1;
    }
    assert!(read >= BATCHES, "{read} records of {BATCHES} batches");
    assert_eq!(open().await - before, 1.0, "one for all readers");
}
