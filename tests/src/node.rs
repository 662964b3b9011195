//! One `quipu serve` process, its data directory and its log.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::Mutex;

use quipu_protocol::NodeId;
use quipu_protocol::transport::{ChannelOptions, channel};
use rustix::process::{Pid, Signal, kill_process};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::binary::variables_of_quipu;
use crate::{eventually, quipu};

/// How much of a node's log a failing test shows, in bytes.
const LOG_TAIL: usize = 24_000;

/// A node of a cluster under test. The process ends with this value.
pub struct Node {
    id: NodeId,
    address: String,
    data: PathBuf,
    log: PathBuf,
    arguments: Vec<OsString>,
    variables: Vec<(OsString, OsString)>,
    /// The network namespace that it runs in, if not the test's own.
    namespace: Option<String>,
    process: Mutex<Option<Child>>,
}

impl Node {
    pub(crate) fn new(
        id: NodeId,
        address: String,
        data: PathBuf,
        directory: &Path,
        arguments: Vec<OsString>,
        variables: Vec<(OsString, OsString)>,
    ) -> Self {
        let log = directory.join(format!("node-{id}.log"));
        Self { id, address, data, log, arguments, variables, namespace: None, process: Mutex::new(None) }
    }

    pub(crate) fn within(mut self, namespace: Option<String>) -> Self {
        self.namespace = namespace;
        self
    }

    /// Its number.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// Where it serves.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Where it keeps everything.
    pub fn data_directory(&self) -> &Path {
        &self.data
    }

    /// The arguments of `quipu` that run this node.
    pub fn arguments(&self) -> &[OsString] {
        &self.arguments
    }

    /// Starts the process; [`Self::serves`] waits until it serves.
    pub fn start(&self) -> &Self {
        let mut process = self.process.lock().expect("no test panicked with the lock");
        assert!(process.is_none(), "node {} runs already", self.id);
        let log = File::options().create(true).append(true).open(&self.log).expect("the node's log");
        let mut command = match &self.namespace {
            None => std::process::Command::new(quipu()),
            Some(namespace) => {
                // It becomes `quipu`: the process is the same.
                let mut command = std::process::Command::new("ip");
                command.args(["netns", "exec", namespace]).arg(quipu());
                command
            }
        };
        for name in variables_of_quipu() {
            command.env_remove(name);
        }
        let child = command
            .args(&self.arguments)
            // Should this test be killed, its nodes end too.
            .args(["--ends-with", &std::process::id().to_string()])
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", quipu().display()));
        *process = Some(child);
        self
    }

    /// Waits until its health is SERVING.
    pub async fn serves(&self) -> &Self {
        eventually(&format!("node {} serves", self.id), async || {
            if let Some(status) = self.ended() {
                panic!("node {} ended ({status}) instead of serving", self.id);
            }
            self.health().await
        })
        .await;
        self
    }

    /// Asks for its health once.
    pub async fn health(&self) -> Result<(), String> {
        let channel = channel(&quipu_sdk::system::environment(), &self.address, ChannelOptions::default())
            .expect("the test's own address");
        match HealthClient::new(channel).check(HealthCheckRequest::default()).await {
            Ok(answer) if answer.get_ref().status() == ServingStatus::Serving => Ok(()),
            Ok(answer) => Err(format!("its health is {}", answer.get_ref().status().as_str_name())),
            Err(status) => Err(status.to_string()),
        }
    }

    /// Whether a process was started and has not ended.
    pub fn runs(&self) -> bool {
        self.process.lock().expect("no test panicked with the lock").is_some() && self.ended().is_none()
    }

    /// SIGKILL: the process has no chance to do anything more.
    pub fn kill(&self) -> &Self {
        if let Some(mut child) = self.process.lock().expect("no test panicked with the lock").take() {
            child.kill().expect("a child can be killed");
            child.wait().expect("a killed child can be awaited");
        }
        self
    }

    /// SIGTERM, then waits for the end.
    pub async fn terminates(&self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.exits().await
    }

    /// SIGSTOP: the process stands still until [`Self::goes_on`].
    pub fn pause(&self) -> &Self {
        self.signal(Signal::STOP)
    }

    /// SIGCONT.
    pub fn goes_on(&self) -> &Self {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> &Self {
        if let Some(child) = &*self.process.lock().expect("no test panicked with the lock") {
            kill_process(Pid::from_child(child), signal).expect("a child can be signalled");
        }
        self
    }

    /// Waits until the process has ended by itself.
    pub async fn exits(&self) -> ExitStatus {
        let status = eventually(&format!("node {} exits", self.id), async || {
            self.ended().ok_or_else(|| "it still runs".to_owned())
        })
        .await;
        self.process.lock().expect("no test panicked with the lock").take();
        status
    }

    /// Deletes the data directory of a node that does not run.
    pub fn erase_data(&self) -> &Self {
        assert!(!self.runs(), "node {} still runs", self.id);
        fs::remove_dir_all(&self.data).expect("the data directory can be removed");
        self
    }

    /// The end of what it wrote to its log.
    pub fn log_tail(&self) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        let tail = bytes.len().saturating_sub(LOG_TAIL);
        String::from_utf8_lossy(&bytes[tail..]).into_owned()
    }

    fn ended(&self) -> Option<ExitStatus> {
        let mut process = self.process.lock().expect("no test panicked with the lock");
        process.as_mut()?.try_wait().expect("a child can be looked at")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            print_log(self.id, &self.log_tail());
        }
        // A poisoned lock must not keep the process alive.
        if let Some(child) = self.process.get_mut().unwrap_or_else(|poisoned| poisoned.into_inner()) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[expect(clippy::print_stderr, reason = "a failing test shows what its nodes logged")]
fn print_log(node: NodeId, log: &str) {
    eprintln!("── the end of node {node}'s log ──\n{log}");
}
