use super::*;

/// What `sshd -T` of a Debian host as it comes says here.
const DEBIAN: &str = "usepam yes\npubkeyauthentication yes\nauthorizedkeysfile .ssh/authorized_keys .ssh/authorized_keys2\n\
    authorizedkeyscommand none\ntrustedusercakeys none\nauthorizedprincipalsfile none\nauthorizedprincipalscommand none\n\
    hostbasedauthentication no\npasswordauthentication no\nkbdinteractiveauthentication no\ngssapiauthentication no\n\
    kerberosauthentication no\npermitemptypasswords no\npermitrootlogin without-password\nauthenticationmethods any\n";

/// Those settings, with these lines in place of theirs.
fn settings(changes: &str) -> Settings {
    let mut settings = BTreeMap::new();
    for line in DEBIAN.lines().chain(changes.lines()) {
        let (keyword, value) = line.trim().split_once(' ').expect("a keyword and a value");
        settings.insert(keyword.to_owned(), vec![value.to_owned()]);
    }
    Settings::new(settings)
}

fn login(whom: &str, changes: &str) -> Login {
    Login {
        whom: whom.to_owned(),
        root: whom == "root",
        exempt: whom == "breakglass",
        settings: settings(changes),
        gate: Ok(()),
    }
}

fn sshd(logins: Vec<Login>) -> Sshd {
    Sshd {
        name: "sshd".to_owned(),
        config: "/etc/ssh/sshd_config".to_owned(),
        listens: vec!["0.0.0.0:22".to_owned()],
        run_by: RunBy::Root,
        local_socket: None,
        unread_since: None,
        reads_drop_ins: true,
        has_closing: false,
        unlogged: None,
        unreadable: None,
        logins,
    }
}

fn of_servers(servers: Surveyed) -> Observed {
    Observed { enforces: true, servers, ..Observed::default() }
}

fn enforcing(sshd: Sshd) -> Observed {
    of_servers(Surveyed { sshds: vec![sshd], ..Surveyed::default() })
}

fn state(ways: &[Way], kind: &str) -> (WayState, Option<String>) {
    let way = ways.iter().find(|way| way.kind == kind).unwrap_or_else(|| panic!("no {kind} in {ways:?}"));
    (way.state, way.closes.clone())
}

/// Each method: its word, the line that turns it on, and the line that closes it.
const TABLE: [(&str, &str, &str); 10] = [
    ("key_files", "authorizedkeysfile .ssh/authorized_keys", "mode = \"enforce\""),
    (
        "key_command",
        "authorizedkeyscommand /usr/share/ec2-instance-connect/eic_run_authorized_keys %u %f",
        "AuthorizedKeysCommand none",
    ),
    ("user_ca", "trustedusercakeys /etc/ssh/ca.pub", "TrustedUserCAKeys none"),
    (
        "principals",
        "trustedusercakeys /etc/ssh/ca.pub\nauthorizedprincipalsfile /etc/ssh/principals/%u",
        "TrustedUserCAKeys none",
    ),
    ("host_based", "hostbasedauthentication yes", "HostbasedAuthentication no"),
    ("password", "passwordauthentication yes", "PasswordAuthentication no"),
    ("empty_password", "passwordauthentication yes\npermitemptypasswords yes", "PermitEmptyPasswords no"),
    ("keyboard_interactive", "kbdinteractiveauthentication yes", "KbdInteractiveAuthentication no"),
    ("gssapi", "gssapiauthentication yes", "GSSAPIAuthentication no"),
    ("kerberos", "passwordauthentication yes\nkerberosauthentication yes", "KerberosAuthentication no"),
];

