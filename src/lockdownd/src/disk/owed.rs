//! Statements that the disk has not taken: one a line, in memory that outlives the daemon. Whoever opens the ledger next records
//! them before anything else is read there.
//!
//! While the state is not read every statement goes there at once, and where the disk does not take what it is given, all that
//! waits: so a daemon that is killed loses none.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use crate::ledger::{self, Ledger};
use jiff::Timestamp;
use lockdown_core::machine::recorder::Stated;
use lockdown_host::paths;
use nix::fcntl::OFlag;
use record::{ArtifactType, GrantId, Record, SessionId};

/// Where they are.
pub(crate) const OWED: &str = "/run/lockdownd/owed.jsonl";
/// Where those are that are being recorded.
const TAKEN: &str = "taken";
/// The most bytes of them.
const MAX_OWED_BYTES: u64 = 16 << 20;

/// Adds these.
///
/// # Errors
/// None of them is kept.
pub(crate) fn keep<'a>(path: &Path, stated: impl IntoIterator<Item = &'a Stated>) -> io::Result<()> {
    let mut text = Vec::new();
    for one in stated {
        serde_json::to_writer(&mut text, one)?;
        text.push(b'\n');
    }
    let flags = OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut file: File =
        OpenOptions::new().append(true).create(true).mode(0o600).custom_flags(flags.bits()).open(path)?;
    let before = file.metadata()?.len();
    if before + text.len() as u64 > MAX_OWED_BYTES {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    // A part of a line would make the next one unreadable too.
    file.write_all(&text).inspect_err(|_| drop(file.set_len(before)))
}

/// What is kept is on disk: it goes.
pub(crate) fn drop_kept(path: &Path) {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%error, "what is recorded now cannot be removed; the next start looks for it in the ledger");
        }
        _ => {}
    }
}

/// What of the file that is being recorded is behind this byte, and where that ends; lines that cannot be read are counted.
fn behind(taken: &Path, from: usize) -> io::Result<(Vec<Stated>, u64, usize)> {
    let bytes = match paths::read_path(taken, MAX_OWED_BYTES) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        read => read?,
    };
    let new = bytes.get(from..).unwrap_or_default();
    let lines: Vec<_> = new.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
    let stated: Vec<Stated> = lines.iter().filter_map(|line| serde_json::from_slice(line).ok()).collect();
    let lost = (lines.len() - stated.len()) as u64;
    Ok((stated, lost, bytes.len()))
}

/// How many records are looked through for what came onto the disk after all.
const LOOKED_THROUGH: u64 = 8_192;
/// The most bytes of them.
const MAX_LOOKED_THROUGH: usize = 32 << 20;

/// What tells one statement from another: its type, its time to the microsecond, its sentence, its grant and its session.
type Mark = (String, i64, String, String, String);

fn mark((then, draft): &Stated) -> Mark {
    let text = |id: Option<&str>| id.unwrap_or_default().to_owned();
    let (grant, session) = (draft.grant.as_ref().map(GrantId::as_str), draft.session.as_ref().map(SessionId::as_str));
    let sentence = record::escape(draft.reason.as_bytes());
    (draft.kind.to_string(), then.as_microsecond(), sentence, text(grant), text(session))
}

/// Leaves out what the ledger has already, and what is there twice: a daemon that is killed may have been at it, and the disk may
/// have taken it since.
fn without_known(owed: Vec<Stated>, ledger: &Ledger) -> Vec<Stated> {
    let view = ledger.view();
    let lines = view.lines_after(view.head.seq.saturating_sub(LOOKED_THROUGH), MAX_LOOKED_THROUGH);
    let lines = lines.unwrap_or_else(|error| {
        tracing::warn!(%error, "what could not be recorded earlier may be recorded twice");
        Vec::new()
    });
    let text = |record: &Record, name: &str| record.text(name).unwrap_or_default().to_owned();
    let of = |record: Record| {
        let kind = record.kind().map(|kind| kind.to_string()).unwrap_or_default();
        let time = record.time().as_microsecond();
        (kind, time, text(&record, "reason"), text(&record, "grant"), text(&record, "session"))
    };
    let mut known: BTreeSet<Mark> =
        lines.iter().filter_map(|line| Record::parse(line.as_bytes()).ok()).map(of).collect();
    owed.into_iter().filter(|stated| known.insert(mark(stated))).collect()
}

