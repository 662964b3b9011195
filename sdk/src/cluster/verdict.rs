//! What a failed attempt means for the next step.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use quipu_protocol::transport::AddressError;
use quipu_protocol::v1;
use quipu_protocol::v1::error::Kind;
use tonic::{Code, Status};

use super::Refusal;
use crate::FailedAttempt;

/// A failed attempt.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    /// What to do next.
    pub(crate) verdict: Verdict,
    /// What happened, for people.
    pub(crate) attempt: FailedAttempt,
    /// Whether the node may have carried the request out all the same.
    pub(crate) maybe_done: bool,
}

/// What to do next.
#[derive(Clone, Debug)]
pub(crate) enum Verdict {
    /// Ask these, the first of them being the leader if that is known.
    Elsewhere { leader: Option<String>, others: Vec<String> },
    /// Ask one of `others` or any: this one has no (sound) replica of the log.
    NoReplica { refusal: Box<Refusal>, others: Vec<String> },
    /// Ask another node; this one cannot.
    Another,
    /// Ask the same node, later.
    Later,
    /// The node knows no such log.
    UnknownLog(Box<Refusal>),
    /// Asking again is of no use.
    Final(Box<Refusal>),
}

/// Judges the status of a failed call.
pub(crate) fn of_status(address: &str, status: &Status) -> Failure {
    if let Some(error) = v1::Error::from_status(status) {
        return of_error(address, error);
    }
    let maybe_done = !never_left(status);
    let attempt = || FailedAttempt::Unreachable { address: address.to_owned(), source: Arc::new(status.clone()) };
    match status.code() {
        Code::Unavailable
        | Code::Unknown
        | Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Internal
        | Code::Aborted
        | Code::ResourceExhausted => Failure { verdict: Verdict::Another, attempt: attempt(), maybe_done },
        Code::Ok
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::DataLoss
        | Code::Unauthenticated => {
            let error = v1::Error { message: format!("{}: {}", status.code(), status.message()), kind: None };
            Failure { attempt: attempt(), ..of_error(address, error) }
        }
    }
}

/// Judges an error that a node gave in place of an answer.
pub(crate) fn of_error(address: &str, error: v1::Error) -> Failure {
    let attempt = FailedAttempt::Declined { address: address.to_owned(), message: error.message.clone() };
    let maybe_done = matches!(error.kind, Some(Kind::OutcomeUnknown(_)));
    let refusal = |error| Box::new(Refusal { address: address.to_owned(), error });
    let verdict = match error.kind {
        Some(Kind::NotLeader(not_leader)) => Verdict::Elsewhere {
            leader: Some(not_leader.address).filter(|leader| !leader.is_empty()),
            others: addresses(not_leader.replicas),
        },
        Some(Kind::NoSuchReplica(ref missing)) => {
            let others = addresses(missing.replicas.clone());
            Verdict::NoReplica { refusal: refusal(error), others }
        }
        // Another replica may be fresher, the leader above all.
        Some(Kind::Damaged(_) | Kind::TooStale(_) | Kind::NotYetApplied(_)) => {
            let others = Vec::new();
            Verdict::NoReplica { refusal: refusal(error), others }
        }
        Some(Kind::Unavailable(_) | Kind::OutcomeUnknown(_)) => Verdict::Another,
        Some(Kind::Overloaded(_) | Kind::NoSpace(_)) => Verdict::Later,
        Some(Kind::UnknownLog(_)) => Verdict::UnknownLog(refusal(error)),
        Some(
            Kind::LogExists(_)
            | Kind::InvalidArgument(_)
            | Kind::BadBatch(_)
            | Kind::TooLarge(_)
            | Kind::NotTaken(_)
            | Kind::OutOfRange(_)
            | Kind::TooFewNodes(_)
            | Kind::UnknownProducer(_)
            | Kind::ProducerFenced(_)
            | Kind::OutOfSequence(_)
            | Kind::Fenced(_)
            | Kind::EpochAhead(_)
            | Kind::WriterRequired(_)
            | Kind::OffsetMismatch(_)
            | Kind::UnknownReaderGroup(_)
            | Kind::UnknownReaderMember(_)
            | Kind::OtherPattern(_)
            | Kind::NoMatchingLogs(_)
            | Kind::CursorRefused(_)
            | Kind::StrandsLeases(_)
            | Kind::LeaseNotHeld(_),
        )
        | None => Verdict::Final(refusal(error)),
    };
    Failure { verdict, attempt, maybe_done }
}

/// The attempt's own deadline passed.
pub(crate) fn timed_out(address: &str, limit: Duration) -> Failure {
    let attempt = FailedAttempt::TimedOut { address: address.to_owned(), limit };
    Failure { verdict: Verdict::Another, attempt, maybe_done: true }
}

/// A node named an address that is none.
pub(crate) fn bad_address(address: &str, error: AddressError) -> Failure {
    let attempt = FailedAttempt::Unreachable { address: address.to_owned(), source: Arc::new(error) };
    Failure { verdict: Verdict::Another, attempt, maybe_done: false }
}

/// The node answered what it must never answer.
pub(crate) fn violated(address: &str, violation: String) -> Failure {
    let attempt = FailedAttempt::Declined { address: address.to_owned(), message: violation };
    Failure { verdict: Verdict::Another, attempt, maybe_done: true }
}

/// The stream ended as if all were done.
pub(crate) fn ended(address: &str) -> Failure {
    let attempt =
        FailedAttempt::Declined { address: address.to_owned(), message: "the stream ended too early".to_owned() };
    Failure { verdict: Verdict::Another, attempt, maybe_done: true }
}

/// Whether no connection came about, so that nothing was sent.
fn never_left(status: &Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

fn addresses(peers: Vec<v1::Peer>) -> Vec<String> {
    peers.into_iter().map(|peer| peer.address).filter(|address| !address.is_empty()).collect()
}
