//! What a client is told of leases, and of trims that meet them.

mod fake;

use std::time::Duration;

use fake::{FakeCluster, log};
use quipu_sdk::{Lease, LeaseError, Offset, TrimError};

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_trim_names_whom_it_would_strand_and_a_forced_one_whom_it_did() {
    let cluster = FakeCluster::start(3).await;
    cluster.fill(&["a", "b", "c", "d"]);
    let client = cluster.client();
    let held = client.hold_lease(&log(), "replica-7", Some(Offset::new(2)), MINUTE).await.expect("granted");
    assert_eq!((held.holder.as_str(), held.offset), ("replica-7", Offset::new(2)));
    assert_eq!(client.leases(&log()).await.expect("listed"), std::slice::from_ref(&held));

    let refused = client.trim(&log(), Offset::new(3)).await.expect_err("it strands");
    assert_eq!(refused.to_string(), "it would strand who holds a lease: replica-7 (from 2 on)");
    assert!(refused.has_no_side_effects() && !refused.is_retryable());
    assert!(matches!(refused, TrimError::StrandsLeases { leases, more: 0 } if leases == std::slice::from_ref(&held)));

    let trimmed = client.trim_past_leases(&log(), Offset::new(3)).await.expect("forced");
    assert_eq!((trimmed.range.start(), trimmed.stranded), (Offset::new(3), vec![held.clone()]));
    let lost = client.renew_lease(&log(), &held, None, MINUTE).await.expect_err("it is lost");
    assert!(matches!(lost, LeaseError::NotHeld { holder } if holder == "replica-7"));
}

#[tokio::test]
async fn a_lease_is_renewed_where_it_is_and_released_once() {
    let cluster = FakeCluster::start(3).await;
    cluster.fill(&["a", "b"]);
    let client = cluster.client();
    let held = client.hold_lease(&log(), "a", Some(Offset::new(1)), MINUTE).await.expect("granted");
    let Lease { grant, offset, .. } = client.renew_lease(&log(), &held, None, 2 * MINUTE).await.expect("renewed");
    assert_eq!((grant, offset), (held.grant, Offset::new(1)));
    assert!(client.release_lease(&log(), &held).await.expect("released"));
    assert!(!client.release_lease(&log(), &held).await.expect("nothing to release"));
    assert_eq!(client.trim(&log(), Offset::new(2)).await.expect("nobody is stranded").start(), Offset::new(2));
}

#[tokio::test]
async fn a_lease_that_another_one_has_replaced_is_neither_renewed_nor_released() {
    let cluster = FakeCluster::start(3).await;
    cluster.fill(&["a", "b"]);
    let client = cluster.client();
    let first = client.hold_lease(&log(), "a", Some(Offset::new(1)), MINUTE).await.expect("granted");
    let second = client.hold_lease(&log(), "a", None, MINUTE).await.expect("granted");
    assert!(second.grant > first.grant && second.offset == first.offset, "{second:?} after {first:?}");
    let refusals = [
        client.renew_lease(&log(), &first, None, MINUTE).await.expect_err("it is another one"),
        client.release_lease(&log(), &first).await.expect_err("it is another one"),
    ];
    for refused in refusals {
        assert!(refused.has_no_side_effects() && !refused.is_retryable());
        assert!(matches!(refused, LeaseError::Replaced { holder, grant } if holder == "a" && grant == second.grant));
    }
    assert_eq!(client.leases(&log()).await.expect("listed"), [second]);
}
