//! The journal's bytes on disk. All numbers are little-endian.
//!
//! A segment is a header sector and then commits, each starting at a sector
//! (4096 bytes) and padded with zeros to the next; what follows the last one
//! are the zeros that the file was prepared with, or commits of an earlier use
//! of it, which carry another nonce and lower sequences.
//!
//! ```text
//!   sector 0        sector 1 …                                     end of file
//!   segment header │ commit │ commit │ … │ commit │ not written in this use
//!                   └ header, directory, frame, frame, …, zeros ┘
//! ```
//!
//! | segment header | bytes | |
//! |---|---|---|
//! | magic | 0..8 | `QUIPUSEG` |
//! | version | 8..12 | of the format; a newer one is refused |
//! | reserved | 12..16 | 0 |
//! | cluster, node, incarnation | 16..40 | whose it is; cluster 0 when not yet known |
//! | segment | 40..48 | the file's number |
//! | epoch | 48..56 | how often the file was put to use |
//! | nonce | 56..64 | random for each epoch: seeds every checksum below |
//! | bytes | 64..72 | the file's length |
//! | reserved | 72..120 | 0 |
//! | checksum | 120..128 | of bytes 0..120 |
//!
//! | commit header | bytes | |
//! |---|---|---|
//! | magic | 0..4 | `QCMT` |
//! | reserved | 4..8 | 0 |
//! | checksum | 8..16 | of bytes 16 to the directory's end |
//! | sequence | 16..24 | one more than the commit before it, across segments |
//! | position | 24..32 | of this header in the segment |
//! | mark | 32..48 | segment and position where the commit before it ends |
//! | length | 48..56 | header, directory and frames, without the padding |
//! | frames | 56..60 | how many |
//! | reserved | 60..64 | 0 |
//! | directory | 64.. | 24 bytes a frame: group, replica, frame length (u32), kind (u8), 3 reserved |
//!
//! A commit is written only after all before it were synced, so **a valid
//! commit header is the durable mark** of everything before it. A commit
//! without frames is written as a mark alone.
//!
//! | frame | bytes | |
//! |---|---|---|
//! | magic | 0..4 | `QFRM` |
//! | reserved | 4..8 | 0 |
//! | header checksum | 8..16 | of bytes 16 to the last descriptor's end |
//! | kind | 16 | see [`Kind`] |
//! | flags | 17 | see [`Flags`] |
//! | reserved | 18..20 | 0 |
//! | count | 20..24 | of descriptors |
//! | group, replica | 24..40 | |
//! | index, term | 40..56 | by kind |
//! | recovery generation | 56..64 | reserved, 0 |
//! | payload length | 64..72 | all payloads together |
//! | payload checksum | 72..80 | |
//! | sequence | 80..88 | of the commit it lies in |
//! | descriptors | 88.. | 16 bytes an entry: term, payload length (u32), 4 reserved |
//! | payloads | | one after another |
//! | padding | | zeros to a multiple of 8 |
//!
//! Checksums are XXH3-64. Those of headers are seeded with nonce + position,
//! so that neither a payload, nor an earlier use of the file, nor a misplaced
//! write can pass for a header; those of payloads with the nonce.

use quipu_protocol::{ClusterId, Incarnation, LogId, NodeId, ReplicaId};
use twox_hash::XxHash3_64;

use super::config::Owner;
use super::entry::ReplicaKey;
use crate::disk::ALIGNMENT;

/// The version of everything in this file.
pub(super) const VERSION: u32 = 1;

/// The unit in which commits are laid out: a sector that holds synced frames
/// is never written again.
pub(super) const SECTOR: u64 = ALIGNMENT as u64;

/// A sector, as a length in memory.
pub(super) const SECTOR_BYTES: usize = ALIGNMENT;

/// What stands for a byte that the disk does not give: nothing that could be taken
/// for a place to which nothing was written.
pub(super) const UNREADABLE: u8 = 0xff;

/// Where a segment's first commit starts.
pub(super) const FIRST_COMMIT: u64 = SECTOR;

/// A commit's header without its directory.
pub(super) const COMMIT_HEADER: usize = 64;

/// A frame's item in its commit's directory.
pub(super) const DIRECTORY_ITEM: usize = 24;

/// A frame's header without its descriptors.
pub(super) const FRAME_HEADER: usize = 88;

/// An entry's descriptor in its frame's header.
pub(super) const DESCRIPTOR: usize = 16;

const SEGMENT_MAGIC: &[u8; 8] = b"QUIPUSEG";
const COMMIT_MAGIC: &[u8; 4] = b"QCMT";
pub(super) const FRAME_MAGIC: &[u8; 4] = b"QFRM";
const SEGMENT_HEADER: usize = 128;
const SEGMENT_CHECKSUM: usize = 120;

