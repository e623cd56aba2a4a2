//! `roster`: made by hand, shown, signed by the keys of the configuration, and published.

use std::{collections::BTreeSet, env, ffi::OsString, path::Path, process::Command, time::Duration};

use document::{
    Body, Document, Envelope, Id, Kind, MAX_ROSTER_ENVELOPE, Refusal, Roster, Verdict, Version,
    roster::MAX_ROSTER_HOLDS,
};
use terminal::{paint::Paint, plain};

use super::envelope;
use crate::{
    cli::RosterCommand,
    client::{Client, envelope_in},
    draft::{self, Draft},
    failure::{Exit, Failure},
    files,
    keys::Purpose,
    known::{Known, NO_ROSTER, version_of},
    make,
    output::Done,
    send, show,
};

/// The longest draft, in bytes: of a roster with every key and name that it may have.
const MAX_DRAFT: usize = MAX_ROSTER_ENVELOPE;

/// Does one of them.
pub(crate) fn run(command: &RosterCommand, client: &Client) -> Result<Done, Failure> {
    match command {
        RosterCommand::Init { file } => init(file, client),
        RosterCommand::Show { file, draft } => show(file.as_deref(), *draft, client),
        RosterCommand::Edit { file } => edit(file, client),
        RosterCommand::Diff { file } => diff(file, client),
        RosterCommand::Sign { file, out, offline, version, yes } => {
            let to = out.clone().unwrap_or_else(|| file.with_extension("json"));
            sign(file, &to, *offline, *version, *yes, client)
        }
        RosterCommand::Publish { file, wait } => publish(file, *wait, client),
    }
}

fn init(file: &Path, client: &Client) -> Result<Done, Failure> {
    if file.exists() {
        return Err(Failure::refused("file", format!("{} is there already", file.display()))
            .but("name another file, or edit this one: lockdown roster edit"));
    }
    files::write_named(file, draft::first(client.trust(), client.moment()).as_bytes())?;
    let name = plain(&file.display().to_string());
    let value = serde_json::json!({ "file": file });
    Ok(client.voice.show(&value, |_| format!("{name} is a first draft: edit it, then\nlockdown roster sign {name}\n")))
}

/// The roster in force; none where there is none yet. Without a server, what was last seen.
fn in_force(offline: bool, client: &Client) -> Result<Known, Failure> {
    if offline || !client.config.has_server() {
        return client.remembered(None);
    }
    match client.known_roster() {
        // The first one: nobody is known yet who could read, and nothing is there to be read.
        Err(failure) if failure.exit == Exit::Refused => {
            let known = client.remembered(None)?;
            if known.version().is_some() && failure.code != NO_ROSTER {
                return Err(failure);
            }
            client.voice.say(&format!(
                "note: this is taken for the first roster, since the server gives none:\n  {}",
                failure.words()
            ));
            Ok(known)
        }
        result => result,
    }
}

/// A roster in a file: a draft, what a program proposes, or what was signed.
enum InFile {
    Draft(Box<Draft>),
    Proposed(Box<Draft>),
    Signed(Box<Envelope>),
}

fn read(file: &Path, client: &Client) -> Result<InFile, Failure> {
    let text = files::text(file, MAX_DRAFT)?;
    if text.trim_start().starts_with('{') {
        let signed = envelope_in(file)?;
        return match signed.document().body() {
            // Nobody has signed it yet: its version and holds are those of when somebody does.
            Body::Roster(roster) if signed.signatures().is_empty() => {
                is_ours(roster, client)?;
                Ok(InFile::Proposed(Box::new(Draft::of(roster))))
            }
            Body::Roster(_) => Ok(InFile::Signed(Box::new(signed))),
            other => {
                Err(Failure::refused("kind", format!("{} holds a {}, and no roster", file.display(), other.kind())))
            }
        };
    }
    let named = |failure: Failure| failure.detail(file.display().to_string());
    Ok(InFile::Draft(Box::new(Draft::parse(&text).map_err(named)?)))
}

/// The roster of a file, as it would be signed now.
fn roster_in(file: &Path, known: &Known, client: &Client) -> Result<Roster, Failure> {
    match read(file, client)? {
        InFile::Signed(signed) => roster_of(signed.document()),
        InFile::Draft(draft) | InFile::Proposed(draft) => {
            let holds = known.any_roster().map(|roster| roster.holds.clone()).unwrap_or_default();
            draft.roster(client.trust(), next(known)?, holds, client.moment())
        }
    }
}

fn roster_of(document: &Document) -> Result<Roster, Failure> {
    match document.body() {
        Body::Roster(roster) => Ok((**roster).clone()),
        other => Err(Failure::refused("kind", format!("this is a {}, and no roster", other.kind()))),
    }
}

