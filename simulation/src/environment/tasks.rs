//! Tasks on the runtime of the host that starts them.

use quipu_protocol::environment::{BoxFuture, Spawn, Task};

/// Starts tasks on the current host's runtime, which has one thread.
pub(crate) struct HostTasks;

impl Spawn for HostTasks {
    #[expect(clippy::disallowed_methods, reason = "this is the environment's own way to start tasks")]
    fn spawn(&self, _name: &'static str, future: BoxFuture<'static, ()>) -> Task {
        Task::new(tokio::spawn(future))
    }
}
