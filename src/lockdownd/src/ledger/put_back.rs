//! The open segment's file, replaced, moved, removed or cut by somebody while it is written (`sed -i`, logrotate, `rm`,
//! `: >`): what the daemon wrote is put back under its name, from the descriptor that is still open.

use std::{
    fs,
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use record::{ArtifactType, Draft, Record};

use super::{
    Error, Ledger, MAX_OWED, Need, aside,
    files::{self, Readers, at},
    segment::Segment,
};

/// What was found, and what came of it.
#[derive(Debug)]
pub(super) struct PutBack {
    found: &'static str,
    first: u64,
    /// How many of its records are there.
    records: u64,
    /// The last record's number when it was found.
    head: u64,
    kept_in: Option<PathBuf>,
}

impl PutBack {
    /// The statement of it, for a ledger that this key signs: the next one's, where this one is put away before that.
    pub(super) fn draft(&self, public_key: String) -> Draft {
        let (first, next, head) = (self.first, self.first + self.records, self.head);
        let lost = (head + 1).saturating_sub(next);
        let mut reason = format!("the ledger's file of record {first} and on {} while it was written: ", self.found);
        reason += &match lost {
            0 => format!("records {first} to {head} were put back"),
            1.. if self.records == 0 => format!("records {next} to {head} are lost"),
            1.. => format!("records {next} to {head} are lost, {first} to {} are there", next - 1),
        };
        let files: Vec<String> =
            self.kept_in.iter().map(|path| record::outside(path.as_os_str().as_encoded_bytes())).collect();
        let mut draft =
            Draft::new(ArtifactType::LedgerOpened, reason).with("public_key", public_key).with("break", "replaced");
        if lost > 0 {
            draft = draft.with("lost", lost);
        }
        if !files.is_empty() {
            draft = draft.with("kept_in", files);
        }
        draft
    }
}

impl Ledger {
    /// Puts the open segment right before anything is written, and owes the statement of it.
    pub(super) fn check_segment(&mut self, now: Timestamp, need: Need) -> Result<(), Error> {
        match self.segment.check() {
            Err(error) if need.may_spend() && error.is_full_disk() && self.reserve.spend() => self.segment.check()?,
            checked => checked?,
        }
        self.owe_put_back(now);
        Ok(())
    }

    /// What was put back is stated with what is written next.
    pub(super) fn owe_put_back(&mut self, now: Timestamp) {
        let found = self.segment.put_back.take().filter(|_| self.owed.put_back.len() < MAX_OWED);
        self.owed.put_back.extend(found.map(|found| (now, PutBack { head: self.head.seq, ..found })));
    }
}

impl Segment {
    /// Sees to it that the file at the segment's name is the one that is written, with `len` bytes. Where it is not, what
    /// was written is put there, and what stands there is kept beside it, unless it is the same or the start of it.
    pub(super) fn hold(&mut self, len: u64) -> Result<(), Error> {
        let Some(found) = self.off(len)? else { return Ok(()) };
        let mut bytes = Vec::new();
        let mut file = &self.file;
        let read = file.seek(SeekFrom::Start(0)).and_then(|_| file.take(len).read_to_end(&mut bytes));
        at("read", &self.path, read)?;
        let (end, records) = intact(&bytes, self.first);
        let whole = end as u64 == len;
        if !whole && len > self.len {
            // It shows before the next write what is left of what was there before.
            return at("write to", &self.path, Err(io::Error::other("somebody changed it meanwhile")));
        }
        bytes.truncate(end);
        let dir = self.path.parent().unwrap_or(Path::new("/"));
        files::make_dir(dir, 0o750, Readers::Shipper)?;
        let new = files::prepare(&self.path, &bytes, Readers::Shipper)?;
        let kept_in = keep_what_stands(&self.path, dir, &bytes)?;
        files::put_in_place(&self.path)?;
        self.file = new;
        self.put_back = Some(PutBack { found, first: self.first, records, head: 0, kept_in });
        if !whole {
            (self.len, self.cut) = (end as u64, true);
        }
        Ok(())
    }

    /// What is wrong with the file at its name.
    fn off(&self, len: u64) -> Result<Option<&'static str>, Error> {
        let there = match self.path.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Some("was moved or removed")),
            there => at("examine", &self.path, there)?,
        };
        let ours = at("examine", &self.path, self.file.metadata())?;
        if (ours.dev(), ours.ino()) != (there.dev(), there.ino()) {
            return Ok(Some("was replaced by another"));
        }
        Ok((ours.len() != len).then_some("was changed in its place"))
    }
}

/// Keeps what stands at `path` under another name, unless these bytes hold all of it.
fn keep_what_stands(path: &Path, dir: &Path, bytes: &[u8]) -> Result<Option<PathBuf>, Error> {
    match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        there => at("examine", path, there)?,
    };
    let mut stands = Vec::new();
    let read = files::open(path, false)
        .and_then(|file| at("read", path, file.take(bytes.len() as u64 + 1).read_to_end(&mut stands)));
    if read.is_ok() && bytes.starts_with(&stands) {
        return Ok(None);
    }
    let name = path.with_extension("replaced");
    let kept = aside::free(dir, &name.file_name().unwrap_or_default().to_string_lossy());
    // A second name first, so that at no moment nothing stands there; a directory can only be moved.
    at("keep aside", path, fs::hard_link(path, &kept).or_else(|_| fs::rename(path, &kept)))?;
    Ok(Some(kept))
}

/// Up to which byte, and how many records, these are one chain that begins with this record.
fn intact(bytes: &[u8], first: u64) -> (usize, u64) {
    let (mut end, mut count, mut before) = (0, 0, None);
    for line in bytes.split_inclusive(|byte| *byte == b'\n').take_while(|line| line.ends_with(b"\n")) {
        let Ok(record) = Record::parse(line) else { break };
        if record.seq() != first + count || before.is_some_and(|hash| hash != record.prev()) {
            break;
        }
        (end, count, before) = (end + line.len(), count + 1, Some(record.hash()));
    }
    (end, count)
}
