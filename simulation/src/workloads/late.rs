//! Appends that arrive late, twice, or for the first time when they must not land any
//! more: what a network that keeps a request, and a client that gave up waiting for it,
//! make of it.
//!
//! ```text
//!   held back   resolve: never             ─▶ the append, for the first time
//!   raced       resolve beside the append  ─▶ the append again
//!   repeated    append, and another one    ─▶ resolve, the append again
//!   overtaken   append of the next epoch   ─▶ the append of this one
//!   outlived    append, beside or before another writer's acquisition ─▶ the append again
//! ```
//!
//! The last of these where writers need an epoch, the others elsewhere. All copies of an
//! append are the same bytes, each through another node and over a connection of its own.
//! Whatever they are answered has to agree: one append lands at one place, or never.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{join, join_all};
use quipu_protocol::batch::{BatchBuilder, Compression, Producer};
use quipu_protocol::transport::{ChannelOptions, channel};
use quipu_protocol::v1::error::Kind;
use quipu_protocol::v1::records_client::RecordsClient;
use quipu_protocol::v1::{append_response, resolve_response};
use quipu_protocol::{ProducerEpoch, ProducerId, Sequence, v1};
use quipu_sdk::LogName;
use tonic::transport::Channel;

use super::repeat::{ATTEMPT, allocate, any_address};
use super::{Context, fight, record};
use crate::environment::clock::now;
use crate::history::{Call, Outcome, Terms};
use crate::violation::Violation;

/// So long somebody insists on an answer.
const GIVE_UP: Duration = Duration::from_secs(2);
/// What was not answered is asked again after up to this time, in milliseconds.
const AGAIN_MS: u64 = 60;
/// Requests that are to race leave within so many milliseconds.
const RACE_MS: u64 = 20;

pub(super) async fn run(context: Context, log: usize, pause_ms: u64) {
    let exclusive = context.shared.logs[log].exclusive;
    let mut client = Client { context: &context, log: context.log(log), identity: None };
    while context.goes_on() {
        context.pause(pause_ms).await;
        let Some(identity) = client.identity().await else { continue };
        match context.below(4) {
            _ if exclusive => client.outlived(identity).await,
            0 => client.held_back(identity).await,
            1 => client.raced(identity).await,
            2 => client.repeated(identity).await,
            _ => client.overtaken(identity).await,
        }
    }
}

/// By what an append is numbered.
#[derive(Clone, Copy)]
struct Identity {
    id: ProducerId,
    epoch: i16,
    /// That of the next append.
    sequence: i32,
    /// The producer's number in the run.
    number: u64,
}

/// An append, of which copies are sent.
struct Append {
    operation: u64,
    values: Vec<u64>,
    identity: Identity,
    terms: Terms,
    batch: Bytes,
    answers: Answers,
}

/// What the copies of an append were answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Answers {
    landed: Option<(u64, u64)>,
    /// It was refused, and so lands never.
    refused: Option<Refusal>,
    /// It was resolved never to land.
    never: bool,
}

/// What one request was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Landed(u64, u64),
    /// It has not landed and never will.
    Refused(Refusal),
    /// The producer's epoch is over: the append lands no more, and may have landed.
    Over,
    /// Nothing that settles anything.
    Nothing,
}

/// Why an append never lands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    /// Another writer has this epoch.
    Fenced { current: u64 },
    /// The log ends here, further than where it was to.
    Elsewhere { end: u64 },
}

impl Answers {
    /// One more answer; why it cannot be, if it cannot.
    fn hear(&mut self, told: Told) -> Option<String> {
        match told {
            Told::Landed(start, end) => self.landed = self.landed.or(Some((start, end))),
            Told::Refused(refusal) => self.refused = self.refused.or(Some(refusal)),
            Told::Over | Told::Nothing => return None,
        }
        let place = self.landed?;
        match (told, self.refused) {
            (Told::Landed(start, end), _) if (start, end) != place => {
                Some(format!("it landed at {place:?}, and at {:?}", (start, end)))
            }
            (_, Some(refusal)) => Some(format!("it landed at {place:?}, and was refused: {refusal:?}")),
            _ => None,
        }
    }

    /// Whether no copy can tell more.
    fn is_settled(&self) -> bool {
        self.landed.is_some() || self.refused.is_some() || self.never
    }
}

struct Client<'a> {
    context: &'a Context,
    log: LogName,
    /// Unless what became of its last append is not known.
    identity: Option<Identity>,
}

