//! Commands to a log's cursors that wait to be proposed, and what they are told.
//!
//! Part of the [queue](super::queue): a log gets at most one entry for them in
//! `cursor_commit_interval`, unless an append takes them along.

use std::collections::VecDeque;
use std::time::Duration;

use quipu_protocol::{Timestamp, stored};
use tokio::sync::oneshot;

use super::queue::AppendQueue;
use super::{CommandError, CursorError, LogMachine};
use crate::clocks::NodeClock;
use crate::group::{Group, ProposeError, StopReason};
use crate::types::{CursorAnswer, Reply};

/// The most bytes of commands in one entry, but for a single one: they come on top of
/// a batch, which may be as large as an entry can be.
const ENTRY_BYTES: u64 = 256 << 10;

/// Whom to tell.
pub(super) type CursorAnswers = Vec<oneshot::Sender<Result<CursorAnswer, CursorError>>>;

pub(super) struct WaitingCursor {
    pub(super) command: stored::CursorCommand,
    pub(super) since: Duration,
    pub(super) answer: oneshot::Sender<Result<CursorAnswer, CursorError>>,
}

impl AppendQueue {
    /// Adds a command to a cursor at the end, now, and returns a future of its
    /// outcome.
    pub(super) fn push_cursor(
        &self,
        command: stored::CursorCommand,
        now: Duration,
    ) -> impl Future<Output = Result<CursorAnswer, CursorError>> + Send + use<> {
        let outcome = self.try_push_cursor(command, now);
        async move {
            match outcome?.await {
                Ok(outcome) => outcome,
                // The proposer ended with the command in its hands.
                Err(_) => Err(CommandError::OutcomeUnknown.into()),
            }
        }
    }

    pub(super) fn try_push_cursor(
        &self,
        command: stored::CursorCommand,
        now: Duration,
    ) -> Result<oneshot::Receiver<Result<CursorAnswer, CursorError>>, CursorError> {
        let most = self.options().cursor_queue_commands;
        let (answer, outcome) = oneshot::channel();
        {
            let mut queue = self.lock();
            if let Some(reason) = &queue.closed {
                return Err(CommandError::Stopped(reason.clone()).into());
            }
            // Those whom nobody waits for any more make room.
            if queue.cursors.len() >= most {
                queue.cursors.retain(|waiting| !waiting.answer.is_closed());
            }
            if queue.cursors.len() >= most {
                return Err(CommandError::Overloaded { bound: "cursor_queue_commands", limit: most as u64 }.into());
            }
            queue.cursors.push_back(WaitingCursor { command, since: now, answer });
        }
        self.arrived.notify_one();
        Ok(outcome)
    }

    /// Takes the commands for the next entry, as many as it may hold.
    pub(super) fn take_cursors(&self) -> Vec<WaitingCursor> {
        let mut queue = self.lock();
        let mut bytes = 0;
        let mut taken = Vec::new();
        while let Some(next) = queue.cursors.front() {
            bytes += prost::Message::encoded_len(&next.command) as u64;
            if !taken.is_empty() && bytes > ENTRY_BYTES {
                break;
            }
            // Not proposed and nobody waits: as good as never called.
            taken.extend(queue.cursors.pop_front().filter(|waiting| !waiting.answer.is_closed()));
        }
        taken
    }

    /// The stamp of the next entry, and after how long cursors expire by it, ms: 0
    /// where none would, or the clock is in doubt.
    pub(super) fn cursor_expiry(&self, group: &Group<LogMachine>, clock: &NodeClock) -> (Timestamp, u64) {
        let expiry = self.settings().borrow().cursor_expiry_ms;
        let stamp = clock.stamp();
        let is_due = group.view(|log| log.cursors().is_due(stamp.max(log.time()), expiry));
        (stamp, if is_due && !clock.is_in_doubt() { expiry } else { 0 })
    }
}

/// Gives up on those who came before `since`.
pub(super) fn expire(waiting: &mut VecDeque<WaitingCursor>, since: Duration) {
    while waiting.front().is_some_and(|waiting| waiting.since < since)
        && let Some(old) = waiting.pop_front()
    {
        let _ = old.answer.send(Err(CommandError::Unavailable.into()));
    }
}

/// Refuses those who wait, for good.
pub(super) fn close(waiting: &mut VecDeque<WaitingCursor>, reason: &StopReason) {
    for one in waiting.drain(..) {
        let _ = one.answer.send(Err(CommandError::Stopped(reason.clone()).into()));
    }
}

