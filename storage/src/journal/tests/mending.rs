//! What rots is held against its replica, comes back from elsewhere, and counts
//! no more.

use std::sync::Arc;

use bytes::Bytes;
use quipu_protocol::Index;

use super::rig::{Memory, Promise, Talk, entries, entry, id, key, promise, tiny, vote};
use crate::disk::{AlignedBuffer, MemoryDisk};
use crate::journal::{DamagedPart, Entry, JournalError, MendError, OpenError, ReadError, ReplicaKey, Scrubbed, Wound};
use crate::kv::{Batch, KvError, Space};

const SEGMENT_BYTES: u64 = 64 * 1024;
/// An entry's bytes that take three sectors.
const LARGE: usize = 9000;
const FIRST: &str = "journal/00000001.segment";

/// Where in a segment an entry's payload lies.
fn byte_of(disk: &MemoryDisk, path: &str, entry: &Entry) -> Option<u64> {
    let content = disk.content(path)?;
    let found = content.windows(entry.payload.len()).position(|window| window == entry.payload);
    found.map(|at| at as u64 + 11)
}

/// Forty entries of one replica, most of them in sealed segments.
fn sealed() -> (Memory, Talk) {
    sealed_of(3000)
}

fn sealed_of(bytes: usize) -> (Memory, Talk) {
    let memory = Memory::new(1);
    let (journal, _) = memory.open(tiny(SEGMENT_BYTES));
    for index in 0..40 {
        journal.append(key(1), vec![entry(1, index, bytes)]).wait().unwrap();
    }
    (memory, journal)
}

/// The disk does not give the second sector of an entry's three any more.
fn break_payload(memory: &Memory, index: u64) {
    let byte = byte_of(&memory.disk, FIRST, &entry(1, index, LARGE)).expect("it is in the first segment");
    memory.disk.break_reads(FIRST, byte + 4096, 1);
}

/// What another process would find now, with the store gone.
fn copy(memory: &Memory, seed: u64) -> Memory {
    Memory { disk: Arc::new(memory.disk.copy(seed)), kv: memory.kv.clone() }.without_kv()
}

fn rot(memory: &Memory, index: u64) {
    let byte = byte_of(&memory.disk, FIRST, &entry(1, index, 3000)).expect("it is in the first segment");
    memory.disk.flip_bit(FIRST, byte, 3);
}

impl Talk {
    fn survey(&self, key: ReplicaKey) -> Vec<Wound> {
        let (mut wounds, mut from) = (Vec::new(), Index::new(0));
        loop {
            let (send, receive) = std::sync::mpsc::sync_channel(1);
            self.0.survey(key, from, Box::new(move |survey| send.send(survey).unwrap()));
            let survey = receive.recv().unwrap().unwrap();
            wounds.extend(survey.wounds);
            match survey.next {
                Some(next) => from = next,
                None => return wounds,
            }
        }
    }

    fn mend(&self, key: ReplicaKey, entries: Vec<Entry>) -> Result<(), MendError> {
        let (send, receive) = std::sync::mpsc::sync_channel(1);
        self.0.mend(key, entries, Box::new(move |mended| send.send(mended).unwrap()));
        receive.recv().unwrap()
    }

    fn clear(&self, key: ReplicaKey, findings: u64) -> Promise<Result<(), JournalError>> {
        let (done, promise) = promise();
        self.0.clear_damage(key, findings, done);
        promise
    }

    /// Mends all that is wounded with what was written.
    fn mend_all(&self, key: ReplicaKey, written: impl Fn(u64) -> Entry) {
        let findings = self.0.findings(key);
        for wound in self.survey(key) {
            assert!(wound.mendable, "{wound:?}");
            let entries = (wound.first.get()..wound.end.get()).map(&written).collect();
            self.mend(key, entries).unwrap();
        }
        assert_eq!(self.survey(key), [], "nothing is wounded any more");
        self.clear(key, findings).wait().unwrap();
    }

