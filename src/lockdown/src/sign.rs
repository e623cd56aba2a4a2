//! Signing, by `ssh-keygen -Y sign` alone: agents, security keys, PINs and passphrases work as people know them.

use std::{
    ffi::OsStr,
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use document::{Document, Key, MAX_SIGNATURE, Namespace, signature};
use record::Fingerprint;
use ssh_key::{PrivateKey, PublicKey};

use crate::{failure::Failure, files, output::Voice};

/// The longest key file that is read, in bytes.
const MAX_KEY_FILE: usize = 64 << 10;
/// The most that is read of what `ssh-add -L` prints, in bytes.
const MAX_AGENT: u64 = 1 << 20;

/// A key that can be asked to sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SigningKey {
    /// Its public half.
    pub(crate) key: Key,
    /// The file that names it for ssh-keygen; without one, the agent has it.
    file: Option<PathBuf>,
}

impl SigningKey {
    /// A key that the agent has.
    pub(crate) fn of_agent(key: Key) -> Self {
        Self { key, file: None }
    }

    /// Where it is, in words.
    pub(crate) fn place(&self) -> String {
        self.file.as_ref().map_or_else(|| "ssh-agent".to_owned(), |path| path.display().to_string())
    }
}

/// The keys that ssh-agent has and that can sign documents; none where there is no agent.
pub(crate) fn agent_keys() -> Vec<Key> {
    let Ok(mut child) =
        Command::new("ssh-add").arg("-L").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()
    else {
        return Vec::new();
    };
    let mut bytes = Vec::new();
    let read = child.stdout.take().map(|out| out.take(MAX_AGENT).read_to_end(&mut bytes));
    let ended = child.wait();
    if !matches!(read, Some(Ok(_))) || !ended.is_ok_and(|status| status.success()) {
        return Vec::new();
    }
    keys_in(&String::from_utf8_lossy(&bytes))
}

/// The keys of lines as `ssh-add -L` prints them. What cannot sign documents is left out.
fn keys_in(text: &str) -> Vec<Key> {
    text.lines()
        .filter_map(|line| without_comment(line).parse::<Key>().ok())
        .filter(|key| key.signs().is_ok())
        .collect()
}

/// `TYPE BASE64` of a line that may have a comment.
pub(crate) fn without_comment(line: &str) -> String {
    line.split_ascii_whitespace().take(2).collect::<Vec<_>>().join(" ")
}

/// The key that somebody named: a file, or the fingerprint of one that the agent has.
pub(crate) fn named(text: &str, agent: &[Key]) -> Result<SigningKey, Failure> {
    if let Ok(fingerprint) = text.parse::<Fingerprint>() {
        let found = agent.iter().find(|key| *key.fingerprint() == fingerprint);
        return found.cloned().map(SigningKey::of_agent).ok_or_else(|| {
            Failure::refused("no_key", format!("ssh-agent has no key {fingerprint}"))
                .but("ssh-add -l lists those that it has; a file may be named instead")
        });
    }
    let path = files::expand(text);
    let key = public_half(&path)?;
    key.signs().map_err(|unfit| Failure::refused("no_key", format!("{}: {unfit}", path.display())))?;
    Ok(SigningKey { key, file: Some(path) })
}

/// The public half of a key file: of FILE.pub, of a public one itself, or of a private one in OpenSSH's format, which has it in the clear.
fn public_half(path: &Path) -> Result<Key, Failure> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".pub");
    let beside = PathBuf::from(beside);
    let (path, text) = match files::text(&beside, MAX_KEY_FILE) {
        Ok(text) => (beside, text),
        Err(_) => (path.to_owned(), files::text(path, MAX_KEY_FILE)?),
    };
    let wrong = |why: String| {
        Failure::refused("no_key", format!("{}: {why}", path.display()))
            .but("name a key file of ssh-keygen, private or public, or the fingerprint of a key that ssh-agent has")
    };
    let data = match PrivateKey::from_openssh(&text) {
        Ok(private) => private.public_key().key_data().clone(),
        Err(_) => match PublicKey::from_openssh(&without_comment(&text)) {
            Ok(public) => public.key_data().clone(),
            Err(_) => return Err(wrong("it holds no key in OpenSSH's format".to_owned())),
        },
    };
    Key::from_data(&data).map_err(|error| wrong(error.to_string()))
}

