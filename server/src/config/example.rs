//! The documented example file, written from the table of settings.

use std::fmt::Write as _;

use super::settings::{SETTINGS, Unit};

/// How wide its comments are.
const WIDTH: usize = 78;

/// The example file: every key with what it means, its default and its range.
pub fn example() -> String {
    let mut text = String::from(
        "# The configuration of a node: `quipu serve --config FILE`.\n\
         #\n\
         # Defaults come first, then this file, then environment variables\n\
         # (QUIPU_RAFT_HEARTBEAT_MS for raft.heartbeat_ms, say), then the flags.\n\
         # Unknown keys and contradictory values are refused. Settings are shown at\n\
         # their defaults.\n\
         \n\
         # This node's number, 1 and up.\n\
         node_id = 1\n\
         \n\
         # Where it listens. Unsaid: its own entry of the peers.\n\
         listen = \"0.0.0.0:7001\"\n\
         \n\
         # Where it answers HTTP: /metrics, /healthz, /readyz. Unsaid: nowhere.\n\
         http = \"127.0.0.1:7101\"\n\
         \n\
         # Where it keeps everything; one process at a time.\n\
         data_dir = \"/var/lib/quipu\"\n\
         \n\
         # Every node of the cluster, this one too, at the address that the others\n\
         # and the clients reach it at.\n\
         [peers]\n\
         1 = \"10.0.0.1:7001\"\n\
         2 = \"10.0.0.2:7001\"\n\
         3 = \"10.0.0.3:7001\"\n",
    );
    let mut current = "";
    for setting in SETTINGS {
        let Some((section, name)) = setting.key.split_once('.') else { continue };
        if section != current {
            let _ = write!(text, "\n[{section}]");
            current = section;
            if section == "telemetry" {
                text.push_str(
                    "\n# Where the spans of appends that are followed are sent: an OpenTelemetry\n\
                     # collector that takes OTLP over gRPC, without TLS. Unsaid: nowhere, and no\n\
                     # append is followed.\n\
                     # otlp_endpoint = \"127.0.0.1:4317\"\n",
                );
            }
        }
        text.push('\n');
        let range = format!("From {} to {} {}", setting.least, setting.most, setting.unit.name());
        let about = match setting.unit {
            Unit::Switch => setting.about.to_owned(),
            _ => format!("{} {}.", setting.about, range.trim_end()),
        };
        for line in wrap(&about) {
            let _ = writeln!(text, "# {line}");
        }
        let value = match setting.unit {
            Unit::Switch => (setting.default == 1).to_string(),
            _ => digits(setting.default),
        };
        let _ = writeln!(text, "{name} = {value}{}", size(setting.unit, setting.default));
    }
    text
}

/// The number as TOML takes it, in groups of three.
fn digits(number: u64) -> String {
    let plain = number.to_string();
    let mut grouped = String::new();
    for (position, digit) in plain.chars().enumerate() {
        if position > 0 && (plain.len() - position).is_multiple_of(3) {
            grouped.push('_');
        }
        grouped.push(digit);
    }
    grouped
}

fn size(unit: Unit, value: u64) -> String {
    match unit {
        Unit::Bytes if value >= 1 << 20 => format!(" # {} MiB", value >> 20),
        Unit::Bytes if value >= 1 << 10 => format!(" # {} KiB", value >> 10),
        _ => String::new(),
    }
}

fn wrap(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = vec![String::new()];
    for word in text.split(' ') {
        let start_anew = lines.last().is_some_and(|line| !line.is_empty() && line.len() + 1 + word.len() > WIDTH);
        if start_anew {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{Draft, Settings};
    use super::example;

    #[test]
    fn example_file_says_what_the_defaults_are() {
        let config = Draft::new().toml(&example()).expect("parses").validate().expect("is valid");
        assert_eq!(config.settings(), &Settings::default());
        assert_eq!(config.node().get(), 1);
        assert_eq!(config.peers().len(), 3);
    }

    #[test]
    fn example_file_in_docs_is_the_generated_one() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/quipu.example.toml");
        // To write it anew after a change of the table: QUIPU_WRITE_EXAMPLE=1.
        if std::env::var_os("QUIPU_WRITE_EXAMPLE").is_some() {
            std::fs::write(&path, example()).expect("writes the example");
        }
        let text = std::fs::read_to_string(&path).expect("docs/quipu.example.toml is there");
        assert!(text == example(), "docs/quipu.example.toml is out of date: run with QUIPU_WRITE_EXAMPLE=1");
    }
}
