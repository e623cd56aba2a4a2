//! The Journal Export Format (systemd.io/JOURNAL_EXPORT_FORMATS) as it comes in pieces → entries. Pure.
//!
//! What is too long is passed over as it comes and never held: a field anybody can set is bounded here.

use jiff::Timestamp;

/// The longest field that is kept, name included; sshd's lines have at most 1 KiB. Of a longer one nothing is.
pub const MAX_FIELD: usize = 8 * 1024;
/// Bytes before the value of a binary field: its length (little endian).
const LENGTH: usize = 8;

/// One entry of the journal, as far as it is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Entry {
    /// Where it stands in the journal.
    pub cursor: String,
    /// When journald took it.
    pub time: Timestamp,
    /// When it was said, where journald knows: one that stood still writes it down later.
    pub sent: Option<Timestamp>,
    /// The boot's id, as records write it.
    pub boot: String,
    /// The uid of the process that wrote it, by the kernel.
    pub uid: Option<u32>,
    /// Its pid, by the kernel.
    pub pid: Option<i32>,
    /// Its program, where journald could see it.
    pub exe: Option<String>,
    /// The name that it gave itself.
    pub identifier: String,
    /// By which way it came to journald.
    pub transport: String,
    /// What kind of message, where it has an id.
    pub message_id: String,
    /// How many messages journald has dropped, where it says so.
    pub dropped: Option<u64>,
    /// What it says.
    pub message: String,
}

impl Entry {
    /// When it was said, as far as journald knows.
    #[must_use]
    pub fn said_at(&self) -> Timestamp {
        self.sent.unwrap_or(self.time)
    }
}

/// Bytes in, entries out.
#[derive(Debug, Default)]
pub struct Decoder {
    bytes: Vec<u8>,
    at: usize,
    entry: Entry,
    has_fields: bool,
    /// So many bytes of a value that is too long are still to come.
    pass_over: u64,
    /// The rest of a line that is too long is still to come.
    pass_line: bool,
}

impl Decoder {
    /// Takes what came.
    pub fn push(&mut self, more: &[u8]) {
        self.bytes.drain(..self.at);
        self.at = 0;
        self.bytes.extend_from_slice(more);
    }

    /// Whether bytes are left that have not been looked at.
    #[must_use]
    pub fn has_bytes(&self) -> bool {
        self.at < self.bytes.len()
    }

    /// The next whole entry; `None` when more has to come first.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Option<Entry> {
        loop {
            if !self.passed() {
                return None;
            }
            let rest = &self.bytes[self.at..];
            let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
                if rest.len() > MAX_FIELD {
                    self.at = self.bytes.len();
                    self.pass_line = true;
                }
                return None;
            };
            let line = &rest[..end];
            if line.is_empty() {
                self.at += 1;
                if std::mem::take(&mut self.has_fields) {
                    return Some(std::mem::take(&mut self.entry));
                }
                continue;
            }
            if let Some(equals) = line.iter().position(|byte| *byte == b'=') {
                let (name, value) = (&line[..equals], &line[equals + 1..]);
                set(&mut self.entry, name, value);
                self.has_fields = true;
                self.at += end + 1;
                continue;
            }
            // A binary field: its name alone, its length, its value, a newline.
            let after = &rest[end + 1..];
            let length = after.get(..LENGTH)?;
            let length = u64::from_le_bytes(length.try_into().expect("eight bytes"));
            self.has_fields = true;
            if length > MAX_FIELD as u64 {
                self.at += end + 1 + LENGTH;
                self.pass_over = length.saturating_add(1);
                continue;
            }
            let length = usize::try_from(length).expect("bounded above");
            let value = after.get(LENGTH..LENGTH + length + 1)?;
            set(&mut self.entry, line, &value[..length]);
            self.at += end + 1 + LENGTH + length + 1;
        }
    }

    /// Passes over what is too long, as far as it has come; whether that is all of it.
    fn passed(&mut self) -> bool {
        let rest = &self.bytes[self.at..];
        if self.pass_line {
            let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
                self.at = self.bytes.len();
                return false;
            };
            (self.at, self.pass_line, self.has_fields) = (self.at + end + 1, false, true);
            return true;
        }
        let here = rest.len().min(usize::try_from(self.pass_over).unwrap_or(usize::MAX));
        self.at += here;
        self.pass_over -= here as u64;
        self.pass_over == 0
    }
}

/// Only what stands once counts: of a field that an entry has twice, the first, which is the kernel's.
fn set(entry: &mut Entry, name: &[u8], value: &[u8]) {
    let text = || String::from_utf8_lossy(value).into_owned();
    match name {
        b"__CURSOR" => entry.cursor = text(),
        b"__REALTIME_TIMESTAMP" => {
            entry.time = moment(&text()).unwrap_or_default();
        }
        b"_SOURCE_REALTIME_TIMESTAMP" => entry.sent = entry.sent.or_else(|| moment(&text())),
        b"_BOOT_ID" => entry.boot = uuid(&text()),
        b"_UID" => entry.uid = entry.uid.or(text().parse().ok()),
        b"_PID" => entry.pid = entry.pid.or(text().parse().ok()),
        b"_EXE" if entry.exe.is_none() => entry.exe = Some(text()),
        b"_TRANSPORT" if entry.transport.is_empty() => entry.transport = text(),
        b"SYSLOG_IDENTIFIER" if entry.identifier.is_empty() => entry.identifier = text(),
        b"MESSAGE_ID" if entry.message_id.is_empty() => entry.message_id = text(),
        b"N_DROPPED" => entry.dropped = text().parse().ok(),
        b"MESSAGE" if entry.message.is_empty() => entry.message = text(),
        _ => {}
    }
}

