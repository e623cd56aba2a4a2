//! The disk that state and ledger are on stands still (fsfreeze(8); an EBS volume or a snapshot does the same), is read-only or
//! is not there: what is over ends, nothing new is given, break-glass works, and all of it is on record once the disk is back.

use std::{thread, time::Duration};

use instance_tests::{DAEMON, House, Instance, eventually, on_each_release};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

/// What an end, an answer or a login may take on a busy machine while the disk stands still: none of them waits for it, and it
/// does so for longer.
const WITHOUT_DISK: SignedDuration = SignedDuration::from_secs(8);
/// What the daemon may take to catch up.
const SOON: Duration = Duration::from_secs(30);
const STATE: &str = "/var/lib/lockdownd";

/// As long as it is there the disk stands still. Nothing in the instance may write to it meanwhile: that could not even be killed.
struct Frozen<'a>(&'a Instance);

impl<'a> Frozen<'a> {
    fn new(instance: &'a Instance) -> Self {
        instance.sh(&format!("fsfreeze -f {STATE}"));
        Self(instance)
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        self.0.sh(&format!("fsfreeze -u {STATE}"));
    }
}

/// What this does, which must not have waited for the disk.
#[track_caller]
fn without_disk<T>(what: &str, of: impl FnOnce() -> T) -> T {
    let began = Timestamp::now();
    let done = of();
    let took = Timestamp::now().duration_since(began);
    assert!(took < WITHOUT_DISK, "{what} took {took:#}");
    done
}

fn grant(answer: &Value) -> String {
    answer["grant"]["id"].as_str().expect("a grant has an id").to_owned()
}

fn of_type(records: &[Value], artifact: &str) -> Vec<Value> {
    records.iter().filter(|record| record["type"] == artifact).cloned().collect()
}

/// What is the matter with the disk when the daemon starts, and how that is mended.
#[derive(Clone, Copy)]
struct Trouble {
    begins: &'static str,
    ends: &'static str,
    /// What `status` says of it.
    says: &'static str,
    /// Whether another start in the midst of it is tried.
    restarts: bool,
    /// How long a grant is to be given for that ends in the midst of it, after what is tried before.
    short: &'static str,
}

/// What mount(8) makes of a mount is not heard in the daemon's own mount namespace: it starts again by itself.
const READ_ONLY: Trouble = Trouble {
    begins: "mount -o remount,ro /var/lib/lockdownd",
    ends: "mount -o remount,rw /var/lib/lockdownd",
    says: "is not read since the daemon started: cannot",
    restarts: true,
    short: "15s",
};
const NOT_MOUNTED: Trouble = Trouble {
    begins: "echo '/root/state.img /var/lib/lockdownd ext4 loop,noauto' >>/etc/fstab; umount /var/lib/lockdownd",
    ends: "mount /var/lib/lockdownd",
    says: "is not mounted",
    restarts: true,
    short: "15s",
};
/// As the last, where fstab(5) does not name it.
const EMPTY: Trouble = Trouble {
    begins: "umount /var/lib/lockdownd",
    ends: "mount -o loop /root/state.img /var/lib/lockdownd",
    says: "had a ledger earlier in this boot",
    restarts: false,
    short: "15s",
};
const STANDS_STILL: Trouble = Trouble {
    begins: "fsfreeze -f /var/lib/lockdownd",
    ends: "fsfreeze -u /var/lib/lockdownd",
    says: "has not answered for",
    restarts: true,
    short: "30s",
};

/// As long as it is there the disk is in this trouble.
struct In<'a>(&'a Instance, Trouble);

impl<'a> In<'a> {
    fn new(instance: &'a Instance, trouble: Trouble) -> Self {
        instance.sh(trouble.begins);
        Self(instance, trouble)
    }
}

impl Drop for In<'_> {
    fn drop(&mut self) {
        self.0.sh(self.1.ends);
    }
}

/// Whether the daemon has read its state; it may be starting again for that.
fn is_read(house: &House) -> bool {
    let status = house.ctl("--json status");
    status.ok() && serde_json::from_str::<Value>(&status.stdout).is_ok_and(|status| status["ledger"].is_object())
}

