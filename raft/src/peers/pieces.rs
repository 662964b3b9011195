//! Large messages in pieces: taken apart fairly, put together within bounds.
//!
//! ```text
//!   flow A  ████████████▶ ┐                      ┌▶ A ████████████
//!   flow B  ██▶           ├▶ A B C A C A A … ───▶┼▶ B ██
//!   flow C  ████▶         ┘   one stream         └▶ C ████
//! ```
//!
//! The requests of one flow keep their order; flows take turns, a piece each.
//! Pure: neither side waits here.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Bytes, BytesMut};
use quipu_protocol::peer::Piece;

use super::bounds::{MAX_CALLS, MAX_MESSAGE_BYTES, MAX_UNFINISHED_BYTES, PIECE_BYTES};

/// Requests whose order is kept: those of one group to one replica, say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Flow(pub(crate) u64);

/// What is to be sent on a stream.
#[derive(Default)]
pub(crate) struct Outgoing {
    flows: BTreeMap<Flow, VecDeque<Body>>,
    /// Flows that have something to send, in the order of their turns.
    turns: VecDeque<Flow>,
    /// How many bodies there are.
    bodies: usize,
    /// The sizes of the bodies of which a part, but not all, has been sent.
    started_bytes: usize,
}

struct Body {
    request: u64,
    rest: Bytes,
    size: usize,
    started: bool,
}

impl Outgoing {
    /// Queues a whole request or reply.
    pub(crate) fn push(&mut self, flow: Flow, request: u64, body: Bytes) {
        let queue = self.flows.entry(flow).or_default();
        if queue.is_empty() {
            self.turns.push_back(flow);
        }
        self.bodies += 1;
        queue.push_back(Body { request, size: body.len(), rest: body, started: false });
    }

    /// The next piece to send, and whether it completes its body.
    ///
    /// `wanted` says whether anybody still waits for a request. One that nobody
    /// waits for is dropped; when a part of it has left, the other side is told.
    pub(crate) fn next(&mut self, wanted: impl Fn(u64) -> bool) -> Option<Piece> {
        // At most one round: flows whose next body would bring the receiver
        // over its bound are passed over until another is complete.
        for _ in 0..self.turns.len() {
            let flow = self.turns.pop_front()?;
            let Some(queue) = self.flows.get_mut(&flow) else { continue };
            while queue.front().is_some_and(|body| !body.started && !wanted(body.request)) {
                queue.pop_front();
                self.bodies -= 1;
            }
            let Some(body) = queue.front_mut() else {
                self.flows.remove(&flow);
                continue;
            };
            if !body.started && self.started_bytes > 0 && self.started_bytes + body.size > MAX_UNFINISHED_BYTES {
                self.turns.push_back(flow);
                continue;
            }
            let piece = body.cut(&wanted, &mut self.started_bytes);
            if piece.last || piece.abandoned {
                queue.pop_front();
                self.bodies -= 1;
            }
            if queue.is_empty() {
                self.flows.remove(&flow);
            } else {
                self.turns.push_back(flow);
            }
            return Some(piece);
        }
        None
    }

    /// Lets go of the bodies that nobody waits for and of which nothing has
    /// left.
    pub(crate) fn drop_unwanted(&mut self, wanted: impl Fn(u64) -> bool) {
        self.flows.retain(|_, queue| {
            queue.retain(|body| body.started || wanted(body.request));
            !queue.is_empty()
        });
        self.turns.retain(|flow| self.flows.contains_key(flow));
        self.bodies = self.flows.values().map(VecDeque::len).sum();
    }

    /// How many requests or replies are left to send.
    pub(crate) fn len(&self) -> usize {
        self.bodies
    }

    /// Whether nothing is left to send.
    pub(crate) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }
}

impl Body {
    /// Takes the next piece off.
    fn cut(&mut self, wanted: &impl Fn(u64) -> bool, started_bytes: &mut usize) -> Piece {
        if self.started && !wanted(self.request) {
            *started_bytes -= self.size;
            return Piece { request: self.request, abandoned: true, ..Piece::default() };
        }
        let body = self.rest.split_to(self.rest.len().min(PIECE_BYTES));
        let last = self.rest.is_empty();
        match (self.started, last) {
            (false, false) => *started_bytes += self.size,
            (true, true) => *started_bytes -= self.size,
            _ => {}
        }
        self.started = true;
        Piece { request: self.request, body, last, ..Piece::default() }
    }
}

/// Messages that are arriving on a stream.
#[derive(Default)]
pub(crate) struct Incoming {
    unfinished: BTreeMap<u64, Unfinished>,
    bytes: usize,
}

#[derive(Default)]
struct Unfinished {
    pieces: Vec<Bytes>,
    bytes: usize,
}

/// What a piece that arrived amounts to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Arrived {
    /// A part of a message; `bytes` of it are here.
    Part {
        /// Which message.
        request: u64,
    },
    /// The whole message.
    Whole {
        /// Which message.
        request: u64,
        /// All of it.
        body: Bytes,
    },
    /// The sender will not finish the message.
    Abandoned {
        /// Which message.
        request: u64,
    },
}

/// The other side does not keep to the bounds; the stream has to end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum IncomingError {
    /// One message is too large.
    #[error("a message is over the bound of {MAX_MESSAGE_BYTES} bytes")]
    Message,
    /// All unfinished messages together are.
    #[error("unfinished messages are over the bound of {MAX_UNFINISHED_BYTES} bytes")]
    Unfinished,
    /// There are too many unfinished messages.
    #[error("unfinished messages are over the bound of {MAX_CALLS}")]
    Count,
    /// A piece that brings nothing is not the last one.
    #[error("an incomplete message came in an empty piece")]
    Empty,
}

impl Incoming {
    /// Takes a piece in.
    pub(crate) fn take(&mut self, piece: Piece) -> Result<Arrived, IncomingError> {
        let Piece { request, body, last, abandoned, .. } = piece;
        if abandoned {
            self.forget(request);
            return Ok(Arrived::Abandoned { request });
        }
        if body.is_empty() && !last {
            return Err(IncomingError::Empty);
        }
        if last && !self.unfinished.contains_key(&request) {
            return Ok(Arrived::Whole { request, body });
        }
        if self.unfinished.len() >= MAX_CALLS && !self.unfinished.contains_key(&request) {
            return Err(IncomingError::Count);
        }
        let message = self.unfinished.entry(request).or_default();
        message.bytes += body.len();
        self.bytes += body.len();
        message.pieces.push(body);
        if message.bytes > MAX_MESSAGE_BYTES {
            return Err(IncomingError::Message);
        }
        if self.bytes > MAX_UNFINISHED_BYTES {
            return Err(IncomingError::Unfinished);
        }
        if !last {
            return Ok(Arrived::Part { request });
        }
        Ok(Arrived::Whole { request, body: self.forget(request).unwrap_or_default().joined() })
    }

    /// How many messages are unfinished, and what has arrived of them, bytes.
    pub(crate) fn unfinished(&self) -> (usize, usize) {
        (self.unfinished.len(), self.bytes)
    }

    /// Drops what has arrived of a message.
    fn forget(&mut self, request: u64) -> Option<Unfinished> {
        let message = self.unfinished.remove(&request)?;
        self.bytes -= message.bytes;
        Some(message)
    }
}

impl Unfinished {
    fn joined(self) -> Bytes {
        // The size of what has arrived, not of what was claimed.
        let mut whole = BytesMut::with_capacity(self.bytes);
        for piece in self.pieces {
            whole.extend_from_slice(&piece);
        }
        whole.freeze()
    }
}

#[cfg(test)]
mod tests;
