//! Record batches: header, records, each codec.
//!
//! Input: a byte (bit 7: sealed; bits 0–2: the codec, if it is sealed), then a
//! batch. The bounds are small, so that a bomb is one. What is valid has to be
//! readable, and records that were read are written again and come back.

use bytes::Bytes;
use quipu_protocol::batch::{
    BatchBuilder, BatchHeader, BatchLimits, Compression, HEADER_BYTES, Header, Producer, Record, records, validate,
};
use quipu_protocol::{ProducerEpoch, ProducerId, Sequence, Timestamp};

use crate::choice;

const SEALED: u8 = 0x80;
const MAX_DECOMPRESSED_BYTES: usize = 1 << 20;

const LIMITS: BatchLimits =
    BatchLimits { max_batch_bytes: 1 << 20, max_decompressed_bytes: MAX_DECOMPRESSED_BYTES, check_records: true };

/// Validates and reads a batch.
pub fn run(input: &[u8]) {
    let (how, batch) = choice(input);
    let mut batch = batch.to_vec();
    if how & SEALED != 0 {
        seal(&mut batch, how & 0b111);
    }
    let batch = Bytes::from(batch);
    let valid = validate(&batch, &LIMITS);
    let parsed = BatchHeader::parse(&batch);
    let read: Vec<_> = match records(&batch, MAX_DECOMPRESSED_BYTES) {
        Ok(records) => records.collect(),
        Err(_) => Vec::new(),
    };
    let whole = read.iter().all(Result::is_ok);
    if let Ok(header) = valid {
        assert_eq!(Ok(header), parsed, "what is valid has a header");
        assert!(whole && read.len() == header.count as usize, "what is valid is readable");
        let first = header.base_offset.get();
        let read: Vec<Record> = read
            .into_iter()
            .flatten()
            .zip(first..)
            .map(|((offset, record), expected)| {
                assert_eq!(offset.get(), expected, "offsets are contiguous");
                record
            })
            .collect();
        comes_back(&read, header);
    }
}

/// Records that were read, written again in another codec and read again.
fn comes_back(read: &[Record], header: BatchHeader) {
    let count = read.len() % Compression::ALL.len();
    let mut builder = BatchBuilder::new(Compression::ALL[count]);
    for record in read {
        builder.push(record).expect("there is room for what there was room for");
    }
    let batch = builder.finish(header.producer).expect("there are records");
    let limits =
        BatchLimits { max_batch_bytes: usize::MAX, max_decompressed_bytes: usize::MAX >> 1, check_records: true };
    let written = validate(&batch, &limits).expect("what is written is valid");
    assert_eq!((written.count, written.producer), (header.count, header.producer));
    assert_eq!(written.max_timestamp, header.max_timestamp);
    let again: Vec<Record> = records(&batch, limits.max_decompressed_bytes)
        .expect("what is written is readable")
        .map(|record| record.expect("a record").1)
        .collect();
    assert!(again == read, "records come back as they were");
}

/// Makes length, format, codec and CRC right.
pub(crate) fn seal(batch: &mut [u8], codec: u8) {
    if batch.len() < HEADER_BYTES {
        return;
    }
    let following = i32::try_from(batch.len() - 12).unwrap_or(i32::MAX);
    batch[8..12].copy_from_slice(&following.to_be_bytes());
    batch[16] = 2;
    batch[21..23].copy_from_slice(&[0, codec]);
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

/// Batches of every codec, with and without producer, keys, headers.
pub fn seeds() -> Vec<Vec<u8>> {
    let header = |key: &str| Header { key: key.to_owned(), value: Some(Bytes::from_static(b"1")) };
    let record = |n: i64| Record {
        timestamp: Timestamp::new(1_700_000_000_000 + n),
        key: (n % 2 == 0).then(|| Bytes::from_static(b"key")),
        value: Some(Bytes::from(format!("value {n} value {n} value {n}"))),
        headers: (0..n % 3).map(|_| header("a")).collect(),
    };
    let producer = Producer { id: ProducerId::new(7), epoch: ProducerEpoch::new(1), sequence: Sequence::new(5) };
    let mut seeds = Vec::new();
    for (code, compression) in (0_u8..).zip(Compression::ALL) {
        for count in [1, 20] {
            let mut builder = BatchBuilder::new(compression);
            for n in 0..count {
                builder.push(&record(n)).expect("room");
            }
            let batch = builder.finish((count > 1).then_some(producer)).expect("records");
            let code = if count == 1 { batch[22] } else { code };
            seeds.push([&[SEALED | code], &batch[..]].concat());
            seeds.push([&[0], &batch[..]].concat());
        }
    }
    seeds
}
