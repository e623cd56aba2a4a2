//! Opening the ledger at start: the same one again, the same one with its torn end put away, or a new one that says why.

use std::{
    io::{Read, Seek, SeekFrom, Write},
    path::PathBuf,
};

use jiff::Timestamp;
use lockdown_host::identity::Identity;
use record::{ArtifactType, Draft, Host, LedgerId, Stack};
use ssh_key::PrivateKey;

use super::{
    Error, Head, Keeping, Ledger, Need, Owed,
    aside::{self, Bound, Succession},
    durable,
    files::{self, Paths, Readers, at},
    inspect::{Found, Recorded, Whole, day_of, inspect},
    keeping::Reserve,
    key,
    segment::Segment,
    segment_draft,
    signer::Signer,
    text_of,
};
use crate::journal::Journal;

/// What the ledger has to know to be opened.
#[derive(Debug)]
pub struct Opening<'a> {
    /// Where its files are.
    pub paths: Paths,
    /// The host's name in records; `identity.name`.
    pub host: Host,
    /// The stack the host is in.
    pub stack: Stack,
    /// Which machine this is.
    pub identity: &'a Identity,
    /// The kernel's boot id.
    pub boot: String,
    /// How long, and how many, records are kept.
    pub keeping: Keeping,
    /// The time.
    pub now: Timestamp,
    /// Where each record is told; nowhere in a test.
    pub journal: Option<Journal>,
}

/// An open ledger, and what opening it brought to light.
#[derive(Debug)]
#[must_use]
pub struct Opened {
    /// The ledger.
    pub ledger: Ledger,
    /// Where the old state lies if it was another machine's: every grant is void.
    pub set_aside: Option<PathBuf>,
    /// Why a new ledger succeeds the one that was there, in a sentence; it is recorded already.
    pub broke: Option<String>,
    /// What a crash left of a write that was never whole, in a sentence; it is recorded already. No record is missing.
    pub torn: Option<String>,
    /// What the last records say; nothing of it where a new ledger began.
    pub recorded: Recorded,
}

/// What to do, once everything has been looked at.
enum Plan {
    First,
    Continue(Box<(Whole, PrivateKey)>),
    Succeed(Succession),
}

impl Ledger {
    /// Opens the ledger on this machine, or begins one.
    ///
    /// State of another machine is put away whole. So is a ledger whose chain does not verify, or which has lost records
    /// that were on disk before. An end torn by a crash is kept in a `.torn` file, and the ledger goes on after its last
    /// whole record.
    ///
    /// # Errors
    /// A signing key that is no ed25519 key; a file system that cannot be read or written.
    pub fn open(opening: Opening<'_>) -> Result<Opened, Error> {
        let paths = &opening.paths;
        files::make_dir(&paths.state, 0o755, Readers::All)?;
        files::make_dir(&paths.run, 0o755, Readers::All)?;
        match plan(&opening)? {
            Plan::First => begin(opening, None),
            Plan::Continue(found) => resume(opening, found.0, found.1),
            Plan::Succeed(succession) => {
                let dir = succession.put_away(paths)?;
                begin(opening, Some((succession, dir)))
            }
        }
    }
}

impl Ledger {
    /// Ends this ledger and begins another, while the daemon runs: the old one is put away whole, and the new one says
    /// why. Every grant is void by it: the caller has ended them all. What is owed is owed by the new one.
    ///
    /// # Errors
    /// A file system that will not have it. The ledger is then in pieces on disk, and takes nothing any more: the
    /// daemon has to start again, which takes it up where it was left.
    pub fn succeed(&mut self, identity: &Identity, why: String, now: Timestamp) -> Result<(), Error> {
        // What is put away is whole, if that can be had.
        let _ = self.check_segment(now, Need::Unavoidable);
        let last = Some((self.signer.ledger.clone(), self.head));
        let succession = Succession { grants_void: true, ..Succession::new(now, why, false, last) };
        let dir = succession.put_away(&self.paths)?;
        let opening = Opening {
            paths: self.paths.clone(),
            host: self.signer.host.clone(),
            stack: self.signer.stack.clone(),
            identity,
            boot: self.signer.boot.clone(),
            keeping: self.keeping,
            now,
            journal: self.journal.take(),
        };
        let new = begin(opening, Some((succession, dir)))?.ledger;
        let old = std::mem::replace(self, new);
        self.owed = old.owed;
        Ok(())
    }
}

