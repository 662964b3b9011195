//! Records into bytes.
//!
//! ```text
//!   push ─► │ room for a header │ record │ record │ …   one buffer, written once
//!   finish ─► the header is filled in, and the buffer is the batch;
//!             or the records go through the codec into a batch of exact size
//! ```

use bytes::{BufMut, Bytes, BytesMut};

use super::compression::Compressor;
use super::{BatchError, BatchHeader, Compression, HEADER_BYTES, Producer, Record, varint};
use crate::{Offset, Timestamp};

/// The longest batch whose length can be written down: the length field has 31
/// bits and leaves the first 12 bytes out, which are given away here.
const MAX_BYTES: usize = i32::MAX as usize;

/// Encodes records into batches. One builder serves for many batches and
/// keeps its buffers and its compressor between them.
pub struct BatchBuilder {
    compressor: Compressor,
    /// Room for a header, then the records so far; empty before the first.
    buffer: BytesMut,
    count: u32,
    base_timestamp: Timestamp,
    max_timestamp: Timestamp,
}

impl BatchBuilder {
    /// A builder of batches that are compressed as `compression` says, each
    /// unless that makes it larger.
    pub fn new(compression: Compression) -> Self {
        Self {
            compressor: Compressor::new(compression),
            buffer: BytesMut::new(),
            count: 0,
            base_timestamp: Timestamp::default(),
            max_timestamp: Timestamp::default(),
        }
    }

    /// Adds a record. Fails, changing nothing, when a batch's length could not
    /// be written down any more (2 GiB); smaller bounds are the caller's, see
    /// [`Self::bytes_with`].
    pub fn push(&mut self, record: &Record) -> Result<(), BatchError> {
        let length = self.record_length(record);
        let bytes = self.bytes() + framed(length);
        if bytes > MAX_BYTES {
            return Err(BatchError::TooLarge {
                bound: "the batch format",
                limit: MAX_BYTES as u64,
                actual: bytes as u64,
            });
        }
        self.buffer.reserve(bytes - self.buffer.len());
        if self.is_empty() {
            self.buffer.put_bytes(0, HEADER_BYTES);
            self.base_timestamp = record.timestamp;
            self.max_timestamp = record.timestamp;
        }
        self.max_timestamp = self.max_timestamp.max(record.timestamp);

        let timestamp_delta = self.timestamp_delta(record);
        let buffer = &mut self.buffer;
        put_length(buffer, length);
        buffer.put_u8(0);
        varint::put(buffer, timestamp_delta);
        varint::put(buffer, i64::from(self.count));
        put_piece(buffer, record.key.as_deref());
        put_piece(buffer, record.value.as_deref());
        put_length(buffer, record.headers.len());
        for header in &record.headers {
            put_piece(buffer, Some(header.key.as_bytes()));
            put_piece(buffer, header.value.as_deref());
        }
        assert_eq!(buffer.len(), bytes, "a record takes as many bytes as were counted");
        self.count += 1;
        Ok(())
    }

    /// How many records it holds.
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// Whether it holds no record.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The size of the batch as it stands, before compression.
    pub fn bytes(&self) -> usize {
        self.buffer.len().max(HEADER_BYTES)
    }

    /// What [`Self::bytes`] would be with `record` added.
    pub fn bytes_with(&self, record: &Record) -> usize {
        self.bytes() + framed(self.record_length(record))
    }

    /// The batch, with base offset 0; the builder is empty again. Fails only
    /// when there is no record.
    pub fn finish(&mut self, producer: Option<Producer>) -> Result<Bytes, BatchError> {
        if self.is_empty() {
            return Err(BatchError::Empty);
        }
        let mut header = BatchHeader {
            base_offset: Offset::ZERO,
            leader_epoch: 0,
            crc: 0,
            compression: Compression::None,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer,
            count: self.count,
        };
        let mut batch = match self.compressor.compress(&self.buffer[HEADER_BYTES..]) {
            Some((compression, frame)) => {
                header.compression = compression;
                let mut batch = BytesMut::with_capacity(HEADER_BYTES + frame.len());
                batch.put_bytes(0, HEADER_BYTES);
                batch.put_slice(frame);
                self.buffer.clear();
                batch
            }
            None => self.buffer.split(),
        };
        self.count = 0;
        header.write(&mut batch);
        Ok(batch.freeze())
    }

    /// A record's length without the length field itself.
    fn record_length(&self, record: &Record) -> usize {
        let headers: usize = record
            .headers
            .iter()
            .map(|header| piece_bytes(Some(header.key.as_bytes())) + piece_bytes(header.value.as_deref()))
            .sum();
        1 + varint::length(self.timestamp_delta(record))
            + varint::length(i64::from(self.count))
            + piece_bytes(record.key.as_deref())
            + piece_bytes(record.value.as_deref())
            + length_bytes(record.headers.len())
            + headers
    }

    /// Wraps where it overflows, as the reader does: every pair of times has a
    /// difference.
    fn timestamp_delta(&self, record: &Record) -> i64 {
        let base = if self.is_empty() { record.timestamp } else { self.base_timestamp };
        record.timestamp.get().wrapping_sub(base.get())
    }
}

/// A record of `length` with its length field.
const fn framed(length: usize) -> usize {
    length_bytes(length) + length
}

/// Memory has no length that is not an `i64`.
const fn length_bytes(length: usize) -> usize {
    varint::length(length as i64)
}

fn put_length(buffer: &mut BytesMut, length: usize) {
    varint::put(buffer, length as i64);
}

fn piece_bytes(piece: Option<&[u8]>) -> usize {
    piece.map_or(varint::length(-1), |piece| framed(piece.len()))
}

fn put_piece(buffer: &mut BytesMut, piece: Option<&[u8]>) {
    match piece {
        None => varint::put(buffer, -1),
        Some(piece) => {
            put_length(buffer, piece.len());
            buffer.extend_from_slice(piece);
        }
    }
}
