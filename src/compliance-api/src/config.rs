//! The configuration: TOML into a checked [`Config`]. Unknown keys are refused; every bound has a name and a default.
//!
//! With no file at all it describes a server for this machine alone: SQLite in the state directory, plain HTTP on
//! loopback. Plain HTTP on any other address is refused: records and tokens would cross the network in the clear.

use std::{
    env, fs, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use document::{Checked, Origin, Settings};
use record::Host;
use serde::{Deserialize, Deserializer, de::Error as _};

use crate::store;

/// Where the configuration is looked for when none is named. It need not be there.
pub const DEFAULT_PATH: &str = "/etc/compliance-api/config.toml";
/// Where requirements of one's own are looked for.
pub const REQUIREMENTS: &str = "/etc/compliance-api/requirements.d";
/// The largest configuration file, in bytes.
const MAX_CONFIG: u64 = 256 * 1024;
/// The port when the configuration names none.
pub const DEFAULT_PORT: u16 = 8448;

/// What the server was told to be.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The address it listens on.
    pub listen: SocketAddr,
    /// Its name: `host` in its own records, and the principal of its key.
    pub name: Host,
    /// The directory of the server's key, and of the database, where that is SQLite.
    pub state: PathBuf,
    /// PostgreSQL instead of SQLite.
    pub store: Option<Database>,
    /// The directory of requirements of one's own: its `*.toml` files add to what is built in. It need not be there.
    pub requirements: PathBuf,
    /// Addresses of proxies: connections from there begin with a header of the PROXY protocol, version 2, that says whom they
    /// are from.
    pub proxies: Vec<IpAddr>,
    /// TLS; needed for every address but loopback.
    pub tls: Option<Tls>,
    /// Whose documents are kept and handed to hosts; none without it.
    pub stack: Option<Stack>,
    /// Who is told of requests, lockdowns and incidents.
    pub webhook: Option<Webhook>,
    /// When it is stated where every ledger stands.
    pub checkpoint: Checkpoint,
    /// What is logged, and how.
    pub log: Log,
    /// Every bound.
    pub limits: Limits,
}

/// `[checkpoint]`: signed notes of where every ledger stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Checkpoint {
    /// How often one is made, beside those at a start and at a stop.
    #[serde(deserialize_with = "duration")]
    pub every: Duration,
}

impl Default for Checkpoint {
    fn default() -> Self {
        Self { every: Duration::from_secs(3600) }
    }
}

/// `[log]`: what is logged, and how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// How a line is written.
    pub format: LogFormat,
    /// Which requests have a line of their own.
    pub requests: LogRequests,
}

/// How a line of the log is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One object a line, with its moment.
    Json,
}

/// Which requests have a line of their own in the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogRequests {
    /// None.
    None,
    /// Those that the server failed at, or was too busy for.
    #[default]
    Failed,
    /// All.
    All,
}

/// `[store]`: PostgreSQL, for one server or several.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// `postgresql://USER@HOST/DATABASE`, with what else libpq's addresses take; no password.
    pub url: String,
    /// The file with the password: a whole path, or the name of one of systemd's credentials.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// PEM file with the authorities that its certificate is checked against, instead of the system's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
}

/// `[webhook]`: where events are posted.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// `https://…`, or `http://` on this machine alone.
    pub url: String,
    /// PEM file with the authorities that its certificate is checked against, instead of the system's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
}

/// `[stack]`: documents, and who signs rosters, as the hosts' configuration says too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stack {
    /// Whose word counts.
    pub settings: Checked,
    /// The server as its clients reach it; without it, its address.
    pub origin: Option<Origin>,
}

impl<'de> Deserialize<'de> for Stack {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let mut table = toml::Table::deserialize(from)?;
        let origin = table.remove("origin").map(Origin::deserialize).transpose().map_err(D::Error::custom)?;
        let settings = Settings::deserialize(table).map_err(D::Error::custom)?;
        Ok(Self { settings: settings.check().map_err(D::Error::custom)?, origin })
    }
}

/// Certificates.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// PEM file with the server's certificate and what leads to its root.
    pub certificate: PathBuf,
    /// PEM file with its key.
    pub key: PathBuf,
    /// PEM file with the authorities of client certificates.
    #[serde(default)]
    pub client_ca: Option<PathBuf>,
    /// Whether clients have to show one.
    #[serde(default)]
    pub client_certificates: ClientCertificates,
}

/// Whether clients have to show a certificate. One that is shown is always checked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientCertificates {
    /// They may.
    #[default]
    Optional,
    /// They must.
    Required,
}

