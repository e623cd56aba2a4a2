//! A file of the server's receipts, read line by line, each bounded and its signature checked.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    path::Path,
};

use record::{AllowedSigner, BadReceipt, MAX_RECEIPT, Receipts};
use ssh_key::PublicKey;

use super::{text, unreadable};
use crate::ask::Failure;

/// How many lines that are no receipts of the server are told of one by one.
pub(super) const MAX_TOLD: usize = 20;

/// Receipts to hold a ledger against.
pub(super) struct Given {
    pub(super) receipts: Receipts,
    /// The file with the server's key.
    pub(super) server_key: String,
    /// What is off about the file itself.
    pub(super) bad: Vec<String>,
}

/// Reads receipts, one a line, which the server's key must have signed.
pub(super) fn read(file: &Path, server_key: &Path) -> Result<Given, Failure> {
    let fail = |error: std::io::Error| Failure::here(format!("{}: {error}", file.display())).but(unreadable(&error));
    let mut receipts = Receipts::by(keys(server_key)?);
    let (mut bad, mut more) = (Vec::new(), 0_u64);
    let mut reader = BufReader::new(File::open(file).map_err(fail)?);
    for number in 1_u64.. {
        let Some(line) = next_line(&mut reader).map_err(fail)? else { break };
        match receipts.add(&line) {
            Ok(()) => {}
            Err(BadReceipt::TooMany) => return Err(Failure::here(BadReceipt::TooMany.to_string())),
            Err(why) if bad.len() < MAX_TOLD => bad.push(format!("{} line {number}: {why}", file.display())),
            Err(_) => more += 1,
        }
    }
    if more > 0 {
        bad.push(format!("{}: {more} more lines that do not count", file.display()));
    }
    Ok(Given { receipts, server_key: server_key.display().to_string(), bad })
}

/// The next line; one that is too long to be a receipt comes cut.
fn next_line(reader: &mut impl BufRead) -> std::io::Result<Option<Vec<u8>>> {
    let bound = MAX_RECEIPT + 2;
    let mut line = Vec::new();
    reader.by_ref().take(bound as u64).read_until(b'\n', &mut line)?;
    if line.len() == bound && !line.ends_with(b"\n") {
        reader.skip_until(b'\n')?;
    }
    Ok(Some(line).filter(|line| !line.is_empty()))
}

/// Public keys one a line, or the lines of an allowed_signers file.
pub(super) fn keys(file: &Path) -> Result<Vec<PublicKey>, Failure> {
    const TOLD: &str = "name the server's key with --server-key FILE: GET /v1/server of the compliance API tells it";
    let text = text(file).map_err(|failure| failure.but(TOLD))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let plain: Result<Vec<_>, _> = lines.map(PublicKey::from_openssh).collect();
    let keys = match plain {
        Ok(keys) => keys,
        Err(_) => AllowedSigner::parse_file(&text)
            .map(|all| all.into_iter().map(|signer| signer.key().clone()).collect())
            .map_err(|error| Failure::here(format!("{}: {error}", file.display())))?,
    };
    if keys.is_empty() {
        return Err(Failure::here(format!("{}: no key stands in it", file.display())).but(TOLD));
    }
    Ok(keys)
}
