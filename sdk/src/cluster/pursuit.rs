//! One operation's way to an answer: whom to ask next, when to wait, when to
//! give up.

use std::sync::Arc;
use std::time::Duration;

use super::backoff::Backoff;
use super::route::Route;
use super::verdict::{Failure, Verdict};
use super::{Cluster, Refusal, Target};
use crate::{FailedAttempt, RequestError};

/// The search for a node that answers. All its state is in here, so that a
/// caller may drop the future of [`next_address`](Self::next_address) and come
/// back.
pub(crate) struct Pursuit {
    cluster: Arc<Cluster>,
    target: Target,
    limit: Option<Duration>,
    route: Route,
    backoff: Backoff,
    started: Option<Duration>,
    resume_at: Option<Duration>,
    attempts: u32,
    maybe_done: bool,
    last: Option<FailedAttempt>,
    unknown_log: Option<Refusal>,
}

/// Why a pursuit ended without an answer.
#[derive(Clone, Debug)]
pub(crate) enum PursuitError {
    /// A node refused for good. An attempt before that one may have been
    /// carried out all the same, if so `maybe_done`.
    Refused { refusal: Refusal, maybe_done: bool },
    /// The time was up.
    GivenUp(RequestError),
}

impl Pursuit {
    /// A pursuit of `target` that is given up `limit` after its first attempt,
    /// or never.
    pub(crate) fn new(cluster: Arc<Cluster>, target: Target, limit: Option<Duration>) -> Self {
        let backoff = Backoff::new(cluster.config.retry_backoff, cluster.config.retry_backoff_max);
        Self {
            cluster,
            target,
            limit,
            route: Route::default(),
            backoff,
            started: None,
            resume_at: None,
            attempts: 0,
            maybe_done: false,
            last: None,
            unknown_log: None,
        }
    }

    /// The next node to ask, after a wait if all have been asked.
    pub(crate) async fn next_address(&mut self) -> Result<String, PursuitError> {
        let started = *self.started.get_or_insert(self.cluster.now());
        if !self.cluster.directory().knows_nodes() {
            self.cluster.discover();
        }
        loop {
            self.wait_until_resumed().await;
            let turn = self.cluster.environment.random.next();
            let candidates = self.cluster.directory().candidates(&self.target, turn);
            if let Some(address) = self.route.next(candidates) {
                self.attempts += 1;
                return Ok(address);
            }
            if let (true, Some(refusal)) = (self.route.agrees_on_unknown_log(), self.unknown_log.take()) {
                return Err(self.refused(refusal));
            }
            let now = self.cluster.now();
            if self.limit.is_some_and(|limit| now - started >= limit) {
                return Err(self.give_up(now - started));
            }
            // Who was asked in vain may have gone for good: look around.
            self.cluster.discover();
            self.route.restart();
            self.resume_at = Some(now + self.backoff.next(&*self.cluster.environment.random));
        }
    }

    /// `address` answered. The next failure begins a new round and a new limit.
    pub(crate) fn succeeded(&mut self, address: &str) {
        self.cluster.directory().set_leader(&self.target, address);
        self.reset();
    }

    /// `address` failed. An error says that asking again is of no use.
    pub(crate) fn failed(&mut self, address: &str, failure: Failure) -> Result<(), PursuitError> {
        self.maybe_done |= failure.maybe_done;
        self.last = Some(failure.attempt);
        let mut directory = self.cluster.directory();
        if !matches!(failure.verdict, Verdict::Later) {
            directory.forget_leader(&self.target, address);
        }
        match failure.verdict {
            Verdict::Elsewhere { leader, others } => {
                if let Some(leader) = &leader {
                    directory.set_leader(&self.target, leader);
                }
                if !self.target.is_chosen() {
                    self.route.suggest(leader.into_iter().chain(others).collect::<Vec<_>>().into_iter());
                }
            }
            Verdict::NoReplica { others, .. } if !self.target.is_chosen() => {
                self.route.suggest(others.into_iter());
            }
            Verdict::Another => {}
            Verdict::Later => self.route.end(),
            Verdict::UnknownLog(refusal) => {
                self.route.log_unknown();
                self.unknown_log = Some(*refusal);
            }
            Verdict::NoReplica { refusal, .. } | Verdict::Final(refusal) => {
                drop(directory);
                return Err(self.refused(*refusal));
            }
        }
        Ok(())
    }

    /// Whom it is after.
    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    /// How the last attempt failed.
    pub(crate) fn last(&self) -> Option<&FailedAttempt> {
        self.last.as_ref()
    }

    async fn wait_until_resumed(&mut self) {
        if let Some(at) = self.resume_at {
            let wait = at.saturating_sub(self.cluster.now());
            self.cluster.environment.clock.sleep(wait).await;
            self.resume_at = None;
        }
    }

    fn refused(&mut self, refusal: Refusal) -> PursuitError {
        let maybe_done = self.maybe_done;
        self.reset();
        PursuitError::Refused { refusal, maybe_done }
    }

    fn give_up(&mut self, waited: Duration) -> PursuitError {
        let error = RequestError::Unavailable {
            waited,
            attempts: self.attempts,
            maybe_done: self.maybe_done,
            last: self.last.clone(),
        };
        self.reset();
        PursuitError::GivenUp(error)
    }

    fn reset(&mut self) {
        self.route.restart();
        self.backoff.reset();
        self.started = None;
        self.resume_at = None;
        self.attempts = 0;
        self.maybe_done = false;
        self.last = None;
        self.unknown_log = None;
    }
}

impl PursuitError {
    /// The request error that this is, for an operation that has no refusals
    /// of its own.
    pub(crate) fn into_request_error(self) -> RequestError {
        match self {
            Self::GivenUp(error) => error,
            Self::Refused { refusal: Refusal { address, error }, maybe_done } => {
                RequestError::Refused { address, message: error.message, maybe_done }
            }
        }
    }
}
