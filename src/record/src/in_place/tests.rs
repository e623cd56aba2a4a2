use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha512};
use ssh_key::{
    PrivateKey,
    private::{Ed25519Keypair, KeypairData},
};

use super::*;
use crate::{ArtifactType, Draft, Position, line::canonical, seal};

fn key() -> PrivateKey {
    PrivateKey::new(KeypairData::Ed25519(Ed25519Keypair::from_seed(&[7; 32])), "").unwrap()
}

/// A true record's line, without its newline.
fn record(detail: Map<String, Value>) -> String {
    let mut draft = Draft::new(ArtifactType::SessionOpened, "frank \"logged\" in \\ to übuntu");
    draft.detail = detail;
    draft.person = Some("frank".parse().unwrap());
    draft.account = Some("ub\\untu\"x".parse().unwrap());
    let at = Position {
        ledger: &"0123456789abcdef0123456789abcdef".parse().unwrap(),
        seq: 7,
        host: &"i-0123".parse().unwrap(),
        stack: &"web".parse().unwrap(),
        boot: "7b5f3f6e",
        time: Timestamp::from_microsecond(1_800_000_000_123_456).unwrap(),
        prev: Hash::ZERO,
    };
    let line = seal(&draft.bodies().unwrap()[0], &at, &key()).unwrap();
    line.as_str().trim_end().to_owned()
}

/// The one thing that has to hold of any bytes: both readers say the same.
fn both_agree(line: &[u8]) -> Result<(), TestCaseError> {
    let (careful, fast) = (Record::parse(line), InPlace::read(line));
    prop_assert_eq!(careful.is_ok(), fast.is_some(), "{:?}: {}", careful.err(), String::from_utf8_lossy(line));
    let (Ok(careful), Some(fast)) = (careful, fast) else { return Ok(()) };
    prop_assert_eq!(careful.seq(), fast.seq());
    prop_assert_eq!(careful.ledger().as_str(), fast.ledger());
    prop_assert_eq!(careful.host().as_str(), fast.host());
    prop_assert_eq!(careful.text("stack"), Some(fast.stack()));
    prop_assert_eq!(careful.time(), fast.time());
    prop_assert_eq!(careful.prev(), fast.prev());
    prop_assert_eq!(careful.hash(), fast.hash());
    prop_assert_eq!(careful.type_word(), &*fast.type_word());
    for (name, value) in [("person", fast.person()), ("account", fast.account()), ("fingerprint", fast.fingerprint())] {
        prop_assert_eq!(careful.text(name), value.as_deref());
    }
    let detail = fast.detail().map(|d| serde_json::from_str::<Value>(d).unwrap());
    prop_assert_eq!(careful.fields().get("detail"), detail.as_ref());
    let mut message = careful.fields().clone();
    message.remove("signature");
    prop_assert_eq!(<[u8; 64]>::from(Sha512::digest(canonical(&message))), fast.message_digest());
    Ok(())
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-(1i64 << 54)..1 << 54).prop_map(Value::from),
        (-20i64..20).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,6}".prop_map(Value::from),
        "(\\\\|x|0|f|\u{7f}|\n|\u{202e}|\u{10FF90}|é|cut:|\"|7|/){0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec(("[a-z0-9_]{1,3}|[A-Z é]{0,2}", inner), 0..4)
                .prop_map(|all| Value::Object(all.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 200 } else { 20_000 }))]

    #[test]
    fn any_bytes_in_place_of_some_are_judged_alike(at in any::<prop::sample::Index>(), cut in 0usize..6, put in "[\\x00-\\xff]{0,4}") {
        let line = record(json!({"a": [1, "x"], "b": {"c": true}}).as_object().unwrap().clone());
        let mut bytes = line.into_bytes();
        let from = at.index(bytes.len());
        let to = (from + cut).min(bytes.len());
        bytes.splice(from..to, put.bytes());
        both_agree(&bytes)?;
    }

    #[test]
    fn any_field_and_any_value_is_judged_alike(name in "a|detail|person|account|seq|v|time|type|zz|signature|boot|A|", value in value()) {
        let line = record(Map::new());
        let mut fields: Map<String, Value> = serde_json::from_str(&line).unwrap();
        fields.insert(name, value);
        both_agree(canonical(&fields).as_bytes())?;
        both_agree(Value::Object(fields).to_string().as_bytes())?;
    }

    #[test]
    fn any_time_is_judged_alike(time in "[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9](\\.[0-9]{5,7})?(Z|z|\\+00:00)") {
        let line = record(Map::new()).replace("2027-01-15T08:00:00.123456Z", &time);
        both_agree(line.as_bytes())?;
    }

    #[test]
    fn text_that_ends_in_half_an_escape_is_judged_alike(text in "(\\\\|x|a1|0|cut:|5|\"|b){0,10}") {
        let detail = format!("\"detail\":{{\"t\":{}}}", Value::from(text));
        let line = record(json!({"t": 1}).as_object().unwrap().clone()).replace("\"detail\":{\"t\":1}", &detail);
        both_agree(line.as_bytes())?;
    }

    #[test]
    fn any_signature_text_is_judged_alike(text in "(\n|\t|\u{0}|\u{1f}|\u{7f}|\"|\\\\|é|\u{8}|\u{c}|\r|/|A){0,8}") {
        let mut fields: Map<String, Value> = serde_json::from_str(&record(Map::new())).unwrap();
        fields.insert("signature".to_owned(), text.into());
        let line = canonical(&fields);
        both_agree(line.as_bytes())?;
        both_agree(line.replace("\\n", "\\u000a").as_bytes())?;
        both_agree(line.replace("\\u001f", "\\u001F").as_bytes())?;
    }
}

#[test]
fn nesting_is_bounded_alike() {
    for depth in [1, 125, 126, 127, 128, 1000] {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let inside = format!("{}1{}", open.repeat(depth), close.repeat(depth));
            let line = record(json!({"t": 1}).as_object().unwrap().clone())
                .replace("\"detail\":{\"t\":1}", &format!("\"detail\":{inside}"));
            both_agree(line.as_bytes()).unwrap();
        }
    }
}

#[test]
fn a_missing_or_doubled_field_is_judged_alike() {
    let fields: Map<String, Value> = serde_json::from_str(&record(Map::new())).unwrap();
    for name in fields.keys() {
        let mut less = fields.clone();
        less.remove(name);
        both_agree(canonical(&less).as_bytes()).unwrap();
        let text = canonical(&fields);
        let doubled = text.replacen('{', &format!("{{\"{name}\":{},", fields[name]), 1);
        both_agree(doubled.as_bytes()).unwrap();
    }
    both_agree(b"{}").unwrap();
    both_agree(b"").unwrap();
    both_agree(b"{\"signature\":\"\"}").unwrap();
    both_agree(&vec![b'{'; MAX_LINE]).unwrap();
}

#[test]
fn what_it_cannot_take_is_explained_as_the_careful_reader_does() {
    let line = record(Map::new());
    for bad in [line.replace("\"v\":1", "\"v\":2"), format!("{line} "), line.replace("\"web\"", "null")] {
        assert_eq!(InPlace::parse(bad.as_bytes()).unwrap_err(), Record::parse(bad.as_bytes()).unwrap_err());
    }
    assert_eq!(InPlace::parse(line.as_bytes()).unwrap().to_record(), Record::parse(line.as_bytes()).unwrap());
}
