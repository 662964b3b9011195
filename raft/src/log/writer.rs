//! Who may append to a log: its writer epoch.
//!
//! ```text
//!   acquire ─▶ epoch 1 ──▶ acquire ─▶ epoch 2
//!              └ appends under 1    └ appends under 1 are fenced from here on
//! ```
//!
//! An epoch and the end of the log are told in one step: whoever acquires it
//! knows all that any older writer ever got in.
//!
//! # Invariant
//! Only decided where commands are applied. An epoch is never given twice,
//! but to the same request.

use std::collections::VecDeque;

use bytes::Bytes;
use quipu_protocol::{Offset, Timestamp, WriterEpoch, stored};

use crate::machine::MachineError;
use crate::types::{Acquired, BatchOutcome};

/// How many acquisitions a log remembers: a request among them that comes again
/// gets its first answer.
pub const REMEMBERED_ACQUISITIONS: usize = 64;

/// The longest name of a holder, in bytes.
pub const MAX_HOLDER_BYTES: usize = 256;

/// A request to acquire is known by so many bytes.
pub const REQUEST_ID_BYTES: usize = 16;

/// The writer of one log.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Writer {
    /// 0 until somebody acquires it.
    epoch: WriterEpoch,
    holder: String,
    acquired_at: Timestamp,
    /// Oldest first.
    recent: VecDeque<Acquisition>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Acquisition {
    request_id: Bytes,
    epoch: WriterEpoch,
    end: Offset,
}

/// What may be seen of a log's writer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriterStatus {
    /// Its epoch; 0 when nobody ever acquired it.
    pub epoch: WriterEpoch,
    /// Who it is; empty when nobody is.
    pub holder: String,
    /// Log time when it was acquired.
    pub acquired_at: Timestamp,
}

impl Writer {
    /// Raises the epoch for `holder`, or repeats what this request was answered.
    pub(crate) fn acquire(&mut self, request_id: Bytes, holder: String, end: Offset, now: Timestamp) -> Acquired {
        if let Some(earlier) = self.recent.iter().rev().find(|earlier| earlier.request_id == request_id) {
            quipu_protocol::point!("writer-acquired-again");
            return Acquired { epoch: earlier.epoch, end: earlier.end };
        }
        quipu_protocol::point!("writer-acquired");
        let epoch = WriterEpoch::new(self.epoch.get() + 1);
        if self.recent.len() == REMEMBERED_ACQUISITIONS {
            self.recent.pop_front();
        }
        self.recent.push_back(Acquisition { request_id, epoch, end });
        (self.epoch, self.holder, self.acquired_at) = (epoch, holder, now);
        Acquired { epoch, end }
    }

    /// Why an append under `claimed` is refused, if it is; `exclusive` logs take
    /// none without an epoch.
    pub(crate) fn refuses(&self, claimed: Option<WriterEpoch>, exclusive: bool) -> Option<BatchOutcome> {
        match claimed {
            None if exclusive => Some(BatchOutcome::WriterRequired),
            None => None,
            Some(claimed) if claimed == self.epoch => None,
            Some(claimed) if claimed > self.epoch => Some(BatchOutcome::EpochAhead { current: self.epoch }),
            Some(_) => {
                quipu_protocol::point!("writer-fenced");
                Some(BatchOutcome::Fenced { current: self.epoch, holder: self.holder.clone() })
            }
        }
    }

    pub(crate) fn status(&self) -> WriterStatus {
        WriterStatus { epoch: self.epoch, holder: self.holder.clone(), acquired_at: self.acquired_at }
    }

    /// The writer as an image holds it.
    pub(crate) fn image(&self) -> Option<stored::Writer> {
        let acquisition = |one: &Acquisition| stored::Acquisition {
            request_id: one.request_id.clone(),
            epoch: one.epoch.get(),
            end: one.end.get(),
        };
        (self.epoch.get() > 0).then(|| stored::Writer {
            epoch: self.epoch.get(),
            holder: self.holder.clone(),
            acquired_at: self.acquired_at.get(),
            recent: self.recent.iter().map(acquisition).collect(),
        })
    }

