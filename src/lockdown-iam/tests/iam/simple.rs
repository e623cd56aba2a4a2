//! Joiners, leavers, changes: what a run holds, and what it proposes.

use serde_json::json;

use crate::{
    fake::Fake,
    office::{Office, made_key, member},
};

/// Frank and bob are in IAM and in the roster, and a first run has seen them.
pub fn two() -> (Office, Fake) {
    two_in(Office::new(vec![member("frank", "AIDAFRANK", &[1]), member("bob", "AIDABOB", &[2])]))
}

pub fn two_in(office: Office) -> (Office, Fake) {
    let fake = Fake::start();
    fake.user("frank", "AIDAFRANK", &["dev"]);
    fake.key("frank", "APKA1", made_key(1).as_str());
    fake.user("bob", "AIDABOB", &["dev", "ops"]);
    fake.tag("bob", "ssh-key-1", made_key(2).as_str());
    office.configure(&fake.lines(&["dev", "ops"]));
    office.run(&["sync"]).with(0).says("the roster is as IAM has it");
    office.many_runs_later();
    (office, fake)
}

#[test]
fn who_is_deleted_is_held_at_once_and_once() {
    let (office, fake) = two();
    fake.delete("frank");
    office.run(&["sync", "--dry-run"]).with(0).says("would be held: frank").says("would be proposed");
    assert_eq!((office.held(), office.proposed()), (vec![], None), "a dry run does nothing");
    office
        .run(&["sync"])
        .with(0)
        .says("held: frank: the IAM user frank (AIDAFRANK, arn:aws:iam::111122223333:user/frank) is deleted");
    assert_eq!(office.held(), ["frank"]);
    assert_eq!(office.proposed().unwrap().people, [member("bob", "AIDABOB", &[2])]);
    let hold = office.feed().last().unwrap().document().id().to_string();
    let runs = office.runs();
    assert_eq!((&runs[0]["holds"], &runs[0]["users"]), (&json!([hold]), &json!(1)), "{runs:?}");
    assert_eq!((&runs[0]["proposed"], &runs[1]["holds"]), (&json!(1), &json!([])), "one is dropped: {runs:?}");
    office.run(&["sync"]).with(0).says_not("held: ");
    std::fs::remove_file(office.path("state/memory.json")).unwrap();
    office.run(&["sync"]).with(0).says_not("held: ");
    assert_eq!(office.feed().len(), 2, "the roster, and one hold");
}

#[test]
fn one_answer_about_somebody_who_is_new_holds_nobody() {
    let (office, fake) =
        two_in(Office::automatic(vec![member("frank", "AIDAFRANK", &[1]), member("bob", "AIDABOB", &[2])]));
    fake.user("zoe", "AIDAZOE", &["ops"]);
    office.run(&["sync"]).with(0).says("+ zoe");
    // A server of IAM's that has not heard of zoe yet.
    fake.delete("zoe");
    office.run(&["sync"]).with(0).says_not("held: ");
    fake.user("zoe", "AIDAZOE", &["ops"]);
    office.run(&["sync"]).with(0).says_not("held: ");
    assert_eq!(office.held(), [""; 0]);
}

#[test]
fn who_is_in_no_group_is_held_after_two_runs() {
    let (office, fake) = two();
    fake.leave("frank");
    office.run(&["sync"]).with(0).says_not("held: ");
    office.a_minute_later();
    office.run(&["sync"]).with(0).says("held: frank").says("is in none of the groups");
    assert_eq!(office.held(), ["frank"]);
}

#[test]
fn who_is_disabled_by_a_tag_is_held_and_what_an_approver_lifts_stays_lifted() {
    let (office, fake) = two();
    fake.tag("bob", "ssh-access", "disabled");
    office.run(&["sync"]).with(0).says("held: bob").says("is disabled by a tag");
    let hold = office.feed().last().unwrap().document().id();
    office.lift(hold);
    office.run(&["sync"]).with(0).says_not("held: bob").says("an approver lifted that hold");
    assert_eq!(office.held(), [""; 0]);
    // Enabled, and disabled again: that is another matter.
    fake.with(|state| state.users.get_mut("bob").unwrap().tags.remove("ssh-access"));
    office.run(&["sync"]).with(0).says("the roster is as IAM has it");
    fake.tag("bob", "ssh-access", "disabled");
    // The same words of the same second would be the same document, which is lifted: then the next run holds them.
    let _ = office.run(&["sync"]);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    office.run(&["sync"]).with(0);
    assert_eq!(office.held(), ["bob"]);
    fake.with(|state| state.users.get_mut("bob").unwrap().tags.remove("ssh-access"));
    office.run(&["sync"]).with(0).says("bob is in IAM's groups, and held");
}

