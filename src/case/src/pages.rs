//! The pages for people: what is in a case file, who got in when and on whose word, what is missing, and what nobody can know.

use jiff::Timestamp;
use record::LedgerId;

use crate::{
    html::{page, text},
    manifest::{LedgerEntry, Manifest},
    member::Member,
    verify::UNKNOWABLE,
};

/// Bytes of a page of a timeline, at most about.
const PAGE: usize = 512 << 10;
/// Grants, and requirements, that the first page lists; more are counted.
const LISTED: usize = 1000;

/// One record, as it is shown.
#[derive(Debug, Clone, Default)]
pub struct Row {
    /// Its number.
    pub seq: u64,
    /// When, as it says.
    pub time: String,
    /// What.
    pub kind: String,
    /// Who.
    pub person: String,
    /// As which account.
    pub account: String,
    /// In a sentence.
    pub reason: String,
    /// On whose word, where it says so.
    pub word: String,
}

/// The pages of one ledger, as they are filled.
#[derive(Debug)]
pub struct Timeline {
    ledger: LedgerId,
    title: String,
    rows: String,
    page: u32,
}

impl Timeline {
    /// None yet.
    #[must_use]
    pub fn new(ledger: LedgerId, kind: &str, name: &str) -> Self {
        Self { ledger, title: format!("{kind} {name}"), rows: String::new(), page: 0 }
    }

    /// Adds a record; a page where that is full.
    pub fn row(&mut self, row: &Row) -> Option<(Member, String)> {
        let Row { seq, time, kind, person, account, reason, word } = row;
        let cells = [time, kind, person, account, reason, word].map(|cell| text(cell));
        let [time, kind, person, account, reason, word] = cells;
        self.rows.push_str(&format!(
            "<tr><td>{seq}</td><td><time>{time}</time></td><td><code>{kind}</code></td><td>{person}</td><td>{account}</td>\
             <td>{reason}</td><td>{word}</td></tr>\n"
        ));
        if self.rows.len() > PAGE { self.page() } else { None }
    }

    /// The page with what has come since the last one.
    pub fn page(&mut self) -> Option<(Member, String)> {
        if self.rows.is_empty() {
            return None;
        }
        self.page += 1;
        let rows = std::mem::take(&mut self.rows);
        let body = format!(
            "<p><a href=\"../index.html\">The case</a>. Ledger <code>{}</code>, page {}. Each row is a record of it.</p>\n\
             <div class=\"wide\"><table><thead><tr><th>Record</th><th>Time</th><th>What</th><th>Who</th><th>Account</th>\
             <th>In words</th><th>On whose word</th></tr></thead>\n<tbody>{rows}</tbody></table></div>\n",
            self.ledger, self.page
        );
        Some((Member::Timeline(self.ledger.clone(), self.page), page(&self.title, &body)))
    }

    /// How many pages there are.
    #[must_use]
    pub fn pages(&self) -> u32 {
        self.page
    }
}

/// A grant, as it is shown.
#[derive(Debug, Clone)]
pub struct Grant {
    /// When.
    pub time: String,
    /// On which host.
    pub host: String,
    /// Who may.
    pub person: String,
    /// Which account.
    pub account: String,
    /// Until when.
    pub until: String,
    /// On whose word.
    pub word: String,
    /// Why.
    pub why: String,
}

/// A requirement, as it is shown.
#[derive(Debug, Clone)]
pub struct Requirement {
    /// Its full reference.
    pub reference: String,
    /// Its name.
    pub name: String,
    /// What there is of it.
    pub status: String,
    /// In a sentence.
    pub says: String,
}

/// What the first page is made of.
#[derive(Debug)]
pub struct Index<'a> {
    /// What is in the case.
    pub manifest: &'a Manifest,
    /// How many pages each ledger has, in the manifest's order.
    pub pages: &'a [u32],
    /// Grants, in the order in which they were found.
    pub grants: &'a [Grant],
    /// How many more there are.
    pub more_grants: u64,
    /// Requirements.
    pub requirements: &'a [Requirement],
    /// The documents, each with its kind and who signed it, by the server's word.
    pub documents: &'a [(document::Id, String, String)],
}

