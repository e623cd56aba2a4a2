//! What a person leaves running, or waiting to run, when their grant ends: found, on record, and ended where the
//! configuration says so; and nothing of anybody else's.

use std::time::Duration;

use instance_tests::{House, Instance, eventually, on_each_release};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(10);
const ENDS: &str = "[sessions]\nleft_behind = \"end\"\n";
/// What frank does on his own account so that the end of his grant is not the end.
const PREPARED: &str = r#"set -e
setsid -f sleep 4001 >/dev/null 2>&1 </dev/null
(nohup sh -c 'while sleep 1; do sleep 0.5 & done' >/dev/null 2>&1 </dev/null &)
setsid -f socat TCP-LISTEN:7777,fork,reuseaddr EXEC:/bin/sh >/dev/null 2>&1 </dev/null
ssh-keygen -q -t ed25519 -N '' -f ~/host_key
printf 'HostKey %s/host_key\nPort 7022\nUsePAM no\nPidFile none\nStrictModes no\nAuthorizedKeysFile %s/own\n' ~ ~ >~/sshd
cp ~/.own ~/own
setsid -f /usr/sbin/sshd -f ~/sshd >/dev/null 2>&1 </dev/null
echo '* * * * * setsid -f sleep 4002' | crontab -
systemd-run -q --user --unit=stays sleep 4004
systemd-run -q --user --on-calendar='*:*:0/5' --timer-property=AccuracySec=100ms sleep 4005
"#;

/// Whether a process with this command line runs.
fn runs(house: &Instance, command: &str) -> bool {
    house.run(&format!("pgrep -xf '{command}'")).ok()
}

/// What `grant.ended` says of the person's grant, once it has ended.
fn left_behind(house: &Instance, person: &str) -> Vec<Value> {
    let ended = || house.records_of("grant.ended").into_iter().filter(|r| r["person"] == person).collect::<Vec<_>>();
    eventually("the end is on record", SOON, || !ended().is_empty());
    let mut found = Vec::new();
    for record in ended() {
        found.extend(record["detail"]["left_behind"].as_array().cloned().unwrap_or_default());
    }
    found
}

fn of_kind<'a>(found: &'a [Value], key: &str, word: &str) -> Vec<&'a Value> {
    found.iter().filter(|item| item[key] == word).collect()
}

