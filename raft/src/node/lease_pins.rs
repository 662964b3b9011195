//! What leases keep, for those who watch a node.

use super::{RaftNode, RunningLog};
use crate::group::Role;
use crate::log::Pinned;

impl RaftNode {
    /// What the leases keep of each of those of `logs` that are led here, by name. One
    /// whose rows cannot be read is left out.
    pub fn lease_pins(&self, logs: &[RunningLog]) -> Vec<(String, Pinned)> {
        let led = logs.iter().filter(|log| log.status.role == Role::Leader);
        let pins = led.filter_map(|log| {
            let pinned = self.running_log(log.log)?.pinned();
            let unreadable = |error| tracing::warn!(log = log.name, %error, "what leases keep cannot be told");
            Some((log.name.clone(), pinned.map_err(unreadable).ok()?))
        });
        pins.collect()
    }
}
