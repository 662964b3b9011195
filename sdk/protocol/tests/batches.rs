//! What record batches promise: bytes laid out by hand are read as the format
//! says, what is written comes back, and what is wrong is refused by name.

use bytes::Bytes;
use proptest::prelude::*;
use quipu_protocol::batch::{
    BatchBuilder, BatchError, BatchHeader, BatchLimits, Compression, HEADER_BYTES, Header, Producer, Record,
    RecordFault, records, validate, with_position, with_producer,
};
use quipu_protocol::{Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};

const LIMITS: BatchLimits =
    BatchLimits { max_batch_bytes: 1 << 20, max_decompressed_bytes: 16 << 20, check_records: true };

const PRODUCER: Producer =
    Producer { id: ProducerId::new(77), epoch: ProducerEpoch::new(3), sequence: Sequence::new(41) };

/// Two records, laid out from the format's table and not by the encoder.
fn golden() -> Vec<u8> {
    #[rustfmt::skip]
    let mut batch = vec![
        0, 0, 0, 0, 0, 0, 0x01, 0x02,                   // base offset 258
        0, 0, 0, 81,                                    // bytes after this field
        0, 0, 0, 9,                                     // leader epoch
        2,                                              // format
        0, 0, 0, 0,                                     // CRC, below
        0, 0,                                           // attributes
        0, 0, 0, 1,                                     // last offset delta
        0, 0, 0x01, 0x8f, 0xcd, 0x3b, 0x1c, 0x00,       // first timestamp
        0, 0, 0x01, 0x8f, 0xcd, 0x3b, 0x1c, 0x00,       // newest timestamp
        0, 0, 0, 0, 0, 0, 0, 77,                        // producer id
        0, 3,                                           // producer epoch
        0, 0, 0, 41,                                    // first sequence
        0, 0, 0, 2,                                     // count
        // A record of 16 bytes: key "k", value "hi", headers "a" → "1", "a" → none.
        32, 0, 0, 0, 2, b'k', 4, b'h', b'i', 4, 2, b'a', 2, b'1', 2, b'a', 1,
        // A record of 14 bytes, 300 ms older: no key, an empty value, a header
        // "other" without a value.
        28, 0, 0xd7, 0x04, 2, 1, 0, 2, 10, b'o', b't', b'h', b'e', b'r', 1,
    ];
    seal(&mut batch);
    batch
}

/// Writes the CRC anew, as a client that lies would.
fn seal(batch: &mut [u8]) {
    let crc = bitwise_crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

/// CRC-32C by its definition, bit by bit, so that the golden bytes do not
/// depend on the library that the encoder uses.
fn bitwise_crc32c(bytes: &[u8]) -> u32 {
    let mut crc = !0_u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 != 0 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    !crc
}

fn read_all(batch: &Bytes) -> Vec<(Offset, Record)> {
    records(batch, LIMITS.max_decompressed_bytes).expect("a batch").collect::<Result<_, _>>().expect("records")
}

fn encode(compression: Compression, records: &[Record], producer: Option<Producer>) -> Bytes {
    let mut builder = BatchBuilder::new(compression);
    for record in records {
        builder.push(record).expect("room");
    }
    builder.finish(producer).expect("records")
}

fn golden_records() -> Vec<Record> {
    let first = Timestamp::new(0x018f_cd3b_1c00);
    vec![
        Record {
            timestamp: first,
            key: Some(Bytes::from_static(b"k")),
            value: Some(Bytes::from_static(b"hi")),
            headers: vec![
                Header { key: "a".to_owned(), value: Some(Bytes::from_static(b"1")) },
                Header { key: "a".to_owned(), value: None },
            ],
        },
        Record {
            timestamp: Timestamp::new(first.get() - 300),
            key: None,
            value: Some(Bytes::new()),
            headers: vec![Header { key: "other".to_owned(), value: None }],
        },
    ]
}

#[test]
fn bytes_laid_out_by_hand_are_read_as_the_format_says() {
    let batch = Bytes::from(golden());
    let header = validate(&batch, &LIMITS).expect("the format's own example");
    assert_eq!(header.base_offset, Offset::new(258));
    assert_eq!(header.leader_epoch, 9);
    assert_eq!(header.compression, Compression::None);
    assert_eq!(header.count, 2);
    assert_eq!(header.base_timestamp, Timestamp::new(0x018f_cd3b_1c00));
    assert_eq!(header.max_timestamp, header.base_timestamp);
    assert_eq!(header.producer, Some(PRODUCER));

    let offsets = [Offset::new(258), Offset::new(259)];
    let expect: Vec<_> = offsets.into_iter().zip(golden_records()).collect();
    assert_eq!(read_all(&batch), expect);
}

/// The golden records with `body` in their place, in codec `code`.
fn golden_with(code: u8, body: &[u8]) -> Bytes {
    let mut batch = golden();
    batch.truncate(HEADER_BYTES);
    batch.extend_from_slice(body);
    let following = i32::try_from(batch.len() - 12).expect("a small batch");
    batch[8..12].copy_from_slice(&following.to_be_bytes());
    batch[22] = code;
    seal(&mut batch);
    batch.into()
}

/// The bodies are what other libraries make of the golden records: Python's
/// gzip (that is zlib), and a Snappy literal of 32 bytes laid out by hand.
#[test]
fn gzip_and_snappy_of_other_writers_are_read() {
    let plain = &golden()[HEADER_BYTES..];
    let gzip = [
        31, 139, 8, 0, 0, 0, 0, 0, 0, 3, 83, 96, 96, 96, 96, 202, 102, 201, 200, 100, 97, 74, 100, 50, 100, 74, 100,
        148, 97, 184, 206, 194, 196, 200, 192, 196, 149, 95, 146, 145, 90, 196, 8, 0, 251, 50, 82, 196, 32, 0, 0, 0,
    ];
    let block = [&[32, 31 << 2], plain].concat();
    let framing = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 34];
    for (code, compression, body) in [
        (1, Compression::Gzip, gzip.to_vec()),
        (2, Compression::Snappy, [&framing, &block[..]].concat()),
        (2, Compression::Snappy, block.clone()),
    ] {
        let batch = golden_with(code, &body);
        assert_eq!(validate(&batch, &LIMITS).expect("a batch").compression, compression);
        let read: Vec<_> = read_all(&batch).into_iter().map(|(_, record)| record).collect();
        assert_eq!(read, golden_records(), "{compression}");
    }
}

