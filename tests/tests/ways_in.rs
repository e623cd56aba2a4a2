//! Every way in, really open and really tried: what the gate refuses, what the attestation names, and what
//! `lockdownctl ways-in --close --apply` closes.

use std::{
    collections::BTreeSet,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant, SystemTime},
};

use instance_tests::{House, Instance, Key, Release, eventually, on_each_release};
use serde_json::Value;

/// What the daemon may take to notice a change and to attest it.
const SOON: Duration = Duration::from_secs(20);
/// At once, on a busy machine: sooner than the pause of 30 s after a change of accounts.
const AT_ONCE: Duration = Duration::from_secs(20);
const CLOSING: &str = "/etc/ssh/sshd_config.d/01-lockdownd-ways-in.conf";
/// Everything that sshd_config(5) can open, at once. Empty passwords for one account alone: once sshd has tried one in vain,
/// pam_setcred(3) fails for keyboard-interactive in the same connection.
const OPEN: &str = "PasswordAuthentication yes\nKbdInteractiveAuthentication yes\nPermitRootLogin yes\n\
    TrustedUserCAKeys /etc/ssh/ca.pub\nAuthorizedPrincipalsFile /etc/ssh/principals/%u\nHostbasedAuthentication yes\n\
    HostbasedUsesNameFromPacketOnly yes\nMatch User hollow\n    PermitEmptyPasswords yes\n";
/// EC2 Instance Connect comes like this: not in sshd's configuration, but in its unit.
const UNIT: &str = "[Service]\nExecStart=\nExecStart=/usr/sbin/sshd -D -o \"AuthorizedKeysCommand /usr/local/bin/keys\" \
    -o \"AuthorizedKeysCommandUser nobody\"\n";
const HOST_BASED: &str = "ssh -o PreferredAuthentications=hostbased -o HostbasedAuthentication=yes -o BatchMode=yes \
    -o StrictHostKeyChecking=yes ubuntu@localhost";

/// What the daemon may take to put a login on record: within a second as a rule.
const ON_RECORD: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(250);

/// One way, tried.
struct Tried {
    kind: &'static str,
    from: String,
    let_in: bool,
    /// When its client was done.
    ended: SystemTime,
}

impl Tried {
    /// Where sshd may say that it came from.
    fn addresses(&self) -> impl Iterator<Item = &str> {
        [self.from.as_str()].into_iter().chain((self.from == "127.0.0.1").then_some("::1"))
    }

    /// Whether this record is about its login. What came by the local socket has no address.
    fn is_in(&self, record: &Value) -> bool {
        match record["source"]["address"].as_str() {
            Some(address) => self.addresses().any(|from| from == address),
            None => self.kind == "local_socket",
        }
    }
}

/// A house in enforce whose sshd has every way open at once.
struct Open {
    house: House,
    commanded: Key,
    certified: String,
}

impl Open {
    fn boot(release: Release) -> Self {
        let house = House::enforcing(release);
        // The first two logins of a test share their address, and so would share a record.
        let _ = house.ssh("ubuntu");
        let [commanded, ca, outsider] = ["commanded", "ca", "outsider"].map(|name| house.keygen(name));
        house.useradd("hollow");
        house.sh("passwd -qd hollow; printf '%s\\n' ubuntu:s3cret root:s3cret breakglass:s3cret | chpasswd");
        house.write("/etc/ssh/ca.pub", ca.public());
        house.write("/etc/ssh/principals/ubuntu", "ops\n");
        house.write("/usr/local/bin/keys", format!("#!/bin/sh\necho '{}'\n", commanded.public()));
        house.sh("chmod 755 /usr/local/bin/keys");
        // The client's side of host-based logins, on the same host.
        house.sh("echo 127.0.0.1 localhost >>/etc/hosts; echo EnableSSHKeysign yes >/etc/ssh/ssh_config.d/keysign.conf
                  sed 's/^/localhost /' /etc/ssh/ssh_host_*_key.pub >/etc/ssh/ssh_known_hosts; echo localhost >/etc/ssh/shosts.equiv");
        house.write("/etc/ssh/sshd_config.d/50-open.conf", OPEN);
        house.write("/etc/systemd/system/ssh.service.d/ec2-instance-connect.conf", UNIT);
        house.sh("sshd -t; systemctl daemon-reload; systemctl restart ssh");
        let signed = Command::new("ssh-keygen")
            .args(["-q", "-I", "outsider", "-n", "ops", "-s"])
            .arg(ca.path())
            .arg(outsider.path().with_extension("pub"))
            .status();
        assert!(signed.expect("ssh-keygen is there").success());
        let certified = outsider.path().display().to_string();
        Self { house, commanded, certified }
    }

    /// Tries every way with a fresh client from an address of its own; which of them let it in.
    fn tried(&self) -> BTreeSet<&'static str> {
        self.each("echo logged-in").into_iter().filter(|tried| tried.let_in).map(|tried| tried.kind).collect()
    }

