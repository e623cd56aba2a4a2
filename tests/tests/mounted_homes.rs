//! Homes that are mounted on demand, and homes on a file system that other hosts share.

use std::{thread, time::Duration};

use instance_tests::{DAEMON, House, eventually, on_each_release};

const SOON: Duration = Duration::from_secs(30);

fn sweeps(house: &House) -> usize {
    house.records_of("sweep.attested").len()
}

/// Waits until so many more sweeps are over.
#[track_caller]
fn sweep(house: &House, more: usize) {
    let before = sweeps(house);
    eventually("sweeps are over", SOON, || sweeps(house) >= before + more);
}

on_each_release! {
    fn no_sweep_mounts_a_home_and_nothing_goes_from_a_shared_file_system_before_it_was_named(release) {
        let house = House::enforcing_with(release, "[schedule]\nsweep = \"*/3 * * * * *\"\n");
        house.sh("mknod /dev/autofs c 10 235; mknod /dev/fuse c 10 229; systemctl daemon-reexec");

        // One account's home is mounted when somebody goes there, and another's leads there by a link.
        house.write("/etc/systemd/system/auto.mount", "[Mount]\nWhat=/srv/auto\nWhere=/auto\nType=none\nOptions=bind\n");
        house.write("/etc/systemd/system/auto.automount", "[Automount]\nWhere=/auto\nTimeoutIdleSec=2s\n");
        house.sh(
            "mkdir -p /auto /srv/auto/asleep/.ssh /srv/auto/linked/.ssh && ln -s /auto/linked /home/linked && \
             for name in asleep linked; do echo 'ssh-ed25519 AAAA planted' >/srv/auto/$name/.ssh/authorized_keys; done && \
             systemctl daemon-reload && systemctl start auto.automount",
        );
        house.sh("useradd -M -d /auto/asleep -s /bin/bash asleep && useradd -M -d /home/linked -s /bin/bash linked");
        let is_mounted = || house.sh("systemctl is-active auto.mount || true") == "active";
        // Accounts that were just made are not looked at for some seconds.
        eventually("a sweep counts both", SOON, || {
            house.records_of("sweep.attested").pop().is_some_and(|record| record["detail"]["not_mounted"] == 2)
        });
        sweep(&house, 2);
        assert!(!is_mounted(), "a sweep mounted it:\n{}", house.run("systemctl status auto.automount auto.mount"));
        let plan = house.ctl("plan");
        assert!(plan.ok() && !is_mounted(), "{plan}");
        // Somebody goes there: then it is looked at, and it may go to sleep again.
        house.sh("ls /auto/asleep");
        for name in ["asleep", "linked"] {
            eventually("the key there goes", SOON, || !house.exists(&format!("/srv/auto/{name}/.ssh/authorized_keys")));
        }
        eventually("it is unmounted when nobody is there", SOON, || !is_mounted());
        sweep(&house, 2);
        assert!(!is_mounted(), "a sweep mounted it again");

        // A home on a file system that other hosts share: sshfs, whose server is a program beside it.
        house.write("/root/server", "#!/bin/sh\nexec /usr/lib/openssh/sftp-server\n");
        house.sh(
            "chmod 755 /root/server && mkdir -p /srv/files/.ssh /home/shared && \
             sshfs -o ssh_command=/root/server,allow_other,dcache_timeout=1 files:/srv/files /home/shared </dev/null >/dev/null 2>&1 3>&- && \
             grep -q ' /home/shared .* fuse.sshfs ' /proc/self/mountinfo",
        );
        house.sh("useradd -M -d /home/shared -s /bin/bash shared");
        let keys = "/home/shared/.ssh/authorized_keys";
        let named = || -> Vec<serde_json::Value> {
            let failed = house.records_of("removal.failed");
            failed.into_iter().filter(|r| r.to_string().contains("which other hosts may share")).collect()
        };
        sweep(&house, 1);
        house.sh(&format!("echo 'ssh-ed25519 AAAA planted' >{keys}"));
        eventually("the file system is named", SOON, || named().len() == 1);
        assert!(named()[0].to_string().contains("/home/shared (fuse.sshfs)"), "{:?}", named());
        let gone = || house.records_of("key.removed").into_iter().find(|record| record["account"] == "shared");
        eventually("the next sweep removes the key", SOON, || gone().is_some());
        assert!(!house.exists("/srv/files/.ssh/authorized_keys"));
        let seq = |record: &serde_json::Value| record["seq"].as_u64();
        assert!(seq(&named()[0]) < seq(&gone().unwrap()), "it was named before");
        house.sh(&format!("echo 'ssh-ed25519 AAAB planted again' >{keys}"));
        eventually("another goes like any other's", SOON, || !house.exists("/srv/files/.ssh/authorized_keys"));
        thread::sleep(Duration::from_secs(1));
        assert_eq!(named().len(), 1, "it is named once");
        house.sh("umount /home/shared");
        house.ctl("verify").expect_ok();
    }

    fn a_home_that_never_answers_holds_up_no_other(release) {
        let house = House::enforcing_with(release, "[schedule]\nsweep = \"* * * * * *\"\n");
        house.write("/root/server", "#!/bin/sh\nexec /usr/lib/openssh/sftp-server\n");
        house.sh(
            "mknod /dev/fuse c 10 229 && chmod 755 /root/server && mkdir -p /srv/files/.ssh /home/shared && \
             sshfs -o ssh_command=/root/server,allow_other,dcache_timeout=1 files:/srv/files /home/shared </dev/null >/dev/null 2>&1 3>&- && \
             useradd -M -d /home/shared -s /bin/bash shared && mkdir -p /home/grace/.ssh",
        );
        let plant = |name: &str| {
            let keys = format!("/home/{name}/.ssh/authorized_keys");
            house.sh(&format!("echo 'ssh-ed25519 AAAA planted' >{keys}"));
            eventually(&format!("the key in {name}'s home goes"), SOON, || !house.exists(&keys));
        };
        let problems = || house.ctl_json("status")["problems"].to_string();
        let is_named = || problems().contains("/home/shared does not answer");
        let attested = || house.records_of("sweep.attested").pop().is_some_and(|record| record["detail"]["hanging"] == serde_json::json!(["/home/shared"]));
        let told = || -> Vec<serde_json::Value> {
            let failed = house.records_of("removal.failed");
            failed.into_iter().filter(|record| record["detail"]["hanging"] == true).collect()
        };
        let daemon = || house.sh("systemctl show -p MainPID --value lockdownd");
        // It is looked after, and named since other hosts may share it.
        plant("shared");

        // Its server stands still: what asks it waits, and cannot be interrupted.
        house.sh("pkill -STOP -x sftp-server");
        eventually("the home that hangs is named", SOON, is_named);
        plant("grace");
        eventually("it is in the attestation", SOON, attested);
        assert!(told().len() == 1 && told()[0]["account"] == "shared" && told()[0]["detail"]["path"] == "/home/shared", "{:?}", told());
        let crit = "journalctl -p crit --no-pager -o cat -u lockdownd";
        eventually("it is in the journal at crit", SOON, || house.sh(crit).contains("/home/shared does not answer"));
        let plan = house.ctl("plan");
        assert!(plan.ok() && plan.stdout.contains("/home/shared does not answer"), "{plan}");

        // A thread that hangs stops no stop, and the next start finds it no other.
        let before = daemon();
        house.sh("systemctl restart lockdownd");
        assert_ne!(daemon(), before);
        house.await_mode("enforce");
        plant("grace");
        eventually("the home that hangs is named again", SOON, is_named);
        plant("grace");
        eventually("it is in the attestation", SOON, attested);
        let before = daemon();

        // It answers again: then it is looked after as before.
        house.sh("pkill -CONT -x sftp-server");
        eventually("it is named no more", SOON, || !is_named());
        plant("shared");
        assert_eq!(daemon(), before, "nothing restarted the daemon");
        house.sh("umount /home/shared");
        house.ctl("verify").expect_ok();
    }

    fn whatever_hangs_on_a_file_system_of_a_users_a_killed_daemon_is_back_and_whole(release) {
        let house = House::enforcing(release);
        house.write("/root/server", "#!/bin/sh\nexec /usr/lib/openssh/sftp-server\n");
        // A program of a user's that listens, and what sshd's configuration includes.
        house.sh(
            "mknod /dev/fuse c 10 229 && chmod 755 /root/server && mkdir -p /srv/files /mnt/files && cp \"$(readlink -f /usr/bin/perl)\" /srv/files/listener && \
             sshfs -o ssh_command=/root/server,allow_other,dcache_timeout=1 files:/srv/files /mnt/files </dev/null >/dev/null 2>&1 3>&-",
        );
        house.allow("frank --account ubuntu --for 1h");
        let script = "use IO::Socket::INET; my $s = IO::Socket::INET->new(LocalPort => 2345, Listen => 1); sleep 1000";
        house.sh(&format!("setsid -f runuser -u ubuntu -- /mnt/files/listener -e '{script}' >/dev/null 2>&1 </dev/null 3>&-; sleep 1"));
        house.sh("echo 'Include /mnt/files/*.conf' >/etc/ssh/sshd_config.d/zz-files.conf; pkill -STOP -x sftp-server");
        // The daemon looks at new sockets every five seconds.
        thread::sleep(Duration::from_secs(8));
        let works = |after: &str| {
            // A login by a grant takes the state, its ledger and sshd.
            eventually(&format!("who is granted is in after {after}"), SOON, || house.ssh("ubuntu").key(&house.frank).login());
            assert!(house.ssh("breakglass").key(&house.breakglass).login(), "break-glass is in after {after}");
            assert!(!house.ssh("ubuntu").key(&house.grace).login(), "nobody else is after {after}");
        };
        for gone in [format!("kill -9 {DAEMON}"), "systemctl restart lockdownd".to_owned()] {
            house.sh(&gone);
            works(&gone);
        }
        house.sh("pkill -CONT -x sftp-server; pkill listener; rm /etc/ssh/sshd_config.d/zz-files.conf; sleep 1; umount -l /mnt/files");
        house.ctl("verify").expect_ok();
    }
}
