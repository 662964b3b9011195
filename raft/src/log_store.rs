//! One replica's share of the journal, as openraft wants it.
//!
//! Appends return as soon as their entries can be read and report stable
//! storage later, from whatever thread committed them. Votes, truncations and
//! purges are waited for; the journal keeps all four in one order.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, Range, RangeBounds};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use openraft::errors::LeaderChanged;
use openraft::impls::leader_id_std::LeaderId;
use openraft::storage::{IOFlushed, LeaderBoundedStreamError, LogState, RaftLogStorage};
use openraft::{EntryPayload, OptionalSend, RaftLogReader};
use quipu_protocol::trace::TraceContext;
use quipu_protocol::{Index, ReplicaId, Term};
use quipu_storage::journal::{EntryId, Journal, JournalError, ReplicaKey};
use tokio::sync::{oneshot, watch};

use crate::entry;
use crate::traces::Traces;
use crate::types::{self, Entry, LogId, TypeConfig, Vote};

/// One replica's entries and vote. Clones share them.
#[derive(Clone)]
pub struct LogStore {
    key: ReplicaKey,
    journal: Journal,
    read_bytes: u64,
    durable: Arc<watch::Sender<Durable>>,
    traces: Option<Traces>,
}

/// Moves whenever an append of the replica has reached stable storage; an
/// error once the journal has stopped.
pub(crate) type Durable = Result<u64, JournalError>;

impl LogStore {
    /// The share of replica `key`. One read returns at most `read_bytes` of
    /// entries, but always one.
    pub fn new(key: ReplicaKey, journal: Journal, read_bytes: u64) -> Self {
        Self { key, journal, read_bytes, durable: Arc::new(watch::channel(Ok(0)).0), traces: None }
    }

    /// The same, which tells what it does for appends that are followed.
    pub(crate) fn traced(self, traces: Option<Traces>) -> Self {
        Self { traces, ..self }
    }

    pub(crate) fn traces(&self) -> Option<&Traces> {
        self.traces.as_ref()
    }

    pub(crate) fn key(&self) -> ReplicaKey {
        self.key
    }

    pub(crate) fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Notice that more may be on stable storage.
    pub(crate) fn durable(&self) -> watch::Receiver<Durable> {
        self.durable.subscribe()
    }

    /// Entries of `start..end`, at least one if there is any.
    async fn read(&self, start: u64, end: u64, max_bytes: u64) -> io::Result<Vec<Entry>> {
        let entries = read(&self.journal, self.key, start..end, max_bytes).await?;
        entries.into_iter().map(entry::from_stored).collect()
    }

    /// The indexes of `range` that the journal holds.
    fn held(&self, range: &impl RangeBounds<u64>) -> Range<u64> {
        let state = self.journal.replica(self.key);
        let first = state.as_ref().and_then(|state| state.purged).map_or(0, |purged| purged.index.next().get());
        let end = state.as_ref().and_then(|state| state.last).map_or(0, |last| last.index.next().get());
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let limit = match range.end_bound() {
            Bound::Included(last) => last.saturating_add(1),
            Bound::Excluded(limit) => *limit,
            Bound::Unbounded => u64::MAX,
        };
        start.max(first)..limit.min(end)
    }

    /// The entries of `range`, all of which are held, a bounded read at a time.
    fn entries(&self, range: Range<u64>) -> impl Stream<Item = io::Result<Entry>> + Send + use<> {
        let Range { start, end } = range;
        let this = self.clone();
        let reads = stream::try_unfold(start, move |next| {
            let this = this.clone();
            async move {
                if next >= end {
                    return Ok(None);
                }
                let entries = this.read(next, end, this.read_bytes).await?;
                let Some(last) = entries.last() else {
                    return Err(io::Error::new(io::ErrorKind::NotFound, format!("entry {next} is gone")));
                };
                let after = last.log_id.index + 1;
                Ok(Some((stream::iter(entries.into_iter().map(Ok)), after)))
            }
        });
        reads.try_flatten()
    }
}

/// Reads from the journal: from its cache at once, or from the disk.
pub(crate) async fn read(
    journal: &Journal,
    key: ReplicaKey,
    range: Range<u64>,
    max_bytes: u64,
) -> io::Result<Vec<quipu_storage::journal::Entry>> {
    let (done, result) = oneshot::channel();
    let range = Index::new(range.start)..Index::new(range.end);
    // Whoever asked may be gone by the time the answer comes.
    journal.read(key, range, max_bytes, Box::new(move |entries| drop(done.send(entries))));
    result.await.map_err(|_| dropped())?.map_err(io::Error::other)
}

/// Appends one entry and waits until it is on stable storage.
pub(crate) async fn append_durably(journal: &Journal, key: ReplicaKey, entry: Entry) -> io::Result<()> {
    done(|done| journal.append(key, vec![entry::to_stored(entry)], done)).await
}

/// Reads the replica's newest state image.
pub(crate) async fn read_image(journal: &Journal, key: ReplicaKey) -> io::Result<Option<(EntryId, Bytes)>> {
    let (done, result) = oneshot::channel();
    journal.read_image(key, Box::new(move |image| drop(done.send(image))));
    result.await.map_err(|_| dropped())?.map_err(io::Error::other)
}

/// Saves a state image and waits until it is on stable storage.
pub(crate) async fn save_image(journal: &Journal, key: ReplicaKey, at: EntryId, image: Bytes) -> io::Result<()> {
    done(|done| journal.save_image(key, at, image, done)).await
}

