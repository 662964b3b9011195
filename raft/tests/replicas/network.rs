//! Calls from replica to replica, and cables that can be cut. Appends are sent
//! without waiting for the answers to those before.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, RaftNetworkFactory, RaftNetworkV2};
use quipu_raft::{LogMachine, Member, Raft, TypeConfig};
use tokio::sync::watch;

/// What connects the replicas.
#[derive(Clone, Default)]
pub(crate) struct Switch {
    inner: Arc<Mutex<Inner>>,
    paused: Arc<watch::Sender<Paused>>,
}

#[derive(Default)]
struct Inner {
    connected: BTreeMap<u64, Raft<LogMachine>>,
    cut: BTreeSet<u64>,
    /// How many appends, heartbeats among them, replicas were sent.
    appends: u64,
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

    /// How many appends, heartbeats among them, all replicas were sent so far.
    pub(crate) fn appends(&self) -> u64 {
        self.inner.lock().unwrap().appends
    }

    /// The network as `from` has it.
    pub(crate) fn port(&self, from: u64) -> Port {
        Port { switch: self.clone(), from }
    }

    fn reach(&self, from: u64, to: u64) -> Result<Raft<LogMachine>, Unreachable<TypeConfig>> {
        let inner = self.inner.lock().unwrap();
        let paused = self.paused.borrow();
        let cut_off = |replica: u64| paused.cut_off && paused.replica == Some(replica);
        let severed = inner.cut.contains(&from) || inner.cut.contains(&to) || cut_off(from) || cut_off(to);
        let target = inner.connected.get(&to).filter(|_| !severed).cloned();
        target.ok_or_else(|| Unreachable::new(&io::Error::from(io::ErrorKind::NotConnected)))
    }
}

/// The replica that is paused, if any is.
#[derive(Default)]
struct Paused {
    replica: Option<u64>,
    /// Whether nothing reaches it or leaves it any more.
    cut_off: bool,
    /// Whose answers, which had arrived in time, it has read since.
    read_from: BTreeSet<u64>,
    /// How much it has sent to each of the others since, in vain.
    sent: BTreeMap<u64, u64>,
}

impl Switch {
    /// `replica` reads no answer from now on: they wait for it where they arrive.
    pub(crate) fn pause(&self, replica: u64) {
        self.paused.send_replace(Paused { replica: Some(replica), ..Paused::default() });
    }

    /// Nothing more reaches the replica that is paused, or leaves it.
    pub(crate) fn cut_off_paused(&self) {
        self.paused.send_modify(|paused| paused.cut_off = true);
    }

    /// It goes on and reads what the replica `from` had answered.
    pub(crate) fn read_from(&self, from: u64) {
        self.paused.send_if_modified(|paused| paused.read_from.insert(from));
    }

    /// How much it has sent to the replica `to` since it was cut off.
    pub(crate) fn sent(&self, to: u64) -> u64 {
        self.paused.borrow().sent.get(&to).copied().unwrap_or_default()
    }

    /// Waits until it has sent more than `before` to the replica `to`.
    pub(crate) async fn sends(&self, to: u64, before: u64) {
        let mut paused = self.paused.subscribe();
        let sent = paused.wait_for(|paused| paused.sent.get(&to).is_some_and(|sent| *sent > before));
        sent.await.map(drop).expect("the switch is there");
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

#[derive(Clone)]
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
        if self.is_sent_in_vain() {
            return std::future::pending().await;
        }
        let answer = tokio::time::timeout(DEADLINE, call(self.target()?)).await;
        if !self.has_arrived().await {
            self.target()?;
        }
        answer.map_err(|late| Unreachable::new(&late))?.map_err(|error| Unreachable::new(&error))
    }
}

impl Cable {
    /// Whether the sender is cut off and does not know it.
    fn is_sent_in_vain(&self) -> bool {
        self.switch.paused.send_if_modified(|paused| {
            let in_vain = paused.cut_off && paused.replica == Some(self.from);
            if in_vain {
                *paused.sent.entry(self.to).or_default() += 1;
            }
            in_vain
        })
    }

    /// Whether an answer waits for a replica that is paused; then until that reads
    /// it, though it may be cut off by then.
    async fn has_arrived(&self) -> bool {
        let mut paused = self.switch.paused.subscribe();
        if paused.borrow().replica != Some(self.from) {
            return false;
        }
        paused.wait_for(|paused| paused.read_from.contains(&self.to)).await.is_ok()
    }

    async fn append(
        self,
        request: AppendEntriesRequest<TypeConfig>,
    ) -> Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>> {
        let previous = request.prev_log_id;
        let last = request.entries.last().map(|entry| entry.log_id).or(previous);
        self.switch.inner.lock().unwrap().appends += 1;
        let answer = self.call(async move |target| target.append_entries(request).await).await?;
        Ok(answer.into_stream_result(previous, last))
    }
}

/// How many appends are on their way to one replica at most.
const APPENDS: usize = 64;

impl RaftNetworkV2<TypeConfig> for Cable {
    type SnapshotData = Bytes;

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        _option: RPCOption,
    ) -> BoxFuture<
        's,
        Result<BoxStream<'s, Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>>, RPCError<TypeConfig>>,
    >
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        let cable = self.clone();
        let answers = input.map(move |request| cable.clone().append(request)).buffered(APPENDS);
        // Whatever is behind a failure fails with it.
        let answers = answers.scan(true, |going, answer| {
            let goes = std::mem::replace(going, matches!(answer, Ok(Ok(_))));
            std::future::ready(goes.then_some(answer))
        });
        let answers: BoxStream<'s, _> = Box::pin(answers);
        Box::pin(std::future::ready(Ok(answers)))
    }

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
