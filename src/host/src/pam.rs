//! Whether lockdownd's login gate stands in the PAM stack that an sshd resolves: pam.conf(5), pam.d(5).
//!
//! It looks at the resolved stack, as libpam would run it, never at who wrote which file. Pure over [`Files`]. It must
//! never call a gate standing that some way through the stack avoids: what it cannot follow is a reason to say no.

use std::{
    collections::BTreeSet,
    fmt, io,
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use super::sshd::scan::{Disk, Files, Place};

mod flow;
mod parse;

pub use parse::{Control, Line, Stack};

/// What the gate's lines call.
pub const GATE: &str = "/usr/lib/lockdownd/login-gate";
/// The accounts that PAM itself lets by.
pub const EXEMPT: &str = "/var/lib/lockdownd/exempt";
/// The stack that libpam takes where a service has none.
const OTHER: &str = "other";
/// Modules that start things for the user who logs in: by then the gate must have decided.
const STARTS_THINGS: [&str; 3] = ["pam_systemd.so", "pam_elogind.so", "pam_systemd_home.so"];
/// Where modules are, besides those of each architecture below the first two.
const MODULE_DIRS: [&str; 3] = ["/usr/lib", "/lib", "/lib64"];
/// Where service files are looked for.
const DIRECTORIES: [&str; 2] = ["/etc/pam.d", "/usr/lib/pam.d"];

/// A step of a login. The gate is asked in the last two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// `auth`: is it who they say? The gate is not asked here.
    Auth,
    /// `account`: may anybody log in to this account at all?
    Account,
    /// `session`: may this person, with this key?
    Session,
}

impl Step {
    /// As in the first column of a PAM file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::Account => "account",
            Self::Session => "session",
        }
    }

    /// The gate's four lines for this step, as a PAM file has them after its first column: those of
    /// `packaging/pam-config`.
    #[must_use]
    pub fn gate(self) -> [String; 4] {
        let kind = match self {
            Self::Auth => "auth",
            Self::Account => "account",
            Self::Session => "open_session",
        };
        let ask = format!("pam_exec.so quiet stdout type={kind} {GATE}");
        [
            format!("[success=ignore default=2] pam_listfile.so quiet item=user sense=allow onerr=fail file={EXEMPT}"),
            format!("optional {ask}"),
            "[success=1 default=1] pam_permit.so".to_owned(),
            format!("requisite {ask}"),
        ]
    }
}

/// Why the gate does not stand, and what would make it stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// A file could not be read or understood.
    Unreadable {
        /// Where; line 0 for the file as a whole.
        place: Place,
        /// What is wrong.
        what: String,
    },
    /// None of the gate's lines is there.
    Missing {
        /// The PAM service.
        service: String,
        /// The step.
        step: Step,
        /// The file that `pam-auth-update` would have put them in, if the stack includes it.
        common: bool,
    },
    /// Some of the gate's lines are there, but not all four in order.
    Altered {
        /// Which line is other than it must be.
        place: Place,
        /// The line that must be there.
        expected: String,
    },
    /// It stands in a substack, whose end is not the end of the login.
    InSubstack {
        /// Where it stands.
        place: Place,
    },
    /// A line before it can let a login by without it.
    Bypassed {
        /// Which line.
        place: Place,
        /// The line.
        line: String,
    },
    /// A line before it starts things for the user who logs in, or reads a file of theirs.
    Late {
        /// Which line.
        place: Place,
        /// The line.
        line: String,
    },
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { place, what } if place.line == 0 => write!(f, "{}: {what}", place.file.display()),
            Self::Unreadable { place, what } => write!(f, "{place}: {what}"),
            Self::Missing { service, step, common } => {
                let step = step.as_str();
                write!(f, "the login gate is not in the {step} stack of the PAM service {service}: ")?;
                match common {
                    true => write!(
                        f,
                        "run `pam-auth-update --enable lockdownd`; if that changes nothing, /etc/pam.d/common-{step} was edited \
                         by hand: add the {step} lines of /usr/share/pam-configs/lockdownd to it, ahead of pam_unix.so and \
                         pam_systemd.so"
                    ),
                    false => write!(
                        f,
                        "put the {step} lines of /usr/share/pam-configs/lockdownd first in /etc/pam.d/{service}, or include \
                         common-{step} there"
                    ),
                }
            }
            Self::Altered { place, expected } => {
                write!(f, "{place}: a line of the login gate was changed; it must read: {expected}")
            }
            Self::InSubstack { place } => {
                write!(
                    f,
                    "{place}: the login gate stands in a substack: use `include` instead of `substack` for that file"
                )
            }
            Self::Bypassed { place, line } => write!(
                f,
                "{place}: `{line}` can let a login by without the login gate: move the gate's four lines ahead of it"
            ),
            Self::Late { place, line } => write!(
                f,
                "{place}: `{line}` runs before the login gate, and serves the user before they are let in: move the gate's \
                 four lines ahead of it"
            ),
        }
    }
}

