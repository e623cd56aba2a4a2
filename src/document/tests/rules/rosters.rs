//! Rows about rosters.

use crate::common::*;
use document::{judge::Dropped, *};

fn taken(judge: &mut Judge, roster: Roster, by: &[&Signing]) -> judge::RosterTaken {
    match judge.judge(&signed(roster, by), noon()).verdict {
        Verdict::Accepted(Accepted::Roster(taken)) => taken,
        other => panic!("{other:?}"),
    }
}

fn two_of_three(it: &Company) -> Settings {
    let mut settings = it.settings();
    settings.roster.threshold = 2;
    settings.roster.keys.push(RosterKey { person: w("ceo"), key: it.stranger.key() });
    settings
}

#[test]
fn a_roster_takes_the_threshold_of_the_configurations_keys_counted_in_people() {
    let it = company();
    let mut judge = Judge::begin(two_of_three(&it).check().unwrap(), it.place(), began());
    let mut counted = |by: &[&Signing]| match refusal(judge.judge(&signed(it.roster(), by), noon())) {
        Refusal::Threshold { counted, needed: 2 } => counted,
        other => panic!("{other}"),
    };
    assert_eq!(counted(&[]), 0);
    assert_eq!(counted(&[&it.ceo]), 1);
    assert_eq!(counted(&[&it.ceo, &it.stranger]), 1, "one person's two keys");
    assert_eq!(counted(&[&it.ceo, &it.ceo]), 1);
    assert_eq!(counted(&[&it.ceo, &it.alice, &it.iam]), 1, "nobody of the roster itself");
    assert!(!taken(&mut judge, it.roster(), &[&it.stranger, &it.cto]).automatic);
    // Whoever it names, only the configuration says who signs the next one.
    let next = Roster { version: version(2), ..it.roster() };
    assert!(matches!(refusal(judge.judge(&signed(next, &[&it.alice, &it.bob]), noon())), Refusal::Threshold { .. }));
}

#[test]
fn the_version_is_never_lower_the_same_with_other_bytes_is_an_incident_and_a_minimum_holds() {
    let it = company();
    let mut judge = it.judge_with(it.settings(), it.place(), Roster { version: version(5), ..it.roster() });
    let old = refusal(judge.judge(&signed(Roster { version: version(4), ..it.roster() }, &[&it.ceo]), noon()));
    assert!(matches!(old, Refusal::Rollback { .. }) && !old.is_incident());
    let same = signed(Roster { version: version(5), ..it.roster() }, &[&it.cto]);
    assert_eq!(judge.judge(&same, noon()).verdict, Verdict::Known);
    let other = Roster { version: version(5), issued_at: noon(), ..it.roster() };
    let incident = refusal(judge.judge(&signed(other.clone(), &[&it.ceo]), noon()));
    assert!(matches!(incident, Refusal::OtherBytes { .. }) && incident.is_incident());
    // Anybody can write other bytes; signed they have to be, to be an incident.
    assert!(!refusal(judge.judge(&signed(other, &[&it.alice]), noon())).is_incident());
    taken(&mut judge, Roster { version: version(6), ..it.roster() }, &[&it.ceo]);

    let mut settings = it.settings();
    settings.roster.min_version = 3;
    let mut judge = Judge::begin(settings.check().unwrap(), it.place(), began());
    let low = refusal(judge.judge(&signed(Roster { version: version(2), ..it.roster() }, &[&it.ceo]), noon()));
    assert!(matches!(low, Refusal::BelowMinimum { min: 3, .. }));
    taken(&mut judge, Roster { version: version(3), ..it.roster() }, &[&it.ceo]);
}

#[test]
fn behind_the_documents_roster_it_waits_and_ahead_the_current_roster_judges() {
    let it = company();
    let mut judge = Judge::begin(it.settings().check().unwrap(), it.place(), began());
    let by = [&it.alice, &it.bob];
    let grant = signed(Grant { roster: version(2), ..it.grant() }, &by);
    assert_eq!(wait(judge.judge(&grant, noon())), Wait::NoRoster);
    taken(&mut judge, it.roster(), &[&it.ceo]);
    assert!(matches!(wait(judge.judge(&grant, noon())), Wait::RosterBehind { .. }));
    taken(&mut judge, Roster { version: version(2), ..it.roster() }, &[&it.ceo]);
    terms(judge.clone().judge(&grant, noon()));
    // Bob has left since it was signed.
    let mut third = Roster { version: version(3), ..it.roster() };
    third.approvers.remove(1);
    taken(&mut judge, third, &[&it.ceo]);
    assert!(matches!(refusal(judge.judge(&grant, noon())), Refusal::Approvals { counted: 1, .. }));
}

