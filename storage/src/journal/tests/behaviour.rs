//! What a journal does, over every disk and store there is.

use std::sync::{Arc, Mutex};

use quipu_protocol::Index;

use super::rig::{Memory, Talk, entries, entry, id, key, tiny, vote};
use crate::disk::{Disk, Lane, SystemDisk};
use crate::journal::{JournalConfig, JournalError, ReadError};
use crate::kv::{Kv, RocksKv};

const KIB: usize = 1024;

/// A place for a journal that can be opened again.
trait Place {
    fn open(&self, config: JournalConfig) -> Talk;
}

struct InMemory(Memory);

impl Place for InMemory {
    fn open(&self, config: JournalConfig) -> Talk {
        self.0.open(config).0
    }
}

struct Given(Arc<dyn Disk>, Arc<dyn Kv>);

impl Place for Given {
    fn open(&self, config: JournalConfig) -> Talk {
        Talk::open(self.0.clone(), self.1.clone(), config).unwrap().0
    }
}

/// Runs every promise over `place`, each with groups of its own.
fn keeps_its_promises(place: &dyn Place) {
    what_is_appended_is_read_at_once_and_after_reopening(place);
    a_vote_is_kept(place);
    a_truncation_lets_later_entries_take_the_place(place);
    a_truncation_behind_the_end_takes_nothing(place);
    a_purge_moves_the_start_for_good(place);
    entries_survive_the_sealing_of_their_segment(place);
    a_retired_replica_is_gone(place);
    an_entry_of_the_largest_size_fits_and_a_larger_one_is_refused_by_name(place);
    a_gap_is_refused(place);
}

#[test]
fn over_memory() {
    keeps_its_promises(&InMemory(Memory::new(1)));
}

#[test]
fn over_the_operating_systems_disk_and_rocksdb() {
    let root = tempfile::tempdir().unwrap();
    let disk = SystemDisk::open(root.path()).unwrap();
    let kv = RocksKv::open(&root.path().join("metadata")).unwrap();
    keeps_its_promises(&Given(Arc::new(disk), Arc::new(kv)));
}

#[test]
fn over_a_disk_that_refuses_direct_access() {
    let memory = Memory::new(2);
    memory.disk.refuse_direct();
    keeps_its_promises(&InMemory(memory));
}

fn what_is_appended_is_read_at_once_and_after_reopening(place: &dyn Place) {
    let key = key(1);
    let written = entries(1, 0..50, 300);
    let journal = place.open(tiny(64 * 1024));
    let promises: Vec<_> = written.iter().map(|entry| journal.append(key, vec![entry.clone()])).collect();
    assert_eq!(journal.read(key, 0, 100, u64::MAX).unwrap(), written);
    promises.iter().for_each(|promise| promise.wait().unwrap());
    assert_eq!(journal.0.durable(key), Some(id(1, 49)));
    journal.close().unwrap();
    let journal = place.open(tiny(64 * 1024));
    assert_eq!(journal.read_all(key).unwrap(), written);
    assert_eq!(journal.0.replica(key).unwrap().durable, Some(id(1, 49)));
    assert_eq!(journal.read(key, 10, 20, 700).unwrap(), written[10..12]);
    assert_eq!(journal.read(key, 10, 20, 0).unwrap(), written[10..11]);
    assert_eq!(journal.read(key, 50, 60, 700).unwrap(), []);
    journal.close().unwrap();
}

fn a_vote_is_kept(place: &dyn Place) {
    let key = key(2);
    let journal = place.open(tiny(64 * 1024));
    journal.save_vote(key, vote(3, 7)).wait().unwrap();
    journal.save_vote(key, vote(4, 8)).wait().unwrap();
    journal.close().unwrap();
    let journal = place.open(tiny(64 * 1024));
    assert_eq!(journal.0.replica(key).unwrap().vote, Some(vote(4, 8)));
    journal.close().unwrap();
}

