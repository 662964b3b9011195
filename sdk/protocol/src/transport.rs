//! gRPC over an environment's network: the one place where tonic meets it.
//!
//! Clients get a [`channel`], servers an [`incoming`] stream of connections;
//! neither ever opens a socket by itself.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::Stream;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::environment::{BoxFuture, Connection, Environment, Listener};

/// The largest flow-control window that HTTP/2 has, bytes.
pub const MAX_WINDOW_BYTES: u32 = (1 << 31) - 1;

/// The largest HTTP/2 frame that is taken, bytes. Of 16 KiB, the protocol's default, a
/// message of many records takes several, and each of them a buffer and a copy.
pub const MAX_FRAME_BYTES: u32 = 64 * 1024;

/// How a channel behaves.
#[derive(Clone, Copy, Debug)]
pub struct ChannelOptions {
    /// Opening a connection may take this long.
    pub connect_timeout: Duration,
    /// HTTP/2 flow-control window of each stream, bytes, up to [`MAX_WINDOW_BYTES`].
    pub window_bytes: u32,
    /// That of the connection's streams together.
    pub connection_window_bytes: u32,
    /// An idle connection is probed this often, and dropped when a probe stays
    /// unanswered as long again.
    pub keep_alive: Duration,
}

impl Default for ChannelOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(2),
            window_bytes: 4 << 20,
            connection_window_bytes: 4 << 20,
            keep_alive: Duration::from_secs(10),
        }
    }
}

/// A gRPC channel to `address` (`host:port`) that connects when first used and
/// again after a failure. An error says that `address` is no address.
pub fn channel(environment: &Environment, address: &str, options: ChannelOptions) -> Result<Channel, AddressError> {
    let bad = || AddressError { address: address.to_owned() };
    let uri: Uri = format!("http://{address}").parse().map_err(|_| bad())?;
    if uri.port_u16().is_none() || uri.host().is_none_or(str::is_empty) || !matches!(uri.path(), "" | "/") {
        return Err(bad());
    }
    let endpoint = Endpoint::from(uri)
        .connect_timeout(options.connect_timeout)
        .initial_stream_window_size(options.window_bytes)
        .initial_connection_window_size(options.connection_window_bytes)
        .max_frame_size(MAX_FRAME_BYTES)
        .http2_keep_alive_interval(options.keep_alive)
        .keep_alive_timeout(options.keep_alive)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true);
    let network = Arc::clone(&environment.network);
    let address = address.to_owned();
    let connector = tower::service_fn(move |_: Uri| {
        let (network, address) = (Arc::clone(&network), address.clone());
        async move { network.connect(&address).await.map(TokioIo::new) }
    });
    Ok(endpoint.connect_with_connector_lazy(connector))
}

/// The text is not of the form `host:port`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{address:?} is no address: host:port is expected, such as 127.0.0.1:7001")]
pub struct AddressError {
    /// What was given.
    pub address: String,
}

/// After a failed accept the next one waits so long: what made it fail (too
/// many open files, say) does not go away by asking again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The connections that arrive at `listener`, for tonic's
/// `serve_with_incoming`. A failed accept is passed on; tonic logs it and goes
/// on.
pub fn incoming(listener: Box<dyn Listener>) -> impl Stream<Item = io::Result<Incoming>> + Send + 'static {
    futures_util::stream::unfold((listener, false), |(mut listener, failed)| async move {
        if failed {
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
        let accepted = listener.accept().await.map(|(connection, _)| Incoming { connection, end: End::Never });
        let failed = accepted.is_err();
        Some((accepted, (listener, failed)))
    })
}

/// A connection as tonic's server wants it.
pub struct Incoming {
    connection: Box<dyn Connection>,
    end: End,
}

/// What ends a connection from this side.
enum End {
    Never,
    When(BoxFuture<'static, ()>),
    Now,
}

impl Incoming {
    /// Cuts the connection, whatever it does then, once `end` resolves. What
    /// `end` owns lives no longer than the connection.
    #[must_use]
    pub fn until(self, end: BoxFuture<'static, ()>) -> Self {
        Self { end: End::When(end), ..self }
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        match &mut self.end {
            End::Never => return Poll::Pending,
            End::When(end) => {
                if end.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                self.end = End::Now;
            }
            End::Now => {}
        }
        Poll::Ready(io::Error::new(io::ErrorKind::ConnectionAborted, "cut from this side"))
    }
}

impl Connected for Incoming {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Incoming {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // Reading is what a connection always waits for, so its end is noticed
        // here; writes only have to fail afterwards.
        match Pin::new(&mut self.connection).poll_read(cx, buffer) {
            Poll::Pending => self.poll_end(cx).map(Err),
            ready => ready,
        }
    }
}

impl AsyncWrite for Incoming {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.connection.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Mutex;

    use futures_util::FutureExt;
    use tokio::io::{AsyncReadExt, DuplexStream};
    use tokio::sync::mpsc;
    use tonic::Code;
    use tonic::service::Routes;
    use tonic::transport::Server;

