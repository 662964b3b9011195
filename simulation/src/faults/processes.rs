//! Faults of processes, clocks and machines, and what operators do to them.

use std::collections::BTreeMap;
use std::time::Duration;

use quipu_raft::Role;

use super::{Draw, Kind, Strike, Undo};
use crate::checkers::always::Replica;
use crate::cluster::{client_number, is_client};
use crate::environment::clock;
use crate::event::{Answer, Stop, What};
use crate::run::{Armed, Run};
use crate::scenario::FaultPlan;

/// Points at which a crash has the most to spoil.
pub(crate) const POINTS: &[&str] = &[
    "journal-commit",
    "journal-written",
    "journal-synced",
    "segment-sealed",
    "index-written",
    "segment-prepared",
    "manifest-written",
    "identity-written",
    "vote-saved",
    "entries-truncated",
    "entry-applied",
    "state-saved",
    "replica-started",
    "cluster-founded",
    "cluster-joined",
    "membership-step",
];

impl Run<'_> {
    pub(super) fn strike_processes(&mut self, plan: &FaultPlan, draw: &mut Draw) -> Option<Strike> {
        let all: Vec<u64> = self.cluster.nodes.keys().copied().collect();
        let up: Vec<u64> = self.cluster.nodes.values().filter(|node| node.is_up()).map(|node| node.number).collect();
        let how = match plan.kind {
            Kind::Kill | Kind::KillMany | Kind::KillAll | Kind::KillAtPoint | Kind::KillInRecovery => Stop::Killed,
            _ => Stop::PowerLost,
        };
        match plan.kind {
            Kind::Kill | Kind::PowerLoss => {
                // Rather a leader: that is where things are under way.
                let leaders: Vec<u64> = self.leaders().into_iter().filter(|node| up.contains(node)).collect();
                let from = if draw.below(2) == 0 && !leaders.is_empty() { &leaders } else { &up };
                let node = draw.one(from)?;
                Some(self.stop_all(vec![node], how))
            }
            Kind::KillMany | Kind::PowerLossMany if up.len() > 1 => {
                let nodes = draw.some(&up);
                Some(self.stop_all(nodes, how))
            }
            Kind::KillAll | Kind::PowerLossAll if !up.is_empty() => Some(self.stop_all(up, how)),
            Kind::KillAtPoint | Kind::PowerLossAtPoint => {
                let node = draw.one(&all)?;
                let point = draw.one(POINTS)?;
                let skip = draw.below(4);
                let draws = draw.next();
                let after = if draw.below(2) == 0 { 0 } else { 1 + draw.below(40) };
                let when = if after == 0 { "at".to_owned() } else { format!("{after} ms after") };
                self.arm(node, point, skip, after, how, draws);
                let strike = Strike::on([node], format!("after {skip} others, {when} {point}"));
                Some(strike.undone_by(Undo::Disarm(node)).undone_by(Undo::Start(node)))
            }
            Kind::PowerLossInWrite => {
                let node = draw.one(&up)?;
                let count = 1 + draw.below(40);
                self.cluster.nodes[&node].disk().cut_power_at(count);
                let strike = Strike::on([node], format!("in its change number {count} from now"));
                // The process finds out that its disk is gone and ends.
                Some(strike.undone_by(Undo::Start(node)))
            }
            Kind::KillInRecovery => {
                let node = draw.one(&up)?;
                self.stop_node(node, Stop::Killed);
                self.cluster.start(node);
                let point = draw.one(&[
                    "segment-prepared",
                    "manifest-written",
                    "identity-written",
                    "replica-started",
                    "journal-synced",
                ])?;
                let (skip, draws) = (draw.below(3), draw.next());
                self.arm(node, point, skip, 0, Stop::Killed, draws);
                let strike = Strike::on([node], format!("killed, and again at {point}"));
                Some(strike.undone_by(Undo::Disarm(node)).undone_by(Undo::Start(node)))
            }
            Kind::Freeze => {
                let node = draw.one(&up)?;
                self.cluster.nodes[&node].nature.stall(true);
                let name = crate::cluster::host_name(node);
                let harm = crate::links::Harm::hold(&name, &self.cluster.links.hosts());
                self.cluster.links.harm(&self.cluster.sim, &harm);
                let strike = Strike::on([node], "its network and its disk");
                Some(strike.undone_by(Undo::Mend(harm)).undone_by(Undo::UsualDisk(node)))
            }
            Kind::Pause => {
                let running: Vec<u64> =
                    up.into_iter().filter(|node| !self.cluster.nodes[node].host.pause.is_on()).collect();
                let leaders: Vec<u64> = self.leaders().into_iter().filter(|node| running.contains(node)).collect();
                let from = if draw.below(2) == 0 && !leaders.is_empty() { &leaders } else { &running };
                let node = draw.one(from)?;
                let leads = if leaders.contains(&node) { ", which leads" } else { "" };
                let boot = self.cluster.nodes[&node].boots();
                self.cluster.pause(node);
                Some(Strike::on([node], format!("node {node}{leads}")).undone_by(Undo::Resume { node, boot }))
            }
            Kind::ClockSkew | Kind::ClockJump => {
                let node = draw.one(&all)?;
                let most: u64 = if plan.kind == Kind::ClockSkew { 20_000 } else { 6 * 3_600_000 };
                let off_by = i64::try_from(draw.below(2 * most)).ok()? - i64::try_from(most).ok()?;
                self.cluster.nodes[&node].host.wall.set_off_by(off_by);
                Some(Strike::on([node], format!("by {off_by} ms")).undone_by(Undo::RightClock(node)))
            }
            Kind::SlowDisk => {
                let node = draw.one(&all)?;
                let times = u32::try_from(5 + draw.below(60)).ok()?;
                self.cluster.nodes[&node].nature.slow_down(times);
                Some(Strike::on([node], format!("{times} times slower")).undone_by(Undo::UsualDisk(node)))
            }
            Kind::StalledDisk => {
                let node = draw.one(&all)?;
                self.cluster.nodes[&node].nature.stall(true);
                Some(Strike::on([node], "completes nothing").undone_by(Undo::UsualDisk(node)))
            }
            Kind::Restart => {
                let node = draw.one(&up)?;
                self.cluster.nodes[&node].ask_to_end();
                Some(Strike::on([node], "shut down in order").undone_by(Undo::Start(node)))
            }
            Kind::LeaderTransfer => {
                let node = draw.one(&self.leaders())?;
                self.cluster.nodes[&node].ask_to_hand_over();
                Some(Strike::on([node], "hands over what it leads"))
            }
            Kind::ClientCrash => {
                let hosts = self.cluster.links.hosts().into_iter();
                let clients: Vec<String> = hosts.filter(|host| is_client(host) && *host != self.judge).collect();
                let client = draw.one(&clients)?;
                self.cluster.bounce_client(&client);
                self.abandon(client_number(&client)?);
                Some(Strike::on([], client))
            }
            _ => None,
        }
    }

    fn arm(&self, node: u64, point: &str, skip: u64, after_ms: u64, how: Stop, draw: u64) {
        let after = Duration::from_millis(after_ms);
        let armed = Armed { node, point: point.to_owned(), skip, after, reached: None, how, draw };
        self.armed.borrow_mut().push(armed);
    }

    /// Lets a paused process go on, if it is still there.
    pub(super) fn resume(&mut self, node: u64, boot: u64) {
        if self.cluster.nodes[&node].boots() != boot || !self.cluster.nodes[&node].is_up() {
            return;
        }
        let led_by_another = |(_, replicas): (_, &BTreeMap<_, Replica>)| {
            let leading = || replicas.values().filter(|it| it.status.role == Role::Leader);
            let here = leading().filter(|it| it.node == node && it.boot == boot);
            here.map(|it| it.status.term).max().is_some_and(|term| leading().any(|it| it.status.term > term))
        };
        if self.always.groups().any(led_by_another) {
            self.recorder.mark(self.now(), "a-paused-leader-came-back");
        }
        self.cluster.resume(node);
    }

    fn stop_all(&mut self, nodes: Vec<u64>, how: Stop) -> Strike {
        let unsynced = nodes.iter().filter(|node| self.cluster.nodes[node].nature.under_way() > 0).count();
        if how == Stop::PowerLost && unsynced > 0 {
            self.recorder.mark(self.now(), "power-lost-with-disk-operations-under-way");
        }
        if nodes.len() == self.cluster.nodes.len() {
            self.recorder.mark(self.now(), "all-nodes-down-at-once");
        }
        for node in &nodes {
            self.stop_node(*node, how);
        }
        let details = format!("nodes {nodes:?}");
        nodes.iter().fold(Strike::on(nodes.clone(), details), |strike, node| strike.undone_by(Undo::Start(*node)))
    }

    /// Nobody waits any more for what a client had under way.
    fn abandon(&self, client: u64) {
        let now = self.now();
        for operation in self.history.abandon(now, client) {
            let details = "the client crashed".to_owned();
            self.recorder.event(now, What::Completed { operation, answer: Answer::Unknown, details });
        }
    }

    /// Starts a node on which nothing runs.
    pub(crate) fn start_if_down(&mut self, node: u64) {
        if self.cluster.nodes[&node].process() == crate::cluster::Process::Down {
            self.cluster.start(node);
        }
    }

    /// Kills what runs on a node and starts it again.
    pub(crate) fn restart(&mut self, node: u64) {
        if self.cluster.nodes[&node].is_up() {
            self.stop_node(node, Stop::Killed);
        }
        self.start_if_down(node);
    }
}

/// What a point does that is armed: the process that reached it can do nothing
/// more, and nobody hears of it. Called in the middle of its work.
pub(crate) fn crash_here(node: &crate::cluster::Node, armed: &Armed, others: &[String]) {
    let name = crate::cluster::host_name(node.number);
    for other in others.iter().filter(|other| **other != name) {
        turmoil::partition(name.as_str(), other.as_str());
    }
    node.fence(clock::now(), armed.how, armed.draw);
}
