//! All groups between two nodes over two connections in each direction.
//!
//! ```text
//!   node 1                                              node 2
//!   group A ┐                  control                  ┌ group A
//!   group B ├─ network ─ link ═════════ session ─ registry ┤ group B
//!   group C ┘                ╚═════════╝                └ group C
//!                               data
//! ```
//!
//! *Control* carries what must never wait: votes, heartbeats, transfers of
//! leadership. *Data* carries entries and snapshots, in pieces that take turns.
//! Each is a gRPC stream on a connection of its own; a link opens it when it
//! is needed and again, after a pause, when it broke. A break fails what was
//! under way: openraft decides what to repeat.
//!
//! Both ends introduce themselves first, and a node that is not who it should
//! be gets no further (invariant 7 of the architecture). A message names the
//! group and the replica that it is for; a replica never answers for another.

pub(crate) mod bounds;
pub(crate) mod convert;
mod link;
mod load;
mod matched;
mod memory;
mod network;
mod pieces;
mod readings;
mod registry;
mod service;
mod session;
mod unary;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use quipu_protocol::environment::Environment;
use quipu_protocol::peer::{Introduction, Refusal};
use quipu_protocol::{BootCount, ClusterId, Incarnation, NodeId};
use tokio::sync::watch;
use tonic::transport::Channel;

use bounds::{
    MAX_CALLS, MAX_CHANNELS, MAX_HANDLED, MAX_HANDLED_BYTES, MAX_LANES, MAX_MESSAGE_BYTES, MAX_QUEUED_BYTES,
    MAX_UNFINISHED_BYTES,
};
use link::{Lane, Link};
use memory::Memory;
use readings::Seen;

use crate::clocks::{NodeClock, Way};
use crate::node::Gauge;

pub(crate) use memory::refusal;
pub(crate) use network::GroupNetwork;
pub(crate) use pieces::{Arrived, Incoming};
pub(crate) use registry::{Local, Registry};
pub use service::PeersService;

const POISONED: &str = "a holder of this lock panicked";

/// How long peers are waited for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadlines {
    /// A control request gets its answer within this time or fails: less than
    /// an election timeout, so that a lost vote request leaves time for more.
    pub(crate) control: Duration,
    /// A data request fails when it makes no progress for this long.
    pub(crate) data: Duration,
}

/// This node among its peers: who it is, where they are, what is on the way.
pub(crate) struct Peers {
    environment: Environment,
    deadlines: Deadlines,
    clock: NodeClock,
    me: RwLock<Introduction>,
    addresses: RwLock<BTreeMap<NodeId, String>>,
    memory: Mutex<Memory>,
    links: Mutex<BTreeMap<(NodeId, Lane), Link>>,
    /// For the calls that stand alone, by address.
    channels: Mutex<BTreeMap<String, Channel>>,
    registry: Registry,
    /// The streams that peers have opened to this node.
    served: load::AllServed,
    /// Whether peers' streams to this node are over.
    parted: watch::Sender<bool>,
}

impl Peers {
    pub(crate) fn new(
        environment: Environment,
        deadlines: Deadlines,
        clock: NodeClock,
        me: Introduction,
        addresses: BTreeMap<NodeId, String>,
    ) -> Arc<Self> {
        if addresses.keys().any(|node| node.get() != me.node) {
            clock.expect_peers();
        }
        Arc::new(Self {
            registry: Registry::new(Arc::clone(&environment.clock)),
            environment,
            deadlines,
            clock,
            me: RwLock::new(me),
            addresses: RwLock::new(addresses),
            memory: Mutex::default(),
            served: Mutex::default(),
            parted: watch::channel(false).0,
            links: Mutex::default(),
            channels: Mutex::default(),
        })
    }

    /// What this node says of itself.
    pub(crate) fn me(&self) -> Introduction {
        self.me.read().expect(POISONED).clone()
    }

    /// This node.
    pub(crate) fn node(&self) -> NodeId {
        NodeId::new(self.me.read().expect(POISONED).node)
    }

    /// Its cluster; none as long as it has neither founded nor joined one.
    pub(crate) fn cluster(&self) -> Option<ClusterId> {
        let cluster = self.me.read().expect(POISONED).cluster_id;
        (cluster != 0).then_some(ClusterId::new(cluster))
    }

    /// Changes what this node says of itself.
    pub(crate) fn introduce(&self, change: impl FnOnce(&mut Introduction)) {
        change(&mut self.me.write().expect(POISONED));
    }

    /// The local replicas that peers may address.
    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    pub(crate) fn environment(&self) -> &Environment {
        &self.environment
    }

    /// This node's clock, as it compares with theirs.
    pub(crate) fn clock(&self) -> &NodeClock {
        &self.clock
    }

