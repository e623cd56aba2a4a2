//! Answers as a good server writes them, and as no good one does.

use serde_json::{Value, json};

use super::*;
use crate::{
    feeds::testing::{answer, doc, grant, lockdown, roster, statement},
    settings::Feeds,
};

fn asked() -> Feeds {
    let (organization, stack) = ("acme".parse().unwrap(), "web".parse().unwrap());
    Feeds { organization, stack, feeds: Vec::new(), left_out: 0 }
}

fn parse(answer: &Value, after: Option<u64>) -> Result<Answer, String> {
    Answer::parse(answer.to_string().into_bytes(), &asked(), after)
}

#[test]
fn documents_are_laid_down_and_listed_in_the_order_of_the_feed_and_grants_laid_down_last() {
    let documents = [grant(1), lockdown(2), roster(3), grant(4), lockdown(5)];
    for after in [None, Some(7)] {
        let read = parse(&answer(after, &documents), after).unwrap();
        let order: &[usize] = if after.is_some() { &[0, 1, 2, 3, 4] } else { &[3, 0, 4, 2, 1] };
        assert_eq!(read.ids, order.iter().map(|n| documents[*n].id).collect::<Vec<_>>());
        assert_eq!((read.next, read.after), (after.unwrap_or(0) + 5, after));
        let laid: Vec<_> = read.documents.iter().map(|offered| offered.id).collect();
        assert_eq!(laid, [1, 2, 4, 0, 3].map(|n: usize| documents[n].id));
        for offered in &read.documents {
            let envelope: Value = serde_json::from_str(read.envelope(offered)).unwrap();
            assert!(documents.iter().any(|d| d.id == offered.id && d.envelope == envelope));
        }
        assert_eq!(read.statement().get(), statement().envelope.to_string());
        assert_eq!(read.dropped, None);
    }
}

#[test]
fn what_is_no_document_is_left_out_and_counted_and_its_place_stays() {
    let session = doc(&json!({ "v": 1, "type": "session", "organization": "acme", "origin": "https://a",
        "issued_at": crate::feeds::testing::TIME, "nonce": "n".repeat(32) }));
    let mut other = lockdown(1);
    other.envelope["document"] = lockdown(2).envelope["document"].clone();
    let mut spaced = lockdown(3);
    let line = spaced.envelope["document"].as_str().unwrap().replace(':', ": ");
    spaced.id = Id::of(&line);
    spaced.envelope["document"] = line.into();
    let mut long = lockdown(4);
    long.envelope["signatures"] = json!(["x".repeat(200_000)]);
    let mut more = lockdown(5);
    more.envelope["more"] = json!(1);
    let mut number = lockdown(6);
    number.envelope = json!(7);
    let good = lockdown(7);
    let all = [session, statement(), other, spaced, long, more, number, good.clone()];
    let read = parse(&answer(Some(0), &all), Some(0)).unwrap();
    assert_eq!(read.documents.iter().map(|offered| offered.id).collect::<Vec<_>>(), [good.id]);
    assert_eq!((read.dropped.unwrap().0, read.ids.len(), read.next), (7, 8, 8));
}

#[test]
fn an_answer_about_anything_else_than_was_asked_is_none() {
    let good = answer(Some(3), &[lockdown(1), lockdown(2)]);
    parse(&good, Some(3)).unwrap();
    let with = |member: &str, value: Value| {
        let mut bad = good.clone();
        bad[member] = value;
        bad
    };
    let mut swapped = good.clone();
    swapped["documents"].as_array_mut().unwrap().reverse();
    let mut placeless = good.clone();
    placeless["documents"][0].as_object_mut().unwrap().remove("position");
    let mut nameless = good.clone();
    nameless["documents"][0]["id"] = json!("../../etc/passwd");
    let crowd: Vec<_> = (0..65).map(lockdown).collect();
    for (bad, says) in [
        (with("stack", json!("db")), "another stack"),
        (with("organization", json!("evil")), "another organization"),
        (with("after", json!(2)), "was asked for"),
        (with("after", Value::Null), "was asked for"),
        (with("next", json!(6)), "that follow"),
        (with("next", json!(-1)), "cannot be read"),
        (with("statement", json!({})), "statement"),
        (with("statement", lockdown(1).envelope), "its statement is a lockdown"),
        (with("documents", json!({})), "cannot be read"),
        (swapped, "that follow"),
        (placeless, "that follow"),
        (nameless, "cannot be read"),
        (answer(Some(3), &crowd), "64 are taken"),
        (json!([]), "cannot be read"),
    ] {
        let why = parse(&bad, Some(3)).unwrap_err();
        assert!(why.contains(says), "{says}: {why}");
    }
    assert!(parse(&good, None).unwrap_err().contains("was asked for"));
    assert!(Answer::parse(vec![0xff], &asked(), None).unwrap_err().contains("not text"));
    let last = answer(Some(u64::MAX), &[lockdown(1)]);
    parse(&last, Some(u64::MAX)).unwrap_err();
}

#[test]
fn a_beginning_holds_so_many_documents_and_no_more() {
    let entry = json!({ "id": lockdown(1).id, "envelope": 0 });
    let mut many = answer(None, &[]);
    many["documents"] = vec![entry; MAX_BEGINNING + 1].into();
    assert!(parse(&many, None).unwrap_err().contains("more than 16384"));
    many["documents"].as_array_mut().unwrap().pop();
    let read = parse(&many, None).unwrap();
    assert_eq!((read.count, read.dropped.unwrap().0), (MAX_BEGINNING, MAX_BEGINNING as u64));
    // What never came is what the daemon has to hear of before all else.
    let mut long: Vec<_> = (0..300).map(lockdown).collect();
    assert_eq!(parse(&answer(None, &long), None).unwrap().ids.len(), MAX_LISTED);
    long[0].envelope = json!(0);
    let read = parse(&answer(None, &long), None).unwrap();
    assert_eq!((read.ids.len(), read.ids[0], read.ids[1]), (MAX_LISTED, long[0].id, long[299].id));
}
