//! Faults of single messages between nodes, which relays carry out.

use super::{Draw, Kind, Strike, Undo};
use crate::relay::Rule;
use crate::run::Run;
use crate::scenario::FaultPlan;

/// One message in so many is struck; one of these.
const ONE_IN: &[u64] = &[2, 5, 20, 60];

impl Run<'_> {
    pub(super) fn strike_messages(&mut self, plan: &FaultPlan, draw: &mut Draw) -> Option<Strike> {
        let nodes: Vec<u64> = self.cluster.nodes.keys().copied().collect();
        if !plan.kind.needs_relays() || nodes.len() < 2 {
            return None;
        }
        let struck = if draw.below(2) == 0 { vec![draw.one(&nodes)?] } else { nodes };
        let one_in = draw.one(ONE_IN)?;
        let rule = Rule { fault: plan.number, kind: plan.kind, one_in };
        for node in &struck {
            self.cluster.nodes[node].host.meddler.as_ref()?.begin(rule);
        }
        let what = if plan.kind == Kind::PeerReplyLost { "of those that" } else { "of what" };
        let details = format!("one in {one_in} {what} peers send to nodes {struck:?}");
        Some(Strike::on(struck.clone(), details).undone_by(Undo::Carry(struck)))
    }

    /// A fault of messages to these nodes is over.
    pub(super) fn carry_messages(&mut self, fault: u64, nodes: &[u64]) {
        for meddler in nodes.iter().filter_map(|node| self.cluster.nodes[node].host.meddler.as_ref()) {
            meddler.end(fault);
        }
    }
}