/// The daemon starts on a disk in this trouble, with granted sessions live.
fn start_in(trouble: Trouble, house: &House) {
    house.give_state_its_own_disk();
    let franks = grant(&house.ctl_json("allow frank --account ubuntu --for 1h --reason test"));
    let graces = grant(&house.ctl_json("allow grace --account ubuntu --for 1h --reason test"));
    let mut on_frank = house.ssh("ubuntu").key(&house.frank).stay();
    let mut on_grace = house.ssh("ubuntu").key(&house.grace).stay();
    let mut on_breakglass = house.ssh("breakglass").key(&house.breakglass).stay();
    let short = house.ctl_json(&format!("allow frank --account frank --for {} --reason test", trouble.short));
    let ends: Timestamp = short["grant"]["expires_at"].as_str().and_then(|at| at.parse().ok()).expect("it ends");
    let mut on_short = house.ssh("frank").key(&house.frank).stay();
    eventually("the sessions are on record", SOON, || house.records_of("session.opened").len() >= 3);

    house.sh("systemctl stop lockdownd.service");
    let in_trouble = In::new(house, trouble);
    house.sh("systemctl start lockdownd-control.socket lockdownd-gate.socket lockdownd.service");
    assert!(without_disk("break-glass", || house.ssh("breakglass").key(&house.breakglass).login()));
    assert!(!without_disk("a stranger", || house.ssh("root").key(&house.frank).login()));
    assert!(!without_disk("somebody with a grant", || house.ssh("ubuntu").key(&house.frank).login()));
    let planted = house.keygen("planted");
    house.run_as("ubuntu", &format!("mkdir -p .ssh; echo '{}' >.ssh/authorized_keys", planted.public())).expect_ok();
    assert!(!without_disk("a planted key", || house.ssh("ubuntu").key(&planted).login()));
    eventually("status says so", SOON, || {
        without_disk("status", || house.ctl("status"))
            .stdout
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
            .contains(trouble.says)
    });
    let new = without_disk("allow", || house.ctl("allow grace --account grace --for 1h --reason test"));
    assert!(!new.ok() && new.stderr.contains("nothing was granted"), "{new}");

    assert!(on_frank.is_alive() && on_grace.is_alive(), "what is granted goes on");
    let revoked = without_disk("revoke", || house.ctl("revoke grace --reason test"));
    assert!(revoked.ok() && (revoked.stdout.clone() + &revoked.stderr).contains("not on record yet"), "{revoked}");
    on_grace.ended_within(SOON);
    on_short.ended_within(SOON + Duration::from_secs(30));
    let late = Timestamp::now().duration_since(ends);
    assert!(late < WITHOUT_DISK, "a grant's end came {late:#} late");
    if trouble.restarts {
        without_disk("a restart", || house.sh("systemctl restart lockdownd"));
        assert!(!without_disk("somebody revoked", || house.ssh("ubuntu").key(&house.grace).login()));
        assert!(on_frank.is_alive());
    }
    assert!(without_disk("lockdown", || house.ctl("lockdown --reason test")).ok());
    on_frank.ended_within(SOON);
    assert!(on_breakglass.is_alive());
    drop(in_trouble);

    eventually("the state is read", SOON, || is_read(house));
    for (id, cause) in [(&franks, "lockdown"), (&graces, "revoked"), (&grant(&short), "expired")] {
        let ended = || {
            of_type(&house.records(), "grant.ended")
                .into_iter()
                .filter(|record| record["grant"] == **id)
                .collect::<Vec<_>>()
        };
        eventually("its end is on record", SOON, || !ended().is_empty());
        // Of what ended before the restart its cause is not known any more.
        let is_known = cause == "lockdown" || !trouble.restarts;
        assert!(ended().len() == 1 && (ended()[0]["detail"]["ended"] == cause || !is_known), "{:?}", ended());
    }
    let records = house.records();
    assert_eq!(of_type(&records, "lockdown").len(), 1);
    for opened in of_type(&records, "session.opened").iter().filter(|record| record["account"] != "breakglass") {
        let is_end =
            |record: &&Value| ["session.closed", "session.terminated"].iter().any(|end| record["type"] == **end);
        let ends = records.iter().filter(is_end).filter(|record| record["session"] == opened["session"]).count();
        assert_eq!(ends, 1, "{opened}");
    }
    assert!(!of_type(&records, "emergency.login").is_empty());
    house.ctl("verify").expect_ok();
    assert!(!house.ssh("ubuntu").key(&house.frank).login() && !house.ssh("ubuntu").key(&house.grace).login());
    eventually("the planted key is taken away", SOON, || !house.exists("/home/ubuntu/.ssh/authorized_keys"));
    house.allow("frank --account ubuntu --for 1h");
    assert!(house.ssh("ubuntu").key(&house.frank).login(), "and it works again");
    on_breakglass.kill();
}

