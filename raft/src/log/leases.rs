//! Who keeps a log's start where it is: leases.
//!
//! ```text
//!   start        lease of "replica-7"          end
//!   │────────────│─────────────────────────────│
//!   └ may go ────┘ stays until it is released, expires, goes over
//!                  the log's cap, or a trim is forced
//! ```
//!
//! A lease has a holder's name, and there is one of a name. Each grant has a number,
//! which its renewals and its release name: to hold again is another grant, in place of
//! the one before, and what was meant for that one does nothing to it. A lease ends in
//! log time. A trim that somebody asks for and that would strand a holder is refused and
//! names it; one of retention goes as far as leases let it.
//!
//! Calls may come again, and late. A grant is known by its request id, a renewal as
//! well if it is one of the lease's last. And a grant says which was the log's last when
//! its caller asked for it: has its holder got another one since, the caller has gone on.
//!
//! # Invariant
//! Only decided where commands are applied. What is granted is within start..=end,
//! and while it is held the start does not pass it, but by a trim that says so. A log
//! gives no number twice.

use std::collections::{BTreeMap, VecDeque};

use quipu_protocol::{Offset, OffsetRange, Timestamp, stored};

use super::machine::{LAST_BYTE, LAST_OFFSET};
use crate::machine::MachineError;

/// How many leases a log has at a time, at most.
pub const MAX_LEASES: usize = 100;

/// The longest name of a lease's holder, in bytes.
pub const MAX_LEASE_HOLDER_BYTES: usize = 256;

/// How many grants a log remembers, to know what comes again or late; what comes later
/// than that is refused.
pub const REMEMBERED_GRANTS: usize = 64;

/// How many renewals of a lease are remembered, to know one that comes again.
pub const REMEMBERED_RENEWALS: usize = 8;

/// One lease as it is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Whose it is.
    pub holder: String,
    /// The number of its grant, from 1 on.
    pub grant: u64,
    /// The first offset that it keeps.
    pub offset: Offset,
    /// Log time when it ends.
    pub until: Timestamp,
}

/// How much there is of a log's leases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaseTotals {
    /// How many there are.
    pub count: u64,
    /// Bytes that commands to them took in all entries so far.
    pub entry_bytes: u64,
}

/// Why a lease was not granted, renewed or released. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaseRefused {
    /// The log has as many as it may have.
    #[error("the log has {MAX_LEASES} leases (max_leases), as many as it may")]
    TooMany,
    /// What it is to keep is not there.
    #[error("the log has {range}: a lease keeps an offset from start to end")]
    OutOfRange {
        /// What there is.
        range: OffsetRange,
    },
    /// That grant is not held (any more): it has ended, was stranded by a forced trim,
    /// or another one is in its place.
    #[error("that grant is not held; the holder has {now:?}")]
    NotHeld {
        /// The number of the grant that the holder has.
        now: Option<u64>,
    },
    /// So many were granted since its caller asked that nobody knows whether one of
    /// them was its holder's.
    #[error("more than {REMEMBERED_GRANTS} leases were granted since")]
    TooLate,
    /// Its holder's name is empty or too long.
    #[error("a holder's name has from 1 to {MAX_LEASE_HOLDER_BYTES} bytes")]
    BadHolder,
}

/// The leases of one log, by holder.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Leases {
    held: BTreeMap<String, Held>,
    /// The number of the last grant.
    granted: u64,
    /// The last grants, oldest first.
    recent: VecDeque<Granted>,
    /// Bytes of the commands so far.
    written: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Held {
    grant: u64,
    offset: Offset,
    until: Timestamp,
    /// Request ids of the last renewals, oldest first.
    recent: VecDeque<u64>,
}

/// A grant, whatever has become of it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Granted {
    request_id: u64,
    grant: u64,
    holder: String,
}

impl Held {
    fn lease(&self, holder: String) -> Lease {
        Lease { holder, grant: self.grant, offset: self.offset, until: self.until }
    }
}

impl Leases {
    /// Counts what a command takes in an entry.
    pub(super) fn count(&mut self, bytes: usize) {
        self.written += bytes as u64;
    }

    /// How much there is of them.
    pub(super) fn totals(&self) -> LeaseTotals {
        LeaseTotals { count: self.held.len() as u64, entry_bytes: self.written }
    }

