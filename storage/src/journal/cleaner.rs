//! Frees the oldest segments: what still lives in them is written once more,
//! at the journal's end.
//!
//! ```text
//!   oldest segment ── living entries, newest votes, … ──► staged like appends,
//!        │                                                rewrite_bytes a commit
//!        │ every segment that holds them again is sealed, indexed and flushed
//!        ▼
//!   let go of (recycling)
//! ```
//!
//! Runs on the background lane, after a segment was sealed; below the low-space
//! mark only where that surely gives more room than it takes (room). One portion
//! is staged at a time and the next one read once that is durable, so that an
//! append never waits for more than one of them.
//!
//! # Invariants
//! - What is written again is what the replica has at that place in the file:
//!   it is checked under the lock under which it is staged.
//! - Reads use the old place until the new one is indexed, or until it is durable
//!   if the old one is to go before that.

use std::collections::BTreeMap;
use std::sync::Arc;

use quipu_protocol::{Index, point};

use super::Done;
use super::driver::Shared;
use super::entry::{Entry, ReplicaKey};
use super::error::{DamagedPart, ReadError};
use super::frame::{self, Frame};
use super::index::{self, FrameRef, Living};
use super::manifest::{Manifest, Segment};
use super::room::Round;
use super::segment::path;
use crate::disk::AlignedBuffer;

/// How many rows of the index, or replicas, are looked at in one go.
const ROWS: usize = 1024;

/// What the cleaner knows.
#[derive(Debug, Default)]
pub(super) struct Cleaner {
    pub(super) living: Living,
    /// The last segment in the index, on stable storage.
    indexed: u64,
    /// Bytes of small facts and images in each segment, when that was sealed.
    facts: BTreeMap<u64, u64>,
    /// Reads with a lower number may use places from before.
    barrier: u64,
    /// All that lives in segments up to here was written again.
    passed: u64,
    pass: Option<Pass>,
    /// How far it is with making room below the low-space mark.
    pub(super) round: Round,
}

/// One segment being rewritten.
#[derive(Clone, Copy, Debug)]
struct Pass {
    segment: Segment,
    stage: Stage,
    /// Whether something has to be looked at again later.
    skipped: bool,
    /// Whether it is part of a [`Round`].
    for_room: bool,
}

impl Pass {
    fn over(segment: Segment, for_room: bool) -> Self {
        Self { segment, stage: Stage::Facts { after: None }, skipped: false, for_room }
    }
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    /// Small facts and images of the replicas after this one.
    Facts { after: Option<ReplicaKey> },
    /// Entries: of this replica from this index on, then of those after it.
    Entries { at: Option<(ReplicaKey, Index)> },
}

/// What became of a step.
enum Step {
    /// Staged; the next step follows when it is durable.
    Staged,
    /// There was nothing to write.
    Nothing,
    /// The pass is over.
    Over,
    /// The pass cannot go on now.
    GivenUp,
}

impl Cleaner {
    pub(super) fn new(living: Living) -> Self {
        Self { living, ..Self::default() }
    }

    /// The index reflects segment `id`, on stable storage, and small facts lay
    /// as in `facts` when that was sealed.
    pub(super) fn indexed(&mut self, id: u64, facts: BTreeMap<u64, u64>, barrier: u64) {
        (self.indexed, self.facts, self.barrier) = (id, facts, barrier);
    }

    /// Whether segment `id` is indexed, and no newest vote, purge point or
    /// image lies in it.
    pub(super) fn is_free_of_facts(&self, id: u64) -> bool {
        id < self.indexed && self.facts.first_key_value().is_none_or(|(first, _)| id < *first)
    }

    /// The first read that goes by what the index says now.
    pub(super) fn barrier(&self) -> u64 {
        self.barrier
    }

    /// Whether anything is known to be indexed.
    pub(super) fn has_indexed(&self) -> bool {
        self.indexed > 0
    }

    /// Whether segment `id` may be let go of once nothing lives in it.
    pub(super) fn is_before_last_indexed(&self, id: u64) -> bool {
        id < self.indexed
    }

    /// Whether a segment is being rewritten.
    pub(super) fn is_at_work(&self) -> bool {
        self.pass.is_some()
    }

    /// Begins with a round's next segment.
    pub(super) fn begin_for_room(&mut self, segment: Segment) {
        self.pass = Some(Pass::over(segment, true));
    }

