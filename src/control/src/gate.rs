//! What `login-gate` asks the daemon about one SSH login, what it is answered, and what it leaves behind when nobody answers.
//!
//! Question and answer travel as one frame each way ([`crate::frame`]) over [`SOCKET`]; the gate closes the connection afterwards.
//! These types never say which connection it is about: the daemon takes that from `SO_PEERCRED` (the gate's process, whose parent
//! is that connection's sshd), because everything in a [`Question`] comes from PAM's environment.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, de::Error};

/// Where the daemon listens for the gate: root, 0600.
pub const SOCKET: &str = "/run/lockdownd/gate.sock";
/// Stands exactly while enforce is on (root, 0600): a gate without an answer refuses then.
pub const ENFORCING: &str = "/var/lib/lockdownd/enforcing";
/// sshd's drop-in, which stands while enforce is on, too: the disk that holds [`ENFORCING`] may be missing. It has a line
/// `Match User ACCOUNT` for each exempt account.
pub const DROP_IN: &str = "/etc/ssh/sshd_config.d/00-lockdownd.conf";
/// The exempt accounts, one a line (root, 0600). PAM itself lets them by (`pam_listfile`).
pub const EXEMPT: &str = "/var/lib/lockdownd/exempt";
/// Where the gate leaves an [`EmergencyNote`] for each exempt login that the daemon did not hear of (root, 0700).
/// A name that begins with a dot is a note still being written.
pub const EMERGENCY: &str = "/var/lib/lockdownd/emergency";

/// The gate's argument by which the daemon makes sure that PAM would run the gate and nothing else. It prints [`PROBED`] and
/// its version, and fails: in a line of PAM's it lets nobody by.
pub const PROBE: &str = "--probe";
/// What the answer to [`PROBE`] begins with.
pub const PROBED: &str = "lockdownd login-gate";

/// How long the gate waits for an answer, from connecting to the last byte.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// How long it waits where the account is exempt, and so let by in any case. PAM asks twice: 2 s in all are not passed.
pub const EXEMPT_PATIENCE: Duration = Duration::from_millis(800);
/// The longest account name in a question, in bytes (as [`record::Account`]).
pub const MAX_ACCOUNT: usize = 255;
/// The longest of the short texts (host, connection, service, tty), in bytes.
pub const MAX_ITEM: usize = 1024;
/// The longest `SSH_AUTH_INFO_0`, in bytes: several methods, each with a whole key or certificate.
pub const MAX_AUTH_INFO: usize = 64 * 1024;
/// The longest text shown to a person who is refused, in bytes.
pub const MAX_TEXT: usize = 4096;
/// The largest question or answer on the wire, in bytes of JSON: the texts above, none of which JSON can make more than six times as long.
pub const MAX_FRAME: usize = 512 * 1024;
/// At most this many emergency notes are kept; a login after that leaves none.
pub const MAX_NOTES: usize = 10_000;
/// The largest emergency note, in bytes.
pub const MAX_NOTE: u64 = MAX_FRAME as u64 + 1024;

/// Which of PAM's two questions it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// `account`: somebody has authenticated to the account, nobody knows yet with what.
    Account,
    /// `open_session`: `auth_info` says with what.
    Session,
}

/// What the gate knows of one login, all of it from the environment that PAM gave it. Nothing here is parsed yet, only bounded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// The step of the login.
    pub step: Step,
    /// `PAM_USER`: the account, at most [`MAX_ACCOUNT`] bytes.
    #[serde(deserialize_with = "text::<MAX_ACCOUNT, _>")]
    pub account: String,
    /// `PAM_RHOST`: the peer as sshd tells PAM, an address or a name.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "maybe::<MAX_ITEM, _>")]
    pub remote_host: Option<String>,
    /// `SSH_CONNECTION`: "address port address port", the client's first (ssh(1)).
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "maybe::<MAX_ITEM, _>")]
    pub connection: Option<String>,
    /// `SSH_AUTH_INFO_0`: the methods that succeeded, one a line, with the whole public key for `publickey`; absent in the account step.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "maybe::<MAX_AUTH_INFO, _>")]
    pub auth_info: Option<String>,
    /// `PAM_SERVICE`.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "maybe::<MAX_ITEM, _>")]
    pub service: Option<String>,
    /// `PAM_TTY`; sshd says "ssh" before there is one.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "maybe::<MAX_ITEM, _>")]
    pub tty: Option<String>,
}