    use super::*;
    use crate::Timestamp;
    use crate::environment::{Clock, Network, Random, Spawn, Task};
    use crate::v1::StatusRequest;
    use crate::v1::cluster_client::ClusterClient;

    /// One address, `node:1`, whose connections arrive at one listener.
    struct OneNode {
        arrivals: mpsc::UnboundedSender<DuplexStream>,
        listener: Mutex<Option<mpsc::UnboundedReceiver<DuplexStream>>>,
    }

    impl OneNode {
        fn new() -> Self {
            let (arrivals, listener) = mpsc::unbounded_channel();
            Self { arrivals, listener: Mutex::new(Some(listener)) }
        }
    }

    impl Network for OneNode {
        fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Connection>>> {
            Box::pin(async move {
                if address != "node:1" {
                    return Err(io::Error::new(io::ErrorKind::ConnectionRefused, format!("nobody is at {address}")));
                }
                let (ours, theirs) = tokio::io::duplex(4096);
                self.arrivals.send(theirs).expect("the listener is there");
                Ok(Box::new(ours) as Box<dyn Connection>)
            })
        }

        fn listen<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
            let listener = self.listener.lock().expect("not poisoned").take().expect("listened to once");
            Box::pin(async move { Ok(Box::new(Arrivals(listener)) as Box<dyn Listener>) })
        }
    }

    struct Arrivals(mpsc::UnboundedReceiver<DuplexStream>);

    impl Listener for Arrivals {
        fn local_address(&self) -> io::Result<SocketAddr> {
            Ok(([127, 0, 0, 1], 1).into())
        }

        fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn Connection>, SocketAddr)>> {
            Box::pin(async {
                let arrived = self.0.recv().await.ok_or(io::ErrorKind::BrokenPipe)?;
                Ok((Box::new(arrived) as Box<dyn Connection>, ([127, 0, 0, 1], 2).into()))
            })
        }
    }

    /// What a channel does not use.
    struct Unused;

    impl Clock for Unused {
        fn monotonic(&self) -> Duration {
            unreachable!("a channel reads no clock")
        }

        fn wall(&self) -> Timestamp {
            unreachable!("a channel reads no clock")
        }

        fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
            unreachable!("a channel reads no clock")
        }
    }

    impl Random for Unused {
        fn next(&self) -> u64 {
            unreachable!("a channel draws no number")
        }
    }

    impl Spawn for Unused {
        fn spawn(&self, _: &'static str, _: BoxFuture<'static, ()>) -> Task {
            unreachable!("a channel starts no task of ours")
        }
    }

    fn environment() -> Environment {
        Environment {
            clock: Arc::new(Unused),
            random: Arc::new(Unused),
            tasks: Arc::new(Unused),
            network: Arc::new(OneNode::new()),
            spans: None,
        }
    }

    #[tokio::test]
    async fn calls_go_through_the_environment_s_network_alone() {
        let environment = environment();
        let listener = environment.network.listen("node:1").await.expect("a listener");
        let server = Server::builder().add_routes(Routes::default()).serve_with_incoming(incoming(listener));
        let calls = async {
            let channel = channel(&environment, "node:1", ChannelOptions::default()).expect("an address");
            let answer = ClusterClient::new(channel).status(StatusRequest {}).await;
            answer.expect_err("the server has no services").code()
        };
        tokio::select! {
            biased;
            code = calls => assert_eq!(code, Code::Unimplemented),
            ended = server => panic!("the server ended: {ended:?}"),
        }
    }

    #[tokio::test]
    async fn a_connection_lives_until_its_end_and_drops_what_that_owns() {
        let (ours, _theirs) = tokio::io::duplex(16);
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let (owned, released) = tokio::sync::oneshot::channel::<()>();
        let until = async move {
            let _owned = owned;
            let _ = ended.await;
        };
        let mut connection = Incoming { connection: Box::new(ours), end: End::Never }.until(Box::pin(until));
        let mut byte = [0];
        let mut read = Box::pin(connection.read(&mut byte));
        assert!(read.as_mut().now_or_never().is_none(), "nothing has arrived");
        end.send(()).expect("it is waited for");
        assert_eq!(read.as_mut().await.expect_err("cut").kind(), io::ErrorKind::ConnectionAborted);
        drop(read);
        let again = connection.read(&mut byte).await;
        assert_eq!(again.expect_err("cut for good").kind(), io::ErrorKind::ConnectionAborted);
        drop(connection);
        assert!(released.await.is_err(), "what the end owned is gone");
    }

    #[tokio::test]
    async fn a_node_that_is_not_there_is_unavailable() {
        let channel = channel(&environment(), "elsewhere:1", ChannelOptions::default()).expect("an address");
        let error = ClusterClient::new(channel).status(StatusRequest {}).await.expect_err("nobody is there");
        assert_eq!(error.code(), Code::Unavailable);
    }

    #[tokio::test]
    async fn what_is_no_address_is_refused() {
        for address in ["", "host", "host:", ":1", "host:1/path", "host:99999", "a b:1"] {
            let refused = channel(&environment(), address, ChannelOptions::default()).map(drop);
            assert_eq!(refused, Err(AddressError { address: address.to_owned() }));
        }
    }
}
