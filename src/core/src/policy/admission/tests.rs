use super::*;

/// 29 November 2026.
const TODAY: i64 = 20_786;
const ED25519: &str = "ssh-ed25519";

fn rules() -> Rules {
    Rules {
        pam: true,
        refuses: false,
        no_tries: false,
        public_key: true,
        password: true,
        keyboard_interactive: true,
        root: "prohibit-password".into(),
        denied: false,
        allowed: None,
        group_denied: false,
        group_allowed: None,
        methods: vec!["any".into()],
        algorithms: vec![ED25519.into(), "rsa-sha2-512".into()],
        globs: true,
        revoked: None,
        rsa_bits: 2048,
        no_sessions: false,
        force_command: None,
        chroot: None,
    }
}

fn login() -> Login {
    // As useradd(8) leaves it: no password, nothing expires.
    let aging = Aging { changed: Some(TODAY - 5), maximum: Some(99_999), locked: true, ..Aging::default() };
    Login {
        uid: 1000,
        name_is_pattern: false,
        shell: None,
        aging: Some(aging),
        can_answer: false,
        second_method: false,
        nologin: None,
        pam: Pam::Unknown,
        barred: Vec::new(),
    }
}

fn aged(change: impl FnOnce(&mut Aging)) -> Login {
    let mut aging = login().aging.expect("it has one");
    change(&mut aging);
    Login { aging: Some(aging), ..login() }
}

fn bars(rules: &Rules, login: &Login, keys: &[&str]) -> Vec<Bar> {
    let keys: Vec<Offered> = keys.iter().map(|key| offered(key, false)).collect();
    judge(rules, login, &keys, TODAY)
}

fn offered(algorithm: &str, revoked: bool) -> Offered {
    Offered { algorithm: Some(algorithm.to_owned()), revoked, rsa_bits: None }
}

#[test]
fn an_account_as_useradd_leaves_it_gets_in() {
    assert_eq!(bars(&rules(), &login(), &[ED25519]), []);
    assert_eq!(bars(&rules(), &Login { aging: None, ..login() }, &[ED25519]), []);
}

#[test]
fn what_shadow_says_counts_as_pam_counts_it() {
    let first = |login: &Login| bars(&rules(), login, &[ED25519]).first().cloned();
    for (expires, is_over) in [(TODAY - 1, true), (TODAY, true), (TODAY + 1, false), (0, true), (-1, false)] {
        let found = first(&aged(|aging| aging.expires = Some(expires)));
        assert_eq!(found.is_some(), is_over, "{expires}: {found:?}");
    }
    assert_eq!(first(&aged(|aging| aging.changed = Some(0))), Some(Bar::MustChange));
    let with = |age: i64, maximum| {
        first(&aged(|aging| (aging.changed, aging.maximum) = (Some(TODAY - age), Some(maximum)))).is_some()
    };
    assert!(with(91, 90) && !with(90, 90) && !with(91, -1) && !with(-3, 0));
    assert_eq!(first(&aged(|aging| aging.changed = None)), None, "no ageing");
    // `!` counts for sshd alone, and only without PAM.
    let without_pam = Rules { pam: false, ..rules() };
    assert_eq!(bars(&without_pam, &login(), &[ED25519]), [Bar::Locked]);
    assert_eq!(bars(&without_pam, &aged(|aging| aging.locked = false), &[ED25519]), []);
}

#[test]
fn what_pam_answers_decides_and_what_is_known_besides_explains_it() {
    let expired = aged(|aging| aging.expires = Some(0));
    let nologin = Login { nologin: Some("/etc/nologin".into()), ..login() };
    let with =
        |login: &Login, pam: &Pam| bars(&rules(), &Login { pam: pam.clone(), ..login.clone() }, &[ED25519]).len();
    let refuses = Pam::Refuses("Permission denied".into());
    for (login, unknown, refused) in [(&login(), 0, 1), (&expired, 1, 2), (&nologin, 1, 2)] {
        let found = [&Pam::Unknown, &Pam::Lets, &refuses].map(|pam| with(login, pam));
        assert_eq!(found, [unknown, 0, refused], "{login:?}");
    }
    // An sshd without PAM goes by shadow itself.
    let without_pam = Rules { pam: false, ..rules() };
    let expired = aged(|aging| (aging.expires, aging.locked) = (Some(0), false));
    assert_eq!(bars(&without_pam, &Login { pam: Pam::Lets, ..expired }, &[ED25519]).len(), 1);
}

