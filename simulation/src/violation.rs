//! A promise that was not kept.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A promise that was not kept, and how that shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// Which promise: a short name that stays the same from run to run, such as
    /// `no-lost-record`. The same defect gives the same name, by which a
    /// failure is recognised while it is made smaller.
    pub promise: String,
    /// What was found and what should have been, for a person.
    pub details: String,
    /// The calls that show it, by their ids.
    pub operations: Vec<u64>,
}

impl Violation {
    /// `promise` was not kept, as `details` show.
    pub fn new(promise: &str, details: impl fmt::Display) -> Self {
        Self { promise: promise.to_owned(), details: details.to_string(), operations: Vec::new() }
    }

    /// The same with the calls that show it.
    #[must_use]
    pub fn shown_by(self, operations: impl IntoIterator<Item = u64>) -> Self {
        Self { operations: operations.into_iter().collect(), ..self }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.promise, self.details)
    }
}
