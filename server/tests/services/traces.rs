//! An append that is followed, as a collector is told of it.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::trace::v1::Span;
use quipu_protocol::environment::{Environment, Task};
use quipu_protocol::transport::incoming;
use quipu_protocol::v1;
use quipu_server::config::{Draft, ServerConfig};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status};

use crate::batches::batch;
use crate::node::{LOG, Node, environment, within};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// Passes on what it is told.
struct Collector {
    told: mpsc::UnboundedSender<Span>,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for resource in request.into_inner().resource_spans {
            for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                let _ = self.told.send(span);
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// A collector at collector:4317 of the network in memory.
async fn collector(environment: &Environment) -> (mpsc::UnboundedReceiver<Span>, Task) {
    let (told, spans) = mpsc::unbounded_channel();
    let listener = environment.network.listen("collector:4317").await.expect("is free");
    let service = TraceServiceServer::new(Collector { told });
    let serving = tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming(listener));
    let serving = environment.tasks.spawn("collector", Box::pin(async move { serving.await.expect("serves") }));
    (spans, serving)
}

fn config(sampled: u64) -> ServerConfig {
    let settings = "[journal]\nsegment_bytes = 4194304\n[log]\nlargest_max_batch_bytes = 2097152\n";
    let draft = Draft::new().node(1).toml(settings).and_then(|draft| draft.peers_text("1=node:1"));
    let draft = draft.map(|draft| draft.otlp_endpoint("http://collector:4317"));
    let draft = draft.and_then(|draft| draft.set("telemetry.sample_per_million", sampled));
    draft.and_then(Draft::validate).expect("a valid configuration")
}

async fn node(environment: Environment, config: ServerConfig) -> Node {
    Node::start_in(environment, config).await.having(v1::LogConfig::default()).await
}

async fn append(node: &Node, traceparent: Option<&str>) -> u64 {
    let mut request =
        Request::new(v1::AppendRequest { request: 7, log: LOG.to_owned(), batch: batch(&["a"]), ..Default::default() });
    if let Some(traceparent) = traceparent {
        request.metadata_mut().insert("traceparent", traceparent.parse().expect("ASCII"));
    }
    match within(node.records().append_one(request)).await.expect("is appended").into_inner().outcome {
        Some(v1::append_response::Outcome::Appended(appended)) => appended.start,
        other => panic!("not appended: {other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The spans of one append, by name.
async fn told(spans: &mut mpsc::UnboundedReceiver<Span>) -> BTreeMap<String, Span> {
    let mut told = BTreeMap::new();
    while told.len() < 5 {
        let span = within(spans.recv()).await.expect("the collector runs");
        let name = span.name.clone();
        assert!(told.insert(name, span).is_none(), "each is told once");
    }
    told
}

#[tokio::test]
async fn an_append_can_be_followed_from_its_client_to_its_answer() {
    let environment = environment();
    let (mut spans, _serving) = collector(&environment).await;
    // By chance, none would be followed.
    let node = node(environment, config(0)).await;
    append(&node, None).await;
    append(&node, Some("no traceparent")).await;
    append(&node, Some(&PARENT.replace("-01", "-00"))).await;
    assert_eq!(append(&node, Some(PARENT)).await, 3);

    let told = told(&mut spans).await;
    assert_eq!(told.keys().collect::<Vec<_>>(), ["append", "apply", "journal", "propose", "queue"]);
    for span in told.values() {
        assert_eq!(hex(&span.trace_id), "4bf92f3577b34da6a3ce929d0e0e4736", "{}", span.name);
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano, "{span:?}");
        // 2020 to 2200, in nanoseconds.
        assert!((1_577_836_800_000_000_000..7_258_118_400_000_000_000).contains(&span.start_time_unix_nano));
    }
    let parent = |name: &str| hex(&told[name].parent_span_id);
    let id = |name: &str| hex(&told[name].span_id);
    assert_eq!(parent("append"), "00f067aa0ba902b7", "the client's span");
    assert_eq!((parent("queue"), parent("propose")), (id("append"), id("append")));
    assert_eq!((parent("journal"), parent("apply")), (id("propose"), id("propose")));
    assert!(told["journal"].end_time_unix_nano <= told["apply"].start_time_unix_nano, "fsynced, then applied");
    assert!(told["apply"].end_time_unix_nano <= told["append"].end_time_unix_nano, "applied, then answered");
    let keys = |name: &str| told[name].attributes.iter().map(|it| it.key.clone()).collect::<Vec<_>>();
    assert!(keys("append").contains(&"quipu.log".to_owned()), "{:?}", keys("append"));
    for key in ["quipu.group", "quipu.replica", "quipu.index", "quipu.term"] {
        assert!(keys("journal").contains(&key.to_owned()) && keys("apply").contains(&key.to_owned()), "{key}");
    }
}

#[tokio::test]
async fn appends_are_followed_by_chance_where_clients_do_not_say() {
    let environment = environment();
    let (mut spans, _serving) = collector(&environment).await;
    let node = node(environment, config(1_000_000)).await;
    append(&node, None).await;
    let told = told(&mut spans).await;
    assert!(told["append"].parent_span_id.is_empty() && told["append"].trace_id.iter().any(|byte| *byte != 0));
}

#[tokio::test]
async fn a_collector_that_is_down_stops_no_append() {
    let node = node(environment(), config(1_000_000)).await;
    for offset in 0..50 {
        assert_eq!(append(&node, None).await, offset);
    }
}
