//! Ends against people who resist them: by memory that nobody can read in time, by what goes on without its connection; and what is on record of ends when the daemon is killed in the middle of them.

use std::time::{Duration, Instant};

use instance_tests::{Hierarchy, House, Instance, Release, eventually, on_each_release, sessions_of};
use jiff::Timestamp;
use serde_json::Value;

const SOON: Duration = Duration::from_secs(30);
const ENDS: &str = "[sessions]\nleft_behind = \"end\"\n";
/// Ten processes whose memory maps are held: whoever reads their command lines waits for minutes.
const HOLD: &str = "setsid -f hold-mm 16 10 300 >/dev/null 2>&1 </dev/null";
/// How long a connection may outlive its grant, and how long an operator's request and a login may take, with that going on:
/// those processes take the time of forty threads. Memory that is waited for takes minutes.
const CUT: Duration = Duration::from_secs(2);
const ANSWERED: Duration = Duration::from_secs(5);
/// As `mosh-server` does: a session of its own, SIGHUP ignored, nothing of the connection kept.
const MOSH: &str =
    "cp /bin/sleep /tmp/mosh-server; (trap '' HUP; exec setsid -f /tmp/mosh-server 4071) >/dev/null 2>&1 </dev/null";
/// Kills the daemon at no regular times until told to stop.
const KILLER: &str = r#"
until [ -e /root/over ]; do
    until systemctl is-active -q lockdownd; do sleep 0.05; done
    sleep "$((1 + RANDOM % 3)).$((RANDOM % 10))$((RANDOM % 10))"
    pid=$(pgrep -P "$(systemctl show -P MainPID lockdownd)")
    [ -n "$pid" ] && kill -9 "$pid"
done
true
"#;

/// How many processes of this name there are, told by what never waits.
fn named(house: &Instance, name: &str) -> usize {
    house
        .sh(&format!("grep -lx '{name}' /proc/[0-9]*/comm 2>/dev/null | wc -l || true"))
        .trim()
        .parse()
        .expect("a number")
}

/// When a record was made.
fn time(record: &Value) -> Timestamp {
    record["time"].as_str().and_then(|time| time.parse().ok()).expect("a time")
}

fn whoever_holds_their_memory_is_cut_in_time_and_holds_up_nobody_else(instance: Instance) {
    let house = House::enforcing_in(instance, ENDS);
    // A main thread that waits would be killed, and then be another process.
    house.sh("mkdir -p /run/systemd/system/lockdownd.service.d");
    house.write("/run/systemd/system/lockdownd.service.d/watchdog.conf", "[Service]\nWatchdogSec=6s\n");
    house.sh("systemctl daemon-reload && systemctl restart lockdownd");
    house.install_hold_mm();
    house.allow("frank --account ubuntu --for 1h");
    let daemon = house.sh("systemctl show -P MainPID lockdownd");
    let mut stays = house.ssh("ubuntu").key(&house.frank).stay();
    let mut others = house.ssh("breakglass").key(&house.breakglass).stay();
    house.ssh("ubuntu").key(&house.frank).run(HOLD).expect_ok();
    eventually("they hold their memory", SOON, || named(&house, "hold-mm") == 10);
    std::thread::sleep(Duration::from_secs(2));

    let began = Instant::now();
    assert!(house.ctl("status").ok() && began.elapsed() < ANSWERED, "{:?}", began.elapsed());
    let revoked = Instant::now();
    let (cut, revoke) = std::thread::scope(|scope| {
        let revoke = scope.spawn(|| house.ctl("revoke frank"));
        stays.ended_within(SOON);
        let cut = revoked.elapsed();
        assert!(cut < CUT, "{cut:?}");
        (cut, revoke.join().expect("no panic"))
    });
    revoke.expect_ok();
    let over = Timestamp::now();
    let began = Instant::now();
    house.allow("grace --account grace --for 1h");
    assert!(house.ssh("grace").key(&house.grace).login());
    let answered = began.elapsed();
    assert!(answered < ANSWERED, "{answered:?}");
    println!("cut after {cut:?}, somebody else granted and in after {answered:?}");
    eventually("what he left is gone", SOON, || named(&house, "hold-mm") == 0);
    eventually("the ends are on record", SOON, || !house.records_of("grant.ended").is_empty());
    let terminated = house.records_of("session.terminated");
    let session = terminated.iter().find(|record| record["session"].is_string()).expect("the session's end");
    let early = over.duration_since(time(session));
    assert!(session["detail"]["killed"].as_u64() > Some(0) && early < CUT.try_into().unwrap(), "{session}");
    assert!(others.is_alive());
    assert_eq!(house.sh("systemctl show -P MainPID lockdownd"), daemon, "the watchdog did not bite");
    house.ctl("verify").expect_ok();
}

