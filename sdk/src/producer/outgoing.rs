//! The requests of one Append stream.
//!
//! The connection pulls: what it has not asked for stays in the outbox, where
//! it can still join a batch, so that the network's pace sets the batches'
//! size. No task and no queue lies between a caller and the connection.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::Stream;
use quipu_protocol::environment::{BoxFuture, Clock};
use quipu_protocol::{LogId, Offset, WriterEpoch, v1};

use super::outbox::Next;
use super::shared::Shared;

pub(super) struct Outgoing {
    log: String,
    writer_epoch: Option<WriterEpoch>,
    shared: Arc<Shared>,
    stream: u64,
    clock: Arc<dyn Clock>,
    /// Waits for a lingering batch to be ripe.
    ripening: Option<Ripening>,
}

struct Ripening {
    at: Duration,
    sleep: BoxFuture<'static, ()>,
}

impl Outgoing {
    /// The requests for the log of that name.
    pub(super) fn new(
        log: String,
        writer_epoch: Option<WriterEpoch>,
        shared: Arc<Shared>,
        stream: u64,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { log, writer_epoch, shared, stream, clock, ripening: None }
    }
}

impl Stream for Outgoing {
    type Item = v1::AppendRequest;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let now = self.clock.monotonic();
            let at = match self.shared.next(self.stream, context, now) {
                None => return Poll::Ready(None),
                Some(Next::Nothing) => return Poll::Pending,
                Some(Next::Request { request, log, batch, expected_end, cursors }) => {
                    return Poll::Ready(Some(v1::AppendRequest {
                        request,
                        log: self.log.clone(),
                        batch,
                        log_id: log.map_or(0, LogId::get),
                        writer_epoch: self.writer_epoch.map(WriterEpoch::get),
                        expected_end: expected_end.map(Offset::get),
                        cursors,
                    }));
                }
                Some(Next::At(at)) => at,
            };
            if self.ripening.as_ref().is_none_or(|ripening| ripening.at != at) {
                self.ripening = Some(Ripening { at, sleep: self.clock.sleep(at.saturating_sub(now)) });
            }
            if let Some(ripening) = &mut self.ripening {
                ready!(ripening.sleep.as_mut().poll(context));
                self.ripening = None;
            }
        }
    }
}
