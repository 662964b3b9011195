//! The peers' service as a relay has it: each call is made to the node.

use std::future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use quipu_protocol::environment::Environment;
use quipu_protocol::peer::peers_client::PeersClient;
use quipu_protocol::peer::peers_server::Peers;
use quipu_protocol::peer::{
    FetchReply, FetchRequest, Frame, HelloReply, HelloRequest, JoinReply, JoinRequest, ProposeReply, ProposeRequest,
    StatusReply, StatusRequest,
};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};

use super::meddler::{Fate, Meddler};
use super::stream::Relayed;

/// How many messages wait in a relay, in either direction of a stream.
pub(super) const QUEUE: usize = 4;

/// Everything that a relay works with.
#[derive(Clone)]
pub(super) struct RelayService {
    pub(super) node: PeersClient<Channel>,
    pub(super) environment: Environment,
    pub(super) meddler: Arc<Meddler>,
    /// Either side of the connection is gone.
    pub(super) ended: CancellationToken,
}

/// Which of the two streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    Control,
    Data,
}

/// Whether the same call may be made again although it was answered. Whoever
/// proposes a command repeats it only when it knows no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Repeatable {
    Yes,
    No,
}

type Frames = Pin<Box<dyn Stream<Item = Result<Frame, Status>> + Send>>;

impl RelayService {
    /// Opens a stream to the node.
    pub(super) async fn open(&self, lane: Lane) -> Result<(mpsc::Sender<Frame>, Streaming<Frame>), Status> {
        let (requests, frames) = mpsc::channel(QUEUE);
        let (mut node, frames) = (self.node.clone(), ReceiverStream::new(frames));
        let replies = match lane {
            Lane::Control => node.control(frames).await?,
            Lane::Data => node.data(frames).await?,
        };
        Ok((requests, replies.into_inner()))
    }

    async fn stream(&self, lane: Lane, inbound: Streaming<Frame>) -> Result<Response<Frames>, Status> {
        let (requests, replies) = self.open(lane).await?;
        let (outbound, frames) = mpsc::channel(QUEUE);
        let relayed = Relayed::new(self.clone(), lane, requests, outbound.clone());
        let carrying = relayed.carry(inbound, replies, outbound);
        self.environment.tasks.spawn("relayed-stream", Box::pin(carrying)).detach();
        Ok(Response::new(Box::pin(ReceiverStream::new(frames))))
    }

    /// Makes a call that stands alone, or what becomes of it.
    async fn call<Q, R, F>(
        &self,
        request: Q,
        repeatable: Repeatable,
        call: fn(PeersClient<Channel>, Q) -> F,
    ) -> Result<Response<R>, Status>
    where
        Q: Clone + Send + 'static,
        R: Send + 'static,
        F: Future<Output = Result<Response<R>, Status>> + Send + 'static,
    {
        let again = call(self.node.clone(), request.clone());
        let once = call(self.node.clone(), request);
        match self.meddler.request() {
            Fate::Twice if repeatable == Repeatable::Yes => {
                drop(self.later(Duration::ZERO, again));
                once.await
            }
            Fate::Again(wait) if repeatable == Repeatable::Yes => {
                drop(self.later(wait, again));
                once.await
            }
            Fate::Arrives | Fate::Twice | Fate::Again(_) => once.await,
            Fate::Late(wait) => match self.later(wait, once).await {
                Ok(answer) => answer,
                Err(_) => self.silence().await,
            },
            Fate::Lost => self.silence().await,
            Fate::Unanswered => {
                drop(once.await);
                self.silence().await
            }
        }
    }

    /// Makes a call so much later, whether or not anybody still waits for it.
    fn later<R, F>(&self, wait: Duration, call: F) -> oneshot::Receiver<Result<Response<R>, Status>>
    where
        R: Send + 'static,
        F: Future<Output = Result<Response<R>, Status>> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let sleep = self.environment.clock.sleep(wait);
        let late = async move {
            sleep.await;
            // Nobody may be left who hears of it.
            let _ = answer.send(call.await);
        };
        self.environment.tasks.spawn("late-call", Box::pin(late)).detach();
        answered
    }

    /// No answer, until the connection ends.
    async fn silence<R>(&self) -> Result<R, Status> {
        self.ended.cancelled().await;
        future::ready(Err(Status::unavailable("the connection has ended"))).await
    }
}

#[tonic::async_trait]
impl Peers for RelayService {
    type ControlStream = Frames;
    type DataStream = Frames;

    async fn hello(&self, request: Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
        let call = |mut node: PeersClient<_>, request| async move { node.hello(request).await };
        self.call(request.into_inner(), Repeatable::Yes, call).await
    }

    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinReply>, Status> {
        let call = |mut node: PeersClient<_>, request| async move { node.join(request).await };
        self.call(request.into_inner(), Repeatable::Yes, call).await
    }

    async fn propose(&self, request: Request<ProposeRequest>) -> Result<Response<ProposeReply>, Status> {
        let call = |mut node: PeersClient<_>, request| async move { node.propose(request).await };
        self.call(request.into_inner(), Repeatable::No, call).await
    }

    async fn status(&self, request: Request<StatusRequest>) -> Result<Response<StatusReply>, Status> {
        let call = |mut node: PeersClient<_>, request| async move { node.status(request).await };
        self.call(request.into_inner(), Repeatable::Yes, call).await
    }

    async fn fetch(&self, request: Request<FetchRequest>) -> Result<Response<FetchReply>, Status> {
        let call = |mut node: PeersClient<_>, request| async move { node.fetch(request).await };
        self.call(request.into_inner(), Repeatable::Yes, call).await
    }

    async fn control(&self, request: Request<Streaming<Frame>>) -> Result<Response<Frames>, Status> {
        self.stream(Lane::Control, request.into_inner()).await
    }

    async fn data(&self, request: Request<Streaming<Frame>>) -> Result<Response<Frames>, Status> {
        self.stream(Lane::Data, request.into_inner()).await
    }
}
