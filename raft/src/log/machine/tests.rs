use quipu_protocol::batch::{BatchBuilder, Compression, Record};
use quipu_protocol::{Index, Term};

use super::super::LeaseRefused;
use super::*;
use crate::types::Resolution;

pub(super) const NOW: i64 = 1_700_000_000_000;
const KEY: ReplicaKey = ReplicaKey { group: quipu_protocol::LogId::new(1), replica: quipu_protocol::ReplicaId::new(1) };

pub(super) fn batch(records: usize, producer: Option<Producer>) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    for n in 0..records {
        let value = Bytes::from(format!("record {n}"));
        builder.push(&Record::new(Timestamp::new(NOW), value)).unwrap();
    }
    builder.finish(producer).unwrap()
}

pub(super) fn producer(sequence: i32) -> Option<Producer> {
    let id = ProducerId::new(NOW << 20);
    Some(Producer { id, epoch: ProducerEpoch::new(0), sequence: Sequence::new(sequence) })
}

fn command(stamp: i64, batches: Vec<Bytes>) -> Bytes {
    let append = stored::AppendBatches { batches, ..stored::AppendBatches::default() };
    let command = Some(stored::log_command::Command::Append(append));
    stored::LogCommand { stamp, command, ..stored::LogCommand::default() }.encode_to_vec().into()
}

pub(super) fn id(index: u64) -> EntryId {
    EntryId { term: Term::new(1), index: Index::new(index) }
}

fn apply(machine: &mut LogMachine, index: u64, stamp: i64, batches: Vec<Bytes>) -> Vec<BatchOutcome> {
    match machine.apply(id(index), &command(stamp, batches)).unwrap() {
        Reply::Append(outcomes) => outcomes,
        reply => panic!("an append is answered by {reply:?}"),
    }
}

fn range(start: u64, end: u64) -> OffsetRange {
    OffsetRange::new(Offset::new(start), Offset::new(end))
}

#[test]
fn batches_of_an_entry_get_offsets_one_after_the_other() {
    let mut machine = LogMachine::new();
    let outcomes = apply(&mut machine, 1, NOW, vec![batch(3, None), batch(2, None)]);
    assert_eq!(outcomes, [BatchOutcome::Appended(range(0, 3)), BatchOutcome::Appended(range(3, 5))]);
    assert_eq!(machine.range(), range(0, 5));
}

#[test]
fn command_of_a_newer_version_stops_the_replica() {
    let mut machine = LogMachine::new();
    let none = stored::LogCommand { stamp: NOW, ..stored::LogCommand::default() }.encode_to_vec();
    // A field that this version does not know, of a length and one byte.
    let unknown = [&none[..], &[0x82, 0x7d, 1, 0]].concat();
    assert!(stored::LogCommand::decode(&unknown[..]).is_ok_and(|command| command.command.is_none()));
    for bytes in [none, unknown, vec![0xff; 8]] {
        machine.apply(id(1), &Bytes::from(bytes)).expect_err("it cannot be applied");
    }
    assert_eq!(machine.range(), range(0, 0));
}

#[test]
fn command_is_decoded_as_it_was_encoded_however_many_batches_it_has() {
    use stored::log_command::Command;
    let append =
        |count| Command::Append(stored::AppendBatches { batches: vec![batch(1, None); count], ..Default::default() });
    let several = [0, 1, BATCHES_AT_HAND, BATCHES_AT_HAND + 1].map(append);
    let trim = Command::Trim(stored::Trim { to: 7, ..stored::Trim::default() });
    for command in several.into_iter().chain([trim]) {
        let command = stored::LogCommand { stamp: NOW, command: Some(command), trace: Bytes::from_static(b"trace") };
        assert_eq!(decode(command.encode_to_vec().into()).unwrap(), command);
    }
}

