//! The real compliance API, over TLS, in this process.

use std::{net::TcpListener, path::Path, thread};

use compliance_api::{
    admin::{self, Wanted},
    config::{Config, Stack, Tls},
    own_ledger::By,
    serve,
    store::Store,
    token::Role,
};
use document::Checked;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::sync::watch;

/// A port that nobody has at the moment.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The server. It ends with this.
pub struct Serving {
    stop: watch::Sender<bool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Serving {
    /// Begins one in this directory, which gets `ca.pem` and `token`.
    pub fn begin(home: &Path, port: u16, trust: Checked) -> Self {
        let state = home.join("server");
        std::fs::create_dir(&state).unwrap();
        let (certificate, key) = (state.join("certificate.pem"), state.join("key.pem"));
        std::fs::write(home.join("ca.pem"), certificates(&certificate, &key)).unwrap();
        let config = Config {
            listen: ([127, 0, 0, 1], port).into(),
            state,
            requirements: home.join("none"),
            tls: Some(Tls { certificate, key, client_ca: None, client_certificates: Default::default() }),
            stack: Some(Stack { settings: trust, origin: Some(origin(port).parse().unwrap()) }),
            ..Config::default()
        };
        std::fs::write(home.join("token"), auditor(&config)).unwrap();
        let (stop, stopped) = watch::channel(false);
        let (ready, is_ready) = std::sync::mpsc::channel();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(1).build().unwrap();
            runtime.block_on(serve::serve(config, stopped, move |address| ready.send(address).unwrap())).unwrap();
        });
        is_ready.recv().expect("the server came up");
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take() {
            assert!(thread.join().is_ok() || thread::panicking());
        }
    }
}

pub fn origin(port: u16) -> String {
    format!("https://localhost:{port}")
}

/// Writes a certificate for localhost and its key, and returns its authority.
fn certificates(certificate: &Path, key: &Path) -> String {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let pair = KeyPair::generate().unwrap();
    let made = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&pair, &issuer).unwrap();
    std::fs::write(certificate, made.pem()).unwrap();
    std::fs::write(key, pair.serialize_pem()).unwrap();
    issuer.pem()
}

fn auditor(config: &Config) -> String {
    let wanted = Wanted {
        role: Role::Auditor,
        name: Some("lockdown-iam".parse().unwrap()),
        // It reads about one stack alone: what closes everywhere is in the feed of each.
        stack: Some("web".parse().unwrap()),
        from: None,
        to: None,
        types: None,
        uses: None,
        expires: None,
    };
    let store = Store::open(config).unwrap();
    let (_, token) = store.write_blocking(move |tx| admin::make_token(tx, &By::CommandLine, wanted.clone())).unwrap();
    store.close();
    token.reveal().to_owned()
}
