//! The PROXY protocol, version 2: a proxy that forwards connections says first whom each is from. It is read from the
//! configured addresses alone: anybody else could name anybody.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
};

use tokio::io::{AsyncRead, AsyncReadExt};

/// What a header begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Bytes of what comes after the fixed part: addresses, and what else a proxy may tell.
const MAX_REST: usize = 4096;
/// Version 2, for a connection of the proxy's own: a look whether somebody listens.
const LOCAL: u8 = 0x20;
/// Version 2, for somebody's connection.
const PROXY: u8 = 0x21;
/// TCP over IPv4: two addresses, two ports.
const TCP4: u8 = 0x11;
/// TCP over IPv6.
const TCP6: u8 = 0x21;

/// Reads the header. Whom the connection is from; none for the proxy's own.
///
/// # Errors
/// Anything else than such a header, and one that does not come whole.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<SocketAddr>> {
    let bad = |why: &'static str| io::Error::new(io::ErrorKind::InvalidData, why);
    let mut fixed = [0; 16];
    stream.read_exact(&mut fixed).await?;
    let [command, family, high, low] = [fixed[12], fixed[13], fixed[14], fixed[15]];
    if fixed[..12] != SIGNATURE {
        return Err(bad("no header of the PROXY protocol, version 2"));
    }
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > MAX_REST {
        return Err(bad("a header of the PROXY protocol that is too long"));
    }
    let mut rest = vec![0; length];
    stream.read_exact(&mut rest).await?;
    match (command, family) {
        (LOCAL, _) => Ok(None),
        (PROXY, TCP4) => {
            let ([address, _], port) = addresses::<4>(&rest).ok_or_else(|| bad("half an IPv4 address"))?;
            Ok(Some(SocketAddr::from((Ipv4Addr::from(address), port))))
        }
        (PROXY, TCP6) => {
            let ([address, _], port) = addresses::<16>(&rest).ok_or_else(|| bad("half an IPv6 address"))?;
            Ok(Some(SocketAddr::from((Ipv6Addr::from(address), port))))
        }
        (PROXY, _) => Err(bad("a connection that is forwarded from no TCP address")),
        _ => Err(bad("an unknown command of the PROXY protocol")),
    }
}

/// The source's and the destination's address, and the source's port.
fn addresses<const N: usize>(rest: &[u8]) -> Option<([[u8; N]; 2], u16)> {
    let (source, rest) = rest.split_first_chunk::<N>()?;
    let (destination, rest) = rest.split_first_chunk::<N>()?;
    let (port, rest) = rest.split_first_chunk::<2>()?;
    // The destination's port.
    rest.first_chunk::<2>()?;
    Some(([*source, *destination], u16::from_be_bytes(*port)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, rest].concat()
    }

    /// What was read, and how many bytes of the request after it are left.
    fn read_all(bytes: &[u8]) -> io::Result<(Option<SocketAddr>, usize)> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut left = bytes;
        let found = runtime.block_on(read(&mut left))?;
        Ok((found, left.len()))
    }

    #[test]
    fn it_says_whom_a_connection_is_from_and_leaves_the_request() {
        let four = [192, 0, 2, 7, 10, 0, 0, 1, 0x1f, 0x90, 0, 80];
        let six = [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[1], &[0; 16], &[0, 80, 0, 80]].concat();
        let more = [&four[..], b"more that a proxy tells"].concat();
        for (bytes, from) in [
            (header(PROXY, TCP4, &four), Some("192.0.2.7:8080")),
            (header(PROXY, TCP6, &six), Some("[2001:db8::1]:80")),
            (header(PROXY, TCP4, &more), Some("192.0.2.7:8080")),
            (header(LOCAL, 0, b""), None),
        ] {
            let (found, left) = read_all(&[&bytes[..], b"GET /"].concat()).unwrap();
            assert_eq!((found, left), (from.map(|f| f.parse().unwrap()), 5));
            assert!(read_all(&bytes[..bytes.len() - 1]).is_err(), "half of it");
        }
        for bytes in [
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2\r\n".to_vec(),
            header(PROXY, TCP4, &four[..11]),
            header(PROXY, 0, b""),
            header(0x11, TCP4, &four),
            header(PROXY, TCP4, &[0; MAX_REST + 1]),
        ] {
            assert!(read_all(&bytes).is_err());
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(mut bytes in proptest::collection::vec(any::<u8>(), 0..64), signed: bool) {
            if signed && bytes.len() > 12 {
                bytes[..12].copy_from_slice(&SIGNATURE);
            }
            let _ = read_all(&bytes);
        }
    }
}
