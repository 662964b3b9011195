//! Leases: what keeps a log's records from being trimmed.

use std::time::Duration;

use quipu_protocol::v1::error::Kind;
use quipu_protocol::v1::records_client::RecordsClient;
use quipu_protocol::{LogId, LogName, Offset, OffsetRange, Timestamp, v1};

use crate::cluster::{PursuitError, Refusal, Target};
use crate::wire::{Malformed, Plain};
use crate::{Client, RequestError};

/// A lease of a log's start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The log's id: a later log of its name is none of this lease's.
    pub log: LogId,
    /// Whose it is.
    pub holder: String,
    /// The number of its grant, which its renewals and its release name; a log gives
    /// none twice.
    pub grant: u64,
    /// The first offset that it keeps.
    pub offset: Offset,
    /// When it ends, in the log's time, which is its leaders'.
    pub until: Timestamp,
}

/// Why a lease was not granted, renewed, released or listed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LeaseError {
    /// There is no log of that name, or not the one any more that it had: that one was
    /// deleted.
    #[error("there is no log {log}")]
    UnknownLog {
        /// The name.
        log: LogName,
        /// Whether an earlier attempt of the same call may have been carried out, in the
        /// log that is gone.
        maybe_done: bool,
    },
    /// It is over a bound: `max_lease_ms` of the log, or `max_leases`, which is 100.
    #[error("{actual} is over {bound}, which is {limit}")]
    OverBound {
        /// The bound's name.
        bound: String,
        /// The bound.
        limit: u64,
        /// What was asked for.
        actual: u64,
    },
    /// The offset is not there to be kept.
    #[error("the log has {range}: a lease keeps an offset from start to end")]
    OutOfRange {
        /// What there is.
        range: OffsetRange,
    },
    /// It is not held: it has ended, was released, or a forced trim has stranded it.
    /// What it kept may be gone.
    #[error("{holder} holds no lease of the log: it has ended, or a forced trim has stranded it")]
    NotHeld {
        /// Whose it was.
        holder: String,
    },
    /// Another one has been granted to its holder since, in its place.
    #[error("another lease of the log has been granted to {holder} since: number {grant}")]
    Replaced {
        /// Whose it was.
        holder: String,
        /// The number of the grant that the holder has now.
        grant: u64,
    },
    /// The request failed.
    #[error(transparent)]
    Request(#[from] RequestError),
}

impl LeaseError {
    /// Whether the same call may succeed later. Asking again does no harm.
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Request(error) if error.is_retryable())
    }

    /// Whether it is certain that nothing was changed.
    pub const fn has_no_side_effects(&self) -> bool {
        match self {
            Self::Request(error) => error.has_no_side_effects(),
            Self::UnknownLog { maybe_done, .. } => !*maybe_done,
            _ => true,
        }
    }
}

impl Client {
    /// Keeps a log's records from `offset` on (from its start, or from where the
    /// holder's lease is, without one) for `lasting` from now on. A holder, named in
    /// 1 to 256 bytes, has one lease of a log: this one takes the place of any other,
    /// which can be neither renewed nor released any more. Where that one keeps as much,
    /// this may take a second, as a renewal may.
    ///
    /// A trim that would take away what it keeps is refused, unless it is forced;
    /// retention stops there, until the lease keeps more than `max_lease_bytes`.
    ///
    /// Tried again until it is known to have been done: an attempt whose answer was
    /// lost grants nothing twice, and one that comes late undoes nothing.
    pub async fn hold_lease(
        &self,
        log: &LogName,
        holder: &str,
        offset: Option<Offset>,
        lasting: Duration,
    ) -> Result<Lease, LeaseError> {
        // Which log it is, and what was granted before: so an attempt whose answer is
        // lost meets no other log, and does nothing once its caller has gone on.
        let v1::ListLeasesResponse { log_id, grants, .. } = self.list_leases(log).await?;
        let request =
            v1::HoldLeaseRequest { log_id, after: grants, ..self.lease_request(log, holder, offset, lasting) };
        self.lease(log, request).await
    }

    /// Keeps `lease` for `lasting` from now on, where it is or from `offset` on, if it
    /// is held still: whoever lost it learns that what it kept may be gone. Renewals
    /// within a second go together, so that this may take that long.
    pub async fn renew_lease(
        &self,
        log: &LogName,
        lease: &Lease,
        offset: Option<Offset>,
        lasting: Duration,
    ) -> Result<Lease, LeaseError> {
        let request = self.lease_request(log, &lease.holder, offset, lasting);
        self.lease(log, v1::HoldLeaseRequest { log_id: lease.log.get(), grant: lease.grant, ..request }).await
    }

