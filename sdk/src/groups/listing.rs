//! What a cluster says of its reader groups.

use std::sync::Arc;
use std::time::Duration;

use quipu_protocol::v1::reader_groups_client::ReaderGroupsClient;
use quipu_protocol::{Generation, LogId, LogName, MemberId, ReaderGroupName, v1};

use crate::cluster::{Cluster, MAX_MESSAGE_BYTES, Target};
use crate::{GroupError, RequestError};

/// How many groups are asked for at once.
const PAGE: u32 = 1_000;

/// A reader group and who is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupDescription {
    /// Its name.
    pub name: ReaderGroupName,
    /// The pattern of the logs that its members share.
    pub pattern: String,
    /// Raised by each change of members or of who has which log.
    pub generation: Generation,
    /// Its members, by number.
    pub members: Vec<GroupMember>,
    /// How many logs they share.
    pub logs: u64,
    /// How many logs match besides, and are too many.
    pub left_out: u64,
}

/// A member of a reader group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMember {
    /// Its number, never given to another.
    pub member: MemberId,
    /// Who it says that it is.
    pub client: String,
    /// How long it may be silent.
    pub session: Duration,
    /// How long ago it was heard of.
    pub silent_for: Duration,
    /// The generation at which it joined.
    pub joined: Generation,
    /// The logs that it has, by name.
    pub shares: Vec<GroupShare>,
}

/// A log that a member has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupShare {
    /// The log.
    pub log: LogName,
    /// Its id.
    pub log_id: LogId,
    /// At which it was given.
    pub generation: Generation,
    /// Whether the member is asked to let go of it.
    pub returning: bool,
}

/// A reader group in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSummary {
    /// Its name.
    pub name: ReaderGroupName,
    /// The pattern of the logs that its members share.
    pub pattern: String,
    /// That of its last change.
    pub generation: Generation,
    /// How many members it has.
    pub members: u64,
    /// How many logs they share.
    pub logs: u64,
}

/// One group, as it is now.
pub(crate) async fn describe(cluster: &Arc<Cluster>, group: &ReaderGroupName) -> Result<GroupDescription, GroupError> {
    let request = || v1::DescribeReaderGroupRequest { group: group.to_string() };
    let call = |channel| async {
        ReaderGroupsClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES).describe(request()).await
    };
    let answer = cluster.call(Target::Keeper(group.clone()), call).await;
    let answer = answer.map_err(|error| GroupError::of(group, error))?;
    let (address, found) = (answer.address, answer.value);
    let members: Result<Vec<GroupMember>, RequestError> =
        found.members.into_iter().map(|it| member(it).map_err(|why| malformed(&address, why))).collect();
    Ok(GroupDescription {
        name: group.clone(),
        pattern: found.pattern,
        generation: Generation::new(found.generation),
        members: members?,
        logs: found.logs,
        left_out: found.left_out,
    })
}

/// All groups, by name.
pub(crate) async fn list(cluster: &Arc<Cluster>) -> Result<Vec<GroupSummary>, GroupError> {
    let (mut groups, mut registrar, mut after) = (Vec::new(), 0, String::new());
    loop {
        let request = || v1::ListReaderGroupsRequest { registrar, after: after.clone(), limit: PAGE };
        let call = |channel| async {
            ReaderGroupsClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES).list(request()).await
        };
        let answer = cluster.call(Target::Any, call).await.map_err(crate::cluster::PursuitError::into_request_error)?;
        let (address, page) = (answer.address, answer.value);
        let last = page.groups.last().map(|last| last.group.clone());
        for group in page.groups {
            groups.push(summary(group).map_err(|why| malformed(&address, why))?);
        }
        // A page that brings nothing new would be asked for again for ever.
        match last.filter(|last| page.more && *last > after) {
            Some(last) => after = last,
            None => {
                registrar += 1;
                after.clear();
            }
        }
        if registrar >= page.registrars {
            groups.sort_by(|one: &GroupSummary, other| one.name.cmp(&other.name));
            return Ok(groups);
        }
    }
}

fn member(member: v1::ReaderMemberDescription) -> Result<GroupMember, String> {
    let share = |share: v1::ReaderShare| {
        Ok(GroupShare {
            log: share.log.parse().map_err(|error| format!("{:?}: {error}", share.log))?,
            log_id: LogId::new(share.log_id),
            generation: Generation::new(share.generation),
            returning: share.returning,
        })
    };
    Ok(GroupMember {
        member: MemberId::new(member.member),
        client: member.client,
        session: Duration::from_millis(member.session_ms),
        silent_for: Duration::from_millis(member.heard_ms),
        joined: Generation::new(member.joined),
        shares: member.shares.into_iter().map(share).collect::<Result<_, String>>()?,
    })
}

fn summary(group: v1::ReaderGroupSummary) -> Result<GroupSummary, String> {
    Ok(GroupSummary {
        name: group.group.parse().map_err(|error| format!("{:?}: {error}", group.group))?,
        pattern: group.pattern,
        generation: Generation::new(group.generation),
        members: group.members,
        logs: group.logs,
    })
}

fn malformed(address: &str, violation: String) -> RequestError {
    RequestError::Protocol { address: address.to_owned(), violation }
}
