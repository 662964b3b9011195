//! What all Append streams of a node have in flight.
//!
//! Each stream keeps itself within its window; this adds up what they hold, for
//! who looks at the node from outside.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use quipu_raft::node::Gauge;

use super::MAX_BATCH_BYTES;
use crate::config::Settings;

/// The sums over all streams.
#[derive(Default)]
pub(crate) struct Windows {
    streams: AtomicU64,
    appends: AtomicU64,
    bytes: AtomicU64,
}

/// One stream's part of them; taken back when dropped.
pub(super) struct Window {
    all: Arc<Windows>,
    pub(super) appends: usize,
    pub(super) bytes: usize,
}

impl Windows {
    /// What the streams hold, against what so many may.
    pub(crate) fn footprint(&self, settings: &Settings) -> [Gauge; 2] {
        let streams = self.streams.load(Ordering::Relaxed);
        // A stream takes another append while it is below its bound.
        let bytes = settings.append_stream_bytes.saturating_add(MAX_BATCH_BYTES as u64);
        let gauge = |name, value: &AtomicU64, each: u64| Gauge {
            name,
            value: value.load(Ordering::Relaxed),
            bound: streams.saturating_mul(each),
        };
        [
            gauge("append-stream-appends", &self.appends, settings.append_stream_appends),
            gauge("append-stream-bytes", &self.bytes, bytes),
        ]
    }
}

impl Window {
    /// The window of another stream, with nothing in it.
    pub(super) fn open(all: &Arc<Windows>) -> Self {
        all.streams.fetch_add(1, Ordering::Relaxed);
        Self { all: Arc::clone(all), appends: 0, bytes: 0 }
    }

    /// An append of so many bytes is in flight.
    pub(super) fn add(&mut self, bytes: usize) {
        self.appends += 1;
        self.bytes += bytes;
        self.all.appends.fetch_add(1, Ordering::Relaxed);
        self.all.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// One of so many bytes is answered.
    pub(super) fn remove(&mut self, bytes: usize) {
        self.appends -= 1;
        self.bytes -= bytes;
        self.all.appends.fetch_sub(1, Ordering::Relaxed);
        self.all.bytes.fetch_sub(bytes as u64, Ordering::Relaxed);
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        self.all.streams.fetch_sub(1, Ordering::Relaxed);
        self.all.appends.fetch_sub(self.appends as u64, Ordering::Relaxed);
        self.all.bytes.fetch_sub(self.bytes as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_takes_what_it_has_in_flight_with_it() {
        let (all, settings) = (Arc::<Windows>::default(), Settings::default());
        let mut gone = Window::open(&all);
        let mut stays = Window::open(&all);
        gone.add(7);
        gone.add(8);
        stays.add(100);
        gone.remove(7);
        let [appends, bytes] = all.footprint(&settings);
        assert_eq!((appends.value, bytes.value), (2, 108));
        assert_eq!(appends.bound, 2 * settings.append_stream_appends);
        drop(gone);
        let [appends, bytes] = all.footprint(&settings);
        assert_eq!((appends.value, bytes.value), (1, 100));
        assert_eq!(appends.bound, settings.append_stream_appends);
    }
}
