//! Rows about what opens.

use std::collections::BTreeSet;

use crate::common::{keys::TOUCHED, *};
use document::*;

#[test]
fn a_grant_opens_for_its_person_and_account_with_the_keys_that_both_sides_name() {
    let it = company();
    let mut judge = it.judge();
    let grant = Grant { from: vec!["10.0.0.0/8".parse().unwrap()], ..it.grant() };
    let envelope = signed(grant.clone(), &[&it.alice, &it.bob]);
    let judged = judge.judge(&envelope, noon());
    assert_eq!(judged.signers.len(), 2);
    let terms = terms(judged);
    assert_eq!((terms.person, terms.account), (grant.person, grant.account));
    assert_eq!(terms.keys, [it.frank_login.key()].into());
    assert_eq!((terms.starts_at, terms.expires_at, terms.from), (grant.starts_at, grant.expires_at, grant.from));
    assert_eq!((terms.needed, terms.approvers.len()), (2, 2));
    assert_eq!(terms.approvers[0].device, Some(Device { unlocked: true, counter: 7 }));
    assert_eq!(judge.judge(&envelope, noon()).verdict, Verdict::Known);
}

#[test]
fn namespace_organization_and_type_are_inside_what_is_signed() {
    let it = company();
    let mut judge = it.judge();
    let line = document(it.grant());
    for wrong in [Namespace::Request, Namespace::Of(Kind::Revoke), Namespace::Of(Kind::Lockdown)] {
        let envelope = signed_as(line.clone(), Some(wrong), &[&it.alice, &it.bob]);
        let judged = judge.judge(&envelope, noon());
        assert!(judged.signers.is_empty());
        assert!(matches!(refusal(judged), Refusal::Approvals { counted: 0, .. }));
    }
    let git: Vec<String> =
        [&it.alice, &it.bob].map(|key| key.sign_in("git", ssh_key::HashAlg::Sha512, line.line())).into();
    assert!(matches!(
        refusal(judge.judge(&Envelope::new(line, git).unwrap(), noon())),
        Refusal::Approvals { counted: 0, .. }
    ));
    let other = Grant { organization: w("other"), ..it.grant() };
    assert!(matches!(
        refusal(judge.judge(&signed(other, &[&it.alice, &it.bob]), noon())),
        Refusal::Organization { .. }
    ));
    // The signatures of one type are none for another one with the same words.
    let revoke = document(it.revoke(document(it.lockdown()).id()));
    let signatures = vec![it.alice.sign(Namespace::Of(Kind::Lift), revoke.line())];
    assert!(matches!(
        refusal(judge.judge(&Envelope::new(revoke, signatures).unwrap(), noon())),
        Refusal::NotSigned { .. }
    ));
}

