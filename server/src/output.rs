//! What commands print: tables for people, one line of JSON for machines.
//!
//! Of the project's own programs, and no part of what embedding a node takes.

use std::fmt::Display;
use std::io::{self, Write};

use owo_colors::OwoColorize as _;
use serde::Serialize;

/// Standard output for people: colours are left out unless it is a terminal
/// that wants them.
pub fn for_people() -> anstream::AutoStream<io::Stdout> {
    anstream::stdout()
}

/// Prints `value` as one line of JSON.
///
/// # Errors
/// When standard output takes no more.
pub fn print_json(value: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_string(value)?;
    line.push('\n');
    let mut output = io::stdout().lock();
    output.write_all(line.as_bytes())?;
    output.flush()
}

/// A table with a heading, columns as wide as their widest cell. Columns whose
/// heading starts with a space are numbers, and set to the right.
pub struct Table<const COLUMNS: usize> {
    heading: [&'static str; COLUMNS],
    rows: Vec<[String; COLUMNS]>,
}

impl<const COLUMNS: usize> Table<COLUMNS> {
    /// One without rows.
    pub const fn new(heading: [&'static str; COLUMNS]) -> Self {
        Self { heading, rows: Vec::new() }
    }

    /// Adds a row below those that there are.
    pub fn row(&mut self, cells: [&dyn Display; COLUMNS]) {
        self.rows.push(cells.map(ToString::to_string));
    }

    /// Writes it, each line after `indent`.
    ///
    /// # Errors
    /// When `output` takes no more.
    pub fn write(&self, output: &mut impl Write, indent: &str) -> io::Result<()> {
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
    pub fn to_markdown(&self) -> String {
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
pub fn grouped(count: u64) -> String {
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
pub fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{} {}", grouped(count), if count == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::{Table, counted, grouped};

    #[test]
    fn thousands_are_set_apart() {
        let cases = [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")];
        for (count, expect) in cases {
            assert_eq!(grouped(count), expect);
        }
        assert_eq!(counted(1, "record", "records"), "1 record");
        assert_eq!(counted(12_000, "record", "records"), "12,000 records");
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(["node", " end"]);
        table.row([&1, &12_345]);
        table.row([&"eleven", &7]);
        let mut output = Vec::new();
        table.write(&mut anstream::StripStream::new(&mut output), "  ").expect("memory takes it");
        assert_eq!(String::from_utf8_lossy(&output), "  node      end\n  1       12345\n  eleven      7\n");
    }

    #[test]
    fn a_table_is_the_same_for_people_and_for_documents() {
        let mut table = Table::new(["bug", " seeds"]);
        table.row([&"01 ack | fsync", &12]);
        let mut output = Vec::new();
        table.write(&mut anstream::StripStream::new(&mut output), "  ").expect("memory takes it");
        assert_eq!(String::from_utf8_lossy(&output), "  bug             seeds\n  01 ack | fsync     12\n");
        assert_eq!(table.to_markdown(), "| bug | seeds |\n| --- | ---: |\n| 01 ack \\| fsync | 12 |\n");
    }
}
