//! Logs that are changed, deleted and listed.

use super::*;

fn altered(outcome: Outcome) -> (v1::LogConfig, bool) {
    match outcome {
        Outcome::LogAltered(altered) => (altered.log.and_then(|log| log.config).expect("a log"), altered.changed),
        other => panic!("{other:?}"),
    }
}

#[test]
fn alteration_changes_what_it_names_and_the_version_once() {
    let mut story = Story::founded(3);
    let before = story.created("orders", 3).config;
    let (id, version) = (story.id("orders"), story.catalog.version());
    let change = v1::LogAlteration {
        retention_bytes: Some(1 << 30),
        codecs: Some(0b01001),
        max_timestamp_after_ms: Some(5),
        ..v1::LogAlteration::default()
    };
    let expected = v1::LogConfig { retention_bytes: 1 << 30, codecs: 0b01001, max_timestamp_after_ms: 5, ..before };
    assert_eq!(altered(story.tell(alter_log(id, change))), (expected, true));
    assert_eq!(story.catalog.version(), version + 1);
    assert_eq!(altered(story.tell(alter_log(id, change))), (expected, false), "told again");
    assert_eq!(altered(story.tell(alter_log(id, v1::LogAlteration::default()))), (expected, false));
    assert_eq!(story.catalog.version(), version + 1);
    let back = v1::LogAlteration {
        retention_bytes: Some(0),
        codecs: Some(0),
        max_timestamp_after_ms: Some(0),
        ..v1::LogAlteration::default()
    };
    assert_eq!(altered(story.tell(alter_log(id, back))), (before, true));
    assert_eq!(story.log("orders").founders.len(), 3, "the replicas stay");
}

#[test]
fn alteration_out_of_bounds_is_refused_by_name_and_changes_nothing() {
    let mut story = Story::founded(3);
    story.created("orders", 3);
    let id = story.id("orders");
    let before = story.catalog.clone();
    let small = v1::LogAlteration { max_batch_bytes: Some(1023), ..v1::LogAlteration::default() };
    let unset = v1::LogAlteration { max_batch_bytes: Some(0), ..v1::LogAlteration::default() };
    let large = v1::LogAlteration { max_batch_bytes: Some((64 << 20) + 1), ..v1::LogAlteration::default() };
    let unknown = v1::LogAlteration { codecs: Some(1 << 5), ..v1::LogAlteration::default() };
    for (change, field, bound) in [
        (small, "max_batch_bytes", "from 1024 to 67108864"),
        (unset, "max_batch_bytes", "from 1024 to 67108864"),
        (large, "max_batch_bytes", "from 1024 to 67108864"),
        (unknown, "codecs", "none,gzip,snappy,lz4,zstd"),
    ] {
        let refused = error(story.tell(alter_log(id, change)));
        assert!(
            matches!(&refused, v1::error::Kind::InvalidArgument(it) if it.field == field && it.reason.contains(bound)),
            "{refused:?}"
        );
    }
    let nobody = error(story.tell(alter_log(LogId::new(99), small)));
    assert!(matches!(nobody, v1::error::Kind::UnknownLog(_)), "{nobody:?}");
    assert_eq!(story.catalog, before);
}

fn deleted(outcome: Outcome) -> bool {
    match outcome {
        Outcome::LogDeleted(gone) => gone.deleted,
        other => panic!("{other:?}"),
    }
}

#[test]
fn deleted_log_frees_its_name_and_never_its_ids() {
    let mut story = Story::founded(3);
    let first = story.created("orders", 3);
    let (id, version) = (story.id("orders"), story.catalog.version());
    let name = "orders".parse().expect("a log name");
    assert!(!story.catalog.is_deleted(id));
    assert!(deleted(story.tell(delete_log(id, &name))));
    assert_eq!(story.catalog.version(), version + 1);
    assert!(story.catalog.is_deleted(id) && story.catalog.log_named(&name).is_none());
    // Told again, before and after another log got the name.
    assert!(!deleted(story.tell(delete_log(id, &name))));
    let second = story.created("orders", 3);
    assert!(!deleted(story.tell(delete_log(id, &name))));
    assert_eq!(story.catalog.deletions(), 1);
    assert_eq!(story.log("orders"), second, "a repeated command does not meet it");
    assert!(story.id("orders") > id);
    for place in &second.founders {
        assert!(first.founders.iter().all(|old| old.replica < place.replica), "replica ids are not given twice");
    }
}

#[test]
fn deletion_of_what_never_was_is_refused() {
    let mut story = Story::founded(3);
    story.created("orders", 3);
    let before = story.catalog.clone();
    let id = story.id("orders");
    let (orders, others) = ("orders".parse().expect("a log name"), "others".parse().expect("a log name"));
    for (log, name) in [(LogId::CATALOG, &orders), (LogId::new(99), &orders), (id, &others)] {
        let refused = error(story.tell(delete_log(log, name)));
        assert!(matches!(refused, v1::error::Kind::UnknownLog(_)), "{refused:?}");
    }
    assert!(!story.catalog.is_deleted(LogId::CATALOG) && !story.catalog.is_deleted(LogId::new(99)));
    assert_eq!(story.catalog, before);
}

/// All names that match, a page of `limit` after the other, and the pages.
fn listed(catalog: &Catalog, pattern: Option<&str>, limit: usize) -> (Vec<String>, usize) {
    let pattern = pattern.map(|pattern| pattern.parse().expect("a pattern"));
    let (mut names, mut pages) = (Vec::<String>::new(), 0);
    loop {
        let after = names.last().cloned().unwrap_or_default();
        let (page, more) = catalog.logs_after(&after, pattern.as_ref(), limit);
        assert!(page.len() <= limit && (!more || page.len() == limit));
        names.extend(page.into_iter().map(|log| log.name));
        pages += 1;
        if !more {
            return (names, pages);
        }
    }
}

