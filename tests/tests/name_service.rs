//! Accounts that passwd does not list and the name service knows all the same: here by libnss-extrausers, as LDAP and SSSD
//! do it.

use std::time::Duration;

use instance_tests::{House, Key, eventually, on_each_release};

const SOON: Duration = Duration::from_secs(30);

/// Who there is besides passwd: `extra`, whom frank may be given; `hidden`, whom nothing names; `rescue`, who is exempt.
const ACCOUNTS: [(&str, u32); 3] = [("extra", 5_001), ("hidden", 5_002), ("rescue", 5_003)];

/// A house in which these accounts have a key each in their homes.
fn house(release: instance_tests::Release) -> (House, Key) {
    let house = House::observing(release);
    house.sh("mkdir -p /var/lib/extrausers && cd /var/lib/extrausers && umask 022 && \
         echo 'admins:x:6000:extra,rescue,breakglass' >group && : >passwd && : >shadow && \
         sed -i -E '/^(passwd|group|shadow):/ s/files/files extrausers/' /etc/nsswitch.conf");
    let key = house.keygen("planted");
    for (name, uid) in ACCOUNTS {
        house.sh(&format!(
            "cd /var/lib/extrausers && echo '{name}:x:{uid}:{uid}::/home/{name}:/bin/bash' >>passwd && \
             echo '{name}:x:{uid}:' >>group && echo '{name}:*:20000:0:99999:7:::' >>shadow && \
             install -d -m 755 -o {uid} -g {uid} /home/{name} /home/{name}/.ssh && \
             echo '{}' >/home/{name}/.ssh/authorized_keys && chown {uid}:{uid} /home/{name}/.ssh/authorized_keys && getent passwd {name}",
            key.public()
        ));
    }
    (house, key)
}

/// The configuration in enforce with these exempt accounts; frank may be given `extra`, and `ghost`, who is nowhere.
fn config(house: &House, exempt: &str) -> String {
    let mine = "accounts = [\"ubuntu\", \"frank\"]";
    let toml = house.config("enforce", "").replace("exempt = [\"breakglass\"]", exempt);
    assert!(toml.contains(mine));
    toml.replace(mine, "accounts = [\"extra\", \"ghost\"]")
}

fn keys_of(account: &str) -> String {
    format!("/home/{account}/.ssh/authorized_keys")
}

on_each_release! {
    fn accounts_that_only_the_name_service_knows_are_named_granted_and_exempt_like_others_and_it_is_said_who_is_not_seen(release) {
        let (house, key) = house(release);
        house.configure(&config(&house, "exempt = [\"breakglass\", \"rescue\"]"));
        house.await_mode("enforce");

        // What something names is kept free of keys; of the rest it is said that nobody looks.
        eventually("a key in the home of an account that frank may be given goes", SOON, || !house.exists(&keys_of("extra")));
        assert!(house.exists(&keys_of("hidden")) && house.exists(&keys_of("rescue")));
        eventually("the attestation says which source is not listed", SOON, || {
            let attested = house.records_of("sweep.attested").pop();
            attested.is_some_and(|record| record["detail"]["not_enumerated"].to_string().contains("extrausers"))
        });
        assert!(house.ctl_json("status")["not_enumerated"].to_string().contains("extrausers"));
        assert!(house.ctl("status").stdout.contains("not listed: extrausers"), "{}", house.ctl("status"));
        assert!(!house.ssh("hidden").key(&key).login());

        // A grant works; what is nowhere is told as such.
        house.allow("frank --account extra --for 1h");
        assert_eq!(house.ssh("extra").key(&house.frank).run("id -un").expect_ok(), "extra");
        assert!(!house.ssh("extra").key(&key).login());
        let refused = house.ctl("allow frank --account ghost --for 1h --reason test");
        assert!(refused.status == 1 && refused.stderr.contains("neither passwd nor extrausers"), "{refused}");
        assert!(refused.stderr.contains("getent passwd ghost") && !refused.stderr.contains("useradd"), "{refused}");

        // The exempt one gets in, and is a break-glass account like any other.
        assert_eq!(house.ssh("rescue").key(&key).run("id -un").expect_ok(), "rescue");
        eventually("its login is on record", SOON, || {
            house.records_of("emergency.login").iter().any(|record| record["account"] == "rescue")
        });
        let ways = house.ctl("--json ways-in").stdout;
        assert!(ways.contains(&key.fingerprint()), "its key is listed: {ways}");
        house.configure(&config(&house, "exempt = [\"rescue\"]"));
        house.sh("systemctl restart lockdownd");
        house.await_mode("enforce");
        let problems = house.ctl_json("status")["problems"].to_string();
        assert!(!problems.contains("no such account") && !problems.contains("weakened"), "{problems}");
        house.sh(&format!("mv {} /root/key", keys_of("rescue")));
        eventually("that it lost its key shows by itself", SOON, || house.journal("-u lockdownd -p crit").contains("rescue"));
        house.sh(&format!("mv /root/key {}", keys_of("rescue")));

        // Its groups are the name service's, too.
        house.write("/etc/ssh/sshd_config.d/50-extra.conf", "AllowGroups admins\n");
        house.sh("systemctl restart ssh");
        assert!(house.ssh("rescue").key(&key).login() && house.ssh("extra").key(&house.frank).login());
        let plan = house.ctl("plan");
        assert!(plan.ok() && !plan.stdout.contains("AllowGroups"), "{plan}");
        let allowed = house.allow("frank --account extra --for 2h");
        assert!(!allowed.contains("sshd will not let it in"), "{allowed}");
        house.write("/etc/ssh/sshd_config.d/50-extra.conf", "DenyGroups admins\n");
        house.sh("systemctl restart ssh");
        let allowed = house.allow("frank --account extra --for 2h");
        assert!(allowed.contains("DenyGroups at /etc/ssh/sshd_config.d/50-extra.conf:1"), "{allowed}");
        house.ctl("verify").expect_ok();
    }
}