fn plan(opening: &Opening<'_>) -> Result<Plan, Error> {
    let (paths, now) = (&opening.paths, opening.now);
    if let Some(begun) = Succession::pending(paths)? {
        return Ok(Plan::Succeed(begun));
    }
    let key = key::load(paths)?;
    let Some(bound) = Bound::read(paths)? else {
        if !aside::anything_there(paths)? {
            // What this boot has written cannot have come to an end by itself: the disk is another, or not there.
            return match durable(&paths.durable()) {
                Some(_) => Err(Error::Gone { state: paths.state.clone(), durable: paths.durable() }),
                None => Ok(Plan::First),
            };
        }
        let why = "no identity file binds what was here to this machine".to_owned();
        return Ok(Plan::Succeed(Succession::new(now, why, true, aside::last_legible(paths)?)));
    };
    let changes = bound.identity.changes_to(opening.identity);
    if !changes.is_empty() {
        let why = format!("this is another machine than before: {}", changes.join(", "));
        return Ok(Plan::Succeed(Succession::new(now, why, true, aside::last_legible(paths)?)));
    }
    let broken = |why: String, last| Ok(Plan::Succeed(Succession::new(now, why, false, last)));
    let Some(key) = key else {
        return broken("the signing key is gone".to_owned(), aside::last_legible(paths)?);
    };
    match inspect(paths, key.public_key())? {
        Found::Nothing => broken("the ledger is gone".to_owned(), Some((bound.ledger, Head::START))),
        Found::Broken { why, last } => {
            let last = last.map_or_else(|| aside::last_legible(paths), |last| Ok(Some(last)))?;
            broken(format!("the ledger did not verify: {why}"), last)
        }
        Found::Whole(whole) if whole.ledger != bound.ledger => broken(
            format!("the ledger found is {}, the one of this machine is {}", whole.ledger, bound.ledger),
            Some((whole.ledger, whole.head)),
        ),
        Found::Whole(whole) => match lost(paths, &whole) {
            Some(why) => broken(why, Some((whole.ledger, whole.head))),
            None => Ok(Plan::Continue(Box::new((*whole, key)))),
        },
    }
}

/// Whether records are missing that were on disk earlier in this boot: they may have been shipped, so their numbers
/// must not be used again.
fn lost(paths: &Paths, whole: &Whole) -> Option<String> {
    let (ledger, seq, hash) = durable(&paths.durable())?;
    let behind = ledger == whole.ledger && (seq > whole.head.seq || (seq == whole.head.seq && hash != whole.head.hash));
    behind.then(|| format!("the ledger was on disk to record {seq}, and now ends at record {}", whole.head.seq))
}

/// Goes on with the ledger that is there.
fn resume(opening: Opening<'_>, whole: Whole, key: PrivateKey) -> Result<Opened, Error> {
    let (first, day, len) = whole.segment;
    let mut kept = Vec::new();
    for &stillborn in &whole.stillborn {
        kept.extend(keep_torn(&opening, stillborn, 0)?);
        files::remove_if_there(&opening.paths.segment(stillborn))?;
        files::sync_parent(&opening.paths.segment(stillborn))?;
    }
    if whole.torn {
        kept.extend(keep_torn(&opening, first, len)?);
    }
    let segment = if whole.newline_missing {
        let mut segment = Segment::resume(&opening.paths, first, day, len - 1)?;
        segment.append(b"\n")?;
        segment
    } else {
        Segment::resume(&opening.paths, first, day, len)?
    };
    let now = opening.now;
    let closed_bytes = closed_bytes(&opening.paths, first)?;
    let signer = signer(&opening, key, whole.ledger);
    let mut ledger = assemble(opening, signer, whole.head, segment, closed_bytes);
    let torn = (!kept.is_empty()).then(|| {
        let bytes: u64 = kept.iter().map(|(_, bytes)| bytes).sum();
        format!(
            "a write was cut short: {bytes} bytes after record {} were no record and are kept aside",
            whole.head.seq
        )
    });
    if let Some(torn) = &torn {
        let files: Vec<String> =
            kept.iter().map(|(path, _)| record::outside(path.as_os_str().as_encoded_bytes())).collect();
        let draft = Draft::new(ArtifactType::LedgerOpened, torn.clone())
            .with("public_key", ledger.public_key())
            .with("break", "torn")
            .with("bytes", kept.iter().map(|(_, bytes)| bytes).sum::<u64>())
            .with("kept_in", files);
        ledger.append_needed(vec![draft], now)?;
    } else {
        ledger.publish();
    }
    Ok(Opened { ledger, set_aside: None, broke: None, torn, recorded: whole.recorded })
}

