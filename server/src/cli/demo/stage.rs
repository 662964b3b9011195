//! How the story is told, on a terminal or into a file: headings, marks and
//! progress bars. Bars are drawn on standard error, and only on a terminal.

use std::fmt::Display;
use std::io::{Stdout, Write as _};
use std::time::Duration;

use anstream::AutoStream;
use indicatif::{ProgressBar, ProgressStyle};
use owo_colors::OwoColorize as _;

use quipu_server::output::for_people;

const INDENT: &str = "   ";

/// Where the story is told. A listener that leaves does not end it: its
/// outcome is in the exit code.
pub(super) struct Stage {
    output: AutoStream<Stdout>,
    step: u32,
}

impl Stage {
    pub(super) fn new() -> Self {
        Self { output: for_people(), step: 0 }
    }

    fn line(&mut self, line: impl Display) {
        let _ = writeln!(self.output, "{line}").and_then(|()| self.output.flush());
    }

    pub(super) fn title(&mut self, title: &str) {
        self.line(format_args!("{}\n", title.bold()));
    }

    /// The next step's heading.
    pub(super) fn step(&mut self, heading: impl Display) {
        self.step += 1;
        let heading = format!("{}  {heading}", self.step);
        self.line(format_args!("\n{}", heading.bold()));
    }

    /// What is the case.
    pub(super) fn say(&mut self, text: impl Display) {
        self.line(format_args!("{INDENT}{text}"));
    }

    /// Harm that is done.
    pub(super) fn harm(&mut self, text: impl Display) {
        self.line(format_args!("{INDENT}{} {text}", "✗".red().bold()));
    }

    /// What came out well.
    pub(super) fn well(&mut self, text: impl Display) {
        self.line(format_args!("{INDENT}{} {text}", "✓".green().bold()));
    }

    /// The last word.
    pub(super) fn conclude(&mut self, heading: &str, lines: &[String]) {
        self.line(format_args!("\n{}", heading.bold()));
        for line in lines {
            self.well(line);
        }
    }

    /// A bar that counts up to `length` of `what`.
    pub(super) fn bar(length: u64, what: &str) -> ProgressBar {
        let template = format!("{INDENT}{{bar:32.cyan}} {{percent:>3}} %  {{human_pos}} of {{human_len}} {what}");
        let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
        ProgressBar::new(length).with_style(style.progress_chars("━╸─"))
    }
}

/// Seconds as a person wants them.
pub(super) fn seconds(duration: Duration) -> String {
    format!("{:.2} s", duration.as_secs_f64())
}

/// Bytes as a person wants them.
#[expect(clippy::cast_precision_loss, reason = "shown with one digit after the point")]
pub(super) fn megabytes(bytes: u64) -> String {
    if bytes < 1_000_000 { format!("{:.1} kB", bytes as f64 / 1e3) } else { format!("{:.1} MB", bytes as f64 / 1e6) }
}
