//! A file system that forgets what was not fsynced, as a disk does that loses
//! power: real processes run on it, with the real RocksDB.
//!
//! ```text
//!   quipu ──▶ kernel ──FUSE──▶ Forgetful ──▶ Tree (in memory: as it is, as synced)
//!                                              ▲
//!   a test: kill all, lose_power(), start all ─┘
//! ```
//!
//! The kernel caches nothing of it, neither bytes nor names: what is forgotten
//! here is forgotten everywhere. Takes `/dev/fuse` and the right to mount.

mod tree;

use std::ffi::OsStr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use self::tree::{Node, Refused, Tree};

/// Nothing is cached.
const NOT_AT_ALL: Duration = Duration::ZERO;
/// The size of a block, in bytes.
const BLOCK: u32 = 4096;

/// A forgetful disk that is mounted. Dropping it unmounts it.
pub struct Forgetful {
    tree: Arc<Mutex<Tree>>,
    session: Option<BackgroundSession>,
}

impl Forgetful {
    /// Whether one can be mounted here.
    pub fn can_be_mounted() -> bool {
        rustix::process::geteuid().is_root() && Path::new("/dev/fuse").exists()
    }

    /// Mounts an empty one that has room for so many bytes.
    ///
    /// # Panics
    /// When it cannot be mounted there.
    pub fn mount(at: &Path, capacity: u64) -> Self {
        let tree = Arc::new(Mutex::new(Tree::new(capacity)));
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("forgetful".to_owned()), MountOption::DefaultPermissions];
        // A request that waits must not keep others from the disk.
        config.n_threads = Some(4);
        let session = fuser::spawn_mount(Served(Arc::clone(&tree)), at, &config)
            .unwrap_or_else(|error| panic!("cannot mount a file system at {}: {error}", at.display()));
        Self { tree, session: Some(session) }
    }

    /// Forgets all that was not synced; the processes on it are gone. Answers
    /// how many changes were lost.
    pub fn lose_power(&self) -> usize {
        locked(&self.tree).lose_power()
    }
}

impl Drop for Forgetful {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            let ended = session.umount_and_join();
            assert!(ended.is_ok() || std::thread::panicking(), "the file system cannot be unmounted: {ended:?}");
        }
    }
}

/// What the kernel talks to.
struct Served(Arc<Mutex<Tree>>);

fn locked(tree: &Mutex<Tree>) -> MutexGuard<'_, Tree> {
    tree.lock().unwrap_or_else(PoisonError::into_inner)
}

impl From<Refused> for Errno {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::NotFound => Self::ENOENT,
            Refused::Exists => Self::EEXIST,
            Refused::NotADirectory => Self::ENOTDIR,
            Refused::IsADirectory => Self::EISDIR,
            Refused::NotEmpty => Self::ENOTEMPTY,
            Refused::NoSpace => Self::ENOSPC,
        }
    }
}

fn attributes(tree: &Tree, number: u64) -> Result<FileAttr, Refused> {
    let (kind, size) = match tree.node(number)? {
        Node::File(file) => (FileType::RegularFile, file.bytes.len() as u64),
        Node::Directory(_) => (FileType::Directory, 0),
    };
    let time = UNIX_EPOCH;
    Ok(FileAttr {
        ino: INodeNo(number),
        size,
        blocks: size.div_ceil(512),
        atime: time,
        mtime: time,
        ctime: time,
        crtime: time,
        kind,
        perm: if kind == FileType::Directory { 0o755 } else { 0o644 },
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: BLOCK,
        flags: 0,
    })
}

fn index(offset: u64) -> usize {
    usize::try_from(offset).expect("a file in memory has no greater offset")
}

fn empty(reply: ReplyEmpty, done: Result<(), Refused>) {
    match done {
        Ok(()) => reply.ok(),
        Err(refused) => reply.error(refused.into()),
    }
}

impl Served {
    fn tree(&self) -> MutexGuard<'_, Tree> {
        locked(&self.0)
    }

    fn entry(&self, reply: ReplyEntry, found: impl FnOnce(&mut Tree) -> Result<u64, Refused>) {
        let mut tree = self.tree();
        match found(&mut tree).and_then(|number| attributes(&tree, number)) {
            Ok(attributes) => reply.entry(&NOT_AT_ALL, &attributes, Generation(0)),
            Err(refused) => reply.error(refused.into()),
        }
    }
}

impl Filesystem for Served {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.entry(reply, |tree| tree.lookup(parent.0, name));
    }

    fn getattr(&self, _: &Request, number: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match attributes(&self.tree(), number.0) {
            Ok(attributes) => reply.attr(&NOT_AT_ALL, &attributes),
            Err(refused) => reply.error(refused.into()),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        number: INodeNo,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut tree = self.tree();
        let resized = size.map_or(Ok(()), |size| tree.set_length(number.0, index(size)));
        match resized.and_then(|()| attributes(&tree, number.0)) {
            Ok(attributes) => reply.attr(&NOT_AT_ALL, &attributes),
            Err(refused) => reply.error(refused.into()),
        }
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        self.entry(reply, |tree| tree.make_directory(parent.0, name));
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(reply, self.tree().remove(parent.0, name));
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(reply, self.tree().remove(parent.0, name));
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        to_parent: INodeNo,
        to_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        if !flags.is_empty() {
            return reply.error(Errno::EINVAL);
        }
        empty(reply, self.tree().rename(parent.0, name, to_parent.0, to_name));
    }

    fn create(&self, _: &Request, parent: INodeNo, name: &OsStr, _: u32, _: u32, _: i32, reply: ReplyCreate) {
        let mut tree = self.tree();
        match tree.make_file(parent.0, name).and_then(|number| attributes(&tree, number)) {
            Ok(attributes) => {
                reply.created(&NOT_AT_ALL, &attributes, Generation(0), FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
            }
            Err(refused) => reply.error(refused.into()),
        }
    }

    fn open(&self, _: &Request, number: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.tree().file(number.0) {
            Ok(_) => reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO),
            Err(refused) => reply.error(refused.into()),
        }
    }

    fn read(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let tree = self.tree();
        match tree.file(number.0) {
            Ok(file) => {
                let begin = index(offset).min(file.bytes.len());
                let end = (begin + index(u64::from(size))).min(file.bytes.len());
                reply.data(&file.bytes[begin..end]);
            }
            Err(refused) => reply.error(refused.into()),
        }
    }

    fn write(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        bytes: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.tree().write(number.0, index(offset), bytes) {
            Ok(()) => reply.written(u32::try_from(bytes.len()).expect("a request is small")),
            Err(refused) => reply.error(refused.into()),
        }
    }

    /// Closing a file syncs nothing.
    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, number: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        empty(reply, self.tree().sync(number.0));
    }

    fn fsyncdir(&self, _: &Request, number: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        empty(reply, self.tree().sync(number.0));
    }

    fn readdir(&self, _: &Request, number: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let tree = self.tree();
        let directory = match tree.directory(number.0) {
            Ok(directory) => directory,
            Err(refused) => return reply.error(refused.into()),
        };
        for (at, (name, number)) in (1..).zip(&directory.names).skip(index(offset)) {
            let kind = match tree.node(*number) {
                Ok(Node::Directory(_)) => FileType::Directory,
                _ => FileType::RegularFile,
            };
            if reply.add(INodeNo(*number), at, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let tree = self.tree();
        let blocks = tree.capacity / u64::from(BLOCK);
        let free = tree.capacity.saturating_sub(tree.used()) / u64::from(BLOCK);
        reply.statfs(blocks, free, free, 1 << 20, 1 << 20, BLOCK, 255, BLOCK);
    }
}