#[test]
fn refused_and_repeated_batches_take_no_offset_and_are_skipped_by_readers() {
    let mut machine = LogMachine::new();
    apply(&mut machine, 1, NOW, vec![batch(3, producer(0))]);
    let batches = vec![batch(1, producer(7)), batch(2, None), batch(3, producer(0)), batch(1, producer(3))];
    let outcomes = apply(&mut machine, 4, NOW, batches);
    assert_eq!(
        outcomes,
        [
            BatchOutcome::OutOfSequence { expected: Sequence::new(3) },
            BatchOutcome::Appended(range(3, 5)),
            BatchOutcome::Duplicate(range(0, 3)),
            BatchOutcome::Appended(range(5, 6)),
        ]
    );
    let rows = machine.recent_rows().from(Offset::new(3), 9).unwrap();
    assert_eq!(
        rows,
        [OffsetRow {
            entry: id(4),
            base: Offset::new(3),
            records: 3,
            skipped: vec![0, 2],
            time: Timestamp::new(NOW),
            position: batch(3, producer(0)).len() as u64,
            newest: Timestamp::new(NOW),
        }]
    );
}

#[test]
fn entry_without_an_accepted_batch_leaves_no_row() {
    let mut machine = LogMachine::new();
    apply(&mut machine, 1, NOW, vec![batch(1, producer(5))]);
    assert_eq!(machine.recent_rows().first(), None);
    assert!(machine.range().is_empty());
}

#[test]
fn malformed_batch_is_refused_and_changes_nothing() {
    let mut machine = LogMachine::new();
    let outcomes = apply(&mut machine, 1, NOW, vec![Bytes::from_static(b"not a batch")]);
    assert_eq!(outcomes, [BatchOutcome::Malformed]);
    assert!(machine.range().is_empty());
}

fn trim(machine: &mut LogMachine, index: u64, to: u64) -> OffsetRange {
    let command = Some(stored::log_command::Command::Trim(stored::Trim { to, ..stored::Trim::default() }));
    let command = stored::LogCommand { stamp: NOW, command, ..stored::LogCommand::default() }.encode_to_vec();
    match machine.apply(id(index), &command.into()).unwrap() {
        Reply::Trim(trimmed) => trimmed.range,
        reply => panic!("a trim is answered by {reply:?}"),
    }
}

#[test]
fn a_trim_meets_the_leases_of_the_log_as_it_says() {
    use stored::StrandedLeases::{Drop, Hold, Refuse};
    use stored::log_command::Command;
    let mut machine = LogMachine::new();
    apply(&mut machine, 1, NOW, (0..10).map(|_| batch(1, None)).collect());
    let mut index = 1;
    let mut next = || {
        index += 1;
        index
    };
    let hold = |machine: &mut LogMachine, index, holder: &str, offset| {
        let lease =
            stored::HoldLease { holder: holder.to_owned(), offset: Some(offset), ms: 1_000, ..Default::default() };
        run_lease(machine, index, lease).expect("it is granted");
    };
    let trim = |machine: &mut LogMachine, index, to, leases: stored::StrandedLeases, past_before| {
        run(machine, index, Command::Trim(stored::Trim { to, leases: leases.into(), past_before }))
    };
    let names = |leases: &[Lease]| leases.iter().map(|lease| lease.holder.clone()).collect::<Vec<_>>();
    hold(&mut machine, next(), "a", 3);
    hold(&mut machine, next(), "b", 6);

    let Reply::Strands(leases) = trim(&mut machine, next(), 4, Refuse, 0) else { panic!("it is refused") };
    assert_eq!((names(&leases), machine.range().start()), (vec!["a".to_owned()], Offset::ZERO));
    let Reply::Trim(trimmed) = trim(&mut machine, next(), 2, Refuse, 0) else { panic!("it strands nobody") };
    assert_eq!((trimmed.range.start(), trimmed.stranded), (Offset::new(2), vec![]));
    // Retention goes as far as it may.
    let Reply::Trim(trimmed) = trim(&mut machine, next(), 9, Hold, 0) else { panic!("it is done") };
    assert_eq!((trimmed.range.start(), trimmed.stranded), (Offset::new(3), vec![]));
    let Reply::Trim(trimmed) = trim(&mut machine, next(), 9, Hold, 4) else { panic!("it is done") };
    assert_eq!((trimmed.range.start(), names(&trimmed.stranded)), (Offset::new(6), vec!["a".to_owned()]));
    let Reply::Trim(trimmed) = trim(&mut machine, next(), 100, Drop, 0) else { panic!("it is done") };
    assert_eq!((trimmed.range.start(), names(&trimmed.stranded)), (Offset::new(10), vec!["b".to_owned()]));
    assert_eq!(machine.leases(), []);
}