/// The daemon's word on a login.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case", deny_unknown_fields)]
#[must_use = "a login goes on only by an answer that allows it"]
pub enum Answer {
    /// The login may go on.
    Allow {
        /// What the person is shown where they log in to a terminal, at most [`MAX_TEXT`] bytes.
        #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "maybe::<MAX_TEXT, _>")]
        text: Option<String>,
    },
    /// The login ends here.
    Refuse {
        /// What the person is shown: a few lines, at most [`MAX_TEXT`] bytes.
        #[serde(deserialize_with = "text::<MAX_TEXT, _>")]
        text: String,
    },
}

impl Answer {
    /// The login may go on, and nothing is said.
    pub fn allow() -> Self {
        Self::Allow { text: None }
    }
}

/// A login to an exempt account while the daemon did not answer; the daemon records it when it is back, then removes the note.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmergencyNote {
    /// What would have been asked.
    pub question: Question,
    /// When, by the wall clock.
    pub time: Timestamp,
    /// The kernel's boot id at that time, if it could be read.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "maybe::<MAX_ITEM, _>")]
    pub boot: Option<String>,
    /// The process id of that connection's sshd at that time.
    pub sshd: u32,
}

fn text<'de, const MOST: usize, D: Deserializer<'de>>(input: D) -> Result<String, D::Error> {
    let text = String::deserialize(input)?;
    if text.len() > MOST {
        return Err(D::Error::custom(format!("a text of {} bytes where at most {MOST} are taken", text.len())));
    }
    Ok(text)
}

fn maybe<'de, const MOST: usize, D: Deserializer<'de>>(input: D) -> Result<Option<String>, D::Error> {
    text::<MOST, D>(input).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question() -> Question {
        Question {
            step: Step::Session,
            account: "ubuntu".into(),
            remote_host: Some("192.0.2.7".into()),
            connection: Some("192.0.2.7 4711 192.0.2.1 22".into()),
            auth_info: Some("publickey ssh-ed25519 AAAA\n".into()),
            service: Some("sshd".into()),
            tty: None,
        }
    }

    #[test]
    fn a_question_reads_back_as_it_was_written() {
        let wire = serde_json::to_string(&question()).unwrap();
        assert_eq!(serde_json::from_str::<Question>(&wire).unwrap(), question());
        assert!(wire.contains(r#""step":"session""#) && !wire.contains("tty"), "{wire}");
    }

    #[test]
    fn texts_past_their_bounds_are_not_taken() {
        for (account, auth_info, taken) in
            [(MAX_ACCOUNT, MAX_AUTH_INFO, true), (MAX_ACCOUNT + 1, 1, false), (1, MAX_AUTH_INFO + 1, false)]
        {
            let long =
                Question { account: "a".repeat(account), auth_info: Some("\u{1}".repeat(auth_info)), ..question() };
            let wire = serde_json::to_vec(&long).unwrap();
            assert_eq!(serde_json::from_slice::<Question>(&wire).is_ok(), taken);
            assert!(!taken || wire.len() < MAX_FRAME, "{} bytes fill no frame", wire.len());
        }
        let refusal = serde_json::to_vec(&Answer::Refuse { text: "a".repeat(MAX_TEXT + 1) }).unwrap();
        assert!(serde_json::from_slice::<Answer>(&refusal).is_err());
    }

    #[test]
    fn only_the_exact_words_allow() {
        assert_eq!(serde_json::from_str::<Answer>(r#"{"answer":"allow"}"#).unwrap(), Answer::allow());
        let told = Answer::Allow { text: Some("until 18:00".to_owned()) };
        assert_eq!(serde_json::from_str::<Answer>(&serde_json::to_string(&told).unwrap()).unwrap(), told);
        assert_eq!(
            serde_json::to_string(&Answer::allow()).unwrap(),
            r#"{"answer":"allow"}"#,
            "as an older gate knows it"
        );
        for wrong in ["{}", "true", r#""allow""#, r#"{"answer":"Allow"}"#, r#"{"answer":"allow","if":"later"}"#, "[]"] {
            assert!(serde_json::from_str::<Answer>(wrong).is_err(), "{wrong} was taken for an answer");
        }
    }
}
