//! Leases and the trims that meet them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join, join_all};
use quipu_protocol::v1;
use quipu_protocol::v1::error::Kind;
use tonic::{Response, Status};

use crate::batches::batch;
use crate::clock::MovedClock;
use crate::http::metrics;
use crate::node::{LOG, Node, config, config_with, kind, within};

async fn node() -> Node {
    having_a_log(Node::start_as(config(1)).await).await
}

/// One where renewals wait for a minute, unless they cannot.
async fn slow() -> (Arc<MovedClock>, Node) {
    let (clock, environment) = MovedClock::environment();
    let config = config_with(1, &[("log.cursor_commit_interval_ms", 60_000)]);
    (clock, having_a_log(Node::start_in(environment, config).await).await)
}

async fn having_a_log(node: Node) -> Node {
    let config_of_log = v1::LogConfig { max_lease_ms: 600_000, ..v1::LogConfig::default() };
    let node = node.having(config_of_log).await;
    for value in ["a", "b", "c", "d"] {
        node.append(LOG, batch(&[value])).await.expect("is appended");
    }
    node
}

fn lease(holder: &str, offset: u64) -> v1::HoldLeaseRequest {
    let (log, holder) = (LOG.to_owned(), holder.to_owned());
    v1::HoldLeaseRequest {
        log,
        holder,
        offset: Some(offset),
        ms: 60_000,
        request_id: quipu_sdk::system::environment().random.next().max(1),
        ..v1::HoldLeaseRequest::default()
    }
}

fn renewal(lease: &v1::Lease, offset: Option<u64>) -> v1::HoldLeaseRequest {
    v1::HoldLeaseRequest { offset, grant: lease.grant, ..self::lease(&lease.holder, 0) }
}

fn not_held(holder: &str, grant: Option<u64>) -> Kind {
    Kind::LeaseNotHeld(v1::LeaseNotHeld { holder: holder.to_owned(), grant })
}

async fn release(node: &Node, lease: &v1::Lease) -> Result<bool, Status> {
    let (log, holder) = (LOG.to_owned(), lease.holder.clone());
    let request = v1::ReleaseLeaseRequest { log, holder, log_id: 0, grant: lease.grant };
    within(node.records().release_lease(request)).await.map(|answer| answer.into_inner().released)
}

async fn hold(node: &Node, request: v1::HoldLeaseRequest) -> Result<v1::Lease, Status> {
    let held = within(node.records().hold_lease(request)).await.map(Response::into_inner)?;
    Ok(held.lease.expect("a lease"))
}

async fn trim(node: &Node, to: u64, force: bool) -> Result<v1::TrimResponse, Status> {
    let request = v1::TrimRequest { log: LOG.to_owned(), to, force, log_id: 0 };
    within(node.records().trim(request)).await.map(Response::into_inner)
}

async fn list(node: &Node) -> v1::ListLeasesResponse {
    let request = v1::ListLeasesRequest { log: LOG.to_owned(), log_id: 0 };
    within(node.records().list_leases(request)).await.expect("the leases").into_inner()
}

async fn listed(node: &Node) -> Vec<v1::Lease> {
    list(node).await.leases
}

async fn holders(node: &Node) -> Vec<String> {
    listed(node).await.into_iter().map(|lease| lease.holder).collect()
}

#[tokio::test]
async fn a_trim_that_would_strand_a_holder_is_refused_and_names_it_and_a_forced_one_says_whom_it_stranded() {
    let node = node().await;
    let held = hold(&node, lease("replica-7", 2)).await.expect("it is granted");
    assert_eq!(trim(&node, 2, false).await.expect("it strands nobody").start, 2);
    let refused = trim(&node, 3, false).await.expect_err("it is refused");
    let Kind::StrandsLeases(strands) = kind(&refused) else { panic!("{refused:?}") };
    assert_eq!(strands.leases.iter().map(|lease| lease.holder.as_str()).collect::<Vec<_>>(), ["replica-7"]);
    assert!(refused.message().contains("replica-7"), "{}", refused.message());
    let forced = trim(&node, 3, true).await.expect("it is forced");
    assert_eq!((forced.start, forced.stranded.len(), forced.stranded[0].offset), (3, 1, 2));
    assert_eq!(holders(&node).await, [] as [&str; 0]);
    let lost = hold(&node, renewal(&held, None)).await.expect_err("it is lost");
    assert_eq!(kind(&lost), not_held("replica-7", None));
}

