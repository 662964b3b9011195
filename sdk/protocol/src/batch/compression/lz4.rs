//! LZ4 frames (<https://github.com/lz4/lz4/blob/dev/doc/lz4_Frame_format.md>).
//!
//! The blocks are lz4_flex's work, the frame around them is handled here:
//! lz4_flex's own frame decoder sets up to 8 MiB aside because a frame of
//! eleven bytes says that its blocks may be large.

use lz4_flex::block::{CompressTable, compress_into_with_table, decompress_into_with_dict, get_maximum_output_size};
use twox_hash::XxHash32;

use super::{broken, take, take_number, too_large};
use crate::batch::BatchError;

const MAGIC: [u8; 4] = 0x184d_2204_u32.to_le_bytes();

// The descriptor's first byte.
const VERSION_MASK: u8 = 0b1100_0000;
const VERSION: u8 = 0b0100_0000;
const INDEPENDENT_BLOCKS: u8 = 0b0010_0000;
const BLOCK_CHECKSUMS: u8 = 0b0001_0000;
const CONTENT_SIZE: u8 = 0b0000_1000;
const CONTENT_CHECKSUM: u8 = 0b0000_0100;
const RESERVED: u8 = 0b0000_0010;
const DICTIONARY: u8 = 0b0000_0001;

/// A block's length carries this bit when the block is stored as it is.
const STORED: u32 = 1 << 31;
/// How far back a block may refer, bytes.
const HISTORY_BYTES: usize = 64 << 10;
/// No block yields more than this for each of its bytes.
const MAX_RATIO: usize = 255;

/// The largest block by the descriptor's second byte, bits 4–6.
const fn block_bytes(size: u8) -> Option<usize> {
    match size {
        4..=7 => Some(1 << (2 * size + 8)),
        _ => None,
    }
}

/// A hash table and a buffer that are used again for every frame.
#[derive(Default)]
pub(in crate::batch) struct Compressor {
    table: CompressTable,
    frame: Vec<u8>,
}

impl Compressor {
    /// `plain` as one frame of independent blocks. None when it does not get
    /// smaller.
    pub(super) fn compress(&mut self, plain: &[u8]) -> Option<&[u8]> {
        let size = (4..7).find(|&size| block_bytes(size).is_some_and(|bytes| plain.len() <= bytes)).unwrap_or(7);
        let descriptor = [VERSION | INDEPENDENT_BLOCKS, size << 4];
        self.frame.clear();
        self.frame.extend_from_slice(&MAGIC);
        self.frame.extend_from_slice(&descriptor);
        self.frame.push(descriptor_checksum(&descriptor));
        for block in plain.chunks(block_bytes(size)?) {
            let start = self.frame.len();
            self.frame.resize(start + 4 + get_maximum_output_size(block.len()), 0);
            let length = compress_into_with_table(block, &mut self.frame[start + 4..], &mut self.table).ok()?;
            if length >= block.len() {
                // One such block does not make the whole larger by more than
                // its length field, but it makes it not worth the reader's time.
                return None;
            }
            self.frame[start..start + 4].copy_from_slice(&u32::try_from(length).ok()?.to_le_bytes());
            self.frame.truncate(start + 4 + length);
        }
        self.frame.extend_from_slice(&[0; 4]);
        Some(&self.frame)
    }
}

