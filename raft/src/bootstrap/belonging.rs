//! Whether a node is among its own: a data directory of one cluster and the
//! peers of another make no node of either.
//!
//! ```text
//!   ask every node known who it is
//!     ├ one is of this node's cluster ──────▶ it belongs, for as long as it runs
//!     ├ most are of one other cluster ──────▶ take no part; still so after
//!     │                                       a while: end
//!     └ else (silent, new, of several) ─────▶ take part, and ask again
//! ```
//!
//! # Why this cannot end a healthy node
//! What is asked for is more than half of the *other* nodes known, each
//! answering under its own number. Those that are left are then no majority of
//! the nodes known, so that this node could not reach a majority of its cluster
//! whoever else comes up. One peer of its own cluster outweighs all of that, and
//! a node that has met one looks no further.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use quipu_protocol::peer::Introduction;
use quipu_protocol::{ClusterId, NodeId};

use crate::node::{Fatal, Inner};

/// A node's start waits so long at most for the answers of its peers.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);

/// The peers are asked again after this time.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// How long the answers have to stay the same before the node ends: time for a
/// peer of its own cluster that is only just starting.
const CONVINCED_AFTER: Duration = Duration::from_secs(3);

/// Who a node's peers are to it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Belonging {
    /// One of them is of its cluster.
    Met,
    /// Nothing follows from what they say.
    Open,
    /// Most of them are of one other cluster, and none is of its own.
    Strange { cluster: ClusterId, nodes: Vec<NodeId> },
}

/// Returns once nothing speaks against taking part in this node's cluster.
///
/// # Errors
/// When it never may.
pub(crate) async fn look_around(node: &Inner) -> Result<(), Fatal> {
    ask_until(node, |belonging| !matches!(belonging, Belonging::Strange { .. })).await
}

/// Returns once a peer of this node's cluster has answered, if that has any.
///
/// # Errors
/// When the peers turn out to be of another one.
pub(crate) async fn meet_peers(node: &Inner) -> Result<(), Fatal> {
    ask_until(node, |belonging| *belonging == Belonging::Met).await
}

async fn ask_until(node: &Inner, enough: impl Fn(&Belonging) -> bool) -> Result<(), Fatal> {
    let clock = &node.environment().clock;
    let own = node.peers().cluster().unwrap_or_default();
    let mut suspected: Option<(ClusterId, Duration)> = None;
    while !node.peers().others().is_empty() {
        let belonging = ask(node, own).await;
        if enough(&belonging) {
            return Ok(());
        }
        suspected = match belonging {
            Belonging::Strange { cluster, nodes } => {
                let now = clock.monotonic();
                let since = suspected.filter(|(before, _)| *before == cluster).map_or(now, |(_, since)| since);
                if now.saturating_sub(since) >= CONVINCED_AFTER {
                    return Err(Fatal::OtherCluster { own, theirs: cluster, nodes });
                }
                Some((cluster, since))
            }
            Belonging::Met | Belonging::Open => None,
        };
        clock.sleep(ASK_AGAIN).await;
    }
    Ok(())
}

/// Asks every other node known, where it is thought to be, until one of this
/// node's own cluster answers or all have had their time.
async fn ask(node: &Inner, own: ClusterId) -> Belonging {
    let peers = node.peers();
    let others = peers.others();
    let mut asked: FuturesUnordered<_> = others
        .iter()
        .filter_map(|other| Some((*other, peers.address(*other)?)))
        .map(|(other, address)| async move { (other, peers.hello(&address, ANSWER_WITHIN).await.ok()) })
        .collect();
    let mut answers = BTreeMap::new();
    while let Some((other, answer)) = asked.next().await {
        answers.extend(answer.map(|answer| (other, answer)));
        if belonging(own, others.len(), &answers) == Belonging::Met {
            return Belonging::Met;
        }
    }
    belonging(own, others.len(), &answers)
}

/// What follows from the answers of some of so many `others`, each under the
/// number that it was asked for.
fn belonging(own: ClusterId, others: usize, answers: &BTreeMap<NodeId, Introduction>) -> Belonging {
    let mut strangers: BTreeMap<ClusterId, Vec<NodeId>> = BTreeMap::new();
    // A node that answers in another's place counts for nobody: one node
    // reached by two addresses would count twice. One without a cluster may
    // yet become a peer.
    for (node, answer) in answers.iter().filter(|(node, it)| it.node == node.get() && it.cluster_id != 0) {
        match ClusterId::new(answer.cluster_id) {
            cluster if cluster == own => return Belonging::Met,
            cluster => strangers.entry(cluster).or_default().push(*node),
        }
    }
    let most = strangers.into_iter().find(|(_, nodes)| nodes.len() * 2 > others);
    most.map_or(Belonging::Open, |(cluster, nodes)| Belonging::Strange { cluster, nodes })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: ClusterId = ClusterId::new(7);
    const OTHER: ClusterId = ClusterId::new(8);
    const THIRD: ClusterId = ClusterId::new(9);
    const NONE: ClusterId = ClusterId::new(0);

    /// What node 1 makes of so many others, of which these answer.
    fn among(others: usize, answers: &[(u64, ClusterId)]) -> Belonging {
        let said = |(node, cluster): &(u64, ClusterId)| {
            let answer = Introduction { node: *node, cluster_id: cluster.get(), ..Introduction::default() };
            (NodeId::new(*node), answer)
        };
        belonging(OWN, others, &answers.iter().map(said).collect())
    }

    fn strange(nodes: &[u64]) -> Belonging {
        Belonging::Strange { cluster: OTHER, nodes: nodes.iter().copied().map(NodeId::new).collect() }
    }

    #[test]
    fn a_node_whose_peers_are_of_another_cluster_is_among_strangers() {
        assert_eq!(among(2, &[(2, OTHER), (3, OTHER)]), strange(&[2, 3]));
        assert_eq!(among(1, &[(2, OTHER)]), strange(&[2]));
        assert_eq!(among(4, &[(2, OTHER), (3, OTHER), (5, OTHER)]), strange(&[2, 3, 5]));
    }

    #[test]
    fn one_odd_peer_of_several_says_nothing() {
        assert_eq!(among(2, &[(2, OTHER)]), Belonging::Open);
        assert_eq!(among(2, &[(2, OTHER), (3, NONE)]), Belonging::Open);
        assert_eq!(among(2, &[(2, OTHER), (3, THIRD)]), Belonging::Open);
        assert_eq!(among(4, &[(2, OTHER), (3, OTHER)]), Belonging::Open);
    }

    #[test]
    fn one_peer_of_its_own_cluster_outweighs_all_others() {
        assert_eq!(among(4, &[(2, OTHER), (3, OTHER), (4, OTHER), (5, OWN)]), Belonging::Met);
    }

    #[test]
    fn silent_and_new_peers_are_waited_for() {
        assert_eq!(among(2, &[]), Belonging::Open);
        assert_eq!(among(2, &[(2, NONE), (3, NONE)]), Belonging::Open);
    }

    #[test]
    fn a_node_that_answers_in_another_s_place_counts_for_nobody() {
        let answer = Introduction { node: 2, cluster_id: OTHER.get(), ..Introduction::default() };
        let answers = [2, 3].map(|node| (NodeId::new(node), answer.clone()));
        assert_eq!(belonging(OWN, 2, &answers.into()), Belonging::Open);
    }
}
