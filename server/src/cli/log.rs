//! `quipu log`: logs as wholes.

use std::io::{BufWriter, Write as _};

use clap::{Args, Subcommand};
use owo_colors::OwoColorize as _;
use quipu_sdk::{Client, LogConfig, LogDescription, LogSummary, NodeId, Offset, ReplicaRole, ReplicaState, Timestamp};
use serde::Serialize;

use super::failure::Failure;
use quipu_server::output::{self, Table, counted};

/// Create, list, describe and trim logs.
#[derive(Debug, Subcommand)]
pub(crate) enum LogCommand {
    Create(CreateArguments),
    List(ListArguments),
    Describe(DescribeArguments),
    Trim(TrimArguments),
}

/// Create a log.
///
/// Created again with the same configuration it succeeds again; with another
/// one it is refused. A name has 1 to 255 characters of A-Z a-z 0-9 . _ / -
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quipu log create orders
  quipu log create billing/eu-1 --replicas 5 --max-batch-bytes 16777216")]
pub(crate) struct CreateArguments {
    /// The log's name.
    name: String,
    /// How many nodes keep a copy. Unless given, the smaller of 3 and the
    /// number of nodes.
    #[arg(long, value_name = "R", value_parser = clap::value_parser!(u32).range(1..))]
    replicas: Option<u32>,
    /// The largest batch that an append may carry, 1024 to 67108864 bytes.
    /// Unless given, what the cluster is configured to (1 MiB).
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1..))]
    max_batch_bytes: Option<u32>,
    /// How many bytes of batches are kept, compressed as they are: what is
    /// older is trimmed. Unless given, everything is kept.
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1..))]
    retention_bytes: Option<u64>,
    /// How long records are kept, in milliseconds. Unless given, for ever.
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..))]
    retention_ms: Option<u64>,
    /// Print one line of JSON.
    #[arg(long)]
    json: bool,
}

/// List the logs, one name a line.
#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    /// Print one line of JSON for each: name, id, replicas, max_batch_bytes,
    /// and retention_bytes and retention_ms where they are set.
    #[arg(long)]
    json: bool,
}

/// Show what can be read of a log and how its replicas are.
///
/// `lag` counts the entries of the leader's that a replica does not have yet;
/// `durable` and `applied` are the last entries that its own disk has fsynced
/// and that it has applied; `refetched` counts those that it has fetched from the
/// others in place of damaged ones since its node started.
#[derive(Debug, Args)]
pub(crate) struct DescribeArguments {
    /// The log's name.
    name: String,
    /// Print one line of JSON.
    #[arg(long)]
    json: bool,
}

/// Move a log's start forward: records before it cannot be read any more.
///
/// A start is never moved back, and not beyond the end; trimming again does no
/// harm. The space is freed later, when whole segments hold nothing else.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quipu log trim orders --to 1000000")]
pub(crate) struct TrimArguments {
    /// The log's name.
    name: String,
    /// The first offset to stay readable.
    #[arg(long, value_name = "OFFSET")]
    to: u64,
    /// Print one line of JSON.
    #[arg(long)]
    json: bool,
}

impl LogCommand {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        match self {
            Self::Create(arguments) => create(arguments, client).await,
            Self::List(arguments) => list(&arguments, client).await,
            Self::Describe(arguments) => describe(arguments, client).await,
            Self::Trim(arguments) => trim(arguments, client).await,
        }
    }
}

async fn create(arguments: CreateArguments, client: &Client) -> Result<(), Failure> {
    let config = LogConfig {
        replicas: arguments.replicas,
        max_batch_bytes: arguments.max_batch_bytes,
        retention_bytes: arguments.retention_bytes,
        retention_ms: arguments.retention_ms,
    };
    let created = client.create_log(&arguments.name.parse()?, config).await?;
    if arguments.json {
        output::print_json(&JsonLog::new(&created.log, Some(created.created)))?;
        return Ok(());
    }
    let what = if created.created { "created" } else { "exists already:" };
    let replicas = counted(created.log.config.replicas.unwrap_or_default().into(), "replica", "replicas");
    writeln!(std::io::stdout(), "{what} {} with {replicas}", created.log.name)?;
    Ok(())
}

async fn trim(arguments: TrimArguments, client: &Client) -> Result<(), Failure> {
    let range = client.trim(&arguments.name.parse()?, Offset::new(arguments.to)).await?;
    if arguments.json {
        let (start, end) = (range.start().get(), range.end().get());
        output::print_json(&JsonTrimmed { name: &arguments.name, start, end })?;
        return Ok(());
    }
    let records = counted(range.count(), "record", "records");
    writeln!(std::io::stdout(), "{} has {range} ({records})", arguments.name)?;
    Ok(())
}

