//! An address range as sshd's `from="…"` takes it: parsed here, written from the parsed value, never pasted.

use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Serialize};

/// The most bytes that the text of a range may have: a full IPv6 address, `/` and three digits.
const MAX_TEXT: usize = 43;

/// A range of addresses, such as `10.1.0.0/16`, `2001:db8::/32` or one address alone.
///
/// sshd refuses a whole line whose range has bits set beyond its prefix (`addr_pton_cidr`), and compares IPv4 peers as
/// IPv4: hence neither host bits nor IPv4-mapped addresses are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

/// A range that was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    /// It is no address and no `ADDRESS/PREFIX`.
    #[error("{0:?} is not an address range: give one like 10.1.0.0/16, 2001:db8::/32 or 192.0.2.7")]
    Syntax(String),
    /// Bits beyond the prefix are set.
    #[error("{given} has bits set beyond its prefix, which sshd refuses: did you mean {meant}?")]
    HostBits {
        /// What was given.
        given: String,
        /// The range with those bits cleared.
        meant: Cidr,
    },
    /// An IPv4 address dressed as IPv6.
    #[error("{0} is an IPv4 address written as IPv6, which sshd never compares with: write it as IPv4")]
    Mapped(String),
}

impl Cidr {
    /// The range of this many leading bits that an address is in; of all its bits where there are not so many.
    #[must_use]
    pub fn around(address: IpAddr, prefix: u8) -> Self {
        let address = address.to_canonical();
        let prefix = prefix.min(if address.is_ipv4() { 32 } else { 128 });
        Self { address: network(address, prefix), prefix }
    }

    /// Whether it is one address.
    #[must_use]
    pub fn is_single(self) -> bool {
        self.prefix == if self.address.is_ipv4() { 32 } else { 128 }
    }

    /// The first address of the range.
    #[must_use]
    pub fn address(self) -> IpAddr {
        self.address
    }

    /// How many leading bits are fixed: 0 to 32 or 0 to 128.
    #[must_use]
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// Whether `peer` lies within.
    #[must_use]
    pub fn contains(self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        peer.is_ipv4() == self.address.is_ipv4() && network(peer, self.prefix) == self.address
    }
}

/// `address` with all bits beyond `prefix` cleared.
fn network(address: IpAddr, prefix: u8) -> IpAddr {
    let prefix = u32::from(prefix);
    match address {
        IpAddr::V4(v4) => IpAddr::V4((v4.to_bits() & u32::MAX.checked_shl(32 - prefix).unwrap_or(0)).into()),
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & u128::MAX.checked_shl(128 - prefix).unwrap_or(0)).into()),
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(given: &str) -> Result<Self, CidrError> {
        let syntax = || CidrError::Syntax(given.chars().take(MAX_TEXT + 1).collect());
        if given.len() > MAX_TEXT {
            return Err(syntax());
        }
        let (address, prefix) = match given.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (given, None),
        };
        let address: IpAddr = address.parse().map_err(|_| syntax())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => most,
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().map_err(|_| syntax())?,
            Some(_) => return Err(syntax()),
        };
        if prefix > most {
            return Err(syntax());
        }
        if address.to_canonical() != address {
            return Err(CidrError::Mapped(given.to_owned()));
        }
        let clean = Self { address: network(address, prefix), prefix };
        if clean.address != address {
            return Err(CidrError::HostBits { given: given.to_owned(), meant: clean });
        }
        Ok(clean)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl TryFrom<String> for Cidr {
    type Error = CidrError;
    fn try_from(given: String) -> Result<Self, CidrError> {
        given.parse()
    }
}

impl From<Cidr> for String {
    fn from(range: Cidr) -> Self {
        range.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    #[test]
    fn ranges_and_single_addresses_are_written_from_what_was_parsed() {
        for (given, written) in [
            ("10.1.0.0/16", "10.1.0.0/16"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("192.0.2.7", "192.0.2.7/32"),
            ("2001:DB8:0::/32", "2001:db8::/32"),
            ("::1", "::1/128"),
        ] {
            assert_eq!(cidr(given).to_string(), written);
        }
    }

    #[test]
    fn what_sshd_would_refuse_or_misread_is_refused() {
        for given in ["", "10.1", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/+8", "*.example.com", "!10.0.0.0/8", "::/129"]
        {
            assert!(matches!(given.parse::<Cidr>(), Err(CidrError::Syntax(_))), "{given}");
        }
        assert!(matches!("10.0.0.0/8,\"".parse::<Cidr>(), Err(CidrError::Syntax(_))));
        assert!(matches!("::ffff:10.0.0.1".parse::<Cidr>(), Err(CidrError::Mapped(_))));
        assert!(matches!("1".repeat(1000).parse::<Cidr>(), Err(CidrError::Syntax(_))));
    }

    #[test]
    fn bits_beyond_the_prefix_are_refused_with_what_was_probably_meant() {
        let error = "10.1.2.3/8".parse::<Cidr>().unwrap_err().to_string();
        assert!(error.contains("did you mean 10.0.0.0/8?"), "{error}");
    }

    #[test]
    fn a_peer_is_compared_as_what_it_is() {
        assert!(cidr("10.0.0.0/8").contains("10.9.8.7".parse().unwrap()));
        assert!(cidr("10.0.0.0/8").contains("::ffff:10.9.8.7".parse().unwrap()));
        assert!(!cidr("10.0.0.0/8").contains("11.0.0.0".parse().unwrap()));
        assert!(!cidr("0.0.0.0/0").contains("2001:db8::1".parse().unwrap()));
        assert!(cidr("::/0").contains("2001:db8::1".parse().unwrap()));
    }
}
