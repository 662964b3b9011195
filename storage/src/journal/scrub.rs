//! Reads what is sealed, to find what rots before somebody needs it.
//!
//! What counts is read: living entries and the newest state images. What is
//! dead will be written over, and votes, purge points and the like are known
//! to a running journal whatever becomes of their bytes.

use std::io;
use std::sync::Arc;

use quipu_protocol::{Index, point};

use super::driver::Shared;
use super::entry::ReplicaKey;
use super::error::ReadError;
use super::index::{self, ImageRef};
use super::manifest::Segment;
use super::reader::given_up;
use super::state::Replica;
use crate::disk::{AlignedBuffer, Lane, Operation, Outcome};

/// How far a scrub has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScrubPosition {
    segment: u64,
    /// Entries of this replica from this index on; the segment's images before
    /// that.
    at: Option<(ReplicaKey, Index)>,
}

/// What a portion of a scrub did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scrubbed {
    /// Bytes read.
    pub bytes: u64,
    /// Frames that are not what was written.
    pub rotten: u64,
    /// Where to go on; `None` when everything sealed was read.
    pub next: Option<ScrubPosition>,
}

/// Called once with what was done.
pub type ScrubDone = Box<dyn FnOnce(Result<Scrubbed, ReadError>) + Send>;

impl Shared {
    /// See [`Journal::scrub`](super::Journal::scrub).
    pub(super) fn scrub(self: &Arc<Self>, from: Option<ScrubPosition>, max_bytes: u64, done: ScrubDone) {
        let read = self.lock().read_began();
        let (scrubber, ended) = (self.clone(), self.clone());
        let (send, receive) = std::sync::mpsc::sync_channel(1);
        let task = Operation::Task(Box::new(move || {
            let _ = send.send(scrubber.scrub_portion(from, max_bytes));
        }));
        let completion = Box::new(move |ran: io::Result<Outcome>| {
            ended.read_ended(read);
            done(match ran {
                Err(error) => Err(ReadError::Disk(Arc::new(error))),
                Ok(_) => receive.recv().unwrap_or_else(|_| Err(given_up())),
            });
        });
        self.disk.submit(Lane::Read, task, completion);
    }

    fn scrub_portion(self: &Arc<Self>, from: Option<ScrubPosition>, max_bytes: u64) -> Result<Scrubbed, ReadError> {
        let mut scrubbed = Scrubbed::default();
        let Some((segment, at, next)) = self.to_scrub(from)? else { return Ok(scrubbed) };
        if at.is_none() {
            for (key, image) in self.images_in(segment.id) {
                scrubbed.bytes += u64::from(image.length);
                self.judge(key, self.image(key, &image).map(drop), &mut scrubbed)?;
            }
        }
        let portion = self.living_frames(segment.id, at, max_bytes)?;
        let mut buffer = AlignedBuffer::new();
        for (key, frame) in portion.frames {
            let wanted = self.lock().replicas.get(&key).is_some_and(|replica| replica.wants(&frame) == Some(true));
            if wanted {
                scrubbed.bytes += u64::from(frame.length);
                let read = self.read_frame(segment, key, &frame, frame.first, &mut buffer);
                self.judge(key, read.map(drop), &mut scrubbed)?;
            }
        }
        scrubbed.next = match portion.next {
            Some(at) => Some(ScrubPosition { segment: segment.id, at: Some(at) }),
            None => next.map(|segment| ScrubPosition { segment, at: None }),
        };
        let mut state = self.lock();
        state.counters.scrubbed_bytes += scrubbed.bytes;
        state.counters.scrub_passes += u64::from(scrubbed.next.is_none());
        Ok(scrubbed)
    }

    /// The segment to go on in, from where, and the one after it.
    #[expect(clippy::type_complexity, reason = "it is taken apart at once")]
    fn to_scrub(
        &self,
        from: Option<ScrubPosition>,
    ) -> Result<Option<(Segment, Option<(ReplicaKey, Index)>, Option<u64>)>, ReadError> {
        let Some(indexed) = index::indexed(self.kv.as_ref())? else { return Ok(None) };
        let first = from.map_or(0, |from| from.segment);
        let state = self.lock();
        let mut left = state.segments.range(first..=indexed.segment.max(first)).map(|(_, segment)| *segment);
        let Some(segment) = left.next().filter(|segment| segment.id <= indexed.segment) else { return Ok(None) };
        let at = from.filter(|from| from.segment == segment.id).and_then(|from| from.at);
        Ok(Some((segment, at, left.next().map(|segment| segment.id))))
    }

    /// The newest state images that lie in segment `id`.
    fn images_in(&self, id: u64) -> Vec<(ReplicaKey, ImageRef)> {
        let state = self.lock();
        let images = state.replicas.iter().filter_map(|(key, replica)| Some((*key, Replica::image(replica)?)));
        images.filter(|(_, image)| image.place.segment == id).collect()
    }

    /// Goes on behind what is rotten and what cannot be read.
    fn judge(
        self: &Arc<Self>,
        key: ReplicaKey,
        read: Result<(), ReadError>,
        scrubbed: &mut Scrubbed,
    ) -> Result<(), ReadError> {
        match read {
            Err(ReadError::Damaged { damage, .. }) => {
                point!("scrub-found-rot");
                scrubbed.rotten += 1;
                self.lock().counters.scrub_findings += 1;
                self.found(key, damage);
                Ok(())
            }
            // Purged or retired since; or no rot, but nothing that could be read.
            Err(ReadError::Missing { .. }) => Ok(()),
            Err(ReadError::Disk(error)) => {
                tracing::warn!(%error, %key, "a scrub cannot read");
                Ok(())
            }
            read => read,
        }
    }
}
