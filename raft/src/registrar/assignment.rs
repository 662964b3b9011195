//! Who is to have which log.
//!
//! Balanced to within one, and of all that are so the one that moves the fewest
//! logs: the members that have the most keep one more than the others where the
//! logs do not divide evenly, each keeps as many as it may, and only what is over
//! goes to those who have less.

use std::collections::BTreeMap;

use quipu_protocol::{LogId, MemberId};

use super::Share;

/// Who is to have each log of `shares`, of whom those in `members` are there, in
/// their order. What nobody of them has is dealt out; of those who have too much,
/// what they are asked for already goes first, then what they were given last.
pub fn plan(members: &[MemberId], shares: &BTreeMap<LogId, Share>) -> BTreeMap<LogId, MemberId> {
    let mut held: BTreeMap<MemberId, Vec<LogId>> = members.iter().map(|member| (*member, Vec::new())).collect();
    let mut free = Vec::new();
    for (log, share) in shares {
        match share.holder().and_then(|holder| held.get_mut(&holder)) {
            Some(logs) => logs.push(*log),
            None => free.push(*log),
        }
    }
    let quotas = quotas(&held, shares.len());
    let mut wanted = BTreeMap::new();
    for (member, mut logs) in held {
        let going = |log: &LogId| {
            let held = shares[log].held.as_ref();
            held.map(|held| (held.returning, held.generation, *log))
        };
        logs.sort_by_key(going);
        let over = logs.split_off(logs.len().min(quotas[&member]));
        free.extend(over);
        wanted.insert(member, logs);
    }
    free.sort_unstable();
    let mut free = free.into_iter();
    for (member, logs) in &mut wanted {
        let lacks = quotas[member] - logs.len();
        logs.extend(free.by_ref().take(lacks));
    }
    let of_each = |(member, logs): (MemberId, Vec<LogId>)| logs.into_iter().map(move |log| (log, member));
    wanted.into_iter().flat_map(of_each).collect()
}

/// How many logs each member is to have.
fn quotas(held: &BTreeMap<MemberId, Vec<LogId>>, logs: usize) -> BTreeMap<MemberId, usize> {
    let Some(each) = logs.checked_div(held.len()) else { return BTreeMap::new() };
    let mut most_first: Vec<(usize, MemberId)> = held.iter().map(|(member, logs)| (logs.len(), *member)).collect();
    most_first.sort_by_key(|(count, member)| (std::cmp::Reverse(*count), *member));
    let one_more = logs % held.len();
    let quota = |(place, (_, member)): (usize, (usize, MemberId))| (member, each + usize::from(place < one_more));
    most_first.into_iter().enumerate().map(quota).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use quipu_protocol::Generation;

    use super::*;
    use crate::registrar::Held;

    fn shares(holders: &[Option<u64>]) -> BTreeMap<LogId, Share> {
        let share = |holder: &Option<u64>| Share {
            held: holder.map(|member| Held {
                member: MemberId::new(member),
                generation: Generation::new(1),
                returning: false,
            }),
        };
        (1..).map(LogId::new).zip(holders.iter().map(share)).collect()
    }

    fn members(count: u64) -> Vec<MemberId> {
        (1..=count).map(MemberId::new).collect()
    }

    /// How many logs that a member has would go to another one.
    fn moved(shares: &BTreeMap<LogId, Share>, members: &[MemberId], wanted: &BTreeMap<LogId, MemberId>) -> usize {
        let living = |log: &LogId| shares[log].holder().filter(|holder| members.contains(holder));
        wanted.iter().filter(|(log, to)| living(log).is_some_and(|from| from != **to)).count()
    }

    fn is_balanced(members: &[MemberId], wanted: &BTreeMap<LogId, MemberId>) -> bool {
        let counts = members.iter().map(|member| wanted.values().filter(|it| *it == member).count());
        let counts: Vec<usize> = counts.collect();
        counts.iter().max().unwrap_or(&0) - counts.iter().min().unwrap_or(&0) <= 1
    }

    /// The fewest logs that have to move, by trying every assignment.
    fn fewest_by_trying(shares: &BTreeMap<LogId, Share>, members: &[MemberId]) -> usize {
        let logs: Vec<LogId> = shares.keys().copied().collect();
        let ways = members.len().pow(u32::try_from(logs.len()).expect("few logs"));
        let way = |mut number: usize| {
            let mut wanted = BTreeMap::new();
            for log in &logs {
                wanted.insert(*log, members[number % members.len()]);
                number /= members.len();
            }
            wanted
        };
        let balanced = (0..ways).map(way).filter(|wanted| is_balanced(members, wanted));
        balanced.map(|wanted| moved(shares, members, &wanted)).min().expect("one is balanced")
    }

    #[test]
    fn a_member_that_comes_takes_no_more_than_its_part() {
        let shares = shares(&[Some(1), Some(1), Some(1), Some(2), Some(2), Some(2)]);
        let wanted = plan(&members(3), &shares);
        assert!(is_balanced(&members(3), &wanted), "{wanted:?}");
        assert_eq!(moved(&shares, &members(3), &wanted), 2, "{wanted:?}");
    }

    #[test]
    fn what_is_asked_for_already_goes_first() {
        let mut shares = shares(&[Some(1), Some(1), Some(1), Some(1)]);
        for log in [1, 2] {
            let share = shares.get_mut(&LogId::new(log)).expect("a share");
            share.held.as_mut().expect("it is held").returning = true;
        }
        let wanted = plan(&members(2), &shares);
        let kept: Vec<u64> = wanted.iter().filter(|(_, to)| to.get() == 1).map(|(log, _)| log.get()).collect();
        assert_eq!(kept, [3, 4]);
    }

    #[test]
    fn without_members_nobody_has_anything() {
        assert!(plan(&[], &shares(&[Some(1), None])).is_empty());
        assert!(plan(&members(3), &BTreeMap::new()).is_empty());
    }

    proptest! {
        #[test]
        fn the_plan_is_balanced_and_moves_the_fewest_logs(
            // Holders up to 5 of whom the first `count` are there: some are gone.
            holders in prop::collection::vec(prop::option::of(1_u64..=5), 0..7),
            count in 1_u64..=4,
        ) {
            let (shares, members) = (shares(&holders), members(count));
            let wanted = plan(&members, &shares);
            prop_assert_eq!(wanted.len(), shares.len(), "every log is somebody's");
            prop_assert!(is_balanced(&members, &wanted), "{:?}", wanted);
            prop_assert_eq!(moved(&shares, &members, &wanted), fewest_by_trying(&shares, &members));
        }

        #[test]
        fn what_is_as_planned_stays(holders in prop::collection::vec(prop::option::of(1_u64..=9), 0..60), count in 1_u64..=9) {
            let members = members(count);
            let wanted = plan(&members, &shares(&holders));
            let settled: Vec<Option<u64>> = wanted.values().map(|member| Some(member.get())).collect();
            prop_assert_eq!(plan(&members, &shares(&settled)), wanted);
        }
    }
}
