//! Segment files: preparing them, checking them, and having them open.
//!
//! A segment is written full of zeros, header last, and synced before the
//! manifest lists it: on the disks that were measured, only blocks that were
//! written once take a small write and its fdatasync at full speed.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use super::config::Owner;
use super::error::OpenError;
use super::format::{
    CommitHeader, FIRST_COMMIT, SECTOR, SECTOR_BYTES, SegmentHeader, SegmentHeaderError, UNREADABLE, VERSION,
};
use super::manifest::{DIRECTORY, Segment};
use crate::disk::{ALIGNMENT, Access, AlignedBuffer, Disk, FileId, is_unreadable};

/// How much is written at once when a segment is prepared.
const PREPARE_BYTES: usize = 1024 * 1024;

/// What it is full of. Kept: to get so much memory and clear it for each segment
/// costs as much time as to write a part of the segment.
static ZEROS: LazyLock<AlignedBuffer> = LazyLock::new(|| AlignedBuffer::zeroed(PREPARE_BYTES));

/// Where a segment's first commit header ends at the latest: with all frames
/// that the smallest of them let into one commit.
const FIRST_COMMIT_BYTES: usize = 1024 * 1024;

/// How many sealed segments are kept open for reading.
const OPEN_FILES: usize = 64;

/// The file of segment `id`.
pub(super) fn path(id: u64) -> String {
    format!("{DIRECTORY}/{id:08}.segment")
}

/// The number in a segment file's name.
pub(super) fn id_of(name: &str) -> Option<u64> {
    name.strip_suffix(".segment")?.parse().ok()
}

/// Writes a new segment file and makes it durable, name included; on an error
/// nothing is left of it.
pub(super) fn prepare(disk: &dyn Disk, segment: &Segment, owner: &Owner) -> io::Result<()> {
    let path = path(segment.id);
    let file = disk.create(&path, Access::Direct)?;
    let written = fill(disk, file, segment, owner);
    disk.close(file);
    let prepared = written.and_then(|()| disk.sync_directory(DIRECTORY));
    if prepared.is_err() {
        // It is listed nowhere; what cannot be removed now is removed at the
        // next start.
        let _ = disk.remove(&path);
    }
    prepared
}

fn fill(disk: &dyn Disk, file: FileId, segment: &Segment, owner: &Owner) -> io::Result<()> {
    let (chunk, mut byte) = (PREPARE_BYTES as u64, 0);
    while segment.bytes - byte >= chunk {
        disk.write_at(file, byte, &ZEROS)?;
        byte += chunk;
    }
    let rest = usize::try_from(segment.bytes - byte).expect("less than a mebibyte");
    if rest > 0 {
        disk.write_at(file, byte, &AlignedBuffer::zeroed(rest))?;
    }
    write_header(disk, file, segment, owner)
}

/// Writes a segment's header sector and makes the file durable.
fn write_header(disk: &dyn Disk, file: FileId, segment: &Segment, owner: &Owner) -> io::Result<()> {
    let header = SegmentHeader {
        owner: *owner,
        segment: segment.id,
        epoch: segment.epoch,
        nonce: segment.nonce,
        bytes: segment.bytes,
    };
    disk.write_at(file, 0, &AlignedBuffer::padded(&header.encode()))?;
    disk.sync(file)
}

/// Puts the file of segment `old` to use as `segment`, which has its length,
/// under a new nonce: what was written to it before is not taken for anything
/// any more. Nobody may read `old`, and no manifest may list it; durable on
/// return, name included.
pub(super) fn reuse(disk: &dyn Disk, old: u64, segment: &Segment, owner: &Owner) -> io::Result<()> {
    let file = disk.open(&path(old), Access::Direct)?;
    let written = write_header(disk, file, segment, owner);
    disk.close(file);
    // The header first: under its new name the old one would pass for a
    // segment that was written to and that no manifest lists.
    written?;
    disk.rename(&path(old), &path(segment.id))?;
    disk.sync_directory(DIRECTORY)
}

/// Whether the file of segment `id`, which no manifest lists, was written to
/// all the same. One that is half prepared was not, whatever is in it.
pub(super) fn holds_commits(disk: &dyn Disk, id: u64) -> Result<bool, OpenError> {
    let path = path(id);
    let failed = |source| OpenError::disk("read", &path, source);
    let file = disk.open(&path, Access::Direct).map_err(failed)?;
    let mut start = AlignedBuffer::zeroed(FIRST_COMMIT_BYTES);
    let read = disk.read_at(file, 0, &mut start);
    disk.close(file);
    start.resize(read.map_err(failed)?);
    let header = match SegmentHeader::decode(&start) {
        Err(SegmentHeaderError::Damaged) => return Ok(false),
        Err(SegmentHeaderError::Newer { found }) => {
            return Err(OpenError::NewerVersion { path, found, known: VERSION });
        }
        Ok(header) => header,
    };
    let (first, room) = (start.get(ALIGNMENT..), header.bytes.saturating_sub(FIRST_COMMIT));
    Ok(first.and_then(|first| CommitHeader::decode(header.nonce, FIRST_COMMIT, first, room)).is_some())
}

/// An open segment file, closed when the last holder lets go.
pub(super) struct SegmentFile {
    disk: Arc<dyn Disk>,
    file: FileId,
    /// The segment it is of.
    pub(super) segment: Segment,
}

