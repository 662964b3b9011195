//! Any bytes in: an error or a batch out, never a panic, and never more memory
//! than the bytes warrant. Memory is measured, by an allocator that counts.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bytes::Bytes;
use proptest::prelude::*;
use quipu_protocol::Timestamp;
use quipu_protocol::batch::{
    BatchBuilder, BatchError, BatchHeader, BatchLimits, Compression, HEADER_BYTES, Record, records, validate,
};

/// Counts what each thread holds. (zstd's contexts come from C and are not
/// seen; they have a fixed size, see `compression/zstandard.rs`.)
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(change: isize) {
    // A thread that is being taken down has no counters any more.
    let _ = HELD.try_with(|held| {
        held.set(held.get() + change);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(held.get())));
    });
}

// SAFETY: every call is passed on unchanged to `System`, which keeps the
// contract; counting happens beside it, in cells that are initialised at
// compile time and have no destructor, so that it never allocates itself.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What `work` returns and how much more memory it held at most than before.
fn measured<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = HELD.get();
    PEAK.set(before);
    let output = work();
    (output, (PEAK.get() - before).cast_unsigned())
}

const LIMITS: BatchLimits =
    BatchLimits { max_batch_bytes: 1 << 20, max_decompressed_bytes: 4 << 20, check_records: true };

/// What every call may take: messages, and the decoders that a thread keeps,
/// of which gzip's with its window is the largest.
const CONSTANT: usize = 64 << 10;

/// Bytes of memory that `body` warrants: what it could decompress to, within
/// the cap, twice (records are read from a copy that is cut to size); and a
/// record's parts, of which each takes at least two bytes of the body.
fn warranted(codec: u8, body: usize) -> usize {
    let plain = match codec {
        // DEFLATE yields at most 258 bytes for two bits.
        1 => body * 258 * 4,
        // Snappy yields at most 64 bytes for three.
        2 => body * 22,
        // LZ4 yields at most 255 bytes for each.
        3 => body * 255,
        // Zstandard yields at most 128 KiB for four.
        4 => body / 4 * (128 << 10),
        _ => body,
    };
    CONSTANT + 40 * body + 2 * plain.min(LIMITS.max_decompressed_bytes)
}

/// Validates and reads `batch`, as server and reader would.
fn consume(batch: &Bytes) -> Result<BatchHeader, BatchError> {
    let header = validate(batch, &LIMITS);
    if let Ok(records) = records(batch, LIMITS.max_decompressed_bytes) {
        for record in records {
            drop(record);
        }
    }
    header
}

#[track_caller]
fn within_bounds(batch: Vec<u8>) -> Result<BatchHeader, BatchError> {
    let codec = batch.get(22).map_or(0, |attributes| attributes & 7);
    let allowed = warranted(codec, batch.len().saturating_sub(HEADER_BYTES));
    let batch = Bytes::from(batch);
    let (outcome, held) = measured(|| consume(&batch));
    assert!(held <= allowed, "{held} bytes were held for a batch of {}; {allowed} are warranted", batch.len());
    outcome
}

/// A batch whose header is in order around any `body`.
fn sealed(codec: u8, count: i32, body: &[u8]) -> Vec<u8> {
    let mut batch = vec![0; HEADER_BYTES];
    batch.extend_from_slice(body);
    let following = i32::try_from(batch.len() - 12).expect("a small batch");
    batch[8..12].copy_from_slice(&following.to_be_bytes());
    batch[16] = 2;
    batch[22] = codec;
    batch[23..27].copy_from_slice(&(count - 1).to_be_bytes());
    batch[43..57].fill(0xff);
    batch[57..61].copy_from_slice(&count.to_be_bytes());
    seal(&mut batch);
    batch
}

