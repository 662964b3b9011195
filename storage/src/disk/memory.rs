//! A disk in memory, with the faults of a real one.

use std::io;

use super::{Access, AlignedBuffer, Completion, Disk, FileId, Lane, Operation};

/// A [`Disk`] in memory: a live image, a synced image, and every fault.
pub struct MemoryDisk {}

impl MemoryDisk {
    /// An empty disk; all its choices follow from `seed`.
    pub fn new(_seed: u64) -> Self {
        todo!()
    }

    /// Cuts the power during the `count`-th operation from now (1 is the next
    /// one); from then on all operations fail.
    pub fn cut_power_at(&self, _count: u64) {
        todo!()
    }

    /// Cuts the power now.
    pub fn cut_power(&self) {
        todo!()
    }

    /// The disk as found after the power came back; this one is dead. Unsynced
    /// sectors and names survive or not, as `seed` has it.
    #[must_use]
    pub fn restore(&self, _seed: u64) -> Self {
        todo!()
    }

    /// The disk as the next process finds it after this one was killed: what
    /// was written is there, synced or not. This one is dead.
    #[must_use]
    pub fn kill(&self) -> Self {
        todo!()
    }

    /// How many operations ran so far: where `cut_power_at` can strike.
    pub fn operations(&self) -> u64 {
        todo!()
    }

    /// Lets the next sync of a file fail. What it should have made durable can
    /// be read until the power is cut, and may be gone then, whatever is
    /// synced later.
    pub fn fail_next_sync(&self) {
        todo!()
    }

    /// Refuses to let the files grow above `bytes` in all (`StorageFull`).
    pub fn limit_bytes(&self, _bytes: u64) {
        todo!()
    }

    /// Lets every read that touches `length` bytes at `offset` of `path` fail,
    /// until they are written again.
    pub fn break_reads(&self, _path: &str, _offset: u64, _length: u64) {
        todo!()
    }

    /// Flips bit `bit` (0 to 7) of the byte at `offset` of `path`, for good.
    pub fn flip_bit(&self, _path: &str, _offset: u64, _bit: u8) {
        todo!()
    }

    /// Refuses `O_DIRECT`: files opened from now on are buffered.
    pub fn refuse_direct(&self) {
        todo!()
    }

    /// Holds submitted operations until they are stepped.
    pub fn hold(&self) {
        todo!()
    }

    /// Runs and completes the oldest held operation of `lane`; false if there
    /// is none.
    pub fn step(&self, _lane: Lane) -> bool {
        todo!()
    }

    /// Runs what is held, and from now on completes operations as submitted.
    pub fn release(&self) {
        todo!()
    }
}

impl Disk for MemoryDisk {
    fn open(&self, _path: &str, _access: Access) -> io::Result<FileId> {
        todo!()
    }
    fn create(&self, _path: &str, _access: Access) -> io::Result<FileId> {
        todo!()
    }
    fn close(&self, _file: FileId) {
        todo!()
    }
    fn access(&self, _file: FileId) -> io::Result<Access> {
        todo!()
    }
    fn length(&self, _file: FileId) -> io::Result<u64> {
        todo!()
    }
    fn read_at(&self, _file: FileId, _offset: u64, _buffer: &mut AlignedBuffer) -> io::Result<usize> {
        todo!()
    }
    fn write_at(&self, _file: FileId, _offset: u64, _buffer: &AlignedBuffer) -> io::Result<()> {
        todo!()
    }
    fn sync(&self, _file: FileId) -> io::Result<()> {
        todo!()
    }
    fn list(&self, _directory: &str) -> io::Result<Vec<String>> {
        todo!()
    }
    fn create_directory(&self, _path: &str) -> io::Result<()> {
        todo!()
    }
    fn remove(&self, _path: &str) -> io::Result<()> {
        todo!()
    }
    fn rename(&self, _from: &str, _to: &str) -> io::Result<()> {
        todo!()
    }
    fn sync_directory(&self, _path: &str) -> io::Result<()> {
        todo!()
    }
    fn submit(&self, _lane: Lane, _operation: Operation, _done: Completion) {
        todo!()
    }
}
