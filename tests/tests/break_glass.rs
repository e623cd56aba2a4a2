//! The last break-glass account cannot be lost in silence: what would take it away is refused, undone, or said with what to do.

use std::time::Duration;

use instance_tests::{House, built_package, eventually, on_each_release};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(30);
const KEYS: &str = "/home/breakglass/.ssh/authorized_keys";

/// Each: what keeps the account out, what lets it in again, and what the test has to say.
const OUT: [(&str, &str, &str); 6] = [
    ("chmod 666 {keys}", "chmod 600 {keys}", "writable by others (StrictModes)"),
    ("mv {keys} /root/keys", "mv /root/keys {keys}", "authorized_keys is not there"),
    ("chage -E 0 breakglass", "chage -E -1 breakglass", "chage -E -1 breakglass"),
    ("usermod -s /usr/sbin/nologin breakglass", "usermod -s /bin/bash breakglass", "usermod -s /bin/bash"),
    ("touch /etc/nologin", "rm /etc/nologin", "rm /etc/nologin"),
    (
        "echo 'AllowUsers ubuntu' >/etc/ssh/sshd_config.d/50-extra.conf; systemctl reset-failed ssh; systemctl restart ssh",
        "rm /etc/ssh/sshd_config.d/50-extra.conf; systemctl reset-failed ssh; systemctl restart ssh",
        "AllowUsers at",
    ),
];

