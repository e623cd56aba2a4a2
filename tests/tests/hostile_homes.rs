//! Homes whose owners put there whatever a user can make: nothing outside of them changes, nobody gets in, everybody else
//! is served on time, and the daemon stays small.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use instance_tests::{DAEMON, House, Instance, Key, eventually, on_each_release};
use serde_json::Value;

const SWAP: &str = include_str!("hostile_homes/swap.pl");
const ON_TIME: &str = include_str!("hostile_homes/on_time.pl");
/// How long the owners swap.
const SWAPPING: Duration = Duration::from_secs(10);
/// After this long an account that was just made is one like any other; then its keys go.
const NO_LONGER_NEW: Duration = Duration::from_secs(15);
/// The longest that somebody else's key may stand meanwhile, on a machine that runs other tests too.
const ON_TIME_LIMIT: u64 = 1_000;
/// The most memory that the daemon may ever have taken, in KiB.
const MEMORY_LIMIT: u64 = 32 * 1024;
/// What one account's flood may add to the ledger in a minute, in bytes.
const LEDGER_LIMIT: u64 = 64 * 1024;

/// What becomes of a thing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    /// It goes into quarantine.
    Goes,
    /// It lets nobody in, and stays.
    Stays,
    /// Not even root can remove it.
    Stuck,
}
use Fate::{Goes, Stays, Stuck};

/// Who owns what: the account, what its owner (or, after `root:`, root) does in its home, what becomes of it, and what
/// it is that goes or stays. `$key` is a public key whose private half the attacker has.
const THINGS: [(&str, &str, Fate, &str); 25] = [
    ("linkfile", "ln -s /srv/victim/keys .ssh/authorized_keys", Goes, ".ssh/authorized_keys"),
    ("linkdir", "ln -s /srv/victim .ssh/authorized_keys", Goes, ".ssh/authorized_keys"),
    ("linkshadow", "ln -s /etc/shadow .ssh/authorized_keys", Goes, ".ssh/authorized_keys"),
    ("linkloop", "ln -s authorized_keys .ssh/authorized_keys", Goes, ".ssh/authorized_keys"),
    ("linknowhere", "ln -s /nowhere .ssh/authorized_keys2", Goes, ".ssh/authorized_keys2"),
    ("dirlink", "rmdir .ssh; ln -s /srv/victim .ssh", Goes, ".ssh"),
    ("diretc", "rmdir .ssh; ln -s /etc .ssh", Goes, ".ssh"),
    ("dirloop", "rmdir .ssh; ln -s .ssh .ssh", Goes, ".ssh"),
    ("dirfile", "rmdir .ssh; echo \"$key\" >.ssh", Stays, ".ssh"),
    ("dirfifo", "rmdir .ssh; mkfifo .ssh", Stays, ".ssh"),
    ("fifo", "mkfifo .ssh/authorized_keys", Stays, ".ssh/authorized_keys"),
    (
        "socket",
        "perl -MSocket -e 'socket(S, PF_UNIX, SOCK_STREAM, 0); bind(S, pack_sockaddr_un(\".ssh/authorized_keys\")) or die'",
        Stays,
        ".ssh/authorized_keys",
    ),
    ("device", "root: mknod .ssh/authorized_keys c 1 5", Stays, ".ssh/authorized_keys"),
    ("directory", "mkdir .ssh/authorized_keys; echo \"$key\" >.ssh/authorized_keys/key", Stays, ".ssh/authorized_keys"),
    ("hardlink", "root: ln /srv/victim/keys .ssh/authorized_keys", Goes, ".ssh/authorized_keys"),
    (
        "immutable",
        "root: echo \"$key\" >.ssh/authorized_keys; setflag .ssh/authorized_keys",
        Stuck,
        ".ssh/authorized_keys",
    ),
    ("huge", "echo \"$key\" >.ssh/authorized_keys; truncate -s 1G .ssh/authorized_keys", Goes, ".ssh/authorized_keys"),
    ("manylines", "yes \"$key\" | head -n 10000 >.ssh/authorized_keys", Goes, ".ssh/authorized_keys"),
    ("noutf", "printf '\\377\\376\\n%s \\370\\n' \"$key\" >.ssh/authorized_keys", Goes, ".ssh/authorized_keys"),
    ("nuls", "printf '\\0\\n\\0%s\\0\\n%s\\0' \"$key\" \"$key\" >.ssh/authorized_keys", Goes, ".ssh/authorized_keys"),
    ("newlines", "printf '\\r\\n\\n\\013\\n%s\\r' \"$key\" >.ssh/authorized_keys", Goes, ".ssh/authorized_keys"),
    (
        "noise",
        "head -c 5000 /dev/urandom >.ssh/authorized_keys; echo x >>.ssh/authorized_keys",
        Goes,
        ".ssh/authorized_keys",
    ),
    ("closed", "echo \"$key\" >.ssh/authorized_keys; chmod 0 .ssh/authorized_keys .ssh", Goes, ".ssh/authorized_keys"),
    ("comments", "printf '# none\\n\\n  \\t\\n' >.ssh/authorized_keys", Stays, ".ssh/authorized_keys"),
    ("empty", ": >.ssh/authorized_keys2", Stays, ".ssh/authorized_keys2"),
];

