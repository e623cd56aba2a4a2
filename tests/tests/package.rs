//! The package: installing locks nobody out, upgrading refuses nobody, removing leaves logins as they were, and purging
//! keeps the evidence.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use instance_tests::{House, Instance, built_compliance_api, built_package, eventually, on_each_release, step};

const DROP_IN: &str = "/etc/ssh/sshd_config.d/00-lockdownd.conf";

fn dpkg_deb(args: &[&str]) {
    assert!(Command::new("dpkg-deb").args(args).status().unwrap().success());
}

/// The package under test, repacked with another version, and changed otherwise.
fn repacked(scratch: &Path, name: &str, version: impl Fn(&str) -> String, change: impl Fn(&Path)) -> PathBuf {
    let (tree, deb) = (scratch.join(name), scratch.join(format!("{name}.deb")));
    dpkg_deb(&["-R", built_package().to_str().unwrap(), tree.to_str().unwrap()]);
    let control = tree.join("DEBIAN/control");
    let text = fs::read_to_string(&control).unwrap();
    let line = text.lines().find(|line| line.starts_with("Version: ")).unwrap();
    fs::write(&control, text.replace(line, &version(line))).unwrap();
    change(&tree);
    dpkg_deb(&["--root-owner-group", "-Zgzip", "-b", tree.to_str().unwrap(), deb.to_str().unwrap()]);
    deb
}

/// The package under test, with a later version and another configuration to begin with.
fn later_package(scratch: &Path) -> PathBuf {
    repacked(
        scratch,
        "later",
        |version| format!("{version}+later"),
        |tree| {
            let shipped = ["usr/share/lockdownd/config.toml", "etc/lockdownd/config.toml"].map(|path| tree.join(path));
            let shipped = shipped.into_iter().find(|path| path.exists()).expect("it ships one");
            let text = fs::read_to_string(&shipped).unwrap();
            fs::write(shipped, text + "# later\n").unwrap();
        },
    )
}

/// The package as an earlier version had it, with config.toml as a conffile.
fn earlier_package(scratch: &Path) -> PathBuf {
    repacked(
        scratch,
        "earlier",
        |_| "Version: 0.0.9-1".to_owned(),
        |tree| {
            fs::write(tree.join("etc/lockdownd/config.toml"), "mode = \"observe\"\n# as it was shipped\n").unwrap();
            let conffiles = tree.join("DEBIAN/conffiles");
            let rest = fs::read_to_string(&conffiles).unwrap();
            let rest = rest.lines().filter(|line| !line.ends_with("/config.toml")).map(|line| format!("{line}\n"));
            fs::write(&conffiles, rest.collect::<String>() + "/etc/lockdownd/config.toml\n").unwrap();
        },
    )
}

/// The targets of a page's links that are no addresses.
fn links(page: &str) -> impl Iterator<Item = &str> {
    let targets = page.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
    targets.filter(|target| !target.is_empty() && !target.contains("://"))
}

#[test]
fn what_the_packages_say_leads_to_files_that_they_hold_and_dpkg_can_verify_them() {
    let changelog = include_str!("../../packaging/changelog");
    let version = changelog.split(['(', ')']).nth(1).unwrap();
    assert_eq!(version.split('-').next(), Some(env!("CARGO_PKG_VERSION")), "the programs' version is the package's");
    for (name, package) in [("lockdownd", built_package()), ("compliance-api", built_compliance_api())] {
        let tree = tempfile::tempdir().unwrap();
        dpkg_deb(&["-R", package.to_str().unwrap(), tree.path().to_str().unwrap()]);
        let sh = |script: &str| {
            let done =
                Command::new("bash").args(["-o", "pipefail", "-c", script]).current_dir(tree.path()).output().unwrap();
            assert!(done.status.success(), "{package:?}: {script}: {done:?}");
            String::from_utf8(done.stdout).unwrap()
        };
        sh("md5sum --quiet -c DEBIAN/md5sums");
        assert!(sh("cat DEBIAN/control").contains(&format!("Version: {version}")));
        let pages = sh("find usr/share/doc -name '*.md'");
        assert!(pages.contains("RECORDS.md"), "{pages}");
        for page in pages.lines().map(|page| tree.path().join(page)) {
            for target in links(&fs::read_to_string(&page).unwrap()) {
                assert!(page.with_file_name(target).exists(), "{package:?}: {page:?} links to {target}");
            }
        }
        // Of its own: another's may not be installed.
        let named = format!("'/usr/share/(doc/)?{name}/[A-Za-z0-9_./\\\\-]*[A-Za-z0-9]'");
        let missing = sh(&format!(
            "{{ grep -rhoE {named} etc usr/share/doc usr/share/*/config.toml || true; zcat usr/share/man/*/*.gz | grep -oE {named} || true; }} \
             | tr -d '\\\\' | sort -u | while read -r path; do [ -e \".$path\" ] || echo \"$path\"; done"
        ));
        assert_eq!(missing, "", "{package:?}");
    }
}