#[test]
fn a_new_roster_ends_grants_of_people_keys_and_accounts_it_no_longer_has_and_approvals_are_judged_once() {
    let it = company();
    let mut judge = it.judge();
    let grant =
        Grant { fingerprints: [it.frank_login.fingerprint(), it.frank_device.fingerprint()].into(), ..it.grant() };
    terms(judge.judge(&signed(grant.clone(), &[&it.alice, &it.bob]), noon()));
    let open = open_grant(&grant);
    let stands = |change: &dyn Fn(&mut Roster)| {
        let mut judge = judge.clone();
        let mut roster = Roster { version: version(2), ..it.roster() };
        change(&mut roster);
        taken(&mut judge, roster, &[&it.ceo]);
        judge.stands(&open, noon())
    };
    assert_eq!(stands(&|_| {}).unwrap(), grant.fingerprints);
    assert_eq!(stands(&|roster| drop(roster.people.remove(0))), Err(Ended::Person(w("frank"))));
    assert_eq!(
        stands(&|roster| drop(roster.people[0].accounts.insert(w("web"), set(&["deploy"])))),
        Err(Ended::Account(w("frank"), w("ubuntu")))
    );
    assert_eq!(stands(&|roster| roster.people[0].keys = [].into()), Err(Ended::Keys(w("frank"))));
    let one = stands(&|roster| roster.people[0].keys = [it.frank_device.key()].into());
    assert_eq!(one.unwrap(), [it.frank_device.fingerprint()].into());
    assert_eq!(stands(&|roster| roster.approvers.clear()).unwrap(), grant.fingerprints, "approvals are judged once");
    assert_eq!(stands(&|roster| roster.rules.clear()).unwrap(), grant.fingerprints);
}

#[test]
fn an_expired_roster_stops_opening_and_nothing_else() {
    let it = company();
    let mut judge = it.judge_with(it.settings(), it.place(), Roster { expires_at: noon(), ..it.roster() });
    let early = signed(Grant { account: w("deploy"), ..it.grant() }, &[&it.alice, &it.bob]);
    let second = std::time::Duration::from_secs(1);
    terms(judge.judge(&early, noon().before(second)));
    let by = [&it.alice, &it.bob];
    assert!(matches!(wait(judge.judge(&signed(it.grant(), &by), noon())), Wait::RosterExpired { .. }));
    assert!(judge.stands(&open_grant(&Grant { account: w("deploy"), ..it.grant() }), noon()).is_ok());
    let hold = document(it.hold_frank());
    assert_accepted(&judge.judge(&signed(it.revoke(hold.id()), &[&it.alice]), noon()));
    assert_accepted(&judge.judge(&signed(it.hold_frank(), &[&it.alice]), noon()));
    assert_accepted(&judge.judge(&signed(it.lift(hold.id()), &by), noon()));
    taken(&mut judge, Roster { version: version(2), ..it.roster() }, &[&it.ceo]);
    let later = Grant { issued_at: noon(), starts_at: noon(), ..it.grant() };
    assert_accepted(&judge.judge(&signed(later, &by), noon()));
}

#[test]
fn automatic_keys_change_people_of_their_own_source_and_never_an_approver_a_rule_or_a_feeder() {
    let it = company();
    let mut settings = it.settings();
    settings.roster.automatic = vec![it.iam.key()];
    let mut judge = Judge::begin(settings.clone().check().unwrap(), it.place(), began());
    let by = [&it.iam];
    let none = refusal(judge.judge(&signed(it.roster(), &by), noon()));
    assert!(matches!(none, Refusal::Automatic(_)), "there is nothing to differ from");
    taken(&mut judge, it.roster(), &[&it.ceo]);
    let next = |change: &dyn Fn(&mut Roster)| {
        let mut roster = Roster { version: version(2), issued_at: noon(), ..it.roster() };
        change(&mut roster);
        judge.clone().judge(&signed(roster, &by), noon())
    };
    let member = |name: &str, source: &str, key: &Signing| Member {
        accounts: [].into(),
        iam: Some(IamUser { arn: None, id: w("AIDAEXAMPLE"), name: w("heidi") }),
        keys: [key.key()].into(),
        name: w(name),
        source: w(source),
    };
    assert_accepted(&next(&|roster| drop(roster.people.remove(1))));
    assert_accepted(&next(&|roster| roster.people.push(member("heidi", "iam", &it.stranger))));
    assert_accepted(&next(&|roster| roster.people[1].keys = [it.stranger.key()].into()));
    let ahead = |more: u64| move |roster: &mut Roster| roster.version = version(1 + judge::MAX_AUTOMATIC_AHEAD + more);
    assert_accepted(&next(&ahead(0)));
    let last_there_is = |roster: &mut Roster| roster.version = version((1 << 53) - 1);
    let refused: [&dyn Fn(&mut Roster); 13] = [
        &ahead(1),
        &last_there_is,
        &|roster| drop(roster.people.remove(0)),
        &|roster| roster.people[0].keys = [it.stranger.key()].into(),
        &|roster| roster.people[0].source = w("iam"),
        &|roster| roster.people.push(member("heidi", "hand", &it.stranger)),
        &|roster| roster.people.insert(0, member("alice", "iam", &it.stranger)),
        &|roster| roster.people.insert(0, member("ceo", "iam", &it.stranger)),
        &|roster| roster.people.push(member("heidi", "iam", &it.cto)),
        &|roster| drop(roster.approvers.remove(0)),
        &|roster| drop(roster.rules.remove(0)),
        &|roster| roster.feeders.clear(),
        &|roster| roster.expires_at = roster.expires_at.after(HOUR),
    ];
    for (n, change) in refused.into_iter().enumerate() {
        let refused = refusal(next(change));
        assert!(matches!(refused, Refusal::Automatic(_)), "{n}: {refused}");
    }
    let holds = refusal(next(&|roster| roster.holds = [document(it.lockdown()).id()].into()));
    assert!(matches!(holds, Refusal::Automatic(_)));
    // An automatic key that the roster in force does not name as a feeder has no source.
    let mut roster = it.roster();
    roster.feeders.clear();
    let mut without = it.judge_with(settings, it.place(), roster.clone());
    roster.version = version(2);
    assert!(matches!(refusal(without.judge(&signed(roster, &by), noon())), Refusal::Automatic(_)));
}

