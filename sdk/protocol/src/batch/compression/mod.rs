//! A batch's records compressed as one piece, and how to get them back without
//! trusting what the piece says of itself.
//!
//! Frames of all codecs declare sizes: of the content, of windows, of blocks.
//! Output is therefore never sized by a declaration alone. Each decoder knows
//! what the bytes at hand can yield at most, from the frame's block headers or
//! from the most that the format makes of a byte; room is made for the least of
//! that, the declaration and the caller's cap. One frame has to be the whole
//! piece: no second frame, no skippable one, no dictionary.

mod gzip;
mod lz4;
mod snappy;
mod zstandard;

use std::cell::RefCell;
use std::fmt;
use std::str::FromStr;

use super::BatchError;

/// How a batch's records are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// One gzip member: slow, and known everywhere.
    Gzip,
    /// Snappy blocks in xerial's framing: fast, modest.
    Snappy,
    /// One LZ4 frame: fast, modest.
    Lz4,
    /// One Zstandard frame: slower, denser.
    Zstd,
}

impl Compression {
    /// Every one of them.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// Its name on a command line and in configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// Its number in a batch's attributes.
    pub(super) const fn code(self) -> u16 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }

    pub(super) const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::None),
            1 => Some(Self::Gzip),
            2 => Some(Self::Snappy),
            3 => Some(Self::Lz4),
            4 => Some(Self::Zstd),
            _ => None,
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no compression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is no compression: none, gzip, snappy, lz4 or zstd is expected")]
pub struct UnknownCompression {
    /// What was given.
    pub name: String,
}

impl FromStr for Compression {
    type Err = UnknownCompression;

    fn from_str(name: &str) -> Result<Self, UnknownCompression> {
        let known = Self::ALL.into_iter().find(|known| known.as_str() == name);
        known.ok_or_else(|| UnknownCompression { name: name.to_owned() })
    }
}

/// A codec with the state that it keeps from batch to batch.
pub(super) enum Compressor {
    None,
    Gzip(gzip::Compressor),
    Snappy(snappy::Compressor),
    Lz4(lz4::Compressor),
    Zstd(zstandard::Compressor),
}

impl Compressor {
    pub(super) fn new(compression: Compression) -> Self {
        match compression {
            Compression::None => Self::None,
            Compression::Gzip => Self::Gzip(gzip::Compressor::default()),
            Compression::Snappy => Self::Snappy(snappy::Compressor::new()),
            Compression::Lz4 => Self::Lz4(lz4::Compressor::default()),
            Compression::Zstd => Self::Zstd(zstandard::Compressor::default()),
        }
    }

    /// `plain` compressed into one frame. None when it is better left as it is.
    pub(super) fn compress(&mut self, plain: &[u8]) -> Option<(Compression, &[u8])> {
        let (compression, frame) = match self {
            Self::None => return None,
            Self::Gzip(gzip) => (Compression::Gzip, gzip.compress(plain)?),
            Self::Snappy(snappy) => (Compression::Snappy, snappy.compress(plain)?),
            Self::Lz4(lz4) => (Compression::Lz4, lz4.compress(plain)?),
            Self::Zstd(zstd) => (Compression::Zstd, zstd.compress(plain)?),
        };
        (frame.len() < plain.len()).then_some((compression, frame))
    }
}

/// What a thread keeps between batches: making a decoder costs more than
/// decoding a small batch does.
#[derive(Default)]
struct Decoder {
    contexts: Contexts,
    plain: Vec<u8>,
}

/// Of the codecs that need one; each is made for its first frame.
#[derive(Default)]
struct Contexts {
    gzip: gzip::Decompressor,
    zstd: zstandard::Decompressor,
}

/// A decoder does not keep more than this for the next batch, bytes.
const KEPT_BYTES: usize = 1 << 20;

thread_local! {
    static DECODER: RefCell<Decoder> = RefCell::default();
}

/// Shows the decompressed form of `body` to `look`, or `body` itself when it is
/// not compressed.
pub(super) fn with_plain<T>(
    compression: Compression,
    body: &[u8],
    max_bytes: usize,
    look: impl FnOnce(&[u8]) -> Result<T, BatchError>,
) -> Result<T, BatchError> {
    if compression == Compression::None {
        within(body.len(), max_bytes)?;
        return look(body);
    }
    DECODER.with_borrow_mut(|Decoder { contexts, plain }| {
        plain.clear();
        let seen = decompress(contexts, compression, body, max_bytes, plain).and_then(|()| look(plain));
        if plain.capacity() > KEPT_BYTES {
            *plain = Vec::new();
        }
        seen
    })
}

/// The decompressed form of `body`, to keep.
pub(super) fn plain(compression: Compression, body: &[u8], max_bytes: usize) -> Result<Vec<u8>, BatchError> {
    let mut plain = Vec::new();
    DECODER.with_borrow_mut(|decoder| decompress(&mut decoder.contexts, compression, body, max_bytes, &mut plain))?;
    // Room was made for what the frame could have held.
    if plain.capacity() / 2 > plain.len() {
        plain.shrink_to_fit();
    }
    Ok(plain)
}

fn decompress(
    contexts: &mut Contexts,
    compression: Compression,
    body: &[u8],
    max_bytes: usize,
    plain: &mut Vec<u8>,
) -> Result<(), BatchError> {
    match compression {
        Compression::None => plain.extend_from_slice(body),
        Compression::Gzip => contexts.gzip.decompress(body, max_bytes, plain)?,
        Compression::Snappy => snappy::decompress(body, max_bytes, plain)?,
        Compression::Lz4 => lz4::decompress(body, max_bytes, plain)?,
        Compression::Zstd => contexts.zstd.decompress(body, max_bytes, plain)?,
    }
    within(plain.len(), max_bytes)
}

fn within(actual: usize, limit: usize) -> Result<(), BatchError> {
    if actual > limit { Err(too_large(limit, actual as u64)) } else { Ok(()) }
}

const fn too_large(limit: usize, actual: u64) -> BatchError {
    BatchError::TooLarge { bound: "max_decompressed_bytes", limit: limit as u64, actual }
}

fn broken(reason: impl Into<String>) -> BatchError {
    BatchError::Compression { reason: reason.into() }
}

/// The next `count` bytes of a frame.
fn take<'a>(frame: &mut &'a [u8], count: usize) -> Result<&'a [u8], BatchError> {
    let (taken, rest) = frame.split_at_checked(count).ok_or_else(|| broken("the frame is cut off"))?;
    *frame = rest;
    Ok(taken)
}

/// The next `count` bytes, at most 8, as a little-endian number.
fn take_number(frame: &mut &[u8], count: usize) -> Result<u64, BatchError> {
    let mut wide = [0; 8];
    wide[..count].copy_from_slice(take(frame, count)?);
    Ok(u64::from_le_bytes(wide))
}
