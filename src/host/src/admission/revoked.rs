//! Which keys sshd refuses because of `RevokedKeys`: plain lists are read here, key revocation lists by ssh-keygen(1).
//!
//! sshd refuses every key where it cannot read the file. What it may read, and is not judged here, is told as that.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    io::{self, Write},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use lockdown_core::{
    keys::{
        key::Key,
        person::MAX_TEXT,
        revoked::{NotRead, Revoked},
    },
    policy::admission::Broken,
};

use crate::{
    child::{self, Bounds},
    paths::{Root, Sight},
};

/// Who reads key revocation lists. It comes with openssh-client, without which there is no openssh-server.
const KEYGEN: &str = "/usr/bin/ssh-keygen";
/// What it may take for one key; it takes some milliseconds.
const BOUNDS: Bounds = Bounds { time: Duration::from_secs(5), output: 64 * 1024 };
/// The longest file that is read (sshd's own bound is 128 MiB).
const MAX_FILE: usize = 16 << 20;
/// What people name where a list is wanted and none is to be revoked.
const EMPTY: &str = "/dev/null";
/// The most keys of one account that ssh-keygen is asked about: an account with more that are revoked counts as without a key.
const MAX_ASKED: usize = 16;

/// A file that could be read: where it really is, and what it holds.
type Readable = (PathBuf, Revoked);

/// The files that have been looked at, and what was asked about the keys: each once.
#[derive(Debug, Default)]
pub(super) struct Revocations {
    files: RefCell<BTreeMap<String, Result<Readable, Broken>>>,
    asked: RefCell<HashMap<(String, Key), bool>>,
}

impl Revocations {
    /// For each of the keys whether the file lists it. `dsa` is as for [`Revoked::read`].
    ///
    /// # Errors
    /// What is wrong with the file.
    pub(super) fn of(&self, file: &str, keys: &[&Key], dsa: bool) -> Result<Vec<bool>, Broken> {
        let mut files = self.files.borrow_mut();
        let found = files.entry(file.to_owned()).or_insert_with(|| read(Path::new(file), dsa));
        let (real, list) = found.as_ref().map_err(Clone::clone)?;
        let ask = |(index, key): (usize, &&Key)| Ok(index >= MAX_ASKED || self.ask(file, real, key)?);
        let judged = match list {
            Revoked::Keys(listed) => return Ok(keys.iter().map(|key| listed.contains(key)).collect()),
            Revoked::Krl => keys.iter().enumerate().map(ask).collect(),
        };
        if let Err(why) = &judged {
            // It is not asked again: each question may take its limit.
            *found = Err(Broken::clone(why));
        }
        judged
    }

    fn ask(&self, file: &str, real: &Path, key: &Key) -> Result<bool, Broken> {
        let mut asked = self.asked.borrow_mut();
        let entry = (file.to_owned(), key.clone());
        if let Some(known) = asked.get(&entry) {
            return Ok(*known);
        }
        let revoked = is_on_krl(real, key).map_err(Broken::Unjudged)?;
        asked.insert(entry, revoked);
        Ok(revoked)
    }
}

fn read(file: &Path, dsa: bool) -> Result<Readable, Broken> {
    let (unread, unjudged) = (|why: &str| Broken::Unread(why.to_owned()), Broken::Unjudged);
    let root = Root::open(Path::new("/")).map_err(|error| unjudged(format!("cannot be looked at ({error})")))?;
    // sshd would follow a user's link; who can change it decides then who gets in.
    let real = root.resolve(file).map_err(|error| unjudged(format!("cannot be trusted ({error})")))?;
    let mut content = Vec::new();
    match root.look_within(&real, &mut content, MAX_FILE) {
        Sight::File(_) => {}
        Sight::Absent => return Err(unread("is not there")),
        Sight::Link => return Err(unjudged("is behind a symbolic link".to_owned())),
        // sshd reads to its end, whatever it is.
        Sight::Inert if real == Path::new(EMPTY) => {}
        Sight::Inert => return Err(unread("is not a regular file")),
        Sight::Long(_) => return Err(unjudged(format!("has more than {MAX_FILE} bytes, more than are read"))),
        Sight::Unreadable(error) => return Err(Broken::Unread(format!("cannot be read ({error})"))),
    }
    let list = Revoked::read(&content, dsa).map_err(|why| match why {
        NotRead::BadLine(_) => Broken::Unread(why.to_string()),
        NotRead::Certificate(_) => unjudged(why.to_string()),
    })?;
    Ok((real, list))
}

