//! A configuration that is not complete or checked yet.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use quipu_protocol::NodeId;
use toml::{Table, Value};

use super::nearest::nearest;
use super::settings::{SETTINGS, Setting, Settings, Unit};
use super::{ConfigError, MAX_NODES, ServerConfig};

/// The keys beside the settings.
const NODE_ID: &str = "node_id";
const LISTEN: &str = "listen";
const HTTP: &str = "http";
const DATA_DIR: &str = "data_dir";
const PEERS: &str = "peers";

/// A longer configuration file is a mistake.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// A configuration in the making: later calls override earlier ones.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    node: Option<u64>,
    listen: Option<String>,
    http: Option<String>,
    peers: BTreeMap<NodeId, String>,
    data_directory: Option<PathBuf>,
    settings: Settings,
}

impl Draft {
    /// Nothing but the defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes over what the file at `path` says.
    pub fn file(self, path: &Path) -> Result<Self, ConfigError> {
        use std::io::Read as _;
        let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
        let mut text = String::new();
        let file = std::fs::File::open(path).map_err(unreadable)?;
        let bytes = file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text).map_err(unreadable)?;
        if bytes as u64 > MAX_FILE_BYTES {
            return Err(unreadable(std::io::Error::other(format!("it has more than {MAX_FILE_BYTES} bytes"))));
        }
        self.toml(&text)
    }

    /// Takes over what `text`, in TOML, says.
    pub fn toml(mut self, text: &str) -> Result<Self, ConfigError> {
        for (key, value) in text.parse::<Table>()? {
            match (key.as_str(), value) {
                (PEERS, Value::Table(peers)) => self.peers = peers_of_table(&peers)?,
                (NODE_ID | LISTEN | HTTP | DATA_DIR | PEERS, value) => self.top_level(&key, value)?,
                (_, Value::Table(section)) if is_section(&key) => {
                    for (name, value) in section {
                        self = self.setting(&format!("{key}.{name}"), &value)?;
                    }
                }
                (_, value) if is_section(&key) => return Err(bad(&key, &value, "a table of settings")),
                _ => return Err(unknown(&key)),
            }
        }
        Ok(self)
    }

    fn top_level(&mut self, key: &str, value: Value) -> Result<(), ConfigError> {
        match (key, value) {
            (NODE_ID, Value::Integer(number)) if number >= 1 => self.node = Some(number.unsigned_abs()),
            (NODE_ID, value) => return Err(bad(key, &value, "a number from 1 on")),
            (LISTEN, Value::String(address)) => self.listen = Some(address),
            (HTTP, Value::String(address)) => self.http = Some(address),
            (DATA_DIR, Value::String(path)) => self.data_directory = Some(path.into()),
            (PEERS, value) => return Err(bad(key, &value, "a table of node numbers and addresses")),
            (_, value) => return Err(bad(key, &value, "a text")),
        }
        Ok(())
    }

    fn setting(self, key: &str, value: &Value) -> Result<Self, ConfigError> {
        match value {
            _ if Setting::find(key).is_none() => Err(unknown(key)),
            Value::Boolean(yes) if Setting::find(key).is_some_and(|setting| setting.unit == Unit::Switch) => {
                self.set(key, u64::from(*yes))
            }
            Value::Integer(number) if *number >= 0 => self.set(key, number.unsigned_abs()),
            value => Err(bad(key, value, "a number that is not negative")),
        }
    }

    /// The node's number.
    #[must_use]
    pub fn node(mut self, node: u64) -> Self {
        self.node = Some(node);
        self
    }

    /// Where to listen. Unsaid, it is the node's own entry of the peers.
    #[must_use]
    pub fn listen(mut self, address: impl Into<String>) -> Self {
        self.listen = Some(address.into());
        self
    }

    /// Where to answer HTTP (metrics, health). Unsaid, nowhere.
    #[must_use]
    pub fn http(mut self, address: impl Into<String>) -> Self {
        self.http = Some(address.into());
        self
    }

    /// Where to keep everything.
    #[must_use]
    pub fn data_directory(mut self, path: impl Into<PathBuf>) -> Self {
        self.data_directory = Some(path.into());
        self
    }

    /// Every node and where it is reached, this one too.
    #[must_use]
    pub fn peers(mut self, peers: BTreeMap<NodeId, String>) -> Self {
        self.peers = peers;
        self
    }

    /// The same, as `1=host:port,2=host:port`.
    pub fn peers_text(mut self, text: &str) -> Result<Self, ConfigError> {
        let expected = "node=host:port, separated by commas";
        let refused = || ConfigError::BadValue { key: PEERS.to_owned(), found: format!("{text:?}"), expected };
        let mut peers = BTreeMap::new();
        for entry in text.split(',') {
            let (node, address) = entry.trim().split_once('=').ok_or_else(refused)?;
            let node = node.trim().parse().map(NodeId::new).map_err(|_| refused())?;
            if let Some(other) = peers.insert(node, address.trim().to_owned()) {
                return Err(ConfigError::Contradiction {
                    first: format!("{PEERS}.{node} = {other}"),
                    second: format!("{PEERS}.{node} = {}", address.trim()),
                    relation: "a node has one address",
                });
            }
        }
        self.peers = peers;
        Ok(self)
    }

    /// Changes one setting.
    pub fn set(mut self, key: &str, value: u64) -> Result<Self, ConfigError> {
        let setting = Setting::find(key).ok_or_else(|| unknown(key))?;
        setting.set(&mut self.settings, value);
        Ok(self)
    }

    /// Changes one setting, as `key=value`.
    pub fn set_text(self, text: &str) -> Result<Self, ConfigError> {
        let refused = |key: &str, found: &str, expected| ConfigError::BadValue {
            key: key.to_owned(),
            found: format!("{found:?}"),
            expected,
        };
        let (key, value) = text.split_once('=').ok_or_else(|| refused("--set", text, "key=value"))?;
        let (key, value) = (key.trim(), value.trim());
        let number =
            value.replace('_', "").parse().map_err(|_| refused(key, value, "a number that is not negative"))?;
        self.set(key, number)
    }

    /// Checks everything.
    pub fn validate(self) -> Result<ServerConfig, ConfigError> {
        for setting in SETTINGS {
            let (key, unit, least, most) = (setting.key, setting.unit, setting.least, setting.most);
            let value = setting.get(&self.settings);
            if !(least..=most).contains(&value) {
                return Err(ConfigError::OutOfRange { key, value, unit, least, most });
            }
        }
        if !self.settings.segment_bytes.is_multiple_of(1 << 20) {
            return Err(ConfigError::BadValue {
                key: "journal.segment_bytes".to_owned(),
                found: self.settings.segment_bytes.to_string(),
                expected: "a multiple of 1 MiB (1048576)",
            });
        }
        contradictions(&self.settings)?;
        let node = self.node.ok_or(ConfigError::Missing { key: NODE_ID, flag: "--node-id" })?;
        let node = NodeId::new(node);
        if self.peers.is_empty() {
            return Err(ConfigError::Missing { key: PEERS, flag: "--peers" });
        }
        check_peers(node, &self.peers)?;
        let listen = self.listen.unwrap_or_else(|| self.peers[&node].clone());
        check_address(LISTEN, &listen, Port::MayBeZero)?;
        if let Some(http) = &self.http {
            check_address(HTTP, http, Port::MayBeZero)?;
            if *http == listen && !http.ends_with(":0") {
                return Err(ConfigError::Contradiction {
                    first: format!("{LISTEN} = {listen}"),
                    second: format!("{HTTP} = {http}"),
                    relation: "the two are served in different ways and need an address each",
                });
            }
        }
        Ok(ServerConfig {
            node,
            listen,
            http: self.http,
            peers: self.peers,
            data_directory: self.data_directory,
            settings: self.settings,
        })
    }
}

