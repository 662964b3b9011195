use super::*;

const NOW: Timestamp = Timestamp::new(1_700_000_000_000);

fn id(counter: i64) -> ProducerId {
    ProducerId::new((NOW.get() << COUNTER_BITS) + counter)
}

fn at(producer: ProducerId, epoch: i16, sequence: i32) -> Producer {
    Producer { id: producer, epoch: ProducerEpoch::new(epoch), sequence: Sequence::new(sequence) }
}

fn appended(base: u64, count: u64) -> BatchOutcome {
    BatchOutcome::Appended(types::range(Offset::new(base), count))
}

fn duplicate(base: u64, count: u64) -> BatchOutcome {
    BatchOutcome::Duplicate(types::range(Offset::new(base), count))
}

/// Appends and asserts that it is accepted.
fn accept(producers: &mut Producers, producer: Producer, count: u32, base: u64, now: Timestamp) {
    assert_eq!(producers.append(producer, count, Offset::new(base), now), appended(base, count.into()));
}

#[test]
fn exact_repeat_gets_its_first_answer() {
    let mut producers = Producers::default();
    accept(&mut producers, at(id(1), 0, 0), 3, 10, NOW);
    accept(&mut producers, at(id(1), 0, 3), 2, 20, NOW);
    assert_eq!(producers.append(at(id(1), 0, 0), 3, Offset::new(30), NOW), duplicate(10, 3));
    assert_eq!(producers.append(at(id(1), 0, 3), 2, Offset::new(30), NOW), duplicate(20, 2));
}

#[test]
fn repeat_with_another_count_is_out_of_sequence() {
    let mut producers = Producers::default();
    accept(&mut producers, at(id(1), 0, 0), 3, 10, NOW);
    let outcome = producers.append(at(id(1), 0, 0), 2, Offset::new(30), NOW);
    assert_eq!(outcome, BatchOutcome::OutOfSequence { expected: Sequence::new(3) });
}

#[test]
fn gap_is_out_of_sequence_and_changes_nothing() {
    let mut producers = Producers::default();
    accept(&mut producers, at(id(1), 0, 0), 1, 0, NOW);
    let outcome = producers.append(at(id(1), 0, 2), 1, Offset::new(1), NOW);
    assert_eq!(outcome, BatchOutcome::OutOfSequence { expected: Sequence::new(1) });
    accept(&mut producers, at(id(1), 0, 1), 1, 1, NOW);
}

#[test]
fn lower_epoch_is_fenced_even_when_it_repeats_itself() {
    let mut producers = Producers::default();
    accept(&mut producers, at(id(1), 0, 0), 1, 0, NOW);
    accept(&mut producers, at(id(1), 4, 0), 1, 1, NOW);
    let fenced = BatchOutcome::ProducerFenced { current: ProducerEpoch::new(4) };
    assert_eq!(producers.append(at(id(1), 0, 1), 1, Offset::new(2), NOW), fenced);
    assert_eq!(producers.append(at(id(1), 0, 0), 1, Offset::new(2), NOW), fenced);
}

#[test]
fn higher_epoch_starts_at_zero() {
    let mut producers = Producers::default();
    accept(&mut producers, at(id(1), 0, 0), 1, 0, NOW);
    let outcome = producers.append(at(id(1), 1, 1), 1, Offset::new(1), NOW);
    assert_eq!(outcome, BatchOutcome::OutOfSequence { expected: Sequence::new(0) });
    accept(&mut producers, at(id(1), 1, 0), 1, 1, NOW);
}

#[test]
fn unknown_producer_starts_at_zero() {
    let mut producers = Producers::default();
    assert_eq!(producers.append(at(id(1), 0, 5), 1, Offset::ZERO, NOW), BatchOutcome::UnknownProducer);
    accept(&mut producers, at(id(1), 0, 0), 1, 0, NOW);
}

#[test]
fn unknown_producer_allotted_too_long_ago_is_refused() {
    let late = Timestamp::new(NOW.get() + PRODUCER_EXPIRY_MS + 1);
    let mut producers = Producers::default();
    assert_eq!(producers.append(at(id(1), 0, 0), 1, Offset::ZERO, late), BatchOutcome::UnknownProducer);
    accept(&mut producers, at(id(1), 0, 0), 1, 0, Timestamp::new(late.get() - 1));
}

