//! What comes in, and what is to be carried out.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    path::PathBuf,
};

use control::{Records, Response, gate};
use jiff::Timestamp;
use record::{Account, Draft, GrantId, SessionId};

use super::{
    LoginAsked,
    allow::Asker,
    checks::{Checked, Waits},
    covered::Covered,
    documents::{InboxRead, KeptDocuments},
    found::{LoginsFound, SessionsSeen},
    jobs::{Came, Job, JobId},
    left_behind::LookedBehind,
    looks::{Heard, Looked},
    notes::NoteRead,
    past_gate::LoggedIn,
    receipts::ShipperSeen,
    recorder::{Done, Known, Stated, Task, WorkId},
    reload::Loaded,
    sweep::Swept,
    users_sshds::UsersSshds,
    ways::Seen,
};
use crate::{
    attempts::Login,
    policy::{
        grant::End,
        time::{Deadline, Now},
    },
    process::ProcessId,
    sessions::Ended,
};

/// One reading of both clocks, and a number that nobody can foresee.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// The clocks.
    pub now: Now,
    /// The number: ids come of it.
    pub random: u64,
}

/// Where an answer goes: whoever drives the core knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// Something that happened.
#[derive(Debug)]
pub enum Event {
    /// PAM asks about a login.
    Login(Box<LoginAsked>),
    /// An operator grants.
    Allow {
        /// Where the answer goes.
        token: Token,
        /// What is asked for.
        asked: Box<control::Allow>,
        /// Who asks.
        asker: Asker,
    },
    /// An operator revokes.
    Revoke {
        /// Where the answer goes.
        token: Token,
        /// What.
        asked: control::Revoke,
        /// Who asks.
        asker: Asker,
    },
    /// An operator ends everything.
    Lockdown {
        /// Where the answer goes.
        token: Token,
        /// Why.
        asked: control::Lockdown,
        /// Who asks.
        asker: Asker,
    },
    /// A deadline has passed, or may have.
    Deadline,
    /// The wall clock was set.
    ClockSet,
    /// A session's connection is gone.
    Gone(SessionId),
    /// Connections were cut.
    Cut(CutTried),
    /// These terminals of a session have been told of its end.
    Warned {
        /// Which.
        session: SessionId,
        /// Which end.
        ends_at: Timestamp,
        /// All that know of it.
        terminals: Vec<u32>,
    },
    /// The key store was looked at and put right, as far as that was possible.
    StoreSeen(Box<StoreSeen>),
    /// One file of the key store was put.
    KeysPut {
        /// Whose.
        account: Account,
        /// What it holds; nothing where there is no file.
        bytes: Option<Vec<u8>>,
    },
    /// Whether the table of sessions could be kept.
    SessionsKept(bool),
    /// Statements could not be kept outside of the ledger.
    OwedNotKept(Owed),
    /// The disk thread has done something, and what is known of the ledger since.
    Disk(Done, Option<Known>),
    /// A job is over.
    Job(JobId, Came),
    /// What was left behind under grants that have ended was looked for; a job brings it.
    LookedBehind(Box<LookedBehind>),
    /// The connection of a session has this audit session.
    Traced(SessionId, u32),
    /// Something of the host's configuration was touched, or `anything` may have been: it is to be looked at.
    Touched {
        /// Whether something may have been missed.
        anything: bool,
    },
    /// The host was looked at; a job brings it.
    Looked(Box<Looked>),
    /// Others listen for connections than before.
    Heard(Heard),
    /// A user's own sshd has logged something.
    UsersSshdLogged,
    /// Users' own SSH servers were looked for and ended; a job brings it.
    UsersSshdsEnded(UsersSshds),
    /// The homes were swept.
    Swept(Swept),
    /// Every way in was looked at; a job brings it.
    WaysSeen(Box<Seen>),
    /// The ways in could not be looked at, and why; a job brings it.
    WaysUnseen(String),
    /// An operator wants the keys of an account gone that was exempt.
    QuarantineNow {
        /// Where the answer goes.
        token: Token,
        /// Which.
        account: Account,
        /// Who asks.
        asker: Asker,
    },
    /// sshd says in its log that it let somebody in.
    LoggedIn(LoggedIn),
    /// What sshd had logged of a connection that was found later.
    OpenedBefore(SessionId, Box<Login>),
    /// The gate has left notes.
    NotesRead(Vec<NoteRead>),
    /// Notes were removed: they are on record.
    NotesGone(BTreeSet<PathBuf>),
    /// Sessions were looked at.
    SessionsSeen(SessionsSeen),
    /// What sshd makes of an account that was granted: what keeps people out of it, if anything; a job brings it.
    Admitted(Token, Option<String>),
    /// What the shipper has left was looked at.
    ShipperSeen(ShipperSeen),
    /// Another ledger was begun, or why not.
    LedgerBegun(Result<(), String>),
    /// Somebody who looks after homes has found what is to be on record, so many times; nothing: it cannot be caused at will.
    Note(Draft, Option<u64>),
    /// An operator tries enforce, or prolongs the trial.
    Trial {
        /// When it ends.
        until: Deadline,
        /// Who.
        actor: record::Actor,
        /// Where the answer goes.
        token: Token,
    },
    /// An operator asks for what depends on a fresh look at what stands in the way of enforce.
    Looks(Waits),
    /// What stands in the way of enforce was looked at, or sshd's drop-in changed.
    Checked(Box<Checked>),
    /// Whether sshd's drop-in stands there.
    DropInSeen(bool),
    /// Every connection is to be in the table of sessions.
    FindLogins,
    /// Connections were looked for.
    LoginsFound(LoginsFound),
    /// Something changed on which it depends whether exempt accounts can log in, or anybody else.
    RescueTouched,
    /// The configuration is to be read again; for an operator, or by a signal.
    Reload(Option<Token>),
    /// The configuration was read again; a job brings it.
    Loaded(Box<Loaded>),
    /// [`Effect::ConfigChanged`] is carried out.
    ConfigFollowed,
    /// Root brings a signed document.
    Apply {
        /// Where the answer goes.
        token: Token,
        /// The document.
        envelope: Box<document::Envelope>,
    },
    /// The inbox of documents was touched.
    InboxTouched,
    /// The inbox was read; a job brings it.
    InboxRead(Box<InboxRead>),
    /// Grants, key store and sessions are to be brought in line: somebody may have touched the store.
    Pass,
}

