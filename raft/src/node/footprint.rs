//! What a node holds of everything that is bounded, against its bounds.
//!
//! Only looks, and takes each lock for the time of a few counts.

use super::RaftNode;
use crate::log::{LogMachine, LogOptions, LogReplica, MAX_CARRIED_BYTES, MAX_CURSORS, MAX_PRODUCERS, QueueFootprint};
use crate::peers::bounds::MAX_APPEND_BYTES_IN_FLIGHT;
use crate::registrar::{self, RegistrarFootprint as Held, RegistrarReplica};

/// How much of something there is, and how much there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gauge {
    /// Of what; in bytes when it says so, otherwise a number of things.
    pub name: &'static str,
    /// How much there is.
    pub value: u64,
    /// The most there may be.
    pub bound: u64,
}

impl Gauge {
    /// Of several that are bounded alike, as values with their bounds, the one
    /// that has the least left; none when there are none.
    pub fn worst(name: &'static str, all: impl IntoIterator<Item = (u64, u64)>) -> Option<Self> {
        let left = |(value, bound): &(u64, u64)| i128::from(*bound) - i128::from(*value);
        let (value, bound) = all.into_iter().min_by_key(left)?;
        Some(Self { name, value, bound })
    }

    /// Whether there is more than there may be.
    pub fn is_over(&self) -> bool {
        self.value > self.bound
    }
}

impl RaftNode {
    /// What the node holds. Of what it has several of, logs and links, the
    /// worst of each kind.
    pub fn footprint(&self) -> Vec<Gauge> {
        let inner = self.inner();
        let (logs, groups): (Vec<LogReplica>, usize) = {
            let here = inner.logs().borrow();
            (here.values().filter_map(|here| here.state.log().cloned()).collect(), here.len())
        };
        let queues: Vec<(QueueFootprint, &LogOptions)> = logs.iter().map(LogReplica::footprint).collect();
        let of = |name, measure: fn(&QueueFootprint, &LogOptions) -> (u64, u64)| {
            Gauge::worst(name, queues.iter().map(|(queue, options)| measure(queue, options)))
        };
        let queued = [
            of("append-queue-batches", |queue, options| (queue.batches, options.append_queue_batches as u64)),
            // One batch always has room.
            of("append-queue-bytes", |queue, options| {
                (queue.bytes, options.append_queue_bytes.max(options.max_batch_bytes + MAX_CARRIED_BYTES))
            }),
            of("entries-in-flight", |queue, options| (queue.entries_in_flight, options.entries_in_flight as u64)),
            of("waiting-commands", |queue, options| (queue.commands, options.waiting_commands as u64)),
            Gauge::worst("cursors", logs.iter().map(|log| (cursors(log), MAX_CURSORS as u64))),
            Gauge::worst("producers", logs.iter().map(|log| (producers(log), MAX_PRODUCERS as u64))),
        ];
        let mut gauges: Vec<Gauge> = queued.into_iter().flatten().collect();
        gauges.extend(self.registrar_gauges());
        gauges.extend(self.journal_gauges(groups as u64));
        gauges.extend(inner.peers().footprint());
        gauges
    }

    /// None until there is a reader group.
    fn registrar_gauges(&self) -> Vec<Gauge> {
        let here = self.inner().logs().borrow();
        let held: Vec<Held> =
            here.values().filter_map(|here| here.state.registrar().map(RegistrarReplica::held)).collect();
        let of = |name, bound: usize, measure: fn(&Held) -> usize| {
            Gauge::worst(name, held.iter().map(|held| (measure(held) as u64, bound as u64)))
        };
        let gauges = [
            of("reader-groups", registrar::MAX_GROUPS, |held| held.groups),
            of("reader-members", registrar::MAX_MEMBERS_IN_ALL, |held| held.members),
            of("reader-logs", registrar::MAX_SHARES_IN_ALL, |held| held.shares),
        ];
        gauges.into_iter().flatten().collect()
    }

    fn journal_gauges(&self, groups: u64) -> [Gauge; 2] {
        let inner = self.inner();
        let held = inner.journal().footprint();
        let options = &inner.config().log;
        // A leader looks before it proposes, and a follower takes what its
        // leader may have under way: so much comes on top, for each log, each
        // registrar and for the catalog.
        let entry = options.entry_bytes.max(options.max_batch_bytes);
        let more = (MAX_APPEND_BYTES_IN_FLIGHT as u64).max(entry * options.entries_in_flight as u64);
        [
            Gauge {
                name: "staged-bytes",
                value: held.staged_bytes,
                bound: options.staged_bytes.saturating_add(more.saturating_mul(groups + 1)),
            },
            Gauge {
                name: "tail-cache-bytes",
                value: held.tail_cache_bytes,
                bound: inner.config().journal.tail_cache_bytes.saturating_add(held.tail_cache_staged_bytes),
            },
        ]
    }
}

fn cursors(log: &LogReplica) -> u64 {
    log.local_cursors(|cursors| cursors.totals().count)
}

fn producers(log: &LogReplica) -> u64 {
    log.group().view(LogMachine::producers) as u64
}

#[cfg(test)]
mod tests {
    use super::Gauge;

    #[test]
    fn the_worst_is_the_one_with_the_least_left() {
        let worst = Gauge::worst("bytes", [(10, 100), (5, 6), (90, 100)]).expect("there are some");
        assert_eq!(worst, Gauge { name: "bytes", value: 5, bound: 6 });
        assert!(!worst.is_over());
        let over = Gauge::worst("bytes", [(10, 100), (7, 6), (0, 0)]).expect("there are some");
        assert!(over.is_over() && over.value == 7);
        assert_eq!(Gauge::worst("bytes", []), None);
    }
}
