//! Whether one order of all calls explains every answer, each call at some
//! moment between when it was made and when it was answered.
//!
//! [`search`] looks for such an order under any [`Model`]; [`LogModel`] is
//! the log's.

mod engine;
mod log;
mod moments;

pub use engine::{Attempt, Bound, Model, Outcome, Stuck, search};
pub use log::LogModel;
