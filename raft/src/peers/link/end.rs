//! The task behind a link: opens the stream when there is a call, and pauses
//! after it broke.

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::{self, Either};
use quipu_protocol::NodeId;
use quipu_protocol::environment::Clock;
use quipu_protocol::peer::peers_client::PeersClient;
use quipu_protocol::peer::{Frame, frame};
use quipu_protocol::transport::{self, ChannelOptions};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::stream::Stream;
use super::{Call, CallError, Lane, Stamp};
use crate::clocks::NodeClock;
use crate::peers::Peers;
use crate::peers::bounds::{FIRST_BACKOFF, LONGEST_BACKOFF, OPEN_DEADLINE, STREAM_QUEUE};
use crate::peers::readings::Seen;

/// What the task works with.
pub(super) struct End {
    pub(super) peers: Weak<Peers>,
    pub(super) node: NodeId,
    pub(super) lane: Lane,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) node_clock: NodeClock,
    pub(super) deadline: Duration,
    pub(super) calls: mpsc::Receiver<Call>,
    pub(super) progress: Arc<Stamp>,
}

impl End {
    pub(super) async fn run(mut self) {
        let mut failures: u32 = 0;
        while let Some(first) = self.calls.recv().await {
            let (why, served) = match self.open().await {
                Ok((outbound, inbound)) => {
                    let stream = Stream::new(&mut self, outbound, inbound);
                    stream.serve(first).await
                }
                Err(why) => {
                    let _ = first.reply.send(Err(CallError::Unreachable(why.clone())));
                    (why, false)
                }
            };
            failures = if served { 0 } else { failures + 1 };
            tracing::debug!(node = self.node.get(), lane = ?self.lane, %why, failures, "link to peer down");
            if self.peers.strong_count() == 0 || !self.pause(failures, &why).await {
                return;
            }
        }
    }

    /// Opens the stream and exchanges introductions.
    async fn open(&self) -> Result<(mpsc::Sender<Frame>, Streaming<Frame>), String> {
        let peers = self.peers.upgrade().ok_or("this node is shutting down")?;
        let address = peers.address(self.node).ok_or_else(|| format!("node {}'s address is not known", self.node))?;
        let channel = transport::channel(&peers.environment, &address, ChannelOptions::default())
            .map_err(|error| error.to_string())?;
        let mut client = PeersClient::new(channel);
        let (outbound, frames) = mpsc::channel(STREAM_QUEUE);
        let introduction = Frame { kind: Some(frame::Kind::Introduction(peers.me())) };
        outbound.try_send(introduction).map_err(|error| error.to_string())?;
        let opening = async {
            let frames = ReceiverStream::new(frames);
            let reply = match self.lane {
                Lane::Control => client.control(frames).await,
                Lane::Data => client.data(frames).await,
            };
            let mut inbound = reply.map_err(|status| format!("{address}: {}", status.message()))?.into_inner();
            let first = inbound.message().await.map_err(|status| format!("{address}: {}", status.message()))?;
            match first.and_then(|frame| frame.kind) {
                Some(frame::Kind::Introduction(from)) if NodeId::new(from.node) == self.node => {
                    peers.admit(&from).map_err(|refusal| refusal.message)?;
                    Ok(inbound)
                }
                Some(frame::Kind::Introduction(from)) => {
                    Err(format!("{address} is node {}, not node {}", from.node, self.node))
                }
                Some(frame::Kind::Refusal(refusal)) => Err(format!("{address} refuses: {}", refusal.message)),
                _ => Err(format!("{address} did not introduce itself")),
            }
        };
        let opened: Result<Result<_, String>, _> = self.clock.timeout(OPEN_DEADLINE, opening).await;
        let inbound = opened.map_err(|_| format!("{address} did not answer within {OPEN_DEADLINE:?}"))??;
        Ok((outbound, inbound))
    }

    pub(super) fn tell_clocks(&self, seen: Seen) {
        if let Some(peers) = self.peers.upgrade() {
            peers.clocks_seen(self.node, seen);
        }
    }

    /// Waits before the stream is opened again; calls fail meanwhile. False
    /// when the link is given up.
    async fn pause(&mut self, failures: u32, why: &str) -> bool {
        let longest = LONGEST_BACKOFF.min(FIRST_BACKOFF * 2u32.saturating_pow(failures.min(8)));
        let Some(peers) = self.peers.upgrade() else { return false };
        let wait = peers.environment.random.jittered(longest);
        drop(peers);
        let mut wait = self.clock.sleep(wait);
        loop {
            let call = std::pin::pin!(self.calls.recv());
            match future::select(&mut wait, call).await {
                Either::Left(_) => return true,
                Either::Right((Some(call), _)) => {
                    let _ = call.reply.send(Err(CallError::Unreachable(why.to_owned())));
                }
                Either::Right((None, _)) => return false,
            }
        }
    }
}
