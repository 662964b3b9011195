//! Whoever reads a log's end gets the bytes that the journal has in memory.

use quipu_protocol::Offset;

use crate::cluster::{Cluster, batch};
use crate::stories::story;

const FOLLOWERS: usize = 1_000;

#[tokio::test(start_paused = true)]
async fn a_thousand_readers_of_a_log_share_the_bytes_in_memory() {
    story(async {
        let cluster = Cluster::start(3).await;
        cluster.append(batch(&["a", "b"], None)).await;
        cluster.append(batch(&["c"], None)).await;
        for replica in 1..=3 {
            let log = cluster.log(replica);
            log.wait_past(Offset::new(2)).await.unwrap();
            let mut all = Vec::new();
            for _ in 0..FOLLOWERS {
                all.push(log.read(Offset::ZERO, 1 << 20).await.unwrap());
            }
            let first: Vec<*const u8> = all[0].batches.iter().map(|batch| batch.shared().as_ptr()).collect();
            assert_eq!(first.len(), 2);
            for chunk in &all {
                let here: Vec<*const u8> = chunk.batches.iter().map(|batch| batch.shared().as_ptr()).collect();
                assert_eq!(here, first, "replica {replica} copied a batch for one of its readers");
            }
        }
    })
    .await;
}
