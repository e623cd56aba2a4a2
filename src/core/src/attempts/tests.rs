//! Every connection that never got in counts once, whatever comes in whatever order, and however much of it.

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::sshd_log;

const BOOT: &str = "e060f5bf-aa3e-488e-9ef0-3544e681d771";

/// A gate that refused one process.
struct Refused(Option<i32>);

impl Gate for Refused {
    fn refused(&self, pid: i32, _: Timestamp) -> bool {
        self.0 == Some(pid)
    }
}

fn at(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(1_795_458_591_000 + milliseconds).expect("a moment")
}

struct Desk {
    book: Book,
    names: Names,
    gate: Refused,
    said: Vec<Statement>,
}

impl Desk {
    fn new() -> Self {
        Self { book: Book::default(), names: Names::of(&["frank"]), gate: Refused(None), said: Vec::new() }
    }

    fn hears(&mut self, pid: i32, time: i64, message: &str) {
        self.hears_in(BOOT, pid, time, message);
    }

    fn hears_in(&mut self, boot: &str, pid: i32, time: i64, message: &str) {
        let line = sshd_log::parse(message).unwrap_or_else(|| panic!("a line: {message}"));
        let place = Place { time: at(time), boot, pid };
        self.book.take(line, place, &self.names, &self.gate);
        self.said.append(&mut self.book.out);
    }

    /// Everything is over: all that is to be said has been.
    fn closes(&mut self, time: i64) -> Vec<Value> {
        self.book.tick(at(time), &self.names, |_| true);
        self.book.tick(at(time + 60_000), &self.names, |_| true);
        self.said.append(&mut self.book.out);
        assert!(!self.book.is_waiting(), "{:?}", self.book);
        self.said.iter().map(|statement| Value::Object(statement.draft(1).detail)).collect()
    }
}

fn count(details: &[Value]) -> u64 {
    details.iter().map(|detail| detail["count"].as_u64().unwrap_or(1)).sum()
}

#[test]
fn one_connection_is_one_failure_whatever_number_of_lines_it_leaves() {
    let from = "from 192.0.2.1 port 4000";
    let cases: [(&[String], &str, u64); 6] = [
        (&[format!("Invalid user bob {from}"), format!("Failed password for invalid user bob {from} ssh2"), "Connection closed by invalid user bob 192.0.2.1 port 4000 [preauth]".into()], "unknown_user", 1),
        (&[format!("Failed password for frank {from} ssh2"), format!("Failed password for frank {from} ssh2"), "Connection closed by authenticating user frank 192.0.2.1 port 4000 [preauth]".into()], "wrong_password", 2),
        (&["Connection closed by authenticating user frank 192.0.2.1 port 4000 [preauth]".into()], "wrong_key", 0),
        (&["error: Refused by key options".into(), "Connection closed by authenticating user frank 192.0.2.1 port 4000 [preauth]".into()], "key_options", 0),
        (&[format!("error: maximum authentication attempts exceeded for frank {from} ssh2 [preauth]"), "Disconnecting authenticating user frank 192.0.2.1 port 4000: Too many authentication failures [preauth]".into()], "too_many_attempts", 0),
        (&["User frank from 192.0.2.1 not allowed because listed in DenyUsers".into(), "Connection reset by invalid user frank 192.0.2.1 port 4000 [preauth]".into()], "not_allowed", 0),
    ];
    for (lines, why, tries) in cases {
        let mut desk = Desk::new();
        for (n, line) in (0..).zip(lines) {
            desk.hears(7, n, line);
        }
        let said = desk.closes(10_000);
        assert_eq!(said.len(), 1, "{lines:?}: {said:?}");
        assert_eq!((said[0]["why"].as_str(), said[0]["tries"].as_u64()), (Some(why), Some(tries)), "{lines:?}");
        let [Statement::Failed(failure)] = &desk.said[..] else { panic!("{:?}", desk.said) };
        let draft = failure.draft(1);
        assert_eq!(draft.source, Some(Source { address: "192.0.2.1".parse().ok(), port: Some(4_000) }), "{lines:?}");
        let is_hashed = said[0]["user_hash"].is_string();
        assert_eq!(
            (draft.account.is_some(), is_hashed),
            if why == "unknown_user" { (false, true) } else { (true, false) }
        );
    }
}

