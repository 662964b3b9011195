//! gzip (RFC 1952): DEFLATE (RFC 1951) between a header and a trailer.
//!
//! ```text
//!   1f 8b 08 │ flags │ time │ 2 bytes │ what the flags say │ DEFLATE │ CRC-32 │ size
//! ```
//!
//! The DEFLATE stream is flate2's work, header and trailer are read here: the
//! trailer's size says how much room the content takes, and flate2 would keep
//! names and comments that nobody reads. Integers are little-endian.

use flate2::{Compress, Crc, Decompress, FlushCompress, FlushDecompress, Status};

use super::{broken, take, take_number, too_large};
use crate::batch::BatchError;

const MAGIC: [u8; 2] = [0x1f, 0x8b];
const DEFLATE: u8 = 8;
/// No time, no hints, and an operating system that is not told.
const OUR_HEADER: [u8; 10] = [MAGIC[0], MAGIC[1], DEFLATE, 0, 0, 0, 0, 0, 0, 0xff];
const TRAILER_BYTES: usize = 8;

// Flags. That the content is text (bit 0) is only a hint.
const HEADER_CHECKSUM: u8 = 1 << 1;
const EXTRA: u8 = 1 << 2;
const NAME: u8 = 1 << 3;
const COMMENT: u8 = 1 << 4;
const RESERVED: u8 = 0b1110_0000;

/// DEFLATE yields at most 258 bytes for two bits.
const MAX_RATIO: u64 = 258 * 4;
/// Kafka's default level, and zlib's.
const LEVEL: u32 = 6;

/// A state and a buffer that are used again for every frame. The state is made
/// for the first one.
#[derive(Default)]
pub(in crate::batch) struct Compressor {
    state: Option<Compress>,
    frame: Vec<u8>,
}

impl Compressor {
    /// `plain` as one gzip member. None when it does not get smaller.
    pub(super) fn compress(&mut self, plain: &[u8]) -> Option<&[u8]> {
        let state = self.state.get_or_insert_with(|| Compress::new(flate2::Compression::new(LEVEL), false));
        state.reset();
        self.frame.clear();
        self.frame.extend_from_slice(&OUR_HEADER);
        self.frame.resize(plain.len().max(OUR_HEADER.len()), 0);
        let status = state.compress(plain, &mut self.frame[OUR_HEADER.len()..], FlushCompress::Finish).ok()?;
        if status != Status::StreamEnd {
            return None;
        }
        self.frame.truncate(OUR_HEADER.len() + usize::try_from(state.total_out()).ok()?);
        let mut crc = Crc::new();
        crc.update(plain);
        self.frame.extend_from_slice(&crc.sum().to_le_bytes());
        self.frame.extend_from_slice(&u32::try_from(plain.len()).ok()?.to_le_bytes());
        Some(&self.frame)
    }
}

/// A state that is used again for every frame. Its size is fixed.
#[derive(Default)]
pub(super) struct Decompressor {
    state: Option<Decompress>,
}

impl Decompressor {
    /// Appends the content of `frame`, which has to be one whole member, to
    /// `plain`, which is empty.
    pub(super) fn decompress(
        &mut self,
        mut frame: &[u8],
        max_bytes: usize,
        plain: &mut Vec<u8>,
    ) -> Result<(), BatchError> {
        skip_header(&mut frame)?;
        let deflated = frame.len().checked_sub(TRAILER_BYTES).ok_or_else(|| broken("the frame is cut off"))?;
        let deflated = take(&mut frame, deflated)?;
        let checksum = take_number(&mut frame, 4)?;
        let size = take_number(&mut frame, 4)?;
        if size > (deflated.len() as u64).saturating_mul(MAX_RATIO) {
            return Err(broken("the gzip member says more than it can hold"));
        }
        let room = usize::try_from(size).ok().filter(|size| *size <= max_bytes);
        let room = room.ok_or_else(|| too_large(max_bytes, size))?;

        let state = self.state.get_or_insert_with(|| Decompress::new(false));
        state.reset(false);
        plain.resize(room, 0);
        let status = state.decompress(deflated, plain, FlushDecompress::Finish);
        match status.map_err(|error| broken(format!("gzip: {error}")))? {
            Status::StreamEnd => {}
            _ if state.total_out() == size => return Err(broken("the gzip member has another size than it says")),
            _ => return Err(broken("the gzip member is cut off")),
        }
        if state.total_out() != size {
            return Err(broken("the gzip member has another size than it says"));
        }
        if state.total_in() != deflated.len() as u64 {
            return Err(broken("bytes follow the gzip member"));
        }
        let mut crc = Crc::new();
        crc.update(plain);
        if u64::from(crc.sum()) != checksum {
            return Err(broken("the gzip member's content fails its checksum"));
        }
        Ok(())
    }
}

