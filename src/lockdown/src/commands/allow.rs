//! `allow` and `request`: a grant for a stack, signed to open, or to be asked for.

use std::{collections::BTreeSet, path::Path};

use document::{Document, Envelope, Hosts, Namespace};
use record::{Host, Person, Stack};

use super::{envelope, warn_of_roster};
use crate::{
    answers::{State, Status},
    cli,
    client::{Client, envelope_in},
    failure::{Exit, Failure},
    hosts::{self, KnownHost},
    keys::{Purpose, others_who_approve},
    known::Known,
    make::{self, Planned, Wanted},
    output::Done,
    send,
    server::WHOLE,
    sign::SigningKey,
};

/// Gives a person leave to log in.
pub(crate) fn allow(args: cli::Allow, client: &Client) -> Result<Done, Failure> {
    let known = known(&args.terms.stack, args.terms.roster.as_deref(), args.delivery.out.is_some(), client)?;
    let hosts = hosts(&args.terms, client)?;
    let planned = make::grant(&wanted(args.person, args.terms, hosts, client), &known, client.moment())?;
    let grant = &planned.grant;
    let purpose = Purpose::Approve { person: &grant.person, stack: &grant.stack, account: &grant.account };
    let key = client.key(purpose, &known)?;
    let signature = client.sign(&planned.document, planned.document.namespace(), &key, &known)?;
    let signed = envelope(planned.document.clone(), vec![signature])?;
    adds(&signed, None, &known, client)?;
    give(&signed, &planned, &args.delivery, &known, client)
}

/// Whether a signature adds an approval to those that were there before. What a security device was asked for, and did not do, is seen
/// in its signature alone.
pub(super) fn adds(
    signed: &Envelope,
    before: Option<&Envelope>,
    known: &Known,
    client: &Client,
) -> Result<(), Failure> {
    let now = client.moment();
    let counted = |envelope| match known.verdict(envelope, now) {
        document::Verdict::Refused(refusal @ document::Refusal::Approvals { counted, .. }) => (counted, Some(refusal)),
        _ => (usize::MAX, None),
    };
    let (had, (has, refusal)) = (before.map_or(0, |before| counted(before).0), counted(signed));
    match refusal {
        Some(refusal) if has <= had => {
            Err(Failure::refused("approvals", format!("this signature adds nothing: {refusal}")))
        }
        _ => Ok(()),
    }
}

/// Sends a grant, or writes it; says who else has to approve.
pub(super) fn give(
    signed: &Envelope,
    planned: &Planned,
    delivery: &cli::Delivery,
    known: &Known,
    client: &Client,
) -> Result<Done, Failure> {
    let signers = known.signers(signed, client.moment());
    let mut approved: Vec<Person> = signers.iter().filter_map(|signer| signer.who.person().cloned()).collect();
    if let Some(path) = &delivery.out {
        let done = send::write(signed, path, client)?;
        let has = document::different_people(&signers);
        if has < planned.needed {
            say_who(planned, &approved, &format!("lockdown approve {}", path.display()), known, client);
            return Ok(done.exiting(Exit::NotAll));
        }
        return Ok(done);
    }
    let posted = send::post(signed, client)?;
    let done = send::follow(document::Kind::Grant, &posted, delivery.wait, client)?;
    if posted.state == State::Pending {
        approved.extend(posted.approvers.iter().cloned());
        say_who(planned, &approved, &format!("lockdown approve {}", posted.id), known, client);
    }
    Ok(done)
}

/// Says who has approved, who else can, and how. Nothing is open yet.
fn say_who(planned: &Planned, approved: &[Person], how: &str, known: &Known, client: &Client) {
    let grant = &planned.grant;
    let approved: BTreeSet<&Person> = approved.iter().collect();
    let without: Vec<&Person> = approved.iter().copied().chain([&grant.person]).collect();
    let others = known.any_roster().map(|roster| others_who_approve(roster, &grant.stack, &grant.account, &without));
    let names = |people: Vec<String>| if people.is_empty() { "nobody".to_owned() } else { people.join(", ") };
    client.voice.say(&format!(
        "grant {}\n  {} of {} approvals: nothing is open yet\n  approved by: {}\n  who can approve: {}, until {}\n  {how}\n",
        planned.document.id(),
        approved.len(),
        planned.needed,
        names(approved.iter().map(ToString::to_string).collect()),
        names(others.unwrap_or_default().iter().map(ToString::to_string).collect()),
        terminal::moment::both(grant.accept_until.timestamp(), client.now),
    ));
}