#[test]
fn a_lease_that_is_renewed_to_what_it_may_keep_in_between_is_not_stranded() {
    use stored::log_command::Command;
    let mut machine = LogMachine::new();
    apply(&mut machine, 1, NOW, (0..10).map(|_| batch(1, None)).collect());
    let hold = |machine: &mut LogMachine, index, holder: &str, offset, grant| {
        let lease = stored::HoldLease {
            holder: holder.to_owned(),
            offset: Some(offset),
            ms: 1_000,
            grant,
            ..Default::default()
        };
        run_lease(machine, index, lease).expect("it is granted");
    };
    hold(&mut machine, 2, "a", 2, 0);
    hold(&mut machine, 3, "b", 3, 0);
    // Retention finds both over: leases of offsets before 4. Then one of them moves on.
    hold(&mut machine, 4, "a", 6, 1);
    let leases = stored::StrandedLeases::Hold.into();
    let trim = Command::Trim(stored::Trim { to: 9, leases, past_before: 4 });
    let Reply::Trim(trimmed) = run(&mut machine, 5, trim) else { panic!("it is done") };
    let stranded: Vec<_> = trimmed.stranded.iter().map(|lease| lease.holder.as_str()).collect();
    assert_eq!((trimmed.range.start(), stranded), (Offset::new(6), vec!["b"]));
    assert_eq!(machine.leases().len(), 1);
}

#[test]
fn a_lease_ends_in_log_time_and_is_in_the_image() {
    let mut machine = LogMachine::new();
    apply(&mut machine, 1, NOW, vec![batch(5, None)]);
    let lease = stored::HoldLease { holder: "a".to_owned(), offset: Some(2), ms: 1_000, ..Default::default() };
    run_lease(&mut machine, 2, lease).expect("it is granted");
    let mut copy = LogMachine::new();
    copy.install(&machine.image()).unwrap();
    assert_eq!((copy.leases(), copy.image()), (machine.leases(), machine.image()));
    apply(&mut copy, 3, NOW + 999, vec![batch(1, None)]);
    assert_eq!(copy.leases().len(), 1);
    apply(&mut copy, 4, NOW + 1_000, vec![batch(1, None)]);
    assert_eq!(copy.leases(), []);
}

fn terms(ordinal: u32, writer_epoch: Option<u64>, expected_end: Option<u64>) -> stored::Terms {
    stored::Terms { ordinal, writer_epoch, expected_end, cursors: Vec::new() }
}

fn apply_under(
    machine: &mut LogMachine,
    index: u64,
    batches: Vec<Bytes>,
    terms: Vec<stored::Terms>,
) -> Vec<BatchOutcome> {
    let append = stored::log_command::Command::Append(stored::AppendBatches {
        batches,
        terms,
        ..stored::AppendBatches::default()
    });
    match run(machine, index, append) {
        Reply::Append(outcomes) => outcomes,
        reply => panic!("{reply:?}"),
    }
}

