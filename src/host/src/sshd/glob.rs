//! glob(3) as sshd uses it, for `Include` and, since OpenSSH 10, for `AuthorizedKeysFile`.
//!
//! [`matches`] is pure. [`expand`] lists directories and is for root's own places only: it follows symbolic links.

use std::{
    io,
    path::{Path, PathBuf},
};

/// The most entries that one directory is listed to, and the most paths that one pattern gives.
pub const MAX_ENTRIES: usize = 10_000;

/// Whether a name or pattern has any of glob(3)'s special characters.
#[must_use]
pub fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

/// Whether one path component matches a pattern: `*`, `?`, `[a-z]`, `[!a]`, backslash; a leading dot only by itself.
#[must_use]
pub fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    if name.first() == Some(&'.') && pattern.first() != Some(&'.') {
        return false;
    }
    // The last `*` seen, and where in the name it has been taken to end: enough to try again from, without recursion.
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        if pattern.get(p) == Some(&'*') {
            star = Some((p, n));
            p += 1;
        } else if let Some(next) = one(&pattern, p, name[n]) {
            (p, n) = (next, n + 1);
        } else if let Some((at, taken)) = star {
            star = Some((at, taken + 1));
            (p, n) = (at + 1, taken + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// Whether the element of the pattern at `p` takes this character, and where the next element starts.
fn one(pattern: &[char], p: usize, c: char) -> Option<usize> {
    match *pattern.get(p)? {
        '?' => Some(p + 1),
        '\\' => (pattern.get(p + 1) == Some(&c)).then_some(p + 2),
        '[' => match class(pattern, p) {
            Some((inside, next)) => inside(c).then_some(next),
            None => (c == '[').then_some(p + 1),
        },
        literal => (literal == c).then_some(p + 1),
    }
}

/// Reads `[…]`; `None` when it is not closed and so stands for itself.
fn class(pattern: &[char], p: usize) -> Option<(impl Fn(char) -> bool, usize)> {
    let negated = matches!(pattern.get(p + 1), Some('!' | '^'));
    let first = p + 1 + usize::from(negated);
    // A `]` right at the start is one of the characters.
    let close = first + 1 + pattern.get(first + 1..)?.iter().position(|c| *c == ']')?;
    let set = pattern[first..close].to_vec();
    let inside = move |c: char| {
        let mut at = 0;
        let mut found = false;
        while at < set.len() {
            if set.get(at + 1) == Some(&'-') && at + 2 < set.len() {
                found |= (set[at]..=set[at + 2]).contains(&c);
                at += 3;
            } else {
                found |= set[at] == c;
                at += 1;
            }
        }
        found != negated
    };
    Some((inside, close + 1))
}

/// The existing paths that an absolute pattern stands for, sorted as glob(3) sorts them in the C locale, and the
/// directories that were listed for it (a new file in one of them changes the answer).
///
/// # Errors
/// When a directory cannot be listed, other than because it is not there, or is longer than [`MAX_ENTRIES`].
pub fn expand(pattern: &str) -> io::Result<(Vec<PathBuf>, Vec<PathBuf>)> {
    let (mut found, mut listed) = (vec![PathBuf::from("/")], Vec::new());
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        let mut next = Vec::new();
        for dir in &found {
            if !is_pattern(part) {
                next.push(dir.join(part));
                continue;
            }
            listed.push(dir.clone());
            next.extend(list(dir)?.into_iter().filter(|name| matches(part, name)).map(|name| dir.join(name)));
        }
        next.truncate(MAX_ENTRIES);
        found = next;
    }
    // The last directory of a plain name is where that name would appear.
    listed.extend(Path::new(pattern).parent().filter(|dir| !is_pattern(&dir.to_string_lossy())).map(Path::to_owned));
    found.retain(|path| path.exists());
    found.sort();
    listed.dedup();
    Ok((found, listed))
}

fn list(dir: &Path) -> io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        if names.len() == MAX_ENTRIES {
            return Err(io::Error::other(format!("more than {MAX_ENTRIES} entries")));
        }
        names.extend(entry?.file_name().into_string().ok());
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_glob_does() {
        for (pattern, name, expected) in [
            ("*.conf", "a.conf", true),
            ("*.conf", ".conf", false),
            (".*", ".conf", true),
            ("*.conf", "a.conf.dpkg-old", false),
            ("*", "", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("?", "é", true),
            ("[0-9]*", "00-x.conf", true),
            ("[!0-9]*", "00-x.conf", false),
            ("[]a]", "]", true),
            ("[a", "[a", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "axb", false),
            ("***a", "xa", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn a_pattern_made_to_be_slow_is_not() {
        let pattern = "a*".repeat(200) + "b";
        assert!(!matches(&pattern, &"a".repeat(5000)));
    }

    #[test]
    fn existing_files_come_sorted_with_the_directories_to_watch() {
        let dir = tempfile::tempdir().expect("a directory");
        for name in ["b.conf", "a.conf", "10.conf", "x.txt", ".hidden.conf"] {
            std::fs::write(dir.path().join(name), "").expect("a file");
        }
        let (found, listed) = expand(&format!("{}/*.conf", dir.path().display())).expect("a list");
        let names: Vec<_> = found.iter().filter_map(|path| path.file_name()?.to_str()).collect();
        assert_eq!(names, ["10.conf", "a.conf", "b.conf"]);
        assert!(listed.contains(&dir.path().to_owned()));
        let (found, listed) = expand(&format!("{}/none/*.conf", dir.path().display())).expect("a list");
        assert!(found.is_empty());
        assert_eq!(listed, [dir.path().join("none")]);
    }
}
