//! A table in as many columns as there are: the least important are left out
//! first, then the first column is cut.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

/// Blanks between two columns.
const GAP: usize = 2;
/// What the first column keeps at least.
const LEAST_FIRST: usize = 6;

/// A column.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    pub(super) heading: &'static str,
    pub(super) side: Side,
    /// The higher, the longer it is kept.
    pub(super) weight: u8,
}

/// Where a cell's text stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
}

/// One place of a table.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    pub(super) text: String,
    pub(super) style: Style,
}

impl Cell {
    pub(super) fn new(text: impl Into<String>, style: Style) -> Self {
        Self { text: text.into(), style }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::new(text, Style::new())
    }
}

/// A table of cells, each row with a cell for each column.
pub(super) struct Grid<'a> {
    pub(super) columns: &'a [Column],
    pub(super) rows: Vec<Vec<Cell>>,
    /// How the heading looks.
    pub(super) heading: Style,
    /// The chosen row and how it looks.
    pub(super) chosen: Option<(usize, Style)>,
}

impl Grid<'_> {
    /// Draws the heading and the page of rows that holds the chosen one.
    pub(super) fn draw(&self, area: Rect, buffer: &mut Buffer) {
        if area.height == 0 {
            return;
        }
        let width = usize::from(area.width);
        let widths = self.widths(width);
        let headings = self.columns.iter().map(|column| Cell::new(column.heading, self.heading)).collect::<Vec<_>>();
        self.line(&headings, &widths, Rect { height: 1, ..area }, buffer);
        let height = usize::from(area.height - 1);
        let chosen = self.chosen.map_or(0, |(row, _)| row);
        let first = page_start(chosen, height);
        let shown = self.rows.iter().enumerate().skip(first).take(height);
        for ((position, row), y) in shown.zip(area.y + 1..) {
            let place = Rect { y, height: 1, ..area };
            self.line(row, &widths, place, buffer);
            if let Some((chosen, style)) = self.chosen
                && chosen == position
            {
                buffer.set_style(place, style);
            }
        }
    }

    /// Each column's width; none for those that there is no room for.
    fn widths(&self, room: usize) -> Vec<Option<usize>> {
        let wanted = |(position, column): (usize, &Column)| {
            let cells = self.rows.iter().filter_map(|row| row.get(position)).map(|cell| cell.text.chars().count());
            Some(cells.chain([column.heading.chars().count()]).max().unwrap_or_default())
        };
        let mut widths: Vec<Option<usize>> = self.columns.iter().enumerate().map(wanted).collect();
        loop {
            let kept = widths.iter().flatten();
            let all = kept.clone().sum::<usize>() + GAP * kept.count().saturating_sub(1);
            let first = widths.first().copied().flatten().unwrap_or_default();
            let over = all.saturating_sub(room);
            if over == 0 {
                return widths;
            }
            let others = (1..widths.len()).filter(|column| widths[*column].is_some());
            let least = others.min_by_key(|column| self.columns[*column].weight);
            match least {
                // Cutting a name by a little is better than losing a column.
                Some(_) if over <= first.saturating_sub(LEAST_FIRST.max(first / 2)) => widths[0] = Some(first - over),
                Some(column) => widths[column] = None,
                None => widths[0] = Some(room),
            }
        }
    }

    fn line(&self, cells: &[Cell], widths: &[Option<usize>], area: Rect, buffer: &mut Buffer) {
        let mut x = usize::from(area.x);
        for ((cell, column), width) in cells.iter().zip(self.columns).zip(widths) {
            let Some(width) = *width else { continue };
            let text = cut(&cell.text, width);
            let blank = width.saturating_sub(text.chars().count());
            let start = if column.side == Side::Right { x + blank } else { x };
            if let Ok(start) = u16::try_from(start) {
                buffer.set_stringn(start, area.y, &text, width, cell.style);
            }
            x += width + GAP;
        }
    }
}

/// The first row of the page, of `height` rows, that holds `row`.
pub(super) const fn page_start(row: usize, height: usize) -> usize {
    match height {
        0 => row,
        height => row / height * height,
    }
}

/// At most `width` characters of `text`; what is missing is marked.
pub(super) fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{kept}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 4] = [
        Column { heading: "log", side: Side::Left, weight: 9 },
        Column { heading: "leader", side: Side::Right, weight: 7 },
        Column { heading: "term", side: Side::Right, weight: 1 },
        Column { heading: "lag", side: Side::Right, weight: 8 },
    ];

    fn drawn(width: u16, height: u16, chosen: usize) -> Vec<String> {
        let row = |name: &str, lag: &str| vec![name.into(), "1".into(), "12".into(), lag.into()];
        let rows = vec![row("orders", "0"), row("billing/europe/paid", "7"), row("x", "123")];
        let grid =
            Grid { columns: &COLUMNS, rows, heading: Style::new(), chosen: Some((chosen, Style::new().reversed())) };
        let area = Rect::new(0, 0, width, height);
        let mut buffer = Buffer::empty(area);
        grid.draw(area, &mut buffer);
        let line = |y| (0..width).map(|x| buffer[(x, y)].symbol().to_owned()).collect::<String>();
        (0..height).map(|y| line(y).trim_end().to_owned()).collect()
    }

    #[test]
    fn columns_are_as_wide_as_they_have_to_be() {
        assert_eq!(
            drawn(50, 4, 0),
            [
                "log                  leader  term  lag",
                "orders                    1    12    0",
                "billing/europe/paid       1    12    7",
                "x                         1    12  123",
            ]
        );
    }

    #[test]
    fn where_room_is_short_names_are_cut_and_the_least_important_go_first() {
        assert_eq!(
            drawn(36, 3, 0),
            [
                "log                leader  term  lag",
                "orders                  1    12    0",
                "billing/europe/p…       1    12    7"
            ]
        );
        assert_eq!(
            drawn(25, 3, 0),
            ["log           leader  lag", "orders             1    0", "billing/eur…       1    7"]
        );
        assert_eq!(drawn(8, 3, 0), ["log", "orders", "billing…"]);
        assert_eq!(drawn(0, 1, 0), [""]);
    }

    #[test]
    fn the_page_with_the_chosen_row_is_shown() {
        assert_eq!(drawn(50, 3, 2)[1], "x                         1    12  123");
        assert_eq!(page_start(7, 3), 6);
        assert_eq!(page_start(5, 0), 5);
    }
}
