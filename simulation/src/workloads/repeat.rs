//! Appends as they are on the wire, each sent several times, through several
//! nodes, at once and one after another, with the same producer and sequence:
//! what a network that duplicates and reorders makes of one request.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use quipu_protocol::batch::{BatchBuilder, Compression, Producer};
use quipu_protocol::transport::{ChannelOptions, channel};
use quipu_protocol::v1::cluster_client::ClusterClient;
use quipu_protocol::v1::records_client::RecordsClient;
use quipu_protocol::{ProducerEpoch, ProducerId, Sequence, v1};

use super::{Context, record};
use crate::environment::clock::now;
use crate::history::{Call, Outcome, Terms};
use crate::violation::Violation;

/// One request is waited for this long.
pub(super) const ATTEMPT: Duration = Duration::from_millis(700);
/// After this time without any answer, the outcome is unknown.
const GIVE_UP: Duration = Duration::from_secs(4);
/// After an answer it is repeated so many times.
const AFTERWARDS: u64 = 2;

/// What the copies of one request were answered.
#[derive(Default)]
struct Answers {
    landed: Option<(u64, u64)>,
    duplicates: u64,
}

pub(super) async fn run(context: Context, log: usize, pause_ms: u64) {
    let log = context.log(log);
    let mut identity = None;
    let mut sequence = 0;
    while context.goes_on() {
        context.pause(pause_ms).await;
        let id = match identity {
            Some(id) => id,
            None => {
                sequence = 0;
                let Some(id) = allocate(&context).await else { continue };
                *identity.insert((id, context.shared.counters.producer()))
            }
        };
        let (id, producer) = id;
        let values = context.shared.counters.values(1 + context.below(3));
        let count = i32::try_from(values.len()).expect("a few");
        let batch = batch(&values, id, sequence);
        let operation = context.invoke(log.as_str(), Call::Append { producer, values, terms: Terms::default() });
        let answers = insist(&context, log.as_str(), &batch).await;
        match answers.landed {
            Some((start, end)) => {
                context.complete(operation, Outcome::Appended { start, end });
                sequence += count;
            }
            None => {
                context.complete(operation, Outcome::Unknown { why: "no copy was answered".to_owned() });
                // Whether the next sequence follows is not known either.
                identity = None;
            }
        }
    }
}

pub(super) fn batch(values: &[u64], id: ProducerId, sequence: i32) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    for value in values {
        builder.push(&record(*value, 0)).expect("small records");
    }
    let producer = Producer { id, epoch: ProducerEpoch::new(0), sequence: Sequence::new(sequence) };
    builder.finish(Some(producer)).expect("a batch")
}

pub(super) async fn allocate(context: &Context) -> Option<ProducerId> {
    let address = any_address(context);
    let channel = channel(&context.environment, &address, ChannelOptions::default()).ok()?;
    let call = async { ClusterClient::new(channel).allocate_producer(v1::AllocateProducerRequest::default()).await };
    let answer = context.environment.clock.timeout(ATTEMPT, call).await.ok()?.ok()?;
    Some(ProducerId::new(answer.into_inner().producer_id))
}

/// Sends copies until one is answered, and some more after that.
async fn insist(context: &Context, log: &str, batch: &Bytes) -> Answers {
    let began = now();
    let mut answers = Answers::default();
    let mut afterwards = context.below(AFTERWARDS + 1);
    while now().saturating_sub(began) < GIVE_UP {
        let copies = 1 + context.below(3);
        let sent = (0..copies).map(|_| {
            let address = any_address(context);
            async move {
                // Copies of one request leave at different moments.
                context.pause(20).await;
                send(context, &address, log, batch).await
            }
        });
        for appended in join_all(sent).await.into_iter().flatten() {
            heard(context, &mut answers, &appended);
        }
        if answers.landed.is_some() {
            if afterwards == 0 {
                break;
            }
            afterwards -= 1;
        }
        context.pause(50).await;
    }
    if answers.duplicates > 0 {
        context.shared.recorder.mark(now(), "a-copy-was-answered-as-a-duplicate");
    }
    answers
}

fn heard(context: &Context, answers: &mut Answers, appended: &v1::Appended) {
    answers.duplicates += u64::from(appended.duplicate);
    let place = (appended.start, appended.end);
    let first = *answers.landed.get_or_insert(place);
    if first != place {
        let details = format!("one copy of a request was answered {first:?}, another {place:?}");
        context.shared.recorder.violated(now(), Violation::new("a-retry-gets-the-first-answer", details), None);
    }
}

async fn send(context: &Context, address: &str, log: &str, batch: &Bytes) -> Option<v1::Appended> {
    let channel = channel(&context.environment, address, ChannelOptions::default()).ok()?;
    let request =
        v1::AppendRequest { request: 1, log: log.to_owned(), batch: batch.clone(), ..v1::AppendRequest::default() };
    let call = async { RecordsClient::new(channel).append_one(request).await };
    let answer = context.environment.clock.timeout(ATTEMPT, call).await.ok()?.ok()?;
    match answer.into_inner().outcome? {
        v1::append_response::Outcome::Appended(appended) => Some(appended),
        v1::append_response::Outcome::Error(_) => None,
    }
}

pub(super) fn any_address(context: &Context) -> String {
    let at = usize::try_from(context.below(context.addresses.len() as u64)).expect("an index");
    context.addresses[at].clone()
}
