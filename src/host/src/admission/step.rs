//! What PAM says of an account, and libwrap of an address. PAM's account step is asked, in the service that sshd uses and without
//! a login; its session step, which cannot be run without one, is looked through for what must fail.

use std::{collections::BTreeSet, net::IpAddr, path::Path, time::Duration};

use asker::{Account, DROPS};
use lockdown_core::policy::admission::Pam;

use crate::{
    child::{self, Bounds, Output},
    pam::{self, Line, Stack, Step, Why},
    sshd::scan::{Disk, Files as _},
};

/// What asks the libraries.
const ASKER: &str = "/usr/lib/lockdownd/asker";
/// How long it may take: a module may ask a directory of accounts.
const BOUNDS: Bounds = Bounds { time: Duration::from_secs(10), output: 64 << 10 };
/// PAM_SUCCESS and PAM_NEW_AUTHTOK_REQD of Linux-PAM: after the second sshd gives no shell, but has the password changed.
const SUCCESS: i32 = 0;
const MUST_CHANGE: i32 = 12;
/// What modules return that could not find out: service_err, system_err, authinfo_unavail, conv_err, try_again.
const NOT_KNOWN: [i32; 5] = [3, 4, 9, 19, 24];
/// Modules of the account step that go by the account alone, whenever and from wherever somebody comes.
const BY_ACCOUNT: [&str; 9] = [
    "pam_deny.so",
    "pam_faillock.so",
    "pam_listfile.so",
    "pam_localuser.so",
    "pam_nologin.so",
    "pam_permit.so",
    "pam_succeed_if.so",
    "pam_unix.so",
    "pam_warn.so",
];
/// Runs a program of the site's.
const EXEC: &str = "pam_exec.so";
/// Modules of the session step that refuse nobody, or only what is judged.
const HARMLESS: [&str; 15] = [
    "pam_deny.so",
    "pam_env.so",
    "pam_keyinit.so",
    "pam_lastlog.so",
    "pam_lastlog2.so",
    "pam_limits.so",
    "pam_loginuid.so",
    "pam_mail.so",
    "pam_motd.so",
    "pam_permit.so",
    "pam_selinux.so",
    "pam_systemd.so",
    "pam_umask.so",
    "pam_unix.so",
    "pam_warn.so",
];
/// Rules about addresses: access.conf(5), hosts_access(5).
const ACCESS: [&str; 2] = ["/etc/security/access.conf", "/etc/security/access.d/*.conf"];
const HOSTS: [&str; 2] = ["/etc/hosts.allow", "/etc/hosts.deny"];
/// From how many such addresses is asked.
const MAX_ADDRESSES: usize = 8;

/// What came of asking.
#[derive(Debug, Clone, Default)]
pub(super) struct Said {
    /// What the account step says.
    pub(super) pam: Pam,
    /// What cannot be known, a sentence each.
    pub(super) notes: Vec<String>,
}

/// Asks whether PAM's account step lets the account by for a login from this address.
pub(super) fn account(service: &str, account: &str, address: &str) -> Said {
    let (code, text, said) = match ask(service, account, address) {
        Ok(Account::Answered { code, text, said }) => (code, text, said),
        Ok(Account::Unasked(why)) | Err(why) => return unknown(service, &why),
    };
    let others = others(service);
    let mut words = record::escape(text.as_bytes());
    let said = said.iter().map(|line| record::escape(line.trim().as_bytes())).filter(|line| !line.is_empty());
    said.for_each(|line| words.push_str(&format!(": {line}")));
    let in_service = format!("in the service {}", record::escape(service.as_bytes()));
    let pam = match code {
        SUCCESS => Pam::Lets,
        MUST_CHANGE => Pam::Refuses(format!("a shell {in_service}: {words}")),
        // What a program of the site's says counts as it says it.
        code if NOT_KNOWN.contains(&code) && others.iter().any(|module| module != EXEC) => {
            return unknown(service, &format!("{words}; {} may need more than a test has", others.join(", ")));
        }
        _ => Pam::Refuses(format!("{in_service}: {words} (journalctl -t asker tells more)")),
    };
    let note = (pam == Pam::Lets && !others.is_empty()).then(|| {
        format!(
            "PAM's account step lets it by now and from {address}; {} may say otherwise at another time or from elsewhere",
            others.join(", ")
        )
    });
    Said { pam, notes: note.into_iter().collect() }
}