    /// Lets go of those that have ended by `now`.
    pub(super) fn expire(&mut self, now: Timestamp) {
        self.held.retain(|_, held| held.until > now);
    }

    /// Grants or renews a lease for `ms` from `now` on. What was done before is told
    /// again, as it is now.
    pub(super) fn hold(
        &mut self,
        wanted: stored::HoldLease,
        now: Timestamp,
        range: OffsetRange,
    ) -> Result<Lease, LeaseRefused> {
        let stored::HoldLease { holder, offset, ms, grant, request_id, after } = wanted;
        if holder.is_empty() || holder.len() > MAX_LEASE_HOLDER_BYTES {
            return Err(LeaseRefused::BadHolder);
        }
        let held = self.held.get(&holder);
        let meant = if grant == 0 { self.given_before(&holder, request_id, after)? } else { Some(grant) };
        if let Some(meant) = meant {
            let is_meant = held.filter(|held| held.grant == meant);
            let held = is_meant.ok_or(LeaseRefused::NotHeld { now: held.map(|held| held.grant) })?;
            if grant == 0 || (request_id != 0 && held.recent.contains(&request_id)) {
                quipu_protocol::point!("lease-held-again");
                return Ok(held.lease(holder));
            }
        }
        if held.is_none() && self.held.len() >= MAX_LEASES {
            return Err(LeaseRefused::TooMany);
        }
        // Without a word it stays where it is; if there is none, it keeps all.
        let offset = offset.map(Offset::new).or(held.map(|held| held.offset)).unwrap_or(range.start());
        if offset < range.start() || offset > range.end() {
            return Err(LeaseRefused::OutOfRange { range });
        }
        let until = Timestamp::new(now.get().saturating_add(i64::try_from(ms).unwrap_or(i64::MAX)));
        let held = match self.held.remove(&holder).filter(|_| grant != 0) {
            Some(mut held) => {
                remember(&mut held.recent, request_id, REMEMBERED_RENEWALS);
                Held { offset, until, ..held }
            }
            None => {
                self.granted += 1;
                let grant = self.granted;
                remember(&mut self.recent, Granted { request_id, grant, holder: holder.clone() }, REMEMBERED_GRANTS);
                Held { grant, offset, until, recent: VecDeque::new() }
            }
        };
        let lease = held.lease(holder.clone());
        self.held.insert(holder, held);
        Ok(lease)
    }

    /// The number that was given to this very request, if it comes again. Refused if
    /// its holder was granted another lease after `after`.
    fn given_before(&self, holder: &str, request_id: u64, after: u64) -> Result<Option<u64>, LeaseRefused> {
        let mut newer = self.recent.iter().filter(|granted| granted.grant > after);
        let is_it = |granted: &&Granted| request_id != 0 && granted.request_id == request_id;
        if let Some(granted) = newer.clone().find(is_it) {
            return Ok(Some(granted.grant));
        }
        if newer.any(|granted| granted.holder == holder) {
            quipu_protocol::point!("lease-too-late");
            return Err(LeaseRefused::NotHeld { now: self.held.get(holder).map(|held| held.grant) });
        }
        // All that were granted since are remembered, or nobody can tell.
        let is_known = self.granted.saturating_sub(after) <= self.recent.len() as u64;
        is_known.then_some(None).ok_or(LeaseRefused::TooLate)
    }

    /// The number of the last grant; 0 before any.
    pub(super) fn granted(&self) -> u64 {
        self.granted
    }

    /// Lets go of a holder's lease, if it is that grant; whether there was one.
    pub(super) fn release(&mut self, holder: &str, grant: u64) -> Result<bool, LeaseRefused> {
        match self.held.get(holder).map(|held| held.grant) {
            None => Ok(false),
            Some(now) if now == grant => Ok(self.held.remove(holder).is_some()),
            now => Err(LeaseRefused::NotHeld { now }),
        }
    }

    /// Those whose records a start at `to` would take away, but for those of offsets
    /// before `past_before`.
    pub(super) fn stranded_by(&self, to: Offset, past_before: Offset) -> Vec<Lease> {
        self.all().filter(|lease| lease.offset < to && lease.offset >= past_before).collect()
    }

