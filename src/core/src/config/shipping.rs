//! The words of `[ledger]` and `[ship.…]`: sizes, sockets, URLs, files and the server's keys. This never opens any of
//! them: what a file holds shows when the shipper uses it.

use std::net::{Ipv4Addr, Ipv6Addr};

use ssh_key::PublicKey;

use super::error::quoted;
use crate::keys::person::PersonKey;

/// The longest address, URL or path, in bytes.
pub const MAX_ADDRESS: usize = 1024;
/// The most keys that the server's receipts may be signed with.
pub const MAX_RECEIPT_KEYS: usize = 16;

/// The longest path of a Unix socket, in bytes, as unix(7) has it.
const MAX_SOCKET_PATH: usize = 107;
/// The units of sizes, from small to large.
const UNITS: [(&str, u64); 4] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];

/// Where records are shipped to. Kept as data: the shipper acts on it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ship {
    /// `ship.syslog.address`: `unix:` and the path of a socket.
    pub syslog: Option<String>,
    /// `[ship.api]`, where its `url` is set.
    pub api: Option<ShipApi>,
}

/// `[ship.api]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShipApi {
    /// The compliance API: https, or http to this very host.
    pub url: String,
    /// Certificates to trust instead of the system's, in PEM.
    pub ca_file: Option<String>,
    /// The certificate that the shipper shows, in PEM; its key is a credential of the shipper's unit.
    pub client_certificate: Option<String>,
    /// The ed25519 keys that the server's receipts may be signed with, without comments; none: the first one that signs
    /// a receipt which holds is pinned.
    pub receipt_keys: Vec<PublicKey>,
}

/// What happens when the ledger has reached its `max_size`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// New grants are refused; what takes access away goes on being recorded, into a reserve.
    RefuseGrants,
    /// The oldest records go, shipped or not, and the ledger says which.
    DropOldest,
}

impl WhenFull {
    /// The word as in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RefuseGrants => "refuse_grants",
            Self::DropOldest => "drop_oldest",
        }
    }
}

pub(super) fn when_full(text: &str) -> Result<WhenFull, String> {
    [WhenFull::RefuseGrants, WhenFull::DropOldest]
        .into_iter()
        .find(|policy| policy.as_str() == text)
        .ok_or_else(|| format!("{} is no policy; write \"refuse_grants\" or \"drop_oldest\"", quoted(text)))
}

/// A size in bytes, from a whole number and its unit.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let refuse = || format!("{} is no size; write a whole number of KiB, MiB, GiB or TiB, like 4GiB", quoted(text));
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let (_, unit) = UNITS.iter().find(|(name, _)| *name == &text[digits.len()..]).ok_or_else(refuse)?;
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse::<u64>().ok().filter(|_| plain).and_then(|n| n.checked_mul(*unit)).ok_or_else(refuse)
}

/// A size as [`size`] reads it again; parts of a KiB are left out.
pub(super) fn written_size(bytes: u64) -> String {
    let (name, unit) =
        UNITS.iter().rev().find(|(_, unit)| bytes >= *unit && bytes.is_multiple_of(*unit)).unwrap_or(&UNITS[0]);
    format!("{}{name}", bytes / unit)
}

pub(super) fn syslog_address(text: &str) -> Result<String, String> {
    let path = text.strip_prefix("unix:").filter(|path| path.starts_with('/') && path.len() <= MAX_SOCKET_PATH);
    match path {
        Some(_) if plain(text) => Ok(text.to_owned()),
        _ => Err(format!("{} is no socket; write it like unix:/run/systemd/journal/syslog", quoted(text))),
    }
}

pub(super) fn api_url(text: &str) -> Result<String, String> {
    let (https, rest) = match text.strip_prefix("https://") {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix("http://").unwrap_or_default()),
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.is_empty() || !plain(text) || rest.contains('@') {
        return Err(format!(
            "{} is no https URL without credentials; write it like https://compliance.example.com",
            quoted(text)
        ));
    }
    if !https && !is_loopback(authority) {
        return Err(format!(
            "{} is no https URL: what goes over a network is encrypted; http is for this very host alone, like http://127.0.0.1:8448",
            quoted(text)
        ));
    }
    Ok(text.to_owned())
}

