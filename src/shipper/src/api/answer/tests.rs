//! Every answer that the protocol knows, and what servers and proxies say beside it.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::testing;

fn asked(ledger: &LedgerId) -> Asked<'_> {
    Asked { ledger, events: 10, with_token: false }
}

fn answer(status: u16, body: &Value) -> Answer {
    Answer { status, retry_after: None, body: body.to_string().into_bytes() }
}

fn step_of(status: u16, body: &Value) -> Step {
    step(&answer(status, body), asked(&testing::ledger_id()), "2026-05-26T12:00:00Z".parse().unwrap())
}

fn receipt_over(ledger: &LedgerId) -> Value {
    serde_json::from_str(testing::receipt(ledger, 7, Hash::of(b"x"), &testing::key(1)).as_str()).unwrap()
}

#[test]
fn two_hundred_counts_only_with_a_receipt_over_this_ledger() {
    let id = testing::ledger_id();
    let good = json!({ "accepted": 10, "receipt": receipt_over(&id), "enrolment": "pending", "later": [] });
    let Step::Acknowledged { receipt, enrolment } = step_of(200, &good) else { panic!("not acknowledged") };
    assert_eq!((receipt.receipt().seq, enrolment.as_deref()), (7, Some("pending")));
    let other: LedgerId = "ff".repeat(16).parse().unwrap();
    for (bad, says) in [
        (json!({ "accepted": 10 }), "without a receipt"),
        (json!({ "receipt": null }), "without a receipt"),
        (json!({ "receipt": "yes" }), "cannot be read"),
        (json!({ "receipt": { "seq": 7 } }), "cannot be read"),
        (json!({ "receipt": receipt_over(&other) }), "another ledger"),
        (json!("<html>captive portal</html>"), "no answer of a compliance API"),
        (json!([]), "no answer of a compliance API"),
    ] {
        let Step::Later { after: None, why } = step_of(200, &bad) else { panic!("believed: {bad}") };
        assert!(why.contains(says), "{why}");
    }
}

#[test]
fn each_code_of_the_protocol_has_its_step() {
    let zeros = "0".repeat(64);
    assert_eq!(step_of(401, &json!({ "code": "unknown_ledger" })), Step::Enrol);
    assert_eq!(step_of(409, &json!({ "code": "gap" })), Step::Back { head: None });
    assert_eq!(step_of(409, &json!({ "code": "gap", "head": { "seq": 0, "hash": zeros } })), Step::Back { head: None });
    let head = json!({ "ledger": "x", "seq": 5, "hash": zeros });
    assert_eq!(step_of(409, &json!({ "code": "gap", "head": head })), Step::Back { head: Some((5, Hash::ZERO)) });
    assert!(matches!(step_of(409, &json!({ "code": "gap", "head": { "seq": 5 } })), Step::Later { .. }));
    let fork = json!({ "code": "fork", "receipt": receipt_over(&testing::ledger_id()) });
    assert!(matches!(step_of(409, &fork), Step::Fork { receipt: Some(_), .. }));
    let foreign = json!({ "code": "fork", "receipt": receipt_over(&"ff".repeat(16).parse().unwrap()) });
    assert!(matches!(step_of(409, &foreign), Step::Fork { receipt: None, .. }));
    assert!(matches!(step_of(413, &json!({})), Step::Shorter { at_most: 5, .. }));
    assert!(matches!(step_of(422, &json!({ "code": "not_authentic", "index": 3 })), Step::Shorter { at_most: 3, .. }));
    let refused = step_of(422, &json!({ "code": "not_authentic", "index": 0 }));
    assert!(matches!(refused, Step::Refused { blame: Blame::Records, .. }), "{refused:?}");
    for status in [400, 401, 403, 404, 405, 415, 421, 451] {
        assert!(matches!(step_of(status, &json!({})), Step::Refused { blame: Blame::Setup, .. }), "{status}");
    }
    for status in [301, 302, 303, 307, 308] {
        let Step::Refused { why, .. } = step_of(status, &json!({})) else { panic!("{status}") };
        assert!(why.contains("ship.api.url"), "{why}");
    }
    for status in [100, 201, 204, 408, 425, 429, 500, 502, 503, 504, 599, 999] {
        assert!(matches!(step_of(status, &json!({})), Step::Later { .. }), "{status}");
    }
}

#[test]
fn a_token_that_is_not_accepted_is_not_sent_again_and_again() {
    let id = testing::ledger_id();
    for code in ["unknown_ledger", "bad_token"] {
        let body = answer(401, &json!({ "code": code, "detail": "make a new one" }));
        let step = step(&body, Asked { with_token: true, ..asked(&id) }, Timestamp::UNIX_EPOCH);
        let Step::Refused { blame: Blame::Setup, why } = step else { panic!("{step:?}") };
        assert!(why.contains("not accepted: make a new one: put the stack's enrolment token into "), "{why}");
    }
}

#[test]
fn one_record_that_is_too_large_cannot_be_halved() {
    let id = testing::ledger_id();
    let step = step(&answer(413, &json!({})), Asked { events: 1, ..asked(&id) }, Timestamp::UNIX_EPOCH);
    assert!(matches!(step, Step::Refused { blame: Blame::Setup, .. }));
}

#[test]
fn a_refusal_that_is_not_in_the_protocols_words_is_no_word_about_the_records() {
    for index in [json!(10), json!(99), json!(null)] {
        let refused = step_of(422, &json!({ "code": "not_authentic", "index": index }));
        assert!(matches!(refused, Step::Refused { blame: Blame::Setup, .. }), "{refused:?}");
    }
    for (status, body) in
        [(422, json!("<html>")), (409, json!({ "index": 0 })), (422, json!({ "code": "x", "index": 0 }))]
    {
        let refused = step_of(status, &body);
        assert!(matches!(refused, Step::Refused { blame: Blame::Setup, .. }), "{refused:?}");
    }
}

#[test]
fn retry_after_is_seconds_or_a_date() {
    let id = testing::ledger_id();
    let now = "2026-05-26T12:00:00Z".parse().unwrap();
    for (header, wanted) in [
        ("7", Some(7)),
        (" 7 ", Some(7)),
        ("Tue, 26 May 2026 12:00:30 GMT", Some(30)),
        ("Tue, 26 May 2026 11:00:00 GMT", Some(0)),
        ("18446744073709551615", Some(u64::MAX)),
        ("soon", None),
        ("-1", None),
        ("", None),
    ] {
        for status in [429, 503] {
            let answer = Answer { retry_after: Some(header.to_owned()), ..answer(status, &json!({})) };
            let Step::Later { after, .. } = step(&answer, asked(&id), now) else { panic!("{header}") };
            assert_eq!(after.map(|after| after.as_secs()), wanted, "{header}");
        }
    }
}

proptest! {
    #[test]
    fn no_answer_panics_or_is_believed_without_a_receipt(
        status in 0u16..1000,
        retry in proptest::option::of("\\PC{0,40}"),
        body in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let answer = Answer { status, retry_after: retry, body };
        let step = step(&answer, asked(&testing::ledger_id()), Timestamp::UNIX_EPOCH);
        let believed = matches!(step, Step::Acknowledged { .. });
        prop_assert!(!believed);
    }

    #[test]
    fn what_the_server_says_is_cut_and_holds_no_control_characters(detail in "\\PC{0,20}[\\x00-\\x1f]{1,5}.{0,2000}") {
        if let Step::Refused { why, .. } = step_of(403, &json!({ "detail": detail, "code": detail })) {
            prop_assert!(why.chars().count() < 3 * MAX_QUOTE && !why.chars().any(char::is_control));
        }
    }
}
