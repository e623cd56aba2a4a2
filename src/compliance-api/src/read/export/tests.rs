//! Every type of artifact in both forms. The samples are shared with tests/exports, which holds what the API makes of them against
//! the published schemas.

use std::{collections::BTreeSet, str::FromStr};

use record::{ArtifactType, Body, Draft, Hash, Line, Position, seal};
use serde_json::{Map, json, value::RawValue};
use ssh_key::{Algorithm, PrivateKey, rand_core::OsRng};

use super::*;
use crate::{moment::Moment, own_ledger::Word};

#[path = "../../../../../tests/tests/elastic/template.rs"]
mod template;

const SAMPLES: &str = include_str!("../../../../../tests/data/records.json");
const CLASSES: &str = include_str!("../../../../../packaging/elastic/lockdownd-classes.json");
const LEDGER: &str = "00112233445566778899aabbccddeeff";

/// Type; in ECS kind, categories, types and outcome; in OCSF class, activity and status.
const TABLE: &str = "
    ledger.opened       event -                             info          success 6003  1 1
    ledger.segment      event -                             info          success 6003  1 1
    ledger.pruned       event -                             deletion      success 6003  4 1
    key.rotated         event -                             change        success 6003  3 1
    daemon.started      event process                       start         success 6003 99 1
    daemon.stopped      event process                       end           success 6003 99 1
    config.loaded       event configuration                 change        success 6003  3 1
    config.refused      event configuration                 change        failure 6003  3 2
    mode.changed        event configuration                 change        success 6003  3 1
    clock.stepped       event host                          change        success 6003  3 1
    grant.created       event iam                           user,creation success 3005  1 1
    grant.ended         event iam                           user,deletion success 3005  2 1
    lockdown            event iam                           user,deletion success 6003  4 1
    key.removed         alert file,intrusion_detection      deletion      success 6003  4 1
    removal.failed      alert file,intrusion_detection      deletion      failure 6003  4 2
    quarantine.restored event file                          creation      success 6003  1 1
    session.opened      event authentication,session        start         success 3002  1 1
    session.closed      event session                       end           success 3002  2 1
    session.terminated  event session                       end           success 3002  2 1
    session.refused     event authentication                start         failure 3002  1 2
    login.failed        event authentication                start         failure 3002  1 2
    journal.gap         event -                             error         failure 6003 99 2
    ship.dropped        event -                             error,deletion failure 6003 99 2
    sshd.changed        event configuration                 change        success 6003  3 1
    sweep.attested      state host                          info          success 6003  2 1
    emergency.login     alert authentication,session        start         success 3002  1 1
    document.accepted   event iam                           admin,change  success 6003  3 1
    document.refused    event iam                           admin,change  failure 6003  3 2
    server.started      event process                       start         success 6003 99 1
    server.stopped      event process                       end           success 6003 99 1
    server.checkpoint   state -                             info          success 6003  2 1
    backup.made         event api                           access        success 6003  2 1
    server.restored     event configuration                 change        success 6003  3 1
    token.created       event iam                           admin,creation success 6003 1 1
    token.revoked       event iam                           admin,deletion success 6003 4 1
    ledger.enrolled     event iam                           admin,creation success 6003 1 1
    ledger.approved     event iam                           admin,change  success 6003  3 1
    reviewer.added      event iam                           admin,creation success 6003 1 1
    reviewer.revoked    event iam                           admin,deletion success 6003 4 1
    evidence.read       event api                           access        success 6003  2 1
    document.published  event iam                           admin,change  success 6003  3 1
    reader.admitted     event api                           access        success 6003  1 1
    incident.opened     alert intrusion_detection           info          unknown 6003 99 1
    review.completed    event -                             info          success 6003  2 1
    app.authentication  event authentication                start         success 3002  1 1
    app.support.opened  event -                             info          unknown 6003 99 0
";

/// One artifact and both forms of it.
struct Sample {
    kind: String,
    ecs: Value,
    ocsf: Value,
    line: String,
}