/// Has git(1) add what lies in /etc/lockdownd, as etckeeper(8) does, and sees that it takes no secret.
fn no_secret_is_committed(instance: &Instance) {
    let repository = instance.scratch().join("etc");
    fs::create_dir_all(repository.join("lockdownd")).unwrap();
    instance.write("/etc/lockdownd/credentials/enrolment-token", "secret");
    let copied = instance.outside("/etc/lockdownd/credentials");
    assert!(Command::new("cp").arg("-r").args([&copied, &repository.join("lockdownd")]).status().unwrap().success());
    let git = |args: &[&str]| {
        let done = Command::new("git").arg("-C").arg(&repository).args(args).output().unwrap();
        assert!(done.status.success(), "git {args:?}: {done:?}");
        String::from_utf8(done.stdout).unwrap()
    };
    git(&["init", "-q"]);
    git(&["add", "-A"]);
    assert_eq!(git(&["ls-files"]), "");
    assert!(repository.join("lockdownd/credentials/enrolment-token").exists());
}

on_each_release! {
    fn installing_starts_the_daemon_in_observe_and_locks_nobody_out(release) {
        let instance = Instance::boot_bare(release);
        instance.useradd("frank");
        let key = instance.keygen("frank");
        instance.authorize("frank", &key);
        instance.install(&built_package()).expect_ok();
        assert_eq!(instance.ctl_json("status")["mode"], "observe");
        assert!(instance.ssh("frank").key(&key).login());
        assert!(!instance.exists(DROP_IN));
        assert_eq!(instance.sh("systemctl is-enabled lockdownd.service lockdownd-gate.socket"), "enabled\nenabled");
        for stack in ["common-account", "common-session"] {
            instance.sh(&format!("grep -q /usr/lib/lockdownd/login-gate /etc/pam.d/{stack}"));
        }
        instance.sh("journalctl --list-catalog | grep -qi lockdownd");
        assert_eq!(instance.sh("dpkg -V lockdownd"), "", "what lies on disk is what was packed");
    }

    fn what_is_installed_is_owned_linked_and_hardened_as_planned_and_comes_back_when_it_is_killed(release) {
        let instance = Instance::boot(release);
        step("owners and modes");
        let is = |path: &str| instance.sh(&format!("stat -c '%U:%G %a' {path}"));
        assert_eq!(is("/run/lockdownd"), "root:root 755");
        assert_eq!(is("/run/lockdownd/control.sock"), "root:root 666");
        assert_eq!(is("/run/lockdownd/gate.sock"), "root:root 600");
        assert_eq!(is("/var/lib/lockdownd"), "root:root 711");
        assert_eq!(is("/var/lib/lockdownd/ledger"), "root:_lockdownd 750");
        assert_eq!(is("/var/lib/lockdownd/ledger/*.jsonl"), "root:_lockdownd 640");
        assert_eq!(is("/var/lib/lockdownd/quarantine"), "root:root 700");
        assert_eq!(is("/var/lib/lockdownd/signing_key"), "root:root 600");
        assert_eq!(is("/etc/lockdownd/config.toml"), "root:root 644");
        instance.sh("runuser -u _lockdownd -- cat /var/lib/lockdownd/ledger/*.jsonl");
        assert!(!instance.run("runuser -u nobody -- ls /var/lib/lockdownd/ledger").ok());
        no_secret_is_committed(&instance);

        step("the gate is static");
        let said = instance.run("ldd /usr/lib/lockdownd/login-gate");
        let said = format!("{}{}", said.stdout, said.stderr);
        assert!(said.contains("statically linked") || said.contains("not a dynamic executable"), "{said}");

        step("the unit is hardened");
        let score = instance.sh("systemd-analyze security --no-pager lockdownd | sed -n 's/.*exposure level.*: \\([0-9.]*\\) .*/\\1/p'");
        assert!(score.parse::<f32>().is_ok_and(|score| score <= 3.0), "exposure {score}");
        assert_eq!(instance.sh("systemctl show -P PrivateNetwork lockdownd"), "yes");

        step("no mount point of the sandbox stands between homes and quarantine");
        instance.useradd("frank");
        let rename = "perl -e 'rename(\"/home/frank/.profile\", \"/var/lib/lockdownd/quarantine/probe\") or die $!'";
        instance.sh(&format!("nsenter -m -t \"$(systemctl show -P MainPID lockdownd)\" {rename}"));

        step("the daemon comes back when it is killed");
        let first = instance.sh("systemctl show -P MainPID lockdownd");
        for _ in 0..10 {
            instance.sh("systemctl kill -s KILL lockdownd; sleep 0.4");
        }
        eventually("the daemon answers again", Duration::from_secs(20), || instance.ctl("status").ok());
        assert_ne!(instance.sh("systemctl show -P MainPID lockdownd"), first);
    }

    fn an_upgrade_keeps_the_sockets_the_grants_and_the_connections(release) {
        let house = House::enforcing(release);
        house.allow("frank --account ubuntu --for 1h");
        let mut client = house.ssh("ubuntu").key(&house.frank).stay();
        let sockets = "systemctl show -P ActiveEnterTimestampMonotonic lockdownd-gate.socket lockdownd-control.socket";
        let (before, daemon) = (house.sh(sockets), house.sh("systemctl show -P MainPID lockdownd"));
        let later = later_package(&house.scratch());
        house.copy_in(&later, "/root/later.deb");
        house.sh("systemd-run -q --unit=upgrade -E DEBIAN_FRONTEND=noninteractive dpkg -i /root/later.deb");
        let mut logins = 0;
        while house.sh("systemctl is-active upgrade || true") != "inactive" {
            assert!(house.ssh("ubuntu").key(&house.frank).login(), "login {logins} of those during the upgrade");
            logins += 1;
        }
        assert!(logins > 0);
        assert!(house.sh("dpkg-query -W -f '${Version} ${Status}' lockdownd").ends_with("+later install ok installed"));
        assert_eq!(house.sh(sockets), before);
        assert_ne!(house.sh("systemctl show -P MainPID lockdownd"), daemon);
        assert!(client.is_alive());
        house.ctl("revoke frank --reason over").expect_ok();
        client.ended_within(Duration::from_secs(5));
        house.ctl("verify").expect_ok();
    }

    fn an_upgrade_asks_nothing_and_leaves_the_edited_configuration_alone(release) {
        const EDITED: &str = "mode = \"observe\"\n# by hand\n";
        let instance = Instance::boot_bare(release);
        let upgrade = |deb: &Path| {
            instance.copy_in(deb, "/root/new.deb");
            instance.run("dpkg -i /root/new.deb </dev/null 2>&1")
        };
        upgrade(&earlier_package(&instance.scratch())).expect_ok();
        instance.write("/etc/lockdownd/config.toml", EDITED);
        for deb in [built_package(), later_package(&instance.scratch())] {
            let said = upgrade(&deb).expect_ok();
            assert!(!said.contains("onfiguration file"), "{said}");
            assert_eq!(instance.sh("cat /etc/lockdownd/config.toml"), EDITED.trim_end());
            assert_eq!(instance.sh("find /etc/lockdownd -name '*.dpkg-*'"), "");
            eventually("the daemon answers", Duration::from_secs(30), || instance.ctl("status").ok());
        }
        // What an administrator took away stays away, and a first installation brings it.
        instance.sh("rm /etc/lockdownd/config.toml && dpkg -i /root/new.deb </dev/null && ! test -e /etc/lockdownd/config.toml");
        instance.sh("DEBIAN_FRONTEND=noninteractive dpkg -P lockdownd");
        upgrade(&built_package()).expect_ok();
        assert!(instance.sh("cat /etc/lockdownd/config.toml").contains("mode = \"observe\""));
    }

    fn a_signed_repository_of_the_built_packages_installs_and_upgrades_and_nothing_else_is_taken(release) {
        let instance = Instance::boot_bare(release);
        let (home, repository) = (tempfile::tempdir().unwrap(), instance.scratch().join("repository"));
        let host = |script: &str| {
            let script = format!("set -e; cd {}/..; {script}", env!("CARGO_MANIFEST_DIR"));
            let done = Command::new("bash").args(["-c", &script]).env("GNUPGHOME", home.path()).output().unwrap();
            assert!(done.status.success(), "{script}: {done:?}");
        };
        host("for name in house other; do gpg --batch --quiet --passphrase '' --quick-gen-key $name@example.com ed25519 sign never; done");
        // Served from a directory: the instance has no network.
        let publish = |key: &str, deb: &Path| {
            let (to, deb) = (repository.display(), deb.display());
            let served = instance.outside("/srv/repository");
            let served = served.display();
            host(&format!("packaging/repository {to} --key {key}@example.com {deb}; rm -rf {served}; cp -r {to} {served}; chmod -R a+rX {served}"));
        };
        publish("house", &built_package());
        instance.sh("rm -f /etc/apt/sources.list /etc/apt/sources.list.d/*; mkdir -p /etc/apt/keyrings; \
                     cp /srv/repository/key.asc /etc/apt/keyrings/lockdownd.asc; \
                     sed 's|https://.*|file:/srv/repository|' /srv/repository/lockdownd.sources >/etc/apt/sources.list.d/lockdownd.sources");
        let apt = |args: &str| instance.run(&format!("DEBIAN_FRONTEND=noninteractive apt-get -q -y {args} </dev/null 2>&1"));
        let version = || instance.sh("dpkg-query -W -f '${Version}' lockdownd");
        apt("update").expect_ok();
        apt("install --no-install-recommends lockdownd").expect_ok();
        let first = version();
        eventually("the daemon answers", Duration::from_secs(30), || instance.ctl("status").ok());

        publish("house", &later_package(&instance.scratch()));
        apt("update").expect_ok();
        apt("upgrade").expect_ok();
        assert_eq!(version(), format!("{first}+later"));
        assert!(apt(&format!("install -s --allow-downgrades lockdownd={first}")).ok(), "the earlier one can be had too");

        // Signed by somebody else, and changed after it was signed.
        publish("other", &built_package());
        let said = apt("-o APT::Update::Error-Mode=any update");
        assert!(!said.ok(), "{said}");
        publish("house", &built_package());
        instance.sh("sed -i 's/^Version: /Version: 9/' /srv/repository/dists/stable/main/binary-*/Packages; rm /srv/repository/dists/stable/main/binary-*/*.gz");
        instance.sh("rm -rf /var/lib/apt/lists/*");
        assert!(!apt("-o APT::Update::Error-Mode=any update").ok() && !instance.sh("apt-cache policy lockdownd").contains(" 9"));
        // The agent that gpg started goes with its home.
        host("gpgconf --kill all");
    }

    fn removal_leaves_logins_as_they_were_and_puts_no_key_back(release) {
        let house = House::enforcing(release);
        house.authorize("grace", &house.grace);
        eventually("the key is in quarantine", Duration::from_secs(30), || !house.exists("/home/grace/.ssh/authorized_keys"));
        house.allow("frank --account ubuntu --for 1h");
        let mut client = house.ssh("ubuntu").key(&house.frank).stay();
        let said = house.sh("DEBIAN_FRONTEND=noninteractive dpkg -r lockdownd");
        client.ended_within(Duration::from_secs(5));
        assert!(said.contains("1 grant ended, 1 session cut"), "{said}");
        assert!(said.contains("NOT put back") && said.contains("quarantine"), "{said}");
        assert!(said.contains("sshd -t") && said.contains(DROP_IN), "{said}");

        assert!(!house.exists(DROP_IN));
        assert!(!house.run("grep -r login-gate /etc/pam.d").ok());
        house.sh("/usr/sbin/sshd -t");
        assert!(!house.exists("/home/grace/.ssh/authorized_keys"));
        assert!(!house.ssh("ubuntu").key(&house.frank).login(), "the grant is over");
        assert!(house.ssh("breakglass").key(&house.breakglass).login());
        house.authorize("grace", &house.grace);
        assert!(house.ssh("grace").key(&house.grace).login(), "as it was before lockdownd");
        assert!(!house.exists("/run/lockdownd"));
        house.sh("systemctl reset-failed; ! systemctl is-active lockdownd lockdownd-gate.socket lockdownd-control.socket");
    }

    fn removal_locks_nobody_out_where_the_pam_stack_was_edited_by_hand(release) {
        let house = House::enforcing(release);
        let ours = "/^account.*requisite.*login-gate/a account required pam_access.so";
        house.sh(&format!("sed -i '{ours}' /etc/pam.d/common-account"));
        house.allow("frank --account ubuntu --for 1h");
        assert!(house.ssh("ubuntu").key(&house.frank).login());
        let said = house.run("DEBIAN_FRONTEND=noninteractive dpkg -r lockdownd");
        assert!(said.ok() && said.stderr.contains("/etc/pam.d/common-account") && said.stderr.contains("lets everybody by"), "{said}");
        assert!(!said.stdout.contains("took the login gate out"), "{said}");
        let works = || {
            house.sh("su grace -c true");
            assert!(house.ssh("breakglass").key(&house.breakglass).login());
            house.authorize("grace", &house.grace);
            assert!(house.ssh("grace").key(&house.grace).login(), "as it was before lockdownd");
        };
        works();
        house.sh("DEBIAN_FRONTEND=noninteractive dpkg -P lockdownd");
        works();
        // Installed again, the gate is the gate.
        house.install(&built_package()).expect_ok();
        house.sh("file -b /usr/lib/lockdownd/login-gate 2>/dev/null | grep -qi elf || head -c 4 /usr/lib/lockdownd/login-gate | grep -q ELF");
    }

    fn grants_are_over_when_the_package_is_removed_also_by_the_record_and_where_no_daemon_could_end_them(release) {
        let house = House::enforcing(release);
        let install = || {
            house.install(&built_package()).expect_ok();
            house.await_mode("enforce");
        };
        let ended = || house.records_of("grant.ended").len();
        let closed = || house.records_of("session.terminated").len() + house.records_of("session.closed").len();
        house.allow("frank --account ubuntu --for 1h");
        let mut client = house.ssh("ubuntu").key(&house.frank).stay();
        house.sh("DEBIAN_FRONTEND=noninteractive dpkg -r lockdownd");
        client.ended_within(Duration::from_secs(5));
        assert_eq!((ended(), closed(), house.records_of("lockdown").len()), (1, 1, 1), "before anything is installed again");
        install();
        assert_eq!(house.ctl_json("status")["active_grants"], 0);
        assert!(!house.ssh("ubuntu").key(&house.frank).login());

        house.allow("frank --account ubuntu --for 1h");
        let mut client = house.ssh("ubuntu").key(&house.frank).stay();
        house.sh("systemctl stop lockdownd");
        let said = house.run("DEBIAN_FRONTEND=noninteractive dpkg -r lockdownd");
        assert!(said.ok() && said.stderr.contains("the daemon could not end the grants"), "{said}");
        assert!(!said.stdout.contains("ended"), "{said}");
        assert!(client.is_alive());
        install();
        client.ended_within(Duration::from_secs(10));
        assert_eq!(house.ctl_json("status")["active_grants"], 0);
        assert!(!house.ssh("ubuntu").key(&house.frank).login());
        eventually("the session's end is on record", Duration::from_secs(10), || closed() == 2);
        assert_eq!((ended(), house.records_of("lockdown").len()), (2, 2));
        // Once.
        house.allow("frank --account ubuntu --for 1h");
        house.sh("systemctl restart lockdownd");
        assert!(house.ssh("ubuntu").key(&house.frank).login());
        house.ctl("verify").expect_ok();
    }

    fn an_sshd_that_is_purged_takes_nothing_along_and_is_closed_when_it_comes_back(release) {
        let house = House::enforcing(release);
        house.allow("frank --account ubuntu --for 1h");
        // There is no network: what the package installs is put back by hand.
        house.sh("dpkg -L openssh-server >/root/files; ls /etc/ssh/sshd_config /etc/ssh/ssh_host_* >>/root/files; \
                  tar -C / --no-recursion -cf /root/sshd.tar -T /root/files");
        let said = house.sh("DEBIAN_FRONTEND=noninteractive apt-get -y purge openssh-server");
        assert!(!said.contains("lockdownd*"), "{said}");
        assert!(!house.exists("/usr/sbin/sshd"));
        assert_eq!(house.sh("dpkg-query -W -f '${Status}' lockdownd"), "install ok installed");
        house.ctl("status").expect_ok();
        house.sh("systemctl restart lockdownd");
        assert_eq!(house.ctl_json("status")["mode"], "enforce");
        assert_eq!(house.ctl_json("status")["active_grants"], 1);
        house.sh(&format!("mkdir -p /srv/keys; echo '{}' >/srv/keys/grace", house.grace.public()));
        house.sh("tar -C / -xf /root/sshd.tar; rm -f /etc/ssh/sshd_config.d/00-lockdownd.conf; \
                  echo 'AuthorizedKeysFile /srv/keys/%u .ssh/authorized_keys' >>/etc/ssh/sshd_config; \
                  getent passwd sshd >/dev/null || useradd -r -d /run/sshd -s /usr/sbin/nologin sshd; mkdir -p /run/sshd; \
                  systemctl daemon-reload; systemctl start ssh");
        assert!(!house.ssh("grace").key(&house.grace).login(), "the gate stands before sshd's first login");
        eventually("the drop-in is back", Duration::from_secs(30), || house.exists(DROP_IN));
        eventually("who has a grant gets in", Duration::from_secs(30), || house.ssh("ubuntu").key(&house.frank).login());
        assert!(!house.ssh("grace").key(&house.grace).login());
        assert!(house.ssh("breakglass").key(&house.breakglass).login());
        house.ctl("verify").expect_ok();
    }

    fn purging_keeps_the_evidence_and_a_new_installation_begins_anew(release) {
        let house = House::enforcing(release);
        house.allow("frank --account ubuntu --for 1h");
        house.sh("systemctl stop lockdownd-gate.socket lockdownd-control.socket lockdownd.service");
        let ledger = house.sh("cat /var/lib/lockdownd/ledger/*.jsonl | sha256sum");
        house.sh("cd /var/lib/lockdownd; mkdir -p set-aside/old; cp -r ledger signing_key signing_key.pub set-aside/old/");
        let said = house.sh("DEBIAN_FRONTEND=noninteractive dpkg -P lockdownd");
        assert!(said.contains("/var/lib/lockdownd/purged-"), "{said}");
        let advice = said.lines().find_map(|line| line.split_once("lockdownctl verify ")).expect("how to verify it").1.to_owned();
        assert!(!house.exists("/etc/lockdownd"));
        assert_eq!(house.sh("ls /var/lib/lockdownd | grep -v '^purged-' || true"), "");
        assert_eq!(house.sh("cat /var/lib/lockdownd/purged-*/ledger/*.jsonl | sha256sum"), ledger);
        assert_eq!(house.sh("cat /var/lib/lockdownd/purged-*/set-aside/old/ledger/*.jsonl | sha256sum"), ledger);
        assert_eq!(house.sh("find /var/lib/lockdownd -name signing_key"), "", "no private key outlives a purge");

        house.install(&built_package()).expect_ok();
        assert_eq!(house.ctl_json("status")["mode"], "observe");
        assert_eq!(house.records()[0]["seq"], 1);
        house.ctl("verify").expect_ok();
        house.ctl(&format!("verify {advice}")).expect_ok();
    }
}
