//! A journal's start on whatever is on its disk.
//!
//! Input: an image (see `image.rs`). Opening it gives a journal or a typed
//! error that has changed nothing. A journal then has to be one: what it says
//! it holds can be read, it takes appends and votes, and after a kill, after a
//! power cut, and without its index, it holds the same again.
//!
//! Sealed images, and those with rows, may say anything with good checksums,
//! which no journal ever wrote: there nothing but the absence of panics is
//! promised.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use bytes::Bytes;
use quipu_protocol::{Index, LogId, ReplicaId, Term};
use quipu_storage::journal::{
    Done, Entry, EntryId, Journal, JournalError, OpenError, RecoveryReport, ReplicaKey, ReplicaState, Vote, fuzzing,
};
use quipu_storage::{MemoryDisk, MemoryKv};

use crate::image::{self, CONFIG, Counting, Image, OWNER, SEALED};

/// An image has room for so many entries at most: a descriptor takes 16 bytes.
const MAX_ENTRIES: u64 = 6 * 16 * 4096 / 16;

/// Recovers the image, uses the journal, and recovers it again.
pub fn run(input: &[u8]) {
    let Image { disk, kv, sealed, has_rows, steps } = image::read(input);
    let before = files(&disk);
    let (journal, report) = match open(&disk, &kv) {
        Ok(opened) => opened,
        Err(error) => {
            assert!(!error.to_string().is_empty(), "an error says something");
            assert!(before.is_empty() || files(&disk) == before, "{error}: it changed the disk");
            return;
        }
    };
    if sealed || has_rows {
        use_it(&journal, &steps, false);
        return;
    }
    let sound = report.damage.is_empty();
    use_it(&journal, &steps, true);
    let held = holdings(&journal);
    drop(journal);

    let (killed, kv) = (Arc::new(disk.kill(1)), Arc::new(kv.lose_unflushed(1)));
    assert_holds(&killed, &kv, &held, "after a kill");
    let cut = Arc::new(killed.restore(2));
    assert_holds(&cut, &Arc::new(kv.lose_unflushed(2)), &held, "after a power cut");
    if sound {
        assert_holds(&Arc::new(cut.kill(3)), &Arc::new(MemoryKv::new()), &held, "without its index");
    }
}

fn open(disk: &Arc<MemoryDisk>, kv: &Arc<MemoryKv>) -> Result<(Journal, RecoveryReport), OpenError> {
    fuzzing::open(disk.clone(), kv.clone(), Arc::new(Counting::default()), CONFIG, OWNER)
}

fn files(disk: &MemoryDisk) -> Vec<(String, Option<Vec<u8>>)> {
    disk.list_files().into_iter().map(|path| (path.clone(), disk.content(&path))).collect()
}

#[track_caller]
fn assert_holds(disk: &Arc<MemoryDisk>, kv: &Arc<MemoryKv>, held: &Holdings, when: &str) {
    let (journal, _) = open(disk, kv).unwrap_or_else(|error| panic!("{when}: {error}: {error:?}"));
    let now = holdings(&journal);
    assert!(now == *held, "{when} it holds\n{now:?}\ninstead of\n{held:?}");
}

/// What each replica has: its state, and its entries unless it is damaged.
type Holdings = BTreeMap<ReplicaKey, (ReplicaState, Option<Vec<Entry>>)>;

fn holdings(journal: &Journal) -> Holdings {
    let held = |key: ReplicaKey| {
        let state = journal.replica(key).expect("a replica that is listed is there");
        let entries = journal.damage(key).is_none().then(|| read_all(journal, key, &state));
        (key, (state, entries))
    };
    journal.replicas().into_iter().map(held).collect()
}

/// Every entry that the journal says it has.
fn read_all(journal: &Journal, key: ReplicaKey, state: &ReplicaState) -> Vec<Entry> {
    let mut all: Vec<Entry> = Vec::new();
    let Some(last) = state.last else { return all };
    let is_there = |index: u64| journal.entry_id(key, Index::new(index)).is_ok_and(|id| id.is_some());
    let last = last.index.get();
    let mut next = match state.purged {
        Some(purged) => purged.index.get() + 1,
        // An empty replica's first index is its callers' choice. What is there
        // has no gaps.
        None => {
            let (mut absent, mut there) = (last.saturating_sub(MAX_ENTRIES), last);
            if is_there(absent) {
                there = absent;
            }
            while absent + 1 < there {
                let middle = absent.midpoint(there);
                if is_there(middle) { there = middle } else { absent = middle }
            }
            there
        }
    };
    while next <= last {
        let (send, receive) = sync_channel(1);
        let range = Index::new(next)..Index::new(last + 1);
        journal.read(key, range, 5000, Box::new(move |read| send.send(read).unwrap_or(())));
        let read = receive.try_recv().expect("a read is answered");
        let read = read.unwrap_or_else(|error| panic!("{key}: {next}..={last}: {error}: {error:?}"));
        assert!(!read.is_empty(), "{key}: {next}..={last}: there is nothing, says the read");
        for entry in read {
            assert_eq!(entry.id.index.get(), next, "entries have no gaps");
            let told = journal.entry_id(key, entry.id.index).expect("the index answers");
            assert_eq!(told, Some(entry.id), "an entry is called what it is");
            all.push(entry);
            next += 1;
        }
    }
    all
}

