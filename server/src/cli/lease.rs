//! `quipu lease`: what keeps a log's records from being trimmed.

use std::io::Write as _;
use std::time::Duration;

use clap::{Args, Subcommand};
use quipu_sdk::{Client, Lease, LogName, Offset};
use serde::Serialize;

use super::failure::Failure;
use quipu_server::output::{self, Table};

/// Create, renew, list and release leases, which keep a log's records.
#[derive(Debug, Subcommand)]
pub(crate) enum LeaseCommand {
    Create(HoldArguments),
    Renew(HoldArguments),
    List(ListArguments),
    Release(ReleaseArguments),
}

/// Keep a log's records from an offset on, for a while.
///
/// A trim that would take them away is refused and names the holder, unless it is
/// forced; retention stops there, until more than --max-lease-bytes of the log are
/// kept. A holder has one lease of a log: to create it again renews or moves it, and
/// to renew it fails once it has ended.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quipu lease create orders --holder replica-7 --offset 1200 --for 1h
  quipu lease renew orders --holder replica-7 --offset 1900 --for 1h")]
pub(crate) struct HoldArguments {
    /// The log's name.
    name: String,
    /// Whose lease it is: 1 to 256 bytes.
    #[arg(long, value_name = "NAME")]
    holder: String,
    /// The first offset to be kept. At first the log's start, then where the lease
    /// is.
    #[arg(long, value_name = "OFFSET")]
    offset: Option<u64>,
    /// For how long from now on, such as 30s or 2h.
    #[arg(long = "for", value_name = "SPAN", value_parser = humantime::parse_duration)]
    lasting: Duration,
    /// Print one line of JSON.
    #[arg(long)]
    json: bool,
}

/// List a log's leases.
#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    /// The log's name.
    name: String,
    /// Print one line of JSON for each.
    #[arg(long)]
    json: bool,
}

/// Let go of a lease. Does no harm if there is none.
#[derive(Debug, Args)]
pub(crate) struct ReleaseArguments {
    /// The log's name.
    name: String,
    /// Whose lease it is.
    #[arg(long, value_name = "NAME")]
    holder: String,
}

impl LeaseCommand {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        match self {
            Self::Create(HoldArguments { name, holder, offset, lasting, json }) => {
                let (log, offset) = (name.parse()?, offset.map(Offset::new));
                print(&log, &client.hold_lease(&log, &holder, offset, lasting).await?, json)
            }
            Self::Renew(HoldArguments { name, holder, offset, lasting, json }) => {
                let (log, offset) = (name.parse()?, offset.map(Offset::new));
                print(&log, &client.renew_lease(&log, &holder, offset, lasting).await?, json)
            }
            Self::List(arguments) => list(&arguments, client).await,
            Self::Release(ReleaseArguments { name, holder }) => {
                let released = client.release_lease(&name.parse()?, &holder).await?;
                let what = if released { "released the lease of" } else { "there was no lease of" };
                writeln!(std::io::stdout(), "{what} {holder}")?;
                Ok(())
            }
        }
    }
}

fn print(log: &LogName, lease: &Lease, json: bool) -> Result<(), Failure> {
    if json {
        output::print_json(&JsonLease::of(lease))?;
        return Ok(());
    }
    let Lease { holder, offset, until } = lease;
    writeln!(std::io::stdout(), "{holder} keeps {log} from {offset} on, until {}", time(until.get()))?;
    Ok(())
}

async fn list(arguments: &ListArguments, client: &Client) -> Result<(), Failure> {
    let leases = client.leases(&arguments.name.parse()?).await?;
    if arguments.json {
        for lease in &leases {
            output::print_json(&JsonLease::of(lease))?;
        }
        return Ok(());
    }
    let mut table = Table::new(["HOLDER", " FROM", "UNTIL"]);
    for Lease { holder, offset, until } in &leases {
        table.row([holder, &offset.get(), &time(until.get())]);
    }
    table.write(&mut output::for_people(), "")?;
    Ok(())
}

/// A time of the log in UTC, as far as it can be said so.
fn time(milliseconds: i64) -> String {
    let since = u64::try_from(milliseconds).ok().map(Duration::from_millis);
    let time = since.and_then(|since| std::time::SystemTime::UNIX_EPOCH.checked_add(since));
    // Later than the year 9999 there is no such format.
    let sayable = time.filter(|_| milliseconds < 253_402_300_800_000);
    sayable.map_or("for ever".to_owned(), |time| humantime::format_rfc3339_millis(time).to_string())
}

#[derive(Serialize)]
struct JsonLease<'a> {
    holder: &'a str,
    offset: u64,
    until_ms: i64,
}

impl<'a> JsonLease<'a> {
    fn of(lease: &'a Lease) -> Self {
        Self { holder: &lease.holder, offset: lease.offset.get(), until_ms: lease.until.get() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_said_in_utc_or_not_at_all() {
        assert_eq!(time(1_764_072_000_250), "2025-11-25T12:00:00.250Z");
        assert_eq!(time(i64::MAX), "for ever");
    }
}
