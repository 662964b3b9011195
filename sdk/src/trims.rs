//! Moving a log's start forward.

use quipu_protocol::v1::error::Kind;
use quipu_protocol::v1::records_client::RecordsClient;
use quipu_protocol::{LogName, Offset, OffsetRange, v1};

use crate::client::{log_error, understand};
use crate::cluster::{PursuitError, Refusal, Target};
use crate::wire::{Malformed, Meaning, Plain};
use crate::{Client, Lease, LogError, LogRef, TrimError};

/// What a trim has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trimmed {
    /// What can be read after it.
    pub range: OffsetRange,
    /// The leases that are gone by it; none unless it was forced.
    pub stranded: Vec<Lease>,
}

impl Client {
    /// Moves a log's start to `to`, or to its end if that is less, and never
    /// back; returns what can be read then. Records before the start are gone
    /// for good, though their space is freed later. Refused if it takes away what a
    /// [lease](Self::hold_lease) keeps.
    ///
    /// Tried again until it is known to have been done, and of one log alone: a log that
    /// is created under the same name meanwhile is left as it is. May be repeated whatever
    /// became of the first call; whoever does so names the log [by its id](LogRef::new) if
    /// another one may have its name by then.
    pub async fn trim(&self, log: impl Into<LogRef<'_>>, to: Offset) -> Result<OffsetRange, TrimError> {
        self.trim_log(log.into(), to, false).await.map(|trimmed| trimmed.range)
    }

    /// The same, whoever holds a lease: those that it strands are gone, and named.
    /// Those that an attempt stranded whose answer was lost are not named by the next.
    pub async fn trim_past_leases(&self, log: impl Into<LogRef<'_>>, to: Offset) -> Result<Trimmed, TrimError> {
        self.trim_log(log.into(), to, true).await
    }

    async fn trim_log(&self, log: LogRef<'_>, to: Offset, force: bool) -> Result<Trimmed, TrimError> {
        let name = log.name();
        let log_id = log.settled(self.cluster()).await.map_err(|error| log_error(name, error))?.get();
        let request = || v1::TrimRequest { log: name.to_string(), to: to.get(), force, log_id };
        let call = |channel| async { RecordsClient::new(channel).trim(request()).await };
        let answer = self.cluster().call(Target::Leader(name.clone()), call).await;
        understand(answer.map_err(|error| trim_error(name, error))?).map_err(TrimError::from)
    }
}

impl Meaning<v1::TrimResponse> for Trimmed {
    fn of(answer: v1::TrimResponse) -> Result<Self, Malformed> {
        let v1::TrimResponse { start, end, stranded, .. } = answer;
        if start > end {
            return Err(Malformed::Range { start, end });
        }
        let range = OffsetRange::new(Offset::new(start), Offset::new(end));
        Ok(Self { range, stranded: stranded.into_iter().map(Plain::of).collect() })
    }
}

impl From<LogError> for TrimError {
    fn from(error: LogError) -> Self {
        match error {
            LogError::UnknownLog { log } => Self::UnknownLog { log, maybe_done: false },
            LogError::Request(error) => Self::Request(error),
        }
    }
}

fn trim_error(log: &LogName, error: PursuitError) -> TrimError {
    if let PursuitError::Refused { refusal: Refusal { error: refused, .. }, maybe_done } = &error {
        match &refused.kind {
            Some(Kind::UnknownLog(_)) => {
                return TrimError::UnknownLog { log: log.clone(), maybe_done: *maybe_done };
            }
            // A refusal says nothing of an attempt before it that may have been carried out.
            Some(Kind::StrandsLeases(strands)) if !maybe_done => {
                let leases = strands.leases.iter().cloned().map(Plain::of).collect();
                return TrimError::StrandsLeases { leases, more: strands.more };
            }
            _ => {}
        }
    }
    error.into_request_error().into()
}
