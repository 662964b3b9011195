//! Tasks on the tokio runtime that the caller is on.

use quipu_protocol::environment::{BoxFuture, Spawn, Task};

/// Starts tasks on the current tokio runtime.
pub(super) struct TokioTasks;

impl Spawn for TokioTasks {
    // tokio keeps a task's name only in builds with its tracing feature.
    #[expect(clippy::disallowed_methods, reason = "the environment is where tasks are started")]
    fn spawn(&self, _name: &'static str, future: BoxFuture<'static, ()>) -> Task {
        Task::new(tokio::spawn(future))
    }
}
