//! Scenarios that a journal could get wrong: each names the promise that it
//! would break.

use std::sync::{Arc, Mutex, mpsc};

use quipu_protocol::environment::Random;
use quipu_protocol::{ClusterId, Incarnation, Index, LogId, NodeId, ReplicaId, Term};
use quipu_storage::journal::{
    Entry, EntryId, Journal, JournalConfig, JournalError, OpenError, Owner, RecoveryReport, ReplicaKey, Vote,
};
use quipu_storage::{Disk, Kv, Lane, MemoryDisk, MemoryKv};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const CONFIG: JournalConfig =
    JournalConfig { segment_bytes: 1024 * 1024, tail_cache_bytes: 64 * 1024, ..JournalConfig::DEFAULT };

const OWNER: Owner = Owner { cluster: ClusterId::new(7), node: NodeId::new(1), incarnation: Incarnation::new(99) };

const A: ReplicaKey = ReplicaKey { group: LogId::new(1), replica: ReplicaId::new(1) };
const B: ReplicaKey = ReplicaKey { group: LogId::new(2), replica: ReplicaId::new(2) };

struct Seeded(Mutex<StdRng>);

impl Random for Seeded {
    fn next(&self) -> u64 {
        self.0.lock().unwrap().next_u64()
    }
}

fn try_open(disk: &Arc<MemoryDisk>, kv: &Arc<MemoryKv>) -> Result<(Journal, RecoveryReport), OpenError> {
    open_with(CONFIG, disk, kv)
}

fn open_with(
    config: JournalConfig,
    disk: &Arc<MemoryDisk>,
    kv: &Arc<MemoryKv>,
) -> Result<(Journal, RecoveryReport), OpenError> {
    let random = Arc::new(Seeded(Mutex::new(StdRng::seed_from_u64(disk.changes()))));
    let (disk, kv): (Arc<dyn Disk>, Arc<dyn Kv>) = (disk.clone(), kv.clone());
    Journal::open(disk, kv, random, config, OWNER)
}

fn open(disk: &Arc<MemoryDisk>, kv: &Arc<MemoryKv>) -> (Journal, RecoveryReport) {
    try_open(disk, kv).unwrap_or_else(|error| panic!("{error}: {error:?}"))
}

fn fresh() -> (Arc<MemoryDisk>, Arc<MemoryKv>) {
    (Arc::new(MemoryDisk::new(1)), Arc::new(MemoryKv::new()))
}

fn entries(first: u64, sizes: &[usize]) -> Vec<Entry> {
    let ids = (first..).map(|index| EntryId { term: Term::new(1), index: Index::new(index) });
    ids.zip(sizes)
        .map(|(id, size)| Entry { id, payload: vec![id.index.get().to_le_bytes()[0]; *size].into() })
        .collect()
}

type Answers = mpsc::Receiver<Result<(), JournalError>>;

fn append(journal: &Journal, key: ReplicaKey, entries: Vec<Entry>) -> Answers {
    let (sender, answers) = mpsc::channel();
    journal.append(key, entries, Box::new(move |result| sender.send(result).unwrap()));
    answers
}

fn vote(journal: &Journal, key: ReplicaKey, term: u64) -> Answers {
    let (sender, answers) = mpsc::channel();
    let vote = Vote { term: Term::new(term), voted_for: None, committed: false };
    journal.save_vote(key, vote, Box::new(move |result| sender.send(result).unwrap()));
    answers
}

fn answer(answers: &Answers) -> Result<(), JournalError> {
    answers.try_recv().expect("an answer by now")
}

fn last(journal: &Journal, key: ReplicaKey) -> Option<u64> {
    journal.replica(key)?.last.map(|last| last.index.get())
}

fn steps(disk: &MemoryDisk, lane: Lane) {
    while disk.step(lane) {}
}

