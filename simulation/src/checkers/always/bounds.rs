//! What a node holds, against its bounds: queues by the bounds that the code
//! names, tasks by what the node has to do.
//!
//! ```text
//!   tasks ≤ the node's own
//!           + each replica's, its way to each other member, and what it asks of it
//!           + each peer's links and streams
//!           + each connection's and each client's request's, and what is ending
//!             (none of these once it is calm, but for the peers' connections)
//! ```

use quipu_protocol::{LogId, ReplicaId};
use quipu_raft::GroupStatus;
use quipu_raft::node::Gauge;

use super::Look;
use crate::violation::Violation;

// What seeds 40000 to 40149 had at most, and a little more: a leak shows by its
// growth.

/// What a node has whatever it does.
const OWN: u64 = 27;
/// What is just ending: all connections break at once when they are reset.
const ENDING: u64 = 24;
/// openraft's workers, the queue of appends, those who watch.
const A_REPLICA: u64 = 10;
/// A leader's replication to another member.
const A_MEMBER: u64 = 2;
/// What a replica has just asked of another member, and may have no answer to yet, in
/// both rounds of an election: all of a node's groups elect at once when another node
/// is lost.
const A_QUESTION: u64 = 2;
/// The links to a peer, with the connections that they have opened.
const A_PEER: u64 = 8;
/// An open connection, and a peer's stream on it.
const A_CONNECTION: u64 = 3;
/// A client's request that is being answered.
const A_REQUEST: u64 = 2;
/// The connections that a peer opens: one of each kind, and one for calls that
/// stand alone.
const CONNECTIONS_OF_A_PEER: u64 = 3;

/// The tasks of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tasks {
    /// How many there are.
    pub(crate) alive: u64,
    /// How many other nodes there are.
    pub(crate) peers: u64,
    /// How many logs let go of records by themselves, which takes a task each.
    pub(crate) forgetting: u64,
}

/// No queue holds more than its bound.
pub(super) fn bounds_hold(look: &Look<'_>, violations: &mut Vec<Violation>) {
    for Gauge { name, value, bound } in look.footprint.iter().filter(|gauge| gauge.is_over()) {
        let details = format!("node {} (boot {}): {name} is {value}, its bound {bound}", look.node, look.boot);
        violations.push(Violation::new("bounds-hold", details));
    }
}

/// A node has no more tasks than its work needs.
pub(super) fn tasks_are_bounded(look: &Look<'_>, violations: &mut Vec<Violation>) {
    let of = |name| look.footprint.iter().find(|gauge| gauge.name == name).map_or(0, |gauge| gauge.value);
    let (connections, requests) = (of("connections"), of("requests"));
    let needed = base(&look.replicas, look.tasks) + connections * A_CONNECTION + requests * A_REQUEST;
    let questions = look.replicas.iter().map(|(_, _, status)| others(status) * A_QUESTION).sum::<u64>();
    let bound = needed + questions + ENDING;
    let Tasks { alive, peers, .. } = look.tasks;
    if alive > bound {
        let details = format!(
            "node {} (boot {}) has {alive} tasks; {bound} are what {} replicas, {peers} peers, {connections} \
             connections and {requests} requests need",
            look.node,
            look.boot,
            look.replicas.len()
        );
        violations.push(Violation::new("tasks-are-bounded", details));
    }
}

/// Once nobody asks anything of a node, and its connections were opened anew,
/// it has the tasks of its replicas and its peers and no others.
pub(crate) fn tasks_end(node: u64, tasks: Tasks, replicas: &[(LogId, ReplicaId, GroupStatus)]) -> Option<Violation> {
    let Tasks { alive, peers, .. } = tasks;
    let base = base(replicas, tasks) + peers * CONNECTIONS_OF_A_PEER * A_CONNECTION;
    let replicas = replicas.len();
    let details = format!("node {node} has {alive} tasks left; {replicas} replicas and {peers} peers need {base}");
    (alive > base).then(|| Violation::new("tasks-end", details))
}

/// What depends on replicas and peers alone.
fn base(replicas: &[(LogId, ReplicaId, GroupStatus)], tasks: Tasks) -> u64 {
    let replicas = replicas.iter().map(|(_, _, status)| A_REPLICA + others(status) * A_MEMBER);
    OWN + replicas.sum::<u64>() + tasks.forgetting + tasks.peers * A_PEER
}

fn others(status: &GroupStatus) -> u64 {
    (status.membership.replicas.len() as u64).saturating_sub(1)
}
