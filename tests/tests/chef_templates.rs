//! The cookbook's templates: what comes out is the data that went in, whatever is in it, and nothing else.

use std::{collections::BTreeMap, fs, path::Path};

use instance_tests::chef::{ENGINES, converge_nowhere, examples, render, why_run};
use serde_json::{Value, json};

/// What somebody could put into an attribute so that it would be read as something else.
const NASTY: [&str; 37] = [
    "\"",
    "'",
    "\\",
    "\n",
    "\r\n",
    "\t",
    "\"\"\"",
    "'''",
    "#{`id`}",
    "#{",
    "<%= 1 + 1 %>",
    "<%",
    "%>",
    "-%>",
    "[[person]]",
    "[grants]",
    "\nself = true\n",
    "= ",
    "# ",
    "\u{7f}",
    "\u{1b}[2J",
    "\u{202e}",
    "\u{feff}",
    "\u{2028}",
    "é",
    "😀",
    "a",
    " ",
    ",",
    "]",
    "}",
    "\\u0041",
    "\\n",
    "$(id)",
    "`id`",
    "%{path}",
    "%s",
];
/// How many attribute sets are made up.
const GENERATED: usize = 300;

/// Texts made of what is nasty, the same at each run.
struct Texts(u64);

impl Texts {
    fn number(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % below
    }

    fn text(&mut self) -> String {
        (0..=self.number(6)).map(|_| NASTY[self.number(NASTY.len())]).collect()
    }

    fn list(&mut self) -> Vec<String> {
        (0..self.number(4)).map(|_| self.text()).collect()
    }

    fn attributes(&mut self) -> Value {
        let people: BTreeMap<String, Value> = (0..self.number(4))
            .map(|_| {
                let operator = [Value::Null, json!(false), json!(true)][self.number(3)].clone();
                (self.text(), json!({ "keys": self.list(), "accounts": self.list(), "operator": operator }))
            })
            .collect();
        let grant = |texts: &mut Self| json!({ "person": texts.text(), "account": texts.text(), "expires_at": texts.text(), "reason": texts.text(), "from": texts.list() });
        let grants: BTreeMap<String, Value> = (0..self.number(4)).map(|_| (self.text(), grant(self))).collect();
        let mut config =
            json!({ "mode": self.text(), "host": { "stack": self.text() }, "ship": { "api": { "url": self.text() } } });
        // Keys too.
        config[self.text()] = json!([self.text(), [self.text()], { self.text(): self.text() }]);
        config["accounts"] = json!({ self.text(): self.list(), "no_exempt": true, "n": -7 });
        json!({ "config": config, "people": people, "grants": grants })
    }
}

fn parsed(text: &str) -> Value {
    assert!(text.is_ascii(), "a reader sees what is there: {text:?}");
    let table: toml::Table = text.parse().unwrap_or_else(|e| panic!("{e}:\n{text}"));
    serde_json::to_value(table).expect("no dates")
}

/// The tables of `people` and `grants` as the file has to hold them, in any order.
fn expected(attributes: &Value) -> (Vec<String>, Vec<String>) {
    let people = attributes["people"].as_object().into_iter().flatten().map(|(name, person)| {
        let mut table = json!({ "name": name, "keys": person["keys"], "accounts": person["accounts"] });
        if person["operator"] == true {
            table["operator"] = json!(true);
        }
        table.to_string()
    });
    let grants = attributes["grants"].as_object().into_iter().flatten().map(|(_, grant)| grant.to_string());
    let (mut people, mut grants): (Vec<_>, Vec<_>) = (people.collect(), grants.collect());
    people.sort();
    grants.sort();
    (people, grants)
}

fn found(people: &Value, key: &str) -> Vec<String> {
    let mut tables: Vec<String> = people[key].as_array().into_iter().flatten().map(Value::to_string).collect();
    tables.sort();
    tables
}

