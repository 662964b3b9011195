//! What a sealed segment adds to the index, and what it takes out.

use bytes::Bytes;
use quipu_protocol::Index;

use super::{FileReplica, FrameRef, Living, ROWS, keys, rows};
use crate::journal::entry::{EntryId, ReplicaKey};
use crate::kv::{Batch, Kv, KvError, Space};

/// What one replica adds to the index with a segment.
#[derive(Clone, Debug)]
pub(in crate::journal) struct SealedReplica {
    pub(super) key: ReplicaKey,
    pub(super) state: FileReplica,
    /// The lowest truncation in it.
    pub(super) truncated: Option<Index>,
    pub(super) frames: Vec<FrameRef>,
    pub(super) relocated: Vec<FrameRef>,
}

/// Up to where the index is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::journal) struct Indexed {
    pub(in crate::journal) segment: u64,
    pub(in crate::journal) nonce: u64,
    /// Where the segment ends.
    pub(in crate::journal) end: u64,
    /// Of its last commit.
    pub(in crate::journal) sequence: u64,
    /// Bytes of all frames of entries that were written to it.
    pub(in crate::journal) held: u64,
}

/// Adds a sealed segment's rows; durable after the next flush.
pub(in crate::journal) fn add_segment(
    kv: &dyn Kv,
    living: &mut Living,
    replicas: &[SealedReplica],
    indexed: Indexed,
) -> Result<(), KvError> {
    let mut rows = Batch::new();
    let mut heads = Batch::new();
    living.sealed(indexed.segment, indexed.held);
    for replica in replicas {
        replica.add(kv, living, &mut rows, &mut heads)?;
        replica.note(indexed.segment, &mut rows);
        if rows.len() >= ROWS {
            living.put_changed(&mut rows);
            kv.write(std::mem::take(&mut rows))?;
        }
    }
    living.put_changed(&mut rows);
    kv.write(rows)?;
    heads.put(Space::Index, keys::INDEXED, rows::indexed(&indexed));
    kv.write(heads)
}

impl SealedReplica {
    /// Whose it is.
    pub(in crate::journal) fn key(&self) -> ReplicaKey {
        self.key
    }

    fn add(&self, kv: &dyn Kv, living: &mut Living, rows: &mut Batch, heads: &mut Batch) -> Result<(), KvError> {
        let key = self.key;
        if self.state.retired {
            let (first, end) = (keys::frame(key, 0), keys::frame(key, u64::MAX));
            remove(kv, living, rows, first, end)?;
            heads.delete(Space::Index, keys::replica(key));
            return Ok(());
        }
        if let Some(from) = self.truncated {
            remove(kv, living, rows, keys::frame(key, from.get()), keys::frame(key, u64::MAX))?;
        }
        let purged = self.state.purged;
        // The row that the truncation cut, or that holds the first entry left.
        if let Some((row_key, mut frame)) = self.row_before(kv, self.truncated)?
            && self.truncated.is_some_and(|from| frame.end() > from)
            && self.truncated.is_some_and(|from| frame.truncate(from))
            && purged.is_none_or(|purged| purged.index.next() < frame.end())
        {
            rows.put(Space::Index, row_key, rows::frame(&frame));
        }
        if let Some(purged) = purged {
            self.purge(kv, living, rows, purged)?;
        }
        for frame in self.frames.iter().chain(&self.relocated) {
            let row_key = keys::frame(key, frame.first.get());
            // One is there if it was relocated, or if this is done again.
            match kv.get(Space::Index, &row_key)?.and_then(|row| rows::read_frame(&row_key, &row)) {
                Some(before) if !self.is_cut(&before) => living.remove(&before),
                _ => {}
            }
            living.add(frame);
            rows.put(Space::Index, row_key, rows::frame(frame));
        }
        heads.put(Space::Index, keys::replica(key), rows::replica(&self.state));
        Ok(())
    }

    /// Whether the truncation has taken all of `frame`, and its row.
    fn is_cut(&self, frame: &FrameRef) -> bool {
        self.truncated.is_some_and(|from| frame.first >= from)
    }

    /// The last row of the replica's that begins before `index`.
    fn row_before(&self, kv: &dyn Kv, index: Option<Index>) -> Result<Option<(Bytes, FrameRef)>, KvError> {
        let Some(before) = index.and_then(|index| index.get().checked_sub(1)) else { return Ok(None) };
        let row = kv.last_before(Space::Index, &keys::frame(self.key, 0), &keys::frame(self.key, before))?;
        Ok(row.and_then(|(row_key, row)| rows::read_frame(&row_key, &row).map(|frame| (row_key, frame))))
    }

    /// Removes the rows none of whose entries is left in front.
    fn purge(&self, kv: &dyn Kv, living: &mut Living, rows: &mut Batch, purged: EntryId) -> Result<(), KvError> {
        let Some((row_key, mut last)) = self.row_before(kv, Some(purged.index.next()))? else { return Ok(()) };
        if let Some(from) = self.truncated {
            last.truncate(from);
        }
        let after = [&row_key[..], &[0]].concat().into();
        let stop: Bytes = if last.end() <= purged.index.next() { after } else { row_key };
        remove(kv, living, rows, keys::frame(self.key, 0), stop)
    }

    /// Notes which entries of the replica's the segment holds.
    fn note(&self, segment: u64, rows: &mut Batch) {
        let frames = || self.frames.iter().chain(&self.relocated);
        let first = frames().map(|frame| frame.first).min();
        let end = frames().map(FrameRef::end).max();
        if let (Some(first), Some(end)) = (first, end) {
            rows.put(Space::Index, keys::sealed(segment, self.key), rows::sealed(first, end));
        }
    }
}

/// Removes the rows of frames in `start..end`.
fn remove(kv: &dyn Kv, living: &mut Living, rows: &mut Batch, start: Bytes, end: Bytes) -> Result<(), KvError> {
    let mut next = start.clone();
    loop {
        let page = kv.scan(Space::Index, &next, &end, ROWS)?;
        for (key, row) in &page {
            if let Some(frame) = rows::read_frame(key, row) {
                living.remove(&frame);
            }
        }
        match page.last() {
            Some((last, _)) if page.len() == ROWS => next = [&last[..], &[0]].concat().into(),
            _ => break,
        }
    }
    rows.delete_range(Space::Index, start, end);
    Ok(())
}
