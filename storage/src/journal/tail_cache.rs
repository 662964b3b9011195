//! Recent entries in memory, bounded over all replicas together.
//!
//! ```text
//!   one replica:   on disk only │ in memory, durable │ in memory, not durable
//!                               └ base + 1           └ never let go of
//! ```
//!
//! What is not durable yet can be read from here alone, so it stays whatever
//! the budget; callers bound it by [`Journal::staged_bytes`](super::Journal::staged_bytes).
//! Beyond the budget the oldest durable appends go first, whoever's they are.

use std::collections::VecDeque;
use std::ops::Range;

use quipu_protocol::Index;

use super::entry::{Entry, EntryId, ReplicaKey};

/// What an entry costs beside its payload.
const ENTRY_COST: u64 = size_of::<Recent>() as u64;

/// What an append costs beside its entries.
const APPEND_COST: u64 = size_of::<(ReplicaKey, Ticket)>() as u64;

/// The place of an operation in the order of staging.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket(u64);

impl Ticket {
    /// The next ticket; never the same twice.
    pub(super) fn next(&mut self) -> Self {
        self.0 += 1;
        *self
    }
}

#[derive(Clone, Debug)]
struct Recent {
    entry: Entry,
    ticket: Ticket,
}

/// The end of one replica's entries.
#[derive(Clone, Debug, Default)]
pub(super) struct Tail {
    /// The last entry before those in memory.
    base: Option<EntryId>,
    recent: VecDeque<Recent>,
}

impl Tail {
    /// A tail with nothing in memory after `base`.
    pub(super) fn after(base: Option<EntryId>) -> Self {
        Self { base, recent: VecDeque::new() }
    }

    /// The last entry.
    pub(super) fn last(&self) -> Option<EntryId> {
        self.recent.back().map(|recent| recent.entry.id).or(self.base)
    }

    /// The last entry whose ticket, and those of all before it, is `synced` or
    /// older.
    pub(super) fn durable(&self, synced: Ticket) -> Option<EntryId> {
        let durable = self.recent.partition_point(|recent| recent.ticket <= synced);
        match durable.checked_sub(1) {
            Some(last) => Some(self.recent[last].entry.id),
            None => self.base,
        }
    }

    /// The first index in memory, if there is any.
    pub(super) fn start(&self) -> Option<Index> {
        self.recent.front().map(|recent| recent.entry.id.index)
    }

    /// The id of the entry at `index`, if it is in memory or the one before.
    pub(super) fn entry_id(&self, index: Index) -> Option<EntryId> {
        let in_memory = self.position(index).map(|at| self.recent[at].entry.id);
        in_memory.or_else(|| self.base.filter(|base| base.index == index))
    }

    /// The entries of `range` in memory, as many as fit into `max_bytes`, at
    /// least one if `range` starts in memory and `entries` is empty; appended
    /// to `entries`.
    pub(super) fn read(&self, range: &Range<Index>, max_bytes: u64, entries: &mut Vec<Entry>) {
        let Some(start) = self.position(range.start) else { return };
        let mut bytes = 0;
        for recent in self.recent.range(start..).take_while(|recent| recent.entry.id.index < range.end) {
            bytes += recent.entry.payload.len() as u64;
            if bytes > max_bytes && !entries.is_empty() {
                break;
            }
            entries.push(recent.entry.clone());
        }
    }

    fn position(&self, index: Index) -> Option<usize> {
        let offset = index.get().checked_sub(self.start()?.get())?;
        usize::try_from(offset).ok().filter(|offset| *offset < self.recent.len())
    }
}

/// The budget that all tails share, and the order in which they give way.
#[derive(Debug)]
pub(super) struct TailCache {
    budget: u64,
    used: u64,
    appends: VecDeque<(ReplicaKey, Ticket)>,
}

impl TailCache {
    pub(super) fn new(budget: u64) -> Self {
        Self { budget, used: 0, appends: VecDeque::new() }
    }

    /// How much is in use.
    pub(super) fn used(&self) -> u64 {
        self.used
    }

    /// Appends entries that were staged with `ticket`.
    pub(super) fn append(&mut self, key: ReplicaKey, tail: &mut Tail, entries: &[Entry], ticket: Ticket) {
        self.used += APPEND_COST;
        self.appends.push_back((key, ticket));
        for entry in entries {
            self.used += cost(entry);
            tail.recent.push_back(Recent { entry: entry.clone(), ticket });
        }
    }

