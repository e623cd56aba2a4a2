//! What the daemon watches: homes that come, move and go, accounts that come and go, whatever key files sshd's
//! configuration names, the key store, sshd's drop-in, and the files that PAM reads. And the sweep, which trusts no watch.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use instance_tests::{House, eventually, on_each_release};

const STORE: &str = "/run/lockdownd/keys";
const DROP_IN: &str = "/etc/ssh/sshd_config.d/00-lockdownd.conf";
/// What has to happen in milliseconds may take so long on a machine that runs other tests too.
const SOON: Duration = Duration::from_secs(20);

/// Writes a key into ~/.ssh/authorized_keys through shared memory, which no watch sees, and keeps the file open: the
/// file was full of comments when the daemon looked. perl-base has no mmap(2) but syscall(2).
const BLIND_WRITE: &str = r#"
use strict;
my ($file, $keyfile) = @ARGV;
my ($mmap, $read) = `uname -m` =~ /aarch64/ ? (222, 63) : (9, 0);
open(my $keys, '+<', $file) or die "$file: $!";
my $address = syscall($mmap, 0, 4096, 3, 1, fileno($keys), 0);
die "mmap: $!" if $address == -1;
# Whatever the opening has woken is over by now.
sleep 1;
open(my $in, '<', $keyfile) or die "$keyfile: $!";
my $got = syscall($read, fileno($in), $address, 4000);
die "read: $!" if $got < 80;
open(my $done, '>', '/tmp/written'); close $done;
sleep 600;
"#;

/// Whether the account's ~/.ssh/authorized_keys goes within [`SOON`].
#[track_caller]
fn goes(house: &House, path: &str) {
    eventually(&format!("{path} is gone"), SOON, || !house.exists(path));
}

/// The same of an account that was just made: it could be about to become exempt, so its keys stand for a moment.
#[track_caller]
fn goes_from_new(house: &House, path: &str) {
    eventually(&format!("{path} is gone"), Duration::from_secs(15), || !house.exists(path));
}

/// The key store's file of `ubuntu`, which frank's grant backs, as it has to be.
fn with_a_grant(house: &House) -> String {
    house.allow("frank --account ubuntu --for 1h");
    let file = house.sh(&format!("cat {STORE}/ubuntu"));
    assert!(file.contains(house.frank.public().split(' ').nth(1).unwrap()), "{file}");
    file
}

