//! What was done for a request that is followed, told once it is done.

use std::time::Duration;

use super::Random;
use crate::trace::TraceContext;

/// Takes spans. A node without one follows nothing and pays nothing.
pub trait Spans: Send + Sync {
    /// Takes a span, or drops it: it waits for nothing.
    fn record(&self, span: Span);
}

/// One thing that was done for a request.
#[derive(Clone, Debug)]
pub struct Span {
    /// Its trace, and its own id.
    pub context: TraceContext,
    /// The span that it is a part of; 0 if it is the first of its trace.
    pub parent: u64,
    /// What was done.
    pub name: &'static str,
    /// From when to when, by the environment's monotonic clock.
    pub start: Duration,
    /// See [`start`](Self::start).
    pub end: Duration,
    /// What else is known of it.
    pub numbers: Vec<(&'static str, u64)>,
    /// What else is known of it, in words.
    pub words: Vec<(&'static str, String)>,
    /// Spans of other traces for which it was done as well.
    pub links: Vec<TraceContext>,
    /// Why it came to nothing, if it did.
    pub error: Option<String>,
}

impl Span {
    /// A part of `parent`, with an id of its own.
    pub fn part_of(
        parent: TraceContext,
        name: &'static str,
        start: Duration,
        end: Duration,
        random: &dyn Random,
    ) -> Self {
        Self::of(parent.child(random), parent.span(), name, start, end)
    }

    /// The span `context`, a part of the span `parent`.
    pub fn of(context: TraceContext, parent: u64, name: &'static str, start: Duration, end: Duration) -> Self {
        Self {
            context,
            parent,
            name,
            start,
            end,
            numbers: Vec::new(),
            words: Vec::new(),
            links: Vec::new(),
            error: None,
        }
    }

    /// The same with more known of it.
    #[must_use]
    pub fn with(mut self, name: &'static str, number: u64) -> Self {
        self.numbers.push((name, number));
        self
    }
}
