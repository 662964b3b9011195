//! The simulated network: hosts by name, latencies drawn from the seed.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use quipu_protocol::environment::{BoxFuture, Connection, Listener, Network};
use turmoil::net::{TcpListener, TcpStream};

/// Listening and connecting as the host that does it.
pub(crate) struct SimulatedNetwork;

impl Network for SimulatedNetwork {
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Connection>>> {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            Ok(Box::new(stream) as Box<dyn Connection>)
        })
    }

    fn listen<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            // A host has one address; the port is what there is to choose.
            let port = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
            let port = port.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "host:port is expected"))?;
            let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await?;
            Ok(Box::new(SimulatedListener { listener }) as Box<dyn Listener>)
        })
    }
}

struct SimulatedListener {
    listener: TcpListener,
}

impl Listener for SimulatedListener {
    fn local_address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn Connection>, SocketAddr)>> {
        Box::pin(async move {
            let (stream, from) = self.listener.accept().await?;
            Ok((Box::new(stream) as Box<dyn Connection>, from))
        })
    }
}
