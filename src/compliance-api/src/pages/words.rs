//! What stands on many pages: moments, links, marks. Pure. Text is escaped by the template, and parts of a path here.

use std::fmt::Write as _;

use jiff::{Timestamp, tz::Offset};
use maud::{Markup, html};

use crate::read::Standing;

/// One part of a path, or a value of a query, in which nothing means anything to a browser.
pub(super) fn path_of(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // A String takes all.
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

/// A moment, in UTC; a few lines of script put the reader's own time beside it.
pub(super) fn when(at: Timestamp) -> Markup {
    let utc = Offset::UTC.to_datetime(at);
    html! { time datetime=(format!("{at:.0}")) { (utc.strftime("%Y-%m-%d %H:%M:%S")) } }
}

/// A moment where there may be none.
pub(super) fn when_any(at: Option<Timestamp>) -> Markup {
    html! { @if let Some(at) = at { (when(at)) } @else { span.none { "—" } } }
}

/// The day of a moment, as a query takes it.
pub(super) fn day(at: Timestamp) -> String {
    Offset::UTC.to_datetime(at).strftime("%Y-%m-%d").to_string()
}

/// How long, in one or two words.
pub(super) fn span(seconds: i64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{} s", seconds.max(0)),
        (0, 0, m) => format!("{m} min"),
        (0, h, 0) => format!("{h} h"),
        (0, h, m) => format!("{h} h {m} min"),
        (d, 0, _) => format!("{d} d"),
        (d, h, _) => format!("{d} d {h} h"),
    }
}

/// How urgent something is: told by a shape and a word, and by colour besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Good,
    Warn,
    Bad,
    Idle,
}

/// A word with its shape.
pub(super) fn mark(tone: Tone, word: &str) -> Markup {
    let (class, shape) = match tone {
        Tone::Good => ("mark good", "●"),
        Tone::Warn => ("mark warn", "▲"),
        Tone::Bad => ("mark bad", "✕"),
        Tone::Idle => ("mark idle", "○"),
    };
    html! { span.state { span class=(class) aria-hidden="true" { (shape) } " " (word) } }
}

/// How a host stands.
pub(super) fn stands(standing: Standing) -> Markup {
    match standing {
        Standing::Live => mark(Tone::Good, "live"),
        Standing::Silent => mark(Tone::Bad, "silent"),
        Standing::Stopped => mark(Tone::Idle, "stopped"),
        Standing::TailUnknown => mark(Tone::Warn, "end unknown"),
        Standing::Pending => mark(Tone::Warn, "not approved"),
    }
}

/// A link to a page about something named.
pub(super) fn link(place: &str, name: &str) -> Markup {
    html! { a href=(format!("/{place}/{}", path_of(name))) { bdi { (name) } } }
}

/// A link where there may be no name.
pub(super) fn link_any(place: &str, name: Option<&str>) -> Markup {
    html! { @if let Some(name) = name { (link(place, name)) } @else { span.none { "nobody known" } } }
}

/// A link to a grant on a host.
pub(super) fn grant_link(host: &str, grant: &str) -> Markup {
    html! { a.id href=(grant_path(host, grant)) { bdi { (grant) } } }
}

/// Where a grant's page is.
pub(super) fn grant_path(host: &str, grant: &str) -> String {
    format!("/grants/{}?host={}", path_of(grant), path_of(host))
}

/// A link to one record.
pub(super) fn record_link(ledger: &str, seq: i64) -> Markup {
    html! { a.id href=(format!("/records/{}/{seq}", path_of(ledger))) title="the signed record" { "record " (seq) } }
}

/// What stands in the place of an empty list.
pub(super) fn nothing(says: &str) -> Markup {
    html! { p.empty { (says) } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_something_to_a_browser_is_escaped_in_paths_and_text() {
        assert_eq!(path_of("a/../b?c#d\"<é"), "a%2F..%2Fb%3Fc%23d%22%3C%C3%A9");
        let link = link("people", "\"><script>").into_string();
        assert!(!link.contains("<script"), "{link}");
    }

    #[test]
    fn how_long_is_told_in_two_words_at_most() {
        for (seconds, wanted) in
            [(-5, "0 s"), (59, "59 s"), (60, "1 min"), (7200, "2 h"), (5400, "1 h 30 min"), (90_000, "1 d 1 h")]
        {
            assert_eq!(span(seconds), wanted);
        }
    }
}