fn unknown(service: &str, why: &str) -> Said {
    let service = record::escape(service.as_bytes());
    let note = format!("what PAM's account step says in the service {service} cannot be told: {why}");
    Said { pam: Pam::Unknown, notes: vec![note] }
}

/// Whether libwrap drops a connection from this address; no where that is not known.
pub(super) fn drops(address: &str) -> bool {
    run(&["takes", address])
        .is_ok_and(|output| String::from_utf8_lossy(&output.stdout).lines().any(|line| line == DROPS))
}

fn run(arguments: &[&str]) -> Result<Output, String> {
    let output = child::run(child::command(Path::new(ASKER), arguments), BOUNDS);
    let output = output.map_err(|error| format!("{ASKER}: {error}"))?;
    output.ok_or_else(|| format!("{ASKER} took longer than {:?}", BOUNDS.time))
}

fn ask(service: &str, account: &str, address: &str) -> Result<Account, String> {
    let output = run(&["account", service, account, address])?;
    // A library may print something of its own.
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let answer = text.lines().find_map(|line| serde_json::from_str(line).ok());
    answer.ok_or_else(|| format!("{ASKER} said nothing ({})", output.status))
}

fn name(line: &Line) -> &str {
    line.module.rsplit('/').next().unwrap_or(&line.module)
}

fn asks_the_gate(line: &Line) -> bool {
    line.args.iter().any(|arg| arg == pam::GATE)
}

fn names_an_address(line: &Line) -> bool {
    line.args.iter().any(|arg| arg.contains("rhost"))
}

/// The modules of the account step that do not go by the account alone.
fn others(service: &str) -> Vec<String> {
    let Ok(stack) = pam::resolve(&Disk, service, Step::Account) else { return Vec::new() };
    let is_other = |line: &&Line| {
        !line.module.is_empty() && !asks_the_gate(line) && (!BY_ACCOUNT.contains(&name(line)) || names_an_address(line))
    };
    names(stack.lines.iter().filter(is_other))
}

fn names<'a>(lines: impl Iterator<Item = &'a Line>) -> Vec<String> {
    let found: BTreeSet<String> = lines.map(|line| name(line).to_owned()).collect();
    found.into_iter().collect()
}

/// Whether it may depend on the address what the account step says. A program of the site's is run once all the same.
pub(super) fn goes_by_address(service: &str) -> bool {
    others(service).iter().any(|module| module != EXEC)
}

/// Addresses that rules of PAM's or libwrap's name: they may let in who comes from one of them alone.
pub(super) fn addresses(service: &str) -> Vec<String> {
    let stack = pam::resolve(&Disk, service, Step::Account).unwrap_or_default();
    let about = |line: &&Line| name(line) == "pam_access.so" || names_an_address(line);
    let args: Vec<&String> = stack.lines.iter().filter(about).flat_map(|line| &line.args).collect();
    let mut texts: Vec<String> = args.iter().map(|arg| (*arg).clone()).collect();
    let own = args.iter().filter_map(|arg| arg.strip_prefix("accessfile="));
    let of_pam = own.chain(ACCESS).filter(|_| goes_by_address(service));
    let files = of_pam.chain(HOSTS).flat_map(|pattern| Disk.glob(pattern).map(|(files, _)| files).unwrap_or_default());
    texts.extend(files.filter_map(|file| Disk.read(&file).ok()).map(|text| without_comments(&text)));
    named_in(&texts.join(" "))
}

fn without_comments(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    text.lines().filter(|line| !line.trim_start().starts_with('#')).collect::<Vec<_>>().join(" ")
}

