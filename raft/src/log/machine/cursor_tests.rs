//! Cursors where they meet the rest of a log: appends that carry commits, images,
//! and stamps.

use quipu_protocol::LogId;
use stored::commit_cursor::Expected;
use stored::cursor_command::Action;

use super::tests::{NOW, batch, id, producer, run};
use super::*;
use crate::types::{CursorAnswer, CursorRefusal};

fn commit(position: u64) -> stored::CommitCursor {
    stored::CommitCursor { position, ..stored::CommitCursor::default() }
}

fn command(cursor: &str, commit: stored::CommitCursor) -> stored::WaitingCommand {
    of(cursor, Action::Commit(commit))
}

fn of(cursor: &str, action: Action) -> stored::WaitingCommand {
    let command = stored::CursorCommand { cursor: cursor.to_owned(), action: Some(action) };
    stored::WaitingCommand { command: Some(Waiting::Cursor(command)) }
}

/// The terms of the first batch, which carries these.
fn carrying(commits: &[(&str, stored::CommitCursor)]) -> stored::Terms {
    let one = |(cursor, commit): &(&str, stored::CommitCursor)| stored::CarriedCommit {
        cursor: (*cursor).to_owned(),
        commit: Some(commit.clone()),
    };
    stored::Terms { cursors: commits.iter().map(one).collect(), ..stored::Terms::default() }
}

fn append(machine: &mut LogMachine, index: u64, batch: Bytes, terms: stored::Terms) -> BatchOutcome {
    let append = stored::AppendBatches { batches: vec![batch], terms: vec![terms], ..Default::default() };
    match run(machine, index, stored::log_command::Command::Append(append)) {
        Reply::Append(mut outcomes) => outcomes.remove(0),
        reply => panic!("{reply:?}"),
    }
}

fn position(machine: &LogMachine, cursor: &str) -> Option<u64> {
    machine.cursors().get(cursor)?.position.map(Offset::get)
}

fn appended(start: u64, count: u64) -> BatchOutcome {
    BatchOutcome::Appended(types::range(Offset::new(start), count))
}

#[test]
fn append_and_the_commits_that_it_carries_land_together_or_not_at_all() {
    let mut machine = LogMachine::new();
    let input = stored::CommitCursor { of: 9, expected: Some(Expected::NoPosition(stored::Blank {})), ..commit(70) };
    assert_eq!(append(&mut machine, 1, batch(2, None), carrying(&[("in", input.clone())])), appended(0, 2));
    assert_eq!(position(&machine, "in"), Some(70));
    let both = carrying(&[("other", commit(1)), ("in", input)]);
    let refusal = CursorRefusal::Mismatch { position: Some(Offset::new(70)), of: Some(LogId::new(9)) };
    let refused = BatchOutcome::CursorRefused { cursor: "in".to_owned(), refusal };
    assert_eq!(append(&mut machine, 2, batch(1, None), both), refused);
    assert_eq!((position(&machine, "other"), machine.range().end()), (None, Offset::new(2)));
    // A batch that its sequence refuses commits nothing.
    let outcome = append(&mut machine, 3, batch(1, producer(7)), carrying(&[("other", commit(1))]));
    assert_eq!((outcome, position(&machine, "other")), (BatchOutcome::UnknownProducer, None));
}

#[test]
fn repeat_of_what_landed_gets_its_answer_and_commits_nothing_again() {
    let mut machine = LogMachine::new();
    let first = carrying(&[("in", commit(1))]);
    assert_eq!(append(&mut machine, 1, batch(1, producer(0)), first.clone()), appended(0, 1));
    assert_eq!(append(&mut machine, 2, batch(1, producer(1)), carrying(&[("in", commit(2))])), appended(1, 1));
    let repeated = append(&mut machine, 3, batch(1, producer(0)), first);
    assert_eq!(repeated, BatchOutcome::Duplicate(types::range(Offset::ZERO, 1)));
    assert_eq!(position(&machine, "in"), Some(2));
}

#[test]
fn append_may_carry_a_position_up_to_its_own_end() {
    let mut machine = LogMachine::new();
    let beyond = append(&mut machine, 1, batch(2, None), carrying(&[("own", commit(3))]));
    let refusal = CursorRefusal::BeyondEnd { end: Offset::new(2) };
    assert_eq!(beyond, BatchOutcome::CursorRefused { cursor: "own".to_owned(), refusal });
    assert_eq!(append(&mut machine, 2, batch(2, None), carrying(&[("own", commit(2))])), appended(0, 2));
}

#[test]
fn commands_of_an_entry_come_before_its_batches_and_each_has_its_answer() {
    let mut machine = LogMachine::new();
    let cursors = vec![command("a", commit(1)), command("b", commit(0))];
    let entry = stored::AppendBatches { batches: vec![batch(5, None)], commands: cursors, ..Default::default() };
    let reply = run(&mut machine, 1, stored::log_command::Command::Append(entry));
    let refused = CommandOutcome::Cursor(Err(CursorRefusal::BeyondEnd { end: Offset::ZERO }));
    let committed = CommandOutcome::Cursor(Ok(CursorAnswer::Committed));
    assert_eq!(reply, Reply::AppendAndCommands(vec![appended(0, 5)], vec![refused, committed.clone()]));
    // And alone: nothing of the log's records changes.
    let alone = stored::AppendBatches { commands: vec![command("a", commit(5))], ..Default::default() };
    let reply = run(&mut machine, 2, stored::log_command::Command::Append(alone));
    assert_eq!(reply, Reply::AppendAndCommands(Vec::new(), vec![committed]));
    assert_eq!((position(&machine, "a"), machine.range().end()), (Some(5), Offset::new(5)));
}

