//! What an operator's day needs: reading at a terminal, times in one's own zone, and the like.

use std::time::{Duration, Instant};

use instance_tests::{House, eventually, on_each_release};

/// Ample, on a machine that does much else.
const SOON: Duration = Duration::from_secs(30);
/// How long somebody waits for a completion; on a machine that does much else.
const BEFORE_A_PERSON_GIVES_UP: Duration = Duration::from_secs(10);

on_each_release! {
    fn records_have_a_pager_at_a_terminal_and_times_a_zone(release) {
        let house = House::enforcing(release);
        house.allow("frank --account ubuntu --for 1h");
        house.sh("printf '#!/bin/sh\\necho by less; exec cat\\n' >/usr/local/bin/less; chmod +x /usr/local/bin/less");
        let at_a_terminal = |env: &str, args: &str| {
            house.sh(&format!("{env} COLUMNS=80 script -qec 'stty cols 80; lockdownctl {args}' /dev/null"))
        };
        let paged = at_a_terminal("", "records");
        assert!(paged.contains("by less") && paged.contains("grant.created"), "{paged}");
        for (env, args) in [("", "records --no-pager"), ("PAGER=cat", "records"), ("", "--json records"), ("", "grants")] {
            let said = at_a_terminal(env, args);
            assert!(!said.contains("by less") && !said.is_empty(), "{env} {args}: {said}");
        }
        let own = "PAGER='echo by own; cat'";
        assert!(at_a_terminal(own, "records").contains("by own"));
        let elevated = at_a_terminal(&format!("SUDO_UID=1000 {own}"), "records");
        assert!(elevated.contains("by less") && !elevated.contains("by own"), "with root's rights less alone: {elevated}");
        assert!(!house.ctl("records").stdout.contains("by less"), "what is piped is the bare text");

        let local = house.sh("TZ=XYZ-3 lockdownctl --time local grants");
        assert!(local.contains(" XYZ ") && !local.contains("UTC"), "{local}");
        assert!(house.ctl("grants").stdout.contains(" UTC "));
        let odd = house.run("TZ=Nowhere lockdownctl --time local grants");
        assert!(odd.status == 1 && odd.stderr.contains("is no time zone"), "{odd}");
    }
    fn a_person_is_told_at_login_when_their_grant_ends_and_again_when_that_changes(release) {
        let house = House::enforcing(release);
        house.allow("frank --account ubuntu --for 1h");
        let login = || house.ssh("ubuntu").key(&house.frank);
        let said = login().run("echo here").expect_ok();
        assert_eq!(said, "here", "a command's output is its own");
        let mut client = login().arg("-tt").spawn("");
        let told = |client: &instance_tests::Client, what: &str| client.stdout().contains(what);
        eventually("it is told at the login", SOON, || told(&client, "lockdownd: this connection to ubuntu ends in"));
        eventually("the session is known", SOON, || house.ctl_json("sessions").to_string().contains("pts/"));
        house.allow("frank --account ubuntu --for 30m");
        house.allow("frank --account ubuntu --for 2h");
        eventually("it is told of the new end", SOON, || told(&client, "lockdownd: this connection to ubuntu now ends in 2h, at "));
        assert_eq!(client.stdout().matches("now ends in").count(), 1, "{}", client.stdout());
        assert!(client.is_alive());
        // The breakglass account has no end to tell of.
        let exempt = house.ssh("breakglass").key(&house.breakglass).arg("-tt").spawn("echo in; sleep 3600");
        eventually("it is in", SOON, || told(&exempt, "in"));
        assert!(!told(&exempt, "lockdownd"), "{}", exempt.stdout());
    }
    fn metrics_are_left_for_node_exporter_once_somebody_asks_for_it(release) {
        let house = House::enforcing(release);
        const FILE: &str = "/var/lib/prometheus/node-exporter/lockdownd.prom";
        assert_eq!(house.sh("systemctl is-enabled lockdownd-metrics.timer || true"), "disabled");
        house.allow("frank --account ubuntu --for 1h");
        // As prometheus-node-exporter has it, with a user of its own.
        house.sh("useradd -r prometheus; install -d -o prometheus /var/lib/prometheus /var/lib/prometheus/node-exporter; \
                  systemctl enable -q --now lockdownd-metrics.timer");
        let metrics = || house.run(&format!("cat {FILE}")).stdout;
        eventually("they are there", SOON, || metrics().contains("lockdownd_grants{state=\"active\"} 1\n"));
        assert!(metrics().contains("lockdownd_up 1\n") && metrics().contains("lockdownd_enforcing 1\n"), "{}", metrics());
        assert_eq!(house.sh(&format!("stat -c '%U %a' {FILE}; ls -A /var/lib/prometheus/node-exporter")), "root 644\nlockdownd.prom");
        house.sh("systemctl stop lockdownd lockdownd-control.socket; ! systemctl start lockdownd-metrics.service");
        assert!(metrics().ends_with("lockdownd_up 0\n"), "{}", metrics());
    }
    fn a_scheduled_lockdown_is_the_end_that_is_shown_and_nothing_is_given_that_it_ends_before_it_begins(release) {
        let in_two_hours = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(2);
        let schedule = in_two_hours.strftime("[schedule]\nlockdown = \"0 %-M %-H * * *\"").to_string();
        let house = House::enforcing_with(release, &schedule);
        let said = house.allow("frank --account ubuntu --for 5h");
        assert!(said.contains("a scheduled lockdown comes before"), "{said}");
        let grants = house.ctl("grants").stdout;
        assert!(grants.contains("ends in 1 h") && grants.contains("a lockdown is scheduled for "), "{grants}");
        assert!(house.ctl("status").stdout.contains("(the first ends in 1 h"));
        let _client = house.ssh("ubuntu").key(&house.frank).stay();
        eventually("the session is known", SOON, || house.ctl("sessions").stdout.contains("in 1 h"));
        let later = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(4);
        let refused = house.ctl(&format!("allow grace --account ubuntu --for 1h --at {later:.0} --reason test"));
        assert!(refused.status == 1 && refused.stderr.contains("ends it before it begins"), "{refused}");
        let sooner = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
        let said = house.allow(&format!("grace --account ubuntu --for 2h --at {sooner:.0}"));
        assert!(said.contains("begins ") && said.contains("a scheduled lockdown comes before"), "{said}");
    }
    fn bash_completes_what_the_running_daemon_knows_and_waits_for_none_that_does_not_run(release) {
        let house = House::enforcing(release);
        house.allow("frank --account ubuntu --for 1h");
        let id = house.ctl_json("grants")["grants"][0]["id"].as_str().expect("an id").to_owned();
        let _client = house.ssh("ubuntu").key(&house.frank).stay();
        let session = || house.ctl_json("sessions")["sessions"][0]["id"].as_str().map(str::to_owned);
        eventually("the session is known", SOON, || session().is_some());
        const SCRIPT: &str = "/usr/share/bash-completion/completions/lockdownctl";
        let completed = |user: &str, words: &str| {
            let last = words.rsplit(' ').next().unwrap_or_default();
            let complete = format!(
                "source {SCRIPT}; COMP_WORDS=(lockdownctl {words}); [ -n '{last}' ] || COMP_WORDS+=(''); \
                 COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); COMP_TYPE=9; _clap_complete_lockdownctl lockdownctl '{last}'; \
                 printf '%s\\n' \"${{COMPREPLY[@]-}}\""
            );
            house.write("/tmp/complete.bash", complete);
            let said = house.run_as(user, "bash /tmp/complete.bash").expect_ok();
            said.lines().map(str::to_owned).collect::<Vec<_>>()
        };
        let as_root = |words: &str| completed("root", words);
        assert_eq!(as_root("allow fra"), ["frank"]);
        assert_eq!(as_root("allow frank --account ubu"), ["ubuntu"]);
        assert_eq!(as_root("records --type session.o"), ["session.opened"]);
        assert_eq!(as_root("records --grant g-"), [id.as_str()]);
        assert_eq!(as_root("revoke s-"), [session().expect("there")]);
        let all = as_root("revoke ");
        assert!(["frank", "grace", &id, "--reason"].iter().all(|one| all.contains(&(*one).to_owned())), "{all:?}");
        assert!(as_root("qua").contains(&"quarantine".to_owned()));
        // Typed into a bash that has a terminal.
        let typed = house.sh(&format!(
            "printf 'lockdownctl grants --person fra\\t\\nexit\\n' | script -qec 'stty cols 200; bash --rcfile {SCRIPT} -i' /dev/null"
        ));
        assert!(typed.contains(&id) && typed.contains("--person frank"), "{typed}");

        // Who may not ask is told no names, and nobody waits for a daemon that stands still or is not there.
        assert_eq!(completed("nobody", "allow fra").join(""), "");
        assert_eq!(completed("nobody", "sess"), ["sessions"]);
        house.sh("systemctl kill -s STOP lockdownd");
        let began = Instant::now();
        assert_eq!(as_root("allow fra").join(""), "");
        assert!(began.elapsed() < BEFORE_A_PERSON_GIVES_UP, "{:?}", began.elapsed());
        house.sh("systemctl kill -s CONT lockdownd; systemctl stop lockdownd lockdownd-control.socket");
        let began = Instant::now();
        assert_eq!(as_root("allow fra").join(""), "");
        assert!(as_root("allow frank --").contains(&"--reason".to_owned()));
        assert!(began.elapsed() < BEFORE_A_PERSON_GIVES_UP, "{:?}", began.elapsed());
    }
    fn tables_fit_a_terminal_of_eighty_columns_and_a_pipe_has_all_of_them(release) {
        let house = House::enforcing(release);
        const LONG: &str = "a-person-with-quite-a-long-name-as-some-directories-have-them";
        let account = "an-account-of-thirty-one-letters";
        house.sh(&format!("useradd -m {account}"));
        house.write("/etc/lockdownd/conf.d/long.toml", format!(
            "[[person]]\nname = \"{LONG}\"\nkeys = [\"{}\"]\naccounts = [\"ubuntu\", \"{account}\"]\n", house.keygen("long").public()
        ));
        house.sh("systemctl reload lockdownd");
        house.allow(&format!("{LONG} --account {account} --for 1h --from 10.0.0.0/8 --from 192.0.2.0/24"));
        house.allow("frank --account ubuntu --for 1h");
        let _client = house.ssh("ubuntu").key(&house.frank).stay();
        eventually("the session is known", SOON, || house.ctl_json("sessions").to_string().contains("frank"));
        house.authorize(account, &house.grace);
        eventually("it is removed", SOON, || house.ctl("quarantine list").stdout.contains(account));
        for command in ["status", "grants", "sessions", "people", "quarantine list", "plan", "records --no-pager"] {
            let shown = house.sh(&format!("script -qec 'stty cols 80; lockdownctl {command}' /dev/null || true"));
            for line in shown.lines() {
                let plain: String = without_colour(line);
                assert!(plain.chars().count() <= 80, "{command}: {plain}");
            }
        }
        for command in ["grants", "people", "quarantine list"] {
            let piped = house.ctl(command).stdout;
            assert!(piped.contains(account) && !piped.contains('…'), "{command}: {piped}");
        }
        assert!(house.ctl("grants").stdout.contains(LONG));
    }
}

/// A line as it is to the eye.
fn without_colour(line: &str) -> String {
    let mut parts = line.split('\x1b');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.split_once('m').map_or(part, |(_, rest)| rest)).trim_end().to_owned()
}
