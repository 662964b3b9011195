//! What is kept of a run that broke a promise.
//!
//! ```text
//!   17-no-lost-record/
//!     how.txt           what broke, and the command that repeats it
//!     timeline.html     the run as a page, for a person
//!     scenario.json     everything that was decided before it began
//!     trace.txt         everything that happened, a line each
//!     history.json      every call with its answer
//!     violations.json   what broke, with the calls that show it
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use crate::event::Event;
use crate::history::Operation;
use crate::promises;
use crate::scenario::Scenario;
use crate::timeline::{self, Heading};
use crate::violation::Violation;

/// All there is to be told of a run.
#[derive(Clone, Copy, Debug)]
pub struct Bundle<'a> {
    /// What was run.
    pub scenario: &'a Scenario,
    /// The commit that was run, if it is known.
    pub commit: Option<&'a str>,
    /// What happened; empty when the process left nothing behind.
    pub events: &'a [Event],
    /// The clients' calls.
    pub operations: &'a [Operation],
    /// The names of the groups' logs, by the groups' numbers.
    pub groups: &'a BTreeMap<u64, String>,
    /// What broke.
    pub violations: &'a [Violation],
}

/// The name of a failure's directory.
pub fn name(seed: u64, violations: &[Violation]) -> String {
    let promise = violations.first().map_or("all-kept", |first| first.promise.as_str());
    format!("{seed}-{promise}")
}

/// The command that repeats a run whose bundle is in `directory`. A scenario
/// that its seed does not give needs its file.
pub fn replay_command(scenario: &Scenario, directory: &Path) -> String {
    let command = format!("cargo run --release -p quipu-simulation -- replay {}", scenario.seed);
    if Scenario::draw(scenario.seed) == *scenario {
        return command;
    }
    format!("{command} --scenario {}", quoted(&directory.join("scenario.json")))
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+".contains(&byte);
    if text.bytes().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

impl Bundle<'_> {
    /// Writes it into `directory`, over what is there.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write(&self, directory: &Path) -> io::Result<()> {
        fs::create_dir_all(directory)?;
        let replay = replay_command(self.scenario, directory);
        let json = |name: &str, value: serde_json::Result<String>| fs::write(directory.join(name), value? + "\n");
        json("scenario.json", serde_json::to_string_pretty(self.scenario))?;
        json("history.json", serde_json::to_string_pretty(self.operations))?;
        json("violations.json", serde_json::to_string_pretty(self.violations))?;
        let trace: String = self.events.iter().map(|event| format!("{event}\n")).collect();
        fs::write(directory.join("trace.txt"), trace)?;
        fs::write(directory.join("how.txt"), self.how(&replay, directory))?;
        let page = timeline::html(&self.heading(replay), self.events, self.operations, self.violations);
        fs::write(directory.join("timeline.html"), page)
    }

    fn heading(&self, replay: String) -> Heading {
        Heading {
            seed: self.scenario.seed,
            commit: self.commit.unwrap_or("unknown").to_owned(),
            replay,
            settings: self.scenario.summary(),
            groups: self.groups.iter().map(|(group, name)| (*group, name.clone())).collect(),
            promises: promises::ALL.iter().map(|(name, words)| ((*name).to_owned(), (*words).to_owned())).collect(),
        }
    }

    fn how(&self, replay: &str, directory: &Path) -> String {
        let mut text = format!("Seed {}", self.scenario.seed);
        if let Some(commit) = self.commit {
            text += &format!(", commit {commit}");
        }
        text += "\n\n";
        for violation in self.violations {
            text += &format!("{violation}\n");
            if let Some(meaning) = promises::meaning(&violation.promise) {
                text += &format!("  promised: {meaning}\n");
            }
        }
        let scenario = quoted(&directory.join("scenario.json"));
        let seed = self.scenario.seed;
        text += &format!(
            "\nThe same run again, from that commit:\n  {replay}\n\
             \nOn a commit where the seed gives another scenario:\n  \
             cargo run --release -p quipu-simulation -- replay {seed} --scenario {scenario}\n\
             \nWith what happens when it happens, for a run that hangs or dies:\n  {replay} --trace\n\
             \nWith what the nodes log:\n  {replay} --log quipu=debug\n\
             \nMade as small as it gets:\n  \
             cargo run --release -p quipu-simulation -- shrink {seed} --scenario {scenario}\n"
        );
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_enough_to_repeat_what_was_drawn_from_it() {
        let drawn = Scenario::draw(17);
        let directory = Path::new("a place/17-no-lost-record");
        let by_seed = "cargo run --release -p quipu-simulation -- replay 17";
        assert_eq!(replay_command(&drawn, directory), by_seed);
        let smaller = Scenario { faults: Vec::new(), ..drawn };
        let by_file = format!("{by_seed} --scenario 'a place/17-no-lost-record/scenario.json'");
        assert_eq!(replay_command(&smaller, directory), by_file);
    }
}
