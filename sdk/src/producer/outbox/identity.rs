//! Under which name batches are sent, and when they get another one.

use quipu_protocol::batch::{Producer as Stamp, with_producer};
use quipu_protocol::{LogId, ProducerEpoch, ProducerId, Sequence};

use super::{Batch, Outbox, State};

/// A producer id, its epoch and the sequence of the next record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Identity {
    id: ProducerId,
    epoch: ProducerEpoch,
    next: Sequence,
}

impl Outbox {
    /// An answer, or the caller, names the log's id; 0 is none. The first one stays.
    pub(in crate::producer) fn is_of(&mut self, log: LogId) {
        self.log_id = self.log_id.or_else(|| Some(log).filter(|log| log.get() != 0));
    }

    /// The producer has a new id: whatever waits is stamped with it.
    pub(in crate::producer) fn identify(&mut self, id: ProducerId) {
        self.identity = Some(Identity { id, epoch: ProducerEpoch::new(0), next: Sequence::new(0) });
        self.stamp_anew();
    }

    /// Moves on to the next epoch, or to another id when there is none left.
    pub(super) fn next_epoch(&mut self) {
        self.identity = self.identity.and_then(|identity| {
            let epoch = identity.epoch.get().checked_add(1)?;
            Some(Identity { epoch: ProducerEpoch::new(epoch), next: Sequence::new(0), ..identity })
        });
        self.stamp_anew();
    }

    /// Stamps what is not settled with the identity as it is now, to be sent
    /// from the beginning. Only right when no copy of it can land any more.
    pub(super) fn stamp_anew(&mut self) {
        for position in 0..self.sent.len() {
            if self.sent[position].state == State::Waiting {
                self.off_stream(position);
            }
        }
        self.sent.retain(|sent| sent.state == State::Due);
        for sent in &mut self.sent {
            sent.loose = 0;
            if let Some(identity) = &mut self.identity {
                identity.stamp(&mut sent.batch);
            }
        }
        self.cursor = 0;
        self.paused = false;
        self.signal_flushes();
    }
}

impl Identity {
    /// Gives `batch` the next place in the producer's stream.
    pub(super) fn stamp(&mut self, batch: &mut Batch) {
        let stamp = Stamp { id: self.id, epoch: self.epoch, sequence: self.next };
        batch.bytes = with_producer(std::mem::take(&mut batch.bytes), Some(stamp));
        self.next = self.next.advance(batch.count);
    }
}
