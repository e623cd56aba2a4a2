//! Which file stands at a path, and whether it has changed.

use std::{fs::Metadata, io, os::unix::fs::MetadataExt, path::Path, time::SystemTime};

/// What stat(2) says of a file that changes whenever the file is replaced or written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileState {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    links: u64,
    /// Where the file system keeps it. An inode's number may pass to another file.
    born: Option<SystemTime>,
}

impl FileState {
    /// What stands at a path in a place that only root writes.
    ///
    /// # Errors
    /// What stat(2) says.
    pub fn at(path: &Path) -> io::Result<Self> {
        std::fs::metadata(path).map(|meta| Self::from(&meta))
    }

    /// Whether the file came to its name whole, by a rename: its content has not been written since its inode changed last,
    /// which rename(2) does. Who writes a file in place changes both at once, and is not done yet, for all that can be seen.
    #[must_use]
    pub fn was_renamed(&self) -> bool {
        self.links == 1 && self.changed > self.modified
    }

    /// Whether this is the very file that stood there before, whatever was written to it since.
    #[must_use]
    pub fn is_file_of(&self, before: &Self) -> bool {
        (self.device, self.inode, self.born) == (before.device, before.inode, before.born)
    }
}

impl From<&Metadata> for FileState {
    fn from(meta: &Metadata) -> Self {
        Self {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
            links: meta.nlink(),
            born: meta.created().ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write, thread, time::Duration};

    use super::*;

    /// Longer than the kernel's clock for files takes to tick.
    fn tick() {
        thread::sleep(Duration::from_millis(20));
    }

    #[test]
    fn a_file_that_was_renamed_into_place_is_told_from_one_that_was_written_there() {
        let directory = tempfile::tempdir().expect("a directory");
        let [path, new] = ["passwd", "passwd+"].map(|name| directory.path().join(name));
        let was_renamed = || FileState::at(&path).expect("it is there").was_renamed();
        let replace = || {
            fs::write(&new, "root").expect("written");
            tick();
            fs::rename(&new, &path).expect("renamed");
        };
        fs::write(&path, "root").expect("written");
        assert!(!was_renamed(), "written in place");
        replace();
        assert!(was_renamed());
        tick();
        let mut file = fs::OpenOptions::new().write(true).truncate(true).open(&path).expect("opened");
        assert!(!was_renamed(), "emptied to be written in place");
        file.write_all(b"ro").expect("written");
        assert!(!was_renamed(), "half written");
        replace();
        fs::hard_link(&path, &new).expect("linked");
        assert!(!was_renamed(), "a second name: the inode may have changed by that");
    }

    #[test]
    fn a_file_stays_the_same_when_it_is_written_in_place_and_not_when_another_takes_its_name() {
        let directory = tempfile::tempdir().expect("a directory");
        let [path, new] = ["passwd", "passwd+"].map(|name| directory.path().join(name));
        let state = || FileState::at(&path).expect("it is there");
        fs::write(&path, "root").expect("written");
        let before = state();
        fs::write(&path, "ro").expect("written");
        assert!(state() != before && state().is_file_of(&before));
        fs::write(&new, "root").expect("written");
        fs::rename(&new, &path).expect("renamed");
        assert!(!state().is_file_of(&before));
    }
}
