//! A log's state: a pure function of its committed entries.
//!
//! Of each batch, in this order: is it a repeat, does it follow its
//! producer's last one; only then is the end its base offset. Fences and
//! expected ends will be checked between the two. No other place gives a
//! record its offset.
//!
//! # Invariants
//! - Offsets are contiguous: every accepted batch starts at the end.
//! - Time is the log's own: the largest stamp that a leader put into a
//!   command. No clock is read.

use std::ops::Range;

use bytes::Bytes;
use prost::Message;
use quipu_protocol::batch::BatchHeader;
use quipu_protocol::{Offset, OffsetRange, ProducerId, Timestamp, stored};
use quipu_storage::Kv;
use quipu_storage::journal::{EntryId, ReplicaKey};

use super::offsets::{OffsetRow, RecentRows, saved_from};
use super::producers::Producers;
use super::times::TimeIndex;
use crate::machine::{Dispensable, Floor, Machine, MachineError, Row};
use crate::types::{self, BatchOutcome, Reply};

/// The state of one log.
#[derive(Debug, Default)]
pub struct LogMachine {
    start: Offset,
    end: Offset,
    time: Timestamp,
    producers: Producers,
    /// Bytes of all batches that were given offsets.
    bytes: u64,
    times: TimeIndex,
    rows: RecentRows,
    /// What this replica holds begins here. Not part of the state.
    floor: LogFloor,
}

/// Where a replica's own copy begins.
#[derive(Clone, Copy, Debug, Default)]
struct LogFloor {
    offset: Offset,
    /// Bytes of all batches before it.
    bytes: u64,
}

/// No offset is larger: a batch says its own in 63 bits.
pub(super) const LAST_OFFSET: u64 = i64::MAX.cast_unsigned();

/// More bytes than a log ever takes.
const LAST_BYTE: u64 = 1 << 62;

impl LogMachine {
    /// A log that has never been appended to.
    pub fn new() -> Self {
        Self::default()
    }

    /// The records that can be read here. Begins after the log's start only
    /// while this replica applies what came after its state image.
    pub fn range(&self) -> OffsetRange {
        OffsetRange::new(self.start.max(self.floor.offset), self.end)
    }

    /// Bytes of all batches that were ever given offsets.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Where a record at or after `at` may be, from `from` on: the first run of
    /// rows that may hold one.
    pub(super) fn block_with(&self, from: Offset, at: Timestamp) -> Option<Range<Offset>> {
        self.times.find(from, at, self.end)
    }

    fn trim(&mut self, to: Offset) -> OffsetRange {
        self.start = self.start.max(to.min(self.end));
        self.times.trim(self.start, self.end);
        OffsetRange::new(self.start, self.end)
    }

    /// Log time: never goes back.
    pub fn time(&self) -> Timestamp {
        self.time
    }

    /// How many producers the log remembers.
    pub(crate) fn producers(&self) -> usize {
        self.producers.count()
    }

    pub(super) fn recent_rows(&self) -> &RecentRows {
        &self.rows
    }

    /// The row that holds `offset`, from memory or from Kv.
    pub(super) fn row(&self, offset: Offset, kv: &dyn Kv, key: ReplicaKey) -> Result<OffsetRow, MachineError> {
        let missing = |reason: String| MachineError::new("the row of an offset", reason);
        let row = match self.rows.from(offset, 1) {
            Some(rows) => rows.into_iter().next(),
            None => {
                let until = self.rows.first().unwrap_or(self.end);
                let rows = saved_from(kv, key, offset, until, 1).map_err(|error| missing(error.to_string()))?;
                rows.into_iter().next()
            }
        };
        let row = row.filter(|row| row.base <= offset && offset < row.end());
        row.ok_or_else(|| missing(format!("there is none for offset {offset}")))
    }

    fn append(&mut self, id: EntryId, batches: &[Bytes]) -> Vec<BatchOutcome> {
        let (base, position) = (self.end, self.bytes);
        let mut newest = Timestamp::new(i64::MIN);
        let mut skipped = Vec::new();
        let mut outcomes = Vec::with_capacity(batches.len());
        for (ordinal, batch) in (0..).zip(batches) {
            let header = BatchHeader::parse(batch);
            let outcome = header.as_ref().map_or(BatchOutcome::Malformed, |header| self.append_batch(header));
            if let (BatchOutcome::Appended(range), Ok(header)) = (&outcome, header) {
                assert_eq!(range.start(), self.end, "a batch starts at the end");
                self.end = range.end();
                self.bytes += batch.len() as u64;
                newest = newest.max(header.max_timestamp);
            } else {
                skipped.push(ordinal);
            }
            outcomes.push(outcome);
        }
        if self.end > base {
            let (records, time) = (self.end.since(base), self.time);
            self.times.push(base, newest);
            self.rows.push(OffsetRow { entry: id, base, records, skipped, time, position, newest });
        }
        outcomes
    }

