//! How much of a log is there to be read, and how much of it leases keep, found in its
//! rows alone.

use quipu_protocol::Timestamp;
use quipu_storage::Kv;
use quipu_storage::journal::{EntryId, ReplicaKey};

use super::{Lease, LogMachine};
use crate::machine::MachineError;

/// How much of a log a replica can serve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retained {
    /// Bytes of the batches from the one on that holds the first readable
    /// record, as they are stored.
    pub bytes: u64,
    /// How many Raft entries there are from the one on that holds the first
    /// readable record: those that brought batches, blanks and changes of
    /// membership.
    pub entries: u64,
}

/// What a log's leases keep, from where the first of them begins to the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pinned {
    /// How many leases there are that have not ended.
    pub leases: u64,
    /// How many records they keep.
    pub records: u64,
    /// Bytes of those records' batches, as they are stored.
    pub bytes: u64,
}

impl LogMachine {
    /// What leases keep that have not ended by `now`.
    pub(super) fn pinned(&self, now: Timestamp, kv: &dyn Kv, key: ReplicaKey) -> Result<Pinned, MachineError> {
        let range = self.range();
        let leases: Vec<Lease> = self.leases().into_iter().filter(|lease| lease.until > now).collect();
        let Some(first) = leases.iter().map(|lease| lease.offset.max(range.start())).min() else {
            return Ok(Pinned::default());
        };
        let row = (first < range.end()).then(|| self.row(first, kv, key)).transpose()?;
        Ok(Pinned {
            leases: leases.len() as u64,
            records: range.end().since(first),
            bytes: row.map_or(0, |row| self.bytes().saturating_sub(row.position)),
        })
    }

    /// How much can be read, when the last entry applied is `applied`.
    pub(super) fn retained(
        &self,
        applied: Option<EntryId>,
        kv: &dyn Kv,
        key: ReplicaKey,
    ) -> Result<Retained, MachineError> {
        let range = self.range();
        if range.is_empty() {
            return Ok(Retained::default());
        }
        let first = self.row(range.start(), kv, key)?;
        let last = applied.map_or(0, |applied| applied.index.next().get());
        Ok(Retained {
            bytes: self.bytes().saturating_sub(first.position),
            // What is known to be applied may be a little older than the state.
            entries: last.saturating_sub(first.entry.index.get()).max(1),
        })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use prost::Message;
    use quipu_protocol::batch::{BatchBuilder, Compression, Record};
    use quipu_protocol::{Index, LogId, Offset, ReplicaId, Term, stored};
    use quipu_storage::MemoryKv;

    use super::*;
    use crate::machine::Machine;

    const KEY: ReplicaKey = ReplicaKey { group: LogId::new(1), replica: ReplicaId::new(1) };

    fn id(index: u64) -> EntryId {
        EntryId { term: Term::new(1), index: Index::new(index) }
    }

    fn batch(records: usize) -> Bytes {
        let mut builder = BatchBuilder::new(Compression::None);
        for _ in 0..records {
            builder.push(&Record::new(Timestamp::new(0), Bytes::from_static(b"value"))).unwrap();
        }
        builder.finish(None).unwrap()
    }

    fn apply(log: &mut LogMachine, index: u64, command: stored::log_command::Command) {
        let command = stored::LogCommand { stamp: 1, command: Some(command), ..Default::default() }.encode_to_vec();
        log.apply(id(index), &command.into()).unwrap();
    }

    #[test]
    fn what_is_retained_is_counted_from_the_batch_that_holds_the_start() {
        use stored::log_command::Command;
        let mut log = LogMachine::new();
        let retained = |log: &LogMachine, applied| log.retained(Some(id(applied)), &MemoryKv::new(), KEY).unwrap();
        assert_eq!(retained(&log, 0), Retained::default());
        // Entries 1, 3 and 5 bring records; 2 and 4 are blanks.
        for (index, records) in [(1, 2), (3, 4), (5, 1)] {
            apply(
                &mut log,
                index,
                Command::Append(stored::AppendBatches {
                    batches: vec![batch(records)],
                    ..stored::AppendBatches::default()
                }),
            );
        }
        let bytes = |records: &[usize]| records.iter().map(|records| batch(*records).len() as u64).sum::<u64>();
        assert_eq!(retained(&log, 5), Retained { bytes: bytes(&[2, 4, 1]), entries: 5 });
        apply(&mut log, 6, Command::Trim(stored::Trim { to: 3, ..stored::Trim::default() }));
        assert_eq!(retained(&log, 6), Retained { bytes: bytes(&[4, 1]), entries: 4 }, "the start lies inside a batch");
        apply(&mut log, 7, Command::Trim(stored::Trim { to: 7, ..stored::Trim::default() }));
        assert_eq!(retained(&log, 7), Retained::default());
    }

    #[test]
    fn what_leases_keep_is_counted_from_the_first_of_them_that_has_not_ended() {
        use stored::log_command::Command;
        let mut log = LogMachine::new();
        let pinned = |log: &LogMachine, now| log.pinned(Timestamp::new(now), &MemoryKv::new(), KEY).unwrap();
        assert_eq!(pinned(&log, 0), Pinned::default());
        for (index, records) in [(1, 2), (2, 4), (3, 1)] {
            let batches = vec![batch(records)];
            apply(&mut log, index, Command::Append(stored::AppendBatches { batches, ..Default::default() }));
        }
        let lease = |holder: &str, offset, ms| {
            let lease = stored::HoldLease { holder: holder.to_owned(), offset: Some(offset), ms, ..Default::default() };
            stored::WaitingCommand { command: Some(stored::waiting_command::Command::Lease(lease)) }
        };
        // By a time of 1.
        let commands = vec![lease("end", 7, 300), lease("short", 0, 100), lease("within", 3, 200)];
        apply(&mut log, 4, Command::Append(stored::AppendBatches { commands, ..Default::default() }));
        let bytes = |records: &[usize]| records.iter().map(|records| batch(*records).len() as u64).sum::<u64>();
        assert_eq!(pinned(&log, 100), Pinned { leases: 3, records: 7, bytes: bytes(&[2, 4, 1]) });
        assert_eq!(pinned(&log, 101), Pinned { leases: 2, records: 4, bytes: bytes(&[4, 1]) });
        assert_eq!(pinned(&log, 201), Pinned { leases: 1, records: 0, bytes: 0 });
        assert_eq!((pinned(&log, 301), log.range().end()), (Pinned::default(), Offset::new(7)));
    }
}
