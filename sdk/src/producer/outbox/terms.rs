//! Batches that are held to a writer epoch or an expected end: what a refusal
//! means for them and for those around them.

use quipu_protocol::batch::{BatchBuilder, BatchHeader, Compression};
use quipu_protocol::{LogId, ProducerEpoch, ProducerId, Sequence, Timestamp, WriterEpoch, v1};

use super::*;
use crate::AppendId;
use crate::cluster::Refusal;

const ID: ProducerId = ProducerId::new(7);
/// The first log that was named is the one that is meant.
const LOG: LogId = LogId::new(5);
const NOW: Duration = Duration::ZERO;

type Outcome = oneshot::Receiver<Result<OffsetRange, AppendError>>;

fn outbox_of(config: ProducerConfig) -> Outbox {
    let mut outbox = Outbox::new("orders".parse().expect("a name"), config);
    outbox.is_of(LOG);
    outbox.is_of(LogId::new(99));
    outbox.identify(ID);
    outbox
}

fn outbox() -> Outbox {
    outbox_of(ProducerConfig { writer_epoch: Some(WriterEpoch::new(1)), ..ProducerConfig::default() })
}

fn plain_outbox() -> Outbox {
    let config = ProducerConfig { idempotent: false, ..ProducerConfig::default() };
    Outbox::new("orders".parse().expect("a name"), config)
}

fn take(outbox: &mut Outbox, records: u32, expected_end: Option<u64>) -> Outcome {
    let mut builder = BatchBuilder::new(Compression::None);
    for _ in 0..records {
        builder.push(&Record::new(Timestamp::new(0), Bytes::from_static(b"a"))).expect("fits");
    }
    let (waiter, outcome) = oneshot::channel();
    let batch = builder.finish(None).expect("not empty");
    outbox.take_batch((batch, records), (expected_end.map(Offset::new), Bytes::new()), 1, waiter, NOW);
    outcome
}

/// What goes on the stream now: requests, with the epoch, the sequence and the
/// expected end of each.
fn sent(outbox: &mut Outbox) -> Vec<(u64, i16, i32, Option<u64>)> {
    let next = || match outbox.next(NOW) {
        Next::Request { request, batch, expected_end, .. } => {
            let producer = BatchHeader::parse(&batch).expect("sound").producer;
            let stamp = producer.map_or((0, 0), |producer| (producer.epoch.get(), producer.sequence.get()));
            Some((request, stamp.0, stamp.1, expected_end.map(Offset::get)))
        }
        _ => None,
    };
    std::iter::from_fn(next).collect()
}

fn refuse(outbox: &mut Outbox, request: u64, error: v1::Error) {
    let refusal = Refusal { address: String::new(), error };
    outbox.refused(request, &refusal, NOW).expect("nobody else has the producer's id");
}

fn land(outbox: &mut Outbox, request: u64, start: u64, end: u64) {
    let range = OffsetRange::new(Offset::new(start), Offset::new(end));
    outbox.landed(request, range, NOW).expect("a true answer");
}

fn fenced() -> v1::Error {
    v1::Error::fenced(WriterEpoch::new(2), "db-2")
}

fn ends_at(end: u64) -> v1::Error {
    v1::Error::offset_mismatch(Offset::new(end))
}

#[track_caller]
fn told(outcome: &mut Outcome) -> Result<OffsetRange, AppendError> {
    outcome.try_recv().expect("it has been told")
}

