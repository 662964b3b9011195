//! A registrar's commands, for whoever proposes them.

use bytes::Bytes;
use prost::Message;
use quipu_protocol::stored::registrar_command::Command;
use quipu_protocol::{Generation, LogId, LogPattern, MemberId, ReaderGroupName, Timestamp, stored};

/// Somebody who wants to be a member of a reader group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joining {
    /// The group.
    pub group: ReaderGroupName,
    /// Whose logs it shares.
    pub pattern: LogPattern,
    /// Who it is.
    pub client: String,
    /// How long it may be silent, ms.
    pub session_ms: u64,
    /// What no other request has.
    pub request_id: Bytes,
    /// Whether it joins if no log matches, too.
    pub may_wait: bool,
}

/// The logs that match a pattern.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matched {
    /// The catalog's version that they are as of.
    pub version: u64,
    /// The logs, in their order.
    pub logs: Vec<LogId>,
    /// How many match besides, and are too many.
    pub left_out: u64,
}

impl Matched {
    fn to_stored(&self) -> stored::MatchedLogs {
        let logs = self.logs.iter().map(|log| log.get()).collect();
        stored::MatchedLogs { version: self.version, logs, left_out: self.left_out }
    }

    pub(super) fn from_stored(matched: stored::MatchedLogs) -> Self {
        let logs = matched.logs.into_iter().map(LogId::new).collect();
        Self { version: matched.version, logs, left_out: matched.left_out }
    }
}

/// Makes somebody a member.
pub(super) fn join(joining: Joining, matched: &Matched) -> Command {
    Command::Join(stored::JoinReaders {
        group: joining.group.as_str().to_owned(),
        pattern: joining.pattern.as_str().to_owned(),
        client: joining.client,
        session_ms: joining.session_ms,
        request_id: joining.request_id,
        matched: Some(matched.to_stored()),
        may_wait: joining.may_wait,
    })
}

/// These have left, or were not heard of.
pub(super) fn drop_members(group: &ReaderGroupName, members: &[MemberId]) -> Command {
    let members = members.iter().map(|member| member.get()).collect();
    Command::DropMembers(stored::DropMembers { group: group.as_str().to_owned(), members })
}

/// `member` has let go of logs.
pub(super) fn return_shares(group: &ReaderGroupName, member: MemberId, shares: &[(LogId, Generation)]) -> Command {
    let (group, member) = (group.as_str().to_owned(), member.get());
    Command::ReturnShares(stored::ReturnShares { group, member, shares: held(shares) })
}

/// Members have not let go of logs in time.
pub(super) fn take_shares(group: &ReaderGroupName, shares: &[(LogId, Generation)]) -> Command {
    Command::TakeShares(stored::TakeShares { group: group.as_str().to_owned(), shares: held(shares) })
}

/// Other logs match the pattern, if it is still the group's.
pub(super) fn match_logs(group: &ReaderGroupName, pattern: &LogPattern, matched: &Matched) -> Command {
    let matched = Some(matched.to_stored());
    let pattern = pattern.as_str().to_owned();
    Command::MatchLogs(stored::MatchLogs { group: group.as_str().to_owned(), matched, pattern })
}

fn held(shares: &[(LogId, Generation)]) -> Vec<stored::HeldShare> {
    let held =
        |(log, generation): &(LogId, Generation)| stored::HeldShare { log: log.get(), generation: generation.get() };
    shares.iter().map(held).collect()
}

/// A command as it is proposed, stamped with the proposing leader's clock.
pub fn encode(stamp: Timestamp, command: Command) -> Bytes {
    stored::RegistrarCommand { stamp: stamp.get(), command: Some(command) }.encode_to_vec().into()
}