/// What a frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Entries `index ..`, with their payloads.
    Entries,
    /// A vote in `term` for replica `index`.
    Vote,
    /// Entries from `index` on are gone; `term` is that of the entry before.
    Truncate,
    /// Entries through (`term`, `index`) are gone for good.
    Purge,
    /// The group has committed (`term`, `index`).
    Committed,
    /// The group's metadata as of its floor (`term`, `index`); the payload is
    /// the image.
    StateImage,
    /// The replica is gone for good.
    Retire,
    /// Entries `index ..` once more, which the replica still has: their first
    /// segment is about to be let go of.
    Relocated,
    /// A finding of damage, kept when the damaged segment is let go of; the
    /// payload says what was damaged.
    Damaged,
    /// Nothing of the replica is damaged any more: what was found before is
    /// written again, or gone.
    Mended,
}

impl Kind {
    pub(super) const fn code(self) -> u8 {
        match self {
            Self::Entries => 1,
            Self::Vote => 2,
            Self::Truncate => 3,
            Self::Purge => 4,
            Self::Committed => 5,
            Self::StateImage => 6,
            Self::Retire => 7,
            Self::Relocated => 8,
            Self::Damaged => 9,
            Self::Mended => 10,
        }
    }

    pub(super) const fn of(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Entries,
            2 => Self::Vote,
            3 => Self::Truncate,
            4 => Self::Purge,
            5 => Self::Committed,
            6 => Self::StateImage,
            7 => Self::Retire,
            8 => Self::Relocated,
            9 => Self::Damaged,
            10 => Self::Mended,
            _ => return None,
        })
    }
}

/// A frame's flags.
pub(super) struct Flags;

impl Flags {
    /// A vote: `index` names a replica. A truncation: `term` is that of an
    /// entry that is still there.
    pub(super) const PRESENT: u8 = 1;
    /// A vote: a quorum voted the same way.
    pub(super) const COMMITTED: u8 = 2;
}

/// A place in the journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub(super) segment: u64,
    pub(super) byte: u64,
}

/// How many bytes `length` takes in whole sectors.
pub(super) const fn whole_sectors(length: u64) -> u64 {
    length.next_multiple_of(SECTOR)
}

/// How many bytes a frame takes.
pub(super) const fn frame_length(entries: usize, payload: u64) -> u64 {
    ((FRAME_HEADER + entries * DESCRIPTOR) as u64 + payload).next_multiple_of(8)
}

/// How many bytes a commit takes in front of its frames.
pub(super) const fn commit_header_length(frames: usize) -> u64 {
    (COMMIT_HEADER + frames * DIRECTORY_ITEM) as u64
}

/// The checksum of a header at `byte` of a segment.
fn header_checksum(nonce: u64, byte: u64, covered: &[u8]) -> u64 {
    XxHash3_64::oneshot_with_seed(nonce.wrapping_add(byte), covered)
}

/// The checksum of a frame's payloads.
pub(super) fn payload_checksum(nonce: u64, payload: &[u8]) -> u64 {
    XxHash3_64::oneshot_with_seed(nonce, payload)
}

/// Fixed-width fields of a header, by position.
pub(super) mod field {
    /// # Panics
    /// When `bytes` is shorter than the field's end: callers cut headers to
    /// size first.
    pub(in super::super) fn u64(bytes: &[u8], at: usize) -> u64 {
        u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes are eight bytes"))
    }

    pub(in super::super) fn u32(bytes: &[u8], at: usize) -> u32 {
        u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes are four bytes"))
    }

    pub(in super::super) fn set_u64(bytes: &mut [u8], at: usize, value: u64) {
        bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }

    pub(in super::super) fn set_u32(bytes: &mut [u8], at: usize, value: u32) {
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
}

use field::{set_u32, set_u64, u32, u64};

/// What a segment's first sector says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) owner: Owner,
    pub(super) segment: u64,
    pub(super) epoch: u64,
    pub(super) nonce: u64,
    pub(super) bytes: u64,
}

/// Why a header sector says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SegmentHeaderError {
    /// It is not what was written.
    Damaged,
    /// It is of a later format.
    Newer { found: u32 },
}

impl SegmentHeader {
    /// The sector's used part.
    pub(super) fn encode(&self) -> [u8; SEGMENT_HEADER] {
        let mut bytes = [0; SEGMENT_HEADER];
        bytes[..8].copy_from_slice(SEGMENT_MAGIC);
        set_u32(&mut bytes, 8, VERSION);
        set_u64(&mut bytes, 16, self.owner.cluster.get());
        set_u64(&mut bytes, 24, self.owner.node.get());
        set_u64(&mut bytes, 32, self.owner.incarnation.get());
        set_u64(&mut bytes, 40, self.segment);
        set_u64(&mut bytes, 48, self.epoch);
        set_u64(&mut bytes, 56, self.nonce);
        set_u64(&mut bytes, 64, self.bytes);
        let checksum = XxHash3_64::oneshot(&bytes[..SEGMENT_CHECKSUM]);
        set_u64(&mut bytes, SEGMENT_CHECKSUM, checksum);
        bytes
    }

