//! What faults have to know of the journal's files: where commits begin.

use quipu_storage::MemoryDisk;
use quipu_storage::disk::ALIGNMENT;

/// A commit begins so, at a multiple of [`ALIGNMENT`].
const COMMIT_MAGIC: &[u8] = b"QCMT";
/// A frame begins so, at a multiple of 8.
const FRAME_MAGIC: &[u8] = b"QFRM";
/// A frame's header without its descriptors, one of which it has for each entry.
const FRAME_HEADER: u64 = 88;
/// See [`FRAME_HEADER`].
const DESCRIPTOR: u64 = 16;
/// A commit's header has so many bytes.
pub(crate) const COMMIT_HEADER: u64 = 64;

/// A segment that holds commits.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) path: String,
    /// Where each begins.
    pub(crate) commits: Vec<u64>,
    /// Where the last one ends, at the latest: behind it are zeros.
    pub(crate) end: u64,
}

/// A bit of a frame's payload.
pub(crate) struct Place {
    pub(crate) path: String,
    pub(crate) byte: u64,
    pub(crate) bit: u8,
}

/// A bit of an entry's payload in a segment that is not the newest; `below`
/// draws a number below its argument.
pub(crate) fn sealed_payload(disk: &MemoryDisk, mut below: impl FnMut(u64) -> u64) -> Option<Place> {
    let mut segments = written(disk);
    segments.pop()?;
    let segment = segments.get(usize::try_from(below(segments.len() as u64)).ok()?)?;
    let bytes = disk.content(&segment.path)?;
    let number = |at: usize, length: usize| {
        let field = bytes.get(at..at + length)?;
        Some(field.iter().rev().fold(0_u64, |number, byte| number << 8 | u64::from(*byte)))
    };
    let payloads = (0..bytes.len()).step_by(8).filter_map(|at| {
        // A frame's kind is one that holds entries, and it has a payload.
        let is_frame = bytes.get(at..at + 4)? == FRAME_MAGIC && [1, 8].contains(&number(at + 16, 1)?);
        let (count, length) = (number(at + 20, 4)?, number(at + 64, 8)?);
        let start = at as u64 + FRAME_HEADER + count * DESCRIPTOR;
        (is_frame && length > 0 && start + length <= segment.end).then_some((start, length))
    });
    let payloads: Vec<(u64, u64)> = payloads.collect();
    let (start, length) = *payloads.get(usize::try_from(below(payloads.len() as u64)).ok()?)?;
    let byte = start + below(length);
    Some(Place { path: segment.path.clone(), byte, bit: u8::try_from(below(8)).ok()? })
}

/// The segments that hold commits, the newest last.
pub(crate) fn written(disk: &MemoryDisk) -> Vec<Segment> {
    let paths = disk.list_files().into_iter().filter(|path| path.ends_with(".segment"));
    let segments = paths.filter_map(|path| {
        let bytes = disk.content(&path)?;
        let sectors = bytes.chunks(ALIGNMENT).enumerate().filter(|(_, sector)| sector.starts_with(COMMIT_MAGIC));
        let commits: Vec<u64> = sectors.map(|(at, _)| (at * ALIGNMENT) as u64).collect();
        let end = bytes.iter().rposition(|byte| *byte != 0)? as u64 + 1;
        Some(Segment { path, commits, end }).filter(|segment| !segment.commits.is_empty())
    });
    segments.collect()
}
