//! One HTTP request and its answer, every part of it bounded in time and size. The only module that knows HTTP and TLS.

use std::{path::Path, sync::Arc, time::Duration};

use ureq::{
    Agent, Error, Proxy,
    http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER},
    tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem},
};

use super::answer::{Answer, MAX_ANSWER, NEW_TOKEN};
use crate::{files, paths::Paths, settings::Api};

/// How long the name's resolution may take.
const RESOLVE: Duration = Duration::from_secs(10);
/// How long connecting may take, TLS included.
const CONNECT: Duration = Duration::from_secs(10);
/// How long sending a batch may take: 1 MiB over a slow line.
const SEND: Duration = Duration::from_secs(30);
/// How long the server may think, once it has the batch.
const THINK: Duration = Duration::from_secs(30);
/// How long its answer may take to arrive, once it has begun.
const RECEIVE: Duration = Duration::from_secs(10);
/// How long all of it may take.
pub(super) const WHOLE: Duration = Duration::from_secs(60);
/// How long a connection may lie idle and still be used: shorter than servers keep theirs.
const IDLE: Duration = Duration::from_secs(5);
/// The longest file of certificates that is read, in bytes. The system's bundle has about 220 KiB.
const MAX_PEM: u64 = 4 * 1024 * 1024;
/// The longest token or key that is read, in bytes.
const MAX_SECRET: u64 = 64 * 1024;
/// The credential that holds our certificate's key.
const KEY: &str = "client-key";
/// The credential that holds a stack's enrolment token.
const TOKEN: &str = "enrolment-token";
/// Where both come from.
const SOURCE: &str = "/etc/lockdownd/credentials";

/// A server, and how to speak to it.
pub(super) struct Client {
    agent: Agent,
    url: String,
    /// TLS, and no certificate of ours to show.
    without_certificate: bool,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Client {
    /// Reads the certificates. The error says what would work.
    pub(super) fn new(api: &Api, paths: &Paths) -> Result<Self, String> {
        let tls = api.url.starts_with("https:");
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("lockdownd-shipper/", env!("CARGO_PKG_VERSION")))
            .accept("application/json, application/problem+json")
            // Plain http is for this machine itself, and so for no proxy.
            .proxy(if tls { Proxy::try_from_env() } else { None })
            .timeout_resolve(Some(RESOLVE))
            .timeout_connect(Some(CONNECT))
            .timeout_send_request(Some(SEND))
            .timeout_send_body(Some(SEND))
            .timeout_recv_response(Some(THINK))
            .timeout_recv_body(Some(RECEIVE))
            .max_idle_connections(1)
            .max_idle_age(IDLE);
        if tls {
            config = config.tls_config(tls_config(api, paths)?).https_only(true);
        }
        Ok(Self {
            agent: config.build().new_agent(),
            url: format!("{}/v1/artifacts", api.url),
            without_certificate: tls && api.certificate.is_none(),
        })
    }

    /// Sends a batch and waits for the answer, at most `within`. The error says what kept it.
    pub(super) fn send(&self, body: &str, token: Option<&str>, within: Duration) -> Result<Answer, String> {
        let mut request = self.agent.post(&self.url).header(CONTENT_TYPE, "application/cloudevents-batch+json");
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let sent = request.config().timeout_global(Some(within.min(WHOLE))).build().send(body);
        let mut response = sent.map_err(|error| describe(&self.url, self.without_certificate, &error))?;
        let retry_after = response.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let status = response.status().as_u16();
        let read = response.body_mut().with_config().limit(MAX_ANSWER).read_to_vec();
        let body = read.map_err(|error| match error {
            Error::BodyExceedsLimit(_) => format!("{} answers at more length than {MAX_ANSWER} bytes", self.url),
            error => describe(&self.url, self.without_certificate, &error),
        })?;
        Ok(Answer { status, retry_after, body })
    }
}

