//! A server with a made-up month of two stacks, to look at its pages: prints its address and an auditor's token, and serves
//! until its standard input ends. The records are sealed by the code that seals the daemon's, and come in as the daemon's do.

#![allow(clippy::unwrap_used, clippy::panic, reason = "an example, which ends where anything is off")]

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::mpsc,
};

use compliance_api::{
    admin::{self, Wanted},
    config::Config,
    own_ledger::{By, random_ledger},
    serve,
    store::Store,
    token::Role,
};
use jiff::{SignedDuration, Timestamp};
use record::{ArtifactType, Draft, Hash, LedgerId, Line, Position, seal};
use serde_json::{Value, json};
use ssh_key::{Algorithm, PrivateKey, rand_core::OsRng};
use tokio::sync::watch;

/// Records in one post.
const BATCH: usize = 200;
const DAYS: i64 = 30;
const PEOPLE: [&str; 5] = ["frank", "grace", "alice", "bob", "carol"];

struct Host {
    key: PrivateKey,
    ledger: LedgerId,
    name: &'static str,
    stack: &'static str,
    lines: Vec<Line>,
}

impl Host {
    fn state(&mut self, time: Timestamp, draft: &Draft) {
        let (name, stack) = (self.name.parse().unwrap(), self.stack.parse().unwrap());
        for body in draft.bodies().unwrap() {
            let at = Position {
                ledger: &self.ledger,
                seq: self.lines.len() as u64 + 1,
                host: &name,
                stack: &stack,
                boot: "7b5f3f6e-3c1e-4c37-8f0e-0d9f6f3a1b2c",
                time,
                prev: self.lines.last().map_or(Hash::ZERO, Line::hash),
            };
            self.lines.push(seal(&body, &at, &self.key).unwrap());
        }
    }

    fn post(&self, address: SocketAddr, token: &str) {
        for lines in self.lines.chunks(BATCH) {
            let events: Vec<String> = lines.iter().map(|line| self.event(line.as_str().trim_end())).collect();
            let body = format!("[{}]", events.join(","));
            let mut stream = TcpStream::connect(address).unwrap();
            write!(
                stream,
                "POST /v1/artifacts HTTP/1.1\r\nHost: month\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
                 Content-Type: application/cloudevents-batch+json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )
            .unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        }
    }

    fn event(&self, data: &str) -> String {
        let fields: Value = serde_json::from_str(data).unwrap();
        format!(
            "{{\"specversion\":\"1.0\",\"id\":\"{}/{}\",\"source\":\"/stacks/{}/hosts/{}\",\"type\":{},\"time\":{},\"data\":{data}}}",
            self.ledger, fields["seq"], self.stack, self.name, fields["type"], fields["time"]
        )
    }
}

fn hours(count: i64) -> SignedDuration {
    SignedDuration::from_hours(count)
}

/// What happened on a host in a month; `n` makes each host's another.
fn month(name: &'static str, stack: &'static str, n: i64, now: Timestamp) -> Host {
    let key = PrivateKey::random(&mut OsRng, Algorithm::Ed25519).unwrap();
    let public = ssh_key::PublicKey::from(key.public_key().key_data().clone()).to_openssh().unwrap();
    let mut host = Host { key, ledger: random_ledger(), name, stack, lines: Vec::new() };
    let begin = now - hours(DAYS * 24);
    let previous = json!({"seq": 0, "hash": Hash::ZERO.to_string()});
    let segment = Draft::new(ArtifactType::LedgerSegment, "a segment begins");
    host.state(begin, &segment.with("public_key", public.clone()).with("previous", previous));
    host.state(begin, &Draft::new(ArtifactType::LedgerOpened, "a ledger begins").with("public_key", public));
    host.state(begin, &Draft::new(ArtifactType::DaemonStarted, "the daemon started").with("version", "0.1.0"));
    for day in 0..DAYS {
        let morning = begin + hours(day * 24 + 9 + n);
        sweep(&mut host, morning, now, n);
        if (day + n) % 3 == 0 {
            visit(&mut host, morning + hours(1), day, n, now);
        }
        if (day + n) % 7 == 4 {
            let mut refused = Draft::new(ArtifactType::SessionRefused, "login refused: mallory has no grant on deploy");
            refused.person = Some("mallory".parse().unwrap());
            refused.account = Some("deploy".parse().unwrap());
            host.state(morning + hours(6), &refused);
        }
        if day == 17 && n == 1 {
            removed(&mut host, morning + hours(7));
        }
        if day == 21 && n == 0 {
            let mut login =
                Draft::new(ArtifactType::EmergencyLogin, "somebody logged in to breakglass, which is exempt");
            login.account = Some("breakglass".parse().unwrap());
            host.state(morning + hours(12), &login);
        }
    }
    if n < 2 {
        visit(&mut host, now - hours(2), DAYS, n, now);
    }
    sweep(&mut host, now, now, n);
    host
}

