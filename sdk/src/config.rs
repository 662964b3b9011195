//! What a client, a producer and a reader can be told, and its bounds.
//!
//! Every field has a default that suits most programs; what contradicts a
//! bound is refused when the thing is made, with the field's name.

use std::time::Duration;

use quipu_protocol::batch::Compression;
use quipu_protocol::trace::TraceContext;
use quipu_protocol::transport::AddressError;
use quipu_protocol::{NodeId, Offset, Timestamp, WriterEpoch, v1};

use crate::Barrier;

/// How a [`Client`](crate::Client) reaches its cluster.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Addresses (`host:port`) of some of the cluster's nodes; one that
    /// answers is enough, it names the others.
    pub bootstrap: Vec<String>,
    /// How long one attempt of a request may take. Default 5 s.
    pub request_timeout: Duration,
    /// How long an operation is tried again before it fails. Default 30 s.
    pub retry_timeout: Duration,
    /// The longest wait before the second attempt; it doubles from attempt to
    /// attempt, and each wait is drawn between half of it and all. Default
    /// 20 ms.
    pub retry_backoff: Duration,
    /// The longest wait between two attempts. Default 500 ms.
    pub retry_backoff_max: Duration,
    /// A silent connection is probed this often, and given up when the probe
    /// is not answered in as long again. Default 5 s.
    pub keep_alive: Duration,
}

impl ClientConfig {
    /// The defaults, with these addresses to start from.
    pub fn new(bootstrap: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            bootstrap: bootstrap.into_iter().map(Into::into).collect(),
            request_timeout: Duration::from_secs(5),
            retry_timeout: Duration::from_secs(30),
            retry_backoff: Duration::from_millis(20),
            retry_backoff_max: Duration::from_millis(500),
            keep_alive: Duration::from_secs(5),
        }
    }

    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        if self.bootstrap.is_empty() {
            return Err(ConfigError::NoBootstrap);
        }
        let millisecond = Duration::from_millis(1);
        at_least("request_timeout", self.request_timeout, millisecond)?;
        at_least("retry_backoff", self.retry_backoff, millisecond)?;
        at_least("retry_backoff_max", self.retry_backoff_max, self.retry_backoff)?;
        at_least("keep_alive", self.keep_alive, millisecond)
    }
}

/// How a [`Producer`](crate::Producer) batches, bounds and retries.
#[derive(Clone, Debug)]
pub struct ProducerConfig {
    /// How long [`send`](crate::Producer::send) holds a record back so that
    /// others can join its batch. 0 (the default) holds nothing back: what has
    /// gathered while requests were in flight goes as one batch.
    pub linger: Duration,
    /// A batch gathered by `send` is closed at this size, before compression.
    /// Default 256 KiB, 1 KiB to 64 MiB. A larger single record goes alone.
    pub batch_bytes: usize,
    /// A batch gathered by `send` is closed at so many records. Default 10,000.
    pub batch_records: u32,
    /// The most batches in flight. Default and most: 64, since a log remembers
    /// a producer's last 64 appends.
    pub in_flight: usize,
    /// The most bytes of records that are taken and not yet answered;
    /// `send` and `append` wait for room. Default 64 MiB, at least 1 KiB.
    pub buffer_bytes: usize,
    /// How batches are compressed. Default: not at all.
    pub compression: Compression,
    /// How long a batch may take, from when it is taken until it is answered.
    /// After that its outcome is unknown, unless it was never sent. Default
    /// 120 s.
    pub delivery_timeout: Duration,
    /// Whether batches are numbered, so that a retry lands once and in order.
    /// Default true. Without it, whatever was sent and not answered is of
    /// unknown outcome at once and is not sent again.
    pub idempotent: bool,
    /// The log's writer epoch, as [`acquire_writer`](crate::Client::acquire_writer)
    /// gave it: once somebody else has acquired a newer one, nothing is appended
    /// any more ([`AppendError::WriterFenced`](crate::AppendError::WriterFenced)).
    /// Default: none.
    pub writer_epoch: Option<WriterEpoch>,
    /// The span that everything is appended for, if the cluster is to tell what
    /// it does for it: it goes along as W3C Trace Context. Default: none.
    pub trace: Option<TraceContext>,
}

