//! Which entry gave which records their offsets.
//!
//! ```text
//!   index    5          6       7          8 …
//!            append     blank   append     append
//!   offsets  0 … 9              10 … 12    13 …
//!            └ row              └ row      └ row
//! ```
//!
//! Rows come in order as entries are applied. All of them reach Kv; the
//! recent ones stay here, so that readers of the tail ask nobody.

use std::collections::VecDeque;

use bytes::Bytes;
use prost::Message;
use quipu_protocol::{Index, Offset, Term, Timestamp, stored};
use quipu_storage::journal::{EntryId, ReplicaKey};
use quipu_storage::{Kv, KvError, Space};

use crate::machine::{MachineError, Row, row_key};

/// How many rows that are in Kv stay in memory all the same.
const RECENT_ROWS: usize = 1024;

/// One entry that gave records their offsets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OffsetRow {
    /// The entry.
    pub(crate) entry: EntryId,
    /// The first offset it gave.
    pub(crate) base: Offset,
    /// How many it gave; at least one.
    pub(crate) records: u64,
    /// Ordinals of its batches that got none, ascending.
    pub(crate) skipped: Vec<u32>,
    /// Log time when it was applied.
    pub(crate) time: Timestamp,
    /// Bytes of all batches that were given offsets before.
    pub(crate) position: u64,
    /// The newest timestamp of the records, as their batches say.
    pub(crate) newest: Timestamp,
}

impl OffsetRow {
    /// The first offset after those it gave.
    pub(crate) fn end(&self) -> Offset {
        self.base.advance(self.records)
    }

    fn row(&self) -> Row {
        let value = stored::OffsetRow {
            index: self.entry.index.get(),
            term: self.entry.term.get(),
            records: self.records,
            skipped: self.skipped.clone(),
            time: self.time.get(),
            position: self.position,
            newest: self.newest.get(),
        };
        Row { space: Space::Offsets, key: self.base.get().to_be_bytes(), value: value.encode_to_vec().into() }
    }

    fn decode(key: &[u8], value: Bytes) -> Result<Self, MachineError> {
        let refuse = |reason: String| MachineError::new("an offset row", reason);
        let base = key.get(16..).and_then(|base| base.try_into().ok()).ok_or_else(|| refuse("bad key".to_owned()))?;
        let base = Offset::new(u64::from_be_bytes(base));
        let row = stored::OffsetRow::decode(value).map_err(|error| refuse(error.to_string()))?;
        if row.records == 0 || base.get().checked_add(row.records).is_none() {
            return Err(refuse(format!("{} records", row.records)));
        }
        let entry = EntryId { term: Term::new(row.term), index: Index::new(row.index) };
        let (time, newest) = (Timestamp::new(row.time), Timestamp::new(row.newest));
        Ok(Self { entry, base, records: row.records, skipped: row.skipped, time, position: row.position, newest })
    }
}

/// Whether `value` is the row of `key`.
pub(crate) fn read_offset_row(key: &[u8], value: Bytes) -> bool {
    OffsetRow::decode(key, value).is_ok_and(|row| row.end() > row.base)
}

/// The rows of one log that are in memory.
#[derive(Debug, Default)]
pub(crate) struct RecentRows {
    /// In order of offsets, without a gap.
    rows: VecDeque<OffsetRow>,
    /// How many of them, at the front, are in Kv.
    saved: usize,
}

impl RecentRows {
    /// Adds the row after the last one.
    pub(crate) fn push(&mut self, row: OffsetRow) {
        assert!(row.records > 0, "a row without records at {}", row.base);
        if let Some(last) = self.rows.back() {
            assert_eq!(last.end(), row.base, "rows follow one another without a gap");
            assert!(last.entry.index < row.entry.index, "rows follow their entries");
        }
        self.rows.push_back(row);
    }

    /// The rows that are not in Kv yet.
    pub(crate) fn unsaved(&self) -> Vec<Row> {
        self.rows.range(self.saved..).map(OffsetRow::row).collect()
    }

    /// The rows of entries up to `applied` are in Kv.
    pub(crate) fn saved(&mut self, applied: Index) {
        self.saved = self.rows.partition_point(|row| row.entry.index <= applied);
        while self.saved > RECENT_ROWS {
            self.rows.pop_front();
            self.saved -= 1;
        }
    }

    /// Up to `limit` rows from the one that holds `offset` on; none if it is
    /// not in memory.
    pub(crate) fn from(&self, offset: Offset, limit: usize) -> Option<Vec<OffsetRow>> {
        let at = self.rows.partition_point(|row| row.end() <= offset);
        let first = self.rows.get(at)?;
        (first.base <= offset).then(|| self.rows.range(at..).take(limit).cloned().collect())
    }

    /// The offset of the first row in memory.
    pub(crate) fn first(&self) -> Option<Offset> {
        self.rows.front().map(|row| row.base)
    }
}

