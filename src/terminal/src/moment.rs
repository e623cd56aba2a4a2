//! Moments as operators type and read them: in UTC, or in the local time zone with `--time local`. The clock is an argument here.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
    str::FromStr,
    sync::OnceLock,
    time::Duration,
};

use jiff::{Timestamp, ToSpan, civil, tz::TimeZone};
use record::{format_duration, parse_duration};

/// Where zone files stand.
const ZONES: &str = "/usr/share/zoneinfo";
/// The most bytes of one that are read; they have a few thousand.
const MAX_ZONE: u64 = 1 << 20;

/// What moments are typed and shown in; UTC unless it is set.
static ZONE: OnceLock<TimeZone> = OnceLock::new();

fn zone() -> TimeZone {
    ZONE.get().cloned().unwrap_or(TimeZone::UTC)
}

/// From here on moments are typed and shown in the local time zone: `TZ`, else `/etc/localtime`, as tzset(3) has it.
///
/// # Errors
/// There is no such zone.
pub fn use_local_zone() -> io::Result<()> {
    let local = match std::env::var("TZ") {
        Ok(name) => named_zone(&name)?,
        Err(_) => match read_zone(Path::new("/etc/localtime")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => TimeZone::UTC,
            found => found?,
        },
    };
    // There is one command line.
    let _ = ZONE.set(local);
    Ok(())
}

/// A zone as `TZ` names it: a file below [`ZONES`], or a rule such as `CET-1CEST,M3.5.0,M10.5.0/3`.
fn named_zone(text: &str) -> io::Result<TimeZone> {
    let name = text.strip_prefix(':').unwrap_or(text);
    if name.is_empty() {
        return Ok(TimeZone::UTC);
    }
    let is_plain = Path::new(name).components().all(|part| matches!(part, std::path::Component::Normal(_)));
    let found = is_plain.then(|| read_zone(&Path::new(ZONES).join(name))).and_then(Result::ok);
    let none =
        || io::Error::other(format!("TZ={name:?} is no time zone: name a file in {ZONES}, such as Europe/Berlin"));
    found.or_else(|| TimeZone::posix(name).ok()).ok_or_else(none)
}

fn read_zone(path: &Path) -> io::Result<TimeZone> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_ZONE).read_to_end(&mut bytes)?;
    TimeZone::tzif("", &bytes).map_err(|error| io::Error::other(format!("{}: {error}", path.display())))
}

/// When something is to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// At this moment.
    Exact(Timestamp),
    /// The next time that a clock shows this.
    Clock(civil::Time),
}

/// Since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// Since this moment.
    Exact(Timestamp),
    /// The last time that a clock showed this.
    Clock(civil::Time),
    /// Since midnight.
    Day(civil::Date),
    /// So long ago.
    Ago(Duration),
}

/// A text that is no moment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not a time: write it like {like}")]
pub struct MomentError {
    given: String,
    like: &'static str,
}

/// How much of a wrong text is repeated, in characters.
const SHOWN: usize = 64;

impl MomentError {
    fn new(given: &str, like: &'static str) -> Self {
        Self { given: given.chars().take(SHOWN).collect(), like }
    }
}

impl FromStr for At {
    type Err = MomentError;
    fn from_str(text: &str) -> Result<Self, MomentError> {
        let like =
            "2026-12-01T18:00:00Z, or 18:00 for the next such minute (in UTC, or your own zone with --time local)";
        match (text.parse(), clock(text)) {
            (Ok(exact), _) => Ok(Self::Exact(exact)),
            (_, Some(time)) => Ok(Self::Clock(time)),
            _ => Err(MomentError::new(text, like)),
        }
    }
}

impl At {
    /// The moment that is meant at `now`.
    #[must_use]
    pub fn resolve(self, now: Timestamp) -> Timestamp {
        match self {
            Self::Exact(moment) => moment,
            Self::Clock(time) => next(now, time, &zone()),
        }
    }
}

