//! Which keys sshd refuses because of `RevokedKeys`: plain lists are read here, key revocation lists by ssh-keygen(1).
//!
//! What cannot be read or asked is told as broken: sshd refuses every key where it cannot read the file.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    io::{self, Write},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use lockdown_core::keys::{key::Key, person::MAX_TEXT, revoked::Revoked};

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
/// The most keys of one account that ssh-keygen is asked about: an account with more that are revoked counts as without a key.
const MAX_ASKED: usize = 16;

/// A file that could be read: where it really is, and what it holds.
type Readable = (PathBuf, Revoked);

/// The files that have been looked at, and what was asked about the keys: each once.
#[derive(Debug, Default)]
pub(super) struct Revocations {
    files: RefCell<BTreeMap<String, Result<Readable, String>>>,
    asked: RefCell<HashMap<(String, Key), bool>>,
}

impl Revocations {
    /// For each of the keys whether the file lists it. `dsa` is as for [`Revoked::read`].
    ///
    /// # Errors
    /// What is wrong with the file, to be read behind its name.
    pub(super) fn of(&self, file: &str, keys: &[&Key], dsa: bool) -> Result<Vec<bool>, String> {
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
            *found = Err(String::clone(why));
        }
        judged
    }

    fn ask(&self, file: &str, real: &Path, key: &Key) -> Result<bool, String> {
        let mut asked = self.asked.borrow_mut();
        let entry = (file.to_owned(), key.clone());
        if let Some(known) = asked.get(&entry) {
            return Ok(*known);
        }
        let revoked = is_on_krl(real, key)?;
        asked.insert(entry, revoked);
        Ok(revoked)
    }
}

fn read(file: &Path, dsa: bool) -> Result<Readable, String> {
    let root = Root::open(Path::new("/")).map_err(|error| format!("cannot be read ({error})"))?;
    // sshd would follow a user's link; who can change it decides then who gets in.
    let real = root.resolve(file).map_err(|error| format!("cannot be trusted ({error})"))?;
    let mut content = Vec::new();
    match root.look_within(&real, &mut content, MAX_FILE) {
        Sight::File(_) => {}
        Sight::Absent => return Err("is not there".to_owned()),
        Sight::Link => return Err("is behind a symbolic link".to_owned()),
        Sight::Inert => return Err("is not a regular file".to_owned()),
        Sight::Long(_) => return Err(format!("has more than {MAX_FILE} bytes")),
        Sight::Unreadable(error) => return Err(format!("cannot be read ({error})")),
    }
    let list = Revoked::read(&content, dsa).map_err(|error| error.to_string())?;
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
        assert_eq!(of("list"), Err("is not there".to_owned()));
        fs::write(path("list"), format!("{LISTED} anna\n")).expect("a list");
        assert_eq!(of("list"), Ok(vec![true, false]));
        let made = Command::new(KEYGEN).args(["-q", "-k", "-f", &path("krl"), &path("list")]).status();
        assert!(made.expect("ssh-keygen").success());
        assert_eq!(of("krl"), Ok(vec![true, false]));
        let krl = fs::read(path("krl")).expect("the list");
        fs::write(path("cut"), &krl[..krl.len() - 5]).expect("a list");
        let cut = of("cut").expect_err("it is cut off");
        assert!(cut.starts_with("cannot be judged (/usr/bin/ssh-keygen: "), "{cut}");
        assert_eq!(of(""), Err("is not a regular file".to_owned()));
        fs::write(path("odd"), "hello\n").expect("a list");
        assert_eq!(of("odd"), Err("has a line that is no plain key, line 1".to_owned()));
    }
}
