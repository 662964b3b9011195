//! HTTP for those who watch a node: what it does, and whether it is well.
//!
//! ```text
//!   GET /metrics   what Prometheus scrapes (OpenMetrics text)
//!   GET /healthz   200 while the process is well, 503 once it cannot go on
//!   GET /readyz    200 while the node takes part in its cluster, else 503
//! ```
//!
//! Answers from memory, changes nothing, asks nobody. One request a connection,
//! all of them in one task; a request's headers, a connection's time and the
//! number of connections are bounded.

mod metrics;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming as Body};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use quipu_protocol::environment::{Environment, Listener, Task};
use quipu_protocol::transport::Incoming;
use tokio_util::sync::CancellationToken;

use crate::health::Health;
use crate::listener;
use crate::server::StartError;
use crate::services::SharedNode;

/// A request's line and headers together, bytes: hyper's least.
const MAX_HEADER_BYTES: usize = 8 << 10;
const MAX_HEADERS: usize = 64;

const PLAIN: &str = "text/plain; charset=utf-8";

/// What the answers are about.
pub(crate) struct About {
    pub(crate) shared: SharedNode,
    pub(crate) health: Health,
    /// The CPU time that the node's process has used, microseconds.
    pub(crate) cpu_micros: Arc<dyn Fn() -> u64 + Send + Sync>,
}

/// An address that is listened on.
pub(crate) struct Bound {
    listener: Box<dyn Listener>,
    address: SocketAddr,
}

/// Listens on `address`; nobody is answered yet.
pub(crate) async fn listen(environment: &Environment, address: &str) -> Result<Bound, StartError> {
    let unavailable = |source| StartError::Listen { address: address.to_owned(), source };
    let listener = environment.network.listen(address).await.map_err(unavailable)?;
    let address = listener.local_address().map_err(unavailable)?;
    Ok(Bound { listener, address })
}

/// The node's HTTP server. Dropping it ends it.
pub(crate) struct Http {
    address: SocketAddr,
    serving: Mutex<Option<Task>>,
}

impl Http {
    /// Answers until `severed` is cancelled.
    pub(crate) fn serve(bound: Bound, environment: &Environment, about: About, severed: CancellationToken) -> Self {
        let Bound { listener, address } = bound;
        tracing::info!(http = %address, "metrics and health are served");
        let serving = serve(listener, environment.clone(), Arc::new(about), severed);
        let serving = environment.tasks.spawn("http", Box::pin(serving));
        Self { address, serving: Mutex::new(Some(serving)) }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Resolves once nothing is listened on any more.
    pub(crate) async fn ended(&self) {
        let serving = self.serving.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(serving) = serving {
            let _ = serving.join().await;
        }
    }
}

async fn serve(listener: Box<dyn Listener>, environment: Environment, about: Arc<About>, severed: CancellationToken) {
    let permits = about.shared.http_connections.clone();
    let arriving = listener::connections(listener, &environment, permits, severed.clone());
    let mut arriving = std::pin::pin!(arriving);
    let mut open = FuturesUnordered::new();
    loop {
        tokio::select! {
            biased;
            () = severed.cancelled() => return,
            Some(()) = open.next() => {}
            arrived = arriving.next() => match arrived {
                Some(Ok(connection)) => open.push(answer_one(connection, &environment, Arc::clone(&about))),
                Some(Err(error)) => tracing::debug!(%error, "an HTTP connection came to nothing"),
                None => return,
            },
        }
    }
}

/// Answers one request, then closes the connection.
async fn answer_one(connection: Incoming, environment: &Environment, about: Arc<About>) {
    let limit = Duration::from_millis(about.shared.settings.http_connection_ms);
    let service = service_fn(move |request: Request<Body>| {
        let answer = answer(&about, request.method(), request.uri().path());
        async move { Ok::<_, Infallible>(answer) }
    });
    let served = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(MAX_HEADER_BYTES)
        .max_headers(MAX_HEADERS)
        // The limit on the whole covers it, by the environment's clock.
        .header_read_timeout(None)
        // It would be the operating system's.
        .auto_date_header(false)
        .serve_connection(TokioIo::new(connection), service);
    match environment.clock.timeout(limit, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "an HTTP connection broke"),
        Err(_) => tracing::debug!(limit_ms = limit.as_millis(), "an HTTP connection took too long"),
    }
}

fn answer(about: &About, method: &Method, path: &str) -> Response<Full<Bytes>> {
    let respond = match path {
        "/metrics" => metrics,
        "/healthz" => healthz,
        "/readyz" => readyz,
        _ => return text(StatusCode::NOT_FOUND, "there are /metrics, /healthz and /readyz\n"),
    };
    if !matches!(*method, Method::GET | Method::HEAD) {
        let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "GET and HEAD are allowed\n");
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    respond(about)
}

fn metrics(about: &About) -> Response<Full<Bytes>> {
    match metrics::text(about) {
        Ok(metrics) => with_type(StatusCode::OK, metrics::CONTENT_TYPE, metrics),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("the metrics cannot be written: {error}\n")),
    }
}

fn healthz(about: &About) -> Response<Full<Bytes>> {
    match about.shared.node.failed().now_or_never() {
        None => text(StatusCode::OK, "ok\n"),
        Some(fatal) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{fatal}\n")),
    }
}

fn readyz(about: &About) -> Response<Full<Bytes>> {
    if about.health.is_serving() {
        text(StatusCode::OK, "ok\n")
    } else {
        text(StatusCode::SERVICE_UNAVAILABLE, "the node does not take part in its cluster\n")
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    with_type(status, PLAIN, body)
}

fn with_type(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