#[test]
fn each_method_is_closed_or_closed_by_the_gate_or_open_with_the_line_that_closes_it() {
    for (kind, on, line) in TABLE {
        let off = if kind == "key_files" { "authorizedkeysfile /run/lockdownd/keys/%u" } else { "usepam yes" };
        assert_eq!(
            state(&judge(&enforcing(sshd(vec![login("any account", off)]))), kind),
            (WayState::Closed, None),
            "{kind}"
        );

        let gated = judge(&enforcing(sshd(vec![login("any account", on)])));
        let (judged, closes) = state(&gated, kind);
        assert_eq!(judged, WayState::ClosedByGate, "{kind}");
        assert!(closes.is_some_and(|closes| closes.starts_with(line)), "{kind}: {gated:?}");

        let mut out = login("any account", on);
        out.gate = Err("the gate is not in the stack".to_owned());
        assert_eq!(state(&judge(&enforcing(sshd(vec![out]))), kind).0, WayState::Open, "{kind}");

        let observing = Observed { enforces: false, ..enforcing(sshd(vec![login("any account", on)])) };
        assert_eq!(state(&judge(&observing), kind).0, WayState::Open, "{kind} in observe");
    }
}

#[test]
fn without_pam_everything_that_is_on_is_open_but_what_pam_itself_would_ask() {
    for (kind, on, _) in TABLE {
        let ways = judge(&enforcing(sshd(vec![login("any account", &format!("{on}\nusepam no"))])));
        let expected = if kind == "keyboard_interactive" { WayState::Closed } else { WayState::Open };
        assert_eq!(state(&ways, kind).0, expected, "{kind}");
        assert_eq!(state(&ways, "gate"), (WayState::Open, Some("UsePAM yes in /etc/ssh/sshd_config".to_owned())));
    }
}

#[test]
fn a_method_that_is_no_login_by_itself_is_closed() {
    for (methods, expected) in [
        ("any", WayState::ClosedByGate),
        ("password", WayState::ClosedByGate),
        ("publickey,password", WayState::Closed),
        ("publickey,keyboard-interactive:pam", WayState::Closed),
        ("publickey password,keyboard-interactive", WayState::ClosedByGate),
    ] {
        let on = format!("passwordauthentication yes\nauthenticationmethods {methods}");
        let observed = enforcing(sshd(vec![login("any account", &on)]));
        assert_eq!(state(&judge(&observed), "password").0, expected, "{methods}");
        let closes =
            closing(&observed).expect("plain names").is_some_and(|text| text.contains("PasswordAuthentication no"));
        assert_eq!(
            closes,
            expected == WayState::ClosedByGate,
            "{methods}: a second factor beside the key is left alone"
        );
    }
}

#[test]
fn a_match_block_that_opens_something_is_a_way_of_its_own() {
    let logins = vec![login("any account", "usepam yes"), login("frank from 10.0.0.1", "passwordauthentication yes")];
    let ways = judge(&enforcing(sshd(logins)));
    let passwords: Vec<_> =
        ways.iter().filter(|way| way.kind == "password").map(|way| (way.whom.as_str(), way.state)).collect();
    assert_eq!(passwords, [("frank from 10.0.0.1", WayState::ClosedByGate), ("any account", WayState::Closed)]);
}

#[test]
fn roots_logins_are_judged_by_root_alone() {
    for (value, expected) in [
        ("no", WayState::Closed),
        ("without-password", WayState::Closed),
        ("forced-commands-only", WayState::Closed),
        ("yes", WayState::ClosedByGate),
    ] {
        let logins = vec![login("any account", "usepam yes"), login("root", &format!("permitrootlogin {value}"))];
        let mut observed = enforcing(sshd(logins));
        assert_eq!(state(&judge(&observed), "root_login").0, expected, "{value}");
        if value == "yes" {
            assert!(closing(&observed).expect("plain").expect("something").contains("PermitRootLogin no"));
            observed.root_is_wanted = true;
            assert!(
                closing(&observed).expect("plain").expect("something").contains("PermitRootLogin prohibit-password")
            );
        }
    }
}

