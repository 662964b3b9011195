//! A disk in memory, with the faults of a real one.
//!
//! ```text
//!                cut_power ─► every operation fails ─► restore(seed) ─┐
//!   MemoryDisk ──┤                                                    ├─► another MemoryDisk
//!                kill ──────► every operation fails ──────────────────┘
//! ```
//!
//! A power cut keeps what was synced and a drawn part of what was not; a kill
//! keeps everything that was written. Either way the disk that comes back is
//! a new value, and the old one is dead: code of the process that is gone
//! cannot reach the new one.
//!
//! Everything it does follows from its seeds and from the order of calls.

mod file;
mod image;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use self::image::{Image, Inode};
use super::request::{check_file_path, check_path, check_position, check_read_length, check_rename, failed, invalid};
use super::{Access, AlignedBuffer, Completion, Disk, FileId, Lane, Operation, Outcome};

/// A [`Disk`] in memory: a live image, what the medium holds of it, faults.
pub struct MemoryDisk {
    state: Mutex<State>,
}

struct State {
    image: Image,
    open: BTreeMap<FileId, Open>,
    next_file: u64,
    chance: StdRng,
    faults: Faults,
    changes: u64,
    powered: bool,
    waiting: BTreeMap<Lane, VecDeque<Waiting>>,
    submitted: u64,
    held: bool,
    running: bool,
}

struct Open {
    inode: Inode,
    path: String,
    access: Access,
}

#[derive(Clone, Default)]
struct Faults {
    cut_power_at: Option<u64>,
    fail_next_sync: bool,
    limit_bytes: Option<u64>,
    refuse_direct: bool,
    /// A file and a byte of it.
    misread: Option<(String, usize)>,
}

struct Waiting {
    order: u64,
    operation: Operation,
    done: Completion,
}

impl MemoryDisk {
    /// An empty disk; its choices follow from `seed`.
    pub fn new(seed: u64) -> Self {
        Self::of(Image::new(), seed)
    }

    fn of(image: Image, seed: u64) -> Self {
        Self {
            state: Mutex::new(State {
                image,
                open: BTreeMap::new(),
                next_file: 0,
                chance: StdRng::seed_from_u64(seed),
                faults: Faults::default(),
                changes: 0,
                powered: true,
                waiting: Lane::ALL.map(|lane| (lane, VecDeque::new())).into(),
                submitted: 0,
                held: false,
                running: false,
            }),
        }
    }

    /// How many operations that change anything (all but reads, lists and
    /// opens) ran so far: the moments at which [`Self::cut_power_at`] strikes.
    pub fn changes(&self) -> u64 {
        self.state().changes
    }

    /// Cuts the power in the middle of the `count`-th change from now (1 is
    /// the next one): it fails, and has happened or not. Every later
    /// operation fails.
    pub fn cut_power_at(&self, count: u64) {
        let mut state = self.state();
        state.faults.cut_power_at = Some(state.changes + count);
    }

    /// Cuts the power now: every later operation fails.
    pub fn cut_power(&self) {
        self.state().powered = false;
    }

    /// The disk as found when the power is back: what was synced, and of the
    /// rest what `seed` leaves. Ends this one, as a power cut does; may be
    /// called again with another seed. Faults do not carry over.
    #[must_use]
    pub fn restore(&self, seed: u64) -> Self {
        let mut chance = StdRng::seed_from_u64(seed);
        let image = self.end().after_power_cut(&mut chance);
        Self::of(image, chance.random())
    }

    /// The disk as the next process finds it after this one's was killed:
    /// what was written is there, and as unsynced as it was. Ends this one.
    /// Faults do not carry over.
    #[must_use]
    pub fn kill(&self, seed: u64) -> Self {
        let mut image = self.end();
        image.forget_unnamed(&BTreeSet::new());
        Self::of(image, seed)
    }

    /// A copy of the disk as it is now, unsynced as it is; this one goes on.
    #[must_use]
    pub fn copy(&self, seed: u64) -> Self {
        let mut image = self.state().image.clone();
        image.forget_unnamed(&BTreeSet::new());
        Self::of(image, seed)
    }

    /// Fails from here on, and drops what still waits without completing it,
    /// since the process that would hear of it is gone.
    fn end(&self) -> Image {
        let mut state = self.state();
        state.powered = false;
        let dropped: Vec<_> = state.waiting.values_mut().map(std::mem::take).collect();
        let image = state.image.clone();
        drop(state);
        drop(dropped);
        image
    }