    /// Reads a segment's first sector.
    pub(super) fn decode(sector: &[u8]) -> Result<Self, SegmentHeaderError> {
        let Some(bytes) = sector.get(..SEGMENT_HEADER) else { return Err(SegmentHeaderError::Damaged) };
        let checksum = XxHash3_64::oneshot(&bytes[..SEGMENT_CHECKSUM]);
        if &bytes[..8] != SEGMENT_MAGIC || u64(bytes, SEGMENT_CHECKSUM) != checksum {
            return Err(SegmentHeaderError::Damaged);
        }
        let version = u32(bytes, 8);
        if version > VERSION {
            return Err(SegmentHeaderError::Newer { found: version });
        }
        Ok(Self {
            owner: Owner {
                cluster: ClusterId::new(u64(bytes, 16)),
                node: NodeId::new(u64(bytes, 24)),
                incarnation: Incarnation::new(u64(bytes, 32)),
            },
            segment: u64(bytes, 40),
            epoch: u64(bytes, 48),
            nonce: u64(bytes, 56),
            bytes: u64(bytes, 64),
        })
    }
}

/// A commit's header, without its directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CommitHeader {
    pub(super) sequence: u64,
    /// Where the commit before it ends: synced, all of it.
    pub(super) mark: Position,
    /// Header, directory and frames.
    pub(super) length: u64,
    pub(super) frames: u32,
}

impl CommitHeader {
    /// Where the frames start, after the header's start.
    pub(super) const fn frames_start(&self) -> u64 {
        commit_header_length(self.frames as usize)
    }

    /// How many bytes from this header to the next.
    pub(super) const fn whole_length(&self) -> u64 {
        whole_sectors(self.length)
    }

    /// Completes a header whose directory is in `bytes` already; `bytes` ends
    /// with it.
    pub(super) fn encode(&self, nonce: u64, byte: u64, bytes: &mut [u8]) {
        debug_assert_eq!(bytes.len() as u64, self.frames_start(), "a directory has an item a frame");
        bytes[..4].copy_from_slice(COMMIT_MAGIC);
        set_u32(bytes, 4, 0);
        set_u64(bytes, 16, self.sequence);
        set_u64(bytes, 24, byte);
        set_u64(bytes, 32, self.mark.segment);
        set_u64(bytes, 40, self.mark.byte);
        set_u64(bytes, 48, self.length);
        set_u32(bytes, 56, self.frames);
        set_u32(bytes, 60, 0);
        let checksum = header_checksum(nonce, byte, &bytes[16..]);
        set_u64(bytes, 8, checksum);
    }

    /// How long header and directory claim to be, if `bytes` starts like a
    /// header that has room in `room` bytes; not verified yet.
    pub(super) fn claimed_length(bytes: &[u8], room: u64) -> Option<u64> {
        if bytes.len() < COMMIT_HEADER || &bytes[..4] != COMMIT_MAGIC || u32(bytes, 4) != 0 {
            return None;
        }
        let claimed = commit_header_length(u32(bytes, 56) as usize);
        (claimed <= u64(bytes, 48) && u64(bytes, 48) <= room).then_some(claimed)
    }

    /// Verifies a header with its whole directory in `bytes`.
    pub(super) fn decode(nonce: u64, byte: u64, bytes: &[u8], room: u64) -> Option<Self> {
        let claimed = usize::try_from(Self::claimed_length(bytes, room)?).ok()?;
        let bytes = bytes.get(..claimed)?;
        if u64(bytes, 8) != header_checksum(nonce, byte, &bytes[16..]) || u64(bytes, 24) != byte {
            return None;
        }
        Some(Self {
            sequence: u64(bytes, 16),
            mark: Position { segment: u64(bytes, 32), byte: u64(bytes, 40) },
            length: u64(bytes, 48),
            frames: u32(bytes, 56),
        })
    }
}

/// A frame's item in its commit's directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DirectoryItem {
    pub(super) key: ReplicaKey,
    pub(super) length: u32,
    pub(super) kind: u8,
}

impl DirectoryItem {
    /// Writes item `ordinal` of the directory behind the header at the start
    /// of `commit`.
    pub(super) fn encode(&self, ordinal: usize, commit: &mut [u8]) {
        let at = COMMIT_HEADER + ordinal * DIRECTORY_ITEM;
        let item = &mut commit[at..at + DIRECTORY_ITEM];
        set_u64(item, 0, self.key.group.get());
        set_u64(item, 8, self.key.replica.get());
        set_u32(item, 16, self.length);
        item[20] = self.kind;
        item[21..].fill(0);
    }

