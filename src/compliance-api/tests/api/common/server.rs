//! A server in this process, on a port of its own.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
};

use compliance_api::{
    admin::{self, Wanted},
    config::Config,
    own_ledger::By,
    serve,
    store::Store,
    token::Role,
};
use tempfile::TempDir;
use tokio::sync::watch;

use super::{
    Client, Host,
    database::{Database, Read, drop_store_of, store_of},
};

/// A server, stopped when dropped.
pub struct Server {
    pub address: SocketAddr,
    pub state: TempDir,
    pub config: Config,
    stop: watch::Sender<bool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Server {
    pub fn start() -> Self {
        Self::start_with(|_| {})
    }

    /// With this changed in its configuration.
    pub fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        change(&mut config);
        Self::start_in(tempfile::tempdir().unwrap(), config)
    }

    /// On what this directory holds.
    pub fn start_in(state: TempDir, config: Config) -> Self {
        let store = store_of(state.path());
        Self::start_beside(state, Config { store, ..config })
    }

    /// On the database that the configuration names, whoever uses it too.
    pub fn start_beside(state: TempDir, mut config: Config) -> Self {
        config.state = state.path().to_owned();
        config.listen = "127.0.0.1:0".parse().unwrap();
        config.requirements = state.path().join("no-more-requirements");
        let (stop, stopped) = watch::channel(false);
        let (ready, is_ready) = std::sync::mpsc::channel();
        let serving = config.clone();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(2).build().unwrap();
            runtime.block_on(serve::serve(serving, stopped, |address| ready.send(address).unwrap())).unwrap();
        });
        let address = is_ready.recv().expect("the server came up");
        Self { address, state, config, stop, thread: Some(thread) }
    }

    /// Stops in good order, and starts again on the same database.
    pub fn restart(mut self) -> Self {
        self.end();
        let state = std::mem::replace(&mut self.state, tempfile::tempdir().unwrap());
        Self::start_in(state, self.config.clone())
    }

    /// Stops in good order.
    pub fn end(&mut self) {
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the server ended in good order");
        }
    }

    pub fn client(&self) -> Client {
        Client { address: self.address, token: None }
    }

    /// A new token, made as the command line makes it.
    pub fn token(&self, wanted: Wanted) -> String {
        make_token(&self.config, wanted)
    }

    /// An enrolment token for this stack, for any number of hosts.
    pub fn enrol_token(&self, stack: &str) -> String {
        self.token(Wanted { stack: Some(stack.parse().unwrap()), ..wanted(Role::Enrol) })
    }

    pub fn admin(&self) -> Client {
        self.client().with(&self.token(wanted(Role::Admin)))
    }

    /// A host that is enrolled, with its first two records stored.
    pub fn host(&self, name: &str) -> Host {
        let host = Host::new(name, "web");
        let answer = self.client().with(&self.enrol_token("web")).ingest(&host.all());
        assert_eq!(answer.status, 200, "{answer:?}");
        host
    }

    /// A look into the database.
    pub fn database(&self) -> Database {
        Database::of(self.state.path())
    }

    /// What the first row holds that the database answers with.
    pub fn one<T: Read>(&self, sql: &str) -> T {
        self.database().one(sql)
    }

    /// How many of something the database has.
    pub fn count(&self, sql: &str) -> u64 {
        self.one(sql)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
        drop_store_of(self.state.path());
    }
}

/// The real program with this state directory and database, and where it listens.
pub fn program(state: &Path, store: Option<&compliance_api::config::Database>) -> (Child, SocketAddr) {
    let config = state.join("config.toml");
    let store = store.map_or_else(String::new, |store| format!("[store]\nurl = {:?}\n", store.url));
    fs::write(&config, format!("listen = \"127.0.0.1:0\"\nstate = {state:?}\n{store}")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_compliance-api"));
    command.arg("--config").arg(config).arg("serve").env_remove("JOURNAL_STREAM").stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let address = lines.find_map(|line| line.unwrap().split("address=").nth(1).map(|a| a.trim().parse().unwrap()));
    thread::spawn(move || lines.for_each(drop));
    (child, address.expect("it says where it listens"))
}

/// A wish for a token of this role and nothing else.
pub fn wanted(role: Role) -> Wanted {
    Wanted { role, name: None, stack: None, from: None, to: None, types: None, uses: None, expires: None }
}

pub fn make_token(config: &Config, wanted: Wanted) -> String {
    let store = Store::open(config).unwrap();
    let (_, token) = store.write_blocking(move |w| admin::make_token(w, &By::CommandLine, wanted.clone())).unwrap();
    store.close();
    token.reveal().to_owned()
}
