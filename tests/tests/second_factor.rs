//! What a login needs beside a grant: a second method by real PAM (libpam-oath), keys in security devices, and PINs.

use std::time::Duration;

use instance_tests::{House, Key, Output, Release, eventually, on_each_release};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(30);
/// What oathtool and pam_oath share about each account.
const SEED: &str = "3132333435363738393031323334353637383930";
/// sshd asks for a code and nothing else; the gate's own lines stay.
const OATH: &str = "sed -i 's,^@include common-auth,auth required pam_oath.so usersfile=/etc/users.oath window=30 digits=6,' \
                    /etc/pam.d/sshd && install -m 600 /dev/null /etc/users.oath && sed -i 's/^KbdInteractive.*/#&/' /etc/ssh/sshd_config \
                    && echo 'KbdInteractiveAuthentication yes' >/etc/ssh/sshd_config.d/40-second.conf";
/// A reload would come back before sshd has read it.
const RESTART: &str = "sshd -t && systemctl reset-failed ssh && systemctl restart ssh";
const METHODS: &str = "/etc/ssh/sshd_config.d/50-methods.conf";

/// A house with TOTP for these accounts.
fn with_codes(release: Release, accounts: &[&str], more: &str) -> House {
    let house = House::enforcing_with(release, more);
    house.sh(OATH);
    for account in accounts {
        house.sh(&format!("echo 'HOTP/T30/6 {account} - {SEED}' >>/etc/users.oath"));
    }
    house
}

/// Has sshd ask everybody but break-glass for these.
fn ask_for(house: &House, methods: &str) {
    house.write(METHODS, format!("Match User *,!breakglass\n    AuthenticationMethods {methods}\n"));
    house.sh(RESTART);
}

/// The next code of an account's that pam_oath has not seen: it takes each one once, within its window.
fn code(house: &House, ahead: u32) -> String {
    house.sh(&format!("oathtool --totp -d 6 --now \"$(date -u -d '+{} seconds' '+%F %T UTC')\" {SEED}", ahead * 30))
}

/// Grants ubuntu, and has sshd say nothing against it. On a busy machine its answer does not come in time.
fn honoured(house: &House, person: &str) {
    let allow = format!("allow {person} --account ubuntu --for 1h --reason test");
    eventually("sshd would let it in", SOON, || house.ctl_json(&allow)["notes"] == json!([]));
}

fn last(house: &House, artifact: &str) -> Value {
    house.records_of(artifact).pop().unwrap_or_else(|| panic!("a {artifact}"))
}

fn methods(record: &Value) -> Vec<String> {
    let methods = record["detail"]["methods"].as_array().into_iter().flatten();
    methods.map(|method| method.as_str().expect("text").split(' ').next().expect("a word").to_owned()).collect()
}

fn refused(house: &House, output: &Output, why: &str) {
    assert!(!output.stdout.contains("logged-in"), "{output}");
    eventually(&format!("{why} is on record"), SOON, || {
        house.records_of("session.refused").iter().any(|record| record["detail"]["why"] == why)
    });
}

