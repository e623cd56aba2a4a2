use std::{fs, process::Command};

use ssh_key::{HashAlg, LineEnding, PrivateKey, private::Ed25519Keypair};

use super::*;

const UNSIGNED: &str = r#"{"findings":"one login by an account nobody knew; closed as INC-7","from":"2026-10-01T00:00:00Z","person":"alice","stack":"web","statement":"I read every session and refusal of October","time":"2026-11-02T09:00:00Z","to":"2026-11-01T00:00:00Z","v":1}"#;

fn now() -> Timestamp {
    "2026-11-02T10:00:00Z".parse().unwrap()
}

fn key(seed: u8) -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]))
}

fn with_signature(unsigned: &str, armored: &str) -> Vec<u8> {
    let mut fields: Map<String, Value> = serde_json::from_str(unsigned).unwrap();
    fields.insert("signature".to_owned(), armored.into());
    canonical(&fields).unwrap().into_bytes()
}

fn signed(unsigned: &str, key: &PrivateKey) -> Vec<u8> {
    let sig = key.sign(NAMESPACE, HashAlg::Sha512, unsigned.as_bytes()).unwrap();
    with_signature(unsigned, &sig.to_pem(LineEnding::LF).unwrap())
}

fn read(data: &[u8], keys: &[PublicKey]) -> Result<Review, ReviewError> {
    Review::parse_and_verify(data, &"alice".parse().unwrap(), keys, now())
}

#[test]
fn a_review_by_a_registered_key_holds() {
    let keys = [key(1).public_key().clone(), key(2).public_key().clone()];
    let review = read(&signed(UNSIGNED, &key(2)), &keys).unwrap();
    assert_eq!((review.from.to_string().as_str(), review.stack.unwrap().as_str()), ("2026-10-01T00:00:00Z", "web"));
    assert_eq!(review.key, keys[1]);
}

#[test]
fn ssh_keygen_makes_a_signature_that_holds() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let run = |program: &str, args: &[&str]| {
        let done = Command::new(program).args(args).current_dir(dir.path()).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", "id"]);
    fs::write(path("review.json"), UNSIGNED).unwrap();
    run("ssh-keygen", &["-q", "-Y", "sign", "-f", "id", "-n", NAMESPACE, "review.json"]);
    let armored = fs::read_to_string(path("review.json.sig")).unwrap();
    let public = PublicKey::from_openssh(&fs::read_to_string(path("id.pub")).unwrap()).unwrap();
    assert!(read(&with_signature(UNSIGNED, &armored), &[public]).is_ok());
}

#[test]
fn a_review_by_nobody_or_somebody_elses_key_or_namespace_is_refused() {
    let alice = "alice".parse().unwrap();
    let keys = [key(1).public_key().clone()];
    let not_authentic = Err(ReviewError::NotAuthentic { person: alice });
    assert_eq!(read(&signed(UNSIGNED, &key(2)), &keys), not_authentic);
    assert_eq!(read(&signed(UNSIGNED, &key(1)), &[]), not_authentic);
    let sig = key(1).sign("file", HashAlg::Sha512, UNSIGNED.as_bytes()).unwrap();
    assert_eq!(read(&with_signature(UNSIGNED, &sig.to_pem(LineEnding::LF).unwrap()), &keys), not_authentic);
    let changed = String::from_utf8(signed(UNSIGNED, &key(1))).unwrap().replace("\"web\"", "\"web2\"");
    assert_eq!(read(changed.as_bytes(), &keys), not_authentic);
}

#[test]
fn what_is_no_review_is_refused_with_what_would_do() {
    let keys = [key(1).public_key().clone()];
    for (from, to, why) in [
        ("\"v\":1", "\"v\":2", "\"v\" has to be 1"),
        ("\"v\":1", "\"v\":1,\"x\":1", "no member \"x\""),
        ("2026-10-01T00:00:00Z", "2026-12-01T00:00:00Z", "has to be before"),
        ("2026-10-01T00:00:00Z", "2026-10-01T00:00:00+01:00", "in UTC"),
        ("\"2026-11-01T00:00:00Z\"", "7", "has to be a string"),
        ("\"time\":\"2026-11-02T09", "\"time\":\"2027-11-02T09", "in the future"),
        ("I read", "I\\nread", "no line break"),
        ("I read", "I \u{202e}read", "no invisible character"),
        ("\"alice\"", "\"../alice\"", "is not a valid person"),
        ("\"stack\":\"web\",", "\"stack\":\"\",", "is not a valid stack"),
        ("I read every session and refusal of October", " ", "1 to 2048 bytes"),
    ] {
        let text = UNSIGNED.replace(from, to);
        assert_ne!(text, UNSIGNED);
        let error = read(&signed(&text, &key(1)), &keys).unwrap_err().to_string();
        assert!(error.contains(why), "{text}\n{error}");
    }
    let spaced = String::from_utf8(signed(UNSIGNED, &key(1))).unwrap().replace("\"v\":1", "\"v\": 1");
    assert!(read(spaced.as_bytes(), &keys).unwrap_err().to_string().contains("canonical"));
    let bob = UNSIGNED.replace("\"alice\"", "\"bob\"");
    assert_eq!(read(&signed(&bob, &key(1)), &keys), Err(ReviewError::OtherPerson { found: "bob".parse().unwrap() }));
}

#[test]
fn only_keys_that_can_be_verified_are_registered() {
    assert_eq!(check_key(key(1).public_key()), Ok(()));
    let made = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBGsX0fLhLEJH+Lzm5WOkQPJ3A32BLeszoPShOUXYmMKWT+NC4v4af5uO5+tKfA+eFivOM1drMV7Oy7ZAaDe/UfU=";
    let other = PublicKey::from_openssh(made).unwrap();
    assert!(check_key(&other).unwrap_err().contains("ssh-keygen -t ed25519"));
}