#[test]
fn whatever_is_in_an_attribute_comes_out_as_that_and_as_nothing_else() {
    let mut texts = Texts(42);
    let all: Vec<Value> = (0..GENERATED).map(|_| texts.attributes()).collect();
    let cases: Vec<Value> = all.iter().map(|attributes| json!({ "attributes": attributes })).collect();
    let [by_erb, by_erubis] = ENGINES.map(|engine| render(engine, &cases));
    assert_eq!(by_erb, by_erubis, "Chef's engine renders as Ruby's own");
    for (attributes, rendered) in all.iter().zip(&by_erb) {
        assert!(rendered["refused"].is_null(), "{attributes}: {rendered}");
        let [config, people] = ["config", "people"].map(|file| parsed(rendered[file].as_str().expect("a text")));
        assert_eq!(config, attributes["config"]);
        assert_eq!((found(&people, "person"), found(&people, "grant")), expected(attributes));
        assert!(
            people.as_object().is_some_and(|keys| keys.keys().all(|key| ["person", "grant"].contains(&key.as_str()))),
            "{people}"
        );
    }
}

#[test]
fn what_toml_cannot_carry_is_refused_with_the_attributes_name() {
    let nul = "a\0b";
    let bytes = json!({ "$bytes": "61ff" });
    let frank = |keys: Value| json!({ "people": { "frank": { "keys": keys } } });
    let grant = |key: &str, value: Value| {
        let mut grant = json!({ "person": "frank", "account": "ubuntu", "expires_at": "t" });
        grant[key] = value;
        json!({ "grants": { "INC-42": grant } })
    };
    let table = [
        (json!({ "config": { "mode": nul } }), "node['lockdownd']['config']['mode'] has a NUL in it"),
        (
            json!({ "config": { "host": { "stack": bytes } } }),
            "node['lockdownd']['config']['host']['stack'] is not UTF-8",
        ),
        (
            json!({ "config": { "accounts": { "exempt": ["a", bytes] } } }),
            "['config']['accounts']['exempt'][1] is not UTF-8",
        ),
        (json!({ "config": { nul: 1 } }), "a key of node['lockdownd']['config'] has a NUL in it"),
        (frank(json!([nul])), "node['lockdownd']['people']['frank']['keys'][0] has a NUL in it"),
        (frank(json!(bytes)), "node['lockdownd']['people']['frank']['keys'][0] is not UTF-8"),
        (frank(json!([["a"]])), "['people']['frank']['keys'][0] is a Array: write a string"),
        (json!({ "people": { nul: {} } }), "has a NUL in it"),
        (grant("reason", json!(nul)), "node['lockdownd']['grants']['INC-42']['reason'] has a NUL in it"),
        (grant("expires_at", json!(7200)), "node['lockdownd']['grants']['INC-42']['expires_at'] is a Integer"),
        (grant("expires_at", Value::Null), "node['lockdownd']['grants']['INC-42']['expires_at'] is missing"),
        (
            grant("for", json!("2h")),
            "node['lockdownd']['grants']['INC-42']['for'] is not known; known here: person, account, expires_at",
        ),
        (json!({ "people": { "frank": { "key": "k" } } }), "['frank']['key'] is not known; known here: keys, accounts"),
        (
            json!({ "peolpe": {} }),
            "node['lockdownd']['peolpe'] is not known; known here: stack, install, config, people, grants, data_bag, data_bag_items",
        ),
        (json!({ "data_bag_items": ["frank"] }), "node['lockdownd']['data_bag'] is missing"),
        (json!({ "people": ["frank"] }), "node['lockdownd']['people'] is no hash"),
        (json!({ "people": { "frank": "k" } }), "node['lockdownd']['people']['frank'] is no hash"),
    ];
    let cases: Vec<Value> = table.iter().map(|(attributes, _)| json!({ "attributes": attributes })).collect();
    for ((attributes, why), rendered) in table.iter().zip(render("erubis", &cases)) {
        assert!(
            rendered["refused"].as_str().is_some_and(|said| said.contains(why)),
            "{attributes}: {rendered}, not {why}"
        );
    }
}