fn check_peers(node: NodeId, peers: &BTreeMap<NodeId, String>) -> Result<(), ConfigError> {
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
    if !peers.contains_key(&node) {
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

fn peers_of_table(table: &Table) -> Result<BTreeMap<NodeId, String>, ConfigError> {
    let mut peers = BTreeMap::new();
    for (node, value) in table {
        let key = format!("{PEERS}.{node}");
        let number = node.parse().map_err(|_| bad(&key, value, "a node number as the key"))?;
        let Value::String(address) = value else { return Err(bad(&key, value, "a text, host:port,")) };
        peers.insert(NodeId::new(number), address.clone());
    }
    Ok(peers)
}

fn is_section(name: &str) -> bool {
    SETTINGS.iter().any(|setting| setting.key.split_once('.').is_some_and(|(section, _)| section == name))
}

fn unknown(key: &str) -> ConfigError {
    let known = SETTINGS.iter().map(|setting| setting.key).chain([NODE_ID, LISTEN, HTTP, DATA_DIR, PEERS]);
    let sections = ["raft", "log", "journal", "server"];
    ConfigError::UnknownKey { key: key.to_owned(), nearest: nearest(key, known.chain(sections)) }
}

fn bad(key: &str, value: &Value, expected: &'static str) -> ConfigError {
    ConfigError::BadValue { key: key.to_owned(), found: value.to_string(), expected }
}

#[cfg(test)]
#[path = "draft_tests.rs"]
mod tests;
