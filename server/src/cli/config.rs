//! `quipu config`: what a node's configuration says, before a node is started
//! with it.

use std::io::Write as _;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use quipu_server::config::{ConfigError, Draft, Origin};
use quipu_server::output::{self, Table};
use serde::Serialize;

use super::complain;
use super::failure::Failure;

/// What a node is configured by, one layer over the other.
#[derive(Debug, Args)]
pub(crate) struct ConfigArguments {
    /// This node's number in the cluster, 1 and up.
    #[arg(long, value_name = "N")]
    node_id: Option<u64>,
    /// Listen here, host:port. Other nodes and clients reach the node at its
    /// own entry of --peers, which may differ (behind NAT, say).
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Answer HTTP here, host:port: /metrics for Prometheus, /healthz (the
    /// process is well), /readyz (the node takes part in its cluster).
    #[arg(long, value_name = "ADDRESS")]
    http: Option<String>,
    /// Every node of the cluster, this one too: 1=host:port,2=host:port,…
    #[arg(long, value_name = "ID=ADDRESS,…")]
    peers: Option<String>,
    /// Where the node keeps everything; created when absent, used by one
    /// process at a time.
    #[arg(long, value_name = "DIRECTORY")]
    data_dir: Option<PathBuf>,
    /// A TOML file with any of these and the settings of
    /// docs/quipu.example.toml.
    #[arg(long, value_name = "FILE", env = "QUIPU_CONFIG", hide_env_values = true)]
    config: Option<PathBuf>,
    /// Change one setting, such as journal.segment_bytes=134217728. Repeatable.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
}

impl ConfigArguments {
    /// The file, the environment and the flags, in this order.
    pub(super) fn draft(self) -> Result<Draft, ConfigError> {
        let mut draft = Draft::new();
        if let Some(file) = &self.config {
            draft = draft.file(file)?;
        }
        draft = draft.environment(std::env::vars_os())?;
        if let Some(node) = self.node_id {
            draft = draft.node(node);
        }
        if let Some(listen) = self.listen {
            draft = draft.listen(listen);
        }
        if let Some(http) = self.http {
            draft = draft.http(http);
        }
        if let Some(peers) = &self.peers {
            draft = draft.peers_text(peers)?;
        }
        if let Some(directory) = self.data_dir {
            draft = draft.data_directory(directory);
        }
        for setting in &self.settings {
            draft = draft.set_text(setting)?;
        }
        Ok(draft)
    }
}

/// Check configuration files, or show what holds and why.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Check configuration files, each by itself.
    ///
    /// Looks at nothing but the files: neither at the environment nor at the
    /// machine. What a file does not say, flags or variables may; it is
    /// mentioned.
    Check {
        /// The files.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Show the value of every key, and where it comes from: the defaults, the
    /// file, an environment variable or a flag.
    ///
    /// Takes the flags of `quipu serve` that configure a node. What a node may
    /// not be told is refused here too; what is not said yet is shown as open.
    Show(ShowArguments),
}

#[derive(Debug, Args)]
pub(crate) struct ShowArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// Print one line of JSON.
    #[arg(long)]
    json: bool,
}

impl ConfigCommand {
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self {
            Self::Check { files } => check(&files),
            Self::Show(arguments) => show(arguments),
        }
    }
}

fn check(files: &[PathBuf]) -> Result<(), Failure> {
    let mut output = output::for_people();
    let mut refused = 0;
    for file in files {
        let draft = Draft::new().file(file).and_then(|draft| draft.check().map(|()| draft));
        match draft {
            Ok(draft) => {
                let mut missing = draft.missing();
                missing.extend(draft.data_directory_is_open().then_some("data_dir"));
                let more =
                    if missing.is_empty() { String::new() } else { format!("; it leaves {} open", missing.join(", ")) };
                writeln!(output, "{}: valid{more}", file.display())?;
            }
            Err(error) => {
                refused += 1;
                complain(&format!("{}: {}", file.display(), error.to_string().trim_end()));
            }
        }
    }
    match refused {
        0 => Ok(()),
        _ => Err(Failure::Refused(format!("{refused} of {} refused", files.len()))),
    }
}

fn show(arguments: ShowArguments) -> Result<(), Failure> {
    let refused = |error: ConfigError| Failure::Refused(error.to_string());
    let draft = arguments.config.draft().map_err(refused)?;
    draft.check().map_err(refused)?;
    let entries = draft.entries();
    if arguments.json {
        let shown = entries.iter().map(|entry| Shown {
            key: entry.key,
            value: entry.value.as_deref(),
            from: from(&entry.origin),
        });
        return Ok(output::print_json(&shown.collect::<Vec<_>>())?);
    }
    let mut table = Table::new(["key", "value", "from"]);
    for entry in &entries {
        table.row([&entry.key, &entry.value.as_deref().unwrap_or("-"), &entry.origin]);
    }
    table.write(&mut output::for_people(), "")?;
    Ok(())
}

#[derive(Serialize)]
struct Shown<'a> {
    key: &'a str,
    value: Option<&'a str>,
    from: From<'a>,
}

/// As in `{"environment":"QUIPU_PEERS"}`, or `"default"`.
#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum From<'a> {
    Default,
    File(std::borrow::Cow<'a, str>),
    Environment(&'a str),
    Flag,
}

fn from(origin: &Origin) -> From<'_> {
    match origin {
        Origin::Default => From::Default,
        Origin::File(path) => From::File(path.to_string_lossy()),
        Origin::Environment(variable) => From::Environment(variable),
        Origin::Flag => From::Flag,
    }
}
