//! Tables of plain text, aligned by the width that characters take on a terminal.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// A table with a head: the first column to the left, the others to the right.
#[derive(Clone, Debug, Default)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these names of columns.
    pub fn new<S: Into<String>>(head: impl IntoIterator<Item = S>) -> Self {
        Table { rows: vec![head.into_iter().map(Into::into).collect()] }
    }

    /// Adds a row.
    pub fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// The lines, the head underlined.
    pub fn lines(&self) -> Vec<String> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widest = |c: usize| self.rows.iter().filter_map(|row| row.get(c)).map(|s| s.width()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(widest).collect();
        let mut lines: Vec<String> = self.rows.iter().map(|row| line(row, &widths)).collect();
        lines.insert(1.min(lines.len()), "─".repeat(widths.iter().sum::<usize>() + 2 * columns.saturating_sub(1)));
        lines
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.lines().iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

fn line(row: &[String], widths: &[usize]) -> String {
    let cells = row.iter().zip(widths).enumerate().map(|(column, (cell, width))| {
        let space = " ".repeat(width.saturating_sub(cell.width()));
        if column == 0 { format!("{cell}{space}") } else { format!("{space}{cell}") }
    });
    cells.collect::<Vec<_>>().join("  ").trim_end().to_string()
}

/// The beginning of a text that fits into `width` columns of a terminal, with `…` where it was cut; line ends and other
/// control characters become visible signs.
pub fn fit(text: &str, width: usize) -> String {
    let visible: String = text
        .chars()
        .map(|c| {
            if c == '\n' {
                '⏎'
            } else if c.is_control() {
                '·'
            } else {
                c
            }
        })
        .collect();
    if visible.width() <= width {
        return visible;
    }
    let mut used = 1;
    let kept = visible.chars().take_while(|c| {
        used += c.width().unwrap_or(0);
        used <= width
    });
    kept.chain(std::iter::once('…')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_characters_align() {
        let mut table = Table::new(["run", "bits"]);
        table.row(["海", "2.10"]);
        table.row(["lstm", "12.1"]);
        assert_eq!(table.to_string(), "run   bits\n──────────\n海    2.10\nlstm  12.1\n");
        assert_eq!(fit("海の\nx", 9), "海の⏎x");
        assert_eq!(fit("海の中に", 5), "海の…");
        assert_eq!(fit("\u{1b}[31m", 9), "·[31m");
    }
}
