//! What a cut, a kill and each fault leave behind.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use super::super::conformance;
use super::*;

fn block(fill: u8) -> AlignedBuffer {
    AlignedBuffer::padded(&[fill; 4096])
}

fn read(disk: &MemoryDisk, path: &str) -> Option<Vec<u8>> {
    disk.content(path)
}

/// A disk with a durable file `a` of four blocks of ones.
fn with_durable_file() -> (MemoryDisk, FileId) {
    durable_file(1, Access::Direct)
}

fn durable_file(seed: u64, access: Access) -> (MemoryDisk, FileId) {
    let disk = MemoryDisk::new(seed);
    let file = disk.create("a", access).unwrap();
    disk.write_at(file, 0, &AlignedBuffer::padded(&[1; 4 * 4096])).unwrap();
    disk.sync(file).unwrap();
    disk.sync_directory("").unwrap();
    (disk, file)
}

#[test]
fn holds_what_every_disk_holds() {
    conformance::run_all(|| (Arc::new(MemoryDisk::new(1)) as Arc<dyn Disk>, ()));
}

#[test]
fn power_cut_keeps_what_was_synced() {
    let (disk, _) = with_durable_file();
    for seed in 0..100 {
        let left = disk.restore(seed);
        assert_eq!(read(&left, "a"), Some(vec![1; 4 * 4096]));
        assert!(disk.list("").is_err(), "the old disk answers");
    }
}

#[test]
fn power_cut_leaves_unsynced_sectors_old_new_zero_or_garbage() {
    let (disk, file) = with_durable_file();
    disk.write_at(file, 4096, &block(2)).unwrap();
    let mut seen = BTreeSet::new();
    for seed in 0..100 {
        let left = read(&disk.restore(seed), "a").unwrap();
        assert!(left[..4096].iter().chain(&left[8192..]).all(|byte| *byte == 1), "a synced sector changed");
        for sector in left[4096..8192].chunks(512) {
            seen.insert(match sector {
                sector if sector.iter().all(|byte| *byte == 0) => "zero",
                sector if sector.iter().all(|byte| *byte == 1) => "old",
                sector if sector.iter().all(|byte| *byte == 2) => "new",
                _ => "garbage",
            });
        }
    }
    assert_eq!(seen, BTreeSet::from(["garbage", "new", "old", "zero"]));
}

#[test]
fn power_cut_may_take_back_growth_but_never_synced_length() {
    let (disk, file) = with_durable_file();
    disk.write_at(file, 4 * 4096, &block(2)).unwrap();
    let lengths: BTreeSet<_> = (0..200).map(|seed| read(&disk.restore(seed), "a").unwrap().len()).collect();
    assert_eq!(lengths.first(), Some(&(4 * 4096)));
    assert_eq!(lengths.last(), Some(&(5 * 4096)));
    assert!(lengths.len() > 2, "growth comes whole or not at all");
}

#[test]
fn name_is_lost_unless_its_directory_was_synced() {
    let disk = MemoryDisk::new(1);
    let file = disk.create("a", Access::Direct).unwrap();
    disk.write_at(file, 0, &block(1)).unwrap();
    disk.sync(file).unwrap();
    let kept = (0..50).filter(|seed| read(&disk.restore(*seed), "a").is_some()).count();
    assert!((1..50).contains(&kept), "an unsynced name was kept {kept} times of 50");

    let disk = with_durable_file().0;
    disk.remove("a").unwrap();
    let back = (0..50).filter(|seed| read(&disk.restore(*seed), "a").is_some()).count();
    assert!((1..50).contains(&back), "a removed name came back {back} times of 50");
}

#[test]
fn rename_is_whole_or_not_at_all() {
    let (disk, _) = with_durable_file();
    let fresh = disk.create("b", Access::Direct).unwrap();
    disk.write_at(fresh, 0, &block(2)).unwrap();
    disk.sync(fresh).unwrap();
    disk.rename("b", "a").unwrap();
    for seed in 0..100 {
        let left = disk.restore(seed);
        let first = read(&left, "a").expect("one of both")[0];
        assert!(first == 1 || read(&left, "b").is_none(), "the renamed file has both names");
    }
}