    fn append_batch(&mut self, header: &BatchHeader) -> BatchOutcome {
        // Not in this universe, unless an image said so.
        if self.end.get() > LAST_OFFSET - u64::from(header.count) {
            return BatchOutcome::Malformed;
        }
        match header.producer {
            Some(producer) => self.producers.append(producer, header.count, self.end, self.time),
            None => BatchOutcome::Appended(types::range(self.end, header.count.into())),
        }
    }
}

impl Machine for LogMachine {
    const FLOOR: Floor = Floor::Trimmed;

    fn apply(&mut self, id: EntryId, command: &Bytes) -> Result<Reply, MachineError> {
        use stored::log_command::Command;
        let refuse = |reason: &dyn ToString| MachineError::new("a log's command", reason.to_string());
        let command = stored::LogCommand::decode(command.clone()).map_err(|error| refuse(&error))?;
        self.time = self.time.max(Timestamp::new(command.stamp));
        self.producers.expire(self.time);
        match command.command {
            Some(Command::Append(append)) => Ok(Reply::Append(self.append(id, &append.batches))),
            Some(Command::Trim(trim)) => Ok(Reply::Trim(self.trim(Offset::new(trim.to)))),
            None => Err(refuse(&"it is of a kind unknown to this version")),
        }
    }

    fn image(&self) -> Bytes {
        stored::LogState {
            start: self.start.get(),
            end: self.end.get(),
            time: self.time.get(),
            producers: self.producers.image(),
            forgotten_producer: self.producers.forgotten().get(),
            bytes: self.bytes,
            times: Some(self.times.image()),
        }
        .encode_to_vec()
        .into()
    }

    fn install(&mut self, image: &Bytes) -> Result<(), MachineError> {
        let refuse = |reason: String| MachineError::new("a log's image", reason);
        let state = stored::LogState::decode(image.clone()).map_err(|error| refuse(error.to_string()))?;
        if state.start > state.end {
            return Err(refuse(format!("start {} is past end {}", state.start, state.end)));
        }
        if state.end > LAST_OFFSET {
            return Err(refuse(format!("end {} is past the last offset there can be", state.end)));
        }
        if state.bytes > LAST_BYTE {
            return Err(refuse(format!("{} bytes are more than there can be", state.bytes)));
        }
        *self = Self {
            start: Offset::new(state.start),
            end: Offset::new(state.end),
            time: Timestamp::new(state.time),
            producers: Producers::from_image(&state.producers, ProducerId::new(state.forgotten_producer))?,
            bytes: state.bytes,
            times: TimeIndex::from_image(state.times, Offset::new(state.end))?,
            rows: RecentRows::default(),
            floor: LogFloor::default(),
        };
        Ok(())
    }

    fn rows(&self) -> Vec<Row> {
        self.rows.unsaved()
    }

    fn saved(&mut self, applied: EntryId) {
        self.rows.saved(applied.index);
    }

    fn trimmed(&self) -> u64 {
        self.start.get()
    }

    fn dispensable(&self, kv: &dyn Kv, key: ReplicaKey) -> Result<Option<Dispensable>, MachineError> {
        if self.start <= self.floor.offset {
            return Ok(None);
        }
        if self.start == self.end {
            return Ok(Some(Dispensable { needed: None, bytes: self.bytes - self.floor.bytes }));
        }
        let row = self.row(self.start, kv, key)?;
        let bytes = row.position.saturating_sub(self.floor.bytes);
        Ok(Some(Dispensable { needed: Some(row.entry.index), bytes }))
    }

