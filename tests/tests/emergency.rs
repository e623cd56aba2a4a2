//! Break-glass: logins to exempt accounts work with everything else broken, and each is on record exactly once, at `crit`,
//! and in what the next sweep attests.

use std::{
    thread,
    time::{Duration, Instant},
};

use instance_tests::{House, Key, eventually, on_each_release};
use serde_json::Value;

/// What the daemon may take to learn of a login that it was not asked about: sshd's log comes a little later.
const SOON: Duration = Duration::from_secs(30);
/// The gate waits for at most 1.6 s in all where an account is exempt, and for 20 s where not; the rest is sshd's, and what a
/// busy test machine adds.
const IN_ALL: Duration = Duration::from_secs(20);
const GATE: &str = "/usr/lib/lockdownd/login-gate";

/// `emergency.login` records that name this address.
fn from(house: &House, address: &str) -> Vec<Value> {
    let mut records = house.records_of("emergency.login");
    records.retain(|record| record["source"]["address"] == address);
    records
}

/// Every emergency that any attestation names, by this field.
fn attested(house: &House, field: &str) -> Vec<String> {
    let sweeps = house.records_of("sweep.attested");
    let named = sweeps.iter().filter_map(|sweep| sweep["detail"]["emergencies"].as_array()).flatten();
    named.filter_map(|login| login[field].as_str().map(str::to_owned)).collect()
}

/// Each way something else is broken, and how it is mended.
const BROKEN: [(&str, &str, &str); 10] = [
    (
        "127.9.0.1",
        "systemctl stop lockdownd lockdownd-gate.socket lockdownd-control.socket",
        "systemctl start lockdownd",
    ),
    ("127.9.0.2", "mv /usr/lib/lockdownd/login-gate /root/", "mv /root/login-gate /usr/lib/lockdownd/"),
    (
        "127.9.0.3",
        "systemctl stop lockdownd lockdownd-gate.socket lockdownd-control.socket; mv /usr/lib/lockdownd/login-gate /root/",
        "mv /root/login-gate /usr/lib/lockdownd/; systemctl start lockdownd",
    ),
    (
        "127.9.0.4",
        "systemctl stop lockdownd lockdownd-gate.socket lockdownd-control.socket; rm -rf /run/lockdownd",
        "systemctl start lockdownd",
    ),
    (
        "127.9.0.5",
        "systemctl stop lockdownd; echo nonsense >/etc/lockdownd/config.toml; mv /var/lib/lockdownd/last-good.toml /root/; \
         systemctl start --no-block lockdownd",
        "mv /root/good.toml /etc/lockdownd/config.toml; mv /root/last-good.toml /var/lib/lockdownd/; systemctl restart lockdownd",
    ),
    // The ledger cannot be written.
    (
        "127.9.0.6",
        "mount --bind /var/lib/lockdownd/ledger /var/lib/lockdownd/ledger && mount -o remount,bind,ro /var/lib/lockdownd/ledger; \
         systemctl restart --no-block lockdownd; sleep 1",
        "umount /var/lib/lockdownd/ledger; systemctl restart lockdownd",
    ),
    // Not even the gate's note can be.
    (
        "127.9.0.7",
        "systemctl stop lockdownd lockdownd-gate.socket lockdownd-control.socket; mkdir -p /var/lib/lockdownd/emergency; \
         mount -t tmpfs -o size=4k,nr_inodes=1 none /var/lib/lockdownd/emergency",
        "umount /var/lib/lockdownd/emergency; systemctl start lockdownd",
    ),
    // Two things together: the daemon stands still, and so does the log.
    (
        "127.9.0.8",
        "systemctl stop lockdownd lockdownd-gate.socket lockdownd-control.socket; systemctl kill -s STOP systemd-journald",
        "systemctl kill -s CONT systemd-journald; systemctl start lockdownd",
    ),
    // The daemon is there and does not answer.
    ("127.9.0.10", "systemctl kill -s STOP lockdownd", "systemctl kill -s CONT lockdownd"),
    // Not even the list of exempt accounts that PAM reads is missed while the daemon runs: it is put back.
    ("127.9.0.9", "rm /var/lib/lockdownd/exempt; sleep 1", "true"),
];

