//! Barriers, reads of any replica after them, and how old replicas say that they
//! are.

use std::time::Duration;

use futures_util::future::join;
use quipu_sdk::{Consistency, From, LogName, NodeId, Offset, ReaderConfig};

use super::Context;
use super::read::{failed_read, place};
use crate::history::{Call, Outcome};

/// A read begins so many records before the barrier, at most.
const BEFORE: u64 = 20;

/// Asks for barriers, reads after them wherever that is possible, and asks nodes
/// what they have.
pub(super) async fn run(context: Context, log: usize, pause_ms: u64) {
    let log = context.log(log);
    // A barrier may take long where a leader is cut off, which is when nodes have to be asked.
    join(local_ends(&context, &log, pause_ms), barriers(&context, &log, pause_ms)).await;
}

async fn local_ends(context: &Context, log: &LogName, pause_ms: u64) {
    while context.goes_on() {
        context.pause(40 + 4 * pause_ms).await;
        local_end(context, log).await;
    }
}

async fn barriers(context: &Context, log: &LogName, pause_ms: u64) {
    while context.goes_on() {
        context.pause(pause_ms * 2).await;
        let operation = context.invoke(log.as_str(), Call::End);
        let barrier = match context.client.barrier(log).await {
            Ok(barrier) => barrier,
            Err(error) => {
                context.complete(operation, Outcome::Failed { why: error.to_string() });
                continue;
            }
        };
        let end = barrier.end.get();
        context.complete(operation, Outcome::End { end });

        let from = end.saturating_sub(1 + context.below(BEFORE));
        let max = 1 + context.below(2 * BEFORE);
        let node = (context.below(3) == 0).then(|| some_node(context));
        let config = ReaderConfig {
            from: From::Offset(Offset::new(from)),
            max_records: Some(max),
            consistency: Consistency::Local,
            node,
            after: Some(barrier),
            after_wait: Duration::from_millis(500),
            ..ReaderConfig::default()
        };
        let mut reader = context.client.reader(log, config).expect("a good configuration");
        let operation = context.invoke(log.as_str(), Call::ReadAfter { from, max, barrier: end });
        let mut records = Vec::new();
        let outcome = loop {
            match reader.next().await {
                Ok(Some(record)) => records.push(place(context, &record)),
                Ok(None) => break Outcome::Read { records },
                Err(error) => break failed_read(context, &error),
            }
        };
        context.complete(operation, outcome);
    }
}

/// Asks a node what its replica has.
async fn local_end(context: &Context, log: &LogName) {
    let node = some_node(context);
    let operation = context.invoke(log.as_str(), Call::LocalEnd { node: node.get() });
    let outcome = match context.client.local_offsets(log, Some(node)).await {
        Ok(local) => Outcome::LocalEnd {
            end: local.range.end().get(),
            leader_end: local.freshness.leader_end.get(),
            age_ms: local.freshness.age.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
        },
        Err(error) => Outcome::Failed { why: error.to_string() },
    };
    context.complete(operation, outcome);
}

fn some_node(context: &Context) -> NodeId {
    NodeId::new(1 + context.below(context.addresses.len() as u64))
}
