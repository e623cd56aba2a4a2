//! Aligned columns for people.

use crate::{
    output::plain,
    paint::{Paint, Tone},
};

/// A table under its header. Cells are made safe for a terminal as they come in.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<(Option<Tone>, Vec<String>)>,
    spare: &'static [&'static str],
}

/// What stands between columns.
const GAP: &str = "  ";

impl Table {
    pub(crate) fn new(header: &[&str]) -> Self {
        Self { rows: vec![(Some(Tone::Strong), header.iter().map(|cell| (*cell).to_owned()).collect())], spare: &[] }
    }

    /// The columns that a narrow terminal can do without, the first of them first.
    pub(crate) fn spare(mut self, columns: &'static [&'static str]) -> Self {
        self.spare = columns;
        self
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.row_in(None, cells);
    }

    /// A row that stands out.
    pub(crate) fn row_in<const N: usize>(&mut self, tone: Option<Tone>, cells: [String; N]) {
        self.rows.push((tone, cells.iter().map(|cell| plain(cell)).collect()));
    }

    /// The lines, each column as wide as its widest cell, the last one ragged.
    pub(crate) fn render(&self) -> String {
        self.render_in(Paint::NONE)
    }

    /// The same, in colour, and without what there is no room for; of that it is told.
    pub(crate) fn render_in(&self, paint: Paint) -> String {
        let columns = self.rows.iter().map(|(_, row)| row.len()).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows.iter().filter_map(|(_, row)| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut shown: Vec<usize> = (0..columns).collect();
        let mut left_out = Vec::new();
        for spare in self.spare {
            let needed: usize = shown.iter().map(|column| widths[*column] + GAP.len()).sum();
            if paint.columns().is_none_or(|room| needed <= room + GAP.len()) {
                break;
            }
            shown.retain(|column| self.rows[0].1[*column] != *spare);
            left_out.push(*spare);
        }
        let mut out = String::new();
        for (tone, row) in &self.rows {
            let cells = shown.iter().filter_map(|column| Some((row.get(*column)?, widths[*column])));
            let cells: Vec<String> = cells.map(|(cell, width)| format!("{cell:width$}")).collect();
            out.push_str(&paint.maybe(*tone, cells.join(GAP).trim_end()));
            out.push('\n');
        }
        if !left_out.is_empty() {
            let hint = format!("(no room for {}: --json has all)", left_out.join(", "));
            out.push_str(&format!("{}\n", paint.tone(Tone::Quiet, &hint)));
        }
        out
    }
}

/// What stands for something that is not there.
pub(crate) fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&["ID", "WHO", "WHY"]);
        table.row(["g-1".to_owned(), "jürgen".to_owned(), "a reason".to_owned()]);
        table.row(["g-22".to_owned(), or_dash(None::<u8>), String::new()]);
        assert_eq!(table.render(), "ID    WHO     WHY\ng-1   jürgen  a reason\ng-22  -\n");
    }

    #[test]
    fn a_narrow_terminal_does_without_what_can_be_spared_and_says_so() {
        let mut table = Table::new(&["ID", "WHO", "SINCE"]).spare(&["SINCE", "ID"]);
        table.row(["g-1".to_owned(), "frank".to_owned(), "18:00:00".to_owned()]);
        let all = "ID   WHO    SINCE\ng-1  frank  18:00:00\n";
        assert_eq!(table.render(), all);
        assert_eq!(table.render_in(Paint::of_columns(20)), all, "it just fits");
        let less = "ID   WHO\ng-1  frank\n(no room for SINCE: --json has all)\n";
        assert_eq!(table.render_in(Paint::of_columns(19)), less);
        assert!(table.render_in(Paint::of_columns(1)).starts_with("WHO\nfrank\n"));
    }

    #[test]
    fn no_cell_can_start_a_line_or_colour_the_screen() {
        let mut table = Table::new(&["WHY"]);
        table.row(["a\nb\x1b[31m".to_owned()]);
        assert_eq!(table.render(), "WHY\na\\x0ab\\x1b[31m\n");
    }
}