impl FromStr for Since {
    type Err = MomentError;
    fn from_str(text: &str) -> Result<Self, MomentError> {
        let like = "2026-12-01T18:00:00Z, 2026-12-01, 18:00 (in UTC, or your own zone with --time local), or 2h for two hours ago";
        if let Ok(exact) = text.parse() {
            return Ok(Self::Exact(exact));
        }
        if let Some(time) = clock(text) {
            return Ok(Self::Clock(time));
        }
        if let Ok(length) = parse_duration(text) {
            return Ok(Self::Ago(length));
        }
        let day = text.parse::<civil::Date>().ok().filter(|_| text.len() == "2026-12-01".len());
        day.map(Self::Day).ok_or_else(|| MomentError::new(text, like))
    }
}

impl Since {
    /// The moment that is meant at `now`.
    #[must_use]
    pub fn resolve(self, now: Timestamp) -> Timestamp {
        match self {
            Self::Exact(moment) => moment,
            Self::Ago(length) => now.saturating_sub(length).unwrap_or(Timestamp::MIN),
            Self::Clock(time) => last(now, time, &zone()),
            Self::Day(date) => moment(date, civil::Time::midnight(), &zone()).unwrap_or(Timestamp::MIN),
        }
    }
}

/// `HH:MM`, and nothing else.
fn clock(text: &str) -> Option<civil::Time> {
    let (hour, minute) = text.split_once(':')?;
    let two = |part: &str| (part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit())).then(|| part.parse().ok())?;
    civil::Time::new(two(hour)?, two(minute)?, 0, 0).ok()
}

/// The next time that a clock of this zone shows `time`.
fn next(now: Timestamp, time: civil::Time, zone: &TimeZone) -> Timestamp {
    let today = zone.to_datetime(now).date();
    let days = [Ok(today), today.checked_add(1.day())];
    days.into_iter().flatten().filter_map(|day| moment(day, time, zone)).find(|at| *at > now).unwrap_or(now)
}

/// The last time that it did.
fn last(now: Timestamp, time: civil::Time, zone: &TimeZone) -> Timestamp {
    let today = zone.to_datetime(now).date();
    let days = [Ok(today), today.checked_sub(1.day())];
    days.into_iter().flatten().filter_map(|day| moment(day, time, zone)).find(|at| *at <= now).unwrap_or(now)
}

/// Where a clock is set forward or back, as jiff's `compatible` has it.
fn moment(day: civil::Date, time: civil::Time, zone: &TimeZone) -> Option<Timestamp> {
    zone.to_timestamp(day.to_datetime(time)).ok()
}

/// A moment to the second, with its zone: `2026-12-01 18:00:00 UTC`.
#[must_use]
pub fn absolute(moment: Timestamp) -> String {
    absolute_in(moment, zone())
}

fn absolute_in(moment: Timestamp, zone: TimeZone) -> String {
    moment.to_zoned_datetime(zone).strftime("%Y-%m-%d %H:%M:%S %Z").to_string()
}

/// How far off a moment is: `in 1 h 59 min`, `3 d 2 h ago`, `now`.
#[must_use]
pub fn relative(moment: Timestamp, now: Timestamp) -> String {
    let distance = moment.duration_since(now);
    match (distance.unsigned_abs().as_secs(), distance.is_positive()) {
        (0, _) => "now".to_owned(),
        (seconds, true) => format!("in {}", length(seconds)),
        (seconds, false) => format!("{} ago", length(seconds)),
    }
}

/// Both: `2026-12-01 18:00:00 UTC (in 1 h 59 min)`.
#[must_use]
pub fn both(moment: Timestamp, now: Timestamp) -> String {
    format!("{} ({})", absolute(moment), relative(moment, now))
}

/// The two largest units of a length, the rest left out.
fn length(seconds: u64) -> String {
    let units = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let first = units.iter().position(|(size, _)| seconds >= *size).unwrap_or(units.len() - 1);
    let (size, unit) = units[first];
    let mut text = format!("{} {unit}", seconds / size);
    if let Some((next, unit)) = units.get(first + 1) {
        let rest = seconds % size / next;
        if rest > 0 {
            text.push_str(&format!(" {rest} {unit}"));
        }
    }
    text
}

