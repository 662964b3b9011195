//! A node of a cluster of one, in this thread: disk, index and network are in
//! memory.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use quipu_protocol::environment::{BoxFuture, Connection, Environment, Listener, Network};
use quipu_protocol::transport::{ChannelOptions, channel};
use quipu_protocol::v1;
use quipu_protocol::v1::cluster_client::ClusterClient;
use quipu_server::config::Draft;
use quipu_server::{NodeEnvironment, Server};
use quipu_storage::{Kv, MemoryDisk, MemoryKv};
use tokio::io::{DuplexStream, duplex};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Channel;

/// Nothing in here takes as long; an input that takes longer hangs the node.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// The log that is there from the start.
pub(crate) const LOG: &str = "orders";

const PIPE_BYTES: usize = 64 << 10;
const ADDRESS: &str = "node:1";

/// A node that serves, and a way to it.
pub(crate) struct Node {
    runtime: Runtime,
    disk: Arc<MemoryDisk>,
    _server: Server,
    channel: Channel,
}

impl Node {
    /// A node with the log [`LOG`].
    pub(crate) fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let disk = Arc::new(MemoryDisk::new(1));
        let environment = Environment { network: Arc::new(Pipes::default()), ..quipu_sdk::system::environment() };
        let kv: Arc<dyn Kv> = Arc::new(MemoryKv::new());
        let outside = NodeEnvironment {
            environment: environment.clone(),
            disk: disk.clone(),
            kv: Arc::new(move || Ok(Arc::clone(&kv))),
            cpu_micros: Arc::new(|| 0),
            log_filter: None,
        };
        // Small segments: memory has to hold them. Cursors do not wait for company.
        let settings = "[journal]\nsegment_bytes = 2097152\n[log]\nlargest_max_batch_bytes = 1048576\ncursor_commit_interval_ms = 0\n";
        let draft = Draft::new().node(1).toml(settings).and_then(|draft| draft.peers_text("1=node:1"));
        let config = draft.and_then(Draft::validate).expect("a valid configuration");
        let (server, channel) = runtime.block_on(async {
            let server = Server::start(config, outside).await.expect("the node starts");
            server.ready().await.expect("the node takes part");
            let channel = channel(&environment, ADDRESS, ChannelOptions::default()).expect("an address");
            let create = v1::CreateLogRequest { name: LOG.to_owned(), config: None };
            while ClusterClient::new(channel.clone()).create_log(create.clone()).await.is_err() {
                tokio::task::yield_now().await;
            }
            (server, channel)
        });
        Self { runtime, disk, _server: server, channel }
    }

    /// What its disk holds, bytes.
    pub(crate) fn disk_bytes(&self) -> u64 {
        self.disk.size()
    }

    /// Runs `conversation` with the node.
    pub(crate) fn talk<F: Future>(&self, conversation: impl FnOnce(Channel) -> F) -> F::Output {
        let conversation = conversation(self.channel.clone());
        self.runtime.block_on(async { tokio::time::timeout(PATIENCE, conversation).await }).expect("the node answers")
    }
}

/// One listener, whose connections are pipes.
#[derive(Default)]
struct Pipes {
    listening: Mutex<Option<mpsc::Sender<DuplexStream>>>,
}

impl Network for Pipes {
    fn connect<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Connection>>> {
        Box::pin(async move {
            let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
            let listener = self.listening.lock().expect("not poisoned").clone().ok_or_else(refused)?;
            let (ours, theirs) = duplex(PIPE_BYTES);
            listener.send(theirs).await.map_err(|_| refused())?;
            Ok(Box::new(ours) as Box<dyn Connection>)
        })
    }

    fn listen<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let (sender, accepted) = mpsc::channel(16);
            *self.listening.lock().expect("not poisoned") = Some(sender);
            Ok(Box::new(Accepting { accepted }) as Box<dyn Listener>)
        })
    }
}

struct Accepting {
    accepted: mpsc::Receiver<DuplexStream>,
}

const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

impl Listener for Accepting {
    fn local_address(&self) -> io::Result<SocketAddr> {
        Ok(NOWHERE)
    }

    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn Connection>, SocketAddr)>> {
        Box::pin(async move {
            let connection = self.accepted.recv().await.ok_or(io::ErrorKind::NotConnected)?;
            Ok((Box::new(connection) as Box<dyn Connection>, NOWHERE))
        })
    }
}

/// Messages as the bytes that they are.
#[derive(Default)]
pub(crate) struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, target: &mut EncodeBuf<'_>) -> Result<(), Status> {
        target.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(source.copy_to_bytes(source.remaining())))
    }
}
