//! A host of its own for every node: a network namespace with an address, so
//! that what happens to packets between nodes is what happens to them between
//! machines.
//!
//! ```text
//!   test, clients ── bridge 198.18.N.126 ─┬─ node 1: 198.18.N.1
//!                                         ├─ node 2: 198.18.N.2
//!                                         └─ …
//! ```
//!
//! Packets are lost by naming a station that is not there as the next one (in
//! the sender's table of neighbours), so that a loss has a direction, nobody is
//! told, and TCP goes on from where it was once they pass again.
//!
//! It takes Linux, iproute2 and the right to make namespaces, which root has.

use std::path::Path;
use std::process::Command;

use quipu_protocol::NodeId;

/// No station on any bridge.
const NOBODY: &str = "02:00:00:00:00:fe";

/// The hosts of a cluster. Dropping them removes them.
pub struct Hosts {
    /// Tells them from those of other clusters, in other processes too.
    name: String,
    /// All but the last byte of their addresses: 198.18.0.0/15 is set aside for
    /// tests of networks.
    net: String,
    /// The last byte of the address before the first one's.
    base: u64,
    nodes: u16,
}

/// Packets that are lost, until this is dropped.
#[must_use = "they pass again when it is dropped"]
pub struct Cut<'a> {
    hosts: &'a Hosts,
    lost: Vec<(NodeId, NodeId)>,
}

/// A slow link, until this is dropped.
#[must_use = "it is as fast as before when it is dropped"]
pub struct Slow<'a> {
    hosts: &'a Hosts,
    node: NodeId,
}

impl Hosts {
    /// Whether hosts can be made here.
    pub fn can_be_made() -> bool {
        rustix::process::geteuid().is_root() && Command::new("ip").arg("-V").output().is_ok()
    }

    /// Makes so many. `number` is one that no other cluster on this machine has
    /// meanwhile.
    pub(crate) fn make(nodes: u16, number: u16) -> Self {
        for name in names_of_the_dead() {
            remove(&name);
        }
        let net = format!("198.{}.{}", 18 + number / 512, number % 512 / 2);
        let base = u64::from(number % 2) * 128;
        let hosts = Self { name: format!("q{}-{number}", std::process::id()), net, base, nodes };
        remove(&hosts.name);
        ip(&["link", "add", &hosts.name, "type", "bridge"]);
        ip(&["addr", "add", &hosts.at(126), "dev", &hosts.name]);
        ip(&["link", "set", &hosts.name, "up"]);
        for node in (1..=u64::from(nodes)).map(NodeId::new) {
            let (space, outer) = (hosts.namespace(node), format!("{}.{node}", hosts.name));
            ip(&["netns", "add", &space]);
            ip(&["link", "add", &outer, "type", "veth", "peer", "name", "eth0", "netns", &space]);
            ip(&["link", "set", &outer, "master", &hosts.name, "up"]);
            ip(&["-n", &space, "addr", "add", &hosts.at(node.get()), "dev", "eth0"]);
            ip(&["-n", &space, "link", "set", "eth0", "up"]);
            ip(&["-n", &space, "link", "set", "lo", "up"]);
        }
        hosts
    }

    /// The address of a node's host.
    pub(crate) fn address(&self, node: NodeId) -> String {
        format!("{}.{}", self.net, self.base + node.get())
    }

    /// The `i`-th address with the length of its network's prefix.
    fn at(&self, i: u64) -> String {
        format!("{}.{}/25", self.net, self.base + i)
    }

    /// The name of a node's namespace.
    pub(crate) fn namespace(&self, node: NodeId) -> String {
        format!("{}-{node}", self.name)
    }

