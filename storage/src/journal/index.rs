//! Where entries lie: frames of the segments that are not indexed yet in
//! memory, those of sealed ones in [`Space::Index`].
//!
//! ```text
//!   sealed and indexed            │ sealed, being indexed │ open
//!   Kv rows, as of a segment's end│ in memory, in file order
//!                                 └ [`FileReplica::frames`]
//! ```
//!
//! What is in memory is always the state after the last *written* frame, in
//! file order; what is staged is none of its business. Rows are put together
//! when a segment is sealed, before any frame of the next one is applied, so
//! that the rows of a segment and a replay of the segments after it give the
//! same as a replay of all.
//!
//! Rows of [`Space::Index`]:
//!
//! | key | value |
//! |---|---|
//! | `e`, group, replica, first index (big-endian u64 each) | a frame: segment, byte, length, count, runs of terms |
//! | `r`, group, replica | a replica at that segment's end: vote, purged, last, committed, damage, image, and where they lie |
//! | `s`, segment | bytes of its frames of entries, and of those among them that are living |
//! | `t`, segment, group, replica | the entries of the replica that the segment was sealed with: first, end |
//! | `j` | version, and the last indexed segment: number, nonce, end, sequence of its last commit |
//!
//! `r` rows and `j` are written in one batch, after all `e` rows. A reader
//! that finds `e` rows of a segment beyond `j` replays that segment and writes
//! the same rows again.
//!
//! **A frame is living as long as it has its row.** A row goes when its last
//! entry is purged or truncated, and points elsewhere once the frame was
//! relocated: the same key, a later place. Until then reads use the old place, but
//! where that is to go before the new one is indexed ([`super::room`]): then it is
//! known to have moved, and its row, if there is one, names a place that is gone.

mod keys;
mod living;
mod rows;
mod sealed;

use std::collections::VecDeque;

use bytes::Bytes;
use quipu_protocol::{Index, Term};

pub(super) use living::Living;
pub(super) use sealed::{Indexed, SealedReplica, add_segment};

use super::entry::{EntryId, ReplicaKey, Vote};
use super::error::Damage;
use super::format::{DIRECTORY_ITEM, FRAME_HEADER, Position};
use super::frame::Change;
use crate::kv::{Batch, Kv, KvError, Space};

/// A small frame with its item in the commit's directory.
const SMALL_FACT_BYTES: u64 = (FRAME_HEADER + DIRECTORY_ITEM) as u64;

/// How many rows are written or read at once.
const ROWS: usize = 10_000;

/// The terms of contiguous entries, as runs: nearly always one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Terms {
    /// All of one term.
    One(Term),
    /// Runs of (count, term).
    Runs(Box<[(u32, Term)]>),
}

impl Terms {
    /// The terms of entries one after another, at least one.
    pub(super) fn of(terms: impl IntoIterator<Item = Term>) -> Self {
        let mut runs: Vec<(u32, Term)> = Vec::new();
        for term in terms {
            match runs.last_mut() {
                Some((count, last)) if *last == term => *count += 1,
                _ => runs.push((1, term)),
            }
        }
        match runs[..] {
            [] => Self::One(Term::default()),
            [(_, term)] => Self::One(term),
            _ => Self::Runs(runs.into()),
        }
    }

    /// The term of the entry `ordinal` entries after the first.
    pub(super) fn at(&self, ordinal: u64) -> Term {
        match self {
            Self::One(term) => *term,
            Self::Runs(runs) => {
                let mut rest = ordinal;
                for (count, term) in runs {
                    match rest.checked_sub(u64::from(*count)) {
                        None => return *term,
                        Some(after) => rest = after,
                    }
                }
                runs.last().map_or(Term::default(), |(_, term)| *term)
            }
        }
    }
}

/// Where a frame of entries lies, and which ones it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FrameRef {
    pub(super) first: Index,
    /// How many of its entries count, from the first on: a truncation may have
    /// taken some at the end.
    pub(super) count: u32,
    /// Its bytes in the segment, padding included.
    pub(super) length: u32,
    pub(super) place: Position,
    pub(super) terms: Terms,
}

impl FrameRef {
    /// The index after its last entry.
    pub(super) fn end(&self) -> Index {
        Index::new(self.first.get() + u64::from(self.count))
    }

    /// The id of its entry at `index`, if it has that one.
    pub(super) fn entry_id(&self, index: Index) -> Option<EntryId> {
        let ordinal = index.get().checked_sub(self.first.get())?;
        (ordinal < u64::from(self.count)).then(|| EntryId { term: self.terms.at(ordinal), index })
    }

