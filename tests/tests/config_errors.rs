//! Mistakes in the configuration and on the command line: a clear error that names the place, and nothing changes.

use std::time::Duration;

use instance_tests::{House, eventually, on_each_release};

/// What the daemon may take to act on a reload, which Debian 12 does not wait for.
const SOON: Duration = Duration::from_secs(30);
const CONFIG: &str = "/etc/lockdownd/config.toml";

/// A mistake: what stands behind a good configuration, and what is said about it.
const MISTAKES: [(&str, &[&str]); 11] = [
    ("mode = enforce", &["no valid TOML"]),
    ("[grants]\nmax_life = \"1h\"", &["max_life", "max_duration"]),
    ("[grants]\nmax_duration = \"2 hours\"", &["\"2 hours\" is not a duration", "1h30m"]),
    ("[grants]\ndefault_duration = \"13h\"", &["longer than max_duration 12h"]),
    ("[schedule]\nsweep = \"*/15 * * * *\"", &["it has 5 fields", "0 */15 * * * *"]),
    ("[schedule]\nlockdown = \"0 99 * * * *\"", &["lockdown"]),
    ("[[person]]\nname = \"mallory\"\nkeys = [\"{frank}\"]\naccounts = []", &["frank", "mallory"]),
    ("[[person]]\nname = \"frank\"\nkeys = []\naccounts = []", &["frank"]),
    ("[[person]]\nname = \"mallory\"\nkeys = [\"ssh-ed25519 AAAA\"]\naccounts = []", &["key"]),
    (
        "[[grant]]\nperson = \"nobody\"\naccount = \"ubuntu\"\nexpires_at = \"2099-01-01T00:00:00Z\"\nreason = \"x\"",
        &["nobody", "frank"],
    ),
    (
        "[[grant]]\nperson = \"frank\"\naccount = \"root\"\nexpires_at = \"2099-01-01T00:00:00Z\"\nreason = \"x\"",
        &["root", "ubuntu"],
    ),
];

