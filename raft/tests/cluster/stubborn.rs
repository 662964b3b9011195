//! A key-value engine that, for a while, removes no replica's state: who forgets
//! a replica gets no further than that.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use quipu_storage::kv::Change;
use quipu_storage::{Batch, Kv, KvError, MemoryKv, Space};

/// See the module.
pub(crate) struct Stubborn {
    pub(crate) kv: Arc<MemoryKv>,
    pub(crate) keeps_states: Arc<AtomicBool>,
}

impl Kv for Stubborn {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        self.kv.get(space, key)
    }

    fn scan(&self, space: Space, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>, KvError> {
        self.kv.scan(space, start, end, limit)
    }

    fn last_before(&self, space: Space, lower: &[u8], key: &[u8]) -> Result<Option<(Bytes, Bytes)>, KvError> {
        self.kv.last_before(space, lower, key)
    }

    fn write(&self, batch: Batch) -> Result<(), KvError> {
        let removes = |change: &Change| matches!(change, Change::Delete { space: Space::State, .. });
        if self.keeps_states.load(Ordering::SeqCst) && batch.changes().iter().any(removes) {
            return Err(KvError::Engine {
                operation: "remove a state",
                source: Arc::new(std::io::Error::other("it is stubborn")),
            });
        }
        self.kv.write(batch)
    }

    fn flush(&self) -> Result<(), KvError> {
        self.kv.flush()
    }

    fn bytes_written(&self) -> u64 {
        self.kv.bytes_written()
    }

    fn close(&self) -> Result<(), KvError> {
        self.kv.close()
    }
}
