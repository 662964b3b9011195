//! Gives room back below the low-space mark, where next to nothing is written
//! that would fill the open segment and let others go.
//!
//! ```text
//!   what is it worth? ─► what lives in the oldest segments ─► durable and marked
//!   └ counted before     is written again (cleaner)            │ reads from before are over
//!     anything is done                                         ▼
//!                                                            let go of (recycling)
//! ```
//!
//! What is written again goes into segments that are there, and the open one is
//! not sealed for it; or into one more that takes of what the mark keeps, which
//! comes back with the first that is let go of. Until a segment is sealed, the rows
//! of the index name places that are gone: of what is purged, which nobody asks
//! for, and of what was written again, which is known to have moved.
//!
//! # Invariants
//! - Rounds that follow each other gain at least a quarter of a segment and a
//!   sixteenth of what they let go of, and leave an eighth of a segment to small
//!   writes.
//! - What is let go of has nothing that a start after a crash would miss: all
//!   that lived in it lies in a later segment, behind a mark.

use std::collections::BTreeMap;
use std::sync::Arc;

use quipu_protocol::point;

use super::committer::Event;
use super::driver::Shared;
use super::index;
use super::packing::Packing;
use crate::kv::KvError;

/// How many bytes of frames are looked at in one go.
const LOOK_BYTES: u64 = 4 << 20;

/// No more is written again than so many segments hold for what lies behind them.
const REWRITTEN_SEGMENTS: u64 = 16;

/// Small facts and images are taken for frames of so many bytes.
const FACTS_PIECE: u64 = 4 << 10;

/// What is let go of has to gain at least one in so many bytes. Else appends stay
/// refused, so that much is written again for little.
const WORTH: u64 = 16;

/// How far a round is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Round {
    /// There is none.
    #[default]
    Idle,
    /// What lives in the segments up to this one is being written again.
    Writing { through: u64 },
    /// It was.
    Written { through: u64 },
    /// Nothing lives in them, once what was staged up to this frame is marked.
    Settling { through: u64, frame: u64 },
    /// Nothing lives in them, but reads with a lower number may be on their way.
    Dead { through: u64, barrier: u64 },
}

impl Shared {
    /// Goes on with the round, as far as that is possible now. On the background
    /// lane.
    pub(super) fn make_room(self: &Arc<Self>) {
        let mut state = self.lock();
        state.making_room = false;
        let (low, writing) = (state.low_space.is_some(), state.is_writing());
        drop(state);
        if !writing || self.background().index_behind {
            return;
        }
        if !low {
            // What is appended fills segments, which lets others go.
            self.background().cleaner.end_round();
            return;
        }
        if let Err(error) = self.go_on() {
            tracing::error!(%error, "cannot tell what lives in the journal's segments");
        }
    }

    fn go_on(self: &Arc<Self>) -> Result<(), KvError> {
        self.learn_what_is_indexed()?;
        self.let_go();
        loop {
            let round = self.background().cleaner.round;
            tracing::debug!(?round, "making room");
            match round {
                Round::Idle => self.begin_round()?,
                Round::Writing { .. } => {}
                Round::Written { through } => self.find_dead(through)?,
                Round::Settling { through, frame } => self.settle(through, frame),
                Round::Dead { through, barrier } => self.let_go_through(through, barrier),
            }
            if self.background().cleaner.round == round {
                return Ok(());
            }
        }
    }

    /// After a start nothing was sealed yet that would have told.
    fn learn_what_is_indexed(&self) -> Result<(), KvError> {
        let mut background = self.background();
        if background.cleaner.has_indexed() {
            return Ok(());
        }
        let kv = self.kv.as_ref();
        let (Some(indexed), Some(replicas)) = (index::indexed(kv)?, index::replicas(kv)?) else { return Ok(()) };
        let mut facts = BTreeMap::new();
        for (segment, bytes) in replicas.iter().flat_map(|(_, replica)| replica.facts()) {
            *facts.entry(segment).or_default() += bytes;
        }
        background.cleaner.indexed(indexed.segment, facts, 0);
        Ok(())
    }

    /// Begins a round if something has changed since none was worth it.
    fn begin_round(self: &Arc<Self>) -> Result<(), KvError> {
        if self.background().cleaner.is_at_work() || !std::mem::take(&mut self.lock().may_free) {
            return Ok(());
        }
        let Some(through) = self.worth_rewriting()? else { return Ok(()) };
        point!("room-round");
        self.background().cleaner.round = Round::Writing { through };
        if self.next_of_round(0) {
            self.rewrite();
        }
        Ok(())
    }