    /// Drops its entries from `from` on; false if none is left.
    fn truncate(&mut self, from: Index) -> bool {
        let kept = from.get().saturating_sub(self.first.get());
        self.count = self.count.min(u32::try_from(kept).unwrap_or(u32::MAX));
        self.count > 0
    }
}

/// Where a replica's newest state image lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ImageRef {
    /// As of which entry it is.
    pub(super) at: EntryId,
    pub(super) place: Position,
    /// Its frame's bytes.
    pub(super) length: u32,
}

/// In which segments the newest frames of a replica's small facts lie; 0 for
/// none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Homes {
    pub(super) vote: u64,
    pub(super) purged: u64,
    pub(super) committed: u64,
    pub(super) damage: u64,
}

impl Homes {
    /// Those that hold something.
    fn used(self) -> impl Iterator<Item = u64> {
        [self.vote, self.purged, self.committed, self.damage].into_iter().filter(|segment| *segment > 0)
    }
}

/// A replica as the frames written so far have it.
#[derive(Clone, Debug, Default)]
pub(super) struct FileReplica {
    pub(super) vote: Option<Vote>,
    pub(super) purged: Option<EntryId>,
    pub(super) committed: Option<EntryId>,
    pub(super) last: Option<EntryId>,
    pub(super) damage: Option<Damage>,
    /// Whether recovery came across something that it could not read and nobody
    /// can bring back.
    lost: bool,
    pub(super) retired: bool,
    pub(super) image: Option<ImageRef>,
    pub(super) homes: Homes,
    /// Whether `last` is known and not only bounded from below: a replay that
    /// begins in the middle meets purges and relocated entries first.
    anchored: bool,
    /// Frames of segments that are not indexed yet, ascending, without gaps.
    pub(super) frames: VecDeque<FrameRef>,
    /// Relocated frames of the segment that is not sealed yet. Reads go on
    /// using their old places until then.
    relocated: Vec<FrameRef>,
    /// The lowest truncation since the last segment was sealed.
    truncated: Option<Index>,
}

impl FileReplica {
    /// Applies one written frame. False if its entries do not follow the last.
    #[must_use]
    pub(super) fn apply(&mut self, change: Change, place: Position, length: u32) -> bool {
        match change {
            Change::Entries { first, count, terms } => {
                let follows = self.last.is_none_or(|last| last.index.next() == first);
                if self.anchored && !follows {
                    return false;
                }
                let end = first.get() + u64::from(count) - 1;
                self.last = Some(EntryId { term: terms.at(u64::from(count) - 1), index: Index::new(end) });
                self.anchored = true;
                self.frames.push_back(FrameRef { first, count, length, place, terms });
            }
            Change::Relocated { first, count, terms } => {
                let end = first.get() + u64::from(count) - 1;
                let last = EntryId { term: terms.at(u64::from(count) - 1), index: Index::new(end) };
                self.last = self.last.max_by_index(last);
                self.relocated.push(FrameRef { first, count, length, place, terms });
            }
            Change::Vote(vote) => {
                self.vote = Some(vote);
                self.homes.vote = place.segment;
            }
            Change::Truncate { from, last } => {
                while self.frames.back().is_some_and(|frame| frame.first >= from) {
                    self.frames.pop_back();
                }
                if let Some(frame) = self.frames.back_mut() {
                    frame.truncate(from);
                }
                self.relocated.retain_mut(|frame| frame.truncate(from));
                self.anchored |= last.is_some();
                self.truncated = Some(self.truncated.map_or(from, |lowest| lowest.min(from)));
                self.last = last.or(self.purged);
            }
            Change::Purge(through) => {
                self.purged = self.purged.max_by_index(through);
                self.last = self.last.max_by_index(through);
                self.homes.purged = place.segment;
                self.relocated.retain(|frame| frame.end() > through.index.next());
                while self.frames.front().is_some_and(|frame| frame.end() <= through.index.next()) {
                    self.frames.pop_front();
                }
            }
            Change::Committed(committed) => {
                self.committed = self.committed.max_by_index(committed);
                self.homes.committed = place.segment;
            }
            Change::StateImage(at) => {
                if self.image.is_none_or(|image| image.at.index <= at.index) {
                    self.image = Some(ImageRef { at, place, length });
                }
            }
            Change::Damaged(damage) => {
                self.damage.get_or_insert(damage);
                self.homes.damage = place.segment;
            }
            Change::Mended => {
                if !self.lost {
                    self.damage = None;
                    self.homes.damage = 0;
                }
            }
            Change::Retire => *self = Self { retired: true, ..Self::default() },
        }
        true
    }