fn seal(batch: &mut [u8]) {
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

#[test]
fn an_uncompressed_batch_is_validated_without_allocating() {
    let mut builder = BatchBuilder::new(Compression::None);
    for n in 0..1000 {
        builder.push(&Record::new(Timestamp::new(n), Bytes::from_static(b"a value"))).expect("room");
    }
    let batch = builder.finish(None).expect("records");
    let (header, held) = measured(|| validate(&batch, &LIMITS));
    assert_eq!(header.expect("a batch").count, 1000);
    assert_eq!(held, 0);
}

#[test]
fn a_count_that_lies_costs_nothing() {
    for codec in 0..=4 {
        within_bounds(sealed(codec, i32::MAX, b"")).expect_err("no records");
        // A record of 7 bytes that says it has 2³⁰ headers.
        let body = [26, 0, 0, 0, 1, 1, 0x80, 0x80, 0x80, 0x80, 0x08, 0, 0, 0];
        within_bounds(sealed(codec, 1, &body)).expect_err("no headers");
    }
}

#[test]
fn a_small_lz4_frame_does_not_take_large_blocks() {
    // Blocks of up to 4 MiB, then the end.
    let mut frame = vec![0x04, 0x22, 0x4d, 0x18, 0x60, 0x70, 0x73, 0, 0, 0, 0];
    let (outcome, held) = measured(|| consume(&sealed(3, 1, &frame).into()));
    outcome.expect_err("no records");
    assert!(held <= CONSTANT, "{held} bytes were held for a frame of {}", frame.len());

    // A block that says it has 2 GiB.
    frame.truncate(7);
    frame.extend_from_slice(&0x7fff_ffff_u32.to_le_bytes());
    within_bounds(sealed(3, 1, &frame)).expect_err("cut off");
}

#[test]
fn a_small_zstd_frame_does_not_take_a_large_window_or_its_claimed_size() {
    const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
    // An empty raw block, the last.
    const END: [u8; 3] = [1, 0, 0];
    let held_for = |parts: &[&[u8]]| {
        let frame = parts.concat();
        let (outcome, held) = measured(|| consume(&sealed(4, 1, &frame).into()));
        outcome.expect_err("no records");
        held
    };
    // A window of 2 GiB; a content of 2⁶² bytes; one of 4 MiB, within the cap.
    assert!(held_for(&[&MAGIC, &[0x00, 0xa8], &END]) <= CONSTANT);
    assert!(held_for(&[&MAGIC, &[0xe0], &(1_u64 << 62).to_le_bytes(), &END]) <= CONSTANT);
    assert!(held_for(&[&MAGIC, &[0xa0], &(4_u32 << 20).to_le_bytes(), &END]) <= CONSTANT);
}

#[test]
fn a_small_gzip_member_does_not_take_its_claimed_size_or_a_long_header() {
    let held_for = |flags: u8, fields: &[u8], size: u32| {
        // A stored block without content, the last; the CRC of nothing.
        let end = [1, 0, 0, 0xff, 0xff, 0, 0, 0, 0];
        let frame = [&[0x1f, 0x8b, 8, flags, 0, 0, 0, 0, 0, 0xff], fields, &end, &size.to_le_bytes()].concat();
        let batch = Bytes::from(sealed(1, 1, &frame));
        let (outcome, held) = measured(|| consume(&batch));
        outcome.expect_err("no records");
        held
    };
    assert!(held_for(0, &[], u32::MAX) <= CONSTANT);
    assert!(held_for(0, &[], 4 << 20) <= CONSTANT);
    // An extra field of 64 KiB that is not there; names that are.
    assert!(held_for(1 << 2, &[0xff, 0xff], 0) <= CONSTANT);
    assert!(held_for(1 << 3 | 1 << 4, &[[b'x'; 100_000].as_slice(), &[0, b'y', 0]].concat(), 0) <= CONSTANT);
}

#[test]
fn a_small_snappy_block_does_not_take_its_claimed_size() {
    let framing = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1];
    // Of 4 GiB less one; of 4 MiB, within the cap.
    for claim in [&[0xff, 0xff, 0xff, 0xff, 0x0f][..], &[0x80, 0x80, 0x80, 0x02]] {
        let framed = [&framing[..], &u32::try_from(claim.len()).expect("short").to_be_bytes(), claim].concat();
        for frame in [claim, &framed] {
            let (outcome, held) = measured(|| consume(&sealed(2, 1, frame).into()));
            outcome.expect_err("no records");
            assert!(held <= CONSTANT, "{held} bytes were held for a frame of {}", frame.len());
        }
    }
    // A block that says it has 4 GiB.
    within_bounds(sealed(2, 1, &[&framing[..], &[0xff; 4]].concat())).expect_err("cut off");
}

fn any_codec() -> impl Strategy<Value = u8> {
    0_u8..=4
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes_give_an_error_or_a_batch(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = within_bounds(bytes);
    }

    #[test]
    fn any_bytes_behind_a_good_header_give_an_error_or_a_batch(
        codec in any_codec(),
        count in 1_i32..,
        body in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let _ = within_bounds(sealed(codec, count, &body));
    }

    #[test]
    fn any_bytes_behind_a_frame_s_magic_give_an_error_or_a_batch(
        codec in 1_u8..=4,
        count in 1_i32..10,
        body in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let magic: &[u8] = match codec {
            1 => &[0x1f, 0x8b, 8],
            2 => &[0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1],
            3 => &[0x04, 0x22, 0x4d, 0x18],
            _ => &[0x28, 0xb5, 0x2f, 0xfd],
        };
        let _ = within_bounds(sealed(codec, count, &[magic, body.as_slice()].concat()));
    }

    #[test]
    fn a_changed_batch_that_is_sealed_again_gives_an_error_or_a_batch(
        compression in prop::sample::select(Compression::ALL.to_vec()),
        runs in prop::collection::vec((any::<u8>(), 1_usize..2000), 1..6),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
    ) {
        let mut builder = BatchBuilder::new(compression);
        for (byte, count) in runs {
            builder.push(&Record::new(Timestamp::new(byte.into()), vec![byte; count].into())).expect("room");
        }
        let mut batch = builder.finish(None).expect("records").to_vec();
        for (at, byte) in changes {
            let at = at.index(batch.len());
            batch[at] = byte;
        }
        seal(&mut batch);
        let _ = within_bounds(batch);
    }
}
