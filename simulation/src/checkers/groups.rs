//! What reader groups are delivered and commit, held against what they promise, as
//! it happens.
//!
//! ```text
//!   delivered   0 1 2 3 4   6          of a group and a log, by any member
//!   reaches     ──────────▶ 5          a commit beyond skips a record
//!   claimed under 3, then 7            a commit under 3 after that is refused
//!   acknowledged ─────▶ 3              a later claim finds no less, and no more than
//!   asked for    ─────────▶ 5          anybody asked for
//!   claimed at 4: 4 5 6 …              what its member is delivered from then on
//! ```
//!
//! A commit of unknown outcome may still take effect after a later one, and leave the
//! position where it says: what it repeats is no record skipped.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::history::Copies;
use crate::violation::Violation;

/// What groups were delivered and committed.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    shelves: BTreeMap<(String, String), Shelf>,
    members: u64,
}

/// What a group was delivered and committed of a log.
#[derive(Debug, Default)]
struct Shelf {
    /// The records, by offset.
    delivered: BTreeMap<u64, u64>,
    /// The first offset that nobody was delivered.
    reaches: u64,
    /// Under which generations the log's position was taken over, and when that was
    /// known.
    claims: Vec<(u64, Duration)>,
    /// Who committed under a generation.
    committers: BTreeMap<u64, BTreeSet<u64>>,
    /// The highest position that anybody asked to be committed.
    asked: u64,
    /// Positions with their generations that were acknowledged to be committed, and
    /// when that was known.
    acknowledged: Vec<(u64, u64, Duration)>,
    /// How many commits of a position under a generation were asked for and not
    /// acknowledged.
    unsettled: BTreeMap<(u64, u64), u64>,
    /// What each member is to be delivered next.
    expected: BTreeMap<u64, u64>,
}

/// A member took a log's position over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claim<'a> {
    /// The group.
    pub(crate) group: &'a str,
    /// The log.
    pub(crate) log: &'a str,
    /// Under which generation.
    pub(crate) generation: u64,
    /// Which membership of the run.
    pub(crate) member: u64,
    /// The position that it found, if there was any.
    pub(crate) found: Option<u64>,
    /// When it was asked for.
    pub(crate) began: Duration,
    /// When its answer was known.
    pub(crate) ended: Duration,
}

/// A commit of a group's position in a log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Commit<'a> {
    /// The group.
    pub(crate) group: &'a str,
    /// The log.
    pub(crate) log: &'a str,
    /// Under which generation.
    pub(crate) generation: u64,
    /// Which membership of the run.
    pub(crate) member: u64,
    /// The next offset to be read.
    pub(crate) position: u64,
    /// When it was asked for.
    pub(crate) began: Duration,
}

impl Groups {
    /// A number for a membership.
    pub(crate) fn member(&mut self) -> u64 {
        self.members += 1;
        self.members
    }

    /// The first offset that no member of the group was delivered.
    pub(crate) fn reaches(&self, group: &str, log: &str) -> u64 {
        self.shelves.get(&(group.to_owned(), log.to_owned())).map_or(0, |shelf| shelf.reaches)
    }

    /// A member was delivered a record.
    pub(crate) fn delivered(
        &mut self,
        group: &str,
        log: &str,
        member: u64,
        offset: u64,
        value: u64,
    ) -> Option<Violation> {
        let shelf = self.shelf(group, log);
        let expected = shelf.expected.insert(member, offset + 1);
        let before = shelf.delivered.insert(offset, value);
        while shelf.delivered.contains_key(&shelf.reaches) {
            shelf.reaches += 1;
        }
        if expected != Some(offset) {
            let details = format!("group {group}, log {log}, member {member}: {offset}, not {expected:?}");
            return Some(Violation::new("members-read-on-from-their-claims", details));
        }
        let before = before.filter(|before| *before != value)?;
        let details = format!("group {group}, log {log}, offset {offset}: {before} and {value} were delivered");
        Some(Violation::new("members-read-what-the-log-holds", details))
    }