    /// The same where the gate is out. In enforce what came past it is ended at once, at times before its command has said
    /// anything: it was in all the same.
    fn got_in(&self) -> BTreeSet<&'static str> {
        let tried = self.each("echo logged-in");
        let mut missing: Vec<&Tried> = tried.iter().filter(|tried| !tried.let_in).collect();
        let start = Instant::now();
        while !missing.is_empty() && start.elapsed() < ON_RECORD {
            let accepted = self.house.journal("-t sshd -t sshd-session -g Accepted || true");
            missing.retain(|tried| !tried.addresses().any(|from| accepted.contains(&format!(" from {from} port "))));
            std::thread::sleep(POLL);
        }
        let missing: Vec<&str> = missing.into_iter().map(|tried| tried.kind).collect();
        tried.iter().map(|tried| tried.kind).filter(|kind| !missing.contains(kind)).collect()
    }

    /// Runs a command by every way.
    fn each(&self, command: &str) -> Vec<Tried> {
        static ROUND: AtomicU32 = AtomicU32::new(0);
        let round = ROUND.fetch_add(1, Ordering::Relaxed);
        let from = |n: u32| format!("127.77.{round}.{n}");
        let login = |account: &str, n: u32| self.house.ssh(account).from(&from(n));
        let by_password = |method: &str, n: u32| {
            login("ubuntu", n).option(&format!("PreferredAuthentications={method}")).password("s3cret")
        };
        let clients = [
            ("key_command", login("ubuntu", 1).key(&self.commanded)),
            ("user_ca", login("ubuntu", 2).arg("-i").arg(&self.certified)),
            ("password", by_password("password", 3)),
            ("keyboard_interactive", by_password("keyboard-interactive", 4)),
            ("empty_password", login("hollow", 5)),
            ("root_login", login("root", 6).password("s3cret")),
        ];
        let done = |kind, from: &str, output: instance_tests::Output| Tried {
            kind,
            from: from.to_owned(),
            let_in: output.stdout.contains("logged-in"),
            ended: SystemTime::now(),
        };
        let numbered = (1..).zip(clients);
        let mut tried: Vec<Tried> =
            numbered.map(|(n, (kind, client))| done(kind, &from(n), client.run(command))).collect();
        let host_based = self.house.run_as("ubuntu", &format!("{HOST_BASED} '{command}'"));
        tried.push(done("host_based", "127.0.0.1", host_based));
        if self.house.release() == Release::Trixie {
            // sshd behind the socket is started without the unit's command line: it lets in by what the files say.
            let through = "ssh -i /root/certified -o BatchMode=yes -o StrictHostKeyChecking=no \
                -o ProxyCommand='socat - UNIX-CONNECT:/run/ssh-unix-local/socket' ubuntu@local";
            self.house.copy_in(std::path::Path::new(&self.certified), "/root/certified");
            self.house
                .copy_in(std::path::Path::new(&format!("{}-cert.pub", self.certified)), "/root/certified-cert.pub");
            self.house.sh("chmod 600 /root/certified");
            tried.push(done("local_socket", "UNKNOWN", self.house.run(&format!("{through} '{command}'"))));
        }
        tried
    }

    fn all(&self) -> BTreeSet<&'static str> {
        let mut all = BTreeSet::from([
            "key_command",
            "user_ca",
            "password",
            "keyboard_interactive",
            "empty_password",
            "root_login",
            "host_based",
        ]);
        if self.house.release() == Release::Trixie {
            all.insert("local_socket");
        }
        all
    }

    fn grants_and_exempt_accounts_work(&self) {
        assert!(self.house.ssh("ubuntu").key(&self.house.frank).login(), "frank has a grant");
        self.exempt_accounts_work();
    }

    /// sshd lets in who has a grant where the gate is out. The session is ended at once, at times before its command has said
    /// anything.
    fn sshd_lets_frank_in(&self) {
        let from = "127.88.1.1";
        if !self.house.ssh("ubuntu").key(&self.house.frank).from(from).login() {
            let accepted = format!("Accepted publickey for ubuntu from {from} port ");
            eventually("frank has a grant", SOON, || self.house.journal("-t sshd -t sshd-session").contains(&accepted));
        }
    }

    fn exempt_accounts_work(&self) {
        assert!(self.house.ssh("breakglass").key(&self.house.breakglass).login());
        assert!(self.house.ssh("breakglass").password("s3cret").login(), "an exempt account keeps its own ways");
    }
}

