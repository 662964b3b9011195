//! What the user has chosen, and what each key makes of it.

use clap::ValueEnum;
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use quipu_sdk::NodeId;

use super::figures::{Figures, LogFigures};

/// A longer filter fits no log's name.
const MAX_FILTER_CHARS: usize = 255;

/// By what the logs are sorted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Sort {
    /// Their names.
    #[default]
    Name,
    /// Records a second, most first.
    Rate,
    /// The entries that a replica lacks, most first.
    Lag,
    /// Where they end, furthest first.
    End,
    /// The node that leads them; those without a leader first.
    Leader,
}

impl Sort {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Rate => "rate",
            Self::Lag => "lag",
            Self::End => "end",
            Self::Leader => "leader",
        }
    }

    const fn next(self) -> Self {
        match self {
            Self::Name => Self::Rate,
            Self::Rate => Self::Lag,
            Self::Lag => Self::End,
            Self::End => Self::Leader,
            Self::Leader => Self::Name,
        }
    }
}

/// Which table the keys move in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Focus {
    Nodes,
    Logs,
}

/// What a key asks for beyond another look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// Another look, at most.
    Draw,
    /// Asking the cluster now: other logs are wanted.
    Ask,
    Quit,
}

/// What the user has chosen.
#[derive(Clone, Debug)]
pub(super) struct Ui {
    pub(super) focus: Focus,
    pub(super) sort: Sort,
    pub(super) reversed: bool,
    pub(super) paused: bool,
    pub(super) help: bool,
    /// Whether keys write the filter now.
    pub(super) editing: bool,
    filter: String,
    /// By what they are, not by where they stand: rows move.
    node: Option<NodeId>,
    log: Option<String>,
}

impl Ui {
    pub(super) fn new(sort: Sort, filter: String) -> Self {
        Self {
            focus: Focus::Logs,
            sort,
            reversed: false,
            paused: false,
            help: false,
            editing: false,
            filter,
            node: None,
            log: None,
        }
    }

    /// What the logs' names have to contain.
    pub(super) fn filter(&self) -> &str {
        &self.filter
    }