/// Appends the content of `frame` to `plain`, which is empty.
pub(super) fn decompress(mut frame: &[u8], max_bytes: usize, plain: &mut Vec<u8>) -> Result<(), BatchError> {
    let frame = &mut frame;
    if take(frame, 4)? != MAGIC {
        return Err(broken("it is no LZ4 frame"));
    }
    let start = *frame;
    let flags = take(frame, 1)?[0];
    let sizes = take(frame, 1)?[0];
    if flags & VERSION_MASK != VERSION || flags & RESERVED != 0 || sizes & 0b1000_1111 != 0 {
        return Err(broken("the LZ4 frame is of an unknown version"));
    }
    if flags & DICTIONARY != 0 {
        return Err(broken("the LZ4 frame needs a dictionary"));
    }
    let block_bytes = block_bytes(sizes >> 4).ok_or_else(|| broken("the LZ4 frame has an unknown block size"))?;
    let content_size = if flags & CONTENT_SIZE != 0 { Some(take_number(frame, 8)?) } else { None };
    let descriptor = &start[..start.len() - frame.len()];
    if take(frame, 1)?[0] != descriptor_checksum(descriptor) {
        return Err(broken("the LZ4 frame's header fails its checksum"));
    }
    if let Some(actual) = content_size.filter(|&size| size > max_bytes as u64) {
        return Err(too_large(max_bytes, actual));
    }

    loop {
        let length = u32::try_from(take_number(frame, 4)?).expect("four bytes are 32 bits");
        if length == 0 {
            break;
        }
        let block = take(frame, (length & !STORED) as usize)?;
        if flags & BLOCK_CHECKSUMS != 0 && take_number(frame, 4)? != u64::from(XxHash32::oneshot(0, block)) {
            return Err(broken("an LZ4 block fails its checksum"));
        }
        let before = plain.len();
        if length & STORED != 0 {
            if block.len() > block_bytes {
                return Err(broken("an LZ4 block is larger than its frame says"));
            }
            plain.extend_from_slice(block);
        } else {
            // One byte more than is allowed tells "as much" from "too much".
            let allowed = max_bytes - before + 1;
            let room = block_bytes.min(block.len().saturating_mul(MAX_RATIO)).min(allowed);
            plain.resize(before + room, 0);
            let (history, output) = plain.split_at_mut(before);
            let history = match flags & INDEPENDENT_BLOCKS {
                0 => &history[before.saturating_sub(HISTORY_BYTES)..],
                _ => &[],
            };
            let length = decompress_into_with_dict(block, output, history).map_err(|error| match error {
                lz4_flex::block::DecompressError::OutputTooSmall { .. } if room == allowed => {
                    too_large(max_bytes, max_bytes as u64 + 1)
                }
                error => broken(format!("an LZ4 block is malformed ({error})")),
            })?;
            plain.truncate(before + length);
        }
        if plain.len() > max_bytes {
            return Err(too_large(max_bytes, plain.len() as u64));
        }
    }
    if flags & CONTENT_CHECKSUM != 0 && take_number(frame, 4)? != u64::from(XxHash32::oneshot(0, plain)) {
        return Err(broken("the LZ4 frame's content fails its checksum"));
    }
    if content_size.is_some_and(|size| size != plain.len() as u64) {
        return Err(broken("the LZ4 frame has another size than it says"));
    }
    if !frame.is_empty() {
        return Err(broken("bytes follow the LZ4 frame"));
    }
    Ok(())
}

fn descriptor_checksum(descriptor: &[u8]) -> u8 {
    XxHash32::oneshot(0, descriptor).to_le_bytes()[1]
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};

    use super::{Compressor, decompress};
    use crate::batch::BatchError;

    fn text(bytes: usize) -> Vec<u8> {
        (0_u32..).flat_map(|n| format!("{n} is a number; ").into_bytes()).take(bytes).collect()
    }

    #[test]
    fn any_lz4_reader_reads_our_frames() {
        for bytes in [100, 65_536, 65_537, 300_000, 5 << 20] {
            let plain = text(bytes);
            let mut compressor = Compressor::default();
            let frame = compressor.compress(&plain).expect("text gets smaller");
            let mut back = Vec::new();
            FrameDecoder::new(frame).read_to_end(&mut back).expect("a frame");
            assert!(back == plain, "{bytes} bytes came back different");
        }
    }

    #[test]
    fn frames_of_other_writers_are_read() {
        let plain = text(200_000);
        for mode in [BlockMode::Independent, BlockMode::Linked] {
            let info = FrameInfo::new()
                .block_mode(mode)
                .block_size(BlockSize::Max64KB)
                .block_checksums(true)
                .content_checksum(true)
                .content_size(Some(plain.len() as u64));
            let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
            encoder.write_all(&plain).expect("memory takes it");
            let frame = encoder.finish().expect("a frame");
            let mut back = Vec::new();
            decompress(&frame, plain.len(), &mut back).expect("a frame");
            assert!(back == plain, "{mode:?}");

            let cap = plain.len() - 1;
            let error = decompress(&frame, cap, &mut Vec::new()).expect_err("over the cap");
            assert!(matches!(error, BatchError::TooLarge { .. }), "{error}");
            for cut in (0..frame.len()).step_by(197) {
                decompress(&frame[..cut], plain.len(), &mut Vec::new()).expect_err("cut off");
            }
        }
    }
}
