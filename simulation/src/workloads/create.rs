//! Creates logs while things go wrong, and appends a little to each.

use quipu_protocol::LogId;
use quipu_sdk::{CreateLogError, LogConfig, LogName, ProducerConfig};

use super::append::outcome;
use super::{Context, record};
use crate::history::{Call, Outcome, Terms};

pub(super) async fn run(context: Context, logs: u64, replicas: u32, pause_ms: u64) {
    for _ in 0..logs {
        context.pause(pause_ms).await;
        if !context.goes_on() {
            return;
        }
        let name: LogName = context.shared.counters.log().parse().expect("a good name");
        let config = LogConfig { replicas: Some(replicas), ..LogConfig::default() };
        create(&context, &name, name.as_str(), config).await;
        append_one(&context, &name).await;
    }
}

/// Creates a log, which the history knows by `known_as`, and says how that went.
pub(crate) async fn create(context: &Context, name: &LogName, known_as: &str, config: LogConfig) -> Option<LogId> {
    let replicas = config.replicas.unwrap_or_default();
    let operation = context.invoke(known_as, Call::Create { replicas });
    let answer = context.client.create_log(name, config).await;
    let outcome = match &answer {
        Ok(_) => Outcome::Created,
        Err(CreateLogError::Request(error)) if !error.has_no_side_effects() => {
            Outcome::Unknown { why: error.to_string() }
        }
        Err(error) => Outcome::Failed { why: error.to_string() },
    };
    context.complete(operation, outcome);
    Some(answer.ok()?.log.id)
}

async fn append_one(context: &Context, name: &LogName) {
    let producer = context.client.producer(name, ProducerConfig::default()).expect("a good configuration");
    let values = context.shared.counters.values(1);
    let records = values.iter().map(|value| record(*value, 0)).collect();
    let call = Call::Append { producer: context.shared.counters.producer(), values, terms: Terms::default() };
    let operation = context.invoke(name.as_str(), call);
    // The answer is waited for as long as the job lasts.
    let answer = producer.append(records).await;
    context.complete(operation, outcome(answer));
}
