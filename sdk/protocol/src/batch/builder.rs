//! Records into bytes.

use bytes::Bytes;

use super::{BatchError, Compression, Producer, Record};

/// Encodes records into batches. One builder serves for many batches and
/// keeps its buffers and its compressor between them.
pub struct BatchBuilder(());

impl BatchBuilder {
    /// A builder of batches that are compressed as `compression` says, each
    /// unless that makes it larger.
    pub fn new(compression: Compression) -> Self {
        let _ = compression;
        todo!()
    }

    /// Adds a record. Fails, changing nothing, when a batch's length could not
    /// be written down any more (2 GiB); smaller bounds are the caller's, see
    /// [`Self::bytes_with`].
    pub fn push(&mut self, record: &Record) -> Result<(), BatchError> {
        let _ = record;
        todo!()
    }

    /// How many records it holds.
    pub fn count(&self) -> u32 {
        todo!()
    }

    /// Whether it holds no record.
    pub fn is_empty(&self) -> bool {
        todo!()
    }

    /// The size of the batch as it stands, before compression.
    pub fn bytes(&self) -> usize {
        todo!()
    }

    /// What [`Self::bytes`] would be with `record` added.
    pub fn bytes_with(&self, record: &Record) -> usize {
        let _ = record;
        todo!()
    }

    /// The batch, with base offset 0; the builder is empty again. Fails only
    /// when there is no record.
    pub fn finish(&mut self, producer: Option<Producer>) -> Result<Bytes, BatchError> {
        let _ = producer;
        todo!()
    }
}
