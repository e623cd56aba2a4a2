//! What one line of sshd's log says: somebody got in, a try failed, a connection was over before anybody got in.
//!
//! Pure. User names, key ids and parting words come from whoever connects and may look like any part of a line (a name
//! may hold blanks and `from 192.0.2.9 port 22 ssh2`). sshd escapes control characters, writes what it knows itself at
//! fixed places, and address and port after the name: so a line is read from sshd's own first words and then from its
//! right end. Where that end is another's too, or may have been cut off, the address is unknown rather than believed.

use record::{Fingerprint, Source};

use crate::policy::address;

/// The names under which sshd logs (`SYSLOG_IDENTIFIER`): alone until OpenSSH 9.7, with `sshd-session` from 9.8 on.
/// `sshd-auth` (10.0) has its lines written by `sshd-session`; it stands here for the day it does not.
pub const IDENTIFIERS: [&str; 3] = ["sshd", "sshd-session", "sshd-auth"];
/// Programs whose lines are believed (`_EXE`), where journald was quick enough to see which program it was.
pub const PROGRAMS: [&str; 6] = [
    "/usr/sbin/sshd",
    "/usr/lib/openssh/sshd-session",
    "/usr/lib/openssh/sshd-auth",
    "/usr/local/sbin/sshd",
    "/usr/local/libexec/sshd-session",
    "/usr/local/libexec/sshd-auth",
];
/// sshd cuts a line off at 1023 bytes. From this length on, its right end is not believed to be sshd's.
pub const WHOLE: usize = 900;

/// Whose sshd wrote a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writer {
    /// Root's: it says what happened.
    Root,
    /// An ordinary user's, who can make it say anything: that it is there is all that its lines tell.
    User,
}

/// Whose line an entry is, by what the kernel told journald (`_UID`, `_EXE`); `None` when it is not sshd's at all.
///
/// The program is often missing for a process that ended at once; root's uid is always there.
#[must_use]
pub fn writer(uid: u32, exe: Option<&str>, identifier: &str) -> Option<Writer> {
    if !IDENTIFIERS.contains(&identifier) {
        return None;
    }
    match (uid, exe.map(|exe| PROGRAMS.contains(&exe.trim_end_matches(" (deleted)")))) {
        (0, None | Some(true)) => Some(Writer::Root),
        (_, Some(true)) => Some(Writer::User),
        _ => None,
    }
}

/// Who tried, as they named themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// As sshd wrote it: control characters escaped, perhaps cut off.
    pub name: String,
    /// Whether sshd knows an account of this name that may log in. If not, it may be anything, a password too.
    pub valid: bool,
}

/// Why a connection did not get in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// No such account.
    UnknownUser,
    /// sshd's configuration does not let this account in (`AllowUsers`, a locked account, root).
    NotAllowed,
    /// A password was wrong, also one typed for PAM.
    WrongPassword,
    /// No key, or no key that opens the account.
    WrongKey,
    /// The key is right and its options refuse it: its `expiry-time` is over, or it may not come from there.
    KeyOptions,
    /// A certificate was refused.
    Certificate,
    /// The security device was not touched, and it has to be.
    NoTouch,
    /// The security device was not unlocked by PIN or fingerprint, and it has to be.
    NoPin,
    /// The key was revoked.
    RevokedKey,
    /// Too many tries in one connection.
    TooManyAttempts,
    /// PAM's account step refused.
    PamRefused,
    /// Nobody had got in within `LoginGraceTime`.
    Timeout,
    /// It was over before any account was named.
    NoLogin,
    /// Nothing in common to talk in.
    NoCommonAlgorithm,
    /// What came was not the SSH protocol.
    Protocol,
    /// sshd did not take the connection: too many at once.
    TooManyConnections,
    /// sshd did not take the connection: its address pays for what it did before.
    Penalty,
    /// sshd gave up for another reason.
    Other,
}

