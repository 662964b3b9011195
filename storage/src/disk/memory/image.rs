//! A [`MemoryDisk`](super::MemoryDisk)'s files and names, and what a power
//! cut leaves of them. Pure: errors here are those of a file system, and all
//! choices come from the random numbers that are passed in.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};

use rand::RngExt;
use rand::rngs::StdRng;

use super::super::request;
use super::file::File;

/// What a name stands for, whatever it is called at the moment.
pub(super) type Inode = u64;

/// All files and names.
#[derive(Clone, Debug)]
pub(super) struct Image {
    files: BTreeMap<Inode, File>,
    directories: BTreeMap<String, Directory>,
    next_inode: Inode,
}

/// Names of files as the process sees them, as the medium has them, and the
/// steps from the latter to the former. Steps reach the medium in order, as
/// they do in a file system that keeps a journal.
#[derive(Clone, Debug, Default)]
struct Directory {
    live: Names,
    durable: Names,
    pending: Vec<Step>,
}

type Names = BTreeMap<String, Inode>;

/// Names set or taken away together.
type Step = Vec<(String, Option<Inode>)>;

impl Image {
    pub(super) fn new() -> Self {
        Self {
            files: BTreeMap::new(),
            directories: BTreeMap::from([(String::new(), Directory::default())]),
            next_inode: 0,
        }
    }

    pub(super) fn find(&self, path: &str) -> io::Result<Inode> {
        let (directory, name) = request::split(path);
        if self.directories.contains_key(path) {
            return Err(ErrorKind::IsADirectory.into());
        }
        self.directory(directory)?.live.get(name).copied().ok_or_else(|| ErrorKind::NotFound.into())
    }

    pub(super) fn file(&self, inode: Inode) -> &File {
        self.files.get(&inode).expect("a file with a name or a handle is kept")
    }

    pub(super) fn file_mut(&mut self, inode: Inode) -> &mut File {
        self.files.get_mut(&inode).expect("a file with a name or a handle is kept")
    }

    /// The paths of all files, sorted.
    pub(super) fn list_files(&self) -> Vec<String> {
        let within = |(path, directory): (&String, &Directory)| -> Vec<String> {
            let join = |name: &String| if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
            directory.live.keys().map(join).collect()
        };
        let mut paths: Vec<String> = self.directories.iter().flat_map(within).collect();
        paths.sort_unstable();
        paths
    }

    /// The bytes of all files together.
    pub(super) fn size(&self) -> usize {
        self.files.values().map(|file| file.bytes().len()).sum()
    }

    pub(super) fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        let names = self.directory(directory)?.live.keys().cloned();
        let within = self.directories.keys().filter(|path| !path.is_empty());
        let within = within.map(|path| request::split(path)).filter(|(parent, _)| *parent == directory);
        let mut all: Vec<String> = names.chain(within.map(|(_, name)| name.to_owned())).collect();
        all.sort_unstable();
        Ok(all)
    }

    pub(super) fn create(&mut self, path: &str) -> io::Result<Inode> {
        let (directory, name) = request::split(path);
        let inode = self.next_inode;
        if self.directories.contains_key(path) || self.directory(directory)?.live.contains_key(name) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        self.directory_mut(directory)?.step(vec![(name.to_owned(), Some(inode))]);
        self.files.insert(inode, File::default());
        self.next_inode += 1;
        Ok(inode)
    }

    pub(super) fn remove(&mut self, path: &str) -> io::Result<()> {
        self.find(path)?;
        let (directory, name) = request::split(path);
        self.directory_mut(directory)?.step(vec![(name.to_owned(), None)]);
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let inode = self.find(from)?;
        if self.directories.contains_key(to) {
            return Err(ErrorKind::IsADirectory.into());
        }
        let ((directory, from), (_, to)) = (request::split(from), request::split(to));
        if from != to {
            self.directory_mut(directory)?.step(vec![(from.to_owned(), None), (to.to_owned(), Some(inode))]);
        }
        Ok(())
    }

    /// Creates a directory and its parents, durably.
    pub(super) fn create_directory(&mut self, path: &str) -> io::Result<()> {
        let ends = path.match_indices('/').map(|(end, _)| end).chain([path.len()]);
        for level in ends.map(|end| &path[..end]) {
            if self.find(level).is_ok() {
                return Err(ErrorKind::NotADirectory.into());
            }
            self.directories.entry(level.to_owned()).or_default();
        }
        Ok(())
    }

    pub(super) fn sync_directory(&mut self, path: &str) -> io::Result<()> {
        let directory = self.directory_mut(path)?;
        directory.durable.clone_from(&directory.live);
        directory.pending.clear();
        Ok(())
    }

    /// Forgets the files that have no name, live or durable, and are not open.
    pub(super) fn forget_unnamed(&mut self, open: &BTreeSet<Inode>) {
        let mut named = open.clone();
        for directory in self.directories.values() {
            named.extend(directory.live.values().chain(directory.durable.values()));
            named.extend(directory.pending.iter().flatten().filter_map(|(_, inode)| *inode));
        }
        self.files.retain(|inode, _| named.contains(inode));
    }

    /// What is left after a power cut, as `chance` has it.
    pub(super) fn after_power_cut(&self, chance: &mut StdRng) -> Self {
        let mut left = Self::new();
        left.next_inode = self.next_inode;
        for (path, directory) in &self.directories {
            let names = directory.after_power_cut(chance);
            left.directories
                .insert(path.clone(), Directory { live: names.clone(), durable: names, pending: Vec::new() });
        }
        left.files = self.files.iter().map(|(inode, file)| (*inode, file.after_power_cut(chance))).collect();
        left.forget_unnamed(&BTreeSet::new());
        left
    }

    fn directory(&self, path: &str) -> io::Result<&Directory> {
        self.directories.get(path).ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn directory_mut(&mut self, path: &str) -> io::Result<&mut Directory> {
        self.directories.get_mut(path).ok_or_else(|| ErrorKind::NotFound.into())
    }
}

impl Directory {
    fn step(&mut self, step: Step) {
        apply(&mut self.live, &step);
        self.pending.push(step);
    }

    fn after_power_cut(&self, chance: &mut StdRng) -> Names {
        let landed = match chance.random_range(0..4) {
            0 => 0,
            1 => self.pending.len(),
            _ => chance.random_range(0..=self.pending.len()),
        };
        let mut names = self.durable.clone();
        for step in &self.pending[..landed] {
            apply(&mut names, step);
        }
        names
    }
}

fn apply(names: &mut Names, step: &Step) {
    for (name, inode) in step {
        match inode {
            Some(inode) => names.insert(name.clone(), *inode),
            None => names.remove(name),
        };
    }
}
