//! A record read where it lies: the same judgement as [`Record::parse`], in one pass and without copies, for whoever reads
//! a great many. What this takes, [`Record::parse`] takes, and the other way round: a property test compares the two.

use std::borrow::Cow;

use jiff::Timestamp;
use sha2::{Digest, Sha512};

use crate::{
    Host, LedgerId, Stack,
    escape::is_plain,
    line::{Hash, MAX_INTEGER, MAX_LINE, Malformed, Record, VERSION},
};

/// How deep arrays and objects may nest, the record itself included: serde_json's own bound.
const MAX_NESTING: usize = 127;

/// A record's fields as they lie in its line. Canonical; whether it is *authentic* is for the verifier to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InPlace<'a> {
    line: &'a str,
    seq: u64,
    ledger: &'a str,
    host: &'a str,
    stack: &'a str,
    time: Timestamp,
    prev: Hash,
    kind: &'a str,
    signature: &'a str,
    /// From the comma before `"signature"` to the end of its value: the signed message is all but this.
    unsigned: (usize, usize),
    hash: Hash,
    detail: Option<&'a str>,
    person: Option<&'a str>,
    account: Option<&'a str>,
    fingerprint: Option<&'a str>,
}

impl<'a> InPlace<'a> {
    /// Reads one line, given without its newline.
    ///
    /// # Errors
    /// What [`Record::parse`] says of it.
    pub fn parse(line: &'a [u8]) -> Result<Self, Malformed> {
        match Self::read(line) {
            Some(record) => Ok(record),
            // Only to say why. Were it ever to disagree, the stricter of the two counts.
            None => Err(Record::parse(line).err().unwrap_or(Malformed::NotCanonical)),
        }
    }

    fn read(line: &'a [u8]) -> Option<Self> {
        if line.len() >= MAX_LINE {
            return None;
        }
        let text = std::str::from_utf8(line).ok()?;
        let top = Top::read(text)?;
        let seq = top.seq.filter(|n| *n > 0)?;
        let (ledger, host, stack) = (top.ledger?, top.host?, top.stack?);
        ledger.parse::<LedgerId>().ok()?;
        host.parse::<Host>().ok()?;
        stack.parse::<Stack>().ok()?;
        if top.v != Some(VERSION) || !top.boot || !top.reason {
            return None;
        }
        let (signature, unsigned) = top.signature?;
        Some(Self {
            line: text,
            seq,
            ledger,
            host,
            stack,
            time: moment(top.time?)?,
            prev: top.prev?.parse().ok()?,
            kind: top.kind?,
            signature,
            unsigned,
            hash: Hash::of_unended(line),
            detail: top.detail,
            person: top.person,
            account: top.account,
            fingerprint: top.fingerprint,
        })
    }

    /// The line, without its newline.
    #[must_use]
    pub fn line(&self) -> &'a str {
        self.line
    }

    /// Its number.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// The ledger it is in: a valid [`LedgerId`].
    #[must_use]
    pub fn ledger(&self) -> &'a str {
        self.ledger
    }

    /// The host it is about: a valid [`Host`].
    #[must_use]
    pub fn host(&self) -> &'a str {
        self.host
    }

    /// The stack: a valid [`Stack`].
    #[must_use]
    pub fn stack(&self) -> &'a str {
        self.stack
    }

    /// When it was stated.
    #[must_use]
    pub fn time(&self) -> Timestamp {
        self.time
    }

    /// The hash of the line before it.
    #[must_use]
    pub fn prev(&self) -> Hash {
        self.prev
    }

    /// The hash of its own line.
    #[must_use]
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// Its type as written (escaped).
    #[must_use]
    pub fn type_word(&self) -> Cow<'a, str> {
        unquoted(self.kind)
    }

    /// `person` as written (escaped), where it is text.
    #[must_use]
    pub fn person(&self) -> Option<Cow<'a, str>> {
        self.person.map(unquoted)
    }

    /// `account`, likewise.
    #[must_use]
    pub fn account(&self) -> Option<Cow<'a, str>> {
        self.account.map(unquoted)
    }

    /// `fingerprint`, likewise.
    #[must_use]
    pub fn fingerprint(&self) -> Option<Cow<'a, str>> {
        self.fingerprint.map(unquoted)
    }

    /// `detail` as JSON, where there is one.
    #[must_use]
    pub fn detail(&self) -> Option<&'a str> {
        self.detail
    }

    /// The armored signature as its lines, each with `\n` as JSON writes a newline.
    #[must_use]
    pub fn armored(&self) -> &'a str {
        self.signature
    }

    /// SHA-512 of the signed message: the canonical object without `signature`.
    #[must_use]
    pub fn message_digest(&self) -> [u8; 64] {
        let (from, to) = self.unsigned;
        let mut digest = Sha512::new();
        digest.update(&self.line.as_bytes()[..from]);
        digest.update(&self.line.as_bytes()[to..]);
        digest.finalize().into()
    }

    /// The same record, copied apart: for the few that are looked at closely.
    #[must_use]
    pub fn to_record(&self) -> Record {
        Record::parse(self.line.as_bytes()).expect("it has been read once")
    }
}

