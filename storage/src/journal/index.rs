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
//! | `r`, group, replica | a replica at that segment's end: vote, purged, last, committed, damage |
//! | `j` | the last indexed segment: number, nonce, end, sequence of its last commit |
//!
//! `r` rows and `j` are written in one batch, after all `e` rows. A reader
//! that finds `e` rows of a segment beyond `j` replays that segment and writes
//! the same rows again.

mod keys;
mod rows;

use std::collections::VecDeque;

use bytes::Bytes;
use quipu_protocol::{Index, Term};

use super::entry::{EntryId, ReplicaKey, Vote};
use super::error::Damage;
use super::format::Position;
use super::frame::Change;
use crate::kv::{Batch, Kv, KvError, Space};

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
}

/// A replica as the frames written so far have it.
#[derive(Clone, Debug, Default)]
pub(super) struct FileReplica {
    pub(super) vote: Option<Vote>,
    pub(super) purged: Option<EntryId>,
    pub(super) committed: Option<EntryId>,
    pub(super) last: Option<EntryId>,
    pub(super) damage: Option<Damage>,
    pub(super) retired: bool,
    /// Frames of segments that are not indexed yet, ascending, without gaps.
    pub(super) frames: VecDeque<FrameRef>,
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
                if !follows {
                    return false;
                }
                let end = first.get() + u64::from(count) - 1;
                self.last = Some(EntryId { term: terms.at(u64::from(count) - 1), index: Index::new(end) });
                self.frames.push_back(FrameRef { first, count, length, place, terms });
            }
            Change::Vote(vote) => self.vote = Some(vote),
            Change::Truncate { from, last } => {
                while self.frames.back().is_some_and(|frame| frame.first >= from) {
                    self.frames.pop_back();
                }
                if let Some(frame) = self.frames.back_mut().filter(|frame| frame.end() > from) {
                    let kept = from.get() - frame.first.get();
                    frame.count = u32::try_from(kept).expect("less than the count it had");
                }
                self.truncated = Some(self.truncated.map_or(from, |lowest| lowest.min(from)));
                self.last = last.or(self.purged);
            }
            Change::Purge(through) => {
                self.purged = self.purged.max_by_index(through);
                self.last = self.last.max_by_index(through);
                while self.frames.front().is_some_and(|frame| frame.end() <= through.index.next()) {
                    self.frames.pop_front();
                }
            }
            Change::Committed(committed) => self.committed = self.committed.max_by_index(committed),
            Change::StateImage => {}
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
        let frames = self.frames.iter().filter(|frame| frame.place.segment == id).cloned().collect();
        let state = Self { frames: VecDeque::new(), truncated: None, ..*self };
        SealedReplica { key, state, truncated: self.truncated.take(), frames }
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

/// What one replica adds to the index with a segment.
#[derive(Clone, Debug)]
pub(super) struct SealedReplica {
    key: ReplicaKey,
    state: FileReplica,
    truncated: Option<Index>,
    frames: Vec<FrameRef>,
}

/// Up to where the index is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Indexed {
    pub(super) segment: u64,
    pub(super) nonce: u64,
    /// Where the segment ends.
    pub(super) end: u64,
    /// Of its last commit.
    pub(super) sequence: u64,
}

/// Adds a sealed segment's rows; durable after the next flush.
pub(super) fn add_segment(kv: &dyn Kv, replicas: &[SealedReplica], indexed: Indexed) -> Result<(), KvError> {
    let mut rows = Batch::new();
    let mut heads = Batch::new();
    for replica in replicas {
        replica.add(kv, &mut rows, &mut heads)?;
        if rows.len() >= ROWS {
            kv.write(std::mem::take(&mut rows))?;
        }
    }
    kv.write(rows)?;
    heads.put(Space::Index, keys::INDEXED, rows::indexed(&indexed));
    kv.write(heads)
}

impl SealedReplica {
    /// Whose it is.
    pub(super) fn key(&self) -> ReplicaKey {
        self.key
    }

    fn add(&self, kv: &dyn Kv, rows: &mut Batch, heads: &mut Batch) -> Result<(), KvError> {
        let key = self.key;
        let (first, end) = (keys::frame(key, 0), keys::frame(key, u64::MAX));
        if self.state.retired {
            rows.delete_range(Space::Index, first, end);
            heads.delete(Space::Index, keys::replica(key));
            return Ok(());
        }
        if let Some(purged) = self.state.purged {
            // The row that holds the first entry left stays, and so does
            // everything after it.
            let floor = keys::frame(key, purged.index.get() + 1);
            if let Some((row, _)) = kv.last_before(Space::Index, &first, &floor)? {
                rows.delete_range(Space::Index, first, row);
            }
        }
        if let Some(from) = self.truncated {
            rows.delete_range(Space::Index, keys::frame(key, from.get()), end);
        }
        for frame in &self.frames {
            rows.put(Space::Index, keys::frame(key, frame.first.get()), rows::frame(frame));
        }
        heads.put(Space::Index, keys::replica(key), rows::replica(&self.state));
        Ok(())
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

/// The indexed frame that holds `index`; a row that is not legible is none.
pub(super) fn frame_of(kv: &dyn Kv, key: ReplicaKey, index: Index) -> Result<Option<FrameRef>, KvError> {
    let row = kv.last_before(Space::Index, &keys::frame(key, 0), &keys::frame(key, index.get()))?;
    let frame = row.and_then(|(row_key, row)| rows::read_frame(&row_key, &row));
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
    Ok(page.iter().map_while(|(row_key, row)| rows::read_frame(row_key, row)).collect())
}
