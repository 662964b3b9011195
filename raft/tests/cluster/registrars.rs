//! Registrars grow with their cluster.

use quipu_protocol::ReaderGroupName;
use quipu_raft::group::Role;
use quipu_raft::node::RegistrarLookupError;

use crate::cluster::{Cluster, settled_voters};

/// The node that leads each registrar, if each has so many voters and no other replicas.
async fn leaders(cluster: &Cluster, registrars: usize, voters: usize) -> Option<Vec<u64>> {
    let mut leaders = Vec::new();
    for number in 0..registrars {
        for (id, node) in cluster.running() {
            let Ok((replica, _)) = node.registrar_numbered(number).await else { continue };
            let status = replica.group().status();
            let grown = settled_voters(&status).is_some_and(|they| they.len() == voters);
            if status.role == Role::Leader && grown && status.membership.replicas.len() == voters {
                leaders.push(id);
                break;
            }
        }
    }
    (leaders.len() == registrars).then_some(leaders)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registrars_of_one_node_get_three_replicas_as_the_cluster_grows_and_survive_its_loss() {
    let mut cluster = Cluster::founded(1).await;
    let group: ReaderGroupName = "billing".parse().expect("a name");
    cluster.node(1).registrar_for(&group).await.expect("the registrars are created");
    let (_, count) = cluster.node(1).registrar_numbered(0).await.expect("the first one");
    for voters in [2, 3] {
        cluster.join().await;
        cluster.eventually("registrars have grown", async || leaders(&cluster, count, voters).await).await;
    }
    let last = cluster.join().await;
    let Err(RegistrarLookupError::NoReplicaHere { replicas }) = cluster.node(last).registrar_for(&group).await else {
        panic!("three are enough");
    };
    assert_eq!(replicas.iter().map(|peer| peer.node).collect::<Vec<_>>(), [1, 2, 3]);

    cluster.kill(1);
    cluster.eventually("others lead the registrars", async || leaders(&cluster, count, 3).await).await;
}
