//! What a verification came to, on one screen: what holds, what is missing, and what nobody can know.

use serde::Serialize;

use crate::manifest::Manifest;

/// Ledgers that are listed; more are counted.
const LISTED: usize = 20;
/// Sentences on what is missing that are listed.
const MISSING: usize = 10;

/// What no case file shows, whoever made it.
pub const UNKNOWABLE: &[&str] = &[
    "Who sat at the keyboard: a record names the person whose key it was.",
    "What root on a host, who has the host's key, wrote in a record before it reached the server. What a receipt covers was not \
     changed since.",
    "What a host stated after its last record here, and what one that fell silent did.",
    "Whether ledgers that are not in the case say something about the person or host: that none does is the server's word.",
    "What was done within a session: records say that it was opened and closed, and not what was typed.",
];

/// What a verification came to.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Whether nothing at all is off.
    pub good: bool,
    /// The fingerprint of the key that signed the manifest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signed_by: Option<String>,
    /// Whether that key came from elsewhere than the case file itself.
    pub trusted: bool,
    /// What the case is about.
    pub about: String,
    /// When it was made, by the server's clock.
    pub made: String,
    /// The server's name.
    pub server: String,
    /// How many members are as the server signed them.
    pub files: u64,
    /// The ledgers.
    pub ledgers: Vec<LedgerReport>,
    /// The checkpoint's number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<u64>,
    /// How many documents there are.
    pub documents: u64,
    /// How many signatures of theirs hold.
    pub signatures: u64,
    /// Everything that is off.
    pub findings: Vec<String>,
    /// How many findings there are beyond those.
    pub more: u64,
    /// What is missing, by the server's word.
    pub missing: Vec<String>,
}

/// What a ledger came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LedgerReport {
    /// Its id.
    pub ledger: String,
    /// Whose it is: `host`, `client` or `person`.
    pub kind: String,
    /// Their name.
    pub name: String,
    /// How many records there are.
    pub records: u64,
    /// In how many runs.
    pub runs: u64,
    /// Up to which record a receipt, or the checkpoint, says that it is as the server has it; 0 where none does.
    pub acknowledged_to: u64,
    /// Where it stood in the checkpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint_at: Option<u64>,
}

impl Report {
    pub(super) fn tell(&mut self, manifest: &Manifest) {
        let asked = &manifest.asked;
        let about = [("person", &asked.person), ("host", &asked.host), ("stack", &asked.stack)];
        let mut words: Vec<String> =
            about.iter().filter_map(|(what, name)| name.as_ref().map(|name| format!("{what} {name}"))).collect();
        words.extend(asked.from.map(|from| format!("from {from}")));
        words.extend(asked.to.map(|to| format!("to {to}")));
        self.about = words.join(", ");
        self.made = manifest.made.to_string();
        self.server.clone_from(&manifest.server);
        self.missing.clone_from(&manifest.missing);
    }

    /// How many records there are in all ledgers.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.ledgers.iter().map(|ledger| ledger.records).sum()
    }

    /// The same for people. Names are as the case file has them: whoever shows this makes them safe for a terminal.
    #[must_use]
    pub fn words(&self) -> String {
        let mut text = format!("case   {}\nmade   {} by {}\n", self.about, self.made, self.server);
        match (&self.signed_by, self.trusted) {
            (Some(key), true) => text.push_str(&format!("signed {key}, which you named\n")),
            (Some(key), false) => text.push_str(&format!(
                "signed {key}, which the case itself names: it is whole, and whose it is you know once you compare that key\n"
            )),
            (None, _) => text.push_str("signed by nobody who is known\n"),
        }
        if self.good {
            self.holds(&mut text)
        } else {
            self.wrong(&mut text)
        }
        section(&mut text, "missing, as the server says", &self.missing);
        let unknowable: Vec<String> = UNKNOWABLE.iter().map(|one| (*one).to_owned()).collect();
        section(&mut text, "nobody can know from this", &unknowable);
        text
    }

    fn holds(&self, text: &mut String) {
        text.push_str(&format!(
            "good: {} files as signed; {} records in {} ledgers, each a chain whose signature holds; {} signatures of {} documents\n",
            self.files,
            self.records(),
            self.ledgers.len(),
            self.signatures,
            self.documents
        ));
        for ledger in self.ledgers.iter().take(LISTED) {
            let LedgerReport { kind, name, records, acknowledged_to, .. } = ledger;
            let acknowledged = match acknowledged_to {
                0 => "by the manifest alone".to_owned(),
                to => format!("receipt or checkpoint to {to}"),
            };
            text.push_str(&format!("  {kind} {name}: {records} records, {acknowledged}\n"));
        }
        if self.ledgers.len() > LISTED {
            text.push_str(&format!("  and {} ledgers more\n", self.ledgers.len() - LISTED));
        }
        if let Some(number) = self.checkpoint {
            text.push_str(&format!("  checkpoint {number}: hold it against one that you kept\n"));
        }
    }

    fn wrong(&self, text: &mut String) {
        let found = self.findings.len() as u64 + self.more;
        text.push_str(&format!("WRONG: {found} {} off\n", if found == 1 { "thing is" } else { "things are" }));
        self.findings.iter().take(LISTED).for_each(|finding| text.push_str(&format!("  - {finding}\n")));
        if found > LISTED as u64 {
            text.push_str(&format!("  and {} more\n", found - LISTED as u64));
        }
    }
}

fn section(text: &mut String, title: &str, sentences: &[String]) {
    if sentences.is_empty() {
        return;
    }
    text.push_str(&format!("{title}:\n"));
    sentences.iter().take(MISSING).for_each(|one| text.push_str(&format!("  - {one}\n")));
    if sentences.len() > MISSING {
        text.push_str(&format!("  and {} more: index.html lists them\n", sentences.len() - MISSING));
    }
}
