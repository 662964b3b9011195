//! What commands print: results to standard output, everything else to
//! standard error.

use std::io::{self, Write};
use std::time::Duration;

use anstream::AutoStream;
use owo_colors::OwoColorize as _;

/// Standard output for people: colours are left out unless it is a terminal
/// that wants them.
pub(crate) fn for_people() -> AutoStream<io::Stdout> {
    anstream::stdout()
}

/// Tells a person what went wrong, on standard error.
#[expect(clippy::print_stderr, reason = "this is where a command speaks to its user")]
pub(crate) fn complain(message: &str) {
    eprintln!("quipu-simulation: {message}");
}

/// A table with a heading, columns as wide as their widest cell. Columns whose
/// heading starts with a space are numbers, and set to the right.
pub(crate) struct Table<const COLUMNS: usize> {
    heading: [&'static str; COLUMNS],
    rows: Vec<[String; COLUMNS]>,
}

impl<const COLUMNS: usize> Table<COLUMNS> {
    pub(crate) const fn new(heading: [&'static str; COLUMNS]) -> Self {
        Self { heading, rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, cells: [String; COLUMNS]) {
        self.rows.push(cells);
    }

    /// Writes it, each line after `indent`.
    pub(crate) fn write(&self, output: &mut impl Write, indent: &str) -> io::Result<()> {
        let heading = self.heading.map(|cell| cell.trim_start().to_owned());
        let width = |column: usize| {
            let cells = self.rows.iter().chain([&heading]).map(|row| row[column].chars().count());
            cells.max().unwrap_or_default()
        };
        let widths: [usize; COLUMNS] = std::array::from_fn(width);
        let line = |row: &[String; COLUMNS]| {
            let cells = row.iter().zip(widths).zip(self.heading).map(|((cell, width), heading)| {
                if heading.starts_with(' ') { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
            });
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        writeln!(output, "{indent}{}", line(&heading).bold())?;
        for row in &self.rows {
            writeln!(output, "{indent}{}", line(row))?;
        }
        Ok(())
    }

    /// The same as Markdown.
    pub(crate) fn to_markdown(&self) -> String {
        let rule = self.heading.map(|cell| if cell.starts_with(' ') { "---:" } else { "---" }.to_owned());
        let heading = self.heading.map(|cell| cell.trim_start().to_owned());
        let mut text = String::new();
        for row in [&heading, &rule].into_iter().chain(&self.rows) {
            let cells: Vec<String> = row.iter().map(|cell| cell.replace('|', "\\|")).collect();
            text += &format!("| {} |\n", cells.join(" | "));
        }
        text
    }
}

/// A count with its thousands apart: 1,234,567.
pub(crate) fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `one` or `many`, by `count`, after the count.
pub(crate) fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{} {}", grouped(count), if count == 1 { one } else { many })
}

/// Whole seconds, their thousands apart; tenths where there are few.
pub(crate) fn seconds(milliseconds: u64) -> String {
    if milliseconds >= 100_000 {
        return format!("{} s", grouped(milliseconds / 1_000));
    }
    format!("{:.1} s", Duration::from_millis(milliseconds).as_secs_f64())
}

/// `count` for each of `of`.
#[expect(clippy::cast_precision_loss, reason = "a ratio of 2⁵³ needs no last digit")]
pub(crate) fn per(count: u64, of: u64) -> f64 {
    count as f64 / of.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::{Table, seconds};

    #[test]
    fn a_table_is_the_same_for_people_and_for_documents() {
        let mut table = Table::new(["bug", " seeds"]);
        table.row(["01 ack | fsync".to_owned(), "12".to_owned()]);
        let mut output = Vec::new();
        table.write(&mut anstream::StripStream::new(&mut output), "  ").expect("memory takes it");
        assert_eq!(String::from_utf8_lossy(&output), "  bug             seeds\n  01 ack | fsync     12\n");
        assert_eq!(table.to_markdown(), "| bug | seeds |\n| --- | ---: |\n| 01 ack \\| fsync | 12 |\n");
    }

    #[test]
    fn few_seconds_have_tenths() {
        assert_eq!(seconds(1_250), "1.2 s");
        assert_eq!(seconds(1_234_567), "1,234 s");
    }
}
