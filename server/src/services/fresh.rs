//! How new what a replica answers has to be, beyond what it happens to have.
//!
//! Two bounds, each with its own refusal: an end that has to be applied here, which
//! is waited for, and an age that a local answer must not exceed.

use std::time::Duration;

use quipu_protocol::v1::{self, Consistency};
use quipu_protocol::{LogName, Offset};
use quipu_raft::{Freshness, LogReplica};

use super::{Shared, ending, refusals};

/// The longest that a replica is waited for.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// What a reader asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    at_least: Offset,
    wait: Duration,
    max_age_ms: Option<u64>,
}

impl Wanted {
    /// What `request`, of this consistency, asks for.
    pub(super) fn by(request: &v1::ReadRequest, consistency: Consistency) -> Result<Self, v1::Error> {
        let wait = Duration::from_millis(request.wait_ms.into());
        if wait > MAX_WAIT {
            return Err(v1::Error::too_large("wait_ms", MAX_WAIT.as_secs() * 1000, request.wait_ms.into()));
        }
        if request.max_age_ms.is_some() && consistency != Consistency::Local {
            return Err(v1::Error::invalid_argument("max_age_ms", "only a local read has an age"));
        }
        Ok(Self { at_least: Offset::new(request.at_least), wait, max_age_ms: request.max_age_ms })
    }

    /// Waits until `replica` has applied what has to be there, or says that it has
    /// not.
    pub(super) async fn reached(&self, shared: &Shared, name: &LogName, replica: &LogReplica) -> Result<(), v1::Error> {
        let Some(last) = self.at_least.get().checked_sub(1).map(Offset::new) else { return Ok(()) };
        if replica.range().end() > last {
            return Ok(());
        }
        let there = async {
            tokio::select! {
                biased;
                there = replica.wait_past(last) => {
                    there.map_err(|reason| refusals::of_stopped(&shared.node, name, &reason))
                }
                () = shared.ending.cancelled() => Err(ending()),
            }
        };
        let waited = shared.environment.clock.timeout(self.wait, there).await;
        waited.unwrap_or_else(|_| Err(v1::Error::not_yet_applied(shared.node_id, self.at_least, replica.range().end())))
    }

    /// Refuses what may be older than it must be. `fresh` is what `replica` knew
    /// before it was read from.
    pub(super) fn judge(&self, shared: &Shared, replica: &LogReplica, fresh: Freshness) -> Result<(), v1::Error> {
        let Some(max_age_ms) = self.max_age_ms else { return Ok(()) };
        let v1::Freshness { leader_end, age_ms } = told(shared, fresh);
        if age_ms.is_some_and(|age| age <= max_age_ms) {
            return Ok(());
        }
        let (node, end) = (shared.node_id.get(), replica.range().end().get());
        Err(v1::Error::too_stale(v1::TooStale { node, max_age_ms, age_ms, end, leader_end: leader_end.max(end) }))
    }
}

/// What an answer that is given now says of its freshness.
pub(super) fn told(shared: &Shared, fresh: Freshness) -> v1::Freshness {
    let now = shared.environment.clock.monotonic();
    let age = fresh.as_of.map(|as_of| now.saturating_sub(as_of));
    // Rounded up: younger than it is, it must not seem.
    let age_ms = age.map(|age| u64::try_from(age.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX));
    v1::Freshness { leader_end: fresh.reach, age_ms }
}
