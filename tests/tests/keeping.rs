//! What is kept on the host and for how long, by the receipts of a server: a server that is away for long, a ledger that
//! is full, a disk that is full, a disk that went back to an earlier day, and lies about all of it.
//!
//! The server here is its key alone: what it would answer is put where the shipper would put it.

use std::thread;
use std::time::Duration;

use instance_tests::{House, eventually, on_each_release};
use record::{Hash, Receipt, SignedReceipt};
use serde_json::Value;
use ssh_key::{PrivateKey, private::Ed25519Keypair};

/// What the daemon may take to act on a file, on a busy machine.
const SOON: Duration = Duration::from_secs(30);
/// How long it is watched not to act.
const A_WHILE: Duration = Duration::from_secs(2);

fn key(seed: u8) -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]))
}

fn public(seed: u8) -> String {
    key(seed).public_key().to_openssh().unwrap()
}

/// `[ship.api]` with the server's key 1 and a server that nobody can reach.
fn ship(ledger: &str) -> String {
    format!("[ship.api]\nurl = \"http://127.0.0.1:9\"\nreceipt_keys = [\"{}\"]\n{ledger}", public(1))
}

/// Where a ledger stands, and the fingerprint of the key that signs it.
type Head = (String, u64, String, String);

/// Where the ledger stands.
fn head(house: &House) -> Head {
    let ledger = &house.ctl_json("status")["ledger"];
    let text = |name: &str| ledger[name].as_str().unwrap().to_owned();
    let signer = house.sh("ssh-keygen -lf /var/lib/lockdownd/signing_key.pub | cut -d ' ' -f 2");
    (text("id"), ledger["seq"].as_u64().unwrap(), text("hash"), signer.trim().to_owned())
}

/// A receipt by the server's key of this seed.
fn receipt(seed: u8, (ledger, seq, hash, signer): &Head) -> SignedReceipt {
    let receipt = Receipt {
        ledger: ledger.parse().unwrap(),
        seq: *seq,
        hash: hash.parse().unwrap(),
        received: "2026-11-23T18:00:00Z".parse().unwrap(),
        signer: (!signer.is_empty()).then(|| signer.parse().unwrap()),
    };
    receipt.seal(&key(seed)).unwrap()
}

/// Leaves a receipt where the shipper would.
fn acknowledge(house: &House, seed: u8, to: &Head) {
    house.sh("mkdir -p /var/lib/lockdownd-shipper/receipts");
    let path = format!("/var/lib/lockdownd-shipper/receipts/{}.jsonl", to.0);
    let before = house.run(&format!("cat {path}")).stdout;
    house.write(&path, format!("{before}{}\n", receipt(seed, to).as_str()));
}

/// Leaves a hint where the shipper would, whole and at once.
fn hint(house: &House, receipt: &str) {
    let text = format!("{{\"v\":1,\"kind\":\"fork\",\"receipt\":{receipt}}}\n");
    house.write("/var/lib/lockdownd-shipper/hint.new", text);
    house.sh("mv /var/lib/lockdownd-shipper/hint.new /var/lib/lockdownd-shipper/hint.json");
}

fn acknowledged(house: &House) -> u64 {
    house.ctl_json("status")["shipping"][0]["acknowledged"].as_u64().unwrap()
}

/// Makes long records until a grant is refused; how it was refused.
fn fill_with_records(house: &House) -> String {
    let script = "reason=$(head -c 950 /dev/zero | tr '\\0' x); for i in $(seq 60); do \
                  for j in $(seq 10); do lockdownctl lockdown --reason \"$reason\" >/dev/null; done; \
                  lockdownctl allow frank --account ubuntu --for 1h --reason fill >/dev/null || exit 0; done; exit 1";
    house.run_for(Duration::from_secs(90), script, b"").stderr
}

