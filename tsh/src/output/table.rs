//! Text tables: left-aligned columns as wide as their widest cell.

use std::fmt::Write;

use super::plain;

/// Space between two columns.
const GAP: usize = 2;

/// A table under construction.
#[derive(Debug)]
pub(crate) struct Table<const N: usize> {
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    /// An empty table with a heading.
    pub(crate) fn new(heading: [&str; N]) -> Self {
        let rule = heading.map(|text| "-".repeat(text.chars().count()));
        Self {
            rows: vec![heading.map(str::to_owned), rule],
        }
    }

    /// Adds a row. Cells come from elsewhere, so they are made plain.
    pub(crate) fn push(&mut self, cells: [String; N]) {
        self.rows.push(cells.map(|cell| plain(&cell)));
    }

    /// The whole table, without the last newline.
    pub(crate) fn render(&self) -> String {
        let widths = self.widths();
        let lines = self.rows.iter().map(|row| {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(widths) {
                let _ = write!(line, "{cell:<width$}", width = width + GAP);
            }
            line.trim_end().to_owned()
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    fn widths(&self) -> [usize; N] {
        self.rows.iter().fold([0; N], |mut widths, row| {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
            widths
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_do_not_trail_spaces() {
        let mut table = Table::new(["Node", "Labels"]);
        table.push(["gateway-1".into(), "env=lab".into()]);
        table.push(["müller".into(), String::new()]);
        assert_eq!(
            table.render(),
            "Node       Labels\n\
             ----       ------\n\
             gateway-1  env=lab\n\
             müller"
        );
    }
}
