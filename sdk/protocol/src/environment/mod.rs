//! Time, chance, tasks and the network, as values that are passed in.
//!
//! `quipu serve` passes the operating system's; the simulator passes its own.
//! Code under an environment reads no clock, draws no random number, starts
//! no task or thread and opens no socket by any other way, which is what
//! makes a simulated run repeatable from its seed. (Waiting is done with the
//! [`Clock`]; tokio's own timers, channels and locks are allowed, since they
//! run on whatever runtime the environment drives.)
//!
//! The disk is the fifth such value; its seam lives with storage.

mod clock;
mod network;
mod point;
mod random;
mod spans;
mod tasks;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

pub use clock::{Clock, Elapsed};
pub use network::{Connection, Listener, Network};
pub use point::{POINT_TARGET, trace};
pub use random::Random;
pub use spans::{Span, Spans};
pub use tasks::{Spawn, Task};

/// A boxed future that may move between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Everything a node or a client takes from outside but its disk.
#[derive(Clone)]
pub struct Environment {
    /// What time it is, and waiting.
    pub clock: Arc<dyn Clock>,
    /// Random numbers.
    pub random: Arc<dyn Random>,
    /// Starting tasks.
    pub tasks: Arc<dyn Spawn>,
    /// Listening and connecting.
    pub network: Arc<dyn Network>,
    /// Where it is told what was done for the requests that are followed, if
    /// any are.
    pub spans: Option<Arc<dyn Spans>>,
}
