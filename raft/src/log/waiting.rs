//! Commands to what a log keeps beside its records, its cursors and its leases, that
//! wait to be proposed, and what they are told.
//!
//! Part of the [queue](super::queue): a log gets at most one entry for them in
//! `cursor_commit_interval`, unless an append takes them along or one of them cannot
//! wait so long. All that wait go in the order of the calls, so that of several that
//! change the same thing the last one has the last word.

use std::collections::VecDeque;
use std::time::Duration;

use quipu_protocol::stored::waiting_command::Command;
use quipu_protocol::{Timestamp, stored};
use tokio::sync::oneshot;

use super::queue::{AppendQueue, Queue};
use super::{CommandError, LogMachine};
use crate::clocks::NodeClock;
use crate::group::{Group, ProposeError, StopReason};
use crate::types::{CommandOutcome, Reply};

/// The most bytes of commands in one entry, but for a single one: they come on top of
/// a batch, which may be as large as an entry can be.
const ENTRY_BYTES: u64 = 256 << 10;

/// Whom to tell.
pub(super) type CommandAnswer = oneshot::Sender<Result<CommandOutcome, CommandError>>;

pub(super) struct WaitingCommand {
    pub(super) command: stored::WaitingCommand,
    pub(super) since: Duration,
    /// When it has to go at the latest, by the monotonic clock; `None` for whenever
    /// its turn comes.
    pub(super) due: Option<Duration>,
    pub(super) answer: CommandAnswer,
}

impl AppendQueue {
    /// Adds a command at the end, now, and returns a future of its outcome. It is
    /// proposed at `due` if its turn does not come before.
    pub(super) fn push_command(
        &self,
        command: Command,
        now: Duration,
        due: Option<Duration>,
    ) -> impl Future<Output = Result<CommandOutcome, CommandError>> + Send + use<> {
        let outcome = self.try_push_command(command, now, due);
        async move {
            match outcome?.await {
                Ok(outcome) => outcome,
                // The proposer ended with the command in its hands.
                Err(_) => Err(CommandError::OutcomeUnknown),
            }
        }
    }

    fn try_push_command(
        &self,
        command: Command,
        now: Duration,
        due: Option<Duration>,
    ) -> Result<oneshot::Receiver<Result<CommandOutcome, CommandError>>, CommandError> {
        let most = self.options().waiting_commands;
        let (answer, outcome) = oneshot::channel();
        {
            let mut queue = self.lock();
            if let Some(reason) = &queue.closed {
                return Err(CommandError::Stopped(reason.clone()));
            }
            // Those whom nobody waits for any more make room.
            if queue.commands.len() >= most {
                queue.commands.retain(|waiting| !waiting.answer.is_closed());
            }
            if queue.commands.len() >= most {
                return Err(CommandError::Overloaded { bound: "waiting_commands", limit: most as u64 });
            }
            let command = stored::WaitingCommand { command: Some(command) };
            queue.commands_due = earlier(queue.commands_due, due);
            queue.commands.push_back(WaitingCommand { command, since: now, due, answer });
        }
        self.arrived.notify_one();
        Ok(outcome)
    }

