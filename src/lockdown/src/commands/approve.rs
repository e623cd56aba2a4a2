//! `requests`, `approve` and `deny`: what waits for more signatures.

use std::{collections::BTreeMap, path::Path};

use document::{Body, Envelope, Grant, Id, Refusal, Verdict};
use record::Stack;
use terminal::{plain, table::Table};

use super::{allow, beginning, distance, envelope};
use crate::{
    answers::{Requests, Stored, Waiting},
    cli,
    client::{Client, envelope_in},
    failure::Failure,
    keys::Purpose,
    known::Known,
    make,
    output::Done,
    send,
    server::WHOLE,
    show::by_whom,
};

/// The most that waits and is listed.
const MAX_LISTED: usize = 1024;

/// Lists what waits.
pub(crate) fn list(args: &cli::Requests, client: &Client) -> Result<Done, Failure> {
    // A roster takes its time to be verified: once for each stack.
    let mut stacks: BTreeMap<Stack, Known> = BTreeMap::new();
    let mut all = Vec::new();
    for (envelope, asked) in fetch(args.stack.as_ref(), client)? {
        let Body::Grant(grant) = envelope.document().body() else { continue };
        if !stacks.contains_key(&grant.stack) {
            stacks.insert(grant.stack.clone(), client.remembered(Some(&grant.stack))?);
        }
        all.extend(stacks.get(&grant.stack).map(|known| waiting(&envelope, grant, asked, known, client)));
    }
    let waiting = all;
    Ok(client.voice.show(&waiting, |waiting| table(waiting, client)))
}

fn table(waiting: &[Waiting], client: &Client) -> String {
    if waiting.is_empty() {
        return "nothing waits for approval\n".to_owned();
    }
    let mut table = Table::new(&["ID", "PERSON", "ACCOUNT", "STACK", "FOR", "HAS", "UNTIL", "REASON"])
        .spare(&["UNTIL"])
        .cut(&["REASON"]);
    for one in waiting {
        table.row([
            one.id.to_string().chars().take(12).collect(),
            one.person.to_string(),
            one.account.to_string(),
            one.stack.to_string(),
            record::format_duration(one.expires_at.since(one.starts_at)),
            format!("{} of {}", one.has, one.needs),
            distance(one.accept_until, client.now),
            one.reason.clone(),
        ]);
    }
    table.render_in(client.voice.paint) + "lockdown approve ID shows it whole, and signs it\n"
}

/// What waits, as the server has it: envelopes, and whether it says that they were asked for.
fn fetch(stack: Option<&Stack>, client: &Client) -> Result<Vec<(Envelope, bool)>, Failure> {
    let query = stack.map(|stack| format!("?stack={stack}")).unwrap_or_default();
    let answer: Requests = client.get(&format!("/v1/requests{query}"), WHOLE)?;
    let open = |one: &Stored| Some((Envelope::parse(one.envelope.get().as_bytes()).ok()?, one.asked));
    Ok(answer.requests.iter().take(MAX_LISTED).filter_map(open).collect())
}

/// A grant that waits, by what it says itself. Who has approved it is for `approve` to verify.
fn waiting(envelope: &Envelope, grant: &Grant, asked: bool, known: &Known, client: &Client) -> Waiting {
    let (has, needs, approvers) = match known.verdict(envelope, client.moment()) {
        Verdict::Refused(Refusal::Approvals { counted, needed, by, .. }) => (counted, needed, by),
        _ => (0, grant.approvals.number(), Vec::new()),
    };
    Waiting {
        id: envelope.document().id(),
        person: grant.person.clone(),
        account: grant.account.clone(),
        stack: grant.stack.clone(),
        asked,
        has,
        needs,
        approvers,
        starts_at: grant.starts_at,
        expires_at: grant.expires_at,
        accept_until: grant.accept_until,
        reason: grant.reason.to_string(),
    }
}