impl Client<'_> {
    async fn identity(&mut self) -> Option<Identity> {
        if let Some(identity) = self.identity.take() {
            return Some(identity);
        }
        let id = allocate(self.context).await?;
        Some(Identity { id, epoch: 0, sequence: 0, number: self.context.shared.counters.producer() })
    }

    /// The append arrives when it was resolved never to land.
    async fn held_back(&mut self, identity: Identity) {
        let mut append = self.append(identity, Terms::default());
        self.resolve(&mut append).await;
        self.send_copies(&mut append).await;
        self.end(append);
    }

    /// The append and its resolution arrive at the same time.
    async fn raced(&mut self, identity: Identity) {
        let mut append = self.append(identity, Terms::default());
        let mut resolved = self.append_like(&append);
        let resolving = async {
            self.context.pause(RACE_MS).await;
            self.resolve(&mut resolved).await;
        };
        join(self.send_copies(&mut append), resolving).await;
        append.answers.never = resolved.answers.never;
        if let Some((start, end)) = resolved.answers.landed {
            self.hear(&mut append, Told::Landed(start, end));
        }
        self.send_copies(&mut append).await;
        self.end(append);
    }

    /// The append landed, another one landed after it, and it arrives again.
    async fn repeated(&mut self, identity: Identity) {
        let mut append = self.append(identity, Terms::default());
        self.insist(&mut append).await;
        if append.answers.landed.is_some() {
            let mut other = self.append(following(&append), Terms::default());
            self.insist(&mut other).await;
            if self.context.below(2) == 0 {
                self.resolve(&mut append).await;
            }
            self.send_copies(&mut append).await;
            self.complete(&append);
            return self.end(other);
        }
        self.end(append);
    }

    /// The append arrives when one of its producer's next epoch has landed.
    async fn overtaken(&mut self, identity: Identity) {
        let mut append = self.append(identity, Terms::default());
        let next = Identity { epoch: identity.epoch + 1, sequence: 0, ..identity };
        let mut other = self.append(next, Terms::default());
        self.insist(&mut other).await;
        self.send_copies(&mut append).await;
        self.complete(&append);
        self.end(other);
    }

    /// The append arrives when its writer has been fenced, having landed or not.
    async fn outlived(&mut self, identity: Identity) {
        let Some((epoch, end)) = self.acquire().await else {
            self.identity = Some(identity);
            return;
        };
        let expected_end = (self.context.below(2) == 0).then_some(end);
        let mut append = self.append(identity, Terms { epoch: Some(epoch), expected_end });
        match self.context.below(4) {
            // It was never heard of.
            0 => {}
            1 => {
                join(self.send_copies(&mut append), self.acquire()).await;
            }
            _ => self.insist(&mut append).await,
        }
        self.acquire().await;
        self.send_copies(&mut append).await;
        self.end(append);
    }

    /// Another writer begins: its epoch, and where the log ends then.
    async fn acquire(&self) -> Option<(u64, u64)> {
        fight::acquire(self.context, &self.log).await
    }

    /// An append that is made now, and not sent yet.
    fn append(&self, identity: Identity, terms: Terms) -> Append {
        let values = self.context.shared.counters.values(1 + self.context.below(3));
        let call = Call::Append { producer: identity.number, values: values.clone(), terms };
        let operation = self.context.invoke(self.log.as_str(), call);
        let batch = batch(&values, identity);
        Append { operation, values, identity, terms, batch, answers: Answers::default() }
    }

    /// The same append, of which nothing was heard.
    fn append_like(&self, append: &Append) -> Append {
        let Append { operation, identity, terms, .. } = *append;
        let (values, batch) = (append.values.clone(), append.batch.clone());
        Append { operation, values, identity, terms, batch, answers: Answers::default() }
    }

    /// Sends copies until one is answered for good.
    async fn insist(&self, append: &mut Append) {
        let began = now();
        while now().saturating_sub(began) < GIVE_UP && !append.answers.is_settled() {
            self.send_copies(append).await;
            self.context.pause(AGAIN_MS).await;
        }
    }

    /// Sends up to three copies, through as many nodes.
    async fn send_copies(&self, append: &mut Append) {
        let sent = (0..1 + self.context.below(3)).map(|_| async {
            self.context.pause(RACE_MS).await;
            self.send(append).await.unwrap_or(Told::Nothing)
        });
        let told: Vec<Told> = join_all(sent).await;
        for told in told {
            self.hear(append, told);
        }
    }

    fn hear(&self, append: &mut Append, told: Told) {
        if told == Told::Over {
            self.context.shared.recorder.mark(now(), "a-late-append-was-refused");
        }
        let Some(details) = append.answers.hear(told) else { return };
        let details = format!("log {}, append {:?}: {details}", self.log, append.values);
        let violation = Violation::new("a-retry-gets-the-first-answer", details);
        self.context.shared.recorder.violated(now(), violation, None);
    }

    async fn send(&self, append: &Append) -> Option<Told> {
        let request = v1::AppendRequest {
            request: 1,
            log: self.log.to_string(),
            batch: append.batch.clone(),
            writer_epoch: append.terms.epoch,
            expected_end: append.terms.expected_end,
            ..v1::AppendRequest::default()
        };
        let mut client = RecordsClient::new(self.channel()?);
        let call = async { client.append_one(request).await };
        let refused = match self.context.environment.clock.timeout(ATTEMPT, call).await.ok()? {
            Ok(answer) => match answer.into_inner().outcome? {
                append_response::Outcome::Appended(appended) => {
                    return Some(Told::Landed(appended.start, appended.end));
                }
                append_response::Outcome::Error(error) => error,
            },
            Err(status) => v1::Error::from_status(&status)?,
        };
        Some(match refused.kind? {
            Kind::Fenced(fenced) => Told::Refused(Refusal::Fenced { current: fenced.current_epoch }),
            // It was made where the log ended, which never goes back there.
            Kind::OffsetMismatch(mismatch) => Told::Refused(Refusal::Elsewhere { end: mismatch.end }),
            Kind::ProducerFenced(_) => Told::Over,
            _ => Told::Nothing,
        })
    }

    /// Settles what became of an append, or was to.
    async fn resolve(&self, append: &mut Append) {
        let call = Call::Resolve { values: append.values.clone() };
        let operation = self.context.invoke(self.log.as_str(), call);
        let began = now();
        let mut resolved = None;
        while now().saturating_sub(began) < GIVE_UP && resolved.is_none() {
            resolved = self.resolve_once(append.identity).await;
            if resolved.is_none() {
                self.context.pause(AGAIN_MS).await;
            }
        }
        let outcome = match resolved {
            Some(resolve_response::Outcome::Landed(landed)) => {
                Outcome::Resolved { landed: Some((landed.start, landed.end)) }
            }
            Some(resolve_response::Outcome::Never(_)) => Outcome::Resolved { landed: None },
            Some(resolve_response::Outcome::Forgotten(_)) => Outcome::Failed { why: "it is forgotten".to_owned() },
            None => Outcome::Failed { why: "it was not resolved".to_owned() },
        };
        self.context.complete(operation, outcome.clone());
        match outcome {
            Outcome::Resolved { landed: Some((start, end)) } => self.hear(append, Told::Landed(start, end)),
            Outcome::Resolved { landed: None } => append.answers.never = true,
            _ => {}
        }
    }

    async fn resolve_once(&self, append: Identity) -> Option<resolve_response::Outcome> {
        let request = v1::ResolveRequest {
            log: self.log.to_string(),
            producer_id: append.id.get(),
            producer_epoch: append.epoch.into(),
            sequence: append.sequence,
            log_id: 0,
        };
        let mut client = RecordsClient::new(self.channel()?);
        let call = async { client.resolve(request).await };
        self.context.environment.clock.timeout(ATTEMPT, call).await.ok()?.ok()?.into_inner().outcome
    }

    fn channel(&self) -> Option<Channel> {
        channel(&self.context.environment, &any_address(self.context), ChannelOptions::default()).ok()
    }

    /// Nothing more is sent of it.
    fn complete(&self, append: &Append) {
        let outcome = match append.answers {
            Answers { landed: Some((start, end)), .. } => Outcome::Appended { start, end },
            Answers { refused: Some(refusal), .. } => Outcome::Failed { why: format!("{refusal:?}") },
            Answers { never: true, .. } => Outcome::Unknown { why: "it was resolved never to land".to_owned() },
            _ => Outcome::Unknown { why: "no copy was answered".to_owned() },
        };
        self.context.complete(append.operation, outcome);
    }

    /// It was the producer's last one, whose identity is used on if it is known what
    /// comes next.
    fn end(&mut self, append: Append) {
        self.complete(&append);
        self.identity = match append.answers {
            Answers { never: true, .. } => {
                Some(Identity { epoch: append.identity.epoch + 1, sequence: 0, ..append.identity })
            }
            Answers { landed: Some(_), .. } => Some(following(&append)),
            Answers { refused: Some(_), .. } => Some(append.identity),
            _ => None,
        };
    }
}

