//! How a key file is found and looked at: the same for the watch, the sweep and `lockdownctl plan`.

use std::{
    collections::HashSet,
    ffi::{OsStr, OsString},
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use lockdown_core::{
    keys::file::{Survey, survey},
    policy::key_file::{Observed, Verdict, WhyRemoved, judge_key_file},
};
use lockdown_host::{
    accounts::AccountName,
    mounts::Mounts,
    paths::{self, PathError, Root, Sight, file_type},
};
use nix::{dir::Dir, errno::Errno, fcntl::OFlag, sys::stat::Mode as FileMode, sys::stat::SFlag};

use super::{
    Standing, Territory,
    territory::{KeyFilePath, is_glob},
};

/// The most files that one pattern names in one look, and the most names read of one directory; what lies beyond waits
/// for the next look and is told as a failure.
pub(super) const MAX_MATCHES: usize = 4096;
/// See [`MAX_MATCHES`].
pub(super) const MAX_NAMES: usize = 65_536;

/// Paths that many candidates have in common, held once: there are thousands of accounts.
#[derive(Debug, Default)]
pub(super) struct Shared(HashSet<Arc<Path>>);

impl Shared {
    fn hold(&mut self, path: &Path) -> Arc<Path> {
        if let Some(held) = self.0.get(path) {
            return Arc::clone(held);
        }
        let held: Arc<Path> = path.into();
        self.0.insert(Arc::clone(&held));
        held
    }
}

/// One key file path of one unit, split where following links ends.
#[derive(Debug)]
pub(super) struct Candidate {
    /// Up to here links of root's are followed: the home, or for a file elsewhere its directory.
    pub base: Arc<Path>,
    /// From there on none is.
    pub below: Arc<Path>,
    /// Whether `below` is a pattern.
    pub is_pattern: bool,
    /// Where `base` really is, since the ways were last walked.
    pub real_base: Option<Arc<Path>>,
    /// Device of the file when it was last seen.
    pub device: Option<u64>,
}

impl Candidate {
    pub(super) fn new(key_file: &KeyFilePath, home: Option<&Path>, shared: &mut Shared) -> Self {
        let path = key_file.path();
        let in_home = home.and_then(|home| Some((home, path.strip_prefix(home).ok()?)));
        let (base, below) = match in_home {
            Some((home, below)) if is_plain(below) => (home, below),
            _ => split_elsewhere(path, key_file.is_pattern()),
        };
        Self {
            base: shared.hold(base),
            below: shared.hold(below),
            is_pattern: key_file.is_pattern(),
            real_base: None,
            device: None,
        }
    }

    /// Notes that where the base is must not be looked at.
    pub(super) fn leave(&mut self) {
        self.real_base = None;
    }

    /// Notes where the base really is, or that it cannot be reached.
    pub(super) fn lead_to(&mut self, real: Result<PathBuf, PathError>) -> Result<(), PathError> {
        self.leave();
        let real = real?;
        self.real_base = Some(if real == *self.base { Arc::clone(&self.base) } else { real.into() });
        Ok(())
    }

    /// The file that it names, if it is no pattern and its base can be reached.
    pub(super) fn real_file(&self) -> Option<PathBuf> {
        self.real_base.as_ref().filter(|_| !self.is_pattern).map(|real| real.join(&self.below))
    }

    /// Every file it names now; `cut` says that there were more than [`MAX_MATCHES`] or [`MAX_NAMES`].
    pub(super) fn files(&self, root: &Root) -> (Vec<PathBuf>, bool) {
        match &self.real_base {
            Some(base) if self.is_pattern => expand(root, base, &self.below),
            base => (base.iter().map(|base| base.join(&self.below)).collect(), false),
        }
    }
}

fn is_plain(below: &Path) -> bool {
    !below.as_os_str().is_empty() && below.components().all(|part| matches!(part, Component::Normal(_)))
}

/// A file outside of the home: its directory, or what stands before the first part that is a pattern.
fn split_elsewhere(path: &Path, is_pattern: bool) -> (&Path, &Path) {
    let mut base = path.parent().unwrap_or(path);
    if is_pattern {
        base = path.ancestors().skip(1).find(|above| !is_glob(above)).unwrap_or(Path::new("/"));
    }
    (base, path.strip_prefix(base).unwrap_or(path))
}

/// The files below the real directory `base` that match `pattern`, a directory at a time.
pub(super) fn expand(root: &Root, base: &Path, pattern: &Path) -> (Vec<PathBuf>, bool) {
    let mut found = vec![base.to_owned()];
    let mut links = Vec::new();
    let mut cut = false;
    for part in pattern.components().map(Component::as_os_str) {
        if !is_glob(Path::new(part)) {
            found.iter_mut().for_each(|path| path.push(part));
            continue;
        }
        let mut next = Vec::new();
        for directory in &found {
            let (names, too_many) = match names_in(root, directory) {
                Ok(names) => names,
                Err(Errno::ELOOP) => {
                    // A link where a directory was to be listed: looked at itself, it is found out and goes.
                    links.push(directory.clone());
                    continue;
                }
                Err(_) => continue,
            };
            cut |= too_many;
            next.extend(
                names.iter().filter(|name| matches(part.as_bytes(), name.as_bytes())).map(|n| directory.join(n)),
            );
        }
        cut |= next.len() > MAX_MATCHES;
        next.truncate(MAX_MATCHES);
        found = next;
    }
    found.append(&mut links);
    (found, cut)
}

fn names_in(root: &Root, directory: &Path) -> nix::Result<(Vec<OsString>, bool)> {
    let mut names = Vec::new();
    let fd = root.open_directory(directory)?;
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut listing = Dir::openat(&fd, ".", flags, FileMode::empty())?;
    for entry in listing.iter().flatten() {
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        if names.len() == MAX_NAMES {
            return Ok((names, true));
        }
        names.push(OsStr::from_bytes(name).to_owned());
    }
    Ok((names, false))
}

/// glob(7) for one part of a path: `*`, `?`, `[a-z]`, `[!a]` and `\` before a character; a leading dot is only matched
/// by a dot, as glob(3) does.
pub(super) fn matches(pattern: &[u8], name: &[u8]) -> bool {
    if name.first() == Some(&b'.') && !matches!(pattern.first(), Some(b'.' | b'\\')) {
        return false;
    }
    let (mut p, mut n) = (0, 0);
    // Where the last star stands, and how much of the name it has swallowed: only the last needs backtracking.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, n));
            p += 1;
            continue;
        }
        match match_one(&pattern[p.min(pattern.len())..], name[n]) {
            Some(length) => {
                p += length;
                n += 1;
            }
            None => match star {
                Some((at, swallowed)) => {
                    star = Some((at, swallowed + 1));
                    p = at + 1;
                    n = swallowed + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p.min(pattern.len())..].iter().all(|byte| *byte == b'*')
}

/// How many bytes of the pattern match this byte; `None` if they do not.
fn match_one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern {
        [] => None,
        [b'?', ..] => Some(1),
        [b'\\', escaped, ..] => (*escaped == byte).then_some(2),
        [b'[', set @ ..] => match match_set(set, byte) {
            Set::Matches(length) => Some(length + 1),
            Set::Differs => None,
            Set::Unclosed => (byte == b'[').then_some(1),
        },
        [literal, ..] => (*literal == byte).then_some(1),
    }
}

/// What a set in brackets is to a byte.
enum Set {
    /// It has it, and is this long without its opening bracket.
    Matches(usize),
    Differs,
    /// It never ends: then the bracket is a character like any other.
    Unclosed,
}

fn match_set(set: &[u8], byte: u8) -> Set {
    let negated = matches!(set.first(), Some(b'!' | b'^'));
    let mut at = usize::from(negated);
    let start = at;
    let mut hit = false;
    loop {
        match set.get(at..) {
            None | Some([]) => return Set::Unclosed,
            Some([b']', ..]) if at > start => break,
            // Classes like [:alpha:] are taken to match: too much is looked at, never too little.
            Some([b'[', b':' | b'.' | b'=', ..]) => {
                let Some(end) = set[at + 2..].iter().position(|byte| *byte == b']') else { return Set::Unclosed };
                let after = at + 2 + end + 1;
                let close = set[after..].iter().position(|byte| *byte == b']');
                return close.map_or(Set::Unclosed, |close| Set::Matches(after + close + 1));
            }
            Some([low, b'-', high, ..]) if *high != b']' => {
                hit |= (*low..=*high).contains(&byte);
                at += 3;
            }
            Some([b'\\', literal, ..]) => {
                hit |= *literal == byte;
                at += 2;
            }
            Some([literal, ..]) => {
                hit |= *literal == byte;
                at += 1;
            }
        }
    }
    if hit == negated { Set::Differs } else { Set::Matches(at + 1) }
}

/// What policy says to what stands at `real`, and what was seen; a read file's bytes are in `content`.
pub(super) fn examine(root: &Root, real: &Path, content: &mut Vec<u8>) -> (Sight, Verdict) {
    let sight = root.look(real, content);
    let observed = match sight {
        Sight::Absent => Observed::Nothing,
        Sight::Link => Observed::Link,
        Sight::Inert => Observed::Inert,
        Sight::File(facts) => Observed::File { content, names: facts.links },
        Sight::Long(_) => Observed::LongFile,
        Sight::Unreadable(_) => Observed::Unreadable,
    };
    (sight, judge_key_file(observed))
}

/// The first link on the way from `base` to `file` below it: the opened directory it stands in, where, and its name.
pub(super) fn find_link(root: &Root, base: &Path, file: &Path) -> Result<Option<(OwnedFd, PathBuf)>, Errno> {
    let Ok(below) = file.strip_prefix(base) else { return Ok(None) };
    let mut here = base.to_owned();
    let mut directory = root.open_directory(base)?;
    for part in below.components() {
        here.push(part);
        let name = Path::new(part.as_os_str());
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let next = match paths::open_without_links(directory.as_fd(), name, flags) {
            Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(None),
            next => next?,
        };
        if file_type(nix::sys::stat::fstat(&next)?.st_mode) == SFlag::S_IFLNK {
            return Ok(Some((directory, here)));
        }
        directory = next;
    }
    Ok(None)
}

/// What enforce would remove now, in the territory's order, whatever its mode. Errors on the way to a home are not
/// among it: the watch tells them. What a look would mount is left alone.
#[must_use]
pub fn plan(root: &Root, mounts: &Mounts, territory: &Territory) -> Vec<Standing> {
    let mut standing = Vec::new();
    let mut named = HashSet::new();
    let mut content = Vec::new();
    for (whose, candidates) in candidates_of(territory) {
        for mut candidate in candidates {
            let real = mounts.resolve(root, &candidate.base, true);
            if real.as_ref().is_ok_and(|real| mounts.would_mount(real)) || candidate.lead_to(real).is_err() {
                continue;
            }
            for file in candidate.files(root).0 {
                let (sight, verdict) = examine(root, &file, &mut content);
                let Verdict::Remove(why) = verdict else { continue };
                let goes = what_goes(root, &candidate, file, sight);
                // One link may stand on the way to several files.
                if named.insert(goes.clone()) {
                    standing.push(standing_of(whose, &goes, why, sight, &survey_of(sight, &content)));
                }
            }
        }
    }
    standing
}

/// What would be removed: the file, or the link on the way to it.
fn what_goes(root: &Root, candidate: &Candidate, file: PathBuf, sight: Sight) -> PathBuf {
    match (sight, &candidate.real_base) {
        (Sight::Link, Some(base)) => find_link(root, base, &file).ok().flatten().map_or(file, |(_, link)| link),
        _ => file,
    }
}

/// Each account's key files, each once; then those that several accounts share.
pub(super) fn candidates_of(territory: &Territory) -> impl Iterator<Item = (Option<&AccountName>, Vec<Candidate>)> {
    let mut paths = Shared::default();
    let homes = territory.homes.iter().map(|home| (Some(&home.account), &home.key_files, Some(home.home.as_path())));
    homes.chain([(None, &territory.shared, None)]).map(move |(whose, files, home)| {
        (whose, files.iter().map(|file| Candidate::new(file, home, &mut paths)).collect())
    })
}

/// The keys in a file that was read; nothing of one that was not.
pub(super) fn survey_of(sight: Sight, content: &[u8]) -> Survey {
    if matches!(sight, Sight::File(_)) { survey(content) } else { Survey::default() }
}

pub(super) fn standing_of(
    whose: Option<&AccountName>,
    path: &Path,
    why: WhyRemoved,
    sight: Sight,
    survey: &Survey,
) -> Standing {
    let owner = match sight {
        Sight::File(facts) | Sight::Long(facts) => Some(facts.uid),
        _ => None,
    };
    Standing {
        whose: whose.cloned(),
        path: path.to_owned(),
        why,
        owner,
        fingerprints: survey.fingerprints.clone(),
        more: survey.more,
        unreadable_lines: survey.unreadable,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn patterns_match_as_glob_does() {
        for (pattern, name, expected) in [
            ("authorized_keys*", "authorized_keys2", true),
            ("authorized_keys*", "authorized_key", false),
            ("*.pub", "a.b.pub", true),
            ("*", ".hidden", false),
            (".*", ".hidden", true),
            ("k?y", "kéy", false),
            ("k[a-f]y", "key", true),
            ("k[!a-f]y", "key", false),
            ("k[]e]y", "key", true),
            ("k[e", "k[e", true),
            ("k[e", "key", false),
            ("k[[:alpha:]]y", "key", true),
            ("k\\*y", "k*y", true),
            ("k\\*y", "key", false),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxbyy", false),
            ("", "", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn a_file_is_split_where_links_of_roots_end() {
        let split = |path: &str, home: &str| {
            let file = KeyFilePath::pattern(path.into());
            let candidate = Candidate::new(&file, Some(Path::new(home)), &mut Shared::default());
            (candidate.base.to_str().unwrap().to_owned(), candidate.below.to_str().unwrap().to_owned())
        };
        let pair = |base: &str, below: &str| (base.to_owned(), below.to_owned());
        assert_eq!(split("/home/a/.ssh/k", "/home/a"), pair("/home/a", ".ssh/k"));
        assert_eq!(split("/home/a/.s*/k", "/home/a"), pair("/home/a", ".s*/k"));
        assert_eq!(split("/home/ab/k", "/home/a"), pair("/home/ab", "k"));
        assert_eq!(split("/home/a/../b/k", "/home/a"), pair("/home/a/../b", "k"));
        assert_eq!(split("/etc/keys/a", "/home/a"), pair("/etc/keys", "a"));
        assert_eq!(split("/etc/k*/a/b", "/home/a"), pair("/etc", "k*/a/b"));
        assert_eq!(split("/k*", "/home/a"), pair("/", "k*"));
        assert_eq!(split("/.ssh/k", "/"), pair("/", ".ssh/k"));
    }

    proptest! {
        #[test]
        fn no_pattern_panics_or_takes_long(pattern in "[]\\[*?a!^:\\\\-]{0,20}", name in "[]a*b.-]{0,60}") {
            let _ = matches(pattern.as_bytes(), name.as_bytes());
        }

        #[test]
        fn a_name_matches_itself_escaped_and_a_star(name in "[a-z*?\\[\\]\\\\]{1,20}") {
            let escaped: String = name.chars().flat_map(|letter| ['\\', letter]).collect();
            prop_assert!(matches(escaped.as_bytes(), name.as_bytes()));
            prop_assert!(matches(b"*", name.as_bytes()));
        }
    }
}