fn moment(text: &str) -> Option<Timestamp> {
    Timestamp::from_microsecond(text.parse().ok()?).ok()
}

/// A boot id with the hyphens that the kernel gives it.
fn uuid(plain: &str) -> String {
    if plain.len() != 32 || !plain.is_ascii() {
        return plain.to_owned();
    }
    [&plain[..8], &plain[8..12], &plain[12..16], &plain[16..20], &plain[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOOT: &str = "e060f5bfaa3e488e9ef03544e681d771";

    fn bytes() -> Vec<u8> {
        let mut bytes = format!(
            "__CURSOR=s=9;i=37\n__REALTIME_TIMESTAMP=1795458591930632\n_BOOT_ID={BOOT}\n_UID=0\n_PID=60\n\
             SYSLOG_IDENTIFIER=sshd\nMESSAGE=Server listening.\n_EXE=/usr/sbin/sshd\n_TRANSPORT=syslog\n\n"
        )
        .into_bytes();
        bytes.extend_from_slice(b"__CURSOR=c2\n_UID=0\nMESSAGE\n\x07\0\0\0\0\0\0\0two\nlin\n_PID=7\n\n");
        bytes
    }

    fn all(pieces: &[&[u8]]) -> Vec<Entry> {
        let mut decoder = Decoder::default();
        let mut entries = Vec::new();
        for piece in pieces {
            decoder.push(piece);
            entries.extend(std::iter::from_fn(|| decoder.next()));
            assert!(decoder.bytes.len() - decoder.at <= MAX_FIELD + 64 || decoder.at == 0, "held too much");
        }
        entries
    }

    #[test]
    fn what_journald_wrote_down_late_was_said_when_it_was_sent() {
        let entry = |more: &str| {
            let text = format!("__CURSOR=c\n__REALTIME_TIMESTAMP=1795458671000000\n{more}_UID=0\nMESSAGE=m\n\n");
            all(&[text.as_bytes()]).pop().expect("one entry").said_at().as_second()
        };
        assert_eq!(entry("_SOURCE_REALTIME_TIMESTAMP=1795458591000000\n"), 1_795_458_591);
        assert_eq!((entry(""), entry("_SOURCE_REALTIME_TIMESTAMP=no\n")), (1_795_458_671, 1_795_458_671));
    }

    #[test]
    fn entries_are_read_text_and_binary() {
        let entries = all(&[&bytes()]);
        assert_eq!(entries.len(), 2);
        let first = &entries[0];
        assert_eq!((first.uid, first.pid, first.identifier.as_str()), (Some(0), Some(60), "sshd"));
        assert_eq!(first.boot, "e060f5bf-aa3e-488e-9ef0-3544e681d771");
        assert_eq!(first.time.as_microsecond(), 1_795_458_591_930_632);
        assert_eq!((first.cursor.as_str(), first.exe.as_deref()), ("s=9;i=37", Some("/usr/sbin/sshd")));
        assert_eq!((entries[1].message.as_str(), entries[1].pid), ("two\nlin", Some(7)));
    }

    #[test]
    fn what_is_too_long_is_passed_over_and_never_held() {
        let long = vec![b'x'; 3 * MAX_FIELD];
        let mut text = b"__CURSOR=c\nMESSAGE=".to_vec();
        text.extend_from_slice(&long);
        text.extend_from_slice(b"\n_UID=0\n\n");
        let mut binary = b"__CURSOR=c\nMESSAGE\n".to_vec();
        binary.extend_from_slice(&(long.len() as u64).to_le_bytes());
        binary.extend_from_slice(&long);
        binary.extend_from_slice(b"\n_UID=0\n\n");
        for bytes in [text, binary] {
            let pieces: Vec<&[u8]> = bytes.chunks(1_000).collect();
            let entries = all(&pieces);
            assert_eq!(entries.len(), 1);
            assert_eq!((entries[0].message.as_str(), entries[0].uid), ("", Some(0)));
        }
    }

    proptest! {
        #[test]
        fn it_makes_no_difference_in_what_pieces_it_comes(size in 1usize..40) {
            let bytes = bytes();
            let pieces: Vec<&[u8]> = bytes.chunks(size).collect();
            prop_assert_eq!(all(&pieces), all(&[&bytes]));
        }

        #[test]
        fn no_bytes_make_it_panic_or_hold_much(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let pieces: Vec<&[u8]> = bytes.chunks(7).collect();
            all(&pieces);
        }
    }
}
