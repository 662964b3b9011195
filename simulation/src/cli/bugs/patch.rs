//! A defect as a patch, with what is said of it above the first hunk:
//!
//! ```text
//! # about: an append is acknowledged before it is fsynced
//! # needs: trimming              listed and left out until there is such a thing
//! # vendor: openraft             patches a copy of that crate at vendor/openraft
//! diff --git a/storage/src/journal/driver.rs b/storage/src/journal/driver.rs
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// A defect as a patch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Patch {
    /// The file's name, without its ending.
    pub(crate) name: String,
    pub(crate) file: PathBuf,
    /// What it breaks.
    pub(crate) about: String,
    /// What has to be there before it can break.
    pub(crate) needs: Option<String>,
    /// The dependency that it patches, if it is none of our own crates.
    pub(crate) vendor: Option<String>,
}

/// The patches of a directory, by name. None if there is no such directory.
pub(crate) fn all(directory: &Path) -> anyhow::Result<Vec<Patch>> {
    let mut patches = Vec::new();
    let gone = || format!("cannot read {}, where this program was built", directory.display());
    for entry in fs::read_dir(directory).with_context(gone)? {
        let file = entry?.path();
        if file.extension().is_some_and(|extension| extension == "patch") {
            let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
            let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            patches.push(Patch { name, file, ..parse(&text) });
        }
    }
    patches.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(patches)
}

fn parse(text: &str) -> Patch {
    let mut patch = Patch::default();
    let header = text.lines().map_while(|line| line.strip_prefix('#').map(str::trim));
    for (key, value) in header.filter_map(|line| line.split_once(':')) {
        let value = value.trim().to_owned();
        match key {
            "about" => patch.about = value,
            "needs" => patch.needs = Some(value),
            "vendor" => patch.vendor = Some(value),
            _ => {}
        }
    }
    patch
}

#[cfg(test)]
mod tests {
    use super::{Patch, parse};

    #[test]
    fn the_header_ends_where_the_patch_begins() {
        let text = "# about: a vote is not fsynced\n# vendor: openraft\n--- a/x\n+++ b/x\n# needs: nothing\n";
        let expect = Patch {
            about: "a vote is not fsynced".to_owned(),
            vendor: Some("openraft".to_owned()),
            ..Patch::default()
        };
        assert_eq!(parse(text), expect);
    }
}
