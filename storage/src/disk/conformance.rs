//! What every [`Disk`] has to hold, for each implementation's tests to run.
//!
//! What a crash leaves is not among it: only an implementation knows how to
//! crash itself.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};

use super::{
    ALIGNMENT, Access, AlignedBuffer, Disk, Lane, MAX_READ_BYTES, MAX_WHOLE_FILE_BYTES, Operation, Outcome,
    read_whole_file, write_whole_file,
};

const BLOCK: u64 = ALIGNMENT as u64;

/// Runs every check, each on a fresh and empty disk that completes what is
/// submitted by itself. The second value of the pair is kept for as long as
/// the disk: a temporary directory, say.
///
/// # Panics
/// When a check fails.
pub fn run_all<G>(fresh: impl Fn() -> (Arc<dyn Disk>, G)) {
    let checks: [fn(&Arc<dyn Disk>); 11] = [
        reads_return_what_was_written,
        names_come_and_go,
        directories_are_made_with_their_parents,
        rename_replaces_its_target,
        open_file_outlives_its_name,
        paths_and_positions_are_checked,
        errors_name_the_path,
        submitted_operations_do_what_the_immediate_ones_do,
        lane_completes_in_order,
        completion_may_submit_the_next_operation,
        whole_files_are_replaced,
    ];
    for check in checks {
        let (disk, _guard) = fresh();
        check(&disk);
    }
}

/// Writes read back, before and after a sync and by another handle; a read
/// across the end is short.
pub fn reads_return_what_was_written(disk: &Arc<dyn Disk>) {
    for (path, access) in [("direct", Access::Direct), ("buffered", Access::Buffered)] {
        let file = disk.create(path, access).unwrap();
        assert_eq!(disk.length(file).unwrap(), 0);
        disk.write_at(file, 0, &block(1)).unwrap();
        disk.write_at(file, 2 * BLOCK, &block(3)).unwrap();
        assert_eq!(disk.length(file).unwrap(), 3 * BLOCK);
        disk.sync(file).unwrap();
        disk.write_at(file, BLOCK, &block(2)).unwrap();
        disk.close(file);

        let file = disk.open(path, access).unwrap();
        let mut read = AlignedBuffer::zeroed(5 * ALIGNMENT);
        assert_eq!(disk.read_at(file, 0, &mut read).unwrap(), 3 * ALIGNMENT);
        for number in 1..=3 {
            let at = usize::from(number - 1) * ALIGNMENT;
            assert_eq!(read[at..at + ALIGNMENT], block(number)[..]);
        }
        assert_eq!(disk.read_at(file, 3 * BLOCK, &mut read).unwrap(), 0);
        assert_eq!(disk.read_at(file, 90 * BLOCK, &mut read).unwrap(), 0);
        disk.close(file);
        assert!(disk.length(file).is_err(), "a closed file was still open");
    }
}

/// A name is there from its creation to its removal, and only once.
pub fn names_come_and_go(disk: &Arc<dyn Disk>) {
    let before = disk.list("").unwrap();
    for path in ["b", "a"] {
        disk.close(disk.create(path, Access::Direct).unwrap());
    }
    let names = disk.list("").unwrap();
    assert!(names.is_sorted(), "names come unsorted");
    assert_eq!(names.len(), before.len() + 2);
    assert_eq!(kind(disk.create("a", Access::Direct)), ErrorKind::AlreadyExists);
    disk.remove("a").unwrap();
    disk.sync_directory("").unwrap();
    assert_eq!(kind(disk.remove("a")), ErrorKind::NotFound);
    assert_eq!(kind(disk.open("a", Access::Direct)), ErrorKind::NotFound);
    assert!(!disk.list("").unwrap().contains(&"a".to_owned()));
}

/// Making a directory makes those above it, and again is fine.
pub fn directories_are_made_with_their_parents(disk: &Arc<dyn Disk>) {
    assert_eq!(kind(disk.list("x")), ErrorKind::NotFound);
    assert_eq!(kind(disk.create("x/y/file", Access::Direct)), ErrorKind::NotFound);
    disk.create_directory("x/y").unwrap();
    disk.create_directory("x/y").unwrap();
    disk.close(disk.create("x/y/file", Access::Direct).unwrap());
    assert_eq!(disk.list("x").unwrap(), ["y"]);
    assert_eq!(disk.list("x/y").unwrap(), ["file"]);
    disk.sync_directory("x/y").unwrap();
    assert!(disk.create_directory("x/y/file").is_err(), "a directory took a file's place");
}

