//! This node's end of one stream to one peer: calls go in, replies come out.
//!
//! ```text
//!        ┌──────── the first call ◀───────────┐
//!        ▼                                     │
//!   opening ── introductions ──▶ open ── breaks: what is under way fails
//!        └──── fails ──▶ paused, refusing calls ──▶ idle
//! ```
//!
//! A control call has a deadline. A data call has one that starts anew with
//! every piece that arrives, so that a large append over a slow link lives and
//! a dead link is noticed.

mod end;
mod stream;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{self, Either};
use quipu_protocol::NodeId;
use quipu_protocol::environment::{Clock, Task};
use tokio::sync::{mpsc, oneshot};

use super::Peers;
use super::bounds::{MAX_CALLS, MAX_MESSAGE_BYTES, MAX_QUEUED_BYTES};
use super::pieces::Flow;
use end::End;

/// Which of the two streams to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lane {
    /// What must never wait.
    Control,
    /// What may be large.
    Data,
}

/// A call that got no reply. Whether the peer acted on it is not known, unless
/// the error says that it was never sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallError {
    /// There is no stream to the peer, or it broke.
    #[error("{0}")]
    Unreachable(String),
    /// The peer did not answer, or took in no more, for this long.
    #[error("no reply and no progress for {0:?}")]
    Timeout(Duration),
    /// Too much waits for this peer. Never sent.
    #[error("{bound} is {limit}")]
    Overloaded {
        /// The bound's name.
        bound: &'static str,
        /// The bound.
        limit: u64,
    },
}

/// A stream to a peer, opened when it is used. Clones use the same one; it ends
/// with the last.
#[derive(Clone)]
pub(crate) struct Link {
    calls: mpsc::Sender<Call>,
    clock: Arc<dyn Clock>,
    deadline: Duration,
    queued: Arc<Queued>,
    progress: Arc<Stamp>,
    _task: Arc<Task>,
}

struct Call {
    flow: Flow,
    body: Bytes,
    reply: oneshot::Sender<Result<Bytes, CallError>>,
    state: Arc<CallState>,
    _room: Room,
}

/// What the caller sees of its call while it waits.
struct CallState {
    /// When the peer last took in a piece of it, or the link one of ours.
    progress: Stamp,
    /// Whether all of it has left.
    sent: AtomicBool,
}

/// A moment of the monotonic clock, in microseconds.
#[derive(Default)]
struct Stamp(AtomicU64);