fn next(known: &Known) -> Result<Version, Failure> {
    let next = known.version().map_or(0, Version::number) + 1;
    Version::try_from(next.max(known.trust().roster.min_version))
        .map_err(|error| Failure::refused("version", error.to_string()))
}

fn show(file: Option<&Path>, draft: bool, client: &Client) -> Result<Done, Failure> {
    let roster = match file {
        Some(file) => roster_in(file, &client.remembered(None)?, client)?,
        None => {
            let known = if client.config.has_server() { client.known_roster()? } else { client.remembered(None)? };
            known.roster()?.clone()
        }
    };
    if draft {
        return Ok(Done::new(Draft::of(&roster).to_toml()?));
    }
    Ok(client.voice.show(&roster, |roster| {
        let lines: String = show::lines(roster).iter().map(|line| format!("  {}\n", plain(line))).collect();
        format!("roster {}, issued {}\n{lines}", roster.version, roster.issued_at)
    }))
}

fn diff(file: &Path, client: &Client) -> Result<Done, Failure> {
    let known = in_force(false, client)?;
    let new = roster_in(file, &known, client)?;
    let changes = show::difference(known.any_roster(), &new);
    let list = |wanted| -> Vec<&String> {
        changes.iter().filter(|(change, _)| *change == wanted).map(|(_, line)| line).collect()
    };
    let value = serde_json::json!({
        "from": known.version(), "to": new.version, "gone": list(show::Change::Gone), "new": list(show::Change::New)
    });
    Ok(client.voice.show(&value, |_| heading(&known, &new) + &changed(&changes, client.voice.paint)))
}

fn heading(known: &Known, new: &Roster) -> String {
    match known.version() {
        Some(held) => format!("roster {held} in force, and what would be roster {}:\n", new.version),
        None => format!("no roster is in force, and this would be roster {}:\n", new.version),
    }
}

fn changed(changes: &[(show::Change, String)], paint: Paint) -> String {
    if changes.is_empty() { "  nothing changes\n".to_owned() } else { show::render_difference(changes, paint) }
}

fn edit(file: &Path, client: &Client) -> Result<Done, Failure> {
    let known = in_force(false, client)?;
    if !file.exists() {
        let text = match known.any_roster() {
            Some(roster) => Draft::of(roster).to_toml()?,
            None => draft::first(client.trust(), client.moment()),
        };
        files::write_named(file, text.as_bytes())?;
    }
    open_editor(file)?;
    let new = roster_in(file, &known, client)?;
    make::made(new.clone())?;
    let changes = show::difference(known.any_roster(), &new);
    let name = plain(&file.display().to_string());
    Ok(Done::new(format!(
        "{}{}lockdown roster sign {name}\n",
        heading(&known, &new),
        changed(&changes, client.voice.paint)
    )))
}

/// Runs what somebody edits with. As others do, what it names may have options, parted by blanks.
fn open_editor(file: &Path) -> Result<(), Failure> {
    let named = ["VISUAL", "EDITOR"].into_iter().filter_map(env::var_os).find(|editor| !editor.is_empty());
    let editor = named.unwrap_or_else(|| OsString::from("vi"));
    let editor = editor.to_string_lossy().into_owned();
    let mut words = editor.split_ascii_whitespace();
    let program = words.next().unwrap_or("vi");
    let status = Command::new(program).args(words).arg(file).status();
    let status = status.map_err(|error| Failure::refused("editor", format!("{program}: {error}")).but("set EDITOR"))?;
    if status.success() { Ok(()) } else { Err(Failure::refused("editor", format!("{program} ended with {status}"))) }
}

fn sign(
    file: &Path,
    to: &Path,
    offline: bool,
    version: Option<u64>,
    yes: bool,
    client: &Client,
) -> Result<Done, Failure> {
    let known = in_force(offline, client)?;
    let in_file = read(file, client)?;
    // A draft is one's own; what comes signed, or from a program, is somebody else's.
    let is_own = matches!(in_file, InFile::Draft(_));
    let (document, before) = match in_file {
        InFile::Signed(signed) => (signed.document().clone(), signed.signatures().to_vec()),
        InFile::Draft(draft) | InFile::Proposed(draft) => {
            let version = match version {
                Some(number) => Version::try_from(number).map_err(|error| Failure::usage(error.to_string()))?,
                None => next(&known)?,
            };
            let holds = if draft.holds.is_some() { BTreeSet::new() } else { holds(offline, &known, client) };
            (make::made(draft.roster(client.trust(), version, holds, client.moment())?)?, Vec::new())
        }
    };
    let new = roster_of(&document)?;
    is_ours(&new, client)?;
    client.voice.say(&format!(
        "{}{}",
        heading(&known, &new),
        changed(&show::difference(known.any_roster(), &new), client.voice.aside)
    ));
    let key = client.key(Purpose::Roster, &known)?;
    let is_meant = yes || is_own;
    let signature = client.sign_if_confirmed(&document, &key, &known, is_meant, "say --yes once you have seen it")?;
    let signed = envelope(document, before.into_iter().chain([signature]).collect())?;
    files::write_named(to, format!("{}\n", signed.to_json()).as_bytes())?;
    Ok(signed_to(&signed, to, &known, client))
}

