//! The words of documents that records do not have, parsed once at the door.
//!
//! Each type's constructor is [`FromStr`](std::str::FromStr); serde goes through the same parser, in both directions.

use std::fmt;

use record::{Account, NameError, Stack, is_plain, name};
use serde::{Deserialize, Serialize};

/// The longest reason, in bytes.
pub const MAX_REASON: usize = 512;
/// The longest name of an organization, a source or a user of IAM, in bytes.
pub const MAX_NAME: usize = 128;
/// The longest ARN of a user of IAM, in bytes: IAM takes paths of 512 and names of 64.
pub const MAX_ARN: usize = 640;
/// The longest origin of a server, in bytes.
pub const MAX_ORIGIN: usize = 256;
/// What stands for every stack, every account or every host.
pub const ANY: &str = "*";

/// Text of so many bytes in which each character stands for itself: none of the classes Cc, Cf, Zl and Zp, no backslash.
fn plain(text: &str, most: usize) -> bool {
    (1..=most).contains(&text.len()) && text.chars().all(is_plain)
}

fn all_in(text: &str, most: usize, extra: &str) -> bool {
    (1..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || extra.as_bytes().contains(&b))
}

/// `arn:PARTITION:iam::ACCOUNT:user/…`
fn user_arn(text: &str) -> bool {
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    let [arn, partition, service, region, account, user] = parts[..] else { return false };
    let is_account = account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit());
    let is_there = arn == "arn" && all_in(partition, MAX_NAME, "-") && service == "iam" && region.is_empty();
    // IAM's paths have no other characters; it is shown in a sentence, to whoever signs.
    let is_ascii = text.bytes().all(|b| b.is_ascii_graphic());
    let is_user = user.strip_prefix("user/").is_some_and(|name| !name.is_empty());
    plain(text, MAX_ARN) && is_ascii && is_there && is_account && is_user
}

fn account(text: &str) -> bool {
    text != ANY && plain(text, 255) && text.parse::<Account>().is_ok()
}

name!(
    /// The organization that documents belong to: `[A-Za-z0-9._-]`, at most [`MAX_NAME`] bytes.
    Organization, "organization", "1 to 128 of A-Z a-z 0-9 . _ -",
    |s| all_in(s, MAX_NAME, "._-")
);
name!(
    /// Where an entry of a roster comes from, such as `iam`: `[A-Za-z0-9._-]`, at most [`MAX_NAME`] bytes.
    Source, "source", "1 to 128 of A-Z a-z 0-9 . _ -",
    |s| all_in(s, MAX_NAME, "._-")
);
name!(
    /// Why: one line of plain text, at most [`MAX_REASON`] bytes.
    Reason, "reason", "1 to 512 bytes of one line, without a backslash and characters that do not show",
    |s| plain(s, MAX_REASON)
);
name!(
    /// An account that a document may name: as passwd(5) has it, and plain text.
    AccountName, "account", "1 to 255 bytes without white space, backslashes, / or :, not starting with -, not *",
    account
);
name!(
    /// A stack, or `*` for every stack.
    StackPattern, "stack", "a stack's name, or * for every stack",
    |s| s == ANY || s.parse::<Stack>().is_ok()
);
name!(
    /// An account, or `*` for every account.
    AccountPattern, "account", "an account's name, or * for every account",
    |s| s == ANY || account(s)
);
name!(
    /// A name or an id of a user as IAM has it.
    IamName, "name of a user of IAM", "1 to 128 bytes without a backslash and characters that do not show",
    |s| plain(s, MAX_NAME)
);
name!(
    /// Where a user of IAM is: `arn:aws:iam::ACCOUNT:user/PATH/NAME`, at most [`MAX_ARN`] bytes of ASCII without white space.
    IamArn, "ARN of a user of IAM", "arn:aws:iam::123456789012:user/NAME, at most 640 bytes of ASCII, without white space and backslashes",
    user_arn
);
name!(
    /// A server as its clients reach it: `https://HOST[:PORT]`.
    Origin, "origin", "https://HOST or https://HOST:PORT, in lower case",
    |s| {
        s.len() <= MAX_ORIGIN
            && s.strip_prefix("https://").is_some_and(|rest| {
                all_in(rest, MAX_ORIGIN, ".-:[]") && !rest.bytes().any(|b| b.is_ascii_uppercase())
            })
    }
);
name!(
    /// A server's challenge: 32 to 128 characters of base64url.
    Nonce, "nonce", "32 to 128 of A-Z a-z 0-9 _ -, as the server gave it",
    |s| s.len() >= 32 && all_in(s, 128, "_-")
);

