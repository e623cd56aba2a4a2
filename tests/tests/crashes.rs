//! Restarts, SIGKILL, power cuts and full disks: no acknowledged grant is lost, none lives past its end, and the ledger
//! stays whole.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use instance_tests::{Client, DAEMON, House, Instance, eventually, on_each_release};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

/// What the daemon may take to be back and to act.
const SOON: Duration = Duration::from_secs(30);
/// What a connection may outlive its grant by.
const CUT: SignedDuration = SignedDuration::from_secs(1);
/// The storm ends after so many answers, or after so long on a machine that has other things to do.
const STORM_ANSWERS: usize = 1_000;
const STORM_LIMIT: Duration = Duration::from_secs(25);
const DOWN: &str = "systemctl stop lockdownd-gate.socket lockdownd-control.socket lockdownd.service";
const UP: &str = "systemctl start lockdownd.service";

/// Allows, and gives the grant's id and end.
#[track_caller]
fn allowed(house: &House, args: &str) -> (String, Timestamp) {
    let answer = house.ctl_json(&format!("allow {args} --reason test"));
    let grant = &answer["grant"];
    (grant["id"].as_str().unwrap().to_owned(), grant["expires_at"].as_str().unwrap().parse().unwrap())
}

fn wait_until(moment: Timestamp) {
    eventually("its time is over", SOON, || Timestamp::now() > moment);
}

fn killed(house: &Instance) {
    let pid = house.sh("systemctl show -P MainPID lockdownd");
    house.sh(&format!("kill -9 {DAEMON}"));
    eventually("the daemon is back", SOON, || {
        let now = house.sh("systemctl show -P MainPID lockdownd");
        now != pid && now != "0" && house.ctl("status").ok()
    });
}

fn open_grants(house: &Instance) -> Vec<String> {
    let answer = house.ctl_json("grants");
    answer["grants"].as_array().unwrap().iter().map(|grant| grant["id"].as_str().unwrap().to_owned()).collect()
}

/// How often each grant stands in records of this type.
fn counted(records: &[Value], artifact: &str) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for record in records.iter().filter(|record| record["type"] == artifact) {
        *counts.entry(record["grant"].as_str().expect("a grant").to_owned()).or_default() += 1;
    }
    counts
}

/// Every number once, none left out.
fn assert_numbered(records: &[Value]) {
    for (record, expected) in records.iter().zip(1_u64..) {
        assert_eq!(record["seq"], expected);
    }
}

#[track_caller]
fn cut_after(client: &mut Client, since: Timestamp) {
    client.ended_within(Duration::from_secs(30));
    let late = Timestamp::now().duration_since(since);
    assert!((SignedDuration::ZERO..CUT).contains(&late), "{late:#} after the end: {}", client.output());
}

/// One of the clients of the storm: grants for a second or two, every other one revoked, and each answer written down.
/// Directly after a revoke that was acknowledged, no key of its grant may stand in the store.
const STORM: &str = r#"
i=0
until [ -e /root/storm/over ]; do
    i=$((i + 1))
    answer=$(lockdownctl --json allow "$2" --account "$3" --for $((1 + i % 3))s --from "10.$1.$((i / 250)).$((i % 250))/32" --reason storm)
    status=$?
    id=$(printf '%s' "$answer" | grep -o 'g-[0-9a-f]\{16\}' | head -n 1)
    echo "allow $status $id"
    [ $status = 0 ] && [ $((i % 2)) = 0 ] || continue
    lockdownctl revoke "$id" >/dev/null
    status=$?
    echo "revoke $status $id"
    [ $status = 0 ] && grep -rq "$id" /run/lockdownd/keys && echo "outlived 0 $id"
done
true
"#;

/// Who kills the daemon, at no regular times, until told to stop: every third time wherever it is, else some time after
/// it has come up. One time in three it is the process that supervises it.
const KILLER: &str = r#"
until [ -e /root/storm/over ]; do
    [ $((RANDOM % 3)) = 0 ] || until systemctl is-active -q lockdownd; do sleep 0.01; done
    sleep "0.$((RANDOM % 6))$((RANDOM % 10))"
    pid=$(systemctl show -P MainPID lockdownd)
    [ $((RANDOM % 3)) = 0 ] || pid=$(pgrep -P "$pid")
    [ "${pid:-0}" != 0 ] && kill -9 "$pid" && echo killed
done
true
"#;

/// Who puts keys into a home all the while.
const INTRUDER: &str = r#"
until [ -e /root/storm/over ]; do
    runuser -u grace -- sh -c "mkdir -p ~grace/.ssh; echo '$1' >~grace/.ssh/authorized_keys"
    sleep 0.05
