//! One ledger of a case file, as its files come: what stands beside it first, then its lines.

use std::collections::BTreeMap;

use record::{AllowedSigner, Depth, Hash, Host, SignedReceipt, Trust, Verifier, checkpoint::HeadProof};
use serde::Deserialize;
use ssh_key::PublicKey;

use super::report::LedgerReport;
use crate::{about::About, manifest::Run, member::Range};

/// Receipts of one ledger that are looked at.
const MAX_RECEIPTS: usize = 64;
/// Findings of one run that are told.
const MAX_TOLD: usize = 5;

/// A chain that is being read.
#[derive(Debug)]
pub(super) struct Chain {
    pub(super) about: About,
    host: Option<Host>,
    keys: Vec<(u64, PublicKey)>,
    /// What the server has signed about records of it: by their number, with what says so.
    signed: BTreeMap<u64, (Hash, &'static str)>,
    open: Option<Open>,
    /// Hashes of data whose lines have come.
    owed: Option<(Range, Vec<String>)>,
    runs: Vec<Run>,
    report: LedgerReport,
}

/// A run that goes on.
#[derive(Debug)]
struct Open {
    first: u64,
    last: u64,
    hash: Hash,
    /// Of a host's own lines.
    verifier: Option<Verifier>,
}

/// What a chain came to.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) about: About,
    pub(super) runs: Vec<Run>,
    pub(super) report: LedgerReport,
    pub(super) findings: Vec<String>,
}

/// What is looked at of a line of a chain that the server keeps.
#[derive(Debug, Deserialize)]
struct Entry {
    ledger: String,
    seq: u64,
    prev: Hash,
    data_sha256: String,
}

impl Chain {
    /// A chain by what stands beside it. Its keys have to be among the signers.
    pub(super) fn of(about: About, signers: &[AllowedSigner]) -> (Self, Vec<String>) {
        let (mut keys, mut findings) = (Vec::new(), Vec::new());
        let host: Option<Host> = about.name.parse().ok().filter(|_| about.is_host());
        for key in &about.keys {
            let Ok(parsed) = PublicKey::from_openssh(&key.public_key) else {
                findings.push(format!("ledger {}: a key of it cannot be read", about.ledger));
                continue;
            };
            let allows = |one: &AllowedSigner| {
                one.key().key_data() == parsed.key_data() && host.as_ref().is_some_and(|host| one.allows(host))
            };
            if !signers.iter().any(allows) {
                findings.push(format!(
                    "ledger {}: its key from record {} on is not in signers for {}",
                    about.ledger, key.first_seq, about.name
                ));
            }
            keys.push((key.first_seq, parsed));
        }
        if about.is_host() && (host.is_none() || keys.is_empty()) {
            findings.push(format!("ledger {}: it is a host's, and no key of it is known", about.ledger));
        }
        let report = LedgerReport {
            ledger: about.ledger.to_string(),
            kind: about.kind.clone(),
            name: about.name.clone(),
            ..LedgerReport::default()
        };
        let chain =
            Self { about, host, keys, signed: BTreeMap::new(), open: None, owed: None, runs: Vec::new(), report };
        (chain, findings)
    }

    /// Receipts, one a line.
    pub(super) fn receipts(&mut self, bytes: &[u8], keys: &[PublicKey]) -> Vec<String> {
        let mut findings = Vec::new();
        for (at, line) in bytes.split_inclusive(|byte| *byte == b'\n').take(MAX_RECEIPTS).enumerate() {
            let at = at + 1;
            match SignedReceipt::parse(line) {
                Ok(receipt) if !keys.iter().any(|key| receipt.is_signed_by(key)) => {
                    findings.push(format!("line {at}: its signature is not by the server's key"));
                }
                Ok(receipt) if receipt.receipt().ledger != self.about.ledger => {
                    findings.push(format!("line {at}: it is about another ledger"));
                }
                Ok(receipt) => {
                    self.signed.insert(receipt.receipt().seq, (receipt.receipt().hash, "a receipt"));
                }
                Err(why) => findings.push(format!("line {at}: {why}")),
            }
        }
        findings
    }

    /// Where it stood in the checkpoint; the note that the proof leads to.
    pub(super) fn proof(&mut self, bytes: &[u8], keys: &[PublicKey]) -> Result<String, String> {
        let proof = HeadProof::parse(bytes).map_err(|why| why.to_string())?;
        proof.holds(keys).map_err(|why| why.to_string())?;
        if proof.head.ledger != self.about.ledger {
            return Err("it is about another ledger".to_owned());
        }
        let (seq, hash) = (proof.head.seq, proof.head.hash);
        self.report.checkpoint_at = Some(seq);
        if self.signed.get(&seq).is_some_and(|(known, _)| *known != hash) {
            return Err(format!("a receipt says that record {seq} is another one"));
        }
        self.signed.insert(seq, (hash, "the checkpoint"));
        Ok(proof.checkpoint.as_str().to_owned())
    }

