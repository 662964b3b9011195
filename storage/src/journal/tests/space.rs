//! A disk that is nearly full: what is refused, and how room comes back.

use bytes::Bytes;

use super::model::Script;
use super::rig::{Memory, Talk, entries, entry, id, key, low, tiny, vote};
use crate::disk::Lane;
use crate::journal::{JournalConfig, JournalError};

const SEGMENT_BYTES: u64 = 32 * 1024;

/// Of the segments that several logs share.
const SHARED_BYTES: u64 = 256 * 1024;
const LOW_SPACE_BYTES: u64 = 300_000;

/// How many entries the logs 1 and 2 have together, and how large one is.
const ENTRIES: u64 = 300;
const ENTRY_BYTES: usize = 12_000;

fn config() -> JournalConfig {
    JournalConfig { low_space_bytes: LOW_SPACE_BYTES, rewrite_bytes: 64 * 1024, ..tiny(SHARED_BYTES) }
}

/// How many of them log 2 has if it has `of_two` of ten; log 1 has the others.
fn second(of_two: u64) -> u64 {
    ENTRIES / 10 * of_two
}

#[test]
fn below_its_low_space_mark_the_journal_prepares_nothing_ahead_and_says_so() {
    let memory = Memory::new(1);
    let config = JournalConfig { low_space_bytes: LOW_SPACE_BYTES, ..tiny(SEGMENT_BYTES) };
    let (journal, _) = memory.open(config);
    journal.0.check_space().unwrap();
    assert_eq!(journal.0.low_space(), None);
    let used = memory.disk.size();
    memory.disk.limit_bytes(Some(used + LOW_SPACE_BYTES + SEGMENT_BYTES - 1));
    journal.0.check_space().unwrap();
    let low = journal.0.low_space().unwrap();
    assert_eq!((low.free, low.bound), (LOW_SPACE_BYTES + SEGMENT_BYTES - 1, LOW_SPACE_BYTES + SEGMENT_BYTES));
    // The open segment and the one that was prepared are filled.
    for index in 0..12 {
        journal.append(key(1), vec![entry(1, index, 3000)]).wait().unwrap();
    }
    assert_eq!(memory.disk.size(), used, "it left the room alone");
    memory.disk.limit_bytes(None);
    journal.0.check_space().unwrap();
    assert_eq!(journal.0.low_space(), None);
    assert_eq!(memory.disk.size(), used + SEGMENT_BYTES, "the next segment is prepared again");
}

#[test]
fn what_cannot_wait_takes_three_quarters_of_what_the_low_space_mark_keeps_and_no_more() {
    let memory = Memory::new(1);
    let config = JournalConfig { low_space_bytes: LOW_SPACE_BYTES, ..tiny(SEGMENT_BYTES) };
    let (journal, _) = memory.open(config);
    let used = memory.disk.size();
    memory.disk.limit_bytes(Some(used + LOW_SPACE_BYTES + SEGMENT_BYTES - 1));
    let refused = (0..200).find_map(|index| journal.append(key(1), vec![entry(1, index, 3000)]).wait().err());
    assert!(matches!(refused, Some(JournalError::NoSpace { .. })), "{refused:?}");
    let taken = memory.disk.size() - used;
    let most = LOW_SPACE_BYTES / 4 * 3 + SEGMENT_BYTES;
    assert!((most - SEGMENT_BYTES..=most).contains(&taken), "{taken} bytes were taken");
    let last = journal.0.replica(key(1)).unwrap().last.unwrap().index;
    memory.disk.limit_bytes(None);
    // Room alone is not enough: there has to be a segment, too.
    journal.0.check_space().unwrap();
    assert!(journal.0.low_space().is_some());
    journal.0.check_space().unwrap();
    assert_eq!(journal.0.low_space(), None);
    journal.append(key(1), vec![entry(1, last.next().get(), 3000)]).wait().unwrap();
}

