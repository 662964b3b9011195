//! The assembly of a node, and its life from start to shutdown.
//!
//! ```text
//!   start     listen ─▶ RaftNode ─▶ serve (health: NOT_SERVING)
//!                                      │ the node takes part
//!                                      ▼
//!                                   SERVING ──── failed: a reason for the operator
//!                                      │ asked to end
//!                                      ▼
//!   shutdown  NOT_SERVING ─▶ hand leadership over ─▶ stop accepting, end
//!             streams ─▶ wait for requests, at most the grace ─▶ cut
//!             connections, the peers' and HTTP's too ─▶ close the storage
//! ```
//!
//! The node serves before it takes part, because its peers have to reach it
//! for that.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use quipu_protocol::NodeId;
use quipu_protocol::environment::{BoxFuture, Environment, Task};
use quipu_protocol::transport::{AddressError, MAX_FRAME_BYTES};
use quipu_protocol::v1::cluster_server::ClusterServer;
use quipu_protocol::v1::cursors_server::CursorsServer;
use quipu_protocol::v1::operator_server::OperatorServer;
use quipu_protocol::v1::reader_groups_server::ReaderGroupsServer;
use quipu_protocol::v1::records_server::RecordsServer;
use quipu_raft::node::{Fatal, Gauge, NodeStartError};
use quipu_raft::{GroupOptions, LogOptions, NodeConfig, RaftNode};
use quipu_storage::journal::JournalConfig;
use quipu_storage::{Disk, Kv, KvError};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{ServerConfig, Settings};
use crate::exporter::Exporter;
use crate::health::Health;
use crate::http::{self, About, Http};
use crate::listener::{self, Permits};
use crate::reflection;
use crate::services::{
    ClusterService, CursorsService, MAX_MESSAGE_BYTES, OperatorService, ReaderGroupsService, RecordsService, Shared,
    Tallies,
};
use crate::telemetry::LogFilter;

/// HTTP/2 flow-control windows, bytes: of one stream, and of a connection's
/// streams together. Room for a few batches on their way on a fast link.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// How many requests one connection carries at a time.
pub(crate) const MAX_STREAMS_PER_CONNECTION: u32 = 1024;
/// An idle connection is probed this often and dropped when a probe stays
/// unanswered as long again.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// The part of the grace that handing leadership over may take.
const HAND_OVER_SHARE: u32 = 2;
/// At the end, connections get so long to send what has been answered.
const LAST_ANSWERS: Duration = Duration::from_millis(200);

/// Opens the node's metadata store. Called once, when the node starts.
pub type KvFactory = Arc<dyn Fn() -> Result<Arc<dyn Kv>, KvError> + Send + Sync>;

/// Everything a node takes from outside: `quipu serve` passes the operating
/// system's, the simulator its own.
#[derive(Clone)]
pub struct NodeEnvironment {
    /// Time, chance, tasks and network.
    pub environment: Environment,
    /// The data directory.
    pub disk: Arc<dyn Disk>,
    /// Opens the metadata store inside the data directory.
    pub kv: KvFactory,
    /// The CPU time that the node's process has used, microseconds.
    pub cpu_micros: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// What the process logs, if a node may change it when its operator asks.
    pub log_filter: Option<LogFilter>,
}

