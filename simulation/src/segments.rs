//! What faults have to know of the journal's files: where commits begin.

use quipu_storage::MemoryDisk;
use quipu_storage::disk::ALIGNMENT;

/// A commit begins so, at a multiple of [`ALIGNMENT`].
const COMMIT_MAGIC: &[u8] = b"QCMT";
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
