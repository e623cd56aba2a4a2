//! The one file that is being written: what is in it is on disk under its name, or is taken back.

use std::{
    fs::File,
    io::{self, Write},
    path::PathBuf,
};

use super::{
    Error,
    files::{self, Paths, Readers, at},
    put_back::PutBack,
};

/// The open segment. `len` is how far it is known to be on disk; beyond it there is never a whole record, unless taking
/// back failed: then nothing more is written until it has succeeded.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) file: File,
    pub(super) path: PathBuf,
    /// The number of its first record.
    pub(super) first: u64,
    pub(super) len: u64,
    /// Day of its first record, counted from 1970.
    pub(super) day: i64,
    torn: bool,
    /// Somebody cut records off it: no more is added, so that within a segment no number is missing.
    pub(super) cut: bool,
    /// That it was put back, until that is stated.
    pub(super) put_back: Option<PutBack>,
}

impl Segment {
    /// A new segment with its first lines, on disk; or none: what was begun is removed again, now or at the next try.
    /// What stands under its name can only be such a try: no record of this number has been acknowledged.
    pub(super) fn begin(paths: &Paths, first: u64, day: i64, lines: &[u8]) -> Result<Self, Error> {
        let path = paths.segment(first);
        files::remove_if_there(&path)?;
        let file = files::create(&path, Readers::Shipper)?;
        let mut new = Self::of(file, path, first, day, 0);
        if let Err(e) = new.append(lines) {
            at("remove", &new.path, std::fs::remove_file(&new.path))?;
            files::sync_parent(&new.path)?;
            return Err(e);
        }
        Ok(new)
    }

    /// A segment that is there already, verified up to `len`.
    pub(super) fn resume(paths: &Paths, first: u64, day: i64, len: u64) -> Result<Self, Error> {
        let path = paths.segment(first);
        Ok(Self::of(files::open(&path, true)?, path, first, day, len))
    }

    fn of(file: File, path: PathBuf, first: u64, day: i64, len: u64) -> Self {
        Self { file, path, first, len, day, torn: false, cut: false, put_back: None }
    }

    /// Before anything is written: what a failed write left is taken back, and what somebody did to the file put right.
    pub(super) fn check(&mut self) -> Result<(), Error> {
        self.take_back_if_torn()?;
        self.hold(self.len)
    }

    /// Writes whole lines after the last, with one write and one fdatasync(2). On an error none of them is in the file,
    /// as far as anybody will ever see: they are cut off again, now or before the next write.
    pub(super) fn append(&mut self, lines: &[u8]) -> Result<(), Error> {
        self.take_back_if_torn()?;
        self.torn = true;
        let len = self.len + lines.len() as u64;
        let written = self.file.write_all(lines).and_then(|()| self.file.sync_data());
        if let Err(error) = at("write to", &self.path, written).and_then(|()| self.hold(len)) {
            // The first error is the one to tell; whether this succeeds shows before the next write.
            let _ = self.take_back_if_torn();
            return Err(error);
        }
        (self.torn, self.len) = (false, len);
        Ok(())
    }

    fn take_back_if_torn(&mut self) -> Result<(), Error> {
        if self.torn {
            let cut: io::Result<()> = self.file.metadata().and_then(|there| {
                // What somebody else cut shorter must not be filled up with zeros.
                self.file.set_len(self.len.min(there.len())).and_then(|()| self.file.sync_all())
            });
            at("take a failed write back from", &self.path, cut)?;
            self.torn = false;
        }
        Ok(())
    }
}
