//! What reader groups are delivered and commit, held against what they promise, as
//! it happens.
//!
//! ```text
//!   delivered   0 1 2 3 4   6          of a group and a log, by any member
//!   reaches     ──────────▶ 5          a commit beyond skips a record
//!   claimed under 3, then 7            a commit under 3 after that is refused
//! ```

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
    pub(crate) fn delivered(&mut self, group: &str, log: &str, offset: u64, value: u64) -> Option<Violation> {
        let shelf = self.shelf(group, log);
        let before = shelf.delivered.insert(offset, value);
        while shelf.delivered.contains_key(&shelf.reaches) {
            shelf.reaches += 1;
        }
        let before = before.filter(|before| *before != value)?;
        let details = format!("group {group}, log {log}, offset {offset}: {before} and {value} were delivered");
        Some(Violation::new("members-read-what-the-log-holds", details))
    }

    /// The log's position was taken over, as was known at `at`.
    pub(crate) fn claimed(&mut self, group: &str, log: &str, generation: u64, at: Duration) {
        self.shelf(group, log).claims.push((generation, at));
    }

    /// A member commits.
    pub(crate) fn commits(&self, commit: Commit<'_>) -> Option<Violation> {
        let reaches = self.reaches(commit.group, commit.log);
        (commit.position > reaches).then(|| {
            Violation::new("no-group-skips-a-record", format!("{commit:?}, and {reaches} was never delivered"))
        })
    }

    /// The commit was taken.
    pub(crate) fn committed(&mut self, commit: Commit<'_>) -> Option<Violation> {
        let shelf = self.shelf(commit.group, commit.log);
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
mod tests {
    use super::*;

    fn commit(generation: u64, member: u64, position: u64, began: u64) -> Commit<'static> {
        let began = Duration::from_secs(began);
        Commit { group: "billing", log: "shared-0", generation, member, position, began }
    }

    fn having(offsets: impl IntoIterator<Item = u64>) -> Groups {
        let mut groups = Groups::default();
        for offset in offsets {
            assert_eq!(groups.delivered("billing", "shared-0", offset, 100 + offset).map(|it| it.promise), None);
        }
        groups
    }

    fn promise(violation: Option<Violation>) -> Option<String> {
        violation.map(|violation| violation.promise)
    }

    #[test]
    fn a_commit_beyond_what_all_members_were_delivered_skips_a_record() {
        let groups = having([0, 1, 3]);
        assert_eq!(promise(groups.commits(commit(1, 1, 2, 0))), None);
        assert_eq!(promise(groups.commits(commit(1, 1, 3, 0))).as_deref(), Some("no-group-skips-a-record"));
        assert_eq!(promise(having([0, 1, 3, 2]).commits(commit(1, 1, 4, 0))), None, "in whatever order");
    }

    #[test]
    fn two_members_never_commit_under_one_generation() {
        let mut groups = having(0..5);
        assert_eq!(promise(groups.committed(commit(3, 1, 2, 0))), None);
        assert_eq!(promise(groups.committed(commit(3, 1, 3, 0))), None);
        assert_eq!(promise(groups.committed(commit(4, 2, 3, 0))), None);
        assert_eq!(promise(groups.committed(commit(3, 2, 3, 0))).as_deref(), Some("one-member-a-generation"));
    }

    #[test]
    fn nothing_is_committed_after_a_higher_generation_has_claimed() {
        let mut groups = having(0..5);
        groups.claimed("billing", "shared-0", 7, Duration::from_secs(5));
        assert_eq!(promise(groups.committed(commit(3, 1, 2, 4))), None, "it was under way then");
        assert_eq!(promise(groups.committed(commit(7, 2, 2, 6))), None);
        let broken = promise(groups.committed(commit(3, 1, 3, 5)));
        assert_eq!(broken.as_deref(), Some("a-fenced-member-commits-nothing"));
    }

    #[test]
    fn what_is_delivered_is_what_the_log_holds() {
        let mut groups = having(0..2);
        let copy =
            |records: &[(u64, u64)]| BTreeMap::from([("shared-0".to_owned(), BTreeMap::from([(1, records.to_vec())]))]);
        assert!(groups.judge(&copy(&[(0, 100), (1, 101)])).is_empty());
        assert_eq!(groups.judge(&copy(&[(0, 100), (1, 9)])).len(), 1);
        assert_eq!(groups.judge(&copy(&[(0, 100)])).len(), 1);
        let other = promise(groups.delivered("billing", "shared-0", 1, 9));
        assert_eq!(other.as_deref(), Some("members-read-what-the-log-holds"));
    }
}
