//! One node's process.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

/// How much of a log's end is shown when its node ended too soon.
const TAIL_BYTES: u64 = 4096;
const TAIL_LINES: usize = 8;

/// A running `quipu serve`. Dropping it kills the process.
pub(super) struct NodeProcess {
    child: Child,
}

impl NodeProcess {
    /// Starts `program` with `arguments`; what it says goes to the end of the
    /// file `log`.
    pub(super) fn start(program: &Path, arguments: &[String], log: &Path) -> io::Result<Self> {
        let log = OpenOptions::new().create(true).append(true).open(log)?;
        let mut command = Command::new(program);
        // One address, or one name, for all of them would be wrong for most.
        let variables = std::env::vars_os().map(|(name, _)| name);
        for name in variables.filter(|name| name.as_encoded_bytes().starts_with(b"QUIPU_")) {
            command.env_remove(name);
        }
        let child = command
            .args(arguments)
            // The node ends with this process, however this one ends.
            .arg("--ends-with")
            .arg(std::process::id().to_string())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ctrl-C on the terminal reaches this process only, which then
            // ends its nodes in its own way.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        Ok(Self { child })
    }

    /// Its process id, until it has been waited for.
    pub(super) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Asks it to end.
    pub(super) fn terminate(&self) -> io::Result<()> {
        // An id is not given to another process before this one was waited for.
        match self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw) {
            Some(pid) => Ok(kill_process(pid, Signal::TERM)?),
            None => Ok(()),
        }
    }

    /// Ends it with SIGKILL and waits until it is gone.
    pub(super) async fn kill(&mut self) -> io::Result<()> {
        self.child.kill().await
    }

    /// Waits until it has ended. Safe to give up and to call again.
    pub(super) async fn ended(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }
}

/// The last lines of the file at `log`, as far as they can be read.
pub(super) fn tail(log: &PathBuf) -> String {
    let read = || -> io::Result<String> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_else(|error| format!("(cannot be read: {error})"));
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}
