//! How urgent a record is, in syslog's words: the same in the journal and wherever records are shipped to.

use crate::{ArtifactType, Record};

/// syslog(3) severities, by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Somebody should come.
    Critical = 2,
    /// Something failed.
    Error = 3,
    /// An operator should look.
    Warning = 4,
    /// Normal, and worth knowing.
    Notice = 5,
    /// All else.
    Info = 6,
}

impl Severity {
    /// How urgent a record of this type is.
    #[must_use]
    pub fn of(kind: ArtifactType) -> Self {
        match kind {
            ArtifactType::EmergencyLogin => Self::Critical,
            ArtifactType::RemovalFailed
            | ArtifactType::ConfigRefused
            | ArtifactType::JournalGap
            | ArtifactType::ShipDropped => Self::Error,
            ArtifactType::KeyRemoved
            | ArtifactType::SessionRefused
            | ArtifactType::SessionTerminated
            | ArtifactType::LoginFailed
            | ArtifactType::DocumentRefused
            | ArtifactType::SshdChanged
            | ArtifactType::ClockStepped
            | ArtifactType::KeyRotated
            | ArtifactType::QuarantineRestored => Self::Warning,
            ArtifactType::LedgerOpened
            | ArtifactType::LedgerPruned
            | ArtifactType::DaemonStarted
            | ArtifactType::DaemonStopped
            | ArtifactType::ConfigLoaded
            | ArtifactType::ModeChanged
            | ArtifactType::GrantCreated
            | ArtifactType::GrantEnded
            | ArtifactType::Lockdown
            | ArtifactType::DocumentAccepted
            | ArtifactType::SessionOpened
            | ArtifactType::SessionClosed => Self::Notice,
            ArtifactType::LedgerSegment | ArtifactType::SweepAttested => Self::Info,
        }
    }

    /// How urgent this record is: by type, but for three. A ledger that something broke is an error, and critical where
    /// somebody replaced or cut its file; a change that weakens enforce or keeps it from coming into force
    /// (`detail.broken`) is critical, and so is a home that does not answer (`detail.hanging`). A type that is not known is
    /// a warning.
    #[must_use]
    pub fn of_record(record: &Record) -> Self {
        match record.kind() {
            Some(ArtifactType::LedgerOpened) => match record.detail("break") {
                Some(broke) if *broke == "replaced" => Self::Critical,
                Some(_) => Self::Error,
                None => Self::Notice,
            },
            Some(ArtifactType::SshdChanged) if record.detail("broken").is_some() => Self::Critical,
            Some(ArtifactType::RemovalFailed) if record.detail("hanging").is_some() => Self::Critical,
            kind => kind.map_or(Self::Warning, Self::of),
        }
    }
}
