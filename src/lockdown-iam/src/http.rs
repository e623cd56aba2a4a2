//! HTTP and TLS, every part of it bounded in time and size. With `server` and `aws`, the only modules that know them.

use std::{path::Path, sync::Arc, time::Duration};

use ureq::{
    Agent, Error, Proxy,
    tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem},
};

use crate::{failure::Failure, files};

/// How long connecting may take, TLS included.
const CONNECT: Duration = Duration::from_secs(10);
/// How long one request may take.
pub(crate) const WHOLE: Duration = Duration::from_secs(30);
/// The longest file of certificates that is read, in bytes.
const MAX_PEM: usize = 4 << 20;

/// An agent for servers that show a certificate.
pub(crate) fn over_tls(ca_file: Option<&Path>) -> Result<Agent, Failure> {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .https_only(true)
        .user_agent(concat!("lockdown-iam/", env!("CARGO_PKG_VERSION")))
        .proxy(Proxy::try_from_env())
        .timeout_resolve(Some(CONNECT))
        .timeout_connect(Some(CONNECT))
        .timeout_global(Some(WHOLE))
        .tls_config(tls(ca_file)?)
        .build();
    Ok(config.new_agent())
}

/// An agent without TLS: for this machine itself, and what an instance asks about itself. It goes through no proxy.
pub(crate) fn within_machine() -> Agent {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .user_agent(concat!("lockdown-iam/", env!("CARGO_PKG_VERSION")))
        .proxy(None)
        .timeout_connect(Some(CONNECT))
        .timeout_global(Some(WHOLE))
        .build();
    config.new_agent()
}

/// What went wrong on the way.
pub(crate) fn describe(at: &str, error: &Error) -> String {
    match error {
        Error::HostNotFound => format!("{at}: there is no such host"),
        Error::Timeout(what) => format!("{at}: no answer in time ({what})"),
        Error::BodyExceedsLimit(most) => format!("{at} answers at more length than {most} bytes"),
        error => format!("{at}: {error}"),
    }
}

fn tls(ca_file: Option<&Path>) -> Result<TlsConfig, Failure> {
    let roots: Vec<Certificate<'static>> = match ca_file {
        Some(path) => {
            let pem = files::text(path, MAX_PEM)?;
            let certificate = |item| match item {
                Ok(PemItem::Certificate(certificate)) => Some(certificate),
                _ => None,
            };
            parse_pem(pem.as_bytes()).filter_map(certificate).collect()
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            found.certs.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect()
        }
    };
    if roots.is_empty() {
        let place = ca_file.map_or_else(|| "this system".to_owned(), |path| path.display().to_string());
        return Err(Failure::config(format!("{place} has no certificate of an authority"))
            .but("install ca-certificates, or name your own authority in ca_file"));
    }
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::new_with_certs(&roots))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build())
}
