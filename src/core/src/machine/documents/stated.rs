//! What is stated of documents: the whole of one that was accepted, so that years later stock tools show on whose word.

use document::{
    Accepted, Body, Envelope, Signer, Who,
    judge::{Dropped, LostKey},
    signature,
};
use record::{ArtifactType, Draft, Fingerprint};
use serde_json::{Value, json};

/// The longest line that is recorded whole. A longer one, a roster, is kept by whoever signed it, and by the server: the
/// record has its id, which is its SHA-256, and its signatures.
const MAX_RECORDED_LINE: usize = 64 << 10;
/// The longest piece of text in a record: what is longer would be cut.
const PIECE: usize = 768;
/// The most keys that one record names as lost.
const MAX_LOST: usize = 64;

/// A document is in force.
pub(super) fn accepted(envelope: &Envelope, signers: &[Signer], sentence: String, number: u64) -> Draft {
    let line = envelope.document().line();
    let mut draft = of(ArtifactType::DocumentAccepted, envelope, signers, sentence).with("number", number);
    if let Body::Roster(roster) = envelope.document().body() {
        draft = draft.with("version", roster.version.number());
    }
    draft = match line.len() {
        long if long > MAX_RECORDED_LINE => draft.with("bytes", long as u64),
        _ => draft.with("line", pieces(line)),
    };
    draft.with("signatures", signatures(envelope, signers))
}

/// A document was refused.
pub(super) fn refused(envelope: &Envelope, signers: &[Signer], code: &str, why: &str) -> Draft {
    let sentence = match by(signers) {
        Some(names) => format!("a {} by {names} was refused: {why}", envelope.document().kind()),
        None => format!("a {} that nobody known here has signed was refused: {why}", envelope.document().kind()),
    };
    of(ArtifactType::DocumentRefused, envelope, signers, sentence).with("code", code).with("why", why)
}

/// What was kept does not hold any more.
pub(super) fn dropped(why: &Dropped) -> Draft {
    Draft::new(ArtifactType::DocumentRefused, why.to_string()).with("code", "dropped").with("why", why.to_string())
}

fn of(kind: ArtifactType, envelope: &Envelope, signers: &[Signer], sentence: String) -> Draft {
    let document = envelope.document();
    let mut draft = Draft::new(kind, sentence)
        .with("document", document.id().to_string())
        .with("kind", document.kind().as_str())
        .with("signers", signers.iter().map(signer).collect::<Vec<_>>());
    match document.body() {
        Body::Grant(grant) => {
            draft.person = Some(grant.person.clone());
            draft.account = grant.account.as_str().parse().ok();
        }
        Body::Lockdown(lockdown) => draft.person.clone_from(&lockdown.person),
        _ => {}
    }
    draft
}

fn signer(signer: &Signer) -> Value {
    let who = match &signer.who {
        Who::RosterKey(_) => "roster_key",
        Who::Approver(_) => "approver",
        Who::Feeder(_) => "feeder",
        Who::Automatic => "automatic",
        Who::Login(_) => "login",
    };
    let mut all = json!({ "who": who, "fingerprint": signer.fingerprint.to_string() });
    match &signer.who {
        Who::Feeder(source) => all["source"] = source.to_string().into(),
        who => {
            if let Some(person) = who.person() {
                all["person"] = person.as_str().into();
            }
        }
    }
    if let Some(device) = signer.device {
        all["unlocked"] = device.unlocked.into();
    }
    all
}

/// Those who signed, by name.
fn by(signers: &[Signer]) -> Option<String> {
    let mut names: Vec<String> = signers.iter().map(name).collect();
    names.sort_unstable();
    names.dedup();
    (!names.is_empty()).then(|| names.join(", "))
}

fn name(signer: &Signer) -> String {
    match &signer.who {
        Who::Feeder(source) => format!("the feeder of {source}"),
        Who::Automatic => format!("the automatic key {}", signer.fingerprint),
        who => who.person().map(ToString::to_string).unwrap_or_default(),
    }
}

/// What it does, and on whose word.
pub(super) fn sentence(envelope: &Envelope, accepted: &Accepted, signers: &[Signer]) -> String {
    let by = by(signers).unwrap_or_default();
    match (accepted, envelope.document().body()) {
        (Accepted::Roster(taken), _) => format!("roster {} is in force, signed by {by}", taken.version),
        (Accepted::Grant(terms), _) => {
            let until = terms.expires_at;
            format!(
                "{} may log in to {} until {until}, approved by {by}: {}",
                terms.person, terms.account, terms.reason
            )
        }
        (Accepted::Revoke { grant, .. }, Body::Revoke(revoke)) => {
            format!("{by} revoked grant {grant}: {}", revoke.reason)
        }
        (Accepted::Lockdown { here, hold }, Body::Lockdown(lockdown)) => {
            let holds = if *hold { "; it holds until it is lifted" } else { "" };
            let place = if *here { "" } else { " (of other hosts)" };
            format!("{}{holds}{place}", locked_down(lockdown, signers))
        }
        (Accepted::Lift { lockdown }, Body::Lift(lift)) => format!("{by} lifted lockdown {lockdown}: {}", lift.reason),
        (_, _) => format!("a {} by {by} is in force", envelope.document().kind()),
    }
}

/// Why grants end by a lockdown.
pub(super) fn locked_down(lockdown: &document::Lockdown, signers: &[Signer]) -> String {
    let whom = match (&lockdown.person, &lockdown.fingerprint) {
        (Some(person), _) => format!(" of {person}"),
        (None, Some(key)) => format!(" of the key {key}"),
        (None, None) => String::new(),
    };
    format!("lockdown{whom} by {}: {}", by(signers).unwrap_or_default(), lockdown.reason)
}

/// Keys that a roster names and that belong to others by the configuration.
pub(super) fn lost(keys: &[LostKey]) -> Vec<Value> {
    let one = |key: &LostKey| json!({ "fingerprint": key.fingerprint.to_string(), "by_roster": key.by_roster, "person": key.owner.as_str() });
    keys.iter().take(MAX_LOST).map(one).collect()
}

/// A text in pieces that no record cuts.
fn pieces(text: &str) -> Vec<String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let mut at = rest.len().min(PIECE);
        while !rest.is_char_boundary(at) {
            at -= 1;
        }
        let (piece, more) = rest.split_at(at);
        pieces.push(piece.to_owned());
        rest = more;
    }
    pieces
}

/// The signatures of those who are known, in base64 without their armor.
fn signatures(envelope: &Envelope, signers: &[Signer]) -> Vec<Value> {
    let known = |key: &Fingerprint| signers.iter().any(|signer| signer.fingerprint == *key);
    let by_known = envelope
        .signatures()
        .iter()
        .filter(|armored| signature::read(armored).is_ok_and(|read| known(read.fingerprint())));
    let base64 = |armored: &String| armored.lines().filter(|line| !line.starts_with("-----")).collect::<String>();
    by_known.map(|armored| pieces(&base64(armored)).into()).collect()
}
