use document::{Id, Subject};
use serde_json::json;
use ssh_key::{HashAlg, PrivateKey, SshSig, private::Ed25519Keypair};

use super::*;
use crate::{
    config::Config,
    machine::{Around, Moment as CoreMoment},
    policy::test_grants::{later, now},
    sessions::Sessions,
};

fn ceo() -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from_seed(&[2; 32]))
}

fn config(organization: Option<&str>) -> Config {
    let stack = organization.map_or(String::new(), |organization| {
        let key = ceo().public_key().to_openssh().expect("it can be written");
        format!("[stack]\norganization = \"{organization}\"\n[[stack.roster.key]]\nperson = \"ceo\"\nkey = \"{key}\"\n")
    });
    let text = format!("mode = \"enforce\"\n[accounts]\nno_exempt = true\n{stack}");
    Config::parse(&[("c.toml", &text)]).expect("good")
}

fn begun() -> Core {
    let moment = CoreMoment { now: now(), random: 1 };
    Core::new(config(Some("acme")), Around::default(), "boot".to_owned(), Sessions::default(), moment)
}

fn host() -> Host {
    "web-1".parse().expect("a name")
}

fn started() -> Core {
    let mut core = begun();
    core.take_up_documents(DocumentsRead::default(), &accepted(0), host(), now());
    core
}

fn accepted(number: u64) -> DocumentsOnRecord {
    DocumentsOnRecord { number, ..DocumentsOnRecord::default() }
}

fn by_ceo(line: &serde_json::Value, namespace: &str) -> Envelope {
    let line = line.to_string();
    let signature = SshSig::sign(&ceo(), namespace, HashAlg::Sha512, line.as_bytes()).expect("signed");
    let signature = record::write_armored(&signature).expect("written");
    Envelope::new(document::Document::parse(&line).expect("a document"), vec![signature]).expect("few")
}

fn hold_frank(core: &mut Core) {
    let line = json!({
        "v": 1, "type": "lockdown", "organization": "acme", "stack": "*", "person": "frank", "hold": true, "reason": "lost",
        "issued_at": Moment::of(now().wall).to_string(),
    });
    let became = core.judge_document(&by_ceo(&line, "ssh-access-lockdown"), None, now());
    assert!(holds_frank(core), "{became:?}");
}

fn holds_frank(core: &Core) -> bool {
    let frank = "frank".parse().expect("a name");
    let judge = core.documents.judge.as_ref();
    judge.is_some_and(|judge| judge.holds_back(Subject { person: &frank, fingerprints: &[].into() }).is_some())
}

fn configure(core: &mut Core, organization: Option<&str>) {
    core.config = config(organization);
    core.renew_documents(later(60));
}

fn read(kept: Option<KeptDocuments>) -> DocumentsRead {
    let kept = kept.expect("something is to be kept");
    DocumentsRead::parse(Some(&kept.state), kept.rosters.as_deref().as_slice())
}

#[test]
fn what_an_organization_closed_stands_again_once_the_configuration_has_it_again() {
    let mut core = started();
    hold_frank(&mut core);
    for meanwhile in [Some("acmee"), Some("acem"), None, Some("emca")] {
        configure(&mut core, meanwhile);
        assert!(!holds_frank(&core));
    }
    core.documents.not_saved();
    let kept = read(core.documents.take_unsaved());
    configure(&mut core, Some("acme"));
    assert!(holds_frank(&core));
    // The same over a restart.
    let mut next = begun();
    next.take_up_documents(kept, &accepted(1), host(), later(60));
    assert!(holds_frank(&next));
}

#[test]
fn a_lockdown_by_this_host_counts_also_while_there_is_no_stack() {
    let mut core = started();
    configure(&mut core, None);
    core.documents_locked_down(later(90));
    let kept = read(core.documents.take_unsaved());
    configure(&mut core, Some("acme"));
    let state = core.documents.judge.as_ref().expect("a judge").state().clone();
    assert_eq!(state.local_lockdown(), Some(Moment::of(later(90).wall)));
    let mut next = begun();
    next.take_up_documents(kept, &accepted(0), host(), later(120));
    assert_eq!(next.documents.judge.expect("a judge").state().local_lockdown(), state.local_lockdown());
}