async fn list(arguments: &ListArguments, client: &Client) -> Result<(), Failure> {
    let mut output = BufWriter::new(std::io::stdout().lock());
    for log in client.list_logs().await? {
        if arguments.json {
            serde_json::to_writer(&mut output, &JsonLog::new(&log, None)).map_err(std::io::Error::from)?;
            writeln!(output)?;
        } else {
            writeln!(output, "{}", log.name)?;
        }
    }
    output.flush()?;
    Ok(())
}

async fn describe(arguments: DescribeArguments, client: &Client) -> Result<(), Failure> {
    let described = client.describe_log(&arguments.name.parse()?).await?;
    if arguments.json {
        output::print_json(&JsonDescription::from(&described))?;
        return Ok(());
    }
    let mut output = output::for_people();
    let LogDescription { log, range, leader, term, replicas } = &described;
    writeln!(output, "{}", log.name.to_string().bold())?;
    writeln!(output, "  records  {range} ({})", counted(range.count(), "record", "records"))?;
    match leader {
        Some(node) => writeln!(output, "  leader   node {node}, term {term}")?,
        None => writeln!(output, "  leader   {}, term {term}", "none".red())?,
    }
    writeln!(output)?;
    let mut table = Table::new([
        "node",
        "address",
        " replica",
        "role",
        "state",
        " durable",
        " applied",
        " lag",
        " end",
        " refetched",
    ]);
    for replica in replicas {
        table.row([
            &replica.node,
            &replica.address,
            &replica.replica,
            &role_name(replica.role).unwrap_or("?"),
            &state_name(replica.state),
            &replica.durable_index,
            &replica.applied_index,
            &replica.lag,
            &replica.end,
            &replica.refetched_entries,
        ]);
    }
    table.write(&mut output, "  ")?;
    Ok(())
}

#[derive(Serialize)]
struct JsonLog<'a> {
    name: &'a str,
    id: u64,
    replicas: Option<u32>,
    max_batch_bytes: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retention_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retention_ms: Option<u64>,
    /// Only in the answer to a create.
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<bool>,
}

impl<'a> JsonLog<'a> {
    fn new(log: &'a LogSummary, created: Option<bool>) -> Self {
        let LogConfig { replicas, max_batch_bytes, retention_bytes, retention_ms } = log.config;
        let (name, id) = (log.name.as_str(), log.id.get());
        Self { name, id, replicas, max_batch_bytes, retention_bytes, retention_ms, created }
    }
}

#[derive(Serialize)]
struct JsonTrimmed<'a> {
    name: &'a str,
    start: u64,
    end: u64,
}

#[derive(Serialize)]
struct JsonDescription<'a> {
    name: &'a str,
    id: u64,
    start: u64,
    end: u64,
    leader: Option<u64>,
    term: u64,
    replicas: Vec<JsonReplica<'a>>,
}

#[derive(Serialize)]
struct JsonReplica<'a> {
    node: u64,
    replica: u64,
    role: Option<&'static str>,
    durable_index: u64,
    applied_index: u64,
    lag: u64,
    end: u64,
    state: &'static str,
    /// Milliseconds since 1970.
    damaged_since: Option<i64>,
    refetched: u64,
    address: &'a str,
}

impl<'a> From<&'a LogDescription> for JsonDescription<'a> {
    fn from(described: &'a LogDescription) -> Self {
        let replicas = described.replicas.iter().map(|replica| JsonReplica {
            node: replica.node.get(),
            replica: replica.replica.get(),
            role: role_name(replica.role),
            durable_index: replica.durable_index,
            applied_index: replica.applied_index,
            lag: replica.lag,
            end: replica.end.get(),
            state: state_name(replica.state),
            damaged_since: replica.damaged_since.map(Timestamp::get),
            refetched: replica.refetched_entries,
            address: &replica.address,
        });
        Self {
            name: described.log.name.as_str(),
            id: described.log.id.get(),
            start: described.range.start().get(),
            end: described.range.end().get(),
            leader: described.leader.map(NodeId::get),
            term: described.term.get(),
            replicas: replicas.collect(),
        }
    }
}

/// None when the replica did not say.
const fn role_name(role: Option<ReplicaRole>) -> Option<&'static str> {
    match role {
        Some(ReplicaRole::Leader) => Some("leader"),
        Some(ReplicaRole::Follower) => Some("follower"),
        Some(ReplicaRole::Learner) => Some("learner"),
        None => None,
    }
}

const fn state_name(state: ReplicaState) -> &'static str {
    match state {
        ReplicaState::Running => "running",
        ReplicaState::Unreachable => "unreachable",
        ReplicaState::Failed => "failed",
        ReplicaState::Starting => "starting",
        ReplicaState::Damaged => "damaged",
        ReplicaState::Unknown => "unknown",
    }
}
