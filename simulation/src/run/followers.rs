//! Somebody waits at a log's end, at any of its replicas, and has what is appended next
//! once it is acknowledged: not when something else comes along, or a while has passed.

use std::time::Duration;

use quipu_sdk::{Consistency, From, LogName, NodeId, Offset, Reader, ReaderConfig};

use super::judge;
use crate::environment::clock::now;
use crate::violation::Violation;
use crate::workloads::Context;

/// By then whoever waits is there.
const SETTLES: Duration = Duration::from_millis(500);
/// What is acknowledged is applied everywhere within this time, on the slowest disk and
/// link: less than a reader waits for before it looks by itself.
const SOON: Duration = Duration::from_secs(3);

/// Waits at the end of `log` while something is appended.
pub(super) async fn are_told(context: &Context, log: &str) {
    let name: LogName = log.parse().expect("a good name");
    loop {
        let Some((node, end, mut reader)) = follower(context, &name).await else {
            context.pause(100).await;
            continue;
        };
        // What comes now was appended before.
        if context.environment.clock.timeout(SETTLES, reader.next()).await.is_ok() {
            continue;
        }
        judge::append_until_taken(context, log).await;
        match context.environment.clock.timeout(SOON, reader.next()).await {
            Ok(Ok(_)) => return,
            Ok(Err(_)) => {}
            Err(_) => {
                let details = format!("log {log}: nothing came at {node} from {end} on within {SOON:?}");
                context.shared.recorder.violated(now(), Violation::new("followers-are-told", details), None);
                return;
            }
        }
    }
}

/// A reader at the end of the log, of one of its replicas.
async fn follower(context: &Context, log: &LogName) -> Option<(NodeId, Offset, Reader)> {
    let replicas = context.client.describe_log(log).await.ok()?.replicas;
    let replica = replicas.get(usize::try_from(context.below(replicas.len() as u64)).ok()?)?;
    let end = context.client.offsets(log, Consistency::Linearizable).await.ok()?.end();
    let config = ReaderConfig {
        from: From::Offset(end),
        follow: true,
        consistency: Consistency::Local,
        node: Some(replica.node),
        ..ReaderConfig::default()
    };
    let reader = context.client.reader(log, config).expect("a good configuration");
    Some((replica.node, end, reader))
}