#[test]
fn who_got_in_is_no_failure_and_what_failed_before_is_told() {
    let mut desk = Desk::new();
    desk.hears(7, 0, "Accepted password for frank from 192.0.2.1 port 1 ssh2");
    assert_eq!(desk.book.logins.len(), 1);
    assert_eq!((desk.book.logins[0].pid, desk.book.logins[0].account.as_str()), (7, "frank"));
    desk.hears(8, 0, "Failed password for frank from 192.0.2.1 port 1 ssh2");
    desk.hears(8, 9, "Accepted password for frank from 192.0.2.1 port 1 ssh2");
    let said = desk.closes(10_000);
    assert_eq!((said.len(), &said[0]["then_got_in"]), (1, &Value::from(true)));
    assert_eq!(desk.book.logins.len(), 2);
}

#[test]
fn what_the_gate_refused_is_on_record_by_that() {
    let mut desk = Desk::new();
    desk.gate = Refused(Some(7));
    desk.hears(7, 0, "Failed publickey for frank from 192.0.2.1 port 1 ssh2");
    desk.hears(7, 1, "fatal: Access denied for user frank by PAM account configuration [preauth]");
    desk.hears(8, 1, "fatal: Access denied for user frank by PAM account configuration [preauth]");
    let said = desk.closes(10_000);
    assert_eq!((said.len(), said[0]["pid"].as_i64(), &said[0]["why"]), (1, Some(8), &Value::from("pam_refused")));
}

#[test]
fn further_lines_of_a_connection_that_is_over_count_no_more() {
    let mut desk = Desk::new();
    desk.hears(7, 0, "Timeout before authentication for 192.0.2.1 port 1");
    desk.hears(7, 1, "Connection closed by 192.0.2.1 port 1 [preauth]");
    desk.hears(1, 2, "Timeout before authentication for connection from 192.0.2.1 to 192.0.2.2, pid = 7");
    assert_eq!(count(&desk.closes(10_000)), 1);
    let mut desk = Desk::new();
    desk.hears(7, 0, "Connection closed by 192.0.2.1 port 1 [preauth]");
    desk.hears(7, 60_000, "Connection closed by 192.0.2.1 port 1 [preauth]");
    assert_eq!(count(&desk.closes(70_000)), 2, "a process id that was used again");
}

#[test]
fn a_connection_that_ends_without_a_word_counts_too_and_so_does_one_that_a_boot_cut_off() {
    let mut desk = Desk::new();
    desk.hears(7, 0, "Failed password for frank from 192.0.2.1 port 1 ssh2");
    desk.book.tick(at(4_000), &desk.names, |_| true);
    assert!(desk.book.out.is_empty(), "its last line may still come");
    assert_eq!(count(&desk.closes(6_000)), 1);
    let mut desk = Desk::new();
    desk.hears(7, 0, "Failed password for frank from 192.0.2.1 port 1 ssh2");
    desk.hears_in("another", 7, 1_000, "Failed password for frank from 192.0.2.1 port 1 ssh2");
    assert_eq!(count(&desk.closes(10_000)), 2);
    let mut desk = Desk::new();
    desk.hears(7, 0, "Failed password for frank from 192.0.2.1 port 1 ssh2");
    desk.book.tick(at(0) + SILENT, &desk.names, |_| false);
    assert_eq!(count(&desk.closes(700_000)), 1, "its process id is another's by now");
}

#[test]
fn a_flood_is_summed_up_by_the_minute_with_exact_counts_and_few_records() {
    let mut desk = Desk::new();
    let many: i64 = 30_000;
    for n in 0..many {
        // Ten minutes of fifty a second, from two hundred addresses, for three accounts and a thousand names.
        let (pid, time, address) = (i32::try_from(n % 30_000).expect("small") + 2, n * 20, n % 200);
        let (who, kind) =
            if n % 2 == 0 { ("frank".to_owned(), "") } else { (format!("n{}", n % 1_000), "invalid user ") };
        desk.hears(
            pid,
            time,
            &format!("Failed password for {kind}{who} from 198.51.100.{address} port {} ssh2", n % 60_000),
        );
        let kind = if kind.is_empty() { "authenticating user " } else { kind };
        desk.hears(
            pid,
            time + 5,
            &format!("Connection closed by {kind}{who} 198.51.100.{address} port {} [preauth]", n % 60_000),
        );
        assert!(desk.book.open.len() <= MAX_OPEN && desk.book.ended.len() <= MAX_ENDED);
    }
    let said = desk.closes(many * 20 + 10_000);
    assert_eq!(count(&said), 30_000);
    assert!(said.len() <= 11 + 30 + 20, "{} records", said.len());
    for sum in said.iter().filter(|detail| detail["count"].is_u64()) {
        let of = |name: &str, inner: &str| -> u64 {
            sum[name].as_array().expect("a list").iter().map(|one| one[inner].as_u64().expect("a count")).sum()
        };
        let total = sum["count"].as_u64();
        assert_eq!(Some(of("sources", "count") + sum["other_sources"].as_u64().expect("a count")), total);
        let known = of("accounts", "count") + sum["other_accounts"].as_u64().expect("a count");
        assert_eq!(Some(known + sum["unknown_names"].as_u64().expect("a count")), total);
        let whys: u64 = sum["whys"].as_object().expect("an object").values().filter_map(Value::as_u64).sum();
        assert_eq!(Some(whys), total);
        assert!(sum["sources"].as_array().is_some_and(|sources| sources.len() <= MAX_SOURCES));
        assert!(sum.to_string().len() < 4_096, "{} bytes", sum.to_string().len());
    }
}

