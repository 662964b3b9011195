//! Which known word somebody meant.

/// The word of `known` that is nearest to `word`, if it is near enough for a
/// slip: at most a third of its letters are wrong, missing, too many, or two
/// neighbours swapped.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, candidate)| distance * 3 <= candidate.len().max(3))
        .min()
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance with swaps of neighbours.
fn distance(a: &str, b: &str) -> usize {
    // A word from a file may be of any length; beyond this it is near nothing.
    const LONGEST: usize = 64;
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(LONGEST).collect(), b.chars().take(LONGEST).collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    rows[0] = (0..=b.len()).collect();
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn slips_are_recognised_and_strangers_are_not() {
        let known = ["journal.segment_bytes", "raft.heartbeat_ms", "listen"];
        let check = |word: &str, expect: Option<&str>| assert_eq!(nearest(word, known), expect, "{word}");
        check("journal.segment_byte", Some("journal.segment_bytes"));
        check("raft.haertbeat_ms", Some("raft.heartbeat_ms"));
        check("lisent", Some("listen"));
        check("colour", None);
        check("", None);
        check(&"x".repeat(100_000), None);
    }
}