fn removed(host: &mut Host, at: Timestamp) {
    let mut removed =
        Draft::new(ArtifactType::KeyRemoved, "a key without a grant was removed from deploy's authorized_keys");
    removed.account = Some("deploy".parse().unwrap());
    let keys = json!(["SHA256:Lx3PZ2zpSyKcHqVHV6sLpzB9q8Jyd8bQJ1hZ0m2r7qk"]);
    host.state(at, &removed.with("path", "/home/deploy/.ssh/authorized_keys").with("fingerprints", keys));
}

fn sweep(host: &mut Host, at: Timestamp, now: Timestamp, n: i64) {
    let open = if n == 2 {
        json!([{"kind": "password", "server": "sshd", "whom": "every account", "why": "PasswordAuthentication is yes",
                "closes": "PasswordAuthentication no"}])
    } else {
        json!([])
    };
    let sweep = Draft::new(ArtifactType::SweepAttested, "a sweep found nothing out of place");
    let next = (at.max(now) + hours(1)).to_string();
    let mode = if n == 3 { "observe" } else { "enforce" };
    host.state(at, &sweep.with("mode", mode).with("ways_open", open).with("next_by", next));
}

/// Somebody is granted access, comes, and goes or is cut off.
fn visit(host: &mut Host, at: Timestamp, day: i64, n: i64, now: Timestamp) {
    let who = PEOPLE[usize::try_from((day / 3 + n) % 5).unwrap()];
    let id = format!("{:016x}", day * 16 + n + 1);
    let why = format!("INC-{}: the nightly export stood still", 400 + day);
    let about = |kind, reason: String| {
        let mut draft = Draft::new(kind, reason);
        draft.person = Some(who.parse().unwrap());
        draft.account = Some("deploy".parse().unwrap());
        draft.grant = Some(format!("g-{id}").parse().unwrap());
        draft
    };
    let in_session = |kind, reason: String| {
        let mut draft = about(kind, reason);
        draft.session = Some(format!("s-{id}").parse().unwrap());
        draft.fingerprint = Some("SHA256:Mk1c5h0d2sHn8rQw9y3bJk6v4t7p1x0z2a5c8e1g3i4".parse().unwrap());
        draft
    };
    let expires = at + hours(8);
    let given = about(ArtifactType::GrantCreated, format!("{who} may log in to deploy until {expires:.0}: {why}"));
    let given = given.with("starts_at", at.to_string()).with("expires_at", expires.to_string());
    host.state(at, &given.with("why", why).with("approvers", json!(["dana"])));
    if day % 2 == 0 {
        let opened = in_session(ArtifactType::SessionOpened, format!("{who} logged in to deploy on grant g-{id}"));
        host.state(at + hours(1), &opened.with("methods", json!(["publickey"])));
    }
    let cut = day % 4 == 2;
    let end = if cut { at + hours(4) } else { expires };
    if end > now {
        return;
    }
    if day % 2 == 0 {
        let kind = if cut { ArtifactType::SessionTerminated } else { ArtifactType::SessionClosed };
        let says = if cut { "ended: its grant was revoked" } else { "ended by itself" };
        host.state(end, &in_session(kind, format!("{who}'s session on deploy {says}")));
    }
    let how = if cut { "revoked" } else { "expired" };
    let ended = about(ArtifactType::GrantEnded, format!("{who}'s grant on deploy ended: {how}"));
    host.state(end, &ended.with("ended", how).with("at", end.to_string()).with("expires_at", expires.to_string()));
}

fn token(config: &Config, role: Role, stack: Option<&str>) -> String {
    let stack = stack.map(|stack| stack.parse().unwrap());
    let wanted = Wanted { role, name: None, stack, from: None, to: None, types: None, uses: None, expires: None };
    let store = Store::open(config).unwrap();
    let (_, token) = store.write_blocking(move |w| admin::make_token(w, &By::CommandLine, wanted.clone())).unwrap();
    store.close();
    token.reveal().to_owned()
}

fn main() {
    let state = tempfile::tempdir().unwrap();
    let listen = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let config = Config {
        listen: listen.parse().unwrap(),
        state: state.path().to_owned(),
        requirements: state.path().join("no-more-requirements"),
        ..Config::default()
    };
    let (stop, stopped) = watch::channel(false);
    let (ready, is_ready) = mpsc::channel();
    let serving = config.clone();
    let server = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(serve::serve(serving, stopped, |address| ready.send(address).unwrap())).unwrap();
    });
    let address = is_ready.recv().unwrap();
    let now = Timestamp::now();
    let all = [("web-1", "web"), ("web-2", "web"), ("web-3", "web"), ("db-1", "db")];
    for (n, (name, stack)) in (0..).zip(all) {
        month(name, stack, n, now).post(address, &token(&config, Role::Enrol, Some(stack)));
    }
    println!("address http://{address}/");
    println!("token {}", token(&config, Role::Auditor, None));
    println!("ends with the end of its standard input");
    std::io::stdout().flush().unwrap();
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    let _ = stop.send(true);
    server.join().unwrap();
}
