//! Batches, whole and spoiled.

use bytes::Bytes;
use quipu_protocol::Timestamp;
use quipu_protocol::batch::{BatchBuilder, Compression, HEADER_BYTES, PlacedBatch, Record, records};

/// A batch with a record for each value.
pub(crate) fn batch(values: &[&str]) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    for value in values {
        let value = Some(Bytes::copy_from_slice(value.as_bytes()));
        let record = Record { timestamp: Timestamp::new(1), key: None, value, headers: Vec::new() };
        builder.push(&record).expect("a small record");
    }
    builder.finish(None).expect("there are records")
}

/// A batch of about so many bytes.
pub(crate) fn batch_of(bytes: usize) -> Bytes {
    batch(&["x".repeat(bytes - HEADER_BYTES - 16).as_str()])
}

/// `batch` with `bytes` at `at`, and a CRC that fits.
pub(crate) fn forged(batch: &Bytes, at: usize, bytes: &[u8]) -> Bytes {
    let mut forged = batch.to_vec();
    forged[at..at + bytes.len()].copy_from_slice(bytes);
    let crc = crc32c::crc32c(&forged[21..]);
    forged[17..21].copy_from_slice(&crc.to_be_bytes());
    forged.into()
}

/// The values of `batches`, each with its offset.
pub(crate) fn values(batches: &[PlacedBatch]) -> Vec<(u64, String)> {
    let all = batches.iter().flat_map(|batch| records(&batch.clone().into_bytes(), 1 << 20).expect("a batch"));
    all.map(|record| {
        let (offset, record) = record.expect("a record");
        (offset.get(), String::from_utf8(record.value.expect("a value").to_vec()).expect("text"))
    })
    .collect()
}