    /// Loses what `from` sends to `to`, and nothing else.
    pub fn lose(&self, from: NodeId, to: NodeId) -> Cut<'_> {
        self.cut(vec![(from, to)])
    }

    /// Loses what passes between `node` and all others, in both directions.
    /// Clients still reach it.
    pub fn cut_off(&self, node: NodeId) -> Cut<'_> {
        let others = (1..=u64::from(self.nodes)).map(NodeId::new).filter(|other| *other != node);
        self.cut(others.flat_map(|other| [(node, other), (other, node)]).collect())
    }

    /// Loses what `node` sends to all others, while it hears them.
    pub fn mute(&self, node: NodeId) -> Cut<'_> {
        let others = (1..=u64::from(self.nodes)).map(NodeId::new).filter(|other| *other != node);
        self.cut(others.map(|other| (node, other)).collect())
    }

    /// Lets `node` send no more than so many kilobits a second.
    pub fn slow_down(&self, node: NodeId, kilobits: u32) -> Slow<'_> {
        let (space, rate) = (self.namespace(node), format!("{kilobits}kbit"));
        let limit = ["rate", &rate, "burst", "16kb", "latency", "400ms"];
        run(
            "ip",
            &[&["netns", "exec", &space, "tc", "qdisc", "add", "dev", "eth0", "root", "tbf"], &limit[..]].concat(),
        );
        Slow { hosts: self, node }
    }

    fn cut(&self, lost: Vec<(NodeId, NodeId)>) -> Cut<'_> {
        for (from, to) in &lost {
            let neighbour =
                ["neigh", "replace", &self.address(*to), "lladdr", NOBODY, "nud", "permanent", "dev", "eth0"];
            ip(&[&["-n", &self.namespace(*from)], &neighbour[..]].concat());
        }
        Cut { hosts: self, lost }
    }
}

impl Drop for Cut<'_> {
    fn drop(&mut self) {
        for (from, to) in &self.lost {
            let address = self.hosts.address(*to);
            ip(&["-n", &self.hosts.namespace(*from), "neigh", "del", &address, "dev", "eth0"]);
        }
    }
}

impl Drop for Slow<'_> {
    fn drop(&mut self) {
        let space = self.hosts.namespace(self.node);
        run("ip", &["netns", "exec", &space, "tc", "qdisc", "del", "dev", "eth0", "root"]);
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// The names of hosts whose tests have ended without removing them.
fn names_of_the_dead() -> Vec<String> {
    let listed = ip(&["-o", "link", "show", "type", "bridge"]);
    let names = listed.lines().filter_map(|line| line.split(": ").nth(1));
    let is_dead = |name: &&str| {
        let process = name.strip_prefix('q').and_then(|rest| rest.split_once('-'));
        process.and_then(|(id, _)| id.parse().ok()).is_some_and(|id: u32| !Path::new(&format!("/proc/{id}")).exists())
    };
    names.filter(is_dead).map(str::to_owned).collect()
}

/// Removes the hosts of this name, if there are any.
fn remove(name: &str) {
    // A namespace takes its end of a link with it, but in its own time.
    let ends = format!("{name}.");
    let listed = ip(&["-o", "link", "show", "type", "veth"]);
    for end in listed.lines().filter_map(|line| line.split(": ").nth(1)?.split('@').next()) {
        if end.starts_with(&ends) {
            ip(&["link", "del", end]);
        }
    }
    let prefix = format!("{name}-");
    let listed = ip(&["netns", "list"]);
    for space in listed.lines().filter_map(|line| line.split_whitespace().next()) {
        if space.starts_with(&prefix) {
            ip(&["netns", "del", space]);
        }
    }
    if ip(&["-o", "link", "show", "type", "bridge"]).contains(&format!(" {name}:")) {
        ip(&["link", "del", name]);
    }
}

fn ip(arguments: &[&str]) -> String {
    run("ip", arguments)
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    let told = String::from_utf8_lossy(&output.stderr);
    // Dropped while a test panics, another panic would hide the first one.
    let succeeded = output.status.success() || std::thread::panicking();
    assert!(succeeded, "{program} {}: {told}", arguments.join(" "));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