impl SegmentFile {
    /// Opens a listed segment, unchecked.
    pub(super) fn open(disk: &Arc<dyn Disk>, segment: Segment) -> io::Result<Self> {
        let file = disk.open(&path(segment.id), Access::Direct)?;
        Ok(Self { disk: disk.clone(), file, segment })
    }

    /// Its handle, for operations to submit.
    pub(super) fn id(&self) -> FileId {
        self.file
    }

    /// Makes what was written to it durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.disk.sync(self.file)
    }

    /// Reads the sectors that hold `start..end` into `buffer`; returns where
    /// in the segment the buffer starts.
    pub(super) fn read_sectors(&self, start: u64, end: u64, buffer: &mut AlignedBuffer) -> io::Result<u64> {
        let (aligned, length) = (start / SECTOR * SECTOR, end.next_multiple_of(SECTOR) - start / SECTOR * SECTOR);
        buffer.resize(usize::try_from(length).map_err(|_| io::ErrorKind::FileTooLarge)?);
        let read = self.disk.read_at(self.file, aligned, buffer)?;
        if (read as u64) < end - aligned {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("{} ends at byte {}", path(self.segment.id), aligned + read as u64),
            ));
        }
        Ok(aligned)
    }

    /// As [`read_sectors`](Self::read_sectors), for whoever goes by checksums: what
    /// the disk does not give, and does not give when asked once more, is
    /// [`UNREADABLE`], and so is what comes after it.
    pub(super) fn read_checked(&self, start: u64, end: u64, buffer: &mut AlignedBuffer) -> io::Result<u64> {
        match self.read_sectors(start, end, buffer) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof || is_unreadable(&error) => {}
            read => return read,
        }
        let aligned = start / SECTOR * SECTOR;
        buffer.fill(UNREADABLE);
        let mut sector = AlignedBuffer::new();
        for (number, place) in buffer.chunks_mut(SECTOR_BYTES).enumerate() {
            let byte = aligned + number as u64 * SECTOR;
            match self.read_sectors(byte, byte + SECTOR, &mut sector) {
                Ok(_) => place.copy_from_slice(&sector),
                Err(error) => {
                    tracing::warn!(%error, path = path(self.segment.id), byte, "a sector cannot be read");
                    break;
                }
            }
        }
        Ok(aligned)
    }

    /// Whether this is the file that the manifest means. A damaged header is
    /// no error, since the manifest holds all that it says: false then.
    pub(super) fn check(&self, owner: &Owner) -> Result<bool, OpenError> {
        let path = path(self.segment.id);
        let failed = |source| OpenError::disk("read", &path, source);
        let found = self.disk.length(self.file).map_err(failed)?;
        if found != self.segment.bytes {
            return Err(OpenError::SegmentLength { path, found, wanted: self.segment.bytes });
        }
        let mut sector = AlignedBuffer::new();
        self.read_checked(0, SECTOR, &mut sector).map_err(failed)?;
        let header = match SegmentHeader::decode(&sector) {
            Err(SegmentHeaderError::Damaged) => return Ok(false),
            Err(SegmentHeaderError::Newer { found }) => {
                return Err(OpenError::NewerVersion { path, found, known: VERSION });
            }
            Ok(header) => header,
        };
        if !owner.accepts(&header.owner) {
            return Err(OpenError::Foreign { path, found: header.owner, wanted: *owner });
        }
        if (header.segment, header.bytes) != (self.segment.id, self.segment.bytes) {
            return Err(OpenError::WrongSegment { path, reason: "its number or length differs" });
        }
        if (header.epoch, header.nonce) != (self.segment.epoch, self.segment.nonce) {
            return Err(OpenError::WrongSegment { path, reason: "it is from another use of the file" });
        }
        Ok(true)
    }
}

impl Drop for SegmentFile {
    fn drop(&mut self) {
        self.disk.close(self.file);
    }
}

/// The segments that reads need, opened when needed; the least recently used
/// are closed beyond [`OPEN_FILES`].
pub(super) struct SegmentFiles {
    disk: Arc<dyn Disk>,
    open: Mutex<Opened>,
}

#[derive(Default)]
struct Opened {
    files: BTreeMap<u64, (u64, Arc<SegmentFile>)>,
    uses: u64,
}

impl SegmentFiles {
    pub(super) fn new(disk: Arc<dyn Disk>) -> Self {
        Self { disk, open: Mutex::default() }
    }

    /// Lets go of segment `id`; who reads it keeps it open until done.
    pub(super) fn forget(&self, id: u64) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).files.remove(&id);
    }

    /// The file of `segment`.
    pub(super) fn get(&self, segment: Segment) -> io::Result<Arc<SegmentFile>> {
        let mut opened = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        opened.uses += 1;
        let now = opened.uses;
        if let Some((used, file)) = opened.files.get_mut(&segment.id) {
            *used = now;
            return Ok(file.clone());
        }
        let file = Arc::new(SegmentFile::open(&self.disk, segment)?);
        if opened.files.len() >= OPEN_FILES {
            let oldest = opened.files.iter().min_by_key(|(_, (used, _))| *used).map(|(id, _)| *id);
            oldest.map(|id| opened.files.remove(&id));
        }
        opened.files.insert(segment.id, (now, file.clone()));
        Ok(file)
    }
}