    /// Takes the commands for the next entry, as many as it may hold.
    pub(super) fn take_commands(&self) -> Vec<WaitingCommand> {
        let mut queue = self.lock();
        let mut bytes = 0;
        let mut taken = Vec::new();
        while let Some(next) = queue.commands.front() {
            bytes += prost::Message::encoded_len(&next.command) as u64;
            if !taken.is_empty() && bytes > ENTRY_BYTES {
                break;
            }
            // Not proposed and nobody waits: as good as never called.
            taken.extend(queue.commands.pop_front().filter(|waiting| !waiting.answer.is_closed()));
        }
        queue.commands_due = queue.commands.iter().fold(None, |due, waiting| earlier(due, waiting.due));
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

impl Queue {
    /// When the commands that wait are to go, if any does and their turn comes at
    /// `turn`.
    pub(super) fn commands_at(&self, turn: Duration) -> Option<Duration> {
        let is_one = !self.commands.is_empty();
        is_one.then(|| self.commands_due.map_or(turn, |due| due.min(turn)))
    }
}

fn earlier(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    one.into_iter().chain(other).min()
}

/// Gives up on those who came before `since`.
pub(super) fn expire(waiting: &mut VecDeque<WaitingCommand>, since: Duration) {
    while waiting.front().is_some_and(|waiting| waiting.since < since)
        && let Some(old) = waiting.pop_front()
    {
        let _ = old.answer.send(Err(CommandError::Unavailable));
    }
}

/// Refuses those who wait, for good.
pub(super) fn close(waiting: &mut VecDeque<WaitingCommand>, reason: &StopReason) {
    for one in waiting.drain(..) {
        let _ = one.answer.send(Err(CommandError::Stopped(reason.clone())));
    }
}

/// Tells each command what became of it; returns what is left of the reply for the
/// batches of the entry.
pub(super) fn answer(answers: Vec<CommandAnswer>, reply: Result<Reply, ProposeError>) -> Result<Reply, ProposeError> {
    if answers.is_empty() {
        return reply;
    }
    let (outcomes, reply) = match reply {
        Ok(Reply::AppendAndCommands(batches, outcomes)) => {
            assert_eq!(outcomes.len(), answers.len(), "every command of an entry has an answer");
            (outcomes.into_iter().map(Ok).collect(), Ok(Reply::Append(batches)))
        }
        Ok(reply) => unreachable!("commands were answered by {reply:?}"),
        Err(error) => (vec![Err(error.clone().into()); answers.len()], Err(error)),
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

    use super::super::LeaseRefused;
    use super::super::queue::LogOptions;
    use super::*;
    use crate::types::{BatchOutcome, CursorAnswer, CursorRefusal, range};

    const NOW: Duration = Duration::from_secs(100);
    const SECOND: Duration = Duration::from_secs(1);

    fn commit(cursor: &str) -> Command {
        with_metadata(cursor, 0)
    }

    fn with_metadata(cursor: &str, bytes: u64) -> Command {
        let metadata = vec![0; usize::try_from(bytes).expect("small")].into();
        let action = Action::Commit(stored::CommitCursor { position: 1, metadata, ..stored::CommitCursor::default() });
        Command::Cursor(stored::CursorCommand { cursor: cursor.to_owned(), action: Some(action) })
    }

    fn lease(holder: &str) -> Command {
        Command::Lease(stored::HoldLease { holder: holder.to_owned(), ..stored::HoldLease::default() })
    }

    fn queue() -> AppendQueue {
        AppendQueue::new(LogOptions { waiting_commands: 3, ..LogOptions::default() })
    }

    fn taken(queue: &AppendQueue) -> Vec<String> {
        let name = |waiting: WaitingCommand| match waiting.command.command {
            Some(Command::Cursor(command)) => command.cursor,
            Some(Command::Lease(lease)) => lease.holder,
            None => panic!("a command says what it is"),
        };
        queue.take_commands().into_iter().map(name).collect()
    }

    #[test]
    fn full_queue_refuses_and_names_the_bound_and_the_gone_make_room() {
        let queue = queue();
        let push = |command| queue.try_push_command(command, NOW, None);
        let _kept = [push(commit("a")), push(lease("b"))];
        drop(push(commit("c")));
        let _last = push(commit("d")).expect("c made room");
        let full = push(lease("e")).unwrap_err();
        assert_eq!(full, CommandError::Overloaded { bound: "waiting_commands", limit: 3 });
        assert_eq!(taken(&queue), ["a", "b", "d"]);
        assert_eq!(taken(&queue), [""; 0]);
    }

    #[test]
    fn entry_is_bounded_in_bytes_and_takes_at_least_one() {
        let queue = queue();
        let push = |command| queue.try_push_command(command, NOW, None).expect("there is room");
        let _kept = [push(commit("a")), push(with_metadata("b", ENTRY_BYTES)), push(commit("c"))];
        assert_eq!(taken(&queue), ["a"]);
        assert_eq!(taken(&queue), ["b"]);
        assert_eq!(taken(&queue), ["c"]);
    }

    #[test]
    fn all_that_wait_go_when_their_turn_comes_or_the_first_of_them_cannot_wait() {
        let queue = queue();
        let turn = NOW + 10 * SECOND;
        let at = || queue.lock().commands_at(turn);
        let push = |command, due| queue.try_push_command(command, NOW, due).expect("there is room");
        assert_eq!(at(), None);
        let _first = push(commit("a"), None);
        assert_eq!(at(), Some(turn));
        let _late = push(with_metadata("b", ENTRY_BYTES), Some(turn + SECOND));
        assert_eq!(at(), Some(turn));
        let _soon = push(lease("c"), Some(NOW + 2 * SECOND));
        assert_eq!(at(), Some(NOW + 2 * SECOND));
        // What does not fit into the entry is due as before.
        assert_eq!((taken(&queue), at()), (vec!["a".to_owned()], Some(NOW + 2 * SECOND)));
        assert_eq!((taken(&queue), taken(&queue), at()), (vec!["b".to_owned()], vec!["c".to_owned()], None));
        let _next = push(commit("d"), None);
        assert_eq!(at(), Some(turn), "nobody is left who cannot wait");
    }

    #[test]
    fn command_that_waited_in_vain_or_is_too_late_was_never_proposed() {
        let queue = queue();
        let mut old = queue.try_push_command(commit("a"), NOW, None).unwrap();
        let mut young = queue.try_push_command(commit("b"), NOW + SECOND, None).unwrap();
        expire(&mut queue.lock().commands, NOW + SECOND);
        assert_eq!(old.try_recv().unwrap(), Err(CommandError::Unavailable));
        close(&mut queue.lock().commands, &StopReason::Shutdown);
        assert_eq!(young.try_recv().unwrap(), Err(CommandError::Stopped(StopReason::Shutdown)));
    }

    #[test]
    fn each_command_gets_its_own_answer_and_the_batches_theirs() {
        let (answers, mut told): (Vec<_>, Vec<_>) = (0..3).map(|_| oneshot::channel()).unzip();
        let batches = vec![BatchOutcome::Appended(range(Offset::ZERO, 1))];
        let outcomes = [
            CommandOutcome::Cursor(Ok(CursorAnswer::Committed)),
            CommandOutcome::Lease(Err(LeaseRefused::TooMany)),
            CommandOutcome::Cursor(Err(CursorRefusal::Fenced { generation: 3 })),
        ];
        let left = answer(answers, Ok(Reply::AppendAndCommands(batches.clone(), outcomes.to_vec())));
        assert_eq!(left, Ok(Reply::Append(batches)));
        for (told, outcome) in told.iter_mut().zip(outcomes) {
            assert_eq!(told.try_recv().unwrap(), Ok(outcome));
        }
    }

    #[test]
    fn what_was_proposed_and_lost_is_unknown() {
        let (one, mut told) = oneshot::channel();
        let left = answer(vec![one], Err(ProposeError::OutcomeUnknown));
        assert_eq!(left, Err(ProposeError::OutcomeUnknown));
        assert_eq!(told.try_recv().unwrap(), Err(CommandError::OutcomeUnknown));
    }
}