    fn scrub(&self) -> Scrubbed {
        let (mut all, mut from) = (Scrubbed::default(), None);
        loop {
            let (send, receive) = std::sync::mpsc::sync_channel(1);
            self.0.scrub(from, 10_000, Box::new(move |scrubbed| send.send(scrubbed).unwrap()));
            let portion = receive.recv().unwrap().unwrap();
            assert!(portion.bytes < 20_000, "a portion is about what was asked for: {portion:?}");
            (all.bytes, all.rotten) = (all.bytes + portion.bytes, all.rotten + portion.rotten);
            match portion.next {
                Some(next) => from = Some(next),
                None => return all,
            }
        }
    }
}

#[test]
fn rot_found_by_a_read_is_held_against_its_replica_now_and_after_a_start() {
    let (memory, journal) = sealed();
    journal.append(key(2), entries(1, 0..3, 100)).wait().unwrap();
    rot(&memory, 7);
    assert_eq!(journal.0.damage(key(1)), None, "nobody has looked");
    let refused = journal.read(key(1), 7, 8, u64::MAX);
    assert!(matches!(refused, Err(ReadError::Damaged { .. })));
    let damage = journal.0.damage(key(1)).unwrap();
    assert_eq!((damage.index, damage.part), (Some(Index::new(7)), DamagedPart::Payload));
    assert_eq!(journal.0.damaged(), [(key(1), damage)]);
    // Its header tells all that agreement needs: the replica may still go in order.
    journal.append(key(1), vec![entry(1, 40, 100)]).wait().unwrap();
    journal.close().unwrap();
    let (journal, _) = memory.kill(1).open(tiny(SEGMENT_BYTES));
    assert_eq!(journal.0.damage(key(1)), Some(damage));
    assert!(matches!(journal.append(key(1), vec![entry(1, 41, 10)]).wait(), Err(JournalError::Damaged { .. })));
    assert_eq!(journal.0.damage(key(2)), None);
}

#[test]
fn a_read_that_is_wrong_once_is_repeated_and_no_damage() {
    let (memory, journal) = sealed();
    for index in [3, 9] {
        let byte = byte_of(&memory.disk, FIRST, &entry(1, index, 3000)).unwrap();
        memory.disk.misread_once(FIRST, byte);
        assert_eq!(journal.read(key(1), 0, 12, u64::MAX).unwrap(), entries(1, 0..12, 3000));
    }
    assert_eq!(journal.0.damage(key(1)), None);
    assert_eq!((journal.0.counters().misreads, journal.0.counters().damage_found), (2, 0));
}

#[test]
fn what_a_disk_does_not_give_is_damage_and_taken_from_elsewhere() {
    let (memory, journal) = sealed_of(LARGE);
    break_payload(&memory, 1);
    break_payload(&memory, 3);
    assert!(matches!(journal.read(key(1), 1, 4, u64::MAX), Err(ReadError::Damaged { .. })));
    assert_eq!(journal.read(key(1), 2, 3, u64::MAX).unwrap(), entries(1, 2..3, LARGE), "what it gives is served");
    let damage = journal.0.damage(key(1)).unwrap();
    assert_eq!((damage.index, damage.part), (Some(Index::new(1)), DamagedPart::Payload));
    journal.mend_all(key(1), |index| entry(1, index, LARGE));
    assert_eq!(journal.read_all(key(1)).unwrap(), entries(1, 0..40, LARGE));
    journal.close().unwrap();
    for again in [memory.kill(1), memory.restore(2), memory.restore(3).without_kv()] {
        let (journal, _) = again.open(tiny(SEGMENT_BYTES));
        assert_eq!((journal.0.damage(key(1)), journal.read_all(key(1)).unwrap()), (None, entries(1, 0..40, LARGE)));
    }
}

