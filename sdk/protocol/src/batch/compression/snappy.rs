//! Snappy blocks (<https://github.com/google/snappy/blob/main/format_description.txt>)
//! in the framing of xerial's snappy-java, which Kafka's Java client writes:
//!
//! ```text
//!   82 "SNAPPY" 00 │ version (4) │ oldest compatible version (4)
//!   then again and again: a block's length (4) │ the block     numbers are big-endian
//! ```
//!
//! Other clients write one bare block; it is read too, and never written.

use snap::raw::{Decoder, Encoder, decompress_len, max_compress_len};

use super::{broken, take, too_large};
use crate::batch::BatchError;

const MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const VERSION: u32 = 1;
/// What goes into a block at most, bytes, as snappy-java has it.
const BLOCK_BYTES: usize = 32 << 10;
/// No block yields more than this for each of its bytes: a copy of 64 bytes
/// takes three.
const MAX_RATIO: usize = 22;

/// A hash table and a buffer that are used again for every frame.
pub(in crate::batch) struct Compressor {
    encoder: Box<Encoder>,
    frame: Vec<u8>,
}

impl Compressor {
    pub(super) fn new() -> Self {
        Self { encoder: Box::new(Encoder::new()), frame: Vec::new() }
    }

    /// `plain` in xerial's framing. None when snap refuses it, which it does
    /// not for blocks of this size.
    pub(super) fn compress(&mut self, plain: &[u8]) -> Option<&[u8]> {
        self.frame.clear();
        self.frame.extend_from_slice(&MAGIC);
        self.frame.extend_from_slice(&VERSION.to_be_bytes());
        self.frame.extend_from_slice(&VERSION.to_be_bytes());
        for block in plain.chunks(BLOCK_BYTES) {
            let start = self.frame.len();
            self.frame.resize(start + 4 + max_compress_len(block.len()), 0);
            let length = self.encoder.compress(block, &mut self.frame[start + 4..]).ok()?;
            self.frame[start..start + 4].copy_from_slice(&u32::try_from(length).ok()?.to_be_bytes());
            self.frame.truncate(start + 4 + length);
        }
        Some(&self.frame)
    }
}

/// Appends the content of `frame` to `plain`, which is empty.
pub(super) fn decompress(mut frame: &[u8], max_bytes: usize, plain: &mut Vec<u8>) -> Result<(), BatchError> {
    let Some(framed) = frame.strip_prefix(&MAGIC) else {
        return append_block(frame, max_bytes, plain);
    };
    frame = framed;
    let version = take_big_endian(&mut frame)?;
    let compatible = take_big_endian(&mut frame)?;
    if version < VERSION || compatible > VERSION {
        return Err(broken("the snappy framing is of an unknown version"));
    }
    while !frame.is_empty() {
        let length = take_big_endian(&mut frame)?;
        let block = take(&mut frame, usize::try_from(length).unwrap_or(usize::MAX))?;
        append_block(block, max_bytes, plain)?;
    }
    Ok(())
}

/// Appends what `block` holds to `plain`.
fn append_block(block: &[u8], max_bytes: usize, plain: &mut Vec<u8>) -> Result<(), BatchError> {
    let malformed = |error| broken(format!("a snappy block is malformed ({error})"));
    let size = decompress_len(block).map_err(malformed)?;
    if size > block.len().saturating_mul(MAX_RATIO) {
        return Err(broken("a snappy block says more than it can hold"));
    }
    let before = plain.len();
    if size > max_bytes - before {
        return Err(too_large(max_bytes, (before as u64).saturating_add(size as u64)));
    }
    plain.resize(before + size, 0);
    Decoder::new().decompress(block, &mut plain[before..]).map_err(malformed)?;
    Ok(())
}

fn take_big_endian(frame: &mut &[u8]) -> Result<u32, BatchError> {
    let number = take(frame, 4)?.try_into().expect("four bytes were taken");
    Ok(u32::from_be_bytes(number))
}

#[cfg(test)]
mod tests {
    use super::{BLOCK_BYTES, Compressor, MAGIC, decompress};
    use crate::batch::BatchError;

    /// "abcdabcdabcd!": by the format's description, a literal of four bytes,
    /// a copy of eight from four back, a literal of one.
    const BLOCK: [u8; 10] = [13, 3 << 2, b'a', b'b', b'c', b'd', (8 - 4) << 2 | 1, 4, 0, b'!'];
    const PLAIN: &[u8] = b"abcdabcdabcd!";

