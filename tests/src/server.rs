//! A real `compliance-api` beside an instance: a process of the host in the instance's network, with its state on the
//! host. It outlives the instance's boots, as a server elsewhere would.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::host::{Output, eventually, finish};
use crate::instance::Instance;

/// Where it listens, in the instance's network.
const ADDRESS: &str = "127.0.0.1:8448";
/// What it may take to answer after it was started.
const START_LIMIT: Duration = Duration::from_secs(30);
/// What a request may take.
const REQUEST_LIMIT: &str = "30";

/// The server under test: `$COMPLIANCE_API`, else the newest that was built.
fn program() -> PathBuf {
    built("compliance-api", "COMPLIANCE_API")
}

/// A program under test: what this variable says, else the newest of `target/release` and `target/debug`.
///
/// # Panics
/// When there is none.
pub(crate) fn built(name: &str, variable: &str) -> PathBuf {
    if let Some(path) = std::env::var_os(variable) {
        return PathBuf::from(path);
    }
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"), PathBuf::from);
    let built = ["release", "debug"].map(|profile| target.join(profile).join(name));
    let age = |path: &PathBuf| path.metadata().and_then(|meta| meta.modified()).ok();
    built
        .into_iter()
        .filter(|path| path.is_file())
        .max_by_key(age)
        .unwrap_or_else(|| panic!("no {name} in {}: run `packaging/build` first", target.display()))
}

/// A server, and tokens for it. Dropping it ends it.
#[derive(Debug)]
pub struct Server {
    state: PathBuf,
    leader: i32,
    child: Option<Child>,
    auditor: String,
    admin: String,
}

impl Server {
    /// Starts one in the network of `instance`.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start(instance: &Instance) -> Self {
        let state = instance.scratch().join("compliance-api");
        std::fs::create_dir_all(&state).expect("own directory");
        let mut server = Self { state, leader: 0, child: None, auditor: String::new(), admin: String::new() };
        server.auditor = server.token("--role auditor --name tests");
        server.admin = server.token("--role admin --name tests");
        server.move_to(instance);
        server
    }

    /// Starts it anew with the same state, in the network that the instance has now.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn move_to(&mut self, instance: &Instance) {
        self.stop();
        self.leader = instance.leader();
        let log =
            std::fs::File::options().create(true).append(true).open(self.state.join("log")).expect("own directory");
        let mut command = instance.client();
        command.args(["nsenter", "-n", "-t", &self.leader.to_string(), "--"]).arg(program()).arg("serve");
        command.env("STATE_DIRECTORY", &self.state).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.child = Some(command.spawn().unwrap_or_else(|e| panic!("cannot start compliance-api: {e}")));
        eventually("the server answers", START_LIMIT, || self.ask("GET", "/healthz", "").stdout.contains("ok"));
    }

    /// Ends it as a crash would.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // One that has ended already is ended.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Makes a token by the command line: `--role enrol --stack default`.
    ///
    /// # Panics
    /// When none is made.
    #[must_use]
    #[track_caller]
    pub fn token(&self, args: &str) -> String {
        let mut command = Command::new(program());
        command.args(["token", "create"]).args(args.split(' ')).env("STATE_DIRECTORY", &self.state);
        let printed = finish(command, &format!("compliance-api token create {args}"), b"").expect_ok();
        let token = printed.split_whitespace().find(|word| word.starts_with("ca_"));
        token.unwrap_or_else(|| panic!("no token: {printed}")).to_owned()
    }

    /// Its URL inside the instance.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{ADDRESS}")
    }

    /// What it says of itself.
    #[must_use]
    pub fn public_key(&self) -> String {
        self.json("/v1/server")["public_key"].as_str().expect("a server has a key").to_owned()
    }

    /// The body that `GET PATH` gives an auditor.
    ///
    /// # Panics
    /// When it is refused.
    #[must_use]
    #[track_caller]
    pub fn get(&self, path: &str) -> String {
        body(&self.ask("GET", path, &self.auditor))
    }

    /// The same as JSON.
    ///
    /// # Panics
    /// When it is refused, or none.
    #[must_use]
    #[track_caller]
    pub fn json(&self, path: &str) -> Value {
        let text = self.get(path);
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("GET {path}: not JSON ({e}): {text}"))
    }

    /// The body that `POST PATH` gives an admin.
    ///
    /// # Panics
    /// When it is refused.
    #[track_caller]
    pub fn approve(&self, path: &str) -> String {
        body(&self.ask("POST", path, &self.admin))
    }

    /// One request by bash alone, from inside the instance's network: answered without chunks, as HTTP/1.0 is.
    fn ask(&self, method: &str, path: &str, token: &str) -> Output {
        let script = "exec 3<>/dev/tcp/127.0.0.1/8448 && printf '%s %s HTTP/1.0\\r\\nHost: %s\\r\\nAuthorization: Bearer %s\\r\\nAccept: application/x-ndjson, application/json\\r\\nContent-Length: 0\\r\\n\\r\\n' \"$1\" \"$2\" \"$3\" \"$4\" >&3 && cat <&3";
        let mut command = Command::new("timeout");
        command.args([REQUEST_LIMIT, "nsenter", "-n", "-t", &self.leader.to_string(), "--", "bash", "-c", script]);
        command.args(["bash", method, path, ADDRESS, token]);
        finish(command, &format!("{method} {path}"), b"")
    }
}

#[track_caller]
fn body(answer: &Output) -> String {
    let (head, body) = answer.stdout.split_once("\r\n\r\n").unwrap_or((answer.stdout.as_str(), ""));
    let status = head.split(' ').nth(1).unwrap_or_default();
    assert!(status.starts_with('2'), "this should not have been refused:\n{answer}");
    body.to_owned()
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}