/// A rename leaves one name and the renamed file's bytes.
pub fn rename_replaces_its_target(disk: &Arc<dyn Disk>) {
    disk.create_directory("d").unwrap();
    for (path, number) in [("d/old", 1), ("d/new", 2)] {
        let file = disk.create(path, Access::Buffered).unwrap();
        disk.write_at(file, 0, &block(number)).unwrap();
        disk.close(file);
    }
    disk.rename("d/new", "d/old").unwrap();
    assert_eq!(disk.list("d").unwrap(), ["old"]);
    let file = disk.open("d/old", Access::Buffered).unwrap();
    let mut read = AlignedBuffer::zeroed(ALIGNMENT);
    disk.read_at(file, 0, &mut read).unwrap();
    assert_eq!(read[..], block(2)[..]);
    assert_eq!(kind(disk.rename("d/new", "d/old")), ErrorKind::NotFound);
    assert_eq!(kind(disk.rename("d/old", "old")), ErrorKind::InvalidInput);
}

/// What is open can be read and written after its name is gone.
pub fn open_file_outlives_its_name(disk: &Arc<dyn Disk>) {
    let file = disk.create("a", Access::Direct).unwrap();
    disk.remove("a").unwrap();
    disk.sync_directory("").unwrap();
    disk.write_at(file, 0, &block(1)).unwrap();
    disk.sync(file).unwrap();
    let mut read = AlignedBuffer::zeroed(ALIGNMENT);
    assert_eq!(disk.read_at(file, 0, &mut read).unwrap(), ALIGNMENT);
    disk.close(file);
}

/// No path leaves the data directory, no position is odd.
pub fn paths_and_positions_are_checked(disk: &Arc<dyn Disk>) {
    for path in ["", "..", "../a", "/a", "a/../../b", "a//b", "a/"] {
        assert_eq!(kind(disk.create(path, Access::Direct)), ErrorKind::InvalidInput, "create {path:?}");
        assert_eq!(kind(disk.open(path, Access::Direct)), ErrorKind::InvalidInput, "open {path:?}");
        assert_eq!(kind(disk.remove(path)), ErrorKind::InvalidInput, "remove {path:?}");
        assert_eq!(kind(disk.rename("a", path)), ErrorKind::InvalidInput, "rename to {path:?}");
    }
    assert_eq!(kind(disk.list("../..")), ErrorKind::InvalidInput);
    assert_eq!(kind(disk.create_directory("../a")), ErrorKind::InvalidInput);
    for access in [Access::Direct, Access::Buffered] {
        let file = disk.create(&format!("{access:?}"), access).unwrap();
        let mut odd = AlignedBuffer::zeroed(100);
        assert_eq!(kind(disk.write_at(file, 0, &odd)), ErrorKind::InvalidInput);
        assert_eq!(kind(disk.write_at(file, 512, &block(1))), ErrorKind::InvalidInput);
        assert_eq!(kind(disk.write_at(file, 0_u64.wrapping_sub(BLOCK), &block(1))), ErrorKind::InvalidInput);
        assert_eq!(kind(disk.read_at(file, 0, &mut odd)), ErrorKind::InvalidInput);
        assert_eq!(kind(disk.read_at(file, 1, &mut block(1))), ErrorKind::InvalidInput);
        let read = Operation::Read { file, offset: 0, length: MAX_READ_BYTES + ALIGNMENT };
        assert_eq!(kind(run(disk, Lane::Read, read)), ErrorKind::InvalidInput);
        assert_eq!(disk.length(file).unwrap(), 0, "a refused write left something");
    }
}

/// An error says which path it is about and why.
pub fn errors_name_the_path(disk: &Arc<dyn Disk>) {
    let error = disk.open("no/such/file", Access::Direct).unwrap_err();
    assert!(error.to_string().contains("no/such/file"), "{error} names no path");
    assert!(error.source().is_some(), "{error} has no source");
}

