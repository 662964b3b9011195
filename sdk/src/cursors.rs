//! Named positions that a log keeps for those who read it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use quipu_protocol::v1::cursors_client::CursorsClient;
use quipu_protocol::v1::error::Kind;
use quipu_protocol::{CursorName, LogId, LogName, Offset, OffsetRange, Timestamp, v1};

use crate::CursorError;
use crate::client::{change_error, log_error, understand};
use crate::cluster::{Answer, Cluster, PursuitError, Refusal, Target};
use crate::wire::{Malformed, Meaning};

/// A cursor of a log, by its name; whether it is there shows when it is asked for.
/// Keeps to the log that has its name when it is first used: one that is created later
/// is none of this cursor's. Cheap to clone.
#[derive(Clone)]
pub struct Cursor {
    cluster: Arc<Cluster>,
    log: LogName,
    /// The log's; 0 before it is known. Shared by all clones.
    log_id: Arc<AtomicU64>,
    name: CursorName,
}

/// Where a cursor is to be: see [`Cursor::at`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CursorCommit {
    cursor: CursorName,
    position: Offset,
    of: Option<LogId>,
    generation: u64,
    metadata: Bytes,
    expected: Option<Option<Offset>>,
}

/// What a log says of one of its cursors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CursorDescription {
    /// Its name.
    pub name: CursorName,
    /// The next offset to be read; `None` until the first commit.
    pub position: Option<Offset>,
    /// The log whose offset it is, if that is another one than the cursor's.
    pub of: Option<LogId>,
    /// A commit under a lower one is refused.
    pub generation: u64,
    /// The user's own.
    pub metadata: Bytes,
    /// When it was committed or claimed last, in the log's time.
    pub committed_at: Timestamp,
    /// What the cursor's log held then.
    pub range: OffsetRange,
}

/// Why a cursor does not take what was asked of it. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CursorRefusal {
    /// It was claimed under a higher generation: it belongs to somebody else.
    #[error("it was claimed under generation {generation}, which is higher")]
    Fenced {
        /// The cursor's generation.
        generation: u64,
    },
    /// It is not where it was expected to be: somebody else has moved it.
    #[error("it is at {}, and not where it was expected to be", or_nowhere(*.position))]
    Mismatch {
        /// Where it is; `None` when it has no position or is not there.
        position: Option<Offset>,
        /// The log whose offset that is, if that is another one than the cursor's.
        of: Option<LogId>,
    },
    /// The position lies beyond the log's end.
    #[error("the position lies beyond the log's end, which is {end}")]
    BeyondEnd {
        /// The end.
        end: Offset,
    },
    /// The log has no room for another cursor: some have to be deleted first, or to
    /// expire.
    #[error("the log has no room for another one: max_cursors is {limit}")]
    TooMany {
        /// How many there may be.
        limit: u64,
    },
}

impl Cursor {
    pub(crate) fn new(cluster: Arc<Cluster>, log: LogName, name: CursorName) -> Self {
        Self { cluster, log, log_id: Arc::default(), name }
    }

    /// What is known of it; `None` if there is no such cursor. At least what was
    /// acknowledged before.
    pub async fn get(&self) -> Result<Option<CursorDescription>, CursorError> {
        let log_id = self.log_id.load(Ordering::Relaxed);
        let request = || v1::GetCursorRequest { log: self.log.to_string(), cursor: self.name.to_string(), log_id };
        let call = |channel| async { CursorsClient::new(channel).get_cursor(request()).await };
        let answer = self.cluster.call(Target::Leader(self.log.clone()), call).await;
        let answer = answer.map_err(|error| self.unanswered(error))?;
        // The first one stays.
        let _ = self.log_id.compare_exchange(0, answer.value.log_id, Ordering::Relaxed, Ordering::Relaxed);
        let Found(found) = understand(answer)?;
        Ok(found)
    }

    /// The log's id, for whatever changes something: an attempt whose answer is lost
    /// must not meet another log.
    async fn log_id(&self) -> Result<u64, CursorError> {
        if self.log_id.load(Ordering::Relaxed) == 0 {
            self.get().await?;
        }
        Ok(self.log_id.load(Ordering::Relaxed))
    }

    /// A commit that moves it to `position`, the next offset to be read: for
    /// [`commit_as`](Self::commit_as), or to be carried by an append to the cursor's
    /// log ([`Producer::append_with`](crate::Producer::append_with)).
    pub fn at(&self, position: Offset) -> CursorCommit {
        let (cursor, metadata) = (self.name.clone(), Bytes::new());
        CursorCommit { cursor, position, of: None, generation: 0, metadata, expected: None }
    }

    /// Moves it to `position`, the next offset to be read, forward or backward; makes
    /// it if there is none. Commits within a second go together, so that this may
    /// take that long.
    pub async fn commit(&self, position: Offset) -> Result<(), CursorError> {
        self.commit_as(self.at(position)).await
    }