    /// The frame in memory that holds `index`.
    pub(super) fn frame_of(&self, index: Index) -> Option<&FrameRef> {
        let after = self.frames.partition_point(|frame| frame.first <= index);
        self.frames.get(after.checked_sub(1)?).filter(|frame| index < frame.end())
    }

    /// The first index that is found in memory if it is found at all.
    pub(super) fn memory_start(&self) -> Option<Index> {
        self.frames.front().map(|frame| frame.first)
    }

    /// What the index has to take over when segment `id` is sealed, at the
    /// moment when all of its frames, and none of the next one's, were
    /// applied.
    pub(super) fn seal(&mut self, key: ReplicaKey, id: u64) -> SealedReplica {
        let relocated = std::mem::take(&mut self.relocated);
        // What was mended within the segment counts once.
        let is_left = |frame: &&FrameRef| relocated.iter().all(|later| later.first != frame.first);
        let here = self.frames.iter().filter(|frame| frame.place.segment == id);
        let frames = here.filter(is_left).cloned().collect();
        debug_assert!(relocated.iter().all(|frame| frame.place.segment == id), "{key}: sealed one after another");
        let state = Self { frames: VecDeque::new(), relocated: Vec::new(), truncated: None, ..*self };
        SealedReplica { key, state, truncated: self.truncated.take(), frames, relocated }
    }

    /// The lowest truncation that the index does not reflect yet.
    pub(super) fn truncated(&self) -> Option<Index> {
        self.truncated
    }

    /// The relocated frames of the segment that is not sealed yet, oldest first.
    pub(super) fn relocated(&self) -> &[FrameRef] {
        &self.relocated
    }

    /// Holds damage against it that recovery found. Worse than that of a payload
    /// is all other: nobody knows what it said, a vote perhaps, so that nothing
    /// that was mended since takes it back. Of equals the first counts.
    pub(super) fn blame(&mut self, damage: Damage) {
        let is_lost = !damage.part.is_mendable();
        if self.damage.is_none() || (is_lost && !self.lost) {
            self.damage = Some(damage);
            self.homes.damage = damage.segment;
        }
        self.lost |= is_lost;
    }

    /// Where its small facts lie, and how many bytes each takes there.
    pub(super) fn facts(&self) -> impl Iterator<Item = (u64, u64)> {
        let small = self.homes.used().map(|segment| (segment, SMALL_FACT_BYTES));
        small.chain(self.image.map(|image| (image.place.segment, u64::from(image.length))))
    }

    /// Forgets the frames of segments through `id`: the index has them.
    pub(super) fn forget_through(&mut self, id: u64) {
        while self.frames.front().is_some_and(|frame| frame.place.segment <= id) {
            self.frames.pop_front();
        }
    }
}

/// The later of two entries.
trait MaxByIndex {
    fn max_by_index(self, other: EntryId) -> Option<EntryId>;
}

impl MaxByIndex for Option<EntryId> {
    fn max_by_index(self, other: EntryId) -> Option<EntryId> {
        match self {
            Some(one) if one.index >= other.index => Some(one),
            _ => Some(other),
        }
    }
}

/// Removes everything.
pub(super) fn clear(kv: &dyn Kv) -> Result<(), KvError> {
    let mut batch = Batch::new();
    batch.delete_range(Space::Index, Bytes::from_static(&[0]), Bytes::from_static(&[0xFF]));
    kv.write(batch)
}

/// Up to where the index is complete; `None` if it says nothing, or nothing
/// legible.
pub(super) fn indexed(kv: &dyn Kv) -> Result<Option<Indexed>, KvError> {
    Ok(kv.get(Space::Index, keys::INDEXED)?.and_then(|row| rows::read_indexed(&row)))
}

/// All replicas as of the last indexed segment's end; `None` if a row is not
/// legible.
pub(super) fn replicas(kv: &dyn Kv) -> Result<Option<Vec<(ReplicaKey, FileReplica)>>, KvError> {
    let mut found = Vec::new();
    let mut start = Bytes::from_static(b"r");
    loop {
        let page = kv.scan(Space::Index, &start, b"s", ROWS)?;
        for (key, row) in &page {
            let (Some(key), Some(replica)) = (keys::read_replica(key), rows::read_replica(row)) else {
                return Ok(None);
            };
            found.push((key, replica));
        }
        match page.last() {
            Some((last, _)) if page.len() == ROWS => start = [&last[..], &[0]].concat().into(),
            _ => return Ok(Some(found)),
        }
    }
}