impl Stamp {
    fn set(&self, now: Duration) {
        self.0.store(u64::try_from(now.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn get(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::Relaxed))
    }
}

/// What waits on a link, for its sending or its reply.
#[derive(Default)]
struct Queued {
    bytes: AtomicU64,
    calls: AtomicU64,
}

/// A share of the link's queue; given back when dropped.
struct Room {
    bytes: u64,
    queued: Arc<Queued>,
}

impl Room {
    /// Room for a call of so many bytes. One call always has room.
    fn take(queued: &Arc<Queued>, bytes: u64) -> Result<Self, CallError> {
        let calls = queued.calls.fetch_add(1, Ordering::Relaxed);
        let before = queued.bytes.fetch_add(bytes, Ordering::Relaxed);
        let room = Self { bytes, queued: Arc::clone(queued) };
        if calls >= MAX_CALLS as u64 {
            return Err(CallError::Overloaded { bound: "max_calls", limit: MAX_CALLS as u64 });
        }
        if before > 0 && before + bytes > MAX_QUEUED_BYTES {
            return Err(CallError::Overloaded { bound: "max_queued_bytes", limit: MAX_QUEUED_BYTES });
        }
        Ok(room)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.queued.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.queued.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Link {
    pub(super) fn start(peers: &Arc<Peers>, node: NodeId, lane: Lane) -> Self {
        let (calls, receiver) = mpsc::channel(MAX_CALLS);
        let clock = Arc::clone(&peers.environment.clock);
        let deadline = match lane {
            Lane::Control => peers.deadlines.control,
            Lane::Data => peers.deadlines.data,
        };
        let progress = Arc::new(Stamp::default());
        let end = End {
            peers: Arc::downgrade(peers),
            node,
            lane,
            clock: Arc::clone(&clock),
            node_clock: peers.clock.clone(),
            deadline,
            calls: receiver,
            progress: Arc::clone(&progress),
        };
        let task = peers.environment.tasks.spawn("peer-link", Box::pin(end.run()));
        Self { calls, clock, deadline, queued: Arc::default(), progress, _task: Arc::new(task) }
    }

    /// How many calls wait on it, and their bytes.
    pub(super) fn queued(&self) -> (u64, u64) {
        (self.queued.calls.load(Ordering::Relaxed), self.queued.bytes.load(Ordering::Relaxed))
    }

    /// Queues a call, after those that were queued on the same flow before, and
    /// returns its reply to be waited for. Dropping that gives the call up.
    pub(super) fn call(
        &self,
        flow: Flow,
        body: Bytes,
        lane: Lane,
    ) -> impl Future<Output = Result<Bytes, CallError>> + Send + use<> {
        let state = Arc::new(CallState { progress: Stamp::default(), sent: AtomicBool::new(false) });
        let started = self.clock.monotonic();
        state.progress.set(started);
        let (reply, answer) = oneshot::channel();
        let queued = self.enqueue(flow, body, reply, Arc::clone(&state));
        let (clock, deadline, link) = (Arc::clone(&self.clock), self.deadline, Arc::clone(&self.progress));
        async move {
            queued?;
            let mut answer = answer;
            loop {
                let since = match lane {
                    Lane::Control => started,
                    // While it waits for its turn, the link's progress counts.
                    Lane::Data if !state.sent.load(Ordering::Relaxed) => state.progress.get().max(link.get()),
                    Lane::Data => state.progress.get(),
                };
                let left = (since + deadline).saturating_sub(clock.monotonic());
                if left.is_zero() {
                    return Err(CallError::Timeout(deadline));
                }
                match future::select(&mut answer, clock.sleep(left)).await {
                    Either::Left((Ok(reply), _)) => return reply,
                    Either::Left((Err(_), _)) => return Err(CallError::Unreachable("the link ended".to_owned())),
                    Either::Right(_) => {}
                }
            }
        }
    }

    fn enqueue(
        &self,
        flow: Flow,
        body: Bytes,
        reply: oneshot::Sender<Result<Bytes, CallError>>,
        state: Arc<CallState>,
    ) -> Result<(), CallError> {
        let over = |bound, limit| Err(CallError::Overloaded { bound, limit });
        if body.len() > MAX_MESSAGE_BYTES {
            return over("max_message_bytes", MAX_MESSAGE_BYTES as u64);
        }
        let room = Room::take(&self.queued, body.len() as u64)?;
        match self.calls.try_send(Call { flow, body, reply, state, _room: room }) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => over("max_calls", MAX_CALLS as u64),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(CallError::Unreachable("the link ended".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_beyond_the_bound_are_refused_until_one_is_over() {
        let queued = Arc::<Queued>::default();
        let mut rooms: Vec<Room> = (0..MAX_CALLS).map(|_| Room::take(&queued, 0).expect("room")).collect();
        let full = CallError::Overloaded { bound: "max_calls", limit: MAX_CALLS as u64 };
        assert_eq!(Room::take(&queued, 0).err(), Some(full));
        rooms.pop();
        rooms.push(Room::take(&queued, 0).expect("room again"));
        drop(rooms);
        assert_eq!(queued.calls.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn bytes_beyond_the_bound_are_refused_but_for_one_alone() {
        let queued = Arc::<Queued>::default();
        let alone = Room::take(&queued, MAX_QUEUED_BYTES + 1).expect("one alone has room");
        let full = CallError::Overloaded { bound: "max_queued_bytes", limit: MAX_QUEUED_BYTES };
        assert_eq!(Room::take(&queued, 1).err(), Some(full));
        drop(alone);
        assert!(Room::take(&queued, 1).is_ok());
        assert_eq!(queued.bytes.load(Ordering::Relaxed), 0);
    }
}