impl ProducerConfig {
    /// The most batches that a log remembers of one producer, and so the most
    /// that may be in flight.
    pub const MAX_IN_FLIGHT: usize = 64;
    /// The largest batch that any log takes.
    pub const MAX_BATCH_BYTES: usize = 64 << 20;

    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        within("batch_bytes", self.batch_bytes, 1 << 10, Self::MAX_BATCH_BYTES)?;
        within("batch_records", self.batch_records as usize, 1, i32::MAX as usize)?;
        within("in_flight", self.in_flight, 1, Self::MAX_IN_FLIGHT)?;
        within("buffer_bytes", self.buffer_bytes, 1 << 10, u32::MAX as usize)?;
        at_least("delivery_timeout", self.delivery_timeout, Duration::from_millis(1))?;
        if self.linger >= self.delivery_timeout {
            return Err(ConfigError::LingerPastDelivery {
                linger: self.linger,
                delivery_timeout: self.delivery_timeout,
            });
        }
        Ok(())
    }
}

impl Default for ProducerConfig {
    fn default() -> Self {
        Self {
            linger: Duration::ZERO,
            batch_bytes: 256 << 10,
            batch_records: 10_000,
            in_flight: Self::MAX_IN_FLIGHT,
            buffer_bytes: 64 << 20,
            compression: Compression::None,
            delivery_timeout: Duration::from_secs(120),
            idempotent: true,
            writer_epoch: None,
            trace: None,
        }
    }
}

/// What a [`Reader`](crate::Reader) reads.
#[derive(Clone, Debug)]
pub struct ReaderConfig {
    /// Where to begin. Default: the start.
    pub from: From,
    /// Stop after so many records. Default: no bound.
    pub max_records: Option<u64>,
    /// Wait for more at the end instead of stopping there. Default false.
    pub follow: bool,
    /// Linearizable (the default) reads at least all that was acknowledged
    /// before; local reads what some replica has applied.
    pub consistency: Consistency,
    /// Read this node's own committed copy, which is a local read whatever
    /// `consistency` says.
    pub node: Option<NodeId>,
    /// The most bytes of batches that one answer carries; at least one batch
    /// always is. Default 1 MiB.
    pub max_bytes: u32,
    /// What to do when the next record was trimmed. Default: fail.
    pub on_trimmed: OnTrimmed,
    /// See everything before this [barrier](crate::Client::barrier), whichever
    /// replica is read from: one that has not applied it yet is waited for.
    /// Default: none.
    pub after: Option<Barrier>,
    /// How long one replica is waited for before another one is asked, or before
    /// the chosen one is given up
    /// ([`NotYetApplied`](crate::ReadError::NotYetApplied)). Default 1 s, at most
    /// 60 s.
    pub after_wait: Duration,
    /// Take no local answer that may be older than this: another replica is asked,
    /// and a chosen one is given up ([`TooStale`](crate::ReadError::TooStale)). A
    /// replica hears from its leader once a heartbeat (100 ms by default), so that
    /// much less is of no use. Default: any age.
    pub max_age: Option<Duration>,
}

impl ReaderConfig {
    /// The longest that a replica is waited for.
    pub const MAX_AFTER_WAIT: Duration = Duration::from_secs(60);

    /// Whether any replica does.
    pub(crate) const fn is_local(&self) -> bool {
        self.node.is_some() || matches!(self.consistency, Consistency::Local)
    }

    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        at_most("after_wait", self.after_wait, Self::MAX_AFTER_WAIT)?;
        if self.max_age.is_some() && !self.is_local() {
            return Err(ConfigError::AgeOfLinearizable);
        }
        Ok(())
    }
}

