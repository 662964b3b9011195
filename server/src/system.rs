//! The real environment of a node: the operating system's clock, randomness,
//! network and disk, and RocksDB.

use std::path::Path;
use std::sync::Arc;

use quipu_storage::disk::OpenDiskError;
use quipu_storage::{Kv, RocksKv, SystemDisk};

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
        kv: Arc::new(move || Ok(Arc::new(RocksKv::open(&metadata)?) as Arc<dyn Kv>)),
    })
}

/// The CPU time that this process has used, microseconds.
fn cpu_micros() -> u64 {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let (seconds, nanos) = (used.tv_sec.unsigned_abs(), used.tv_nsec.unsigned_abs());
    seconds * 1_000_000 + nanos / 1_000
}