#[test]
fn a_frame_whose_header_a_disk_does_not_give_is_lost() {
    let (memory, journal) = sealed();
    let byte = byte_of(&memory.disk, FIRST, &entry(1, 7, 3000)).unwrap();
    memory.disk.break_reads(FIRST, byte, 1);
    assert!(matches!(journal.read(key(1), 7, 8, u64::MAX), Err(ReadError::Damaged { .. })));
    assert_eq!(journal.0.damage(key(1)).unwrap().part, DamagedPart::FrameHeader);
}

#[test]
fn what_a_file_that_was_cut_has_no_more_is_damage() {
    let (memory, journal) = sealed_of(LARGE);
    let byte = byte_of(&memory.disk, FIRST, &entry(1, 3, LARGE)).unwrap();
    memory.disk.shorten(FIRST, byte + 5000);
    assert!(matches!(journal.read(key(1), 3, 4, u64::MAX), Err(ReadError::Damaged { .. })));
    assert_eq!(journal.read(key(1), 0, 3, u64::MAX).unwrap(), entries(1, 0..3, LARGE));
    let parts: Vec<_> = journal.survey(key(1)).iter().map(|wound| wound.damage.part).collect();
    assert_eq!(parts, [DamagedPart::Payload, DamagedPart::FrameHeader], "one was cut, and one is gone");
}

#[test]
fn a_place_behind_its_segment_is_damage_and_nothing_is_read_there() {
    let (_memory, journal) = sealed();
    let shared = &journal.0.shared;
    let segment = shared.lock().segments[&1];
    let (key, frame) = shared.living_frames(1, None, 1).unwrap().frames.remove(0);
    for byte in [segment.bytes - 8, segment.bytes, segment.bytes + 4096 * 3, u64::MAX] {
        let mut frame = frame.clone();
        frame.place.byte = byte;
        let read = shared.read_frame(segment, key, &frame, frame.first, &mut AlignedBuffer::new());
        assert!(matches!(read, Err(ReadError::Damaged { .. })), "{byte}: {read:?}");
    }
}

#[test]
fn no_frame_is_passed_over_because_its_row_is_not_legible() {
    let (_memory, journal) = sealed();
    let shared = &journal.0.shared;
    let whole = shared.living_frames(1, None, u64::MAX).unwrap().frames.len();
    assert!(whole > 2, "{whole}");
    let rows = shared.kv.scan(Space::Index, b"e", b"f", 2).unwrap();
    let mut batch = Batch::new();
    batch.put(Space::Index, rows[1].0.clone(), Bytes::from_static(b"no frame"));
    shared.kv.write(batch).unwrap();
    let found = shared.living_frames(1, None, u64::MAX);
    assert!(matches!(found, Err(KvError::Illegible { .. })), "its segment would be let go of");
}

#[test]
fn a_scrub_finds_what_a_disk_does_not_give() {
    let (memory, journal) = sealed_of(LARGE);
    break_payload(&memory, 2);
    assert_eq!(journal.scrub().rotten, 1);
    assert_eq!(journal.0.damage(key(1)).unwrap().index, Some(Index::new(2)));
}

#[test]
fn a_start_takes_what_a_disk_does_not_give_for_damage_where_it_was_synced_and_else_refuses() {
    let config = || tiny(SEGMENT_BYTES);
    for (index, synced) in [(1, true), (3, true), (4, false)] {
        for of_header in [false, true] {
            let memory = Memory::new(1);
            let (journal, _) = memory.open(config());
            for index in 0..5 {
                journal.append(key(1), vec![entry(1, index, LARGE)]).wait().unwrap();
            }
            let memory = memory.kill(1);
            let byte = byte_of(&memory.disk, FIRST, &entry(1, index, LARGE)).unwrap();
            // A commit of one entry begins with a sector, and has its headers there.
            let at = if of_header { byte } else { byte + 4096 };
            memory.disk.break_reads(FIRST, at, 1);
            let context = format!("entry {index}, of its header: {of_header}");
            match Talk::open(memory.disk.clone(), memory.kv.clone(), config()) {
                Ok((journal, _)) => {
                    assert!(synced, "{context}");
                    assert!(journal.0.damage(key(1)).is_some(), "{context}");
                }
                Err(error) => {
                    assert!(matches!(error, OpenError::Unreadable { .. }), "{context}: {error}");
                    assert!(!synced, "{context}: {error}");
                }
            }
        }
    }
}

