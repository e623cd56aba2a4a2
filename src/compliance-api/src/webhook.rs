//! What people are told of at once, by a POST to one URL: a request, a lockdown, an incident. The text reads well in Slack
//! and Teams.
//!
//! It holds nothing up: what waits is bounded, a thread of its own sends it, and what cannot be sent in time is dropped, with
//! a line in the log.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use serde_json::{Map, Value, json};
use ureq::{
    Agent,
    tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem},
};

use crate::{config::Webhook, incidents::Kind, store::incidents::Kept};

/// Events that wait to be sent; one more is dropped.
const MAX_WAITING: usize = 256;
/// How long one try may take.
const TRY: Duration = Duration::from_secs(10);
/// How long is waited after each try that failed; after the last the event is dropped.
const AFTER: [Duration; 6] = [
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(15),
    Duration::from_secs(60),
    Duration::from_secs(120),
    Duration::from_secs(300),
];
/// The longest file of certificates that is read, in bytes.
const MAX_PEM: u64 = 4 * 1024 * 1024;
/// The system's authorities.
const SYSTEM: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Characters of a text.
const MAX_TEXT: usize = 1_000;

/// Why there is no webhook.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The authorities cannot be read.
    #[error("webhook: cannot read {path}: name the authority of {url} in webhook.ca_file")]
    Read {
        /// The file.
        path: PathBuf,
        /// Where to.
        url: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// There are none in it.
    #[error("webhook: {0} holds no certificate in PEM")]
    NoCertificate(PathBuf),
    /// No thread.
    #[error("webhook: cannot start its thread")]
    Thread(#[from] io::Error),
}

/// The way to whoever is told; without one, nobody is.
#[derive(Debug, Clone, Default)]
pub struct Hook {
    queue: Option<SyncSender<Value>>,
    dropped: Arc<AtomicU64>,
}

impl Hook {
    /// Starts its thread, where one is configured.
    ///
    /// # Errors
    /// Authorities that cannot be read.
    pub fn start(webhook: Option<&Webhook>) -> Result<Self, Error> {
        let Some(webhook) = webhook else { return Ok(Self::default()) };
        let agent = agent(webhook)?;
        let (send, receive) = sync_channel(MAX_WAITING);
        let url = webhook.url.clone();
        thread::Builder::new().name("webhook".to_owned()).spawn(move || send_all(&agent, &url, &receive))?;
        Ok(Self { queue: Some(send), dropped: Arc::default() })
    }

    /// Whether anybody is told of anything.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.queue.is_some()
    }

    /// Tells of an incident.
    pub fn tell_incident(&self, incident: &Kept) {
        let kind = Kind::ALL.iter().find(|kind| kind.as_str() == incident.kind);
        let title = kind.map_or(incident.kind.as_str(), |kind| kind.title());
        let mut more = Map::new();
        more.insert("incident".to_owned(), json!({"kind": incident.kind, "subject": incident.subject}));
        more.extend(incident.host.iter().map(|host| ("host".to_owned(), host.as_str().into())));
        let act = kind.map_or("", |kind| kind.what_to_do());
        self.tell("incident", &format!("{title}: {}. {act}", incident.subject), more);
    }

    /// Tells of an event: a word for programs, a text for people, and what else there is to say.
    pub fn tell(&self, event: &str, text: &str, more: Map<String, Value>) {
        let Some(queue) = &self.queue else { return };
        let mut body = more;
        body.insert("event".to_owned(), event.into());
        body.insert("text".to_owned(), harmless(text).into());
        if queue.try_send(Value::Object(body)).is_err() {
            let dropped = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
            tracing::warn!(
                dropped,
                "the webhook does not answer, and as much waits for it as may: nobody is told of this"
            );
        }
    }
}

/// Text in which nothing is a mention or a link to another place.
fn harmless(text: &str) -> String {
    let plain = |c| match c {
        '<' => '‹',
        '>' => '›',
        c => c,
    };
    text.chars().take(MAX_TEXT).map(plain).collect()
}