#[test]
fn who_may_sign_rosters_is_a_list_or_a_hash_of_people_and_false_takes_somebody_out() {
    let config = |key: Value| json!({ "mode": "observe", "stack": { "organization": "acme", "roster": { "threshold": 1, "key": key } } });
    let rendered =
        |config: &Value| render("erubis", &[json!({ "attributes": { "stack": "web", "config": config } })])[0].clone();
    let list =
        json!([{ "person": "ceo", "key": "a" }, { "person": "ceo", "key": "b" }, { "person": "cto", "key": "c" }]);
    let hash = json!({ "ceo": ["a", "b"], "cfo": false, "cto": "c" });
    for key in [list.clone(), hash] {
        let text = rendered(&config(key))["config"].as_str().expect("a text").to_owned();
        let mut found = parsed(&text);
        let keys = found["stack"]["roster"]["key"].as_array_mut().expect("a list");
        keys.sort_by_key(|entry| entry["key"].to_string());
        assert_eq!(found, config(list.clone()), "{text}");
    }
    // Nobody is nobody, and what makes no sense is the daemon's to refuse.
    let nobody = rendered(&config(json!({ "ceo": false })))["config"].as_str().expect("a text").to_owned();
    assert_eq!(parsed(&nobody)["stack"]["roster"]["key"], json!([]));
    for odd in [json!({ "stack": "acme" }), json!({ "stack": { "roster": 7 } })] {
        assert_eq!(parsed(rendered(&odd)["config"].as_str().expect("a text")), odd);
    }
    let refused = rendered(&config(json!({ "ceo": ["a", 7] })));
    let why = "node['lockdownd']['config']['stack']['roster']['key']['ceo'][1] is a Integer";
    assert!(refused["refused"].as_str().is_some_and(|said| said.contains(why)), "{refused}");
    let mistaken = render("erubis", &[json!({ "attributes": { "stack": { "organization": "acme" } } })]);
    let why = "node['lockdownd']['stack'] is no string: it names the stack; what stands in [stack] is node['lockdownd']['config']['stack']";
    assert!(mistaken[0]["refused"].as_str().is_some_and(|said| said.contains(why)), "{mistaken:?}");
}

#[test]
fn an_item_of_the_data_bag_counts_on_the_stacks_that_it_names_and_on_no_other() {
    let item = |more: Value| {
        let mut item = json!({ "id": "frank", "keys": "k", "accounts": ["ubuntu"], "chef_type": "data_bag_item", "data_bag": "people" });
        item.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        item
    };
    let grant = json!({ "account": "ubuntu", "expires_at": "t" });
    let only_db = json!({ "account": "ubuntu", "expires_at": "u", "stacks": ["db"] });
    let table = [
        (item(json!({ "stacks": ["web"] })), "web", Ok((1, 0))),
        (item(json!({ "stacks": "web" })), "web", Ok((1, 0))),
        (item(json!({ "stacks": ["db"] })), "web", Ok((0, 0))),
        (item(json!({ "stacks": [] })), "web", Ok((0, 0))),
        (item(json!({ "stacks": ["*"] })), "web", Ok((1, 0))),
        (item(json!({ "stacks": ["web", "db"], "grants": [grant, only_db] })), "web", Ok((1, 1))),
        (item(json!({ "stacks": ["web", "db"], "grants": [grant, only_db] })), "db", Ok((1, 2))),
        (item(json!({ "stacks": ["db"], "grants": [grant] })), "web", Ok((0, 0))),
        (item(json!({})), "web", Err("data bag item frank['stacks'] is missing: name the stacks")),
        (item(json!({ "stacks": ["web"], "shell": "sh" })), "web", Err("data bag item frank['shell'] is not known")),
        (
            item(json!({ "stacks": ["web"], "grants": [{ "account": "ubuntu" }] })),
            "web",
            Err("frank['grants'][0]['expires_at'] is missing"),
        ),
        (item(json!({ "stacks": ["web"], "grants": grant })), "web", Err("frank['grants'] is no list")),
    ];
    let case = |(item, stack, _): &(Value, &str, _)| json!({ "attributes": { "stack": stack }, "items": [item] });
    let cases: Vec<Value> = table.iter().map(case).collect();
    for ((item, stack, wanted), rendered) in table.iter().zip(render("erubis", &cases)) {
        match wanted {
            Ok(counts) => {
                let people = parsed(rendered["people"].as_str().unwrap_or_else(|| panic!("{item}: {rendered}")));
                assert_eq!(
                    (found(&people, "person").len(), found(&people, "grant").len()),
                    *counts,
                    "{item} on {stack}"
                );
            }
            Err(why) => {
                assert!(rendered["refused"].as_str().is_some_and(|said| said.contains(why)), "{item}: {rendered}")
            }
        }
    }
    let nowhere = render("erubis", &[json!({ "attributes": {}, "items": [item(json!({ "stacks": ["web"] }))] })]);
    assert!(
        nowhere[0]["refused"].as_str().is_some_and(|said| said.contains("node['lockdownd']['stack'] is missing")),
        "{nowhere:?}"
    );
}

