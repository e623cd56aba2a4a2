//! `[stack]`: whose signed documents are taken, and where they come from. This never reads a file.

use std::time::Duration;

use document::{
    Checked, DEFAULT_MAX_SILENCE, Key, MAX_DENY_KEYS, MAX_ROSTER_KEYS, Organization, RosterKey, RosterTrust, WhenSilent,
};
use record::{Fingerprint, Person};

use super::{
    error::{Problems, quoted},
    merge::{put, required, word, words},
    place::{Located, Place},
    shipping::{self, ShipApi},
    table::Table,
};

/// The most feeds.
pub const MAX_FEEDS: usize = 8;
/// The shortest and the longest time that a feed may be silent.
const SILENCES: [Duration; 2] = [Duration::from_secs(60), Duration::from_secs(30 * 86_400)];

/// What the files say of it, each setting from the last file that has it; `[[stack.roster.key]]` add up.
#[derive(Debug, Default)]
pub(super) struct StackTable {
    /// Where it is first.
    place: Option<Place>,
    organization: Option<Located<Organization>>,
    feeds: Option<Located<Vec<Located<String>>>>,
    deny_keys: Option<Located<Vec<Located<Fingerprint>>>>,
    plain_approvers: Option<Located<bool>>,
    max_silence: Option<Located<Duration>>,
    when_silent: Option<Located<WhenSilent>>,
    threshold: Option<Located<u64>>,
    min_version: Option<Located<u64>>,
    automatic: Option<Located<Vec<Located<Key>>>>,
    keys: Vec<RosterKey>,
}

/// Headings, each with the keys that this code takes.
pub(super) type Known = Vec<(&'static str, Vec<&'static str>)>;

impl StackTable {
    /// Takes over what one more file says; gives back what is known here.
    pub(super) fn add(&mut self, mut table: Table<'_>, problems: &mut Problems) -> Known {
        self.place.get_or_insert_with(|| table.place.clone());
        put(&mut self.organization, word(table.string("organization", problems), str::parse, problems));
        if let Some(Located { value, place }) = table.strings("feeds", problems) {
            self.feeds = Some(Located { value: words(value, shipping::api_url, problems), place });
        }
        if let Some(Located { value, place }) = table.strings("deny_keys", problems) {
            self.deny_keys = Some(Located { value: words(value, str::parse, problems), place });
        }
        put(&mut self.plain_approvers, table.boolean("plain_approvers", problems));
        put(&mut self.max_silence, word(table.string("max_silence", problems), control::parse_duration, problems));
        put(&mut self.when_silent, word(table.string("when_silent", problems), when_silent, problems));
        let mut known = Vec::new();
        if let Some(mut roster) = table.table("roster", "[stack.roster]", problems) {
            put(&mut self.threshold, roster.integer("threshold", problems));
            put(&mut self.min_version, roster.integer("min_version", problems));
            if let Some(Located { value, place }) = roster.strings("automatic", problems) {
                self.automatic = Some(Located { value: words(value, str::parse, problems), place });
            }
            for mut table in roster.tables("key", "[[stack.roster.key]]", problems) {
                let person = required(&mut table, "person", "person = \"ceo\"", problems);
                let key = required(&mut table, "key", "key = \"sk-ssh-ed25519@openssh.com AAAA…\"", problems);
                known.push(table.end(problems));
                let person: Option<Located<Person>> = word(person, str::parse, problems);
                let key: Option<Located<Key>> = word(key, str::parse, problems);
                self.keys
                    .extend(person.zip(key).map(|(person, key)| RosterKey { person: person.value, key: key.value }));
            }
            known.push(roster.end(problems));
        }
        known.push(table.end(problems));
        known
    }

    /// Judges it, where there is any. In one file alone, the others may have what is missing.
    pub(super) fn judge(self, whole: bool, api: Option<&ShipApi>, p: &mut Problems) -> Option<Checked> {
        let place = self.place?;
        let Some(organization) = self.organization else {
            if whole {
                p.add(
                    &place,
                    "organization is missing in [stack]",
                    "add organization = \"acme\", as on every other host",
                );
            }
            return None;
        };
        let feeds = self.feeds.as_ref().map_or(&[][..], |feeds| &feeds.value);
        if let Some(Located { place, .. }) = self.feeds.as_ref().filter(|_| feeds.len() > MAX_FEEDS) {
            p.add(place, format!("there are {} feeds", feeds.len()), format!("at most {MAX_FEEDS} are taken"));
        }
        let max_silence = self.max_silence.as_ref().map_or(DEFAULT_MAX_SILENCE, |silence| silence.value);
        if let Some(Located { place, .. }) =
            self.max_silence.filter(|_| !(SILENCES[0]..=SILENCES[1]).contains(&max_silence))
        {
            let [least, most] = SILENCES.map(control::format_duration);
            let what = format!("max_silence is {}", control::format_duration(max_silence));
            p.add(&place, what, format!("{least} to {most} works"));
        }
        let when_silent = self.when_silent.as_ref().map(|when| when.value).unwrap_or_default();
        let vouched = !feeds.is_empty() && api.is_some_and(|api| !api.receipt_keys.is_empty());
        if let Some(Located { place, .. }) =
            self.when_silent.filter(|_| when_silent == WhenSilent::End && whole && !vouched)
        {
            p.add(
                &place,
                "when_silent is \"end\", and nothing could tell that a feed was heard",
                "name feeds here and the server's keys in ship.api.receipt_keys, or write \"keep\"",
            );
        }
        let deny_keys = self.deny_keys.into_iter().flat_map(|keys| keys.value).map(|key| key.value);
        let automatic = self.automatic.into_iter().flat_map(|keys| keys.value).map(|key| key.value);
        let settings = document::Settings {
            organization: organization.value,
            feeds: feeds.iter().map(|feed| feed.value.clone()).collect(),
            deny_keys: deny_keys.take(MAX_DENY_KEYS + 1).collect(),
            plain_approvers: self.plain_approvers.is_some_and(|plain| plain.value),
            max_silence,
            when_silent,
            roster: RosterTrust {
                threshold: self.threshold.map_or(1, |threshold| threshold.value),
                min_version: self.min_version.map_or(0, |version| version.value),
                automatic: automatic.take(MAX_ROSTER_KEYS + 1).collect(),
                keys: self.keys,
            },
        };
        if settings.roster.keys.is_empty() {
            if whole {
                let what = "[stack] names nobody who may sign a roster";
                p.add(&place, what, "add [[stack.roster.key]] with person = \"ceo\" and their key");
            }
            return None;
        }
        settings.check().map_err(|error| p.add(&place, error.to_string(), "")).ok()
    }
}

