//! What a registrar knows, in memory and as its image.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;
use quipu_protocol::{Generation, LogId, LogPattern, MemberId, ReaderGroupName, Timestamp, stored};

use super::assignment::plan;
use super::{MAX_CLIENT_BYTES, MAX_SESSION_MS, MIN_SESSION_MS};
use crate::machine::MachineError;

/// A registrar's state.
///
/// # Invariants
/// - A generation is that of one change of one group: it is never used again,
///   not by a later group of the same name either.
/// - A member's number is never given to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registrar {
    pub(super) time: Timestamp,
    pub(super) next_member: u64,
    pub(super) generation: Generation,
    pub(super) groups: BTreeMap<ReaderGroupName, ReaderGroup>,
}

/// A reader group.
///
/// # Invariants
/// - A log is had by members of the group alone.
/// - While there are members, no log is nobody's; while there are none, it has
///   no logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReaderGroup {
    /// Which logs are shared.
    pub pattern: LogPattern,
    /// That of the last change of its members or of who has which log.
    pub generation: Generation,
    /// Its members.
    pub members: BTreeMap<MemberId, Member>,
    /// The logs, and who has them.
    pub shares: BTreeMap<LogId, Share>,
    /// The catalog's version that they are as of.
    pub version: u64,
    /// How many logs match besides, and are too many.
    pub left_out: u64,
    /// Since when it has had no members, if it has none.
    pub empty_since: Timestamp,
}

/// A member of a reader group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Who it says that it is.
    pub client: String,
    /// Not heard of for so long, it is a member no more; ms.
    pub session_ms: u64,
    /// The generation at which it joined.
    pub joined: Generation,
    /// What it joined by.
    pub request_id: Bytes,
}

/// A log of a reader group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// Who has it.
    pub held: Option<Held>,
}

/// That somebody has a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Who.
    pub member: MemberId,
    /// At which it was given.
    pub generation: Generation,
    /// Whether the member is asked to let go of it.
    pub returning: bool,
}

/// A registrar's answer to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is a member, perhaps since an earlier attempt of the same request.
    Joined {
        /// Its number.
        member: MemberId,
        /// At which it joined.
        generation: Generation,
        /// How long it may be silent, ms.
        session_ms: u64,
    },
    /// How many of the members, or of the logs, there were.
    Done(usize),
    /// Nothing was changed.
    Refused(Refused),
}

/// Why a registrar changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is no such group.
    #[error("there is no such reader group")]
    UnknownGroup,
    /// The group has no such member, or not any more.
    #[error("the reader group has no such member (any more)")]
    UnknownMember,
    /// The group has members, and shares other logs.
    #[error("the reader group shares the logs of {pattern:?}")]
    OtherPattern {
        /// Whose logs it shares.
        pattern: String,
    },
    /// No log matches.
    #[error("no log matches")]
    NoLogs,
    /// There would be too many of something.
    #[error("{bound} is {limit}, and there would be {actual}")]
    TooMany {
        /// Which bound.
        bound: &'static str,
        /// What it is.
        limit: u64,
        /// How many there would be.
        actual: u64,
    },
}

/// Numbers that are counted up never come near this.
const LAST_NUMBER: u64 = 1 << 62;

impl Default for Registrar {
    fn default() -> Self {
        Self { time: Timestamp::default(), next_member: 1, generation: Generation::default(), groups: BTreeMap::new() }
    }
}

impl Share {
    /// Who has it.
    pub fn holder(&self) -> Option<MemberId> {
        self.held.map(|held| held.member)
    }
}

impl Registrar {
    /// The reader groups.
    pub fn groups(&self) -> &BTreeMap<ReaderGroupName, ReaderGroup> {
        &self.groups
    }

    /// The last generation of any group.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    pub(super) fn to_image(&self) -> Bytes {
        let groups = self.groups.iter().map(|(name, group)| group.to_stored(name));
        let image = stored::Registrar {
            time: self.time.get(),
            next_member: self.next_member,
            generation: self.generation.get(),
            groups: groups.collect(),
        };
        image.encode_to_vec().into()
    }

    pub(super) fn from_image(image: &Bytes) -> Result<Self, MachineError> {
        let bad = |reason: String| MachineError::new("a registrar's image", reason);
        let image = stored::Registrar::decode(image.clone()).map_err(|error| bad(error.to_string()))?;
        for (what, number) in [("member", image.next_member), ("generation", image.generation)] {
            if number > LAST_NUMBER {
                return Err(bad(format!("its next {what} is {number}, which no cluster comes to")));
            }
        }
        let mut groups = BTreeMap::new();
        for group in image.groups {
            let name = group.name.clone();
            let parsed = name.parse().map_err(|error| bad(format!("{name:?}: {error}")))?;
            let group = ReaderGroup::from_stored(group).map_err(|why| bad(format!("{name:?}: {why}")))?;
            let newest = group.members.keys().max().map_or(0, |member| member.get());
            let given = group.shares.values().filter_map(|share| share.held.map(|held| held.generation));
            let last = given.chain([group.generation]).max().unwrap_or_default();
            if newest >= image.next_member || last.get() > image.generation {
                return Err(bad(format!("{name:?} has a member or a generation that there never was")));
            }
            groups.insert(parsed, group);
        }
        Ok(Self {
            time: Timestamp::new(image.time),
            next_member: image.next_member,
            generation: Generation::new(image.generation),
            groups,
        })
    }
}

