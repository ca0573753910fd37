//! Tables for people.

use comfy_table::{Attribute, Cell, Color, ContentArrangement, presets};

use super::{colours, text};

/// A table without borders whose columns fit the terminal.
pub(crate) struct Table {
    inner: comfy_table::Table,
    coloured: bool,
}

impl Table {
    /// A table with a line of headings.
    pub(crate) fn new(headings: &[&str]) -> Table {
        let mut table = Table::plain();
        let coloured = table.coloured;
        let heading = |text: &&str| {
            let cell = Cell::new(text);
            if coloured { cell.add_attribute(Attribute::Bold) } else { cell }
        };
        table.inner.set_header(headings.iter().map(heading));
        table
    }

    /// A table without headings.
    pub(crate) fn plain() -> Table {
        let mut inner = comfy_table::Table::new();
        inner.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
        Table { inner, coloured: colours() }
    }

    /// Adds a row. A cell that is the name of a state gets its colour.
    pub(crate) fn row<T: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = T>) {
        let coloured = self.coloured;
        self.inner.add_row(cells.into_iter().map(|text| {
            let text = text.as_ref();
            let cell = Cell::new(text);
            match state_colour(text) {
                Some(colour) if coloured => cell.fg(colour),
                _ => cell,
            }
        }));
    }

    /// Whether it has no rows.
    pub(crate) fn is_empty(&self) -> bool {
        self.inner.is_empty()
    }

    /// The text, or `empty` if there are no rows.
    pub(crate) fn render_or(&self, empty: &str) -> String {
        if self.is_empty() { format!("{empty}\n") } else { self.render() }
    }

    /// The text, with no spaces at line ends.
    pub(crate) fn render(&self) -> String {
        let mut inner = self.inner.clone();
        for column in inner.column_iter_mut() {
            column.set_padding((0, 2));
        }
        text::trim_lines(&inner.to_string())
    }
}

fn state_colour(text: &str) -> Option<Color> {
    Some(match text {
        "SUCCEEDED" | "DONE" | "ACTIVE" | "ANSWERED" | "ok" => Color::Green,
        "RUNNING" | "IN_PROGRESS" | "BUSY" => Color::Cyan,
        "FAILED" | "LOST" | "OFFLINE" | "missing" => Color::Red,
        "WAITING" | "PAUSED" | "BLOCKED" | "OPEN" | "DRAINING" | "EXPIRED" | "note" => Color::Yellow,
        "CANCELLED" | "SKIPPED" | "CREATED" | "PENDING" => Color::DarkGrey,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_aligned_and_has_no_trailing_spaces() {
        let mut table = Table::new(&["RUN", "STATE"]);
        table.row(["1", "FAILED"]);
        table.row(["1234", ""]);
        assert_eq!(table.render(), "RUN   STATE\n1     FAILED\n1234\n");
        assert_eq!(Table::new(&["A"]).render_or("none"), "none\n");
    }
}