#[test]
fn what_is_trimmed_below_the_low_space_mark_gives_its_room_back_though_nothing_is_appended() {
    let memory = Memory::new(1);
    let config = JournalConfig { low_space_bytes: 300_000, ..tiny(SEGMENT_BYTES) };
    let (journal, _) = memory.open(config);
    // Some segments, sealed, and a little in the open one.
    for index in 0..100 {
        journal.append(key(1), vec![entry(1, index, 3000)]).wait().unwrap();
    }
    let filled = memory.disk.size();
    assert!(filled > 3 * SEGMENT_BYTES, "{filled} bytes are too few to tell");
    memory.disk.limit_bytes(Some(filled + 250_000));
    journal.0.check_space().unwrap();
    assert_ne!(journal.0.low_space(), None);
    assert_eq!(memory.disk.size(), filled, "nothing was trimmed");

    journal.purge(key(1), id(1, 99)).wait().unwrap();
    assert_eq!(memory.disk.size(), filled, "what says so is in the open segment");
    look(&memory, &journal);
    let freed = filled - memory.disk.size();
    assert!(freed > 2 * SEGMENT_BYTES, "{freed} bytes of {filled} came back");
    journal.0.check_space().unwrap();
    assert_eq!(journal.0.low_space(), None);
    journal.append(key(1), vec![entry(1, 100, 3000)]).wait().unwrap();
}

/// A journal in which the logs 1 and 2 share every segment, `of_two` of ten
/// entries being the second one's; the quiet log 3, whose vote, image and last
/// entries are in the oldest segment; and just too little room. Returns how much
/// is taken.
fn filled(memory: &Memory, journal: &Talk, of_two: u64) -> u64 {
    filled_in_turns(memory, journal, of_two, 10)
}

/// As [`filled`], with `of_two` of `turn` entries.
fn filled_in_turns(memory: &Memory, journal: &Talk, of_two: u64, turn: u64) -> u64 {
    journal.save_vote(key(3), vote(3, 8)).wait().unwrap();
    journal.append(key(3), entries(1, 0..4, 700)).wait().unwrap();
    journal.save_image(key(3), id(1, 1), Bytes::from_static(b"as of one")).wait().unwrap();
    journal.purge(key(3), id(1, 1)).wait().unwrap();
    let mut next = [0, 0];
    for round in 0..ENTRIES {
        let log = usize::from(round % turn < of_two);
        journal.append(key(log as u64 + 1), vec![entry(1, next[log], ENTRY_BYTES)]).wait().unwrap();
        next[log] += 1;
    }
    let filled = memory.disk.size();
    assert!(filled > 12 * SHARED_BYTES, "{filled} bytes are too few to tell");
    memory.disk.limit_bytes(Some(filled + LOW_SPACE_BYTES + SHARED_BYTES - 1));
    journal.0.check_space().unwrap();
    assert_ne!(journal.0.low_space(), None);
    filled
}

/// Looks at the room until nothing comes back any more; the most that was taken
/// meanwhile.
fn look(memory: &Memory, journal: &Talk) -> u64 {
    let mut most = memory.disk.size();
    for _ in 0..20 {
        journal.0.check_space().unwrap();
        most = most.max(memory.disk.size());
    }
    most
}

fn holds_the_quiet_log(journal: &Talk) {
    let state = journal.0.replica(key(3)).unwrap();
    assert_eq!((state.vote, state.purged, state.last), (Some(vote(3, 8)), Some(id(1, 1)), Some(id(1, 3))));
    assert_eq!(journal.read_all(key(3)).unwrap(), entries(1, 2..4, 700));
    assert_eq!(journal.read_image(key(3)).unwrap(), Some((id(1, 1), Bytes::from_static(b"as of one"))));
}

/// Every log holds what it should, here and after every kind of start.
fn holds(memory: &Memory, journal: &Talk, of_two: u64) {
    let check = |journal: &Talk| {
        holds_the_quiet_log(journal);
        assert_eq!(journal.read_all(key(2)).unwrap(), entries(1, 0..second(of_two), ENTRY_BYTES));
        assert_eq!(journal.0.replica(key(1)).unwrap().purged, Some(id(1, ENTRIES - second(of_two) - 1)));
    };
    check(journal);
    for memory in [memory.kill(7), memory.restore(8), memory.restore(9).without_kv()] {
        memory.disk.limit_bytes(None);
        let (journal, report) = memory.open(config());
        assert_eq!(report.damage, []);
        check(&journal);
        // And it goes on from there.
        for index in 0..60 {
            journal.append(key(4), vec![entry(1, index, ENTRY_BYTES)]).wait().unwrap();
        }
        check(&journal);
    }
}

