//! The values of the index's rows (see [`super`]). Numbers are little-endian,
//! as in the journal itself; a row that is not legible is no row.

use bytes::BufMut;
use quipu_protocol::{Index, ReplicaId, Term};

use super::living::Share;
use super::{FileReplica, FrameRef, Homes, ImageRef, Indexed, Terms, keys};
use crate::journal::entry::{EntryId, ReplicaKey, Vote};
use crate::journal::error::{Damage, DamagedPart};
use crate::journal::format::Position;

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

/// A frame holds at least one entry, and its runs say the terms of all that
/// count.
pub(super) fn read_frame(key: &[u8], row: &[u8]) -> Option<FrameRef> {
    let first = keys::read_first(key)?;
    let mut row = Reader(row);
    let place = Position { segment: row.u64()?, byte: row.u64()? };
    let (length, count) = (row.u32()?, row.u32()?);
    let mut runs = Vec::new();
    let mut covered = 0;
    while !row.0.is_empty() {
        let (entries, term) = (row.u32()?, Term::new(row.u64()?));
        covered += u64::from(entries);
        runs.push((entries, term));
    }
    if count == 0 || covered < u64::from(count) {
        return None;
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
        row.put_u8(damage.part.code());
    });
    put_option(&mut row, replica.image, |row, image| {
        row.put_u64_le(image.at.term.get());
        row.put_u64_le(image.at.index.get());
        row.put_u64_le(image.place.segment);
        row.put_u64_le(image.place.byte);
        row.put_u32_le(image.length);
    });
    let Homes { vote, purged, committed, damage } = replica.homes;
    for home in [vote, purged, committed, damage] {
        row.put_u64_le(home);
    }
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
            part: DamagedPart::of(row.u8()?)?,
        })
    })?;
    let image = row.option(|row| {
        Some(ImageRef { at: id(row)?, place: Position { segment: row.u64()?, byte: row.u64()? }, length: row.u32()? })
    })?;
    let homes = Homes { vote: row.u64()?, purged: row.u64()?, committed: row.u64()?, damage: row.u64()? };
    let anchored = true;
    Some(FileReplica { vote, purged, committed, last, damage, image, homes, anchored, ..FileReplica::default() })
}

pub(super) fn share(share: Share) -> Vec<u8> {
    let mut row = Vec::with_capacity(16);
    row.put_u64_le(share.held);
    row.put_u64_le(share.living);
    row
}

pub(super) fn read_share(row: &[u8]) -> Option<Share> {
    let mut row = Reader(row);
    Some(Share { held: row.u64()?, living: row.u64()? })
}

pub(super) fn sealed(first: Index, end: Index) -> Vec<u8> {
    let mut row = Vec::with_capacity(16);
    row.put_u64_le(first.get());
    row.put_u64_le(end.get());
    row
}

pub(super) fn read_sealed(key: ReplicaKey, row: &[u8]) -> Option<(ReplicaKey, Index, Index)> {
    let mut row = Reader(row);
    Some((key, Index::new(row.u64()?), Index::new(row.u64()?)))
}

/// Of all rows: what was written by another version is made anew.
const VERSION: u64 = 2;

pub(super) fn indexed(indexed: &Indexed) -> Vec<u8> {
    let mut row = Vec::with_capacity(48);
    row.put_u64_le(VERSION);
    for number in [indexed.segment, indexed.nonce, indexed.end, indexed.sequence, indexed.held] {
        row.put_u64_le(number);
    }
    row
}

pub(super) fn read_indexed(row: &[u8]) -> Option<Indexed> {
    let mut row = Reader(row);
    if row.u64()? != VERSION {
        return None;
    }
    Some(Indexed { segment: row.u64()?, nonce: row.u64()?, end: row.u64()?, sequence: row.u64()?, held: row.u64()? })
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

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: ReplicaKey = ReplicaKey { group: quipu_protocol::LogId::new(1), replica: ReplicaId::new(2) };

    fn read(count: u32, terms: Terms) -> Option<FrameRef> {
        let place = Position { segment: 3, byte: 4096 };
        let written = FrameRef { first: Index::new(7), count, length: 160, place, terms };
        let read = read_frame(&keys::frame(KEY, 7), &frame(&written));
        assert!(read.is_none() || read == Some(written));
        read
    }

    #[test]
    fn a_frames_row_says_what_was_written() {
        assert!(read(1, Terms::One(Term::new(5))).is_some());
        let runs = [(2, Term::new(5)), (3, Term::new(6))];
        for count in 1..=5 {
            assert!(read(count, Terms::Runs(runs.into())).is_some(), "{count}");
        }
    }

    #[test]
    fn a_frame_without_entries_or_with_entries_of_no_term_is_not_legible() {
        assert_eq!(read(0, Terms::One(Term::new(5))), None);
        assert_eq!(read(6, Terms::Runs([(2, Term::new(5)), (3, Term::new(6))].into())), None);
    }
}