/// Grants or renews a lease, by an entry of its own.
fn run_lease(machine: &mut LogMachine, index: u64, lease: stored::HoldLease) -> Result<Lease, LeaseRefused> {
    let commands = vec![stored::WaitingCommand { command: Some(Waiting::Lease(lease)) }];
    let entry = stored::AppendBatches { commands, ..stored::AppendBatches::default() };
    match run(machine, index, stored::log_command::Command::Append(entry)) {
        Reply::AppendAndCommands(_, outcomes) => match &outcomes[..] {
            [CommandOutcome::Lease(outcome)] => outcome.clone(),
            outcomes => panic!("{outcomes:?}"),
        },
        reply => panic!("{reply:?}"),
    }
}

pub(super) fn run(machine: &mut LogMachine, index: u64, command: stored::log_command::Command) -> Reply {
    let command = stored::LogCommand { stamp: NOW, command: Some(command), ..stored::LogCommand::default() };
    machine.apply(id(index), &command.encode_to_vec().into()).unwrap()
}

fn acquire(machine: &mut LogMachine, index: u64, request: u8) -> (u64, u64) {
    let request_id = Bytes::from(vec![request; 16]);
    let acquire = stored::AcquireWriter { holder: format!("db-{request}"), request_id };
    match run(machine, index, stored::log_command::Command::AcquireWriter(acquire)) {
        Reply::Acquired(acquired) => (acquired.epoch.get(), acquired.end.get()),
        reply => panic!("{reply:?}"),
    }
}

#[test]
fn conditional_batches_of_one_entry_see_those_before_them() {
    let mut machine = LogMachine::new();
    let batches = vec![batch(2, None), batch(1, None), batch(3, None), batch(1, None)];
    let terms = vec![terms(0, None, Some(0)), terms(1, None, Some(0)), terms(2, None, Some(2))];
    let outcomes = apply_under(&mut machine, 1, batches, terms);
    let mismatch = BatchOutcome::OffsetMismatch { end: Offset::new(2) };
    let appended = |base, count| BatchOutcome::Appended(types::range(Offset::new(base), count));
    assert_eq!(outcomes, [appended(0, 2), mismatch, appended(2, 3), appended(5, 1)]);
    assert_eq!(machine.row(Offset::new(3), &quipu_storage::MemoryKv::new(), KEY).unwrap().skipped, [1]);
}

#[test]
fn older_epoch_is_fenced_and_acquiring_tells_the_end_that_it_left() {
    let mut machine = LogMachine::new();
    assert_eq!(acquire(&mut machine, 1, 1), (1, 0));
    apply_under(&mut machine, 2, vec![batch(3, None)], vec![terms(0, Some(1), None)]);
    assert_eq!(acquire(&mut machine, 3, 2), (2, 3));
    let outcomes = apply_under(&mut machine, 4, vec![batch(1, None)], vec![terms(0, Some(1), Some(3))]);
    let (current, holder) = (WriterEpoch::new(2), "db-2".to_owned());
    assert_eq!(outcomes, [BatchOutcome::Fenced { current, holder }]);
    assert_eq!(machine.range().end(), Offset::new(3));
    assert_eq!(acquire(&mut machine, 5, 1), (1, 0), "a repeated request fences nobody");
    assert_eq!(machine.writer().epoch, WriterEpoch::new(2));
}

#[test]
fn retry_of_what_landed_gets_its_answer_under_a_newer_epoch_and_at_another_end() {
    let mut machine = LogMachine::new();
    acquire(&mut machine, 1, 1);
    let under = vec![terms(0, Some(1), Some(0))];
    apply_under(&mut machine, 2, vec![batch(2, producer(0))], under.clone());
    acquire(&mut machine, 3, 2);
    let outcomes = apply_under(&mut machine, 4, vec![batch(2, producer(0))], under.clone());
    assert_eq!(outcomes, [BatchOutcome::Duplicate(types::range(Offset::ZERO, 2))]);
    // What did not land is fenced, and its producer is as it was.
    let outcomes = apply_under(&mut machine, 5, vec![batch(1, producer(2))], under);
    assert!(matches!(outcomes[..], [BatchOutcome::Fenced { .. }]), "{outcomes:?}");
    let outcomes = apply_under(&mut machine, 6, vec![batch(1, producer(2))], vec![terms(0, Some(2), Some(2))]);
    assert_eq!(outcomes, [BatchOutcome::Appended(types::range(Offset::new(2), 1))]);
}