impl IamArn {
    /// The account of AWS: 12 digits.
    #[must_use]
    pub fn account(&self) -> &str {
        self.0.split(':').nth(4).unwrap_or_default()
    }
}

impl StackPattern {
    /// Whether this stands for every stack.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.0 == ANY
    }

    /// Whether it stands for this stack.
    #[must_use]
    pub fn fits(&self, stack: &Stack) -> bool {
        self.is_any() || self.0 == stack.as_str()
    }

    /// Whether it stands for all that the other one stands for.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.is_any() || self == other
    }

    /// Whether there is a stack that both stand for.
    #[must_use]
    pub fn meets(&self, other: &Self) -> bool {
        self.covers(other) || other.is_any()
    }
}

impl AccountPattern {
    /// Whether it stands for this account.
    #[must_use]
    pub fn fits(&self, account: &AccountName) -> bool {
        self.0 == ANY || self.0 == account.as_str()
    }
}

impl From<&Stack> for StackPattern {
    fn from(stack: &Stack) -> Self {
        Self(stack.as_str().to_owned())
    }
}

/// The version of a roster: 1 and up, at most what every JSON reader keeps exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct Version(u64);

impl Version {
    /// The number.
    #[must_use]
    pub fn number(self) -> u64 {
        self.0
    }
}

impl TryFrom<u64> for Version {
    type Error = NameError;
    fn try_from(number: u64) -> Result<Self, NameError> {
        if (1..=record::MAX_INTEGER).contains(&number) {
            Ok(Self(number))
        } else {
            Err(NameError { what: "roster version", given: number.to_string(), rule: "1 to 2^53-1" })
        }
    }
}

impl From<Version> for u64 {
    fn from(version: Version) -> Self {
        version.0
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_hides_turns_or_escapes_is_refused() {
        for bad in ["", "a\nb", "a\u{7f}b", "a\u{202e}b", "a\u{2028}b", "a\u{2029}b", "a\\b", "\u{feff}a"] {
            assert!(bad.parse::<Reason>().is_err(), "{bad:?}");
            assert!(bad.parse::<AccountName>().is_err(), "{bad:?}");
            assert!(bad.parse::<IamName>().is_err(), "{bad:?}");
        }
        assert!("Zoë's laptop \"x\" 日本".parse::<Reason>().is_ok());
        assert!("x".repeat(MAX_REASON).parse::<Reason>().is_ok());
        assert!("x".repeat(MAX_REASON + 1).parse::<Reason>().is_err());
    }

    #[test]
    fn a_pattern_is_no_name() {
        assert!(ANY.parse::<AccountName>().is_err());
        assert!("*b".parse::<StackPattern>().is_err());
        let (any, web): (StackPattern, StackPattern) = (ANY.parse().unwrap(), "web".parse().unwrap());
        assert!(any.covers(&web) && !web.covers(&any) && web.meets(&any) && any.meets(&web));
        assert!(any.fits(&"db".parse().unwrap()) && !web.fits(&"db".parse().unwrap()));
    }

    #[test]
    fn an_arn_names_a_user_of_one_account() {
        for good in
            ["arn:aws:iam::123456789012:user/frank", "arn:aws-us-gov:iam::123456789012:user/eu/a:b/f+r=a,n.k@_-"]
        {
            assert_eq!(good.parse::<IamArn>().unwrap().account(), "123456789012", "{good}");
        }
        let long = |path: usize| format!("arn:aws:iam::123456789012:user/{}/frank", "p".repeat(path));
        assert!(long(512).parse::<IamArn>().is_ok() && long(MAX_ARN).parse::<IamArn>().is_err());
        for bad in [
            "frank",
            "arn:aws:iam::123456789012:user/",
            "arn:aws:iam::123456789012:group/dev",
            "arn:aws:iam::12345678901:user/frank",
            "arn:aws:iam:eu:123456789012:user/frank",
            "arn:aws:sts::123456789012:user/frank",
            "arn::iam::123456789012:user/frank",
            "arn:aws:iam::123456789012:user/a\\b/frank",
            "arn:aws:iam::123456789012:user/frank, in account 210987654321",
            "arn:aws:iam::123456789012:user/fr\u{430}nk",
        ] {
            assert!(bad.parse::<IamArn>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_origin_names_a_server_and_nothing_else() {
        for good in ["https://compliance.example.com", "https://10.0.0.1:8443", "https://[2001:db8::1]:8443"] {
            assert!(good.parse::<Origin>().is_ok(), "{good}");
        }
        for bad in ["http://a", "https://", "https://a/b", "https://a?b", "https://u@a", "https://A", "ftp://a"] {
            assert!(bad.parse::<Origin>().is_err(), "{bad}");
        }
    }
}
