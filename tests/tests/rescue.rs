//! Somebody can always come to the rescue: an exempt account that could not log in counts as none, what is shown is what is
//! so now, and no change of the configuration takes the last way in away.

use std::time::Duration;

use instance_tests::{House, Instance, eventually, on_each_release};

/// What the daemon may take to act on a change that nobody waits for.
const SOON: Duration = Duration::from_secs(30);
const EXTRA: &str = "/etc/ssh/sshd_config.d/50-extra.conf";
const KEYS: &str = "/home/breakglass/.ssh/authorized_keys";

/// Each: what keeps the account out, what lets it in again, and what has to be said of it.
const OUT: [(&str, &str, &str); 27] = [
    ("chage -E 0 breakglass", "chage -E -1 breakglass", "chage -E -1 breakglass"),
    ("chage -d 0 breakglass", "chage -d $(date +%F) breakglass", "has to be changed at the next login"),
    ("chage -d 2020-01-01 -M 90 breakglass", "chage -d $(date +%F) -M -1 breakglass", "has to be changed since 2020-"),
    ("usermod -s /usr/sbin/nologin breakglass", "usermod -s /bin/bash breakglass", "its shell /usr/sbin/nologin"),
    ("usermod -s /bin/gone breakglass", "usermod -s /bin/bash breakglass", "its shell /bin/gone is missing"),
    ("touch /etc/nologin", "rm /etc/nologin", "/etc/nologin"),
    ("mv {home}/.ssh /root/ssh", "mv /root/ssh {home}/.ssh", "authorized_keys is not there"),
    ("echo 'AllowUsers ubuntu' >{extra}", "rm {extra}", "AllowUsers at /etc/ssh/sshd_config.d/50-extra.conf:1"),
    ("echo 'DenyUsers anna break*' >{extra}", "rm {extra}", "DenyUsers at"),
    ("echo 'AllowGroups root' >{extra}", "rm {extra}", "AllowGroups at"),
    ("echo 'DenyGroups break*' >{extra}", "rm {extra}", "DenyGroups at"),
    ("echo 'AuthenticationMethods password' >{extra}", "rm {extra}", "AuthenticationMethods at"),
    ("echo 'AuthenticationMethods publickey,publickey' >{extra}", "rm {extra}", "AuthenticationMethods at"),
    ("echo 'PubkeyAcceptedAlgorithms rsa-sha2-512' >{extra}", "rm {extra}", "PubkeyAcceptedAlgorithms at"),
    (
        "printf 'Match User breakglass\\n  PubkeyAuthentication no\\n' >{extra}",
        "rm {extra}",
        "PubkeyAuthentication at /etc/ssh/sshd_config.d/50-extra.conf:2",
    ),
    (
        "echo 'RevokedKeys /etc/ssh/revoked' >{extra}",
        "rm {extra}",
        "RevokedKeys at /etc/ssh/sshd_config.d/50-extra.conf:1 names /etc/ssh/revoked, which is not there",
    ),
    (
        "cp {keys} /etc/ssh/revoked && echo 'RevokedKeys /etc/ssh/revoked' >{extra}",
        "rm {extra}",
        "names /etc/ssh/revoked, which lists the key",
    ),
    (
        "ssh-keygen -q -k -f /etc/ssh/revoked.krl {keys} && echo 'RevokedKeys /etc/ssh/revoked.krl' >{extra}",
        "rm {extra}",
        "names /etc/ssh/revoked.krl, which lists the key",
    ),
    (
        "printf 'Match User breakglass\n  ForceCommand /bin/false\n' >{extra}",
        "rm {extra}",
        "ForceCommand at /etc/ssh/sshd_config.d/50-extra.conf:2 runs /bin/false",
    ),
    (
        "printf 'Match User breakglass\n  ChrootDirectory /home\n' >{extra}",
        "rm {extra}",
        "ChrootDirectory at /etc/ssh/sshd_config.d/50-extra.conf:2 confines breakglass to /home",
    ),
    ("echo 'MaxSessions 0' >{extra}", "rm {extra}", "MaxSessions at /etc/ssh/sshd_config.d/50-extra.conf:1 is 0"),
    // sshd reads the key as the account: root, who put it there, can.
    ("chown root: {keys} && chmod 600 {keys}", "chown breakglass: {keys}", "cannot be read by the account"),
    ("chown root: {home}/.ssh && chmod 700 {home}/.ssh", "chown breakglass: {home}/.ssh", "cannot search"),
    ("chmod 700 /home", "chmod 755 /home", "cannot search"),
    ("chmod 775 {home} && usermod -aG breakglass ubuntu", "gpasswd -d ubuntu breakglass", "writable by others"),
    ("chgrp users {home}", "chgrp breakglass {home}", "writable by others"),
    (
        "cp -p {keys} /root/keys && sed -i 's/^/expiry-time=\"20200101\" /' {keys}",
        "cat /root/keys >{keys}",
        "only keys with an expiry-time=",
    ),
];