/// The inside of a JSON string of a record as the text it stands for. Only `\"`, `\\` and, in a signature, `\n` occur.
fn unquoted(raw: &str) -> Cow<'_, str> {
    if !raw.contains('\\') {
        return Cow::Borrowed(raw);
    }
    let mut out = String::with_capacity(raw.len());
    let mut chars = raw.chars();
    while let Some(c) = chars.next() {
        out.push(if c == '\\' { chars.next().unwrap_or(c) } else { c });
    }
    Cow::Owned(out)
}

/// RFC 3339 in UTC with exactly six digits of a second, and nothing that would be written otherwise.
fn moment(text: &str) -> Option<Timestamp> {
    const SHAPE: &[u8; 27] = b"0000-00-00T00:00:00.000000Z";
    let bytes = text.as_bytes();
    let shaped = bytes.len() == SHAPE.len()
        && bytes.iter().zip(SHAPE).all(|(b, s)| if *s == b'0' { b.is_ascii_digit() } else { b == s });
    // A leap second reads as the second before, and is written so.
    if !shaped || &bytes[17..19] == b"60" { None } else { text.parse().ok() }
}

/// The fields at the top that have a meaning here.
#[derive(Default)]
struct Top<'a> {
    v: Option<u64>,
    seq: Option<u64>,
    ledger: Option<&'a str>,
    host: Option<&'a str>,
    stack: Option<&'a str>,
    time: Option<&'a str>,
    prev: Option<&'a str>,
    kind: Option<&'a str>,
    boot: bool,
    reason: bool,
    signature: Option<(&'a str, (usize, usize))>,
    detail: Option<&'a str>,
    person: Option<&'a str>,
    account: Option<&'a str>,
    fingerprint: Option<&'a str>,
}

impl<'a> Top<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let mut scan = Scan { text, at: 0 };
        let mut top = Self::default();
        scan.take(b'{')?;
        let mut last = "";
        if scan.peek()? != b'}' {
            loop {
                // From here on, comma included, stands one field.
                let from = scan.at.saturating_sub(usize::from(!last.is_empty()));
                let key = scan.key(last)?;
                top.field(key, from, &mut scan)?;
                last = key;
                if !scan.goes_on(b'}')? {
                    break;
                }
            }
        }
        (scan.at == text.len()).then_some(top)
    }

    fn field(&mut self, key: &'a str, from: usize, scan: &mut Scan<'a>) -> Option<()> {
        if key == "signature" {
            let value = scan.armored()?;
            // Never the first field: `boot` has to be there, and comes before.
            self.signature = Some((value, (from, scan.at)));
            return Some(());
        }
        let start = scan.at;
        let value = scan.value(1)?;
        let text = match value {
            Value::Text(text) => Some(text),
            _ => None,
        };
        match key {
            "v" => self.v = value.number(),
            "seq" => self.seq = value.number(),
            "ledger" => self.ledger = text,
            "host" => self.host = text,
            "stack" => self.stack = text,
            "time" => self.time = text,
            "prev" => self.prev = text,
            "type" => self.kind = text,
            "boot" => self.boot = text.is_some(),
            "reason" => self.reason = text.is_some(),
            "person" => self.person = text,
            "account" => self.account = text,
            "fingerprint" => self.fingerprint = text,
            "detail" => self.detail = Some(&scan.text[start..scan.at]),
            _ => {}
        }
        Some(())
    }
}

enum Value<'a> {
    /// The inside of a string, as JSON writes it.
    Text(&'a str),
    /// An integer from 0 up.
    Number(u64),
    Other,
}

impl Value<'_> {
    fn number(&self) -> Option<u64> {
        match self {
            Self::Number(n) => Some(*n),
            _ => None,
        }
    }
}

