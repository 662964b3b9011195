//! A disk with a journal on it, and rows of its index, as a fuzzer's input.
//!
//! ```text
//!   how │ steps (1) │ step (1) │ … what is done with the journal, once it is open
//!       │ rows (1) │ key length (1), value length (1), key, value │ …
//!       │ files (1)│ name (1), sectors (1), pieces (1) │ offset (2), length (2), bytes │ …
//! ```
//!
//! Numbers are little-endian. What the pieces leave out is zeros; an input
//! that ends early is a shorter image.

use std::sync::{Arc, Mutex};

use quipu_protocol::environment::Random;
use quipu_protocol::{ClusterId, Incarnation, NodeId};
use quipu_storage::journal::{JournalConfig, Owner};
use quipu_storage::{Access, AlignedBuffer, Batch, Disk, Kv, MemoryDisk, MemoryKv, Space};

use crate::seal;

/// Bit of the first byte: checksums are made right.
pub(crate) const SEALED: u8 = 1;

const SECTOR: usize = 4096;
const MAX_STEPS: u8 = 8;
const MAX_ROWS: u8 = 32;
const MAX_FILES: u8 = 6;
const MAX_SECTORS: u8 = 16;
/// Zeros between two pieces have to be so many, or they are one piece.
const GAP: usize = 8;
const MANIFEST: &str = "journal/MANIFEST";

/// Whose the journals of all images are.
pub(crate) const OWNER: Owner =
    Owner { cluster: ClusterId::new(0xC1), node: NodeId::new(3), incarnation: Incarnation::new(0x0D15_C000) };

/// Segments of eight sectors.
pub(crate) const CONFIG: JournalConfig = JournalConfig {
    segment_bytes: 8 * SECTOR as u64,
    spare_segments: 1,
    tail_cache_bytes: 0,
    ..JournalConfig::DEFAULT
};

/// An image, and what it is.
pub(crate) struct Image {
    pub(crate) disk: Arc<MemoryDisk>,
    pub(crate) kv: Arc<MemoryKv>,
    pub(crate) sealed: bool,
    pub(crate) has_rows: bool,
    pub(crate) steps: Vec<u8>,
}

/// Reads `input` from front to back; what is missing is 0.
pub(crate) struct Input<'a>(pub(crate) &'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or(0)
    }

    pub(crate) fn short(&mut self) -> usize {
        usize::from(self.byte()) | usize::from(self.byte()) << 8
    }

    pub(crate) fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

/// The file that a name's byte stands for.
fn path(name: u8) -> String {
    match name {
        0 => MANIFEST.to_owned(),
        0xff => format!("{MANIFEST}.new"),
        number => format!("journal/{number:08}.segment"),
    }
}

fn name(path: &str) -> Option<u8> {
    (0..=u8::MAX).find(|number| self::path(*number) == path)
}

/// The image that `input` describes, all of it on the medium.
pub(crate) fn read(input: &[u8]) -> Image {
    let mut input = Input(input);
    let how = input.byte();
    let steps = input.byte().min(MAX_STEPS);
    let steps = input.bytes(steps.into()).to_vec();
    let kv = MemoryKv::new();
    let mut rows = Batch::new();
    let count = input.byte().min(MAX_ROWS);
    for _ in 0..count {
        let (key, value) = (usize::from(input.byte()), usize::from(input.byte()));
        rows.put(Space::Index, input.bytes(key).to_vec(), input.bytes(value).to_vec());
    }
    kv.write(rows).and_then(|()| kv.flush()).expect("memory takes it");

    let disk = MemoryDisk::new(1);
    disk.create_directory("journal").expect("a new disk");
    let files = input.byte().min(MAX_FILES);
    for _ in 0..files {
        let path = path(input.byte());
        let mut content = vec![0; usize::from(input.byte().min(MAX_SECTORS)) * SECTOR];
        for _ in 0..input.byte() {
            let (offset, length) = (input.short(), input.short());
            let piece = input.bytes(length);
            let room = content.get_mut(offset..).unwrap_or_default();
            let fits = piece.len().min(room.len());
            room[..fits].copy_from_slice(&piece[..fits]);
        }
        if how & SEALED != 0 {
            match path.as_str() {
                MANIFEST => seal::manifest(&mut content),
                _ => seal::segment(&mut content),
            }
        }
        write(&disk, &path, &content);
    }
    disk.sync_directory("journal").expect("memory syncs");
    Image { disk: Arc::new(disk), kv: Arc::new(kv), sealed: how & SEALED != 0, has_rows: count > 0, steps }
}

fn write(disk: &MemoryDisk, path: &str, content: &[u8]) {
    // A file named twice has its first content.
    let Ok(file) = disk.create(path, Access::Buffered) else { return };
    if !content.is_empty() {
        disk.write_at(file, 0, &AlignedBuffer::padded(content)).expect("memory takes it");
    }
    disk.sync(file).expect("memory syncs");
    disk.close(file);
}

/// `disk` and `kv` as an input, as far as it has room for them.
pub(crate) fn describe(how: u8, steps: &[u8], disk: &MemoryDisk, kv: &dyn Kv) -> Vec<u8> {
    let rows = kv.scan(Space::Index, &[0], &[0xff], usize::from(MAX_ROWS)).expect("memory answers");
    let byte = |count: usize| u8::try_from(count).expect("seeds are small");
    let mut input = vec![how, byte(steps.len())];
    input.extend_from_slice(steps);
    input.push(byte(rows.len()));
    for (key, value) in &rows {
        input.extend([byte(key.len()), byte(value.len())]);
        input.extend_from_slice(key);
        input.extend_from_slice(value);
    }
    let files: Vec<(u8, String)> =
        disk.list_files().into_iter().filter_map(|path| Some((name(&path)?, path))).collect();
    input.push(byte(files.len()));
    for (name, path) in files {
        let content = disk.content(&path).expect("it was listed");
        let pieces = pieces(&content);
        input.extend([name, byte(content.len() / SECTOR), byte(pieces.len())]);
        for (offset, piece) in pieces {
            for number in [offset, piece.len()] {
                input.extend_from_slice(&u16::try_from(number).expect("seeds are small").to_le_bytes());
            }
            input.extend_from_slice(piece);
        }
    }
    input
}

/// What is not zero in `content`, with where it is.
fn pieces(content: &[u8]) -> Vec<(usize, &[u8])> {
    let mut pieces: Vec<(usize, usize)> = Vec::new();
    for (at, _) in content.iter().enumerate().filter(|(_, byte)| **byte != 0) {
        match pieces.last_mut() {
            Some((_, end)) if at < *end + GAP => *end = at + 1,
            _ => pieces.push((at, at + 1)),
        }
    }
    pieces.into_iter().map(|(start, end)| (start, &content[start..end])).collect()
}

/// Numbers that differ and always are the same.
#[derive(Default)]
pub(crate) struct Counting(Mutex<u64>);

impl Random for Counting {
    fn next(&self) -> u64 {
        let mut last = self.0.lock().expect("nobody panics with it");
        *last = last.wrapping_add(0x9E37_79B9_7F4A_7C15);
        *last
    }
}