#[test]
fn whole_file_is_old_or_new_wherever_the_power_is_cut() {
    for count in 1.. {
        let disk = MemoryDisk::new(count);
        super::super::write_whole_file(&disk, "f", b"old").unwrap();
        disk.cut_power_at(count);
        let written = super::super::write_whole_file(&disk, "f", b"new");
        for seed in 0..50 {
            let left = super::super::read_whole_file(&disk.restore(seed), "f").unwrap().expect("the file");
            let is = |content: &[u8]| left[..] == AlignedBuffer::padded(content)[..];
            assert!(is(b"new") || (written.is_err() && is(b"old")), "cut at {count}, seed {seed}: {:?}", &left[..8]);
        }
        if written.is_ok() {
            assert!(count > 5, "only {count} changes were cut");
            return;
        }
    }
}

#[test]
fn cut_strikes_the_very_change_it_was_set_for_and_all_later_ones() {
    let (disk, file) = with_durable_file();
    disk.cut_power_at(2);
    disk.write_at(file, 0, &block(2)).unwrap();
    disk.read_at(file, 0, &mut block(0)).unwrap();
    assert!(disk.write_at(file, 4096, &block(3)).is_err());
    assert!(disk.read_at(file, 0, &mut block(0)).is_err());
    assert!(disk.open("a", Access::Direct).is_err());
    assert!(disk.sync(file).is_err());
    let torn = (0..50).any(|seed| read(&disk.restore(seed), "a").unwrap()[4096..8192].contains(&3));
    assert!(torn, "the change during which the power went never happened");
}

#[test]
fn sync_during_which_the_power_goes_may_have_happened() {
    let outcomes: BTreeSet<bool> = (0..50)
        .map(|seed| {
            let disk = MemoryDisk::new(seed);
            let file = disk.create("a", Access::Direct).unwrap();
            disk.sync_directory("").unwrap();
            disk.write_at(file, 0, &block(1)).unwrap();
            disk.cut_power_at(1);
            assert!(disk.sync(file).is_err());
            (0..20).all(|seed| read(&disk.restore(seed), "a") == Some(vec![1; 4096]))
        })
        .collect();
    assert_eq!(outcomes, BTreeSet::from([false, true]));
}

#[test]
fn kill_keeps_what_was_written_and_as_unsynced_as_it_was() {
    let (disk, file) = with_durable_file();
    disk.write_at(file, 0, &block(2)).unwrap();
    let next = disk.kill(7);
    assert!(disk.write_at(file, 0, &block(3)).is_err(), "the killed process still writes");
    assert_eq!(read(&next, "a").unwrap()[..4096], block(2)[..]);
    let reverted = (0..50).any(|seed| read(&next.restore(seed), "a").unwrap()[..4096] == block(1)[..]);
    assert!(reverted, "a kill made the write durable");
}

#[test]
fn after_a_failed_sync_no_later_sync_makes_the_data_durable() {
    let (disk, file) = durable_file(1, Access::Buffered);
    disk.write_at(file, 0, &block(2)).unwrap();
    disk.fail_next_sync();
    assert!(disk.sync(file).is_err());
    disk.sync(file).expect("the page cache calls everything clean");
    assert_eq!(read(&disk, "a").unwrap()[..4096], block(2)[..], "reads show what the medium never got");
    let gone = (0..50).any(|seed| read(&disk.restore(seed), "a").unwrap()[..4096] == block(1)[..]);
    assert!(gone, "the data of a failed sync survived every time");

    let (disk, file) = durable_file(1, Access::Buffered);
    disk.write_at(file, 0, &block(2)).unwrap();
    disk.fail_next_sync();
    assert!(disk.sync(file).is_err());
    disk.write_at(file, 0, &block(2)).unwrap();
    disk.sync(file).unwrap();
    assert!((0..50).all(|seed| read(&disk.restore(seed), "a").unwrap()[..4096] == block(2)[..]));
}

#[test]
fn after_a_failed_sync_direct_reads_see_what_the_medium_holds() {
    let mut seen = BTreeSet::new();
    for seed in 0..50 {
        let (disk, file) = durable_file(seed, Access::Direct);
        disk.write_at(file, 0, &block(2)).unwrap();
        disk.fail_next_sync();
        assert!(disk.sync(file).is_err());
        let held = read(&disk, "a").unwrap();
        assert_eq!(read(&disk.kill(seed), "a"), Some(held.clone()), "another process sees something else");
        assert_eq!(read(&disk.restore(seed), "a"), Some(held.clone()), "a power cut leaves something else");
        seen.insert(held[0]);
    }
    assert_eq!(seen, BTreeSet::from([1, 2]));
}