#[test]
fn the_encoder_writes_what_was_laid_out_by_hand() {
    let encoded = encode(Compression::None, &golden_records(), Some(PRODUCER));
    assert_eq!(with_position(&encoded, Offset::new(258), 9), golden());
}

#[test]
fn a_batch_without_a_producer_says_so() {
    let batch = encode(Compression::None, &golden_records(), None);
    assert_eq!(batch[43..57], [0xff; 14]);
    assert_eq!(validate(&batch, &LIMITS).expect("a batch").producer, None);
}

#[test]
fn a_place_is_written_without_touching_what_the_crc_covers() {
    let batch = encode(Compression::Lz4, &golden_records(), Some(PRODUCER));
    let placed = with_position(&batch, Offset::new(1 << 40), u32::MAX);
    let header = validate(&placed, &LIMITS).expect("still valid");
    assert_eq!(header.base_offset, Offset::new(1 << 40));
    assert_eq!(header.leader_epoch, u32::MAX);
    assert_eq!(batch[16..], placed[16..]);
    assert_eq!(read_all(&placed)[1].0, Offset::new((1 << 40) + 1));
}

#[test]
fn any_flipped_bit_that_the_crc_covers_is_noticed() {
    for compression in Compression::ALL {
        let batch = encode(compression, &vec![golden_records()[0].clone(); 30], Some(PRODUCER));
        // The CRC itself begins at 17.
        for bit in 17 * 8..batch.len() * 8 {
            let mut flipped = batch.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let error = validate(&flipped, &LIMITS).expect_err("a flipped bit");
            assert!(matches!(error, BatchError::Crc { .. }), "bit {bit}: {error}");
        }
    }
}

/// Changes the golden batch, seals it again and expects `error`.
#[track_caller]
fn refused(change: impl FnOnce(&mut Vec<u8>), error: &BatchError) {
    let mut batch = golden();
    change(&mut batch);
    seal(&mut batch);
    assert_eq!(validate(&batch, &LIMITS).as_ref(), Err(error));
}

