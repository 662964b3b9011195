//! Tells what was torn from what was damaged, and whose it was.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use quipu_protocol::Index;

use super::rig::{Memory, OWNER, Talk, entries, entry, id, key, tiny, vote};
use crate::disk::{Access, Disk, Lane, MemoryDisk};
use crate::journal::format::{COMMIT_HEADER, DIRECTORY_ITEM, FIRST_COMMIT, SECTOR};
use crate::journal::manifest::Manifest;
use crate::journal::{DamagedPart, Entry, JournalError, OpenError, ReadError, ReplicaKey};

const FIRST: &str = "journal/00000001.segment";
const SEGMENT_BYTES: u64 = 64 * 1024;

/// Commits of several groups each, a mark at the end; and what is in them.
fn written() -> (Memory, BTreeMap<ReplicaKey, Vec<Entry>>) {
    let memory = Memory::new(1);
    let (journal, _) = memory.open(tiny(SEGMENT_BYTES));
    let mut held: BTreeMap<ReplicaKey, Vec<Entry>> = BTreeMap::new();
    for round in 0..4 {
        memory.disk.hold();
        for group in 1..4 {
            let more = entries(1, round * 2..round * 2 + 2, 500 * group as usize);
            held.entry(key(group)).or_default().extend(more.clone());
            journal.append(key(group), more);
            journal.save_vote(key(group), vote(round, group));
        }
        memory.disk.release();
    }
    journal.close().unwrap();
    (memory, held)
}

/// Where the last commit ends.
fn used(disk: &MemoryDisk) -> u64 {
    let content = disk.content(FIRST).unwrap();
    content.iter().rposition(|byte| *byte != 0).map_or(0, |last| (last as u64 + 1).next_multiple_of(SECTOR))
}

#[test]
fn every_flipped_bit_below_the_mark_is_held_against_its_owner_alone_and_never_torn() {
    let (memory, held) = written();
    let used = used(&memory.disk);
    // The last sector is the mark: nothing proves it, and nothing has to.
    let (mut harmless, mut survived, mut damaged) = (0, 0, 0);
    for (turn, byte) in (FIRST_COMMIT..used - SECTOR).step_by(5).enumerate() {
        let flipped = memory.kill(1).without_kv();
        flipped.disk.flip_bit(FIRST, byte, (turn % 8) as u8);
        let (journal, report) = flipped.open(tiny(SEGMENT_BYTES));
        assert_eq!(report.torn_bytes, 0, "byte {byte} is below the mark");
        let owners: Vec<_> = held.keys().filter(|key| journal.0.damage(**key).is_some()).collect();
        assert!(owners.len() <= 1, "byte {byte} was held against {owners:?}");
        match (owners.len(), report.survived_headers) {
            (0, 0) => harmless += 1,
            (0, 1) => survived += 1,
            (1, 0) => damaged += 1,
            (owners, headers) => panic!("byte {byte}: {owners} replicas and {headers} headers are damaged"),
        }
        for (key, entries) in &held {
            match journal.read_all(*key) {
                Ok(read) => assert!(
                    read == *entries || journal.0.damage(*key).is_some(),
                    "byte {byte}: {key} lost entries and does not know"
                ),
                Err(ReadError::Damaged { .. } | ReadError::Missing { .. }) => {
                    assert!(journal.0.damage(*key).is_some(), "byte {byte}: {key} does not know of its damage");
                }
                Err(error) => panic!("byte {byte}: {error}"),
            }
            if journal.0.damage(*key).is_some() {
                let refused = journal.save_vote(*key, vote(9, 9)).wait();
                assert!(matches!(refused, Err(JournalError::Damaged { .. })), "a damaged replica takes nothing");
            }
        }
    }
    assert!(harmless > 0 && survived > 0 && damaged > 0, "{harmless} {survived} {damaged}");
}

