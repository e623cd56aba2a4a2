//! Six-field cron patterns in UTC, read by the very parser that the scheduler uses. This never reads a clock.

use std::str::FromStr;

use chrono::{DateTime, Utc};
use croner::parser::{CronParser, Seconds};
use jiff::Timestamp;

/// The longest pattern that is looked at, in bytes.
pub const MAX_CRON_TEXT: usize = 128;

/// Any moment: a pattern that never comes after it never comes at all.
const SOME_MOMENT: i64 = 1_767_225_600; // 2026-01-01T00:00:00Z

/// When something recurs: `second minute hour day month weekday`, UTC, as crontab(5) with seconds in front.
/// Day and weekday must both match, as tokio-cron-scheduler has it.
#[derive(Debug, Clone)]
pub struct Cron {
    text: String,
    pattern: Box<croner::Cron>,
}

/// A text that is no cron pattern, or one that never comes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not a six-field cron pattern: {why}")]
pub struct CronError {
    /// What was given, cut to 64 characters.
    pub given: String,
    /// Why it is not one.
    pub why: String,
}

impl Cron {
    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The first moment after `moment` that the pattern matches; `None` when there is none that can be told.
    #[must_use]
    pub fn next_after(&self, moment: Timestamp) -> Option<Timestamp> {
        let from: DateTime<Utc> = DateTime::from_timestamp(moment.as_second(), 0)?;
        let next = self.pattern.find_next_occurrence(&from, false).ok()?;
        Timestamp::from_second(next.timestamp()).ok()
    }

    /// The last moment up to `moment` that the pattern matches; `None` when there is none that can be told.
    #[must_use]
    pub fn last_by(&self, moment: Timestamp) -> Option<Timestamp> {
        let from: DateTime<Utc> = DateTime::from_timestamp(moment.as_second(), 0)?;
        let last = self.pattern.find_previous_occurrence(&from, true).ok()?;
        Timestamp::from_second(last.timestamp()).ok()
    }
}

impl PartialEq for Cron {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}
impl Eq for Cron {}

impl FromStr for Cron {
    type Err = CronError;

    fn from_str(text: &str) -> Result<Self, CronError> {
        let refuse = |why: String| CronError { given: text.chars().take(64).collect(), why };
        if text.len() > MAX_CRON_TEXT {
            return Err(refuse(format!("it is longer than {MAX_CRON_TEXT} bytes")));
        }
        let fields = text.split_whitespace().count();
        if fields != 6 {
            return Err(refuse(format!(
                "it has {fields} field{}, not second minute hour day month weekday",
                if fields == 1 { "" } else { "s" }
            )));
        }
        // The same settings as tokio-cron-scheduler's, or the two would tell different times.
        let pattern = CronParser::builder()
            .seconds(Seconds::Required)
            .dom_and_dow(true)
            .build()
            .parse(text)
            .map_err(|error| refuse(error.to_string().trim_end_matches('.').to_owned()))?;
        let cron = Self { text: text.split_whitespace().collect::<Vec<_>>().join(" "), pattern: Box::new(pattern) };
        let some_moment = Timestamp::from_second(SOME_MOMENT).expect("2026 is in range");
        if cron.next_after(some_moment).is_none() {
            return Err(refuse("no such day ever comes".to_owned()));
        }
        Ok(cron)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn next(cron: &str, after: &str) -> String {
        let cron: Cron = cron.parse().expect("valid");
        cron.next_after(after.parse().expect("a time")).expect("it comes").to_string()
    }

    #[test]
    fn the_next_time_is_strictly_after_the_moment() {
        assert_eq!(next("0 */15 * * * *", "2026-10-01T12:00:00Z"), "2026-10-01T12:15:00Z");
        assert_eq!(next("0 */15 * * * *", "2026-10-01T12:14:59.5Z"), "2026-10-01T12:15:00Z");
        assert_eq!(next("0 0 * * * *", "2026-12-31T23:00:00Z"), "2027-01-01T00:00:00Z");
        assert_eq!(next("* * * * * *", "2026-10-01T12:00:00.999Z"), "2026-10-01T12:00:01Z");
        assert_eq!(next("0 0 3 29 2 *", "2026-01-01T00:00:00Z"), "2028-02-29T03:00:00Z");
    }

    #[test]
    fn the_last_time_is_at_the_moment_or_before_it() {
        let last = |cron: &str, by: &str| {
            let cron: Cron = cron.parse().expect("valid");
            cron.last_by(by.parse().expect("a time")).expect("it came").to_string()
        };
        assert_eq!(last("0 */15 * * * *", "2026-10-01T12:15:00.9Z"), "2026-10-01T12:15:00Z");
        assert_eq!(last("0 */15 * * * *", "2026-10-01T12:14:59.9Z"), "2026-10-01T12:00:00Z");
        assert_eq!(last("0 0 3 29 2 *", "2027-01-01T00:00:00Z"), "2024-02-29T03:00:00Z");
    }

    #[test]
    fn day_and_weekday_must_both_match_as_the_scheduler_has_it() {
        // The first Friday the 13th of 2026 after January.
        assert_eq!(next("0 0 0 13 * FRI", "2026-01-01T00:00:00Z"), "2026-02-13T00:00:00Z");
    }

    #[test]
    fn what_is_no_pattern_is_refused_with_the_reason() {
        for (text, why) in [
            ("", "0 fields"),
            ("*/15 * * * *", "5 fields"),
            ("0 0 0 * * * 2026", "7 fields"),
            ("61 * * * * *", "out of bounds"),
            ("0 0 0 30 2 *", "no such day"),
            ("@hourly", "1 field,"),
            ("a b c d e f", "not a six-field"),
        ] {
            let error = text.parse::<Cron>().expect_err(text).to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
        assert!("0 ".repeat(100).parse::<Cron>().is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[-0-9*/,LW#A-Z? ]{0,40}") {
            let _ = text.parse::<Cron>();
        }
    }
}
