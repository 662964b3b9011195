//! A node: its journal, its replicas, its peers, and its part in the cluster.
//!
//! ```text
//!   start ─▶ identity ─▶ journal ─▶ a cluster ─▶ catalog's replica ─▶ ready
//!               │                   (bootstrap)        │
//!               └ peers' service                       └▶ reconcile ─▶ logs'
//!                 answers from here on                                 replicas
//! ```
//!
//! [`RaftNode::start`] returns before the node has a cluster: its peers have to
//! reach its service for that. [`RaftNode::ready`] tells when it takes part.
//!
//! The server uses this and nothing below it.

mod asking;
mod config;
mod cursor_lags;
mod errors;
mod footprint;
mod inner;
mod inside;
mod leaders;
mod lease_pins;
mod life;
mod mending;
mod readers;
mod reports;
mod scrub;

use std::sync::Arc;

use quipu_protocol::environment::Environment;
use quipu_protocol::peer::catalog_reply::Outcome;
use quipu_protocol::peer::peers_server::PeersServer;
use quipu_protocol::{LogId, LogName, LogPattern, NodeId, ProducerId, ReplicaId, Timestamp, v1};
use quipu_storage::{Disk, Kv, KvError};

use crate::catalog;
use crate::log::LogReplica;
use crate::peers::PeersService;

pub use config::{ConfigError, NodeConfig};
pub use cursor_lags::CursorLag;
pub use errors::{
    AllocateProducerError, CatalogError, ChangeLogError, CreateLogError, Fatal, LogLookupError, NodeStartError,
};
pub use footprint::Gauge;
pub(crate) use inner::{Inner, LogHere, LogState};
pub use inside::{FailedReplica, RunningLog};
pub use readers::RegistrarLookupError;

/// A running node. Clones are handles to the same one. When the last is
/// dropped without a [`shutdown`](Self::shutdown), the node ends as in a crash.
#[derive(Clone)]
pub struct RaftNode {
    handle: Arc<Handle>,
}

/// Ends the node when the last handle to it goes.
struct Handle {
    inner: Arc<Inner>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.inner.let_go();
    }
}

/// A log that exists now.
#[derive(Clone, Debug, PartialEq)]
pub struct CreatedLog {
    /// The log, nothing left to a default.
    pub log: v1::LogSummary,
    /// False when it existed already with an equal configuration.
    pub created: bool,
}

/// A log whose configuration is what was asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct AlteredLog {
    /// The log as it is now.
    pub log: v1::LogSummary,
    /// False when it was so already.
    pub changed: bool,
}

/// A producer id that nobody has had before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllocatedProducer {
    /// The id.
    pub id: ProducerId,
    /// When it was allotted.
    pub allotted_at: Timestamp,
}

impl RaftNode {
    /// Starts a node on `disk`, whose lock the caller holds. `kv` opens the
    /// metadata store in the same directory, and is called once it is known
    /// whose directory that is: metadata without an identity is what is left of
    /// a damaged one. Returns as soon as
    /// [`peers_service`](Self::peers_service) can be served; the rest goes on
    /// by itself.
    pub async fn start(
        config: NodeConfig,
        environment: Environment,
        disk: Arc<dyn Disk>,
        kv: impl FnOnce() -> Result<Arc<dyn Kv>, KvError>,
    ) -> Result<Self, NodeStartError> {
        let inner = Inner::open(config, environment, disk, kv)?;
        inner.begin();
        Ok(Self { handle: Arc::new(Handle { inner }) })
    }

    /// The service that the node's peers call; to be served on its address.
    pub fn peers_service(&self) -> PeersServer<PeersService> {
        PeersServer::new(PeersService::new(Arc::clone(self.inner())))
    }

    /// Waits until the node takes part in its cluster: its replica of the
    /// catalog knows the cluster, and the replicas that it has are started.
    ///
    /// # Errors
    /// When it never will.
    pub async fn ready(&self) -> Result<(), Fatal> {
        self.inner().ready().await
    }

    /// Waits until the node cannot go on.
    pub async fn failed(&self) -> Fatal {
        self.inner().failed().await
    }

    /// This node's replica of the log of that name. Asks the catalog's leader
    /// when the name is new here, and waits a moment for a replica that is
    /// being started.
    ///
    /// # Errors
    /// Says where else to ask.
    pub async fn log(&self, name: &LogName) -> Result<LogReplica, LogLookupError> {
        self.log_as(name, None).await
    }

    /// As [`log`](Self::log); with an `id`, none but the log that has that one.
    ///
    /// # Errors
    /// Says where else to ask. A log that was deleted is unknown, whether there
    /// is another one of its name or not.
    pub async fn log_as(&self, name: &LogName, id: Option<LogId>) -> Result<LogReplica, LogLookupError> {
        let (id, log, replicas) = self.inner().look_up(name, id).await?;
        self.inner().local_log(id, &log, replicas).await
    }

    /// The id of the log of that name, as far as this node knows.
    pub fn log_id(&self, name: &LogName) -> Option<LogId> {
        self.inner().view(|catalog| catalog.log_named(name).map(|(id, _)| id)).flatten()
    }

    /// The nodes that have a replica of the log, as far as this node knows.
    pub fn replicas_of(&self, name: &LogName) -> Vec<v1::Peer> {
        let known = self.inner().view(|catalog| catalog.log_named(name).map(|(_, log)| catalog.peers_of(log)));
        known.flatten().unwrap_or_default()
    }

