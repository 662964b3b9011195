//! The one task of a producer: gets it an id, finds the leader, holds one
//! stream to it, takes the answers in, and starts over when that fails.
//!
//! ```text
//!   work ─► id ─► leader ─► stream ─► answers … ─► (lost, declined) ─┐
//!     ▲                                                              │
//!     └──────────────────────────────────────────────────────────────┘
//!   beside it: deadlines
//! ```
//!
//! Decides nothing about batches: that is the outbox's.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use quipu_protocol::trace::{TRACEPARENT, TraceContext};
use quipu_protocol::v1::append_response::Outcome;
use quipu_protocol::v1::cluster_client::ClusterClient;
use quipu_protocol::v1::records_client::RecordsClient;
use quipu_protocol::{LogId, LogName, Offset, OffsetRange, ProducerId, WriterEpoch, v1};
use tonic::{Request, Streaming};

use super::outgoing::Outgoing;
use super::shared::{Shared, Work};
use crate::cluster::verdict::{self, Failure, Verdict};
use crate::cluster::{Cluster, MAX_MESSAGE_BYTES, Pursuit, PursuitError, Target};
use crate::{AppendError, ProducerConfig, SendError};

pub(super) struct Driver {
    cluster: Arc<Cluster>,
    shared: Arc<Shared>,
    log: LogName,
    writer_epoch: Option<WriterEpoch>,
    trace: Option<TraceContext>,
}

/// Why a stream is over.
enum StreamEnd {
    /// Everything was answered and nothing will come.
    Over,
    /// The next round is known already: what is due goes elsewhere.
    Declined,
    /// The stream failed.
    Failed(Failure),
    /// Going on is of no use.
    Refused(PursuitError),
}

impl Driver {
    pub(super) fn new(cluster: Arc<Cluster>, shared: Arc<Shared>, log: LogName, config: &ProducerConfig) -> Self {
        let &ProducerConfig { writer_epoch, trace, .. } = config;
        Self { cluster, shared, log, writer_epoch, trace }
    }

    pub(super) async fn run(self) {
        let (serve, deadlines) = (pin!(self.serve()), pin!(self.deadlines()));
        select(serve, deadlines).await;
    }

    /// Fails what has waited for too long. Whatever is taken during a sleep
    /// expires after it, so that nothing needs to wake this up.
    async fn deadlines(&self) {
        loop {
            let now = self.cluster.now();
            let next = self.shared.change(|outbox| {
                outbox.expire(now);
                outbox.expires_at(now)
            });
            let wait = next.saturating_sub(now).max(Duration::from_millis(1));
            self.cluster.environment.clock.sleep(wait).await;
        }
    }

    async fn serve(&self) {
        let mut pursuit = Pursuit::new(Arc::clone(&self.cluster), Target::Leader(self.log.clone()), None);
        while let Work::Waiting = self.shared.work().await {
            if self.shared.change(|outbox| outbox.needs_identity()) {
                self.identify().await;
                continue;
            }
            let address = match pursuit.next_address().await {
                Ok(address) => address,
                Err(error) => {
                    self.give_up(&error);
                    continue;
                }
            };
            let end = self.stream(&address, &mut pursuit).await;
            self.shared.end_stream(self.cluster.now());
            match end {
                StreamEnd::Over => return,
                StreamEnd::Declined => {}
                StreamEnd::Refused(error) => self.give_up(&error),
                StreamEnd::Failed(failure) => {
                    tracing::debug!(log = %self.log, address, error = %failure.attempt, "append stream lost");
                    if let Err(error) = pursuit.failed(&address, failure) {
                        self.give_up(&error);
                    }
                }
            }
            let last = pursuit.last().cloned();
            self.shared.change(|outbox| outbox.note_failure(last));
        }
    }

    /// Takes a producer id. What waits for it expires by itself.
    async fn identify(&self) {
        let request = || v1::AllocateProducerRequest { log: self.log.to_string() };
        let call = |channel| async { ClusterClient::new(channel).allocate_producer(request()).await };
        match self.cluster.call(Target::Any, call).await {
            Ok(answer) => {
                let v1::AllocateProducerResponse { producer_id, log_id, .. } = answer.value;
                self.shared.change(|outbox| {
                    outbox.is_of(LogId::new(log_id));
                    outbox.identify(ProducerId::new(producer_id));
                });
            }
            Err(PursuitError::GivenUp(error)) => {
                let last = match error {
                    crate::RequestError::Unavailable { last, .. } => last,
                    _ => None,
                };
                self.shared.change(|outbox| outbox.note_failure(last));
            }
            Err(error @ PursuitError::Refused { .. }) => self.give_up(&error),
        }
    }

    /// Fails everything that waits, for a reason that time will not mend.
    fn give_up(&self, error: &PursuitError) {
        let now = self.cluster.now();
        self.shared.change(|outbox| match error {
            PursuitError::Refused { refusal, .. } => {
                if let Some(v1::error::Kind::UnknownLog(_)) = refusal.error.kind {
                    return outbox.fail_unknown_log(now);
                }
                outbox.note_failure(Some(refusal.attempt()));
                outbox.fail_all(&AppendError::Refused { message: refusal.error.message.clone() }, now);
            }
            PursuitError::GivenUp(_) => unreachable!("a producer's pursuit has no limit: its batches have"),
        });
    }