#[test]
fn a_user_of_the_same_name_is_another_person() {
    let (office, fake) = two();
    fake.delete("frank");
    fake.user("frank", "AIDAOTHER", &["dev"]);
    fake.key("frank", "APKA9", made_key(9).as_str());
    office.run(&["sync"]).with(0).says("held: frank").says("another user has the name now");
    assert_eq!(office.held(), ["frank"]);
    let proposed = office.proposed().unwrap();
    assert_eq!(proposed.people[1], member("frank", "AIDAOTHER", &[9]));
}

#[test]
fn joiners_and_changed_keys_and_groups_are_proposed() {
    let (office, fake) = two();
    for (name, id) in [("zoe", "AIDAZOE"), ("a+b=c,d.@_-", "AIDAODD")] {
        fake.user(name, id, &["ops"]);
    }
    fake.key("zoe", "APKA3", &format!("{} zoe@laptop", made_key(3)));
    fake.key("zoe", "APKA4", "ssh-rsa AAAA");
    fake.key("zoe", "APKA5", made_key(5).as_str());
    fake.with(|state| state.users.get_mut("zoe").unwrap().keys.get_mut("APKA5").unwrap().1 = false);
    fake.key("frank", "APKA6", made_key(6).as_str());
    office.run(&["sync"]).with(0).says("+ zoe").says("user/zoe: APKA4 is left out").says("~ frank");
    let people = office.proposed().unwrap().people;
    assert_eq!(people[0].name.as_str(), "a+b-c-d.@_-");
    assert_eq!(people[0].iam.as_ref().unwrap().name.as_str(), "a+b=c,d.@_-");
    assert_eq!(people[2], member("frank", "AIDAFRANK", &[1, 6]));
    assert_eq!(people[3], member("zoe", "AIDAZOE", &[3]));
    assert_eq!(office.held(), [""; 0]);
    // Once it is signed and published, nothing is proposed any more.
    office.publish(office.roster(2, people));
    office.run(&["sync"]).with(0).says("the roster is as IAM has it");
    assert_eq!(office.proposed(), None);
}

#[test]
fn what_did_not_change_is_not_asked_for_again() {
    let (office, fake) = two();
    fake.calls();
    office
        .run(&["sync"])
        .with(0)
        .says("2 users in IAM's groups; 6 calls: GetGroup 2, ListSSHPublicKeys 2, ListUserTags 2");
    let calls = fake.calls();
    assert_eq!(calls.values().sum::<u64>(), 6, "{calls:?}");
    // Of many who are known already, some are looked at in each run; who is new, at once.
    let lines = format!("users_per_run = 1\n{}", fake.lines(&["dev", "ops"]));
    office.configure(&lines);
    fake.user("zoe", "AIDAZOE", &["dev"]);
    fake.key("zoe", "APKA3", made_key(3).as_str());
    office.run(&["sync"]).with(0).says("GetGroup 3, GetSSHPublicKey 1, ListSSHPublicKeys 2, ListUserTags 2");
    fake.tag("bob", "ssh-access", "disabled");
    fake.tag("frank", "ssh-access", "disabled");
    office.run(&["sync"]).with(0);
    office.run(&["sync"]).with(0);
    assert_eq!(office.held(), ["bob", "frank"], "everybody's turn comes");
}

#[test]
fn a_hold_reaches_a_host_that_gets_the_roster_without_the_leaver_first() {
    let (office, fake) = two();
    fake.delete("frank");
    office.run(&["sync"]).with(0).says("held: frank");
    let hold = office.feed().last().unwrap().document().id();
    let mut roster = office.proposed().unwrap();
    roster.holds = [hold].into();
    office.publish(roster);
    office.run(&["sync"]).with(0).says("the roster is as IAM has it");
    let now = document::Moment::of(jiff::Timestamp::now());
    let mut late = office.host();
    late.begin_again(now);
    let mut feed = office.feed();
    feed.sort_by_key(|one| one.document().kind() != document::Kind::Roster);
    feed.remove(0);
    let place = late.place().clone();
    let mut late =
        document::Judge::begin(late.settings().clone(), place, now.before(std::time::Duration::from_secs(300_000)));
    for envelope in &feed {
        let judged = late.judge(envelope, now);
        assert!(matches!(judged.verdict, document::Verdict::Accepted(_)), "{:?}", judged.verdict);
    }
    assert_eq!(late.state().holds().count(), 1);
}

