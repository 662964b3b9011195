//! A process that is paused, as by SIGSTOP, and goes on, as by SIGCONT.
//!
//! ```text
//!   begin ─▶ a task that is woken does not run: its waker is kept ─▶ end: all
//!            time passes, and timers fall due                        are woken
//! ```
//!
//! Who was woken first goes on first, so timers that fell due meanwhile are
//! seen in the order in which they did, all at once.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Whether a host's process is paused, and which of its tasks wait for that to
/// end.
#[derive(Debug, Default)]
pub(crate) struct Pause {
    state: Mutex<State>,
    tasks: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    is_on: bool,
    /// The tasks that were woken, by their numbers, in that order.
    woken: Vec<(u64, Waker)>,
}

impl Pause {
    /// Lets no task run from now on.
    pub(crate) fn begin(&self) {
        self.state().is_on = true;
    }

    /// Lets them run again.
    pub(crate) fn end(&self) {
        let woken = {
            let mut state = self.state();
            state.is_on = false;
            std::mem::take(&mut state.woken)
        };
        for (_, waker) in woken {
            waker.wake();
        }
    }

    /// The process ended; the next one is not paused.
    pub(crate) fn process_ended(&self) {
        let woken = {
            let mut state = self.state();
            state.is_on = false;
            std::mem::take(&mut state.woken)
        };
        // A waker may be the last to hold its task.
        drop(woken);
    }

    /// Whether the process is paused.
    pub(crate) fn is_on(&self) -> bool {
        self.state().is_on
    }

    /// Whether the task of this number has to wait; it is woken when it need
    /// not any more.
    fn holds(&self, task: u64, waker: &Waker) -> bool {
        let mut state = self.state();
        if !state.is_on {
            return false;
        }
        match state.woken.iter_mut().find(|(woken, _)| *woken == task) {
            Some((_, kept)) => kept.clone_from(waker),
            None => state.woken.push((task, waker.clone())),
        }
        true
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A task that does not run while its process is paused.
pub(crate) struct Pausable<F> {
    pause: Arc<Pause>,
    number: u64,
    inner: F,
}

impl<F: Future + Unpin> Pausable<F> {
    pub(crate) fn new(pause: Arc<Pause>, inner: F) -> Self {
        let number = pause.tasks.fetch_add(1, Ordering::Relaxed);
        Self { pause, number, inner }
    }
}

impl<F: Future + Unpin> Future for Pausable<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.pause.holds(self.number, cx.waker()) {
            return Poll::Pending;
        }
        Pin::new(&mut self.inner).poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::sleep;

    use super::*;

    /// Starts a task that notes its name after a time.
    #[expect(clippy::disallowed_methods, reason = "this is how an environment starts a task")]
    fn note(pause: &Arc<Pause>, notes: &Arc<Mutex<Vec<u64>>>, after_ms: u64) -> tokio::task::JoinHandle<()> {
        let notes = Arc::clone(notes);
        tokio::spawn(Pausable::new(
            Arc::clone(pause),
            Box::pin(async move {
                sleep(Duration::from_millis(after_ms)).await;
                notes.lock().unwrap().push(after_ms);
            }),
        ))
    }

    #[tokio::test(start_paused = true)]
    async fn what_falls_due_in_a_pause_happens_when_it_ends_in_its_order() {
        let (pause, notes) = (Arc::new(Pause::default()), Arc::default());
        for after_ms in [70, 20, 30, 500] {
            note(&pause, &notes, after_ms);
        }
        sleep(Duration::from_millis(25)).await;
        assert_eq!(*notes.lock().unwrap(), [20]);
        pause.begin();
        sleep(Duration::from_millis(100)).await;
        assert_eq!(*notes.lock().unwrap(), [20], "nothing happens in a pause");
        pause.end();
        sleep(Duration::from_millis(1)).await;
        assert_eq!(*notes.lock().unwrap(), [20, 30, 70], "and all that was due when it has ended");
        sleep(Duration::from_millis(400)).await;
        assert_eq!(*notes.lock().unwrap(), [20, 30, 70, 500], "the rest in its time");
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_starts_in_a_pause_waits_as_well() {
        let (pause, notes) = (Arc::new(Pause::default()), Arc::default());
        pause.begin();
        note(&pause, &notes, 0);
        sleep(Duration::from_millis(10)).await;
        assert!(notes.lock().unwrap().is_empty());
        pause.end();
        sleep(Duration::from_millis(10)).await;
        assert_eq!(*notes.lock().unwrap(), [0]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_paused_task_can_be_ended() {
        let (pause, notes) = (Arc::new(Pause::default()), Arc::default());
        let task = note(&pause, &notes, 10);
        pause.begin();
        sleep(Duration::from_millis(20)).await;
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        pause.end();
        sleep(Duration::from_millis(20)).await;
        assert!(notes.lock().unwrap().is_empty());
    }
}