    /// The writer of an image of a log that ends at `end`.
    pub(crate) fn from_image(image: Option<stored::Writer>, end: Offset) -> Result<Self, MachineError> {
        let refuse = |reason: String| MachineError::new("the writer of a log's image", reason);
        let Some(image) = image else { return Ok(Self::default()) };
        if image.epoch == u64::MAX {
            return Err(refuse(format!("epoch {} leaves no other", image.epoch)));
        }
        if image.recent.len() > REMEMBERED_ACQUISITIONS {
            return Err(refuse(format!("{} acquisitions", image.recent.len())));
        }
        if let Some(wrong) = image.recent.iter().find(|one| one.epoch > image.epoch || one.end > end.get()) {
            return Err(refuse(format!("epoch {} was acquired at {}", wrong.epoch, wrong.end)));
        }
        let acquisition = |one: stored::Acquisition| Acquisition {
            request_id: one.request_id,
            epoch: WriterEpoch::new(one.epoch),
            end: Offset::new(one.end),
        };
        Ok(Self {
            epoch: WriterEpoch::new(image.epoch),
            holder: image.holder,
            acquired_at: Timestamp::new(image.acquired_at),
            recent: image.recent.into_iter().map(acquisition).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::new(1_700_000_000_000);

    fn acquire(writer: &mut Writer, request: u64, end: u64) -> (u64, u64) {
        let request_id = Bytes::copy_from_slice(&u128::from(request).to_be_bytes());
        let acquired = writer.acquire(request_id, format!("holder {request}"), Offset::new(end), NOW);
        (acquired.epoch.get(), acquired.end.get())
    }

    fn epoch(epoch: u64) -> Option<WriterEpoch> {
        Some(WriterEpoch::new(epoch))
    }

    #[test]
    fn each_acquisition_raises_the_epoch_and_fences_the_ones_before() {
        let mut writer = Writer::default();
        assert_eq!(writer.refuses(None, false), None);
        assert_eq!(acquire(&mut writer, 1, 10), (1, 10));
        assert_eq!(writer.refuses(epoch(1), true), None);
        assert_eq!(acquire(&mut writer, 2, 12), (2, 12));
        let fenced = BatchOutcome::Fenced { current: WriterEpoch::new(2), holder: "holder 2".to_owned() };
        assert_eq!(writer.refuses(epoch(1), false), Some(fenced));
        assert_eq!(writer.refuses(epoch(2), false), None);
    }

    #[test]
    fn repeated_request_gets_its_first_answer_and_fences_nobody() {
        let mut writer = Writer::default();
        assert_eq!(acquire(&mut writer, 1, 10), (1, 10));
        assert_eq!(acquire(&mut writer, 1, 99), (1, 10));
        assert_eq!(writer.refuses(epoch(1), false), None);
        // Late, when another one has acquired it: that one stays.
        assert_eq!(acquire(&mut writer, 2, 20), (2, 20));
        assert_eq!(acquire(&mut writer, 1, 99), (1, 10));
        assert_eq!(writer.refuses(epoch(2), false), None);
    }

    #[test]
    fn epoch_from_the_future_is_refused_and_says_which_it_is() {
        let mut writer = Writer::default();
        acquire(&mut writer, 1, 0);
        let ahead = BatchOutcome::EpochAhead { current: WriterEpoch::new(1) };
        assert_eq!(writer.refuses(epoch(2), false), Some(ahead));
    }

    #[test]
    fn exclusive_log_takes_nothing_without_an_epoch() {
        let mut writer = Writer::default();
        assert_eq!(writer.refuses(None, true), Some(BatchOutcome::WriterRequired));
        acquire(&mut writer, 1, 0);
        assert_eq!(writer.refuses(None, true), Some(BatchOutcome::WriterRequired));
        assert_eq!(writer.refuses(None, false), None);
    }

    #[test]
    fn acquisitions_are_bounded_and_the_newest_stay() {
        let mut writer = Writer::default();
        for request in 0..=REMEMBERED_ACQUISITIONS as u64 {
            acquire(&mut writer, request, request);
        }
        assert_eq!(acquire(&mut writer, 1, 99), (2, 1));
        assert_eq!(acquire(&mut writer, 0, 99), (REMEMBERED_ACQUISITIONS as u64 + 2, 99));
    }

    #[test]
    fn image_holds_everything_and_a_wrong_one_is_refused() {
        let mut writer = Writer::default();
        assert_eq!(writer.image(), None);
        acquire(&mut writer, 1, 10);
        acquire(&mut writer, 2, 12);
        let image = writer.image();
        assert_eq!(Writer::from_image(image.clone(), Offset::new(12)).unwrap(), writer);
        Writer::from_image(image.clone(), Offset::new(11)).unwrap_err();
        let mut last = image.clone().unwrap();
        last.epoch = u64::MAX;
        Writer::from_image(Some(last), Offset::new(12)).unwrap_err();
        let mut behind = image.unwrap();
        behind.epoch = 1;
        Writer::from_image(Some(behind), Offset::new(12)).unwrap_err();
    }
}