/// Whether the gate stands in one step of a PAM service, as it is on the disk now.
///
/// # Errors
/// [`Why`] it does not.
pub fn gate_stands_for(service: &str, step: Step) -> Result<(), Why> {
    let stack = resolve(&Disk, service, step)?;
    gate_stands(&stack, service, step)
}

/// The files that decide about a service, to be watched: every one in [`DIRECTORIES`] may be included.
#[must_use]
pub fn directories() -> [&'static Path; 2] {
    DIRECTORIES.map(Path::new)
}

/// The stack that libpam makes for one step of a service: its own lines, else those of `other`.
///
/// # Errors
/// [`Why::Unreadable`] where libpam would fail, or we cannot follow it.
pub fn resolve(files: &dyn Files, service: &str, step: Step) -> Result<Stack, Why> {
    // libpam writes service names in lower case, and a slash would leave the directory.
    let service = service.to_ascii_lowercase();
    if service.is_empty() || service.contains('/') {
        let place = Place { file: Path::new(DIRECTORIES[0]).join("?"), line: 0 };
        return Err(Why::Unreadable { place, what: format!("{service:?} is no name of a PAM service") });
    }
    for name in [service.as_str(), OTHER] {
        let Some(path) = locate(files, name) else { continue };
        let stack = parse::stack(files, &path, step)?;
        if !stack.lines.is_empty() {
            return Ok(stack);
        }
    }
    Ok(Stack::default())
}

fn locate(files: &dyn Files, name: &str) -> Option<PathBuf> {
    let there = |path: &PathBuf| !matches!(files.read(path), Err(error) if error.kind() == io::ErrorKind::NotFound);
    DIRECTORIES.iter().map(|dir| Path::new(dir).join(name)).find(there)
}

/// Whether the gate's four lines stand in a stack, one after the other, so that every way through the stack that ends
/// well has passed them, and before anything is started for the user.
///
/// # Errors
/// [`Why`] they do not.
pub fn gate_stands(stack: &Stack, service: &str, step: Step) -> Result<(), Why> {
    let gate = step.gate().map(|line| parse::line(&line).expect("our own lines are well-formed"));
    let start = stack.lines.windows(gate.len()).position(|lines| lines.iter().zip(&gate).all(|(l, g)| l.is(g)));
    let Some(start) = start else {
        return Err(altered(stack, &gate, step).unwrap_or_else(|| Why::Missing {
            service: service.to_owned(),
            step,
            common: stack.files.iter().any(|file| file.ends_with(format!("common-{}", step.as_str()))),
        }));
    };
    if stack.lines[start..start + gate.len()].iter().any(|line| line.depth > 0) {
        return Err(Why::InSubstack { place: stack.lines[start].place.clone() });
    }
    if let Some(line) = flow::first_bypass(stack, start, service, step) {
        return Err(Why::Bypassed { place: line.place.clone(), line: line.to_string() });
    }
    match stack.lines[..start].iter().find(|line| serves_the_user(line)) {
        Some(line) if step == Step::Session => Err(Why::Late { place: line.place.clone(), line: line.to_string() }),
        _ => Ok(()),
    }
}

