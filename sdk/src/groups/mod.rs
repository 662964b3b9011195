//! Reader groups: members that share the logs of a pattern.
//!
//! ```text
//!   GroupReader ── Session   a task: joins, heartbeats, joins anew
//!        │            │
//!        │            └─▶ which logs are its own, at which generations
//!        ├─ Hand      one log: claimed, read, committed, let go of
//!        └─ Positions where members have come to in each log
//! ```
//!
//! A log is delivered once its position is claimed under the generation at which
//! it was given: whoever had it before commits nothing more there from then on. A
//! log that somebody else is to have is delivered no further; it is let go of once
//! all that was delivered of it is committed.

mod hand;
mod listing;
mod positions;
mod renewal;
mod session;

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::Stream;
use futures_util::future::{Either, join_all, select};
use quipu_protocol::{LogId, LogName, LogPattern, MemberId, ReaderGroupName};

use crate::cluster::Cluster;
use crate::{ConfigError, GroupError, OnTrimmed, ReadRecord};
use hand::Hand;
use session::Session;

pub use listing::{GroupDescription, GroupMember, GroupShare, GroupSummary};
pub(crate) use listing::{describe, list};
pub(crate) use positions::CursorPositions;
pub use positions::{PositionError, Positions};

/// The most records that are delivered at once.
const MOST_AT_ONCE: usize = 500;

/// How a member of a reader group reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupConfig {
    /// Who it is, 1 to 256 bytes; told to those who look. Default: `reader`.
    pub client: String,
    /// Not heard of for so long, it is a member no more, and its logs are given to
    /// others: from 1 s to 5 min. Default 6 s.
    pub session: Duration,
    /// Whether it joins even if no log matches the pattern yet. Default false.
    pub wait_for_logs: bool,
    /// What to do when the next record of a log was trimmed. Default: fail.
    pub on_trimmed: OnTrimmed,
}

impl Default for GroupConfig {
    fn default() -> Self {
        Self {
            client: "reader".to_owned(),
            session: Duration::from_secs(6),
            wait_for_logs: false,
            on_trimmed: OnTrimmed::Fail,
        }
    }
}

impl GroupConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        crate::config::within("client", self.client.len(), 1, 256)?;
        crate::config::at_least("session", self.session, Duration::from_secs(1))?;
        crate::config::at_most("session", self.session, Duration::from_secs(300))
    }
}

/// A reader group that is about to be joined.
#[must_use = "it joins with `join`"]
pub struct ReaderGroup {
    cluster: Arc<Cluster>,
    name: ReaderGroupName,
    pattern: LogPattern,
    positions: Arc<dyn Positions>,
    config: GroupConfig,
}

impl ReaderGroup {
    pub(crate) fn new(cluster: Arc<Cluster>, name: ReaderGroupName, pattern: LogPattern) -> Self {
        let positions = Arc::new(CursorPositions::new(Arc::clone(&cluster), &name));
        Self { cluster, name, pattern, positions, config: GroupConfig::default() }
    }

    /// Reads as `config` says.
    pub fn config(self, config: GroupConfig) -> Self {
        Self { config, ..self }
    }

    /// Keeps its positions elsewhere than in cursors of the logs: beside what is made
    /// of the records, say, so that both change in one step. All members have to do
    /// alike.
    pub fn positions(self, positions: Arc<dyn Positions>) -> Self {
        Self { positions, ..self }
    }

    /// Becomes a member. Starts a task that says that it lives, so that it needs
    /// the environment's runtime around it.
    ///
    /// # Errors
    /// When the group does not take it; see [`GroupError`].
    pub async fn join(self) -> Result<GroupReader, GroupError> {
        self.config.validate()?;
        let Self { cluster, name, pattern, positions, config } = self;
        let session = Session::join(Arc::clone(&cluster), name, pattern, &config).await?;
        let on_trimmed = config.on_trimmed;
        Ok(GroupReader { cluster, session, positions, on_trimmed, hands: BTreeMap::new(), lost: Vec::new(), turn: 0 })
    }
}

/// A member of a reader group: reads those of the group's logs that it is given.
///
/// Dropped without [`leave`](Self::leave), it is missed only after its session.
pub struct GroupReader {
    cluster: Arc<Cluster>,
    session: Session,
    positions: Arc<dyn Positions>,
    on_trimmed: OnTrimmed,
    /// The logs that it has.
    hands: BTreeMap<LogId, Hand>,
    /// Logs that were lost with something delivered and not committed.
    lost: Vec<LogName>,
    /// Which log is looked at first.
    turn: usize,
}

/// Records of one log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupRecords {
    /// The log.
    pub log: LogName,
    /// Its id: a later log of the same name is another one.
    pub log_id: LogId,
    /// Records that follow one another and those delivered before; at least one.
    pub records: Vec<ReadRecord>,
}

