//! What a node makes sure of before it touches a data directory, and which
//! configurations it refuses.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use quipu_tests::{Cluster, Command, Finished, Node, eventually};
use twox_hash::XxHash3_64;

/// Bytes before the message in the file `IDENTITY`.
const HEAD: usize = 24;

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_on_the_same_data_directory_is_refused() {
    let cluster = Cluster::start(1).await;
    let node = cluster.node(1);
    serve(node, &[]).await.exits_with(1).mentions(&node.data_directory().display().to_string());

    node.health().await.expect("the first one serves on");
    cluster.quipu(["log", "create", "orders"]).succeeds().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_data_directory_of_another_node_is_refused() {
    let cluster = Cluster::start(3).await;
    cluster.create("orders").await;
    cluster.kill_all();
    let stolen = cluster.node(1).data_directory();
    let before = contents(stolen);
    let stolen = stolen.to_str().expect("a path in UTF-8");
    serve(cluster.node(2), &["--data-dir", stolen]).await.exits_with(1).mentions("node 1");
    assert_eq!(contents(Path::new(stolen)), before, "nothing in it has changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_data_directory_of_another_cluster_is_refused() {
    let (here, there) = tokio::join!(Cluster::start(3), Cluster::start(3));
    there.create("orders").await;
    let ledger = here.appends("orders", 100).await;
    let of = async |cluster: &Cluster| cluster.client().status().await.expect("a status").cluster.to_string();
    let (this, that) = (of(&here).await, of(&there).await);
    let (node, foreign) = (here.node(1).kill(), there.node(1).kill());
    let foreign = foreign.data_directory().to_str().expect("a path in UTF-8");

    serve(node, &["--data-dir", foreign]).await.exits_with(1).mentions(&this).mentions(&that);

    node.start().serves().await;
    there.node(1).start().serves().await;
    here.each_replica_reads("orders").await.holds(&ledger);
    there.is_whole("orders", 3, &Default::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_format_on_disk_is_refused_by_its_version() {
    let cluster = Cluster::start(1).await;
    let node = cluster.node(1);
    cluster.create("orders").await;
    node.terminates().await;
    let identity = node.data_directory().join("IDENTITY");
    let kept = fs::read(&identity).expect("the identity");
    fs::write(&identity, with_version(&kept, 99)).expect("the identity can be written");
    let before = contents(node.data_directory());

    serve(node, &[]).await.exits_with(1).mentions("99");
    assert_eq!(contents(node.data_directory()), before, "nothing in it has changed");

    fs::write(&identity, kept).expect("the identity can be written");
    node.start().serves().await;
    eventually("the log is there", async || {
        let list = cluster.quipu(["log", "list"]).run().await;
        if list.bytes() == b"orders\n" { Ok(()) } else { Err(list.to_string()) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_identity_is_refused() {
    let cluster = Cluster::start(1).await;
    let node = cluster.node(1);
    node.terminates().await;
    let identity = node.data_directory().join("IDENTITY");
    let kept = fs::read(&identity).expect("the identity");
    let mut spoiled = kept.clone();
    spoiled[HEAD] ^= 1;
    for damage in [spoiled, kept[..kept.len() / 2].to_vec(), Vec::new()] {
        fs::write(&identity, &damage).expect("the identity can be written");
        serve(node, &[]).await.exits_with(1).mentions("identity");
        assert_eq!(fs::read(&identity).expect("the identity"), damage, "it is left as it was");
    }
}

#[tokio::test]
async fn a_contradictory_configuration_is_refused_by_its_reason() {
    let cluster = Cluster::of(3).prepare();
    let node = cluster.node(1);
    for (arguments, reason) in [
        (&["--node-id", "7"][..], "7"),
        (&["--node-id", "0"], "node"),
        (&["--set", "journal.segment_bytes=1000"], "segment_bytes"),
        (&["--set", "journal.no_such_key=1"], "no_such_key"),
        (
            &["--set", "raft.election_timeout_min_ms=900", "--set", "raft.election_timeout_max_ms=300"],
            "election_timeout",
        ),
        (&["--set", "raft.heartbeat_ms=5000"], "heartbeat"),
        (&["--peers", "1=127.0.0.1:1,1=127.0.0.1:2"], "1"),
        (&["--peers", "1=nowhere"], "nowhere"),
        (&["--config", "/nonexistent/quipu.toml"], "/nonexistent/quipu.toml"),
    ] {
        serve(node, arguments).await.must_be_refused_for(reason);
        assert!(!node.data_directory().exists(), "{arguments:?}: nothing was made");
    }

    let file = cluster.directory().join("quipu.toml");
    for (text, reason) in [
        ("no_such_key = 1\n", "no_such_key"),
        ("node_id = \n", "TOML"),
        ("[journal]\nsegment_bytes = \"x\"\n", "segment_bytes"),
    ] {
        fs::write(&file, text).expect("a configuration");
        serve(node, &["--config", file.to_str().expect("a path in UTF-8")]).await.must_be_refused_for(reason);
        assert!(!node.data_directory().exists(), "{text:?}: nothing was made");
    }
}

/// Runs the node's own command with more arguments, which come last and so
/// replace earlier ones, to its end.
async fn serve(node: &Node, arguments: &[&str]) -> Finished {
    let replaced = |flag: &OsString| arguments.iter().any(|a| *a == flag && *a != "--set");
    let mut line: Vec<OsString> = Vec::new();
    let mut own = node.arguments().iter();
    while let Some(argument) = own.next() {
        if replaced(argument) {
            own.next();
        } else {
            line.push(argument.clone());
        }
    }
    line.extend(arguments.iter().map(OsString::from));
    Command::new(line).run().await
}

trait Refusal {
    fn must_be_refused_for(self, reason: &str);
}

impl Refusal for Finished {
    /// Usage (2) where the arguments alone show it, else refused (1).
    fn must_be_refused_for(self, reason: &str) {
        assert!(matches!(self.code(), Some(1 | 2)), "{self}");
        let _ = self.complains_of(reason);
    }
}

/// Every file under a directory with its bytes; the lock file, which says
/// nothing, apart.
fn contents(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).expect("a readable directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                open.push(path);
            } else if path.file_name().is_some_and(|name| name != "LOCK") {
                found.insert(path.clone(), fs::read(path).expect("a readable file"));
            }
        }
    }
    found
}

/// The identity with another format version, as storage/src/identity.rs
/// describes the file: its head is the same in every version.
fn with_version(identity: &[u8], version: u32) -> Vec<u8> {
    let length = u32::from_le_bytes(identity[12..16].try_into().expect("four bytes"));
    let message = &identity[HEAD..HEAD + usize::try_from(length).expect("a small file")];
    let mut sealed = version.to_le_bytes().to_vec();
    sealed.extend(length.to_le_bytes());
    sealed.extend(message);
    let mut changed = identity.to_vec();
    changed[8..12].copy_from_slice(&version.to_le_bytes());
    changed[16..HEAD].copy_from_slice(&XxHash3_64::oneshot(&sealed).to_le_bytes());
    changed
}
