//! An office: keys, the server, the program's configuration, and what is published.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
    sync::Arc,
};

use document::{
    Body, Checked, Document, Envelope, Feeder, IamUser, IsLift, IsRoster, Judge, Key, Lift, Member, Moment, Place,
    Roster, Rule, Settings, V1, Verdict,
    roster::{ApproveWith, Approver, LoginWith},
};
use jiff::Timestamp;
use serde_json::Value;
use tempfile::TempDir;
use ureq::{
    Agent,
    tls::{Certificate, RootCerts, TlsConfig},
};

use crate::serving::{Serving, free_port, origin};

/// What the program said.
#[derive(Debug)]
pub struct Said {
    pub status: i32,
    pub out: String,
    pub err: String,
}

impl Said {
    #[track_caller]
    pub fn with(self, status: i32) -> Self {
        assert_eq!(self.status, status, "{}\n{}", self.out, self.err);
        self
    }

    #[track_caller]
    pub fn says(self, what: &str) -> Self {
        assert!(self.out.contains(what) || self.err.contains(what), "no {what:?} in\n{}\n{}", self.out, self.err);
        self
    }

    #[track_caller]
    pub fn says_not(self, what: &str) -> Self {
        assert!(!self.out.contains(what) && !self.err.contains(what), "{what:?} in\n{}\n{}", self.out, self.err);
        self
    }
}

/// An office.
pub struct Office {
    pub home: TempDir,
    port: u16,
    automatic: bool,
    _serving: Serving,
}

impl Office {
    /// One whose roster names the program's key as the feeder of `iam`, and these people.
    pub fn new(people: Vec<Member>) -> Self {
        Self::with(people, false)
    }

    /// The same, where the program's key may sign rosters by itself.
    pub fn automatic(people: Vec<Member>) -> Self {
        Self::with(people, true)
    }

