//! Connections by address.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use quipu_protocol::environment::Environment;
use quipu_protocol::transport::{AddressError, ChannelOptions, channel};
use tonic::transport::Channel;

use crate::{ClientConfig, ProducerConfig};

/// The largest message that is accepted: the largest batch and what is around
/// it.
pub(crate) const MAX_MESSAGE_BYTES: usize = ProducerConfig::MAX_BATCH_BYTES + (1 << 20);

/// The most addresses with a kept connection. Addresses come from answers, and
/// an answer must not make a client hold connections without bound.
const MAX_SHARED: usize = 1024;

/// Opens connections, and keeps those that are shared.
pub(super) struct Channels {
    environment: Environment,
    options: ChannelOptions,
    shared: Mutex<BTreeMap<String, Channel>>,
}

impl Channels {
    pub(super) fn new(environment: Environment, config: &ClientConfig) -> Self {
        let defaults = ChannelOptions::default();
        let options = ChannelOptions {
            connect_timeout: defaults.connect_timeout.min(config.request_timeout),
            keep_alive: config.keep_alive,
            ..defaults
        };
        Self { environment, options, shared: Mutex::new(BTreeMap::new()) }
    }

    /// The one connection to `address` that is shared.
    pub(super) fn shared(&self, address: &str) -> Result<Channel, AddressError> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = shared.get(address) {
            return Ok(channel.clone());
        }
        let channel = self.dedicated(address)?;
        if shared.len() >= MAX_SHARED {
            shared.pop_first();
        }
        shared.insert(address.to_owned(), channel.clone());
        Ok(channel)
    }

    /// A connection of its own.
    pub(super) fn dedicated(&self, address: &str) -> Result<Channel, AddressError> {
        channel(&self.environment, address, self.options)
    }

    /// Forgets the shared connection to `address`. Who uses it still has it.
    pub(super) fn discard(&self, address: &str) {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).remove(address);
    }
}
