//! What the daemon tells the shipper, where records are to be sent, and what the shipper tells of itself. The two share
//! files and nothing else: the shipper parses no configuration, the daemon opens no connection.

use std::{collections::BTreeMap, path::Path};

use control::{Problem, Severity, SinkState};
use jiff::{SignedDuration, Timestamp};
use lockdown_core::config::Config;
use lockdown_host::{
    paths::{self, Durability},
    shipper::{self, Unit},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Driver;

/// What the shipper goes by.
const SHIP: &str = "/run/lockdownd/ship.json";
/// The version of its format.
const VERSION: u64 = 1;
/// The most that is read of it, in bytes, to see whether it says the same already.
const MAX_SHIP: u64 = 64 * 1024;
/// The most characters that are shown of anything the shipper says.
const MAX_SAID: usize = 300;
/// What to do where the ledger is nearly full.
pub(crate) const NEARLY_FULL_REMEDY: &str =
    "see with lockdownctl status why records are not shipped, make room, or raise ledger.max_size and reload";
/// For how long records may wait for a sink that is out of reach before that is a problem.
const LATE: SignedDuration = SignedDuration::from_mins(5);
/// The same of a feed, from when it answered last: a lockdown may be behind it.
const UNHEARD: SignedDuration = SignedDuration::from_mins(2);

impl Driver {
    /// Says where records are to be sent, unless that stands there already: each writing wakes the shipper.
    pub(super) fn publish_shipping(&self) {
        let (path, text) = (Path::new(SHIP), ship_json(&self.core.config));
        if paths::read_path(path, MAX_SHIP).is_ok_and(|stands| stands == text.as_bytes()) {
            return;
        }
        if let Err(error) = paths::replace_path(path, text.as_bytes(), 0o644, Durability::Volatile) {
            tracing::error!(%error, "the shipper cannot be told where to send records");
        }
    }
}

/// What the shipper says of itself: shown to operators, believed in nothing.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Said {
    sinks: BTreeMap<String, SaidOfSink>,
    feeds: Vec<SaidOfFeed>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SaidOfFeed {
    feed: String,
    state: String,
    heard: Option<Timestamp>,
    why: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SaidOfSink {
    state: String,
    /// Whose numbers these are: the shipper may still be sending the ledger before.
    ledger: Option<String>,
    seq: u64,
    waiting: u64,
    waiting_since: Option<Timestamp>,
    why: Option<String>,
    enrolment: Option<String>,
}

impl Driver {
    /// What the shipper says of itself; nothing where it says nothing.
    fn said_by_shipper(&self) -> Said {
        let text = self.shipper.status().ok().flatten();
        text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
    }

    /// Feeds that the shipper does not hear, and why.
    pub(crate) fn feeds_out_of_reach(&self, now: Timestamp) -> Vec<Problem> {
        let feeds = self.core.config.stack.iter().flat_map(|stack| &stack.feeds).collect::<Vec<_>>();
        if feeds.is_empty() {
            return Vec::new();
        }
        let said = self.said_by_shipper();
        let named = said.feeds.iter().filter(|said| feeds.contains(&&said.feed));
        named.filter_map(|said| out_of_reach(said, now)).collect()
    }

    /// Where records are shipped to, and how far they have got.
    pub(crate) fn sinks(&self) -> Vec<SinkState> {
        let said = self.said_by_shipper();
        let Some(ledger) = self.ledger.as_ref() else { return Vec::new() };
        let own = (ledger.id.as_str(), ledger.head.seq);
        let ship = &self.core.config.ship;
        let syslog = ship.syslog.as_ref().map(|address| sink("syslog", address, None, own, &said));
        let api = ship.api.as_ref().map(|api| sink("api", &api.url, Some(ledger.acknowledged), own, &said));
        syslog.into_iter().chain(api).collect()
    }
}

/// What an operator should know of shipping. Asks systemd where the shipper is silent, so it is no work for the main thread.
pub(crate) fn shipping_problems(sinks: &[SinkState], now: Timestamp) -> Vec<Problem> {
    let silent = sinks.iter().any(|sink| sink.state.is_none());
    let silent = silent.then(|| silence(shipper::unit().map_err(|error| error.to_string())));
    silent.into_iter().chain(sinks.iter().filter_map(|sink| held_up(sink, now))).collect()
}

/// Records go nowhere, since the shipper says nothing.
fn silence(unit: Result<Unit, String>) -> Problem {
    let (severity, why) = match unit {
        Ok(unit) if unit.active == "active" => {
            (Severity::Warning, "it runs, and has not said yet how far it is".to_owned())
        }
        Ok(unit) if unit.active == "failed" || unit.result != "success" => {
            (Severity::Err, format!("it does not stay up ({}, exit status {})", unit.result, unit.exit_status))
        }
        Ok(unit) if unit.file == "enabled" => (Severity::Err, "it is stopped".to_owned()),
        Ok(unit) => (Severity::Err, format!("it is stopped, and {}", unit.file)),
        Err(error) => (Severity::Err, format!("how it stands cannot be told: {error}")),
    };
    Problem {
        severity,
        what: format!("lockdownd-shipper says nothing, so that no record leaves this host: {why}"),
        remedy: Some("systemctl enable --now lockdownd-shipper; journalctl -u lockdownd-shipper says more".to_owned()),
    }
}

/// A sink to which records do not get.
fn held_up(sink: &SinkState, now: Timestamp) -> Option<Problem> {
    let late = sink.since.is_some_and(|since| now.duration_since(since) >= LATE);
    let severity = match sink.state.as_deref()? {
        "idle" | "shipping" => return None,
        "waiting" if late => Severity::Warning,
        "waiting" => return None,
        _ => Severity::Err,
    };
    let since = sink.since.map(|since| format!(" since {since:.0}")).unwrap_or_default();
    let why = sink.why.as_deref().unwrap_or("lockdownd-shipper does not say why");
    Some(Problem {
        severity,
        what: format!("records that wait to be sent to {} {}: {}{since}: {why}", sink.name, sink.to, sink.waiting),
        remedy: Some(
            "they are kept, and sent once that is mended; lockdownd-shipper(8) says what each answer means".to_owned(),
        ),
    })
}

/// A feed from which no document comes.
fn out_of_reach(said: &SaidOfFeed, now: Timestamp) -> Option<Problem> {
    let late = said.heard.is_none_or(|heard| now.duration_since(heard) >= UNHEARD);
    let severity = match said.state.as_str() {
        "refused" => Severity::Err,
        "waiting" if late => Severity::Warning,
        _ => return None,
    };
    let heard = said.heard.map_or_else(|| "was never heard".to_owned(), |at| format!("was heard last at {at:.0}"));
    let why: String =
        said.why.as_deref().unwrap_or("lockdownd-shipper does not say why").chars().take(MAX_SAID).collect();
    Some(Problem {
        severity,
        what: format!("the feed {} {heard}: {why}", said.feed),
        remedy: Some(
            "it is asked again by itself; what it would bring comes by another feed, or by lockdownctl apply"
                .to_owned(),
        ),
    })
}

fn sink(name: &str, to: &str, acknowledged: Option<u64>, own: (&str, u64), said: &Said) -> SinkState {
    let short = |text: &String| text.chars().take(MAX_SAID).collect::<String>();
    let said = said.sinks.get(name);
    let (ledger, head) = own;
    let of_this = said.filter(|said| said.ledger.as_deref().is_none_or(|its| its == ledger));
    let sent = of_this.map_or(0, |said| said.seq.min(head));
    SinkState {
        name: name.to_owned(),
        to: to.to_owned(),
        state: said.map(|said| short(&said.state)),
        sent,
        waiting: if of_this.is_some() { head - sent } else { said.map_or(head, |said| said.waiting.max(head)) },
        since: said.and_then(|said| said.waiting_since),
        why: said.and_then(|said| said.why.as_ref()).map(short),
        enrolment: said.and_then(|said| said.enrolment.as_ref()).map(short),
        acknowledged,
    }
}

/// `ship.json`: one line; what is not configured is absent.
fn ship_json(config: &Config) -> String {
    let mut all = Map::new();
    all.insert("v".to_owned(), VERSION.into());
    all.insert("retain".to_owned(), config.ledger.retain.as_secs().into());
    if let Some(address) = &config.ship.syslog {
        all.insert("syslog".to_owned(), json!({ "address": address }));
    }
    if let Some(api) = &config.ship.api {
        let keys = api.receipt_keys.iter().map(|key| key.to_openssh().expect("a key that was read can be written"));
        let mut object = json!({ "url": api.url, "receipt_keys": keys.collect::<Vec<_>>() });
        for (name, file) in [("ca_file", &api.ca_file), ("client_certificate", &api.client_certificate)] {
            if let Some(file) = file {
                object[name] = file.as_str().into();
            }
        }
        all.insert("api".to_owned(), object);
    }
    if let Some(stack) = &config.stack {
        let (organization, name) = (stack.organization.to_string(), config.host.stack.as_str());
        all.insert("stack".to_owned(), json!({ "organization": organization, "stack": name, "feeds": stack.feeds }));
    }
    format!("{}\n", Value::Object(all))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(ship: &str) -> String {
        ship_json(&Config::parse(&[("c.toml", &format!("mode = \"observe\"\n{ship}"))]).expect("good"))
    }

    #[test]
    fn what_the_shipper_says_is_shown_within_bounds_and_no_lie_makes_a_number_wrong() {
        let said = format!(
            "{{\"v\":1,\"sinks\":{{\"api\":{{\"state\":\"retrying\",\"ledger\":\"ab\",\"seq\":7,\"waiting_since\":\"2026-11-23T18:00:00Z\",\"why\":\"{}\",\"more\":1}}}}}}",
            "x".repeat(1_000)
        );
        let said: Said = serde_json::from_str(&said).expect("good");
        let seen = sink("api", "https://a", Some(5), ("ab", 9), &said);
        assert_eq!((seen.sent, seen.waiting, seen.acknowledged), (7, 2, Some(5)));
        assert_eq!((seen.why.map(|why| why.len()), seen.state.as_deref()), (Some(MAX_SAID), Some("retrying")));
        let seen = sink("api", "https://a", Some(5), ("ab", 3), &said);
        assert_eq!((seen.sent, seen.waiting), (3, 0));
        let seen = sink("api", "https://a", Some(5), ("cd", 3), &said);
        assert_eq!((seen.sent, seen.waiting), (0, 3), "the number is one of another ledger");
        let seen = sink("syslog", "unix:/x", None, ("ab", 9), &said);
        assert_eq!((seen.sent, seen.waiting, seen.state), (0, 9, None));
    }

    #[test]
    fn a_feed_is_a_problem_when_it_refuses_or_is_not_heard_for_long() {
        let now: Timestamp = "2026-11-23T18:00:00Z".parse().expect("good");
        let feed = |state: &str, heard: &str| {
            let said = format!(
                "{{\"feeds\":[{{\"feed\":\"https://a\",\"state\":\"{state}\",\"why\":\"{}\"{heard}}}]}}",
                "y".repeat(999)
            );
            let said: Said = serde_json::from_str(&said).expect("good");
            out_of_reach(&said.feeds[0], now).map(|problem| (problem.severity, problem.what))
        };
        let [lately, long_ago] = ["17:59:00", "17:57:00"].map(|at| format!(",\"heard\":\"2026-11-23T{at}Z\""));
        assert_eq!(feed("listening", &long_ago), None, "it waits for news");
        assert_eq!(feed("waiting", &lately), None);
        let (severity, what) = feed("waiting", &long_ago).expect("a problem");
        assert!(severity == Severity::Warning && what.contains("heard last at 2026-11-23T17:57:00Z: yyy"), "{what}");
        assert!(what.len() < 2 * MAX_SAID);
        assert!(feed("waiting", "").expect("a problem").1.contains("was never heard"));
        assert_eq!(feed("refused", &lately).expect("a problem").0, Severity::Err);
    }

    #[test]
    fn a_silent_shipper_and_a_sink_out_of_reach_are_problems_with_their_cause() {
        let unit = |active: &str, result: &str, file: &str| {
            let [active, result, file] = [active, result, file].map(str::to_owned);
            silence(Ok(Unit { active, result, file, exit_status: "1".to_owned() })).what
        };
        assert!(unit("inactive", "success", "enabled").ends_with("it is stopped"));
        assert!(unit("inactive", "success", "masked").ends_with("it is stopped, and masked"));
        assert!(unit("activating", "exit-code", "enabled").contains("does not stay up (exit-code, exit status 1)"));
        assert!(silence(Err("no systemctl".to_owned())).what.ends_with("no systemctl"));

        let said = "{\"v\":1,\"sinks\":{\"api\":{\"state\":\"waiting\",\"seq\":7,\"waiting_since\":\"2026-11-23T18:00:00Z\",\"why\":\"no route\"}}}";
        let seen = sink("api", "https://a", None, ("ab", 9), &serde_json::from_str(said).expect("good"));
        let at = |text: &str| held_up(&seen, text.parse().expect("a moment"));
        assert_eq!(at("2026-11-23T18:04:00Z"), None, "that happens");
        let problem = at("2026-11-23T18:05:00Z").expect("a problem");
        assert_eq!(
            problem.what,
            "records that wait to be sent to api https://a: 2 since 2026-11-23T18:00:00Z: no route"
        );
        let refused = SinkState { state: Some("refused".to_owned()), since: None, ..seen };
        assert_eq!(held_up(&refused, Timestamp::UNIX_EPOCH).map(|problem| problem.severity), Some(Severity::Err));
    }

    #[test]
    fn the_shipper_is_told_what_is_configured_and_nothing_else() {
        assert_eq!(told(""), "{\"retain\":34560000,\"v\":1}\n");
        assert_eq!(
            told("[ship.syslog]\naddress = \"unix:/run/x\"\n[ship.api]\nurl = \"https://a\""),
            "{\"api\":{\"receipt_keys\":[],\"url\":\"https://a\"},\"retain\":34560000,\"syslog\":{\"address\":\"unix:/run/x\"},\"v\":1}\n"
        );
        let key = lockdown_core::keys::test_keys::ED25519;
        let api = told(&format!(
            "[ship.api]\nurl = \"https://a\"\nca_file = \"/ca.pem\"\nclient_certificate = \"/c.pem\"\nreceipt_keys = [\"{key} words\"]"
        ));
        assert!(
            api.contains("\"ca_file\":\"/ca.pem\",\"client_certificate\":\"/c.pem\",\"receipt_keys\":[\"ssh-ed25519 ")
        );
        assert!(!api.contains("words"));
    }
}
