//! A run as a page that a person can read.
//!
//! ```text
//!   Heading ─────┐
//!   Event ───────┼─▶ data (JSON) ─┐
//!   Operation ───┤                ├─▶ one HTML file, which fetches nothing
//!   Violation ───┘   template, ───┘
//!                    style, scripts
//! ```
//!
//! What is told of an event in words is decided here; where it is drawn is
//! decided by the scripts beside this file, which find everything in the data.
//! All names and details come from the run and are text to the page, never
//! markup. The same input gives the same bytes.

use crate::event::Event;
use crate::history::Operation;
use crate::violation::Violation;

mod data;
#[cfg(test)]
mod sample;
#[cfg(test)]
mod tests;

const TEMPLATE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
/// One script in parts: later parts use what earlier ones declare.
const SCRIPTS: [&str; 8] = [
    include_str!("model.js"),
    include_str!("lanes.js"),
    include_str!("drawing.js"),
    include_str!("view.js"),
    include_str!("verdict.js"),
    include_str!("pointing.js"),
    include_str!("table.js"),
    include_str!("page.js"),
];

/// What the page says of the run as a whole.
#[derive(Clone, Debug, Default)]
pub struct Heading {
    /// The seed that the run was made from.
    pub seed: u64,
    /// The commit that was run.
    pub commit: String,
    /// The command that repeats the run, ready to be pasted.
    pub replay: String,
    /// The run's settings: names and values, in the order to show them in.
    pub settings: Vec<(String, String)>,
    /// The names of the groups' logs, by the groups' numbers. A group that is
    /// not among them is shown by its number; 0 is the catalog in any case.
    pub groups: Vec<(u64, String)>,
    /// What promises mean, in plain words, by their names. A promise that is
    /// not among them is shown by its name.
    pub promises: Vec<(String, String)>,
}

/// The page for a run, as one HTML file.
pub fn html(title: &Heading, events: &[Event], operations: &[Operation], violations: &[Violation]) -> String {
    let data = data::page(title, events, operations, violations).to_string();
    fill(TEMPLATE, |place| match place {
        "style" => STYLE.to_owned(),
        "data" => inside_script(&data),
        "script" => SCRIPTS.join("\n"),
        _ => panic!("the template has no place for {place:?}"),
    })
}

/// The template with its `{{places}}` filled, in one pass: what is filled in is
/// not searched for places again.
fn fill(template: &str, content: impl Fn(&str) -> String) -> String {
    let mut page = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let (place, after) = after.split_once("}}").expect("a place in the template is closed");
        page.push_str(before);
        page.push_str(&content(place));
        rest = after;
    }
    page.push_str(rest);
    page
}

/// JSON as it may stand in a script element. These characters occur in its
/// strings only; escaped, none of them can end the element or open a comment.
fn inside_script(json: &str) -> String {
    let mut safe = String::with_capacity(json.len());
    for character in json.chars() {
        match character {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                safe.push_str(&format!("\\u{:04x}", u32::from(character)));
            }
            _ => safe.push(character),
        }
    }
    safe
}