on_each_release! {
    fn a_bad_configuration_is_refused_at_its_place_and_the_running_one_stays(release) {
        let house = House::enforcing(release);
        house.allow("grace --account ubuntu --for 1h");
        let mut client = house.ssh("ubuntu").key(&house.grace).stay();
        let good = house.config("enforce", "");
        let hash = house.ctl_json("status")["config"]["hash"].clone();
        let last_good = house.sh("sha256sum /var/lib/lockdownd/last-good.toml");
        let first_line = good.trim_end().lines().count() + 1;

        for (mistake, told) in MISTAKES {
            let mistake = mistake.replace("{frank}", house.frank.public());
            house.write(CONFIG, format!("{}\n{mistake}\n", good.trim_end()));
            let check = house.ctl("check");
            assert_eq!(check.status, 78, "{mistake}: {check}");
            let line = check.stdout.lines().next().unwrap_or_default();
            let at: Option<usize> = line.strip_prefix(&format!("{CONFIG}:")).and_then(|rest| rest.split(':').next()?.parse().ok());
            assert!(at.is_some_and(|at| (first_line..first_line + 5).contains(&at)), "{mistake}: {check}");
            assert!(told.iter().all(|word| check.stdout.contains(word)), "{mistake}: {check}");

            let before = house.records_of("config.refused").len();
            assert!(!house.run("systemctl reload lockdownd").ok(), "{mistake}: the reload fails");
            eventually("it is recorded", SOON, || house.records_of("config.refused").len() > before);
            let record = house.records_of("config.refused").pop().unwrap();
            assert!(record["detail"]["problems"][0].as_str().is_some_and(|said| said == line), "{record}");
        }
        let status = house.ctl_json("status");
        assert_eq!((&status["config"]["hash"], &status["config"]["last_good"]), (&hash, &false.into()));
        assert!(status["config"]["refused"].as_str().is_some_and(|why| why.contains(CONFIG)), "{status}");
        assert!(house.journal("-u lockdownd -p err").contains(CONFIG));
        assert_eq!(house.sh("sha256sum /var/lib/lockdownd/last-good.toml"), last_good);
        assert!(client.is_alive() && house.ssh("ubuntu").key(&house.grace).login());
        assert!(!house.ctl("people").stdout.contains("mallory"));

        // At start without a good one it runs on the last good one, whatever became of the files.
        for broken in ["true", "rm /etc/lockdownd/config.toml", "echo 'mode = \"observe\"' >/etc/lockdownd/config.toml; chmod 666 /etc/lockdownd/config.toml"] {
            house.sh(&format!("{broken}; systemctl restart lockdownd"));
            let status = house.ctl_json("status");
            assert_eq!((&status["config"]["hash"], &status["config"]["last_good"], &status["mode"]), (&hash, &true.into(), &"enforce".into()), "{broken}");
            assert!(client.is_alive() && house.ssh("ubuntu").key(&house.grace).login(), "{broken}");
            house.allow("frank --account frank --for 10m");
        }
        house.sh(&format!("rm -f {CONFIG}"));
        house.configure(&good);
        eventually("the mended one is in force", SOON, || {
            let config = house.ctl_json("status")["config"].clone();
            config["last_good"] == false && config["refused"].is_null()
        });
        assert!(client.is_alive());
        house.ctl("verify").expect_ok();
    }

    fn a_bad_request_is_refused_with_what_would_have_worked(release) {
        let house = House::enforcing_with(release, "[[person]]\nname = \"heidi\"\nkeys = []\naccounts = [\"ubuntu\"]\n\
            [[person]]\nname = \"ivan\"\nkeys = []\naccounts = []\n");
        let before = house.records_of("grant.created").len();
        let requests: [(&str, i32, &[&str]); 16] = [
            ("allow mallory --for 1h --reason x", 1, &["nobody is named mallory", "frank", "grace"]),
            ("allow 'fr ank' --for 1h --reason x", 2, &["fr ank"]),
            ("allow frank --account root --for 1h --reason x", 1, &["may not be given the account root", "ubuntu"]),
            ("allow frank --account nosuch --for 1h --reason x", 1, &["may not be given the account nosuch", "ubuntu"]),
            ("allow frank --account breakglass --for 1h --reason x", 1, &["exempt", "ubuntu"]),
            ("allow heidi --for 1h --reason x", 1, &["heidi has no key"]),
            ("allow frank --for 1h", 1, &["a reason is required", "--reason"]),
            ("allow frank --for 13h --reason x", 1, &["longer than a grant may live", "12h"]),
            ("allow frank --for 2hours --reason x", 2, &["not a duration", "1h30m"]),
            ("allow frank --for 0s --reason x", 2, &["0s"]),
            ("allow frank --for 1h --from 10.0.0.0/33 --reason x", 2, &["10.0.0.0/33"]),
            ("allow frank --for 1h --at yesterday --reason x", 2, &["yesterday", "2026-12-01T18:00:00Z"]),
            ("revoke g-0000000000000000", 1, &["there is no grant", "lockdownctl grants"]),
            ("revoke g-000", 1, &["there is no grant g-000, and nobody is named so", "lockdownctl grants"]),
            ("revoke mallory", 1, &["nobody is named mallory", "frank", "grace"]),
            ("revoke frank", 1, &["frank has no open grant", "lockdownctl grants"]),
        ];
        for (request, status, told) in requests {
            let refused = house.ctl(request);
            assert!(refused.status == status && told.iter().all(|word| refused.stderr.contains(word)), "{refused}");
        }
        assert_eq!(house.records_of("grant.created").len(), before);
        assert_eq!(house.sh("ls /run/lockdownd/keys"), "");

        // An account that may be given and is not there.
        house.sh("userdel -rf grace");
        let check = house.ctl("check").expect_ok();
        assert!(check.starts_with("/etc/lockdownd: good; mode enforce, people: "), "{check}");
        assert!(check.contains("warning: grace may be given grace, which this host does not have"), "{check}");
        eventually("it is shown", SOON, || house.ctl_json("people").to_string().contains("\"missing_accounts\":[\"grace\"]"));
        let refused = house.ctl("allow grace --account grace --for 1h --reason x");
        assert!(refused.status == 1 && refused.stderr.contains("there is no account grace on this host"), "{refused}");
        // The daemon does not answer.
        house.sh("systemctl stop lockdownd-gate.socket lockdownd-control.socket lockdownd.service");
        let silent = house.ctl("allow frank --for 1h --reason x");
        assert!(silent.status == 69 && silent.stderr.contains("systemctl"), "{silent}");
    }
}