/// Appends to and votes in every replica that is there, and a new one; then
/// takes the input's steps.
fn use_it(journal: &Journal, steps: &[u8], strict: bool) {
    let mut keys = journal.replicas();
    keys.push(ReplicaKey { group: LogId::new(0xF0), replica: ReplicaId::new(0xF1) });
    for key in keys.into_iter().filter(|key| journal.damage(*key).is_none()) {
        let state = journal.replica(key).unwrap_or_default();
        let last = state.last.unwrap_or_default();
        // At the very end there is no next entry.
        if last.index.get() > u64::MAX - 16 {
            continue;
        }
        let vote = Vote { term: last.term, voted_for: Some(key.replica), committed: false };
        settle(strict, |done| journal.save_vote(key, vote, done));
        let id = EntryId { term: last.term, index: last.index.next() };
        let entry = Entry { id, payload: Bytes::from_static(b"appended after the start") };
        settle(strict, |done| journal.append(key, vec![entry], done));
        if strict {
            assert_eq!(journal.durable(key), Some(id), "what was acknowledged is durable");
        }
    }
    for step in steps {
        take(journal, *step, strict);
    }
    journal.mark_idle();
}

/// A step: bits 0–1 say what, 2–3 of which replica, 4–7 where.
fn take(journal: &Journal, step: u8, strict: bool) {
    let (what, which, offset) = (step & 3, usize::from(step >> 2 & 3), u64::from(step >> 4));
    let sound: Vec<_> = journal.replicas().into_iter().filter(|key| journal.damage(*key).is_none()).collect();
    let Some(key) = sound.get(which).copied() else { return };
    let state = journal.replica(key).unwrap_or_default();
    let (Some(last), purged) = (state.last, state.purged.unwrap_or_default()) else { return };
    // From five after the last entry to ten before it, but not into what is purged.
    let index = last.index.get().saturating_add(5).saturating_sub(offset).max(purged.index.get() + 1);
    match what {
        0 => settle(strict, |done| journal.truncate(key, Index::new(index), done)),
        1 => {
            let id = EntryId { term: last.term, index: Index::new(index.min(last.index.get())) };
            settle(strict, |done| journal.purge(key, id, done));
        }
        2 if last.index.get() < u64::MAX - 16 => {
            let entry = |n| Entry {
                id: EntryId { term: last.term, index: Index::new(last.index.get() + 1 + n) },
                payload: Bytes::from(vec![step; 40]),
            };
            settle(strict, |done| journal.append(key, (0..=offset).map(entry).collect(), done));
        }
        _ if offset == 0 => settle(strict, |done| journal.retire(key, done)),
        _ => journal.mark_idle(),
    }
}

/// Memory answers at once; with a sound index it has nothing to refuse.
fn settle(strict: bool, stage: impl FnOnce(Done)) {
    let (send, receive) = sync_channel::<Result<(), JournalError>>(1);
    stage(Box::new(move |result| send.send(result).unwrap_or(())));
    let result = receive.try_recv().expect("what is staged is answered");
    if strict {
        result.expect("a sound journal takes it");
    }
}

/// A life of so many steps: appends, votes, truncations, purges, retirements.
pub(crate) fn live(journal: &Journal, steps: u64) {
    let key = |n: u64| ReplicaKey { group: LogId::new(n), replica: ReplicaId::new(10 * n + 1) };
    let id = |term, index| EntryId { term: Term::new(term), index: Index::new(index) };
    for step in 0..steps {
        let (key, term) = (key(1 + step % 3), 1 + step / 7);
        let last = journal.replica(key).and_then(|state| state.last).map_or(0, |last| last.index.get());
        let entry = |n: u64| Entry { id: id(term, last + 1 + n), payload: Bytes::from(format!("entry {step}.{n}")) };
        match step % 8 {
            3 => settle(true, |done| {
                let vote = Vote { term: Term::new(term), voted_for: Some(key.replica), committed: true };
                journal.save_vote(key, vote, done);
            }),
            5 if last > 2 => settle(true, |done| journal.truncate(key, Index::new(last), done)),
            6 if last > 2 => {
                if let Some(purged) = journal.entry_id(key, Index::new(last - 1)).expect("the index answers") {
                    settle(true, |done| journal.purge(key, purged, done));
                }
            }
            7 => journal.mark_idle(),
            _ => settle(true, |done| journal.append(key, (0..=step % 3).map(entry).collect(), done)),
        }
    }
    if steps > 20 {
        settle(true, |done| journal.retire(key(3), done));
    }
}

/// Disks after lives of several lengths: killed, closed, over several
/// segments, with and without their index.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for steps in [0, 1, 4, 9, 20] {
        let (disk, kv) = (Arc::new(MemoryDisk::new(1)), Arc::new(MemoryKv::new()));
        let (journal, _) = open(&disk, &kv).expect("a new disk");
        live(&journal, steps);
        if steps == 9 {
            settle(true, |done| journal.close(done));
        }
        drop(journal);
        let disk = disk.kill(1);
        if disk.list_files().len() <= 6 {
            seeds.push(image::describe(SEALED, &[], &disk, &MemoryKv::new()));
            seeds.push(image::describe(0, &[0x50, 0x22, 0x71], &disk, &MemoryKv::new()));
            seeds.push(image::describe(SEALED, &[], &disk, &*kv));
        }
    }
    seeds.push(image::describe(0, &[0x32], &MemoryDisk::new(1), &MemoryKv::new()));
    seeds.dedup();
    seeds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_the_disk_that_it_was_made_of() {
        let (disk, kv) = (Arc::new(MemoryDisk::new(1)), Arc::new(MemoryKv::new()));
        let (journal, _) = open(&disk, &kv).expect("a new disk");
        live(&journal, 9);
        drop(journal);
        let disk = disk.kill(1);
        let image = image::read(&image::describe(SEALED, &[], &disk, &*kv));
        assert_eq!(files(&image.disk), files(&disk), "sealing changes nothing that is right");
        let (journal, report) = open(&image.disk, &image.kv).expect("it opens");
        assert!(report.damage.is_empty());
        assert_eq!(journal.replicas().len(), 3);
    }
}
