//! A log as a model: appends at the end, reads of what is there.
//!
//! What the log holds in the end is known, and no append takes anything away.
//! So the log after some appends is a beginning of what it holds in the end, and
//! its length is all there is to a state: an append is possible where its values
//! come next. What was gone before anybody saw it may have come at any time
//! between those around it.

use super::engine::Model;
use crate::checkers::settled::may_be;
use crate::history::{Call, Outcome, UNSEEN};

/// A log that holds these values in the end.
#[derive(Clone, Copy, Debug)]
pub struct LogModel<'a> {
    values: &'a [u64],
}

impl<'a> LogModel<'a> {
    /// A log that holds `values` in the end.
    pub const fn new(values: &'a [u64]) -> Self {
        Self { values }
    }

    /// Whether a log of `length` records may have `longer`: by records that were
    /// gone before anybody saw them, whoever appended them.
    fn may_reach(&self, length: usize, longer: u64) -> bool {
        let longer = usize::try_from(longer).ok().filter(|longer| *longer <= self.values.len());
        longer.is_some_and(|longer| length <= longer && self.values[length..longer].iter().all(|it| *it == UNSEEN))
    }

    fn append(&self, length: usize, appended: &[u64], answer: Option<&Outcome>) -> Option<usize> {
        let begins = match answer {
            None => self.begins(length, appended),
            Some(&Outcome::Appended { start, end }) if end.checked_sub(start)? == appended.len() as u64 => {
                usize::try_from(start).ok()?
            }
            Some(_) => return None,
        };
        let end = begins.checked_add(appended.len())?;
        let comes_next = self.may_reach(length, begins as u64) && may_be(self.values.get(begins..end)?, appended);
        comes_next.then_some(end)
    }

    /// Where a batch begins that is there: at the end, unless what was not seen
    /// lies between.
    fn begins(&self, length: usize, appended: &[u64]) -> usize {
        if self.values.get(length) != Some(&UNSEEN) {
            return length;
        }
        let seen = self.values[length..].iter().position(|value| appended.contains(value));
        let Some(place) = seen.map(|place| length + place) else { return length };
        let before = appended.iter().position(|value| *value == self.values[place]).unwrap_or_default();
        place.saturating_sub(before)
    }

    fn shows(&self, length: usize, from: u64, max: u64, records: &[(u64, u64)]) -> bool {
        let shown = from.saturating_add(records.len() as u64);
        let is_as_long = match records.len() as u64 {
            0 => max == 0 || length as u64 <= from,
            // Less than was asked for: it ends there.
            some if some < max => self.may_reach(length, shown),
            all => all == max && (length as u64 >= shown || self.may_reach(length, shown)),
        };
        is_as_long
            && records.iter().zip(from..).all(|(&(offset, value), expected)| {
                let held = usize::try_from(offset).ok().and_then(|offset| self.values.get(offset));
                offset == expected && held.is_some_and(|held| *held == value || *held == UNSEEN)
            })
    }
}

impl Model for LogModel<'_> {
    type Call = Call;
    type Answer = Outcome;
    /// How many records there are.
    type State = usize;

    fn initial(&self) -> usize {
        0
    }

    fn step(&self, &length: &usize, call: &Call, answer: Option<&Outcome>) -> Option<usize> {
        match (call, answer) {
            (Call::Append { values, .. }, answer) => self.append(length, values, answer),
            (&Call::Read { from, max, .. }, Some(Outcome::Read { records })) => {
                self.shows(length, from, max, records).then_some(length)
            }
            (Call::End, Some(&Outcome::End { end })) => self.may_reach(length, end).then_some(length),
            (Call::Read { .. } | Call::End, None) => Some(length),
            (Call::Create { .. } | Call::Delete | Call::Read { .. } | Call::End, _) => None,
        }
    }

    fn only_looks(&self, call: &Call, _answer: Option<&Outcome>) -> bool {
        !matches!(call, Call::Append { .. })
    }
}
