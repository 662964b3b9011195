//! Which appends are followed, and the span of each from when it came until it
//! is answered.

use std::time::Duration;

use quipu_protocol::environment::Span;
use quipu_protocol::trace::{TRACEPARENT, TraceContext};
use quipu_protocol::{LogName, v1};
use quipu_raft::Appended;
use tonic::metadata::MetadataMap;

use super::Shared;
use crate::exporter::APPEND;

/// `telemetry.sample_per_million` is out of so many.
const MILLION: u64 = 1_000_000;

/// The span that a client asks for, if it says so. What is malformed is left
/// aside: the append has nothing to do with it.
pub(super) fn asked_for(metadata: &MetadataMap) -> Option<TraceContext> {
    metadata.get(TRACEPARENT)?.to_str().ok()?.parse().ok()
}

/// An append that is followed.
pub(super) struct Followed {
    context: TraceContext,
    /// The client's span; 0 without one.
    parent: u64,
    start: Duration,
}

impl Followed {
    /// Decides whether an append is followed: as its client has decided, else
    /// by chance.
    pub(super) fn choose(shared: &Shared, asked_for: Option<TraceContext>) -> Option<Self> {
        let environment = &shared.environment;
        environment.spans.as_ref()?;
        let random = &*environment.random;
        let start = environment.clock.monotonic();
        match asked_for {
            Some(parent) if parent.is_sampled() => {
                Some(Self { context: parent.child(random), parent: parent.span(), start })
            }
            Some(_) => None,
            None if random.next() % MILLION < shared.settings.sample_per_million => {
                Some(Self { context: TraceContext::begin(random), parent: 0, start })
            }
            None => None,
        }
    }

    /// What is done for the append is a part of this.
    pub(super) fn context(&self) -> TraceContext {
        self.context
    }

    /// The append is answered.
    pub(super) fn answered(self, shared: &Shared, log: &LogName, bytes: usize, outcome: &Result<Appended, v1::Error>) {
        let Some(spans) = &shared.environment.spans else { return };
        let end = shared.environment.clock.monotonic();
        let mut span = Span::of(self.context, self.parent, APPEND, self.start, end).with("quipu.bytes", bytes as u64);
        span.words.push(("quipu.log", log.to_string()));
        match outcome {
            Ok(appended) => {
                let range = appended.range;
                span = span.with("quipu.start", range.start().get()).with("quipu.end", range.end().get());
            }
            Err(error) => span.error = Some(error.message.clone()),
        }
        spans.record(span);
    }
}