    fn rise(&mut self, image: &Bytes) -> Result<Option<Range<[u8; 8]>>, MachineError> {
        let state = stored::LogState::decode(image.clone())
            .map_err(|error| MachineError::new("a log's image", error.to_string()))?;
        let risen = LogFloor { offset: Offset::new(state.end), bytes: state.bytes };
        // A snapshot may have been taken over meanwhile, and is higher.
        if risen.offset < self.floor.offset {
            return Ok(None);
        }
        self.floor = risen;
        Ok(Some(0_u64.to_be_bytes()..state.end.to_be_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use quipu_protocol::batch::{BatchBuilder, Compression, Producer, Record};
    use quipu_protocol::{Index, ProducerEpoch, Sequence, Term};

    use super::*;

    const NOW: i64 = 1_700_000_000_000;

    fn batch(records: usize, producer: Option<Producer>) -> Bytes {
        let mut builder = BatchBuilder::new(Compression::None);
        for n in 0..records {
            let value = Bytes::from(format!("record {n}"));
            builder.push(&Record::new(Timestamp::new(NOW), value)).unwrap();
        }
        builder.finish(producer).unwrap()
    }

    fn producer(sequence: i32) -> Option<Producer> {
        let id = ProducerId::new(NOW << 20);
        Some(Producer { id, epoch: ProducerEpoch::new(0), sequence: Sequence::new(sequence) })
    }

    fn command(stamp: i64, batches: Vec<Bytes>) -> Bytes {
        let append = stored::AppendBatches { batches };
        let command = Some(stored::log_command::Command::Append(append));
        stored::LogCommand { stamp, command, ..stored::LogCommand::default() }.encode_to_vec().into()
    }

    fn id(index: u64) -> EntryId {
        EntryId { term: Term::new(1), index: Index::new(index) }
    }

    fn apply(machine: &mut LogMachine, index: u64, stamp: i64, batches: Vec<Bytes>) -> Vec<BatchOutcome> {
        match machine.apply(id(index), &command(stamp, batches)).unwrap() {
            Reply::Append(outcomes) => outcomes,
            reply => panic!("an append is answered by {reply:?}"),
        }
    }

    fn range(start: u64, end: u64) -> OffsetRange {
        OffsetRange::new(Offset::new(start), Offset::new(end))
    }

    #[test]
    fn batches_of_an_entry_get_offsets_one_after_the_other() {
        let mut machine = LogMachine::new();
        let outcomes = apply(&mut machine, 1, NOW, vec![batch(3, None), batch(2, None)]);
        assert_eq!(outcomes, [BatchOutcome::Appended(range(0, 3)), BatchOutcome::Appended(range(3, 5))]);
        assert_eq!(machine.range(), range(0, 5));
    }

    #[test]
    fn refused_and_repeated_batches_take_no_offset_and_are_skipped_by_readers() {
        let mut machine = LogMachine::new();
        apply(&mut machine, 1, NOW, vec![batch(3, producer(0))]);
        let batches = vec![batch(1, producer(7)), batch(2, None), batch(3, producer(0)), batch(1, producer(3))];
        let outcomes = apply(&mut machine, 4, NOW, batches);
        assert_eq!(
            outcomes,
            [
                BatchOutcome::OutOfSequence { expected: Sequence::new(3) },
                BatchOutcome::Appended(range(3, 5)),
                BatchOutcome::Duplicate(range(0, 3)),
                BatchOutcome::Appended(range(5, 6)),
            ]
        );
        let rows = machine.recent_rows().from(Offset::new(3), 9).unwrap();
        assert_eq!(
            rows,
            [OffsetRow {
                entry: id(4),
                base: Offset::new(3),
                records: 3,
                skipped: vec![0, 2],
                time: Timestamp::new(NOW),
                position: batch(3, producer(0)).len() as u64,
                newest: Timestamp::new(NOW),
            }]
        );
    }

    #[test]
    fn entry_without_an_accepted_batch_leaves_no_row() {
        let mut machine = LogMachine::new();
        apply(&mut machine, 1, NOW, vec![batch(1, producer(5))]);
        assert_eq!(machine.recent_rows().first(), None);
        assert!(machine.range().is_empty());
    }

    #[test]
    fn malformed_batch_is_refused_and_changes_nothing() {
        let mut machine = LogMachine::new();
        let outcomes = apply(&mut machine, 1, NOW, vec![Bytes::from_static(b"not a batch")]);
        assert_eq!(outcomes, [BatchOutcome::Malformed]);
        assert!(machine.range().is_empty());
    }

    fn trim(machine: &mut LogMachine, index: u64, to: u64) -> OffsetRange {
        let command = Some(stored::log_command::Command::Trim(stored::Trim { to }));
        let command = stored::LogCommand { stamp: NOW, command, ..stored::LogCommand::default() }.encode_to_vec();
        match machine.apply(id(index), &command.into()).unwrap() {
            Reply::Trim(range) => range,
            reply => panic!("a trim is answered by {reply:?}"),
        }
    }

    #[test]
    fn trim_moves_the_start_forward_up_to_the_end_and_never_back() {
        let mut machine = LogMachine::new();
        apply(&mut machine, 1, NOW, vec![batch(5, None)]);
        assert_eq!(trim(&mut machine, 2, 3), range(3, 5));
        assert_eq!(trim(&mut machine, 3, 1), range(3, 5));
        assert_eq!(trim(&mut machine, 4, u64::MAX), range(5, 5));
        assert_eq!(apply(&mut machine, 5, NOW, vec![batch(1, None)]), [BatchOutcome::Appended(range(5, 6))]);
        assert_eq!(machine.range(), range(5, 6));
    }

    #[test]
    fn floor_is_below_the_entry_that_holds_the_start() {
        let kv = quipu_storage::MemoryKv::new();
        let key = ReplicaKey { group: quipu_protocol::LogId::new(1), replica: quipu_protocol::ReplicaId::new(1) };
        let mut machine = LogMachine::new();
        for index in 1..=4 {
            apply(&mut machine, index, NOW, vec![batch(2, None)]);
        }
        let bytes = batch(2, None).len() as u64;
        assert_eq!(machine.dispensable(&kv, key).unwrap(), None);
        trim(&mut machine, 5, 5);
        let expected = Dispensable { needed: Some(Index::new(3)), bytes: 2 * bytes };
        assert_eq!(machine.dispensable(&kv, key).unwrap(), Some(expected));
        trim(&mut machine, 6, 8);
        assert_eq!(machine.dispensable(&kv, key).unwrap(), Some(Dispensable { needed: None, bytes: 4 * bytes }));
    }

    #[test]
    fn nothing_below_the_floor_can_be_read_whatever_the_start() {
        let mut machine = LogMachine::new();
        apply(&mut machine, 1, NOW, vec![batch(4, None)]);
        let image = machine.image();
        let mut installed = LogMachine::new();
        installed.install(&image).unwrap();
        installed.rise(&image).unwrap();
        assert_eq!(installed.range(), range(4, 4));
        assert_eq!(installed.image(), image, "the floor is no part of the state");
    }

    #[test]
    fn log_time_never_goes_back() {
        let mut machine = LogMachine::new();
        apply(&mut machine, 1, NOW, vec![batch(1, None)]);
        apply(&mut machine, 2, NOW - 60_000, vec![batch(1, None)]);
        assert_eq!(machine.time(), Timestamp::new(NOW));
        apply(&mut machine, 3, NOW + 1, vec![batch(1, None)]);
        assert_eq!(machine.time(), Timestamp::new(NOW + 1));
    }

    #[test]
    fn unknown_command_stops_the_replica() {
        let mut machine = LogMachine::new();
        let unknown = stored::LogCommand { stamp: NOW, ..stored::LogCommand::default() }.encode_to_vec();
        machine.apply(id(1), &unknown.into()).unwrap_err();
        machine.apply(id(1), &Bytes::from_static(&[0xff; 4])).unwrap_err();
    }

    #[test]
    fn image_restores_the_same_state() {
        let mut machine = LogMachine::new();
        apply(&mut machine, 1, NOW, vec![batch(3, producer(0)), batch(1, None)]);
        let mut restored = LogMachine::new();
        restored.install(&machine.image()).unwrap();
        assert_eq!(restored.image(), machine.image());
        assert_eq!(restored.range(), range(0, 4));
        let outcomes = apply(&mut restored, 2, NOW, vec![batch(3, producer(0))]);
        assert_eq!(outcomes, [BatchOutcome::Duplicate(range(0, 3))]);
    }

    #[test]
    fn image_at_the_end_of_all_offsets_takes_no_append() {
        let install = |end| {
            let mut machine = LogMachine::new();
            let state = stored::LogState { end, ..Default::default() }.encode_to_vec();
            machine.install(&state.into()).map(|()| machine)
        };
        install(LAST_OFFSET + 1).unwrap_err();
        install(u64::MAX).unwrap_err();
        let mut machine = install(LAST_OFFSET - 2).unwrap();
        let outcomes = apply(&mut machine, 1, NOW, vec![batch(3, None), batch(2, None), batch(1, None)]);
        let appended = BatchOutcome::Appended(range(LAST_OFFSET - 2, LAST_OFFSET));
        assert_eq!(outcomes, [BatchOutcome::Malformed, appended, BatchOutcome::Malformed]);
        install(machine.range().end().get()).unwrap();
    }

    #[test]
    fn image_that_remembers_an_append_past_all_offsets_is_refused() {
        let append = stored::Remembered { first_sequence: 0, last_sequence: 9, base_offset: u64::MAX - 3 };
        let producer = stored::Producer { id: 1, epoch: 0, last_append: NOW, appends: vec![append] };
        let image = stored::LogState { producers: vec![producer], ..Default::default() }.encode_to_vec();
        LogMachine::new().install(&image.into()).unwrap_err();
    }

    #[test]
    fn image_that_contradicts_itself_is_refused() {
        let image = stored::LogState { start: 5, end: 4, ..Default::default() }.encode_to_vec();
        LogMachine::new().install(&image.into()).unwrap_err();
    }
}
