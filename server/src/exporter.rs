//! Spans on their way to a collector, by OTLP over gRPC.
//!
//! ```text
//!   record ─▶ queue (bounded: what finds no room is dropped and counted)
//!                │ all that wait, up to a batch, at once
//!                ▼
//!             Export ─▶ the collector; one that does not answer costs the batch
//! ```
//!
//! Nothing waits for it: an append is as fast while the collector is down. Time,
//! tasks and the network are the environment's.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Link, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span as Exported, Status};
use quipu_protocol::NodeId;
use quipu_protocol::environment::{Environment, Span, Spans};
use quipu_protocol::transport::{AddressError, ChannelOptions, channel};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

/// The most spans that wait. An append has about ten.
const MAX_WAITING: usize = 4096;
/// The most spans in one request.
const MAX_BATCH: usize = 512;
/// What a collector does not take within this time is given up.
const EXPORT_WITHIN: Duration = Duration::from_secs(5);
/// A collector that does not answer, and spans that found no room, are
/// mentioned no more often than this.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// Takes spans for a collector.
pub(crate) struct Exporter {
    queue: Mutex<Queue>,
    arrived: Notify,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Span>,
    /// Those that found no room since they were last mentioned.
    dropped: u64,
}

impl Spans for Exporter {
    fn record(&self, span: Span) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.waiting.len() >= MAX_WAITING {
            queue.dropped += 1;
            return;
        }
        queue.waiting.push_back(span);
        drop(queue);
        self.arrived.notify_one();
    }
}

impl Exporter {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { queue: Mutex::default(), arrived: Notify::new() })
    }

    /// Sends what is recorded to the collector at `endpoint`, `host:port`, until
    /// `ended` is cancelled.
    pub(crate) fn export(
        self: &Arc<Self>,
        endpoint: &str,
        node: NodeId,
        environment: &Environment,
        ended: CancellationToken,
    ) -> Result<impl Future<Output = ()> + Send + use<>, AddressError> {
        let channel = channel(environment, endpoint, ChannelOptions::default())?;
        let clock = &environment.clock;
        let epoch = u64::try_from(clock.wall().get()).unwrap_or_default();
        let epoch = Duration::from_millis(epoch).saturating_sub(clock.monotonic());
        let sending = Sending {
            exporter: Arc::clone(self),
            client: TraceServiceClient::new(channel),
            endpoint: endpoint.to_owned(),
            resource: resource(node),
            epoch,
            environment: environment.clone(),
            warned: None,
        };
        Ok(sending.run(ended))
    }

    fn take(&self) -> (Vec<Span>, u64) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let count = queue.waiting.len().min(MAX_BATCH);
        let dropped = std::mem::take(&mut queue.dropped);
        (queue.waiting.drain(..count).collect(), dropped)
    }
}

/// The task that sends.
struct Sending {
    exporter: Arc<Exporter>,
    client: TraceServiceClient<Channel>,
    endpoint: String,
    resource: Resource,
    /// What the monotonic clock's zero is by the wall clock, since 1970.
    epoch: Duration,
    environment: Environment,
    warned: Option<Duration>,
}

impl Sending {
    async fn run(mut self, ended: CancellationToken) {
        let mut lost = 0;
        loop {
            let (spans, dropped) = self.exporter.take();
            lost += dropped;
            if spans.is_empty() {
                tokio::select! {
                    biased;
                    () = ended.cancelled() => return,
                    () = self.exporter.arrived.notified() => continue,
                }
            }
            let count = spans.len() as u64;
            let request = self.request(spans);
            let clock = Arc::clone(&self.environment.clock);
            let sent = tokio::select! {
                biased;
                () = ended.cancelled() => return,
                sent = clock.timeout(EXPORT_WITHIN, self.client.export(request)) => sent,
            };
            let reason = match sent {
                Ok(Ok(_)) => None,
                Ok(Err(status)) => Some(status.message().to_owned()),
                Err(_) => Some(format!("no answer within {EXPORT_WITHIN:?}")),
            };
            lost += if reason.is_some() { count } else { 0 };
            if lost > 0 && self.may_warn() {
                let reason = reason.unwrap_or_else(|| format!("more than {MAX_WAITING} waited"));
                tracing::warn!(collector = self.endpoint, lost, reason, "spans were lost");
                lost = 0;
            }
        }
    }

    fn may_warn(&mut self) -> bool {
        let now = self.environment.clock.monotonic();
        let may = self.warned.is_none_or(|before| now.saturating_sub(before) >= WARN_EVERY);
        if may {
            self.warned = Some(now);
        }
        may
    }

    fn request(&self, spans: Vec<Span>) -> ExportTraceServiceRequest {
        let scope = InstrumentationScope {
            name: "quipu".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..InstrumentationScope::default()
        };
        let spans = spans.into_iter().map(|span| exported(span, self.epoch)).collect();
        let scoped = ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() };
        let resource_spans = ResourceSpans {
            resource: Some(self.resource.clone()),
            scope_spans: vec![scoped],
            ..ResourceSpans::default()
        };
        ExportTraceServiceRequest { resource_spans: vec![resource_spans] }
    }
}

/// Who tells it, by OpenTelemetry's names.
fn resource(node: NodeId) -> Resource {
    let attributes = vec![
        word("service.name", "quipu".to_owned()),
        word("service.version", env!("CARGO_PKG_VERSION").to_owned()),
        word("service.instance.id", node.to_string()),
    ];
    Resource { attributes, ..Resource::default() }
}

fn exported(span: Span, epoch: Duration) -> Exported {
    let nanos = |time: Duration| u64::try_from((epoch + time).as_nanos()).unwrap_or(u64::MAX);
    let trace = |context: quipu_protocol::trace::TraceContext| context.trace().to_be_bytes().to_vec();
    let id = |span: u64| if span == 0 { Vec::new() } else { span.to_be_bytes().to_vec() };
    let link = |context: &quipu_protocol::trace::TraceContext| Link {
        trace_id: trace(*context),
        span_id: id(context.span()),
        ..Link::default()
    };
    // What a client asked for; everything else is a part of it.
    let kind = if span.name == APPEND { SpanKind::Server } else { SpanKind::Internal };
    let numbers = span.numbers.into_iter().map(|(key, number)| {
        // Attributes have signed numbers.
        attribute(key, Value::IntValue(i64::try_from(number).unwrap_or(i64::MAX)))
    });
    let words = span.words.into_iter().map(|(key, text)| word(key, text));
    let failed = |message| Status { message, code: StatusCode::Error.into() };
    Exported {
        trace_id: trace(span.context),
        span_id: id(span.context.span()),
        parent_span_id: id(span.parent),
        name: span.name.to_owned(),
        kind: kind.into(),
        start_time_unix_nano: nanos(span.start),
        end_time_unix_nano: nanos(span.end),
        attributes: numbers.chain(words).collect(),
        links: span.links.iter().map(link).collect(),
        status: span.error.map(failed),
        ..Exported::default()
    }
}

/// The span of a client's append, from when it came until it was answered.
pub(crate) const APPEND: &str = "append";

fn word(key: &'static str, text: String) -> KeyValue {
    attribute(key, Value::StringValue(text))
}

fn attribute(key: &'static str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}