fn describe(url: &str, without_certificate: bool, error: &Error) -> String {
    match error {
        Error::HostNotFound => format!("{url}: there is no such host"),
        Error::Timeout(what) => format!("{url}: no answer in time ({what})"),
        error => {
            let said = error.to_string();
            let remedy = match () {
                () if said.contains("invalid peer certificate") => "; ship.api.ca_file names the authority to trust",
                () if said.contains("CertificateRequired") => "; ship.api.client_certificate names the one to show",
                // With TLS 1.3 the handshake is over for us before the server misses our certificate: writing on into
                // the closed connection may fail before its alert is read.
                () if without_certificate && was_closed(error) => {
                    "; where the server demands a client certificate, ship.api.client_certificate names the one to show"
                }
                () => "",
            };
            format!("{url}: {said}{remedy}")
        }
    }
}

/// Whether the server has closed the connection under us.
fn was_closed(error: &Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error, Error::Io(error)
        if matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof))
}

fn tls_config(api: &Api, paths: &Paths) -> Result<TlsConfig, String> {
    let authorities = api.authorities.as_deref().unwrap_or(&paths.system_authorities);
    let roots = certificates(authorities).map_err(|why| {
        let remedy = "install ca-certificates, or name your own authority in ship.api.ca_file";
        if api.authorities.is_some() { why } else { format!("{why}; {remedy}") }
    })?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let certificate = match &api.certificate {
        Some(path) => Some(client_certificate(path, paths, &provider)?),
        None => None,
    };
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::new_with_certs(&roots))
        .client_cert(certificate)
        .unversioned_rustls_crypto_provider(provider)
        .build())
}

fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>, String> {
    let pem = files::read_named(path, MAX_PEM).map_err(|error| error.to_string())?;
    let all: Vec<_> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if all.is_empty() {
        return Err(format!("{} holds no certificate in PEM", path.display()));
    }
    Ok(all)
}

fn client_certificate(
    path: &Path,
    paths: &Paths,
    provider: &Arc<rustls::crypto::CryptoProvider>,
) -> Result<ClientCert, String> {
    let chain = certificates(path)?;
    let pem = credential(paths, KEY)?.ok_or_else(|| {
        format!(
            "ship.api.client_certificate needs its key in {SOURCE}/{KEY}, then: systemctl restart lockdownd-shipper"
        )
    })?;
    let key =
        PrivateKey::from_pem(pem.as_bytes()).map_err(|_| format!("{SOURCE}/{KEY} holds no private key in PEM"))?;
    // ureq takes for granted that they belong together.
    let matching = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .and_then(|builder| {
            use rustls::pki_types::pem::PemObject;
            let chain = chain.iter().map(|c| rustls::pki_types::CertificateDer::from(c.der().to_vec())).collect();
            let key = rustls::pki_types::PrivateKeyDer::from_pem_slice(pem.as_bytes())
                .map_err(|error| rustls::Error::General(error.to_string()))?;
            builder.with_root_certificates(rustls::RootCertStore::empty()).with_client_auth_cert(chain, key)
        });
    matching.map_err(|error| format!("{} and {SOURCE}/{KEY} are no pair: {error}", path.display()))?;
    Ok(ClientCert::new_with_certs(&chain, key))
}

/// The enrolment token, where there is one. The error says what would work.
pub(super) fn enrolment_token(paths: &Paths) -> Result<String, String> {
    let missing = || format!("the server does not know this host: {NEW_TOKEN}");
    let token = credential(paths, TOKEN)?.ok_or_else(missing)?;
    if token.bytes().all(|b| b.is_ascii_graphic()) {
        Ok(token)
    } else {
        Err(format!("{SOURCE}/{TOKEN} holds no token: it has white space or other characters in it"))
    }
}

/// A credential's text without white space around it; none where it is missing or empty.
fn credential(paths: &Paths, name: &str) -> Result<Option<String>, String> {
    let Some(path) = paths.credential(name) else { return Ok(None) };
    let Some(bytes) = files::read(&path, MAX_SECRET).map_err(|error| error.to_string())? else { return Ok(None) };
    let text = String::from_utf8(bytes).map_err(|_| format!("the credential {name} is not text"))?;
    let text = text.trim();
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

#[cfg(test)]
mod tests;
