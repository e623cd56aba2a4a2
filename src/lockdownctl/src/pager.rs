//! A pager for what may be longer than a terminal, as journalctl(1) has one.

use std::{
    env,
    io::{self, Write},
    process::{Child, Command, Stdio},
};

use crate::output;

/// The pager where nobody names another.
const LESS: &str = "less";
/// How less is to behave: end at once where it fits a screen or at an interrupt, show colour, leave the text there.
const LESS_OPTIONS: &str = "FRXMK";

/// Where text goes: to a pager, or straight to standard output.
#[derive(Debug)]
pub(crate) enum Output {
    /// Straight.
    Plain,
    /// To a pager, which is started with the first text.
    Wanted,
    /// To this one.
    Paged(Child),
}

impl Output {
    /// To a pager where `wanted`.
    pub(crate) fn new(wanted: bool) -> Self {
        if wanted { Self::Wanted } else { Self::Plain }
    }

    /// Writes text; whether its reader is still there.
    ///
    /// # Errors
    /// A full disk and the like, but not a reader who has left.
    pub(crate) fn print(&mut self, text: &str) -> io::Result<bool> {
        if matches!(self, Self::Wanted) && !text.is_empty() {
            *self = pager().and_then(|mut command| command.spawn().ok()).map_or(Self::Plain, Self::Paged);
        }
        match self {
            Self::Plain | Self::Wanted => output::print(text),
            Self::Paged(child) => match child.stdin.as_mut().map(|stdin| stdin.write_all(text.as_bytes())) {
                Some(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
                Some(Err(error)) => Err(error),
                Some(Ok(())) => Ok(true),
                None => Ok(false),
            },
        }
    }
}

impl Drop for Output {
    /// Whoever reads is waited for.
    fn drop(&mut self) {
        if let Self::Paged(child) = self {
            drop(child.stdin.take());
            let _ = child.wait();
        }
    }
}

/// The pager, ready to be started; `None`: none is wanted.
fn pager() -> Option<Command> {
    let program = program(env::var("PAGER").ok(), is_elevated())?;
    let mut command = Command::new("/bin/sh");
    // In its secure mode less starts no other program: whoever may run nothing but lockdownctl as root gets no shell by it.
    command.args(["-c", &program]).env("LESS", LESS_OPTIONS).env("LESSSECURE", "1").stdin(Stdio::piped());
    Some(command)
}

/// What `PAGER` names, unless others' rights are at work: then less alone, which has a secure mode.
fn program(named: Option<String>, elevated: bool) -> Option<String> {
    match named {
        Some(named) if ["", "cat"].contains(&named.trim()) => None,
        Some(named) if !elevated => Some(named),
        _ => Some(format!("if command -v {LESS} >/dev/null; then exec {LESS}; else exec cat; fi")),
    }
}

/// Whether this runs with other rights than those of whoever typed it.
fn is_elevated() -> bool {
    let by_another = ["SUDO_UID", "DOAS_USER", "PKEXEC_UID"].iter().any(|name| env::var_os(name).is_some());
    by_another || rustix::process::getuid() != rustix::process::geteuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pager_of_ones_own_is_used_only_with_ones_own_rights() {
        assert_eq!(program(Some("most -s".to_owned()), false).as_deref(), Some("most -s"));
        for (named, elevated) in [(Some("most -s".to_owned()), true), (None, false), (None, true)] {
            assert!(program(named.clone(), elevated).unwrap().contains("exec less"), "{named:?}");
        }
        assert_eq!((program(Some(String::new()), false), program(Some("cat".to_owned()), true)), (None, None));
    }
}
