//! Which segments there are: a small file, written whole, that says what must
//! be on the disk. A segment that it lists and that is missing or short is
//! corruption; a segment file that it does not list was never put to use, or
//! was let go of: its number is then below every listed one.
//!
//! | manifest | bytes | |
//! |---|---|---|
//! | magic | 0..8 | `QUIPUMAN` |
//! | version | 8..12 | of the journal's format |
//! | length | 12..16 | of all this |
//! | checksum | 16..24 | XXH3-64 of it, with 0 here |
//! | cluster, node, incarnation | 24..48 | |
//! | next segment | 48..56 | numbers are never used twice |
//! | segments | 56.. | 40 bytes each, ascending: number, epoch, nonce, file length, end (0: not sealed) |
//!
//! Which sealed segments are in the index is not said here: the index itself
//! says so, in the same atomic write as its rows (see [`super::index`]), so
//! that the two cannot disagree.

use quipu_protocol::{ClusterId, Incarnation, NodeId};
use twox_hash::XxHash3_64;

use super::config::Owner;
use super::error::OpenError;
use super::format::{FIRST_COMMIT, SECTOR, VERSION, field};
use crate::disk::{Disk, read_whole_file, write_whole_file};

/// Where the journal's files are.
pub(super) const DIRECTORY: &str = "journal";

/// The manifest.
pub(super) const PATH: &str = "journal/MANIFEST";

const MAGIC: &[u8; 8] = b"QUIPUMAN";
const HEADER: usize = 56;
const ITEM: usize = 40;
const CHECKSUM: usize = 16;

/// One segment, as the manifest lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    /// Its number; segments are used in ascending order.
    pub(super) id: u64,
    /// How often its file has been put to use.
    pub(super) epoch: u64,
    /// The seed of its checksums.
    pub(super) nonce: u64,
    /// Its file's length.
    pub(super) bytes: u64,
    /// Where its last commit ends, once it is full.
    pub(super) sealed: Option<u64>,
}

/// The manifest's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Manifest {
    pub(super) owner: Owner,
    pub(super) next_segment: u64,
    pub(super) segments: Vec<Segment>,
}

impl Manifest {
    /// That of a new journal.
    pub(super) fn new(owner: Owner) -> Self {
        Self { owner, next_segment: 1, segments: Vec::new() }
    }

    /// The manifest on `disk`; `None` if there is none.
    pub(super) fn read(disk: &dyn Disk) -> Result<Option<Self>, OpenError> {
        let content = read_whole_file(disk, PATH).map_err(|source| OpenError::disk("read", PATH, source))?;
        content.map(|content| Self::decode(&content)).transpose()
    }

    /// Replaces the manifest on `disk`; durable on return.
    pub(super) fn write(&self, disk: &dyn Disk) -> std::io::Result<()> {
        write_whole_file(disk, PATH, &self.encode())?;
        quipu_protocol::point!("manifest-written");
        Ok(())
    }

    /// Notes where segment `id` ends; true if that is news.
    pub(super) fn seal(&mut self, id: u64, end: u64) -> bool {
        let Some(segment) = self.segments.iter_mut().find(|segment| segment.id == id) else { return false };
        let news = segment.sealed != Some(end);
        segment.sealed = Some(end);
        news
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let length = HEADER + self.segments.len() * ITEM;
        let mut bytes = vec![0; length];
        bytes[..8].copy_from_slice(MAGIC);
        field::set_u32(&mut bytes, 8, VERSION);
        field::set_u32(&mut bytes, 12, u32::try_from(length).expect("a manifest is bounded by a whole file's size"));
        field::set_u64(&mut bytes, 24, self.owner.cluster.get());
        field::set_u64(&mut bytes, 32, self.owner.node.get());
        field::set_u64(&mut bytes, 40, self.owner.incarnation.get());
        field::set_u64(&mut bytes, 48, self.next_segment);
        for (segment, item) in self.segments.iter().zip(bytes[HEADER..].chunks_exact_mut(ITEM)) {
            field::set_u64(item, 0, segment.id);
            field::set_u64(item, 8, segment.epoch);
            field::set_u64(item, 16, segment.nonce);
            field::set_u64(item, 24, segment.bytes);
            field::set_u64(item, 32, segment.sealed.unwrap_or(0));
        }
        let checksum = XxHash3_64::oneshot(&bytes);
        field::set_u64(&mut bytes, CHECKSUM, checksum);
        bytes
    }

