//! The verdict without the daemon: what is on disk says whether enforce is on and who is exempt.
//!
//! Anything unclear about the marker counts as enforce, anything unclear about the list as not exempt. Where the disk that holds
//! both is missing, sshd's drop-in says the same.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Read, Write},
    os::unix::{
        fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
        process::CommandExt,
    },
    path::Path,
    process::{self, Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

use control::gate::{DROP_IN, EMERGENCY, ENFORCING, EXEMPT, EmergencyNote, MAX_NOTE, MAX_NOTES, Question, Step};
use jiff::Timestamp;

use crate::Verdict;

/// The largest list of exempt accounts that is read, in bytes; nobody is exempt by a larger one.
const MAX_EXEMPT: u64 = 64 * 1024;

/// The gate's own argument: leave the note that is standard input.
const NOTE: &str = "--leave-note";
/// How long a login to an exempt account waits for its note.
const NOTE_PATIENCE: Duration = Duration::from_millis(300);
/// How often it is looked whether the note is there.
const POLL: Duration = Duration::from_millis(2);

/// Where the kernel tells its boot id (random(4)).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

const REFUSAL: &str = "\
Nobody may log in here now: lockdownd, which decides that, does not answer.
Try again in a minute. If it lasts, an administrator can run `systemctl restart lockdownd`
from the console or as a break-glass account.";

/// Decides about a login that the daemon did not answer for.
pub(crate) fn decide(question: Question) -> Verdict {
    if !enforcing() {
        return Verdict::Pass;
    }
    if !exempt(&question.account) {
        return Verdict::Refuse { step: question.step, text: REFUSAL.to_owned() };
    }
    if question.step == Step::Session {
        // PAM lets the exempt by in any case, so a note that cannot be written must not cost them their session.
        let _ = note(question).and_then(|note| have_note_left(&note));
    }
    Verdict::Pass
}

/// What stands in the drop-in before each exempt account's name.
const EXEMPT_BLOCK: &[u8] = b"Match User ";

/// Whether enforce is on, as far as can be known: only where marker and drop-in surely are not there it is not.
pub(crate) fn enforcing() -> bool {
    marked(Path::new(ENFORCING)) || marked(Path::new(DROP_IN))
}

fn marked(marker: &Path) -> bool {
    !matches!(fs::symlink_metadata(marker), Err(error) if error.kind() == ErrorKind::NotFound)
}

/// Whether `account` surely stands on a line of its own in root's list of exempt accounts, or in the drop-in: one of both may be
/// missing, old, or not be what it has to be.
pub(crate) fn exempt(account: &str) -> bool {
    let account = account.as_bytes();
    let in_list = || listed(Path::new(EXEMPT), |line| line == account);
    let in_drop_in = || listed(Path::new(DROP_IN), |line| line.strip_prefix(EXEMPT_BLOCK) == Some(account));
    !account.is_empty() && (in_list().is_ok_and(|is| is) || in_drop_in().is_ok_and(|is| is))
}

/// Whether this is so of a line in a file of root's.
fn listed(list: &Path, is: impl Fn(&[u8]) -> bool) -> io::Result<bool> {
    let file = File::open(list)?;
    let facts = file.metadata()?;
    if !facts.is_file() || facts.uid() != 0 || facts.mode() & 0o022 != 0 || facts.len() > MAX_EXEMPT {
        return Ok(false);
    }
    let mut lines = Vec::new();
    file.take(MAX_EXEMPT).read_to_end(&mut lines)?;
    Ok(lines.split(|byte| *byte == b'\n').any(is))
}

/// The note of an exempt login for the daemon to record.
fn note(question: Question) -> io::Result<Vec<u8>> {
    let boot = fs::read_to_string(BOOT_ID).ok().map(|id| id.trim_end().to_owned());
    let note = EmergencyNote { question, time: Timestamp::now(), boot, sshd: std::os::unix::process::parent_id() };
    let bytes = serde_json::to_vec(&note)?;
    if bytes.len() as u64 > MAX_NOTE {
        return Err(ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}

/// Has a detached copy of the gate leave the note, and waits for it for [`NOTE_PATIENCE`]: whoever waits for a disk that stands
/// still cannot even be killed.
fn have_note_left(note: &[u8]) -> io::Result<()> {
    let copy = Command::new("/proc/self/exe")
        .arg(NOTE)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn();
    let Ok(mut copy) = copy else { return leave_note(Path::new(EMERGENCY), note) };
    // A pipe takes so much at once.
    copy.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(note))?;
    let until = Instant::now() + NOTE_PATIENCE;
    while copy.try_wait()?.is_none() && Instant::now() < until {
        thread::sleep(POLL);
    }
    Ok(())
}

/// Whether the gate's arguments ask for a note to be left.
pub(crate) fn is_to_leave_note(arguments: &[OsString]) -> bool {
    arguments == [NOTE]
}

/// Leaves the note that comes on standard input.
pub(crate) fn leave_given_note() -> ExitCode {
    let mut note = Vec::new();
    let left = io::stdin().take(MAX_NOTE).read_to_end(&mut note).and_then(|_| leave_note(Path::new(EMERGENCY), &note));
    if left.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Leaves a note in `folder`. It appears there whole or not at all.
fn leave_note(folder: &Path, note: &[u8]) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    if fs::read_dir(folder)?.take(MAX_NOTES).count() >= MAX_NOTES {
        return Err(io::Error::new(ErrorKind::QuotaExceeded, "too many notes"));
    }
    // The process id tells apart what two gates write in the same nanosecond.
    let name = format!("{}-{}.json", Timestamp::now().as_nanosecond(), process::id());
    let unfinished = folder.join(format!(".{name}"));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
    file.write_all(note)?;
    file.sync_all()?;
    fs::rename(unfinished, folder.join(name))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn list(content: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("exempt");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        (dir, path)
    }

    fn question() -> Question {
        Question {
            step: Step::Session,
            account: "breakglass".into(),
            remote_host: None,
            connection: None,
            auth_info: None,
            service: None,
            tty: None,
        }
    }

    fn has(path: &Path, account: &str) -> io::Result<bool> {
        listed(path, |line| line == account.as_bytes())
    }

    #[test]
    fn only_a_whole_line_makes_exempt() {
        let (_dir, path) = list(b"breakglass\nrescue\n");
        for (account, is) in [("breakglass", true), ("rescue", true), ("break", false), ("breakglass\nrescue", false)] {
            assert_eq!(has(&path, account).unwrap(), is, "{account:?}");
        }
        let (_dir, blank) = list(b"\n\xff\nrescue");
        assert!(has(&blank, "rescue").unwrap());
        assert!(!exempt(""));
    }

    #[test]
    fn a_list_that_is_missing_too_large_no_file_or_writable_by_others_exempts_nobody() {
        assert!(has(Path::new("/nonexistent/exempt"), "breakglass").is_err());
        let (dir, large) = list(&[b"breakglass\n".as_slice(), &vec![b'\n'; MAX_EXEMPT as usize]].concat());
        assert!(!has(&large, "breakglass").unwrap());
        assert!(!has(dir.path(), "breakglass").unwrap());
        let (_dir, open) = list(b"breakglass\n");
        fs::set_permissions(&open, fs::Permissions::from_mode(0o666)).unwrap();
        assert!(!has(&open, "breakglass").unwrap());
    }

    #[test]
    fn only_a_marker_that_surely_is_missing_means_observe() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!marked(&dir.path().join("enforcing")));
        symlink("/nonexistent", dir.path().join("dangling")).unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        for unclear in ["dangling", "file", "file/below-a-file"] {
            assert!(marked(&dir.path().join(unclear)), "{unclear}");
        }
    }

    #[test]
    fn a_note_is_whole_private_and_readable_by_the_daemon() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("emergency");
        leave_note(&folder, &note(question()).unwrap()).unwrap();
        leave_note(&folder, &note(question()).unwrap()).unwrap();
        let notes: Vec<_> = fs::read_dir(&folder).unwrap().map(Result::unwrap).collect();
        assert_eq!(notes.len(), 2);
        for note in notes {
            assert!(!note.file_name().to_string_lossy().starts_with('.'));
            assert_eq!(note.metadata().unwrap().mode() & 0o777, 0o600);
            let note: EmergencyNote = serde_json::from_slice(&fs::read(note.path()).unwrap()).unwrap();
            assert_eq!(note.question, question());
            assert_eq!(note.boot.map(|id| id.len()), Some(36));
        }
    }

    #[test]
    fn notes_stop_at_their_bound() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..MAX_NOTES {
            File::create(dir.path().join(n.to_string())).unwrap();
        }
        assert_eq!(leave_note(dir.path(), b"{}").unwrap_err().kind(), ErrorKind::QuotaExceeded);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), MAX_NOTES);
    }
}