/// What cutting connections has done.
#[derive(Debug, Default)]
pub struct CutTried {
    /// Those whose terminal was told why: they are cut a moment later.
    pub told: Vec<SessionId>,
    /// Those that were cut, each with what that did or why it could not be done.
    pub cut: Vec<(SessionId, Result<Ended, String>)>,
    /// Those whose connection was gone.
    pub gone: Vec<SessionId>,
}

/// What became of the key store.
#[derive(Debug, Default)]
pub struct StoreSeen {
    /// What it was to hold.
    pub wanted: BTreeMap<Account, Vec<u8>>,
    /// Why it could not be looked at at all.
    pub unseen: Option<String>,
    /// The names of files that stand there.
    pub names: BTreeSet<OsString>,
    /// Files that are as they must be.
    pub right: BTreeSet<OsString>,
    /// Files that are not: why, and whose keys are missing in it.
    pub failed: BTreeMap<OsString, (String, BTreeSet<String>)>,
    /// What stood there and was not ours.
    pub foreign: Vec<Draft>,
}

/// One connection to end.
#[derive(Debug, Clone)]
pub struct CutOrder {
    /// Its session.
    pub session: SessionId,
    /// sshd's process for it.
    pub monitor: ProcessId,
    /// What its terminals are told first, and the user id that owns them.
    pub farewell: Option<(u32, String)>,
    /// How often it was tried before.
    pub tries: u32,
}

/// What the terminals of a connection are to be told.
#[derive(Debug, Clone)]
pub struct Tell {
    /// sshd's process for it.
    pub monitor: ProcessId,
    /// Who owns the terminals.
    pub owner: u32,
    /// What they are told.
    pub text: String,
}

/// A warning that a session's end is near.
#[derive(Debug, Clone)]
pub struct Warn {
    /// Which session.
    pub session: SessionId,
    /// When it ends.
    pub ends_at: Timestamp,
    /// What is said.
    pub tell: Tell,
    /// The terminals that know already.
    pub told: Vec<u32>,
}

/// How much something matters that is said in the daemon's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It is as it should be again.
    Info,
    /// Worth knowing.
    Warning,
    /// Something does not work.
    Err,
}

/// Statements that are kept outside of the ledger until the disk has them.
#[derive(Debug)]
pub struct Owed {
    /// Oldest first.
    pub stated: Vec<Stated>,
    /// Whether they wait for the disk in the queue all the same.
    pub is_queued: bool,
}

