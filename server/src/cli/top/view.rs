//! The frame: what is shown of the figures, as a function of them and of what
//! the user has chosen.
//!
//! ```text
//!   title        the cluster, or that nobody answers
//!   nodes        a row each; the page with the chosen one
//!   logs         what height is left
//!   replicas     of the chosen log, where there is height enough
//!   foot         keys, or the filter that is being written
//! ```

use std::time::Duration;

use quipu_sdk::{NodeState, ReplicaDescription, ReplicaRole, ReplicaState};
use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect, Size};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Clear, Paragraph, Widget};

use super::figures::{Figures, LogFigures, NodeFigures, NodeRates};
use super::grid::{Cell, Column, Grid, Side, cut, page_start};
use super::history::History;
use super::numbers::{bytes, lasting, short};
use super::ui::{Focus, Ui};

/// The smallest terminal that everything fits on, columns and rows.
pub(super) const LEAST: (u16, u16) = (60, 15);
/// From this height on the chosen log's replicas are shown.
const HEIGHT_FOR_REPLICAS: u16 = 20;

/// The colours of a frame. Only such of the terminal's own as can be read on a
/// dark ground and on a light one, and none that alone says something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Palette {
    Colours,
    Plain,
}

impl Palette {
    /// Without colours if `NO_COLOR` is set (<https://no-color.org>).
    pub(super) fn of_environment() -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        if refused { Self::Plain } else { Self::Colours }
    }

    fn colour(self, colour: Color) -> Style {
        match self {
            Self::Colours => Style::new().fg(colour),
            Self::Plain => Style::new(),
        }
    }

    fn bad(self) -> Style {
        self.colour(Color::Red).add_modifier(Modifier::BOLD)
    }

    fn doubtful(self) -> Style {
        self.colour(Color::Magenta)
    }

    fn good(self) -> Style {
        self.colour(Color::Green)
    }
}

/// What a frame is drawn from.
pub(super) struct View<'a> {
    pub(super) history: &'a History,
    pub(super) ui: &'a Ui,
    /// The monotonic clock.
    pub(super) now: Duration,
    pub(super) interval: Duration,
    pub(super) palette: Palette,
}

/// Where the parts of a frame are.
struct Parts {
    title: Rect,
    nodes: Rect,
    logs: Rect,
    replicas: Option<Rect>,
    foot: Rect,
}

impl Widget for &View<'_> {
    fn render(self, area: Rect, buffer: &mut Buffer) {
        if area.width < LEAST.0 / 2 || area.height < LEAST.1 / 2 {
            let say = format!("{}×{} is too small: {}×{}", area.width, area.height, LEAST.0, LEAST.1);
            return Paragraph::new(say).render(area, buffer);
        }
        let figures = self.history.figures();
        let parts = self.parts(area);
        self.title(figures).render(parts.title, buffer);
        if let Some(figures) = figures {
            self.nodes(figures).draw(parts.nodes, buffer);
            self.logs(figures, parts.logs, buffer);
            if let Some(area) = parts.replicas {
                self.replicas(figures, area, buffer);
            }
        }
        self.foot().render(parts.foot, buffer);
        if self.ui.help {
            help(area, buffer);
        }
    }
}

