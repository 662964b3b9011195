//! Listening and connecting.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncWrite};

use super::BoxFuture;

/// A byte stream between two parties.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Connection for T {}

/// Opens connections and listens for them. Addresses are `host:port`.
pub trait Network: Send + Sync + 'static {
    /// Connects to `address`. Has no deadline of its own: the caller sets one.
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Connection>>>;

    /// Listens on `address`; port 0 takes a free one.
    fn listen<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>>;
}

/// Accepts connections.
pub trait Listener: Send + 'static {
    /// Where it listens.
    fn local_address(&self) -> io::Result<SocketAddr>;

    /// The next connection and who opened it.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn Connection>, SocketAddr)>>;
}
