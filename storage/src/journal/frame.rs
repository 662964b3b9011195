//! What a frame means, and how a commit's frames are put into one buffer.
//!
//! A payload is copied once, into the buffer that is written, and its
//! checksum is taken there.

use bytes::Bytes;
use quipu_protocol::{Index, ReplicaId, Term};

use super::entry::{Entry, EntryId, ReplicaKey, Vote};
use super::error::{Damage, DamagedPart};
use super::format::{
    CommitHeader, DESCRIPTOR, DirectoryItem, FRAME_HEADER, Flags, FrameHeader, Kind, Position, commit_header_length,
    field, frame_length, payload_checksum,
};
use super::index::Terms;
use crate::disk::AlignedBuffer;

/// One frame to be written.
#[derive(Debug)]
pub(super) enum Frame {
    /// Contiguous entries, at least one.
    Entries(Vec<Entry>),
    /// A vote.
    Vote(Vote),
    /// Entries from `from` on are gone; `last` is then the last one.
    Truncate { from: Index, last: Option<EntryId> },
    /// Entries through it are gone for good.
    Purge(EntryId),
    /// The group has committed it.
    Committed(EntryId),
    /// The group's metadata as of an entry.
    StateImage { at: EntryId, image: Bytes },
    /// The replica is gone for good.
    Retire,
    /// Entries that the replica has and that were written before.
    Relocated(Vec<Entry>),
    /// Damage that was found before.
    Damaged(Damage),
    /// All damage that was found before is no more.
    Mended,
}

/// What a frame does to its replica, with payloads left where they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Entries { first: Index, count: u32, terms: Terms },
    Vote(Vote),
    Truncate { from: Index, last: Option<EntryId> },
    Purge(EntryId),
    Committed(EntryId),
    StateImage(EntryId),
    Retire,
    Relocated { first: Index, count: u32, terms: Terms },
    Damaged(Damage),
    Mended,
}

impl Frame {
    /// How many bytes it takes in a segment.
    pub(super) fn length(&self) -> u64 {
        match self {
            Self::Entries(entries) | Self::Relocated(entries) => frame_length(entries.len(), payload_bytes(entries)),
            Self::StateImage { image, .. } => frame_length(0, image.len() as u64),
            Self::Damaged(_) => frame_length(0, DAMAGE_BYTES as u64),
            _ => frame_length(0, 0),
        }
    }

    fn header(&self, key: ReplicaKey, sequence: u64) -> FrameHeader {
        let (kind, flags, index, term) = match self {
            Self::Entries(entries) => (Kind::Entries, 0, first_of(entries).get(), 0),
            Self::Relocated(entries) => (Kind::Relocated, 0, first_of(entries).get(), 0),
            Self::StateImage { at, .. } => (Kind::StateImage, 0, at.index.get(), at.term.get()),
            Self::Damaged(damage) => {
                let present = if damage.index.is_some() { Flags::PRESENT } else { 0 };
                (Kind::Damaged, present, damage.index.map_or(0, Index::get), 0)
            }
            Self::Vote(vote) => {
                let present = if vote.voted_for.is_some() { Flags::PRESENT } else { 0 };
                let committed = if vote.committed { Flags::COMMITTED } else { 0 };
                (Kind::Vote, present | committed, vote.voted_for.map_or(0, ReplicaId::get), vote.term.get())
            }
            Self::Truncate { from, last } => {
                let present = if last.is_some() { Flags::PRESENT } else { 0 };
                (Kind::Truncate, present, from.get(), last.map_or(0, |last| last.term.get()))
            }
            Self::Purge(id) => (Kind::Purge, 0, id.index.get(), id.term.get()),
            Self::Committed(id) => (Kind::Committed, 0, id.index.get(), id.term.get()),
            Self::Retire => (Kind::Retire, 0, 0, 0),
            Self::Mended => (Kind::Mended, 0, 0, 0),
        };
        FrameHeader { kind, flags, count: 0, key, index, term, payload_length: 0, payload_checksum: 0, sequence }
    }

    /// Whether it holds entries.
    pub(super) fn holds_entries(&self) -> bool {
        matches!(self, Self::Entries(_) | Self::Relocated(_))
    }