on_each_release! {
    fn while_the_disk_stands_still_access_ends_nothing_new_is_given_and_all_is_on_record_afterwards(release) {
        let house = House::enforcing(release);
        house.give_state_its_own_disk();
        let franks = grant(&house.ctl_json("allow frank --account ubuntu --for 1h --reason test"));
        let graces = grant(&house.ctl_json("allow grace --account ubuntu --for 1h --reason test"));
        let mut on_frank = house.ssh("ubuntu").key(&house.frank).stay();
        let mut on_grace = house.ssh("ubuntu").key(&house.grace).stay();
        let short = house.ctl_json("allow frank --account frank --for 15s --reason test");
        let ends: Timestamp = short["grant"]["expires_at"].as_str().and_then(|at| at.parse().ok()).expect("it ends");
        let mut on_short = house.ssh("frank").key(&house.frank).stay();
        assert!(Timestamp::now() < ends, "the machine is too slow for this test");

        let frozen = Frozen::new(&house);
        assert!(without_disk("break-glass", || house.ssh("breakglass").key(&house.breakglass).login()));
        assert!(!without_disk("a stranger", || house.ssh("root").key(&house.frank).login()));
        house.run_as("ubuntu", &format!("mkdir -p .ssh; echo '{}' >.ssh/authorized_keys", house.frank.public())).expect_ok();

        let (mut late, mut new) = (None, None);
        thread::scope(|scope| {
            let login = scope.spawn(|| without_disk("a login", || house.ssh("ubuntu").key(&house.frank).run("id")));
            let allow = scope.spawn(|| without_disk("allow", || house.ctl("allow grace --account grace --for 1h --reason test")));
            late = login.join().ok();
            new = allow.join().ok();
        });
        let (late, new) = (late.expect("it ended"), new.expect("it ended"));
        assert!(!late.ok() && late.stdout.contains("could not be recorded"), "{late}");
        assert!(!new.ok() && new.stderr.contains("does not answer"), "{new}");

        let revoked = without_disk("revoke", || house.ctl("revoke grace --reason test"));
        assert!(revoked.ok() && (revoked.stdout.clone() + &revoked.stderr).contains("not on record yet"), "{revoked}");
        on_grace.ended_within(SOON);
        on_short.ended_within(SOON);
        let late = Timestamp::now().duration_since(ends);
        assert!(late < WITHOUT_DISK, "a grant's end came {late:#} late");
        let status = without_disk("status", || house.ctl("status"));
        assert!(status.stdout.contains("has not answered for"), "{status}");
        assert!(without_disk("lockdown", || house.ctl("lockdown --reason test")).ok());
        on_frank.ended_within(SOON);
        assert!(!without_disk("a login", || house.ssh("ubuntu").key(&house.frank).login()));
        assert!(without_disk("break-glass", || house.ssh("breakglass").key(&house.breakglass).login()));
        drop(frozen);

        eventually("all is on record", SOON, || house.records_of("lockdown").len() == 1);
        for (id, cause) in [(&franks, "lockdown"), (&graces, "revoked"), (&grant(&short), "expired")] {
            let ended = || of_type(&house.records(), "grant.ended").into_iter().filter(|record| record["grant"] == **id).collect::<Vec<_>>();
            eventually("its end is on record", SOON, || !ended().is_empty());
            assert!(ended().len() == 1 && ended()[0]["detail"]["ended"] == cause, "{:?}", ended());
        }
        // Both break-glass logins, the one refused for the disk, and the grant that was not given.
        eventually("break-glass is on record", SOON, || house.records_of("emergency.login").len() == 2);
        let records = house.records();
        let refused = of_type(&records, "session.refused");
        assert!(refused.iter().any(|record| record["detail"]["why"] == "not_recorded"), "{refused:?}");
        let closed = of_type(&records, "session.closed");
        for opened in of_type(&records, "session.opened").iter().filter(|record| record["time"].as_str() > Some(&ends.to_string())) {
            assert!(closed.iter().any(|record| record["session"] == opened["session"]), "{opened}: a login that was refused");
        }
        for created in of_type(&records, "grant.created") {
            eventually("what was granted has ended", SOON, || {
                house.records_of("grant.ended").iter().any(|record| record["grant"] == created["grant"])
            });
        }
        house.ctl("verify").expect_ok();
        assert!(!house.ssh("ubuntu").key(&house.frank).login() && !house.ssh("grace").key(&house.grace).login());
        house.sh("systemctl restart lockdownd");
        assert!(!house.ssh("ubuntu").key(&house.frank).login() && !house.ssh("grace").key(&house.grace).login());
        assert_eq!(house.sh("ls /run/lockdownd/keys"), "");
        house.allow("frank --account ubuntu --for 1h");
        assert!(house.ssh("ubuntu").key(&house.frank).login(), "and it works again");
    }

    fn killed_or_restarted_while_the_disk_stands_still_the_daemon_is_back_at_once_and_loses_no_record(release) {
        let house = House::enforcing(release);
        house.give_state_its_own_disk();
        let graces = grant(&house.ctl_json("allow grace --account ubuntu --for 1h --reason test"));
        let franks = grant(&house.ctl_json("allow frank --account ubuntu --for 1h --reason test"));
        let mut on_grace = house.ssh("ubuntu").key(&house.grace).stay();
        let mut on_frank = house.ssh("ubuntu").key(&house.frank).stay();
        let short = house.ctl_json("allow frank --account frank --for 40s --reason test");
        let ends: Timestamp = short["grant"]["expires_at"].as_str().and_then(|at| at.parse().ok()).expect("it ends");
        let mut on_short = house.ssh("frank").key(&house.frank).stay();
        eventually("the sessions are on record", SOON, || house.records_of("session.opened").len() >= 3);

        let frozen = Frozen::new(&house);
        // A write is under way that nobody can end.
        assert!(!without_disk("allow", || house.ctl("allow grace --account grace --for 1h --reason test")).ok());
        assert!(without_disk("revoke", || house.ctl("revoke grace --reason test")).ok());
        on_grace.ended_within(SOON);
        let supervisor = "$(systemctl show -P MainPID lockdownd)";
        for gone in [format!("kill -9 {DAEMON}"), format!("kill -9 {supervisor}"), "systemctl restart lockdownd".to_owned()] {
            without_disk(&gone, || {
                house.sh(&gone);
                assert!(house.ssh("breakglass").key(&house.breakglass).login(), "after {gone}");
                eventually("it answers", SOON, || house.ctl("status").ok());
            });
            assert!(!without_disk("somebody revoked", || house.ssh("ubuntu").key(&house.grace).login()));
            assert!(on_frank.is_alive(), "what is granted goes on after {gone}");
        }
        on_short.ended_within(SOON + Duration::from_secs(30));
        let late = Timestamp::now().duration_since(ends);
        assert!(late < WITHOUT_DISK, "a grant's end came {late:#} late");
        assert!(on_frank.is_alive());
        drop(frozen);

        eventually("the state is read", SOON, || is_read(&house));
        for id in [&graces, &grant(&short)] {
            let ended = || house.records_of("grant.ended").iter().filter(|record| record["grant"] == **id).count();
            eventually("its end is on record", SOON, || ended() > 0);
            assert_eq!(ended(), 1);
        }
        // Each login once.
        eventually("break-glass is on record", SOON, || house.records_of("emergency.login").len() >= 3);
        assert_eq!(house.records_of("emergency.login").len(), 3, "{:?}", house.records_of("emergency.login"));
        house.ctl("verify").expect_ok();
        assert!(house.records_of("grant.ended").iter().all(|record| record["grant"] != *franks) && on_frank.is_alive());
        assert!(!house.ssh("ubuntu").key(&house.grace).login() && !house.ssh("grace").key(&house.grace).login());
        assert!(house.ssh("ubuntu").key(&house.frank).login(), "and it works again");
        eventually("nothing is left of those before", SOON, || house.sh("pgrep -c -x lockdownd") == "2");
        on_frank.kill();
    }

    fn with_the_daemon_down_too_break_glass_gets_in_and_is_on_record_once_the_disk_is_back(release) {
        let house = House::enforcing(release);
        house.give_state_its_own_disk();
        house.sh("systemctl mask --runtime --now lockdownd.service lockdownd-gate.socket lockdownd-control.socket");
        let frozen = Frozen::new(&house);
        assert!(without_disk("break-glass", || house.ssh("breakglass").key(&house.breakglass).login()));
        assert!(!without_disk("a stranger", || house.ssh("ubuntu").key(&house.frank).login()));
        drop(frozen);
        house.sh("systemctl unmask --runtime lockdownd.service lockdownd-gate.socket lockdownd-control.socket; \
                  systemctl start lockdownd-gate.socket lockdownd-control.socket lockdownd.service");
        eventually("it is on record", SOON, || house.records_of("emergency.login").len() == 1);
        house.ctl("verify").expect_ok();
    }

    fn a_start_on_a_read_only_disk_ends_what_is_over_and_gives_nothing_new(release) {
        start_in(READ_ONLY, &House::enforcing(release));
    }

    fn a_start_without_the_disk_ends_what_is_over_and_gives_nothing_new(release) {
        start_in(NOT_MOUNTED, &House::enforcing(release));
    }

    fn a_start_where_the_disk_is_missing_and_nothing_says_so_begins_no_other_ledger(release) {
        start_in(EMPTY, &House::enforcing(release));
    }

    fn a_start_on_a_disk_that_stands_still_ends_what_is_over_and_gives_nothing_new(release) {
        start_in(STANDS_STILL, &House::enforcing(release));
    }

    fn with_the_disk_missing_nobody_gets_in_while_the_daemon_is_down_and_a_lockdown_outlives_it(release) {
        let house = House::enforcing(release);
        house.give_state_its_own_disk();
        house.sh("echo ubuntu:s3cret | chpasswd; echo 'PasswordAuthentication yes' >/etc/ssh/sshd_config.d/50-test.conf; systemctl reload ssh");
        let franks = grant(&house.ctl_json("allow frank --account ubuntu --for 1h --reason test"));
        house.sh("systemctl stop lockdownd.service lockdownd-gate.socket lockdownd-control.socket");
        let missing = In::new(&house, NOT_MOUNTED);
        // Nobody answers the gate: what is in /etc says that enforce is on, and who is exempt.
        assert!(!house.ssh("ubuntu").password("s3cret").login() && !house.ssh("ubuntu").key(&house.frank).login());
        assert!(without_disk("break-glass", || house.ssh("breakglass").key(&house.breakglass).login()));

        // As after a reboot: which grants there are is not known either.
        house.sh("rm -f /run/lockdownd/grants.json");
        house.sh("systemctl start lockdownd-control.socket lockdownd-gate.socket lockdownd.service");
        let refused = house.ctl(&format!("revoke {franks}"));
        assert!(!refused.ok() && refused.stderr.contains("not known"), "{refused}");
        let locked = house.ctl("lockdown --reason stolen");
        assert!(locked.ok() && (locked.stdout.clone() + &locked.stderr).contains("lock down again"), "{locked}");
        assert!(house.ssh("breakglass").key(&house.breakglass).login());
        house.sh("systemctl kill -s KILL lockdownd; sleep 1");
        eventually("it is up again", SOON, || house.run("lockdownctl status").ok());
        drop(missing);
        eventually("the state is read", SOON, || is_read(&house));
        assert!(!house.ssh("ubuntu").key(&house.frank).login());
        eventually("its end is on record", SOON, || house.records_of("grant.ended").len() == 1);
        let ended = house.records_of("grant.ended");
        assert!(ended[0]["grant"] == *franks && ended[0]["detail"]["ended"] == "lockdown", "{ended:?}");
        let lockdowns = house.records_of("lockdown");
        assert!(lockdowns.len() == 1 && lockdowns[0]["reason"].to_string().contains("stolen"), "{lockdowns:?}");
        eventually("break-glass is on record", SOON, || !house.records_of("emergency.login").is_empty());
        house.sh("systemctl restart lockdownd");
        house.allow("grace --account ubuntu --for 1h");
        assert!(house.ssh("ubuntu").key(&house.grace).login(), "a lockdown ends what was before it alone");
        assert!(house.records_of("grant.ended").len() == 1);
        house.ctl("verify").expect_ok();
    }
}
