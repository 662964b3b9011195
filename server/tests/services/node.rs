//! A node of a cluster of one, and those who speak to it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quipu_protocol::environment::Environment;
use quipu_protocol::transport::{ChannelOptions, channel};
use quipu_protocol::v1;
use quipu_protocol::v1::cluster_client::ClusterClient;
use quipu_protocol::v1::error::Kind;
use quipu_protocol::v1::records_client::RecordsClient;
use quipu_server::config::{Draft, ServerConfig};
use quipu_server::{NodeEnvironment, Server};
use quipu_storage::{Kv, MemoryDisk, MemoryKv};
use tonic::transport::Channel;
use tonic::{Response, Status};
use tonic_health::pb::health_client::HealthClient;

use crate::http::metrics;
use crate::network::MemoryNetwork;

/// Nothing in here takes as long; a test that waits longer has failed.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const LOG: &str = "orders";

/// A node that serves.
pub(crate) struct Node {
    pub(crate) server: Arc<Server>,
    pub(crate) disk: Arc<MemoryDisk>,
    pub(crate) environment: Environment,
}

pub(crate) fn environment() -> Environment {
    Environment { network: Arc::new(MemoryNetwork::default()), ..quipu_sdk::system::environment() }
}

pub(crate) fn outside(environment: &Environment, disk: Arc<MemoryDisk>) -> NodeEnvironment {
    let kv: Arc<dyn Kv> = Arc::new(MemoryKv::new());
    NodeEnvironment {
        environment: environment.clone(),
        disk,
        kv: Arc::new(move || Ok(Arc::clone(&kv))),
        cpu_micros: Arc::new(|| 0),
        log_filter: None,
    }
}

/// Small segments: a disk in memory has to hold them.
pub(crate) fn config(node: u64) -> ServerConfig {
    config_with(node, &[])
}

/// The same, with some settings changed.
pub(crate) fn config_with(node: u64, changed: &[(&str, u64)]) -> ServerConfig {
    let settings = "[journal]\nsegment_bytes = 4194304\n[log]\nlargest_max_batch_bytes = 2097152\n";
    let draft =
        Draft::new().node(node).toml(settings).and_then(|draft| draft.peers_text(&format!("{node}=node:{node}")));
    let draft = draft.map(|draft| draft.http(format!("http:{node}")));
    let draft = changed.iter().fold(draft, |draft, (key, value)| draft.and_then(|draft| draft.set(key, *value)));
    draft.and_then(Draft::validate).expect("a valid configuration")
}

impl Node {
    pub(crate) async fn start() -> Self {
        Self::start_as(config(1)).await
    }

    pub(crate) async fn start_as(config: ServerConfig) -> Self {
        Self::start_in(environment(), config).await
    }

    pub(crate) async fn start_in(environment: Environment, config: ServerConfig) -> Self {
        let disk = Arc::new(MemoryDisk::new(1));
        let outside = outside(&environment, Arc::clone(&disk));
        let server = Server::start(config, outside).await.expect("the node starts");
        within(server.ready()).await.expect("the node takes part");
        Self { server: Arc::new(server), disk, environment }
    }

    /// A node with the log [`LOG`].
    pub(crate) async fn with_log() -> Self {
        Self::with_log_as(config(1)).await
    }

    pub(crate) async fn with_log_as(config: ServerConfig) -> Self {
        Self::start_as(config).await.having(v1::LogConfig::default()).await
    }

    /// The same node with the log [`LOG`], configured so.
    pub(crate) async fn having(self, config: v1::LogConfig) -> Self {
        let node = self;
        node.create(LOG, config).await.expect("the log is created");
        // Its replica elects itself.
        let settled = v1::Consistency::Linearizable;
        within(async {
            while node.offsets_of(LOG, settled).await.is_err() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        node
    }

    pub(crate) fn channel(&self) -> Channel {
        channel(&self.environment, "node:1", ChannelOptions::default()).expect("an address")
    }

    pub(crate) fn records(&self) -> RecordsClient<Channel> {
        RecordsClient::new(self.channel()).max_decoding_message_size(64 << 20).max_encoding_message_size(128 << 20)
    }

    pub(crate) fn cluster(&self) -> ClusterClient<Channel> {
        ClusterClient::new(self.channel())
    }

    pub(crate) fn health(&self) -> HealthClient<Channel> {
        HealthClient::new(self.channel())
    }

    pub(crate) async fn create(&self, name: &str, config: v1::LogConfig) -> Result<v1::CreateLogResponse, Status> {
        let request = v1::CreateLogRequest { name: name.to_owned(), config: Some(config) };
        within(self.cluster().create_log(request)).await.map(Response::into_inner)
    }

    pub(crate) async fn append(&self, log: &str, batch: Bytes) -> Result<v1::Appended, Status> {
        self.append_as(v1::AppendRequest { log: log.to_owned(), batch, ..v1::AppendRequest::default() }).await
    }

    /// Appends by one call, whatever its number is.
    pub(crate) async fn append_as(&self, request: v1::AppendRequest) -> Result<v1::Appended, Status> {
        let request = v1::AppendRequest { request: 7, ..request };
        let response = within(self.records().append_one(request)).await?.into_inner();
        assert_eq!(response.request, 7, "the answer repeats the request's number");
        match response.outcome {
            Some(v1::append_response::Outcome::Appended(appended)) => Ok(appended),
            other => panic!("a unary append answers with a status or what was appended, not {other:?}"),
        }
    }

    pub(crate) async fn offsets_of(
        &self,
        log: &str,
        consistency: v1::Consistency,
    ) -> Result<v1::OffsetsResponse, Status> {
        let request = v1::OffsetsRequest {
            log: log.to_owned(),
            consistency: consistency.into(),
            ..v1::OffsetsRequest::default()
        };
        within(self.records().offsets(request)).await.map(Response::into_inner)
    }

    /// Waits until so many commands wait for their turn.
    pub(crate) async fn waiting_commands(&self, count: u32) {
        within(async {
            let waiting = "quipu_resource_used{resource=\"waiting_commands\"}";
            while metrics(&self.environment).await[waiting] != f64::from(count) {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// The last entry of [`LOG`] that was applied.
    pub(crate) async fn applied(&self) -> u64 {
        self.described().await.replicas[0].applied_index
    }

    /// What the node says of [`LOG`].
    pub(crate) async fn described(&self) -> v1::DescribeLogResponse {
        let request = v1::DescribeLogRequest { name: LOG.to_owned() };
        within(self.cluster().describe_log(request)).await.map(Response::into_inner).expect("is described")
    }

    /// The end of [`LOG`]: whether something has changed.
    pub(crate) async fn end(&self) -> u64 {
        self.offsets_of(LOG, v1::Consistency::Linearizable).await.expect("the offsets").end
    }
}

/// The kind of error that `status` carries.
pub(crate) fn kind(status: &Status) -> Kind {
    let error = v1::Error::from_status(status).unwrap_or_else(|| panic!("{status:?} carries no typed error"));
    assert_eq!(error.message, status.message(), "the message is the same for people and programs");
    error.kind.unwrap_or_else(|| panic!("{status:?} has no kind"))
}

pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it does not take that long")
}