#[test]
fn torn_commit_that_was_dropped_stays_dropped_when_the_journal_rolls_over_it() {
    let mut torn = 0;
    for seed in 0..40 {
        let (disk, kv) = fresh();
        let (journal, _) = open(&disk, &kv);
        answer(&append(&journal, A, entries(1, &[400_000]))).unwrap();
        journal.mark_idle();
        // A commit of a third of the segment is torn by a power cut.
        disk.cut_power_at(1);
        assert!(answer(&append(&journal, A, entries(2, &[100_000, 100_000, 100_000]))).is_err());
        let disk = Arc::new(disk.restore(seed));
        let kv = Arc::new(kv.lose_unflushed(seed));
        let (journal, report) = open(&disk, &kv);
        if report.torn_bytes == 0 {
            continue;
        }
        torn += 1;
        assert_eq!(last(&journal, A), Some(1), "seed {seed}");
        // What comes now does not fit into the rest of the segment, and the
        // note that the segment is full never reaches the disk.
        disk.hold();
        let rolled = append(&journal, B, entries(1, &[900_000]));
        steps(&disk, Lane::Commit);
        answer(&rolled).unwrap();
        let second = append(&journal, B, entries(2, &[10]));
        steps(&disk, Lane::Commit);
        answer(&second).unwrap();
        let disk = Arc::new(disk.restore(seed));
        let kv = Arc::new(kv.lose_unflushed(seed));
        let (journal, report) = open(&disk, &kv);
        assert!(report.damage.is_empty(), "seed {seed}: a torn commit came back as damage: {report:?}");
        assert_eq!((last(&journal, A), last(&journal, B)), (Some(1), Some(2)), "seed {seed}: {report:?}");
    }
    assert!(torn > 5, "only {torn} commits were torn");
}

#[test]
fn append_that_fills_a_segment_to_the_brim_is_written_or_refused() {
    for total in [1_030_000, 1_040_000, 1_044_000, 1_045_000, 1_048_000, 1_048_500] {
        let (disk, kv) = fresh();
        let (journal, _) = open(&disk, &kv);
        let half = total / 2;
        disk.hold();
        let answers = append(&journal, A, entries(1, &[half, total - half]));
        for _ in 0..20 {
            steps(&disk, Lane::Commit);
            disk.step(Lane::Background);
        }
        answers.try_recv().unwrap_or_else(|_| panic!("{total} bytes wait for ever")).unwrap();
        let segments = disk.list("journal").unwrap().len();
        assert!(segments <= 5, "{total} bytes took {segments} files");
    }
}

#[test]
fn full_disk_refuses_with_a_reason_and_stops_nothing() {
    for size in [1, 5000, 70_000] {
        let (disk, kv) = fresh();
        let (journal, _) = open(&disk, &kv);
        disk.limit_bytes(Some(3 * 1024 * 1024));
        disk.hold();
        let mut waiting = Vec::new();
        let (mut next, mut refused) = (1, 0);
        while refused < 5 && next < 100_000 {
            // Many small frames in one commit, or few large ones.
            for _ in 0..700.min(300_000 / size) {
                let answers = append(&journal, A, entries(next, &[size]));
                match answers.try_recv() {
                    Ok(Err(JournalError::NoSpace { .. })) => refused += 1,
                    Ok(other) => panic!("size {size}: {other:?} at {next}"),
                    Err(_) => {
                        next += 1;
                        waiting.push(answers);
                    }
                }
            }
            steps(&disk, Lane::Commit);
            disk.step(Lane::Background);
            journal.mark_idle();
            steps(&disk, Lane::Commit);
        }
        steps(&disk, Lane::Background);
        steps(&disk, Lane::Commit);
        for answers in &waiting {
            answer(answers).unwrap_or_else(|error| panic!("size {size}: accepted, and then: {error}"));
        }
        assert_eq!(refused.min(5), 5, "size {size}: the disk never filled");
        // Room again: the refused call makes it look, the next one is taken.
        disk.limit_bytes(None);
        disk.release();
        let _ = append(&journal, A, entries(next, &[size]));
        next = last(&journal, A).unwrap() + 1;
        answer(&append(&journal, A, entries(next, &[size]))).unwrap();
        let disk = Arc::new(disk.restore(1));
        let (journal, report) = open(&disk, &Arc::new(kv.lose_unflushed(1)));
        assert!(report.damage.is_empty(), "{report:?}");
        assert_eq!(last(&journal, A), Some(next));
    }
}

