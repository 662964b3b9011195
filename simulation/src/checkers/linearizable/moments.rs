//! Calls and answers in their sequence, out of which pairs are lifted and into
//! which they are put back.
//!
//! ```text
//!   HEAD ⇄ ask a ⇄ ask b ⇄ answer b ⇄ ask c ⇄ answer a ⇄ …
//!          └───────────┘
//!          candidates: what is asked before the first answer
//! ```
//!
//! A lifted node keeps its own links, so that putting back in reverse order
//! restores the list exactly (Knuth's dancing links).

/// The list's fixed end, both before the first node and after the last.
const HEAD: usize = 0;

/// The list.
pub(super) struct Moments {
    next: Vec<usize>,
    previous: Vec<usize>,
    /// What a node asks for; none for answers and the head.
    asks: Vec<Option<usize>>,
    /// The node that asks, by attempt.
    asked: Vec<usize>,
    /// The node that answers, by attempt.
    answered: Vec<Option<usize>>,
}

impl Moments {
    /// The list of attempts that were asked and answered at these positions.
    pub(super) fn of(spans: impl Iterator<Item = (u64, Option<u64>)>) -> Self {
        let mut moments = Vec::new();
        let mut attempts = 0;
        for (attempt, (asked, answered)) in spans.enumerate() {
            attempts += 1;
            // At one position what is asked comes first: the two are beside
            // each other.
            moments.push((asked, 0, attempt));
            if let Some(answered) = answered {
                assert!(asked < answered, "attempt {attempt} was made at {asked} and answered at {answered}");
                moments.push((answered, 1, attempt));
            }
        }
        moments.sort_unstable();
        let nodes = moments.len() + 1;
        let mut list = Self {
            next: (0..nodes).map(|node| (node + 1) % nodes).collect(),
            previous: (0..nodes).map(|node| (node + nodes - 1) % nodes).collect(),
            asks: vec![None; nodes],
            asked: vec![HEAD; attempts],
            answered: vec![None; attempts],
        };
        for (node, (_, is_answer, attempt)) in (1..).zip(moments) {
            if is_answer == 1 {
                list.answered[attempt] = Some(node);
            } else {
                list.asked[attempt] = node;
                list.asks[node] = Some(attempt);
            }
        }
        list
    }

    /// The first of those that may be next.
    pub(super) fn first_candidate(&self) -> Option<usize> {
        self.asks[self.next[HEAD]]
    }

    /// The one after `attempt`, which may have been lifted a moment ago.
    pub(super) fn candidate_after(&self, attempt: usize) -> Option<usize> {
        self.asks[self.next[self.asked[attempt]]]
    }

    /// Takes a call and its answer out.
    pub(super) fn lift(&mut self, attempt: usize) {
        // The answer first, so that the call's link shows what is left after it.
        if let Some(answer) = self.answered[attempt] {
            self.unlink(answer);
        }
        self.unlink(self.asked[attempt]);
    }

    /// Puts the pair back that was lifted last of those that are out.
    pub(super) fn put_back(&mut self, attempt: usize) {
        self.link(self.asked[attempt]);
        if let Some(answer) = self.answered[attempt] {
            self.link(answer);
        }
    }

    fn unlink(&mut self, node: usize) {
        let (previous, next) = (self.previous[node], self.next[node]);
        self.next[previous] = next;
        self.previous[next] = previous;
    }

    fn link(&mut self, node: usize) {
        let (previous, next) = (self.previous[node], self.next[node]);
        self.next[previous] = node;
        self.previous[next] = node;
    }
}