    /// Lets the next sync of a file fail. No later sync makes durable what it
    /// should have. That is still read back, unless the file has direct access:
    /// there reads see what the medium holds, mostly the old.
    pub fn fail_next_sync(&self) {
        self.state().faults.fail_next_sync = true;
    }

    /// Takes back what was armed and has not struck: nothing fails any more that
    /// is not spoilt already.
    pub fn disarm(&self) {
        self.state().faults = Faults::default();
    }

    /// Refuses growth of the files beyond `bytes` in all; `None` lifts it.
    pub fn limit_bytes(&self, bytes: Option<u64>) {
        self.state().faults.limit_bytes = bytes;
    }

    /// Lets reads that touch the sectors of `length` bytes at `offset` fail
    /// until these are written again.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn break_reads(&self, path: &str, offset: u64, length: u64) {
        let (start, end) = (position(offset), position(offset + length));
        self.with_file(path, |file| file.break_reads(start..end));
    }

    /// Lets the next read of the byte at `offset` of `path` give another one;
    /// what lies on the medium stays.
    pub fn misread_once(&self, path: &str, offset: u64) {
        self.state().faults.misread = Some((path.to_owned(), position(offset)));
    }

    /// Flips bit `bit` (0 to 7) of the byte at `offset`, on the medium too.
    ///
    /// # Panics
    /// When there is no such file or byte.
    pub fn flip_bit(&self, path: &str, offset: u64, bit: u8) {
        let at = position(offset);
        self.with_file(path, |file| {
            let flipped = file.bytes()[at] ^ (1 << bit);
            file.corrupt(at, &[flipped]);
        });
    }

    /// Puts `bytes` at `offset`, on the medium too: garbage, or what another
    /// write left there.
    ///
    /// # Panics
    /// When there is no such file or the bytes end behind it.
    pub fn corrupt(&self, path: &str, offset: u64, bytes: &[u8]) {
        self.with_file(path, |file| file.corrupt(position(offset), bytes));
    }

    /// Drops what is behind the first `length` bytes, on the medium too.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn shorten(&self, path: &str, length: u64) {
        self.with_file(path, |file| file.shorten(position(length)));
    }

    /// The paths of all files, sorted.
    pub fn list_files(&self) -> Vec<String> {
        self.state().image.list_files()
    }

    /// How many bytes all files have together.
    pub fn size(&self) -> u64 {
        self.state().image.size() as u64
    }

    /// The bytes of a file, as a read sees them; `None` if there is none.
    pub fn content(&self, path: &str) -> Option<Vec<u8>> {
        let state = self.state();
        let inode = state.image.find(path).ok()?;
        Some(state.image.file(inode).bytes().to_vec())
    }

    /// Refuses `O_DIRECT`: files opened from now on are buffered.
    pub fn refuse_direct(&self) {
        self.state().faults.refuse_direct = true;
    }

    /// Lets submitted operations wait until they are stepped.
    pub fn hold(&self) {
        self.state().held = true;
    }

    /// How many operations wait in `lane`.
    pub fn waiting(&self, lane: Lane) -> usize {
        self.state().waiting[&lane].len()
    }

    /// Runs and completes the oldest operation that waits in `lane`; false if
    /// there is none.
    pub fn step(&self, lane: Lane) -> bool {
        let next = self.state().waiting.get_mut(&lane).and_then(VecDeque::pop_front);
        next.map(|waiting| self.run(waiting)).is_some()
    }

    /// Runs what waits, oldest first, and from now on whatever is submitted.
    pub fn release(&self) {
        self.state().held = false;
        self.run_all();
    }

    /// Runs operations until none waits. A completion that submits the next
    /// operation finds this running already and only leaves it here: so no
    /// chain of completions, however long, deepens the stack.
    fn run_all(&self) {
        let mut state = self.state();
        if state.held || state.running {
            return;
        }
        state.running = true;
        let _running = Running(self);
        while let Some(next) = (!state.held).then(|| state.oldest()).flatten() {
            drop(state);
            self.run(next);
            state = self.state();
        }
        // In one step with having found nothing: what is submitted from now
        // on runs itself.
        state.running = false;
    }

    fn run(&self, waiting: Waiting) {
        let outcome = self.perform(waiting.operation);
        (waiting.done)(outcome);
    }

    fn perform(&self, operation: Operation) -> io::Result<Outcome> {
        match operation {
            Operation::Write { file, offset, buffer } => {
                self.write_at(file, offset, &buffer).map(|()| Outcome::Written(buffer))
            }
            Operation::Sync { file } => self.sync(file).map(|()| Outcome::Synced),
            Operation::Read { file, offset, length } => {
                check_read_length(length)?;
                let mut buffer = AlignedBuffer::zeroed(length);
                let read = self.read_at(file, offset, &mut buffer)?;
                buffer.resize(read);
                Ok(Outcome::Read(buffer))
            }
            Operation::Task(task) => {
                self.state().check_power()?;
                task();
                Ok(Outcome::Ran)
            }
        }
    }

    fn with_file(&self, path: &str, change: impl FnOnce(&mut file::File)) {
        let mut state = self.state();
        let inode = state.image.find(path).unwrap_or_else(|error| panic!("{path}: {error}"));
        change(state.image.file_mut(inode));
    }

    /// A panicking test must not hide behind a poisoned lock.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets others run operations again, even if a completion panicked.