    fn with(people: Vec<Member>, automatic: bool) -> Self {
        let home = tempfile::tempdir().unwrap();
        for name in ["ceo", "ana", "feeder"] {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"])
                .arg(home.path().join(name))
                .status();
            assert!(made.unwrap().success());
        }
        let port = free_port();
        let trust = trust(&stack(&home, automatic));
        let serving = Serving::begin(home.path(), port, trust);
        fs::create_dir(home.path().join("state")).unwrap();
        let office = Self { home, port, automatic, _serving: serving };
        office.publish(office.roster(1, people));
        office
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// The public half of a key.
    pub fn key(&self, name: &str) -> Key {
        key(&self.home, name)
    }

    pub fn stack(&self) -> String {
        stack(&self.home, self.automatic)
    }

    pub fn roster(&self, version: u64, mut people: Vec<Member>) -> Roster {
        people.sort_by(|one, other| one.name.as_str().cmp(other.name.as_str()));
        let now = Moment::of(Timestamp::now());
        Roster {
            approvers: vec![Approver {
                accounts: ["*".parse().unwrap()].into(),
                keys: [self.key("ana")].into(),
                person: "ana".parse().unwrap(),
                stacks: ["*".parse().unwrap()].into(),
            }],
            expires_at: "2099-01-01T00:00:00Z".parse().unwrap(),
            feeders: vec![Feeder { key: self.key("feeder"), source: "iam".parse().unwrap() }],
            holds: [].into(),
            issued_at: now,
            organization: "acme".parse().unwrap(),
            people,
            rules: vec![Rule {
                account: "*".parse().unwrap(),
                approvals: 1.try_into().unwrap(),
                approve_with: ApproveWith::Key,
                login_with: LoginWith::Key,
                max_seconds: 3600,
                stack: "web".parse().unwrap(),
            }],
            kind: IsRoster,
            v: V1,
            version: version.try_into().unwrap(),
        }
    }

    /// Has the ceo sign a roster, and publishes it.
    pub fn publish(&self, roster: Roster) {
        self.post(&self.sign(Document::new(Body::from(roster)).unwrap(), "ceo"));
    }

    /// The program has seen this roster, which the server has not, any more.
    pub fn keep_unpublished(&self, roster: Roster) {
        let signed = self.sign(Document::new(Body::from(roster)).unwrap(), "ceo");
        fs::write(self.path("state/roster-signed.json"), signed.to_json()).unwrap();
    }

    /// Has ana lift a lockdown.
    pub fn lift(&self, lockdown: document::Id) {
        let lift = Lift {
            issued_at: Moment::of(Timestamp::now()),
            lockdown,
            organization: "acme".parse().unwrap(),
            reason: "it was a mistake".parse().unwrap(),
            kind: IsLift,
            v: V1,
        };
        self.post(&self.sign(Document::new(lift).unwrap(), "ana"));
    }

    fn sign(&self, document: Document, with: &str) -> Envelope {
        let private = ssh_key::PrivateKey::read_openssh_file(&self.path(with)).unwrap();
        let namespace = document.namespace();
        let signed = private.sign(namespace.as_str(), ssh_key::HashAlg::Sha512, document.line().as_bytes()).unwrap();
        Envelope::new(document, vec![signed.to_pem(ssh_key::LineEnding::LF).unwrap()]).unwrap()
    }

    fn post(&self, envelope: &Envelope) {
        let url = format!("{}/v1/documents", origin(self.port));
        let mut answer =
            self.agent().post(url).header("Content-Type", "application/json").send(envelope.to_json()).unwrap();
        assert_eq!(answer.status().as_u16(), 200, "{}", answer.body_mut().read_to_string().unwrap());
    }

    /// What the feed of web holds from its beginning.
    pub fn feed(&self) -> Vec<Envelope> {
        let url = format!("{}/v1/feed?stack=web&after=0", origin(self.port));
        let token = fs::read_to_string(self.path("token")).unwrap();
        let mut answer = self.agent().get(url).header("Authorization", format!("Bearer {token}")).call().unwrap();
        let answer: Value = serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap();
        let documents = answer["documents"].as_array().unwrap();
        documents.iter().map(|one| Envelope::parse(one["envelope"].to_string().as_bytes()).unwrap()).collect()
    }

    /// What the server was told of runs, the newest first.
    pub fn runs(&self) -> Vec<Value> {
        let url = format!("{}/v1/runs?source=iam", origin(self.port));
        let token = fs::read_to_string(self.path("token")).unwrap();
        let mut answer = self.agent().get(url).header("Authorization", format!("Bearer {token}")).call().unwrap();
        let answer: Value = serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap();
        answer["runs"].as_array().unwrap().clone()
    }

    /// Who is held on a host of web that hears the feed, and has been there for days.
    pub fn held(&self) -> Vec<String> {
        let host = self.host();
        let mut held: Vec<String> =
            host.state().holds().filter_map(|(_, closed)| closed.person.as_ref().map(ToString::to_string)).collect();
        held.sort();
        held
    }

    /// Such a host: it takes all that was ever published.
    pub fn host(&self) -> Judge {
        let now = Moment::of(Timestamp::now());
        let place = Place { host: Some("i-1".parse().unwrap()), stack: "web".parse().unwrap(), people: [].into() };
        let began = now.before(std::time::Duration::from_secs(3 * 24 * 3600));
        let mut judge = Judge::begin(trust(&self.stack()), place, began);
        for envelope in self.feed() {
            let judged = judge.judge(&envelope, now);
            assert!(matches!(judged.verdict, Verdict::Accepted(_)), "{:?}", judged.verdict);
        }
        judge
    }

    /// Writes the configuration: these lines before `[stack]`.
    pub fn configure(&self, lines: &str) {
        let add = if self.automatic { "automatic" } else { "propose" };
        let text = format!(
            "server = \"{}\"\nca_file = \"{}\"\ntoken_file = \"{}\"\nkey = \"{}\"\nadd = \"{add}\"\n{lines}\n{}",
            origin(self.port),
            self.path("ca.pem").display(),
            self.path("token").display(),
            self.path("feeder").display(),
            self.stack()
        );
        fs::write(self.path("iam.toml"), text).unwrap();
    }

    fn command(&self, arguments: &[&str], credentials: (&str, &str)) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lockdown-iam"));
        command
            .arg("--config")
            .arg(self.path("iam.toml"))
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("STATE_DIRECTORY", self.path("state"))
            .env("AWS_ACCESS_KEY_ID", credentials.0)
            .env("AWS_SECRET_ACCESS_KEY", credentials.1)
            .stdin(Stdio::null());
        command
    }