    /// Lines of a host's ledger.
    pub(super) fn records(&mut self, range: Range, bytes: &[u8]) -> Vec<String> {
        let mut findings = self.go_on(range);
        if !self.about.is_host() {
            findings.push("these are a host's lines, and the ledger is none".to_owned());
        }
        let Some(mut open) = self.open.take() else { return findings };
        let (mut first, mut last) = (None, None);
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let Some(verifier) = open.verifier.as_mut() else { break };
            let (record, _) = verifier.line(line);
            let Some(record) = record else { continue };
            let (seq, hash) = (record.seq(), record.hash());
            (open.last, open.hash) = (seq, hash);
            (first, last) = (first.or(Some(seq)), Some(seq));
            findings.extend(self.meet(seq, hash));
        }
        if (first, last) != (Some(range.first), Some(range.last)) {
            findings.push(format!("it does not hold records {} to {}, as its name says", range.first, range.last));
        }
        self.open = Some(open);
        findings
    }

    /// Lines of a chain that the server keeps.
    pub(super) fn entries(&mut self, range: Range, bytes: &[u8]) -> Vec<String> {
        let mut findings = self.go_on(range);
        if self.about.is_host() || self.owed.is_some() {
            findings.push(
                "these are lines of a chain that the server keeps, and something else has to stand here".to_owned(),
            );
        }
        let Some(mut open) = self.open.take() else { return findings };
        let (mut expected, mut data) = (range.first, Vec::new());
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let hash = Hash::of(line);
            match serde_json::from_slice::<Entry>(line) {
                Ok(entry) if entry.ledger != self.about.ledger.as_str() => {
                    findings.push("a line of another chain".to_owned())
                }
                Ok(entry) if entry.seq != expected => {
                    findings.push(format!("record {expected} is missing, or another stands in its place"));
                    expected = entry.seq;
                    data.push(entry.data_sha256);
                }
                Ok(entry) => {
                    if entry.seq > open.first && entry.prev != open.hash {
                        findings.push(format!("record {expected}: the chain is broken before it"));
                    }
                    data.push(entry.data_sha256);
                }
                Err(error) => findings.push(format!("record {expected}: {error}")),
            }
            (open.last, open.hash) = (expected, hash);
            findings.extend(self.meet(expected, hash));
            expected += 1;
        }
        if expected != range.last + 1 {
            findings.push(format!("it does not hold records {} to {}, as its name says", range.first, range.last));
        }
        self.open = Some(open);
        self.owed = Some((range, data));
        findings.truncate(MAX_TOLD);
        findings
    }

    /// What these lines are over.
    pub(super) fn data(&mut self, range: Range, bytes: &[u8]) -> Vec<String> {
        let Some((_, owed)) = self.owed.take().filter(|(lines, _)| *lines == range) else {
            return vec!["the lines that it belongs to do not stand before it".to_owned()];
        };
        let data: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
        if data.len() != owed.len() {
            return vec![format!("it has {} lines, and the chain has {}", data.len(), owed.len())];
        }
        let mut findings = Vec::new();
        for ((line, wanted), seq) in data.iter().zip(&owed).zip(range.first..) {
            let is_it = line.strip_suffix(b"\n").is_some_and(|line| Hash::of(line).to_string() == *wanted);
            if !is_it && findings.len() < MAX_TOLD {
                findings.push(format!("record {seq}: it has other bytes than the chain says"));
            }
        }
        findings
    }

    /// Holds a record against what the server has signed about it.
    fn meet(&mut self, seq: u64, hash: Hash) -> Option<String> {
        let (signed, what) = self.signed.remove(&seq)?;
        if signed != hash {
            return Some(format!("record {seq} is not the one that {what} of the server's names"));
        }
        self.report.acknowledged_to = self.report.acknowledged_to.max(seq);
        None
    }

    /// Goes on with the run, or ends it and begins another.
    fn go_on(&mut self, range: Range) -> Vec<String> {
        if self.open.as_ref().is_some_and(|open| open.last + 1 == range.first) {
            return Vec::new();
        }
        let mut findings = self.end_run();
        if self.runs.last().is_some_and(|run| run.last >= range.first) {
            findings.push(format!("records from {} on came before", range.first));
        }
        let key = self.keys.iter().rfind(|(first, _)| *first <= range.first).map(|(_, key)| key.clone());
        let begin = |key: PublicKey| Verifier::new(Depth::Chain, Trust::Key(Box::new(key.clone()))).beginning_with(key);
        let verifier = key.filter(|_| self.about.is_host()).map(begin);
        if verifier.is_none() && self.about.is_host() {
            findings.push(format!("no key is known that signs record {}", range.first));
        }
        self.open = Some(Open { first: range.first, last: range.first - 1, hash: Hash::ZERO, verifier });
        findings
    }

    fn end_run(&mut self) -> Vec<String> {
        let Some(open) = self.open.take() else { return Vec::new() };
        self.runs.push(Run { first: open.first, last: open.last, hash: open.hash });
        self.report.records += (open.last + 1).saturating_sub(open.first);
        self.report.runs += 1;
        let about = &self.about;
        let Some(verifier) = open.verifier else { return Vec::new() };
        let verdict = verifier.finish();
        let tell = |what: &dyn std::fmt::Display| format!("ledger {} of {}: {what}", about.ledger, about.name);
        let mut findings: Vec<String> = verdict.findings.iter().take(MAX_TOLD).map(|one| tell(one)).collect();
        let more = verdict.findings.len().saturating_sub(MAX_TOLD) as u64 + verdict.more;
        if more > 0 {
            findings.push(tell(&format_args!("{more} more like these")));
        }
        if verdict.ledger.is_some_and(|ledger| ledger != about.ledger) {
            findings.push(tell(&"its records are of another ledger"));
        }
        if verdict.host.is_some() && verdict.host != self.host {
            findings.push(tell(&"its records are of another host"));
        }
        findings
    }

    /// Ends it.
    pub(super) fn end(mut self) -> Done {
        let mut findings = self.end_run();
        let ledger = self.about.ledger.clone();
        if self.owed.is_some() {
            findings.push(format!("ledger {ledger}: the data of its last records are missing"));
        }
        for (seq, (_, what)) in &self.signed {
            if self.runs.iter().any(|run| (run.first..=run.last).contains(seq)) {
                findings
                    .push(format!("ledger {ledger}: record {seq}, which {what} of the server's names, is not in it"));
            }
        }
        Done { about: self.about, runs: self.runs, report: self.report, findings }
    }
}
