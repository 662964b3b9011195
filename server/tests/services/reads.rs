//! The Read stream and the offsets.

use quipu_protocol::v1::read_request::{End, From, Start};
use quipu_protocol::v1::{self, Consistency};
use tonic::Streaming;

use crate::batches::{batch, values};
use crate::node::{LOG, Node, within};

fn read(from: From) -> v1::ReadRequest {
    v1::ReadRequest { log: LOG.to_owned(), from: Some(from), ..v1::ReadRequest::default() }
}

async fn start(node: &Node, request: v1::ReadRequest) -> Streaming<v1::ReadResponse> {
    within(node.records().read(request)).await.expect("the read is taken").into_inner()
}

/// Everything that a read yields until it ends.
async fn all(node: &Node, request: v1::ReadRequest) -> Vec<(u64, String)> {
    let mut stream = start(node, request).await;
    let mut found = Vec::new();
    while let Some(answer) = within(stream.message()).await.expect("no error") {
        found.extend(values(&answer.batches));
    }
    found
}

async fn node_with(batches: &[&[&str]]) -> Node {
    let node = Node::with_log().await;
    for values in batches {
        node.append(LOG, batch(values)).await.expect("is appended");
    }
    node
}

fn numbered(values: &[(u64, &str)]) -> Vec<(u64, String)> {
    values.iter().map(|&(offset, value)| (offset, value.to_owned())).collect()
}

#[tokio::test]
async fn a_read_yields_what_was_appended_and_ends() {
    let node = node_with(&[&["a", "b"], &["c"], &["d", "e"]]).await;
    let everything = numbered(&[(0, "a"), (1, "b"), (2, "c"), (3, "d"), (4, "e")]);
    assert_eq!(all(&node, read(From::Start(Start {}))).await, everything);
    assert_eq!(all(&node, read(From::Offset(2))).await, everything[2..]);
    assert_eq!(all(&node, read(From::Offset(5))).await, []);
    assert_eq!(all(&node, read(From::End(End {}))).await, []);
    let local = v1::ReadRequest { consistency: Consistency::Local.into(), ..read(From::Start(Start {})) };
    assert_eq!(all(&node, local).await, everything);
}

#[tokio::test]
async fn a_batch_is_never_split_and_the_count_bounds_what_is_sent() {
    let node = node_with(&[&["a", "b"], &["c"], &["d", "e"]]).await;
    let bounded = |from, max_records| v1::ReadRequest { max_records, ..read(From::Offset(from)) };
    // The reader trims: the first batch begins before, the last ends after.
    assert_eq!(all(&node, bounded(1, 3)).await, numbered(&[(0, "a"), (1, "b"), (2, "c"), (3, "d"), (4, "e")]));
    assert_eq!(all(&node, bounded(0, 2)).await, numbered(&[(0, "a"), (1, "b")]));
    assert_eq!(all(&node, bounded(0, u64::MAX)).await.len(), 5);
}

#[tokio::test]
async fn the_first_answer_tells_where_a_reader_is() {
    let node = node_with(&[&["a", "b"]]).await;
    let mut stream = start(&node, v1::ReadRequest { follow: true, ..read(From::End(End {})) }).await;
    let first = within(stream.message()).await.expect("no error").expect("an answer");
    assert_eq!((first.batches.len(), first.start, first.end, first.next), (0, 0, 2, 2));
}

#[tokio::test]
async fn a_follower_gets_what_is_appended_later_and_stops_at_its_count() {
    let node = node_with(&[&["a"]]).await;
    let mut stream = start(&node, v1::ReadRequest { follow: true, max_records: 3, ..read(From::Offset(0)) }).await;
    let mut found = Vec::new();
    for later in ["b", "c"] {
        let answer = within(stream.message()).await.expect("no error").expect("an answer");
        found.extend(values(&answer.batches));
        node.append(LOG, batch(&[later])).await.expect("is appended");
    }
    while let Some(answer) = within(stream.message()).await.expect("no error") {
        found.extend(values(&answer.batches));
    }
    assert_eq!(found, numbered(&[(0, "a"), (1, "b"), (2, "c")]));
}

#[tokio::test]
async fn an_answer_is_bounded_and_holds_at_least_one_batch() {
    let node = node_with(&[&["a"], &["b"], &["c"]]).await;
    let mut stream = start(&node, v1::ReadRequest { max_bytes: 1, ..read(From::Offset(0)) }).await;
    let mut sizes = Vec::new();
    while let Some(answer) = within(stream.message()).await.expect("no error") {
        sizes.push(answer.batches.len());
    }
    assert_eq!(sizes, [1, 1, 1]);
}

#[tokio::test]
async fn offsets_are_settled_or_local() {
    let node = node_with(&[&["a", "b"]]).await;
    for consistency in [Consistency::Unspecified, Consistency::Linearizable, Consistency::Local] {
        let offsets = node.offsets_of(LOG, consistency).await.expect("the offsets");
        assert_eq!((offsets.start, offsets.end), (0, 2), "{consistency:?}");
    }
}
