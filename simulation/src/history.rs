//! What clients asked, and what they were told.
//!
//! ```text
//!   invoke ──▶ Pending ──▶ a definite answer          it happened, once
//!                     ├──▶ Failed                     it did not happen and never will
//!                     └──▶ Unknown, or Pending still  it happened once, or not at all
//! ```
//!
//! Kept by the run, in the order of invocation; judged by the
//! checkers, which know nothing else of the cluster. Every
//! record that a run appends has another value, so that a record read back
//! tells which call appended it.

mod registers;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use registers::{CursorAnswer, CursorCall, LeaseAnswer, LeaseCall};

/// One call of one client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// Counts the run's calls, in the order in which they were made.
    pub id: u64,
    /// Who called. One client may have several calls under way.
    pub client: u64,
    /// The log's name.
    pub log: String,
    /// What was asked.
    pub call: Call,
    /// When it was asked, in simulated time since the run began.
    pub invoked: Duration,
    /// When the answer came; none if it never did.
    pub completed: Option<Duration>,
    /// What was answered.
    pub outcome: Outcome,
}

/// What a client asks of a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Call {
    /// To create the log.
    Create {
        /// How many replicas it is to have.
        replicas: u32,
    },
    /// To delete the log.
    Delete,
    /// To append these records as one batch, all or nothing. Calls of the same
    /// producer are to land in the order in which they were made.
    Append {
        /// The producer, numbered within the run.
        producer: u64,
        /// The records' values, each unique within the run.
        values: Vec<u64>,
        /// What else has to hold.
        #[serde(default)]
        terms: Terms,
    },
    /// To raise the log's writer epoch.
    Acquire,
    /// What became of an append; if it has not landed, it is never to.
    Resolve {
        /// The values of its records.
        values: Vec<u64>,
    },
    /// To read records from an offset on.
    Read {
        /// The first offset.
        from: u64,
        /// The most records to read.
        max: u64,
        /// Whether it may be served by any replica from what that has
        /// committed; otherwise everything acknowledged before is seen.
        local: bool,
    },
    /// Where the log ends: everything acknowledged before lies below.
    End,
    /// To read records that lie before a barrier, from any replica that has them.
    ReadAfter {
        /// The first offset.
        from: u64,
        /// The most records to read.
        max: u64,
        /// The end that a barrier named.
        barrier: u64,
    },
    /// Where one replica's copy ends, and how old that may be.
    LocalEnd {
        /// The node that has it.
        node: u64,
    },
    /// Something of a cursor that the log keeps.
    Cursor {
        /// Its name.
        cursor: String,
        /// What.
        call: CursorCall,
    },
    /// Something of a lease of the log.
    Lease {
        /// Whose it is.
        holder: String,
        /// What.
        call: LeaseCall,
    },
    /// To trim the log, unless that strands who holds a lease.
    Trim {
        /// The first offset to stay.
        to: u64,
    },
}

/// What has to hold for an append to land, besides its producer's order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// The log's writer epoch is this one.
    pub epoch: Option<u64>,
    /// The log ends here.
    pub expected_end: Option<u64>,
}

