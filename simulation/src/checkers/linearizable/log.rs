//! A log as a model: appends at the end, reads of what is there.
//!
//! What the log holds in the end is known, and no append takes anything away.
//! So the log after some appends is a beginning of what it holds in the end, and
//! its length and its writer epoch are all there is to a state: an append is possible where its values
//! come next. What was gone before anybody saw it may have come at any time
//! between those around it.

use super::engine::Model;
use crate::checkers::settled::may_be;
use crate::history::{Call, Outcome, Terms, UNSEEN};

/// What there is of a log between two calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LogState {
    /// How many records there are.
    pub length: usize,
    /// Its writer epoch.
    pub epoch: u64,
}

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
    type State = LogState;

    fn initial(&self) -> LogState {
        LogState { length: 0, epoch: 0 }
    }

    fn step(&self, &state: &LogState, call: &Call, answer: Option<&Outcome>) -> Option<LogState> {
        let LogState { length, epoch } = state;
        let looks = |possible: bool| possible.then_some(state);
        match (call, answer) {
            (Call::Append { terms, .. }, Some(&Outcome::Fenced { current })) => {
                looks(current == epoch && terms.epoch.is_some_and(|claimed| claimed < current))
            }
            (Call::Append { terms, .. }, Some(&Outcome::Mismatch { end })) => {
                looks(claims(*terms, epoch) && terms.expected_end != Some(end) && self.may_reach(length, end))
            }
            (Call::Append { values, terms, .. }, answer) if claims(*terms, epoch) => {
                let longer = self.append(length, values, answer)?;
                let begins = longer.checked_sub(values.len())? as u64;
                let as_expected = terms.expected_end.is_none_or(|expected| expected == begins);
                as_expected.then_some(LogState { length: longer, epoch })
            }
            (Call::Acquire, Some(&Outcome::Acquired { epoch: acquired, end })) => {
                let is_next = acquired == epoch + 1 && self.may_reach(length, end);
                is_next.then_some(LogState { length, epoch: acquired })
            }
            (Call::Acquire, None) => Some(LogState { length, epoch: epoch + 1 }),
            (&Call::Read { from, max, .. }, Some(Outcome::Read { records })) => {
                looks(self.shows(length, from, max, records))
            }
            (Call::End, Some(&Outcome::End { end })) => looks(self.may_reach(length, end)),
            (Call::Read { .. } | Call::End, None) => Some(state),
            _ => None,
        }
    }

    fn only_looks(&self, call: &Call, answer: Option<&Outcome>) -> bool {
        match call {
            Call::Append { .. } => matches!(answer, Some(Outcome::Fenced { .. } | Outcome::Mismatch { .. })),
            Call::Acquire => false,
            _ => true,
        }
    }
}

/// Whether an append under these terms may land in a log of this writer epoch.
fn claims(terms: Terms, epoch: u64) -> bool {
    terms.epoch.is_none_or(|claimed| claimed == epoch)
}
