//! What has to hold of a configuration: each value in its range, none that
//! contradicts another.

use std::collections::BTreeMap;

use quipu_protocol::NodeId;

use super::draft::{Draft, HTTP, LISTEN, NODE_ID, OTLP_ENDPOINT, PEERS};
use super::settings::{SETTINGS, Setting, Settings};
use super::{ConfigError, MAX_NODES, ServerConfig};

impl Draft {
    /// Checks everything that is said; what is missing may still be said.
    pub fn check(&self) -> Result<(), ConfigError> {
        check_settings(&self.settings)?;
        check_peers(self.node.map(NodeId::new), &self.peers)?;
        let listen = self.effective_listen();
        if let Some(listen) = listen {
            check_address(LISTEN, listen, Port::MayBeZero)?;
        }
        if let Some(endpoint) = &self.otlp_endpoint {
            check_address(OTLP_ENDPOINT, without_scheme(endpoint), Port::Known)?;
        }
        let Some(http) = &self.http else { return Ok(()) };
        check_address(HTTP, http, Port::MayBeZero)?;
        match listen {
            Some(listen) if listen == http && !http.ends_with(":0") => Err(ConfigError::Contradiction {
                first: format!("{LISTEN} = {listen}"),
                second: format!("{HTTP} = {http}"),
                relation: "the two are served in different ways and need an address each",
            }),
            _ => Ok(()),
        }
    }

    /// The keys that have to be said and are not.
    pub fn missing(&self) -> Vec<&'static str> {
        let node = self.node.is_none().then_some(NODE_ID);
        node.into_iter().chain(self.peers.is_empty().then_some(PEERS)).collect()
    }

    /// Whether it is not said where the node keeps what it has, which `quipu
    /// serve` wants to know.
    pub fn data_directory_is_open(&self) -> bool {
        self.data_directory.is_none()
    }

    /// Checks everything, and that nothing is missing.
    pub fn validate(self) -> Result<ServerConfig, ConfigError> {
        self.check()?;
        let missing = |key, flag| ConfigError::Missing { key, flag };
        let node = self.node.ok_or_else(|| missing(NODE_ID, "--node-id"))?;
        // The node is one of the peers, if there are any.
        let listen = self.effective_listen().ok_or_else(|| missing(PEERS, "--peers"))?.to_owned();
        if self.peers.is_empty() {
            return Err(missing(PEERS, "--peers"));
        }
        Ok(ServerConfig {
            node: NodeId::new(node),
            listen,
            http: self.http,
            otlp_endpoint: self.otlp_endpoint.as_deref().map(without_scheme).map(ToOwned::to_owned),
            peers: self.peers,
            data_directory: self.data_directory,
            settings: self.settings,
        })
    }
}

/// OpenTelemetry writes endpoints as URLs; without TLS there is one kind.
fn without_scheme(endpoint: &str) -> &str {
    let rest = endpoint.strip_prefix("http://").unwrap_or(endpoint);
    rest.strip_suffix('/').unwrap_or(rest)
}

fn check_settings(settings: &Settings) -> Result<(), ConfigError> {
    for setting in SETTINGS {
        let (key, unit, least, most) = (setting.key, setting.unit, setting.least, setting.most);
        let value = setting.get(settings);
        if !(least..=most).contains(&value) {
            return Err(ConfigError::OutOfRange { key, value, unit, least, most });
        }
    }
    if !settings.segment_bytes.is_multiple_of(1 << 20) {
        return Err(ConfigError::BadValue {
            key: "journal.segment_bytes".to_owned(),
            found: settings.segment_bytes.to_string(),
            expected: "a multiple of 1 MiB (1048576)",
        });
    }
    contradictions(settings)
}

fn check_peers(node: Option<NodeId>, peers: &BTreeMap<NodeId, String>) -> Result<(), ConfigError> {
    if peers.len() > MAX_NODES {
        return Err(ConfigError::BadValue {
            key: PEERS.to_owned(),
            found: format!("{} nodes", peers.len()),
            expected: "at most 128 nodes",
        });
    }
    let mut seen: BTreeMap<&str, NodeId> = BTreeMap::new();
    for (&peer, address) in peers {
        let key = format!("{PEERS}.{peer}");
        if peer.get() == 0 {
            return Err(ConfigError::BadValue { key, found: address.clone(), expected: "a node number from 1 on" });
        }
        check_address(&key, address, Port::Known)?;
        if let Some(other) = seen.insert(address, peer) {
            return Err(ConfigError::Contradiction {
                first: format!("{PEERS}.{other} = {address}"),
                second: format!("{key} = {address}"),
                relation: "two nodes cannot share an address",
            });
        }
    }
    if let Some(node) = node
        && !peers.is_empty()
        && !peers.contains_key(&node)
    {
        let known: Vec<String> = peers.keys().map(ToString::to_string).collect();
        return Err(ConfigError::Contradiction {
            first: format!("{NODE_ID} = {node}"),
            second: format!("{PEERS} = {}", known.join(", ")),
            relation: "the node has to be one of the peers; its entry is the address that others reach it at",
        });
    }
    Ok(())
}

/// Whether a port may be left to the operating system.
#[derive(PartialEq)]
enum Port {
    Known,
    MayBeZero,
}

fn check_address(key: &str, address: &str, port: Port) -> Result<(), ConfigError> {
    let right = address.rsplit_once(':').is_some_and(|(host, digits)| {
        let bracketed = host.starts_with('[') && host.ends_with(']');
        let plain = host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
        let number = digits.parse::<u16>();
        !host.is_empty() && (bracketed || plain) && number.is_ok_and(|number| number > 0 || port == Port::MayBeZero)
    });
    if right {
        return Ok(());
    }
    let expected = "host:port, such as 127.0.0.1:7001,";
    Err(ConfigError::BadValue { key: key.to_owned(), found: format!("{address:?}"), expected })
}

/// What has to hold between settings that are each in range.
fn contradictions(settings: &Settings) -> Result<(), ConfigError> {
    let check = |first: &'static str, second: &'static str, holds: fn(u64, u64) -> bool, relation| {
        let value = |key| Setting::find(key).map_or(0, |setting| setting.get(settings));
        if holds(value(first), value(second)) {
            return Ok(());
        }
        let named = |key| format!("{key} = {}", value(key));
        Err(ConfigError::Contradiction { first: named(first), second: named(second), relation })
    };
    check(
        "raft.heartbeat_ms",
        "raft.election_timeout_min_ms",
        |heartbeat, timeout| heartbeat * 2 <= timeout,
        "an election timeout takes at least two heartbeats, or a single late one costs the leader its office",
    )?;
    check(
        "raft.election_timeout_min_ms",
        "raft.election_timeout_max_ms",
        |least, most| least < most,
        "the time is drawn from between them, so that two candidates rarely stand at once",
    )?;
    check(
        "log.max_batch_bytes",
        "log.largest_max_batch_bytes",
        |default, largest| default <= largest,
        "the default may not be over the bound",
    )?;
    check(
        "log.largest_max_batch_bytes",
        "log.max_decompressed_bytes",
        |batch, decompressed| batch <= decompressed,
        "records may not be refused for a size that a batch is allowed",
    )?;
    check(
        "log.largest_max_batch_bytes",
        "log.append_queue_bytes",
        |batch, queue| batch <= queue,
        "the queue has to hold the largest batch",
    )?;
    check(
        "log.largest_max_batch_bytes",
        "journal.segment_bytes",
        |batch, segment| batch + (1 << 20) <= segment,
        "a segment has to hold the largest batch and 1 MiB more",
    )
}