#[test]
fn each_lie_of_a_header_is_refused_by_name() {
    assert_eq!(validate(b"", &LIMITS), Err(BatchError::Truncated { bytes: 0 }));
    assert_eq!(validate(&golden()[..60], &LIMITS), Err(BatchError::Truncated { bytes: 60 }));
    refused(|batch| batch.truncate(batch.len() - 1), &BatchError::Length { claimed: 81, actual: 80 });
    refused(|batch| batch[8] = 0x80, &BatchError::Length { claimed: i32::MIN + 81, actual: 81 });
    refused(|batch| batch[16] = 1, &BatchError::Magic { magic: 1 });
    refused(|batch| batch[0] = 0x80, &BatchError::BaseOffset { base_offset: i64::MIN + 258 });
    refused(|batch| batch[60] = 0, &BatchError::Empty);
    refused(|batch| batch[60] = 3, &BatchError::Count { count: 3, last_offset_delta: 1 });
    refused(|batch| batch[26] = 0, &BatchError::Count { count: 2, last_offset_delta: 0 });
    refused(
        |batch| {
            batch[57..61].fill(0xff);
            batch[23..27].copy_from_slice(&(-2_i32).to_be_bytes());
        },
        &BatchError::Count { count: -1, last_offset_delta: -2 },
    );
    refused(|batch| batch[22] = 5, &BatchError::Codec { codec: 5 });
    refused(|batch| batch[22] = 7, &BatchError::Codec { codec: 7 });
    refused(|batch| batch[22] = 1 << 5, &BatchError::Control);
    refused(|batch| batch[22] = 1 << 3, &BatchError::Attributes { attributes: 1 << 3 });
    refused(|batch| batch[22] = 1 << 4, &BatchError::Attributes { attributes: 1 << 4 });
    refused(|batch| batch[21] = 1, &BatchError::Attributes { attributes: 1 << 8 });
    refused(|batch| batch[53] = 0x80, &BatchError::Sequence { id: 77, epoch: 3, sequence: i32::MIN + 41 });
    refused(|batch| batch[51] = 0x80, &BatchError::Sequence { id: 77, epoch: i16::MIN + 3, sequence: 41 });
    refused(|batch| batch[43] = 0x80, &BatchError::Sequence { id: i64::MIN + 77, epoch: 3, sequence: 41 });
    refused(|batch| batch[42] = 1, &BatchError::MaxTimestamp { claimed: 0x018f_cd3b_1c01, actual: 0x018f_cd3b_1c00 });
    let error = validate(&golden(), &BatchLimits { max_batch_bytes: 91, ..LIMITS });
    assert_eq!(error, Err(BatchError::TooLarge { bound: "max_batch_bytes", limit: 91, actual: golden().len() as u64 }));
}

#[test]
fn each_lie_of_a_record_is_refused_by_name() {
    let record = |record, fault| BatchError::Record { record, fault };
    let count = |count: u8| {
        move |batch: &mut Vec<u8>| {
            batch[60] = count;
            batch[26] = count - 1;
        }
    };
    refused(count(1), &BatchError::TrailingBytes { bytes: 15, count: 1 });
    refused(count(3), &BatchError::MissingRecords { count: 3, found: 2 });
    refused(|batch| batch[78] = 30, &record(1, RecordFault::CutOff));
    refused(|batch| batch[61] = 34, &record(0, RecordFault::Length));
    refused(|batch| batch[61] = 30, &record(0, RecordFault::Length));
    refused(|batch| batch[61] = 0x7e, &record(0, RecordFault::CutOff));
    refused(|batch| batch[61] = 1, &record(0, RecordFault::Negative));
    refused(|batch| batch[62] = 1, &record(0, RecordFault::Attributes));
    refused(|batch| batch[64] = 2, &record(0, RecordFault::OffsetDelta { found: 1 }));
    refused(|batch| batch[65] = 0x7e, &record(0, RecordFault::Length));
    refused(|batch| batch[65] = 3, &record(0, RecordFault::Negative));
    refused(|batch| batch[70] = 0x7e, &record(0, RecordFault::Length));
    refused(|batch| batch[72] = 0xff, &record(0, RecordFault::HeaderKey));
}

#[test]
fn a_lying_count_is_taken_only_where_the_check_is_switched_off() {
    let mut batch = golden();
    batch[60] = 200;
    batch[26] = 199;
    seal(&mut batch);
    validate(&batch, &LIMITS).expect_err("the count lies");
    let header = validate(&batch, &BatchLimits { check_records: false, ..LIMITS }).expect("not looked at");
    assert_eq!(header.count, 200);
    // A reader finds out, and stops there.
    let read: Vec<_> = records(&Bytes::from(batch), LIMITS.max_decompressed_bytes).expect("a header").collect();
    assert_eq!(read.iter().filter(|record| record.is_ok()).count(), 2);
    assert_eq!(read.len(), 3);
}

#[test]
fn what_expands_beyond_the_cap_is_refused() {
    let zeros = Record::new(Timestamp::new(0), Bytes::from(vec![0; 8 << 20]));
    for compression in Compression::ALL.into_iter().filter(|each| *each != Compression::None) {
        let batch = encode(compression, std::slice::from_ref(&zeros), None);
        assert!(batch.len() < 512 << 10, "zeros compress well");
        validate(&batch, &LIMITS).expect("under the cap");
        let limits = BatchLimits { max_decompressed_bytes: 1 << 20, ..LIMITS };
        let error = validate(&batch, &limits).expect_err("over the cap");
        assert!(matches!(error, BatchError::TooLarge { bound: "max_decompressed_bytes", .. }), "{error}");
        let error = records(&batch, 1 << 20).expect_err("over the cap");
        assert!(matches!(error, BatchError::TooLarge { bound: "max_decompressed_bytes", .. }), "{error}");
    }
}

