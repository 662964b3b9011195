//! What becomes of segments once their entries are purged.

use bytes::Bytes;

use super::model::Script;
use super::rig::{Memory, Talk, entries, entry, id, key, tiny, vote};
use crate::disk::{Disk, Lane};
use crate::journal::{Counters, JournalConfig, ReplicaKey};

const SEGMENT_BYTES: u64 = 32 * 1024;

/// The numbers of the segment files there are.
fn segments(memory: &Memory) -> Vec<u64> {
    let names = memory.disk.list("journal").unwrap();
    names.iter().filter_map(|name| name.strip_suffix(".segment")?.parse().ok()).collect()
}

/// Appends entries `from..to` and keeps the last `kept` of them.
fn churn(journal: &Talk, key: ReplicaKey, from: u64, to: u64, kept: u64) {
    for index in from..to {
        journal.append(key, vec![entry(1, index, 3000)]).wait().unwrap();
        if let Some(through) = index.checked_sub(kept) {
            journal.purge(key, id(1, through)).wait().unwrap();
        }
    }
}

#[test]
fn a_journal_that_is_purged_stays_small() {
    let memory = Memory::new(1);
    let (journal, _) = memory.open(tiny(SEGMENT_BYTES));
    churn(&journal, key(1), 0, 2000, 5);
    let used = segments(&memory);
    assert!(used.len() <= 5, "{} segments are there: {used:?}", used.len());
    let counters = journal.0.counters();
    assert!(counters.recycled_segments > 150, "only {} segments were let go of", counters.recycled_segments);
    assert!(
        counters.prepared_bytes <= 5 * SEGMENT_BYTES,
        "{} bytes were written to prepare segments that could have been used again",
        counters.prepared_bytes
    );
    assert_eq!(journal.read_all(key(1)).unwrap(), entries(1, 1995..2000, 3000));
    for memory in [memory.restore(2), memory.restore(3).without_kv()] {
        let (journal, report) = memory.open(tiny(SEGMENT_BYTES));
        assert_eq!(report.damage, []);
        assert_eq!(journal.read_all(key(1)).unwrap(), entries(1, 1995..2000, 3000));
    }
}

#[test]
fn a_log_with_little_traffic_pins_no_segment() {
    let memory = Memory::new(4);
    let (journal, _) = memory.open(tiny(SEGMENT_BYTES));
    let (quiet, silent) = (key(1), key(2));
    journal.save_vote(quiet, vote(3, 8)).wait().unwrap();
    journal.append(quiet, entries(1, 0..4, 700)).wait().unwrap();
    journal.truncate(quiet, 3).wait().unwrap();
    journal.append(quiet, entries(2, 3..6, 700)).wait().unwrap();
    journal.save_image(quiet, id(1, 1), Bytes::from_static(b"as of one")).wait().unwrap();
    journal.purge(quiet, id(1, 1)).wait().unwrap();
    journal.save_vote(silent, vote(9, 9)).wait().unwrap();
    churn(&journal, key(3), 0, 2000, 5);
    let used = segments(&memory);
    assert!(used.len() <= 6, "{} segments are there: {used:?}", used.len());
    assert!(used.iter().all(|id| *id > 100), "the first segments are gone: {used:?}");
    let holds = |journal: &Talk| {
        let state = journal.0.replica(quiet).unwrap();
        assert_eq!((state.vote, state.purged, state.last), (Some(vote(3, 8)), Some(id(1, 1)), Some(id(2, 5))));
        assert_eq!(journal.read_all(quiet).unwrap(), [entries(1, 2..3, 700), entries(2, 3..6, 700)].concat());
        assert_eq!(journal.read_image(quiet).unwrap(), Some((id(1, 1), Bytes::from_static(b"as of one"))));
        assert_eq!(journal.0.replica(silent).unwrap().vote, Some(vote(9, 9)));
    };
    holds(&journal);
    for memory in [memory.restore(5), memory.restore(6).without_kv()] {
        let (journal, report) = memory.open(tiny(SEGMENT_BYTES));
        assert_eq!(report.damage, []);
        holds(&journal);
        // And it goes on from there.
        journal.append(quiet, entries(4, 6..7, 100)).wait().unwrap();
        churn(&journal, key(3), 2000, 2200, 5);
        assert_eq!(journal.read(quiet, 6, 7, 100).unwrap(), entries(4, 6..7, 100));
    }
}

/// What an entry holds: with its headers, eight sectors.
const ENTRY_BYTES: usize = 32_500;

/// Appends `rounds` entries to the logs that `log_of` names; log `n` keeps the
/// last `kept[n]` of its own, and the directory never takes more than 1.3
/// times what is kept and four segments.
fn stays_within(memory: &Memory, rounds: u64, kept: &[u64], log_of: impl Fn(u64) -> usize) -> Counters {
    let config = JournalConfig { rewrite_bytes: 128 * 1024, ..tiny(512 * 1024) };
    let (journal, _) = memory.open(config);
    let retained: u64 = kept.iter().map(|kept| (kept + 8) * ENTRY_BYTES as u64).sum();
    let bound = retained * 13 / 10 + 4 * config.segment_bytes;
    let mut written = vec![0_u64; kept.len()];
    for round in 0..rounds {
        let log = log_of(round);
        let (key, index) = (key(log as u64 + 1), written[log]);
        journal.append(key, vec![entry(1, index, ENTRY_BYTES)]).wait().unwrap();
        if let Some(through) = index.checked_sub(kept[log]).filter(|through| through.is_multiple_of(8)) {
            journal.purge(key, id(1, through)).wait().unwrap();
        }
        written[log] += 1;
        let there = segments(memory).len() as u64 * config.segment_bytes;
        assert!(there <= bound, "round {round}: {there} bytes for {retained} retained ones, bound {bound}");
    }
    journal.0.counters()
}