/// The kinds of ways that the last attestation has in this list, over all its parts.
fn attested(instance: &Instance, list: &str) -> BTreeSet<String> {
    let records = instance.records_of("sweep.attested");
    let of = |record: &Value| record["detail"]["part"].as_u64().unwrap_or(1);
    let first = records.iter().rposition(|record| of(record) == 1).unwrap_or(0);
    let ways = records[first..].iter().filter_map(|record| record["detail"][list].as_array()).flatten();
    ways.filter(|way| way["wanted"] != true).filter_map(|way| way["kind"].as_str().map(str::to_owned)).collect()
}

/// The ways in a state, by `lockdownctl ways-in --json`.
fn listed(instance: &Instance, state: &str) -> Vec<Value> {
    let printed = instance.ctl("--json ways-in").stdout;
    let answer: Value = serde_json::from_str(&printed).unwrap_or_else(|e| panic!("not JSON ({e}): {printed}"));
    let ways = answer["ways"].as_array().expect("a list").clone();
    ways.into_iter().filter(|way| way["state"] == state && way["wanted"] != true).collect()
}

fn kinds(ways: &[Value]) -> BTreeSet<&str> {
    ways.iter().filter_map(|way| way["kind"].as_str()).collect()
}

fn contains_all(found: &BTreeSet<String>, all: &BTreeSet<&str>) -> bool {
    all.iter().all(|kind| found.contains(*kind))
}

/// Brings the host's own dropbear inside, with the libraries that a small Debian lacks.
fn bring_dropbear(house: &House) {
    let libraries = Command::new("ldd").arg("/usr/sbin/dropbear").output().expect("dropbear-bin is installed here");
    let libraries = String::from_utf8(libraries.stdout).expect("text");
    let lacking = libraries.split_whitespace().filter(|word| word.starts_with('/') && word.contains("libtom"));
    for path in lacking.chain(["/usr/sbin/dropbear", "/usr/bin/dropbearkey"]) {
        let name = path.rsplit('/').next().expect("a name");
        let to = if name.starts_with("lib") { format!("/usr/lib/{name}") } else { path.to_owned() };
        house.copy_in(std::path::Path::new(path), &to);
        house.sh(&format!("chmod 755 {to}"));
    }
    house.sh("ldconfig");
}