#[tokio::test]
async fn a_lease_is_renewed_moved_listed_and_released() {
    let node = node().await;
    let first = hold(&node, lease("a", 1)).await.expect("it is granted");
    hold(&node, lease("b", 4)).await.expect("an end can be kept");
    let renewed = hold(&node, renewal(&first, None)).await.expect("it is renewed");
    assert!(renewed.offset == 1 && renewed.until >= first.until && renewed.grant == first.grant, "{renewed:?}");
    assert_eq!(hold(&node, renewal(&first, Some(3))).await.expect("it is moved").offset, 3);
    assert_eq!(holders(&node).await, ["a", "b"]);
    let described = node.described().await;
    for released in [true, false] {
        assert_eq!(release(&node, &first).await.expect("an answer"), released);
    }
    assert_eq!(holders(&node).await, ["b"]);

    // At least the holders' names and the offsets of four calls, and of two more.
    assert!(described.leases == 2 && described.lease_entry_bytes > 4 * 8, "{described:?}");
    let since = node.described().await;
    assert!(since.leases == 1 && since.lease_entry_bytes > described.lease_entry_bytes, "{since:?}");
}

#[tokio::test]
async fn a_late_copy_of_a_call_does_nothing_to_a_newer_grant() {
    let node = node().await;
    let first_call = lease("a", 1);
    let first = hold(&node, first_call.clone()).await.expect("it is granted");
    assert!(release(&node, &first).await.expect("it is held"));
    let gone = hold(&node, first_call.clone()).await.expect_err("it was granted and is over");
    assert_eq!((kind(&gone), holders(&node).await.len()), (not_held("a", None), 0));

    // Its caller gives it up, and it comes when the next call is through.
    let given_up = v1::HoldLeaseRequest { after: list(&node).await.grants, ..lease("a", 4) };
    let second_call = v1::HoldLeaseRequest { after: first.grant, ..lease("a", 3) };
    let second = hold(&node, second_call.clone()).await.expect("it is granted");
    assert!(second.grant > first.grant && second.log_id > 0, "{second:?} after {first:?}");
    let other = not_held("a", Some(second.grant));
    for late in [first_call, given_up, renewal(&first, Some(4))] {
        assert_eq!(kind(&hold(&node, late).await.expect_err("it is another grant")), other);
    }
    assert_eq!(kind(&release(&node, &first).await.expect_err("it is another grant")), other);
    assert_eq!(listed(&node).await, std::slice::from_ref(&second));
    assert_eq!(hold(&node, second_call).await.expect("it is told again"), second);

    // Nor does one of a renewal to what was renewed since.
    let back = renewal(&second, Some(2));
    hold(&node, back.clone()).await.expect("it is renewed");
    let last = hold(&node, renewal(&second, Some(4))).await.expect("it is renewed");
    assert_eq!(hold(&node, back).await.expect("it was renewed"), last);
    assert_eq!(listed(&node).await, [last]);
}

#[tokio::test]
async fn a_bad_lease_is_refused_by_its_bound_and_changes_nothing() {
    let node = node().await;
    let refused = async |request| kind(&hold(&node, request).await.expect_err("it is refused"));
    let long = v1::HoldLeaseRequest { ms: 600_001, ..lease("a", 0) };
    let bound = v1::TooLarge { bound: "max_lease_ms".to_owned(), limit: 600_000, actual: 600_001 };
    assert_eq!(refused(long).await, Kind::TooLarge(bound));
    assert_eq!(refused(lease("a", 5)).await, Kind::OutOfRange(v1::OutOfRange { start: 0, end: 4 }));
    for (bad, field) in [
        (lease("", 0), "holder"),
        (lease(&"x".repeat(257), 0), "holder"),
        (v1::HoldLeaseRequest { ms: 0, ..lease("a", 0) }, "ms"),
        (v1::HoldLeaseRequest { request_id: 0, ..lease("a", 0) }, "request_id"),
    ] {
        assert!(matches!(refused(bad).await, Kind::InvalidArgument(argument) if argument.field == field));
    }
    assert_eq!(holders(&node).await, [] as [&str; 0]);
}