/// A running node. Dropping it ends the node as a crash does; see
/// [`shutdown`](Self::shutdown).
pub struct Server {
    shared: Arc<Shared>,
    health: Health,
    address: SocketAddr,
    grace: Duration,
    severed: CancellationToken,
    serving: Mutex<Option<Task>>,
    http: Option<Http>,
    _announcing: Task,
    _exporting: Option<Task>,
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The listen address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// What was configured.
        address: String,
        /// What the network said.
        source: std::io::Error,
    },
    /// Where spans are to be sent is no address.
    #[error("telemetry.otlp_endpoint: {0}")]
    Collector(#[from] AddressError),
    /// The node refuses its configuration or its data directory.
    #[error(transparent)]
    Node(#[from] NodeStartError),
}

/// Why a node that had started cannot go on.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{reason}")]
pub struct Failure {
    /// What happened and what to do, for the operator.
    pub reason: String,
}

impl Server {
    /// Assembles and starts a node. Returns once it listens;
    /// [`ready`](Self::ready) resolves once it takes part.
    pub async fn start(config: ServerConfig, outside: NodeEnvironment) -> Result<Self, StartError> {
        let NodeEnvironment { mut environment, disk, kv, cpu_micros, log_filter } = outside;
        let severed = CancellationToken::new();
        let exporting = match config.otlp_endpoint() {
            Some(endpoint) => Some(export_spans(&mut environment, endpoint, config.node(), &severed)?),
            None => None,
        };
        let unavailable = |source| StartError::Listen { address: config.listen().to_owned(), source };
        let listener = environment.network.listen(config.listen()).await.map_err(unavailable)?;
        let address = listener.local_address().map_err(unavailable)?;
        let http = match config.http() {
            Some(address) => Some(http::listen(&environment, address).await?),
            None => None,
        };
        let tallies = Arc::new(Tallies::default());
        let counted = Arc::clone(&tallies);
        let node_config = NodeConfig {
            cpu_micros: Arc::clone(&cpu_micros),
            services: Arc::new(move || counted.counters()),
            ..node_config(&config)
        };
        let node = RaftNode::start(node_config, environment.clone(), disk, || kv()).await?;

        let settings = config.settings().clone();
        let shared = Arc::new(Shared {
            node,
            node_id: config.node(),
            environment: environment.clone(),
            ending: CancellationToken::new(),
            busy: TaskTracker::new(),
            windows: Arc::default(),
            tallies,
            connections: Permits::new("server.max_connections", settings.max_connections),
            http_connections: Permits::new("server.http_connections", settings.http_connections),
            settings,
        });
        let (health, health_service) = Health::new().await;
        let connections = listener::connections(listener, &environment, shared.connections.clone(), severed.clone());
        let records = RecordsServer::new(RecordsService::new(Arc::clone(&shared)));
        let cluster = ClusterServer::new(ClusterService::new(Arc::clone(&shared)));
        let serving = tonic::transport::Server::builder()
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_frame_size(MAX_FRAME_BYTES)
            .max_concurrent_streams(MAX_STREAMS_PER_CONNECTION)
            .http2_keepalive_interval(Some(KEEP_ALIVE))
            .http2_keepalive_timeout(Some(KEEP_ALIVE))
            .add_service(health_service)
            .add_service(records.max_decoding_message_size(MAX_MESSAGE_BYTES))
            .add_service(cluster)
            .add_service(ReaderGroupsServer::new(ReaderGroupsService::new(Arc::clone(&shared))))
            .add_service(CursorsServer::new(CursorsService::new(Arc::clone(&shared))))
            .add_service(OperatorServer::new(OperatorService::new(log_filter)))
            .add_optional_service((shared.settings.reflection == 1).then(reflection::service))
            .add_service(shared.node.peers_service())
            .serve_with_incoming_shutdown(connections, shared.ending.clone().cancelled_owned());
        let serving: BoxFuture<'static, ()> = Box::pin(async move {
            if let Err(error) = serving.await {
                tracing::error!(%error, "the listener ended");
            }
        });
        let serving = environment.tasks.spawn("serve", serving);
        let http = http.map(|bound| {
            let about = About { shared: Arc::clone(&shared), health: health.clone(), cpu_micros };
            Http::serve(bound, &environment, about, severed.clone())
        });
        let announcing = announce(&config, address, Arc::clone(&shared), health.clone());
        Ok(Self {
            _exporting: exporting,
            _announcing: environment.tasks.spawn("announce", Box::pin(announcing)),
            health,
            address,
            grace: Duration::from_millis(shared.settings.shutdown_grace_ms),
            severed,
            http,
            serving: Mutex::new(Some(serving)),
            shared,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it answers HTTP, if it does.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http.as_ref().map(Http::address)
    }

    /// The node under the services, for tests that look inside.
    pub fn node(&self) -> &RaftNode {
        &self.shared.node
    }

    /// What the node holds of everything that is bounded, for tests that look
    /// inside.
    pub fn footprint(&self) -> Vec<Gauge> {
        self.shared.footprint()
    }

    /// Resolves once the node takes part in its cluster (health is SERVING).
    pub async fn ready(&self) -> Result<(), Failure> {
        self.shared.node.ready().await.map_err(Failure::of)?;
        self.health.serving().await;
        Ok(())
    }

    /// Resolves when the node cannot go on: a failed fsync, say. The caller
    /// ends the process.
    pub async fn failed(&self) -> Failure {
        Failure::of(self.shared.node.failed().await)
    }

    /// Hands leadership over, stops accepting, lets requests finish until the
    /// configured grace has passed, and closes the storage. Called again, it
    /// does nothing.
    pub async fn shutdown(&self) {
        let serving = self.serving.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(serving) = serving else { return };
        let clock = &self.shared.environment.clock;
        let began = clock.monotonic();
        self.health.not_serving().await;
        let has_failed = self.shared.node.failed().now_or_never().is_some();
        if !has_failed && clock.timeout(self.grace / HAND_OVER_SHARE, self.shared.node.hand_over()).await.is_err() {
            tracing::warn!("leadership was not handed over in time: the followers will elect");
        }
        self.shared.ending.cancel();
        self.health.close().await;
        self.shared.busy.close();
        let left = self.grace.saturating_sub(clock.monotonic().saturating_sub(began));
        if clock.timeout(left, self.shared.busy.wait()).await.is_err() {
            tracing::warn!(grace_ms = self.grace.as_millis(), "requests were still running: cutting them");
        }
        // Until here the peers were heard, for the sake of what was in flight.
        // Their connections do not end by themselves; the clients' last answers
        // are still leaving. Owned by the timeout, the listener goes with it.
        let _ = clock.timeout(LAST_ANSWERS, serving.join()).await;
        self.severed.cancel();
        if let Some(http) = &self.http {
            http.ended().await;
        }
        self.shared.node.shutdown().await;
        tracing::info!("the node has ended");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.severed.cancel();
    }
}

impl Failure {
    fn of(fatal: Fatal) -> Self {
        let advice = match &fatal {
            Fatal::Journal { .. } => {
                "nobody knows now what the disk holds, so nothing more is written to it. See what is wrong with the \
                 disk or its space and start the node again: it recovers what is there and gets the rest from its peers"
            }
            Fatal::Storage { .. } => "see what is wrong with the disk and start the node again",
            Fatal::Refused { .. } => {
                "see whether the node's number, peers and data directory are those of this cluster"
            }
            Fatal::OtherCluster { .. } => {
                "it took no part in either. Give the node the data directory and the peers of one cluster"
            }
            Fatal::Catalog { .. } => "start the node again; if it fails again, its data directory is damaged",
        };
        Self { reason: format!("{fatal}; {advice}") }
    }
}

/// Has what is done for appends that are followed told to a collector.
fn export_spans(
    environment: &mut Environment,
    endpoint: &str,
    node: NodeId,
    ended: &CancellationToken,
) -> Result<Task, AddressError> {
    let exporter = Exporter::new();
    let export = exporter.export(endpoint, node, environment, ended.clone())?;
    environment.spans = Some(exporter);
    Ok(environment.tasks.spawn("spans", Box::pin(export)))
}

/// Says what the operator wants to know of a start, and sets the health.
fn announce(
    config: &ServerConfig,
    address: SocketAddr,
    shared: Arc<Shared>,
    health: Health,
) -> impl Future<Output = ()> + Send + 'static {
    let data = config.data_directory().map(|path| path.display().to_string()).unwrap_or_default();
    let peers: Vec<String> = config.peers().iter().map(|(node, address)| format!("{node}={address}")).collect();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        node = config.node().get(),
        listen = %address,
        advertised = config.advertised(),
        data,
        peers = peers.join(","),
        "the node starts"
    );
    async move {
        // A failure is reported by whoever waits for it.
        if shared.node.ready().await.is_ok() && !shared.ending.is_cancelled() {
            health.set_serving().await;
            tracing::info!("the node serves");
        }
    }
}

