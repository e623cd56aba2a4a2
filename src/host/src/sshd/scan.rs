//! What sshd's configuration says anywhere, whether or not it is in force now: every key file it names or could name,
//! every `Match` block, every file it is made of.
//!
//! Follows servconf.c: `Include` with glob(3), in the C locale's order; a `Match` in an included file ends with that
//! file. Pure over [`Files`]. It must never report less than is there: what cannot be read is a [`Problem`], not nothing.

use std::{
    collections::BTreeSet,
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use super::{glob, syntax};

/// How deep files may include one another, as in sshd.
pub const MAX_DEPTH: usize = 16;
/// The most files read; each is counted as often as it is included.
pub const MAX_FILES: usize = 1024;
/// The most bytes read of one file.
pub const MAX_FILE: usize = 1024 * 1024;
/// Where a relative `Include` starts.
const SSH_DIR: &str = "/etc/ssh";
/// What sshd reads when nothing names anything else.
pub const DEFAULT_KEY_FILES: [&str; 2] = [".ssh/authorized_keys", ".ssh/authorized_keys2"];

/// Where configuration comes from: the disk, or the disk with something else in one place.
pub trait Files {
    /// A file's bytes, at most [`MAX_FILE`].
    ///
    /// # Errors
    /// When it cannot be read, or is longer.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// The files that a pattern stands for, sorted, and the directories that were listed for it.
    ///
    /// # Errors
    /// When a directory cannot be listed.
    fn glob(&self, pattern: &str) -> io::Result<(Vec<PathBuf>, Vec<PathBuf>)>;
}

/// The disk. For root's own places only.
#[derive(Debug, Clone, Copy)]
pub struct Disk;

impl Files for Disk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        // Not to wait for a FIFO's writer.
        let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
        let flags = i32::try_from(flags.bits()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let file = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        let mut content = Vec::new();
        file.take(MAX_FILE as u64 + 1).read_to_end(&mut content)?;
        match content.len() > MAX_FILE {
            true => Err(io::Error::other(format!("longer than {MAX_FILE} bytes"))),
            false => Ok(content),
        }
    }

    fn glob(&self, pattern: &str) -> io::Result<(Vec<PathBuf>, Vec<PathBuf>)> {
        glob::expand(pattern)
    }
}

/// The text of one file on the disk, without waiting for it; `None` when nothing is there.
///
/// # Errors
/// When it cannot be read, or is no regular file.
pub fn text_of(path: &Path) -> io::Result<Option<String>> {
    match Disk.read(path) {
        Ok(bytes) => String::from_utf8(bytes).map(Some).map_err(|_| io::ErrorKind::InvalidData.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The disk with one file put in place of what is there, or taken away.
#[derive(Debug, Clone)]
pub struct Overlay<F> {
    /// What is below.
    pub base: F,
    /// Which file differs.
    pub path: PathBuf,
    /// What it holds; `None`: it is not there.
    pub content: Option<Vec<u8>>,
}

impl<F: Files> Files for Overlay<F> {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        match path == self.path {
            true => self.content.clone().ok_or_else(|| io::ErrorKind::NotFound.into()),
            false => self.base.read(path),
        }
    }

    fn glob(&self, pattern: &str) -> io::Result<(Vec<PathBuf>, Vec<PathBuf>)> {
        let (mut found, listed) = self.base.glob(pattern)?;
        found.retain(|path| *path != self.path);
        if self.content.is_some() && path_matches(pattern, &self.path) {
            found.push(self.path.clone());
            found.sort();
        }
        Ok((found, listed))
    }
}

pub(super) fn path_matches(pattern: &str, path: &Path) -> bool {
    let parts = |text: &str| -> Vec<String> { text.split('/').filter(|p| !p.is_empty()).map(str::to_owned).collect() };
    let (pattern, path) = (parts(pattern), parts(&path.to_string_lossy()));
    pattern.len() == path.len() && pattern.iter().zip(&path).all(|(pattern, name)| glob::matches(pattern, name))
}

/// A place in the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: usize,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

/// One line of configuration other than `Match` and `Include`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// In lower case.
    pub keyword: String,
    /// Unquoted.
    pub args: Vec<String>,
    /// Where it stands.
    pub place: Place,
    /// The `Match` blocks around it, outermost first, as indexes into [`Scan::blocks`]; several where a file is included
    /// inside of a block.
    pub blocks: Vec<usize>,
}

/// One condition of a `Match` line.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Criterion {
    /// In lower case: `user`, `group`, `host`, `address`, `localport`, `all`…
    pub name: String,
    /// Its pattern list; empty for `all`.
    pub value: String,
}

