//! The login gate with the daemon behind it: what must hold for logins on real instances with the package installed.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use instance_tests::{Instance, Key, Release, Ssh, eventually, on_each_release};

/// A refused connection is gone within a second of the refusal; the rest is what logging in takes on a busy test machine.
const GONE: Duration = Duration::from_secs(3);
/// What a client that is not let in may take in all.
const ENDED: Duration = Duration::from_secs(20);
/// What the daemon may take to do what it was told.
const DONE: Duration = Duration::from_secs(15);
const GATE: &str = "/usr/lib/lockdownd/login-gate";

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
        eventually("enforce is on", DONE, || instance.exists("/var/lib/lockdownd/enforcing"));
        // After enforce began, which would have refused to begin with the command there.
        instance.write("/etc/ssh/ca.pub", ca.public());
        instance.write("/usr/local/bin/keys", format!("#!/bin/sh\necho '{}'\n", commanded.public()));
        instance.write(
            "/etc/ssh/sshd_config.d/50-ways.conf",
            "TrustedUserCAKeys /etc/ssh/ca.pub\nAuthorizedKeysCommand /usr/local/bin/keys\n\
             AuthorizedKeysCommandUser nobody\nPermitRootLogin yes\n",
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
        for account in ["ubuntu", "root", "robot"] {
            for (way, login) in self.ways(account) {
                let said = login.run("id");
                assert!(!said.ok() && !said.stdout.contains("uid="), "{way} to {account}: {said}");
                login.arg("-N").arg("-L").arg("127.0.0.1:7001:127.0.0.1:22").spawn("").ended_within(ENDED);
            }
            assert!(!self.instance.ssh(account).key(&self.frank).login(), "frank's key to {account}");
        }
        self.breakglass_gets_in();
    }

    fn breakglass_gets_in(&self) {
        assert_eq!(self.instance.ssh("breakglass").key(&self.rescue).run("id -un").expect_ok(), "breakglass");
    }

    fn emergencies(&self) -> usize {
        self.instance.records_of("emergency.login").len()
    }
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

        // Two of the three went through a gate that could leave a note.
        host.instance.sh("systemctl unmask --runtime lockdownd.service lockdownd-gate.socket lockdownd-control.socket; \
                          systemctl start lockdownd-gate.socket lockdownd-control.socket lockdownd.service");
        eventually("the notes are recorded", DONE, || host.emergencies() == 2);
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
            for flags in [&["-N"][..], &["-N", "-L", "127.0.0.1:7001:127.0.0.1:22"], &["-MN", "-S", "/tmp/master"], &["-tt"]] {
                let began = Instant::now();
                flags.iter().fold(login.clone(), |ssh, flag| ssh.arg(flag)).spawn("").ended_within(ENDED);
                assert!(began.elapsed() < GONE, "{way} {flags:?}: {:?}", began.elapsed());
            }
        }
        assert!(frank.is_alive(), "frank was cut off with the others: {}", frank.output());
        let opened = host.instance.records_of("session.opened");
        assert!(opened.iter().all(|record| record["person"] == "frank" && record["account"] == "ubuntu"), "{opened:?}");
    }

    fn what_a_user_writes_neither_runs_on_a_refused_login_nor_becomes_root(release) {
        let host = Enforced::boot(release);
        host.allow_frank();
        host.instance.run_as("ubuntu", "
            printf 'LD_PRELOAD=/tmp/evil.so\\nPAM_USER=breakglass\\nPAM_TYPE=close_session\\n' | tee .pam_environment >.profile
            mkdir -p .ssh .config/systemd/user/default.target.wants
            echo 'touch ~/rc-ran' >.ssh/rc; cp .pam_environment .ssh/environment
            printf '[Service]\\nExecStart=/usr/bin/touch /home/ubuntu/unit-ran\\n' >.config/systemd/user/trap.service
            ln -s ../trap.service .config/systemd/user/default.target.wants/").expect_ok();
        for (way, login) in host.ways("ubuntu") {
            assert!(!login.login(), "{way}");
        }
        assert_eq!(host.instance.sh("ls /home/ubuntu | grep -- -ran || true"), "");
        assert!(host.instance.ssh("ubuntu").key(&host.frank).login(), "the grant still holds");
        assert!(host.instance.ssh("ubuntu").key(&host.frank).login(), "and does after a session's close");
        assert!(host.instance.records_of("session.opened").iter().all(|record| record["account"] == "ubuntu"));
    }
}