#[test]
fn logs_are_listed_by_pattern_in_pages() {
    let mut story = Story::founded(3);
    for name in ["orders", "orders/eu", "orders/us", "ordersX", "payments/eu", "a"] {
        story.created(name, 1);
    }
    for limit in 1..4 {
        let names = |pattern| listed(&story.catalog, pattern, limit).0;
        assert_eq!(names(None), ["a", "orders", "orders/eu", "orders/us", "ordersX", "payments/eu"]);
        assert_eq!(names(Some("orders/*")), ["orders/eu", "orders/us"]);
        assert_eq!(names(Some("orders")), ["orders"]);
        assert_eq!(names(Some("*/eu")), ["orders/eu", "payments/eu"]);
        assert_eq!(names(Some("?")), ["a"]);
        assert_eq!(names(Some("b*")), Vec::<String>::new());
    }
    let (page, more) = story.catalog.logs_after("orders/us", Some(&"orders/*".parse().expect("a pattern")), 9);
    assert!(page.is_empty() && !more, "what comes after its last one");
}

#[test]
fn ten_thousand_logs_are_created_listed_described_and_deleted() {
    const LOGS: usize = 10_000;
    let mut story = Story::founded(5);
    let tell = |catalog: &mut Catalog, index: usize, command| {
        let id = EntryId { term: Term::new(1), index: Index::new(100 + index as u64) };
        let reply = catalog.apply(id, &encode(Timestamp::new(NOW), command)).expect("a known command");
        let Reply::Catalog(reply) = reply else { panic!("the catalog answers as the catalog") };
        CatalogReply::decode(reply).expect("a reply").outcome.expect("an outcome")
    };
    let config = v1::LogConfig { replicas: 3, max_batch_bytes: 1 << 20, ..v1::LogConfig::default() };
    let names: Vec<String> = (0..LOGS).map(|n| format!("tenant-{:03}/log-{n:05}", n % 100)).collect();
    for (n, name) in names.iter().enumerate() {
        let command = create_log(&name.parse().expect("a log name"), config, []);
        let created = tell(&mut story.catalog, n, command);
        assert!(matches!(created, Outcome::LogCreated(LogCreated { created: true, .. })), "{created:?}");
    }
    let (all, pages) = listed(&story.catalog, None, 1_000);
    let mut sorted = names.clone();
    sorted.sort();
    assert_eq!((all, pages), (sorted.clone(), 10));
    assert_eq!(listed(&story.catalog, Some("tenant-042/*"), 7).0.len(), LOGS / 100);
    for name in &names {
        let (id, log) = story.catalog.log_named(&name.parse().expect("a log name")).expect("it is there");
        let summary = story.catalog.summary(id).expect("it is there");
        assert_eq!((&summary.name, summary.config), (name, Some(config)));
        assert_eq!(log.founders.len(), 3);
    }
    let mut replicas: BTreeMap<NodeId, usize> = BTreeMap::new();
    for place in story.catalog.logs().values().flat_map(|log| &log.wanted) {
        *replicas.entry(place.node).or_default() += 1;
    }
    assert!(replicas.values().all(|count| *count == LOGS * 3 / 5), "they are spread evenly: {replicas:?}");
    let mut copy = Catalog::default();
    copy.install(&story.catalog.image()).expect("its own image");
    assert_eq!(copy, story.catalog);

    for (n, name) in names.iter().enumerate().filter(|(n, _)| n % 2 == 0) {
        let name = name.parse().expect("a log name");
        let id = story.catalog.log_named(&name).expect("it is there").0;
        assert!(deleted(tell(&mut story.catalog, LOGS + n, delete_log(id, &name))));
    }
    assert_eq!(listed(&story.catalog, None, 999).0.len(), LOGS / 2);
    copy.install(&story.catalog.image()).expect("its own image");
    assert_eq!(copy, story.catalog);
}

#[test]
fn damaged_replica_gives_way_to_a_new_id_on_its_node_once() {
    let mut story = Story::founded(3);
    let before = story.created("orders", 3);
    let other = story.created("invoices", 3);
    let (id, old) = (story.id("orders"), before.wanted[1]);
    let version = story.catalog.version();
    assert_eq!(story.tell(replace_replica(id, old.replica)), Outcome::Done(true));
    let after = story.log("orders");
    let new = after.wanted[1];
    assert_eq!(new.node, old.node, "it stays where it was");
    assert!(new.replica > other.wanted[2].replica, "its id is a new one");
    assert_eq!((after.wanted[0], after.wanted[2]), (before.wanted[0], before.wanted[2]));
    assert_eq!(after.founders, before.founders, "who began the log is history");
    assert_eq!(story.log("invoices"), other);
    assert_eq!(story.catalog.version(), version + 1, "nodes have to act upon it");

    // Whoever asks again, or for what is none of the log's, changes nothing.
    let settled = story.catalog.clone();
    let elsewhere = [(id, old.replica), (id, other.wanted[0].replica), (LogId::new(99), new.replica)];
    for (log, replica) in elsewhere {
        assert_eq!(story.tell(replace_replica(log, replica)), Outcome::Done(true));
        assert_eq!(story.catalog, settled);
    }
    assert_eq!(story.tell(replace_replica(id, new.replica)), Outcome::Done(true));
    assert!(story.log("orders").wanted[1].replica > new.replica, "the new one may be damaged, too");
}
