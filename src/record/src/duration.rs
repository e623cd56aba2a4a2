//! Lengths of time as people write them: `90m`, `1h30m`, `400d`. One reader for the config file and the command line.
//!
//! This never guesses a unit: a bare number is refused, as is anything that a reader could take for two things.

use std::time::Duration;

/// The longest length that is read at all: a hundred years. Callers have tighter bounds of their own.
pub const MAX_DURATION: Duration = Duration::from_secs(100 * 365 * DAY);

/// The longest text that is looked at, in bytes.
const MAX_TEXT: usize = 32;

const DAY: u64 = 86_400;

/// Units from long to short, each with its seconds: the order in which they must stand.
const UNITS: &[(char, u64)] = &[('w', 7 * DAY), ('d', DAY), ('h', 3_600), ('m', 60), ('s', 1)];

/// A text that is no length of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not a duration: {why}; write it like 90m, 1h30m or 400d (units w d h m s)")]
pub struct DurationError {
    /// What was given, cut to 32 characters.
    pub given: String,
    /// What is wrong with it.
    pub why: &'static str,
}

/// Reads a length of time: whole numbers, each with its unit (`w d h m s`), the longer unit first, each unit once, nothing between.
///
/// `0s` is a length; whether it makes sense is for the caller to say.
///
/// # Errors
/// Anything else, and anything longer than [`MAX_DURATION`].
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    read(text).map_err(|why| DurationError { given: text.chars().take(MAX_TEXT).collect(), why })
}

fn read(text: &str) -> Result<Duration, &'static str> {
    if text.is_empty() {
        return Err("it is empty");
    }
    if text.len() > MAX_TEXT {
        return Err("it is too long to be one");
    }
    let (mut rest, mut units, mut seconds) = (text, UNITS, 0_u64);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 {
            return Err("a number is missing before a unit");
        }
        let number: u64 = rest[..digits].parse().map_err(|_| "its number is too large")?;
        rest = &rest[digits..];
        let unit = rest.chars().next().ok_or("a number has no unit")?;
        if !UNITS.iter().any(|(name, _)| *name == unit) {
            return Err("it has an unknown unit");
        }
        let place = units.iter().position(|(name, _)| *name == unit).ok_or("its units do not go from long to short")?;
        seconds = number
            .checked_mul(units[place].1)
            .and_then(|more| seconds.checked_add(more))
            .ok_or("it is longer than a hundred years")?;
        rest = &rest[unit.len_utf8()..];
        units = &units[place + 1..];
    }
    let length = Duration::from_secs(seconds);
    if length > MAX_DURATION { Err("it is longer than a hundred years") } else { Ok(length) }
}

/// Writes a length of time so that [`parse_duration`] reads the same whole seconds again: `1h30m`, `400d`, `0s`.
/// Weeks are written as days; parts of a second are left out.
#[must_use]
pub fn format_duration(length: Duration) -> String {
    let mut seconds = length.as_secs();
    let mut text = String::new();
    for (unit, size) in &UNITS[1..] {
        if seconds >= *size {
            text.push_str(&format!("{}{unit}", seconds / size));
            seconds %= size;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_with_units_from_long_to_short_are_added_up() {
        for (text, seconds) in [("90m", 5_400), ("1h30m", 5_400), ("400d", 400 * DAY), ("2w1d", 15 * DAY), ("0s", 0)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
    }

    #[test]
    fn whatever_could_mean_two_things_is_refused_with_an_example() {
        let odd = [
            "",
            "5",
            "h",
            "1x",
            "1 h",
            "-1h",
            "1h1h",
            "1m1h",
            "1.5h",
            "1h30",
            "99999999999999999999s",
            "1ms",
            "+1h",
            "१h",
            "37000d",
            "18446744073709551615w",
            "1H",
            "forever",
            "000000000000000000000000000000001s",
        ];
        for text in odd {
            let error = parse_duration(text).expect_err(text).to_string();
            assert!(error.contains("90m, 1h30m or 400d"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(seconds in 0..=MAX_DURATION.as_secs()) {
            let length = Duration::from_secs(seconds);
            prop_assert_eq!(parse_duration(&format_duration(length)), Ok(length));
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,40}") {
            let _ = parse_duration(&text);
        }
    }
}
