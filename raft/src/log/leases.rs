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

use super::machine::LAST_OFFSET;
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

    /// When the lease of `holder` ends, if it is held and is that grant.
    pub(super) fn until(&self, holder: &str, grant: u64) -> Option<Timestamp> {
        self.held.get(holder).filter(|held| held.grant == grant).map(|held| held.until)
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
        image.recent_grants = self.recent.iter().map(granted).collect();
    }

    /// Takes them out of an image, whose log has a start and an end.
    pub(super) fn from_image(image: &mut stored::LogState) -> Result<Self, MachineError> {
        let refuse = |reason: String| MachineError::new("the leases of a log's image", reason);
        let (leases, granted) = (std::mem::take(&mut image.leases), image.lease_grants);
        if leases.len() > MAX_LEASES || image.recent_grants.len() > REMEMBERED_GRANTS {
            return Err(refuse(format!("{} leases and {} grants", leases.len(), image.recent_grants.len())));
        }
        if granted == u64::MAX {
            return Err(refuse(format!("grant {granted} leaves no other")));
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
        Ok(Self { held, granted, recent })
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
mod tests {
    use super::*;

    fn range(start: u64, end: u64) -> OffsetRange {
        OffsetRange::new(Offset::new(start), Offset::new(end))
    }

    fn new(holder: &str, offset: u64) -> stored::HoldLease {
        stored::HoldLease { holder: holder.to_owned(), offset: Some(offset), ms: 100, ..Default::default() }
    }

    fn ask(leases: &mut Leases, wanted: stored::HoldLease, now: i64) -> Result<Lease, LeaseRefused> {
        leases.hold(wanted, Timestamp::new(now), range(10, 50))
    }

    /// By somebody who knows what was granted.
    fn hold(leases: &mut Leases, holder: &str, offset: u64, now: i64) -> Result<Lease, LeaseRefused> {
        let after = leases.granted();
        ask(leases, stored::HoldLease { after, ..new(holder, offset) }, now)
    }

    #[test]
    fn a_lease_is_held_until_it_ends_or_is_released() {
        let mut leases = Leases::default();
        let lease = Lease { holder: "a".to_owned(), grant: 1, offset: Offset::new(20), until: Timestamp::new(105) };
        assert_eq!(hold(&mut leases, "a", 20, 5), Ok(lease.clone()));
        leases.expire(Timestamp::new(104));
        let stranded_by = |to, past_before| leases.stranded_by(Offset::new(to), Offset::new(past_before));
        assert_eq!(stranded_by(21, 0), std::slice::from_ref(&lease));
        assert_eq!(stranded_by(21, 20), std::slice::from_ref(&lease));
        assert_eq!(stranded_by(20, 0), []);
        assert_eq!(stranded_by(21, 21), []);
        leases.expire(Timestamp::new(105));
        assert_eq!(leases.all().count(), 0);
        let again = hold(&mut leases, "a", 20, 5).unwrap();
        assert_eq!((again.grant, leases.release("a", 2), leases.release("a", 2)), (2, Ok(true), Ok(false)));
    }

    #[test]
    fn a_renewal_stays_where_the_lease_is_or_moves_it_and_makes_none() {
        let mut leases = Leases::default();
        let renew =
            |leases: &mut Leases, offset| ask(leases, stored::HoldLease { offset, grant: 1, ..new("a", 0) }, 50);
        assert_eq!(renew(&mut leases, None), Err(LeaseRefused::NotHeld { now: None }));
        hold(&mut leases, "a", 20, 0).unwrap();
        let renewed = renew(&mut leases, None).unwrap();
        assert_eq!((renewed.grant, renewed.offset.get(), renewed.until.get()), (1, 20, 150));
        assert_eq!(renew(&mut leases, Some(30)).unwrap().offset.get(), 30);
        let outside = Err(LeaseRefused::OutOfRange { range: range(10, 50) });
        assert_eq!(renew(&mut leases, Some(9)), outside);
        assert_eq!(renew(&mut leases, Some(51)), outside);
    }

    #[test]
    fn what_comes_late_for_one_grant_does_nothing_to_the_next() {
        let mut leases = Leases::default();
        let first = stored::HoldLease { request_id: 7, ..new("a", 20) };
        assert_eq!(ask(&mut leases, first.clone(), 0).unwrap().grant, 1);
        leases.release("a", 1).unwrap();
        let gone = Err(LeaseRefused::NotHeld { now: None });
        assert_eq!(ask(&mut leases, first.clone(), 1), gone, "it is not held again");
        let second = stored::HoldLease { request_id: 8, after: 1, ..new("a", 30) };
        let held = ask(&mut leases, second.clone(), 2).unwrap();
        // Whoever holds it twice at a time has the second grant alone.
        let other = Err(LeaseRefused::NotHeld { now: Some(2) });
        assert_eq!(ask(&mut leases, first, 3), other);
        assert_eq!(ask(&mut leases, stored::HoldLease { grant: 1, request_id: 9, ..new("a", 40) }, 3), other);
        assert_eq!(leases.release("a", 1), Err(LeaseRefused::NotHeld { now: Some(2) }));
        assert_eq!(leases.all().collect::<Vec<_>>(), std::slice::from_ref(&held));
        assert_eq!(ask(&mut leases, second, 4), Ok(held), "a repeat is told what there is");
    }

    #[test]
    fn a_grant_that_comes_first_when_its_caller_has_gone_on_is_none() {
        let mut leases = Leases::default();
        let slow = |after| stored::HoldLease { request_id: 7, after, ..new("a", 20) };
        let held = ask(&mut leases, stored::HoldLease { request_id: 8, ..new("a", 30) }, 0).unwrap();
        assert_eq!(ask(&mut leases, slow(0), 1), Err(LeaseRefused::NotHeld { now: Some(1) }));
        assert_eq!(leases.all().collect::<Vec<_>>(), [held]);
        leases.release("a", 1).unwrap();
        assert_eq!(ask(&mut leases, slow(0), 1), Err(LeaseRefused::NotHeld { now: None }));
        // Others are none of its caller's, as long as it is known who got them.
        for _ in 0..REMEMBERED_GRANTS {
            hold(&mut leases, "b", 20, 1).unwrap();
        }
        assert_eq!(ask(&mut leases, slow(0), 1), Err(LeaseRefused::TooLate));
        assert_eq!(ask(&mut leases, slow(1), 1).map(|lease| lease.holder), Ok("a".to_owned()));
    }

    #[test]
    fn a_renewal_that_comes_again_undoes_none_that_came_after_it() {
        let mut leases = Leases::default();
        hold(&mut leases, "a", 20, 0).unwrap();
        let renewal = |offset, request_id| stored::HoldLease { grant: 1, request_id, ..new("a", offset) };
        ask(&mut leases, renewal(30, 1), 10).unwrap();
        let last = ask(&mut leases, renewal(25, 2), 20).unwrap();
        assert_eq!(ask(&mut leases, renewal(30, 1), 15), Ok(last));
        let most = u64::try_from(REMEMBERED_RENEWALS).unwrap();
        for id in 3..=most + 1 {
            ask(&mut leases, renewal(26, id), 20).unwrap();
        }
        assert_eq!(ask(&mut leases, renewal(25, 2), 30).unwrap().offset.get(), 26, "it is one of the last");
        ask(&mut leases, renewal(26, most + 2), 30).unwrap();
        assert_eq!(ask(&mut leases, renewal(25, 2), 30).unwrap().offset.get(), 25, "it is forgotten");
    }

    #[test]
    fn there_are_so_many_and_names_are_so_long() {
        let mut leases = Leases::default();
        for n in 0..MAX_LEASES {
            hold(&mut leases, &n.to_string(), 20, 0).unwrap();
        }
        assert_eq!(hold(&mut leases, "one more", 20, 0), Err(LeaseRefused::TooMany));
        hold(&mut leases, "7", 21, 0).expect("it takes the place of the one that is there");
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
        for (holder, request_id) in [("gone", 4), ("a", 5), ("b", 6)] {
            ask(&mut leases, stored::HoldLease { request_id, ..new(holder, 20) }, 0).unwrap();
        }
        ask(&mut leases, stored::HoldLease { grant: 2, request_id: 7, ..new("a", 20) }, 0).unwrap();
        leases.release("gone", 1).unwrap();
        let image = |start, end| {
            let mut image = stored::LogState { start, end, ..stored::LogState::default() };
            leases.image(&mut image);
            image
        };
        assert_eq!(Leases::from_image(&mut image(20, 50)).unwrap(), leases);
        let refused = |image: &mut stored::LogState| Leases::from_image(image).unwrap_err();
        refused(&mut image(21, 50));
        refused(&mut image(0, 19));
        let wrong: [fn(&mut stored::LogState); 8] = [
            |image| image.leases[1] = image.leases[0].clone(),
            |image| image.leases[0].holder.clear(),
            |image| image.leases[0].grant = 0,
            |image| image.leases[0].recent = vec![1; REMEMBERED_RENEWALS + 1],
            |image| image.lease_grants = 2,
            |image| image.lease_grants = 4,
            |image| drop(image.recent_grants.remove(1)),
            |image| image.lease_grants = u64::MAX,
        ];
        for spoil in wrong {
            let mut image = image(20, 50);
            spoil(&mut image);
            refused(&mut image);
        }
    }
}
