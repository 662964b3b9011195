use super::*;

fn range(start: u64, end: u64) -> OffsetRange {
    OffsetRange::new(Offset::new(start), Offset::new(end))
}

fn new(holder: &str, offset: u64) -> stored::HoldLease {
    stored::HoldLease { holder: holder.to_owned(), offset: Some(offset), ms: 100, ..Default::default() }
}

fn ask(leases: &mut Leases, wanted: stored::HoldLease, now: i64) -> Result<Lease, LeaseRefused> {
    leases.hold(wanted, Timestamp::new(now), range(10, 50))
}

/// By somebody who knows what was granted.
fn hold(leases: &mut Leases, holder: &str, offset: u64, now: i64) -> Result<Lease, LeaseRefused> {
    let after = leases.granted();
    ask(leases, stored::HoldLease { after, ..new(holder, offset) }, now)
}

#[test]
fn a_lease_is_held_until_it_ends_or_is_released() {
    let mut leases = Leases::default();
    let lease = Lease { holder: "a".to_owned(), grant: 1, offset: Offset::new(20), until: Timestamp::new(105) };
    assert_eq!(hold(&mut leases, "a", 20, 5), Ok(lease.clone()));
    leases.expire(Timestamp::new(104));
    let stranded_by = |to, past_before| leases.stranded_by(Offset::new(to), Offset::new(past_before));
    assert_eq!(stranded_by(21, 0), std::slice::from_ref(&lease));
    assert_eq!(stranded_by(21, 20), std::slice::from_ref(&lease));
    assert_eq!(stranded_by(20, 0), []);
    assert_eq!(stranded_by(21, 21), []);
    leases.expire(Timestamp::new(105));
    assert_eq!(leases.all().count(), 0);
    let again = hold(&mut leases, "a", 20, 5).unwrap();
    assert_eq!((again.grant, leases.release("a", 2), leases.release("a", 2)), (2, Ok(true), Ok(false)));
}

#[test]
fn a_renewal_stays_where_the_lease_is_or_moves_it_and_makes_none() {
    let mut leases = Leases::default();
    let renew = |leases: &mut Leases, offset| ask(leases, stored::HoldLease { offset, grant: 1, ..new("a", 0) }, 50);
    assert_eq!(renew(&mut leases, None), Err(LeaseRefused::NotHeld { now: None }));
    hold(&mut leases, "a", 20, 0).unwrap();
    let renewed = renew(&mut leases, None).unwrap();
    assert_eq!((renewed.grant, renewed.offset.get(), renewed.until.get()), (1, 20, 150));
    assert_eq!(renew(&mut leases, Some(30)).unwrap().offset.get(), 30);
    let outside = Err(LeaseRefused::OutOfRange { range: range(10, 50) });
    assert_eq!(renew(&mut leases, Some(9)), outside);
    assert_eq!(renew(&mut leases, Some(51)), outside);
}

#[test]
fn what_comes_late_for_one_grant_does_nothing_to_the_next() {
    let mut leases = Leases::default();
    let first = stored::HoldLease { request_id: 7, ..new("a", 20) };
    assert_eq!(ask(&mut leases, first.clone(), 0).unwrap().grant, 1);
    leases.release("a", 1).unwrap();
    let gone = Err(LeaseRefused::NotHeld { now: None });
    assert_eq!(ask(&mut leases, first.clone(), 1), gone, "it is not held again");
    let second = stored::HoldLease { request_id: 8, after: 1, ..new("a", 30) };
    let held = ask(&mut leases, second.clone(), 2).unwrap();
    // Whoever holds it twice at a time has the second grant alone.
    let other = Err(LeaseRefused::NotHeld { now: Some(2) });
    assert_eq!(ask(&mut leases, first, 3), other);
    assert_eq!(ask(&mut leases, stored::HoldLease { grant: 1, request_id: 9, ..new("a", 40) }, 3), other);
    assert_eq!(leases.release("a", 1), Err(LeaseRefused::NotHeld { now: Some(2) }));
    assert_eq!(leases.all().collect::<Vec<_>>(), std::slice::from_ref(&held));
    assert_eq!(ask(&mut leases, second, 4), Ok(held), "a repeat is told what there is");
}