fn when_silent(text: &str) -> Result<WhenSilent, String> {
    match text {
        "keep" => Ok(WhenSilent::Keep),
        "end" => Ok(WhenSilent::End),
        _ => Err(format!("{} is nothing that can become of grants; write \"keep\" or \"end\"", quoted(text))),
    }
}

/// The word as in the configuration.
pub(super) fn when_silent_word(when: WhenSilent) -> &'static str {
    match when {
        WhenSilent::Keep => "keep",
        WhenSilent::End => "end",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Config, keys::test_keys::ED25519};

    fn with(stack: &str) -> Result<Config, String> {
        let text =
            format!("mode = \"observe\"\n[ship.api]\nurl = \"https://a\"\nreceipt_keys = [\"{ED25519}\"]\n{stack}");
        Config::parse(&[("c.toml", &text)]).map_err(|error| error.to_string())
    }

    fn key(person: &str, key: &str) -> String {
        format!("[[stack.roster.key]]\nperson = \"{person}\"\nkey = \"{key}\"\n")
    }

    #[test]
    fn what_a_stack_is_commanded_by_is_judged_whole_and_written_as_it_was_read() {
        assert_eq!(with("").expect("good").stack, None);
        let least = format!("[stack]\norganization = \"acme\"\n{}", key("ceo", ED25519));
        let config = with(&least).expect("good");
        let stack = config.stack.as_ref().expect("it is there");
        assert_eq!(
            (stack.threshold(), stack.max_silence, stack.when_silent),
            (1, DEFAULT_MAX_SILENCE, WhenSilent::Keep)
        );
        let all = format!(
            "[stack]\norganization = \"acme\"\nfeeds = [\"https://a\", \"https://b/x/\"]\ndeny_keys = [\"{}\"]\nplain_approvers = \
             true\nmax_silence = \"20m\"\nwhen_silent = \"end\"\n[stack.roster]\nthreshold = 1\nmin_version = 7\n{}",
            crate::keys::test_keys::RSA_FINGERPRINT,
            key("ceo", ED25519)
        );
        let config = with(&all).expect("good");
        assert_eq!(with(&written(&config)).expect("good").stack, config.stack);
    }

    fn written(config: &Config) -> String {
        let text = config.to_toml();
        let from = text.find("[stack]").expect("it is written");
        text[from..].to_owned()
    }

    #[test]
    fn a_stack_that_nobody_or_anybody_could_command_is_refused_with_what_would_work() {
        let least = format!("[stack]\norganization = \"acme\"\n{}", key("ceo", ED25519));
        for (stack, why) in [
            (key("ceo", ED25519), "organization is missing"),
            ("[stack]\norganization = \"acme\"\n".to_owned(), "names nobody who may sign a roster"),
            (format!("{least}[stack.roster]\nthreshold = 0\n"), "threshold"),
            (least.replace("[[stack", "[stack.roster]\nthreshold = 2\n[[stack"), "nobody could ever sign"),
            (least.replace("[[stack", "[stack.roster]\nthreshold = 0\n[[stack"), "anybody could sign"),
            (least.replace("[[stack", "[stack.roster]\nthreshold = -1\n[[stack"), "threshold"),
            (least.replace("acme\"", "acme\"\nwhen_silent = \"end\""), "nothing could tell"),
            (least.replace("acme\"", "acme\"\nwhen_silent = \"off\""), "\"keep\" or \"end\""),
            (least.replace("acme\"", "acme\"\nmax_silence = \"1s\""), "1m to 30d works"),
            (least.replace("acme\"", "acme\"\nfeeds = [\"http://a\"]"), "is no https URL"),
            (least.replace("acme\"", "acme\"\nfeed = []"), "did you mean feeds?"),
            (least.replace("ssh-ed25519", "ssh-dss"), "ssh-dss"),
            (format!("{least}{}", key("cto", ED25519)), "twice"),
        ] {
            let refused = with(&stack).expect_err(&stack);
            assert!(refused.contains(why), "{why}: {refused}");
        }
    }
}
