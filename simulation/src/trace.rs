//! What happened in a simulation, as far as it is worth comparing.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// What happened, in order, with the simulated time. Clones write to the same
/// trace. Holds events of ours only: no logs of libraries, whose wording may
/// depend on addresses in memory or on the wall clock.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    lines: Arc<Mutex<Vec<String>>>,
}

impl Trace {
    /// Adds an event.
    pub fn record(&self, event: impl fmt::Display) {
        let at = turmoil::sim_elapsed().unwrap_or_default();
        let line = format!("{:>9} µs  {event}", at.as_micros());
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}
