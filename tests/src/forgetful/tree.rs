//! What a forgetful disk holds: files and directories as they are, and what of
//! that outlives the loss of power.
//!
//! | what | outlives it once |
//! |---|---|
//! | bytes and length of a file | the file was fsynced or fdatasynced |
//! | that a name is there, gone or another file's | its directory was fsynced |
//!
//! Nothing else does: harsher than most file systems, and no harsher than what
//! POSIX promises. Pure; [`super`] serves it to the kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};

/// A file's or a directory's number.
pub(super) type Number = u64;

/// The directory above all.
pub(super) const ROOT: Number = 1;

/// Why something was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    NotFound,
    Exists,
    NotADirectory,
    IsADirectory,
    NotEmpty,
    NoSpace,
}

/// What is under a number.
#[derive(Debug)]
pub(super) enum Node {
    File(File),
    Directory(Directory),
}

/// A file's bytes, and how to take back what was not synced.
#[derive(Debug, Default)]
pub(super) struct File {
    pub(super) bytes: Vec<u8>,
    /// The newest change last.
    unsynced: Vec<Undo>,
}

/// How to take one change of a file back.
#[derive(Debug)]
struct Undo {
    length: usize,
    offset: usize,
    bytes: Vec<u8>,
}

#[derive(Debug, Default)]
pub(super) struct Directory {
    pub(super) names: BTreeMap<OsString, Number>,
    synced: BTreeMap<OsString, Number>,
}

/// All of a disk.
#[derive(Debug)]
pub(super) struct Tree {
    nodes: BTreeMap<Number, Node>,
    next: Number,
    /// The most bytes that all files may have together.
    pub(super) capacity: u64,
}

impl Tree {
    pub(super) fn new(capacity: u64) -> Self {
        Self { nodes: BTreeMap::from([(ROOT, Node::Directory(Directory::default()))]), next: ROOT + 1, capacity }
    }

    pub(super) fn node(&self, number: Number) -> Result<&Node, Refused> {
        self.nodes.get(&number).ok_or(Refused::NotFound)
    }

    pub(super) fn file(&self, number: Number) -> Result<&File, Refused> {
        match self.node(number)? {
            Node::File(file) => Ok(file),
            Node::Directory(_) => Err(Refused::IsADirectory),
        }
    }

    pub(super) fn directory(&self, number: Number) -> Result<&Directory, Refused> {
        match self.node(number)? {
            Node::Directory(directory) => Ok(directory),
            Node::File(_) => Err(Refused::NotADirectory),
        }
    }

    /// How many bytes all files have that have a name: what was removed has given
    /// its room back, though it may come back when the power goes.
    pub(super) fn used(&self) -> u64 {
        let length = |number: &Number| match self.nodes.get(number) {
            Some(Node::File(file)) => file.bytes.len() as u64,
            Some(Node::Directory(_)) | None => 0,
        };
        self.reachable().iter().map(length).sum()
    }

    pub(super) fn lookup(&self, parent: Number, name: &OsStr) -> Result<Number, Refused> {
        self.directory(parent)?.names.get(name).copied().ok_or(Refused::NotFound)
    }

    pub(super) fn make_file(&mut self, parent: Number, name: &OsStr) -> Result<Number, Refused> {
        self.make(parent, name, Node::File(File::default()))
    }

    pub(super) fn make_directory(&mut self, parent: Number, name: &OsStr) -> Result<Number, Refused> {
        self.make(parent, name, Node::Directory(Directory::default()))
    }

    pub(super) fn write(&mut self, number: Number, offset: usize, bytes: &[u8]) -> Result<(), Refused> {
        let end = offset + bytes.len();
        let longer = end.saturating_sub(self.file(number)?.bytes.len());
        if self.used() + longer as u64 > self.capacity {
            return Err(Refused::NoSpace);
        }
        let file = self.file_mut(number)?;
        let length = file.bytes.len();
        let replaced = file.bytes[offset.min(length)..end.min(length)].to_vec();
        file.unsynced.push(Undo { length, offset, bytes: replaced });
        if end > length {
            file.bytes.resize(end, 0);
        }
        file.bytes[offset..end].copy_from_slice(bytes);
        Ok(())
    }

