//! Leases: whoever holds one finds its records there, whatever is trimmed.

use std::time::Duration;

use futures_util::future::join;
use quipu_sdk::{Consistency, From, Lease, LeaseError, LogName, ReadError, ReaderConfig};

use super::{Context, contested};
use crate::environment::clock::now;
use crate::violation::Violation;

/// Longer than clocks are ever off: leases do not end by themselves.
const LASTING: Duration = Duration::from_secs(10 * 365 * 86_400);
/// How often a lease is looked at before it is moved or released.
const LOOKS: u64 = 4;

/// Holds a lease of its own, and one that all clients hold.
pub(super) async fn run(context: Context, log: usize, pause_ms: u64) {
    // One that all clients hold is one of the same log.
    let contested = contested::lease(&context, context.log(0), pause_ms);
    join(own(&context, log, pause_ms), contested).await;
}

/// Holds a lease, reads what it keeps, renews and moves it, and lets go of it.
async fn own(context: &Context, log: usize, pause_ms: u64) {
    let log = context.log(log);
    let holder = format!("client-{}", context.number);
    while context.goes_on() {
        context.pause(pause_ms).await;
        let Ok(range) = context.client.offsets(&log, Consistency::Linearizable).await else { continue };
        let offset = range.start().advance(context.below(range.count() + 1));
        // Whatever is not known to be held is not looked at.
        let held = context.client.hold_lease(&log, &holder, Some(offset), LASTING).await;
        let Ok(mut lease) = held else { continue };
        context.shared.recorder.mark(now(), "lease-held");
        for _ in 0..1 + context.below(LOOKS) {
            context.pause(pause_ms).await;
            check(context, &log, &lease).await;
            let further = range.end().get().saturating_sub(lease.offset.get());
            let to = lease.offset.advance(context.below(further + 1));
            match context.client.renew_lease(&log, &lease, Some(to), LASTING).await {
                Ok(renewed) => lease = renewed,
                Err(error @ (LeaseError::NotHeld { .. } | LeaseError::Replaced { .. })) => {
                    violated(context, &log, &lease, &error.to_string());
                    break;
                }
                // It may or may not have moved.
                Err(_) => break,
            }
            context.shared.recorder.mark(now(), "lease-renewed");
        }
        if context.below(3) == 0 {
            // It may or may not be gone now.
            let _ = context.client.release_lease(&log, &lease).await;
        }
    }
    // Trims that come after the end need not be held up.
    let held = context.client.leases(&log).await.unwrap_or_default();
    for lease in held.iter().filter(|lease| lease.holder == holder) {
        let _ = context.client.release_lease(&log, lease).await;
    }
}

/// Reads from where a lease begins that is held.
async fn check(context: &Context, log: &LogName, lease: &Lease) {
    let config = ReaderConfig { from: From::Offset(lease.offset), max_records: Some(1), ..ReaderConfig::default() };
    let mut reader = context.client.reader(log, config).expect("a good configuration");
    if let Err(ReadError::BelowStart { start, .. }) = reader.next().await {
        violated(context, log, lease, &format!("the log starts at {start}"));
    }
}

fn violated(context: &Context, log: &LogName, lease: &Lease, what: &str) {
    let Lease { holder, grant, offset, .. } = lease;
    let details = format!("{log}: {holder} holds lease {grant} from {offset} on, and {what}");
    context.shared.recorder.violated(now(), Violation::new("lease-holds-the-start", details), None);
}
