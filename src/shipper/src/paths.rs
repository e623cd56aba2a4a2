//! Where everything is that the shipper reads and writes.

use std::path::PathBuf;

use record::LedgerId;

/// The directories; what they hold has fixed names. [`Paths::default`] is what runs; tests move them.
#[derive(Debug, Clone)]
pub struct Paths {
    /// The daemon's state: the ledger, and ledgers set aside. Read only.
    pub daemon_state: PathBuf,
    /// The daemon's runtime directory: `durable`, `ship.json`, `inbox.json` and `feed_token`. Read only.
    pub daemon_run: PathBuf,
    /// Our own state: cursors, receipts, the pinned key, the hint, the inbox.
    pub state: PathBuf,
    /// Our own runtime directory: the status.
    pub run: PathBuf,
    /// Credentials that systemd has loaded; none outside a unit.
    pub credentials: Option<PathBuf>,
    /// The certificate authorities that the system trusts, in PEM.
    pub system_authorities: PathBuf,
}

impl Default for Paths {
    fn default() -> Self {
        Self {
            daemon_state: "/var/lib/lockdownd".into(),
            daemon_run: "/run/lockdownd".into(),
            state: "/var/lib/lockdownd-shipper".into(),
            run: "/run/lockdownd-shipper".into(),
            credentials: std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from),
            system_authorities: "/etc/ssl/certs/ca-certificates.crt".into(),
        }
    }
}

impl Paths {
    pub(crate) fn ledger(&self) -> PathBuf {
        self.daemon_state.join("ledger")
    }
    pub(crate) fn set_aside(&self) -> PathBuf {
        self.daemon_state.join("set-aside")
    }
    pub(crate) fn durable(&self) -> PathBuf {
        self.daemon_run.join("durable")
    }
    pub(crate) fn settings(&self) -> PathBuf {
        self.daemon_run.join("ship.json")
    }
    /// What the daemon says of documents: which it needs no more, and how far it has heard each feed.
    pub(crate) fn heard(&self) -> PathBuf {
        self.daemon_run.join("inbox.json")
    }
    pub(crate) fn feed_token(&self) -> PathBuf {
        self.daemon_run.join("feed_token")
    }
    /// Where documents lie for the daemon.
    pub(crate) fn inbox(&self) -> PathBuf {
        self.state.join("inbox")
    }
    /// Which feed brought which document.
    pub(crate) fn inbox_index(&self) -> PathBuf {
        self.state.join("inbox.index")
    }
    pub(crate) fn cursor(&self, sink: &str) -> PathBuf {
        self.state.join(format!("{sink}.cursor"))
    }
    pub(crate) fn receipts(&self) -> PathBuf {
        self.state.join("receipts")
    }
    pub(crate) fn receipts_of(&self, ledger: &LedgerId) -> PathBuf {
        self.receipts().join(format!("{ledger}.jsonl"))
    }
    pub(crate) fn pinned_key(&self) -> PathBuf {
        self.state.join("receipt_key.pub")
    }
    pub(crate) fn hint(&self) -> PathBuf {
        self.state.join("hint.json")
    }
    pub(crate) fn status(&self) -> PathBuf {
        self.run.join("status.json")
    }
    pub(crate) fn credential(&self, name: &str) -> Option<PathBuf> {
        self.credentials.as_ref().map(|dir| dir.join(name))
    }
}
