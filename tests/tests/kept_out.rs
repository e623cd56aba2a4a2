//! What would keep everybody but exempt accounts out: the daemon puts it right, or says what to do.

use std::time::Duration;

use instance_tests::{House, eventually, on_each_release};

const SOON: Duration = Duration::from_secs(30);
const GATE: &str = "/usr/lib/lockdownd/login-gate";

/// What is put right by the daemon itself, and what the record of it names.
const PUT_RIGHT: [(&str, &str); 7] = [
    ("rm /run/lockdownd/gate.sock", "gate.sock was removed or replaced"),
    ("rm /run/lockdownd/control.sock", "control.sock was removed or replaced"),
    ("rm /run/lockdownd/gate.sock; touch /run/lockdownd/gate.sock", "gate.sock was removed or replaced"),
    ("rm /run/lockdownd/gate.sock; systemctl restart lockdownd", "gate.sock was removed or replaced"),
    // systemd's own socket comes back with the daemon, and leads nowhere.
    ("systemctl kill -s KILL lockdownd", "gate.sock was removed or replaced"),
    ("chmod 700 /run/lockdownd", "not root's with mode 0755"),
    ("rm -rf /run/lockdownd || true", "was missing"),
];

/// What is only said.
const SAID: [(&str, &str, &str); 4] = [
    ("chmod 644 {gate}", "chmod 755 {gate}", "chmod 755 /usr/lib/lockdownd/login-gate"),
    ("mv {gate} /root/", "mv /root/login-gate /usr/lib/lockdownd/", "login-gate is missing"),
    ("mv {gate} /root/ && cp /bin/false {gate}", "mv /root/login-gate {gate}", "is not the login gate"),
    ("chmod 777 /run", "chmod 755 /run", "sshd cannot use /run"),
];

/// Has the gate ask where nobody listens. The daemon, which has mounts of its own, does not see it.
const BETWEEN: &str = "#!/bin/sh
if [ $PAM_TYPE = open_session ]; then mount --bind /root/dead.sock /run/lockdownd/gate.sock; fi
";

fn problems(house: &House) -> String {
    house.ctl_json("status")["problems"].to_string()
}

fn told(house: &House, field: &str, what: &str) -> usize {
    let records = house.records_of("sshd.changed");
    records.iter().filter(|record| record["detail"][field].as_str().is_some_and(|told| told.contains(what))).count()
}

