//! Where the appends under way end, to tell which answer may be told.
//!
//! openraft takes an answer for that to every append under way which ends where
//! the answered one does, and the moment at which the last of them was sent for one
//! at which this leader was followed. An append that only tells what is committed
//! ends where the one before it does, and may be sent long after that. So the
//! answer to the one before is kept back until the other's, which implies it, is
//! here; a barrier would else be told of a majority that nobody has asked.

use std::collections::VecDeque;

use crate::types::LogId;

/// Of the appends to one replica, in their order.
#[derive(Debug, Default)]
pub(super) struct Ends {
    under_way: VecDeque<Option<LogId>>,
    /// An answer was kept back.
    held: bool,
}

impl Ends {
    /// One that ends with `last` was sent.
    pub(super) fn sent(&mut self, last: Option<LogId>) {
        self.under_way.push_back(last);
    }

    /// The oldest was answered: whether that is told. A failure always is.
    pub(super) fn answered(&mut self, success: bool) -> bool {
        let last = self.under_way.pop_front();
        self.held = success && last.is_some() && self.under_way.front() == last.as_ref();
        !self.held
    }

    /// Whether another one may be sent: while an answer is kept back it might have
    /// to wait for that one's as well, and so on.
    pub(super) fn may_grow(&self) -> bool {
        !self.held
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(index: u64) -> Option<LogId> {
        Some(LogId::new_term_index(1, index))
    }

    #[test]
    fn an_answer_waits_for_that_to_what_was_sent_later_and_ends_there_too() {
        let mut ends = Ends::default();
        ends.sent(id(5));
        ends.sent(id(5));
        ends.sent(id(6));
        assert!(!ends.answered(true), "the second may have been sent long after the first");
        assert!(!ends.may_grow());
        assert!(ends.answered(true));
        assert!(ends.may_grow());
        assert!(ends.answered(true));
    }

    #[test]
    fn what_ends_elsewhere_and_every_failure_is_told_at_once() {
        let mut ends = Ends::default();
        ends.sent(None);
        ends.sent(id(5));
        ends.sent(id(5));
        assert!(ends.answered(true));
        assert!(ends.answered(false));
        assert!(ends.may_grow() && ends.answered(true));
    }
}
