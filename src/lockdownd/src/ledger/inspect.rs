//! What the ledger on disk says at start: whole, torn at its end, or no longer one chain. Reads; changes nothing.

use std::{
    collections::{BTreeSet, VecDeque},
    io::{BufRead, BufReader, Read},
};

use document::judge::Mark;
use jiff::Timestamp;
use lockdown_core::machine::documents::DocumentsOnRecord;
use record::{ArtifactType, Depth, GrantId, Hash, LedgerId, MAX_LINE, Record, SessionId, Trust, Verifier};
use serde_json::Value;
use ssh_key::PublicKey;

use super::{
    Error, Head,
    files::{self, Paths, at},
};

/// How many segments are read back at start: enough that a rotation just before does not hide what came before it.
const SEGMENTS_READ: usize = 2;
/// How many logins to exempt accounts are kept of them; the others are counted.
const MAX_EMERGENCIES: usize = 64;
/// How many of the last logins are known at start: more than one run can have stated without having noted it elsewhere.
const MAX_LOGINS: usize = 1_024;

/// A connection that is on record as opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedLogin {
    /// Its session, where it was still there.
    pub session: Option<SessionId>,
    /// sshd's process for it.
    pub pid: i32,
    /// When it began, by the record.
    pub began: Timestamp,
    /// When it was still there: of one that was found, when it was put on record; pids are used again.
    pub until: Timestamp,
}

impl RecordedLogin {
    fn of(record: &Record) -> Option<Self> {
        let moment = |name: &str| record.detail(name).and_then(|at| at.as_str()?.parse().ok());
        let began = moment("began_at").or_else(|| moment("at")).unwrap_or(record.time());
        let was_there = record.detail("found").is_some_and(|found| *found == true);
        Some(Self {
            session: record.text("session").and_then(|id| id.parse().ok()),
            pid: i32::try_from(record.detail("pid")?.as_i64()?).ok()?,
            began,
            until: if was_there { record.time() } else { began },
        })
    }
}

/// What the last records say, for a daemon that starts over. Covers the last two segments.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Which grants are recorded as created, and which as ended.
    pub grants: BTreeSet<(ArtifactType, GrantId)>,
    /// The last connections that are recorded as opened, oldest first.
    pub logins: VecDeque<RecordedLogin>,
    /// Which sessions are recorded as over.
    pub ended_sessions: BTreeSet<SessionId>,
    /// Whether the daemon's last word was that it stopped in good order.
    pub stopped_cleanly: bool,
    /// The first logins to exempt accounts since a sweep was last attested.
    pub emergencies: Vec<Record>,
    /// How many more than these.
    pub more_emergencies: u64,
    /// When the last scheduled lockdown on record was due.
    pub lockdown: Option<Timestamp>,
    /// What they say of signed documents.
    pub documents: DocumentsOnRecord,
    /// The latest time that any record gives: the wall clock was there once.
    pub latest: Option<Timestamp>,
    /// The boot that the last record was written in.
    pub boot: Option<String>,
}

impl Recorded {
    fn add(&mut self, record: &Record) {
        let Some(kind) = record.kind() else { return };
        match kind {
            ArtifactType::GrantCreated | ArtifactType::GrantEnded => {
                let grant = record.text("grant").and_then(|g| g.parse().ok());
                self.grants.extend(grant.map(|g| (kind, g)));
            }
            ArtifactType::SweepAttested => {
                (self.emergencies, self.more_emergencies) = (Vec::new(), 0);
                self.take_attested_documents(record);
            }
            ArtifactType::Lockdown => {
                // One by a document is among those that were accepted.
                if record.detail("document").is_none() {
                    self.documents.locked_down = self.documents.locked_down.max(Some(record.time()));
                }
                let due = record.detail("due").and_then(|due| due.as_str()?.parse().ok());
                self.lockdown = due.or(self.lockdown);
            }
            ArtifactType::DocumentAccepted => {
                self.take_accepted(record.detail("number"));
                self.take_roster(record.detail("version"), record.detail("document"));
            }
            ArtifactType::SessionOpened => self.take_login(record),
            ArtifactType::SessionClosed | ArtifactType::SessionTerminated => {
                self.ended_sessions.extend(record.text("session").and_then(|id| id.parse().ok()));
            }
            ArtifactType::EmergencyLogin => {
                self.take_login(record);
                self.take_emergency(record);
            }
            _ => {}
        }
        let of_the_ledger = [ArtifactType::LedgerSegment, ArtifactType::LedgerPruned, ArtifactType::LedgerOpened];
        if !of_the_ledger.contains(&kind) {
            self.stopped_cleanly = kind == ArtifactType::DaemonStopped;
        }
        self.latest = self.latest.max(Some(record.time()));
        self.boot = record.text("boot").map(str::to_owned);
    }

