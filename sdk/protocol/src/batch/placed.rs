//! A batch at its place in a log, without a copy of it.
//!
//! ```text
//!   on the wire   base (8) │ length (4) │ leader epoch (4) │ the rest
//!                  written │  as it was │ written          │ as it was
//! ```
//!
//! The bytes are those that were appended, shared with whoever else has them (a
//! node's cache, a thousand followers); only the two fields that say the place are
//! the batch's own, and are put in between when it is written.

use bytes::{Buf as _, BufMut, Bytes};

use super::header::{HEADER_BYTES, LENGTH_FIELD, PLACE_BYTES, with_position};
use super::{BatchError, BatchHeader};
use crate::Offset;

/// One batch, as it was appended, and its place.
#[derive(Clone, Debug)]
pub struct PlacedBatch {
    /// None where the bytes say it themselves.
    place: Option<Place>,
    bytes: Bytes,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    base: Offset,
    leader_epoch: u32,
}

impl PlacedBatch {
    /// `bytes`, whatever place they say, at `base`.
    ///
    /// # Panics
    /// When `bytes` are shorter than a header: only validated batches have a place.
    pub fn new(bytes: Bytes, base: Offset, leader_epoch: u32) -> Self {
        assert!(bytes.len() >= HEADER_BYTES, "only a validated batch has a place, {} bytes are none", bytes.len());
        Self { place: Some(Place { base, leader_epoch }), bytes }
    }

    /// How many bytes it has.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The bytes as they were appended, or as they arrived: what they say of their
    /// place may be wrong.
    pub fn shared(&self) -> &Bytes {
        &self.bytes
    }

    /// The first record's offset.
    ///
    /// # Errors
    /// When it has no place but what its header says, which cannot be parsed.
    pub fn base_offset(&self) -> Result<Offset, BatchError> {
        match self.place {
            Some(place) => Ok(place.base),
            None => BatchHeader::parse(&self.bytes).map(|header| header.base_offset),
        }
    }

    /// The batch as one piece that says its place. A copy, unless it does already.
    pub fn into_bytes(self) -> Bytes {
        match self.place {
            Some(Place { base, leader_epoch }) => with_position(&self.bytes, base, leader_epoch),
            None => self.bytes,
        }
    }

    /// Writes it, with its place.
    pub(crate) fn write(&self, buffer: &mut impl BufMut) {
        let Some(Place { base, leader_epoch }) = self.place else {
            return buffer.put(self.bytes.clone());
        };
        buffer.put_u64(base.get());
        buffer.put_slice(&self.bytes[LENGTH_FIELD]);
        buffer.put_u32(leader_epoch);
        let mut rest = self.bytes.clone();
        rest.advance(PLACE_BYTES);
        buffer.put(rest);
    }
}

/// A batch whose bytes say its place.
impl From<Bytes> for PlacedBatch {
    fn from(bytes: Bytes) -> Self {
        Self { place: None, bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Timestamp;
    use crate::batch::{BatchBuilder, Compression, Record};

    fn batch() -> Bytes {
        let mut builder = BatchBuilder::new(Compression::None);
        builder.push(&Record::new(Timestamp::new(0), Bytes::from_static(b"value"))).expect("fits");
        builder.finish(None).expect("not empty")
    }

    #[test]
    fn what_is_written_is_the_batch_with_its_place_patched_in() {
        let (batch, base) = (batch(), Offset::new(1 << 40));
        let placed = PlacedBatch::new(batch.clone(), base, 7);
        let mut written = Vec::new();
        placed.write(&mut written);
        assert_eq!(written, with_position(&batch, base, 7));
        assert_eq!(placed.base_offset(), Ok(base));
        assert_eq!(placed.into_bytes(), written);
    }

    #[test]
    fn bytes_that_say_their_place_are_written_as_they_are_whatever_they_are() {
        for bytes in [batch(), Bytes::new(), Bytes::from_static(b"short")] {
            let placed = PlacedBatch::from(bytes.clone());
            let mut written = Vec::new();
            placed.write(&mut written);
            assert_eq!((written.as_slice(), placed.len()), (&bytes[..], bytes.len()));
            assert_eq!(placed.into_bytes(), bytes);
        }
    }

    #[test]
    fn clones_share_the_bytes_that_were_appended() {
        let batch = batch();
        let placed: Vec<_> = (0..1000).map(|n| PlacedBatch::new(batch.clone(), Offset::new(n), 1)).collect();
        assert!(placed.iter().all(|placed| placed.shared().as_ptr() == batch.as_ptr()));
    }
}
