//! Who keeps a log's start where it is: leases.
//!
//! ```text
//!   start        lease of "replica-7"          end
//!   │────────────│─────────────────────────────│
//!   └ may go ────┘ stays until it is released, expires, goes over
//!                  the log's cap, or a trim is forced
//! ```
//!
//! A lease has a holder's name, and there is one of a name: to hold it again is to
//! renew it. It ends in log time. A trim that somebody asks for and that would strand
//! a holder is refused and names it; one of retention goes as far as leases let it.
//!
//! # Invariant
//! Only decided where commands are applied. What is granted is within start..=end,
//! and while it is held the start does not pass it, but by a trim that says so.

use std::collections::BTreeMap;

use quipu_protocol::{Offset, OffsetRange, Timestamp, stored};

use super::machine::LAST_OFFSET;
use crate::machine::MachineError;

/// How many leases a log has at a time, at most.
pub const MAX_LEASES: usize = 100;

/// The longest name of a lease's holder, in bytes.
pub const MAX_LEASE_HOLDER_BYTES: usize = 256;

/// One lease as it is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Whose it is.
    pub holder: String,
    /// The first offset that it keeps.
    pub offset: Offset,
    /// Log time when it ends.
    pub until: Timestamp,
}

/// Why a lease was not granted. Nothing was changed.
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
    /// It is to be renewed, and is not held (any more).
    #[error("there is no lease of that holder: it has ended, or was stranded by a forced trim")]
    NotHeld,
    /// Its holder's name is empty or too long.
    #[error("a holder's name has from 1 to {MAX_LEASE_HOLDER_BYTES} bytes")]
    BadHolder,
}

/// The leases of one log, by holder.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Leases {
    held: BTreeMap<String, Held>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Held {
    offset: Offset,
    until: Timestamp,
}

impl Leases {
    /// Lets go of those that have ended by `now`.
    pub(super) fn expire(&mut self, now: Timestamp) {
        self.held.retain(|_, held| held.until > now);
    }

    /// Grants or renews a lease for `ms` from `now` on.
    pub(super) fn hold(
        &mut self,
        wanted: stored::HoldLease,
        now: Timestamp,
        range: OffsetRange,
    ) -> Result<Lease, LeaseRefused> {
        let stored::HoldLease { holder, offset, ms, renew } = wanted;
        if holder.is_empty() || holder.len() > MAX_LEASE_HOLDER_BYTES {
            return Err(LeaseRefused::BadHolder);
        }
        let held = self.held.get(&holder);
        if renew && held.is_none() {
            return Err(LeaseRefused::NotHeld);
        }
        if held.is_none() && self.held.len() >= MAX_LEASES {
            return Err(LeaseRefused::TooMany);
        }
        // Renewed without a word, it stays where it is; new, it keeps all.
        let offset = offset.map(Offset::new).or(held.map(|held| held.offset)).unwrap_or(range.start());
        if offset < range.start() || offset > range.end() {
            return Err(LeaseRefused::OutOfRange { range });
        }
        let until = Timestamp::new(now.get().saturating_add(i64::try_from(ms).unwrap_or(i64::MAX)));
        self.held.insert(holder.clone(), Held { offset, until });
        Ok(Lease { holder, offset, until })
    }

    /// Lets go of a holder's lease; whether there was one.
    pub(super) fn release(&mut self, holder: &str) -> bool {
        self.held.remove(holder).is_some()
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

    /// When the lease of `holder` ends, if it is held.
    pub(super) fn until(&self, holder: &str) -> Option<Timestamp> {
        self.held.get(holder).map(|held| held.until)
    }

    /// All that are held, by holder.
    pub(super) fn all(&self) -> impl Iterator<Item = Lease> + '_ {
        self.held.iter().map(|(holder, held)| Lease { holder: holder.clone(), offset: held.offset, until: held.until })
    }

    /// As an image has them.
    pub(super) fn image(&self) -> Vec<stored::Lease> {
        let lease =
            |lease: Lease| stored::Lease { holder: lease.holder, offset: lease.offset.get(), until: lease.until.get() };
        self.all().map(lease).collect()
    }

    /// What an image of a log with `range` has.
    pub(super) fn from_image(image: Vec<stored::Lease>, range: OffsetRange) -> Result<Self, MachineError> {
        let refuse = |reason: String| MachineError::new("the leases of a log's image", reason);
        if image.len() > MAX_LEASES {
            return Err(refuse(format!("{} are more than {MAX_LEASES}", image.len())));
        }
        let mut held = BTreeMap::new();
        for stored::Lease { holder, offset, until } in image {
            if holder.is_empty() || holder.len() > MAX_LEASE_HOLDER_BYTES || offset > LAST_OFFSET {
                return Err(refuse(format!("a lease of {} bytes of name at {offset} is none", holder.len())));
            }
            let offset = Offset::new(offset);
            if offset < range.start() || offset > range.end() {
                return Err(refuse(format!("{holder:?} holds {offset} of {range}")));
            }
            if held.insert(holder.clone(), Held { offset, until: Timestamp::new(until) }).is_some() {
                return Err(refuse(format!("{holder:?} holds two")));
            }
        }
        Ok(Self { held })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, end: u64) -> OffsetRange {
        OffsetRange::new(Offset::new(start), Offset::new(end))
    }

