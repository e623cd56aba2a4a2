use record::Person;
use serde_json::{Value, json};
use ssh_key::{HashAlg, PrivateKey, SshSig, private::Ed25519Keypair};

use super::*;
use crate::{
    machine::{Around, Moment as CoreMoment},
    policy::{
        grant::Grant,
        test_grants::{grant, now},
    },
    sessions::Sessions,
};

fn key(seed: u8) -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]))
}

fn public(key: &PrivateKey) -> String {
    key.public_key().to_openssh().expect("it can be written").trim().to_owned()
}

/// Frank is of the configuration; IAM's key feeds, and may sign what changes its own people alone.
fn core(ceo: &PrivateKey, iam: &PrivateKey) -> Core {
    let text = format!(
        "mode = \"enforce\"\n[accounts]\nno_exempt = true\n[[person]]\nname = \"frank\"\nkeys = [\"{}\"]\naccounts = [\"frank\"]\n\
         [stack]\norganization = \"acme\"\n[stack.roster]\nautomatic = [\"{}\"]\n[[stack.roster.key]]\nperson = \"ceo\"\nkey = \"{}\"\n",
        public(&key(9)),
        public(iam),
        public(ceo)
    );
    let config = Config::parse(&[("c.toml", &text)]).expect("good");
    let moment = CoreMoment { now: now(), random: 1 };
    let mut core = Core::new(config, Around::default(), "boot".to_owned(), Sessions::default(), moment);
    core.take_up_documents(DocumentsRead::default(), &Default::default(), "web-1".parse().expect("a name"), now());
    core
}

fn roster(version: u64, people: &[Value], feeder: &PrivateKey, by: &PrivateKey) -> Envelope {
    let line = json!({
        "approvers": [], "expires_at": "2027-11-30T18:00:00Z", "feeders": [{ "key": public(feeder), "source": "iam" }], "holds": [],
        "issued_at": document::Moment::of(now().wall).to_string(), "organization": "acme", "people": people, "rules": [],
        "type": "roster", "v": 1, "version": version,
    });
    let line = line.to_string();
    let signature = SshSig::sign(by, "ssh-access-roster", HashAlg::Sha512, line.as_bytes()).expect("signed");
    let signature = record::write_armored(&signature).expect("written");
    Envelope::new(document::Document::parse(&line).expect("a document"), vec![signature]).expect("few")
}

fn member(name: &str, seed: u8, accounts: &[&str]) -> Value {
    json!({ "accounts": { "*": accounts }, "keys": [public(&key(seed))], "name": name, "source": "iam" })
}

#[test]
fn an_automatic_keys_people_make_no_account_shared_nor_root_wanted_until_they_hold_a_grant_there() {
    let (ceo, iam) = (key(2), key(3));
    let mut core = core(&ceo, &iam);
    let take = |core: &mut Core, envelope: Envelope| {
        let became = core.judge_document(&envelope, None, now());
        assert!(matches!(became, Became::Done(ApplyOutcome::Accepted, _)), "{became:?}");
    };
    let named = |core: &Core, text: &str| core.documents.others(&text.parse().expect("an account"), &frank());
    let gives = |core: &Core, text: &str| core.documents.gives(&text.parse().expect("an account"));
    let grace = member("grace", 4, &["deploy"]);
    take(&mut core, roster(1, std::slice::from_ref(&grace), &iam, &ceo));
    assert!(named(&core, "deploy"), "the threshold signed that");
    take(&mut core, roster(2, &[grace, member("mallory", 5, &["frank", "root"])], &iam, &iam));
    assert!(named(&core, "deploy") && !named(&core, "frank") && !gives(&core, "root"));
    assert!(!core.ways_question().root_is_wanted);
    assert!(core.documents.named().any(|account| account.as_str() == "root"), "the name service may have it");
    // By a grant they are there.
    let held = Grant { person: "mallory".parse().expect("a name"), ..grant(1, "mallory", "root") };
    core.grants.add(held).expect("there is room");
    assert!(core.ways_question().root_is_wanted);
    // So are they by what the threshold signed.
    take(&mut core, roster(3, &[member("mallory", 5, &["frank", "root"])], &iam, &ceo));
    assert!(named(&core, "frank") && gives(&core, "root"));
}

fn frank() -> Person {
    "frank".parse().expect("a name")
}
