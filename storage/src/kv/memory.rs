//! An ordered map that forgets at a power cut what was not flushed.

use bytes::Bytes;

use super::{Batch, Kv, KvError, Space};

/// A [`Kv`] in memory.
pub struct MemoryKv {}

impl MemoryKv {
    /// An empty one.
    pub fn new() -> Self {
        todo!()
    }

    /// The store as found after a power cut: the state after some prefix of
    /// the batches that holds at least everything flushed, chosen by `seed`.
    /// Every later call on this one fails.
    #[must_use]
    pub fn lose_unflushed(&self, _seed: u64) -> Self {
        todo!()
    }
}

impl Default for MemoryKv {
    fn default() -> Self {
        Self::new()
    }
}

impl Kv for MemoryKv {
    fn get(&self, _space: Space, _key: &[u8]) -> Result<Option<Bytes>, KvError> {
        todo!()
    }
    fn scan(&self, _space: Space, _start: &[u8], _end: &[u8], _limit: usize) -> Result<Vec<(Bytes, Bytes)>, KvError> {
        todo!()
    }
    fn last_before(&self, _space: Space, _lower: &[u8], _key: &[u8]) -> Result<Option<(Bytes, Bytes)>, KvError> {
        todo!()
    }
    fn write(&self, _batch: Batch) -> Result<(), KvError> {
        todo!()
    }
    fn flush(&self) -> Result<(), KvError> {
        todo!()
    }
    fn bytes_written(&self) -> u64 {
        todo!()
    }
    fn close(&self) -> Result<(), KvError> {
        todo!()
    }
}
