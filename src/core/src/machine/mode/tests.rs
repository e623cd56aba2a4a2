//! Enforce, left and wanted again.

use std::collections::BTreeMap;

use super::*;
use crate::{
    config::Config,
    machine::{
        Around, Event, Moment,
        checks::{Check, Checked, Step, Waits},
        documents::{DocumentsOnRecord, DocumentsRead},
        jobs::{Came, Job, JobId},
        reload::{Loaded, takes_away},
    },
    policy::test_grants::now,
    sessions::{Session, Sessions},
};

const MOMENT: fn() -> Moment = || Moment { now: now(), random: 1 };

fn config(mode: &str, exempt: &str) -> Config {
    let text = format!("mode = \"{mode}\"\n[accounts]\nexempt = [\"{exempt}\"]\n");
    Config::parse(&[("config.toml", &text)]).expect("good")
}

/// A core in enforce, and the look under way that it began with.
fn in_enforce() -> (Core, JobId) {
    let mut core =
        Core::new(config("enforce", "breakglass"), Around::default(), "boot".to_owned(), Sessions::default(), MOMENT());
    core.resume_mode(MarkerLeft::Holds(b"{}".to_vec()), now());
    let effects = core.take_effects(now());
    let (id, check) = check_in(effects).expect("what is in force is looked at");
    assert_eq!(check.step, Step::Put);
    (core, id)
}

fn check_in(effects: Vec<Effect>) -> Option<(JobId, Box<Check>)> {
    effects.into_iter().find_map(|effect| match effect {
        Effect::Begin(id, Job::Check(check)) => Some((id, check)),
        _ => None,
    })
}

fn looked(core: &mut Core, id: JobId) -> Vec<Effect> {
    let checked = Checked {
        put: Ok(()),
        obstacles: Vec::new(),
        not_honoured: Vec::new(),
        exempt_keys: BTreeMap::new(),
        passed: BTreeMap::new(),
        is_watched: true,
    };
    core.step(Event::Job(id, Came::With(Box::new(Event::Checked(Box::new(checked))))), MOMENT())
}

#[test]
fn a_start_takes_no_keys_out_before_it_knows_whether_enforce_is_in_force() {
    let config = config("enforce", "breakglass");
    let mut core = Core::new(config, Around::default(), "boot".to_owned(), Sessions::default(), MOMENT());
    core.mode.is_unread = true;
    let sets = |core: &mut Core| {
        let effects = core.take_effects(now());
        effects.into_iter().any(|effect| matches!(effect, Effect::SetStore { .. }))
    };
    core.take_up_documents(
        DocumentsRead::default(),
        &DocumentsOnRecord::default(),
        "web1".parse().expect("a name"),
        now(),
    );
    core.set_store_right(now());
    assert!(!sets(&mut core), "what it has to hold is not known");
    core.resume_mode(MarkerLeft::Holds(b"{}".to_vec()), now());
    core.pass(now());
    assert!(sets(&mut core));
}

/// Has a configuration put in force; answers with the accounts that it was judged against.
fn reload(core: &mut Core, config: Config, locks_out: Option<&str>) -> crate::config::Accounts {
    let begun = core.step(Event::Reload(None), MOMENT()).into_iter().find_map(|effect| match effect {
        Effect::Begin(id, Job::ReadConfig(before)) => Some((id, before)),
        _ => None,
    });
    let (id, before) = begun.expect("it is read");
    let loaded = Loaded { config: Ok(config), locks_out: locks_out.map(str::to_owned) };
    let effects = core.step(Event::Job(id, Came::With(Box::new(Event::Loaded(Box::new(loaded))))), MOMENT());
    if effects.iter().any(|effect| matches!(effect, Effect::ConfigChanged { .. })) {
        core.step(Event::ConfigFollowed, MOMENT());
    }
    *before
}

#[test]
fn whoever_tries_enforce_while_it_is_to_be_left_enters_it_anew_with_a_look() {
    let (mut core, under_way) = in_enforce();
    reload(&mut core, config("observe", "nokey"), None);
    let until = Deadline::after(Duration::from_secs(25), now());
    let effects = core.step(Event::Trial { until, actor: Actor::default(), token: Token(7) }, MOMENT());
    assert!(check_in(effects).is_none() && core.mode.trial.is_none(), "it waits for the look under way");
    let (id, check) = check_in(looked(&mut core, under_way)).expect("enforce is left first");
    assert_eq!((check.step, core.mode.trial), (Step::TakeOut, None));
    let (_, check) = check_in(looked(&mut core, id)).expect("and then tried");
    assert_eq!((check.step, core.enforces()), (Step::LookBefore, false));
}

#[test]
fn a_reload_back_to_enforce_before_it_was_left_is_judged_whatever_was_accepted_meanwhile() {
    let (mut core, _) = in_enforce();
    reload(&mut core, config("observe", "nokey"), None);
    let back = config("enforce", "nokey");
    let before = reload(&mut core, back.clone(), Some("it has no keys"));
    assert!(takes_away(&before, &back.accounts), "it is judged");
    assert_eq!(core.config.mode, control::Mode::Observe, "and refused");
    assert!(core.config_state.refused.is_some());
}

#[test]
fn a_lockdown_ends_a_connection_to_an_account_that_is_exempt_no_more_and_spares_one_that_is() {
    let (mut core, _) = in_enforce();
    let session: Session = serde_json::from_value(serde_json::json!({
        "id": "s-0123456789abcdef", "account": "breakglass", "standing": "emergency", "source": {},
        "opened_at": "2026-11-23T18:00:00Z", "monitor": {"pid": 4242, "start_time": 1}, "recorded": true,
    }))
    .expect("a session");
    core.keep_session(session);
    core.lockdown("over".to_owned(), None, now());
    assert!(!cuts_any(&core.take_effects(now())) && core.no_longer_exempt().next().is_none());
    reload(&mut core, config("enforce", "other"), None);
    assert!(!cuts_any(&core.take_effects(now())), "whoever works there is not cut off by a reload");
    assert_eq!(core.no_longer_exempt().count(), 1);
    core.lockdown("over".to_owned(), None, now());
    assert!(cuts_any(&core.take_effects(now())));
}

fn cuts_any(effects: &[Effect]) -> bool {
    effects.iter().any(|effect| matches!(effect, Effect::Cut(orders) if !orders.is_empty()))
}

#[test]
fn a_look_that_somebody_waits_for_is_no_reason_to_leave_enforce() {
    let (mut core, under_way) = in_enforce();
    core.step(Event::Looks(Waits::Status(Token(1))), MOMENT());
    let (_, check) = check_in(looked(&mut core, under_way)).expect("a fresh look");
    assert_eq!(check.step, Step::LookInForce);
}
