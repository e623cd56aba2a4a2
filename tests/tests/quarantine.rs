//! Quarantine, from removal to giving back, and what is on record about it.

use std::thread;
use std::time::Duration;

use instance_tests::{House, eventually, on_each_release};
use serde_json::Value;

const KEYS: &str = "/home/grace/.ssh/authorized_keys";
const SOON: Duration = Duration::from_secs(20);

/// What is kept now, of everybody.
fn items(house: &House) -> Vec<Value> {
    house.ctl_json("quarantine list")["items"].as_array().unwrap().clone()
}

/// Waits until as many items are kept, and gives them.
#[track_caller]
fn await_items(house: &House, count: usize) -> Vec<Value> {
    eventually(&format!("{count} items are kept"), SOON, || items(house).len() == count);
    items(house)
}

/// Writes grace's key and waits until it is gone.
#[track_caller]
fn lose_a_key(house: &House) {
    house.authorize("grace", &house.grace);
    eventually("the key is gone", SOON, || !house.exists(KEYS));
}

on_each_release! {
    fn what_is_removed_is_listed_shown_and_given_back_beside_its_name_under_enforce(release) {
        let house = House::enforcing(release);
        lose_a_key(&house);
        let item = &await_items(&house, 1)[0];
        let id = item["id"].as_str().unwrap();
        assert_eq!((&item["account"], &item["path"]), (&"grace".into(), &KEYS.into()));
        assert_eq!(item["fingerprints"][0], house.grace.fingerprint());
        let shown = house.ctl_json(&format!("quarantine show {id}"));
        assert_eq!(shown["lines"][0], house.grace.public());
        assert_eq!((&shown["file_type"], &shown["mode"]), (&"file".into(), &0o600.into()));
        let table = house.ctl("quarantine list").expect_ok();
        assert!(table.contains(id) && table.contains("grace"), "{table}");

        let said = house.ctl(&format!("quarantine restore {id}")).expect_ok();
        let place = format!("{KEYS}.restored-{id}");
        assert!(said.contains(&place), "{said}");
        assert_eq!(house.sh(&format!("stat -c '%U:%G %a' {place}; cat {place}")), format!("grace:grace 600\n{}", house.grace.public()));
        assert!(!house.ssh("grace").key(&house.grace).login());
        let restored = &house.records_of("quarantine.restored")[0];
        assert_eq!((&restored["account"], &restored["detail"]["path"]), (&"grace".into(), &place.as_str().into()));
        assert_eq!(restored["actor"]["uid"], 0);
        let again = house.ctl(&format!("quarantine restore {id}"));
        assert_eq!(again.status, 1, "never over anything: {again}");
        assert!(house.exists(&place));
        assert_eq!(house.ctl("quarantine restore q-0000000000000000").status, 1);
        assert_eq!(house.ctl("quarantine show ../../signing_key").status, 2);
    }

    fn in_observe_it_comes_back_under_its_own_name_and_opens_the_door_again(release) {
        let house = House::observing(release);
        house.authorize("grace", &house.grace);
        thread::sleep(Duration::from_millis(1_200));
        house.configure(&house.config("enforce", ""));
        house.await_mode("enforce");
        let item = await_items(&house, 1)[0].clone();
        let removed = &house.records_of("key.removed")[0];
        let stood = removed["detail"]["stood_milliseconds"].as_u64().unwrap();
        assert!((1_000..60_000).contains(&stood), "{removed:#}");
        assert!(!house.ssh("grace").key(&house.grace).login());

        house.configure(&house.config("observe", ""));
        house.await_mode("observe");
        house.ctl(&format!("quarantine restore {}", item["id"].as_str().unwrap())).expect_ok();
        assert_eq!(house.sh(&format!("cat {KEYS}")), house.grace.public());
        assert!(house.ssh("grace").key(&house.grace).login());

        // An exempt account gets it back under its own name in enforce too, and its .ssh with it.
        house.sh("rm -r /home/grace/.ssh");
        let exempt = house.config("enforce", "").replace("[\"breakglass\"]", "[\"breakglass\", \"grace\"]");
        house.configure(&exempt.replace("[\"ubuntu\", \"grace\"]", "[\"ubuntu\"]"));
        house.await_mode("enforce");
        let said = house.ctl(&format!("quarantine restore {}", item["id"].as_str().unwrap())).expect_ok();
        assert!(said.contains(KEYS) && !said.contains("removed again"), "{said}");
        assert_eq!(house.sh("stat -c '%U:%G %a' /home/grace/.ssh"), "grace:grace 700");
        assert!(house.ssh("grace").key(&house.grace).login());
        house.ctl("verify").expect_ok();
    }

    fn nobody_is_given_what_was_never_theirs(release) {
        let house = House::enforcing(release);
        // A file of frank's that everybody may write, and so link into their own home (proc_sys_fs(5)).
        house.sh("install -d /srv/frank; echo secret >/srv/frank/notes; \
                  chown frank /srv/frank/notes; chmod 666 /srv/frank/notes");
        house.run_as("grace", "mkdir .ssh; ln /srv/frank/notes .ssh/authorized_keys").expect_ok();
        house.run_as("ubuntu", "mkdir .ssh; ln -s /etc/shadow .ssh/authorized_keys").expect_ok();
        let kept = await_items(&house, 2);
        let of = |account: &str| kept.iter().find(|item| item["account"] == account).unwrap();
        for account in ["grace", "ubuntu"] {
            let said = house.ctl(&format!("quarantine restore {}", of(account)["id"].as_str().unwrap()));
            assert_eq!(said.status, 1, "{said}");
            assert_eq!(house.sh(&format!("ls -A /home/{account}/.ssh")), "", "nothing came");
        }
        assert_eq!(of("ubuntu")["restorable"], false);
        let shown = house.ctl_json(&format!("quarantine show {}", of("ubuntu")["id"].as_str().unwrap()));
        assert_eq!((&shown["link_target"], shown["lines"].to_string().contains("root:")), (&"/etc/shadow".into(), false));
        assert_eq!(house.sh("stat -c '%U %a %h' /srv/frank/notes; cat /srv/frank/notes"), "frank 666 1\nsecret");
        assert!(house.records_of("quarantine.restored").is_empty());
    }

    fn a_restore_follows_no_link_and_goes_into_no_other_home(release) {
        let house = House::enforcing(release);
        lose_a_key(&house);
        let id = await_items(&house, 1)[0]["id"].as_str().unwrap().to_owned();
        house.sh("install -d -m 777 /srv/open");
        for script in [
            "rm -rf .ssh; ln -s /srv/open .ssh".to_owned(),
            "rm -f .ssh; touch .ssh".to_owned(),
            format!("rm -rf .ssh; mkdir .ssh; ln -s /srv/open/planted .ssh/authorized_keys.restored-{id}"),
        ] {
            house.run_as("grace", &script).expect_ok();
            let said = house.ctl(&format!("quarantine restore {id}"));
            // A link on the way is itself removed within milliseconds, and then the restore may well succeed.
            assert!(said.ok() || said.status == 1, "{said}");
            assert_eq!(house.sh("ls -A /srv/open"), "", "after {script}");
        }
        house.sh("userdel -r grace 2>/dev/null");
        let gone = || house.ctl(&format!("quarantine restore {id}")).stderr.contains("is gone");
        eventually("who is gone is given nothing", SOON, gone);
    }

    fn a_flood_is_counted_exactly_and_pushes_out_what_nobody_else_lost(release) {
        let house = House::enforcing(release);
        lose_a_key(&house);
        let mine = await_items(&house, 1)[0]["id"].clone();
        let flood = format!(
            "mkdir -p .ssh; for i in $(seq 150); do echo '{}' \"# $i\" >new; mv new .ssh/authorized_keys; \
             while test -e .ssh/authorized_keys; do :; done; done",
            house.frank.public()
        );
        house.run_as("ubuntu", &flood).expect_ok();
        // What was summed up goes on record when the minute is over, or the daemon stops; and what was removed a moment before.
        house.sh("systemctl restart lockdownd");
        let kept = items(&house);
        let of_ubuntu = kept.iter().filter(|item| item["account"] == "ubuntu").count();
        assert!((32..=64).contains(&of_ubuntu), "{of_ubuntu} items of one account");
        assert!(kept.iter().any(|item| item["id"] == mine), "another account's item is still there");

        let told: Vec<Value> =
            house.records_of("key.removed").into_iter().filter(|record| record["account"] == "ubuntu").collect();
        let count: u64 = told.iter().map(|record| record["detail"]["count"].as_u64().unwrap_or(1)).sum();
        assert_eq!(count, 150, "{told:#?}");
        assert!(told.len() <= 4, "{} records", told.len());
        for record in &told {
            assert_eq!(record["detail"]["fingerprints"], serde_json::json!([house.frank.fingerprint()]), "{record:#}");
        }
        let detail = &told[0]["detail"];
        assert_eq!((&detail["path"], &detail["kept"]), (&"/home/ubuntu/.ssh/authorized_keys".into(), &"whole".into()));
        assert!(detail["stood_milliseconds"].as_u64().is_some_and(|stood| stood < 1_000), "{detail:#}");
        house.ctl("verify").expect_ok();
    }

    fn a_record_names_every_key_of_a_file_and_who_owned_it(release) {
        let house = House::enforcing(release);
        let line = |key: &instance_tests::Key| key.public().to_owned();
        let text = format!("# mine\n{}\nfrom=\"10.0.0.0/8\" {}\nnot a key\n", line(&house.frank), line(&house.grace));
        house.run_as("grace", &format!("mkdir .ssh; cat >new <<'END'\n{text}END\nmv new .ssh/authorized_keys")).expect_ok();
        eventually("it is on record", SOON, || !house.records_of("key.removed").is_empty());
        let removed = &house.records_of("key.removed")[0];
        let detail = &removed["detail"];
        let named = detail["fingerprints"].as_array().unwrap();
        assert!(named.contains(&house.frank.fingerprint().into()) && named.contains(&house.grace.fingerprint().into()));
        assert_eq!((named.len(), &detail["more_fingerprints"], &detail["unreadable_lines"]), (2, &0.into(), &1.into()));
        let uid: u64 = house.sh("id -u grace").parse().unwrap();
        assert_eq!((&detail["owner_uid"], &detail["path"], &detail["size"]), (&uid.into(), &KEYS.into(), &text.len().into()));
        let hash = house.sh(&format!("printf %s '{text}' | sha256sum | cut -d' ' -f1"));
        assert_eq!(detail["sha256"], hash.as_str());
        assert_eq!(items(&house)[0]["id"], detail["quarantine"]);
    }
}
