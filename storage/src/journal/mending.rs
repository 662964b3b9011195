//! Brings back what rotted, from entries that somebody else has.
//!
//! ```text
//!   survey: read all that the replica has ─► wounds ─► entries from a peer
//!        ▲                                                 │ same ids, lengths and checksum
//!        │                                                 ▼ as the frame's own header says
//!        └────────────────────────────────── Frame::Relocated, at the journal's end
//!   nothing wounded ─► Frame::Mended: what was found counts no more
//! ```
//!
//! Of two frames with the same entries the later one counts; until the index
//! says so, too, reads are redirected.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use quipu_protocol::{Index, point};

use super::Done;
use super::driver::Shared;
use super::entry::{Entry, EntryId, ReplicaKey};
use super::error::{Damage, DamagedPart, JournalError, ReadError};
use super::format::{FrameHeader, payload_checksum};
use super::frame::{self, Frame};
use super::index::{self, FrameRef};
use super::manifest::Segment;
use super::reader::{NONE, clip, given_up, looked_through, put_in_place};
use super::state::Replica;
use crate::disk::{AlignedBuffer, Lane, Operation, Outcome};

/// How many frames one call surveys, and how many bytes of them, but always one
/// frame.
const SURVEY_FRAMES: usize = 256;
/// See [`SURVEY_FRAMES`].
const SURVEY_BYTES: u64 = 16 * 1024 * 1024;

/// What a survey found so far.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// What is damaged, in order.
    pub wounds: Vec<Wound>,
    /// Where the next call goes on; `None` when all was looked at.
    pub next: Option<Index>,
}

/// Entries of a replica that are damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wound {
    /// What is damaged.
    pub damage: Damage,
    /// The first of them that is needed.
    pub first: Index,
    /// The index behind the last.
    pub end: Index,
    /// The ids of those that are needed.
    pub ids: Vec<EntryId>,
    /// Whether what is left tells what they were, so that
    /// [`Journal::mend`](super::Journal::mend) can take them from elsewhere.
    pub mendable: bool,
}

/// Called once with what was found.
pub type SurveyDone = Box<dyn FnOnce(Result<Survey, ReadError>) + Send>;

/// Called once, when mended entries are on stable storage or will not be.
pub type MendDone = Box<dyn FnOnce(Result<(), MendError>) + Send>;

/// Why entries were not taken in place of damaged ones. Nothing was changed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum MendError {
    /// They are not what was damaged.
    #[error("entry {index} is not what was written here: {reason}")]
    Differs {
        /// Which entry.
        index: Index,
        /// What differs.
        reason: &'static str,
    },
    /// What was damaged cannot be looked at.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// They were not written.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

impl Shared {
    /// See [`Journal::survey`](super::Journal::survey).
    pub(super) fn survey(self: &Arc<Self>, key: ReplicaKey, from: Index, done: SurveyDone) {
        let surveyor = self.clone();
        self.on_read_lane(move || surveyor.survey_portion(key, from), |error| Err(error.into()), done);
    }

    /// See [`Journal::mend`](super::Journal::mend).
    pub(super) fn mend(self: &Arc<Self>, key: ReplicaKey, entries: Vec<Entry>, done: MendDone) {
        let (checker, mender) = (self.clone(), self.clone());
        let check = move || checker.check_mending(key, entries);
        let stage = Box::new(move |checked: Result<Vec<Entry>, MendError>| match checked {
            Ok(entries) => mender.stage_mended(key, entries, done),
            Err(error) => done(Err(error)),
        });
        self.on_read_lane(check, |error| Err(MendError::Read(error.into())), stage);
    }