/// A `Match` line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MatchBlock {
    /// Where it starts.
    pub place: Place,
    /// All of these have to hold.
    pub criteria: Vec<Criterion>,
    /// The block that this file is included from, as an index into [`Scan::blocks`].
    pub within: Option<usize>,
}

/// An `Include` line and what it took in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Include {
    /// Where it stands.
    pub place: Place,
    /// The block around it.
    pub block: Option<usize>,
    /// Each argument, made absolute, with the files it stands for.
    pub patterns: Vec<(String, Vec<PathBuf>)>,
    /// How many settings came before it.
    pub settings_before: usize,
}

/// Something that cannot be known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where; line 0 for the file as a whole.
    pub place: Place,
    /// What is wrong.
    pub what: String,
    /// Whether something that is there could not be read, so that more may be said than is known.
    pub unread: bool,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.place.line {
            0 => write!(f, "{}: {}", self.place.file.display(), self.what),
            _ => write!(f, "{}: {}", self.place, self.what),
        }
    }
}

/// All that a configuration says, in the order in which sshd reads it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scan {
    /// Every setting.
    pub settings: Vec<Setting>,
    /// Every `Match` line.
    pub blocks: Vec<MatchBlock>,
    /// Every `Include` line.
    pub includes: Vec<Include>,
    /// What could not be read.
    pub problems: Vec<Problem>,
    /// The files it is made of, also those that could not be read: to be watched.
    pub files: BTreeSet<PathBuf>,
    /// The directories in which a new file could become part of it: to be watched.
    pub dirs: BTreeSet<PathBuf>,
    /// SHA-256 over every file's name and content, in order: equal digests, equal configuration.
    pub digest: [u8; 32],
}

impl Scan {
    /// The arguments of every setting of a keyword (in lower case), in `Match` blocks or not, in order.
    pub fn of<'a>(&'a self, keyword: &'a str) -> impl Iterator<Item = &'a Setting> {
        self.settings.iter().filter(move |setting| setting.keyword == keyword)
    }

    /// Every pattern of key files that is named anywhere, with sshd's defaults; without `none`. As written: to be
    /// expanded for each account by [`expand`].
    #[must_use]
    pub fn key_file_patterns(&self) -> BTreeSet<String> {
        let named = self.of("authorizedkeysfile").flat_map(|setting| setting.args.iter().cloned());
        let all = named.chain(DEFAULT_KEY_FILES.map(str::to_owned));
        all.filter(|pattern| !pattern.eq_ignore_ascii_case("none") && !pattern.is_empty()).collect()
    }
}

/// Reads a configuration with all that it includes. Never fails: see [`Scan::problems`].
#[must_use]
pub fn scan(files: &dyn Files, config: &Path) -> Scan {
    let mut reader = Reader { files, scan: Scan::default(), digest: Sha256::new(), count: 0 };
    reader.file(config, None, 0);
    reader.scan.digest = reader.digest.finalize().into();
    reader.scan
}

struct Reader<'a> {
    files: &'a dyn Files,
    scan: Scan,
    digest: Sha256,
    count: usize,
}

