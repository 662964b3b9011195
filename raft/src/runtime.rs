//! The runtime that openraft runs on: whatever the environment drives.
//!
//! ```text
//!   scope(environment, call into openraft)
//!     ├ its random numbers derive from a seed ◀── environment.random
//!     └ its tasks are started by              ◀── environment.tasks
//!          └ so are theirs: both are handed from a task to those it starts
//! ```
//!
//! openraft reaches its runtime by type and not by value; hence task-locals.
//! Timers and channels are tokio's, which run on whatever drives the task.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use openraft_rt::deterministic_rng::DeterministicRng;
use openraft_rt::{AsyncRuntime, OptionalSend};
use openraft_rt_tokio::TokioRuntime;
use quipu_protocol::environment::{Environment, Spawn, Task};
use tokio::sync::oneshot;
use tokio::task::JoinError;

/// tokio's runtime for openraft, with tasks and random numbers that come from
/// an [`Environment`]. Everything that calls into openraft has to run inside
/// [`scope`]; outside of it, openraft panics when it starts a task or draws a
/// number.
pub type Runtime = DeterministicRng<EnvironmentTasks>;

tokio::task_local! {
    /// What starts the tasks of the one that runs.
    static TASKS: Arc<dyn Spawn>;
}

/// Runs `future`, which calls into openraft, with the tasks and a seed of
/// `environment`.
pub fn scope<F: Future>(environment: &Environment, future: F) -> impl Future<Output = F::Output> + use<F> {
    let seeded = Runtime::scope(environment.random.next(), future);
    TASKS.scope(Arc::clone(&environment.tasks), seeded)
}

/// tokio's runtime, with tasks that the environment starts.
#[derive(Debug)]
pub struct EnvironmentTasks(TokioRuntime);

impl AsyncRuntime for EnvironmentTasks {
    type JoinError = JoinError;
    type JoinHandle<T: OptionalSend + 'static> = Handle<T>;
    type Sleep = <TokioRuntime as AsyncRuntime>::Sleep;
    type Instant = <TokioRuntime as AsyncRuntime>::Instant;
    type TimeoutError = <TokioRuntime as AsyncRuntime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = <TokioRuntime as AsyncRuntime>::Timeout<R, T>;
    type ThreadLocalRng = <TokioRuntime as AsyncRuntime>::ThreadLocalRng;
    type Mpsc = <TokioRuntime as AsyncRuntime>::Mpsc;
    type Watch = <TokioRuntime as AsyncRuntime>::Watch;
    type Oneshot = <TokioRuntime as AsyncRuntime>::Oneshot;
    type Mutex<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::Mutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        let tasks = TASKS.with(Arc::clone);
        let (tell, output) = oneshot::channel();
        let told = async move {
            // Nobody has to wait for it.
            let _ = tell.send(future.await);
        };
        let task = tasks.spawn("openraft", Box::pin(TASKS.scope(Arc::clone(&tasks), told)));
        Handle { task: Some(task), output }
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        TokioRuntime::sleep(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        TokioRuntime::sleep_until(deadline)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(duration: Duration, future: F) -> Self::Timeout<R, F> {
        TokioRuntime::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(deadline: Self::Instant, future: F) -> Self::Timeout<R, F> {
        TokioRuntime::timeout_at(deadline, future)
    }

    fn is_panic(join_error: &Self::JoinError) -> bool {
        join_error.is_panic()
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        TokioRuntime::thread_rng()
    }

    fn new(threads: usize) -> Self {
        Self(TokioRuntime::new(threads))
    }

    fn block_on<F: Future<Output = T>, T>(&mut self, future: F) -> T {
        self.0.block_on(future)
    }
}

/// A task of openraft's. It runs on when this is dropped.
pub struct Handle<T> {
    /// None once it has been waited for.
    task: Option<Task>,
    output: oneshot::Receiver<T>,
}

impl<T> Future for Handle<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let task = self.task.as_mut().expect("a task is waited for once");
        let ended = ready!(task.poll_ended(cx));
        self.task = None;
        Poll::Ready(ended.map(|()| self.output.try_recv().expect("told before the task ended by itself")))
    }
}

impl<T> Drop for Handle<T> {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.detach();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use quipu_protocol::environment::BoxFuture;

    use super::*;

    /// Starts tasks and counts them.
    #[derive(Default)]
    struct Counted(Mutex<usize>);

    impl Spawn for Counted {
        #[expect(clippy::disallowed_methods, reason = "this is how an environment starts a task")]
        fn spawn(&self, _name: &'static str, future: BoxFuture<'static, ()>) -> Task {
            *self.0.lock().unwrap() += 1;
            Task::new(tokio::spawn(future))
        }
    }

    fn environment() -> (Arc<Counted>, Environment) {
        let counted = Arc::new(Counted::default());
        let environment = Environment { tasks: Arc::clone(&counted) as _, ..quipu_sdk::system::environment() };
        (counted, environment)
    }

    #[tokio::test]
    async fn tasks_and_those_they_start_come_from_the_environment() {
        let (counted, environment) = environment();
        let answer = scope(&environment, async {
            let child = async { Runtime::spawn(async { 7 }).await.unwrap() };
            Runtime::spawn(child).await.unwrap()
        });
        assert_eq!(answer.await, 7);
        assert_eq!(*counted.0.lock().unwrap(), 2);
    }

    #[tokio::test]
    async fn a_panic_is_told_as_one() {
        let (_, environment) = environment();
        let panics = async { Runtime::spawn(async { panic!("as this test wants") }).await };
        let error: JoinError = scope(&environment, panics).await.map(|()| "no panic").unwrap_err();
        assert!(Runtime::is_panic(&error));
    }

    #[tokio::test]
    async fn a_task_whose_handle_is_dropped_runs_on() {
        let (_, environment) = environment();
        let (go, gone) = oneshot::channel();
        let (tell, told) = oneshot::channel();
        scope(&environment, async {
            drop(Runtime::spawn(async move {
                gone.await.unwrap();
                tell.send(()).unwrap();
            }));
        })
        .await;
        go.send(()).expect("the task still waits");
        told.await.unwrap();
    }
}
