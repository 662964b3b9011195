//! How much room the file system has left, against a mark below which nothing
//! is begun that takes more.
//!
//! A file system that is full refuses whoever comes next: a segment, the
//! metadata, a log of another program's. The journal stops growing before
//! that, while what frees room (trims, rewriting, removed segments) goes on in
//! the segments that are prepared already: see [`super::room`].

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
        let (free, bound) = (self.disk.free_bytes()?, self.space_bound());
        let mut state = self.lock();
        // There may be room, and no segment yet.
        let low = (free < bound || state.no_space.is_some()).then_some(LowSpace { free, bound });
        let before = std::mem::replace(&mut state.low_space, low);
        let makes_room = low.is_some() && !std::mem::replace(&mut state.making_room, true);
        drop(state);
        if makes_room {
            self.submit_task(Self::make_room, |shared, _| shared.lock().making_room = false);
        }
        match (before, low) {
            (None, Some(_)) => {
                point!("space-low");
                tracing::error!(free, bound, "the file system is nearly full: appends are refused (low_space_bytes)");
            }
            (Some(_), None) => {
                point!("space-back");
                tracing::info!(free, bound, "the file system has room again");
            }
            _ => {}
        }
        // Whoever was refused for want of a segment need not come back first.
        if free >= bound {
            self.retry_spare();
        }
        Ok(())
    }

    /// How many bytes have to be free for a segment to be prepared.
    fn space_bound(&self) -> u64 {
        self.config.low_space_bytes.saturating_add(self.config.segment_bytes)
    }

    /// Whether a segment may be prepared.
    pub(super) fn check_room_for_segment(&self) -> io::Result<()> {
        let (free, bound) = (self.disk.free_bytes()?, self.space_bound());
        if free >= bound {
            return Ok(());
        }
        // Whoever appends what can wait has to know before the next look.
        self.lock().low_space.get_or_insert(LowSpace { free, bound });
        let reason = format!("{free} bytes are free, and a segment takes {bound} with low_space_bytes");
        Err(io::Error::new(io::ErrorKind::StorageFull, reason))
    }
}
