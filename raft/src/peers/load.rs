//! The streams that peers have opened to this node, and what each one holds.
//!
//! A peer has one stream of a kind at a time. When it opens another it has
//! given the one before up, whatever the network still says of that. What that
//! one carried may still arrive; but the oldest of too many is ended, so that
//! streams over dead connections do not pile up.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use quipu_protocol::NodeId;
use tokio::sync::oneshot;

use super::POISONED;
use super::link::Lane;

/// How many streams of a kind are served for a peer.
pub(super) const MAX_STREAMS: usize = 4;

/// The streams that are served, by whom they are from, the oldest first.
pub(super) type AllServed = Mutex<BTreeMap<(NodeId, Lane), VecDeque<Holder>>>;

/// A stream's entry among all; dropping it ends the stream.
pub(super) struct Holder {
    load: Arc<Load>,
    _replaced: oneshot::Sender<()>,
}

/// What a stream holds, for who looks at the node from outside.
#[derive(Default)]
pub(super) struct Load {
    /// Requests that are worked on.
    pub(super) handled: Level,
    /// Their bytes.
    pub(super) handled_bytes: Level,
    /// Messages of which a part has arrived.
    pub(super) unfinished: Level,
    /// What has arrived of them.
    pub(super) unfinished_bytes: Level,
    /// Replies to be sent.
    pub(super) replies: Level,
    /// Receipts to be sent.
    pub(super) receipts: Level,
    /// Lanes of appends.
    pub(super) lanes: Level,
}

/// How much of something there is now.
#[derive(Default)]
pub(super) struct Level(AtomicUsize);

impl Level {
    pub(super) fn set(&self, now: usize) {
        self.0.store(now, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed) as u64
    }
}

/// A stream while it is served.
pub(super) struct Served<'a> {
    pub(super) load: Arc<Load>,
    all: &'a AllServed,
    whose: (NodeId, Lane),
    replaced: oneshot::Receiver<()>,
}

impl<'a> Served<'a> {
    /// Serves another stream of `node`, if need be in place of the oldest.
    pub(super) fn begin(all: &'a AllServed, node: NodeId, lane: Lane) -> Self {
        let (sender, replaced) = oneshot::channel();
        let load = Arc::new(Load::default());
        let holder = Holder { load: Arc::clone(&load), _replaced: sender };
        let mut streams = all.lock().expect(POISONED);
        let streams = streams.entry((node, lane)).or_default();
        streams.push_back(holder);
        if streams.len() > MAX_STREAMS {
            streams.pop_front();
        }
        Self { load, all, whose: (node, lane), replaced }
    }

    /// Resolves when the peer has opened too many others since.
    pub(super) async fn replaced(&mut self) {
        // Nothing is ever sent: the sender goes.
        let _ = (&mut self.replaced).await;
    }
}

impl Drop for Served<'_> {
    fn drop(&mut self) {
        let mut all = self.all.lock().expect(POISONED);
        if let Some(streams) = all.get_mut(&self.whose) {
            streams.retain(|holder| !Arc::ptr_eq(&holder.load, &self.load));
            if streams.is_empty() {
                all.remove(&self.whose);
            }
        }
    }
}

/// What each stream that is served holds.
pub(super) fn loads(all: &AllServed) -> Vec<Arc<Load>> {
    all.lock().expect(POISONED).values().flatten().map(|holder| Arc::clone(&holder.load)).collect()
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn the_oldest_of_too_many_streams_of_a_peer_is_ended_and_no_other() {
        let all = AllServed::default();
        let begin = |node, lane| Served::begin(&all, NodeId::new(node), lane);
        let (mut control, mut other) = (begin(1, Lane::Control), begin(2, Lane::Data));
        let mut streams: VecDeque<_> = (0..MAX_STREAMS).map(|_| begin(1, Lane::Data)).collect();
        assert!(streams.iter_mut().all(|stream| stream.replaced().now_or_never().is_none()));
        streams.push_back(begin(1, Lane::Data));
        let mut oldest = streams.pop_front().expect("there are some");
        assert!(oldest.replaced().now_or_never().is_some());
        drop(oldest);
        for stays in streams.iter_mut().chain([&mut control, &mut other]) {
            assert!(stays.replaced().now_or_never().is_none());
        }
        assert_eq!(loads(&all).len(), MAX_STREAMS + 2);
        drop((streams, control, other));
        assert!(loads(&all).is_empty());
    }
}