/// The line that keeps an incomplete gate from being one.
fn altered(stack: &Stack, gate: &[Line; 4], step: Step) -> Option<Why> {
    let mentions = |line: &&Line| line.args.iter().any(|arg| arg == GATE || arg.contains(EXEMPT));
    let first = stack.lines.iter().position(|line| mentions(&line))?;
    // Which of the four the first mention is: the list of exempt accounts, or a call whose list is gone.
    let run = stack.lines[first..].iter().zip(gate);
    let (place, index) = match run.enumerate().find(|(_, (line, ours))| !line.is(ours)) {
        Some((index, (line, _))) => (line.place.clone(), index),
        None => (stack.lines.last()?.place.clone(), stack.lines.len() - first),
    };
    Some(Why::Altered { place, expected: format!("{} {}", step.as_str(), step.gate()[index.min(3)]) })
}

/// The line because of which a stack refuses everybody, if one does: by what it is, or for want of its module.
pub(super) fn must_fail<'s>(stack: &'s Stack, is_there: &impl Fn(&Line) -> bool) -> Option<&'s Line> {
    flow::must_fail(stack, is_there)
}

/// Whether the file of a line's module is there.
pub(super) fn module_is_there(line: &Line) -> bool {
    if line.module.starts_with('/') {
        return Path::new(&line.module).exists();
    }
    let below = |dir: &str| {
        let each = std::fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path());
        each.chain([Path::new(dir).to_owned()]).any(|dir| dir.join("security").join(&line.module).exists())
    };
    MODULE_DIRS.iter().any(|dir| below(dir))
}

/// The stack of one step of a service of these lines.
#[cfg(test)]
pub(super) fn stack_of(text: &str, step: Step) -> Stack {
    let file = Path::new(DIRECTORIES[0]).join("sshd");
    let overlay =
        super::sshd::scan::Overlay { base: Disk, path: file.clone(), content: Some(text.as_bytes().to_vec()) };
    parse::stack(&overlay, &file, step).expect("well-formed")
}

fn serves_the_user(line: &Line) -> bool {
    let reads_a_file_of_theirs = line.module == "pam_env.so" && line.args.iter().any(|arg| arg == "user_readenv=1");
    STARTS_THINGS.contains(&line.module.as_str()) || reads_a_file_of_theirs
}

/// SHA-256 over every file's name and content in PAM's directories: equal digests, equal configuration.
///
/// # Errors
/// A directory or file cannot be read: then nothing is known.
pub fn digest() -> io::Result<[u8; 32]> {
    let mut files = BTreeSet::new();
    for directory in directories() {
        match std::fs::read_dir(directory) {
            Ok(entries) => {
                for entry in entries {
                    files.insert(entry?.path());
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    let mut digest = Sha256::new();
    for file in files {
        let content = match super::paths::read_path(&file, MAX_DIGESTED) {
            // A directory, link or overlong file, which counts by its name alone.
            Err(error) if is_no_plain_file(&error) => Vec::new(),
            read => read?,
        };
        for part in [file.as_os_str().as_encoded_bytes(), &content] {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
    }
    Ok(digest.finalize().into())
}

fn is_no_plain_file(error: &io::Error) -> bool {
    use nix::libc::{EISDIR, ELOOP, ENXIO};
    error.kind() == io::ErrorKind::FileTooLarge || matches!(error.raw_os_error(), Some(EISDIR | ELOOP | ENXIO))
}

/// The most bytes of one file that count for [`digest`].
const MAX_DIGESTED: u64 = 1 << 20;

#[cfg(test)]
mod tests;