/// Whether a roster is of the organization that this laptop is of.
fn is_ours(roster: &Roster, client: &Client) -> Result<(), Failure> {
    let own = &client.trust().organization;
    if roster.organization == *own {
        return Ok(());
    }
    Err(Failure::refused("organization", format!("this is a roster of {}", roster.organization))
        .but(format!("stack.organization in the configuration is {own}")))
}

/// The lockdowns that hold now: a host that forgot them learns of them by the roster.
fn holds(offline: bool, known: &Known, client: &Client) -> BTreeSet<Id> {
    let before = || known.any_roster().map(|roster| roster.holds.clone()).unwrap_or_default();
    if offline || known.any_roster().is_none() {
        return before();
    }
    match client.stacks_known() {
        Ok(all) => {
            // Where there are too many, those that people signed come first.
            let of = |by_people: bool| all.holds().filter(move |(_, closing)| closing.is_by_people() == by_people);
            let count = all.holds().count();
            if count > MAX_ROSTER_HOLDS {
                let said = format!(
                    "note: {count} lockdowns hold, and a roster names {MAX_ROSTER_HOLDS} at most: of the others, a host that forgot them \
                     learns by its feed alone"
                );
                client.voice.say(&said);
            }
            of(true).chain(of(false)).map(|(id, _)| id).take(MAX_ROSTER_HOLDS).collect()
        }
        Err(failure) => {
            client
                .voice
                .say(&format!("note: lockdowns that hold are taken from the roster in force:\n  {}", failure.words()));
            before()
        }
    }
}

fn signed_to(signed: &Envelope, to: &Path, known: &Known, client: &Client) -> Done {
    let name = plain(&to.display().to_string());
    let more = match known.verdict(signed, client.moment()) {
        Verdict::Refused(Refusal::Threshold { counted, needed }) => {
            format!("{counted} of {needed} people have signed it; the others: lockdown roster sign {name}\n")
        }
        Verdict::Refused(refusal) => {
            let anew = if is_overtaken(refusal.word()) { format!("{}\n", anew(to)) } else { String::new() };
            format!("note: no host would take it: {}\n{anew}", plain(&refusal.to_string()))
        }
        _ => format!("lockdown roster publish {name}\n"),
    };
    let value = serde_json::json!({
        "id": signed.document().id(), "version": version_of(signed.document()), "file": to
    });
    client.voice.show(&value, |_| format!("roster {} is signed: {name}\n{more}", signed.document().id()))
}

/// Whether another roster has taken the version since: an automatic key, such as lockdown-iam's, takes the next one whenever somebody
/// joins.
fn is_overtaken(code: &str) -> bool {
    ["other_bytes", "rollback"].contains(&code)
}

/// How what a signed roster says is signed with a version of its own.
fn anew(file: &Path) -> String {
    let name = plain(&file.display().to_string());
    format!(
        "if an automatic key signed the one in force (lockdown roster show), sign yours anew over it:\n  \
         lockdown roster show {name} --draft > anew.toml; lockdown roster diff anew.toml; lockdown roster sign anew.toml"
    )
}

fn or_anew(failure: Failure, file: &Path) -> Failure {
    if is_overtaken(&failure.code) { failure.but(anew(file)) } else { failure }
}

fn publish(file: &Path, wait: Duration, client: &Client) -> Result<Done, Failure> {
    let InFile::Signed(signed) = read(file, client)? else {
        return Err(Failure::refused("draft", format!("{} is a draft, which nobody has signed", file.display()))
            .but(format!("lockdown roster sign {}", file.display())));
    };
    let mut known = client.remembered(None)?;
    match known.verdict(&signed, client.moment()) {
        Verdict::Refused(refusal @ Refusal::Threshold { .. }) => {
            return Err(crate::known::refused(&refusal).but(format!("lockdown roster sign {}", file.display())));
        }
        Verdict::Refused(refusal) => return Err(or_anew(crate::known::refused(&refusal), file)),
        Verdict::Accepted(_) | Verdict::Known | Verdict::Waits(_) => {}
    }
    let posted = send::post(&signed, client).map_err(|failure| or_anew(failure, file))?;
    client.learn(&mut known, std::slice::from_ref(&*signed))?;
    send::follow(Kind::Roster, &posted, wait, client)
}
