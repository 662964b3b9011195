//! The calls to a peer that stand alone: hello, join, propose, status, fetch.
//!
//! They are rare, small, and work before either side has a cluster, so they
//! carry an introduction each and share a connection apart from the streams.

use std::ops::Range;
use std::time::Duration;

use quipu_protocol::peer::peers_client::PeersClient;
use quipu_protocol::peer::{
    FetchRequest, FetchedEntry, HelloRequest, Introduction, JoinReply, JoinRequest, NodeReport, ProposeReply,
    ProposeRequest, StatusRequest, fetch_reply, status_reply,
};
use quipu_protocol::transport::{self, ChannelOptions};
use quipu_protocol::{Index, LogId, NodeId, Term};
use quipu_storage::journal::{Entry, EntryId};
use tonic::transport::Channel;

use super::bounds::MAX_MESSAGE_BYTES;
use super::{POISONED, Peers};

/// A call to a peer that got no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UnaryError {
    /// It could not be reached or could not answer. Whether it acted is not
    /// known.
    #[error("{0}")]
    Unreachable(String),
    /// It did not answer in time. Whether it acted is not known.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// It answered that it does not deal with this node.
    #[error("{0}")]
    Refused(String),
}

impl Peers {
    /// Who the node at `address` is.
    pub(crate) async fn hello(&self, address: &str, deadline: Duration) -> Result<Introduction, UnaryError> {
        let mut client = self.client(address)?;
        let request = HelloRequest { from: Some(self.me()) };
        let reply = self.within(address, deadline, client.hello(request)).await?;
        reply.from.ok_or_else(|| UnaryError::Unreachable(format!("{address} did not introduce itself")))
    }

    /// Asks the node at `address` to take this node into its cluster.
    pub(crate) async fn join(&self, address: &str, deadline: Duration) -> Result<JoinReply, UnaryError> {
        let mut client = self.client(address)?;
        self.within(address, deadline, client.join(JoinRequest { from: Some(self.me()) })).await
    }

    /// Gives a command to `node`, which is taken for the catalog's leader.
    pub(crate) async fn propose(
        &self,
        node: NodeId,
        command: bytes::Bytes,
        deadline: Duration,
    ) -> Result<ProposeReply, UnaryError> {
        let address = self.address_of(node)?;
        let mut client = self.client(&address)?;
        let request = ProposeRequest { from: Some(self.me()), to: node.get(), command };
        self.within(&address, deadline, client.propose(request)).await
    }

    /// What `node` says of itself and of its replicas of `groups`.
    pub(crate) async fn report(
        &self,
        node: NodeId,
        groups: Vec<u64>,
        deadline: Duration,
    ) -> Result<NodeReport, UnaryError> {
        let address = self.address_of(node)?;
        let mut client = self.client(&address)?;
        let request = StatusRequest { from: Some(self.me()), to: node.get(), groups };
        match self.within(&address, deadline, client.status(request)).await?.outcome {
            Some(status_reply::Outcome::Report(report)) => Ok(report),
            Some(status_reply::Outcome::Refusal(refusal)) => Err(UnaryError::Refused(refusal.message)),
            None => Err(UnaryError::Unreachable(format!("node {node}'s report is empty"))),
        }
    }

    /// Entries of `group` in `range` that `node` has, from the first on, as many
    /// as one answer holds.
    pub(crate) async fn fetch(
        &self,
        node: NodeId,
        group: LogId,
        range: Range<Index>,
        deadline: Duration,
    ) -> Result<Vec<Entry>, UnaryError> {
        let address = self.address_of(node)?;
        let mut client = self.client(&address)?.max_decoding_message_size(MAX_MESSAGE_BYTES);
        let (first, end) = (range.start.get(), range.end.get());
        let request = FetchRequest { from: Some(self.me()), to: node.get(), group: group.get(), first, end };
        match self.within(&address, deadline, client.fetch(request)).await?.outcome {
            Some(fetch_reply::Outcome::Fetched(fetched)) => Ok(fetched.entries.into_iter().map(entry_of).collect()),
            Some(fetch_reply::Outcome::Refusal(refusal)) => Err(UnaryError::Refused(refusal.message)),
            None => Err(UnaryError::Unreachable(format!("node {node}'s answer is empty"))),
        }
    }

    /// A connection that is dead may not know it yet: after a call that got no
    /// answer in time the next one dials anew.
    async fn within<T>(
        &self,
        address: &str,
        deadline: Duration,
        call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> Result<T, UnaryError> {
        match self.environment.clock.timeout(deadline, call).await {
            Ok(Ok(reply)) => Ok(reply.into_inner()),
            Ok(Err(status)) => Err(UnaryError::Unreachable(status.message().to_owned())),
            Err(_) => {
                self.channels.lock().expect(POISONED).remove(address);
                Err(UnaryError::Timeout(deadline))
            }
        }
    }

    fn address_of(&self, node: NodeId) -> Result<String, UnaryError> {
        let address = self.address(node);
        address.ok_or_else(|| UnaryError::Unreachable(format!("node {node}'s address is not known")))
    }

    /// A client over the channel that is kept for `address`.
    fn client(&self, address: &str) -> Result<PeersClient<Channel>, UnaryError> {
        let mut channels = self.channels.lock().expect(POISONED);
        if let Some(channel) = channels.get(address) {
            return Ok(PeersClient::new(channel.clone()));
        }
        let channel = transport::channel(&self.environment, address, ChannelOptions::default())
            .map_err(|error| UnaryError::Unreachable(error.to_string()))?;
        // Addresses come and go; none is worth keeping for ever.
        if channels.len() >= super::bounds::MAX_CHANNELS {
            channels.pop_first();
        }
        channels.insert(address.to_owned(), channel.clone());
        Ok(PeersClient::new(channel))
    }
}

fn entry_of(fetched: FetchedEntry) -> Entry {
    let id = EntryId { term: Term::new(fetched.term), index: Index::new(fetched.index) };
    Entry { id, payload: fetched.payload }
}