    /// What it does once written.
    pub(super) fn change(&self) -> Change {
        match self {
            Self::Entries(entries) => {
                let (first, count, terms) = extent(entries);
                Change::Entries { first, count, terms }
            }
            Self::Relocated(entries) => {
                let (first, count, terms) = extent(entries);
                Change::Relocated { first, count, terms }
            }
            Self::StateImage { at, .. } => Change::StateImage(*at),
            Self::Damaged(damage) => Change::Damaged(*damage),
            Self::Vote(vote) => Change::Vote(*vote),
            Self::Truncate { from, last } => Change::Truncate { from: *from, last: *last },
            Self::Purge(id) => Change::Purge(*id),
            Self::Committed(id) => Change::Committed(*id),
            Self::Retire => Change::Retire,
            Self::Mended => Change::Mended,
        }
    }
}

impl Change {
    /// What a verified frame does; `None` if its fields contradict each other.
    pub(super) fn of(header: &FrameHeader, frame: &[u8]) -> Option<Self> {
        let id = EntryId { term: Term::new(header.term), index: Index::new(header.index) };
        let present = header.flags & Flags::PRESENT != 0;
        Some(match header.kind {
            Kind::Entries | Kind::Relocated => {
                let last = header.index.checked_add(u64::from(header.count))?;
                if header.count == 0 || last == u64::MAX {
                    return None;
                }
                let terms = Terms::of(header.descriptors(frame).map(|(term, _)| Term::new(term)));
                let (first, count) = (id.index, header.count);
                if header.kind == Kind::Entries {
                    Self::Entries { first, count, terms }
                } else {
                    Self::Relocated { first, count, terms }
                }
            }
            Kind::Vote => Self::Vote(Vote {
                term: id.term,
                voted_for: present.then(|| ReplicaId::new(header.index)),
                committed: header.flags & Flags::COMMITTED != 0,
            }),
            Kind::Truncate => {
                let last = match (present, header.index.checked_sub(1)) {
                    (true, Some(before)) => Some(EntryId { term: id.term, index: Index::new(before) }),
                    (true, None) => return None,
                    (false, _) => None,
                };
                Self::Truncate { from: id.index, last }
            }
            Kind::Purge if header.index < u64::MAX => Self::Purge(id),
            Kind::Purge => return None,
            Kind::Committed => Self::Committed(id),
            Kind::StateImage => Self::StateImage(id),
            Kind::Damaged => Self::Damaged(damage_of(header, frame)?),
            Kind::Retire => Self::Retire,
            Kind::Mended => Self::Mended,
        })
    }
}

fn first_of(entries: &[Entry]) -> Index {
    entries.first().map_or(Index::new(0), |entry| entry.id.index)
}

fn extent(entries: &[Entry]) -> (Index, u32, Terms) {
    let count = u32::try_from(entries.len()).expect("a frame's entries are bounded by its bytes");
    (first_of(entries), count, Terms::of(entries.iter().map(|entry| entry.id.term)))
}

/// A finding of damage, as a payload: segment, byte, part.
const DAMAGE_BYTES: usize = 24;

fn damage_bytes(damage: &Damage) -> [u8; DAMAGE_BYTES] {
    let mut bytes = [0; DAMAGE_BYTES];
    field::set_u64(&mut bytes, 0, damage.segment);
    field::set_u64(&mut bytes, 8, damage.byte);
    field::set_u64(&mut bytes, 16, damage.part.code().into());
    bytes
}

fn damage_of(header: &FrameHeader, frame: &[u8]) -> Option<Damage> {
    let start = usize::try_from(header.payload_start()).ok()?;
    let bytes = frame.get(start..start.checked_add(DAMAGE_BYTES)?)?;
    let part = u8::try_from(field::u64(bytes, 16)).ok().and_then(DamagedPart::of)?;
    let index = (header.flags & Flags::PRESENT != 0).then(|| Index::new(header.index));
    Some(Damage { segment: field::u64(bytes, 0), byte: field::u64(bytes, 8), index, part })
}

/// The payloads' bytes.
pub(super) fn payload_bytes(entries: &[Entry]) -> u64 {
    entries.iter().map(|entry| entry.payload.len() as u64).sum()
}

