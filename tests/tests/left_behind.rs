//! What a person leaves running, or waiting to run, when their grant ends: found, on record, and ended where the
//! configuration says so; and nothing of anybody else's.

use std::time::Duration;

use instance_tests::{House, Instance, eventually, on_each_release, past_the_next_minute};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(30);
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
echo 'setsid -f sleep 4003' | at -q b now + 1 minute 2>/dev/null
"#;
/// A unit that does not stop, and that would install jobs once it is asked to.
const UNIT: &str = r#"set -e
export XDG_RUNTIME_DIR=/run/user/$(id -u)
cat >~/stays.sh <<'END'
#!/bin/bash
trap 'echo "* * * * * touch /tmp/by-cron" | crontab -; echo "touch /tmp/by-at" | at now + 1 minute 2>/dev/null' TERM
while :; do sleep 0.2; date +%s.%N >/tmp/alive; done
END
chmod 755 ~/stays.sh
systemd-run -q --user --unit=stays -p TimeoutStopSec=infinity -p Restart=always -p RestartSec=100ms ~/stays.sh
"#;
/// What runs away: each process of `chain` leaves the time in a file, forks the next one and is gone. The last ones hide
/// their uid in a namespace of their own, stand still, wake what is stopped, or are another account's.
const RUNAWAYS: &str = r#"set -e
setsid -f chain session
systemd-run -q --user --unit=runs -p RemainAfterExit=yes chain manager
setsid -f systemd-run -q --user --scope chain scope >/dev/null 2>&1 </dev/null
echo 'chain at' | at now 2>/dev/null
setsid -f perl -e 'for (;;) { kill "CONT", -1; select undef, undef, undef, 0.0005 }' >/dev/null 2>&1 </dev/null
setsid -f perl -e 'kill STOP, $$; sleep 1000' >/dev/null 2>&1 </dev/null
setsid -f unshare -Urpf --kill-child sh -c 'sleep 4041 & wait' >/dev/null 2>&1 </dev/null
setsid -f sudo -n -u grace sh -c 'cd /; exec sleep 4042' >/dev/null 2>&1 </dev/null
tmux -L away new-session -d 'sleep 4043'
"#;
/// What frank tells a service manager that ran before; `once` leaves no file behind.
const TOLD: &str = r#"set -e
export XDG_RUNTIME_DIR=/run/user/$(id -u)
mkdir -p ~/.config/systemd/user && cd ~/.config/systemd/user
for unit in calendar boot once way; do
    printf '[Service]\nExecStart=/bin/sh -c "date +%%%%s.%%%%N >/tmp/ran-'$unit'"\n' >$unit.service
done
printf '[Timer]\nOnCalendar=*:*:*\nAccuracySec=1ms\n[Install]\nWantedBy=timers.target\n' | tee calendar.timer >once.timer
printf '[Timer]\nOnStartupSec=1\nOnUnitActiveSec=1\nAccuracySec=1ms\n' >boot.timer
printf '[Path]\nPathChanged=/tmp/changes\n' >way.path
systemctl --user daemon-reload
systemctl --user enable -q --now calendar.timer
systemctl --user start once.timer boot.timer way.path
systemd-run -q --user --on-calendar='*:*:*' --timer-property=AccuracySec=1ms sh -c 'date +%s.%N >/tmp/ran-transient'
rm once.timer once.service
"#;
/// `chain WAY`.
const CHAIN: &str = r#"
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>
int main(int count, char **args) {
    char path[64];
    snprintf(path, sizeof path, "/tmp/alive-%s", count > 1 ? args[1] : "");
    for (int fd = 0; fd < 3; fd++) close(fd);
    for (setsid(); fork() <= 0;) close(open(path, O_CREAT | O_WRONLY | O_TRUNC, 0644));
}
"#;

/// `headless FILE [PORT]`: listens on the port, ends its first thread and tells in the file that the second goes on.
const HEADLESS: &str = r#"
#include <arpa/inet.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>
const char *greeting = "SSH-2.0-headless";
static void *work(void *path) {
    for (;; usleep(100000)) close(open(path, O_CREAT | O_WRONLY | O_TRUNC, 0644));
}
int main(int count, char **args) {
    pthread_t other;
    if (count > 2) {
        struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(atoi(args[2]))};
        int listener = socket(AF_INET, SOCK_STREAM, 0);
        if (bind(listener, (void *)&at, sizeof at) || listen(listener, 1)) return 1;
    }
    pthread_create(&other, NULL, work, args[1]);
    syscall(SYS_exit, *greeting == 0);
}
"#;

