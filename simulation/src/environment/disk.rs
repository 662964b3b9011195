//! A node's disk: what [`MemoryDisk`] holds, behind operations that take their
//! time and may go wrong.
//!
//! ```text
//!   submit ─▶ a MemoryDisk that holds everything back
//!     │                       ▲
//!     └ a drawn delay, longer │ step(lane): now it happens and is told
//!       on a slow disk ───────┘
//! ```
//!
//! So there is time between a write, its fsync and the news of it in which a
//! process can be killed or the power can go. Operations that are not
//! submitted (those of a start, mostly) happen at once; power can be cut in
//! the middle of them all the same, by their number.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quipu_storage::disk::{ALIGNMENT, AlignedBuffer, FileId};
use quipu_storage::{Access, Completion, Disk, Lane, MemoryDisk, Operation, Outcome};
use tokio::sync::watch;

use super::clock;
use super::pause::{Pausable, Pause};
use super::random::SeededRandom;

/// How a host's disk behaves, whatever it holds. Outlives the processes and
/// the disks of its host.
pub(crate) struct DiskNature {
    random: Arc<SeededRandom>,
    /// Every operation takes a time drawn from these, in microseconds.
    shortest_us: u64,
    longest_us: u64,
    /// How many times longer than usual operations take.
    slowness: AtomicU32,
    /// False while nothing is completed.
    moves: watch::Sender<bool>,
    /// The next write is acknowledged and never happens.
    lose_write: AtomicBool,
    /// The next write lands elsewhere in its file.
    misdirect_write: AtomicBool,
    /// Whether the journal's last write went wrong, and nothing after it is
    /// synced yet.
    tail: AtomicU8,
    /// How many operations were submitted and not completed yet.
    under_way: AtomicU64,
}

/// The last write, and all before it, are where they belong.
const SOUND: u8 = 0;
/// The last write went wrong.
const SPOILED: u8 = 1;
/// One before the last did.
const FOLLOWED: u8 = 2;

impl DiskNature {
    pub(crate) fn new(random: Arc<SeededRandom>, (shortest_us, longest_us): (u64, u64)) -> Arc<Self> {
        Arc::new(Self {
            random,
            shortest_us,
            longest_us: longest_us.max(shortest_us + 1),
            slowness: AtomicU32::new(1),
            moves: watch::channel(true).0,
            lose_write: AtomicBool::new(false),
            misdirect_write: AtomicBool::new(false),
            tail: AtomicU8::new(SOUND),
            under_way: AtomicU64::new(0),
        })
    }

    /// Lets operations take so many times as long; 1 is the usual.
    pub(crate) fn slow_down(&self, times: u32) {
        self.slowness.store(times.max(1), Ordering::Relaxed);
    }

    /// Completes nothing until told otherwise.
    pub(crate) fn stall(&self, stalls: bool) {
        self.moves.send_replace(!stalls);
    }

    /// Lets the next submitted write be acknowledged without having happened.
    pub(crate) fn lose_next_write(&self) {
        self.lose_write.store(true, Ordering::Relaxed);
    }

    /// Lets the next submitted write land at another place of its file.
    pub(crate) fn misdirect_next_write(&self) {
        self.misdirect_write.store(true, Ordering::Relaxed);
    }

    /// Takes back what was armed and has not struck.
    pub(crate) fn disarm(&self) {
        self.lose_write.store(false, Ordering::Relaxed);
        self.misdirect_write.store(false, Ordering::Relaxed);
        self.tail.store(SOUND, Ordering::Relaxed);
    }

    /// Whether the last write went wrong and nothing on the disk says that
    /// there was one.
    pub(crate) fn has_spoiled_tail(&self) -> bool {
        self.tail.load(Ordering::Relaxed) != SOUND
    }

    fn completed(&self, kind: Step) {
        let next = match (self.tail.load(Ordering::Relaxed), kind) {
            (SPOILED, Step::Write) => FOLLOWED,
            (FOLLOWED, Step::Sync) => SOUND,
            (tail, _) => tail,
        };
        self.tail.store(next, Ordering::Relaxed);
    }

    /// How many operations were submitted and are not completed yet.
    pub(crate) fn under_way(&self) -> u64 {
        self.under_way.load(Ordering::Relaxed)
    }

    /// A process ended, and with it what it had under way.
    pub(crate) fn process_ended(&self) {
        self.under_way.store(0, Ordering::Relaxed);
    }

    fn delay(&self) -> Duration {
        let random: &dyn quipu_protocol::environment::Random = &*self.random;
        let micros = self.shortest_us + random.below(self.longest_us - self.shortest_us);
        Duration::from_micros(micros) * self.slowness.load(Ordering::Relaxed)
    }
}

/// What an operation was, once it is done.
#[derive(Clone, Copy)]
enum Step {
    Write,
    Sync,
    Other,
}

