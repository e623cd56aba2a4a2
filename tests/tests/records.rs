//! The records on real instances: what a walk through the main job leaves, that stock tools verify it, that journald has
//! it too, and what becomes of it when the machine, its name or its power changes.

use std::time::{Duration, Instant};

use instance_tests::{House, eventually, on_each_release};
use serde_json::Value;

/// A record follows what it states by far less; this allows for a busy machine.
const SOON: Duration = Duration::from_secs(30);
/// A removal takes milliseconds; this allows for a busy machine and is far below what a stopped journald would cost.
const AT_ONCE: Duration = Duration::from_secs(2);

/// What every record has.
const COMMON: [&str; 11] =
    ["v", "ledger", "seq", "host", "stack", "boot", "time", "type", "reason", "prev", "signature"];

/// What the records of a type have besides, where the walk makes them.
const WALKED: &[(&str, &[&str])] = &[
    ("ledger.segment", &["/detail/public_key", "/detail/previous/seq", "/detail/previous/hash"]),
    ("ledger.opened", &["/detail/public_key", "/detail/identity/machine", "/detail/identity/name"]),
    ("daemon.started", &["/detail/version", "/detail/stopped_in_order"]),
    ("daemon.stopped", &[]),
    ("config.loaded", &["/detail/digest", "/detail/mode", "/detail/people", "/detail/grants"]),
    ("config.refused", &["/detail/problems/0", "/detail/count"]),
    ("mode.changed", &["/detail/mode"]),
    (
        "grant.created",
        &[
            "/person",
            "/account",
            "/grant",
            "/actor/uid",
            "/actor/pid",
            "/detail/starts_at",
            "/detail/expires_at",
            "/detail/why",
        ],
    ),
    ("grant.ended", &["/person", "/account", "/grant", "/detail/ended", "/detail/at", "/detail/expires_at"]),
    ("lockdown", &["/actor/uid", "/detail/grants/0", "/detail/sessions/0"]),
    (
        "key.removed",
        &[
            "/account",
            "/fingerprint",
            "/detail/fingerprints/0",
            "/detail/path",
            "/detail/quarantine",
            "/detail/owner_uid",
            "/detail/size",
            "/detail/sha256",
            "/detail/kept",
            "/detail/stood_milliseconds",
            "/detail/writer",
        ],
    ),
    ("quarantine.restored", &["/account", "/actor/uid", "/detail/quarantine", "/detail/path"]),
    (
        "session.opened",
        &[
            "/person",
            "/account",
            "/grant",
            "/session",
            "/fingerprint",
            "/source/address",
            "/source/port",
            "/detail/methods/0",
            "/detail/pid",
        ],
    ),
    ("session.closed", &["/person", "/account", "/grant", "/session", "/source/address", "/detail/seconds"]),
    (
        "session.terminated",
        &[
            "/person",
            "/account",
            "/grant",
            "/session",
            "/fingerprint",
            "/source/address",
            "/detail/killed",
            "/detail/by",
        ],
    ),
    ("session.refused", &["/account", "/source/address", "/detail/why", "/detail/step", "/detail/methods"]),
    ("sshd.changed", &["/detail/changed/0"]),
    (
        "sweep.attested",
        &[
            "/detail/mode",
            "/detail/accounts",
            "/detail/files",
            "/detail/keys",
            "/detail/removed",
            "/detail/grants",
            "/detail/sessions",
            "/detail/exempt/0",
            "/detail/config",
            "/detail/next_by",
        ],
    ),
    ("emergency.login", &["/account", "/session", "/source/address", "/detail/methods/0"]),
];

