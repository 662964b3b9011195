//! The streams that peers have opened to this node, and what each one holds.
//!
//! A peer has one stream of a kind at a time. When it opens another it has
//! given the one before up, whatever the network still says of that: it is
//! ended, so that streams over dead connections do not pile up.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use quipu_protocol::NodeId;
use tokio::sync::oneshot;

use super::POISONED;
use super::link::Lane;

/// The streams that are served, by whom they are from.
pub(super) type AllServed = Mutex<BTreeMap<(NodeId, Lane), Holder>>;

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
    /// Serves another stream of `node`, in place of the one before.
    pub(super) fn begin(all: &'a AllServed, node: NodeId, lane: Lane) -> Self {
        let (sender, replaced) = oneshot::channel();
        let load = Arc::new(Load::default());
        let holder = Holder { load: Arc::clone(&load), _replaced: sender };
        all.lock().expect(POISONED).insert((node, lane), holder);
        Self { load, all, whose: (node, lane), replaced }
    }

    /// Resolves when the peer has opened another.
    pub(super) async fn replaced(&mut self) {
        // Nothing is ever sent: the sender goes.
        let _ = (&mut self.replaced).await;
    }
}

impl Drop for Served<'_> {
    fn drop(&mut self) {
        let mut all = self.all.lock().expect(POISONED);
        if all.get(&self.whose).is_some_and(|holder| Arc::ptr_eq(&holder.load, &self.load)) {
            all.remove(&self.whose);
        }
    }
}

/// What each stream that is served holds.
pub(super) fn loads(all: &AllServed) -> Vec<Arc<Load>> {
    all.lock().expect(POISONED).values().map(|holder| Arc::clone(&holder.load)).collect()
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_peers_newer_stream_ends_the_one_before_and_no_other() {
        let all = AllServed::default();
        let mut older = Served::begin(&all, NodeId::new(1), Lane::Data);
        let mut control = Served::begin(&all, NodeId::new(1), Lane::Control);
        let mut other = Served::begin(&all, NodeId::new(2), Lane::Data);
        assert!(older.replaced().now_or_never().is_none());
        let mut newer = Served::begin(&all, NodeId::new(1), Lane::Data);
        assert!(older.replaced().now_or_never().is_some());
        drop(older);
        for stays in [&mut newer, &mut control, &mut other] {
            assert!(stays.replaced().now_or_never().is_none());
        }
        assert_eq!(loads(&all).len(), 3);
        drop((newer, control, other));
        assert!(loads(&all).is_empty());
    }
}
