//! TCP.

use std::io;
use std::net::SocketAddr;

use quipu_protocol::environment::{BoxFuture, Connection, Listener, Network};
use tokio::net::{TcpListener, TcpStream};

/// TCP without Nagle's delay: a small append must not wait for the
/// acknowledgement of the one before.
pub(super) struct Tcp;

impl Network for Tcp {
    #[expect(clippy::disallowed_methods, reason = "the environment is where sockets come from")]
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Connection>>> {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Connection>)
        })
    }

    #[expect(clippy::disallowed_methods, reason = "the environment is where sockets come from")]
    fn listen<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let listener = TcpListener::bind(address).await?;
            Ok(Box::new(Accepting { listener }) as Box<dyn Listener>)
        })
    }
}

struct Accepting {
    listener: TcpListener,
}

impl Listener for Accepting {
    fn local_address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn Connection>, SocketAddr)>> {
        Box::pin(async move {
            let (stream, peer) = self.listener.accept().await?;
            // A connection that is gone already cannot be set; the first read
            // says so, and the next accept must not suffer from it.
            let _ = stream.set_nodelay(true);
            Ok((Box::new(stream) as Box<dyn Connection>, peer))
        })
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::{Network, Tcp};

    #[tokio::test]
    async fn bytes_cross_a_connection_both_ways() {
        let mut listener = Tcp.listen("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_address().expect("an address").to_string();
        let (near, far) = tokio::join!(Tcp.connect(&address), listener.accept());
        let (mut near, (mut far, _)) = (near.expect("connects"), far.expect("accepts"));
        let mut buffer = [0; 4];
        near.write_all(b"ping").await.expect("written");
        far.read_exact(&mut buffer).await.expect("read");
        assert_eq!(&buffer, b"ping");
        far.write_all(b"pong").await.expect("written");
        near.read_exact(&mut buffer).await.expect("read");
        assert_eq!(&buffer, b"pong");
    }
}