impl View<'_> {
    /// How high a frame is that leaves nothing out.
    pub(super) fn whole_height(&self) -> u16 {
        let Some(figures) = self.history.figures() else { return LEAST.1 };
        let logs = self.ui.logs(figures);
        let replicas = logs.get(self.ui.log_row(&logs)).map_or(0, |log| log.log.replicas.len());
        // Title, foot, three blanks, three headings, and the heading over logs.
        let rows = figures.nodes.len() + logs.len() + replicas + 9;
        u16::try_from(rows).unwrap_or(u16::MAX).clamp(HEIGHT_FOR_REPLICAS, 2_000)
    }

    /// How many rows the table with the focus shows on a terminal of `size`.
    pub(super) fn page(&self, size: Size) -> usize {
        let parts = self.parts(Rect::new(0, 0, size.width, size.height));
        let table = match self.ui.focus {
            Focus::Nodes => parts.nodes,
            Focus::Logs => parts.logs,
        };
        usize::from(table.height.saturating_sub(1)).max(1)
    }

    fn parts(&self, area: Rect) -> Parts {
        let figures = self.history.figures();
        let rows = |count: usize| u16::try_from(count).unwrap_or(u16::MAX);
        // At most a third for the nodes, and as many for the replicas.
        let third = (area.height / 3).max(2);
        let nodes = figures.map_or(0, |figures| rows(figures.nodes.len()).saturating_add(1)).min(third);
        let chosen = figures.and_then(|figures| {
            let logs = self.ui.logs(figures);
            logs.get(self.ui.log_row(&logs)).map(|log| log.log.replicas.len())
        });
        let replicas = chosen.filter(|_| area.height >= HEIGHT_FOR_REPLICAS);
        let replicas = replicas.map_or(0, |count| rows(count).saturating_add(1).min(third));
        let blank = u16::from(replicas > 0);
        let heights = [1, 1, nodes, 1].map(Constraint::Length).into_iter();
        let heights = heights.chain([Constraint::Fill(1)]).chain([blank, replicas, 1].map(Constraint::Length));
        let [title, _, nodes, _, logs, _, replicas, foot] = Layout::vertical(heights).areas(area);
        Parts { title, nodes, logs, replicas: (replicas.height > 0).then_some(replicas), foot }
    }

    fn title(&self, figures: Option<&Figures>) -> Line<'static> {
        let mut spans = vec![Span::styled("quipu top", Modifier::BOLD)];
        let mut say = |text: String, style: Style| spans.extend([Span::raw("  "), Span::styled(text, style)]);
        if self.ui.paused {
            say("PAUSED".to_owned(), self.palette.doubtful().add_modifier(Modifier::REVERSED));
        }
        if let Some(trouble) = self.history.trouble() {
            let lasts = lasting(self.now.saturating_sub(trouble.since));
            say(format!("no node answers for {lasts}: {}", trouble.reason), self.palette.bad());
        }
        let Some(figures) = figures else {
            if self.history.trouble().is_none() {
                say("asking the cluster…".to_owned(), Style::new());
            }
            return Line::from(spans);
        };
        let (nodes, down) = (figures.nodes.len(), self.history.nodes_down());
        match down {
            0 => say(format!("{nodes} nodes"), Style::new()),
            down => say(format!("{nodes} nodes, {down} down"), self.palette.bad()),
        }
        say(format!("{} logs", figures.all_logs), Style::new());
        match figures.catalog_leader {
            Some(node) => say(format!("node {node} leads the catalog"), Style::new()),
            None => say("nobody leads the catalog".to_owned(), self.palette.bad()),
        }
        say(format!("cluster {}", figures.cluster), Style::new());
        Line::from(spans)
    }

    fn nodes(&self, figures: &Figures) -> Grid<'static> {
        let rows = figures.nodes.iter().map(|node| self.node_row(node)).collect();
        Grid {
            columns: &NODE_COLUMNS,
            rows,
            heading: Modifier::BOLD.into(),
            chosen: self.chosen(Focus::Nodes, self.ui.node_row(figures)),
        }
    }

    fn node_row(&self, figures: &NodeFigures) -> Vec<Cell> {
        let node = &figures.node;
        let state = match (node.state, self.history.down(node.id)) {
            (NodeState::Down, Some(down)) => {
                let at_least = if down.from_the_first { "over " } else { "" };
                let lasts = lasting(self.now.saturating_sub(down.since));
                Cell::new(format!("down {at_least}{lasts}"), self.palette.bad())
            }
            (NodeState::Down, None) => Cell::new("down", self.palette.bad()),
            (NodeState::Up, _) => Cell::new("up", self.palette.good()),
            (NodeState::Resyncing, _) => Cell::new("resyncing", self.palette.doubtful()),
            (NodeState::Unknown, _) => Cell::new("unknown", self.palette.doubtful()),
        };
        let rate = |rate: fn(&NodeRates) -> String| figures.rates.as_ref().map_or_else(|| "-".to_owned(), rate);
        let errors = figures.rates.is_some_and(|rates| rates.append_errors > 0.0);
        vec![
            node.id.to_string().into(),
            node.address.clone().into(),
            state,
            if figures.leads_catalog { format!("{}+c", figures.leads) } else { figures.leads.to_string() }.into(),
            rate(|it| short(it.appends)).into(),
            rate(|it| bytes(it.appended_bytes)).into(),
            Cell::new(rate(|it| short(it.append_errors)), if errors { self.palette.doubtful() } else { Style::new() }),
            rate(|it| short(it.reads)).into(),
            rate(|it| bytes(it.read_bytes)).into(),
            rate(|it| short(it.fsyncs)).into(),
            rate(|it| bytes(it.written_bytes)).into(),
            rate(|it| format!("{:.0}%", it.processors * 100.0)).into(),
            node.version.clone().into(),
        ]
    }

    fn logs(&self, figures: &Figures, area: Rect, buffer: &mut Buffer) {
        let logs = self.ui.logs(figures);
        let row = self.ui.log_row(&logs);
        let grid = Grid {
            columns: &LOG_COLUMNS,
            rows: logs.iter().map(|log| self.log_row(log)).collect(),
            heading: Modifier::BOLD.into(),
            chosen: self.chosen(Focus::Logs, row),
        };
        grid.draw(area, buffer);
        let height = usize::from(area.height.saturating_sub(1));
        let first = page_start(row, height);
        let nothing = match (logs.is_empty(), self.ui.filter()) {
            (false, _) => {
                let last = (first + height).min(logs.len());
                let left_out = figures.fitting_logs.saturating_sub(figures.logs.len());
                if last - first < logs.len() || left_out > 0 {
                    let more = if left_out > 0 { format!(", {left_out} more not asked for") } else { String::new() };
                    let place = format!("{}-{last} of {}{more}", first + 1, logs.len());
                    let x = area.right().saturating_sub(u16::try_from(place.chars().count()).unwrap_or(area.width));
                    // Above the table: the blank line.
                    buffer.set_string(x, area.y.saturating_sub(1), place, Style::new());
                }
                return;
            }
            (true, "") => "no logs yet: quipu log create NAME".to_owned(),
            (true, filter) => format!("no log's name contains {filter:?}"),
        };
        if area.height > 1 {
            buffer.set_stringn(area.x, area.y + 1, nothing, area.width.into(), Style::new());
        }
    }

    fn log_row(&self, figures: &LogFigures) -> Vec<Cell> {
        let log = &figures.log;
        let leader = match log.leader {
            Some(node) => Cell::from(node.to_string()),
            None => Cell::new("none", self.palette.bad()),
        };
        let wanted = log.replicas.len();
        let all = figures.running == wanted;
        let lagging = |lag: u64| if lag > 0 { self.palette.doubtful() } else { Style::new() };
        vec![
            log.log.name.as_str().into(),
            leader,
            figures.records.map_or_else(|| "-".to_owned(), short).into(),
            Cell::new(short(figures.lag as f64), lagging(figures.lag)),
            Cell::new(short(figures.behind as f64), lagging(figures.behind)),
            Cell::new(format!("{}/{wanted}", figures.running), if all { Style::new() } else { self.palette.bad() }),
            log.range.end().to_string().into(),
            log.range.start().to_string().into(),
            log.term.to_string().into(),
        ]
    }

    fn replicas(&self, figures: &Figures, area: Rect, buffer: &mut Buffer) {
        let logs = self.ui.logs(figures);
        let Some(log) = logs.get(self.ui.log_row(&logs)) else { return };
        let rows = log.log.replicas.iter().map(|replica| self.replica_row(log, replica)).collect();
        let grid = Grid { columns: &REPLICA_COLUMNS, rows, heading: Modifier::BOLD.into(), chosen: None };
        grid.draw(area, buffer);
    }

    fn replica_row(&self, log: &LogFigures, replica: &ReplicaDescription) -> Vec<Cell> {
        let role = match replica.role {
            Some(ReplicaRole::Leader) => "leader",
            Some(ReplicaRole::Follower) => "follower",
            Some(ReplicaRole::Learner) => "learner",
            None => "?",
        };
        let (state, style) = match replica.state {
            ReplicaState::Running => ("running", self.palette.good()),
            ReplicaState::Unreachable => ("unreachable", self.palette.bad()),
            ReplicaState::Failed => ("failed", self.palette.bad()),
            ReplicaState::Damaged => ("damaged", self.palette.bad()),
            ReplicaState::Starting => ("starting", self.palette.doubtful()),
            ReplicaState::Unknown => ("unknown", self.palette.doubtful()),
        };
        // Of one that says nothing, nothing is known.
        let told = |number: u64| if replica.role.is_some() { number.to_string() } else { "-".to_owned() };
        vec![
            log.log.log.name.as_str().into(),
            replica.node.to_string().into(),
            role.into(),
            Cell::new(state, style),
            told(replica.lag).into(),
            told(log.behind_of(replica)).into(),
            told(replica.durable_index).into(),
            told(replica.applied_index).into(),
            told(replica.end.get()).into(),
        ]
    }

    /// How the chosen row looks; of the table without the focus, no row.
    fn chosen(&self, table: Focus, row: usize) -> Option<(usize, Style)> {
        let style = if self.ui.focus == table { Modifier::REVERSED.into() } else { Style::new() };
        Some((row, style))
    }

    fn foot(&self) -> Line<'static> {
        let ui = self.ui;
        if ui.editing {
            let filter = cut(ui.filter(), 40);
            return Line::from(vec![
                Span::styled("filter: ", Modifier::BOLD),
                Span::raw(filter),
                Span::styled(" ", Modifier::REVERSED),
                Span::raw("  Enter keeps it, Esc clears it"),
            ]);
        }
        let order = if ui.reversed { ", reversed" } else { "" };
        let mut text = format!("? help  q quit  every {}s  by {}{order}", self.interval.as_secs(), ui.sort.name());
        if !ui.filter().is_empty() {
            text = format!("{text}  filter {:?}", cut(ui.filter(), 20));
        }
        Line::from(text)
    }
}