/// Asks for leave to log in.
pub(crate) fn request(args: cli::Request, client: &Client) -> Result<Done, Failure> {
    let known = known(&args.terms.stack, args.terms.roster.as_deref(), args.out.is_some(), client)?;
    let hosts = hosts(&args.terms, client)?;
    let key = client.key(Purpose::Ask, &known)?;
    let person = whose(&key, &known, client)?;
    let planned = make::grant(&wanted(person, args.terms, hosts, client), &known, client.moment())?;
    let signature = client.sign(&planned.document, Namespace::Request, &key, &known)?;
    let signed = envelope(planned.document.clone(), vec![signature])?;
    if let Some(path) = &args.out {
        let done = send::write(&signed, path, client)?;
        say_who(&planned, &[], &format!("lockdown approve {}", path.display()), &known, client);
        return Ok(done);
    }
    let posted = send::post(&signed, client)?;
    say_who(&planned, &[], &format!("lockdown approve {}", posted.id), &known, client);
    // Asking is all that was wanted.
    Ok(send::follow(document::Kind::Grant, &posted, std::time::Duration::ZERO, client)?.exiting(Exit::Done))
}

/// Who logs in with a key.
fn whose(key: &SigningKey, known: &Known, client: &Client) -> Result<Person, Failure> {
    let roster = known.roster()?;
    let member = roster.people.iter().find(|member| member.keys.contains(&key.key));
    let person = member.map(|member| member.name.clone()).ok_or_else(|| {
        Failure::refused("key", format!("nobody logs in with {}, by roster {}", key.key.fingerprint(), roster.version))
    })?;
    match &client.config.person {
        Some(own) if *own != person => Err(Failure::refused(
            "person",
            format!("{} is {person}'s key, and person in the configuration is {own}", key.key.fingerprint()),
        )
        .but("name one of their keys with --key")),
        _ => Ok(person),
    }
}

fn wanted(person: Person, terms: cli::Terms, hosts: Hosts, client: &Client) -> Wanted {
    Wanted {
        person,
        stack: terms.stack,
        account: terms.account,
        hosts,
        duration: terms.duration,
        at: terms.at.map(|at| at.resolve(client.now)),
        from: terms.from,
        accept_within: terms.accept_within,
        reason: terms.reason,
    }
}

/// What is known of the stack. For a file it may be what was known before: then the server need not be there.
pub(super) fn known(stack: &Stack, roster: Option<&Path>, to_a_file: bool, client: &Client) -> Result<Known, Failure> {
    if let Some(path) = roster {
        let mut known = client.remembered(Some(stack))?;
        client.learn(&mut known, &[envelope_in(path)?])?;
        return Ok(known);
    }
    let known = match asked(stack, client) {
        Err(failure) if to_a_file && (failure.exit == Exit::Unavailable || !client.config.has_server()) => {
            let known = client.remembered(Some(stack))?;
            client
                .voice
                .say("note: by what was known when the server last answered; lockdowns since then are not known\n");
            known
        }
        result => result?,
    };
    warn_of_roster(&known, client);
    Ok(known)
}

/// Asks the server for a stack, which it has to know.
fn asked(stack: &Stack, client: &Client) -> Result<Known, Failure> {
    client.known(stack).map_err(|failure| match failure.code.as_str() {
        "not_found" => match stacks(client) {
            Ok(stacks) => {
                let names: Vec<&str> = stacks.iter().map(Stack::as_str).collect();
                Failure::refused("unknown_stack", format!("there is no stack {stack}")).but(make::suggestion(
                    stack.as_str(),
                    &names,
                    "lockdown status lists all stacks",
                ))
            }
            Err(_) => failure,
        },
        _ => failure,
    })
}

fn stacks(client: &Client) -> Result<Vec<Stack>, Failure> {
    let status = client.status(WHOLE)?;
    Ok(status.stacks.into_iter().map(|stack| stack.stack).collect())
}

/// The hosts that were typed, by the names that the server knows. Without a server they are taken as they are.
fn hosts(terms: &cli::Terms, client: &Client) -> Result<Hosts, Failure> {
    if terms.hosts.is_empty() {
        return Ok(Hosts::All);
    }
    if terms.roster.is_some() || !client.config.has_server() {
        let full: Result<BTreeSet<Host>, _> = terms.hosts.iter().map(|host| host.parse()).collect();
        return full.map(Hosts::Named).map_err(|error: record::NameError| Failure::usage(error.to_string()));
    }
    let status: Status = client.get(&format!("/v1/status?stack={}", terms.stack), WHOLE)?;
    let known: Vec<KnownHost> = status.known().into_iter().filter(|host| host.stack == terms.stack).collect();
    hosts::resolve(&terms.hosts, &known)
}

/// What was asked for, as one can approve it.
pub(super) fn planned(document: &Document, known: &Known, client: &Client) -> Result<Planned, Failure> {
    let document::Body::Grant(grant) = document.body() else {
        return Err(Failure::refused("kind", format!("this is a {}, and only grants are approved", document.kind())));
    };
    let bare = envelope(document.clone(), Vec::new())?;
    match known.verdict(&bare, client.moment()) {
        document::Verdict::Refused(document::Refusal::Approvals { needed, .. }) => {
            Ok(Planned { grant: (**grant).clone(), document: document.clone(), needed })
        }
        document::Verdict::Refused(refusal) => Err(crate::known::refused(&refusal)),
        document::Verdict::Waits(wait) => Err(crate::known::waits(&wait)),
        document::Verdict::Accepted(_) | document::Verdict::Known => {
            Err(Failure::refused("grant", "it is in force already, or needs nobody's approval"))
        }
    }
}