done
true
"#;

fn start(house: &Instance, unit: &str, script: &str, args: &str) {
    house.write(&format!("/root/storm/{unit}.sh"), script);
    house.sh(&format!(
        "systemd-run -q --unit={unit} -p StandardOutput=truncate:/root/storm/{unit}.log -p StandardError=null \
         bash /root/storm/{unit}.sh {args}"
    ));
}

/// Moves the daemon's state to a disk of its own, of 4 MiB.
fn small_disk(house: &Instance) {
    house.sh(&format!(
        "{DOWN} && cp -a /var/lib/lockdownd /root/state && mount -t tmpfs -o size=4m,mode=711 small /var/lib/lockdownd \
         && cp -a /root/state/. /var/lib/lockdownd/ && {UP}"
    ));
    house.await_mode("enforce");
}

/// Fills it, the ledger's reserve too: what is left in blocks that the ledger has already is used up by emergencies.
fn fill(house: &House) {
    eventually("the ledger has no room", SOON, || {
        house.sh("cat /dev/zero >>/var/lib/lockdownd/filler 2>/dev/null || true");
        assert!(house.ssh("breakglass").key(&house.breakglass).login(), "an exempt account gets in whatever happens");
        house.ctl_json("status")["ledger"]["failing"].is_string()
    });
}