/// Has ssh-keygen sign a document's line, and checks what it made. The document is one that was shown.
pub(crate) fn sign(
    key: &SigningKey,
    namespace: Namespace,
    document: &Document,
    voice: Voice,
) -> Result<String, Failure> {
    if key.key.is_hardware() {
        voice.say(&format!("touch your security key ({})\n", key.key.fingerprint()));
    }
    let scratch = tempfile::Builder::new().prefix("lockdown-").tempdir().map_err(|error| here(&error))?;
    let armored = armored(key, namespace, document.line(), scratch.path())?;
    let fingerprint = key.key.fingerprint();
    let odd = |why: String| {
        Failure::refused("signature", format!("what ssh-keygen made with {fingerprint} does not count: {why}"))
    };
    let read = signature::read(&armored).map_err(|why| odd(why.to_string()))?;
    let valid = read.verify(namespace, document.line()).map_err(|why| odd(why.to_string()))?;
    if valid.fingerprint == *fingerprint { Ok(armored) } else { Err(odd("it is by another key".to_owned())) }
}

/// What `ssh-keygen -Y sign` writes. It reads the line from a file, so that it can ask for a PIN at the terminal.
fn armored(key: &SigningKey, namespace: Namespace, line: &str, scratch: &Path) -> Result<String, Failure> {
    let message = scratch.join("line");
    fs::write(&message, line).map_err(|error| here(&error))?;
    let file = match &key.file {
        Some(file) => file.clone(),
        None => {
            let file = scratch.join("key.pub");
            fs::write(&file, format!("{}\n", key.key)).map_err(|error| here(&error))?;
            file
        }
    };
    let arguments: [&OsStr; 8] = [
        "-q".as_ref(),
        "-Y".as_ref(),
        "sign".as_ref(),
        "-n".as_ref(),
        namespace.as_str().as_ref(),
        "-f".as_ref(),
        file.as_os_str(),
        message.as_os_str(),
    ];
    let status = Command::new("ssh-keygen").args(arguments).stdout(Stdio::null()).status().map_err(|error| {
        Failure::refused("ssh_keygen", format!("ssh-keygen: {error}"))
            .but("install OpenSSH 8.9 or newer: openssh-client")
    })?;
    if !status.success() {
        return Err(Failure::refused(
            "ssh_keygen",
            format!("ssh-keygen did not sign with {} ({status})", key.key.fingerprint()),
        )
        .but(format!("what it says stands above; the key is named by {}", key.place())));
    }
    files::text(&scratch.join("line.sig"), MAX_SIGNATURE)
}

fn here(error: &io::Error) -> Failure {
    Failure::refused("file", format!("a temporary file: {error}"))
}

#[cfg(test)]
pub(crate) mod tests {
    use document::{IsRevoke, Kind, Moment, Revoke, V1};
    use terminal::paint::Paint;

    use super::*;

    pub(crate) const QUIET: Voice = Voice { json: false, paint: Paint::NONE, aside: Paint::NONE };

    /// A key file that ssh-keygen made.
    pub(crate) fn key_file(directory: &Path, name: &str) -> PathBuf {
        let path = directory.join(name);
        let made =
            Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"]).arg(&path).status();
        assert!(made.unwrap().success());
        path
    }

    fn document() -> Document {
        let now: Moment = "2026-11-30T12:00:00Z".parse().unwrap();
        Document::new(Revoke {
            grant: document::Id::of("x"),
            issued_at: now,
            organization: "acme".parse().unwrap(),
            reason: "done".parse().unwrap(),
            kind: IsRevoke,
            v: V1,
        })
        .unwrap()
    }

    #[test]
    fn a_key_file_signs_whichever_half_of_it_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let private = key_file(dir.path(), "a");
        let public = dir.path().join("a.pub");
        let by_private = named(private.to_str().unwrap(), &[]).unwrap();
        let by_public = named(public.to_str().unwrap(), &[]).unwrap();
        assert_eq!(by_private.key, by_public.key);
        let namespace = Namespace::Of(Kind::Revoke);
        let armored = sign(&by_private, namespace, &document(), QUIET).unwrap();
        assert!(signature::read(&armored).unwrap().verify(namespace, document().line()).is_ok());
        fs::remove_file(&public).unwrap();
        assert_eq!(named(private.to_str().unwrap(), &[]).unwrap().key, by_private.key, "the private half names it too");
    }

    #[test]
    fn a_key_that_is_not_there_is_named_with_what_would_have_worked() {
        let fingerprint = format!("SHA256:{}", "A".repeat(43));
        assert!(named(&fingerprint, &[]).unwrap_err().words().contains("ssh-add -l"));
        assert!(named("/nonexistent/key", &[]).unwrap_err().words().contains("/nonexistent/key"));
        let dir = tempfile::tempdir().unwrap();
        let odd = dir.path().join("odd");
        fs::write(&odd, "no key\n").unwrap();
        assert!(named(odd.to_str().unwrap(), &[]).unwrap_err().words().contains("holds no key"));
    }

    #[test]
    fn of_what_the_agent_has_only_keys_that_can_sign_are_taken() {
        let text = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4 a comment\nssh-dss AAAA x\nodd\n";
        assert_eq!(keys_in(text).len(), 1);
    }
}
