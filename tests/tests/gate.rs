//! The login gate with the daemon behind it: what must hold for logins on real instances with the package installed.

use std::{process::Command, time::Duration};

use instance_tests::{Client, House, Instance, Key, Release, Ssh, eventually, on_each_release};
use jiff::Timestamp;
use serde_json::Value;

/// How long after its refusal a connection may still be there.
const GONE: Duration = Duration::from_secs(5);
/// What a client that is not let in may take in all.
const ENDED: Duration = Duration::from_secs(40);
/// What the daemon may take to do what it was told.
const DONE: Duration = Duration::from_secs(15);
const GATE: &str = "/usr/lib/lockdownd/login-gate";
/// What a client asks sshd to put into the session's environment.
const POISON: &str = "SetEnv=LD_PRELOAD=/tmp/evil.so PAM_USER=breakglass SSH_AUTH_INFO_0=x";

/// An instance in enforce on which frank may be given `ubuntu`, with no grant, and each way in that can be had.
struct Enforced {
    instance: Instance,
    /// The configured person's key. It stands in no file.
    frank: Key,
    /// The break-glass account's.
    rescue: Key,
    /// What an `AuthorizedKeysCommand` says for every account.
    commanded: Key,
    /// What a CA that sshd trusts has signed for `ubuntu`.
    certified: String,
}

impl Enforced {
    fn boot(release: Release) -> Self {
        let instance = Instance::boot(release);
        let [frank, rescue, commanded, ca, outsider] =
            ["frank", "rescue", "commanded", "ca", "outsider"].map(|name| instance.keygen(name));
        for account in ["ubuntu", "breakglass", "robot"] {
            instance.useradd(account);
        }
        instance.sh("usermod -s /usr/sbin/nologin robot; printf '%s\\n' ubuntu:s3cret root:s3cret | chpasswd");
        instance.authorize("breakglass", &rescue);
        instance.write(
            "/etc/lockdownd/config.toml",
            format!(
                "mode = \"enforce\"\n[host]\nstack = \"web\"\n[accounts]\nexempt = [\"breakglass\"]\n\
                 [[person]]\nname = \"frank\"\nkeys = [\"{}\"]\naccounts = [\"ubuntu\"]\n",
                frank.public()
            ),
        );
        instance.sh("systemctl restart lockdownd");
        // Not its marker alone: that is there before it is certain that enforce holds.
        eventually("enforce is on", DONE, || {
            instance.records_of("mode.changed").iter().any(|record| record["detail"]["mode"] == "enforce")
        });
        // After enforce began, which would have refused to begin with the command there.
        instance.write("/etc/ssh/ca.pub", ca.public());
        instance.write("/usr/local/bin/keys", format!("#!/bin/sh\necho '{}'\n", commanded.public()));
        instance.write(
            "/etc/ssh/sshd_config.d/50-ways.conf",
            "TrustedUserCAKeys /etc/ssh/ca.pub\nAuthorizedKeysCommand /usr/local/bin/keys\n\
             AuthorizedKeysCommandUser nobody\nPermitRootLogin yes\nMaxStartups 200\n",
        );
        instance.sh("chmod 755 /usr/local/bin/keys; sshd -t; systemctl restart ssh");
        let certified = outsider.path().display().to_string();
        let signed = Command::new("ssh-keygen")
            .args(["-q", "-I", "outsider", "-n", "ubuntu,root", "-s"])
            .arg(ca.path())
            .arg(outsider.path().with_extension("pub"))
            .status();
        assert!(signed.expect("ssh-keygen is there").success());
        Self { instance, frank, rescue, commanded, certified }
    }

    fn allow_frank(&self) {
        self.instance.sh("lockdownctl allow frank --account ubuntu --for 1h --reason INC-42");
    }

    /// Every way in to `account` but a granted key, each with a name.
    fn ways(&self, account: &str) -> Vec<(&'static str, Ssh<'_>)> {
        let login = || self.instance.ssh(account);
        vec![
            ("a command's key", login().key(&self.commanded)),
            ("a certificate", login().arg("-i").arg(&self.certified)),
            ("a password", login().password("s3cret")),
        ]
    }

