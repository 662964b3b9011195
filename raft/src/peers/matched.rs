//! What a replica has answered to appends so far, against which later answers
//! are held.
//!
//! Appends are sent without waiting for each other. Should a network let one
//! overtake the one before it, it is refused for what is not there yet, and that
//! refusal is heard after the other one's success: as if the replica had lost
//! what it had. openraft would take it so, and never send the right entry again
//! once it is purged here.

use openraft::raft::AppendEntriesResponse;

use crate::types::{LogId, TypeConfig};

/// Up to where a replica is known to hold its leader's entries.
#[derive(Debug, Default)]
pub(super) struct Matched(Option<LogId>);

/// A replica refused an append for want of an entry that it has acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an append overtook the one before it, and was refused for that")]
pub(super) struct Overtook;

impl Matched {
    /// The answer to an append behind `previous` whose last entry is `last`, if
    /// it says something of the replica as it is now.
    ///
    /// # Errors
    /// [`Overtook`] when the append has to be sent again.
    pub(super) fn hear(
        &mut self,
        previous: Option<LogId>,
        last: Option<LogId>,
        response: AppendEntriesResponse<TypeConfig>,
    ) -> Result<AppendEntriesResponse<TypeConfig>, Overtook> {
        match &response {
            AppendEntriesResponse::Success => self.0 = self.0.max(last),
            AppendEntriesResponse::PartialSuccess(upto) => self.0 = self.0.max(*upto),
            AppendEntriesResponse::Conflict if self.0.is_some() && previous <= self.0 => return Err(Overtook),
            AppendEntriesResponse::Conflict | AppendEntriesResponse::HigherVote(_) => {}
        }
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(index: u64) -> Option<LogId> {
        Some(LogId::new_term_index(1, index))
    }

    #[test]
    fn refusal_of_what_was_acknowledged_is_no_conflict() {
        let mut matched = Matched::default();
        assert!(matched.hear(id(46), id(47), AppendEntriesResponse::Success).is_ok());
        assert_eq!(matched.hear(id(47), id(48), AppendEntriesResponse::Conflict).unwrap_err(), Overtook);
        assert_eq!(matched.hear(id(40), id(41), AppendEntriesResponse::Conflict).unwrap_err(), Overtook);
        // What it never had, it may refuse.
        assert!(matched.hear(id(48), id(49), AppendEntriesResponse::Conflict).is_ok());
        assert!(matched.hear(id(48), id(50), AppendEntriesResponse::PartialSuccess(id(49))).is_ok());
        assert_eq!(matched.hear(id(48), id(49), AppendEntriesResponse::Conflict).unwrap_err(), Overtook);
    }

    #[test]
    fn replica_of_which_nothing_is_known_may_refuse_all() {
        let mut matched = Matched::default();
        assert!(matched.hear(id(3), id(4), AppendEntriesResponse::Conflict).is_ok());
        assert!(matched.hear(None, None, AppendEntriesResponse::Success).is_ok());
        assert!(matched.hear(id(0), id(4), AppendEntriesResponse::Conflict).is_ok());
    }
}
