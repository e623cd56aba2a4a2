//! Who wrote a file, as the kernel told it.

use std::path::PathBuf;

use crate::process::ProcessId;

/// A process that wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Writer {
    /// Its pid.
    pub pid: u32,
    /// What was seen of it; nothing where it had ended before it could be looked at.
    pub seen: Option<Seen>,
}

/// What was seen of a writer while its pid was its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Effective user id.
    pub uid: u32,
    /// The audit login uid: who logged in, whatever `su` and `sudo` came after.
    pub login_uid: Option<u32>,
    /// The audit session, one per login.
    pub audit_session: Option<u32>,
    /// Its program; nothing where it was ending.
    pub exe: Option<PathBuf>,
    /// The process itself and those above it, nearest first: sshd's for its connection is among them.
    pub line: Vec<ProcessId>,
}

/// Who wrote a file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Written {
    /// The writers, last one last; nothing in place of one whom the kernel did not name. Empty: unknown.
    pub by: Vec<Option<Writer>>,
    /// They are not known to have written the file, but made or moved the directory in which it stood.
    pub directory: bool,
}

/// A change of configuration: which file, and who.
pub type Change = (PathBuf, Option<Writer>);