    /// Takes in what `node` told of its clock and of others'. Those of nodes that
    /// are not known here are nobody's.
    fn clocks_seen(&self, node: NodeId, seen: Seen) {
        self.clock.heard(node, seen.peer, Way::Direct);
        let (me, addresses) = (self.node(), self.addresses.read().expect(POISONED));
        for (other, sight) in seen.others {
            if other != me && other != node && addresses.contains_key(&other) {
                self.clock.heard(other, sight, Way::Relayed);
            }
        }
    }

    /// Where `node` is, as far as known.
    pub(crate) fn address(&self, node: NodeId) -> Option<String> {
        self.addresses.read().expect(POISONED).get(&node).cloned()
    }

    /// The nodes known but this one.
    pub(crate) fn others(&self) -> Vec<NodeId> {
        let me = self.node();
        self.addresses.read().expect(POISONED).keys().copied().filter(|node| *node != me).collect()
    }

    /// `node` is at `address` from now on. What is under way to where it was
    /// before goes on until it fails.
    pub(crate) fn set_address(&self, node: NodeId, address: &str) {
        if node != self.node() {
            self.clock.expect_peers();
        }
        let mut addresses = self.addresses.write().expect(POISONED);
        if addresses.get(&node).is_none_or(|known| known != address) {
            addresses.insert(node, address.to_owned());
        }
    }

    /// Takes over what the catalog remembers of a node.
    pub(crate) fn learn(
        &self,
        node: NodeId,
        incarnation: Incarnation,
        count: BootCount,
        boot: u64,
        retired: &BTreeSet<Incarnation>,
    ) {
        self.memory.lock().expect(POISONED).learn(node, incarnation, count, boot, retired);
    }

    /// Whether the node that introduces itself is dealt with.
    fn admit(&self, from: &Introduction) -> Result<(), Refusal> {
        let cluster = self
            .cluster()
            .ok_or_else(|| refusal(quipu_protocol::peer::refusal::Reason::NotNow, "this node has no cluster yet"))?;
        self.memory.lock().expect(POISONED).admit(from, cluster)?;
        // Nobody knows better where a node is than its newest start.
        if NodeId::new(from.node) != self.node() && !from.address.is_empty() {
            self.set_address(NodeId::new(from.node), &from.address);
        }
        Ok(())
    }

    /// Whether what a node says of itself may be true, whatever its cluster.
    pub(crate) fn remember(&self, from: &Introduction) -> Result<(), Refusal> {
        self.memory.lock().expect(POISONED).remember(from)
    }

    fn link(self: &Arc<Self>, node: NodeId, lane: Lane) -> Link {
        let mut links = self.links.lock().expect(POISONED);
        links.entry((node, lane)).or_insert_with(|| Link::start(self, node, lane)).clone()
    }

    /// What the traffic with the peers holds, against its bounds.
    pub(crate) fn footprint(&self) -> Vec<Gauge> {
        let links: Vec<_> = self.links.lock().expect(POISONED).values().map(Link::queued).collect();
        let loads = load::loads(&self.served);
        let known = self.addresses.read().expect(POISONED).len().max(1);
        let worst = |name, bound: usize, level: fn(&load::Load) -> &load::Level| {
            Gauge::worst(name, loads.iter().map(|load| (level(load).get(), bound as u64)))
        };
        let gauges = [
            Gauge::worst("link-calls", links.iter().map(|(calls, _)| (*calls, MAX_CALLS as u64))),
            // One message alone always has room, and is smaller.
            Gauge::worst("link-bytes", links.iter().map(|(_, bytes)| (*bytes, MAX_QUEUED_BYTES))),
            // Two to each peer, and from each: one of either lane.
            Some(Gauge { name: "links", value: links.len() as u64, bound: 2 * (known * load::MAX_STREAMS) as u64 }),
            Some(Gauge {
                name: "peer-streams",
                value: loads.len() as u64,
                bound: 2 * (known * load::MAX_STREAMS) as u64,
            }),
            worst("peer-requests", MAX_HANDLED, |load| &load.handled),
            // What is begun while there is room is taken in whole.
            worst("peer-request-bytes", MAX_HANDLED_BYTES + MAX_MESSAGE_BYTES, |load| &load.handled_bytes),
            worst("peer-unfinished", MAX_CALLS, |load| &load.unfinished),
            worst("peer-unfinished-bytes", MAX_UNFINISHED_BYTES, |load| &load.unfinished_bytes),
            // Those of the requests that were worked on when it was full.
            worst("peer-replies", 2 * MAX_HANDLED, |load| &load.replies),
            worst("peer-receipts", MAX_HANDLED, |load| &load.receipts),
            worst("peer-lanes", MAX_LANES, |load| &load.lanes),
            Some(Gauge {
                name: "peer-channels",
                value: self.channels.lock().expect(POISONED).len() as u64,
                bound: MAX_CHANNELS as u64,
            }),
        ];
        gauges.into_iter().flatten().collect()
    }

    /// Ends every link and every stream. What is under way fails.
    pub(crate) fn close(&self) {
        self.parted.send_replace(true);
        self.links.lock().expect(POISONED).clear();
        self.channels.lock().expect(POISONED).clear();
        self.registry.close();
    }
}