#[test]
fn forgotten_producer_cannot_land_a_retry_twice() {
    let mut producers = Producers::default();
    accept(&mut producers, at(id(1), 0, 0), 1, 0, NOW);
    let late = Timestamp::new(NOW.get() + PRODUCER_EXPIRY_MS + 1);
    producers.expire(late);
    assert!(producers.known.is_empty());
    assert_eq!(producers.append(at(id(1), 0, 0), 1, Offset::new(1), late), BatchOutcome::UnknownProducer);
}

#[test]
fn expiry_counts_from_the_last_append() {
    let mut producers = Producers::default();
    accept(&mut producers, at(id(1), 0, 0), 1, 0, NOW);
    let later = Timestamp::new(NOW.get() + 1000);
    accept(&mut producers, at(id(1), 0, 1), 1, 1, later);
    producers.expire(Timestamp::new(NOW.get() + PRODUCER_EXPIRY_MS + 1));
    assert_eq!(producers.append(at(id(1), 0, 1), 1, Offset::new(2), later), duplicate(1, 1));
    producers.expire(Timestamp::new(later.get() + PRODUCER_EXPIRY_MS + 1));
    assert!(producers.known.is_empty() && producers.by_time.is_empty());
}

#[test]
fn sequence_wraps_to_zero() {
    let mut producers = Producers::default();
    accept(&mut producers, at(id(1), 0, 0), i32::MAX as u32, 0, NOW);
    // 2³¹−1 is the last sequence; this batch takes it and 0.
    accept(&mut producers, at(id(1), 0, i32::MAX), 2, i32::MAX as u64, NOW);
    assert_eq!(producers.append(at(id(1), 0, i32::MAX), 2, Offset::ZERO, NOW), duplicate(i32::MAX as u64, 2));
    accept(&mut producers, at(id(1), 0, 1), 1, i32::MAX as u64 + 2, NOW);
}

#[test]
fn as_many_appends_as_may_be_in_flight_are_remembered() {
    let mut producers = Producers::default();
    let remembered = i32::try_from(REMEMBERED_APPENDS).unwrap();
    for (sequence, offset) in (0..=remembered).zip(0..) {
        accept(&mut producers, at(id(1), 0, sequence), 1, offset, NOW);
    }
    assert_eq!(producers.append(at(id(1), 0, 1), 1, Offset::ZERO, NOW), duplicate(1, 1));
    let forgotten = producers.append(at(id(1), 0, 0), 1, Offset::ZERO, NOW);
    assert_eq!(forgotten, BatchOutcome::OutOfSequence { expected: Sequence::new(remembered + 1) });
}

#[test]
fn the_producer_that_appended_longest_ago_makes_room() {
    let mut producers = Producers::default();
    for n in 0..MAX_PRODUCERS as i64 {
        accept(&mut producers, at(id(n), 0, 0), 1, 0, Timestamp::new(NOW.get() + n));
    }
    let later = Timestamp::new(NOW.get() + MAX_PRODUCERS as i64);
    accept(&mut producers, at(id(0), 0, 1), 1, 0, later);
    accept(&mut producers, at(id(MAX_PRODUCERS as i64), 0, 0), 1, 0, later);
    assert_eq!(producers.known.len(), MAX_PRODUCERS);
    assert_eq!(producers.append(at(id(1), 0, 1), 1, Offset::ZERO, later), BatchOutcome::UnknownProducer);
    assert_eq!(producers.append(at(id(0), 0, 1), 1, Offset::ZERO, later), duplicate(0, 1));
}

#[test]
fn producer_that_made_room_cannot_land_its_first_append_twice() {
    let mut producers = Producers::default();
    for n in 0..=MAX_PRODUCERS as i64 {
        accept(&mut producers, at(id(n), 0, 0), 1, 0, NOW);
    }
    assert_eq!(producers.append(at(id(0), 0, 0), 1, Offset::ZERO, NOW), BatchOutcome::UnknownProducer);
}

#[test]
fn image_restores_the_same_producers() {
    let mut producers = Producers::default();
    accept(&mut producers, at(id(1), 3, 0), 5, 0, NOW);
    accept(&mut producers, at(id(1), 3, 5), 5, 5, NOW);
    accept(&mut producers, at(id(2), 0, 0), 1, 10, Timestamp::new(NOW.get() + 7));
    assert_eq!(Producers::from_image(&producers.image(), producers.forgotten()).unwrap(), producers);
}

