//! Where people and grants came from, as status shows it and as `config.loaded` records it. Changes nothing.

use control::{ConfigSource, GrantLine, PersonLine};
use lockdown_core::config::Config;
use serde_json::{Map, Value};

/// How many people and grants one status names; `lockdownctl people` and `lockdownctl grants` have them all.
pub(crate) const MAX_SOURCES: usize = 2_000;
/// How many bytes of names one entry of the record's list holds, so that the list can be split between records.
const MAX_ENTRY: usize = 1_024;

/// What each file holds, up to [`MAX_SOURCES`], and how many are left off.
pub(crate) fn views(config: &Config) -> (Vec<ConfigSource>, u64) {
    let mut room = MAX_SOURCES;
    let mut views = Vec::new();
    for (file, holds) in config.sources() {
        let people = holds.people.iter().take(room);
        let people = people.map(|(line, person)| PersonLine { line: u64::from(*line), person: (*person).clone() });
        let people: Vec<_> = people.collect();
        room -= people.len();
        let grants = holds.grants.iter().take(room).map(|(line, person, account)| GrantLine {
            line: u64::from(*line),
            person: (*person).clone(),
            account: (*account).clone(),
        });
        let grants: Vec<_> = grants.collect();
        room -= grants.len();
        if !(people.is_empty() && grants.is_empty()) {
            views.push(ConfigSource { file: file.to_owned(), people, grants });
        }
    }
    let all = config.people.len() + config.rendered.len();
    (views, (all - (MAX_SOURCES - room)) as u64)
}

/// The same for a record: a list of {`file`, `people`: ["PERSON:LINE"], `grants`: ["PERSON:ACCOUNT:LINE"]}, a file with many
/// of them in several entries.
pub(crate) fn detail(config: &Config) -> Vec<Value> {
    let mut list = Vec::new();
    for (file, holds) in config.sources() {
        let people = holds.people.iter().map(|(line, person)| ("people", format!("{person}:{line}")));
        let grants =
            holds.grants.iter().map(|(line, person, account)| ("grants", format!("{person}:{account}:{line}")));
        let mut entry = Entry::of(file);
        for (key, word) in people.chain(grants) {
            if entry.size + word.len() > MAX_ENTRY {
                list.push(std::mem::replace(&mut entry, Entry::of(file)).into_value());
            }
            entry.add(key, word);
        }
        list.push(entry.into_value());
    }
    list
}

struct Entry<'f> {
    file: &'f str,
    words: Map<String, Value>,
    size: usize,
}

impl<'f> Entry<'f> {
    fn of(file: &'f str) -> Self {
        Self { file, words: Map::new(), size: 0 }
    }

    fn add(&mut self, key: &str, word: String) {
        // Its quotes and its comma.
        self.size += word.len() + 3;
        let list = self.words.entry(key).or_insert_with(|| Value::Array(Vec::new()));
        list.as_array_mut().expect("nothing else is put there").push(word.into());
    }

    fn into_value(mut self) -> Value {
        self.words.insert("file".to_owned(), self.file.into());
        Value::Object(self.words)
    }
}

#[cfg(test)]
mod tests {
    use record::{ArtifactType, Draft};
    use serde_json::json;

    use super::*;

    const GRANT: &str =
        "[[grant]]\nperson = \"frank\"\naccount = \"ubuntu\"\nexpires_at = \"2027-01-15T18:00:00Z\"\nreason = \"x\"\n";

    fn person(name: &str) -> String {
        format!("[[person]]\nname = \"{name}\"\naccounts = [\"ubuntu\"]\n")
    }

    #[test]
    fn each_person_and_grant_is_named_with_its_file_and_line() {
        let main = format!("mode = \"observe\"\n{}", person("frank"));
        let chef = format!("# by Chef\n{}{GRANT}", person("grace"));
        let config = Config::parse(&[("config.toml", &main), ("conf.d/chef.toml", &chef)]).expect("good");
        let (views, left_off) = views(&config);
        assert_eq!(left_off, 0);
        assert_eq!(
            serde_json::to_value(&views).expect("JSON"),
            json!([
                {"file": "conf.d/chef.toml", "people": [{"line": 3, "person": "grace"}], "grants": [{"line": 5, "person": "frank", "account": "ubuntu"}]},
                {"file": "config.toml", "people": [{"line": 3, "person": "frank"}], "grants": []},
            ])
        );
        assert_eq!(
            detail(&config),
            [
                json!({"file": "conf.d/chef.toml", "people": ["grace:3"], "grants": ["frank:ubuntu:5"]}),
                json!({"file": "config.toml", "people": ["frank:3"]}),
            ]
        );
    }

    #[test]
    fn ten_thousand_people_of_common_names_fit_the_records_and_a_status_counts_those_it_leaves_off() {
        let text: String = (0..10_000).map(|n| person(&format!("somebody-{n}"))).collect();
        let config = Config::parse(&[("config.toml", &format!("mode = \"observe\"\n{text}"))]).expect("good");
        let (views, left_off) = views(&config);
        assert_eq!((views[0].people.len(), left_off), (MAX_SOURCES, 8_000));
        let draft = Draft::new(ArtifactType::ConfigLoaded, "loaded").with("sources", detail(&config));
        let bodies = format!("{:?}", draft.bodies().expect("it can be stated"));
        assert!(!bodies.contains("left_out") && !bodies.contains("cut:"), "everybody is named");
        assert!(bodies.contains("somebody-0:3\"") && bodies.contains("somebody-9999:30000\""));
    }
}
