//! How a new node gets its cluster: founds it, with all the others, or joins.
//!
//! ```text
//!   IDENTITY names a cluster? ── yes ─▶ take part in it, unless its peers
//!        │                              turn out to be of another (`belonging`)
//!        ▼ no
//!   ask every listed peer who it is
//!        ├ one knows a cluster, and counts this very disk among its founders ─▶ be one
//!        ├ one knows a cluster ──────────────────▶ join it, with new replica ids
//!        ├ all are new and list the same nodes ──▶ found it
//!        └ one is silent, or lists others ───────▶ ask again
//! ```
//!
//! # Invariant
//! A cluster is founded only by nodes that are all new (invariant 7 of the
//! architecture). A node that lost its disk finds peers that know the cluster,
//! or waits for them; it never founds a second one. What was decided is durable
//! before it is acted upon, and every founder decides the same: the cluster's
//! id and the founders follow from who they are.

mod belonging;

use std::collections::BTreeMap;
use std::time::Duration;

use quipu_protocol::peer::{Founder, Introduction, JoinReply, Joined, join_reply, refusal};
use quipu_protocol::{ClusterId, Incarnation, NodeId, v1};

use crate::catalog::founding_nodes;
use crate::node::{Fatal, Inner};

pub(crate) use belonging::{look_around, meet_peers};

/// A peer is asked again after this time.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// A peer that does not answer within this time counts as silent.
const HELLO_DEADLINE: Duration = Duration::from_secs(1);

/// The catalog's leader is to take a node in within this time.
const JOIN_DEADLINE: Duration = Duration::from_secs(6);

/// How often the reason for waiting is told, in rounds.
const TELL_EVERY: u64 = 50;

/// The nodes that found a cluster: their disks and addresses.
type Founders = BTreeMap<NodeId, (Incarnation, String)>;

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Decision {
    /// Be a founder of this cluster.
    Found { cluster: ClusterId, founders: Founders },
    /// Ask this node to be taken in.
    Join { via: NodeId },
    /// Ask again; says what is missing.
    Wait { reason: String },
}

/// Returns once the node has a cluster, which its IDENTITY then names.
pub(crate) async fn find_cluster(inner: &Inner) -> Result<(), Fatal> {
    let members = inner.config().members();
    let mut round: u64 = 0;
    while inner.peers().cluster().is_none() {
        let answers = ask(inner, &members).await;
        let reason = match decide(&inner.peers().me(), &answers) {
            Decision::Found { cluster, founders } => return found(inner, cluster, &founders),
            Decision::Join { via } => match join(inner, via, &members[&via]).await? {
                Some(joined) => return joined_as(inner, joined),
                None => format!("node {via} cannot take this node in yet"),
            },
            Decision::Wait { reason } => reason,
        };
        if round.is_multiple_of(TELL_EVERY) {
            tracing::info!(node = inner.config().node.get(), %reason, "waiting for a cluster");
        }
        round += 1;
        inner.environment().clock.sleep(ASK_AGAIN).await;
    }
    Ok(())
}

/// Asks every other node who it is; none where it did not answer.
async fn ask(inner: &Inner, members: &BTreeMap<NodeId, String>) -> BTreeMap<NodeId, Option<Introduction>> {
    let others = members.iter().filter(|(node, _)| **node != inner.config().node);
    let answers =
        others.map(|(node, address)| async move { (*node, inner.peers().hello(address, HELLO_DEADLINE).await.ok()) });
    futures_util::future::join_all(answers).await.into_iter().collect()
}

