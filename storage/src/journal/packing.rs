//! How frames will lie in commits and segments, before they are written.

use super::config::MAX_COMMIT_BYTES;
use super::format::{FIRST_COMMIT, commit_header_length, whole_sectors};

/// Where the next frames go. A frame lies in one commit and a commit in one
/// segment: what is left of a segment may be too little for the next frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packing {
    /// Where the commit that is being filled begins.
    byte: u64,
    segment_bytes: u64,
    /// What the commit that is being filled has.
    frames: usize,
    length: u64,
    /// How many segments were begun.
    segments: u64,
    /// Bytes that were written or left unused in those before.
    before: u64,
}

impl Packing {
    /// From `byte` on, of a segment of `segment_bytes`.
    pub(super) fn from(byte: u64, segment_bytes: u64) -> Self {
        Self { byte, segment_bytes, frames: 0, length: 0, segments: 0, before: 0 }
    }

    /// Adds a frame of this length; `false` if the segment has no room for it.
    pub(super) fn add(&mut self, length: u64) -> bool {
        let room = (self.segment_bytes - self.byte).min(MAX_COMMIT_BYTES);
        if self.frames > 0 && whole_sectors(commit_header_length(self.frames + 1) + self.length + length) > room {
            self.end_commit();
        }
        // However large it is, one alone is a commit.
        if self.frames == 0 && whole_sectors(commit_header_length(1) + length) > self.segment_bytes - self.byte {
            return false;
        }
        self.frames += 1;
        self.length += length;
        true
    }

    /// What comes next is in another commit.
    pub(super) fn end_commit(&mut self) {
        self.byte = self.end();
        (self.frames, self.length) = (0, 0);
    }

    /// Goes on in a new segment of so many bytes.
    pub(super) fn roll(&mut self, segment_bytes: u64) {
        self.end_commit();
        self.segments += 1;
        self.before += self.segment_bytes;
        (self.byte, self.segment_bytes) = (FIRST_COMMIT, segment_bytes);
    }

    /// How many segments were begun.
    pub(super) fn segments(&self) -> u64 {
        self.segments
    }

    /// Bytes that are left in the last one.
    pub(super) fn left(&self) -> u64 {
        self.segment_bytes - self.end()
    }

    /// Bytes of segments up to where the next commit begins.
    pub(super) fn reached(&self) -> u64 {
        self.before + self.end()
    }

    fn end(&self) -> u64 {
        let filled = whole_sectors(commit_header_length(self.frames) + self.length);
        if self.frames == 0 { self.byte } else { self.byte + filled }
    }
}

#[cfg(test)]
mod tests {
    use super::super::format::SECTOR;
    use super::*;

    const SEGMENT: u64 = 16 * SECTOR;

    #[test]
    fn frames_share_a_commit_as_long_as_it_fits_into_the_segment() {
        let mut packing = Packing::from(FIRST_COMMIT, SEGMENT);
        assert!(packing.add(7 * SECTOR) && packing.add(7 * SECTOR));
        assert_eq!((packing.left(), packing.segments()), (0, 0));
        assert!(!packing.add(SECTOR), "the segment is full");
        packing.roll(SEGMENT);
        assert!(packing.add(SECTOR));
        assert_eq!((packing.left(), packing.segments()), (13 * SECTOR, 1));
        assert_eq!(packing.reached(), SEGMENT + 3 * SECTOR);
    }

    #[test]
    fn what_is_too_little_for_the_next_frame_is_left_unused() {
        let mut packing = Packing::from(9 * SECTOR, SEGMENT);
        assert!(!packing.add(7 * SECTOR), "its header takes a sector");
        packing.roll(SEGMENT);
        assert!(packing.add(7 * SECTOR));
        assert_eq!(packing.reached(), SEGMENT + 9 * SECTOR);
    }

    #[test]
    fn a_commit_that_ends_is_filled_up_to_a_sector() {
        let mut packing = Packing::from(FIRST_COMMIT, SEGMENT);
        for commits in 1..=15 {
            assert!(packing.add(1));
            packing.end_commit();
            packing.end_commit();
            assert_eq!(packing.reached(), (1 + commits) * SECTOR);
        }
        assert!(!packing.add(1));
    }

    #[test]
    fn a_frame_that_fits_into_no_segment_is_never_added() {
        let mut packing = Packing::from(FIRST_COMMIT, SEGMENT);
        packing.roll(SEGMENT);
        assert!(!packing.add(SEGMENT));
        assert_eq!(packing.left(), 15 * SECTOR);
    }
}