#[test]
fn what_sshd_says_of_users_and_groups_counts_and_its_keyword_is_named() {
    for (rules, keyword) in [
        (Rules { refuses: true, ..rules() }, "refuseconnection"),
        (Rules { no_tries: true, ..rules() }, "maxauthtries"),
        (Rules { denied: true, ..rules() }, "denyusers"),
        (Rules { allowed: Some(false), ..rules() }, "allowusers"),
        (Rules { group_denied: true, ..rules() }, "denygroups"),
        (Rules { group_allowed: Some(false), ..rules() }, "allowgroups"),
        (Rules { public_key: false, ..rules() }, "pubkeyauthentication"),
        (Rules { methods: vec!["password".into()], ..rules() }, "authenticationmethods"),
        (Rules { algorithms: vec!["ecdsa-sha2-nistp256".into()], ..rules() }, "pubkeyacceptedalgorithms"),
    ] {
        let found = bars(&rules, &login(), &[ED25519]);
        assert_eq!(found.iter().map(Bar::keyword).collect::<Vec<_>>(), [Some(keyword)]);
        assert!(found[0].sentence("frank", Some("/etc/ssh/x:3")).contains(" at /etc/ssh/x:3"), "{keyword}");
    }
    assert_eq!(bars(&Rules { allowed: Some(true), group_allowed: Some(true), ..rules() }, &login(), &[ED25519]), []);
}

#[test]
fn root_needs_leave_to_log_in_by_key() {
    let root = Login { uid: 0, ..login() };
    for (value, is_barred) in [
        ("yes", false),
        ("prohibit-password", false),
        ("without-password", false),
        ("no", true),
        ("forced-commands-only", true),
    ] {
        let rules = Rules { root: value.into(), ..rules() };
        assert_eq!(!bars(&rules, &root, &[ED25519]).is_empty(), is_barred, "{value}");
        assert_eq!(bars(&rules, &login(), &[ED25519]), [], "root alone");
    }
    let nologin = Some("/run/nologin".to_owned());
    assert_eq!(bars(&rules(), &Login { nologin: nologin.clone(), ..root }, &[ED25519]), []);
    let found = bars(&rules(), &Login { nologin, ..login() }, &[ED25519]);
    assert_eq!(found, [Bar::Nologin("/run/nologin".into())]);
}

#[test]
fn a_name_that_openssh_10_takes_for_a_pattern_is_told() {
    for (name, is_pattern) in
        [("CORP\\jane", true), ("a*", true), ("a[b]", true), ("jane@corp", false), ("_apt", false)]
    {
        let login = Login { name_is_pattern: super::is_pattern(name), ..login() };
        assert_eq!(bars(&rules(), &login, &[ED25519]).first() == Some(&Bar::Name), is_pattern, "{name}");
        assert_eq!(bars(&Rules { globs: false, ..rules() }, &login, &[ED25519]), [], "{name}");
    }
}

#[test]
fn a_shell_has_to_be_there_and_let_somebody_work() {
    let missing = Login { shell: Some(BadShell::Missing("/bin/gone".into())), ..login() };
    let nologin = Login { shell: Some(BadShell::Refuses("/usr/sbin/nologin".into())), ..login() };
    assert_eq!(bars(&rules(), &missing, &[]).len(), 1);
    assert_eq!(bars(&rules(), &nologin, &[]).len(), 1);
    let chroot = Rules { chroot: Some("/srv".into()), ..rules() };
    assert_eq!((bars(&chroot, &missing, &[]).len(), bars(&chroot, &nologin, &[]).len()), (0, 1));
}

