//! The page's promises: nothing in it is taken for markup, nothing that happened
//! is left out, and the same run gives the same page.

use std::time::Duration;

use serde_json::Value;

use super::sample::{Sample, lost_record};
use super::{Heading, html};
use crate::event::{Answer, Event, Phase, Role, Stop, What};
use crate::history::{Call, Operation, Outcome, Terms};
use crate::violation::Violation;

/// Ends a script, an attribute and a comment, fetches, and looks like a place
/// in the template.
const HOSTILE: &str = "</script><script>alert(1)</script><!-- \" ' & {{script}} <img src=x onerror=alert(2)> \u{2028}";

/// What the page's scripts read.
fn data(page: &str) -> Value {
    let (_, after) = page.split_once(r#"<script type="application/json" id="data">"#).expect("the page holds data");
    let (json, _) = after.split_once("</script>").expect("the data ends");
    serde_json::from_str(json).expect("the data is JSON")
}

fn event(what: What) -> Event {
    Event { at: Duration::from_micros(1_500), what }
}

fn every_kind(text: &str) -> Vec<Event> {
    let text = || text.to_owned();
    let mut kinds = vec![
        What::Started { node: 1, boot: 1 },
        What::Serves { node: 1 },
        What::FaultBegins { fault: 1, kind: text(), nodes: vec![1, 2], details: text() },
        What::FaultEnds { fault: 1 },
        What::FaultEnds { fault: 9 },
        What::Invoked { operation: 0, client: 1, log: text(), call: text() },
        What::Mark { mark: text() },
        What::Violated { promise: text(), details: text(), node: None },
        What::Violated { promise: text(), details: text(), node: Some(2) },
    ];
    kinds.extend(
        [Phase::Founding, Phase::Chaos, Phase::Healing, Phase::Liveness, Phase::Judgement]
            .map(|phase| What::Phase { phase }),
    );
    kinds.extend([Stop::Killed, Stop::PowerLost, Stop::ShutDown, Stop::Failed].map(|how| What::Stopped {
        node: 1,
        how,
        why: (how == Stop::Failed).then(text),
    }));
    kinds.extend([Role::Leader, Role::Follower, Role::Learner].map(|role| What::Role {
        node: 1,
        group: 7,
        replica: u64::MAX,
        role,
        term: 3,
    }));
    kinds.extend([Answer::Done, Answer::Failed, Answer::Unknown].map(|answer| What::Completed {
        operation: 0,
        answer,
        details: text(),
    }));
    kinds.into_iter().map(event).collect()
}

fn every_call(text: &str) -> Vec<Operation> {
    let why = text.to_owned();
    let calls = [
        (Call::Create { replicas: 3 }, Outcome::Created),
        (
            Call::Append { producer: 1, values: vec![5, 6], terms: Terms::default() },
            Outcome::Appended { start: 0, end: 2 },
        ),
        (
            Call::Append { producer: 1, values: (0..100).collect(), terms: Terms::default() },
            Outcome::Unknown { why: why.clone() },
        ),
        (Call::Read { from: 0, max: 9, local: false }, Outcome::Read { records: vec![(0, 5), (1, 6)] }),
        (Call::Read { from: 0, max: 9, local: true }, Outcome::Read { records: vec![] }),
        (Call::End, Outcome::End { end: 2 }),
        (Call::End, Outcome::Failed { why }),
        (Call::End, Outcome::Pending),
        (Call::Delete, Outcome::Deleted),
    ];
    let at = Duration::from_millis(2);
    let made = (0..).zip(calls).map(|(id, (call, outcome))| Operation {
        id,
        client: 1,
        log: text.to_owned(),
        call,
        invoked: at,
        completed: (outcome != Outcome::Pending).then_some(at * 2),
        outcome,
    });
    made.collect()
}

#[test]
fn what_a_run_contains_is_never_markup() {
    let text = || HOSTILE.to_owned();
    let heading = Heading {
        seed: u64::MAX,
        commit: text(),
        replay: text(),
        settings: vec![(text(), text())],
        groups: vec![(7, text())],
        promises: vec![(text(), text())],
    };
    let violations = [Violation::new(HOSTILE, HOSTILE).shown_by([0, 99])];
    let page = html(&heading, &every_kind(HOSTILE), &every_call(HOSTILE), &violations);
    let bare = html(&Heading::default(), &[], &[], &[]);
    for markup in ["<script", "</script", "<img", "<!--", "\u{2028}"] {
        assert_eq!(page.matches(markup).count(), bare.matches(markup).count(), "{markup:?} comes from the run");
    }
    let data = data(&page);
    assert_eq!(data["commit"], HOSTILE);
    assert_eq!(data["violations"][0]["meaning"], HOSTILE);
    assert_eq!(data["operations"][6]["answer"], HOSTILE);
}

#[test]
fn every_kind_of_event_is_told_in_words() {
    let events = every_kind("words");
    let heading = Heading { groups: vec![(7, "orders".to_owned())], ..Heading::default() };
    let data = data(&html(&heading, &events, &every_call("words"), &[]));
    let told = data["events"].as_array().expect("events");
    assert_eq!(told.len(), events.len());
    for row in told {
        assert_eq!(row["at"], 1_500);
        assert!(row["text"].as_str().is_some_and(|text| !text.is_empty()), "{row} says nothing");
        assert!(row["topic"].is_string(), "{row} has no topic");
    }
    let all = told.iter().filter_map(|row| row["text"].as_str()).collect::<Vec<_>>().join("\n");
    for words in [
        "node 1 starts, boot 1",
        "lost its power",
        "chaos: faults strike",
        "leads orders in term 3, replica 18446744073709551615",
        "fault 1, words, is over",
        "fault 9 is over",
    ] {
        assert!(all.contains(words), "{words:?} is not told in\n{all}");
    }
    let append = &data["operations"][2];
    assert_eq!(append["state"], "unknown");
    assert!(append["call"].as_str().is_some_and(|call| call.contains("23 and 76 more")), "{append}");
}

#[test]
fn a_run_in_which_nothing_happened_has_a_page() {
    let page = html(&Heading::default(), &[], &[], &[]);
    assert!(page.starts_with("<!doctype html>"));
    let data = data(&page);
    assert_eq!(data["end"], 0);
    assert_eq!(data["violations"], Value::Array(vec![]));
}

#[test]
fn the_same_run_gives_the_same_page() {
    let page = || lost_record(4, Duration::from_millis(60)).html();
    assert!(page() == page(), "two pages of one run differ");
}

#[test]
fn a_page_fetches_nothing() {
    let page = lost_record(4, Duration::from_millis(60)).html();
    for outside in ["http://", "https://", "src=", "@import", "url(", "fetch(", "XMLHttpRequest"] {
        assert!(!page.contains(outside), "the page names {outside:?}");
    }
    assert!(page.contains("default-src 'none'"), "the browser is not told to refuse");
    assert!(!page.contains("{{"), "a place in the template was left open");
}

#[test]
fn a_broken_promise_is_placed_where_it_showed() {
    let found = Violation::new("one-leader", "two leaders in term 3");
    let judged = Violation::new("no-lost-record", "value 5 is gone").shown_by([1, 3]);
    let seen = Event {
        at: Duration::from_millis(1),
        what: What::Violated { promise: found.promise.clone(), details: found.details.clone(), node: Some(2) },
    };
    let unseen = Violation::new("bounded-memory", "queues grew");
    let data = data(&html(&Heading::default(), &[seen], &every_call("log"), &[found, judged, unseen]));
    let placed = |index: usize| (data["violations"][index]["at"].as_u64(), data["violations"][index]["node"].as_str());
    assert_eq!(placed(0), (Some(1_000), Some("2")));
    assert_eq!(placed(1), (Some(4_000), None), "with the last answer that shows it");
    assert_eq!(placed(2), (Some(4_000), None), "at the end of the run");
}

/// Writes pages to look at after a change to the drawing.
#[test]
#[ignore = "writes files for a person to open"]
fn pages_to_look_at() {
    let directory = std::env::temp_dir().join("quipu-timeline");
    std::fs::create_dir_all(&directory).expect("a directory to write to");
    let sample = lost_record(4, Duration::from_millis(90));
    let large = lost_record(16, Duration::from_millis(4));
    assert!(large.events.len() > 20_000, "{} events are not many", large.events.len());
    let unlisted = Sample { violations: vec![], ..lost_record(3, Duration::from_millis(200)) };
    let pages = [
        ("sample", sample.html()),
        ("large", large.html()),
        ("unlisted", unlisted.html()),
        ("hostile", html(&Heading::default(), &every_kind(HOSTILE), &every_call(HOSTILE), &[])),
        ("empty", html(&Heading::default(), &[], &[], &[])),
    ];
    for (name, page) in pages {
        std::fs::write(directory.join(format!("{name}.html")), page).expect("the page is written");
    }
}
