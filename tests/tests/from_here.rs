//! Logins from the host itself, out of somebody's session, and from link-local addresses.

use std::time::Duration;

use instance_tests::{Device, House, Key, Release, eventually, on_each_release};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(30);
/// A login within the instance with a key that lies there, as with a forwarded agent.
const SSH: &str =
    "ssh -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -i /tmp/keys";

/// A hundred processes that hold up to 20,000 descriptors each: looking through them takes longer than a login waits.
const HOG: &str = "for (1..100) { if (!fork) { for (1..20000) { POSIX::dup(0) } sleep 600; exit } } sleep 600";

/// frank and grace both have ubuntu; both keys, and break-glass's, lie where ubuntu can use them.
fn shared(release: Release) -> House {
    let house = House::enforcing(release);
    for person in ["frank", "grace"] {
        house.allow(&format!("{person} --account ubuntu --for 1h"));
    }
    house.sh("mkdir /tmp/keys");
    for (name, key) in [("frank", &house.frank), ("grace", &house.grace), ("breakglass", &house.breakglass)] {
        house.copy_in(key.path(), &format!("/tmp/keys/{name}"));
    }
    house.sh("chown -R ubuntu /tmp/keys; chmod 600 /tmp/keys/*; cp -a /tmp/keys /root/keys; chown -R root /root/keys");
    house
}

fn last_refusal(house: &House) -> Value {
    house.records_of("session.refused").pop().expect("one")
}