#[test]
fn the_pages_examples_evaluate_and_every_attribute_and_property_is_documented() {
    let cookbook = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/chef/lockdownd");
    let readme = cookbook.join("README.md");
    let resources = ["install", "config", "person", "grant", "lockdown"];
    let page_of = |resource: &str| cookbook.join(format!("documentation/lockdownd_{resource}.md"));
    let pages: Vec<_> = std::iter::once(readme.clone()).chain(resources.map(page_of)).collect();
    let found = examples(&pages);
    assert_eq!(found["attributes"]["people"]["frank"]["accounts"], json!(["ubuntu"]));
    for resource in resources {
        let declared = found["resources"].as_array().into_iter().flatten().filter_map(Value::as_str);
        assert!(
            declared.into_iter().any(|one| one.starts_with(&format!("lockdownd_{resource}["))),
            "{resource}: {found}"
        );
    }
    let page = fs::read_to_string(&readme).expect("the page");
    let defaults = found["defaults"].as_object().expect("attributes");
    for (name, value) in defaults {
        let inner = value
            .as_object()
            .filter(|_| name == "install")
            .into_iter()
            .flatten()
            .map(|(key, _)| format!("{name}.{key}"));
        for attribute in inner.chain((name != "install").then(|| name.clone())) {
            assert!(page.contains(&format!("\n| `{attribute}` |")), "the attribute {attribute} is not in the table");
        }
    }
    for (resource, properties) in found["properties"].as_object().expect("resources") {
        let properties = properties.as_array().into_iter().flatten().filter_map(Value::as_str);
        let page = fs::read_to_string(page_of(resource.trim_start_matches("lockdownd_"))).expect("its page");
        // What the attributes and resources are called in recipes, and where they come from, is for those who write cookbooks.
        for property in properties.filter(|property| !["label", "origin"].contains(property)) {
            assert!(page.contains(&format!("\n| `{property}` |")), "{resource}'s {property} is not in its page");
        }
    }
    // The data bag item, as it stands there.
    let item = page.split("```json\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
    let item: Value = serde_json::from_str(item).expect("JSON");
    let rendered = render("erubis", &[json!({ "attributes": { "stack": "web" }, "items": [item] })]);
    let people = parsed(rendered[0]["people"].as_str().unwrap_or_else(|| panic!("{rendered:?}")));
    assert_eq!((found_in(&people, "person"), found_in(&people, "grant")), (1, 1));
}

fn found_in(people: &Value, key: &str) -> usize {
    found(people, key).len()
}

#[test]
fn why_run_needs_no_package_and_what_a_node_kept_is_warned_of() {
    let root = tempfile::tempdir().expect("a directory");
    fs::create_dir(root.path().join("tmp")).expect("made");
    let role = json!({ "config": { "mode": "enforce", "accounts": { "exempt": ["breakglass"] } } });
    let dry = why_run(root.path(), &role, &json!({}), &json!({}));
    assert!(dry.log.is_empty(), "{dry:?}");
    let would = dry.expect_done();
    assert!(would.contains(&"template[/etc/lockdownd/config.toml]".to_owned()), "{would:?}");
    assert_eq!(fs::read_dir(root.path().join("tmp")).expect("a directory").count(), 0);

    // Chef unites the lists of a kept node with those of -j: a key that was rotated out is still there.
    let frank = |keys: Value| json!({ "people": { "frank": { "keys": keys, "accounts": ["ubuntu"] } } });
    let kept = why_run(root.path(), &role, &frank(json!(["old"])), &frank(json!(["new"])));
    assert!(
        kept.error.is_none()
            && kept.log.len() == 1
            && kept.log[0].starts_with("node['lockdownd']['people'] has attributes of the level normal"),
        "{kept:?}"
    );
}

#[test]
fn a_resource_that_waits_to_be_notified_does_nothing_by_itself() {
    for resource in ["lockdownd_lockdown('now')", "lockdownd_files('chef')", "service('lockdownd')"] {
        let converged = converge_nowhere(&[resource]);
        assert!(converged.changed_nothing(), "{resource}: {converged:?}");
    }
}

#[test]
fn the_package_comes_from_a_file_from_a_url_with_its_checksum_or_from_a_repository() {
    let sha256 = "AB".repeat(32);
    let install = |properties: &str| converge_nowhere(&[&format!("lockdownd_install('lockdownd') {{ {properties} }}")]);
    let noted = |properties: &str| {
        let done = install(properties);
        assert!(done.error.is_none(), "{done:?}");
        done.noted
    };
    let of = |noted: &[Value], kind: &str| noted.iter().find(|one| one["type"] == kind).cloned().unwrap_or_default();
    let file = noted("source '/root/l.deb'");
    assert_eq!(of(&file, "dpkg_package")["asked"]["source"], "/root/l.deb");
    // Our config.toml is one that dpkg would ask about.
    assert!(of(&file, "dpkg_package")["asked"]["options"].to_string().contains("--force-confold"), "{file:?}");
    let url = noted(&format!("source 'https://example.com/l.deb'; checksum '{sha256}'"));
    assert_eq!(of(&url, "remote_file")["asked"]["checksum"], sha256.to_lowercase());
    assert_eq!(of(&url, "remote_file")["name"], of(&url, "dpkg_package")["asked"]["source"]);
    // A file of another checksum is another file, or Chef would take the cached one for it.
    assert!(of(&url, "remote_file")["name"].as_str().is_some_and(|name| name.contains(&sha256.to_lowercase())));
    let path = noted(&format!("source '/root/l.deb'; checksum '{sha256}'"));
    assert_eq!(of(&path, "remote_file")["asked"]["source"], "file:///root/l.deb");
    let key = "-----BEGIN PGP PUBLIC KEY BLOCK-----\\nx";
    let repository = noted(&format!(
        "repository uri: 'https://deb.example.com', distribution: 'trixie', key: \"{key}\"; version '0.1.0-1'"
    ));
    let files: Vec<_> = repository.iter().filter(|one| one["type"] == "file").collect();
    assert_eq!(files[0]["name"], "/etc/apt/keyrings/lockdownd.asc");
    assert_eq!(
        files[1]["asked"]["content"],
        "Types: deb\nURIs: https://deb.example.com\nSuites: trixie\nComponents: main\nSigned-By: /etc/apt/keyrings/lockdownd.asc\n"
    );
    assert_eq!(of(&repository, "apt_update")["action"], "update");
    let by_url = noted(
        "repository uri: 'https://deb.example.com', distribution: 'trixie', key: 'https://deb.example.com/k.asc'",
    );
    assert_eq!(of(&by_url, "remote_file")["asked"]["source"], "https://deb.example.com/k.asc");
    assert_eq!(of(&noted("action :remove"), "apt_package")["action"], "remove");
    assert_eq!(
        (
            of(&repository, "apt_package")["asked"]["version"].as_str(),
            of(&repository, "apt_package")["action"].as_str()
        ),
        (Some("0.1.0-1"), Some("install"))
    );
    assert_eq!(of(&noted(""), "apt_package")["action"], "upgrade");
    for (properties, told) in [
        ("source 'https://example.com/l.deb'", "checksum is missing: a URL needs it"),
        ("source '/l.deb'; checksum 'abc'", "checksum"),
        ("repository uri: 'https://deb.example.com'", "repository['distribution'] is missing"),
        (
            "repository uri: 'https://deb.example.com', distribution: \"trixie\\nTrusted: yes\"",
            "repository['distribution'] has to be words without blanks",
        ),
        (
            "repository url: 'https://deb.example.com'",
            "repository['url'] is not known; known here: uri, distribution, components, key",
        ),
    ] {
        let error = install(properties).expect_failed();
        assert!(error.contains(told), "{properties}: {error}");
    }
}
