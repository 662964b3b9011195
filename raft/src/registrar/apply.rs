//! What each command does to a registrar.
//!
//! A command is refused in its reply, with nothing changed, or takes effect
//! whole; a join, whatever comes of it, forgets what has been empty for long. Only one that a newer version must have written stops the replica.

use std::collections::BTreeSet;

use bytes::Bytes;
use prost::Message;
use quipu_protocol::stored::registrar_command::Command;
use quipu_protocol::{Generation, LogId, LogPattern, MemberId, ReaderGroupName, Timestamp, stored};
use quipu_storage::journal::EntryId;

use super::{
    Answer, EMPTY_GROUP_EXPIRY_MS, FLOOR, MAX_CLIENT_BYTES, MAX_GROUPS, MAX_MEMBERS, MAX_MEMBERS_IN_ALL,
    MAX_SESSION_MS, MAX_SHARES, MAX_SHARES_IN_ALL, MIN_SESSION_MS, Matched, Member, ReaderGroup, Refused, Registrar,
};
use crate::machine::{Floor, Machine, MachineError};
use crate::types::Reply;

impl Machine for Registrar {
    const FLOOR: Floor = FLOOR;

    fn blank(&self) -> Self {
        Self::default()
    }

    fn apply(&mut self, id: EntryId, command: &Bytes) -> Result<Reply, MachineError> {
        let unreadable =
            |reason: String| MachineError::new("a command to a registrar", format!("entry {id:?}: {reason}"));
        let command =
            stored::RegistrarCommand::decode(command.clone()).map_err(|error| unreadable(error.to_string()))?;
        self.time = self.time.max(Timestamp::new(command.stamp));
        let answer = match command.command {
            Some(Command::Join(join)) => self.join(join),
            Some(Command::DropMembers(stored::DropMembers { group, members })) => {
                self.change(&group, |group, _| Ok(group.drop_members(&members)))
            }
            Some(Command::ReturnShares(stored::ReturnShares { group, member, shares })) => {
                self.change(&group, |group, _| group.return_shares(MemberId::new(member), &shares))
            }
            Some(Command::TakeShares(stored::TakeShares { group, shares })) => {
                self.change(&group, |group, _| Ok(group.take_shares(&shares)))
            }
            Some(Command::MatchLogs(stored::MatchLogs { group, matched, pattern })) => {
                let matched = Matched::from_stored(matched.unwrap_or_default());
                self.change(&group, |group, room| {
                    let is_its = group.pattern.as_str() == pattern;
                    Ok(if is_its { group.match_logs(matched, room) } else { 0 })
                })
            }
            None => return Err(unreadable("it is of a kind unknown to this version".to_owned())),
        };
        Ok(Reply::Registrar(answer))
    }

    fn image(&self) -> Bytes {
        self.to_image()
    }

    fn install(&mut self, image: &Bytes) -> Result<(), MachineError> {
        *self = Self::from_image(image)?;
        Ok(())
    }
}

impl Registrar {
    fn join(&mut self, join: stored::JoinReaders) -> Answer {
        // They must not take the room of one that begins.
        self.forget_empty();
        let parsed = (join.group.parse::<ReaderGroupName>(), join.pattern.parse::<LogPattern>());
        let (Ok(name), Ok(pattern)) = parsed else { return Answer::Refused(Refused::UnknownGroup) };
        let mut group = match self.groups.get(&name) {
            Some(group) if group.members.is_empty() => ReaderGroup { pattern, ..group.clone() },
            Some(group) if group.pattern != pattern => {
                return Answer::Refused(Refused::OtherPattern { pattern: group.pattern.as_str().to_owned() });
            }
            Some(group) => group.clone(),
            None => ReaderGroup::new(pattern),
        };
        if let Some((member, known)) = group.members.iter().find(|(_, it)| it.request_id == join.request_id) {
            return Answer::Joined { member: *member, generation: known.joined, session_ms: known.session_ms };
        }
        let matched = Matched::from_stored(join.matched.unwrap_or_default());
        if let Err(refused) = self.has_room(&name, &group, &matched) {
            return Answer::Refused(refused);
        }
        let room = self.room_beside(&name);
        group.match_logs(matched, room);
        if group.shares.is_empty() && !join.may_wait {
            return Answer::Refused(Refused::NoLogs);
        }
        let generation = self.next_generation();
        let session_ms = join.session_ms.clamp(MIN_SESSION_MS, MAX_SESSION_MS);
        let mut client = join.client;
        client.truncate((0..=MAX_CLIENT_BYTES).rev().find(|at| client.is_char_boundary(*at)).unwrap_or(0));
        let member = MemberId::new(self.next_member);
        self.next_member += 1;
        group.members.insert(member, Member { client, session_ms, joined: generation, request_id: join.request_id });
        group.rebalance(generation);
        (group.generation, self.generation) = (generation, generation);
        self.groups.insert(name, group);
        Answer::Joined { member, generation, session_ms }
    }