    /// Gives the pass up, and the round that it was part of.
    fn give_up(&mut self) {
        self.pass = None;
        self.end_round();
    }

    /// Ends the round; a pass that is on its way ends by itself.
    pub(super) fn end_round(&mut self) {
        self.round = Round::Idle;
    }

    /// The segment that should be rewritten now.
    fn next(&self, manifest: &Manifest, config: &super::JournalConfig) -> Option<Segment> {
        let left = || manifest.segments.iter().filter(|it| it.id > self.passed && it.id <= self.indexed);
        let oldest = *left().next()?;
        let share = self.living.share(oldest.id);
        let living = share.living + self.facts.get(&oldest.id).copied().unwrap_or(0);
        let mostly_dead = living * 100 <= oldest.sealed.unwrap_or(0) * (100 - config.mostly_dead_percent);
        let shares = left().map(|segment| self.living.share(segment.id));
        let (held, living) = shares.fold((0, 0), |(held, living), it| (held + it.held, living + it.living));
        let allowed = held * config.max_dead_percent / 100 + config.segment_bytes;
        (mostly_dead || held.saturating_sub(living) > allowed).then_some(oldest)
    }
}

impl Shared {
    /// Lets go of what is dead and rewrites what is mostly so, one portion.
    pub(super) fn clean(self: &Arc<Self>) {
        // The directory may be another one's soon.
        if self.lock().is_closing() {
            return;
        }
        self.let_go();
        if self.begin_pass() {
            self.rewrite();
        }
    }

    /// Begins a pass if there is a reason for one and none is on its way. What
    /// is merely tidy waits while there is little room.
    fn begin_pass(&self) -> bool {
        if self.lock().low_space.is_some() {
            return false;
        }
        let mut background = self.background();
        if background.index_behind || background.cleaner.pass.is_some() {
            return false;
        }
        let next = background.cleaner.next(&background.manifest, &self.config);
        let pass = next.map(|segment| Pass::over(segment, false));
        background.cleaner.pass = pass;
        pass.is_some()
    }

    /// Goes on with the pass until something is staged, or it is over and no
    /// other one is due.
    pub(super) fn rewrite(self: &Arc<Self>) {
        loop {
            let Some(mut pass) = self.background().cleaner.pass else { return };
            let step = match pass.stage {
                // What makes room never takes the last of it.
                _ if pass.for_room && self.look_ahead().is_err() => Step::GivenUp,
                Stage::Facts { after } => self.rewrite_facts(&mut pass, after),
                Stage::Entries { at } => self.rewrite_entries(&mut pass, at),
            };
            let mut background = self.background();
            match step {
                Step::Staged | Step::Nothing => background.cleaner.pass = Some(pass),
                Step::Over => background.cleaner.pass = None,
                Step::GivenUp => background.cleaner.give_up(),
            }
            if matches!(step, Step::Over) && !pass.skipped {
                background.cleaner.passed = pass.segment.id;
            }
            drop(background);
            match step {
                Step::Staged => return self.drive(),
                Step::Nothing => {}
                Step::Over if pass.for_room && self.next_of_round(pass.segment.id) => {}
                Step::Over if pass.for_room || pass.skipped => return,
                Step::Over if self.begin_pass() => {}
                Step::Over | Step::GivenUp => return,
            }
        }
    }

    /// What goes on with the pass once a portion is durable; `moved` are the
    /// frames in it whose old places are to go before the new ones are indexed.
    fn next_portion(self: &Arc<Self>, moved: Vec<(ReplicaKey, Index)>) -> Done {
        let next = self.clone();
        Box::new(move |outcome| {
            if outcome.is_ok() {
                let mut state = next.lock();
                for (key, first) in moved {
                    if let Some(replica) = state.replicas.get_mut(&key) {
                        replica.note_moved(first);
                    }
                }
                drop(state);
                // Without it, the next sealed segment begins anew.
                next.submit_task(Self::rewrite, |shared, _| shared.background().cleaner.give_up());
            }
        })
    }

