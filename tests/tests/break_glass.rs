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
        // What was not tried is said.
        house.sh("echo 'account required pam_access.so' >>/etc/pam.d/sshd");
        let (status, answer) = test(&house);
        assert!(status == 0 && answer["accounts"][0]["notes"].to_string().contains("pam_access.so, which was not tried"), "{answer}");
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
