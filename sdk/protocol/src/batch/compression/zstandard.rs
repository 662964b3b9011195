//! Zstandard frames (RFC 8878).
//!
//! Decoding goes from slice to slice in one call: zstd's streaming decoder
//! would set aside a window of the size that the frame's header asks for.

use super::{broken, take, take_number, too_large};
use crate::batch::BatchError;

const MAGIC: [u8; 4] = 0xfd2f_b528_u32.to_le_bytes();
/// No block yields more than this, bytes.
const MAX_BLOCK_BYTES: u64 = 128 << 10;
/// Kafka's default level, and zstd's.
const LEVEL: i32 = 3;

/// A context and a buffer that are used again for every frame. The context is
/// made for the first one.
#[derive(Default)]
pub(in crate::batch) struct Compressor {
    context: Option<zstd::bulk::Compressor<'static>>,
    frame: Vec<u8>,
}

impl Compressor {
    /// `plain` as one frame. None when zstd finds no memory.
    pub(super) fn compress(&mut self, plain: &[u8]) -> Option<&[u8]> {
        let context = match &mut self.context {
            Some(context) => context,
            none => none.insert(zstd::bulk::Compressor::new(LEVEL).ok()?),
        };
        self.frame.clear();
        self.frame.reserve(zstd::zstd_safe::compress_bound(plain.len()));
        context.compress_to_buffer(plain, &mut self.frame).ok()?;
        Some(&self.frame)
    }
}

/// A context that is used again for every frame. Its size is fixed.
#[derive(Default)]
pub(super) struct Decompressor {
    context: Option<zstd::bulk::Decompressor<'static>>,
}

impl Decompressor {
    /// Appends the content of `frame` to `plain`, which is empty.
    pub(super) fn decompress(&mut self, frame: &[u8], max_bytes: usize, plain: &mut Vec<u8>) -> Result<(), BatchError> {
        let Outline { content_size, most_bytes } = outline(frame)?;
        let over = |bytes: u64| bytes > max_bytes as u64;
        let room = match content_size {
            Some(size) if size > most_bytes => return Err(broken("the zstd frame says more than it can hold")),
            Some(size) if over(size) => return Err(too_large(max_bytes, size)),
            Some(size) => size,
            None => most_bytes.min(max_bytes as u64),
        };
        let context = match &mut self.context {
            Some(context) => context,
            none => none.insert(zstd::bulk::Decompressor::new().map_err(|error| broken(error.to_string()))?),
        };
        plain.reserve_exact(usize::try_from(room).expect("max_bytes, which is a usize, is no less"));
        context.decompress_to_buffer(frame, plain).map_err(|error| {
            // zstd names its errors by text alone.
            if content_size.is_none() && over(most_bytes) && error.to_string().contains("too small") {
                too_large(max_bytes, max_bytes as u64 + 1)
            } else {
                broken(format!("zstd: {error}"))
            }
        })?;
        Ok(())
    }
}

/// What a frame's headers tell.
#[derive(Debug)]
struct Outline {
    /// What it says it holds.
    content_size: Option<u64>,
    /// What its blocks can hold at most.
    most_bytes: u64,
}

