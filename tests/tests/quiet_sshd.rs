//! An sshd of root's that is past the gate and says nothing where it is listened for: who comes in by it is found by the
//! kernel's word, and the ways in name it.

use std::time::{Duration, Instant};

use instance_tests::{Client, House, eventually, on_each_release};

/// How long until another sshd has been noticed and looked at: seconds, and more where the machine is busy.
const SOON: Duration = Duration::from_secs(30);
/// How long somebody who came past the gate may stay once that sshd is known: a second as a rule, and more where the
/// machine is busy.
const FOUND: Duration = Duration::from_secs(15);

/// Quick logins at a time, and how often.
const AT_ONCE: usize = 40;
const ROUNDS: usize = 4;
/// How long the daemon may take to answer meanwhile, the start of who asks included, on a machine that is busy with all that.
const ANSWER_LIMIT: Duration = Duration::from_secs(8);

/// Starts an sshd of root's, past PAM and so past the gate, on port 2222, by `start` with its configuration behind it.
fn second_sshd(house: &House, prepare: &str, start: &str, more: &str) {
    // Not where sshd's configuration is watched: it is found by what it does. A key file that it named would go.
    house.sh(&format!(
        "mkdir -p /srv/second && printf 'Port 2222\nPidFile none\nUsePAM no\nAuthorizedKeysFile none\n\
         AuthorizedKeysCommand /bin/cat /srv/keys/%%u\nAuthorizedKeysCommandUser nobody\n{more}\n' \
         >/srv/second/config && mkdir -p /srv/keys && printf '%s\n' '{}' >/srv/keys/ubuntu && {prepare} \
         systemd-run -q --unit second {start} /usr/sbin/sshd -D -f /srv/second/config",
        house.frank.public(),
    ));
}

/// What the newest attestation says in this part of it; a long one is several records.
fn attests(house: &House, part: &str, word: &str) -> bool {
    let records = house.records_of("sweep.attested");
    let first = records.iter().rposition(|record| record["detail"]["part"].as_u64().unwrap_or(1) == 1).unwrap_or(0);
    records[first..].iter().any(|record| record["detail"][part].to_string().contains(word))
}

/// Whoever comes in by it is put on record and ended, and nobody else is.
fn is_guarded(house: &House) {
    house.allow("grace --account ubuntu --for 1h");
    let mut granted = house.ssh("ubuntu").key(&house.grace).stay();
    let before = house.records_of("session.opened").len();
    let mut stranger = house.ssh("ubuntu").arg("-p").arg("2222").key(&house.frank).spawn("sleep 3600");
    let took = stranger.ended_within(SOON);
    println!("the stranger was in for {took:?} at most");
    assert!(took < FOUND, "{took:?}");
    eventually("both are on record", SOON, || {
        house.records_of("session.opened").len() == before + 1 && !house.records_of("session.terminated").is_empty()
    });
    let opened = house.records_of("session.opened");
    let record = opened.last().expect("one");
    assert!(record["account"] == "ubuntu" && record["detail"]["past_gate"] == true, "{record}");
    assert!(granted.is_alive());
}