/// A length as it would be typed: `1h30m`.
#[must_use]
pub fn typed(length: Duration) -> String {
    format_duration(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn t(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_clock_time_is_the_next_one_to_begin_and_the_last_one_to_look_back() {
        let now = t("2026-11-23T18:00:00Z");
        for (text, next, last) in [
            ("18:01", "2026-11-23T18:01:00Z", "2026-11-22T18:01:00Z"),
            ("18:00", "2026-11-24T18:00:00Z", "2026-11-23T18:00:00Z"),
            ("00:00", "2026-11-24T00:00:00Z", "2026-11-23T00:00:00Z"),
        ] {
            assert_eq!(text.parse::<At>().unwrap().resolve(now), t(next), "{text}");
            assert_eq!(text.parse::<Since>().unwrap().resolve(now), t(last), "{text}");
        }
    }

    #[test]
    fn exact_moments_dates_and_lengths_are_read() {
        let now = t("2026-11-23T18:00:00Z");
        for (text, moment) in [
            ("2026-11-01T10:00:00Z", "2026-11-01T10:00:00Z"),
            ("2026-11-01T10:00:00+02:00", "2026-11-01T08:00:00Z"),
            ("2026-11-01", "2026-11-01T00:00:00Z"),
            ("90m", "2026-11-23T16:30:00Z"),
        ] {
            assert_eq!(text.parse::<Since>().unwrap().resolve(now), t(moment), "{text}");
        }
    }

    #[test]
    fn local_times_are_read_and_shown_in_their_zone_also_where_the_clock_is_set() {
        let berlin = named_zone("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        assert_eq!(absolute_in(t("2026-07-01T18:00:00Z"), berlin.clone()), "2026-07-01 20:00:00 CEST");
        assert_eq!(absolute_in(t("2026-12-01T18:00:00Z"), berlin.clone()), "2026-12-01 19:00:00 CET");
        let clock = |text: &str| clock(text).unwrap();
        let now = t("2026-10-24T18:00:00Z");
        assert_eq!(next(now, clock("19:30"), &berlin), t("2026-10-25T18:30:00Z"), "a day of 25 hours");
        assert_eq!(last(now, clock("20:30"), &berlin), t("2026-10-23T18:30:00Z"));
        assert_eq!(moment(civil::date(2026, 7, 1), civil::Time::midnight(), &berlin), Some(t("2026-06-30T22:00:00Z")));
        assert_eq!(absolute_in(t("2026-07-01T18:00:00Z"), named_zone("").unwrap()), "2026-07-01 18:00:00 UTC");
        for odd in ["Nowhere/Here", "../../etc/passwd", "/etc/localtime"] {
            assert!(named_zone(odd).unwrap_err().to_string().contains("Europe/Berlin"), "{odd}");
        }
    }

    #[test]
    fn a_time_without_a_zone_is_refused_because_nobody_knows_whose_it_is() {
        for text in ["", "2026-11-01T10:00:00", "25:00", "1:00", "18:00:00", "tomorrow", "18:0x", "+1:00"] {
            assert!(text.parse::<At>().is_err(), "{text}");
            assert!(text.parse::<Since>().is_err(), "{text}");
        }
        assert!("2026-11-01".parse::<At>().is_err());
    }

    #[test]
    fn distances_show_their_two_largest_units() {
        let now = t("2026-11-23T18:00:00Z");
        for (moment, said) in [
            ("2026-11-23T18:00:00.4Z", "now"),
            ("2026-11-23T18:00:45Z", "in 45 s"),
            ("2026-11-23T19:59:59.9Z", "in 1 h 59 min"),
            ("2026-11-23T20:00:00Z", "in 2 h"),
            ("2026-11-20T15:59:59Z", "3 d 2 h ago"),
            ("2026-11-23T17:58:30Z", "1 min 30 s ago"),
        ] {
            assert_eq!(relative(t(moment), now), said);
        }
        assert_eq!(both(t("2026-11-23T20:00:00Z"), now), "2026-11-23 20:00:00 UTC (in 2 h)");
    }
}