#[test]
fn what_the_records_say_counts_beside_state_that_was_put_back() {
    let mut core = started();
    core.documents.not_saved();
    let on_disk = core.documents.take_unsaved();
    let judged = |on_record: &DocumentsOnRecord| {
        let mut core = begun();
        core.take_up_documents(read(on_disk.clone()), on_record, host(), later(60));
        core.documents.judge.expect("a judge").state().clone()
    };
    let locked_down = DocumentsOnRecord { locked_down: Some(later(30).wall), ..accepted(0) };
    assert_eq!(judged(&locked_down).local_lockdown(), Some(Moment::of(later(30).wall)));
    let mark = |version: u64| Mark { version: version.try_into().expect("a version"), id: Id::of("a roster") };
    let state = judged(&DocumentsOnRecord { roster: Some(mark(2)), ..accepted(2) });
    assert_eq!((state.roster(), state.missing()), (None, Some(mark(2))), "no earlier one comes into force");
    assert_eq!(judged(&DocumentsOnRecord { roster: Some(mark(2)), ..accepted(0) }).missing(), None);
    // The same where it is gone, or cannot be read.
    for read in [DocumentsRead::default(), DocumentsRead::broken("torn".to_owned())] {
        let mut core = begun();
        let on_record = DocumentsOnRecord { roster: Some(mark(2)), ..accepted(2) };
        core.take_up_documents(read, &on_record, host(), later(60));
        assert_eq!(core.documents.judge.expect("a judge").state().missing(), Some(mark(2)));
    }
}

#[test]
fn what_closed_while_the_disk_stood_still_stays_so_after_a_crash_of_the_daemon() {
    let mut core = started();
    core.documents.not_saved();
    let on_disk = core.documents.take_unsaved();
    hold_frank(&mut core);
    core.documents.not_saved();
    let copy = core.documents.take_unsaved();
    let (mut with, mut without, mut emptied) = (begun(), begun(), begun());
    with.recall_documents(read(copy.clone()), later(60));
    with.take_up_documents(read(on_disk.clone()), &accepted(1), host(), later(60));
    assert!(holds_frank(&with));
    let began = with.documents.judge.as_ref().expect("a judge").state().began();
    assert_eq!(began, Moment::of(later(60).wall), "the records know of it: the disk was put back");
    without.take_up_documents(read(on_disk), &accepted(1), host(), later(60));
    assert!(!holds_frank(&without));
    let began = without.documents.judge.as_ref().expect("a judge").state().began();
    assert_eq!(began, Moment::of(later(60).wall), "it is known that something is missing");
    emptied.recall_documents(read(copy), later(60));
    emptied.take_up_documents(DocumentsRead::default(), &accepted(1), host(), later(60));
    assert!(holds_frank(&emptied));
}

#[test]
fn a_refused_document_that_comes_again_is_summed_up() {
    let mut core = started();
    let revoke = json!({
        "v": 1, "type": "revoke", "organization": "acme", "grant": "a".repeat(64), "reason": "over",
        "issued_at": Moment::of(now().wall).to_string(),
    });
    // A key for rosters is known, and revokes nothing.
    let envelope = by_ceo(&revoke, "ssh-access-revoke");
    let refused = |core: &mut Core, at: Now| {
        let became = core.judge_document(&envelope, None, at);
        assert!(matches!(became, super::super::Became::Done(control::ApplyOutcome::Refused, _)), "{became:?}");
        core.recorder.newest()
    };
    let first = refused(&mut core, now());
    let again: Vec<u64> = (1..50).map(|n| refused(&mut core, later(n))).collect();
    assert!(again.last().is_some_and(|last| last - first <= 2), "{first} {again:?}");
}

fn roster(version: u64) -> Envelope {
    let line = json!({
        "approvers": [], "expires_at": "2027-11-30T18:00:00Z", "feeders": [], "holds": [], "issued_at": Moment::of(now().wall).to_string(),
        "organization": "acme", "people": [], "rules": [], "type": "roster", "v": 1, "version": version,
    });
    by_ceo(&line, "ssh-access-roster")
}

#[test]
fn a_power_cut_between_any_two_writes_leaves_the_roster_before_or_the_new_one() {
    let mut core = started();
    let mut kept = |version| {
        let became = core.judge_document(&roster(version), None, now());
        assert!(matches!(became, super::super::Became::Done(control::ApplyOutcome::Accepted, _)), "{became:?}");
        core.documents.not_saved();
        let kept = core.documents.take_unsaved().expect("something is to be kept");
        (kept.state, kept.rosters.expect("a roster came"))
    };
    let ((first, one), (second, two)) = (kept(1), kept(2));
    // As they lie there after none, one, two and three of the writes.
    for (state, rosters, version) in
        [(&first, [&one, &one], 1), (&first, [&one, &two], 1), (&second, [&one, &two], 2), (&second, [&two, &two], 2)]
    {
        let rosters = rosters.map(|rosters| &rosters[..]);
        let mut next = begun();
        next.take_up_documents(DocumentsRead::parse(Some(state), &rosters), &accepted(version), host(), later(60));
        let judge = next.documents.judge.as_ref().expect("a judge");
        assert_eq!(judge.roster().map(|roster| roster.version.number()), Some(version));
        let torn = DocumentsRead::parse(Some(state), &[b"{", rosters[usize::from(version == 2)]]);
        assert_eq!(torn.broken, None, "the other one is whole");
    }
}
