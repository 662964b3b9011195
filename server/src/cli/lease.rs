//! `quipu lease`: what keeps a log's records from being trimmed.

use std::io::Write as _;
use std::time::Duration;

use clap::{Args, Subcommand};
use quipu_sdk::{Client, Lease, LeaseError, LogName, Offset};
use serde::Serialize;

use super::failure::Failure;
use quipu_server::output::{self, Table};

/// Create, renew, list and release leases, which keep a log's records.
#[derive(Debug, Subcommand)]
pub(crate) enum LeaseCommand {
    Create(HoldArguments),
    Renew(RenewArguments),
    List(ListArguments),
    Release(ReleaseArguments),
}

/// Keep a log's records from an offset on, for a while.
///
/// A trim that would take them away is refused and names the holder, unless it is
/// forced; retention stops there, until more than --max-lease-bytes of the log are
/// kept. A holder has one lease of a log: one that is created takes the place of the one
/// that is there.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quipu lease create orders --holder replica-7 --offset 1200 --for 1h")]
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

/// Keep a lease for longer, where it is or from another offset on.
///
/// Fails once it has ended.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quipu lease renew orders --holder replica-7 --offset 1900 --for 1h")]
pub(crate) struct RenewArguments {
    #[command(flatten)]
    hold: HoldArguments,
    /// Only the grant of this number, as create has said it; otherwise the one that the
    /// holder has now.
    #[arg(long, value_name = "NUMBER")]
    grant: Option<u64>,
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
    /// Only the grant of this number, as create has said it; otherwise the one that the
    /// holder has now.
    #[arg(long, value_name = "NUMBER")]
    grant: Option<u64>,
}

impl LeaseCommand {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        match self {
            Self::Create(HoldArguments { name, holder, offset, lasting, json }) => {
                let (log, offset) = (name.parse()?, offset.map(Offset::new));
                print(&log, &client.hold_lease(&log, &holder, offset, lasting).await?, json)
            }
            Self::Renew(RenewArguments { hold, grant }) => {
                let HoldArguments { name, holder, offset, lasting, json } = hold;
                let (log, offset) = (name.parse()?, offset.map(Offset::new));
                let lease = held(client, &log, &holder, grant).await?.ok_or(LeaseError::NotHeld { holder })?;
                print(&log, &client.renew_lease(&log, &lease, offset, lasting).await?, json)
            }
            Self::List(arguments) => list(&arguments, client).await,
            Self::Release(ReleaseArguments { name, holder, grant }) => {
                let log = name.parse()?;
                let released = match held(client, &log, &holder, grant).await? {
                    Some(lease) => client.release_lease(&log, &lease).await?,
                    None => false,
                };
                let what = if released { "released the lease of" } else { "there was no lease of" };
                writeln!(std::io::stdout(), "{what} {holder}")?;
                Ok(())
            }
        }
    }
}

/// The lease that `holder` has, as the grant of that number if there is one.
async fn held(client: &Client, log: &LogName, holder: &str, grant: Option<u64>) -> Result<Option<Lease>, LeaseError> {
    let lease = client.leases(log).await?.into_iter().find(|lease| lease.holder == holder);
    Ok(lease.map(|lease| Lease { grant: grant.unwrap_or(lease.grant), ..lease }))
}

fn print(log: &LogName, lease: &Lease, json: bool) -> Result<(), Failure> {
    if json {
        output::print_json(&JsonLease::of(lease))?;
        return Ok(());
    }
    let Lease { holder, grant, offset, until, .. } = lease;
    let until = time(until.get());
    writeln!(std::io::stdout(), "{holder} keeps {log} from {offset} on, until {until} (grant {grant})")?;
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
    let mut table = Table::new(["HOLDER", " FROM", "UNTIL", " GRANT"]);
    for Lease { holder, grant, offset, until, .. } in &leases {
        table.row([holder, &offset.get(), &time(until.get()), grant]);
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
    grant: u64,
}

impl<'a> JsonLease<'a> {
    fn of(lease: &'a Lease) -> Self {
        let Lease { holder, grant, offset, until, .. } = lease;
        Self { holder, offset: offset.get(), until_ms: until.get(), grant: *grant }
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
