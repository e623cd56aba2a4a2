//! The lines of our own key store: written from parsed values only, so that nothing given can add a line or an option.
//!
//! It must never write a line that outlives its grant, on any sshd.

use jiff::{SignedDuration, Timestamp, civil, tz::TimeZone};
use record::{GrantId, Person};

use control::Cidr;

use super::person::PersonKey;

/// How long before and after an expiry a time zone's offsets are looked at, for [`ExpiryStyle::LocalRoundedDown`]: a
/// year holds summer and winter.
const ZONE_SPAN: SignedDuration = SignedDuration::from_hours(366 * 24);

/// The most changes of offset looked at within that span; no zone of the last fifty years had more.
const MAX_ZONE_CHANGES: usize = 16;

/// How this host's sshd reads an `expiry-time`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExpiryStyle {
    /// With a `Z` after it: OpenSSH 9.1 and later.
    Utc,
    /// As local time, in the time zone that sshd runs in: OpenSSH before 9.1, where a `Z` makes it refuse the line. An
    /// hour that the clock shows twice, and summer time, which sshd leaves out of its reckoning, are read so that the key
    /// ends up to an hour or two early and never late.
    LocalRoundedDown(TimeZone),
}

/// The line that lets a person in by one key until a grant ends, without line end:
/// `expiry-time="…"[,from="…"] TYPE BASE64 PERSON/GRANT`.
///
/// sshd counts in seconds and takes a key through the whole second that is named: so named is the last one that is over
/// before `expires`. An empty `from` means from anywhere.
#[must_use]
pub fn store_line(
    key: &PersonKey,
    expires: Timestamp,
    from: &[Cidr],
    person: &Person,
    grant: &GrantId,
    style: &ExpiryStyle,
) -> String {
    let mut options = format!("expiry-time=\"{}\"", expiry_time(expires, style));
    if !from.is_empty() {
        let ranges: Vec<String> = from.iter().map(Cidr::to_string).collect();
        options.push_str(&format!(",from=\"{}\"", ranges.join(",")));
    }
    format!("{options} {} {} {person}/{grant}", key.algorithm(), key.base64())
}

fn expiry_time(expires: Timestamp, style: &ExpiryStyle) -> String {
    let whole = Timestamp::from_second(expires.as_second()).unwrap_or(expires);
    let last = whole.checked_sub(SignedDuration::from_secs(1)).unwrap_or(Timestamp::UNIX_EPOCH);
    match style {
        ExpiryStyle::Utc => format!("{}Z", digits(TimeZone::UTC.to_datetime(last))),
        ExpiryStyle::LocalRoundedDown(zone) => digits(earliest_reading(zone, last)),
    }
}

/// The local time that means `moment` or earlier under every offset that the zone has around then: the lowest offset's.
fn earliest_reading(zone: &TimeZone, moment: Timestamp) -> civil::DateTime {
    let start = moment.checked_sub(ZONE_SPAN).unwrap_or(Timestamp::MIN);
    let end = moment.checked_add(ZONE_SPAN).unwrap_or(Timestamp::MAX);
    let changes = zone.following(start).take(MAX_ZONE_CHANGES).take_while(|change| change.timestamp() <= end);
    let lowest = changes
        .map(|change| change.offset())
        .chain([zone.to_offset(start), zone.to_offset(moment)])
        .min()
        .expect("two offsets are always there");
    lowest.to_datetime(moment)
}

fn digits(time: civil::DateTime) -> String {
    time.strftime("%Y%m%d%H%M%S").to_string()
}