#[test]
fn damage_names_segment_byte_and_index_and_is_remembered_by_the_index() {
    let (memory, held) = written();
    let content = memory.disk.content(FIRST).unwrap();
    let payload = held[&key(2)][4].payload.clone();
    let byte = content.windows(payload.len()).position(|window| window == payload).unwrap();
    memory.disk.flip_bit(FIRST, byte as u64 + 3, 2);
    let memory = memory.kill(1).without_kv();
    let (journal, report) = memory.open(tiny(SEGMENT_BYTES));
    let damage = journal.0.damage(key(2)).unwrap();
    assert_eq!((damage.segment, damage.index, damage.part), (1, Some(Index::new(4)), DamagedPart::Payload));
    assert_eq!(report.damage, [(Some(key(2)), damage)]);
    assert!(damage.byte < byte as u64 && byte as u64 - damage.byte < SECTOR);
    assert!(journal.0.damage(key(1)).is_none() && journal.0.damage(key(3)).is_none());
    // Until the segment is full, sealed, and not scanned any more.
    journal.append(key(1), entries(1, 8..60, 3000)).wait().unwrap();
    journal.close().unwrap();
    let (journal, report) = memory.kill(2).open(tiny(SEGMENT_BYTES));
    assert_eq!(journal.0.damage(key(2)), Some(damage));
    assert_eq!(report.damage, [(Some(key(2)), damage)]);
}

#[test]
fn damage_that_nothing_attributes_is_held_against_everybody() {
    let (memory, held) = written();
    // A whole sector with the header of a commit, its directory and frames.
    memory.disk.corrupt(FIRST, FIRST_COMMIT, &vec![0; SECTOR as usize]);
    let (journal, report) = memory.kill(1).without_kv().open(tiny(SEGMENT_BYTES));
    assert_eq!(report.torn_bytes, 0);
    assert!(report.damage.iter().any(|(owner, damage)| owner.is_none() && damage.part == DamagedPart::Unattributed));
    for key in held.keys() {
        assert!(journal.0.damage(*key).is_some(), "{key} may have lost something");
    }
}

#[test]
fn damage_to_the_last_commit_is_torn_only_until_it_is_marked() {
    let memory = Memory::new(1);
    let (journal, _) = memory.open(tiny(SEGMENT_BYTES));
    journal.append(key(1), entries(1, 0..3, 100)).wait().unwrap();
    journal.append(key(1), entries(1, 3..6, 100)).wait().unwrap();
    let second = FIRST_COMMIT + SECTOR + (COMMIT_HEADER + DIRECTORY_ITEM) as u64 + 200;
    let unmarked = memory.kill(1);
    unmarked.disk.flip_bit(FIRST, second, 0);
    let (torn, report) = unmarked.open(tiny(SEGMENT_BYTES));
    assert_eq!(report.torn_bytes, SECTOR);
    assert_eq!(torn.0.replica(key(1)).unwrap().last, Some(id(1, 2)));

    let memory = memory.kill(2);
    // Opening marks what it found.
    drop(memory.open(tiny(SEGMENT_BYTES)));
    let marked = memory.kill(3);
    marked.disk.flip_bit(FIRST, second, 0);
    let (journal, report) = marked.open(tiny(SEGMENT_BYTES));
    assert_eq!(report.torn_bytes, 0);
    assert_eq!(journal.0.damage(key(1)).unwrap().index, Some(Index::new(3)));
}

#[test]
fn a_damaged_payload_of_an_indexed_segment_is_never_served() {
    let memory = Memory::new(1);
    let (journal, _) = memory.open(tiny(SEGMENT_BYTES));
    for index in 0..40 {
        journal.append(key(1), vec![entry(1, index, 3000)]).wait().unwrap();
    }
    let content = memory.disk.content(FIRST).unwrap();
    let payload = entry(1, 7, 3000).payload;
    let byte = content.windows(payload.len()).position(|window| window == payload).unwrap();
    memory.disk.flip_bit(FIRST, byte as u64 + 1000, 6);
    assert_eq!(journal.read(key(1), 0, 40, u64::MAX).unwrap(), entries(1, 0..7, 3000), "what is before it is served");
    let refused = journal.read(key(1), 7, 40, u64::MAX);
    assert!(matches!(refused, Err(ReadError::Damaged { damage, .. }) if damage.index == Some(Index::new(7))));
    assert_eq!(journal.read(key(1), 8, 40, u64::MAX).unwrap(), entries(1, 8..40, 3000));
}

