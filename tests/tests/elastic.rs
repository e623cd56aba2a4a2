//! syslog to Elasticsearch: Debian's own rsyslog with omelasticsearch, configured as docs/ELASTIC.md says, posts what the shipper
//! gives it to a recorder of the bulk API. Every field has the type of the index template.

#[path = "elastic/recorder.rs"]
mod recorder;
#[path = "elastic/template.rs"]
mod template;

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use instance_tests::{House, Server, eventually, on_each_release};
use serde_json::Value;

use recorder::Recorder;

/// What it may take on a busy machine: rsyslog tries again after 5 s.
const SOON: Duration = Duration::from_secs(60);
const INDEX: &str = "logs-lockdownd.record-default";
/// What anybody on a host can say, and Elasticsearch does not take for want of a time.
const FORGED: &str = r#"{"signature":"none"}"#;

/// The `sh` blocks of a section of the page, as they stand there.
fn steps(section: &str) -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/ELASTIC.md");
    let page = fs::read_to_string(page).expect("the page is there");
    let part = page.split("\n## ").find(|part| part.starts_with(section)).expect("the section is there");
    let blocks: Vec<&str> = part.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(!blocks.is_empty(), "no steps under {section}");
    blocks.concat()
}

/// A house that ships to rsyslog and to a server beside it.
fn shipping(house: &House) -> Server {
    let server = Server::start(house);
    house.write("/etc/lockdownd/credentials/enrolment-token", server.token("--role enrol --stack default"));
    let sinks = format!(
        "[ship.syslog]\naddress = \"unix:/run/systemd/journal/syslog\"\n[ship.api]\nurl = \"{}\"\nreceipt_keys = [\"{}\"]",
        server.url(),
        server.public_key()
    );
    house.configure(&house.config("enforce", &sinks));
    house.sh("systemctl restart lockdownd-shipper");
    server
}

/// Something of much that happens on a host.
fn work(house: &House) {
    house.allow("frank --account ubuntu --for 1h");
    assert!(house.ssh("ubuntu").key(&house.frank).login());
    assert!(!house.ssh("ubuntu").key(&house.grace).login());
    assert!(!house.ssh("nobody-of-that-name").key(&house.grace).login());
    assert!(house.ssh("breakglass").key(&house.breakglass).login());
    house.authorize("grace", &house.grace);
    eventually("the key is removed", SOON, || !house.records_of("key.removed").is_empty());
    house.ctl("revoke frank --reason done").expect_ok();
    house.ctl("lockdown --reason 'laptop stolen'").expect_ok();
}

/// The documents that the server makes of the same records, by id.
fn of_server(server: &Server, ledger: &str) -> BTreeMap<String, Value> {
    let lines = server.get(&format!("/v1/artifacts?ledger={ledger}&form=ecs"));
    let documents = lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("a document a line"));
    documents.map(|document| (document["event"]["id"].as_str().expect("an id").to_owned(), document)).collect()
}

