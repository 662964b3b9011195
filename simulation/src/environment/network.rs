//! The simulated network: hosts by name, latencies drawn from the seed,
//! connections that can be reset.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use quipu_protocol::environment::{BoxFuture, Connection, Listener, Network};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use turmoil::net::{TcpListener, TcpStream};

use crate::cluster::node_of;
use crate::relay::Relays;

/// Resets a host's connections, all that are open at a time.
#[derive(Debug, Default)]
pub(crate) struct Resets {
    current: Mutex<CancellationToken>,
}

impl Resets {
    /// Every connection that is open now fails, whatever it does next.
    pub(crate) fn reset_all(&self) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *current).cancel();
    }

    fn wrap(&self, stream: TcpStream) -> Box<dyn Connection> {
        let token = self.current.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Box::new(Resettable { stream, reset: Box::pin(token.cancelled_owned()) })
    }
}

/// Listening and connecting as the host that does it.
pub(crate) struct SimulatedNetwork {
    resets: Arc<Resets>,
    relays: Option<Relays>,
}

impl SimulatedNetwork {
    pub(crate) fn new(resets: Arc<Resets>) -> Self {
        Self { resets, relays: None }
    }

    /// What nodes send to this host passes through `relays`.
    pub(crate) fn with_relays(self, relays: Option<Relays>) -> Self {
        Self { relays, ..self }
    }
}

impl Network for SimulatedNetwork {
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Connection>>> {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            Ok(self.resets.wrap(stream))
        })
    }

    fn listen<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            // A host has one address; the port is what there is to choose.
            let port = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
            let port = port.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "host:port is expected"))?;
            let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await?;
            let (resets, relays) = (Arc::clone(&self.resets), self.relays.clone());
            Ok(Box::new(SimulatedListener { listener, resets, relays }) as Box<dyn Listener>)
        })
    }
}

struct SimulatedListener {
    listener: TcpListener,
    resets: Arc<Resets>,
    relays: Option<Relays>,
}

impl Listener for SimulatedListener {
    fn local_address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn Connection>, SocketAddr)>> {
        Box::pin(async move {
            let (stream, from) = self.listener.accept().await?;
            let connection = self.resets.wrap(stream);
            let is_node = turmoil::reverse_lookup(from.ip()).is_some_and(|host| node_of(&host).is_some());
            Ok(match &self.relays {
                Some(relays) if is_node => (relays.put_between(connection), from),
                _ => (connection, from),
            })
        })
    }
}

/// A connection that fails once its host's connections were reset.
struct Resettable {
    stream: TcpStream,
    reset: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Resettable {
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.reset.as_mut().poll(cx) {
            Poll::Pending => Ok(()),
            Poll::Ready(()) => Err(io::Error::new(io::ErrorKind::ConnectionReset, "the connection was reset")),
        }
    }
}

impl AsyncRead for Resettable {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Resettable {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