fn a_truncation_lets_later_entries_take_the_place(place: &dyn Place) {
    let key = key(3);
    let journal = place.open(tiny(64 * 1024));
    journal.append(key, entries(1, 1..11, 100));
    journal.truncate(key, 6);
    assert_eq!(journal.0.replica(key).unwrap().last, Some(id(1, 5)));
    assert_eq!(journal.0.entry_id(key, Index::new(6)).unwrap(), None);
    journal.append(key, entries(2, 6..9, 100)).wait().unwrap();
    let expected = [entries(1, 1..6, 100), entries(2, 6..9, 100)].concat();
    assert_eq!(journal.read_all(key).unwrap(), expected);
    journal.close().unwrap();
    let journal = place.open(tiny(64 * 1024));
    assert_eq!(journal.read_all(key).unwrap(), expected);
    assert_eq!(journal.0.entry_id(key, Index::new(7)).unwrap(), Some(id(2, 7)));
    // All the way down.
    journal.truncate(key, 1).wait().unwrap();
    assert_eq!(journal.0.replica(key).unwrap().last, None);
    journal.close().unwrap();
    let journal = place.open(tiny(64 * 1024));
    assert_eq!(journal.0.replica(key).unwrap().last, None);
    journal.close().unwrap();
}

fn a_truncation_behind_the_end_takes_nothing(place: &dyn Place) {
    let key = key(20);
    let journal = place.open(tiny(64 * 1024));
    journal.append(key, entries(1, 1..6, 100)).wait().unwrap();
    journal.truncate(key, 9).wait().unwrap();
    assert_eq!(journal.0.replica(key).unwrap().last, Some(id(1, 5)));
    journal.close().unwrap();
    let journal = place.open(tiny(64 * 1024));
    assert_eq!(journal.0.replica(key).unwrap().last, Some(id(1, 5)), "it was there before, and so it is now");
    journal.append(key, entries(1, 6..8, 100)).wait().unwrap();
    assert_eq!(journal.read_all(key).unwrap(), entries(1, 1..8, 100));
    journal.close().unwrap();
}

fn a_purge_moves_the_start_for_good(place: &dyn Place) {
    let key = key(4);
    let journal = place.open(tiny(64 * 1024));
    journal.append(key, entries(1, 1..11, 100));
    journal.purge(key, id(1, 4)).wait().unwrap();
    assert!(matches!(journal.read(key, 4, 8, 999), Err(ReadError::Purged { purged }) if purged == Index::new(4)));
    assert_eq!(journal.0.entry_id(key, Index::new(4)).unwrap(), Some(id(1, 4)));
    // Beyond the end, as after a snapshot.
    journal.purge(key, id(3, 100)).wait().unwrap();
    assert_eq!(journal.0.replica(key).unwrap().last, Some(id(3, 100)));
    journal.append(key, entries(4, 101..103, 100)).wait().unwrap();
    journal.close().unwrap();
    let journal = place.open(tiny(64 * 1024));
    assert_eq!(journal.0.replica(key).unwrap().purged, Some(id(3, 100)));
    assert_eq!(journal.read_all(key).unwrap(), entries(4, 101..103, 100));
    assert!(matches!(
        journal.truncate(key, 100).wait(),
        Err(JournalError::BelowPurged { from, purged }) if from == purged && purged == Index::new(100)
    ));
    journal.close().unwrap();
}

