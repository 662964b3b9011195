//! Starting tasks.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::task::JoinError;

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

    /// Looks whether the task has ended, and tells once why it did not end by
    /// itself.
    pub fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), JoinError>> {
        let Some(handle) = &mut self.handle else { return Poll::Ready(Ok(())) };
        let ended = ready!(Pin::new(handle).poll(cx));
        self.handle = None;
        Poll::Ready(ended)
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

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::Task;

    /// A task that waits for the sender, and whose receiver tells when it has
    /// ended.
    #[expect(clippy::disallowed_methods, reason = "this is how an environment starts a task")]
    fn waiting() -> (Task, oneshot::Sender<()>, oneshot::Receiver<()>) {
        let (go, gone) = oneshot::channel();
        let (held, ended) = oneshot::channel::<()>();
        let task = Task::new(tokio::task::spawn(async move {
            let _held = held;
            let _ = gone.await;
        }));
        (task, go, ended)
    }

    #[tokio::test]
    async fn a_dropped_task_ends() {
        let (task, _go, ended) = waiting();
        drop(task);
        ended.await.expect_err("dropped with the task, never sent");
    }

    #[tokio::test]
    async fn a_detached_task_goes_on() {
        let (task, go, ended) = waiting();
        task.detach();
        go.send(()).expect("the task still waits");
        ended.await.expect_err("dropped with the task, never sent");
    }

    #[tokio::test]
    async fn joining_tells_a_panic_from_an_end() {
        let (task, go, _ended) = waiting();
        assert!(!task.is_finished());
        go.send(()).expect("the task still waits");
        assert!(task.join().await);

        #[expect(clippy::disallowed_methods, reason = "this is how an environment starts a task")]
        let panics = Task::new(tokio::task::spawn(async { panic!("as this test wants") }));
        assert!(!panics.join().await);
    }
}
