//! From batches to the records that are next.
//!
//! ```text
//!   answer   [40 … 49] [50 … 59] [60 … 69]
//!   position      ▲44                ▲ bound (20 records)
//!   yielded        44 …………………………… 63
//! ```
//!
//! The first batch of a stream may begin before the position and the last one
//! may go beyond the bound; both are trimmed. Anything else that is not
//! exactly next is refused. Does no I/O.

use std::collections::VecDeque;

use bytes::Bytes;
use quipu_protocol::Offset;
use quipu_protocol::batch::{self, BatchError, BatchLimits, Records};

use super::ReadRecord;
use crate::ProducerConfig;

/// What a batch may hold once decompressed: a batch of the largest size that
/// is compressed sixteen times over.
const MAX_DECOMPRESSED_BYTES: usize = 16 * ProducerConfig::MAX_BATCH_BYTES;

const LIMITS: BatchLimits = BatchLimits {
    max_batch_bytes: ProducerConfig::MAX_BATCH_BYTES,
    max_decompressed_bytes: MAX_DECOMPRESSED_BYTES,
    // They are walked through right after.
    check_records: false,
};

/// Records on their way to the reader's caller.
pub(super) struct Intake {
    position: Offset,
    remaining: Option<u64>,
    batches: VecDeque<Bytes>,
    records: Option<Current>,
    /// Whether a batch of the present stream has been begun.
    begun: bool,
}

struct Current {
    records: Records,
    end: Offset,
}

/// Why what arrived cannot be yielded.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    Corrupt(BatchError),
    NotContiguous { found: Offset },
}

impl Intake {
    pub(super) fn new(position: Offset, max_records: Option<u64>) -> Self {
        Self { position, remaining: max_records, batches: VecDeque::new(), records: None, begun: false }
    }

    /// The offset that is yielded next.
    pub(super) fn position(&self) -> Offset {
        self.position
    }

    /// How many records are still wanted, if there is a bound.
    pub(super) fn remaining(&self) -> Option<u64> {
        self.remaining
    }

    /// Whether all that is wanted was yielded.
    pub(super) fn is_full(&self) -> bool {
        self.remaining == Some(0)
    }

    /// A stream begins at the position.
    pub(super) fn begin_stream(&mut self) {
        self.batches.clear();
        self.records = None;
        self.begun = false;
    }

    pub(super) fn add(&mut self, batches: impl IntoIterator<Item = Bytes>) {
        self.batches.extend(batches);
    }

    /// The next record, if it has arrived.
    pub(super) fn next(&mut self) -> Result<Option<ReadRecord>, Unfit> {
        if self.is_full() {
            return Ok(None);
        }
        loop {
            while let Some(current) = &mut self.records {
                match current.records.next() {
                    Some(Ok((offset, _))) if offset < self.position => {}
                    Some(Ok((offset, record))) => {
                        if offset != self.position {
                            return Err(Unfit::NotContiguous { found: offset });
                        }
                        self.position = offset.next();
                        self.remaining = self.remaining.map(|remaining| remaining - 1);
                        return Ok(Some(ReadRecord::new(offset, record)));
                    }
                    Some(Err(error)) => return Err(Unfit::Corrupt(error)),
                    None if self.position < current.end => {
                        return Err(Unfit::NotContiguous { found: current.end });
                    }
                    None => self.records = None,
                }
            }
            let Some(batch) = self.batches.pop_front() else { return Ok(None) };
            self.records = Some(self.begin(&batch)?);
        }
    }

    /// Checks that `batch` is sound and next.
    fn begin(&mut self, batch: &Bytes) -> Result<Current, Unfit> {
        let header = batch::validate(batch, &LIMITS).map_err(Unfit::Corrupt)?;
        let base = header.base_offset;
        let end = base.advance(u64::from(header.count));
        let next = if self.begun { base == self.position } else { base <= self.position && self.position < end };
        if !next {
            return Err(Unfit::NotContiguous { found: base });
        }
        self.begun = true;
        let records = batch::records(batch, MAX_DECOMPRESSED_BYTES).map_err(Unfit::Corrupt)?;
        Ok(Current { records, end })
    }
}

#[cfg(test)]
mod tests {
    use quipu_protocol::Timestamp;
    use quipu_protocol::batch::{BatchBuilder, Compression, Record, with_position};

    use super::{Bytes, Intake, Offset, Unfit};

    fn batch(base: u64, count: u64) -> Bytes {
        let mut builder = BatchBuilder::new(Compression::Lz4);
        for offset in base..base + count {
            let value = Bytes::from(format!("value {offset}"));
            builder.push(&Record::new(Timestamp::new(0), value)).expect("fits");
        }
        with_position(&builder.finish(None).expect("not empty"), Offset::new(base), 1)
    }

    fn drain(intake: &mut Intake) -> Result<Vec<u64>, Unfit> {
        let mut offsets = Vec::new();
        while let Some(record) = intake.next()? {
            assert_eq!(record.value, Some(Bytes::from(format!("value {}", record.offset))));
            offsets.push(record.offset.get());
        }
        Ok(offsets)
    }

    #[test]
    fn heads_and_tails_are_trimmed() {
        let mut intake = Intake::new(Offset::new(44), Some(20));
        intake.begin_stream();
        intake.add(vec![batch(40, 10), batch(50, 10)]);
        intake.add(vec![batch(60, 10)]);
        assert_eq!(drain(&mut intake), Ok((44..64).collect()));
        assert!(intake.is_full());
    }

    #[test]
    fn a_new_stream_goes_on_within_a_batch() {
        let mut intake = Intake::new(Offset::new(0), None);
        intake.begin_stream();
        intake.add(vec![batch(0, 10)]);
        for _ in 0..4 {
            intake.next().expect("sound").expect("a record");
        }
        intake.begin_stream();
        intake.add(vec![batch(0, 10), batch(10, 1)]);
        assert_eq!(drain(&mut intake), Ok((4..11).collect()));
    }

    #[test]
    fn gaps_and_repeats_are_refused() {
        let refused = |batches: Vec<Bytes>, found| {
            let mut intake = Intake::new(Offset::new(5), None);
            intake.begin_stream();
            intake.add(batches);
            assert_eq!(drain(&mut intake), Err(Unfit::NotContiguous { found: Offset::new(found) }));
        };
        refused(vec![batch(6, 1)], 6);
        refused(vec![batch(0, 5)], 0);
        refused(vec![batch(0, 10), batch(11, 1)], 11);
        refused(vec![batch(0, 10), batch(9, 2)], 9);
        refused(vec![batch(5, 1), batch(5, 1)], 5);
    }

    #[test]
    fn a_flipped_bit_is_refused() {
        let mut bytes = batch(0, 3).to_vec();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        let mut intake = Intake::new(Offset::new(0), None);
        intake.begin_stream();
        intake.add(vec![bytes.into()]);
        assert!(matches!(drain(&mut intake), Err(Unfit::Corrupt(_))));
    }
}