    pub(super) fn decode(content: &[u8]) -> Result<Self, OpenError> {
        let damaged = |reason| OpenError::ManifestDamaged { path: PATH.into(), reason };
        if content.len() < HEADER || &content[..8] != MAGIC {
            return Err(damaged("it does not start like a manifest"));
        }
        let length = field::u32(content, 12) as usize;
        let Some(listed) = content.get(..length).filter(|listed| listed.len() >= HEADER) else {
            return Err(damaged("it is shorter than it says"));
        };
        let mut bytes = listed.to_vec();
        field::set_u64(&mut bytes, CHECKSUM, 0);
        if XxHash3_64::oneshot(&bytes) != field::u64(listed, CHECKSUM) {
            return Err(damaged("its checksum does not match"));
        }
        let version = field::u32(&bytes, 8);
        if version > VERSION {
            return Err(OpenError::NewerVersion { path: PATH.into(), found: version, known: VERSION });
        }
        let segments = bytes[HEADER..].chunks_exact(ITEM).map(Segment::decode).collect();
        let manifest = Self {
            owner: Owner {
                cluster: ClusterId::new(field::u64(&bytes, 24)),
                node: NodeId::new(field::u64(&bytes, 32)),
                incarnation: Incarnation::new(field::u64(&bytes, 40)),
            },
            next_segment: field::u64(&bytes, 48),
            segments,
        };
        if manifest.is_plausible() { Ok(manifest) } else { Err(damaged("its segments contradict each other")) }
    }

    /// Whether what a checksum vouches for also makes sense.
    fn is_plausible(&self) -> bool {
        let ascending = self.segments.is_sorted_by(|one, next| one.id < next.id);
        let numbered = self.segments.last().is_none_or(|last| last.id < self.next_segment);
        ascending && numbered && self.segments.iter().all(Segment::is_plausible)
    }
}

impl Segment {
    fn decode(item: &[u8]) -> Self {
        let sealed = field::u64(item, 32);
        Self {
            id: field::u64(item, 0),
            epoch: field::u64(item, 8),
            nonce: field::u64(item, 16),
            bytes: field::u64(item, 24),
            sealed: (sealed != 0).then_some(sealed),
        }
    }

    fn is_plausible(&self) -> bool {
        let whole = self.bytes > FIRST_COMMIT && self.bytes.is_multiple_of(SECTOR);
        let ends = self.sealed.is_none_or(|end| (FIRST_COMMIT..=self.bytes).contains(&end) && end % SECTOR == 0);
        whole && ends
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        Manifest {
            owner: Owner {
                cluster: ClusterId::new(0xC1),
                node: NodeId::new(2),
                incarnation: Incarnation::new(0x1122_3344_5566_7788),
            },
            next_segment: 3,
            segments: vec![
                Segment { id: 1, epoch: 1, nonce: 0xAA, bytes: 0x10_0000, sealed: Some(0xF_0000) },
                Segment { id: 2, epoch: 1, nonce: 0xBB, bytes: 0x10_0000, sealed: None },
            ],
        }
    }

    #[test]
    fn what_is_written_is_read_padding_or_not() {
        let mut bytes = manifest().encode();
        assert_eq!(Manifest::decode(&bytes).unwrap(), manifest());
        bytes.resize(4096, 0);
        assert_eq!(Manifest::decode(&bytes).unwrap(), manifest());
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let bytes = manifest().encode();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Manifest::decode(&flipped).is_err(), "bit {bit} went unnoticed");
        }
    }

    #[test]
    fn a_newer_version_is_refused_by_name() {
        let mut bytes = manifest().encode();
        field::set_u32(&mut bytes, 8, VERSION + 1);
        field::set_u64(&mut bytes, CHECKSUM, 0);
        let checksum = XxHash3_64::oneshot(&bytes);
        field::set_u64(&mut bytes, CHECKSUM, checksum);
        assert!(matches!(Manifest::decode(&bytes), Err(OpenError::NewerVersion { found: 2, known: 1, .. })));
    }
}