impl Why {
    /// One fixed word for the record.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::UnknownUser => "unknown_user",
            Self::NotAllowed => "not_allowed",
            Self::WrongPassword => "wrong_password",
            Self::WrongKey => "wrong_key",
            Self::KeyOptions => "key_options",
            Self::Certificate => "certificate",
            Self::NoTouch => "no_touch",
            Self::NoPin => "no_pin",
            Self::RevokedKey => "revoked_key",
            Self::TooManyAttempts => "too_many_attempts",
            Self::PamRefused => "pam_refused",
            Self::Timeout => "timeout",
            Self::NoLogin => "no_login",
            Self::NoCommonAlgorithm => "no_common_algorithm",
            Self::Protocol => "protocol",
            Self::TooManyConnections => "too_many_connections",
            Self::Penalty => "penalty",
            Self::Other => "other",
        }
    }

    /// How much it tells of why a connection failed: of two that hold, the higher one is named.
    #[must_use]
    pub fn tells(self) -> u8 {
        match self {
            Self::Other => 0,
            Self::NoLogin => 1,
            Self::WrongKey => 2,
            Self::Timeout => 3,
            Self::WrongPassword => 4,
            Self::UnknownUser => 5,
            Self::NotAllowed => 6,
            Self::KeyOptions | Self::Certificate | Self::NoTouch | Self::NoPin | Self::RevokedKey => 7,
            Self::TooManyAttempts => 8,
            Self::PamRefused => 9,
            Self::NoCommonAlgorithm | Self::Protocol | Self::TooManyConnections | Self::Penalty => 10,
        }
    }

    /// The same in words.
    #[must_use]
    pub fn sentence(self) -> &'static str {
        match self {
            Self::UnknownUser => "there is no such account",
            Self::NotAllowed => "sshd's configuration does not let this account in",
            Self::WrongPassword => "the password was wrong",
            Self::WrongKey => "no key was offered that opens the account",
            Self::KeyOptions => "the key has expired or may not be used from there",
            Self::Certificate => "the certificate was refused",
            Self::NoTouch => "the security device was not touched",
            Self::NoPin => "the security device was not unlocked by PIN or fingerprint",
            Self::RevokedKey => "the key is revoked",
            Self::TooManyAttempts => "there were too many tries",
            Self::PamRefused => "PAM does not let the account in",
            Self::Timeout => "nobody had logged in within LoginGraceTime",
            Self::NoLogin => "the connection was over before an account was named",
            Self::NoCommonAlgorithm => "client and server have no algorithm in common",
            Self::Protocol => "what came was not the SSH protocol",
            Self::TooManyConnections => "there were too many connections at once",
            Self::Penalty => "its address is shut out for what it did before",
            Self::Other => "sshd gave up",
        }
    }
}

/// What a line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// Somebody got in, as far as sshd goes: PAM's session step is yet to come.
    Accepted {
        /// As sshd names it: `publickey`, `password`, `keyboard-interactive/pam`.
        method: String,
        /// The key, where it was a plain one.
        fingerprint: Option<Fingerprint>,
    },
    /// One try failed; the connection goes on.
    Tried {
        /// As above.
        method: String,
    },
    /// Why what is tried will fail; the connection goes on.
    Noted(Why),
    /// The connection is over, and nobody got in.
    Over(Why),
    /// The listener says so of one of its children.
    OverFor {
        /// Which.
        pid: i32,
        /// Why.
        why: Why,
    },
    /// The listener did not take a connection: it never had a process of its own.
    Dropped(Why),
}

/// One line that matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// What it says.
    pub what: What,
    /// Who tried, where it says so.
    pub user: Option<User>,
    /// From where, where that can be told without doubt.
    pub source: Option<Source>,
}

