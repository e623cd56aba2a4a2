//! Starting, reloading and stopping: in which order state is taken up, so that a crash at any moment leaves no grant
//! living past its end and none lost.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use lockdown_core::machine::{looks::named_accounts, mode::MarkerLeft, reload::ConfigState};
use lockdown_core::{
    config::{self, Config},
    grants::Grants,
    machine::{Core, Ending, Event, OnRecord, documents::DocumentsRead, grant_ended, recorder},
    penalties::Knocks,
    policy::{
        grant::{End, EndCause, Grant},
        time::Now,
    },
};
use lockdown_host::{
    clock, config_files, held, key_store::KeyStore, mounts::MOUNTINFO, paths::PathError, processes::Handle as _,
    quarantine::QUARANTINE, shipper::Shipper, writers::Writers,
};
use record::{ArtifactType, Draft, Host};
use tokio::sync::mpsc;

use super::{
    Driver,
    carry_out::{Held, moment},
    feed_token,
    homes::{Finding, Homes, HomesError, Setup},
    listeners::Listeners,
    looks::ChangesTold,
    on_disk::LAST_COMMITS,
    reload, shipped, state,
    world::World,
};
use crate::{
    answered::{ANSWERED, ANSWERED_RUN, Answered},
    attempts::{Follower, LogReport},
    disk::{Disk, Done, Found, GRANTS_COPY, Left, NotOpened, Opener, Store, Told, copied_grants, identity_by, owed},
    grants,
    kept::{self, Kept, SESSIONS, TRACES},
    ledger::{Recorded, View},
    trigger::Reason,
};

/// The configuration in force, to start from when the files are broken.
pub(super) const LAST_GOOD: &str = "/var/lib/lockdownd/last-good.toml";
/// Left by the removal of the package where the daemon did not end the grants.
const REMOVED: &str = "/var/lib/lockdownd/removed";
/// How long a start waits for the state to be read before it begins without.
const READ_WITHIN: Duration = Duration::from_secs(2);

/// How long a stop waits for journald to take the last records; one that stands still has them in the ledger only.
pub(crate) const JOURNAL_LIMIT: Duration = Duration::from_secs(2);

/// How long it waits for the last answers to the gate to be written.
pub(crate) const LAST_ANSWERS: Duration = Duration::from_millis(500);

