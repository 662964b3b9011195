//! The real environment of a node: the operating system's clock, randomness,
//! network and disk, and RocksDB.

use std::path::Path;
use std::sync::Arc;

use quipu_storage::disk::OpenDiskError;
use quipu_storage::{Kv, KvError, RocksKv, SystemDisk};

use crate::NodeEnvironment;

/// Where RocksDB lives inside a data directory.
const METADATA: &str = "metadata";

/// Takes `data_directory` for this process alone, creating it when absent.
///
/// # Errors
/// [`OpenDiskError::InUse`] while another process has it.
pub fn environment(data_directory: &Path) -> Result<NodeEnvironment, OpenDiskError> {
    let disk = SystemDisk::open(data_directory)?;
    let metadata = data_directory.join(METADATA);
    Ok(NodeEnvironment {
        environment: quipu_sdk::system::environment(),
        disk: Arc::new(disk),
        cpu_micros: Arc::new(cpu_micros),
        log_filter: None,
        kv: Arc::new(move || open_metadata(&metadata)),
    })
}

/// Opens the metadata. It is a cache of the journal: what cannot be opened is
/// put aside, and rebuilt by a scan.
fn open_metadata(path: &Path) -> Result<Arc<dyn Kv>, KvError> {
    let open = || RocksKv::open(path).map(|kv| Arc::new(kv) as Arc<dyn Kv>);
    open().or_else(|error| {
        let aside = path.with_extension("damaged");
        let moved = std::fs::remove_dir_all(&aside).or_else(absent_is_fine).and_then(|()| std::fs::rename(path, &aside));
        if moved.is_err() {
            return Err(error);
        }
        tracing::warn!(%error, aside = %aside.display(), "the metadata cannot be opened: rebuilding it from the journal");
        open()
    })
}

fn absent_is_fine(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// The CPU time that this process has used, microseconds.
fn cpu_micros() -> u64 {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let (seconds, nanos) = (used.tv_sec.unsigned_abs(), used.tv_nsec.unsigned_abs());
    seconds * 1_000_000 + nanos / 1_000
}
