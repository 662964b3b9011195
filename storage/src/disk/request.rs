//! What every disk checks before it does anything, and how its errors read.

use std::io;

use rustix::io::Errno;

use super::{ALIGNMENT, Lane, MAX_READ_BYTES};

/// The longest path, in bytes.
const MAX_PATH_BYTES: usize = 1024;

/// Refuses a path that could leave the data directory. The empty path is the
/// data directory itself.
pub(super) fn check_path(path: &str) -> io::Result<()> {
    let inside = path.is_empty() || path.split('/').all(|part| !matches!(part, "" | "." | ".."));
    if !inside || path.contains('\0') || path.len() > MAX_PATH_BYTES {
        return Err(invalid(format!("{path:?} is no path inside the data directory")));
    }
    Ok(())
}

/// Refuses a path that cannot be a file's.
pub(super) fn check_file_path(path: &str) -> io::Result<()> {
    check_path(path)?;
    if path.is_empty() { Err(invalid("the data directory itself is no file")) } else { Ok(()) }
}

/// Refuses a rename between directories: no file system makes both ends
/// durable at once.
pub(super) fn check_rename(from: &str, to: &str) -> io::Result<()> {
    check_file_path(from)?;
    check_file_path(to)?;
    if split(from).0 == split(to).0 {
        Ok(())
    } else {
        Err(invalid(format!("cannot rename {from} to {to}: they are in different directories")))
    }
}

/// Refuses a position that `O_DIRECT` would not take, whatever the access.
pub(super) fn check_position(offset: u64, length: usize) -> io::Result<()> {
    let aligned = offset.is_multiple_of(ALIGNMENT as u64) && length.is_multiple_of(ALIGNMENT);
    let addressable = offset.checked_add(length as u64).is_some_and(|end| i64::try_from(end).is_ok());
    if aligned && addressable {
        Ok(())
    } else {
        Err(invalid(format!("{length} bytes at {offset}: both have to be multiples of {ALIGNMENT}, and below 2^63")))
    }
}

/// Refuses a read longer than memory is set aside for.
pub(super) fn check_read_length(length: usize) -> io::Result<()> {
    if length <= MAX_READ_BYTES {
        Ok(())
    } else {
        Err(invalid(format!("a read of {length} bytes is above the bound of {MAX_READ_BYTES}")))
    }
}

/// A path's directory and name.
pub(super) fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

pub(super) fn invalid(reason: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, reason.into())
}

/// Why an operation was not queued.
pub(super) fn queue_is_full(lane: Lane) -> io::Error {
    let bound = lane.queue_bound();
    io::Error::new(io::ErrorKind::WouldBlock, format!("{bound} operations wait in the {lane} lane, its bound"))
}

/// `source` with what was being done to which path; keeps its kind.
pub(super) fn failed(operation: &'static str, path: &str, source: io::Error) -> io::Error {
    let path = if path.is_empty() { "the data directory" } else { path }.to_owned();
    io::Error::new(source.kind(), Failed { operation, path, source })
}

/// Whether a read failed for what lies on the medium: asked once more, other bytes
/// of the file may still be read.
pub(crate) fn is_unreadable(error: &io::Error) -> bool {
    let source = error.get_ref().and_then(|inner| inner.downcast_ref::<Failed>()).map(|failed| &failed.source);
    let errno = Errno::from_io_error(source.unwrap_or(error));
    // What file systems and drives say of a bad sector, or of a checksum of theirs.
    let known = [Errno::IO, Errno::REMOTEIO, Errno::NODATA, Errno::BADMSG, Errno::UCLEAN, Errno::ILSEQ];
    errno.is_some_and(|errno| known.contains(&errno))
}

#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {path}")]
struct Failed {
    operation: &'static str,
    path: String,
    source: io::Error,
}

#[cfg(test)]
mod tests {
    use std::error::Error;
    use std::io;

    use super::{check_file_path, check_path, failed};

    #[test]
    fn no_path_leaves_the_data_directory() {
        for path in ["/etc/passwd", "..", "a/../../b", "a//b", "a/", "./a", "a/.", "a\0b", &"x".repeat(2000)] {
            assert!(check_path(path).is_err(), "{path:?} was let through");
        }
        for path in ["", "a", "a/b", "journal/00000001.segment", "...", "a..b"] {
            assert!(check_path(path).is_ok(), "{path:?} was refused");
        }
        assert!(check_file_path("").is_err());
    }

    #[test]
    fn an_error_names_the_path_and_keeps_its_source() {
        let error = failed("write", "journal/1", io::Error::from_raw_os_error(28));
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(error.to_string(), "cannot write journal/1");
        let source = error.source().expect("a source").downcast_ref::<io::Error>().expect("an io::Error");
        assert_eq!(source.raw_os_error(), Some(28));
    }
}
