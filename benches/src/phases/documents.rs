//! Grants by signed documents, from the inbox to the key store.

use std::time::Duration;

use document::{Envelope, Grant, Member, Rule};
use instance_tests::{Company, Stack};

use crate::{
    Bench, note,
    samples::Printed,
    table::{Bound, Row},
};

/// p99 is within this of what the disk takes for a record.
const MOST: Duration = Duration::from_millis(50);
/// Where the documents stand before they are laid into the inbox.
const HELD: &str = "/root/documents";
/// How long they may be accepted.
const ACCEPTED: Duration = Duration::from_secs(3_600);

/// As many grants as one person may be given accounts.
pub(crate) fn measure(bench: &Bench) -> Vec<Row> {
    let (house, count) = (&bench.house, bench.effort.documents);
    note(&format!("{count} grants by signed documents, in turn with records that the disk takes"));
    let company = Company::found(&house.scratch());
    let accounts: Vec<String> = (0..count).map(|index| format!("b{index:05}")).collect();
    house.configure(&house.config("enforce", &format!("[host]\nstack = \"web\"\n{}", company.table(""))));
    house.await_mode("enforce");
    let envelope = company.signed(roster(&company, &accounts), &[&company.ceo]);
    house.write("/root/roster.json", envelope.to_json());
    house.ctl("apply /root/roster.json").expect_ok();
    Stack::age(house);
    let lay = |account: &String| {
        let envelope = grant(&company, account);
        let file = format!("{HELD}/{}.json", envelope.document().id());
        house.write(&file, envelope.to_json());
        format!("{account} {file}\n")
    };
    house.sh(&format!("mkdir -p {HELD} /var/lib/lockdownd-shipper/inbox"));
    let list: String = accounts.iter().map(lay).collect();
    house.write("/root/list", list);
    let printed = Printed::parse(&bench.probe(600, "grants /root/list"));
    house.ctl("revoke heidi --reason bench").expect_ok();
    let (ours, floor) = (printed.take("ours"), printed.take("floor"));
    let row = |percent, bound| {
        let what = format!("document → key in the store, p{percent}");
        Row::times(&what, floor.percentile(percent), ours.percentile(percent), bound)
    };
    vec![row(50, Bound::None), row(99, Bound::Adds(MOST))]
}

/// One person more, who is in no host's configuration and may be given these accounts by one approval.
fn roster(company: &Company, accounts: &[String]) -> document::Roster {
    let mut roster = company.roster(1);
    let named = accounts.iter().map(|account| account.clone().try_into().expect("a name")).collect();
    let stack: document::StackPattern = "web".to_owned().try_into().expect("a pattern");
    roster.people.push(Member {
        name: "heidi".parse().expect("a name"),
        keys: [company.key_of(&company.mallory)].into(),
        accounts: [(stack, named)].into(),
        ..roster.people[0].clone()
    });
    let any = document::ANY.to_owned().try_into().expect("a pattern");
    roster.rules.insert(0, Rule { account: any, ..roster.rules[1].clone() });
    roster
}

fn grant(company: &Company, account: &str) -> Envelope {
    let fingerprints = [company.mallory.fingerprint().try_into().expect("a fingerprint")].into();
    let person = "heidi".parse().expect("a name");
    let grant = Grant { person, fingerprints, ..company.grant(account, ACCEPTED) };
    company.signed(grant, &[&company.alice])
}
