//! The bytes that the kernel hands out for events, taken apart. Pure, and safe against any bytes.

use std::{
    ffi::{OsStr, OsString},
    os::{fd::RawFd, unix::ffi::OsStrExt},
};

use crate::FileId;

/// The longest file handle in bytes (`MAX_HANDLE_SZ`, open_by_handle_at(2)).
pub const MAX_HANDLE: usize = 128;
/// `struct fanotify_event_metadata`: length, version, reserved, its own length, mask, descriptor, pid.
const METADATA: usize = 24;
/// `struct fanotify_event_info_header`: type, padding, length.
const INFO_HEADER: usize = 4;

/// One event as the kernel gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawEvent {
    /// What happened, as bits (`FAN_…`).
    pub mask: u64,
    /// The process that did it; 0 where the kernel does not tell.
    pub pid: i32,
    /// A pidfd of it, which whoever reads events owns from then on; nothing where it is gone.
    pub pidfd: Option<RawFd>,
    /// The directory in which it happened.
    pub directory: Option<FileId>,
    /// Under which name.
    pub name: Option<OsString>,
    /// The very file.
    pub file: Option<FileId>,
}

/// Bytes that are no events: a kernel with another version of the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// Takes apart what read(2) on a fanotify descriptor gave. Records of kinds that are not known are passed over.
///
/// The events before something malformed are given with it: the descriptors in them are the caller's to close.
#[must_use]
pub fn parse(mut bytes: &[u8]) -> (Vec<RawEvent>, Option<Malformed>) {
    let mut events = Vec::new();
    while !bytes.is_empty() {
        let Some((event, rest)) = one(bytes) else { return (events, Some(Malformed)) };
        events.push(event);
        bytes = rest;
    }
    (events, None)
}

fn one(bytes: &[u8]) -> Option<(RawEvent, &[u8])> {
    let length = usize::try_from(u32_at(bytes, 0)?).ok()?;
    let own = usize::from(u16_at(bytes, 6)?);
    let is_known = *bytes.get(4)? == libc::FANOTIFY_METADATA_VERSION;
    if !is_known || own < METADATA || length < own {
        return None;
    }
    let (event, rest) = bytes.split_at_checked(length)?;
    let mut found = RawEvent {
        mask: u64::from_ne_bytes(event.get(8..16)?.try_into().ok()?),
        pid: i32_at(event, 20)?,
        pidfd: None,
        directory: None,
        name: None,
        file: None,
    };
    let mut records = event.get(own..)?;
    while !records.is_empty() {
        let length = usize::from(u16_at(records, 2)?);
        if length < INFO_HEADER {
            return None;
        }
        let (record, after) = records.split_at_checked(length)?;
        take_record(&mut found, record[0], &record[INFO_HEADER..])?;
        records = after;
    }
    Some((found, rest))
}

fn take_record(event: &mut RawEvent, kind: u8, body: &[u8]) -> Option<()> {
    match kind {
        libc::FAN_EVENT_INFO_TYPE_PIDFD => event.pidfd = Some(i32_at(body, 0)?).filter(|fd| *fd >= 0),
        libc::FAN_EVENT_INFO_TYPE_FID => event.file = Some(file_id(body)?.0),
        libc::FAN_EVENT_INFO_TYPE_DFID_NAME => {
            let (directory, rest) = file_id(body)?;
            let end = rest.iter().position(|byte| *byte == 0)?;
            event.directory = Some(directory);
            event.name = Some(OsStr::from_bytes(&rest[..end]).to_owned());
        }
        _ => {}
    }
    Some(())
}