/// Every bound, with its default.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Connections at a time. For one more, the oldest without a whole request is closed; where each has one, it waits.
    pub connections: usize,
    /// Connections at a time from one IPv4 address, or one /64 of IPv6; more are closed at once.
    pub connections_per_address: usize,
    /// Requests at a time from one IPv4 address, or one /64 of IPv6; more are answered 429.
    pub requests_per_address: usize,
    /// Batches at a time of one host, client or person, once they are verified; more are answered 429.
    pub batches_per_source: usize,
    /// From connecting, or from the last answer, until a request's header is there, TLS included.
    #[serde(deserialize_with = "duration")]
    pub header_timeout: Duration,
    /// From the header until the answer begins, body included.
    #[serde(deserialize_with = "duration")]
    pub request_timeout: Duration,
    /// How long a client may take nothing of an answer, or an answer give nothing.
    #[serde(deserialize_with = "duration")]
    pub stall_timeout: Duration,
    /// Bytes of a request's body.
    pub body: usize,
    /// Events of one batch.
    pub batch: usize,
    /// What waits to be stored, of each kind: documents, clients' artifacts, reads, the server's own, and full batches of hosts'
    /// records; more of that kind is answered 503.
    pub write_queue: usize,
    /// Hosts that wait for their feed at a time, each on a connection; more are answered 503.
    pub polls: usize,
    /// Connections to the database that read.
    pub readers: usize,
    /// Forked records kept per ledger; more are counted.
    pub forks_per_ledger: u64,
    /// Open incidents of one kind; more are counted as one. Of what anybody can cause 1000 are listed at most.
    pub incidents: u64,
    /// How far a record's time may be from this server's clock before it is flagged.
    #[serde(deserialize_with = "duration")]
    pub clock_ahead: Duration,
    /// How far ahead of this server's clock a host's `next_by` counts, whatever it says: the longest time between two sweeps.
    #[serde(deserialize_with = "duration")]
    pub next_by_ahead: Duration,
    /// How long after its `next_by` a host counts as silent.
    #[serde(deserialize_with = "duration")]
    pub silence_grace: Duration,
    /// After how long a host that never named a `next_by` counts as silent.
    #[serde(deserialize_with = "duration")]
    pub silent_after: Duration,
    /// How long a token lasts that is made without saying until when.
    #[serde(deserialize_with = "duration")]
    pub token_life: Duration,
    /// After how long without a run that did all that it should have a feeder counts as silent.
    #[serde(deserialize_with = "duration")]
    pub reader_silent_after: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            connections_per_address: 256,
            requests_per_address: 64,
            batches_per_source: 4,
            header_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            stall_timeout: Duration::from_secs(30),
            body: 1024 * 1024,
            batch: 500,
            write_queue: 256,
            polls: 3072,
            readers: 4,
            forks_per_ledger: 1000,
            incidents: 10_000,
            clock_ahead: Duration::from_secs(300),
            next_by_ahead: Duration::from_secs(25 * 3600),
            silence_grace: Duration::from_secs(300),
            silent_after: Duration::from_secs(3600),
            token_life: Duration::from_secs(90 * 24 * 3600),
            reader_silent_after: Duration::from_secs(600),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_PORT)),
            name: "compliance-api".parse().expect("a valid name"),
            state: env::var_os("STATE_DIRECTORY").map_or_else(|| PathBuf::from("compliance-api"), PathBuf::from),
            store: None,
            requirements: PathBuf::from(REQUIREMENTS),
            proxies: Vec::new(),
            tls: None,
            stack: None,
            webhook: None,
            checkpoint: Checkpoint::default(),
            log: Log::default(),
            limits: Limits::default(),
        }
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// It is larger than any configuration.
    #[error("{0} is over {MAX_CONFIG} bytes: no configuration of this server")]
    TooLarge(PathBuf),
    /// It is not as it has to be.
    #[error("{path}: {source}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Line, column and what is wrong.
        source: Box<toml::de::Error>,
    },
    /// Plain HTTP to other machines.
    #[error(
        "listening on {0} takes TLS: set [tls] certificate and key, or listen on 127.0.0.1 behind something that does TLS"
    )]
    Plain(SocketAddr),
    /// Client certificates without authorities.
    #[error(
        "tls.client_certificates = \"required\" takes tls.client_ca: the PEM file with the authorities that sign them"
    )]
    NoAuthority,
    /// A webhook that is none.
    #[error("webhook.url has to be https://HOST/…, or http:// to 127.0.0.1, [::1] or localhost")]
    Webhook,
    /// A database that cannot be asked.
    #[error("store.url {0}")]
    Store(String),
    /// A bound of zero.
    #[error("limits.{0} is 0: nothing could ever pass")]
    Zero(&'static str),
}

impl Config {
    /// The configuration in this file; without one, what [`DEFAULT_PATH`] holds, or the defaults.
    ///
    /// # Errors
    /// A file that cannot be read or does not check out.
    pub fn load(named: Option<&Path>) -> Result<Self, Error> {
        let path = named.unwrap_or(Path::new(DEFAULT_PATH));
        let size = match fs::metadata(path) {
            Ok(meta) => meta.len(),
            Err(e) if named.is_none() && e.kind() == io::ErrorKind::NotFound => return Self::default().checked(),
            Err(source) => return Err(Error::Read { path: path.to_owned(), source }),
        };
        if size > MAX_CONFIG {
            return Err(Error::TooLarge(path.to_owned()));
        }
        let text = fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        let parsed: Self =
            toml::from_str(&text).map_err(|e| Error::Parse { path: path.to_owned(), source: Box::new(e) })?;
        parsed.checked()
    }

