//! What the cluster says of itself at one time.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use quipu_sdk::{Client, ClusterStatus, Environment, LogDescription, LogName, RequestError};

/// The most logs that are asked for in one sample: each is one request, and
/// the node that gets it asks the log's replicas.
pub(super) const MAX_LOGS: usize = 200;
/// How many logs are asked for at a time.
const AT_A_TIME: usize = 16;

/// The cluster at one time.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    /// When its nodes were asked, by the monotonic clock.
    pub(super) at: Duration,
    /// When its logs were.
    pub(super) logs_at: Duration,
    pub(super) status: ClusterStatus,
    /// At most [`MAX_LOGS`] of the logs whose names fit the filter, by name.
    pub(super) logs: Vec<LogDescription>,
    /// How many logs' names fit it.
    pub(super) fitting: usize,
}

/// Takes samples.
#[derive(Clone)]
pub(super) struct Sampler {
    client: Client,
    environment: Environment,
    /// The names of the last listing.
    names: Vec<LogName>,
}

impl Sampler {
    pub(super) fn new(client: Client, environment: Environment) -> Self {
        Self { client, environment, names: Vec::new() }
    }

    /// The cluster now. While no majority can say which logs there are, those
    /// that there were are asked for.
    ///
    /// # Errors
    /// When no node answers.
    pub(super) async fn sample(&mut self, filter: &str) -> Result<Sample, RequestError> {
        let now = || self.environment.clock.monotonic();
        let (status, listed) = futures_util::join!(
            async { self.client.status().await.map(|status| (now(), status)) },
            self.client.list_logs()
        );
        let (at, status) = status?;
        if let Ok(listed) = listed {
            self.names = listed.into_iter().map(|log| log.name).collect();
        }
        let fitting: Vec<&LogName> = self.names.iter().filter(|name| name.as_str().contains(filter)).collect();
        let asked = fitting.iter().take(MAX_LOGS).map(|name| self.client.describe_log(name));
        // One that was deleted meanwhile, or that nobody can tell of, is left out.
        let logs = stream::iter(asked).buffered(AT_A_TIME).filter_map(|told| std::future::ready(told.ok()));
        let logs: Vec<LogDescription> = logs.collect().await;
        Ok(Sample { at, logs_at: now(), status, logs, fitting: fitting.len() })
    }
}
