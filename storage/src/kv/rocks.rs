//! RocksDB behind the [`Kv`] seam; the only file that names it.

use bytes::Bytes;

use super::{Batch, Kv, KvError, Space};

/// A [`Kv`] over RocksDB.
pub struct RocksKv {}

impl RocksKv {
    /// Opens the store at `path`, and creates it if there is none.
    ///
    /// # Errors
    /// When the engine cannot open what is there: remove the directory and
    /// rebuild from the journal.
    pub fn open(_path: &std::path::Path) -> Result<Self, KvError> {
        todo!()
    }
}

impl Kv for RocksKv {
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
