//! The 61 bytes at the front of a batch.
//!
//! ```text
//!   0  base offset (8) ─┐             43  producer id (8)
//!   8  length − 12 (4)  │ outside     51  producer epoch (2)
//!  12  leader epoch (4) │ of the CRC  53  first sequence (4)
//!  16  format 2 (1)     │             57  record count (4)
//!  17  CRC-32C (4) ─────┘             61  records
//!  21  attributes (2)
//!  23  last offset delta (4)          numbers are big-endian
//!  27  first timestamp (8)
//!  35  newest timestamp (8)
//! ```

use bytes::Bytes;

use super::{BatchError, Compression};
use crate::{Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};

/// The length of a batch's header.
pub const HEADER_BYTES: usize = 61;

/// A header that is right in itself. Whether the bytes after it are what it
/// says is for [`validate`](super::validate) to check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// The first record's offset; means something only once the log has given
    /// the batch its place.
    pub base_offset: Offset,
    /// The leader's epoch when the batch was read; informative.
    pub leader_epoch: u32,
    /// CRC-32C of bytes 21 and on.
    pub crc: u32,
    /// How the records are compressed.
    pub compression: Compression,
    /// The first record's timestamp.
    pub base_timestamp: Timestamp,
    /// The newest timestamp of all records.
    pub max_timestamp: Timestamp,
    /// Who wrote it, for appends that may be retried.
    pub producer: Option<Producer>,
    /// How many records it has; at least 1.
    pub count: u32,
}

/// What makes a retried append land once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Producer {
    /// The producer's name.
    pub id: ProducerId,
    /// The generation of that name.
    pub epoch: ProducerEpoch,
    /// The first record's place in the producer's stream.
    pub sequence: Sequence,
}

impl BatchHeader {
    /// Reads the header of `batch`, which has to be one whole batch. Checks
    /// everything that the header says of itself, but neither CRC nor records.
    pub fn parse(batch: &[u8]) -> Result<Self, BatchError> {
        let _ = batch;
        todo!()
    }
}

/// A copy of `batch` that starts at `base`. The records are not looked at.
///
/// # Panics
/// When `batch` is shorter than a header: only validated batches have a place.
pub fn with_position(batch: &Bytes, base: Offset, leader_epoch: u32) -> Bytes {
    let _ = (batch, base, leader_epoch);
    todo!()
}

/// Writes a place into `batch`, for a caller that owns the bytes.
///
/// # Panics
/// When `batch` is shorter than a header.
pub fn patch_position(batch: &mut [u8], base: Offset, leader_epoch: u32) {
    let _ = (batch, base, leader_epoch);
    todo!()
}