    /// The logs in the order in which they are shown: those that fit.
    pub(super) fn logs<'a>(&self, figures: &'a Figures) -> Vec<&'a LogFigures> {
        let fits = |log: &&LogFigures| log.log.log.name.as_str().contains(self.filter.as_str());
        let mut logs: Vec<&LogFigures> = figures.logs.iter().filter(fits).collect();
        // Stable: equals stay in the order of their names.
        match self.sort {
            Sort::Name => {}
            Sort::Rate => logs.sort_by(|a, b| b.records.unwrap_or(-1.0).total_cmp(&a.records.unwrap_or(-1.0))),
            Sort::Lag => logs.sort_by_key(|log| std::cmp::Reverse((log.lag, log.behind))),
            Sort::End => logs.sort_by_key(|log| std::cmp::Reverse(log.log.range.end())),
            Sort::Leader => logs.sort_by_key(|log| log.log.leader),
        }
        if self.reversed {
            logs.reverse();
        }
        logs
    }

    /// The row of the chosen node; the first unless another was chosen.
    pub(super) fn node_row(&self, figures: &Figures) -> usize {
        figures.nodes.iter().position(|node| Some(node.node.id) == self.node).unwrap_or_default()
    }

    /// The row of the chosen log among `logs`; the first unless another was
    /// chosen and is there.
    pub(super) fn log_row(&self, logs: &[&LogFigures]) -> usize {
        let chosen = |log: &&LogFigures| Some(log.log.log.name.as_str()) == self.log.as_deref();
        logs.iter().position(chosen).unwrap_or_default()
    }

    /// Takes a key; `page` is how many rows a page has.
    pub(super) fn key(&mut self, key: KeyEvent, figures: Option<&Figures>, page: usize) -> Wish {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c') => Wish::Quit,
                _ => Wish::Draw,
            };
        }
        if self.editing {
            return self.edit(key.code);
        }
        if self.help {
            self.help = false;
            return if key.code == KeyCode::Char('q') { Wish::Quit } else { Wish::Draw };
        }
        match key.code {
            KeyCode::Char('q') => return Wish::Quit,
            KeyCode::Char('?' | 'h') => self.help = true,
            KeyCode::Char('p' | ' ') => self.paused = !self.paused,
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Char('r') => self.reversed = !self.reversed,
            KeyCode::Char('/') => self.editing = true,
            KeyCode::Esc => return self.clear_filter(),
            KeyCode::Tab | KeyCode::BackTab => {
                self.focus = if self.focus == Focus::Logs { Focus::Nodes } else { Focus::Logs };
            }
            code => self.go(code, figures, page),
        }
        Wish::Draw
    }

    /// While it is written, the filter chooses among the logs that are known;
    /// then it is what the cluster is asked for.
    fn edit(&mut self, code: KeyCode) -> Wish {
        match code {
            KeyCode::Enter => {
                self.editing = false;
                return Wish::Ask;
            }
            KeyCode::Esc => return self.clear_filter(),
            KeyCode::Backspace => drop(self.filter.pop()),
            // Others are in no log's name.
            KeyCode::Char(char) if char.is_ascii_graphic() && self.filter.len() < MAX_FILTER_CHARS => {
                self.filter.push(char);
            }
            _ => {}
        }
        Wish::Draw
    }

    fn clear_filter(&mut self) -> Wish {
        self.editing = false;
        if self.filter.is_empty() {
            return Wish::Draw;
        }
        self.filter.clear();
        Wish::Ask
    }

    /// Moves in the table that has the focus.
    fn go(&mut self, code: KeyCode, figures: Option<&Figures>, page: usize) {
        let Some(figures) = figures else { return };
        let logs = self.logs(figures);
        let (row, rows) = match self.focus {
            Focus::Nodes => (self.node_row(figures), figures.nodes.len()),
            Focus::Logs => (self.log_row(&logs), logs.len()),
        };
        let row = match code {
            KeyCode::Up | KeyCode::Char('k') => row.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => row + 1,
            KeyCode::PageUp => row.saturating_sub(page),
            KeyCode::PageDown => row + page,
            KeyCode::Home | KeyCode::Char('g') => 0,
            KeyCode::End | KeyCode::Char('G') => rows,
            _ => return,
        };
        let row = row.min(rows.saturating_sub(1));
        match self.focus {
            Focus::Nodes => self.node = figures.nodes.get(row).map(|node| node.node.id),
            Focus::Logs => self.log = logs.get(row).map(|log| log.log.log.name.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::figures::tests::{log, node, sample};
    use super::*;

    fn figures() -> Figures {
        let logs = |ends: [u64; 3]| {
            let [a, b, c] = ends;
            vec![log("billing/eu", 1, a, &[0, 9]), log("orders", 2, b, &[0, 0]), log("returns", 3, c, &[0, 4])]
        };
        let before = sample(10, vec![node(1, 0), node(2, 0)], logs([100, 100, 100]));
        Figures::of(Some(&before), &sample(11, vec![node(1, 9), node(2, 9)], logs([105, 150, 100])))
    }

    fn press(ui: &mut Ui, figures: &Figures, keys: &[KeyCode]) -> Wish {
        keys.iter().fold(Wish::Draw, |_, code| ui.key(KeyEvent::from(*code), Some(figures), 2))
    }

    fn shown(ui: &Ui, figures: &Figures) -> Vec<String> {
        ui.logs(figures).iter().map(|log| log.log.log.name.to_string()).collect()
    }

    #[test]
    fn logs_are_sorted_by_what_s_has_chosen() {
        let figures = figures();
        let mut ui = Ui::new(Sort::Name, String::new());
        let check = |ui: &Ui, sort, expect: [&str; 3]| {
            assert_eq!((ui.sort, shown(ui, &figures)), (sort, expect.map(str::to_owned).to_vec()));
        };
        check(&ui, Sort::Name, ["billing/eu", "orders", "returns"]);
        press(&mut ui, &figures, &[KeyCode::Char('s')]);
        check(&ui, Sort::Rate, ["orders", "billing/eu", "returns"]);
        press(&mut ui, &figures, &[KeyCode::Char('s')]);
        check(&ui, Sort::Lag, ["billing/eu", "returns", "orders"]);
        press(&mut ui, &figures, &[KeyCode::Char('r')]);
        check(&ui, Sort::Lag, ["orders", "returns", "billing/eu"]);
    }

    #[test]
    fn the_chosen_log_stays_chosen_when_rows_move() {
        let figures = figures();
        let mut ui = Ui::new(Sort::Name, String::new());
        press(&mut ui, &figures, &[KeyCode::Char('j')]);
        assert_eq!(ui.log_row(&ui.logs(&figures)), 1);
        press(&mut ui, &figures, &[KeyCode::Char('s')]);
        assert_eq!(ui.log_row(&ui.logs(&figures)), 0, "orders comes first by rate");
        // Moving stops at the ends.
        press(&mut ui, &figures, &[KeyCode::PageDown, KeyCode::Down, KeyCode::Down]);
        assert_eq!(ui.log_row(&ui.logs(&figures)), 2);
        press(&mut ui, &figures, &[KeyCode::Home, KeyCode::Up]);
        assert_eq!(ui.log_row(&ui.logs(&figures)), 0);
        press(&mut ui, &figures, &[KeyCode::Tab, KeyCode::Char('G')]);
        assert_eq!((ui.node_row(&figures), ui.log_row(&ui.logs(&figures))), (1, 0), "nodes have the focus");
    }

    #[test]
    fn a_filter_is_written_kept_and_cleared() {
        let figures = figures();
        let mut ui = Ui::new(Sort::Name, String::new());
        let keys = [KeyCode::Char('/'), KeyCode::Char('r'), KeyCode::Char('q'), KeyCode::Backspace];
        assert_eq!(press(&mut ui, &figures, &keys), Wish::Draw, "q is a letter here");
        assert_eq!((ui.filter(), ui.editing), ("r", true));
        assert_eq!(shown(&ui, &figures), ["orders", "returns"]);
        assert_eq!(press(&mut ui, &figures, &[KeyCode::Char('d'), KeyCode::Char('ä'), KeyCode::Enter]), Wish::Ask);
        assert_eq!((ui.filter(), ui.editing), ("rd", false));
        assert_eq!(shown(&ui, &figures), ["orders"]);
        assert_eq!(press(&mut ui, &figures, &[KeyCode::Esc]), Wish::Ask);
        assert_eq!(shown(&ui, &figures).len(), 3);
    }

    #[test]
    fn q_and_control_c_quit_and_help_ends_with_any_key() {
        let figures = figures();
        let mut ui = Ui::new(Sort::Name, String::new());
        assert_eq!(press(&mut ui, &figures, &[KeyCode::Char('q')]), Wish::Quit);
        press(&mut ui, &figures, &[KeyCode::Char('?')]);
        assert!(ui.help);
        assert_eq!(press(&mut ui, &figures, &[KeyCode::Char('s')]), Wish::Draw);
        assert_eq!((ui.help, ui.sort), (false, Sort::Name), "the key only ended the help");
        press(&mut ui, &figures, &[KeyCode::Char('/')]);
        let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(ui.key(interrupt, Some(&figures), 2), Wish::Quit, "even while a filter is written");
    }
}
