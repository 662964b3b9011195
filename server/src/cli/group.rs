//! `quipu group`: readers that share logs.

use std::io::{BufWriter, Write as _};
use std::time::Duration;

use clap::{Args, Subcommand};
use quipu_sdk::{
    Client, Environment, GroupConfig, GroupDescription, GroupError, GroupReader, GroupSummary, LogPattern,
    ReaderGroupName,
};
use serde::Serialize;

use super::complain;
use super::failure::{Failure, with_causes};
use super::record::Format;
use super::signals::Signals;
use quipu_server::output::{self, Table, counted};

/// Between attempts, once the client has given up for the first time.
const PAUSE: Duration = Duration::from_secs(1);

/// Read as a member of a reader group, show a group, or list all of them.
///
/// The members of a group share the logs whose names match a pattern: each log is
/// read by one of them, from where the group had come to.
#[derive(Debug, Subcommand)]
pub(crate) enum GroupCommand {
    Join(JoinArguments),
    Describe(DescribeArguments),
    List(ListArguments),
}

/// Become a member of a reader group and print the records of the logs it is given.
///
/// The group is created if there is none. What was printed is committed, so that no
/// member prints it again; after a failure some of it may be. Goes on until it is
/// stopped, and leaves the group then: the others take its logs over at once.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quipu group join billing 'orders/*'
  quipu group join billing 'orders/*' --client host-2 --format json")]
pub(crate) struct JoinArguments {
    /// The group's name: 1 to 200 bytes of A-Z a-z 0-9 . _ / -.
    group: String,
    /// Which logs the members share: * stands for any characters, ? for one. The
    /// same for all members.
    pattern: String,
    /// Who this member is, for quipu group describe: 1 to 256 bytes.
    #[arg(long, value_name = "NAME", default_value = "quipu group join")]
    client: String,
    /// Not heard of for so many milliseconds, the member has its logs taken: from
    /// 1000 to 300000.
    #[arg(long, value_name = "MS", default_value_t = 6_000, value_parser = clap::value_parser!(u64).range(1_000..=300_000))]
    session_ms: u64,
    /// Join even if no log matches yet.
    #[arg(long)]
    wait_for_logs: bool,
    /// Leave after so many records, or a few more: they come several at once.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    max_records: Option<u64>,
    /// How to print a record: raw with its log's name in front, or json with it as
    /// `log`.
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    format: Format,
}

/// Show a reader group: its members, and which logs each of them has.
#[derive(Debug, Args)]
pub(crate) struct DescribeArguments {
    /// The group's name.
    group: String,
    /// Print one line of JSON.
    #[arg(long)]
    json: bool,
}

/// List the reader groups by name.
#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    /// Print one line of JSON for each group.
    #[arg(long)]
    json: bool,
}

impl GroupCommand {
    pub(crate) async fn run(self, client: &Client, environment: &Environment) -> Result<(), Failure> {
        match self {
            Self::Join(arguments) => join(arguments, client, environment).await,
            Self::Describe(arguments) => describe(&arguments, client).await,
            Self::List(arguments) => list(&arguments, client).await,
        }
    }
}

async fn join(arguments: JoinArguments, client: &Client, environment: &Environment) -> Result<(), Failure> {
    let group = group_name(&arguments.group)?;
    let pattern: LogPattern = arguments.pattern.parse()?;
    let config = GroupConfig {
        client: arguments.client,
        session: Duration::from_millis(arguments.session_ms),
        wait_for_logs: arguments.wait_for_logs,
        ..GroupConfig::default()
    };
    let mut signals = Signals::listen().map_err(|error| Failure::system("listen to signals", &error))?;
    let mut reader = client.reader_group(&group, &pattern).config(config).join().await?;
    let printing = print(&mut reader, arguments.format, arguments.max_records, environment);
    let printed = tokio::select! {
        biased;
        printed = printing => printed,
        _ = signals.next() => Ok(()),
    };
    // Others go on at once, whatever became of this one.
    let left = reader.leave().await;
    printed?;
    Ok(left?)
}

/// Prints what comes, and commits what was printed.
async fn print(
    reader: &mut GroupReader,
    format: Format,
    max_records: Option<u64>,
    environment: &Environment,
) -> Result<(), Failure> {
    let mut output = BufWriter::with_capacity(1 << 16, std::io::stdout());
    let mut printed = 0;
    while max_records.is_none_or(|most| printed < most) {
        let records = match reader.next().await {
            Ok(records) => records,
            Err(error) => {
                wait_out(error, environment).await?;
                continue;
            }
        };
        for record in &records.records {
            format.write_of(&mut output, &records.log, record)?;
        }
        output.flush()?;
        printed += records.records.len() as u64;
        loop {
            match reader.commit().await {
                Ok(committed) => {
                    for log in committed.lost {
                        complain(&format!("{log} went to another member, which prints its last records again"));
                    }
                    break;
                }
                Err(error) => wait_out(error, environment).await?,
            }
        }
    }
    Ok(())
}

