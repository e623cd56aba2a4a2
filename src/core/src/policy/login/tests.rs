use proptest::prelude::*;

use super::*;
use crate::{
    keys::{
        person::PersonKey,
        test_keys::{CERTIFICATE, ED25519, ED25519_FINGERPRINT, P256, RSA, RSA_FINGERPRINT, SK_ED25519},
    },
    policy::{
        grant::EndCause,
        test_grants::{ended, grant, id, lasts, later, now},
    },
};

#[test]
fn a_connection_made_on_this_host_is_its_makers_alone() {
    let person = |name: &str| -> Person { name.parse().expect("a name") };
    let admitted = Admitted {
        person: person("frank"),
        grant: "g-0123456789abcdef".parse().expect("an id"),
        fingerprint: ED25519_FINGERPRINT.parse().expect("a fingerprint"),
    };
    let judged = |behind: &[Behind]| judge_client(admitted.clone(), Ok(behind)).map_err(|why| why.word());
    let [own, other] = ["frank", "grace"].map(|name| Behind::Person(person(name), None));
    assert_eq!(judged(&[own.clone(), Behind::NobodyElse]), Ok(admitted.clone()));
    assert_eq!(judged(&[]), Err("unknown_client"));
    let too_long = judge_client(admitted.clone(), Err(NotFound::TooLong)).map_err(|why| why.to_string());
    assert!(too_long.is_err_and(|why| why.ends_with("was not found: looking through the processes took too long")));
    for theirs in [other, Behind::Several] {
        assert_eq!(judged(&[own.clone(), theirs]), Err("through_session"), "one of several is enough");
    }
}
/// frank has the Ed25519 key, grace the RSA key.
fn people() -> BTreeMap<Fingerprint, Person> {
    [(ED25519_FINGERPRINT, "frank"), (RSA_FINGERPRINT, "grace")]
        .map(|(key, name)| (key.parse().expect("a fingerprint"), name.parse().expect("a person")))
        .into()
}

fn session(auth_info: &str, address: Option<&str>, uid: Option<u32>, grants: &[Grant]) -> Result<u64, String> {
    let account = "ubuntu".parse().expect("an account");
    let address = address.map(|text| text.parse().expect("an address"));
    let attempt = Attempt { account: &account, uid, auth_info, demand: Demand::default(), address };
    let admitted = judge_session(&attempt, &people(), grants, now()).map_err(|why| why.word().to_owned())?;
    Ok(u64::from_str_radix(&admitted.grant.as_str()[2..], 16).expect("hex"))
}

#[test]
fn only_an_active_grant_of_this_person_on_this_very_account_lets_in() {
    let frank = format!("publickey {ED25519}\n");
    let good = || grant(1, "frank", "ubuntu");
    let refused = [
        ("no grant", vec![]),
        ("another person's", vec![grant(1, "grace", "ubuntu")]),
        ("another account's", vec![grant(1, "frank", "frank")]),
        ("one of the account before it was made anew", vec![Grant { uid: 1_001, ..good() }]),
        ("one that is not on record", vec![Grant { recorded: false, ..good() }]),
        ("one that begins later", vec![Grant { starts_at: later(1).wall, ..good() }]),
        ("one that was revoked", vec![ended(good(), EndCause::Revoked, true)]),
        ("one whose time is over", vec![Grant { ends: lasts(0), ..good() }]),
    ];
    for (what, grants) in refused {
        assert_eq!(session(&frank, None, Some(1_000), &grants), Err("no_grant_for_person".to_owned()), "{what}");
    }
    assert_eq!(session(&frank, None, Some(1_000), &[good()]), Ok(1));
    assert_eq!(session(&frank, None, None, &[good()]), Err("unknown_account".to_owned()));
}

#[test]
fn what_an_account_requires_is_asked_of_every_key_and_of_the_methods() {
    let (account, grants) = ("ubuntu".parse().expect("an account"), [grant(1, "frank", "ubuntu")]);
    let sk = PersonKey::parse(SK_ED25519).expect("a key").fingerprint();
    let people: BTreeMap<Fingerprint, Person> =
        [ED25519_FINGERPRINT.parse().expect("one"), sk].map(|key| (key, "frank".parse().expect("a person"))).into();
    let login = |auth_info: &str, hardware: bool, second_method: bool| {
        let demand = Demand { hardware, second_method, pin: false };
        let attempt = Attempt { account: &account, uid: Some(1_000), auth_info, demand, address: None };
        judge_session(&attempt, &people, &grants, now()).map_or_else(|why| why.word(), |_| "in")
    };
    let (plain, device) = (format!("publickey {ED25519}\n"), format!("publickey {SK_ED25519}\n"));
    let code = "keyboard-interactive/pam\n";
    for (auth_info, hardware, second, answer) in [
        (plain.clone(), false, false, "in"),
        (plain.clone(), true, false, "not_hardware"),
        (device.clone(), true, false, "in"),
        (format!("{plain}{device}"), true, false, "not_hardware"),
        (device.clone(), true, true, "no_second_method"),
        (format!("{device}{code}"), true, true, "in"),
        (format!("{code}{device}"), true, true, "in"),
        (format!("{plain}{code}"), true, true, "not_hardware"),
        (plain.clone(), false, true, "no_second_method"),
        (format!("{plain}password\n"), false, true, "no_second_method"),
        (format!("{plain}{device}"), false, true, "no_second_method"),
        (format!("{plain}{code}"), false, true, "in"),
        (code.to_owned(), false, true, "not_one_plain_key"),
    ] {
        assert_eq!(login(&auth_info, hardware, second), answer, "{auth_info} {hardware} {second}");
    }
}