#[test]
fn what_does_not_compress_is_left_as_it_is() {
    for compression in Compression::ALL {
        let batch = encode(compression, &[Record::new(Timestamp::new(0), Bytes::from_static(b"x"))], None);
        assert_eq!(BatchHeader::parse(&batch).expect("a batch").compression, Compression::None);
    }
}

#[test]
fn a_builder_serves_for_many_batches() {
    for compression in Compression::ALL {
        let mut builder = BatchBuilder::new(compression);
        assert_eq!(builder.finish(None), Err(BatchError::Empty));
        for round in 0..5_u8 {
            let records = vec![Record::new(Timestamp::new(round.into()), Bytes::from(vec![round; 500])); 3];
            let mut foretold = HEADER_BYTES;
            for record in &records {
                foretold = builder.bytes_with(record);
                builder.push(record).expect("room");
                assert_eq!(builder.bytes(), foretold);
            }
            assert_eq!(builder.count(), 3);
            let batch = builder.finish(None).expect("records");
            assert!(builder.is_empty());
            assert_eq!(builder.bytes(), HEADER_BYTES);
            if compression == Compression::None {
                assert_eq!(batch.len(), foretold);
            }
            assert_eq!(read_all(&batch).into_iter().map(|(_, record)| record).collect::<Vec<_>>(), records);
        }
    }
}

fn any_bytes(most: usize) -> impl Strategy<Value = Bytes> {
    // Runs, so that codecs find something to do.
    prop::collection::vec((any::<u8>(), 1..most / 4), 0..4)
        .prop_map(|runs| runs.into_iter().flat_map(|(byte, count)| vec![byte; count]).collect::<Vec<_>>().into())
}

fn any_record() -> impl Strategy<Value = Record> {
    let header = ("[a-zé]{0,5}", prop::option::of(any_bytes(20))).prop_map(|(key, value)| Header { key, value });
    (
        any::<i64>(),
        prop::option::of(any_bytes(40)),
        prop::option::of(any_bytes(400)),
        prop::collection::vec(header, 0..4),
    )
        .prop_map(|(timestamp, key, value, headers)| Record {
            timestamp: Timestamp::new(timestamp),
            key,
            value,
            headers,
        })
}

fn any_producer() -> impl Strategy<Value = Option<Producer>> {
    prop::option::of((0..i64::MAX, 0..i16::MAX, 0..i32::MAX).prop_map(|(id, epoch, sequence)| Producer {
        id: ProducerId::new(id),
        epoch: ProducerEpoch::new(epoch),
        sequence: Sequence::new(sequence),
    }))
}

fn any_compression() -> impl Strategy<Value = Compression> {
    prop::sample::select(Compression::ALL.to_vec())
}

proptest! {
    #[test]
    fn what_is_written_is_valid_and_comes_back(
        compression in any_compression(),
        written in prop::collection::vec(any_record(), 1..20),
        producer in any_producer(),
        base in 0..=i64::MAX as u64,
    ) {
        let batch = with_position(&encode(compression, &written, producer), Offset::new(base), 1);
        let header = validate(&batch, &LIMITS).expect("our own batch");
        prop_assert_eq!(header.count as usize, written.len());
        prop_assert_eq!(header.producer, producer);
        prop_assert_eq!(Some(header.max_timestamp), written.iter().map(|record| record.timestamp).max());
        let expect: Vec<_> =
            written.into_iter().zip(base..).map(|(record, offset)| (Offset::new(offset), record)).collect();
        prop_assert_eq!(read_all(&batch), expect);
    }

    /// Whether the bytes are shared must not matter, nor what was there before.
    #[test]
    fn a_producer_is_written_as_if_it_had_been_known_from_the_start(
        compression in any_compression(),
        written in prop::collection::vec(any_record(), 1..6),
        producer in any_producer(),
        shared in any::<bool>(),
    ) {
        let expect = encode(compression, &written, producer);
        let batch = encode(compression, &written, Some(PRODUCER));
        let held = shared.then(|| batch.clone());
        prop_assert_eq!(with_producer(batch, producer), expect);
        if let Some(held) = held {
            prop_assert_eq!(validate(&held, &LIMITS).expect("untouched").producer, Some(PRODUCER));
        }
    }

    /// Records are walked by the validating path and by the reading path: what
    /// the first takes, the second reads to its end.
    #[test]
    fn what_is_valid_is_readable(
        compression in any_compression(),
        written in prop::collection::vec(any_record(), 1..6),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut batch = encode(compression, &written, None).to_vec();
        for (at, byte) in changes {
            let at = at.index(batch.len() - 21) + 21;
            batch[at] = byte;
        }
        seal(&mut batch);
        if let Ok(header) = validate(&batch, &LIMITS) {
            prop_assert_eq!(read_all(&batch.into()).len(), header.count as usize);
        }
    }
}
