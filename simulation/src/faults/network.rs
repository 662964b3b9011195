//! Faults of the network.

use std::time::Duration;

use super::{Draw, Kind, Strike, Undo};
use crate::cluster::{host_name, is_client};
use crate::links::Harm;
use crate::run::Run;
use crate::scenario::FaultPlan;

/// How much longer messages take than on a good link.
const DELAYED: u32 = 12;
/// How often a link breaks, and how often it comes back, with each message.
const BREAKS: f64 = 0.004;

impl Run<'_> {
    pub(super) fn strike_links(&mut self, plan: &FaultPlan, draw: &mut Draw) -> Option<Strike> {
        let nodes: Vec<u64> = self.cluster.nodes.keys().copied().collect();
        let hosts = |nodes: &[u64]| -> Vec<String> { nodes.iter().map(|node| host_name(*node)).collect() };
        let clients =
            || -> Vec<String> { self.cluster.links.hosts().into_iter().filter(|host| is_client(host)).collect() };
        match plan.kind {
            Kind::Partition | Kind::PartitionOneWay if nodes.len() > 1 => {
                let one = draw.some(&nodes);
                let other: Vec<u64> = nodes.iter().copied().filter(|node| !one.contains(node)).collect();
                let both = plan.kind == Kind::Partition;
                let harm = match both {
                    true => Harm::between(&hosts(&one), &hosts(&other)),
                    false => Harm::one_way(&hosts(&one), &hosts(&other)),
                };
                let details = format!("{one:?} {} {other:?}", if both { "and" } else { "are not heard by" });
                Some(self.cut(nodes, details, harm))
            }
            Kind::PartitionBridge if nodes.len() > 2 => {
                let bridge = draw.one(&nodes)?;
                let rest: Vec<u64> = nodes.iter().copied().filter(|node| *node != bridge).collect();
                let one = draw.some(&rest);
                let other: Vec<u64> = rest.into_iter().filter(|node| !one.contains(node)).collect();
                let harm = Harm::between(&hosts(&one), &hosts(&other));
                Some(self.cut(nodes, format!("{one:?} and {other:?}; {bridge} hears both"), harm))
            }
            Kind::IsolatedLeader if nodes.len() > 1 => {
                let leader = draw.one(&self.leaders())?;
                let others: Vec<u64> = nodes.into_iter().filter(|node| *node != leader).collect();
                let harm = Harm::between(&hosts(&[leader]), &hosts(&others));
                Some(self.cut(vec![leader], format!("node {leader}, which leads"), harm))
            }
            Kind::CutOffClients => {
                let node = draw.one(&nodes)?;
                let harm = Harm::between(&hosts(&[node]), &clients());
                Some(self.cut(vec![node], format!("node {node} from all clients"), harm))
            }
            Kind::LostReplies => {
                let leaders = self.leaders();
                let node = draw.one(if leaders.is_empty() { &nodes } else { &leaders })?;
                let harm = Harm::one_way(&hosts(&[node]), &clients());
                Some(self.cut(vec![node], format!("what node {node} answers"), harm))
            }
            Kind::Delay => {
                let latency = self.latency() * DELAYED;
                self.cluster.sim.set_max_message_latency(latency);
                Some(Strike::on(nodes, format!("up to {latency:?}")).undone_by(Undo::UsualLatency))
            }
            Kind::SlowLink if nodes.len() > 1 => {
                let one = draw.one(&nodes)?;
                let other = draw.one(&nodes.iter().copied().filter(|node| *node != one).collect::<Vec<_>>())?;
                let latency = self.latency() * DELAYED * 2;
                self.cluster.sim.set_link_max_message_latency(host_name(one), host_name(other), latency);
                let details = format!("between {one} and {other}, up to {latency:?}");
                Some(Strike::on([one, other], details).undone_by(Undo::UsualLatency))
            }
            Kind::Hold => {
                let node = draw.one(&nodes)?;
                let harm = Harm::hold(&host_name(node), &self.cluster.links.hosts());
                Some(self.cut(vec![node], format!("what passes to and from node {node}"), harm))
            }
            Kind::Loss => {
                self.cluster.sim.set_fail_rate(BREAKS);
                Some(Strike::on(nodes, "every link, now and then").undone_by(Undo::UsualLatency))
            }
            Kind::Reset => {
                let node = draw.one(&nodes)?;
                self.cluster.nodes[&node].host.resets.reset_all();
                Some(Strike::on([node], "all its connections"))
            }
            _ => None,
        }
    }

    fn cut(&mut self, nodes: Vec<u64>, details: String, harm: Harm) -> Strike {
        self.cluster.links.harm(&self.cluster.sim, &harm);
        Strike::on(nodes, details).undone_by(Undo::Mend(harm))
    }

    /// The longest that a message takes on a good link.
    fn latency(&self) -> Duration {
        Duration::from_millis(self.scenario.timing.latency_ms)
    }

    /// Messages take as long as they should, and none is lost.
    pub(crate) fn usual_latency(&mut self) {
        let latency = self.latency();
        self.cluster.sim.set_max_message_latency(latency);
        self.cluster.sim.set_fail_rate(0.0);
        let hosts = self.cluster.links.hosts();
        for (position, one) in hosts.iter().enumerate() {
            for other in &hosts[position + 1..] {
                self.cluster.sim.set_link_max_message_latency(one.as_str(), other.as_str(), latency);
            }
        }
        // Also brings back links that broke by themselves.
        self.cluster.links.restore_all(&self.cluster.sim);
    }
}