#[test]
fn fence_or_end_is_no_answer_to_a_producer_that_is_forgotten() {
    let mut machine = LogMachine::new();
    acquire(&mut machine, 1, 1);
    let under = vec![terms(0, Some(1), Some(0))];
    apply_under(&mut machine, 2, vec![batch(2, producer(0))], under.clone());
    acquire(&mut machine, 3, 2);
    // So much later that nobody knows any more that it had landed.
    let late = NOW + super::super::producers::PRODUCER_EXPIRY_MS + 1;
    apply(&mut machine, 4, late, vec![batch(1, None)]);
    let outcomes = apply_under(&mut machine, 5, vec![batch(2, producer(0))], under);
    assert_eq!(outcomes, [BatchOutcome::UnknownProducer]);
    let outcomes = apply_under(&mut machine, 6, vec![batch(2, producer(0))], vec![terms(0, Some(2), Some(0))]);
    assert_eq!(outcomes, [BatchOutcome::UnknownProducer]);
}

#[test]
fn exclusive_log_stays_so_in_a_copy_and_takes_nothing_without_an_epoch() {
    let mut machine = LogMachine::written_by(true);
    acquire(&mut machine, 1, 1);
    let mut copy = LogMachine::written_by(true);
    copy.install(&machine.image()).unwrap();
    assert_eq!(apply(&mut copy, 2, NOW, vec![batch(1, None)]), [BatchOutcome::WriterRequired]);
    let outcomes = apply_under(&mut copy, 3, vec![batch(1, None)], vec![terms(0, Some(1), None)]);
    assert_eq!(outcomes, [BatchOutcome::Appended(types::range(Offset::ZERO, 1))]);
    assert_eq!(acquire(&mut copy, 4, 1), (1, 0), "the copy knows the request");
}

#[test]
fn resolve_is_settled_where_it_is_applied_and_is_in_the_image() {
    let mut machine = LogMachine::new();
    apply(&mut machine, 1, NOW, vec![batch(2, producer(0))]);
    let resolve = |machine: &mut LogMachine, index, sequence| {
        let resolve = stored::Resolve { producer_id: NOW << 20, producer_epoch: 0, sequence };
        match run(machine, index, stored::log_command::Command::Resolve(resolve)) {
            Reply::Resolved(resolution) => resolution,
            reply => panic!("{reply:?}"),
        }
    };
    assert_eq!(resolve(&mut machine, 2, 0), Resolution::Landed(types::range(Offset::ZERO, 2)));
    assert_eq!(resolve(&mut machine, 3, 2), Resolution::Never);
    let mut copy = LogMachine::new();
    copy.install(&machine.image()).unwrap();
    assert_eq!(resolve(&mut copy, 4, 2), Resolution::Never);
    let late = apply(&mut copy, 5, NOW, vec![batch(1, producer(2))]);
    assert_eq!(late, [BatchOutcome::ProducerFenced { current: ProducerEpoch::new(1) }]);
}

#[test]
fn terms_that_fit_no_batch_are_refused() {
    let mut machine = LogMachine::new();
    let terms = vec![terms(1, None, Some(0))];
    let append = stored::AppendBatches { batches: vec![batch(1, None)], terms, ..stored::AppendBatches::default() };
    let command = Some(stored::log_command::Command::Append(append));
    let command = stored::LogCommand { stamp: NOW, command, ..stored::LogCommand::default() };
    machine.apply(id(1), &command.encode_to_vec().into()).unwrap_err();
}