/// Something to carry out. Each follows what stands before it; nobody waits for one but where it says so.
#[derive(Debug)]
pub enum Effect {
    /// These grants have ended and the disk has not taken it: to be noted in memory that outlives the daemon, in place of
    /// what is noted there.
    NoteEnded(Vec<(GrantId, End)>),
    /// A lockdown ends the grants too that are not known yet: to be noted in memory that outlives the daemon.
    NoteLockdown(String, Option<record::Actor>),
    /// Statements to be kept in memory that outlives the daemon. Told of by [`Event::OwedNotKept`] where that fails.
    KeepOwed(Owed),
    /// What was kept so is on disk: it is to go there.
    DropOwed,
    /// One file of the key store. Told of by [`Event::KeysPut`] where it is done.
    PutKeys {
        /// Whose.
        account: Account,
        /// What it has to hold; nothing: there has to be no file.
        bytes: Option<Vec<u8>>,
    },
    /// What the key store has to hold, all of it. Told of by [`Event::StoreSeen`].
    SetStore {
        /// The files.
        wanted: BTreeMap<Account, Vec<u8>>,
        /// Names that are not tried now: the same failed a moment ago.
        paused: BTreeSet<OsString>,
    },
    /// Work for the disk thread. Told of by [`Event::Disk`].
    Disk(Task),
    /// This work is not done any more.
    DropWork(WorkId),
    /// The table of sessions, to be kept in memory that outlives the daemon. Told of by [`Event::SessionsKept`].
    KeepSessions(Vec<u8>),
    /// Connections to end, with one look at who is spared. Told of by [`Event::Cut`].
    Cut(Vec<CutOrder>),
    /// A session has begun: its connection is to be watched, and told of by [`Event::Gone`].
    Watch(SessionId, ProcessId),
    /// Somebody may come to this account from now on: what it runs by itself is nobody's to end.
    Comes(Account),
    /// Somebody was put into the table of sessions: what they use it for is looked at soon, and where a grant let them in,
    /// their audit session is told of by [`Event::Traced`].
    Opened(SessionId),
    /// What people are told on their terminals.
    Tell(Tell),
    /// The same, told of by [`Event::Warned`].
    Warn(Warn),
    /// A job is to begin, beside whoever drives the core. Told of by [`Event::Job`], or never.
    Begin(JobId, Job),
    /// Which audit sessions the connections of which grant had, to be kept in memory that outlives the daemon.
    KeepTraces(Vec<u8>),
    /// The gate may have left notes of logins to exempt accounts. Told of by [`Event::NotesRead`].
    ReadNotes,
    /// The gate has asked about this login, though nobody answered it.
    KnowAsked {
        /// sshd's process for it.
        pid: i32,
        /// When.
        at: Timestamp,
    },
    /// This connection was found, and is not on record yet.
    KnowFound {
        /// sshd's process for it.
        pid: i32,
        /// When it began.
        began: Timestamp,
        /// When it was found.
        found: Timestamp,
    },
    /// Whoever follows sshd's log need not tell of this login again.
    LookedAtLogin(u64),
    /// In [`LOOK_AGAIN`](super::past_gate::LOOK_AGAIN) this login is to be looked at again, so many times before. Told of by
    /// [`Event::LoggedIn`].
    LookAtLoginAgain(Box<Login>, u32),
    /// These sessions are to be looked at. Told of by [`Event::SessionsSeen`].
    LookAtSessions(Vec<SessionId>),
    /// What the shipper has left is to be looked at. Told of by [`Event::ShipperSeen`].
    HeedShipper,
    /// A server has the ledger up to this record.
    Acknowledge(u64),
    /// The server's key for receipts, to be kept for the next start.
    PinReceiptKey(String),
    /// The ledger is to be put away, and another begun: this is why. Told of by [`Event::LedgerBegun`].
    BeginLedgerAnew(String),
    /// The shipper's hint has been acted on: it is to go.
    DropHint,
    /// Only another start can mend this: whoever drives the core ends.
    StartOver(String),
    /// What has been kept for long enough goes.
    Prune,
    /// Every home is to be looked at as if nothing had been watched. Told of by [`Event::Swept`].
    SweepHomes,
    /// The accounts that were exempt, to be kept for the next start.
    KeepRetired(Vec<u8>),
    /// This is on record, beside what the core keeps itself.
    OnRecord(Covered),
    /// An operator's answer.
    Answer(Token, Response),
    /// Records that an operator asked for are to be read.
    ReadRecords(Token, Records),
    /// A reload is dealt with.
    Reloaded,
    /// Another configuration is in force: what whoever drives the core keeps of it follows. Told of by
    /// [`Event::ConfigFollowed`].
    ConfigChanged {
        /// The accounts that were exempt before.
        before: BTreeSet<Account>,
        /// Whether sweeps come by another pattern.
        sweeps_change: bool,
    },
    /// Whether sshd's drop-in stands there is to be told by [`Event::DropInSeen`].
    SeekDropIn,
    /// Connections that are not in the table of sessions are to be looked for. Told of by [`Event::LoginsFound`].
    FindLogins,
    /// Which key files there are, and whether they go, is to be told to whoever looks after homes.
    TellHomes,
    /// The files that PAM and the gate go by when the daemon does not answer: the exempt accounts, and where it is known, what
    /// the marker of enforce has to hold, or that there has to be none.
    KeepStateFiles {
        /// The marker.
        marker: Option<Option<Vec<u8>>>,
    },
    /// An operator's answer, by the last look; why that is old, where it is.
    AnswerLooked(Waits, Option<control::Problem>),
    /// The gate's answer.
    AnswerGate {
        /// Where it goes.
        token: Token,
        /// What it says.
        answer: gate::Answer,
        /// sshd's process for the connection, where that is known.
        monitor: Option<i32>,
        /// In which step it asked.
        step: gate::Step,
    },
    /// What is known of documents, where it outlives the daemon and waits for no disk.
    CopyDocuments(KeptDocuments),
    /// What the shipper is told of the inbox.
    AnswerInbox(Vec<u8>),
    /// A line for the daemon's log.
    Say(Severity, String),
}
