//! Finds names in the project's own sources, so that tests can compare them
//! with the lists that people read.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The first string literal of each call that begins with `opening`, in the
/// sources under `directories` other than tests and what tests are made of.
pub(crate) fn literals(directories: &[&str], opening: &str) -> BTreeSet<String> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the repository");
    let mut open: Vec<PathBuf> = directories.iter().map(|directory| repository.join(directory)).collect();
    let mut found = BTreeSet::new();
    while let Some(path) = open.pop() {
        let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        if ["tests", "sample", "sources"].contains(&name) {
            continue;
        }
        if path.is_dir() {
            open.extend(fs::read_dir(&path).expect("a readable directory").map(|it| it.expect("an entry").path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("readable source");
            let code: String = text.lines().map(without_comment).collect::<Vec<_>>().join("\n");
            let code = code.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            found.extend(code.split(opening).skip(1).filter_map(first_literal));
        }
    }
    assert!(!found.is_empty(), "nothing that begins with {opening} was found under {directories:?}");
    found
}

/// Names hold no slashes, so that two of them begin a comment or an address.
fn without_comment(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}

/// The literal that a call's text begins with or has as a later argument.
fn first_literal(call: &str) -> Option<String> {
    let arguments = call.split(';').next()?;
    let (_, after) = arguments.split_once('"')?;
    let (literal, _) = after.split_once('"')?;
    let is_name = literal.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    (is_name && !literal.is_empty()).then(|| literal.to_owned())
}