/// The first page.
#[must_use]
pub fn index(of: &Index<'_>) -> String {
    let manifest = of.manifest;
    let asked = &manifest.asked;
    let about = [("person", &asked.person), ("host", &asked.host), ("stack", &asked.stack)];
    let about: Vec<String> =
        about.iter().filter_map(|(what, name)| name.as_ref().map(|name| format!("{what} {name}"))).collect();
    let time = |at: Option<Timestamp>, none: &str| at.map_or_else(|| none.to_owned(), |at| at.to_string());
    let mut body = format!(
        "<p>From <time>{}</time> to <time>{}</time>. Made by {} at <time>{}</time>.</p>\n\
         <p><strong>Verify before you read</strong>: <code>lockdown verify case.tar --server-key FILE</code>, or with stock tools \
         <code>sh verify.sh SERVER_SIGNERS</code>, with the server's key from a place that you trust. This page alone proves nothing.</p>\n",
        text(&time(asked.from, "the beginning")),
        text(&time(asked.to, "when it was made")),
        text(&manifest.server),
        text(&manifest.made.to_string())
    );
    body.push_str(&grants(of));
    body.push_str(&ledgers(of));
    body.push_str(&list("What is missing", &manifest.missing, "The server knows of nothing that is missing."));
    let unknowable: Vec<String> = UNKNOWABLE.iter().map(|one| (*one).to_owned()).collect();
    body.push_str(&list("What nobody can know from this", &unknowable, ""));
    body.push_str(&documents(of));
    body.push_str(&requirements(of));
    page(&format!("Case: {}", about.join(", ")), &body)
}

fn list(title: &str, sentences: &[String], none: &str) -> String {
    if sentences.is_empty() {
        return format!("<h2>{title}</h2>\n<p>{none}</p>\n");
    }
    let items: String = sentences.iter().map(|one| format!("<li>{}</li>\n", text(one))).collect();
    format!("<h2>{title}</h2>\n<ul>\n{items}</ul>\n")
}

fn table(title: &str, head: &[&str], rows: &[Vec<String>], more: u64) -> String {
    let cells = |tag: &str, all: &[String]| all.iter().map(|cell| format!("<{tag}>{cell}</{tag}>")).collect::<String>();
    let head: Vec<String> = head.iter().map(|one| text(one)).collect();
    let rows: String = rows.iter().map(|row| format!("<tr>{}</tr>\n", cells("td", row))).collect();
    let more = if more > 0 { format!("<p>And {more} more.</p>\n") } else { String::new() };
    format!(
        "<h2>{title}</h2>\n<div class=\"wide\"><table><thead><tr>{}</tr></thead>\n<tbody>{rows}</tbody></table></div>\n{more}",
        cells("th", &head)
    )
}

fn grants(of: &Index<'_>) -> String {
    if of.grants.is_empty() {
        return "<h2>Grants</h2>\n<p>No record in this case says that somebody got leave to log in.</p>\n".to_owned();
    }
    let row = |one: &Grant| {
        [&one.time, &one.until, &one.person, &one.account, &one.host, &one.word, &one.why]
            .map(|cell| text(cell))
            .to_vec()
    };
    let rows: Vec<Vec<String>> = of.grants.iter().take(LISTED).map(row).collect();
    let more = of.more_grants + of.grants.len().saturating_sub(LISTED) as u64;
    table("Grants", &["From", "Until", "Who", "Account", "Host", "On whose word", "Why"], &rows, more)
}

fn ledgers(of: &Index<'_>) -> String {
    let row = |(entry, pages): (&LedgerEntry, &u32)| {
        let runs: Vec<String> = entry.runs.iter().map(|run| format!("{} to {}", run.first, run.last)).collect();
        let link = |page: u32| {
            let name = Member::Timeline(entry.ledger.clone(), page).name();
            format!("<a href=\"{name}\">{page}</a>")
        };
        vec![
            format!("{} {}", text(&entry.kind), text(&entry.name)),
            format!("<code>{}</code>", entry.ledger),
            text(&runs.join(", ")),
            text(&entry.stands),
            (1..=*pages).map(link).collect::<Vec<_>>().join(" "),
        ]
    };
    let rows: Vec<Vec<String>> = of.manifest.ledgers.iter().zip(of.pages).map(row).collect();
    table("Ledgers", &["Of", "Ledger", "Records", "How it stands", "Pages"], &rows, 0)
}

fn documents(of: &Index<'_>) -> String {
    let row = |(id, kind, signers): &(document::Id, String, String)| {
        let name = Member::Document(*id).name();
        vec![format!("<a href=\"{name}\"><code>{id}</code></a>"), text(kind), text(signers)]
    };
    let rows: Vec<Vec<String>> = of.documents.iter().map(row).collect();
    if rows.is_empty() {
        return "<h2>Signed documents</h2>\n<p>No record in this case names one.</p>\n".to_owned();
    }
    table("Signed documents", &["Document", "Kind", "Signed by, as the server says"], &rows, 0)
}

fn requirements(of: &Index<'_>) -> String {
    let row = |one: &Requirement| [&one.reference, &one.name, &one.status, &one.says].map(|cell| text(cell)).to_vec();
    let rows: Vec<Vec<String>> = of.requirements.iter().take(LISTED).map(row).collect();
    let more = of.requirements.len().saturating_sub(LISTED) as u64;
    table("Requirements, judged in this window", &["Requirement", "Name", "Evidence", "In words"], &rows, more)
}