const fn column(heading: &'static str, side: Side, weight: u8) -> Column {
    Column { heading, side, weight }
}

const NODE_COLUMNS: [Column; 13] = [
    column("node", Side::Left, 99),
    column("address", Side::Left, 80),
    column("state", Side::Left, 97),
    column("leads", Side::Right, 90),
    column("appends/s", Side::Right, 96),
    column("bytes/s", Side::Right, 95),
    column("errors/s", Side::Right, 50),
    column("reads/s", Side::Right, 94),
    column("read B/s", Side::Right, 60),
    column("fsyncs/s", Side::Right, 40),
    column("disk B/s", Side::Right, 55),
    column("cpu", Side::Right, 70),
    column("version", Side::Left, 30),
];

const LOG_COLUMNS: [Column; 9] = [
    column("log", Side::Left, 99),
    column("leader", Side::Right, 98),
    column("records/s", Side::Right, 97),
    column("lag", Side::Right, 96),
    column("behind", Side::Right, 95),
    column("replicas", Side::Right, 94),
    column("end", Side::Right, 93),
    column("start", Side::Right, 50),
    column("term", Side::Right, 40),
];

const REPLICA_COLUMNS: [Column; 9] = [
    column("replicas of", Side::Left, 99),
    column("node", Side::Right, 98),
    column("role", Side::Left, 97),
    column("state", Side::Left, 96),
    column("lag", Side::Right, 95),
    column("behind", Side::Right, 94),
    column("durable", Side::Right, 80),
    column("applied", Side::Right, 80),
    column("end", Side::Right, 60),
];

const HELP: [&str; 15] = [
    " q, Ctrl-C      quit",
    " j k, arrows    choose; PgUp PgDn Home End",
    " Tab            nodes or logs",
    " s              sort by name, rate, lag, end, leader",
    " r              reverse the order",
    " /              show logs whose names contain…",
    " Esc            show all logs",
    " p              pause",
    "",
    " leads     logs led; +c: the catalog, too",
    " lag       entries that the replica furthest",
    "           behind has not fsynced",
    " behind    records that it has not applied",
    " K M G     of bytes: 1024, 1024², 1024³",
    "           any key ends this help",
];

/// The help, in the middle of `area`.
fn help(area: Rect, buffer: &mut Buffer) {
    let longest = HELP.iter().map(|line| line.chars().count()).max().unwrap_or_default();
    let width = u16::try_from(longest + 2).unwrap_or(area.width).min(area.width);
    let height = u16::try_from(HELP.len()).unwrap_or(area.height).min(area.height);
    let place = Rect::new(area.x + (area.width - width) / 2, area.y + (area.height - height) / 2, width, height);
    Clear.render(place, buffer);
    buffer.set_style(place, Modifier::REVERSED);
    Paragraph::new(HELP.map(Line::from).to_vec()).render(place, buffer);
}

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;
