//! What every command has: the configuration, the key, the server and AWS.

use std::{
    env,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use document::{Checked, Moment};
use jiff::Timestamp;

use crate::{
    aws::{Access, Calls, Credentials, Iam},
    config::{self, Config},
    failure::Failure,
    files, http,
    known::Known,
    reading::Accounts,
    server::Server,
    signing::FeederKey,
};

/// How long one run may ask AWS.
const MAX_RUN: Duration = Duration::from_secs(600);
/// Where the state is unless systemd says otherwise.
const STATE: &str = "/var/lib/lockdown-iam";

/// The stack by which a roster is judged: rosters are judged alike in all.
const NO_STACK: &str = "-";
/// Where the feeder's key is unless the configuration says otherwise.
const KEY: &str = "/etc/lockdown/iam-key";
/// Where the token is.
const TOKEN: &str = "/etc/lockdown/iam-token";

/// What every command has.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) config: Config,
    pub(crate) trust: Checked,
    pub(crate) key: FeederKey,
    pub(crate) server: Server,
    pub(crate) state: PathBuf,
    until: Instant,
}

impl Context {
    /// Reads what is on this machine. Nothing is sent yet.
    pub(crate) fn load(path: &Path) -> Result<Self, Failure> {
        let (config, trust) = Config::load(path)?;
        let key = FeederKey::load(&place(config.key.as_deref(), "feeder-key", KEY, "key")?)?;
        let token = files::secret(&place(config.token_file.as_deref(), "token", TOKEN, "token_file")?)?;
        let server = Server::new(http::over_tls(config.ca_file.as_deref())?, config.server.clone(), token);
        let state = env::var_os("STATE_DIRECTORY").filter(|path| !path.is_empty());
        let state = state.map_or_else(|| PathBuf::from(STATE), PathBuf::from);
        Ok(Self { config, trust, key, server, state, until: Instant::now() + MAX_RUN })
    }

    /// What is known once the server was asked. Whether it is kept for the next run is for the caller to say.
    pub(crate) fn known(&self, keeps: bool) -> Result<Known, Failure> {
        let groups = self.config.accounts.iter().flat_map(|account| &account.groups);
        let stacks = groups.flat_map(|group| group.accounts.keys()).filter(|stack| !stack.is_any());
        let stack = NO_STACK.parse().map_err(|error: record::NameError| Failure::config(error.to_string()))?;
        let now = Moment::of(Timestamp::now());
        let mut known = Known::begin(self.trust.clone(), stack, &self.state, keeps, now);
        let envelopes = self.server.feed(stacks, &self.trust.roster_signers(), |id| known.is_kept(id))?;
        known.learn(&envelopes)?;
        Ok(known)
    }

    /// AWS, as whoever the credentials are.
    pub(crate) fn access(&self) -> Result<Access, Failure> {
        let aws = &self.config.aws;
        let is_here = config::is_loopback(&aws.endpoint) && config::is_loopback(&aws.sts_endpoint);
        // Authorities of one's own are for the compliance API.
        let agent = if is_here { http::within_machine() } else { http::over_tls(None)? };
        Ok(Access::new(agent, aws.clone(), Credentials::find(aws)?, self.until))
    }

    /// IAM in each account.
    pub(crate) fn accounts(&self, calls: &mut Calls) -> Result<Accounts, Failure> {
        let access = self.access()?;
        let mut accounts = Accounts::new();
        for account in &self.config.accounts {
            let iam = Iam::of(account, &access, calls).map_err(|error| {
                Failure::unavailable(format!("the account {}: nothing was changed: {}", account.id, error.words()))
            })?;
            accounts.insert(account.id.clone(), iam);
        }
        Ok(accounts)
    }
}

/// A file that the configuration names, or else a credential of systemd's, or else where that is from.
fn place(named: Option<&Path>, credential: &str, usual: &str, member: &str) -> Result<PathBuf, Failure> {
    let directory = env::var_os("CREDENTIALS_DIRECTORY").filter(|path| !path.is_empty());
    let given = directory.map(|directory| Path::new(&directory).join(credential)).filter(|path| path.exists());
    let usual = Some(PathBuf::from(usual));
    named.map(Path::to_owned).or(given).or(usual).filter(|path| path.exists()).ok_or_else(|| {
        Failure::config(format!("there is no file for {member}"))
            .but("lockdown-iam(8) says what has to be there, to begin")
    })
}
