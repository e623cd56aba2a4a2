//! Whole logins with ssh: with and without the gate, and from `allow` on.

use std::thread;
use std::time::{Duration, Instant};

use crate::{
    Bench, note,
    samples::Samples,
    table::{Bound, Row},
};

/// The gate adds at most this.
const GATE_ADDS: Duration = Duration::from_millis(10);
/// Logins of one kind before PAM's files are swapped.
const IN_A_ROW: u32 = 5;
/// After a swap: the daemon looks at PAM's files anew, and the first logins would wait for that.
const SETTLE: Duration = Duration::from_millis(500);
/// PAM's files that the package's profile stands in.
const STACKS: &str = "common-account common-session";

/// Logins with the gate and without, in turn; then logins that begin with `lockdownctl allow`.
pub(crate) fn measure(bench: &Bench) -> Vec<Row> {
    let house = &bench.house;
    let logins = bench.effort.logins;
    // A login from this host is looked into for who made it; the usual one comes from another.
    house.far_network();
    note(&format!("{logins} logins with the gate, {logins} without, and {logins} from `allow` on"));
    // Otherwise each login starts ubuntu's user manager, which takes longer than all else and says nothing here.
    house.sh("loginctl enable-linger ubuntu");
    house.sh(&format!("cd /etc/pam.d && mkdir /etc/pam.gated && cp -p {STACKS} /etc/pam.gated"));
    house.sh("pam-auth-update --package --remove lockdownd");
    house.sh(&format!("cd /etc/pam.d && mkdir /etc/pam.bare && cp -p {STACKS} /etc/pam.bare"));
    house.allow("frank --account ubuntu --for 1h");
    let (mut gated, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..logins.div_ceil(IN_A_ROW) {
        for (stacks, times) in [("gated", &mut gated), ("bare", &mut bare)] {
            swap(bench, stacks);
            // One that does not count: it finds the caches cold.
            login(bench);
            times.extend((0..IN_A_ROW).map(|_| login(bench)));
        }
    }
    swap(bench, "gated");
    let (gated, bare) = (Samples::new(gated), Samples::new(bare));
    let from_allow = Samples::new((0..logins).map(|_| allow_and_login(bench)).collect());
    house.sh("loginctl disable-linger ubuntu");
    vec![
        Row::times("login without the gate → with it, median", bare.median(), gated.median(), Bound::Adds(GATE_ADDS)),
        Row::times("login → allow and login, median", gated.median(), from_allow.median(), Bound::None),
        Row::times("login → allow and login, p99", gated.percentile(99), from_allow.percentile(99), Bound::None),
    ]
}

/// Puts PAM's files with or without the profile into place, each by one rename.
fn swap(bench: &Bench, stacks: &str) {
    let each = format!("cp -p /etc/pam.{stacks}/$f /etc/pam.d/$f.new && mv /etc/pam.d/$f.new /etc/pam.d/$f");
    bench.house.sh(&format!("for f in {STACKS}; do {each} || exit 1; done"));
    thread::sleep(SETTLE);
}

/// One login that runs `true`, nanoseconds.
fn login(bench: &Bench) -> u64 {
    let start = Instant::now();
    bench.house.ssh("ubuntu").key(&bench.house.frank).from_far().run("true").expect_ok();
    nanoseconds(start)
}

/// From asking for a grant to the end of the login that it allows.
fn allow_and_login(bench: &Bench) -> u64 {
    bench.house.ctl("revoke frank --reason bench").expect_ok();
    let start = Instant::now();
    bench.house.allow("frank --account ubuntu --for 1h");
    login(bench);
    nanoseconds(start)
}

fn nanoseconds(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
}