fn sample(by: SourceKind, name: &str, stack: &str, kind: &str, line: &str) -> Sample {
    let source = match by {
        SourceKind::Host => format!("/stacks/{stack}/hosts/{name}"),
        SourceKind::Client => format!("/clients/{name}"),
        SourceKind::Person => format!("/people/{name}"),
        SourceKind::Server => "/server".to_owned(),
    };
    let artifact = Artifact {
        specversion: "1.0",
        id: format!("{LEDGER}/7"),
        source,
        kind,
        time: Moment("2026-11-23T12:00:00.25Z".parse().unwrap()),
        datacontenttype: "application/json",
        received: Moment("2026-11-23T12:00:01Z".parse().unwrap()),
        ledger: LEDGER,
        seq: 7,
        clockoff: false,
        pending: false,
        entry: None,
        data: serde_json::from_str::<&RawValue>(line).unwrap(),
    };
    let stated = Stated::new(by, name, stack, &artifact).unwrap();
    Sample { kind: kind.to_owned(), ecs: ecs::document(&stated), ocsf: ocsf::event(&stated), line: line.to_owned() }
}

fn sealed(body: &Body) -> Line {
    let key = PrivateKey::random(&mut OsRng, Algorithm::Ed25519).unwrap();
    let (ledger, host, stack) = (LEDGER.parse().unwrap(), "i-1".parse().unwrap(), "web".parse().unwrap());
    let at = Position {
        ledger: &ledger,
        seq: 7,
        host: &host,
        stack: &stack,
        boot: "7b5f3f6e-3c1e-4c37-8f0e-0d9f6f3a1b2c",
        time: Timestamp::from_str("2026-11-23T12:00:00.25Z").unwrap(),
        prev: Hash::ZERO,
    };
    seal(body, &at, &key).unwrap()
}

fn of_hosts() -> Vec<Sample> {
    let drafts: Vec<Draft> = serde_json::from_str(SAMPLES).unwrap();
    let one = |draft: &Draft| {
        let line = sealed(&draft.bodies().unwrap()[0]);
        sample(SourceKind::Host, "i-1", "web", draft.kind.as_str(), line.as_str().trim_end())
    };
    drafts.iter().map(one).collect()
}

fn of_the_server() -> Vec<Sample> {
    let one = |word: &Word| {
        let detail = json!({"by": {"who": "token", "token": "t1", "role": "admin", "name": "year end"}, "what": "artifacts", "heads": []});
        let detail: Map<String, Value> = detail.as_object().unwrap().clone();
        let body = Body::statement(word.as_str(), None, "it is so", &detail).unwrap();
        sample(SourceKind::Server, "server", "compliance-api", word.as_str(), sealed(&body[0]).as_str().trim_end())
    };
    Word::ALL.iter().map(one).collect()
}

fn of_others() -> Vec<Sample> {
    let login =
        r#"{"user":"u-1027","result":"accepted","address":"203.0.113.4","detail":{"count":"no number"},"actor":[1]}"#;
    let other =
        r#"{"person":"ann","n":1.5,"none":null,"empty":{},"detail":"d","host":7,"source":{"address":"nowhere"}}"#;
    let review = r#"{"person":"alice","statement":"I read it all","v":1}"#;
    vec![
        sample(SourceKind::Client, "portal", "", "app.authentication", login),
        sample(SourceKind::Client, "portal", "", "app.support.opened", other),
        sample(SourceKind::Person, "alice", "", "review.completed", review),
    ]
}

fn all() -> Vec<Sample> {
    [of_hosts(), of_the_server(), of_others()].into_iter().flatten().collect()
}

fn of(kind: &str) -> Sample {
    all().into_iter().find(|sample| sample.kind == kind).unwrap()
}

#[test]
fn every_type_has_its_class_in_both_schemas() {
    let samples = all();
    let shown: BTreeSet<&str> = samples.iter().map(|sample| sample.kind.as_str()).collect();
    for kind in ArtifactType::ALL.iter().map(|t| t.as_str()).chain(Word::ALL.iter().map(|w| w.as_str())) {
        assert!(shown.contains(kind), "no sample of {kind}");
    }
    for sample in samples {
        let row = TABLE.lines().find(|row| row.split_whitespace().next() == Some(&sample.kind));
        let row: Vec<&str> = row.unwrap_or_else(|| panic!("no row for {}", sample.kind)).split_whitespace().collect();
        let event = &sample.ecs["event"];
        let words = |value: &Value| {
            let words = value.as_array().into_iter().flatten().map(|word| word.as_str().unwrap());
            Some(words.collect::<Vec<_>>().join(",")).filter(|text| !text.is_empty()).unwrap_or("-".to_owned())
        };
        let ecs = [
            event["kind"].as_str().unwrap().to_owned(),
            words(&event["category"]),
            words(&event["type"]),
            event["outcome"].as_str().unwrap().to_owned(),
        ];
        assert_eq!(ecs, [row[1], row[2], row[3], row[4]], "{}", sample.kind);
        let class = ["class_uid", "activity_id", "status_id"].map(|name| sample.ocsf[name].to_string());
        assert_eq!(class, [row[5], row[6], row[7]], "{}", sample.kind);
    }
}

