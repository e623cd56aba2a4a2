//! `verify`: whether the ledger on this disk is one untouched, signed chain. Offline: it asks nobody and trusts only the
//! key that it was told to trust.

mod checkpoints;
mod receipts;
mod segments;

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::Path,
};

use control::Exit;
use record::{AllowedSigner, Depth, Trust, Verdict, Verifier};
use serde::{Deserialize, Serialize};
use ssh_key::{HashAlg, PublicKey};

use self::receipts::Given;
use super::{Context, count};
use crate::{
    ask::Failure,
    cli,
    output::{Done, plain, show},
};

/// Where the daemon keeps its ledger.
pub(crate) const LEDGER: &str = "/var/lib/lockdownd/ledger";
/// How far the daemon says that its ledger is on disk.
const DURABLE: &str = "/run/lockdownd/durable";
/// The key that is trusted where no other is named: the host's own, which the daemon made at its first start.
const SIGNING_KEY: &str = "/var/lib/lockdownd/signing_key.pub";
/// The server's key where no other is named: the one that the daemon pinned.
const SERVER_KEY: &str = "/var/lib/lockdownd/receipt_key.pub";
/// The most bytes of a file of keys that are read.
const MAX_KEYS: u64 = 1024 * 1024;

/// What the verification came to, for programs and people.
#[derive(Debug, Serialize)]
struct Report {
    /// Whether nothing at all is off.
    good: bool,
    ledger: Option<String>,
    host: Option<String>,
    records: u64,
    first: u64,
    /// Up to which record the chain holds together, if it is good.
    complete_to: u64,
    /// Up to which record it is as a server's receipts say; 0 where none was given.
    acknowledged_to: u64,
    /// How many receipts it was held against.
    receipts: u64,
    /// How many checkpoints it was held against.
    checkpoints: u64,
    /// The file whose keys the receipts had to be signed with.
    #[serde(skip_serializing_if = "Option::is_none")]
    server_key: Option<String>,
    head: String,
    /// The fingerprint of the key in force at the end.
    key: Option<String>,
    /// The file whose keys were trusted.
    trusted: String,
    findings: Vec<String>,
    /// How many more findings there are.
    more: u64,
}

/// Verifies; exit status 1 if anything is off.
pub(crate) fn run(args: &cli::Verify, context: &Context<'_>) -> Result<Done, Failure> {
    if let Some(file) = &args.case {
        return of_case(file, args.server_key.as_deref(), context);
    }
    let server_key = args.server_key.as_deref().unwrap_or(Path::new(SERVER_KEY));
    let given = args.receipts.as_deref().map(|file| receipts::read(file, server_key)).transpose()?;
    let kept = match args.checkpoint.as_slice() {
        [] => None,
        files => Some((checkpoints::read(files, receipts::keys(server_key)?)?, server_key)),
    };
    // Read before the ledger, which grows meanwhile.
    let durable = Some(DURABLE).filter(|_| args.ledger == Path::new(LEDGER)).and_then(|path| durable(Path::new(path)));
    let mut report = report(&args.ledger, args.signers.as_deref(), Path::new(SIGNING_KEY), given, kept)?;
    if let Some(durable) = durable {
        hold_against(&mut report, &durable);
    }
    let exit = if report.good { Exit::Done } else { Exit::Refused };
    Ok(show(context.json, &report, words).exiting(exit))
}

/// Verifies a case file, which has nothing to do with this host.
fn of_case(file: &Path, server_key: Option<&Path>, context: &Context<'_>) -> Result<Done, Failure> {
    let keys = server_key.map(receipts::keys).transpose()?;
    let open = File::open(file).map_err(|error| Failure::here(format!("{}: {error}", file.display())))?;
    let report = case::verify(BufReader::with_capacity(1 << 16, open), keys);
    let exit = if report.good { Exit::Done } else { Exit::Refused };
    let words = |report: &case::Report| report.words().lines().map(|line| plain(line) + "\n").collect();
    Ok(show(context.json, &report, words).exiting(exit))
}

fn report(
    ledger: &Path,
    signers: Option<&Path>,
    own_key: &Path,
    given: Option<Given>,
    kept: Option<(checkpoints::Given, &Path)>,
) -> Result<Report, Failure> {
    let (trust, own) = match signers {
        Some(file) => (Trust::Signers(allowed(file)?), None),
        // The key of today may have been introduced by the one of the first day: what counts is that it is in force at the end.
        None => (Trust::FirstKey, Some(public_key(own_key)?)),
    };
    let mut verifier = Verifier::new(Depth::Full, trust);
    let (count, mut server_key, mut bad, mut held) = match given {
        Some(given) => (given.receipts.count() as u64, Some(given.server_key), given.bad, Some(given.receipts)),
        None => (0, None, Vec::new(), None),
    };
    let kept = kept.map(|(mut kept, key)| {
        kept.hold(held.get_or_insert_default());
        server_key.get_or_insert_with(|| key.display().to_string());
        bad.append(&mut kept.bad);
        kept
    });
    if let Some(held) = held {
        verifier = verifier.against(held);
    }
    let misplaced = segments::feed(ledger, &mut verifier)
        .map_err(|error| Failure::here(error.to_string()).but(unreadable(&error.error)))?;
    let verdict = verifier.finish();
    let trusted = signers.unwrap_or(own_key).display().to_string();
    let checkpoints = kept.as_ref().map_or(0, checkpoints::Given::count);
    let mut report = Report { trusted, receipts: count, checkpoints, server_key, ..summary(&verdict) };
    report.findings.extend(misplaced);
    report.findings.extend(bad);
    report.findings.extend(kept.and_then(|kept| kept.unproven(verdict.ledger.as_ref())));
    if let (Some(own), Some(key)) = (own, &verdict.key)
        && own.key_data() != key.key_data()
    {
        report.findings.push(format!(
                "the key in force at the end is {}, not {}, which {} holds: another machine's ledger? Name its keys with --signers",
                key.fingerprint(HashAlg::Sha256),
                own.fingerprint(HashAlg::Sha256),
                own_key.display()
            ));
    }
    report.good = report.findings.is_empty() && report.more == 0;
    Ok(report)
}