    /// Votes, purge points, images and findings of damage.
    fn rewrite_facts(self: &Arc<Self>, pass: &mut Pass, after: Option<ReplicaKey>) -> Step {
        let id = pass.segment.id;
        let (keys, over) = self.with_facts(id, after);
        let mut images = Vec::new();
        for key in &keys {
            let image = self.lock().replicas.get(key).and_then(|replica| replica.image_through(id));
            let Some(image) = image else { continue };
            match self.image(*key, &image) {
                Ok(bytes) => images.push((*key, image.at, bytes)),
                Err(error) => return self.unreadable(pass, *key, None, &error),
            }
        }
        pass.stage = match keys.last() {
            Some(last) if !over => Stage::Facts { after: Some(*last) },
            _ => Stage::Entries { at: None },
        };
        // A vote that comes in between is newer, and has to come after: what
        // is the newest is asked under the lock under which it is staged.
        let mut state = self.lock();
        let mut frames = Vec::new();
        for key in keys {
            let Some(replica) = state.replicas.get(&key) else { continue };
            frames.extend(replica.facts_through(id).into_iter().map(|frame| (key, frame)));
        }
        for (key, at, image) in images {
            if state.replicas.get(&key).is_some_and(|replica| replica.wants_image(at)) {
                frames.push((key, Frame::StateImage { at, image }));
            } else {
                pass.skipped = true;
            }
        }
        if frames.is_empty() {
            return Step::Nothing;
        }
        if state.stage_again(frames, self.next_portion(Vec::new())) { Step::Staged } else { Step::GivenUp }
    }

    /// Replicas after `after` with a small fact or an image in a segment
    /// through `id`, a portion of them, and whether they are the last.
    fn with_facts(&self, id: u64, after: Option<ReplicaKey>) -> (Vec<ReplicaKey>, bool) {
        use std::ops::Bound::{Excluded, Unbounded};
        let state = self.lock();
        let (mut keys, mut bytes) = (Vec::new(), 0);
        for (key, replica) in state.replicas.range((after.map_or(Unbounded, Excluded), Unbounded)) {
            let image = replica.image_through(id);
            if image.is_none() && replica.facts_through(id).is_empty() {
                continue;
            }
            if keys.len() >= ROWS || bytes >= self.config.rewrite_bytes {
                return (keys, false);
            }
            bytes += image.map_or(0, |image| u64::from(image.length));
            keys.push(*key);
        }
        (keys, true)
    }

    /// Living entries.
    fn rewrite_entries(self: &Arc<Self>, pass: &mut Pass, at: Option<(ReplicaKey, Index)>) -> Step {
        let found = match self.living_frames(pass.segment.id, at, self.config.rewrite_bytes) {
            Ok(found) => found,
            Err(error) => {
                tracing::error!(%error, "cannot tell what lives in a journal segment");
                return Step::GivenUp;
            }
        };
        let mut read = Vec::new();
        let mut buffer = AlignedBuffer::new();
        for (key, frame) in found.frames {
            match self.lock().replicas.get(&key).map_or(Some(false), |replica| replica.wants(&frame)) {
                Some(true) => {}
                Some(false) => continue,
                None => {
                    pass.skipped = true;
                    continue;
                }
            }
            match self.read_frame(pass.segment, key, &frame, frame.first, &mut buffer) {
                Ok(mut entries) => {
                    entries.truncate(frame.count as usize);
                    read.push((key, frame, entries));
                }
                Err(error) => match self.unreadable(pass, key, Some(&frame), &error) {
                    Step::Nothing => {}
                    step => return step,
                },
            }
        }
        let Some(next) = found.next else {
            return match self.stage_entries(pass, read) {
                // The last portion: an empty page ends the pass.
                Step::Nothing => Step::Over,
                step => {
                    pass.stage = Stage::Entries { at: Some((LAST, Index::new(u64::MAX))) };
                    step
                }
            };
        };
        pass.stage = Stage::Entries { at: Some(next) };
        self.stage_entries(pass, read)
    }

