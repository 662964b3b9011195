//! `quipu log describe`: one log, whole.

use std::io::Write as _;

use clap::Args;
use owo_colors::OwoColorize as _;
use quipu_sdk::{Client, LogDescription, NodeId, ReplicaRole, ReplicaState, Timestamp};
use serde::Serialize;

use super::json::JsonConfig;
use crate::cli::failure::Failure;
use quipu_server::output::{self, Table, counted};

/// Show a log's configuration, what can be read of it and how its replicas are.
///
/// `holds` counts what its leader, or the most advanced replica that answers,
/// has from the first readable record on: bytes of batches as they are stored,
/// and the Raft entries that they came in.
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

pub(super) async fn run(arguments: DescribeArguments, client: &Client) -> Result<(), Failure> {
    let described = client.describe_log(&arguments.name.parse()?).await?;
    if arguments.json {
        output::print_json(&JsonDescription::from(&described))?;
        return Ok(());
    }
    let mut output = output::for_people();
    let LogDescription { log, range, leader, term, bytes, entries, age_retention_held, replicas, .. } = &described;
    writeln!(output, "{}", log.name.to_string().bold())?;
    writeln!(output, "  id       {}", log.id)?;
    writeln!(output, "  config   {}", log.config)?;
    if *age_retention_held {
        let why = "its leader's clock may be too far from that node's peers' (quipu status)";
        writeln!(output, "  {}     nothing is trimmed by age: {why}", "held".yellow())?;
    }
    writeln!(output, "  records  {range} ({})", counted(range.count(), "record", "records"))?;
    let (bytes, entries) = (counted(*bytes, "byte", "bytes"), counted(*entries, "entry", "entries"));
    writeln!(output, "  holds    {bytes} of batches in {entries}")?;
    if described.cursor_entry_bytes > 0 {
        let cursors = counted(described.cursors, "cursor", "cursors");
        let (state, entries) = (described.cursor_bytes, counted(described.cursor_entry_bytes, "byte", "bytes"));
        writeln!(output, "  cursors  {cursors}, {state} B of state; {entries} of commits in all entries so far")?;
    }
    if described.lease_entry_bytes > 0 {
        let leases = counted(described.leases, "lease", "leases");
        let entries = counted(described.lease_entry_bytes, "byte", "bytes");
        writeln!(output, "  leases   {leases}; {entries} of grants, renewals and releases in all entries so far")?;
    }
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
struct JsonDescription<'a> {
    name: &'a str,
    id: u64,
    config: JsonConfig,
    start: u64,
    end: u64,
    records: u64,
    bytes: u64,
    entries: u64,
    age_retention_held: bool,
    cursors: u64,
    cursor_bytes: u64,
    cursor_entry_bytes: u64,
    leases: u64,
    lease_entry_bytes: u64,
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
            config: JsonConfig::from(described.log.config),
            start: described.range.start().get(),
            end: described.range.end().get(),
            records: described.range.count(),
            bytes: described.bytes,
            entries: described.entries,
            age_retention_held: described.age_retention_held,
            cursors: described.cursors,
            cursor_bytes: described.cursor_bytes,
            cursor_entry_bytes: described.cursor_entry_bytes,
            leases: described.leases,
            lease_entry_bytes: described.lease_entry_bytes,
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
