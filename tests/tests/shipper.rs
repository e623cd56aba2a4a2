//! The shipper as the package installs it: hardened, idle without a sink, and in order with rsyslog and with the end of the
//! instance. What the compliance API makes of it is tested with that server.

use std::time::Duration;

use instance_tests::{Instance, eventually, on_each_release, step};
use serde_json::Value;

const OBSERVE: &str = "mode = \"observe\"\n";
const SYSLOG: &str = "mode = \"observe\"\n[ship.syslog]\naddress = \"unix:/run/systemd/journal/syslog\"\n";
/// Ample, on a machine that does much else.
const LIMIT: Duration = Duration::from_secs(30);

fn status(instance: &Instance) -> Value {
    serde_json::from_str(&instance.run("cat /run/lockdownd-shipper/status.json").stdout).unwrap_or_default()
}

/// The lines that rsyslog has written, by their records' numbers.
fn in_auth_log(instance: &Instance) -> Vec<u64> {
    let lines = instance.run("sed -n 's/^.* lockdownd\\[[0-9]*\\]: {/{/p' /var/log/auth.log").stdout;
    lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["seq"].as_u64().unwrap()).collect()
}

fn shipped(instance: &Instance) {
    let all = || instance.records().last().unwrap()["seq"].as_u64();
    eventually("all records are in auth.log", LIMIT, || in_auth_log(instance).last().copied() == all());
}

on_each_release! {
    fn the_shipper_is_hardened_holds_up_neither_ssh_nor_the_daemon_and_does_nothing_without_a_sink(release) {
        let instance = Instance::boot(release);
        step("the unit is hardened");
        let score = instance.sh("systemd-analyze security --no-pager lockdownd-shipper | sed -n 's/.*exposure level.*: \\([0-9.]*\\) .*/\\1/p'");
        assert!(score.parse::<f32>().is_ok_and(|score| score <= 2.0), "exposure {score}");
        assert_eq!(instance.sh("systemctl is-enabled lockdownd-shipper; systemctl is-active lockdownd-shipper"), "enabled\nactive");
        assert_eq!(instance.sh("ps -o user= -p \"$(systemctl show -P MainPID lockdownd-shipper)\""), "_lockdownd");

        step("it holds up neither ssh nor the daemon");
        for unit in ["ssh.service", "lockdownd.service", "lockdownd-gate.socket"] {
            let before = instance.sh(&format!("systemctl show -P After -P Requires -P Wants {unit}"));
            assert!(!before.contains("lockdownd-shipper"), "{unit}: {before}");
        }
        // A plain restart is quick.
        instance.sh("timeout 4 systemctl restart lockdownd-shipper");

        step("without a sink it does nothing and stops at once");
        instance.configure(OBSERVE);
        eventually("the status", LIMIT, || status(&instance)["sinks"] == serde_json::json!({}) || !instance.exists("/run/lockdownd-shipper/status.json"));
        let switches = "awk '/ctxt_switches/ { n += $2 } END { print n }' /proc/$(systemctl show -P MainPID lockdownd-shipper)/task/*/status";
        let before: u64 = instance.sh(switches).parse().unwrap();
        std::thread::sleep(Duration::from_secs(10));
        let woken = instance.sh(switches).parse::<u64>().unwrap() - before;
        assert!(woken <= 10, "woken {woken} times in 10 s");
        instance.sh("timeout 2 systemctl stop lockdownd-shipper");
        assert_eq!(instance.sh("systemctl show -P Result lockdownd-shipper"), "success");
    }

    fn rsyslog_gets_each_line_as_it_was_signed_and_again_after_its_restart(release) {
        let instance = Instance::boot(release);
        instance.configure(SYSLOG);
        shipped(&instance);
        let problems = || instance.ctl_json("status")["problems"].to_string();
        assert!(!problems().contains("lockdownd-shipper"), "{}", problems());
        instance.sh("systemctl stop lockdownd-shipper");
        assert!(problems().contains("no record leaves this host: it is stopped"), "{}", problems());
        instance.sh("systemctl start lockdownd-shipper");
        shipped(&instance);
        let first = in_auth_log(&instance);
        assert!(first.iter().copied().eq(1..=first.len() as u64), "{first:?}");
        instance.sh("sed -n 's/^.* lockdownd\\[[0-9]*\\]: {/{/p' /var/log/auth.log > /tmp/logged; cat /var/lib/lockdownd/ledger/*.jsonl | head -n \"$(wc -l < /tmp/logged)\" | cmp - /tmp/logged");
        // Its own socket goes with it here: the last ones come again over the new one.
        instance.sh("systemctl stop syslog.socket rsyslog");
        instance.configure(&format!("{SYSLOG}[sessions]\nwarn_before = \"4m\"\n"));
        eventually("it waits", LIMIT, || status(&instance)["sinks"]["syslog"]["state"] == "waiting");
        instance.sh("systemctl start rsyslog");
        shipped(&instance);
        let all = in_auth_log(&instance);
        let again = &all[first.len()..];
        assert!(again.len() > 3 && again.windows(2).all(|pair| pair[1] == pair[0] + 1), "{again:?}");
    }

    fn at_the_end_of_the_instance_the_daemons_last_word_is_shipped(release) {
        let mut instance = Instance::boot(release);
        instance.configure(SYSLOG);
        shipped(&instance);
        instance.reboot();
        let stopped = instance.records_of("daemon.stopped").last().unwrap()["seq"].as_u64().unwrap();
        let journal = instance.journal("-u lockdownd-shipper");
        assert!(in_auth_log(&instance).contains(&stopped), "record {stopped} is not in auth.log\n{journal}");
        assert!(!journal.contains("not shipped yet"), "{journal}");
    }
}
