//! The journal's decoders, one by one.
//!
//! Input: a byte (bit 7: sealed; the rest: which decoder), then its bytes,
//! which begin with what they are checked against.

use std::sync::Arc;

use quipu_storage::journal::{Journal, fuzzing};
use quipu_storage::{MemoryDisk, MemoryKv};

use crate::image::{CONFIG, Counting, OWNER};
use crate::{choice, recovery, seal};

const SEALED: u8 = 0x80;
/// Where the bytes lie in their segment.
const BYTE: u64 = 4096;
const NONCE: u64 = 7;

/// Puts the bytes to one decoder.
pub fn run(input: &[u8]) {
    let (how, bytes) = choice(input);
    let mut bytes = bytes.to_vec();
    let sealed = how & SEALED != 0;
    match how & 3 {
        0 => {
            if sealed {
                seal::segment_header(&mut bytes);
            }
            fuzzing::segment_header(&bytes);
        }
        1 => {
            if sealed {
                seal::commit_header(NONCE, BYTE, &mut bytes);
            }
            fuzzing::commit_header(NONCE, BYTE, &bytes);
        }
        2 => {
            if sealed {
                seal::frame(NONCE, BYTE, &mut bytes);
            }
            fuzzing::frame(NONCE, BYTE, &bytes);
        }
        _ => {
            let (key, row) = bytes.split_at(bytes.len().min(25));
            fuzzing::index_row(key, row);
        }
    }
}

/// Headers, commits, frames and rows of a real journal.
pub fn seeds() -> Vec<Vec<u8>> {
    let (disk, kv) = (Arc::new(MemoryDisk::new(1)), Arc::new(MemoryKv::new()));
    let opened = fuzzing::open(disk.clone(), kv.clone(), Arc::new(Counting::default()), CONFIG, OWNER);
    let (journal, _): (Journal, _) = opened.expect("a new disk");
    recovery::live(&journal, 30);
    let mut seeds = Vec::new();
    for path in disk.list_files().iter().filter(|path| path.ends_with(".segment")) {
        let content = disk.content(path).expect("it was listed");
        seeds.push([&[SEALED], &content[..128]].concat());
        for at in (4096..content.len()).step_by(8) {
            let which = match &content[at..at + 4] {
                b"QCMT" => 1,
                b"QFRM" => 2,
                _ => continue,
            };
            let end = (at + 512).min(content.len());
            seeds.push([&[SEALED | which], &content[at..end]].concat());
        }
    }
    seeds.truncate(40);
    let rows = quipu_storage::Kv::scan(&*kv, quipu_storage::Space::Index, &[0], &[0xff], 10).expect("memory answers");
    seeds.extend(rows.into_iter().map(|(key, row)| {
        let mut padded = key.to_vec();
        padded.resize(25, 0);
        [&[3], &padded[..], &row[..]].concat()
    }));
    seeds
}
