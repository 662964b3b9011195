//! Leases of a log's start, and the trims that meet them.

use quipu_protocol::{Offset, stored, v1};
use quipu_raft::{Lease, LeaseError, LeaseRefused, MAX_LEASE_HOLDER_BYTES, MAX_LEASES, OnLeases, TrimError, Trimmed};

use super::SharedNode;
use super::append::Log;

/// Grants or renews a lease.
pub(super) async fn hold(
    shared: &SharedNode,
    request: v1::HoldLeaseRequest,
) -> Result<v1::HoldLeaseResponse, v1::Error> {
    let v1::HoldLeaseRequest { log, holder, offset, ms, grant, log_id, request_id, after } = request;
    check_holder(&holder)?;
    if ms == 0 {
        return Err(v1::Error::invalid_argument("ms", "a lease lasts from 1 ms on"));
    }
    if request_id == 0 {
        return Err(v1::Error::invalid_argument("request_id", "without one nobody knows a late copy"));
    }
    let log = Log::find(shared, &log, log_id).await?;
    let wanted = stored::HoldLease { holder: holder.clone(), offset, ms, grant, request_id, after };
    let held = log.replica()?.hold_lease(wanted).await.map_err(|error| refused(&log, &holder, offset, error))?;
    Ok(v1::HoldLeaseResponse { lease: Some(told(&log, held)), log_id: log.id().get() })
}

/// Lets go of a lease.
pub(super) async fn release(
    shared: &SharedNode,
    request: v1::ReleaseLeaseRequest,
) -> Result<v1::ReleaseLeaseResponse, v1::Error> {
    let v1::ReleaseLeaseRequest { log, holder, log_id, grant } = request;
    check_holder(&holder)?;
    if grant == 0 {
        return Err(v1::Error::invalid_argument("grant", "grants are numbered from 1 on"));
    }
    let log = Log::find(shared, &log, log_id).await?;
    let released = log.replica()?.release_lease(holder.clone(), grant).await;
    let released = released.map_err(|error| refused(&log, &holder, None, error))?;
    Ok(v1::ReleaseLeaseResponse { released, log_id: log.id().get() })
}

/// Nothing became of a lease that was to keep `offset`, or perhaps something did.
fn refused(log: &Log, holder: &str, offset: Option<u64>, error: LeaseError) -> v1::Error {
    match error {
        LeaseError::Command(error) => log.refused(error),
        LeaseError::TooLong { limit, actual } => v1::Error::too_large("max_lease_ms", limit, actual),
        LeaseError::Refused(LeaseRefused::TooMany) => {
            let limit = MAX_LEASES as u64;
            v1::Error::too_large("max_leases", limit, limit + 1)
        }
        LeaseError::Refused(LeaseRefused::OutOfRange { range }) => {
            v1::Error::out_of_range(offset.map_or(range.start(), Offset::new), range)
        }
        LeaseError::Refused(LeaseRefused::NotHeld { now }) => v1::Error::lease_not_held(holder, now),
        LeaseError::Refused(late @ LeaseRefused::TooLate) => v1::Error::invalid_argument("after", late),
        LeaseError::Refused(bad @ LeaseRefused::BadHolder) => v1::Error::invalid_argument("holder", bad),
    }
}

/// The leases of a log.
pub(super) async fn list(
    shared: &SharedNode,
    request: v1::ListLeasesRequest,
) -> Result<v1::ListLeasesResponse, v1::Error> {
    let log = Log::find(shared, &request.log, request.log_id).await?;
    let (leases, grants, range) = log.replica()?.leases().await.map_err(|error| log.unanswered(error))?;
    Ok(v1::ListLeasesResponse {
        leases: leases.into_iter().map(|lease| told(&log, lease)).collect(),
        grants,
        start: range.start().get(),
        end: range.end().get(),
        log_id: log.id().get(),
    })
}

/// Moves a log's start forward.
pub(super) async fn trim(shared: &SharedNode, request: v1::TrimRequest) -> Result<v1::TrimResponse, v1::Error> {
    let v1::TrimRequest { log, to, force, log_id } = request;
    let log = Log::find(shared, &log, log_id).await?;
    let leases = if force { OnLeases::Drop } else { OnLeases::Refuse };
    let Trimmed { range, stranded } =
        log.replica()?.trim(Offset::new(to), leases).await.map_err(|error| match error {
            TrimError::Strands(leases) => {
                v1::Error::strands_leases(leases.into_iter().map(|lease| told(&log, lease)).collect())
            }
            TrimError::Propose(error) => log.refused(error),
        })?;
    let (start, end) = (range.start().get(), range.end().get());
    let stranded = stranded.into_iter().map(|lease| told(&log, lease)).collect();
    Ok(v1::TrimResponse { start, end, stranded, log_id: log.id().get() })
}

fn check_holder(holder: &str) -> Result<(), v1::Error> {
    if holder.is_empty() || holder.len() > MAX_LEASE_HOLDER_BYTES {
        let reason = format!("it has {} bytes and may have from 1 to {MAX_LEASE_HOLDER_BYTES}", holder.len());
        return Err(v1::Error::invalid_argument("holder", reason));
    }
    Ok(())
}

fn told(log: &Log, lease: Lease) -> v1::Lease {
    let Lease { holder, grant, offset, until } = lease;
    v1::Lease { holder, offset: offset.get(), until: until.get(), grant, log_id: log.id().get() }
}
