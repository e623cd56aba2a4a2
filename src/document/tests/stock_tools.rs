//! The test vectors beside this file, and the scripts of docs/DOCUMENTS.md: `ssh-keygen` and `jq` say what this library says.
#![allow(clippy::panic, clippy::unwrap_used, missing_docs)]

mod common;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use common::*;
use document::*;
use ssh_key::{Algorithm, HashAlg, SshSig};

const PAGE: &str = include_str!("../../../docs/DOCUMENTS.md");

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}

/// The roster, with somebody of IAM in it.
fn roster(it: &Company) -> Roster {
    let mut roster = it.roster();
    let arn = Some(w("arn:aws:iam::123456789012:user/eu/grace"));
    roster.people[1].iam = Some(IamUser { arn, id: w("AIDAEXAMPLE"), name: w("grace") });
    roster
}

/// Lines that are no documents, each with why not.
fn refused(it: &Company) -> String {
    let id = document(it.grant()).id().to_string();
    let revoke = document(it.revoke(id.parse().unwrap())).line().to_owned();
    let grant = document(it.grant()).line().to_owned();
    let roster = document(roster(it)).line().to_owned();
    let lines = [
        ("another version", revoke.replace(r#""v":1"#, r#""v":2"#)),
        ("an unknown member", revoke.replace(r#""v":1"#, r#""v":1,"x":1"#)),
        ("a member twice", revoke.replace(r#""v":1"#, r#""v":1,"v":1"#)),
        ("a member missing", revoke.replace(r#""reason":"done","#, "")),
        ("an unknown type", revoke.replace(r#""type":"revoke""#, r#""type":"request""#)),
        ("white space", revoke.replacen(':', ": ", 1)),
        ("a newline at the end", format!("{revoke}\n")),
        ("members that are not sorted", revoke.replacen('{', r#"{"v":1,"#, 1).replace(r#","v":1}"#, "}")),
        ("a needless escape", revoke.replace("done", "don\\u0065")),
        ("a control character", revoke.replace("done", "do\u{7f}ne")),
        ("a character that turns the line around", revoke.replace("done", "do\u{202e}ne")),
        ("a line separator", revoke.replace("done", "do\u{2028}ne")),
        ("a backslash", revoke.replace("done", "do\\\\ne")),
        ("an empty reason", revoke.replace("done", "")),
        ("a fraction of a second", revoke.replace("12:00:00Z", "12:00:00.5Z")),
        ("another time zone", revoke.replace("12:00:00Z", "12:00:00+00:00")),
        ("an id in upper case", revoke.replace(&id, &id.to_uppercase())),
        ("no hosts", grant.replace(r#"["*"]"#, "[]")),
        ("every host and one more", grant.replace(r#"["*"]"#, r#"["*","i-1"]"#)),
        ("hosts that are not sorted", grant.replace(r#"["*"]"#, r#"["i-2","i-1"]"#)),
        ("0 approvals", grant.replace(r#""approvals":1"#, r#""approvals":0"#)),
        ("a range with bits beyond its prefix", grant.replace(r#""from":[]"#, r#""from":["10.1.2.3/8"]"#)),
        ("a range without its prefix", grant.replace(r#""from":[]"#, r#""from":["10.1.2.3"]"#)),
        (
            "accept_until more than a day later",
            grant.replace("T12:55:00Z", "T23:59:59Z").replacen("11-30T23", "12-01T23", 1),
        ),
        (
            "a beginning before it was issued",
            grant.replace(r#""starts_at":"2026-11-30T11:55:00Z""#, r#""starts_at":"2026-11-30T11:54:59Z""#),
        ),
        ("an ARN that is no user's", roster.replace(":user/", ":group/")),
    ];
    let line = |(why, line): (&str, String)| {
        assert!(line != revoke && line != grant && line != roster, "{why}");
        format!("{}\n", serde_json::json!({ "why": why, "document": line }))
    };
    lines.into_iter().map(line).collect()
}

/// What stands in tests/vectors: made by keys whose seeds are in tests/common, so that it is the same each time.
fn written(it: &Company) -> BTreeMap<&'static str, String> {
    let id = document(it.grant()).id();
    let session = Session {
        issued_at: noon(),
        nonce: w("q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA"),
        organization: w("acme"),
        origin: w("https://compliance.example.com"),
        kind: IsSession,
        v: V1,
    };
    let feed = Feed {
        count: 2,
        head: chain(chain(record::Hash::ZERO, id), document(it.lockdown()).id()),
        issued_at: noon(),
        organization: w("acme"),
        stack: w("web"),
        kind: IsFeed,
        v: V1,
    };
    let grant =
        Grant { reason: w("Zoë's \"INC-42\" 日本"), from: vec!["10.0.0.0/8".parse().unwrap()], ..it.grant() };
    let request = signed_as(document(grant.clone()), Some(Namespace::Request), &[&it.frank_login]);
    let mut signers = String::new();
    for (person, key) in [
        ("ceo", &it.ceo),
        ("cto", &it.cto),
        ("alice", &it.alice),
        ("alice", &it.alice_spare),
        ("bob", &it.bob),
        ("frank", &it.frank_login),
        ("iam", &it.iam),
    ] {
        signers.push_str(&format!("{person} namespaces=\"ssh-access-*\" {}\n", key.key()));
    }
    let json = |envelope: Envelope| format!("{}\n", envelope.to_json());
    [
        ("allowed_signers", signers),
        ("roster.json", json(signed(roster(it), &[&it.ceo, &it.cto]))),
        ("grant.json", json(signed(grant, &[&it.alice_spare, &it.bob]))),
        ("request.json", json(request)),
        ("revoke.json", json(signed(it.revoke(id), &[&it.alice]))),
        ("lockdown.json", json(signed(it.lockdown(), &[&it.bob]))),
        ("hold.json", json(signed(Lockdown { person: Some(w("grace")), ..it.hold_frank() }, &[&it.iam]))),
        ("lift.json", json(signed(it.lift(document(it.lockdown()).id()), &[&it.alice, &it.bob]))),
        ("session.json", json(signed(session, &[&it.frank_login]))),
        ("feed.json", json(signed(feed, &[&it.ceo]))),
        ("run.json", json(signed(it.run(), &[&it.iam]))),
        ("refused.jsonl", refused(it)),
    ]
    .into()
}

#[test]
fn the_vectors_are_what_this_library_writes() {
    let it = company();
    let written = written(&it);
    for (name, content) in &written {
        let path = vectors().join(name);
        // WRITE_VECTORS=1 writes them anew.
        if std::env::var_os("WRITE_VECTORS").is_some() {
            fs::create_dir_all(vectors()).unwrap();
            fs::write(&path, content).unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), *content, "{name}");
    }
    let there = fs::read_dir(vectors()).unwrap().count();
    assert_eq!(there, written.len());
}

#[test]
fn each_of_the_refused_lines_is_refused_and_each_of_the_others_is_read() {
    for line in fs::read_to_string(vectors().join("refused.jsonl")).unwrap().lines() {
        let vector: BTreeMap<String, String> = serde_json::from_str(line).unwrap();
        let refused = Document::parse(&vector["document"]);
        assert!(refused.is_err(), "{line}");
        println!("{}: {}", vector["why"], refused.unwrap_err());
    }
    let it = company();
    let judge = it.judge();
    for (name, verdict) in [("grant", true), ("revoke", true), ("lockdown", true), ("hold", true), ("request", false)] {
        let envelope = fs::read(vectors().join(format!("{name}.json"))).unwrap();
        let judged = judge.clone().judge(&Envelope::parse(&envelope).unwrap(), noon());
        assert_eq!(matches!(judged.verdict, Verdict::Accepted(_)), verdict, "{name}: {judged:?}");
    }
}

/// The page's n-th script: the only program that these tests run.
fn script(n: usize) -> &'static str {
    let text = PAGE.split("```sh\n").nth(n + 1).unwrap();
    &text[..text.find("```").unwrap()]
}

fn run(dir: &Path, script: &str, variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new("sh");
    command.args(["-euc", script]).current_dir(dir).envs(variables.iter().copied());
    let output = command.output().unwrap();
    let tools = "ssh-keygen, jq, sha256sum and cmp";
    assert_ne!(output.status.code(), Some(127), "{tools} are needed: {}", String::from_utf8_lossy(&output.stderr));
    output
}

fn text(output: &Output) -> (bool, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn stock_tools_verify_each_vector_as_the_page_shows() {
    for (name, namespace, who) in [
        ("roster", "ssh-access-roster", &["ceo", "cto"][..]),
        ("grant", "ssh-access-grant", &["alice", "bob"]),
        ("request", "ssh-access-request", &["frank"]),
        ("revoke", "ssh-access-revoke", &["alice"]),
        ("lockdown", "ssh-access-lockdown", &["bob"]),
        ("hold", "ssh-access-lockdown", &["iam"]),
        ("lift", "ssh-access-lift", &["alice", "bob"]),
        ("session", "ssh-access-session", &["frank"]),
        ("feed", "ssh-access-feed", &["ceo"]),
        ("run", "ssh-access-run", &["iam"]),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let bytes = fs::read(vectors().join(format!("{name}.json"))).unwrap();
        fs::write(dir.path().join("envelope.json"), &bytes).unwrap();
        fs::copy(vectors().join("allowed_signers"), dir.path().join("allowed_signers")).unwrap();
        let envelope = Envelope::parse(&bytes).unwrap();
        let id = envelope.document().id();
        let verified = text(&run(dir.path(), script(1), &[("NAMESPACE", namespace)]));
        let wanted: String = who.iter().map(|who| format!("{id} {who}\n")).collect();
        assert_eq!(verified, (true, wanted, String::new()), "{name}");
        // For another purpose, or with one byte changed, nobody has signed it.
        let verified = text(&run(dir.path(), script(1), &[("NAMESPACE", "ssh-access-other")]));
        assert_eq!((verified.0, verified.1.as_str()), (true, ""), "{name}");
        let changed = String::from_utf8(bytes).unwrap().replacen("acme", "acne", 1);
        fs::write(dir.path().join("envelope.json"), changed).unwrap();
        let verified = text(&run(dir.path(), script(1), &[("NAMESPACE", namespace)]));
        assert_eq!((verified.0, verified.1.as_str()), (true, ""), "{name}");
    }
}

#[test]
fn stock_tools_find_the_same_spelling_wrong() {
    let it = company();
    let dir = tempfile::tempdir().unwrap();
    fs::copy(vectors().join("allowed_signers"), dir.path().join("allowed_signers")).unwrap();
    let line = document(it.lockdown()).line().to_owned();
    for wrong in [line.replacen(':', ": ", 1), line.replace(r#""v":1"#, r#""v":1,"v":1"#), format!("{line}\n")] {
        let envelope = serde_json::json!({ "document": wrong, "signatures": [] }).to_string();
        fs::write(dir.path().join("envelope.json"), envelope).unwrap();
        let verified = text(&run(dir.path(), script(1), &[("NAMESPACE", "ssh-access-lockdown")]));
        assert!(!verified.0, "{wrong}");
    }
}

fn keygen(dir: &Path, name: &str, kind: &[&str]) -> Key {
    let mut command = Command::new("ssh-keygen");
    let status = command.args(["-q", "-N", "", "-C", "", "-f", name]).args(kind).current_dir(dir).status().unwrap();
    assert!(status.success());
    fs::read_to_string(dir.join(format!("{name}.pub"))).unwrap().trim_end().parse().unwrap()
}

/// What the page's first script makes with this key.
fn made(dir: &Path, key: &str, grant: Id) -> Envelope {
    let grant = grant.to_string();
    let (done, stdout, stderr) =
        text(&run(dir, script(0), &[("KEY", key), ("GRANT", &grant), ("REASON", "Zoë says \"no\"")]));
    assert!(done, "{stderr}");
    let envelope = Envelope::parse(&fs::read(dir.join("envelope.json")).unwrap()).unwrap();
    assert_eq!(stdout.trim_end(), envelope.document().id().to_string());
    envelope
}

#[test]
fn what_stock_tools_make_as_the_page_shows_is_taken() {
    let it = company();
    let grant = document(it.grant()).id();
    for (name, kind, takes) in [
        ("ed25519", &["-t", "ed25519"][..], true),
        ("p256", &["-t", "ecdsa", "-b", "256"], true),
        ("rsa3072", &["-t", "rsa", "-b", "3072"], true),
        ("rsa2048", &["-t", "rsa", "-b", "2048"], false),
        ("p384", &["-t", "ecdsa", "-b", "384"], false),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let key = keygen(dir.path(), name, kind);
        assert_eq!(key.signs().is_ok(), takes, "{name}");
        let envelope = made(dir.path(), name, grant);
        let Body::Revoke(revoke) = envelope.document().body() else { panic!("{envelope:?}") };
        let again = Revoke { issued_at: revoke.issued_at, reason: w("Zoë says \"no\""), ..it.revoke(grant) };
        assert_eq!(document(again), *envelope.document());
        let valid = signature::read(&envelope.signatures()[0])
            .unwrap()
            .verify(Namespace::Of(Kind::Revoke), envelope.document().line());
        assert_eq!(valid.is_ok(), takes, "{name}: {valid:?}");
        assert_eq!(valid.ok().map(|valid| valid.fingerprint), takes.then(|| key.fingerprint().clone()));
        if takes {
            let mut roster = it.roster();
            roster.approvers[2].keys = [key].into();
            assert_accepted(&it.judge_with(it.settings(), it.place(), roster).judge(&envelope, noon()));
        }
    }
}

#[test]
fn rsa_signs_with_sha_512_alone() {
    use rsa::signature::{SignatureEncoding as _, Signer as _};
    let it = company();
    let dir = tempfile::tempdir().unwrap();
    keygen(dir.path(), "rsa", &["-t", "rsa", "-b", "3072"]);
    let key = ssh_key::PrivateKey::read_openssh_file(&dir.path().join("rsa")).unwrap();
    // Not by ssh-key's own conversion, which takes one of the primes twice.
    let pair = key.key_data().rsa().unwrap();
    let number = |number: &ssh_key::Mpint| rsa::BigUint::from_bytes_be(number.as_positive_bytes().unwrap());
    let primes = vec![number(&pair.private.p), number(&pair.private.q)];
    let (n, e, d) = (number(&pair.public.n), number(&pair.public.e), number(&pair.private.d));
    let private = rsa::RsaPrivateKey::from_components(n, e, d, primes).unwrap();
    let document = document(it.lockdown());
    let namespace = document.namespace();
    let data = SshSig::signed_data(namespace.as_str(), HashAlg::Sha512, document.line().as_bytes()).unwrap();
    let verified = |hash: HashAlg, bytes: Vec<u8>| {
        let signature = ssh_key::Signature::new(Algorithm::Rsa { hash: Some(hash) }, bytes).unwrap();
        let data = key.public_key().key_data().clone();
        let signature = SshSig::new(data, namespace.as_str(), HashAlg::Sha512, signature).unwrap();
        signature::read(&record::write_armored(&signature).unwrap()).unwrap().verify(namespace, document.line())
    };
    let strong = rsa::pkcs1v15::SigningKey::<rsa::sha2::Sha512>::new(private.clone()).sign(&data).to_vec();
    let weak = rsa::pkcs1v15::SigningKey::<rsa::sha2::Sha256>::new(private).sign(&data).to_vec();
    assert!(verified(HashAlg::Sha512, strong.clone()).is_ok());
    assert_eq!(verified(HashAlg::Sha256, weak.clone()), Err(Invalid::Algorithm));
    assert_eq!(verified(HashAlg::Sha512, weak), Err(Invalid::DoesNotHold));
    assert_eq!(verified(HashAlg::Sha256, strong), Err(Invalid::Algorithm));
}

#[test]
fn a_certificate_signs_nothing() {
    let it = company();
    let dir = tempfile::tempdir().unwrap();
    for name in ["ca", "key"] {
        keygen(dir.path(), name, &["-t", "ed25519"]);
    }
    let certify = ["-q", "-s", "ca", "-I", "carol", "-n", "carol", "key.pub"];
    assert!(Command::new("ssh-keygen").args(certify).current_dir(dir.path()).status().unwrap().success());
    fs::copy(dir.path().join("key"), dir.path().join("key-cert")).unwrap();
    let line = document(it.lockdown());
    fs::write(dir.path().join("line"), line.line()).unwrap();
    let sign = ["-q", "-Y", "sign", "-n", "ssh-access-lockdown", "-f", "key-cert.pub", "line"];
    assert!(Command::new("ssh-keygen").args(sign).current_dir(dir.path()).status().unwrap().success());
    let armored = fs::read_to_string(dir.path().join("line.sig")).unwrap();
    let read = signature::read(&armored).and_then(|read| read.verify(line.namespace(), line.line()));
    assert!(read.is_err(), "{read:?}");
    let certificate = fs::read_to_string(dir.path().join("key-cert.pub")).unwrap();
    assert!(matches!(certificate.trim_end().parse::<Key>(), Err(KeyError::Type(_))));
}

#[test]
fn the_page_names_every_type_bound_and_error() {
    for kind in Kind::ALL {
        assert!(PAGE.contains(&format!("`{kind}`")), "{kind}");
        assert!(PAGE.contains(Namespace::Of(kind).as_str()), "{kind}");
    }
    for word in [Wait::WORDS, Refusal::WORDS, Ended::WORDS].concat() {
        assert!(PAGE.contains(&format!("| `{word}` |")), "{word}");
    }
    for (name, bound) in [
        ("MAX_ROSTER", MAX_ROSTER),
        ("MAX_DOCUMENT", MAX_DOCUMENT),
        ("MAX_SIGNATURES", MAX_SIGNATURES),
        ("MAX_SIGNATURE", MAX_SIGNATURE),
        ("MAX_REASON", MAX_REASON),
        ("MAX_ARN", MAX_ARN),
        ("MAX_GRANT_KEYS", MAX_GRANT_KEYS),
        ("MAX_FROM", MAX_FROM),
        ("MAX_AFTER", MAX_AFTER),
        ("MAX_PEOPLE", roster::MAX_PEOPLE),
        ("MAX_PERSON_KEYS", roster::MAX_PERSON_KEYS),
        ("MAX_APPROVERS", roster::MAX_APPROVERS),
        ("MAX_RULES", roster::MAX_RULES),
        ("MAX_AUTOMATIC_AHEAD", judge::MAX_AUTOMATIC_AHEAD as usize),
        ("MAX_FEEDERS", roster::MAX_FEEDERS),
        ("MAX_ROSTER_HOLDS", roster::MAX_ROSTER_HOLDS),
        ("MAX_RUN_HOLDS", MAX_RUN_HOLDS),
        ("MAX_REMEMBERED", MAX_REMEMBERED),
        ("MAX_REVOKES", judge::MAX_REVOKES),
        ("MAX_LOCKDOWNS", judge::MAX_LOCKDOWNS),
        ("MAX_HOLDS", MAX_HOLDS),
        ("MAX_FEEDER_HOLDS", MAX_FEEDER_HOLDS),
        ("MAX_SPENT", judge::MAX_SPENT),
        ("MAX_HELD_KEYS", judge::MAX_HELD_KEYS),
        ("MAX_ROSTER_KEYS", MAX_ROSTER_KEYS),
        ("MAX_DENY_KEYS", MAX_DENY_KEYS),
    ] {
        assert!(PAGE.contains(&format!("| `{name}` | {bound} |")), "| `{name}` | {bound} |");
    }
}