    /// Where nothing was accepted for long, or by this host locked down, attestations still say what was.
    fn take_attested_documents(&mut self, record: &Record) {
        self.take_accepted(record.detail("documents"));
        let roster = record.detail("roster");
        self.take_roster(roster.and_then(|roster| roster.get("version")), roster.and_then(|roster| roster.get("id")));
        let at = record.detail("locked_down_at").and_then(|at| at.as_str()?.parse().ok());
        self.documents.locked_down = self.documents.locked_down.max(at);
    }

    fn take_accepted(&mut self, number: Option<&Value>) {
        self.documents.number = self.documents.number.max(number.and_then(Value::as_u64).unwrap_or(0));
    }

    /// The last one: where the configuration has other keys for rosters, versions begin anew.
    fn take_roster(&mut self, version: Option<&Value>, id: Option<&Value>) {
        let mark = || {
            let version = version?.as_u64()?.try_into().ok()?;
            Some(Mark { version, id: id?.as_str()?.parse().ok()? })
        };
        self.documents.roster = mark().or(self.documents.roster);
    }

    fn take_login(&mut self, record: &Record) {
        if self.logins.len() >= MAX_LOGINS {
            self.logins.pop_front();
        }
        self.logins.extend(RecordedLogin::of(record));
    }

    fn take_emergency(&mut self, record: &Record) {
        if self.emergencies.len() < MAX_EMERGENCIES {
            self.emergencies.push(record.clone());
        } else {
            self.more_emergencies += 1;
        }
    }
}

/// The state that the ledger's end is in.
#[derive(Debug)]
pub(super) enum Found {
    /// No record at all.
    Nothing,
    /// A chain that can be continued; `torn` says that bytes after its last record are to be put away first.
    Whole(Box<Whole>),
    /// Not one chain any more: it can only be put away as it is. `last` is the last record before the break.
    Broken { why: String, last: Option<(LedgerId, Head)> },
}

/// Where a chain can be continued.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) ledger: LedgerId,
    pub(super) head: Head,
    /// First `seq` and day of the segment to go on with, and how long its valid part is.
    pub(super) segment: (u64, i64, u64),
    /// Segments in which not one record is whole: a rotation cut short.
    pub(super) stillborn: Vec<u64>,
    pub(super) torn: bool,
    /// Of the last record nothing but its newline is missing.
    pub(super) newline_missing: bool,
    pub(super) recorded: Recorded,
}

/// Reads the end of the ledger, verifying the chain and the last signature with this key.
pub(super) fn inspect(paths: &Paths, key: &PublicKey) -> Result<Found, Error> {
    let mut all = files::segments(paths)?;
    let mut stillborn = Vec::new();
    while let Some(&last) = all.last() {
        match read_end(paths, key, &all)? {
            End::Stillborn if all.len() > 1 => {
                all.pop();
                stillborn.push(last);
            }
            End::Stillborn => {
                let why = "not one whole record stands in it".to_owned();
                return Ok(Found::Broken { why, last: None });
            }
            End::Broken { why, last } => return Ok(Found::Broken { why, last }),
            End::Whole(mut whole) => {
                whole.stillborn = stillborn;
                return Ok(Found::Whole(whole));
            }
        }
    }
    Ok(Found::Nothing)
}

enum End {
    Whole(Box<Whole>),
    Stillborn,
    Broken { why: String, last: Option<(LedgerId, Head)> },
}

