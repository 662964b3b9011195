//! Stands between a node and its peers, and carries every message of theirs by
//! itself: so that one can be lost, repeated or late, and the others not.
//!
//! ```text
//!   peer ══ turmoil ══▶ relay ── in memory ──▶ the node's server
//!                        │ ▲
//!        message by ─────┘ │ replies
//!        message: once, twice, later, never
//! ```
//!
//! It is on the host of the node that is called, as what its machine has
//! received and the process has not read yet: that reaches the node even when
//! the peer is gone, and is lost with the node. A connection has one relay and
//! ends with it; the relay ends when either side of it does.
//!
//! What is late goes by a stream of its own, as what was sent before a
//! connection broke arrives beside what is sent on the next one.

mod late;
mod meddler;
mod service;
mod stream;
#[cfg(test)]
mod tests;

use std::future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use quipu_protocol::environment::{BoxFuture, Connection, Environment, Listener, Network};
use quipu_protocol::peer::peers_client::PeersClient;
use quipu_protocol::peer::peers_server::PeersServer;
use quipu_protocol::transport::{self, ChannelOptions};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio_util::sync::{CancellationToken, DropGuard};

pub(crate) use meddler::{Meddler, Rule};
use service::RelayService;

/// What is on its way between a relay and its node, in bytes.
const BUFFER_BYTES: usize = 64 << 10;
/// As a node's own server has it.
const WINDOW_BYTES: u32 = 4 << 20;
/// See [`WINDOW_BYTES`].
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// See [`WINDOW_BYTES`].
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// What a relay calls its node: it has one connection, which is there already.
const NODE: &str = "node:1";

/// Puts a relay into connections of a node's peers.
#[derive(Clone)]
pub(crate) struct Relays {
    /// The host's, without relays.
    pub(crate) environment: Environment,
    pub(crate) meddler: Arc<Meddler>,
}

impl Relays {
    /// What the node is given in place of this connection of a peer.
    pub(crate) fn put_between(&self, peer: Box<dyn Connection>) -> Box<dyn Connection> {
        let (ours, theirs) = tokio::io::duplex(BUFFER_BYTES);
        let ended = CancellationToken::new();
        let environment =
            Environment { network: Arc::new(OneConnection(Mutex::new(Some(ours)))), ..self.environment.clone() };
        let channel = transport::channel(&environment, NODE, ChannelOptions::default()).expect("an address");
        let service = RelayService {
            node: PeersClient::new(channel),
            environment: self.environment.clone(),
            meddler: Arc::clone(&self.meddler),
            ended: ended.clone(),
        };
        let peer = Guarded { connection: peer, _ended: ended.clone().drop_guard() };
        let serving = tonic::transport::Server::builder()
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .http2_keepalive_interval(Some(KEEP_ALIVE))
            .http2_keepalive_timeout(Some(KEEP_ALIVE))
            .add_service(PeersServer::new(service))
            .serve_with_incoming_shutdown(
                transport::incoming(Box::new(OneArrival(Some(Box::new(peer))))),
                ended.clone().cancelled_owned(),
            );
        let serving = async move {
            if let Err(error) = serving.await {
                tracing::debug!(%error, "a relay ended");
            }
        };
        self.environment.tasks.spawn("relay", Box::pin(serving)).detach();
        Box::new(Guarded { connection: theirs, _ended: ended.drop_guard() })
    }
}

/// Connects to what is there already, once.
struct OneConnection(Mutex<Option<DuplexStream>>);

impl Network for OneConnection {
    fn connect<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Connection>>> {
        let connection = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let connection = connection.ok_or_else(|| io::Error::from(io::ErrorKind::ConnectionRefused));
        Box::pin(async move { Ok(Box::new(connection?) as Box<dyn Connection>) })
    }

    fn listen<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(future::ready(Err(io::ErrorKind::Unsupported.into())))
    }
}

/// One connection arrives, and none after it.
struct OneArrival(Option<Box<dyn Connection>>);

impl Listener for OneArrival {
    fn local_address(&self) -> io::Result<SocketAddr> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn Connection>, SocketAddr)>> {
        Box::pin(async move {
            match self.0.take() {
                Some(connection) => Ok((connection, SocketAddr::from(([0, 0, 0, 0], 0)))),
                None => future::pending().await,
            }
        })
    }
}

/// A connection whose end is told.
struct Guarded<C> {
    connection: C,
    _ended: DropGuard,
}

impl<C: AsyncRead + Unpin> AsyncRead for Guarded<C> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_read(cx, buf)
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for Guarded<C> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(cx)
    }
}
