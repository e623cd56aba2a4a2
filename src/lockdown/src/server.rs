//! One HTTP request and its answer, every part of it bounded in time and size. The only module that knows HTTP and TLS.

use std::{
    io::{self, Write},
    sync::Arc,
    time::Duration,
};

use document::Origin;
use serde::de::DeserializeOwned;
use ureq::{
    Agent, Body, Error, Proxy,
    http::{
        Response,
        header::{AUTHORIZATION, CONTENT_TYPE},
    },
    tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem},
};

use crate::{
    answers::Problem,
    config::Config,
    failure::{Exit, Failure},
    files,
};

/// How long connecting may take, TLS included.
const CONNECT: Duration = Duration::from_secs(10);
/// How long one request may take, beyond what it asks the server to wait.
pub(crate) const WHOLE: Duration = Duration::from_secs(30);
/// The longest answer that is read, in bytes: a roster, or a feed with one.
const MAX_ANSWER: u64 = 32 << 20;
/// The longest answer that is read of what is no document, in bytes: some thousands of hosts.
const MAX_LIST: u64 = 16 << 20;
/// The longest answer that is read about a failure, in bytes.
const MAX_PROBLEM: u64 = 64 << 10;
/// How much of what a server says about a failure is shown, in characters.
const MAX_SAID: usize = 1000;
/// The longest file of certificates that is read, in bytes.
const MAX_PEM: usize = 4 << 20;

/// A server, and how to speak to it.
pub(crate) struct Server {
    agent: Agent,
    origin: Origin,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("origin", &self.origin).finish_non_exhaustive()
    }
}

impl Server {
    /// The configured server. Nothing is sent yet.
    pub(crate) fn new(config: &Config) -> Result<Self, Failure> {
        let origin = config.server()?.clone();
        let built = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .https_only(true)
            .user_agent(concat!("lockdown/", env!("CARGO_PKG_VERSION")))
            .accept("application/json, application/problem+json")
            .proxy(Proxy::try_from_env())
            .timeout_resolve(Some(CONNECT))
            .timeout_connect(Some(CONNECT))
            .timeout_global(Some(WHOLE))
            .tls_config(tls(config)?)
            .build();
        Ok(Self { agent: built.new_agent(), origin })
    }

    /// The server as it is reached.
    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Asks for something.
    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str, token: &str, within: Duration) -> Result<T, Failure> {
        let request = self.agent.get(format!("{}{path}", self.origin));
        let request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        let sent = request.config().timeout_global(Some(within)).build().call();
        self.read(path, sent)
    }

    /// Asks for something long, which is written as it comes. How many bytes it has.
    pub(crate) fn download(
        &self,
        path: &str,
        token: &str,
        to: &mut impl Write,
        within: Duration,
    ) -> Result<u64, Failure> {
        let request = self.agent.get(format!("{}{path}", self.origin));
        let request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        let sent = request.config().timeout_global(Some(within)).build().call();
        let mut response = sent.map_err(|error| self.describe(&error))?;
        let status = response.status().as_u16();
        if status != 200 {
            let body = response.body_mut().with_config().limit(MAX_PROBLEM).read_to_vec().unwrap_or_default();
            return Err(refusal(&self.origin, status, &body));
        }
        let mut body = response.body_mut().with_config().limit(u64::MAX).reader();
        io::copy(&mut body, to).map_err(|error| {
            Failure::unavailable(format!("{}{path} broke off: {error}", self.origin)).but("ask again; nothing was kept")
        })
    }

    /// Sends something.
    pub(crate) fn post<T: DeserializeOwned>(&self, path: &str, body: &str) -> Result<T, Failure> {
        let request = self.agent.post(format!("{}{path}", self.origin));
        let sent = request.header(CONTENT_TYPE, "application/json").send(body);
        self.read(path, sent)
    }

    fn read<T: DeserializeOwned>(&self, path: &str, sent: Result<Response<Body>, Error>) -> Result<T, Failure> {
        let at = format!("{}{path}", self.origin);
        let mut response = sent.map_err(|error| self.describe(&error))?;
        let status = response.status().as_u16();
        let body = response.body_mut().with_config();
        if status != 200 {
            // One that is longer tells nothing that somebody would read.
            let body = body.limit(MAX_PROBLEM).read_to_vec().unwrap_or_default();
            return Err(refusal(&self.origin, status, &body));
        }
        let is_of_documents =
            ["/v1/feed", "/v1/roster", "/v1/documents", "/v1/requests"].iter().any(|of| path.starts_with(of));
        let most = if is_of_documents { MAX_ANSWER } else { MAX_LIST };
        let body = body.limit(most).read_to_vec().map_err(|error| match error {
            Error::BodyExceedsLimit(_) => {
                Failure::unavailable(format!("{at} answers at more length than {most} bytes"))
            }
            error => self.describe(&error),
        })?;
        serde_json::from_slice(&body).map_err(|error| {
            Failure::unavailable(format!("{at} does not answer as it should: {error}"))
                .but("is this a compliance-api of the same version?")
        })
    }

    fn describe(&self, error: &Error) -> Failure {
        let origin = &self.origin;
        match error {
            Error::HostNotFound => Failure::unavailable(format!("{origin}: there is no such host")),
            Error::Timeout(what) => Failure::unavailable(format!("{origin}: no answer in time ({what})")),
            error => {
                let failure = Failure::unavailable(format!("{origin}: {error}"));
                if error.to_string().contains("invalid peer certificate") {
                    return failure.but("ca_file in the configuration names the authority to trust");
                }
                failure
            }
        }
    }
}

/// What a server says about a failure, cut. It is made safe for a terminal where it is shown.
fn refusal(origin: &Origin, status: u16, body: &[u8]) -> Failure {
    let problem: Problem = serde_json::from_slice(body).unwrap_or_default();
    let cut = |text: String| text.chars().take(MAX_SAID).collect::<String>();
    let code = cut(problem.code.unwrap_or_else(|| format!("http_{status}")));
    let said = problem.detail.or(problem.title).map_or_else(|| format!("HTTP status {status}"), cut);
    let message = format!("{origin} refuses: {said} ({code})");
    match status {
        401 => Failure::refused(UNAUTHORIZED, message),
        404 if code == "no_stack" => {
            Failure::refused(&code, message).but("[stack] is missing in the configuration of compliance-api")
        }
        500.. => Failure::refused(&code, message).exiting(Exit::Unavailable),
        _ => Failure::refused(&code, message),
    }
}

/// The code of a failure where the server does not take the token.
pub(crate) const UNAUTHORIZED: &str = "unauthorized";

fn tls(config: &Config) -> Result<TlsConfig, Failure> {
    let roots = match &config.ca_file {
        Some(path) => {
            let pem = files::read_named(path, MAX_PEM)?;
            let certificates = parse_pem(&pem).filter_map(|item| match item {
                Ok(PemItem::Certificate(certificate)) => Some(certificate),
                _ => None,
            });
            let all: Vec<Certificate<'static>> = certificates.collect();
            if all.is_empty() {
                return Err(Failure::config(format!("{} holds no certificate in PEM", path.display())));
            }
            all
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            let all: Vec<Certificate<'static>> =
                found.certs.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect();
            if all.is_empty() {
                return Err(Failure::config("this system has no authorities for certificates")
                    .but("install ca-certificates, or name your own authority in ca_file"));
            }
            all
        }
    };
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::new_with_certs(&roots))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build())
}
