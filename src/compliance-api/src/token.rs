//! Bearer tokens: what they look like, what each role may do. The text of a token is shown once, when it is made; what
//! is kept is its SHA-256. It never reaches a log, a record or the database.

use std::{fmt, str::FromStr};

use base64ct::{Base64UrlUnpadded, Encoding};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use ssh_key::rand_core::{OsRng, RngCore};

/// Random bytes in a token: 43 characters of base64url.
const RANDOM_BYTES: usize = 32;
/// Characters that they take.
const RANDOM_CHARS: usize = 43;

/// The longest type that a client may post, in bytes.
pub const MAX_TYPE: usize = 64;

/// Whether a client's type can have this form: words with dots between them, as `app.authentication`.
#[must_use]
pub fn is_type(kind: &str) -> bool {
    let word = |w: &str| !w.is_empty() && w.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    kind.len() <= MAX_TYPE && kind.contains('.') && kind.split('.').all(word)
}

/// What a token lets its bearer do. Each can do what stands here and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = TokenRole)]
pub enum Role {
    /// Bind the key of a new host of one stack.
    Enrol,
    /// Post artifacts of its own, under one name.
    Client,
    /// Read evidence.
    Auditor,
    /// Read evidence; make and revoke tokens; approve enrolments; name reviewers.
    Admin,
    /// Read what the server counts about itself, and no evidence.
    Monitor,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 5] = [Self::Enrol, Self::Client, Self::Auditor, Self::Admin, Self::Monitor];

    /// The word in a token, in the database and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enrol => "enrol",
            Self::Client => "client",
            Self::Auditor => "auditor",
            Self::Admin => "admin",
            Self::Monitor => "monitor",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = NotAToken;
    fn from_str(word: &str) -> Result<Self, NotAToken> {
        Self::ALL.into_iter().find(|r| r.as_str() == word).ok_or(NotAToken)
    }
}

/// Text that is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a token is ca_ROLE_ and 43 characters, as `compliance-api token create` prints it")]
pub struct NotAToken;

/// What is kept of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenHash(pub [u8; 32]);

/// The text of a token. It prints as its role alone.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    role: Role,
    text: String,
}

impl Token {
    /// A new random token.
    #[must_use]
    pub fn random(role: Role) -> Self {
        let mut bytes = [0; RANDOM_BYTES];
        OsRng.fill_bytes(&mut bytes);
        Self { role, text: format!("ca_{role}_{}", Base64UrlUnpadded::encode_string(&bytes)) }
    }

    /// Its role, as it claims. Whether that is so, the store says.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// The whole text, to be shown once.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.text
    }

    /// What is kept of it.
    #[must_use]
    pub fn hash(&self) -> TokenHash {
        TokenHash(Sha256::digest(self.text.as_bytes()).into())
    }
}

impl FromStr for Token {
    type Err = NotAToken;
    fn from_str(text: &str) -> Result<Self, NotAToken> {
        let (role, random) = text.strip_prefix("ca_").and_then(|t| t.split_once('_')).ok_or(NotAToken)?;
        let role = role.parse()?;
        let fits =
            random.len() == RANDOM_CHARS && random.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if !fits {
            return Err(NotAToken);
        }
        Ok(Self { role, text: text.to_owned() })
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token(ca_{}_…)", self.role)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back_as_it_was_made_and_never_prints_its_secret() {
        for role in Role::ALL {
            let token = Token::random(role);
            assert_eq!(token.reveal().parse(), Ok(token.clone()));
            assert_eq!(token.reveal().len(), 4 + role.as_str().len() + RANDOM_CHARS);
            assert!(!format!("{token:?}").contains(&token.reveal()[12..]));
        }
        assert_ne!(Token::random(Role::Admin).hash(), Token::random(Role::Admin).hash());
    }

    #[test]
    fn what_is_no_token_is_refused() {
        let good = Token::random(Role::Client).reveal().to_owned();
        for bad in
            ["", "ca_", "ca_client_", &good[..good.len() - 1], &format!("{good}A"), &good.replace("client", "root")]
        {
            assert_eq!(bad.parse::<Token>(), Err(NotAToken), "{bad}");
        }
    }
}