/// What the append after this one is numbered by.
fn following(append: &Append) -> Identity {
    let count = i32::try_from(append.values.len()).expect("a few");
    Identity { sequence: append.identity.sequence + count, ..append.identity }
}

fn batch(values: &[u64], identity: Identity) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    for value in values {
        builder.push(&record(*value, 0)).expect("small records");
    }
    let Identity { id, epoch, sequence, .. } = identity;
    let producer = Producer { id, epoch: ProducerEpoch::new(epoch), sequence: Sequence::new(sequence) };
    builder.finish(Some(producer)).expect("a batch")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_of_one_append_land_at_one_place_or_never() {
        let mut answers = Answers::default();
        assert_eq!(answers.hear(Told::Nothing), None);
        assert!(!answers.is_settled());
        assert_eq!(answers.hear(Told::Landed(3, 5)), None);
        assert_eq!(answers.hear(Told::Landed(3, 5)), None);
        assert!(answers.is_settled());
        answers.hear(Told::Landed(5, 7)).expect("it landed twice");
        answers.hear(Told::Refused(Refusal::Fenced { current: 2 })).expect("it landed and was fenced");
    }

    #[test]
    fn what_was_refused_lands_no_more() {
        let mut answers = Answers::default();
        assert_eq!(answers.hear(Told::Refused(Refusal::Elsewhere { end: 9 })), None);
        assert_eq!(answers.hear(Told::Over), None);
        answers.hear(Told::Landed(3, 5)).expect("it was refused and landed");
    }
}
