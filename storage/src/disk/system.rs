//! The operating system's disk.
//!
//! ```text
//!   commit      ──► 1 thread    in order, woken at once: appends wait for it
//!   read        ──► 2 threads   in no order
//!   background  ──► 1 thread    in order
//! ```
//!
//! Owns the data directory: a lock file keeps other processes out for as long
//! as the value lives, and no path leads out of it.

mod file;
mod lanes;

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use self::file::{OpenFile, Refusal};
use self::lanes::{Lanes, Work};
use super::request::{check_file_path, check_path, check_position, check_read_length, check_rename, failed, invalid};
use super::{Access, AlignedBuffer, Completion, Disk, FileId, Lane, Operation};

/// Its lock keeps a second process out; it holds the first one's process id.
const LOCK_FILE: &str = "LOCK";

/// A [`Disk`] over a directory of the operating system; its lanes are threads.
pub struct SystemDisk {
    root: PathBuf,
    refusal: Arc<Refusal>,
    open: RwLock<OpenFiles>,
    /// Directories are made one at a time: their durability has several steps.
    making_directories: Mutex<()>,
    lanes: Lanes,
    /// Held, not used: closing it gives the directory free.
    _lock: File,
}

#[derive(Default)]
struct OpenFiles {
    files: BTreeMap<FileId, Arc<OpenFile>>,
    next: u64,
}

/// Why a data directory could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum OpenDiskError {
    /// Another process has it, or this one had opened it before.
    #[error("the data directory {} is in use by {}", root.display(), Holder(*pid))]
    InUse {
        /// The data directory.
        root: PathBuf,
        /// The process that has it, if its lock file tells.
        pid: Option<u32>,
    },
    /// The operating system refused.
    #[error("cannot open the data directory {}", root.display())]
    Io {
        /// The data directory.
        root: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

struct Holder(Option<u32>);

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(pid) => write!(f, "process {pid}"),
            None => f.write_str("another process"),
        }
    }
}

impl SystemDisk {
    /// Takes the data directory at `root` for this process, creating it if
    /// needed, and starts the lanes.
    ///
    /// # Errors
    /// [`OpenDiskError::InUse`] while another process has it.
    pub fn open(root: &Path) -> Result<Self, OpenDiskError> {
        let refused = |source| OpenDiskError::Io { root: root.to_owned(), source };
        create_root(root).map_err(refused)?;
        let lock = match take_lock(root).map_err(refused)? {
            Lock::Taken(lock) => lock,
            Lock::HeldBy(pid) => return Err(OpenDiskError::InUse { root: root.to_owned(), pid }),
        };
        Ok(Self {
            root: root.to_owned(),
            refusal: Arc::new(Refusal::new(root)),
            open: RwLock::default(),
            making_directories: Mutex::new(()),
            lanes: Lanes::start().map_err(refused)?,
            _lock: lock,
        })
    }

    fn absolute(&self, path: &str) -> PathBuf {
        if path.is_empty() { self.root.clone() } else { self.root.join(path) }
    }

    fn keep(&self, file: OpenFile) -> FileId {
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        let id = FileId(open.next);
        open.next += 1;
        open.files.insert(id, Arc::new(file));
        id
    }

    fn file(&self, id: FileId) -> io::Result<Arc<OpenFile>> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        open.files.get(&id).cloned().ok_or_else(|| invalid(format!("file {} is not open", id.0)))
    }

    /// What a lane is to do: the file is looked up now, so that closing it
    /// does not take it from under the operation.
    fn work(&self, operation: Operation) -> io::Result<Work> {
        Ok(match operation {
            Operation::Write { file, offset, buffer } => {
                check_position(offset, buffer.len())?;
                Work::Write { file: self.file(file)?, offset, buffer }
            }
            Operation::Sync { file } => Work::Sync { file: self.file(file)? },
            Operation::Read { file, offset, length } => {
                check_position(offset, length)?;
                check_read_length(length)?;
                Work::Read { file: self.file(file)?, offset, length }
            }
            Operation::Task(task) => Work::Task(task),
        })
    }
}

impl Disk for SystemDisk {
    fn open(&self, path: &str, access: Access) -> io::Result<FileId> {
        check_file_path(path)?;
        let file = OpenFile::open(path, &self.absolute(path), access, &self.refusal);
        Ok(self.keep(file.map_err(|error| failed("open", path, error))?))
    }

    fn create(&self, path: &str, access: Access) -> io::Result<FileId> {
        check_file_path(path)?;
        let file = OpenFile::create(path, &self.absolute(path), access, &self.refusal);
        Ok(self.keep(file.map_err(|error| failed("create", path, error))?))
    }

