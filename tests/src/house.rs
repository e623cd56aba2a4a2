//! The instance that most scenarios want: enforce is on, a break-glass account has its key, and two people exist who may
//! be given accounts.

use std::collections::BTreeMap;
use std::fs;
use std::ops::{Deref, DerefMut};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::client::Key;
use crate::host::{Output, eventually, pause};
use crate::instance::Instance;
use crate::layers::{self, Release};

/// How long the daemon may take to be in force after its configuration changed; it takes well under a second.
const IN_FORCE_LIMIT: Duration = Duration::from_secs(30);

impl Instance {
    /// Runs `lockdownctl ARGS` as root, whatever its status.
    #[must_use]
    pub fn ctl(&self, args: &str) -> Output {
        self.run(&format!("lockdownctl {args}"))
    }

    /// What `lockdownctl --json ARGS` prints.
    ///
    /// # Panics
    /// When it fails or prints anything but JSON.
    #[must_use]
    #[track_caller]
    pub fn ctl_json(&self, args: &str) -> Value {
        let printed = self.ctl(&format!("--json {args}")).expect_ok();
        serde_json::from_str(&printed).unwrap_or_else(|e| panic!("not JSON ({e}): {printed}"))
    }

    /// Writes `/etc/lockdownd/config.toml`, which has to check out, and reloads the daemon.
    ///
    /// # Panics
    /// When the check or the reload fails.
    #[track_caller]
    pub fn configure(&self, toml: &str) {
        self.write("/etc/lockdownd/config.toml", toml);
        self.sh("lockdownctl check && systemctl reload lockdownd");
    }

    /// Waits until `mode` (`observe`, `enforce`) is in force.
    ///
    /// # Panics
    /// When it does not come, with what stands in the way.
    #[track_caller]
    pub fn await_mode(&self, mode: &str) {
        let mut last = String::new();
        let start = std::time::Instant::now();
        while start.elapsed() < IN_FORCE_LIMIT {
            let status = self.ctl("--json status");
            if serde_json::from_str::<Value>(&status.stdout).is_ok_and(|status| status["mode"] == mode) {
                return;
            }
            last = status.to_string();
            pause(start);
        }
        panic!(
            "{mode} is not in force:\n{last}\n{}",
            self.run("lockdownctl plan; journalctl -u lockdownd -n 30 --no-pager")
        );
    }
}

impl Instance {
    /// Gives the daemon's state a disk of its own. It must be a block device's: no other file system can be frozen (fsfreeze(8)).
    ///
    /// # Panics
    /// When there is no loop device to be had.
    #[track_caller]
    pub fn give_state_its_own_disk(&self) {
        self.sh(
            "set -e; cd /; STATE=/var/lib/lockdownd; systemctl stop lockdownd lockdownd-shipper; cp -a $STATE /root/state; \
             truncate -s 64M /root/state.img; rm -rf $STATE/*; mkfs.ext4 -q /root/state.img; \
             [ -e /dev/loop-control ] || mknod /dev/loop-control c 10 237; \
             for n in $(seq 0 63); do [ -b /dev/loop$n ] || mknod -m 600 /dev/loop$n b 7 $n; done; \
             for try in 1 2 3 4 5; do mount -o loop /root/state.img $STATE && break; sleep 1; done; mountpoint $STATE; \
             chmod --reference=/root/state $STATE; cp -a /root/state/. $STATE/; \
             systemctl start lockdownd-control.socket lockdownd-gate.socket lockdownd",
        );
        self.await_mode("enforce");
    }
}

/// An instance with people in it. It is an [`Instance`] too.
#[derive(Debug)]
pub struct House {
    instance: Instance,
    /// The key of the exempt account `breakglass`, which has it in its home.
    pub breakglass: Key,
    /// frank's key; he may be given `ubuntu` and `frank`.
    pub frank: Key,
    /// grace's key; she may be given `ubuntu` and `grace`.
    pub grace: Key,
}

impl House {
    /// Boots an instance of `release` in mode enforce, in which nobody has a grant.
    #[must_use]
    #[track_caller]
    pub fn enforcing(release: Release) -> Self {
        Self::enforcing_with(release, "")
    }

    /// As [`House::enforcing`], with more configuration: tables other than `[accounts]`, `[[person]]` frank and grace.
    #[must_use]
    #[track_caller]
    pub fn enforcing_with(release: Release, more: &str) -> Self {
        let house = Self::booted(release, "enforce", more);
        // `status` says so before sshd has taken it.
        eventually("enforce holds", IN_FORCE_LIMIT, || {
            house.records_of("mode.changed").iter().any(|record| record["detail"]["mode"] == "enforce")
        });
        house
    }