/// Reads the last segments with one verifier.
fn read_end(paths: &Paths, key: &PublicKey, all: &[u64]) -> Result<End, Error> {
    let from = all.len().saturating_sub(SEGMENTS_READ);
    let mut verifier = Verifier::new(Depth::Chain, Trust::Key(Box::new(key.clone()))).partial();
    let mut recorded = Recorded::default();
    let (mut last, mut segment) = (None, (0, 0, 0));
    let (mut torn, mut newline_missing) = (false, false);
    let broken = |why: String, last| Ok(End::Broken { why, last });
    for (n, &first) in all[from..].iter().enumerate() {
        let newest = from + n + 1 == all.len();
        let mut lines = Lines::open(paths, first)?;
        segment = (first, 0, 0);
        while let Some(mut line) = lines.next_line()? {
            // A whole signed record must not be written a second time under its number: it stands, with its newline.
            if newest && !line.ends_with(b"\n") && is_signed(&line, key) {
                line.push(b'\n');
                newline_missing = true;
            }
            let (record, clean) = verifier.line(&line);
            let Some(record) = record.filter(|_| clean) else {
                if newest && Record::parse(&line).is_err() && !lines.any_signed_by(key)? {
                    if segment.2 == 0 {
                        return Ok(End::Stillborn);
                    }
                    torn = true;
                    break;
                }
                return broken(what_is_off(verifier), last);
            };
            if segment.2 == 0 {
                if record.seq() != first {
                    return broken(format!("segment {first} begins with record {}", record.seq()), last);
                }
                segment.1 = day_of(record.time());
            }
            segment.2 += line.len() as u64;
            recorded.add(record);
            last = Some((record.ledger().clone(), Head { seq: record.seq(), hash: record.hash() }));
        }
        if segment.2 == 0 {
            return if newest { Ok(End::Stillborn) } else { broken(format!("segment {first} is empty"), last) };
        }
    }
    let mut findings = verifier.finish().findings;
    if torn {
        // The torn end is what the verifier found; anything else it found is a break.
        findings.remove(0);
    }
    if let Some(finding) = findings.first() {
        return broken(finding.to_string(), last);
    }
    let Some((ledger, head)) = last else { return Ok(End::Stillborn) };
    Ok(End::Whole(Box::new(Whole { ledger, head, segment, stillborn: Vec::new(), torn, newline_missing, recorded })))
}

fn what_is_off(verifier: Verifier) -> String {
    let verdict = verifier.finish();
    verdict.findings.first().map_or_else(|| "its chain does not verify".to_owned(), ToString::to_string)
}

/// Days since 1970, UTC.
pub(super) fn day_of(time: Timestamp) -> i64 {
    time.as_second().div_euclid(24 * 60 * 60)
}

/// The lines of one segment, none read beyond the bound.
pub(super) struct Lines {
    reader: BufReader<std::fs::File>,
    path: std::path::PathBuf,
}

impl Lines {
    pub(super) fn open(paths: &Paths, first: u64) -> Result<Self, Error> {
        let path = paths.segment(first);
        Ok(Self { reader: BufReader::new(files::open(&path, false)?), path })
    }

    /// The next line with its newline; without one at the end of the file, or where a line is too long.
    pub(super) fn next_line(&mut self) -> Result<Option<Vec<u8>>, Error> {
        let mut line = Vec::new();
        let read = (&mut self.reader).take(MAX_LINE as u64).read_until(b'\n', &mut line);
        at("read", &self.path, read)?;
        Ok(Some(line).filter(|l| !l.is_empty()))
    }

    /// Whether any line from here on is a record that this key signed: then what is here is no torn write.
    fn any_signed_by(&mut self, key: &PublicKey) -> Result<bool, Error> {
        while let Some(line) = self.next_line()? {
            if is_signed(&line, key) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn is_signed(line: &[u8], key: &PublicKey) -> bool {
    Record::parse(line).is_ok_and(|r| r.is_signed_by(key))
}

impl Head {
    /// Before the first record.
    pub(super) const START: Self = Self { seq: 0, hash: Hash::ZERO };
}
