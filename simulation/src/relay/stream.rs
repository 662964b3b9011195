//! A stream through a relay: whole requests meet their fates, replies go back.
//!
//! ```text
//!   pieces of a request ─▶ its fate ─┬▶ on the same stream, once or twice
//!                                    ├▶ late, on a stream of its own
//!                                    └▶ nowhere
//! ```
//!
//! A request that arrives in its turn is passed on piece by piece; one that is
//! late waits until it is complete. A copy has a request id of the relay's own,
//! and its reply goes nowhere: ids are not reused on a stream.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quipu_protocol::peer::{Frame, Introduction, Piece, frame};
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use super::late::{Late, LateStream};
use super::meddler::Fate;
use super::service::{Lane, RelayService};

/// The relay's own request ids begin here; peers count from 1.
pub(super) const OWN_IDS: u64 = 1 << 63;

/// The peer went, or the node did.
pub(super) struct Gone;

/// Requests of one stream, on their way to the node.
pub(super) struct Relayed {
    relay: RelayService,
    lane: Lane,
    requests: mpsc::Sender<Frame>,
    /// Where replies to what was late go, while the peer's stream is open.
    outbound: mpsc::WeakSender<Result<Frame, Status>>,
    introduction: Option<Introduction>,
    /// Requests of which pieces are still to come.
    unfinished: BTreeMap<u64, Unfinished>,
    unanswered: Unanswered,
    next_own: u64,
    late: Option<LateStream>,
}

struct Unfinished {
    fate: Fate,
    /// What has arrived, where it is needed again.
    pieces: Vec<Piece>,
}

/// Requests whose replies are lost.
type Unanswered = Arc<Mutex<BTreeSet<u64>>>;

impl Relayed {
    pub(super) fn new(
        relay: RelayService,
        lane: Lane,
        requests: mpsc::Sender<Frame>,
        outbound: mpsc::Sender<Result<Frame, Status>>,
    ) -> Self {
        Self {
            relay,
            lane,
            requests,
            outbound: outbound.downgrade(),
            introduction: None,
            unfinished: BTreeMap::new(),
            unanswered: Unanswered::default(),
            next_own: OWN_IDS,
            late: None,
        }
    }

    /// Carries requests one way and replies the other until either ends.
    pub(super) async fn carry(
        mut self,
        mut inbound: Streaming<Frame>,
        replies: Streaming<Frame>,
        outbound: mpsc::Sender<Result<Frame, Status>>,
    ) {
        let unanswered = Arc::clone(&self.unanswered);
        let requests = async {
            while let Ok(Some(frame)) = inbound.message().await {
                if self.frame(frame).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            biased;
            () = answer(replies, outbound, unanswered) => {}
            () = requests => {}
        }
    }

    async fn frame(&mut self, frame: Frame) -> Result<(), Gone> {
        match frame.kind {
            Some(frame::Kind::Piece(piece)) => self.piece(piece).await,
            kind => {
                if let Some(frame::Kind::Introduction(from)) = &kind {
                    self.introduction = Some(from.clone());
                }
                self.requests.send(Frame { kind }).await.map_err(|_| Gone)
            }
        }
    }

    async fn piece(&mut self, piece: Piece) -> Result<(), Gone> {
        let (request, last, abandoned) = (piece.request, piece.last, piece.abandoned);
        let relay = &self.relay;
        let begin = || Unfinished { fate: relay.meddler.request(), pieces: Vec::new() };
        let message = self.unfinished.entry(request).or_insert_with(begin);
        let fate = message.fate;
        if matches!(fate, Fate::Twice | Fate::Again(_) | Fate::Late(_)) {
            message.pieces.push(piece.clone());
        }
        if fate == Fate::Unanswered {
            self.unanswered.lock().unwrap_or_else(PoisonError::into_inner).insert(request);
        }
        if !matches!(fate, Fate::Late(_) | Fate::Lost) {
            self.send(piece).await?;
        }
        if !last && !abandoned {
            return Ok(());
        }
        let pieces = self.unfinished.remove(&request).map(|message| message.pieces).unwrap_or_default();
        match fate {
            _ if abandoned => Ok(()),
            Fate::Twice => self.send_copy(pieces).await,
            Fate::Again(wait) => {
                self.send_late(wait, pieces, None);
                Ok(())
            }
            Fate::Late(wait) => {
                self.send_late(wait, pieces, Some(request));
                Ok(())
            }
            Fate::Arrives | Fate::Lost | Fate::Unanswered => Ok(()),
        }
    }

    async fn send(&self, piece: Piece) -> Result<(), Gone> {
        self.requests.send(Frame { kind: Some(frame::Kind::Piece(piece)) }).await.map_err(|_| Gone)
    }

    async fn send_copy(&mut self, pieces: Vec<Piece>) -> Result<(), Gone> {
        let request = self.next_own;
        self.next_own += 1;
        for piece in pieces {
            self.send(Piece { request, ..piece }).await?;
        }
        Ok(())
    }

    /// Sends a request later, and its reply to whoever asked for `answers`.
    fn send_late(&mut self, wait: Duration, pieces: Vec<Piece>, answers: Option<u64>) {
        // Nothing is asked on a stream before its introduction.
        let Some(introduction) = &self.introduction else { return };
        let (relay, lane, outbound) = (&self.relay, self.lane, &self.outbound);
        let late =
            self.late.get_or_insert_with(|| LateStream::open(relay, lane, introduction.clone(), outbound.clone()));
        late.send(Late { due: self.relay.environment.clock.monotonic() + wait, pieces, answers });
    }
}

/// Carries replies back until there are no more.
async fn answer(mut replies: Streaming<Frame>, outbound: mpsc::Sender<Result<Frame, Status>>, unanswered: Unanswered) {
    loop {
        let reply = match replies.message().await {
            Ok(Some(reply)) => Ok(reply),
            Ok(None) => return,
            Err(status) => Err(status),
        };
        let failed = reply.is_err();
        let lost = matches!(&reply, Ok(Frame { kind: Some(frame::Kind::Piece(piece)) }) if is_lost(piece, &unanswered));
        if !lost && outbound.send(reply).await.is_err() || failed {
            return;
        }
    }
}

fn is_lost(piece: &Piece, unanswered: &Unanswered) -> bool {
    let mut unanswered = unanswered.lock().unwrap_or_else(PoisonError::into_inner);
    let lost = piece.request >= OWN_IDS || unanswered.contains(&piece.request);
    if piece.last {
        unanswered.remove(&piece.request);
    }
    lost
}