on_each_release! {
    fn connections_outlive_the_daemon_and_stay_bound_to_their_grants(release) {
        let house = House::enforcing(release);
        let (kept, _) = allowed(&house, "grace --account ubuntu --for 1h");
        let mut other = house.ssh("ubuntu").key(&house.grace).stay();
        let (short, end) = allowed(&house, "frank --account ubuntu --for 15s");
        let mut client = house.ssh("ubuntu").key(&house.frank).stay();
        house.sh("systemctl restart lockdownd");
        killed(&house);
        assert_eq!(house.ctl_json("sessions")["sessions"].as_array().map(Vec::len), Some(2));
        assert!(client.is_alive() && house.ssh("ubuntu").key(&house.grace).login());
        cut_after(&mut client, end);
        assert!(other.is_alive() && !house.ssh("ubuntu").key(&house.frank).login());

        killed(&house);
        assert_eq!(open_grants(&house), [kept.as_str()]);
        house.ctl("revoke grace").expect_ok();
        other.ended_within(SOON);
        killed(&house);
        assert!(!house.ssh("ubuntu").key(&house.grace).login());
        let records = house.records();
        assert_numbered(&records);
        assert_eq!(counted(&records, "grant.ended"), BTreeMap::from([(kept, 1), (short, 1)]));
        house.ctl("verify").expect_ok();
    }

    fn a_grant_that_expires_while_the_daemon_is_down_lets_nobody_in(release) {
        let house = House::enforcing(release);
        let (kept, _) = allowed(&house, "grace --account ubuntu --for 1h");
        let mut other = house.ssh("ubuntu").key(&house.grace).stay();
        let (over, end) = allowed(&house, "frank --account ubuntu --for 12s");
        let mut client = house.ssh("ubuntu").key(&house.frank).stay();
        house.sh(DOWN);
        wait_until(end + SignedDuration::from_secs(1));
        assert!(!house.ssh("ubuntu").key(&house.frank).login());
        // Layer by layer: even with the gate let by, sshd itself refuses the key that is still in the store.
        house.sh("grep -q frank /run/lockdownd/keys/ubuntu && mount --bind /bin/true /usr/lib/lockdownd/login-gate");
        assert!(!house.ssh("ubuntu").key(&house.frank).login(), "sshd took a key after its end");
        assert!(house.ssh("ubuntu").key(&house.grace).login(), "grace's key holds");
        house.sh("umount /usr/lib/lockdownd/login-gate");
        house.sh(UP);
        client.ended_within(SOON);
        assert!(!house.ssh("ubuntu").key(&house.frank).login());
        assert!(other.is_alive() && house.ssh("ubuntu").key(&house.grace).login());
        assert_eq!(open_grants(&house), [kept]);
        assert_eq!(counted(&house.records(), "grant.ended"), BTreeMap::from([(over, 1)]));
        house.ctl("verify").expect_ok();
    }

    fn a_power_cut_keeps_what_was_acknowledged_and_ends_what_is_over(release) {
        let mut house = House::enforcing(release);
        let (revoked, _) = allowed(&house, "grace --account grace --for 1h");
        house.ctl(&format!("revoke {revoked}")).expect_ok();
        let (over, end) = allowed(&house, "frank --account frank --for 2s");
        let (kept, kept_until) = allowed(&house, "grace --account ubuntu --for 1h");
        house.power_cut();
        house.await_mode("enforce");
        assert!(house.ssh("ubuntu").key(&house.grace).login(), "what was acknowledged is kept");
        wait_until(end);
        assert!(!house.ssh("frank").key(&house.frank).login() && !house.ssh("grace").key(&house.grace).login());
        let grants = house.ctl_json("grants");
        assert_eq!(grants["grants"].as_array().map(Vec::len), Some(1));
        assert_eq!((&grants["grants"][0]["id"], &grants["grants"][0]["expires_at"]), (&kept.into(), &kept_until.to_string().into()));
        let records = house.records();
        assert_numbered(&records);
        assert_eq!(counted(&records, "grant.ended"), BTreeMap::from([(revoked, 1), (over, 1)]));
        house.ctl("verify").expect_ok();
    }

    fn killed_at_any_moment_of_a_thousand_grants_and_revokes_the_ledger_is_whole(release) {
        let house = House::enforcing(release);
        let clients = [("storm1", "1 frank ubuntu"), ("storm2", "2 frank frank"), ("storm3", "3 grace ubuntu"),
                       ("storm4", "4 grace grace"), ("storm5", "5 frank ubuntu"), ("storm6", "6 grace ubuntu")];
        for (unit, args) in clients {
            start(&house, unit, STORM, args);
        }
        start(&house, "killer", KILLER, "");
        start(&house, "intruder", INTRUDER, &format!("'{}'", house.grace.public()));
        let began = Instant::now();
        let answers = || house.sh("cat /root/storm/storm*.log | grep -c ' 0 ' || true").parse::<usize>().unwrap();
        while answers() < STORM_ANSWERS && began.elapsed() < STORM_LIMIT {
            thread::sleep(Duration::from_millis(200));
        }
        house.sh("touch /root/storm/over");
        eventually("the storm is over", SOON, || {
            !house.run("systemctl is-active 'storm*' killer intruder | grep -qx active").ok()
        });
        eventually("the daemon is back", SOON, || house.ctl("status").ok());
        eventually("every grant has ended", SOON, || open_grants(&house).is_empty());
        eventually("no key is left", SOON, || {
            house.sh("ls /run/lockdownd/keys").is_empty() && !house.exists("/home/grace/.ssh/authorized_keys")
        });

        let verified = house.ctl("verify").expect_ok();
        let records = house.records();
        assert_numbered(&records);
        let (created, ended) = (counted(&records, "grant.created"), counted(&records, "grant.ended"));
        let log = house.sh("cat /root/storm/storm*.log");
        let (mut given, mut revoked) = (0, 0);
        for line in log.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["allow", "0", id] => {
                    given += 1;
                    assert!(created.contains_key(id), "{id} was acknowledged and is not on record\n{verified}");
                }
                ["revoke", "0", _] => revoked += 1,
                ["outlived", _, id] => panic!("a key of {id} stood in the store after it was revoked"),
                _ => {}
            }
        }
        assert!(created.values().chain(ended.values()).all(|count| *count == 1), "{created:?}\n{ended:?}");
        assert_eq!(created.keys().collect::<Vec<_>>(), ended.keys().collect::<Vec<_>>(), "each was due, and ended once");
        let kills = house.sh("wc -l </root/storm/killer.log").parse::<usize>().unwrap();
        eprintln!("{} asked, {given} given, {revoked} revoked, {kills} kills, {} records", log.lines().count(), records.len());
        // An answer waits for a look at sshd, and for one at what was left behind: most of them are cut short by a kill.
        assert!(given > 20 && revoked > 2 && kills > 5, "too quiet a storm: {given}, {revoked}, {kills}");
        assert!(records.iter().any(|record| record["type"] == "key.removed"));
    }

    fn on_a_full_disk_ends_go_on_nothing_new_is_given_and_no_key_file_goes_whose_bytes_are_not_kept(release) {
        let house = House::enforcing(release);
        small_disk(&house);
        let (revoked, _) = allowed(&house, "frank --account ubuntu --for 1h");
        let (held, _) = allowed(&house, "grace --account ubuntu --for 1h");
        let mut client = house.ssh("ubuntu").key(&house.frank).stay();
        let mut other = house.ssh("ubuntu").key(&house.grace).stay();
        let (expired, end) = allowed(&house, "frank --account frank --for 20s");
        let mut short = house.ssh("frank").key(&house.frank).stay();
        fill(&house);

        let refused = house.ctl("allow grace --account grace --for 1h --reason full");
        assert!(refused.status == 1 && refused.stderr.contains("nothing was granted"), "{refused}");
        assert!(refused.stderr.contains("make room on the disk"), "{refused}");
        let refused = house.ssh("ubuntu").key(&house.grace).run("id");
        assert!(!refused.ok() && refused.stdout.contains("the login could not be recorded"), "{refused}");
        assert!(house.ctl("status").stdout.contains("the ledger cannot be written, so nobody is let in"));

        house.ctl(&format!("revoke {revoked}")).expect_ok();
        client.ended_within(SOON);
        cut_after(&mut short, end);
        // What cannot be kept stands, without effect, and that is said.
        let key_file = "/home/grace/.ssh/authorized_keys";
        house.authorize("grace", &house.grace);
        let problems = || house.ctl_json("status")["problems"].to_string();
        eventually("the key file is told of", SOON, || problems().contains("since their bytes cannot be kept: 1"));
        assert!(house.exists(key_file) && !house.ssh("grace").key(&house.grace).login());
        killed(&house);
        assert_eq!(open_grants(&house), [held.as_str()], "what was revoked stays so, on a full disk too");
        assert!(!house.ssh("ubuntu").key(&house.frank).login() && other.is_alive());

        house.sh("rm /var/lib/lockdownd/filler");
        eventually("the key is gone", Duration::from_secs(60), || !house.exists(key_file));
        eventually("and kept", SOON, || {
            let kept = house.ctl_json("quarantine list")["items"].clone();
            kept[0]["restorable"] == true && kept[0]["fingerprints"][0] == house.grace.fingerprint().as_str()
        });
        assert!(!problems().contains("their bytes"), "{}", problems());
        eventually("grants are given again", SOON, || house.ctl("allow grace --account grace --for 1h --reason room").ok());
        assert!(house.ssh("ubuntu").key(&house.grace).login() && house.ssh("grace").key(&house.grace).login());
        assert!(house.ctl_json("status")["ledger"]["failing"].is_null());
        let records = house.records();
        assert_numbered(&records);
        assert_eq!(counted(&records, "grant.ended"), BTreeMap::from([(revoked, 1), (expired, 1)]));
        house.ctl("verify").expect_ok();
    }

    fn state_that_is_put_back_to_an_earlier_copy_brings_back_no_grant_that_was_revoked_since(release) {
        let house = House::enforcing(release);
        let (id, _) = allowed(&house, "frank --account ubuntu --for 1h");
        house.sh(&format!("{DOWN}; cp -a /var/lib/lockdownd /root/earlier; {UP}"));
        house.ctl("revoke frank --reason over").expect_ok();
        house.sh(&format!("{DOWN}; rm -rf /var/lib/lockdownd; cp -a /root/earlier /var/lib/lockdownd; {UP}"));
        assert!(!house.ssh("ubuntu").key(&house.frank).login(), "it was revoked");
        assert!(open_grants(&house).is_empty());
        eventually("its end is on record", SOON, || {
            house.records_of("grant.ended").iter().any(|record| record["grant"] == id.as_str())
        });
        allowed(&house, "frank --account ubuntu --for 1h");
        assert!(house.ssh("ubuntu").key(&house.frank).login(), "and a new one works");
    }

    fn a_daemon_whose_socket_was_removed_once_is_waited_for_all_the_same_when_it_is_replaced(release) {
        let house = House::enforcing(release);
        allowed(&house, "frank --account ubuntu --for 1h");
        house.sh("rm /run/lockdownd/gate.sock");
        eventually("it is there again", SOON, || house.exists("/run/lockdownd/gate.sock"));
        for _ in 0..3 {
            house.sh("systemctl --no-block restart lockdownd");
            assert!(house.ssh("ubuntu").key(&house.frank).login(), "whoever comes meanwhile waits");
        }
    }

    fn break_glass_needs_either_of_the_two_lists_that_name_it(release) {
        let house = House::enforcing(release);
        house.sh(&format!("{DOWN}; rm /var/lib/lockdownd/exempt; mkdir /var/lib/lockdownd/exempt"));
        assert!(house.ssh("breakglass").key(&house.breakglass).login(), "sshd's drop-in names it");
        assert!(!house.ssh("ubuntu").key(&house.frank).login());
        house.sh(&format!("rmdir /var/lib/lockdownd/exempt; {UP}"));
        assert!(house.ssh("breakglass").key(&house.breakglass).login());
    }
}