on_each_release! {
    fn keys_go_wherever_their_homes_and_directories_come_from(release) {
        let house = House::enforcing(release);
        let keys = "/home/grace/.ssh/authorized_keys";
        // A .ssh made later, and again.
        for _ in 0..3 {
            house.authorize("grace", &house.grace);
            goes(&house, keys);
            house.run_as("grace", "rm -r .ssh").expect_ok();
        }
        let key = house.grace.public();
        let line = format!("echo '{key}' >");
        // Replaced by rename, written in place, linked, moved in with its directory.
        for script in [
            format!("mkdir .ssh; {line}new; mv new .ssh/authorized_keys"),
            format!(": >.ssh/authorized_keys; sleep 0.2; {line}.ssh/authorized_keys"),
            format!("{line}old; ln old .ssh/authorized_keys; rm old"),
            format!("{line}.ssh/other; mv .ssh/other .ssh/authorized_keys"),
            format!("rm -r .ssh; mkdir away; {line}away/authorized_keys; mv away .ssh"),
            format!("mv .ssh aside; sleep 0.2; {line}aside/authorized_keys; mv aside .ssh"),
        ] {
            house.run_as("grace", &script).expect_ok();
            goes(&house, keys);
        }
        // The home itself: away, back with a key, made anew with a key, another file system.
        house.sh("mv /home/grace /home/aside");
        thread::sleep(Duration::from_millis(300));
        house.sh(&format!("mkdir -p /home/aside/.ssh && {line}/home/aside/.ssh/authorized_keys && mv /home/aside /home/grace"));
        goes(&house, keys);
        house.sh(&format!("rm -r /home/grace; sleep 0.2; mkdir -p /home/grace/.ssh; {line}{keys}"));
        goes(&house, keys);
        house.sh("mkdir -p /srv/new/grace/.ssh && usermod -d /srv/new/grace grace");
        thread::sleep(Duration::from_millis(300));
        house.sh(&format!("{line}/srv/new/grace/.ssh/authorized_keys"));
        goes(&house, "/srv/new/grace/.ssh/authorized_keys");
        house.ctl("verify").expect_ok();
    }

    fn a_key_that_an_unmount_uncovers_goes(release) {
        let house = House::enforcing(release);
        house.sh("mount -t tmpfs tmpfs /home/grace");
        // Nothing is to be heard of it while it is covered.
        thread::sleep(Duration::from_secs(2));
        // The harness sees the instance's files without what is mounted inside.
        let (keys, below) = ("/home/grace/.ssh/authorized_keys", house.outside("/home/grace/.ssh"));
        fs::create_dir_all(&below).unwrap();
        fs::write(below.join("authorized_keys"), house.grace.public()).unwrap();
        thread::sleep(Duration::from_secs(1));
        assert!(!house.exists(keys) && below.join("authorized_keys").exists());
        house.sh("umount /home/grace");
        goes(&house, keys);
        eventually("it is on record", SOON, || house.records_of("key.removed").len() == 1);
    }

    fn accounts_that_come_and_go_are_kept_free_of_keys_too(release) {
        let house = House::enforcing(release);
        let line = format!("echo '{}' >", house.frank.public());
        // cloud-init and skeletons bring keys along with the account.
        house.sh(&format!("mkdir /etc/skel/.ssh && {line}/etc/skel/.ssh/authorized_keys"));
        house.useradd("eve");
        goes_from_new(&house, "/home/eve/.ssh/authorized_keys");
        assert!(!house.ssh("eve").key(&house.frank).login());
        house.sh("userdel -r eve 2>/dev/null");
        assert!(!house.exists("/home/eve"));
        // The same name is another account now.
        house.sh("useradd -m -u 4321 -s /bin/bash -p '*' eve");
        goes_from_new(&house, "/home/eve/.ssh/authorized_keys");
        house.sh(&format!("useradd -M -d /opt/late -s /bin/bash -p '*' late && sleep 0.3 && mkdir -p /opt/late/.ssh && {line}/opt/late/.ssh/authorized_keys"));
        goes_from_new(&house, "/opt/late/.ssh/authorized_keys");
        house.allow("frank --account frank --for 1h");
        assert!(house.ssh("frank").key(&house.frank).login());
        house.sh("userdel -r -f frank 2>/dev/null; ! id frank");
        eventually("the grant on it is over", SOON, || !house.exists(&format!("{STORE}/frank")));
        eventually("and on record", SOON, || house.records_of("grant.ended").len() == 1);
        house.ctl("verify").expect_ok();
    }

    fn key_files_that_sshd_could_be_told_of_are_watched_and_exempt_ones_left_alone(release) {
        let house = House::enforcing(release);
        let line = format!("echo '{}' >", house.grace.public());
        house.sh(&format!("mkdir -p /etc/ssh/keys /etc/keys; {line}/etc/ssh/keys/grace; {line}/etc/keys/grace"));
        for path in ["/etc/ssh/keys/breakglass", "/etc/keys/breakglass"] {
            house.write(path, house.breakglass.public());
        }
        let exempt = house.sh("sha256sum /home/breakglass/.ssh/authorized_keys");
        house.write(
            "/etc/ssh/sshd_config.d/50-ours.conf",
            "AuthorizedKeysFile /etc/ssh/keys/%u\nMatch User grace\nAuthorizedKeysFile %h/.keys /etc/keys/%u\n",
        );
        for path in ["/etc/ssh/keys/grace", "/etc/keys/grace"] {
            goes(&house, path);
        }
        house.run_as("grace", &format!("{line}.keys")).expect_ok();
        goes(&house, "/home/grace/.keys");
        house.sh(&format!("{line}/etc/ssh/keys/grace; {line}/etc/keys/grace"));
        for path in ["/etc/ssh/keys/grace", "/etc/keys/grace"] {
            goes(&house, path);
        }
        for path in ["/etc/ssh/keys/breakglass", "/etc/keys/breakglass"] {
            assert!(house.exists(path), "{path} is an exempt account's");
        }
        assert_eq!(house.sh("sha256sum /home/breakglass/.ssh/authorized_keys"), exempt);
        // sshd reads its configuration again meanwhile, and for some 20 ms nobody listens.
        eventually("the break-glass account gets in", SOON, || house.ssh("breakglass").key(&house.breakglass).login());
        let failed = house.records_of("removal.failed");
        assert!(failed.is_empty(), "{failed:?}");
    }

    fn the_key_store_is_put_right_whatever_root_does_to_it(release) {
        let house = House::enforcing(release);
        let right = with_a_grant(&house);
        let (file, key) = (format!("{STORE}/ubuntu"), house.grace.public());
        for script in [
            format!("echo '{key}' >>{file}"),
            format!("echo '{key}' >{file}"),
            format!("rm {file}"),
            format!("chmod 666 {file}"),
            format!("chown grace {file}"),
            // Renamed into place: the store is put right faster than ln(1) renames what it made in there itself.
            format!("ln -s /etc/shadow /run/new; mv -T /run/new {file}"),
            format!("until mkdir -p {file}/deep/er; do rm -f {file}; done"),
            format!("echo '{key}' >/run/new; mv /run/new {file}"),
            format!("mv {STORE} /run/gone; rm -r /run/gone"),
            format!("mv {STORE} /run/gone; mkdir -m 777 {STORE} || chmod 777 {STORE}"),
            format!("mv -T {STORE} /run/lockdownd/aside; ln -s /etc {STORE}"),
            format!("chmod 777 {STORE}"),
        ] {
            house.sh(&script);
            let is_right = || {
                house.sh(&format!("stat -c '%F %U %a' {STORE} {file} 2>&1; cat {file} 2>&1; true"))
                    == format!("directory root 755\nregular file root 644\n{right}")
            };
            eventually(&format!("right again after {script}"), SOON, is_right);
        }
        for script in [
            format!("echo '{key}' >{STORE}/grace"),
            format!("mkdir -p /run/grace/deep; echo '{key}' >/run/grace/deep/er; mv /run/grace {STORE}/"),
            format!("ln -s /home/breakglass/.ssh/authorized_keys {STORE}/grace"),
            format!("mkfifo {STORE}/grace"),
            format!("echo '{key}' >/run/new; ln /run/new {STORE}/grace; rm /run/new"),
        ] {
            house.sh(&script);
            goes(&house, &format!("{STORE}/grace"));
        }
        assert!(house.exists("/home/breakglass/.ssh/authorized_keys") && house.exists("/etc/shadow"));
        assert!(!house.ssh("grace").key(&house.grace).login());
        assert!(house.ssh("ubuntu").key(&house.frank).login());
        // What was summed up goes on record when the minute is over, or the daemon stops.
        house.sh("systemctl restart lockdownd");
        let told = house.records_of("key.removed");
        let planted = house.grace.fingerprint().into();
        let names = |account: &str| {
            told.iter().any(|record| {
                let fingerprints = record["detail"]["fingerprints"].as_array().unwrap();
                record["account"] == account && fingerprints.contains(&planted)
            })
        };
        assert!(names("ubuntu") && names("grace"), "the planted key is on record: {told:#?}");
        house.ctl("verify").expect_ok();
    }

    fn the_drop_in_and_what_pam_reads_are_put_back_and_a_change_of_sshd_is_on_record(release) {
        let house = House::enforcing(release);
        let files = [DROP_IN, "/var/lib/lockdownd/exempt", "/var/lib/lockdownd/enforcing"];
        let state = || house.sh(&format!("stat -c '%n %U %a' {0}; sha256sum {0}", files.join(" ")));
        let right = state();
        let changes = || house.records_of("sshd.changed").len();
        for script in [
            format!("rm {DROP_IN}"),
            format!("sed -i s,/run/lockdownd/keys/%u,.ssh/authorized_keys, {DROP_IN}"),
        ] {
            let before = changes();
            house.sh(&script);
            eventually(&format!("put back after {script}"), SOON, || house.run(&format!("sha256sum {DROP_IN}")).ok() && state() == right);
            // Changes that come close together are summed up within a minute.
            eventually("on record", Duration::from_secs(75), || changes() > before);
        }
        for script in [
            "rm /var/lib/lockdownd/exempt",
            "echo grace >>/var/lib/lockdownd/exempt",
            "chmod 644 /var/lib/lockdownd/exempt",
            "rm /var/lib/lockdownd/enforcing",
            "echo '{}' >/root/marker; ln -sf /root/marker /var/lib/lockdownd/enforcing",
        ] {
            house.sh(script);
            eventually(&format!("put back after {script}"), SOON, || house.run(&format!("stat {}", files.join(" "))).ok() && state() == right);
        }
        assert!(!house.ssh("grace").key(&house.grace).login());
        assert!(house.ssh("breakglass").key(&house.breakglass).login());
    }

    fn a_key_that_no_watch_could_see_goes_with_the_next_sweep_which_says_what_it_found(release) {
        let house = House::enforcing_with(release, "[schedule]\nsweep = \"*/5 * * * * *\"");
        // An account that was just made is looked at once more when it is new no longer, which no sweep does.
        std::thread::sleep(Duration::from_secs(6));
        house.write("/usr/local/share/key", format!("{}\n", house.grace.public()));
        house.write("/usr/local/share/blind.pl", BLIND_WRITE);
        let keys = "/home/grace/.ssh/authorized_keys";
        house.run_as("grace", "mkdir .ssh; yes '#' | head -c 4096 >.ssh/authorized_keys").expect_ok();
        house.sh(&format!("systemd-run -q --unit=blind --uid=grace perl /usr/local/share/blind.pl {keys} /usr/local/share/key"));
        let start = Instant::now();
        eventually("the key is written, behind the watch's back", Duration::from_secs(10), || house.exists("/tmp/written"));
        eventually("the next sweep has removed it", Duration::from_secs(10), || !house.exists(keys));
        assert!(house.run("systemctl is-active blind").ok(), "the file is still open: {:?}", start.elapsed());
        let removed = &house.records_of("key.removed")[0];
        assert_eq!(removed["fingerprint"], house.grace.fingerprint(), "{removed:#}");

        let swept = || house.records_of("sweep.attested").into_iter().find(|record| record["detail"]["removed"] == 1);
        eventually("the sweep that did it is on record", SOON, || swept().is_some());
        let attested = swept().unwrap();
        let detail = &attested["detail"];
        for field in ["accounts", "files", "keys", "removed", "failed", "unreadable", "grants", "sessions"] {
            assert!(detail[field].is_u64(), "{field}: {attested:#}");
        }
        assert_eq!((&detail["mode"], &detail["keys"], &detail["exempt"][0]), (&"enforce".into(), &1.into(), &"breakglass".into()));
        let moment = |text: &serde_json::Value| text.as_str().unwrap()[..19].to_owned();
        assert!(moment(&detail["next_by"]) > moment(&attested["time"]), "{attested:#}");
        house.ctl("verify").expect_ok();
    }
}
