//! Holding a node's disk back: a preloaded library in which fsync and
//! fdatasync wait for as long as a file exists.
//!
//! ```text
//!   hold()  ──► control file appears
//!               node calls fdatasync ──► shim appends a line to "FILE.stalled", waits
//!   drop    ──► control file is gone ──► shim calls the real fdatasync, returns
//! ```
//!
//! The library is compiled by the test itself, by the C compiler that the
//! build of RocksDB needs anyhow.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::binary::scratch;
use crate::eventually;

/// A node's disk that can be held back.
pub struct Stall {
    control: PathBuf,
}

impl Stall {
    /// One that is controlled by this file.
    pub fn at(control: &Path) -> Self {
        Self { control: control.to_owned() }
    }

    /// The environment of a process that is to be held back.
    pub fn variables(&self) -> Vec<(OsString, OsString)> {
        vec![
            ("LD_PRELOAD".into(), library().as_os_str().to_owned()),
            ("STALL_FDATASYNC_FILE".into(), self.control.as_os_str().to_owned()),
        ]
    }

    /// Lets no fsync and no fdatasync begun from now on return, until the
    /// answer is dropped.
    pub fn hold(&self) -> Held<'_> {
        let _ = fs::remove_file(self.stalled());
        fs::write(&self.control, b"").expect("the control file can be written");
        Held { stall: self }
    }

    fn stalled(&self) -> PathBuf {
        let mut path = self.control.clone().into_os_string();
        path.push(".stalled");
        path.into()
    }
}

/// A disk that is held back; dropping this lets it go.
pub struct Held<'a> {
    stall: &'a Stall,
}

impl Held<'_> {
    /// Waits until the process hangs in a call.
    pub async fn hangs(&self) {
        eventually("a call of fdatasync hangs", async || {
            fs::metadata(self.stall.stalled()).map(|_| ()).map_err(|error| format!("no call yet: {error}"))
        })
        .await;
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.stall.control);
    }
}

/// The compiled library.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("shim/stall_fdatasync.c");
        // One for each process, since several may compile at once.
        let library = scratch().join(format!("stall_fdatasync-{}.so", std::process::id()));
        let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
        let output = std::process::Command::new(&compiler)
            .args(["-std=gnu11", "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o"])
            .arg(&library)
            .arg(&source)
            .arg("-ldl")
            .output()
            .unwrap_or_else(|error| panic!("{}: {error}", compiler.display()));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        library
    })
}