/// Reads one message of sshd's; `None` when it says nothing of a login or of the end of one that failed.
#[must_use]
pub fn parse(message: &str) -> Option<Line> {
    let whole = message.len() < WHOLE;
    let (text, preauth) = match message.strip_suffix(" [preauth]") {
        Some(text) => (text, true),
        // Of a line that was cut off, this is what is missing first.
        None => (message, !whole),
    };
    let fatal = text.starts_with("fatal: ");
    let text = text.strip_prefix("error: ").or_else(|| text.strip_prefix("fatal: ")).unwrap_or(text);
    let mut line = tried(text)
        .or_else(|| noted(text))
        .or_else(|| over(text, preauth))
        .or_else(|| from_the_listener(text))
        .or_else(|| (fatal && preauth).then(|| line(What::Over(Why::Other), None)))?;
    if !whole && !matches!(line.what, What::Over(Why::NoCommonAlgorithm)) {
        line.source = None;
    }
    Some(line)
}

/// Who and from where, as sshd names a connection.
type Connection = (Option<User>, Source);

fn line(what: What, connection: Option<Connection>) -> Line {
    let (user, source) = connection.map_or((None, None), |(user, source)| (user, Some(source)));
    Line { what, user, source }
}

/// `Accepted METHOD for USER from ADDRESS port N ssh2[: KEY]`, and the same with `Failed`.
fn tried(text: &str) -> Option<Line> {
    let (accepted, rest) = match text.strip_prefix("Accepted ") {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix("Failed ")?),
    };
    let (method, rest) = rest.split_once(" for ")?;
    if method.is_empty() || method.contains(' ') {
        return None;
    }
    let (who, key) = split_key(rest)?;
    let (name, source) = who.map_or((rest, None), |who| from(who).map_or((who, None), |(n, s)| (n, Some(s))));
    let method = method.to_owned();
    let what = match accepted {
        true => What::Accepted { method, fingerprint: key.and_then(fingerprint) },
        false => What::Tried { method },
    };
    // Who cannot be told from the rest of the line is not named.
    let user = who.is_some().then(|| user_of_a_try(name));
    Some(Line { what, user, source })
}

/// What stands before ` ssh2`, and the key after it. A key's own words are fixed; a certificate's id is its maker's, and
/// where it makes the line readable in two ways nothing of it is believed: then there is no first part.
fn split_key(rest: &str) -> Option<(Option<&str>, Option<&str>)> {
    if let Some(who) = rest.strip_suffix(" ssh2") {
        return Some((Some(who), None));
    }
    let mut places = rest.match_indices(" ssh2: ").map(|(at, word)| (&rest[..at], &rest[at + word.len()..]));
    if let Some((who, key)) = rest.rsplit_once(" ssh2: ").filter(|(_, key)| fingerprint(key).is_some()) {
        return Some((Some(who), Some(key)));
    }
    let first = places.next()?;
    let only = places.next().is_none();
    Some(if only { (Some(first.0), Some(first.1)) } else { (None, None) })
}

/// The fingerprint in `TYPE SHA256:…`, where that is all.
fn fingerprint(key: &str) -> Option<Fingerprint> {
    let (kind, fingerprint) = key.split_once(' ')?;
    let plain = !kind.is_empty() && kind.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if plain && !kind.ends_with("-CERT") { fingerprint.parse().ok() } else { None }
}

fn user_of_a_try(name: &str) -> User {
    match name.strip_prefix("invalid user ") {
        Some(name) => User { name: name.to_owned(), valid: false },
        None => User { name: name.to_owned(), valid: true },
    }
}