#[test]
fn damaged_image_is_refused() {
    let mut producers = Producers::default();
    accept(&mut producers, at(id(1), 3, 0), 5, 0, NOW);
    let image = producers.image();
    let damage: [fn(&mut stored::Producer); 3] = [
        |producer| producer.epoch = 70_000,
        |producer| producer.appends.clear(),
        |producer| {
            producer.appends[0].first_sequence = -1;
        },
    ];
    for damage in damage {
        let mut image = image.clone();
        damage(&mut image[0]);
        Producers::from_image(&image, ProducerId::new(0)).unwrap_err();
    }
    Producers::from_image(&[image[0].clone(), image[0].clone()], ProducerId::new(0)).unwrap_err();
}

#[test]
fn ids_grow_and_carry_their_time_whatever_the_clock_does() {
    let first = next_producer_id(ProducerId::new(0), NOW);
    assert_eq!(allotted_at(first), NOW);
    let clock_went_back = next_producer_id(ProducerId::new(first.get() + 1), Timestamp::new(NOW.get() - 5000));
    assert_eq!(clock_went_back.get(), first.get() + 1);
    let later = next_producer_id(clock_went_back, Timestamp::new(NOW.get() + 1));
    assert_eq!(allotted_at(later).get(), NOW.get() + 1);
    assert!(next_producer_id(ProducerId::new(0), Timestamp::new(-1)).get() > 0);
    assert!(next_producer_id(ProducerId::new(0), Timestamp::new(i64::MAX)).get() > 0);
}

fn resolved(base: u64, count: u64) -> Resolution {
    Resolution::Landed(types::range(Offset::new(base), count))
}

#[test]
fn what_landed_is_resolved_to_its_offsets_and_its_producer_goes_on() {
    let mut producers = Producers::default();
    accept(&mut producers, at(id(1), 0, 0), 3, 10, NOW);
    accept(&mut producers, at(id(1), 0, 3), 2, 20, NOW);
    assert_eq!(producers.resolve(at(id(1), 0, 0), NOW), resolved(10, 3));
    assert_eq!(producers.resolve(at(id(1), 0, 3), NOW), resolved(20, 2));
    accept(&mut producers, at(id(1), 0, 5), 1, 30, NOW);
}

#[test]
fn what_has_not_landed_never_will_and_asking_again_says_so() {
    let mut producers = Producers::default();
    accept(&mut producers, at(id(1), 0, 0), 3, 10, NOW);
    assert_eq!(producers.resolve(at(id(1), 0, 3), NOW), Resolution::Never);
    let fenced = BatchOutcome::ProducerFenced { current: ProducerEpoch::new(1) };
    assert_eq!(producers.append(at(id(1), 0, 3), 1, Offset::new(20), NOW), fenced);
    assert_eq!(producers.resolve(at(id(1), 0, 3), NOW), Resolution::Never);
    assert_eq!(producers.resolve(at(id(1), 0, 4), NOW), Resolution::Never);
    // What had landed before still says so, and the next epoch begins at 0.
    assert_eq!(producers.resolve(at(id(1), 0, 0), NOW), resolved(10, 3));
    accept(&mut producers, at(id(1), 1, 0), 1, 20, NOW);
    assert_eq!(producers.resolve(at(id(1), 0, 3), NOW), Resolution::Never);
}

#[test]
fn first_append_of_a_producer_that_never_came_never_will() {
    let mut producers = Producers::default();
    assert_eq!(producers.resolve(at(id(1), 0, 0), NOW), Resolution::Never);
    let fenced = BatchOutcome::ProducerFenced { current: ProducerEpoch::new(1) };
    assert_eq!(producers.append(at(id(1), 0, 0), 1, Offset::new(0), NOW), fenced);
    accept(&mut producers, at(id(1), 1, 0), 1, 0, NOW);
}

#[test]
fn append_of_an_epoch_that_has_not_begun_never_lands() {
    let mut producers = Producers::default();
    accept(&mut producers, at(id(1), 0, 0), 1, 0, NOW);
    assert_eq!(producers.resolve(at(id(1), 3, 0), NOW), Resolution::Never);
    let fenced = BatchOutcome::ProducerFenced { current: ProducerEpoch::new(4) };
    assert_eq!(producers.append(at(id(1), 3, 0), 1, Offset::new(1), NOW), fenced);
}

