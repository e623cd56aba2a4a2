//! Where PostgreSQL is, and how it is connected to: encrypted, unless it is on this machine.

use std::{
    env, fs,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use ::postgres::{
    Client, NoTls,
    config::{Config, Host, SslMode, TargetSessionAttrs},
};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::{config::Database, store::engine::Fault};

/// How long a connection may take, and may be without an answer before it counts as lost; how long a lock is waited for, and a
/// transaction may be idle.
const PATIENCE: Duration = Duration::from_secs(10);
/// The authorities of the system.
const SYSTEM: &str = "/etc/ssl/certs/ca-certificates.crt";
/// What systemd calls the directory of what a service alone may read.
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// Where it is.
#[derive(Clone)]
pub(in crate::store) struct Target {
    config: Config,
    password: Option<PathBuf>,
    tls: Option<MakeRustlsConnect>,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Target")
    }
}

impl Target {
    /// What the configuration says, checked; why it cannot be used.
    pub(in crate::store) fn read(database: &Database) -> Result<Self, String> {
        if !["postgresql://", "postgres://"].iter().any(|scheme| database.url.starts_with(scheme)) {
            return Err("has to begin with postgresql://".to_owned());
        }
        let mut config: Config = database.url.parse().map_err(|e: ::postgres::Error| crate::describe::describe(&e))?;
        if config.get_password().is_some() {
            return Err("holds a password: put it into a file, and name that in store.password_file".to_owned());
        }
        let local = config.get_hosts().iter().all(is_here);
        if !local && config.get_ssl_mode() != SslMode::Require {
            return Err(
                "names another machine: add sslmode=require, so that records are encrypted on the way".to_owned()
            );
        }
        let encrypted = config.get_ssl_mode() == SslMode::Require;
        let tls = if encrypted { Some(tls(database.ca_file.as_deref())?) } else { None };
        let milliseconds = PATIENCE.as_millis();
        // The last ones have PostgreSQL notice in as short a time that a server's machine is gone, with the locks that it held.
        let options = format!(
            "{} -c lock_timeout={milliseconds} -c idle_in_transaction_session_timeout={milliseconds} \
             -c tcp_user_timeout={milliseconds} -c tcp_keepalives_idle=5 -c tcp_keepalives_interval=2 -c tcp_keepalives_count=3",
            config.get_options().unwrap_or_default()
        );
        config
            .application_name("compliance-api")
            .options(options.trim_start())
            .connect_timeout(PATIENCE)
            .tcp_user_timeout(PATIENCE)
            .keepalives_idle(PATIENCE)
            // After a failover, the one that can be written to.
            .target_session_attrs(TargetSessionAttrs::ReadWrite);
        let password = database.password_file.as_deref().map(place);
        Ok(Self { config, password, tls })
    }

    /// Connects. The password is read each time, so that it can be changed while the server runs.
    pub(super) fn connect(&self) -> Result<Client, Fault> {
        let mut config = self.config.clone();
        if let Some(path) = &self.password {
            let text = fs::read_to_string(path).map_err(|source| Fault::Password(path.clone(), source))?;
            config.password(text.trim_end_matches(['\r', '\n']));
        }
        let mut client = match &self.tls {
            Some(tls) => config.connect(tls.clone())?,
            None => config.connect(NoTls)?,
        };
        let durable: String = client.query_one("SELECT current_setting('synchronous_commit')", &[])?.try_get(0)?;
        if durable == "off" {
            client.batch_execute("SET synchronous_commit = on")?;
        }
        Ok(client)
    }
}

fn is_here(host: &Host) -> bool {
    match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback()),
    }
}

/// A file by its whole path, or among what systemd gave this service.
fn place(file: &Path) -> PathBuf {
    match env::var_os(CREDENTIALS) {
        Some(directory) if file.is_relative() => PathBuf::from(directory).join(file),
        _ => file.to_owned(),
    }
}

fn tls(authorities: Option<&Path>) -> Result<MakeRustlsConnect, String> {
    let path = authorities.unwrap_or(Path::new(SYSTEM));
    let broken = |why: &dyn std::fmt::Display| {
        format!(
            "needs the authority of its certificate: {} cannot be used: {why}; name it in store.ca_file",
            path.display()
        )
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|e| broken(&e))? {
        roots.add(certificate.map_err(|e| broken(&e))?).map_err(|e| broken(&e))?;
    }
    if roots.is_empty() {
        return Err(broken(&"it holds no certificate"));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| broken(&e))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> Result<Target, String> {
        Target::read(&Database { url: url.to_owned(), password_file: None, ca_file: None })
    }

    #[test]
    fn what_would_cross_the_network_in_the_clear_and_passwords_in_the_configuration_are_refused() {
        for (url, why) in [
            ("mysql://db/x", "has to begin with"),
            ("postgresql://u:secret@localhost/x", "holds a password"),
            ("postgresql://db.example/x", "sslmode=require"),
            ("postgresql://db.example/x?sslmode=prefer", "sslmode=require"),
            ("postgresql://localhost,db.example/x", "sslmode=require"),
            ("postgresql://localhost/x?colour=red", "unknown"),
        ] {
            let refused = read(url).unwrap_err();
            assert!(refused.contains(why), "{url}: {refused}");
        }
        for url in ["postgresql://localhost/x", "postgresql://[::1]/x", "postgresql:///x?host=/run/postgresql"] {
            read(url).unwrap();
        }
    }
}
