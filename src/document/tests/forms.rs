//! The one way in which a document is written: what is written is read, and nothing else.
#![allow(clippy::panic, clippy::unwrap_used, missing_docs)]

mod common;

use common::*;
use document::{signature::read, *};
use proptest::{prelude::*, sample::Index};

/// One of each type.
fn each(it: &Company) -> Vec<Body> {
    let id = document(it.grant()).id();
    let session = Session {
        issued_at: noon(),
        nonce: w(&"n".repeat(43)),
        organization: w("acme"),
        origin: w("https://compliance.example.com"),
        kind: IsSession,
        v: V1,
    };
    let head = chain(record::Hash::ZERO, id);
    let feed =
        Feed { count: 1, head, issued_at: noon(), organization: w("acme"), stack: w("web"), kind: IsFeed, v: V1 };
    let grant = Grant {
        after: [id].into(),
        from: vec!["10.0.0.0/8".parse().unwrap(), "2001:db8::/32".parse().unwrap()],
        hosts: Hosts::Named(set(&["i-1", "i-2"])),
        reason: w("Zoë said \"now\" 日本"),
        ..it.grant()
    };
    let narrow = Lockdown {
        fingerprint: Some(it.frank_login.fingerprint()),
        hosts: Some(Hosts::Named(set(&["i-1"]))),
        ..it.hold_frank()
    };
    let mut roster = it.roster();
    roster.people[1].iam = Some(IamUser {
        arn: Some(w("arn:aws:iam::123456789012:user/eu/grace=x,y")),
        id: w("AIDAEXAMPLE"),
        name: w("grace=x,y"),
    });
    roster.people[1].accounts.insert(w("*"), set(&["ubuntu"]));
    roster.holds = [id].into();
    vec![
        roster.into(),
        grant.into(),
        it.revoke(id).into(),
        it.lockdown().into(),
        narrow.into(),
        it.lift(id).into(),
        session.into(),
        feed.into(),
        Run { automatic: Some(version(2)), failed: Some(w("IAM does not answer")), ..it.run() }.into(),
    ]
}

#[test]
fn what_is_written_is_read_back_and_its_id_is_the_hash_of_its_line() {
    let it = company();
    for body in each(&it) {
        let written = document(body.clone());
        assert_eq!((written.body(), written.kind()), (&body, body.kind()));
        let again = Document::parse(written.line()).unwrap();
        assert_eq!(again, written);
        assert_eq!(again.id().to_string().parse(), Ok(again.id()));
        let envelope = signed(body, &[&it.alice, &it.ceo]);
        assert_eq!(Envelope::parse(envelope.to_json().as_bytes()).unwrap(), envelope);
        let pretty: serde_json::Value = serde_json::from_str(&envelope.to_json()).unwrap();
        let pretty = format!("\n{}\n", serde_json::to_string_pretty(&pretty).unwrap());
        assert_eq!(Envelope::parse(pretty.as_bytes()).unwrap(), envelope);
    }
}