    /// Reads item `ordinal` of a verified directory.
    pub(super) fn decode(ordinal: usize, commit: &[u8]) -> Self {
        let at = COMMIT_HEADER + ordinal * DIRECTORY_ITEM;
        let item = &commit[at..at + DIRECTORY_ITEM];
        Self {
            key: ReplicaKey { group: LogId::new(u64(item, 0)), replica: ReplicaId::new(u64(item, 8)) },
            length: u32(item, 16),
            kind: item[20],
        }
    }
}

/// A frame's header, without its descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHeader {
    pub(super) kind: Kind,
    pub(super) flags: u8,
    pub(super) count: u32,
    pub(super) key: ReplicaKey,
    pub(super) index: u64,
    pub(super) term: u64,
    pub(super) payload_length: u64,
    pub(super) payload_checksum: u64,
    pub(super) sequence: u64,
}

impl FrameHeader {
    /// Where the payload starts, after the frame's start.
    pub(super) const fn payload_start(&self) -> u64 {
        (FRAME_HEADER + self.count as usize * DESCRIPTOR) as u64
    }

    /// How many bytes from this frame to the next.
    pub(super) const fn frame_length(&self) -> u64 {
        frame_length(self.count as usize, self.payload_length)
    }

    /// Completes a header whose descriptors are in `bytes` already; `bytes`
    /// ends with them.
    pub(super) fn encode(&self, nonce: u64, byte: u64, bytes: &mut [u8]) {
        debug_assert_eq!(bytes.len() as u64, self.payload_start(), "a frame has a descriptor an entry");
        bytes[..4].copy_from_slice(FRAME_MAGIC);
        set_u32(bytes, 4, 0);
        bytes[16] = self.kind.code();
        bytes[17] = self.flags;
        bytes[18..20].fill(0);
        set_u32(bytes, 20, self.count);
        set_u64(bytes, 24, self.key.group.get());
        set_u64(bytes, 32, self.key.replica.get());
        set_u64(bytes, 40, self.index);
        set_u64(bytes, 48, self.term);
        set_u64(bytes, 56, 0);
        set_u64(bytes, 64, self.payload_length);
        set_u64(bytes, 72, self.payload_checksum);
        set_u64(bytes, 80, self.sequence);
        let checksum = header_checksum(nonce, byte, &bytes[16..]);
        set_u64(bytes, 8, checksum);
    }

    /// Verifies a frame's header, descriptors included, at the start of
    /// `bytes`, which hold the whole frame; `None` if anything is wrong.
    pub(super) fn decode(nonce: u64, byte: u64, bytes: &[u8]) -> Option<Self> {
        let fixed = bytes.get(..FRAME_HEADER)?;
        if &fixed[..4] != FRAME_MAGIC || u32(fixed, 4) != 0 {
            return None;
        }
        let count = u32(fixed, 20);
        let header = bytes.get(..FRAME_HEADER + count as usize * DESCRIPTOR)?;
        if u64(header, 8) != header_checksum(nonce, byte, &header[16..]) {
            return None;
        }
        let decoded = Self {
            kind: Kind::of(header[16])?,
            flags: header[17],
            count,
            key: ReplicaKey { group: LogId::new(u64(header, 24)), replica: ReplicaId::new(u64(header, 32)) },
            index: u64(header, 40),
            term: u64(header, 48),
            payload_length: u64(header, 64),
            payload_checksum: u64(header, 72),
            sequence: u64(header, 80),
        };
        (decoded.payload_length <= bytes.len() as u64 && decoded.frame_length() <= bytes.len() as u64)
            .then_some(decoded)
    }

    /// The entries' terms and payload lengths, from a verified frame.
    pub(super) fn descriptors<'a>(&self, frame: &'a [u8]) -> impl ExactSizeIterator<Item = (u64, u32)> + use<'a> {
        frame[FRAME_HEADER..FRAME_HEADER + self.count as usize * DESCRIPTOR]
            .chunks_exact(DESCRIPTOR)
            .map(|descriptor| (u64(descriptor, 0), u32(descriptor, 8)))
    }

    /// The payloads, from a frame whose header was verified; `None` if they
    /// are not what was written.
    pub(super) fn payload<'a>(&self, nonce: u64, frame: &'a [u8]) -> Option<&'a [u8]> {
        let start = usize::try_from(self.payload_start()).ok()?;
        let length = usize::try_from(self.payload_length).ok()?;
        let payload = frame.get(start..start.checked_add(length)?)?;
        let described: u64 = self.descriptors(frame).map(|(_, length)| u64::from(length)).sum();
        let entries = matches!(self.kind, Kind::Entries | Kind::Relocated);
        let sound =
            payload_checksum(nonce, payload) == self.payload_checksum && (!entries || described == self.payload_length);
        sound.then_some(payload)
    }
}