/// Whether the server could tell of something with this configuration.
///
/// # Errors
/// Authorities that cannot be read.
pub fn check(webhook: &Webhook) -> Result<(), Error> {
    agent(webhook).map(|_| ())
}

fn agent(webhook: &Webhook) -> Result<Agent, Error> {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .user_agent(concat!("compliance-api/", env!("CARGO_PKG_VERSION")))
        .timeout_global(Some(TRY))
        .max_idle_connections(1);
    if !webhook.url.starts_with("https:") {
        return Ok(config.proxy(None).build().into());
    }
    let path = webhook.ca_file.as_deref().unwrap_or(Path::new(SYSTEM));
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::new_with_certs(&certificates(path, &webhook.url)?))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build();
    Ok(config.tls_config(tls).https_only(true).build().into())
}

fn certificates(path: &Path, url: &str) -> Result<Vec<Certificate<'static>>, Error> {
    let failed = |source| Error::Read { path: path.to_owned(), url: url.to_owned(), source };
    if fs::metadata(path).map_err(failed)?.len() > MAX_PEM {
        return Err(failed(io::ErrorKind::FileTooLarge.into()));
    }
    let pem = fs::read(path).map_err(failed)?;
    let all: Vec<_> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if all.is_empty() { Err(Error::NoCertificate(path.to_owned())) } else { Ok(all) }
}

fn send_all(agent: &Agent, url: &str, queue: &Receiver<Value>) {
    while let Ok(body) = queue.recv() {
        let text = body.to_string();
        let mut waits = AFTER.iter();
        loop {
            let why = match send(agent, url, &text) {
                Ok(()) => break,
                Err(why) => why,
            };
            match waits.next().filter(|_| why.is_passing) {
                Some(wait) => {
                    tracing::info!(why = why.what, "the webhook did not take an event: it is tried again");
                    thread::sleep(*wait);
                }
                None => {
                    tracing::warn!(why = why.what, event = %body["event"], "the webhook did not take an event: it is dropped");
                    break;
                }
            }
        }
    }
}

struct NotTaken {
    what: String,
    is_passing: bool,
}

fn send(agent: &Agent, url: &str, body: &str) -> Result<(), NotTaken> {
    let answer = agent.post(url).content_type("application/json").send(body);
    match answer.map(|answer| answer.status().as_u16()) {
        Ok(200..=299) => Ok(()),
        Ok(status) => {
            let is_passing = matches!(status, 408 | 429 | 500..);
            Err(NotTaken { what: format!("it answered {status}"), is_passing })
        }
        // The URL may hold a secret: it is not told.
        Err(error) => Err(NotTaken { what: error.to_string().replace(url, "the webhook"), is_passing: true }),
    }
}

/// What is told of a document.
pub(crate) fn about(document: &str, pairs: &[(&str, &str)]) -> Map<String, Value> {
    let mut more = Map::new();
    more.insert("document".to_owned(), document.into());
    for (name, value) in pairs {
        more.insert((*name).to_owned(), (*value).into());
    }
    more
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_mentions_nobody_and_links_nowhere_else() {
        assert_eq!(harmless("<!channel> <https://evil|click>"), "‹!channel› ‹https://evil|click›");
        assert_eq!(harmless(&"x".repeat(5000)).len(), MAX_TEXT);
    }

    #[test]
    fn more_than_can_wait_is_dropped_and_holds_nothing_up() {
        let (send, _receive) = sync_channel(MAX_WAITING);
        let hook = Hook { queue: Some(send), dropped: Arc::default() };
        for _ in 0..MAX_WAITING + 3 {
            hook.tell("incident", "x", Map::new());
        }
        assert_eq!(hook.dropped.load(Ordering::Relaxed), 3);
        Hook::default().tell("incident", "nobody is told", Map::new());
    }
}