#[test]
fn expiry_is_what_the_entry_says_and_a_trim_moves_no_cursor() {
    let mut machine = LogMachine::new();
    append(&mut machine, 1, batch(5, None), carrying(&[("a", commit(1))]));
    run(&mut machine, 2, stored::log_command::Command::Trim(stored::Trim { to: 4, ..Default::default() }));
    assert_eq!(position(&machine, "a"), Some(1), "it lies before the start");
    let mut later = |index, stamp, cursor_expiry_ms| {
        let append = stored::AppendBatches { cursor_expiry_ms, ..Default::default() };
        let command = Some(stored::log_command::Command::Append(append));
        let command = stored::LogCommand { stamp, command, ..stored::LogCommand::default() };
        machine.apply(id(index), &command.encode_to_vec().into()).expect("is applied");
        machine.cursors().totals().count
    };
    assert_eq!(later(3, NOW + 10_000, 0), 1);
    assert_eq!(later(4, NOW + 10_000, 10_000), 1);
    assert_eq!(later(5, NOW + 10_001, 10_000), 0);
}

#[test]
fn what_comes_after_its_time_renews_a_cursor_and_does_not_pass_its_fence() {
    let claim = |generation| of("claimed", Action::Claim(stored::ClaimCursor { generation }));
    let expiring = || stored::AppendBatches { cursor_expiry_ms: 1_000, ..Default::default() };
    let at = |machine: &mut LogMachine, index, late: i64, entry: stored::AppendBatches| {
        let command = Some(stored::log_command::Command::Append(entry));
        let command = stored::LogCommand { stamp: NOW + late, command, ..stored::LogCommand::default() };
        machine.apply(id(index), &command.encode_to_vec().into()).expect("is applied")
    };
    let mut machine = LogMachine::new();
    append(&mut machine, 1, batch(5, None), carrying(&[("carried", commit(1)), ("left", commit(1))]));
    let begun = vec![claim(7), command("claimed", stored::CommitCursor { generation: 7, ..commit(3) })];
    at(&mut machine, 2, 0, stored::AppendBatches { commands: begun, ..expiring() });

    let late = vec![claim(6), claim(8)];
    let terms = vec![carrying(&[("carried", commit(2))])];
    let entry = stored::AppendBatches { batches: vec![batch(1, None)], terms, commands: late, ..expiring() };
    let Reply::AppendAndCommands(_, answers) = at(&mut machine, 3, 5_000, entry) else { panic!("it has commands") };
    assert_eq!(answers[0], CommandOutcome::Cursor(Err(CursorRefusal::Fenced { generation: 7 })));
    let CommandOutcome::Cursor(Ok(CursorAnswer::Claimed(claimed))) = &answers[1] else { panic!("{answers:?}") };
    assert_eq!(claimed.position, Some(Offset::new(3)), "it goes on where it was");
    assert_eq!((position(&machine, "carried"), position(&machine, "left")), (Some(2), None));
    at(&mut machine, 4, 5_500, expiring());
    assert_eq!(machine.cursors().totals().count, 2, "both were renewed");
    at(&mut machine, 5, 6_001, expiring());
    assert_eq!(machine.cursors().totals().count, 0);
}

#[test]
fn image_holds_the_cursors_and_what_they_took_in_entries() {
    let mut machine = LogMachine::new();
    append(&mut machine, 1, batch(5, None), carrying(&[("a", stored::CommitCursor { of: 3, ..commit(1) })]));
    let alone = stored::AppendBatches { commands: vec![command("b", commit(5))], ..Default::default() };
    run(&mut machine, 2, stored::log_command::Command::Append(alone));
    let mut copy = LogMachine::new();
    copy.install(&machine.image()).expect("an image");
    assert_eq!(copy.cursors(), machine.cursors());
    assert!(copy.cursors().totals().entry_bytes > 0);
    assert_eq!(copy.image(), machine.image());
}

#[test]
fn command_that_this_version_does_not_know_stops_the_replica() {
    let command = stored::CursorCommand { cursor: "a".to_owned(), action: None };
    let nothing = stored::WaitingCommand { command: Some(Waiting::Cursor(command)) };
    let unknown = stored::CarriedCommit { cursor: "a".to_owned(), commit: None };
    let carries = stored::Terms { cursors: vec![unknown], ..stored::Terms::default() };
    let entries = [
        stored::AppendBatches { commands: vec![nothing], ..Default::default() },
        stored::AppendBatches { commands: vec![stored::WaitingCommand { command: None }], ..Default::default() },
        stored::AppendBatches { batches: vec![batch(1, None)], terms: vec![carries], ..Default::default() },
    ];
    for entry in entries {
        let command = Some(stored::log_command::Command::Append(entry));
        let command = stored::LogCommand { stamp: NOW, command, ..stored::LogCommand::default() };
        LogMachine::new().apply(id(1), &command.encode_to_vec().into()).expect_err("is of a newer version");
    }
}