#[test]
fn stack_and_hosts_match_every_host_means_those_that_were_there_and_no_host_is_refused() {
    let it = company();
    let mut judge = it.judge();
    let by = [&it.alice, &it.bob];
    let other = Grant { stack: w("db"), ..it.grant() };
    assert!(matches!(refusal(judge.judge(&signed(other, &by), noon())), Refusal::Stack { .. }));
    let elsewhere = Grant { hosts: Hosts::Named(set(&["i-2", "i-3"])), ..it.grant() };
    assert_eq!(refusal(judge.judge(&signed(elsewhere, &by), noon())), Refusal::Host(w("i-1")));
    let here = Grant { hosts: Hosts::Named(set(&["i-1", "i-2"])), ..it.grant() };
    assert_accepted(&judge.judge(&signed(here, &by), noon()));

    // A host that joins the stack later has not been meant.
    let began = it.grant().issued_at.after(2 * MINUTE);
    let mut newer = Judge::begin(it.settings().check().unwrap(), it.place(), began);
    assert_accepted(&newer.judge(&signed(it.roster(), &[&it.ceo]), noon()));
    assert!(matches!(refusal(newer.judge(&signed(it.grant(), &by), noon())), Refusal::HostIsNewer { .. }));

    let line = document(it.grant()).line().replace(r#""hosts":["*"]"#, r#""hosts":[]"#);
    assert!(Document::parse(&line).unwrap_err().to_string().contains("hosts is empty"));
}

#[test]
fn it_is_accepted_from_when_it_was_issued_until_accept_until_which_is_a_day_at_most() {
    let it = company();
    let by = [&it.alice, &it.bob];
    let grant = it.grant();
    let judged = |grant: &Grant, now| it.judge().judge(&signed(grant.clone(), &by), now);
    assert_accepted(&judged(&grant, grant.accept_until.after(2 * MINUTE)));
    assert!(matches!(refusal(judged(&grant, grant.accept_until.after(3 * MINUTE))), Refusal::TooLate { .. }));
    assert_accepted(&judged(&grant, grant.issued_at.before(2 * MINUTE)));
    assert!(matches!(wait(judged(&grant, grant.issued_at.before(3 * MINUTE))), Wait::FromTheFuture { .. }));
    let short = Grant { expires_at: grant.issued_at.after(MINUTE), ..grant.clone() };
    assert!(matches!(refusal(judged(&short, noon())), Refusal::Over { .. }));
    assert!(matches!(refusal(judged(&short, short.expires_at)), Refusal::Over { .. }));
    let second = std::time::Duration::from_secs(1);
    let day = Grant { accept_until: grant.issued_at.after(24 * HOUR), ..grant.clone() };
    assert_accepted(&judged(&day, noon()));
    for wrong in [
        Grant { accept_until: grant.issued_at.after(24 * HOUR + second), ..grant.clone() },
        Grant { accept_until: grant.issued_at, ..grant.clone() },
        Grant { starts_at: grant.issued_at.before(second), ..grant.clone() },
        Grant { starts_at: grant.accept_until.after(second), ..grant.clone() },
        Grant { expires_at: grant.starts_at, ..grant.clone() },
        Grant { fingerprints: BTreeSet::new(), ..grant.clone() },
    ] {
        assert!(matches!(Document::new(wrong), Err(Malformed::Shape(_))));
    }
}

#[test]
fn only_keys_in_both_fingerprints_and_the_hosts_entry_of_that_person_open() {
    let it = company();
    let by = [&it.alice, &it.bob];
    let keys = |keys: &[&Signing]| keys.iter().map(|key| key.fingerprint()).collect::<BTreeSet<_>>();
    // A key of somebody else, and one that nobody has, open nothing.
    let some = Grant { fingerprints: keys(&[&it.frank_login, &it.grace_login, &it.stranger]), ..it.grant() };
    assert_eq!(terms(it.judge().judge(&signed(some, &by), noon())).keys, [it.frank_login.key()].into());
    let none = Grant { fingerprints: keys(&[&it.grace_login, &it.stranger]), ..it.grant() };
    assert_eq!(refusal(it.judge().judge(&signed(none, &by), noon())), Refusal::NoKeys(w("frank")));

    // Two people of one name: the host's own configuration says who Frank is there.
    let other_frank = LocalPerson { keys: [it.stranger.key()].into(), accounts: set(&["ubuntu"]) };
    let place = Place { people: [(w("Frank"), other_frank)].into(), ..it.place() };
    let mut judge = it.judge_with(it.settings(), place, it.roster());
    assert_eq!(refusal(judge.judge(&signed(it.grant(), &by), noon())), Refusal::NoKeys(w("frank")));

    // One who is the same in both loses nothing, and has what the configuration gives.
    let frank = LocalPerson { keys: [it.frank_login.key()].into(), accounts: set(&["deploy"]) };
    let place = Place { people: [(w("frank"), frank)].into(), ..it.place() };
    let mut judge = it.judge_with(it.settings(), place, it.roster());
    assert_eq!(judge.lost_keys(), []);
    assert!(matches!(refusal(judge.judge(&signed(it.grant(), &by), noon())), Refusal::Account { .. }));
    terms(judge.judge(&signed(Grant { account: w("deploy"), ..it.grant() }, &by), noon()));

    // A key that both name is that of the configuration's person, and the roster stands.
    let carl = LocalPerson { keys: [it.frank_login.key(), it.bob.key()].into(), accounts: set(&["ubuntu"]) };
    let place = Place { people: [(w("carl"), carl)].into(), ..it.place() };
    let mut judge = it.judge_with(it.settings(), place, it.roster());
    assert_eq!(judge.lost_keys().len(), 2);
    assert_eq!(refusal(judge.judge(&signed(it.grant(), &by), noon())), Refusal::NoKeys(w("frank")));
    let with_device = Grant { fingerprints: keys(&[&it.frank_login, &it.frank_device]), ..it.grant() };
    let short = refusal(judge.judge(&signed(with_device.clone(), &by), noon()));
    assert!(matches!(short, Refusal::Approvals { counted: 1, .. }), "a key that logs in approves nothing: {short}");
    let opened = terms(judge.judge(&signed(with_device, &[&it.alice, &it.carol]), noon()));
    assert_eq!(opened.keys, [it.frank_device.key()].into());
}

#[test]
fn different_people_are_counted_in_one_function_and_a_threshold_of_0_is_refused() {
    let it = company();
    let mut judge = it.judge();
    let mut counted = |by: &[&Signing]| match refusal(judge.judge(&signed(it.grant(), by), noon())) {
        Refusal::Approvals { counted, needed: 2, .. } => counted,
        other => panic!("{other}"),
    };
    assert_eq!(counted(&[]), 0);
    assert_eq!(counted(&[&it.alice, &it.alice_spare]), 1, "one person's two keys");
    assert_eq!(counted(&[&it.alice, &it.alice, &it.alice.with_flags(TOUCHED)]), 1, "one key's many signatures");
    assert_eq!(counted(&[&it.alice, &it.stranger]), 1, "somebody unknown");
    assert_eq!(counted(&[&it.alice, &it.frank_approves]), 1, "nobody approves for themselves");
    assert_eq!(counted(&[&it.alice, &it.frank_device]), 1, "nor with the keys that they log in with");
    assert_eq!(counted(&[&it.alice, &it.ceo]), 1, "keys for rosters approve nothing");
    assert_eq!(counted(&[&it.alice, &it.iam]), 1, "feeders open nothing");
    terms(judge.judge(&signed(it.grant(), &[&it.stranger, &it.alice, &it.frank_approves, &it.bob]), noon()));

    let signer =
        |person: &str| Signer { who: Who::Approver(w(person)), fingerprint: it.bob.fingerprint(), device: None };
    assert_eq!(different_people(&[signer("bob"), signer("Bob"), signer("BOB")]), 1);

    let mut settings = it.settings();
    settings.roster.threshold = 0;
    assert_eq!(settings.check().unwrap_err(), SettingsError::ThresholdZero);
    let mut settings = it.settings();
    settings.roster.threshold = 3;
    assert!(matches!(settings.check().unwrap_err(), SettingsError::ThresholdTooHigh { people: 2, .. }));
    for nobody in [r#""approvals":0"#, r#""approvals":17"#, r#""approvals":-1"#, r#""approvals":1.0"#] {
        assert!(Document::parse(&document(it.grant()).line().replace(r#""approvals":1"#, nobody)).is_err());
    }
}

#[test]
fn approvals_are_the_greater_of_what_the_grant_and_the_rule_say() {
    let it = company();
    let by = [&it.alice, &it.bob];
    let more = Grant { approvals: approvals(3), ..it.grant() };
    let short = refusal(it.judge().judge(&signed(more.clone(), &by), noon()));
    assert!(matches!(short, Refusal::Approvals { counted: 2, needed: 3, .. }));
    assert_eq!(terms(it.judge().judge(&signed(more, &[&it.alice, &it.bob, &it.carol]), noon())).needed, 3);
}

#[test]
fn of_several_rules_the_strictest_counts_and_where_none_fits_it_is_refused() {
    let it = company();
    let by = [&it.alice, &it.bob];
    let rule = |account: &str, stack: &str, number, with, login_with, max_seconds| Rule {
        account: w(account),
        approvals: approvals(number),
        approve_with: with,
        login_with,
        max_seconds,
        stack: w(stack),
    };
    let rules = vec![
        rule("*", "*", 1, ApproveWith::HardwarePin, LoginWith::Key, 7 * 3600),
        rule("ubuntu", "*", 2, ApproveWith::Key, LoginWith::HardwarePin, 8 * 3600),
        rule("ubuntu", "db", 9, ApproveWith::Key, LoginWith::Key, 1),
        rule("ubuntu", "web", 1, ApproveWith::Hardware, LoginWith::SecondMethod, 9 * 3600),
    ];
    let judge = it.judge_with(it.settings(), it.place(), Roster { rules, ..it.roster() });
    let judged = |grant: &Grant, by: &[&Signing]| judge.clone().judge(&signed(grant.clone(), by), noon());
    let grant =
        Grant { fingerprints: [it.frank_login.fingerprint(), it.frank_device.fingerprint()].into(), ..it.grant() };
    let opened = terms(judged(&grant, &by));
    assert_eq!(opened.needed, 2);
    assert_eq!(opened.login_with, [LoginWith::Key, LoginWith::SecondMethod, LoginWith::HardwarePin].into());
    assert_eq!(opened.keys, [it.frank_device.key()].into(), "a key in no device does not do");
    assert_eq!(refusal(judged(&it.grant(), &by)), Refusal::NoHardware(w("frank")));
    let without_pin = refusal(judged(&grant, &[&it.alice, &it.bob.with_flags(TOUCHED)]));
    assert!(matches!(without_pin, Refusal::Approvals { counted: 1, with: ApproveWith::HardwarePin, .. }));
    let lasts =
        |seconds| Grant { expires_at: grant.starts_at.after(std::time::Duration::from_secs(seconds)), ..grant.clone() };
    assert_accepted(&judged(&lasts(7 * 3600), &by));
    assert!(matches!(refusal(judged(&lasts(7 * 3600 + 1), &by)), Refusal::TooLong { .. }));

    let none = it.judge_with(it.settings(), it.place(), Roster { rules: vec![], ..it.roster() });
    assert!(matches!(refusal(none.clone().judge(&signed(it.grant(), &by), noon())), Refusal::NoRule { .. }));
}

#[test]
fn a_person_gets_the_accounts_that_their_entry_has_on_that_stack_and_an_approver_approves_theirs() {
    let it = company();
    let by = [&it.alice, &it.bob];
    let refused = |grant| refusal(it.judge().judge(&signed(grant, &by), noon()));
    let root = refused(Grant { account: w("root"), ..it.grant() });
    assert!(root.to_string().ends_with("they may be given deploy, ubuntu"), "{root}");
    assert!(matches!(refused(Grant { person: w("nobody"), ..it.grant() }), Refusal::UnknownPerson { .. }));

    let mut roster = it.roster();
    roster.approvers[0].accounts = set(&["deploy"]);
    roster.approvers[1].stacks = set(&["db"]);
    let mut judge = it.judge_with(it.settings(), it.place(), roster);
    let all = [&it.alice, &it.bob, &it.carol];
    let short = refusal(judge.judge(&signed(it.grant(), &all), noon()));
    assert!(matches!(&short, Refusal::Approvals { counted: 1, by, .. } if *by == [w("carol")]), "{short}");
}

#[test]
fn plain_keys_approve_only_where_the_configuration_says_so() {
    let it = company();
    let mut roster = it.roster();
    roster.approvers[1].keys = [it.stranger.key()].into();
    let by = [&it.alice, &it.stranger];
    let grant = signed(it.grant(), &by);
    let mut judge = it.judge_with(it.settings(), it.place(), roster.clone());
    assert!(matches!(refusal(judge.judge(&grant, noon())), Refusal::Approvals { counted: 1, .. }));
    // Closing needs no device.
    assert_accepted(&judge.judge(&signed(it.lockdown(), &[&it.stranger]), noon()));

    let plain = Settings { plain_approvers: true, ..it.settings() };
    let mut judge = it.judge_with(plain.clone(), it.place(), roster.clone());
    assert!(
        matches!(refusal(judge.judge(&grant, noon())), Refusal::Approvals { counted: 1, .. }),
        "the rule asks for hardware"
    );
    roster.rules[1].approve_with = ApproveWith::Key;
    let mut judge = it.judge_with(it.settings(), it.place(), roster.clone());
    let short = refusal(judge.judge(&grant, noon()));
    assert!(matches!(short, Refusal::Approvals { counted: 1, with: ApproveWith::Hardware, .. }), "{short}");
    let mut judge = it.judge_with(plain, it.place(), roster);
    assert_eq!(terms(judge.judge(&grant, noon())).approvers.len(), 2);
}

#[test]
fn denied_keys_sign_nothing_any_more_whatever_the_roster_says() {
    let it = company();
    let settings = Settings { deny_keys: [it.bob.fingerprint()].into(), ..it.settings() };
    let mut judge = it.judge_with(settings, it.place(), it.roster());
    let short = refusal(judge.judge(&signed(it.grant(), &[&it.alice, &it.bob]), noon()));
    assert!(matches!(short, Refusal::Approvals { counted: 1, .. }));
    let settings = Settings { deny_keys: [it.ceo.fingerprint()].into(), ..it.settings() };
    let mut judge = Judge::begin(settings.check().unwrap(), it.place(), began());
    assert!(matches!(
        refusal(judge.judge(&signed(it.roster(), &[&it.ceo]), noon())),
        Refusal::Threshold { counted: 0, needed: 1 }
    ));
    assert_accepted(&judge.judge(&signed(it.roster(), &[&it.cto]), noon()));
}

#[test]
fn all_checks_come_before_anything_is_kept() {
    let it = company();
    let mut judge = it.judge();
    let before = (judge.state().clone(), judge.rosters().clone());
    let grant = it.grant();
    let by = [&it.alice, &it.bob];
    let hold = document(it.hold_frank()).id();
    for bad in [
        signed(grant.clone(), &[&it.alice]),
        signed(Grant { account: w("root"), ..grant.clone() }, &by),
        signed(Grant { roster: version(2), ..grant.clone() }, &by),
        signed(Grant { expires_at: grant.starts_at.after(9 * HOUR), ..grant.clone() }, &by),
        signed(it.revoke(document(grant.clone()).id()), &[&it.stranger]),
        signed(it.lockdown(), &[&it.frank_login]),
        signed(it.lift(hold), &by),
        signed(Roster { version: version(2), ..it.roster() }, &[&it.alice, &it.bob]),
        signed(Roster { issued_at: noon(), ..it.roster() }, &[&it.ceo]),
    ] {
        let judged = judge.judge(&bad, noon());
        assert!(!matches!(judged.verdict, Verdict::Accepted(_)), "{judged:?}");
        assert_eq!(before, (judge.state().clone(), judge.rosters().clone()));
    }
}
