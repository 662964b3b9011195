//! Whether the node serves, as `grpc.health.v1` tells it: as a whole (the
//! empty name) and for each service.

use quipu_protocol::peer::peers_server::PeersServer;
use quipu_protocol::v1::cluster_server::ClusterServer;
use quipu_protocol::v1::cursors_server::CursorsServer;
use quipu_protocol::v1::operator_server::OperatorServer;
use quipu_protocol::v1::records_server::RecordsServer;
use tokio::sync::watch;
use tonic::server::NamedService;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::HealthReporter;

/// What the health service answers for, beside the node as a whole.
const SERVICES: [&str; 5] = [
    <CursorsServer<()> as NamedService>::NAME,
    <RecordsServer<()> as NamedService>::NAME,
    <ClusterServer<()> as NamedService>::NAME,
    <OperatorServer<()> as NamedService>::NAME,
    PEERS,
];
const PEERS: &str = <PeersServer<()> as NamedService>::NAME;

/// Sets what the health service answers.
#[derive(Clone)]
pub(crate) struct Health {
    reporter: HealthReporter,
    serving: watch::Sender<bool>,
}

impl Health {
    /// Not serving yet; and the service that says so.
    pub(crate) async fn new() -> (Self, HealthServer<impl tonic_health::pb::health_server::Health>) {
        let (reporter, service) = tonic_health::server::health_reporter();
        let health = Self { reporter, serving: watch::Sender::new(false) };
        health.not_serving().await;
        (health, service)
    }

    /// The node takes part.
    pub(crate) async fn set_serving(&self) {
        self.set(ServingStatus::Serving).await;
        self.serving.send_replace(true);
    }

    /// The node does not take part, yet or any more.
    pub(crate) async fn not_serving(&self) {
        self.serving.send_replace(false);
        self.set(ServingStatus::NotServing).await;
    }

    /// Ends what watches the health, so that nothing keeps a connection open.
    pub(crate) async fn close(&self) {
        let mut reporter = self.reporter.clone();
        for service in SERVICES.iter().copied().chain([""]) {
            reporter.clear_service_status(service).await;
        }
    }

    /// Whether the node takes part now.
    pub(crate) fn is_serving(&self) -> bool {
        *self.serving.borrow()
    }

    /// Resolves once the node serves.
    pub(crate) async fn serving(&self) {
        // The sender lives as long as this does: waiting cannot fail.
        let _ = self.serving.subscribe().wait_for(|serving| *serving).await;
    }

    async fn set(&self, status: ServingStatus) {
        for service in SERVICES.iter().copied().chain([""]) {
            self.reporter.set_service_status(service, status).await;
        }
    }
}
