//! The stream by which what is late reaches the node.
//!
//! It is opened beside the peer's own and under the same introduction, while
//! that is good, and outlives it: what a peer sent arrives although the peer
//! has given up, has connected anew, or is gone.

use std::collections::BTreeMap;
use std::future;
use std::time::Duration;

use quipu_protocol::peer::{Frame, Introduction, Piece, frame};
use tokio::sync::mpsc;
use tonic::Status;

use super::service::{Lane, RelayService};
use super::stream::Gone;

/// A request that is late.
pub(super) struct Late {
    /// When it arrives.
    pub(super) due: Duration,
    /// All of it.
    pub(super) pieces: Vec<Piece>,
    /// The peer's request that its reply answers; none for a copy.
    pub(super) answers: Option<u64>,
}

/// Where what is late is handed in.
pub(super) struct LateStream {
    // Bounded by what one fault makes late in its time.
    entrance: mpsc::UnboundedSender<Late>,
}

impl LateStream {
    pub(super) fn open(
        relay: &RelayService,
        lane: Lane,
        introduction: Introduction,
        outbound: mpsc::WeakSender<Result<Frame, Status>>,
    ) -> Self {
        let (entrance, entered) = mpsc::unbounded_channel();
        let carrier =
            Carrier { relay: relay.clone(), outbound, waiting: BTreeMap::new(), asked: BTreeMap::new(), last: 0 };
        let carrying = async move {
            // Whatever it was that ended it, what had not arrived is lost.
            let _: Result<(), Gone> = carrier.carry(lane, introduction, entered).await;
        };
        relay.environment.tasks.spawn("late-stream", Box::pin(carrying)).detach();
        Self { entrance }
    }

    pub(super) fn send(&self, late: Late) {
        // When the node has ended the stream, it is lost.
        let _ = self.entrance.send(late);
    }
}

struct Carrier {
    relay: RelayService,
    outbound: mpsc::WeakSender<Result<Frame, Status>>,
    /// By the time at which they are due, and in the order in which they came.
    waiting: BTreeMap<(Duration, u64), Late>,
    /// By the id under which it was asked: whom its reply answers.
    asked: BTreeMap<u64, Option<u64>>,
    last: u64,
}

impl Carrier {
    /// Until the node ends the stream, or nothing more can come.
    async fn carry(
        mut self,
        lane: Lane,
        introduction: Introduction,
        mut entered: mpsc::UnboundedReceiver<Late>,
    ) -> Result<(), Gone> {
        let (requests, mut replies) = self.relay.open(lane).await.map_err(|_| Gone)?;
        let introduction = Frame { kind: Some(frame::Kind::Introduction(introduction)) };
        requests.send(introduction).await.map_err(|_| Gone)?;
        let mut open = true;
        while open || !self.waiting.is_empty() || !self.asked.is_empty() {
            let due = self.waiting.first_key_value().map(|((due, _), _)| *due);
            let clock = &self.relay.environment.clock;
            let sleep = due.map(|due| clock.sleep(due.saturating_sub(clock.monotonic())));
            let sleep = async {
                match sleep {
                    Some(sleep) => sleep.await,
                    None => future::pending().await,
                }
            };
            tokio::select! {
                biased;
                reply = replies.message() => {
                    let reply = reply.ok().flatten().ok_or(Gone)?;
                    if let Some(frame::Kind::Piece(piece)) = reply.kind {
                        self.answer(piece).await;
                    }
                }
                late = entered.recv(), if open => match late {
                    Some(late) => {
                        self.last += 1;
                        self.waiting.insert((late.due, self.last), late);
                    }
                    None => open = false,
                },
                () = sleep => {
                    if let Some((_, late)) = self.waiting.pop_first() {
                        self.ask(late, &requests).await?;
                    }
                }
            }
        }
        Ok(())
    }

    async fn ask(&mut self, late: Late, requests: &mpsc::Sender<Frame>) -> Result<(), Gone> {
        self.last += 1;
        let request = self.last;
        self.asked.insert(request, late.answers);
        for piece in late.pieces {
            let piece = Piece { request, ..piece };
            requests.send(Frame { kind: Some(frame::Kind::Piece(piece)) }).await.map_err(|_| Gone)?;
        }
        Ok(())
    }

    async fn answer(&mut self, piece: Piece) {
        let answers = match piece.last {
            true => self.asked.remove(&piece.request).flatten(),
            false => self.asked.get(&piece.request).copied().flatten(),
        };
        let (Some(request), Some(outbound)) = (answers, self.outbound.upgrade()) else { return };
        // The peer may have gone meanwhile.
        let _ = outbound.send(Ok(Frame { kind: Some(frame::Kind::Piece(Piece { request, ..piece })) })).await;
    }
}
