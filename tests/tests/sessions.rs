//! Live sessions: whose they are, also where nobody asked the gate; what their terminals are told; and how they end.

use std::{io::Write, time::Duration};

use instance_tests::{Client, House, Instance, eventually, on_each_release};
use serde_json::Value;

/// What the daemon may take to act on a change that nobody waits for.
const SOON: Duration = Duration::from_secs(30);
/// Longer than any grant here that is waited for.
const ENDED: Duration = Duration::from_secs(30);
/// An sshd of root's that PAM, and so the gate, never hears of: how an administrator could have left one.
const PAST_PAM: &str = "UsePAM no\nPort 2222\nPidFile /run/past-pam.pid\nAuthorizedKeysFile /etc/past-pam.keys\n\
                        PermitRootLogin yes\n";

/// The live sessions as an operator sees them, by kind.
fn of_kind(house: &Instance, kind: &str) -> Vec<Value> {
    let listed = house.ctl_json("sessions")["sessions"].as_array().cloned().unwrap_or_default();
    listed.into_iter().filter(|session| session["kind"] == kind).collect()
}

/// A login by the sshd of [`PAST_PAM`] that stays.
fn stay_past_pam(house: &House, account: &str) -> Client {
    house.ssh(account).key(&house.grace).arg("-p").arg("2222").stay()
}

/// The live sessions that no grant backs, once sshd's log has told with whose key each was opened.
fn attributed(house: &Instance, number: usize) -> Vec<Value> {
    let observed = || of_kind(house, "observed");
    eventually("sshd's log tells whose they are", SOON, || observed().len() == number);
    observed()
}

fn start_past_pam(house: &House) {
    house.write("/etc/past-pam.keys", format!("{}\n", house.grace.public()));
    house.write("/etc/past-pam.conf", PAST_PAM);
    house.sh("/usr/sbin/sshd -f /etc/past-pam.conf && sleep 0.3");
}

/// Ends that sshd's listener alone: its connections stay.
fn stop_past_pam(house: &House) {
    house.sh("kill $(cat /run/past-pam.pid); while [ -e /run/past-pam.pid ]; do sleep 0.05; done");
}

fn record_of<'a>(records: &'a [Value], session: &Value) -> &'a Value {
    let found = records.iter().find(|record| record["session"] == session["id"]);
    found.unwrap_or_else(|| panic!("no record of {session} in {records:?}"))
}

