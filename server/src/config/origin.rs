//! What holds, and where each value comes from.

use std::fmt;
use std::path::PathBuf;

use super::draft::{DATA_DIR, Draft, HTTP, LISTEN, NODE_ID, OTLP_ENDPOINT, PEERS};
use super::settings::SETTINGS;

/// Where a value comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// Nobody says otherwise.
    Default,
    /// A configuration file.
    File(PathBuf),
    /// The environment variable of that name.
    Environment(String),
    /// A flag, or the program itself.
    #[default]
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Environment(variable) => f.write_str(variable),
            Self::Flag => f.write_str("flag"),
        }
    }
}

/// A key with what holds for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// `section.name`, as in the file.
    pub key: &'static str,
    /// Its value, as a person writes it; none if nobody says and there is no
    /// default.
    pub value: Option<String>,
    /// Where that comes from.
    pub origin: Origin,
}

impl Draft {
    /// Every key, in the order of the example file.
    pub fn entries(&self) -> Vec<Entry> {
        let peers: Vec<String> = self.peers.iter().map(|(node, address)| format!("{node}={address}")).collect();
        let others = [
            (NODE_ID, self.node.map(|node| node.to_string())),
            (LISTEN, self.effective_listen().map(ToOwned::to_owned)),
            (HTTP, self.http.clone()),
            (DATA_DIR, self.data_directory.as_ref().map(|path| path.display().to_string())),
            (PEERS, (!peers.is_empty()).then(|| peers.join(","))),
        ];
        let endpoint = [(OTLP_ENDPOINT, self.otlp_endpoint.clone())];
        let settings = SETTINGS.iter().map(|setting| (setting.key, Some(setting.text(&self.settings))));
        let entry = |(key, value)| Entry { key, value, origin: self.origin(key) };
        others.into_iter().chain(settings).chain(endpoint).map(entry).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_is_shown_with_where_it_comes_from() {
        let draft = Draft::new()
            .environment([("QUIPU_RAFT_HEARTBEAT_MS".into(), "60".into())])
            .and_then(|draft| draft.node(1).peers_text("1=a:7001"))
            .expect("is read");
        let entries = draft.entries();
        let check = |key: &str, value: Option<&str>, origin: &str| {
            let entry = entries.iter().find(|entry| entry.key == key).expect(key);
            assert_eq!((entry.value.as_deref(), entry.origin.to_string().as_str()), (value, origin), "{key}");
        };
        check("node_id", Some("1"), "flag");
        check("peers", Some("1=a:7001"), "flag");
        check("listen", Some("a:7001"), "default");
        check("http", None, "default");
        check("raft.heartbeat_ms", Some("60"), "QUIPU_RAFT_HEARTBEAT_MS");
        check("log.check_records", Some("true"), "default");
        assert_eq!(entries.len(), SETTINGS.len() + 6);
    }
}