/// `setflag FILE` for root: FS_IOC_SETFLAGS with FS_IMMUTABLE_FL, as chattr(1) does, which a minimal Debian 13 lacks.
const SET_FLAG: &str = "setflag() { perl -e 'open(F, \"<\", $ARGV[0]) or die; my $f = pack(\"L!\", 0x10); ioctl(F, 0x40086602, $f) or die $!' \"$1\"; }";

/// Makes somebody whose keys everybody may read.
fn add_victim(instance: &Instance, key: &Key) {
    instance.useradd("victim");
    let script = "install -d -o victim /srv/victim; cd /srv/victim; tee keys authorized_keys; chown victim:victim *";
    instance.run_for(Duration::from_secs(5), script, format!("{}\n", key.public()).as_bytes()).expect_ok();
}

/// Owner, mode, size, time and content of everything that hostile homes must not reach. The test itself changes our configuration and sshd's drop-in.
fn outside(instance: &Instance) -> BTreeSet<String> {
    let find = "find /etc /srv /root /usr/local /home/victim /home/breakglass -xdev \\( -path /etc/ssh/sshd_config.d -o -path /etc/lockdownd \\) -prune -o";
    let seen =
        instance.sh(&format!("{find} -printf '%p %y %u:%g %m %T@ %l\\n'; {find} -type f -print0 | xargs -0 sha256sum"));
    seen.lines().map(str::to_owned).collect()
}

/// Nothing that [`outside`] sees has changed since.
#[track_caller]
fn assert_unchanged(instance: &Instance, before: &BTreeSet<String>) {
    let now = outside(instance);
    let changed: Vec<&String> = before.symmetric_difference(&now).collect();
    assert!(changed.is_empty(), "outside of the homes, this changed: {changed:#?}");
}

fn daemon_status(instance: &Instance, line: &str) -> u64 {
    instance.sh(&format!("sed -n 's/^{line}:[^0-9]*\\([0-9]*\\).*/\\1/p' /proc/{DAEMON}/status")).parse().unwrap()
}

fn ledger_bytes(instance: &Instance) -> u64 {
    instance.sh("cat /var/lib/lockdownd/ledger/*.jsonl | wc -c").parse().unwrap()
}

/// The paths of the key files that `lockdownctl plan` would remove.
fn planned(instance: &Instance) -> BTreeSet<String> {
    let plan = instance.ctl_json("plan");
    let removals = plan["changes"].as_array().unwrap().iter().filter(|change| change["kind"] == "remove_key_file");
    removals.map(|change| change["path"].as_str().unwrap().to_owned()).collect()
}

/// The paths that records of this type name.
fn recorded(records: &[Value], artifact: &str) -> BTreeSet<String> {
    let of_type = records.iter().filter(|record| record["type"] == artifact);
    of_type.filter_map(|record| record["detail"]["path"].as_str().map(str::to_owned)).collect()
}

/// Has this account swap what stands in its home for [`SWAPPING`].
fn swap(instance: &Instance, name: &str) {
    // Perl counts whole seconds.
    let (seconds, key) = (SWAPPING.as_secs() + 1, "/usr/local/share/attacker.pub");
    instance.sh(&format!(
        "systemd-run -q --unit=swap-{name} --uid={name} -E HOME=/home/{name} perl /usr/local/share/swap.pl {seconds} {key}"
    ));
}

fn is_swapping(instance: &Instance, name: &str) -> bool {
    instance.run(&format!("systemctl is-active swap-{name}")).ok()
}

/// Writes a key into this account's home some times; how long, in milliseconds, the one that stood longest did.
fn longest_stand(instance: &Instance, account: &str, times: u32) -> u64 {
    let script = format!("perl /usr/local/share/on_time.pl {times} /usr/local/share/attacker.pub");
    instance.run_as(account, &script).expect_ok().parse().unwrap()
}

