//! The one file that is being written: what is in it is on disk, or is taken back.

use std::{fs::File, io, os::unix::fs::FileExt, path::PathBuf};

use super::{
    Error,
    files::{self, Paths, Readers, at},
};

/// The open segment. `len` is how far it is known to be on disk; beyond it there is never a whole record, unless taking
/// back failed: then nothing more is written until it has succeeded.
#[derive(Debug)]
pub(super) struct Segment {
    file: File,
    path: PathBuf,
    len: u64,
    /// Day of its first record, counted from 1970.
    pub(super) day: i64,
    torn: bool,
}

impl Segment {
    /// A new segment with its first lines, on disk; or none: what was begun is removed again, now or at the next try.
    /// What stands under its name can only be such a try: no record of this number has been acknowledged.
    pub(super) fn begin(paths: &Paths, first: u64, day: i64, lines: &[u8]) -> Result<Self, Error> {
        let path = paths.segment(first);
        files::remove_if_there(&path)?;
        let file = files::create(&path, Readers::Shipper)?;
        let mut new = Self { file, path, len: 0, day, torn: false };
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
        let file = files::open(&path, true)?;
        Ok(Self { file, path, len, day, torn: false })
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Writes whole lines after the last, with one write and one fdatasync(2). On an error none of them is in the file,
    /// as far as anybody will ever see: they are cut off again, now or before the next write.
    pub(super) fn append(&mut self, lines: &[u8]) -> Result<(), Error> {
        self.take_back_if_torn()?;
        self.torn = true;
        let written = self.file.write_all_at(lines, self.len).and_then(|()| self.file.sync_data());
        if let Err(source) = written {
            // The first error is the one to tell; whether this succeeds shows before the next write.
            let _ = self.take_back_if_torn();
            return Err(Error::Io { doing: "write to", path: self.path.clone(), source });
        }
        self.torn = false;
        self.len += lines.len() as u64;
        Ok(())
    }

    fn take_back_if_torn(&mut self) -> Result<(), Error> {
        if self.torn {
            let cut: io::Result<()> = self.file.set_len(self.len).and_then(|()| self.file.sync_all());
            at("take a failed write back from", &self.path, cut)?;
            self.torn = false;
        }
        Ok(())
    }
}