impl Default for ReaderConfig {
    fn default() -> Self {
        Self {
            from: From::Start,
            max_records: None,
            follow: false,
            consistency: Consistency::Linearizable,
            node: None,
            max_bytes: 1 << 20,
            on_trimmed: OnTrimmed::Fail,
            after: None,
            after_wait: Duration::from_secs(1),
            max_age: None,
        }
    }
}

/// How fresh an answer has to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Consistency {
    /// At least everything that was acknowledged before the request was made.
    /// The leader answers, and makes sure of a majority first.
    #[default]
    Linearizable,
    /// What the asked replica has applied: committed, perhaps not the newest.
    Local,
}

impl Consistency {
    pub(crate) const fn on_wire(self) -> v1::Consistency {
        match self {
            Self::Linearizable => v1::Consistency::Linearizable,
            Self::Local => v1::Consistency::Local,
        }
    }
}

/// What a reader does that comes to a record that was trimmed before it was
/// read, or begins at one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnTrimmed {
    /// It fails with [`BelowStart`](crate::ReadError::BelowStart), which names
    /// the start: nothing is left out unnoticed.
    #[default]
    Fail,
    /// It goes on at the start. How many records it left out,
    /// [`Reader::skipped`](crate::Reader::skipped) tells.
    Start,
    /// It goes on at the end as of then, and leaves out all before it.
    End,
}

/// Where a reader begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// At the first record that can be read.
    Start,
    /// At the end as of the first call of `next`.
    End,
    /// At this offset, which lies within start..=end.
    Offset(Offset),
    /// At the first record that is not before this time, by its own timestamp;
    /// at the end when there is none, as of the first call of `next`.
    Time(Timestamp),
}

/// Why a configuration is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// There is no address to start from.
    #[error("bootstrap is empty: name the address of at least one node, such as 127.0.0.1:7001")]
    NoBootstrap,
    /// An address is none.
    #[error(transparent)]
    BadAddress(#[from] AddressError),
    /// A duration is too short.
    #[error("{field} is {actual:?}; it has to be at least {least:?}")]
    TooShort {
        /// The field.
        field: &'static str,
        /// What it was set to.
        actual: Duration,
        /// The shortest that is accepted.
        least: Duration,
    },
    /// A duration is too long.
    #[error("{field} is {actual:?}; it has to be at most {most:?}")]
    TooLong {
        /// The field.
        field: &'static str,
        /// What it was set to.
        actual: Duration,
        /// The longest that is accepted.
        most: Duration,
    },
    /// A linearizable read has no age that could be bounded.
    #[error("max_age is for local reads: a linearizable one has everything that was acknowledged before")]
    AgeOfLinearizable,
    /// A number is out of its bounds.
    #[error("{field} is {actual}; it has to be from {least} to {most}")]
    OutOfBounds {
        /// The field.
        field: &'static str,
        /// What it was set to.
        actual: usize,
        /// The smallest that is accepted.
        least: usize,
        /// The largest that is accepted.
        most: usize,
    },
    /// Records would expire before they were sent.
    #[error("linger is {linger:?}, which has to be less than delivery_timeout, {delivery_timeout:?}")]
    LingerPastDelivery {
        /// What `linger` was set to.
        linger: Duration,
        /// What `delivery_timeout` was set to.
        delivery_timeout: Duration,
    },
}

pub(crate) fn at_least(field: &'static str, actual: Duration, least: Duration) -> Result<(), ConfigError> {
    if actual < least { Err(ConfigError::TooShort { field, actual, least }) } else { Ok(()) }
}

pub(crate) fn at_most(field: &'static str, actual: Duration, most: Duration) -> Result<(), ConfigError> {
    if actual > most { Err(ConfigError::TooLong { field, actual, most }) } else { Ok(()) }
}

pub(crate) fn within(field: &'static str, actual: usize, least: usize, most: usize) -> Result<(), ConfigError> {
    if (least..=most).contains(&actual) { Ok(()) } else { Err(ConfigError::OutOfBounds { field, actual, least, most }) }
}