#[track_caller]
fn is_fenced(outcome: &mut Outcome) {
    match told(outcome) {
        Err(error @ AppendError::WriterFenced { current, .. }) => {
            assert_eq!(current, WriterEpoch::new(2));
            assert!(error.has_no_side_effects() && !error.is_retryable(), "{error:?}");
        }
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn is_mismatch(outcome: &mut Outcome, expected: u64, end: u64) {
    match told(outcome) {
        Err(error @ AppendError::OffsetMismatch { .. }) => {
            assert!(error.has_no_side_effects() && !error.is_retryable(), "{error:?}");
            assert_eq!(error.to_string(), format!("the log ends at {end}, and not at {expected}"));
        }
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn is_unknown(outcome: &mut Outcome, sequence: i32) {
    match told(outcome) {
        Err(AppendError::OutcomeUnknown { append, .. }) => {
            let (epoch, sequence) = (ProducerEpoch::new(0), Sequence::new(sequence));
            assert_eq!(append, Some(AppendId { log: Some(LOG), producer: ID, epoch, sequence }));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn batch_that_is_fenced_in_the_middle_of_a_pipeline_takes_nothing_with_it() {
    let mut outbox = outbox();
    let [mut first, mut second, mut third] = [2, 1, 1].map(|records| take(&mut outbox, records, None));
    assert_eq!(sent(&mut outbox), [(1, 0, 0, None), (2, 0, 2, None), (3, 0, 3, None)]);
    // The fence comes between the first and the second; answers come late.
    refuse(&mut outbox, 2, fenced());
    is_fenced(&mut second);
    assert_eq!(sent(&mut outbox), [], "nothing passes a hole whose predecessor has no answer");
    land(&mut outbox, 1, 0, 2);
    assert_eq!(told(&mut first).expect("it came before the fence").end(), Offset::new(2));
    // What follows goes on in the next epoch, and is fenced for itself.
    assert_eq!(sent(&mut outbox), [(4, 1, 0, None)]);
    refuse(&mut outbox, 3, fenced());
    third.try_recv().expect_err("an answer to a copy that nobody waits for any more");
    refuse(&mut outbox, 4, fenced());
    is_fenced(&mut third);
    assert!(outbox.is_empty());
}

#[test]
fn fence_is_a_sure_failure_though_a_copy_is_loose() {
    let mut outbox = outbox();
    let mut outcome = take(&mut outbox, 1, None);
    assert_eq!(sent(&mut outbox), [(1, 0, 0, None)]);
    outbox.stream_ended(NOW);
    assert_eq!(sent(&mut outbox), [(2, 0, 0, None)]);
    refuse(&mut outbox, 2, fenced());
    is_fenced(&mut outcome);
}

#[test]
fn end_that_is_passed_is_a_sure_failure_though_a_copy_is_loose() {
    let mut outbox = outbox();
    let mut outcome = take(&mut outbox, 1, Some(5));
    assert_eq!(sent(&mut outbox), [(1, 0, 0, Some(5))]);
    outbox.stream_ended(NOW);
    assert_eq!(sent(&mut outbox), [(2, 0, 0, Some(5))], "the same append, the same end");
    refuse(&mut outbox, 2, ends_at(6));
    is_mismatch(&mut outcome, 5, 6);
}

#[test]
fn end_that_is_yet_to_come_is_an_unknown_outcome_while_a_copy_is_loose() {
    let mut outbox = outbox();
    let mut outcome = take(&mut outbox, 1, Some(5));
    sent(&mut outbox);
    outbox.stream_ended(NOW);
    sent(&mut outbox);
    // The copy may arrive when the log has got there.
    refuse(&mut outbox, 2, ends_at(4));
    is_unknown(&mut outcome, 0);

    let mut outcome = take(&mut outbox, 1, Some(5));
    let [(request, 1, 0, Some(5))] = sent(&mut outbox)[..] else { panic!("it goes on in the next epoch") };
    refuse(&mut outbox, request, ends_at(4));
    is_mismatch(&mut outcome, 5, 4);
}

#[test]
fn epoch_that_is_yet_to_come_is_an_unknown_outcome_while_a_copy_is_loose() {
    let ahead = || v1::Error::epoch_ahead(WriterEpoch::new(0));
    let mut outbox = outbox();
    let mut outcome = take(&mut outbox, 1, None);
    sent(&mut outbox);
    outbox.stream_ended(NOW);
    sent(&mut outbox);
    refuse(&mut outbox, 2, ahead());
    is_unknown(&mut outcome, 0);

    let mut outcome = take(&mut outbox, 1, None);
    let [(request, ..)] = sent(&mut outbox)[..] else { panic!("one request") };
    refuse(&mut outbox, request, ahead());
    assert!(matches!(told(&mut outcome), Err(AppendError::EpochAhead { current }) if current == WriterEpoch::new(0)));
}

#[test]
fn conditional_batch_that_overtook_the_one_before_is_sent_again_after_it() {
    let mut outbox = outbox();
    let [mut first, mut second] = [0, 1].map(|end| take(&mut outbox, 1, Some(end)));
    assert_eq!(sent(&mut outbox), [(1, 0, 0, Some(0)), (2, 0, 1, Some(1))]);
    outbox.declined(1, false, NOW);
    refuse(&mut outbox, 2, ends_at(0));
    second.try_recv().expect_err("what becomes of it depends on the first");
    assert!(outbox.wants_new_stream());
    outbox.stream_ended(NOW);
    assert_eq!(sent(&mut outbox), [(3, 0, 0, Some(0)), (4, 0, 1, Some(1))]);
    land(&mut outbox, 3, 0, 1);
    land(&mut outbox, 4, 1, 2);
    told(&mut first).expect("landed");
    told(&mut second).expect("landed");
}

#[test]
fn conditional_batches_behind_one_that_came_too_late_fail_for_themselves() {
    let mut outbox = outbox();
    let mut outcomes = [5, 6, 7].map(|end| take(&mut outbox, 1, Some(end)));
    assert_eq!(sent(&mut outbox).len(), 3);
    for request in 1..=3 {
        refuse(&mut outbox, request, ends_at(9));
    }
    is_mismatch(&mut outcomes[0], 5, 9);
    // The rest is asked about again, in an epoch in which it may land.
    while let Some(&(request, ..)) = sent(&mut outbox).first() {
        refuse(&mut outbox, request, ends_at(9));
    }
    is_mismatch(&mut outcomes[1], 6, 9);
    is_mismatch(&mut outcomes[2], 7, 9);
    assert!(outbox.is_empty());
}

fn elsewhere() -> v1::Error {
    use v1::cursor_refused::Reason;
    v1::Error::cursor_refused("in", Reason::Mismatch(v1::CursorMismatch { position: Some(7), of: 3 }))
}

#[track_caller]
fn is_refused_by_its_cursor(outcome: &mut Outcome) {
    match told(outcome) {
        Err(error @ AppendError::CursorRefused { .. }) => {
            assert!(error.has_no_side_effects() && !error.is_retryable(), "{error:?}");
            assert_eq!(error.to_string(), "cursor in: it is at 7, and not where it was expected to be");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn cursor_that_refuses_is_a_sure_failure_unless_a_copy_is_loose() {
    let mut outbox = outbox();
    let mut outcome = take(&mut outbox, 1, None);
    sent(&mut outbox);
    refuse(&mut outbox, 1, elsewhere());
    is_refused_by_its_cursor(&mut outcome);

    let mut outcome = take(&mut outbox, 1, None);
    assert_eq!(sent(&mut outbox), [(2, 1, 0, None)]);
    outbox.stream_ended(NOW);
    sent(&mut outbox);
    // The cursor may come to where the other copy expects it.
    refuse(&mut outbox, 3, elsewhere());
    assert!(matches!(told(&mut outcome), Err(AppendError::OutcomeUnknown { .. })));
}

#[test]
fn append_whose_cursor_was_to_be_moved_by_the_one_before_is_sent_again_after_it() {
    let mut outbox = outbox();
    let [mut first, mut second] = [0, 1].map(|_| take(&mut outbox, 1, None));
    assert_eq!(sent(&mut outbox).len(), 2);
    outbox.declined(1, false, NOW);
    refuse(&mut outbox, 2, elsewhere());
    second.try_recv().expect_err("what becomes of it depends on the first");
    assert!(outbox.wants_new_stream());
    outbox.stream_ended(NOW);
    assert_eq!(sent(&mut outbox), [(3, 0, 0, None), (4, 0, 1, None)]);
    land(&mut outbox, 3, 0, 1);
    refuse(&mut outbox, 4, elsewhere());
    told(&mut first).expect("landed");
    is_refused_by_its_cursor(&mut second);
}

#[test]
fn batch_goes_with_the_commits_that_it_carries_each_time() {
    let mut outbox = outbox();
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(&Record::new(Timestamp::new(0), Bytes::from_static(b"a"))).expect("fits");
    let (waiter, _outcome) = oneshot::channel();
    let commit = v1::CursorCommit { cursor: "in".to_owned(), position: 7, ..v1::CursorCommit::default() };
    let commits = v1::CarriedCommits::encoded(vec![commit]);
    let batch = builder.finish(None).expect("not empty");
    outbox.take_batch((batch, 1), (None, commits.clone()), 1, waiter, NOW);
    for _ in 0..2 {
        let Next::Request { cursors, .. } = outbox.next(NOW) else { panic!("it is sent") };
        assert_eq!(cursors, commits);
        outbox.stream_ended(NOW);
    }
}

#[test]
fn unknown_outcome_says_of_which_append_it_is() {
    let mut outbox = outbox();
    let [mut first, mut second, mut third] = [2, 3, 1].map(|records| take(&mut outbox, records, None));
    assert_eq!(sent(&mut outbox).len(), 3);
    outbox.expire(ProducerConfig::default().delivery_timeout);
    is_unknown(&mut first, 0);
    is_unknown(&mut second, 2);
    is_unknown(&mut third, 5);
}

#[test]
fn without_idempotence_nothing_names_an_append_and_a_wrong_end_fails_at_once() {
    let mut outbox = plain_outbox();
    let [mut first, mut second] = [0, 9].map(|end| take(&mut outbox, 1, Some(end)));
    assert_eq!(sent(&mut outbox).len(), 2);
    refuse(&mut outbox, 2, ends_at(1));
    is_mismatch(&mut second, 9, 1);
    outbox.stream_ended(NOW);
    assert!(matches!(told(&mut first), Err(AppendError::OutcomeUnknown { append: None, .. })));
}
