//! Who writes a log, and what became of what was written.

use quipu_protocol::batch::BatchHeader;
use quipu_protocol::{Offset, OffsetRange, ProducerEpoch, ProducerId, Sequence, Timestamp, WriterEpoch, v1};

use crate::wire::{Malformed, Meaning};

/// A log's writer epoch, acquired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcquiredWriter {
    /// The epoch, for [`ProducerConfig::writer_epoch`](crate::ProducerConfig::writer_epoch).
    pub epoch: WriterEpoch,
    /// Where the log ended at that moment: whatever older writers got in lies
    /// below.
    pub end: Offset,
}

/// Who writes a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriterDescription {
    /// The epoch; 0 when nobody ever acquired it.
    pub epoch: WriterEpoch,
    /// Who holds it; empty when nobody does.
    pub holder: String,
    /// When it was acquired, in the log's time, which is its leaders'.
    pub acquired_at: Timestamp,
    /// What the log holds.
    pub range: OffsetRange,
}

/// One append of one producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AppendId {
    /// The producer.
    pub producer: ProducerId,
    /// Its epoch.
    pub epoch: ProducerEpoch,
    /// The sequence of the first record.
    pub sequence: Sequence,
}

/// What became of an append, for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// Its records have these offsets.
    Landed(OffsetRange),
    /// It did not land, and now never will.
    Never,
    /// Not known any more: the producer has expired, or has appended too much
    /// since.
    Forgotten,
}

impl AppendId {
    /// The append whose batch this is, if it has a producer.
    pub(crate) fn of(batch: &[u8]) -> Option<Self> {
        let producer = BatchHeader::parse(batch).ok()?.producer?;
        Some(Self { producer: producer.id, epoch: producer.epoch, sequence: producer.sequence })
    }
}

impl Meaning<v1::DescribeWriterResponse> for WriterDescription {
    fn of(answer: v1::DescribeWriterResponse) -> Result<Self, Malformed> {
        Ok(Self {
            epoch: WriterEpoch::new(answer.epoch),
            holder: answer.holder,
            acquired_at: Timestamp::new(answer.acquired_at),
            range: range(answer.start, answer.end)?,
        })
    }
}

impl Meaning<v1::ResolveResponse> for Resolution {
    fn of(answer: v1::ResolveResponse) -> Result<Self, Malformed> {
        use v1::resolve_response::{Landed, Outcome};
        Ok(match answer.outcome.ok_or(Malformed::NoOutcome)? {
            Outcome::Landed(Landed { start, end }) => Self::Landed(range(start, end)?),
            Outcome::Never(_) => Self::Never,
            Outcome::Forgotten(_) => Self::Forgotten,
        })
    }
}

fn range(start: u64, end: u64) -> Result<OffsetRange, Malformed> {
    if start > end {
        return Err(Malformed::Range { start, end });
    }
    Ok(OffsetRange::new(Offset::new(start), Offset::new(end)))
}