    /// Whether one member more, and these logs, are within the bounds.
    fn has_room(&self, name: &ReaderGroupName, group: &ReaderGroup, matched: &Matched) -> Result<(), Refused> {
        let within = |bound, limit: usize, actual: usize| match actual > limit {
            true => Err(Refused::TooMany { bound, limit: limit as u64, actual: actual as u64 }),
            false => Ok(()),
        };
        if !self.groups.contains_key(name) {
            within("reader_groups", MAX_GROUPS, self.groups.len() + 1)?;
        }
        within("reader_group_members", MAX_MEMBERS, group.members.len() + 1)?;
        let members: usize = self.groups.values().map(|group| group.members.len()).sum();
        within("reader_members", MAX_MEMBERS_IN_ALL, members + 1)?;
        // Of a group that has members, what came to match later is left out.
        if group.members.is_empty() {
            let left_out = usize::try_from(matched.left_out).unwrap_or(usize::MAX);
            within("reader_group_logs", MAX_SHARES, matched.logs.len().saturating_add(left_out))?;
            let others = MAX_SHARES_IN_ALL - self.room_beside(name);
            within("reader_logs", MAX_SHARES_IN_ALL, others + matched.logs.len())?;
        }
        Ok(())
    }

    /// How many logs the group of that name may share, beside all others.
    fn room_beside(&self, name: &ReaderGroupName) -> usize {
        let others = self.groups.iter().filter(|(other, _)| *other != name);
        MAX_SHARES_IN_ALL.saturating_sub(others.map(|(_, group)| group.shares.len()).sum())
    }

    /// Changes a group, and lets everything in it be as planned.
    fn change(&mut self, name: &str, change: impl FnOnce(&mut ReaderGroup, usize) -> Result<usize, Refused>) -> Answer {
        let Ok(name) = name.parse::<ReaderGroupName>() else { return Answer::Refused(Refused::UnknownGroup) };
        let (generation, room) = (self.next_generation(), self.room_beside(&name));
        let Some(group) = self.groups.get_mut(&name) else { return Answer::Refused(Refused::UnknownGroup) };
        let changed = match change(group, room) {
            Ok(changed) => changed,
            Err(refused) => return Answer::Refused(refused),
        };
        if group.members.is_empty() && changed > 0 {
            group.empty_since = self.time;
        }
        if group.rebalance(generation) || changed > 0 {
            (group.generation, self.generation) = (generation, generation);
        }
        Answer::Done(changed)
    }

    /// Groups that had no members for long.
    fn forget_empty(&mut self) {
        let now = self.time.get();
        let is_old = |group: &ReaderGroup| now.saturating_sub(group.empty_since.get()) > EMPTY_GROUP_EXPIRY_MS;
        self.groups.retain(|_, group| !group.members.is_empty() || !is_old(group));
    }

    fn next_generation(&self) -> Generation {
        Generation::new(self.generation.get() + 1)
    }
}

impl ReaderGroup {
    fn drop_members(&mut self, gone: &[u64]) -> usize {
        gone.iter().filter(|member| self.members.remove(&MemberId::new(**member)).is_some()).count()
    }

    fn return_shares(&mut self, member: MemberId, returned: &[stored::HeldShare]) -> Result<usize, Refused> {
        if !self.members.contains_key(&member) {
            return Err(Refused::UnknownMember);
        }
        Ok(self.free(returned, |held| held.member == member))
    }

    /// What members were asked for and have not let go of.
    fn take_shares(&mut self, due: &[stored::HeldShare]) -> usize {
        self.free(due, |held| held.returning)
    }

    /// Lets nobody have those of `shares` that are still held as they say, and as
    /// `is_meant` says.
    fn free(&mut self, shares: &[stored::HeldShare], is_meant: impl Fn(&super::Held) -> bool) -> usize {
        let mut freed = 0;
        for &stored::HeldShare { log, generation } in shares {
            let Some(share) = self.shares.get_mut(&LogId::new(log)) else { continue };
            let is_this = |held: &super::Held| held.generation.get() == generation && is_meant(held);
            if share.held.as_ref().is_some_and(is_this) {
                share.held = None;
                freed += 1;
            }
        }
        freed
    }

    /// Shares the logs that match now, unless it knows newer ones; at most `room`.
    fn match_logs(&mut self, matched: Matched, room: usize) -> usize {
        if matched.version < self.version {
            return 0;
        }
        let logs: BTreeSet<LogId> = matched.logs.into_iter().collect();
        let many = logs.len();
        let logs: BTreeSet<LogId> = logs.into_iter().take(MAX_SHARES.min(room)).collect();
        let before = self.shares.len();
        self.version = matched.version;
        self.left_out = matched.left_out + (many - logs.len()) as u64;
        self.shares.retain(|log, _| logs.contains(log));
        let gone = before - self.shares.len();
        let kept = self.shares.len();
        for log in logs {
            self.shares.entry(log).or_default();
        }
        gone + self.shares.len() - kept
    }
}
