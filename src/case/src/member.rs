//! The members of a case file: what each is called, and how long it may be. All names are made of ids and numbers: nothing
//! that somebody chose stands in one.

use document::{Id, MAX_ROSTER_ENVELOPE};
use record::{LedgerId, MAX_INTEGER};

/// The directory that all of it is in.
const DIRECTORY: &str = "case/";
/// About how many bytes of lines a part of a ledger has, at most.
pub const MAX_PART: usize = 1 << 20;

/// From which record to which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// The first.
    pub first: u64,
    /// The last.
    pub last: u64,
}

/// One member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Member {
    /// Verifies it all with stock tools.
    Script,
    /// The server's keys.
    ServerSigners,
    /// The hosts' keys.
    Signers,
    /// Whose a ledger is: before its lines.
    Ledger(LedgerId),
    /// Receipts over it.
    Receipts(LedgerId),
    /// That its head is in the checkpoint.
    Proof(LedgerId),
    /// Lines of a host's ledger.
    Records(LedgerId, Range),
    /// Lines of a chain that the server keeps.
    Entries(LedgerId, Range),
    /// What these lines are over, one a line.
    Data(LedgerId, Range),
    /// For people: what a ledger says, a page.
    Timeline(LedgerId, u32),
    /// A signed document.
    Document(Id),
    /// Requirements, judged.
    Requirements,
    /// The checkpoint's note.
    Checkpoint,
    /// For people.
    Index,
    /// What else is in it.
    Manifest,
    /// The signature over that.
    Signature,
}

impl Member {
    /// What it is called in the archive, without the directory that all of it is in.
    #[must_use]
    pub fn name(&self) -> String {
        let of = |ledger: &LedgerId, name: &str| format!("ledgers/{ledger}/{name}");
        let range = |ledger: &LedgerId, Range { first, last }: &Range, end: &str| {
            of(ledger, &format!("{first:016}-{last:016}{end}"))
        };
        match self {
            Self::Script => "verify.sh".to_owned(),
            Self::ServerSigners => "server_signers".to_owned(),
            Self::Signers => "signers".to_owned(),
            Self::Ledger(ledger) => of(ledger, "ledger.json"),
            Self::Receipts(ledger) => of(ledger, "receipts"),
            Self::Proof(ledger) => of(ledger, "proof.json"),
            Self::Records(ledger, lines) => range(ledger, lines, ".jsonl"),
            Self::Entries(ledger, lines) => range(ledger, lines, ".entries"),
            Self::Data(ledger, lines) => range(ledger, lines, ".data"),
            Self::Timeline(ledger, page) => format!("timeline/{ledger}-{page:04}.html"),
            Self::Document(id) => format!("documents/{id}.json"),
            Self::Requirements => "requirements.json".to_owned(),
            Self::Checkpoint => "checkpoint".to_owned(),
            Self::Index => "index.html".to_owned(),
            Self::Manifest => "manifest.json".to_owned(),
            Self::Signature => "manifest.json.sig".to_owned(),
        }
    }

    /// The same with the directory.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{DIRECTORY}{}", self.name())
    }

    /// The member that is called so in an archive.
    #[must_use]
    pub fn of_path(path: &str) -> Option<Self> {
        let name = path.strip_prefix(DIRECTORY)?;
        let found = match name.split('/').collect::<Vec<_>>().as_slice() {
            ["verify.sh"] => Self::Script,
            ["server_signers"] => Self::ServerSigners,
            ["signers"] => Self::Signers,
            ["requirements.json"] => Self::Requirements,
            ["checkpoint"] => Self::Checkpoint,
            ["index.html"] => Self::Index,
            ["manifest.json"] => Self::Manifest,
            ["manifest.json.sig"] => Self::Signature,
            ["ledgers", ledger, file] => Self::of_ledger(ledger.parse().ok()?, file)?,
            ["timeline", file] => {
                let (ledger, page) = file.strip_suffix(".html")?.split_once('-')?;
                Self::Timeline(ledger.parse().ok()?, page.parse().ok()?)
            }
            ["documents", file] => Self::Document(file.strip_suffix(".json")?.parse().ok()?),
            _ => return None,
        };
        // There is one way to write each.
        (found.name() == name).then_some(found)
    }

    fn of_ledger(ledger: LedgerId, file: &str) -> Option<Self> {
        let (stem, end) = file.split_once('.').unwrap_or((file, ""));
        if let Some((first, last)) = stem.split_once('-') {
            let number = |text: &str| text.parse().ok().filter(|n| (1..=MAX_INTEGER).contains(n));
            let lines = Range { first: number(first)?, last: number(last)? };
            return match end {
                _ if lines.first > lines.last => None,
                "jsonl" => Some(Self::Records(ledger, lines)),
                "entries" => Some(Self::Entries(ledger, lines)),
                "data" => Some(Self::Data(ledger, lines)),
                _ => None,
            };
        }
        match file {
            "ledger.json" => Some(Self::Ledger(ledger)),
            "receipts" => Some(Self::Receipts(ledger)),
            "proof.json" => Some(Self::Proof(ledger)),
            _ => None,
        }
    }

    /// How many bytes it has at most.
    #[must_use]
    pub fn most(&self) -> u64 {
        const SMALL: u64 = 64 << 10;
        match self {
            Self::Script | Self::ServerSigners | Self::Receipts(_) | Self::Proof(_) => SMALL,
            Self::Checkpoint | Self::Signature => SMALL,
            Self::Ledger(_) | Self::Records(..) | Self::Entries(..) | Self::Data(..) => 2 * MAX_PART as u64,
            Self::Timeline(..) | Self::Index | Self::Signers => 4 << 20,
            Self::Document(_) => MAX_ROSTER_ENVELOPE as u64,
            Self::Requirements => 16 << 20,
            Self::Manifest => 32 << 20,
        }
    }
}