    /// Runs the program, with these credentials in its environment.
    pub fn run_as(&self, arguments: &[&str], credentials: (&str, &str)) -> Said {
        let output = self.command(arguments, credentials).output().unwrap();
        Said {
            status: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// How much memory a run takes at most, in KiB, as far as looking every few milliseconds shows.
    pub fn peak_of(&self, arguments: &[&str]) -> u64 {
        let mut child = self.command(arguments, ("AKIDEXAMPLE", "secret")).stdout(Stdio::null()).spawn().unwrap();
        let status = format!("/proc/{}/status", child.id());
        let mut peak = 0;
        while child.try_wait().unwrap().is_none() {
            let text = fs::read_to_string(&status).unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
            peak = peak.max(kib.unwrap_or(0));
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        assert!(child.wait().unwrap().success() && peak > 0);
        peak
    }

    pub fn run(&self, arguments: &[&str]) -> Said {
        self.run_as(arguments, ("AKIDEXAMPLE", "secret"))
    }

    /// What is proposed; nothing where nothing is.
    pub fn proposed(&self) -> Option<Roster> {
        let bytes = fs::read(self.path("state/roster.proposed")).ok()?;
        let envelope = Envelope::parse(&bytes).unwrap();
        assert!(envelope.signatures().is_empty());
        match envelope.document().body() {
            Body::Roster(roster) => Some((**roster).clone()),
            other => panic!("{other:?}"),
        }
    }

    /// Time goes by: who was absent was so a minute earlier.
    pub fn a_minute_later(&self) {
        self.remembers(|memory| {
            for (_, absent) in memory["absent"].as_object_mut().unwrap() {
                let at: Moment = absent["at"].as_str().unwrap().parse().unwrap();
                absent["at"] = at.before(std::time::Duration::from_secs(60)).to_string().into();
            }
        });
    }

    /// There were runs enough that nobody is new.
    pub fn many_runs_later(&self) {
        self.remembers(|memory| memory["runs"] = (memory["runs"].as_u64().unwrap() + 9).into());
    }

    fn remembers(&self, change: impl FnOnce(&mut Value)) {
        let path = self.path("state/memory.json");
        let mut memory: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        change(&mut memory);
        fs::write(&path, memory.to_string()).unwrap();
    }

    fn agent(&self) -> Agent {
        let authority = fs::read(self.path("ca.pem")).unwrap();
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::new_with_certs(&[Certificate::from_pem(&authority).unwrap()]))
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .build();
        Agent::config_builder().http_status_as_error(false).tls_config(tls).build().new_agent()
    }
}

fn key(home: &TempDir, name: &str) -> Key {
    let text = fs::read_to_string(home.path().join(format!("{name}.pub"))).unwrap();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ").parse().unwrap()
}

fn stack(home: &TempDir, automatic: bool) -> String {
    let automatic = if automatic { format!("automatic = [\"{}\"]\n", key(home, "feeder")) } else { String::new() };
    format!(
        "[stack]\norganization = \"acme\"\nplain_approvers = true\n[stack.roster]\nthreshold = 1\n{automatic}\
         [[stack.roster.key]]\nperson = \"ceo\"\nkey = \"{}\"\n",
        key(home, "ceo")
    )
}

fn trust(stack: &str) -> Checked {
    #[derive(serde::Deserialize)]
    struct File {
        stack: Settings,
    }
    toml::from_str::<File>(stack).unwrap().stack.check().unwrap()
}

/// The public half of a key that is made of a number.
pub fn made_key(seed: u8) -> Key {
    let public = ssh_key::private::Ed25519Keypair::from_seed(&[seed; 32]).public;
    Key::from_data(&ssh_key::public::KeyData::Ed25519(public)).unwrap()
}

/// Somebody of IAM in a roster, who may be given ubuntu on web.
pub fn member(name: &str, id: &str, keys: &[u8]) -> Member {
    Member {
        accounts: [("web".parse().unwrap(), ["ubuntu".parse().unwrap()].into())].into(),
        iam: Some(IamUser {
            arn: Some(format!("arn:aws:iam::111122223333:user/{name}").parse().unwrap()),
            id: id.parse().unwrap(),
            name: name.parse().unwrap(),
        }),
        keys: keys.iter().map(|seed| made_key(*seed)).collect(),
        name: name.parse().unwrap(),
        source: "iam".parse().unwrap(),
    }
}
