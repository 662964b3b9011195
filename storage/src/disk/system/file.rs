//! An open file of the operating system, with or without `O_DIRECT`.
//!
//! File systems refuse `O_DIRECT` either when a file is opened (`EINVAL`) or
//! only when it is read or written. In both cases the file goes on through the
//! page cache, which costs speed and no promise: a sync means the same.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use super::super::request::failed;
use super::super::{ALIGNMENT, Access, AlignedBuffer};

/// Says, once for a data directory, that its file system refuses `O_DIRECT`.
pub(super) struct Refusal {
    root: PathBuf,
    said: AtomicBool,
}

impl Refusal {
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), said: AtomicBool::new(false) }
    }

    fn say(&self) {
        if !self.said.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                data_directory = %self.root.display(),
                "the file system refuses O_DIRECT: writing through the page cache, which is as safe and slower"
            );
        }
    }
}

pub(super) struct OpenFile {
    /// As the caller named it; for errors.
    path: String,
    file: File,
    asked: Access,
    direct: AtomicBool,
    refusal: Arc<Refusal>,
}

impl OpenFile {
    pub(super) fn open(path: &str, absolute: &Path, access: Access, refusal: &Arc<Refusal>) -> io::Result<Self> {
        Self::with(File::options().read(true).write(true), path, absolute, access, refusal)
    }

    pub(super) fn create(path: &str, absolute: &Path, access: Access, refusal: &Arc<Refusal>) -> io::Result<Self> {
        Self::with(File::options().read(true).write(true).create_new(true), path, absolute, access, refusal)
    }

    fn with(
        options: &mut OpenOptions,
        path: &str,
        absolute: &Path,
        access: Access,
        refusal: &Arc<Refusal>,
    ) -> io::Result<Self> {
        let (file, direct) = match access {
            Access::Buffered => (options.open(absolute)?, false),
            Access::Direct => match options.custom_flags(OFlags::DIRECT.bits().cast_signed()).open(absolute) {
                Err(error) if refuses_direct(&error) => {
                    refusal.say();
                    (open_refused(options.custom_flags(0), absolute)?, false)
                }
                opened => (opened?, true),
            },
        };
        if !file.metadata()?.is_file() {
            return Err(ErrorKind::IsADirectory.into());
        }
        let (path, direct) = (path.to_owned(), AtomicBool::new(direct));
        Ok(Self { path, file, asked: access, direct, refusal: Arc::clone(refusal) })
    }

    pub(super) fn access(&self) -> Access {
        if self.direct.load(Ordering::Relaxed) { Access::Direct } else { Access::Buffered }
    }

    pub(super) fn length(&self) -> io::Result<u64> {
        let metadata = self.file.metadata().map_err(|error| failed("measure", &self.path, error))?;
        Ok(metadata.len())
    }

    pub(super) fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.falling_back(|| fill(&self.file, offset, buffer));
        read.map_err(|error| failed("read", &self.path, error))
    }

    pub(super) fn write_at(&self, offset: u64, buffer: &AlignedBuffer) -> io::Result<()> {
        let written = self.falling_back(|| self.file.write_all_at(buffer, offset));
        written.map_err(|error| failed("write", &self.path, error))
    }

    /// An error here is final: the kernel may have dropped what it could not
    /// write, and would call the next sync a success.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data().map_err(|error| failed("sync", &self.path, error))
    }

    /// Runs `transfer`, and once more through the page cache if it was refused
    /// for `O_DIRECT`.
    fn falling_back<T>(&self, mut transfer: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        match transfer() {
            Err(error) if self.asked == Access::Direct && refuses_direct(&error) => {
                let flags = fcntl_getfl(&self.file)?;
                fcntl_setfl(&self.file, flags - OFlags::DIRECT)?;
                self.direct.store(false, Ordering::Relaxed);
                self.refusal.say();
                transfer()
            }
            transferred => transferred,
        }
    }
}

/// Opens a file without `O_DIRECT` after the attempt with it was refused. Some
/// file systems refuse only after having created the file.
fn open_refused(options: &mut OpenOptions, absolute: &Path) -> io::Result<File> {
    match options.open(absolute) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => options.create_new(false).open(absolute),
        opened => opened,
    }
}

fn refuses_direct(error: &io::Error) -> bool {
    let errno = rustix::io::Errno::from_io_error(error);
    matches!(errno, Some(rustix::io::Errno::INVAL | rustix::io::Errno::OPNOTSUPP))
}

/// Reads until `buffer` is full or the file ends; returns how much there was.
fn fill(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        let read = match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            read => read?,
        };
        filled += read;
        // Only the end of the file cuts a block; going on from inside one
        // would be refused.
        if read == 0 || !filled.is_multiple_of(ALIGNMENT) {
            break;
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_that_cannot_be_opened_with_direct_access_is_opened_without() {
        // procfs takes no O_DIRECT, on any kernel.
        let refusal = Arc::new(Refusal::new(Path::new("/proc")));
        let file = OpenFile::open("comm", Path::new("/proc/self/comm"), Access::Direct, &refusal).unwrap();
        assert_eq!(file.access(), Access::Buffered);
        assert!(refusal.said.load(Ordering::Relaxed), "nobody was told");
    }

    #[test]
    fn file_whose_direct_transfer_is_refused_goes_on_without() {
        let directory = tempfile::tempdir().unwrap();
        let refusal = Arc::new(Refusal::new(directory.path()));
        let file = OpenFile::create("a", &directory.path().join("a"), Access::Direct, &refusal).unwrap();
        let mut attempts = 0;
        let transferred = file.falling_back(|| {
            attempts += 1;
            if attempts == 1 { Err(rustix::io::Errno::INVAL.into()) } else { Ok(()) }
        });
        assert!(transferred.is_ok() && attempts == 2);
        assert_eq!(file.access(), Access::Buffered);
        assert!(!fcntl_getfl(&file.file).unwrap().contains(OFlags::DIRECT));
        assert!(refusal.said.load(Ordering::Relaxed), "nobody was told");
        file.write_at(0, &AlignedBuffer::zeroed(ALIGNMENT)).unwrap();
    }

    #[test]
    fn other_errors_are_not_tried_again() {
        let directory = tempfile::tempdir().unwrap();
        let refusal = Arc::new(Refusal::new(directory.path()));
        let file = OpenFile::create("a", &directory.path().join("a"), Access::Direct, &refusal).unwrap();
        let mut attempts = 0;
        let transferred: io::Result<()> = file.falling_back(|| {
            attempts += 1;
            Err(rustix::io::Errno::IO.into())
        });
        assert!(transferred.is_err() && attempts == 1);
    }
}