#[test]
fn full_disk_refuses_growth_and_takes_overwrites() {
    let (disk, file) = with_durable_file();
    disk.limit_bytes(Some(4 * 4096));
    let error = disk.write_at(file, 4 * 4096, &block(2)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert_eq!(disk.length(file).unwrap(), 4 * 4096);
    disk.write_at(file, 0, &block(2)).unwrap();
    disk.limit_bytes(None);
    disk.write_at(file, 4 * 4096, &block(2)).unwrap();
}

#[test]
fn broken_sector_fails_reads_until_it_is_written() {
    let (disk, file) = with_durable_file();
    disk.break_reads("a", 4096 + 512, 1);
    assert!(disk.read_at(file, 4096, &mut block(0)).is_err());
    disk.read_at(file, 0, &mut block(0)).unwrap();
    let after = disk.kill(1);
    let file = after.open("a", Access::Direct).unwrap();
    assert!(after.read_at(file, 4096, &mut block(0)).is_err(), "a new process mended the sector");
    after.write_at(file, 4096, &block(1)).unwrap();
    after.read_at(file, 4096, &mut block(0)).unwrap();
}

#[test]
fn flipped_bit_stays_flipped() {
    let (disk, _) = with_durable_file();
    disk.flip_bit("a", 5000, 3);
    let left = read(&disk.restore(1), "a").unwrap();
    assert_eq!((left[4999], left[5000], left[5001]), (1, 1 ^ 8, 1));
    disk.restore(2).shorten("a", 100);
}

#[test]
fn refused_direct_access_shows() {
    let disk = MemoryDisk::new(1);
    let file = disk.create("a", Access::Direct).unwrap();
    assert_eq!(disk.access(file).unwrap(), Access::Direct);
    disk.refuse_direct();
    let file = disk.open("a", Access::Direct).unwrap();
    assert_eq!(disk.access(file).unwrap(), Access::Buffered);
}

#[test]
fn held_operations_run_when_stepped_each_lane_in_order() {
    let disk = MemoryDisk::new(1);
    let completed = Arc::new(Mutex::new(Vec::new()));
    disk.hold();
    for (lane, name) in [(Lane::Commit, "c1"), (Lane::Background, "b1"), (Lane::Commit, "c2"), (Lane::Read, "r1")] {
        let completed = Arc::clone(&completed);
        let done = Box::new(move |_| completed.lock().unwrap().push(name));
        disk.submit(lane, Operation::Task(Box::new(|| ())), done);
    }
    assert!(completed.lock().unwrap().is_empty());
    assert!(disk.step(Lane::Background) && !disk.step(Lane::Background));
    assert!(disk.step(Lane::Commit));
    assert_eq!((disk.waiting(Lane::Commit), disk.waiting(Lane::Read)), (1, 1));
    disk.release();
    assert_eq!(*completed.lock().unwrap(), ["b1", "c1", "c2", "r1"]);
}

#[test]
fn full_queue_refuses_at_once() {
    let disk = MemoryDisk::new(1);
    disk.hold();
    let refused = Arc::new(Mutex::new(Vec::new()));
    for _ in 0..=Lane::Commit.queue_bound() {
        let refused = Arc::clone(&refused);
        let done = Box::new(move |result: io::Result<Outcome>| refused.lock().unwrap().push(result.err()));
        disk.submit(Lane::Commit, Operation::Task(Box::new(|| ())), done);
    }
    let refused = std::mem::take(&mut *refused.lock().unwrap());
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0].as_ref().expect("an error").kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn same_seed_leaves_the_same() {
    let run = || {
        let (disk, file) = with_durable_file();
        for number in 0..20_u8 {
            disk.write_at(file, u64::from(number) * 4096, &block(number)).unwrap();
            disk.create(&format!("f{number}"), Access::Direct).unwrap();
        }
        disk.restore(42)
    };
    let (one, other) = (run(), run());
    assert_eq!(one.list("").unwrap(), other.list("").unwrap());
    assert_eq!(read(&one, "a"), read(&other, "a"));
}
