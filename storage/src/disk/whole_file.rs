//! Small files that are written whole or not at all: the identity, the
//! journal's manifest.
//!
//! ```text
//!   write NAME.new ─► sync it ─► rename to NAME ─► sync the directory
//! ```
//!
//! A crash at any step leaves the old content or the new one, and at worst a
//! `NAME.new` that the next write takes over. The file is padded with zeros
//! to [`ALIGNMENT`](super::ALIGNMENT), so its content has to tell its own
//! length.

use std::io;

use super::{Access, AlignedBuffer, Disk, FileId};

/// The longest file that is read or written whole, in bytes.
pub const MAX_WHOLE_FILE_BYTES: usize = 16 * 1024 * 1024;

/// Replaces the file at `path` by `content`; durable on return. After an
/// error the old content is still there, or the new one already.
///
/// # Errors
/// `FileTooLarge` above [`MAX_WHOLE_FILE_BYTES`], and whatever the disk says.
pub fn write_whole_file(disk: &dyn Disk, path: &str, content: &[u8]) -> io::Result<()> {
    if content.len() > MAX_WHOLE_FILE_BYTES {
        return Err(too_large(path, content.len() as u64));
    }
    let fresh = format!("{path}.new");
    match disk.remove(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = disk.create(&fresh, Access::Buffered)?;
    let written = disk.write_at(file, 0, &AlignedBuffer::padded(content)).and_then(|()| disk.sync(file));
    disk.close(file);
    written?;
    disk.rename(&fresh, path)?;
    let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
    disk.sync_directory(directory)
}

/// The content of the file at `path`, with its padding; `None` if there is no
/// such file.
///
/// # Errors
/// `FileTooLarge` above [`MAX_WHOLE_FILE_BYTES`], and whatever the disk says.
pub fn read_whole_file(disk: &dyn Disk, path: &str) -> io::Result<Option<AlignedBuffer>> {
    let file = match disk.open(path, Access::Buffered) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let content = read_all(disk, path, file);
    disk.close(file);
    content.map(Some)
}

fn read_all(disk: &dyn Disk, path: &str, file: FileId) -> io::Result<AlignedBuffer> {
    let length = disk.length(file)?;
    let fitting = usize::try_from(length).ok().filter(|length| *length <= MAX_WHOLE_FILE_BYTES);
    let Some(fitting) = fitting else { return Err(too_large(path, length)) };
    let mut content = AlignedBuffer::zeroed(fitting);
    // The file may be shorter than it was written: reads are of whole blocks.
    content.pad();
    let read = disk.read_at(file, 0, &mut content)?;
    content.resize(read);
    Ok(content)
}

fn too_large(path: &str, length: u64) -> io::Error {
    io::Error::new(
        io::ErrorKind::FileTooLarge,
        format!("{path} has {length} bytes, more than the {MAX_WHOLE_FILE_BYTES} that are read or written whole"),
    )
}