/// The addresses, and the first of each network, that a text names.
fn named_in(text: &str) -> Vec<String> {
    let word = |word: &str| {
        let address = word.split('/').next().unwrap_or_default();
        let whole = match address.strip_suffix('.') {
            // access.conf(5): a network by its beginning.
            Some(start) => format!("{start}{}", ".1".repeat(4_usize.saturating_sub(start.split('.').count()))),
            None => address.to_owned(),
        };
        whole.parse::<IpAddr>().ok().map(|address| address.to_string())
    };
    let words = text.split(|c: char| c.is_whitespace() || ",=()".contains(c));
    let mut found: Vec<String> = words.filter_map(word).collect();
    found.dedup();
    found.truncate(MAX_ADDRESSES);
    found
}

/// What the session step comes to: what keeps everybody out, and whether it has limits; and what it may do that is not
/// known, a sentence each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Session {
    pub(super) bar: Option<String>,
    pub(super) limits: bool,
    pub(super) notes: Vec<String>,
}

/// Looks through the session step of a service.
pub(super) fn session(service: &str) -> Session {
    match pam::resolve(&Disk, service, Step::Session) {
        Ok(stack) => judged(&stack, pam::module_is_there),
        Err(why @ Why::Unreadable { .. }) if is_missing(&why) => {
            let bar =
                format!("PAM's session step fails for everybody: {why}: put the file there, or take the line out");
            Session { bar: Some(bar), ..Session::default() }
        }
        Err(why) => {
            Session { notes: vec![format!("what PAM's session step does cannot be told: {why}")], ..Session::default() }
        }
    }
}

fn is_missing(why: &Why) -> bool {
    matches!(why, Why::Unreadable { place, .. } if place.line == 0 && !place.file.exists())
}

fn judged(stack: &Stack, is_there: impl Fn(&Line) -> bool) -> Session {
    let bar = pam::must_fail(stack, &is_there).map(|line| {
        let why = if is_there(line) { "refuses everybody" } else { "names a module that is not there" };
        format!("PAM's session step fails for everybody: {}: `{line}` {why}: take it out", line.place)
    });
    let limits = stack.lines.iter().any(|line| name(line) == "pam_limits.so" && line.can_fail());
    let may_refuse = |line: &&Line| {
        !line.module.is_empty() && line.can_fail() && !asks_the_gate(line) && !HARMLESS.contains(&name(line))
    };
    let unknown = names(stack.lines.iter().filter(may_refuse));
    let note = (!unknown.is_empty() && bar.is_none()).then(|| {
        format!("PAM's session step asks {}, which may refuse and was not tried: only a login does", unknown.join(", "))
    });
    Session { bar, limits, notes: note.into_iter().collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_in_rules_of_every_form() {
        let text =
            "+ : breakglass : 10.0.0.0/8 2001:db8::/32 - : ALL : ALL rhost = 192.0.2.7 + : x : 172.16. office.example";
        assert_eq!(named_in(text), ["10.0.0.0", "2001:db8::", "192.0.2.7", "172.16.1.1"]);
    }

    #[test]
    fn a_session_step_that_must_fail_and_modules_that_are_not_known_are_told() {
        let stack = |text: &str| pam::stack_of(text, Step::Session);
        let judged = |text: &str| super::judged(&stack(text), |line| !line.module.contains("gone"));
        assert_eq!(judged("session required pam_unix.so\nsession optional pam_gone.so\n"), Session::default());
        let found =
            judged("session required pam_limits.so\nsession required pam_duo.so\nsession optional pam_mkhomedir.so\n");
        assert!(found.limits && found.bar.is_none() && found.notes[0].contains("asks pam_duo.so, which"), "{found:?}");
        let found = judged("session required pam_unix.so\nsession required pam_deny.so\n");
        assert!(
            found.bar.as_deref().is_some_and(|bar| bar.contains("`required pam_deny.so` refuses everybody")),
            "{found:?}"
        );
        let found = judged("session required pam_gone.so\n");
        assert!(found.bar.as_deref().is_some_and(|bar| bar.contains("a module that is not there")), "{found:?}");
    }
}
