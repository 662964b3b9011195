//! Time, chance, tasks, network and disk as a simulated host sees them.
//!
//! ```text
//!   Clock    turmoil's time; the wall clock with the host's own skew
//!   Random   from the run's seed and the host's number
//!   Tasks    on the host's runtime, which has one thread; a pause holds them
//!   Network  turmoil's, through connections that can be reset
//!   Disk     a MemoryDisk whose operations take drawn times and may go wrong
//! ```
//!
//! A node or a client is given these and nothing else, by the same seam
//! through which a real one is given the operating system's.

pub(crate) mod clock;
pub(crate) mod disk;
pub(crate) mod network;
pub(crate) mod pause;
pub(crate) mod random;
mod tasks;

use std::sync::Arc;

use quipu_protocol::environment::Environment;

use clock::{SimulatedClock, WallClock};
use network::{Resets, SimulatedNetwork};
use pause::Pause;
use random::SeededRandom;
use tasks::HostTasks;

use crate::relay::{Meddler, Relays};

/// What belongs to a host, whatever process runs on it.
#[derive(Clone)]
pub(crate) struct Host {
    pub(crate) wall: Arc<WallClock>,
    pub(crate) random: Arc<SeededRandom>,
    pub(crate) resets: Arc<Resets>,
    /// What becomes of the messages of a node's peers, where they pass through
    /// relays.
    pub(crate) meddler: Option<Arc<Meddler>>,
    pub(crate) pause: Arc<Pause>,
}

impl Host {
    /// The host of this number under `seed`.
    pub(crate) fn new(seed: u64, number: u64) -> Self {
        Self {
            wall: Arc::default(),
            random: Arc::new(SeededRandom::new(seed, number)),
            resets: Arc::default(),
            meddler: None,
            pause: Arc::default(),
        }
    }

    /// What a process on it is given.
    pub(crate) fn environment(&self) -> Environment {
        let environment = Environment {
            clock: Arc::new(SimulatedClock::new(Arc::clone(&self.wall))),
            random: Arc::clone(&self.random) as _,
            tasks: Arc::new(HostTasks::new(Arc::clone(&self.pause))),
            network: Arc::new(SimulatedNetwork::new(Arc::clone(&self.resets))),
            spans: None,
        };
        let relays = |meddler: &Arc<Meddler>| Relays { environment: environment.clone(), meddler: Arc::clone(meddler) };
        let relays = self.meddler.as_ref().map(relays);
        let network = SimulatedNetwork::new(Arc::clone(&self.resets)).with_relays(relays);
        Environment { network: Arc::new(network), ..environment }
    }
}
