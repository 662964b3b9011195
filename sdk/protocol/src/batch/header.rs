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

use bytes::{Bytes, BytesMut};

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
        Self::fields(Self::frame(batch)?)
    }

    /// Makes sure that `batch` is as long as it says and of this format: what
    /// has to hold before its CRC means anything.
    pub(super) fn frame(batch: &[u8]) -> Result<&[u8; HEADER_BYTES], BatchError> {
        let Some(header) = batch.first_chunk() else {
            return Err(BatchError::Truncated { bytes: batch.len() });
        };
        let claimed = i32::from_be_bytes(field(header, LENGTH));
        let actual = batch.len() - LENGTH_COUNTS_FROM;
        if usize::try_from(claimed) != Ok(actual) {
            return Err(BatchError::Length { claimed, actual });
        }
        let [magic] = field(header, FORMAT_VERSION);
        if magic != FORMAT {
            return Err(BatchError::Magic { magic: magic.cast_signed() });
        }
        Ok(header)
    }

    pub(super) fn fields(header: &[u8; HEADER_BYTES]) -> Result<Self, BatchError> {
        let base_offset = i64::from_be_bytes(field(header, BASE_OFFSET));
        let base_offset = Offset::new(u64::try_from(base_offset).map_err(|_| BatchError::BaseOffset { base_offset })?);

        let attributes = u16::from_be_bytes(field(header, ATTRIBUTES));
        if attributes & CONTROL != 0 {
            return Err(BatchError::Control);
        }
        if attributes & !CODEC != 0 {
            return Err(BatchError::Attributes { attributes });
        }
        let codec = (attributes & CODEC) as u8;
        let compression = Compression::from_code(codec).ok_or(BatchError::Codec { codec })?;

        let count = i32::from_be_bytes(field(header, COUNT));
        let last_offset_delta = i32::from_be_bytes(field(header, LAST_OFFSET_DELTA));
        if count == 0 {
            return Err(BatchError::Empty);
        }
        if last_offset_delta.checked_add(1) != Some(count) {
            return Err(BatchError::Count { count, last_offset_delta });
        }
        let count = u32::try_from(count).map_err(|_| BatchError::Count { count, last_offset_delta })?;

        Ok(Self {
            base_offset,
            leader_epoch: u32::from_be_bytes(field(header, LEADER_EPOCH)),
            crc: u32::from_be_bytes(field(header, CRC)),
            compression,
            base_timestamp: Timestamp::new(i64::from_be_bytes(field(header, BASE_TIMESTAMP))),
            max_timestamp: Timestamp::new(i64::from_be_bytes(field(header, MAX_TIMESTAMP))),
            producer: Producer::from_fields(
                i64::from_be_bytes(field(header, PRODUCER_ID)),
                i16::from_be_bytes(field(header, PRODUCER_EPOCH)),
                i32::from_be_bytes(field(header, BASE_SEQUENCE)),
            )?,
            count,
        })
    }

    pub(super) fn claimed_checksum(header: &[u8; HEADER_BYTES]) -> u32 {
        u32::from_be_bytes(field(header, CRC))
    }

    /// Writes itself to the front of `batch`, where there is room for it before
    /// the records; then the CRC, whatever [`Self::crc`] says.
    pub(super) fn write(&self, batch: &mut [u8]) {
        assert!(batch.len() > HEADER_BYTES, "a batch has a header and records");
        let following = i32::try_from(batch.len() - LENGTH_COUNTS_FROM).expect("the builder bounds a batch's length");
        let last_offset_delta = i32::try_from(self.count - 1).expect("a record takes more than a byte");
        let mut put = |at: usize, bytes: &[u8]| batch[at..at + bytes.len()].copy_from_slice(bytes);
        put(BASE_OFFSET, &self.base_offset.get().to_be_bytes());
        put(LENGTH, &following.to_be_bytes());
        put(LEADER_EPOCH, &self.leader_epoch.to_be_bytes());
        put(FORMAT_VERSION, &[FORMAT]);
        put(ATTRIBUTES, &self.compression.code().to_be_bytes());
        put(LAST_OFFSET_DELTA, &last_offset_delta.to_be_bytes());
        put(BASE_TIMESTAMP, &self.base_timestamp.get().to_be_bytes());
        put(MAX_TIMESTAMP, &self.max_timestamp.get().to_be_bytes());
        put(COUNT, &(last_offset_delta + 1).to_be_bytes());
        put_producer(batch, self.producer);
        put_checksum(batch);
    }
}

