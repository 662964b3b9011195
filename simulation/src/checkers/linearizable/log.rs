//! A log as a model: appends at the end, reads of what is there.
//!
//! What the log holds in the end is known, and no append takes anything away.
//! So the log after some appends is a beginning of what it holds in the end, and
//! its length is all there is to a state: an append is possible where its values
//! come next.

use super::engine::Model;
use crate::history::{Call, Outcome};

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

    fn append(&self, length: usize, appended: &[u64], answer: Option<&Outcome>) -> Option<usize> {
        let end = length.checked_add(appended.len())?;
        let comes_next = self.values.get(length..end) == Some(appended);
        let as_answered = match answer {
            None => true,
            Some(&Outcome::Appended { start, end: told }) => (start, told) == (length as u64, end as u64),
            Some(_) => false,
        };
        (comes_next && as_answered).then_some(end)
    }

    fn shows(&self, length: usize, from: u64, max: u64, records: &[(u64, u64)]) -> bool {
        let there = (length as u64).saturating_sub(from).min(max);
        records.len() as u64 == there
            && records.iter().zip(from..).all(|(&(offset, value), expected)| {
                let held = usize::try_from(offset).ok().and_then(|offset| self.values.get(offset));
                offset == expected && held == Some(&value)
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
            (Call::End, Some(&Outcome::End { end })) => (end == length as u64).then_some(length),
            (Call::Read { .. } | Call::End, None) => Some(length),
            (Call::Create { .. } | Call::Read { .. } | Call::End, _) => None,
        }
    }

    fn only_looks(&self, call: &Call, _answer: Option<&Outcome>) -> bool {
        !matches!(call, Call::Append { .. })
    }
}