    /// Up to which segment to write again what lives now: as much as there is room
    /// for, if it is worth it to go on until something comes back.
    fn worth_rewriting(&self) -> Result<Option<u64>, KvError> {
        let segment_bytes = self.config.segment_bytes;
        let candidates = self.background().let_go_next();
        let state = self.lock();
        let mut packing = state.committer.packing();
        let (start, spares) = (packing.reached(), state.committer.spares() as u64);
        let low = state.low_space;
        let segments = spares + low.map_or(0, |low| self.reserve(low));
        let facts = state.facts();
        drop(state);
        let missing = low.map_or(0, |low| low.bound.saturating_sub(low.free));
        let (mut written, mut freed) = (0, 0);
        let (mut fitting, mut best) = (None, None);
        for segment in candidates {
            let facts = facts.get(&segment.id).copied().unwrap_or(0);
            let Some(living) = self.pack(segment.id, facts, &mut packing)? else { break };
            (written, freed) = (packing.reached() - start, freed + segment.bytes);
            if written > REWRITTEN_SEGMENTS * segment_bytes {
                break;
            }
            if packing.segments() + u64::from(packing.left() < segment_bytes / 8) <= segments {
                fitting = Some(segment.id);
            }
            let gained = freed.saturating_sub(written);
            // The last one contributes, too.
            let contributes = living <= segment.bytes - segment.bytes / WORTH;
            if gained >= segment_bytes / 4 && gained >= freed / WORTH && contributes {
                best = Some(segment.id);
                if gained >= missing.saturating_add(segment_bytes) {
                    break;
                }
            }
        }
        let through = fitting.zip(best).map(|(fitting, best)| best.min(fitting));
        tracing::debug!(segments, written, freed, ?through, "what making room would give");
        Ok(through)
    }

    /// Puts into `packing` what lives in segment `id`, `facts` bytes of small facts
    /// and images among it, as it would be written again; returns how many bytes
    /// it has, or `None` if that cannot be told.
    fn pack(&self, id: u64, facts: u64, packing: &mut Packing) -> Result<Option<u64>, KvError> {
        let mut living = facts;
        let pack = |packing: &mut Packing, length| {
            packing.add(length) || {
                packing.roll(self.config.segment_bytes);
                // Larger ones may have been configured once.
                packing.add(length)
            }
        };
        let mut left = facts;
        while left > 0 {
            let piece = left.min(FACTS_PIECE);
            if !pack(packing, piece) {
                return Ok(None);
            }
            left -= piece;
        }
        let mut at = None;
        loop {
            // As much as goes into one commit.
            let portion = self.living_frames(id, at, self.config.rewrite_bytes)?;
            let state = self.lock();
            for (key, frame) in portion.frames {
                match state.replicas.get(&key).map_or(Some(false), |replica| replica.needs(&frame)) {
                    Some(true) => {
                        let length = u64::from(frame.length);
                        living += length;
                        if !pack(packing, length) {
                            return Ok(None);
                        }
                    }
                    Some(false) => {}
                    None => return Ok(None),
                }
            }
            packing.end_commit();
            drop(state);
            at = portion.next;
            if at.is_none() {
                return Ok(Some(living));
            }
        }
    }

    /// Whether something lives in segment `id`, or that cannot be told.
    fn may_live(&self, id: u64) -> Result<bool, KvError> {
        let mut at = None;
        loop {
            let portion = self.living_frames(id, at, LOOK_BYTES)?;
            let state = self.lock();
            let lives = |key, frame| state.replicas.get(key).is_some_and(|it| it.needs(frame) != Some(false));
            if portion.frames.iter().any(|(key, frame)| lives(key, frame)) {
                return Ok(true);
            }
            drop(state);
            at = portion.next;
            if at.is_none() {
                return Ok(false);
            }
        }
    }

    /// Lets the cleaner begin with the round's next segment after `done`, if
    /// there is one.
    pub(super) fn next_of_round(self: &Arc<Self>, done: u64) -> bool {
        let mut background = self.background();
        let Round::Writing { through } = background.cleaner.round else { return false };
        let next = background.manifest.segments.iter().find(|it| done < it.id && it.id <= through).copied();
        if let Some(segment) = next {
            background.cleaner.begin_for_room(segment);
            return true;
        }
        background.cleaner.round = Round::Written { through };
        drop(background);
        self.mark();
        false
    }

    fn mark(self: &Arc<Self>) {
        self.lock().step(Event::MarkWanted);
        self.drive();
    }

    /// Finds out which of the segments through `through` hold nothing any more.
    fn find_dead(&self, through: u64) -> Result<(), KvError> {
        let first_with_facts = self.lock().facts().first_key_value().map_or(u64::MAX, |(first, _)| *first);
        let candidates = self.background().let_go_next();
        let mut dead = None;
        for segment in candidates.iter().take_while(|it| it.id <= through && it.id < first_with_facts) {
            if self.may_live(segment.id)? {
                break;
            }
            dead = Some(segment.id);
        }
        let mut background = self.background();
        // A purge may just have been staged; what is dead stays so.
        let frame = self.lock().committer.staged_through();
        background.cleaner.round = dead.map_or(Round::Idle, |through| Round::Settling { through, frame });
        Ok(())
    }

    /// Waits until no crash brings anything back that lay in the segments.
    fn settle(self: &Arc<Self>, through: u64, frame: u64) {
        let mut background = self.background();
        let state = self.lock();
        if state.committer.marked_through() >= frame {
            background.cleaner.round = Round::Dead { through, barrier: state.next_read };
            return;
        }
        drop((state, background));
        self.mark();
    }

    fn let_go_through(self: &Arc<Self>, through: u64, barrier: u64) {
        if self.lock().reads_before(barrier) {
            return;
        }
        loop {
            let oldest = self.background().let_go_next().first().copied().filter(|oldest| oldest.id <= through);
            let Some(oldest) = oldest else { break };
            if let Err(error) = self.let_go_of(oldest) {
                tracing::error!(%error, segment = oldest.id, "cannot let go of a journal segment");
                return;
            }
            point!("room-made");
        }
        self.background().cleaner.round = Round::Idle;
        // There may be room now for what was too much before.
        self.lock().may_free = true;
    }
}