#[test]
fn what_is_left_of_a_torn_commit_never_comes_back() {
    let mut torn = 0;
    for seed in 0..300 {
        let memory = Memory::new(seed);
        let (journal, _) = memory.open(tiny(SEGMENT_BYTES));
        memory.disk.hold();
        // The first one does not wait for the others: they become a commit of
        // ten sectors, which is written and not synced.
        for index in 0..10 {
            journal.append(key(1), vec![entry(1, index, 3900)]);
        }
        for _ in 0..3 {
            assert!(memory.disk.step(Lane::Commit));
        }
        let memory = memory.restore(seed);
        let (journal, report) = memory.open(tiny(SEGMENT_BYTES));
        torn += u64::from(report.torn_bytes > 0);
        let last = journal.0.replica(key(1)).unwrap().last.unwrap().index.get();
        assert!([0, 9].contains(&last), "seed {seed}: a commit is there or not, but {last} is the last");
        // Shorter commits than the torn one, so that its rest lies behind them.
        journal.append(key(1), vec![entry(2, last + 1, 50)]).wait().unwrap();
        journal.append(key(1), vec![entry(2, last + 2, 50)]).wait().unwrap();
        let expected = journal.read_all(key(1)).unwrap();
        // Not even when the newest header, which nothing marks, is damaged.
        for damaged in [false, true] {
            let memory = memory.kill(seed + 1);
            if damaged {
                let end = newest_header(&memory.disk);
                memory.disk.flip_bit(FIRST, end, 3);
            }
            let (journal, report) = memory.open(tiny(SEGMENT_BYTES));
            assert_eq!(report.damage, [], "seed {seed}");
            let kept = journal.read_all(key(1)).unwrap();
            let wanted = if damaged { &expected[..expected.len() - 1] } else { &expected[..] };
            assert_eq!(kept, wanted, "seed {seed}");
        }
    }
    assert!(torn > 20, "only {torn} seeds tore the commit");
}

/// Where the newest commit's header is.
fn newest_header(disk: &MemoryDisk) -> u64 {
    let manifest = Manifest::read(disk).unwrap().unwrap();
    let nonce = manifest.segments[0].nonce;
    let content = disk.content(FIRST).unwrap();
    let headers = (FIRST_COMMIT..SEGMENT_BYTES).step_by(SECTOR as usize).filter_map(|byte| {
        let bytes = &content[byte as usize..];
        let header = crate::journal::format::CommitHeader::decode(nonce, byte, bytes, SEGMENT_BYTES - byte)?;
        Some((header.sequence, byte + 16))
    });
    headers.max().unwrap().1
}

#[test]
fn frames_of_an_earlier_use_of_the_file_are_not_taken_for_new_ones() {
    let (old, _) = written();
    let stale = old.disk.content(FIRST).unwrap();
    let memory = Memory::new(9);
    // Another seed for the journal's randomness: another nonce.
    let config = tiny(SEGMENT_BYTES);
    let open = |memory: &Memory| {
        let random = super::rig::Seeded::new(4711);
        crate::journal::Journal::open_checked(memory.disk.clone(), memory.kv.clone(), random, config, OWNER, 0).unwrap()
    };
    drop(open(&memory));
    let memory = memory.kill(1);
    memory.disk.corrupt(FIRST, FIRST_COMMIT, &stale[FIRST_COMMIT as usize..]);
    let (journal, report) = open(&memory);
    assert_eq!((journal.replicas(), report.damage), (Vec::new(), Vec::new()));
    let journal = Talk(journal);
    journal.append(key(1), entries(7, 0..2, 60)).wait().unwrap();
    let (journal, report) = open(&memory.kill(2));
    assert_eq!(report.damage, []);
    assert_eq!(Talk(journal).read_all(key(1)).unwrap(), entries(7, 0..2, 60));
}

#[test]
fn a_missing_or_short_or_foreign_segment_is_refused_by_name() {
    let (memory, _) = written();
    let memory = memory.kill(1);
    let refusal = |memory: &Memory| {
        let opened = Talk::open(memory.disk.clone(), memory.kv.clone(), tiny(SEGMENT_BYTES));
        opened.err().unwrap_or_else(|| panic!("it was opened"))
    };
    let short = memory.kill(2);
    short.disk.shorten(FIRST, SEGMENT_BYTES - SECTOR);
    assert!(matches!(refusal(&short), OpenError::SegmentLength { found, .. } if found == SEGMENT_BYTES - SECTOR));
    let missing = memory.kill(3);
    missing.disk.remove(FIRST).unwrap();
    assert!(matches!(refusal(&missing), OpenError::SegmentMissing { path } if path == FIRST));
    let bare = memory.kill(4);
    bare.disk.remove("journal/MANIFEST").unwrap();
    assert!(matches!(refusal(&bare), OpenError::ManifestMissing { .. }));
    let swapped = memory.kill(5);
    let second = swapped.disk.content("journal/00000002.segment").unwrap();
    swapped.disk.corrupt(FIRST, 0, &second);
    assert!(matches!(refusal(&swapped), OpenError::WrongSegment { .. }));
    let mut other = OWNER;
    other.node = quipu_protocol::NodeId::new(99);
    let random = super::rig::Seeded::new(1);
    let config = tiny(SEGMENT_BYTES);
    let foreign = memory.kill(6);
    let opened =
        crate::journal::Journal::open_checked(foreign.disk.clone(), foreign.kv.clone(), random, config, other, 0);
    assert!(matches!(opened.err(), Some(OpenError::Foreign { .. })));
}