#[test]
fn a_roster_is_verified_again_at_each_load_and_dropped_with_its_version_when_it_fails() {
    let it = company();
    let mut settings = it.settings();
    settings.roster.automatic = vec![it.iam.key()];
    let mut judge = it.judge_with(settings.clone(), it.place(), it.roster());
    let (again, dropped) = restarted(&judge, settings.clone(), it.place(), noon());
    assert_eq!((again.state(), dropped), (judge.state(), vec![]));
    assert_eq!((again.roster(), again.place()), (Some(&it.roster()), &it.place()));
    let state = State::begin(w("acme"), w("web"), began());
    let (none, dropped) =
        Judge::load(settings.clone().check().unwrap(), it.place(), state, judge.rosters().clone(), noon());
    assert_eq!((none.roster(), none.rosters(), dropped), (None, &judge::Kept::default(), vec![]));

    let mut second = Roster { version: version(2), ..it.roster() };
    second.people.remove(1);
    assert!(taken(&mut judge, second, &[&it.iam]).automatic);
    let (again, dropped) = restarted(&judge, settings.clone(), it.place(), noon());
    assert_eq!((again.state().roster().unwrap().version, dropped), (version(2), vec![]));

    let lost = |change: &dyn Fn(&mut Settings)| {
        let mut settings = settings.clone();
        change(&mut settings);
        let (again, dropped) = restarted(&judge, settings, it.place(), noon());
        assert!(matches!(&dropped[..], [Dropped::Roster { .. }]), "{dropped:?}");
        assert_eq!((again.state().roster(), again.roster()), (None, None));
        assert_eq!(*again.rosters(), judge::Kept::default());
        again
    };
    lost(&|settings| settings.deny_keys = [it.ceo.fingerprint()].into());
    lost(&|settings| settings.roster.min_version = 3);
    lost(&|settings| settings.roster.automatic.clear());
    lost(&|settings| settings.roster.threshold = 2);
    let mut again = lost(&|settings| drop(settings.roster.keys.remove(0)));
    assert_eq!(again.stands(&open_grant(&it.grant()), noon()), Err(Ended::NoRoster));
    // Its version is gone with it: the configuration is the root of trust, and has begun anew.
    taken(&mut again, it.roster(), &[&it.cto]);

    // Nobody's signature is believed because it was believed before.
    for lost in [true, false] {
        let stripped = |envelope: &Option<Envelope>| {
            envelope.as_ref().map(|envelope| Envelope::new(envelope.document().clone(), vec![]).unwrap())
        };
        let rosters = judge.rosters().clone();
        let kept = match lost {
            true => judge::Kept { automatic: stripped(&rosters.automatic), ..rosters },
            false => judge::Kept { signed: stripped(&rosters.signed), ..rosters },
        };
        let settings = settings.clone().check().unwrap();
        let (_, dropped) = Judge::load(settings, it.place(), judge.state().clone(), kept, noon());
        assert!(matches!(&dropped[..], [Dropped::Roster { .. }]), "{dropped:?}");
    }
    let kept = judge::Kept { signed: judge.rosters().signed.clone(), automatic: None };
    let (mut again, dropped) = Judge::load(settings.check().unwrap(), it.place(), judge.state().clone(), kept, noon());
    assert_eq!(dropped, [Dropped::RosterMissing(version(2))], "nobody puts an older one in its place");
    let earlier = signed(it.roster(), &[&it.ceo]);
    assert!(matches!(refusal(again.judge(&earlier, noon())), Refusal::Rollback { .. }), "nor brings one");
    let same_version = Roster { version: version(2), ..it.roster() };
    assert!(matches!(refusal(again.judge(&signed(same_version, &[&it.ceo]), noon())), Refusal::OtherBytes { .. }));
    taken(&mut again, Roster { version: version(3), ..it.roster() }, &[&it.ceo]);
    taken(&mut again, Roster { version: version(4), ..it.roster() }, &[&it.ceo]);
}

