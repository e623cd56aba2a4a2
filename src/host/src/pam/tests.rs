use std::{collections::BTreeMap, io};

use super::*;

/// A `/etc/pam.d` by file name.
#[derive(Clone, Default)]
struct Pam(BTreeMap<PathBuf, String>);

impl Pam {
    fn of(files: &[(&str, &str)]) -> Self {
        Self(files.iter().map(|(name, text)| (Path::new("/etc/pam.d").join(name), (*text).to_owned())).collect())
    }

    fn edit(mut self, name: &str, change: impl Fn(&str) -> String) -> Self {
        let text = self.0.get_mut(&Path::new("/etc/pam.d").join(name)).expect("a file");
        *text = change(text);
        self
    }

    fn gate(&self, step: Step) -> Result<(), Why> {
        gate_stands(&resolve(self, "sshd", step)?, "sshd", step)
    }
}

impl Files for Pam {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.0.get(path).map(|text| text.clone().into_bytes()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
    fn glob(&self, _: &str) -> io::Result<(Vec<PathBuf>, Vec<PathBuf>)> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// As Debian 12 and 13 have them, after `pam-auth-update` has put the gate in.
fn debian() -> [Pam; 2] {
    [
        Pam::of(&[
            ("sshd", include_str!("stacks/bookworm-sshd")),
            ("common-account", include_str!("stacks/bookworm-common-account")),
            ("common-session", include_str!("stacks/bookworm-common-session")),
            ("common-auth", ""),
            ("common-password", ""),
        ]),
        Pam::of(&[
            ("sshd", include_str!("stacks/trixie-sshd")),
            ("common-account", include_str!("stacks/trixie-common-account")),
            ("common-session", include_str!("stacks/trixie-common-session")),
            ("common-auth", ""),
            ("common-password", ""),
        ]),
    ]
}

fn gate(step: Step) -> String {
    step.gate().iter().fold(String::new(), |text, line| format!("{text}{} {line}\n", step.as_str()))
}

/// A stack of one file: these lines, the gate in the place of `GATE`.
fn one(step: Step, text: &str) -> Result<(), Why> {
    Pam::of(&[("sshd", &text.replace("GATE\n", &gate(step)))]).gate(step)
}

#[test]
fn the_gate_stands_in_debians_stacks_as_pam_auth_update_writes_them() {
    for pam in debian() {
        assert_eq!(pam.gate(Step::Account), Ok(()));
        assert_eq!(pam.gate(Step::Session), Ok(()));
    }
}

#[test]
fn ats_daemon_passes_the_gate_and_an_sshd_by_its_service_is_found_to() {
    let line = "[success=4 default=ignore] pam_succeed_if.so quiet service = atd";
    for step in [Step::Account, Step::Session] {
        let text = format!("{step} {line}\n{}", gate(step), step = step.as_str());
        let pam = Pam::of(&[("sshd", &text), ("atd", &text)]);
        assert_eq!(pam.gate(step), Ok(()));
        let by_at = gate_stands(&resolve(&pam, "atd", step).expect("a stack"), "atd", step);
        assert!(matches!(by_at, Err(Why::Bypassed { .. })), "{by_at:?}");
        for other in ["service = sshd", "service = atd user = frank", "service != atd", "user = atd"] {
            let text = text.replace("service = atd", other);
            assert!(matches!(one(step, &text), Err(Why::Bypassed { .. })), "{other}");
        }
    }
}

#[test]
fn without_its_lines_the_gate_does_not_stand_and_the_remedy_is_named() {
    let without = |text: &str| {
        let kept =
            text.lines().filter(|line| !line.contains("lockdownd") && !line.contains("default=1]\t\tpam_permit"));
        kept.collect::<Vec<_>>().join("\n")
    };
    for (step, file) in [(Step::Account, "common-account"), (Step::Session, "common-session")] {
        for pam in debian() {
            let why = pam.edit(file, without).gate(step).expect_err("no gate");
            assert!(matches!(&why, Why::Missing { common: true, .. }), "{why}");
            assert!(why.to_string().contains("pam-auth-update --enable lockdownd"), "{why}");
        }
    }
    let why = Pam::of(&[("sshd", "account required pam_unix.so\n")]).gate(Step::Account).expect_err("no gate");
    assert!(why.to_string().contains("/etc/pam.d/sshd"), "{why}");
}

#[test]
fn every_change_to_one_of_the_four_lines_is_found() {
    for (from, to) in [
        ("onerr=fail", "onerr=succeed"),
        ("sense=allow", "sense=deny"),
        ("item=user", "item=tty"),
        ("file=/var/lib/lockdownd/exempt", "file=/home/frank/exempt"),
        ("[success=ignore default=2]", "[success=ignore default=3]"),
        ("requisite\tpam_exec.so", "optional\tpam_exec.so"),
        ("requisite\tpam_exec.so", "required\tpam_exec.so"),
        ("type=open_session", "type=close_session"),
        (" type=open_session", ""),
        ("/usr/lib/lockdownd/login-gate", "/usr/local/bin/login-gate"),
        ("/usr/lib/lockdownd/login-gate", "seteuid /usr/lib/lockdownd/login-gate"),
        ("pam_listfile.so", "/home/frank/pam_listfile.so"),
        ("[success=1 default=1]\tpam_permit.so", "[success=2 default=2]\tpam_permit.so"),
    ] {
        for pam in debian() {
            let before = pam.clone();
            let pam = pam.edit("common-session", |text| text.replace(from, to));
            assert_ne!(before.0, pam.0, "{from} is there to be changed");
            let why = pam.gate(Step::Session).expect_err(to);
            assert!(matches!(why, Why::Altered { .. }), "{to}: {why}");
        }
    }
    let why = debian()[0].clone().edit("common-account", |text| text.replace("onerr=fail", "")).gate(Step::Account);
    let why = why.expect_err("changed").to_string();
    assert!(why.starts_with("/etc/pam.d/common-account:") && why.contains("onerr=fail"), "{why}");
}

#[test]
fn whatever_can_let_a_login_by_before_the_gate_is_found() {
    for before in [
        "account sufficient pam_localuser.so\n",
        "account [success=done default=ignore] pam_access.so\n",
        "account [default=done] pam_unix.so\n",
        "account [success=4 default=ignore] pam_localuser.so\n",
        "account [success=1 default=ignore] pam_localuser.so\n",
        "account [user_unknown=2 default=ignore] pam_localuser.so\n",
        "account [success=1 default=bad] pam_unix.so\naccount requisite pam_deny.so\naccount sufficient pam_permit.so\n",
        "account SUFFICIENT pam_localuser.so\n",
        "account \\\n  sufficient \\\n pam_localuser.so\n",
        "-account sufficient pam_sss.so\n",
    ] {
        let why = one(Step::Account, &format!("{before}GATE\n")).expect_err(before);
        assert!(matches!(why, Why::Bypassed { .. }), "{before}: {why}");
    }
}

#[test]
fn what_cannot_let_a_login_by_is_let_be() {
    for before in [
        "",
        "account required pam_nologin.so\naccount requisite pam_access.so\naccount optional pam_x.so\n",
        "account [success=1 default=ignore] pam_unix.so\naccount requisite pam_deny.so\naccount required pam_permit.so\n",
        "account [success=1 new_authtok_reqd=done default=ignore] pam_unix.so\naccount requisite pam_deny.so\n",
        "account [default=1] pam_permit.so\naccount sufficient pam_never_reached.so\n",
        "account [success=ok default=die] pam_access.so\n",
        "account sufficient pam_deny.so\n",
        "# account sufficient pam_localuser.so\n",
        "auth sufficient pam_localuser.so\nsession sufficient pam_localuser.so\n",
    ] {
        assert_eq!(one(Step::Account, &format!("{before}GATE\naccount sufficient pam_sss.so\n")), Ok(()), "{before}");
    }
    let session =
        "session [success=1 new_authtok_reqd=done default=ignore] pam_unix.so\nsession required pam_deny.so\nGATE\n";
    assert!(matches!(one(Step::Session, session), Err(Why::Bypassed { .. })), "only the account step is excused");
}

#[test]
fn nothing_serves_the_user_before_the_gate() {
    for before in ["session optional pam_systemd.so\n", "session required pam_env.so user_readenv=1\n"] {
        let why = one(Step::Session, &format!("{before}GATE\n")).expect_err(before);
        assert!(matches!(why, Why::Late { .. }), "{why}");
        assert_eq!(one(Step::Session, &format!("GATE\n{before}")), Ok(()));
    }
}

#[test]
fn includes_are_followed_and_substacks_kept_apart() {
    let files = |sshd: &str, inner: &str| {
        let fill = |text: &str| text.replace("GATE\n", &gate(Step::Account));
        Pam::of(&[("sshd", &fill(sshd)), ("inner", &fill(inner))]).gate(Step::Account)
    };
    assert_eq!(files("account include inner\n", "GATE\n"), Ok(()));
    assert_eq!(files("@include inner\n", "session required x.so\nGATE\n"), Ok(()));
    assert!(matches!(files("account substack inner\n", "GATE\n"), Err(Why::InSubstack { .. })));
    // `done` in a substack ends the substack alone; in an included file it ends everything.
    assert_eq!(files("account substack inner\nGATE\n", "account sufficient pam_x.so\n"), Ok(()));
    assert!(matches!(
        files("account include inner\nGATE\n", "account sufficient pam_x.so\n"),
        Err(Why::Bypassed { .. })
    ));
    // A substack is one module to a jump.
    let jump = "account [success=1 default=ignore] pam_x.so\naccount substack inner\nGATE\n";
    assert_eq!(files(jump, "account required a.so\naccount required b.so\n"), Ok(()));
    assert!(matches!(files(&jump.replace("success=1", "success=2"), ""), Err(Why::Bypassed { .. })));
    let endless = files("account include sshd\n", "");
    assert!(matches!(endless, Err(Why::Unreadable { .. })), "{endless:?}");
    assert!(matches!(files("account include gone\nGATE\n", ""), Err(Why::Unreadable { .. })));
}

#[test]
fn a_service_without_a_stack_has_that_of_other() {
    let pam = Pam::of(&[("other", &gate(Step::Account)), ("odd", "session required pam_unix.so\n")]);
    for service in ["renamed", "odd", "ODD"] {
        assert_eq!(
            gate_stands(&resolve(&pam, service, Step::Account).expect("a stack"), service, Step::Account),
            Ok(())
        );
    }
    assert!(matches!(gate_stands(&Stack::default(), "x", Step::Session), Err(Why::Missing { .. })));
    assert!(resolve(&pam, "../etc/passwd", Step::Account).is_err());
    assert!(resolve(&pam, "", Step::Account).is_err());
}

#[test]
fn what_libpam_would_refuse_is_no_gate() {
    for odd in
        ["account maybe pam_x.so\nGATE\n", "account [success=perhaps] pam_x.so\nGATE\n", "account required\nGATE\n"]
    {
        assert!(matches!(one(Step::Account, odd), Err(Why::Unreadable { .. })), "{odd}");
    }
}

#[test]
fn the_lines_asked_for_are_those_that_the_package_installs() {
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>().join(" ");
    let profile: Vec<_> = include_str!("../../../../packaging/pam-config").lines().map(words).collect();
    for line in [Step::Account.gate(), Step::Session.gate()].concat() {
        assert!(profile.contains(&line), "{line}");
    }
}
