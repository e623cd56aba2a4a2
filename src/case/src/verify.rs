//! Verifying a case file in one pass: each member is looked at as it comes, and forgotten; the manifest, which comes last, says
//! whether they were all there, and as they were signed.

mod chain;
mod documents;
mod report;

use std::{collections::BTreeMap, io::Read};

use record::{AllowedSigner, Hash, LedgerId, checkpoint::SignedCheckpoint};
use ssh_key::{HashAlg, PublicKey};

use self::chain::Chain;
pub use self::report::{LedgerReport, Report, UNKNOWABLE};
use crate::{
    about::About,
    manifest::{FileEntry, Manifest, Run, signer},
    member::Member,
    tar::{Reader, TarError},
};

/// Members that are read, at most.
const MAX_MEMBERS: usize = 200_000;
/// Findings that are kept; more are counted.
const MAX_FINDINGS: usize = 50;

/// Verifies a case file. `keys` are the server's, from elsewhere; without them those that the file itself names are taken,
/// which shows that it is whole, and not whose it is.
#[must_use]
pub fn verify(input: impl Read, keys: Option<Vec<PublicKey>>) -> Report {
    let mut check = Check::new(keys);
    match check.read(input) {
        Ok(()) => check.compare(),
        Err(error) => check.find(format!("the archive: {error}")),
    }
    check.report()
}

/// What was found so far.
#[derive(Debug, Default)]
struct Check {
    keys: Vec<PublicKey>,
    trusted: bool,
    signers: Vec<AllowedSigner>,
    /// Every member but the manifest and its signature.
    seen: Vec<FileEntry>,
    time: Option<u64>,
    chain: Option<Chain>,
    ledgers: Vec<(About, Vec<Run>)>,
    notes: BTreeMap<String, LedgerId>,
    checkpoint: Option<u64>,
    manifest: Option<(Manifest, Vec<u8>)>,
    signed: bool,
    report: Report,
}

impl Check {
    fn new(keys: Option<Vec<PublicKey>>) -> Self {
        Self { trusted: keys.is_some(), keys: keys.unwrap_or_default(), ..Self::default() }
    }

    fn find(&mut self, finding: impl Into<String>) {
        if self.report.findings.len() < MAX_FINDINGS {
            self.report.findings.push(finding.into());
        } else {
            self.report.more += 1;
        }
    }

    fn read(&mut self, input: impl Read) -> Result<(), TarError> {
        let mut reader = Reader::new(input);
        while let Some(head) = reader.head()? {
            let Some(member) = Member::of_path(&head.name) else {
                return Err(TarError::Name { name: record::escape(head.name.as_bytes()), at: head.at });
            };
            if self.seen.len() >= MAX_MEMBERS {
                return Err(TarError::TooMany(MAX_MEMBERS));
            }
            let bytes = reader.content(&head, member.most())?;
            if *self.time.get_or_insert(head.time) != head.time {
                self.find(format!("{} has another moment than the members before", member.name()));
            }
            self.member(member, bytes);
        }
        Ok(())
    }

