//! A network in memory: connections by name, cut by name, as fast as is said.
//!
//! ```text
//!   client ══ duplex ══ pump ══ duplex ══ server
//!                         │ one chunk at a time, at the pace of the pair
//! ```
//!
//! All connections between two nodes share one link in each direction, chunk
//! by chunk in the order of their coming, as on a wire.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quipu_protocol::environment::{BoxFuture, Connection, Environment, Listener, Network, Task};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::mpsc;

/// What a connection buffers on each side, bytes.
const BUFFER: usize = 64 << 10;
/// What travels at once, bytes.
const CHUNK: usize = 16 << 10;

/// The wires between all nodes.
#[derive(Clone)]
pub(crate) struct Wires {
    environment: Environment,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    listeners: BTreeMap<String, mpsc::Sender<DuplexStream>>,
    connections: Vec<Wire>,
    cut: BTreeSet<String>,
    bytes_per_second: Option<u64>,
    /// When each directed link is free again.
    free_at: BTreeMap<(String, String), Duration>,
}

struct Wire {
    ends: [String; 2],
    _pumps: [Task; 2],
}

impl Wires {
    pub(crate) fn new(environment: &Environment) -> Self {
        Self { environment: environment.clone(), state: Arc::default() }
    }

    /// The environment of the node at `address`.
    pub(crate) fn environment(&self, address: &str) -> Environment {
        let network = NodeNetwork { wires: self.clone(), address: address.to_owned() };
        Environment { network: Arc::new(network), ..self.environment.clone() }
    }

    /// From now on each pair of nodes has a link of this speed.
    pub(crate) fn limit(&self, bytes_per_second: u64) {
        self.state().bytes_per_second = Some(bytes_per_second);
    }

    /// Breaks every connection of the node, and lets it have none.
    pub(crate) fn cut(&self, address: &str) {
        let mut state = self.state();
        state.cut.insert(address.to_owned());
        state.listeners.remove(address);
        state.connections.retain(|wire| wire.ends.iter().all(|end| end != address));
    }

    /// Lets the node have connections again.
    pub(crate) fn mend(&self, address: &str) {
        self.state().cut.remove(address);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connect(&self, from: &str, to: &str) -> io::Result<DuplexStream> {
        let mut state = self.state();
        let refused = || io::Error::new(io::ErrorKind::ConnectionRefused, format!("{to} does not listen"));
        if state.cut.contains(from) || state.cut.contains(to) {
            return Err(refused());
        }
        let listener = state.listeners.get(to).ok_or_else(refused)?;
        let (client, client_side) = tokio::io::duplex(BUFFER);
        let (server, server_side) = tokio::io::duplex(BUFFER);
        listener.try_send(server).map_err(|_| refused())?;
        let (client_read, client_write) = tokio::io::split(client_side);
        let (server_read, server_write) = tokio::io::split(server_side);
        let pumps = [self.pump(client_read, server_write, from, to), self.pump(server_read, client_write, to, from)];
        state.connections.push(Wire { ends: [from.to_owned(), to.to_owned()], _pumps: pumps });
        Ok(client)
    }

    fn pump(&self, from: ReadHalf<DuplexStream>, to: WriteHalf<DuplexStream>, source: &str, target: &str) -> Task {
        let wires = self.clone();
        let link = (source.to_owned(), target.to_owned());
        self.environment.tasks.spawn("wire", Box::pin(async move { wires.carry(from, to, link).await }))
    }

    async fn carry(self, mut from: ReadHalf<DuplexStream>, mut to: WriteHalf<DuplexStream>, link: (String, String)) {
        let mut chunk = vec![0; CHUNK];
        while let Ok(bytes @ 1..) = from.read(&mut chunk).await {
            let wait = self.reserve(&link, bytes);
            if !wait.is_zero() {
                self.environment.clock.sleep(wait).await;
            }
            if to.write_all(&chunk[..bytes]).await.is_err() {
                break;
            }
        }
        let _ = to.shutdown().await;
    }

    /// Takes the link for `bytes`; returns how long they take to get through.
    fn reserve(&self, link: &(String, String), bytes: usize) -> Duration {
        let mut state = self.state();
        let Some(speed) = state.bytes_per_second else { return Duration::ZERO };
        let now = self.environment.clock.monotonic();
        let free = state.free_at.get(link).copied().unwrap_or_default().max(now);
        let done = free + Duration::from_nanos(bytes as u64 * 1_000_000_000 / speed);
        state.free_at.insert(link.clone(), done);
        done - now
    }
}

/// The network as one node has it.
struct NodeNetwork {
    wires: Wires,
    address: String,
}

impl Network for NodeNetwork {
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Connection>>> {
        Box::pin(async move {
            let connection = self.wires.connect(&self.address, address)?;
            Ok(Box::new(connection) as Box<dyn Connection>)
        })
    }

    fn listen<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let (sender, connections) = mpsc::channel(1024);
            self.wires.state().listeners.insert(address.to_owned(), sender);
            Ok(Box::new(NodeListener { connections }) as Box<dyn Listener>)
        })
    }
}

struct NodeListener {
    connections: mpsc::Receiver<DuplexStream>,
}

impl Listener for NodeListener {
    fn local_address(&self) -> io::Result<SocketAddr> {
        Ok(SocketAddr::from(([127, 0, 0, 1], 1)))
    }

    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn Connection>, SocketAddr)>> {
        Box::pin(async move {
            match self.connections.recv().await {
                Some(connection) => {
                    Ok((Box::new(connection) as Box<dyn Connection>, SocketAddr::from(([127, 0, 0, 1], 1))))
                }
                None => std::future::pending().await,
            }
        })
    }
}