fn entries_survive_the_sealing_of_their_segment(place: &dyn Place) {
    let (one, other) = (key(5), key(6));
    let journal = place.open(tiny(64 * 1024));
    let seals = Arc::new(Mutex::new(0));
    let counted = seals.clone();
    journal.0.on_seal(Box::new(move || *counted.lock().unwrap() += 1));
    for index in 0..60 {
        journal.append(one, vec![entry(1, index, 4 * KIB)]);
        journal.append(other, vec![entry(1, index, 100)]).wait().unwrap();
    }
    journal.truncate(one, 3);
    journal.append(one, entries(2, 3..40, 3 * KIB)).wait().unwrap();
    journal.purge(other, id(1, 10)).wait().unwrap();
    let expected = [entries(1, 0..3, 4 * KIB), entries(2, 3..40, 3 * KIB)].concat();
    assert_eq!(journal.read_all(one).unwrap(), expected);
    assert_eq!(journal.read_all(other).unwrap(), entries(1, 11..60, 100));
    journal.close().unwrap();
    assert!(*seals.lock().unwrap() >= 4, "only {} segments were sealed", seals.lock().unwrap());
    let journal = place.open(tiny(64 * 1024));
    assert_eq!(journal.read_all(one).unwrap(), expected);
    assert_eq!(journal.read_all(other).unwrap(), entries(1, 11..60, 100));
    assert_eq!(journal.0.entry_id(one, Index::new(2)).unwrap(), Some(id(1, 2)));
    assert_eq!(journal.0.entry_id(one, Index::new(3)).unwrap(), Some(id(2, 3)));
    journal.close().unwrap();
}

fn a_retired_replica_is_gone(place: &dyn Place) {
    let key = key(7);
    let journal = place.open(tiny(64 * 1024));
    journal.append(key, entries(1, 0..5, 100));
    journal.retire(key).wait().unwrap();
    assert_eq!(journal.0.replica(key), None);
    assert!(matches!(journal.append(key, entries(1, 5..6, 100)).wait(), Err(JournalError::Retired { .. })));
    journal.close().unwrap();
    let journal = place.open(tiny(64 * 1024));
    assert_eq!(journal.0.replica(key), None);
    assert!(!journal.0.replicas().contains(&key));
    journal.close().unwrap();
}

fn an_entry_of_the_largest_size_fits_and_a_larger_one_is_refused_by_name(place: &dyn Place) {
    let key = key(8);
    let config = tiny(1024 * 1024);
    let bound = usize::try_from(config.max_entry_bytes()).unwrap();
    let journal = place.open(config);
    journal.append(key, vec![entry(1, 0, 10)]).wait().unwrap();
    let refused = journal.append(key, vec![entry(1, 1, bound + 1)]).wait();
    assert!(matches!(refused, Err(JournalError::EntryTooLarge { bytes, .. }) if bytes == bound as u64 + 1));
    journal.append(key, vec![entry(1, 1, bound)]).wait().unwrap();
    journal.append(key, vec![entry(1, 2, 10)]).wait().unwrap();
    journal.close().unwrap();
    let journal = place.open(config);
    assert_eq!(journal.read_all(key).unwrap(), [entry(1, 0, 10), entry(1, 1, bound), entry(1, 2, 10)]);
    journal.close().unwrap();
}

fn a_gap_is_refused(place: &dyn Place) {
    let key = key(9);
    let journal = place.open(tiny(64 * 1024));
    journal.append(key, entries(1, 0..5, 100)).wait().unwrap();
    for found in [4, 6] {
        let refused = journal.append(key, entries(1, found..found + 1, 100)).wait();
        assert!(matches!(refused, Err(JournalError::NotContiguous { expected, .. }) if expected == Index::new(5)));
    }
    assert_eq!(journal.read_all(key).unwrap(), entries(1, 0..5, 100));
    journal.close().unwrap();
    assert!(matches!(journal.append(key, entries(1, 5..6, 1)).wait(), Err(JournalError::Closed)));
}

