//! The connections of a node: bounded in number, and cut when the node ends.
//!
//! ```text
//!   accept ──▶ a permit? ──▶ tonic
//!     │           └ no: closed at once, said once a while
//!     └ fails (no file descriptors, say): said, and tried again shortly
//! ```

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use quipu_protocol::environment::{Clock, Environment, Listener};
use quipu_protocol::transport::{self, Incoming};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// After a failed accept, the next one waits for so long: the reason rarely
/// goes away by itself at once.
const RETRY_ACCEPT_AFTER: Duration = Duration::from_millis(100);
/// Complaints about connections are at least so far apart.
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);

/// How many connections are open, of how many.
#[derive(Clone)]
pub(crate) struct Permits {
    free: Arc<Semaphore>,
    /// The setting that says so.
    bound: &'static str,
    max_connections: usize,
}

impl Permits {
    /// At most `max_connections` at a time, as the setting `bound` says.
    pub(crate) fn new(bound: &'static str, max_connections: u64) -> Self {
        let max_connections = usize::try_from(max_connections).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Self { free: Arc::new(Semaphore::new(max_connections)), bound, max_connections }
    }

    /// How many connections are open.
    pub(crate) fn open(&self) -> usize {
        self.max_connections - self.free.available_permits()
    }
}

/// The connections that arrive at `listener`, as many as `permits` has. Each
/// one fails, whatever it does, once `severed` is cancelled.
pub(crate) fn connections(
    listener: Box<dyn Listener>,
    environment: &Environment,
    permits: Permits,
    severed: CancellationToken,
) -> impl Stream<Item = io::Result<Incoming>> + Send + 'static {
    let clock = Arc::clone(&environment.clock);
    let complaints = Complaints { clock: Arc::clone(&clock), last: None };
    let incoming = Box::pin(transport::incoming(listener));
    let state = (incoming, complaints);
    futures_util::stream::unfold(state, move |(mut incoming, mut complaints)| {
        let (clock, permits, severed) = (Arc::clone(&clock), permits.clone(), severed.clone());
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
                let Ok(permit) = Arc::clone(&permits.free).try_acquire_owned() else {
                    let Permits { bound, max_connections, .. } = permits;
                    complaints.warn(|| {
                        tracing::warn!(bound, max_connections, "so many connections are open: closing further ones");
                    });
                    continue;
                };
                let end = async move {
                    // Given back when the connection goes.
                    let _permit = permit;
                    severed.cancelled().await;
                };
                return Some((Ok(connection.until(Box::pin(end))), (incoming, complaints)));
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