on_each_release! {
    fn whatever_else_is_broken_break_glass_gets_in_and_is_on_record_once(release) {
        let house = House::enforcing(release);
        house.sh("cp /etc/lockdownd/config.toml /root/good.toml");
        let login = |address: &str| house.ssh("breakglass").key(&house.breakglass).from(address);
        let ready = || house.ctl("--json status").ok();
        for (address, break_it, mend) in BROKEN {
            house.sh(break_it);
            let began = Instant::now();
            let said = login(address).run("id -un");
            assert!(said.stdout.contains("breakglass"), "{break_it}: {said}");
            assert!(began.elapsed() < IN_ALL, "{:?}: {break_it}", began.elapsed());
            assert!(!house.ssh("ubuntu").key(&house.frank).login(), "nobody else: {break_it}");
            house.sh(mend);
            eventually("the daemon is back", SOON, ready);
            eventually(&format!("on record after: {break_it}"), SOON, || !from(&house, address).is_empty());
        }
        // What comes late is not said twice, by whichever way it was learned of: log, note or connection.
        house.sh("systemctl restart lockdownd; sleep 3");
        for (address, break_it, _) in BROKEN {
            let records = from(&house, address);
            assert_eq!(records.len(), 1, "{break_it}: {records:?}");
            assert_eq!(records[0]["fingerprint"], house.breakglass.fingerprint(), "{break_it}");
        }
        let crit = house.journal("-u lockdownd -p crit -o cat LOCKDOWND_TYPE=emergency.login");
        assert_eq!(crit.lines().count(), BROKEN.len(), "{crit}");
        let named = attested(&house, "address");
        for (address, break_it, _) in BROKEN {
            assert_eq!(named.iter().filter(|one| *one == address).count(), 1, "{break_it}: {named:?}");
        }
        house.ctl("verify").expect_ok();
    }

    fn what_lives_on_from_before_the_daemon_is_one_emergency_and_in_every_attestation(release) {
        let house = House::enforcing_with(release, "[schedule]\nsweep = \"* * * * * *\"\n");
        house.sh("systemctl stop lockdownd lockdownd-gate.socket lockdownd-control.socket");
        // One that the gate notes, and one that nobody but sshd's log and the kernel know of.
        let mut noted = house.ssh("breakglass").key(&house.breakglass).from("127.9.1.1").stay();
        house.sh(&format!("mv {GATE} /root/"));
        let mut unseen = house.ssh("breakglass").key(&house.breakglass).from("127.9.1.2").stay();
        house.ssh("breakglass").key(&house.breakglass).from("127.9.1.3").run("true").expect_ok();
        house.sh(&format!("mv /root/login-gate {GATE}; systemctl start lockdownd"));
        let sweeps = || house.records_of("sweep.attested");
        let told = |sweep: &Value, address: &str| {
            let all = sweep["detail"]["emergencies"].as_array().cloned().unwrap_or_default();
            all.into_iter().filter(|login| login["address"] == address && login["live"] == true).count()
        };
        let attests_both = |n: usize| {
            let both = |sweep: &&Value| told(sweep, "127.9.1.1") == 1 && told(sweep, "127.9.1.2") == 1;
            sweeps().iter().filter(both).count() >= n
        };
        eventually("each sweep attests them", SOON, || attests_both(3));
        eventually("the one that is over is known from the log", SOON, || from(&house, "127.9.1.3").len() == 1);
        for address in ["127.9.1.1", "127.9.1.2", "127.9.1.3"] {
            assert_eq!(from(&house, address).len(), 1, "{address}: {:?}", from(&house, address));
        }
        assert!(noted.is_alive() && unseen.is_alive(), "a lockdown and a sweep leave them alone");
        house.ctl("lockdown --reason drill").expect_ok();
        assert!(noted.is_alive() && unseen.is_alive());
        drop((noted, unseen));
        eventually("they are closed", SOON, || house.records_of("session.closed").len() == 2);
        eventually("the next attestation says that there is none", SOON, || {
            let last = sweeps().into_iter().rev().find(|sweep| sweep["detail"]["emergency_sessions"].is_u64());
            last.is_some_and(|sweep| sweep["detail"]["emergency_sessions"] == 0 && sweep["detail"]["emergency_logins"] == 0)
        });
    }

    fn a_daemon_that_cannot_start_is_tried_more_and_more_slowly_and_one_that_was_stopped_stays_stopped(release) {
        let house = House::enforcing(release);
        let sockets = "lockdownd.service lockdownd-gate.socket lockdownd-control.socket";
        let active = || house.run(&format!("systemctl is-active {sockets}")).stdout.split_whitespace().filter(|one| *one == "active").count();
        house.sh("cp /etc/lockdownd/config.toml /root/good.toml; mv /var/lib/lockdownd/last-good.toml /root/; \
                  echo nonsense >/etc/lockdownd/config.toml; ! systemctl restart lockdownd");
        let tries = || house.sh("systemctl show -P NRestarts lockdownd").parse::<u32>().unwrap();
        let before = tries();
        thread::sleep(Duration::from_secs(15));
        let tried = tries() - before;
        assert!((2..=7).contains(&tried), "{tried} tries within 15 s");
        let began = Instant::now();
        house.sh("systemctl stop lockdownd");
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        eventually("everything is stopped", SOON, || active() == 0);
        let began = Instant::now();
        assert!(house.ssh("breakglass").key(&house.breakglass).login());
        assert!(!house.ssh("ubuntu").key(&house.frank).login());
        assert_eq!(house.ctl("status").status, 69);
        assert!(began.elapsed() < IN_ALL, "nobody is waited for: {:?}", began.elapsed());
        thread::sleep(Duration::from_secs(1));
        assert_eq!(active(), 0, "a login or a request has started the daemon again");
        // Mended: it starts at once, whatever the pauses have grown to, and with its sockets.
        house.sh("mv /root/good.toml /etc/lockdownd/config.toml; systemctl start lockdownd");
        assert_eq!(active(), 3);
        house.allow("frank --account ubuntu --for 1h");
        assert!(house.ssh("ubuntu").key(&house.frank).login());
        // A restart leaves the sockets where they are: whoever comes meanwhile waits.
        let since = "systemctl show -P ActiveEnterTimestampMonotonic lockdownd-gate.socket";
        let before = house.sh(since);
        house.sh("systemctl restart --no-block lockdownd");
        assert!(house.ssh("ubuntu").key(&house.frank).login());
        assert_eq!(house.sh(since), before);
    }

    fn a_key_that_comes_into_an_exempt_accounts_file_is_on_record_soon_and_a_flood_of_them_in_few_records(release) {
        let house = House::observing(release);
        let file = "/home/breakglass/.ssh/authorized_keys";
        let changed = || -> Vec<Value> {
            let records = house.records_of("sshd.changed");
            records.into_iter().filter(|record| record["detail"]["changed"][0] == "exempt_keys").collect()
        };
        // Sums name them, too.
        let names = |key: &Key, field: &str| {
            let records = house.records_of("sshd.changed");
            records.iter().any(|record| record["detail"][field].to_string().contains(&key.fingerprint()))
        };
        // The look at the start has seen what there was.
        thread::sleep(Duration::from_secs(2));
        // One that stands there for a moment.
        let passed = |key: &str| {
            changed().iter().any(|record| ["fingerprints", "fingerprints_gone"].iter().all(|field| record["detail"][field].to_string().contains(key)))
        };
        for attempt in 0.. {
            let (grace, print) = (house.grace.public(), house.grace.fingerprint());
            house.sh(&format!("cp {file} /root/keys; echo '{grace}' >>{file}; sleep 0.5; cat /root/keys >{file}; sleep 5"));
            if passed(&print) {
                break;
            }
            assert!(attempt < 3, "{:?}", changed());
            // On a busy machine nobody had read it in time, and the next record in full comes after a minute.
            thread::sleep(Duration::from_secs(65));
        }
        house.sh(&format!("echo '{}' >>{file}", house.frank.public()));
        eventually("in observe, with others of that minute", SOON.max(Duration::from_secs(90)), || names(&house.frank, "fingerprints"));
        assert!(changed().iter().all(|record| record["account"] == "breakglass" && !record.to_string().contains(&house.breakglass.fingerprint())));
        house.configure(&house.config("enforce", ""));
        house.await_mode("enforce");
        house.run_as("breakglass", &format!("sed -i 2d {file}")).expect_ok();
        eventually("in enforce, and what goes, too", SOON.max(Duration::from_secs(90)), || {
            changed().iter().any(|record| record["detail"].to_string().contains("fingerprints_gone") || record["detail"]["count"].is_u64())
        });
        let before = changed().len();
        house.run_as("breakglass", &format!(
            "cp {file} /tmp/one; for n in $(seq 40); do echo '{}' >>{file}; sleep 0.1; cat /tmp/one >{file}; sleep 0.1; done",
            house.grace.public()
        )).expect_ok();
        assert!(changed().len() <= before + 2, "{:?}", changed());
        assert!(house.ssh("breakglass").key(&house.breakglass).login());
        house.ctl("verify").expect_ok();
    }
}
