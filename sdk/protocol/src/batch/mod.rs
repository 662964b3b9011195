//! RecordBatch v2: how records travel and rest.
//!
//! ```text
//!   BatchBuilder ──► bytes ──► validate ──► PlacedBatch ──► records
//!   (producer)                 (server)     (server)        (reader)
//! ```
//!
//! The bytes are Kafka's (<https://kafka.apache.org/documentation/#recordbatch>):
//! a header of [`HEADER_BYTES`], then the records, compressed as one piece or
//! not at all. A server parses the header, checks the rest, and from then on
//! passes the bytes along as they are. Only the base offset and the leader's
//! epoch are written after the producer is done; both lie outside of the CRC.
//!
//! Nothing here trusts a length or a count: each is held against the bytes
//! that are there before anything is allocated, and decompression stops at
//! [`BatchLimits::max_decompressed_bytes`].

mod builder;
mod codecs;
mod compression;
mod error;
mod header;
mod placed;
mod record;
mod records;
mod validate;
mod varint;

pub use builder::BatchBuilder;
pub use codecs::Codecs;
pub use compression::{Compression, UnknownCompression};
pub use error::{BatchError, RecordFault};
pub use header::{BatchHeader, HEADER_BYTES, Producer, patch_position, with_position, with_producer};
pub use placed::PlacedBatch;
pub use record::{Header, Record};
pub use records::{Records, records};
pub use validate::{BatchLimits, Inspected, inspect, validate};