#[test]
fn trim_moves_the_start_forward_up_to_the_end_and_never_back() {
    let mut machine = LogMachine::new();
    apply(&mut machine, 1, NOW, vec![batch(5, None)]);
    assert_eq!(trim(&mut machine, 2, 3), range(3, 5));
    assert_eq!(trim(&mut machine, 3, 1), range(3, 5));
    assert_eq!(trim(&mut machine, 4, u64::MAX), range(5, 5));
    assert_eq!(apply(&mut machine, 5, NOW, vec![batch(1, None)]), [BatchOutcome::Appended(range(5, 6))]);
    assert_eq!(machine.range(), range(5, 6));
}

#[test]
fn floor_is_below_the_entry_that_holds_the_start() {
    let kv = quipu_storage::MemoryKv::new();
    let key = ReplicaKey { group: quipu_protocol::LogId::new(1), replica: quipu_protocol::ReplicaId::new(1) };
    let mut machine = LogMachine::new();
    for index in 1..=4 {
        apply(&mut machine, index, NOW, vec![batch(2, None)]);
    }
    let bytes = batch(2, None).len() as u64;
    assert_eq!(machine.dispensable(&kv, key).unwrap(), None);
    trim(&mut machine, 5, 5);
    let expected = Dispensable { needed: Some(Index::new(3)), bytes: 2 * bytes };
    assert_eq!(machine.dispensable(&kv, key).unwrap(), Some(expected));
    trim(&mut machine, 6, 8);
    let all = machine.dispensable(&kv, key).unwrap().expect("nothing is needed");
    assert_eq!(all.needed, None);
    assert!(all.bytes > 4 * bytes, "the batches and what they came in: {all:?}");
}

#[test]
fn a_log_without_records_needs_none_of_what_its_cursors_were_told() {
    let kv = quipu_storage::MemoryKv::new();
    let key = ReplicaKey { group: quipu_protocol::LogId::new(1), replica: quipu_protocol::ReplicaId::new(1) };
    let mut machine = LogMachine::new();
    assert_eq!(machine.dispensable(&kv, key).unwrap(), None);
    let before = machine.trimmed();
    for index in 1..=1_000 {
        let action = stored::cursor_command::Action::Commit(stored::CommitCursor {
            of: 9,
            position: index,
            metadata: vec![0; 100].into(),
            ..stored::CommitCursor::default()
        });
        let command = stored::CursorCommand { cursor: "in".to_owned(), action: Some(action) };
        let commands = vec![stored::WaitingCommand { command: Some(Waiting::Cursor(command)) }];
        let append = stored::AppendBatches { commands, ..stored::AppendBatches::default() };
        run(&mut machine, index, stored::log_command::Command::Append(append));
    }
    assert_ne!(machine.trimmed(), before, "somebody has to look");
    let all = machine.dispensable(&kv, key).unwrap().expect("nothing is needed");
    assert_eq!(all.needed, None);
    assert!(all.bytes > 100 * 1_000, "{all:?}");
    machine.rise(&machine.image()).unwrap();
    assert_eq!(machine.dispensable(&kv, key).unwrap(), None);
    // The next record's entry stays, whatever is told to cursors after it.
    apply(&mut machine, 1_001, NOW, vec![batch(1, None)]);
    assert_eq!(machine.dispensable(&kv, key).unwrap(), None);
}

#[test]
fn nothing_below_the_floor_can_be_read_whatever_the_start() {
    let mut machine = LogMachine::new();
    apply(&mut machine, 1, NOW, vec![batch(4, None)]);
    let image = machine.image();
    let mut installed = LogMachine::new();
    installed.install(&image).unwrap();
    installed.rise(&image).unwrap();
    assert_eq!(installed.range(), range(4, 4));
    assert_eq!(installed.image(), image, "the floor is no part of the state");
}