on_each_release! {
    fn what_the_shipper_gives_to_rsyslog_is_in_elasticsearch_once_with_the_type_of_every_field(release) {
        let house = House::enforcing(release);
        let server = shipping(&house);
        house.sh(&steps("rsyslog"));
        // Nobody listens yet: rsyslog keeps what comes. One is no record, and will not be taken.
        work(&house);
        house.sh(&format!("logger -p authpriv.info -t lockdownd '{FORGED}'"));
        house.sh("systemctl stop rsyslog");
        let recorder = Recorder::start(&house);
        house.sh("systemctl start rsyslog");
        eventually("documents come", SOON, || !recorder.documents(INDEX).is_empty());
        // The shipper begins anew, and so sends again what may have been lost.
        house.sh("systemctl restart lockdownd-shipper");
        house.sh("systemctl stop lockdownd");
        let records = house.sh("cat /var/lib/lockdownd/ledger/*.jsonl");
        let ids: Vec<String> = records.lines().map(|line| {
            let record: Value = serde_json::from_str(line).expect("a record");
            let signature = record["signature"].as_str().expect("text");
            format!("{}/{}/{}", record["ledger"].as_str().expect("text"), record["seq"], &signature[243..283])
        }).collect();
        let log = || house.sh("journalctl -u rsyslog --no-pager | tail -n 40; cat /var/log/lockdownd-elastic.errors 2>&1 | head -c 2000");
        let mut documents = BTreeMap::new();
        let start = std::time::Instant::now();
        while start.elapsed() < SOON && !ids.iter().all(|id| documents.contains_key(id)) {
            std::thread::sleep(Duration::from_millis(300));
            documents = recorder.documents(INDEX);
        }
        let missing: Vec<&String> = ids.iter().filter(|id| !documents.contains_key(*id)).collect();
        assert!(missing.is_empty() && documents.len() == ids.len(), "{missing:?} of {}\n{}", ids.len(), log());
        eventually("what the shipper sent again came again", SOON, || recorder.troubles().0 > 0);
        let (_, put_off, refused) = recorder.troubles();
        assert!(put_off > 0);
        assert!(refused.len() == 1 && refused[0].contains("none"), "{refused:?}");
        let errors = || house.run("cat /var/log/lockdownd-elastic.errors").stdout;
        eventually("what was refused is told", SOON, || errors().contains("mapper_parsing_exception"));
        assert!(errors().contains("none") && errors().lines().count() == 1, "{}", errors());
        assert!(!house.run("grep -c mapper_parsing_exception /var/log/auth.log /var/log/syslog").ok(), "nothing comes back into the logs");

        for (line, id) in records.lines().zip(&ids) {
            let document = &documents[id];
            assert_eq!(template::problems(document), Vec::<String>::new(), "{document:#}");
            assert_eq!(document["event"]["original"], line, "byte by byte");
        }
        let actions: Vec<&str> = documents.values().filter_map(|document| document["event"]["action"].as_str()).collect();
        for action in ["grant.created", "grant.ended", "session.opened", "login.failed", "emergency.login", "key.removed", "lockdown", "sweep.attested"] {
            assert!(actions.contains(&action), "{action}: {actions:?}");
        }

        // The API makes the same documents of the same records; two things only it knows.
        let ledger = ids[0].split('/').next().expect("an id").to_owned();
        eventually("the server has them all", SOON, || of_server(&server, &ledger).len() == ids.len());
        for (id, mut document) in of_server(&server, &ledger) {
            assert_eq!(template::problems(&document), Vec::<String>::new(), "{document:#}");
            document.as_object_mut().expect("an object").remove("related");
            document["event"].as_object_mut().expect("an object").remove("ingested");
            let same = documents.values().find(|other| other["event"]["id"] == id.as_str());
            assert_eq!(same, Some(&document));
        }
    }
}

/// What a query in Kibana's language, or a part of one, names as fields.
fn fields_of_query(query: &str) -> impl Iterator<Item = &str> {
    query
        .split(" and ")
        .flat_map(|part| part.split(" or "))
        .filter_map(|part| part.split([' ', ':', '<']).next())
        .filter(|field| !field.is_empty())
}

/// Everything that is called `field`, anywhere in it.
fn named_fields<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(map) => {
            found.extend(map.get("field").and_then(Value::as_str));
            map.values().for_each(|inner| named_fields(inner, found));
        }
        Value::Array(all) => all.iter().for_each(|inner| named_fields(inner, found)),
        _ => {}
    }
}

#[test]
fn the_dashboard_asks_for_fields_of_the_template_and_for_objects_that_it_brings() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/elastic/dashboard.ndjson");
    let text = fs::read_to_string(file).expect("the dashboard is there");
    let objects: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect();
    let ids: Vec<(&Value, &Value)> = objects.iter().map(|object| (&object["type"], &object["id"])).collect();
    let inner = |object: &Value, at: &str| -> Option<Value> {
        Some(serde_json::from_str(object.pointer(at)?.as_str()?).expect("JSON within"))
    };
    let mut asked = 0;
    for object in &objects {
        for reference in object["references"].as_array().expect("references") {
            assert!(ids.contains(&(&reference["type"], &reference["id"])), "{reference}");
        }
        let mut fields: Vec<String> = Vec::new();
        let source = inner(object, "/attributes/kibanaSavedObjectMeta/searchSourceJSON").unwrap_or_default();
        fields.extend(fields_of_query(source["query"]["query"].as_str().unwrap_or_default()).map(str::to_owned));
        let state = inner(object, "/attributes/visState").unwrap_or_default();
        let mut named = Vec::new();
        named_fields(&state, &mut named);
        fields.extend(named.into_iter().map(str::to_owned));
        fields.extend(
            object["attributes"]["columns"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .map(str::to_owned),
        );
        asked += fields.len();
        for field in fields {
            assert!(template::has(&field), "{}: there is no field {field}", object["id"]);
        }
        let panels = inner(object, "/attributes/panelsJSON").unwrap_or_default();
        for panel in panels.as_array().into_iter().flatten() {
            let name = format!(
                "{}:{}",
                panel["panelIndex"].as_str().expect("text"),
                panel["panelRefName"].as_str().expect("text")
            );
            assert!(
                object["references"].as_array().is_some_and(|all| all.iter().any(|r| r["name"] == name.as_str())),
                "{name}"
            );
        }
    }
    assert!(asked > 20, "the fields were found: {asked}");
}
