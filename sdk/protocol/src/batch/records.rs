//! The records inside a batch, one after the other.

use bytes::Bytes;

use super::{BatchError, Record};
use crate::Offset;

/// The records of `batch` with their offsets. Compressed ones are decompressed
/// first, to at most `max_decompressed_bytes`. The CRC is not checked: see
/// [`validate`](super::validate).
pub fn records(batch: &Bytes, max_decompressed_bytes: usize) -> Result<Records, BatchError> {
    let _ = (batch, max_decompressed_bytes);
    todo!()
}

/// The iterator that [`records`] gives. Ends after the first error.
pub struct Records(());

impl Iterator for Records {
    type Item = Result<(Offset, Record), BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        todo!()
    }
}