#[test]
fn what_rotted_is_taken_from_elsewhere_and_served_at_once_and_after_every_start() {
    let (memory, journal) = sealed();
    for index in [2, 7, 8] {
        rot(&memory, index);
    }
    assert!(journal.read(key(1), 2, 3, u64::MAX).is_err());
    let all = entries(1, 0..40, 3000);
    journal.mend_all(key(1), |index| entry(1, index, 3000));
    assert_eq!(journal.0.damage(key(1)), None);
    assert_eq!(journal.read_all(key(1)).unwrap(), all, "before a segment is sealed with it");
    assert_eq!(journal.0.counters().mended_entries, 3);
    let (again, _) = copy(&memory, 2).open(tiny(SEGMENT_BYTES));
    assert_eq!((again.0.damage(key(1)), again.read_all(key(1)).unwrap()), (None, all));
    // And when the index says so itself.
    for index in 40..80 {
        journal.append(key(1), vec![entry(1, index, 3000)]).wait().unwrap();
    }
    let all = entries(1, 0..80, 3000);
    assert_eq!(journal.read_all(key(1)).unwrap(), all);
    journal.close().unwrap();
    for image in [copy(&memory, 5), memory.restore(6)] {
        let (again, _) = image.open(tiny(SEGMENT_BYTES));
        assert_eq!((again.0.damage(key(1)), again.read_all(key(1)).unwrap()), (None, all.clone()));
    }
}

#[test]
fn damage_found_by_a_start_is_mended_and_the_replica_takes_appends_again() {
    let memory = Memory::new(1);
    let (journal, _) = memory.open(tiny(SEGMENT_BYTES));
    journal.append(key(1), entries(1, 0..4, 900)).wait().unwrap();
    journal.append(key(1), entries(1, 4..8, 900)).wait().unwrap();
    journal.close().unwrap();
    let byte = byte_of(&memory.disk, FIRST, &entry(1, 5, 900)).unwrap();
    memory.disk.flip_bit(FIRST, byte, 0);
    let memory = memory.kill(1).without_kv();
    let (journal, _) = memory.open(tiny(SEGMENT_BYTES));
    assert!(matches!(journal.append(key(1), vec![entry(1, 8, 10)]).wait(), Err(JournalError::Damaged { .. })));
    let wounds = journal.survey(key(1));
    assert_eq!((wounds.len(), wounds[0].first, wounds[0].end), (1, Index::new(4), Index::new(8)));
    assert_eq!(wounds[0].ids, [id(1, 4), id(1, 5), id(1, 6), id(1, 7)]);
    journal.mend_all(key(1), |index| entry(1, index, 900));
    journal.append(key(1), vec![entry(1, 8, 900)]).wait().unwrap();
    assert_eq!(journal.read_all(key(1)).unwrap(), entries(1, 0..9, 900));
    drop(journal);
    let (journal, _) = memory.kill(2).without_kv().open(tiny(SEGMENT_BYTES));
    assert_eq!(journal.0.damage(key(1)), None, "the rotten frame is still there, and counts no more");
    assert_eq!(journal.read_all(key(1)).unwrap(), entries(1, 0..9, 900));
}