    /// Runs `work` where reads are done, with its segments kept.
    fn on_read_lane<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce() -> T + Send + 'static,
        refused: impl FnOnce(LaneRefused) -> T + Send + 'static,
        done: Box<dyn FnOnce(T) + Send>,
    ) {
        let read = self.lock().read_began();
        let ended = self.clone();
        let (send, receive) = std::sync::mpsc::sync_channel(1);
        let task = Operation::Task(Box::new(move || {
            let _ = send.send(work());
        }));
        let completion = Box::new(move |ran: io::Result<Outcome>| {
            ended.read_ended(read);
            done(match ran {
                Err(error) => refused(LaneRefused(ReadError::Disk(Arc::new(error)))),
                Ok(_) => receive.recv().unwrap_or_else(|_| refused(LaneRefused(given_up()))),
            });
        });
        self.disk.submit(Lane::Read, task, completion);
    }

    fn survey_portion(&self, key: ReplicaKey, from: Index) -> Result<Survey, ReadError> {
        let mut survey = Survey::default();
        // What is left of the entries says nothing of what recovery could not read.
        let lost = self.lock().replicas.get(&key).and_then(Replica::lost);
        if let Some(damage) = lost.filter(|_| from == Index::new(0)) {
            let first = damage.index.unwrap_or_default();
            survey.wounds.push(Wound { damage, first, end: first.next(), ids: Vec::new(), mendable: false });
        }
        let image = self.lock().replicas.get(&key).and_then(Replica::image);
        if let Some(image) = image.filter(|_| from == Index::new(0)) {
            match self.image(key, &image) {
                Ok(_) => {}
                Err(ReadError::Damaged { damage, .. }) => survey.wounds.push(Wound {
                    damage,
                    first: image.at.index,
                    end: image.at.index.next(),
                    ids: vec![image.at],
                    mendable: false,
                }),
                Err(error) => return Err(error),
            }
        }
        let held = self.held(key, from)?;
        let (mut bytes, mut buffer) = (0, AlignedBuffer::new());
        let mut next = held.start;
        for frame in &held.frames {
            if bytes >= SURVEY_BYTES {
                survey.next = Some(next);
                return Ok(survey);
            }
            bytes += u64::from(frame.length);
            let first = frame.first.max(held.start);
            if held.anchored && next < first {
                let damage = Damage {
                    segment: frame.place.segment,
                    byte: frame.place.byte,
                    index: Some(next),
                    part: DamagedPart::Missing,
                };
                survey.wounds.push(Wound { damage, first: next, end: first, ids: Vec::new(), mendable: false });
            }
            let missing = ReadError::Missing { key, index: frame.first };
            let segment = self.lock().segments.get(&frame.place.segment).copied().ok_or(missing)?;
            match self.read_frame(segment, key, frame, first, &mut buffer) {
                Ok(_) => {}
                Err(ReadError::Damaged { damage, .. }) => {
                    let ids = (first.get()..frame.end().get()).filter_map(|it| frame.entry_id(Index::new(it)));
                    let mendable = damage.part.is_mendable();
                    survey.wounds.push(Wound { damage, first, end: frame.end(), ids: ids.collect(), mendable });
                }
                Err(error) => return Err(error),
            }
            next = frame.end();
        }
        if held.frames.is_empty() && held.start < held.end {
            let damage = Damage { segment: 0, byte: 0, index: Some(held.start), part: DamagedPart::Missing };
            let Held { start, end, .. } = held;
            survey.wounds.push(Wound { damage, first: start, end, ids: Vec::new(), mendable: false });
            return Ok(survey);
        }
        survey.next = (next < held.end).then_some(next);
        Ok(survey)
    }

    /// The frames that a replica has on stable storage from `from` on, some of
    /// them.
    fn held(&self, key: ReplicaKey, from: Index) -> Result<Held, ReadError> {
        let state = self.lock();
        let replica = state.replicas.get(&key).ok_or(ReadError::UnknownReplica { key })?;
        let purged = replica.purged();
        let start = purged.map_or(from, |purged| from.max(purged.index.next()));
        // What is not there yet is in memory, and cannot have rotted.
        let end = replica.tail.durable(state.synced).map_or(start, |last| last.index.next());
        let mut held = Held { start, end, frames: Vec::new(), anchored: purged.is_some() || from > Index::new(0) };
        if end <= start {
            return Ok(held);
        }
        let frames = &replica.file.frames;
        let first = frames.partition_point(|frame| frame.end() <= start);
        let memory = frames.range(first..).take_while(|frame| frame.first < end);
        let memory: Vec<FrameRef> = memory.take(SURVEY_FRAMES).cloned().collect();
        let memory_start = replica.file.memory_start().map_or(end, |start| start.min(end));
        let moved = replica.moved.clone();
        drop(state);
        if start < memory_start {
            let first = index::frame_of(self.kv.as_ref(), key, start)?;
            let after = if first.is_some() { start.next() } else { start };
            let following = index::frames_from(self.kv.as_ref(), key, after, memory_start, SURVEY_FRAMES)?;
            let looked = looked_through(&following, SURVEY_FRAMES, memory_start);
            held.frames.extend(first.into_iter().chain(following));
            put_in_place(&mut held.frames, &moved, start..looked);
            clip(&mut held.frames, memory_start);
        }
        // Behind the last indexed frame, should there be none at all.
        if held.frames.is_empty() {
            held.frames = memory;
            put_in_place(&mut held.frames, &moved, NONE);
            clip(&mut held.frames, end);
        }
        held.frames.retain(|frame| frame.end() > start && frame.count > 0);
        Ok(held)
    }

    /// The entries as they are to be written, if they are what was damaged.
    fn check_mending(&self, key: ReplicaKey, entries: Vec<Entry>) -> Result<Vec<Entry>, MendError> {
        let differs = |index, reason| MendError::Differs { index, reason };
        let Some(first) = entries.first().map(|entry| entry.id.index) else {
            return Err(differs(Index::new(0), "there is none"));
        };
        let held = self.held(key, first)?;
        let frame = held.frames.first().filter(|frame| frame.first <= first && held.start == first);
        let frame = frame.ok_or_else(|| differs(first, "no frame here holds it"))?;
        let missing = ReadError::Missing { key, index: first };
        let segment = self.lock().segments.get(&frame.place.segment).copied().ok_or(missing)?;
        self.compare(segment, key, frame, entries)
    }

    /// Compares with the frame's own header, which is whole.
    fn compare(
        &self,
        segment: Segment,
        key: ReplicaKey,
        frame: &FrameRef,
        entries: Vec<Entry>,
    ) -> Result<Vec<Entry>, MendError> {
        let first = entries[0].id.index;
        let differs = |index, reason| MendError::Differs { index, reason };
        if entries.len() as u64 != frame.end().get() - first.get() {
            return Err(differs(first, "they are not all that the frame holds"));
        }
        let mut buffer = AlignedBuffer::new();
        let bytes = self.frame_bytes(segment, frame, &mut buffer)?;
        let header = FrameHeader::decode(segment.nonce, frame.place.byte, bytes)
            .filter(|header| header.key == key && header.index == frame.first.get() && header.count >= frame.count)
            .ok_or_else(|| differs(first, "the header that tells what it was is damaged, too"))?;
        let mut given = entries.iter().peekable();
        let mut whole = Vec::new();
        for (index, (term, length)) in (header.index..).zip(header.descriptors(bytes)).take(frame.count as usize) {
            let index = Index::new(index);
            let id = EntryId { term: quipu_protocol::Term::new(term), index };
            // What is purged is not needed, and nobody may have it any more.
            let Some(entry) = given.next_if(|entry| entry.id.index == index) else {
                if index < first {
                    whole.push(Entry { id, payload: Bytes::new() });
                    continue;
                }
                return Err(differs(index, "it is missing"));
            };
            if entry.id != id {
                return Err(differs(index, "it is of another term"));
            }
            if entry.payload.len() as u64 != u64::from(length) {
                return Err(differs(index, "it is of another length"));
            }
            whole.push(entry.clone());
        }
        // The checksum is over all that was written: what was truncated or
        // purged since cannot be had.
        if entries.len() == header.count as usize {
            let payloads: Vec<u8> = whole.iter().flat_map(|entry| entry.payload.iter().copied()).collect();
            if payload_checksum(segment.nonce, &payloads) != header.payload_checksum {
                return Err(differs(first, "the frame's checksum differs"));
            }
        }
        Ok(whole)
    }

    fn stage_mended(self: &Arc<Self>, key: ReplicaKey, entries: Vec<Entry>, done: MendDone) {
        let first = entries.first().map_or(Index::new(0), |entry| entry.id.index);
        let (count, bytes) = (entries.len() as u64, frame::payload_bytes(&entries));
        let shared = self.clone();
        let told = Box::new(move |outcome: Result<(), JournalError>| {
            if outcome.is_ok() {
                let mut state = shared.lock();
                state.counters.mended_entries += count;
                state.counters.mended_bytes += bytes;
                if let Some(replica) = state.replicas.get_mut(&key) {
                    replica.note_moved(first);
                }
                // What could not be read may be written again now.
                state.may_free = true;
                drop(state);
                point!("frame-mended");
            }
            done(outcome.map_err(MendError::from));
        });
        self.stage_for(key, Frame::Relocated(entries), told);
    }

    /// See [`Journal::clear_damage`](super::Journal::clear_damage).
    pub(super) fn clear_damage(self: &Arc<Self>, key: ReplicaKey, findings: u64, done: Done) {
        let mut state = self.lock();
        let Some(replica) = state.replicas.get_mut(&key) else {
            drop(state);
            return done(Ok(()));
        };
        let stays = replica.lost().or_else(|| replica.damage().filter(|_| replica.findings != findings));
        if let Some(damage) = stays {
            drop(state);
            return done(Err(JournalError::Damaged { key, damage }));
        }
        drop(state);
        let shared = self.clone();
        let told = Box::new(move |outcome: Result<(), JournalError>| {
            let mut state = shared.lock();
            let mut found_since = None;
            if let Some(replica) = state.replicas.get_mut(&key).filter(|_| outcome.is_ok()) {
                (replica.blocked, found_since) = (None, replica.found.take());
                found_since = found_since.filter(|_| replica.findings != findings);
            }
            drop(state);
            if let Some(damage) = found_since {
                shared.found(key, damage);
            }
            done(outcome);
        });
        self.stage_for(key, Frame::Mended, told);
    }

    fn stage_for(self: &Arc<Self>, key: ReplicaKey, frame: Frame, done: Done) {
        let staged = self.lock().stage_beside(key, frame, done);
        match staged {
            Ok(()) => self.drive(),
            Err((done, error)) => done(Err(error)),
        }
    }
}

/// A lane did not take the work.
struct LaneRefused(ReadError);

impl From<LaneRefused> for ReadError {
    fn from(refused: LaneRefused) -> Self {
        refused.0
    }
}

/// Frames of a replica.
struct Held {
    /// The first entry that is looked at.
    start: Index,
    /// Behind the last that is on stable storage.
    end: Index,
    frames: Vec<FrameRef>,
    /// Whether `start` has to be there.
    anchored: bool,
}
