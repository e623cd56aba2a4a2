//! Who wrote it: records name the process, the login and the person behind a key or a changed configuration.

use std::time::Duration;

use instance_tests::{DAEMON, House, eventually, on_each_release};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(30);
const KEYS: &str = "/home/ubuntu/.ssh/authorized_keys";

/// The removal of a key file of `ubuntu` that comes after `known` others.
fn removal(house: &House, known: usize) -> Value {
    let of = || house.records_of("key.removed").into_iter().filter(|record| record["account"] == "ubuntu");
    eventually("the removal is on record", SOON, || of().count() > known);
    of().nth(known).unwrap()
}

/// A process that moves something and stays for a moment. One that ends at once, as mv(1) does, may be gone before it can
/// be looked at, and then its pid alone is on record.
fn renamed(from: &str, to: &str) -> String {
    format!("perl -e 'rename(\"{from}\", \"{to}\") or die $!; sleep 1'")
}

on_each_release! {
    fn a_removed_key_names_process_login_and_person_however_it_was_written(release) {
        let house = House::enforcing(release);
        let key = house.keygen("planted");
        let login_uid: u32 = house.sh("id -u ubuntu").parse().unwrap();
        house.allow("frank --account ubuntu --for 1h");
        house.allow("grace --account ubuntu --for 1h");
        // With something after it, or the shell becomes sleep(1) itself.
        let stays = "; sleep 0.5; true";
        // One account's removals within a minute are summed up per writer: so each way has a person or login of its own.
        let written = format!("mkdir -p .ssh; echo '{}' > .ssh/authorized_keys{stays}", key.public());
        house.ssh("ubuntu").key(&house.frank).run(&written).expect_ok();
        let record = removal(&house, 0);
        let actor = &record["actor"];
        assert_eq!((actor["person"].as_str(), actor["login_uid"].as_u64()), (Some("frank"), Some(login_uid.into())), "{record}");
        assert_eq!(actor["uid"], login_uid, "{record}");
        assert!(actor["exe"].as_str().is_some_and(|exe| exe.ends_with("/bash")) && actor["pid"].is_u64(), "{record}");
        assert_eq!((&record["detail"]["logins"], record["detail"]["stood_milliseconds"].is_u64()), (&0.into(), true));

        let moved = format!("echo '{}' > planted; {}", key.public(), renamed("planted", ".ssh/authorized_keys"));
        house.ssh("ubuntu").key(&house.grace).run(&moved).expect_ok();
        let record = removal(&house, 1);
        assert_eq!((&record["actor"]["person"], &record["detail"]["writer"]), (&"grace".into(), &"file".into()), "{record}");

        // Root without a login, as cloud-init is: truncates what stands, and ends at once.
        house.sh(&format!("echo '{}' > {KEYS}", key.public()));
        let record = removal(&house, 2);
        let actor = &record["actor"];
        assert!(actor["pid"].is_u64() && actor.get("login_uid").is_none() && actor.get("person").is_none(), "{record}");
        assert_ne!(record["detail"]["writer"], "unknown", "{record}");
    }

    fn a_new_directory_with_a_key_in_it_names_who_brought_it(release) {
        let house = House::enforcing(release);
        let key = house.keygen("planted");
        house.allow("frank --account ubuntu --for 1h");
        let make = format!("rm -rf .ssh; mkdir new; echo '{}' > new/authorized_keys", key.public());
        let script = format!("{make}; {}", renamed("new", ".ssh"));
        house.ssh("ubuntu").key(&house.frank).run(&script).expect_ok();
        let record = removal(&house, 0);
        assert_eq!((&record["actor"]["person"], &record["detail"]["writer"]), (&"frank".into(), &"directory".into()), "{record}");
    }

    fn changed_configuration_names_who_changed_it(release) {
        let house = House::enforcing(release);
        let known = house.records_of("sshd.changed").len();
        house.sh("echo '# by hand' >> /etc/ssh/sshd_config; sleep 0.3");
        eventually("it is on record", SOON, || house.records_of("sshd.changed").len() > known);
        let record = house.records_of("sshd.changed")[known].clone();
        assert!(record["actor"]["pid"].is_u64() && record["actor"]["uid"] == 0, "{record}");
        assert!(record["actor"]["exe"].as_str().is_some_and(|exe| exe.starts_with("/usr/bin/")), "{record}");

        house.sh("useradd -m newcomer");
        let of_accounts = || house.records_of("sshd.changed").into_iter().find(|record| record["detail"]["changed"] == serde_json::json!(["accounts"]));
        eventually("it is on record", SOON, || of_accounts().is_some());
        let record = of_accounts().unwrap();
        assert_eq!(record["actor"]["exe"], "/usr/sbin/useradd", "{record}");
    }

    fn logins_with_a_key_while_it_stood_are_told(release) {
        let house = House::observing(release);
        house.authorize("ubuntu", &house.frank);
        house.ssh("ubuntu").key(&house.frank).run("true").expect_ok();
        house.configure(&house.config("enforce", ""));
        house.await_mode("enforce");
        let record = removal(&house, 0);
        let session = house.records_of("session.opened").into_iter().find(|record| record["account"] == "ubuntu").unwrap();
        assert_eq!(record["detail"]["logins"], 1, "{record}");
        assert_eq!(record["detail"]["sessions"][0], session["session"], "{record}");
    }

    fn without_fanotify_the_writer_is_unknown_and_the_daemon_says_so_once(release) {
        let house = House::enforcing(release);
        house.write("/etc/systemd/system/lockdownd.service.d/no.conf", "[Service]\nExecStartPre=\n");
        // Not a restart: over that systemd keeps what it was given.
        house.sh("systemctl daemon-reload; systemctl stop lockdownd; systemctl start lockdownd");
        house.await_mode("enforce");
        house.authorize("ubuntu", &house.frank);
        let record = removal(&house, 0);
        assert_eq!(record["detail"]["writer"], "unknown", "{record}");
        assert!(record.get("actor").is_none(), "{record}");
        let said = house.journal("-u lockdownd");
        assert_eq!(said.matches("does not tell who writes").count(), 1, "{said}");
    }

    fn the_daemon_never_has_the_capability_that_it_takes_to_learn_of_writers(release) {
        let house = House::enforcing(release);
        let held = house.sh(&format!("sort -u /proc/{DAEMON}/task/*/status | sed -n 's/^Cap\\(Eff\\|Prm\\|Inh\\|Amb\\|Bnd\\):\\t//p'"));
        for set in held.lines() {
            assert_eq!(u64::from_str_radix(set, 16).unwrap() >> 21 & 1, 0, "CAP_SYS_ADMIN is held: {held}");
        }
        assert!(held.lines().count() >= 3, "{held}");
    }
}