#[test]
fn past_the_bound_on_open_connections_the_oldest_counts_and_none_is_lost() {
    let mut desk = Desk::new();
    let many = i32::try_from(MAX_OPEN).expect("small") + 100;
    for pid in 0..many {
        desk.hears(pid, i64::from(pid), &format!("Invalid user bob from 192.0.2.1 port {}", pid % 60_000));
        desk.hears(
            pid,
            i64::from(pid),
            &format!("Failed password for invalid user bob from 192.0.2.1 port {} ssh2", pid % 60_000),
        );
    }
    assert!(desk.book.open.len() <= MAX_OPEN);
    assert_eq!(count(&desk.closes(100_000)), u64::try_from(many).expect("small"));
}

#[test]
fn while_nothing_can_be_recorded_one_minute_takes_all_and_memory_is_bounded() {
    let mut book = Book::default();
    let names = Names::of(&[]);
    let last = 20_000;
    for n in 0..last {
        let line = format!("Connection closed by 10.{}.{}.1 port 1 [preauth]", n % 200, n / 200);
        let pid = i32::try_from(n).expect("small") + 2;
        let place = Place { time: at(n * 10_000), boot: BOOT, pid };
        book.take(sshd_log::parse(&line).expect("a line"), place, &names, &Refused(None));
        if n % 100 == 0 {
            book.gap(Gap { what: "x".into(), after: None, until: None, entries: Some(1) });
        }
    }
    assert!(book.out.len() <= MAX_OUT + 1, "{}", book.out.len());
    let details = |book: &Book| -> Vec<Value> { book.out.iter().map(|s| Value::Object(s.draft(1).detail)).collect() };
    let (gaps, mut said): (Vec<Value>, Vec<Value>) = details(&book).into_iter().partition(|d| d["what"].is_string());
    assert_eq!(gaps.iter().filter_map(|gap| gap["entries_at_most"].as_u64()).sum::<u64>(), 200);
    book.out.clear();
    book.tick(at(last * 10_000 + 100_000), &names, |_| true);
    said.extend(details(&book));
    assert_eq!(count(&said), 20_000);
}

proptest! {
    #[test]
    fn a_run_that_is_cut_anywhere_and_goes_on_says_the_same(
        events in prop::collection::vec((2i32..8, 0i64..9_000, 0usize..8), 1..80),
        cut in 0usize..80,
    ) {
        let lines = [
            "Invalid user bob from 192.0.2.1 port 1",
            "Failed password for frank from 192.0.2.1 port 1 ssh2",
            "Failed password for invalid user bob from 192.0.2.2 port 1 ssh2",
            "Connection closed by authenticating user frank 192.0.2.1 port 1 [preauth]",
            "Connection reset by 192.0.2.3 port 1",
            "Accepted password for frank from 192.0.2.1 port 1 ssh2",
            "error: Refused by key options",
            "drop connection #1 from [192.0.2.4]:1 on [192.0.2.2]:22 past MaxStartups",
        ];
        let run = |cut: Option<usize>| {
            let mut desk = Desk::new();
            let mut time = 0;
            for (n, (pid, wait, line)) in events.iter().enumerate() {
                if cut == Some(n) {
                    let kept = serde_json::to_vec(&desk.book).expect("a book");
                    desk.book = serde_json::from_slice(&kept).expect("the same book");
                }
                time += wait;
                desk.hears(*pid, time, lines[*line]);
            }
            let said = desk.closes(time + 700_000);
            // What was not told of yet is not kept.
            desk.book.knocks.clear();
            (said, desk.book)
        };
        prop_assert_eq!(run(Some(cut)), run(None));
    }
}