/// The daemon cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Neither the files nor the last good configuration check out.
    #[error(
        "{0}\nand there is no last good configuration to start from: mend the file, then systemctl start lockdownd"
    )]
    Config(#[source] config::Error),
    /// The boot id.
    #[error(transparent)]
    Clock(#[from] clock::ClockError),
    /// The disk thread.
    #[error("the thread that writes to the disk cannot be started: {0}")]
    Disk(#[source] io::Error),
    /// The thread that watches who listens.
    #[error("who listens for connections cannot be watched: {0}")]
    Listeners(#[source] io::Error),
    /// The key store.
    #[error(transparent)]
    Store(#[from] PathError),
    /// The thread that follows sshd's log.
    #[error("sshd's log cannot be followed: {0}")]
    Follower(#[source] io::Error),
    /// The homes thread.
    #[error(transparent)]
    Homes(#[from] HomesError),
}

impl Driver {
    /// Takes up the state that the last run left and brings the host in line with it: when this returns, the key store
    /// holds exactly what it must, and logins can be answered. Where the disk does not give the state within
    /// [`READ_WITHIN`], it begins without (`unread`).
    ///
    /// # Errors
    /// What the daemon cannot do without is missing. Nobody gets in then but to exempt accounts.
    pub fn start(
        reasons: mpsc::Sender<Reason>,
        reports: mpsc::Sender<LogReport>,
        findings: mpsc::Sender<Finding>,
        writers: Arc<Writers>,
        now: Now,
    ) -> Result<Self, StartError> {
        held::let_go_of_before();
        let (config, config_state) = load_config(now)?;
        let boot_id = clock::boot_id()?;
        let disk = start_disk(&config, &boot_id, reasons.clone())?;
        let (opened, why_not) = wait_for_state(&disk);
        let (sessions, sessions_error) = kept::sessions(Path::new(SESSIONS));
        let copy = if opened.is_some() { None } else { copied_grants(&boot_id, now) };
        let grants = opened.as_ref().map(|(left, ..)| &left.grants).or(copy.as_ref());
        let named = named_accounts(&config, grants.into_iter().flat_map(Grants::open_ones), &sessions);
        let world = World::first(&named);
        let mut core = Core::new(config, world.around(), boot_id, sessions, moment(now));
        core.config_state = config_state;
        core.mode.is_unread = true;
        core.traces = kept::traces(Path::new(TRACES));
        let mut driver = Self {
            core,
            disk,
            ledger: None,
            held: Held::default(),
            kept: Kept::new(),
            world: Arc::new(world),
            directories_moved: false,
            rescue: None,
            listeners: Listeners::watch(reasons.clone()).map_err(StartError::Listeners)?,
            came: super::left_behind::Came::default(),
            shipper: Shipper::default(),
            beside: shipped::Beside::default(),
            store: KeyStore::open()?,
            homes: None,
            findings: Some(findings),
            homes_unkept: None,
            writers,
            changes_told: ChangesTold::default(),
            follower: None,
            answered: Answered::none(),
            reasons,
            reports,
            knocks: Knocks::default(),
            starts_over: false,
        };
        if let Some(why) = why_not {
            driver.not_opened(&why, now);
        }
        driver.note_start(sessions_error.as_ref(), opened.as_ref().map(|(left, ..)| &left.found));
        match opened {
            Some((Left { grants, documents, found }, view, known)) => {
                driver.ledger = Some(view);
                driver.step(Event::Disk(recorder::Done::Opened(None), Some(known)), now);
                driver.core.take_up_grants(grants);
                driver.take_up(documents, found, now)?;
            }
            None => driver.begin_unread(copy, now),
        }
        driver.follow(now);
        Ok(driver)
    }

    /// Takes up what was found on the disk, in the order in which a crash at any moment leaves no grant living past its end
    /// and none lost.
    ///
    /// # Errors
    /// What the daemon cannot do without is missing.
    pub(super) fn take_up(&mut self, documents: DocumentsRead, found: Found, now: Now) -> Result<(), StartError> {
        let Found { recorded, woken, of_another_host, broke } = found;
        let exempt_before = reload::exempt_before();
        self.core.emergencies.take_up(&recorded.emergencies, recorded.more_emergencies);
        self.core.receipts.pinned = shipped::pinned();
        self.core.retired.take_up(state::retired());
        if let Err(error) = self.answered.take_up(&[Path::new(ANSWERED), Path::new(ANSWERED_RUN)]) {
            tracing::error!(%error, "{ANSWERED} cannot be read: logins just before the start may be recorded as past the gate");
        }
        if woken.clock_was_set_back {
            let sentence = "the wall clock stands further back than before the boot: every grant was ended";
            self.core.recorder.note(Draft::new(ArtifactType::ClockStepped, sentence));
        }
        of_another_host.iter().flatten().for_each(|grant| self.end_by_identity(grant, now));
        let on_record = on_record(&recorded);
        let unread = self.core.reconcile(&on_record, now);
        let unread = unread.as_ref();
        for login in recorded.logins.iter().filter(|login| !self.answered.knows(login.pid, login.began)) {
            self.answered.note_found(login.pid, login.began, login.until);
        }
        if unread.is_none() {
            self.core.recall_documents(grants::documents_beside(Path::new(GRANTS_COPY)), now);
        }
        self.core.take_up_documents(documents, &on_record.documents, self.host_name(), now);
        if let Some(broke) = broke {
            self.core.documents_are_old(now);
            // State that was put back to an earlier day must not bring back what was revoked since.
            let reason = format!("records are missing, so that what was revoked is not known: {broke}");
            let open = self.core.open_grants();
            self.core.end_grants(&open, &Ending { cause: EndCause::Revoked, reason, actor: None }, now);
        }
        // Before any grant takes effect: it may be one that was revoked on a day that this disk does not know.
        self.heed_shipper(now);
        self.end_what_a_removal_left(now);
        self.end_what_was_locked_down(unread, now);
        let missed = match unread {
            Some(unread) if unread.has_schedule() => None,
            _ => self.core.resume_schedule(recorded.lockdown, now),
        };
        self.core.retire(&exempt_before, now);
        if let Some(findings) = self.findings.take() {
            self.homes = Some(start_homes(findings, Arc::clone(&self.writers))?);
        }
        self.put_config_in_force(now);
        self.core.resume_mode(marker_left(), now);
        if unread.is_none() {
            self.watch_left(now);
        }
        self.core.close_gone(&on_record, now);
        if let Some((grants, due)) = missed {
            self.step(Event::FindLogins, now);
            self.core.scheduled_lockdown(&grants, due, now);
        }
        let lost = log_lost(of_another_host.is_some(), &recorded);
        let follower = Follower::start(self.reports.clone(), self.answered.clone(), lost);
        self.follower = Some(follower.map_err(StartError::Follower)?);
        self.drop_recorded_notes(&recorded);
        self.step(Event::FindLogins, now);
        self.step(Event::Pass, now);
        self.tell_homes();
        self.renew_closing(now);
        self.core.begin_sweep(now);
        self.core.resume_looks_behind(now);
        Ok(())
    }

    fn note_start(&mut self, sessions_error: Option<&io::Error>, found: Option<&Found>) {
        let mut draft =
            Draft::new(ArtifactType::DaemonStarted, "the daemon started").with("version", env!("CARGO_PKG_VERSION"));
        draft = match found {
            Some(found) => draft.with("stopped_in_order", found.recorded.stopped_cleanly),
            None => draft.with("state", "not_read"),
        };
        if let Some(hash) = feed_token::renew() {
            draft = draft.with("feed_token_sha256", hash);
        }
        if let Some(error) = sessions_error {
            tracing::error!(%error, "{SESSIONS} cannot be read: connections from before are not known any more");
            draft = draft.with("sessions_lost", error.to_string());
        }
        self.core.recorder.note(draft);
    }

    /// The host is not the one that this grant was made on: it is void, and that is put on record.
    fn end_by_identity(&mut self, grant: &Grant, now: Now) {
        let reason = "it was given on another host, whose disk or image this one has".to_owned();
        let end = End { cause: EndCause::Identity, at: now.wall, reason, actor: None, recorded: false };
        if let Some(draft) = grant_ended(&Grant { end: Some(end), ..grant.clone() }) {
            self.core.recorder.note(draft);
        }
    }

    /// The package was removed while no daemon ran to end the grants, and is installed again: they are over.
    fn end_what_a_removal_left(&mut self, now: Now) {
        if !Path::new(REMOVED).exists() {
            return;
        }
        // Where it was known that the lockdown came onto no disk, it may have come there since.
        let is_granted = self.core.sessions.live().iter().any(|session| session.grant().is_some());
        if is_granted || !self.core.open_grants().is_empty() {
            let reason = "the package had been removed, which ended every grant";
            self.core.lockdown(reason.to_owned(), None, now);
        }
        let remove = |_: &mut Store| {
            if let Err(error) = fs::remove_file(REMOVED) {
                tracing::error!(%error, "{REMOVED} cannot be removed: the next start ends every grant again");
            }
            None
        };
        self.work("removing the mark of a removal", Box::new(remove));
    }

    /// Sessions from before are watched; those whose connection is gone are live no more.
    pub(super) fn watch_left(&mut self, now: Now) {
        self.core.watch_left(|monitor| monitor.is_alive(), now);
    }

    /// Brings grants, sessions and files in line with the configuration that is now in force.
    pub(super) fn put_config_in_force(&mut self, now: Now) {
        if let Some(refusal) = self.core.config_state.refused.clone() {
            self.core.recorder.note(Draft::new(
                ArtifactType::ConfigRefused,
                format!("started on the last good configuration: {refusal}"),
            ));
        }
        if self.core.config_state.loaded_at == now.wall {
            let sentence = if self.core.config_state.last_good {
                "the last good configuration is in force"
            } else {
                "the configuration is in force"
            };
            let mut draft = Draft::new(ArtifactType::ConfigLoaded, sentence)
                .with("digest", self.core.config.digest.as_str())
                .with("mode", self.core.config.mode.as_str())
                .with("people", self.core.config.people.len() as u64)
                .with("grants", self.core.config.rendered.len() as u64)
                .with("sources", crate::operator::sources::detail(&self.core.config));
            let kept: Vec<String> =
                self.core.retired.kept().map(|(account, until)| format!("{account} until {until:.0}")).collect();
            if !kept.is_empty() {
                draft = draft.with("no_longer_exempt", kept);
            }
            if let Some(name) = self.next_name() {
                draft.reason = format!("{sentence}, but for host.name: {}", renamed(&name));
                draft = draft.with("host_name_at_restart", name.as_str());
            }
            self.core.recorder.note(draft);
        }
        if !self.core.config_state.last_good {
            let text = self.core.config.to_toml().into_bytes();
            self.write_state(LAST_GOOD, text, 0o600);
        }
        self.keep_exempt_file();
        self.publish_shipping();
        self.core.back_grants(now);
    }

    /// Stops in good order. Nothing is taken down: keys stay until their end, sessions live on.
    pub(super) fn stop(&mut self, now: Now) {
        self.core.recorder.close_windows(now, true);
        self.core.recorder.note(Draft::new(ArtifactType::DaemonStopped, "the daemon stopped in good order"));
        self.core.grants_changed();
        self.core.commit(now);
        let flush = |store: &mut Store| {
            if !store.ledger.flush_journal(JOURNAL_LIMIT) {
                eprintln!("journald did not take the last records in time; the ledger has them");
            }
            None
        };
        self.work("telling journald the last records", Box::new(flush));
        self.follow(now);
        self.settle(LAST_COMMITS + JOURNAL_LIMIT);
        self.keep_owed();
        if !self.answered.flush(LAST_ANSWERS) {
            tracing::warn!(
                "the last answers to the gate are not on disk: their logins may be recorded as past the gate"
            );
        }
    }

    /// Keeps what the disk has not taken for the next start.
    fn keep_owed(&mut self) {
        let stated = self.core.recorder.take_owed();
        if stated.is_empty() {
            return;
        }
        let count = stated.len();
        match owed::keep(&self.kept.owed, &stated) {
            Ok(()) => tracing::warn!("{count} statements that the disk has not taken are recorded by the next start"),
            Err(error) => tracing::error!(%error, "{count} statements that the disk has not taken are lost"),
        }
    }

    /// The name that the configuration gives this host, where its records still bear another: a name belongs to the
    /// identity that a ledger is bound to, so that it changes at a start only.
    pub(crate) fn next_name(&self) -> Option<Host> {
        let name = name_of(&self.core.config)?;
        (name != self.ledger.as_ref()?.host).then_some(name)
    }

    /// The name that records bear, or will bear once the ledger is open.
    pub(crate) fn host_name(&self) -> Host {
        let known = self.ledger.as_ref().map(|ledger| ledger.host.clone()).or_else(|| name_of(&self.core.config));
        known.unwrap_or_else(|| "unknown".parse().expect("it is a name"))
    }
}

/// What a changed `host.name` comes to.
pub(crate) fn renamed(name: &Host) -> String {
    format!(
        "the records' host becomes {name} when the daemon is restarted, which ends every grant and begins a new ledger"
    )
}

/// The host's name by this configuration; nothing where none is to be had.
fn name_of(config: &Config) -> Option<Host> {
    identity_by(&config.host.name).ok().map(|identity| identity.name)
}

/// The marker of enforce that the last run left.
fn marker_left() -> MarkerLeft {
    let path = control::gate::ENFORCING;
    match fs::read(path) {
        Ok(bytes) => MarkerLeft::Holds(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => MarkerLeft::Nothing,
        Err(error) => {
            tracing::error!(%error, "{path} cannot be read: the daemon goes on as if enforce had been on");
            MarkerLeft::Unreadable
        }
    }
}

fn load_config(now: Now) -> Result<(Config, ConfigState), StartError> {
    let last_good = config_files::load_file(Path::new(LAST_GOOD));
    let refused = match config_files::load(Path::new(config_files::CONFIG_DIR)) {
        Ok(config) => match last_good.as_ref().ok().and_then(|before| reload::locks_out_at_start(&config, before)) {
            None => return Ok((config, ConfigState { loaded_at: now.wall, last_good: false, refused: None })),
            Some(why) => why,
        },
        Err(error) if last_good.is_err() => return Err(StartError::Config(error)),
        Err(error) => {
            tracing::error!("the configuration is refused:\n{error}");
            error.summary()
        }
    };
    tracing::warn!("the daemon starts on the last good configuration: {refused}");
    let state = ConfigState { loaded_at: now.wall, last_good: true, refused: Some(refused) };
    Ok((last_good.map_err(StartError::Config)?, state))
}

/// Starts the thread that reads the state and goes on with writing it.
fn start_disk(config: &Config, boot_id: &str, reasons: mpsc::Sender<Reason>) -> Result<Disk, StartError> {
    let opener = Opener::new(config, boot_id);
    let open = move || opener.open(clock::now());
    // Nobody receives once the daemon stops.
    let wake = move || drop(reasons.blocking_send(Reason::Disk));
    Disk::start(Box::new(open), wake).map_err(StartError::Disk)
}

/// What the last run left, if it is read within [`READ_WITHIN`]; else why not, where the disk thread has told that.
fn wait_for_state(disk: &Disk) -> (Option<(Left, View, recorder::Known)>, Option<NotOpened>) {
    disk.wait(READ_WITHIN);
    match disk.told() {
        Some(Told::Done(done)) => match *done {
            (Done::Opened(left), view, known) => (Some((*left, view, known)), None),
            _ => (None, None),
        },
        Some(Told::NotOpened(why)) => (None, Some(why)),
        None => (None, None),
    }
}

/// What the last records say, as the core knows it.
fn on_record(recorded: &Recorded) -> OnRecord {
    let of = |kind| recorded.grants.iter().filter(move |(of, _)| *of == kind).map(|(_, id)| id.clone()).collect();
    OnRecord {
        created: of(ArtifactType::GrantCreated),
        ended: of(ArtifactType::GrantEnded),
        opened: recorded.logins.iter().filter_map(|login| login.session.clone()).collect(),
        closed: recorded.ended_sessions.clone(),
        lockdown: recorded.lockdown,
        documents: recorded.documents.clone(),
    }
}

fn start_homes(findings: mpsc::Sender<Finding>, writers: Arc<Writers>) -> Result<Homes, HomesError> {
    let on_finding = Box::new(move |finding| {
        // Nobody receives once the daemon stops.
        let _ = findings.blocking_send(finding);
    });
    Homes::start(Setup {
        root: PathBuf::from("/"),
        mounts: PathBuf::from(MOUNTINFO),
        quarantine: PathBuf::from(QUARANTINE),
        writers,
        on_finding,
    })
}

/// Why how far sshd's log was read would not be known, if it were not; nothing where nobody has read it before.
fn log_lost(another_host: bool, recorded: &Recorded) -> Option<&'static str> {
    match (another_host, recorded.latest) {
        (true, _) => Some("this is another host than the one that had read it, by its name or its identity"),
        (false, Some(_)) => Some("its file is not there"),
        (false, None) => None,
    }
}
