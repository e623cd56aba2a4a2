//! Files that are being written: seen empty, cut, or without a line. Nothing ends by that, and what is really gone does.

use std::thread;
use std::time::{Duration, Instant};

use instance_tests::{House, eventually, on_each_release};

/// How long the files are written again and again.
const WRITING: Duration = Duration::from_secs(10);
/// What has to happen within a second or two may take so long on a machine that runs other tests too.
const SOON: Duration = Duration::from_secs(30);

/// Replaces passwd by a rename some hundred times a second, as usermod(8) does.
const RENAMER: &str = r#"while (!-e "/root/enough") { open(my $from, "<", "/root/passwd"); my @lines = <$from>; next unless @lines; open(my $to, ">", "/etc/passwd.new"); print $to @lines; close $to; select(undef, undef, undef, 0.006); rename "/etc/passwd.new", "/etc/passwd" }"#;
/// The longest that something missing from a passwd that goes on changing counts as there, and then some.
const LONG: Duration = Duration::from_secs(60);

/// Rewrites a file in every way that is not a rename, with pauses: empty, cut in a line, cut at a line's end.
const WRITER: &str = r#"
file=$1
while [ ! -e /root/enough ]; do
    cat "/root/whole$file" >"$file"; cp "/root/whole$file" "$file"
    : >"$file"; sleep 0.3
    cat "/root/whole$file" >"$file"; sleep 0.2
    head -c 100 "/root/whole$file" >"$file"; sleep 0.3
    tail -n +2 "/root/whole$file" >"$file"; sleep 0.3
    head -n 20 "/root/whole$file" >"$file"; sleep 0.3
    sed -i s/a/a/ "$file"; cat "/root/whole$file" >"$file"; sleep 0.1
done
cat "/root/whole$file" >"$file"
"#;

on_each_release! {
    fn no_grant_session_or_exempt_account_is_lost_while_files_are_being_written(release) {
        let house = House::enforcing_with(release, "");
        let rendered = "[[grant]]\nperson = \"grace\"\naccount = \"grace\"\nexpires_at = \"2099-01-01T00:00:00Z\"\nreason = \"INC-1\"\n";
        house.sh("mkdir -p /etc/lockdownd/conf.d");
        house.write("/etc/lockdownd/conf.d/10-grants.toml", rendered);
        house.sh("systemctl reload lockdownd");
        house.allow("frank --account ubuntu --for 8h");
        eventually("both are granted", SOON, || house.ctl_json("grants")["grants"].as_array().unwrap().len() == 2);
        let mut clients =
            [("ubuntu", &house.frank), ("grace", &house.grace), ("breakglass", &house.breakglass)]
                .map(|(account, key)| house.ssh(account).key(key).stay());
        let ids = || -> Vec<String> {
            let sessions = house.ctl_json("sessions");
            sessions["sessions"].as_array().unwrap().iter().map(|session| session["id"].to_string()).collect()
        };
        let before = (house.ctl_json("grants"), ids());
        house.write("/root/writer", WRITER);
        house.sh(
            "for file in /etc/passwd /etc/group /etc/shadow /etc/ssh/sshd_config /etc/pam.d/common-session \
                 /etc/pam.d/sshd /etc/lockdownd/conf.d/10-grants.toml /etc/nsswitch.conf; do \
                 mkdir -p /root/whole${file%/*}; cp $file /root/whole$file; \
                 setsid sh /root/writer $file </dev/null >/dev/null 2>&1 3>&- & done",
        );
        let began = Instant::now();
        while began.elapsed() < WRITING {
            // Whatever it takes or refuses.
            let _ = house.run("systemctl reload lockdownd; kill -HUP 1");
            thread::sleep(Duration::from_millis(200));
            assert!(clients.iter_mut().all(|client| client.is_alive()), "a session ended: {}", house.ctl("sessions"));
        }
        house.sh("touch /root/enough");
        eventually("the writers are done", SOON, || !house.run("pgrep -f ^sh./root/writer").ok());
        house.sh("systemctl reload lockdownd");
        eventually("all was seen whole again", SOON, || !house.ctl("status").stdout.contains("not seen whole"));
        assert_eq!((house.ctl_json("grants"), ids()), before);
        for unwanted in ["grant.ended", "session.terminated", "session.closed", "key.removed"] {
            let records = house.records_of(unwanted);
            assert!(records.is_empty(), "{records:?}");
        }
        assert_eq!(house.ctl_json("status")["mode"], "enforce");
        for (account, key) in [("ubuntu", &house.frank), ("grace", &house.grace), ("breakglass", &house.breakglass)] {
            assert!(house.ssh(account).key(key).login(), "{account} gets in");
        }
        assert!(house.journal("-u lockdownd").contains("not seen whole"), "it was said");
        // Cut at a line's end for as long as one likes, as by an editor that crashed, and as a reload finds it.
        house.sh("cp /etc/passwd /root/passwd; grep -v -e ^frank: -e ^grace: -e ^ubuntu: -e ^breakglass: /root/passwd >/root/cut; \
                  cat /root/cut >/etc/passwd; sleep 5; systemctl reload lockdownd; sleep 1");
        let said = "lost its last accounts while it was written in place";
        eventually("it is said", SOON, || house.ctl("status").stdout.contains(said));
        assert!(clients.iter_mut().all(|client| client.is_alive()), "a session ended: {}", house.ctl("sessions"));
        house.sh("cat /root/passwd >/etc/passwd");
        eventually("it is whole again", LONG, || !house.ctl("status").stdout.contains("not seen whole"));
        assert_eq!((house.ctl_json("grants"), ids()), before);
        // A deleted account is one all the same.
        house.sh("sed -i /^ubuntu:/d /etc/passwd");
        eventually("the deleted account's grant ends", SOON, || {
            house.records_of("grant.ended").iter().any(|record| record["reason"].as_str().unwrap().contains("was deleted"))
        });
        clients[0].ended_within(SOON);
        assert!(clients[1].is_alive() && clients[2].is_alive());
        house.ctl("verify").expect_ok();
    }

    fn accounts_that_come_and_go_are_seen_while_passwd_is_replaced_without_a_pause(release) {
        let house = House::enforcing(release);
        house.allow("frank --account ubuntu --for 8h");
        let mut client = house.ssh("ubuntu").key(&house.frank).stay();
        house.sh("cp /etc/passwd /root/passwd; mkdir -p /home/late/.ssh");
        house.sh(&format!("setsid perl -e '{RENAMER}' </dev/null >/dev/null 2>&1 3>&- &"));
        thread::sleep(Duration::from_secs(2));
        // A key in the home of an account that has just come goes, which takes seeing it.
        house.write("/home/late/.ssh/authorized_keys", house.grace.public());
        house.sh("echo late:x:4711:4711::/home/late:/bin/bash >>/root/passwd; chown -R 4711:4711 /home/late");
        eventually("the new account is seen", LONG, || !house.exists("/home/late/.ssh/authorized_keys"));
        assert!(client.is_alive());
        house.sh("sed -i /^ubuntu:/d /root/passwd");
        eventually("the deleted account's grant ends", LONG, || {
            house.records_of("grant.ended").iter().any(|record| record["reason"].as_str().unwrap().contains("was deleted"))
        });
        client.ended_within(SOON);
        house.sh("touch /root/enough");
        house.ctl("verify").expect_ok();
    }
}
