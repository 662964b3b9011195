//! `quipu serve`: one node, from flags to exit code.

use std::process::ExitCode;

use clap::Args;
use quipu_server::config::{ConfigError, Draft, ServerConfig};
use quipu_server::telemetry::LogFilter;
use quipu_server::{NodeEnvironment, Server, system, telemetry};
use sd_notify::NotifyState;

use super::config::ConfigArguments;
use super::signals::Signals;
use super::{REFUSED, USAGE, complain};

/// Run one node of a cluster.
///
/// The node serves until it gets SIGINT or SIGTERM; it then hands its
/// leaderships over, lets requests finish and exits with 0. A second signal
/// ends it at once. Settings come from the defaults, then the file, then
/// environment variables, then the flags: `quipu config show`, with the same
/// flags, tells what holds.
#[derive(Debug, Args)]
pub(crate) struct ServeArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// How many threads run the node's tasks, 1 to 1024; the disk has its own.
    /// One per core unless given: give fewer where nodes share a machine.
    #[arg(long, value_name = "N", env = "QUIPU_THREADS", hide_env_values = true, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// What to log: error, warn, info, debug, trace, or directives such as
    /// info,quipu_raft=debug.
    #[arg(long, value_name = "LEVEL", env = "QUIPU_LOG", hide_env_values = true, default_value = "info")]
    log: String,
    /// End at once when this process, the parent, is gone.
    #[arg(long, value_name = "PID", hide = true)]
    ends_with: Option<i32>,
}

impl ServeArguments {
    /// The threads asked for.
    pub(super) fn threads(&self) -> Option<u16> {
        self.threads
    }
}

pub(crate) async fn run(arguments: ServeArguments) -> ExitCode {
    let log_filter = match telemetry::start(&arguments.log) {
        Ok(log_filter) => log_filter,
        Err(error) => {
            complain(&error.to_string());
            return ExitCode::from(USAGE);
        }
    };
    if let Some(parent) = arguments.ends_with
        && let Err(error) = end_with(parent)
    {
        return refuse(&error);
    }
    let config = match arguments.config.draft().and_then(Draft::validate) {
        Ok(config) => config,
        Err(error) => return refuse(&error),
    };
    match serve(config, log_filter).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => refuse(&*error),
    }
}

async fn serve(config: ServerConfig, log_filter: LogFilter) -> Result<(), Box<dyn std::error::Error>> {
    let Some(directory) = config.data_directory().map(ToOwned::to_owned) else {
        return Err(ConfigError::Missing { key: "data_dir", flag: "--data-dir" }.into());
    };
    let mut signals = Signals::listen()?;
    let outside = NodeEnvironment { log_filter: Some(log_filter), ..system::environment(&directory)? };
    let server = Server::start(config, outside).await?;
    // Started means listening: a node that waits for a majority is well, and
    // must not be taken for one that does not start.
    tell_supervisor(&[NotifyState::Ready, NotifyState::Status("waits for its cluster")]);
    let serving = async {
        if server.ready().await.is_ok() {
            tell_supervisor(&[NotifyState::Status("serves")]);
        }
        std::future::pending::<()>().await;
    };
    let failure = tokio::select! {
        biased;
        failure = server.failed() => Some(failure),
        signal = signals.next() => {
            tracing::info!(signal, "asked to end");
            None
        }
        () = serving => None,
    };
    tell_supervisor(&[NotifyState::Stopping, NotifyState::Status("ends")]);
    tokio::select! {
        biased;
        () = server.shutdown() => {}
        signal = signals.next() => tracing::warn!(signal, "asked to end again: ending at once"),
    }
    match failure {
        Some(failure) => Err(failure.into()),
        None => Ok(()),
    }
}

/// Tells systemd, if it is that which started the process (`Type=notify`).
fn tell_supervisor(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager cannot be told how the node is");
    }
}

/// A person at a terminal and a machine that reads the log see the same: the
/// error with all its sources.
fn refuse(error: &dyn std::error::Error) -> ExitCode {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_message = cause.to_string();
        if !message.contains(&cause_message) {
            message = format!("{message}: {cause_message}");
        }
        source = cause.source();
    }
    tracing::error!("{message}");
    ExitCode::from(REFUSED)
}

/// Has the kernel kill this process when its parent, which has to be `parent`,
/// is gone.
#[cfg(target_os = "linux")]
fn end_with(parent: i32) -> std::io::Result<()> {
    use rustix::process::{Signal, getppid, set_parent_process_death_signal};
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // The parent may have gone before the kernel was told to watch it.
    match getppid() {
        Some(pid) if pid.as_raw_nonzero().get() == parent => Ok(()),
        _ => Err(std::io::Error::other(format!("process {parent}, which this node was to end with, has gone"))),
    }
}

#[cfg(not(target_os = "linux"))]
fn end_with(_parent: i32) -> std::io::Result<()> {
    Ok(())
}
