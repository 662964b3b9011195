//! gRPC over an environment's network: the one place where tonic meets it.
//!
//! Clients get a [`channel`], servers an [`incoming`] stream of connections;
//! neither ever opens a socket by itself.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::Stream;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::environment::{Connection, Environment, Listener};

/// How a channel behaves.
#[derive(Clone, Copy, Debug)]
pub struct ChannelOptions {
    /// Opening a connection may take this long.
    pub connect_timeout: Duration,
    /// HTTP/2 flow-control window of the connection and of each stream, bytes.
    pub window_bytes: u32,
    /// An idle connection is probed this often, and dropped when a probe stays
    /// unanswered as long again.
    pub keep_alive: Duration,
}

impl Default for ChannelOptions {
    fn default() -> Self {
        Self { connect_timeout: Duration::from_secs(2), window_bytes: 4 << 20, keep_alive: Duration::from_secs(10) }
    }
}

/// A gRPC channel to `address` (`host:port`) that connects when first used and
/// again after a failure. An error says that `address` is no address.
pub fn channel(environment: &Environment, address: &str, options: ChannelOptions) -> Result<Channel, AddressError> {
    let bad = || AddressError { address: address.to_owned() };
    let uri: Uri = format!("http://{address}").parse().map_err(|_| bad())?;
    if uri.port_u16().is_none() || uri.host().is_none_or(str::is_empty) || !matches!(uri.path(), "" | "/") {
        return Err(bad());
    }
    let endpoint = Endpoint::from(uri)
        .connect_timeout(options.connect_timeout)
        .initial_stream_window_size(options.window_bytes)
        .initial_connection_window_size(options.window_bytes)
        .http2_keep_alive_interval(options.keep_alive)
        .keep_alive_timeout(options.keep_alive)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true);
    let network = Arc::clone(&environment.network);
    let address = address.to_owned();
    let connector = tower::service_fn(move |_: Uri| {
        let (network, address) = (Arc::clone(&network), address.clone());
        async move { network.connect(&address).await.map(TokioIo::new) }
    });
    Ok(endpoint.connect_with_connector_lazy(connector))
}

/// The text is not of the form `host:port`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{address:?} is no address: host:port is expected, such as 127.0.0.1:7001")]
pub struct AddressError {
    /// What was given.
    pub address: String,
}

/// The connections that arrive at `listener`, for tonic's
/// `serve_with_incoming`. A failed accept (too many open files, say) is passed
/// on; tonic logs it and goes on.
pub fn incoming(listener: Box<dyn Listener>) -> impl Stream<Item = io::Result<Incoming>> + Send + 'static {
    futures_util::stream::unfold(listener, |mut listener| async move {
        let accepted = listener.accept().await.map(|(connection, _)| Incoming { connection });
        Some((accepted, listener))
    })
}

/// A connection as tonic's server wants it.
pub struct Incoming {
    connection: Box<dyn Connection>,
}

impl Connected for Incoming {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Incoming {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Incoming {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.connection.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(cx)
    }
}
