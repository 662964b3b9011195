//! The operating system's disk.

use std::io;
use std::path::{Path, PathBuf};

use super::{Access, AlignedBuffer, Completion, Disk, FileId, Lane, Operation};

/// A [`Disk`] over a directory of the operating system; its lanes are threads.
pub struct SystemDisk {}

/// Why a data directory could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum OpenDiskError {
    /// Another process has it.
    #[error("the data directory {} is in use{}", root.display(), match pid { Some(pid) => format!(" by process {pid}"), None => " by another process".into() })]
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

impl SystemDisk {
    /// Takes the data directory at `root` for this process, creating it if
    /// needed, and starts the lanes.
    ///
    /// # Errors
    /// [`OpenDiskError::InUse`] while another process has it.
    pub fn open(_root: &Path) -> Result<Self, OpenDiskError> {
        todo!()
    }
}

impl Disk for SystemDisk {
    fn open(&self, _path: &str, _access: Access) -> io::Result<FileId> {
        todo!()
    }
    fn create(&self, _path: &str, _access: Access) -> io::Result<FileId> {
        todo!()
    }
    fn close(&self, _file: FileId) {
        todo!()
    }
    fn access(&self, _file: FileId) -> io::Result<Access> {
        todo!()
    }
    fn length(&self, _file: FileId) -> io::Result<u64> {
        todo!()
    }
    fn read_at(&self, _file: FileId, _offset: u64, _buffer: &mut AlignedBuffer) -> io::Result<usize> {
        todo!()
    }
    fn write_at(&self, _file: FileId, _offset: u64, _buffer: &AlignedBuffer) -> io::Result<()> {
        todo!()
    }
    fn sync(&self, _file: FileId) -> io::Result<()> {
        todo!()
    }
    fn list(&self, _directory: &str) -> io::Result<Vec<String>> {
        todo!()
    }
    fn create_directory(&self, _path: &str) -> io::Result<()> {
        todo!()
    }
    fn remove(&self, _path: &str) -> io::Result<()> {
        todo!()
    }
    fn rename(&self, _from: &str, _to: &str) -> io::Result<()> {
        todo!()
    }
    fn sync_directory(&self, _path: &str) -> io::Result<()> {
        todo!()
    }
    fn submit(&self, _lane: Lane, _operation: Operation, _done: Completion) {
        todo!()
    }
}
