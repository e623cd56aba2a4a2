//! Observe and enforce: the trial that goes back by itself, what keeps enforce from beginning, and what happens when
//! something breaks while it is on.

use std::time::Duration;

use instance_tests::{House, Instance, eventually, on_each_release};
use serde_json::Value;

/// What the daemon may take to act on a change that nobody waits for.
const SOON: Duration = Duration::from_secs(30);
const DROP_IN: &str = "/etc/ssh/sshd_config.d/00-lockdownd.conf";
const MARKER: &str = "/var/lib/lockdownd/enforcing";
const DOWN: &str = "systemctl stop lockdownd-gate.socket lockdownd-control.socket lockdownd.service";

fn mode(house: &Instance) -> Value {
    house.ctl_json("status")["mode"].clone()
}

fn problems(house: &Instance) -> String {
    house.ctl_json("status")["problems"].to_string()
}

/// Nothing of enforce is left, and keys in homes work as before.
#[track_caller]
fn as_before(house: &House) {
    house.await_mode("observe");
    assert!(!house.exists(DROP_IN) && !house.exists(MARKER));
    assert_eq!(house.sh("ls /run/lockdownd/keys"), "");
    house.authorize("grace", &house.grace);
    eventually("sshd reads homes again", SOON, || house.ssh("grace").key(&house.grace).login());
}

/// What each mode change said, in order.
fn changes(house: &Instance) -> Vec<(String, String)> {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let records = house.records_of("mode.changed");
    records.iter().map(|record| (word(&record["detail"]["mode"]), word(&record["reason"]))).collect()
}