on_each_release! {
    fn who_comes_by_an_sshd_that_logs_nothing_is_found_within_about_a_second_and_it_is_warned_of(release) {
        let house = House::enforcing(release);
        second_sshd(&house, "", "", "LogLevel QUIET");
        eventually("it is attested as open", SOON, || attests(&house, "ways_open", "/srv/second/config"));
        eventually("with the line that mends it", SOON, || {
            attests(&house, "warnings", "`LogLevel INFO` in /srv/second/config")
        });
        assert!(house.ctl("ways-in").stdout.contains("LogLevel QUIET"));
        is_guarded(&house);
        // Once it is gone nothing is looked for any more, and nothing is warned of.
        house.sh("systemctl stop second; systemctl restart lockdownd");
        eventually("the next attestation is without it", SOON, || !attests(&house, "warnings", "LogLevel"));
    }

    fn a_log_whose_lines_do_not_reach_the_journal_is_a_gap_once_and_whole_again_when_they_do(release) {
        let house = House::enforcing(release);
        house.allow("frank --account ubuntu --for 1h");
        let login = || assert!(house.ssh("ubuntu").key(&house.frank).login());
        let problems = || house.ctl_json("status")["problems"].to_string();
        let gaps = || house.records_of("journal.gap").len();
        login();
        // As an image that was made to log less has it; no setting of sshd's own says so.
        let levels = "/etc/systemd/system/ssh.service.d/less.conf";
        house.sh(&format!("mkdir -p $(dirname {levels}); printf '[Service]\nLogLevelMax=warning\n' >{levels}; systemctl daemon-reload; systemctl restart ssh"));
        for _ in 0..2 {
            eventually("sshd is back", SOON, || house.ssh("ubuntu").key(&house.frank).login());
            eventually("it is said", Duration::from_secs(120), || problems().contains("sshd's log is not whole"));
        }
        assert!(house.ctl("ways-in").stdout.contains("sshd's log is not whole"));
        assert_eq!(gaps(), 1);
        house.sh(&format!("rm {levels}; systemctl daemon-reload; systemctl restart ssh"));
        eventually("sshd is back", SOON, || house.ssh("ubuntu").key(&house.frank).login());
        eventually("it is whole again", SOON, || {
            login();
            !problems().contains("sshd's log")
        });
        assert_eq!(gaps(), 1);
        house.ctl("verify").expect_ok();
    }

    fn an_sshd_in_a_chroot_that_shares_the_hosts_accounts_is_listed_and_guarded(release) {
        let house = House::enforcing(release);
        let jail = "J=/srv/jail; mkdir -p $J/usr $J/etc $J/home $J/srv/keys $J/srv/second $J/dev/pts $J/proc $J/run/sshd $J/tmp; \
            for d in usr etc home proc srv/keys srv/second; do mount --bind /$d $J/$d; done; \
            for l in bin sbin lib lib64; do ln -s usr/$l $J/$l; done; \
            for d in null zero random urandom tty; do touch $J/dev/$d; mount --bind /dev/$d $J/dev/$d; done;";
        second_sshd(&house, jail, "chroot /srv/jail", "");
        eventually("it is attested as open", SOON, || attests(&house, "ways_open", "root directory of its own"));
        is_guarded(&house);
    }
    fn many_quick_logins_past_the_gate_and_through_it_hold_up_nobody(release) {
        let house = House::enforcing(release);
        house.allow("grace --account ubuntu --for 1h");
        house.sh("printf 'MaxStartups 500\n' >/etc/ssh/sshd_config.d/10-many.conf && systemctl reload ssh");
        second_sshd(&house, "", "", "MaxStartups 500");
        eventually("it is attested as open", SOON, || attests(&house, "ways_open", "/srv/second/config"));
        let past = || house.ssh("ubuntu").arg("-p").arg("2222").key(&house.frank).spawn("true");
        let through = || house.ssh("ubuntu").key(&house.grace).spawn("true");
        let mut times = Vec::new();
        for _ in 0..ROUNDS {
            let mut clients: Vec<Client> = (0..AT_ONCE).map(|n| if n % 4 == 0 { through() } else { past() }).collect();
            for client in &mut clients {
                let start = Instant::now();
                // `status` would wait for a fresh look.
                house.ctl("grants").expect_ok();
                times.push(start.elapsed());
                client.ended_within(SOON);
            }
        }
        times.sort_unstable();
        println!("the daemon answered in {:?} as a rule, in {:?} at most", times[times.len() / 2], times.last());
        assert!(times.iter().all(|took| *took < ANSWER_LIMIT), "{times:?}");
        assert_eq!(house.sh("systemctl show -P NRestarts lockdownd").trim(), "0");
    }
}
