//! The seam between our storage code and a disk: files by path, operations
//! submitted to lanes, completions.
//!
//! ```text
//!   caller ──submit(lane, operation, done)──► lane's queue (bounded)
//!                                               │ in order
//!   done(result) ◄── any thread, exactly once ──┘
//! ```
//!
//! Everything above it (journal, recovery, identity) runs unchanged over
//! [`SystemDisk`] and over [`MemoryDisk`], whose faults are drawn from a
//! seed. What the seam promises is what a disk really promises, no more:
//! nothing is durable before a sync returned, a name not before its
//! directory was synced, and after a failed sync nobody knows.

mod buffer;
pub mod conformance;
mod memory;
mod request;
mod system;
mod whole_file;

use std::fmt;
use std::io;

pub use buffer::{ALIGNMENT, AlignedBuffer};
pub use memory::MemoryDisk;
pub(crate) use request::is_unreadable;
pub use system::{OpenDiskError, SystemDisk};
pub use whole_file::{MAX_WHOLE_FILE_BYTES, read_whole_file, write_whole_file};

/// The handle of an open file, valid on the disk that gave it until closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(u64);

/// How a file's bytes travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Past the page cache (`O_DIRECT`). Where the file system refuses that,
    /// the disk falls back to [`Access::Buffered`] and says so once.
    Direct,
    /// Through the page cache.
    Buffered,
}

/// Files of one data directory.
///
/// Paths are relative to the data directory and `/`-separated; the empty path
/// is the data directory itself. A path that would leave it (`..`, a leading
/// `/`) is refused with [`io::ErrorKind::InvalidInput`].
///
/// Offsets and lengths of reads and writes are multiples of [`ALIGNMENT`],
/// however the file was opened; others are refused with `InvalidInput`.
///
/// Every error keeps its source and names the operation and the path.
pub trait Disk: Send + Sync + 'static {
    /// Opens the existing file at `path`.
    fn open(&self, path: &str, access: Access) -> io::Result<FileId>;

    /// Creates an empty file at `path`; fails with `AlreadyExists` if there is
    /// one. Its name is durable once its directory was synced.
    fn create(&self, path: &str, access: Access) -> io::Result<FileId>;

    /// Closes `file`. Operations submitted before still run.
    fn close(&self, file: FileId);

    /// How the bytes of `file` really travel, after any fallback.
    fn access(&self, file: FileId) -> io::Result<Access>;

    /// The length of `file` in bytes.
    fn length(&self, file: FileId) -> io::Result<u64>;

    /// Fills `buffer` from `offset` on; returns how many bytes there were,
    /// fewer than asked for only at the end of the file. Where the medium does
    /// not give them, the error is the operating system's own, as `EIO`.
    fn read_at(&self, file: FileId, offset: u64, buffer: &mut AlignedBuffer) -> io::Result<usize>;

    /// Writes the whole of `buffer` at `offset`, growing the file as needed.
    fn write_at(&self, file: FileId, offset: u64, buffer: &AlignedBuffer) -> io::Result<()>;

    /// Makes what was written to `file`, and its length, durable. After an
    /// error nobody knows what is durable: stop, never retry.
    fn sync(&self, file: FileId) -> io::Result<()>;

    /// The names in `directory`, sorted; files and directories alike.
    fn list(&self, directory: &str) -> io::Result<Vec<String>>;

    /// Creates the directory at `path`, and its parents; durable on return.
    /// Succeeds if it is there already.
    fn create_directory(&self, path: &str) -> io::Result<()>;

    /// Removes the file at `path`; durable once its directory was synced.
    fn remove(&self, path: &str) -> io::Result<()>;

    /// Renames a file, replacing any file at `to`; both are in the same
    /// directory. Atomic, and durable once that directory was synced.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// How many bytes the file system has left for this process; `u64::MAX` if
    /// it has no bound.
    fn free_bytes(&self) -> io::Result<u64>;

    /// Makes the names in the directory at `path` durable.
    fn sync_directory(&self, path: &str) -> io::Result<()>;

    /// Queues `operation`; `done` is called with its result exactly once, on
    /// any thread. [`Lane`] tells about order.
    ///
    /// `done` may submit the next operation; it must not wait for one. An
    /// operation that is refused because the lane's queue is full
    /// ([`io::ErrorKind::WouldBlock`]) or the disk is being closed is
    /// completed on the calling thread before `submit` returns, and its
    /// `done` must not submit in turn.
    fn submit(&self, lane: Lane, operation: Operation, done: Completion);
}

/// Who waits for an operation, and hence which queue it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Writes and syncs that appends wait for: one after another, in order.
    Commit,
    /// Reads: several at a time, in no order.
    Read,
    /// What nobody waits for: one after another, in order.
    Background,
}

impl Lane {
    /// All lanes.
    pub const ALL: [Self; 3] = [Self::Commit, Self::Read, Self::Background];

    /// How many operations may wait in this lane; another one is refused.
    pub const fn queue_bound(self) -> usize {
        match self {
            Self::Commit => 256,
            Self::Read => 4096,
            Self::Background => 1024,
        }
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Commit => "commit",
            Self::Read => "read",
            Self::Background => "background",
        })
    }
}

/// What a lane does for its submitter.
pub enum Operation {
    /// Writes the whole buffer, as [`Disk::write_at`] does.
    Write {
        /// Where to.
        file: FileId,
        /// A multiple of [`ALIGNMENT`].
        offset: u64,
        /// Given back by [`Outcome::Written`].
        buffer: AlignedBuffer,
    },
    /// Makes the file's bytes durable, as [`Disk::sync`] does.
    Sync {
        /// Which one.
        file: FileId,
    },
    /// Reads, as [`Disk::read_at`] does.
    Read {
        /// Where from.
        file: FileId,
        /// A multiple of [`ALIGNMENT`].
        offset: u64,
        /// A multiple of [`ALIGNMENT`], at most [`MAX_READ_BYTES`].
        length: usize,
    },
    /// Work of the submitter's own, such as flushing a [`Kv`](crate::Kv).
    Task(Box<dyn FnOnce() + Send>),
}

/// The longest read that can be submitted.
pub const MAX_READ_BYTES: usize = 128 * 1024 * 1024;

impl fmt::Debug for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write { file, offset, buffer } => {
                write!(f, "write of {} bytes at {offset} of file {}", buffer.len(), file.0)
            }
            Self::Sync { file } => write!(f, "sync of file {}", file.0),
            Self::Read { file, offset, length } => write!(f, "read of {length} bytes at {offset} of file {}", file.0),
            Self::Task(_) => f.write_str("task"),
        }
    }
}

/// What became of an [`Operation`].
#[derive(Debug)]
pub enum Outcome {
    /// The buffer that was written, for reuse.
    Written(AlignedBuffer),
    /// What had been written is durable.
    Synced,
    /// The bytes there were: shorter than asked for only at the file's end.
    Read(AlignedBuffer),
    /// The task returned.
    Ran,
}

/// Called with an operation's result, exactly once, on any thread.
pub type Completion = Box<dyn FnOnce(io::Result<Outcome>) + Send>;
