//! Who may ask the daemon: root, and operators within their own live granted session, never what they leave behind.

use std::time::Duration;

use instance_tests::{House, Key, Release, Ssh, eventually, on_each_release};

/// What the daemon may take to do what it was told.
const DONE: Duration = Duration::from_secs(15);
/// What somebody hears who is not in a session of their own.
const NOT_IN_A_SESSION: &str = "only root, or an operator within their own live granted SSH session";
/// What somebody hears who is in one, and no operator.
const NO_OPERATOR: &str = "you are not an operator here";

/// A house in which frank is an operator and has a grant on his own account.
fn with_operator(release: Release, more: &str) -> House {
    let house = House::enforcing_with(release, more);
    house.sh("usermod -aG lockdown-operators frank");
    house.allow("frank --account frank --for 1h");
    house
}

fn frank(house: &House) -> Ssh<'_> {
    house.ssh("frank").key(&house.frank)
}

/// Asks every 0.1 s whether `lockdownctl` is heard, and writes each status to `~/asked`; leaves the process tree as `tmux`
/// does, and outlives its session.
const ASKER: &str = "(setsid nohup sh -c 'while sleep 0.1; do lockdownctl status >/dev/null 2>>said; echo $? >>asked; done' \
                     >/dev/null 2>&1 </dev/null &)";

/// How the asker's last questions went, after three more from now.
fn asked_from_now(house: &House) -> Vec<String> {
    let all = || -> Vec<String> { house.sh("cat /home/frank/asked || true").lines().map(str::to_owned).collect() };
    // One more than is looked at: the first may have been on its way.
    let before = all().len() + 1;
    eventually("the asker goes on asking", DONE, || all().len() >= before + 3);
    all().split_off(before)
}