on_each_release! {
    fn whatever_stands_in_a_home_nothing_outside_changes_and_nobody_gets_in(release) {
        let house = House::observing(release);
        let attacker = house.keygen("attacker");
        add_victim(&house, &attacker);
        for (account, ..) in THINGS {
            house.sh(&format!("useradd -m -s /bin/bash -p '*' {account} && install -d -o {account} -m 700 /home/{account}/.ssh"));
        }
        for (account, script, ..) in THINGS {
            let key = format!("key='{}'; ", attacker.public());
            match script.strip_prefix("root: ") {
                Some(script) => drop(house.sh(&format!("{SET_FLAG}; cd /home/{account}; {key}{script}"))),
                None => drop(house.run_as(account, &format!("{key}{script}")).expect_ok()),
            }
        }
        let of = |fates: &[Fate]| -> BTreeSet<String> {
            let of_fate = THINGS.iter().filter(|(_, _, fate, _)| fates.contains(fate));
            of_fate.map(|(account, _, _, path)| format!("/home/{account}/{path}")).collect()
        };
        let before = outside(&house);
        eventually("observe says what enforce will do, once the accounts are no longer new", NO_LONGER_NEW, || {
            planned(&house) == of(&[Goes, Stuck])
        });

        house.configure(&house.config("enforce", ""));
        house.await_mode("enforce");
        eventually("everything that can go is gone", Duration::from_secs(20), || of(&[Goes]).iter().all(|path| !house.exists(path)));
        for path in of(&[Stays, Stuck]) {
            assert!(house.exists(&path), "{path} stays");
        }
        eventually("it is on record", Duration::from_secs(30), || recorded(&house.records(), "key.removed") == of(&[Goes]));
        assert_eq!(recorded(&house.records(), "removal.failed"), of(&[Stuck]), "and nothing else failed");
        assert_eq!(planned(&house), of(&[Stuck]));
        assert_unchanged(&house, &before);
        for (account, ..) in THINGS {
            assert!(!house.ssh(account).key(&attacker).option("PreferredAuthentications=publickey").login(), "{account}");
        }
        assert!(daemon_status(&house, "VmHWM") < MEMORY_LIMIT, "{} KiB", daemon_status(&house, "VmHWM"));
        house.allow("frank --account ubuntu --for 1h");
        assert!(house.ssh("ubuntu").key(&house.frank).login());
        house.ctl("verify").expect_ok();
    }

    fn owners_who_swap_everything_in_a_loop_change_nothing_outside_and_delay_nobody(release) {
        let house = House::enforcing(release);
        let attacker = house.keygen("attacker");
        add_victim(&house, &attacker);
        house.useradd("mallory");
        house.write("/usr/local/share/attacker.pub", format!("{}\n", attacker.public()));
        house.write("/usr/local/share/on_time.pl", ON_TIME);
        house.write("/usr/local/share/swap.pl", SWAP);
        house.sh("mkdir /home/mallory/links; cd /home/mallory/links; for i in $(seq 500); do ln /srv/victim/keys $i; done; chown mallory .");
        let before = outside(&house);
        let ledger = ledger_bytes(&house);

        let start = Instant::now();
        swap(&house, "mallory");
        let (mut longest, mut logins) = (0, 0);
        while is_swapping(&house, "mallory") {
            longest = longest.max(longest_stand(&house, "grace", 10));
            assert!(!house.ssh("mallory").key(&attacker).login(), "mallory's own key");
            if logins == 0 {
                house.allow("frank --account ubuntu --for 1h");
            }
            assert!(house.ssh("ubuntu").key(&house.frank).login(), "the gate answers");
            logins += 1;
        }
        assert!(start.elapsed() >= SWAPPING, "the swapper broke off: {}", house.journal("-u swap-mallory"));
        assert!(logins >= 2, "{logins}");
        assert!(longest <= ON_TIME_LIMIT, "somebody else's key stood for {longest} ms");
        assert_unchanged(&house, &before);

        let memory = daemon_status(&house, "VmHWM");
        assert!(memory < MEMORY_LIMIT, "{memory} KiB");
        // Each login that the gate let in is two records of at most 6 KiB, and grace's files are on record too.
        let grown = ledger_bytes(&house) - ledger;
        assert!(grown < LEDGER_LIMIT + (12 << 10) * (logins + 1), "the ledger grew by {grown} bytes");
        let kept = house.sh("ls /var/lib/lockdownd/quarantine/*.json | wc -l").parse::<u64>().unwrap();
        assert!(kept <= 3 * 64, "{kept} items are in quarantine");

        // The owner's last act: a key, plainly.
        house.sh("rm -rf /home/mallory/.ssh");
        house.authorize("mallory", &attacker);
        eventually("the last key is gone", Duration::from_secs(30), || !house.exists("/home/mallory/.ssh/authorized_keys"));
        house.ctl("verify").expect_ok();
    }

    fn a_watch_queue_that_overflowed_hides_no_key(release) {
        let house = House::enforcing(release);
        let flooders = ["flood1", "flood2", "flood3"];
        for account in flooders {
            house.useradd(account);
            house.run_as(account, "mkdir .ssh").expect_ok();
        }
        // Until the daemon knows them, nothing is queued for them.
        house.authorize("flood3", &house.frank);
        eventually("the daemon watches them", NO_LONGER_NEW, || !house.exists("/home/flood3/.ssh/authorized_keys"));
        let pid = house.sh(&format!("echo {DAEMON}"));
        house.sh(&format!("kill -STOP {pid}"));
        for account in flooders {
            let flood = "perl -e 'for (1 .. 8000) { open(F, q(>), q(.ssh/authorized_keys)); close F; unlink q(.ssh/authorized_keys) }'";
            house.run_as(account, flood).expect_ok();
        }
        house.authorize("grace", &house.frank);
        house.sh(&format!("kill -CONT {pid}"));
        eventually("the key is gone", Duration::from_secs(30), || !house.exists("/home/grace/.ssh/authorized_keys"));
        eventually("the overflow is told", Duration::from_secs(30), || house.journal("-u lockdownd").contains("dropped events"));
        thread::sleep(Duration::from_millis(100));
        assert_eq!(house.sh(&format!("echo {DAEMON}")), pid, "it is the same daemon");
    }
}