    fn want(holder: &str, offset: Option<u64>, ms: u64, renew: bool) -> stored::HoldLease {
        stored::HoldLease { holder: holder.to_owned(), offset, ms, renew }
    }

    fn hold(leases: &mut Leases, holder: &str, offset: u64, now: i64) -> Result<Lease, LeaseRefused> {
        leases.hold(want(holder, Some(offset), 100, false), Timestamp::new(now), range(10, 50))
    }

    #[test]
    fn a_lease_is_held_until_it_ends_or_is_released() {
        let mut leases = Leases::default();
        let lease = Lease { holder: "a".to_owned(), offset: Offset::new(20), until: Timestamp::new(105) };
        assert_eq!(hold(&mut leases, "a", 20, 5), Ok(lease.clone()));
        leases.expire(Timestamp::new(104));
        let stranded_by = |to, past_before| leases.stranded_by(Offset::new(to), Offset::new(past_before));
        assert_eq!(stranded_by(21, 0), std::slice::from_ref(&lease));
        assert_eq!(stranded_by(21, 20), std::slice::from_ref(&lease));
        assert_eq!(stranded_by(20, 0), []);
        assert_eq!(stranded_by(21, 21), []);
        leases.expire(Timestamp::new(105));
        assert_eq!(leases, Leases::default());
        hold(&mut leases, "a", 20, 5).unwrap();
        assert!(leases.release("a") && !leases.release("a"));
    }

    #[test]
    fn a_renewal_stays_where_the_lease_is_or_moves_it_and_makes_none() {
        let mut leases = Leases::default();
        let renew =
            |leases: &mut Leases, offset| leases.hold(want("a", offset, 100, true), Timestamp::new(50), range(10, 50));
        assert_eq!(renew(&mut leases, None), Err(LeaseRefused::NotHeld));
        hold(&mut leases, "a", 20, 0).unwrap();
        let renewed = renew(&mut leases, None).unwrap();
        assert_eq!((renewed.offset.get(), renewed.until.get()), (20, 150));
        assert_eq!(renew(&mut leases, Some(30)).unwrap().offset.get(), 30);
        let outside = Err(LeaseRefused::OutOfRange { range: range(10, 50) });
        assert_eq!(renew(&mut leases, Some(9)), outside);
        assert_eq!(renew(&mut leases, Some(51)), outside);
    }

    #[test]
    fn there_are_so_many_and_names_are_so_long() {
        let mut leases = Leases::default();
        for n in 0..MAX_LEASES {
            hold(&mut leases, &n.to_string(), 20, 0).unwrap();
        }
        assert_eq!(hold(&mut leases, "one more", 20, 0), Err(LeaseRefused::TooMany));
        hold(&mut leases, "7", 21, 0).expect("it is held already");
        for bad in [String::new(), "x".repeat(MAX_LEASE_HOLDER_BYTES + 1)] {
            assert_eq!(hold(&mut leases, &bad, 20, 0), Err(LeaseRefused::BadHolder));
        }
    }

    #[test]
    fn what_is_stranded_is_let_go_of_and_named() {
        let mut leases = Leases::default();
        for (holder, offset) in [("a", 20), ("b", 30)] {
            hold(&mut leases, holder, offset, 0).unwrap();
        }
        let gone = leases.strand(Offset::new(30));
        assert_eq!(gone.iter().map(|lease| lease.holder.as_str()).collect::<Vec<_>>(), ["a"]);
        assert_eq!(leases.all().map(|lease| lease.holder).collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn an_image_is_taken_over_as_it_is_and_a_bad_one_refused() {
        let mut leases = Leases::default();
        for holder in ["a", "b"] {
            hold(&mut leases, holder, 20, 0).unwrap();
        }
        let image = leases.image();
        assert_eq!(Leases::from_image(image.clone(), range(20, 50)).unwrap(), leases);
        Leases::from_image(image.clone(), range(21, 50)).unwrap_err();
        Leases::from_image(image.clone(), range(0, 19)).unwrap_err();
        Leases::from_image(vec![image[0].clone(), image[0].clone()], range(20, 50)).unwrap_err();
        let nameless = stored::Lease { holder: String::new(), offset: 20, until: 1 };
        Leases::from_image(vec![nameless], range(20, 50)).unwrap_err();
    }
}