on_each_release! {
    fn what_keeps_everybody_but_exempt_accounts_out_is_put_right_or_said_with_what_to_do(release) {
        let house = House::enforcing(release);
        house.allow("frank --account ubuntu --for 8h");
        // Each from an address of its own: sshd shuts one out that was refused a few times.
        let frank = |address: &str| house.ssh("ubuntu").key(&house.frank).from(address).login();
        assert!(frank("127.0.1.1"));
        let mut client = house.ssh("ubuntu").key(&house.frank).from("127.0.1.2").stay();
        for (number, (breaks, record)) in PUT_RIGHT.into_iter().enumerate() {
            house.sh(breaks);
            let mut tries = 0;
            eventually(breaks, SOON, || {
                tries += 1;
                house.ctl("status").ok() && frank(&format!("127.0.{}.{tries}", number + 2))
            });
            assert!(told(&house, "mended", record) > 0, "{breaks}: {:?}", house.records_of("sshd.changed"));
        }
        eventually("nothing is wrong any more", SOON, || problems(&house) == "[]");
        // What a restart goes by came back too: whoever is in stays in.
        for removed in ["", "rm /run/lockdownd/sessions.json /run/lockdownd/traces.json; sleep 2; "] {
            house.sh(&format!("{removed}systemctl restart lockdownd"));
            eventually("his session is bound to his grant", SOON, || {
                let sessions = house.ctl_json("sessions");
                sessions["sessions"].as_array().is_some_and(|all| all.iter().any(|one| one["person"] == "frank"))
            });
            assert!(client.is_alive() && house.records_of("session.terminated").is_empty(), "{removed}");
        }

        for (number, (breaks, mends, what)) in SAID.into_iter().enumerate() {
            house.sh(&breaks.replace("{gate}", GATE));
            let on_record = || told(&house, "broken", what);
            eventually("it is on record", SOON, || on_record() == 1);
            let problems_now = problems(&house);
            assert!(problems_now.contains(what) && problems_now.contains("nobody but exempt accounts can log in"), "{problems_now}");
            assert!(house.journal("-u lockdownd -p crit").contains(what), "{breaks}");
            assert!(!frank(&format!("127.0.2{number}.1")), "{breaks}: he does get in");
            assert!(house.ssh("breakglass").key(&house.breakglass).from(&format!("127.0.3{number}.1")).login(), "{breaks}");
            let said = house.allow("grace --account grace --for 1h");
            assert!(said.contains("nobody but exempt accounts can log in") && said.contains(what), "{breaks}: {said}");
            house.sh(&mends.replace("{gate}", GATE));
            eventually("it is whole again", SOON, || problems(&house) == "[]");
            assert_eq!(on_record(), 1, "{breaks}");
            assert!(frank(&format!("127.0.4{number}.1")), "{mends}");
        }

        // Over and over: one record, and a sum of the others.
        let known = told(&house, "mended", "gate.sock was removed or replaced");
        house.sh("for i in $(seq 10); do rm -f /run/lockdownd/gate.sock; sleep 0.5; done");
        eventually("he gets in again", SOON, || frank("127.0.5.1"));
        assert!(told(&house, "mended", "gate.sock was removed or replaced") <= known + 2);

        // Between the two questions of one login: refused, and on record as that, not as one past the gate.
        house.write("/root/between", BETWEEN);
        house.sh("chmod 755 /root/between && sed -i '0,/common-session/s,.*common-session.*,session optional pam_exec.so quiet /root/between\\n&,' /etc/pam.d/sshd");
        house.sh("perl -MIO::Socket::UNIX -e 'IO::Socket::UNIX->new(Local => \"/root/dead.sock\", Listen => 1) or die'");
        assert!(!frank("127.0.5.2"));
        house.sh("umount /run/lockdownd/gate.sock; rm /root/between");
        eventually("the refused login is on record", SOON, || {
            house.records_of("session.refused").iter().any(|record| record["detail"]["why"] == "no_answer" && record["person"] == "frank")
        });
        let opened = house.records_of("session.opened");
        assert!(opened.iter().all(|record| record["detail"]["past_gate"] != true), "{opened:?}");

        // In observe PAM needs the gate all the same.
        house.configure(&house.config("observe", ""));
        house.await_mode("observe");
        house.write("/root/between", BETWEEN);
        let key = house.frank.public();
        house.sh(&format!(
            "chmod 755 /root/between; install -d -o ubuntu -g ubuntu -m 700 /home/ubuntu/.ssh; \
             echo '{key}' >/home/ubuntu/.ssh/authorized_keys; chown ubuntu: /home/ubuntu/.ssh/authorized_keys"
        ));
        assert!(frank("127.0.5.3"), "observe lets by whom it cannot ask about");
        house.sh("umount /run/lockdownd/gate.sock; rm /root/between");
        let told = "could not ask the daemon a second time";
        eventually("it is on record as that", SOON, || {
            house.records_of("session.opened").iter().any(|r| r["reason"].as_str().is_some_and(|reason| reason.contains(told)))
        });
        assert!(house.records_of("session.opened").iter().all(|record| record["detail"]["past_gate"] != true));
        house.sh(&format!("chmod 644 {GATE}"));
        assert!(problems(&house).contains("chmod 755"), "{}", problems(&house));
        house.sh(&format!("chmod 755 {GATE}"));
        house.ctl("verify").expect_ok();
    }
}
