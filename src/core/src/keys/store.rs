//! The lines of our own key store: written from parsed values only, so that nothing given can add a line or an option.
//!
//! It must never write a line that outlives its grant, on any sshd.

use std::net::IpAddr;

use control::Cidr;
use jiff::{SignedDuration, Timestamp, civil, tz::TimeZone};
use record::{GrantId, Person};

use super::person::PersonKey;

/// How long before and after an expiry a time zone's offsets are looked at, for [`ExpiryStyle::LocalRoundedDown`]: a
/// year holds summer and winter.
const ZONE_SPAN: SignedDuration = SignedDuration::from_hours(366 * 24);

/// The most changes of offset looked at within that span; no zone of the last fifty years had more.
const MAX_ZONE_CHANGES: usize = 16;

/// All link-local addresses, as sshd writes them with their zone. It compares such an address with a range by its zone too,
/// which a range cannot name: so the store lets in all of them, and the gate those in the range.
const LINK_LOCAL: [&str; 4] = ["fe8?:*%*", "fe9?:*%*", "fea?:*%*", "feb?:*%*"];

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
/// `expiry-time="…"[MORE][,from="…"] TYPE BASE64 PERSON/GRANT`. `more` is our own text: options, each after a comma.
///
/// sshd counts in seconds and takes a key through the whole second that is named: so named is the last one that is over
/// before `expires`. An empty `from` means from anywhere.
#[must_use]
pub fn store_line(
    key: &PersonKey,
    expires: Timestamp,
    more: &str,
    from: &[Cidr],
    person: &Person,
    grant: &GrantId,
    style: &ExpiryStyle,
) -> String {
    let mut options = format!("expiry-time=\"{}\"{more}", expiry_time(expires, style));
    if !from.is_empty() {
        let mut ranges: Vec<String> = from.iter().map(Cidr::to_string).collect();
        if from.iter().any(|range| meets_link_local(*range)) {
            ranges.extend(LINK_LOCAL.map(str::to_owned));
        }
        options.push_str(&format!(",from=\"{}\"", ranges.join(",")));
    }
    format!("{options} {} {} {person}/{grant}", key.algorithm(), key.base64())
}

/// Whether link-local addresses (fe80::/10) lie in a range.
fn meets_link_local(range: Cidr) -> bool {
    let IpAddr::V6(address) = range.address() else { return false };
    let fixed = u32::from(range.prefix()).min(10);
    (address.to_bits() ^ (0xfe80 << 112)).checked_shr(128 - fixed).unwrap_or(0) == 0
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::keys::{
        line::Line,
        test_keys::{ED25519, RSA},
    };

    const END: i64 = 1_800_000_000;

    fn line(expires: Timestamp, from: &[&str], style: &ExpiryStyle) -> String {
        let from: Vec<Cidr> = from.iter().map(|range| range.parse().expect("a range")).collect();
        let (key, person) = (PersonKey::parse(ED25519).expect("a key"), "frank".parse().expect("a person"));
        store_line(&key, expires, "", &from, &person, &"g-0123456789abcdef".parse().expect("an id"), style)
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).expect("in range")
    }

    /// What `localtime` gives all over New York's standard and summer time.
    fn new_york() -> TimeZone {
        TimeZone::posix("EST5EDT,M3.2.0,M11.1.0").expect("a POSIX time zone")
    }

    fn local(time: &str) -> String {
        let moment: Timestamp = time.parse().expect("a time");
        expiry_time(moment, &ExpiryStyle::LocalRoundedDown(new_york()))
    }

    #[test]
    fn a_line_names_the_last_second_before_the_end() {
        // 2027-01-15 08:00:00 UTC.
        let tail = format!("{ED25519} frank/g-0123456789abcdef");
        assert_eq!(line(at(END), &[], &ExpiryStyle::Utc), format!("expiry-time=\"20270115075959Z\" {tail}"));
        assert_eq!(
            line(at(END), &["10.0.0.0/8", "2001:db8::7"], &ExpiryStyle::Utc),
            format!("expiry-time=\"20270115075959Z\",from=\"10.0.0.0/8,2001:db8::7/128\" {tail}")
        );
        let half_past = Timestamp::from_millisecond(END * 1000 + 500).expect("in range");
        assert_eq!(line(half_past, &[], &ExpiryStyle::Utc), line(at(END), &[], &ExpiryStyle::Utc));
    }

    #[test]
    fn a_range_with_link_local_addresses_names_them_as_sshd_writes_them() {
        for (range, named) in
            [("fe80::/10", true), ("fe80::1", true), ("::/0", true), ("fc00::/7", false), ("10.0.0.0/8", false)]
        {
            assert_eq!(line(at(END), &[range], &ExpiryStyle::Utc).contains(",feb?:*%*\""), named, "{range}");
        }
    }

    #[test]
    fn an_older_sshd_never_reads_an_end_too_late() {
        // Winter: standard time, to the second.
        assert_eq!(local("2027-01-15T08:00:00Z"), "20270115025959");
        // Summer: sshd reckons without summer time (mktime with tm_isdst 0), so standard time is right to the second too.
        assert_eq!(local("2027-07-15T08:00:00Z"), "20270715025959");
        // The hour that New York's clocks show twice on 2027-11-07: the earlier reading of 01:30 is 05:30 UTC.
        assert_eq!(local("2027-11-07T05:30:01Z"), "20271107003000");
        assert_eq!(local("2027-11-07T06:30:01Z"), "20271107013000");
    }

    proptest! {
        #[test]
        fn no_reading_of_a_local_time_is_after_the_end(seconds in 1_700_000_000i64..2_400_000_000) {
            let written = expiry_time(at(seconds), &ExpiryStyle::LocalRoundedDown(new_york()));
            let read = civil::DateTime::strptime("%Y%m%d%H%M%S", &written).expect("14 digits");
            for hours in [-5, -4] {
                let reading = jiff::tz::offset(hours).to_timestamp(read).expect("in range").as_second();
                prop_assert!(reading < seconds && reading >= seconds - 3601, "{written}");
            }
        }

        #[test]
        fn what_is_written_reads_as_one_plain_entry(
            seconds in 1_000_000_000i64..4_000_000_000,
            person in "[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}",
            ranges in prop::collection::vec(any::<std::net::IpAddr>(), 0..4),
            rsa in any::<bool>(),
        ) {
            let text = if rsa { RSA } else { ED25519 };
            let key = PersonKey::parse(text).expect("a key");
            let from: Vec<Cidr> = ranges.iter().filter_map(|address| address.to_string().parse().ok()).collect();
            let grant = "g-0123456789abcdef".parse().expect("an id");
            let written = store_line(&key, at(seconds), ",no-agent-forwarding", &from, &person.parse().expect("a person"), &grant, &ExpiryStyle::Utc);
            prop_assert!(!written.contains('\n'));
            let Line::Entry(entry) = Line::parse(written.as_bytes()) else { panic!("{written}") };
            prop_assert_eq!(entry.key.fingerprint(), key.fingerprint());
            prop_assert!(!entry.options.cert_authority && !entry.options.principals);
            prop_assert_eq!(String::from_utf8_lossy(entry.comment), format!("{person}/g-0123456789abcdef"));
        }
    }
}
