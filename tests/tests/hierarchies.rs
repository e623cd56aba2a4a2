//! Ending where control groups are not all in one: systemd's in v2 and the controllers in v1 (hybrid), and v1 alone. Debian 12
//! is the last release that boots so.

use std::time::Duration;

use instance_tests::{Hierarchy, House, Instance, Release, eventually};

const SOON: Duration = Duration::from_secs(30);
const ENDS: &str = "[sessions]\nleft_behind = \"end\"\n";
/// What stays behind of a person on the account: in the session, away from it, and faster than one can look.
const LEFT: &str = "setsid -f sleep N1 >/dev/null 2>&1 </dev/null; nohup sleep N2 >/dev/null 2>&1 </dev/null & \
                    tmux -L tN new-session -d 'sleep N3'; \
                    setsid -f sh -c 'while :; do sh -c \"sleep 0.01; true\"; done' >/dev/null 2>&1 </dev/null";

fn one_persons_end_takes_all_of_theirs_and_nothing_of_anybody_elses(hierarchy: Hierarchy, mounted: &str, by: &str) {
    let house = House::enforcing_in(Instance::boot_in(Release::Bookworm, hierarchy), ENDS);
    assert!(house.sh("grep cgroup /proc/mounts").contains(mounted), "{}", house.sh("cat /proc/mounts"));
    let run = |n: u32| (1..=3).filter(|kind| house.run(&format!("pgrep -xf 'sleep {n}{kind}'")).ok()).count();
    let mut clients = [("frank", &house.frank, 5011), ("grace", &house.grace, 5012)].map(|(person, key, n)| {
        house.allow(&format!("{person} --account ubuntu --for 1h"));
        let login = house.ssh("ubuntu").key(key);
        login.run(&LEFT.replace('N', &n.to_string())).expect_ok();
        login.stay()
    });
    assert_eq!((run(5011), run(5012)), (3, 3));

    // Nobody is asked to help.
    house.sh("systemctl stop dbus.socket dbus");
    house.ctl("revoke frank").expect_ok();
    let [his, hers] = &mut clients;
    assert!(his.ended_within(SOON) < Duration::from_secs(10));
    eventually("frank's are gone", SOON, || run(5011) == 0);
    std::thread::sleep(Duration::from_secs(2));
    assert!(hers.is_alive() && run(5012) == 3, "grace's are not");
    assert!(house.ssh("ubuntu").key(&house.grace).login());
    let ended = house.records_of("session.terminated");
    let how: Vec<_> = ended.iter().filter_map(|record| record["detail"]["by"].as_str()).collect();
    assert_eq!(how, [by], "{ended:?}");

    house.ctl("lockdown --reason drill").expect_ok();
    hers.ended_within(SOON);
    eventually("nothing is left", SOON, || run(5012) == 0 && !house.run("pgrep -u ubuntu -x sh").ok());
    house.ctl("verify").expect_ok();
}

#[test]
fn instances_side_by_side_share_no_control_group() {
    let instances = [Hierarchy::Legacy, Hierarchy::Hybrid].map(|how| Instance::boot_in(Release::Bookworm, how));
    let [one, other] = instances.each_ref().map(|instance| {
        std::fs::read_to_string(format!("/proc/{}/cgroup", instance.leader())).expect("PID 1 of a running instance")
    });
    let shared: Vec<&str> = one.lines().filter(|line| other.lines().any(|other| other == *line)).collect();
    assert!(shared.is_empty(), "both are in {shared:?}");
}

#[test]
fn on_v1_one_persons_end_takes_all_of_theirs_and_nothing_of_anybody_elses() {
    let mounted = "/sys/fs/cgroup/systemd cgroup";
    one_persons_end_takes_all_of_theirs_and_nothing_of_anybody_elses(Hierarchy::Legacy, mounted, "scope_members");
}

#[test]
fn on_hybrid_one_persons_end_takes_all_of_theirs_and_nothing_of_anybody_elses() {
    let mounted = "/sys/fs/cgroup/unified cgroup2";
    one_persons_end_takes_all_of_theirs_and_nothing_of_anybody_elses(Hierarchy::Hybrid, mounted, "scope");
}