/// Lines that tell why, while the connection goes on.
fn noted(text: &str) -> Option<Line> {
    let of = |why, user: Option<User>, source| Some(Line { what: What::Noted(why), user, source });
    if let Some(rest) = text.strip_prefix("Invalid user ") {
        let (name, source) = from(rest).map_or((None, None), |(name, source)| (Some(name), Some(source)));
        return of(Why::UnknownUser, name.map(|name| User { name: name.to_owned(), valid: false }), source);
    }
    if let Some((who, _)) = text.strip_prefix("User ").and_then(|rest| rest.rsplit_once(" not allowed because ")) {
        let (name, host) = who.rsplit_once(" from ")?;
        return of(Why::NotAllowed, Some(User { name: name.to_owned(), valid: true }), address(host));
    }
    if let Some(rest) = text.strip_prefix("maximum authentication attempts exceeded for ") {
        let named = rest.strip_suffix(" ssh2").and_then(from);
        let (user, source) = named.map_or((None, None), |(name, source)| (Some(user_of_a_try(name)), Some(source)));
        return of(Why::TooManyAttempts, user, source);
    }
    if let Some((_, rest)) = text.strip_prefix("PAM: ").and_then(|rest| rest.split_once(" for ")) {
        let (name, host) = rest.rsplit_once(" from ")?;
        let user = match name.strip_prefix("illegal user ") {
            Some(name) => User { name: name.to_owned(), valid: false },
            None => User { name: name.to_owned(), valid: true },
        };
        return of(Why::WrongPassword, Some(user), address(host));
    }
    if let Some((why, who)) = by_the_device(text) {
        let named = from(who);
        let (user, source) = named.map_or((None, None), |(name, source)| (Some(user_of_a_try(name)), Some(source)));
        return of(why, user, source);
    }
    let starts = |words: &[&str]| words.iter().any(|word| text.starts_with(word));
    if starts(&["Certificate ", "Refused by certificate options", "key_cert_check_authority:"]) {
        return of(Why::Certificate, None, None);
    }
    if starts(&["Refused by key options", "Authentication tried for ", "Key is expired", "key expired"]) {
        return of(Why::KeyOptions, None, None);
    }
    if starts(&["ROOT LOGIN REFUSED FROM "]) {
        return of(Why::NotAllowed, None, None);
    }
    if starts(&["Authentication key ", "WARNING: authentication attempt with a revoked "]) {
        return of(Why::RevokedKey, None, None);
    }
    None
}

/// `public key TYPE KEY signature for USER from ADDRESS port N rejected: …`, where a security device did less than was asked
/// for: why, and what names the connection.
fn by_the_device(text: &str) -> Option<(Why, &str)> {
    let (rest, what) = text.trim_end().strip_prefix("public key ")?.rsplit_once(" rejected: ")?;
    let why = match what {
        "user presence (authenticator touch) requirement not met" => Why::NoTouch,
        "user verification requirement not met" => Why::NoPin,
        _ => return None,
    };
    Some((why, rest.split_once(" signature for ")?.1))
}

/// Lines that are a connection's last.
fn over(text: &str, preauth: bool) -> Option<Line> {
    let ended = ["Connection closed by ", "Connection reset by ", "Disconnected from "];
    if let Some(rest) = ended.iter().find_map(|words| text.strip_prefix(words)) {
        return before_login(rest, preauth, None);
    }
    if let Some(rest) = text.strip_prefix("Disconnecting ") {
        let (who, reason) = rest.rsplit_once(": ").unwrap_or((rest, ""));
        let why = reason.starts_with("Too many authentication failures").then_some(Why::TooManyAttempts);
        return before_login(who, preauth, why);
    }
    if let Some(rest) = text.strip_prefix("ssh_dispatch_run_fatal: Connection from ") {
        let (who, _) = rest.rsplit_once(": ")?;
        return before_login(who, preauth, Some(Why::Protocol));
    }
    if let Some(rest) = text.strip_prefix("Access denied for user ") {
        let name = rest.strip_suffix(" by PAM account configuration")?;
        let user = Some(User { name: name.to_owned(), valid: true });
        return Some(Line { what: What::Over(Why::PamRefused), user, source: None });
    }
    // What follows the address here is the client's.
    if let Some(rest) = text.strip_prefix("Unable to negotiate with ") {
        return Some(Line { what: What::Over(Why::NoCommonAlgorithm), user: None, source: leading(rest) });
    }
    if let Some(rest) = text.strip_prefix("banner exchange: Connection from ") {
        return Some(Line { what: What::Over(Why::Protocol), user: None, source: leading(rest) });
    }
    if text.starts_with("Bad protocol version identification ") {
        let source = from(text).map(|(_, source)| source);
        return Some(Line { what: What::Over(Why::Protocol), user: None, source });
    }
    None
}

