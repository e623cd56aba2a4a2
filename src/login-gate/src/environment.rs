//! PAM's environment → the question to ask. Pure: the variables come in as an argument.
//!
//! pam_exec(8) hands over PAM's environment list, which modules fill from files (`~/.pam_environment` among them), and appends
//! `PAM_USER` and its like behind it. So a variable that stands twice may have been set by the user who is asked about:
//! nothing is believed then.

use std::ffi::OsString;

use control::gate::{MAX_ACCOUNT, MAX_AUTH_INFO, MAX_ITEM, Question, Step};

/// What PAM's environment says of the login.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Login {
    /// No SSH login, or no step that is asked about: `su`, `sudo`, cron, a session's close.
    NotOurs,
    /// An SSH login with all that is to be asked.
    Ssh(Question),
    /// Surely an SSH login, but what PAM says of it cannot be believed or taken.
    Doubtful {
        /// The step it may be; [`Step::Session`] where that is in doubt as well.
        step: Step,
        /// What is wrong, as the end of a sentence.
        why: String,
    },
}

/// Reads what the gate needs from `variables`, in any order.
///
/// That sshd is asking is told by the variables that it alone sets, empty or not: the PAM service can be renamed (`PAMServiceName`).
pub(crate) fn read(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Login {
    let mut seen = Seen::default();
    for (name, value) in variables {
        if let Some(values) = name.to_str().and_then(|name| seen.slot(name)) {
            values.push(value);
        }
    }
    if seen.connection.is_empty() && seen.auth_info.is_empty() {
        return Login::NotOurs;
    }
    let step = match seen.kind.as_slice() {
        [kind] if kind == "account" => Step::Account,
        [kind] if kind == "open_session" => Step::Session,
        [_] => return Login::NotOurs,
        _ => return Login::Doubtful { step: Step::Session, why: "PAM_TYPE is not set exactly once".to_owned() },
    };
    match seen.question(step) {
        Ok(question) => Login::Ssh(question),
        Err(why) => Login::Doubtful { step, why },
    }
}

/// Every value of each variable the gate uses.
#[derive(Default)]
struct Seen {
    kind: Vec<OsString>,
    user: Vec<OsString>,
    remote_host: Vec<OsString>,
    service: Vec<OsString>,
    tty: Vec<OsString>,
    connection: Vec<OsString>,
    auth_info: Vec<OsString>,
}

impl Seen {
    fn slot(&mut self, name: &str) -> Option<&mut Vec<OsString>> {
        Some(match name {
            "PAM_TYPE" => &mut self.kind,
            "PAM_USER" => &mut self.user,
            "PAM_RHOST" => &mut self.remote_host,
            "PAM_SERVICE" => &mut self.service,
            "PAM_TTY" => &mut self.tty,
            "SSH_CONNECTION" => &mut self.connection,
            "SSH_AUTH_INFO_0" => &mut self.auth_info,
            _ => return None,
        })
    }

    fn question(self, step: Step) -> Result<Question, String> {
        Ok(Question {
            step,
            account: one("PAM_USER", self.user, MAX_ACCOUNT)?.ok_or("PAM_USER is not set")?,
            remote_host: one("PAM_RHOST", self.remote_host, MAX_ITEM)?,
            connection: one("SSH_CONNECTION", self.connection, MAX_ITEM)?,
            auth_info: one("SSH_AUTH_INFO_0", self.auth_info, MAX_AUTH_INFO)?,
            service: one("PAM_SERVICE", self.service, MAX_ITEM)?,
            tty: one("PAM_TTY", self.tty, MAX_ITEM)?,
        })
    }
}

/// The one value of `name`; an empty one tells nothing, as none does (sshd sets an empty `SSH_AUTH_INFO_0` in the account step).
fn one(name: &str, mut values: Vec<OsString>, most: usize) -> Result<Option<String>, String> {
    if values.len() > 1 {
        return Err(format!("{name} is set more than once"));
    }
    let Some(value) = values.pop() else { return Ok(None) };
    if value.len() > most {
        return Err(format!("{name} is longer than {most} bytes"));
    }
    let text = value.into_string().map_err(|_| format!("{name} is not UTF-8"))?;
    Ok(Some(text).filter(|text| !text.is_empty()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    const LOGIN: &[(&str, &str)] = &[
        ("SSH_AUTH_INFO_0", "publickey ssh-ed25519 AAAA\n"),
        ("SSH_CONNECTION", "192.0.2.7 4711 192.0.2.1 22"),
        ("PAM_USER", "ubuntu"),
        ("PAM_RHOST", "192.0.2.7"),
        ("PAM_SERVICE", "sshd"),
        ("PAM_TTY", "ssh"),
        ("PAM_TYPE", "open_session"),
    ];

    fn pairs(variables: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
        variables.iter().map(|(name, value)| (name.into(), value.into())).collect()
    }

    /// [`LOGIN`] with `name` set to `value` instead.
    fn with(name: &str, value: impl Into<OsString>) -> Vec<(OsString, OsString)> {
        let mut variables = without(name);
        variables.push((name.into(), value.into()));
        variables
    }

    fn without(name: &str) -> Vec<(OsString, OsString)> {
        pairs(LOGIN).into_iter().filter(|(n, _)| n != name).collect()
    }

    #[test]
    fn a_login_becomes_the_question_whatever_the_order() {
        let asked = Question {
            step: Step::Session,
            account: "ubuntu".into(),
            remote_host: Some("192.0.2.7".into()),
            connection: Some("192.0.2.7 4711 192.0.2.1 22".into()),
            auth_info: Some("publickey ssh-ed25519 AAAA\n".into()),
            service: Some("sshd".into()),
            tty: Some("ssh".into()),
        };
        assert_eq!(read(pairs(LOGIN)), Login::Ssh(asked.clone()));
        assert_eq!(read(pairs(LOGIN).into_iter().rev()), Login::Ssh(asked));
    }

    #[test]
    fn an_empty_variable_of_sshd_still_makes_it_an_ssh_login() {
        let bare = [("PAM_TYPE", "account"), ("PAM_USER", "ubuntu"), ("SSH_AUTH_INFO_0", "")];
        let Login::Ssh(question) = read(pairs(&bare)) else { panic!("not taken for an SSH login") };
        assert_eq!((question.step, question.auth_info), (Step::Account, None));
        assert!(matches!(read(pairs(&[("PAM_TYPE", "account"), ("SSH_CONNECTION", "")])), Login::Doubtful { .. }));
    }

    #[test]
    fn without_a_variable_of_sshd_it_is_not_ours() {
        let su = [("PAM_TYPE", "open_session"), ("PAM_USER", "ubuntu"), ("PAM_SERVICE", "su")];
        assert_eq!(read(pairs(&su)), Login::NotOurs);
        assert_eq!(read([]), Login::NotOurs);
    }

    #[test]
    fn a_session_s_close_and_other_steps_are_not_asked_about() {
        for kind in ["close_session", "auth", "password", ""] {
            assert_eq!(read(with("PAM_TYPE", kind)), Login::NotOurs, "{kind}");
        }
    }

    #[test]
    fn any_variable_that_stands_twice_is_doubtful_even_with_the_same_value() {
        for (name, value) in LOGIN {
            for second in [*value, "account", ""] {
                let twice = [pairs(&[(name, second)]), pairs(LOGIN)].concat();
                let Login::Doubtful { step, why } = read(twice) else { panic!("{name} twice was believed") };
                assert_eq!(step, Step::Session);
                assert!(why.starts_with(name), "{why}");
            }
        }
    }

    #[test]
    fn a_doubtful_type_counts_as_the_session_step() {
        assert!(matches!(read(without("PAM_TYPE")), Login::Doubtful { step: Step::Session, .. }));
    }

    #[test]
    fn an_account_that_is_missing_empty_or_not_text_is_doubtful() {
        for odd in [without("PAM_USER"), with("PAM_USER", ""), with("PAM_USER", OsString::from_vec(vec![b'a', 0xff]))] {
            assert!(matches!(read(odd), Login::Doubtful { .. }));
        }
    }

    #[test]
    fn values_past_their_bounds_are_doubtful() {
        for (name, most) in [("PAM_USER", MAX_ACCOUNT), ("PAM_RHOST", MAX_ITEM), ("SSH_AUTH_INFO_0", MAX_AUTH_INFO)] {
            assert!(matches!(read(with(name, "x".repeat(most))), Login::Ssh(_)), "{name}");
            assert!(matches!(read(with(name, "x".repeat(most + 1))), Login::Doubtful { .. }), "{name}");
        }
    }

    #[test]
    fn variables_that_are_not_used_change_nothing() {
        let mut more = pairs(&[("LD_PRELOAD", "/tmp/evil.so"), ("PAM_USERS", "root"), ("PAM_USERS", "root")]);
        more.extend(pairs(LOGIN));
        assert_eq!(read(more), read(pairs(LOGIN)));
    }
}