/// Copies what stands after the last whole record into a `.torn` file beside it, then cuts it off.
fn keep_torn(opening: &Opening<'_>, first: u64, from: u64) -> Result<Option<(PathBuf, u64)>, Error> {
    let path = opening.paths.segment(first);
    let mut file = files::open(&path, true)?;
    let bytes = at("examine", &path, file.metadata())?.len().saturating_sub(from);
    if bytes == 0 {
        return Ok(None);
    }
    let kept = path.with_extension(format!("{from}.{}.torn", opening.now.as_microsecond()));
    let mut copy = files::create(&kept, Readers::Root)?;
    at("read", &path, file.seek(SeekFrom::Start(from)))?;
    let copied = std::io::copy(&mut (&mut file).take(bytes), &mut copy)
        .and_then(|_| copy.flush())
        .and_then(|()| copy.sync_all());
    at("write", &kept, copied)?;
    at("cut the torn end off", &path, file.set_len(from).and_then(|()| file.sync_all()))?;
    Ok(Some((kept, bytes)))
}

/// Begins a ledger: key, first segment, and last the identity file, which makes all of it valid.
fn begin(opening: Opening<'_>, succession: Option<(Succession, PathBuf)>) -> Result<Opened, Error> {
    let (paths, now) = (opening.paths.clone(), opening.now);
    files::make_dir(&paths.ledger(), 0o750, Readers::Shipper)?;
    let key = key::make(&paths, opening.host.as_str())?;
    let id = new_id();
    let bound = Bound {
        identity: opening.identity.clone(),
        ledger: id.clone(),
        after: succession.as_ref().map(|(s, _)| s.dir.clone()),
    };
    let public = key::public_line(&key, false);
    let drafts = [
        segment_draft(&public, Head::START),
        opened_draft(&public, opening.identity, succession.as_ref().map(|(s, _)| s)),
    ];
    let mut bodies = Vec::new();
    for draft in &drafts {
        bodies.extend(draft.bodies()?.into_iter().map(|body| (now, body)));
    }
    let signer = signer(&opening, key, id);
    let (lines, head) = signer.seal(Head::START, &bodies)?;
    let segment = Segment::begin(&paths, 1, day_of(now), &text_of(&lines))?;
    bound.write(&paths)?;
    Succession::over(&paths)?;
    let mut ledger = assemble(opening, signer, head, segment, 0);
    ledger.advance(&lines);
    let broke = succession.as_ref().map(|(s, _)| s.why.clone());
    let set_aside = succession.filter(|(s, _)| s.machine_changed).map(|(_, dir)| dir);
    Ok(Opened { ledger, set_aside, broke, torn: None, recorded: Recorded::default() })
}

fn opened_draft(public_key: &str, identity: &Identity, succession: Option<&Succession>) -> Draft {
    let identity = serde_json::to_value(identity).expect("an identity is text");
    let Some(succession) = succession else {
        let reason = format!("a ledger began on host {}", identity["name"].as_str().unwrap_or_default());
        return Draft::new(ArtifactType::LedgerOpened, reason)
            .with("public_key", public_key)
            .with("identity", identity);
    };
    Draft::new(ArtifactType::LedgerOpened, format!("a new ledger began: {}", succession.why))
        .with("public_key", public_key)
        .with("identity", identity)
        .with("break", succession.why.clone())
        .with("grants_void", succession.grants_void)
        .with("kept_in", format!("set-aside/{}", succession.dir))
        .with("ancestor", serde_json::to_value(&succession.ancestor).expect("an ancestor is text and numbers"))
}

fn assemble(opening: Opening<'_>, signer: Signer, head: Head, segment: Segment, closed_bytes: u64) -> Ledger {
    let reserve = Reserve::take(&opening.paths);
    Ledger {
        paths: opening.paths,
        signer,
        keeping: opening.keeping,
        acknowledged: 0,
        head,
        segment,
        segment_bytes: opening.keeping.segment_bytes(),
        closed_bytes,
        reserve,
        owed: Owed::default(),
        journal: opening.journal,
    }
}

fn signer(opening: &Opening<'_>, key: PrivateKey, ledger: LedgerId) -> Signer {
    Signer { key, ledger, host: opening.host.clone(), stack: opening.stack.clone(), boot: opening.boot.clone() }
}

/// Bytes of every segment before this one.
fn closed_bytes(paths: &Paths, open: u64) -> Result<u64, Error> {
    let mut sum = 0;
    for first in files::segments(paths)?.into_iter().filter(|first| *first < open) {
        let path = paths.segment(first);
        sum += at("examine", &path, path.symlink_metadata())?.len();
    }
    Ok(sum)
}

/// 128 random bits.
fn new_id() -> LedgerId {
    let mut bytes = [0; 16];
    ssh_key::rand_core::RngCore::fill_bytes(&mut ssh_key::rand_core::OsRng, &mut bytes);
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    hex.parse().expect("32 hex digits are a ledger id")
}
