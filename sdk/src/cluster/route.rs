//! Whom an operation has asked in this round, and whom it asks next.

use std::collections::{BTreeSet, VecDeque};

/// The most nodes that are asked in one round.
const MAX_ASKED: usize = 64;

/// A round: each address at most once, suggested ones first.
#[derive(Default)]
pub(super) struct Route {
    suggested: VecDeque<String>,
    asked: BTreeSet<String>,
    log_unknown: bool,
    log_known: bool,
    over: bool,
}

impl Route {
    /// The next one to ask, from what was suggested and then `candidates`;
    /// `None` once the round is over.
    pub(super) fn next(&mut self, candidates: Vec<String>) -> Option<String> {
        if self.over || self.asked.len() >= MAX_ASKED {
            return None;
        }
        let suggested = std::mem::take(&mut self.suggested);
        let mut fresh = suggested.into_iter().chain(candidates).filter(|address| !self.asked.contains(address));
        let next = fresh.next()?;
        // What was suggested beyond that stays suggested, as far as it is new.
        let rest: VecDeque<String> = fresh.take(MAX_ASKED).collect();
        self.suggested = rest;
        self.asked.insert(next.clone());
        Some(next)
    }

    /// An answer named other nodes to ask: before all others.
    pub(super) fn suggest(&mut self, addresses: impl DoubleEndedIterator<Item = String>) {
        self.log_known = true;
        for address in addresses.rev() {
            self.suggested.push_front(address);
        }
        self.suggested.truncate(MAX_ASKED);
    }

    /// A node answered that it knows no such log. It may only be behind:
    /// the others are asked too.
    pub(super) fn log_unknown(&mut self) {
        self.log_unknown = true;
    }

    /// Whether somebody said that there is no such log and nobody that there
    /// is.
    pub(super) fn agrees_on_unknown_log(&self) -> bool {
        self.log_unknown && !self.log_known
    }

    /// Asking others in this round is of no use.
    pub(super) fn end(&mut self) {
        self.log_known = true;
        self.over = true;
    }

    /// Begins the next round.
    pub(super) fn restart(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::Route;

    fn known() -> Vec<String> {
        ["a", "b", "c"].map(str::to_owned).to_vec()
    }

    #[test]
    fn a_round_asks_each_node_once_and_suggested_ones_first() {
        let mut route = Route::default();
        assert_eq!(route.next(known()).as_deref(), Some("a"));
        route.suggest(["c", "x"].map(str::to_owned).into_iter());
        assert_eq!(route.next(known()).as_deref(), Some("c"));
        // A suggestion to go back is not followed within the round.
        route.suggest(["a"].map(str::to_owned).into_iter());
        assert_eq!(route.next(known()).as_deref(), Some("x"));
        assert_eq!(route.next(known()).as_deref(), Some("b"));
        assert_eq!(route.next(known()), None);
        route.restart();
        assert_eq!(route.next(known()).as_deref(), Some("a"));
    }

    #[test]
    fn a_log_is_unknown_only_when_nobody_knows_it() {
        let mut route = Route::default();
        assert!(!route.agrees_on_unknown_log());
        route.log_unknown();
        assert!(route.agrees_on_unknown_log());
        route.suggest(std::iter::empty());
        assert!(!route.agrees_on_unknown_log(), "who names its replicas knows it");
    }
}