on_each_release! {
    fn without_a_grant_every_method_is_refused_by_the_gate_recorded_and_attested(release) {
        let open = Open::boot(release);
        for tried in open.each("echo logged-in") {
            assert!(!tried.let_in, "{}", tried.kind);
            eventually(&format!("{} is on record", tried.kind), ON_RECORD, || {
                let mut records = open.house.records_of("session.refused");
                records.extend(open.house.records_of("login.failed"));
                records.iter().any(|record| tried.is_in(record))
            });
        }
        // What the unit starts shows once a sweep has looked at the process.
        open.house.sh("systemctl restart lockdownd");
        eventually("the attestation names each", SOON, || contains_all(&attested(&open.house, "ways_closed_by_gate"), &open.all()));
        assert_eq!(attested(&open.house, "ways_open"), BTreeSet::new());
        let by_gate = listed(&open.house, "closed_by_gate");
        assert!(kinds(&by_gate).is_superset(&open.all()), "{by_gate:?}");
        assert!(by_gate.iter().all(|way| way["closes"].is_string()), "{by_gate:?}");
        assert!(kinds(&listed(&open.house, "closed")).contains("key_files"), "keys are read from the store alone");
        let answer = open.house.ctl_json("ways-in");
        let exempt: Vec<_> = answer["ways"].as_array().unwrap().iter().filter(|way| way["wanted"] == true).collect();
        let [one] = exempt.as_slice() else { panic!("{exempt:?}") };
        assert!(one["why"].as_str().unwrap().contains(&open.house.breakglass.fingerprint()), "{one}");
        assert!(answer["not_covered"].to_string().contains("SSM"));
        assert_eq!(answer["warnings"].to_string().contains("PerSourcePenalties"), release == Release::Trixie);
        open.house.ctl("verify").expect_ok();
    }

    fn with_every_way_open_closing_them_leaves_grants_alone(release) {
        let open = Open::boot(release);
        open.house.allow("frank --account ubuntu --for 1h");
        // The control: without the gate each of them lets in.
        open.house.sh("pam-auth-update --package --remove lockdownd");
        assert_eq!(open.got_in(), open.all());
        eventually("the attestation names each as open", SOON, || contains_all(&attested(&open.house, "ways_open"), &open.all()));
        let look = open.house.ctl("ways-in");
        assert_eq!(look.status, 1, "{look}");
        assert!(look.stdout.contains("OPEN: password") && look.stdout.contains("pam-auth-update --enable lockdownd"), "{look}");

        let shown = open.house.ctl("ways-in --close").expect_ok();
        assert!(shown.contains("Match User *,!breakglass") && !open.house.exists(CLOSING), "{shown}");
        let listeners = open.house.sh("pgrep -o -f '^sshd: .*\\[listener\\]'");
        open.house.ctl("ways-in --close --apply").expect_ok();
        assert_eq!(open.house.sh(&format!("cat {CLOSING}")).trim(), shown.trim());
        assert_eq!(open.house.sh("pgrep -o -f '^sshd: .*\\[listener\\]'"), listeners, "it was reloaded, not replaced");
        assert_eq!(open.tried(), BTreeSet::new(), "with the gate still out");
        open.sshd_lets_frank_in();
        open.exempt_accounts_work();
        let left = kinds(&listed(&open.house, "open")).into_iter().map(str::to_owned).collect::<BTreeSet<_>>();
        assert!(left.iter().all(|kind| kind == "gate" || kind == "local_socket"), "{left:?}");
        let changed = open.house.records_of("sshd.changed");
        let record = changed.iter().find(|record| record["detail"]["ways_in"] == "closed").expect("on record");
        assert!(record["actor"]["uid"] == 0 && record["detail"]["lines"].to_string().contains("PasswordAuthentication no"), "{record}");
        // Again changes nothing, also where the file was edited meanwhile.
        assert!(!open.house.ctl("ways-in --close --apply").expect_ok().contains("were closed"));
        open.house.sh(&format!("echo 'PasswordAuthentication yes' >{CLOSING}"));
        assert!(open.house.ctl("ways-in").stdout.contains("says something else"));
        open.house.ctl("ways-in --close --apply").expect_ok();
        assert_eq!(open.house.sh(&format!("cat {CLOSING}")).trim(), shown.trim());

        open.house.ctl("ways-in --undo").expect_ok();
        assert!(!open.house.exists(CLOSING));
        assert_eq!(open.got_in(), open.all(), "undone");
    }

    fn past_the_gate_a_login_by_any_method_is_ended_and_recorded_at_once(release) {
        let open = Open::boot(release);
        open.house.sh("pam-auth-update --package --remove lockdownd");
        let tried = open.each("echo logged-in; exec sleep 15");
        let accepted = open.house.sh("journalctl -q -o short-unix -t sshd -t sshd-session -g Accepted || true");
        for tried in tried {
            let of_it = |line: &&str| tried.addresses().any(|from| line.contains(&format!(" from {from} port ")));
            let line = accepted.lines().rev().find(of_it).unwrap_or_else(|| panic!("{} did not get in: {accepted}", tried.kind));
            let at: f64 = line.split_whitespace().next().and_then(|at| at.parse().ok()).expect("a time");
            let lived = tried.ended.duration_since(SystemTime::UNIX_EPOCH).expect("now").as_secs_f64() - at;
            println!("{}: ended {lived:.2} s after sshd's line", tried.kind);
            assert!(lived < ON_RECORD.as_secs_f64(), "{}: {lived}", tried.kind);
            for artifact in ["session.opened", "session.terminated"] {
                eventually(&format!("{} is on record as {artifact}", tried.kind), ON_RECORD, || {
                    open.house.records_of(artifact).iter().any(|record| tried.is_in(record))
                });
            }
        }
    }

    fn with_pam_off_closing_turns_it_on_and_what_it_would_ask_off(release) {
        let open = Open::boot(release);
        open.house.allow("frank --account ubuntu --for 1h");
        open.house.write("/etc/ssh/sshd_config.d/40-no-pam.conf", "UsePAM no\n");
        open.house.sh("sshd -t; systemctl restart ssh");
        let let_in = open.got_in();
        assert!(let_in.contains("password") && let_in.contains("host_based") && let_in.contains("root_login"), "{let_in:?}");
        let open_now = listed(&open.house, "open");
        let gate = open_now.iter().find(|way| way["kind"] == "gate").expect("the gate is not asked");
        assert_eq!(gate["closes"], "UsePAM yes in /etc/ssh/sshd_config");
        open.house.ctl("ways-in --close --apply").expect_ok();
        assert!(open.house.sh(&format!("cat {CLOSING}")).contains("UsePAM yes"));
        assert_eq!(open.tried(), BTreeSet::new());
        open.grants_and_exempt_accounts_work();
        assert_eq!(listed(&open.house, "open"), Vec::<Value>::new());
    }

    fn closing_never_breaks_sshd_nor_locks_everybody_out(release) {
        let house = House::observing(release);
        house.write("/etc/ssh/sshd_config.d/50-password.conf", "PasswordAuthentication yes\n");
        house.sh("systemctl restart ssh");
        house.write("/etc/ssh/sshd_config.d/60-broken.conf", "NoSuchKeyword yes\n");
        let refused = house.ctl("ways-in --close --apply");
        assert!(refused.status == 1 && refused.stderr.contains("NoSuchKeyword"), "{refused}");
        assert!(!house.exists(CLOSING));
        house.sh("rm /etc/ssh/sshd_config.d/60-broken.conf");
        // Nobody exempt could come to the rescue.
        house.sh("mv /home/breakglass/.ssh /home/breakglass/ssh");
        let refused = house.ctl("ways-in --close --apply");
        assert!(refused.status == 1 && refused.stderr.contains("no exempt account could log in"), "{refused}");
        assert!(!house.exists(CLOSING));
        house.sh("mv /home/breakglass/ssh /home/breakglass/.ssh");
        // A `Match` block that comes later, for one account, is overruled; in observe keys in homes still count.
        house.write("/etc/ssh/sshd_config.d/70-match.conf", "Match User grace\n    PasswordAuthentication yes\n");
        house.sh("echo grace:s3cret | chpasswd; systemctl restart ssh");
        house.authorize("grace", &house.grace);
        assert!(house.ssh("grace").password("s3cret").login());
        house.ctl("ways-in --close --apply").expect_ok();
        assert!(!house.ssh("grace").password("s3cret").login());
        assert!(house.ssh("grace").key(&house.grace).login());
        // Another account becomes exempt: it gets its own ways back by itself.
        house.useradd("spare");
        house.sh("echo spare:s3cret | chpasswd");
        assert!(!house.ssh("spare").password("s3cret").login());
        let more = house.config("observe", "").replace("[\"breakglass\"]", "[\"breakglass\", \"spare\"]");
        house.configure(&more);
        eventually("spare is left out", SOON, || house.sh(&format!("cat {CLOSING}")).contains(",!spare"));
        eventually("sshd knows", SOON, || house.ssh("spare").password("s3cret").login());
        house.configure(&house.config("observe", ""));
        eventually("and in again", SOON, || !house.sh(&format!("cat {CLOSING}")).contains(",!spare"));
        // The package takes it along, and says so.
        let removed = house.run("DEBIAN_FRONTEND=noninteractive dpkg -r lockdownd").expect_ok();
        assert!(removed.contains(CLOSING) && !house.exists(CLOSING), "{removed}");
        assert!(house.ssh("grace").password("s3cret").login());
    }

    fn other_servers_are_found_and_named_with_what_closes_them(release) {
        let house = House::enforcing(release);
        house.sh("echo ubuntu:s3cret | chpasswd");
        house.write("/etc/ssh/second.conf", "Port 2222\nUsePAM no\nPasswordAuthentication yes\nPidFile /run/second.pid\n");
        house.sh("/usr/sbin/sshd -f /etc/ssh/second.conf");
        // An exempt account's: any other's own would be ended.
        house.run_as("breakglass", "ssh-keygen -q -t ed25519 -N '' -f hostkey; mkdir -p own; chmod 700 own
            printf 'Port 2200\\nHostKey %s/hostkey\\nPidFile none\\nStrictModes no\\nAuthorizedKeysFile %s/own/keys\\n' \"$PWD\" \"$PWD\" >own/conf
            setsid /usr/sbin/sshd -f \"$PWD/own/conf\"").expect_ok();
        house.write("/home/breakglass/own/keys", house.grace.public());
        bring_dropbear(&house);
        house.sh("dropbearkey -t ed25519 -f /root/dropbear_key >/dev/null 2>&1
                  systemd-run -q --unit=other-door dropbear -F -E -p 2223 -r /root/dropbear_key
                  cp $(command -v dropbear) /usr/local/bin/innocent; setsid -f innocent -F -E -p 2224 -r /root/dropbear_key </dev/null >/dev/null 2>&1 3>&-");
        let port = |account: &str, port: &str| house.ssh(account).arg("-p").arg(port);
        eventually("each lets in whom it likes", SOON, || {
            port("ubuntu", "2222").password("s3cret").login()
                && port("breakglass", "2200").key(&house.grace).login()
                && port("ubuntu", "2223").password("s3cret").login()
                && port("ubuntu", "2224").password("s3cret").login()
        });

        let open = listed(&house, "open");
        let find = |what: &str| open.iter().find(|way| way.to_string().contains(what)).unwrap_or_else(|| panic!("no {what} in {open:?}"));
        let second = open.iter().find(|w| w["kind"] == "gate" && w["server"].as_str().unwrap().contains("second.conf")).expect("the second sshd");
        assert_eq!(second["closes"], "UsePAM yes in /etc/ssh/second.conf");
        assert_eq!(find("\"kind\":\"user_sshd\"")["closes"], format!("kill {}", house.sh("pgrep -u breakglass -f own/conf")));
        assert_eq!(find("other-door.service")["closes"], "systemctl disable --now other-door.service");
        assert_eq!(find("/usr/local/bin/innocent")["closes"], format!("kill {}", house.sh("pgrep -x innocent")));
        assert!(find("2223")["why"].as_str().unwrap().contains("the gate is not in it"));
        house.sh("systemctl restart lockdownd");
        let all = BTreeSet::from(["gate", "user_sshd", "other_server", "password"]);
        eventually("the attestation names them", SOON, || contains_all(&attested(&house, "ways_open"), &all));
        eventually("status says so", SOON, || house.ctl_json("status")["problems"].to_string().contains("ways in are open"));

        for way in &open {
            if let Some(line) = way["closes"].as_str().filter(|line| line.starts_with("kill ") || line.starts_with("systemctl ")) {
                let _ = house.run(line);
            }
        }
        // A file that was made in /etc/ssh meanwhile makes the first sshd count as one that has not read all of it.
        house.sh("sed -i 's/UsePAM no/UsePAM yes/' /etc/ssh/second.conf; kill -HUP $(cat /run/second.pid); systemctl reload ssh");
        eventually("each is closed", SOON, || listed(&house, "open").is_empty());
        assert!(!port("ubuntu", "2222").password("s3cret").login());
    }

    fn a_change_is_attested_at_once_and_a_flood_of_changes_only_now_and_then(release) {
        let house = House::enforcing(release);
        let sweeps = || house.records_of("sweep.attested").iter().filter(|r| r["detail"]["part"].as_u64().unwrap_or(1) == 1).count();
        eventually("the first", SOON, || sweeps() >= 1);
        house.write("/etc/ssh/sshd_config.d/50-command.conf", "AuthorizedKeysCommand /bin/true\nAuthorizedKeysCommandUser nobody\n");
        eventually("named", AT_ONCE, || attested(&house, "ways_closed_by_gate").contains("key_command"));
        // Accounts are what anybody can change: such changes are few attestations, and delay none of what root did.
        let before = sweeps();
        house.sh("for n in $(seq 20); do usermod -c \"number $n\" grace; done");
        std::thread::sleep(Duration::from_secs(8));
        assert!(sweeps() <= before + 1, "{} attestations", sweeps() - before);
        house.sh("usermod -c last grace; sed -i /login-gate/d /etc/pam.d/common-session");
        eventually("the gate's absence is attested", AT_ONCE, || attested(&house, "ways_open").contains("gate"));
    }
}