/// Asks ssh-keygen, which ends with 0 for a key that is not on the list and with 1 for one that is.
fn is_on_krl(list: &Path, key: &Key) -> Result<bool, String> {
    let failed = |error: io::Error| format!("cannot be judged ({KEYGEN}: {error})");
    let line = format!("{} {}\n", key.algorithm(), key.base64());
    if line.len() > MAX_TEXT {
        return Err(format!("cannot be judged: the key has more than {MAX_TEXT} bytes"));
    }
    // Such a line fits into a pipe whole.
    let (reader, mut writer) = io::pipe().map_err(failed)?;
    writer.write_all(line.as_bytes()).map_err(failed)?;
    drop(writer);
    let args = [Path::new("-Q"), Path::new("-f"), list, Path::new("/dev/stdin")];
    let mut command = child::command(Path::new(KEYGEN), args);
    command.stdin(Stdio::from(reader));
    let output = child::run(command, BOUNDS).map_err(failed)?;
    match output.as_ref().and_then(|output| output.status.code()) {
        Some(0) => Ok(false),
        Some(1) => Ok(true),
        _ => {
            let said = output.map(|output| record::outside(output.stderr.trim_ascii()));
            let said = said.as_deref().unwrap_or("it did not end");
            Err(format!("cannot be judged ({KEYGEN}: {said})"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockdown_core::keys::person::PersonKey;
    use std::{fs, process::Command};

    const LISTED: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBY3dtgj1bMXVN7BAh9P0lHfvlAwQXBZPvMd1ByKv4zD";
    const OTHER: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAkd9Og1m9De7DZPdBm2Y9bX57ZB1owN+SKXnYRLfdTg";

    #[test]
    fn a_plain_list_and_a_revocation_list_tell_the_same_and_what_is_neither_revokes_all() {
        let dir = tempfile::tempdir().expect("a directory");
        let key = |text: &str| PersonKey::parse(text).expect("a key").key().clone();
        let (listed, other) = (key(LISTED), key(OTHER));
        let path = |name: &str| dir.path().join(name).to_str().expect("UTF-8").to_owned();
        let of = |name: &str| Revocations::default().of(&path(name), &[&listed, &other], false);
        let unread = |why: &str| Err(Broken::Unread(why.to_owned()));
        assert_eq!(of("list"), unread("is not there"));
        fs::write(path("list"), format!("{LISTED} anna\n")).expect("a list");
        assert_eq!(of("list"), Ok(vec![true, false]));
        let made = Command::new(KEYGEN).args(["-q", "-k", "-f", &path("krl"), &path("list")]).status();
        assert!(made.expect("ssh-keygen").success());
        assert_eq!(of("krl"), Ok(vec![true, false]));
        let krl = fs::read(path("krl")).expect("the list");
        fs::write(path("cut"), &krl[..krl.len() - 5]).expect("a list");
        let Err(Broken::Unjudged(cut)) = of("cut") else { panic!("it is cut off") };
        assert!(cut.starts_with("cannot be judged (/usr/bin/ssh-keygen: "), "{cut}");
        assert_eq!(of(""), unread("is not a regular file"));
        let none = Revocations::default().of(EMPTY, &[&listed], false);
        assert_eq!(none, Ok(vec![false]));
        let long = fs::File::create(path("long")).expect("a list");
        long.set_len(MAX_FILE as u64 + 1).expect("a length");
        assert!(matches!(of("long"), Err(Broken::Unjudged(why)) if why.starts_with("has more than 16777216 bytes")));
        fs::write(path("odd"), "hello\n").expect("a list");
        assert_eq!(of("odd"), unread("has a line that is no plain key, line 1"));
    }
}