    fn only_the_exempt_get_in(&self) {
        // At once: each waits until the gate has given up.
        let mut tried = Vec::new();
        for account in ["ubuntu", "root", "robot"] {
            tried.push((account, "frank's key", self.instance.ssh(account).key(&self.frank).spawn("id")));
            for (way, login) in self.ways(account) {
                tried.push((account, way, login.spawn("id")));
                tried.push((account, way, login.arg("-N").arg("-L").arg("127.0.0.1:0:127.0.0.1:22").spawn("")));
            }
        }
        for (account, way, mut client) in tried {
            client.ended_within(ENDED);
            let said = client.output();
            assert!(said.status == 255 || said.status == 254, "{way} to {account}: {said}");
            assert!(!said.stdout.contains("uid="), "{way} to {account}: {said}");
        }
        self.breakglass_gets_in();
    }

    fn breakglass_gets_in(&self) {
        assert_eq!(self.instance.ssh("breakglass").key(&self.rescue).run("id -un").expect_ok(), "breakglass");
    }

    fn emergencies(&self) -> usize {
        self.instance.records_of("emergency.login").len()
    }

    /// How many the journal shows to who looks for what is critical.
    fn critical_emergencies(&self) -> usize {
        let entries = self.instance.journal("-u lockdownd -p crit -o cat LOCKDOWND_TYPE=emergency.login");
        entries.lines().filter(|line| line.contains("breakglass")).count()
    }
}

/// Waits until a client that is refused has ended, and says how long after the refusal's record that was.
fn gone_after(instance: &Instance, login: &Ssh<'_>) -> Duration {
    let before = instance.records_of("session.refused").len();
    login.spawn("").ended_within(ENDED);
    let end = Timestamp::now();
    let refused = instance.records_of("session.refused");
    assert_eq!(refused.len(), before + 1, "it comes from an address of its own: {refused:?}");
    let time: Timestamp = refused[before]["time"].as_str().expect("a time").parse().expect("RFC 3339");
    Duration::try_from(end.duration_since(time)).expect("refused, then ended")
}

/// Builds a library on the host that leaves `/tmp/loaded-UID` wherever it is loaded, and copies it into the instance.
fn plant_library(instance: &Instance) {
    let (source, library) = (instance.scratch().join("evil.c"), instance.scratch().join("evil.so"));
    let program = "#include <fcntl.h>\n#include <stdio.h>\n#include <unistd.h>\n\
        __attribute__((constructor)) static void loaded(void) {\n\
        char name[64]; snprintf(name, sizeof name, \"/tmp/loaded-%d\", (int)geteuid());\n\
        int fd = open(name, O_CREAT | O_WRONLY, 0600); if (fd >= 0) close(fd); }\n";
    std::fs::write(&source, program).expect("own directory");
    let built = Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &source]).status();
    assert!(built.expect("cc, which cargo links with").success());
    instance.copy_in(&library, "/tmp/evil.so");
}

