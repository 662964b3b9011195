//! The commits of cursors that an append carries.
//!
//! Encoded once and carried as bytes: a node sees how many bytes they are before it
//! decodes any, and a commit of two bytes takes many times as much in memory.

use bytes::Bytes;
use prost::Message;

use crate::v1;

impl v1::CarriedCommits {
    /// As an [`AppendRequest`](v1::AppendRequest) has them; empty for none.
    pub fn encoded(commits: Vec<v1::CursorCommit>) -> Bytes {
        Self { commits }.encode_to_vec().into()
    }
}