/// Everything that somebody does with the product, once. Whoever is logged in at its end has been cut off.
fn walk(house: &House) {
    house.allow("frank --account ubuntu --for 1h");
    assert!(house.ssh("ubuntu").key(&house.frank).login());
    house.sh("echo ubuntu:s3cret | chpasswd");
    assert!(!house.ssh("ubuntu").password("s3cret").login());
    assert!(house.ssh("breakglass").key(&house.breakglass).login());
    house.authorize("grace", &house.grace);
    eventually("the key file is removed", SOON, || !house.records_of("key.removed").is_empty());
    let kept = house.ctl_json("quarantine list")["items"][0]["id"].as_str().unwrap().to_owned();
    house.ctl(&format!("quarantine restore {kept}")).expect_ok();

    let mut cut = house.ssh("ubuntu").key(&house.frank).stay();
    house.ctl("lockdown --reason drill").expect_ok();
    cut.ended_within(SOON);
    let good = house.sh("cat /etc/lockdownd/config.toml");
    house.write("/etc/lockdownd/config.toml", "mode = \"enforced\"\n");
    assert!(!house.run("systemctl reload lockdownd").ok());
    eventually("the configuration is refused", SOON, || !house.records_of("config.refused").is_empty());
    house.write("/etc/lockdownd/config.toml", good);
    house.sh("systemctl reload lockdownd; systemctl restart lockdownd");
    eventually("the daemon is back", SOON, || house.ctl("status").ok());
}

/// A copy of the ledger under `/root/NAME`, and what the stock tools and `lockdownctl` say of it after `change`.
fn verdicts(house: &House, name: &str, change: &str) -> [bool; 2] {
    let script = include_str!("../../docs/RECORDS.md").split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
    let dir = format!("/root/{name}");
    house.write(&format!("{dir}/verify.sh"), script);
    let host = house.ctl_json("status")["host"].as_str().unwrap().to_owned();
    house.sh(&format!(
        "cd {dir} && cp -r /var/lib/lockdownd/ledger . && cd ledger && {change} && cd .. && \
         echo \"{host} $(cat /var/lib/lockdownd/signing_key.pub)\" >allowed_signers"
    ));
    let stock = house.run(&format!("cd {dir} && HOST={host} bash -eo pipefail verify.sh"));
    let own = house.ctl(&format!("verify --ledger {dir}/ledger --signers {dir}/allowed_signers"));
    assert!(matches!((stock.ok(), own.status), (_, 0 | 1)), "{stock}\n{own}");
    [stock.ok(), own.ok()]
}

/// The lines of the ledger, and the records that journald holds of the same, oldest first.
fn told_in_journal(house: &House) -> (Vec<String>, Vec<Value>) {
    let lines = house.sh("cat /var/lib/lockdownd/ledger/*.jsonl").lines().map(str::to_owned).collect();
    let entries = house.sh("journalctl -u lockdownd -o json --all --no-pager");
    let entries = entries.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    (lines, entries.filter(|entry| entry.get("LOCKDOWND_RECORD").is_some()).collect())
}

