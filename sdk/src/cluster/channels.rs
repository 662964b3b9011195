//! Connections by address.
//!
//! Requests and appends to an address share one connection. Readers share others, up
//! to [`READERS`] of them each, whose window has room for all that theirs let in: one
//! that is not read from holds up nothing but its own stream.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use quipu_protocol::environment::Environment;
use quipu_protocol::transport::{AddressError, ChannelOptions, MAX_WINDOW_BYTES, channel};
use tonic::transport::Channel;

use crate::{ClientConfig, ProducerConfig};

/// The largest message that is accepted: the largest batch and what is around
/// it.
pub(crate) const MAX_MESSAGE_BYTES: usize = ProducerConfig::MAX_BATCH_BYTES + (1 << 20);

/// The most addresses with a kept connection. Addresses come from answers, and
/// an answer must not make a client hold connections without bound.
const MAX_SHARED: usize = 1024;

/// How many readers share a connection.
const READERS: u8 = 64;

/// Opens connections, and keeps those that are shared.
pub(super) struct Channels {
    environment: Environment,
    options: ChannelOptions,
    shared: Mutex<BTreeMap<String, Channel>>,
    /// Those of readers, as long as there is one.
    reading: Mutex<BTreeMap<String, Vec<ReadingChannel>>>,
}

/// A reader's place on a connection, which is closed once the last one is given up.
#[derive(Clone)]
pub(crate) struct ReadingChannel {
    pub(crate) channel: Channel,
    /// One for each place, and one for [`Channels`].
    places: Arc<()>,
}

impl ReadingChannel {
    fn readers(&self) -> usize {
        Arc::strong_count(&self.places) - 1
    }
}

impl Channels {
    pub(super) fn new(environment: Environment, config: &ClientConfig) -> Self {
        let defaults = ChannelOptions::default();
        let options = ChannelOptions {
            connect_timeout: defaults.connect_timeout.min(config.request_timeout),
            keep_alive: config.keep_alive,
            ..defaults
        };
        Self { environment, options, shared: Mutex::default(), reading: Mutex::default() }
    }

    /// The one connection to `address` that is shared.
    pub(super) fn shared(&self, address: &str) -> Result<Channel, AddressError> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = shared.get(address) {
            return Ok(channel.clone());
        }
        let channel = channel(&self.environment, address, self.options)?;
        if shared.len() >= MAX_SHARED {
            shared.pop_first();
        }
        shared.insert(address.to_owned(), channel.clone());
        Ok(channel)
    }

    /// A place for another reader of `address`.
    pub(super) fn reading(&self, address: &str) -> Result<ReadingChannel, AddressError> {
        let mut reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        reading.retain(|_, connections| {
            connections.retain(|connection| connection.readers() > 0);
            !connections.is_empty()
        });
        let connections = reading.entry(address.to_owned()).or_default();
        if let Some(connection) = connections.iter().find(|connection| connection.readers() < usize::from(READERS)) {
            return Ok(connection.clone());
        }
        let window_bytes = self.options.window_bytes.saturating_mul(READERS.into()).min(MAX_WINDOW_BYTES);
        let options = ChannelOptions { connection_window_bytes: window_bytes, ..self.options };
        let opened = ReadingChannel { channel: channel(&self.environment, address, options)?, places: Arc::default() };
        connections.push(opened.clone());
        Ok(opened)
    }

    /// Gives nobody else a place on this connection.
    pub(super) fn discard_reading(&self, address: &str, discarded: &ReadingChannel) {
        let mut reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(connections) = reading.get_mut(address) {
            connections.retain(|connection| !Arc::ptr_eq(&connection.places, &discarded.places));
        }
    }

    /// Forgets the shared connection to `address`. Who uses it still has it.
    pub(super) fn discard(&self, address: &str) {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).remove(address);
    }
}