impl Reader<'_> {
    fn file(&mut self, path: &Path, within: Option<usize>, depth: usize) {
        self.scan.files.insert(path.to_owned());
        self.scan.dirs.extend(path.parent().map(Path::to_owned));
        self.count += 1;
        if depth > MAX_DEPTH || self.count > MAX_FILES {
            return self.problem(
                path,
                0,
                false,
                format!("more than {MAX_DEPTH} levels or {MAX_FILES} files of Include"),
            );
        }
        let content = match self.files.read(path) {
            Ok(content) => content,
            Err(error) => return self.problem(path, 0, is_there(&error), error.to_string()),
        };
        self.digest.update((path.as_os_str().len() as u64).to_be_bytes());
        self.digest.update(path.as_os_str().as_encoded_bytes());
        self.digest.update((content.len() as u64).to_be_bytes());
        self.digest.update(&content);
        let mut block = within;
        for (index, line) in content.split(|b| *b == b'\n').enumerate() {
            let place = Place { file: path.to_owned(), line: index + 1 };
            match syntax::parse_line(line) {
                Ok(None) => {}
                Ok(Some(directive)) => self.directive(directive, place, within, &mut block, depth),
                Err(error) => self.problem(path, index + 1, false, error.to_string()),
            }
        }
    }

    fn directive(
        &mut self,
        directive: syntax::Directive,
        place: Place,
        within: Option<usize>,
        block: &mut Option<usize>,
        depth: usize,
    ) {
        let syntax::Directive { keyword, args } = directive;
        match keyword.as_str() {
            "match" => {
                *block = Some(self.scan.blocks.len());
                self.scan.blocks.push(MatchBlock { place, criteria: criteria(&args), within });
            }
            "include" => self.include(args, place, *block, depth),
            _ => {
                let around = |index: &usize| self.scan.blocks[*index].within;
                let mut blocks: Vec<_> = std::iter::successors(*block, around).collect();
                blocks.reverse();
                self.scan.settings.push(Setting { keyword, args, place, blocks });
            }
        }
    }

    fn include(&mut self, args: Vec<String>, place: Place, block: Option<usize>, depth: usize) {
        let index = self.scan.includes.len();
        let settings_before = self.scan.settings.len();
        self.scan.includes.push(Include { place: place.clone(), block, patterns: Vec::new(), settings_before });
        for arg in args {
            let pattern = if arg.starts_with(['/', '~']) { arg } else { format!("{SSH_DIR}/{arg}") };
            let (found, listed) = match self.files.glob(&pattern) {
                Ok(found) => found,
                Err(error) => {
                    let unread = is_there(&error);
                    self.problem(&place.file, place.line, unread, format!("{pattern}: {error}"));
                    (Vec::new(), Vec::new())
                }
            };
            self.scan.dirs.extend(listed);
            self.scan.includes[index].patterns.push((pattern, found.clone()));
            for path in found {
                self.file(&path, block, depth + 1);
            }
        }
    }

    fn problem(&mut self, file: &Path, line: usize, unread: bool, what: String) {
        self.scan.problems.push(Problem { place: Place { file: file.to_owned(), line }, what, unread });
    }
}

/// What is not there says nothing: that is known.
fn is_there(error: &io::Error) -> bool {
    error.kind() != io::ErrorKind::NotFound
}

fn criteria(args: &[String]) -> Vec<Criterion> {
    let mut found = Vec::new();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let (name, value) = match arg.split_once('=') {
            Some((name, "")) => (name, args.next().map_or("", String::as_str)),
            Some((name, value)) => (name, value),
            None if arg.eq_ignore_ascii_case("all") || arg.eq_ignore_ascii_case("invalid-user") => (arg.as_str(), ""),
            None => (arg.as_str(), args.next().map_or("", |value| value.strip_prefix('=').unwrap_or(value))),
        };
        found.push(Criterion { name: name.to_ascii_lowercase(), value: value.to_owned() });
    }
    found
}

/// A key file of one account.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyPath {
    /// Absolute; with glob(3) characters, when `is_glob`.
    pub path: PathBuf,
    /// Whether OpenSSH 10 and later take it as a pattern. Earlier ones take it as it stands.
    pub is_glob: bool,
}

/// One `AuthorizedKeysFile` argument for one account: `%h`, `%u`, `%U` and `%%` filled in, relative names from the
/// home. `None` for `none`, and where sshd refuses: an unknown `%` letter.
#[must_use]
pub fn expand(pattern: &str, account: &str, home: &Path, uid: u32) -> Option<KeyPath> {
    if pattern.eq_ignore_ascii_case("none") || pattern.is_empty() {
        return None;
    }
    let home = home.to_str()?;
    let mut path = String::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match (c, (c == '%').then(|| chars.next()).flatten()) {
            ('%', Some('h')) => path.push_str(home),
            ('%', Some('u')) => path.push_str(account),
            ('%', Some('U')) => path.push_str(&uid.to_string()),
            ('%', Some('%')) => path.push('%'),
            ('%', _) => return None,
            (c, _) => path.push(c),
        }
    }
    let path = if path.starts_with('/') { PathBuf::from(path) } else { Path::new(home).join(path) };
    Some(KeyPath { is_glob: glob::is_pattern(pattern), path })
}

#[cfg(test)]
mod tests;