#[test]
fn what_sshd_verified_is_plain_keys_of_somebody() {
    let grants = [grant(1, "frank", "ubuntu")];
    let login = |auth_info: &str| session(auth_info, None, Some(1_000), &grants);
    assert_eq!(login(&format!("publickey {ED25519}\npassword\n")), Ok(1));
    assert_eq!(login(&format!("publickey {RSA}\n")), Err("no_grant_for_person".to_owned()), "it is grace's");
    assert_eq!(login(&format!("publickey {P256}\n")), Err("unknown_key".to_owned()));
    let both = format!("publickey {ED25519}\npublickey {RSA}\n");
    for doubtful in ["", "password\n", &both, &format!("publickey {CERTIFICATE}\n"), "publickey nonsense\n"] {
        assert_eq!(login(doubtful), Err("not_one_plain_key".to_owned()), "{doubtful:?}");
    }
}

#[test]
fn several_keys_let_in_where_they_are_one_persons() {
    let grants = [grant(1, "frank", "ubuntu")];
    let account = "ubuntu".parse().expect("an account");
    let mut people = people();
    let auth_info = format!("publickey {RSA}\npublickey {ED25519}\n");
    let attempt = Attempt {
        account: &account,
        uid: Some(1_000),
        auth_info: &auth_info,
        demand: Demand::default(),
        address: None,
    };
    let several = Refused::NotOnePlainKey(auth_info::Why::SeveralPeople);
    assert_eq!(judge_session(&attempt, &people, &grants, now()), Err(several));
    people.insert(RSA_FINGERPRINT.parse().expect("a fingerprint"), "frank".parse().expect("a person"));
    let admitted = judge_session(&attempt, &people, &grants, now()).expect("both are frank's");
    assert_eq!(admitted.fingerprint.as_str(), ED25519_FINGERPRINT, "the last, as in sshd's log");
}

#[test]
fn the_grant_that_ends_last_carries_the_session_and_from_is_kept() {
    let frank = format!("publickey {ED25519}\n");
    let from = |range: &str| vec![range.parse().expect("a range")];
    let longer = lasts(7_200);
    let anywhere = grant(1, "frank", "ubuntu");
    let office = Grant { from: from("10.1.0.0/16"), ends: longer, ..grant(2, "frank", "ubuntu") };
    let both = [anywhere, office.clone()];
    assert_eq!(session(&frank, Some("10.1.2.3"), Some(1_000), &both), Ok(2));
    assert_eq!(session(&frank, Some("10.2.2.3"), Some(1_000), &both), Ok(1));
    for unknown in [Some("10.2.2.3"), Some("::1"), None] {
        let refused = session(&frank, unknown, Some(1_000), std::slice::from_ref(&office));
        assert_eq!(refused, Err("other_address".to_owned()), "{unknown:?}");
    }
}

#[test]
fn the_account_step_asks_for_anybodys_active_grant_on_the_account() {
    let account = "ubuntu".parse().expect("an account");
    let judge = |uid, grants: &[Grant], now| judge_account(&account, uid, grants, now);
    let grants = [grant(1, "frank", "ubuntu"), grant(2, "grace", "frank")];
    assert_eq!(judge(Some(1_000), &grants, now()), Ok(()));
    assert_eq!(judge(Some(1_000), &grants, later(3_599)), Ok(()));
    assert_eq!(judge(Some(1_000), &grants, later(3_600)), Err(Refused::NoGrantOnAccount));
    assert_eq!(judge(Some(1_001), &grants, now()), Err(Refused::NoGrantOnAccount));
    assert_eq!(judge(Some(1_000), &grants[1..], now()), Err(Refused::NoGrantOnAccount));
    assert_eq!(judge(None, &grants, now()), Err(Refused::UnknownAccount));
}

proptest! {
    #[test]
    fn whoever_passes_the_session_step_would_pass_the_account_step(
        owners in prop::collection::vec((prop::bool::ANY, prop::bool::ANY, 999u32..1_002, 0u64..7_200), 0..6),
        at in 0u64..7_200,
    ) {
        let grants: Vec<Grant> = owners.iter().zip(1..).map(|((frank, ubuntu, uid, span), number)| {
            let (person, account) = (if *frank { "frank" } else { "grace" }, if *ubuntu { "ubuntu" } else { "root" });
            let ends = lasts(*span);
            Grant { uid: *uid, ends, ..grant(number, person, account) }
        }).collect();
        let account = "ubuntu".parse().expect("an account");
        let auth_info = format!("publickey {ED25519}");
        let attempt = Attempt { account: &account, uid: Some(1_000), auth_info: &auth_info, demand: Demand::default(), address: None };
        let admitted = judge_session(&attempt, &people(), &grants, later(at));
        let expected = owners.iter().any(|(frank, ubuntu, uid, span)| *frank && *ubuntu && *uid == 1_000 && *span > at);
        prop_assert_eq!(admitted.is_ok(), expected);
        if let Ok(admitted) = admitted {
            prop_assert!(judge_account(&account, Some(1_000), &grants, later(at)).is_ok());
            let grant = grants.iter().find(|grant| grant.id == admitted.grant).expect("one of them");
            prop_assert!(grant.is_active(later(at)) && grant.id != id(0));
        }
    }
}