#[test]
fn a_trim_gives_room_back_though_other_logs_have_something_in_every_segment() {
    for of_two in [1, 3, 5, 7, 8] {
        let memory = Memory::new(of_two);
        let (journal, _) = memory.open(config());
        let filled = filled(&memory, &journal, of_two);
        journal.purge(key(1), id(1, ENTRIES - second(of_two) - 1)).wait().unwrap();
        let most = look(&memory, &journal);
        assert!(most <= filled + SHARED_BYTES, "{of_two} of ten: {} bytes of the reserve", most - filled);
        let freed = filled - memory.disk.size();
        assert!(freed >= SHARED_BYTES, "{of_two} of ten: {freed} bytes came back");
        assert_eq!(journal.0.low_space(), None, "{of_two} of ten");
        journal.append(key(5), entries(1, 0..4, 3000)).wait().unwrap();
        holds(&memory, &journal, of_two);
    }
}

#[test]
fn a_trim_gives_room_back_however_full_the_open_segment_is() {
    let mut used_reserve = 0;
    for more in 0..40 {
        let memory = Memory::new(3);
        let (journal, _) = memory.open(config());
        filled(&memory, &journal, 3);
        for index in 0..more {
            journal.append(key(4), vec![entry(1, index, ENTRY_BYTES)]).wait().unwrap();
        }
        let filled = memory.disk.size();
        journal.purge(key(1), id(1, ENTRIES - second(3) - 1)).wait().unwrap();
        let most = look(&memory, &journal);
        assert!(most <= filled + SHARED_BYTES, "{more} more: {} bytes of the reserve", most - filled);
        used_reserve += u32::from(most > filled);
        assert_eq!(journal.0.low_space(), None, "{more} more: {} bytes came back", filled - memory.disk.size());
        journal.append(key(5), entries(1, 0..4, 3000)).wait().unwrap();
        holds_the_quiet_log(&journal);
        assert_eq!(journal.read_all(key(2)).unwrap(), entries(1, 0..second(3), ENTRY_BYTES));
    }
    assert!(used_reserve > 0, "room was made without the reserve, however full the segment was");
}

#[test]
fn a_trim_gives_room_back_behind_segments_in_which_everything_lives() {
    let memory = Memory::new(3);
    let (journal, _) = memory.open(config());
    // Log 2 has the oldest segments for itself, many more than there is room for.
    for index in 0..120 {
        journal.append(key(2), vec![entry(1, index, ENTRY_BYTES)]).wait().unwrap();
    }
    for index in 0..120 {
        journal.append(key(1), vec![entry(1, index, ENTRY_BYTES)]).wait().unwrap();
    }
    let filled = memory.disk.size();
    memory.disk.limit_bytes(Some(filled + LOW_SPACE_BYTES + SHARED_BYTES - 1));
    journal.0.check_space().unwrap();
    assert_ne!(journal.0.low_space(), None);
    journal.purge(key(1), id(1, 118)).wait().unwrap();
    let most = look(&memory, &journal);
    assert!(most <= filled + SHARED_BYTES, "{} bytes of the reserve", most - filled);
    assert_eq!(journal.0.low_space(), None, "{} bytes came back", filled - memory.disk.size());
    assert_eq!(journal.read_all(key(2)).unwrap(), entries(1, 0..120, ENTRY_BYTES));
}

#[test]
fn what_was_trimmed_before_a_start_gives_its_room_back_after_it() {
    for without_kv in [false, true] {
        let memory = Memory::new(1);
        let (journal, _) = memory.open(config());
        let filled = filled(&memory, &journal, 1);
        journal.purge(key(1), id(1, ENTRIES - second(1) - 1)).wait().unwrap();
        let limit = memory.disk.size() + LOW_SPACE_BYTES + SHARED_BYTES - 1;
        let memory = if without_kv { memory.kill(2).without_kv() } else { memory.kill(2) };
        memory.disk.limit_bytes(Some(limit));
        let (journal, _) = memory.open(config());
        assert!(memory.disk.size() <= filled);
        look(&memory, &journal);
        assert_eq!(journal.0.low_space(), None);
        assert!(memory.disk.size() < filled, "nothing came back");
        journal.append(key(5), entries(1, 0..4, 3000)).wait().unwrap();
        holds(&memory, &journal, 1);
    }
}