    fn framed(blocks: &[&[u8]]) -> Vec<u8> {
        let mut frame = [&MAGIC[..], &[0, 0, 0, 1, 0, 0, 0, 1]].concat();
        for block in blocks {
            frame.extend_from_slice(&u32::try_from(block.len()).expect("small").to_be_bytes());
            frame.extend_from_slice(block);
        }
        frame
    }

    fn plain_of(frame: &[u8], max_bytes: usize) -> Result<Vec<u8>, BatchError> {
        let mut plain = Vec::new();
        decompress(frame, max_bytes, &mut plain).map(|()| plain)
    }

    fn text(bytes: usize) -> Vec<u8> {
        (0_u32..).flat_map(|n| format!("{n} is a number; ").into_bytes()).take(bytes).collect()
    }

    #[track_caller]
    fn refused(frame: &[u8], because: &str) {
        let error = plain_of(frame, 1 << 20).expect_err(because);
        assert!(matches!(error, BatchError::Compression { .. }), "{error}");
        assert!(error.to_string().contains(because), "{error}");
    }

    #[test]
    fn bytes_laid_out_by_hand_are_read() {
        assert_eq!(plain_of(&BLOCK, 13).expect("a bare block"), PLAIN);
        assert_eq!(plain_of(&framed(&[&BLOCK]), 13).expect("a framed block"), PLAIN);
        assert_eq!(plain_of(&framed(&[&BLOCK, &BLOCK]), 26).expect("two of them"), [PLAIN, PLAIN].concat());
        assert_eq!(plain_of(&framed(&[]), 0).expect("none at all"), b"");
    }

    #[test]
    fn the_cap_counts_all_blocks() {
        let over = |limit, actual| BatchError::TooLarge { bound: "max_decompressed_bytes", limit, actual };
        assert_eq!(plain_of(&BLOCK, 12), Err(over(12, 13)));
        assert_eq!(plain_of(&framed(&[&BLOCK, &BLOCK]), 25), Err(over(25, 26)));
    }

    #[test]
    fn what_is_written_is_framed_in_blocks_that_any_snappy_reader_reads() {
        let mut compressor = Compressor::new();
        for bytes in [100, BLOCK_BYTES, BLOCK_BYTES + 1, 300_000] {
            let plain = text(bytes);
            let frame = compressor.compress(&plain).expect("blocks");
            assert_eq!(frame[..16], framed(&[]));
            let (mut rest, mut back) = (&frame[16..], Vec::new());
            while let Some((length, following)) = rest.split_first_chunk() {
                let (block, following) = following.split_at(u32::from_be_bytes(*length) as usize);
                let block = snap::raw::Decoder::new().decompress_vec(block).expect("a block");
                assert!(block.len() <= BLOCK_BYTES, "{} bytes in a block", block.len());
                back.extend(block);
                rest = following;
            }
            assert!(back == plain, "{bytes} bytes came back different");
            assert!(plain_of(frame, bytes).expect("our own frame") == plain, "{bytes} bytes came back different");
        }
    }

    #[test]
    fn each_lie_of_a_frame_is_refused_by_name() {
        let frame = framed(&[&BLOCK]);
        let changed = |at: usize, byte: u8| {
            let mut frame = frame.clone();
            frame[at] = byte;
            frame
        };
        refused(&changed(11, 0), "unknown version");
        refused(&changed(15, 2), "unknown version");
        refused(&changed(16, 0xff), "cut off");
        refused(&changed(19, 11), "cut off");
        refused(&changed(19, 9), "malformed");
        refused(&changed(20, 14), "malformed");
        refused(&changed(20, 12), "malformed");
        // A copy from before the block's start.
        refused(&changed(27, 5), "malformed");
        refused(&framed(&[b""]), "malformed");
        refused(&[0xff, 0xff, 0xff, 0xff, 0x0f], "more than it can hold");
        refused(&framed(&[&BLOCK, &[0xff, 0xff, 0xff, 0x0f]]), "more than it can hold");
        for cut in (0..frame.len()).filter(|cut| *cut != 16) {
            plain_of(&frame[..cut], 1 << 20).expect_err("cut off");
        }
        plain_of(&[&frame[..], &[0]].concat(), 1 << 20).expect_err("a byte follows");
    }

    #[test]
    fn no_block_holds_more_than_is_allowed_for() {
        // The size (64,001), one literal, then a thousand copies of 64 bytes,
        // three bytes each.
        let mut block = vec![0x81, 0xf4, 0x03, 0, b'x'];
        block.extend([63 << 2 | 2, 1, 0].repeat(1000));
        let size = 1 + 64 * 1000;
        assert!(plain_of(&block, size).expect("as dense as a block can be") == vec![b'x'; size]);
    }
}
