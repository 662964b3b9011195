//! An open stream: calls are sent in pieces, replies find their calls.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use quipu_protocol::peer::{Frame, frame};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::StreamExt;
use tonic::Streaming;

use super::end::End;
use super::{Call, CallError, CallState, Lane, Room};
use crate::peers::bounds::MAX_CALLS;
use crate::peers::pieces::{Arrived, Incoming, Outgoing};
use crate::peers::readings::Readings;

/// The stream while it is open.
pub(super) struct Stream<'a> {
    end: &'a mut End,
    outbound: mpsc::Sender<Frame>,
    inbound: Streaming<Frame>,
    outgoing: Outgoing,
    incoming: Incoming,
    pending: BTreeMap<u64, Pending>,
    next_request: u64,
    /// When something was first asked of the peer since it was last heard of,
    /// whether or not anybody still waits for that.
    asked: Option<Duration>,
    /// When something was last asked of it.
    took: Duration,
    /// When it is looked at next whether the peer has been silent, however much
    /// is asked of it meanwhile.
    check_at: Duration,
    answered: bool,
    readings: Readings,
}

struct Pending {
    reply: oneshot::Sender<Result<Bytes, CallError>>,
    state: Arc<CallState>,
    _room: Room,
}

impl<'a> Stream<'a> {
    pub(super) fn new(end: &'a mut End, outbound: mpsc::Sender<Frame>, inbound: Streaming<Frame>) -> Self {
        Self {
            end,
            outbound,
            inbound,
            outgoing: Outgoing::default(),
            incoming: Incoming::default(),
            pending: BTreeMap::new(),
            next_request: 1,
            asked: None,
            took: Duration::ZERO,
            check_at: Duration::ZERO,
            answered: false,
            readings: Readings::default(),
        }
    }

    /// Serves calls until the stream breaks; tells why it did, and whether any
    /// call was answered.
    pub(super) async fn serve(mut self, first: Call) -> (String, bool) {
        self.take(first);
        let why = loop {
            if let Err(why) = self.step().await {
                break why;
            }
        };
        for pending in std::mem::take(&mut self.pending).into_values() {
            let _ = pending.reply.send(Err(CallError::Unreachable(why.clone())));
        }
        (why, self.answered)
    }

    async fn step(&mut self) -> Result<(), String> {
        let clock = &self.end.clock;
        let check = clock.sleep(self.check_at.saturating_sub(clock.monotonic()));
        let sending = !self.outgoing.is_empty();
        tokio::select! {
            biased;
            frame = self.inbound.next() => self.receive(frame),
            room = self.outbound.clone().reserve_owned(), if sending => {
                self.send(room.map_err(|_| "the stream was closed".to_owned())?);
                Ok(())
            }
            call = self.end.calls.recv(), if self.pending.len() < MAX_CALLS => match call {
                Some(call) => {
                    self.take(call);
                    Ok(())
                }
                None => Err("the link ended".to_owned()),
            },
            () = check, if !self.pending.is_empty() => self.check(),
        }
    }

    /// Sends the next piece.
    fn send(&mut self, room: mpsc::OwnedPermit<Frame>) {
        let pending = &self.pending;
        let wanted = |request| pending.get(&request).is_some_and(|it: &Pending| !it.reply.is_closed());
        let Some(mut piece) = self.outgoing.next(wanted) else { return };
        let now = self.end.clock.monotonic();
        if self.end.lane == Lane::Control {
            let others = || self.end.node_clock.known(now);
            piece.clock = self.readings.next(now, self.end.clock.wall(), others);
        }
        if let Some(pending) = self.pending.get(&piece.request) {
            pending.state.progress.set(now);
            pending.state.sent.store(piece.last, Ordering::Relaxed);
        }
        self.end.progress.set(now);
        room.send(Frame { kind: Some(frame::Kind::Piece(piece)) });
    }

    fn take(&mut self, call: Call) {
        if call.reply.is_closed() {
            return;
        }
        let now = self.end.clock.monotonic();
        // What was given up long ago says nothing about the link as it is now.
        if self.pending.is_empty() && now.saturating_sub(self.took) > self.end.deadline {
            self.asked = None;
        }
        if self.pending.is_empty() {
            self.check_after(now);
        }
        self.asked.get_or_insert(now);
        self.took = now;
        let request = self.next_request;
        self.next_request += 1;
        self.outgoing.push(call.flow, request, call.body);
        self.pending.insert(request, Pending { reply: call.reply, state: call.state, _room: call._room });
    }

    fn receive(&mut self, frame: Option<Result<Frame, tonic::Status>>) -> Result<(), String> {
        let frame = match frame {
            Some(Ok(frame)) => frame,
            Some(Err(status)) => return Err(status.message().to_owned()),
            None => return Err("the peer ended the stream".to_owned()),
        };
        let now = self.end.clock.monotonic();
        self.asked = None;
        self.end.progress.set(now);
        let piece = match frame.kind {
            Some(frame::Kind::Piece(piece)) => piece,
            Some(frame::Kind::Refusal(refusal)) => return Err(refusal.message),
            _ => return Err("the peer sent what is no reply".to_owned()),
        };
        if let Some(seen) = piece.clock.as_ref().and_then(|clock| self.readings.take(clock, now)) {
            self.end.tell_clocks(seen);
        }
        if let Some(pending) = self.pending.get(&piece.request) {
            pending.state.progress.set(now);
        }
        if piece.body.is_empty() && !piece.last {
            // A receipt for a piece of a request.
            return Ok(());
        }
        if let Arrived::Whole { request, body } = self.incoming.take(piece).map_err(|error| error.to_string())? {
            self.answered = true;
            if let Some(pending) = self.pending.remove(&request) {
                let _ = pending.reply.send(Ok(body));
            }
        }
        Ok(())
    }

    /// Half the deadline, so that a silent peer is noticed soon after it.
    fn check_after(&mut self, now: Duration) {
        self.check_at = now + self.end.deadline / 2;
    }

    /// Forgets calls that nobody waits for, and gives the stream up when the
    /// peer has said nothing for as long as a call is waited for: the
    /// connection may be dead, and then whatever follows would be lost in it.
    fn check(&mut self) -> Result<(), String> {
        let now = self.end.clock.monotonic();
        self.check_after(now);
        let silent = self.asked.map_or(Duration::ZERO, |asked| now.saturating_sub(asked));
        if silent >= self.end.deadline {
            return Err(format!("node {} has been silent for {silent:?}", self.end.node));
        }
        self.pending.retain(|_, pending| !pending.reply.is_closed());
        // Their room has been given back, so they must not stay.
        self.outgoing.drop_unwanted(|request| self.pending.contains_key(&request));
        Ok(())
    }
}
