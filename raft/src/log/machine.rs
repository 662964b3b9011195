//! A log's state: a pure function of its committed entries.
//!
//! Of each batch, in this order: is its producer forgotten or its epoch over, is it
//! a repeat, is its writer fenced, does the log end where it expects, does it follow
//! its producer's last one; only then is the end its base offset. A repeat gets its first answer
//! whoever writes now, and a refusal for a fence or an end is never that of a
//! repeat. The cursors that a batch carries commits of are asked after its fence and
//! its end, and committed if it lands. No other place gives a record its offset.
//!
//! # Invariants
//! - Offsets are contiguous: every accepted batch starts at the end.
//! - Time is the log's own: the largest stamp that a leader put into a
//!   command. No clock is read.

use std::ops::Range;

use bytes::Bytes;
use prost::Message;
use quipu_protocol::batch::{BatchHeader, Producer};
use quipu_protocol::stored::waiting_command::Command as Waiting;
use quipu_protocol::{Offset, OffsetRange, ProducerEpoch, ProducerId, Sequence, Timestamp, WriterEpoch, stored};
use quipu_storage::Kv;
use quipu_storage::journal::{EntryId, ReplicaKey};

use super::cursors::Cursors;
use super::leases::{Lease, LeaseTotals, Leases};
use super::offsets::{OffsetRow, RecentRows, saved_from};
use super::producers::Producers;
use super::times::TimeIndex;
use super::writer::{Writer, WriterStatus};
use crate::machine::{Dispensable, Floor, Machine, MachineError, Row};
use crate::types::{self, BatchOutcome, CommandOutcome, Reply, Trimmed};

/// The state of one log.
#[derive(Debug, Default)]
pub struct LogMachine {
    start: Offset,
    end: Offset,
    time: Timestamp,
    producers: Producers,
    writer: Writer,
    cursors: Cursors,
    leases: Leases,
    /// Whether nothing is taken without a writer epoch. As the log was created,
    /// and so the same on every replica.
    exclusive: bool,
    /// Bytes of all batches that were given offsets.
    bytes: u64,
    times: TimeIndex,
    rows: RecentRows,
    /// What this replica holds begins here. Not part of the state.
    floor: LogFloor,
    /// Bytes of the commands that were applied since the state was installed or the
    /// floor rose. Not part of the state.
    above_floor: u64,
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
pub(super) const LAST_BYTE: u64 = 1 << 62;

/// An entry of more batches than this takes longer to decode.
const BATCHES_AT_HAND: usize = 64;

/// A log without records is looked at for entries to let go of whenever commands of
/// so many bytes came.
const EMPTY_STEP_BYTES: u64 = 64 << 10;

impl LogMachine {
    /// A log that has never been appended to.
    pub fn new() -> Self {
        Self::default()
    }

    /// One whose writers all need an epoch, if it is `exclusive`.
    pub fn written_by(exclusive: bool) -> Self {
        Self { exclusive, ..Self::default() }
    }

    /// Who writes it.
    pub fn writer(&self) -> WriterStatus {
        self.writer.status()
    }