    /// As [`commit`](Self::commit), with all that `commit` says.
    ///
    /// Tried again until it is known to have been done: an attempt whose answer was
    /// lost commits nothing twice.
    pub async fn commit_as(&self, commit: CursorCommit) -> Result<(), CursorError> {
        let request_id = self.cluster.environment.random.next().max(1);
        let (log_id, commit) = (self.log_id().await?, commit.on_wire());
        let request =
            || v1::CommitCursorRequest { log: self.log.to_string(), commit: Some(commit.clone()), request_id, log_id };
        let call = |channel| async { CursorsClient::new(channel).commit_cursor(request()).await };
        let answer = self.cluster.call(Target::Leader(self.log.clone()), call).await;
        answer.map(|_| ()).map_err(|error| self.refused(error))
    }

    /// Takes it over: from here on nobody moves it under a lower generation. Tells
    /// where it is in the same step; makes it, without a position, if there is none.
    /// May be repeated.
    pub async fn claim(&self, generation: u64) -> Result<Option<Offset>, CursorError> {
        let log_id = self.log_id().await?;
        let request =
            || v1::ClaimCursorRequest { log: self.log.to_string(), cursor: self.name.to_string(), generation, log_id };
        let call = |channel| async { CursorsClient::new(channel).claim_cursor(request()).await };
        let answer = self.cluster.call(Target::Leader(self.log.clone()), call).await;
        let claimed = answer.map_err(|error| self.refused(error))?.value.cursor;
        Ok(claimed.and_then(|cursor| cursor.position).map(Offset::new))
    }

    /// Deletes it. Whether there was one, as far as this attempt or one before it
    /// knows. May be repeated.
    pub async fn delete(&self) -> Result<bool, CursorError> {
        let log_id = self.log_id().await?;
        let request = || v1::DeleteCursorRequest { log: self.log.to_string(), cursor: self.name.to_string(), log_id };
        let call = |channel| async { CursorsClient::new(channel).delete_cursor(request()).await };
        let answer = self.cluster.call(Target::Leader(self.log.clone()), call).await;
        Ok(answer.map_err(|error| self.refused(error))?.value.deleted)
    }

    /// How a change failed.
    fn refused(&self, error: PursuitError) -> CursorError {
        if let PursuitError::Refused { refusal: Refusal { error: refused, .. }, maybe_done } = &error {
            match &refused.kind {
                Some(Kind::UnknownLog(_)) => {
                    return CursorError::UnknownLog { log: self.log.clone(), maybe_done: *maybe_done };
                }
                Some(Kind::CursorRefused(kind)) if !maybe_done => {
                    if let Some(refusal) = CursorRefusal::of(kind) {
                        return CursorError::Refused { cursor: self.name.clone(), refusal };
                    }
                }
                _ => {}
            }
        }
        change_error(&self.log, error).into()
    }

    /// How a question failed.
    fn unanswered(&self, error: PursuitError) -> CursorError {
        log_error(&self.log, error).into()
    }
}

impl CursorCommit {
    /// The position is one of this log, and not of the one that the cursor is in: it
    /// is not held against that log's end.
    #[must_use]
    pub fn of(self, log: LogId) -> Self {
        Self { of: Some(log), ..self }
    }

    /// Made under this generation: refused if the cursor's is higher, and kept.
    #[must_use]
    pub fn under(self, generation: u64) -> Self {
        Self { generation, ..self }
    }

    /// With this of the user's own, up to 1 KiB.
    #[must_use]
    pub fn with_metadata(self, metadata: impl Into<Bytes>) -> Self {
        Self { metadata: metadata.into(), ..self }
    }

    /// Only if the cursor is at `position`; `None` for no position, or no cursor.
    #[must_use]
    pub fn expecting(self, position: Option<Offset>) -> Self {
        Self { expected: Some(position), ..self }
    }

    /// Whose it is.
    pub fn cursor(&self) -> &CursorName {
        &self.cursor
    }

    pub(crate) fn on_wire(&self) -> v1::CursorCommit {
        use v1::cursor_commit::{Expected, NoPosition};
        v1::CursorCommit {
            cursor: self.cursor.to_string(),
            position: self.position.get(),
            of: self.of.map_or(0, LogId::get),
            generation: self.generation,
            metadata: self.metadata.clone(),
            expected: self.expected.map(|expected| match expected {
                Some(position) => Expected::PositionIs(position.get()),
                None => Expected::NoPosition(NoPosition {}),
            }),
        }
    }
}

impl CursorDescription {
    /// How many records its reader has not read; `None` where the position is of
    /// another log. What was trimmed does not count.
    pub fn lag(&self) -> Option<u64> {
        let from = self.position.unwrap_or_default().max(self.range.start()).min(self.range.end());
        self.of.is_none().then(|| self.range.end().since(from))
    }
}

