//! What a journal should hold, as a map, and a script of operations drawn
//! from a seed that both carry out.
//!
//! Operations take effect in the order in which they were staged. So whatever
//! happens, a journal that is opened again holds what the model holds after
//! some first part of them: all that were done, and none that was not staged.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::rig::{LOW_SPACE_BYTES, Memory, Promise, Talk, entries, entry, id, key, vote};
use crate::disk::Lane;
use crate::journal::{Entry, EntryId, JournalError, ReplicaKey, Vote};

/// One operation on one replica.
#[derive(Clone, Debug)]
pub(super) enum Operation {
    Append(Vec<Entry>),
    Vote(Vote),
    Truncate(u64),
    Purge(EntryId),
    Image(EntryId, Bytes),
    Retire,
}

/// One replica, as a map.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Replica {
    vote: Option<Vote>,
    purged: Option<EntryId>,
    image: Option<(EntryId, Bytes)>,
    entries: BTreeMap<u64, Entry>,
}

impl Replica {
    fn last(&self) -> Option<EntryId> {
        self.entries.values().next_back().map(|entry| entry.id).or(self.purged)
    }
}

/// All replicas.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Model {
    replicas: BTreeMap<ReplicaKey, Replica>,
}

impl Model {
    fn apply(&mut self, key: ReplicaKey, operation: &Operation) {
        let replica = self.replicas.entry(key).or_default();
        match operation {
            Operation::Append(entries) => {
                replica.entries.extend(entries.iter().map(|entry| (entry.id.index.get(), entry.clone())));
            }
            Operation::Vote(vote) => replica.vote = Some(*vote),
            Operation::Truncate(from) => drop(replica.entries.split_off(from)),
            Operation::Purge(through) => {
                replica.entries = replica.entries.split_off(&(through.index.get() + 1));
                replica.purged = Some(*through);
            }
            Operation::Image(at, image) => {
                if replica.image.as_ref().is_none_or(|(before, _)| before.index <= at.index) {
                    replica.image = Some((*at, image.clone()));
                }
            }
            Operation::Retire => drop(self.replicas.remove(&key)),
        }
    }

    /// What `journal` holds.
    pub(super) fn of(journal: &Talk) -> Self {
        let replica = |key: ReplicaKey| {
            let state = journal.0.replica(key).expect("a replica that is listed is there");
            assert_eq!(journal.0.damage(key), None, "{key} was not damaged");
            let read = journal.read_all(key).unwrap_or_else(|error| panic!("{key}: {error}"));
            let entries: BTreeMap<_, _> = read.into_iter().map(|entry| (entry.id.index.get(), entry)).collect();
            let image = journal.read_image(key).unwrap_or_else(|error| panic!("{key}: {error}"));
            assert_eq!(image.as_ref().map(|(at, _)| *at), state.image, "{key}");
            let replica = Replica { vote: state.vote, purged: state.purged, image, entries };
            assert_eq!(replica.last(), state.last, "{key} ends with its last entry");
            for entry in replica.entries.values() {
                assert_eq!(journal.0.entry_id(key, entry.id.index).unwrap(), Some(entry.id), "{key}");
            }
            (key, replica)
        };
        Self { replicas: journal.0.replicas().into_iter().map(replica).collect() }
    }
}

/// A script on its way: what was staged, and how much of it is done.
pub(super) struct Script {
    chance: StdRng,
    /// What the journal held when it was opened.
    base: Model,
    /// What it holds with everything staged.
    staged: Model,
    operations: Vec<(ReplicaKey, Operation)>,
    promises: Vec<Promise<Result<(), JournalError>>>,
    done: usize,
    term: u64,
    /// The groups with a replica; another one takes the place of one that was
    /// retired.
    groups: [u64; 3],
    /// Whether all but the first group purge often.
    trims: bool,
    /// Whether there is little room, as far as the journal knows.
    is_low: bool,
}

