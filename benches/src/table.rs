//! The table that is printed at the end.

use std::fmt::Write as _;
use std::time::Duration;

/// One line of it.
#[derive(Debug)]
pub struct Row {
    cells: [String; 6],
}

/// What must hold of a row.
#[derive(Debug, Clone, Copy)]
pub enum Bound {
    /// Ours is at most so many times the floor.
    Times(f64),
    /// Ours is at most so much longer than the floor.
    Adds(Duration),
    /// Ours is at most this.
    Within(Duration),
    /// It is only told.
    None,
}

const HEADINGS: [&str; 6] = ["what", "floor", "ours", "ratio", "bound", ""];

impl Row {
    /// A row of times.
    pub fn times(what: &str, floor: Duration, ours: Duration, bound: Bound) -> Self {
        let ratio = ours.as_secs_f64() / floor.as_secs_f64().max(f64::MIN_POSITIVE);
        let (text, held) = match bound {
            Bound::Times(most) => (format!("≤ {most}×"), ratio <= most),
            Bound::Adds(most) => (format!("floor + {}", show(most)), ours <= floor + most),
            Bound::Within(most) => (format!("≤ {}", show(most)), ours <= most),
            Bound::None => (String::new(), true),
        };
        // Some have no floor to stand beside.
        let (floor, ratio) = if floor.is_zero() { Default::default() } else { (show(floor), format!("{ratio:.2}")) };
        let bound = (!matches!(bound, Bound::None)).then_some((text, held));
        Self::of(what, floor, show(ours), ratio, bound)
    }

    /// A row of anything else, already in words.
    pub fn words(what: &str, floor: String, ours: String, bound: Option<(String, bool)>) -> Self {
        Self::of(what, floor, ours, String::new(), bound)
    }

    fn of(what: &str, floor: String, ours: String, ratio: String, bound: Option<(String, bool)>) -> Self {
        let (bound, verdict) =
            bound.map_or((String::new(), ""), |(text, held)| (text, if held { "held" } else { "MISSED" }));
        Self { cells: [what.to_owned(), floor, ours, ratio, bound, verdict.to_owned()] }
    }
}

/// A time with three digits and the unit that suits it.
fn show(time: Duration) -> String {
    let microseconds = time.as_secs_f64() * 1e6;
    if microseconds < 100.0 {
        format!("{microseconds:.1} µs")
    } else if microseconds < 1_000.0 {
        format!("{microseconds:.0} µs")
    } else if microseconds < 100_000.0 {
        format!("{:.2} ms", microseconds / 1e3)
    } else {
        format!("{:.0} ms", microseconds / 1e3)
    }
}

/// Bytes in MiB, with one digit behind the point.
#[must_use]
pub fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// All rows under their headings, numbers to the right.
pub fn render(rows: &[Row]) -> String {
    let headings = HEADINGS.map(str::to_owned);
    let lines: Vec<&[String; 6]> = std::iter::once(&headings).chain(rows.iter().map(|row| &row.cells)).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..HEADINGS.len()).map(width).collect();
    let mut text = String::new();
    for line in lines {
        let mut out = format!("{:<1$}", line[0], widths[0]);
        for column in 1..4 {
            let _ = write!(out, "  {:>1$}", line[column], widths[column]);
        }
        let _ = write!(out, "  {:<1$}  {2}", line[4], widths[4], line[5]);
        text.push_str(out.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_judged_as_it_is_shown() {
        let of = |floor, ours, bound| {
            let row = Row::times("x", Duration::from_micros(floor), Duration::from_micros(ours), bound);
            row.cells[5].clone()
        };
        assert_eq!(of(100, 300, Bound::Times(3.0)), "held");
        assert_eq!(of(100, 301, Bound::Times(3.0)), "MISSED");
        assert_eq!(of(100_000, 110_000, Bound::Adds(Duration::from_millis(10))), "held");
        assert_eq!(of(100_000, 110_001, Bound::Adds(Duration::from_millis(10))), "MISSED");
        assert_eq!(of(1, 10_000, Bound::Within(Duration::from_millis(10))), "held");
        assert_eq!(of(1, 10_001, Bound::Within(Duration::from_millis(10))), "MISSED");
        assert_eq!(of(1, 10_001, Bound::None), "");
    }

    #[test]
    fn columns_are_aligned_whatever_the_signs_in_them() {
        let row =
            |what, ours| Row::times(what, Duration::from_micros(5), Duration::from_micros(ours), Bound::Times(3.0));
        let table = render(&[row("short", 7), row("rather longer", 123_456)]);
        let ends: Vec<usize> = table.lines().skip(1).map(|l| l.chars().position(|c| c == '≤').unwrap()).collect();
        assert_eq!(ends[0], ends[1], "{table}");
    }
}