#[test]
fn failed_sync_stops_everything_and_loses_nothing_acknowledged_silently() {
    for seed in 0..30 {
        let (disk, kv) = fresh();
        let (journal, _) = open(&disk, &kv);
        answer(&append(&journal, A, entries(1, &[1000]))).unwrap();
        disk.fail_next_sync();
        assert!(matches!(answer(&append(&journal, A, entries(2, &[1000]))), Err(JournalError::Stopped { .. })));
        assert!(matches!(answer(&append(&journal, B, entries(1, &[1]))), Err(JournalError::Stopped { .. })));
        assert!(matches!(answer(&vote(&journal, B, 1)), Err(JournalError::Stopped { .. })));
        // The process ends, another one starts; the page cache shows what the
        // medium never got.
        let disk = Arc::new(disk.kill(seed));
        let kv = Arc::new(kv.lose_unflushed(seed));
        let (journal, _) = open(&disk, &kv);
        let next = last(&journal, A).unwrap() + 1;
        answer(&append(&journal, A, entries(next, &[1000]))).unwrap();
        let disk = Arc::new(disk.restore(seed));
        let (journal, report) = open(&disk, &Arc::new(kv.lose_unflushed(seed)));
        let damaged = !report.damage.is_empty();
        assert!(damaged || last(&journal, A) == Some(next), "seed {seed}: {:?} of {next}", last(&journal, A));
        assert!(!damaged || journal.damage(A).is_some(), "seed {seed}: nobody owns the damage: {report:?}");
    }
}

#[test]
fn manifest_from_an_earlier_day_does_not_cost_the_segments_made_since() {
    let (disk, kv) = fresh();
    let (journal, _) = open(&disk, &kv);
    answer(&append(&journal, A, entries(1, &[100]))).unwrap();
    let early = disk.content("journal/MANIFEST").unwrap();
    for index in 2..8 {
        answer(&append(&journal, A, entries(index, &[900_000]))).unwrap();
    }
    let files = disk.list("journal").unwrap();
    let disk = Arc::new(disk.kill(1));
    assert_eq!(disk.content("journal/MANIFEST").unwrap().len(), early.len());
    disk.corrupt("journal/MANIFEST", 0, &early);
    let opened = try_open(&disk, &Arc::new(kv.lose_unflushed(1)));
    assert!(opened.is_err(), "an old manifest was taken for the newest");
    assert_eq!(disk.list("journal").unwrap(), files, "segments with entries were removed");
}

#[test]
fn flipped_bit_anywhere_below_the_mark_is_found_and_never_read_as_data() {
    let (disk, kv) = fresh();
    let (journal, _) = open(&disk, &kv);
    for index in 1..4 {
        answer(&append(&journal, A, entries(index, &[300]))).unwrap();
        answer(&append(&journal, B, entries(index, &[300]))).unwrap();
        answer(&vote(&journal, A, index)).unwrap();
    }
    journal.mark_idle();
    let image = disk.content("journal/00000001.segment").unwrap();
    let used = image.iter().rposition(|byte| *byte != 0).unwrap() as u64;
    let mut found = 0;
    for offset in (4096..used).step_by(61) {
        let disk = Arc::new(disk.kill(offset));
        disk.flip_bit("journal/00000001.segment", offset, (offset % 8) as u8);
        let Ok((journal, report)) = try_open(&disk, &Arc::new(MemoryKv::new())) else {
            found += 1;
            continue;
        };
        found += usize::from(!report.damage.is_empty() || report.survived_headers > 0);
        for key in [A, B] {
            if journal.damage(key).is_some() {
                continue;
            }
            assert_eq!(last(&journal, key), Some(3), "offset {offset}: {key} lost entries silently: {report:?}");
            assert!(key == B || journal.replica(A).unwrap().vote.unwrap().term.get() == 3, "offset {offset}");
            let (sender, read) = mpsc::channel();
            let done = Box::new(move |result| sender.send(result).unwrap());
            journal.read(key, Index::new(1)..Index::new(4), u64::MAX, done);
            let read = read.try_recv().unwrap().unwrap_or_else(|error| panic!("offset {offset}: {error}"));
            assert_eq!(read, entries(1, &[300; 3]), "offset {offset}");
        }
    }
    assert!(found > 40, "only {found} flips were noticed");
}

