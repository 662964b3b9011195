//! Every promise that a run checks, in plain words: what a name in a report
//! means to a person who sees it for the first time.
//!
//! A test compares the names with those in the sources.

/// Names of promises with their meanings, by who finds out.
pub const ALL: &[(&str, &str)] = &[
    // At every moment, on every node.
    ("one-leader-a-term", "No two replicas ever lead a group in the same term."),
    ("votes-are-kept", "Who voted for a leader knows of its term for ever, wherever it crashes."),
    ("term-never-goes-back", "A replica's term never goes back while its process lives."),
    ("commit-never-goes-back", "What a replica knows to be committed never shrinks while its process lives."),
    ("applied-never-goes-back", "What a replica has applied never shrinks while its process lives."),
    ("applied-lies-within-the-log", "A replica applies nothing that its own log does not hold."),
    ("fsynced-survives", "What a replica had fsynced is there again after its process or its power ended."),
    ("terms-go-up", "What a replica holds behind a state image that it took over is of no older term than that."),
    ("committed-never-changes", "An entry that was committed is the same on every replica, for ever."),
    ("leader-has-all-that-is-committed", "Whoever begins to lead has everything that was committed before."),
    ("committed-is-durable-on-a-majority", "What is committed is fsynced on a majority of its group's voters."),
    ("bounds-hold", "No queue, window or cache of a node holds more than its bound."),
    ("tasks-are-bounded", "A node has no more tasks than its replicas, peers, connections and requests need."),
    ("no-damage-without-a-cause", "No replica finds its entries damaged unless its disk was tampered with."),
    // Of the run as a whole.
    ("a-cluster-is-founded", "Without any fault, all nodes found a cluster or join it."),
    ("logs-are-created", "Without any fault, logs can be created."),
    ("live-after-healing", "Once all faults are over, every log takes an append within ten election timeouts."),
    ("calls-end", "Every call of a client is answered in the end, if only by not knowing."),
    ("all-replicas-come-back", "Once all faults are over, every replica runs, votes and has everything again."),
    ("every-copy-can-be-read", "Once all faults are over, every replica's copy can be read."),
    ("a-leader-stays", "Where nothing is wrong, no leader is replaced by another one, or by itself in a new term."),
    ("followers-are-told", "Where nothing is wrong, whoever waits at a log's end soon has what is appended next."),
    ("tasks-end", "Once all is calm, a node has the tasks of its replicas and its peers, and no others."),
    ("equal-states", "Replicas that have applied the same entries have the same state, to the byte."),
    // By what clients were told and what replicas hold in the end.
    ("created-log-exists", "A log that was said to be created exists."),
    ("deleted-log-stays-gone", "A log that was said to be deleted never comes back."),
    (
        "late-calls-keep-to-their-log",
        "What is asked of a log that was deleted does nothing to a later one of its name.",
    ),
    ("contiguous-offsets", "A log's offsets begin at 0 and skip nothing."),
    ("replicas-agree", "All replicas of a log hold the same records in the same order."),
    ("no-lost-record", "A record that was acknowledged is there, whatever happens."),
    ("no-doubled-record", "A record that was appended once is there once, however often it was retried."),
    ("no-invented-record", "A log holds only what was appended to it."),
    ("failed-never-lands", "An append that was said to have failed never shows up."),
    ("batch-is-atomic", "A batch is there whole and in order, or not at all."),
    ("range-fits-batch", "An acknowledgement has as many offsets as the batch has records."),
    ("offset-never-changes-meaning", "A record stays at the offset that was acknowledged."),
    ("producer-order", "A producer's batches lie in the log in the order in which it sent them."),
    ("reads-agree", "What was read at an offset is what the log holds there."),
    ("reads-miss-nothing", "A read that is not local shows everything that was acknowledged before it began."),
    ("end-covers-acknowledged", "A log's end lies behind everything that was acknowledged before it was asked for."),
    ("end-within-log", "A log's end counts no record that the log does not hold."),
    ("end-never-goes-back", "A log's end, asked for later, is no lower."),
    ("barrier-sees-all", "A read after a barrier shows everything before it, whichever replica answers."),
    ("freshness-is-true", "A replica has everything that was acknowledged before the time as of which it says so."),
    ("epoch-is-given-once", "No two acquisitions of a log's writer get the same epoch."),
    ("fenced-never-lands", "Nothing lands under an older writer epoch once a newer one was acknowledged."),
    ("resolve-never-lies", "What was resolved to have landed is there, and what was resolved never to land is not."),
    ("writer-is-required", "A log whose writers are exclusive takes nothing without a writer epoch."),
    (
        "a-cursor-is-what-was-committed",
        "A cursor is where the last acknowledged commit left it, and nobody moves it under an older generation.",
    ),
    ("pipeline-once", "What pipelines carry from one log to another is there once and in order, whoever ran when."),
    ("no-group-skips-a-record", "A reader group commits nothing that none of its members was delivered."),
    (
        "a-group-goes-on-where-it-committed",
        "Whoever takes over a log of a reader group begins where the last acknowledged commit left it, or later.",
    ),
    (
        "members-read-on-from-their-claims",
        "A member of a reader group is delivered one record after the other from where it took the log over.",
    ),
    ("one-member-a-generation", "No two members of a reader group commit in a log under the same generation."),
    (
        "a-fenced-member-commits-nothing",
        "Once a log's position was claimed under a higher generation, nothing is committed under a lower one.",
    ),
    ("members-read-what-the-log-holds", "What members of a reader group are delivered is what the log holds there."),
    ("members-can-go-on", "No member of a reader group meets an error that trying again does not mend."),
    ("groups-read-everything", "Once all faults are over, one member that is left reads all logs of its group."),
    ("start-is-what-was-asked", "A log starts where it was trimmed to, and nothing before that is read any more."),
    ("lease-holds-the-start", "While a lease is held, what it keeps is not trimmed."),
    ("records-are-what-was-appended", "A reader gets the bytes that were appended."),
    ("readers-see-no-gap-and-no-damage", "A reader never meets a gap or damage."),
    ("a-retry-gets-the-first-answer", "Every copy of one append is answered with the same offsets."),
    ("linearizable", "There is one order of all calls that explains every answer and agrees with real time."),
    ("cursors-linearizable", "There is such an order of all calls to any one cursor."),
    ("leases-linearizable", "There is such an order of all calls to any one holder's lease of a log."),
    ("linearizable-undecided", "Whether there is such an order could be decided within the search's bounds."),
    // Of the process that ran it.
    ("no-panic", "No assertion fails, and nothing panics."),
    ("no-hang", "A run ends within its limit of processor time."),
    ("no-crash", "The process that runs it ends in order."),
];

/// What a promise means, if it is known.
pub fn meaning(promise: &str) -> Option<&'static str> {
    ALL.iter().find(|(name, _)| *name == promise).map(|(_, meaning)| *meaning)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::ALL;
    use crate::sources;

    #[test]
    fn the_table_has_every_promise_of_the_sources_and_no_other() {
        let openings = ["Violation::new(", "violated(", "findings.add("];
        let found: BTreeSet<String> =
            openings.iter().flat_map(|opening| sources::literals(&["simulation/src"], opening)).collect();
        let listed: BTreeSet<String> = ALL.iter().map(|(promise, _)| (*promise).to_owned()).collect();
        assert_eq!(found, listed, "promises in the sources, and promises in simulation/src/promises.rs");
        assert_eq!(listed.len(), ALL.len(), "no promise is listed twice");
    }
}