#[test]
fn a_grant_that_comes_first_when_its_caller_has_gone_on_is_none() {
    let mut leases = Leases::default();
    let slow = |after| stored::HoldLease { request_id: 7, after, ..new("a", 20) };
    let held = ask(&mut leases, stored::HoldLease { request_id: 8, ..new("a", 30) }, 0).unwrap();
    assert_eq!(ask(&mut leases, slow(0), 1), Err(LeaseRefused::NotHeld { now: Some(1) }));
    assert_eq!(leases.all().collect::<Vec<_>>(), [held]);
    leases.release("a", 1).unwrap();
    assert_eq!(ask(&mut leases, slow(0), 1), Err(LeaseRefused::NotHeld { now: None }));
    // Others are none of its caller's, as long as it is known who got them.
    for _ in 0..REMEMBERED_GRANTS {
        hold(&mut leases, "b", 20, 1).unwrap();
    }
    assert_eq!(ask(&mut leases, slow(0), 1), Err(LeaseRefused::TooLate));
    assert_eq!(ask(&mut leases, slow(1), 1).map(|lease| lease.holder), Ok("a".to_owned()));
}

#[test]
fn a_renewal_that_comes_again_undoes_none_that_came_after_it() {
    let mut leases = Leases::default();
    hold(&mut leases, "a", 20, 0).unwrap();
    let renewal = |offset, request_id| stored::HoldLease { grant: 1, request_id, ..new("a", offset) };
    ask(&mut leases, renewal(30, 1), 10).unwrap();
    let last = ask(&mut leases, renewal(25, 2), 20).unwrap();
    assert_eq!(ask(&mut leases, renewal(30, 1), 15), Ok(last));
    let most = u64::try_from(REMEMBERED_RENEWALS).unwrap();
    for id in 3..=most + 1 {
        ask(&mut leases, renewal(26, id), 20).unwrap();
    }
    assert_eq!(ask(&mut leases, renewal(25, 2), 30).unwrap().offset.get(), 26, "it is one of the last");
    ask(&mut leases, renewal(26, most + 2), 30).unwrap();
    assert_eq!(ask(&mut leases, renewal(25, 2), 30).unwrap().offset.get(), 25, "it is forgotten");
}

#[test]
fn there_are_so_many_and_names_are_so_long() {
    let mut leases = Leases::default();
    for n in 0..MAX_LEASES {
        hold(&mut leases, &n.to_string(), 20, 0).unwrap();
    }
    assert_eq!(hold(&mut leases, "one more", 20, 0), Err(LeaseRefused::TooMany));
    hold(&mut leases, "7", 21, 0).expect("it takes the place of the one that is there");
    for bad in [String::new(), "x".repeat(MAX_LEASE_HOLDER_BYTES + 1)] {
        assert_eq!(hold(&mut leases, &bad, 20, 0), Err(LeaseRefused::BadHolder));
    }
}

#[test]
fn what_is_stranded_is_let_go_of_and_named() {
    let mut leases = Leases::default();
    for (holder, offset) in [("a", 20), ("b", 30)] {
        hold(&mut leases, holder, offset, 0).unwrap();
    }
    let gone = leases.strand(Offset::new(30));
    assert_eq!(gone.iter().map(|lease| lease.holder.as_str()).collect::<Vec<_>>(), ["a"]);
    assert_eq!(leases.all().map(|lease| lease.holder).collect::<Vec<_>>(), ["b"]);
}

#[test]
fn an_image_is_taken_over_as_it_is_and_a_bad_one_refused() {
    let mut leases = Leases::default();
    for (holder, request_id) in [("gone", 4), ("a", 5), ("b", 6)] {
        ask(&mut leases, stored::HoldLease { request_id, ..new(holder, 20) }, 0).unwrap();
    }
    ask(&mut leases, stored::HoldLease { grant: 2, request_id: 7, ..new("a", 20) }, 0).unwrap();
    leases.release("gone", 1).unwrap();
    leases.count(77);
    let image = |start, end| {
        let mut image = stored::LogState { start, end, ..stored::LogState::default() };
        leases.image(&mut image);
        image
    };
    assert_eq!(Leases::from_image(&mut image(20, 50)).unwrap(), leases);
    let refused = |image: &mut stored::LogState| Leases::from_image(image).unwrap_err();
    refused(&mut image(21, 50));
    refused(&mut image(0, 19));
    let wrong: [fn(&mut stored::LogState); 9] = [
        |image| image.leases[1] = image.leases[0].clone(),
        |image| image.leases[0].holder.clear(),
        |image| image.leases[0].grant = 0,
        |image| image.leases[0].recent = vec![1; REMEMBERED_RENEWALS + 1],
        |image| image.lease_grants = 2,
        |image| image.lease_grants = 4,
        |image| drop(image.recent_grants.remove(1)),
        |image| image.lease_grants = u64::MAX,
        |image| image.lease_bytes = u64::MAX,
    ];
    for spoil in wrong {
        let mut image = image(20, 50);
        spoil(&mut image);
        refused(&mut image);
    }
}