#[test]
fn two_runs_at_a_time_hold_nobody_twice() {
    let (office, fake) = two();
    fake.delete("frank");
    let said: Vec<_> = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..3).map(|_| scope.spawn(|| office.run(&["sync"]))).collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    assert!(said.iter().any(|one| one.status == 0), "{said:?}");
    assert_eq!(office.feed().len(), 2, "{said:?}");
}

#[test]
fn a_server_that_was_set_back_is_found_out() {
    let (office, fake) = two();
    fake.delete("frank");
    office.keep_unpublished(office.roster(2, vec![]));
    office.run(&["sync"]).with(1).says("the server gives roster 1, and roster 2 was seen here before");
    assert_eq!(office.feed().len(), 1);
}

#[test]
fn a_token_of_one_stack_is_enough_whichever_is_mapped_first() {
    let (office, fake) = two();
    office.configure(&fake.lines(&["dev", "ops"]).replace("{ web = ", "{ db = [\"ubuntu\"], web = "));
    fake.delete("frank");
    office.run(&["sync"]).with(0).says("held: frank");
    assert_eq!(office.held(), ["frank"]);
    office.run(&["check"]).with(0).says_not("WRONG");
    office.configure(&fake.lines(&["dev", "ops"]).replace("{ web = ", "{ db = "));
    office.run(&["sync"]).with(1).says("knows no stack yet that this token reads about");
}

#[test]
fn check_says_what_is_missing() {
    let (office, fake) = two();
    office
        .run(&["check"])
        .with(0)
        .says("ok    111122223333/dev: 2 users")
        .says("is the feeder of iam")
        .says_not("WRONG");
    fake.goes_wrong("ListUserTags", crate::fake::Fault::Error(403, "AccessDenied"), 9);
    office.run(&["check"]).with(1).says("the permission iam:ListUserTags is missing");
    office.configure(&fake.lines(&["dev", "oops"]));
    office.run(&["check"]).with(1).says("there is no group oops");
    std::fs::write(office.path("token"), "ca_auditor_x").unwrap();
    office.run(&["check"]).with(1).says("WRONG server");
    office.run(&["sync"]).with(1).says("token create --role auditor --stack");
}

#[test]
fn check_says_whether_somebody_is_left_who_lifts_what_its_key_holds() {
    let fake = Fake::start();
    fake.user("ceo", "AIDACEO", &["dev"]);
    let office = Office::new(vec![member("ceo", "AIDACEO", &[3])]);
    office.configure(&fake.lines(&["dev"]));
    office.run(&["check"]).with(0).says("note  key: of those who sign rosters 0 are not of iam, and it takes 1");
    let (office, _fake) = two();
    office.run(&["check"]).with(0).says_not("note  ");
}

/// What a run of five thousand takes, and which calls: `GetGroup` for each page, and for each user who is new or whose turn it is two.
#[test]
fn five_thousand_users_are_read_in_bounded_memory_and_with_no_call_too_many() {
    let office = Office::new(vec![]);
    let fake = Fake::start();
    let groups: Vec<String> = (0..50).map(|number| format!("group-{number}")).collect();
    for number in 0..5000_usize {
        let name = format!("user-{number}");
        fake.user(&name, &format!("AIDA{number:08}"), &[groups[number % 50].as_str()]);
        fake.tag(&name, "ssh-key-1", &key_number(number));
    }
    fake.with(|state| state.page = 100);
    let named: Vec<&str> = groups.iter().map(String::as_str).collect();
    office.configure(&fake.lines(&named));
    office.run(&["sync"]).with(0).says("10050 calls: GetGroup 50, ListSSHPublicKeys 5000, ListUserTags 5000");
    let people = office.proposed().unwrap().people;
    assert_eq!(people.len(), 5000);
    office.publish(office.roster(2, people));
    office
        .run(&["sync"])
        .with(0)
        .says("550 calls: GetGroup 50, ListSSHPublicKeys 250, ListUserTags 250")
        .says("as IAM has it");
    // Without optimisation it takes some more than the program that ships.
    let peak = office.peak_of(&["sync"]);
    assert!(peak < 96 << 10, "{peak} KiB");
}

fn key_number(number: usize) -> String {
    let mut seed = [7; 32];
    seed[..8].copy_from_slice(&number.to_le_bytes());
    let public = ssh_key::private::Ed25519Keypair::from_seed(&seed).public;
    document::Key::from_data(&ssh_key::public::KeyData::Ed25519(public)).unwrap().to_string()
}
