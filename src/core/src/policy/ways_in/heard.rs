//! Whether what an sshd logs reaches the daemon, and whether its logins have to be looked for besides.

use super::{Login, Observed, RunBy, Sshd};

/// At these levels of `LogLevel`, sshd does not say whom it lets in. It prints `QUIET` as `SILENT`.
const TOO_LITTLE: [(&str, &str); 4] = [("silent", "QUIET"), ("quiet", "QUIET"), ("fatal", "FATAL"), ("error", "ERROR")];

/// Why some of root's sshds does not tell the daemon whom it lets in and whom not, with the line that mends it.
pub(super) fn unheard(sshd: &Sshd) -> Option<String> {
    let level = |login: &Login| {
        let level = login.settings.get("loglevel")?.to_lowercase();
        TOO_LITTLE.iter().find(|(printed, _)| *printed == level).map(|(_, name)| *name)
    };
    let (why, mends) = match (&sshd.unlogged, sshd.logins.iter().find_map(|login| Some((login, level(login)?)))) {
        (Some(why), _) => (why.clone(), "start it as /usr/sbin/sshd, without that".to_owned()),
        (None, Some((login, level))) => {
            (format!("LogLevel {level} for {}", login.whom), format!("`LogLevel INFO` in {}", sshd.config))
        }
        (None, None) => return None,
    };
    Some(format!(
        "{}: {why} keeps its logins and failures out of the journal: failed logins there are not on record; {mends} mends it",
        sshd.name
    ))
}

/// Whether somebody could log in at one of root's sshds without the gate's being asked: then the log is all that could
/// tell of it in time, and it is not relied upon.
#[must_use]
pub fn has_ungated(observed: &Observed) -> bool {
    let passes = |login: &Login| !login.settings.is_yes("usepam") || login.gate.is_err();
    let is_ungated = |sshd: &Sshd| sshd.unreadable.is_some() || sshd.logins.iter().any(passes);
    observed.servers.sshds.iter().any(|sshd| sshd.run_by == RunBy::Root && is_ungated(sshd))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::policy::ways_in::{Settings, Surveyed, warnings};

    fn sshd(settings: &[(&str, &str)]) -> Sshd {
        let settings = settings.iter().map(|(key, value)| ((*key).to_owned(), vec![(*value).to_owned()]));
        let settings = Settings::new(settings.collect::<BTreeMap<_, _>>());
        let login = Login { whom: "any account".into(), root: false, exempt: false, settings, gate: Ok(()) };
        let config = "/etc/ssh/odd.conf".to_owned();
        Sshd { name: "odd".into(), config, logins: vec![login], ..Sshd::default() }
    }

    fn observed(sshd: Sshd) -> Observed {
        let servers = Surveyed { sshds: vec![sshd], ..Surveyed::default() };
        Observed { enforces: true, servers, ..Observed::default() }
    }

    #[test]
    fn an_sshd_that_logs_too_little_or_elsewhere_is_warned_of_with_the_line_that_mends_it() {
        for (printed, level) in [("SILENT", "QUIET"), ("FATAL", "FATAL"), ("ERROR", "ERROR")] {
            let told = warnings(&observed(sshd(&[("usepam", "yes"), ("loglevel", printed)])));
            let [told] = told.as_slice() else { panic!("{level}: {told:?}") };
            assert!(told.contains(level) && told.contains("`LogLevel INFO` in /etc/ssh/odd.conf"), "{told}");
        }
        for level in ["INFO", "VERBOSE", "DEBUG3"] {
            assert!(warnings(&observed(sshd(&[("usepam", "yes"), ("loglevel", level)]))).is_empty(), "{level}");
        }
        let elsewhere = Sshd { unlogged: Some("-E /var/log/odd".into()), ..sshd(&[("loglevel", "INFO")]) };
        assert!(warnings(&observed(elsewhere))[0].contains("-E /var/log/odd"));
        let users = Sshd { run_by: RunBy::User { uid: 7, pid: 7 }, ..sshd(&[("loglevel", "QUIET")]) };
        assert!(warnings(&observed(users)).is_empty(), "a user's own is a way in, and no setting of root's");
    }

    #[test]
    fn logins_are_looked_for_where_the_gate_may_not_be_asked_and_nowhere_else() {
        assert!(!has_ungated(&observed(sshd(&[("usepam", "yes"), ("loglevel", "QUIET")]))), "the gate tells of them");
        assert!(has_ungated(&observed(sshd(&[("usepam", "no"), ("loglevel", "INFO")]))));
        assert!(has_ungated(&observed(Sshd { unreadable: Some("odd".into()), ..sshd(&[("usepam", "yes")]) })));
        let mut without = sshd(&[("usepam", "yes")]);
        without.logins[0].gate = Err("it is not in the stack".into());
        assert!(has_ungated(&observed(without)));
        assert!(!has_ungated(&Observed::default()));
    }
}
