//! Starting tasks.

use super::BoxFuture;

/// Starts tasks on whatever drives this environment.
pub trait Spawn: Send + Sync + 'static {
    /// Starts `future`; `name` shows in diagnostics. The task ends when its
    /// [`Task`] is dropped, unless it is detached.
    fn spawn(&self, name: &'static str, future: BoxFuture<'static, ()>) -> Task;
}

/// A running task; dropping it ends the task at its next await.
#[must_use = "dropping a task ends it"]
pub struct Task {
    handle: Option<tokio::task::JoinHandle<()>>,
}

impl Task {
    /// Takes a task over from tokio; for implementations of [`Spawn`].
    pub fn new(handle: tokio::task::JoinHandle<()>) -> Self {
        Self { handle: Some(handle) }
    }

    /// Lets the task run on by itself.
    pub fn detach(mut self) {
        self.handle.take();
    }

    /// Waits until the task has ended by itself. False if it panicked.
    pub async fn join(mut self) -> bool {
        match self.handle.take() {
            Some(handle) => handle.await.is_ok(),
            None => true,
        }
    }

    /// Whether the task has ended.
    pub fn is_finished(&self) -> bool {
        self.handle.as_ref().is_none_or(tokio::task::JoinHandle::is_finished)
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(handle) = self.handle.take() {
            handle.abort();
        }
    }
}
