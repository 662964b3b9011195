//! The rare states that a sweep has to reach.
//!
//! A check of a path that no seed takes is no check. Points in the code under
//! test (`point!("…")`) and marks of the simulator are both listed here; a test
//! compares the list with the sources, so that neither grows without the other.

/// Every mark with what it means.
pub const ALL: &[(&str, &str)] = &[
    ("a-copy-was-answered-as-a-duplicate", "a repeated append was told where the first one had landed"),
    ("a-cursor-was-fenced", "a commit under a generation was refused after a higher one had claimed the cursor"),
    (
        "a-group-member-lost-a-log",
        "a member of a reader group lost a log of which it had been delivered more than it committed",
    ),
    ("a-group-member-vanished", "a member of a reader group was gone and nobody was told"),
    (
        "a-group-member-was-fenced",
        "a member of a reader group was refused a position in a log that another one had claimed",
    ),
    ("a-late-append-was-refused", "an append arrived when its producer's epoch was over, and was refused"),
    ("a-paused-leader-came-back", "a leader that was paused went on when another one led already"),
    ("a-pipeline-gave-way", "an append was refused because another pipeline had moved the cursor that it carried"),
    ("a-primary-was-fenced", "an append was refused because another client had acquired the writer epoch"),
    ("a-replaced-disk-was-resynced", "a node whose disk was replaced has everything again"),
    ("all-nodes-down-at-once", "no node ran at all"),
    (
        "an-append-with-a-cursor-came-again",
        "an append that carried a commit was repeated after the cursor had moved on",
    ),
    ("append-repeated", "an append that had landed was applied again and changed nothing"),
    ("catalog-copy-lags", "a node was asked what its copy of the catalog could not tell yet"),
    ("cluster-founded", "a node founded the cluster"),
    ("cluster-joined", "a node joined a cluster that others had founded"),
    ("cursor-carried", "an append landed with a commit that it carried"),
    ("cursor-commit-repeated", "a commit of a cursor that had been made was repeated, and changed nothing"),
    ("cursor-committed", "a cursor was moved"),
    ("cursor-fenced", "a commit of a cursor under a lower generation was refused where it was applied"),
    ("damage-found", "recovery found an entry damaged that had been synced"),
    ("damaged-header-survived", "recovery went on behind a segment's damaged header"),
    ("damaged-replica-replaced", "a replica that lost what nobody can bring back was given up for a new one"),
    ("deleted-log-took-an-append", "replicas that had not heard yet that their log was deleted took an append"),
    ("disk-replaced", "a node got an empty disk in place of one that was in doubt"),
    ("entries-trimmed", "a client trimmed a log that others read"),
    ("entries-truncated", "a follower dropped entries that were never committed"),
    ("entry-applied", "a committed entry changed a group's state"),
    ("entry-relocated", "living entries of an old segment were written again"),
    ("floor-advanced", "a replica put a state image into its journal, to purge up to it"),
    ("forgotten-before-it-was-read", "a log had let go of records by itself before a client had read them"),
    ("frame-mended", "entries that had rotted were on stable storage again"),
    ("handed-over-for-damage", "a leader whose entries had rotted let another one lead"),
    ("identity-written", "a data directory got its identity, or a new one"),
    ("index-rebuilt", "recovery built a segment's index from the segment itself"),
    ("index-written", "a sealed segment's index was saved"),
    ("journal-commit", "the committer took up what groups had staged"),
    ("journal-stopped", "the journal stopped for ever after a failed write or fdatasync"),
    ("journal-synced", "an fdatasync returned, before anybody was told"),
    ("journal-written", "a write returned, before it was synced"),
    ("late-change-refused", "a change that came too late for a log that was deleted was refused"),
    ("lease-held", "a client was granted a lease of a log's start"),
    ("lease-held-again", "a call about a lease came again after it had been carried out"),
    ("lease-renewed", "a client renewed a lease of a log's start"),
    ("lease-too-late", "a lease was not granted: its caller had got another one meanwhile"),
    ("log-deleted", "a client deleted a log, to create another one of the same name"),
    ("low-space-refused", "an append was refused because the disk was nearly full"),
    ("manifest-written", "the journal's list of segments was replaced"),
    ("membership-step", "a group's membership moved a step towards what is wanted"),
    ("misread-excused", "a disk gave wrong bytes, and the right ones when it was asked again"),
    ("no-space", "there was no room for another segment"),
    ("old-disk-refused", "a node refused to start on a disk older than its peers remember"),
    ("peer-reply-lost", "a node did what a peer asked, and its answer was lost"),
    ("peer-request-doubled", "a request of a peer arrived twice in a row"),
    ("peer-request-lost", "a request of a peer never arrived, and what it sent later did"),
    ("peer-request-overtaken", "a request of a peer arrived later than others that were sent after it"),
    ("peer-request-repeated-later", "a request of a peer arrived, and much later once more"),
    ("power-lost-with-disk-operations-under-way", "power went in the middle of what a disk was doing"),
    ("producer-epoch-raised", "a resolution ended a producer's epoch"),
    ("read-below-start-refused", "a read below a trimmed log's start was told where that is"),
    ("reader-expired", "a registrar dropped members of a reader group that were not heard of"),
    ("reader-joined", "a registrar took a member into a reader group"),
    ("reader-shares-returned", "a member of a reader group had let go of logs that it was asked for"),
    ("reader-shares-taken", "a registrar took logs from a member that had not let go of them in time"),
    ("refetched", "a peer gave the entries that had rotted"),
    ("replica-started", "a node started a replica that it was given"),
    ("resolved-as-landed", "an append of unknown outcome was found to have landed"),
    ("resolved-as-never", "an append of unknown outcome was settled never to land"),
    ("reserve-used", "a journal segment took of what the low-space mark keeps"),
    ("room-made", "a segment was let go of below the low-space mark, before any other was sealed"),
    ("room-round", "below the low-space mark it was worth it to write again what lived in old segments"),
    ("rot-found", "entries were found rotten while their journal was open"),
    ("rot-was-judged-mended", "a node found that its disk had rotted, and is whole again"),
    ("scrub-found-rot", "a scrub found a frame rotten"),
    ("segment-let-go", "the manifest let go of a segment in which nothing lived"),
    ("segment-prepared", "a segment was written ahead of its use"),
    ("segment-recycled", "a segment that was let go of became a spare"),
    ("segment-removed", "a segment that was let go of was removed, there being spares enough"),
    ("segment-reused", "a segment's file had its next name, and no manifest listed it yet"),
    ("segment-sealed", "a segment was full, and the next one begun"),
    ("snapshot-installed", "a replica took over another one's state"),
    ("snapshot-kept", "a state image from elsewhere was in the journal, before it was taken over"),
    (
        "snapshot-over-another-branch",
        "a replica was sent a state image where it had entries of its own that were never committed",
    ),
    ("space-back", "a disk that had been nearly full had room again"),
    ("space-low", "a disk was nearly full"),
    ("state-saved", "a group's state was saved"),
    ("torn-commit-dropped", "recovery dropped a commit that was never synced"),
    ("vote-saved", "a vote was on stable storage, before it was sent"),
    ("writer-acquired", "a log's writer epoch was raised"),
    ("writer-acquired-again", "an acquisition that had been done was repeated, and changed nothing"),
    ("writer-fenced", "an append under an older writer epoch was refused where it was applied"),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::ALL;
    use crate::sources;

    #[test]
    fn the_list_has_every_mark_of_the_sources_and_no_other() {
        let mut found = sources::literals(&["storage/src", "raft/src"], "point!(");
        found.extend(sources::literals(&["simulation/src"], ".mark("));
        let listed: BTreeSet<String> = ALL.iter().map(|(mark, _)| (*mark).to_owned()).collect();
        assert_eq!(found, listed, "marks in the sources, and marks in simulation/src/marks.rs");
        assert_eq!(listed.len(), ALL.len(), "no mark is listed twice");
    }
}