#[test]
fn where_next_to_nothing_would_come_back_nothing_is_written() {
    let memory = Memory::new(1);
    let (journal, _) = memory.open(config());
    let filled = filled_in_turns(&memory, &journal, 19, 20);
    let before = journal.0.counters();
    // A twentieth of each segment: writing the rest again would be for nearly nothing.
    journal.purge(key(1), id(1, ENTRIES / 20 - 1)).wait().unwrap();
    look(&memory, &journal);
    let after = journal.0.counters();
    assert_eq!((after.relocated_bytes, after.recycled_segments), (before.relocated_bytes, before.recycled_segments));
    assert_eq!(memory.disk.size(), filled);
    // A mark for the purge, and no more, however often it is looked at.
    assert!(after.commits <= before.commits + 2, "{} commits", after.commits - before.commits);
}

#[test]
fn what_is_purged_again_and_again_takes_nothing_of_the_room_that_is_left() {
    let memory = Memory::new(1);
    let (journal, _) = memory.open(config());
    let filled = filled(&memory, &journal, 9);
    let before = journal.0.counters();
    for index in 0..20 {
        journal.purge(key(2), id(1, index / 10)).wait().unwrap();
        journal.0.check_space().unwrap();
    }
    assert_eq!(memory.disk.size(), filled);
    assert_eq!(journal.0.counters().relocated_bytes, before.relocated_bytes);
}

#[test]
fn a_read_that_began_before_room_is_made_gets_what_it_asked_for() {
    let memory = Memory::new(1);
    let (journal, _) = memory.open(config());
    let filled = filled(&memory, &journal, 1);
    memory.disk.hold();
    let read = journal.begin_read(key(3), 2, 4);
    let purged = journal.purge(key(1), id(1, ENTRIES - second(1) - 1));
    for _ in 0..200 {
        journal.0.check_space().unwrap();
        while memory.disk.step(Lane::Commit) || memory.disk.step(Lane::Background) {}
    }
    purged.wait().unwrap();
    assert!(memory.disk.size() >= filled, "the read is waited for");
    memory.disk.release();
    assert_eq!(read.wait().unwrap(), entries(1, 2..4, 700));
    look(&memory, &journal);
    assert!(memory.disk.size() < filled, "nothing came back");
    holds(&memory, &journal, 1);
}

#[test]
fn room_is_made_though_commits_follow_each_other_without_a_pause() {
    let memory = Memory::new(1);
    let (journal, _) = memory.open(config());
    let filled = filled(&memory, &journal, 1);
    journal.purge(key(1), id(1, ENTRIES - second(1) - 1)).wait().unwrap();
    memory.disk.hold();
    let mut appended = 0;
    while memory.disk.size() >= filled {
        assert!(appended < 50, "nothing came back");
        // The next one waits whenever one is synced.
        journal.append(key(4), vec![entry(1, appended, 100)]);
        appended += 1;
        journal.0.check_space().unwrap();
        while memory.disk.step(Lane::Background) {}
        memory.disk.step(Lane::Commit);
        assert!(memory.disk.waiting(Lane::Commit) > 0, "a commit is in flight");
    }
    memory.disk.release();
    look(&memory, &journal);
    holds_the_quiet_log(&journal);
}

#[test]
fn room_is_made_again_and_again_and_everything_is_as_it_should_be() {
    for seed in 81..=84 {
        let mut memory = Memory::new(seed);
        let mut script = Script::that_is_low(seed);
        let mut recycled = 0;
        for round in 0..40 {
            let (journal, report) = memory.open(low(SEGMENT_BYTES));
            let context = format!("seed {seed}, round {round}");
            assert_eq!(report.damage, [], "{context}");
            script.check(&journal, &context);
            script.run(&journal, &memory, 100);
            script.check_staged(&journal);
            recycled += journal.0.counters().recycled_segments;
            memory = if round % 3 == 0 { memory.restore(seed + round) } else { memory.kill(seed + round) };
            if round % 5 == 0 {
                memory = memory.without_kv();
            }
        }
        assert!(recycled > 60, "seed {seed}: only {recycled} segments were let go of");
    }
}
