//! The pipelined Append stream.

use std::collections::BTreeMap;

use bytes::Bytes;
use quipu_protocol::v1;
use quipu_protocol::v1::append_response::Outcome;
use quipu_protocol::v1::error::Kind;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::batches::batch;
use crate::node::{LOG, Node, within};

/// An open Append stream.
pub(crate) struct Stream {
    requests: mpsc::Sender<v1::AppendRequest>,
    answers: Streaming<v1::AppendResponse>,
}

impl Stream {
    pub(crate) async fn open(node: &Node) -> Self {
        let (requests, receiver) = mpsc::channel(1024);
        let answers =
            within(node.records().append(ReceiverStream::new(receiver))).await.expect("a stream").into_inner();
        Self { requests, answers }
    }

    async fn send(&self, request: u64, log: &str, batch: Bytes) {
        self.ask(v1::AppendRequest { request, log: log.to_owned(), batch, ..v1::AppendRequest::default() }).await;
    }

    pub(crate) async fn ask(&self, request: v1::AppendRequest) {
        within(self.requests.send(request)).await.expect("the stream is open");
    }

    pub(crate) async fn answer(&mut self) -> (u64, Outcome) {
        let answer = within(self.answers.message()).await.expect("no error").expect("an answer");
        (answer.request, answer.outcome.expect("an outcome"))
    }
}

#[tokio::test]
async fn appends_of_a_log_get_their_offsets_in_the_order_sent() {
    let node = Node::with_log().await;
    let mut stream = Stream::open(&node).await;
    for request in 0..500 {
        stream.send(request, LOG, batch(&["a", "b"])).await;
    }
    let mut next = 0;
    for request in 0..500 {
        let (answered, Outcome::Appended(appended)) = stream.answer().await else { panic!("is refused") };
        assert_eq!((answered, appended.start, appended.end), (request, next, next + 2));
        assert_eq!(appended.durability(), v1::Durability::QuorumFsync);
        next = appended.end;
    }
    assert_eq!(node.end().await, 1000);
}

#[tokio::test]
async fn a_refused_append_leaves_the_stream_and_the_others_alone() {
    let node = Node::with_log().await;
    let mut stream = Stream::open(&node).await;
    stream.send(1, LOG, batch(&["a"])).await;
    stream.send(2, LOG, Bytes::from_static(b"no batch")).await;
    stream.send(3, "nowhere", batch(&["a"])).await;
    stream.send(4, "no name", batch(&["a"])).await;
    stream.send(5, LOG, batch(&["b"])).await;
    let mut outcomes = BTreeMap::new();
    for _ in 0..5 {
        let (request, outcome) = stream.answer().await;
        assert!(outcomes.insert(request, outcome).is_none(), "{request} was answered twice");
    }
    let kind = |request: u64| match &outcomes[&request] {
        Outcome::Error(error) => error.kind.clone(),
        Outcome::Appended(_) => None,
    };
    assert!(matches!(&outcomes[&1], Outcome::Appended(appended) if appended.start == 0));
    assert!(matches!(kind(2), Some(Kind::BadBatch(_))));
    assert!(matches!(kind(3), Some(Kind::UnknownLog(_))));
    assert!(matches!(kind(4), Some(Kind::InvalidArgument(_))));
    assert!(matches!(&outcomes[&5], Outcome::Appended(appended) if appended.start == 1));
}

#[tokio::test]
async fn one_stream_serves_several_logs() {
    let node = Node::with_log().await;
    node.create("invoices", v1::LogConfig::default()).await.expect("is created");
    let mut stream = Stream::open(&node).await;
    for request in 0..100 {
        stream.send(request, if request % 2 == 0 { LOG } else { "invoices" }, batch(&["a"])).await;
    }
    let mut starts = [Vec::new(), Vec::new()];
    for _ in 0..100 {
        let (request, Outcome::Appended(appended)) = stream.answer().await else { panic!("is refused") };
        starts[usize::from(request % 2 == 1)].push((request, appended.start));
    }
    for (parity, starts) in (0_u64..).zip(starts) {
        let expected: Vec<_> = (0..50).map(|position| (2 * position + parity, position)).collect();
        assert_eq!(starts, expected);
    }
}

#[tokio::test]
async fn a_client_that_closes_its_half_gets_every_answer() {
    let node = Node::with_log().await;
    let stream = Stream::open(&node).await;
    for request in 0..50 {
        stream.send(request, LOG, batch(&["a"])).await;
    }
    let Stream { requests, mut answers } = stream;
    drop(requests);
    let mut answered = 0;
    while let Some(answer) = within(answers.message()).await.expect("no error") {
        assert!(matches!(answer.outcome, Some(Outcome::Appended(_))), "{answer:?}");
        answered += 1;
    }
    assert_eq!(answered, 50);
}
