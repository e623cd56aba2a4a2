//! Statements that the disk has not taken: one a line, in memory that outlives the daemon. Whoever opens the ledger next records
//! them before anything else is read there.
//!
//! While the state is not read every statement goes there at once, so that a daemon that is killed loses none.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use jiff::Timestamp;
use lockdown_host::paths;
use nix::fcntl::OFlag;
use record::Draft;

use crate::ledger::{self, Ledger};

/// Where they are.
pub(crate) const OWED: &str = "/run/lockdownd/owed.jsonl";
/// Where those are that are being recorded.
const TAKEN: &str = "taken";
/// The most bytes of them.
const MAX_OWED_BYTES: u64 = 16 << 20;

/// A statement, and when what it states was.
pub(crate) type Stated = (Timestamp, Draft);

/// Adds these.
///
/// # Errors
/// None of them is kept.
pub(super) fn keep<'a>(path: &Path, stated: impl IntoIterator<Item = &'a Stated>) -> io::Result<()> {
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

/// Takes what was kept: nobody else gets it. What cannot be read is counted.
///
/// # Errors
/// It is there, and cannot be read.
fn take(path: &Path) -> io::Result<(Vec<Stated>, u64)> {
    let taken = path.with_extension(TAKEN);
    // Those that a crash kept from being recorded are still there.
    if !taken.exists() {
        match fs::rename(path, &taken) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), 0)),
            renamed => renamed?,
        }
    }
    let bytes = paths::read_path(&taken, MAX_OWED_BYTES)?;
    let lines: Vec<_> = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
    let stated: Vec<Stated> = lines.iter().filter_map(|line| serde_json::from_slice(line).ok()).collect();
    let lost = (lines.len() - stated.len()) as u64;
    Ok((stated, lost))
}

/// Records what was kept; whether there was anything. It goes only once it is on disk: a crash in between records it twice
/// rather than not at all.
///
/// # Errors
/// The ledger does not take it.
pub(crate) fn record(path: &Path, ledger: &mut Ledger, now: Timestamp) -> Result<bool, ledger::Error> {
    let mut any = false;
    // What is added while this is recorded is taken next.
    loop {
        let (owed, lost) = take(path).unwrap_or_else(|error| {
            tracing::error!(%error, path = %path.display(), "what could not be recorded earlier is lost");
            (Vec::new(), 1)
        });
        if owed.is_empty() && lost == 0 {
            return Ok(any);
        }
        any = true;
        if lost > 0 {
            ledger.lost(lost, now, "what could not be recorded earlier could not be read");
        }
        ledger.append_or_owe(owed, now)?;
        if let Err(error) = fs::remove_file(path.with_extension(TAKEN)) {
            tracing::warn!(%error, "what is recorded now cannot be removed, and is recorded again by the next start");
            return Ok(any);
        }
    }
}

#[cfg(test)]
mod tests {
    use record::ArtifactType;

    use super::*;

    fn stated(second: i64) -> Stated {
        let time = Timestamp::from_second(1_795_458_591 + second).expect("a moment");
        (time, Draft::new(ArtifactType::Lockdown, format!("lockdown {second}")))
    }

    #[test]
    fn what_is_kept_comes_back_once_in_order_and_a_torn_line_costs_itself_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("owed.jsonl");
        assert_eq!(take(&path).expect("none is fine"), (Vec::new(), 0));
        keep(&path, &[stated(1), stated(2)]).expect("kept");
        keep(&path, &[stated(3)]).expect("kept");
        let (all, lost) = take(&path).expect("read");
        assert_eq!((all, lost), (vec![stated(1), stated(2), stated(3)], 0));
        keep(&path, &[stated(4)]).expect("kept");
        assert_eq!(take(&path).expect("read").0.len(), 3, "what is being recorded goes first");
        fs::remove_file(path.with_extension(TAKEN)).expect("recorded");
        fs::OpenOptions::new().append(true).open(&path).expect("there").write_all(b"{\"torn").expect("written");
        assert_eq!(take(&path).expect("read"), (vec![stated(4)], 1));
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