#[test]
fn nothing_else_is_taken_for_what_rotted() {
    let (memory, journal) = sealed();
    rot(&memory, 7);
    assert!(journal.read(key(1), 7, 8, u64::MAX).is_err());
    let mut other = entry(1, 7, 3000);
    other.payload = Bytes::from(vec![9; 3000]);
    let cases =
        [vec![other], vec![entry(2, 7, 3000)], vec![entry(1, 7, 2999)], entries(1, 7..9, 3000), vec![entry(1, 99, 1)]];
    for wrong in cases {
        let said = format!("{:?}", wrong.iter().map(|entry| entry.id).collect::<Vec<_>>());
        assert!(matches!(journal.mend(key(1), wrong), Err(MendError::Differs { .. })), "{said}");
    }
    assert!(journal.0.damage(key(1)).is_some());
    assert!(journal.read(key(1), 7, 8, u64::MAX).is_err());
}

#[test]
fn a_rotten_header_cannot_be_mended() {
    let (memory, journal) = sealed();
    let content = memory.disk.content(FIRST).unwrap();
    let payload = entry(1, 7, 3000).payload;
    let at = content.windows(payload.len()).position(|window| window == payload).unwrap();
    memory.disk.flip_bit(FIRST, at as u64 - 40, 1);
    assert!(journal.read(key(1), 7, 8, u64::MAX).is_err());
    let wounds = journal.survey(key(1));
    assert_eq!((wounds.len(), wounds[0].mendable, wounds[0].damage.part), (1, false, DamagedPart::FrameHeader));
    assert!(matches!(journal.mend(key(1), vec![entry(1, 7, 3000)]), Err(MendError::Differs { .. })));
}

#[test]
fn what_is_found_while_it_is_cleared_is_not_forgotten() {
    let (memory, journal) = sealed();
    rot(&memory, 2);
    assert!(journal.read(key(1), 2, 3, u64::MAX).is_err());
    let findings = journal.0.findings(key(1));
    rot(&memory, 7);
    assert!(journal.read(key(1), 7, 8, u64::MAX).is_err());
    assert!(matches!(journal.clear(key(1), findings).wait(), Err(JournalError::Damaged { .. })));
    assert!(journal.0.damage(key(1)).is_some());
}

#[test]
fn a_scrub_reads_all_that_is_sealed_and_finds_what_rotted() {
    let (memory, journal) = sealed();
    for index in 0..30 {
        journal.append(key(2), vec![entry(1, index, 3000)]).wait().unwrap();
    }
    for index in 40..60 {
        journal.append(key(1), vec![entry(1, index, 3000)]).wait().unwrap();
    }
    let clean = journal.scrub();
    assert_eq!(clean.rotten, 0);
    assert!(clean.bytes >= 60 * 3000, "{clean:?}");
    rot(&memory, 5);
    rot(&memory, 13);
    assert_eq!(journal.scrub().rotten, 2);
    assert!(journal.0.damage(key(1)).is_some() && journal.0.damage(key(2)).is_none());
    journal.mend_all(key(1), |index| entry(1, index, 3000));
    assert_eq!(journal.scrub().rotten, 0, "the old places are not needed any more");
    let counters = journal.0.counters();
    assert_eq!((counters.scrub_passes, counters.scrub_findings), (3, 2));
    journal.close().unwrap();
    let (journal, _) = memory.kill(1).open(tiny(SEGMENT_BYTES));
    assert!(journal.scrub().bytes > 0, "what was sealed before the start is read, too");
}

#[test]
fn a_rotten_state_image_is_found_by_a_scrub_and_cannot_be_mended() {
    let memory = Memory::new(1);
    let (journal, _) = memory.open(tiny(SEGMENT_BYTES));
    journal.append(key(1), entries(1, 0..4, 100)).wait().unwrap();
    let image = entry(7, 7, 5000).payload;
    journal.save_image(key(1), id(1, 2), image.clone()).wait().unwrap();
    for index in 4..40 {
        journal.append(key(1), vec![entry(1, index, 3000)]).wait().unwrap();
    }
    let content = memory.disk.content(FIRST).unwrap();
    let at = content.windows(image.len()).position(|window| window == image).unwrap();
    memory.disk.flip_bit(FIRST, at as u64 + 100, 5);
    assert_eq!(journal.scrub().rotten, 1);
    let wounds = journal.survey(key(1));
    assert!(journal.0.damage(key(1)).is_some() && wounds.len() == 1 && !wounds[0].mendable, "{wounds:?}");
}

