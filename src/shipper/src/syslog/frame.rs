//! One record as one message of RFC 3164, in the form that local sockets take: `<PRI>Mmm dd hh:mm:ss lockdownd[PID]: LINE`.
//!
//! There is no HOST in it: on a local socket rsyslog expects none, as syslog(3) and journald write none, and would read it
//! as the tag. It puts its own host's name in. The time is in UTC; the line has it too, to the microsecond and with its zone.

use record::{ArtifactType, Record, Severity};

use crate::ledger::Entry;

/// syslog's facility `authpriv`.
const FACILITY: u8 = 10;
/// What stands before each message.
const TAG: &str = "lockdownd";
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// The message.
pub(super) fn of(entry: &Entry, pid: u32) -> String {
    let priority = FACILITY * 8 + severity(entry) as u8;
    format!("<{priority}>{} {TAG}[{pid}]: {}", time(&entry.time), entry.line)
}

/// By type; two types have to be read whole to know.
fn severity(entry: &Entry) -> Severity {
    match entry.kind.parse() {
        Ok(ArtifactType::LedgerOpened | ArtifactType::SshdChanged) | Err(_) => {
            Record::parse(entry.line.as_bytes()).map_or(Severity::Warning, |record| Severity::of_record(&record))
        }
        Ok(kind) => Severity::of(kind),
    }
}

/// `2026-05-06T12:00:01.123456Z` as `May  6 12:00:01`. The epoch's first second for what is no such time.
fn time(written: &str) -> String {
    let parts = || {
        let month: usize = written.get(5..7)?.parse().ok()?;
        let day: u8 = written.get(8..10)?.parse().ok()?;
        let clock = written.get(11..19).filter(|clock| clock.bytes().all(|b| b.is_ascii_digit() || b == b':'))?;
        Some(format!("{} {day:>2} {clock}", MONTHS.get(month.checked_sub(1)?)?))
    };
    parts().unwrap_or_else(|| "Jan  1 00:00:00".to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(kind: &str, time: &str, line: &str) -> Entry {
        let [kind, time, line] = [kind, time, line].map(str::to_owned);
        Entry { seq: 1, hash: record::Hash::ZERO, chained: true, kind, time, line, host: "h".into(), stack: "s".into() }
    }

    #[test]
    fn a_record_is_framed_as_syslog_3_frames_it() {
        let of = |kind, time| of(&entry(kind, time, "{}"), 42);
        assert_eq!(of("grant.created", "2026-05-26T12:00:02.123456Z"), "<85>May 26 12:00:02 lockdownd[42]: {}");
        assert_eq!(of("emergency.login", "2026-12-06T23:59:59.000000Z"), "<82>Dec  6 23:59:59 lockdownd[42]: {}");
        assert_eq!(of("sweep.attested", "2026-01-01T00:00:00.000000Z"), "<86>Jan  1 00:00:00 lockdownd[42]: {}");
        assert_eq!(of("a.later.type", "2026-01-01T00:00:00.000000Z"), "<84>Jan  1 00:00:00 lockdownd[42]: {}");
        assert_eq!(of("lockdown", "yesterday"), "<85>Jan  1 00:00:00 lockdownd[42]: {}");
    }

    proptest! {
        #[test]
        fn whatever_the_time_is_the_frame_has_its_one_form(time in "\\PC{0,40}|2026-[0-9]{2}-[0-9]{2}T\\PC{8}", line in "\\PC{0,40}") {
            let framed = of(&entry("lockdown", &time, &line), 7);
            let rest = framed.strip_prefix("<85>").unwrap();
            let stamp = rest.strip_suffix(&format!(" lockdownd[7]: {line}")).unwrap();
            prop_assert_eq!(stamp.len(), 15);
            prop_assert!(MONTHS.contains(&&stamp[..3]));
        }
    }
}
