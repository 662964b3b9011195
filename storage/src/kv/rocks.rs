//! RocksDB behind the [`Kv`] seam; the only file that names it.
//!
//! ```text
//!   write ──► memtables of three column families, no log ──atomic flush──► files
//! ```
//!
//! No log of its own: what a crash takes back is found again in the journal.
//! The atomic flush makes what is left a prefix of the batches across all
//! spaces, and not a prefix of each. Small: metadata is small, and the memory
//! is worth more in the page cache and in the journal's tail cache.

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use rocksdb::statistics::{StatsLevel, Ticker};
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, Direction, FlushOptions,
    IteratorMode, Options, ReadOptions, WriteBatch, WriteOptions,
};

use super::{Batch, Change, Kv, KvError, Space};

/// What all spaces' memtables may take together, in bytes. Reaching it
/// flushes; the journal's seals usually do so before.
const MEMTABLE_BYTES: usize = 16 * 1024 * 1024;

/// What cached blocks, their indexes and filters may take, in bytes.
const BLOCK_CACHE_BYTES: usize = 32 * 1024 * 1024;

/// Threads for flushes and compactions.
const BACKGROUND_JOBS: i32 = 2;

/// Files that are held open.
const OPEN_FILES: i32 = 256;

/// RocksDB's own log, which is for people: kept, and its files' size in bytes.
const INFO_LOGS: usize = 2;
const INFO_LOG_BYTES: usize = 1024 * 1024;

/// A [`Kv`] over RocksDB.
pub struct RocksKv {
    /// `None` once closed.
    engine: RwLock<Option<DB>>,
    /// Carries the counters.
    options: Options,
}

impl RocksKv {
    /// Opens the store at `path`, and creates it if there is none.
    ///
    /// # Errors
    /// When the engine cannot open what is there. What is there is a cache of
    /// the journal: the way out is to remove it and scan.
    pub fn open(path: &Path) -> Result<Self, KvError> {
        let options = database_options();
        let cache = Cache::new_lru_cache(BLOCK_CACHE_BYTES);
        let spaces = Space::ALL.map(|space| ColumnFamilyDescriptor::new(space.name(), space_options(&cache)));
        let engine = DB::open_cf_descriptors(&options, path, spaces).map_err(failed("open its files"))?;
        Ok(Self { engine: RwLock::new(Some(engine)), options })
    }

    fn with<T>(&self, act: impl FnOnce(&DB) -> Result<T, KvError>) -> Result<T, KvError> {
        let engine = self.engine.read().unwrap_or_else(PoisonError::into_inner);
        act(engine.as_ref().ok_or(KvError::Closed)?)
    }
}

fn database_options() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_atomic_flush(true);
    options.set_paranoid_checks(true);
    options.set_db_write_buffer_size(MEMTABLE_BYTES);
    options.set_max_background_jobs(BACKGROUND_JOBS);
    options.set_max_open_files(OPEN_FILES);
    options.set_keep_log_file_num(INFO_LOGS);
    options.set_max_log_file_size(INFO_LOG_BYTES);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options.enable_statistics();
    options.set_statistics_level(StatsLevel::ExceptHistogramOrTimers);
    options
}

fn space_options(cache: &Cache) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    table.set_bloom_filter(10.0, false);
    let mut options = Options::default();
    options.set_block_based_table_factory(&table);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_write_buffer_size(MEMTABLE_BYTES / 4);
    options
}

fn space_of(engine: &DB, space: Space) -> &ColumnFamily {
    engine.cf_handle(space.name()).expect("every space was opened")
}

fn failed(operation: &'static str) -> impl FnOnce(rocksdb::Error) -> KvError {
    move |source| KvError::Engine { operation, source: Arc::new(source) }
}

