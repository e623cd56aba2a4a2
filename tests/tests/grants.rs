//! Grants and their ends: exactly that account to exactly those keys, until exactly then; and nobody else is touched.

use std::time::Duration;

use instance_tests::{Client, House, Instance, Key, eventually, on_each_release};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

/// What a connection may outlive its grant by.
const CUT: SignedDuration = SignedDuration::from_secs(1);
/// What the daemon may take to act on a change that nobody waits for.
const SOON: Duration = Duration::from_secs(30);
/// Longer than any grant here that is waited for.
const ENDED: Duration = Duration::from_secs(30);
const RENDERED: &str = "/etc/lockdownd/conf.d/10-grants.toml";

/// A moment in a JSON answer or record.
fn moment(value: &Value) -> Timestamp {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("not a moment: {value}"))
}

/// Allows, and gives the grant.
#[track_caller]
fn allowed(house: &House, args: &str) -> Value {
    house.ctl_json(&format!("allow {args} --reason test"))
}

fn id(answer: &Value) -> &str {
    answer["grant"]["id"].as_str().expect("a grant has an id")
}

/// Waits until the client has ended, which must be after `since` and within [`CUT`] of it.
#[track_caller]
fn cut_after(client: &mut Client, since: Timestamp, what: &str) {
    client.ended_within(ENDED);
    let late = Timestamp::now().duration_since(since);
    assert!(late >= SignedDuration::ZERO, "{what} ended {late:#} too early: {}", client.output());
    assert!(late < CUT, "{what} ended {late:#} late");
}

/// Waits until exactly `count` sessions are live.
fn sessions(house: &Instance, count: usize) {
    eventually(&format!("{count} sessions"), SOON, || {
        house.ctl_json("sessions")["sessions"].as_array().is_some_and(|list| list.len() == count)
    });
}

/// The grant has one record of its end, with this cause. It may come a moment after the connection has ended.
#[track_caller]
fn ended_once(house: &Instance, grant: &str, cause: &str) {
    let ended =
        || house.records_of("grant.ended").into_iter().filter(|record| record["grant"] == grant).collect::<Vec<_>>();
    eventually("the end is on record", SOON, || !ended().is_empty());
    let records = ended();
    assert!(records.len() == 1 && records[0]["detail"]["ended"] == cause, "{cause}: {records:?}");
}

/// The one open grant that the configuration renders, once there is one.
fn rendered(house: &Instance) -> Value {
    let mut found = Value::Null;
    eventually("the rendered grant is there", SOON, || {
        let grants = house.ctl_json("grants")["grants"].as_array().cloned().unwrap_or_default();
        found = grants.into_iter().find(|grant| grant["origin"]["config"].is_object()).unwrap_or_default();
        found.is_object()
    });
    found
}

fn render(house: &Instance, person: &str, account: &str, expires_at: Timestamp, reason: &str) {
    let grant = format!(
        "[[grant]]\nperson = \"{person}\"\naccount = \"{account}\"\nexpires_at = \"{expires_at:.0}\"\nreason = \"{reason}\"\n"
    );
    house.write(RENDERED, grant);
    house.sh("lockdownctl check && systemctl reload lockdownd");
}

fn in_hours(hours: i64) -> Timestamp {
    Timestamp::now() + SignedDuration::from_hours(hours)
}

/// The keys of an account in the store, as sshd would read them.
fn stored(house: &Instance, account: &str) -> String {
    house.run(&format!("cat /run/lockdownd/keys/{account}")).stdout
}

fn blob(key: &Key) -> &str {
    key.public().split(' ').nth(1).expect("type, base64, comment")
}