/// A disk as the process that runs sees it.
pub(crate) struct SimulatedDisk {
    inner: Arc<MemoryDisk>,
    nature: Arc<DiskNature>,
    /// Nothing is told to a process that is paused.
    pause: Arc<Pause>,
    /// When each lane that works in order is free again.
    free_at: Mutex<BTreeMap<Lane, Duration>>,
}

impl SimulatedDisk {
    /// `inner` as a new process finds it.
    pub(crate) fn new(inner: Arc<MemoryDisk>, nature: Arc<DiskNature>, pause: Arc<Pause>) -> Self {
        inner.hold();
        Self { inner, nature, pause, free_at: Mutex::default() }
    }

    /// When an operation that is submitted now is done.
    fn due(&self, lane: Lane) -> Duration {
        let now = clock::now();
        let delay = self.nature.delay();
        if lane == Lane::Read {
            return now + delay;
        }
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        let free = free_at.entry(lane).or_default();
        *free = (*free).max(now) + delay;
        *free
    }

    /// The operation as it happens, and whether it is a write that goes wrong.
    fn spoil(&self, operation: Operation, done: Completion) -> (Operation, Completion, bool) {
        let Operation::Write { file, offset, buffer } = operation else { return (operation, done, false) };
        if self.nature.lose_write.swap(false, Ordering::Relaxed) {
            self.nature.tail.store(SPOILED, Ordering::Relaxed);
            let lost = move |result: io::Result<Outcome>| done(result.map(|_| Outcome::Written(buffer)));
            return (Operation::Task(Box::new(|| {})), Box::new(lost), true);
        }
        let length = self.inner.length(file).unwrap_or_default();
        let room = length.saturating_sub(buffer.len() as u64);
        if room > 0 && self.nature.misdirect_write.swap(false, Ordering::Relaxed) {
            self.nature.tail.store(SPOILED, Ordering::Relaxed);
            let random: &dyn quipu_protocol::environment::Random = &*self.nature.random;
            let sectors = room / ALIGNMENT as u64;
            let elsewhere = random.below(sectors + 1) * ALIGNMENT as u64;
            return (Operation::Write { file, offset: elsewhere, buffer }, done, true);
        }
        (Operation::Write { file, offset, buffer }, done, false)
    }
}

impl Disk for SimulatedDisk {
    fn open(&self, path: &str, access: Access) -> io::Result<FileId> {
        self.inner.open(path, access)
    }

    fn create(&self, path: &str, access: Access) -> io::Result<FileId> {
        self.inner.create(path, access)
    }

    fn close(&self, file: FileId) {
        self.inner.close(file);
    }

    fn access(&self, file: FileId) -> io::Result<Access> {
        self.inner.access(file)
    }

    fn length(&self, file: FileId) -> io::Result<u64> {
        self.inner.length(file)
    }

    fn read_at(&self, file: FileId, offset: u64, buffer: &mut AlignedBuffer) -> io::Result<usize> {
        self.inner.read_at(file, offset, buffer)
    }

    fn write_at(&self, file: FileId, offset: u64, buffer: &AlignedBuffer) -> io::Result<()> {
        self.inner.write_at(file, offset, buffer)
    }

    fn sync(&self, file: FileId) -> io::Result<()> {
        self.inner.sync(file)
    }

    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        self.inner.list(directory)
    }

    fn create_directory(&self, path: &str) -> io::Result<()> {
        self.inner.create_directory(path)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.inner.remove(path)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.inner.free_bytes()
    }

    fn sync_directory(&self, path: &str) -> io::Result<()> {
        self.inner.sync_directory(path)
    }

    #[expect(clippy::disallowed_methods, reason = "this is the environment's own disk")]
    fn submit(&self, lane: Lane, operation: Operation, done: Completion) {
        let step = match &operation {
            Operation::Write { .. } => Step::Write,
            Operation::Sync { .. } => Step::Sync,
            _ => Step::Other,
        };
        let (operation, done, spoiled) = self.spoil(operation, done);
        let step = if spoiled { Step::Other } else { step };
        let due = self.due(lane);
        let before = self.inner.waiting(lane);
        self.inner.submit(lane, operation, done);
        if self.inner.waiting(lane) <= before {
            // Refused, and told so.
            return;
        }
        self.nature.under_way.fetch_add(1, Ordering::Relaxed);
        let (inner, nature) = (Arc::clone(&self.inner), Arc::clone(&self.nature));
        let mut moves = nature.moves.subscribe();
        let completion = async move {
            tokio::time::sleep(due.saturating_sub(clock::now())).await;
            // The sender is in `nature`, which is held here.
            let _ = moves.wait_for(|moves| *moves).await;
            nature.under_way.fetch_sub(1, Ordering::Relaxed);
            inner.step(lane);
            nature.completed(step);
        };
        tokio::spawn(Pausable::new(Arc::clone(&self.pause), Box::pin(completion)));
    }
}
