//! Tasks on the runtime of the host that starts them.

use std::sync::Arc;

use quipu_protocol::environment::{BoxFuture, Spawn, Task};

use super::pause::{Pausable, Pause};

/// Starts tasks on the current host's runtime, which has one thread; none runs
/// while the host's process is paused.
pub(crate) struct HostTasks {
    pause: Arc<Pause>,
}

impl HostTasks {
    pub(crate) fn new(pause: Arc<Pause>) -> Self {
        Self { pause }
    }
}

impl Spawn for HostTasks {
    #[expect(clippy::disallowed_methods, reason = "this is the environment's own way to start tasks")]
    fn spawn(&self, _name: &'static str, future: BoxFuture<'static, ()>) -> Task {
        Task::new(tokio::spawn(Pausable::new(Arc::clone(&self.pause), future)))
    }
}