struct Running<'a>(&'a MemoryDisk);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.state().running = false;
        }
    }
}

/// Whether a change is to happen, or fails halfway because the power goes.
enum Power {
    Stays,
    Goes,
}

impl State {
    fn check_power(&self) -> io::Result<()> {
        if self.powered { Ok(()) } else { Err(power_is_off()) }
    }

    /// Counts a change.
    fn begin(&mut self) -> io::Result<Power> {
        self.check_power()?;
        self.changes += 1;
        if self.faults.cut_power_at == Some(self.changes) {
            self.powered = false;
            return Ok(Power::Goes);
        }
        Ok(Power::Stays)
    }

    /// Does one change to the image. When the power goes meanwhile, the
    /// caller never learns that it happened, if it did.
    fn change<T>(&mut self, change: impl FnOnce(&mut Image) -> io::Result<T>) -> io::Result<T> {
        match self.begin()? {
            Power::Stays => change(&mut self.image),
            Power::Goes => {
                if self.chance.random() {
                    change(&mut self.image)?;
                }
                Err(power_is_off())
            }
        }
    }

    fn open_file(&mut self, path: &str, inode: Inode, access: Access) -> FileId {
        let id = FileId(self.next_file);
        self.next_file += 1;
        let access = if self.faults.refuse_direct { Access::Buffered } else { access };
        self.open.insert(id, Open { inode, path: path.to_owned(), access });
        id
    }

    fn handle(&self, file: FileId) -> io::Result<&Open> {
        self.open.get(&file).ok_or_else(|| invalid(format!("file {} is not open", file.0)))
    }

    fn forget_unnamed(&mut self) {
        let open = self.open.values().map(|open| open.inode).collect();
        self.image.forget_unnamed(&open);
    }

    fn oldest(&mut self) -> Option<Waiting> {
        let lane = self.waiting.values_mut().filter(|lane| !lane.is_empty()).min_by_key(|lane| lane[0].order);
        lane.and_then(VecDeque::pop_front)
    }
}

impl Disk for MemoryDisk {
    fn open(&self, path: &str, access: Access) -> io::Result<FileId> {
        check_file_path(path)?;
        let mut state = self.state();
        state.check_power()?;
        let inode = state.image.find(path).map_err(|error| failed("open", path, error))?;
        Ok(state.open_file(path, inode, access))
    }

    fn create(&self, path: &str, access: Access) -> io::Result<FileId> {
        check_file_path(path)?;
        let mut state = self.state();
        let inode = state.change(|image| image.create(path)).map_err(|error| failed("create", path, error))?;
        Ok(state.open_file(path, inode, access))
    }

    fn close(&self, file: FileId) {
        let mut state = self.state();
        state.open.remove(&file);
        state.forget_unnamed();
    }

    fn access(&self, file: FileId) -> io::Result<Access> {
        Ok(self.state().handle(file)?.access)
    }

    fn length(&self, file: FileId) -> io::Result<u64> {
        let state = self.state();
        state.check_power()?;
        Ok(state.image.file(state.handle(file)?.inode).bytes().len() as u64)
    }