    fn lease_request(
        &self,
        log: &LogName,
        holder: &str,
        offset: Option<Offset>,
        lasting: Duration,
    ) -> v1::HoldLeaseRequest {
        v1::HoldLeaseRequest {
            log: log.to_string(),
            holder: holder.to_owned(),
            offset: offset.map(Offset::get),
            ms: u64::try_from(lasting.as_millis()).unwrap_or(u64::MAX),
            request_id: self.cluster().environment.random.next().max(1),
            ..v1::HoldLeaseRequest::default()
        }
    }

    async fn lease(&self, log: &LogName, request: v1::HoldLeaseRequest) -> Result<Lease, LeaseError> {
        let call = |channel| async { RecordsClient::new(channel).hold_lease(request.clone()).await };
        let answer = self.cluster().call(Target::Leader(log.clone()), call).await;
        let answer = answer.map_err(|error| lease_error(log, error))?;
        let address = answer.address;
        let missing = || RequestError::Protocol { address, violation: Malformed::NoOutcome.to_string() };
        Ok(Plain::of(answer.value.lease.ok_or_else(missing)?))
    }

    /// Lets go of `lease`, and of no later one of its holder; whether it was held. May
    /// be repeated.
    pub async fn release_lease(&self, log: &LogName, lease: &Lease) -> Result<bool, LeaseError> {
        let request = || v1::ReleaseLeaseRequest {
            log: log.to_string(),
            holder: lease.holder.clone(),
            log_id: lease.log.get(),
            grant: lease.grant,
        };
        let call = |channel| async { RecordsClient::new(channel).release_lease(request()).await };
        let answer = self.cluster().call(Target::Leader(log.clone()), call).await;
        Ok(answer.map_err(|error| lease_error(log, error))?.value.released)
    }

    /// The leases of a log, by holder.
    pub async fn leases(&self, log: &LogName) -> Result<Vec<Lease>, LeaseError> {
        Ok(self.list_leases(log).await?.leases.into_iter().map(Plain::of).collect())
    }

    async fn list_leases(&self, log: &LogName) -> Result<v1::ListLeasesResponse, LeaseError> {
        let request = || v1::ListLeasesRequest { log: log.to_string(), log_id: 0 };
        let call = |channel| async { RecordsClient::new(channel).list_leases(request()).await };
        let answer = self.cluster().call(Target::Leader(log.clone()), call).await;
        Ok(answer.map_err(|error| lease_error(log, error))?.value)
    }
}

impl Plain<v1::Lease> for Lease {
    fn of(lease: v1::Lease) -> Self {
        let v1::Lease { holder, offset, until, grant, log_id } = lease;
        let (offset, until) = (Offset::new(offset), Timestamp::new(until));
        Self { log: LogId::new(log_id), holder, grant, offset, until }
    }
}

fn lease_error(log: &LogName, error: PursuitError) -> LeaseError {
    let PursuitError::Refused { refusal: Refusal { address, error }, maybe_done } = error else {
        return error.into_request_error().into();
    };
    if let Some(Kind::UnknownLog(_)) = error.kind {
        return LeaseError::UnknownLog { log: log.clone(), maybe_done };
    }
    // A refusal says nothing of an attempt before it that may have been carried out.
    match error.kind.filter(|_| !maybe_done) {
        Some(Kind::TooLarge(v1::TooLarge { bound, limit, actual })) => LeaseError::OverBound { bound, limit, actual },
        Some(Kind::OutOfRange(v1::OutOfRange { start, end })) if start <= end => {
            LeaseError::OutOfRange { range: OffsetRange::new(Offset::new(start), Offset::new(end)) }
        }
        Some(Kind::LeaseNotHeld(v1::LeaseNotHeld { holder, grant: None })) => LeaseError::NotHeld { holder },
        Some(Kind::LeaseNotHeld(v1::LeaseNotHeld { holder, grant: Some(grant) })) => {
            LeaseError::Replaced { holder, grant }
        }
        _ => RequestError::Refused { address, message: error.message, maybe_done }.into(),
    }
}
