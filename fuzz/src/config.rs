//! Configuration: any TOML is a configuration or an error that names a key.
//!
//! Input: the text of a file, and after a zero byte the text of `--peers`.

use quipu_server::config::{Draft, example};

/// Reads a configuration and validates it.
pub fn run(input: &[u8]) {
    let mut parts = input.splitn(2, |byte| *byte == 0);
    let mut text = || std::str::from_utf8(parts.next().unwrap_or_default());
    let (Ok(toml), Ok(peers)) = (text(), text()) else { return };
    let mut draft = Ok(Draft::new());
    draft = draft.and_then(|draft| draft.toml(toml));
    if !peers.is_empty() {
        draft = draft.and_then(|draft| draft.peers_text(peers));
    }
    match draft.and_then(Draft::validate) {
        Ok(config) => {
            assert!(config.peers().contains_key(&config.node()), "a node is one of the peers");
            assert_eq!(config.peers()[&config.node()], config.advertised(), "and reached at its own entry");
        }
        Err(error) => assert!(!error.to_string().is_empty(), "an error says something"),
    }
}

/// The example with every key, and small files.
pub fn seeds() -> Vec<Vec<u8>> {
    [
        example(),
        "node_id = 1\nlisten = \"0.0.0.0:7000\"\n[peers]\n1 = \"a:7000\"\n2 = \"b:7000\"\n[log]\ncheck_records = true\n".to_owned(),
        "node_id = 2\ndata_dir = \"/data\"\x001=a:1,2=b:2".to_owned(),
    ]
    .into_iter()
    .map(String::into_bytes)
    .collect()
}