/// Each: what looks as if it kept the account out and does not, what takes it away again, and what is said of it.
const IN: [(&str, &str, &str); 3] = [
    ("echo 'RevokedKeys /dev/null' >{extra}", "rm {extra}", ""),
    (
        "printf 'Match User breakglass\n  ForceCommand /usr/bin/recorder all\n' >{extra}",
        "rm {extra}",
        "ForceCommand at /etc/ssh/sshd_config.d/50-extra.conf:2 runs /usr/bin/recorder all instead of a shell",
    ),
    (
        "cp -p {keys} /root/keys && sed -i 's,^,command=\"/usr/bin/recorder\" ,' {keys}",
        "cat /root/keys >{keys}",
        "each of its keys runs a command of its own",
    ),
];
/// Stands for a program that records sessions.
const RECORDER: &str = "#!/bin/sh
exec sh -c \"$SSH_ORIGINAL_COMMAND\"
";

/// A file that sshd would wait for.
const FIFO: &str = "/etc/ssh/sshd_config.d/60-fifo.conf";

fn filled(script: &str) -> String {
    let script = script.replace("{keys}", KEYS).replace("{home}", "/home/breakglass").replace("{extra}", EXTRA);
    match script.contains(EXTRA) {
        true => format!("{script} && systemctl reset-failed ssh && systemctl restart ssh"),
        false => script,
    }
}

fn problems(house: &Instance) -> String {
    house.ctl_json("status")["problems"].to_string()
}

/// The configuration of a house in enforce with these exempt accounts.
fn exempting(house: &House, accounts: &str) -> String {
    house.config("enforce", "").replace("exempt = [\"breakglass\"]", accounts)
}

fn reload(house: &House, toml: &str) -> bool {
    house.write("/etc/lockdownd/config.toml", toml);
    house.run("systemctl reload lockdownd").ok()
}