/// When the last scheduled lockdown was due that the disk has not taken.
pub(crate) fn last_lockdown(path: &Path) -> Option<Timestamp> {
    let files = [path.with_extension(TAKEN), path.to_owned()];
    let stated = files.iter().filter_map(|file| behind(file, 0).ok()).flat_map(|(stated, ..)| stated);
    let lockdowns = stated.filter(|(_, draft)| draft.kind == ArtifactType::Lockdown);
    lockdowns.filter_map(|(_, draft)| draft.detail.get("due")?.as_str()?.parse().ok()).max()
}

/// Records what was kept and is not on record; whether there was anything. It goes only once it is on disk.
///
/// # Errors
/// The ledger does not take it.
pub(crate) fn record(path: &Path, ledger: &mut Ledger, now: Timestamp) -> Result<bool, ledger::Error> {
    let taken = path.with_extension(TAKEN);
    let (mut any, mut from) = (false, 0);
    loop {
        // What a crash kept from being recorded is still there, and goes first.
        if !taken.exists()
            && let Err(error) = fs::rename(path, &taken)
        {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::error!(%error, path = %path.display(), "what could not be recorded earlier waits for the next start");
            }
            return Ok(any);
        }
        let (owed, lost, end) = behind(&taken, from).unwrap_or_else(|error| {
            tracing::error!(%error, path = %taken.display(), "what could not be recorded earlier is lost");
            (Vec::new(), u64::from(from == 0), from)
        });
        if lost > 0 {
            ledger.lost(lost, now, "what could not be recorded earlier could not be read");
        }
        if lost > 0 || !owed.is_empty() {
            any = true;
            let owed = without_known(owed, ledger);
            ledger.append_or_owe(owed, now)?;
        }
        // Whoever had it open when it was taken may have added to it since: it goes once nothing new is in it.
        if end > from {
            from = end;
            continue;
        }
        from = 0;
        if let Err(error) = fs::remove_file(&taken) {
            tracing::warn!(%error, "what is recorded now cannot be removed; the next start looks for it in the ledger");
            return Ok(any);
        }
    }
}

#[cfg(test)]
mod tests {
    use record::Draft;

    use super::*;

    fn stated(second: i64) -> Stated {
        let time = Timestamp::from_second(1_795_458_591 + second).expect("a moment");
        (time, Draft::new(ArtifactType::Lockdown, format!("lockdown {second}")))
    }

    #[test]
    fn what_is_kept_comes_back_once_in_order_and_a_torn_line_costs_itself_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("owed.jsonl");
        assert_eq!(behind(&path, 0).expect("none is fine"), (Vec::new(), 0, 0));
        keep(&path, &[stated(1), stated(2)]).expect("kept");
        keep(&path, &[stated(3)]).expect("kept");
        let (all, lost, end) = behind(&path, 0).expect("read");
        assert_eq!((all, lost), (vec![stated(1), stated(2), stated(3)], 0));
        keep(&path, &[stated(4)]).expect("kept");
        let (late, lost, end) = behind(&path, end).expect("read");
        assert_eq!((late, lost), (vec![stated(4)], 0), "what was added since");
        OpenOptions::new().append(true).open(&path).expect("there").write_all(b"{\"torn").expect("written");
        let (none, lost, _) = behind(&path, end).expect("read");
        assert_eq!((none, lost), (Vec::new(), 1));
    }

    #[test]
    fn the_last_scheduled_lockdown_that_the_disk_has_not_taken_is_known() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("owed.jsonl");
        assert_eq!(last_lockdown(&path), None);
        let due = |draft: Draft, at: &str| (stated(0).0, draft.with("due", at));
        let lockdown = || Draft::new(ArtifactType::Lockdown, "a scheduled lockdown");
        keep(&path.with_extension(TAKEN), &[due(lockdown(), "2026-11-23T21:00:00Z")]).expect("kept");
        keep(&path, &[stated(1), due(lockdown(), "2026-11-23T20:00:00Z")]).expect("kept");
        assert_eq!(last_lockdown(&path), "2026-11-23T21:00:00Z".parse().ok());
    }

    #[test]
    fn no_more_is_kept_than_may_be() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("owed.jsonl");
        File::create(&path).expect("made").set_len(MAX_OWED_BYTES).expect("long");
        assert!(keep(&path, &[stated(1)]).is_err());
        assert_eq!(fs::metadata(&path).expect("there").len(), MAX_OWED_BYTES);
    }
}
