//! How the shipper speaks to any server: TLS, certificates, credentials, and what is said when it fails. With the two
//! clients, the only module that knows HTTP and TLS.

use std::{path::Path, sync::Arc, time::Duration};

use ureq::{
    Agent, Error, Proxy,
    config::ConfigBuilder,
    tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem},
    typestate::AgentScope,
};

use crate::{files, paths::Paths};

/// How long the name's resolution may take.
const RESOLVE: Duration = Duration::from_secs(10);
/// How long connecting may take, TLS included.
const CONNECT: Duration = Duration::from_secs(10);
/// How long sending may take: 1 MiB over a slow line.
const SEND: Duration = Duration::from_secs(30);
/// How long a connection may lie idle and still be used: shorter than servers keep theirs.
const IDLE: Duration = Duration::from_secs(5);
/// The longest file of certificates that is read, in bytes. The system's bundle has about 220 KiB.
const MAX_PEM: u64 = 4 * 1024 * 1024;
/// The longest token or key that is read, in bytes.
const MAX_SECRET: u64 = 64 * 1024;
/// The credential that holds our certificate's key.
const KEY: &str = "client-key";
/// Where credentials come from.
pub(crate) const SOURCE: &str = "/etc/lockdownd/credentials";

/// How a server is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Server {
    /// Its URL.
    pub(crate) url: String,
    /// Certificate authorities that its certificate is checked against, instead of the system's.
    pub(crate) authorities: Option<std::path::PathBuf>,
    /// Our own certificate; its key is a credential.
    pub(crate) certificate: Option<std::path::PathBuf>,
}

impl Server {
    fn is_tls(&self) -> bool {
        self.url.starts_with("https:")
    }

    /// TLS, and no certificate of ours to show.
    pub(crate) fn without_certificate(&self) -> bool {
        self.is_tls() && self.certificate.is_none()
    }

    /// Reads the certificates; how long answers may take is for the caller to add. The error says what would work.
    pub(crate) fn agent(&self, paths: &Paths) -> Result<ConfigBuilder<AgentScope>, String> {
        let tls = self.is_tls();
        let config = Agent::config_builder()
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
            .max_idle_connections(1)
            .max_idle_age(IDLE);
        Ok(if tls { config.tls_config(self.tls(paths)?).https_only(true) } else { config })
    }

    fn tls(&self, paths: &Paths) -> Result<TlsConfig, String> {
        let authorities = self.authorities.as_deref().unwrap_or(&paths.system_authorities);
        let roots = certificates(authorities).map_err(|why| {
            let remedy = "install ca-certificates, or name your own authority in ship.api.ca_file";
            if self.authorities.is_some() { why } else { format!("{why}; {remedy}") }
        })?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let certificate = match &self.certificate {
            Some(path) => Some(client_certificate(path, paths, &provider)?),
            None => None,
        };
        Ok(TlsConfig::builder()
            .root_certs(RootCerts::new_with_certs(&roots))
            .client_cert(certificate)
            .unversioned_rustls_crypto_provider(provider)
            .build())
    }
}

/// What went wrong, and what might mend it.
pub(crate) fn describe(url: &str, without_certificate: bool, error: &Error) -> String {
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

/// A credential's text without white space around it; none where it is missing or empty.
pub(crate) fn credential(paths: &Paths, name: &str) -> Result<Option<String>, String> {
    let Some(path) = paths.credential(name) else { return Ok(None) };
    let Some(bytes) = files::read(&path, MAX_SECRET).map_err(|error| error.to_string())? else { return Ok(None) };
    let text = String::from_utf8(bytes).map_err(|_| format!("the credential {name} is not text"))?;
    let text = text.trim();
    Ok((!text.is_empty()).then(|| text.to_owned()))
}