/// The document with this id: a server that gives another one is found out.
fn stored(id: Id, client: &Client) -> Result<Envelope, Failure> {
    let stored: Stored = client.get(&format!("/v1/documents/{id}"), WHOLE)?;
    let envelope = Envelope::parse(stored.envelope.get().as_bytes())
        .map_err(|error| Failure::unavailable(format!("the server gives no document for {id}: {error}")))?;
    if envelope.document().id() == id {
        Ok(envelope)
    } else {
        Err(Failure::refused(
            "other_document",
            format!("the server gives document {} for {id}", envelope.document().id()),
        ))
    }
}

/// What somebody typed: an id, the beginning of one that waits, or a file.
fn found(typed: &str, client: &Client) -> Result<Envelope, Failure> {
    if typed.parse::<Id>().is_err() && !super::is_beginning(typed) && Path::new(typed).exists() {
        return envelope_in(Path::new(typed));
    }
    if let Ok(id) = typed.parse() {
        return stored(id, client);
    }
    let waiting = fetch(None, client)?;
    let ids: Vec<Id> = waiting.iter().map(|(envelope, _)| envelope.document().id()).collect();
    let id = beginning(typed, "request", ids.iter())?;
    let found = waiting.into_iter().find(|(envelope, _)| envelope.document().id() == id);
    found.map_or_else(|| stored(id, client), |(envelope, _)| Ok(envelope))
}

/// Signs what somebody else has asked for, or signed first.
pub(crate) fn approve(args: &cli::Approve, client: &Client) -> Result<Done, Failure> {
    let given = found(&args.id, client)?;
    let document = given.document().clone();
    let Body::Grant(grant) = document.body() else {
        return Err(Failure::refused("kind", format!("this is a {}, and only grants are approved", document.kind()))
            .but("a lift is signed with lockdown lift --add-to, a roster with lockdown roster sign"));
    };
    let known = allow::known(&grant.stack, args.roster.as_deref(), args.delivery.out.is_some(), client)?;
    let planned = allow::planned(&document, &known, client)?;
    let purpose = Purpose::Approve { person: &grant.person, stack: &grant.stack, account: &grant.account };
    let key = client.key(purpose, &known)?;
    client.voice.say(&said_before(&given, &known, client));
    let is_meant = args.yes || args.id.parse::<Id>().is_ok();
    let signature = client.sign_if_confirmed(&document, &key, &known, is_meant, "type the whole id, or --yes")?;
    let signatures = given.signatures().iter().cloned().chain([signature]).collect();
    let signed = envelope(document.clone(), signatures)?;
    allow::adds(&signed, Some(&given), &known, client)?;
    allow::give(&signed, &planned, &args.delivery, &known, client)
}

/// Who has asked for it and who has approved it, by signatures that were verified here.
fn said_before(given: &Envelope, known: &Known, client: &Client) -> String {
    let now = client.moment();
    let asked = if known.is_asked_for(given, now) {
        "asked for by the person themselves"
    } else {
        "not asked for by the person themselves"
    };
    let approved = known.signers(given, now);
    let approved = if approved.is_empty() { "by nobody yet".to_owned() } else { format!("by {}", by_whom(&approved)) };
    format!("{} {}\n  {asked}; approved {}\n", given.document().kind(), given.document().id(), plain(&approved))
}

/// Says no.
pub(crate) fn deny(args: &cli::Deny, client: &Client) -> Result<Done, Failure> {
    let given = found(&args.id, client)?;
    let Body::Grant(grant) = given.document().body() else {
        return Err(Failure::refused(
            "kind",
            format!("this is a {}, and only grants are denied", given.document().kind()),
        ));
    };
    let known = client.remembered(Some(&grant.stack))?;
    client.voice.say(&said_before(&given, &known, client));
    client.voice.say(&format!(
        "  {} as {} on the stack {}\n",
        grant.person,
        plain(grant.account.as_str()),
        grant.stack
    ));
    let document = make::revoke(&client.trust().organization, given.document().id(), &args.reason, client.moment())?;
    let key = client.key(Purpose::Revoke(Some(&grant.stack)), &known)?;
    let signature = client.sign(&document, document.namespace(), &key, &known)?;
    let posted = send::post(&envelope(document, vec![signature])?, client)?;
    Ok(client.voice.show(&posted, |_| format!("denied: {}\n", given.document().id())))
}
