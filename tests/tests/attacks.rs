//! Attacks that once worked: each was found by somebody who set out to get in, to stay in, or to be in the way.

use std::time::{Duration, Instant};

use instance_tests::{Client, House, eventually, on_each_release};

/// Anything that must not hang for long on a busy machine.
const SOON: Duration = Duration::from_secs(10);

/// A process that calls itself sshd's listener, and listens, outside of the tree of the session that started it.
const IMPOSTOR: &str = r#"setsid -f perl -MIO::Socket::INET -e '$0 = "sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups"; my $s = IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.1", LocalPort => 2222) or die; sleep 4000' >/dev/null 2>&1 </dev/null; until ss -Hltn | grep -q 127.0.0.1:2222; do sleep 0.1; done; echo started; exec sleep 3600"#;

/// Connects to control.sock over and over and never asks anything.
const HOG: &str = r#"my @held; while (1) { push @held, IO::Socket::UNIX->new(Type => SOCK_STREAM, Peer => "/run/lockdownd/control.sock"); shift @held if @held > 600; }"#;

/// Leaves 1,500 processes behind, then says so.
const CROWD: &str = r#"exec perl -e '$| = 1; for (1 .. 1500) { my $p = fork; if (defined $p && !$p) { sleep 4000; exit } } print "started\n"; sleep 4000'"#;

/// Starts `script` in a session of frank on `ubuntu` and waits until it has printed "started".
fn in_a_session(house: &House, script: &str) -> Client {
    house.allow("frank --account ubuntu --for 1h");
    let client = house.ssh("ubuntu").key(&house.frank).spawn(script);
    eventually("the attack has started", Duration::from_secs(30), || client.stdout().contains("started"));
    client
}

on_each_release! {
    fn who_poses_as_sshds_listener_ends_with_the_session_all_the_same(release) {
        let house = House::enforcing(release);
        let mut client = in_a_session(&house, IMPOSTOR);
        assert!(house.run("ss -Hltn | grep 127.0.0.1:2222").ok());
        house.ctl("revoke frank --reason over").expect_ok();
        client.ended_within(SOON);
        eventually("the impostor is gone", SOON, || !house.run("ss -Hltn | grep 127.0.0.1:2222").ok());
        assert_eq!(house.records_of("session.terminated")[0]["detail"]["by"], "scope");
        assert!(house.ssh("breakglass").key(&house.breakglass).login(), "the true listener lives on");
    }

    fn an_operator_who_holds_every_connection_does_not_keep_root_from_being_heard(release) {
        let house = House::enforcing(release);
        house.sh("usermod -aG lockdown-operators ubuntu");
        house.sh(&format!("systemd-run -q --unit=hog --uid=ubuntu perl -MIO::Socket::UNIX -e '{HOG}'"));
        eventually("the hog holds its places", SOON, || house.run("test $(ss -Hx | grep -c control.sock) -ge 8").ok());
        for _ in 0..3 {
            let asked = Instant::now();
            house.run_for(SOON, "lockdownctl status", b"").expect_ok();
            assert!(asked.elapsed() < SOON / 2, "{:?}", asked.elapsed());
        }
        assert!(house.run("systemctl is-active hog").ok());
        let told = house.run_as("ubuntu", "lockdownctl status");
        assert!(!told.ok(), "{told}");
    }

    fn a_session_of_1500_processes_ends_whole_and_on_time(release) {
        let house = House::enforcing(release);
        let mut client = in_a_session(&house, CROWD);
        let asked = Instant::now();
        house.ctl("revoke frank --reason over").expect_ok();
        client.ended_within(SOON);
        let took = asked.elapsed();
        assert_eq!(house.records_of("session.terminated")[0]["detail"]["by"], "scope");
        let killed = house.records_of("session.terminated")[0]["detail"]["killed"].as_u64();
        assert!(killed.is_some_and(|killed| killed >= 1500), "{killed:?}");
        assert!(took < SOON, "{took:?}; a second on an idle machine");
    }

    fn changing_ones_own_account_over_and_over_makes_few_records(release) {
        let house = House::enforcing(release);
        let changes = || house.records_of("sshd.changed").len();
        let before = changes();
        for n in 0..12 {
            // A shell that does not exist is warned of, and taken.
            house.sh(&format!("usermod -s /opt/shell{n} ubuntu"));
            house.sh("lockdownctl status >/dev/null");
        }
        house.sh("systemctl stop lockdownd-gate.socket lockdownd-control.socket lockdownd");
        let after = house.records_of("sshd.changed");
        assert!((before + 1..=before + 4).contains(&after.len()), "{before} -> {}", after.len());
        assert!(after.iter().any(|record| record["detail"]["count"].as_u64().is_some_and(|count| count >= 2)), "{after:#?}");
    }

    fn observe_lets_by_whom_no_grant_could_name(release) {
        let house = House::observing(release);
        house.sh("echo 'odd name:x:2000:2000::/home/odd:/bin/sh' >>/etc/passwd; echo 'odd name:*:19000:0:99999:7:::' >>/etc/shadow");
        house.write("/home/odd/.ssh/authorized_keys", house.frank.public());
        house.sh("chown -R 2000:2000 /home/odd");
        assert!(house.ssh("odd name").key(&house.frank).login());
        assert_eq!(house.records_of("session.opened").last().unwrap()["detail"]["given_account"], "odd name");
        house.configure(&house.config("enforce", ""));
        house.await_mode("enforce");
        assert!(!house.ssh("odd name").key(&house.frank).login());
    }
}
