//! The journal as it runs in production: the system's disk, RocksDB, several
//! threads, and segments so small that they fill all the time.

use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};

use bytes::Bytes;
use quipu_protocol::environment::Random;
use quipu_protocol::{ClusterId, Incarnation, Index, LogId, NodeId, ReplicaId, Term};
use quipu_storage::journal::{Entry, EntryId, Journal, JournalConfig, Owner, ReadError, ReplicaKey};
use quipu_storage::{Disk, Kv, RocksKv, SystemDisk};

const WRITERS: u64 = 4;
const APPENDS: u64 = 600;
const BATCH: u64 = 3;

struct Counting(AtomicU64);

impl Random for Counting {
    fn next(&self) -> u64 {
        self.0.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed)
    }
}

fn open(root: &Path) -> (Journal, Arc<dyn Kv>) {
    let disk: Arc<dyn Disk> = Arc::new(SystemDisk::open(root).unwrap());
    let kv: Arc<dyn Kv> = Arc::new(RocksKv::open(&root.join("metadata")).unwrap());
    let config = JournalConfig {
        segment_bytes: 1024 * 1024,
        spare_segments: 2,
        tail_cache_bytes: 256 * 1024,
        ..JournalConfig::DEFAULT
    };
    let owner = Owner { cluster: ClusterId::new(7), node: NodeId::new(1), incarnation: Incarnation::new(99) };
    let random = Arc::new(Counting(AtomicU64::new(u64::from(std::process::id()))));
    let (journal, report) = Journal::open(disk, kv.clone(), random, config, owner).unwrap();
    assert!(report.damage.is_empty(), "{report:?}");
    (journal, kv)
}

fn key(writer: u64) -> ReplicaKey {
    ReplicaKey { group: LogId::new(writer), replica: ReplicaId::new(100 + writer) }
}

fn entry(writer: u64, index: u64) -> Entry {
    let id = EntryId { term: Term::new(1 + index / 500), index: Index::new(index) };
    let length = usize::try_from((index * 37 + writer * 11) % 2500).unwrap();
    Entry { id, payload: Bytes::from(vec![index.to_le_bytes()[0]; length]) }
}

fn read(journal: &Journal, writer: u64, range: Range<u64>) -> Result<Vec<Entry>, ReadError> {
    let (sender, read) = mpsc::channel();
    let range = Index::new(range.start)..Index::new(range.end);
    journal.read(key(writer), range, 50_000, Box::new(move |entries| sender.send(entries).unwrap()));
    read.recv().expect("a read is always answered")
}

fn check(journal: &Journal, writer: u64, range: Range<u64>) {
    let mut next = range.start;
    while next < range.end {
        let entries = read(journal, writer, next..range.end).unwrap();
        assert!(!entries.is_empty(), "{writer} has nothing at {next}");
        for found in entries {
            assert_eq!(found, entry(writer, next));
            next += 1;
        }
    }
}

/// Appends with several in flight, and reads what was acknowledged meanwhile.
fn write(journal: &Journal, writer: u64) {
    let (sender, acknowledged) = mpsc::channel();
    let (mut sent, mut durable) = (0, 0);
    while durable < APPENDS {
        while sent < APPENDS && sent - durable < 16 {
            let first = 1 + sent * BATCH;
            let entries = (first..first + BATCH).map(|index| entry(writer, index)).collect();
            let sender = sender.clone();
            let done = Box::new(move |result| sender.send((sent, result)).unwrap());
            journal.append(key(writer), entries, done);
            sent += 1;
        }
        let (ordinal, result) = acknowledged.recv().expect("an append is always answered");
        result.unwrap();
        assert_eq!(ordinal, durable, "acknowledgements come in order");
        durable += 1;
        assert!(journal.durable(key(writer)).unwrap().index.get() >= durable * BATCH);
        if durable.is_multiple_of(50) {
            let start = 1 + (durable * 7919) % (durable * BATCH);
            check(journal, writer, start..(start + 40).min(1 + durable * BATCH));
        }
    }
}

#[test]
fn writers_and_readers_share_a_journal_that_rolls_and_comes_back() {
    let binary = std::env::current_exe().unwrap();
    let directory = tempfile::TempDir::new_in(binary.parent().unwrap()).unwrap();
    let (journal, kv) = open(directory.path());
    std::thread::scope(|scope| {
        for writer in 1..=WRITERS {
            let journal = &journal;
            scope.spawn(move || write(journal, writer));
        }
    });
    let (sender, closed) = mpsc::channel();
    journal.close(Box::new(move |result| sender.send(result).unwrap()));
    closed.recv().unwrap().unwrap();
    let segments = std::fs::read_dir(directory.path().join("journal")).unwrap().count();
    assert!(segments > 6, "only {segments} files: nothing rolled");
    kv.close().unwrap();
    drop((journal, kv));

    for index_lost in [false, true] {
        if index_lost {
            std::fs::remove_dir_all(directory.path().join("metadata")).unwrap();
        }
        let (journal, kv) = open(directory.path());
        for writer in 1..=WRITERS {
            assert_eq!(journal.replica(key(writer)).unwrap().last, Some(entry(writer, APPENDS * BATCH).id));
            check(&journal, writer, 1..1 + APPENDS * BATCH);
        }
        kv.close().unwrap();
    }
}
