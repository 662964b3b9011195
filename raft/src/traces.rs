//! What a replica does for the appends that are followed: the spans of its
//! queue, its journal and its machine.
//!
//! ```text
//!   leader     queue │ propose ─────────────────────────┐
//!              journal ──┤ fsynced   apply ─┤           answered
//!   followers       journal ──┤ fsynced      apply ─┤
//! ```
//!
//! The entry itself carries its trace to the followers: 27 bytes, and only in
//! entries that are followed. A replica that records nothing looks at none.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use quipu_protocol::environment::{Clock, Environment, Random, Span, Spans};
use quipu_protocol::trace::TraceContext;
use quipu_protocol::{LogId, stored};
use quipu_storage::journal::{EntryId, ReplicaKey};

/// Records a log's replica's spans.
#[derive(Clone)]
pub(crate) struct Traces {
    key: ReplicaKey,
    spans: Arc<dyn Spans>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

impl Traces {
    /// None where nothing is recorded, and for the catalog.
    pub(crate) fn of(key: ReplicaKey, environment: &Environment) -> Option<Self> {
        let spans = environment.spans.clone().filter(|_| key.group != LogId::CATALOG)?;
        let (clock, random) = (Arc::clone(&environment.clock), Arc::clone(&environment.random));
        Some(Self { key, spans, clock, random })
    }

    pub(crate) fn now(&self) -> Duration {
        self.clock.monotonic()
    }

    /// The span that proposed `command`, if that is followed.
    pub(crate) fn proposed_by(command: &Bytes) -> Option<TraceContext> {
        // A command that cannot be decoded is its machine's to refuse.
        let stored::TracedCommand { trace } = stored::TracedCommand::decode(command.clone()).ok()?;
        TraceContext::from_bytes(&trace)
    }

    /// This replica has done `name` for `entry`, from `start` until now.
    pub(crate) fn done_for(&self, entry: EntryId, proposed_by: TraceContext, name: &'static str, start: Duration) {
        let span = Span::part_of(proposed_by, name, start, self.now(), &*self.random);
        self.record(span.with("quipu.index", entry.index.get()).with("quipu.term", entry.term.get()));
    }

    /// The appends `asked`, each with when it came, leave the queue as one entry.
    pub(crate) fn proposed(&self, asked: impl IntoIterator<Item = (TraceContext, Duration)>) -> Option<Proposal> {
        let start = self.now();
        let mut followed = Vec::new();
        for (context, since) in asked {
            self.record(Span::part_of(context, "queue", since, start, &*self.random));
            followed.push(context);
        }
        let mut followed = followed.into_iter();
        let first = followed.next()?;
        let context = first.child(&*self.random);
        Some(Proposal { traces: self.clone(), context, parent: first.span(), others: followed.collect(), start })
    }

    fn record(&self, span: Span) {
        self.spans.record(span.with("quipu.group", self.key.group.get()).with("quipu.replica", self.key.replica.get()));
    }
}

/// An entry that is followed, from its proposal until its answer.
pub(crate) struct Proposal {
    traces: Traces,
    /// The proposal's own span, a part of the first append's.
    context: TraceContext,
    parent: u64,
    /// The other followed appends of the entry. Each is told where to look.
    others: Vec<TraceContext>,
    start: Duration,
}

impl Proposal {
    /// What the entry carries.
    pub(crate) fn carried(&self) -> Bytes {
        Bytes::copy_from_slice(&self.context.to_bytes())
    }

    /// The entry is answered.
    pub(crate) fn answered(self, error: Option<String>) {
        let Self { traces, context, parent, others, start } = self;
        let end = traces.now();
        for other in others {
            let mut span = Span::part_of(other, "propose", start, end, &*traces.random);
            span.links = vec![context];
            span.error.clone_from(&error);
            traces.record(span);
        }
        let mut span = Span::of(context, parent, "propose", start, end);
        span.error = error;
        traces.record(span);
    }
}
