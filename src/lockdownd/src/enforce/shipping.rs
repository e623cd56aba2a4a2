//! What the daemon tells the shipper, where records are to be sent, and what the shipper tells of itself. The two share
//! files and nothing else: the shipper parses no configuration, the daemon opens no connection.

use std::{collections::BTreeMap, path::Path};

use control::SinkState;
use jiff::Timestamp;
use lockdown_core::config::Config;
use lockdown_host::paths::{self, Durability};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Engine;

/// What the shipper goes by.
const SHIP: &str = "/run/lockdownd/ship.json";
/// The version of its format.
const VERSION: u64 = 1;
/// The most that is read of it, in bytes, to see whether it says the same already.
const MAX_SHIP: u64 = 64 * 1024;
/// The most characters that are shown of anything the shipper says.
const MAX_SAID: usize = 300;

impl Engine {
    /// Says where records are to be sent, unless that stands there already: each writing wakes the shipper.
    pub(super) fn publish_shipping(&self) {
        let (path, text) = (Path::new(SHIP), ship_json(&self.config));
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

impl Engine {
    /// Where records are shipped to, and how far they have got.
    pub(crate) fn sinks(&self) -> Vec<SinkState> {
        let text = self.shipped.shipper.status().ok().flatten();
        let said: Said = text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        let ledger = self.recorder.ledger();
        let own = (ledger.id.as_str(), ledger.head.seq);
        let ship = &self.config.ship;
        let syslog = ship.syslog.as_ref().map(|address| sink("syslog", address, None, own, &said));
        let api = ship.api.as_ref().map(|api| sink("api", &api.url, Some(ledger.acknowledged), own, &said));
        syslog.into_iter().chain(api).collect()
    }
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
