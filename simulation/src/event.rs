//! What happens in a run, as far as it is worth comparing and looking at.
//!
//! The run's trace is made of these, a line each; the timeline is drawn from
//! them. Nothing in them may depend on anything but the seed: no addresses in
//! memory, no wall time of the machine, no wording of other libraries.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When, in simulated time since the run began.
    pub at: Duration,
    /// What.
    pub what: What,
}

/// What happened. Nodes are named by their numbers, groups by their log's
/// number (0 is the catalog), faults and operations by their numbers in the run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// A part of the run begins.
    Phase {
        /// Which.
        phase: Phase,
    },
    /// A node's process starts.
    Started {
        /// The node.
        node: u64,
        /// How many times it has been started, this one included.
        boot: u64,
    },
    /// A node takes part in its cluster.
    Serves {
        /// The node.
        node: u64,
    },
    /// A node's process ends.
    Stopped {
        /// The node.
        node: u64,
        /// How.
        how: Stop,
        /// What it said, if it ended by itself.
        why: Option<String>,
    },
    /// A replica's role or term changed.
    Role {
        /// The node it is on.
        node: u64,
        /// Its group.
        group: u64,
        /// Its id.
        replica: u64,
        /// Its role from now on.
        role: Role,
        /// Its term from now on.
        term: u64,
    },
    /// A fault begins.
    FaultBegins {
        /// Its number in the run.
        fault: u64,
        /// Its kind, such as `partition` or `power-loss`.
        kind: String,
        /// The nodes it strikes.
        nodes: Vec<u64>,
        /// What exactly, for a person.
        details: String,
    },
    /// A fault that lasts is over.
    FaultEnds {
        /// Its number in the run.
        fault: u64,
    },
    /// A client calls.
    Invoked {
        /// The operation's number in the run.
        operation: u64,
        /// The client.
        client: u64,
        /// The log's name.
        log: String,
        /// What it asks, for a person.
        call: String,
    },
    /// A client's call is answered.
    Completed {
        /// The operation's number in the run.
        operation: u64,
        /// How.
        answer: Answer,
        /// What was answered, for a person.
        details: String,
    },
    /// A rare state was reached for the first time in the run.
    Mark {
        /// Its name.
        mark: String,
    },
    /// A promise was not kept.
    Violated {
        /// Its name.
        promise: String,
        /// What was found, for a person.
        details: String,
        /// The node where it showed, if it was one.
        node: Option<u64>,
    },
}

/// A part of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Phase {
    /// The cluster is founded, without faults.
    Founding,
    /// Faults strike while clients work.
    Chaos,
    /// All faults are over; what is down is started.
    Healing,
    /// Everything has to work again within its time.
    Liveness,
    /// What every replica holds is read and compared.
    Judgement,
}

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Stop {
    /// It was killed: what it had written is still there.
    Killed,
    /// The power went: what was not synced may be gone.
    PowerLost,
    /// It was asked to.
    ShutDown,
    /// It said that it cannot go on.
    Failed,
}

/// A replica's role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Role {
    /// It leads.
    Leader,
    /// It votes.
    Follower,
    /// It is sent entries and does not vote.
    Learner,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Answer {
    /// It did what was asked.
    Done,
    /// It did nothing and never will.
    Failed,
    /// Nobody knows.
    Unknown,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>12}  {:?}", self.at.as_micros(), self.what)
    }
}
