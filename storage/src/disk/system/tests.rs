//! What only a real disk has: a lock, threads, file systems that differ.

use std::path::Path;
use std::sync::mpsc;

use tempfile::TempDir;

use super::super::conformance;
use super::*;
use crate::disk::Outcome;

/// A directory beside the test's own binary: on a disk, where `/tmp` may be
/// memory.
fn on_disk() -> TempDir {
    let binary = std::env::current_exe().unwrap();
    TempDir::new_in(binary.parent().expect("a binary is in a directory")).unwrap()
}

fn open(directory: &TempDir) -> SystemDisk {
    SystemDisk::open(directory.path()).unwrap()
}

#[test]
fn holds_what_every_disk_holds() {
    conformance::run_all(|| {
        let directory = on_disk();
        (Arc::new(open(&directory)) as Arc<dyn Disk>, directory)
    });
}

#[test]
fn holds_it_on_a_file_system_in_memory() {
    let memory = Path::new("/dev/shm");
    if !memory.is_dir() {
        return;
    }
    conformance::run_all(|| {
        let directory = TempDir::new_in(memory).unwrap();
        (Arc::new(open(&directory)) as Arc<dyn Disk>, directory)
    });
}

#[test]
fn second_owner_is_refused_and_told_who_the_first_is() {
    let directory = on_disk();
    let first = open(&directory);
    let Err(refused) = SystemDisk::open(directory.path()) else { panic!("two owners of one directory") };
    assert!(matches!(refused, OpenDiskError::InUse { pid: Some(pid), .. } if pid == std::process::id()), "{refused}");
    assert!(refused.to_string().contains(&format!("process {}", std::process::id())));
    fs::write(directory.path().join(LOCK_FILE), "no number").unwrap();
    let Err(refused) = SystemDisk::open(directory.path()) else { panic!("two owners of one directory") };
    assert!(matches!(refused, OpenDiskError::InUse { pid: None, .. }));
    drop(first);
    open(&directory);
}

#[test]
fn data_directory_is_made_with_those_above_it() {
    let directory = on_disk();
    let root = directory.path().join("a/b/c");
    SystemDisk::open(&root).unwrap().create("f", Access::Direct).unwrap();
    assert!(root.join("f").is_file());
    assert!(matches!(SystemDisk::open(&root.join("f")), Err(OpenDiskError::Io { .. })));
}

#[test]
fn what_was_written_is_there_for_the_next_owner() {
    let directory = on_disk();
    let disk = open(&directory);
    let file = disk.create("a", Access::Direct).unwrap();
    disk.write_at(file, 0, &AlignedBuffer::padded(b"kept")).unwrap();
    drop(disk);
    let disk = open(&directory);
    let file = disk.open("a", Access::Direct).unwrap();
    let mut read = AlignedBuffer::zeroed(4096);
    disk.read_at(file, 0, &mut read).unwrap();
    assert_eq!(&read[..4], b"kept");
}

#[test]
fn operation_outlives_the_handle_it_was_submitted_with() {
    let directory = on_disk();
    let disk = open(&directory);
    let file = disk.create("a", Access::Direct).unwrap();
    let (release, held) = mpsc::channel::<()>();
    disk.submit(Lane::Commit, Operation::Task(Box::new(move || held.recv().unwrap())), Box::new(|_| ()));
    let (sender, completed) = mpsc::channel();
    let write = Operation::Write { file, offset: 0, buffer: AlignedBuffer::zeroed(4096) };
    disk.submit(Lane::Commit, write, Box::new(move |result| sender.send(result).unwrap()));
    disk.close(file);
    release.send(()).unwrap();
    completed.recv().unwrap().unwrap();
}

#[test]
fn closing_fails_what_waits_and_finishes_what_runs() {
    let directory = on_disk();
    let disk = open(&directory);
    let (started, starting) = mpsc::channel();
    let (release, held) = mpsc::channel::<()>();
    let (sender, completed) = mpsc::channel();
    let task = Operation::Task(Box::new(move || {
        started.send(()).unwrap();
        held.recv().unwrap();
    }));
    let first = sender.clone();
    disk.submit(Lane::Background, task, Box::new(move |result| first.send(("ran", result)).unwrap()));
    starting.recv().unwrap();
    let waits = Box::new(move |result: io::Result<Outcome>| {
        sender.send(("waited", result)).unwrap();
        // Only now may the one before it end: it is still running.
        release.send(()).unwrap();
    });
    disk.submit(Lane::Background, Operation::Task(Box::new(|| panic!("the disk is closed"))), waits);
    drop(disk);
    let (name, result) = completed.recv().unwrap();
    assert_eq!((name, result.unwrap_err().kind()), ("waited", ErrorKind::BrokenPipe));
    let (name, result) = completed.recv().unwrap();
    assert!(name == "ran" && result.is_ok());
    assert!(completed.recv().is_err(), "something was completed twice");
}

#[test]
fn last_owner_may_be_a_completion() {
    let directory = on_disk();
    let disk = Arc::new(open(&directory));
    let (sender, completed) = mpsc::channel();
    let (release, held) = mpsc::channel::<()>();
    let owner = Arc::clone(&disk);
    let done = Box::new(move |_| {
        held.recv().unwrap();
        drop(owner);
        sender.send(()).unwrap();
    });
    disk.submit(Lane::Commit, Operation::Task(Box::new(|| ())), done);
    drop(disk);
    release.send(()).unwrap();
    completed.recv().unwrap();
}

#[test]
fn full_queue_refuses_at_once() {
    let directory = on_disk();
    let disk = open(&directory);
    let (started, starting) = mpsc::channel();
    let (release, held) = mpsc::channel::<()>();
    let task = Operation::Task(Box::new(move || {
        started.send(()).unwrap();
        held.recv().unwrap();
    }));
    disk.submit(Lane::Commit, task, Box::new(|_| ()));
    starting.recv().unwrap();
    for _ in 0..Lane::Commit.queue_bound() {
        disk.submit(Lane::Commit, Operation::Task(Box::new(|| ())), Box::new(|result| drop(result.unwrap())));
    }
    let (sender, refused) = mpsc::channel();
    let done = Box::new(move |result| sender.send(result).unwrap());
    disk.submit(Lane::Commit, Operation::Task(Box::new(|| ())), done);
    let refused = refused.try_recv().expect("refused before submit returned").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::WouldBlock);
    assert!(refused.to_string().contains(&Lane::Commit.queue_bound().to_string()), "{refused} names no bound");
    release.send(()).unwrap();
}

#[test]
fn panicking_task_fails_alone_and_a_panicking_completion_breaks_its_lane() {
    let directory = on_disk();
    let disk = open(&directory);
    let run = |lane, task: Box<dyn FnOnce() + Send>| {
        let (sender, completed) = mpsc::channel();
        disk.submit(lane, Operation::Task(task), Box::new(move |result| sender.send(result).unwrap()));
        completed.recv().expect("an operation was never completed")
    };
    assert!(run(Lane::Background, Box::new(|| panic!("on purpose"))).is_err());
    assert!(run(Lane::Background, Box::new(|| ())).is_ok());

    let (sender, broken) = mpsc::channel::<()>();
    let done = Box::new(move |_| {
        let _sender = sender;
        panic!("on purpose");
    });
    disk.submit(Lane::Background, Operation::Task(Box::new(|| ())), done);
    assert!(broken.recv().is_err());
    // Either it waits and is failed, or the lane has broken by now.
    assert!(run(Lane::Background, Box::new(|| ())).is_err());
    assert!(run(Lane::Commit, Box::new(|| ())).is_ok(), "another lane broke");
}
