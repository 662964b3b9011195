//! Reads a segment from front to back in large pieces.

use std::collections::BTreeSet;

use super::error::OpenError;
use super::format::{COMMIT_HEADER, CommitHeader, SECTOR, SECTOR_BYTES, UNREADABLE};
use super::manifest::Segment;
use super::segment::{SegmentFile, path};
use crate::disk::{AlignedBuffer, is_unreadable};

/// How much is read at once, unless one commit needs more.
const WINDOW_BYTES: u64 = 8 * 1024 * 1024;

/// A window that moves over a segment.
pub(super) struct Scanner<'a> {
    file: &'a SegmentFile,
    segment: Segment,
    window: AlignedBuffer,
    /// Where in the segment the window starts.
    start: u64,
    read: u64,
    /// Sectors that cannot be read, of what the window has passed.
    unreadable: BTreeSet<u64>,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(file: &'a SegmentFile, segment: Segment) -> Self {
        Self { file, segment, window: AlignedBuffer::new(), start: 0, read: 0, unreadable: BTreeSet::new() }
    }

    /// What is scanned.
    pub(super) fn segment(&self) -> Segment {
        self.segment
    }

    /// How many bytes were read from the disk.
    pub(super) fn read_bytes(&self) -> u64 {
        self.read
    }

    /// `length` bytes from `byte` on, which have to lie in the segment.
    pub(super) fn bytes(&mut self, byte: u64, length: u64) -> Result<&[u8], OpenError> {
        let end = byte + length;
        assert!(end <= self.segment.bytes, "what is read lies in the segment");
        if byte < self.start || end > self.start + self.window.len() as u64 {
            let until = end.max(byte.saturating_add(WINDOW_BYTES)).min(self.segment.bytes);
            self.start = self.fill(byte, until)?;
            self.read += self.window.len() as u64;
        }
        let from = usize::try_from(byte - self.start).expect("a window fits into memory");
        let to = usize::try_from(end - self.start).expect("a window fits into memory");
        Ok(&self.window[from..to])
    }

    /// Moves the window to `byte..until`. Sectors that the disk does not give, and
    /// does not give when asked once more, are [`UNREADABLE`] in it.
    fn fill(&mut self, byte: u64, until: u64) -> Result<u64, OpenError> {
        let failed = |source| OpenError::disk("read", &path(self.segment.id), source);
        match self.file.read_sectors(byte, until, &mut self.window) {
            Err(error) if is_unreadable(&error) => {}
            read => return read.map_err(failed),
        }
        let start = byte / SECTOR * SECTOR;
        let mut sector = AlignedBuffer::new();
        for (number, place) in self.window.chunks_mut(SECTOR_BYTES).enumerate() {
            let at = start + number as u64 * SECTOR;
            match self.file.read_sectors(at, at + SECTOR, &mut sector) {
                Ok(_) => place.copy_from_slice(&sector),
                Err(error) if is_unreadable(&error) => {
                    tracing::warn!(%error, path = path(self.segment.id), byte = at, "a sector cannot be read");
                    place.fill(UNREADABLE);
                    self.unreadable.insert(at);
                }
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(start)
    }

    /// Refuses to go on if a sector of `from..to` cannot be read, where what it
    /// holds may or may not have been acknowledged.
    pub(super) fn check_readable(&self, from: u64, to: u64) -> Result<(), OpenError> {
        match self.unreadable.range(from / SECTOR * SECTOR..to).next() {
            None => Ok(()),
            Some(byte) => Err(OpenError::Unreadable { path: path(self.segment.id), byte: *byte }),
        }
    }

    /// The valid commit header at `byte`, if there is one.
    pub(super) fn commit_header(&mut self, byte: u64) -> Result<Option<CommitHeader>, OpenError> {
        let room = self.segment.bytes.saturating_sub(byte);
        if room < SECTOR {
            return Ok(None);
        }
        let nonce = self.segment.nonce;
        let Some(claimed) = CommitHeader::claimed_length(self.bytes(byte, COMMIT_HEADER as u64)?, room) else {
            return Ok(None);
        };
        Ok(CommitHeader::decode(nonce, byte, self.bytes(byte, claimed)?, room))
    }

    /// The first valid commit header at or after `byte` that is later than
    /// commit `last`.
    pub(super) fn next_commit(&mut self, byte: u64, last: u64) -> Result<Option<(u64, CommitHeader)>, OpenError> {
        let mut at = byte;
        while at < self.segment.bytes {
            if let Some(header) = self.commit_header(at)?.filter(|header| header.sequence > last) {
                return Ok(Some((at, header)));
            }
            at += SECTOR;
        }
        Ok(None)
    }

    /// Whether nothing but zeros lies in `from..to`.
    pub(super) fn is_zero(&mut self, from: u64, to: u64) -> Result<bool, OpenError> {
        let mut at = from;
        while at < to {
            let length = SECTOR.min(to - at);
            if self.bytes(at, length)?.iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            at += length;
        }
        Ok(true)
    }

    /// Whether nothing but zeros lies in the first window from `from` on.
    pub(super) fn is_zero_window(&mut self, from: u64) -> Result<bool, OpenError> {
        self.is_zero(from, from.saturating_add(WINDOW_BYTES).min(self.segment.bytes))
    }
}