    /// Holds a stream to `address` for as long as it works.
    async fn stream(&self, address: &str, pursuit: &mut Pursuit) -> StreamEnd {
        let channel = match self.cluster.channel(address) {
            Ok(channel) => channel,
            Err(failure) => return StreamEnd::Failed(failure),
        };
        let number = self.shared.begin_stream(self.cluster.now());
        let clock = Arc::clone(&self.cluster.environment.clock);
        let log = self.log.to_string();
        let outgoing = Outgoing::new(log, self.writer_epoch, Arc::clone(&self.shared), number, clock);
        let mut client = RecordsClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);

        let mut request = Request::new(outgoing);
        if let Some(trace) = self.trace.and_then(|trace| trace.to_string().parse().ok()) {
            request.metadata_mut().insert(TRACEPARENT, trace);
        }
        let mut stalled = pin!(self.stalled());
        let answers = match select(pin!(client.append(request)), stalled.as_mut()).await {
            Either::Left((Ok(response), _)) => response.into_inner(),
            Either::Left((Err(status), _)) => return StreamEnd::Failed(verdict::of_status(address, &status)),
            Either::Right(((), _)) => return self.timed_out(address),
        };
        match select(pin!(self.answers(answers, address, pursuit)), stalled).await {
            Either::Left((end, _)) => end,
            Either::Right(((), _)) => self.timed_out(address),
        }
    }

    async fn answers(
        &self,
        mut answers: Streaming<v1::AppendResponse>,
        address: &str,
        pursuit: &mut Pursuit,
    ) -> StreamEnd {
        let mut confirmed = false;
        let mut declined = false;
        loop {
            let answer = match answers.message().await {
                Ok(Some(answer)) => answer,
                Ok(None) if self.shared.is_over() => return StreamEnd::Over,
                Ok(None) => return StreamEnd::Failed(verdict::ended(address)),
                Err(status) => return StreamEnd::Failed(verdict::of_status(address, &status)),
            };
            let now = self.cluster.now();
            match answer.outcome {
                Some(Outcome::Appended(appended)) => {
                    if let Err(violation) = self.landed(answer.request, &appended, now) {
                        return StreamEnd::Failed(verdict::violated(address, violation));
                    }
                    if !confirmed && !declined {
                        pursuit.succeeded(address);
                        confirmed = true;
                    }
                }
                Some(Outcome::Error(error)) => {
                    let failure = verdict::of_error(address, error);
                    if let Verdict::Final(refusal) = &failure.verdict {
                        let refused = self.shared.change(|outbox| outbox.refused(answer.request, refusal, now));
                        if let Err(fenced) = refused {
                            self.shared.close(fenced);
                        } else if self.shared.change(|outbox| outbox.needs_identity()) {
                            // A log that knows no id must not be asked in a
                            // tight loop, each time with another one.
                            let failure = Failure { verdict: Verdict::Later, ..failure };
                            return StreamEnd::Failed(failure);
                        }
                    } else {
                        let last = failure.attempt.clone();
                        self.shared.change(|outbox| {
                            outbox.note_failure(Some(last));
                            outbox.declined(answer.request, failure.maybe_done, now);
                        });
                        // All that follow say the same: the first one counts.
                        if !declined {
                            declined = true;
                            if let Err(error) = pursuit.failed(address, failure) {
                                return StreamEnd::Refused(error);
                            }
                        }
                    }
                }
                // Answers nothing, so that the batch's deadline decides.
                None => {}
            }
            if self.shared.is_over() {
                return StreamEnd::Over;
            }
            if self.shared.change(|outbox| outbox.wants_new_stream()) {
                return StreamEnd::Declined;
            }
        }
    }

    fn landed(&self, request: u64, appended: &v1::Appended, now: Duration) -> Result<(), String> {
        if appended.start > appended.end {
            return Err(format!("an append was acknowledged as {}..{}", appended.start, appended.end));
        }
        let range = OffsetRange::new(Offset::new(appended.start), Offset::new(appended.end));
        let landed = self.shared.change(|outbox| {
            outbox.is_of(LogId::new(appended.log_id));
            outbox.landed(request, range, now)
        });
        landed.map_err(|answer| answer.to_string())
    }

    /// Completes when the stream has owed an answer for too long.
    async fn stalled(&self) {
        let limit = self.cluster.config.request_timeout;
        loop {
            let now = self.cluster.now();
            let patience = self.shared.change(|outbox| outbox.patience(limit, now));
            if patience.is_zero() {
                return;
            }
            self.cluster.environment.clock.sleep(patience).await;
        }
    }

    fn timed_out(&self, address: &str) -> StreamEnd {
        // The connection may be dead without knowing: dial anew.
        self.cluster.discard_channel(address);
        StreamEnd::Failed(verdict::timed_out(address, self.cluster.config.request_timeout))
    }
}

impl Drop for Driver {
    /// The runtime is going down, or nothing is left to do: nobody may be
    /// left waiting for an answer that cannot come.
    fn drop(&mut self) {
        self.shared.close(SendError::Closed);
        let now = self.cluster.now();
        self.shared.change(|outbox| outbox.fail_all(&AppendError::NotTaken(SendError::Closed), now));
    }
}
