//! What a registrar's leader sees to by itself.
//!
//! ```text
//!   not heard of ──────────▶ dropped
//!   asked, not let go of ──▶ taken
//!   the catalog changed ───▶ other logs match
//! ```
//!
//! Each of them is an entry, proposed again as long as it is due: whether this
//! replica still leads, its term decides.

use std::future::pending;
use std::time::Duration;

use super::matching::{Matching, States};
use super::replica::Shared;
use super::{ReadersError, Registrar, commands};
use crate::catalog::Catalog;

/// What could not be proposed is tried again after this time.
const AGAIN: Duration = Duration::from_secs(1);

/// Sees to it for as long as the replica runs.
pub(super) async fn mind(shared: Shared) {
    let (mut applied, mut known) = (shared.group.applied(), shared.catalog.applied());
    let mut minder = Minder { shared, matching: Matching::default() };
    loop {
        applied.mark_unchanged();
        known.mark_unchanged();
        let next = match minder.round().await {
            Ok(next) => next,
            Err(ReadersError::Stopped(_)) => return,
            // Whoever comes to lead applies something.
            Err(ReadersError::NotLeader { .. }) => None,
            Err(error) => {
                tracing::debug!(%error, "a registrar's leader cannot propose what is due");
                Some(minder.shared.now() + AGAIN)
            }
        };
        let clock = &minder.shared.environment.clock;
        let due = async {
            match next {
                Some(next) => clock.sleep(next.saturating_sub(clock.monotonic())).await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            changed = applied.changed() => if changed.is_err() {
                return;
            },
            changed = known.changed() => if changed.is_err() {
                return;
            },
            () = due => {}
        }
    }
}

struct Minder {
    shared: Shared,
    matching: Matching,
}

impl Minder {
    /// Does what is due, or the first of it, if this replica leads; when more may be
    /// due.
    async fn round(&mut self) -> Result<Option<Duration>, ReadersError> {
        let shared = &self.shared;
        let term = shared.settle().await?;
        let due = shared.group.view(|registrar| shared.vigil().look(registrar, term, shared.now()));
        // One entry a look: what was due in one term is not by what the next one has
        // heard, and whoever waited for the entry may have been heard of.
        if let Some((group, members)) = due.silent.first_key_value() {
            tracing::info!(%group, ?members, "members of a reader group were not heard of");
            shared.done(commands::drop_members(group, members)).await?;
            quipu_protocol::point!("reader-expired");
            return Ok(Some(shared.now()));
        }
        if let Some((group, shares)) = due.kept.first_key_value() {
            tracing::info!(%group, logs = shares.len(), "logs are taken from members that do not let go");
            shared.done(commands::take_shares(group, shares)).await?;
            quipu_protocol::point!("reader-shares-taken");
            return Ok(Some(shared.now()));
        }
        self.match_logs().await?;
        Ok(due.next)
    }

    async fn match_logs(&mut self) -> Result<(), ReadersError> {
        let shared = &self.shared;
        let Some(looked) = self.matching.look(shared) else { return Ok(()) };
        for (group, pattern, matched) in &looked.changed {
            shared.done(commands::match_logs(group, pattern, matched)).await?;
        }
        self.matching.settle(looked);
        Ok(())
    }
}

impl States for Shared {
    fn catalog<T>(&self, look: impl FnOnce(&Catalog) -> T) -> T {
        self.catalog.view(look)
    }

    fn registrar<T>(&self, look: impl FnOnce(&Registrar) -> T) -> T {
        self.group.view(look)
    }
}