#[test]
fn unknown_and_repeated_members_another_version_and_another_spelling_are_refused() {
    let it = company();
    for body in each(&it) {
        let line = document(body).line().to_owned();
        let inner = line.strip_suffix('}').unwrap();
        let swapped = line.replacen(r#","v":1"#, "", 1).replacen('{', r#"{"v":1,"#, 1);
        for wrong in [
            format!(r#"{inner},"w":1}}"#),
            format!(r#"{inner},"v":1}}"#),
            format!(r#"{inner},"v":1,"v":1}}"#),
            line.replacen(r#""v":1"#, r#""v":2"#, 1),
            line.replacen(r#""v":1"#, r#""v":1.0"#, 1),
            line.replacen(r#""v":1"#, r#""v":"1""#, 1),
            line.replacen(r#""v":1"#, r#""v":null"#, 1),
            line.replacen(r#""v":1"#, r#""x":null,"v":1"#, 1),
            line.replacen(r#""organization":"acme""#, r#""organization":"acm\u0065""#, 1),
            line.replacen(r#""organization":"acme""#, r#""organization":"acme","organization":"acme""#, 1),
            line.replacen(r#""organization":"acme","#, "", 1),
            swapped,
            format!("{line}\n"),
            format!(" {line}"),
            format!("\u{feff}{line}"),
            line.replacen(':', ": ", 1),
            line.replacen("2026-11-30T", "2026-11-30t", 1),
            line.replacen("00Z", "00.0Z", 1),
            line.replacen("00Z", "00+00:00", 1),
            format!("[{line}]"),
            String::new(),
        ] {
            assert_ne!(wrong, line);
            let refused = Document::parse(&wrong);
            assert!(refused.is_err(), "{wrong}");
        }
    }
}

#[test]
fn characters_that_hide_turn_or_escape_are_refused_in_every_text() {
    let it = company();
    let line = document(it.revoke(document(it.grant()).id())).line().to_owned();
    for bad in [
        "\\n",
        "\\u0000",
        "\\u007f",
        "\u{7f}",
        "\u{85}",
        "\u{ad}",
        "\u{200b}",
        "\u{202e}",
        "\u{2028}",
        "\u{2029}",
        "\\\\",
        "\u{e0041}",
    ] {
        let wrong = line.replacen(r#""reason":"done""#, &format!(r#""reason":"do{bad}ne""#), 1);
        assert!(Document::parse(&wrong).is_err(), "{wrong:?}");
    }
    let quoted = line.replacen(r#""reason":"done""#, r#""reason":"do\"ne""#, 1);
    assert!(Document::parse(&quoted).is_ok());
}

#[test]
fn lists_of_names_are_sorted_and_each_name_is_there_once() {
    let it = company();
    let line = document(Grant { hosts: Hosts::Named(set(&["i-1", "i-2"])), ..it.grant() }).line().to_owned();
    for other in [r#"["i-2","i-1"]"#, r#"["i-1","i-1","i-2"]"#] {
        let wrong = line.replace(r#"["i-1","i-2"]"#, other);
        assert_eq!(Document::parse(&wrong), Err(Malformed::NotCanonical));
    }
    for other in [r#"["*","i-1"]"#, r#"["i 1"]"#, r#"[""]"#, r#"[1]"#, r#""*""#] {
        assert!(Document::parse(&line.replace(r#"["i-1","i-2"]"#, other)).is_err());
    }
    let all = Lockdown { hosts: Some(Hosts::All), ..it.lockdown() };
    assert!(Document::new(all).is_err(), "leaving it out is the one way to mean every host");
}

#[test]
fn sizes_are_bounded_by_named_constants() {
    let it = company();
    let many = |n: usize| (0..n).map(|n| w(&format!("i-{n:060}"))).collect();
    let grant = |n| Grant { hosts: Hosts::Named(many(n)), ..it.grant() };
    assert!(Document::new(grant(100)).unwrap().line().len() <= MAX_DOCUMENT);
    assert!(matches!(Document::new(grant(130)), Err(Malformed::TooLong { most: MAX_DOCUMENT, .. })));
    let huge = format!(r#"{{"type":"roster","x":"{}"}}"#, "x".repeat(MAX_ROSTER));
    assert!(matches!(Document::parse(&huge), Err(Malformed::TooLong { most: MAX_ROSTER, .. })));
    let huge = "x".repeat(MAX_ROSTER_ENVELOPE + 1);
    assert!(matches!(Envelope::parse(huge.as_bytes()), Err(Malformed::TooLong { .. })));
    let padded = format!("{}{}", " ".repeat(MAX_ENVELOPE), signed(it.grant(), &[]).to_json());
    assert!(matches!(Envelope::parse(padded.as_bytes()), Err(Malformed::TooLong { most: MAX_ENVELOPE, .. })));
    // Each byte of the longest line may be escaped, and the longest signatures still fit.
    let quotes = "\"".repeat(MAX_REASON);
    let line = document(Grant { reason: w(&quotes), ..it.grant() });
    let full = Envelope::new(line, vec!["x".repeat(MAX_SIGNATURE); MAX_SIGNATURES]).unwrap();
    assert_eq!(Envelope::parse(full.to_json().as_bytes()).unwrap(), full);
}

#[test]
fn a_roster_of_5000_people_is_asked_for_its_signature_before_it_is_read() {
    let it = company();
    let key = |n: u32| {
        let seed = [&n.to_be_bytes()[..], &[0; 28]].concat();
        let pair = ssh_key::private::Ed25519Keypair::from_seed(&seed.try_into().unwrap());
        Key::from_data(&ssh_key::public::KeyData::Ed25519(pair.public)).unwrap()
    };
    let member =
        |n: u32| Member { name: w(&format!("p{n:05}")), keys: [key(n)].into(), ..it.roster().people[0].clone() };
    let envelope = signed(Roster { people: (0..5000).map(member).collect(), ..it.roster() }, &[&it.ceo]);
    let json = envelope.to_json();
    let sealed = Sealed::parse(json.as_bytes()).unwrap();
    let settings = it.settings().check().unwrap();
    assert!(sealed.is_signed_by_any(&settings.roster_signers()));
    assert!(!sealed.is_signed_by_any(&[&it.alice.key()]));
    let mut judge = Judge::begin(settings, it.place(), began());
    assert_accepted(&judge.judge(&sealed.open().unwrap(), noon()));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), text in "\\PC{0,200}") {
        let _ = Envelope::parse(&bytes);
        let _ = Document::parse(&text);
        let _ = Document::parse(&String::from_utf8_lossy(&bytes));
        let _ = read(&text);
        let _ = text.parse::<Key>();
        let _ = text.parse::<Moment>();
        let _ = serde_json::from_slice::<State>(&bytes);
    }

    #[test]
    fn a_changed_line_is_no_document_or_another_one_in_the_same_form(
        which in any::<Index>(),
        at in any::<Index>(),
        cut in 0_usize..40,
        put in "[ -~\u{e9}\u{202e}]{0,12}",
    ) {
        let it = company();
        let bodies = each(&it);
        let line = document(which.get(&bodies).clone()).line().to_owned();
        let mut chars: Vec<char> = line.chars().collect();
        let from = at.index(chars.len());
        chars.splice(from..(from + cut).min(chars.len()), put.chars());
        let changed: String = chars.into_iter().collect();
        if let Ok(read) = Document::parse(&changed) {
            prop_assert_eq!(read.line(), &changed);
            prop_assert_eq!(Document::new(read.body().clone()), Ok(read.clone()));
            prop_assert_eq!(read.id() == document(which.get(&bodies).clone()).id(), changed == line);
        }
    }

    #[test]
    fn a_changed_envelope_is_judged_without_a_panic_and_opens_nothing_new(at in any::<Index>(), byte in any::<u8>()) {
        let it = company();
        let envelope = signed(it.grant(), &[&it.alice, &it.bob]);
        let mut bytes = envelope.to_json().into_bytes();
        let place = at.index(bytes.len());
        bytes[place] = byte;
        if let Ok(changed) = Envelope::parse(&bytes) {
            let accepted = matches!(it.judge().judge(&changed, noon()).verdict, Verdict::Accepted(_));
            prop_assert!(!accepted || changed == envelope);
        }
    }

    #[test]
    fn any_grant_is_read_back(
        seconds in 0_u32..86_400,
        lasts in 1_u32..1_000_000,
        hosts in prop::collection::btree_set("[a-z0-9.-]{1,20}", 0..20),
        reason in "[^\\p{C}\\p{Zl}\\p{Zp}\\\\]{1,100}",
    ) {
        let it = company();
        let grant = it.grant();
        let starts_at = grant.issued_at.after(std::time::Duration::from_secs(seconds.into()));
        let named = hosts.iter().map(|host| w(host)).collect::<std::collections::BTreeSet<record::Host>>();
        let grant = Grant {
            starts_at,
            accept_until: grant.issued_at.after(MAX_ACCEPTANCE),
            expires_at: starts_at.after(std::time::Duration::from_secs(lasts.into())),
            hosts: if named.is_empty() { Hosts::All } else { Hosts::Named(named) },
            reason: w(&reason),
            ..grant
        };
        let written = Document::new(grant.clone()).unwrap();
        let again = Document::parse(written.line()).unwrap();
        prop_assert_eq!(again.body(), &Body::from(grant));
    }
}
