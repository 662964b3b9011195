//! Keeps a log within the bytes and the age that it is configured to.
//!
//! ```text
//!   start                                                   end
//!   │ row │ row │ row │ row │ row │ row │ row │ row │ row │ row │
//!   └ too old, or beyond the bytes ┘ ─▶ Trim, proposed by the leader
//! ```
//!
//! A row is what one entry brought, and goes as a whole. Nothing here is part
//! of apply: the leader looks at its clock and at its rows, and proposes where
//! the log is to start; every replica then does the same. While its clock may be
//! wrong ([`NodeClock`]), nothing goes for its age.

use std::sync::Arc;
use std::time::Duration;

use quipu_protocol::environment::Clock;
use quipu_protocol::{Offset, Timestamp, stored, v1};
use quipu_storage::Kv;
use quipu_storage::journal::ReplicaKey;
use tokio::sync::watch;

use super::queue;
use super::settings::LogSettings;
use super::{Lease, LogMachine, offsets::OffsetRow};
use crate::clocks::NodeClock;
use crate::group::{Group, Role};
use crate::machine::MachineError;
use crate::types::{Reply, Trimmed};

/// What is kept is looked at this often, and a trim proposed no more often.
const INTERVAL: Duration = Duration::from_secs(1);

/// The most entries that one trim lets go of.
const MAX_ROWS: usize = 10_000;

/// What of a log is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// The most bytes of batches, but always the newest entry; `None` keeps
    /// all.
    pub bytes: Option<u64>,
    /// How long, by the leader's clock, since an entry was appended, by its
    /// leader's; `None` keeps it for ever.
    pub age: Option<Duration>,
}

impl Retention {
    /// As a log is configured.
    pub fn of(config: &v1::LogConfig) -> Self {
        let set = |value: u64| Some(value).filter(|value| *value > 0);
        Self { bytes: set(config.retention_bytes), age: set(config.retention_ms).map(Duration::from_millis) }
    }

    /// Whether anything ever goes.
    pub(super) fn is_some(&self) -> bool {
        self.bytes.is_some() || self.age.is_some()
    }

    /// Whether `row` goes, of a log of which `bytes` were ever appended.
    fn lets_go(&self, row: &OffsetRow, is_last: bool, bytes: u64, now: Timestamp) -> bool {
        let too_many = self.bytes.is_some_and(|most| !is_last && bytes.saturating_sub(row.position) > most);
        let age = u64::try_from(now.get().saturating_sub(row.time.get())).map_or(Duration::ZERO, Duration::from_millis);
        too_many || self.age.is_some_and(|most| age > most)
    }
}

impl LogMachine {
    /// Where the log is to start; `None` when all of it is kept.
    fn start_within(
        &self,
        retention: Retention,
        now: Timestamp,
        kv: &dyn Kv,
        key: ReplicaKey,
    ) -> Result<Option<Offset>, MachineError> {
        let range = self.range();
        let mut start = range.start();
        for _ in 0..MAX_ROWS {
            if start >= range.end() {
                break;
            }
            let row = self.row(start, kv, key)?;
            if !retention.lets_go(&row, row.end() == range.end(), self.bytes(), now) {
                break;
            }
            start = row.end();
        }
        Ok((start > range.start()).then_some(start))
    }
}

impl LogMachine {
    /// The trim that is due at `now`, of a log whose leases may keep `most` bytes; it
    /// stops at those that are within that. None where nothing would come of it:
    /// `stamp` is what it would be applied with.
    fn due_trim(
        &self,
        (retention, most): (Retention, Option<u64>),
        (now, stamp): (Timestamp, Timestamp),
        kv: &dyn Kv,
        key: ReplicaKey,
    ) -> Result<Option<stored::Trim>, MachineError> {
        let (start, end) = (self.range().start(), self.range().end());
        // Before any row is looked at: this is so every time as long as it is held.
        let keeps_all = |lease: Lease| lease.offset <= start && lease.until > stamp;
        if start < end
            && self.leases().into_iter().any(keeps_all)
            && !self.is_over(&self.row(start, kv, key)?, retention.bytes, most)
        {
            return Ok(None);
        }
        let Some(to) = self.start_within(retention, now, kv, key)? else { return Ok(None) };
        let past_before = self.over_before(to, retention.bytes, most, kv, key)?;
        Ok(Some(stored::Trim {
            to: to.get(),
            leases: stored::StrandedLeases::Hold.into(),
            past_before: past_before.get(),
        }))
    }

