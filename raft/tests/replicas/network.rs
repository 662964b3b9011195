//! Calls from replica to replica, and cables that can be cut.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, TransferLeaderResponse,
    VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, RaftNetworkFactory, RaftNetworkV2};
use quipu_raft::{LogMachine, Member, Raft, TypeConfig};

/// What connects the replicas.
#[derive(Clone, Default)]
pub(crate) struct Switch {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    connected: BTreeMap<u64, Raft<LogMachine>>,
    cut: BTreeSet<u64>,
}

impl Switch {
    pub(crate) fn connect(&self, replica: u64, raft: Raft<LogMachine>) {
        self.inner.lock().unwrap().connected.insert(replica, raft);
    }

    pub(crate) fn disconnect(&self, replica: u64) {
        self.inner.lock().unwrap().connected.remove(&replica);
    }

    /// Nothing reaches `replica` or leaves it, until it is mended.
    pub(crate) fn cut(&self, replica: u64) {
        self.inner.lock().unwrap().cut.insert(replica);
    }

    pub(crate) fn mend(&self, replica: u64) {
        self.inner.lock().unwrap().cut.remove(&replica);
    }

    /// The network as `from` has it.
    pub(crate) fn port(&self, from: u64) -> Port {
        Port { switch: self.clone(), from }
    }

    fn reach(&self, from: u64, to: u64) -> Result<Raft<LogMachine>, Unreachable<TypeConfig>> {
        let inner = self.inner.lock().unwrap();
        let severed = inner.cut.contains(&from) || inner.cut.contains(&to);
        let target = inner.connected.get(&to).filter(|_| !severed).cloned();
        target.ok_or_else(|| Unreachable::new(&io::Error::from(io::ErrorKind::NotConnected)))
    }
}

/// How long an answer may take.
const DEADLINE: Duration = Duration::from_secs(2);

pub(crate) struct Port {
    switch: Switch,
    from: u64,
}

impl RaftNetworkFactory<TypeConfig> for Port {
    type Network = Cable;

    async fn new_client(&mut self, target: u64, _node: &Member) -> Cable {
        Cable { switch: self.switch.clone(), from: self.from, to: target }
    }
}

pub(crate) struct Cable {
    switch: Switch,
    from: u64,
    to: u64,
}

impl Cable {
    fn target(&self) -> Result<Raft<LogMachine>, Unreachable<TypeConfig>> {
        self.switch.reach(self.from, self.to)
    }

    /// Calls the target. An answer arrives only if the cable is still whole,
    /// and in time: a node that died does not hang up.
    async fn call<T, E, F>(&self, call: impl FnOnce(Raft<LogMachine>) -> F) -> Result<T, Unreachable<TypeConfig>>
    where
        E: std::error::Error + 'static,
        F: Future<Output = Result<T, E>>,
    {
        let answer = tokio::time::timeout(DEADLINE, call(self.target()?)).await;
        self.target()?;
        answer.map_err(|late| Unreachable::new(&late))?.map_err(|error| Unreachable::new(&error))
    }
}

impl RaftNetworkV2<TypeConfig> for Cable {
    type SnapshotData = Bytes;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        Ok(self.call(async move |target| target.append_entries(rpc).await).await?)
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        Ok(self.call(async move |target| target.vote(rpc).await).await?)
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        Ok(self.call(async move |target| target.pre_vote(rpc).await).await?)
    }

    async fn full_snapshot(
        &mut self,
        vote: openraft::type_config::alias::VoteOf<TypeConfig>,
        snapshot: openraft::type_config::alias::SnapshotOf<TypeConfig, Bytes>,
        _cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        Ok(self.call(async move |target| target.install_full_snapshot(vote, snapshot).await).await?)
    }

    async fn transfer_leader(
        &mut self,
        rpc: TransferLeaderRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        Ok(self.call(async move |target| target.handle_transfer_leader(rpc).await).await?)
    }
}
