//! The real server, over TLS, with hosts that speak the real protocol: a ledger, a feed, and a judge that decides.

#[path = "../../../compliance-api/tests/api/common/ledger.rs"]
#[allow(dead_code, reason = "the server's own tests need more of a host")]
mod ledger;

use std::{
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use compliance_api::{
    admin::{self, Wanted},
    config::{Config, Stack, Tls},
    own_ledger::By,
    serve,
    store::Store,
    token::Role,
};
use document::{Accepted, Envelope, Judge, Moment, Place, Settings, Verdict, judge::Terms};
use jiff::Timestamp;
use record::{ArtifactType, Draft};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio::sync::watch;
use ureq::{
    Agent,
    tls::{Certificate, RootCerts, TlsConfig},
};

use crate::{laptop::Laptop, liar::certificates};

/// How long a host waits for something new, in seconds: short, so that it ends soon.
const POLL: u64 = 2;

/// The server, and the hosts that hear it.
pub struct Real {
    pub origin: String,
    agent: Agent,
    enrol: String,
    /// A token that reads all.
    pub auditor: String,
    stop: watch::Sender<bool>,
    serving: Option<thread::JoinHandle<()>>,
    over: Arc<AtomicBool>,
    hosts: Vec<thread::JoinHandle<()>>,
    _state: TempDir,
}

impl Real {
    /// A server, and a laptop that goes to it and has its `[stack]`.
    pub fn start() -> (Self, Laptop) {
        let state = tempfile::tempdir().unwrap();
        let pem = certificates();
        let (certificate, key) = (state.path().join("certificate.pem"), state.path().join("key.pem"));
        std::fs::write(&certificate, &pem.certificate).unwrap();
        std::fs::write(&key, pem.key.serialize_pem()).unwrap();
        // The origin is part of what is signed, so the port has to be known before.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let origin = format!("https://localhost:{port}");
        let laptop = Laptop::new(Some(&origin));
        laptop.write("ca.pem", &pem.authority);
        let config = Config {
            listen: ([127, 0, 0, 1], port).into(),
            state: state.path().to_owned(),
            requirements: state.path().join("none"),
            tls: Some(Tls { certificate, key, client_ca: None, client_certificates: Default::default() }),
            stack: Some(Stack { settings: settings(&laptop).check().unwrap(), origin: Some(origin.parse().unwrap()) }),
            ..Config::default()
        };
        let (enrol, auditor) = (token(&config, Role::Enrol, Some("web")), token(&config, Role::Auditor, None));
        let (stop, stopped) = watch::channel(false);
        let (ready, is_ready) = std::sync::mpsc::channel();
        let serving = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(2).build().unwrap();
            runtime.block_on(serve::serve(config, stopped, move |address| ready.send(address).unwrap())).unwrap();
        });
        is_ready.recv().expect("the server came up");
        let real = Self {
            agent: agent(&pem.authority),
            origin,
            enrol,
            auditor,
            stop,
            serving: Some(serving),
            over: Arc::default(),
            hosts: Vec::new(),
            _state: state,
        };
        (real, laptop)
    }

    /// A host of web joins. From then on it hears its feed, and says what it makes of it.
    pub fn host(&mut self, name: &str, laptop: &Laptop) {
        let mut host = Hearing::begin(name, self, laptop);
        let over = Arc::clone(&self.over);
        self.hosts.push(thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                host.hear();
            }
        }));
    }

    /// The key that its receipts are signed with.
    pub fn key(&self) -> String {
        let mut answer = self.agent.get(format!("{}/v1/server", self.origin)).call().unwrap();
        let said: Value = serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap();
        said["public_key"].as_str().unwrap().to_owned()
    }

    /// A host of web that has been heard of once, and is silent since.
    pub fn silent_host(&self, name: &str, laptop: &Laptop) {
        Hearing::begin(name, self, laptop);
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for host in self.hosts.drain(..) {
            assert!(host.join().is_ok() || thread::panicking());
        }
        let _ = self.stop.send(true);
        if let Some(serving) = self.serving.take() {
            assert!(serving.join().is_ok() || thread::panicking());
        }
    }
}

fn settings(laptop: &Laptop) -> Settings {
    #[derive(serde::Deserialize)]
    struct File {
        stack: Settings,
    }
    toml::from_str::<File>(&laptop.stack()).unwrap().stack
}

