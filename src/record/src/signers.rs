//! Lines of an `allowed_signers` file, ssh-keygen(1) section ALLOWED SIGNERS: whose key may sign for which host.

use ssh_key::PublicKey;

use crate::{Host, line::NAMESPACE};

/// One line: principals, and the key that may sign in their name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedSigner {
    principals: Vec<String>,
    namespaces: Option<Vec<String>>,
    key: PublicKey,
}

/// A line of an `allowed_signers` file that cannot be used: better no verdict than one on a key that was not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("allowed_signers line {line}: {what}")]
pub struct SignersError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub what: String,
}

impl AllowedSigner {
    /// Reads a whole file. Blank lines and comments are skipped.
    ///
    /// # Errors
    /// On the first line that is not `PRINCIPALS [namespaces="…"] KEYTYPE KEY [COMMENT]`; the options
    /// `cert-authority`, `valid-after` and `valid-before` are not supported and refused.
    pub fn parse_file(text: &str) -> Result<Vec<Self>, SignersError> {
        let mut all = Vec::new();
        for (n, line) in text.lines().enumerate() {
            let line = line.trim();
            if !line.is_empty() && !line.starts_with('#') {
                all.push(Self::parse(line).map_err(|what| SignersError { line: n + 1, what })?);
            }
        }
        Ok(all)
    }

    fn parse(line: &str) -> Result<Self, String> {
        let (principals, rest) = word(line);
        let (next, after) = word(rest);
        let mut signer = Self {
            principals: list(principals),
            namespaces: None,
            key: match PublicKey::from_openssh(rest) {
                Ok(key) => return Ok(Self { principals: list(principals), namespaces: None, key }),
                Err(_) if next.is_empty() => return Err("a key is missing".to_owned()),
                Err(_) => PublicKey::from_openssh(after).map_err(|e| format!("no public key that can be read: {e}"))?,
            },
        };
        for option in options(next) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            if !name.eq_ignore_ascii_case("namespaces") {
                return Err(format!("option {name:?} is not supported here; only namespaces= is"));
            }
            signer.namespaces = Some(list(value));
        }
        Ok(signer)
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// Whether this line lets its key sign records of this host.
    #[must_use]
    pub fn allows(&self, host: &Host) -> bool {
        matches(&self.principals, host.as_str()) && self.namespaces.as_ref().is_none_or(|n| matches(n, NAMESPACE))
    }
}

/// The first word, a quoted part of it kept together, and what follows.
fn word(text: &str) -> (&str, &str) {
    let mut quoted = false;
    let end = text.find(|c: char| {
        quoted ^= c == '"';
        !quoted && (c == ' ' || c == '\t')
    });
    end.map_or((text, ""), |at| (&text[..at], text[at..].trim_start()))
}

fn options(text: &str) -> Vec<&str> {
    let mut quoted = false;
    text.split(move |c: char| {
        quoted ^= c == '"';
        !quoted && c == ','
    })
    .collect()
}

fn list(text: &str) -> Vec<String> {
    text.trim_matches('"').split(',').map(str::to_owned).collect()
}

/// A pattern list by ssh_config(5), PATTERNS: a match of a negated one wins.
fn matches(patterns: &[String], name: &str) -> bool {
    let hit = |negated: bool| {
        patterns.iter().any(|p| match p.strip_prefix('!') {
            Some(p) => negated && glob(p.as_bytes(), name.as_bytes()),
            None => !negated && glob(p.as_bytes(), name.as_bytes()),
        })
    };
    hit(false) && !hit(true)
}

fn glob(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern, name) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => glob(rest, name) || (!name.is_empty() && glob(pattern, &name[1..])),
        ([b'?', rest @ ..], [_, tail @ ..]) => glob(rest, tail),
        ([p, rest @ ..], [n, tail @ ..]) => p == n && glob(rest, tail),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4";

    fn host() -> Host {
        "i-0123.example".parse().unwrap()
    }

    #[test]
    fn plain_and_restricted_lines_are_understood() {
        let text = format!(
            "# signers\n\ni-0123.example {KEY} comment here\n*.example,!bad namespaces=\"file,ssh-access-record\" {KEY}\n\
             other {KEY}\ni-0123.example namespaces=\"git\" {KEY}\n"
        );
        let all = AllowedSigner::parse_file(&text).unwrap();
        let allowed: Vec<bool> = all.iter().map(|s| s.allows(&host())).collect();
        assert_eq!(allowed, [true, true, false, false]);
    }

    #[test]
    fn what_is_not_understood_is_refused_with_its_line() {
        for (text, line) in [
            ("host\n".to_owned(), 1),
            (format!("\nhost cert-authority {KEY}"), 2),
            (format!("host valid-before=\"20300101\" {KEY}"), 1),
            ("host ssh-ed25519 AAAA".to_owned(), 1),
        ] {
            assert_eq!(AllowedSigner::parse_file(&text).unwrap_err().line, line, "{text}");
        }
    }

    #[test]
    fn a_negated_principal_wins() {
        let all = AllowedSigner::parse_file(&format!("*,!i-0123.* {KEY}")).unwrap();
        assert!(!all[0].allows(&host()));
    }
}
