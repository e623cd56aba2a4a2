//! The words that name things in records, parsed once at the door so that the inside never re-checks them.
//!
//! Each type's constructor is [`FromStr`](std::str::FromStr); serde goes through the same parser, in both directions.

/// A name, id or fingerprint that was refused: what it was meant to be, and what would have worked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not a valid {what}: {rule}")]
pub struct NameError {
    /// The kind of name, as in "person".
    pub what: &'static str,
    /// What was given, cut to 64 characters.
    pub given: String,
    /// What is accepted, in words.
    pub rule: &'static str,
}

/// A type of text that is checked once, when it is parsed: its name, what it is, what is accepted in words, and the check. Whoever
/// uses it depends on serde.
#[macro_export]
macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal, $rule:expr, $valid:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, ::serde::Serialize, ::serde::Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl ::std::str::FromStr for $type {
            type Err = $crate::NameError;
            fn from_str(given: &str) -> Result<Self, $crate::NameError> {
                let valid: fn(&str) -> bool = $valid;
                if valid(given) {
                    Ok(Self(given.to_owned()))
                } else {
                    Err($crate::NameError { what: $what, given: given.chars().take(64).collect(), rule: $rule })
                }
            }
        }
        impl TryFrom<String> for $type {
            type Error = $crate::NameError;
            fn try_from(given: String) -> Result<Self, $crate::NameError> {
                given.parse()
            }
        }
        impl From<$type> for String {
            fn from(name: $type) -> Self {
                name.0
            }
        }
        impl ::std::fmt::Display for $type {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

fn all_in(text: &str, most: usize, extra: &str) -> bool {
    (1..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || extra.as_bytes().contains(&b))
}

name!(
    /// One human's unique name: `[A-Za-z0-9][A-Za-z0-9._@+-]*`, at most 64 bytes.
    Person, "person", "1 to 64 of A-Z a-z 0-9 . _ @ + -, starting with a letter or digit",
    |s| all_in(s, 64, "._@+-") && s.as_bytes()[0].is_ascii_alphanumeric()
);
name!(
    /// A Unix login as passwd(5) may hold it: 1 to 255 bytes without white space, control characters, `/` or `:`,
    /// not starting with `-` and not `.` or `..`. Wider than useradd(8) allows: an account counts whoever made it.
    Account, "account", "1 to 255 bytes without white space, control characters, / or :, not starting with -",
    |s| {
        (1..=255).contains(&s.len())
            && !s.starts_with('-')
            && s != "."
            && s != ".."
            && !s.contains(|c: char| c.is_whitespace() || c.is_control() || c == '/' || c == ':')
    }
);
name!(
    /// The id of one grant: `g-` and 16 lower-case hex digits.
    GrantId, "grant", "g- and 16 hex digits, as `lockdownctl grants` prints it",
    |s| s.strip_prefix("g-").is_some_and(|hex| hex.len() == 16 && lower_hex(hex))
);
name!(
    /// The id of one session: `s-` and 16 lower-case hex digits.
    SessionId, "session", "s- and 16 hex digits, as `lockdownctl sessions` prints it",
    |s| s.strip_prefix("s-").is_some_and(|hex| hex.len() == 16 && lower_hex(hex))
);
name!(
    /// The random id of one ledger: 32 lower-case hex digits.
    LedgerId, "ledger", "32 hex digits",
    |s| s.len() == 32 && lower_hex(s)
);
name!(
    /// A host's name in records, `[A-Za-z0-9.-]`, at most 64 bytes: the principal in an `allowed_signers` file (ssh-keygen(1)).
    Host, "host", "1 to 64 of A-Z a-z 0-9 . -",
    |s| all_in(s, 64, ".-")
);
name!(
    /// A stack's name, `[A-Za-z0-9._-]`, at most 64 bytes.
    Stack, "stack", "1 to 64 of A-Z a-z 0-9 . _ -",
    |s| all_in(s, 64, "._-")
);
name!(
    /// A public key's SHA-256 fingerprint as `ssh-keygen -l` prints it: `SHA256:` and 43 characters of unpadded base64.
    Fingerprint, "fingerprint", "SHA256: and 43 base64 characters, as `ssh-keygen -l` prints it",
    |s| s.strip_prefix("SHA256:").is_some_and(|b| b.len() == 43 && all_in(b, 43, "+/"))
);

fn lower_hex(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}