    /// The same on an instance that has just booted, which comes to it by a reload.
    #[must_use]
    #[track_caller]
    pub fn enforcing_in(instance: Instance, more: &str) -> Self {
        instance.sh(&format!(
            "for account in {}; do useradd -m -s /bin/bash -p '*' $account || exit; done",
            layers::ACCOUNTS.join(" ")
        ));
        let [breakglass, frank, grace] = ["breakglass", "frank", "grace"].map(|name| instance.keygen(name));
        instance.authorize("breakglass", &breakglass);
        let house = Self { instance, breakglass, frank, grace };
        house.configure(&house.config("enforce", more));
        house.await_mode("enforce");
        house
    }

    /// Boots the same in mode observe.
    #[must_use]
    #[track_caller]
    pub fn observing(release: Release) -> Self {
        Self::booted(release, "observe", "")
    }

    /// With its people and its configuration from the first moment.
    #[track_caller]
    fn booted(release: Release, mode: &str, more: &str) -> Self {
        let mut pairs = None;
        let instance = Instance::boot_peopled(release, |instance, keys| {
            instance.own_homes();
            let copied = |name| Key::copy(&keys.join(name), instance.scratch().join(name));
            let [breakglass, frank, grace] = ["breakglass", "frank", "grace"].map(copied);
            let path = instance.outside("/etc/lockdownd/config.toml");
            fs::write(&path, config(&frank, &grace, mode, more)).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            pairs = Some((breakglass, frank, grace));
        });
        let (breakglass, frank, grace) = pairs.expect("it was prepared before it booted");
        Self { instance, breakglass, frank, grace }
    }

    /// The configuration of this house in `mode`, with `more` after it.
    #[must_use]
    pub fn config(&self, mode: &str, more: &str) -> String {
        config(&self.frank, &self.grace, mode, more)
    }

    /// `lockdownctl allow ARGS --reason test`, which has to succeed.
    #[track_caller]
    pub fn allow(&self, args: &str) -> String {
        self.ctl(&format!("allow {args} --reason test")).expect_ok()
    }
}

/// See [`House::config`].
fn config(frank: &Key, grace: &Key, mode: &str, more: &str) -> String {
    let person = |name: &str, key: &Key| {
        format!("[[person]]\nname = \"{name}\"\nkeys = [\"{}\"]\naccounts = [\"ubuntu\", \"{name}\"]\n", key.public())
    };
    let (frank, grace) = (person("frank", frank), person("grace", grace));
    format!("mode = \"{mode}\"\n[accounts]\nexempt = [\"breakglass\"]\n{frank}{grace}{more}\n")
}

impl House {
    /// Puts `hold-mm` in place, whose processes' memory maps nobody can read for minutes.
    ///
    /// # Panics
    /// Where it cannot be compiled.
    pub fn install_hold_mm(&self) {
        let (source, program) = (self.scratch().join("hold-mm.c"), self.scratch().join("hold-mm"));
        fs::write(&source, include_str!("../data/hold-mm.c")).expect("own directory");
        let mut cc = Command::new("cc");
        let built = cc.args(["-O2", "-static", "-pthread", "-o"]).args([&program, &source]).status();
        assert!(built.expect("cc, which cargo links with").success());
        self.copy_in(&program, "/usr/local/bin/hold-mm");
        self.sh("chmod 755 /usr/local/bin/hold-mm");
    }
}

/// How often each session is on record as opened, and as over.
#[must_use]
pub fn sessions_of<'a>(records: impl IntoIterator<Item = &'a Value>) -> BTreeMap<String, (usize, usize)> {
    let mut sessions: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for record in records {
        let Some(id) = record["session"].as_str() else { continue };
        let counts = sessions.entry(id.to_owned()).or_default();
        match record["type"].as_str() {
            Some("session.opened") => counts.0 += 1,
            Some("session.closed" | "session.terminated") => counts.1 += 1,
            _ => {}
        }
    }
    sessions
}

impl Deref for House {
    type Target = Instance;

    fn deref(&self) -> &Instance {
        &self.instance
    }
}

impl DerefMut for House {
    fn deref_mut(&mut self) -> &mut Instance {
        &mut self.instance
    }
}