impl CursorRefusal {
    /// What a node said; `None` if it said nothing that is known here.
    pub(crate) fn of(refused: &v1::CursorRefused) -> Option<Self> {
        use v1::cursor_refused::Reason;
        Some(match refused.reason? {
            Reason::Fenced(v1::CursorFenced { generation }) => Self::Fenced { generation },
            Reason::Mismatch(v1::CursorMismatch { position, of }) => {
                Self::Mismatch { position: position.map(Offset::new), of: log_id(of) }
            }
            Reason::BeyondEnd(v1::CursorBeyondEnd { end }) => Self::BeyondEnd { end: Offset::new(end) },
            Reason::TooMany(v1::TooManyCursors { limit }) => Self::TooMany { limit },
        })
    }
}

/// The cursors of a log whose names begin with `prefix`, by name.
pub(crate) async fn list(
    cluster: &Arc<Cluster>,
    log: &LogName,
    prefix: &str,
) -> Result<Vec<CursorDescription>, CursorError> {
    let mut all: Vec<CursorDescription> = Vec::new();
    // All pages are of the log that the first one is of.
    let mut log_id = 0;
    loop {
        let after = all.last().map(|last| last.name.to_string()).unwrap_or_default();
        let request = || v1::ListCursorsRequest {
            log: log.to_string(),
            after: after.clone(),
            limit: 0,
            prefix: prefix.to_owned(),
            log_id,
        };
        let call = |channel| async {
            CursorsClient::new(channel).max_decoding_message_size(MAX_PAGE_BYTES).list_cursors(request()).await
        };
        let answer = cluster.call(Target::Leader(log.clone()), call).await;
        let answer: Answer<v1::ListCursorsResponse> = answer.map_err(|error| log_error(log, error))?;
        let more = answer.value.more;
        log_id = answer.value.log_id;
        let Page(page) = understand(answer)?;
        // A page that brings nothing new would be asked for again for ever.
        let goes_on = page.last().is_some_and(|last| last.name.as_str() > after.as_str());
        all.extend(page);
        if !more || !goes_on {
            return Ok(all);
        }
    }
}

/// The largest page: so many cursors as there may be, each as large as it may be.
const MAX_PAGE_BYTES: usize = 4 << 20;

/// One cursor, or none.
struct Found(Option<CursorDescription>);

impl Meaning<v1::GetCursorResponse> for Found {
    fn of(answer: v1::GetCursorResponse) -> Result<Self, Malformed> {
        let range = range(answer.start, answer.end)?;
        answer.cursor.map(|cursor| description(cursor, range)).transpose().map(Self)
    }
}

/// A page of a listing.
struct Page(Vec<CursorDescription>);

impl Meaning<v1::ListCursorsResponse> for Page {
    fn of(answer: v1::ListCursorsResponse) -> Result<Self, Malformed> {
        let range = range(answer.start, answer.end)?;
        answer.cursors.into_iter().map(|cursor| description(cursor, range)).collect::<Result<_, _>>().map(Self)
    }
}

fn description(cursor: v1::Cursor, range: OffsetRange) -> Result<CursorDescription, Malformed> {
    Ok(CursorDescription {
        name: cursor.name.parse()?,
        position: cursor.position.map(Offset::new),
        of: log_id(cursor.of),
        generation: cursor.generation,
        metadata: cursor.metadata,
        committed_at: Timestamp::new(cursor.committed_at),
        range,
    })
}

fn range(start: u64, end: u64) -> Result<OffsetRange, Malformed> {
    if start > end {
        return Err(Malformed::Range { start, end });
    }
    Ok(OffsetRange::new(Offset::new(start), Offset::new(end)))
}

/// The log of that number; 0 is the cursor's own.
fn log_id(id: u64) -> Option<LogId> {
    (id != 0).then_some(LogId::new(id))
}

fn or_nowhere(position: Option<Offset>) -> String {
    position.map_or_else(|| "no position".to_owned(), |position| position.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(position: Option<u64>, of: Option<u64>) -> CursorDescription {
        CursorDescription {
            name: "a".parse().expect("a name"),
            position: position.map(Offset::new),
            of: of.map(LogId::new),
            generation: 0,
            metadata: Bytes::new(),
            committed_at: Timestamp::new(0),
            range: OffsetRange::new(Offset::new(5), Offset::new(9)),
        }
    }

    #[test]
    fn lag_is_what_can_be_read_from_the_position_to_the_end() {
        for (position, lag) in [(None, 4), (Some(0), 4), (Some(6), 3), (Some(9), 0), (Some(99), 0)] {
            assert_eq!(described(position, None).lag(), Some(lag), "{position:?}");
        }
        assert_eq!(described(Some(6), Some(3)).lag(), None, "nothing is known of the other log");
    }
}
