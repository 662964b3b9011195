//! Records found by their time.

use bytes::Bytes;
use quipu_protocol::batch::{BatchBuilder, Compression, Record};
use quipu_protocol::{Offset, Timestamp};
use quipu_raft::Sought;
use quipu_storage::{Batch, Kv, Space};

use crate::cluster::Cluster;
use crate::stories::story;

/// What a batch may come to.
const DECOMPRESSED: usize = 1 << 20;

/// A batch of records at these times.
fn batch(compression: Compression, times: &[i64]) -> Bytes {
    let mut builder = BatchBuilder::new(compression);
    for time in times {
        let value = Bytes::from(format!("{time} {}", "x".repeat(100)));
        builder.push(&Record::new(Timestamp::new(*time), value)).unwrap();
    }
    builder.finish(None).unwrap()
}

/// Makes sure that `replica` finds, for every time, what looking at all of
/// `times` finds from `start` on.
async fn finds_as_looking_at_all(cluster: &Cluster, replica: u64, times: &[i64], start: usize) {
    let log = cluster.log(replica);
    log.wait_past(Offset::new(times.len() as u64 - 1)).await.unwrap();
    let newest = times.iter().max().unwrap();
    for at in (-5..=*newest + 5).step_by(3) {
        let expected = (start..times.len()).find(|n| times[*n] >= at);
        let expected = expected.map(|n| (Offset::new(n as u64), Timestamp::new(times[n])));
        let found: Sought = log.seek(Timestamp::new(at), DECOMPRESSED).await.unwrap();
        assert_eq!(found.record, expected, "at {at} on replica {replica}");
        assert_eq!(found.range, log.range());
    }
}

#[tokio::test(start_paused = true)]
async fn first_record_at_or_after_a_time_is_found_on_every_replica_before_and_after_a_power_cut() {
    story(async {
        let mut cluster = Cluster::start(3).await;
        let mut times = Vec::new();
        for n in 0..60_i64 {
            // In batches of three, out of order, some compressed.
            let some = [10 * n, 10 * n - 25, 10 * n + (n % 7) * 9];
            let compression = if n % 2 == 0 { Compression::None } else { Compression::Lz4 };
            cluster.append(batch(compression, &some)).await;
            times.extend(some);
        }
        for replica in [1, 2, 3] {
            finds_as_looking_at_all(&cluster, replica, &times, 0).await;
        }
        // A record from far ahead is trimmed: it hides nothing.
        let ahead = [90_000, 700];
        cluster.append(batch(Compression::None, &ahead)).await;
        times.extend(ahead);
        cluster.append(batch(Compression::None, &[710, 720])).await;
        times.extend([710, 720]);
        let start = times.len() - 3;
        cluster.trim(start as u64).await;
        for replica in [1, 2, 3] {
            let log = cluster.log(replica);
            log.wait_past(Offset::new(times.len() as u64 - 1)).await.unwrap();
            cluster.purged(replica, 1).await;
            let found = log.seek(Timestamp::new(715), DECOMPRESSED).await.unwrap();
            assert_eq!(found.record, Some((Offset::new(times.len() as u64 - 1), Timestamp::new(720))));
            assert_eq!(log.seek(Timestamp::new(721), DECOMPRESSED).await.unwrap().record, None);
        }
        for replica in [1, 2, 3] {
            cluster.crash(replica);
            let mut everything = Batch::new();
            for space in Space::ALL {
                everything.delete_range(space, Bytes::new(), vec![0xff; 32]);
            }
            cluster.node(replica).kv.write(everything).unwrap();
        }
        for replica in [1, 2, 3] {
            cluster.restart(replica).await.unwrap();
        }
        cluster.leader().await;
        for replica in [1, 2, 3] {
            let log = cluster.log(replica);
            log.wait_past(Offset::new(times.len() as u64 - 1)).await.unwrap();
            let found = log.seek(Timestamp::new(-9), DECOMPRESSED).await.unwrap();
            assert_eq!(found.record, Some((Offset::new(start as u64), Timestamp::new(700))));
        }
        assert_eq!(cluster.image(2), cluster.image(3));
    })
    .await;
}