    /// Before which offset a lease [keeps more than it may](Self::is_over). Found by the leases in
    /// front of `to`; what is over now is so too once there is more.
    fn over_before(
        &self,
        to: Offset,
        kept: Option<u64>,
        most: Option<u64>,
        kv: &dyn Kv,
        key: ReplicaKey,
    ) -> Result<Offset, MachineError> {
        let mut before = Offset::ZERO;
        if most.is_none() {
            return Ok(before);
        }
        let start = self.range().start();
        for lease in self.leases().into_iter().filter(|lease| lease.offset < to) {
            let row = self.row(lease.offset.max(start), kv, key)?;
            if self.is_over(&row, kept, most) {
                before = before.max(row.end());
            }
        }
        Ok(before)
    }

    /// Whether a lease of an offset in `row` keeps more than it may, from there to the
    /// log's end: more than `most` bytes, and what is `kept` anyway.
    fn is_over(&self, row: &OffsetRow, kept: Option<u64>, most: Option<u64>) -> bool {
        let most = most.map(|most| most.saturating_add(kept.unwrap_or(0)));
        most.is_some_and(|most| self.bytes().saturating_sub(row.position) > most)
    }
}

/// Trims the log wherever this replica leads, until the group stops. Waits while
/// its settings keep all.
pub(super) async fn enforce(
    mut settings: watch::Receiver<LogSettings>,
    group: Group<LogMachine>,
    kv: Arc<dyn Kv>,
    (clock, ages): (Arc<dyn Clock>, NodeClock),
) {
    let stopped = group.stopped();
    let mut stopped = std::pin::pin!(stopped);
    loop {
        let due = async {
            if settings.wait_for(|settings| settings.retention.is_some()).await.is_err() {
                // Nobody is left who could change them.
                std::future::pending::<()>().await;
            }
            clock.sleep(INTERVAL).await;
        };
        tokio::select! {
            biased;
            _ = &mut stopped => return,
            () = due => {}
        }
        if group.status().role != Role::Leader {
            continue;
        }
        let LogSettings { mut retention, max_lease_bytes, .. } = *settings.borrow();
        let (now, is_in_doubt) = ages.now();
        if is_in_doubt {
            retention.age = None;
        }
        // While the clock may be wrong, leases end by what is committed for others alone.
        let stamp = if is_in_doubt { group.view(LogMachine::time) } else { ages.stamp() };
        let due = |log: &LogMachine| log.due_trim((retention, max_lease_bytes), (now, stamp), &*kv, group.key());
        match group.view(due) {
            Ok(None) => {}
            Ok(Some(trim)) => {
                // Whatever becomes of it: what is still too much then goes the
                // next time.
                if let Ok(Reply::Trim(Trimmed { stranded, .. })) = group.propose(queue::trim(stamp, trim)).await {
                    for Lease { holder, offset, .. } in stranded {
                        tracing::warn!(key = %group.key(), holder, %offset, "a lease kept more than max_lease_bytes and is gone");
                    }
                }
            }
            Err(error) => tracing::warn!(key = %group.key(), %error, "a log's retention cannot be looked at"),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use prost::Message;
    use quipu_protocol::batch::{BatchBuilder, Compression, Record};
    use quipu_protocol::{Index, LogId, ReplicaId, Term, stored};
    use quipu_storage::MemoryKv;
    use quipu_storage::journal::EntryId;

    use super::*;
    use crate::machine::Machine;

    const KEY: ReplicaKey = ReplicaKey { group: LogId::new(1), replica: ReplicaId::new(1) };

    /// A log with an entry of one record a second, and the bytes of each.
    fn log(entries: u64) -> (LogMachine, u64) {
        let mut builder = BatchBuilder::new(Compression::None);
        builder.push(&Record::new(Timestamp::new(0), Bytes::from_static(b"value"))).unwrap();
        let batch = builder.finish(None).unwrap();
        let mut log = LogMachine::new();
        for n in 1..=entries {
            let append = stored::AppendBatches { batches: vec![batch.clone()], ..stored::AppendBatches::default() };
            let command = Some(stored::log_command::Command::Append(append));
            let stamp = i64::try_from(n).unwrap() * 1000;
            let command = stored::LogCommand { stamp, command, ..stored::LogCommand::default() }.encode_to_vec();
            log.apply(EntryId { term: Term::new(1), index: Index::new(n) }, &command.into()).unwrap();
        }
        (log, batch.len() as u64)
    }

    fn hold(log: &mut LogMachine, index: u64, stamp: i64, lease: stored::HoldLease) {
        let lease = stored::WaitingCommand { command: Some(stored::waiting_command::Command::Lease(lease)) };
        let append = stored::AppendBatches { commands: vec![lease], ..stored::AppendBatches::default() };
        let command = Some(stored::log_command::Command::Append(append));
        let command = stored::LogCommand { stamp, command, ..stored::LogCommand::default() }.encode_to_vec();
        log.apply(EntryId { term: Term::new(1), index: Index::new(index) }, &command.into()).unwrap();
    }

    fn start(log: &LogMachine, retention: Retention, now: i64) -> Option<u64> {
        log.start_within(retention, Timestamp::new(now), &MemoryKv::new(), KEY).unwrap().map(Offset::get)
    }

    #[test]
    fn as_many_bytes_are_kept_as_fit_and_always_the_newest_entry() {
        let (log, bytes) = log(10);
        let keep = |bytes| start(&log, Retention { bytes: Some(bytes), age: None }, 0);
        assert_eq!(keep(10 * bytes), None);
        assert_eq!(keep(10 * bytes - 1), Some(1));
        assert_eq!(keep(3 * bytes + 1), Some(7));
        assert_eq!(keep(1), Some(9));
    }

    #[test]
    fn a_lease_that_keeps_more_than_it_may_holds_retention_up_no_longer() {
        let (mut log, bytes) = log(10);
        for (index, offset) in [(11, 2), (12, 5)] {
            let holder = format!("from-{offset}");
            hold(
                &mut log,
                index,
                0,
                stored::HoldLease { holder, offset: Some(offset), ms: 1_000_000, ..Default::default() },
            );
        }
        let over = |kept, most| log.over_before(Offset::new(9), kept, most, &MemoryKv::new(), KEY).unwrap().get();
        assert_eq!(over(None, None), 0);
        assert_eq!(over(None, Some(8 * bytes)), 0);
        assert_eq!(over(None, Some(8 * bytes - 1)), 3);
        assert_eq!(over(Some(bytes), Some(4 * bytes)), 3);
        assert_eq!(over(Some(bytes), Some(4 * bytes - 1)), 6);
    }

    #[test]
    fn a_lease_at_the_start_keeps_all_until_it_is_over_or_has_ended() {
        let (mut log, bytes) = log(10);
        let lease = stored::HoldLease { holder: "a".to_owned(), offset: Some(0), ms: 1_000, ..Default::default() };
        hold(&mut log, 11, 10_000, lease);
        let retention = Retention { bytes: Some(3 * bytes), age: None };
        let due = |most, stamp| {
            let (now, stamp) = (Timestamp::new(10_000), Timestamp::new(stamp));
            let trim = log.due_trim((retention, most), (now, stamp), &MemoryKv::new(), KEY).unwrap();
            trim.map(|trim| (trim.to, trim.past_before))
        };
        assert_eq!(due(None, 10_999), None);
        assert_eq!(due(Some(7 * bytes), 10_999), None);
        assert_eq!(due(Some(7 * bytes - 1), 10_999), Some((7, 1)));
        assert_eq!(due(None, 11_000), Some((7, 0)));
    }

    #[test]
    fn what_is_too_old_goes_and_a_clock_behind_lets_nothing_go() {
        let (log, _) = log(10);
        let keep = |now| start(&log, Retention { bytes: None, age: Some(Duration::from_secs(4)) }, now);
        assert_eq!(keep(5_000), None);
        assert_eq!(keep(5_001), Some(1));
        assert_eq!(keep(10_000), Some(5));
        assert_eq!(keep(60_000), Some(10));
        assert_eq!(keep(-60_000), None);
    }
}