on_each_release! {
    fn a_grant_that_sshd_will_not_honour_is_said_with_the_line_that_stands_in_its_way(release) {
        const EXTRA: &str = "/etc/ssh/sshd_config.d/50-extra.conf";
        let house = House::enforcing(release);
        let restart = "systemctl reset-failed ssh && systemctl restart ssh";
        house.write("/etc/ssh/revoked", house.frank.public());
        for (number, (line, told)) in [
            ("AllowUsers breakglass", "AllowUsers at /etc/ssh/sshd_config.d/50-extra.conf:1 does not name ubuntu"),
            ("AllowGroups breakglass", "AllowGroups at"),
            ("DenyUsers ubuntu", "DenyUsers at"),
            ("DenyGroups ubuntu", "DenyGroups at"),
            ("Match User ubuntu\n  PubkeyAuthentication no", "PubkeyAuthentication at /etc/ssh/sshd_config.d/50-extra.conf:2"),
            ("Match User ubuntu\n  AuthenticationMethods password", "AuthenticationMethods at"),
            ("Match User ubuntu\n  AuthenticationMethods publickey,publickey", "AuthenticationMethods at"),
            ("Match User ubuntu\n  PubkeyAcceptedAlgorithms rsa-sha2-512", "PubkeyAcceptedAlgorithms at"),
            ("Match User ubuntu\n  RevokedKeys /etc/ssh/revoked", "/etc/ssh/revoked, which lists the key"),
            ("Match User ubuntu\n  RevokedKeys /etc/ssh/gone", "/etc/ssh/gone, which is not there"),
        ].into_iter().enumerate() {
            house.write(EXTRA, format!("{line}\n"));
            house.sh(restart);
            let answer = allowed(&house, "frank --account ubuntu --for 1h");
            assert!(answer["notes"].to_string().contains(told), "{line}: {answer}");
            let plan = house.ctl("plan").stdout;
            assert!(plan.contains(told) && plan.contains(id(&answer)), "{line}: {plan}");
            assert!(house.ctl_json("status")["problems"].to_string().contains(told), "{line}");
            // Each from an address of its own: sshd shuts one out that was refused a few times.
            assert!(!house.ssh("ubuntu").key(&house.frank).from(&format!("127.0.1.{}", number + 1)).login(), "{line}: it does");
        }
        // Some accounts are meant to be confined: the grant is honoured.
        house.write(EXTRA, "Match User ubuntu\n  ForceCommand /bin/false\n");
        let answer = allowed(&house, "frank --account ubuntu --for 1h");
        assert!(answer["notes"].to_string().contains("but ForceCommand at /etc/ssh/sshd_config.d/50-extra.conf:2"), "{answer}");
        assert!(!house.ctl("plan").stdout.contains("ForceCommand"));
        house.sh(&format!("rm {EXTRA} && {restart}"));
        for (breaks, mends, told) in [
            ("chage -E 0 ubuntu", "chage -E -1 ubuntu", "chage -E -1 ubuntu"),
            ("usermod -s /bin/gone ubuntu", "usermod -s /bin/bash ubuntu", "/bin/gone is missing"),
        ] {
            house.sh(breaks);
            let answer = allowed(&house, "frank --account ubuntu --for 1h");
            assert!(answer["notes"].to_string().contains(told), "{breaks}: {answer}");
            house.sh(mends);
        }
        let answer = allowed(&house, "frank --account ubuntu --for 1h");
        assert!(!answer["notes"].to_string().contains("sshd"), "{answer}");
        assert!(house.ssh("ubuntu").key(&house.frank).from("127.0.2.1").login());
        eventually("nothing is said of it any more", SOON, || house.ctl_json("status")["problems"].as_array().is_some_and(Vec::is_empty));

        // Who has two keys may be asked for both.
        let second = house.keygen("second");
        let both = house.config("enforce", "").replace(house.frank.public(), &format!("{}\", \"{}", house.frank.public(), second.public()));
        house.write(EXTRA, "Match User ubuntu\n  AuthenticationMethods publickey,publickey\n");
        house.sh(restart);
        house.configure(&both);
        let answer = allowed(&house, "frank --account ubuntu --for 1h");
        assert!(!answer["notes"].to_string().contains("sshd"), "{answer}");
        assert!(house.ssh("ubuntu").key(&house.frank).key(&second).from("127.0.2.2").login());
        house.allow("grace --account ubuntu --for 1h");
        assert!(!house.ssh("ubuntu").key(&house.frank).key(&house.grace).from("127.0.2.3").login(), "two people's");
    }

    fn at_expiry_every_connection_is_over_within_a_second_and_other_people_stay(release) {
        let house = House::enforcing(release);
        house.allow("grace --account ubuntu --for 1h");
        let mut other = house.ssh("ubuntu").key(&house.grace).stay();
        let granted = allowed(&house, "frank --account ubuntu --for 8s");
        let expires = moment(&granted["grant"]["expires_at"]);

        let login = || house.ssh("ubuntu").key(&house.frank);
        let control = format!("ControlPath={}", house.scratch().join("master").display());
        let mut clients = [
            ("a command", login().spawn("sleep 3600")),
            ("a shell on a terminal", login().arg("-tt").spawn("")),
            ("sftp", login().arg("-s").spawn("sftp")),
            ("a forward", login().arg("-N").arg("-L").arg("127.0.0.1:7001:127.0.0.1:22").spawn("")),
            ("a master", login().arg("-MN").option(&control).spawn("")),
        ];
        let channel = || house.ssh("ubuntu").option(&control).option("ControlMaster=no").run("id -un");
        sessions(&house, 6);
        assert_eq!(channel().expect_ok(), "ubuntu", "a new channel in the master's connection");
        let through = "timeout 2 bash -c 'exec 3<>/dev/tcp/127.0.0.1/7001 && head -c 4 <&3'";
        assert_eq!(house.sh(through), "SSH-");
        assert!(stored(&house, "ubuntu").contains(blob(&house.frank)));

        for (what, client) in &mut clients {
            cut_after(client, expires, what);
        }
        assert!(!channel().ok() && !house.run(through).ok());
        assert!(!login().login());
        assert!(other.is_alive() && house.ssh("ubuntu").key(&house.grace).login());
        let keys = stored(&house, "ubuntu");
        assert!(!keys.contains(blob(&house.frank)) && keys.contains(blob(&house.grace)), "{keys}");

        ended_once(&house, id(&granted), "expired");
        let ended = house.records_of("session.terminated");
        assert_eq!(ended.len(), 5);
        assert!(ended.iter().all(|r| r["person"] == "frank" && r["account"] == "ubuntu" && r["grant"] == id(&granted)));
        house.ctl("verify").expect_ok();
    }

    fn a_grant_opens_that_account_to_that_person_and_a_revoke_ends_just_that(release) {
        let house = House::enforcing(release);
        let shared = allowed(&house, "frank --account ubuntu --for 1h");
        house.allow("frank --account frank --for 1h");
        house.allow("grace --account ubuntu --for 1h");
        assert!(!house.ssh("grace").key(&house.grace).login() && !house.ssh("root").key(&house.frank).login());
        let mut on_ubuntu = house.ssh("ubuntu").key(&house.frank).stay();
        let mut on_frank = house.ssh("frank").key(&house.frank).stay();
        let mut other = house.ssh("ubuntu").key(&house.grace).stay();
        let mut emergency = house.ssh("breakglass").key(&house.breakglass).stay();

        // One session alone: its grant goes on.
        let mut second = house.ssh("ubuntu").key(&house.frank).stay();
        let live = || house.ctl_json("sessions --account ubuntu --person frank")["sessions"].as_array().cloned().unwrap_or_default();
        eventually("both are live", SOON, || live().len() == 2);
        let opened_last = live().into_iter().max_by_key(|session| moment(&session["opened_at"])).expect("two");
        let session = opened_last["id"].as_str().expect("an id").to_owned();
        let said = house.ctl(&format!("revoke {session} --reason stuck")).expect_ok();
        assert!(said.contains("0 grants ended, 1 session cut") && said.contains("grant goes on"), "{said}");
        second.ended_within(ENDED);
        assert!(on_ubuntu.is_alive() && house.ssh("ubuntu").key(&house.frank).login());
        let terminated = || house.records_of("session.terminated").into_iter().find(|record| record["session"] == session.as_str());
        eventually("it is on record", SOON, || terminated().is_some());
        let record = terminated().expect("a record");
        assert_eq!((&record["detail"]["ended"], &record["actor"]["uid"]), (&"revoked".into(), &0.into()), "{record}");
        assert!(record["reason"].as_str().is_some_and(|reason| reason.contains("stuck")), "{record}");
        let exempt = house.ctl_json("sessions --account breakglass")["sessions"][0]["id"].as_str().expect("an id").to_owned();
        for (id, why) in [(session.as_str(), "there is no live session"), (exempt.as_str(), "exempt account")] {
            let refused = house.ctl(&format!("revoke {id}"));
            assert!(refused.status == 1 && refused.stderr.contains(why), "{refused}");
        }

        let now = Timestamp::now();
        house.ctl(&format!("revoke {} --reason leaves", id(&shared))).expect_ok();
        cut_after(&mut on_ubuntu, now, "the session on the revoked grant");
        assert!(!house.ssh("ubuntu").key(&house.frank).login());
        assert!(on_frank.is_alive() && other.is_alive() && house.ssh("frank").key(&house.frank).login());
        let twice = house.ctl(&format!("revoke {}", id(&shared)));
        assert!(twice.status == 1 && twice.stderr.contains("has ended already"), "{twice}");

        let now = Timestamp::now();
        house.ctl("revoke grace").expect_ok();
        cut_after(&mut other, now, "the session of the person");
        assert!(!house.ssh("ubuntu").key(&house.grace).login() && on_frank.is_alive());
        let nobody = house.ctl("revoke grace");
        assert!(nobody.status == 1 && nobody.stderr.contains("grace has no open grant"), "{nobody}");

        let again = allowed(&house, "grace --account ubuntu --for 1h");
        let mut other = house.ssh("ubuntu").key(&house.grace).stay();
        let now = Timestamp::now();
        house.ctl("lockdown --reason drill").expect_ok();
        for client in [&mut other, &mut on_frank] {
            cut_after(client, now, "a session at a lockdown");
        }
        assert!(!house.ssh("ubuntu").key(&house.grace).login() && !house.ssh("frank").key(&house.frank).login());
        assert!(emergency.is_alive() && house.ssh("breakglass").key(&house.breakglass).login());
        assert_eq!(house.sh("ls /run/lockdownd/keys"), "");

        ended_once(&house, id(&shared), "revoked");
        ended_once(&house, id(&again), "lockdown");
        let lockdown = house.records_of("lockdown");
        assert_eq!((lockdown.len(), lockdown[0]["detail"]["grants"].as_array().map(Vec::len)), (1, Some(2)));
        assert!(lockdown[0]["reason"].as_str().is_some_and(|reason| reason.contains("drill")));
        let shared_account: Vec<_> = house.records_of("session.opened").into_iter().filter(|r| r["account"] == "ubuntu").collect();
        assert!(shared_account.iter().any(|r| r["person"] == "frank") && shared_account.iter().any(|r| r["person"] == "grace"));
        house.ctl("verify").expect_ok();
    }

    fn grants_begin_when_they_say_and_hold_from_where_they_say(release) {
        let house = House::enforcing(release);
        let begins = Timestamp::now() + SignedDuration::from_secs(4);
        let later = allowed(&house, &format!("frank --account frank --for 1h --at {begins:.0}"));
        assert_eq!(later["grant"]["state"], "waiting");
        assert!(!house.ssh("frank").key(&house.frank).login() && !house.exists("/run/lockdownd/keys/frank"));

        house.allow("grace --account ubuntu --for 1h --from 127.99.0.0/16 --from ::1");
        assert!(!house.ssh("ubuntu").key(&house.grace).login());
        assert!(house.ssh("ubuntu").key(&house.grace).from("127.99.3.4").login());

        eventually("the key is in place", SOON, || house.exists("/run/lockdownd/keys/frank"));
        assert!(Timestamp::now() >= moment(&later["grant"]["starts_at"]), "before it began");
        assert!(house.ssh("frank").key(&house.frank).login());
        // One that begins after another has ended is another grant: nobody gets the time in between.
        house.allow("frank --account ubuntu --for 10m");
        let tomorrow = allowed(&house, &format!("frank --account ubuntu --for 10m --at {:.0}", in_hours(20)));
        assert_eq!((&tomorrow["extended"], &tomorrow["grant"]["state"]), (&Value::Bool(false), &Value::from("waiting")));
        let too_far = house.ctl(&format!("allow frank --account ubuntu --for 1h --reason x --at {:.0}", in_hours(24 * 40)));
        assert!(too_far.status == 1 && too_far.stderr.contains("too far ahead"), "{too_far}");
    }

    fn the_same_allow_extends_up_to_the_longest_life_and_says_so(release) {
        let house = House::enforcing_with(release, "[grants]\nmax_duration = \"2h\"\n");
        let first = allowed(&house, "frank --account ubuntu --for 8s");
        let mut client = house.ssh("ubuntu").key(&house.frank).stay();
        let longer = allowed(&house, "frank --account ubuntu --for 1h");
        assert_eq!((id(&longer), &longer["extended"]), (id(&first), &Value::Bool(true)));
        let shorter = house.allow("frank --account ubuntu --for 5m");
        assert!(shorter.contains("asking for less does not shorten it"), "{shorter}");

        let first_end = moment(&first["grant"]["expires_at"]);
        eventually("the first end has passed", SOON, || Timestamp::now() > first_end + SignedDuration::from_secs(1));
        assert!(client.is_alive() && house.ssh("ubuntu").key(&house.frank).login(), "it was extended");
        for _ in 0..2 {
            let most = house.allow("frank --account ubuntu --for 2h");
            assert!(most.contains("grants.max_duration (2h) counts from the grant's beginning"), "{most}");
            assert!(!most.contains("asking for less"), "{most}");
        }
        let grant = &house.ctl_json("grants")["grants"][0];
        let life = moment(&grant["expires_at"]).duration_since(moment(&grant["created_at"]));
        assert!((life.as_secs() - 7200).abs() <= 1, "{life:#}");
        let records = house.records_of("grant.created");
        assert!(records.len() == 3 && records.iter().all(|record| record["grant"] == id(&first)), "{records:?}");
        assert_eq!(house.records_of("grant.ended").len(), 0);
    }

    fn a_rendered_grant_lives_as_long_as_it_is_rendered(release) {
        let house = House::enforcing(release);
        render(&house, "frank", "ubuntu", in_hours(1), "INC-1");
        let first = rendered(&house);
        assert_eq!(first["origin"]["config"]["file"], RENDERED);
        let mut client = house.ssh("ubuntu").key(&house.frank).stay();
        house.sh(&format!("rm {RENDERED} && systemctl reload lockdownd"));
        client.ended_within(SOON);
        assert!(!house.ssh("ubuntu").key(&house.frank).login());
        ended_once(&house, first["id"].as_str().unwrap(), "config");

        // Far in the future: max_duration, twelve hours, bounds it.
        render(&house, "frank", "ubuntu", in_hours(100), "INC-2");
        let second = rendered(&house);
        let life = moment(&second["expires_at"]).duration_since(moment(&second["created_at"]));
        assert!((life.as_secs() - 12 * 3600).abs() <= 1, "{life:#}");
        let said = house.ctl(&format!("revoke {}", second["id"].as_str().unwrap())).expect_ok();
        assert!(said.contains(RENDERED) && said.contains("until its content changes"), "{said}");
        let stays_revoked = |after: &str| {
            assert!(!house.ssh("ubuntu").key(&house.frank).login(), "after {after}");
            assert!(house.ctl_json("grants")["grants"].as_array().is_some_and(Vec::is_empty), "after {after}");
        };
        let loads = || house.records_of("config.loaded").len();
        house.write("/etc/lockdownd/conf.d/20-stack.toml", "[host]\nstack = \"other\"\n");
        let before = loads();
        house.sh("systemctl reload lockdownd");
        eventually("it is reloaded", SOON, || loads() > before);
        stays_revoked("a reload");
        house.sh("systemctl restart lockdownd");
        stays_revoked("a restart");
        render(&house, "frank", "ubuntu", in_hours(1), "INC-3");
        assert_ne!(rendered(&house)["id"], second["id"]);
        assert!(house.ssh("ubuntu").key(&house.frank).login());
        house.ctl("verify").expect_ok();
    }

    fn what_config_and_accounts_no_longer_back_ends_with_its_sessions(release) {
        let house = House::enforcing(release);
        house.useradd("temp");
        let config = house.config("enforce", "").replace("[\"ubuntu\", \"frank\"]", "[\"ubuntu\", \"frank\", \"temp\"]");
        house.configure(&config);
        eventually("frank may have temp", SOON, || house.ctl_json("people").to_string().contains("temp"));
        house.allow("grace --account ubuntu --for 1h");
        let mut other = house.ssh("ubuntu").key(&house.grace).stay();

        // The account is deleted.
        let on_temp = allowed(&house, "frank --account temp --for 1h");
        let mut client = house.ssh("temp").key(&house.frank).stay();
        house.sh("userdel -f temp");
        client.ended_within(SOON);
        ended_once(&house, id(&on_temp), "config");
        house.useradd("temp");
        assert!(!house.ssh("temp").key(&house.frank).login(), "the account is made anew");

        // The account becomes exempt.
        let own = allowed(&house, "frank --account frank --for 1h");
        let mut client = house.ssh("frank").key(&house.frank).stay();
        let exempting = config.replace("[\"breakglass\"]", "[\"breakglass\", \"frank\"]").replace(", \"frank\", \"temp\"]", ", \"temp\"]");
        house.configure(&exempting);
        client.ended_within(SOON);
        ended_once(&house, id(&own), "config");
        assert!(!house.ssh("frank").key(&house.frank).login(), "it has no key of its own");
        house.authorize("frank", &house.frank);
        eventually("an exempt account keeps its own keys", SOON, || house.ssh("frank").key(&house.frank).login());

        // One of two keys goes, and then the person.
        let second = house.keygen("frank-second");
        let two = format!("\"{}\", \"{}\"", house.frank.public(), second.public());
        house.configure(&config.replace(&format!("\"{}\"", house.frank.public()), &two));
        eventually("frank has two keys", SOON, || house.ctl_json("people").to_string().contains(&second.fingerprint()));
        let shared = allowed(&house, "frank --account ubuntu --for 1h");
        let mut with_first = house.ssh("ubuntu").key(&house.frank).stay();
        let mut with_second = house.ssh("ubuntu").key(&second).stay();
        house.configure(&config.replace(house.frank.public(), second.public()));
        with_first.ended_within(SOON);
        assert!(with_second.is_alive() && !house.ssh("ubuntu").key(&house.frank).login());
        let (head, rest) = config.split_once("[[person]]").unwrap();
        let (_, grace) = rest.split_once("[[person]]").unwrap();
        house.configure(&format!("{head}[[person]]{grace}"));
        with_second.ended_within(SOON);
        ended_once(&house, id(&shared), "config");
        assert!(other.is_alive(), "grace was never touched: {}", other.output());
        house.ctl("verify").expect_ok();
    }

    fn a_scheduled_lockdown_ends_everything_and_allow_says_that_it_comes_first(release) {
        let house = House::enforcing_with(release, "[schedule]\nlockdown = \"*/10 * * * * *\"\n");
        render(&house, "grace", "ubuntu", in_hours(1), "INC-1");
        let by_config = rendered(&house);
        let told = allowed(&house, "frank --account ubuntu --for 1h");
        assert_eq!(told["ends"]["cause"], "scheduled_lockdown");
        let at = moment(&told["ends"]["at"]);
        assert!(at < Timestamp::now() + SignedDuration::from_secs(11) && at.as_second() % 10 == 0, "{at}");
        let mut client = house.ssh("ubuntu").key(&house.frank).spawn("sleep 3600");
        let mut emergency = house.ssh("breakglass").key(&house.breakglass).stay();
        cut_after(&mut client, at, "a session at the scheduled lockdown");
        ended_once(&house, id(&told), "lockdown");
        ended_once(&house, by_config["id"].as_str().unwrap(), "lockdown");
        assert!(!house.ssh("ubuntu").key(&house.frank).login() && !house.ssh("ubuntu").key(&house.grace).login());
        house.sh("systemctl restart lockdownd");
        assert!(!house.ssh("ubuntu").key(&house.grace).login(), "the rendered grant came back");
        assert!(emergency.is_alive());
    }

    fn each_scheduled_lockdown_happens_once_whatever_is_reloaded_restarted_or_rebooted_at_its_time(release) {
        let mut house = House::enforcing_with(release, "[schedule]\nlockdown = \"*/3 * * * * *\"\n");
        // Sleeps until just before the next moment.
        let until = "ms=$((2985 - $(date +%s%3N) % 3000)); [ $ms -gt 0 ] || ms=$((ms + 3000)); \
                     sleep $((ms / 1000)).$(printf %03d $((ms % 1000)))";
        for _ in 0..3 {
            house.sh(&format!("{until}; for n in $(seq 12); do systemctl kill -s HUP lockdownd; sleep 0.01; done"));
        }
        house.sh(&format!("{until}; systemctl restart lockdownd"));
        house.sh(&format!("{until}; sleep 0.1"));
        let granted = allowed(&house, "frank --account ubuntu --for 1h");
        house.sh("systemctl stop lockdownd; sleep 7; systemctl start lockdownd");
        ended_once(&house, id(&granted), "lockdown");
        let before = house.records_of("lockdown").len();
        house.reboot();
        eventually("lockdowns after the boot", ENDED, || house.records_of("lockdown").len() > before + 3);
        let lockdowns = house.records_of("lockdown");
        let due: Vec<i64> = lockdowns.iter().map(|record| moment(&record["detail"]["due"]).as_second()).collect();
        let missed: Vec<i64> = lockdowns.iter().map(|r| r["detail"]["missed"].as_i64().expect("a count")).collect();
        for n in 1..due.len() {
            assert_eq!(due[n] - due[n - 1], 3 * (missed[n] + 1), "each moment once: {lockdowns:#?}");
        }
        assert!(missed.iter().sum::<i64>() >= 1 && missed.len() > 6, "some were missed, and done late: {missed:?}");
        house.ctl("verify").expect_ok();
    }

    fn nobody_is_let_in_to_an_account_that_has_the_user_id_of_an_exempt_one_or_of_root(release) {
        let house = House::enforcing(release);
        house.allow("frank --account ubuntu --for 8h");
        let frank = |address: &str| house.ssh("ubuntu").key(&house.frank).from(address).run("true");
        frank("127.0.1.1").expect_ok();
        house.sh("usermod -o -u $(id -u ubuntu) breakglass && usermod -o -u 0 grace");
        let refused = |args: &str, why: &str| {
            let said = house.ctl(&format!("allow {args} --for 1h --reason test"));
            said.status == 1 && said.stderr.contains(why)
        };
        eventually("allow refuses it", SOON, || refused("grace --account ubuntu", "has the user id of breakglass"));
        eventually("root's, too", SOON, || refused("grace --account grace", "has the user id of root"));
        let said = frank("127.0.1.2");
        assert!(!said.ok() && said.to_string().contains("has the user id of breakglass"), "{said}");
        let refusal = house.records_of("session.refused").pop().expect("a record");
        assert_eq!(refusal["detail"]["why"], "shared_user_id");
        let problems = house.ctl_json("status")["problems"].to_string();
        assert!(problems.contains("nobody is let in to ubuntu"), "{problems}");
        let is_his = |record: &Value| record["person"] == "frank";
        assert!(!house.records_of("grant.ended").iter().any(is_his), "it ends nothing");
        house.sh("sed -i s/^breakglass:x:[0-9]*:/breakglass:x:4711:/ /etc/passwd");
        eventually("he gets in again", SOON, || house.ssh("ubuntu").key(&house.frank).from("127.0.1.3").login());
    }
}