/// The indexed frame that holds `index`.
pub(super) fn frame_of(kv: &dyn Kv, key: ReplicaKey, index: Index) -> Result<Option<FrameRef>, KvError> {
    let row = kv.last_before(Space::Index, &keys::frame(key, 0), &keys::frame(key, index.get()))?;
    let frame = row.map(|(row_key, row)| legible_frame(&row_key, &row)).transpose()?;
    Ok(frame.filter(|frame| frame.first <= index && index < frame.end()))
}

/// Whether `row` can be read as a value of any kind; `key` is a frame's.
pub(super) fn legible(key: &[u8], row: &[u8]) -> bool {
    rows::read_frame(key, row).is_some() || rows::read_replica(row).is_some() || rows::read_indexed(row).is_some()
}

/// Up to `limit` indexed frames that begin in `from..until`.
pub(super) fn frames_from(
    kv: &dyn Kv,
    key: ReplicaKey,
    from: Index,
    until: Index,
    limit: usize,
) -> Result<Vec<FrameRef>, KvError> {
    let page = kv.scan(Space::Index, &keys::frame(key, from.get()), &keys::frame(key, until.get()), limit)?;
    page.iter().map(|(row_key, row)| legible_frame(row_key, row)).collect()
}

/// No frame is passed over because its row says nothing: its segment would be
/// let go of.
fn legible_frame(key: &Bytes, row: &[u8]) -> Result<FrameRef, KvError> {
    rows::read_frame(key, row).ok_or_else(|| KvError::Illegible { key: key.clone() })
}

/// The entries with which replicas stand in segment `id`, from the replica
/// after `after` on, up to `limit` of them: replica, first index, end. Some of
/// the entries may be gone, or elsewhere by now.
pub(super) fn sealed_in(
    kv: &dyn Kv,
    id: u64,
    after: Option<ReplicaKey>,
    limit: usize,
) -> Result<Vec<(ReplicaKey, Index, Index)>, KvError> {
    let mut start = keys::sealed(id, after.unwrap_or(keys::FIRST)).to_vec();
    if after.is_some() {
        start.push(0);
    }
    let page = kv.scan(Space::Index, &start, &keys::segment(b't', id + 1), limit)?;
    let read = |key: &Bytes, row: &[u8]| rows::read_sealed(keys::read_sealed(key)?, row);
    page.iter().map(|(key, row)| read(key, row).ok_or_else(|| KvError::Illegible { key: key.clone() })).collect()
}

/// Whether segment `id` holds a living frame of entries.
pub(super) fn is_living(kv: &dyn Kv, id: u64) -> Result<bool, KvError> {
    let mut after = None;
    loop {
        let page = sealed_in(kv, id, after, ROWS)?;
        for (key, first, end) in &page {
            let mut next = *first;
            while next < *end {
                let frames = frames_from(kv, *key, next, *end, ROWS)?;
                if frames.iter().any(|frame| frame.place.segment == id) {
                    return Ok(true);
                }
                match frames.last() {
                    Some(last) if frames.len() == ROWS => next = last.first.next(),
                    _ => break,
                }
            }
        }
        match page.last() {
            Some((last, ..)) if page.len() == ROWS => after = Some(*last),
            _ => return Ok(false),
        }
    }
}

/// Removes the row of a frame that cannot be read and will not be asked for.
pub(super) fn forget_frame(kv: &dyn Kv, living: &mut Living, key: ReplicaKey, frame: &FrameRef) -> Result<(), KvError> {
    let mut batch = Batch::new();
    batch.delete(Space::Index, keys::frame(key, frame.first.get()));
    living.remove(frame);
    living.put_changed(&mut batch);
    kv.write(batch)
}

/// Forgets what was noted of the segments through `id`, which hold nothing
/// any more.
pub(super) fn forget_segments(kv: &dyn Kv, living: &mut Living, id: u64) -> Result<(), KvError> {
    let mut batch = Batch::new();
    living.forget_through(id);
    for tag in [b's', b't'] {
        batch.delete_range(Space::Index, keys::segment(tag, 0), keys::segment(tag, id + 1));
    }
    kv.write(batch)
}