    fn member(&mut self, member: Member, bytes: Vec<u8>) {
        let name = member.name();
        if self.signed {
            self.find(format!("{name} stands after the manifest's signature, where nothing does"));
        }
        if !matches!(member, Member::Manifest | Member::Signature) {
            self.seen.push(FileEntry { name: name.clone(), size: bytes.len() as u64, sha256: Hash::of(&bytes) });
        }
        match member {
            Member::ServerSigners => self.server_signers(&bytes),
            Member::Signers => match text(&bytes).map(AllowedSigner::parse_file) {
                Some(Ok(signers)) => self.signers = signers,
                Some(Err(error)) => self.find(format!("signers: {error}")),
                None => self.find("signers: it is not text"),
            },
            Member::Ledger(ledger) => self.ledger(&ledger, &bytes),
            Member::Receipts(ledger) => self.within(&ledger, &name, |chain, check| chain.receipts(&bytes, &check.keys)),
            Member::Proof(ledger) => self.proof(&ledger, &name, &bytes),
            Member::Records(ledger, range) => self.within(&ledger, &name, |chain, _| chain.records(range, &bytes)),
            Member::Entries(ledger, range) => self.within(&ledger, &name, |chain, _| chain.entries(range, &bytes)),
            Member::Data(ledger, range) => self.within(&ledger, &name, |chain, _| chain.data(range, &bytes)),
            Member::Document(id) => match documents::check(id, &bytes) {
                Ok(signatures) => {
                    self.report.documents += 1;
                    self.report.signatures += signatures;
                }
                Err(why) => self.find(format!("{name}: {why}")),
            },
            Member::Checkpoint => self.checkpoint(&bytes),
            Member::Manifest => self.take_manifest(bytes),
            Member::Signature => self.signature(&bytes),
            Member::Script | Member::Timeline(..) | Member::Requirements | Member::Index => {}
        }
    }

    /// The server's keys that the file names: they count where nobody has named others.
    fn server_signers(&mut self, bytes: &[u8]) {
        let parsed = text(bytes).map(AllowedSigner::parse_file);
        match parsed {
            Some(Ok(signers)) if !self.trusted => self.keys = signers.iter().map(|one| one.key().clone()).collect(),
            Some(Ok(_)) => {}
            Some(Err(error)) => self.find(format!("server_signers: {error}")),
            None => self.find("server_signers: it is not text"),
        }
    }

    fn ledger(&mut self, ledger: &LedgerId, bytes: &[u8]) {
        self.end_ledger();
        let about: About = match serde_json::from_slice(bytes) {
            Ok(about) => about,
            Err(error) => return self.find(format!("ledgers/{ledger}/ledger.json: {error}")),
        };
        if about.ledger != *ledger || self.ledgers.iter().any(|(known, _)| known.ledger == *ledger) {
            return self
                .find(format!("ledgers/{ledger}/ledger.json is about another ledger, or the second one about it"));
        }
        let (chain, findings) = Chain::of(about, &self.signers);
        findings.into_iter().for_each(|finding| self.find(finding));
        self.chain = Some(chain);
    }

    /// Has the chain that is being read do something with a member, which has to be of it.
    fn within(&mut self, ledger: &LedgerId, name: &str, act: impl FnOnce(&mut Chain, &Self) -> Vec<String>) {
        let Some(mut chain) = self.chain.take().filter(|chain| chain.about.ledger == *ledger) else {
            return self.find(format!("{name} does not stand with the other files of its ledger"));
        };
        let findings = act(&mut chain, self);
        self.chain = Some(chain);
        findings.into_iter().for_each(|finding| self.find(format!("{name}: {finding}")));
    }

    fn proof(&mut self, ledger: &LedgerId, name: &str, bytes: &[u8]) {
        let mut note = None;
        self.within(ledger, name, |chain, check| match chain.proof(bytes, &check.keys) {
            Ok(found) => {
                note = Some(found);
                Vec::new()
            }
            Err(why) => vec![why],
        });
        if let Some(note) = note {
            self.notes.insert(note, ledger.clone());
        }
    }

    fn end_ledger(&mut self) {
        let Some(chain) = self.chain.take() else { return };
        let done = chain.end();
        done.findings.into_iter().for_each(|finding| self.find(finding));
        self.ledgers.push((done.about, done.runs));
        self.report.ledgers.push(done.report);
    }

    fn checkpoint(&mut self, bytes: &[u8]) {
        match SignedCheckpoint::parse(bytes) {
            Ok(note) if self.keys.iter().any(|key| note.is_signed_by(key)) => {
                self.checkpoint = Some(note.checkpoint().number);
                if let Some(other) = self.notes.keys().find(|other| *other != note.as_str()) {
                    let ledger = self.notes.get(other).cloned();
                    let ledger = ledger.map(|ledger| ledger.to_string()).unwrap_or_default();
                    self.find(format!(
                        "ledgers/{ledger}/proof.json is about another checkpoint than the one in the case"
                    ));
                }
            }
            Ok(_) => self.find("checkpoint: it is not signed by the server's key"),
            Err(error) => self.find(format!("checkpoint: {error}")),
        }
    }

