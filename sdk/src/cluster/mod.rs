//! Which node to ask, and asking again: everything that hides a cluster's
//! failing nodes from its users.
//!
//! ```text
//!   Cluster ── Directory   what is known: nodes, leaders      (pure)
//!      │       Channels    one connection an address
//!      └─ Pursuit          one operation's way to an answer
//!           ├─ Route       whom it has asked in this round    (pure)
//!           └─ Backoff     how long it waits between rounds   (pure)
//! ```
//!
//! A pursuit goes in rounds. Within a round each node is asked at most once
//! and without waiting, the leader as far as it is known first; between rounds
//! there is a wait that grows. What an answer means for the next step is
//! decided in one place, [`verdict`].

mod backoff;
mod channels;
mod directory;
mod pursuit;
mod route;
pub(crate) mod verdict;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quipu_protocol::NodeId;
use quipu_protocol::environment::{Environment, Task};
use quipu_protocol::v1;
use quipu_protocol::v1::cluster_client::ClusterClient;
use tonic::transport::Channel;
use tonic::{Response, Status};

pub(crate) use channels::{MAX_MESSAGE_BYTES, ReadingChannel};
pub(crate) use directory::Target;
pub(crate) use pursuit::{Pursuit, PursuitError};

use crate::{ClientConfig, ConfigError, FailedAttempt};
use channels::Channels;
use directory::Directory;
use verdict::Failure;

/// A cluster and what is known of it, shared by all that use one client.
pub(crate) struct Cluster {
    pub(crate) environment: Environment,
    pub(crate) config: ClientConfig,
    channels: Channels,
    directory: Mutex<Directory>,
    discovery: Mutex<Option<Task>>,
}

impl Cluster {
    pub(crate) fn new(config: ClientConfig, environment: Environment) -> Result<Arc<Self>, ConfigError> {
        config.validate()?;
        let channels = Channels::new(environment.clone(), &config);
        // Every bootstrap address is checked now, not when it is needed.
        for address in &config.bootstrap {
            channels.shared(address)?;
        }
        let directory = Mutex::new(Directory::new(config.bootstrap.clone()));
        Ok(Arc::new(Self { environment, config, channels, directory, discovery: Mutex::new(None) }))
    }

    /// Asks the node that `target` describes, going from node to node and
    /// trying again until there is an answer or `retry_timeout` has passed.
    pub(crate) async fn call<T, F>(
        self: &Arc<Self>,
        target: Target,
        request: impl Fn(Channel) -> F,
    ) -> Result<Answer<T>, PursuitError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        self.call_within(self.config.request_timeout, target, request).await
    }

    /// The same, with `limit` for each attempt.
    pub(crate) async fn call_within<T, F>(
        self: &Arc<Self>,
        limit: Duration,
        target: Target,
        request: impl Fn(Channel) -> F,
    ) -> Result<Answer<T>, PursuitError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let mut pursuit = Pursuit::new(Arc::clone(self), target, Some(self.config.retry_timeout));
        loop {
            let address = pursuit.next_address().await?;
            match self.attempt(limit, &address, &request).await {
                Ok(value) => {
                    pursuit.succeeded(&address);
                    return Ok(Answer { address, value });
                }
                Err(failure) => pursuit.failed(&address, failure)?,
            }
        }
    }

    /// One attempt at one node, within `limit`.
    async fn attempt<T, F>(&self, limit: Duration, address: &str, request: &impl Fn(Channel) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let channel = self.channel(address)?;
        match self.environment.clock.timeout(limit, request(channel)).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(verdict::of_status(address, &status)),
            Err(_) => {
                // The connection may be dead without knowing: dial anew.
                self.channels.discard(address);
                Err(verdict::timed_out(address, limit))
            }
        }
    }

    /// The connection to `address` that requests and appends share.
    pub(crate) fn channel(&self, address: &str) -> Result<Channel, Failure> {
        self.channels.shared(address).map_err(|error| verdict::bad_address(address, error))
    }

    /// A reader's place on a connection to `address`.
    pub(crate) fn reading_channel(&self, address: &str) -> Result<ReadingChannel, Failure> {
        self.channels.reading(address).map_err(|error| verdict::bad_address(address, error))
    }

    /// Gives no other reader a place on a connection that is suspected dead.
    pub(crate) fn discard_reading_channel(&self, address: &str, channel: &ReadingChannel) {
        self.channels.discard_reading(address, channel);
    }

    /// Dials `address` anew the next time: its connection is suspected dead.
    pub(crate) fn discard_channel(&self, address: &str) {
        self.channels.discard(address);
    }

    /// The monotonic clock.
    pub(crate) fn now(&self) -> Duration {
        self.environment.clock.monotonic()
    }

    /// The address of `node`, if it is known by now.
    pub(crate) fn address_of(&self, node: NodeId) -> Option<String> {
        self.directory().address_of(node)
    }

    /// Takes in what a node said of all nodes.
    pub(crate) fn learn(&self, status: &v1::StatusResponse) {
        self.directory().learn(status);
    }

    /// Learns the cluster's nodes beside whatever else is going on, unless
    /// that is being done already.
    pub(crate) fn discover(self: &Arc<Self>) {
        let mut discovery = self.discovery.lock().unwrap_or_else(PoisonError::into_inner);
        if discovery.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        // Weak: the task must not keep a cluster that nobody uses any more.
        let weak = Arc::downgrade(self);
        let discover = async move {
            let addresses = weak.upgrade().map(|cluster| cluster.directory().candidates(&Target::Any, 0));
            for address in addresses.unwrap_or_default() {
                let Some(cluster) = weak.upgrade() else { return };
                let request = |channel| async { ClusterClient::new(channel).status(v1::StatusRequest {}).await };
                let limit = cluster.config.request_timeout;
                if let Ok(status) = cluster.attempt(limit, &address, &request).await {
                    return cluster.learn(&status);
                }
            }
        };
        *discovery = Some(self.environment.tasks.spawn("sdk-discovery", Box::pin(discover)));
    }

    fn directory(&self) -> std::sync::MutexGuard<'_, Directory> {
        self.directory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An answer and who gave it.
pub(crate) struct Answer<T> {
    pub(crate) address: String,
    pub(crate) value: T,
}

/// A refusal that ends an operation: `error` is what the node said.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) address: String,
    pub(crate) error: v1::Error,
}

impl Refusal {
    pub(crate) fn attempt(&self) -> FailedAttempt {
        FailedAttempt::Declined { address: self.address.clone(), message: self.error.message.clone() }
    }
}
