//! From a cursor onwards, record by record, across segments.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use record::{ArtifactType, Hash, LedgerId, MAX_LINE};
use serde::Deserialize;

use super::{Entry, ReadError, segment, segments};
use crate::files::{self, at};

/// How much is read at once, in bytes. Memory never holds more of the ledger than this, beside what is being sent.
const CHUNK: usize = 128 * 1024;

/// Where reading stands.
#[derive(Debug)]
pub(crate) struct Reader {
    dir: PathBuf,
    ledger: LedgerId,
    open: Open,
    /// The number of the record that comes next.
    next: u64,
    /// The hash of the one before, where it is known.
    prev: Option<Hash>,
    /// Whether the one before is the daemon's last word.
    at_stop: bool,
}

#[derive(Debug)]
struct Open {
    file: File,
    path: PathBuf,
    /// Where `buffer` begins in the file.
    offset: u64,
    buffer: Vec<u8>,
    used: usize,
    /// What was on disk for good when `buffer` was filled: bytes beyond it may have been written otherwise since.
    filled_to: u64,
}

/// What of a record shipping needs. Strings here hold no escapes, except perhaps in a type yet unknown.
#[derive(Deserialize)]
struct Fields<'a> {
    ledger: &'a str,
    seq: u64,
    prev: &'a str,
    host: &'a str,
    stack: &'a str,
    time: &'a str,
    #[serde(rename = "type", borrow)]
    kind: std::borrow::Cow<'a, str>,
}

impl Open {
    fn at_start(dir: &Path, first: u64) -> Result<Self, ReadError> {
        let path = segment(dir, first);
        let file = files::open(&path)?;
        Ok(Self { file, path, offset: 0, buffer: Vec::new(), used: 0, filled_to: 0 })
    }

    /// The next whole line without its newline, as a range of `buffer`; nothing at the end of the file.
    fn line(&mut self, upto: u64) -> Result<Option<std::ops::Range<usize>>, ReadError> {
        if let Some(end) = self.newline().filter(|_| self.filled_to >= upto) {
            return Ok(Some(self.take(end)));
        }
        self.fill(upto)?;
        Ok(self.newline().map(|end| self.take(end)))
    }

    fn newline(&self) -> Option<usize> {
        self.buffer[self.used..].iter().position(|b| *b == b'\n').map(|n| self.used + n)
    }

    fn take(&mut self, end: usize) -> std::ops::Range<usize> {
        let range = self.used..end;
        self.used = end + 1;
        range
    }

    fn fill(&mut self, upto: u64) -> Result<(), ReadError> {
        self.offset += self.used as u64;
        self.used = 0;
        self.buffer.resize(CHUNK, 0);
        let mut filled = 0;
        while filled < CHUNK {
            match self.file.read_at(&mut self.buffer[filled..], self.offset + filled as u64) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Ok(at("read", &self.path, Err(error))?),
            }
        }
        self.buffer.truncate(filled);
        self.filled_to = upto;
        Ok(())
    }
}

impl Reader {
    /// Begins after record `seq`, which has to be the one with this hash, where a hash is given. With 0, at the first.
    ///
    /// # Errors
    /// [`ReadError::Pruned`] where the next is gone, [`ReadError::RolledBack`] where `seq` is another record or is not
    /// there.
    pub(crate) fn after(dir: &Path, ledger: &LedgerId, seq: u64, hash: Option<Hash>) -> Result<Self, ReadError> {
        let all = segments(dir)?;
        let first = *all.first().ok_or_else(|| ReadError::Missing { dir: dir.to_owned(), seq: seq + 1 })?;
        if seq + 1 < first {
            return Err(ReadError::Pruned { first });
        }
        let from = all[all.partition_point(|start| *start <= seq.max(first)) - 1];
        let open = Open::at_start(dir, from)?;
        let mut reader =
            Self { dir: dir.to_owned(), ledger: ledger.clone(), open, next: from, prev: None, at_stop: false };
        if seq + 1 == first {
            // The record itself is gone, but the next names its hash.
            reader.prev = hash.filter(|_| seq > 0);
            return Ok(reader);
        }
        while reader.next <= seq {
            let there = match reader.next(seq) {
                Ok(Some(entry)) => entry,
                Ok(None) | Err(ReadError::Missing { .. } | ReadError::Pruned { .. }) => {
                    return Err(ReadError::RolledBack { seq });
                }
                Err(error) => return Err(error),
            };
            if there.seq == seq && hash.is_some_and(|hash| hash != there.hash) {
                return Err(ReadError::RolledBack { seq });
            }
        }
        Ok(reader)
    }