    pub(super) fn set_length(&mut self, number: Number, length: usize) -> Result<(), Refused> {
        let longer = length.saturating_sub(self.file(number)?.bytes.len());
        if self.used() + longer as u64 > self.capacity {
            return Err(Refused::NoSpace);
        }
        let file = self.file_mut(number)?;
        let before = file.bytes.len();
        let cut = file.bytes[length.min(before)..].to_vec();
        file.unsynced.push(Undo { length: before, offset: length.min(before), bytes: cut });
        file.bytes.resize(length, 0);
        Ok(())
    }

    /// Takes a name away; what was under it stays while something can bring it
    /// back.
    pub(super) fn remove(&mut self, parent: Number, name: &OsStr) -> Result<(), Refused> {
        let number = self.lookup(parent, name)?;
        if let Node::Directory(directory) = self.node(number)?
            && !directory.names.is_empty()
        {
            return Err(Refused::NotEmpty);
        }
        self.directory_mut(parent)?.names.remove(name);
        Ok(())
    }

    /// What was under the new name before is gone.
    pub(super) fn rename(
        &mut self,
        parent: Number,
        name: &OsStr,
        to_parent: Number,
        to_name: &OsStr,
    ) -> Result<(), Refused> {
        let number = self.lookup(parent, name)?;
        self.directory(to_parent)?;
        self.directory_mut(parent)?.names.remove(name);
        self.directory_mut(to_parent)?.names.insert(to_name.to_owned(), number);
        Ok(())
    }

    /// What this holds now outlives the loss of power.
    pub(super) fn sync(&mut self, number: Number) -> Result<(), Refused> {
        match self.nodes.get_mut(&number).ok_or(Refused::NotFound)? {
            Node::File(file) => file.unsynced.clear(),
            Node::Directory(directory) => directory.synced = directory.names.clone(),
        }
        Ok(())
    }

    /// Forgets all that was not synced. Answers how many changes that were.
    pub(super) fn lose_power(&mut self) -> usize {
        let mut lost = 0;
        for node in self.nodes.values_mut() {
            match node {
                Node::File(file) => {
                    lost += file.unsynced.len();
                    file.take_back();
                }
                Node::Directory(directory) => {
                    lost += usize::from(directory.names != directory.synced);
                    directory.names = directory.synced.clone();
                }
            }
        }
        let reachable = self.reachable();
        self.nodes.retain(|number, _| reachable.contains(number));
        lost
    }

    fn reachable(&self) -> BTreeSet<Number> {
        let (mut seen, mut todo) = (BTreeSet::from([ROOT]), vec![ROOT]);
        while let Some(number) = todo.pop() {
            let Ok(directory) = self.directory(number) else { continue };
            todo.extend(directory.names.values().copied().filter(|it| seen.insert(*it)));
        }
        seen
    }

    fn make(&mut self, parent: Number, name: &OsStr, node: Node) -> Result<Number, Refused> {
        let number = self.next;
        let directory = self.directory_mut(parent)?;
        if directory.names.contains_key(name) {
            return Err(Refused::Exists);
        }
        directory.names.insert(name.to_owned(), number);
        self.nodes.insert(number, node);
        self.next += 1;
        Ok(number)
    }

    fn file_mut(&mut self, number: Number) -> Result<&mut File, Refused> {
        match self.nodes.get_mut(&number).ok_or(Refused::NotFound)? {
            Node::File(file) => Ok(file),
            Node::Directory(_) => Err(Refused::IsADirectory),
        }
    }

