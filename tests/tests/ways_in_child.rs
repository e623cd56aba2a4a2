//! The child process that surveys the ways in: what it may do, and what becomes of one that does not do its work.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use instance_tests::{House, eventually, on_each_release};

/// What the daemon may take to act on what nobody waits for, on a busy machine.
const SOON: Duration = Duration::from_secs(60);
/// A survey that hangs is killed after 45 seconds.
const KILLED: Duration = Duration::from_secs(100);
/// How long an operator waits for an answer meanwhile.
const AT_ONCE: Duration = Duration::from_secs(1);
const SURVEYOR: &str = "/usr/lib/lockdownd/ways-in";

/// Has it looked at the ways in again, since sshd's configuration has changed.
fn have_it_looked(house: &House) {
    house.sh("date +'# %N' >>/etc/ssh/sshd_config.d/50-changed.conf");
}

fn problems(house: &House) -> String {
    house.ctl_json("status")["problems"].to_string()
}

/// Whether `status` names a look that failed like this.
fn is_named(house: &House, why: &str) -> bool {
    let problems = problems(house);
    problems.contains("looks at every way in failed") && problems.contains(why)
}

/// Why the last attestation knows nothing of the ways in.
fn unknown(house: &House) -> String {
    let sweeps = house.records_of("sweep.attested");
    sweeps
        .last()
        .map(|record| record["detail"]["ways_unknown"].as_str().unwrap_or_default().to_owned())
        .unwrap_or_default()
}

/// Stops one in the midst of its work.
fn stop_one(house: &House) -> bool {
    have_it_looked(house);
    house.run("n=0; until pgrep -x ways-in >/dev/null; do n=$((n + 1)); [ $n -lt 2000 ] || exit 1; done; sleep 0.03; pkill -STOP -x ways-in").status == 0
}

