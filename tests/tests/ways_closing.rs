//! What can go wrong while ways in are closed, and after: sshd must go on, and what is told must be so.

use std::time::Duration;

use instance_tests::{House, Release, eventually, on_each_release};
use serde_json::Value;

/// What the daemon may take to act on what nobody waits for, on a busy machine.
const SOON: Duration = Duration::from_secs(60);
const CLOSING: &str = "/etc/ssh/sshd_config.d/01-lockdownd-ways-in.conf";
const CONFIG: &str = "/etc/ssh/sshd_config";
/// The longest line of a ledger, with its newline.
const MAX_LINE: usize = 6 * 1024;

/// A house in observe whose sshd takes passwords, ubuntu's and grace's among them.
fn with_passwords(release: Release) -> House {
    let house = House::observing(release);
    house.write("/etc/ssh/sshd_config.d/50-password.conf", "PasswordAuthentication yes\n");
    house.sh("printf '%s\\n' ubuntu:s3cret grace:s3cret | chpasswd; systemctl restart ssh");
    house
}

fn lets_in(house: &House, account: &str) -> bool {
    house.ssh(account).password("s3cret").login()
}

/// The words of a text, however its lines are broken.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn listed(house: &House) -> Vec<Value> {
    let answer: Value = serde_json::from_str(&house.ctl("--json ways-in").stdout).expect("JSON");
    answer["ways"].as_array().expect("a list").clone()
}

fn problems(house: &House) -> String {
    house.ctl_json("status")["problems"].to_string()
}

/// Whether `lockdownctl ways-in` tells of a way of this kind that is open.
fn is_open(house: &House, kind: &str) -> bool {
    listed(house).iter().any(|way| way["kind"] == kind && way["state"] == "open")
}