#[test]
fn a_changed_stack_or_organization_ends_document_grants_and_begins_anew() {
    let it = company();
    let mut judge = it.judge();
    let grant = signed(it.grant(), &[&it.alice, &it.bob]);
    terms(judge.judge(&grant, noon()));
    let place = Place { stack: w("db"), ..it.place() };
    let (mut moved, dropped) = restarted(&judge, it.settings(), place, noon());
    assert_eq!(dropped, [Dropped::Stack(w("web"))]);
    assert!(moved.stands(&open_grant(&it.grant()), noon()).is_err());
    assert!(matches!(refusal(moved.judge(&grant, noon())), Refusal::Stack { .. }));
    // It has seen nothing of what was closed in its new stack.
    let db = Grant { stack: w("db"), ..it.grant() };
    assert!(matches!(refusal(moved.judge(&signed(db, &[&it.alice, &it.bob]), noon())), Refusal::HostIsNewer { .. }));

    let settings = Settings { organization: w("other"), ..it.settings() };
    let (moved, dropped) = restarted(&judge, settings, it.place(), noon());
    assert_eq!(dropped, [Dropped::Organization(w("acme"))]);
    assert_eq!((moved.state().began(), moved.state().roster()), (noon(), None));
    assert_eq!(moved.stands(&open_grant(&it.grant()), noon()), Err(Ended::NoRoster));
}

#[test]
fn a_roster_in_which_one_key_or_one_person_is_two_is_none() {
    let it = company();
    type Change<'a> = &'a dyn Fn(&mut Roster);
    let wrong: [(&str, Change<'_>); 14] = [
        ("is there twice", &|roster| roster.people[1].keys = [it.frank_login.key()].into()),
        ("is there twice", &|roster| roster.people[1].keys = [it.alice.key()].into()),
        ("is there twice", &|roster| roster.approvers[1].keys = [it.alice.key()].into()),
        ("is there twice", &|roster| roster.feeders[0].key = it.alice.key()),
        ("differ only in case", &|roster| roster.people[0].name = w("fRANK")),
        ("differ only in case", &|roster| roster.approvers[3].person = w("fRank")),
        ("people have to be sorted", &|roster| roster.people.reverse()),
        ("approvers have to be sorted", &|roster| roster.approvers.reverse()),
        ("rules have to be sorted", &|roster| roster.rules.reverse()),
        ("rules have to be sorted", &|roster| roster.rules.push(roster.rules[1].clone())),
        ("needs a key", &|roster| roster.approvers[0].keys.clear()),
        ("needs a key", &|roster| roster.approvers[0].stacks.clear()),
        ("max_seconds", &|roster| roster.rules[0].max_seconds = 0),
        ("expires_at", &|roster| roster.expires_at = roster.issued_at),
    ];
    for (why, change) in wrong {
        let mut roster = it.roster();
        change(&mut roster);
        let refused = Document::new(roster).map(|_| ()).unwrap_err().to_string();
        assert!(refused.contains(why), "{why}: {refused}");
    }
}

#[test]
fn a_roster_that_would_take_much_more_memory_than_bytes_is_not_even_read() {
    let it = company();
    let mut many = it.roster();
    let stacks = (0..=roster::MAX_PERSON_STACKS).map(|n| (w(&format!("s{n}")), set(&["a"])));
    many.people[0].accounts = stacks.collect();
    assert!(Document::new(many).is_err_and(|why| why.to_string().contains("257 stacks")));
    let mut many = it.roster();
    let names: Vec<String> = (0..=roster::MAX_STACK_ACCOUNTS).map(|n| format!("a{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    many.people[0].accounts = [(w("web"), set(&names))].into();
    assert!(Document::new(many).is_err_and(|why| why.to_string().contains("257 accounts")));
    let strings = vec!["\"\""; MAX_ROSTER_STRINGS].join(",");
    let line = document(it.roster()).line().replace("\"feeders\":[", &format!("\"feeders\":[{strings},"));
    let refused = Document::parse(&line).map(|_| ()).unwrap_err().to_string();
    assert!(refused.contains("strings"), "{refused}");
}
