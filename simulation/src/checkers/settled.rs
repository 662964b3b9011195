//! What a log holds once everything has healed: the one copy that the answers
//! are measured by.
//!
//! Replicas that hold different things are a violation of their own. Judging
//! the answers by what most of them hold keeps that one defect from showing as
//! a dozen.
//!
//! What a log let go of before anybody saw it is [`UNSEEN`]: any value may have
//! been there.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::{Copies, Operation, UNSEEN};

/// The records of one log, by offset, as most of its replicas hold them.
pub(crate) struct Settled {
    values: Vec<u64>,
    places: BTreeMap<u64, Vec<u64>>,
}

impl Settled {
    /// What most of `copies` hold; of several the one that is longest, then that
    /// of the lowest node. Nothing when there are none.
    pub(crate) fn of(copies: Option<&BTreeMap<u64, Vec<(u64, u64)>>>) -> Self {
        let mut votes: BTreeMap<&[(u64, u64)], usize> = BTreeMap::new();
        let copies: Vec<&[(u64, u64)]> = copies.into_iter().flatten().map(|(_, copy)| copy.as_slice()).collect();
        for copy in &copies {
            *votes.entry(copy).or_default() += 1;
        }
        // The last maximum wins, hence from the highest node down.
        let chosen = copies.iter().rev().max_by_key(|copy| (votes[*copy], copy.len()));
        Self::new(chosen.into_iter().flat_map(|copy| copy.iter().map(|&(_, value)| value)).collect())
    }

    fn new(values: Vec<u64>) -> Self {
        let mut places: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for (offset, &value) in (0..).zip(&values).filter(|(_, value)| **value != UNSEEN) {
            places.entry(value).or_default().push(offset);
        }
        Self { values, places }
    }

    /// The values by their offsets.
    pub(crate) fn values(&self) -> &[u64] {
        &self.values
    }

    /// The offset after the last record's.
    pub(crate) fn end(&self) -> u64 {
        self.values.len() as u64
    }

    /// The value at `offset`, if the log goes so far; it may be [`UNSEEN`].
    pub(crate) fn at(&self, offset: u64) -> Option<u64> {
        self.values.get(usize::try_from(offset).ok()?).copied()
    }

    /// Where `value` is, lowest offset first. Once, or not at all, in a log that
    /// is as it should be.
    pub(crate) fn places(&self, value: u64) -> &[u64] {
        self.places.get(&value).map_or(&[], Vec::as_slice)
    }

    /// Every value with its places.
    pub(crate) fn all_places(&self) -> impl Iterator<Item = (u64, &[u64])> {
        self.places.iter().map(|(&value, places)| (value, places.as_slice()))
    }

    /// Whether `values` lie at `offset` and after it, in order.
    pub(crate) fn holds(&self, offset: u64, values: &[u64]) -> bool {
        usize::try_from(offset)
            .ok()
            .and_then(|from| self.values.get(from..from.checked_add(values.len())?))
            .is_some_and(|there| may_be(there, values))
    }

    /// The first offset where `values` lie whole, one after the other, as far as
    /// any of them was seen.
    pub(crate) fn find(&self, values: &[u64]) -> Option<u64> {
        let begins = |(position, value): (u64, &u64)| {
            let places = self.places(*value).iter().filter_map(move |place| place.checked_sub(position));
            places.filter(|&offset| self.holds(offset, values)).min()
        };
        (0..).zip(values).find_map(begins)
    }
}

/// Whether these values may be those that are there, of which not all may have
/// been seen.
pub(crate) fn may_be(there: &[u64], values: &[u64]) -> bool {
    there.len() == values.len() && there.iter().zip(values).all(|(there, value)| *there == UNSEEN || there == value)
}

/// The names of all logs that were called upon or are held, in order.
pub(crate) fn logs<'a>(operations: &'a [Operation], copies: &'a Copies) -> BTreeSet<&'a str> {
    operations.iter().map(|operation| operation.log.as_str()).chain(copies.keys().map(String::as_str)).collect()
}

/// The operations upon `log`, in the order in which they were made.
pub(crate) fn upon<'a>(operations: &'a [Operation], log: &str) -> Vec<&'a Operation> {
    let mut upon: Vec<&Operation> = operations.iter().filter(|operation| operation.log == log).collect();
    upon.sort_by_key(|operation| operation.id);
    upon
}