#[test]
fn where_the_gate_asks_for_a_second_method_sshd_has_to_ask_for_it_too() {
    let login = Login { second_method: true, can_answer: true, ..login() };
    let said = |list: &str| {
        let methods = list.split_whitespace().map(str::to_owned).collect();
        bars(&Rules { methods, ..rules() }, &login, &[ED25519])
    };
    for enough in [
        "publickey,keyboard-interactive",
        "keyboard-interactive:pam,publickey",
        "publickey publickey,keyboard-interactive:pam",
        "publickey,password,keyboard-interactive",
    ] {
        let bars = said(enough);
        assert!(bars.is_empty() || enough.contains("password"), "{enough}: {bars:?}");
    }
    assert_eq!(said("any"), [Bar::SecondMethod(None)]);
    assert_eq!(said(""), [Bar::SecondMethod(None)]);
    assert_eq!(said("publickey"), [Bar::SecondMethod(Some("publickey".to_owned()))]);
    assert_eq!(said("publickey,publickey"), [Bar::Methods("publickey,publickey".to_owned())]);
    let sentence = Bar::SecondMethod(Some("publickey".into())).sentence("deploy", Some("/etc/ssh/x:3"));
    assert!(
        sentence.contains("AuthenticationMethods at /etc/ssh/x:3 is publickey")
            && sentence.contains("Match User deploy")
    );
    // One that cannot answer is told of that.
    let mute = Login { can_answer: false, ..login.clone() };
    let methods = vec!["publickey,keyboard-interactive".to_owned()];
    let told = bars(&Rules { methods, ..rules() }, &mute, &[ED25519]);
    assert!(matches!(told.as_slice(), [Bar::Methods(_)]), "{told:?}");
}

#[test]
fn authentication_methods_are_met_by_a_key_and_what_the_account_can_answer() {
    let met = |methods: &str, login: &Login, keys: &[&str]| {
        let methods = methods.split(' ').map(str::to_owned).collect();
        bars(&Rules { methods, ..rules() }, login, keys).is_empty()
    };
    let typed = Login { can_answer: true, ..aged(|aging| aging.password = true) };
    let asked = Login { can_answer: true, ..login() };
    assert!(met("any", &login(), &[ED25519]) && met("password publickey", &login(), &[ED25519]));
    assert!(!met("password", &typed, &[ED25519]), "a password alone is no key");
    assert!(met("publickey,password", &typed, &[ED25519]) && !met("publickey,password", &asked, &[ED25519]));
    assert!(met("publickey,keyboard-interactive:pam", &asked, &[ED25519]));
    assert!(!met("publickey,keyboard-interactive", &login(), &[ED25519]));
    assert!(met("publickey,publickey", &login(), &[ED25519, "ssh-rsa"]));
    assert!(
        !met("publickey,publickey", &login(), &[ED25519])
            && !met("publickey,publickey", &login(), &[ED25519, "ssh-dss"])
    );
    assert!(!met("publickey,hostbased", &typed, &[ED25519]));
}

#[test]
fn an_rsa_key_is_taken_by_what_it_signs_as() {
    assert_eq!(bars(&rules(), &login(), &["ssh-rsa"]), []);
    let old = Rules { algorithms: vec!["ssh-rsa".into()], ..rules() };
    assert_eq!(bars(&old, &login(), &["ssh-rsa"]), []);
    assert_eq!(bars(&old, &login(), &[ED25519, ED25519]), [Bar::Algorithms(vec![ED25519.into()])]);
    assert_eq!(bars(&old, &login(), &[ED25519, "ssh-rsa"]), [], "one is enough");
    assert_eq!(bars(&Rules { algorithms: Vec::new(), ..rules() }, &login(), &[ED25519]), [], "not told");
}