/// Queues as at(1) does, only faster: a thousand jobs of the account that has one, and five thousand of another's.
const QUEUE: &str = r#"chdir "/var/spool/cron/atjobs"; my ($first) = glob "a*"; my ($uid, $gid) = (stat $first)[4, 5];
for my $n (1 .. 6000) {
    my $job = sprintf "a%05x99999999", $n + 16;
    open my $file, ">", $job; print $file "true\n"; close $file;
    chown $n > 1000 ? 65534 : $uid, $gid, $job; chmod 0700, $job;
}"#;

fn install(house: &Instance, name: &str, source: &str) {
    let (file, program) = (house.scratch().join(format!("{name}.c")), house.scratch().join(name));
    std::fs::write(&file, source).expect("own directory");
    let mut cc = std::process::Command::new("cc");
    let built = cc.args(["-O2", "-static", "-pthread", "-o"]).args([&program, &file]).status();
    assert!(built.expect("cc, which cargo links with").success());
    house.copy_in(&program, &format!("/usr/local/bin/{name}"));
    house.sh(&format!("chmod 755 /usr/local/bin/{name}"));
}

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
    fn who_prepared_everything_or_a_unit_that_does_not_stop_has_nothing_running_and_no_way_back_a_minute_later(release) {
        let house = House::enforcing_with(release, ENDS);
        house.allow("frank --account frank --for 1h");
        house.allow("grace --account grace --for 1h");
        house.ssh("grace").key(&house.grace).run(UNIT).expect_ok();
        let mut graces = house.ssh("grace").key(&house.grace).stay();
        house.write("/home/frank/.own", format!("{}\n", house.frank.public()));
        house.sh("loginctl enable-linger frank && chown frank: /home/frank/.own");
        let control = format!("ControlPath={}", house.scratch().join("master").display());
        let mut master = house.ssh("frank").key(&house.frank).arg("-MN").option(&control).spawn("");
        let channel = || house.ssh("frank").option(&control).option("ControlMaster=no").run("id -un");
        eventually("the master is there", SOON, || channel().ok());
        house.ssh("frank").key(&house.frank).run(PREPARED).expect_ok();
        let back = || house.ssh("frank").key(&house.frank).arg("-p").arg("7022").login();
        // His own sshd works until the daemon meets it, which may be at once.
        let _ = back();
        assert!(channel().ok(), "before the end the master works");
        eventually("the timer has fired", SOON, || runs(&house, "sleep 4005") || runs(&house, "/usr/bin/sleep 4005"));
        assert!(runs(&house, "sleep 4001") && house.run("ss -ltn | grep -q :7777").ok());
        let alive = || house.run("cat /tmp/alive").stdout;
        eventually("grace's unit runs", SOON, || !alive().is_empty());

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

        house.ctl("revoke grace --reason leaves").expect_ok();
        graces.ended_within(SOON);
        eventually("nothing of grace's runs", Duration::from_secs(10), || !house.run("pgrep -u grace").ok());
        let last_alive = alive();

        // Past the next minute, when cron, at and timers would have started something.
        past_the_next_minute();
        let left = house.run("ps -u frank -o pid,args --no-headers");
        assert!(!left.ok(), "{left}");
        assert!(!house.run("ss -ltn | grep -E ':7777|:7022'").ok());
        assert!(!back() && !channel().ok() && !house.ssh("frank").key(&house.frank).login());
        assert!(!house.run("crontab -u frank -l").ok());
        assert_eq!(alive(), last_alive);
        assert!(!house.run("pgrep -u grace").ok() && !house.run("crontab -u grace -l").ok());
        assert!(!house.exists("/tmp/by-cron") && !house.exists("/tmp/by-at"));
        assert_eq!(house.sh("find /var/spool/cron/atjobs -user grace | wc -l").trim(), "0");
        // Who is granted again finds an account that works.
        for (account, key) in [("frank", &house.frank), ("grace", &house.grace)] {
            house.allow(&format!("{account} --account {account} --for 1h"));
            assert!(house.ssh(account).key(key).login());
        }
        house.ctl("verify").expect_ok();
    }

    fn of_two_persons_on_one_account_the_others_connection_and_processes_stay(release) {
        let house = House::enforcing_with(release, ENDS);
        for person in ["frank", "grace"] {
            house.allow(&format!("{person} --account ubuntu --for 1h"));
        }
        let leave = |key, n: u32| {
            let script = format!(
                "setsid -f sleep {n}1 >/dev/null 2>&1 </dev/null; nohup sleep {n}2 >/dev/null 2>&1 </dev/null & \
                 tmux -L t{n} new-session -d 'sleep {n}3'"
            );
            house.ssh("ubuntu").key(key).run(&script).expect_ok();
        };
        let run = |n: u32| (1..=3).filter(|kind| runs(&house, &format!("sleep {n}{kind}"))).count();
        let mut hers = house.ssh("ubuntu").key(&house.grace).stay();
        leave(&house.frank, 4011);
        leave(&house.grace, 4012);
        let hers_through = house.ssh("ubuntu").key(&house.grace).arg("-N").arg("-L").arg("127.0.0.1:7009:127.0.0.1:22").spawn("");
        let through = "timeout 2 bash -c 'exec 3<>/dev/tcp/127.0.0.1/7009 && head -c 4 <&3'";
        eventually("her forward is there", SOON, || house.run(through).stdout == "SSH-");
        house.ssh("ubuntu").key(&house.frank).run("echo '* * * * * true' | crontab -").expect_ok();
        let mut his = house.ssh("ubuntu").key(&house.frank).stay();
        assert_eq!((run(4011), run(4012)), (3, 3));

        house.ctl("revoke frank").expect_ok();
        his.ended_within(SOON);
        eventually("frank's are gone", SOON, || run(4011) == 0);
        std::thread::sleep(Duration::from_secs(2));
        assert!(hers.is_alive() && run(4012) == 3 && house.run(through).stdout == "SSH-", "grace's are not");
        assert!(house.ssh("ubuntu").key(&house.grace).login() && house.run("crontab -u ubuntu -l").ok());
        let found = left_behind(&house, "frank");
        let crontab = of_kind(&found, "what", "crontab");
        assert!(crontab.len() == 1 && crontab[0]["ended"] == false, "nobody can tell whose it is: {found:?}");

        // The last who leaves takes what is the account's along.
        house.ctl("revoke grace").expect_ok();
        hers.ended_within(SOON);
        eventually("grace's are gone", SOON, || run(4012) == 0);
        drop(hers_through);
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
        house.ctl("revoke frank").expect_ok();
        std::thread::sleep(Duration::from_secs(2));
        assert_eq!(manager(), before, "nobody came in and told it anything");
        house.allow("frank --account ubuntu --for 1h");
        house.ssh("ubuntu").key(&house.frank).run("setsid -f sleep 4022 >/dev/null 2>&1 </dev/null").expect_ok();
        let in_manager = "systemd-run -q --user --unit=new sleep 4023";
        house.ssh("ubuntu").key(&house.frank).run(in_manager).expect_ok();
        house.ctl("lockdown").expect_ok();
        eventually("what is his is gone", SOON, || !runs(&house, "sleep 4022") && !runs(&house, "/usr/bin/sleep 4023"));
        std::thread::sleep(Duration::from_secs(2));
        assert!(runs(&house, "/usr/bin/sleep 4021") || runs(&house, "sleep 4021"), "the service");
        assert_eq!(manager(), "", "what frank told the manager nobody can tell");
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

    fn who_runs_away_faster_than_one_can_look_is_caught_and_nothing_else_stands_still(release) {
        let house = House::enforcing_with(release, ENDS);
        install(&house, "chain", CHAIN);
        house.sh("echo 'frank ALL=(grace) NOPASSWD: ALL' >/etc/sudoers.d/frank");
        house.sh("systemd-run -q --unit=other --uid=ubuntu sleep 4044");
        house.allow("frank --account frank --for 1h");
        house.sh("mkdir -p /var/lib/systemd/linger; touch /var/lib/systemd/linger/frank");
        house.ssh("frank").key(&house.frank).run(RUNAWAYS).expect_ok();
        let ways = ["session", "manager", "scope", "at"];
        let alive = |way: &str| house.run(&format!("stat -c %y /tmp/alive-{way}")).stdout;
        for way in ways {
            eventually(&format!("{way} runs"), SOON, || !alive(way).is_empty());
            let before = alive(way);
            eventually(&format!("{way} goes on"), SOON, || alive(way) != before);
        }
        let left = ["sleep 4041", "sleep 4042", "sleep 4043"];
        assert!(left.iter().all(|command| runs(&house, command)), "{}", house.run("ps -ef"));

        house.ctl("revoke frank").expect_ok();
        // What the first look missed the second one, a second later, does not.
        std::thread::sleep(Duration::from_millis(2_500));
        let before = ways.map(alive);
        std::thread::sleep(Duration::from_secs(2));
        assert_eq!(ways.map(alive), before, "{}", house.run("ps -fu frank; cat /sys/fs/cgroup/user.slice/*/cgroup.freeze"));
        assert!(!left.iter().any(|command| runs(&house, command)), "{}", house.run("ps -ef"));
        let theirs = house.run("pgrep -u frank -a");
        assert!(!theirs.ok(), "{theirs}");

        // Nothing is left standing still, and nobody else's ended.
        assert_eq!(house.sh("grep -lx 1 $(find /sys/fs/cgroup -name cgroup.freeze) || true"), "");
        assert!(!house.exists("/run/lockdownd/held") && house.run("pgrep -f 'sleep 4044'").ok());
        house.allow("frank --account frank --for 1h");
        assert!(house.ssh("frank").key(&house.frank).login());
    }

    fn a_process_whose_first_thread_has_ended_is_seen_and_ends_too(release) {
        let house = House::enforcing_with(release, ENDS);
        install(&house, "headless", HEADLESS);
        house.allow("frank --account frank --for 1h");
        house.sh("mkdir -p /var/lib/systemd/linger; touch /var/lib/systemd/linger/frank");
        let start = "setsid -f headless /tmp/alive-session 7778 >/dev/null 2>&1 </dev/null
            systemd-run -q --user --unit=headless headless /tmp/alive-manager
            echo 'headless /tmp/alive-at' | at now 2>/dev/null";
        house.ssh("frank").key(&house.frank).run(start).expect_ok();
        let ways = ["session", "manager", "at"];
        let alive = |way: &str| house.run(&format!("stat -c %y /tmp/alive-{way}")).stdout;
        for way in ways {
            eventually(&format!("{way} runs"), SOON, || !alive(way).is_empty());
        }
        let ways_in = house.run("lockdownctl ways-in").stdout;
        assert!(ways_in.contains("7778") && ways_in.contains("headless"), "{ways_in}");

        house.ctl("revoke frank").expect_ok();
        eventually("nothing of frank's is left", SOON, || !house.run("pgrep -u frank").ok());
        let before = ways.map(alive);
        std::thread::sleep(Duration::from_millis(500));
        assert_eq!(ways.map(alive), before, "{}", house.run("ps -efL"));
        let found = left_behind(&house, "frank");
        let told = found.iter().filter(|item| item["exe"] == "/usr/local/bin/headless" && item["ended"] == true);
        assert!(told.count() == ways.len(), "{found:?}");
    }

    fn however_many_jobs_are_queued_none_of_them_runs_once_the_grant_is_over(release) {
        let house = House::enforcing_with(release, ENDS);
        house.allow("frank --account ubuntu --for 1h");
        house.sh("su ubuntu -c 'echo true | at now + 2 hours 2>/dev/null'");
        house.sh(&format!("perl -e '{QUEUE}'"));
        let queued = || house.sh("find /var/spool/cron/atjobs -user ubuntu | wc -l").trim().to_owned();
        house.ssh("ubuntu").key(&house.frank).run("setsid -f sleep 4061 >/dev/null 2>&1 </dev/null").expect_ok();
        assert!(queued().parse::<u32>().expect("a number") > 1_000, "{}", queued());
        house.ctl("revoke frank").expect_ok();
        eventually("no job of theirs waits", SOON, || queued() == "0");
        assert_eq!(house.sh("find /var/spool/cron/atjobs -user nobody | wc -l").trim(), "5000");
        let found = left_behind(&house, "frank");
        assert!(found.iter().any(|item| item["what"] == "process" && item["ended"] == true), "not hidden: {found:?}");
        let record = house.records_of("grant.ended").pop().expect("an end");
        assert!(record["detail"]["more_left_behind"].as_u64() > Some(0), "{record}");
        let kept: u32 = house.sh("ls /var/lib/lockdownd/left-behind | wc -l").trim().parse().expect("a number");
        assert!(kept >= 1_000, "{kept}");
    }

    fn what_a_manager_that_lingered_before_was_told_runs_no_more_once_the_grant_is_over(release) {
        let house = House::enforcing_with(release, ENDS);
        house.sh("loginctl enable-linger ubuntu");
        eventually("the account's manager is there", SOON, || house.run("pgrep -u ubuntu -f 'systemd --user'").ok());
        std::thread::sleep(Duration::from_secs(1));
        house.allow("frank --account ubuntu --for 1h");
        house.ssh("ubuntu").key(&house.frank).run(TOLD).expect_ok();
        let ways = ["calendar", "boot", "once", "transient"];
        let ran = |way: &str| house.run(&format!("cat /tmp/ran-{way}")).stdout;
        for way in ways {
            eventually(&format!("{way} runs"), SOON, || !ran(way).is_empty());
        }
        house.sh("date >/tmp/changes");
        eventually("the path unit runs", SOON, || !ran("way").is_empty());

        house.ctl("revoke frank").expect_ok();
        let found = left_behind(&house, "frank");
        assert!(of_kind(&found, "by", "user_manager").iter().any(|item| item["ended"] == true), "{found:?}");
        eventually("nothing of it runs", SOON, || !house.run("pgrep -u ubuntu").ok());
        let before = ways.map(ran);
        let by_path = ran("way");
        house.sh("date >/tmp/changes");
        // What a timer of the manager's, each of which is due every second, or systemd itself would start anew.
        std::thread::sleep(Duration::from_secs(8));
        assert_eq!(ways.map(ran), before, "{}", house.run("ps -fu ubuntu"));
        assert_eq!(ran("way"), by_path);
        assert!(!house.run("pgrep -u ubuntu").ok(), "{}", house.run("ps -fu ubuntu"));
        // The mark is root's; the next person is let in.
        assert!(house.exists("/var/lib/systemd/linger/ubuntu"));
        house.allow("grace --account ubuntu --for 1h");
        assert!(house.ssh("ubuntu").key(&house.grace).login());
    }

    fn a_chain_of_grants_and_a_restart_leave_no_way_back(release) {
        let house = House::enforcing_with(release, ENDS);
        // What is put there under the first grant is the last one's to take along.
        house.allow("frank --account ubuntu --for 1h");
        house.ssh("ubuntu").key(&house.frank).run("echo '0 0 1 1 * true' | crontab -").expect_ok();
        std::thread::sleep(Duration::from_millis(1_100));
        house.allow("grace --account ubuntu --for 1h");
        house.ctl("revoke frank").expect_ok();
        assert!(house.run("crontab -u ubuntu -l").ok(), "grace is still there");
        house.sh("systemctl restart lockdownd");
        house.ctl("revoke grace").expect_ok();
        eventually("the crontab is set aside", SOON, || !house.run("crontab -u ubuntu -l").ok());

        // A job that removes itself leaves nothing that waits; and a daemon that was stopped looks when it comes back.
        house.allow("frank --account frank --for 1h");
        house.ssh("frank").key(&house.frank).run("echo 'sleep 4051' | at now 2>/dev/null").expect_ok();
        eventually("at has started it", SOON, || runs(&house, "sleep 4051"));
        let gone = || !house.run("pgrep -u frank systemd").ok();
        eventually("nothing of his login is left", Duration::from_secs(30), gone);
        let before = house.records_of("sweep.attested").len();
        house.sh("systemctl restart lockdownd");
        eventually("a sweep has forgotten who is gone", SOON, || house.records_of("sweep.attested").len() > before);
        house.sh("systemctl stop lockdownd; sleep 1; systemctl start lockdownd");
        house.ctl("revoke frank").expect_ok();
        eventually("it is gone", SOON, || !runs(&house, "sleep 4051"));
    }
}