fn node_config(config: &ServerConfig) -> NodeConfig {
    let settings = config.settings();
    NodeConfig {
        peers: config.peers().clone(),
        group: group_options(settings),
        log: log_options(settings),
        journal: JournalConfig {
            segment_bytes: settings.segment_bytes,
            tail_cache_bytes: settings.tail_cache_bytes,
            low_space_bytes: settings.low_space_bytes,
            ..JournalConfig::default()
        },
        scrub_bytes_per_second: settings.scrub_bytes_per_second,
        scrub_interval: Duration::from_millis(settings.scrub_interval_ms),
        max_clock_skew: Duration::from_millis(settings.max_clock_skew_ms),
        // In range of u32: the setting's upper bound is 64 MiB.
        default_batch_bytes: u32::try_from(settings.max_batch_bytes).unwrap_or(u32::MAX),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..NodeConfig::new(config.node(), config.advertised())
    }
}

fn group_options(settings: &Settings) -> GroupOptions {
    GroupOptions {
        heartbeat: Duration::from_millis(settings.heartbeat_ms),
        election_min: Duration::from_millis(settings.election_timeout_min_ms),
        election_max: Duration::from_millis(settings.election_timeout_max_ms),
        checkpoint_bytes: settings.checkpoint_bytes,
        replication_bytes: settings.replication_bytes,
        floor_step_bytes: settings.floor_step_bytes,
    }
}

fn log_options(settings: &Settings) -> LogOptions {
    LogOptions {
        append_queue_bytes: settings.append_queue_bytes,
        staged_bytes: settings.staged_bytes,
        max_batch_bytes: settings.largest_max_batch_bytes,
        cursor_commit_interval: Duration::from_millis(settings.cursor_commit_interval_ms),
        ..LogOptions::default()
    }
}
