//! What the daemon tells the shipper: where records are to be sent, by the configuration in force. The two share files
//! and nothing else: the shipper parses no configuration, the daemon opens no connection.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::Engine;
use crate::{
    config::Config,
    host::paths::{self, Durability},
};

/// What the shipper goes by.
const SHIP: &str = "/run/lockdownd/ship.json";
/// The version of its format.
const VERSION: u64 = 1;
/// The most that is read of it, in bytes, to see whether it says the same already.
const MAX_SHIP: u64 = 64 * 1024;

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
    fn the_shipper_is_told_what_is_configured_and_nothing_else() {
        assert_eq!(told(""), "{\"retain\":34560000,\"v\":1}\n");
        assert_eq!(
            told("[ship.syslog]\naddress = \"unix:/run/x\"\n[ship.api]\nurl = \"https://a\""),
            "{\"api\":{\"receipt_keys\":[],\"url\":\"https://a\"},\"retain\":34560000,\"syslog\":{\"address\":\"unix:/run/x\"},\"v\":1}\n"
        );
        let key = crate::keys::test_keys::ED25519;
        let api = told(&format!(
            "[ship.api]\nurl = \"https://a\"\nca_file = \"/ca.pem\"\nclient_certificate = \"/c.pem\"\nreceipt_keys = [\"{key} words\"]"
        ));
        assert!(
            api.contains("\"ca_file\":\"/ca.pem\",\"client_certificate\":\"/c.pem\",\"receipt_keys\":[\"ssh-ed25519 ")
        );
        assert!(!api.contains("words"));
    }
}
