//! What becomes of each message that a node's peers send it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quipu_protocol::environment::Random;

use crate::environment::clock::now;
use crate::environment::random::SeededRandom;
use crate::faults::Kind;
use crate::recorder::Recorder;

/// Random numbers of relays come after those of the run itself.
const FIRST_RELAY: u64 = 1 << 34;
/// How late a message is, at most, in milliseconds: as little as others take,
/// as long as an election, and long after it. Each as often as the others.
const LATE_MS: [u64; 3] = [30, 400, 3_000];

/// A fault of messages that is under way on one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    /// The fault's number in the run.
    pub(crate) fault: u64,
    /// What happens to messages.
    pub(crate) kind: Kind,
    /// To one in so many.
    pub(crate) one_in: u64,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It arrives.
    Arrives,
    /// It arrives twice in a row.
    Twice,
    /// It arrives, and once more so long after that.
    Again(Duration),
    /// It arrives so late; what was sent after it does not wait.
    Late(Duration),
    /// It never arrives.
    Lost,
    /// It arrives, and its reply is lost.
    Unanswered,
}

/// Decides for one node, by the faults that are under way there.
pub(crate) struct Meddler {
    random: SeededRandom,
    rules: Mutex<Vec<Rule>>,
    recorder: Recorder,
}

impl Meddler {
    /// That of the node `number` under `seed`.
    pub(crate) fn new(seed: u64, number: u64, recorder: Recorder) -> Arc<Self> {
        let random = SeededRandom::new(seed, FIRST_RELAY + number);
        Arc::new(Self { random, rules: Mutex::default(), recorder })
    }

    /// A fault begins here.
    pub(crate) fn begin(&self, rule: Rule) {
        self.rules().push(rule);
    }

    /// A fault is over. What it has made late still arrives.
    pub(crate) fn end(&self, fault: u64) {
        self.rules().retain(|rule| rule.fault != fault);
    }

    /// What becomes of the next request.
    pub(super) fn request(&self) -> Fate {
        let fate = match self.strikes() {
            Some(Kind::PeerDuplicate) if self.below(2) == 0 => Fate::Twice,
            Some(Kind::PeerDuplicate) => Fate::Again(self.wait()),
            Some(Kind::PeerReorder) => Fate::Late(self.wait()),
            Some(Kind::PeerDrop) => Fate::Lost,
            Some(Kind::PeerReplyLost) => Fate::Unanswered,
            _ => Fate::Arrives,
        };
        match fate {
            Fate::Arrives => {}
            Fate::Twice => self.recorder.mark(now(), "peer-request-doubled"),
            Fate::Again(_) => self.recorder.mark(now(), "peer-request-repeated-later"),
            Fate::Late(_) => self.recorder.mark(now(), "peer-request-overtaken"),
            Fate::Lost => self.recorder.mark(now(), "peer-request-lost"),
            Fate::Unanswered => self.recorder.mark(now(), "peer-reply-lost"),
        }
        fate
    }

    /// The kind of the first fault that strikes this message.
    fn strikes(&self) -> Option<Kind> {
        self.rules().iter().find(|rule| self.below(rule.one_in) == 0).map(|rule| rule.kind)
    }

    fn wait(&self) -> Duration {
        let longest = LATE_MS[usize::try_from(self.below(LATE_MS.len() as u64)).expect("an index")];
        Duration::from_millis(1 + self.below(longest))
    }

    fn below(&self, bound: u64) -> u64 {
        self.random.next() % bound.max(1)
    }

    fn rules(&self) -> MutexGuard<'_, Vec<Rule>> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(fault: u64, kind: Kind, one_in: u64) -> Rule {
        Rule { fault, kind, one_in }
    }

    fn fates(meddler: &Meddler) -> Vec<Fate> {
        (0..200).map(|_| meddler.request()).collect()
    }

    #[test]
    fn messages_arrive_where_no_fault_is_under_way() {
        let meddler = Meddler::new(1, 1, Recorder::default());
        assert!(fates(&meddler).iter().all(|fate| *fate == Fate::Arrives));
        meddler.begin(rule(7, Kind::PeerDrop, 1));
        meddler.begin(rule(8, Kind::PeerDrop, 1));
        assert!(fates(&meddler).iter().all(|fate| *fate == Fate::Lost));
        meddler.end(7);
        assert!(fates(&meddler).iter().all(|fate| *fate == Fate::Lost), "the other one goes on");
        meddler.end(8);
        assert!(fates(&meddler).iter().all(|fate| *fate == Fate::Arrives));
    }

    #[test]
    fn every_kind_that_needs_relays_strikes_some_messages_and_not_all() {
        for kind in Kind::ALL.iter().copied().filter(|kind| kind.needs_relays()) {
            let meddler = Meddler::new(1, 1, Recorder::default());
            meddler.begin(rule(1, kind, 5));
            let struck = fates(&meddler).iter().filter(|fate| **fate != Fate::Arrives).count();
            assert!((10..100).contains(&struck), "{kind}: {struck} of 200");
        }
    }

    #[test]
    fn fates_follow_from_the_seed() {
        let of = |seed| {
            let meddler = Meddler::new(seed, 1, Recorder::default());
            meddler.begin(rule(1, Kind::PeerReorder, 2));
            fates(&meddler)
        };
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
    }
}