on_each_release! {
    fn who_prepared_everything_has_nothing_running_and_no_way_back_a_minute_later(release) {
        let house = House::enforcing_with(release, ENDS);
        house.allow("frank --account frank --for 1h");
        house.write("/home/frank/.own", format!("{}\n", house.frank.public()));
        house.sh("loginctl enable-linger frank && chown frank: /home/frank/.own");
        let control = format!("ControlPath={}", house.scratch().join("master").display());
        let mut master = house.ssh("frank").key(&house.frank).arg("-MN").option(&control).spawn("");
        let channel = || house.ssh("frank").option(&control).option("ControlMaster=no").run("id -un");
        eventually("the master is there", SOON, || channel().ok());
        house.ssh("frank").key(&house.frank).run(PREPARED).expect_ok();
        // As at(1), which is not installed here, leaves a job.
        let spool = "/var/spool/cron/atjobs";
        house.sh(&format!("mkdir -p {spool}; echo 'sleep 4003' >{spool}/a0000101c2b3a4; chown frank {spool}/a*"));
        let back = || house.ssh("frank").key(&house.frank).arg("-p").arg("7022").login();
        assert!(back() && channel().ok(), "before the end all of it works");
        eventually("the timer has fired", SOON, || runs(&house, "sleep 4005") || runs(&house, "/usr/bin/sleep 4005"));
        assert!(runs(&house, "sleep 4001") && house.run("ss -ltn | grep -q :7777").ok());

        house.ctl("revoke frank --reason leaves").expect_ok();
        master.ended_within(SOON);
        eventually("nothing of frank's runs", SOON, || !house.run("pgrep -u frank").ok());
        let found = left_behind(&house, "frank");
        for kind in ["session", "user_manager"] {
            let theirs = of_kind(&found, "by", kind);
            assert!(!theirs.is_empty() && theirs.iter().all(|item| item["ended"] == true), "{kind}: {found:?}");
        }
        for kind in ["crontab", "at_job", "linger"] {
            let waiting = of_kind(&found, "what", kind);
            assert!(waiting.len() == 1 && waiting[0]["ended"] == true, "{kind}: {found:?}");
        }
        let crontab = of_kind(&found, "what", "crontab")[0];
        let kept = crontab["kept_in"].as_str().expect("a crontab is kept");
        let sum = house.sh(&format!("sha256sum {kept}"));
        assert!(sum.starts_with(crontab["sha256"].as_str().unwrap()) && house.sh(&format!("cat {kept}")).contains("4002"));

        // Past the next minute, when cron, at and timers would have started something.
        std::thread::sleep(Duration::from_secs(62));
        let left = house.run("ps -u frank -o pid,args --no-headers");
        assert!(!left.ok(), "{left}");
        assert!(!house.run("ss -ltn | grep -E ':7777|:7022'").ok());
        assert!(!back() && !channel().ok() && !house.ssh("frank").key(&house.frank).login());
        assert!(!house.run("crontab -u frank -l").ok());
        // Who is granted again finds an account that works.
        house.allow("frank --account frank --for 1h");
        assert!(house.ssh("frank").key(&house.frank).login());
        house.ctl("verify").expect_ok();
    }

    fn of_two_persons_on_one_account_the_others_connection_and_processes_stay(release) {
        let house = House::enforcing_with(release, ENDS);
        for person in ["frank", "grace"] {
            house.allow(&format!("{person} --account ubuntu --for 1h"));
        }
        let leave = |key, seconds| {
            let script = format!("setsid -f sleep {seconds} >/dev/null 2>&1 </dev/null");
            house.ssh("ubuntu").key(key).run(&script).expect_ok();
        };
        let mut hers = house.ssh("ubuntu").key(&house.grace).stay();
        leave(&house.frank, 4011);
        leave(&house.grace, 4012);
        house.ssh("ubuntu").key(&house.frank).run("echo '* * * * * true' | crontab -").expect_ok();
        let mut his = house.ssh("ubuntu").key(&house.frank).stay();
        assert!(runs(&house, "sleep 4011") && runs(&house, "sleep 4012"));

        house.ctl("revoke frank").expect_ok();
        his.ended_within(SOON);
        eventually("frank's are gone", SOON, || !runs(&house, "sleep 4011"));
        std::thread::sleep(Duration::from_secs(2));
        assert!(hers.is_alive() && runs(&house, "sleep 4012"), "grace's are not");
        assert!(house.ssh("ubuntu").key(&house.grace).login() && house.run("crontab -u ubuntu -l").ok());
        let found = left_behind(&house, "frank");
        let crontab = of_kind(&found, "what", "crontab");
        assert!(crontab.len() == 1 && crontab[0]["ended"] == false, "nobody can tell whose it is: {found:?}");

        // The last who leaves takes what is the account's along.
        house.ctl("revoke grace").expect_ok();
        hers.ended_within(SOON);
        eventually("grace's are gone", SOON, || !runs(&house, "sleep 4012"));
        let found = left_behind(&house, "grace");
        assert!(of_kind(&found, "what", "crontab")[0]["ended"] == true, "{found:?}");
    }

    fn what_was_there_before_the_grant_and_what_no_login_started_stays(release) {
        let house = House::enforcing_with(release, ENDS);
        house.sh("systemd-run -q --unit=app --uid=ubuntu sleep 4021; echo '0 0 * * * true' | crontab -u ubuntu -");
        house.sh("loginctl enable-linger ubuntu");
        let manager = || house.run("pgrep -u ubuntu -f 'systemd --user'").stdout;
        eventually("the account's manager is there", SOON, || !manager().is_empty());
        let before = manager();
        std::thread::sleep(Duration::from_secs(1));
        house.allow("frank --account ubuntu --for 1h");
        house.ssh("ubuntu").key(&house.frank).run("setsid -f sleep 4022 >/dev/null 2>&1 </dev/null").expect_ok();
        let in_manager = "systemd-run -q --user --unit=new sleep 4023";
        house.ssh("ubuntu").key(&house.frank).run(in_manager).expect_ok();
        house.ctl("lockdown").expect_ok();
        eventually("what is his is gone", SOON, || !runs(&house, "sleep 4022") && !runs(&house, "/usr/bin/sleep 4023"));
        std::thread::sleep(Duration::from_secs(2));
        assert!(runs(&house, "/usr/bin/sleep 4021") || runs(&house, "sleep 4021"), "the service");
        assert_eq!(manager(), before, "the manager");
        assert!(house.run("crontab -u ubuntu -l").ok() && house.exists("/var/lib/systemd/linger/ubuntu"));
        let found = left_behind(&house, "frank");
        assert!(of_kind(&found, "what", "crontab")[0]["ended"] == false, "{found:?}");
        assert!(of_kind(&found, "what", "linger")[0]["ended"] == false, "{found:?}");
    }

    fn by_default_it_is_told_of_and_goes_on(release) {
        let house = House::enforcing(release);
        house.allow("frank --account frank --for 1h");
        house.ssh("frank").key(&house.frank).run("setsid -f sleep 4031 >/dev/null 2>&1 </dev/null").expect_ok();
        house.ssh("frank").key(&house.frank).run("echo '0 0 * * * true' | crontab -").expect_ok();
        // The daemon remembers whose it is.
        house.sh("systemctl restart lockdownd");
        house.ctl("revoke frank").expect_ok();
        let found = left_behind(&house, "frank");
        assert!(found.iter().all(|item| item["ended"] == false), "{found:?}");
        let theirs = of_kind(&found, "by", "session");
        assert!(theirs.iter().any(|item| item["exe"].as_str().is_some_and(|exe| exe.ends_with("sleep"))), "{found:?}");
        assert_eq!(of_kind(&found, "what", "crontab").len(), 1, "{found:?}");
        assert!(runs(&house, "sleep 4031") && house.run("crontab -u frank -l").ok());
    }
}