/// As ECS 8.11 lists them: which types belong to a category.
#[test]
fn the_types_of_each_event_are_those_of_its_categories() {
    let allowed = |category: &str| match category {
        "authentication" | "session" => "start end info",
        "configuration" | "file" => "access change creation deletion info",
        "host" => "access change end info start",
        "process" => "access change end info start",
        "iam" => "admin change creation deletion group info user",
        "intrusion_detection" => "allowed denied info",
        "api" => "access admin allowed change creation deletion denied end info start user",
        other => panic!("no category of the schema's: {other}"),
    };
    for sample in all() {
        let event = &sample.ecs["event"];
        let categories: Vec<&str> =
            event["category"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        for kind in event["type"].as_array().unwrap() {
            let kind = kind.as_str().unwrap();
            let fits = categories.iter().any(|category| allowed(category).split(' ').any(|word| word == kind));
            assert!(fits || categories.is_empty(), "{}: {kind} in {categories:?}", sample.kind);
        }
    }
}

#[test]
fn rsyslog_and_logstash_class_a_hosts_types_alike() {
    let file: Value = serde_json::from_str(CLASSES).unwrap();
    let rows = file["table"].as_array().unwrap();
    assert_eq!(rows.len(), ArtifactType::ALL.len());
    for kind in ArtifactType::ALL {
        let row = rows.iter().find(|row| row["index"] == kind.as_str()).unwrap_or_else(|| panic!("no row for {kind}"));
        let value: Value = serde_json::from_str(row["value"].as_str().unwrap()).unwrap();
        let class = ecs::of_host(*kind);
        let wanted =
            json!({"kind": class.kind, "category": class.category, "type": class.kinds, "outcome": class.outcome});
        assert_eq!(value, pruned(wanted), "{kind}");
    }
}

#[test]
fn every_field_of_a_document_has_the_type_of_the_index_template() {
    for sample in all() {
        assert_eq!(template::problems(&sample.ecs), Vec::<String>::new(), "{}: {:#}", sample.kind, sample.ecs);
    }
    let mut wrong = of("session.opened").ecs;
    wrong["source"]["port"] = "22".into();
    wrong["user"]["nick"] = "f".into();
    wrong["source"]["ip"] = "nowhere".into();
    assert_eq!(template::problems(&wrong).len(), 3);
}

#[test]
fn both_forms_carry_the_exact_bytes_and_lose_nothing_that_was_stated() {
    for sample in all() {
        assert_eq!(sample.ecs["event"]["original"], sample.line.as_str());
        assert_eq!(sample.ocsf["raw_data"], sample.line.as_str());
        let data: Value = serde_json::from_str(&sample.line).unwrap();
        let record = data.get("signature").is_some();
        if record {
            assert_eq!(sample.ecs["lockdownd"].get("detail"), data.get("detail"), "{}", sample.kind);
            assert_eq!(sample.ocsf["unmapped"].get("detail"), data.get("detail"), "{}", sample.kind);
        } else {
            assert_eq!(sample.ecs["lockdownd"]["data"], data);
            assert_eq!(sample.ocsf["unmapped"]["data"], data);
        }
    }
}

#[test]
fn what_ocsf_asks_of_each_class_is_there() {
    for sample in all() {
        let (event, kind) = (&sample.ocsf, &sample.kind);
        for name in ["category_uid", "class_uid", "activity_id", "type_uid", "time", "severity_id"] {
            assert!(event[name].is_i64(), "{kind}: {name}");
        }
        assert_eq!(event["time"], 1_795_435_200_250_i64);
        assert_eq!(event["metadata"]["version"], "1.5.0");
        let named = |value: &Value| value.as_object().is_some_and(|map| !map.is_empty());
        match event["class_uid"].as_i64() {
            Some(3002) => assert!(named(&event["user"]) && named(&event["service"]), "{kind}"),
            Some(3005) => assert!(named(&event["user"]) && event["privileges"][0].is_string(), "{kind}"),
            _ => {
                assert!(named(&event["actor"]) && named(&event["src_endpoint"]), "{kind}");
                assert_eq!(event["api"]["operation"], kind.as_str());
            }
        }
        // An activity beyond the schema's says what it is.
        assert_eq!(event["activity_id"] == 99, event["activity_name"].is_string(), "{kind}");
    }
}

#[test]
fn a_login_is_told_by_account_person_and_address() {
    let Sample { ecs, ocsf, .. } = of("session.opened");
    assert_eq!(ecs["user"], json!({"name": "ubuntu"}));
    assert_eq!(ecs["related"], json!({"user": ["frank", "ubuntu"], "ip": ["10.1.2.3"], "hosts": ["i-1"]}));
    assert_eq!(ecs["source"], json!({"address": "10.1.2.3", "ip": "10.1.2.3", "port": 50022}));
    assert_eq!((&ecs["event"]["severity"], &ecs["log"]["level"]), (&json!(5), &json!("notice")));
    assert_eq!(ocsf["user"], json!({"name": "ubuntu", "account": {"name": "ubuntu", "type_id": 9}}));
    assert_eq!(ocsf["actor"], json!({"user": {"name": "frank"}}));
    assert_eq!(ocsf["src_endpoint"], json!({"ip": "10.1.2.3", "port": 50022}));
    assert_eq!(ocsf["dst_endpoint"], json!({"hostname": "i-1"}));
    assert_eq!(ocsf["metadata"]["correlation_uid"], "g-00112233445566aa");
    let Sample { ecs, ocsf, .. } = of("session.closed");
    assert_eq!(ecs["event"]["duration"], 61_000_000_000_i64);
    assert_eq!((&ocsf["duration"], &ocsf["status_code"]), (&json!(61_000), &json!("by_itself")));
    let Sample { ecs, ocsf, .. } = of("app.authentication");
    assert_eq!((&ecs["user"], &ecs["source"]["ip"]), (&json!({"name": "u-1027"}), &json!("203.0.113.4")));
    assert_eq!(ecs["lockdownd"].get("count"), None, "what an application calls detail is its own affair");
    assert_eq!((&ocsf["user"]["name"], &ocsf["service"]["name"]), (&json!("u-1027"), &json!("portal")));
}

#[test]
fn whoever_was_not_named_is_unknown_and_floods_keep_their_count() {
    let failed: Vec<Sample> = of_hosts().into_iter().filter(|sample| sample.kind == "login.failed").collect();
    let [one, flood] = failed.as_slice() else { panic!("two samples") };
    assert_eq!(one.ocsf["user"], json!({"name": "Unknown", "uid": "00112233445566778899aabbccddeeff", "type_id": 0}));
    assert_eq!(one.ecs.get("user"), None);
    assert_eq!(flood.ocsf["user"], json!({"name": "Unknown", "type_id": 0}));
    assert_eq!((&flood.ocsf["count"], &flood.ecs["lockdownd"]["count"]), (&json!(412), &json!(412)));
    assert_eq!(
        (&flood.ecs["event"]["start"], &flood.ecs["event"]["end"]),
        (&json!("2026-11-23T12:00:00Z"), &json!("2026-11-23T12:01:00Z"))
    );
    assert_eq!(one.ecs["lockdownd"]["count"], 1);
}

#[test]
fn who_acted_and_on_whom_is_told_of_all_else() {
    let Sample { ecs, ocsf, .. } = of("grant.created");
    assert_eq!(ecs["user"], json!({"id": "0", "target": {"name": "ubuntu"}}));
    assert_eq!((&ecs["lockdownd"]["person"], &ecs["event"]["reason"]), (&json!("frank"), &json!("INC-42")));
    assert_eq!((&ocsf["user"], &ocsf["privileges"]), (&json!({"name": "frank"}), &json!(["ssh login as ubuntu"])));
    let process = json!({"pid": 4712, "path": "/usr/bin/lockdownctl"});
    assert_eq!(ocsf["actor"], json!({"user": {"uid": "0"}, "process": process}));
    let Sample { ecs, ocsf, .. } = of("key.removed");
    assert_eq!(ecs["user"], json!({"name": "frank", "id": "1000", "target": {"name": "ubuntu"}}));
    assert_eq!(ecs["file"], json!({"path": "/home/ubuntu/.ssh/authorized_keys"}));
    assert_eq!(ocsf["resources"][0], json!({"type": "file", "name": "/home/ubuntu/.ssh/authorized_keys"}));
    let broken = of_hosts().into_iter().find(|sample| sample.line.contains("\"broken\"")).unwrap();
    assert_eq!((&broken.ecs["event"]["severity"], &broken.ocsf["severity_id"]), (&json!(2), &json!(5)));
}
