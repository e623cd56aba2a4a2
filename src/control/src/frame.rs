//! Framing on lockdownd's sockets: a length of four bytes, big-endian, then that many bytes of JSON.
//!
//! Nothing here allocates for a length before the length has been checked. Blocking readers and writers are for
//! clients; the daemon uses [`encode`], [`decode_length`] and [`decode`] around its own sockets.

use std::io::{self, Read, Write};

use serde::{Serialize, de::DeserializeOwned};

/// The bytes of a frame's length.
pub const HEADER: usize = 4;

/// The most bytes of JSON in one frame of `control.sock`, either way.
pub const MAX_FRAME: usize = 1024 * 1024;

/// Why a frame could not be made, read or understood.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The JSON would be longer than its limit, or the peer says that it is.
    #[error("a frame of {length} bytes is over the limit of {limit}")]
    TooLong {
        /// Bytes of JSON.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// An empty frame says nothing.
    #[error("an empty frame")]
    Empty,
    /// The JSON is not what was expected here.
    #[error("not understood: {0}")]
    Json(#[from] serde_json::Error),
    /// The socket failed, timed out or closed early.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The whole frame, header included, for `message`.
///
/// # Errors
/// [`FrameError::TooLong`] where the JSON is over `limit` bytes; [`FrameError::Json`] where it cannot be made.
pub fn encode<T: Serialize>(message: &T, limit: usize) -> Result<Vec<u8>, FrameError> {
    let mut bytes = vec![0; HEADER];
    serde_json::to_writer(&mut bytes, message)?;
    let length = bytes.len() - HEADER;
    match u32::try_from(length) {
        Ok(header) if length <= limit => {
            bytes[..HEADER].copy_from_slice(&header.to_be_bytes());
            Ok(bytes)
        }
        _ => Err(FrameError::TooLong { length, limit }),
    }
}

/// How many bytes of JSON follow this header.
///
/// # Errors
/// [`FrameError::TooLong`] over `limit`, [`FrameError::Empty`] for none.
pub fn decode_length(header: [u8; HEADER], limit: usize) -> Result<usize, FrameError> {
    let length = usize::try_from(u32::from_be_bytes(header)).unwrap_or(usize::MAX);
    match length {
        0 => Err(FrameError::Empty),
        _ if length > limit => Err(FrameError::TooLong { length, limit }),
        _ => Ok(length),
    }
}

/// The message in a frame's JSON.
///
/// # Errors
/// [`FrameError::Json`] where it is something else, or has something after it.
pub fn decode<T: DeserializeOwned>(json: &[u8]) -> Result<T, FrameError> {
    Ok(serde_json::from_slice(json)?)
}

/// Reads one frame, blocking, and the message in it.
///
/// # Errors
/// Any [`FrameError`]; a peer that closes early is [`io::ErrorKind::UnexpectedEof`].
pub fn read<T: DeserializeOwned>(from: &mut impl Read, limit: usize) -> Result<T, FrameError> {
    let mut header = [0; HEADER];
    from.read_exact(&mut header)?;
    let mut json = vec![0; decode_length(header, limit)?];
    from.read_exact(&mut json)?;
    decode(&json)
}

/// Writes one message as a frame, blocking.
///
/// # Errors
/// Any [`FrameError`].
pub fn write<T: Serialize>(to: &mut impl Write, message: &T, limit: usize) -> Result<(), FrameError> {
    to.write_all(&encode(message, limit)?)?;
    Ok(to.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_back() {
        let mut wire = Vec::new();
        write(&mut wire, &vec!["a", "b"], MAX_FRAME).unwrap();
        assert_eq!(wire[..HEADER], [0, 0, 0, 9]);
        assert_eq!(read::<Vec<String>>(&mut wire.as_slice(), MAX_FRAME).unwrap(), ["a", "b"]);
    }

    #[test]
    fn a_length_over_the_limit_is_refused_before_anything_is_allocated() {
        let error = read::<String>(&mut [0xff; 8].as_slice(), MAX_FRAME).unwrap_err();
        assert!(matches!(error, FrameError::TooLong { length: 0xffff_ffff, limit: MAX_FRAME }), "{error}");
        assert!(matches!(encode(&"x".repeat(99), 100), Err(FrameError::TooLong { length: 101, limit: 100 })));
        assert!(encode(&"x".repeat(98), 100).is_ok());
    }

    #[test]
    fn empty_short_and_trailing_frames_are_refused() {
        assert!(matches!(read::<String>(&mut [0; 4].as_slice(), 10), Err(FrameError::Empty)));
        assert!(matches!(read::<String>(&mut [0, 0, 0, 9, b'"'].as_slice(), 10), Err(FrameError::Io(_))));
        assert!(matches!(decode::<bool>(b"true false"), Err(FrameError::Json(_))));
    }
}