#[test]
fn nothing_is_done_before_it_is_synced_and_then_in_order() {
    let memory = Memory::new(2);
    let (journal, _) = memory.open(tiny(64 * 1024));
    memory.disk.hold();
    let order = Arc::new(Mutex::new(Vec::new()));
    for index in 0..6 {
        let order = order.clone();
        journal.0.append(key(1), vec![entry(1, index, 10)], Box::new(move |_| order.lock().unwrap().push(index)));
    }
    assert_eq!(journal.read_all(key(1)).unwrap().len(), 6, "staged entries are readable");
    assert_eq!(journal.0.durable(key(1)), None);
    assert!(journal.0.staged_bytes() > 0);
    assert!(memory.disk.step(Lane::Commit));
    assert_eq!(*order.lock().unwrap(), []);
    assert!(memory.disk.step(Lane::Commit));
    // The first one did not wait for company.
    assert_eq!(*order.lock().unwrap(), [0]);
    memory.disk.release();
    assert_eq!(*order.lock().unwrap(), [0, 1, 2, 3, 4, 5]);
    assert_eq!(journal.0.staged_bytes(), 0);
}

#[test]
fn done_may_append_in_turn_however_often() {
    fn again(journal: &crate::journal::Journal, index: u64, finished: Arc<Mutex<u64>>) {
        let next = journal.clone();
        let done = Box::new(move |result: Result<(), JournalError>| {
            result.unwrap();
            *finished.lock().unwrap() += 1;
            if index < 5000 {
                again(&next, index + 1, finished);
            }
        });
        journal.append(key(1), vec![entry(1, index, 20)], done);
    }
    let memory = Memory::new(3);
    let (journal, _) = memory.open(tiny(1024 * 1024));
    let finished = Arc::new(Mutex::new(0));
    again(&journal.0, 0, finished.clone());
    assert_eq!(*finished.lock().unwrap(), 5001);
}

#[test]
fn after_a_failed_sync_everything_fails_for_ever() {
    let memory = Memory::new(4);
    let (journal, _) = memory.open(tiny(64 * 1024));
    let reasons = Arc::new(Mutex::new(Vec::new()));
    let told = reasons.clone();
    journal.0.set_failed_hook(Box::new(move |reason| told.lock().unwrap().push(reason.to_owned())));
    journal.append(key(1), vec![entry(1, 0, 10)]).wait().unwrap();
    memory.disk.hold();
    let in_flight = journal.append(key(1), vec![entry(1, 1, 10)]);
    let staged = journal.save_vote(key(2), vote(1, 1));
    memory.disk.fail_next_sync();
    memory.disk.release();
    assert!(matches!(in_flight.now(), Some(Err(JournalError::Stopped { .. }))));
    assert!(matches!(staged.now(), Some(Err(JournalError::Stopped { .. }))));
    let changes = memory.disk.changes();
    assert!(matches!(journal.append(key(1), vec![entry(1, 2, 10)]).wait(), Err(JournalError::Stopped { .. })));
    journal.0.mark_idle();
    assert!(matches!(journal.close(), Err(JournalError::Stopped { .. })));
    assert_eq!(memory.disk.changes(), changes, "nothing is tried again");
    let reasons = reasons.lock().unwrap();
    assert!(reasons.len() == 1 && reasons[0].contains("cannot sync journal/00000001.segment"), "{reasons:?}");
    // What was not promised may be there or not; what was promised is.
    let (journal, _) = memory.restore(5).open(tiny(64 * 1024));
    assert_eq!(journal.read(key(1), 0, 1, 100).unwrap(), [entry(1, 0, 10)]);
}

#[test]
fn a_full_disk_refuses_what_does_not_fit_and_takes_it_when_there_is_room_again() {
    let memory = Memory::new(6);
    let (journal, _) = memory.open(tiny(64 * 1024));
    memory.disk.limit_bytes(Some(0));
    let mut index = 0;
    let refusal = loop {
        match journal.append(key(1), vec![entry(1, index, 7 * KIB)]).wait() {
            Ok(()) => index += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refusal, JournalError::NoSpace { .. }), "{refusal}");
    assert!(index >= 14, "two segments hold more than {index} entries");
    journal.save_vote(key(1), vote(2, 1)).wait().expect("a vote still fits");
    memory.disk.limit_bytes(None);
    // This attempt is refused, and has room made for the next one.
    let _ = journal.append(key(1), vec![entry(1, index, 7 * KIB)]).wait();
    let last = journal.0.replica(key(1)).unwrap().last.unwrap().index.get();
    journal.append(key(1), vec![entry(1, last + 1, 7 * KIB)]).wait().unwrap();
}

