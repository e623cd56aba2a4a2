//! TLS: certificates and keys from PEM files into an acceptor. TLS 1.2 and 1.3, by rustls with ring.

use std::{
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
};

use rustls_pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{self, PemObject},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{self, RootCertStore, ServerConfig, crypto::ring, server::WebPkiClientVerifier},
};

use crate::config::{ClientCertificates, Tls};

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file that holds no certificate or key.
    #[error("{path} holds no {what} in PEM")]
    Pem {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
        /// What is wrong.
        source: pem::Error,
    },
    /// A file without any certificate.
    #[error("{0} holds no certificate")]
    Empty(PathBuf),
    /// Certificates and key do not fit, or are not supported.
    #[error("the certificate and key cannot be used")]
    Rustls(#[from] rustls::Error),
    /// The authorities for client certificates.
    #[error("the authorities of client certificates in {path} cannot be used: {why}")]
    Authorities {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

/// The certificates in force, read again when they are renewed.
pub(super) struct Certificates {
    config: Tls,
    acceptor: RwLock<TlsAcceptor>,
}

impl Certificates {
    /// Reads them.
    ///
    /// # Errors
    /// Certificates or keys that cannot be used.
    pub(super) fn read(config: &Tls) -> Result<Self, Error> {
        Ok(Self { config: config.clone(), acceptor: RwLock::new(acceptor(config)?) })
    }

    /// Reads them again, for connections from now on. What cannot be used changes nothing.
    ///
    /// # Errors
    /// As [`Certificates::read`].
    pub(super) fn read_again(&self) -> Result<(), Error> {
        let acceptor = acceptor(&self.config)?;
        *self.acceptor.write().unwrap_or_else(PoisonError::into_inner) = acceptor;
        Ok(())
    }

    /// What takes TLS connections.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        self.acceptor.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn acceptor(config: &Tls) -> Result<TlsAcceptor, Error> {
    let provider = Arc::new(ring::default_provider());
    let chain = certificates(&config.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&config.key).map_err(|source| Error::Pem {
        path: config.key.clone(),
        what: "private key",
        source,
    })?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let builder = match &config.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let unusable = |why: String| Error::Authorities { path: path.clone(), why };
            let mut roots = RootCertStore::empty();
            for authority in certificates(path)? {
                roots.add(authority).map_err(|e| unusable(e.to_string()))?;
            }
            let mut verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            if config.client_certificates == ClientCertificates::Optional {
                verifier = verifier.allow_unauthenticated();
            }
            builder.with_client_cert_verifier(verifier.build().map_err(|e| unusable(e.to_string()))?)
        }
    };
    let mut server = builder.with_single_cert(chain, key)?;
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(server)))
}

fn certificates(path: &std::path::Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let unreadable = |source| Error::Pem { path: path.to_owned(), what: "certificate", source };
    let all = CertificateDer::pem_file_iter(path)
        .map_err(unreadable)?
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| Error::Pem { path: path.to_owned(), what: "certificate", source })?;
    if all.is_empty() { Err(Error::Empty(path.to_owned())) } else { Ok(all) }
}