/// The submitted forms of write, sync, read and a task.
pub fn submitted_operations_do_what_the_immediate_ones_do(disk: &Arc<dyn Disk>) {
    let file = disk.create("a", Access::Direct).unwrap();
    let write = Operation::Write { file, offset: BLOCK, buffer: block(1) };
    let Ok(Outcome::Written(buffer)) = run(disk, Lane::Commit, write) else { panic!("nothing was written") };
    assert_eq!(buffer[..], block(1)[..], "another buffer came back");
    assert!(matches!(run(disk, Lane::Commit, Operation::Sync { file }), Ok(Outcome::Synced)));
    let read = Operation::Read { file, offset: BLOCK, length: 3 * ALIGNMENT };
    let Ok(Outcome::Read(read)) = run(disk, Lane::Read, read) else { panic!("nothing was read") };
    assert_eq!(read[..], block(1)[..]);
    let (sender, ran) = mpsc::channel();
    let task = Operation::Task(Box::new(move || sender.send(()).unwrap()));
    assert!(matches!(run(disk, Lane::Background, task), Ok(Outcome::Ran)));
    ran.try_recv().expect("the task had run by its completion");
    disk.close(file);
    assert_eq!(kind(run(disk, Lane::Commit, Operation::Sync { file })), ErrorKind::InvalidInput);
}

/// Commits complete in the order in which they were submitted.
pub fn lane_completes_in_order(disk: &Arc<dyn Disk>) {
    let file = disk.create("a", Access::Direct).unwrap();
    let (sender, completed) = mpsc::channel();
    for number in 0..100_u64 {
        let operation = match number % 2 {
            0 => Operation::Write { file, offset: number * BLOCK, buffer: block(1) },
            _ => Operation::Sync { file },
        };
        let sender = sender.clone();
        disk.submit(Lane::Commit, operation, Box::new(move |_| sender.send(number).unwrap()));
    }
    drop(sender);
    assert!(completed.iter().eq(0..100), "completions came out of order");
}

/// A long chain of operations, each submitted by the completion of the one
/// before it, neither waits for itself nor runs out of stack.
pub fn completion_may_submit_the_next_operation(disk: &Arc<dyn Disk>) {
    const LENGTH: usize = 20_000;

    fn submit_next(disk: &Arc<dyn Disk>, count: &Arc<AtomicUsize>, finished: mpsc::Sender<()>) {
        let (next_disk, next_count) = (Arc::clone(disk), Arc::clone(count));
        let done = Box::new(move |result: io::Result<Outcome>| {
            result.unwrap();
            if next_count.fetch_add(1, Ordering::Relaxed) + 1 < LENGTH {
                submit_next(&next_disk, &next_count, finished);
            } else {
                finished.send(()).unwrap();
            }
        });
        disk.submit(Lane::Commit, Operation::Task(Box::new(|| ())), done);
    }

    let (sender, finished) = mpsc::channel();
    let count = Arc::new(AtomicUsize::new(0));
    submit_next(disk, &count, sender);
    finished.recv().expect("the chain broke off");
    assert_eq!(count.load(Ordering::Relaxed), LENGTH);
}

/// Small files are replaced as a whole, leftovers of a crash included.
pub fn whole_files_are_replaced(disk: &Arc<dyn Disk>) {
    disk.create_directory("d").unwrap();
    assert!(read_whole_file(&**disk, "d/a").unwrap().is_none());
    disk.close(disk.create("d/a.new", Access::Buffered).unwrap());
    write_whole_file(&**disk, "d/a", &[1; 5000]).unwrap();
    write_whole_file(&**disk, "d/a", b"two").unwrap();
    let read = read_whole_file(&**disk, "d/a").unwrap().unwrap();
    assert_eq!(read[..], AlignedBuffer::padded(b"two")[..]);
    assert_eq!(disk.list("d").unwrap(), ["a"]);
    let large = vec![0; MAX_WHOLE_FILE_BYTES + 1];
    assert_eq!(kind(write_whole_file(&**disk, "d/a", &large)), ErrorKind::FileTooLarge);
}

fn block(fill: u8) -> AlignedBuffer {
    AlignedBuffer::padded(&[fill; ALIGNMENT])
}

fn kind<T>(result: io::Result<T>) -> ErrorKind {
    result.err().expect("an error").kind()
}

fn run(disk: &Arc<dyn Disk>, lane: Lane, operation: Operation) -> io::Result<Outcome> {
    let (sender, completed) = mpsc::channel();
    disk.submit(lane, operation, Box::new(move |result| sender.send(result).unwrap()));
    completed.recv().expect("an operation was never completed")
}