#[test]
fn a_key_on_the_list_of_revoked_ones_counts_as_none_and_a_list_that_cannot_be_read_revokes_all() {
    let list = |broken: Option<&str>| RevokedKeys {
        file: "/etc/ssh/revoked".into(),
        broken: broken.map(|why: &str| Broken::Unread(why.to_owned())),
    };
    let with =
        |broken, keys: &[Offered]| judge(&Rules { revoked: Some(list(broken)), ..rules() }, &login(), keys, TODAY);
    let (good, revoked) = (offered(ED25519, false), offered(ED25519, true));
    assert_eq!(with(None, &[good.clone(), revoked.clone()]), [], "one is enough");
    assert_eq!(with(None, &[]), []);
    assert_eq!(with(None, std::slice::from_ref(&revoked)), [Bar::Revoked(list(None))]);
    assert_eq!(with(None, &[offered("ssh-dss", false), revoked.clone()]), [Bar::Algorithms(vec!["ssh-dss".into()])]);
    for keys in [&[][..], &[good][..], &[revoked.clone()][..]] {
        assert_eq!(with(Some("is not there"), keys), [Bar::Revoked(list(Some("is not there")))]);
    }
    let said = Bar::Revoked(list(Some("is not there"))).sentence("frank", Some("/etc/ssh/x:3"));
    assert!(said.starts_with("RevokedKeys at /etc/ssh/x:3 names /etc/ssh/revoked, which is not there, "), "{said}");
    let unjudged = RevokedKeys { broken: Some(Broken::Unjudged("has more than 9 bytes".into())), ..list(None) };
    let with_unjudged = Rules { revoked: Some(unjudged.clone()), ..rules() };
    assert_eq!(judge(&with_unjudged, &login(), &[offered(ED25519, false)], TODAY), [Bar::Revoked(unjudged.clone())]);
    let said = Bar::Revoked(unjudged).sentence("frank", None);
    assert!(said.contains("whether it lists the key cannot be told") && !said.contains("sshd refuses"), "{said}");
    // A certificate counts by its authority.
    let certificate = |revoked| Offered { algorithm: None, revoked, rsa_bits: None };
    assert_eq!(with(None, &[certificate(false)]), []);
    assert_eq!(with(None, &[certificate(true)]), [Bar::Revoked(list(None))]);
}

#[test]
fn who_gets_in_to_a_forced_command_or_a_part_of_the_host_gets_in_and_is_confined() {
    let forced = |is_program| {
        let command = ForceCommand { command: "/usr/bin/recorder".into(), is_program };
        Rules { force_command: Some(command), ..rules() }
    };
    let chroot = Rules { chroot: Some("/home".into()), ..rules() };
    let no_sessions = Rules { no_sessions: true, ..rules() };
    for (rules, keyword, rescues) in [
        (&forced(false), "forcecommand", false),
        (&forced(true), "forcecommand", true),
        (&chroot, "chrootdirectory", false),
        (&no_sessions, "maxsessions", false),
    ] {
        assert_eq!(bars(rules, &login(), &[ED25519]), []);
        let found = confinement(rules);
        assert_eq!(found.iter().map(Bar::keyword).collect::<Vec<_>>(), [Some(keyword)]);
        let said = found[0].sentence("frank", Some("/etc/ssh/x:3"));
        assert!(said.contains(" at /etc/ssh/x:3") && said.contains("frank"), "{said}");
        assert_eq!(no_rescue(rules).is_empty(), rescues, "{keyword}");
    }
    assert_eq!(confinement(&rules()), []);
}

#[test]
fn an_rsa_key_that_is_too_short_counts_as_none() {
    let rsa = |bits| Offered { algorithm: Some("ssh-rsa".into()), revoked: false, rsa_bits: Some(bits) };
    let judged = |keys: &[Offered]| judge(&rules(), &login(), keys, TODAY);
    assert_eq!(judged(&[rsa(2048)]), []);
    assert_eq!(judged(&[rsa(2047)]), [Bar::ShortRsa(2048)]);
    assert_eq!(judged(&[rsa(1024), offered(ED25519, false)]), [], "one is enough");
    let said = Bar::ShortRsa(2048).sentence("frank", Some("/etc/ssh/x:3"));
    assert!(said.starts_with("RequiredRSASize at /etc/ssh/x:3 takes no RSA key below 2048 bits"), "{said}");
}

#[test]
fn every_bar_says_what_to_do() {
    for (bar, remedy) in [
        (Bar::Expired(day(TODAY)), "2026-11-29: chage -E -1 breakglass"),
        (Bar::MustChange, "chage -d"),
        (Bar::AgedOut { since: day(TODAY) }, "chage -M -1 breakglass"),
        (Bar::Locked, "UsePAM yes"),
        (Bar::Nologin("/run/nologin".into()), "rm /run/nologin"),
        (Bar::Shell(BadShell::Fails("/x".into(), "Permission denied".into())), "usermod -s"),
        (Bar::Shell(BadShell::Missing("/x".into())), "usermod -s"),
        (Bar::AllowUsers, "add it"),
        (Bar::Root("no".into()), "prohibit-password"),
    ] {
        let sentence = bar.sentence("breakglass", None);
        assert!(sentence.contains(remedy), "{sentence}");
    }
}