/// What a client was told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Nothing yet.
    Pending,
    /// The log exists.
    Created,
    /// The log is gone for ever.
    Deleted,
    /// The records have the offsets `start..end`.
    Appended {
        /// The first record's offset.
        start: u64,
        /// The offset after the last one's.
        end: u64,
    },
    /// The append was refused: the writer epoch is another one by now.
    Fenced {
        /// That epoch.
        current: u64,
    },
    /// The append was refused: the log ends elsewhere.
    Mismatch {
        /// Where.
        end: u64,
    },
    /// The writer epoch was raised.
    Acquired {
        /// To this one.
        epoch: u64,
        /// Where the log ended then.
        end: u64,
    },
    /// What became of an append is settled.
    Resolved {
        /// Its offsets; `None` when it has not landed and never will.
        landed: Option<(u64, u64)>,
    },
    /// What was read, in order: offsets and values.
    Read {
        /// Offsets and values.
        records: Vec<(u64, u64)>,
    },
    /// The log ends here: the next record gets this offset.
    End {
        /// That offset.
        end: u64,
    },
    /// A replica's copy ends here.
    LocalEnd {
        /// Its end.
        end: u64,
        /// How far its leader has told it that the log goes.
        leader_end: u64,
        /// Whatever was acknowledged so many milliseconds before the answer is there,
        /// if the replica can tell.
        age_ms: Option<u64>,
    },
    /// What a cursor's call was answered.
    Cursor(CursorAnswer),
    /// What a lease's call was answered.
    Lease(LeaseAnswer),
    /// The log was trimmed.
    Trimmed {
        /// Where it starts.
        start: u64,
    },
    /// The log was not trimmed: these leases, holders and offsets, would be stranded.
    Strands {
        /// Some of them.
        leases: Vec<(String, u64)>,
    },
    /// It did not happen and never will.
    Failed {
        /// Why not.
        why: String,
    },
    /// It happened once, or never did or will.
    Unknown {
        /// What came instead of an answer.
        why: String,
    },
}

/// The calls of a run. Clones record into the same history.
#[derive(Clone, Debug, Default)]
pub struct History {
    operations: Arc<Mutex<Vec<Operation>>>,
}

impl History {
    /// A call is made now; its id.
    pub fn invoke(&self, now: Duration, client: u64, log: &str, call: Call) -> u64 {
        let mut operations = self.operations();
        let id = operations.len() as u64;
        operations.push(Operation {
            id,
            client,
            log: log.to_owned(),
            call,
            invoked: now,
            completed: None,
            outcome: Outcome::Pending,
        });
        id
    }

    /// A call is answered now.
    ///
    /// # Panics
    /// When there is no such call, or it was answered before.
    pub fn complete(&self, now: Duration, id: u64, outcome: Outcome) {
        let mut operations = self.operations();
        let operation = &mut operations[usize::try_from(id).expect("a history fits in memory")];
        assert_eq!(operation.outcome, Outcome::Pending, "operation {id} was answered before");
        operation.completed = Some(now);
        operation.outcome = outcome;
    }

    /// All calls so far.
    pub fn snapshot(&self) -> Vec<Operation> {
        self.operations().clone()
    }

    /// How many calls wait for their answer.
    pub fn pending(&self) -> usize {
        self.operations().iter().filter(|operation| operation.outcome == Outcome::Pending).count()
    }

    /// The client is gone, and nobody waits any more for what it had under way;
    /// those calls.
    pub fn abandon(&self, now: Duration, client: u64) -> Vec<u64> {
        let mut operations = self.operations();
        let waiting = operations.iter_mut().filter(|it| it.client == client && it.outcome == Outcome::Pending);
        let abandoned = waiting.map(|operation| {
            operation.completed = Some(now);
            operation.outcome = Outcome::Unknown { why: "the client crashed".to_owned() };
            operation.id
        });
        abandoned.collect()
    }

    /// The logs that are known to have been created.
    pub fn created(&self) -> Vec<String> {
        let operations = self.operations();
        let created = operations.iter().filter(|operation| operation.outcome == Outcome::Created);
        let names: std::collections::BTreeSet<String> = created.map(|operation| operation.log.clone()).collect();
        names.into_iter().collect()
    }

    fn operations(&self) -> MutexGuard<'_, Vec<Operation>> {
        self.operations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Stands in a copy for a record that a log let go of before anybody saw it.
pub const UNSEEN: u64 = u64::MAX - 1;

/// What each replica of each log holds once everything has healed: by log and
/// node, offsets and values in the order in which they were read.
pub type Copies = BTreeMap<String, BTreeMap<u64, Vec<(u64, u64)>>>;