/// Forgets the replica for good and waits until that is on stable storage.
pub(crate) async fn retire(journal: &Journal, key: ReplicaKey) -> io::Result<()> {
    done(|done| journal.retire(key, done)).await
}

/// Waits for an operation of the journal.
async fn done(submit: impl FnOnce(quipu_storage::journal::Done)) -> io::Result<()> {
    let (done, result) = oneshot::channel();
    submit(Box::new(move |outcome| drop(done.send(outcome))));
    result.await.map_err(|_| dropped())?.map_err(io::Error::other)
}

fn dropped() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the journal dropped an operation")
}

fn vote_of(vote: &quipu_storage::journal::Vote) -> Vote {
    // A vote of openraft's always names somebody.
    let voted_for = vote.voted_for.map_or(0, ReplicaId::get);
    Vote { leader_id: LeaderId { term: vote.term.get(), voted_for }, committed: vote.committed }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        self.entries(self.held(&range)).try_collect().await
    }

    /// What a leader sends, and nobody else reads. One that meets rot sends nothing
    /// more but heartbeats, instead of failing: its node knows of the rot, and has
    /// another one lead before it stops this one.
    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        match self.read(start, end, self.read_bytes).await {
            Err(_) if self.journal.damage(self.key).is_some() => Ok(Vec::new()),
            read => read,
        }
    }

    async fn entries_stream<RB>(&mut self, range: RB) -> impl Stream<Item = Result<Entry, io::Error>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        Box::pin(self.entries(self.held(&range)))
    }

    async fn leader_bounded_stream<RB>(
        &mut self,
        leader: LeaderId<u64, u64>,
        range: RB,
    ) -> impl Stream<Item = Result<Entry, LeaderBoundedStreamError<TypeConfig>>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let this = self.clone();
        let still_leads = move || {
            let vote = this.journal.replica(this.key).and_then(|state| state.vote).as_ref().map(vote_of);
            match vote {
                Some(vote) if vote.committed && vote.leader_id == leader => Ok(()),
                vote => Err(LeaderBoundedStreamError::LeaderChanged(LeaderChanged::new(leader, vote))),
            }
        };
        // Checked around every entry: it is the leader's only if the vote
        // held before it was read and still holds.
        let before = stream::iter(still_leads().err().map(Err));
        let bounded = before.chain(self.entries(self.held(&range)).map(move |entry| {
            let entry = entry.map_err(LeaderBoundedStreamError::from)?;
            still_leads().map(|()| entry)
        }));
        let mut failed = false;
        Box::pin(bounded.take_while(move |item| {
            let go_on = !failed;
            failed = item.is_err();
            std::future::ready(go_on)
        }))
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.journal.replica(self.key).and_then(|state| state.vote).as_ref().map(vote_of))
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let state = self.journal.replica(self.key);
        let purged = state.as_ref().and_then(|state| state.purged).map(types::log_id);
        let last = state.as_ref().and_then(|state| state.last).map(types::log_id);
        Ok(LogState { last_log_id: last.max(purged), last_purged_log_id: purged })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let vote = quipu_storage::journal::Vote {
            term: Term::new(vote.leader_id.term),
            voted_for: Some(ReplicaId::new(vote.leader_id.voted_for)),
            committed: vote.committed,
        };
        done(|done| self.journal.save_vote(self.key, vote, done)).await?;
        quipu_protocol::point!("vote-saved");
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        if let Some(committed) = committed {
            self.journal.save_committed(self.key, types::entry_id(&committed));
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.journal.replica(self.key).and_then(|state| state.committed).map(types::log_id))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let followed = self.traces.clone().map(|traces| Followed::of(traces, &entries));
        let entries: Vec<_> = entries.into_iter().map(entry::to_stored).collect();
        let durable = Arc::clone(&self.durable);
        let done = Box::new(move |outcome: Result<(), JournalError>| {
            durable.send_modify(|durable| match &outcome {
                Ok(()) => *durable = durable.clone().map(|count| count + 1),
                Err(error) => *durable = Err(error.clone()),
            });
            if let (Some(followed), Ok(())) = (followed, &outcome) {
                followed.fsynced();
            }
            callback.io_completed(outcome.map_err(io::Error::other));
        });
        self.journal.append(self.key, entries, done);
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        let from = Index::new(last.map_or(0, |last| last.index + 1));
        done(|done| self.journal.truncate(self.key, from, done)).await?;
        quipu_protocol::point!("entries-truncated");
        Ok(())
    }

    async fn purge(&mut self, through: LogId) -> Result<(), io::Error> {
        done(|done| self.journal.purge(self.key, types::entry_id(&through), done)).await
    }
}

/// The entries of one append to the journal that are followed.
struct Followed {
    traces: Traces,
    start: Duration,
    entries: Vec<(EntryId, TraceContext)>,
}

impl Followed {
    fn of(traces: Traces, entries: &[Entry]) -> Self {
        let followed = |entry: &Entry| match &entry.payload {
            EntryPayload::Normal(command) => {
                Some((types::entry_id(&entry.log_id), Traces::proposed_by(&command.body())?))
            }
            EntryPayload::Blank | EntryPayload::Membership(_) => None,
        };
        Self { start: traces.now(), entries: entries.iter().filter_map(followed).collect(), traces }
    }

    /// They are on stable storage.
    fn fsynced(self) {
        for (entry, proposed_by) in self.entries {
            self.traces.done_for(entry, proposed_by, "journal", self.start);
        }
    }
}
