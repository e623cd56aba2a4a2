//! Security keys, as agents of the tests' own: what is done to a device is seen in its signature.

use instance_tests::Device;

use crate::laptop::{Laptop, Said};

/// Only keys in security devices approve here; `ubuntu` takes a touch, `deploy` a PIN besides.
fn laptop(devices: &[(&str, &Device)]) -> Laptop {
    let laptop = Laptop::new(None);
    let config = laptop.read("config.toml").replace("plain_approvers = true", "plain_approvers = false");
    laptop.write("config.toml", &config);
    let rule = |account: &str, with: &str| {
        format!(
            "[[rule]]\nstack = \"*\"\naccount = \"{account}\"\napprovals = 1\napprove_with = \"{with}\"\nlogin_with = \"key\"\nlongest = \"8h\"\n"
        )
    };
    let approver = |(name, device): &(&str, &Device)| {
        format!(
            "[[approver]]\nperson = \"{name}\"\nkeys = [\"{}\"]\nstacks = [\"*\"]\naccounts = [\"*\"]\n",
            device.key().public()
        )
    };
    let draft = format!(
        "expires_at = \"2099-01-01T00:00:00Z\"\n[[person]]\nname = \"frank\"\nkeys = [\"{}\"]\naccounts = {{ web = [\"ubuntu\", \"deploy\"] }}\n{}{}{}",
        laptop.key("frank"),
        devices.iter().map(approver).collect::<String>(),
        rule("ubuntu", "hardware"),
        rule("deploy", "hardware_pin"),
    );
    laptop.sign_roster(&draft, "1");
    laptop
}

fn allow(laptop: &Laptop, device: &Device, account: &str) -> Said {
    let _ = std::fs::remove_file(laptop.path("grant.json"));
    let arguments =
        ["allow", "frank", "--stack", "web", "--account", account, "--roster", "roster.json", "--out", "grant.json"];
    let output = laptop.command(&arguments).env("SSH_AUTH_SOCK", device.socket()).output().unwrap();
    Said::of(output)
}

#[test]
fn a_security_key_is_touched_and_what_it_was_not_asked_for_counts_for_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let devices = ["ed25519-sk", "ecdsa-sk"].map(|kind| Device::plug_in(dir.path(), kind, kind));
    let laptop = laptop(&[("alice", &devices[0]), ("bob", &devices[1])]);
    for device in &devices {
        for (touched, unlocked, account, taken) in [
            (true, false, "ubuntu", true),
            (true, true, "deploy", true),
            (true, false, "deploy", false),
            (false, true, "ubuntu", false),
        ] {
            device.is(touched, unlocked);
            let said = allow(&laptop, device, account).says("touch your security key");
            if taken {
                let said = said.with(0);
                assert!(said.err.contains("frank may log in"), "{}", said.err);
                let mut host =
                    laptop.host_with("i-1", |stack| stack.replace("plain_approvers = true", "plain_approvers = false"));
                host.accepts(&laptop.envelope("roster.json"));
                host.accepts(&laptop.envelope("grant.json"));
            } else {
                said.with(1).says(if touched { "unlocked by PIN" } else { "was not touched" });
                assert!(!laptop.path("grant.json").exists());
            }
        }
    }
}

#[test]
fn a_plain_key_does_not_approve_where_devices_are_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let device = Device::plug_in(dir.path(), "alice", "ed25519-sk");
    let laptop = laptop(&[("alice", &device)]);
    let plain = [
        "allow",
        "frank",
        "--stack",
        "web",
        "--account",
        "ubuntu",
        "--roster",
        "roster.json",
        "--out",
        "x.json",
        "--key",
        "bob",
    ];
    laptop.run(&plain).with(1).says("is no approver's key");
}