    /// Lets go of what is in front of the log's start.
    pub(super) fn strand(&mut self, start: Offset) -> Vec<Lease> {
        let gone = self.stranded_by(start, Offset::ZERO);
        self.held.retain(|_, held| held.offset >= start);
        gone
    }

    /// What `holder` has.
    pub(super) fn of(&self, holder: &str) -> Option<Lease> {
        self.held.get(holder).map(|held| held.lease(holder.to_owned()))
    }

    /// All that are held, by holder.
    pub(super) fn all(&self) -> impl Iterator<Item = Lease> + '_ {
        self.held.iter().map(|(holder, held)| held.lease(holder.clone()))
    }

    /// Puts them into an image.
    pub(super) fn image(&self, image: &mut stored::LogState) {
        let lease = |(holder, held): (&String, &Held)| stored::Lease {
            holder: holder.clone(),
            offset: held.offset.get(),
            until: held.until.get(),
            grant: held.grant,
            recent: held.recent.iter().copied().collect(),
        };
        let granted = |granted: &Granted| stored::LeaseGrant {
            request_id: granted.request_id,
            grant: granted.grant,
            holder: granted.holder.clone(),
        };
        image.leases = self.held.iter().map(lease).collect();
        image.lease_grants = self.granted;
        image.lease_bytes = self.written;
        image.recent_grants = self.recent.iter().map(granted).collect();
    }

    /// Takes them out of an image, whose log has a start and an end.
    pub(super) fn from_image(image: &mut stored::LogState) -> Result<Self, MachineError> {
        let refuse = |reason: String| MachineError::new("the leases of a log's image", reason);
        let (leases, granted, written) = (std::mem::take(&mut image.leases), image.lease_grants, image.lease_bytes);
        if leases.len() > MAX_LEASES || image.recent_grants.len() > REMEMBERED_GRANTS {
            return Err(refuse(format!("{} leases and {} grants", leases.len(), image.recent_grants.len())));
        }
        if granted == u64::MAX {
            return Err(refuse(format!("grant {granted} leaves no other")));
        }
        if written > LAST_BYTE {
            return Err(refuse(format!("{written} bytes of commands are more than there can be")));
        }
        let is_given = |grant: u64| (1..=granted).contains(&grant);
        let mut recent = VecDeque::new();
        for stored::LeaseGrant { request_id, grant, holder } in std::mem::take(&mut image.recent_grants) {
            let follows = recent.back().is_none_or(|before: &Granted| before.grant + 1 == grant);
            if !is_given(grant) || !follows || holder.len() > MAX_LEASE_HOLDER_BYTES {
                return Err(refuse(format!("grant {grant} is none of {granted}, or out of order")));
            }
            recent.push_back(Granted { request_id, grant, holder });
        }
        if recent.back().map_or(0, |last| last.grant) != granted {
            return Err(refuse(format!("grant {granted} is not remembered")));
        }
        let mut held = BTreeMap::new();
        for stored::Lease { holder, offset, until, grant, recent } in leases {
            if holder.is_empty() || holder.len() > MAX_LEASE_HOLDER_BYTES || offset > LAST_OFFSET {
                return Err(refuse(format!("a lease of {} bytes of name at {offset} is none", holder.len())));
            }
            if offset < image.start || offset > image.end {
                return Err(refuse(format!("{holder:?} holds {offset} of {}..{}", image.start, image.end)));
            }
            if !is_given(grant) || recent.len() > REMEMBERED_RENEWALS {
                return Err(refuse(format!("{holder:?} holds grant {grant} with {} renewals", recent.len())));
            }
            let (offset, until) = (Offset::new(offset), Timestamp::new(until));
            if held.insert(holder.clone(), Held { grant, offset, until, recent: recent.into() }).is_some() {
                return Err(refuse(format!("{holder:?} holds two")));
            }
        }
        Ok(Self { held, granted, recent, written })
    }
}

/// Adds one at the end, and lets the first go if there are more than `most`.
fn remember<T>(recent: &mut VecDeque<T>, one: T, most: usize) {
    if recent.len() == most {
        recent.pop_front();
    }
    recent.push_back(one);
}

#[cfg(test)]
mod tests;