on_each_release! {
    fn held_memory_delays_no_end_and_nobody_else(release) {
        whoever_holds_their_memory_is_cut_in_time_and_holds_up_nobody_else(Instance::boot(release));
    }

    fn a_users_own_sshd_goes_although_they_hold_memory(release) {
        let house = House::enforcing(release);
        house.install_hold_mm();
        // Without the descriptor that the harness would wait for.
        house.run_as("frank", &format!("exec 3>&-; {HOLD}")).expect_ok();
        eventually("they hold their memory", SOON, || named(&house, "hold-mm") == 10);
        let start = "ssh-keygen -q -t ed25519 -N '' -f ~/host; cp /usr/sbin/sshd ~/mine; printf x >>~/mine; \
            for way in '/usr/sbin/sshd -p 2200' ~/mine' -p 2201'; do \
            setsid $way -f /dev/null -h ~/host -o UsePAM=no -o PidFile=none </dev/null >/dev/null 2>&1; done";
        house.run_as("frank", start).expect_ok();
        let listens = |port: u16| house.run(&format!("ss -Hltn 'sport = :{port}' | grep -q .")).ok();
        eventually("both are gone", Duration::from_secs(90), || !listens(2200) && !listens(2201));
        assert_eq!(named(&house, "hold-mm"), 10, "and they alone");
    }

    fn a_lockdown_ends_what_outlived_its_connection_or_names_it(release) {
        let house = House::enforcing(release);
        house.allow("frank --account ubuntu --for 1h");
        house.ssh("ubuntu").key(&house.frank).run(MOSH).expect_ok();
        assert_eq!(named(&house, "mosh-server"), 1);
        let told = house.ctl("lockdown --reason stolen").expect_ok();
        assert!(told.contains("still running") && told.contains("mosh-server") && told.contains("frank"), "{told}");
        let record = house.records_of("grant.ended").pop().expect("its end is on record before the answer");
        assert!(record["detail"]["left_behind"].to_string().contains("mosh-server"), "{record}");
        // Also long after the grant.
        let again = house.ctl_json("lockdown --reason stolen");
        assert!(again["left_running"][0]["program"].as_str().is_some_and(|p| p.ends_with("mosh-server")), "{again}");
        house.configure(&house.config("enforce", ENDS));
        house.ctl("lockdown --reason stolen").expect_ok();
        eventually("it is gone", SOON, || named(&house, "mosh-server") == 0);
        let told = house.ctl("lockdown --reason stolen").expect_ok();
        assert!(!told.contains("still running"), "{told}");
    }

    fn killed_at_any_moment_of_an_end_each_session_is_over_on_record_once_it_is(release) {
        let house = House::enforcing(release);
        house.write("/root/killer.sh", KILLER);
        house.sh("systemd-run -q --unit=killer bash /root/killer.sh");
        let began = Instant::now();
        let mut lasted = 0;
        while began.elapsed() < Duration::from_secs(25) {
            // The daemon may be away at any of these.
            if !house.ctl("allow frank --account ubuntu --for 3s --reason storm").ok() {
                continue;
            }
            let mut client = house.ssh("ubuntu").key(&house.frank).spawn("echo logged-in; exec sleep 3600");
            if began.elapsed().as_millis().is_multiple_of(2) {
                std::thread::sleep(Duration::from_secs(1));
                // It may not be heard; then the grant ends by its time.
                let _ = house.ctl("revoke frank");
            }
            client.ended_within(Duration::from_secs(40));
            lasted += usize::from(client.stdout().contains("logged-in"));
        }
        house.sh("touch /root/over; sleep 2; systemctl reset-failed lockdownd; systemctl start lockdownd");
        let all_over = || sessions_of(&house.records()).values().all(|(opened, over)| *opened <= *over);
        eventually("every session is over on record", SOON, || house.ctl("status").ok() && all_over());
        let sessions = sessions_of(&house.records());
        println!("{} sessions, {} let in", sessions.len(), lasted);
        assert!(lasted >= 2 && sessions.len() >= lasted);
        assert!(sessions.values().all(|counts| *counts == (1, 1)), "{sessions:?}");
        house.ctl("verify").expect_ok();
    }
}

#[test]
fn on_hybrid_held_memory_delays_no_end_and_nobody_else() {
    whoever_holds_their_memory_is_cut_in_time_and_holds_up_nobody_else(Instance::boot_in(
        Release::Bookworm,
        Hierarchy::Hybrid,
    ));
}
