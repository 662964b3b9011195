//! The files of a node's journal, and what can befall their bytes.
//!
//! Knows their names and what a frame begins with, and else nothing of what is in
//! them: a value is found by its own bytes. What is written here is seen at once by a node that runs, since
//! it reads past the page cache.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// What a frame begins with, as storage/src/journal/format.rs describes it, and
/// the bytes to a multiple of which frames are padded.
const FRAME_MAGIC: &[u8] = b"QFRM";
const FRAME_ALIGNMENT: usize = 8;
/// Where a frame's header names its group.
const GROUP: usize = 24;

/// The segments of a journal, by number.
pub struct Segments {
    files: Vec<(u64, PathBuf)>,
}

impl Segments {
    /// Those in a data directory as of now.
    pub fn of(data: &Path) -> Self {
        let mut files = Vec::new();
        for entry in fs::read_dir(data.join("journal")).expect("a journal") {
            let path = entry.expect("a file").path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if let Some(number) = name.strip_suffix(".segment").and_then(|number| number.parse().ok()) {
                files.push((number, path));
            }
        }
        files.sort();
        Self { files }
    }

    /// The number of the newest segment that `value` lies in.
    pub fn of_value(&self, value: &[u8]) -> Option<u64> {
        self.places(value).last().map(|(number, _, _)| *number)
    }

    /// Flips a bit in the middle of `value`, wherever it lies.
    ///
    /// # Panics
    /// When it lies nowhere.
    pub fn flip(&self, value: &[u8]) {
        self.flip_beside(value, |_, at| at + value.len() / 2);
    }

    /// Flips a bit in the header of the frame that holds `value`, wherever it
    /// lies.
    ///
    /// # Panics
    /// When it lies nowhere, or no header before it.
    pub fn flip_header_of(&self, value: &[u8]) {
        self.flip_beside(value, |content, at| {
            let mut aligned = (0..at).rev().filter(|byte| byte % FRAME_ALIGNMENT == 0);
            let frame = aligned.find(|byte| content[*byte..].starts_with(FRAME_MAGIC));
            frame.expect("a value lies in a frame") + GROUP
        });
    }

    fn flip_beside(&self, value: &[u8], which: impl Fn(&[u8], usize) -> usize) {
        let places = self.places(value);
        assert!(!places.is_empty(), "the value is in no segment");
        for (_, path, at) in places {
            let file = File::options().read(true).write(true).open(path).expect("a segment file");
            let mut content = vec![0; at];
            file.read_exact_at(&mut content, 0).expect("readable");
            content.extend(value);
            let byte = which(&content, at);
            file.write_all_at(&[content[byte] ^ 4], byte as u64).expect("written");
            file.sync_all().expect("synced");
        }
    }

    /// The file of the oldest one.
    pub fn oldest(&self) -> &Path {
        &self.files.first().expect("a segment").1
    }

    /// Where `value` lies: number, file, byte; oldest first.
    fn places(&self, value: &[u8]) -> Vec<(u64, &Path, usize)> {
        let mut places = Vec::new();
        for (number, path) in &self.files {
            // One that was let go of meanwhile has another name.
            let Ok(content) = fs::read(path) else { continue };
            let found = content.windows(value.len()).enumerate().filter(|(_, window)| *window == value);
            places.extend(found.map(|(at, _)| (*number, path.as_path(), at)));
        }
        places
    }
}