on_each_release! {
    fn what_interrupts_closing_leaves_an_sshd_that_starts_and_is_put_right(release) {
        let house = with_passwords(release);
        // A disk that cannot be written.
        let dir = "/etc/ssh/sshd_config.d";
        house.sh(&format!("cp -a {dir} /root/d; mount -t tmpfs none {dir}; cp -a /root/d/. {dir}/; mount -o remount,ro {dir}; systemctl restart lockdownd"));
        let refused = house.ctl("ways-in --close --apply");
        assert!(refused.status == 1 && refused.stderr.contains("Read-only"), "{refused}");
        assert!(refused.stderr.contains("as it was") && !house.exists(CLOSING), "{refused}");
        house.sh(&format!("sshd -t; systemctl stop lockdownd; umount {dir}; systemctl start lockdownd"));

        // Two operators at once, who want different things.
        house.sh("for n in 1 2 3; do lockdownctl ways-in --close --apply >/dev/null & lockdownctl ways-in --undo >/dev/null & done; wait; sshd -t");
        assert_eq!(house.exists(CLOSING), !lets_in(&house, "ubuntu"), "sshd does what the file says");
        house.ctl("ways-in --undo").expect_ok();
        assert!(lets_in(&house, "ubuntu"));

        // The daemon was killed after it wrote the file, before it told sshd.
        house.sh(&format!("systemctl kill -s KILL lockdownd; lockdownctl ways-in --close >/root/closing; cp /root/closing {CLOSING}"));
        assert!(lets_in(&house, "ubuntu"), "sshd goes by what it has read");
        // Once: a daemon that starts again and again has no time to tell sshd.
        house.sh("systemctl restart lockdownd");
        eventually("sshd was told by the new daemon", SOON, || !lets_in(&house, "ubuntu"));
        assert!(!is_open(&house, "unread_config") && !is_open(&house, "password"));

        // What root writes and does not have read is told, until it is read.
        house.write("/etc/ssh/sshd_config.d/00-later.conf", "# nothing\n");
        assert!(is_open(&house, "unread_config"));
        house.sh("systemctl reload ssh");
        eventually("it has read it", SOON, || !is_open(&house, "unread_config"));
        house.ctl("ways-in --undo").expect_ok();
        assert!(lets_in(&house, "ubuntu"));
    }

    fn an_include_that_comes_late_or_never_is_told_with_what_to_do(release) {
        let house = with_passwords(release);
        house.sh(&format!("cp {CONFIG} /root/before
            sed -i '/^Include/d' {CONFIG}; printf 'Match User grace\\n    PasswordAuthentication yes\\nMatch all\\nInclude /etc/ssh/sshd_config.d/*.conf\\n' >>{CONFIG}
            sshd -t; systemctl restart ssh"));
        let said = words(&house.ctl("ways-in --close --apply").expect_ok());
        assert!(said.contains("does not close everything for grace") && said.contains("at the top of /etc/ssh/sshd_config"), "{said}");
        assert!(lets_in(&house, "grace") && !lets_in(&house, "ubuntu"));
        assert!(is_open(&house, "password"));

        house.sh(&format!("sed -i '/^Include/d' {CONFIG}; echo 'PasswordAuthentication yes' >>{CONFIG}; sshd -t; systemctl restart ssh"));
        assert!(lets_in(&house, "ubuntu"));
        let said = words(&house.ctl("ways-in").stdout);
        assert!(said.contains("is not read, so that it closes nothing"), "{said}");
        assert!(is_open(&house, "password"));
        house.sh(&format!("cp /root/before {CONFIG}; systemctl restart ssh"));
        assert!(!lets_in(&house, "grace") || !house.exists(CLOSING));
    }

    fn an_sshd_that_systemd_starts_for_each_connection_is_closed_and_opened_too(release) {
        let house = with_passwords(release);
        house.sh("systemctl disable -q --now ssh.service; systemctl enable -q --now ssh.socket");
        assert!(lets_in(&house, "ubuntu") && is_open(&house, "password"));
        house.ctl("ways-in --close --apply").expect_ok();
        assert!(!lets_in(&house, "ubuntu") && !is_open(&house, "password"));
        assert!(house.ssh("breakglass").key(&house.breakglass).login());
        house.ctl("ways-in --undo").expect_ok();
        assert!(lets_in(&house, "ubuntu"));
    }

    fn ten_thousand_accounts_and_two_hundred_match_blocks_make_a_bounded_attestation(release) {
        // No sweep comes meanwhile: the change alone has it all attested.
        let house = House::enforcing_with(release, "[schedule]\nsweep = \"0 0 0 1 1 *\"\n");
        house.sh("seq 20000 29999 | sed 's,.*,many&:x:&:&::/nonexistent:/usr/sbin/nologin,' >>/etc/passwd");
        let blocks: String = (0..200)
            .map(|n| format!("Match User many{}\n    AuthorizedKeysCommand /bin/true {n}\n    AuthorizedKeysCommandUser nobody\n", 20000 + n))
            .collect();
        house.write("/etc/ssh/sshd_config.d/60-blocks.conf", blocks);
        house.sh("sshd -t; systemctl restart ssh");
        let last = || {
            let records = house.records_of("sweep.attested");
            let first = records.iter().rposition(|r| r["detail"]["part"].as_u64().unwrap_or(1) == 1).unwrap_or(0);
            records[first..].to_vec()
        };
        let names = |kind: &str| last().iter().any(|r| r["detail"].to_string().contains(kind));
        let all = || last()[0]["detail"]["accounts"].as_u64().is_some_and(|n| n > 10_000) && names("AuthorizedKeysCommand /bin/true");
        eventually("all of it is attested, the accounts once they are new no more", Duration::from_secs(180), all);
        let parts = last();
        assert!(parts.len() <= 8, "{} parts", parts.len());
        assert!(parts.iter().all(|record| record["detail"]["left_out"].is_null()), "{parts:?}");
        assert!(names(" more\""), "the blocks that are not told one by one are counted");
        let longest = house.sh("awk '{ n = length($0) + 1; if (n > m) m = n } END { print m }' /var/lib/lockdownd/ledger/*.jsonl");
        assert!(longest.parse::<usize>().is_ok_and(|longest| longest <= MAX_LINE), "{longest}");
        house.ctl("verify").expect_ok();
    }

    fn what_match_blocks_open_for_logins_that_nobody_would_make_up_is_told(release) {
        let house = House::enforcing(release);
        let ca = house.keygen("ca");
        house.write("/etc/ssh/ca.pub", ca.public());
        house.write("/etc/pam.d/vpn", "auth required pam_permit.so\naccount required pam_permit.so\nsession required pam_permit.so\n");
        let many: String = (0..300).map(|n| format!("Match User zz{n}\n    X11Forwarding no\n")).collect();
        // Before OpenSSH 10 a block cannot name a PAM service; then the gate closes what it opens.
        let vpn = if release == Release::Trixie { "    PAMServiceName vpn\n" } else { "" };
        let opens = format!("    TrustedUserCAKeys /etc/ssh/ca.pub\n{vpn}    LogLevel QUIET\n");
        for (what, before, line) in [
            ("a name that an earlier block takes", "Match User u\n    TrustedUserCAKeys none\n", "Match User u*"),
            ("an address likewise", "Match Address 127.0.0.0\n    TrustedUserCAKeys none\n", "Match Address 127.0.0.0/8"),
            ("many blocks", many.as_str(), "Match User ubuntu"),
            ("a group that nobody is in", "", "Match Group nobody-yet"),
            ("every name that comes to mind", "Match User u,ux,ulockdownd-probe,ubuntu\n    TrustedUserCAKeys none\n", "Match User u*"),
        ] {
            house.write("/etc/ssh/sshd_config.d/60-odd.conf", format!("{before}{line}\n{opens}"));
            house.sh("sshd -t; systemctl reload ssh");
            let ways = listed(&house);
            let told = ways.iter().find(|way| way["kind"] == "user_ca" && way["state"] != "closed");
            assert!(told.is_some(), "{what}: {ways:?}");
            let gate = ways.iter().any(|way| way["kind"] == "gate" && way["state"] == "open" && way["why"].to_string().contains("vpn"));
            assert_eq!(gate, release == Release::Trixie, "{what}: {ways:?}");
            if release == Release::Trixie {
                eventually("enforce says that it does not hold", SOON, || problems(&house).contains("vpn"));
            }
        }
        // More blocks that open something than are looked at are no reason to take the rest for closed.
        let many: String = (0..300).map(|n| format!("Match User zz{n}\n    AuthorizedKeysCommand /bin/true {n}\n    AuthorizedKeysCommandUser nobody\n")).collect();
        house.write("/etc/ssh/sshd_config.d/60-odd.conf", many);
        house.sh("sshd -t; systemctl reload ssh");
        let ways = listed(&house);
        assert!(ways.iter().any(|way| way["kind"] == "unknown" && way["why"].to_string().contains("are not looked at")), "{ways:?}");
        eventually("enforce says so", SOON, || problems(&house).contains("more than the 256"));
    }
}
