//! Names of accounts that sshd may take for patterns of key files, and an OpenSSH that is replaced while the daemon runs.

use std::time::Duration;

use instance_tests::{House, Release, eventually, on_each_release};

/// What the daemon may take to see that sshd's program is another.
const SOON: Duration = Duration::from_secs(30);
/// useradd(8) makes none of them; a directory's administrator does.
const NAMES: [&str; 5] = ["CORP\\jane", "a[b]c", "st*r", "qu?y", "p%c"];
const PATTERN: [char; 4] = ['\\', '[', '*', '?'];

/// The accounts, and jane who may be given each of them.
fn house(release: Release) -> (House, instance_tests::Key) {
    let house = House::observing(release);
    for (number, name) in NAMES.iter().enumerate() {
        let (uid, home) = (7_000 + number, format!("/home/odd{number}"));
        house.sh(&format!(
            "install -d -o {uid} -g {uid} {home} && printf '%s\\n' '{name}:x:{uid}:{uid}::{home}:/bin/bash' >>/etc/passwd && \
             printf '%s\\n' 'odd{number}:x:{uid}:' >>/etc/group && printf '%s\\n' '{name}:*:20000:0:99999:7:::' >>/etc/shadow"
        ));
    }
    let jane = house.keygen("jane");
    let accounts = NAMES.map(|name| format!("'{name}'")).join(", ");
    // An exempt account's own file: its path is what counts.
    house.sh("usermod -d '/home/b[g]' -m breakglass");
    let (gets_in, plan) = (house.ssh("breakglass").key(&house.breakglass).login(), house.ctl("plan"));
    assert_eq!((gets_in, plan.ok()), (release == Release::Bookworm, release == Release::Bookworm), "{plan}");
    assert_eq!(plan.stdout.contains("is taken for a pattern by OpenSSH 10"), !gets_in, "{plan}");
    // usermod(8) would refuse it while the login is not quite over.
    house.sh("sed -i 's#:/home/b\\[g\\]:#:/home/breakglass:#' /etc/passwd && mv '/home/b[g]' /home/breakglass");

    let person = format!("[[person]]\nname = \"jane\"\nkeys = [\"{}\"]\naccounts = [{accounts}]\n", jane.public());
    house.configure(&house.config("enforce", &person));
    house.await_mode("enforce");
    (house, jane)
}

fn allow(house: &House, account: &str) -> instance_tests::Output {
    house.ctl(&format!("allow jane --account '{account}' --for 1h --reason test"))
}

on_each_release! {
    fn a_name_that_sshd_takes_for_a_pattern_is_refused_where_it_does_and_gets_in_where_it_does_not(release) {
        let (house, jane) = house(release);
        let globs = release == Release::Trixie;
        for name in NAMES {
            let allowed = allow(&house, name);
            if globs && name.contains(PATTERN) {
                assert!(allowed.status == 1, "{allowed}");
                for said in [name, "takes the name for a pattern", "OpenSSH 10 and later", "an account of another name"] {
                    assert!(allowed.stderr.contains(said), "{said}: {allowed}");
                }
                continue;
            }
            allowed.expect_ok();
            assert_eq!(house.ssh(name).key(&jane).run("id -un").expect_ok(), name);
            let opened = house.ctl(&format!("records --type session.opened --account '{name}'")).expect_ok();
            assert!(opened.contains("jane"), "{opened}");
        }
        // A grant that the configuration renders cannot be refused: it is told.
        house.write(
            "/etc/lockdownd/conf.d/10-grants.toml",
            "[[grant]]\nperson = \"jane\"\naccount = 'CORP\\jane'\nexpires_at = \"2099-01-01T00:00:00Z\"\nreason = \"INC-1\"\n",
        );
        house.sh("systemctl reload lockdownd");
        let is_told = || {
            let problems = house.ctl_json("status")["problems"].to_string();
            problems.contains("does not honour jane's grant") && problems.contains("OpenSSH 10 and later take the characters")
        };
        if globs {
            eventually("status tells", SOON, is_told);
            assert!(house.ctl("plan").stdout.contains("OpenSSH 10 and later take the characters"));
            // sshd means what is said of it.
            assert!(house.exists("/run/lockdownd/keys/CORP\\jane") && !house.ssh("CORP\\jane").key(&jane).login());
        } else {
            assert!(!is_told() && house.ssh("CORP\\jane").key(&jane).login());
        }

        // sshd's program under another version, as an upgrade leaves it.
        let daemon = || house.sh("systemctl show -P MainPID lockdownd");
        let (before, version) = (daemon(), || house.ctl_json("status")["openssh"].clone());
        // The same length, or the program would not run.
        let (old, new, shown) = match release {
            Release::Bookworm => ("OpenSSH_9.2", "OpenSSH_9.9", ["OpenSSH 9.2", "OpenSSH 9.9"]),
            Release::Trixie => ("OpenSSH_10.0p2", "OpenSSH_9.99p2", ["OpenSSH 10.0", "OpenSSH 9.99"]),
        };
        assert_eq!(version(), shown[0]);
        house.sh(&format!(
            "cd /usr/sbin && LC_ALL=C sed 's/{old}/{new}/g' sshd >sshd.new && chmod 755 sshd.new && ! cmp -s sshd sshd.new && mv sshd.new sshd"
        ));
        eventually("status names the version that is installed", SOON, || version() == shown[1]);
        assert!(house.ctl("status").stdout.contains(&format!("with {}", shown[1])));
        assert!(allow(&house, "CORP\\jane").ok(), "what it takes for a pattern goes by its version");
        assert_eq!(daemon(), before, "without a restart");
        house.ctl("verify").expect_ok();
    }
}
