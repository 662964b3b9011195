//! What replicas say of how old they are.

use std::time::Duration;

use quipu_protocol::v1;
use quipu_raft::LogReplica;

use crate::cluster::{Cluster, address, log_name};

impl Cluster {
    fn now(&self) -> Duration {
        self.environment.clock.monotonic()
    }

    async fn create_orders(&self, replicas: u32) {
        self.create(1, "orders", v1::LogConfig { replicas, ..v1::LogConfig::default() }).await;
    }

    /// Waits until `replica` says that it has all that was acknowledged before now.
    async fn fresh_as_of_now(&self, replica: &LogReplica) {
        let now = self.now();
        self.eventually("a replica knows that it is fresh", async || {
            replica.freshness().as_of.filter(|as_of| *as_of >= now)
        })
        .await;
    }
}

#[tokio::test]
async fn a_follower_knows_that_it_has_what_was_acknowledged_until_it_is_cut_off() {
    let cluster = Cluster::new(3).whose_leaders_stay().found().await;
    cluster.create_orders(3).await;
    let appended = cluster.append("orders", "a").await;
    let (leader, _) = cluster.leader("orders").await;
    let follower = cluster.ids().into_iter().find(|id| *id != leader).expect("another node");
    let replica = cluster.node(follower).log(&log_name("orders")).await.expect("it is there");
    cluster.fresh_as_of_now(&replica).await;
    assert_eq!(replica.range().end(), appended.end(), "what was acknowledged before is there");
    assert_eq!(replica.freshness().reach, appended.end().get());

    cluster.wires.cut(&address(follower));
    let cut = cluster.now();
    cluster.append("orders", "b").await;
    let freshness = replica.freshness();
    assert!(freshness.as_of <= Some(cut), "{freshness:?} without what was acknowledged after {cut:?}");
    assert_eq!((freshness.reach, replica.range().end()), (appended.end().get(), appended.end()));
}

#[tokio::test]
async fn a_leader_that_is_cut_off_does_not_take_itself_for_fresh() {
    let cluster = Cluster::new(3).whose_leaders_stay().found().await;
    cluster.create_orders(3).await;
    cluster.append("orders", "a").await;
    let (leader, replica) = cluster.leader("orders").await;
    cluster.fresh_as_of_now(&replica).await;
    cluster.wires.cut(&address(leader));
    let cut = cluster.now();
    // Heartbeats go on meanwhile, and nobody hears of them.
    cluster.environment.clock.sleep(Duration::from_millis(300)).await;
    let freshness = replica.freshness();
    assert!(freshness.as_of.is_some_and(|as_of| as_of <= cut), "{freshness:?}, cut off at {cut:?}");
}

#[tokio::test]
async fn the_only_replica_is_always_fresh() {
    let cluster = Cluster::founded(1).await;
    cluster.create_orders(1).await;
    cluster.append("orders", "a").await;
    let (_, replica) = cluster.leader("orders").await;
    let now = cluster.now();
    assert!(replica.freshness().as_of >= Some(now));
}