/// What the test has to say: that it would not get in, and why, or that it would, with this note.
#[derive(Debug, Clone, Copy)]
enum Says {
    Out(&'static str),
    In(&'static str),
    /// That it cannot be told, and what to do.
    Unsure(&'static str),
}
use Says::{In, Out, Unsure};

/// Each: what PAM, sshd or the host has against the account, what takes that away, what is said, and whether a login from this
/// host gets in. `{add}` puts text into a drop-in of sshd's and restarts it.
const ROWS: [(&str, &str, Says, bool); 47] = [
    // PAM's account step.
    ("echo maintenance >/run/nologin", "rm /run/nologin", Out("rm /run/nologin"), false),
    ("shutdown -h +4; sleep 1", "shutdown -c; sleep 1", Out("rm /run/nologin"), false),
    ("mkdir /etc/nologin", "rmdir /etc/nologin", Out("rm /etc/nologin"), false),
    ("ln -s /nonexistent /etc/nologin", "rm /etc/nologin", In(""), true),
    ("touch /etc/nologin; sed -i.old /pam_nologin/d {pam}", "rm /etc/nologin; cat {pam}.old >{pam}", In(""), true),
    (
        "sed -i.old /^breakglass:/d /etc/shadow",
        "cat /etc/shadow.old >/etc/shadow",
        Out("PAM's account step refuses"),
        false,
    ),
    (
        "sed -i.old 's/^breakglass:.*/breakglass:*/' /etc/shadow",
        "cat /etc/shadow.old >/etc/shadow",
        Out("PAM's account"),
        false,
    ),
    (
        "sed -i.old 's/^\\(breakglass:[^:]*\\):[^:]*:/\\1:abc:/' /etc/shadow",
        "cat /etc/shadow.old >/etc/shadow",
        Out("PAM's account"),
        false,
    ),
    ("sed -i.old 's/^shadow:.*/shadow: extrausers/' {nss}", "cat {nss}.old >{nss}", Out("PAM's account"), false),
    ("{first} account required pam_deny.so' {pam}", "sed -i 1d {pam}", Out("in the service sshd"), false),
    (
        "echo root >/etc/ssh/okusers; {first} account required pam_listfile.so item=user sense=allow file=/etc/ssh/okusers onerr=fail' {pam}",
        "sed -i 1d {pam}",
        Out("PAM's account step"),
        false,
    ),
    (
        "{first} account required pam_succeed_if.so user ingroup wheel' {pam}",
        "sed -i 1d {pam}",
        Out("PAM's account"),
        false,
    ),
    ("{first} account required pam_exec.so /bin/false' {pam}", "sed -i 1d {pam}", Out("PAM's account step"), false),
    (
        "{first} account required pam_exec.so /bin/true' {pam}",
        "sed -i 1d {pam}",
        In("pam_exec.so may say otherwise"),
        true,
    ),
    ("echo 'account include nonexistent' >>{pam}", "sed -i '$d' {pam}", Out("PAM's account step"), false),
    ("echo 'account required pam_nonexistent.so' >>{pam}", "sed -i '$d' {pam}", Out("PAM's account step"), false),
    (
        "sed -i.old 's/^account.*pam_unix.so.*/account requisite pam_deny.so/' {common}",
        "cat {common}.old >{common}",
        Out("PAM's account step"),
        false,
    ),
    (
        "mv {pam} /root/pam; sed -i.old 's/^@include.*//; $a account required pam_deny.so' /etc/pam.d/other",
        "mv /root/pam {pam}; cat /etc/pam.d/other.old >/etc/pam.d/other",
        Out("PAM's account step"),
        false,
    ),
    (
        "echo 'account required pam_access.so' >>{pam}; printf '+ : breakglass : 127.0.0.0/8\\n- : ALL : ALL\\n' >>{access}",
        "sed -i '$d' {pam}; sed -i '/^[+-]/d' {access}",
        In("it gets in only from 127.0.0.0"),
        true,
    ),
    // PAM's session step.
    (
        "echo 'session required pam_deny.so' >>{pam}",
        "sed -i '$d' {pam}",
        Out("`required pam_deny.so` refuses everybody"),
        false,
    ),
    ("echo 'session required pam_gone.so' >>{pam}", "sed -i '$d' {pam}", Out("a module that is not there"), false),
    ("echo 'session include gone' >>{pam}", "sed -i '$d' {pam}", Out("PAM's"), false),
    ("echo 'session required pam_time.so' >>{pam}", "sed -i '$d' {pam}", In("pam_time.so, which may refuse"), false),
    ("echo 'breakglass - maxlogins 0' >{limits}", "rm {limits}", Out("x.conf:1 lets nobody in"), false),
    ("echo '* hard maxsyslogins 0' >{limits}", "rm {limits}", Out("x.conf:1 lets nobody in"), false),
    ("echo 'breakglass hard nproc 0' >{limits}", "rm {limits}", Out("x.conf:1 lets nobody in"), false),
    ("printf '* hard nproc 0\\nbreakglass hard nproc 500\\n' >{limits}", "rm {limits}", In(""), true),
    // sshd.
    ("{add} 'MaxAuthTries 0'; {ssh}", "{rest}", Out("MaxAuthTries at"), false),
    ("{add} 'DenyUsers breakglass@192.0.2.1'; {ssh}", "{rest}", In("not from 192.0.2.1: DenyUsers at"), true),
    ("{add} 'DenyUsers *@203.0.113.*'; {ssh}", "{rest}", In("not from 203.0.113.1"), true),
    (
        "{add} 'AllowUsers breakglass@192.0.2.1'; {ssh}",
        "{rest}",
        In("only from 192.0.2.1: from elsewhere, AllowUsers"),
        false,
    ),
    ("{add} 'AllowUsers breakglass@127.0.0.0/8'; {ssh}", "{rest}", In("it gets in only from 127.0.0.0"), true),
    (
        "{add} 'Match Address 127.0.0.0/8\\nPubkeyAuthentication no'; {ssh}",
        "{rest}",
        In("not from 127.0.0.0, 127.0.0.1"),
        false,
    ),
    (
        "{add} 'AllowUsers ubuntu'; {ssh}; rm {extra}",
        "{rest}",
        Unsure("has not read /etc/ssh/sshd_config.d since that changed"),
        false,
    ),
    (
        "{add} 'AllowUsers ubuntu'; {ssh}; lockdownctl break-glass test; rm {extra}",
        "{rest}",
        Out("goes by what it read before: AllowUsers"),
        false,
    ),
    ("{add} 'AllowUsers ubuntu'", "{rest}", Out("AllowUsers at"), true),
    ("{add} 'ListenAddress 127.200.0.9'; {ssh}", "{rest}", In("listens at 127.200.0.9:22 alone"), false),
    ("systemctl stop ssh.socket ssh", "{rest}", Out("no sshd listens"), false),
    ("echo 'sshd: ALL' >>/etc/hosts.deny", "sed -i /sshd/d /etc/hosts.deny", Out("hosts_access(5)"), false),
    (
        "echo 'sshd: ALL' >>/etc/hosts.deny; echo 'sshd: 127.' >>/etc/hosts.allow",
        "sed -i /sshd/d /etc/hosts.deny /etc/hosts.allow",
        In("it gets in only from 127.1.1.1"),
        true,
    ),
    // Its shell, and its keys.
    ("usermod -s /bin/true breakglass", "usermod -s /bin/bash breakglass", Out("lets nobody work"), false),
    ("usermod -s /bin/sync breakglass", "usermod -s /bin/bash breakglass", Out("lets nobody work"), false),
    ("{shell}; chmod 700 /usr/local/bin/sh1", "usermod -s /bin/bash breakglass", Out("(Permission denied)"), false),
    (
        "{shell}; printf '#!/nonexistent\\n' >/usr/local/bin/sh1",
        "usermod -s /bin/bash breakglass",
        Out("(No such file or directory)"),
        false,
    ),
    (
        "{shell}; printf '#!/bin/sh\\n' >/usr/local/bin/sh1",
        "usermod -s /bin/bash breakglass",
        In("runs no command"),
        false,
    ),
    (
        "{key} 's/^/cert-authority /' {keys}",
        "cat {keys}.old >{keys}",
        In("whether anybody has one is not known"),
        false,
    ),
    ("{key} 's/^/from=\"192.0.2.1\" /' {keys}", "cat {keys}.old >{keys}", In("from some addresses only"), false),
];

/// The same for what only OpenSSH 9.9 and later have.
const LATER: [(&str, &str, Says, bool); 5] = [
    ("{add} 'RefuseConnection yes'; {ssh}", "{rest}", Out("RefuseConnection at"), false),
    ("{add} 'Match User breakglass\\nRefuseConnection yes'; {ssh}", "{rest}", Out("RefuseConnection at"), false),
    (
        "printf 'account required pam_deny.so\\n' >/etc/pam.d/other-sshd; {add} 'Match User breakglass\\nPAMServiceName other-sshd'; {ssh}",
        "{rest}; rm /etc/pam.d/other-sshd",
        Out("in the service other-sshd"),
        false,
    ),
    ("mv {lib}/sshd-session /root/", "mv /root/sshd-session {lib}/", Out("sshd-session is missing"), false),
    ("mv {lib}/sshd-auth /root/", "mv /root/sshd-auth {lib}/", Out("sshd-auth is missing"), false),
];

/// A command of a row, spelled out.
fn spelled(command: &str) -> String {
    [
        ("{add}", "printf '%b\\n' >/etc/ssh/sshd_config.d/50-extra.conf"),
        ("{rest}", "rm -f {extra}; {ssh}"),
        ("{ssh}", "systemctl reset-failed ssh; systemctl restart ssh"),
        ("{extra}", "/etc/ssh/sshd_config.d/50-extra.conf"),
        ("{first}", "sed -i '1i"),
        ("{pam}", "/etc/pam.d/sshd"),
        ("{common}", "/etc/pam.d/common-account"),
        ("{nss}", "/etc/nsswitch.conf"),
        ("{access}", "/etc/security/access.conf"),
        ("{limits}", "/etc/security/limits.d/x.conf"),
        ("{lib}", "/usr/lib/openssh"),
        ("{shell}", "cp /bin/bash /usr/local/bin/sh1 && chmod 755 /usr/local/bin/sh1 && usermod -s /usr/local/bin/sh1 breakglass"),
        ("{key}", "cp -p {keys} {keys}.old && sed -i"),
        ("{keys}", KEYS),
    ]
    .iter()
    .fold(command.to_owned(), |text, (name, value)| text.replace(name, value))
}

fn exempting(house: &House, accounts: &str) -> String {
    house.config("enforce", "").replace("exempt = [\"breakglass\"]", accounts)
}

fn reload(house: &House, accounts: &str) -> bool {
    house.write("/etc/lockdownd/config.toml", exempting(house, accounts));
    house.run("systemctl reload lockdownd").ok()
}

fn problems(house: &House) -> String {
    house.ctl_json("status")["problems"].to_string()
}

fn test(house: &House) -> (i32, Value) {
    let said = house.ctl("--json break-glass test");
    let answer = serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
    (said.status, answer)
}

on_each_release! {
    fn a_test_of_break_glass_says_without_a_login_whether_it_gets_in(release) {
        let house = House::enforcing(release);
        let (status, answer) = test(&house);
        assert_eq!((status, &answer["problems"]), (0, &serde_json::json!([])), "{answer}");
        assert_eq!(answer["accounts"][0]["account"], "breakglass");
        assert_eq!(answer["accounts"][0]["keys"][0], house.breakglass.fingerprint());
        assert!(house.records_of("emergency.login").is_empty(), "nobody was logged in");
        for (number, (breaks, mends, told)) in OUT.into_iter().enumerate() {
            let logs_in = || house.ssh("breakglass").key(&house.breakglass).from(&format!("127.0.7.{}", number + 1)).login();
            house.sh(&breaks.replace("{keys}", KEYS));
            let (status, answer) = test(&house);
            assert!(status == 1 && answer["accounts"][0]["why"].to_string().contains(told), "{breaks}: {answer}");
            assert!(!logs_in(), "{breaks}: it does get in");
            house.sh(&mends.replace("{keys}", KEYS));
            assert_eq!(test(&house).0, 0, "{mends}: {}", test(&house).1);
        }
        // PAM is asked, and nothing that a login changes is changed: no tally of failures, no record of a login.
        house.sh("echo 'account required pam_faillock.so' >>/etc/pam.d/sshd; mkdir -p /run/faillock; \
                  head -c 64 /dev/zero >/run/faillock/breakglass; chown breakglass: /run/faillock/breakglass");
        let traces = || house.sh("stat -c %s /run/faillock/breakglass; md5sum /var/log/wtmp /var/log/lastlog 2>&1; true");
        let before = traces();
        let (status, answer) = test(&house);
        assert!(status == 0 && traces() == before && before.starts_with("64\n"), "{before}{}{answer}", traces());
        house.sh("sed -i /pam_faillock/d /etc/pam.d/sshd");
        // What was not tried is said.
        house.sh("echo 'account required pam_access.so' >>/etc/pam.d/sshd");
        let (status, answer) = test(&house);
        assert!(status == 0 && answer["accounts"][0]["notes"].to_string().contains("pam_access.so may say otherwise"), "{answer}");
        house.sh("sed -i /pam_access/d /etc/pam.d/sshd; echo 'breakglass:secret' | chpasswd");
        house.write("/etc/ssh/sshd_config.d/50-extra.conf", "AuthenticationMethods publickey,password\n");
        house.sh("systemctl reset-failed ssh; systemctl restart ssh");
        let (status, answer) = test(&house);
        assert!(status == 0 && answer["accounts"][0]["notes"].to_string().contains("asks for publickey,password"), "{answer}");
        house.sh("rm /etc/ssh/sshd_config.d/50-extra.conf; systemctl reset-failed ssh; systemctl restart ssh");
        // Two, of which one does not get in: a sentence for that one, and the status says it.
        house.useradd("rescue");
        assert!(reload(&house, "exempt = [\"breakglass\", \"rescue\"]"));
        let said = house.ctl("break-glass test");
        assert!(said.status == 1 && said.stdout.contains("breakglass could log in"), "{said}");
        assert!(said.stdout.contains("rescue could not log in: /home/rescue/.ssh/authorized_keys is not there"), "{said}");
        // And none at all.
        assert!(reload(&house, "no_exempt = true"));
        let said = house.ctl("break-glass test");
        assert!(said.status == 1 && said.stdout.contains("no account is exempt"), "{said}");
    }

    fn what_pam_sshd_and_the_shell_have_against_it_is_said_as_a_login_meets_it(release) {
        let house = House::enforcing(release);
        let later: &[_] = if house.exists("/usr/lib/openssh/sshd-session") { &LATER } else { &[] };
        let mut wrong = Vec::new();
        for (number, (does, undoes, says, gets_in)) in ROWS.iter().chain(later).enumerate() {
            house.sh(&spelled(does));
            let (status, answer) = test(&house);
            let account = &answer["accounts"][0];
            let is_said = match says {
                Out(why) => status == 1 && account["why"].to_string().contains(why),
                Unsure(what) => status == 1 && answer["problems"].to_string().contains(what),
                In(note) => status == 0 && account["why"].is_null() && account["notes"].to_string().contains(note),
            };
            let ssh = house.ssh("breakglass").key(&house.breakglass).from(&format!("127.0.8.{}", number + 1));
            let login = ssh.login();
            if !is_said || login != *gets_in {
                wrong.push(format!("{does}: a login gets in: {login}; {status} {answer}"));
            }
            house.sh(&spelled(undoes));
            if test(&house).0 != 0 {
                wrong.push(format!("{undoes}: {}", test(&house).1));
            }
        }
        assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), ROWS.len() + later.len(), wrong.join("\n"));
        // Others see the same, by themselves: what is in /etc is watched, and so is whether anybody listens.
        for (does, undoes, told) in [
            ("echo 'sshd: ALL' >>/etc/hosts.deny", "sed -i /sshd/d /etc/hosts.deny", "hosts_access(5)"),
            ("echo '* - maxlogins 0' >{limits}", "rm {limits}", "lets nobody in"),
            ("{first} account required pam_deny.so' {pam}", "sed -i 1d {pam}", "PAM's account step"),
            ("systemctl stop ssh.socket ssh", "{rest}", "no sshd listens"),
        ] {
            house.sh(&spelled(does));
            eventually("status says it", SOON, || problems(&house).contains(told));
            let closing = house.ctl("ways-in --close --apply");
            assert!(closing.status == 1 && closing.stderr.contains(told), "{closing}");
            house.sh(&spelled(undoes));
            eventually("it is whole again", SOON, || !problems(&house).contains(told));
        }
        house.ctl("verify").expect_ok();
    }

    fn an_exempt_account_whose_keys_are_elsewhere_for_some_addresses_keeps_them_under_enforce(release) {
        let house = House::enforcing(release);
        house.far_network();
        let (office, old) = ("/etc/ssh/office/breakglass", house.keygen("old"));
        house.sh(&format!("mkdir -p /etc/ssh/office; cp {KEYS} {office}; chmod 644 {office}; echo '{}' >{KEYS}", old.public()));
        let block = "Match Address 127.0.0.0/8 User b*\nAuthorizedKeysFile /etc/ssh/office/%u\n";
        house.write("/etc/ssh/sshd_config.d/50-extra.conf", block);
        house.sh("systemctl reset-failed ssh; systemctl restart ssh");
        let carried = "Match User breakglass address 127.0.0.0/8";
        eventually("the drop-in has it", SOON, || house.sh("cat /etc/ssh/sshd_config.d/00-lockdownd.conf").contains(carried));
        let by = |key, from: &str| house.ssh("breakglass").key(key).from(from).login();
        eventually("the key for these addresses gets in", SOON, || by(&house.breakglass, "127.0.9.1"));
        assert!(!by(&old, "127.0.9.2") && house.exists(office), "the other counts elsewhere");
        assert!(house.ssh("breakglass").key(&old).from_far().login() && !house.ssh("breakglass").key(&house.breakglass).from_far().login());
        let (status, answer) = test(&house);
        assert_eq!(status, 0, "{answer}");
        house.ctl("verify").expect_ok();
    }

    fn no_sshd_is_made_to_leave_where_it_listens_by_a_change_that_nobody_loaded(release) {
        let house = House::enforcing(release);
        house.useradd("rescue");
        let drop_in = || house.sh("cat /etc/ssh/sshd_config.d/00-lockdownd.conf");
        // Somebody prepares another port, and for now nobody loads it.
        house.write("/etc/ssh/sshd_config.d/50-extra.conf", "Port 2222\n");
        let _ = reload(&house, "exempt = [\"breakglass\", \"rescue\"]");
        eventually("it is said", SOON, || problems(&house).contains("would no longer listen at"));
        assert!(!drop_in().contains("rescue"), "sshd was not told");
        assert!(house.ssh("breakglass").key(&house.breakglass).login(), "it listens where it did");
        house.sh("rm /etc/ssh/sshd_config.d/50-extra.conf");
        eventually("the drop-in is put in", SOON, || drop_in().contains("Match User rescue"));
        eventually("nothing is said of it any more", SOON, || !problems(&house).contains("would no longer listen"));
        assert!(house.ssh("breakglass").key(&house.breakglass).login());
    }

    fn whatever_would_lose_the_last_break_glass_is_refused_undone_or_said_with_what_to_do(release) {
        let house = House::enforcing(release);
        let gets_in = || house.ssh("breakglass").key(&house.breakglass).login();

        // An account is made, and its key is put there long before the configuration names it: one command gives it back.
        house.useradd("rescue");
        std::thread::sleep(Duration::from_secs(6));
        let rescue = house.keygen("rescue");
        house.authorize("rescue", &rescue);
        eventually("its key is in quarantine", SOON, || !house.exists("/home/rescue/.ssh/authorized_keys"));
        assert!(!reload(&house, "exempt = [\"rescue\"]"), "nobody could come to the rescue with it");
        let refused = house.records_of("config.refused").pop().expect("a record")["reason"].to_string();
        let (_, command) = refused.split_once("`lockdownctl ").expect(&refused);
        let (command, _) = command.split_once('`').expect("its end");
        assert!(command.starts_with("quarantine restore q-"), "{refused}");
        let said = house.ctl(command).expect_ok();
        assert!(said.contains("/home/rescue/.ssh/authorized_keys") && !said.contains("restored-"), "{said}");
        assert!(house.exists(KEYS) && gets_in(), "what was in force stayed");
        house.sh("systemctl reload lockdownd");
        eventually("rescue is exempt", SOON, || house.ctl_json("status")["exempt"] == serde_json::json!(["rescue"]));
        assert!(house.ssh("rescue").key(&rescue).login());

        // breakglass has stopped being exempt: its keys let nobody in, are kept, and that is said in three places.
        assert!(!gets_in() && house.exists(KEYS));
        assert!(problems(&house).contains("breakglass is not exempt any more"), "{}", problems(&house));
        let loaded = house.records_of("config.loaded").pop().expect("one");
        assert!(loaded["detail"]["no_longer_exempt"][0].to_string().contains("breakglass until "), "{loaded}");
        assert!(house.journal("-u lockdownd -p warning").contains("breakglass is not exempt any more"));
        house.sh("systemctl restart lockdownd");
        house.await_mode("enforce");
        assert!(house.exists(KEYS) && problems(&house).contains("breakglass is not exempt any more"), "it outlives a restart");
        house.configure(&house.config("enforce", ""));
        eventually("it is exempt again", SOON, gets_in);
        assert_eq!(problems(&house).matches("is not exempt any more").count(), 1, "rescue is not: {}", problems(&house));
        house.ctl("quarantine now rescue").expect_ok();
        eventually("its keys are gone", SOON, || !house.exists("/home/rescue/.ssh/authorized_keys"));

        // Offline: the daemon does not start on a configuration that would lose it.
        for accounts in ["exempt = [\"brakeglass\"]", "exempt = []"] {
            house.sh("systemctl stop lockdownd");
            house.write("/etc/lockdownd/config.toml", exempting(&house, accounts));
            house.sh("systemctl start lockdownd");
            assert!(gets_in() && house.exists(KEYS), "{accounts}");
            eventually("that is said", SOON, || problems(&house).contains("was refused"));
        }
        // Neither does an upgrade of the package take it, which restarts the daemon on that very configuration.
        let said = house.install(&built_package());
        said.expect_ok();
        assert!(house.exists(KEYS) && gets_in());
        assert!(problems(&house).contains("was refused") && house.ctl_json("status")["mode"] == "enforce");
        house.configure(&house.config("enforce", ""));

        // Closing ways in, and trying enforce, with a break-glass account that does not get in.
        house.sh("chage -E 0 breakglass");
        let closing = house.ctl("ways-in --close --apply");
        assert!(closing.status == 1 && closing.stderr.contains("chage -E -1 breakglass"), "{closing}");
        assert!(!house.exists("/etc/ssh/sshd_config.d/01-lockdownd-ways-in.conf"));
        // No reload takes away what is left of it, either: mending the other is not undone by losing this one.
        assert!(!reload(&house, "exempt = [\"ubuntu\"]"));
        house.sh("chage -E -1 breakglass");
        house.configure(&house.config("enforce", ""));
        assert!(gets_in());

        // The account is removed: that cannot be refused, and is said at once, at crit, with what to do.
        house.sh("userdel -r -f breakglass");
        let said = || house.journal("-u lockdownd -p crit");
        eventually("it is said at crit", SOON, || said().contains("breakglass: there is no such account"));
        eventually("it is on record", SOON, || {
            let records = house.records_of("sshd.changed");
            records.iter().any(|record| record["detail"]["broken"].to_string().contains("no such account"))
        });
        assert!(problems(&house).contains("no exempt account could log in"), "{}", problems(&house));
        let (status, answer) = test(&house);
        assert!(status == 1 && answer["accounts"][0]["why"].to_string().contains("there is no such account"), "{answer}");
        // A second configuration that loses another is refused meanwhile, and one that brings one is taken.
        assert!(!reload(&house, "exempt = []"));
        house.useradd("breakglass");
        house.authorize("breakglass", &house.breakglass);
        house.configure(&house.config("enforce", ""));
        eventually("it gets in", SOON, gets_in);
        eventually("nothing is wrong", SOON, || !problems(&house).contains("no exempt account"));
        house.ctl("verify").expect_ok();
    }
}
