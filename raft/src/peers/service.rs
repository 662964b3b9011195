//! What this node answers its peers, as a gRPC service.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::Stream;
use quipu_protocol::peer::peers_server::Peers as PeersRpc;
use quipu_protocol::peer::{
    FetchReply, FetchRequest, Fetched, Frame, HelloReply, HelloRequest, JoinReply, JoinRequest, ProposeReply,
    ProposeRequest, StatusReply, StatusRequest, fetch_reply, join_reply, propose_reply, refusal as refused,
    status_reply,
};
use quipu_protocol::{Index, LogId, NodeId, peer};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::bounds::STREAM_QUEUE;
use super::link::Lane;
use super::{Peers, refusal, session};
use crate::node::Inner;

/// The service that a node's peers call.
#[derive(Clone)]
pub struct PeersService {
    node: Arc<Inner>,
}

type Frames = Pin<Box<dyn Stream<Item = Result<Frame, Status>> + Send>>;

impl PeersService {
    pub(crate) fn new(node: Arc<Inner>) -> Self {
        Self { node }
    }

    fn peers(&self) -> &Arc<Peers> {
        self.node.peers()
    }

    fn stream(&self, lane: Lane, inbound: Streaming<Frame>) -> Response<Frames> {
        let (outbound, frames) = mpsc::channel(STREAM_QUEUE);
        let session = session::serve(Arc::clone(self.peers()), lane, inbound, outbound);
        // Ends with the stream: the peer goes or opens another, or this node's
        // server goes.
        self.peers().environment().tasks.spawn("peer-session", Box::pin(session)).detach();
        Response::new(Box::pin(ReceiverStream::new(frames)))
    }

    /// Whether a call that stands alone is dealt with.
    fn admit(&self, from: Option<&peer::Introduction>, to: u64) -> Result<(), peer::Refusal> {
        let malformed = |message: String| refusal(refused::Reason::Malformed, message);
        let from = from.ok_or_else(|| malformed("the call has no introduction".to_owned()))?;
        if NodeId::new(to) != self.peers().node() {
            return Err(malformed(format!("this is node {}, not node {to}", self.peers().node())));
        }
        self.peers().admit(from)
    }
}

#[tonic::async_trait]
impl PeersRpc for PeersService {
    type ControlStream = Frames;
    type DataStream = Frames;

    async fn hello(&self, _request: Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
        Ok(Response::new(HelloReply { from: Some(self.peers().me()) }))
    }

    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinReply>, Status> {
        let outcome = match request.into_inner().from {
            Some(from) => self.node.take_in(from).await,
            None => Err(refusal(refused::Reason::Malformed, "the call has no introduction")),
        };
        let outcome = match outcome {
            Ok(joined) => join_reply::Outcome::Joined(joined),
            Err(refusal) => join_reply::Outcome::Refusal(refusal),
        };
        Ok(Response::new(JoinReply { outcome: Some(outcome) }))
    }

    async fn propose(&self, request: Request<ProposeRequest>) -> Result<Response<ProposeReply>, Status> {
        let request = request.into_inner();
        let outcome = match self.admit(request.from.as_ref(), request.to) {
            Ok(()) => self.node.propose_for_peer(request.command).await,
            Err(refusal) => propose_reply::Outcome::Refusal(refusal),
        };
        Ok(Response::new(ProposeReply { outcome: Some(outcome) }))
    }

    async fn status(&self, request: Request<StatusRequest>) -> Result<Response<StatusReply>, Status> {
        let request = request.into_inner();
        let outcome = match self.admit(request.from.as_ref(), request.to) {
            Ok(()) => status_reply::Outcome::Report(self.node.report(&request.groups)),
            Err(refusal) => status_reply::Outcome::Refusal(refusal),
        };
        Ok(Response::new(StatusReply { outcome: Some(outcome) }))
    }

    async fn fetch(&self, request: Request<FetchRequest>) -> Result<Response<FetchReply>, Status> {
        let request = request.into_inner();
        let range = Index::new(request.first)..Index::new(request.end);
        let outcome = match self.admit(request.from.as_ref(), request.to) {
            Ok(()) => match self.node.entries_for_peer(LogId::new(request.group), range).await {
                Ok(entries) => fetch_reply::Outcome::Fetched(Fetched { entries }),
                Err(error) => fetch_reply::Outcome::Refusal(refusal(refused::Reason::NotNow, error)),
            },
            Err(refusal) => fetch_reply::Outcome::Refusal(refusal),
        };
        Ok(Response::new(FetchReply { outcome: Some(outcome) }))
    }

    async fn control(&self, request: Request<Streaming<Frame>>) -> Result<Response<Frames>, Status> {
        Ok(self.stream(Lane::Control, request.into_inner()))
    }

    async fn data(&self, request: Request<Streaming<Frame>>) -> Result<Response<Frames>, Status> {
        Ok(self.stream(Lane::Data, request.into_inner()))
    }
}