#[test]
fn rot_that_the_cleaner_meets_is_held_against_its_replica_and_pins_nothing() {
    let memory = Memory::new(1);
    let (journal, _) = memory.open(tiny(SEGMENT_BYTES));
    journal.append(key(1), vec![entry(1, 0, 3000)]).wait().unwrap();
    let byte = byte_of(&memory.disk, FIRST, &entry(1, 0, 3000)).unwrap();
    memory.disk.flip_bit(FIRST, byte, 3);
    let mut next = 0;
    while journal.0.counters().recycled_segments < 4 {
        assert!(next < 400, "the segment with the rotten frame stays");
        journal.append(key(2), vec![entry(1, next, 9000)]).wait().unwrap();
        journal.purge(key(2), id(1, next)).wait().unwrap();
        next += 1;
    }
    assert_eq!(journal.0.damage(key(1)).unwrap().index, Some(Index::new(0)));
    journal.close().unwrap();
    let (journal, _) = memory.kill(1).without_kv().open(tiny(SEGMENT_BYTES));
    assert!(journal.0.damage(key(1)).is_some(), "the finding outlives the segment");
}

#[test]
fn rot_that_the_cleaner_meets_waits_for_its_mending_where_somebody_mends() {
    let memory = Memory::new(1);
    let (journal, _) = memory.open(tiny(SEGMENT_BYTES));
    journal.0.set_damage_hook(Box::new(|| {}));
    journal.append(key(1), vec![entry(1, 0, 3000)]).wait().unwrap();
    let byte = byte_of(&memory.disk, FIRST, &entry(1, 0, 3000)).unwrap();
    memory.disk.flip_bit(FIRST, byte, 3);
    let append = |next: u64| {
        journal.append(key(2), vec![entry(1, next, 9000)]).wait().unwrap();
        journal.purge(key(2), id(1, next)).wait().unwrap();
    };
    (0..100).for_each(append);
    assert!(journal.0.damage(key(1)).is_some());
    assert_eq!(journal.0.counters().recycled_segments, 0);
    journal.mend_all(key(1), |index| entry(1, index, 3000));
    (100..200).for_each(append);
    assert!(journal.0.counters().recycled_segments > 4, "{:?}", journal.0.counters());
    assert_eq!(journal.read_all(key(1)).unwrap(), entries(1, 0..1, 3000));
}

#[test]
fn a_truncated_frame_is_mended_with_what_is_left_of_it() {
    let memory = Memory::new(1);
    let (journal, _) = memory.open(tiny(SEGMENT_BYTES));
    journal.append(key(1), entries(1, 0..6, 900)).wait().unwrap();
    journal.truncate(key(1), 4).wait().unwrap();
    journal.append(key(1), entries(2, 4..8, 900)).wait().unwrap();
    let byte = byte_of(&memory.disk, FIRST, &entry(1, 5, 900)).unwrap();
    memory.disk.flip_bit(FIRST, byte, 1);
    journal.purge(key(1), id(1, 0)).wait().unwrap();
    assert!(journal.read(key(1), 1, 2, u64::MAX).is_err());
    let wounds = journal.survey(key(1));
    assert_eq!((wounds[0].first, wounds[0].end), (Index::new(1), Index::new(4)));
    journal.mend_all(key(1), |index| entry(1, index, 900));
    let expected = [entries(1, 1..4, 900), entries(2, 4..8, 900)].concat();
    assert_eq!(journal.read_all(key(1)).unwrap(), expected);
    let (again, _) = copy(&memory, 1).open(tiny(SEGMENT_BYTES));
    assert_eq!(again.0.damage(key(1)), None);
    assert_eq!(again.read_all(key(1)).unwrap(), expected);
    for index in 0..40 {
        journal.append(key(2), vec![entry(1, index, 3000)]).wait().unwrap();
    }
    assert_eq!(journal.read_all(key(1)).unwrap(), expected);
}

