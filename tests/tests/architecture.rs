//! Keeps what ARCHITECTURE.md says of the crates true: who may import whom,
//! and that each engine is known to one crate alone.
//!
//! Reads manifests and sources as text; builds nothing.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Each crate's directory, its name, and which of our crates it may import.
const CRATES: &[(&str, &str, &[&str])] = &[
    ("sdk/protocol", "quipu-protocol", &[]),
    ("storage", "quipu-storage", &["quipu-protocol"]),
    ("raft", "quipu-raft", &["quipu-protocol", "quipu-storage"]),
    ("sdk", "quipu-sdk", &["quipu-protocol"]),
    ("server", "quipu-server", &["quipu-protocol", "quipu-storage", "quipu-raft", "quipu-sdk"]),
    ("simulation", "quipu-simulation", &["quipu-protocol", "quipu-storage", "quipu-raft", "quipu-sdk", "quipu-server"]),
    ("fuzz", "quipu-fuzz", &["quipu-protocol", "quipu-storage", "quipu-raft", "quipu-sdk", "quipu-server"]),
    // Real processes are reached as a stranger would reach them.
    ("tests", "quipu-tests", &["quipu-protocol", "quipu-sdk"]),
];

/// Engines and the directory that may name them.
const ENGINES: &[(&str, &str)] = &[
    ("rocksdb", "storage"),
    ("openraft", "raft"),
    ("openraft_rt", "raft"),
    ("openraft_rt_tokio", "raft"),
    ("turmoil", "simulation"),
];

#[test]
fn crates_import_only_what_lies_below_them() {
    for (directory, name, allowed) in CRATES {
        let mut manifest = manifest(directory);
        // A crate's tests may borrow from above it, the real environment say.
        manifest.remove("dev-dependencies");
        assert_eq!(manifest["package"]["name"].as_str(), Some(*name), "the name of the crate in {directory}/");
        let imported: BTreeSet<String> =
            dependencies(&manifest).into_iter().filter(|d| d.starts_with("quipu-")).collect();
        let allowed: BTreeSet<String> = allowed.iter().map(|&a| a.to_owned()).collect();
        let surplus: Vec<&String> = imported.difference(&allowed).collect();
        assert!(surplus.is_empty(), "{name} imports {surplus:?}, which ARCHITECTURE.md does not let it");
    }
}

#[test]
fn every_crate_of_the_workspace_has_its_place_in_the_order() {
    let workspace = manifest(".");
    let members: BTreeSet<&str> =
        workspace["workspace"]["members"].as_array().expect("members").iter().filter_map(toml::Value::as_str).collect();
    let placed: BTreeSet<&str> = CRATES.iter().map(|(directory, ..)| *directory).collect();
    assert_eq!(members, placed, "the workspace's members and the crates that this test knows");
}

#[test]
fn each_engine_is_named_in_its_home_alone() {
    for (engine, home) in ENGINES {
        for (directory, name, _) in CRATES.iter().filter(|(directory, ..)| directory != home) {
            let package = engine.replace('_', "-");
            assert!(
                !dependencies(&manifest(directory)).contains(&package),
                "{name} depends on {package}, which belongs to {home}/ alone"
            );
        }
    }
    for (path, source) in sources() {
        let home_of = |engine: &str| ENGINES.iter().find(|(e, _)| *e == engine).map(|(_, home)| *home);
        for (number, line) in source.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for (left, _) in code.match_indices("::").chain(code.match_indices(';')) {
                let named = identifier_ending_at(code, left);
                if let Some(home) = home_of(named) {
                    assert!(
                        path.starts_with(home),
                        "{}:{}: names {named}, which is known to {home}/ alone: {line}",
                        path.display(),
                        number + 1
                    );
                }
            }
        }
    }
}

#[test]
fn every_crate_forbids_unsafe_code() {
    for (directory, name, _) in CRATES {
        let root = repository().join(directory).join("src/lib.rs");
        let source = fs::read_to_string(&root).expect("the crate's root");
        assert!(
            source.contains("#![forbid(unsafe_code)]"),
            "{name} lacks #![forbid(unsafe_code)] in {}",
            root.display()
        );
    }
}

#[test]
fn no_file_has_a_name_that_says_nothing() {
    const SAY_NOTHING: &[&str] = &["util", "utils", "common", "helper", "helpers", "misc", "manager"];
    for (path, _) in sources() {
        let vague = path.components().find(|c| {
            Path::new(c.as_os_str()).file_stem().and_then(|s| s.to_str()).is_some_and(|s| SAY_NOTHING.contains(&s))
        });
        assert!(vague.is_none(), "{}: name the concept that it holds", path.display());
    }
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the repository").to_owned()
}

fn manifest(directory: &str) -> toml::Table {
    let path = repository().join(directory).join("Cargo.toml");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The names under every kind of dependency table.
fn dependencies(manifest: &toml::Table) -> BTreeSet<String> {
    ["dependencies", "dev-dependencies", "build-dependencies"]
        .into_iter()
        .filter_map(|kind| manifest.get(kind)?.as_table())
        .flat_map(|table| table.keys().cloned())
        .collect()
}

/// Our Rust sources, by path relative to the repository.
fn sources() -> BTreeMap<PathBuf, String> {
    let repository = repository();
    let mut found = BTreeMap::new();
    let mut open: Vec<PathBuf> = CRATES.iter().map(|(directory, ..)| repository.join(directory)).collect();
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).expect("a readable directory") {
            let path = entry.expect("a directory's entry").path();
            if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("readable source");
                found.insert(path.strip_prefix(&repository).expect("inside").to_owned(), text);
            }
        }
    }
    assert!(found.len() > CRATES.len(), "the sources were not found under {}", repository.display());
    found
}

/// The identifier that ends right before byte `end`, unless it is itself part
/// of a longer path.
fn identifier_ending_at(code: &str, end: usize) -> &str {
    let before = &code[..end];
    let start = before.rfind(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).map_or(0, |i| i + 1);
    if before[..start].ends_with("::") { "" } else { &before[start..] }
}
