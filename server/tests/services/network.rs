//! A network inside one process: addresses are names, connections are pipes.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use quipu_protocol::environment::{BoxFuture, Connection, Listener, Network};
use tokio::io::{DuplexStream, duplex};
use tokio::sync::mpsc;

/// What a connection holds in each direction before its writer waits, bytes.
const PIPE_BYTES: usize = 64 << 10;
/// Connections that nobody has accepted yet.
const BACKLOG: usize = 64;

#[derive(Default)]
pub(crate) struct MemoryNetwork {
    listening: Arc<Mutex<BTreeMap<String, mpsc::Sender<DuplexStream>>>>,
}

impl Network for MemoryNetwork {
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Connection>>> {
        Box::pin(async move {
            let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
            let listener = self.listening.lock().expect("not poisoned").get(address).cloned().ok_or_else(refused)?;
            let (ours, theirs) = duplex(PIPE_BYTES);
            listener.send(theirs).await.map_err(|_| refused())?;
            Ok(Box::new(ours) as Box<dyn Connection>)
        })
    }

    fn listen<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let (sender, accepted) = mpsc::channel(BACKLOG);
            let mut listening = self.listening.lock().expect("not poisoned");
            if listening.get(address).is_some_and(|other| !other.is_closed()) {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            listening.insert(address.to_owned(), sender);
            Ok(Box::new(Accepting { accepted }) as Box<dyn Listener>)
        })
    }
}

struct Accepting {
    accepted: mpsc::Receiver<DuplexStream>,
}

fn nowhere() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 1).into()
}

impl Listener for Accepting {
    fn local_address(&self) -> io::Result<SocketAddr> {
        Ok(nowhere())
    }

    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn Connection>, SocketAddr)>> {
        Box::pin(async move {
            let connection = self.accepted.recv().await.ok_or(io::ErrorKind::NotConnected)?;
            Ok((Box::new(connection) as Box<dyn Connection>, nowhere()))
        })
    }
}