on_each_release! {
    fn a_walk_through_the_main_job_leaves_every_record_with_the_plans_fields(release) {
        let house = House::enforcing(release);
        walk(&house);
        eventually("a sweep is attested", SOON, || house.records_of("sweep.attested").len() > 1);
        let records = house.records();
        for record in &records {
            for field in COMMON {
                assert!(record.get(field).is_some(), "{field} in {record:#}");
            }
        }
        for (artifact, fields) in WALKED {
            let mut of_type = records.iter().filter(|record| record["type"] == *artifact).peekable();
            assert!(of_type.peek().is_some(), "there is no {artifact}");
            let missing = |record: &Value| fields.iter().find(|field| record.pointer(field).is_none()).copied();
            let last = records.iter().rfind(|record| record["type"] == *artifact).unwrap();
            assert!(of_type.any(|record| missing(record).is_none()), "{artifact} lacks {:?}: {last:#}", missing(last));
        }
        house.ctl("verify").expect_ok();
    }

    fn stock_tools_and_verify_prove_a_real_ledger_and_find_an_edit_a_drop_and_a_reorder(release) {
        let house = House::enforcing(release);
        house.allow("frank --account ubuntu --for 1h");
        house.ctl("revoke frank").expect_ok();
        assert_eq!(verdicts(&house, "whole", "true"), [true, true]);
        assert_eq!(verdicts(&house, "edited", "sed -i 's/frank may log in/grace may log in/' *.jsonl"), [false, false]);
        assert_eq!(verdicts(&house, "dropped", "sed -i '/\"type\":\"grant.created\"/d' *.jsonl"), [false, false]);
        let reorder = "sed -i '/\"type\":\"grant.created\"/{h;d};/\"type\":\"grant.ended\"/G' *.jsonl";
        assert_eq!(verdicts(&house, "reordered", reorder), [false, false]);
        assert_eq!(house.ctl("verify --ledger /root/edited/ledger").status, 1, "by the host's own key too");
    }

    fn journald_tells_every_record_in_a_sentence_with_its_fields_up_to_the_very_last(release) {
        let house = House::enforcing(release);
        house.allow("frank --account ubuntu --for 1h");
        assert!(house.ssh("ubuntu").key(&house.frank).login());
        eventually("the session is closed", SOON, || !house.records_of("session.closed").is_empty());
        house.sh("systemctl stop lockdownd-gate.socket lockdownd-control.socket lockdownd.service && journalctl --sync");
        let (lines, entries) = told_in_journal(&house);
        let told: Vec<&str> = entries.iter().map(|entry| entry["LOCKDOWND_RECORD"].as_str().unwrap()).collect();
        assert_eq!(told, lines, "each record once, in order, byte for byte");
        let last: Value = serde_json::from_str(lines.last().unwrap()).unwrap();
        assert_eq!(last["type"], "daemon.stopped");
        for entry in &entries {
            assert_eq!(entry["SYSLOG_FACILITY"], "10");
            assert_eq!(entry["MESSAGE_ID"].as_str().map(str::len), Some(32));
        }
        let created = entries.iter().find(|entry| entry["LOCKDOWND_TYPE"] == "grant.created").unwrap();
        assert_eq!([&created["LOCKDOWND_PERSON"], &created["LOCKDOWND_ACCOUNT"]], ["frank", "ubuntu"]);
        let sentence = created["MESSAGE"].as_str().unwrap();
        assert!(sentence.starts_with("grant.created: frank may log in to ubuntu until "), "{sentence}");
        let explained = house.sh("journalctl -x -u lockdownd LOCKDOWND_TYPE=grant.created");
        assert!(explained.contains(sentence), "{explained}");
        let catalog = house.sh(&format!("journalctl --dump-catalog {}", created["MESSAGE_ID"].as_str().unwrap()));
        let subject = catalog.lines().find_map(|line| line.strip_prefix("Subject: ")).expect("the type is explained");
        assert!(explained.contains(&format!("Subject: {subject}")), "{explained}");
    }

    fn a_journald_that_stands_still_delays_no_removal_and_hears_of_it_later(release) {
        let house = House::enforcing(release);
        house.allow("frank --account ubuntu --for 1h");
        let mut client = house.ssh("ubuntu").key(&house.frank).stay();
        house.sh("systemctl kill -s STOP systemd-journald");
        house.authorize("grace", &house.grace);
        let planted = Instant::now();
        eventually("the key is gone", AT_ONCE, || !house.exists("/home/grace/.ssh/authorized_keys"));
        house.ctl("revoke frank").expect_ok();
        client.ended_within(AT_ONCE);
        assert!(planted.elapsed() < 2 * AT_ONCE);
        eventually("it is on record", SOON, || !house.records_of("key.removed").is_empty());
        house.sh("systemctl kill -s CONT systemd-journald");
        let seq = house.records_of("key.removed")[0]["seq"].to_string();
        let told = format!("journalctl -q --no-pager -o cat LOCKDOWND_TYPE=key.removed LOCKDOWND_SEQ={seq} | grep -q .");
        eventually("journald has it", SOON, || house.run(&told).ok());
    }

    fn a_cloned_image_begins_its_own_ledger_and_no_grant_lives_on(release) {
        let mut house = House::enforcing(release);
        house.allow("frank --account ubuntu --for 1h");
        house.authorize("grace", &house.grace);
        eventually("a key file is in quarantine", SOON, || !house.records_of("key.removed").is_empty());
        let old = house.ctl_json("status")["ledger"]["id"].clone();
        let key = house.sh("cat /var/lib/lockdownd/signing_key.pub");
        house.sh("tr 0-9a-f 1-9a-f0 </etc/machine-id >/etc/machine-id.new && mv /etc/machine-id.new /etc/machine-id");
        house.power_cut();
        house.await_mode("enforce");

        assert!(!house.ssh("ubuntu").key(&house.frank).login(), "the grant was another machine's");
        assert_eq!(house.ctl_json("grants")["grants"].as_array().map(Vec::len), Some(0));
        assert_ne!(house.ctl_json("status")["ledger"]["id"], old);
        assert_ne!(house.sh("cat /var/lib/lockdownd/signing_key.pub"), key);
        let records = house.records();
        let opened = records.iter().find(|record| record["type"] == "ledger.opened").unwrap();
        let ancestor = &opened["detail"]["ancestor"];
        assert_eq!([&ancestor["ledger"], &opened["detail"]["grants_void"]], [&old, &Value::Bool(true)]);
        let aside = format!("/var/lib/lockdownd/{}", opened["detail"]["kept_in"].as_str().unwrap());
        let last = house.sh(&format!("tail -n 1 \"$(ls {aside}/ledger/*.jsonl | tail -n 1)\" | sha256sum | cut -d ' ' -f 1"));
        assert_eq!(ancestor["hash"], last);
        let ended = records.iter().find(|record| record["type"] == "grant.ended").unwrap();
        assert_eq!([&ended["detail"]["ended"], &ended["person"]], ["identity", "frank"]);
        for kept in ["signing_key", "signing_key.pub", "identity", "grants.json", "ledger", "quarantine"] {
            assert!(house.exists(&format!("{aside}/{kept}")), "{kept} is set aside");
        }
        house.sh(&format!("ls {aside}/quarantine | grep -q ."));
        house.ctl("verify").expect_ok();
    }

    fn a_renamed_stack_counts_at_once_and_a_renamed_host_is_told_and_counts_at_the_next_start(release) {
        let house = House::enforcing(release);
        house.allow("frank --account ubuntu --for 1h");
        let before = house.ctl_json("status");
        house.configure(&house.config("enforce", "[host]\nname = \"web-7\"\nstack = \"shop\""));
        eventually("the stack is in force", SOON, || house.ctl_json("status")["stack"] == "shop");
        let loaded = house.records_of("config.loaded").pop().unwrap();
        assert_eq!([&loaded["stack"], &loaded["host"]], [&Value::from("shop"), &before["host"]]);
        assert_eq!(loaded["detail"]["host_name_at_restart"], "web-7");
        let said = house.ctl("status").expect_ok();
        assert!(said.contains("host.name has changed") && said.contains("systemctl restart lockdownd"), "{said}");
        assert!(house.ssh("ubuntu").key(&house.frank).login(), "nothing ends before the restart");

        house.sh("systemctl restart lockdownd");
        house.await_mode("enforce");
        assert_eq!(house.ctl_json("status")["host"], "web-7");
        assert!(!house.ssh("ubuntu").key(&house.frank).login());
        assert_eq!(house.records_of("grant.ended")[0]["detail"]["ended"], "identity");
        house.ctl("verify").expect_ok();
    }

    fn a_write_that_a_power_cut_tore_is_kept_aside_and_told(release) {
        let mut house = House::enforcing(release);
        house.allow("frank --account ubuntu --for 1h");
        // Stopped, not killed: systemd would start it again at once.
        house.sh("systemctl kill -s STOP lockdownd; printf '{\"account\":\"ubu' >>\"$(ls /var/lib/lockdownd/ledger/*.jsonl | tail -n 1)\"");
        house.power_cut();
        house.await_mode("enforce");
        let opened = house.records_of("ledger.opened").pop().unwrap();
        assert_eq!([&opened["detail"]["break"], &opened["detail"]["bytes"]], [&Value::from("torn"), &Value::from(15)]);
        let kept = opened["detail"]["kept_in"][0].as_str().unwrap();
        assert_eq!(house.sh(&format!("cat {kept}")), "{\"account\":\"ubu");
        assert!(house.ssh("ubuntu").key(&house.frank).login(), "the grant lives on");
        house.ctl("verify").expect_ok();
    }

    fn a_ledgers_file_that_is_replaced_under_the_daemon_is_put_back_with_every_record(release) {
        let house = House::enforcing(release);
        let id = house.ctl_json("status")["ledger"]["id"].clone();
        let replaced = |times: usize| {
            let opened = house.records_of("ledger.opened");
            let told: Vec<_> = opened.iter().filter(|record| record["detail"]["break"] == "replaced").collect();
            assert_eq!(told.len(), times, "{told:?}");
            house.ctl("verify").expect_ok();
        };
        // The same content in another file.
        house.sh("sed -i s/@@@@// /var/lib/lockdownd/ledger/*.jsonl");
        house.allow("frank --account ubuntu --for 1h");
        replaced(1);
        // As logrotate does it. Stopped, so that no record comes before the look.
        house.sh("systemctl kill -s STOP lockdownd; cd /var/lib/lockdownd/ledger; for f in *.jsonl; do mv $f $f.1 && : >$f; done");
        let short = house.ctl("verify");
        house.sh("systemctl kill -s CONT lockdownd");
        assert!(!short.ok() && short.stdout.contains("on disk to record"), "{short}");
        house.allow("grace --account grace --for 1h");
        replaced(2);
        let status = house.ctl_json("status");
        let durable = status["ledger"]["durable"].as_u64().unwrap();
        assert!(house.records().iter().any(|record| record["seq"] == durable), "every record has its file");
        let crit = "journalctl -q -o cat -p crit LOCKDOWND_TYPE=ledger.opened | wc -l";
        eventually("both are told at crit", SOON, || house.sh(crit).trim() == "2");

        house.sh("systemctl restart lockdownd");
        house.await_mode("enforce");
        assert_eq!(house.ctl_json("status")["ledger"]["id"], id, "it goes on");
        let created = house.records_of("grant.created");
        assert_eq!(created.iter().map(|record| &record["person"]).collect::<Vec<_>>(), ["frank", "grace"]);
        let records = house.records();
        assert!(records.iter().zip(1..).all(|(record, seq)| record["seq"] == seq), "every record is there");
        replaced(2);
    }

    fn lockdownctl_records_shows_what_is_asked_for_and_follows(release) {
        let house = House::enforcing(release);
        house.sh("systemd-run -q --unit=follow -p StandardOutput=file:/root/followed lockdownctl records --follow --json");
        house.allow("frank --account ubuntu --for 1h");
        house.allow("grace --account grace --for 1h");
        let ledger = house.sh("cat /var/lib/lockdownd/ledger/*.jsonl");
        let created: Vec<&str> = ledger.lines().filter(|line| line.contains("\"type\":\"grant.created\"")).collect();
        assert_eq!(created.len(), 2);
        assert_eq!(house.sh("lockdownctl --json records"), ledger, "the ledger's own lines");
        let shown = |args: &str| house.sh(&format!("lockdownctl --json records {args}"));
        assert_eq!(shown("--type grant.created"), created.join("\n"));
        assert_eq!(shown("--person frank"), created[0]);
        assert_eq!(shown("--account grace"), created[1]);
        assert_eq!(shown("--since 2m --person grace"), created[1]);
        assert_eq!(shown("--type 'grant.*' -n 1"), created[1], "the last that fits");
        let grant = house.ctl_json("grants")["grants"][0]["id"].as_str().expect("an id").to_owned();
        assert_eq!(shown(&format!("--grant {grant} --type grant.created --type grant.ended")).lines().count(), 1);
        let nothing = house.ctl("records --until 2000-01-01");
        assert!(nothing.ok() && nothing.stdout.is_empty() && nothing.stderr.contains("no record up to number "), "{nothing}");
        let typo = house.ctl("records --person frnak");
        assert!(typo.status == 1 && typo.stderr.contains("there is no person frnak"), "{typo}");
        let said = house.ctl("records --person frank").expect_ok();
        assert!(said.contains("frank may log in to ubuntu until ") && said.contains("(by uid 0"), "{said}");
        eventually("what comes is followed", SOON, || {
            let followed = house.run("cat /root/followed").stdout;
            created.iter().all(|line| followed.contains(line))
        });
    }
}