    fn checked(self) -> Result<Self, Error> {
        if self.tls.is_none() && !self.listen.ip().is_loopback() {
            return Err(Error::Plain(self.listen));
        }
        if self
            .tls
            .as_ref()
            .is_some_and(|t| t.client_ca.is_none() && t.client_certificates == ClientCertificates::Required)
        {
            return Err(Error::NoAuthority);
        }
        if self.webhook.as_ref().is_some_and(|webhook| !is_webhook(&webhook.url)) {
            return Err(Error::Webhook);
        }
        self.store.as_ref().map_or(Ok(()), store::check).map_err(Error::Store)?;
        let limits = &self.limits;
        for (name, value) in [
            ("connections", limits.connections),
            ("connections_per_address", limits.connections_per_address),
            ("requests_per_address", limits.requests_per_address),
            ("batches_per_source", limits.batches_per_source),
            ("body", limits.body),
            ("batch", limits.batch),
            ("write_queue", limits.write_queue),
            ("polls", limits.polls),
            ("readers", limits.readers),
        ] {
            if value == 0 {
                return Err(Error::Zero(name));
            }
        }
        Ok(self)
    }
}

/// Whether events can be posted there: encrypted, or to this machine.
fn is_webhook(url: &str) -> bool {
    let Ok(uri) = url.parse::<ureq::http::Uri>() else { return false };
    let host = uri.host().unwrap_or_default();
    match uri.scheme_str() {
        Some("https") => !host.is_empty(),
        Some("http") => ["127.0.0.1", "[::1]", "localhost"].contains(&host),
        _ => false,
    }
}

/// A duration as a person writes it: `"30s"`, `"5m"`, `"1h"`, `"90d"`.
fn duration<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(from)?;
    let span: Option<jiff::Span> = text.parse().ok();
    let parsed =
        span.and_then(|span| span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).ok()).ok_or_else(|| {
            D::Error::custom(format!("{text:?} is no duration; write it as \"30s\", \"5m\", \"1h\" or \"90d\""))
        })?;
    Duration::try_from(parsed)
        .ok()
        .filter(|d| !d.is_zero())
        .ok_or_else(|| D::Error::custom(format!("{text:?} is no time that anything could take")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        fs::write(&path, text).unwrap();
        Config::load(Some(&path)).map_err(|e| e.to_string())
    }

    #[test]
    fn the_shipped_example_is_read_and_says_the_defaults() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config.example.toml");
        let example = Config::load(Some(&path)).unwrap();
        assert_eq!(format!("{:?}", example.limits), format!("{:?}", Limits::default()));
        let bare: Config = toml::from_str("").unwrap();
        assert_eq!((example.listen, example.name, example.log), (bare.listen, bare.name, bare.log));
        assert_eq!(example.checkpoint, bare.checkpoint);
    }

    #[test]
    fn every_bound_is_in_the_example_and_every_bound_that_the_documents_name_exists() {
        let example = include_str!("../config.example.toml");
        let limits = example.split("[limits]").nth(1).unwrap();
        let named: Vec<&str> = limits.lines().filter_map(|line| Some(line.split_once(" = ")?.0)).collect();
        // One that is there is printed by its name.
        let known = format!("{:?}", Limits::default());
        assert_eq!(known.matches(": ").count(), named.len(), "{known}");
        for page in [
            include_str!("../../../docs/COMPLIANCE_API.md"),
            include_str!("../../../docs/THREATS.md"),
            include_str!("../../../docs/man/compliance-api.8"),
        ] {
            // A key of the daemon's is in a table of its own name: `ledger.…`, `grants.…`.
            for after in page.split("`limits.").skip(1) {
                let name = after.split('`').next().unwrap();
                assert!(named.contains(&name), "limits.{name}");
            }
        }
    }

    #[test]
    fn unknown_keys_and_values_that_mean_nothing_are_refused_with_their_line() {
        for (text, why) in [
            ("liste = \"127.0.0.1:1\"", "unknown field"),
            ("[limits]\nbodyy = 1", "unknown field"),
            ("[limits]\nheader_timeout = \"soon\"", "is no duration"),
            ("[limits]\nheader_timeout = \"-1s\"", "no time that anything could take"),
            ("[limits]\nbatch = 0", "limits.batch is 0"),
            ("listen = \"somewhere\"", "line 1"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn plain_http_is_for_loopback_alone() {
        assert!(read("listen = \"127.0.0.2:80\"").is_ok());
        assert!(read("listen = \"[::1]:80\"").is_ok());
        assert!(read("listen = \"0.0.0.0:80\"").unwrap_err().contains("takes TLS"));
        let tls = "listen = \"0.0.0.0:443\"\n[tls]\ncertificate = \"c\"\nkey = \"k\"\n";
        assert!(read(tls).is_ok());
        assert!(read(&format!("{tls}client_certificates = \"required\"")).unwrap_err().contains("client_ca"));
    }
}
