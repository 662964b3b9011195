//! The threads that do what was submitted.
//!
//! ```text
//!   submit ──► queue ──► thread: run, then complete ──► next
//!                │ full, closed or broken
//!                └────► completed with an error by the submitter
//! ```
//!
//! A completion runs outside the queue's lock, so it may submit; what it
//! submits is queued like any other, so no chain of completions recurses. A
//! completion that panics has left its owner in a state nobody knows: its lane
//! is broken from then on and everything in it fails.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use super::super::request::queue_is_full;
use super::super::{AlignedBuffer, Completion, Lane, Outcome};
use super::file::OpenFile;

/// How many threads read.
const READ_THREADS: usize = 2;

/// What a lane is to do, its file looked up.
pub(super) enum Work {
    Write {
        file: Arc<OpenFile>,
        offset: u64,
        buffer: AlignedBuffer,
    },
    Sync {
        file: Arc<OpenFile>,
    },
    Read {
        file: Arc<OpenFile>,
        offset: u64,
        length: usize,
    },
    Task(Box<dyn FnOnce() + Send>),
    /// Takes its turn only to fail.
    Refused(io::Error),
}

impl Work {
    fn run(self) -> io::Result<Outcome> {
        match self {
            Self::Write { file, offset, buffer } => file.write_at(offset, &buffer).map(|()| Outcome::Written(buffer)),
            Self::Sync { file } => file.sync().map(|()| Outcome::Synced),
            Self::Read { file, offset, length } => {
                let mut buffer = AlignedBuffer::zeroed(length);
                let read = file.read_at(offset, &mut buffer)?;
                buffer.resize(read);
                Ok(Outcome::Read(buffer))
            }
            Self::Task(task) => match catch_unwind(AssertUnwindSafe(task)) {
                Ok(()) => Ok(Outcome::Ran),
                Err(_) => Err(io::Error::other("the submitted task panicked")),
            },
            Self::Refused(error) => Err(error),
        }
    }
}

/// All lanes; dropping them fails what waits and ends what runs.
pub(super) struct Lanes {
    commit: Arc<Queue>,
    read: Arc<Queue>,
    background: Arc<Queue>,
    threads: Vec<JoinHandle<()>>,
}

impl Lanes {
    pub(super) fn start() -> io::Result<Self> {
        let mut lanes = Self {
            commit: Queue::of(Lane::Commit),
            read: Queue::of(Lane::Read),
            background: Queue::of(Lane::Background),
            threads: Vec::new(),
        };
        for (lane, count) in [(Lane::Commit, 1), (Lane::Read, READ_THREADS), (Lane::Background, 1)] {
            for _ in 0..count {
                lanes.threads.push(start_thread(Arc::clone(lanes.queue(lane)))?);
            }
        }
        Ok(lanes)
    }

    pub(super) fn submit(&self, lane: Lane, work: Work, done: Completion) {
        self.queue(lane).submit(Job { work, done });
    }

    fn queue(&self, lane: Lane) -> &Arc<Queue> {
        match lane {
            Lane::Commit => &self.commit,
            Lane::Read => &self.read,
            Lane::Background => &self.background,
        }
    }
}

impl Drop for Lanes {
    fn drop(&mut self) {
        for lane in Lane::ALL {
            self.queue(lane).end(End::Closed);
        }
        let current = thread::current().id();
        for thread in self.threads.drain(..) {
            // The last owner of the disk may be a completion: it cannot wait
            // for its own thread, which ends once the completion returns.
            if thread.thread().id() != current && thread.join().is_err() {
                tracing::error!("a thread of the disk panicked");
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the environment's disk: its lanes are threads")]
fn start_thread(queue: Arc<Queue>) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name(format!("disk-{}", queue.lane)).spawn(move || queue.work())
}

struct Job {
    work: Work,
    done: Completion,
}

struct Queue {
    lane: Lane,
    state: Mutex<State>,
    ready: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Job>,
    end: Option<End>,
}

/// Why a lane does nothing any more.
#[derive(Clone, Copy)]
enum End {
    Closed,
    Broken,
}

impl Queue {
    fn of(lane: Lane) -> Arc<Self> {
        Arc::new(Self { lane, state: Mutex::default(), ready: Condvar::new() })
    }

    fn submit(&self, job: Job) {
        let mut state = self.state();
        let refused = match state.end {
            Some(end) => self.ended(end),
            None if state.waiting.len() >= self.lane.queue_bound() => queue_is_full(self.lane),
            None => {
                state.waiting.push_back(job);
                drop(state);
                return self.ready.notify_one();
            }
        };
        drop(state);
        (job.done)(Err(refused));
    }

    /// A thread's life.
    fn work(&self) {
        while let Some(job) = self.next() {
            let completed = catch_unwind(AssertUnwindSafe(|| (job.done)(job.work.run())));
            if completed.is_err() {
                tracing::error!(lane = %self.lane, "a completion panicked: the lane takes no more operations");
                self.end(End::Broken);
            }
        }
    }

    fn next(&self) -> Option<Job> {
        let mut state = self.state();
        loop {
            if state.end.is_some() {
                return None;
            }
            if let Some(job) = state.waiting.pop_front() {
                return Some(job);
            }
            state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes nothing more, and fails what waits.
    fn end(&self, end: End) {
        let mut state = self.state();
        state.end.get_or_insert(end);
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        self.ready.notify_all();
        for job in waiting {
            let failed = catch_unwind(AssertUnwindSafe(|| (job.done)(Err(self.ended(end)))));
            if failed.is_err() {
                tracing::error!(lane = %self.lane, "a completion panicked while the lane ended");
            }
        }
    }

    fn ended(&self, end: End) -> io::Error {
        let lane = self.lane;
        match end {
            End::Closed => io::Error::new(io::ErrorKind::BrokenPipe, format!("the disk's {lane} lane is closed")),
            End::Broken => io::Error::other(format!("the disk's {lane} lane broke: a completion panicked")),
        }
    }

    /// No code that may panic runs under the lock.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
