//! A configuration that is not complete or checked yet.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use quipu_protocol::NodeId;
use toml::{Table, Value};

use super::ConfigError;
use super::nearest::nearest;
use super::origin::Origin;
use super::settings::{SETTINGS, Setting, Settings, Unit};

/// The keys beside the settings.
pub(super) const NODE_ID: &str = "node_id";
pub(super) const LISTEN: &str = "listen";
pub(super) const HTTP: &str = "http";
pub(super) const DATA_DIR: &str = "data_dir";
pub(super) const PEERS: &str = "peers";
pub(super) const OTLP_ENDPOINT: &str = "telemetry.otlp_endpoint";
/// All of them, in the order of the example file.
pub(super) const OTHERS: [&str; 6] = [NODE_ID, LISTEN, HTTP, DATA_DIR, PEERS, OTLP_ENDPOINT];

/// A longer configuration file is a mistake.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// A configuration in the making: later calls override earlier ones.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    pub(super) node: Option<u64>,
    pub(super) listen: Option<String>,
    pub(super) http: Option<String>,
    pub(super) otlp_endpoint: Option<String>,
    pub(super) peers: BTreeMap<NodeId, String>,
    pub(super) data_directory: Option<PathBuf>,
    pub(super) settings: Settings,
    /// Where what is set now comes from.
    layer: Origin,
    /// Where each key's value comes from, unless from the defaults.
    origins: BTreeMap<&'static str, Origin>,
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
        Ok(self.on_layer(Origin::File(path.to_owned())).toml(&text)?.on_layer(Origin::Flag))
    }

    /// Takes over what `text`, in TOML, says.
    pub fn toml(mut self, text: &str) -> Result<Self, ConfigError> {
        for (key, value) in text.parse::<Table>()? {
            match (key.as_str(), value) {
                (PEERS, Value::Table(peers)) => self = self.peers(peers_of_table(&peers)?),
                (NODE_ID | LISTEN | HTTP | DATA_DIR | PEERS, value) => self = self.top_level(&key, value)?,
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

    fn top_level(self, key: &str, value: Value) -> Result<Self, ConfigError> {
        match (key, value) {
            (NODE_ID, Value::Integer(number)) if number >= 1 => Ok(self.node(number.unsigned_abs())),
            (NODE_ID, value) => Err(bad(key, &value, "a number from 1 on")),
            (LISTEN, Value::String(address)) => Ok(self.listen(address)),
            (HTTP, Value::String(address)) => Ok(self.http(address)),
            (DATA_DIR, Value::String(path)) => Ok(self.data_directory(path)),
            (PEERS, value) => Err(bad(key, &value, "a table of node numbers and addresses")),
            (_, value) => Err(bad(key, &value, "a text")),
        }
    }

    fn setting(self, key: &str, value: &Value) -> Result<Self, ConfigError> {
        match value {
            Value::String(endpoint) if key == OTLP_ENDPOINT => Ok(self.otlp_endpoint(endpoint)),
            value if key == OTLP_ENDPOINT => Err(bad(key, value, "a text")),
            _ if Setting::find(key).is_none() => Err(unknown(key)),
            Value::Boolean(yes) if Setting::find(key).is_some_and(|setting| setting.unit == Unit::Switch) => {
                self.set(key, u64::from(*yes))
            }
            Value::Integer(number) if *number >= 0 => self.set(key, number.unsigned_abs()),
            value => Err(bad(key, value, "a number that is not negative")),
        }
    }

    /// What is set from now on comes from `layer`.
    pub(super) fn on_layer(mut self, layer: Origin) -> Self {
        self.layer = layer;
        self
    }

    fn says(mut self, key: &'static str) -> Self {
        self.origins.insert(key, self.layer.clone());
        self
    }

    /// Where the value of `key` comes from.
    pub(super) fn origin(&self, key: &str) -> Origin {
        self.origins.get(key).cloned().unwrap_or(Origin::Default)
    }

    /// Where the node listens, as far as that is said.
    pub(super) fn effective_listen(&self) -> Option<&str> {
        let own = || self.node.and_then(|node| self.peers.get(&NodeId::new(node))).map(String::as_str);
        self.listen.as_deref().or_else(own)
    }

    /// The node's number.
    #[must_use]
    pub fn node(mut self, node: u64) -> Self {
        self.node = Some(node);
        self.says(NODE_ID)
    }

    /// Where to listen. Unsaid, it is the node's own entry of the peers.
    #[must_use]
    pub fn listen(mut self, address: impl Into<String>) -> Self {
        self.listen = Some(address.into());
        self.says(LISTEN)
    }

    /// Where to answer HTTP (metrics, health). Unsaid, nowhere.
    #[must_use]
    pub fn http(mut self, address: impl Into<String>) -> Self {
        self.http = Some(address.into());
        self.says(HTTP)
    }

    /// Where the spans of appends that are followed are sent, by OTLP over gRPC.
    /// Unsaid, nowhere.
    #[must_use]
    pub fn otlp_endpoint(mut self, endpoint: impl Into<String>) -> Self {
        self.otlp_endpoint = Some(endpoint.into());
        self.says(OTLP_ENDPOINT)
    }

    /// Where to keep everything.
    #[must_use]
    pub fn data_directory(mut self, path: impl Into<PathBuf>) -> Self {
        self.data_directory = Some(path.into());
        self.says(DATA_DIR)
    }

    /// Every node and where it is reached, this one too.
    #[must_use]
    pub fn peers(mut self, peers: BTreeMap<NodeId, String>) -> Self {
        self.peers = peers;
        self.says(PEERS)
    }

    /// The same, as `1=host:port,2=host:port`.
    pub fn peers_text(self, text: &str) -> Result<Self, ConfigError> {
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
        Ok(self.peers(peers))
    }

    /// Changes one setting.
    pub fn set(mut self, key: &str, value: u64) -> Result<Self, ConfigError> {
        let setting = Setting::find(key).ok_or_else(|| unknown(key))?;
        setting.set(&mut self.settings, value);
        Ok(self.says(setting.key))
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
        if key == OTLP_ENDPOINT {
            return Ok(self.otlp_endpoint(value));
        }
        let setting = Setting::find(key).ok_or_else(|| unknown(key))?;
        let number = setting.parse(value).ok_or_else(|| refused(key, value, "a number that is not negative"))?;
        self.set(key, number)
    }
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
    let known = SETTINGS.iter().map(|setting| setting.key).chain(OTHERS);
    let sections = ["raft", "log", "journal", "storage", "server", "telemetry"];
    ConfigError::UnknownKey { key: key.to_owned(), nearest: nearest(key, known.chain(sections)) }
}

fn bad(key: &str, value: &Value, expected: &'static str) -> ConfigError {
    ConfigError::BadValue { key: key.to_owned(), found: value.to_string(), expected }
}

#[cfg(test)]
#[path = "draft_tests.rs"]
mod tests;