/// Whether `HOST[:PORT]` is this very host whatever a resolver says.
fn is_loopback(authority: &str) -> bool {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    };
    let v6 = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    host == "localhost"
        || host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
        || v6.and_then(|v6| v6.parse::<Ipv6Addr>().ok()).is_some_and(|address| address.is_loopback())
}

pub(super) fn pem_file(text: &str) -> Result<String, String> {
    let clean = text.split('/').all(|part| part != ".." && part != ".");
    if text.starts_with('/') && !text.ends_with('/') && clean && plain(text) {
        return Ok(text.to_owned());
    }
    Err(format!("{} is no absolute path of a file; write it like /etc/lockdownd/compliance-ca.pem", quoted(text)))
}

pub(super) fn receipt_key(text: &str) -> Result<PublicKey, String> {
    let key = PersonKey::parse(text).map_err(|error| error.to_string())?;
    let wanted =
        "the server's receipts are signed with ssh-ed25519; GET /v1/server of the compliance API tells its key";
    if key.algorithm() != "ssh-ed25519" {
        return Err(format!("a key of type {} signs no receipts: {wanted}", key.algorithm()));
    }
    PublicKey::from_openssh(&format!("ssh-ed25519 {}", key.base64())).map_err(|error| format!("{error}: {wanted}"))
}

fn plain(text: &str) -> bool {
    text.len() <= MAX_ADDRESS && text.bytes().all(|b| b.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_http_goes_to_this_very_host_alone() {
        for good in [
            "http://127.0.0.1:8448",
            "http://127.9.9.9/api",
            "http://[::1]:8448/",
            "http://localhost",
            "http://localhost:80/x:y",
            "https://compliance.example.com",
            "https://10.0.0.1:8448/base",
        ] {
            assert_eq!(api_url(good).as_deref(), Ok(good));
        }
        for bad in [
            "http://10.0.0.1",
            "http://localhost.example.com",
            "http://127.0.0.1.example.com",
            "http://127.0.0.1@example.com",
            "http://0.0.0.0",
            "http://[::2]",
            "http://::1",
            "http://",
            "http:///x",
            "ftp://localhost",
            "http://local host",
        ] {
            assert!(api_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_are_whole_numbers_with_a_unit() {
        for (text, bytes) in [("1KiB", 1_024), ("64MiB", 64 << 20), ("4GiB", 4 << 30), ("16TiB", 16 << 40)] {
            assert_eq!(size(text), Ok(bytes));
        }
        for bad in ["", "4", "GiB", "4GB", "4 GiB", "4gib", "-4GiB", "1.5GiB", "+4GiB", "99999999999TiB", "4GiB ", "é"]
        {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_certificate_is_an_absolute_path_of_a_file() {
        assert!(pem_file("/etc/lockdownd/ca.pem").is_ok());
        for bad in ["ca.pem", "/", "/etc/", "/etc/../ca.pem", "/etc/./ca.pem", "/a b"] {
            assert!(pem_file(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_receipt_key_is_ed25519_and_its_comment_does_not_count() {
        let key = crate::keys::test_keys::ED25519;
        let plain = receipt_key(key).expect("good");
        assert_eq!(receipt_key(&format!("{key} a comment")), Ok(plain.clone()));
        assert!(plain.comment().is_empty());
        for bad in ["", "ssh-ed25519", "ssh-ed25519 AAAA", "-----BEGIN"] {
            assert!(receipt_key(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_size_that_is_written_reads_the_same(kib in 1_u64..1 << 34) {
            prop_assert_eq!(size(&written_size(kib << 10)), Ok(kib << 10));
        }

        #[test]
        fn no_text_makes_a_size_or_an_address_panic(text in "[-0-9a-zA-Zé:/\\[\\].@ ]{0,40}") {
            let _ = (size(&text), api_url(&text), pem_file(&text), syslog_address(&text));
        }
    }
}