on_each_release! {
    fn anothers_key_opens_nothing_from_ones_own_session_and_ones_own_does(release) {
        let house = shared(release);
        let by = |person: &str, command: &str| {
            let key = if person == "frank" { &house.frank } else { &house.grace };
            house.ssh("ubuntu").key(key).run(command)
        };
        assert_eq!(by("frank", "id -un").expect_ok(), "ubuntu", "from elsewhere");
        for host in ["127.0.0.1", "127.0.0.2", "::1"] {
            by("frank", &format!("{SSH}/frank ubuntu@{host} true")).expect_ok();
            let said = by("grace", &format!("{SSH}/frank ubuntu@{host} true"));
            assert!(!said.ok() && said.to_string().contains("made on this host in a session of grace"), "{host}: {said}");
        }
        let refused = last_refusal(&house);
        assert_eq!((&refused["person"], &refused["detail"]["why"]), (&"frank".into(), &"through_session".into()), "{refused}");
        let opened = house.records_of("session.opened");
        let theirs = opened.iter().find(|record| record["session"] == refused["detail"]["through_session"]).expect("a session");
        assert_eq!(theirs["person"], "grace");

        // What she left behind is hers still; sshd's own process of her session, for a forward, is too.
        let later = format!("setsid -f sh -c 'sleep 2; {SSH}/frank ubuntu@127.0.0.1 true; echo $? >/tmp/said' >/dev/null 2>&1 </dev/null");
        by("grace", &later).expect_ok();
        eventually("it has tried", SOON, || house.exists("/tmp/said"));
        assert_ne!(house.sh("cat /tmp/said"), "0");
        let jump = |first: &str| {
            let keys = SSH.replace("/tmp", "/root");
            house.run(&format!("{keys}/frank -o ProxyCommand='{keys}/{first} -W %h:%p ubuntu@127.0.0.1' ubuntu@127.0.0.1 true"))
        };
        assert!(!jump("grace").ok());
        jump("frank").expect_ok();

        // Nobody's login: a service. And break-glass is never refused.
        house.sh(&format!("{}/frank ubuntu@127.0.0.1 true", SSH.replace("/tmp", "/root")));
        by("grace", &format!("{SSH}/breakglass breakglass@127.0.0.1 true")).expect_ok();

        // An agent is forwarded to an account that one person has, and to none that several may have.
        let store = |account: &str| house.sh(&format!("cat /run/lockdownd/keys/{account}"));
        assert!(store("ubuntu").lines().all(|line| line.contains(",no-agent-forwarding")));
        house.allow("frank --account frank --for 1h");
        assert!(!store("frank").contains("no-agent-forwarding"));
        let agent = Device::plug_in(&house.scratch(), "agent", "ed25519-sk");
        let forwarding = |account: &str| house.ssh(account).key(&house.frank).device(&agent).option("ForwardAgent=yes");
        let reaches = |account: &str| forwarding(account).run("ssh-add -l").stdout.contains("ED25519-SK");
        for (rule, own, shared) in [("own", true, false), ("yes", true, true), ("no", false, false)] {
            let exempt = "exempt = [\"breakglass\"]\n";
            house.configure(&house.config("enforce", "").replace(exempt, &format!("{exempt}agent_forwarding = \"{rule}\"\n")));
            eventually("the store is as the rule has it", SOON, || {
                let options = |account: &str| !store(account).contains("no-agent-forwarding");
                (options("frank"), options("ubuntu")) == (own, shared)
            });
            assert_eq!((reaches("frank"), reaches("ubuntu")), (own, shared), "{rule}");
        }
    }

    fn a_link_local_address_is_told_with_its_zone_and_is_in_its_range(release) {
        let house = House::enforcing(release);
        house.sh("ip netns add other && ip link add v0 type veth peer name v1 netns other && ip link set v0 up && \
                  ip -n other link set lo up && ip -n other link set v1 up && \
                  ip -6 addr add fe80::1/64 dev v0 nodad && ip -n other -6 addr add fe80::2/64 dev v1 nodad");
        house.copy_in(house.frank.path(), "/root/frank");
        house.sh("chmod 600 /root/frank");
        let login = || house.run(&format!("ip netns exec other {}/frank ubuntu@fe80::1%v1 true", SSH.replace("/tmp/keys", "/root")));
        house.allow("frank --account ubuntu --for 1h --from fe81::/16");
        let said = login();
        assert!(!said.ok() && said.to_string().contains("does not hold for this address"), "{said}");
        let refused = last_refusal(&house);
        assert_eq!((&refused["source"]["address"], &refused["detail"]["zone"]), (&"fe80::2".into(), &"v0".into()), "{refused}");
        house.ctl("revoke frank --reason over").expect_ok();
        house.allow("frank --account ubuntu --for 1h --from fe80::/10");
        login().expect_ok();
        let opened = house.records_of("session.opened").pop().expect("one");
        assert_eq!((&opened["source"]["address"], &opened["detail"]["zone"]), (&"fe80::2".into(), &"v0".into()), "{opened}");
    }

    fn another_users_many_descriptors_keep_nobody_from_logging_in_from_this_host(release) {
        let house = shared(release);
        house.useradd("hog");
        // They are logged in before: the test's own connections are made by root's processes that the instance does not see.
        let when_held = |key: &Key| {
            let again = format!("until [ -e /tmp/held ]; do sleep 0.1; done; {SSH}/frank ubuntu@127.0.0.1 true && echo in");
            house.ssh("ubuntu").key(key).spawn(&again)
        };
        let (mut frank, mut grace) = (when_held(&house.frank), when_held(&house.grace));
        eventually("both are logged in", SOON, || house.records_of("session.opened").len() == 2);
        house.sh(&format!(
            "ulimit -n $(ulimit -H -n); setsid setpriv --reuid hog --regid hog --clear-groups perl -MPOSIX -e '{HOG}' \
                 </dev/null >/dev/null 2>&1 3>&- &"
        ));
        eventually("they are held", SOON, || house.run("test $(ls /proc/$(pgrep -n -u hog)/fd | wc -l) -gt 15000").ok());
        house.sh("touch /tmp/held");
        frank.ended_within(SOON);
        let said = frank.output();
        assert!(said.stdout.contains("in"), "{said}");
        grace.ended_within(SOON);
        let said = grace.output();
        assert!(!said.ok() && said.to_string().contains("in a session of grace"), "{said}");
    }
}