#[test]
fn an_sshd_of_a_users_own_another_server_and_what_cannot_be_read_are_open() {
    let of_a_user = Sshd { run_by: RunBy::User { uid: 1000, pid: 77 }, ..sshd(Vec::new()) };
    let ways = judge(&enforcing(of_a_user));
    assert_eq!(state(&ways, "user_sshd"), (WayState::Open, Some("kill 77".to_owned())));

    let unread = Sshd { unreadable: Some("sshd refuses it".to_owned()), ..sshd(Vec::new()) };
    assert_eq!(state(&judge(&enforcing(unread)), "unknown").0, WayState::Open);

    let server = |unit: Option<&str>| OtherServer {
        program: "/usr/sbin/dropbear".to_owned(),
        pid: Some(9),
        uid: 0,
        listens: vec!["[::]:2222".to_owned()],
        unit: unit.map(str::to_owned),
    };
    let others = vec![server(None), server(Some("dropbear.service"))];
    let ways = judge(&of_servers(Surveyed { others, unseen: vec!["a table".to_owned()], ..Surveyed::default() }));
    let closes: Vec<_> = ways.iter().map(|way| (way.kind, way.state, way.closes.as_deref())).collect();
    assert_eq!(
        closes,
        [
            ("unknown", WayState::Open, None),
            ("other_server", WayState::Open, Some("kill 9")),
            ("other_server", WayState::Open, Some("systemctl disable --now dropbear.service")),
        ]
    );
}

#[test]
fn the_local_socket_is_closed_by_the_gate_alone() {
    let local = |gate| {
        let socket = Some("sshd-unix-local.socket".to_owned());
        let logins = vec![Login { gate, ..login("any account", "usepam yes") }];
        Sshd { local_socket: socket, listens: vec!["/run/ssh-unix-local/socket".to_owned()], ..sshd(logins) }
    };
    let closes = Some("systemctl mask --now sshd-unix-local.socket".to_owned());
    assert_eq!(state(&judge(&enforcing(local(Ok(())))), "local_socket"), (WayState::ClosedByGate, closes.clone()));
    assert_eq!(state(&judge(&enforcing(local(Err("out".to_owned())))), "local_socket"), (WayState::Open, closes));
}

fn with_exempt(changes: &str) -> Observed {
    let logins = vec![login("any account", changes), login("breakglass", changes)];
    let key = ("/home/breakglass/.ssh/authorized_keys".to_owned(), vec!["SHA256:abc".to_owned()]);
    let exempt = vec![ExemptAccount { account: "breakglass".to_owned(), keys: vec![key] }];
    Observed { exempt, ..enforcing(sshd(logins)) }
}

#[test]
fn an_exempt_account_stands_open_on_purpose_with_its_keys_and_no_other_way_is_told_of_it() {
    let ways = judge(&with_exempt("passwordauthentication yes"));
    let exempt: Vec<_> = ways.iter().filter(|way| way.whom == "breakglass").collect();
    let [one] = exempt.as_slice() else { panic!("{exempt:?}") };
    assert_eq!((one.kind, one.state, one.wanted), ("exempt", WayState::Open, true));
    assert!(one.why.contains("SHA256:abc") && one.why.contains("also by password"), "{}", one.why);
    assert!(one.closes.as_ref().is_some_and(|closes| closes.contains("accounts.exempt")));
}

#[test]
fn the_drop_in_closes_every_method_for_everybody_but_the_exempt() {
    let on: Vec<&str> = TABLE.iter().map(|(_, on, _)| *on).collect();
    let text = closing(&with_exempt(&on.join("\n"))).expect("plain names").expect("something is open");
    let (before, block) = text.split_once("Match User *,!breakglass\n").expect("one block");
    assert!(!before.contains("UsePAM"), "PAM is on: {before}");
    for (kind, _, line) in TABLE.iter().filter(|(kind, ..)| *kind != "key_files") {
        assert!(block.contains(&format!("    {line}\n")), "{kind}: {text}");
    }
    assert!(!text.contains("Pubkey") && !text.contains("AuthorizedKeysFile"), "{text}");
    assert_eq!(block.matches("TrustedUserCAKeys").count(), 1);

    let without_pam = with_exempt("usepam no\nkbdinteractiveauthentication yes");
    let text = closing(&without_pam).expect("plain names").expect("something is open");
    assert!(text.contains("\nUsePAM yes\nMatch User"), "{text}");
    assert!(text.contains("KbdInteractiveAuthentication no"), "PAM, turned on, would ask: {text}");
}