    /// Drops the entries from `from` on; `last` is then the last one.
    pub(super) fn truncate(&mut self, tail: &mut Tail, from: Index, last: Option<EntryId>) {
        while tail.recent.back().is_some_and(|recent| recent.entry.id.index >= from) {
            self.release(tail.recent.pop_back());
        }
        if tail.recent.is_empty() {
            tail.base = last;
        }
    }

    /// Drops the entries through `through`.
    pub(super) fn purge(&mut self, tail: &mut Tail, through: EntryId) {
        while tail.recent.front().is_some_and(|recent| recent.entry.id.index <= through.index) {
            self.release(tail.recent.pop_front());
        }
        if tail.base.is_none_or(|base| base.index < through.index) {
            tail.base = Some(through);
        }
    }

    /// Drops everything of a tail.
    pub(super) fn clear(&mut self, tail: &mut Tail) {
        while !tail.recent.is_empty() {
            self.release(tail.recent.pop_front());
        }
    }

    fn release(&mut self, recent: Option<Recent>) {
        self.used -= recent.map_or(0, |recent| cost(&recent.entry));
    }

    /// The append that has to give way next: the oldest one, while more than
    /// the budget is used and as long as it is durable.
    pub(super) fn overdue(&mut self, synced: Ticket) -> Option<(ReplicaKey, Ticket)> {
        if self.used <= self.budget || self.appends.front()?.1 > synced {
            return None;
        }
        self.used -= APPEND_COST;
        self.appends.pop_front()
    }

    /// Drops what is left of an append that is [`overdue`](Self::overdue).
    pub(super) fn evict(&mut self, tail: &mut Tail, append: Ticket) {
        while tail.recent.front().is_some_and(|recent| recent.ticket == append) {
            let oldest = tail.recent.pop_front();
            tail.base = oldest.as_ref().map(|recent| recent.entry.id);
            self.release(oldest);
        }
    }
}

/// What an append of these entries costs.
pub(super) fn cost_of(entries: &[Entry]) -> u64 {
    APPEND_COST + entries.iter().map(cost).sum::<u64>()
}

fn cost(entry: &Entry) -> u64 {
    ENTRY_COST + entry.payload.len() as u64
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use quipu_protocol::{LogId, ReplicaId, Term};

    use super::*;

    const KEY: ReplicaKey = ReplicaKey { group: LogId::new(1), replica: ReplicaId::new(1) };

    fn entries(range: Range<u64>) -> Vec<Entry> {
        let entry = |index| Entry {
            id: EntryId { term: Term::new(1), index: Index::new(index) },
            payload: Bytes::from(vec![7; 1000]),
        };
        range.map(entry).collect()
    }

    fn shrink(cache: &mut TailCache, tail: &mut Tail, synced: Ticket) {
        while let Some((_, append)) = cache.overdue(synced) {
            cache.evict(tail, append);
        }
    }

    #[test]
    fn what_is_not_durable_stays_whatever_the_budget() {
        let (mut cache, mut tail, mut tickets) = (TailCache::new(0), Tail::default(), Ticket::default());
        let first = tickets.next();
        cache.append(KEY, &mut tail, &entries(1..3), first);
        cache.append(KEY, &mut tail, &entries(3..5), tickets.next());
        shrink(&mut cache, &mut tail, Ticket::default());
        assert_eq!(tail.start(), Some(Index::new(1)));
        shrink(&mut cache, &mut tail, first);
        assert_eq!(tail.start(), Some(Index::new(3)));
        assert_eq!(tail.durable(first).unwrap().index, Index::new(2));
    }

    #[test]
    fn appends_that_were_purged_long_ago_cost_nothing_in_the_end() {
        let (mut cache, mut tail, mut tickets) = (TailCache::new(10_000), Tail::default(), Ticket::default());
        for index in 1..10_000 {
            let (added, ticket) = (entries(index..index + 1), tickets.next());
            cache.append(KEY, &mut tail, &added, ticket);
            cache.purge(&mut tail, added[0].id);
            shrink(&mut cache, &mut tail, ticket);
            assert!(cache.used <= 10_000, "{} bytes are in use", cache.used);
        }
        assert!(cache.appends.len() < 1000, "{} appends are remembered", cache.appends.len());
    }
}