/// The end of a connection that is named by `[authenticating user U|invalid user U] ADDRESS port N`; of one that got in
/// (`user U …`) this is no failure.
fn before_login(who: &str, preauth: bool, why: Option<Why>) -> Option<Line> {
    let kinds = [("authenticating user ", true), ("invalid user ", false)];
    let named = kinds.iter().find_map(|(words, valid)| Some((who.strip_prefix(words)?, *valid)));
    match named {
        Some((rest, valid)) if preauth => {
            let default = if valid { Why::WrongKey } else { Why::UnknownUser };
            let at = at(rest);
            let user = at.as_ref().map(|(name, _)| User { name: (*name).to_owned(), valid });
            let source = at.map(|(_, source)| source);
            Some(Line { what: What::Over(why.unwrap_or(default)), user, source })
        }
        Some(_) => None,
        None => {
            let source = leading_all(who)?;
            Some(Line { what: What::Over(why.unwrap_or(Why::NoLogin)), user: None, source: Some(source) })
        }
    }
}

/// Lines by the listener, about connections that have another process, or none.
fn from_the_listener(text: &str) -> Option<Line> {
    if let Some(rest) = text.strip_prefix("Timeout before authentication for ") {
        let Some(rest) = rest.strip_prefix("connection from ") else {
            return Some(Line { what: What::Over(Why::Timeout), user: None, source: leading_all(rest) });
        };
        let (places, pid) = rest.rsplit_once(", pid = ")?;
        let source = places.split(' ').next().and_then(address);
        return Some(Line { what: What::OverFor { pid: pid.parse().ok()?, why: Why::Timeout }, user: None, source });
    }
    let rest = text.strip_prefix("drop connection #")?;
    let (_, rest) = rest.split_once(" from [")?;
    let (host, rest) = rest.split_once("]:")?;
    let (port, rest) = rest.split_once(' ')?;
    let why = if rest.contains(" penalty: ") { Why::Penalty } else { Why::TooManyConnections };
    let source = address(host).map(|source| Source { port: port.parse().ok(), ..source });
    Some(Line { what: What::Dropped(why), user: None, source })
}

/// `NAME from ADDRESS port N`.
fn from(text: &str) -> Option<(&str, Source)> {
    let (rest, source) = at(text)?;
    // The name may be empty: two blanks then stand beside each other.
    Some((rest.strip_suffix(" from").or((rest == "from").then_some(""))?, source))
}

/// `NAME ADDRESS port N`.
fn at(text: &str) -> Option<(&str, Source)> {
    let (rest, port) = text.rsplit_once(" port ")?;
    let (name, host) = rest.rsplit_once(' ')?;
    Some((name, Source { port: Some(port.parse().ok()?), ..address(host)? }))
}

/// `ADDRESS port N` and nothing else.
fn leading_all(text: &str) -> Option<Source> {
    let (host, port) = text.split_once(" port ")?;
    Some(Source { port: Some(port.parse().ok()?), ..address(host)? })
}

/// `ADDRESS port N: …`.
fn leading(text: &str) -> Option<Source> {
    leading_all(text.split_once(": ")?.0)
}

/// An address as sshd writes it; `UNKNOWN` is a socket that has none (Debian 13's local one).
fn address(host: &str) -> Option<Source> {
    if host == address::NONE {
        return Some(Source { address: None, port: None });
    }
    Some(Source { address: Some(address::parse(host)?.0), port: None })
}

#[cfg(test)]
mod tests;