#[test]
fn what_rots_behind_a_truncation_that_is_not_indexed_yet_is_mended() {
    let memory = Memory::new(1);
    let (journal, _) = memory.open(tiny(SEGMENT_BYTES));
    journal.append(key(1), entries(1, 0..6, 900)).wait().unwrap();
    journal.truncate(key(1), 4).wait().unwrap();
    journal.append(key(1), entries(2, 4..8, 900)).wait().unwrap();
    // Whatever is in the last commit may be torn.
    journal.append(key(2), entries(1, 0..1, 900)).wait().unwrap();
    let byte = byte_of(&memory.disk, FIRST, &entry(2, 4, 900)).unwrap();
    memory.disk.flip_bit(FIRST, byte, 1);
    // A start finds it: the truncation lies in the segment that is open.
    let memory = memory.kill(1);
    let (journal, _) = memory.open(tiny(SEGMENT_BYTES));
    assert!(journal.0.damage(key(1)).is_some());
    journal.mend_all(key(1), |index| entry(if index < 4 { 1 } else { 2 }, index, 900));
    let expected = [entries(1, 0..4, 900), entries(2, 4..8, 900)].concat();
    assert_eq!(journal.read_all(key(1)).unwrap(), expected);
    journal.truncate(key(1), 6).wait().unwrap();
    journal.append(key(1), entries(3, 6..9, 900)).wait().unwrap();
    let expected = [entries(1, 0..4, 900), entries(2, 4..6, 900), entries(3, 6..9, 900)].concat();
    assert_eq!(journal.read_all(key(1)).unwrap(), expected);
    let (again, _) = copy(&memory, 1).open(tiny(SEGMENT_BYTES));
    assert_eq!((again.0.damage(key(1)), again.read_all(key(1)).unwrap()), (None, expected));
}

#[test]
fn what_is_written_anew_after_a_mending_is_what_counts() {
    let memory = Memory::new(1);
    let (journal, _) = memory.open(tiny(SEGMENT_BYTES));
    journal.append(key(1), entries(1, 0..3, 900)).wait().unwrap();
    let byte = byte_of(&memory.disk, FIRST, &entry(1, 1, 900)).unwrap();
    memory.disk.flip_bit(FIRST, byte, 1);
    assert!(journal.read(key(1), 0, 1, u64::MAX).is_err());
    journal.mend_all(key(1), |index| entry(1, index, 900));
    journal.truncate(key(1), 0).wait().unwrap();
    journal.append(key(1), entries(2, 0..3, 700)).wait().unwrap();
    assert_eq!(journal.read_all(key(1)).unwrap(), entries(2, 0..3, 700));
    let (again, _) = copy(&memory, 1).open(tiny(SEGMENT_BYTES));
    assert_eq!(again.read_all(key(1)).unwrap(), entries(2, 0..3, 700));
    for index in 0..40 {
        journal.append(key(2), vec![entry(1, index, 3000)]).wait().unwrap();
    }
    assert_eq!(journal.read_all(key(1)).unwrap(), entries(2, 0..3, 700));
}

/// A bit of the header of the one frame of the commit that `write` makes.
fn header_of(memory: &Memory, write: impl FnOnce()) -> u64 {
    let before = memory.disk.content(FIRST).unwrap();
    write();
    let after = memory.disk.content(FIRST).unwrap();
    let commit = before.iter().zip(&after).position(|(one, other)| one != other).expect("something was written");
    commit as u64 / 4096 * 4096 + crate::journal::format::commit_header_length(1) + 9
}

