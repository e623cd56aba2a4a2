//! What the daemon's configuration says about shipping, as the daemon left it in `ship.json`. No TOML is parsed here.

use std::{net::IpAddr, path::PathBuf};

use document::Organization;
use record::Stack;
use serde::Deserialize;
use ssh_key::PublicKey;
use ureq::http::Uri;

use crate::{files, http::Server, log, paths::Paths};

/// The longest `ship.json` that is read, in bytes.
const MAX_SETTINGS: u64 = 64 * 1024;
/// The most feeds that are listened to; those after them are not.
pub(crate) const MAX_FEEDS: usize = 8;
/// The version of the file.
const VERSION: u64 = 1;

/// Where to ship to. Nothing, until the daemon has said otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    /// syslog's socket.
    pub(crate) syslog: Option<PathBuf>,
    /// The compliance API; or what is wrong with what is said of it.
    pub(crate) api: Option<Result<Api, String>>,
    /// Where documents come from.
    pub(crate) feeds: Option<Feeds>,
}

/// Whose documents are fetched, and from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Feeds {
    pub(crate) organization: Organization,
    pub(crate) stack: Stack,
    /// In their order, at most [`MAX_FEEDS`].
    pub(crate) feeds: Vec<Feed>,
    /// How many more the configuration names.
    pub(crate) left_out: usize,
}

/// One feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Feed {
    /// As the configuration has it: the daemon knows it by this.
    pub(crate) name: String,
    /// How it is reached; or what is wrong with what is said of it.
    pub(crate) server: Result<Server, String>,
}

impl Feed {
    /// Whether it is a place for files, which answers at once and with all there is.
    pub(crate) fn is_static(&self) -> bool {
        self.name.ends_with('/')
    }
}

/// How to reach the compliance API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Api {
    /// Its URL is without a path's end: `/v1/artifacts` is put behind it.
    pub(crate) server: Server,
    /// The keys that receipts may be signed by. Empty: the first one seen is pinned.
    pub(crate) receipt_keys: Vec<PublicKey>,
}

