//! A relay between a peer and a node that writes down what reaches it.

use std::collections::BTreeMap;

use futures_util::Stream;
use quipu_protocol::peer::peers_server::Peers;
use quipu_protocol::peer::{
    FetchReply, FetchRequest, Frame, HelloReply, HelloRequest, Introduction, JoinReply, JoinRequest, Piece,
    ProposeReply, ProposeRequest, StatusReply, StatusRequest, frame,
};
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::*;
use crate::environment::Host;
use crate::faults::Kind;
use crate::recorder::Recorder;

/// Who called, and what: a message of a stream, or the name of a call.
type Reached = mpsc::UnboundedSender<Vec<u8>>;
type Frames = Pin<Box<dyn Stream<Item = Result<Frame, Status>> + Send>>;

/// Answers each whole request with the request itself.
#[derive(Clone)]
struct Echo(Reached);

impl Echo {
    fn stream(&self, mut inbound: Streaming<Frame>) -> Response<Frames> {
        let reached = self.0.clone();
        let (outbound, frames) = mpsc::channel(4);
        let answering = async move {
            let mut parts: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
            while let Ok(Some(frame)) = inbound.message().await {
                let reply = match frame.kind {
                    Some(frame::Kind::Piece(piece)) => {
                        parts.entry(piece.request).or_default().extend_from_slice(&piece.body);
                        if !piece.last {
                            continue;
                        }
                        let whole = parts.remove(&piece.request).unwrap_or_default();
                        let _ = reached.send(whole.clone());
                        frame::Kind::Piece(Piece { body: whole.into(), ..piece })
                    }
                    _ => frame::Kind::Introduction(Introduction::default()),
                };
                let _ = outbound.send(Ok(Frame { kind: Some(reply) })).await;
            }
        };
        environment().tasks.spawn("echo", Box::pin(answering)).detach();
        Response::new(Box::pin(ReceiverStream::new(frames)))
    }
}

#[tonic::async_trait]
impl Peers for Echo {
    type ControlStream = Frames;
    type DataStream = Frames;

    async fn hello(&self, _: Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
        let _ = self.0.send(b"hello".to_vec());
        Ok(Response::new(HelloReply::default()))
    }

    async fn join(&self, _: Request<JoinRequest>) -> Result<Response<JoinReply>, Status> {
        Ok(Response::new(JoinReply::default()))
    }

    async fn propose(&self, _: Request<ProposeRequest>) -> Result<Response<ProposeReply>, Status> {
        let _ = self.0.send(b"propose".to_vec());
        Ok(Response::new(ProposeReply::default()))
    }

    async fn fetch(&self, _: Request<FetchRequest>) -> Result<Response<FetchReply>, Status> {
        Err(Status::unimplemented("not asked"))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusReply>, Status> {
        Ok(Response::new(StatusReply::default()))
    }

    async fn control(&self, request: Request<Streaming<Frame>>) -> Result<Response<Frames>, Status> {
        Ok(self.stream(request.into_inner()))
    }

    async fn data(&self, request: Request<Streaming<Frame>>) -> Result<Response<Frames>, Status> {
        Ok(self.stream(request.into_inner()))
    }
}

fn environment() -> Environment {
    Host::new(1, 1).environment()
}

/// A peer's end of a connection, and what reaches the node at its other end.
struct Connected {
    peer: PeersClient<tonic::transport::Channel>,
    reached: mpsc::UnboundedReceiver<Vec<u8>>,
    meddler: Arc<Meddler>,
}

impl Connected {
    /// A relay under a fault of this kind, which strikes every message.
    fn under(kind: Option<Kind>) -> Self {
        let meddler = Meddler::new(1, 1, Recorder::default());
        if let Some(kind) = kind {
            meddler.begin(Rule { fault: 1, kind, one_in: 1 });
        }
        let relays = Relays { environment: environment(), meddler: Arc::clone(&meddler) };
        let (ours, theirs) = tokio::io::duplex(BUFFER_BYTES);
        let (reach, reached) = mpsc::unbounded_channel();
        let arrival = OneArrival(Some(relays.put_between(Box::new(theirs))));
        let node = tonic::transport::Server::builder()
            .add_service(PeersServer::new(Echo(reach)))
            .serve_with_incoming(transport::incoming(Box::new(arrival)));
        environment().tasks.spawn("node", Box::pin(async move { drop(node.await) })).detach();
        let network = Arc::new(OneConnection(Mutex::new(Some(ours))));
        let environment = Environment { network, ..environment() };
        let channel = transport::channel(&environment, NODE, ChannelOptions::default()).expect("an address");
        Self { peer: PeersClient::new(channel), reached, meddler }
    }