#[test]
fn what_somebody_needs_beside_a_key_is_not_closed_and_counts_as_no_login_by_itself() {
    let on = "passwordauthentication yes\nkbdinteractiveauthentication yes";
    let second = format!("{on}\nauthenticationmethods publickey,keyboard-interactive:pam");
    for methods in ["publickey,keyboard-interactive:pam", "keyboard-interactive,publickey"] {
        let second = format!("{on}\nauthenticationmethods {methods}");
        let observed = enforcing(sshd(vec![login("any account", on), login("deploy", &second)]));
        let text = closing(&observed).expect("plain names").expect("something is open");
        assert!(text.contains("    PasswordAuthentication no\n"), "{text}");
        assert!(!text.contains("KbdInteractiveAuthentication no"), "{text}");
        assert!(
            text.contains("# KbdInteractiveAuthentication is left as it is: deploy needs it beside a key"),
            "{text}"
        );
        let ways = judge(&observed);
        let of = |whom: &str| ways.iter().find(|way| way.kind == "keyboard_interactive" && way.whom == whom);
        let (any, deploy) = (of("any account").expect("one"), of("deploy").expect("another"));
        assert!(any.closes.as_ref().is_some_and(|line| line.starts_with("AuthenticationMethods publickey in ")));
        assert_eq!((deploy.state, deploy.closes.as_ref()), (WayState::Closed, None), "{}", deploy.why);
    }
    let everybody = enforcing(Sshd { has_closing: true, ..sshd(vec![login("any account", &second)]) });
    assert!(state(&judge(&everybody), "keyboard_interactive").0 == WayState::Closed);
    let text = closing(&everybody).expect("plain names");
    assert!(text.is_none_or(|text| !text.contains("KbdInteractiveAuthentication no")));
}

#[test]
fn the_drop_in_says_nothing_where_nothing_is_open_and_refuses_what_it_cannot_leave_out() {
    assert_eq!(closing(&with_exempt("usepam yes")), Ok(None));
    let nobody = Observed { exempt: Vec::new(), ..with_exempt("passwordauthentication yes") };
    assert!(closing(&nobody).expect("plain").expect("something").contains("\nMatch all\n"));
    let mut odd = with_exempt("passwordauthentication yes");
    odd.exempt[0].account = "break*".to_owned();
    assert_eq!(closing(&odd), Err(OddAccount("break*".to_owned())));
    let elsewhere = Sshd { reads_drop_ins: false, ..sshd(vec![login("any account", "passwordauthentication yes")]) };
    assert_eq!(closing(&enforcing(elsewhere)), Ok(None), "it would not be read there");
}

#[test]
fn penalties_that_could_shut_out_the_bastion_are_warned_of() {
    let warns = |changes: &str| !warnings(&enforcing(sshd(vec![login("any account", changes)]))).is_empty();
    assert!(warns("persourcepenalties crash:90.000000 authfail:5.000000 max:600.000000"));
    assert!(!warns("persourcepenalties no"));
    assert!(!warns("persourcepenalties crash:90\npersourcepenaltyexemptlist 10.0.0.1"));
    assert!(!warns("usepam yes"), "before OpenSSH 9.8 there are none");
}

#[test]
fn an_sshd_that_has_not_read_its_configuration_counts_as_open_until_it_has() {
    let unread = |tells| Unread { path: "/etc/ssh/sshd_config".to_owned(), pid: 7, tells };
    let of = |tells| {
        judge(&enforcing(Sshd { unread_since: Some(unread(tells)), ..sshd(vec![login("any account", "usepam yes")]) }))
    };
    assert_eq!(state(&of(true), "unread_config"), (WayState::Open, Some("kill -HUP 7".to_owned())));
    let (_, closes) = state(&of(false), "unread_config");
    assert!(closes.is_some_and(|closes| closes.starts_with("restart process 7")));
}

