//! Which cluster a command talks to.

use std::time::Duration;

use clap::Args;
use quipu_sdk::{Client, ClientConfig, Environment};

use super::failure::Failure;

/// Where the cluster is and how long to try.
#[derive(Debug, Args)]
#[command(next_help_heading = "Reaching the cluster")]
pub(crate) struct ConnectionArguments {
    /// Addresses of some of the cluster's nodes, host:port,host:port,… One
    /// that answers is enough.
    #[arg(
        long,
        global = true,
        value_name = "ADDRESS,…",
        env = "QUIPU_BOOTSTRAP",
        hide_env_values = true,
        value_delimiter = ','
    )]
    bootstrap: Vec<String>,
    /// Go on trying for so many seconds before giving up: exit code 4 when
    /// nothing was changed for sure, 3 when something may have been. An election
    /// takes about one. Unless given, 30; for a record that is appended, 120.
    #[arg(long, global = true, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: Option<u64>,
}

impl ConnectionArguments {
    /// A client, not connected yet.
    pub(crate) fn client(&self, environment: &Environment) -> Result<Client, Failure> {
        Ok(Client::new(self.config()?, environment.clone())?)
    }

    /// One that, unless the command line says otherwise, gives up after
    /// `patience`: what is asked again and again need not be tried for long.
    pub(crate) fn impatient_client(&self, environment: &Environment, patience: Duration) -> Result<Client, Failure> {
        let mut config = self.config()?;
        config.retry_timeout = self.timeout().unwrap_or(patience);
        config.request_timeout = config.request_timeout.min(config.retry_timeout);
        Ok(Client::new(config, environment.clone())?)
    }

    fn config(&self) -> Result<ClientConfig, Failure> {
        if self.bootstrap.is_empty() {
            let message = "which cluster? Name some of its nodes: --bootstrap host:port,host:port or QUIPU_BOOTSTRAP";
            return Err(Failure::Usage(message.to_owned()));
        }
        let mut config = ClientConfig::new(self.bootstrap.iter().map(|address| address.trim()));
        config.retry_timeout = self.timeout().unwrap_or(config.retry_timeout);
        Ok(config)
    }

    /// How long to try, if the command line says so.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        self.timeout.map(Duration::from_secs)
    }
}