#[derive(Deserialize)]
struct Written {
    v: u64,
    syslog: Option<WrittenSyslog>,
    api: Option<WrittenApi>,
    stack: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct WrittenStack {
    organization: Organization,
    stack: Stack,
    #[serde(default)]
    feeds: Vec<String>,
}

#[derive(Deserialize)]
struct WrittenSyslog {
    address: String,
}

#[derive(Deserialize)]
struct WrittenApi {
    url: String,
    ca_file: Option<PathBuf>,
    client_certificate: Option<PathBuf>,
    #[serde(default)]
    receipt_keys: Vec<String>,
}

/// Reads `ship.json`. Where there is none, or none that can be understood, nothing new is known: `None`.
pub(crate) fn read(paths: &Paths) -> Option<Settings> {
    let path = paths.settings();
    match files::read(&path, MAX_SETTINGS) {
        Ok(Some(bytes)) => match parse(&bytes) {
            Ok(settings) => Some(settings),
            Err(why) => {
                log::error(format_args!("{} cannot be understood: {why}", path.display()));
                None
            }
        },
        Ok(None) => None,
        Err(error) => {
            log::error(format_args!("{error}"));
            None
        }
    }
}

fn parse(bytes: &[u8]) -> Result<Settings, String> {
    let written: Written = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    if written.v != VERSION {
        return Err(format!("it is of version {}; this program reads version {VERSION}", written.v));
    }
    let syslog = match written.syslog {
        Some(syslog) => match syslog.address.strip_prefix("unix:") {
            Some(path) if path.starts_with('/') => Some(PathBuf::from(path)),
            _ => return Err(format!("{:?} is no address of a syslog socket; unix:/PATH is", syslog.address)),
        },
        None => None,
    };
    let feeds = written.stack.and_then(|stack| match serde_json::from_value(stack) {
        Ok(stack) => Some(feeds(stack, written.api.as_ref())),
        // Records are shipped all the same.
        Err(error) => {
            log::error(format_args!("no feed is listened to: what is said of the stack cannot be understood: {error}"));
            None
        }
    });
    Ok(Settings { syslog, api: written.api.map(api), feeds })
}

/// What is said of the API's authorities counts for feeds too; our certificate is shown to nobody but that server.
fn feeds(written: WrittenStack, api: Option<&WrittenApi>) -> Feeds {
    let left_out = written.feeds.len().saturating_sub(MAX_FEEDS);
    let feed = |name: String| {
        let same = api.filter(|api| origin(&api.url).is_some_and(|origin| self::origin(&name) == Some(origin)));
        let server = check_url(&name).map(|()| Server {
            url: name.trim_end_matches('/').to_owned(),
            authorities: api.and_then(|api| api.ca_file.clone()),
            certificate: same.and_then(|api| api.client_certificate.clone()),
        });
        Feed { name, server }
    };
    Feeds {
        organization: written.organization,
        stack: written.stack,
        feeds: written.feeds.into_iter().take(MAX_FEEDS).map(feed).collect(),
        left_out,
    }
}

/// Scheme, host and port.
fn origin(url: &str) -> Option<(String, String, u16)> {
    let uri: Uri = url.parse().ok()?;
    let scheme = uri.scheme_str()?.to_ascii_lowercase();
    let port = uri.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
    Some((scheme, uri.host()?.to_ascii_lowercase(), port))
}

fn api(written: WrittenApi) -> Result<Api, String> {
    let url = written.url.trim_end_matches('/').to_owned();
    check_url(&url)?;
    let mut receipt_keys = Vec::new();
    for text in &written.receipt_keys {
        receipt_keys.push(
            PublicKey::from_openssh(text)
                .ok()
                .filter(|key| key.algorithm() == ssh_key::Algorithm::Ed25519)
                .ok_or_else(|| format!("receipt_keys holds {text:?}, which is no ssh-ed25519 public key"))?,
        );
    }
    let server = Server { url, authorities: written.ca_file, certificate: written.client_certificate };
    Ok(Api { server, receipt_keys })
}

/// Only TLS leaves the machine.
fn check_url(url: &str) -> Result<(), String> {
    let uri: Uri = url.parse().map_err(|_| format!("{url:?} is no URL; https://HOST is"))?;
    let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| format!("{url:?} names no host"))?;
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) || uri.query().is_some() {
        return Err("the URL may hold neither a user nor a query; tokens are credentials".to_owned());
    }
    match uri.scheme_str() {
        Some("https") => Ok(()),
        Some("http") if is_loopback(host) => Ok(()),
        _ => Err(format!("{url:?} is not https; http is for this machine itself only (127.0.0.1, ::1, localhost)")),
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn api_of(api: &str) -> Result<Api, String> {
        parse(format!(r#"{{"v":1,"api":{api}}}"#).as_bytes()).unwrap().api.unwrap()
    }

    #[test]
    fn absent_sinks_are_not_configured_and_what_is_unknown_is_left_alone() {
        assert_eq!(parse(br#"{"v":1,"retain":"400d"}"#).unwrap(), Settings::default());
        let settings = parse(br#"{"v":1,"syslog":{"address":"unix:/run/x","new":1}}"#).unwrap();
        assert_eq!(settings.syslog.unwrap(), PathBuf::from("/run/x"));
        assert!(parse(br#"{"v":2}"#).unwrap_err().contains("version 2"));
        assert!(parse(br#"{"v":1,"syslog":{"address":"udp:1.2.3.4"}}"#).is_err());
    }

    #[test]
    fn plain_http_is_for_this_machine_alone() {
        for good in [
            "https://a.example",
            "https://a.example:8448/base/",
            "http://127.8.0.1:1",
            "http://[::1]:8448",
            "http://localhost",
        ] {
            api_of(&format!(r#"{{"url":"{good}"}}"#)).unwrap();
        }
        for bad in [
            "http://a.example",
            "http://10.0.0.1",
            "http://localhost.evil.example",
            "http://127.0.0.1.evil.example",
            "ftp://a",
            "a",
            "",
            "https://",
            "https://u:p@a",
            "https://a?token=x",
        ] {
            api_of(&format!(r#"{{"url":"{bad}"}}"#)).unwrap_err();
        }
        assert_eq!(api_of(r#"{"url":"https://a/b//"}"#).unwrap().server.url, "https://a/b");
    }

    #[test]
    fn a_receipt_key_that_is_no_ed25519_key_disables_the_sink_instead_of_pinning_any_key() {
        assert!(
            api_of(r#"{"url":"https://a","receipt_keys":["ssh-ed25519 AAAA"]}"#).unwrap_err().contains("receipt_keys")
        );
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4";
        assert_eq!(
            api_of(&format!(r#"{{"url":"https://a","receipt_keys":["{key}"]}}"#)).unwrap().receipt_keys.len(),
            1
        );
    }

    #[test]
    fn our_certificate_is_shown_to_the_origin_of_the_api_alone_and_its_authorities_count_for_every_feed() {
        let all = r#"{"v":1,"api":{"url":"https://A.example:443/base","ca_file":"/ca","client_certificate":"/own"},
            "stack":{"organization":"acme","stack":"web",
                     "feeds":["https://a.example","https://a.example:8443","https://b.example/x/","c","d","e","f","g","h"]}}"#;
        let feeds = parse(all.as_bytes()).unwrap().feeds.unwrap();
        assert_eq!((feeds.feeds.len(), feeds.left_out), (MAX_FEEDS, 1));
        let seen = |feed: &Feed| {
            let server = feed.server.clone().unwrap();
            (server.url, server.authorities, server.certificate.is_some(), feed.is_static())
        };
        let ca = Some(PathBuf::from("/ca"));
        assert_eq!(seen(&feeds.feeds[0]), ("https://a.example".to_owned(), ca.clone(), true, false));
        assert_eq!(seen(&feeds.feeds[1]), ("https://a.example:8443".to_owned(), ca.clone(), false, false));
        assert_eq!(seen(&feeds.feeds[2]), ("https://b.example/x".to_owned(), ca, false, true));
        let plain = r#"{"v":1,"stack":{"organization":"acme","stack":"web","feeds":["http://c.example"]}}"#;
        let feeds = parse(plain.as_bytes()).unwrap().feeds.unwrap();
        assert!(feeds.feeds[0].server.as_ref().unwrap_err().contains("not https"));
        for none in ["", r#","stack":{"organization":"a b","stack":"web"}"#, r#","stack":7"#] {
            let all = format!(r#"{{"v":1,"syslog":{{"address":"unix:/x"}}{none}}}"#);
            let settings = parse(all.as_bytes()).unwrap();
            assert!(settings.feeds.is_none() && settings.syslog.is_some());
        }
    }
}
