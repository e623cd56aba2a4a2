//! Types of keys, and security devices: what each account requires of them, by real sshd.

use std::time::Duration;

use instance_tests::{Device, House, Key, Ssh, eventually, on_each_release};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(30);

/// One of ten people, with a key of their own.
enum Holder {
    File(Key),
    Device(Device),
}

/// The types of key, twice each.
const KINDS: [&str; 5] = ["ed25519", "ecdsa", "rsa", "ed25519-sk", "ecdsa-sk"];

impl Holder {
    fn make(house: &House, name: &str, kind: &str) -> Self {
        match kind.ends_with("-sk") {
            true => Self::Device(Device::plug_in(&house.scratch(), name, kind)),
            false => Self::File(Key::generate(&house.scratch(), name, kind)),
        }
    }

    fn key(&self) -> &Key {
        match self {
            Self::File(key) => key,
            Self::Device(device) => device.key(),
        }
    }

    fn login<'a>(&self, house: &'a House) -> Ssh<'a> {
        match self {
            Self::File(key) => house.ssh("ubuntu").key(key),
            Self::Device(device) => house.ssh("ubuntu").device(device),
        }
    }
}

fn failed(house: &House) -> Vec<Value> {
    house.records_of("login.failed")
}

fn last_opened(house: &House) -> Value {
    house.records_of("session.opened").pop().expect("a session")
}

on_each_release! {
    fn ten_people_with_all_types_of_keys_share_an_account_and_where_hardware_is_required_only_devices_open_it(release) {
        let house = House::enforcing(release);
        let people: Vec<(String, &str, Holder)> = KINDS.iter().chain(&KINDS).enumerate().map(|(number, kind)| {
            let name = format!("p{number}");
            let holder = Holder::make(&house, &name, kind);
            (name, *kind, holder)
        }).collect();
        let tables: String = people.iter().map(|(name, _, holder)| {
            format!("[[person]]\nname = \"{name}\"\nkeys = [\"{}\"]\naccounts = [\"ubuntu\"]\n", holder.key().public())
        }).collect();
        let config = |require: &str| {
            house.config("enforce", &format!("{tables}{require}"))
        };
        house.configure(&config(""));
        for (name, kind, holder) in &people {
            house.allow(&format!("{name} --account ubuntu --for 1h"));
            assert!(holder.login(&house).login(), "{kind}");
            let opened = last_opened(&house);
            assert_eq!(opened["person"], json!(name), "{kind}: {opened}");
            assert_eq!(opened["fingerprint"], json!(holder.key().fingerprint()), "{kind}");
        }
        // A device that was not touched opens nothing anywhere; by PIN or not makes no difference here.
        let Holder::Device(device) = &people[3].2 else { panic!("a device") };
        let log_in = || house.ssh("ubuntu").device(device).login();
        device.is(true, false);
        assert!(log_in());
        device.is(false, true);
        assert!(!log_in());
        let why = |why: &str| failed(&house).iter().any(|record| record["detail"]["why"] == why);
        eventually("that it was not touched is on record", SOON, || why("no_touch"));
        device.is(true, true);

        // Hardware: the others' keys are gone from the store, and they are told so.
        house.configure(&config("[accounts.require]\nubuntu = \"hardware\"\n"));
        let stored = || house.sh("cat /run/lockdownd/keys/ubuntu");
        eventually("only keys of devices stand in the store", SOON, || stored().lines().count() == 4);
        assert!(!stored().contains("verify-required"), "{}", stored());
        for (name, kind, holder) in &people {
            assert_eq!(holder.login(&house).login(), kind.ends_with("-sk"), "{kind}");
            let again = house.ctl(&format!("allow {name} --account ubuntu --for 2h --reason test"));
            match kind.ends_with("-sk") {
                true => assert!(again.stdout.contains("ubuntu requires a key in a security device, touched"), "{again}"),
                false => {
                    let said = again.to_string();
                    assert!(again.status == 1 && said.contains("has no key that opens ubuntu, which requires"), "{again}");
                    assert!(said.contains("sk-ssh-ed25519@openssh.com") && said.contains(&holder.key().fingerprint()), "{again}");
                }
            }
        }
        assert_eq!(last_opened(&house)["detail"]["required"], json!(["hardware"]));
        let listed = house.ctl("people").expect_ok();
        assert!(listed.contains("ubuntu (hardware: no key fits)") && listed.contains("ubuntu (hardware)"), "{listed}");
        let plan = house.ctl("plan").expect_ok();
        assert!(plan.contains("p0 has no key that opens ubuntu"), "{plan}");
        device.is(true, false);
        assert!(log_in(), "no PIN is asked for");

        // With a PIN, by the strictest that fits.
        house.configure(&config("[accounts.require]\n\"*\" = \"hardware_pin\"\nubuntu = \"key\"\n"));
        eventually("a PIN is asked for", SOON, || stored().matches(",verify-required ").count() == 4);
        for (number, (touched, unlocked, is_in)) in
            [(true, true, true), (true, false, false), (false, true, false), (false, false, false)].into_iter().enumerate()
        {
            for (_, kind, holder) in people.iter().filter(|(_, kind, _)| kind.ends_with("-sk")).skip(number % 2) {
                let Holder::Device(device) = holder else { panic!("a device") };
                device.is(touched, unlocked);
                assert_eq!(house.ssh("ubuntu").device(device).login(), is_in, "{kind} {touched} {unlocked}");
                device.is(true, true);
            }
        }
        eventually("that no PIN was typed is on record", SOON, || why("no_pin"));
        let pinned = failed(&house).into_iter().find(|record| record["detail"]["why"] == "no_pin").expect("just seen");
        assert!(pinned["reason"].to_string().contains("was not unlocked by PIN or fingerprint"), "{pinned}");
        assert_eq!(pinned["account"], "ubuntu");
        assert_eq!(last_opened(&house)["detail"]["required"], json!(["hardware_pin"]));
        // Nothing is required of break-glass.
        assert!(house.ssh("breakglass").key(&house.breakglass).login());

        // A plain key that stands elsewhere in sshd's configuration is the gate's to refuse.
        house.configure(&config("[accounts.require]\nubuntu = \"hardware\"\n"));
        house.write("/usr/local/sbin/keys", format!("#!/bin/sh\necho '{}'\n", people[0].2.key().public()));
        house.sh("chmod 755 /usr/local/sbin/keys && printf 'AuthorizedKeysCommand /usr/local/sbin/keys\\nAuthorizedKeysCommandUser nobody\\n' \
                  >/etc/ssh/sshd_config.d/50-command.conf && sshd -t && systemctl restart ssh");
        let said = people[0].2.login(&house).run("echo logged-in");
        assert!(!said.stdout.contains("logged-in") && said.to_string().contains("p0's key is none"), "{said}");
        let refused = house.records_of("session.refused").pop().expect("one");
        assert_eq!((&refused["detail"]["why"], &refused["person"]), (&json!("not_hardware"), &json!("p0")), "{refused}");
        house.ctl("verify").expect_ok();
    }
}