on_each_release! {
    fn a_server_that_is_away_changes_nothing_in_what_is_enforced(release) {
        let house = House::enforcing_with(release, &ship("[ledger]\nretain = \"1d\""));
        let told: Value = serde_json::from_str(&house.sh("cat /run/lockdownd/ship.json")).unwrap();
        assert_eq!((&told["api"]["url"], &told["api"]["receipt_keys"][0]), (&"http://127.0.0.1:9".into(), &public(1).into()));
        house.allow("frank --account ubuntu --for 1h");
        let mut client = house.ssh("ubuntu").key(&house.frank).stay();
        house.authorize("grace", &house.grace);
        eventually("a key without a grant is gone", SOON, || !house.exists("/home/grace/.ssh/authorized_keys"));
        assert!(!house.ssh("ubuntu").key(&house.grace).login());
        house.ctl("lockdown").expect_ok();
        client.ended_within(SOON);
        let status = house.ctl("status").stdout;
        assert!(status.contains("shipping  api http://127.0.0.1:9: ") && status.contains("; acknowledged to 0"), "{status}");
        house.ctl("verify").expect_ok();
        house.configure(&house.config("enforce", ""));
        assert_eq!(house.sh("cat /run/lockdownd/ship.json"), "{\"retain\":34560000,\"v\":1}");
    }

    fn a_full_ledger_gives_no_new_grants_until_a_server_has_what_is_in_it_or_the_oldest_may_go(release) {
        let house = House::enforcing_with(release, &ship("[ledger]\nmax_size = \"1MiB\""));
        let refused = fill_with_records(&house);
        assert!(refused.contains("nothing was granted: the ledger has reached its max_size"), "{refused}");
        assert!(refused.contains("or choose ledger.when_full = \"drop_oldest\""), "{refused}");
        let status = house.ctl("status").stdout;
        assert!(status.contains("CRIT: no new grant is given: the ledger has reached its max_size"), "{status}");
        // Before it came to that it was said, as it is again once there is more room.
        house.configure(&house.config("enforce", &ship("[ledger]\nmax_size = \"1200KiB\"")));
        let problems = || house.ctl_json("status")["problems"].to_string();
        eventually("it is nearly full", SOON, || problems().contains("at 100 % no new grant is given"));
        house.configure(&house.config("enforce", &ship("[ledger]\nmax_size = \"1MiB\"")));
        let before = head(&house);
        house.ctl("lockdown --reason reserve").expect_ok();
        assert!(head(&house).1 > before.1, "it is recorded into the reserve");
        assert_eq!(house.records()[0]["seq"], 1, "nothing is gone");

        let before = head(&house);
        acknowledge(&house, 1, &before);
        eventually("there is room", SOON, || house.ctl("allow grace --account ubuntu --for 1h --reason room").ok());
        assert_eq!(acknowledged(&house), before.1);
        let pruned = house.records_of("ledger.pruned");
        assert!(pruned[0]["detail"]["last"].as_u64().unwrap() <= before.1 && house.records_of("ship.dropped").is_empty());

        assert!(fill_with_records(&house).contains("max_size"));
        house.configure(&house.config("enforce", &ship("[ledger]\nmax_size = \"1MiB\"\nwhen_full = \"drop_oldest\"")));
        eventually("the oldest have gone", SOON, || house.ctl("allow grace --account grace --for 1h --reason room").ok());
        let dropped = &house.records_of("ship.dropped")[0]["detail"];
        let number = |name: &str| dropped[name].as_u64().unwrap();
        assert_eq!(number("count"), number("last") - number("first") + 1);
        assert!(number("first") > before.1, "what was acknowledged is not among the dropped");
        house.ctl("verify").expect_ok();
    }

    fn on_a_full_disk_what_cannot_be_withheld_is_recorded_into_the_reserve(release) {
        let house = House::enforcing(release);
        house.sh("systemctl stop lockdownd-gate.socket lockdownd-control.socket lockdownd && cp -a /var/lib/lockdownd /root/state \
                  && mount -t tmpfs -o size=6m,mode=711 small /var/lib/lockdownd \
                  && cp -a /root/state/. /var/lib/lockdownd/ && systemctl start lockdownd");
        house.await_mode("enforce");
        house.allow("frank --account ubuntu --for 1h");
        house.sh("dd if=/dev/zero of=/var/lib/lockdownd/filler bs=4k 2>/dev/null; test -s /var/lib/lockdownd/reserve");
        // Blocks that the ledger has already are used up first; then the reserve is.
        eventually("the reserve is in use", SOON, || {
            assert!(house.ssh("ubuntu").key(&house.frank).login());
            house.ctl("status").stdout.contains("no new grant is given: the disk is full")
        });
        let refused = house.ctl("allow grace --account ubuntu --for 1h --reason full");
        assert!(refused.stderr.contains("nothing was granted") && refused.stderr.contains("make room on the disk"), "{refused}");
        house.authorize("grace", &house.grace);
        eventually("the key is gone", SOON, || !house.exists("/home/grace/.ssh/authorized_keys"));
        house.ctl("revoke frank").expect_ok();
        assert!(house.ctl_json("status")["ledger"]["failing"].is_null());
        assert_eq!(house.records_of("grant.ended").len(), 1);
        house.sh("rm /var/lib/lockdownd/filler");
        house.allow("grace --account ubuntu --for 1h");
        house.sh("test -s /var/lib/lockdownd/reserve");
        house.ctl("verify").expect_ok();
    }

    fn a_disk_that_went_back_to_yesterday_begins_a_new_ledger_and_voids_every_grant(release) {
        let mut house = House::enforcing_with(release, &ship(""));
        house.allow("frank --account ubuntu --for 6h");
        house.sh("systemctl stop lockdownd && cp -a /var/lib/lockdownd /root/yesterday && systemctl start lockdownd");
        house.ctl("revoke frank").expect_ok();
        let known = head(&house);
        // The disk of yesterday, booted today: the grant that was revoked is back.
        house.sh("systemctl stop lockdownd && rm -rf /var/lib/lockdownd && mv /root/yesterday /var/lib/lockdownd");
        house.power_cut();
        house.await_mode("enforce");
        let mut client = house.ssh("ubuntu").key(&house.frank).stay();
        assert_eq!(head(&house).0, known.0);
        house.sh("mkdir -p /var/lib/lockdownd-shipper/receipts; cp -a /var/lib/lockdownd /root/again");
        hint(&house, receipt(1, &known).as_str());
        client.ended_within(SOON);
        eventually("the hint is acted on", SOON, || !house.exists("/var/lib/lockdownd-shipper/hint.json"));
        assert!(!house.ssh("ubuntu").key(&house.frank).login() && house.sh("ls /run/lockdownd/keys").is_empty());
        let opened = &house.records_of("ledger.opened")[0];
        assert_eq!((&opened["detail"]["ancestor"]["ledger"], &opened["detail"]["grants_void"]), (&known.0.as_str().into(), &true.into()));
        assert!(opened["reason"].as_str().unwrap().contains("the disk went back to an earlier day"), "{opened}");
        let ended = house.records_of("grant.ended");
        assert_eq!((ended.len(), &ended[0]["detail"]["ended"]), (1, &"identity".into()));
        eventually("the new ledger says how things stand", SOON, || !house.records_of("sweep.attested").is_empty());
        house.ctl("verify").expect_ok();
        assert!(!house.sh("ls /var/lib/lockdownd/set-aside").is_empty());

        // The same, with the hint there before the daemon starts: the grant never takes effect.
        house.sh("systemctl stop lockdownd && rm -rf /var/lib/lockdownd && mv /root/again /var/lib/lockdownd");
        hint(&house, receipt(1, &known).as_str());
        house.power_cut();
        house.await_mode("enforce");
        assert!(!house.ssh("ubuntu").key(&house.frank).login());
        assert_ne!(head(&house).0, known.0);
        assert!(house.records_of("session.opened").is_empty());
        house.ctl("verify").expect_ok();
    }

    fn a_hint_or_a_receipt_that_proves_nothing_changes_nothing(release) {
        let house = House::enforcing_with(release, &ship(""));
        house.allow("frank --account ubuntu --for 1h");
        let now = head(&house);
        let beyond = (now.0.clone(), now.1 + 50, now.2.clone(), now.3.clone());
        let other = ("f".repeat(32), now.1, now.2.clone(), now.3.clone());
        // The server's own word over records that somebody else has sent under this ledger's id.
        let unsigned = (now.0.clone(), now.1 + 50, now.2.clone(), String::new());
        let by_other = (now.0.clone(), now.1 + 50, now.2.clone(), format!("SHA256:{}", "A".repeat(43)));
        let forged = receipt(1, &now).as_str().replace(&format!("\"seq\":{},", now.1), "\"seq\":9999,");
        house.sh("mkdir -p /var/lib/lockdownd-shipper/receipts");
        for lie in [receipt(2, &beyond).as_str(), receipt(1, &unsigned).as_str(), receipt(1, &by_other).as_str(), receipt(1, &other).as_str(), receipt(1, &now).as_str(), &forged, "{}", "7"] {
            hint(&house, lie);
            house.ctl("status").expect_ok();
        }
        acknowledge(&house, 2, &(now.0.clone(), now.1, Hash::ZERO.to_string(), now.3.clone()));
        acknowledge(&house, 2, &beyond);
        house.sh("ln -sf /etc/passwd /var/lib/lockdownd-shipper/hint.json");
        thread::sleep(A_WHILE);
        assert_eq!((head(&house).0, acknowledged(&house)), (now.0.clone(), 0));
        assert!(house.ssh("ubuntu").key(&house.frank).login());
        let refused = house.records_of("config.refused");
        assert_eq!(refused.len(), 1, "a key that is not the server's is told of once: {refused:?}");
        assert!(house.ctl("status").stdout.contains("ERR: a receipt is signed by SHA256:"));
        assert!(house.journal("-u lockdownd").contains("a hint of the shipper is ignored"));
        acknowledge(&house, 1, &head(&house));
        assert!(acknowledged(&house) > 0);
    }

    fn the_first_key_that_acknowledges_is_pinned_and_no_other_counts_after_it(release) {
        let house = House::enforcing_with(release, "[ship.api]\nurl = \"http://127.0.0.1:9\"");
        let first = head(&house);
        acknowledge(&house, 1, &first);
        assert_eq!(acknowledged(&house), first.1);
        assert_eq!(house.sh("cat /var/lib/lockdownd/receipt_key.pub"), public(1));
        assert_eq!(house.records_of("config.loaded").last().unwrap()["detail"]["receipt_key"], public(1));
        acknowledge(&house, 2, &head(&house));
        assert_eq!(acknowledged(&house), first.1);
        house.sh("systemctl restart lockdownd");
        acknowledge(&house, 2, &head(&house));
        assert_eq!(acknowledged(&house), first.1, "it is pinned for good");
        // Who was merely first may acknowledge, and must not end every grant.
        let now = head(&house);
        hint(&house, receipt(1, &(now.0.clone(), now.1 + 50, now.2.clone(), now.3.clone())).as_str());
        eventually("it is told", SOON, || house.journal("-u lockdownd").contains("set ship.api.receipt_keys"));
        assert_eq!(head(&house).0, now.0, "no other ledger begins");
        assert!(!house.records_of("config.refused").is_empty());
    }
}
