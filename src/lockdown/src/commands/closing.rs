//! `revoke`, `lockdown` and `lift`: one signature, and nothing that could hold it up.

use std::{
    cell::LazyCell,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use document::{Body, Document, Envelope, Id, Key, Kind, Refusal, StackPattern, Verdict};
use record::{GrantId, Host, Person, Stack};
use terminal::plain;

use super::{beginning, envelope};
use crate::{
    answers::HostStatus,
    cli,
    client::{Client, envelope_in},
    failure::Failure,
    hosts::{self, KnownHost},
    keys::Purpose,
    known::Known,
    make::{self, Scope},
    output::Done,
    send,
    server::WHOLE,
};

/// How long the server is waited for where hosts' names are not known here.
const ASKED: Duration = Duration::from_secs(5);

/// Ends one grant.
pub(crate) fn revoke(args: &cli::Revoke, client: &Client) -> Result<Done, Failure> {
    let (grant, stack) = which_grant(&args.grant, client)?;
    let known = client.remembered(stack.as_ref())?;
    let document = make::revoke(&client.trust().organization, grant, &args.reason, client.moment())?;
    let key = client.key(Purpose::Revoke(stack.as_ref()), &known)?;
    let signature = client.sign(&document, document.namespace(), &key, &known)?;
    send::deliver(&envelope(document, vec![signature])?, &args.delivery, client)
}

/// The grant that was typed. A whole id needs nobody; else it is looked up in what hosts say.
fn which_grant(typed: &str, client: &Client) -> Result<(Id, Option<Stack>), Failure> {
    if let Ok(id) = typed.parse() {
        return Ok((id, None));
    }
    let status = client.status(WHOLE)?;
    let on_host = |host: HostStatus, stack: &Stack| {
        let grants = host.grants.into_iter().filter_map(|grant| Some((grant.document?, grant.grant)));
        grants.map(|(document, grant)| (document, grant, stack.clone())).collect::<Vec<_>>()
    };
    let all: Vec<(Id, String, Stack)> = status
        .stacks
        .into_iter()
        .flat_map(|one| one.hosts.into_iter().flat_map(|host| on_host(host, &one.stack)).collect::<Vec<_>>())
        .collect();
    let local = typed.parse::<GrantId>().ok();
    let stacks: BTreeMap<Id, Stack> = all.iter().map(|(document, _, stack)| (*document, stack.clone())).collect();
    let id = match local {
        Some(local) => {
            let found = all.iter().find(|(_, grant, _)| *grant == *local.as_str()).map(|(document, _, _)| *document);
            found.ok_or_else(|| {
                Failure::refused("unknown_grant", format!("no host says that {local} came from a document"))
                    .but("a grant of lockdownctl's own is revoked on its host: lockdownctl revoke")
            })?
        }
        None => beginning(typed, "grant", stacks.keys())?,
    };
    Ok((id, stacks.get(&id).cloned()))
}

/// Ends everything in a scope. Nothing is asked before it is sent.
pub(crate) fn lockdown(args: &cli::Lockdown, client: &Client) -> Result<Done, Failure> {
    client.is_no_fingerprint()?;
    let known = client.remembered(None)?;
    warn(args, &known, client);
    let hosts = named(args, client)?;
    let scope = Scope {
        stack: args.stack.clone(),
        hosts,
        person: args.person.clone(),
        fingerprint: args.fingerprint.clone(),
        hold: args.hold,
    };
    let document = make::lockdown(&client.trust().organization, &scope, &args.reason, client.moment())?;
    let key = client.key(Purpose::Close(&args.stack), &known)?;
    let signature = client.sign(&document, document.namespace(), &key, &known)?;
    let is_nothing = || nothing_is_locked_down(args, client);
    send::deliver_or(&envelope(document, vec![signature])?, &args.delivery, client, Some(&is_nothing))
}

/// The hosts that were typed, by their full names. By what was known lately; the server is asked only for what is not, and not
/// waited for: what nobody knows may be a full name, and is closed as it is.
fn named(args: &cli::Lockdown, client: &Client) -> Result<Vec<Host>, Failure> {
    let fits = |known: Vec<KnownHost>| known.into_iter().filter(|one| args.stack.fits(&one.stack)).collect::<Vec<_>>();
    let cached = fits(client.cache.hosts(client.now));
    let may_ask = args.delivery.out.is_none() && client.config.has_server();
    let asked = LazyCell::new(|| {
        let known = may_ask.then(|| client.status(ASKED)).and_then(Result::ok).map(|status| status.known());
        fits(known.unwrap_or_default())
    });
    let one = |text: &String| {
        let found = hosts::one(text, &cached).or_else(|failure| match failure.code == hosts::UNKNOWN {
            true => hosts::one(text, &asked),
            false => Err(failure),
        });
        match found {
            Err(failure) if failure.code == hosts::UNKNOWN => {
                text.parse().map_err(|error: record::NameError| Failure::usage(error.to_string()))
            }
            Err(failure) => Err(failure.detail("NOTHING IS LOCKED DOWN")),
            found => found,
        }
    };
    args.hosts.iter().map(one).collect()
}

/// What is said where a lockdown has met no host: to whom nothing was closed, it must not look as if it were.
fn nothing_is_locked_down(args: &cli::Lockdown, client: &Client) -> String {
    let known = client.status(ASKED).map_or_else(|_| client.cache.hosts(client.now), |status| status.known());
    let own: Vec<&KnownHost> = known.iter().filter(|one| args.stack.fits(&one.stack)).collect();
    let (what, better) = if own.is_empty() {
        let stacks: BTreeSet<&str> = known.iter().map(|one| one.stack.as_str()).collect();
        let stacks: Vec<&str> = stacks.into_iter().collect();
        let typed = args.stack.to_string();
        (format!("no host is known in {typed}"), make::suggestion(&typed, &stacks, "lockdown status lists stacks"))
    } else {
        let names: Vec<&str> =
            own.iter().flat_map(|one| [Some(one.host.as_str()), one.name.as_deref()]).flatten().collect();
        let typed: Vec<&str> = args.hosts.iter().map(String::as_str).collect();
        let better = |typed: &&str| make::suggestion(typed, &names, "lockdown status lists hosts");
        let better: BTreeSet<String> = typed.iter().map(better).collect();
        (
            format!("no host of {} is called {}", args.stack, typed.join(", ")),
            better.into_iter().collect::<Vec<_>>().join("; "),
        )
    };
    plain(&format!("NOTHING IS LOCKED DOWN: {what}; {better}")).to_string()
}

/// What the roster that was last seen does not know may be mistyped, or gone: closing is not kept up for that.
fn warn(args: &cli::Lockdown, known: &Known, client: &Client) {
    let Some(roster) = known.any_roster() else { return };
    let people =
        || roster.people.iter().map(|member| &member.name).chain(roster.approvers.iter().map(|one| &one.person));
    if let Some(person) = &args.person
        && !people().any(|known| document::roster::same_person(known, person))
    {
        let names: Vec<&str> = people().map(Person::as_str).collect();
        let better = make::suggestion(person.as_str(), &names, "lockdown roster show lists everybody");
        client.voice.say(&format!(
            "note: there is no {person} in roster {}, and it is closed all the same; {better}\n",
            roster.version
        ));
    }
}

/// Ends a lockdown.
pub(crate) fn lift(args: &cli::Lift, client: &Client) -> Result<Done, Failure> {
    let known = match client.stacks_known() {
        Ok(known) => known,
        Err(failure) if args.delivery.out.is_some() && failure.exit == crate::failure::Exit::Unavailable => {
            client.remembered(None)?
        }
        Err(failure) => return Err(failure),
    };
    let lockdowns: Vec<Id> = known.lockdowns().map(|(id, _)| id).collect();
    let id = beginning(&args.id, "lockdown", lockdowns.iter())?;
    let before = args.add_to.as_deref().map(|path| lift_in(path, id)).transpose()?;
    let document = match &before {
        Some(envelope) => envelope.document().clone(),
        None => make::lift(&client.trust().organization, id, &args.reason, client.moment())?,
    };
    let scope: Option<StackPattern> = known.lockdown(id).map(|closing| closing.lockdown.stack.clone());
    let purpose = scope.as_ref().map_or(Purpose::Revoke(None), Purpose::Close);
    let key = client.key(purpose, &known)?;
    if args.delivery.out.is_none() {
        enough(&document, before.as_ref(), &key.key, &known, client)?;
    }
    let is_meant = args.yes || args.id.parse::<Id>().is_ok();
    let signature = client.sign_if_confirmed(&document, &key, &known, is_meant, "type the whole id, or --yes")?;
    let signatures = before.iter().flat_map(|envelope| envelope.signatures().to_vec()).chain([signature]).collect();
    send::deliver(&envelope(document, signatures)?, &args.delivery, client)
}

/// Whether one more signature is enough, so that nobody signs in vain: the server keeps no lift that it has to wait for.
fn enough(
    document: &Document,
    before: Option<&Envelope>,
    key: &Key,
    known: &Known,
    client: &Client,
) -> Result<(), Failure> {
    let bare = envelope(document.clone(), Vec::new())?;
    let signs_rosters = client.trust().roster.keys.iter().any(|entry| entry.key == *key);
    match known.verdict(before.unwrap_or(&bare), client.moment()) {
        Verdict::Refused(Refusal::Approvals { counted, needed, .. }) if counted + 1 < needed && !signs_rosters => {
            let so_far = format!("{needed} people have to sign this lift, and {counted} have so far");
            Err(Failure::refused("approvals", so_far)
                .but("write it with --out FILE; each of the others signs that very file with --add-to FILE, the last one without --out"))
        }
        _ => Ok(()),
    }
}

/// A lift that others have signed.
fn lift_in(path: &std::path::Path, id: Id) -> Result<Envelope, Failure> {
    let envelope = envelope_in(path)?;
    match envelope.document().body() {
        Body::Lift(lift) if lift.lockdown == id => Ok(envelope),
        Body::Lift(lift) => {
            Err(Failure::refused("other_document", format!("{} lifts lockdown {}", path.display(), lift.lockdown)))
        }
        other => {
            Err(Failure::refused("kind", format!("{} holds a {}, not a {}", path.display(), other.kind(), Kind::Lift)))
        }
    }
}
