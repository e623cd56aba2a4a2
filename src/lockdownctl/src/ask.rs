//! Asking the daemon, and saying what went wrong in words that help.

use std::{io, path::Path};

use control::{
    ANSWER_TIMEOUT, Answer, CheckError, Client, ClientError, Exit, Refusal, RefusalCode, Request, frame::FrameError,
};
use serde_json::json;

use crate::{
    moment::typed,
    output::{bullets, plain, pretty},
    paint::Paint,
};

/// Why a command could not do what it was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It breaks a bound that the daemon would refuse.
    Usage(CheckError),
    /// The daemon refused.
    Refused(Refusal),
    /// Nobody answered.
    Silent(ClientError),
    /// Something else, here.
    Here {
        /// What failed and where.
        message: String,
        /// What would help.
        hint: Option<String>,
        /// With which exit status.
        exit: Exit,
    },
}

impl Failure {
    /// Something that went wrong here, or was found wrong.
    pub(crate) fn here(message: impl Into<String>) -> Self {
        Self::Here { message: message.into(), hint: None, exit: Exit::Refused }
    }

    /// Adds what would help to [`Failure::here`].
    pub(crate) fn but(self, better: impl Into<String>) -> Self {
        match self {
            Self::Here { message, exit, .. } => Self::Here { message, hint: Some(better.into()), exit },
            other => other,
        }
    }

    /// An answer to something else: the daemon and this program do not match.
    pub(crate) fn mismatch() -> Self {
        Self::Here {
            message: "the daemon gave the answer to something else".to_owned(),
            hint: Some("its version does not match this program's: systemctl restart lockdownd".to_owned()),
            exit: Exit::Unavailable,
        }
    }

    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) => Exit::Usage,
            Self::Refused(refusal) => refusal.exit(),
            Self::Silent(_) => Exit::Unavailable,
            Self::Here { exit, .. } => *exit,
        }
    }

    /// As one refusal, whoever it comes from.
    fn refusal(&self) -> Refusal {
        match self {
            Self::Refused(refusal) => refusal.clone(),
            Self::Usage(error) => Refusal::new(RefusalCode::Malformed, error.to_string()),
            Self::Silent(error) => Refusal::new(RefusalCode::Unavailable, error.to_string()).hint(help(error)),
            Self::Here { message, hint, exit } => {
                let code = match exit {
                    Exit::Usage => RefusalCode::Malformed,
                    Exit::Unavailable => RefusalCode::Unavailable,
                    Exit::Config => RefusalCode::BadConfig,
                    Exit::Done | Exit::Refused => RefusalCode::Failed,
                };
                Refusal { hint: hint.clone(), ..Refusal::new(code, message.clone()) }
            }
        }
    }

    /// For people: what is wrong, one thing a line, then what would have worked.
    pub(crate) fn words(&self) -> String {
        let refusal = self.refusal();
        let details = bullets(&refusal.details, Paint::NONE);
        let hint = refusal.hint.as_ref().map(|hint| format!("  {}\n", plain(hint))).unwrap_or_default();
        // One that ends in a colon is the heading of what follows.
        let is_heading = hint.ends_with(":\n") && !details.is_empty();
        let (first, then) = if is_heading { (hint, details) } else { (details, hint) };
        format!("lockdownctl: {}\n{first}{then}", plain(&refusal.message))
    }

    /// For programs.
    pub(crate) fn json(&self) -> String {
        pretty(&json!({ "refusal": self.refusal() }))
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Asks the daemon at `socket`.
pub(crate) fn ask(socket: &Path, request: &Request) -> Result<Answer, Failure> {
    request.check().map_err(Failure::Usage)?;
    let response = Client::connect(socket).and_then(|client| client.ask(request)).map_err(Failure::Silent)?;
    Ok(response?)
}

/// What to do when nobody answers.
fn help(error: &ClientError) -> String {
    const LOOK: &str = "systemctl status lockdownd; journalctl -u lockdownd -e";
    match error {
        ClientError::Connect { error, .. } => match error.kind() {
            io::ErrorKind::NotFound => format!("lockdownd is not installed or was stopped: {LOOK}"),
            io::ErrorKind::ConnectionRefused => format!("nobody listens there: systemctl start lockdownd; {LOOK}"),
            _ => LOOK.to_owned(),
        },
        ClientError::Talk { error: FrameError::Io(error), .. } => match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                format!("the daemon did not answer within {}: {LOOK}", typed(ANSWER_TIMEOUT))
            }
            _ => format!("the daemon closed the connection without an answer, it may be restarting: {LOOK}"),
        },
        ClientError::Talk { .. } => {
            format!("the daemon's version does not match this program's: systemctl restart lockdownd; {LOOK}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connect(kind: io::ErrorKind) -> Failure {
        Failure::Silent(ClientError::Connect { path: control::SOCKET.into(), error: kind.into() })
    }

    #[test]
    fn a_daemon_that_is_not_there_is_status_69_with_where_to_look() {
        for kind in [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused, io::ErrorKind::TimedOut] {
            let failure = connect(kind);
            assert_eq!(failure.exit(), Exit::Unavailable);
            assert!(failure.words().contains("systemctl status lockdownd"), "{}", failure.words());
        }
    }

    #[test]
    fn a_refusal_shows_every_detail_and_what_would_have_worked() {
        let refusal = Refusal::new(RefusalCode::UnknownPerson, "there is no person franc")
            .detail("frank\x1b[2J")
            .hint("lockdownctl people lists them");
        let failure = Failure::from(refusal);
        assert_eq!(
            failure.words(),
            "lockdownctl: there is no person franc\n  - frank\\x1b[2J\n  lockdownctl people lists them\n"
        );
        let json: serde_json::Value = serde_json::from_str(&failure.json()).unwrap();
        assert_eq!(json["refusal"]["code"], "unknown_person");
        assert_eq!(failure.exit(), Exit::Refused);
        let heading = Refusal::new(RefusalCode::UnknownPerson, "no").detail("frank").hint("these exist:");
        assert_eq!(Failure::from(heading).words(), "lockdownctl: no\n  these exist:\n  - frank\n");
    }

    #[test]
    fn each_exit_status_is_the_one_that_is_promised() {
        let refused = |code| Failure::from(Refusal::new(code, "no")).exit() as u8;
        assert_eq!(refused(RefusalCode::NotReady), 1);
        assert_eq!(refused(RefusalCode::Malformed), 2);
        assert_eq!(refused(RefusalCode::Unavailable), 69);
        assert_eq!(refused(RefusalCode::BadConfig), 78);
        assert_eq!(Failure::mismatch().exit() as u8, 69);
        assert_eq!(Failure::Usage(CheckError::Limit(0)).exit() as u8, 2);
    }
}
