//! A thousand sessions that one lockdown ends, and a host on which everything that can stand still does at the same time: ends
//! come in time, whoever is to get in does, and nothing is lost or said twice.

use std::{io::Write, thread, time::Duration};

use instance_tests::{Client, DAEMON, House, Key, eventually, on_each_release, sessions_of};
use jiff::{SignedDuration, Timestamp};

/// How long what a lockdown ends, or a revoke, or a deadline, may go on, and how long break-glass may take.
const IN_TIME: SignedDuration = SignedDuration::from_secs(3);
/// What an answer may take that waits for the disk in vain.
const ANSWERED: SignedDuration = SignedDuration::from_secs(6);
const SOON: Duration = Duration::from_secs(60);
/// What a thousand logins take on a busy machine.
const ALL_IN: Duration = Duration::from_secs(400);
/// The most that may ever be resident of the daemon, in KiB.
const MEMORY_LIMIT: u64 = 24 * 1024;
/// How many log in at the same time.
const LANES: usize = 20;
const SESSIONS: usize = 1_000;
/// Processes whose memory maps are held: whoever reads their command lines waits for minutes. Few of them, so that everybody
/// else has a processor too.
const HOLD: &str = "setsid -f hold-mm 4 3 300 >/dev/null 2>&1 </dev/null";

fn since(began: Timestamp) -> SignedDuration {
    Timestamp::now().duration_since(began)
}

/// What this does, which must not take longer than `limit`.
#[track_caller]
fn within<T>(limit: SignedDuration, what: &str, of: impl FnOnce() -> T) -> T {
    let began = Timestamp::now();
    let done = of();
    let took = since(began);
    println!("{what}: {took:#}");
    assert!(took < limit, "{what} took {took:#}");
    done
}

/// The daemon's process and how often it was started again.
fn daemon(house: &House) -> String {
    house.sh(&format!("echo {DAEMON}; systemctl show -P NRestarts lockdownd"))
}

/// The most that was ever resident of it, in KiB.
fn most_resident(house: &House) -> u64 {
    house.sh(&format!("sed -n 's/^VmHWM:[^0-9]*\\([0-9]*\\).*/\\1/p' /proc/{DAEMON}/status")).parse().expect("a number")
}

/// Each session that there was is on record as opened once, and as over once.
#[track_caller]
fn each_is_over_once(house: &House, least: usize) {
    let all = || sessions_of(house.records().iter().filter(|record| record["account"] != "breakglass"));
    let is_over = |counts: &(usize, usize)| *counts == (1, 1);
    eventually("each end is on record", SOON, || all().len() >= least && all().values().all(|counts| counts.1 > 0));
    let wrong: Vec<_> = all().into_iter().filter(|(_, counts)| !is_over(counts)).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    house.ctl("verify").expect_ok();
}

/// Starts clients that stay and run nothing, some at a time, one after the other in each lane.
fn many(house: &House, ways: &[(&str, &Key)]) -> Vec<Client> {
    let lane = |lane: usize| -> Vec<Client> {
        let mut clients = Vec::new();
        for number in 0..SESSIONS / LANES {
            let (account, key) = ways[(lane + number) % ways.len()];
            let client = house.ssh(account).key(key).arg("-N").option("LogLevel=VERBOSE").spawn("");
            eventually("somebody more is in", SOON, || client.stderr().contains("Authenticated to"));
            clients.push(client);
        }
        clients
    };
    thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES).map(|number| scope.spawn(move || lane(number))).collect();
        lanes.into_iter().flat_map(|lane| lane.join().expect("all of them are in")).collect()
    })
}

/// How many processes hold their memory, told by what never waits.
fn holding(house: &House) -> usize {
    let count = house.sh("grep -lx hold-mm /proc/[0-9]*/comm 2>/dev/null | wc -l || true");
    count.trim().parse().expect("a number")
}

/// A home on a file system whose server is a program beside it.
fn mount_a_home(house: &House) {
    house.write("/root/server", "#!/bin/sh\nexec /usr/lib/openssh/sftp-server\n");
    house.sh(
        "mknod /dev/fuse c 10 229 && chmod 755 /root/server && mkdir -p /srv/files/.ssh /home/shared && \
         sshfs -o ssh_command=/root/server,allow_other,dcache_timeout=1 files:/srv/files /home/shared </dev/null >/dev/null 2>&1 3>&- && \
         useradd -M -d /home/shared -s /bin/bash shared",
    );
}