on_each_release! {
    fn a_key_and_a_code_open_an_account_in_either_order_and_neither_alone(release) {
        let house = with_codes(release, &["ubuntu", "frank", "grace"], "");
        let mut ahead = 0;
        let mut next = || {
            ahead += 1;
            code(&house, ahead)
        };
        let in_by = |order: &str| match order.starts_with("publickey") {
            true => vec!["publickey", "keyboard-interactive/pam"],
            false => vec!["keyboard-interactive/pam", "publickey"],
        };
        for order in ["publickey,keyboard-interactive", "keyboard-interactive,publickey"] {
            ask_for(&house, order);
            // Nobody has a grant: refused in the account step, which runs in another process in one of the orders.
            let refused_before = house.records_of("session.refused").len();
            assert!(!house.ssh("ubuntu").key_and_code(&house.frank, &next()).login(), "{order}");
            honoured(&house, "frank");
            // sshd never asks the gate about a key that does not stand in the store.
            assert!(house.records_of("session.refused").len() <= refused_before + 1);
            // With both, in; with either alone, out.
            let said = house.ssh("ubuntu").key_and_code(&house.frank, &next()).run("echo logged-in");
            assert!(said.stdout.contains("logged-in"), "{order}: {said}");
            let opened = last(&house, "session.opened");
            assert_eq!(methods(&opened), in_by(order), "{opened}");
            assert_eq!((&opened["person"], &opened["fingerprint"]), (&json!("frank"), &json!(house.frank.fingerprint())));
            assert!(!house.ssh("ubuntu").key(&house.frank).login(), "{order}: by the key alone");
            assert!(!house.ssh("ubuntu").key_and_code(&house.frank, "000000").login(), "{order}: by a wrong code");
            assert!(!house.ssh("ubuntu").password(&next()).login(), "{order}: by the code alone");
            assert!(!house.ssh("ubuntu").key_and_code(&house.grace, &next()).login(), "{order}: she has no grant");
            // Cut off as ever.
            let mut client = house.ssh("ubuntu").key_and_code(&house.frank, &next()).stay();
            house.ctl("revoke frank --reason over").expect_ok();
            client.ended_within(SOON);
            assert_eq!(last(&house, "session.terminated")["person"], "frank");
            // And expired as ever, even for sshd itself.
            house.allow("frank --account ubuntu --for 15s");
            let mut client = house.ssh("ubuntu").key_and_code(&house.frank, &next()).stay();
            client.ended_within(SOON);
            assert!(!house.ssh("ubuntu").key_and_code(&house.frank, &next()).login(), "{order}: it has expired");
        }

        // In the account step: grace has a grant on another account, and her code alone gets her that far.
        ask_for(&house, "keyboard-interactive");
        let said = house.ssh("ubuntu").password(&next()).run("echo logged-in");
        refused(&house, &said, "no_grant_on_account");
        house.allow("grace --account ubuntu --for 1h");
        let said = house.ssh("ubuntu").password(&next()).run("echo logged-in");
        refused(&house, &said, "not_one_plain_key");
        assert!(said.to_string().contains("sshd verified no public key in this login"), "{said}");
        let gone = house.run("systemctl is-system-running --wait; systemctl --failed --plain --no-legend");
        assert!(!gone.stdout.contains("ssh"), "{gone}");
        house.ctl("revoke grace --reason over").expect_ok();

        // A password beside the key, and two keys of one person, but not of two.
        house.sh("sed -i 's,^auth required pam_oath.*,@include common-auth,' /etc/pam.d/sshd; echo 'ubuntu:right' | chpasswd");
        ask_for(&house, "publickey,password");
        honoured(&house, "frank");
        let by = |key: &Key, password: &str| {
            let login = house.ssh("ubuntu").key(key).option("PreferredAuthentications=publickey,password");
            login.password(password).login()
        };
        assert!(by(&house.frank, "right") && !by(&house.frank, "wrong") && !by(&house.grace, "right"));
        assert_eq!(methods(&last(&house, "session.opened")), ["publickey", "password"]);

        let second = house.keygen("second");
        let keys = format!("\"{}\", \"{}\"", house.frank.public(), second.public());
        house.configure(&house.config("enforce", "").replace(&format!("\"{}\"", house.frank.public()), &keys));
        ask_for(&house, "publickey,publickey");
        honoured(&house, "frank");
        assert!(house.ssh("ubuntu").key(&house.frank).key(&second).login());
        assert_eq!(methods(&last(&house, "session.opened")), ["publickey", "publickey"]);
        assert!(!house.ssh("ubuntu").key(&house.frank).login());
        house.allow("grace --account ubuntu --for 1h");
        let said = house.ssh("ubuntu").key(&house.frank).key(&house.grace).run("echo logged-in");
        refused(&house, &said, "not_one_plain_key");
        house.ctl("verify").expect_ok();
    }

    fn where_a_second_method_is_required_the_gate_asks_for_it_and_plan_says_what_sshd_lacks(release) {
        let require = "[accounts.require]\nubuntu = \"second_method\"\n";
        let house = with_codes(release, &["ubuntu", "frank"], "");
        let config = house.config("enforce", require);
        house.configure(&config);
        // sshd asks for nothing more yet: said when it is granted, in plan and in status.
        eventually("what is required, and what sshd lacks, is said", SOON, || {
            let grant = house.ctl_json("allow frank --account ubuntu --for 1h --reason test");
            let notes = grant["notes"].to_string();
            assert!(notes.contains("ubuntu requires a key and keyboard-interactive after it"), "{notes}");
            notes.contains("sshd has no AuthenticationMethods") && notes.contains("Match User ubuntu")
        });
        assert_eq!(last(&house, "grant.created")["detail"]["required"], json!(["second_method"]));
        for command in ["plan", "status"] {
            let said = || house.ctl_json(command).to_string();
            eventually(command, SOON, || said().contains("accounts.require asks for a second method"));
        }
        let said = house.ssh("ubuntu").key(&house.frank).run("echo logged-in");
        refused(&house, &said, "no_second_method");
        assert!(said.to_string().contains("AuthenticationMethods publickey,keyboard-interactive"), "{said}");
        // Other accounts go on as before.
        house.allow("frank --account frank --for 1h");
        assert!(house.ssh("frank").key(&house.frank).login());

        // A list that is met by the key alone is met first: the gate refuses all the same.
        let of_ubuntu = |methods: &str| {
            house.write(METHODS, format!("Match User ubuntu\n    AuthenticationMethods {methods}\n"));
            house.sh(RESTART);
        };
        of_ubuntu("publickey publickey,keyboard-interactive");
        eventually("plan has nothing against it", SOON, || house.ctl_json("plan")["notes"] == json!([]));
        let said = house.ssh("ubuntu").key_and_code(&house.frank, &code(&house, 1)).run("echo logged-in");
        refused(&house, &said, "no_second_method");
        of_ubuntu("publickey,keyboard-interactive");
        assert!(house.ssh("ubuntu").key_and_code(&house.frank, &code(&house, 2)).login());
        let opened = last(&house, "session.opened");
        assert_eq!(opened["detail"]["required"], json!(["second_method"]));
        assert_eq!(methods(&opened), ["publickey", "keyboard-interactive/pam"]);
        let people = house.ctl("people").expect_ok();
        assert!(people.contains("ubuntu (second_method)"), "{people}");

        // What closes the other ways in leaves the second method alone, and it still works.
        let ways = house.ctl_json("ways-in");
        let kbd = ways["ways"].as_array().expect("ways").iter().filter(|way| way["kind"] == "keyboard_interactive");
        assert!(kbd.clone().any(|way| way["why"].to_string().contains("no login by itself")), "{ways}");
        house.ctl("ways-in --close --apply").expect_ok();
        let text = house.sh("cat /etc/ssh/sshd_config.d/01-lockdownd-ways-in.conf");
        assert!(text.contains("KbdInteractiveAuthentication is left as it is"), "{text}");
        assert!(text.contains("PasswordAuthentication no"), "{text}");
        assert!(house.ssh("ubuntu").key_and_code(&house.frank, &code(&house, 3)).login());
        assert!(house.ssh("breakglass").key(&house.breakglass).login());
        house.ctl("ways-in --undo").expect_ok();
        house.ctl("verify").expect_ok();
    }
}
