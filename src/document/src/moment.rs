//! Moments in documents: whole seconds, in UTC, written with `Z`.

use std::{fmt, str::FromStr, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A moment in whole seconds, from 1970 to the end of 9999.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Moment(i64);

/// Not a moment as documents have them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a moment in whole seconds, in UTC, from 1970 to 9999: write one like 2026-11-30T18:00:00Z")]
pub struct NotAMoment(String);

impl Moment {
    /// The first one.
    pub const FIRST: Self = Self(0);
    /// The last one, 9999-12-30T22:00:00Z: what is later than that counts as it.
    pub const LAST: Self = Self(253_402_207_200);

    /// The second that this falls into.
    #[must_use]
    pub fn of(time: Timestamp) -> Self {
        Self::from_seconds(time.as_second())
    }

    fn from_seconds(seconds: i64) -> Self {
        Self(seconds.clamp(Self::FIRST.0, Self::LAST.0))
    }

    /// So much later; whole seconds count.
    #[must_use]
    pub fn after(self, time: Duration) -> Self {
        Self::from_seconds(self.0.saturating_add(seconds(time)))
    }

    /// So much earlier; whole seconds count.
    #[must_use]
    pub fn before(self, time: Duration) -> Self {
        Self::from_seconds(self.0.saturating_sub(seconds(time)))
    }

    /// The time since an earlier moment; nothing where that is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_secs(self.0.saturating_sub(earlier.0).try_into().unwrap_or(0))
    }

    /// The same as a timestamp.
    #[must_use]
    pub fn timestamp(self) -> Timestamp {
        Timestamp::from_second(self.0).unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

fn seconds(time: Duration) -> i64 {
    time.as_secs().try_into().unwrap_or(i64::MAX)
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.timestamp().fmt(f)
    }
}

impl FromStr for Moment {
    type Err = NotAMoment;
    fn from_str(text: &str) -> Result<Self, NotAMoment> {
        let refused = || NotAMoment(text.chars().take(40).collect());
        let time: Timestamp = text.parse().map_err(|_| refused())?;
        let moment = Self::of(time);
        if moment.to_string() == text { Ok(moment) } else { Err(refused()) }
    }
}

impl TryFrom<String> for Moment {
    type Error = NotAMoment;
    fn try_from(text: String) -> Result<Self, NotAMoment> {
        text.parse()
    }
}

impl From<Moment> for String {
    fn from(moment: Moment) -> Self {
        moment.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_seconds_in_utc_are_moments() {
        for bad in [
            "",
            "2026-11-30",
            "2026-11-30T18:00:00",
            "2026-11-30T18:00:00.5Z",
            "2026-11-30T18:00:00.0Z",
            "2026-11-30T18:00:00+00:00",
            "2026-11-30T19:00:00+01:00",
            "2026-11-30T18:00:00z",
            "2026-11-30 18:00:00Z",
            "2026-11-30T18:00Z",
            "2026-11-30T18:00:60Z",
            "1969-12-31T23:59:59Z",
        ] {
            assert!(bad.parse::<Moment>().is_err(), "{bad}");
        }
        assert_eq!("1970-01-01T00:00:00Z".parse(), Ok(Moment::FIRST));
        assert_eq!(Moment::LAST.to_string().parse(), Ok(Moment::LAST));
    }

    #[test]
    fn arithmetic_stops_at_the_ends() {
        assert_eq!(Moment::LAST.after(Duration::MAX), Moment::LAST);
        assert_eq!(Moment::FIRST.before(Duration::MAX), Moment::FIRST);
        assert_eq!(Moment::FIRST.since(Moment::LAST), Duration::ZERO);
        assert_eq!(Moment::FIRST.after(Duration::from_secs(60)).since(Moment::FIRST), Duration::from_secs(60));
    }
}