/// Moves `frame` behind the member's header.
fn skip_header(frame: &mut &[u8]) -> Result<(), BatchError> {
    let start = *frame;
    if take(frame, 2)? != MAGIC {
        return Err(broken("it is no gzip member"));
    }
    let method = take(frame, 1)?[0];
    let flags = take(frame, 1)?[0];
    if method != DEFLATE || flags & RESERVED != 0 {
        return Err(broken("the gzip member is of an unknown kind"));
    }
    // The time, hints on the compression, the operating system.
    take(frame, 6)?;
    if flags & EXTRA != 0 {
        let bytes = take_number(frame, 2)?;
        take(frame, usize::try_from(bytes).expect("two bytes are a usize"))?;
    }
    for text in [NAME, COMMENT] {
        if flags & text != 0 {
            let end = frame.iter().position(|byte| *byte == 0).ok_or_else(|| broken("the frame is cut off"))?;
            take(frame, end + 1)?;
        }
    }
    if flags & HEADER_CHECKSUM != 0 {
        let mut crc = Crc::new();
        crc.update(&start[..start.len() - frame.len()]);
        if take_number(frame, 2)? != u64::from(crc.sum() & 0xffff) {
            return Err(broken("the gzip member's header fails its checksum"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use flate2::read::GzDecoder;
    use flate2::{Compression, GzBuilder};

    use super::{Compressor, Decompressor, OUR_HEADER};
    use crate::batch::BatchError;

    /// "hello hello hello hello\n" as zlib writes it at level 6.
    const GOLDEN: [u8; 29] = [
        0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x03, // header, made under Unix
        0xcb, 0x48, 0xcd, 0xc9, 0xc9, 0x57, 0xc8, 0x40, 0x27, 0xb9, 0x00, // DEFLATE
        0x00, 0x88, 0x59, 0x0b, // CRC-32
        0x18, 0x00, 0x00, 0x00, // 24 bytes
    ];

    fn decompress(frame: &[u8], max_bytes: usize) -> Result<Vec<u8>, BatchError> {
        let mut plain = Vec::new();
        Decompressor::default().decompress(frame, max_bytes, &mut plain).map(|()| plain)
    }

    fn text(bytes: usize) -> Vec<u8> {
        (0_u32..).flat_map(|n| format!("{n} is a number; ").into_bytes()).take(bytes).collect()
    }

    #[track_caller]
    fn refused(frame: &[u8], because: &str) {
        let error = decompress(frame, 1 << 20).expect_err(because);
        assert!(matches!(error, BatchError::Compression { .. }), "{error}");
        assert!(error.to_string().contains(because), "{error}");
    }

    #[test]
    fn what_zlib_writes_is_read() {
        assert_eq!(decompress(&GOLDEN, 24).expect("a member"), b"hello hello hello hello\n");
        let error = decompress(&GOLDEN, 23).expect_err("over the cap");
        assert_eq!(error, BatchError::TooLarge { bound: "max_decompressed_bytes", limit: 23, actual: 24 });
    }

    #[test]
    fn any_gzip_reader_reads_our_members() {
        let mut compressor = Compressor::default();
        for bytes in [100, 32_768, 32_769, 300_000, 5 << 20] {
            let plain = text(bytes);
            let frame = compressor.compress(&plain).expect("text gets smaller");
            let mut back = Vec::new();
            GzDecoder::new(frame).read_to_end(&mut back).expect("a member");
            assert!(back == plain, "{bytes} bytes came back different");
            assert!(decompress(frame, bytes).expect("a member") == plain, "{bytes} bytes came back different");
        }
    }

    #[test]
    fn members_of_other_writers_are_read() {
        let plain = text(200_000);
        for level in [0, 1, 9] {
            let builder = GzBuilder::new().filename("a name").comment("a comment").extra([7; 300]).mtime(1);
            let mut encoder = builder.write(Vec::new(), Compression::new(level));
            // Flushed in between, as a stream is.
            for piece in plain.chunks(70_000) {
                encoder.write_all(piece).expect("memory takes it");
                encoder.flush().expect("memory takes it");
            }
            let frame = encoder.finish().expect("a member");
            assert!(decompress(&frame, plain.len()).expect("a member") == plain, "level {level}");
            let error = decompress(&frame, plain.len() - 1).expect_err("over the cap");
            assert!(matches!(error, BatchError::TooLarge { .. }), "{error}");
            for cut in (0..frame.len()).step_by(197) {
                decompress(&frame[..cut], 1 << 20).expect_err("cut off");
            }
        }
    }

    #[test]
    fn each_lie_of_a_member_is_refused_by_name() {
        let changed = |at: usize, byte: u8| {
            let mut frame = GOLDEN;
            frame[at] = byte;
            frame
        };
        refused(&changed(0, 0), "no gzip member");
        refused(&changed(2, 7), "unknown kind");
        refused(&changed(3, 1 << 5), "unknown kind");
        refused(&changed(3, 1 << 1), "header fails its checksum");
        refused(&changed(21, !GOLDEN[21]), "content fails its checksum");
        refused(&changed(25, 23), "another size than it says");
        refused(&changed(25, 25), "another size than it says");
        refused(&changed(27, 1), "more than it can hold");
        refused(&[&GOLDEN[..21], &[0], &GOLDEN[21..]].concat(), "bytes follow");
        refused(&[&GOLDEN[..20], &GOLDEN[21..]].concat(), "cut off");
        // Two members, each in order.
        refused(&[GOLDEN, GOLDEN].concat(), "bytes follow");
        // A name that does not end.
        refused(&[&changed(3, 1 << 3)[..10], &[b'x'; 20]].concat(), "cut off");
        for cut in 0..GOLDEN.len() {
            decompress(&GOLDEN[..cut], 1 << 20).expect_err("cut off");
        }
    }

    #[test]
    fn a_state_serves_again_after_a_frame_that_was_refused() {
        let mut decompressor = Decompressor::default();
        for round in 0..3 {
            decompressor.decompress(&GOLDEN[..20], 1 << 20, &mut Vec::new()).expect_err("cut off");
            let mut plain = Vec::new();
            decompressor.decompress(&GOLDEN, 1 << 20, &mut plain).expect("a member");
            assert_eq!(plain.len(), 24, "round {round}");
        }
    }

    #[test]
    fn what_does_not_get_smaller_is_left() {
        let mut compressor = Compressor::default();
        for plain in [&b""[..], b"x", &OUR_HEADER] {
            assert!(compressor.compress(plain).is_none_or(|frame| frame.len() > plain.len()));
        }
    }
}