    /// Opens a stream and introduces itself on it.
    async fn open(&mut self) -> (mpsc::Sender<Frame>, Streaming<Frame>) {
        let (requests, frames) = mpsc::channel(16);
        let kind = Some(frame::Kind::Introduction(Introduction { node: 2, ..Introduction::default() }));
        requests.send(Frame { kind }).await.expect("room");
        let replies = self.peer.data(ReceiverStream::new(frames)).await.expect("a stream").into_inner();
        let mut replies = replies;
        let first = replies.next().await.expect("an answer").expect("a frame");
        assert!(matches!(first.kind, Some(frame::Kind::Introduction(_))), "{first:?}");
        (requests, replies)
    }

    async fn reached(&mut self) -> String {
        String::from_utf8(self.reached.recv().await.expect("the node is there")).expect("text")
    }

    /// Nothing more reaches the node, however long it is waited for.
    async fn nothing_more(&mut self) -> bool {
        let waited = environment().clock.timeout(Duration::from_secs(5), self.reached.recv()).await;
        waited.is_err()
    }
}

/// The request of this number in two pieces.
async fn ask(requests: &mpsc::Sender<Frame>, request: u64, text: &str) {
    let (one, other) = text.split_at(text.len() / 2);
    for (body, last) in [(one, false), (other, true)] {
        let piece = Piece { request, body: body.to_owned().into(), last, ..Piece::default() };
        requests.send(Frame { kind: Some(frame::Kind::Piece(piece)) }).await.expect("the stream is open");
    }
}

/// The number and the text of the next reply.
async fn reply(replies: &mut Streaming<Frame>) -> (u64, String) {
    let frame = replies.next().await.expect("a reply").expect("a frame");
    let Some(frame::Kind::Piece(piece)) = frame.kind else { panic!("no reply: {frame:?}") };
    (piece.request, String::from_utf8(piece.body.to_vec()).expect("text"))
}

#[tokio::test(start_paused = true)]
async fn what_meets_no_fault_arrives_once_and_is_answered() {
    let mut connected = Connected::under(None);
    let (requests, mut replies) = connected.open().await;
    ask(&requests, 1, "one").await;
    ask(&requests, 2, "two").await;
    assert_eq!(reply(&mut replies).await, (1, "one".to_owned()));
    assert_eq!(reply(&mut replies).await, (2, "two".to_owned()));
    assert_eq!((connected.reached().await, connected.reached().await), ("one".to_owned(), "two".to_owned()));
    assert!(connected.nothing_more().await);
}

#[tokio::test(start_paused = true)]
async fn a_duplicate_arrives_twice_and_is_answered_once() {
    let mut connected = Connected::under(Some(Kind::PeerDuplicate));
    let (requests, mut replies) = connected.open().await;
    for (request, text) in [(1, "one"), (2, "two"), (3, "three"), (4, "four")] {
        ask(&requests, request, text).await;
        assert_eq!(reply(&mut replies).await, (request, text.to_owned()));
    }
    let mut arrived = BTreeMap::new();
    for _ in 0..8 {
        *arrived.entry(connected.reached().await).or_insert(0) += 1;
    }
    assert!(arrived.values().all(|times| *times == 2) && arrived.len() == 4, "{arrived:?}");
    assert!(connected.nothing_more().await);
    let more = environment().clock.timeout(Duration::from_secs(5), replies.next()).await;
    assert!(more.is_err(), "answered twice: {more:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_late_is_overtaken_and_still_answered() {
    let mut connected = Connected::under(Some(Kind::PeerReorder));
    let (requests, mut replies) = connected.open().await;
    ask(&requests, 1, "late").await;
    // Whole before the fault is over.
    tokio::task::yield_now().await;
    environment().clock.sleep(Duration::ZERO).await;
    connected.meddler.end(1);
    ask(&requests, 2, "prompt").await;
    assert_eq!(reply(&mut replies).await, (2, "prompt".to_owned()));
    assert_eq!(reply(&mut replies).await, (1, "late".to_owned()));
    assert_eq!((connected.reached().await, connected.reached().await), ("prompt".to_owned(), "late".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn what_is_late_arrives_though_its_sender_is_gone() {
    let mut connected = Connected::under(Some(Kind::PeerReorder));
    let (requests, replies) = connected.open().await;
    ask(&requests, 1, "late").await;
    environment().clock.sleep(Duration::from_millis(1)).await;
    drop((requests, replies));
    let Connected { peer, mut reached, .. } = connected;
    drop(peer);
    assert_eq!(reached.recv().await, Some(b"late".to_vec()));
}

#[tokio::test(start_paused = true)]
async fn what_is_lost_takes_nothing_else_along() {
    let mut connected = Connected::under(Some(Kind::PeerDrop));
    let (requests, mut replies) = connected.open().await;
    ask(&requests, 1, "lost").await;
    environment().clock.sleep(Duration::from_millis(1)).await;
    connected.meddler.end(1);
    ask(&requests, 2, "kept").await;
    assert_eq!(reply(&mut replies).await, (2, "kept".to_owned()));
    assert_eq!(connected.reached().await, "kept");
    assert!(connected.nothing_more().await);
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_is_one_to_what_was_done() {
    let mut connected = Connected::under(Some(Kind::PeerReplyLost));
    let (requests, mut replies) = connected.open().await;
    ask(&requests, 1, "done").await;
    assert_eq!(connected.reached().await, "done");
    connected.meddler.end(1);
    ask(&requests, 2, "and answered").await;
    assert_eq!(reply(&mut replies).await, (2, "and answered".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn calls_are_repeated_where_their_callers_may_repeat_them() {
    let mut connected = Connected::under(Some(Kind::PeerDuplicate));
    connected.peer.hello(HelloRequest::default()).await.expect("an answer");
    assert_eq!((connected.reached().await, connected.reached().await), ("hello".to_owned(), "hello".to_owned()));
    connected.peer.propose(ProposeRequest::default()).await.expect("an answer");
    assert_eq!(connected.reached().await, "propose");
    assert!(connected.nothing_more().await, "a command that was answered is not proposed again");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_goes_takes_the_relay_along() {
    let relays = Relays { environment: environment(), meddler: Meddler::new(1, 1, Recorder::default()) };
    let (ours, theirs) = tokio::io::duplex(BUFFER_BYTES);
    let node = relays.put_between(Box::new(theirs));
    let environment = Environment { network: Arc::new(OneConnection(Mutex::new(Some(ours)))), ..environment() };
    let channel = transport::channel(&environment, NODE, ChannelOptions::default()).expect("an address");
    let mut peer = PeersClient::new(channel);
    drop(node);
    peer.hello(HelloRequest::default()).await.expect_err("nobody is there");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_left_of_a_relay_whose_peer_is_gone() {
    let mut connected = Connected::under(Some(Kind::PeerReorder));
    let (requests, replies) = connected.open().await;
    ask(&requests, 1, "late").await;
    connected.meddler.end(1);
    environment().clock.sleep(Duration::from_millis(1)).await;
    drop((requests, replies, connected.peer));
    environment().clock.sleep(Duration::from_secs(60)).await;
    let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    assert_eq!(tasks, 1, "the node's own, which waits for connections");
}