/// Walks the headers of `frame`, which has to be one whole frame.
fn outline(mut frame: &[u8]) -> Result<Outline, BatchError> {
    let frame = &mut frame;
    if take(frame, 4)? != MAGIC {
        return Err(broken("it is no zstd frame"));
    }
    let descriptor = take(frame, 1)?[0];
    let single_segment = descriptor & 0b0010_0000 != 0;
    let checksum = descriptor & 0b0000_0100 != 0;
    if descriptor & 0b0000_1000 != 0 {
        return Err(broken("the zstd frame is of an unknown version"));
    }
    // How far back blocks refer, which is also how large they may be.
    let window = if single_segment { None } else { Some(window_bytes(take(frame, 1)?[0])) };
    let dictionary_bytes = [0, 1, 2, 4][usize::from(descriptor & 0b11)];
    if take_number(frame, dictionary_bytes)? != 0 {
        return Err(broken("the zstd frame needs a dictionary"));
    }
    let content_size = match descriptor >> 6 {
        0 if !single_segment => None,
        0 => Some(take_number(frame, 1)?),
        1 => Some(take_number(frame, 2)? + 256),
        2 => Some(take_number(frame, 4)?),
        _ => Some(take_number(frame, 8)?),
    };
    let block_bytes = window.or(content_size).map_or(MAX_BLOCK_BYTES, |window| window.min(MAX_BLOCK_BYTES));

    let mut most_bytes = 0_u64;
    loop {
        let header = take_number(frame, 3)?;
        let size = header >> 3;
        let stored = |size: u64| usize::try_from(size).expect("21 bits are a usize");
        match header >> 1 & 0b11 {
            // As it is; one byte repeated; compressed.
            0 => {
                take(frame, stored(size))?;
                most_bytes += size;
            }
            1 => {
                take(frame, 1)?;
                most_bytes += size.min(block_bytes);
            }
            2 => {
                take(frame, stored(size))?;
                most_bytes += block_bytes;
            }
            _ => return Err(broken("a zstd block is of an unknown kind")),
        }
        if header & 1 != 0 {
            break;
        }
    }
    if checksum {
        take(frame, 4)?;
    }
    if !frame.is_empty() {
        return Err(broken("bytes follow the zstd frame"));
    }
    Ok(Outline { content_size, most_bytes })
}

/// The window that a descriptor stands for: 1 KiB to 3.75 TiB.
const fn window_bytes(descriptor: u8) -> u64 {
    let base = 1_u64 << (10 + (descriptor >> 3));
    base + base / 8 * (descriptor & 0b111) as u64
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::{Compressor, Decompressor, outline};
    use crate::batch::BatchError;

    fn decompress(frame: &[u8], max_bytes: usize) -> Result<Vec<u8>, BatchError> {
        let mut plain = Vec::new();
        Decompressor::default().decompress(frame, max_bytes, &mut plain).map(|()| plain)
    }

    /// As Kafka's Java client writes: in a stream, so that the size is not known.
    fn streamed(plain: &[u8]) -> Vec<u8> {
        let mut encoder = zstd::stream::Encoder::new(Vec::new(), 3).expect("an encoder");
        encoder.include_checksum(true).expect("a switch");
        for piece in plain.chunks(70_000) {
            encoder.write_all(piece).expect("memory takes it");
            encoder.flush().expect("memory takes it");
        }
        encoder.finish().expect("a frame")
    }

    #[test]
    fn frames_of_unknown_size_are_read_up_to_the_cap() {
        let plain: Vec<u8> = (0..400_000_u32).map(|n| n.wrapping_mul(n).to_le_bytes()[1]).collect();
        let frame = streamed(&plain);
        assert_eq!(outline(&frame).expect("a frame").content_size, None);
        assert!(decompress(&frame, plain.len()).expect("a frame") == plain);
        let error = decompress(&frame, plain.len() - 1).expect_err("over the cap");
        assert!(matches!(error, BatchError::TooLarge { .. }), "{error}");
    }

    #[test]
    fn a_frame_cut_anywhere_is_refused() {
        let frame = streamed(&vec![b'x'; 100_000]);
        for cut in 0..frame.len() {
            decompress(&frame[..cut], 1 << 20).expect_err("cut off");
        }
        let mut longer = frame;
        longer.push(0);
        decompress(&longer, 1 << 20).expect_err("a byte follows");
    }

    #[test]
    fn a_claimed_size_beyond_what_the_blocks_hold_is_refused() {
        let mut compressor = Compressor::default();
        let frame = compressor.compress(&[b'x'; 1000]).expect("memory").to_vec();
        // Single segment, two bytes of content size: 744 + 256.
        assert_eq!(frame[4] >> 5, 0b011, "the frame is laid out as this test expects");
        let mut lying = frame[..5].to_vec();
        lying[4] = lying[4] & 0b0011_1111 | 0b1000_0000;
        lying.extend_from_slice(&0x7fff_ffff_u32.to_le_bytes());
        lying.extend_from_slice(&frame[7..]);
        let error = decompress(&lying, usize::MAX >> 1).expect_err("it lies");
        assert!(matches!(error, BatchError::Compression { .. }), "{error}");
    }
}