impl Producer {
    fn from_fields(id: i64, epoch: i16, sequence: i32) -> Result<Option<Self>, BatchError> {
        if id == NO_PRODUCER {
            return Ok(None);
        }
        if id < 0 || epoch < 0 || sequence < 0 {
            return Err(BatchError::Sequence { id, epoch, sequence });
        }
        Ok(Some(Self { id: ProducerId::new(id), epoch: ProducerEpoch::new(epoch), sequence: Sequence::new(sequence) }))
    }

    const fn fields(self) -> (i64, i16, i32) {
        (self.id.get(), self.epoch.get(), self.sequence.get())
    }
}

/// CRC-32C of what the CRC covers in `batch`.
pub(super) fn checksum(batch: &[u8]) -> u32 {
    crc32c::crc32c(&batch[ATTRIBUTES..])
}

/// A copy of `batch` that starts at `base`. The records are not looked at.
///
/// # Panics
/// When `batch` is shorter than a header: only validated batches have a place.
pub fn with_position(batch: &Bytes, base: Offset, leader_epoch: u32) -> Bytes {
    let mut placed = BytesMut::from(&batch[..]);
    patch_position(&mut placed, base, leader_epoch);
    placed.freeze()
}

/// Writes a place into `batch`, for a caller that owns the bytes.
///
/// # Panics
/// When `batch` is shorter than a header.
pub fn patch_position(batch: &mut [u8], base: Offset, leader_epoch: u32) {
    assert!(batch.len() >= HEADER_BYTES, "only a validated batch has a place, {} bytes are none", batch.len());
    assert!(base.get() <= i64::MAX.cast_unsigned(), "offset {base} is beyond what the format can say");
    batch[BASE_OFFSET..LENGTH].copy_from_slice(&base.get().to_be_bytes());
    batch[LEADER_EPOCH..FORMAT_VERSION].copy_from_slice(&leader_epoch.to_be_bytes());
}

/// `batch` under `producer`'s name: what was encoded before its place in the
/// producer's stream was known, or is to have another one. The records are not
/// looked at; the bytes are copied only when somebody else has them too.
///
/// # Panics
/// When `batch` is shorter than a header.
pub fn with_producer(batch: Bytes, producer: Option<Producer>) -> Bytes {
    assert!(batch.len() >= HEADER_BYTES, "only a batch has a producer, {} bytes are none", batch.len());
    let mut stamped = batch.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
    put_producer(&mut stamped, producer);
    put_checksum(&mut stamped);
    stamped.freeze()
}

fn put_producer(batch: &mut [u8], producer: Option<Producer>) {
    let (id, epoch, sequence) = producer.map_or((NO_PRODUCER, -1, -1), Producer::fields);
    batch[PRODUCER_ID..PRODUCER_EPOCH].copy_from_slice(&id.to_be_bytes());
    batch[PRODUCER_EPOCH..BASE_SEQUENCE].copy_from_slice(&epoch.to_be_bytes());
    batch[BASE_SEQUENCE..COUNT].copy_from_slice(&sequence.to_be_bytes());
}

fn put_checksum(batch: &mut [u8]) {
    let crc = checksum(batch);
    batch[CRC..ATTRIBUTES].copy_from_slice(&crc.to_be_bytes());
}

// Where the fields start.
const BASE_OFFSET: usize = 0;
const LENGTH: usize = 8;
const LEADER_EPOCH: usize = 12;
const FORMAT_VERSION: usize = 16;
const CRC: usize = 17;
const ATTRIBUTES: usize = 21;
const LAST_OFFSET_DELTA: usize = 23;
const BASE_TIMESTAMP: usize = 27;
const MAX_TIMESTAMP: usize = 35;
const PRODUCER_ID: usize = 43;
const PRODUCER_EPOCH: usize = 51;
const BASE_SEQUENCE: usize = 53;
const COUNT: usize = 57;

/// What of a header [`PlacedBatch`](super::PlacedBatch) writes: the base offset
/// and the leader's epoch, and what lies between them.
pub(super) const PLACE_BYTES: usize = FORMAT_VERSION;
/// Between the two.
pub(super) const LENGTH_FIELD: std::ops::Range<usize> = LENGTH..LEADER_EPOCH;

/// The length field does not count what is before its end.
const LENGTH_COUNTS_FROM: usize = LENGTH + 4;
const FORMAT: u8 = 2;
const NO_PRODUCER: i64 = -1;

// Attributes. Bits 3 (append time), 4 (transactional), 6 (delete horizon) and
// those that are not assigned are refused.
const CODEC: u16 = 0b111;
const CONTROL: u16 = 1 << 5;

/// The `N` bytes at `at`.
fn field<const N: usize>(header: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    *header[at..].first_chunk().expect("fields lie inside of the header")
}
