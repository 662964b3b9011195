//! Every bound of the traffic between nodes, in one place.

use std::time::Duration;

/// The most bytes of a request or a reply that travel in one message.
pub(crate) const PIECE_BYTES: usize = 256 << 10;

/// The largest request or reply, bytes: one entry with a batch of 64 MiB, and
/// what travels with it.
pub(crate) const MAX_MESSAGE_BYTES: usize = 80 << 20;

/// The most bytes of unfinished requests that a receiver holds for one stream.
/// A sender starts no request that would bring it over this.
pub(crate) const MAX_UNFINISHED_BYTES: usize = 2 * MAX_MESSAGE_BYTES;

/// The most bytes of requests that wait on one link to be sent. More are
/// refused to the group that brings them, which backs off.
pub(crate) const MAX_QUEUED_BYTES: u64 = 256 << 20;

/// The most requests that wait on one link, for their sending or their reply.
pub(crate) const MAX_CALLS: usize = 8192;

/// The most requests of one stream that a receiver works on, and the most bytes
/// of them. It reads on once there are fewer.
pub(crate) const MAX_HANDLED: usize = 1024;
/// See [`MAX_HANDLED`].
pub(crate) const MAX_HANDLED_BYTES: usize = MAX_UNFINISHED_BYTES;

/// The most lanes that one stream opens, one for each pair of replicas and each
/// of their sessions' replacements. A stream that comes to it ends, and is
/// opened anew by the peer.
pub(crate) const MAX_LANES: usize = 16_384;

/// The most appends of one group, and the most bytes of them (but always one),
/// that are on their way to one replica.
pub(crate) const MAX_APPENDS_IN_FLIGHT: usize = 64;
/// See [`MAX_APPENDS_IN_FLIGHT`].
pub(crate) const MAX_APPEND_BYTES_IN_FLIGHT: usize = 8 << 20;

/// How many messages wait between a stream's task and the network.
pub(crate) const STREAM_QUEUE: usize = 4;

/// Opening a stream, up to the peer's introduction, may take this long.
pub(crate) const OPEN_DEADLINE: Duration = Duration::from_secs(2);

/// A stream is opened again after a time drawn from half of this to all of it,
/// doubled with each failure up to [`LONGEST_BACKOFF`].
pub(crate) const FIRST_BACKOFF: Duration = Duration::from_millis(50);
/// See [`FIRST_BACKOFF`].
pub(crate) const LONGEST_BACKOFF: Duration = Duration::from_secs(1);

/// A message for a group that is not known here waits this long for the
/// catalog to catch up before it is refused.
pub(crate) const UNKNOWN_GROUP_WAIT: Duration = Duration::from_millis(500);

/// The connections that are kept for calls that stand alone.
pub(crate) const MAX_CHANNELS: usize = 1024;

/// The nodes whose starts are remembered.
pub(crate) const MAX_REMEMBERED_NODES: usize = 4096;

const _: () = assert!(PIECE_BYTES < MAX_MESSAGE_BYTES && MAX_MESSAGE_BYTES <= MAX_UNFINISHED_BYTES);
const _: () = assert!(MAX_APPEND_BYTES_IN_FLIGHT as u64 <= MAX_QUEUED_BYTES);
