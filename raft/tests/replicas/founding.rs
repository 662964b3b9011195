//! How a group gets its first entry and its first leader.

use openraft::async_runtime::watch::WatchReceiver;
use quipu_protocol::{Index, Term};
use quipu_storage::journal::EntryId;

use crate::cluster::{Cluster, batch, key};
use crate::stories::story;

const FIRST: EntryId = EntryId { term: Term::new(0), index: Index::new(0) };

#[tokio::test(start_paused = true)]
async fn group_is_led_though_its_first_founder_never_came() {
    story(async {
        let mut cluster = Cluster::founded_by(3);
        cluster.add(2).await;
        cluster.add(3).await;
        assert_ne!(cluster.leader().await, 1);
        cluster.append(batch(&["a"], None)).await;
        // It comes late, and gets what there is.
        cluster.add(1).await;
        assert_eq!(cluster.values(1, 1).await, ["a"]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn group_is_led_though_its_first_founder_dies_as_it_asks_for_votes() {
    story(async {
        let mut cluster = Cluster::start(3).await;
        let mut voter = cluster.log(2).group().raft().metrics();
        while voter.borrow_watched().current_term == 0 {
            voter.changed().await.unwrap();
        }
        cluster.crash(1);
        cluster.append(batch(&["a"], None)).await;
        for replica in [2, 3] {
            assert_eq!(cluster.values(replica, 1).await, ["a"]);
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn founders_that_lose_power_before_they_vote_found_their_group_afterwards() {
    story(async {
        let mut cluster = Cluster::founded_by(3);
        for replica in [1, 2, 3] {
            cluster.add(replica).await;
            assert_eq!(cluster.journal(replica).durable(key(replica)), Some(FIRST), "before it could be asked");
        }
        for replica in [1, 2, 3] {
            cluster.crash(replica);
        }
        for replica in [1, 2, 3] {
            cluster.restart(replica).await.unwrap();
        }
        cluster.append(batch(&["a"], None)).await;
        for replica in [1, 2, 3] {
            assert_eq!(cluster.values(replica, 1).await, ["a"]);
        }
    })
    .await;
}