/// What the daemon said to be on disk.
#[derive(Debug, Deserialize)]
struct Durable {
    ledger: String,
    seq: u64,
}

/// Nothing where no daemon ran in this boot.
fn durable(path: &Path) -> Option<Durable> {
    serde_json::from_str(&text(path).ok()?).ok()
}

/// Records that the daemon said were on disk, and that no file holds, are a finding.
fn hold_against(report: &mut Report, durable: &Durable) {
    let same = report.ledger.as_ref().is_none_or(|ledger| *ledger == durable.ledger);
    if same && durable.seq > report.complete_to {
        report.good = false;
        report.findings.push(format!(
            "the daemon said that its ledger is on disk to record {}, and the files end at {}",
            durable.seq, report.complete_to
        ));
    }
}

fn summary(verdict: &Verdict) -> Report {
    Report {
        good: verdict.is_clean(),
        ledger: verdict.ledger.as_ref().map(ToString::to_string),
        host: verdict.host.as_ref().map(ToString::to_string),
        records: verdict.lines,
        first: verdict.first,
        complete_to: verdict.last,
        acknowledged_to: verdict.acknowledged,
        receipts: 0,
        checkpoints: 0,
        server_key: None,
        head: verdict.last_hash.to_string(),
        key: verdict.key.as_ref().map(|key| key.fingerprint(HashAlg::Sha256).to_string()),
        trusted: String::new(),
        findings: verdict.findings.iter().map(ToString::to_string).collect(),
        more: verdict.more,
    }
}

fn words(report: &Report) -> String {
    let name = |value: &Option<String>| value.clone().unwrap_or_else(|| "(unknown)".to_owned());
    let mut text = format!(
        "ledger {} of host {}: {}, {} to {}\nkey    {}, trusted by {}\nhead   {}\n",
        name(&report.ledger),
        name(&report.host),
        count(usize::try_from(report.records).unwrap_or(usize::MAX), "record"),
        report.first,
        report.complete_to,
        name(&report.key),
        report.trusted,
        report.head
    );
    if let Some(key) = &report.server_key {
        let of = |number: u64, what| count(usize::try_from(number).unwrap_or(usize::MAX), what);
        let mut held = of(report.receipts, "receipt");
        if report.checkpoints > 0 {
            held = format!("{held} and {}", of(report.checkpoints, "checkpoint"));
        }
        text.push_str(&format!("held   against {held}, signed as {key} says\n"));
    }
    if report.good {
        text.push_str(&format!(
            "good: every record's form, number, place in the chain and signature\ncomplete to {}, acknowledged to {}\n",
            report.complete_to, report.acknowledged_to
        ));
        text.push_str(unproven(report));
        return text;
    }
    let found = report.findings.len() as u64 + report.more;
    text.push_str(&format!("WRONG: {} off\n", count(usize::try_from(found).unwrap_or(usize::MAX), "thing")));
    report.findings.iter().for_each(|finding| text.push_str(&format!("  - {}\n", plain(finding))));
    if report.more > 0 {
        text.push_str(&format!("  and {} more\n", report.more));
    }
    if report.server_key.is_some() {
        text.push_str(&format!("acknowledged to {} is as the server has it\n", report.acknowledged_to));
    }
    text
}

/// What a good verdict does not show.
fn unproven(report: &Report) -> &'static str {
    if report.server_key.is_none() {
        return "No receipts were given (--receipts FILE): root on this host could have rewritten it all.\n";
    }
    match report.acknowledged_to {
        0 => "No server has acknowledged any of it: root on this host could have rewritten it all.\n",
        to if to < report.complete_to => "What comes after that, root on this host could have rewritten.\n",
        _ => "",
    }
}

fn allowed(file: &Path) -> Result<Vec<AllowedSigner>, Failure> {
    AllowedSigner::parse_file(&text(file)?).map_err(|error| Failure::here(format!("{}: {error}", file.display())))
}

fn public_key(file: &Path) -> Result<PublicKey, Failure> {
    PublicKey::from_openssh(&text(file)?).map_err(|error| Failure::here(format!("{}: {error}", file.display())))
}

fn text(file: &Path) -> Result<String, Failure> {
    let fail = |error: io::Error| Failure::here(format!("{}: {error}", file.display())).but(unreadable(&error));
    let mut text = String::new();
    let read = File::open(file).and_then(|open| open.take(MAX_KEYS + 1).read_to_string(&mut text)).map_err(fail)?;
    if read as u64 > MAX_KEYS {
        return Err(Failure::here(format!("{}: over {MAX_KEYS} bytes is no file of keys", file.display())));
    }
    Ok(text)
}

fn unreadable(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "only root reads the ledger: sudo lockdownctl verify",
        io::ErrorKind::NotFound => "name a copy of a ledger with --ledger DIR, and its keys with --signers FILE",
        _ => "nothing can be said about a ledger that cannot be read whole",
    }
}

#[cfg(test)]
mod tests;
