//! Why bytes are no acceptable batch.

use crate::v1::bad_batch::Reason;

/// Why bytes are no acceptable batch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// There is no record.
    #[error("the batch is empty: an append carries at least one record")]
    Empty,
    /// The bytes end inside of the header.
    #[error("the batch is cut off: its header has {} bytes, there are {bytes}", super::HEADER_BYTES)]
    Truncated {
        /// How many bytes there are.
        bytes: usize,
    },
    /// The length field disagrees with the bytes.
    #[error("the batch says that {claimed} bytes follow its length, {actual} do")]
    Length {
        /// What the header says.
        claimed: i32,
        /// What is there.
        actual: usize,
    },
    /// Another format version.
    #[error("the batch is of format {magic}; only 2 is known")]
    Magic {
        /// The version found.
        magic: i8,
    },
    /// The base offset is negative.
    #[error("the batch's base offset {base_offset} is negative")]
    BaseOffset {
        /// What the header says.
        base_offset: i64,
    },
    /// The checksum disagrees with the bytes.
    #[error("the batch's CRC is {claimed:#010x}, its bytes give {actual:#010x}")]
    Crc {
        /// What the header says.
        claimed: u32,
        /// CRC-32C of bytes 21 and on.
        actual: u32,
    },
    /// The count and the last offset disagree.
    #[error("the batch counts {count} records, its last offset delta is {last_offset_delta}: it has to be one less")]
    Count {
        /// What the header says.
        count: i32,
        /// What the header says.
        last_offset_delta: i32,
    },
    /// The codec is none that the format has.
    #[error("the batch's codec is {codec}, which is unknown; none, gzip, snappy, lz4 and zstd are known")]
    Codec {
        /// Bits 0–2 of the attributes.
        codec: u8,
    },
    /// The compressed records do not decompress.
    #[error("the batch's records do not decompress: {reason}")]
    Compression {
        /// What is wrong with them.
        reason: String,
    },
    /// A record is malformed.
    #[error("record {record} of the batch {fault}")]
    Record {
        /// Its position in the batch, from 0.
        record: u32,
        /// What is wrong with it.
        fault: RecordFault,
    },
    /// The records end before the count is reached.
    #[error("the batch counts {count} records and has {found}")]
    MissingRecords {
        /// How many the header counts.
        count: u32,
        /// How many there are.
        found: u32,
    },
    /// The records go on after the last one that is counted.
    #[error("{bytes} bytes follow the {count} records that the batch counts")]
    TrailingBytes {
        /// How many bytes are left.
        bytes: usize,
        /// How many records were counted.
        count: u32,
    },
    /// The header's newest timestamp is not that of the records.
    #[error("the batch says that its newest timestamp is {claimed}, that of its records is {actual}")]
    MaxTimestamp {
        /// What the header says.
        claimed: i64,
        /// What the records say.
        actual: i64,
    },
    /// A control batch, which clients may not write.
    #[error("the batch is a control batch: clients may not write one")]
    Control,
    /// An attribute that means something Quipu does not do.
    #[error("the batch's attributes {attributes:#06x} ask for what is not supported")]
    Attributes {
        /// The attributes found.
        attributes: u16,
    },
    /// The producer's fields contradict each other.
    #[error("the batch names producer {id} with epoch {epoch} and sequence {sequence}: none may be negative")]
    Sequence {
        /// The producer id.
        id: i64,
        /// Its epoch.
        epoch: i16,
        /// The first record's sequence.
        sequence: i32,
    },
    /// Over a bound.
    #[error("the batch has {actual} bytes where {bound} allows {limit}")]
    TooLarge {
        /// The bound's name.
        bound: &'static str,
        /// The bound, in bytes.
        limit: u64,
        /// What it would take at the least, in bytes.
        actual: u64,
    },
}

/// What is wrong with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordFault {
    /// The bytes end before the record does.
    #[error("is cut off")]
    CutOff,
    /// A variable-length number has too many bits.
    #[error("has a number that is too long")]
    Number,
    /// A length or a count is negative (and not the −1 that says none).
    #[error("has a negative length")]
    Negative,
    /// The record's own length disagrees with what it holds.
    #[error("has another length than it says")]
    Length,
    /// The offset delta is not the record's position.
    #[error("has the offset delta {found}, which has to be its position")]
    OffsetDelta {
        /// The delta found.
        found: i32,
    },
    /// Attributes of single records are not in use.
    #[error("has attributes, which have to be 0")]
    Attributes,
    /// A header's key is not UTF-8.
    #[error("has a header key that is not UTF-8")]
    HeaderKey,
}

impl BatchError {
    /// The reason on the wire; none for [`BatchError::TooLarge`], which is an
    /// error of its own there.
    pub const fn reason(&self) -> Option<Reason> {
        Some(match self {
            Self::Empty => Reason::Empty,
            Self::Truncated { .. } => Reason::Truncated,
            Self::Length { .. } => Reason::Length,
            Self::Magic { .. } => Reason::Magic,
            Self::BaseOffset { .. } => Reason::BaseOffset,
            Self::Crc { .. } => Reason::Crc,
            Self::Count { .. } | Self::MissingRecords { .. } | Self::TrailingBytes { .. } => Reason::Count,
            Self::Codec { .. } => Reason::Codec,
            Self::Compression { .. } | Self::Record { .. } | Self::MaxTimestamp { .. } => Reason::Records,
            Self::Control => Reason::Control,
            Self::Attributes { .. } => Reason::Attributes,
            Self::Sequence { .. } => Reason::Sequence,
            Self::TooLarge { .. } => return None,
        })
    }
}