    fn read_at(&self, file: FileId, offset: u64, buffer: &mut AlignedBuffer) -> io::Result<usize> {
        check_position(offset, buffer.len())?;
        let mut state = self.state();
        state.check_power()?;
        let open = state.handle(file)?;
        let wrong = state.faults.misread.as_ref().filter(|(path, _)| *path == open.path).map(|(_, at)| *at);
        let file = state.image.file(open.inode);
        let start = position(offset).min(file.bytes().len());
        let end = (start + buffer.len()).min(file.bytes().len());
        if file.is_unreadable(start..end) {
            return Err(failed("read", &open.path, rustix::io::Errno::IO.into()));
        }
        buffer[..end - start].copy_from_slice(&file.bytes()[start..end]);
        if let Some(at) = wrong.filter(|at| (start..end).contains(at)) {
            buffer[at - start] ^= 1;
            state.faults.misread = None;
        }
        Ok(end - start)
    }

    fn write_at(&self, file: FileId, offset: u64, buffer: &AlignedBuffer) -> io::Result<()> {
        check_position(offset, buffer.len())?;
        let mut state = self.state();
        let power = state.begin()?;
        let open = state.handle(file)?;
        let (inode, path) = (open.inode, open.path.clone());
        let growth = state.image.file(inode).growth(position(offset) + buffer.len());
        let size = (state.image.size() + growth) as u64;
        if growth > 0 && state.faults.limit_bytes.is_some_and(|limit| size > limit) {
            return Err(failed("write", &path, io::ErrorKind::StorageFull.into()));
        }
        // Written when the power goes, too: the cut then takes it apart.
        state.image.file_mut(inode).write(position(offset), buffer);
        match power {
            Power::Stays => Ok(()),
            Power::Goes => Err(failed("write", &path, power_is_off())),
        }
    }

    fn sync(&self, file: FileId) -> io::Result<()> {
        let mut state = self.state();
        let open = state.handle(file)?;
        let (inode, path, access) = (open.inode, open.path.clone(), open.access);
        let fails = std::mem::take(&mut state.faults.fail_next_sync);
        let landed = fails && file::landed_without_sync(&mut state.chance);
        let synced = state.change(|image| {
            let file = image.file_mut(inode);
            if fails {
                match access {
                    Access::Direct => file.fail_direct_sync(landed),
                    Access::Buffered => file.fail_sync(),
                }
                return Err(io::Error::other("the medium did not take what had been written"));
            }
            file.sync();
            Ok(())
        });
        synced.map_err(|error| failed("sync", &path, error))
    }

    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        check_path(directory)?;
        let state = self.state();
        state.check_power()?;
        state.image.list(directory).map_err(|error| failed("list", directory, error))
    }

    fn create_directory(&self, path: &str) -> io::Result<()> {
        check_path(path)?;
        let created = self.state().change(|image| image.create_directory(path));
        created.map_err(|error| failed("create the directory", path, error))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        check_file_path(path)?;
        let removed = self.state().change(|image| image.remove(path));
        removed.map_err(|error| failed("remove", path, error))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        check_rename(from, to)?;
        let renamed = self.state().change(|image| image.rename(from, to));
        renamed.map_err(|error| failed("rename", from, error))
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let state = self.state();
        state.check_power()?;
        let size = state.image.size() as u64;
        Ok(state.faults.limit_bytes.map_or(u64::MAX, |limit| limit.saturating_sub(size)))
    }

    fn sync_directory(&self, path: &str) -> io::Result<()> {
        check_path(path)?;
        let mut state = self.state();
        let synced = state.change(|image| image.sync_directory(path));
        state.forget_unnamed();
        synced.map_err(|error| failed("sync the directory", path, error))
    }

    fn submit(&self, lane: Lane, operation: Operation, done: Completion) {
        let mut state = self.state();
        let order = state.submitted;
        let queue = state.waiting.get_mut(&lane).expect("every lane has a queue");
        if queue.len() >= lane.queue_bound() {
            drop(state);
            return done(Err(super::request::queue_is_full(lane)));
        }
        queue.push_back(Waiting { order, operation, done });
        state.submitted += 1;
        drop(state);
        self.run_all();
    }
}

fn position(offset: u64) -> usize {
    usize::try_from(offset).expect("a file in memory is addressed by a usize")
}

fn power_is_off() -> io::Error {
    io::Error::other("the power is off")
}

#[cfg(test)]
mod tests;