#[test]
fn a_hint_forces_no_commit_and_rides_with_the_next() {
    let memory = Memory::new(7);
    let (journal, _) = memory.open(tiny(64 * 1024));
    journal.append(key(1), entries(1, 0..5, 10)).wait().unwrap();
    let commits = journal.0.counters().commits;
    journal.0.save_committed(key(1), id(1, 2));
    journal.0.save_committed(key(1), id(1, 3));
    assert_eq!(journal.0.counters().commits, commits);
    journal.save_vote(key(1), vote(2, 1)).wait().unwrap();
    assert_eq!(journal.0.counters().commits, commits + 1);
    let (journal, _) = memory.kill(1).open(tiny(64 * 1024));
    assert_eq!(journal.0.replica(key(1)).unwrap().committed, Some(id(1, 3)));
}

/// A crash between the two would leave a replica that has committed what it
/// does not have.
#[test]
fn a_hint_is_never_written_before_the_entries_it_speaks_of() {
    let memory = Memory::new(7);
    let (journal, _) = memory.open(tiny(64 * KIB as u64));
    journal.append(key(1), entries(1, 0..4, 10 * KIB)).wait().unwrap();
    memory.disk.hold();
    let in_flight = journal.append(key(1), vec![entry(1, 4, KIB)]);
    journal.0.save_committed(key(1), id(1, 4));
    // The segment has no room for it, but for the hint.
    let behind = journal.append(key(1), vec![entry(1, 5, 30 * KIB)]);
    journal.0.save_committed(key(1), id(1, 5));
    // The commit in flight, and the one after it: a write and a sync each.
    for _ in 0..4 {
        assert!(memory.disk.step(Lane::Commit));
    }
    in_flight.wait().unwrap();
    assert!(behind.now().is_none(), "it has not been written");
    let (journal, _) = memory.kill(1).open(tiny(64 * KIB as u64));
    let replica = journal.0.replica(key(1)).unwrap();
    assert_eq!((replica.last, replica.committed), (Some(id(1, 4)), Some(id(1, 4))));
}

#[test]
fn a_hint_that_could_not_say_the_newest_is_followed_by_one_that_does() {
    let memory = Memory::new(7);
    let (journal, _) = memory.open(tiny(64 * KIB as u64));
    journal.append(key(1), entries(1, 0..4, KIB)).wait().unwrap();
    memory.disk.hold();
    let in_flight = journal.append(key(1), vec![entry(1, 4, KIB)]);
    journal.0.save_committed(key(1), id(1, 4));
    let next = journal.append(key(1), vec![entry(1, 5, KIB)]);
    journal.0.save_committed(key(1), id(1, 5));
    memory.disk.release();
    in_flight.wait().unwrap();
    next.wait().unwrap();
    journal.save_vote(key(1), vote(2, 1)).wait().unwrap();
    let (journal, _) = memory.kill(1).open(tiny(64 * KIB as u64));
    assert_eq!(journal.0.replica(key(1)).unwrap().committed, Some(id(1, 5)));
}

#[test]
fn an_idle_journal_is_marked_once() {
    let memory = Memory::new(8);
    let (journal, _) = memory.open(tiny(64 * 1024));
    let activity = Arc::new(Mutex::new(0));
    let counted = activity.clone();
    journal.0.set_activity_hook(Box::new(move || *counted.lock().unwrap() += 1));
    journal.append(key(1), entries(1, 0..5, 10)).wait().unwrap();
    assert_eq!(*activity.lock().unwrap(), 1);
    let commits = journal.0.counters().commits;
    for _ in 0..3 {
        journal.0.mark_idle();
    }
    assert_eq!(journal.0.counters().commits, commits + 1);
    assert_eq!(*activity.lock().unwrap(), 1, "a mark wants no mark");
}
