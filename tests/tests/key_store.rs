//! The key store where it cannot be written, and where one account's file is very long.

use std::{
    thread,
    time::{Duration, Instant},
};

use base64ct::{Base64, Encoding};
use instance_tests::{DAEMON, House, eventually, on_each_release};

const STORE: &str = "/run/lockdownd/keys";
/// The longest that the daemon waits before it tries again to write, and then some.
const TRIED_AGAIN: Duration = Duration::from_secs(40);

/// How much processor time the daemon has used, in clock ticks of 10 ms.
fn ticks(house: &House) -> u64 {
    let stat = house.sh(&format!("cat /proc/{DAEMON}/stat"));
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// Whether the daemon is idle: at most 0.5 s of processor time within 5 s.
#[track_caller]
fn is_idle(house: &House) {
    let before = ticks(house);
    thread::sleep(Duration::from_secs(5));
    let used = ticks(house) - before;
    assert!(used <= 50, "{used} ticks of processor time within 5 s");
}

/// An RSA key of 16,384 bits: nobody has its other half.
fn long_key(number: u32) -> String {
    let field = |bytes: &[u8]| [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat();
    let mut modulus = vec![0x5a; 2_049];
    modulus[0] = 0;
    modulus[1] = 0xd3;
    modulus[100..104].copy_from_slice(&number.to_be_bytes());
    modulus[2_048] |= 1;
    let blob = [field(b"ssh-rsa"), field(&[1, 0, 1]), field(&modulus)].concat();
    format!("ssh-rsa {}", Base64::encode_string(&blob))
}

/// A person who may be given `ubuntu`, with 64 long keys.
fn person_with_long_keys(number: u32) -> String {
    let keys: Vec<String> = (0..64).map(|key| format!("\"{}\"", long_key(number * 64 + key))).collect();
    format!("[[person]]\nname = \"p{number:02}\"\nkeys = [{}]\naccounts = [\"ubuntu\"]\n", keys.join(",\n"))
}

on_each_release! {
    fn no_start_of_the_daemon_takes_a_key_out_that_a_grant_backs(release) {
        let house = House::enforcing(release);
        house.allow("frank --account ubuntu --for 1h");
        let missing = format!("while [ ! -e /run/enough ]; do [ -s {STORE}/ubuntu ] || echo missing; done >/run/missing");
        house.sh(&format!("systemd-run -q --unit watches-the-store bash -c '{missing}'"));
        for how in ["kill -s KILL", "restart", "kill -s KILL", "restart"] {
            house.sh(&format!("systemctl {how} lockdownd"));
            eventually("it runs", TRIED_AGAIN, || house.run("systemctl is-active lockdownd").ok() && house.ctl("status").ok());
        }
        house.sh("touch /run/enough; sleep 1");
        assert_eq!(house.sh("sort /run/missing | uniq -c"), "", "the key was not there for a moment");
    }

    fn a_store_that_cannot_be_written_is_told_of_and_tried_again_with_pauses_and_what_is_revoked_goes(release) {
        let house = House::enforcing(release);
        house.allow("frank --account ubuntu --for 1h");
        house.allow("grace --account ubuntu --for 1h");
        house.sh("fallocate -l 100T /run/full 2>/dev/null; dd if=/dev/zero of=/run/full bs=64k 2>/dev/null; ! dd if=/dev/zero of=/run/fuller bs=4k 2>/dev/null");
        let full = |name: &str| {
            let said = house.allow(&format!("{name} --account {name} --for 1h"));
            assert!(said.contains(&format!("{name} cannot log in yet")) && said.contains("No space left on device"), "{said}");
        };
        full("frank");
        let problems = house.ctl_json("status")["problems"].to_string();
        assert!(problems.contains("the keys of frank for frank are not in place") && problems.contains("crit"), "{problems}");
        full("grace");
        house.ctl("revoke frank --reason over").expect_ok();
        let file = house.run(&format!("cat {STORE}/ubuntu")).stdout;
        assert!(!file.contains(" frank/"), "a key that was revoked stands: {file}");
        is_idle(&house);
        let told = house.journal("-u lockdownd").lines().filter(|line| line.contains("the key store cannot be put right")).count();
        assert!((1..=3).contains(&told), "told {told} times");
        house.sh("rm /run/full /run/fuller");
        eventually("grace's keys are in place", TRIED_AGAIN, || {
            house.exists(&format!("{STORE}/grace")) && house.ssh("grace").key(&house.grace).login()
        });
        eventually("the problem is over", TRIED_AGAIN, || {
            !house.ctl_json("status")["problems"].to_string().contains("the key store")
        });
        assert!(!house.exists(&format!("{STORE}/frank")));
        assert!(house.ssh("ubuntu").key(&house.grace).login());
    }

    fn a_file_in_the_store_may_be_long_and_a_grant_that_would_make_it_too_long_is_refused(release) {
        let house = House::enforcing(release);
        for some in (0..24).collect::<Vec<u32>>().chunks(4) {
            let people: String = some.iter().map(|number| person_with_long_keys(*number)).collect();
            house.write(&format!("/etc/lockdownd/conf.d/{:02}.toml", some[0]), people);
        }
        house.sh("systemctl reload lockdownd");
        eventually("people are known", Duration::from_secs(30), || house.ctl("people").stdout.contains("p23"));
        let (mut given, mut refused) = (0, None);
        for number in 0..24 {
            let answer = house.ctl(&format!("allow p{number:02} --for 1h --reason test"));
            if answer.ok() {
                given += 1;
            } else {
                refused.get_or_insert(answer.stderr);
            }
        }
        let refused = refused.expect("more than fits was asked for");
        assert!(refused.contains("the file of ubuntu in the key store would have more than"), "{refused}");
        let size: u64 = house.sh(&format!("stat -c %s {STORE}/ubuntu")).parse().unwrap();
        assert!(size > 3 << 20 && size <= 4 << 20, "{given} grants, {size} bytes");
        is_idle(&house);
        let began = Instant::now();
        house.allow("frank --account ubuntu --for 1h");
        house.allow("grace --account grace --for 1h");
        assert!(house.ssh("ubuntu").key(&house.frank).login(), "his key stands at the end");
        assert!(house.ssh("grace").key(&house.grace).login());
        assert!(house.ssh("breakglass").key(&house.breakglass).login());
        assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
        is_idle(&house);
        house.ctl("lockdown --reason over").expect_ok();
        assert!(!house.exists(&format!("{STORE}/ubuntu")));
    }
}
