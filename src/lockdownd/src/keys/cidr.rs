//! A range of addresses that a login may come from, as `from=` takes it (sshd(8), ssh_config(5) "PATTERNS").
//!
//! It must never hold anything that sshd could read as a pattern or a negation: only addresses and prefix lengths.

use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Serialize};

/// An address with its prefix length, host bits all zero, or a single address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr {
    network: IpAddr,
    prefix: u8,
}

/// Why a text is no range of addresses, and what would be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    /// Not an address.
    #[error("{0:?} is not an address: write 192.0.2.7, 192.0.2.0/24, 2001:db8::7 or 2001:db8::/32")]
    Address(String),
    /// The prefix length is not a number, or too large.
    #[error("{given:?} has no valid prefix length: write / and a number from 0 to {most}")]
    Prefix {
        /// What was given, cut to 64 characters.
        given: String,
        /// The longest prefix for this kind of address: 32 or 128.
        most: u8,
    },
    /// Bits past the prefix are set.
    #[error(
        "{given:?} has address bits set past its prefix: write {network} for the range, or {address} for the address"
    )]
    HostBits {
        /// What was given.
        given: String,
        /// The range that holds it.
        network: Cidr,
        /// The address alone.
        address: IpAddr,
    },
    /// An IPv4 address in IPv6's clothes, which sshd never compares with.
    #[error("{given:?} is an IPv4 address written as IPv6: write {instead}")]
    Mapped {
        /// What was given.
        given: String,
        /// The same in IPv4.
        instead: Cidr,
    },
}

impl Cidr {
    /// Whether an address is in this range. An IPv4 address mapped into IPv6 counts as the IPv4 address that it is.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.network.is_ipv4() && masked(address, self.prefix) == self.network
    }
}

/// The longest prefix of this kind of address.
fn longest(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    let past = u32::from(longest(address) - prefix);
    match address {
        IpAddr::V4(v4) => IpAddr::V4((v4.to_bits() & u32::MAX.checked_shl(past).unwrap_or(0)).into()),
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & u128::MAX.checked_shl(past).unwrap_or(0)).into()),
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let given: String = text.chars().take(64).collect();
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| CidrError::Address(given.clone()))?;
        let most = longest(address);
        let prefix = match prefix {
            None => most,
            Some(digits) => parse_prefix(digits, most).ok_or(CidrError::Prefix { given: given.clone(), most })?,
        };
        let network = masked(address, prefix);
        if network != address {
            return Err(CidrError::HostBits { given, network: Self { network, prefix }, address });
        }
        match address.to_canonical() {
            v4 @ IpAddr::V4(_) if address.is_ipv6() => {
                // A mapped address has 96 bits before its own; a shorter prefix would have left bits set behind it.
                let instead = Self { network: v4, prefix: prefix.saturating_sub(96) };
                Err(CidrError::Mapped { given, instead })
            }
            _ => Ok(Self { network, prefix }),
        }
    }
}

fn parse_prefix(digits: &str, most: u8) -> Option<u8> {
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    digits.parse().ok().filter(|prefix| plain && *prefix <= most)
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.prefix == longest(self.network) {
            write!(f, "{}", self.network)
        } else {
            write!(f, "{}/{}", self.network, self.prefix)
        }
    }
}

impl TryFrom<String> for Cidr {
    type Error = CidrError;
    fn try_from(text: String) -> Result<Self, CidrError> {
        text.parse()
    }
}

impl From<Cidr> for String {
    fn from(cidr: Cidr) -> Self {
        cidr.to_string()
    }
}