#[test]
fn zeroed_sector_below_the_mark_is_never_taken_for_the_end() {
    let (disk, kv) = fresh();
    let (journal, _) = open(&disk, &kv);
    for index in 1..6 {
        answer(&append(&journal, A, entries(index, &[9000]))).unwrap();
    }
    journal.mark_idle();
    let image = disk.content("journal/00000001.segment").unwrap();
    let used = image.iter().rposition(|byte| *byte != 0).unwrap() as u64;
    // The mark itself is the last thing: losing it loses nothing.
    for offset in (4096..used / 4096 * 4096).step_by(4096) {
        let disk = Arc::new(disk.kill(offset));
        disk.corrupt("journal/00000001.segment", offset, &[0; 4096]);
        let (journal, report) = open(&disk, &Arc::new(MemoryKv::new()));
        assert!(journal.damage(A).is_some(), "sector at {offset}: {:?}, {report:?}", journal.replica(A));
        assert!(matches!(answer(&append(&journal, A, entries(6, &[1]))), Err(JournalError::Damaged { .. })));
    }
}

#[test]
fn panicking_callback_stops_the_journal_and_leaves_nobody_waiting() {
    let (disk, kv) = fresh();
    let (journal, _) = open(&disk, &kv);
    disk.hold();
    journal.append(A, entries(1, &[1]), Box::new(|_| panic!("on purpose")));
    let waiting = vote(&journal, B, 1);
    steps(&disk, Lane::Commit);
    assert!(matches!(answer(&waiting), Err(JournalError::Stopped { .. })));
    assert!(matches!(answer(&vote(&journal, B, 2)), Err(JournalError::Stopped { .. })));
}

#[test]
fn append_that_takes_several_commits_is_durable_only_as_far_as_they_are() {
    const MIB: usize = 1024 * 1024;
    let config = JournalConfig { segment_bytes: 16 * MIB as u64, tail_cache_bytes: 0, ..CONFIG };
    let (disk, kv) = fresh();
    let (journal, _) = open_with(config, &disk, &kv).unwrap();
    disk.hold();
    let answers = append(&journal, A, entries(1, &[3 * MIB / 2; 5]));
    let durable = || journal.durable(A).map_or(0, |durable| durable.index.get());
    let mut before = 0;
    while answers.try_recv().is_err() {
        assert!(disk.step(Lane::Commit), "nothing goes on");
        assert!(durable() < 5 || disk.waiting(Lane::Commit) == 0, "all is durable while commits are under way");
        assert!(durable() - before <= 2, "{} entries became durable with one commit", durable() - before);
        before = durable();
        // All of them can be read, written or not.
        let (sender, read) = mpsc::channel();
        let done = Box::new(move |result| sender.send(result).unwrap());
        journal.read(A, Index::new(1)..Index::new(6), u64::MAX, done);
        steps(&disk, Lane::Read);
        assert_eq!(read.try_recv().unwrap().unwrap().len(), 5);
    }
    assert_eq!(durable(), 5);
}

#[test]
fn damaged_replica_that_cannot_be_retired_for_want_of_space_stays_damaged() {
    let (disk, kv) = fresh();
    let (journal, _) = open(&disk, &kv);
    answer(&append(&journal, A, entries(1, &[3000]))).unwrap();
    answer(&append(&journal, B, entries(1, &[1]))).unwrap();
    journal.mark_idle();
    disk.flip_bit("journal/00000001.segment", 4096 + 2000, 0);
    let disk = Arc::new(disk.kill(1));
    let (journal, _) = open(&disk, &Arc::new(kv.lose_unflushed(1)));
    assert!(journal.damage(A).is_some() && journal.damage(B).is_none());
    disk.limit_bytes(Some(1));
    let mut next = 2;
    while answer(&append(&journal, B, entries(next, &[1]))).is_ok() {
        next += 1;
    }
    let retire = || {
        let (sender, answers) = mpsc::channel();
        journal.retire(A, Box::new(move |result| sender.send(result).unwrap()));
        answer(&answers)
    };
    assert!(matches!(retire(), Err(JournalError::NoSpace { .. })));
    assert!(journal.damage(A).is_some(), "a replica was healed by a refusal");
    // The refused call makes it look for room, the next one is taken.
    disk.limit_bytes(None);
    assert!(retire().is_err());
    retire().unwrap();
    assert!(journal.replica(A).is_none() && journal.damage(A).is_none());
}