fn token(config: &Config, role: Role, stack: Option<&str>) -> String {
    let wanted = Wanted {
        role,
        name: None,
        stack: stack.map(|stack| stack.parse().unwrap()),
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

fn agent(authority: &str) -> Agent {
    let roots = RootCerts::new_with_certs(&[Certificate::from_pem(authority.as_bytes()).unwrap()]);
    let tls = TlsConfig::builder()
        .root_certs(roots)
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build();
    Agent::config_builder().http_status_as_error(false).tls_config(tls).build().new_agent()
}

/// A host as the server knows it.
struct Hearing {
    ledger: ledger::Host,
    judge: Judge,
    token: String,
    agent: Agent,
    origin: String,
    after: u64,
    told: usize,
}

impl Hearing {
    fn begin(name: &str, server: &Real, laptop: &Laptop) -> Self {
        let mut ledger = ledger::Host::new(name, "web");
        let token = format!("{:x}", Sha256::digest(name));
        let hash = format!("{:x}", Sha256::digest(&token));
        ledger.time = Timestamp::now();
        ledger.state(&Draft::new(ArtifactType::DaemonStarted, "the daemon started").with("feed_token_sha256", hash));
        ledger.state(
            &Draft::new(ArtifactType::SweepAttested, "a sweep")
                .with("mode", "enforce")
                .with("roster", json!({ "version": 1, "id": "none that is one" }))
                .with("feed", json!({ "heard_at": Timestamp::now().to_string(), "vouched": true, "behind": 0 }))
                .with("ways_open", json!([])),
        );
        let began = Moment::of(Timestamp::now()).before(Duration::from_secs(3 * 24 * 3600));
        let place = Place { host: Some(name.parse().unwrap()), stack: "web".parse().unwrap(), people: [].into() };
        let judge = Judge::begin(settings(laptop).check().unwrap(), place, began);
        let mut host = Self {
            ledger,
            judge,
            token,
            agent: server.agent.clone(),
            origin: server.origin.clone(),
            after: 0,
            told: 0,
        };
        host.tell(Some(&server.enrol));
        host
    }

    /// Hears what is new, judges it, and says so.
    fn hear(&mut self) {
        let url = format!("{}/v1/feed?stack=web&after={}&wait={POLL}", self.origin, self.after);
        let Ok(mut answer) = self.agent.get(url).header("Authorization", format!("Bearer {}", self.token)).call()
        else {
            return thread::sleep(Duration::from_millis(100));
        };
        let text = answer.body_mut().read_to_string().unwrap();
        assert_eq!(answer.status().as_u16(), 200, "{text}");
        let part: Value = serde_json::from_str(&text).unwrap();
        self.after = part["next"].as_u64().unwrap();
        for one in part["documents"].as_array().unwrap() {
            self.judge(&Envelope::parse(one["envelope"].to_string().as_bytes()).unwrap());
        }
        self.tell(None);
    }

    fn judge(&mut self, envelope: &Envelope) {
        let judged = self.judge.judge(envelope, Moment::of(Timestamp::now()));
        let draft = match &judged.verdict {
            Verdict::Accepted(accepted) => {
                if let Accepted::Grant(terms) = accepted {
                    self.grant(&judged.id.to_string(), terms);
                }
                let mut draft = Draft::new(ArtifactType::DocumentAccepted, "a document was accepted");
                if let Accepted::Grant(terms) = accepted {
                    draft.person = Some(terms.person.clone());
                    draft.account = Some(terms.account.as_str().parse().unwrap());
                }
                draft.with("envelope", envelope.to_json())
            }
            Verdict::Refused(refusal) => Draft::new(ArtifactType::DocumentRefused, "a document was refused")
                .with("code", refusal.word())
                .with("why", refusal.to_string()),
            Verdict::Known | Verdict::Waits(_) => return,
        };
        let draft = draft.with("document", judged.id.to_string()).with("kind", judged.kind.as_str());
        self.ledger.time = self.ledger.time.max(Timestamp::now());
        self.ledger.state(&draft.with("signers", serde_json::to_value(&judged.signers).unwrap()));
    }

    /// Says of a grant what the daemon does.
    fn grant(&mut self, document: &str, terms: &Terms) {
        let mut draft = Draft::new(ArtifactType::GrantCreated, "a grant was given");
        draft.person = Some(terms.person.clone());
        draft.account = Some(terms.account.as_str().parse().unwrap());
        draft.grant = Some(format!("g-{}", &document[..16]).parse().unwrap());
        let names: Vec<String> =
            terms.approvers.iter().filter_map(|signer| signer.who.person().map(ToString::to_string)).collect();
        self.ledger.time = self.ledger.time.max(Timestamp::now());
        self.ledger.state(
            &draft
                .with("expires_at", terms.expires_at.to_string())
                .with("document", document.to_owned())
                .with("approvers", json!(names))
                .with("why", terms.reason.to_string()),
        );
    }

    /// Ships what is new of its ledger.
    fn tell(&mut self, token: Option<&str>) {
        let all = self.ledger.lines.len();
        if all == self.told {
            return;
        }
        let batch = self.ledger.batch(self.told as u64 + 1..=all as u64);
        let mut request = self.agent.post(format!("{}/v1/artifacts", self.origin));
        if let Some(token) = token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let mut answer = request.header("Content-Type", "application/cloudevents-batch+json").send(&batch).unwrap();
        assert_eq!(answer.status().as_u16(), 200, "{}", answer.body_mut().read_to_string().unwrap());
        self.told = all;
    }
}