impl Kv for RocksKv {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        self.with(|engine| {
            let value = engine.get_pinned_cf(space_of(engine, space), key).map_err(failed("read a key"))?;
            Ok(value.map(|value| Bytes::copy_from_slice(&value)))
        })
    }

    fn scan(&self, space: Space, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>, KvError> {
        self.with(|engine| {
            if start >= end {
                return Ok(Vec::new());
            }
            let mut within = ReadOptions::default();
            within.set_iterate_upper_bound(end);
            let from = IteratorMode::From(start, Direction::Forward);
            let pairs = engine.iterator_cf_opt(space_of(engine, space), within, from).take(limit);
            pairs.map(|pair| pair.map(shared).map_err(failed("scan a range"))).collect()
        })
    }

    fn last_before(&self, space: Space, lower: &[u8], key: &[u8]) -> Result<Option<(Bytes, Bytes)>, KvError> {
        self.with(|engine| {
            if lower > key {
                return Ok(None);
            }
            let mut within = ReadOptions::default();
            within.set_iterate_lower_bound(lower);
            let from = IteratorMode::From(key, Direction::Reverse);
            let pair = engine.iterator_cf_opt(space_of(engine, space), within, from).next();
            pair.map(|pair| pair.map(shared).map_err(failed("find a key"))).transpose()
        })
    }

    fn write(&self, batch: Batch) -> Result<(), KvError> {
        self.with(|engine| {
            let mut changes = WriteBatch::default();
            for change in batch.changes() {
                match change {
                    Change::Put { space, key, value } => changes.put_cf(space_of(engine, *space), key, value),
                    Change::Delete { space, key } => changes.delete_cf(space_of(engine, *space), key),
                    Change::DeleteRange { space, start, end } => {
                        changes.delete_range_cf(space_of(engine, *space), start, end);
                    }
                }
            }
            let mut unlogged = WriteOptions::default();
            unlogged.disable_wal(true);
            engine.write_opt(changes, &unlogged).map_err(failed("write a batch"))
        })
    }

    fn flush(&self) -> Result<(), KvError> {
        self.with(|engine| {
            let spaces = Space::ALL.map(|space| space_of(engine, space));
            engine.flush_cfs_opt(&spaces.each_ref(), &FlushOptions::default()).map_err(failed("flush"))
        })
    }

    fn bytes_written(&self) -> u64 {
        [Ticker::FlushWriteBytes, Ticker::CompactWriteBytes]
            .map(|bytes| self.options.get_ticker_count(bytes))
            .iter()
            .sum()
    }

    fn close(&self) -> Result<(), KvError> {
        self.flush()?;
        let engine = self.engine.write().unwrap_or_else(PoisonError::into_inner).take();
        let engine = engine.ok_or(KvError::Closed)?;
        engine.cancel_all_background_work(true);
        Ok(())
    }
}

fn shared((key, value): (Box<[u8]>, Box<[u8]>)) -> (Bytes, Bytes) {
    (key.into(), value.into())
}

#[cfg(test)]
mod tests {
    use super::{Batch, Kv, RocksKv, Space};
    use crate::kv::conformance;

    fn open(directory: &tempfile::TempDir) -> RocksKv {
        RocksKv::open(directory.path()).unwrap()
    }

    fn put(kv: &RocksKv, key: &'static str) {
        let mut batch = Batch::new();
        Space::ALL.iter().for_each(|space| batch.put(*space, key, key));
        kv.write(batch).unwrap();
    }

    fn holds(kv: &RocksKv, key: &str) -> [bool; 3] {
        Space::ALL.map(|space| kv.get(space, key.as_bytes()).unwrap().is_some())
    }

    #[test]
    fn holds_what_every_kv_holds() {
        conformance::run_all(|| {
            let directory = tempfile::tempdir().unwrap();
            (open(&directory), directory)
        });
    }

    #[test]
    fn what_was_closed_or_flushed_is_there_when_opened_again() {
        let directory = tempfile::tempdir().unwrap();
        let kv = open(&directory);
        put(&kv, "closed");
        kv.close().unwrap();
        drop(kv);
        let kv = open(&directory);
        assert_eq!(holds(&kv, "closed"), [true; 3]);
        put(&kv, "flushed");
        kv.flush().unwrap();
        let (left, _copy) = crashed(&directory);
        assert_eq!(holds(&left, "flushed"), [true; 3]);
    }

    #[test]
    fn crash_takes_back_what_was_not_flushed_in_all_spaces() {
        let directory = tempfile::tempdir().unwrap();
        let kv = open(&directory);
        put(&kv, "flushed");
        kv.flush().unwrap();
        put(&kv, "unflushed");
        let (left, _copy) = crashed(&directory);
        assert_eq!((holds(&left, "flushed"), holds(&left, "unflushed")), ([true; 3], [false; 3]), "there is a log");
    }

    #[test]
    fn store_that_is_in_use_or_broken_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let kv = open(&directory);
        assert!(RocksKv::open(directory.path()).is_err());
        put(&kv, "a");
        kv.close().unwrap();
        std::fs::write(directory.path().join("CURRENT"), "nothing of the kind\n").unwrap();
        assert!(RocksKv::open(directory.path()).is_err());
    }

    /// The store as the next process finds it if this one is killed now: a
    /// copy of its files, since the open one keeps its lock.
    fn crashed(directory: &tempfile::TempDir) -> (RocksKv, tempfile::TempDir) {
        let copy = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(directory.path()).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
        }
        (open(&copy), copy)
    }
}
