//! How processes end in a run, and when what ended is started again.
//!
//! ```text
//!   a fault ───────────────▶ stop_node
//!   a point that is armed ─▶ at once, or a while after
//!   by itself ─────────────▶ sweep_ended ─▶ started again
//! ```

use std::rc::Rc;
use std::time::Duration;

use super::Run;
use crate::cluster::{Process, node_of};
use crate::event::Stop;
use crate::points;

/// A node that ended by itself is started again after up to this time.
const RESTART_WITHIN_MS: u64 = 1_500;

/// A process to be ended when it reaches a point, or a while after.
#[derive(Clone, Debug)]
pub(crate) struct Armed {
    pub(crate) node: u64,
    pub(crate) point: String,
    /// So many times it is passed before.
    pub(crate) skip: u64,
    /// It is ended so long after: what it did at the point has had consequences
    /// elsewhere, and may not be on its own disk yet.
    pub(crate) after: Duration,
    /// When the point was reached.
    pub(crate) reached: Option<Duration>,
    pub(crate) how: Stop,
    pub(crate) draw: u64,
}

impl Run<'_> {
    /// Hears of points: they are marks, and where processes crash.
    pub(super) fn listen(&self) {
        let nodes = self.cluster.nodes.clone();
        let hosts = self.cluster.links.hosts();
        let (armed, crashed, recorder) = (Rc::clone(&self.armed), Rc::clone(&self.crashed), self.recorder.clone());
        points::listen(move |host, point| {
            let now = crate::environment::clock::now();
            recorder.mark(now, point);
            let Some(node) = node_of(host).and_then(|number| nodes.get(&number)) else { return };
            let mut armed = armed.borrow_mut();
            let waits = |it: &Armed| it.node == node.number && it.point == point && it.reached.is_none();
            let Some(position) = armed.iter().position(waits).filter(|_| node.is_up()) else { return };
            if armed[position].skip > 0 {
                armed[position].skip -= 1;
                return;
            }
            if !armed[position].after.is_zero() {
                armed[position].reached = Some(now);
                return;
            }
            let strikes = armed.remove(position);
            crate::faults::crash_here(node, &strikes, &hosts);
            crashed.borrow_mut().push((node.number, strikes.how));
        });
    }

    /// Ends a node's process, after a last look at what it has.
    pub(crate) fn stop_node(&mut self, node: u64, how: Stop) {
        self.look();
        self.cluster.stop(node, how);
        self.give_up_spoiled_tail(node);
    }

    pub(super) fn take_crashed_down(&mut self) {
        let crashed = std::mem::take(&mut *self.crashed.borrow_mut());
        for (node, how) in crashed {
            self.always.ended_unseen(node);
            self.cluster.take_down(node, how);
            self.give_up_spoiled_tail(node);
        }
    }

    /// Ends the processes that reached their points long enough ago.
    pub(super) fn strike_late(&mut self) {
        let now = self.now();
        let is_due = |armed: &mut Armed| armed.reached.is_some_and(|reached| reached + armed.after <= now);
        let due: Vec<Armed> = self.armed.borrow_mut().extract_if(.., is_due).collect();
        for armed in due {
            if self.cluster.nodes[&armed.node].is_up() {
                self.stop_node(armed.node, armed.how);
            }
        }
    }

    /// Takes down the nodes that ended by themselves.
    pub(crate) fn sweep_ended(&mut self) {
        for number in self.cluster.nodes.keys().copied().collect::<Vec<_>>() {
            let Process::Ended { how, why } = self.cluster.nodes[&number].process() else { continue };
            tracing::debug!(node = number, ?how, why, "a node has ended");
            self.always.ended_unseen(number);
            self.cluster.stop(number, how);
            self.give_up_spoiled_tail(number);
            let wait = Duration::from_millis(200 + self.cluster.draw() % RESTART_WITHIN_MS);
            self.restarts.insert(number, self.now() + wait);
        }
    }

    pub(super) fn start_again(&mut self) {
        let now = self.now();
        let due: Vec<u64> = self.restarts.iter().filter(|(_, at)| **at <= now).map(|(node, _)| *node).collect();
        for node in due {
            self.restarts.remove(&node);
            self.start_if_down(node);
        }
    }
}
