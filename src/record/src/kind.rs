//! Artifact types: the closed list of what a host's record can state.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

macro_rules! artifact_types {
    ($($(#[$doc:meta])* $variant:ident => $word:literal,)*) => {
        /// What kind of thing a record states; the compliance API maps each to requirements.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum ArtifactType {
            $($(#[$doc])* #[serde(rename = $word)] $variant,)*
        }

        impl ArtifactType {
            /// Every type, in the plan's order.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The word that stands in a record's `type`.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }
        }
    };
}

artifact_types! {
    /// A ledger began, or began again after a break.
    LedgerOpened => "ledger.opened",
    /// A segment file begins: public key and previous head.
    LedgerSegment => "ledger.segment",
    /// Old segments are about to be removed.
    LedgerPruned => "ledger.pruned",
    /// The old key introduces the new one.
    KeyRotated => "key.rotated",
    /// The daemon started.
    DaemonStarted => "daemon.started",
    /// The daemon stopped in good order.
    DaemonStopped => "daemon.stopped",
    /// A configuration came into force.
    ConfigLoaded => "config.loaded",
    /// A configuration was refused; the old one stays in force.
    ConfigRefused => "config.refused",
    /// Observe or enforce began.
    ModeChanged => "mode.changed",
    /// The wall clock was set.
    ClockStepped => "clock.stepped",
    /// Somebody was granted access.
    GrantCreated => "grant.created",
    /// A grant ended.
    GrantEnded => "grant.ended",
    /// Every grant and granted session was ended.
    Lockdown => "lockdown",
    /// A key or key file that no grant backs was removed.
    KeyRemoved => "key.removed",
    /// Such a key could not be removed.
    RemovalFailed => "removal.failed",
    /// A quarantined file was put back.
    QuarantineRestored => "quarantine.restored",
    /// The gate let a login in.
    SessionOpened => "session.opened",
    /// A session ended by itself.
    SessionClosed => "session.closed",
    /// A session was ended by us.
    SessionTerminated => "session.terminated",
    /// The gate refused a login.
    SessionRefused => "session.refused",
    /// sshd refused somebody.
    LoginFailed => "login.failed",
    /// Log entries could not be read.
    JournalGap => "journal.gap",
    /// Records could not be kept for shipping.
    ShipDropped => "ship.dropped",
    /// The configuration of sshd, PAM or the accounts changed.
    SshdChanged => "sshd.changed",
    /// What a sweep found.
    SweepAttested => "sweep.attested",
    /// Somebody logged in to an exempt account.
    EmergencyLogin => "emergency.login",
    /// A signed document is in force.
    DocumentAccepted => "document.accepted",
    /// A signed document was refused.
    DocumentRefused => "document.refused",
}

impl fmt::Display for ArtifactType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that is no artifact type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no artifact type; one of: {list}", list = ArtifactType::ALL.iter().map(|t| t.as_str()).collect::<Vec<_>>().join(" "))]
pub struct UnknownType(String);

impl FromStr for ArtifactType {
    type Err = UnknownType;
    fn from_str(word: &str) -> Result<Self, UnknownType> {
        Self::ALL
            .iter()
            .copied()
            .find(|t| t.as_str() == word)
            .ok_or_else(|| UnknownType(word.chars().take(64).collect()))
    }
}