on_each_release! {
    fn an_operator_in_their_own_session_may_grant_others_and_not_themselves(release) {
        let house = with_operator(release, "");
        house.sh("echo 'frank ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/frank");
        let frank = |command: &str| frank(&house).run(command);
        frank("lockdownctl allow grace --account ubuntu --for 1h --reason INC-1").expect_ok();
        assert!(house.ssh("ubuntu").key(&house.grace).login());
        let created = house.records_of("grant.created").pop().unwrap();
        assert_eq!((&created["person"], &created["actor"]["person"]), (&"grace".into(), &"frank".into()), "{created}");
        let uid: u64 = house.sh("id -u frank").parse().unwrap();
        assert_eq!((&created["actor"]["uid"], &created["actor"]["login_uid"]), (&uid.into(), &uid.into()), "{created}");

        // Who extends it gives their own reason, and it stays the grant of who gave it.
        let by_root = |duration: &str| house.ctl(&format!("allow grace --account ubuntu --for {duration} --reason INC-9")).expect_ok();
        assert!(by_root("30m").contains("asking for less does not shorten it"));
        assert_eq!(house.records_of("grant.created").len(), 2, "what changes nothing is not recorded");
        by_root("2h");
        let grants = house.ctl_json("grants --person grace")["grants"].clone();
        assert_eq!((&grants[0]["reason"], &grants[0]["origin"]["operator"]["person"]), (&"INC-1".into(), &"frank".into()), "{grants}");
        let extended = house.records_of("grant.created").pop().unwrap();
        assert_eq!((&extended["actor"]["uid"], &extended["detail"]["why"]), (&0.into(), &"INC-9".into()), "{extended}");
        assert!(extended["actor"]["person"].is_null() && extended["detail"]["extends"].is_string(), "{extended}");

        // As root too it is frank who asks: sudo does not lead out of his session.
        for sudo in ["", "sudo ", "sudo setsid -w "] {
            let said = frank(&format!("{sudo}lockdownctl allow frank --account ubuntu --for 1h --reason INC-2"));
            assert_eq!(said.status, 1, "{said}");
            assert!(said.stderr.contains("nobody grants themselves"), "{said}");
        }
        frank("sudo lockdownctl revoke grace --reason done").expect_ok();
        let ended = house.records_of("grant.ended").pop().unwrap();
        assert_eq!((&ended["actor"]["person"], &ended["actor"]["uid"]), (&"frank".into(), &0.into()), "{ended}");

        // Who is no operator is told so.
        house.allow("grace --account grace --for 1h");
        let said = house.ssh("grace").key(&house.grace).run("lockdownctl status");
        assert_eq!(said.status, 1, "{said}");
        assert!(said.stderr.contains(NO_OPERATOR) && said.stdout.is_empty(), "{said}");
    }

    fn an_operator_may_grant_themselves_where_the_configuration_says_so(release) {
        let house = with_operator(release, "[grants]\nself = true\n");
        frank(&house).run("lockdownctl allow frank --account ubuntu --for 1h --reason INC-1").expect_ok();
        assert!(house.ssh("ubuntu").key(&house.frank).login());
    }

    fn nobody_is_heard_outside_of_a_live_session_of_their_own(release) {
        let house = with_operator(release, "");
        let mut live = frank(&house).stay();
        // As cron or at would start it, beside a live session of the same account; and the account's own manager.
        for elsewhere in [
            "systemd-run -q --wait --pipe -p User=frank -p PAMName=cron lockdownctl status",
            "systemd-run -q --wait --pipe -p User=frank lockdownctl status",
            "runuser -u frank -- lockdownctl status",
        ] {
            let said = house.run(elsewhere);
            assert!(!said.ok() && said.stderr.contains(NOT_IN_A_SESSION), "{said}");
        }
        house.run_as("frank", "mkdir -p .config/systemd/user; printf '[Service]\\nType=oneshot\\nExecStart=/bin/sh -c \"%s\"\\n' \
                               'lockdownctl status >%h/said 2>&1' >.config/systemd/user/ask.service").expect_ok();
        let said = frank(&house).run("lockdownctl status >/dev/null && XDG_RUNTIME_DIR=/run/user/$(id -u) systemctl --user start ask");
        assert!(!said.ok() && house.sh("cat /home/frank/said").contains(NOT_IN_A_SESSION), "{said}");
        assert!(live.is_alive());
    }

    fn what_leaves_the_process_tree_is_heard_as_long_as_its_session_lives(release) {
        let house = with_operator(release, "");
        let session = frank(&house).spawn(&format!("{ASKER}; echo started; exec sleep 3600"));
        eventually("the asker runs", DONE, || session.stdout().contains("started"));
        eventually("it has left the tree", DONE, || house.run("test $(ps -o ppid= -p $(pgrep -fo '[w]hile sleep')) -eq 1").ok());
        assert_eq!(asked_from_now(&house)[..3], ["0", "0", "0"]);

        // The connection ends by itself, and what it left behind is heard no more: not beside another session either.
        drop(session);
        eventually("the session is closed", DONE, || !house.records_of("session.closed").is_empty());
        assert_eq!(asked_from_now(&house)[..3], ["1", "1", "1"]);
        let mut another = frank(&house).stay();
        assert_eq!(asked_from_now(&house)[..3], ["1", "1", "1"]);
        assert!(another.is_alive());
        assert!(house.sh("tail -n 4 /home/frank/said").contains(NOT_IN_A_SESSION));
    }

    fn a_session_that_outlives_its_grant_is_heard_no_more(release) {
        let house = with_operator(release, "[sessions]\nend_with_grant = false\n");
        let session = frank(&house).spawn(&format!("{ASKER}; echo started; exec sleep 3600"));
        eventually("the asker runs", DONE, || session.stdout().contains("started"));
        assert_eq!(asked_from_now(&house)[..3], ["0", "0", "0"]);
        house.ctl("revoke frank --reason over").expect_ok();
        assert_eq!(asked_from_now(&house)[..3], ["1", "1", "1"]);
    }

    fn no_group_that_a_program_carries_makes_an_operator_and_membership_counts_as_it_is_now(release) {
        let house = House::enforcing(release);
        house.allow("frank --account frank --for 1h");
        // What an operator could leave for others.
        house.sh("install -g lockdown-operators -m 2755 /usr/bin/lockdownctl /usr/local/bin/by-group");
        let said = frank(&house).run("by-group status");
        assert!(said.status == 1 && said.stderr.contains(NO_OPERATOR), "{said}");
        let said = house.run("runuser -u nobody -- by-group status");
        assert!(said.status == 1 && said.stderr.contains(NOT_IN_A_SESSION), "{said}");

        let session = frank(&house).spawn(&format!("{ASKER}; echo started; exec sleep 3600"));
        eventually("the asker runs", DONE, || session.stdout().contains("started"));
        assert_eq!(asked_from_now(&house)[..3], ["1", "1", "1"]);
        house.sh("gpasswd -a frank lockdown-operators");
        assert_eq!(asked_from_now(&house)[..3], ["0", "0", "0"], "without another login");
        house.sh("gpasswd -d frank lockdown-operators");
        assert_eq!(asked_from_now(&house)[..3], ["1", "1", "1"], "although the login still has the group");
    }

    fn a_person_marked_as_operator_is_heard_in_their_own_session_alone(release) {
        // The table of grace, the last one, goes on.
        let house = House::enforcing_with(release, "operator = true");
        assert!(house.ctl("people").stdout.contains("grace (operator)"));
        for grant in ["grace --account ubuntu", "frank --account ubuntu", "frank --account frank"] {
            house.allow(&format!("{grant} --for 1h"));
        }
        let [mut graces, _franks] = [&house.grace, &house.frank].map(|key| house.ssh("ubuntu").key(key).stay());
        house.ssh("ubuntu").key(&house.grace).run("lockdownctl status").expect_ok();
        let said = house.ssh("ubuntu").key(&house.frank).run("lockdownctl status");
        assert!(!said.ok() && said.stderr.contains(NO_OPERATOR), "one account, another person: {said}");

        // Her account's user id, in his session or in none.
        house.sh("install -o ubuntu -m 4755 /usr/bin/lockdownctl /usr/local/bin/by-user; usermod -aG lockdown-operators ubuntu");
        for said in [frank(&house).run("by-user status"), house.run_as("ubuntu", "lockdownctl status")] {
            assert!(!said.ok() && said.stderr.contains(NOT_IN_A_SESSION), "{said}");
        }
        assert!(graces.is_alive());
        house.sh("gpasswd -d ubuntu lockdown-operators");
        house.configure(&house.config("enforce", "operator = false"));
        eventually("she is no operator any more", DONE, || {
            house.ssh("ubuntu").key(&house.grace).run("lockdownctl status").stderr.contains(NO_OPERATOR)
        });
    }

    fn a_session_inside_another_is_its_own_persons(release) {
        let house = with_operator(release, "");
        house.sh("usermod -aG lockdown-operators grace; echo 'frank ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/frank");
        house.allow("grace --account grace --for 1h");
        // frank starts an sshd by hand in his session; grace comes in through it.
        let mut outer = frank(&house).spawn("sudo /usr/sbin/sshd -D -p 2222 -o PidFile=none");
        let grace = |key: &Key| house.ssh("grace").key(key).arg("-p").arg("2222");
        eventually("the second sshd answers", DONE, || grace(&house.grace).login());
        let said = grace(&house.grace).run("lockdownctl allow grace --account ubuntu --for 1h --reason INC-1");
        assert!(!said.ok() && said.stderr.contains("nobody grants themselves"), "{said}");
        grace(&house.grace).run("lockdownctl allow frank --account ubuntu --for 1h --reason INC-2").expect_ok();
        assert_eq!(house.records_of("grant.created").pop().unwrap()["actor"]["person"], "grace");
        assert!(outer.is_alive());
    }
}