/// Waits a moment after an error that may be over then.
async fn wait_out(error: GroupError, environment: &Environment) -> Result<(), Failure> {
    if !error.is_retryable() {
        return Err(error.into());
    }
    complain(&format!("{}; still trying", with_causes(&error)));
    environment.clock.sleep(PAUSE).await;
    Ok(())
}

async fn describe(arguments: &DescribeArguments, client: &Client) -> Result<(), Failure> {
    let group = client.describe_reader_group(&group_name(&arguments.group)?).await?;
    if arguments.json {
        output::print_json(&JsonGroup::from(&group))?;
        return Ok(());
    }
    let mut output = output::for_people();
    let members = counted(group.members.len() as u64, "member", "members");
    let logs = counted(group.logs, "log", "logs");
    writeln!(
        output,
        "{} shares {logs} of {} among {members}, generation {}",
        group.name, group.pattern, group.generation
    )?;
    if group.left_out > 0 {
        writeln!(output, "{} more match and are too many", counted(group.left_out, "log", "logs"))?;
    }
    if group.members.is_empty() {
        return Ok(());
    }
    let mut table = Table::new([" MEMBER", "CLIENT", " SILENT", " LOGS", "LOG"]);
    for member in &group.members {
        let silent = format!("{:.1} s", member.silent_for.as_secs_f64());
        let count = member.shares.len();
        let first = member.shares.first().map(share).unwrap_or_default();
        table.row([&member.member, &member.client, &silent, &count, &first]);
        for further in member.shares.iter().skip(1) {
            table.row([&"", &"", &"", &"", &share(further)]);
        }
    }
    table.write(&mut output, "")?;
    Ok(())
}

fn share(share: &quipu_sdk::GroupShare) -> String {
    if share.returning { format!("{} (asked for)", share.log) } else { share.log.to_string() }
}

async fn list(arguments: &ListArguments, client: &Client) -> Result<(), Failure> {
    let groups = client.reader_groups().await?;
    if arguments.json {
        for group in &groups {
            output::print_json(&JsonSummary::from(group))?;
        }
        return Ok(());
    }
    let mut table = Table::new(["GROUP", "PATTERN", " MEMBERS", " LOGS", " GENERATION"]);
    for group in &groups {
        table.row([&group.name, &group.pattern, &group.members, &group.logs, &group.generation]);
    }
    let mut output = output::for_people();
    table.write(&mut output, "")?;
    Ok(())
}

fn group_name(name: &str) -> Result<ReaderGroupName, Failure> {
    name.parse().map_err(|error: quipu_sdk::ReaderGroupNameError| Failure::Refused(error.to_string()))
}

#[derive(Serialize)]
struct JsonGroup<'a> {
    group: &'a str,
    pattern: &'a str,
    generation: u64,
    logs: u64,
    left_out: u64,
    members: Vec<JsonMember<'a>>,
}

#[derive(Serialize)]
struct JsonMember<'a> {
    member: u64,
    client: &'a str,
    session_ms: u64,
    silent_ms: u64,
    joined: u64,
    logs: Vec<JsonShare<'a>>,
}

#[derive(Serialize)]
struct JsonShare<'a> {
    log: &'a str,
    log_id: u64,
    generation: u64,
    returning: bool,
}

#[derive(Serialize)]
struct JsonSummary<'a> {
    group: &'a str,
    pattern: &'a str,
    members: u64,
    logs: u64,
    generation: u64,
}

impl<'a> From<&'a GroupDescription> for JsonGroup<'a> {
    fn from(group: &'a GroupDescription) -> Self {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let share = |share: &'a quipu_sdk::GroupShare| JsonShare {
            log: share.log.as_str(),
            log_id: share.log_id.get(),
            generation: share.generation.get(),
            returning: share.returning,
        };
        let members = group.members.iter().map(|member| JsonMember {
            member: member.member.get(),
            client: &member.client,
            session_ms: millis(member.session),
            silent_ms: millis(member.silent_for),
            joined: member.joined.get(),
            logs: member.shares.iter().map(share).collect(),
        });
        Self {
            group: group.name.as_str(),
            pattern: &group.pattern,
            generation: group.generation.get(),
            logs: group.logs,
            left_out: group.left_out,
            members: members.collect(),
        }
    }
}

impl<'a> From<&'a GroupSummary> for JsonSummary<'a> {
    fn from(group: &'a GroupSummary) -> Self {
        Self {
            group: group.name.as_str(),
            pattern: &group.pattern,
            members: group.members,
            logs: group.logs,
            generation: group.generation.get(),
        }
    }
}