/// File system, then `struct file_handle`: length, type, bytes.
fn file_id(body: &[u8]) -> Option<(FileId, &[u8])> {
    let filesystem = body.get(..8)?.try_into().ok()?;
    let length = usize::try_from(u32_at(body, 8)?).ok().filter(|length| *length <= MAX_HANDLE)?;
    let (handle, rest) = body.get(16..)?.split_at_checked(length)?;
    Some((FileId::new(filesystem, i32_at(body, 12)?, handle), rest))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn i32_at(bytes: &[u8], at: usize) -> Option<i32> {
    Some(i32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(INFO_HEADER + body.len()).unwrap().to_ne_bytes();
        [&[kind, 0], &length[..], body].concat()
    }

    fn handle(bytes: &[u8]) -> Vec<u8> {
        let length = u32::try_from(bytes.len()).unwrap().to_ne_bytes();
        [b"fsfsfsfs", &length[..], &1_i32.to_ne_bytes(), bytes].concat()
    }

    fn event(pid: i32, records: &[Vec<u8>]) -> Vec<u8> {
        let records = records.concat();
        let length = u32::try_from(METADATA + records.len()).unwrap().to_ne_bytes();
        let own = u16::try_from(METADATA).unwrap().to_ne_bytes();
        let head = [&length[..], &[libc::FANOTIFY_METADATA_VERSION, 0], &own, &libc::FAN_CREATE.to_ne_bytes()].concat();
        [&head[..], &(-1_i32).to_ne_bytes(), &pid.to_ne_bytes(), &records].concat()
    }

    fn id(bytes: &[u8]) -> FileId {
        FileId::new(*b"fsfsfsfs", 1, bytes)
    }

    #[test]
    fn events_are_taken_apart_record_by_record() {
        let named = record(libc::FAN_EVENT_INFO_TYPE_DFID_NAME, &[handle(b"dir"), b"keys\0\0\0".to_vec()].concat());
        let file = record(libc::FAN_EVENT_INFO_TYPE_FID, &handle(b"file"));
        let pidfd = record(libc::FAN_EVENT_INFO_TYPE_PIDFD, &7_i32.to_ne_bytes());
        let gone = record(libc::FAN_EVENT_INFO_TYPE_PIDFD, &(-1_i32).to_ne_bytes());
        let unknown = record(99, b"?");
        let bytes = [event(42, &[named, unknown, file, pidfd]), event(43, &[gone])].concat();
        let (events, malformed) = parse(&bytes);
        let bare = RawEvent { mask: libc::FAN_CREATE, pid: 43, pidfd: None, directory: None, name: None, file: None };
        let whole = RawEvent {
            pid: 42,
            pidfd: Some(7),
            directory: Some(id(b"dir")),
            name: Some("keys".into()),
            file: Some(id(b"file")),
            ..bare.clone()
        };
        assert_eq!((events, malformed), (vec![whole, bare], None));
    }

    #[test]
    fn what_does_not_fit_is_refused_and_what_came_before_is_kept() {
        let good = event(1, &[]);
        let broken = |at: usize, byte: u8| {
            let mut bytes = event(2, &[record(libc::FAN_EVENT_INFO_TYPE_FID, &handle(b"file"))]);
            bytes[at] = byte;
            bytes
        };
        for (what, bytes) in [
            ("another version", broken(4, 9)),
            ("an event shorter than its head", broken(0, 8)),
            ("an event longer than what was read", broken(0, 255)),
            ("a head longer than the event", broken(6, 255)),
            ("a record of no length", broken(METADATA + 2, 0)),
            ("a record longer than the event", broken(METADATA + 2, 255)),
            ("a handle longer than the record", broken(METADATA + INFO_HEADER + 8, 100)),
            ("a handle longer than any", broken(METADATA + INFO_HEADER + 8, 255)),
            ("a name that does not end", event(2, &[record(libc::FAN_EVENT_INFO_TYPE_DFID_NAME, &handle(b"dir"))])),
            ("a cut head", good[..10].to_vec()),
        ] {
            let (events, malformed) = parse(&[good.clone(), bytes].concat());
            assert_eq!((events.len(), malformed), (1, Some(Malformed)), "{what}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic_or_are_read_past_their_end(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn a_changed_byte_changes_no_more_than_what_is_read(at in 0_usize..96, byte in any::<u8>()) {
            let named = record(libc::FAN_EVENT_INFO_TYPE_DFID_NAME, &[handle(b"dir"), b"keys\0".to_vec()].concat());
            let mut bytes = event(42, &[named, record(libc::FAN_EVENT_INFO_TYPE_FID, &handle(b"file"))]);
            let at = at % bytes.len();
            bytes[at] = byte;
            for found in parse(&bytes).0 {
                prop_assert!(found.name.is_none_or(|name| name.len() <= bytes.len()));
            }
        }
    }
}
