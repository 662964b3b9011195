//! Ways in for the fuzz targets (`fuzz/`): they put bytes to decoders that
//! nobody outside of the journal has a use for. Nothing in here decides
//! anything.

use std::sync::Arc;

use quipu_protocol::Index;
use quipu_protocol::environment::Random;

use super::entry::Entry;
use super::format::{CommitHeader, FrameHeader, Kind, SegmentHeader};
use super::frame::{Change, entries_of};
use super::manifest::Manifest;
use super::{Journal, JournalConfig, OpenError, Owner, RecoveryReport, index};
use crate::disk::Disk;
use crate::kv::Kv;

/// [`Journal::open`] with segments of any number of sectors: an image has to
/// fit into a fuzzer's input.
///
/// # Errors
/// As [`Journal::open`] has them, but for the configuration.
pub fn open(
    disk: Arc<dyn Disk>,
    kv: Arc<dyn Kv>,
    random: Arc<dyn Random>,
    config: JournalConfig,
    owner: Owner,
) -> Result<(Journal, RecoveryReport), OpenError> {
    Journal::open_checked(disk, kv, random, config, owner, 0)
}

/// Reads a manifest; what is read has to be written as it was.
pub fn manifest(content: &[u8]) -> Result<(), OpenError> {
    let manifest = Manifest::decode(content)?;
    assert_eq!(Manifest::decode(&manifest.encode())?, manifest, "a manifest that was read is written as it was");
    Ok(())
}

/// Reads a segment's first sector; whether it is one.
pub fn segment_header(sector: &[u8]) -> bool {
    let decoded = SegmentHeader::decode(sector);
    if let Ok(header) = decoded {
        assert_eq!(SegmentHeader::decode(&header.encode()), Ok(header), "a header that was read is written as it was");
    }
    decoded.is_ok()
}

/// Reads the commit header at `byte` of a segment that ends with `bytes`;
/// whether it is one.
pub fn commit_header(nonce: u64, byte: u64, bytes: &[u8]) -> bool {
    let room = bytes.len() as u64;
    let decoded = CommitHeader::decode(nonce, byte, bytes, room);
    if let Some(header) = decoded {
        assert!(header.frames_start() <= header.length && header.length <= room, "a commit lies in its segment");
    }
    decoded.is_some()
}

/// Reads the frame at `byte` of a segment; its entries, if it has any.
pub fn frame(nonce: u64, byte: u64, bytes: &[u8]) -> Vec<Entry> {
    let Some(header) = FrameHeader::decode(nonce, byte, bytes) else { return Vec::new() };
    assert!(header.frame_length() <= bytes.len() as u64, "a frame lies in its commit");
    let (Some(change), Some(payload)) = (Change::of(&header, bytes), header.payload(nonce, bytes)) else {
        return Vec::new();
    };
    if header.kind != Kind::Entries {
        return Vec::new();
    }
    let entries = entries_of(&header, bytes, payload, Index::new(header.index));
    let Change::Entries { first, count, .. } = change else { panic!("entries change entries") };
    assert_eq!(entries.len(), count as usize, "a frame has as many entries as it says");
    assert!(entries.iter().zip(first.get()..).all(|(entry, index)| entry.id.index.get() == index), "without gaps");
    entries
}

/// Reads the values of the index's rows; whether any is legible.
pub fn index_row(key: &[u8], row: &[u8]) -> bool {
    index::legible(key, row)
}