    fn close(&self, file: FileId) {
        self.open.write().unwrap_or_else(PoisonError::into_inner).files.remove(&file);
    }

    fn access(&self, file: FileId) -> io::Result<Access> {
        Ok(self.file(file)?.access())
    }

    fn length(&self, file: FileId) -> io::Result<u64> {
        self.file(file)?.length()
    }

    fn read_at(&self, file: FileId, offset: u64, buffer: &mut AlignedBuffer) -> io::Result<usize> {
        check_position(offset, buffer.len())?;
        self.file(file)?.read_at(offset, buffer)
    }

    fn write_at(&self, file: FileId, offset: u64, buffer: &AlignedBuffer) -> io::Result<()> {
        check_position(offset, buffer.len())?;
        self.file(file)?.write_at(offset, buffer)
    }

    fn sync(&self, file: FileId) -> io::Result<()> {
        self.file(file)?.sync()
    }

    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        check_path(directory)?;
        list(&self.absolute(directory)).map_err(|error| failed("list", directory, error))
    }

    fn create_directory(&self, path: &str) -> io::Result<()> {
        check_path(path)?;
        let _one_at_a_time = self.making_directories.lock().unwrap_or_else(PoisonError::into_inner);
        let ends = path.match_indices('/').map(|(end, _)| end).chain([path.len()]);
        for level in ends.map(|end| &path[..end]).filter(|level| !level.is_empty()) {
            create_directory(&self.absolute(level)).map_err(|error| failed("create the directory", path, error))?;
        }
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        check_file_path(path)?;
        fs::remove_file(self.absolute(path)).map_err(|error| failed("remove", path, error))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        check_rename(from, to)?;
        fs::rename(self.absolute(from), self.absolute(to)).map_err(|error| failed("rename", from, error))
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let free = rustix::fs::statvfs(&self.root).map_err(|error| failed("look at", "", error.into()))?;
        // Blocks for processes without privileges, in units of the fragment.
        Ok(free.f_bavail.saturating_mul(free.f_frsize))
    }

    fn sync_directory(&self, path: &str) -> io::Result<()> {
        check_path(path)?;
        sync_directory(&self.absolute(path)).map_err(|error| failed("sync the directory", path, error))
    }

    fn submit(&self, lane: Lane, operation: Operation, done: Completion) {
        self.lanes.submit(lane, self.work(operation).unwrap_or_else(Work::Refused), done);
    }
}

enum Lock {
    Taken(File),
    HeldBy(Option<u32>),
}

fn take_lock(root: &Path) -> io::Result<Lock> {
    let path = root.join(LOCK_FILE);
    let mut lock = File::options().create(true).truncate(false).read(true).write(true).open(path)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // A process id is short; whatever else is there is not one.
            let read = lock.take(32).read_to_string(&mut holder);
            return Ok(Lock::HeldBy(read.ok().and_then(|_| holder.trim().parse().ok())));
        }
        Err(TryLockError::Error(error)) => return Err(error),
    }
    // Only tells people who it is; the lock itself is the kernel's.
    lock.set_len(0)?;
    lock.rewind()?;
    writeln!(lock, "{}", std::process::id())?;
    Ok(Lock::Taken(lock))
}

/// Creates the data directory and those above it, each durable in its parent.
fn create_root(root: &Path) -> io::Result<()> {
    let root = std::path::absolute(root)?;
    let missing: Vec<&Path> = root.ancestors().take_while(|level| !level.exists()).collect();
    for level in missing.into_iter().rev() {
        create_directory(level)?;
    }
    // A process before this one may have created it and died.
    match root.parent().map_or(Ok(()), sync_directory) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {}
        synced => synced?,
    }
    if root.is_dir() { Ok(()) } else { Err(ErrorKind::NotADirectory.into()) }
}

/// Creates one directory, if it is not there, and makes its name durable in
/// any case.
fn create_directory(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => {}
        created => created?,
    }
    path.parent().map_or(Ok(()), sync_directory)
}

fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = File::open(path)?;
    if !directory.metadata()?.is_dir() {
        return Err(ErrorKind::NotADirectory.into());
    }
    directory.sync_all()
}

fn list(directory: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory)? {
        // A name that is not UTF-8 is none of ours, and cannot be opened here.
        names.extend(entry?.file_name().into_string().ok());
    }
    names.sort_unstable();
    Ok(names)
}

#[cfg(test)]
mod tests;