on_each_release! {
    fn people_are_warned_and_told_why_on_their_own_terminals(release) {
        let house = House::enforcing_with(release, "[sessions]\nwarn_before = \"9s\"\n");
        house.allow("grace --account ubuntu --for 1h");
        let granted = house.ctl_json("allow frank --account ubuntu --for 12s --reason test");
        let mut other = house.ssh("ubuntu").key(&house.grace).arg("-tt").spawn("tty; exec sleep 3600");
        let mut client = house.ssh("ubuntu").key(&house.frank).arg("-tt").spawn("tty; exec sleep 3600");
        // One whose owner stopped the terminal, and one without a terminal.
        let mut stopped = house.ssh("ubuntu").key(&house.frank).arg("-tt").spawn("tty; exec sleep 3600");
        let mut silent = house.ssh("ubuntu").key(&house.frank).stay();
        eventually("all are there", SOON, || [&client, &other, &stopped].iter().all(|c| c.stdout().contains("/dev/pts/")));
        let mut keyboard = stopped.stdin().expect("it is open");
        keyboard.write_all(b"\x13").and_then(|()| keyboard.flush()).expect("the client reads it");

        eventually("the warning", ENDED, || client.stdout().contains("this connection to ubuntu ends in"));
        assert!(client.is_alive(), "it is warned before it ends");
        let expires: jiff::Timestamp = granted["grant"]["expires_at"].as_str().unwrap().parse().unwrap();
        for late in [&mut client, &mut stopped, &mut silent] {
            late.ended_within(ENDED);
            let after = jiff::Timestamp::now().duration_since(expires);
            assert!(after.as_secs_f64() < 1.0, "{after:#} late: {}", late.output());
        }
        let told = client.stdout();
        assert_eq!(told.matches("ends in").count(), 1, "warned once: {told}");
        assert!(told.contains("lockdownctl allow frank --account ubuntu"), "{told}");
        assert!(told.contains("ends now: its grant ended: its time is over"), "{told}");
        assert!(other.is_alive() && !other.stdout().contains("lockdownd"), "{}", other.output());

        eventually("on record", SOON, || house.records_of("session.terminated").len() == 3);
        let ended = house.records_of("session.terminated");
        let on_terminal: Vec<_> = ended.iter().filter(|r| r["detail"]["terminals"].is_array()).collect();
        assert_eq!(on_terminal.len(), 2, "{ended:?}");
        assert!(on_terminal.iter().all(|r| r["detail"]["uses"] == serde_json::json!(["terminal"])), "{ended:?}");
        assert!(ended.iter().any(|r| r["detail"]["uses"] == serde_json::json!(["command"])), "{ended:?}");
        assert!(ended.iter().all(|r| r["detail"]["ended"] == "grant" && r["detail"]["seconds"].as_i64() >= Some(8)));
        drop(other);
        eventually("it ended by itself", SOON, || house.records_of("session.closed").len() == 1);
        let closed = &house.records_of("session.closed")[0]["detail"];
        assert!(closed["ended"] == "by_itself" && closed["terminals"].is_array(), "{closed}");
    }

    fn connections_from_before_are_found_kept_and_ended_by_a_lockdown(release) {
        let house = House::observing(release);
        start_past_pam(&house);
        let (mut old, mut root) = (stay_past_pam(&house, "ubuntu"), stay_past_pam(&house, "root"));
        let mut emergency = stay_past_pam(&house, "breakglass");
        // Somebody who has not logged in is nobody.
        let knocking = house.run("exec 3<>/dev/tcp/127.0.0.1/2222; sleep 0.1");
        drop(knocking);
        stop_past_pam(&house);
        house.configure(&house.config("enforce", ""));
        house.await_mode("enforce");
        house.allow("frank --account ubuntu --for 1h");
        let mut granted = house.ssh("ubuntu").key(&house.frank).stay();

        let found = attributed(&house, 2);
        assert!(found.iter().all(|s| s["person"] == "grace" && s["source"]["address"].as_str().is_some()), "{found:?}");
        let accounts: Vec<_> = found.iter().filter_map(|s| s["account"].as_str()).collect();
        assert!(accounts.contains(&"root") && accounts.contains(&"ubuntu"), "{accounts:?}");
        assert_eq!(of_kind(&house, "emergency").len(), 1);
        let opened = house.records_of("session.opened");
        for session in &found {
            let record = record_of(&opened, session);
            let by_log = record["detail"]["past_gate"] == true && record["person"] == "grace";
            assert!(by_log || record["detail"]["found"] == true, "{record}");
        }
        assert_eq!(house.records_of("emergency.login").len(), 1);
        assert!(old.is_alive() && root.is_alive() && emergency.is_alive(), "they are kept");

        house.sh("systemctl restart lockdownd");
        assert_eq!(of_kind(&house, "observed").len(), 2, "known after a restart, once");
        assert_eq!(house.records_of("session.opened").len(), opened.len());
        assert!(old.is_alive() && root.is_alive() && granted.is_alive());
        house.ctl("lockdown --reason drill").expect_ok();
        for client in [&mut old, &mut root, &mut granted] {
            client.ended_within(SOON);
        }
        assert!(emergency.is_alive() && house.ssh("breakglass").key(&house.breakglass).login());
        eventually("on record", SOON, || house.records_of("session.terminated").len() == 3);
        assert!(house.records_of("session.terminated").iter().all(|r| r["detail"]["ended"] == "lockdown"));
        house.ctl("verify").expect_ok();
    }

    fn where_config_says_so_they_end_with_enforce_and_what_comes_past_the_gate_always_does(release) {
        let house = House::observing(release);
        let more = "[sessions]\nbefore_enforce = \"end\"\n[schedule]\nsweep = \"*/2 * * * * *\"\n";
        house.configure(&house.config("observe", more));
        house.allow("frank --account ubuntu --for 1h");
        house.authorize("ubuntu", &house.frank);
        start_past_pam(&house);
        let (mut old, mut emergency) = (stay_past_pam(&house, "ubuntu"), stay_past_pam(&house, "breakglass"));
        let mut granted = house.ssh("ubuntu").key(&house.frank).stay();
        // The operator tries enforce out from a connection of just that kind.
        let script = "while ! [ -e /tmp/go ]; do sleep 0.1; done; lockdownctl enforce --for 60s; sleep 3600";
        let mut operator = house.ssh("root").key(&house.grace).arg("-p").arg("2222").spawn(script);
        attributed(&house, 2);
        stop_past_pam(&house);
        assert!(house.ctl("plan").expect_ok().contains("sessions.before_enforce"), "{}", house.ctl("plan"));
        house.sh("touch /tmp/go");
        old.ended_within(SOON);
        house.await_mode("enforce");
        assert!(operator.is_alive(), "nobody cuts off the branch they sit on: {}", operator.output());
        assert!(emergency.is_alive() && granted.is_alive());
        let ended = house.records_of("session.terminated");
        assert!(ended.len() == 1 && ended[0]["detail"]["ended"] == "no_grant" && ended[0]["account"] == "ubuntu", "{ended:?}");

        // What is not there when enforce begins has no excuse.
        start_past_pam(&house);
        let mut late = house.ssh("ubuntu").key(&house.grace).arg("-p").arg("2222").spawn("sleep 3600");
        eventually("on record", SOON, || house.records_of("session.terminated").len() == 2);
        late.ended_within(SOON);
        let opened = house.records_of("session.opened");
        assert!(opened.iter().any(|r| r["detail"]["past_gate"] == true), "{opened:?}");
        assert!(operator.is_alive() && emergency.is_alive() && granted.is_alive());
        assert_eq!(house.records_of("emergency.login").len(), 1);
    }

    fn every_session_is_on_record_with_whose_it_was_what_it_was_used_for_and_how_it_ended(release) {
        let house = House::enforcing_with(release, "[schedule]\nsweep = \"* * * * * *\"\n");
        let granted = house.ctl_json("allow frank --account ubuntu --for 1h --reason test");
        let control = format!("ControlPath={}", house.scratch().join("master").display());
        let login = |address: &str| house.ssh("ubuntu").key(&house.frank).from(address);
        let long = "sleep 8";
        let mut clients = [
            login("127.7.0.1").arg("-tt").spawn(long),
            login("127.7.0.2").spawn(long),
            login("127.7.0.3").arg("-s").spawn("sftp"),
            login("127.7.0.4").arg("-N").arg("-R").arg("127.0.0.1:7100:127.0.0.1:22").spawn(""),
            login("127.7.0.5").arg("-N").arg("-L").arg("127.0.0.1:7101:127.0.0.1:22").spawn(""),
            login("127.7.0.6").arg("-MN").option(&control).spawn(""),
        ];
        let channel = || house.ssh("ubuntu").option(&control).option("ControlMaster=no");
        eventually("the master is there", SOON, || channel().run("true").ok());
        let mut channels = [channel().arg("-tt").spawn(long), channel().arg("-s").spawn("sftp")];
        // To sshd it comes from where the forward ends.
        let through = house.ssh("ubuntu").key(&house.frank).arg("-p").arg("7101");
        eventually("the forward is there", SOON, || house.run("ss -ltn | grep -q 127.0.0.1:7101").ok());
        let mut through = through.spawn(long);
        eventually("it is seen what each of them is used for", SOON, || {
            let listed = of_kind(&house, "granted");
            listed.len() == 7 && listed.iter().all(|s| s["uses"].as_array().is_some_and(|uses| !uses.is_empty()))
        });
        // Long enough for the time to be told from none.
        std::thread::sleep(Duration::from_secs(3));
        channels.iter_mut().chain([&mut through]).for_each(|client| drop(client.stdin()));
        through.ended_within(ENDED);
        // Each ends by itself, the one or the other way: its command is over, or its client is gone.
        drop(clients[2].stdin());
        for client in &mut clients[..3] {
            client.ended_within(ENDED);
        }
        drop((channels, clients));
        eventually("all are closed", SOON, || house.records_of("session.closed").len() == 7);

        let (opened, closed) = (house.records_of("session.opened"), house.records_of("session.closed"));
        let of = |records: &[Value], address: &str| -> Value {
            let found: Vec<_> = records.iter().filter(|record| record["source"]["address"] == address).collect();
            assert_eq!(found.len(), 1, "{address}: {records:?}");
            found[0].clone()
        };
        let expected: [(&str, &[&str]); 7] = [
            ("127.7.0.1", &["terminal"]),
            ("127.7.0.2", &["command"]),
            ("127.7.0.3", &["sftp"]),
            ("127.7.0.4", &["forward"]),
            ("127.7.0.5", &["forward"]),
            ("127.7.0.6", &["terminal", "sftp"]),
            ("127.0.0.1", &["command"]),
        ];
        for (address, uses) in expected {
            let (opened, closed) = (of(&opened, address), of(&closed, address));
            for record in [&opened, &closed] {
                assert_eq!((&record["person"], &record["account"]), (&"frank".into(), &"ubuntu".into()), "{record}");
                assert_eq!(record["grant"], granted["grant"]["id"], "{record}");
                assert_eq!(record["fingerprint"], house.frank.fingerprint(), "{record}");
                assert!(record["source"]["port"].is_u64() && record["session"] == opened["session"], "{record}");
            }
            let detail = &closed["detail"];
            assert_eq!(detail["uses"], serde_json::json!(uses), "{address}: {closed}");
            assert_eq!(detail["terminals"].is_array(), uses.contains(&"terminal"), "{closed}");
            assert!(detail["ended"] == "by_itself" && detail["seconds"].as_u64() >= Some(3), "{closed}");
        }
        house.ctl("verify").expect_ok();
    }

    fn a_granted_root_is_one_session_whatever_sshd_forks_for_it(release) {
        let house = House::observing(release);
        let more = "[schedule]\nsweep = \"* * * * * *\"\n";
        let config = house.config("enforce", more).replace("[\"ubuntu\", \"frank\"]", "[\"root\"]");
        house.configure(&config);
        house.await_mode("enforce");
        house.allow("frank --account root --for 1h");
        let mut root = house.ssh("root").key(&house.frank).stay();
        let sweeps = house.records_of("sweep.attested").len();
        eventually("sweeps have looked", ENDED, || house.records_of("sweep.attested").len() > sweeps + 6);
        assert!(root.is_alive(), "{}", root.output());
        assert_eq!(house.records_of("session.opened").len(), 1);
        let listed = of_kind(&house, "granted");
        assert!(listed.len() == 1 && listed[0]["uses"] == serde_json::json!(["command"]), "{listed:?}");
        house.ctl("revoke frank").expect_ok();
        root.ended_within(ENDED);
    }

    fn without_the_table_of_sessions_connections_end_and_people_come_back(release) {
        let house = House::enforcing(release);
        house.allow("frank --account ubuntu --for 1h");
        let mut known = house.ssh("ubuntu").key(&house.frank).stay();
        let mut emergency = house.ssh("breakglass").key(&house.breakglass).stay();
        house.sh("systemctl stop lockdownd; echo '[{' >/run/lockdownd/sessions.json; systemctl start lockdownd");
        // Whose it was cannot be told any more, so it does not go on; nobody is let in on a guess.
        known.ended_within(ENDED);
        assert!(house.ssh("ubuntu").key(&house.frank).login(), "the grant is as good as before");
        assert!(emergency.is_alive());
        let started = house.records_of("daemon.started");
        assert!(started.last().is_some_and(|record| record["detail"]["sessions_lost"].is_string()), "{started:?}");
        eventually("its end is on record", SOON, || {
            house.records_of("session.terminated").iter().any(|record| record["account"] == "ubuntu")
        });
    }
}
