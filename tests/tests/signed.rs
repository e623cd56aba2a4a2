//! Signed documents on one host: what approvers sign gives and takes access, whoever brings it, and nothing else does.

use std::{
    fs,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use instance_tests::{House, Key, Release, eventually, on_each_release};
use jiff::{Timestamp, ToSpan};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const SOON: Duration = Duration::from_secs(30);
const CUT: Duration = Duration::from_secs(5);

/// A host of the stack `default` of the organization acme, and who signs for it.
struct Signed {
    house: House,
    ceo: Key,
    ana: Key,
    ben: Key,
    /// Who is in the roster alone.
    heidi: Key,
}

impl std::ops::Deref for Signed {
    type Target = House;
    fn deref(&self) -> &House {
        &self.house
    }
}

fn at(seconds: i64) -> String {
    let moment = Timestamp::now().checked_add(seconds.seconds()).expect("in range");
    Timestamp::from_second(moment.as_second()).expect("in range").to_string()
}

fn id(envelope: &Value) -> String {
    let digest = Sha256::digest(envelope["document"].as_str().expect("a line"));
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Signed {
    fn new(release: Release) -> Self {
        let house = House::enforcing(release);
        let [ceo, ana, ben, heidi] =
            ["ceo", "ana", "ben", "heidi"].map(|name| Key::generate(&house.scratch(), name, "ed25519"));
        let signed = Self { house, ceo, ana, ben, heidi };
        signed.configure(&signed.config("enforce", &signed.stack()));
        eventually("what is known of documents is on disk", SOON, || {
            signed.run("test -s /var/lib/lockdownd/documents.json").status == 0
        });
        // Nothing from before its first two minutes opens: it is made older.
        let hour_ago = at(-3_600);
        signed.sh(&format!(
            "systemctl stop lockdownd && jq -c '.state.began = \"{hour_ago}\" | .state.closed_before = \"{hour_ago}\"' \
             /var/lib/lockdownd/documents.json >/root/older && install -m 600 /root/older /var/lib/lockdownd/documents.json \
             && rm -f /run/lockdownd/documents.json && systemctl start lockdownd"
        ));
        signed.await_mode("enforce");
        signed
    }

    fn stack(&self) -> String {
        format!(
            "[stack]\norganization = \"acme\"\nplain_approvers = true\n[[stack.roster.key]]\nperson = \"ceo\"\nkey = \"{}\"\n",
            bare(&self.ceo)
        )
    }

    /// An envelope around a document of this kind, signed by these.
    fn sign(&self, kind: &str, members: Value, by: &[&Key]) -> Value {
        let mut document = json!({ "v": 1, "type": kind, "organization": "acme", "issued_at": at(0) });
        let all = document.as_object_mut().expect("an object");
        all.extend(members.as_object().expect("an object").clone());
        // serde_json sorts members, as RFC 8785 does.
        let line = document.to_string();
        let signatures: Vec<String> = by.iter().map(|key| self.signature(&line, kind, key)).collect();
        json!({ "document": line, "signatures": signatures })
    }

    fn signature(&self, line: &str, kind: &str, key: &Key) -> String {
        let file = self.scratch().join("line");
        fs::write(&file, line).expect("written");
        let signature = file.with_extension("sig");
        let _ = fs::remove_file(&signature);
        let signed = Command::new("ssh-keygen")
            .args(["-q", "-Y", "sign", "-n", &format!("ssh-access-{kind}"), "-f"])
            .args([key.path(), &file])
            .output()
            .expect("ssh-keygen runs");
        assert!(signed.status.success(), "{signed:?}");
        fs::read_to_string(signature).expect("it was written")
    }

    fn roster(&self, version: u64, with_heidi: bool, by: &[&Key]) -> Value {
        let person = |name: &str, key: &Key| json!({ "name": name, "source": "hand", "keys": [bare(key)], "accounts": { "*": ["grace", "ubuntu"] } });
        let approver =
            |name: &str, key: &Key| json!({ "person": name, "keys": [bare(key)], "stacks": ["*"], "accounts": ["*"] });
        let rule = |account: &str, approvals: u64| {
            json!({
                "stack": "*", "account": account, "approvals": approvals, "approve_with": "key", "login_with": "key",
                "max_seconds": 7_200,
            })
        };
        let people: Vec<Value> = with_heidi.then(|| person("heidi", &self.heidi)).into_iter().collect();
        let members = json!({
            "version": version, "expires_at": at(86_400), "people": people,
            "approvers": [approver("ana", &self.ana), approver("ben", &self.ben)],
            "rules": [rule("grace", 2), rule("ubuntu", 1)], "feeders": [], "holds": [],
        });
        self.sign("roster", members, by)
    }

    fn grant(&self, account: &str, more: Value, by: &[&Key]) -> Value {
        let now = at(0);
        let mut members = json!({
            "issued_at": now, "accept_until": at(600), "starts_at": now, "expires_at": at(3_600), "stack": "default", "hosts": ["*"],
            "person": "heidi", "fingerprints": [self.heidi.fingerprint()], "account": account, "from": [], "reason": "INC-42",
            "approvals": 1, "after": [], "roster": 1,
        });
        members.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        self.sign("grant", members, by)
    }

    /// Applies it; what the daemon said, and the exit status.
    fn apply(&self, envelope: &Value) -> (Value, i32) {
        self.write("/root/document.json", envelope.to_string());
        let output = self.ctl("--json apply /root/document.json");
        let said = serde_json::from_str(&output.stdout).or_else(|_| serde_json::from_str(&output.stderr));
        (said.unwrap_or_else(|error| panic!("{error}: {output}")), output.status)
    }

    #[track_caller]
    fn accepted(&self, envelope: &Value) -> Value {
        let (said, status) = self.apply(envelope);
        assert_eq!((said["outcome"].as_str(), status), (Some("accepted"), 0), "{said}");
        said
    }

    /// It is refused with this word, on record.
    #[track_caller]
    fn refused(&self, envelope: &Value, code: &str) {
        let (said, status) = self.apply(envelope);
        assert_eq!((said["outcome"].as_str(), status), (Some("refused"), 1), "{said}");
        let id = id(envelope);
        eventually(&format!("the refusal of {code} is on record"), SOON, || {
            let all = self.records_of("document.refused");
            all.iter().any(|record| record["detail"]["document"] == id && record["detail"]["code"] == code)
        });
    }
}

fn bare(key: &Key) -> String {
    key.public().split(' ').take(2).collect::<Vec<_>>().join(" ")
}

on_each_release! {
    fn what_approvers_sign_opens_this_host_and_what_one_of_them_signs_closes_it(release) {
        let host = Signed::new(release);
        let (said, status) = host.apply(&host.grant("ubuntu", json!({}), &[&host.ana]));
        assert_eq!((said["outcome"].as_str(), status), (Some("waits"), 1), "there is no roster yet: {said}");
        host.accepted(&host.roster(1, true, &[&host.ceo]));
        assert!(!host.ssh("ubuntu").key(&host.heidi).login(), "a roster opens nothing");

        let grant = host.grant("ubuntu", json!({}), &[&host.ana]);
        host.accepted(&grant);
        let mut session = host.ssh("ubuntu").key(&host.heidi).stay();
        assert!(!host.ssh("ubuntu").key(&host.frank).login(), "nobody else is in by it");
        let created = host.records_of("grant.created").pop().expect("a record");
        assert_eq!((&created["person"], &created["detail"]["approvers"]), (&json!("heidi"), &json!(["ana"])), "{created}");
        assert!(host.ctl("grants").expect_ok().contains("ana"), "on whose word");
        assert_eq!(host.apply(&grant).0["outcome"], "known", "the same again changes nothing");
        let opened = host.records_of("session.opened").pop().expect("a record");
        assert_eq!((&opened["person"], &opened["grant"]), (&json!("heidi"), &created["grant"]));

        host.accepted(&host.sign("revoke", json!({ "grant": id(&grant), "reason": "over" }), &[&host.ben]));
        session.ended_within(CUT);
        assert!(!host.ssh("ubuntu").key(&host.heidi).login());
        assert_eq!(host.apply(&grant).0["outcome"], "known", "it was used");
        assert!(!host.ssh("ubuntu").key(&host.heidi).login());

        // Years later: on whose word, by stock tools alone.
        let record = host.records_of("document.accepted").into_iter().find(|record| record["detail"]["kind"] == "grant");
        let detail = &record.expect("a record")["detail"];
        let whole = |pieces: &Value| pieces.as_array().expect("pieces").iter().map(|p| p.as_str().expect("text")).collect::<String>();
        let (line, signature) = (whole(&detail["line"]), whole(&detail["signatures"][0]));
        let dir = host.scratch();
        fs::write(dir.join("signed"), format!("-----BEGIN SSH SIGNATURE-----\n{signature}\n-----END SSH SIGNATURE-----\n")).expect("written");
        fs::write(dir.join("allowed"), format!("ana {}\n", bare(&host.ana))).expect("written");
        fs::write(dir.join("line"), line).expect("written");
        let verified = Command::new("sh")
            .arg("-c")
            .arg("ssh-keygen -Y verify -n ssh-access-grant -I ana -f allowed -s signed < line")
            .current_dir(dir)
            .output()
            .expect("it runs");
        assert!(verified.status.success(), "{verified:?}");
    }

    fn what_nobody_may_sign_opens_nothing_and_is_on_record(release) {
        let host = Signed::new(release);
        host.accepted(&host.roster(1, true, &[&host.ceo]));
        let mallory = Key::generate(&host.scratch(), "mallory", "ed25519");
        host.refused(&host.roster(2, true, &[&host.ana, &mallory]), "threshold");
        for (by, why) in
            [(vec![], "nobody"), (vec![&mallory], "a stranger"), (vec![&host.heidi], "the person it is for")]
        {
            let (said, status) = host.apply(&host.grant("ubuntu", json!({ "reason": why }), &by));
            assert_eq!((said["outcome"].as_str(), status), (Some("refused"), 1), "{why}: {said}");
        }
        // What nobody known has signed is summed up by the minute, whoever sends how much of it.
        let by_nobody = |record: &Value| record["detail"]["signers"] == json!([]);
        assert_eq!(host.records_of("document.refused").iter().filter(|record| by_nobody(record)).count(), 1);
        host.refused(&host.grant("ubuntu", json!({ "reason": "a key for rosters" }), &[&host.ceo]), "approvals");
        // One person's word where two are needed, also twice.
        host.refused(&host.grant("grace", json!({}), &[&host.ana, &host.ana]), "approvals");
        host.refused(&host.grant("ubuntu", json!({ "stack": "db" }), &[&host.ana]), "stack");
        host.refused(&host.grant("ubuntu", json!({ "hosts": ["i-0abc"] }), &[&host.ana]), "host");
        host.refused(&host.grant("ubuntu", json!({ "expires_at": at(7_300) }), &[&host.ana]), "too_long");
        host.refused(&host.grant("frank", json!({}), &[&host.ana]), "account");
        // A signature that was made for something else.
        let good = host.grant("ubuntu", json!({ "reason": "reused" }), &[]);
        let line = good["document"].as_str().expect("a line");
        let reused = json!({ "document": line, "signatures": [host.signature(line, "request", &host.ana)] });
        assert_eq!(host.apply(&reused).0["outcome"], "refused");
        assert!(!host.ssh("ubuntu").key(&host.heidi).login());
        assert!(host.records_of("grant.created").is_empty());
        host.accepted(&host.grant("grace", json!({ "approvals": 2 }), &[&host.ana, &host.ben]));
        assert!(host.ssh("grace").key(&host.heidi).login(), "two different people's word opens it");
        // Nobody but root brings any.
        host.write("/tmp/document.json", good.to_string());
        host.sh("chmod 644 /tmp/document.json");
        let by_user = host.run("runuser -u grace -- lockdownctl apply /tmp/document.json");
        assert_eq!(by_user.status, 1, "{by_user}");
    }

    fn a_hold_ends_and_keeps_out_whoever_gives_it_until_it_is_lifted_also_over_a_reboot(release) {
        let mut host = Signed::new(release);
        host.accepted(&host.roster(1, true, &[&host.ceo]));
        host.accepted(&host.grant("ubuntu", json!({}), &[&host.ana]));
        let mut heidi = host.ssh("ubuntu").key(&host.heidi).stay();
        host.allow("frank --account ubuntu --for 1h");
        let mut frank = host.ssh("ubuntu").key(&host.frank).stay();
        let hold = |person: &str| json!({ "stack": "*", "person": person, "hold": true, "reason": "laptop stolen" });
        let [frank_held, heidi_held] = ["frank", "heidi"].map(|person| host.sign("lockdown", hold(person), &[&host.ben]));
        host.accepted(&frank_held);
        frank.ended_within(CUT);
        assert!(heidi.is_alive(), "it is about frank alone");
        host.accepted(&heidi_held);
        heidi.ended_within(CUT);
        host.refused(&host.grant("ubuntu", json!({ "reason": "again" }), &[&host.ana]), "held");
        let refused = host.ctl("allow frank --account ubuntu --for 1h --reason test");
        assert_eq!(refused.status, 1, "{refused}");
        assert!(refused.stderr.contains("holds"), "{refused}");

        host.house.reboot();
        host.await_mode("enforce");
        assert_eq!(host.ctl_json("status")["documents"]["holds"].as_array().map(Vec::len), Some(2));
        assert_eq!(host.ctl("allow frank --account ubuntu --for 1h --reason test").status, 1, "it outlives a boot");
        host.refused(&host.grant("ubuntu", json!({ "reason": "after the boot" }), &[&host.ana]), "held");
        host.accepted(&host.sign("lift", json!({ "lockdown": id(&frank_held), "reason": "found" }), &[&host.ana, &host.ben]));
        host.allow("frank --account ubuntu --for 1h");
        assert!(host.ssh("ubuntu").key(&host.frank).login());
        assert!(!host.ssh("ubuntu").key(&host.heidi).login());
    }

    fn a_new_roster_ends_what_it_does_not_bear_out_and_without_a_stack_nothing_is_accepted(release) {
        let host = Signed::new(release);
        host.accepted(&host.roster(1, true, &[&host.ceo]));
        host.accepted(&host.grant("ubuntu", json!({}), &[&host.ana]));
        let mut session = host.ssh("ubuntu").key(&host.heidi).stay();
        host.accepted(&host.roster(2, false, &[&host.ceo]));
        session.ended_within(CUT);
        host.refused(&host.roster(1, true, &[&host.ceo]), "rollback");
        host.refused(&host.roster(2, true, &[&host.ceo]), "other_bytes");
        host.accepted(&host.roster(3, true, &[&host.ceo]));
        host.accepted(&host.grant("ubuntu", json!({ "reason": "back" }), &[&host.ana]));
        let mut session = host.ssh("ubuntu").key(&host.heidi).stay();
        let before = host.grant("ubuntu", json!({ "reason": "before" }), &[&host.ana]);
        host.configure(&host.config("enforce", ""));
        session.ended_within(CUT);
        let (said, status) = host.apply(&before);
        assert_eq!((said["outcome"].as_str(), status), (Some("waits"), 1), "{said}");
        // What was known is known again.
        host.configure(&host.config("enforce", &host.stack()));
        host.refused(&host.roster(2, true, &[&host.ceo]), "rollback");
    }

    fn a_lockdown_by_one_approver_ends_everything_at_once_and_what_was_signed_before_it_opens_nothing(release) {
        let host = Signed::new(release);
        host.accepted(&host.roster(1, true, &[&host.ceo]));
        host.accepted(&host.grant("ubuntu", json!({}), &[&host.ana]));
        host.allow("frank --account ubuntu --for 1h");
        let late = host.grant("ubuntu", json!({ "reason": "signed before" }), &[&host.ana]);
        let mut sessions = [host.ssh("ubuntu").key(&host.heidi).stay(), host.ssh("ubuntu").key(&host.frank).stay()];
        let mut rescue = host.ssh("breakglass").key(&host.breakglass).stay();
        let lockdown = host.sign("lockdown", json!({ "stack": "default", "hold": false, "reason": "incident" }), &[&host.ben]);
        host.accepted(&lockdown);
        for session in &mut sessions {
            session.ended_within(CUT);
        }
        assert!(rescue.is_alive(), "break-glass stays");
        host.refused(&late, "locked_down");
        let record = host.records_of("lockdown").pop().expect("a record");
        assert_eq!(record["detail"]["grants"].as_array().map(Vec::len), Some(2), "{record}");
        assert_eq!(record["detail"]["document"], id(&lockdown));
        host.accepted(&host.grant("ubuntu", json!({ "after": [id(&lockdown)], "reason": "knows of it" }), &[&host.ana]));
        assert!(host.ssh("ubuntu").key(&host.heidi).login());
        assert_eq!(host.apply(&lockdown).0["outcome"], "known");
        assert!(host.ssh("ubuntu").key(&host.heidi).login(), "a replayed lockdown ends nothing that knows of it");
    }

    fn a_hold_that_the_disk_did_not_take_stays_after_a_crash_and_state_of_an_earlier_day_opens_nothing(release) {
        let host = Signed::new(release);
        host.give_state_its_own_disk();
        host.accepted(&host.roster(1, true, &[&host.ceo]));
        host.sh("cp /var/lib/lockdownd/documents.json /root/earlier");
        let grant = host.grant("ubuntu", json!({}), &[&host.ana]);
        host.accepted(&grant);
        let hold = host.sign("lockdown", json!({ "stack": "*", "person": "frank", "hold": true, "reason": "stolen" }), &[&host.ben]);
        host.sh("fsfreeze -f /var/lib/lockdownd");
        let said = host.run("sleep 1; true").status == 0 && host.apply(&hold).0["outcome"] == "accepted";
        host.sh("pkill -KILL -x lockdownd; sleep 3; fsfreeze -u /var/lib/lockdownd");
        assert!(said, "a lockdown waits for no disk");
        host.await_mode("enforce");
        assert_eq!(host.ctl("allow frank --account ubuntu --for 1h --reason test").status, 1, "the hold stands");
        eventually("it is on record, once", SOON, || {
            let accepted = host.records_of("document.accepted");
            accepted.iter().filter(|record| record["detail"]["document"] == id(&hold)).count() == 1
        });

        host.accepted(&host.sign("revoke", json!({ "grant": id(&grant), "reason": "over" }), &[&host.ben]));
        host.sh(
            "systemctl stop lockdownd; rm -f /run/lockdownd/documents.json; \
             install -m 600 /root/earlier /var/lib/lockdownd/documents.json; systemctl start lockdownd",
        );
        host.await_mode("enforce");
        eventually("that it is older is on record", SOON, || {
            host.records_of("document.refused").iter().any(|record| record["detail"]["code"] == "state")
        });
        host.refused(&grant, "before_state");
        assert!(!host.ssh("ubuntu").key(&host.heidi).login());
        host.ctl("verify").expect_ok();
    }

    fn an_inbox_that_hangs_holds_nothing_else_up(release) {
        let host = Signed::new(release);
        host.accepted(&host.roster(1, true, &[&host.ceo]));
        host.write("/root/server", "#!/bin/sh\nexec /usr/lib/openssh/sftp-server\n");
        host.sh(
            "mknod /dev/fuse c 10 229; chmod 755 /root/server && mkdir -p /srv/inbox /var/lib/lockdownd-shipper/inbox && \
             sshfs -o ssh_command=/root/server,allow_other,dcache_timeout=1 files:/srv/inbox /var/lib/lockdownd-shipper/inbox \
             </dev/null >/dev/null 2>&1 3>&-",
        );
        host.ctl("status").expect_ok();
        host.sh("pkill -STOP -x sftp-server");
        // Whatever the daemon asks it waits, and cannot be interrupted.
        let goes_on = |round: &str| {
            let began = Instant::now();
            host.allow("frank --account ubuntu --for 1h");
            let mut frank = host.ssh("ubuntu").key(&host.frank).stay();
            let lockdown = host.sign("lockdown", json!({ "stack": "default", "hold": false, "reason": round }), &[&host.ben]);
            host.accepted(&lockdown);
            frank.ended_within(CUT);
            assert!(host.ssh("breakglass").key(&host.breakglass).login());
            assert!(began.elapsed() < SOON, "{round} took {:?}", began.elapsed());
        };
        for round in ["first", "second", "third"] {
            goes_on(round);
            thread::sleep(Duration::from_secs(12));
        }
        host.sh("systemctl restart lockdownd");
        host.await_mode("enforce");
        goes_on("after a restart");
        host.sh("pkill -CONT -x sftp-server");
        let late = host.sign("lockdown", json!({ "stack": "default", "hold": false, "reason": "late" }), &[&host.ben]);
        // As the shipper does: renamed into place.
        host.write("/var/lib/lockdownd-shipper/inbox/.new", late.to_string());
        host.sh(&format!("cd /var/lib/lockdownd-shipper/inbox && mv .new {}.json", id(&late)));
        eventually("what lies there is taken once it answers", Duration::from_secs(90), || {
            host.records_of("document.accepted").iter().any(|record| record["detail"]["document"] == id(&late))
        });
        host.sh("umount -l /var/lib/lockdownd-shipper/inbox");
    }
}