/// Reads canonical JSON of a record from left to right. `None` means: not as a record is written.
struct Scan<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scan<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    fn word(&mut self, word: &str) -> Option<Value<'a>> {
        self.text.as_bytes()[self.at..].starts_with(word.as_bytes()).then(|| {
            self.at += word.len();
            Value::Other
        })
    }

    /// After an element: a comma, so there is one more, or the end.
    fn goes_on(&mut self, end: u8) -> Option<bool> {
        let byte = self.peek()?;
        self.at += 1;
        match byte {
            b',' => Some(true),
            b if b == end => Some(false),
            _ => None,
        }
    }

    /// `"word":`, the word behind the last one in order.
    fn key(&mut self, last: &str) -> Option<&'a str> {
        self.take(b'"')?;
        let start = self.at;
        while self.peek().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_') {
            self.at += 1;
        }
        let key = &self.text[start..self.at];
        self.take(b'"')?;
        self.take(b':')?;
        // An empty one is none, and not behind any.
        (key > last).then_some(key)
    }

    fn value(&mut self, depth: usize) -> Option<Value<'a>> {
        match self.peek()? {
            b'"' => self.string().map(Value::Text),
            b'{' => self.object(depth + 1),
            b'[' => self.array(depth + 1),
            b't' => self.word("true"),
            b'f' => self.word("false"),
            _ => self.integer(),
        }
    }

    fn object(&mut self, depth: usize) -> Option<Value<'a>> {
        if depth > MAX_NESTING {
            return None;
        }
        self.take(b'{')?;
        if self.peek()? == b'}' {
            self.at += 1;
            return Some(Value::Other);
        }
        let mut last = "";
        loop {
            last = self.key(last)?;
            self.value(depth)?;
            if !self.goes_on(b'}')? {
                return Some(Value::Other);
            }
        }
    }

    fn array(&mut self, depth: usize) -> Option<Value<'a>> {
        if depth > MAX_NESTING {
            return None;
        }
        self.take(b'[')?;
        if self.peek()? == b']' {
            self.at += 1;
            return Some(Value::Other);
        }
        loop {
            self.value(depth)?;
            if !self.goes_on(b']')? {
                return Some(Value::Other);
            }
        }
    }

    /// An integer within ±(2^53−1), written as it has to be.
    fn integer(&mut self) -> Option<Value<'a>> {
        let negative = self.take(b'-').is_some();
        let start = self.at;
        while self.peek().is_some_and(|b| b.is_ascii_digit()) {
            self.at += 1;
        }
        let digits = &self.text[start..self.at];
        let zero_first = digits.starts_with('0') && (digits.len() > 1 || negative);
        let number: u64 = digits.parse().ok().filter(|n| *n <= MAX_INTEGER && !zero_first)?;
        Some(if negative { Value::Other } else { Value::Number(number) })
    }

    /// A string of escaped text: its inside.
    fn string(&mut self) -> Option<&'a str> {
        self.take(b'"')?;
        let start = self.at;
        loop {
            match self.peek()? {
                b'"' => {
                    self.at += 1;
                    return Some(&self.text[start..self.at - 1]);
                }
                b'\\' => self.escaped()?,
                0x20..=0x7E => self.at += 1,
                0x80.. => {
                    let c = self.text[self.at..].chars().next()?;
                    if !is_plain(c) {
                        return None;
                    }
                    self.at += c.len_utf8();
                }
                _ => return None,
            }
        }
    }

    /// `\"`, or a backslash of the text: doubled, before two hex digits, or before what was cut off at the end.
    fn escaped(&mut self) -> Option<()> {
        let rest = &self.text.as_bytes()[self.at..];
        if rest.starts_with(b"\\\"") {
            self.at += 2;
            return Some(());
        }
        let after = rest.strip_prefix(b"\\\\")?;
        let hex = |b: &u8| b"0123456789abcdef".contains(b);
        if after.starts_with(b"\\\\") {
            self.at += 4;
        } else if after.first() == Some(&b'x') && after.len() >= 3 && after[1..3].iter().all(hex) {
            self.at += 5;
        } else {
            let count = after.strip_prefix(b"cut:")?;
            let digits = count.iter().take_while(|b| b.is_ascii_digit()).count();
            if digits == 0 || count.get(digits) != Some(&b'"') {
                return None;
            }
            self.at += 6 + digits;
        }
        Some(())
    }

    /// The string at `signature`: any, in the one way that JSON writes it. Its inside.
    fn armored(&mut self) -> Option<&'a str> {
        self.take(b'"')?;
        let start = self.at;
        loop {
            match self.peek()? {
                b'"' => {
                    self.at += 1;
                    return Some(&self.text[start..self.at - 1]);
                }
                b'\\' => {
                    let next = *self.text.as_bytes().get(self.at + 1)?;
                    self.at += if b"\"\\nrtbf".contains(&next) { 2 } else { self.control()? };
                }
                0x20.. => self.at += 1,
                _ => return None,
            }
        }
    }

    /// `\u00NN` of a control character that has no shorter way: its length.
    fn control(&self) -> Option<usize> {
        let hex = self.text.as_bytes()[self.at..].strip_prefix(b"\\u00")?.get(..2)?;
        let code = u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()?;
        let lower = hex.iter().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(b));
        (lower && code < 0x20 && !matches!(code, 8 | 9 | 10 | 12 | 13)).then_some(6)
    }
}

#[cfg(test)]
mod tests;