#[test]
fn what_is_not_remembered_is_not_known_any_more() {
    let mut producers = Producers::default();
    for n in 0..=REMEMBERED_APPENDS {
        let sequence = i32::try_from(n).unwrap();
        accept(&mut producers, at(id(1), 0, sequence), 1, n as u64, NOW);
    }
    assert_eq!(producers.resolve(at(id(1), 0, 0), NOW), Resolution::Forgotten);
    assert_eq!(producers.resolve(at(id(1), 0, 1), NOW), resolved(1, 1));
    accept(&mut producers, at(id(1), 1, 0), 1, 100, NOW);
    accept(&mut producers, at(id(1), 2, 0), 1, 101, NOW);
    assert_eq!(producers.resolve(at(id(1), 0, 1), NOW), Resolution::Forgotten);
    let late = Timestamp::new(NOW.get() + PRODUCER_EXPIRY_MS + 1);
    producers.expire(late);
    assert_eq!(producers.resolve(at(id(1), 2, 0), late), Resolution::Forgotten);
    assert_eq!(producers.resolve(at(id(2), 0, 0), late), Resolution::Forgotten);
}

#[test]
fn last_epoch_of_a_producer_ends_without_another_one() {
    let mut producers = Producers::default();
    accept(&mut producers, at(id(1), i16::MAX, 0), 1, 0, NOW);
    assert_eq!(producers.resolve(at(id(1), i16::MAX, 1), NOW), Resolution::Never);
    let fenced = BatchOutcome::ProducerFenced { current: ProducerEpoch::new(i16::MAX) };
    assert_eq!(producers.append(at(id(1), i16::MAX, 1), 1, Offset::new(1), NOW), fenced);
    assert_eq!(producers.recall(at(id(1), i16::MAX, 0), 1), None);
    assert_eq!(producers.resolve(at(id(1), i16::MAX, 0), NOW), resolved(0, 1));
}

#[test]
fn sequences_that_wrapped_are_resolved() {
    let mut producers = Producers::default();
    let known = Known {
        epoch: ProducerEpoch::new(0),
        last_append: NOW,
        appends: VecDeque::from([Remembered {
            first: Sequence::new(i32::MAX),
            last: Sequence::new(1),
            base: Offset::new(7),
        }]),
        ended: None,
    };
    producers.known.insert(id(1), known);
    producers.by_time.insert((NOW, id(1)));
    assert_eq!(producers.resolve(at(id(1), 0, i32::MAX), NOW), resolved(7, 3));
    assert_eq!(producers.resolve(at(id(1), 0, i32::MAX - 1), NOW), Resolution::Forgotten);
    assert_eq!(producers.resolve(at(id(1), 0, 2), NOW), Resolution::Never);
}

#[test]
fn image_of_ended_epochs_is_what_it_was_made_of() {
    let mut producers = Producers::default();
    accept(&mut producers, at(id(1), 0, 0), 3, 10, NOW);
    accept(&mut producers, at(id(2), 0, 0), 1, 13, NOW);
    producers.resolve(at(id(1), 0, 3), NOW);
    producers.resolve(at(id(3), 0, 0), NOW);
    let image = producers.image();
    assert_eq!(Producers::from_image(&image, ProducerId::new(0)).unwrap(), producers);
    let mut without = image.clone();
    without.iter_mut().for_each(|producer| producer.ended = None);
    Producers::from_image(&without, ProducerId::new(0)).unwrap_err();
    let mut later = image;
    later.iter_mut().filter_map(|producer| producer.ended.as_mut()).for_each(|ended| ended.epoch = 9);
    Producers::from_image(&later, ProducerId::new(0)).unwrap_err();
}

#[test]
fn epochs_in_which_nothing_landed_are_resolved_and_leave_what_was_remembered() {
    let mut producers = Producers::default();
    accept(&mut producers, at(id(1), 1, 0), 1, 7, NOW);
    assert_eq!(producers.resolve(at(id(1), 0, 0), NOW), Resolution::Never, "its first append never came");
    accept(&mut producers, at(id(2), 0, 0), 2, 8, NOW);
    assert_eq!(producers.resolve(at(id(2), 1, 0), NOW), Resolution::Never);
    assert_eq!(producers.resolve(at(id(2), 0, 0), NOW), resolved(8, 2), "whatever was resolved before");
    accept(&mut producers, at(id(2), 4, 0), 1, 10, NOW);
    assert_eq!(producers.resolve(at(id(2), 3, 5), NOW), Resolution::Never);
    assert_eq!(producers.resolve(at(id(2), 0, 0), NOW), resolved(8, 2));
}
