//! What an operator's day needs: reading at a terminal, times in one's own zone, and the like.

use std::time::Duration;

use instance_tests::{House, eventually, on_each_release};

/// Ample, on a machine that does much else.
const SOON: Duration = Duration::from_secs(30);

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
}
