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

use std::collections::VecDeque;

use bytes::{BufMut, Bytes};
use quipu_protocol::{Index, LogId, ReplicaId, Term};

use super::entry::{EntryId, ReplicaKey, Vote};
use super::error::{Damage, DamagedPart};
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
    /// One of which nothing is known yet, but that it may be damaged.
    pub(super) fn first_seen(damage: Option<Damage>) -> Self {
        Self { damage, ..Self::default() }
    }

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

/// The rows' keys.
mod keys {
    use super::*;

    pub(super) const INDEXED: &[u8] = b"j";

    pub(super) fn frame(key: ReplicaKey, first: u64) -> Bytes {
        let mut bytes = Vec::with_capacity(25);
        put(&mut bytes, b'e', key);
        bytes.put_u64(first);
        bytes.into()
    }

    pub(super) fn replica(key: ReplicaKey) -> Bytes {
        let mut bytes = Vec::with_capacity(17);
        put(&mut bytes, b'r', key);
        bytes.into()
    }

    fn put(bytes: &mut Vec<u8>, tag: u8, key: ReplicaKey) {
        bytes.put_u8(tag);
        bytes.put_u64(key.group.get());
        bytes.put_u64(key.replica.get());
    }

    pub(super) fn read_replica(bytes: &[u8]) -> Option<ReplicaKey> {
        let rest: &[u8; 16] = bytes.strip_prefix(b"r")?.try_into().ok()?;
        let (group, replica) = rest.split_at(8);
        Some(ReplicaKey {
            group: LogId::new(u64::from_be_bytes(group.try_into().ok()?)),
            replica: ReplicaId::new(u64::from_be_bytes(replica.try_into().ok()?)),
        })
    }

    pub(super) fn read_first(bytes: &[u8]) -> Option<Index> {
        let first = bytes.strip_prefix(b"e")?.get(16..24)?;
        Some(Index::new(u64::from_be_bytes(first.try_into().ok()?)))
    }
}

/// The rows' values; numbers are little-endian, as in the journal itself.
mod rows {
    use super::*;

    pub(super) fn frame(frame: &FrameRef) -> Vec<u8> {
        let mut row = Vec::with_capacity(36);
        row.put_u64_le(frame.place.segment);
        row.put_u64_le(frame.place.byte);
        row.put_u32_le(frame.length);
        row.put_u32_le(frame.count);
        match &frame.terms {
            Terms::One(term) => put_run(&mut row, frame.count, *term),
            Terms::Runs(runs) => runs.iter().for_each(|(count, term)| put_run(&mut row, *count, *term)),
        }
        row
    }

    fn put_run(row: &mut Vec<u8>, count: u32, term: Term) {
        row.put_u32_le(count);
        row.put_u64_le(term.get());
    }

    pub(super) fn read_frame(key: &[u8], row: &[u8]) -> Option<FrameRef> {
        let first = keys::read_first(key)?;
        let mut row = Reader(row);
        let place = Position { segment: row.u64()?, byte: row.u64()? };
        let (length, count) = (row.u32()?, row.u32()?);
        let mut runs = Vec::new();
        while !row.0.is_empty() {
            runs.push((row.u32()?, Term::new(row.u64()?)));
        }
        let terms = match runs[..] {
            [] => return None,
            [(_, term)] => Terms::One(term),
            _ => Terms::Runs(runs.into()),
        };
        first.get().checked_add(u64::from(count))?;
        Some(FrameRef { first, count, length, place, terms })
    }

    pub(super) fn replica(replica: &FileReplica) -> Vec<u8> {
        let mut row = Vec::with_capacity(80);
        put_option(&mut row, replica.vote, |row, vote| {
            row.put_u64_le(vote.term.get());
            put_option(row, vote.voted_for, |row, replica| row.put_u64_le(replica.get()));
            row.put_u8(u8::from(vote.committed));
        });
        for id in [replica.purged, replica.last, replica.committed] {
            put_option(&mut row, id, |row, id| {
                row.put_u64_le(id.term.get());
                row.put_u64_le(id.index.get());
            });
        }
        put_option(&mut row, replica.damage, |row, damage| {
            row.put_u64_le(damage.segment);
            row.put_u64_le(damage.byte);
            put_option(row, damage.index, |row, index| row.put_u64_le(index.get()));
            row.put_u8(part_code(damage.part));
        });
        row
    }

    fn put_option<T>(row: &mut Vec<u8>, value: Option<T>, put: impl FnOnce(&mut Vec<u8>, T)) {
        row.put_u8(u8::from(value.is_some()));
        if let Some(value) = value {
            put(row, value);
        }
    }

    pub(super) fn read_replica(row: &[u8]) -> Option<FileReplica> {
        let mut row = Reader(row);
        let vote = row.option(|row| {
            Some(Vote {
                term: Term::new(row.u64()?),
                voted_for: row.option(|row| Some(ReplicaId::new(row.u64()?)))?,
                committed: row.u8()? != 0,
            })
        })?;
        let id = |row: &mut Reader<'_>| Some(EntryId { term: Term::new(row.u64()?), index: Index::new(row.u64()?) });
        let (purged, last, committed) = (row.option(id)?, row.option(id)?, row.option(id)?);
        let damage = row.option(|row| {
            Some(Damage {
                segment: row.u64()?,
                byte: row.u64()?,
                index: row.option(|row| Some(Index::new(row.u64()?)))?,
                part: part_of(row.u8()?)?,
            })
        })?;
        Some(FileReplica { vote, purged, committed, last, damage, ..FileReplica::default() })
    }

    const fn part_code(part: DamagedPart) -> u8 {
        match part {
            DamagedPart::Payload => 1,
            DamagedPart::FrameHeader => 2,
            DamagedPart::Missing => 3,
            DamagedPart::Unattributed => 4,
        }
    }

    const fn part_of(code: u8) -> Option<DamagedPart> {
        Some(match code {
            1 => DamagedPart::Payload,
            2 => DamagedPart::FrameHeader,
            3 => DamagedPart::Missing,
            4 => DamagedPart::Unattributed,
            _ => return None,
        })
    }

    pub(super) fn indexed(indexed: &Indexed) -> Vec<u8> {
        let mut row = Vec::with_capacity(32);
        for number in [indexed.segment, indexed.nonce, indexed.end, indexed.sequence] {
            row.put_u64_le(number);
        }
        row
    }

    pub(super) fn read_indexed(row: &[u8]) -> Option<Indexed> {
        let mut row = Reader(row);
        Some(Indexed { segment: row.u64()?, nonce: row.u64()?, end: row.u64()?, sequence: row.u64()? })
    }

    /// Reads a row from front to back, never past its end.
    struct Reader<'a>(&'a [u8]);

    impl Reader<'_> {
        fn u8(&mut self) -> Option<u8> {
            let (first, rest) = self.0.split_first()?;
            self.0 = rest;
            Some(*first)
        }

        fn u32(&mut self) -> Option<u32> {
            let (number, rest) = self.0.split_first_chunk()?;
            self.0 = rest;
            Some(u32::from_le_bytes(*number))
        }

        fn u64(&mut self) -> Option<u64> {
            let (number, rest) = self.0.split_first_chunk()?;
            self.0 = rest;
            Some(u64::from_le_bytes(*number))
        }

        /// `None` if it is not legible, `Some(None)` if it is absent.
        fn option<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
            match self.u8()? {
                0 => Some(None),
                1 => read(self).map(Some),
                _ => None,
            }
        }
    }
}
