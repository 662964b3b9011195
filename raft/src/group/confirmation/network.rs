//! Any network, with the answers to appends counted as those to what was asked.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use futures_util::{Stream, StreamExt};
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{RPCError, ReplicationClosed, StreamingError};
use openraft::network::{
    Backoff, NetBackoff, NetSnapshot, NetStreamAppend, NetTransferLeader, NetVote, RPCOption, RaftNetworkFactory,
};
use openraft::raft::{
    AppendEntriesRequest, SnapshotResponse, StreamAppendResult, TransferLeaderRequest, TransferLeaderResponse,
    VoteRequest, VoteResponse,
};
use openraft::type_config::alias::SnapshotOf;
use quipu_protocol::Term;

use super::Confirmations;
use crate::group::POISONED;
use crate::types::{Member, TypeConfig, Vote};

/// One replica's way to the others, which tells [`Confirmations`] what they answer.
pub(in crate::group) struct Confirming<N> {
    network: N,
    confirmations: Arc<Confirmations>,
}

impl<N> Confirming<N> {
    pub(in crate::group) fn new(network: N, confirmations: Arc<Confirmations>) -> Self {
        Self { network, confirmations }
    }

    fn to<T>(&self, replica: u64, client: T) -> ConfirmingClient<T> {
        ConfirmingClient { client, replica, confirmations: Arc::clone(&self.confirmations) }
    }
}

impl<N: RaftNetworkFactory<TypeConfig>> RaftNetworkFactory<TypeConfig> for Confirming<N> {
    type Network = ConfirmingClient<N::Network>;

    async fn new_client(&mut self, target: u64, node: &Member) -> Self::Network {
        let client = self.network.new_client(target, node).await;
        self.to(target, client)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &Member) -> Self::Network {
        let client = self.network.new_heartbeat_client(target, node).await;
        self.to(target, client)
    }

    async fn new_snapshot_client(&mut self, target: u64, node: &Member) -> Self::Network {
        let client = self.network.new_snapshot_client(target, node).await;
        self.to(target, client)
    }
}

/// The way to one replica.
pub(in crate::group) struct ConfirmingClient<T> {
    client: T,
    replica: u64,
    confirmations: Arc<Confirmations>,
}

impl<T: NetStreamAppend<TypeConfig>> NetStreamAppend<TypeConfig> for ConfirmingClient<T> {
    /// openraft wants one answer to each request, in their order, of whoever
    /// implements this: so the first one under way is the one that is answered.
    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<
        's,
        Result<BoxStream<'s, Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>>, RPCError<TypeConfig>>,
    >
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + openraft::OptionalSend + Unpin + 'static,
    {
        let under_way = Arc::new(Mutex::new(VecDeque::new()));
        let (sent, confirmations) = (Arc::clone(&under_way), Arc::clone(&self.confirmations));
        let input = input.inspect(move |request| {
            let term = Term::new(request.vote.leader_id.term);
            sent.lock().expect(POISONED).push_back((term, confirmations.send()));
        });
        let (replica, confirmations) = (self.replica, Arc::clone(&self.confirmations));
        let answers = self.client.stream_append(input, option);
        Box::pin(async move {
            let answers = answers.await?.inspect(move |answer| {
                let answered = under_way.lock().expect(POISONED).pop_front();
                if let (Some((term, request)), Ok(Ok(_))) = (answered, answer) {
                    confirmations.answer(term, replica, request);
                }
            });
            let answers: BoxStream<'s, _> = Box::pin(answers);
            Ok(answers)
        })
    }
}

impl<T: NetVote<TypeConfig>> NetVote<TypeConfig> for ConfirmingClient<T> {
    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.client.vote(rpc, option).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.client.pre_vote(rpc, option).await
    }
}

impl<T: NetSnapshot<TypeConfig>> NetSnapshot<TypeConfig> for ConfirmingClient<T> {
    type SnapshotData = T::SnapshotData;

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: SnapshotOf<TypeConfig, Self::SnapshotData>,
        cancel: impl Future<Output = ReplicationClosed> + openraft::OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        self.client.full_snapshot(vote, snapshot, cancel, option).await
    }
}

impl<T: NetTransferLeader<TypeConfig>> NetTransferLeader<TypeConfig> for ConfirmingClient<T> {
    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.client.transfer_leader(req, option).await
    }
}

impl<T: NetBackoff<TypeConfig>> NetBackoff<TypeConfig> for ConfirmingClient<T> {
    fn backoff(&self) -> Option<Backoff> {
        self.client.backoff()
    }
}
