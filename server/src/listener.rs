//! The connections of a node: bounded in number, and cut when the node ends.
//!
//! ```text
//!   accept ──▶ a permit? ──▶ Admitted ──▶ tonic
//!     │           └ no: closed at once, said once a while
//!     └ fails (no file descriptors, say): said, and tried again shortly
//! ```

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use quipu_protocol::environment::{Clock, Environment, Listener};
use quipu_protocol::transport::{self, Incoming};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

/// After a failed accept, the next one waits for so long: the reason rarely
/// goes away by itself at once.
const RETRY_ACCEPT_AFTER: Duration = Duration::from_millis(100);
/// Complaints about connections are at least so far apart.
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);

/// The connections that arrive at `listener`, at most `max_connections` at a
/// time. Each one fails, whatever it does, once `severed` is cancelled.
pub(crate) fn connections(
    listener: Box<dyn Listener>,
    environment: &Environment,
    max_connections: usize,
    severed: CancellationToken,
) -> impl Stream<Item = io::Result<Admitted>> + Send + 'static {
    let clock = Arc::clone(&environment.clock);
    let permits = Arc::new(Semaphore::new(max_connections));
    let complaints = Complaints { clock: Arc::clone(&clock), last: None };
    let incoming = Box::pin(transport::incoming(listener));
    let state = (incoming, complaints);
    futures_util::stream::unfold(state, move |(mut incoming, mut complaints)| {
        let (clock, permits, severed) = (Arc::clone(&clock), Arc::clone(&permits), severed.clone());
        async move {
            loop {
                let connection = match incoming.next().await? {
                    Ok(connection) => connection,
                    Err(error) => {
                        complaints.warn(|| tracing::warn!(%error, "cannot accept connections"));
                        clock.sleep(RETRY_ACCEPT_AFTER).await;
                        continue;
                    }
                };
                let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
                    complaints.warn(|| {
                        tracing::warn!(max_connections, "server.max_connections are open: closing further ones");
                    });
                    continue;
                };
                let severed = Box::pin(severed.cancelled_owned());
                return Some((Ok(Admitted { connection, severed, _permit: permit }), (incoming, complaints)));
            }
        }
    })
}

/// Warns, but not at the rate of what it warns of.
struct Complaints {
    clock: Arc<dyn Clock>,
    last: Option<Duration>,
}

impl Complaints {
    fn warn(&mut self, complain: impl FnOnce()) {
        let now = self.clock.monotonic();
        if self.last.is_none_or(|last| now.saturating_sub(last) >= COMPLAIN_EVERY) {
            self.last = Some(now);
            complain();
        }
    }
}

/// A connection that counts.
pub(crate) struct Admitted {
    connection: Incoming,
    severed: Pin<Box<WaitForCancellationFutureOwned>>,
    _permit: OwnedSemaphorePermit,
}

impl Admitted {
    fn poll_severed(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.severed.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the node has ended")),
            Poll::Pending => Ok(()),
        }
    }
}

impl Connected for Admitted {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Admitted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // Reading is what a connection always waits for, so being cut is
        // noticed here; writes only have to fail afterwards.
        match Pin::new(&mut self.connection).poll_read(cx, buffer) {
            Poll::Pending => match self.poll_severed(cx) {
                Ok(()) => Poll::Pending,
                Err(error) => Poll::Ready(Err(error)),
            },
            ready => ready,
        }
    }
}

impl AsyncWrite for Admitted {
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
