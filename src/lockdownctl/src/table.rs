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

    /// The lines, each column as wide as its widest cell, the last one ragged. On a terminal in colour, and without what there
    /// is no room for; of that it is told. What does not fit all the same has a line for each cell.
    pub(crate) fn render_in(&self, paint: Paint) -> String {
        let columns = self.rows.iter().map(|(_, row)| row.len()).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows.iter().filter_map(|(_, row)| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut shown: Vec<usize> = (0..columns).collect();
        let mut left_out = Vec::new();
        let fits = |shown: &[usize]| {
            let needed: usize = shown.iter().map(|column| widths[*column] + GAP.len()).sum();
            paint.columns().is_none_or(|room| needed <= room + GAP.len())
        };
        for spare in self.spare {
            if fits(&shown) {
                break;
            }
            shown.retain(|column| self.rows[0].1[*column] != *spare);
            left_out.push(*spare);
        }
        if !fits(&shown) && shown.len() > 1 {
            return self.blocks(paint);
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

    /// Each row by itself, a line for each cell that there is behind its column's name.
    fn blocks(&self, paint: Paint) -> String {
        let Some(((_, names), rows)) = self.rows.split_first() else { return String::new() };
        let indent = names.iter().map(|name| name.chars().count()).max().unwrap_or(0) + GAP.len();
        let mut out = String::new();
        for (tone, row) in rows {
            // One without its first cell goes on with the row before.
            if !out.is_empty() && row.first().is_some_and(|cell| !cell.is_empty()) {
                out.push('\n');
            }
            for (name, cell) in names.iter().zip(row).filter(|(_, cell)| !cell.is_empty()) {
                let name = paint.tone(Tone::Quiet, &format!("{name:indent$}"));
                out.push_str(&format!("{name}{}\n", paint.maybe(*tone, &paint.wrap(cell, indent))));
            }
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
        assert_eq!(table.render_in(Paint::NONE), "ID    WHO     WHY\ng-1   jürgen  a reason\ng-22  -\n");
    }

    #[test]
    fn a_narrow_terminal_does_without_what_can_be_spared_and_says_so() {
        let mut table = Table::new(&["ID", "WHO", "SINCE"]).spare(&["SINCE", "ID"]);
        table.row(["g-1".to_owned(), "frank".to_owned(), "18:00:00".to_owned()]);
        let all = "ID   WHO    SINCE\ng-1  frank  18:00:00\n";
        assert_eq!(table.render_in(Paint::NONE), all);
        assert_eq!(table.render_in(Paint::of_columns(20)), all, "it just fits");
        let less = "ID   WHO\ng-1  frank\n(no room for SINCE: --json has all)\n";
        assert_eq!(table.render_in(Paint::of_columns(19)), less);
        assert!(table.render_in(Paint::of_columns(1)).starts_with("WHO\nfrank\n"));
    }

    #[test]
    fn what_does_not_fit_has_a_line_for_each_cell() {
        let mut table = Table::new(&["WHO", "KEY"]);
        table.row(["frank".to_owned(), format!("ssh-ed25519 {}", "A".repeat(20))]);
        table.row([String::new(), "ssh-rsa B".to_owned()]);
        table.row(["ann".to_owned(), "no key".to_owned()]);
        let blocks =
            "WHO  frank\nKEY  ssh-ed25519\n     AAAAAAAAAAAAAAAAAAAA\nKEY  ssh-rsa B\n\nWHO  ann\nKEY  no key\n";
        assert_eq!(table.render_in(Paint::of_columns(30)), blocks);
        assert!(table.render_in(Paint::of_columns(39)).starts_with("WHO    KEY\nfrank  ssh-ed25519 AAAA"));
    }

    #[test]
    fn no_cell_can_start_a_line_or_colour_the_screen() {
        let mut table = Table::new(&["WHY"]);
        table.row(["a\nb\x1b[31m".to_owned()]);
        assert_eq!(table.render_in(Paint::NONE), "WHY\na\\x0ab\\x1b[31m\n");
    }
}
