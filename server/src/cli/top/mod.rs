//! `quipu top`: the cluster while it works, on a terminal.
//!
//! ```text
//!   Client ─▶ Sample ─▶ History ─▶ Figures ─┐
//!                       (the last two,      ├─▶ View ─▶ frame
//!   keys ─────────────▶  who is down) ─▶ Ui ┘
//! ```
//!
//! A client like the others: it asks what `quipu status` and `quipu log
//! describe` ask, once an interval, and works the rates out from what nodes
//! have counted. What is shown is a function of the figures and of what the
//! user has chosen; only this file and `screen` touch a terminal.

mod figures;
mod grid;
mod history;
mod numbers;
mod sample;
mod screen;
mod ui;
mod view;

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use clap::Args;
use quipu_sdk::{Client, Environment};
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use self::history::History;
use self::sample::Sampler;
use self::ui::{Sort, Ui};
use self::view::{Palette, View};
use super::connection::ConnectionArguments;
use super::failure::Failure;

/// Before the cluster is said not to answer, unless --timeout says otherwise.
const PATIENCE: Duration = Duration::from_secs(3);
/// How wide a frame is where no terminal says so, columns.
const PLAIN_WIDTH: u16 = 120;

/// Watch nodes, logs, leaders, rates and lag.
///
/// Asks once an interval. Rates are what nodes have counted between two
/// answers. `lag` counts the leader's entries that the replica furthest behind
/// has not fsynced, `behind` the records of the log that it has not applied.
/// Keys: q quits, ? tells the others.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quipu top
  quipu top --interval 5 --sort lag --filter billing/
  quipu top --once | grep down")]
pub(crate) struct TopArguments {
    /// Ask every so many seconds, 1 to 60.
    #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=60))]
    interval: u64,
    /// Sort the logs by this.
    #[arg(long, value_enum, value_name = "COLUMN", default_value_t)]
    sort: Sort,
    /// Show the logs whose names contain this.
    #[arg(long, value_name = "TEXT", default_value = "")]
    filter: String,
    /// Print one frame as plain text, with the rates of one interval, and end.
    #[arg(long)]
    once: bool,
}

pub(crate) async fn run(
    arguments: TopArguments,
    connection: &ConnectionArguments,
    environment: &Environment,
) -> Result<(), Failure> {
    let client = connection.impatient_client(environment, PATIENCE)?;
    let interval = Duration::from_secs(arguments.interval);
    let ui = Ui::new(arguments.sort, arguments.filter);
    if arguments.once {
        return once(client, environment, interval, &ui).await;
    }
    if !(std::io::stdin().is_terminal() && std::io::stdout().is_terminal()) {
        let message = "top draws on a terminal, and this is none; --once prints one frame";
        return Err(Failure::Usage(message.to_owned()));
    }
    screen::run(client, environment, interval, ui, Palette::of_environment()).await
}

/// Prints one frame: of two samples, because one alone tells no rates.
async fn once(client: Client, environment: &Environment, interval: Duration, ui: &Ui) -> Result<(), Failure> {
    let mut sampler = Sampler::new(client, environment.clone());
    let mut history = History::default();
    history.take_in(sampler.sample(ui.filter()).await?);
    environment.clock.sleep(interval).await;
    history.take_in(sampler.sample(ui.filter()).await?);
    let now = environment.clock.monotonic();
    let view = View { history: &history, ui, now, interval, palette: Palette::Plain };
    let width = crossterm::terminal::size().map_or(PLAIN_WIDTH, |(columns, _)| columns.max(view::LEAST.0));
    let width = if std::io::stdout().is_terminal() { width } else { PLAIN_WIDTH };
    let frame = plain(&view, width);
    let mut output = std::io::stdout().lock();
    output.write_all(frame.as_bytes())?;
    output.flush()?;
    Ok(())
}

/// The frame as text, as high as it needs to be.
fn plain(view: &View<'_>, width: u16) -> String {
    let Ok(mut terminal) = Terminal::new(TestBackend::new(width, view.whole_height()));
    let Ok(_) = terminal.draw(|frame| frame.render_widget(view, frame.area()));
    text(terminal.backend())
}

/// What a frame in memory shows, without what is blank at the ends of lines.
fn text(backend: &TestBackend) -> String {
    let buffer = backend.buffer();
    let mut text = String::new();
    for row in 0..buffer.area.height {
        let line: String = (0..buffer.area.width).map(|column| buffer[(column, row)].symbol()).collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