#[test]
fn a_journal_that_is_not_opened_is_left_as_it_was() {
    let (memory, _) = written();
    let memory = memory.kill(1);
    memory.disk.remove(FIRST).unwrap();
    // A segment that was never put to use: the next start removes it.
    let unused = "journal/00000099.segment";
    let file = memory.disk.create(unused, Access::Direct).unwrap();
    memory.disk.close(file);
    let before = memory.disk.list_files();
    assert!(before.iter().any(|path| path == unused));
    let opened = Talk::open(memory.disk.clone(), memory.kv.clone(), tiny(SEGMENT_BYTES));
    assert!(matches!(opened.err(), Some(OpenError::SegmentMissing { path }) if path == FIRST));
    assert_eq!(memory.disk.list_files(), before);
}

#[test]
fn a_damaged_segment_header_costs_nothing_since_the_manifest_says_the_same() {
    let (memory, held) = written();
    for bit in 0..8 * 128_u64 {
        let flipped = memory.kill(bit).without_kv();
        flipped.disk.flip_bit(FIRST, bit / 8, (bit % 8) as u8);
        let (journal, _) = flipped.open(tiny(SEGMENT_BYTES));
        for (key, entries) in &held {
            assert_eq!(journal.read_all(*key).unwrap(), *entries);
        }
    }
}

/// What is done to a segment's bytes.
#[derive(Clone, Debug)]
enum Vandalism {
    Overwrite { at: usize, bytes: Vec<u8> },
    Copy { from: usize, to: usize, length: usize },
    Zero { at: usize, length: usize },
}

fn vandalism() -> impl Strategy<Value = Vandalism> {
    let place = FIRST_COMMIT as usize..SEGMENT_BYTES as usize - 10_000;
    prop_oneof![
        (place.clone(), proptest::collection::vec(any::<u8>(), 1..200))
            .prop_map(|(at, bytes)| Vandalism::Overwrite { at, bytes }),
        (place.clone(), place.clone(), 1..9000_usize).prop_map(|(from, to, length)| Vandalism::Copy {
            from,
            to,
            length
        }),
        (0..15_usize, 0..15_usize, 1..3_usize).prop_map(|(from, to, sectors)| Vandalism::Copy {
            from: from * 4096,
            to: (to.min(12) + 1) * 4096,
            length: sectors * 4096,
        }),
        (place, 1..9000_usize).prop_map(|(at, length)| Vandalism::Zero { at, length }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_in_a_segment_give_a_journal_or_an_error(acts in proptest::collection::vec(vandalism(), 1..6)) {
        let (memory, held) = written();
        let mut bytes = memory.disk.content(FIRST).unwrap();
        for act in acts {
            match act {
                Vandalism::Overwrite { at, bytes: new } => bytes[at..at + new.len()].copy_from_slice(&new),
                Vandalism::Copy { from, to, length } => {
                    let length = length.min(bytes.len() - from.max(to));
                    bytes.copy_within(from..from + length, to);
                }
                Vandalism::Zero { at, length } => bytes[at..at + length].fill(0),
            }
        }
        let memory = memory.kill(1).without_kv();
        memory.disk.corrupt(FIRST, 0, &bytes);
        if let Ok((journal, _)) = Talk::open(memory.disk.clone(), memory.kv.clone(), tiny(SEGMENT_BYTES)) {
            let written: BTreeMap<(ReplicaKey, Index), Bytes> = held
                .iter()
                .flat_map(|(key, entries)| entries.iter().map(|it| ((*key, it.id.index), it.payload.clone())))
                .collect();
            for key in journal.0.replicas() {
                for entry in journal.read_all(key).unwrap_or_default() {
                    prop_assert_eq!(Some(&entry.payload), written.get(&(key, entry.id.index)));
                }
            }
        }
    }
}
