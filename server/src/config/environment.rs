//! Configuration from environment variables.
//!
//! The variable of a key is `QUIPU_` and the key in capitals, each dot an
//! underscore: `raft.heartbeat_ms` is `QUIPU_RAFT_HEARTBEAT_MS`, `node_id` is
//! `QUIPU_NODE_ID`. Peers are given as for `--peers`. A variable that begins
//! with `QUIPU_` and is neither one of these nor one that `quipu` takes for
//! something else is refused: it is a slip, or was meant for another version.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use super::draft::{self, DATA_DIR, Draft, HTTP, LISTEN, NODE_ID, OTLP_ENDPOINT, PEERS};
use super::nearest::nearest;
use super::origin::Origin;
use super::settings::SETTINGS;
use super::{ConfigError, Setting};

const PREFIX: &str = "QUIPU_";
/// Those that the command line takes.
const OTHERS: [&str; 4] = ["QUIPU_BOOTSTRAP", "QUIPU_CONFIG", "QUIPU_LOG", "QUIPU_THREADS"];

/// The environment variable of a key.
pub fn variable_of(key: &str) -> String {
    format!("{PREFIX}{}", key.to_ascii_uppercase().replace('.', "_"))
}

impl Draft {
    /// Takes over what `variables` say: a process's, such as
    /// `std::env::vars_os()`. Those that do not begin with `QUIPU_` are none of
    /// its business.
    pub fn environment(
        mut self,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigError> {
        let keys = SETTINGS.iter().map(|setting| setting.key).chain(draft::OTHERS);
        let keys: BTreeMap<String, &str> = keys.map(|key| (variable_of(key), key)).collect();
        // In their order by name, so that of several faults always the same is
        // told.
        let ours: BTreeMap<String, OsString> = variables
            .into_iter()
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value))
            .filter(|(name, _)| name.starts_with(PREFIX) && !OTHERS.contains(&name.as_str()))
            .collect();
        for (variable, value) in ours {
            let Some(key) = keys.get(&variable) else {
                let known = keys.keys().map(String::as_str).chain(OTHERS);
                let nearest = nearest(&variable, known).map(ToOwned::to_owned);
                return Err(ConfigError::UnknownVariable { variable, nearest });
            };
            self = self.on_layer(Origin::Environment(variable.clone())).variable(&variable, key, &value)?;
        }
        Ok(self.on_layer(Origin::Flag))
    }

    fn variable(self, variable: &str, key: &str, value: &OsStr) -> Result<Self, ConfigError> {
        let bad = |expected| ConfigError::BadValue {
            key: variable.to_owned(),
            found: format!("{:?}", value.to_string_lossy()),
            expected,
        };
        if key == DATA_DIR {
            return Ok(self.data_directory(value));
        }
        let text = value.to_str().ok_or_else(|| bad("a text in UTF-8"))?.trim();
        match key {
            LISTEN => Ok(self.listen(text)),
            HTTP => Ok(self.http(text)),
            OTLP_ENDPOINT => Ok(self.otlp_endpoint(text)),
            PEERS => self.peers_text(text),
            NODE_ID => match text.parse() {
                Ok(node) if node >= 1 => Ok(self.node(node)),
                _ => Err(bad("a number from 1 on")),
            },
            _ => {
                let number = Setting::find(key).and_then(|setting| setting.parse(text));
                self.set(key, number.ok_or_else(|| bad("a number that is not negative"))?)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn from(variables: &[(&str, &str)]) -> Result<Draft, ConfigError> {
        let file = Draft::new().node(1).toml("[raft]\nheartbeat_ms = 50\n[peers]\n1 = \"a:7001\"\n");
        file?.environment(variables.iter().map(|(name, value)| (name.into(), value.into())))
    }

    fn refusal(variables: &[(&str, &str)]) -> String {
        from(variables).expect_err("is refused").to_string()
    }

    #[test]
    fn no_two_keys_share_a_variable() {
        let keys = SETTINGS.iter().map(|setting| setting.key).chain(draft::OTHERS);
        let variables: Vec<String> = keys.map(variable_of).chain(OTHERS.map(str::to_owned)).collect();
        let distinct: BTreeSet<&String> = variables.iter().collect();
        assert_eq!(distinct.len(), variables.len());
        assert!(variables.contains(&"QUIPU_RAFT_HEARTBEAT_MS".to_owned()));
    }

    #[test]
    fn variables_override_the_file_and_flags_override_variables() {
        let variables = [
            ("QUIPU_RAFT_HEARTBEAT_MS", "60"),
            ("QUIPU_JOURNAL_TAIL_CACHE_BYTES", "2_000_000"),
            ("QUIPU_LOG_CHECK_RECORDS", "false"),
            ("QUIPU_NODE_ID", "2"),
            ("QUIPU_PEERS", "2=b:7001,3=c:7001"),
            ("QUIPU_DATA_DIR", "/data"),
            ("QUIPU_HTTP", "127.0.0.1:7101"),
            ("QUIPU_TELEMETRY_OTLP_ENDPOINT", "http://collector:4317"),
            // Not for the configuration.
            ("QUIPU_BOOTSTRAP", "a:1"),
            ("PATH", "/bin"),
        ];
        let draft = from(&variables).and_then(|draft| draft.set_text("journal.tail_cache_bytes=3000000"));
        let config = draft.and_then(Draft::validate).expect("is valid");
        assert_eq!(config.settings().heartbeat_ms, 60, "the environment");
        assert_eq!(config.settings().tail_cache_bytes, 3_000_000, "the flag");
        assert_eq!(config.settings().check_records, 0, "a switch");
        assert_eq!((config.node().get(), config.listen(), config.http()), (2, "b:7001", Some("127.0.0.1:7101")));
        assert_eq!(config.otlp_endpoint(), Some("collector:4317"));
        assert_eq!(config.data_directory().and_then(|path| path.to_str()), Some("/data"));
    }

    #[test]
    fn unknown_variables_are_refused_with_the_nearest_known_one() {
        assert_eq!(
            refusal(&[("QUIPU_RAFT_HEARTBEET_MS", "60")]),
            "unknown variable QUIPU_RAFT_HEARTBEET_MS; did you mean QUIPU_RAFT_HEARTBEAT_MS?"
        );
        assert_eq!(refusal(&[("QUIPU_PERS", "")]), "unknown variable QUIPU_PERS; did you mean QUIPU_PEERS?");
        assert_eq!(refusal(&[("QUIPU_COLOUR_OF_THE_CORD", "red")]), "unknown variable QUIPU_COLOUR_OF_THE_CORD");
    }

    #[test]
    fn values_of_the_wrong_kind_are_refused_by_their_variable() {
        assert_eq!(
            refusal(&[("QUIPU_RAFT_HEARTBEAT_MS", "soon")]),
            "QUIPU_RAFT_HEARTBEAT_MS = \"soon\": a number that is not negative is expected"
        );
        assert_eq!(refusal(&[("QUIPU_NODE_ID", "0")]), "QUIPU_NODE_ID = \"0\": a number from 1 on is expected");
    }
}