    /// Its cursors.
    pub(crate) fn cursors(&self) -> &Cursors {
        &self.cursors
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

    fn trim(&mut self, trim: &stored::Trim) -> Reply {
        let mut to = Offset::new(trim.to).min(self.end);
        let past_before = if trim.leases() == stored::StrandedLeases::Hold { trim.past_before } else { 0 };
        let held_up = self.leases.stranded_by(to, Offset::new(past_before));
        match trim.leases() {
            stored::StrandedLeases::Refuse if !held_up.is_empty() => return Reply::Strands(held_up),
            stored::StrandedLeases::Hold => to = held_up.iter().map(|lease| lease.offset).fold(to, Offset::min),
            stored::StrandedLeases::Refuse | stored::StrandedLeases::Drop => {}
        }
        self.start = self.start.max(to);
        self.times.trim(self.start, self.end);
        let stranded = self.leases.strand(self.start);
        Reply::Trim(Trimmed { range: self.held(), stranded })
    }

    /// From the log's start to its end, whatever this replica has of it.
    fn held(&self) -> OffsetRange {
        OffsetRange::new(self.start, self.end)
    }

    /// The leases that are held as of log time.
    pub fn leases(&self) -> Vec<Lease> {
        self.leases.all().collect()
    }

    /// How much there is of its leases.
    pub(super) fn lease_totals(&self) -> LeaseTotals {
        self.leases.totals()
    }

    /// What `holder` has.
    pub(super) fn lease_of(&self, holder: &str) -> Option<Lease> {
        self.leases.of(holder)
    }

    /// The number of the last grant of a lease; 0 before any.
    pub(super) fn lease_grants(&self) -> u64 {
        self.leases.granted()
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

    /// Lets go of cursors whose time is over, but for those that the entry names:
    /// what comes late renews a cursor and its fence, and does not begin another one.
    fn expire_cursors(&mut self, entry: &stored::AppendBatches) {
        let carried = entry.terms.iter().flat_map(|terms| &terms.cursors).map(|one| one.cursor.as_str());
        let commanded = entry.commands.iter().filter_map(|one| match &one.command {
            Some(Waiting::Cursor(command)) => Some(command.cursor.as_str()),
            Some(Waiting::Lease(_)) | None => None,
        });
        let named = commanded.chain(carried).collect();
        self.cursors.expire(self.time, entry.cursor_expiry_ms, &named);
    }

    /// Carries out what an entry holds beside its batches.
    fn run_commands(&mut self, commands: Vec<stored::WaitingCommand>) -> Result<Vec<CommandOutcome>, MachineError> {
        let run = |stored::WaitingCommand { command }| match command {
            Some(Waiting::Cursor(command)) => {
                self.cursors.count(command.encoded_len());
                let stored::CursorCommand { cursor, action } = command;
                let action = action.ok_or_else(|| unknown("a command to a cursor"))?;
                Ok(CommandOutcome::Cursor(self.cursors.run(cursor, action, self.end, self.time)))
            }
            Some(Waiting::Lease(lease)) => {
                self.leases.count(lease.encoded_len());
                let held = self.leases.hold(lease, self.time, self.held());
                Ok(CommandOutcome::Lease(held))
            }
            None => Err(unknown("a command that went along with others")),
        };
        commands.into_iter().map(run).collect()
    }

    fn append(
        &mut self,
        id: EntryId,
        batches: &[Bytes],
        terms: Vec<stored::Terms>,
    ) -> Result<Vec<BatchOutcome>, MachineError> {
        let carried = terms.iter().flat_map(|terms| &terms.cursors);
        if carried.clone().any(|one| one.commit.is_none()) {
            return Err(unknown("a commit that an append carries"));
        }
        let mut terms = terms.into_iter().peekable();
        let (base, position) = (self.end, self.bytes);
        let mut newest = Timestamp::new(i64::MIN);
        let mut skipped = Vec::new();
        let mut outcomes = Vec::with_capacity(batches.len());
        for (ordinal, batch) in (0..).zip(batches) {
            let header = BatchHeader::parse(batch);
            let terms = terms.next_if(|terms| terms.ordinal == ordinal).unwrap_or_default();
            let outcome = header.as_ref().map_or(BatchOutcome::Malformed, |header| self.append_batch(header, terms));
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
        match terms.next() {
            // What nobody looked at was not kept to.
            Some(terms) => Err(MachineError::new("a log's command", format!("terms of no batch: {}", terms.ordinal))),
            None => Ok(outcomes),
        }
    }

    fn append_batch(&mut self, header: &BatchHeader, terms: stored::Terms) -> BatchOutcome {
        // Without any, a repeat is found with the sequence.
        let has_terms =
            self.exclusive || terms.writer_epoch.is_some() || terms.expected_end.is_some() || !terms.cursors.is_empty();
        if let Some(answer) = has_terms.then(|| self.answer_by_terms(header, &terms)).flatten() {
            return answer;
        }
        // Not in this universe, unless an image said so.
        if self.end.get() > LAST_OFFSET - u64::from(header.count) {
            return BatchOutcome::Malformed;
        }
        let outcome = match header.producer {
            Some(producer) => self.producers.append(producer, header.count, self.end, self.time),
            None => BatchOutcome::Appended(types::range(self.end, header.count.into())),
        };
        if matches!(outcome, BatchOutcome::Appended(_)) {
            self.cursors.commit_carried(terms.cursors, self.time);
        }
        outcome
    }

    /// What a batch is answered before its sequence is looked at. Of a producer
    /// that is forgotten, or whose epoch is over, nobody can tell any more whether
    /// it repeats one that had landed: a fence or an end would be no answer.
    fn answer_by_terms(&self, header: &BatchHeader, terms: &stored::Terms) -> Option<BatchOutcome> {
        if let Some(producer) = header.producer {
            if let Some(unclear) = self.producers.cannot_tell(producer, self.time) {
                return Some(unclear);
            }
            if let Some(range) = self.producers.recall(producer, header.count) {
                return Some(BatchOutcome::Duplicate(range));
            }
        }
        let claimed = terms.writer_epoch.map(WriterEpoch::new);
        let is_elsewhere = terms.expected_end.is_some_and(|expected| expected != self.end.get());
        self.writer
            .refuses(claimed, self.exclusive)
            .or(is_elsewhere.then_some(BatchOutcome::OffsetMismatch { end: self.end }))
            .or_else(|| {
                let refused = self.cursors.refuses_carried(&terms.cursors, self.end.advance(header.count.into()));
                refused.map(|(cursor, refusal)| BatchOutcome::CursorRefused { cursor, refusal })
            })
    }
}

/// A command; every replica does this for every entry, and once more when its floor
/// rises. Nearly all of them append many batches: their list has room before it is
/// read, so that it is not copied each time that it grows.
fn decode(command: Bytes) -> Result<stored::LogCommand, prost::DecodeError> {
    use stored::log_command::Command;
    let room = stored::AppendBatches { batches: Vec::with_capacity(BATCHES_AT_HAND), ..Default::default() };
    let mut decoded = stored::LogCommand { command: Some(Command::Append(room)), ..Default::default() };
    decoded.merge(command.clone())?;
    match &decoded.command {
        // It may be one that this version does not know.
        Some(Command::Append(append)) if append.batches.is_empty() => stored::LogCommand::decode(command),
        _ => Ok(decoded),
    }
}

/// Something that this version does not know.
fn unknown(what: &'static str) -> MachineError {
    MachineError::new(what, "it is of a kind unknown to this version")
}

impl Machine for LogMachine {
    const FLOOR: Floor = Floor::Trimmed;

    fn blank(&self) -> Self {
        Self::written_by(self.exclusive)
    }

    fn apply(&mut self, id: EntryId, command: &Bytes) -> Result<Reply, MachineError> {
        use stored::log_command::Command;
        let refuse = |reason: &dyn ToString| MachineError::new("a log's command", reason.to_string());
        self.above_floor += command.len() as u64;
        let command = decode(command.clone()).map_err(|error| refuse(&error))?;
        self.time = self.time.max(Timestamp::new(command.stamp));
        self.producers.expire(self.time);
        self.leases.expire(self.time);
        match command.command {
            Some(Command::Append(append)) => {
                self.expire_cursors(&append);
                // Before the batches: they waited longer.
                let commands = self.run_commands(append.commands)?;
                let outcomes = self.append(id, &append.batches, append.terms)?;
                Ok(if commands.is_empty() {
                    Reply::Append(outcomes)
                } else {
                    Reply::AppendAndCommands(outcomes, commands)
                })
            }
            Some(Command::Trim(trim)) => Ok(self.trim(&trim)),
            Some(Command::ReleaseLease(release)) => {
                self.leases.count(release.encoded_len());
                let stored::ReleaseLease { holder, grant } = release;
                Ok(Reply::Released(self.leases.release(&holder, grant)))
            }
            Some(Command::AcquireWriter(stored::AcquireWriter { holder, request_id })) => {
                Ok(Reply::Acquired(self.writer.acquire(request_id, holder, self.end, self.time)))
            }
            Some(Command::Resolve(append)) => {
                let epoch = i16::try_from(append.producer_epoch).map_err(|error| refuse(&error))?;
                if append.producer_id <= 0 || append.sequence < 0 || epoch < 0 {
                    return Err(refuse(&"no producer has such an append"));
                }
                let (id, sequence) = (ProducerId::new(append.producer_id), Sequence::new(append.sequence));
                let producer = Producer { id, epoch: ProducerEpoch::new(epoch), sequence };
                Ok(Reply::Resolved(self.producers.resolve(producer, self.time)))
            }
            None => Err(refuse(&"it is of a kind unknown to this version")),
        }
    }

    fn image(&self) -> Bytes {
        let mut image = stored::LogState {
            start: self.start.get(),
            end: self.end.get(),
            time: self.time.get(),
            producers: self.producers.image(),
            writer: self.writer.image(),
            forgotten_producer: self.producers.forgotten().get(),
            bytes: self.bytes,
            times: Some(self.times.image()),
            cursors: self.cursors.image(),
            cursor_bytes: self.cursors.totals().entry_bytes,
            ..stored::LogState::default()
        };
        self.leases.image(&mut image);
        image.encode_to_vec().into()
    }

    fn install(&mut self, image: &Bytes) -> Result<(), MachineError> {
        let refuse = |reason: String| MachineError::new("a log's image", reason);
        let mut state = stored::LogState::decode(image.clone()).map_err(|error| refuse(error.to_string()))?;
        if state.start > state.end {
            return Err(refuse(format!("start {} is past end {}", state.start, state.end)));
        }
        if state.end > LAST_OFFSET {
            return Err(refuse(format!("end {} is past the last offset there can be", state.end)));
        }
        if state.bytes > LAST_BYTE {
            return Err(refuse(format!("{} bytes are more than there can be", state.bytes)));
        }
        let leases = Leases::from_image(&mut state)?;
        *self = Self {
            start: Offset::new(state.start),
            end: Offset::new(state.end),
            time: Timestamp::new(state.time),
            producers: Producers::from_image(&state.producers, ProducerId::new(state.forgotten_producer))?,
            writer: Writer::from_image(state.writer, Offset::new(state.end))?,
            cursors: Cursors::from_image(state.cursors, state.cursor_bytes)?,
            leases,
            exclusive: self.exclusive,
            bytes: state.bytes,
            times: TimeIndex::from_image(state.times, Offset::new(state.end))?,
            rows: RecentRows::default(),
            floor: LogFloor::default(),
            above_floor: 0,
        };
        Ok(())
    }

    fn rows(&self) -> Vec<Row> {
        self.rows.unsaved()
    }

    fn saved(&mut self, applied: EntryId) {
        self.rows.saved(applied.index);
    }

    fn reach(&self) -> u64 {
        self.end.get()
    }

    fn trimmed(&self) -> (u64, u64) {
        let is_empty = self.start == self.end;
        (self.start.get(), if is_empty { self.above_floor / EMPTY_STEP_BYTES } else { 0 })
    }

    fn dispensable(&self, kv: &dyn Kv, key: ReplicaKey) -> Result<Option<Dispensable>, MachineError> {
        if self.start == self.end {
            // No entry holds a record: what cursors, leases and writers did is all in
            // the image. A start has not counted what came before it.
            let bytes = self.above_floor.max(self.bytes.saturating_sub(self.floor.bytes));
            return Ok((bytes > 0).then_some(Dispensable { needed: None, bytes }));
        }
        if self.start <= self.floor.offset {
            return Ok(None);
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
        self.above_floor = 0;
        Ok(Some(0_u64.to_be_bytes()..state.end.to_be_bytes()))
    }
}

#[cfg(test)]
mod cursor_tests;
#[cfg(test)]
mod tests;
