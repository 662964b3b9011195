//! Which reader groups have to be told that other logs match their patterns.
//!
//! ```text
//!   a log is created ──▶ held against every group's pattern, it alone
//!   one is deleted   ──▶ looked for among every group's logs
//!   a group is new to this leader, or lacks room ──▶ all names against its pattern
//! ```
//!
//! A group's logs are as of a version of the catalog, which the group tells. So what
//! was created since the last look, and no pattern twice, says what is missing; names
//! are held against patterns while nobody's state is locked.
//!
//! # Invariant
//! What was looked at counts only once all that came of it was proposed
//! ([`Matching::settle`]): a look that came to nothing is done again.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use quipu_protocol::{Generation, LogId, LogName, LogPattern, ReaderGroupName};

use super::{MAX_SHARES, Matched, ReaderGroup, Registrar};
use crate::catalog::{Catalog, Keeps, logs_matching};

/// Where the states of the catalog and of the registrar are looked at, each under its
/// lock.
pub(super) trait States {
    /// What `look` makes of the catalog.
    fn catalog<T>(&self, look: impl FnOnce(&Catalog) -> T) -> T;
    /// What `look` makes of the registrar.
    fn registrar<T>(&self, look: impl FnOnce(&Registrar) -> T) -> T;
}

/// What a leader has made sure of.
#[derive(Debug, Default)]
pub(super) struct Matching {
    /// As of when; `None` before the first look.
    as_of: Option<AsOf>,
    /// The groups whose logs were right then, and what they were as of.
    right: BTreeMap<ReaderGroupName, Sign>,
}

/// How far a look saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct AsOf {
    version: u64,
    generation: Generation,
    /// The newest log, and how many were deleted.
    newest: LogId,
    deletions: u64,
}

/// What tells that nobody has matched a group again.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sign {
    pattern: LogPattern,
    version: u64,
}

/// What came of a look.
#[derive(Debug)]
pub(super) struct Looked {
    /// The groups that have to share other logs, and which.
    pub(super) changed: Vec<(ReaderGroupName, LogPattern, Matched)>,
    /// How many names were held against patterns.
    pub(super) matches: usize,
    as_of: AsOf,
    right: BTreeMap<ReaderGroupName, Sign>,
}

/// A group that has members.
struct Used {
    name: ReaderGroupName,
    sign: Sign,
    /// Whether all that match are among its logs.
    is_whole: bool,
    has_deleted: bool,
}

impl Matching {
    /// Looks at what has changed since all of the last look was proposed; `None` if
    /// nothing has.
    pub(super) fn look(&self, states: &impl States) -> Option<Looked> {
        let newest_known = self.as_of.map_or(LogId::CATALOG, |as_of| as_of.newest);
        let generation = states.registrar(Registrar::generation);
        let (as_of, created) = states.catalog(|catalog| {
            let logs = catalog.logs();
            let newest = logs.last_key_value().map_or(newest_known, |(newest, _)| newest_known.max(*newest));
            let as_of = AsOf { version: catalog.version(), generation, newest, deletions: catalog.deletions() };
            // At first every group is held against all names anyway.
            let since = if self.as_of.is_some() { newest_known } else { newest };
            let newer =
                logs.range((Bound::Excluded(since), Bound::Unbounded)).filter(|(_, log)| log.keeps == Keeps::Records);
            (as_of, newer.map(|(id, log)| (*id, log.name.clone())).collect::<Vec<_>>())
        });
        if self.as_of == Some(as_of) {
            return None;
        }
        let mut looked = Looked { changed: Vec::new(), matches: 0, as_of, right: BTreeMap::new() };
        let mut names = None;
        for used in self.used(states, as_of) {
            let matched = if used.sign.version >= as_of.version && used.is_whole {
                None
            } else if self.is_known(&used) {
                self.with(states, &used, &created, as_of.version, &mut looked.matches)
            } else {
                let (version, names) = &*names
                    .get_or_insert_with(|| states.catalog(|catalog| (catalog.version(), catalog.names().clone())));
                let found = logs_matching(names, &used.sign.pattern, MAX_SHARES);
                looked.matches += found.looked_at;
                let matched = Matched { version: *version, logs: found.logs, left_out: found.left_out };
                is_other(states, &used, &matched).then_some(matched)
            };
            match matched {
                Some(matched) => looked.changed.push((used.name, used.sign.pattern, matched)),
                None => drop(looked.right.insert(used.name, used.sign)),
            }
        }
        Some(looked)
    }

    /// All that came of `looked` was proposed.
    pub(super) fn settle(&mut self, looked: Looked) {
        *self = Self { as_of: Some(looked.as_of), right: looked.right };
    }

    /// The groups that have members.
    fn used(&self, states: &impl States, as_of: AsOf) -> Vec<Used> {
        let has_new_gaps = self.as_of.is_some_and(|before| before.deletions != as_of.deletions);
        states.registrar(|registrar| {
            states.catalog(|catalog| {
                let used = registrar.groups().iter().filter(|(_, group)| !group.members.is_empty());
                let used = used.map(|(name, group)| Used {
                    name: name.clone(),
                    sign: Sign { pattern: group.pattern.clone(), version: group.version },
                    is_whole: group.left_out == 0,
                    has_deleted: has_new_gaps && group.shares.keys().any(|log| catalog.is_deleted(*log)),
                });
                used.collect()
            })
        })
    }

    /// Whether the group's logs were right at the last look, or are as of later.
    fn is_known(&self, used: &Used) -> bool {
        let Some(before) = self.as_of else { return false };
        used.is_whole && (used.sign.version >= before.version || self.right.get(&used.name) == Some(&used.sign))
    }

    /// What the group has to share, if that is something else: what it has, without
    /// what was deleted, and those `created` that match.
    fn with(
        &self,
        states: &impl States,
        used: &Used,
        created: &[(LogId, LogName)],
        version: u64,
        matches: &mut usize,
    ) -> Option<Matched> {
        *matches += created.len();
        let matching = created.iter().filter(|(_, name)| used.sign.pattern.matches(name));
        let fresh: BTreeSet<LogId> = matching.map(|(log, _)| *log).collect();
        if fresh.is_empty() && !used.has_deleted {
            return None;
        }
        let logs: BTreeSet<LogId> = states.registrar(|registrar| {
            states.catalog(|catalog| {
                let group = registrar.groups().get(&used.name)?;
                let had = group.shares.keys().chain(&fresh).copied();
                Some(had.filter(|log| !catalog.is_deleted(*log)).collect())
            })
        })?;
        let left_out = logs.len().saturating_sub(MAX_SHARES) as u64;
        let matched = Matched { version, logs: logs.into_iter().take(MAX_SHARES).collect(), left_out };
        is_other(states, used, &matched).then_some(matched)
    }
}

/// Whether the group shares other logs than these, and does not know of newer ones.
fn is_other(states: &impl States, used: &Used, matched: &Matched) -> bool {
    let differs =
        |group: &ReaderGroup| matched.version >= group.version && !group.shares.keys().eq(matched.logs.iter());
    states.registrar(|registrar| registrar.groups().get(&used.name).is_some_and(differs))
}

#[cfg(test)]
mod tests;
