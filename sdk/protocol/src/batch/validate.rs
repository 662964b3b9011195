//! What a server makes sure of before it accepts a batch.
//!
//! ```text
//!   size ─► length, format ─► CRC ─► header's fields ─► records
//! ```
//!
//! In this order, so that damage on the way is called damage and not whatever
//! the damaged field would have meant, and so that the cheap checks come first.

use super::header::checksum;
use super::{BatchError, BatchHeader, HEADER_BYTES, compression, records};
use crate::Timestamp;

/// What a batch may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// The most bytes of a batch as it is sent.
    pub max_batch_bytes: usize,
    /// The most bytes of its records once decompressed.
    pub max_decompressed_bytes: usize,
    /// Whether the records are walked through. Without it a batch whose count
    /// lies is taken, and its log has offsets without records.
    pub check_records: bool,
}

/// What [`inspect`] found a batch to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inspected {
    /// Its header.
    pub header: BatchHeader,
    /// The oldest timestamp of its records; the first record's where they were
    /// not walked through.
    pub oldest: Timestamp,
}

/// Checks one whole batch from a client.
pub fn validate(batch: &[u8], limits: &BatchLimits) -> Result<BatchHeader, BatchError> {
    inspect(batch, limits).map(|found| found.header)
}

/// As [`validate`], and tells what was found on the way.
pub fn inspect(batch: &[u8], limits: &BatchLimits) -> Result<Inspected, BatchError> {
    if batch.len() > limits.max_batch_bytes {
        return Err(BatchError::TooLarge {
            bound: "max_batch_bytes",
            limit: limits.max_batch_bytes as u64,
            actual: batch.len() as u64,
        });
    }
    let fields = BatchHeader::frame(batch)?;
    let claimed = BatchHeader::claimed_checksum(fields);
    let actual = checksum(batch);
    if claimed != actual {
        return Err(BatchError::Crc { claimed, actual });
    }
    let header = BatchHeader::fields(fields)?;
    let mut oldest = header.base_timestamp;
    if limits.check_records {
        let body = &batch[HEADER_BYTES..];
        compression::with_plain(header.compression, body, limits.max_decompressed_bytes, |plain| {
            oldest = records::check(&header, plain)?;
            Ok(())
        })?;
    }
    Ok(Inspected { header, oldest })
}
