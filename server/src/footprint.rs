//! What a node holds of everything that is bounded, against its bounds: the
//! services' part on top of the node's.

use quipu_raft::node::Gauge;

use crate::server::MAX_STREAMS_PER_CONNECTION;
use crate::services::Shared;

impl Shared {
    /// What the node holds.
    pub(crate) fn footprint(&self) -> Vec<Gauge> {
        let settings = &self.settings;
        let mut gauges = self.node.footprint();
        gauges.extend(self.windows.footprint(settings));
        let gauge = |name, value: usize, bound| Gauge { name, value: value as u64, bound };
        let requests = settings.max_connections.saturating_mul(u64::from(MAX_STREAMS_PER_CONNECTION));
        gauges.push(gauge("connections", self.connections.open(), settings.max_connections));
        gauges.push(gauge("http-connections", self.http_connections.open(), settings.http_connections));
        gauges.push(gauge("requests", self.busy.len(), requests));
        gauges
    }
}