on_each_release! {
    fn a_survey_that_hangs_dies_or_prints_nonsense_changes_nothing_and_is_named(release) {
        let house = House::enforcing(release);
        house.allow("frank --account ubuntu --for 1h");
        let session = house.ssh("ubuntu").key(&house.frank).spawn("sleep 600");
        let live = || house.ctl_json("sessions")["sessions"].as_array().expect("a list").len();
        eventually("frank is in", SOON, || live() == 1);

        assert!((0..5).any(|_| stop_one(&house)), "it was never seen");
        let began = Instant::now();
        let shown = house.sh("cat /proc/$(pgrep -x ways-in)/status; id -u _lockdownd-ways-in");
        let has = |line: &str| shown.lines().any(|shown| shown.split_whitespace().collect::<Vec<_>>().join(" ") == line);
        let uid = shown.lines().last().expect("an id");
        assert!(has(&format!("Uid: {uid} {uid} {uid} {uid}")) && has("NoNewPrivs: 1") && has("Seccomp: 2"), "{shown}");
        // To read files, and at its beginning to see processes: nothing by which anything could be changed.
        assert!(["0000000000000004", "0000000000080004"].iter().any(|caps| has(&format!("CapPrm: {caps}"))), "{shown}");
        let mut answers = Vec::new();
        for _ in 0..3 {
            let asked = Instant::now();
            assert!(house.ctl("status").stdout.contains("mode"));
            answers.push(asked.elapsed());
            assert!(house.ssh("ubuntu").key(&house.frank).login(), "a login is answered");
            sleep(Duration::from_millis(300));
        }
        // On a busy machine to start the program that asks takes longer than that by itself.
        assert!(answers.iter().min().is_some_and(|fastest| *fastest < AT_ONCE), "status took {answers:?}");
        eventually("it is killed and named", KILLED, || is_named(&house, "and was killed"));
        println!("named {:.1} s after it was stopped", began.elapsed().as_secs_f64());
        eventually("none is left", SOON, || house.sh("pgrep -x ways-in || true").is_empty());
        assert!(unknown(&house).contains("and was killed"), "{}", unknown(&house));

        // The others, as something else in its place.
        house.sh(&format!("mv {SURVEYOR} {SURVEYOR}.kept"));
        for (program, why) in [
            ("kill -KILL $$", "signal: 9"),
            ("echo 'it broke' >&2; exit 3", "it broke"),
            ("echo '{\"sshds\":[]}'", "no survey"),
            ("exec yes", "printed more than"),
        ] {
            house.write(SURVEYOR, format!("#!/bin/sh\n{program}\n"));
            house.sh(&format!("chmod 755 {SURVEYOR}"));
            have_it_looked(&house);
            eventually(&format!("named: {why}"), SOON, || is_named(&house, why));
        }
        let refused = house.ctl("ways-in");
        assert!(refused.status != 0 && refused.stderr.contains("could not be looked at"), "{refused}");
        assert!(live() == 1 && house.ctl_json("grants").to_string().contains("frank"), "nothing has ended");

        house.sh(&format!("mv {SURVEYOR}.kept {SURVEYOR}"));
        have_it_looked(&house);
        eventually("it is well again", SOON, || !problems(&house).contains("looks at every way in") && unknown(&house).is_empty());
        let shown = house.ctl("ways-in");
        assert!(!shown.stdout.contains("ran without"), "it is kept from all that it is to be kept from: {shown}");
        drop(session);
    }

    fn an_sshd_that_is_asked_about_ways_in_is_not_ended_as_somebodys_own_server(release) {
        let house = House::enforcing(release);
        house.run_as("frank", "ssh-keygen -q -t ed25519 -N '' -f ~/host").expect_ok();
        // Each is asked about, so that one sshd after the other runs for seconds.
        let blocks = (0..200).map(|n| format!("Match User somebody{n}\nPasswordAuthentication yes\n"));
        house.write("/etc/ssh/sshd_config.d/90-blocks.conf", blocks.collect::<String>() + "Match all\n");
        let ended = || {
            let records = house.records_of("session.terminated");
            records.iter().map(|record| record["account"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
        };
        let ends_during_a_survey = || {
            have_it_looked(&house);
            eventually("it looks", SOON, || !house.sh("pgrep -x ways-in || true").is_empty());
            let before = ended().len();
            house.run_as("frank", "/usr/sbin/sshd -f /dev/null -h ~/host -p 2202 -o PidFile=none").expect_ok();
            eventually("it is ended", SOON, || ended().len() > before);
            !house.sh("pgrep -x ways-in || true").is_empty()
        };
        let during = (0..5).filter(|_| ends_during_a_survey()).take(2).count();
        println!("{during} were ended during a survey");
        let ended = ended();
        assert!(during > 0 && ended.iter().all(|account| account == "frank"), "{ended:?}");
        assert!(!problems(&house).contains("looks at every way in") && unknown(&house).is_empty());
    }

    fn where_the_kernel_confines_nothing_the_survey_works_and_says_so(release) {
        let house = House::enforcing(release);
        let before = house.ctl("ways-in");
        let drop_in = "/etc/systemd/system/lockdownd.service.d/no-sandbox.conf";
        house.sh("mkdir -p /etc/systemd/system/lockdownd.service.d");
        house.write(drop_in, "[Service]\nSystemCallFilter=~landlock_create_ruleset seccomp\n");
        house.sh("systemctl daemon-reload; systemctl restart lockdownd");
        let without = house.ctl("ways-in");
        for told in ["ran without Landlock", "ran without a filter on its system calls"] {
            assert!(!before.stdout.contains(told) && without.stdout.contains(told), "{before}\n{without}");
        }
        // What it finds is the same.
        let ways = || house.ctl_json("ways-in")["ways"].to_string();
        let without = ways();
        house.sh(&format!("rm {drop_in}; systemctl daemon-reload; systemctl restart lockdownd"));
        assert_eq!(ways(), without);
    }
}
