//! How much room the file system has left, against a mark below which nothing
//! is begun that takes more.
//!
//! A file system that is full refuses whoever comes next: a segment, the
//! metadata, a log of another program's. The journal stops growing before
//! that: no segment is prepared ahead, and who appends is refused. What was
//! accepted by then, what another node's leader sends and what frees room go on
//! in the segments that are there, and may take three quarters of what the mark
//! keeps: a segment at a time, when nothing can go on without it.

use std::io;
use std::sync::Arc;

use quipu_protocol::point;

use super::driver::Shared;

/// The file system has too little room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LowSpace {
    /// Bytes that are left.
    pub free: u64,
    /// How many have to be: [`JournalConfig::low_space_bytes`](super::JournalConfig::low_space_bytes)
    /// and another segment, so that it is known before none can be prepared.
    pub bound: u64,
}

impl Shared {
    /// See [`Journal::check_space`](super::Journal::check_space).
    pub(super) fn check_space(self: &Arc<Self>) -> io::Result<()> {
        self.look_ahead()?;
        let (free, bound) = (self.disk.free_bytes()?, self.space_bound());
        let mut state = self.lock();
        // There may be room, and no segment yet.
        let low = (free < bound || state.no_space.is_some()).then_some(LowSpace { free, bound });
        let before = std::mem::replace(&mut state.low_space, low);
        // A round that was too much may be possible now.
        state.may_free |= before.is_some_and(|before| free > before.free);
        let makes_room = low.is_some() && !std::mem::replace(&mut state.making_room, true);
        drop(state);
        if makes_room {
            self.submit_task(Self::make_room, |shared, _| shared.lock().making_room = false);
        }
        match (before, low) {
            (None, Some(low)) => tell_of(low),
            (Some(_), None) => {
                point!("space-back");
                tracing::info!(free, bound, "the file system has room again");
                // No segment was prepared meanwhile.
                self.drive();
            }
            _ => {}
        }
        // Whoever was refused for want of a segment need not come back first.
        if self.check_reserve(free).is_ok() {
            self.retry_spare();
        }
        Ok(())
    }

    /// How many bytes have to be free for a segment to be prepared.
    fn space_bound(&self) -> u64 {
        self.config.low_space_bytes.saturating_add(self.config.segment_bytes)
    }

    /// Whether a segment may be prepared; one that nothing can go on without may
    /// take of what is kept.
    pub(super) fn has_room_for_segment(&self, starved: bool) -> io::Result<bool> {
        let (free, bound) = (self.disk.free_bytes()?, self.space_bound());
        if free >= bound {
            return Ok(true);
        }
        // Whoever appends what can wait has to know before the next look.
        let low = LowSpace { free, bound };
        if self.lock().low_space.replace(low).is_none() {
            tell_of(low);
        }
        self.check_reserve(free)?;
        if starved {
            point!("reserve-used");
            tracing::warn!(free, bound, "a journal segment takes of what low_space_bytes keeps");
        }
        Ok(starved)
    }

    /// Whether a segment without which nothing can go on could be prepared.
    pub(super) fn check_reserve(&self, free: u64) -> io::Result<()> {
        let least = self.reserve_bound();
        if free >= least {
            return Ok(());
        }
        let reason = format!("{free} bytes are free, and a segment takes {least} with a quarter of low_space_bytes");
        Err(io::Error::new(io::ErrorKind::StorageFull, reason))
    }

    /// Has nothing more accepted than what fits into the segments that are there,
    /// if there may be no other one behind those that what waits takes already.
    pub(super) fn look_ahead(&self) -> io::Result<()> {
        let free = self.disk.free_bytes()?;
        let mut state = self.lock();
        let taken = if free < self.space_bound() { state.committer.waiting_bytes() } else { 0 };
        let taken = taken.saturating_sub(state.committer.room());
        if let Err(error) = self.check_reserve(free.saturating_sub(taken)) {
            state.no_space.get_or_insert_with(|| error.to_string().into());
        }
        Ok(())
    }

    /// How many bytes have to be free for a segment without which nothing can go on.
    fn reserve_bound(&self) -> u64 {
        (self.config.low_space_bytes / 4).saturating_add(self.config.segment_bytes)
    }

    /// How many segments what makes room may take of what is kept: half of it.
    pub(super) fn reserve(&self, low: LowSpace) -> u64 {
        low.free.saturating_sub(self.config.low_space_bytes / 2) / self.config.segment_bytes
    }
}

fn tell_of(LowSpace { free, bound }: LowSpace) {
    point!("space-low");
    tracing::error!(free, bound, "the file system is nearly full: appends are refused (low_space_bytes)");
}
