//! Rows about single signatures.

use crate::common::{
    keys::{TOUCHED, UNLOCKED},
    *,
};
use document::{signature::read, *};
use ssh_key::HashAlg;

const GRANT: Namespace = Namespace::Of(Kind::Grant);

fn verified(armored: &str, line: &str) -> Result<Valid, Invalid> {
    read(armored)?.verify(GRANT, line)
}

#[test]
fn flags_of_sk_signatures_touch_always_and_pin_where_approve_with_says_so() {
    let it = company();
    let line = document(it.grant());
    for device in [&it.alice, &it.alice_spare] {
        for (flags, unlocked) in [(TOUCHED, false), (TOUCHED | UNLOCKED, true), (TOUCHED | 0x80, false)] {
            let valid = verified(&device.with_flags(flags).sign(GRANT, line.line()), line.line()).unwrap();
            assert_eq!(valid.device, Some(Device { unlocked, counter: 7 }));
        }
        for flags in [0, UNLOCKED, 0x80] {
            let armored = device.with_flags(flags).sign(GRANT, line.line());
            assert_eq!(verified(&armored, line.line()), Err(Invalid::NotTouched));
        }
    }
    let judged = |grant: &Grant, by: &[&Signing]| it.judge().judge(&signed(grant.clone(), by), noon());
    let untouched = refusal(judged(&it.grant(), &[&it.alice, &it.bob.with_flags(UNLOCKED)]));
    assert!(matches!(untouched, Refusal::Approvals { counted: 1, .. }));
    terms(judged(&it.grant(), &[&it.alice, &it.bob.with_flags(TOUCHED)]));
    let deploy = Grant { account: w("deploy"), ..it.grant() };
    let no_pin = refusal(judged(&deploy, &[&it.alice.with_flags(TOUCHED)]));
    assert!(matches!(no_pin, Refusal::Approvals { counted: 0, with: ApproveWith::HardwarePin, .. }));
    terms(judged(&deploy, &[&it.alice]));
}

#[test]
fn a_signature_holds_over_these_bytes_for_this_purpose_and_no_others() {
    let it = company();
    let line = document(it.grant());
    for key in [&it.ceo, &it.alice, &it.alice_spare] {
        let armored = key.sign(GRANT, line.line());
        assert_eq!(verified(&armored, line.line()).unwrap().fingerprint, key.fingerprint());
        assert_eq!(verified(&armored, &format!("{}\n", line.line())), Err(Invalid::DoesNotHold));
        let other = read(&armored).unwrap().verify(Namespace::Request, line.line());
        assert!(matches!(other, Err(Invalid::Namespace { .. })));
        let weaker = key.sign_in(GRANT.as_str(), HashAlg::Sha256, line.line());
        assert_eq!(verified(&weaker, line.line()), Err(Invalid::Algorithm));
        for spelt in
            [armored.replace('\n', "\r\n"), armored.trim_end().to_owned(), format!(" {armored}"), String::new()]
        {
            assert_eq!(verified(&spelt, line.line()), Err(Invalid::NotSshsig), "{spelt}");
        }
    }
    let long = "x".repeat(MAX_SIGNATURE + 1);
    assert_eq!(verified(&long, line.line()), Err(Invalid::TooLong(MAX_SIGNATURE + 1)));
}

#[test]
fn no_changed_byte_of_a_devices_signature_holds() {
    let it = company();
    let line = document(it.grant());
    for key in [&it.alice, &it.alice_spare] {
        let armored = key.sign(GRANT, line.line());
        for at in 0..armored.len() {
            let mut bytes = armored.clone().into_bytes();
            bytes[at] ^= 1;
            let Ok(text) = String::from_utf8(bytes) else { continue };
            assert!(verified(&text, line.line()).is_err(), "byte {at}");
        }
    }
}

#[test]
fn a_devices_key_for_another_application_signs_nothing() {
    let it = company();
    let line = document(it.grant());
    for key in [&it.alice, &it.alice_spare] {
        let other = key.with_application("ssh:other");
        assert!(matches!(other.key().signs(), Err(Unfit::Application(_))));
        let armored = other.sign(GRANT, line.line());
        assert!(matches!(verified(&armored, line.line()), Err(Invalid::Unfit(Unfit::Application(_)))));
        let mut roster = it.roster();
        roster.approvers[0].keys = [other.key()].into();
        assert!(Document::new(roster).unwrap_err().to_string().contains("application"));
    }
}

#[test]
fn a_reserved_field_with_something_in_it_is_no_signature() {
    use base64ct::{Base64, Encoding as _};
    let it = company();
    let line = document(it.grant());
    let armored = it.ceo.sign(GRANT, line.line());
    let base64: String = armored.lines().filter(|text| !text.starts_with('-')).collect();
    let blob = Base64::decode_vec(&base64).unwrap();
    let namespace = GRANT.as_str().as_bytes();
    let at = blob.windows(namespace.len()).position(|window| window == namespace).unwrap() + namespace.len();
    let reserved = [&blob[..at], &[0, 0, 0, 1, b'x'], &blob[at + 4..]].concat();
    let text = Base64::encode_string(&reserved);
    let lines: Vec<&str> = text.as_bytes().chunks(70).map(|line| std::str::from_utf8(line).unwrap()).collect();
    let armored = format!("-----BEGIN SSH SIGNATURE-----\n{}\n-----END SSH SIGNATURE-----\n", lines.join("\n"));
    assert_eq!(verified(&armored, line.line()), Err(Invalid::NotSshsig));
}

#[test]
fn what_is_invalid_unknown_or_repeated_is_not_counted_and_no_ground_for_refusal() {
    let it = company();
    let line = document(it.grant());
    let good = |key: &Signing| key.sign(GRANT, line.line());
    let mut signatures = vec![
        "junk".to_owned(),
        "x".repeat(MAX_SIGNATURE + 1),
        good(&it.stranger),
        it.bob.sign(Namespace::Request, line.line()),
        it.alice.sign(GRANT, "something else"),
        good(&it.alice),
        good(&it.alice),
        good(&it.frank_approves),
    ];
    let judged =
        |signatures: &[String]| it.judge().judge(&Envelope::new(line.clone(), signatures.to_vec()).unwrap(), noon());
    assert!(matches!(refusal(judged(&signatures)), Refusal::Approvals { counted: 1, .. }));
    signatures.push(good(&it.bob));
    assert_eq!(terms(judged(&signatures)).approvers.len(), 2);
    let many = vec![good(&it.alice); MAX_SIGNATURES + 1];
    assert_eq!(Envelope::new(line.clone(), many.clone()), Err(Malformed::TooManySignatures(17)));
    let json = serde_json::json!({ "document": line.line(), "signatures": many }).to_string();
    assert!(Envelope::parse(json.as_bytes()).unwrap_err().to_string().contains("more than 16 signatures"));
}
