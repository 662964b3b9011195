//! One log that a member has.
//!
//! ```text
//!   given ─▶ claiming ─▶ reading ─▶ returning ─▶ let go of
//!               │           │  all that was delivered is committed
//!               └───────────┴─▶ lost: fenced, or gone
//! ```

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use quipu_protocol::{Generation, LogId, LogName, Offset};

use super::renewal::{Claim, Renewal};
use super::session::Share;
use super::{PositionError, Positions};
use crate::cluster::Cluster;
use crate::{From, GroupError, OnTrimmed, ReadError, ReadRecord, Reader, ReaderConfig};

/// One log that a member has.
pub(super) struct Hand {
    cluster: Arc<Cluster>,
    positions: Arc<dyn Positions>,
    id: LogId,
    name: LogName,
    generation: Generation,
    on_trimmed: OnTrimmed,
    returning: bool,
    state: State,
    renewal: Renewal,
    /// The next offset to be delivered, once something was.
    next: Option<Offset>,
    committed: Option<Offset>,
}

enum State {
    /// Its position is to be taken over, or is being.
    Claiming(Option<Claim>),
    Reading(Box<Reader>),
    /// Nothing more is delivered.
    Lost,
}

impl Hand {
    pub(super) fn new(
        cluster: Arc<Cluster>,
        positions: Arc<dyn Positions>,
        id: LogId,
        share: &Share,
        on_trimmed: OnTrimmed,
    ) -> Self {
        let (name, generation) = (share.log.clone(), share.generation);
        let state = State::Claiming(None);
        let renewal = Renewal::new(Arc::clone(&cluster.environment.clock));
        let (returning, next, committed) = (false, None, None);
        Self { cluster, positions, id, name, generation, on_trimmed, returning, state, renewal, next, committed }
    }

    pub(super) fn name(&self) -> &LogName {
        &self.name
    }

    pub(super) fn generation(&self) -> Generation {
        self.generation
    }

    /// Whether it is to be let go of now, others being to have it if `returning`:
    /// nothing that was delivered waits to be committed.
    pub(super) fn is_to_go(&mut self, returning: bool) -> bool {
        self.returning = returning;
        let goes = returning && self.next == self.committed;
        if goes {
            self.state = State::Lost;
        }
        goes
    }

    /// It is somebody else's: its name if something was delivered in vain.
    pub(super) fn lose(&mut self) -> Option<LogName> {
        let in_vain = self.next != self.committed;
        self.state = State::Lost;
        self.committed = self.next;
        in_vain.then(|| self.name.clone())
    }

    /// Commits all that was delivered.
    pub(super) async fn commit(&mut self) -> Result<(), PositionError> {
        let Some(next) = self.next.filter(|next| self.committed != Some(*next)) else { return Ok(()) };
        match self.positions.commit(&self.name, self.id, self.generation, next).await {
            // There is nothing left to be delivered again.
            Ok(()) | Err(PositionError::LogGone) => {}
            Err(error) => return Err(error),
        }
        self.renewal.put_off();
        self.committed = Some(next);
        Ok(())
    }

    /// The next records, at most `most`.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, most: usize) -> Poll<Result<Vec<ReadRecord>, GroupError>> {
        loop {
            match &mut self.state {
                State::Lost => return Poll::Pending,
                _ if self.returning => return Poll::Pending,
                State::Claiming(claiming) => {
                    let begin = || self.positions.claim(&self.name, self.id, self.generation);
                    let claimed = ready!(claiming.get_or_insert_with(begin).as_mut().poll(cx));
                    self.state = State::Claiming(None);
                    match claimed {
                        Ok(position) => {
                            self.renewal.put_off();
                            self.state = self.reading(position);
                        }
                        // Whoever has it says so soon.
                        Err(PositionError::Fenced | PositionError::LogGone) => self.state = State::Lost,
                        Err(error) => return Poll::Ready(Err(GroupError::Position { log: self.name.clone(), error })),
                    }
                }
                State::Reading(reader) => {
                    let claim = || self.positions.claim(&self.name, self.id, self.generation);
                    match self.renewal.poll(cx, claim) {
                        Poll::Pending => {}
                        Poll::Ready(Ok(())) => continue,
                        Poll::Ready(Err(PositionError::Fenced | PositionError::LogGone)) => {
                            self.state = State::Lost;
                            continue;
                        }
                        Poll::Ready(Err(error)) => {
                            return Poll::Ready(Err(GroupError::Position { log: self.name.clone(), error }));
                        }
                    }
                    match ready!(take(reader, cx, most)) {
                        Ok(records) => {
                            self.next = records.last().map(|last| last.offset.next());
                            return Poll::Ready(Ok(records));
                        }
                        Err(ReadError::UnknownLog { .. }) => self.state = State::Lost,
                        Err(error) => return Poll::Ready(Err(GroupError::Read { log: self.name.clone(), error })),
                    }
                }
            }
        }
    }

    fn reading(&self, position: Option<Offset>) -> State {
        let config = ReaderConfig {
            from: position.map_or(From::Start, From::Offset),
            follow: true,
            on_trimmed: self.on_trimmed,
            ..ReaderConfig::default()
        };
        State::Reading(Box::new(Reader::of(Arc::clone(&self.cluster), self.name.clone(), self.id, config)))
    }
}

/// What has arrived, at least one record. A read that is dropped halfway loses
/// nothing, so that each look may begin one.
fn take(reader: &mut Reader, cx: &mut Context<'_>, most: usize) -> Poll<Result<Vec<ReadRecord>, ReadError>> {
    let mut records = Vec::new();
    while records.len() < most {
        match pin!(reader.next()).poll(cx) {
            Poll::Ready(Ok(Some(record))) => records.push(record),
            // What comes before an error is delivered before it.
            Poll::Ready(Err(_) | Ok(None)) | Poll::Pending if !records.is_empty() => break,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            // A reader that follows does not end.
            Poll::Ready(Ok(None)) | Poll::Pending => return Poll::Pending,
        }
    }
    Poll::Ready(Ok(records))
}