/// What became of a commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "what was lost is delivered to another member again"]
pub struct Committed {
    /// Logs of which something had been delivered since the last commit, and which
    /// belong to another member by now: it is given those records again.
    pub lost: Vec<LogName>,
}

impl GroupReader {
    /// Its number in the group. Another one, once it was missed and has joined
    /// anew.
    pub fn member(&self) -> MemberId {
        self.session.member()
    }

    /// The logs that it has now, in no order.
    pub fn logs(&self) -> Vec<LogName> {
        self.session.shares().into_values().map(|share| share.log).collect()
    }

    /// The next records of one of its logs, as soon as there are any.
    ///
    /// Of each log, they begin at the group's last commit and follow one another
    /// without a gap. What was delivered and not committed when a log went to
    /// another member is delivered there again. Dropping the future loses nothing;
    /// after an error that [is retryable](GroupError::is_retryable), call it again.
    ///
    /// # Errors
    /// When a log cannot be read, or its position not be claimed; or the group
    /// does not take it any more.
    pub async fn next(&mut self) -> Result<GroupRecords, GroupError> {
        loop {
            self.follow()?;
            let Self { session, hands, turn, .. } = self;
            let changed = pin!(session.changed());
            let arrived = pin!(poll_fn(|cx| poll_hands(hands, turn, cx)));
            match select(arrived, changed).await {
                Either::Left((arrived, _)) => return arrived,
                Either::Right(((), _)) => {}
            }
        }
    }

    /// Commits that all that was delivered is done with: no member is given it
    /// again. Lets go of logs that others are to have.
    ///
    /// # Errors
    /// When a position could not be committed; others may have been. Committing
    /// again does no harm.
    pub async fn commit(&mut self) -> Result<Committed, GroupError> {
        self.follow()?;
        let commits = self.hands.iter_mut().map(|(id, hand)| async move { (*id, hand.commit().await) });
        let mut failed = None;
        for (id, committed) in join_all(commits).await {
            match committed {
                Ok(()) => {}
                Err(PositionError::Fenced) => {
                    if let Some(hand) = self.hands.get_mut(&id) {
                        self.lost.extend(hand.lose());
                    }
                }
                Err(error) => failed = Some(GroupError::Position { log: self.hands[&id].name().clone(), error }),
            }
        }
        self.follow()?;
        match failed {
            Some(error) => Err(error),
            None => Ok(Committed { lost: std::mem::take(&mut self.lost) }),
        }
    }

    /// Ends the membership: its logs are given to others at once, from what was
    /// committed on.
    ///
    /// # Errors
    /// When it could not be said; it is missed after its session all the same.
    pub async fn leave(self) -> Result<(), GroupError> {
        self.session.leave().await
    }

    /// The records as a stream, for combinators that commit elsewhere.
    pub fn stream(&mut self) -> impl Stream<Item = Result<GroupRecords, GroupError>> + Send {
        futures_util::stream::unfold(self, |reader| async { Some((reader.next().await, reader)) })
    }

    /// Has in hand what it was given, and nothing else.
    fn follow(&mut self) -> Result<(), GroupError> {
        let shares = self.session.look()?;
        let is_mine = |id: &LogId, hand: &Hand| shares.get(id).is_some_and(|it| it.generation == hand.generation());
        self.hands.retain(|id, hand| {
            let stays = is_mine(id, hand);
            if !stays {
                self.lost.extend(hand.lose());
            }
            stays
        });
        for (id, share) in shares {
            let hand = self.hands.entry(id).or_insert_with(|| {
                Hand::new(Arc::clone(&self.cluster), Arc::clone(&self.positions), id, &share, self.on_trimmed)
            });
            if hand.is_to_go(share.returning) {
                self.session.give_back(id, share.generation);
            }
        }
        Ok(())
    }
}

/// Looks at each log in its turn for records.
fn poll_hands(
    hands: &mut BTreeMap<LogId, Hand>,
    turn: &mut usize,
    cx: &mut Context<'_>,
) -> Poll<Result<GroupRecords, GroupError>> {
    let count = hands.len().max(1);
    let first = *turn % count;
    *turn = first + 1;
    let mut looked_at: Vec<(&LogId, &mut Hand)> = hands.iter_mut().collect();
    looked_at.rotate_left(first);
    for (id, hand) in looked_at {
        if let Poll::Ready(records) = hand.poll(cx, MOST_AT_ONCE) {
            let records = records?;
            return Poll::Ready(Ok(GroupRecords { log: hand.name().clone(), log_id: *id, records }));
        }
    }
    Poll::Pending
}