    fn stage_entries(self: &Arc<Self>, pass: &mut Pass, read: Vec<(ReplicaKey, FrameRef, Vec<Entry>)>) -> Step {
        let (mut frames, mut moved) = (Vec::new(), Vec::new());
        let mut bytes = 0;
        // What is staged has to hold at that very place in the file: nothing
        // comes between the last look and the staging.
        let mut state = self.lock();
        for (key, frame, entries) in read {
            match state.replicas.get(&key).map_or(Some(false), |replica| replica.wants(&frame)) {
                Some(true) => {
                    bytes += frame::payload_bytes(&entries);
                    frames.push((key, Frame::Relocated(entries)));
                    moved.extend(pass.for_room.then_some((key, frame.first)));
                }
                Some(false) => {}
                None => pass.skipped = true,
            }
        }
        if frames.is_empty() {
            return Step::Nothing;
        }
        if !state.stage_again(frames, self.next_portion(moved)) {
            return Step::GivenUp;
        }
        state.counters.relocated_bytes += bytes;
        point!("entry-relocated");
        Step::Staged
    }

    /// The next living frames of a segment, until they come to `portion_bytes`.
    pub(super) fn living_frames(
        &self,
        id: u64,
        at: Option<(ReplicaKey, Index)>,
        portion_bytes: u64,
    ) -> Result<Portion, crate::kv::KvError> {
        let kv = self.kv.as_ref();
        let mut portion = Portion { frames: Vec::new(), next: None };
        let mut bytes = 0;
        // The replica that the last portion ended in comes once more.
        let mut resume = at;
        let mut after = at.and_then(|(key, _)| before(key));
        loop {
            let page = index::sealed_in(kv, id, after, ROWS)?;
            for (key, first, end) in &page {
                let from = resume.take().filter(|(at, _)| at == key).map_or(*first, |(_, from)| from.max(*first));
                let mut next = from;
                while next < *end {
                    let frames = index::frames_from(kv, *key, next, *end, ROWS)?;
                    let count = frames.len();
                    let last = frames.last().map(|frame| frame.first);
                    for frame in frames.into_iter().filter(|frame| frame.place.segment == id) {
                        if bytes >= portion_bytes {
                            portion.next = Some((*key, frame.first));
                            return Ok(portion);
                        }
                        bytes += u64::from(frame.length);
                        portion.frames.push((*key, frame));
                    }
                    match last {
                        Some(last) if count == ROWS => next = last.next(),
                        _ => break,
                    }
                }
            }
            match page.last() {
                Some((last, ..)) if page.len() == ROWS => after = Some(*last),
                _ => return Ok(portion),
            }
        }
    }

    /// What is rotten is held against its replica, and what happens next is the
    /// node's choice: a payload may come back from a peer, which needs to know
    /// what it was. Where nobody has asked to hear of it, and where nothing can
    /// come back, it is dropped: the finding itself was written again. What the
    /// disk does not give now is tried again with the next pass.
    fn unreadable(self: &Arc<Self>, pass: &Pass, key: ReplicaKey, frame: Option<&FrameRef>, error: &ReadError) -> Step {
        let path = path(pass.segment.id);
        let ReadError::Damaged { damage, .. } = error else {
            tracing::error!(%error, path, %key, "what cannot be read now is not written again: the segment stays");
            return Step::GivenUp;
        };
        self.found(key, *damage);
        let waits = self.hooks.damage.get().is_some();
        let Some(frame) = frame.filter(|_| !waits || damage.part != DamagedPart::Payload) else {
            return Step::GivenUp;
        };
        let mut background = self.background();
        match index::forget_frame(self.kv.as_ref(), &mut background.cleaner.living, key, frame) {
            Ok(()) => Step::Nothing,
            Err(_) => Step::GivenUp,
        }
    }
}

/// Some of a segment's living frames, and where to go on.
pub(super) struct Portion {
    pub(super) frames: Vec<(ReplicaKey, FrameRef)>,
    pub(super) next: Option<(ReplicaKey, Index)>,
}

/// Above every replica's key.
const LAST: ReplicaKey =
    ReplicaKey { group: quipu_protocol::LogId::new(u64::MAX), replica: quipu_protocol::ReplicaId::new(u64::MAX) };

/// The key before `key`, if there is one.
fn before(key: ReplicaKey) -> Option<ReplicaKey> {
    use quipu_protocol::{LogId, ReplicaId};
    match (key.replica.get().checked_sub(1), key.group.get().checked_sub(1)) {
        (Some(replica), _) => Some(ReplicaKey { replica: ReplicaId::new(replica), ..key }),
        (None, Some(group)) => Some(ReplicaKey { group: LogId::new(group), replica: ReplicaId::new(u64::MAX) }),
        (None, None) => None,
    }
}
