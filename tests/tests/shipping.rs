//! From the host's ledger to a real compliance API and to rsyslog: everything arrives once and in order, and whatever is
//! done to a ledger that was acknowledged is noticed, here and there, with its place.

use std::collections::BTreeMap;
use std::time::Duration;

use instance_tests::{House, Release, Server, eventually, on_each_release};
use serde_json::Value;

/// What shipping may take on a busy machine; it lingers for 200 ms.
const SOON: Duration = Duration::from_secs(40);

/// A house that ships to a server beside it, and has enrolled.
struct Site {
    house: House,
    server: Server,
}

impl Site {
    fn shipping(release: Release) -> Self {
        let house = House::enforcing(release);
        let server = Server::start(&house);
        let token = server.token("--role enrol --stack default");
        house.write("/etc/lockdownd/credentials/enrolment-token", token);
        let site = Self { house, server };
        site.configure("");
        site.house.sh("systemctl restart lockdownd-shipper");
        site.is_all_acknowledged();
        site
    }

    fn configure(&self, more: &str) {
        let api =
            format!("[ship.api]\nurl = \"{}\"\nreceipt_keys = [\"{}\"]", self.server.url(), self.server.public_key());
        let syslog = "[ship.syslog]\naddress = \"unix:/run/systemd/journal/syslog\"";
        self.house.configure(&self.house.config("enforce", &format!("{syslog}\n{api}\n{more}")));
    }

    /// How the API stands, as `status` has it.
    fn sink(&self) -> Value {
        let status = self.house.ctl_json("status");
        let sinks = status["shipping"].as_array().unwrap();
        sinks.iter().find(|sink| sink["name"] == "api").unwrap().clone()
    }

    fn head(&self) -> u64 {
        self.house.ctl_json("status")["ledger"]["seq"].as_u64().unwrap()
    }

    #[track_caller]
    fn is_all_acknowledged(&self) {
        let mut last = Value::Null;
        eventually("everything is acknowledged", SOON, || {
            let status = self.house.ctl_json("status");
            let sinks = status["shipping"].as_array().unwrap();
            last = sinks.iter().find(|sink| sink["name"] == "api").cloned().unwrap_or_default();
            last["acknowledged"] == status["ledger"]["seq"]
        });
    }

    fn host(&self) -> String {
        self.house.ctl_json("status")["host"].as_str().unwrap().to_owned()
    }

    fn ledger(&self) -> String {
        self.house.ctl_json("status")["ledger"]["id"].as_str().unwrap().to_owned()
    }

    /// What the server has of a ledger, line by line.
    fn stored(&self, ledger: &str) -> String {
        self.server.get(&format!("/v1/artifacts?ledger={ledger}&form=record&pending=true"))
    }

    fn incidents(&self) -> Vec<Value> {
        self.server.json("/v1/incidents")["incidents"].as_array().unwrap().clone()
    }

    /// Gives and revokes so many grants.
    fn work(&self, times: usize) {
        self.house.sh(&format!(
            "for i in $(seq {times}); do lockdownctl allow frank --account ubuntu --for 1h --reason work >/dev/null && lockdownctl revoke frank >/dev/null; done"
        ));
    }

    /// `lockdownctl verify` of a ledger against the server's receipts for it.
    fn verify(&self, dir: &str, of: &str) -> (i32, String) {
        self.house.write("/root/receipts", self.server.get(&format!("/v1/receipts?ledger={of}")));
        self.house.write("/root/server.pub", self.server.public_key());
        let verdict =
            self.house.ctl(&format!("verify --ledger {dir} --receipts /root/receipts --server-key /root/server.pub"));
        (verdict.status, verdict.stdout)
    }
}

/// Signs the lines of a ledger anew from one on, with the host's own key and stock tools, as root can: `resign FROM FILE`.
const RESIGN: &str = r#"
resign() {
    n=0; prev=; : >"$2.new"
    while IFS= read -r line; do
        n=$((n + 1))
        if [ $n -ge "$1" ]; then
            printf '%s' "$line" | jq -cjS --arg prev "$prev" --argjson n $n 'del(.signature) | .prev = $prev | .seq = $n' >message
            rm -f message.sig
            ssh-keygen -q -Y sign -f /var/lib/lockdownd/signing_key -n ssh-access-record message
            line=$(jq -cS --rawfile sig message.sig '.signature = $sig' message)
        fi
        printf '%s\n' "$line" >>"$2.new"
        prev=$(printf '%s\n' "$line" | sha256sum | cut -d ' ' -f 1)
    done <"$2"
    cat "$2.new" >"$2" && rm "$2.new"
}
"#;