    /// Of which ledger.
    pub(crate) fn ledger(&self) -> &LedgerId {
        &self.ledger
    }

    /// Where its files are.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether the record before the next says that the daemon stopped.
    pub(crate) fn at_stop(&self) -> bool {
        self.at_stop
    }

    /// The next record that is not beyond `upto`. With `u64::MAX` everything that is there counts, until the files end.
    ///
    /// # Errors
    /// See [`ReadError`]; called again, it tries the same record again.
    pub(crate) fn next(&mut self, upto: u64) -> Result<Option<Entry>, ReadError> {
        if self.next > upto {
            return Ok(None);
        }
        let line = match self.open.line(upto)? {
            Some(line) => line,
            None if self.open.buffer.len() - self.open.used >= MAX_LINE => {
                return Err(self.illegible(format!("its line is longer than {MAX_LINE} bytes")));
            }
            None => match self.next_segment(upto)? {
                true => return self.next(upto),
                false => return Ok(None),
            },
        };
        let entry = self.entry(line.clone()).inspect_err(|_| self.open.used = line.start)?;
        (self.next, self.prev) = (entry.seq + 1, Some(entry.hash));
        self.at_stop = entry.kind == ArtifactType::DaemonStopped.as_str();
        Ok(Some(entry))
    }

    /// At the end of a file: goes on with the one that begins with the next record. Whether there is one.
    fn next_segment(&mut self, upto: u64) -> Result<bool, ReadError> {
        let all = segments(&self.dir)?;
        let here = segment(&self.dir, self.next) == self.open.path;
        if all.binary_search(&self.next).is_ok() && !here {
            self.open = Open::at_start(&self.dir, self.next)?;
            return Ok(true);
        }
        match all.first() {
            Some(&first) if first > self.next => Err(ReadError::Pruned { first }),
            _ if upto == u64::MAX => Ok(false),
            _ => Err(ReadError::Missing { dir: self.dir.clone(), seq: self.next }),
        }
    }

    fn entry(&self, line: std::ops::Range<usize>) -> Result<Entry, ReadError> {
        let with_newline = &self.open.buffer[line.start..=line.end];
        let bytes = &self.open.buffer[line];
        if with_newline.len() > MAX_LINE {
            return Err(self.illegible(format!("its line is longer than {MAX_LINE} bytes")));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| self.illegible("it is not UTF-8".to_owned()))?;
        let fields: Fields<'_> = serde_json::from_str(text).map_err(|error| self.illegible(error.to_string()))?;
        if fields.ledger != self.ledger.as_str() {
            return Err(ReadError::Replaced);
        }
        if fields.seq != self.next {
            return Err(self.illegible(format!("its number is {}", fields.seq)));
        }
        Ok(Entry {
            seq: fields.seq,
            hash: Hash::of(with_newline),
            chained: self.prev.is_none_or(|prev| fields.prev.parse() == Ok(prev)),
            kind: fields.kind.into_owned(),
            time: fields.time.to_owned(),
            host: fields.host.to_owned(),
            stack: fields.stack.to_owned(),
            line: text.to_owned(),
        })
    }

    fn illegible(&self, why: String) -> ReadError {
        ReadError::NotARecord { path: self.open.path.clone(), seq: self.next, why }
    }
}