#[test]
fn a_directory_holds_what_is_retained_and_little_more() {
    let counters = stays_within(&Memory::new(7), 3000, &[100], |_| 0);
    assert!(counters.recycled_segments > 150, "{counters:?}");
    assert!(counters.relocated_bytes < counters.payload_bytes / 10, "one log dies in its order: {counters:?}");
}

#[test]
fn a_directory_holds_little_more_than_what_is_retained_when_that_lies_scattered() {
    let log_of = |round: u64| if round.is_multiple_of(7) { 1 } else { 2 * (round as usize % 2) };
    let counters = stays_within(&Memory::new(8), 6000, &[100, 40, 1], log_of);
    assert!(counters.relocated_bytes < counters.payload_bytes * 3 / 2, "{counters:?}");
    assert!(counters.recycled_segments > 200, "{counters:?}");
}

/// Logs in proportion to `weights`, in an order without a pattern.
fn weighted(weights: [u64; 4]) -> impl Fn(u64) -> usize {
    move |round| {
        let mut at = (round.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33) % weights.iter().sum::<u64>();
        let passed = |weight: &&u64| at.checked_sub(**weight).map(|left| at = left).is_some();
        weights.iter().take_while(passed).count()
    }
}

#[test]
fn a_directory_of_several_logs_takes_no_more_room_than_that_of_one() {
    // What each keeps, and what each is appended; the last is nearly idle.
    let logs = [
        ([100, 40, 10, 2], [800, 400, 200, 1]),
        ([200, 20, 5, 1], [100, 100, 100, 1]),
        ([300, 100, 50, 10], [400, 800, 200, 1]),
        ([20, 10, 5, 2], [100, 50, 20, 1]),
        ([100, 4, 4, 4], [100, 300, 300, 1]),
        // That one has the most to keep.
        ([20, 10, 5, 100], [200, 100, 50, 10]),
        ([1, 1, 1, 1], [100, 300, 300, 1]),
    ];
    for (seed, (kept, weights)) in (20..).zip(logs) {
        let counters = stays_within(&Memory::new(seed), 4000, &kept, weighted(weights));
        assert!(counters.relocated_bytes < counters.payload_bytes * 2, "{kept:?}: {counters:?}");
        assert!(counters.recycled_segments > 200, "{kept:?}: {counters:?}");
        let prepared = counters.prepared_bytes / (512 * 1024);
        assert!(prepared < counters.recycled_segments / 2, "{kept:?}: files are used again: {counters:?}");
    }
}

#[test]
fn a_read_that_began_before_gets_what_it_asked_for() {
    let memory = Memory::new(9);
    let (journal, _) = memory.open(tiny(SEGMENT_BYTES));
    journal.append(key(1), entries(1, 0..4, 700)).wait().unwrap();
    churn(&journal, key(2), 0, 30, 2);
    let first = segments(&memory)[0];
    // Everything but reads goes on.
    memory.disk.hold();
    let read = journal.begin_read(key(1), 0, 4);
    let mut staged = Vec::new();
    for index in 30..400 {
        staged.push(journal.append(key(2), vec![entry(1, index, 3000)]));
        staged.push(journal.purge(key(2), id(1, index - 2)));
        while memory.disk.step(Lane::Commit) || memory.disk.step(Lane::Background) {}
    }
    assert!(staged.iter().all(|promise| matches!(promise.now(), Some(Ok(())))));
    let waiting = segments(&memory);
    assert!(waiting.contains(&first) || waiting[0] < first + 3, "it is waited for: {waiting:?}");
    memory.disk.release();
    assert_eq!(read.wait().unwrap(), entries(1, 0..4, 700));
    churn(&journal, key(2), 400, 410, 2);
    let used = segments(&memory);
    assert!(used.len() <= 6, "{} segments are there: {used:?}", used.len());
}

#[test]
fn hundreds_of_segments_come_and_go_and_everything_is_as_it_should_be() {
    for seed in 61..=64 {
        let mut memory = Memory::new(seed);
        let mut script = Script::that_trims(seed);
        let mut recycled = 0;
        for round in 0..60 {
            let (journal, report) = memory.open(tiny(SEGMENT_BYTES));
            let context = format!("seed {seed}, round {round}");
            assert_eq!(report.damage, [], "{context}");
            script.check(&journal, &context);
            script.run(&journal, &memory, 200);
            script.check_staged(&journal);
            recycled += journal.0.counters().recycled_segments;
            memory = if round % 3 == 0 { memory.restore(seed + round) } else { memory.kill(seed + round) };
            if round % 5 == 0 {
                memory = memory.without_kv();
            }
        }
        assert!(recycled > 200, "seed {seed}: only {recycled} segments were let go of");
    }
}
