//! Words of a query: moments, names and bounds, each refused with what would do.

use jiff::{Timestamp, civil::Date, tz::Offset};

use crate::{evidence::Window, problem::Problem};

/// The rows of a page, when the query does not say.
pub(super) const PAGE: u32 = 100;
/// The most rows of a page.
pub(super) const MAX_PAGE: u32 = 1000;

/// A moment: RFC 3339, or a day for its beginning in UTC.
pub(crate) fn moment(name: &str, text: &str) -> Result<Timestamp, Problem> {
    let day = || Offset::UTC.to_timestamp(text.parse::<Date>().ok().filter(|_| text.len() == 10)?.at(0, 0, 0, 0)).ok();
    text.parse().ok().or_else(day).ok_or_else(|| {
        Problem::malformed(format!(
            "{name} is no moment; write it as 2026-11-01T00:00:00Z, or 2026-11-01 for its beginning in UTC"
        ))
    })
}

/// The window of `from` and `to`.
pub(crate) fn window(from: Option<&str>, to: Option<&str>) -> Result<Window, Problem> {
    let from = from.map(|t| moment("from", t)).transpose()?;
    let to = to.map(|t| moment("to", t)).transpose()?;
    if from.zip(to).is_some_and(|(from, to)| from >= to) {
        return Err(Problem::malformed(
            "from has to be before to: the window goes from one moment, and ends before the other",
        ));
    }
    Ok(Window { from, to })
}

/// How many rows.
pub(crate) fn limit(given: Option<u32>) -> Result<u32, Problem> {
    match given.unwrap_or(PAGE) {
        n @ 1..=MAX_PAGE => Ok(n),
        _ => Err(Problem::malformed(format!("limit has to be 1 to {MAX_PAGE}; follow `next` for more"))),
    }
}

/// A name that a record may hold, parsed as such.
pub(crate) fn name<T: std::str::FromStr>(given: Option<&str>) -> Result<Option<T>, Problem>
where
    T::Err: std::fmt::Display,
{
    given.map(|text| text.parse().map_err(|e: T::Err| Problem::malformed(e.to_string()))).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_its_beginning_and_a_moment_is_itself() {
        for (text, wanted) in [
            ("2026-11-01", Some("2026-11-01T00:00:00Z")),
            ("2026-11-01T01:00:00+01:00", Some("2026-11-01T00:00:00Z")),
            ("2026-11-01T00:00:00.5Z", Some("2026-11-01T00:00:00.5Z")),
            ("yesterday", None),
            ("2026-13-01", None),
            ("2026-11-01T00:00:00", None),
            ("", None),
        ] {
            assert_eq!(moment("from", text).ok().map(|t| t.to_string()).as_deref(), wanted, "{text}");
        }
    }

    #[test]
    fn a_window_that_holds_nothing_is_refused() {
        assert!(window(Some("2026-11-02"), Some("2026-11-01")).is_err());
        assert!(window(Some("2026-11-01"), Some("2026-11-01")).is_err());
        assert!(window(Some("2026-11-01"), Some("2026-11-02")).is_ok());
    }
}
