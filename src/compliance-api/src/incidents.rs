//! Incidents: what is not as it should be, found by the server, with what it means and what to do.
//!
//! Pure: noting.rs writes them down.

use std::net::IpAddr;

use serde_json::{Map, Value};

/// Bytes of a subject.
const MAX_SUBJECT: usize = 128;

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident => $word:literal, $title:literal, $means:literal, $act:literal;)*) => {
        /// What kind of thing is wrong.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Kind {
            $($(#[$doc])* $variant,)*
        }

        impl Kind {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The word in the database and in answers.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }

            /// What happened, in a few words.
            #[must_use]
            pub fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)* }
            }

            /// What it means.
            #[must_use]
            pub fn means(self) -> &'static str {
                match self { $(Self::$variant => $means,)* }
            }

            /// What to do about it.
            #[must_use]
            pub fn what_to_do(self) -> &'static str {
                match self { $(Self::$variant => $act,)* }
            }
        }
    };
}

kinds! {
    /// Authentic records that contradict stored ones.
    Fork => "fork", "a ledger has forked",
        "The host's own key signed records that contradict records this server had acknowledged: the host was restored from an earlier state, its image runs twice, or somebody with root there rewrote its ledger. The stored records stand; the others are kept apart.",
        "Find out whether the host was restored or cloned. The daemon opens a new ledger by itself when its shipper meets the fork; approve it once you know why. Otherwise treat the host as compromised from the first contradicted record on.";
    /// Records that were pruned before they came.
    Pruned => "pruned", "records were pruned before this server had them",
        "The host removed old records from its disk before they had been shipped. Its ledger.pruned accounts for the range, so the chain goes on; what those records said is lost here.",
        "See whether the host has a copy of the segments elsewhere, and give it more space (ledger.max_size), or mend what kept it from shipping.";
    /// Somebody sends records of a ledger that nobody enrolled.
    UnknownSigner => "unknown_signer", "records of a ledger that nobody enrolled",
        "Something sent records signed by a key that this server does not know, and did not enrol it.",
        "If it is a host of yours, give it a working enrolment token. If not, somebody tries to pass off records: find out who has the address.";
    /// Signatures or bytes that do not hold.
    NotAuthentic => "not_authentic", "records that do not hold",
        "Records came under a known ledger whose signature or form does not hold. None of them was stored.",
        "Compare the host's ledger with what is stored: `lockdownctl verify --receipts`. Something between the host's ledger and this server changes records, or somebody forges them.";
    /// Records sent as another host's.
    WrongHost => "wrong_host", "records sent under another host's name",
        "Records of one host were sent as those of another: a replay, or a host with another's state.",
        "Find out who sent them; if a disk or image was moved, the daemon there begins a new ledger by itself at its next start.";
    /// A second ledger for a known host.
    SecondLedger => "second_ledger", "another key for a known host",
        "A host that is known came with a new key and a new ledger: it was reinstalled, restored or cloned, or somebody uses its name. Its records are stored, and left out of what is read until an admin approves.",
        "Find out why the host has a new ledger (`ledger.opened` says what broke), then approve it: POST /v1/enrolments/LEDGER/approve.";
    /// Records that name another stack than the token that enrolled their ledger.
    OtherStack => "other_stack", "records of another stack than the host was enrolled for",
        "A host that was enrolled with one stack's token states records of another stack. They are stored, and shown as records of the stack that they name.",
        "If the host was moved to that stack on purpose, this is expected. If not, its records there are no evidence about that stack: treat the host as compromised, and revoke the enrolment token.";
    /// A host's clock is far off.
    ClockOff => "clock_off", "a clock is far off",
        "Records carry a time that is far from this server's. They are stored and flagged; their order is by number, not by time.",
        "Mend the time synchronisation of the host or client.";
    /// A type that this server does not know.
    UnknownType => "unknown_type", "a type of record that this server does not know",
        "A host sent records of a type that this version does not know. They are stored and flagged, and are no evidence yet.",
        "Bring this server up to the version of the hosts' packages.";
    /// A client's other artifact under a known id.
    Conflict => "conflict", "another artifact under a known id",
        "A client sent an artifact under an id that it had used for one of another type, time or data. The first one stands.",
        "Mend the client: an id names one artifact for ever.";
    /// A host that said when it would be heard of next, and was not.
    Silent => "silent", "a host is silent",
        "The host did not stop in good order and has not been heard of since it should have been. What happened there since its last record is unknown.",
        "See whether the host is up, and whether its shipper reaches this server (`lockdownctl status` there).";
    /// Two signed rosters of one version.
    TwoRosters => "two_rosters", "two signed rosters of one version",
        "A roster came that the configuration's keys have signed, with the version of the one in force and other bytes. Hosts go by whichever they heard first.",
        "Find out who signed the other one, then sign and publish a roster with a higher version.";
    /// What a host attests of its feed is not what the server holds.
    OtherFeed => "other_feed", "a host heard another feed than this server holds",
        "A host attests that this server's key vouched for a feed of its stack that holds other documents than the one here, or more: the server was restored from an earlier state, or somebody has its key and showed the host a feed of their own. What closes may not have come to that host.",
        "If this server was restored, hosts begin its feed anew by themselves within minutes. If not, treat its key as stolen: lock the stack down, rotate the server's key and `ship.api.receipt_keys` on the hosts, and compare `document.accepted` of that host with the documents here.";
    /// A feeder that was heard of, and is not any more.
    ReaderSilent => "reader_silent", "a reader does not look at its source",
        "The feeder of a source has not said for too long that it looked there and did all that it should have. Who left there since is not held, and who joined is not proposed. `detail` says when it last did, and what it said last.",
        "See how it does on its machine (`systemctl status lockdown-iam.timer`, `journalctl -u lockdown-iam`, `lockdown-iam check`). Until then, hold who leaves by hand: `lockdown lockdown --person NAME --hold`.";
    /// Tokens that open nothing.
    BadToken => "bad_token", "requests with tokens that open nothing",
        "Requests came with tokens that are unknown, have ended, were revoked, or have no use left.",
        "Give whoever it is a new token, or find out who tries.";
}

