use quipu_protocol::{NodeId, Offset, OffsetRange, ReplicaId};

use super::*;

type Outcome = oneshot::Receiver<Result<Appended, AppendError>>;

const NOW: Duration = Duration::from_secs(100);

/// A queue of 100 bytes and 4 batches, with entries of 10 bytes.
fn small() -> AppendQueue {
    AppendQueue::new(LogOptions {
        append_queue_bytes: 100,
        append_queue_batches: 4,
        entry_bytes: 10,
        max_batch_bytes: 200,
        ..LogOptions::default()
    })
}

fn batch(bytes: usize) -> Bytes {
    Bytes::from(vec![0; bytes])
}

fn push(queue: &AppendQueue, bytes: usize) -> Outcome {
    queue.try_push(batch(bytes), Terms::default(), None, NOW).expect("the queue has room")
}

/// The sizes of the batches in the next entry.
fn take(queue: &AppendQueue) -> Vec<usize> {
    queue.take().iter().map(|waiting| waiting.batch.len()).collect()
}

#[test]
fn all_that_waits_becomes_one_entry_in_order() {
    let queue = small();
    let _outcomes = [push(&queue, 1), push(&queue, 3), push(&queue, 2)];
    assert_eq!(take(&queue), [1, 3, 2]);
    assert_eq!(take(&queue), [0; 0]);
}

#[test]
fn entry_is_bounded_in_bytes_and_holds_at_least_one_batch() {
    let queue = small();
    let _outcomes = [push(&queue, 6), push(&queue, 4), push(&queue, 1), push(&queue, 50)];
    assert_eq!(take(&queue), [6, 4]);
    assert_eq!(take(&queue), [1]);
    assert_eq!(take(&queue), [50]);
}

#[test]
fn full_queue_refuses_and_names_the_bound() {
    let queue = small();
    let _first = push(&queue, 99);
    let full = queue.try_push(batch(2), Terms::default(), None, NOW).unwrap_err();
    assert_eq!(full, CommandError::Overloaded { bound: "append_queue_bytes", limit: 100 }.into());
    let _others = [push(&queue, 1), push(&queue, 0), push(&queue, 0)];
    let full = queue.try_push(batch(0), Terms::default(), None, NOW).unwrap_err();
    assert_eq!(full, CommandError::Overloaded { bound: "append_queue_batches", limit: 4 }.into());
    take(&queue);
    push(&queue, 2);
}

#[test]
fn terms_go_with_their_batch_and_cost_nothing_where_there_are_none() {
    let queue = small();
    let terms =
        Terms { writer_epoch: Some(WriterEpoch::new(3)), expected_end: Some(Offset::new(7)), cursors: Vec::new() };
    let _outcomes = [push(&queue, 1), queue.try_push(batch(2), terms, None, NOW).unwrap(), push(&queue, 3)];
    let expected = stored::Terms { ordinal: 1, writer_epoch: Some(3), expected_end: Some(7), cursors: Vec::new() };
    assert_eq!(terms_of(&queue.take()), [expected]);
}

#[test]
fn one_batch_always_has_room() {
    let queue = small();
    let _outcome = push(&queue, 150);
    assert_eq!(take(&queue), [150]);
}

#[test]
fn batch_larger_than_any_entry_is_refused() {
    let refused = small().try_push(batch(201), Terms::default(), None, NOW).unwrap_err();
    assert_eq!(refused, AppendError::TooLarge { bound: "max_batch_bytes", limit: 200, actual: 201 });
}

#[test]
fn append_nobody_waits_for_is_not_proposed() {
    let queue = small();
    drop(push(&queue, 1));
    let _kept = push(&queue, 2);
    assert_eq!(take(&queue), [2]);
}

#[test]
fn append_that_waited_in_vain_was_never_proposed() {
    let queue = small();
    let mut old = push(&queue, 1);
    let mut young = queue.try_push(batch(2), Terms::default(), None, NOW + Duration::from_secs(1)).unwrap();
    queue.expire(NOW + Duration::from_secs(1));
    assert_eq!(old.try_recv().unwrap(), Err(CommandError::Unavailable.into()));
    young.try_recv().unwrap_err();
    assert_eq!(take(&queue), [2]);
}

#[test]
fn closed_queue_says_why() {
    let queue = small();
    let mut waiting = push(&queue, 1);
    queue.close(StopReason::Shutdown);
    assert_eq!(waiting.try_recv().unwrap(), Err(CommandError::Stopped(StopReason::Shutdown).into()));
    assert_eq!(
        queue.try_push(batch(1), Terms::default(), None, NOW).unwrap_err(),
        CommandError::Stopped(StopReason::Shutdown).into()
    );
}

/// What the two appends of an entry are told of `reply`.
fn told(reply: Result<Reply, ProposeError>) -> [Result<Appended, AppendError>; 2] {
    let (first, mut first_told) = oneshot::channel();
    let (second, mut second_told) = oneshot::channel();
    answer(vec![first, second], Vec::new(), reply);
    [first_told.try_recv().unwrap(), second_told.try_recv().unwrap()]
}

#[test]
fn each_append_of_an_entry_gets_its_own_outcome() {
    let range = OffsetRange::new(Offset::new(4), Offset::new(6));
    let outcomes = vec![BatchOutcome::Duplicate(range), BatchOutcome::UnknownProducer];
    let told = told(Ok(Reply::Append(outcomes)));
    assert_eq!(told, [Ok(Appended { range, duplicate: true }), Err(AppendError::UnknownProducer)]);
}

#[test]
fn what_was_proposed_and_lost_is_unknown_and_what_was_refused_is_not() {
    let unknown = told(Err(ProposeError::OutcomeUnknown));
    assert_eq!(unknown, [Err(CommandError::OutcomeUnknown.into()), Err(CommandError::OutcomeUnknown.into())]);
    assert!(!unknown[0].as_ref().unwrap_err().has_no_side_effects());
    let leader = Some((ReplicaId::new(3), NodeId::new(1)));
    let refused = told(Err(ProposeError::NotLeader { leader }));
    assert_eq!(refused[1], Err(CommandError::NotLeader { leader }.into()));
    assert!(refused[1].as_ref().unwrap_err().has_no_side_effects());
}