#[test]
fn log_time_never_goes_back() {
    let mut machine = LogMachine::new();
    apply(&mut machine, 1, NOW, vec![batch(1, None)]);
    apply(&mut machine, 2, NOW - 60_000, vec![batch(1, None)]);
    assert_eq!(machine.time(), Timestamp::new(NOW));
    apply(&mut machine, 3, NOW + 1, vec![batch(1, None)]);
    assert_eq!(machine.time(), Timestamp::new(NOW + 1));
}

#[test]
fn unknown_command_stops_the_replica() {
    let mut machine = LogMachine::new();
    let unknown = stored::LogCommand { stamp: NOW, ..stored::LogCommand::default() }.encode_to_vec();
    machine.apply(id(1), &unknown.into()).unwrap_err();
    machine.apply(id(1), &Bytes::from_static(&[0xff; 4])).unwrap_err();
}

#[test]
fn image_restores_the_same_state() {
    let mut machine = LogMachine::new();
    apply(&mut machine, 1, NOW, vec![batch(3, producer(0)), batch(1, None)]);
    let mut restored = LogMachine::new();
    restored.install(&machine.image()).unwrap();
    assert_eq!(restored.image(), machine.image());
    assert_eq!(restored.range(), range(0, 4));
    let outcomes = apply(&mut restored, 2, NOW, vec![batch(3, producer(0))]);
    assert_eq!(outcomes, [BatchOutcome::Duplicate(range(0, 3))]);
}

#[test]
fn image_at_the_end_of_all_offsets_takes_no_append() {
    let install = |end| {
        let mut machine = LogMachine::new();
        let state = stored::LogState { end, ..Default::default() }.encode_to_vec();
        machine.install(&state.into()).map(|()| machine)
    };
    install(LAST_OFFSET + 1).unwrap_err();
    install(u64::MAX).unwrap_err();
    let mut machine = install(LAST_OFFSET - 2).unwrap();
    let outcomes = apply(&mut machine, 1, NOW, vec![batch(3, None), batch(2, None), batch(1, None)]);
    let appended = BatchOutcome::Appended(range(LAST_OFFSET - 2, LAST_OFFSET));
    assert_eq!(outcomes, [BatchOutcome::Malformed, appended, BatchOutcome::Malformed]);
    install(machine.range().end().get()).unwrap();
}

#[test]
fn image_that_remembers_an_append_past_all_offsets_is_refused() {
    let append = stored::Remembered { first_sequence: 0, last_sequence: 9, base_offset: u64::MAX - 3 };
    let producer = stored::Producer { id: 1, epoch: 0, last_append: NOW, appends: vec![append], ended: None };
    let image = stored::LogState { producers: vec![producer], ..Default::default() }.encode_to_vec();
    LogMachine::new().install(&image.into()).unwrap_err();
}

#[test]
fn image_that_contradicts_itself_is_refused() {
    let image = stored::LogState { start: 5, end: 4, ..Default::default() }.encode_to_vec();
    LogMachine::new().install(&image.into()).unwrap_err();
}

#[test]
fn fence_or_end_is_no_answer_to_a_producer_whose_epoch_is_over() {
    let mut machine = LogMachine::new();
    apply_under(&mut machine, 1, vec![batch(2, producer(0))], vec![terms(0, None, Some(0))]);
    let resolve = stored::Resolve { producer_id: NOW << 20, producer_epoch: 0, sequence: 2 };
    run(&mut machine, 2, stored::log_command::Command::Resolve(resolve));
    // It had landed, and its epoch ended before it was sent again.
    let outcomes = apply_under(&mut machine, 3, vec![batch(2, producer(0))], vec![terms(0, None, Some(0))]);
    assert_eq!(outcomes, [BatchOutcome::ProducerFenced { current: ProducerEpoch::new(1) }]);
}

#[test]
fn blank_machine_is_of_a_log_like_this_one() {
    let mut blank = LogMachine::written_by(true).blank();
    assert_eq!(apply(&mut blank, 1, NOW, vec![batch(1, None)]), [BatchOutcome::WriterRequired]);
}