impl Script {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            chance: StdRng::seed_from_u64(seed),
            base: Model::default(),
            staged: Model::default(),
            operations: Vec::new(),
            promises: Vec::new(),
            done: 0,
            term: 1,
            groups: [1, 2, 3],
            trims: false,
            is_low: false,
        }
    }

    /// One in which two groups keep little, and the third one what it has.
    pub(super) fn that_trims(seed: u64) -> Self {
        Self { trims: true, ..Self::new(seed) }
    }

    /// As [`that_trims`](Self::that_trims), with the low-space mark looked at now
    /// and then, and found passed. Segments are prepared all the same: what is
    /// staged is not refused.
    pub(super) fn that_is_low(seed: u64) -> Self {
        Self { is_low: true, ..Self::that_trims(seed) }
    }

    /// Carries out up to `steps` operations, and now and then lets room be made
    /// if there is little.
    pub(super) fn run(&mut self, journal: &Talk, memory: &Memory, steps: usize) {
        if !self.is_low {
            return self.run_on(journal, memory, steps);
        }
        for _ in 0..steps / 10 {
            self.run_on(journal, memory, 10);
            for _ in 0..4 {
                find_little_room(journal, memory);
            }
            // A segment may have been wanted meanwhile.
            let _ = journal.0.check_space();
        }
    }

    /// Carries out up to `steps` operations; stops with the journal.
    fn run_on(&mut self, journal: &Talk, memory: &Memory, steps: usize) {
        let stopped = Arc::new(AtomicBool::new(false));
        let noticed = stopped.clone();
        journal.0.set_failed_hook(Box::new(move |_| noticed.store(true, Ordering::Relaxed)));
        memory.disk.hold();
        if self.is_low {
            find_little_room(journal, memory);
        }
        for _ in 0..steps {
            match self.chance.random_range(0..10) {
                0 => journal.0.mark_idle(),
                1..=3 => drop(memory.disk.step(Lane::Background)),
                4..=7 => drop(memory.disk.step(Lane::Commit)),
                _ => {}
            }
            // From here on nothing is staged that could be found again.
            if stopped.load(Ordering::Relaxed) {
                break;
            }
            self.stage(journal);
        }
        memory.disk.release();
        self.count_done();
    }

    fn stage(&mut self, journal: &Talk) {
        let slot = self.chance.random_range(0..self.groups.len());
        let key = key(self.groups[slot]);
        let replica = self.staged.replicas.get(&key).cloned().unwrap_or_default();
        let next = replica.last().map_or(0, |last| last.index.get() + 1);
        let first = replica.purged.map_or(0, |purged| purged.index.get() + 1);
        self.term += self.chance.random_range(0..5) / 4;
        let draw = self.chance.random_range(0..20);
        let draw = if self.trims && draw > 6 && draw < 12 && slot > 0 { 3 } else { draw };
        let operation = match draw {
            0 | 1 => Operation::Vote(vote(self.term, self.chance.random_range(0..9))),
            2 if next > first => Operation::Truncate(self.chance.random_range(first..next)),
            3 if next > first => {
                let lowest = if self.trims { first.max(next.saturating_sub(4)) } else { first };
                let through = self.chance.random_range(lowest..next);
                Operation::Purge(replica.entries[&through].id)
            }
            // A snapshot that is ahead of the log.
            4 if self.chance.random_range(0..4) == 0 => Operation::Purge(id(self.term, next + 5)),
            5 if next > 0 => {
                let committed = self.chance.random_range(0..next);
                journal.0.save_committed(key, id(self.term, committed));
                return;
            }
            6 if self.chance.random_range(0..4) == 0 => {
                self.groups[slot] += 3;
                Operation::Retire
            }
            7 | 12 if next > first => {
                let at = replica.entries[&self.chance.random_range(first..next)].id;
                let bytes = self.chance.random_range(1..300);
                Operation::Image(at, entry(self.term, next, bytes).payload)
            }
            _ => {
                let count = self.chance.random_range(1..4);
                let bytes = if self.chance.random() { 40 } else { self.chance.random_range(0..5000) };
                Operation::Append(entries(self.term, next..next + count, bytes))
            }
        };
        self.promises.push(match &operation {
            Operation::Append(entries) => journal.append(key, entries.clone()),
            Operation::Vote(vote) => journal.save_vote(key, *vote),
            Operation::Truncate(from) => journal.truncate(key, *from),
            Operation::Purge(through) => journal.purge(key, *through),
            Operation::Image(at, image) => journal.save_image(key, *at, image.clone()),
            Operation::Retire => journal.retire(key),
        });
        self.staged.apply(key, &operation);
        self.operations.push((key, operation));
    }

    /// Nothing may be done after something that is not.
    fn count_done(&mut self) {
        let outcomes: Vec<_> = self.promises.drain(..).map(|promise| promise.now()).collect();
        let done = outcomes.iter().take_while(|outcome| matches!(outcome, Some(Ok(())))).count();
        assert!(outcomes[done..].iter().all(|outcome| !matches!(outcome, Some(Ok(())))), "done in order");
        self.done += done;
    }

    /// How many operations were done.
    pub(super) fn done(&self) -> usize {
        self.done
    }

    /// Checks a journal that was opened again; the script goes on from what it
    /// holds.
    pub(super) fn check(&mut self, journal: &Talk, context: &str) {
        let found = Model::of(journal);
        let mut expected = self.base.clone();
        let mut candidates = vec![expected.clone()];
        for (key, operation) in &self.operations {
            expected.apply(*key, operation);
            candidates.push(expected.clone());
        }
        // The last that matches: operations without effect lie between.
        let kept = (self.done..candidates.len()).rev().find(|kept| alike(&candidates[*kept], &found));
        let Some(kept) = kept else {
            let too_early = (0..self.done).rev().find(|kept| alike(&candidates[*kept], &found));
            panic!(
                "{context}: {} operations were done of {} staged; found what {too_early:?} of them give",
                self.done,
                self.operations.len()
            );
        };
        self.base = candidates.swap_remove(kept);
        self.staged = self.base.clone();
        self.operations.clear();
        self.promises.clear();
        self.done = 0;
    }

    /// Checks a running journal against everything that was staged.
    pub(super) fn check_staged(&self, journal: &Talk) {
        let found = Model::of(journal);
        assert!(alike(&self.staged, &found), "a running journal shows everything staged");
    }
}

/// Lets the journal look at the room while there is little.
fn find_little_room(journal: &Talk, memory: &Memory) {
    memory.disk.limit_bytes(Some(memory.disk.size() + LOW_SPACE_BYTES));
    // Fails with the disk.
    let _ = journal.0.check_space();
    memory.disk.limit_bytes(None);
}

/// Whether both hold the same. A replica that holds nothing is none.
fn alike(one: &Model, other: &Model) -> bool {
    let held = |model: &Model| {
        let nothing = Replica::default();
        let replicas = model.replicas.iter().filter(move |(_, replica)| **replica != nothing);
        replicas.map(|(key, replica)| (*key, replica.clone())).collect::<BTreeMap<_, _>>()
    };
    held(one) == held(other)
}