/// Nothing of what is left tells that anything is missing.
fn is_lost_for_good(memory: Memory) {
    let (journal, _) = memory.kill(1).without_kv().open(tiny(SEGMENT_BYTES));
    let damage = journal.0.damage(key(1)).expect("it was found");
    assert_ne!(damage.part, DamagedPart::Payload);
    let wounds = journal.survey(key(1));
    assert!(wounds.iter().any(|wound| !wound.mendable), "{wounds:?}");
    let findings = journal.0.findings(key(1));
    assert!(matches!(journal.clear(key(1), findings).wait(), Err(JournalError::Damaged { .. })));
    assert!(journal.0.damage(key(1)).is_some());
}

#[test]
fn a_vote_that_nobody_can_read_any_more_is_never_taken_for_mended() {
    let memory = Memory::new(1);
    let (journal, _) = memory.open(tiny(SEGMENT_BYTES));
    journal.append(key(1), entries(1, 0..2, 900)).wait().unwrap();
    let byte = header_of(&memory, || journal.save_vote(key(1), vote(5, 2)).wait().unwrap());
    journal.append(key(1), entries(5, 2..4, 900)).wait().unwrap();
    journal.close().unwrap();
    memory.disk.flip_bit(FIRST, byte, 2);
    is_lost_for_good(memory);
}

#[test]
fn acknowledged_entries_behind_an_unreadable_header_are_never_taken_for_unwritten() {
    let memory = Memory::new(1);
    let (journal, _) = memory.open(tiny(SEGMENT_BYTES));
    journal.append(key(1), entries(1, 0..2, 900)).wait().unwrap();
    let byte = header_of(&memory, || journal.append(key(1), entries(1, 2..3, 900)).wait().unwrap());
    journal.append(key(1), entries(1, 3..6, 900)).wait().unwrap();
    journal.close().unwrap();
    memory.disk.flip_bit(FIRST, byte, 2);
    is_lost_for_good(memory);
}

#[test]
fn a_rotten_header_is_worse_than_a_payload_that_was_found_before_it_or_mended_behind_it() {
    let memory = Memory::new(1);
    let (journal, _) = memory.open(tiny(SEGMENT_BYTES));
    journal.append(key(1), entries(1, 0..2, 900)).wait().unwrap();
    let byte = header_of(&memory, || journal.save_vote(key(1), vote(5, 2)).wait().unwrap());
    journal.append(key(1), entries(5, 2..4, 900)).wait().unwrap();
    memory.disk.flip_bit(FIRST, byte_of(&memory.disk, FIRST, &entry(1, 1, 900)).unwrap(), 1);
    assert!(journal.read(key(1), 0, 2, u64::MAX).is_err());
    journal.mend_all(key(1), |index| entry(if index < 2 { 1 } else { 5 }, index, 900));
    assert_eq!(journal.0.damage(key(1)), None);
    journal.close().unwrap();
    memory.disk.flip_bit(FIRST, byte, 2);
    is_lost_for_good(memory);
}

#[test]
fn a_last_entry_of_which_the_cleaner_found_no_header_any_more_is_missed() {
    let memory = Memory::new(1);
    let (journal, _) = memory.open(tiny(SEGMENT_BYTES));
    journal.0.set_damage_hook(Box::new(|| {}));
    journal.append(key(1), vec![entry(1, 0, 3000)]).wait().unwrap();
    let content = memory.disk.content(FIRST).unwrap();
    let payload = entry(1, 0, 3000).payload;
    let at = content.windows(payload.len()).position(|window| window == payload).unwrap();
    memory.disk.flip_bit(FIRST, at as u64 - 40, 1);
    let mut next = 0;
    while journal.0.damage(key(1)).is_none() {
        assert!(next < 400, "the cleaner never came to it");
        journal.append(key(2), vec![entry(1, next, 9000)]).wait().unwrap();
        journal.purge(key(2), id(1, next)).wait().unwrap();
        next += 1;
    }
    let wounds = journal.survey(key(1));
    assert!(!wounds.is_empty() && wounds.iter().all(|wound| !wound.mendable), "{wounds:?}");
}