/// Up to `limit` rows in Kv from the one that holds `offset` on, ending
/// before `end`; none if there is no such row.
pub(crate) fn saved_from(
    kv: &dyn Kv,
    key: ReplicaKey,
    offset: Offset,
    end: Offset,
    limit: usize,
) -> Result<Vec<OffsetRow>, RowsError> {
    let at = |offset: Offset| row_key(key, offset.get().to_be_bytes());
    let Some((first, _)) = kv.last_before(Space::Offsets, &at(Offset::ZERO), &at(offset))? else {
        return Ok(Vec::new());
    };
    let rows = kv.scan(Space::Offsets, &first, &at(end), limit)?;
    let rows: Result<Vec<_>, _> = rows.into_iter().map(|(key, value)| OffsetRow::decode(&key, value)).collect();
    let rows = rows?;
    for pair in rows.windows(2) {
        if pair[0].end() != pair[1].base {
            let reason = format!("offset {} is followed by {}", pair[0].end(), pair[1].base);
            return Err(RowsError::Machine(MachineError::new("the offset rows", reason)));
        }
    }
    Ok(rows)
}

/// Rows could not be looked up.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum RowsError {
    #[error(transparent)]
    Kv(#[from] KvError),
    #[error(transparent)]
    Machine(#[from] MachineError),
}

#[cfg(test)]
mod tests {
    use quipu_protocol::{LogId, ReplicaId};
    use quipu_storage::{Batch, MemoryKv};

    use super::*;

    const KEY: ReplicaKey = ReplicaKey { group: LogId::new(7), replica: ReplicaId::new(9) };

    /// The row of entry `index` for `base..end`.
    fn row(index: u64, base: u64, end: u64) -> OffsetRow {
        let entry = EntryId { term: Term::new(1), index: Index::new(index) };
        OffsetRow {
            entry,
            base: Offset::new(base),
            records: end - base,
            skipped: vec![1, 4],
            time: Timestamp::new(7),
            position: 100 * base,
            newest: Timestamp::new(-3),
        }
    }

    fn bases(rows: &[OffsetRow]) -> Vec<u64> {
        rows.iter().map(|row| row.base.get()).collect()
    }

    #[test]
    fn row_is_found_by_any_offset_inside() {
        let mut recent = RecentRows::default();
        for row in [row(2, 10, 20), row(3, 20, 21), row(6, 21, 40)] {
            recent.push(row);
        }
        let found = |offset| recent.from(Offset::new(offset), 2).map(|rows| bases(&rows));
        assert_eq!(found(9), None);
        assert_eq!(found(10), Some(vec![10, 20]));
        assert_eq!(found(19), Some(vec![10, 20]));
        assert_eq!(found(20), Some(vec![20, 21]));
        assert_eq!(found(39), Some(vec![21]));
        assert_eq!(found(40), None);
    }

    #[test]
    fn rows_stay_in_memory_until_they_are_saved() {
        let mut recent = RecentRows::default();
        let count = 2 * RECENT_ROWS as u64;
        for n in 0..count {
            recent.push(row(n, n, n + 1));
        }
        assert_eq!(recent.unsaved().len(), 2 * RECENT_ROWS);
        recent.saved(Index::new(9));
        assert_eq!(recent.first(), Some(Offset::ZERO));
        assert_eq!(recent.unsaved().len(), 2 * RECENT_ROWS - 10);
        recent.saved(Index::new(count - 1));
        assert_eq!(recent.unsaved().len(), 0);
        assert_eq!(recent.first(), Some(Offset::new(RECENT_ROWS as u64)));
    }

    #[test]
    fn saved_rows_come_back_as_they_were() {
        let kv = MemoryKv::new();
        let mut recent = RecentRows::default();
        let rows = [row(2, 10, 20), row(3, 20, 21), row(6, 21, 40)];
        rows.iter().cloned().for_each(|row| recent.push(row));
        let mut batch = Batch::new();
        for row in recent.unsaved() {
            batch.put(row.space, row_key(KEY, row.key).to_vec(), row.value);
        }
        // Another replica's rows on either side.
        for replica in [8, 10] {
            let key = ReplicaKey { replica: ReplicaId::new(replica), ..KEY };
            batch.put(Space::Offsets, row_key(key, [0; 8]).to_vec(), rows[0].row().value);
        }
        kv.write(batch).unwrap();
        let found = |offset, limit| saved_from(&kv, KEY, Offset::new(offset), Offset::new(40), limit).unwrap();
        assert_eq!(found(9, 9), []);
        assert_eq!(found(10, 9), rows);
        assert_eq!(found(25, 9), rows[2..]);
        assert_eq!(found(12, 2), rows[..2]);
    }

    #[test]
    fn gap_between_saved_rows_is_an_error() {
        let kv = MemoryKv::new();
        let mut batch = Batch::new();
        for row in [row(2, 10, 20), row(3, 30, 31)] {
            let row = row.row();
            batch.put(row.space, row_key(KEY, row.key).to_vec(), row.value);
        }
        kv.write(batch).unwrap();
        saved_from(&kv, KEY, Offset::new(10), Offset::new(40), 9).unwrap_err();
    }
}