    fn take_manifest(&mut self, bytes: Vec<u8>) {
        self.end_ledger();
        if self.manifest.is_some() {
            return self.find("there are two manifests");
        }
        match Manifest::parse(&bytes) {
            Ok(manifest) => self.manifest = Some((manifest, bytes)),
            Err(error) => self.find(error.to_string()),
        }
    }

    fn signature(&mut self, armored: &[u8]) {
        self.signed = true;
        let by = self.manifest.as_ref().and_then(|(_, bytes)| signer(bytes, armored, &self.keys));
        match by.map(|key| key.fingerprint(HashAlg::Sha256).to_string()) {
            Some(key) => self.report.signed_by = Some(key),
            None if self.trusted => {
                self.find(
                    "manifest.json is not signed by the server's key that was given: changed, or another server's",
                );
            }
            None => self.find("manifest.json is not signed by the key that the case file names as the server's"),
        }
    }

    /// Holds all that was seen against the manifest.
    fn compare(&mut self) {
        self.end_ledger();
        let Some((manifest, _)) = self.manifest.take() else { return self.find("manifest.json is missing") };
        if !self.signed {
            self.find("manifest.json.sig is missing: nobody vouches for what is in the case");
        }
        if self.time != u64::try_from(manifest.made.as_second()).ok() {
            self.find("the members have another moment than the manifest says");
        }
        self.files(&manifest);
        self.runs(&manifest);
        if self.checkpoint != manifest.checkpoint {
            self.find("the checkpoint is missing, or another one than the manifest says");
        }
        self.report.tell(&manifest);
    }

    fn files(&mut self, manifest: &Manifest) {
        let seen = std::mem::take(&mut self.seen);
        let listed: BTreeMap<&str, &FileEntry> = manifest.files.iter().map(|file| (file.name.as_str(), file)).collect();
        let mut left = listed.clone();
        for file in &seen {
            match (left.remove(file.name.as_str()), listed.contains_key(file.name.as_str())) {
                (Some(wanted), _) if wanted == file => self.report.files += 1,
                (Some(_), _) => self.find(format!("{} is not as the server signed it: it was changed", file.name)),
                (None, true) => self.find(format!("{} is there twice", file.name)),
                (None, false) => self.find(format!("{} was added: the manifest does not list it", file.name)),
            }
        }
        for name in left.keys() {
            self.find(format!("{} is missing", record::escape(name.as_bytes())));
        }
        if left.is_empty() && seen.len() == manifest.files.len() {
            let same = seen.iter().zip(&manifest.files).all(|(one, other)| one.name == other.name);
            if !same {
                self.find("the members stand in another order than the manifest has them");
            }
        }
    }

    fn runs(&mut self, manifest: &Manifest) {
        let ledgers = std::mem::take(&mut self.ledgers);
        for entry in &manifest.ledgers {
            let found = ledgers.iter().find(|(about, _)| about.ledger == entry.ledger);
            match found {
                None => self.find(format!("ledger {} is missing", entry.ledger)),
                Some((about, runs)) => {
                    if about.kind != entry.kind || about.name != entry.name {
                        self.find(format!("ledger {} is another one's than the manifest says", entry.ledger));
                    }
                    if *runs != entry.runs {
                        self.find(format!("ledger {} has other records than the manifest says", entry.ledger));
                    }
                }
            }
        }
        if ledgers.len() > manifest.ledgers.len() {
            self.find("there are more ledgers than the manifest says");
        }
    }

    fn report(self) -> Report {
        let mut report = self.report;
        report.trusted = self.trusted;
        report.checkpoint = self.checkpoint;
        report.good = report.findings.is_empty() && report.more == 0 && report.signed_by.is_some();
        report
    }
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests;
