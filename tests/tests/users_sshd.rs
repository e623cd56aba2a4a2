//! An ordinary user's own sshd: what it logs is believed of nobody, it holds nobody up, and in enforce it is ended.

use std::process::Command;
use std::time::{Duration, Instant};

use instance_tests::{House, Instance, eventually, on_each_release};
use serde_json::Value;

/// What the daemon may take to act on what nobody waits for.
const SOON: Duration = Duration::from_secs(30);
/// How many lines are forged in a flood, each by a process of its own.
const FLOOD_SIZE: u32 = 1_500;
/// How long a login may take meanwhile; the gate gives up after ten seconds, and a client alone needs about one here.
const LOGIN_LIMIT: Duration = Duration::from_secs(5);

/// Loaded into sshd's program, this logs what `FORGE` says: to journald it is a line of sshd's. `FORGE_N` times, each from
/// a process of its own, which then stays for a while.
const FORGER: &str = r#"
#include <stdlib.h>
#include <syslog.h>
#include <unistd.h>
__attribute__((constructor)) static void forge(void) {
    const char *line = getenv("FORGE"), *times = getenv("FORGE_N");
    if (!line) return;
    unsetenv("LD_PRELOAD");
    openlog("sshd", LOG_PID, LOG_AUTHPRIV);
    for (int n = times ? atoi(times) : 1; n > 0; n--) {
        pid_t child = fork();
        if (child < 0) _exit(1);
        if (!child) { syslog(LOG_INFO, "%s", line); sleep(5); _exit(0); }
        usleep(1000);
    }
    sleep(20);
    _exit(0);
}
"#;

/// Puts the forger where `as_sshd` finds it.
fn install_forger(house: &House) {
    let source = house.scratch().join("forger.c");
    let built = house.scratch().join("forger.so");
    std::fs::write(&source, FORGER).expect("a scratch directory");
    let status = Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&built, &source]).status();
    assert!(status.expect("a C compiler, which Rust links with too").success());
    house.copy_in(&built, "/usr/local/lib/forger.so");
}

/// Has `account` forge lines of sshd's that name grace and her key.
fn forge(house: &House, account: &str, times: u32) {
    let line = format!(
        "Accepted publickey for ubuntu from 203.0.113.66 port 4242 ssh2: ED25519 {}",
        house.grace.fingerprint()
    );
    let script = format!(
        "(ulimit -u 4000; LD_PRELOAD=/usr/local/lib/forger.so FORGE='{line}' FORGE_N={times} /usr/sbin/sshd -D) \
         </dev/null >/dev/null 2>&1 &"
    );
    house.run_as(account, &script).expect_ok();
}

/// The records of users' own servers that were ended.
fn ended(house: &Instance) -> Vec<Value> {
    let mut records = house.records_of("session.terminated");
    records.retain(|record| record["detail"]["ended"] == "users_own_sshd" || record["detail"]["count"].is_number());
    records
}

fn listens(house: &House, port: u16) -> bool {
    house.run(&format!("timeout 2 bash -c 'exec 3<>/dev/tcp/127.0.0.1/{port} && head -c 4 <&3'")).ok()
}

on_each_release! {
    fn what_a_users_own_sshd_logs_names_nobody_and_costs_nobody_else_a_session(release) {
        let house = House::enforcing(release);
        install_forger(&house);
        house.allow("grace --account ubuntu --for 1h");
        let mut granted = house.ssh("ubuntu").key(&house.grace).stay();
        let opened = house.records_of("session.opened").len();
        for account in ["frank", "ubuntu"] {
            forge(&house, account, 1);
            let of = || ended(&house).into_iter().find(|record| record["account"] == account);
            eventually("its end is on record", SOON, || of().is_some());
            let record = of().expect("just seen");
            assert_eq!(record["detail"]["program"], "/usr/sbin/sshd");
            for claimed in ["person", "fingerprint", "source", "session", "grant"] {
                assert!(record[claimed].is_null(), "{claimed} is what the log claims: {record}");
            }
            assert!(!house.exists(&format!("/proc/{}", record["detail"]["pid"])), "it is gone: {record}");
        }
        assert!(granted.is_alive(), "only the forger's own processes end");
        assert_eq!(house.records_of("session.opened").len(), opened);
        assert!(!house.sh("cat /var/lib/lockdownd/ledger/*.jsonl").contains("203.0.113.66"));
    }

    fn a_flood_of_forged_logins_holds_up_no_login_and_makes_few_records(release) {
        let house = House::enforcing(release);
        install_forger(&house);
        house.allow("grace --account ubuntu --for 1h");
        let before = house.records().len();
        forge(&house, "frank", FLOOD_SIZE);
        let mut times = Vec::new();
        for _ in 0..5 {
            let start = Instant::now();
            house.ssh("ubuntu").key(&house.grace).run("true").expect_ok();
            times.push(start.elapsed());
        }
        let start = Instant::now();
        house.ctl("revoke grace --reason test").expect_ok();
        let revoked = start.elapsed();
        println!("logins took {times:?}, the revocation {revoked:?}");
        assert!(times.iter().chain([&revoked]).all(|took| *took < LOGIN_LIMIT), "{times:?} {revoked:?}");
        eventually("they are ended", SOON, || !ended(&house).is_empty());
        assert_eq!(house.sh("systemctl show -P NRestarts lockdownd").trim(), "0");
        let more = house.records().len() - before;
        assert!(more < 40, "{more} records");
    }

    fn a_users_own_sshd_is_ended_though_it_logs_nothing_or_has_another_name(release) {
        let house = House::enforcing(release);
        house.allow("frank --account ubuntu --for 1h");
        let mut granted = house.ssh("ubuntu").key(&house.frank).stay();
        house.write("/home/ubuntu/keys", format!("{}\n", house.grace.public()));
        let start = "ssh-keygen -q -t ed25519 -N '' -f ~/host; cp /usr/sbin/sshd ~/mine; printf x >>~/mine; \
            for way in '/usr/sbin/sshd -p 2200' '/home/ubuntu/mine -p 2201'; do \
            setsid $way -f /dev/null -h ~/host -o UsePAM=no -o PidFile=none -o LogLevel=QUIET -o StrictModes=no \
            -o AuthorizedKeysFile=/home/ubuntu/keys </dev/null >/dev/null 2>&1; done";
        house.ssh("ubuntu").key(&house.frank).run(start).expect_ok();
        let mut strangers = [2200, 2201].map(|port| house.ssh("ubuntu").arg("-p").arg(&port.to_string()).key(&house.grace).spawn("sleep 3600"));
        for stranger in &mut strangers {
            let took = stranger.ended_within(SOON);
            println!("a stranger was in for {took:?} at most");
        }
        eventually("their end is on record", SOON, || !ended(&house).is_empty());
        assert!(ended(&house).iter().all(|record| record["account"] == "ubuntu" && record["person"].is_null()));
        assert!(!listens(&house, 2200) && !listens(&house, 2201), "both are gone");
        assert!(granted.is_alive(), "the session in which they were started goes on");
        // An exempt account's own is only told of.
        house.run_as("breakglass", "ssh-keygen -q -t ed25519 -N '' -f ~/host && /usr/sbin/sshd -f /dev/null -h ~/host -p 2202 -o PidFile=none").expect_ok();
        std::thread::sleep(Duration::from_secs(7));
        assert!(listens(&house, 2202));
    }
}
