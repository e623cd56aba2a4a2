//! Any bytes are read as an envelope, without a panic; what is read is written in one way; and nobody's word is taken
//! whom a host does not know.
//!
//! `mkdir -p fuzz/corpus/document && cargo +nightly fuzz run document fuzz/corpus/document src/document/tests/vectors`
#![no_main]

use std::{collections::BTreeMap, sync::LazyLock, time::Duration};

use document::{
    Body, Document, Envelope, Judge, Key, MAX_SIGNATURES, Moment, Place, RosterKey, RosterTrust, Sealed, Settings, Verdict,
    WhenSilent,
};
use libfuzzer_sys::fuzz_target;

const ROSTER: &[u8] = include_bytes!("../../src/document/tests/vectors/roster.json");
const SIGNERS: &str = include_str!("../../src/document/tests/vectors/allowed_signers");

/// The host of the vectors, with their roster.
static JUDGE: LazyLock<(Judge, Moment)> = LazyLock::new(|| {
    let text = SIGNERS.lines().next().and_then(|line| line.split_once("\" ")).expect("a line").1;
    let key: Key = text.parse().expect("a key");
    let settings = Settings {
        organization: "acme".parse().expect("a name"),
        feeds: Vec::new(),
        deny_keys: [].into(),
        plain_approvers: true,
        max_silence: Duration::from_secs(900),
        when_silent: WhenSilent::Keep,
        roster: RosterTrust {
            threshold: 1,
            min_version: 0,
            automatic: Vec::new(),
            keys: vec![RosterKey { person: "ceo".parse().expect("a name"), key }],
        },
    };
    let place = Place { host: "i-1".parse().ok(), stack: "web".parse().expect("a name"), people: BTreeMap::new() };
    let now: Moment = "2026-11-30T12:00:00Z".parse().expect("a moment");
    let mut judge = Judge::begin(settings.check().expect("good settings"), place, now.before(Duration::from_secs(86_400)));
    let judged = judge.judge(&Envelope::parse(ROSTER).expect("an envelope"), now);
    assert!(matches!(judged.verdict, Verdict::Accepted(_)));
    (judge, now)
});

fuzz_target!(|bytes: &[u8]| {
    if let Ok(line) = std::str::from_utf8(bytes)
        && let Ok(document) = Document::parse(line)
    {
        assert_eq!(document.line(), line);
        assert_eq!(Document::new(document.body().clone()).expect("what was read can be written"), document);
    }
    let Ok(sealed) = Sealed::parse(bytes) else { return };
    let (mut judge, now) = JUDGE.clone();
    let signed = sealed.is_signed_by_any(&judge.settings().roster_signers());
    let Ok(envelope) = sealed.open() else { return };
    assert!(envelope.signatures().len() <= MAX_SIGNATURES);
    assert_eq!(Envelope::parse(envelope.to_json().as_bytes()).expect("what was read can be written"), envelope);
    let before = judge.state().clone();
    let judged = judge.judge(&envelope, now);
    assert!(judge.state().is_bounded());
    match judged.verdict {
        Verdict::Accepted(_) => assert!(!judged.signers.is_empty()),
        Verdict::Known | Verdict::Waits(_) | Verdict::Refused(_) => assert_eq!(*judge.state(), before),
    }
    if matches!(envelope.document().body(), Body::Roster(_)) && !signed {
        assert_eq!(*judge.state(), before);
    }
});
