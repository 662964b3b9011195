//! What a server makes sure of before it accepts a batch.

use bytes::Bytes;

use super::{BatchError, BatchHeader};

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

/// Checks one whole batch from a client.
pub fn validate(batch: &Bytes, limits: &BatchLimits) -> Result<BatchHeader, BatchError> {
    let _ = (batch, limits);
    todo!()
}