#[tokio::test]
async fn many_renewals_take_few_entries_and_each_gets_its_own_answer() {
    let (_, node) = slow().await;
    let names: Vec<String> = (0..30).map(|n| format!("replica-{n}")).collect();
    let mut held = Vec::new();
    for name in &names {
        let lease = v1::HoldLeaseRequest { ms: 600_000, ..lease(name, 0) };
        held.push(hold(&node, lease).await.expect("it is granted at once"));
    }
    let before = node.applied().await;
    let renewal = |lease, offset| v1::HoldLeaseRequest { ms: 600_000, ..renewal(lease, Some(offset)) };
    let nobody = v1::Lease { holder: "nobody".to_owned(), grant: 1, ..v1::Lease::default() };
    let of_nobody = hold(&node, renewal(&nobody, 1));
    let waiting = join_all(held.iter().map(|held| hold(&node, renewal(held, 1))));
    let again = async {
        node.waiting_commands(31).await;
        // It moves once more: the last word counts.
        hold(&node, renewal(&held[7], 3)).await
    };
    let appending = async {
        node.waiting_commands(32).await;
        assert_eq!(node.applied().await, before, "they wait");
        node.append(LOG, batch(&["e"])).await.expect("is appended")
    };
    let (renewed, lost, again, _) = tokio::join!(waiting, of_nobody, again, appending);
    assert_eq!(node.applied().await, before + 1, "one entry has them all");
    assert_eq!(kind(&lost.expect_err("nobody has a lease")), not_held("nobody", None));
    assert!(renewed.into_iter().all(|renewed| renewed.expect("it is renewed").offset == 1));
    assert_eq!(again.expect("it is renewed").offset, 3);
    let held = listed(&node).await;
    assert_eq!(held.iter().find(|lease| lease.holder == "replica-7").expect("it is held").offset, 3);
    let metrics = metrics(&node.environment).await;
    let figure = |name: &str| metrics[&format!("quipu_log_{name}{{log=\"{LOG}\"}}")];
    assert_eq!((figure("leases"), figure("lease_pinned_records")), (30.0, 4.0));
    assert!(figure("lease_pinned_bytes") >= 4.0 * 61.0, "{metrics:?}");
}

#[tokio::test]
async fn a_renewal_does_not_wait_until_its_lease_is_over() {
    let (clock, node) = slow().await;
    let long = hold(&node, lease("replica-7", 1)).await.expect("it is granted");
    let short = hold(&node, v1::HoldLeaseRequest { ms: 10_000, ..lease("short", 1) }).await.expect("it is granted");
    let passing = async {
        node.waiting_commands(2).await;
        // Half of what the shorter one had left, and much less than a minute.
        clock.pass(Duration::from_secs(5));
    };
    let renewed = join_all([&long, &short].map(|lease| hold(&node, renewal(lease, Some(2)))));
    let (renewed, ()) = join(renewed, passing).await;
    assert!(renewed.iter().all(|renewed| matches!(renewed, Ok(lease) if lease.offset == 2)), "{renewed:?}");
}

#[tokio::test]
async fn a_holder_that_holds_again_and_again_takes_few_entries_unless_it_is_to_keep_more() {
    let (_, node) = slow().await;
    // Whatever was granted meanwhile.
    let again = |offset| v1::HoldLeaseRequest { after: u64::MAX, ms: 600_000, ..lease("a", offset) };
    let first = hold(&node, again(2)).await.expect("it is granted at once");
    let before = node.applied().await;
    let waiting = join_all((0..20).map(|_| hold(&node, again(2))));
    let appending = async {
        node.waiting_commands(20).await;
        assert_eq!(node.applied().await, before, "they wait");
        node.append(LOG, batch(&["e"])).await.expect("is appended")
    };
    let (held, _) = join(waiting, appending).await;
    assert_eq!(node.applied().await, before + 1, "one entry has them all");
    let grants: BTreeSet<u64> = held.into_iter().map(|held| held.expect("it is granted").grant).collect();
    assert_eq!(grants, (1..=20).map(|n| first.grant + n).collect(), "each is a grant of its own");

    let before = node.applied().await;
    assert_eq!(hold(&node, again(1)).await.expect("it is granted at once").offset, 1);
    hold(&node, lease("b", 3)).await.expect("it is granted at once");
    assert_eq!(node.applied().await, before + 2);
}