/// The entries of a verified frame, from `from` on, each a slice of one
/// shared allocation.
pub(super) fn entries_of(header: &FrameHeader, frame: &[u8], payload: &[u8], from: Index) -> Vec<Entry> {
    let skipped = usize::try_from(from.get().saturating_sub(header.index)).unwrap_or(usize::MAX);
    let start: usize = header.descriptors(frame).take(skipped).map(|(_, length)| length as usize).sum();
    let mut rest = Bytes::copy_from_slice(&payload[start..]);
    let first = header.index + skipped as u64;
    let ids = header.descriptors(frame).skip(skipped).zip(first..);
    ids.map(|((term, length), index)| Entry {
        id: EntryId { term: Term::new(term), index: Index::new(index) },
        payload: rest.split_to(length as usize),
    })
    .collect()
}

/// Puts one commit together in a buffer that is then written as it is.
pub(super) struct CommitEncoder {
    buffer: AlignedBuffer,
    nonce: u64,
    byte: u64,
    sequence: u64,
    frames: u32,
    written: u32,
}

impl CommitEncoder {
    /// Starts a commit of `frames` frames at `byte` of the segment with
    /// `nonce`, in the room of `buffer`.
    pub(super) fn new(mut buffer: AlignedBuffer, nonce: u64, byte: u64, sequence: u64, frames: u32) -> Self {
        buffer.clear();
        buffer.resize(header_length(frames));
        Self { buffer, nonce, byte, sequence, frames, written: 0 }
    }

    /// Appends a frame; returns where in the segment it starts and how long
    /// it is.
    pub(super) fn push(&mut self, key: ReplicaKey, frame: &Frame) -> (u64, u32) {
        assert!(self.written < self.frames, "commit {} has room for {} frames only", self.sequence, self.frames);
        let start = self.buffer.len();
        let mut header = frame.header(key, self.sequence);
        match frame {
            Frame::Entries(entries) | Frame::Relocated(entries) => self.push_entries(&mut header, entries),
            Frame::StateImage { image, .. } => self.push_payload(&mut header, image),
            Frame::Damaged(damage) => self.push_payload(&mut header, &damage_bytes(damage)),
            _ => self.buffer.resize(start + FRAME_HEADER),
        }
        let byte = self.byte + start as u64;
        let payload_start = start + (FRAME_HEADER + header.count as usize * DESCRIPTOR);
        header.payload_checksum = payload_checksum(self.nonce, &self.buffer[payload_start..]);
        header.encode(self.nonce, byte, &mut self.buffer[start..payload_start]);
        self.buffer.resize(self.buffer.len().next_multiple_of(8));
        let length = u32::try_from(self.buffer.len() - start).expect("a frame lies in a bounded segment");
        debug_assert_eq!(u64::from(length), frame.length(), "a frame takes what was planned for it");
        let item = DirectoryItem { key, length, kind: header.kind.code() };
        item.encode(self.written as usize, &mut self.buffer);
        self.written += 1;
        (byte, length)
    }

    fn push_payload(&mut self, header: &mut FrameHeader, payload: &[u8]) {
        self.buffer.resize(self.buffer.len() + FRAME_HEADER);
        self.buffer.extend_from_slice(payload);
        header.payload_length = payload.len() as u64;
    }

    fn push_entries(&mut self, header: &mut FrameHeader, entries: &[Entry]) {
        let descriptors = self.buffer.len() + FRAME_HEADER;
        self.buffer.resize(descriptors + entries.len() * DESCRIPTOR);
        for (entry, at) in entries.iter().zip((descriptors..).step_by(DESCRIPTOR)) {
            field::set_u64(&mut self.buffer, at, entry.id.term.get());
            let length = u32::try_from(entry.payload.len()).expect("an entry's size was checked when it was appended");
            field::set_u32(&mut self.buffer, at + 8, length);
        }
        for entry in entries {
            self.buffer.extend_from_slice(&entry.payload);
        }
        header.count = u32::try_from(entries.len()).expect("a frame's entries are bounded by its bytes");
        header.payload_length = payload_bytes(entries);
    }

    /// Completes the commit; `mark` is where the one before it ends.
    pub(super) fn finish(mut self, mark: Position) -> AlignedBuffer {
        assert_eq!(self.written, self.frames, "commit {} has all its frames", self.sequence);
        let header =
            CommitHeader { sequence: self.sequence, mark, length: self.buffer.len() as u64, frames: self.frames };
        header.encode(self.nonce, self.byte, &mut self.buffer[..header_length(self.frames)]);
        self.buffer.pad();
        self.buffer
    }
}

fn header_length(frames: u32) -> usize {
    usize::try_from(commit_header_length(frames as usize)).expect("a directory is bounded by its commit")
}