/// What follows from what the others said, each under the number it is listed
/// by.
fn decide(me: &Introduction, answers: &BTreeMap<NodeId, Option<Introduction>>) -> Decision {
    for (node, answer) in answers {
        if let Some(answer) = answer.as_ref().filter(|answer| answer.node != node.get()) {
            return wait(format!("node {node} is listed with the address of node {}", answer.node));
        }
    }
    let said = || answers.iter().filter_map(|(node, answer)| Some((*node, answer.as_ref()?)));
    let clusters: BTreeMap<u64, NodeId> =
        said().filter(|(_, it)| it.cluster_id != 0).map(|(node, it)| (it.cluster_id, node)).collect();
    if clusters.len() > 1 {
        return wait(format!("the listed peers are of {} clusters", clusters.len()));
    }
    if let Some((cluster, via)) = clusters.into_iter().next() {
        let mine = |it: &Founder| it.node == me.node && it.incarnation == me.incarnation;
        return match said().find(|(_, it)| it.cluster_id == cluster && it.founders.iter().any(mine)) {
            Some((_, it)) => Decision::Found { cluster: ClusterId::new(cluster), founders: founders_of(&it.founders) },
            None => Decision::Join { via },
        };
    }
    if let Some((silent, _)) = answers.iter().find(|(_, answer)| answer.is_none()) {
        return wait(format!("node {silent} does not answer"));
    }
    if let Some((other, _)) = said().find(|(_, it)| it.configured != me.configured) {
        return wait(format!("node {other} lists other nodes to found a cluster with"));
    }
    let mut founders: Founders =
        said().map(|(node, it)| (node, (Incarnation::new(it.incarnation), it.address.clone()))).collect();
    founders.insert(NodeId::new(me.node), (Incarnation::new(me.incarnation), me.address.clone()));
    Decision::Found { cluster: cluster_id(&founders), founders }
}

fn wait(reason: String) -> Decision {
    Decision::Wait { reason }
}

fn founders_of(founders: &[Founder]) -> Founders {
    let founder = |it: &Founder| (NodeId::new(it.node), (Incarnation::new(it.incarnation), it.address.clone()));
    founders.iter().map(founder).collect()
}

/// The cluster's id follows from its founders, whose incarnations were drawn at
/// random; FNV-1a, because it is specified in two lines and is never changed.
fn cluster_id(founders: &Founders) -> ClusterId {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut add = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    };
    for (node, (incarnation, _)) in founders {
        add(&node.get().to_le_bytes());
        add(&incarnation.get().to_le_bytes());
    }
    ClusterId::new(hash.max(1))
}

fn found(inner: &Inner, cluster: ClusterId, founders: &Founders) -> Result<(), Fatal> {
    quipu_protocol::point!("cluster-founded");
    let nodes = founding_nodes(founders);
    tracing::info!(%cluster, founders = founders.len(), "founding a cluster");
    inner.remember_cluster(|identity| {
        identity.cluster_id = cluster.get();
        identity.catalog_replica = identity.node;
        identity.peers = nodes.iter().map(|it| v1::Peer { node: it.id, address: it.address.clone() }).collect();
        identity.founders = nodes;
    })
}

/// Asks the node `via` to be taken in; none when it cannot do so now.
async fn join(inner: &Inner, via: NodeId, address: &str) -> Result<Option<Joined>, Fatal> {
    match inner.peers().join(address, JOIN_DEADLINE).await {
        Ok(JoinReply { outcome: Some(join_reply::Outcome::Joined(joined)) }) => Ok(Some(joined)),
        Ok(JoinReply { outcome: Some(join_reply::Outcome::Refusal(refusal)) }) => match refusal.reason() {
            refusal::Reason::OlderDisk | refusal::Reason::OtherCluster | refusal::Reason::Malformed => {
                Err(Fatal::Refused { by: via, reason: refusal.message })
            }
            _ => Ok(None),
        },
        Ok(JoinReply { outcome: None }) | Err(_) => Ok(None),
    }
}

fn joined_as(inner: &Inner, joined: Joined) -> Result<(), Fatal> {
    quipu_protocol::point!("cluster-joined");
    tracing::info!(
        cluster = %ClusterId::new(joined.cluster_id),
        replica = joined.catalog_replica,
        "joining a cluster with a new disk"
    );
    inner.remember_cluster(|identity| {
        identity.cluster_id = joined.cluster_id;
        identity.catalog_replica = joined.catalog_replica;
        identity.peers = joined.nodes;
        identity.founders.clear();
    })
}

#[cfg(test)]
mod tests;