    /// Where `node` is reached.
    pub fn peer(&self, node: NodeId) -> Option<v1::Peer> {
        let address = self.inner().peers().address(node)?;
        Some(v1::Peer { node: node.get(), address })
    }

    /// Creates a log. A field of `config` that is 0 takes its default.
    ///
    /// # Errors
    /// Names the bound or the reason.
    pub async fn create_log(&self, name: &LogName, config: v1::LogConfig) -> Result<CreatedLog, CreateLogError> {
        let inner = self.inner();
        let max_batch_bytes = match config.max_batch_bytes {
            0 => inner.config().default_batch_bytes,
            asked => asked,
        };
        let config = v1::LogConfig { max_batch_bytes, ..config };
        let reachable = inner.reachable_nodes().await;
        let reply = inner.change(catalog::create_log(name, config, reachable)).await?;
        match reply {
            Outcome::LogCreated(created) => {
                Ok(CreatedLog { log: created.log.unwrap_or_default(), created: created.created })
            }
            Outcome::Error(error) => Err(CreateLogError::Refused(error)),
            other => Err(asking::unexpected(&other).into()),
        }
    }

    /// Changes a log's configuration: that of the one that has the name now, or of
    /// none but the one with this `id`. Every replica follows as its node hears
    /// of it.
    ///
    /// # Errors
    /// Names the bound or the reason.
    pub async fn alter_log(
        &self,
        name: &LogName,
        id: Option<LogId>,
        change: v1::LogAlteration,
    ) -> Result<AlteredLog, ChangeLogError> {
        match self.inner().change_log(name, id, |log| catalog::alter_log(log, change)).await?.1 {
            Outcome::LogAltered(altered) => {
                Ok(AlteredLog { log: altered.log.unwrap_or_default(), changed: altered.changed })
            }
            other => Err(asking::unexpected(&other).into()),
        }
    }

    /// Deletes a log with all its records: the one that has the name now, or
    /// none but the one with this `id`. Returns its id, and whether it was not
    /// gone already. Its name is free at once.
    ///
    /// # Errors
    /// When there is no such log and never was.
    pub async fn delete_log(&self, name: &LogName, id: Option<LogId>) -> Result<(LogId, bool), ChangeLogError> {
        let (id, outcome) = match id {
            Some(id) => (id, self.inner().change_log_as(name, catalog::delete_log(id, name)).await?),
            None => self.inner().change_log(name, None, |id| catalog::delete_log(id, name)).await?,
        };
        match outcome {
            Outcome::LogDeleted(gone) => Ok((id, gone.deleted)),
            other => Err(asking::unexpected(&other).into()),
        }
    }

    /// At most `limit` logs whose names come after `after` and match `pattern`,
    /// by name, as the catalog's leader knows them; and whether there are more.
    ///
    /// # Errors
    /// When the catalog's leader does not answer.
    pub async fn list_logs(
        &self,
        after: &str,
        pattern: Option<&LogPattern>,
        limit: usize,
    ) -> Result<v1::ListLogsResponse, CatalogError> {
        self.inner().refresh().await?;
        let (logs, more) = self.inner().view(|catalog| catalog.logs_after(after, pattern, limit)).unwrap_or_default();
        Ok(v1::ListLogsResponse { logs, more })
    }

    /// A log, with what each of its replicas says of itself.
    ///
    /// # Errors
    /// When there is no such log.
    pub async fn describe_log(&self, name: &LogName) -> Result<v1::DescribeLogResponse, LogLookupError> {
        let (id, log, replicas) = self.inner().look_up(name, None).await?;
        Ok(self.inner().describe(id, &log, &replicas).await)
    }

    /// The cluster as this node sees it, with what each node says of itself.
    pub async fn status(&self) -> v1::StatusResponse {
        self.inner().cluster_status().await
    }

    /// The replicas of the catalog, voters and learners, and their nodes, as
    /// this node's own replica knows them.
    pub fn catalog_replicas(&self) -> Vec<(NodeId, ReplicaId)> {
        let Some(catalog) = self.inner().catalog() else { return Vec::new() };
        catalog.status().membership.replicas.into_iter().map(|(replica, node)| (node, replica)).collect()
    }

    /// A new producer id.
    ///
    /// # Errors
    /// When the catalog's leader does not answer.
    pub async fn allocate_producer(&self) -> Result<AllocatedProducer, AllocateProducerError> {
        // Whoever is given an id is told which log has the name that it is for.
        match self.inner().change_and_see(catalog::allocate_producers(1)).await? {
            Outcome::Producers(allotted) => Ok(AllocatedProducer {
                id: ProducerId::new(allotted.first),
                allotted_at: Timestamp::new(allotted.allotted_at),
            }),
            Outcome::Error(error) => Err(AllocateProducerError::Refused { reason: error.message }),
            other => Err(asking::unexpected(&other).into()),
        }
    }

    /// Hands the leadership of every group it leads to another replica that is
    /// up to date, as far as there is one; done before a shutdown.
    pub async fn hand_over(&self) {
        self.inner().hand_over().await;
    }

    /// Stops every replica and closes the journal.
    pub async fn shutdown(&self) {
        self.inner().shutdown().await;
    }

    /// Its number.
    pub fn id(&self) -> NodeId {
        self.inner().config().node
    }

    fn inner(&self) -> &Arc<Inner> {
        &self.handle.inner
    }
}
