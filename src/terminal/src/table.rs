//! Aligned columns for people.

use unicode_width::UnicodeWidthChar;

use crate::{
    paint::{Paint, Tone, width},
    plain,
};

/// A table under its header. Cells are made safe for a terminal as they come in.
#[derive(Debug)]
pub struct Table {
    rows: Vec<(Option<Tone>, Vec<String>)>,
    spare: &'static [&'static str],
    cut: &'static [&'static str],
}

/// What stands between columns.
const GAP: &str = "  ";
/// What a cell of a column that may be cut keeps at least, in characters.
const LEAST_CELL: usize = 8;

impl Table {
    /// A table of these columns.
    #[must_use]
    pub fn new(header: &[&str]) -> Self {
        let header = header.iter().map(|cell| (*cell).to_owned()).collect();
        Self { rows: vec![(Some(Tone::Strong), header)], spare: &[], cut: &[] }
    }

    /// The columns that a narrow terminal can do without, the first of them first.
    #[must_use]
    pub fn spare(mut self, columns: &'static [&'static str]) -> Self {
        self.spare = columns;
        self
    }

    /// The columns whose cells may be cut on a narrow terminal, which each of them then shows.
    #[must_use]
    pub fn cut(mut self, columns: &'static [&'static str]) -> Self {
        self.cut = columns;
        self
    }

    /// A row.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.row_in(None, cells);
    }

    /// A row that stands out.
    pub fn row_in<const N: usize>(&mut self, tone: Option<Tone>, cells: [String; N]) {
        self.rows.push((tone, cells.iter().map(|cell| plain(cell)).collect()));
    }

    /// The lines, each column as wide as its widest cell, the last one ragged. On a terminal in colour, without what there is no
    /// room for, and then with what may be cut cut; of both it is told. What does not fit all the same has a line for each cell.
    /// What is not for a terminal is whole.
    #[must_use]
    pub fn render_in(&self, paint: Paint) -> String {
        let names = &self.rows[0].1;
        let widest =
            |column: usize| self.rows.iter().filter_map(|(_, row)| row.get(column)).map(|cell| width(cell)).max();
        let mut widths: Vec<usize> = (0..names.len()).map(|column| widest(column).unwrap_or(0)).collect();
        let mut shown: Vec<usize> = (0..names.len()).collect();
        let excess = |shown: &[usize], widths: &[usize]| {
            let needed = shown.iter().map(|column| widths[*column] + GAP.len()).sum::<usize>() - GAP.len();
            paint.columns().map_or(0, |room| needed.saturating_sub(room))
        };
        let mut left_out = Vec::new();
        for spare in self.spare {
            if excess(&shown, &widths) == 0 {
                break;
            }
            shown.retain(|column| names[*column] != *spare);
            left_out.push(*spare);
        }
        let too_much = excess(&shown, &widths);
        let mut is_cut = false;
        if too_much > 0 {
            is_cut = self.narrow(&shown, &mut widths, too_much);
            if !is_cut {
                return self.blocks(paint);
            }
        }
        let mut out = String::new();
        for (tone, row) in &self.rows {
            let cells: Vec<String> = shown.iter().map(|column| fitted(&row[*column], widths[*column])).collect();
            out.push_str(&paint.maybe(*tone, cells.join(GAP).trim_end()));
            out.push('\n');
        }
        out + &told(&left_out, is_cut, paint)
    }

    /// Takes so much off the columns that may be cut, always off the widest; whether it can.
    fn narrow(&self, shown: &[usize], widths: &mut [usize], mut too_much: usize) -> bool {
        let names = &self.rows[0].1;
        let may_be_cut = |column: &&usize| self.cut.contains(&names[**column].as_str());
        while too_much > 0 {
            let widest = shown.iter().filter(may_be_cut).max_by_key(|column| widths[**column]);
            let Some(widest) = widest.filter(|column| widths[**column] > LEAST_CELL) else { return false };
            widths[*widest] -= 1;
            too_much -= 1;
        }
        true
    }

    /// Each row by itself, a line for each cell that there is behind its column's name.
    fn blocks(&self, paint: Paint) -> String {
        let Some(((_, names), rows)) = self.rows.split_first() else { return String::new() };
        let indent = names.iter().map(|name| width(name)).max().unwrap_or(0) + GAP.len();
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

/// What is not there as it is, and where it is.
fn told(left_out: &[&str], is_cut: bool, paint: Paint) -> String {
    let left_out = Some(format!("no room for {}", left_out.join(", "))).filter(|_| !left_out.is_empty());
    let cut = is_cut.then(|| format!("cut where {CUT} stands"));
    let parts: Vec<String> = left_out.into_iter().chain(cut).collect();
    if parts.is_empty() {
        return String::new();
    }
    let hint = format!("({}: --json has all)", parts.join("; "));
    format!("{}\n", paint.tone(Tone::Quiet, &paint.wrap(&hint, 0)))
}

/// What stands for what was cut off.
const CUT: char = '…';

/// A cell in exactly this width.
fn fitted(cell: &str, columns: usize) -> String {
    let text = cut(cell, columns);
    let missing = columns.saturating_sub(width(&text));
    text + &" ".repeat(missing)
}

/// A text that takes no more columns than these, cut where it has to be. Of a path its end is kept, which tells more; of anything
/// else the beginning.
#[must_use]
pub fn cut(cell: &str, columns: usize) -> String {
    let room = columns.saturating_sub(1);
    match width(cell) <= columns {
        true => cell.to_owned(),
        false if cell.starts_with('/') => {
            let end: String = kept(cell.chars().rev(), room).chars().rev().collect();
            format!("{CUT}{end}")
        }
        false => format!("{}{CUT}", kept(cell.chars(), room).trim_end()),
    }
}

/// As many of these as fit.
fn kept(chars: impl Iterator<Item = char>, room: usize) -> String {
    let mut taken = 0;
    chars
        .take_while(|c| {
            taken += c.width().unwrap_or(0);
            taken <= room
        })
        .collect()
}

/// What stands for something that is not there.
#[must_use]
pub fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A table as commands have them: some columns may be spared, some cut.
    fn table(rows: &[Vec<String>]) -> Table {
        let mut table = Table::new(&["ID", "WHO", "WHY", "WHERE", "KEY"]).spare(&["WHERE"]).cut(&["WHO", "WHY"]);
        for row in rows {
            let cells: [String; 5] = row.clone().try_into().unwrap();
            table.row(cells);
        }
        table
    }

    proptest! {
        #[test]
        fn no_line_is_longer_than_the_terminal_and_what_is_piped_is_whole(
            rows in prop::collection::vec(prop::collection::vec(".{0,90}|/[a-z/]{0,200}|[a-z漢é -]{0,90}", 5), 0..6),
            columns in 40_usize..200,
        ) {
            let table = table(&rows);
            for line in table.render_in(Paint::of_columns(columns)).lines() {
                prop_assert!(width(line) <= columns, "{} of {columns}: {line}", width(line));
            }
            let piped = table.render_in(Paint::NONE);
            for cell in rows.iter().flatten() {
                prop_assert!(piped.contains(plain(cell).trim_end()), "{cell:?} is not in {piped}");
            }
        }
    }

    #[test]
    fn what_is_cut_is_seen_and_the_end_of_a_path_stays() {
        let mut table = Table::new(&["ID", "PATH", "WHY"]).cut(&["PATH", "WHY"]);
        table.row(["q-1".to_owned(), "/home/ubuntu/.ssh/authorized_keys".to_owned(), "no grant backs it".to_owned()]);
        let shown = table.render_in(Paint::of_columns(36));
        assert_eq!(
            shown,
            "ID   PATH             WHY\nq-1  …uthorized_keys  no grant back…\n(cut where … stands: --json has all)\n"
        );
        assert!(
            table.render_in(Paint::of_columns(20)).starts_with("ID    q-1\nPATH  /home/ubuntu"),
            "no room even for that"
        );
    }

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
        let less = "ID   WHO\ng-1  frank\n(no room for SINCE:\n--json has all)\n";
        assert_eq!(table.render_in(Paint::of_columns(19)), less);
        assert!(table.render_in(Paint::of_columns(1)).starts_with("ID     g-1\nWHO    frank\n"));
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
