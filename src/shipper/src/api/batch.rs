//! Records as one body of CloudEvents 1.0 (JSON batch). Pure.

use record::{Hash, LedgerId};

use crate::ledger::Entry;

/// The most events in one batch.
pub(super) const MAX_RECORDS: usize = 500;
/// The longest body, in bytes.
pub(super) const MAX_BYTES: usize = 1024 * 1024;

/// What is sent at once.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Batch {
    /// The JSON.
    pub(super) body: String,
    /// How many events it holds, permits included.
    pub(super) events: usize,
    /// Number and hash of each record in it, permits aside, in order.
    pub(super) records: Vec<(u64, Hash)>,
}

impl Batch {
    /// `permits` first, then as many of `entries` as both bounds and `at_most` events allow.
    pub(super) fn of<'a>(
        ledger: &LedgerId,
        permits: &[Entry],
        entries: impl Iterator<Item = &'a Entry>,
        at_most: usize,
    ) -> Self {
        let mut batch = Self { body: String::from("["), events: 0, records: Vec::new() };
        for entry in permits {
            batch.push(ledger, entry, usize::MAX);
        }
        let left = at_most.min(MAX_RECORDS).saturating_sub(permits.len());
        for entry in entries.take(left) {
            if !batch.push(ledger, entry, MAX_BYTES) {
                break;
            }
            batch.records.push((entry.seq, entry.hash));
        }
        batch.body.push(']');
        batch
    }

    /// Whether it fitted.
    fn push(&mut self, ledger: &LedgerId, entry: &Entry, most: usize) -> bool {
        let before = self.body.len();
        if self.events > 0 {
            self.body.push(',');
        }
        self.event(ledger, entry);
        let fits = self.body.len() < most;
        if fits {
            self.events += 1;
        } else {
            self.body.truncate(before);
        }
        fits
    }

    fn event(&mut self, ledger: &LedgerId, entry: &Entry) {
        let Entry { seq, host, stack, .. } = entry;
        let text = |value: &str| serde_json::to_string(value).expect("text can always be written");
        for piece in [
            r#"{"specversion":"1.0","id":"#,
            &text(&format!("{ledger}/{seq}")),
            r#","source":"#,
            &text(&format!("/stacks/{stack}/hosts/{host}")),
            r#","type":"#,
            &text(&entry.kind),
            r#","time":"#,
            &text(&entry.time),
            r#","datacontenttype":"application/json","data":"#,
            &entry.line,
            "}",
        ] {
            self.body.push_str(piece);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(seq: u64, line: String) -> Entry {
        Entry {
            seq,
            hash: Hash::of(line.as_bytes()),
            chained: true,
            kind: "lockdown".into(),
            time: "2026-05-26T12:00:02.123456Z".into(),
            host: "i-1".into(),
            stack: "web".into(),
            line,
        }
    }

    fn ledger() -> LedgerId {
        "000102030405060708090a0b0c0d0e0f".parse().unwrap()
    }

    #[test]
    fn an_event_holds_the_line_to_the_byte() {
        let batch = Batch::of(&ledger(), &[], [entry(7, r#"{"a":"\\x0a"}"#.into())].iter(), 500);
        assert_eq!(
            batch.body,
            r#"[{"specversion":"1.0","id":"000102030405060708090a0b0c0d0e0f/7","source":"/stacks/web/hosts/i-1","type":"lockdown","time":"2026-05-26T12:00:02.123456Z","datacontenttype":"application/json","data":{"a":"\\x0a"}}]"#
        );
    }

    #[test]
    fn permits_come_first_and_count_as_events_but_not_as_records() {
        let batch =
            Batch::of(&ledger(), &[entry(900, "{}".into())], [entry(7, "{}".into()), entry(8, "{}".into())].iter(), 2);
        assert_eq!((batch.events, batch.records.len(), batch.records[0].0), (2, 1, 7));
        let events: Vec<serde_json::Value> = serde_json::from_str(&batch.body).unwrap();
        assert!(events[0]["id"].as_str().unwrap().ends_with("/900"));
    }

    proptest! {
        #[test]
        fn every_batch_is_json_in_order_within_both_bounds(
            sizes in proptest::collection::vec(2usize..6100, 1..700),
            at_most in 1usize..600,
        ) {
            let entries: Vec<_> = sizes.iter().enumerate()
                .map(|(n, size)| entry(n as u64 + 1, format!("\"{}\"", "x".repeat(size - 2)))).collect();
            let batch = Batch::of(&ledger(), &[], entries.iter(), at_most);
            let events: Vec<serde_json::Value> = serde_json::from_str(&batch.body).unwrap();
            prop_assert!(batch.body.len() <= MAX_BYTES);
            prop_assert!(events.len() <= at_most.min(MAX_RECORDS) && !events.is_empty());
            prop_assert_eq!(events.len(), batch.records.len());
            prop_assert!(batch.records.iter().map(|(seq, _)| *seq).eq(1..=events.len() as u64));
            // Nothing that would have fitted is left out.
            let next = entries.get(events.len());
            let full = events.len() == at_most.min(MAX_RECORDS) || next.is_none_or(|next| batch.body.len() + next.line.len() + 220 > MAX_BYTES);
            prop_assert!(full);
        }
    }
}