on_each_release! {
    fn without_a_grant_nobody_gets_in_by_any_way(release) {
        let host = Enforced::boot(release);
        for account in ["ubuntu", "root", "robot"] {
            host.instance.authorize(account, &host.frank);
        }
        host.only_the_exempt_get_in();
        let refused = host.instance.records_of("session.refused");
        assert!(refused.iter().any(|record| record["account"] == "ubuntu"), "{refused:?}");
        assert_eq!(host.emergencies(), 1);
        assert_eq!(host.critical_emergencies(), 1);
        assert_eq!(host.instance.sh("su - ubuntu -c 'id -un'; sudo -u ubuntu id -un"), "ubuntu\nubuntu");
    }

    fn with_the_daemon_killed_and_the_gate_gone_only_the_exempt_get_in(release) {
        let host = Enforced::boot(release);
        host.allow_frank();
        assert!(host.instance.ssh("ubuntu").key(&host.frank).login(), "frank has a grant");
        host.instance.sh("systemctl mask --runtime --now lockdownd.service lockdownd-gate.socket lockdownd-control.socket; \
                          ! pgrep -x lockdownd");
        host.only_the_exempt_get_in();
        host.instance.sh(&format!("mv {GATE} /root/gate"));
        host.only_the_exempt_get_in();
        host.instance.sh(&format!("mv /root/gate {GATE}"));
        host.breakglass_gets_in();

        // Two of the three went through a gate that could leave a note; of the one between sshd's log tells.
        host.instance.sh("systemctl unmask --runtime lockdownd.service lockdownd-gate.socket lockdownd-control.socket; \
                          systemctl start lockdownd-gate.socket lockdownd-control.socket lockdownd.service");
        eventually("each is recorded", DONE, || host.emergencies() == 3);
        eventually("the journal has them", DONE, || host.critical_emergencies() == 3);
        assert_eq!(host.instance.sh("ls /var/lib/lockdownd/emergency"), "");
        assert!(host.instance.ssh("ubuntu").key(&host.frank).login(), "frank still has a grant");
    }

    fn a_grant_opens_the_account_to_its_key_alone_and_others_leave_no_connection(release) {
        let host = Enforced::boot(release);
        host.allow_frank();
        let mut frank = host.instance.ssh("ubuntu").key(&host.frank).stay();
        for (way, login) in host.ways("ubuntu") {
            let said = login.run("id");
            assert!(!said.ok() && !said.stdout.contains("uid="), "{way}: {said}");
            assert!(said.stdout.contains("lockdownd"), "{way}: nobody says why: {said}");
        }
        let forward = ["-N", "-L", "127.0.0.1:7001:127.0.0.1:22"];
        for flags in [&["-N"][..], &forward, &["-MN", "-S", "/tmp/gate-test-master"], &["-tt"]] {
            let with = |login: Ssh<'_>| gone_after(&host.instance, &flags.iter().fold(login, |ssh, flag| ssh.arg(flag)));
            // The one is refused in the session step, the other in the account step.
            let late = [with(host.instance.ssh("ubuntu").key(&host.commanded)), with(host.instance.ssh("root").key(&host.commanded))];
            assert!(late.iter().all(|late| *late < GONE), "{flags:?}: {late:?}");
        }
        assert!(frank.is_alive(), "frank was cut off with the others: {}", frank.output());
        let opened = host.instance.records_of("session.opened");
        assert!(opened.iter().all(|record| record["person"] == "frank" && record["account"] == "ubuntu"), "{opened:?}");
        let left = host.instance.sh("pgrep -af '^sshd(-session|-auth)?: (ubuntu|root)' | grep -c priv");
        assert_eq!(left, "1", "frank's alone");
    }

    fn what_a_user_writes_reaches_no_program_of_roots_and_runs_on_no_refused_login(release) {
        let host = Enforced::boot(release);
        plant_library(&host.instance);
        host.instance.write("/etc/ssh/sshd_config.d/60-open.conf", "PermitUserEnvironment yes\nAcceptEnv *\n");
        host.instance.sh("sshd -t; systemctl restart ssh");
        host.instance.run_as("ubuntu", "
            printf '%s\\n' LD_PRELOAD=/tmp/evil.so PAM_USER=breakglass PAM_TYPE=close_session >.pam_environment
            mkdir -p .ssh .config/systemd/user/default.target.wants
            echo 'touch ~/rc-ran' >.ssh/rc; echo 'touch ~/profile-ran' | tee .profile >.bashrc
            cp .pam_environment .ssh/environment
            printf '[Service]\\nExecStart=/usr/bin/touch /home/ubuntu/unit-ran\\n' >.config/systemd/user/trap.service
            ln -s ../trap.service .config/systemd/user/default.target.wants/").expect_ok();
        let traps = "ls /home/ubuntu /tmp | grep -e -ran -e loaded- || true";
        // Refused in the account step, then in the session step.
        assert!(!host.instance.ssh("ubuntu").key(&host.commanded).option(POISON).login());
        host.allow_frank();
        for (way, login) in host.ways("ubuntu") {
            assert!(!login.clone().option(POISON).login(), "{way}");
            login.arg("-N").spawn("").ended_within(ENDED);
        }
        assert_eq!(host.instance.sh(traps), "");

        let uid = host.instance.sh("id -u ubuntu");
        for _ in 0..2 {
            assert!(host.instance.ssh("ubuntu").key(&host.frank).option(POISON).run("id -un").stdout.contains("ubuntu"));
        }
        eventually("both sessions are closed", DONE, || host.instance.records_of("session.closed").len() == 2);
        let snapped = host.instance.sh(traps);
        assert!(snapped.contains(&format!("loaded-{uid}")) && snapped.contains("rc-ran"), "the traps work: {snapped}");
        assert_eq!(snapped.matches("loaded-").count(), 1, "root's programs too: {snapped}");
        assert!(host.instance.records_of("session.opened").iter().all(|record| record["account"] == "ubuntu"));
        assert_eq!(host.emergencies(), 0);
    }

    fn a_grant_opens_exactly_its_account_to_exactly_its_person(release) {
        let house = House::observing(release);
        let tablet = house.keygen("tablet");
        let two_keys = format!("{}\", \"{}", house.frank.public(), tablet.public());
        house.configure(&house.config("enforce", "").replace(house.frank.public(), &two_keys));
        house.await_mode("enforce");
        house.allow("frank --account ubuntu --for 1h");
        for account in ["frank", "grace", "root"] {
            assert!(!house.ssh(account).key(&house.frank).login(), "frank on {account}");
        }
        assert!(!house.ssh("ubuntu").key(&house.grace).login());
        house.allow("grace --account grace --for 1h --from 127.99.0.0/16");
        assert!(!house.ssh("ubuntu").key(&house.grace).login(), "her grant is on another account");
        assert!(!house.ssh("grace").key(&house.frank).login());

        // --from holds where the key store says it, and where somebody else brings the key.
        let grace = || house.ssh("grace").key(&house.grace);
        assert!(grace().from("127.99.1.2").login() && !grace().login());
        house.write("/usr/local/bin/keys", format!("#!/bin/sh\necho '{}'\n", house.grace.public()));
        house.write("/etc/ssh/sshd_config.d/50-ways.conf", "AuthorizedKeysCommand /usr/local/bin/keys\nAuthorizedKeysCommandUser nobody\n");
        house.sh("chmod 755 /usr/local/bin/keys; sshd -t; systemctl restart ssh");
        let said = grace().run("id");
        assert!(!said.ok() && said.stdout.contains("does not hold for this address"), "{said}");
        assert!(!house.ssh("ubuntu").key(&house.grace).login(), "a command's key has no grant here");
        let why: Vec<Value> = house.records_of("session.refused").into_iter().filter(|r| r["person"] == "grace").collect();
        assert_eq!(why.iter().map(|record| record["detail"]["why"].as_str().unwrap()).collect::<Vec<_>>(), ["other_address", "no_grant_for_person"]);

        // On the shared account each record names its person, key and source.
        house.allow("grace --account ubuntu --for 1h");
        let logins = [("frank", &house.frank, "127.77.0.1"), ("frank", &tablet, "127.77.0.2"), ("grace", &house.grace, "127.77.0.3")];
        for (_, key, source) in logins {
            house.ssh("ubuntu").key(key).from(source).run("true").expect_ok();
        }
        eventually("each session is closed", DONE, || house.records_of("session.closed").len() == 4);
        for kind in ["session.opened", "session.closed"] {
            let records = house.records_of(kind);
            for (person, key, source) in logins {
                let theirs: Vec<_> = records.iter().filter(|record| record["source"]["address"] == source).collect();
                let [one] = theirs.as_slice() else { panic!("{kind} from {source}: {theirs:?}") };
                assert_eq!((&one["person"], &one["account"]), (&person.into(), &"ubuntu".into()), "{one}");
                assert_eq!(one["fingerprint"], key.fingerprint(), "{one}");
                assert!(one["grant"].is_string() && one["session"].is_string() && one["source"]["port"].is_u64(), "{one}");
            }
        }
    }

    fn observe_lets_everybody_pass_and_says_whom_enforce_would_refuse(release) {
        let house = House::observing(release);
        for (account, key) in [("ubuntu", &house.frank), ("grace", &house.grace)] {
            house.authorize(account, key);
        }
        house.sh("echo ubuntu:s3cret | chpasswd");
        house.allow("grace --account grace --for 1h");
        assert!(house.ssh("ubuntu").key(&house.frank).login());
        assert!(house.ssh("grace").key(&house.grace).login());
        assert!(house.ssh("ubuntu").password("s3cret").login());
        assert!(house.ssh("breakglass").key(&house.breakglass).login());
        let opened = house.records_of("session.opened");
        let told: Vec<_> = opened.iter().map(|record| (record["person"].as_str(), record["detail"]["would_refuse"].as_bool())).collect();
        assert_eq!(told, [(Some("frank"), Some(true)), (Some("grace"), None), (None, Some(true))]);
        assert_eq!((house.records_of("session.refused").len(), house.records_of("emergency.login").len()), (0, 1));
        assert!(house.exists("/home/ubuntu/.ssh/authorized_keys") && house.exists("/home/grace/.ssh/authorized_keys"));
    }

    fn a_flood_of_refusals_is_summed_up_to_the_last_one(release) {
        let house = House::enforcing(release);
        // The gate itself, as PAM runs it: a thousand real logins would take minutes.
        let flood = |account: &str, address: &str, times: u32| house.sh(&format!(
            "for i in $(seq {times}); do ! PAM_TYPE=account PAM_USER={account} SSH_AUTH_INFO_0= \
             SSH_CONNECTION=\"{address} $i 10.0.0.1 22\" {GATE} >/dev/null || exit 1; done"));
        flood("ubuntu", "192.0.2.1", 500);
        flood("ubuntu", "192.0.2.2", 3);
        flood("grace", "192.0.2.1", 20);
        flood("root", "192.0.2.1", 1);
        house.sh("systemctl restart lockdownd");
        let refused = house.records_of("session.refused");
        let of = |account: &str, address: &str| -> Vec<u64> {
            let theirs = refused.iter().filter(|r| r["account"] == account && r["source"]["address"] == address);
            theirs.map(|record| record["detail"]["count"].as_u64().unwrap_or(1)).collect()
        };
        assert_eq!((of("ubuntu", "192.0.2.1"), of("ubuntu", "192.0.2.2")), (vec![1, 499], vec![1, 2]));
        assert_eq!((of("grace", "192.0.2.1"), of("root", "192.0.2.1")), (vec![1, 19], vec![1]));
        assert_eq!(refused.len(), 7);
        house.ctl("verify").expect_ok();
    }

    fn many_logins_at_once_all_get_in_and_are_recorded_while_the_daemon_is_replaced(release) {
        const MANY: usize = 20;
        let house = House::enforcing(release);
        house.write("/etc/ssh/sshd_config.d/50-many.conf", "MaxStartups 200\n");
        house.sh("systemctl restart ssh");
        house.allow("frank --account ubuntu --for 1h");
        house.allow("grace --account ubuntu --for 1h");
        let keys = [&house.frank, &house.grace];
        let clients = || -> Vec<Client> {
            (0..MANY).map(|n| house.ssh("ubuntu").key(keys[n % 2]).spawn("echo logged-in")).collect()
        };
        let all_in = |clients: Vec<Client>, when: &str| {
            for mut client in clients {
                client.ended_within(Duration::from_secs(60));
                assert!(client.stdout().contains("logged-in"), "{when}: {}", client.output());
            }
        };
        all_in(clients(), "at once");
        let during = clients();
        house.sh("systemctl restart lockdownd");
        all_in(during, "during a restart");
        let during = clients();
        house.sh("systemctl kill -s KILL lockdownd");
        all_in(during, "while it is killed and comes back");

        eventually("all are closed", DONE, || house.records_of("session.closed").len() == 3 * MANY);
        let opened = house.records_of("session.opened");
        let sessions: std::collections::BTreeSet<_> = opened.iter().map(|record| record["session"].as_str()).collect();
        assert_eq!((opened.len(), sessions.len()), (3 * MANY, 3 * MANY));
        for person in ["frank", "grace"] {
            assert_eq!(opened.iter().filter(|record| record["person"] == person).count(), 3 * MANY / 2, "{person}");
        }
        assert_eq!(house.records_of("session.refused").len(), 0);
        house.ctl("verify").expect_ok();
    }
}