    /// The log's position was taken over.
    pub(crate) fn claimed(&mut self, claim: Claim<'_>) -> Option<Violation> {
        let shelf = self.shelf(claim.group, claim.log);
        shelf.claims.push((claim.generation, claim.ended));
        let found = claim.found.unwrap_or_default();
        shelf.expected.insert(claim.member, found);
        if found > shelf.asked {
            let details = format!("{claim:?}: nobody asked for more than {}", shelf.asked);
            return Some(Violation::new("a-group-goes-on-where-it-committed", details));
        }
        // By generation first: one may have begun lower, where an earlier one's late
        // commit had left it.
        let before = shelf.acknowledged.iter().filter(|(.., at)| *at <= claim.began);
        let (generation, position) = before.map(|(position, generation, _)| (*generation, *position)).max()?;
        let may_have_landed = |(at, under): &(u64, u64)| *at == found && *under >= generation;
        if found < position && !shelf.unsettled.keys().any(may_have_landed) {
            let details = format!("{claim:?}: {position} was committed under {generation}");
            return Some(Violation::new("a-group-goes-on-where-it-committed", details));
        }
        None
    }

    /// A member commits.
    pub(crate) fn commits(&mut self, commit: Commit<'_>) -> Option<Violation> {
        let shelf = self.shelf(commit.group, commit.log);
        shelf.asked = shelf.asked.max(commit.position);
        *shelf.unsettled.entry((commit.position, commit.generation)).or_default() += 1;
        let reaches = shelf.reaches;
        (commit.position > reaches).then(|| {
            Violation::new("no-group-skips-a-record", format!("{commit:?}, and {reaches} was never delivered"))
        })
    }

    /// The commit was taken, as was known at `at`.
    pub(crate) fn committed(&mut self, commit: Commit<'_>, at: Duration) -> Option<Violation> {
        let shelf = self.shelf(commit.group, commit.log);
        shelf.acknowledged.push((commit.position, commit.generation, at));
        let key = (commit.position, commit.generation);
        if let Some(unsettled) = shelf.unsettled.get_mut(&key) {
            *unsettled -= 1;
            if *unsettled == 0 {
                shelf.unsettled.remove(&key);
            }
        }
        let committers = shelf.committers.entry(commit.generation).or_default();
        committers.insert(commit.member);
        if committers.len() > 1 {
            let details = format!("{commit:?}: under it {committers:?} committed");
            return Some(Violation::new("one-member-a-generation", details));
        }
        let is_newer = |(generation, at): &&(u64, Duration)| *generation > commit.generation && *at <= commit.began;
        let (generation, at) = shelf.claims.iter().find(is_newer)?;
        let details = format!("{commit:?}: generation {generation} had claimed it at {at:?}");
        Some(Violation::new("a-fenced-member-commits-nothing", details))
    }

    /// What was delivered, held against what the logs hold.
    pub(crate) fn judge(&self, copies: &Copies) -> Vec<Violation> {
        let judge = |((group, log), shelf): (&(String, String), &Shelf)| {
            let held: BTreeMap<u64, u64> = copies.get(log)?.values().next()?.iter().copied().collect();
            let (offset, value) = shelf.delivered.iter().find(|(offset, value)| held.get(offset) != Some(value))?;
            let there = held.get(offset);
            let details =
                format!("group {group}, log {log}, offset {offset}: {value} was delivered, {there:?} is there");
            Some(Violation::new("members-read-what-the-log-holds", details))
        };
        self.shelves.iter().filter_map(judge).collect()
    }

    fn shelf(&mut self, group: &str, log: &str) -> &mut Shelf {
        self.shelves.entry((group.to_owned(), log.to_owned())).or_default()
    }
}

#[cfg(test)]
mod tests;
