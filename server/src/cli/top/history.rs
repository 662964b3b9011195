//! What has been seen so far: the figures of now, who is down since when, and
//! whether the cluster answers at all.

use std::collections::BTreeMap;
use std::time::Duration;

use quipu_sdk::{NodeId, NodeState};

use super::figures::Figures;
use super::sample::Sample;

/// The last sample, and what had to be remembered of earlier ones.
#[derive(Default)]
pub(super) struct History {
    last: Option<Sample>,
    figures: Option<Figures>,
    down: BTreeMap<NodeId, Down>,
    trouble: Option<Trouble>,
}

/// A node that does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Down {
    /// When it was first seen so, by the monotonic clock.
    pub(super) since: Duration,
    /// Whether it was so in the first sample: it may be down for longer.
    pub(super) from_the_first: bool,
}

/// Nobody answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    pub(super) since: Duration,
    /// What the last attempt came to.
    pub(super) reason: String,
}

impl History {
    /// The cluster has answered.
    pub(super) fn take_in(&mut self, sample: Sample) {
        let from_the_first = self.last.is_none();
        let is_down = |node: NodeId| {
            sample.status.nodes.iter().any(|status| status.id == node && status.state == NodeState::Down)
        };
        self.down.retain(|node, _| is_down(*node));
        for node in sample.status.nodes.iter().filter(|node| node.state == NodeState::Down) {
            self.down.entry(node.id).or_insert(Down { since: sample.at, from_the_first });
        }
        self.figures = Some(Figures::of(self.last.as_ref(), &sample));
        self.last = Some(sample);
        self.trouble = None;
    }

    /// Nobody has answered: what was seen last stays.
    pub(super) fn missed(&mut self, at: Duration, reason: String) {
        let since = self.trouble.take().map_or(at, |trouble| trouble.since);
        self.trouble = Some(Trouble { since, reason });
    }

    /// What is shown; none before the first answer.
    pub(super) fn figures(&self) -> Option<&Figures> {
        self.figures.as_ref()
    }

    /// Since when `node` is down, if it is.
    pub(super) fn down(&self, node: NodeId) -> Option<Down> {
        self.down.get(&node).copied()
    }

    /// How many nodes are down.
    pub(super) fn nodes_down(&self) -> usize {
        self.down.len()
    }

    pub(super) fn trouble(&self) -> Option<&Trouble> {
        self.trouble.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::super::figures::tests::{down, node, sample};
    use super::*;

    #[test]
    fn a_node_is_down_since_it_was_first_seen_so() {
        let mut history = History::default();
        let at = Duration::from_secs;
        history.take_in(sample(10, vec![node(1, 5), node(2, 5), down(3)], Vec::new()));
        history.take_in(sample(11, vec![node(1, 6), down(2), down(3)], Vec::new()));
        history.take_in(sample(12, vec![node(1, 7), down(2), down(3)], Vec::new()));
        assert_eq!(history.down(NodeId::new(1)), None);
        assert_eq!(history.down(NodeId::new(2)), Some(Down { since: at(11), from_the_first: false }));
        assert_eq!(history.down(NodeId::new(3)), Some(Down { since: at(10), from_the_first: true }));
        assert_eq!(history.nodes_down(), 2);
        history.take_in(sample(13, vec![node(1, 8), node(2, 1), node(3, 1)], Vec::new()));
        history.take_in(sample(14, vec![node(1, 8), node(2, 1), down(3)], Vec::new()));
        assert_eq!(history.down(NodeId::new(3)), Some(Down { since: at(14), from_the_first: false }), "down again");
    }

    #[test]
    fn while_nobody_answers_the_last_figures_stay() {
        let mut history = History::default();
        let at = Duration::from_secs;
        history.missed(at(1), "refused".to_owned());
        assert!(history.figures().is_none());
        history.take_in(sample(2, vec![node(1, 5)], Vec::new()));
        assert_eq!(history.trouble(), None);
        history.missed(at(5), "timed out".to_owned());
        history.missed(at(9), "refused".to_owned());
        assert_eq!(history.trouble(), Some(&Trouble { since: at(5), reason: "refused".to_owned() }));
        assert_eq!(history.figures().map(|figures| figures.nodes.len()), Some(1));
    }
}
