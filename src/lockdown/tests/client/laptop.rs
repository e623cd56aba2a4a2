//! A laptop: a home, keys, a configuration, and the program.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use document::{Envelope, Judge, Judged, Key, Moment, Place, Settings};
use jiff::Timestamp;
use tempfile::TempDir;

/// What a command said.
#[derive(Debug)]
pub struct Said {
    pub status: i32,
    pub out: String,
    pub err: String,
}

impl Said {
    pub fn of(output: std::process::Output) -> Self {
        Self {
            status: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// The answer of one that was to end with this status.
    #[track_caller]
    pub fn with(self, status: i32) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    #[track_caller]
    pub fn says(self, what: &str) -> Self {
        assert!(self.out.contains(what) || self.err.contains(what), "no {what:?} in\n{}\n{}", self.out, self.err);
        self
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// A laptop.
pub struct Laptop {
    home: TempDir,
}

impl Laptop {
    /// One with a key for the roster (`ceo`), for two approvers (`alice`, `bob`) and for `frank`, who logs in. Nobody has a security
    /// device here, so `plain_approvers` is on.
    pub fn new(server: Option<&str>) -> Self {
        let laptop = Self { home: tempfile::tempdir().unwrap() };
        for name in ["ceo", "alice", "bob", "frank"] {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"])
                .arg(laptop.path(name))
                .status();
            assert!(made.unwrap().success());
        }
        let server =
            server.map(|server| format!("server = \"{server}\"\nca_file = \"~/ca.pem\"\n")).unwrap_or_default();
        laptop.write("config.toml", &format!("{server}{}", laptop.stack()));
        laptop
    }

    /// `[stack]`, as hosts have it too.
    pub fn stack(&self) -> String {
        format!(
            "[stack]\norganization = \"acme\"\nplain_approvers = true\n[stack.roster]\nthreshold = 1\n[[stack.roster.key]]\nperson = \"ceo\"\nkey = \"{}\"\n",
            self.key("ceo")
        )
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// The public half of a key.
    pub fn key(&self, name: &str) -> Key {
        let text = self.read(&format!("{name}.pub"));
        text.split(' ').take(2).collect::<Vec<_>>().join(" ").parse().unwrap()
    }

    /// A draft in which alice and bob approve, and frank may be given ubuntu on web; so many approvals are needed.
    pub fn draft(&self, approvals: u8) -> String {
        let approver = |name: &str| {
            format!(
                "[[approver]]\nperson = \"{name}\"\nkeys = [\"{} {name}@laptop\"]\nstacks = [\"*\"]\naccounts = [\"*\"]\n",
                self.key(name)
            )
        };
        format!(
            "expires_at = \"2099-01-01T00:00:00Z\"\n[[person]]\nname = \"frank\"\nkeys = [\"{}\"]\naccounts = {{ web = [\"ubuntu\", \"deploy\"] }}\n{}{}\
             [[rule]]\nstack = \"*\"\naccount = \"ubuntu\"\napprovals = {approvals}\napprove_with = \"key\"\nlogin_with = \"key\"\nlongest = \"8h\"\n",
            self.key("frank"),
            approver("alice"),
            approver("bob"),
        )
    }

    /// The program, as it would be run here: with nobody's agent, proxy or colours.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lockdown"));
        command.args(arguments).current_dir(self.home.path()).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.home.path()).env("LOCKDOWN_CONFIG", self.path("config.toml"));
        command.stdin(Stdio::null());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Said {
        Said::of(self.command(arguments).output().unwrap())
    }

    /// Makes and signs a roster with these drafts' words.
    pub fn sign_roster(&self, draft: &str, version: &str) {
        self.write("roster.toml", draft);
        self.run(&["roster", "sign", "roster.toml", "--key", "ceo", "--offline", "--version", version]).with(0);
    }

    pub fn envelope(&self, name: &str) -> Envelope {
        Envelope::parse(self.read(name).as_bytes()).unwrap()
    }

    /// A host of web that has been there for days, with these documents.
    pub fn host(&self, name: &str) -> Host {
        self.host_with(name, str::to_owned)
    }

    /// The same with another `[stack]`.
    pub fn host_with(&self, name: &str, change: impl Fn(&str) -> String) -> Host {
        #[derive(serde::Deserialize)]
        struct File {
            stack: Settings,
        }
        let file: File = toml::from_str(&change(&self.stack())).unwrap();
        let began = Moment::of(Timestamp::now()).before(std::time::Duration::from_secs(3 * 24 * 3600));
        let place = Place { host: Some(name.parse().unwrap()), stack: "web".parse().unwrap(), people: [].into() };
        Host(Judge::begin(file.stack.check().unwrap(), place, began))
    }
}

/// A host, as far as documents are concerned.
pub struct Host(Judge);

impl Host {
    pub fn take(&mut self, envelope: &Envelope) -> Judged {
        self.0.judge(envelope, Moment::of(Timestamp::now()))
    }

    #[track_caller]
    pub fn accepts(&mut self, envelope: &Envelope) {
        let judged = self.take(envelope);
        assert!(matches!(judged.verdict, document::Verdict::Accepted(_)), "{:?}", judged.verdict);
    }
}