impl ReaderGroup {
    pub(super) fn new(pattern: LogPattern) -> Self {
        Self {
            pattern,
            generation: Generation::default(),
            members: BTreeMap::new(),
            shares: BTreeMap::new(),
            version: 0,
            left_out: 0,
            empty_since: Timestamp::default(),
        }
    }

    /// The logs that `member` has.
    pub fn shares_of(&self, member: MemberId) -> impl Iterator<Item = (LogId, Held)> {
        let held = self.shares.iter().filter_map(|(log, share)| Some((*log, share.held?)));
        held.filter(move |(_, held)| held.member == member)
    }

    /// Lets everything be as planned, as far as it can be without those who have
    /// to let go: `generation` is that of whatever is given now. Whether anything
    /// has changed.
    pub(super) fn rebalance(&mut self, generation: Generation) -> bool {
        if self.members.is_empty() {
            self.version = 0;
            self.left_out = 0;
            return !std::mem::take(&mut self.shares).is_empty();
        }
        let members: Vec<MemberId> = self.members.keys().copied().collect();
        for share in self.shares.values_mut() {
            share.held = share.held.filter(|held| self.members.contains_key(&held.member));
        }
        let wanted = plan(&members, &self.shares);
        let mut changed = false;
        for (log, share) in &mut self.shares {
            let member = wanted[log];
            let before = share.held;
            let held = before.unwrap_or(Held { member, generation, returning: false });
            share.held = Some(Held { returning: held.member != member, ..held });
            changed |= share.held != before;
        }
        changed
    }

    fn to_stored(&self, name: &ReaderGroupName) -> stored::ReaderGroup {
        let member = |(id, member): (&MemberId, &Member)| stored::ReaderMember {
            id: id.get(),
            client: member.client.clone(),
            session_ms: member.session_ms,
            joined: member.joined.get(),
            request_id: member.request_id.clone(),
        };
        let share = |(log, share): (&LogId, &Share)| {
            let held = share.held.as_ref();
            stored::ReaderShare {
                log: log.get(),
                member: held.map_or(0, |held| held.member.get()),
                generation: held.map_or(0, |held| held.generation.get()),
                returning: held.is_some_and(|held| held.returning),
            }
        };
        stored::ReaderGroup {
            name: name.as_str().to_owned(),
            pattern: self.pattern.as_str().to_owned(),
            generation: self.generation.get(),
            members: self.members.iter().map(member).collect(),
            shares: self.shares.iter().map(share).collect(),
            version: self.version,
            left_out: self.left_out,
            empty_since: self.empty_since.get(),
        }
    }

    fn from_stored(group: stored::ReaderGroup) -> Result<Self, String> {
        let mut members = BTreeMap::new();
        for stored::ReaderMember { id, client, session_ms, joined, request_id } in group.members {
            if !(MIN_SESSION_MS..=MAX_SESSION_MS).contains(&session_ms) || client.len() > MAX_CLIENT_BYTES {
                return Err(format!("member {id} is none that could have joined"));
            }
            let member = Member { client, session_ms, joined: Generation::new(joined), request_id };
            members.insert(MemberId::new(id), member);
        }
        let mut shares = BTreeMap::new();
        for stored::ReaderShare { log, member, generation, returning } in group.shares {
            let (member, generation) = (MemberId::new(member), Generation::new(generation));
            // While there are members every log is somebody's.
            if !members.contains_key(&member) {
                return Err(format!("log {log} is had by {member}, which is no member"));
            }
            shares.insert(LogId::new(log), Share { held: Some(Held { member, generation, returning }) });
        }
        Ok(Self {
            pattern: group.pattern.parse().map_err(|error| format!("{:?}: {error}", group.pattern))?,
            generation: Generation::new(group.generation),
            members,
            shares,
            version: group.version,
            left_out: group.left_out,
            empty_since: Timestamp::new(group.empty_since),
        })
    }
}