on_each_release! {
    fn a_trial_of_enforce_goes_back_by_itself(release) {
        let house = House::observing(release);
        house.authorize("grace", &house.grace);
        assert!(house.ssh("grace").key(&house.grace).login(), "observe lets everybody pass");
        let said = house.ctl("enforce --for 1h").expect_ok();
        assert!(said.contains(DROP_IN), "{said}");
        assert_eq!(mode(&house), "enforce");
        eventually("the key is in quarantine", SOON, || !house.exists("/home/grace/.ssh/authorized_keys"));
        assert!(!house.ssh("grace").key(&house.grace).login());
        house.allow("frank --account ubuntu --for 1h");
        let mut client = house.ssh("ubuntu").key(&house.frank).stay();
        house.sh("systemctl restart lockdownd");
        assert_eq!(mode(&house), "enforce", "a restart does not end the trial");
        house.ctl("enforce --for 3s").expect_ok();
        as_before(&house);
        assert!(client.is_alive());

        // The daemon is down when it ends.
        house.ctl("enforce --for 8s").expect_ok();
        house.sh(DOWN);
        assert!(!house.ssh("grace").key(&house.grace).login());
        let until = house.sh(&format!("grep -o '\"wall\":\"[^\"]*' {MARKER} | cut -d'\"' -f4"));
        eventually("the trial's time is over", SOON, || house.run(&format!("[ $(date +%s%N) -gt $(date -d {until} +%s%N) ]")).ok());
        house.sh("systemctl start lockdownd");
        as_before(&house);
        let (words, reasons): (Vec<_>, Vec<_>) = changes(&house).into_iter().unzip();
        assert_eq!(words, ["enforce", "enforce", "observe", "enforce", "observe"], "{reasons:?}");
        assert!(reasons[2].contains("the trial is over"), "{reasons:?}");
        house.ctl("verify").expect_ok();
    }

    fn a_trial_stays_if_the_configuration_says_enforce_by_then(release) {
        let house = House::observing(release);
        let until = house.ctl_json("enforce --for 4s")["until"].as_str().unwrap().to_owned();
        house.configure(&house.config("enforce", ""));
        eventually("the trial's time is over", SOON, || house.run(&format!("[ $(date +%s) -gt $(date -d {until} +%s) ]")).ok());
        assert_eq!(mode(&house), "enforce");
        assert!(house.exists(DROP_IN) && house.exists(MARKER));
        let again = house.ctl("enforce --for 1h");
        assert!(again.status == 1 && again.stderr.contains("says enforce already"), "{again}");
        // Back to observe by configuration.
        house.configure(&house.config("observe", ""));
        as_before(&house);
    }

    fn enforce_is_refused_with_what_to_do_while_something_stands_in_its_way(release) {
        let house = House::observing(release);
        let extra = "/etc/ssh/sshd_config.d/50-extra.conf";
        let obstacles = [
            ("echo 'UsePAM no' >{extra}", "rm {extra}", &["UsePAM is off", "50-extra.conf:1", "UsePAM yes"][..]),
            ("sed -i.bak /login-gate/d /etc/pam.d/common-session", "mv /etc/pam.d/common-session.bak /etc/pam.d/common-session",
             &["/etc/pam.d/common-session:", "login-gate"]),
            ("mv /home/breakglass/.ssh /root/ssh", "mv /root/ssh /home/breakglass/.ssh", &["no exempt account could log in", "breakglass"]),
            ("sed -i.bak '1i AuthorizedKeysFile /etc/keys/%u' /etc/ssh/sshd_config", "mv /etc/ssh/sshd_config.bak /etc/ssh/sshd_config",
             &["sshd_config", "Include"]),
            ("sed -i.bak '1i Match User frank\\n  AuthorizedKeysFile /etc/keys/%u\\nMatch all' /etc/ssh/sshd_config",
             "mv /etc/ssh/sshd_config.bak /etc/ssh/sshd_config", &["sshd_config", "Include"]),
        ];
        for (breaks, mends, told) in obstacles {
            house.sh(&format!("{} && systemctl reset-failed ssh && systemctl restart ssh", breaks.replace("{extra}", extra)));
            let refused = house.ctl("enforce --for 5s");
            assert!(refused.status == 1 && told.iter().all(|word| refused.stderr.contains(word)), "{breaks}: {refused}");
            let plan = house.ctl("plan");
            assert!(plan.status == 1 && told.iter().all(|word| plan.stdout.contains(word)), "{breaks}: {plan}");
            assert!(mode(&house) == "observe" && !house.exists(DROP_IN) && !house.exists(MARKER), "after {breaks}");
            house.sh(&format!("{} && systemctl reset-failed ssh && systemctl restart ssh", mends.replace("{extra}", extra)));
        }
        // A Match block behind the drop-in is none of these: it does not get a word in.
        house.write("/etc/keys/frank", format!("{}\n", house.frank.public()));
        house.write(extra, "Match User frank\n    AuthorizedKeysFile /etc/keys/%u\n");
        house.sh("systemctl reset-failed ssh && systemctl restart ssh");
        assert!(house.ssh("frank").key(&house.frank).login(), "the block holds in observe");
        house.ctl("enforce --for 1h").expect_ok();
        assert!(!house.ssh("frank").key(&house.frank).login());
        assert!(house.ssh("breakglass").key(&house.breakglass).login());
        // Another end of the trial is a change like any other.
        let until = house.ctl_json("enforce --for 2h")["until"].clone();
        let changed = house.records_of("mode.changed").pop().expect("a record");
        assert_eq!((&changed["detail"]["trial_until"], &changed["actor"]["uid"]), (&until, &0.into()), "{changed}");
    }

    fn a_configuration_that_says_enforce_waits_for_what_stands_in_its_way(release) {
        let house = House::observing(release);
        house.write("/etc/ssh/sshd_config.d/50-extra.conf", "UsePAM no\n");
        house.sh("systemctl reset-failed ssh && systemctl restart ssh");
        house.configure(&house.config("enforce", ""));
        eventually("it is shown", SOON, || problems(&house).contains("only observes"));
        assert!(mode(&house) == "observe" && !house.exists(DROP_IN));
        eventually("it is on record", SOON, || {
            let mut broken = house.records_of("sshd.changed").into_iter().filter(|r| r["detail"]["broken"].is_string());
            broken.next_back().is_some_and(|r| r["reason"].as_str().unwrap().contains("UsePAM is off"))
        });
        house.sh("rm /etc/ssh/sshd_config.d/50-extra.conf && systemctl reset-failed ssh && systemctl restart ssh");
        house.await_mode("enforce");
        eventually("nothing is wrong any more", SOON, || problems(&house) == "[]");
    }

    fn what_breaks_later_is_recorded_and_shown_and_the_rest_stays_enforced(release) {
        let house = House::enforcing(release);
        house.allow("grace --account ubuntu --for 1h");
        house.sh(&format!("rm {DROP_IN}"));
        eventually("the drop-in is back", SOON, || house.exists(DROP_IN));

        let extra = "/etc/ssh/sshd_config.d/50-extra.conf";
        house.write(extra, "UsePAM no\n");
        house.sh("systemctl reset-failed ssh && systemctl restart ssh");
        eventually("it is shown", SOON, || problems(&house).contains("UsePAM is off"));
        assert_eq!(mode(&house), "enforce");
        let status = house.ctl_json("status");
        assert_eq!(status["problems"][0]["severity"], "crit");
        let said = house.journal("-u lockdownd -p crit");
        assert!(said.contains("UsePAM is off"), "{said}");
        let recorded = |word: &str| {
            let records = house.records_of("sshd.changed");
            records.iter().any(|r| r["detail"][word].as_str().is_some_and(|text| text.contains("UsePAM is off")))
        };
        eventually("it is on record", SOON, || recorded("broken"));
        assert!(!recorded("mended"));
        // The layer that is left: sshd reads no key but from the store.
        house.authorize("frank", &house.frank);
        assert!(!house.ssh("frank").key(&house.frank).login());
        // Whoever has a grant gets so far, and is ended: nobody asked the gate about them.
        let _ = house.ssh("ubuntu").key(&house.grace).login();
        eventually("it came past the gate", SOON, || {
            let opened = house.records_of("session.opened");
            opened.iter().any(|r| r["account"] == "ubuntu" && r["detail"]["past_gate"] == true)
        });

        house.sh(&format!("rm {extra} && systemctl reset-failed ssh && systemctl restart ssh"));
        eventually("it is whole again", SOON, || problems(&house) == "[]");
        eventually("that is on record", SOON, || recorded("mended"));
        // The other layer: with the gate's lines gone the break is shown, and mended when they are back.
        house.sh("sed -i.bak /login-gate/d /etc/pam.d/common-account");
        eventually("the gate's absence is shown", SOON, || problems(&house).contains("common-account"));
        assert!(!house.ssh("frank").key(&house.frank).login());
        house.sh("mv /etc/pam.d/common-account.bak /etc/pam.d/common-account");
        eventually("it is whole again", SOON, || problems(&house) == "[]");
        house.ctl("verify").expect_ok();
    }
}
