//! Whole frames, as a person would see them.

use crossterm::event::{KeyCode, KeyEvent};
use std::path::Path;

use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::super::figures::tests::{down, log, node, sample};
use super::super::text;
use super::super::ui::Sort;
use super::*;

/// Two samples a second apart: node 3 went down in between.
fn history() -> History {
    let logs = |more: u64| {
        let mut orders = log("orders", 2, 1_000 + more, &[0, 0, 40]);
        orders.replicas[2].state = ReplicaState::Unreachable;
        orders.replicas[2].role = None;
        let mut orphan = log("returns", 3, 7, &[0, 0, 0]);
        orphan.leader = None;
        vec![log("billing/eu", 1, 500, &[0, 12, 0]), orders, orphan]
    };
    let mut history = History::default();
    history.take_in(sample(10, vec![node(1, 0), node(2, 0), node(3, 0)], logs(0)));
    history.take_in(sample(11, vec![node(1, 1_500), node(2, 20), down(3)], logs(1_500)));
    history
}

fn drawn_as(history: &History, ui: &Ui, palette: Palette, width: u16, height: u16) -> TestBackend {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("memory");
    let now = Duration::from_secs(91);
    let view = View { history, ui, now, interval: Duration::from_secs(1), palette };
    terminal.draw(|frame| frame.render_widget(&view, frame.area())).expect("memory");
    terminal.backend().clone()
}

fn drawn(history: &History, ui: &Ui, width: u16, height: u16) -> String {
    text(&drawn_as(history, ui, Palette::Colours, width, height))
}

fn ui(keys: &[KeyCode]) -> Ui {
    let history = history();
    let mut ui = Ui::new(Sort::Name, String::new());
    for code in keys {
        let _ = ui.key(KeyEvent::from(*code), history.figures(), 5);
    }
    ui
}

#[test]
fn everything_is_on_a_terminal_of_80_by_24() {
    as_it_was(&drawn(&history(), &ui(&[]), 80, 24), "80x24.txt");
}

#[test]
fn the_least_important_is_left_out_on_60_by_15() {
    as_it_was(&drawn(&history(), &ui(&[]), 60, 15), "60x15.txt");
}

#[test]
fn a_wide_terminal_shows_every_column() {
    as_it_was(&drawn(&history(), &ui(&[]), 160, 24), "160x24.txt");
}

/// Compares a frame with the one that was looked at and found good. To write it
/// anew after a change: QUIPU_WRITE_FRAMES=1.
#[track_caller]
fn as_it_was(drawn: &str, name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cli/top/frames").join(name);
    if std::env::var_os("QUIPU_WRITE_FRAMES").is_some() {
        std::fs::write(&path, drawn).expect("writes the frame");
    }
    let expected = std::fs::read_to_string(&path).expect("the frame is there");
    assert!(drawn == expected, "the frame is\n{drawn}\nand was\n{expected}");
}

#[test]
fn a_node_that_is_down_says_since_when() {
    assert!(drawn(&history(), &ui(&[]), 80, 24).contains("down 1m20s"));
    let mut history = History::default();
    history.take_in(sample(11, vec![node(1, 0), down(2)], Vec::new()));
    let frame = drawn(&history, &ui(&[]), 80, 24);
    assert!(frame.contains("2 nodes, 1 down") && frame.contains("down over 1m20s"), "{frame}");
}

#[test]
fn before_any_answer_and_while_nobody_answers_that_is_told() {
    let mut empty = History::default();
    assert!(drawn(&empty, &ui(&[]), 60, 15).contains("asking the cluster"));
    empty.missed(Duration::from_secs(31), "connection refused".to_owned());
    assert!(drawn(&empty, &ui(&[]), 80, 15).contains("no node answers for 1m00s: connection refused"));
    let mut history = history();
    history.missed(Duration::from_secs(86), "timed out".to_owned());
    let frame = drawn(&history, &ui(&[]), 100, 24);
    assert!(frame.contains("no node answers for 5s") && frame.contains("orders"), "what was seen last stays: {frame}");
}

#[test]
fn keys_change_what_is_shown() {
    let frame = |keys: &[KeyCode]| drawn(&history(), &ui(keys), 80, 24);
    assert!(frame(&[KeyCode::Char('p')]).contains("PAUSED"));
    let filtered = frame(&[KeyCode::Char('/'), KeyCode::Char('o'), KeyCode::Char('r')]);
    assert!(filtered.contains("filter: or") && !filtered.contains("billing/eu"), "{filtered}");
    let none = frame(&[KeyCode::Char('/'), KeyCode::Char('x'), KeyCode::Char('x'), KeyCode::Enter]);
    assert!(none.contains("no log's name contains \"xx\""), "{none}");
    let help = frame(&[KeyCode::Char('?')]);
    for line in HELP {
        assert!(help.contains(line.trim()), "{line:?} is missing:\n{help}");
    }
    // The replicas are those of the chosen log.
    let chosen = frame(&[KeyCode::Char('j')]);
    assert!(chosen.contains("unreachable") && !frame(&[]).contains("unreachable"), "{chosen}");
}

#[test]
fn no_colour_is_used_where_none_is_wanted_and_nothing_is_said_by_colour_alone() {
    let colours = |palette| {
        let backend = drawn_as(&history(), &ui(&[]), palette, 80, 24);
        let buffer = backend.buffer().clone();
        let coloured = buffer.content.iter().filter(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset).count();
        (text(&backend), coloured)
    };
    let (plain, none) = colours(Palette::Plain);
    let (coloured, some) = colours(Palette::Colours);
    assert_eq!((plain, none), (coloured, 0));
    assert!(some > 0);
}

#[test]
fn only_colours_that_can_be_read_on_dark_and_light_are_used() {
    let backend = drawn_as(&history(), &ui(&[]), Palette::Colours, 160, 40);
    let unreadable = backend.buffer().content.iter().find(|cell| {
        !matches!(cell.fg, Color::Reset | Color::Red | Color::Magenta | Color::Green) || cell.bg != Color::Reset
    });
    assert_eq!(unreadable, None);
}

#[test]
fn many_nodes_and_logs_are_paged_and_every_size_is_drawn() {
    let mut history = History::default();
    let logs = (0..150).map(|number| log(&format!("log-{number:03}"), number + 1, number, &[0, 0, 0])).collect();
    history.take_in(sample(11, (1..=30).map(|id| node(id, 0)).collect(), logs));
    let mut ui = Ui::new(Sort::Name, String::new());
    for _ in 0..120 {
        let _ = ui.key(KeyEvent::from(KeyCode::Down), history.figures(), 5);
    }
    let frame = drawn(&history, &ui, 80, 24);
    assert!(frame.contains("log-120") && frame.contains(" of 150"), "{frame}");
    for width in [0, 1, 29, 30, 59, 60, 200] {
        for height in [0, 1, 6, 7, 15, 19, 20, 60] {
            let _ = drawn(&history, &ui, width, height);
        }
    }
    let small = drawn(&history, &ui, 25, 5);
    assert!(small.contains("too small"), "{small}");
}
