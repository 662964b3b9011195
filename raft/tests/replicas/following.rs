//! What replicas tell of appends that are followed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use quipu_protocol::environment::{Span, Spans};
use quipu_protocol::trace::TraceContext;
use quipu_raft::Terms;

use crate::cluster::{Cluster, batch};
use crate::stories::story;

#[derive(Default)]
struct Recorder {
    told: Mutex<Vec<Span>>,
}

impl Spans for Recorder {
    fn record(&self, span: Span) {
        self.told.lock().unwrap().push(span);
    }
}

fn number(span: &Span, name: &str) -> u64 {
    span.numbers.iter().find(|(key, _)| *key == name).unwrap_or_else(|| panic!("no {name} in {span:?}")).1
}

/// How often each replica has told of each thing.
fn counts(spans: &[Span]) -> BTreeMap<(&'static str, u64), usize> {
    let mut counts = BTreeMap::new();
    for span in spans {
        *counts.entry((span.name, number(span, "quipu.replica"))).or_default() += 1;
    }
    counts
}

#[tokio::test(start_paused = true)]
async fn every_replica_tells_when_it_has_fsynced_and_applied_a_followed_entry() {
    story(async {
        let recorder = Arc::new(Recorder::default());
        let mut cluster = Cluster::founded_by(3);
        cluster.spans = Some(recorder.clone());
        for replica in 1..=3 {
            cluster.add(replica).await;
        }
        cluster.log(1).group().campaign().await;
        cluster.append(batch(&["nobody follows this"], None)).await;
        assert!(recorder.told.lock().unwrap().is_empty());

        let asked: TraceContext = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().unwrap();
        cluster.log(1).append_for(batch(&["this is followed"], None), Terms::default(), Some(asked)).await.unwrap();
        for replica in cluster.running() {
            assert_eq!(cluster.values(replica, 2).await.len(), 2);
        }
        let told = std::mem::take(&mut *recorder.told.lock().unwrap());
        let once = [
            ("apply", 1),
            ("apply", 2),
            ("apply", 3),
            ("journal", 1),
            ("journal", 2),
            ("journal", 3),
            ("propose", 1),
            ("queue", 1),
        ];
        assert_eq!(counts(&told), once.map(|what| (what, 1)).into());
        let propose = told.iter().find(|span| span.name == "propose").unwrap();
        for span in &told {
            assert_eq!(span.context.trace(), asked.trace(), "{span:?}");
            let part_of = match span.name {
                "queue" | "propose" => asked.span(),
                _ => propose.context.span(),
            };
            assert_eq!(span.parent, part_of, "{span:?}");
            assert!(span.start <= span.end, "{span:?}");
        }
        let indexes: Vec<u64> =
            told.iter().filter(|span| span.name == "journal").map(|span| number(span, "quipu.index")).collect();
        assert!(indexes.windows(2).all(|pair| pair[0] == pair[1]), "all of one entry: {indexes:?}");

        // Applying what the journal held already is not told of again.
        cluster.shut_down(3).await;
        cluster.restart(3).await.unwrap();
        assert_eq!(cluster.values(3, 2).await.len(), 2);
        assert!(recorder.told.lock().unwrap().is_empty());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn appends_of_one_entry_share_its_trace_by_a_link() {
    story(async {
        let recorder = Arc::new(Recorder::default());
        let mut cluster = Cluster::founded_by(1);
        cluster.spans = Some(recorder.clone());
        cluster.add(1).await;
        cluster.log(1).group().campaign().await;
        cluster.append(batch(&["the leader is there"], None)).await;
        let asked = [
            "00-0000000000000000000000000000000a-000000000000000a-01",
            "00-0000000000000000000000000000000b-000000000000000b-01",
        ];
        let [first, second]: [TraceContext; 2] = asked.map(|text| text.parse().unwrap());
        let log = cluster.log(1);
        // Both wait before the queue is looked at: they become one entry.
        let appends = (
            log.append_for(batch(&["a"], None), Terms::default(), Some(first)),
            log.append_for(batch(&["b"], None), Terms::default(), Some(second)),
        );
        let (a, b) = tokio::join!(appends.0, appends.1);
        assert_eq!((a.unwrap().range.start().get(), b.unwrap().range.start().get()), (1, 2));
        let told = recorder.told.lock().unwrap();
        let proposed = |trace: TraceContext| {
            told.iter().find(|span| span.name == "propose" && span.context.trace() == trace.trace()).unwrap()
        };
        assert!(proposed(first).links.is_empty());
        assert_eq!(proposed(second).links, [proposed(first).context]);
        assert_eq!(told.iter().filter(|span| span.name == "journal").count(), 1, "one entry");
    })
    .await;
}