const STATE: &str = "/var/lib/lockdownd";
const FILL_RUN: &str = "fallocate -l 100T /run/full 2>/dev/null; dd if=/dev/zero of=/run/full bs=64k 2>/dev/null; \
     ! dd if=/dev/zero of=/run/fuller bs=4k 2>/dev/null";

/// As long as it is there, a home, the state's disk and journald stand still, and `/run` is full.
struct Broken<'a>(&'a House);

impl<'a> Broken<'a> {
    fn new(house: &'a House) -> Self {
        house.sh("pkill -STOP -x sftp-server");
        house.sh(FILL_RUN);
        house.sh(&format!("fsfreeze -f {STATE}"));
        house.sh("systemctl kill -s STOP systemd-journald");
        Self(house)
    }
}

impl Drop for Broken<'_> {
    fn drop(&mut self) {
        self.0.sh("systemctl kill -s CONT systemd-journald");
        self.0.sh(&format!("fsfreeze -u {STATE}"));
        self.0.sh("rm -f /run/full /run/fuller");
        self.0.sh("pkill -CONT -x sftp-server");
    }
}

on_each_release! {
    #[ignore = "a thousand clients take two quiet processors and six gigabytes: nextest's --run-ignored all runs it"]
    fn one_lockdown_ends_a_thousand_sessions_in_time_and_each_is_on_record_once(release) {
        let house = House::enforcing(release);
        house.write("/etc/ssh/sshd_config.d/00-many.conf", "MaxStartups 200\n");
        house.sh("systemctl reload ssh");
        for args in ["frank --account ubuntu", "frank --account frank", "grace --account ubuntu", "grace --account grace"] {
            house.allow(&format!("{args} --for 1h"));
        }
        let before = daemon(&house);
        let mut on_breakglass = house.ssh("breakglass").key(&house.breakglass).stay();
        let ways = [("ubuntu", &house.frank), ("frank", &house.frank), ("ubuntu", &house.grace), ("grace", &house.grace)];
        let began = Timestamp::now();
        let mut clients = many(&house, &ways);
        eventually("all are on record", ALL_IN, || house.records_of("session.opened").len() >= SESSIONS);
        println!("{} sessions after {:#}, at most {} KiB resident", clients.len(), since(began), most_resident(&house));
        assert!(clients.iter_mut().all(Client::is_alive));

        let began = Timestamp::now();
        let answered = thread::scope(|scope| {
            let lockdown = scope.spawn(|| (house.ctl("lockdown --reason test"), since(began)));
            eventually("every client has ended", SOON, || clients.iter_mut().all(|client| !client.is_alive()));
            let took = since(began);
            let (said, answered) = lockdown.join().expect("no panic");
            said.expect_ok();
            println!("the last was cut after {took:#}, answered after {answered:#}");
            assert!(took < IN_TIME, "the last was cut after {took:#}");
            answered
        });
        assert!(answered < ANSWERED, "{answered:#}");
        assert!(on_breakglass.is_alive());
        each_is_over_once(&house, SESSIONS);
        println!("each end on record after {:#}, at most {} KiB resident", since(began), most_resident(&house));
        assert_eq!(house.records_of("session.terminated").len(), SESSIONS);
        // Its record names every session, in parts.
        let lockdowns = house.records_of("lockdown");
        assert_eq!(lockdowns.iter().filter(|record| record["detail"]["part"].as_u64().unwrap_or(1) == 1).count(), 1);
        assert_eq!(daemon(&house), before, "the watchdog did not bite");
        on_breakglass.kill();
    }

    fn with_everything_standing_still_at_once_ends_come_in_time_and_break_glass_gets_in(release) {
        let house = House::enforcing_with(release, "[sessions]\nleft_behind = \"end\"\n");
        house.give_state_its_own_disk();
        house.install_hold_mm();
        mount_a_home(&house);
        house.allow("frank --account ubuntu --for 1h");
        house.allow("grace --account ubuntu --for 1h");
        let before = daemon(&house);
        let mut on_frank = house.ssh("ubuntu").key(&house.frank).stay();
        let mut on_breakglass = house.ssh("breakglass").key(&house.breakglass).stay();
        // A terminal whose owner stopped it reads nothing any more.
        let mut stopped = house.ssh("ubuntu").key(&house.grace).arg("-tt").spawn("tty; exec yes");
        eventually("the terminal is there", SOON, || stopped.stdout().contains("/dev/pts/"));
        let mut keyboard = stopped.stdin().expect("it is open");
        keyboard.write_all(b"\x13").and_then(|()| keyboard.flush()).expect("the client reads it");
        house.ssh("ubuntu").key(&house.frank).run(HOLD).expect_ok();
        eventually("they hold their memory", SOON, || holding(&house) >= 3);
        let short = house.ctl_json("allow frank --account frank --for 40s --reason test");
        let ends: Timestamp = short["grant"]["expires_at"].as_str().and_then(|at| at.parse().ok()).expect("it ends");
        let mut on_short = house.ssh("frank").key(&house.frank).stay();
        eventually("all are on record", SOON, || house.records_of("session.opened").len() >= 4);

        let broken = Broken::new(&house);
        let breakglass = || house.ssh("breakglass").key(&house.breakglass).login();
        assert!(within(IN_TIME, "break-glass", breakglass));
        assert!(!within(ANSWERED, "a stranger", || house.ssh("root").key(&house.frank).login()));
        let revoked = Timestamp::now();
        thread::scope(|scope| {
            let revoke = scope.spawn(|| within(ANSWERED, "revoke", || house.ctl("revoke grace --reason test")));
            stopped.ended_within(SOON);
            let took = since(revoked);
            println!("cut after a revoke: {took:#}");
            assert!(took < IN_TIME, "the revoked went on for {took:#}");
            revoke.join().expect("no panic").expect_ok();
        });
        let new = within(ANSWERED, "allow", || house.ctl("allow grace --account grace --for 1h --reason test"));
        assert!(!new.ok(), "{new}");
        let status = within(ANSWERED, "status", || house.ctl("status"));
        assert!(status.stdout.contains("has not answered for"), "{status}");
        assert!(Timestamp::now() < ends, "the machine is too slow for this test");
        on_short.ended_within(SOON);
        let late = since(ends);
        println!("cut after a deadline: {late:#}");
        assert!(late < IN_TIME, "a grant's end came {late:#} late");
        let locked_down = Timestamp::now();
        thread::scope(|scope| {
            let lockdown = scope.spawn(|| within(ANSWERED, "lockdown", || house.ctl("lockdown --reason test")));
            on_frank.ended_within(SOON);
            let took = since(locked_down);
            println!("cut after a lockdown: {took:#}");
            assert!(took < IN_TIME, "a lockdown's session went on for {took:#}");
            lockdown.join().expect("no panic").expect_ok();
        });
        assert!(!within(ANSWERED, "a revoked login", || house.ssh("ubuntu").key(&house.grace).login()));
        assert!(within(IN_TIME, "break-glass", breakglass));
        assert!(on_breakglass.is_alive());
        eventually("what held its memory is gone", SOON, || holding(&house) == 0);
        drop(broken);

        each_is_over_once(&house, 4);
        // What journald wrote down late is told once too: both logins by the key and the one that stays.
        let all = [("lockdown", 1), ("grant.created", 3), ("grant.ended", 3), ("emergency.login", 3)];
        for (artifact, count) in all {
            assert_eq!(house.records_of(artifact).len(), count, "{artifact}: {:?}", house.records_of(artifact));
        }
        assert_eq!(daemon(&house), before, "the watchdog did not bite");
        house.allow("frank --account ubuntu --for 1h");
        assert!(house.ssh("ubuntu").key(&house.frank).login(), "and it works again");
        on_breakglass.kill();
        house.sh("umount /home/shared");
        let resident = most_resident(&house);
        println!("at most {resident} KiB resident");
        assert!(resident < MEMORY_LIMIT, "{resident} KiB");
    }
}