impl Kind {
    /// Whether anybody who reaches the server can cause it, without a token or a key, under as many subjects as he likes.
    #[must_use]
    pub fn is_anybodys(self) -> bool {
        matches!(self, Self::UnknownSigner | Self::BadToken | Self::WrongHost)
    }
}

/// One occurrence, or several alike.
#[derive(Debug, Clone, PartialEq)]
pub struct Incident {
    /// What kind.
    pub kind: Kind,
    /// What it is about: a ledger, a host, a client, an address. Open incidents are one per kind and subject.
    pub subject: String,
    /// The host, where one is known.
    pub host: Option<String>,
    /// The ledger, where one is known.
    pub ledger: Option<String>,
    /// How often.
    pub count: u64,
    /// What can be said of the newest.
    pub detail: Map<String, Value>,
}

impl Incident {
    /// One occurrence.
    #[must_use]
    pub fn new(kind: Kind, subject: &str) -> Self {
        let mut end = subject.len().min(MAX_SUBJECT);
        while !subject.is_char_boundary(end) {
            end -= 1;
        }
        let subject = subject[..end].to_owned();
        Self { kind, subject, host: None, ledger: None, count: 1, detail: Map::new() }
    }

    /// About this host.
    #[must_use]
    pub fn host(mut self, host: &str) -> Self {
        self.host = Some(host.to_owned());
        self
    }

    /// About this ledger.
    #[must_use]
    pub fn ledger(mut self, ledger: &str) -> Self {
        self.ledger = Some(ledger.to_owned());
        self
    }

    /// Adds what can be said of it.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.detail.insert(name.to_owned(), value.into());
        self
    }

    /// From this address.
    #[must_use]
    pub fn from(self, address: IpAddr) -> Self {
        self.with("address", address.to_string())
    }
}