    fn directory_mut(&mut self, number: Number) -> Result<&mut Directory, Refused> {
        match self.nodes.get_mut(&number).ok_or(Refused::NotFound)? {
            Node::Directory(directory) => Ok(directory),
            Node::File(_) => Err(Refused::NotADirectory),
        }
    }
}

impl File {
    fn take_back(&mut self) {
        while let Some(Undo { length, offset, bytes }) = self.unsynced.pop() {
            self.bytes.resize(length.max(offset + bytes.len()), 0);
            self.bytes[offset..offset + bytes.len()].copy_from_slice(&bytes);
            self.bytes.truncate(length);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> &OsStr {
        OsStr::new(text)
    }

    #[test]
    fn synced_bytes_are_kept_and_others_forgotten() {
        let mut tree = Tree::new(100);
        let file = tree.make_file(ROOT, name("a")).unwrap();
        tree.write(file, 0, b"kept").unwrap();
        tree.sync(file).unwrap();
        tree.sync(ROOT).unwrap();
        tree.write(file, 2, b"changed").unwrap();
        tree.set_length(file, 1).unwrap();
        tree.write(file, 5, b"more").unwrap();
        assert_eq!(tree.lose_power(), 3);
        assert_eq!(tree.file(file).unwrap().bytes, b"kept");
        assert_eq!(tree.lose_power(), 0);
    }

    #[test]
    fn what_was_removed_gives_its_room_back_and_takes_it_again_when_the_power_goes() {
        let mut tree = Tree::new(10);
        let file = tree.make_file(ROOT, name("a")).unwrap();
        tree.write(file, 0, b"12345678").unwrap();
        tree.sync(file).unwrap();
        tree.sync(ROOT).unwrap();
        tree.remove(ROOT, name("a")).unwrap();
        assert_eq!(tree.used(), 0);
        tree.lose_power();
        assert_eq!(tree.used(), 8);
    }

    #[test]
    fn a_file_whose_directory_was_not_synced_is_gone() {
        let mut tree = Tree::new(100);
        let file = tree.make_file(ROOT, name("a")).unwrap();
        tree.write(file, 0, b"synced").unwrap();
        tree.sync(file).unwrap();
        tree.lose_power();
        assert_eq!(tree.lookup(ROOT, name("a")), Err(Refused::NotFound));
        assert!(tree.node(file).is_err());
    }

    #[test]
    fn names_are_as_their_directory_was_synced() {
        let mut tree = Tree::new(100);
        let below = tree.make_directory(ROOT, name("below")).unwrap();
        let [old, new] = ["old", "new"].map(|it| tree.make_file(below, name(it)).unwrap());
        tree.sync(ROOT).unwrap();
        tree.sync(below).unwrap();
        tree.rename(below, name("new"), below, name("old")).unwrap();
        assert_eq!(tree.lookup(below, name("old")), Ok(new));
        tree.lose_power();
        assert_eq!(tree.lookup(below, name("old")), Ok(old));
        assert_eq!(tree.lookup(below, name("new")), Ok(new));
        tree.remove(below, name("old")).unwrap();
        tree.sync(below).unwrap();
        tree.lose_power();
        assert_eq!(tree.lookup(below, name("old")), Err(Refused::NotFound));
        assert!(tree.node(old).is_err(), "nothing can bring it back");
    }

    #[test]
    fn more_than_its_capacity_is_refused_and_changes_nothing() {
        let mut tree = Tree::new(4);
        let file = tree.make_file(ROOT, name("a")).unwrap();
        tree.write(file, 0, b"full").unwrap();
        assert_eq!(tree.write(file, 3, b"er"), Err(Refused::NoSpace));
        assert_eq!(tree.set_length(file, 5), Err(Refused::NoSpace));
        assert_eq!(tree.file(file).unwrap().bytes, b"full");
        tree.write(file, 0, b"over").unwrap();
        assert_eq!(tree.remove(ROOT, name("b")), Err(Refused::NotFound));
        assert_eq!(tree.make_file(ROOT, name("a")), Err(Refused::Exists));
    }
}