/// Tells each command what became of it; returns what is left of the reply for the
/// batches of the entry.
pub(super) fn answer(answers: CursorAnswers, reply: Result<Reply, ProposeError>) -> Result<Reply, ProposeError> {
    if answers.is_empty() {
        return reply;
    }
    let (outcomes, reply) = match reply {
        Ok(Reply::AppendAndCursors(batches, cursors)) => {
            assert_eq!(cursors.len(), answers.len(), "every command of an entry has an answer");
            let outcomes = cursors.into_iter().map(|outcome| outcome.map_err(CursorError::Refused)).collect();
            (outcomes, Ok(Reply::Append(batches)))
        }
        Ok(reply) => unreachable!("commands to cursors were answered by {reply:?}"),
        Err(error) => {
            let told = CursorError::Command(error.clone().into());
            (vec![Err(told); answers.len()], Err(error))
        }
    };
    for (answer, outcome) in answers.into_iter().zip(outcomes) {
        // Whoever does not wait any more takes the outcome for unknown.
        let _ = answer.send(outcome);
    }
    reply
}

#[cfg(test)]
mod tests {
    use quipu_protocol::Offset;
    use quipu_protocol::stored::cursor_command::Action;

    use super::super::queue::LogOptions;
    use super::*;
    use crate::types::{BatchOutcome, CursorRefusal, range};

    const NOW: Duration = Duration::from_secs(100);

    fn command(cursor: &str) -> stored::CursorCommand {
        with_metadata(cursor, 0)
    }

    fn with_metadata(cursor: &str, bytes: u64) -> stored::CursorCommand {
        let metadata = vec![0; usize::try_from(bytes).expect("small")].into();
        let action = Action::Commit(stored::CommitCursor { position: 1, metadata, ..stored::CommitCursor::default() });
        stored::CursorCommand { cursor: cursor.to_owned(), action: Some(action) }
    }

    fn queue() -> AppendQueue {
        AppendQueue::new(LogOptions { cursor_queue_commands: 3, ..LogOptions::default() })
    }

    fn taken(queue: &AppendQueue) -> Vec<String> {
        queue.take_cursors().into_iter().map(|waiting| waiting.command.cursor).collect()
    }

    #[test]
    fn full_queue_refuses_and_names_the_bound_and_the_gone_make_room() {
        let queue = queue();
        let _kept = [queue.try_push_cursor(command("a"), NOW), queue.try_push_cursor(command("b"), NOW)];
        drop(queue.try_push_cursor(command("c"), NOW));
        let _last = queue.try_push_cursor(command("d"), NOW).expect("c made room");
        let full = queue.try_push_cursor(command("e"), NOW).unwrap_err();
        assert_eq!(full, CommandError::Overloaded { bound: "cursor_queue_commands", limit: 3 }.into());
        assert_eq!(taken(&queue), ["a", "b", "d"]);
        assert_eq!(taken(&queue), [""; 0]);
    }

    #[test]
    fn entry_is_bounded_in_bytes_and_takes_at_least_one() {
        let queue = queue();
        let push = |command| queue.try_push_cursor(command, NOW).expect("there is room");
        let _kept = [push(command("a")), push(with_metadata("b", ENTRY_BYTES)), push(command("c"))];
        assert_eq!(taken(&queue), ["a"]);
        assert_eq!(taken(&queue), ["b"]);
        assert_eq!(taken(&queue), ["c"]);
    }

    #[test]
    fn command_that_waited_in_vain_or_is_too_late_was_never_proposed() {
        let queue = queue();
        let mut old = queue.try_push_cursor(command("a"), NOW).unwrap();
        let mut young = queue.try_push_cursor(command("b"), NOW + Duration::from_secs(1)).unwrap();
        expire(&mut queue.lock().cursors, NOW + Duration::from_secs(1));
        assert_eq!(old.try_recv().unwrap(), Err(CommandError::Unavailable.into()));
        close(&mut queue.lock().cursors, &StopReason::Shutdown);
        assert_eq!(young.try_recv().unwrap(), Err(CommandError::Stopped(StopReason::Shutdown).into()));
    }

    #[test]
    fn each_command_gets_its_own_answer_and_the_batches_theirs() {
        let (first, mut first_told) = oneshot::channel();
        let (second, mut second_told) = oneshot::channel();
        let batches = vec![BatchOutcome::Appended(range(Offset::ZERO, 1))];
        let refusal = CursorRefusal::Fenced { generation: 3 };
        let cursors = vec![Ok(CursorAnswer::Committed), Err(refusal)];
        let left = answer(vec![first, second], Ok(Reply::AppendAndCursors(batches.clone(), cursors)));
        assert_eq!(left, Ok(Reply::Append(batches)));
        assert_eq!(first_told.try_recv().unwrap(), Ok(CursorAnswer::Committed));
        assert_eq!(second_told.try_recv().unwrap(), Err(CursorError::Refused(refusal)));
    }

    #[test]
    fn what_was_proposed_and_lost_is_unknown() {
        let (one, mut told) = oneshot::channel();
        let left = answer(vec![one], Err(ProposeError::OutcomeUnknown));
        assert_eq!(left, Err(ProposeError::OutcomeUnknown));
        assert_eq!(told.try_recv().unwrap(), Err(CommandError::OutcomeUnknown.into()));
    }
}