/// Takes apart what rsyslog wrote: the signed lines in it.
fn lines_in(log: &str) -> Vec<&str> {
    let records = log.lines().filter(|line| line.contains("lockdownd[") && line.ends_with('}'));
    records.filter_map(|line| line.find("{\"").map(|at| &line[at..])).collect()
}

on_each_release! {
    fn every_record_reaches_syslog_and_the_server_once_and_in_order_whatever_ends_the_shipper(release) {
        let mut site = Site::shipping(release);
        site.house.sh("systemd-run -q --unit=killer bash -c 'for i in 1 2 3 4 5; do sleep 0.4; systemctl kill -s KILL lockdownd-shipper; done'");
        site.work(15);
        // A server that ends in the middle of it, and one that is away for a while.
        site.server.stop();
        site.work(5);
        eventually("what waits is shown", SOON, || site.sink()["waiting"].as_u64().unwrap() > 5 && site.sink()["why"].is_string());
        let shown = site.house.ctl("status").stdout;
        assert!(shown.contains("waiting since") && shown.contains("; acknowledged to "), "{shown}");
        site.server.move_to(&site.house);
        site.is_all_acknowledged();

        site.house.power_cut();
        site.server.move_to(&site.house);
        site.house.await_mode("enforce");
        site.work(3);
        site.is_all_acknowledged();
        site.house.sh("systemctl stop lockdownd; sleep 1");
        eventually("the last word is stored", SOON, || site.stored(site.house.records()[0]["ledger"].as_str().unwrap()).contains("daemon.stopped"));
        let ledger = site.house.sh("cat /var/lib/lockdownd/ledger/*.jsonl");
        let id = site.house.records()[0]["ledger"].as_str().unwrap().to_owned();
        assert_eq!(site.stored(&id).trim_end(), ledger, "all of it, once, in order, byte by byte");
        assert_eq!(site.incidents(), Vec::<Value>::new());

        let log = site.house.sh("cat /var/log/auth.log");
        let logged = lines_in(&log);
        let missing = ledger.lines().find(|line| !logged.contains(line));
        assert_eq!(missing, None, "rsyslog has every line");
        site.house.write("/root/line", logged[logged.len() - 1]);
        site.house.sh("printf '%s %s\\n' \"$(jq -r .host /root/line)\" \"$(cat /var/lib/lockdownd/signing_key.pub)\" >/root/signers; \
                       jq -j .signature /root/line >/root/sig; jq -cjS 'del(.signature)' /root/line | \
                       ssh-keygen -q -Y verify -n ssh-access-record -I \"$(jq -r .host /root/line)\" -f /root/signers -s /root/sig");
        let exposure = site.house.sh("systemd-analyze security lockdownd-shipper --no-pager | tail -n 1");
        let exposure: f64 = exposure.split(": ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
        assert!(exposure <= 2.0, "{exposure}");
    }

    fn the_last_word_before_a_shutdown_is_shipped(release) {
        let mut site = Site::shipping(release);
        let id = site.ledger();
        site.house.reboot();
        site.server.move_to(&site.house);
        let stored = site.stored(&id);
        let last = stored.lines().rfind(|line| line.contains("\"type\":\"daemon.stopped\""));
        assert!(last.is_some(), "the server has: {}", stored.lines().last().unwrap_or_default());
        let hosts = site.server.json("/v1/hosts");
        assert_eq!(hosts["hosts"].as_array().map(Vec::len), Some(1), "{hosts}");
    }

    fn what_root_rewrites_is_noticed_by_verify_and_by_the_server_with_its_place(release) {
        let site = Site::shipping(release);
        site.work(4);
        site.is_all_acknowledged();
        let (id, head) = (site.ledger(), site.head());
        let verdict = site.verify("/var/lib/lockdownd/ledger", &id);
        assert!(verdict.0 == 0 && verdict.1.contains(&format!("acknowledged to {head}")), "{}", verdict.1);
        let first = "000000000001.jsonl";
        for (what, touch, found) in [
            ("edited", "sed -i '5s/a/b/' FILE", "record"),
            ("dropped", "sed -i 5d FILE", "expected record 5"),
            ("reordered", "sed -i -n '5{h;d};6{p;g};p' FILE", "expected record 5"),
            ("truncated", "sed -i '$d' FILE", "the end was cut off"),
            ("edited and signed anew", "sed -i '5s/\"reason\":\"/\"reason\":\"never /' FILE; resign 5 FILE", "after record"),
            ("dropped and signed anew", "sed -i 5d FILE; resign 5 FILE", "after record"),
        ] {
            let script = format!("rm -rf /root/l; cp -r /var/lib/lockdownd/ledger /root/l; {touch}");
            site.house.sh(&format!("{RESIGN}\n{}", script.replace("FILE", &format!("/root/l/{first}"))));
            let (status, text) = site.verify("/root/l", &id);
            assert!(status == 1 && text.contains(found) && text.contains("is as the server has it"), "{what}: {text}");
        }
        // In its place, the last record that was acknowledged in other words, and all that the shipper knows wiped: what it
        // sends then contradicts what is stored.
        site.house.sh(&format!("systemctl stop lockdownd lockdownd-shipper\n{RESIGN}\nf=/var/lib/lockdownd/ledger/{first}; n={head}; \
            sed -i \"${{n}}s/\\\"reason\\\":\\\"/\\\"reason\\\":\\\"never /\" $f; resign $n $f; rm -r /run/lockdownd/durable /var/lib/lockdownd-shipper/*; systemctl start lockdownd lockdownd-shipper"));
        eventually("the server notices", SOON, || site.incidents().iter().any(|incident| incident["kind"] == "fork"));
        let incident = site.incidents().into_iter().find(|incident| incident["kind"] == "fork").unwrap();
        assert_eq!(incident["ledger"], id.as_str(), "{incident}");
        eventually("a new ledger begins", SOON, || site.ledger() != id);
        let opened = &site.house.records_of("ledger.opened")[0];
        assert!(opened["reason"].as_str().unwrap().contains("the ledger was written anew"), "{opened}");
    }

    fn a_clone_a_new_name_and_yesterdays_disk_go_on_and_no_fork_goes_unnoticed(release) {
        let mut site = Site::shipping(release);
        // Another name, then another machine: each its own ledger, under its own name.
        let first = site.ledger();
        site.configure("[host]\nname = \"db7\"");
        site.house.sh("systemctl restart lockdownd");
        site.house.await_mode("enforce");
        site.is_all_acknowledged();
        let second = site.ledger();
        site.configure("");
        site.house.sh("systemctl stop lockdownd; tr 0-9a-f 1-9a-f0 </etc/machine-id >/etc/machine-id.new; mv /etc/machine-id.new /etc/machine-id; systemctl start lockdownd");
        site.house.await_mode("enforce");
        site.is_all_acknowledged();
        let third = site.ledger();
        let hosts = site.server.json("/v1/hosts");
        let names: BTreeMap<&str, usize> = hosts["hosts"].as_array().unwrap().iter()
            .map(|host| (host["host"].as_str().unwrap(), host["ledgers"].as_array().map_or(0, Vec::len))).collect();
        assert_eq!((names.len(), names.get("db7")), (3, Some(&1)), "{hosts}");
        for ledger in [&first, &second, &third] {
            assert!(site.stored(ledger).contains("ledger.opened"));
        }
        assert!(site.incidents().iter().all(|incident| incident["kind"] != "fork"), "{:?}", site.incidents());

        // Yesterday's disk, with the shipper's state on it.
        site.house.allow("frank --account ubuntu --for 6h");
        site.is_all_acknowledged();
        site.house.sh("systemctl stop lockdownd lockdownd-shipper; mkdir /root/old; cp -a /var/lib/lockdownd /var/lib/lockdownd-shipper /root/old/; systemctl start lockdownd lockdownd-shipper");
        site.house.ctl("revoke frank").expect_ok();
        site.is_all_acknowledged();
        site.house.sh("systemctl stop lockdownd lockdownd-shipper; rm -rf /var/lib/lockdownd /var/lib/lockdownd-shipper; mv /root/old/* /var/lib/");
        site.house.power_cut();
        site.server.move_to(&site.house);
        site.house.await_mode("enforce");
        eventually("a new ledger begins", SOON, || site.ledger() != third);
        assert!(!site.house.ssh("ubuntu").key(&site.house.frank).login(), "the grant that was revoked is void");
        assert!(site.incidents().iter().any(|incident| incident["kind"] == "fork" && incident["ledger"] == third.as_str()));
        eventually("the new ledger is acknowledged, though nobody has approved it", SOON, || {
            let sink = site.sink();
            sink["enrolment"] == "pending" && sink["acknowledged"].as_u64().unwrap() > 1
        });
        let fourth = site.ledger();
        site.server.approve(&format!("/v1/enrolments/{fourth}/approve"));
        let (status, text) = site.verify("/var/lib/lockdownd/ledger", &fourth);
        assert_eq!(status, 0, "{text}");
        site.house.write("/root/receipts", site.server.get(&format!("/v1/receipts?host={}", site.host())));
        let all = site.house.ctl("verify --receipts /root/receipts --server-key /root/server.pub");
        assert!(all.status == 1 && all.stdout.contains(&third), "what the server has of the ledger before is told: {all}");
    }
}
