//! The compliance API's package: it serves as soon as it is installed, root's commands leave the database the server's,
//! and neither removal nor purge takes the evidence.

use std::fs::File;
use std::thread;
use std::time::Duration;

use instance_tests::{Instance, built_compliance_api, eventually, on_each_release, step};
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

const HERE: &str = "http://127.0.0.1:8448";
const SOON: Duration = Duration::from_secs(30);
const STATE: &str = "/var/lib/compliance-api";
/// Every unit of ours that promises systemd's watchdog something.
const WATCHED: [&str; 3] = ["lockdownd", "lockdownd-shipper", "compliance-api"];

/// An instance on which the package was just installed.
fn installed(release: instance_tests::Release) -> Instance {
    let instance = Instance::boot_bare(release);
    instance.install(&built_compliance_api()).expect_ok();
    serves(&instance);
    instance
}

fn serves(instance: &Instance) {
    eventually("it serves", SOON, || instance.run(&format!("curl -fsS {HERE}/healthz")).ok());
}

/// Standing of an answer to a request with this token.
fn status(instance: &Instance, token: &str, path: &str) -> String {
    instance.sh(&format!("curl -sS -o /dev/null -w '%{{http_code}}' -H 'Authorization: Bearer {token}' {HERE}{path}"))
}

on_each_release! {
    fn the_server_is_up_once_installed_root_administers_it_and_removal_and_purge_keep_the_evidence(release) {
        let instance = installed(release);
        step("it is up once installed, and has little to lose");
        assert_eq!(instance.sh("systemctl is-enabled compliance-api"), "enabled");
        assert_eq!(instance.sh(&format!("stat -c '%U %a' {STATE}")), "_compliance-api 700");
        assert_eq!(instance.sh("dpkg -V compliance-api"), "", "what lies on disk is what was packed");
        let report = instance.sh("systemd-analyze security compliance-api --no-pager | tail -n 1");
        let exposure: f64 = report.split_whitespace().find_map(|word| word.parse().ok()).unwrap();
        assert!(exposure <= 2.0, "{report}");
        assert_eq!(instance.sh("ss -Hltn 'sport = :8448' | awk '{print $4}'"), "127.0.0.1:8448", "loopback alone");

        step("a token made by root beside the server works and ends");
        let token = instance.sh("compliance-api token create --role auditor --name ann | grep -o 'ca_auditor_[A-Za-z0-9_-]*'");
        assert_eq!(status(&instance, &token, "/v1/hosts"), "200");
        assert_eq!(status(&instance, "ca_auditor_wrong", "/v1/hosts"), "401");
        assert_eq!(instance.sh(&format!("find {STATE} ! -user _compliance-api")), "", "the database stays the server's");
        assert!(!instance.run(&format!("grep -r {token} {STATE}")).ok(), "a token is kept hashed");
        // Also with the server down, when root is the first to open the database.
        instance.sh("systemctl stop compliance-api");
        let other = instance.sh("compliance-api token create --role auditor --name eve | grep -o 'ca_auditor_[A-Za-z0-9_-]*'");
        instance.sh("systemctl start compliance-api");
        serves(&instance);
        assert_eq!(status(&instance, &other, "/v1/hosts"), "200");
        let list = instance.sh("compliance-api token list");
        let id = list.lines().find(|line| line.contains("ann")).and_then(|line| line.split_whitespace().next()).unwrap();
        instance.sh(&format!("compliance-api token revoke {id}"));
        assert_eq!(status(&instance, &token, "/v1/hosts"), "401");
        assert_eq!(status(&instance, &other, "/v1/hosts"), "200");
        // The key too is replaced by root beside it, and stays the server's.
        let fingerprint = instance.sh("compliance-api server-key rotate");
        assert_eq!(status(&instance, &other, "/v1/hosts"), "503", "it has the key before");
        instance.sh("systemctl restart compliance-api");
        serves(&instance);
        let said = format!("curl -fsS {HERE}/v1/server | jq -r .public_key | ssh-keygen -lf - | cut -d ' ' -f 2");
        assert_eq!(instance.sh(&said), fingerprint);
        assert_eq!(instance.sh(&format!("find {STATE} ! -user _compliance-api")), "");

        step("a backup that root makes beside it is the server's, and is put back where there is nothing");
        instance.sh("install -d /var/backups/compliance-api && compliance-api backup /var/backups/compliance-api/1");
        let modes = instance.sh("stat -c '%U %a %n' /var/backups/compliance-api/1 /var/backups/compliance-api/1/*");
        assert_eq!(modes.matches("_compliance-api ").count(), 4, "{modes}");
        assert!(!instance.run("compliance-api restore /var/backups/compliance-api/1").ok(), "nothing is overwritten");
        instance.sh(&format!("systemctl stop compliance-api && mkdir /root/lost && mv {STATE}/* /root/lost/"));
        instance.sh("compliance-api restore /var/backups/compliance-api/1 && systemctl start compliance-api");
        serves(&instance);
        assert_eq!(instance.sh(&format!("find {STATE} ! -user _compliance-api")), "");
        assert_eq!(instance.sh(&said), fingerprint);
        assert_eq!(status(&instance, &other, "/v1/hosts"), "200");

        step("a reload changes nothing that runs, and fails for certificates that cannot be used");
        let process = || instance.sh("systemctl show -P MainPID compliance-api");
        let before = process();
        instance.sh("systemctl reload compliance-api");
        instance.sh("cp /etc/compliance-api/config.toml /root/; printf '[tls]\\ncertificate = \"/etc/hostname\"\\nkey = \"/etc/hostname\"\\n' >> /etc/compliance-api/config.toml");
        assert!(!instance.run("systemctl reload compliance-api").ok());
        assert!(instance.journal("-u compliance-api").contains("holds no"), "the journal says why");
        serves(&instance);
        assert_eq!(process(), before, "it goes on as it was");
        instance.sh("cat /root/config.toml >/etc/compliance-api/config.toml");

        step("a server that is killed comes back, and removal and purge keep the evidence");
        let key = instance.sh(&format!("curl -fsS {HERE}/v1/server | jq -r .public_key"));
        instance.sh("systemctl kill -s KILL compliance-api");
        serves(&instance);
        instance.install(&built_compliance_api()).expect_ok();
        serves(&instance);
        instance.sh("dpkg --remove compliance-api");
        assert!(!instance.run(&format!("curl -fsS {HERE}/healthz")).ok());
        let said = instance.sh("dpkg --purge compliance-api 2>&1");
        assert!(said.contains(STATE), "{said}");
        assert!(!instance.exists("/etc/compliance-api"));
        instance.install(&built_compliance_api()).expect_ok();
        serves(&instance);
        assert_eq!(instance.sh(&format!("curl -fsS {HERE}/v1/server | jq -r .public_key")), key);
    }

    fn no_unit_is_restarted_by_its_watchdog_while_idle_and_a_server_whose_writer_hangs_is(release) {
        let mut instance = Instance::boot(release);
        instance.install(&built_compliance_api()).expect_ok();
        for unit in WATCHED {
            let watched = instance.sh(&format!("systemctl show -P WatchdogUSec {unit}"));
            assert!(watched.ends_with("min") || watched.ends_with('s'), "{unit} has none: {watched}");
            instance.write(&format!("/run/systemd/system/{unit}.service.d/soon.conf"), "[Service]\nWatchdogSec=5s\n");
        }
        instance.sh(&format!("systemctl daemon-reload && systemctl restart {}", WATCHED.join(" ")));
        serves(&instance);
        for unit in WATCHED {
            if instance.sh(&format!("systemctl show -P CanReload {unit}")) == "yes" {
                instance.sh(&format!("systemctl reload {unit}"));
            }
        }
        // Twice the time within which each has to be heard of.
        thread::sleep(Duration::from_secs(11));
        for unit in WATCHED {
            let state = instance.sh(&format!("systemctl is-active {unit}; systemctl show -P WatchdogUSec -P NRestarts {unit}"));
            assert!(state.starts_with("active\n") && state.contains("5s") && state.ends_with('0'), "{unit}: {state}");
        }

        // SQLite's lock of whoever writes, in the shared memory beside the database: held, nobody can write.
        let shared = instance.outside(&format!("{STATE}/compliance-api.sqlite-shm"));
        let file = File::options().read(true).write(true).open(shared).unwrap();
        let lock = libc::flock {
            l_type: libc::F_WRLCK as i16, l_whence: libc::SEEK_SET as i16, l_start: 120, l_len: 1, l_pid: 0,
        };
        fcntl(&file, FcntlArg::F_OFD_SETLK(&lock)).unwrap();
        eventually("it is restarted", Duration::from_secs(60), || {
            instance.sh("systemctl show -P NRestarts compliance-api") != "0"
        });
        assert!(instance.journal("-u compliance-api").contains("Watchdog timeout"));
        drop(file);
        serves(&instance);

        // And each comes with a boot, by itself.
        instance.reboot();
        serves(&instance);
        for unit in WATCHED {
            let state = instance.sh(&format!("systemctl is-active {unit}; systemctl show -P NRestarts {unit}"));
            assert_eq!(state, "active\n0", "{unit}");
        }
    }
}