#[test]
fn a_user_with_a_thousand_servers_pushes_no_other_way_out_of_sight() {
    let server = |pid| OtherServer {
        program: "x".repeat(4096),
        pid: Some(pid),
        uid: 1000,
        listens: vec!["127.0.0.1:2222".to_owned(); 16],
        unit: None,
    };
    let own = |pid| Sshd { name: "y".repeat(100_000), run_by: RunBy::User { uid: 1001, pid }, ..sshd(Vec::new()) };
    let mut observed = with_exempt("passwordauthentication yes");
    observed.servers.sshds.splice(0..0, (0..1000).map(own));
    observed.servers.others = (0..1000).map(server).collect();
    let ways = judge(&observed);
    // What the survey prints is bounded, and nothing is told otherwise for it.
    observed.servers = observed.servers.bounded();
    assert_eq!(judge(&observed), ways);
    let printed = serde_json::to_string(&observed.servers).expect("plain data");
    assert!(printed.len() < 64 * 1024, "{}", printed.len());
    assert_eq!(serde_json::from_str::<Surveyed>(&printed).expect("as printed"), observed.servers);
    assert_eq!(state(&ways, "password").0, WayState::ClosedByGate);
    assert!(ways.iter().any(|way| way.kind == "exempt"));
    assert!(ways.iter().any(|way| way.why.starts_with("992 more SSH servers listen as uid 1000")), "{ways:?}");
    assert!(ways.iter().any(|way| way.why.starts_with("992 more SSH servers listen as uid 1001")));
    let bytes = format!("{ways:?}{:?}", servers(&observed)).len();
    assert!(bytes < 96 * 1024, "{bytes}");

    let others = (0..1000).map(|uid| OtherServer { uid, ..server(1) }).collect();
    let many = Surveyed { others, ..Surveyed::default() };
    let ways = judge(&of_servers(many.clone()));
    assert_eq!(judge(&of_servers(many.bounded())), ways);
    assert_eq!(ways.len(), 17);
    assert!(ways[16].why.starts_with("984 more users"), "{:?}", ways[16]);
}

#[test]
fn of_many_match_blocks_the_open_ones_are_told_first_and_the_rest_counted() {
    let block = |n: usize| {
        let mut login =
            login(&format!("user{n}"), &format!("passwordauthentication yes\nauthorizedkeyscommand /bin/keys{n}"));
        // One in a hundred is past the gate.
        login.gate = if n % 100 == 99 { Err("the gate is not in the stack".to_owned()) } else { Ok(()) };
        login
    };
    let logins = std::iter::once(login("any account", "usepam yes")).chain((0..200).map(block)).collect();
    let ways = judge(&enforcing(sshd(logins)));
    let told = |kind: &str| {
        ways.iter().filter(|way| way.kind == kind).map(|way| (way.whom.as_str(), way.state)).collect::<Vec<_>>()
    };
    let passwords = [
        ("user99 and 1 more", WayState::Open),
        ("user0 and 197 more", WayState::ClosedByGate),
        ("any account", WayState::Closed),
    ];
    assert_eq!(told("password"), passwords);
    let commands = told("key_command");
    assert_eq!(commands.len(), 9);
    assert_eq!(&commands[..2], [("user99", WayState::Open), ("user199", WayState::Open)]);
    assert_eq!(commands[8], ("user6 and 192 more", WayState::ClosedByGate));
}

#[test]
fn where_the_drop_in_is_not_read_or_comes_too_late_there_is_a_warning_with_what_to_do() {
    let warns = |reads_drop_ins, has_closing, changes: &str| {
        let sshd = Sshd { reads_drop_ins, has_closing, ..sshd(vec![login("any account", changes)]) };
        warnings(&enforcing(sshd)).join(" ")
    };
    assert!(warns(false, false, "passwordauthentication yes").contains("is not read, so that it closes nothing"));
    assert!(warns(true, true, "passwordauthentication yes").contains("does not close everything for any account"));
    assert!(warns(true, true, "usepam no").contains("put the line `Include"));
    assert_eq!(warns(true, false, "passwordauthentication yes"), "", "nobody has asked for it yet");
    assert_eq!(warns(true, true, "usepam yes") + &warns(false, false, "usepam yes"), "", "nothing is open");
}
