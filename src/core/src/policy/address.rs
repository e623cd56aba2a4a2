//! Addresses as sshd and PAM write them.

use std::net::IpAddr;

/// What sshd writes for a socket that has no address: a local one.
pub const NONE: &str = "UNKNOWN";

/// An address, and the zone of a link-local one, as in `fe80::1%eth0`. An IPv4 address written as IPv6 is an IPv4 address.
#[must_use]
pub fn parse(text: &str) -> Option<(IpAddr, Option<&str>)> {
    let (bare, zone) = match text.split_once('%') {
        Some((bare, zone)) => (bare, Some(zone).filter(|zone| !zone.is_empty())),
        None => (text, None),
    };
    let address: IpAddr = bare.parse().ok()?;
    Some((address.to_canonical(), zone))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_told_apart_from_its_address() {
        let address = |text: &str| -> IpAddr { text.parse().expect("an address") };
        assert_eq!(parse("fe80::1%eth0"), Some((address("fe80::1"), Some("eth0"))));
        assert_eq!(parse("::ffff:192.0.2.7"), Some((address("192.0.2.7"), None)));
        assert_eq!((parse("UNKNOWN"), parse("host.example.com"), parse("")), (None, None, None));
    }
}