on_each_release! {
    fn plan_status_and_enforce_agree_on_whether_the_break_glass_account_gets_in(release) {
        let house = House::observing(release);
        house.sh("echo 'breakglass:secret' | chpasswd");
        for (number, (breaks, mends, told)) in OUT.into_iter().enumerate() {
            // Each from an address of its own: sshd shuts one out that was refused a few times.
            let logs_in = || house.ssh("breakglass").key(&house.breakglass).from(&format!("127.0.1.{}", number + 1)).login();
            house.sh(&filled(breaks));
            let plan = house.ctl("plan");
            assert!(plan.status == 1 && plan.stdout.contains(told), "{breaks}: {plan}");
            let status = house.ctl_json("status")["obstacles"].to_string();
            assert!(status.contains(told), "{breaks}: {status}");
            let refused = house.ctl("enforce --for 1h");
            assert!(refused.status == 1 && refused.stderr.contains(told), "{breaks}: {refused}");
            assert!(!logs_in(), "{breaks}: it does get in");
            house.sh(&filled(mends));
            let plan = house.ctl("plan");
            assert!(plan.status == 0, "{mends}: {plan}");
        }
        house.write("/usr/bin/recorder", RECORDER);
        house.sh("chmod 755 /usr/bin/recorder");
        for (number, (does, undoes, told)) in IN.into_iter().enumerate() {
            house.sh(&filled(does));
            let plan = house.ctl("plan");
            assert!(plan.status == 0 && plan.stdout.contains(told), "{does}: {plan}");
            assert!(problems(&house).contains(told), "{does}: {}", problems(&house));
            assert!(house.ssh("breakglass").key(&house.breakglass).from(&format!("127.0.3.{}", number + 1)).login(), "{does}");
            house.sh(&filled(undoes));
        }
        house.sh(&format!("mkfifo {FIFO}"));
        let plan = house.ctl("plan");
        assert!(plan.status == 1 && plan.stdout.contains(&format!("{FIFO} is not a regular file")), "{plan}");
        house.sh(&format!("rm {FIFO}"));
        // Its home is still writable by its own group.
        assert!(house.ssh("breakglass").key(&house.breakglass).from("127.0.2.1").login());
        house.configure(&house.config("enforce", ""));
        house.await_mode("enforce");

        // In enforce each change shows by itself, at crit.
        for index in [0, 3, 6] {
            let (breaks, mends, told) = OUT[index];
            house.sh(&filled(breaks));
            eventually("it is on record", SOON, || {
                house.records_of("sshd.changed").iter().any(|r| r["detail"]["broken"].as_str().is_some_and(|b| b.contains(told)))
            });
            assert!(house.journal("-u lockdownd -p crit").contains(told), "{breaks}");
            house.sh(&filled(mends));
            eventually("it is whole again", SOON, || problems(&house) == "[]");
        }
        house.sh("mv /home/breakglass /home/elsewhere");
        eventually("a home that was moved shows", SOON, || house.journal("-u lockdownd -p crit").contains("authorized_keys is not there"));
        house.sh("mv /home/elsewhere /home/breakglass");
        eventually("it is whole again", SOON, || problems(&house) == "[]");
        house.sh("userdel -f breakglass");
        eventually("that it is gone shows", SOON, || house.journal("-u lockdownd -p crit").contains("there is no such account"));
        house.ctl("verify").expect_ok();
    }

    fn a_reload_that_would_lock_everybody_out_is_refused(release) {
        let house = House::enforcing(release);
        let gets_in = || house.ssh("breakglass").key(&house.breakglass).login();
        // A mistyped name, nobody at all, and somebody who could not log in.
        house.useradd("rescue");
        for accounts in ["exempt = [\"brakeglass\"]", "exempt = []", "exempt = [\"rescue\"]"] {
            assert!(!reload(&house, &exempting(&house, accounts)), "{accounts}");
            let refused = house.records_of("config.refused").pop().expect("a record");
            assert!(refused["reason"].as_str().unwrap().contains("accounts.no_exempt = true"), "{refused}");
            assert!(house.exists(KEYS) && gets_in(), "{accounts}");
            assert!(problems(&house).contains("was refused"), "{accounts}");
        }
        house.sh("systemctl restart lockdownd");
        house.await_mode("enforce");
        assert!(house.exists(KEYS) && gets_in(), "it started on the last good configuration");
        assert!(problems(&house).contains("was refused"));
        // What the files say otherwise is refused as well, and said.
        assert!(!reload(&house, "mode = \"enforce\"\nsurprise = 1\n"));
        house.configure(&house.config("enforce", ""));
        eventually("nothing is wrong", SOON, || problems(&house) == "[]");
        // SIGHUP tells nobody, and is refused all the same.
        house.write("/etc/lockdownd/config.toml", exempting(&house, "exempt = [\"brakeglass\"]"));
        house.sh("systemctl kill -s HUP --kill-whom=main lockdownd");
        eventually("it is refused", SOON, || problems(&house).contains("brakeglass"));
        assert!(gets_in());
        assert!(reload(&house, &exempting(&house, "no_exempt = true")), "nobody is wanted");
        house.ctl("verify").expect_ok();
    }

    fn what_stops_being_exempt_keeps_its_keys_for_a_day_unless_somebody_says_so_earlier(release) {
        let house = House::enforcing(release);
        house.write("/etc/lockdownd/config.toml", exempting(&house, "exempt = [\"rescue\"]"));
        // Made and named in one converge.
        let rescue = house.keygen("rescue");
        let key = rescue.public().to_owned();
        house.sh(&format!(
            "useradd -m -s /bin/bash -p '*' rescue && install -d -o rescue -g rescue -m 700 /home/rescue/.ssh && \
             echo '{key}' >/home/rescue/.ssh/authorized_keys && systemctl reload lockdownd"
        ));
        assert!(house.ssh("rescue").key(&rescue).login());
        assert!(!house.ssh("breakglass").key(&house.breakglass).login(), "it is exempt no longer");
        let warned = |house: &House| problems(house).contains("breakglass is not exempt any more");
        assert!(warned(&house) && house.exists(KEYS));
        let loaded = house.records_of("config.loaded").pop().expect("a record");
        assert!(loaded["detail"]["no_longer_exempt"][0].as_str().unwrap().starts_with("breakglass until "), "{loaded}");
        assert!(house.journal("-u lockdownd -p warning").contains("not exempt any more"));
        // What keeps them is written again where somebody removed it.
        house.sh("rm /var/lib/lockdownd/formerly_exempt.json; systemctl reload lockdownd; systemctl restart lockdownd");
        house.await_mode("enforce");
        let swept = || house.records_of("sweep.attested").len();
        let before = swept();
        eventually("a sweep is over", SOON, || swept() > before || before > 1);
        assert!(warned(&house) && house.exists(KEYS));
        // Named again it works at once.
        house.configure(&exempting(&house, "exempt = [\"rescue\", \"breakglass\"]"));
        assert!(house.ssh("breakglass").key(&house.breakglass).login() && !warned(&house));
        // Also where the list of exempt accounts goes while the daemon does not run.
        house.write("/etc/lockdownd/config.toml", exempting(&house, "exempt = [\"rescue\"]"));
        house.sh("systemctl stop lockdownd; rm /var/lib/lockdownd/exempt; systemctl start lockdownd");
        house.await_mode("enforce");
        assert!(warned(&house) && house.exists(KEYS));
        let wrong = house.ctl("quarantine now frank");
        assert!(wrong.status == 1 && wrong.stderr.contains("breakglass"), "{wrong}");
        house.ctl("quarantine now breakglass").expect_ok();
        eventually("they go like any others", SOON, || !house.exists(KEYS));
        eventually("on record", SOON, || house.records_of("key.removed").iter().any(|r| r["account"] == "breakglass"));
        assert!(house.ctl("quarantine now breakglass").status == 1);
        assert!(house.ssh("rescue").key(&rescue).login());
        house.ctl("verify").expect_ok();
    }

    fn an_exempt_account_that_is_renamed_keeps_its_keys_without_effect_until_it_is_named_anew(release) {
        let house = House::enforcing(release);
        house.authorize("grace", &house.grace);
        eventually("grace's own goes", SOON, || !house.exists("/home/grace/.ssh/authorized_keys"));
        house.sh("usermod -l rescuer breakglass && usermod -l gracie grace");
        let kept = || problems(&house).contains("rescuer is not exempt");
        eventually("it is said", SOON, kept);
        let renamed = house.records_of("sshd.changed").into_iter().find(|record| record["account"] == "rescuer");
        assert_eq!(renamed.expect("a record")["detail"]["renamed_from"], "breakglass");
        // Longer than the keys of any new account are spared, and over a restart.
        std::thread::sleep(Duration::from_secs(8));
        house.sh("systemctl restart lockdownd");
        house.await_mode("enforce");
        assert!(kept() && house.exists(KEYS));
        assert!(!house.ssh("rescuer").key(&house.breakglass).from("127.0.1.1").login(), "they have no effect");
        house.configure(&exempting(&house, "exempt = [\"rescuer\"]"));
        assert!(house.ssh("rescuer").key(&house.breakglass).from("127.0.1.2").login());
        // What was taken from an account that was renamed is given back to it by its user id.
        let items = house.ctl_json("quarantine list");
        let id = items["items"][0]["id"].as_str().expect("an item").to_owned();
        let said = house.ctl(&format!("quarantine restore {id}")).expect_ok();
        let place = format!("/home/grace/.ssh/authorized_keys.restored-{id}");
        assert!(said.contains(&place) && house.sh(&format!("stat -c %U {place}")) == "gracie", "{said}");
        assert_eq!(house.records_of("quarantine.restored")[0]["account"], "gracie");
        house.ctl("verify").expect_ok();
    }
}
